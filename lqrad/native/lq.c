/* The equations stand in lq.h. */
#include "lq.h"
#include "small.h"

#include <float.h>

int64_t lqrad_sources(void)
{
    return LQRAD_SOURCES;
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

/* A costate of so many entries is kept apart, where a compiler may hold it in registers. */
enum { IN_REGISTERS = 6 };

INLINE int64_t gradient_of_one(const lq_problem *z, const int64_t n, const int64_t m, int64_t T,
                               const double *restrict x0, const double *restrict u,
                               double *restrict J, double *restrict g, double *restrict work)
{
    double here[4 * IN_REGISTERS];
    double *restrict x = work, *restrict p = n <= IN_REGISTERS ? here : x + (T + 1) * n,
                     *restrict next = p + n, *restrict slope = next + n, *restrict full = slope + n;
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
        memcpy(next, slope, sizeof(double) * (size_t)n);
        add_times(n, n, at(z->A, z->A_step, t), p, next);
        memcpy(p, next, sizeof(double) * (size_t)n);
    }
    *J = 0.5 * (doubled.sum + doubled.lost);
    return !(isfinite(*J) && zero_if_finite(T * m, g) == 0.0);
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

LANES int64_t lq_gradient(const lq_problem *z, int64_t T, int64_t series, const double *x0,
                          int64_t x0_step, const double *u, double *J, double *g, double *work)
{
    double here[ON_STACK];
    work = on_lines(work ? work : here);
#define CALL(n, m) gradients(z, n, m, T, series, x0, x0_step, u, J, g, work)
    BY_SIZE(z->n, z->m, CALL);
#undef CALL
}

/* Z += X'Y, or Z -= X'Y with `less`, on and below the diagonal of Z (rows, rows), and some above it. */
LANES static void add_below(const int less, int64_t rows, int64_t inner, const double *restrict X,
                            int64_t X_row, const double *restrict Y, int64_t Y_row,
                            double *restrict Z, int64_t Z_row)
{
    int64_t i = 0;
    if (less)
        for (; i < rows; i += HIGH)
            tiles(1, rows - i < HIGH ? rows - i : HIGH, rows - i < HIGH ? rows : i + HIGH, inner,
                  X + i, X_row, Y, Y_row, Z + i * Z_row, Z_row);
    else
        for (; i < rows; i += HIGH)
            tiles(0, rows - i < HIGH ? rows - i : HIGH, rows - i < HIGH ? rows : i + HIGH, inner,
                  X + i, X_row, Y, Y_row, Z + i * Z_row, Z_row);
}

#if defined(__GNUC__) && !defined(__clang__)
#define UNROLL _Pragma("GCC unroll 4")
#else
#define UNROLL
#endif

/* y += factor z for rows of so many entries. */
INLINE void add_scaled(const int64_t wide, double factor, const double *restrict z,
                       double *restrict y)
{
#if defined(__GNUC__)
    if (wide == 4) { /* in one register, which compilers do not see */
        four sums, others;
        memcpy(&sums, y, sizeof sums);
        memcpy(&others, z, sizeof others);
        sums += factor * others;
        memcpy(y, &sums, sizeof sums);
        return;
    }
#endif
    for (int64_t j = 0; j < wide; j++)
        y[j] += factor * z[j];
}

INLINE void scale(const int64_t wide, double factor, const double *restrict z, double *restrict y)
{
#if defined(__GNUC__)
    if (wide == 4) {
        four others;
        memcpy(&others, z, sizeof others);
        others *= factor;
        memcpy(y, &others, sizeof others);
        return;
    }
#endif
    for (int64_t j = 0; j < wide; j++)
        y[j] = factor * z[j];
}

/* Whether a pivot of R + B'PB may be no more than rounding errors of its terms, R[j][j] and at most n times
 * size = sum_i B[i][j]^2 P[i][i]; the twin's bound is sharper. */
INLINE int doubtful(int64_t n, int64_t m, double pivot, double inverse, double size, double weight)
{
    const double terms = (double)n * size + fabs(weight);
    return !(pivot > (double)(n + m) * DBL_EPSILON * terms && isfinite(pivot) && isfinite(inverse));
}

/* Stages of n <= SMALL states and m <= 2 inputs, all sizes known to the compiler: all but the results stays
 * in registers. As `sweep`, term by term. */
INLINE int64_t small_sweep(const lq_problem *z, const int64_t n, const int64_t m, int64_t first,
                           int64_t last, const double unit, double *restrict P, double *restrict K,
                           double *restrict L)
{
    double unsound[SMALL] = {0.0};
    for (int64_t t = last - 1; t >= first; t--) {
        const double *A = at(z->A, z->A_step, t), *B = at(z->B, z->B_step, t),
                     *Q = at(z->Q, z->Q_step, t), *R = at(z->R, z->R_step, t),
                     *M = at(z->M, z->M_step, t), *after = P + (t + 1) * n * n;
        double *restrict Pt = P + t * n * n, *restrict Kt = K + t * m * n,
                         *restrict Lt = L + t * m * m;
        double PA[SMALL][SMALL] = {{0.0}}, PB[SMALL][2] = {{0.0}}, H[SMALL][SMALL] = {{0.0}},
               N[2][SMALL] = {{0.0}}, S[2][SMALL], G[2][2] = {{0.0}}, D[2] = {1.0, 1.0};
        int unsure = 0; /* one branch a stage: more keep a compiler from its best order */
        UNROLL for (int64_t i = 0; i < n; i++)
            UNROLL for (int64_t k = 0; k < n; k++) {
                /* One triangle is read: what is mirrored need not be there yet. */
                const double p = k < i ? after[i * n + k] : after[k * n + i];
                add_scaled(n, p, A + k * n, PA[i]);
                add_scaled(m, p, B + k * m, PB[i]);
            }
        UNROLL for (int64_t i = 0; i < m; i++) {
            UNROLL for (int64_t j = 0; j < m; j++)
                G[i][j] = R[i * m + j];
            if (M)
                UNROLL for (int64_t j = 0; j < n; j++)
                    N[i][j] = M[j * m + i];
            UNROLL for (int64_t k = 0; k < n; k++) {
                add_scaled(m, B[k * m + i], PB[k], G[i]);
                add_scaled(n, B[k * m + i], PA[k], N[i]);
            }
        }
        UNROLL for (int64_t i = 0; i < n; i++) {
            scale(n, 1.0, Q + i * n, H[i]);
            UNROLL for (int64_t k = 0; k < n; k++)
                add_scaled(n, A[k * n + i], PA[k], H[i]);
        }
        UNROLL for (int64_t k = 0; k < m; k++) {
            const double inverse = 1.0 / G[k][k];
            double size = 0.0;
            UNROLL for (int64_t i = 0; i < n; i++)
                size += B[i * m + k] * B[i * m + k] * fabs(after[i * n + i]);
            unsure |= doubtful(n, m, G[k][k], inverse, size, R[k * m + k]);
            D[k] = G[k][k];
            scale(n, inverse, N[k], S[k]);
            UNROLL for (int64_t i = k + 1; i < m; i++) {
                const double factor = G[i][k] * inverse;
                add_scaled(n, -factor, N[k], N[i]);
                G[i][i] -= factor * G[i][k];
                G[i][k] = factor;
            }
            UNROLL for (int64_t i = 0; i < n; i++)
                add_scaled(n, -S[k][i], N[k], H[i]);
        }
        if (unsure)
            return t + 1;
        UNROLL for (int64_t i = 0; i < n; i++)
            scale(n, 1.0, H[i], Pt + i * n);
        UNROLL for (int64_t i = 0; i < n; i++)
            UNROLL for (int64_t j = 0; j < i; j++)
                Pt[j * n + i] = H[i][j];
        if (m == 2)
            add_scaled(n, -G[1][0], S[1], S[0]);
        UNROLL for (int64_t i = 0; i < m; i++) {
            const double root = sqrt(unit * D[i]);
            scale(n, 1.0, S[i], Kt + i * n);
            Lt[i * m + i] = root;
            UNROLL for (int64_t j = 0; j < i; j++) {
                Lt[i * m + j] = G[i][j] * Lt[j * m + j];
                Lt[j * m + i] = 0.0;
            }
        }
        UNROLL for (int64_t i = 0; i < m; i++)
            add_scaled(n, 0.0, S[i], unsound);
    }
    /* What is not finite in P stays there: 0 times it is not a number. */
    return zero_if_finite(n, unsound) + zero_if_finite(n * n, P + first * n * n) == 0.0 ? 0 : last;
}

/* The sizes of rows that lanes fill: small ones are compiled apart. */
INLINE int64_t filled(const int64_t n)
{
    return n <= SMALL ? n : (n + 3) / 4 * 4;
}

INLINE int64_t sweep(const lq_problem *z, const int64_t n, const int64_t m, int64_t first,
                     int64_t last, const double unit, double *restrict P, double *restrict K,
                     double *restrict L, double *restrict work)
{
    /* [A B], P [A B] and H have columns of zeros behind A and B; P[A B] makes room for D^-1 U^-1 N. */
    const int64_t wide = filled(n), both = wide + filled(m);
    double *restrict AB = work, *restrict H = AB + n * both, *restrict D = H + both * both,
                     *restrict PAB = D + filled(m), *restrict S = PAB;
    double unsound = 0.0;
    memset(work, 0, sizeof(double) * (size_t)(n * both + both * both));
    for (int64_t t = last - 1; t >= first; t--) {
        const double *A = at(z->A, z->A_step, t), *B = at(z->B, z->B_step, t),
                     *Q = at(z->Q, z->Q_step, t), *R = at(z->R, z->R_step, t),
                     *M = at(z->M, z->M_step, t), *after = P + (t + 1) * n * n;
        double *restrict Pt = P + t * n * n, *restrict Kt = K + t * m * n,
                         *restrict Lt = L + t * m * m, *restrict N = H + wide * both,
                         *restrict G = N + wide;
        if (t == last - 1 || z->A_step || z->B_step)
            for (int64_t i = 0; i < n; i++) {
                memcpy(AB + i * both, A + i * n, sizeof(double) * (size_t)n);
                memcpy(AB + i * both + wide, B + i * m, sizeof(double) * (size_t)m);
            }
        /* The lower triangle of H = [Q M; M' R] + [A B]'P[A B]. */
        for (int64_t i = 0; i < n; i++)
            memcpy(H + i * both, Q + i * n, sizeof(double) * (size_t)n);
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++)
                N[i * both + j] = M ? M[j * m + i] : 0.0;
            memcpy(G + i * both, R + i * m, sizeof(double) * (size_t)m);
        }
        memset(PAB, 0, sizeof(double) * (size_t)(n * both));
        add_product(n, both, n, after, n, AB, both, PAB, both);
        add_below(0, both, n, AB, both, PAB, both, H, both);
        /* G = U D U' with a unit U below the diagonal: no root, so that units of the cost are exact.
         * N becomes U^-1 N, S is D^-1 U^-1 N. */
        for (int64_t k = 0; k < m; k++) {
            const double pivot = G[k * both + k], inverse = 1.0 / pivot;
            double size = 0.0;
            for (int64_t i = 0; i < n; i++)
                size += B[i * m + k] * B[i * m + k] * fabs(after[i * n + i]);
            if (doubtful(n, m, pivot, inverse, size, R[k * m + k]))
                return t + 1;
            D[k] = pivot;
            for (int64_t j = 0; j < wide; j++)
                S[k * wide + j] = N[k * both + j] * inverse;
            for (int64_t i = k + 1; i < m; i++) {
                const double factor = G[i * both + k] * inverse;
                for (int64_t j = 0; j < wide; j++)
                    N[i * both + j] -= factor * N[k * both + j];
                for (int64_t j = k + 1; j <= i; j++)
                    G[i * both + j] -= factor * G[j * both + k];
                Lt[i * m + k] = factor;
            }
        }
        add_below(1, wide, m, S, wide, N, both, H, both);
        for (int64_t i = 0; i < n; i++)
            memcpy(Pt + i * n, H + i * both, sizeof(double) * (size_t)n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < i; j++)
                Pt[j * n + i] = Pt[i * n + j];
        for (int64_t i = m - 1; i >= 0; i--) { /* K = U'^-1 S */
            double *restrict row = Kt + i * n;
            memcpy(row, S + i * wide, sizeof(double) * (size_t)n);
            for (int64_t k = i + 1; k < m; k++) {
                const double factor = Lt[k * m + i], *restrict other = Kt + k * n;
                for (int64_t j = 0; j < n; j++)
                    row[j] -= factor * other[j];
            }
        }
        for (int64_t j = 0; j < m; j++) {
            const double root = sqrt(unit * D[j]);
            for (int64_t i = 0; i < j; i++)
                Lt[i * m + j] = 0.0;
            Lt[j * m + j] = root;
            for (int64_t i = j + 1; i < m; i++)
                Lt[i * m + j] *= root;
        }
        unsound += zero_if_finite(m * n, Kt);
    }
    /* What is not finite in P stays there: 0 times it is not a number. */
    return unsound + zero_if_finite(n * n, P + first * n * n) == 0.0 ? 0 : last;
}

LANES int64_t lq_riccati(const lq_problem *z, int64_t first, int64_t last, double unit, double *P,
                         double *K, double *L, double *work)
{
    const int64_t n = z->n, m = z->m;
#define CASE(N, M) if (n == N && m == M) return small_sweep(z, N, M, first, last, unit, P, K, L)
    CASE(1, 1);
    CASE(2, 1);
    CASE(3, 1);
    CASE(4, 1);
    CASE(2, 2);
    CASE(3, 2);
    CASE(4, 2);
#undef CASE
    return sweep(z, n, m, first, last, unit, P, K, L, work);
}

/* Relative changes below this are small enough for their propagation to be linear. */
static const double LINEAR = 1e-6;

/* X <- X Y, or E <- Y'E Y with `both`; spare holds n n. */
INLINE void multiplied(int64_t n, const double *restrict Y, double *restrict X, int both,
                       double *restrict spare)
{
    memset(spare, 0, sizeof(double) * (size_t)(n * n));
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < n; j++)
                spare[i * n + j] += X[i * n + k] * Y[k * n + j];
    if (!both) {
        memcpy(X, spare, sizeof(double) * (size_t)(n * n));
        return;
    }
    memset(X, 0, sizeof(double) * (size_t)(n * n));
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                X[i * n + j] += Y[k * n + i] * spare[k * n + j];
}

/* Whether all |E[i][j]| <= most d[i] d[j]. */
INLINE int within(int64_t n, const double *restrict E, const double *restrict d, double most)
{
    int all = 1;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            all &= fabs(E[i * n + j]) <= most * (d[i] * d[j]);
    return all;
}

LANES int64_t lq_settled(int64_t n, int64_t count, int64_t left, const double *P, const double *F,
                         double *work)
{
    const int64_t size = n * n;
    double *d = work, *power = d + n, *total = power + size, *other = total + size,
           *spare = other + size;
    int64_t h = 1, moved = 0;
    while (8 * h <= count - 1)
        h *= 2;
    for (int64_t i = 0; i < n; i++)
        d[i] = sqrt(fabs(P[i * n + i]));
    for (int64_t back = 1; back <= h; back++) {
        for (int64_t i = 0; i < size; i++) {
            total[i] = P[i] - P[back * size + i];
            moved |= total[i] != 0.0;
        }
        if (!moved)
            return 1;
        if (!within(n, total, d, LINEAR))
            return 0;
    }
    int64_t reach = 1;
    memcpy(power, F, sizeof(double) * (size_t)size);
    for (; reach < h; reach *= 2) {
        memcpy(other, power, sizeof(double) * (size_t)size);
        multiplied(n, other, power, 0, spare);
    }
    multiplied(n, power, total, 1, spare);
    while (within(n, total, d, 2.0 * DBL_EPSILON)) {
        if (reach >= left)
            return 1;
        int contracts = 1;
        for (int64_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (int64_t i = 0; i < n; i++)
                sum += d[i] * fabs(power[i * n + j]);
            contracts &= sum <= d[j] / 8.0;
        }
        if (contracts && within(n, total, d, 2.0 * DBL_EPSILON * (63.0 / 64.0)))
            return 1;
        memcpy(other, total, sizeof(double) * (size_t)size);
        multiplied(n, power, other, 1, spare);
        for (int64_t i = 0; i < size; i++)
            total[i] += other[i];
        memcpy(other, power, sizeof(double) * (size_t)size);
        multiplied(n, other, power, 0, spare);
        reach *= 2;
    }
    return 0;
}

/* x'(Q x + 2 M u + 2 q) + u'(R u + 2 r) at stage t; Q x + ... is left in `slope`, which holds n + m. */
INLINE double twice_the_cost(const lq_problem *z, const int64_t n, const int64_t m, int64_t t,
                             const double *restrict x, const double *restrict u,
                             double *restrict slope)
{
    const double *q = at(z->q, z->q_step, t), *r = at(z->r, z->r_step, t),
                 *M = at(z->M, z->M_step, t);
    copy_or_zero(n, q, slope);
    copy_or_zero(m, r, slope + n);
    if (M)
        add_rows(n, m, M, u, slope);
    for (int64_t i = 0; i < n + m; i++)
        slope[i] *= 2.0;
    add_times(n, n, at(z->Q, z->Q_step, t), x, slope);
    add_times(m, m, at(z->R, z->R_step, t), u, slope + n);
    return dot(n, x, slope) + dot(m, u, slope + n);
}

INLINE int64_t rollouts(const lq_problem *z, const int64_t n, const int64_t m, int64_t T,
                        int64_t series, const double *x0, int64_t alike, const double *K,
                        const double *P, const double *k, const double *v, double *x, double *u,
                        double *p, double *J, double *restrict F)
{
    double largest = 0.0, here[2 * IN_REGISTERS];
    double *restrict slope = n + m <= 2 * IN_REGISTERS ? here : F + n * n;
    for (int64_t i = 0; i < series; i++) {
        memcpy(x + i * (T + 1) * n, x0 + i * n, sizeof(double) * (size_t)n);
        J[i] = J[series + i] = 0.0;
    }
    for (int64_t t = 0; t < T; t++) {
        const int64_t held = t > alike ? t - alike : 0, next = t >= alike ? t + 1 - alike : 0;
        const double *A = at(z->A, z->A_step, t), *B = at(z->B, z->B_step, t),
                     *c = at(z->c, z->c_step, t), *Kt = K + held * m * n, *kt = at(k, m, t),
                     *after_P = P + next * n * n;
        /* F = A - B K, where it is not dearer than B (K x). */
        const int through = held && series < n;
        if (t == 0 || (held && !through))
            for (int64_t i = 0; i < n; i++) {
                double *restrict row = F + i * n;
                memcpy(row, A + i * n, sizeof(double) * (size_t)n);
                for (int64_t l = 0; l < m; l++) {
                    const double factor = B[i * m + l], *restrict gain = Kt + l * n;
                    for (int64_t j = 0; j < n; j++)
                        row[j] -= factor * gain[j];
                }
            }
        for (int64_t one = 0; one < series; one++) {
            const double *restrict xt = x + (one * (T + 1) + t) * n;
            double *restrict ut = u + (one * T + t) * m, *restrict pt = p + (one * T + t) * n,
                             *restrict after = x + (one * (T + 1) + t + 1) * n;
            copy_or_zero(m, kt, ut);
            add_rows(m, n, Kt, xt, ut);
            for (int64_t i = 0; i < m; i++)
                ut[i] = -ut[i];
            copy_or_zero(n, c, after);
            if (through)
                add_rows(n, m, B, ut, after);
            else if (kt)
                for (int64_t i = 0; i < n; i++)
                    after[i] -= dot(m, B + i * m, kt);
            add_rows(n, n, through ? A : F, xt, after);
            copy_or_zero(n, at(v, n, t + 1), pt);
            add_times(n, n, after_P, after, pt);
            total doubled = {J[one], J[series + one]};
            add(&doubled, twice_the_cost(z, n, m, t, xt, ut, slope));
            J[one] = doubled.sum;
            J[series + one] = doubled.lost;
            for (int64_t i = 0; i < m; i++)
                largest += 0.0 * ut[i];
            for (int64_t i = 0; i < n; i++)
                largest += 0.0 * pt[i] + 0.0 * after[i];
        }
    }
    for (int64_t one = 0; one < series; one++) {
        const double *last = x + (one * (T + 1) + T) * n;
        copy_or_zero(n, z->s, slope);
        for (int64_t i = 0; i < n; i++)
            slope[i] *= 2.0;
        add_times(n, n, z->S, last, slope);
        total doubled = {J[one], J[series + one]};
        add(&doubled, dot(n, last, slope));
        J[one] = 0.5 * (doubled.sum + doubled.lost);
        largest += 0.0 * J[one];
    }
    return !(largest == 0.0);
}

/* One series of n <= SMALL states and m <= 2 inputs, all sizes known to the compiler. As `rollouts`. */
INLINE int64_t small_rollout(const lq_problem *z, const int64_t n, const int64_t m, int64_t T,
                             const double *x0, int64_t alike, const double *K, const double *P,
                             const double *k, const double *v, double *restrict x,
                             double *restrict u, double *restrict p, double *J)
{
    double F[SMALL][SMALL] = {{0.0}}, here[SMALL] = {0.0}, unsound = 0.0;
    total doubled = {0.0, 0.0};
    scale(n, 1.0, x0, here);
    scale(n, 1.0, x0, x);
    for (int64_t t = 0; t < T; t++) {
        const int64_t held = t > alike ? t - alike : 0, next = t >= alike ? t + 1 - alike : 0;
        const double *A = at(z->A, z->A_step, t), *B = at(z->B, z->B_step, t),
                     *Q = at(z->Q, z->Q_step, t), *R = at(z->R, z->R_step, t),
                     *M = at(z->M, z->M_step, t), *c = at(z->c, z->c_step, t),
                     *q = at(z->q, z->q_step, t), *r = at(z->r, z->r_step, t),
                     *Kt = K + held * m * n, *kt = at(k, m, t), *vt = at(v, n, t + 1),
                     *after_P = P + next * n * n;
        double input[2], state[SMALL], costate[SMALL] = {0.0}, slope[SMALL] = {0.0}, term = 0.0;
        if (t == 0 || held)
            UNROLL for (int64_t i = 0; i < n; i++) {
                scale(n, 1.0, A + i * n, F[i]);
                UNROLL for (int64_t l = 0; l < m; l++)
                    add_scaled(n, -B[i * m + l], Kt + l * n, F[i]);
            }
        UNROLL for (int64_t i = 0; i < m; i++)
            input[i] = -((kt ? kt[i] : 0.0) + dot(n, Kt + i * n, here));
        UNROLL for (int64_t i = 0; i < n; i++) {
            state[i] = dot(n, F[i], here) + (c ? c[i] : 0.0);
            if (kt)
                state[i] -= dot(m, B + i * m, kt);
        }
        if (vt)
            scale(n, 1.0, vt, costate);
        UNROLL for (int64_t i = 0; i < n; i++)
            add_scaled(n, state[i], after_P + i * n, costate);
        /* x'(Q x + 2 M u + 2 q) + u'(R u + 2 r). */
        if (M)
            UNROLL for (int64_t i = 0; i < n; i++)
                slope[i] = 2.0 * dot(m, M + i * m, input);
        if (q)
            add_scaled(n, 2.0, q, slope);
        UNROLL for (int64_t i = 0; i < n; i++)
            add_scaled(n, here[i], Q + i * n, slope);
        UNROLL for (int64_t i = 0; i < m; i++)
            term += input[i] * ((r ? 2.0 * r[i] : 0.0) + dot(m, R + i * m, input));
        add(&doubled, dot(n, here, slope) + term);
        UNROLL for (int64_t i = 0; i < m; i++) {
            u[t * m + i] = input[i];
            unsound += 0.0 * input[i];
        }
        UNROLL for (int64_t i = 0; i < n; i++) {
            x[(t + 1) * n + i] = here[i] = state[i];
            p[t * n + i] = costate[i];
            unsound += 0.0 * costate[i];
        }
    }
    for (int64_t i = 0; i < n; i++)
        add(&doubled, here[i] * (dot(n, z->S + i * n, here) + (z->s ? 2.0 * z->s[i] : 0.0)));
    *J = 0.5 * (doubled.sum + doubled.lost);
    return !(unsound + 0.0 * *J == 0.0 && zero_if_finite(n, here) == 0.0);
}

LANES int64_t lq_rollout(const lq_problem *z, int64_t T, int64_t series, const double *x0,
                         int64_t alike, const double *K, const double *P, const double *k,
                         const double *v, double *x, double *u, double *p, double *J,
                         double *work)
{
#define CASE(N, M)                                                                                 \
    if (series == 1 && z->n == N && z->m == M)                                                     \
    return small_rollout(z, N, M, T, x0, alike, K, P, k, v, x, u, p, J)
    CASE(1, 1);
    CASE(2, 1);
    CASE(3, 1);
    CASE(4, 1);
    CASE(4, 2);
#undef CASE
#define CALL(n, m) rollouts(z, n, m, T, series, x0, alike, K, P, k, v, x, u, p, J, work)
    BY_SIZE(z->n, z->m, CALL);
#undef CALL
}

INLINE int64_t solves(const int64_t n, int64_t T, int64_t series, const double *A, int64_t A_step,
                      int64_t transpose, double *x)
{
    double apart = 0.0;
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
        apart += zero_if_finite((T + 1) * n, x);
    }
    return !(apart == 0.0);
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
