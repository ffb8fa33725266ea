/* The normal equations of smoothing; lq.h says how all loops are written. */
#ifndef LQRAD_SMOOTHER_H
#define LQRAD_SMOOTHER_H

#include <stdint.h>

/* A matrix or a vector of each group of series at each of its stages, `group` and `step` doubles after
 * that of the group and of the stage before: 0 where it is shared, or does not vary. */
typedef struct {
    const double *first;
    int64_t group, step;
} stages;

static inline const double *stage(stages s, int64_t group, int64_t t)
{
    return s.first + group * s.group + t * s.step;
}

/* H x = g of series of T + 1 rows, with w = root_W (x[t+1] - A x[t] - c) of unit variance, root_W'root_W
 * = W^-1, and the whitened rows of the outputs, C x = root_V z, of each of the patterns of gaps:
 *
 *     H[t, t] = C'C + W^-1 [t > 0] + A'W^-1 A [t < T] + P0^-1 [t = 0]      H[t+1, t] = -W^-1 A
 *
 * Here information = C'C, precision = W^-1, step = A'W^-1 A, link = -W^-1 A, and P0^-1 = prior'prior, zero
 * where there is no prior. pattern (groups, T+1) says which of C (ny, n), root_V (ny, ny) and information
 * is that of a row. c.first is a null pointer where c is zero. */
typedef struct {
    int64_t n, ny, T;
    stages A, c, W, root_W, precision, step, link, prior, start, m0;
    const double *C, *root_V, *information;
    const int64_t *pattern;
} normal_equations;

/* The smoothed series z (groups, many, T+1, ny), NaN nowhere and zero where nothing was observed: states
 * x (groups, many, T+1, n), costates p (groups, many, T, n), and what the log-likelihood is made of,
 *
 *     cost = |prior (x[0] - m0)|^2 + sum |root_V z - C x|^2 + sum p'W p
 *     log_determinant (groups) = log det H
 *
 * by the block Cholesky factor U'U = H[t, t] - Y[t-1]'Y[t-1], U'Y = H[t+1, t]', which all series of a group
 * share. loss (groups) is the relative error with which a constant state, 1 / sqrt(mean diagonal of H),
 * comes back from its right-hand side; infinite where H is not positive definite or a number is not
 * finite, and where it is more than most_loss nothing else is found. Where it is more than no_loss, one
 * step of refinement follows; so it does where the cost loses more than that part of itself, and of the
 * number of states, in the rounding of what x is subtracted from. Where even the refined cost loses more
 * than most_loss for a series, loss is infinite.
 *
 * Z (groups, T+1, n, n) and X (groups, T, n, n) are the blocks (t, t) and (t+1, t) of the inverse of H; null
 * pointers where they are not asked for:
 *
 *     X[t] = -Z[t+1] G     Z[t] = (U'U)^-1 + G'Z[t+1] G     G = Y'U'^-1
 *
 * Blocks of the factor and of the inverse that repeat but for rounding are found once, where nothing
 * varies. work holds (T+1) (2 n n + 2 n + ny) + 5 n n + 8 n + ny doubles, block T + 1 integers.
 * Returns 0. Twin: smoothing.normal_equations. */
int64_t smooth_series(const normal_equations *equations, int64_t groups, int64_t many,
                      const double *z, double no_loss, double most_loss, double *x, double *p,
                      double *loss, double *cost, double *log_determinant, double *Z, double *X,
                      double *work, int64_t *block);

#endif
