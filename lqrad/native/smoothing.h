/* The small loops of smoothing; lq.h says how all of them are written. */
#ifndef LQRAD_SMOOTHING_H
#define LQRAD_SMOOTHING_H

#include <stdint.h>

/* The filter's covariances in roots, P[t] = S S' of the prediction and roots[t] of the update:
 *
 *     [C S, v; S, 0] -> [factor, 0; K factor, roots[t]]       [A roots[t], w] -> [S of t+1, 0]
 *
 * by orthogonal transformations from the right, from S S' = root root' at t = 0, with v v' = V and
 * w w' = W. rounding[t] is what rounding leaves of a variance of P[t] that is zero. A step is 0 where an
 * array does not vary; all are C-contiguous. work holds 4 n n + 2 (n + ny)^2 doubles. Returns 0, or
 * t + 1 for the first time at which the innovation's covariance is singular.
 * Twin: the loop of smoothing.covariance_filter.CovarianceFilter. */
int64_t filter_covariances(int64_t n, int64_t ny, int64_t T, const double *A, int64_t A_step,
                           const double *C, int64_t C_step, const double *v, int64_t v_step,
                           const double *V, int64_t V_step, const double *w, int64_t w_step,
                           const double *root, double *P, double *K, double *factor,
                           double *roots, double *rounding, double *work);

#endif
