/* The small loops of lqrad in C99: each function states its equations and has a twin in NumPy.
 *
 * All arrays are C-contiguous doubles; matrices are stored by rows. Nothing is allocated, nothing is
 * global, nothing is printed. A function that finds a number it cannot go on with says so by its value
 * and leaves the words to its twin, which runs then.
 *
 * Sums are taken in the order of the loops as they are written. Where a loop is spread over the lanes of
 * a processor, its results are separate sums, so that every machine gives the same bits.
 */
#ifndef LQRAD_LQ_H
#define LQRAD_LQ_H

#include <stdint.h>

/* A linear-quadratic problem:
 *
 *     J = sum_t ( 1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u )  +  1/2 x[T]'S x[T] + s'x[T]
 *     x[t+1] = A x[t] + B u[t] + c
 *
 * Each stage's matrix stands `*_step` doubles after that of the stage before: 0 where it does not vary.
 * M, c, q, r and s are null pointers where they are zero. At and Bt hold A' and B' where these do not
 * vary, which is faster, and are null pointers where they do. */
typedef struct {
    int64_t n, m;
    const double *A, *At, *B, *Bt, *Q, *R, *M, *c, *q, *r, *S, *s;
    int64_t A_step, B_step, Q_step, R_step, M_step, c_step, q_step, r_step;
} lq_problem;

/* The checksum of the sources that were compiled. */
int64_t lqrad_sources(void);

/* The cost of the inputs u (T, m) from x0 (n), and its gradient in them:
 *
 *     x[0] = x0             x[t+1] = A x[t] + B u[t] + c
 *     p[T-1] = S x[T] + s   p[t-1] = A'p[t] + Q x[t] + M u[t] + q
 *     g[t] = R u[t] + M'x[t] + r + B'p[t]
 *
 * for each of `series` series; x0 of the next stands x0_step doubles on (n, or 0 for all the same).
 * work holds (T+1) n + 4 n + m + 3 doubles; null where these are at most 2048. Returns 0, or 1 where J or g is not finite.
 * Twin: LQProblem.value_and_gradient. */
int64_t lq_gradient(const lq_problem *problem, int64_t T, int64_t series, const double *x0,
                    int64_t x0_step, const double *u, double *J, double *g, double *work);

/* Stages t = last-1, ..., first of the Riccati recursion, from P[last] on:
 *
 *     G = R + B'P[t+1]B     N = B'P[t+1]A + M'     K[t] = G^-1 N
 *     P[t] = Q + A'P[t+1]A - N'K[t]                L[t]L[t]' = unit G
 *
 * P (T+1, n, n), K (T, m, n), L (T, m, m); P[last] is symmetric, as all P[t] then are.
 * work holds 3 (n+m+6)(n+m+6) doubles. Returns 0, or t + 1 for the first stage whose G has a
 * pivot that may be no more than rounding errors, or `last` where P or K is not finite. Twin: linalg.riccati.recursion_of_P. */
int64_t lq_riccati(const lq_problem *problem, int64_t first, int64_t last, double unit, double *P,
                   double *K, double *L, double *work);

/* 1 where the last of the iterates P (count, n, n), which comes first, will change no more in the `left`
 * stages to come, of a closed loop F (n, n), else 0; count is at least 5. work holds 4 n n + n doubles.
 * Twin: linalg.settled.settled, which has the proof. */
int64_t lq_settled(int64_t n, int64_t count, int64_t left, const double *P, const double *F,
                   double *work);

/* The optimal trajectory from x0, in closed loop:
 *
 *     x[t+1] = (A - B K[t]) x[t] + c - B k[t]     u[t] = -K[t] x[t] - k[t]     p[t] = P[t+1] x[t+1] + v[t+1]
 *
 * and J (2, series), whose first row is the cost of x and u, for each of `series` series x0 (series, n). K[t] and P[t] are alike for t <= alike, and are held from there
 * on: alike is 0 where A or B varies. k and v are null pointers where they are zero. A - B K[t] is formed where
 * that costs less than B u[t]: then the states do not follow from the rounded inputs to the last bit. work holds n n + n + m doubles.
 * Returns 0, or 1 where a number is not finite. Twin: Riccati.rollout. */
int64_t lq_rollout(const lq_problem *problem, int64_t T, int64_t series, const double *x0,
                   int64_t alike, const double *K, const double *P, const double *k,
                   const double *v, double *x, double *u, double *p, double *J, double *work);

/* L x = f or L'x = f in place, with unit diagonal blocks and -A[t] below them:
 *
 *     x[0] = f[0],   x[t+1] = A[t] x[t] + f[t+1]        or, with transpose,
 *     x[T] = f[T],   x[t]   = A[t]'x[t+1] + f[t]
 *
 * for each of `series` series x (series, T+1, n). Forward with an A that does not vary, A' is given in its
 * place, which is faster. Returns 0, or 1 where x is not finite. Twin: linalg.banded.Bidiagonal.solve. */
int64_t bidiagonal_solve(int64_t n, int64_t T, int64_t series, const double *A, int64_t A_step,
                         int64_t transpose, double *x);

#endif
