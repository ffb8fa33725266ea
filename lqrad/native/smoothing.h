/* Filters in square roots, and the smoother of Rauch, Tung and Striebel; lq.h says how all loops are
 * written. The covariances of one filter, and of up to eight side by side, are the loops of roots.h. */
#ifndef LQRAD_SMOOTHING_H
#define LQRAD_SMOOTHING_H

#include <stdint.h>

#include "smoother.h"

/* Models x[t+1] = A x[t] + c + w e, y[t] = C x[t] + v e of series of T + 1 rows, with e ~ N(0, I), w w' = W
 * and v v' = V; a row of C that is zero, with a one in v alone, is of what was not observed. */
typedef struct {
    int64_t n, ny, T;
    stages A, C, v, V, w;
} filter_models;

/* The covariances of each of `groups` filters in roots, P[t] = S S' of the prediction and roots[t] of the
 * update, whose square is cov[t]:
 *
 *     [C S, v; S, 0] -> [factor, 0; K factor, roots[t]]       [A roots[t], w] -> [S of t+1, 0]
 *
 * by orthogonal transformations from the right that leave roots[t] full and S lower triangular, at the times
 * first, ..., last - 1 of 0, ..., T. S (groups, n, n) is a root of P[first] and becomes that of P[last], unless
 * last is T + 1. rounding[t] is what rounding leaves of a variance of P[t] that is zero, the diagonal of noise (groups, n, n), which is that
 * of P[first] and becomes that of P[last]. Arrays of all times have T + 1 of them. work holds
 * 8 (9 n n + 4 n ny + 3 ny ny + 2 (n + ny)^2) + 4 doubles. failed (groups) is 0, or t + 1 for the first time at which the
 * innovation's covariance is singular; nothing is found of that group from there on. Returns 0.
 * Twin: the loop of smoothing.covariance_filter. */
int64_t filter_covariances(const filter_models *models, int64_t groups, int64_t first, int64_t last,
                           double *S, double *noise, double *P, double *K, double *factor,
                           double *roots, double *cov, double *rounding, int64_t *failed,
                           double *work);

/* Filters of which K and factor have `held` stages, the last of them for all that follow, over the series
 * z (groups, many, T+1, ny) from x[0] = start (groups, many, n), starts `start_step` doubles apart:
 *
 *     innovation = z - C predicted    x = predicted + K innovation    predicted[t+1] = A x + c
 *     e = factor^-1 innovation
 *
 * c.first is a null pointer where c is zero. Returns 0, or 1 where a number overflows. */
int64_t filter_means(const filter_models *models, stages c, int64_t groups, int64_t many,
                     int64_t held, const double *K, const double *factor, const double *start,
                     int64_t start_step, const double *z, double *predicted, double *x,
                     double *innovations, double *e);

/* p (groups, many, T+1, n), of p[t-1] = L'p[t] + C'factor'^-1 e[t] with p[T] = 0 and L = A (I - K C); work
 * holds n + ny doubles. Returns 0, or 1 where a number overflows. */
int64_t filter_costates(const filter_models *models, int64_t groups, int64_t many, int64_t held,
                        const double *K, const double *factor, const double *e, double *p,
                        double *work);

/* The transposes of the gains J = roots[t] roots[t]'A'P[t+1]^-1 and of the X with X X' = cov[t] - J P[t+1] J', of
 * stages t < held, the roots having `roots_held` stages in each group:
 *
 *     [A S, w; S, 0] -> [U', 0; J U', X]    for S = roots[t]
 *
 * rounding (groups, held, n) is that of P[t+1]. failed (groups) is 0, or t + 1 for the first stage at which
 * a variance of P[t+1] is lost in it, or |U| |U^-1| exceeds most_condition, columns of U being scaled to one.
 * work holds 8 (8 n n + 2 n) + 4 doubles. Returns 0. Twin: smoothing.covariance_filter. */
int64_t rts_gains(const filter_models *models, int64_t groups, int64_t held, int64_t roots_held,
                  const double *roots, const double *rounding, double most_condition, double *gains,
                  double *X, int64_t *failed, double *work);

/* cov[t] = X X' + J cov[t+1] J' at the times last - 1, ..., first of (groups, T+1, n, n), of which gains and X
 * have `held` stages. R (groups, n, n), a root of cov[last], becomes one of cov[first]. work holds 32 n n + 4
 * doubles. Returns 0. */
int64_t rts_covariances(int64_t n, int64_t T, int64_t groups, int64_t held, int64_t first,
                        int64_t last, const double *gains, const double *X, double *R, double *cov,
                        double *work);

/* x[t] += J (x[t+1] - predicted[t+1]), for x and predicted (groups, many, T+1, n), backward. Returns 0. */
int64_t rts_means(int64_t n, int64_t T, int64_t groups, int64_t many, int64_t held,
                  const double *gains, const double *predicted, double *x);

#endif
