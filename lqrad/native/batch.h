/* Batches of linear-quadratic problems of the same sizes, whose matrices differ: some problems are
 * abreast in the lanes of the processor, each in lanes of its own.
 *
 * As in lq.h, arrays are C-contiguous doubles, nothing is allocated, and twins in NumPy have the words. */
#ifndef LQRAD_BATCH_H
#define LQRAD_BATCH_H

#include <stdint.h>

/* An array of b problems: that of the next problem stands `next` doubles on, 0 where all share it, and that
 * of the next stage `step` doubles on, 0 where it does not vary. A null pointer where it is zero. */
typedef struct {
    const double *at;
    int64_t next, step;
} batch_array;

/* J and the dynamics of each are those of lq.h; M, c, q, r and s may be zero. */
typedef struct {
    int64_t b, n, m;
    batch_array A, B, Q, R, M, c, q, r, S, s;
} lq_batch;

/* The doubles of work that these functions need for n states, m inputs and T stages. */
int64_t batch_work(int64_t n, int64_t m, int64_t T);

/* For each problem the cost of its inputs u (b, T, m) from x0 (b, n), and its gradient in them:
 *
 *     x[0] = x0             x[t+1] = A x[t] + B u[t] + c
 *     p[T-1] = S x[T] + s   p[t-1] = A'p[t] + Q x[t] + M u[t] + q
 *     g[t] = R u[t] + M'x[t] + r + B'p[t]
 *
 * J (b), g (b, T, m). Numbers that overflow are left in them. Returns 0. Twin: LQBatch.value_and_gradient. */
int64_t batch_gradient(const lq_batch *batch, int64_t T, const double *x0, const double *u, double *J,
                       double *g, double *work);

/* For each problem the Riccati recursion, backward from P[T] = S, v[T] = s, w[T] = 0: with e = v[t+1] + P[t+1]c
 *
 *     G = R + B'P[t+1]B     N = B'P[t+1]A + M'     K[t] = G^-1 N     P[t] = Q + A'P[t+1]A - N'K[t]
 *     h = B'e + r           k[t] = G^-1 h          v[t] = q + A'e - K[t]'h
 *     w[t] = w[t+1] + 1/2 c'(v[t+1] + e) - 1/2 k[t]'h
 *
 * P (b, T+1, n, n), K (b, T, m, n); and where `linear` is not zero k (b, T, m), v (b, T+1, n), w (b, T+1).
 * doubtful (b) becomes 1 for a problem whose numbers are not finite, one of whose G has a pivot that is no
 * larger than rounding errors, where a diagonal entry of a P[t] is what is left of terms a thousand times
 * larger, or whose P[0] is not semidefinite to rounding errors; and 0 for the others. Returns 0.
 * Twin: linalg.riccati_batch.run_recursions. */
int64_t batch_riccati(const lq_batch *batch, int64_t T, int64_t linear, double *P, double *K, double *k,
                      double *v, double *w, int64_t *doubtful, double *work);

/* For each problem the optimal trajectory from x0 (b, n), in closed loop:
 *
 *     x[t+1] = (A - B K[t]) x[t] + c - B k[t]     u[t] = -K[t] x[t] - k[t]     p[t] = P[t+1] x[t+1] + v[t+1]
 *
 * x (b, T+1, n), u (b, T, m), p (b, T, n). Numbers that overflow are left in them. Returns 0.
 * Twin: RiccatiBatch.rollout. */
int64_t batch_rollout(const lq_batch *batch, int64_t T, const double *x0, const double *K, const double *k,
                      const double *P, const double *v, double *x, double *u, double *p, double *work);

#endif
