/* The equations stand in smoothing.h. */
#include "smoothing.h"
#include "small.h"

static const double eps = 2.220446049250313e-16;

/* The first `pivots` rows of R with R'R = M'M, in place, for M (rows, columns), by Householder's reflections of
 * its columns; what is left of the rows below is not touched further. along holds `columns` doubles. */
INLINE void triangle(const int64_t rows, const int64_t columns, const int64_t pivots,
                     double *restrict M, double *restrict along)
{
    for (int64_t j = 0; j < pivots; j++) {
        double rest = 0.0;
        for (int64_t k = j + 1; k < rows; k++)
            rest += M[k * columns + j] * M[k * columns + j];
        if (rest == 0.0)
            continue;
        const double alpha = M[j * columns + j], norm = sqrt(alpha * alpha + rest),
                     beta = alpha > 0.0 ? -norm : norm, tau = (beta - alpha) / beta,
                     scale = 1.0 / (alpha - beta);
        for (int64_t i = j + 1; i < columns; i++)
            along[i] = M[j * columns + i];
        for (int64_t k = j + 1; k < rows; k++) {
            const double v = M[k * columns + j] *= scale;
            if (v != 0.0)
                for (int64_t i = j + 1; i < columns; i++)
                    along[i] += v * M[k * columns + i];
        }
        for (int64_t i = j + 1; i < columns; i++) {
            along[i] *= tau;
            M[j * columns + i] -= along[i];
        }
        for (int64_t k = j + 1; k < rows; k++) {
            const double v = M[k * columns + j];
            if (v != 0.0)
                for (int64_t i = j + 1; i < columns; i++)
                    M[k * columns + i] -= v * along[i];
            M[k * columns + j] = 0.0;
        }
        M[j * columns + j] = beta;
    }
}

/* Z = X'Y for X (inner, rows), Y (inner, columns) and Z in rows of Z_row. */
INLINE void product(const int64_t rows, const int64_t columns, const int64_t inner,
                    const double *restrict X, const double *restrict Y, double *restrict Z,
                    const int64_t Z_row)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            Z[i * Z_row + j] = 0.0;
    add_matrices(rows, columns, inner, X, rows, Y, columns, Z, Z_row);
}

/* N <- X N X' for symmetric N (n, n), given X'; half holds n n doubles. */
INLINE void carry(const int64_t n, const double *restrict Xt, double *restrict N,
                  double *restrict half)
{
    product(n, n, n, N, Xt, half, n);
    product(n, n, n, half, Xt, N, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            N[i * n + j] = N[j * n + i];
}

INLINE void transpose(const int64_t rows, const int64_t columns, const double *restrict X,
                      double *restrict Xt, const int64_t Xt_row)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            Xt[j * Xt_row + i] = X[i * columns + j];
}

/* X of U X = F for U upper triangular and F, in place: both stand in rows of `row`. */
INLINE void solve_upper(const int64_t n, const int64_t columns, const double *restrict U,
                        double *restrict F, const int64_t row)
{
    for (int64_t i = n - 1; i >= 0; i--) {
        for (int64_t k = i + 1; k < n; k++)
            for (int64_t j = 0; j < columns; j++)
                F[i * row + j] -= U[i * row + k] * F[k * row + j];
        for (int64_t j = 0; j < columns; j++)
            F[i * row + j] /= U[i * row + i];
    }
}

INLINE int64_t covariances(const filter_models *f, const int64_t n, const int64_t ny, int64_t group,
                           int64_t first, int64_t last, double *restrict S,
                           double *restrict noise, double *restrict P, double *restrict K,
                           double *restrict factor, double *restrict roots, double *restrict cov,
                           double *restrict rounding, double *work)
{
    const int64_t both = n + ny;
    double *restrict M = work, *restrict St = M + 2 * both * both, *restrict At = St + n * n,
                     *restrict sizes = At + n * n, *restrict keep = sizes + n * n,
                     *restrict half = keep + n * n, *restrict root_sizes = half + n * n,
                     *restrict Ct = root_sizes + n * n, *restrict Kt = Ct + n * ny,
                     *restrict CN = Kt + n * ny, *restrict along = CN + 2 * n * ny;
    const double *A = 0;
    for (int64_t t = first; t < last; t++) {
        const double *C = stage(f->C, group, t), *v = stage(f->v, group, t),
                     *V = stage(f->V, group, t);
        double *restrict Pt = P + t * n * n, *restrict Lt = factor + t * ny * ny,
                         *restrict root = roots + t * n * n;
        for (int64_t i = 0; i < n; i++)
            rounding[t * n + i] = noise[i * n + i];
        transpose(n, n, S, St, n);
        product(n, n, n, St, St, Pt, n);
        /* [S'C', S'; v', 0] -> [factor', factor'K'; 0, root']. */
        transpose(ny, n, C, Ct, ny);
        product(n, ny, n, S, Ct, M, both);
        for (int64_t i = 0; i < n; i++)
            memcpy(M + i * both + ny, St + i * n, sizeof(double) * (size_t)n);
        transpose(ny, ny, v, M + n * both, both);
        for (int64_t i = n; i < both; i++)
            memset(M + i * both + ny, 0, sizeof(double) * (size_t)n);
        triangle(both, both, ny, M, along);
        product(ny, n, n, Ct, noise, CN, n);
        for (int64_t i = 0; i < ny; i++) {
            double variance = V[i * ny + i], lost = 0.0;
            for (int64_t j = 0; j < ny; j++) {
                const double entry = Lt[i * ny + j] = j <= i ? M[j * both + i] : 0.0;
                variance += entry * entry;
            }
            for (int64_t j = 0; j < n; j++)
                lost += CN[i * n + j] * C[i * n + j];
            const double pivot = Lt[i * ny + i];
            if (!(pivot * pivot > 32.0 * (double)ny * (eps * variance + lost)))
                return t + 1;
        }
        solve_upper(ny, n, M, M + ny, both);
        for (int64_t i = 0; i < ny; i++)
            memcpy(Kt + i * n, M + i * both + ny, sizeof(double) * (size_t)n);
        transpose(ny, n, Kt, K + t * n * ny, ny);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                root[j * n + i] = St[i * n + j] = M[(ny + i) * both + ny + j];
            }
        product(n, n, n, St, St, cov + t * n * n, n);
        product(n, n, ny, C, Kt, keep, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                keep[i * n + j] = (i == j ? 1.0 : 0.0) - keep[i * n + j];
        carry(n, keep, noise, half);
        for (int64_t i = 0; i < n * n; i++)
            noise[i] += eps * eps * Pt[i];
        if (t == f->T)
            break;
        if (A != stage(f->A, group, t)) {
            A = stage(f->A, group, t);
            transpose(n, n, A, At, n);
            for (int64_t i = 0; i < n * n; i++)
                sizes[i] = fabs(At[i]);
        }
        /* [root'A'; w'] -> the transposed root of the next prediction. */
        product(n, n, n, root, At, M, n);
        transpose(n, n, stage(f->w, group, t), M + n * n, n);
        carry(n, At, noise, half);
        for (int64_t i = 0; i < n * n; i++)
            root_sizes[i] = fabs(root[i]);
        product(n, n, n, sizes, root_sizes, half, n);
        for (int64_t i = 0; i < n; i++) {
            double lost = 0.0;
            for (int64_t j = 0; j < n; j++)
                lost += half[i * n + j] * half[i * n + j];
            noise[i * n + i] += eps * eps * lost;
        }
        triangle(2 * n, n, n, M, along);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                S[i * n + j] = j <= i ? M[j * n + i] : 0.0;
    }
    return 0;
}

LANES int64_t filter_covariances(const filter_models *f, int64_t groups, int64_t first,
                                 int64_t last, double *S, double *noise, double *P, double *K,
                                 double *factor, double *roots, double *cov, double *rounding,
                                 int64_t *failed, double *work)
{
    const int64_t N = f->T + 1, size = f->n * f->n, both = f->n * f->ny, outputs = f->ny * f->ny,
                  vector = f->n;
    for (int64_t g = 0; g < groups; g++) {
#define CALL(n, ny)                                                                                \
    covariances(f, n, ny, g, first, last, S + g * size, noise + g * size, P + g * N * size,        \
                K + g * N * both, factor + g * N * outputs, roots + g * N * size,                  \
                cov + g * N * size, rounding + g * N * vector, work)
        if (f->n == 1 && f->ny == 1)
            failed[g] = CALL(1, 1);
        else if (f->n == 2 && f->ny == 1)
            failed[g] = CALL(2, 1);
        else if (f->n == 4 && f->ny == 2)
            failed[g] = CALL(4, 2);
        else
            failed[g] = CALL(f->n, f->ny);
#undef CALL
    }
    return 0;
}

INLINE int64_t means(const filter_models *f, const int64_t n, const int64_t ny, stages c,
                     int64_t group, int64_t held, const double *restrict K,
                     const double *restrict factor, const double *start, const double *restrict z,
                     double *restrict predicted, double *restrict x, double *restrict innovations,
                     double *restrict e)
{
    int64_t overflows = 0;
    memcpy(predicted, start, sizeof(double) * (size_t)n);
    for (int64_t t = 0; t <= f->T; t++) {
        const int64_t k = t < held ? t : held - 1;
        const double *restrict Kt = K + k * n * ny, *restrict L = factor + k * ny * ny,
                     *restrict C = stage(f->C, group, t);
        for (int64_t i = 0; i < ny; i++) {
            innovations[i] = z[i] - dot(n, C + i * n, predicted);
            double sum = innovations[i];
            for (int64_t j = 0; j < i; j++)
                sum -= L[i * ny + j] * e[j];
            e[i] = sum / L[i * ny + i];
        }
        for (int64_t i = 0; i < n; i++)
            x[i] = predicted[i] + dot(ny, Kt + i * ny, innovations);
        if (t < f->T) {
            const double *restrict A = stage(f->A, group, t),
                         *offset = c.first ? stage(c, group, t) : 0;
            for (int64_t i = 0; i < n; i++) {
                const double next = dot(n, A + i * n, x) + (offset ? offset[i] : 0.0);
                overflows |= !isfinite(next);
                predicted[n + i] = next;
            }
        }
        z += ny, innovations += ny, e += ny, predicted += n, x += n;
    }
    return overflows;
}

LANES int64_t filter_means(const filter_models *f, stages c, int64_t groups, int64_t many,
                           int64_t held, const double *K, const double *factor,
                           const double *start, int64_t start_step, const double *z,
                           double *predicted, double *x, double *innovations, double *e)
{
    int64_t overflows = 0;
    for (int64_t s = 0; s < groups * many; s++) {
        const int64_t g = s / many, N = f->T + 1, states = s * N * f->n, outputs = s * N * f->ny;
        const double *gain = K + g * held * f->n * f->ny, *root = factor + g * held * f->ny * f->ny;
#define CALL(n, ny)                                                                                \
    means(f, n, ny, c, g, held, gain, root, start + s * start_step, z + outputs, predicted + states, x + states,                     \
          innovations + outputs, e + outputs)
        if (f->n == 1 && f->ny == 1)
            overflows |= CALL(1, 1);
        else if (f->n == 4 && f->ny == 2)
            overflows |= CALL(4, 2);
        else
            overflows |= CALL(f->n, f->ny);
#undef CALL
    }
    return overflows;
}

INLINE int64_t costates(const filter_models *f, const int64_t n, const int64_t ny, int64_t group,
                        int64_t held, const double *restrict K, const double *restrict factor,
                        const double *restrict e, double *restrict p, double *restrict work)
{
    double *restrict q = work, *restrict r = q + n;
    int64_t overflows = 0;
    for (int64_t i = 0; i < n; i++)
        q[i] = 0.0;
    for (int64_t t = f->T; t >= 0; t--) {
        const int64_t k = t < held ? t : held - 1;
        const double *restrict Kt = K + k * n * ny, *restrict L = factor + k * ny * ny,
                     *restrict C = stage(f->C, group, t);
        if (t < f->T) {
            for (int64_t i = 0; i < n; i++)
                q[i] = 0.0;
            add_times(n, n, stage(f->A, group, t), p + (t + 1) * n, q);
        }
        for (int64_t i = ny - 1; i >= 0; i--) {
            double sum = e[t * ny + i];
            for (int64_t j = i + 1; j < ny; j++)
                sum -= L[j * ny + i] * r[j];
            r[i] = sum / L[i * ny + i];
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < ny; j++)
                r[j] -= Kt[i * ny + j] * q[i];
        for (int64_t i = 0; i < n; i++)
            p[t * n + i] = q[i];
        add_times(ny, n, C, r, p + t * n);
        for (int64_t i = 0; i < n; i++)
            overflows |= !isfinite(p[t * n + i]);
    }
    return overflows;
}

LANES int64_t filter_costates(const filter_models *f, int64_t groups, int64_t many, int64_t held,
                              const double *K, const double *factor, const double *e, double *p,
                              double *work)
{
    int64_t overflows = 0;
    for (int64_t s = 0; s < groups * many; s++) {
        const int64_t g = s / many, N = f->T + 1;
        const double *gain = K + g * held * f->n * f->ny, *root = factor + g * held * f->ny * f->ny;
        const double *pull = e + s * N * f->ny;
        double *costate = p + s * N * f->n;
#define CALL(n, ny) costates(f, n, ny, g, held, gain, root, pull, costate, work)
        if (f->n == 1 && f->ny == 1)
            overflows |= CALL(1, 1);
        else if (f->n == 4 && f->ny == 2)
            overflows |= CALL(4, 2);
        else
            overflows |= CALL(f->n, f->ny);
#undef CALL
    }
    return overflows;
}

INLINE int64_t gains_of(const filter_models *f, const int64_t n, int64_t group, int64_t held,
                        const double *restrict roots, const double *restrict rounding,
                        double most_condition, double *restrict gains, double *restrict X,
                        double *restrict work)
{
    const int64_t wide = 2 * n;
    double *restrict M = work, *restrict At = M + 4 * n * n, *restrict inverse = At + n * n,
                     *restrict size = inverse + n * n, *restrict along = size + n;
    const double *A = 0;
    for (int64_t t = 0; t < held; t++) {
        const double *root = roots + t * n * n;
        if (A != stage(f->A, group, t)) {
            A = stage(f->A, group, t);
            transpose(n, n, A, At, n);
        }
        product(n, n, n, root, At, M, wide);
        transpose(n, n, root, M + n, wide);
        transpose(n, n, stage(f->w, group, t), M + n * wide, wide);
        for (int64_t i = n; i < wide; i++)
            memset(M + i * wide + n, 0, sizeof(double) * (size_t)n);
        triangle(wide, wide, n, M, along);
        double condition = 0.0;
        for (int64_t j = 0; j < n; j++) {
            double variance = 0.0;
            for (int64_t i = 0; i <= j; i++)
                variance += M[i * wide + j] * M[i * wide + j];
            if (!(variance > 32.0 * rounding[t * n + j]))
                return t + 1;
            size[j] = sqrt(variance);
        }
        /* Row by row from the last, U^-1, each entry times the size of its row. */
        for (int64_t i = n - 1; i >= 0; i--) {
            double *restrict row = inverse + i * n;
            for (int64_t j = 0; j < n; j++)
                row[j] = j == i ? 1.0 : 0.0;
            for (int64_t k = i + 1; k < n; k++)
                for (int64_t j = k; j < n; j++)
                    row[j] -= M[i * wide + k] * inverse[k * n + j];
            for (int64_t j = i; j < n; j++) {
                row[j] /= M[i * wide + i];
                condition += size[i] * row[j] * (size[i] * row[j]);
            }
        }
        if (!(sqrt(condition * (double)n) < most_condition))
            return t + 1;
        solve_upper(n, n, M, M + n, wide);
        for (int64_t i = 0; i < n; i++) {
            memcpy(gains + (t * n + i) * n, M + i * wide + n, sizeof(double) * (size_t)n);
            memcpy(X + (t * n + i) * n, M + (n + i) * wide + n, sizeof(double) * (size_t)n);
        }
    }
    return 0;
}

#define BY_STATES(CALL)                                                                            \
    switch (n) {                                                                                   \
    case 1: CALL(1); break;                                                                        \
    case 4: CALL(4); break;                                                                        \
    default: CALL(n);                                                                              \
    }

LANES int64_t rts_gains(const filter_models *f, int64_t groups, int64_t held, int64_t roots_held,
                        const double *roots, const double *rounding, double most_condition,
                        double *gains, double *X, int64_t *failed, double *work)
{
    const int64_t n = f->n;
    for (int64_t g = 0; g < groups; g++) {
#define CALL(n)                                                                                    \
    failed[g] = gains_of(f, n, g, held, roots + g * roots_held * n * n, rounding + g * held * n,   \
                         most_condition, gains + g * held * n * n, X + g * held * n * n, work)
        BY_STATES(CALL)
#undef CALL
    }
    return 0;
}

INLINE void covariances_back(const int64_t n, int64_t held, int64_t first, int64_t last,
                             const double *restrict gains, const double *restrict X,
                             double *restrict R, double *restrict cov, double *restrict work)
{
    double *restrict M = work, *restrict along = M + 2 * n * n;
    for (int64_t t = last - 1; t >= first; t--) {
        const int64_t k = t < held ? t : held - 1;
        memcpy(M, X + k * n * n, sizeof(double) * (size_t)(n * n));
        product(n, n, n, R, gains + k * n * n, M + n * n, n);
        triangle(2 * n, n, n, M, along);
        product(n, n, n, M, M, cov + t * n * n, n);
        transpose(n, n, M, R, n);
    }
}

LANES int64_t rts_covariances(int64_t n, int64_t T, int64_t groups, int64_t held, int64_t first,
                              int64_t last, const double *gains, const double *X, double *R,
                              double *cov, double *work)
{
    for (int64_t g = 0; g < groups; g++) {
#define CALL(n)                                                                                    \
    covariances_back(n, held, first, last, gains + g * held * n * n, X + g * held * n * n,         \
                     R + g * n * n, cov + g * (T + 1) * n * n, work)
        BY_STATES(CALL)
#undef CALL
    }
    return 0;
}

INLINE void means_back(const int64_t n, int64_t T, int64_t held, const double *restrict gains,
                       const double *restrict predicted, double *restrict x)
{
    for (int64_t t = T - 1; t >= 0; t--) {
        const double *restrict G = gains + (t < held ? t : held - 1) * n * n;
        for (int64_t i = 0; i < n; i++) {
            const double move = x[(t + 1) * n + i] - predicted[(t + 1) * n + i];
            for (int64_t j = 0; j < n; j++)
                x[t * n + j] += G[i * n + j] * move;
        }
    }
}

LANES int64_t rts_means(int64_t n, int64_t T, int64_t groups, int64_t many, int64_t held,
                        const double *gains, const double *predicted, double *x)
{
    for (int64_t s = 0; s < groups * many; s++) {
        const int64_t g = s / many, states = s * (T + 1) * n;
#define CALL(n) means_back(n, T, held, gains + g * held * n * n, predicted + states, x + states)
        BY_STATES(CALL)
#undef CALL
    }
    return 0;
}
