/* The equations stand in kernels.h. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* Lanes of four doubles are used where the processor has them, which is found out at load; eight were
 * no faster. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) \
    && !defined(LQRAD_ONE_TARGET)
#define LANES __attribute__((target_clones("avx2", "default")))
#else
#define LANES
#endif

/* Z[i][j] += sum_k X[k][i] Y[k][j] for i < rows, j < columns: Z += X'Y. Tiles of Z stay in registers, and
 * each sum runs in the order of k. */
enum { HIGH = 4, WIDE = 8 };

INLINE void tile(const int64_t high, const int64_t wide, int64_t inner, const double *restrict X,
                 int64_t X_row, const double *restrict Y, int64_t Y_row, double *restrict Z,
                 int64_t Z_row)
{
    double sums[HIGH][WIDE];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            sums[i][j] = Z[i * Z_row + j];
    for (int64_t k = 0; k < inner; k++, X += X_row, Y += Y_row)
        for (int64_t i = 0; i < high; i++)
            for (int64_t j = 0; j < wide; j++)
                sums[i][j] += X[i] * Y[j];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            Z[i * Z_row + j] = sums[i][j];
}

LANES static void add_product(int64_t rows, int64_t columns, int64_t inner,
                              const double *restrict X, int64_t X_row, const double *restrict Y,
                              int64_t Y_row, double *restrict Z, int64_t Z_row)
{
#define TILE(high, wide) tile(high, wide, inner, X + i, X_row, Y + j, Y_row, Z + i * Z_row + j, Z_row)
#define STRIP(high)                                                                                \
    do {                                                                                           \
        int64_t j = 0;                                                                             \
        for (; j + WIDE <= columns; j += WIDE) TILE(high, WIDE);                                   \
        if (j + 4 <= columns) { TILE(high, 4); j += 4; }                                           \
        if (j + 2 <= columns) { TILE(high, 2); j += 2; }                                           \
        if (j < columns) TILE(high, 1);                                                            \
    } while (0)
    int64_t i = 0;
    for (; i + HIGH <= rows; i += HIGH) STRIP(HIGH);
    if (i + 2 <= rows) { STRIP(2); i += 2; }
    if (i < rows) STRIP(1);
#undef STRIP
#undef TILE
}

enum { WIDEST = 16 };

/* y[j] += sum_i M[i][j] z[i] for j < wide, in as many sums as keep a processor busy: of every fourth i. */
INLINE void strip(const int64_t wide, int64_t rows, int64_t columns, const double *restrict M,
                  const double *restrict z, double *restrict y)
{
    double sums[4][WIDEST];
    for (int64_t j = 0; j < wide; j++) {
        sums[0][j] = y[j];
        sums[1][j] = sums[2][j] = sums[3][j] = 0.0;
    }
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4, M += 4 * columns)
        for (int64_t j = 0; j < wide; j++) {
            sums[0][j] += z[i] * M[j];
            sums[1][j] += z[i + 1] * M[columns + j];
            sums[2][j] += z[i + 2] * M[2 * columns + j];
            sums[3][j] += z[i + 3] * M[3 * columns + j];
        }
    for (; i < rows; i++, M += columns)
        for (int64_t j = 0; j < wide; j++)
            sums[0][j] += z[i] * M[j];
    for (int64_t j = 0; j < wide; j++)
        y[j] = (sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]);
}

/* y += M'z for M (rows, columns). */
INLINE void add_times(int64_t rows, int64_t columns, const double *restrict M,
                      const double *restrict z, double *restrict y)
{
    int64_t j = 0;
#define STRIP(wide) strip(wide, rows, columns, M + j, z, y + j)
    for (; j + WIDEST <= columns; j += WIDEST) STRIP(WIDEST);
    if (j + 8 <= columns) { STRIP(8); j += 8; }
    if (j + 4 <= columns) { STRIP(4); j += 4; }
    if (j + 2 <= columns) { STRIP(2); j += 2; }
    if (j < columns) STRIP(1);
#undef STRIP
}

/* y[i] += sum_j M[i][j] z[j]. */
INLINE void add_rows(int64_t rows, int64_t columns, const double *restrict M,
                     const double *restrict z, double *restrict y)
{
    for (int64_t i = 0; i < rows; i++) {
        double sum = y[i];
        for (int64_t j = 0; j < columns; j++)
            sum += M[i * columns + j] * z[j];
        y[i] = sum;
    }
}

INLINE void copy_or_zero(int64_t count, const double *restrict from, double *restrict to)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = from ? from[i] : 0.0;
}

INLINE double dot(int64_t count, const double *restrict y, const double *restrict z)
{
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++)
        sum += y[i] * z[i];
    return sum;
}

INLINE const double *at(const double *array, int64_t step, int64_t t)
{
    return array ? array + t * step : 0;
}

/* A sum that carries what rounding cuts off (Neumaier, ZAMM 54 (1974), 39-51). */
typedef struct {
    double sum, lost;
} total;

INLINE void add(total *all, double term)
{
    const double sum = all->sum + term;
    all->lost += fabs(all->sum) >= fabs(term) ? (all->sum - sum) + term : (term - sum) + all->sum;
    all->sum = sum;
}

int64_t lqrad_interface(void)
{
    return 2;
}

/* after = A x + B u + c at stage t. */
INLINE void next_state(const lq_problem *z, const int64_t n, const int64_t m, int64_t t,
                       const double *restrict x, const double *restrict u, double *restrict after)
{
    copy_or_zero(n, at(z->c, z->c_step, t), after);
    if (z->Bt)
        add_times(m, n, z->Bt, u, after);
    else
        add_rows(n, m, at(z->B, z->B_step, t), u, after);
    if (z->At)
        add_times(n, n, z->At, x, after);
    else
        add_rows(n, n, at(z->A, z->A_step, t), x, after);
}

INLINE int64_t gradient_of_one(const lq_problem *z, const int64_t n, const int64_t m, int64_t T,
                               const double *restrict x0, const double *restrict u,
                               double *restrict J, double *restrict g, double *restrict work)
{
    double *restrict x = work, *restrict p = x + (T + 1) * n, *restrict next = p + n,
                     *restrict slope = next + n, *restrict full = slope + n;
    memcpy(x, x0, sizeof(double) * (size_t)n);
    for (int64_t t = 0; t < T; t++)
        next_state(z, n, m, t, x + t * n, u + t * m, x + (t + 1) * n);

    const double *last = x + T * n;
    total doubled = {0.0, 0.0};
    copy_or_zero(n, z->s, p);
    copy_or_zero(n, z->s, full);
    add_times(n, n, z->S, last, p);
    for (int64_t i = 0; i < n; i++)
        full[i] += p[i];
    add(&doubled, dot(n, last, full));
    double largest = 0.0; /* NaN or infinite where an entry of g is */
    for (int64_t t = T - 1; t >= 0; t--) {
        const double *xt = x + t * n, *ut = u + t * m, *q = at(z->q, z->q_step, t),
                     *r = at(z->r, z->r_step, t), *M = at(z->M, z->M_step, t);
        double *restrict gt = g + t * m;
        copy_or_zero(n, q, slope);
        add_times(n, n, at(z->Q, z->Q_step, t), xt, slope);
        copy_or_zero(m, r, gt);
        add_times(m, m, at(z->R, z->R_step, t), ut, gt);
        if (M) {
            add_rows(n, m, M, ut, slope);
            add_times(n, m, M, xt, gt);
        }
        double term = dot(n, xt, slope) + dot(m, ut, gt);
        if (q)
            term += dot(n, xt, q);
        if (r)
            term += dot(m, ut, r);
        add(&doubled, term);
        add_times(n, m, at(z->B, z->B_step, t), p, gt);
        for (int64_t i = 0; i < m; i++)
            largest += 0.0 * gt[i];
        memcpy(next, slope, sizeof(double) * (size_t)n);
        add_times(n, n, at(z->A, z->A_step, t), p, next);
        memcpy(p, next, sizeof(double) * (size_t)n);
    }
    *J = 0.5 * (doubled.sum + doubled.lost);
    return !(isfinite(*J) && largest == 0.0);
}

INLINE int64_t gradients(const lq_problem *z, const int64_t n, const int64_t m, int64_t T,
                         int64_t series, const double *x0, int64_t x0_step, const double *u,
                         double *J, double *g, double *work)
{
    for (int64_t i = 0; i < series; i++)
        if (gradient_of_one(z, n, m, T, x0 + i * x0_step, u + i * T * m, J + i, g + i * T * m, work))
            return 1;
    return 0;
}

/* Doubles of work that a function keeps on its own stack. */
enum { ON_STACK = 2048 };

/* The commonest small sizes are compiled apart: their loops are unrolled. */
#define BY_SIZE(n, m, CALL)                                                                        \
    do {                                                                                           \
        if (m == 1) {                                                                              \
            if (n == 1) return CALL(1, 1);                                                         \
            if (n == 2) return CALL(2, 1);                                                         \
            if (n == 3) return CALL(3, 1);                                                         \
            if (n == 4) return CALL(4, 1);                                                         \
        }                                                                                          \
        if (m == 2 && n == 4) return CALL(4, 2);                                                   \
        if (m == 4 && n == 12) return CALL(12, 4);                                                 \
        return CALL(n, m);                                                                         \
    } while (0)

LANES int64_t lq_gradient(const lq_problem *z, int64_t T, int64_t series, const double *x0,
                          int64_t x0_step, const double *u, double *J, double *g, double *work)
{
    double here[ON_STACK];
    if (!work)
        work = here;
#define CALL(n, m) gradients(z, n, m, T, series, x0, x0_step, u, J, g, work)
    BY_SIZE(z->n, z->m, CALL);
#undef CALL
}

INLINE int64_t sweep(const lq_problem *z, const int64_t n, const int64_t m, int64_t first,
                     int64_t last, double *restrict P, double *restrict K, double *restrict L,
                     double *restrict work)
{
    const int64_t both = n + m;
    double *restrict AB = work, *restrict PAB = AB + n * both, *restrict H = PAB + n * both,
                     *restrict D = H + both * both;
    for (int64_t t = last - 1; t >= first; t--) {
        const double *A = at(z->A, z->A_step, t), *B = at(z->B, z->B_step, t),
                     *Q = at(z->Q, z->Q_step, t), *R = at(z->R, z->R_step, t),
                     *M = at(z->M, z->M_step, t), *after = P + (t + 1) * n * n;
        double *restrict Pt = P + t * n * n, *restrict Kt = K + t * m * n,
                         *restrict Lt = L + t * m * m;
        if (t == last - 1 || z->A_step || z->B_step)
            for (int64_t i = 0; i < n; i++) {
                memcpy(AB + i * both, A + i * n, sizeof(double) * (size_t)n);
                memcpy(AB + i * both + n, B + i * m, sizeof(double) * (size_t)m);
            }
        memset(PAB, 0, sizeof(double) * (size_t)(n * both));
        add_product(n, both, n, after, n, AB, both, PAB, both);
        /* The lower triangle of H = [Q M; M' R] + [A B]'P[A B]. */
        for (int64_t i = 0; i < n; i++)
            memcpy(H + i * both, Q + i * n, sizeof(double) * (size_t)n);
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++)
                H[(n + i) * both + j] = M ? M[j * m + i] : 0.0;
            memcpy(H + (n + i) * both + n, R + i * m, sizeof(double) * (size_t)m);
        }
        add_product(both, n, n, AB, both, PAB, both, H, both);
        add_product(m, m, n, AB + n, both, PAB + n, both, H + n * both + n, both);
        /* G = U D U' with a unit U below the diagonal: no root, so that units of the cost are exact. */
        double *restrict G = H + n * both + n;
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < i; j++) {
                double sum = G[i * both + j];
                for (int64_t k = 0; k < j; k++)
                    sum -= Lt[i * m + k] * D[k] * Lt[j * m + k];
                Lt[i * m + j] = sum / D[j];
            }
            double pivot = G[i * both + i];
            for (int64_t k = 0; k < i; k++)
                pivot -= Lt[i * m + k] * D[k] * Lt[i * m + k];
            if (!(pivot > 0.0 && isfinite(pivot)))
                return t + 1;
            D[i] = pivot;
        }
        /* K = G^-1 N: forward, P = H - (U^-1 N)'D^-1(U^-1 N), and back. */
        for (int64_t i = 0; i < m; i++) {
            double *restrict row = Kt + i * n;
            memcpy(row, H + (n + i) * both, sizeof(double) * (size_t)n);
            for (int64_t k = 0; k < i; k++) {
                const double factor = Lt[i * m + k], *restrict other = Kt + k * n;
                for (int64_t j = 0; j < n; j++)
                    row[j] -= factor * other[j];
            }
        }
        for (int64_t i = 0; i < n; i++)
            memcpy(Pt + i * n, H + i * both, sizeof(double) * (size_t)n);
        for (int64_t k = 0; k < m; k++) {
            const double *restrict row = Kt + k * n;
            for (int64_t i = 0; i < n; i++) {
                const double factor = row[i] / D[k];
                double *restrict target = Pt + i * n;
                for (int64_t j = 0; j < n; j++)
                    target[j] -= factor * row[j];
            }
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < i; j++)
                Pt[j * n + i] = Pt[i * n + j];
        for (int64_t i = m - 1; i >= 0; i--) {
            double *restrict row = Kt + i * n;
            for (int64_t j = 0; j < n; j++)
                row[j] /= D[i];
            for (int64_t k = i + 1; k < m; k++) {
                const double factor = Lt[k * m + i], *restrict other = Kt + k * n;
                for (int64_t j = 0; j < n; j++)
                    row[j] -= factor * other[j];
            }
        }
        for (int64_t j = 0; j < m; j++) {
            const double root = sqrt(D[j]);
            for (int64_t i = 0; i < j; i++)
                Lt[i * m + j] = 0.0;
            Lt[j * m + j] = root;
            for (int64_t i = j + 1; i < m; i++)
                Lt[i * m + j] *= root;
        }
    }
    return 0;
}

LANES int64_t lq_riccati(const lq_problem *z, int64_t first, int64_t last, double *P, double *K,
                         double *L, double *work)
{
#define CALL(n, m) sweep(z, n, m, first, last, P, K, L, work)
    BY_SIZE(z->n, z->m, CALL);
#undef CALL
}

INLINE int64_t rollouts(const lq_problem *z, const int64_t n, const int64_t m, int64_t T,
                        int64_t series, const double *x0, const double *K, const double *k,
                        const double *P, const double *v, double *x, double *u, double *p,
                        double *restrict F)
{
    double largest = 0.0;
    const int64_t constant = !(z->A_step || z->B_step);
    for (int64_t i = 0; i < series; i++)
        memcpy(x + i * (T + 1) * n, x0 + i * n, sizeof(double) * (size_t)n);
    for (int64_t t = 0; t < T; t++) {
        const double *A = at(z->A, z->A_step, t), *B = at(z->B, z->B_step, t),
                     *Kt = K + t * m * n, *kt = k + t * m;
        /* F = A - B K, which is there already where nothing has changed. */
        if (!(t && constant && !memcmp(Kt, Kt - m * n, sizeof(double) * (size_t)(m * n))))
            for (int64_t i = 0; i < n; i++) {
                double *restrict row = F + i * n;
                memcpy(row, A + i * n, sizeof(double) * (size_t)n);
                for (int64_t j = 0; j < m; j++) {
                    const double factor = B[i * m + j], *restrict gain = Kt + j * n;
                    for (int64_t l = 0; l < n; l++)
                        row[l] -= factor * gain[l];
                }
            }
        for (int64_t one = 0; one < series; one++) {
            const double *restrict xt = x + (one * (T + 1) + t) * n;
            double *restrict ut = u + (one * T + t) * m, *restrict pt = p + (one * T + t) * n,
                             *restrict after = x + (one * (T + 1) + t + 1) * n;
            for (int64_t i = 0; i < m; i++)
                ut[i] = -dot(n, Kt + i * n, xt) - kt[i];
            for (int64_t i = 0; i < m; i++)
                largest += 0.0 * ut[i];
            copy_or_zero(n, at(z->c, z->c_step, t), after);
            for (int64_t i = 0; i < n; i++)
                after[i] -= dot(m, B + i * m, kt);
            add_rows(n, n, F, xt, after);
            memcpy(pt, v + (t + 1) * n, sizeof(double) * (size_t)n);
            add_times(n, n, P + (t + 1) * n * n, after, pt);
            for (int64_t i = 0; i < n; i++)
                largest += 0.0 * pt[i] + 0.0 * after[i];
        }
    }
    return !(largest == 0.0);
}

LANES int64_t lq_rollout(const lq_problem *z, int64_t T, int64_t series, const double *x0,
                         const double *K, const double *k, const double *P, const double *v,
                         double *x, double *u, double *p, double *work)
{
#define CALL(n, m) rollouts(z, n, m, T, series, x0, K, k, P, v, x, u, p, work)
    BY_SIZE(z->n, z->m, CALL);
#undef CALL
}

INLINE int64_t solves(const int64_t n, int64_t T, int64_t series, const double *A, int64_t A_step,
                      int64_t transpose, double *x)
{
    double largest = 0.0;
    for (int64_t one = 0; one < series; one++, x += (T + 1) * n) {
        if (transpose)
            for (int64_t t = T - 1; t >= 0; t--)
                add_times(n, n, A + t * A_step, x + (t + 1) * n, x + t * n);
        else
            for (int64_t t = 0; t < T; t++)
                if (A_step)
                    add_rows(n, n, A + t * A_step, x + t * n, x + (t + 1) * n);
                else
                    add_times(n, n, A, x + t * n, x + (t + 1) * n);
        for (int64_t i = 0; i < (T + 1) * n; i++)
            largest += 0.0 * x[i];
    }
    return !(largest == 0.0);
}

LANES int64_t bidiagonal_solve(int64_t n, int64_t T, int64_t series, const double *A,
                               int64_t A_step, int64_t transpose, double *x)
{
    if (n == 1) return solves(1, T, series, A, A_step, transpose, x);
    if (n == 2) return solves(2, T, series, A, A_step, transpose, x);
    if (n == 3) return solves(3, T, series, A, A_step, transpose, x);
    if (n == 4) return solves(4, T, series, A, A_step, transpose, x);
    if (n == 6) return solves(6, T, series, A, A_step, transpose, x);
    return solves(n, T, series, A, A_step, transpose, x);
}

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

INLINE int64_t filter(const int64_t n, const int64_t ny, int64_t T, const double *restrict A,
                      int64_t A_step, const double *restrict C, int64_t C_step,
                      const double *restrict v, int64_t v_step, const double *restrict V,
                      int64_t V_step, const double *restrict w, int64_t w_step,
                      const double *restrict root, double *restrict P, double *restrict K,
                      double *restrict factor, double *restrict roots, double *restrict rounding,
                      double *restrict work)
{
    const double eps = 2.220446049250313e-16;
    const int64_t both = n + ny, wide = 2 * n;
    double *restrict S = work, *restrict X = S + n * n, *restrict noise = X + 2 * both * both,
                     *restrict keep = noise + n * n, *restrict half = keep + n * n;
    memset(noise, 0, sizeof(double) * (size_t)(n * n));
    memcpy(S, root, sizeof(double) * (size_t)(n * n));
    triangle(n, n, S);
    for (int64_t t = 0; t <= T; t++) {
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

LANES int64_t filter_covariances(int64_t n, int64_t ny, int64_t T, const double *A, int64_t A_step,
                                 const double *C, int64_t C_step, const double *v, int64_t v_step,
                                 const double *V, int64_t V_step, const double *w, int64_t w_step,
                                 const double *root, double *P, double *K, double *factor,
                                 double *roots, double *rounding, double *work)
{
#define CALL(n, ny)                                                                                \
    filter(n, ny, T, A, A_step, C, C_step, v, v_step, V, V_step, w, w_step, root, P, K, factor,    \
           roots, rounding, work)
    BY_SIZE(n, ny, CALL);
#undef CALL
}
