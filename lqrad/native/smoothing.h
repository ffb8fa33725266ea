/* The small loops of smoothing; lq.h says how all of them are written. */
#ifndef LQRAD_SMOOTHING_H
#define LQRAD_SMOOTHING_H

#include <stdint.h>

/* The filter's covariances in roots, P[t] = S S' of the prediction and roots[t] of the update:
 *
 *     [C S, v; S, 0] -> [factor, 0; K factor, roots[t]]       [A roots[t], w] -> [S of t+1, 0]
 *
 * by orthogonal transformations from the right, with v v' = V and w w' = W, at the times first, ...,
 * last - 1 of 0, ..., T. S (n, n) is a root of P[first], lower triangular unless first is 0, and becomes
 * that of P[last], unless last is T + 1. rounding[t] is what rounding leaves of a variance of P[t] that
 * is zero, the diagonal of noise (n, n), which is that of P[first] and becomes that of P[last]. A step is
 * 0 where an array does not vary; all are C-contiguous. work holds 2 n n + 2 (n + ny)^2 doubles. Returns
 * 0, or t + 1 for the first time at which the innovation's covariance is singular.
 * Twin: the loop of smoothing.covariance_filter. */
int64_t filter_covariances(int64_t n, int64_t ny, int64_t first, int64_t last, int64_t T,
                           const double *A, int64_t A_step, const double *C, int64_t C_step,
                           const double *v, int64_t v_step, const double *V, int64_t V_step,
                           const double *w, int64_t w_step, double *S, double *noise, double *P,
                           double *K, double *factor, double *roots, double *rounding,
                           double *work);

#endif
