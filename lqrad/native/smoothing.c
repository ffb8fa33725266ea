/* The equations stand in smoothing.h. */
#include "smoothing.h"
#include "small.h"

/* L with L L' = X X', in place, for X (rows, columns >= rows), by Householder's reflections. */
INLINE void triangle(const int64_t rows, const int64_t columns, double *restrict X)
{
    for (int64_t j = 0; j < rows; j++) {
        double *restrict pivot = X + j * columns;
        const double rest = dot(columns - j - 1, pivot + j + 1, pivot + j + 1);
        if (rest == 0.0)
            continue;
        const double alpha = pivot[j], norm = sqrt(alpha * alpha + rest),
                     beta = alpha > 0.0 ? -norm : norm, tau = (beta - alpha) / beta,
                     scale = 1.0 / (alpha - beta);
        for (int64_t k = j + 1; k < columns; k++)
            pivot[k] *= scale;
        for (int64_t i = j + 1; i < rows; i++) {
            double *restrict row = X + i * columns;
            const double along
                = tau * (row[j] + dot(columns - j - 1, row + j + 1, pivot + j + 1));
            row[j] -= along;
            for (int64_t k = j + 1; k < columns; k++)
                row[k] -= along * pivot[k];
        }
        pivot[j] = beta;
        for (int64_t k = j + 1; k < columns; k++)
            pivot[k] = 0.0;
    }
}

/* Z (rows, columns) = X (rows, inner) Y (inner, columns). */
INLINE void multiply(int64_t rows, int64_t inner, int64_t columns, const double *restrict X,
                     const double *restrict Y, int64_t Y_row, double *restrict Z, int64_t Z_row)
{
    for (int64_t i = 0; i < rows; i++) {
        double *restrict row = Z + i * Z_row;
        for (int64_t j = 0; j < columns; j++)
            row[j] = 0.0;
        for (int64_t k = 0; k < inner; k++) {
            const double factor = X[i * inner + k];
            for (int64_t j = 0; j < columns; j++)
                row[j] += factor * Y[k * Y_row + j];
        }
    }
}

/* N <- X N X' for symmetric N (n, n); half holds n n doubles. */
INLINE void carry(const int64_t n, const double *restrict X, double *restrict N,
                  double *restrict half)
{
    multiply(n, n, n, X, N, n, half, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            N[i * n + j] = N[j * n + i] = dot(n, half + i * n, X + j * n);
}

INLINE int64_t filter(const int64_t n, const int64_t ny, int64_t first, int64_t last, int64_t T,
                      const double *restrict A,
                      int64_t A_step, const double *restrict C, int64_t C_step,
                      const double *restrict v, int64_t v_step, const double *restrict V,
                      int64_t V_step, const double *restrict w, int64_t w_step,
                      double *restrict S, double *restrict noise, double *restrict P,
                      double *restrict K, double *restrict factor, double *restrict roots,
                      double *restrict rounding, double *restrict work)
{
    const double eps = 2.220446049250313e-16;
    const int64_t both = n + ny, wide = 2 * n;
    double *restrict X = work, *restrict keep = X + 2 * both * both,
                     *restrict half = keep + n * n;
    if (first == 0)
        triangle(n, n, S);
    for (int64_t t = first; t < last; t++) {
        const double *Ct = C + t * C_step, *vt = v + t * v_step, *Vt = V + t * V_step,
                     *At = A + t * A_step, *wt = w + t * w_step;
        double *restrict Pt = P + t * n * n, *restrict Kt = K + t * n * ny,
                         *restrict Lt = factor + t * ny * ny, *restrict St = roots + t * n * n;
        for (int64_t i = 0; i < n; i++)
            rounding[t * n + i] = noise[i * n + i];
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j <= i; j++)
                Pt[i * n + j] = Pt[j * n + i] = dot(n, S + i * n, S + j * n);
        /* [C S, v; S, 0] -> [L, 0; K L, root of the update]. */
        multiply(ny, n, n, Ct, S, n, X, both);
        for (int64_t i = 0; i < ny; i++)
            memcpy(X + i * both + n, vt + i * ny, sizeof(double) * (size_t)ny);
        for (int64_t i = 0; i < n; i++) {
            memcpy(X + (ny + i) * both, S + i * n, sizeof(double) * (size_t)n);
            memset(X + (ny + i) * both + n, 0, sizeof(double) * (size_t)ny);
        }
        triangle(both, both, X);
        for (int64_t i = 0; i < ny; i++) {
            const double *row = X + i * both;
            const double variance = dot(i + 1, row, row);
            multiply(1, n, n, Ct + i * n, noise, n, half, n);
            const double least
                = 32.0 * (double)ny
                  * (eps * (variance + Vt[i * ny + i]) + dot(n, half, Ct + i * n));
            if (row[i] * row[i] <= least)
                return t + 1;
            for (int64_t j = 0; j < ny; j++)
                Lt[i * ny + j] = j <= i ? row[j] : 0.0;
        }
        for (int64_t i = 0; i < n; i++) {
            const double *row = X + (ny + i) * both;
            for (int64_t j = ny - 1; j >= 0; j--) {
                double sum = row[j];
                for (int64_t k = j + 1; k < ny; k++)
                    sum -= Kt[i * ny + k] * X[k * both + j];
                Kt[i * ny + j] = sum / X[j * both + j];
            }
            for (int64_t j = 0; j < n; j++)
                St[i * n + j] = j <= i ? row[ny + j] : 0.0;
        }
        multiply(n, ny, n, Kt, Ct, n, keep, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                keep[i * n + j] = (i == j ? 1.0 : 0.0) - keep[i * n + j];
        carry(n, keep, noise, half);
        for (int64_t i = 0; i < n * n; i++)
            noise[i] += eps * eps * Pt[i];
        if (t == T)
            break;
        /* [A S, w] -> the root of the next prediction. */
        multiply(n, n, n, At, St, n, X, wide);
        for (int64_t i = 0; i < n; i++)
            memcpy(X + i * wide + n, wt + i * n, sizeof(double) * (size_t)n);
        carry(n, At, noise, half);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                double lost = 0.0;
                for (int64_t k = j; k < n; k++)
                    lost += fabs(At[i * n + k]) * fabs(St[k * n + j]);
                noise[i * n + i] += eps * lost * (eps * lost);
            }
        triangle(n, wide, X);
        for (int64_t i = 0; i < n; i++)
            memcpy(S + i * n, X + i * wide, sizeof(double) * (size_t)n);
    }
    return 0;
}

LANES int64_t filter_covariances(int64_t n, int64_t ny, int64_t first, int64_t last, int64_t T,
                                 const double *A, int64_t A_step, const double *C, int64_t C_step,
                                 const double *v, int64_t v_step, const double *V, int64_t V_step,
                                 const double *w, int64_t w_step, double *S, double *noise,
                                 double *P, double *K, double *factor, double *roots,
                                 double *rounding, double *work)
{
#define CALL(n, ny)                                                                                \
    filter(n, ny, first, last, T, A, A_step, C, C_step, v, v_step, V, V_step, w, w_step, S, noise, \
           P, K, factor, roots, rounding, work)
    BY_SIZE(n, ny, CALL);
#undef CALL
}
