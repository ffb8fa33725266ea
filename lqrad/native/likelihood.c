/* The equations stand in likelihood.h. */
#include "likelihood.h"
#include "small.h"

/* A variance that is a smaller part of the terms that were subtracted has lost digits. */
static const double most_lost = 1e-3;
/* Up to this part of its entries that are not zero, a matrix is read by these. */
static const double sparse_part = 0.3;

enum { MOST = 64 };

/* Z += X'Y, or Z -= X'Y with `less`, for X (inner, rows) and Y (inner, columns). */
INLINE void add_to(const int less, const int64_t rows, const int64_t columns, const int64_t inner,
                   const double *restrict X, const double *restrict Y, double *restrict Z)
{
    if (rows > 4 && less)
        subtract_product(rows, columns, inner, X, rows, Y, columns, Z, columns);
    else if (rows > 4)
        add_product(rows, columns, inner, X, rows, Y, columns, Z, columns);
    else
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < inner; k++)
                for (int64_t j = 0; j < columns; j++)
                    Z[i * columns + j] += (less ? -X[k * rows + i] : X[k * rows + i])
                                          * Y[k * columns + j];
}

/* The same on and below the diagonal of Z (n, n), and in the squares on it. */
INLINE void add_lower(const int less, const int64_t n, const int64_t inner,
                      const double *restrict X, const double *restrict Y, double *restrict Z)
{
    if (n > 4)
        for (int64_t i = 0; i < n; i += HIGH) {
            const int64_t high = n - i < HIGH ? n - i : HIGH;
            if (less)
                subtract_product(high, i + high, inner, X + i, n, Y, n, Z + i * n, n);
            else
                add_product(high, i + high, inner, X + i, n, Y, n, Z + i * n, n);
        }
    else
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j <= i; j++)
                for (int64_t k = 0; k < inner; k++)
                    Z[i * n + j] += (less ? -X[k * n + i] : X[k * n + i]) * Y[k * n + j];
}

/* What is above the diagonal is what is below. */
INLINE void mirror(const int64_t n, double *restrict Z)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            Z[j * n + i] = Z[i * n + j];
}

INLINE void turn(int64_t rows, int64_t columns, const double *restrict X, double *restrict Xt)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            Xt[j * rows + i] = X[i * columns + j];
}

/* A' and the sizes of its entries. */
INLINE void turn_with_sizes(int64_t n, const double *restrict A, double *restrict At,
                            double *restrict sizes)
{
    turn(n, n, A, At);
    for (int64_t i = 0; i < n * n; i++)
        sizes[i] = fabs(At[i]);
}

/* The columns of A's entries that are not zero, row by row; index[n n + i] counts those of row i. Whether
 * there are so few that they are worth it. */
INLINE int find_entries(int64_t n, const double *restrict A, int64_t *restrict index)
{
    int64_t all = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t count = 0;
        for (int64_t j = 0; j < n; j++)
            if (A[i * n + j] != 0.0)
                index[i * n + count++] = j;
        index[n * n + i] = count;
        all += count;
    }
    return (double)all <= sparse_part * (double)(n * n);
}

/* Z += A Y, or A'Y with transpose, for Y (n, columns), by the entries of A. */
INLINE void add_sparse(int64_t n, int64_t columns, const double *restrict A,
                       const int64_t *restrict index, int transpose, const double *restrict Y,
                       double *restrict Z)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < index[n * n + i]; k++) {
            const int64_t j = index[i * n + k];
            const double entry = A[i * n + j];
            const double *from = Y + (transpose ? i : j) * columns;
            double *to = Z + (transpose ? j : i) * columns;
            for (int64_t l = 0; l < columns; l++)
                to[l] += entry * from[l];
        }
}

/* What a time has observed: how many entries, which, and their rows of C. */
INLINE int64_t rows_seen(const int64_t n, const int64_t ny, const double *y,
                         const double *C, double *gathered, int64_t *which,
                         const double **rows)
{
    int64_t m = 0;
    for (int64_t i = 0; i < ny; i++)
        if (y[i] == y[i])
            which[m++] = i;
    *rows = C;
    if (m < ny) {
        for (int64_t i = 0; i < m; i++)
            memcpy(gathered + i * n, C + which[i] * n, sizeof(double) * (size_t)n);
        *rows = gathered;
    }
    return m;
}

/* X <- L^-1 X, or L'^-1 X with transpose, for X (m, columns) and L (m, m), stored in rows of `row`. */
INLINE void substitute(int64_t m, int64_t row, int64_t columns, const double *restrict L,
                       int transpose, double *restrict X)
{
    for (int64_t a = 0; a < m; a++) {
        const int64_t i = transpose ? m - 1 - a : a;
        for (int64_t c = 0; c < a; c++) {
            const int64_t j = transpose ? m - 1 - c : c;
            const double factor = transpose ? L[j * row + i] : L[i * row + j];
            for (int64_t l = 0; l < columns; l++)
                X[i * columns + l] -= factor * X[j * columns + l];
        }
        const double pivot = L[i * row + i];
        for (int64_t l = 0; l < columns; l++)
            X[i * columns + l] /= pivot;
    }
}

/* Adds the row [g, e] to R by Givens' rotations. */
INLINE void rotate(int64_t k, const double *restrict g, double e, double *restrict R,
                   double *restrict row)
{
    const int64_t wide = k + 1;
    memcpy(row, g, sizeof(double) * (size_t)k);
    row[k] = e;
    for (int64_t j = 0; j < k; j++) {
        if (row[j] == 0.0)
            continue;
        const double old = R[j * wide + j], size = sqrt(old * old + row[j] * row[j]),
                     cosine = old / size, sine = row[j] / size;
        for (int64_t i = j; i < wide; i++) {
            const double upper = R[j * wide + i], lower = row[i];
            R[j * wide + i] = cosine * upper + sine * lower;
            row[i] = cosine * lower - sine * upper;
        }
    }
    R[k * wide + k] += row[k] * row[k];
}

INLINE int64_t forward(const series_model *z, const int64_t n, const int64_t ny, int64_t first,
                       int64_t last, const double *y, double *restrict x, double *restrict M,
                       double *restrict P, double *restrict R, double *log_determinant,
                       const series_trace *trace, double *work, int64_t *index)
{
    const int64_t k = z->k;
    double *restrict At = work, *restrict sizes = At + n * n, *restrict U = sizes + n * n,
                     *restrict turned = U + n * n,
                     *restrict H = turned + n * n, *gathered = H + n * ny,
                     *restrict F = gathered + n * ny,
                     *restrict next = F + ny * ny, *restrict row = next + n * (k + 1),
                     *restrict size = row + k + 1, *restrict before = size + n,
                     *restrict ehere = before + n, *restrict ghere = ehere + ny;
    int64_t which[MOST];
    const double *C, *A = z->A;
    const int sparse = n > 4 && !z->A_step && find_entries(n, A, index);
    double mantissa = 1.0;
    int64_t exponent = 0;
    if (!z->A_step)
        turn_with_sizes(n, A, At, sizes);
    for (int64_t t = first; t < last; t++) {
        const double *yt = y + t * ny, *V = z->V + t * z->V_step;
        const int64_t m = rows_seen(n, ny, yt, z->C + t * z->C_step, gathered, which, &C);
        double *restrict S = trace ? trace->S + t * ny * n : H,
                         *restrict L = trace ? trace->L + t * ny * ny : F,
                         *restrict e = trace ? trace->e + t * ny : ehere,
                         *restrict g = trace ? trace->g + t * ny * k : ghere;
        for (int64_t j = 0; j < n; j++)
            size[j] = sqrt(P[j * n + j]);
        /* S = C P, L = C P C' + V, e = y - C x, g = -C M; then all are divided by L's factor. */
        for (int64_t i = 0; i < m; i++) {
            const double *Ci = C + i * n;
            double *restrict Si = S + i * n, *restrict gi = g + i * k;
            memset(Si, 0, sizeof(double) * (size_t)n);
            memset(gi, 0, sizeof(double) * (size_t)k);
            for (int64_t j = 0; j < n; j++) {
                if (Ci[j] == 0.0)
                    continue;
                for (int64_t l = 0; l < n; l++)
                    Si[l] += Ci[j] * P[j * n + l];
                for (int64_t l = 0; l < k; l++)
                    gi[l] -= Ci[j] * M[j * k + l];
            }
            double mean = 0.0, terms = 0.0;
            for (int64_t j = 0; j < n; j++) {
                mean += Ci[j] * x[j];
                terms += fabs(Ci[j]) * size[j];
            }
            e[i] = yt[which[i]] - mean;
            for (int64_t j = 0; j <= i; j++)
                L[i * ny + j] = V[which[i] * ny + which[j]];
            add_rows(i + 1, n, C, Si, L + i * ny);
            const double all = terms * terms + fabs(V[which[i] * ny + which[i]]);
            for (int64_t j = 0; j < i; j++) {
                double sum = L[i * ny + j];
                for (int64_t l = 0; l < j; l++)
                    sum -= L[i * ny + l] * L[j * ny + l];
                L[i * ny + j] = sum / L[j * ny + j];
            }
            double pivot = L[i * ny + i];
            for (int64_t l = 0; l < i; l++)
                pivot -= L[i * ny + l] * L[i * ny + l];
            if (!(pivot > most_lost * all))
                return t + 1;
            L[i * ny + i] = pivot = sqrt(pivot);
            mantissa *= pivot;
            if (!(mantissa > 0x1p-400 && mantissa < 0x1p400)) {
                int binary;
                mantissa = frexp(mantissa, &binary);
                exponent += binary;
            }
        }
        substitute(m, ny, n, L, 0, S);
        substitute(m, ny, 1, L, 0, e);
        substitute(m, ny, k, L, 0, g);
        for (int64_t i = 0; i < m; i++)
            rotate(k, g + i * k, e[i], R, row);
        /* The update. */
        add_times(m, n, S, e, x);
        if (k)
            add_to(0, n, k, m, S, g, M);
        add_to(1, n, n, m, S, S, P);
        if (trace && trace->P) {
            memcpy(trace->x + t * n, x, sizeof(double) * (size_t)n);
            memcpy(trace->M + t * n * k, M, sizeof(double) * (size_t)(n * k));
            memcpy(trace->P + t * n * n, P, sizeof(double) * (size_t)(n * n));
        }
        if (t == z->T)
            break;
        /* The prediction. */
        A = z->A + t * z->A_step;
        copy_or_zero(n, z->c + t * z->c_step, next);
        add_rows(n, n, A, x, next);
        memcpy(x, next, sizeof(double) * (size_t)n);
        if (z->A_step)
            turn_with_sizes(n, A, At, sizes);
        if (k) {
            memset(next, 0, sizeof(double) * (size_t)(n * k));
            if (sparse)
                add_sparse(n, k, A, index, 0, M, next);
            else
                add_to(0, n, k, n, At, M, next);
            memcpy(M, next, sizeof(double) * (size_t)(n * k));
        }
        memset(U, 0, sizeof(double) * (size_t)(n * n));
        if (sparse) {
            add_sparse(n, n, A, index, 0, P, U);
            turn(n, n, U, turned);
            memcpy(P, z->W + t * z->W_step, sizeof(double) * (size_t)(n * n));
            add_sparse(n, n, A, index, 0, turned, P);
        } else {
            add_to(0, n, n, n, P, At, U);
            memcpy(P, z->W + t * z->W_step, sizeof(double) * (size_t)(n * n));
            add_lower(0, n, n, U, At, P);
        }
        mirror(n, P);
        /* The rounding of the update is that of its terms, as A carries it on. */
        memset(before, 0, sizeof(double) * (size_t)n);
        add_times(n, n, sizes, size, before);
        for (int64_t j = 0; j < n; j++)
            if (!(P[j * n + j] >= most_lost * before[j] * before[j]))
                return t + 1;
    }
    *log_determinant += 2.0 * (log(mantissa) + (double)exponent * 0.6931471805599453);
    const double square = R[k * (k + 1) + k];
    return isfinite(square) && isfinite(*log_determinant) ? 0 : last;
}

LANES int64_t loglik_forward(const series_model *model, int64_t first, int64_t last,
                             const double *y, double *x, double *M, double *P, double *R,
                             double *log_determinant, const series_trace *trace, double *work,
                             int64_t *index)
{
#define CALL(n, ny)                                                                                \
    forward(model, n, ny, first, last, y, x, M, P, R, log_determinant, trace, work, index)
    if (model->n == 1 && model->ny == 1)
        return CALL(1, 1);
    return CALL(model->n, model->ny);
#undef CALL
}

/* X += 1/2 (p p' - N + B B'), for B (n, k). */
INLINE void add_squares(int64_t n, int64_t k, const double *restrict p, const double *restrict N,
                        const double *restrict B, double *restrict X)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            X[i * n + j] += 0.5 * (p[i] * p[j] - N[i * n + j]);
    if (k)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                X[i * n + j] += 0.5 * dot(k, B + i * k, B + j * k);
}

/* X (rows, n) += Y Z' for Y (rows, k) and Z (n, k). */
INLINE void add_outer(int64_t rows, int64_t n, int64_t k, const double *restrict Y,
                      const double *restrict Z, double *restrict X)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++)
            X[i * n + j] += dot(k, Y + i * k, Z + j * k);
}

/* Asks for doubles that are needed soon: a trace is larger than the caches that are near. */
INLINE void fetch(const double *z, int64_t count)
{
#if defined(__GNUC__)
    for (int64_t i = 0; i < count; i += 8)
        __builtin_prefetch(z + i);
#else
    (void)z, (void)count;
#endif
}

/* Each row of X (rows, k) divided by the triangle R. */
INLINE void divide_rows(int64_t rows, int64_t k, const double *restrict R, double *restrict X)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < k; j++) {
            double sum = X[i * k + j];
            for (int64_t l = 0; l < j; l++)
                sum -= R[l * (k + 1) + j] * X[i * k + l];
            X[i * k + j] = sum / R[j * (k + 1) + j];
        }
}

INLINE int64_t backward(const series_model *z, const int64_t n, const int64_t ny, int64_t first,
                        int64_t last, const double *y, const double *R, const double *b,
                        const series_trace *trace, double *restrict p, double *restrict pb,
                        double *restrict N, const series_score *score, double *work,
                        int64_t *index)
{
    const int64_t k = z->k;
    double *restrict NA = work, *restrict turned = NA + n * n, *restrict Q = turned + n * n,
                     *restrict Y = Q + n * n, *gathered = Y + n * ny,
                     *restrict G = gathered + n * ny,
                     *restrict q = G + ny * ny, *restrict qb = q + n, *restrict u = qb + n * k,
                     *restrict ub = u + ny, *restrict x = ub + ny * k, *restrict xb = x + n,
                     *restrict other = xb + n * k;
    int64_t which[MOST];
    const double *C, *A = z->A;
    const int sparse = n > 4 && !z->A_step && find_entries(n, A, index);
    const int states = score->A || score->C;
    for (int64_t t = last - 1; t >= first; t--) {
        if (t > first) {
            fetch(trace->S + (t - 1) * ny * n, ny * n);
            fetch(trace->L + (t - 1) * ny * ny, ny * ny);
            if (states)
                fetch(trace->P + (t - 1) * n * n, n * n);
        }
        memset(q, 0, sizeof(double) * (size_t)n);
        memset(qb, 0, sizeof(double) * (size_t)(n * k));
        memset(Q, 0, sizeof(double) * (size_t)(n * n));
        if (t < z->T) {
            A = z->A + t * z->A_step;
            if (score->W)
                add_squares(n, k, p, N, pb, score->W + t * score->W_step);
            if (score->c)
                for (int64_t i = 0; i < n; i++)
                    score->c[t * score->c_step + i] += p[i];
            add_times(n, n, A, p, q);
            memset(NA, 0, sizeof(double) * (size_t)(n * n));
            if (sparse) {
                memset(turned, 0, sizeof(double) * (size_t)(n * n));
                add_sparse(n, n, A, index, 1, N, turned);
                turn(n, n, turned, NA);
                add_sparse(n, n, A, index, 1, NA, Q);
            } else {
                add_to(0, n, n, n, N, A, NA);
                add_lower(0, n, n, A, NA, Q);
            }
            mirror(n, Q);
            if (k && sparse)
                add_sparse(n, k, A, index, 1, pb, qb);
            else if (k)
                add_to(0, n, k, n, A, pb, qb);
        }
        if (states) { /* smoothed, and how it answers to b */
            const double *filtered = trace->P + t * n * n;
            memcpy(x, trace->x + t * n, sizeof(double) * (size_t)n);
            memcpy(xb, trace->M + t * n * k, sizeof(double) * (size_t)(n * k));
            add_rows(n, k, xb, b, x);
            divide_rows(n, k, R, xb);
            add_times(n, n, filtered, q, x);
            if (k)
                add_to(0, n, k, n, filtered, qb, xb);
            if (score->A && t < z->T) {
                double *restrict to = score->A + t * score->A_step;
                for (int64_t i = 0; i < n; i++)
                    for (int64_t j = 0; j < n; j++)
                        to[i * n + j] += p[i] * x[j];
                if (k)
                    add_outer(n, n, k, pb, xb, to);
                turn(n, n, NA, turned);
                add_to(1, n, n, n, turned, filtered, to);
            }
        }
        const int64_t m
            = rows_seen(n, ny, y + t * ny, z->C + t * z->C_step, gathered, which, &C);
        const double *S = trace->S + t * ny * n, *L = trace->L + t * ny * ny;
        /* Y = S Q, G = I + Y S', u = e - S q; then divided by L'. */
        memcpy(u, trace->e + t * ny, sizeof(double) * (size_t)m);
        memcpy(ub, trace->g + t * ny * k, sizeof(double) * (size_t)(m * k));
        add_rows(m, k, ub, b, u);
        divide_rows(m, k, R, ub);
        memset(Y, 0, sizeof(double) * (size_t)(m * n));
        for (int64_t i = 0; i < m; i++) {
            const double *Si = S + i * n;
            add_times(n, n, Q, Si, Y + i * n);
            double sum = 0.0;
            for (int64_t j = 0; j < n; j++)
                sum += Si[j] * q[j];
            u[i] -= sum;
            for (int64_t j = 0; j < n; j++)
                for (int64_t l = 0; l < k; l++)
                    ub[i * k + l] -= Si[j] * qb[j * k + l];
            for (int64_t j = 0; j < m; j++)
                G[i * m + j] = i == j;
            add_rows(i + 1, n, S, Y + i * n, G + i * m);
            for (int64_t j = 0; j < i; j++)
                G[j * m + i] = G[i * m + j];
        }
        substitute(m, ny, 1, L, 1, u);
        substitute(m, ny, k, L, 1, ub);
        /* D in the place of G. */
        substitute(m, ny, m, L, 1, G);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < i; j++) {
                const double kept = G[i * m + j];
                G[i * m + j] = G[j * m + i];
                G[j * m + i] = kept;
            }
        substitute(m, ny, m, L, 1, G);
        if (score->d)
            for (int64_t i = 0; i < m; i++)
                score->d[t * score->d_step + which[i]] += u[i];
        if (score->V) {
            double *restrict to = score->V + t * score->V_step;
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < m; j++)
                    to[which[i] * ny + which[j]]
                        += 0.5 * (u[i] * u[j] - G[i * m + j] + dot(k, ub + i * k, ub + j * k));
        }
        if (score->C) { /* L'^-1 (Y P - S), with P filtered */
            for (int64_t i = 0; i < m * n; i++)
                other[i] = -S[i];
            for (int64_t i = 0; i < m; i++)
                add_times(n, n, trace->P + t * n * n, Y + i * n, other + i * n);
            substitute(m, ny, n, L, 1, other);
            if (k)
                add_outer(m, n, k, ub, xb, other);
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < n; j++)
                    score->C[t * score->C_step + which[i] * n + j]
                        += u[i] * x[j] + other[i * n + j];
        }
        /* N = Q - C'Z - Z'C with Z = L'^-1 Y - 1/2 D C. */
        substitute(m, ny, n, L, 1, Y);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < m; j++)
                for (int64_t l = 0; l < n; l++)
                    Y[i * n + l] -= 0.5 * G[i * m + j] * C[j * n + l];
        memcpy(N, Q, sizeof(double) * (size_t)(n * n));
        add_lower(1, n, m, C, Y, N);
        add_lower(1, n, m, Y, C, N);
        mirror(n, N);
        memcpy(p, q, sizeof(double) * (size_t)n);
        add_times(m, n, C, u, p);
        memcpy(pb, qb, sizeof(double) * (size_t)(n * k));
        if (k)
            add_to(0, n, k, m, C, ub, pb);
    }
    if (first == 0) {
        if (score->m0)
            for (int64_t i = 0; i < n; i++)
                score->m0[i] += p[i];
        if (score->P0)
            add_squares(n, k, p, N, pb, score->P0);
    }
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += p[i] * 0.0 + N[i * n + i] * 0.0;
    return sum != 0.0;
}

LANES int64_t loglik_backward(const series_model *model, int64_t first, int64_t last,
                              const double *y, const double *R, const double *b,
                              const series_trace *trace, double *p, double *pb, double *N,
                              const series_score *score, double *work, int64_t *index)
{
#define CALL(n, ny)                                                                                \
    backward(model, n, ny, first, last, y, R, b, trace, p, pb, N, score, work, index)
    if (model->n == 1 && model->ny == 1)
        return CALL(1, 1);
    return CALL(model->n, model->ny);
#undef CALL
}
