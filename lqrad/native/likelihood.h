/* The likelihood of a series and its adjoint, the score; lq.h says how all kernels are written. */
#ifndef LQRAD_LIKELIHOOD_H
#define LQRAD_LIKELIHOOD_H

#include <stdint.h>

/* The model x[t+1] = A x[t] + c + w, y[t] = C x[t] + v, with the covariances W of w and V of v, and
 * x[0] = m + M b + (0, P), where b (k) is to be estimated, with the prior (0, I) or without one.
 * A step is 0 where an array does not vary. */
typedef struct {
    int64_t n, ny, k, T;
    const double *A, *C, *W, *V, *c;
    int64_t A_step, C_step, W_step, V_step, c_step;
} series_model;

/* What the filter leaves for its adjoint, at each time: S (ny, n), L (ny, ny), e (ny), g (ny, k), and where
 * they are no null pointers the filtered x (n), M (n, k) and P (n, n). */
typedef struct {
    double *S, *L, *e, *g, *x, *M, *P;
} series_trace;

/* Gradients; those that are null pointers are left out. A step is 0 where they are to be summed up.
 * They are added to what is there. */
typedef struct {
    double *A, *C, *W, *V, *c, *d, *m0, *P0;
    int64_t A_step, C_step, W_step, V_step, c_step, d_step;
} series_score;

/* The filter at the times first, ..., last - 1 of 0, ..., T over y (T+1, ny), NaN where not observed:
 *
 *     L L' = C P C' + V          S = L^-1 C P          e = L^-1 (y - C x)     g = -L^-1 C M
 *     x <- A (x + S'e) + c       M <- A (M + S'g)      P <- A (P - S'S) A' + W
 *
 * in place, in x (n), M (n, k) and P (n, n). Orthogonal transformations add the rows [g, e] to the upper
 * triangle R (k+1, k+1), whose last column is what is to be solved for b, and whose last entry adds
 * up the squares that are left. log_determinant adds up 2 log det L. trace may be a null pointer.
 *
 * Subtractions lose digits. Returns t + 1 for the first time where a variance, of an innovation or of the
 * prediction that follows, is less than a thousandth of the terms that were subtracted on the way to it, or
 * where one is not positive, or not finite; 0 where there is none.
 * work holds 4 n n + 3 n ny + ny ny + 2 n k + ny k + 4 (n + ny + k + 1) doubles, index n n + n numbers.
 * Twin: smoothing.innovations.forward. */
int64_t loglik_forward(const series_model *model, int64_t first, int64_t last, const double *y,
                       double *x, double *M, double *P, double *R, double *log_determinant,
                       const series_trace *trace, double *work, int64_t *index);

/* Its adjoint, the times last - 1, ..., first, with q = A'p, Q = A'N A, where p and N (n, n) are those of
 * the prediction that follows, zero after T, x those smoothed, and K = S'L^-1:
 *
 *     u = L'^-1 (e - S q)     D = L'^-1 (I + S Q S') L^-1     p <- q + C'u     N <- (I-KC)'Q (I-KC) + C'F^-1 C
 *     A: p x' - N A (P - S'S)     c: p      W: 1/2 (p p' - N)       m0: p      P0: 1/2 (p p' - N)
 *     C: u x' - K'(I - Q (P - S'S))         V: 1/2 (u u' - D)       d: u
 *
 * with p and N before the step in A, c, W, and those after the last in m0, P0. Where there is a b, e and x
 * are those at its estimate, and pb (n, k), and u and x likewise, answer to b / R: they add
 * their squares and products. work and index are as large as above. Returns 0, or 1 where p or N is not
 * finite. Twin: smoothing.innovations.backward. */
int64_t loglik_backward(const series_model *model, int64_t first, int64_t last, const double *y,
                        const double *R, const double *b, const series_trace *trace, double *p,
                        double *pb, double *N, const series_score *score, double *work,
                        int64_t *index);

#endif
