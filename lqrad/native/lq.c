/* The equations stand in lq.h. */
#include "lq.h"
#include "small.h"

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

INLINE int64_t sweep(const lq_problem *z, const int64_t n, const int64_t m, int64_t first,
                     int64_t last, const double unit, double *restrict P, double *restrict K,
                     double *restrict L, double *restrict work)
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
            const double root = sqrt(unit * D[j]);
            for (int64_t i = 0; i < j; i++)
                Lt[i * m + j] = 0.0;
            Lt[j * m + j] = root;
            for (int64_t i = j + 1; i < m; i++)
                Lt[i * m + j] *= root;
        }
    }
    return 0;
}

LANES int64_t lq_riccati(const lq_problem *z, int64_t first, int64_t last, double unit, double *P,
                         double *K, double *L, double *work)
{
#define CALL(n, m) sweep(z, n, m, first, last, unit, P, K, L, work)
    BY_SIZE(z->n, z->m, CALL);
#undef CALL
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
        if (t == 0 || held) /* F = A - B K */
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
            if (kt)
                for (int64_t i = 0; i < n; i++)
                    after[i] -= dot(m, B + i * m, kt);
            add_rows(n, n, F, xt, after);
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

LANES int64_t lq_rollout(const lq_problem *z, int64_t T, int64_t series, const double *x0,
                         int64_t alike, const double *K, const double *P, const double *k,
                         const double *v, double *x, double *u, double *p, double *J,
                         double *work)
{
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
