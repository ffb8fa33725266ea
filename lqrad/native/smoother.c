/* The equations stand in smoother.h. */
#include "smoother.h"
#include "small.h"

/* Z -= X'Y for X (inner, rows) and Y (inner, columns). */
INLINE void subtract(const int64_t rows, const int64_t columns, const int64_t inner,
                     const double *restrict X, int64_t X_row, const double *restrict Y,
                     int64_t Y_row, double *restrict Z, int64_t Z_row)
{
    if (rows > SMALL || columns > 2 * SMALL || inner > SMALL) {
        subtract_product(rows, columns, inner, X, X_row, Y, Y_row, Z, Z_row);
        return;
    }
    for (int64_t k = 0; k < inner; k++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                Z[i * Z_row + j] -= X[k * X_row + i] * Y[k * Y_row + j];
}

LANES static void dots_of(int64_t rows, int64_t columns, const double *restrict M, int64_t M_row,
                          const double *restrict z, double *restrict y)
{
    int64_t i = 0;
    for (; i + HIGH <= rows; i += HIGH)
        dots(HIGH, columns, M + i * M_row, M_row, z, y + i);
    for (; i < rows; i++)
        dots(1, columns, M + i * M_row, M_row, z, y + i);
}

/* y = M z. */
INLINE void apply(const int64_t rows, const int64_t columns, const double *restrict M,
                  const double *restrict z, double *restrict y)
{
    if (columns > SMALL) {
        dots_of(rows, columns, M, columns, z, y);
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < columns; j++)
            sum += M[i * columns + j] * z[j];
        y[i] = sum;
    }
}

LANES static void add_times_of(int64_t rows, int64_t columns, const double *restrict M,
                               const double *restrict z, double *restrict y)
{
    add_times(rows, columns, M, z, y);
}

/* y += M'z for M (rows, columns). */
INLINE void apply_transpose(const int64_t rows, const int64_t columns, const double *restrict M,
                            const double *restrict z, double *restrict y)
{
    if (columns > SMALL) {
        add_times_of(rows, columns, M, z, y);
        return;
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            y[j] += M[i * columns + j] * z[i];
}

/* y = root'(root z): half holds n doubles. */
INLINE void weigh(const int64_t n, const double *restrict root, const double *restrict z,
                  double *restrict half, double *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = 0.0;
    apply(n, n, root, z, half);
    apply_transpose(n, n, root, half, y);
}

/* Replace the upper triangle of [S, B] (n, n + extra), by rows of `wide`, by [U, U'^-1 B], where U'U = S,
 * with reciprocals on the diagonal of U. Returns 0, or 1 where S is not positive definite. */
INLINE int64_t factor(const int64_t n, const int64_t extra, const int64_t wide, double *restrict M)
{
    for (int64_t first = 0; first < n; first += HIGH) {
        const int64_t last = first + HIGH < n ? first + HIGH : n;
        if (first)
            subtract(last - first, n + extra - first, first, M + first, wide, M + first, wide,
                     M + first * wide + first, wide);
        for (int64_t i = first; i < last; i++) {
            double *restrict row = M + i * wide;
            for (int64_t k = first; k < i; k++) {
                const double u = M[k * wide + i];
                for (int64_t j = i; j < n + extra; j++)
                    row[j] -= u * M[k * wide + j];
            }
            if (!(row[i] > 0.0) || isinf(row[i]))
                return 1;
            row[i] = 1.0 / sqrt(row[i]);
            for (int64_t j = i + 1; j < n + extra; j++)
                row[j] *= row[i];
        }
    }
    return 0;
}

/* L = U'^-1, lower triangular, all of it written. */
INLINE void invert(const int64_t n, const double *restrict U, const int64_t wide,
                   double *restrict L)
{
    for (int64_t i = 0; i < n; i++) {
        double *restrict row = L + i * n;
        for (int64_t j = 0; j < n; j++)
            row[j] = j == i ? 1.0 : 0.0;
        for (int64_t k = 0; k < i; k++) {
            const double u = U[k * wide + i];
            for (int64_t j = 0; j <= k; j++)
                row[j] -= u * L[k * n + j];
        }
        for (int64_t j = 0; j <= i; j++)
            row[j] *= U[i * wide + i];
    }
}

/* The upper triangle of Z, at least, += or -= that of X'Y for X and Y (inner, n). */
#define UPPER(product, n, inner, X, X_row, Y, Y_row, Z, Z_row)                                     \
    for (int64_t i = 0; i < n; i += HIGH)                                                          \
        product(n - i < HIGH ? n - i : HIGH, n - i, inner, (X) + i, X_row, (Y) + i, Y_row,         \
                (Z) + i * (Z_row) + i, Z_row)

/* Whether the upper triangles of S and R differ by no more than rounding in their products, each entry
 * beside the diagonal of H. */
INLINE int64_t repeats(const int64_t n, const double *restrict S, int64_t S_row,
                       const double *restrict R, const double *restrict size)
{
    const double eps = 2.220446049250313e-16 * (double)(n + 4);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++)
            if (!(fabs(S[i * S_row + j] - R[i * n + j]) <= eps * size[i] * size[j]))
                return 0;
    return 1;
}

/* The block row t of H, [H[t, t], H[t+1, t]'], in rows of 2 n. */
INLINE void block_row(const normal_equations *e, const int64_t n, int64_t group, int64_t t,
                      double *restrict M)
{
    const double *information = e->information + e->pattern[group * (e->T + 1) + t] * n * n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            M[2 * i * n + j] = information[i * n + j];
    const double *more[3] = {t ? 0 : stage(e->start, group, 0),
                             t ? stage(e->precision, group, t - 1) : 0,
                             t < e->T ? stage(e->step, group, t) : 0};
    for (int64_t k = 0; k < 3; k++)
        if (more[k])
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < n; j++)
                    M[2 * i * n + j] += more[k][i * n + j];
    if (t == e->T)
        return;
    const double *link = stage(e->link, group, t);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            M[2 * i * n + n + j] = link[j * n + i];
}

/* Factor H: rows [U, Y] of block[t] in F. mean is that of the diagonal of H, log_determinant that of H.
 * Returns 0, or 1 where H is not positive definite. S holds n n, size n doubles. */
INLINE int64_t factors_of(const normal_equations *e, const int64_t n, int64_t group,
                       double *restrict F, int64_t *restrict block, double *restrict mean,
                       double *restrict log_determinant, double *restrict S, double *restrict size)
{
    const int64_t T = e->T, varies = e->precision.step || e->step.step || e->link.step;
    const int64_t *pattern = e->pattern + group * (T + 1);
    int64_t last = -1, settled = 0;
    double logs = 0.0, total = 0.0;
    for (int64_t i = 0; i < n; i++)
        mean[i] = 0.0;
    for (int64_t t = 0; t <= T; t++) {
        const int64_t same = !varies && t > 1 && t < T && pattern[t] == pattern[t - 1];
        if (same && settled) { /* the block of before stands for this one too */
            block[t] = last;
            total += logs;
            for (int64_t i = 0; i < n; i++)
                mean[i] += size[i] * size[i];
            continue;
        }
        double *restrict M = F + (last + 1) * 2 * n * n;
        block_row(e, n, group, t, M);
        for (int64_t i = 0; i < n; i++)
            mean[i] += M[2 * i * n + i];
        for (int64_t i = 0; i < n; i++)
            size[i] = sqrt(M[2 * i * n + i]);
        if (last >= 0) {
            const double *restrict Y = M - 2 * n * n + n;
            UPPER(subtract, n, n, Y, 2 * n, Y, 2 * n, M, 2 * n);
        }
        settled = same && repeats(n, M, 2 * n, S, size);
        if (settled) {
            block[t] = last;
            total += logs;
            continue;
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = i; j < n; j++)
                S[i * n + j] = M[2 * i * n + j];
        if (t < T ? factor(n, n, 2 * n, M) : factor(n, 0, 2 * n, M))
            return 1;
        double product = 1.0;
        int64_t exponents = 0;
        for (int64_t i = 0; i < n; i++) {
            int exponent;
            product *= frexp(M[2 * i * n + i], &exponent);
            exponents += exponent;
        }
        logs = -2.0 * (log(product) + (double)exponents * 0.6931471805599453);
        total += logs;
        block[t] = ++last;
    }
    for (int64_t i = 0; i < n; i++)
        mean[i] /= (double)(T + 1);
    *log_determinant = total;
    return 0;
}

/* x <- H^-1 x, for x (T+1, n). */
INLINE void solve_of(const int64_t n, int64_t T, const double *restrict F,
                  const int64_t *restrict block, double *restrict x)
{
    for (int64_t t = 0; t <= T; t++, x += n) {
        const double *restrict row = F + block[t] * 2 * n * n;
        const int64_t wide = t < T ? 2 * n : n;
        for (int64_t first = 0; first < n; first += HIGH) {
            const int64_t high = n - first < HIGH ? n - first : HIGH;
            double v[HIGH] = {0.0, 0.0, 0.0, 0.0};
            for (int64_t k = 0; k < high; k++) {
                double sum = x[first + k];
                for (int64_t i = 0; i < k; i++)
                    sum -= v[i] * row[i * 2 * n + first + k];
                v[k] = x[first + k] = sum * row[k * 2 * n + first + k];
            }
            int64_t j = first + high;
            if (high == HIGH)
                for (; j < wide; j++) {
                    double sum = x[j];
                    for (int64_t k = 0; k < HIGH; k++)
                        sum -= v[k] * row[k * 2 * n + j];
                    x[j] = sum;
                }
            for (; j < wide; j++)
                for (int64_t k = 0; k < high; k++)
                    x[j] -= v[k] * row[k * 2 * n + j];
            row += high * 2 * n;
        }
    }
    for (int64_t t = T; t >= 0; t--) {
        x -= n;
        const double *restrict rows = F + block[t] * 2 * n * n;
        const int64_t wide = t < T ? 2 * n : n;
        for (int64_t last = n; last > 0;) {
            const int64_t high = last % HIGH ? last % HIGH : HIGH, first = last - high;
            const double *restrict row = rows + first * 2 * n;
            double sums[HIGH];
            if (n > SMALL)
                dots_of(high, wide - last, row + last, 2 * n, x + last, sums);
            else
                for (int64_t k = 0; k < n; k++) {
                    sums[k] = 0.0;
                    for (int64_t j = n; j < wide; j++)
                        sums[k] += row[k * 2 * n + j] * x[j];
                }
            for (int64_t k = high - 1; k >= 0; k--) {
                double sum = x[first + k] - sums[k];
                for (int64_t i = k + 1; i < high; i++)
                    sum -= row[k * 2 * n + first + i] * x[first + i];
                x[first + k] = sum * row[k * 2 * n + first + k];
            }
            last = first;
        }
    }
}

/* g[t] = C'z[t] + pull[t-1] - A'pull[t], and P0^-1 start at t = 0; pull null where it is zero, z white. */
INLINE void right_hand_side_of(const normal_equations *e, const int64_t n, const int64_t ny,
                            int64_t group, const double *restrict start,
                            const double *restrict pull, const double *restrict z,
                            double *restrict g, double *restrict half)
{
    const int64_t T = e->T, *pattern = e->pattern + group * (T + 1);
    weigh(n, stage(e->prior, group, 0), start, half, g);
    memset(g + n, 0, sizeof(double) * (size_t)(T * n));
    for (int64_t t = 0; t <= T; t++) {
        apply_transpose(ny, n, e->C + pattern[t] * ny * n, z + t * ny, g + t * n);
        if (!pull || t == T)
            continue;
        const double *restrict A = stage(e->A, group, t), *restrict v = pull + t * n;
        for (int64_t i = 0; i < n; i++)
            g[(t + 1) * n + i] += v[i];
        for (int64_t i = 0; i < n; i++)
            half[i] = 0.0;
        apply_transpose(n, n, A, v, half);
        for (int64_t i = 0; i < n; i++)
            g[t * n + i] -= half[i];
    }
}

/* p[t] = W^-1 (x[t+1] - A x[t] - c), for x (T+1, n), or constant where x_step is 0; c may be left out. */
INLINE void costates_of(const normal_equations *e, const int64_t n, int64_t group, int64_t with_c,
                     const double *restrict x, int64_t x_step, double *restrict p,
                     double *restrict half)
{
    const int64_t repeats = !x_step && !e->A.step && !e->root_W.step;
    double *restrict w = half + n;
    for (int64_t t = 0; t < e->T; t++, x += x_step, p += n) {
        if (t && repeats) {
            memcpy(p, p - n, sizeof(double) * (size_t)n);
            continue;
        }
        apply(n, n, stage(e->A, group, t), x, w);
        if (with_c)
            for (int64_t i = 0; i < n; i++)
                w[i] += stage(e->c, group, t)[i];
        for (int64_t i = 0; i < n; i++)
            w[i] = x[x_step + i] - w[i];
        weigh(n, stage(e->root_W, group, t), w, half, p);
    }
}

/* What is left of x[t+1] = A x[t] + c + W p[t] at (x, p) as they stand: p += W^-1 (x[t+1] - A x[t] - c - W p),
 * pull = -p. half holds 3 n doubles. */
INLINE void residuals_of(const normal_equations *e, const int64_t n, int64_t group,
                      const double *restrict x, double *restrict p, double *restrict pull,
                      double *restrict half)
{
    double *restrict w = half + n, *restrict v = w + n;
    for (int64_t t = 0; t < e->T; t++) {
        apply(n, n, stage(e->A, group, t), x, w);
        if (e->c.first)
            for (int64_t i = 0; i < n; i++)
                w[i] += stage(e->c, group, t)[i];
        apply(n, n, stage(e->W, group, t), p, v);
        for (int64_t i = 0; i < n; i++)
            w[i] = x[n + i] - w[i] - v[i];
        weigh(n, stage(e->root_W, group, t), w, half, v);
        for (int64_t i = 0; i < n; i++) {
            p[i] += v[i];
            pull[i] = -p[i];
        }
        x += n, p += n, pull += n;
    }
}

/* white -= C x; the cost |start|^2 + sum |white|^2 + sum p'W p of what is left. size is the square of what is
 * rounded on the way there: sum |white|^2 of before, and x'D x with the diagonal D of H, mean. */
INLINE double cost_of(const normal_equations *e, const int64_t n, int64_t group,
                      const double *restrict x, const double *restrict p,
                      const double *restrict start, double *restrict white,
                      const double *restrict mean, double *restrict size, double *restrict half)
{
    const int64_t T = e->T, ny = e->ny, *pattern = e->pattern + group * (T + 1);
    double *restrict v = half + n, *restrict seen = v + n;
    double misfits = 0.0, noises = 0.0, whites = 0.0;
    for (int64_t i = 0; i < n; i++)
        half[i] = 0.0;
    for (int64_t t = 0; t <= T; t++) {
        apply(ny, n, e->C + pattern[t] * ny * n, x + t * n, seen);
        for (int64_t i = 0; i < ny; i++) {
            const double before = white[t * ny + i], misfit = before - seen[i];
            white[t * ny + i] = misfit;
            whites += before * before;
            misfits += misfit * misfit;
        }
        for (int64_t i = 0; i < n; i++)
            half[i] += x[t * n + i] * x[t * n + i];
        if (t == T)
            break;
        apply(n, n, stage(e->W, group, t), p + t * n, v);
        noises += dot(n, p + t * n, v);
    }
    *size = whites + dot(n, mean, half);
    return misfits + dot(n, start, start) + noises;
}

/* The blocks Z and X of the inverse of H; half holds 5 n n, size n doubles. */
INLINE void inverse_of(const int64_t n, int64_t T, const double *restrict F,
                    const int64_t *restrict block, double *restrict Z, double *restrict X,
                    double *restrict half, double *restrict size)
{
    double *restrict L = half, *restrict P = L + n * n, *restrict G = P + n * n;
    int64_t settled = 0;
    for (int64_t t = T; t >= 0; t--) {
        const int64_t again = t < T - 1 && block[t] == block[t + 1];
        double *restrict Zt = Z + t * n * n, *restrict Xt = X + t * n * n;
        if (again && settled) {
            memcpy(Zt, Zt + n * n, sizeof(double) * (size_t)(n * n));
            memcpy(Xt, Xt + n * n, sizeof(double) * (size_t)(n * n));
            continue;
        }
        if (!again) {
            const double *restrict M = F + block[t] * 2 * n * n;
            invert(n, M, 2 * n, L);
            memset(P, 0, sizeof(double) * (size_t)(2 * n * n));
            for (int64_t i = 0; i < n; i += HIGH) /* rows of L before i are zero there */
                add_matrices(n - i < HIGH ? n - i : HIGH, n - i, n - i, L + i * n + i, n, L + i * n + i, n,
                    P + i * n + i, n);
        }
        if (t == T) {
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = i; j < n; j++)
                    Zt[i * n + j] = Zt[j * n + i] = P[i * n + j];
            continue;
        }
        if (!again) {
            const double *restrict Y = F + block[t] * 2 * n * n + n;
            for (int64_t j = 0; j < n; j += WIDE) { /* G = Y'L, rows of L before j are zero there */
                const int64_t wide = n - j < WIDE ? n - j : WIDE;
                add_matrices(n, wide, n - j, Y + 2 * j * n, 2 * n, L + j * n + j, n, G + j, n);
            }
        }
        memset(Xt, 0, sizeof(double) * (size_t)(n * n));
        subtract(n, n, n, Zt + n * n, n, G, n, Xt, n);
        memcpy(Zt, P, sizeof(double) * (size_t)(n * n));
        UPPER(subtract, n, n, G, n, Xt, n, Zt, n);
        for (int64_t i = 0; i < n; i++) {
            size[i] = sqrt(Zt[i * n + i]);
            for (int64_t j = 0; j < i; j++)
                Zt[i * n + j] = Zt[j * n + i];
        }
        settled = again && repeats(n, Zt, n, Zt + n * n, size);
    }
}

/* Each of these is compiled apart for the commonest small sizes: their loops are unrolled. */
#define BY_STATES(CALL)                                                                            \
    switch (e->n) {                                                                                \
    case 1: CALL(1); break;                                                                        \
    case 2: CALL(2); break;                                                                        \
    case 4: CALL(4); break;                                                                        \
    default: CALL(e->n);                                                                           \
    }

LANES static int64_t factors(const normal_equations *e, int64_t group, double *F, int64_t *block,
                             double *mean, double *log_determinant, double *S, double *size)
{
    int64_t failed;
#define CALL(n) failed = factors_of(e, n, group, F, block, mean, log_determinant, S, size)
    BY_STATES(CALL)
#undef CALL
    return failed;
}

LANES static void solve(const normal_equations *e, const double *F, const int64_t *block, double *x)
{
#define CALL(n) solve_of(n, e->T, F, block, x)
    BY_STATES(CALL)
#undef CALL
}

LANES static void right_hand_side(const normal_equations *e, int64_t group, const double *start,
                                  const double *pull, const double *white, double *g, double *half)
{
#define CALL(n) right_hand_side_of(e, n, e->ny, group, start, pull, white, g, half)
    BY_STATES(CALL)
#undef CALL
}

LANES static void costates(const normal_equations *e, int64_t group, int64_t with_c,
                           const double *x, int64_t x_step, double *p, double *half)
{
#define CALL(n) costates_of(e, n, group, with_c, x, x_step, p, half)
    BY_STATES(CALL)
#undef CALL
}

LANES static void residuals(const normal_equations *e, int64_t group, const double *x, double *p,
                            double *pull, double *half)
{
#define CALL(n) residuals_of(e, n, group, x, p, pull, half)
    BY_STATES(CALL)
#undef CALL
}

LANES static double cost_of_series(const normal_equations *e, int64_t group, const double *x,
                                   const double *p, const double *start, double *white,
                                   const double *mean, double *size, double *half)
{
    double cost;
#define CALL(n) cost = cost_of(e, n, group, x, p, start, white, mean, size, half)
    BY_STATES(CALL)
#undef CALL
    return cost;
}

LANES static void inverse(const normal_equations *e, const double *F, const int64_t *block,
                          double *Z, double *X, double *half, double *size)
{
#define CALL(n) inverse_of(n, e->T, F, block, Z, X, half, size)
    BY_STATES(CALL)
#undef CALL
}

/* white[t] = root_V z[t]. */
static void whiten(const normal_equations *e, int64_t group, const double *z, double *white)
{
    const int64_t ny = e->ny, *pattern = e->pattern + group * (e->T + 1);
    for (int64_t t = 0; t <= e->T; t++)
        apply(ny, ny, e->root_V + pattern[t] * ny * ny, z + t * ny, white + t * ny);
}

/* The relative error of a constant state from its right-hand side. half holds 5 n doubles. */
static double loss_of(const normal_equations *e, int64_t group, const double *F,
                      const int64_t *block, const double *mean, double *g, double *white,
                      double *pull, double *half)
{
    const int64_t n = e->n, ny = e->ny, *pattern = e->pattern + group * (e->T + 1);
    double *x = half + 3 * n, loss = 0.0;
    for (int64_t i = 0; i < n; i++)
        x[i] = 1.0 / sqrt(mean[i]);
    costates(e, group, 0, x, 0, pull, half);
    for (int64_t t = 0; t <= e->T; t++)
        apply(ny, n, e->C + pattern[t] * ny * n, x, white + t * ny);
    right_hand_side(e, group, x, pull, white, g, half);
    solve(e, F, block, g);
    for (int64_t t = 0; t <= e->T; t++)
        for (int64_t i = 0; i < n; i++) {
            const double error = fabs(g[t * n + i] / x[i] - 1.0);
            if (!(error <= loss)) /* a NaN stays */
                loss = error;
        }
    return loss;
}

/* |start|'|prior| |m0| + sum |p[t]|'|x[t+1]| + sum |misfit|'|root_V - its diagonal| |z|: by how much rounding
 * of the start, of the states and, in the misfits of other sensors, of z moves the cost. */
static double moved(const normal_equations *e, int64_t group, const double *x, const double *p,
                    const double *start, const double *z, const double *misfit)
{
    const int64_t n = e->n, ny = e->ny, *pattern = e->pattern + group * (e->T + 1);
    const double *prior = stage(e->prior, group, 0), *m0 = stage(e->m0, group, 0);
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            sum += fabs(start[i] * prior[i * n + j] * m0[j]);
    for (int64_t i = 0; i < e->T * n; i++)
        sum += fabs(p[i] * x[n + i]);
    for (int64_t t = 0; t <= e->T; t++)
        for (int64_t i = 0; i < ny; i++)
            for (int64_t j = 0; j < i; j++)
                sum += fabs(misfit[t * ny + i] * z[t * ny + j]
                            * e->root_V[(pattern[t] * ny + i) * ny + j]);
    return sum;
}

/* One series z: x, p, and its cost; infinite where it is lost. Misfits and costates are not found again from
 * the refined x, from whose rounding they would come: what is left of them is what the correction leaves. */
static double smooth_one(const normal_equations *e, int64_t group, const double *F,
                         const int64_t *block, const double *mean, double loss, double no_loss,
                         double most_loss, const double *z, double *x, double *p, double *white,
                         double *g, double *pull, double *half)
{
    const int64_t n = e->n, T = e->T;
    const double *m0 = stage(e->m0, group, 0), *prior = stage(e->prior, group, 0);
    const double eps = 2.220446049250313e-16, count = (double)((T + 1) * n);
    double *start = half + 3 * n + e->ny, size;
    whiten(e, group, z, white);
    if (e->c.first)
        for (int64_t t = 0; t < T; t++)
            weigh(n, stage(e->root_W, group, t), stage(e->c, group, t), half, pull + t * n);
    right_hand_side(e, group, m0, e->c.first ? pull : 0, white, x, half);
    solve(e, F, block, x);
    costates(e, group, e->c.first != 0, x, n, p, half);
    for (int64_t i = 0; i < n; i++)
        half[i] = x[i] - m0[i];
    apply(n, n, prior, half, start);
    const double cost = cost_of_series(e, group, x, p, start, white, mean, &size, half);
    const int64_t exact = eps * eps * size <= no_loss * (count + cost);
    if (loss <= no_loss && exact)
        return cost;
    residuals(e, group, x, p, pull, half);
    for (int64_t i = 0; i < n; i++)
        half[n + i] = m0[i] - x[i];
    right_hand_side(e, group, half + n, pull, white, g, half);
    solve(e, F, block, g);
    costates(e, group, 0, g, n, pull, half);
    for (int64_t i = 0; i < T * n; i++)
        p[i] += pull[i];
    for (int64_t i = 0; i < (T + 1) * n; i++)
        x[i] += g[i];
    apply(n, n, prior, g, half);
    for (int64_t i = 0; i < n; i++)
        start[i] += half[i];
    const double refined = cost_of_series(e, group, g, p, start, white, mean, &size, half);
    const double part = loss > eps ? loss : eps;
    double error = part * part * cost + eps * sqrt(cost * refined);
    if (!exact)
        error += eps * moved(e, group, x, p, start, z, white);
    return error <= most_loss * (count + refined) ? refined : INFINITY;
}

int64_t smooth_series(const normal_equations *e, int64_t groups, int64_t many, const double *z,
                      double no_loss, double most_loss, double *x, double *p, double *loss,
                      double *cost, double *log_determinant, double *Z, double *X, double *work,
                      int64_t *block)
{
    const int64_t n = e->n, ny = e->ny, T = e->T;
    double *F = work, *white = F + 2 * (T + 1) * n * n, *g = white + (T + 1) * ny,
           *pull = g + (T + 1) * n, *half = pull + (T + 1) * n,
           *mean = half + 5 * n * n + 6 * n + ny, *size = mean + n;
    for (int64_t group = 0; group < groups; group++) {
        loss[group] = INFINITY;
        if (factors(e, group, F, block, mean, log_determinant + group, half, size))
            continue;
        /* Where the blocks have settled for good, few in the middle are enough to see the error: a change of
         * the first has no effect beyond the next as many. */
        normal_equations few = *e;
        const int64_t middle = block[T] - 1, *pattern = e->pattern + group * (T + 1);
        if (middle >= 0 && block[middle] == middle && pattern[T] == pattern[T - 1]
            && 4 * (middle + 2) < T) {
            few.T = 4 * (middle + 2);
            few.pattern += group * (T - few.T);
        }
        const int64_t kept = block[few.T];
        block[few.T] = block[T];
        loss[group] = loss_of(&few, group, F, block, mean, g, white, pull, half);
        block[few.T] = kept;
        if (!(loss[group] <= most_loss))
            continue;
        const double of_group = loss[group];
        for (int64_t i = 0; i < many; i++) {
            const int64_t k = group * many + i;
            cost[k] = smooth_one(e, group, F, block, mean, of_group, no_loss, most_loss,
                                 z + k * (T + 1) * ny, x + k * (T + 1) * n, p + k * T * n, white, g,
                                 pull, half);
            if (isinf(cost[k]))
                loss[group] = INFINITY;
        }
        if (Z && loss[group] <= most_loss)
            inverse(e, F, block, Z + group * (T + 1) * n * n, X + group * T * n * n, half, size);
    }
    return 0;
}
