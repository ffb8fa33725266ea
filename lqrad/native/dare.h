/* The algebraic Riccati equation of few states, whose solution takes as long as a few calls of NumPy. */
#ifndef LQRAD_DARE_H
#define LQRAD_DARE_H

#include <stdint.h>

/* A solution of
 *
 *     P = Q + A'PA - (A'PB + M) K      K = (R + B'PB)^-1 (B'PA + M')      F = A - B K
 *
 * and the numbers by which it is judged. All is done in the units in which the entries of A, B, Q and R are
 * nearest to one, by powers of two: P and K are in the user's units, F is in those. M (n, m) is a null
 * pointer where it is zero. From P = Q on, P - Q comes by doubling (Chu, Fan, Lin and Wang 2004):
 *
 *     W = I + G H     A <- A W^-1 A     G <- G + A W^-1 G A'     H <- H + A'H W^-1 A
 *
 * until A has vanished. Newton's method takes off the rounding errors: X = E + F'XF is added to P, by squaring F, as
 * long as that makes the first of these smaller, and it is above 2 eps:
 *
 *     max |E[i][j]| / sqrt(s[i] s[j])     E = Q - MK - K'M' + K'RK + F'PF - P     s[i] = (|A'PA| + |P| + |Q|)[i][i]
 *
 * with s no less than eps max s. `found` (3) holds max |E| / max s, the squarings after which |F|^2 <= eps, and
 * the least L[i][i]^2 / G[i][i] of L L' = G = R + B'PB. work holds 6 (n+m+1)^2 + 11 n n + m n + 2 (n+m+1) doubles.
 * Returns 0, or 1 where units lie far apart, a factor is missing or F does not vanish. Twin: lq.dare._by_blas. */
int64_t dare_solve(int64_t n, int64_t m, const double *A, const double *B, const double *Q,
                   const double *R, const double *M, double *P, double *K, double *F,
                   double *found, double *work);

#endif
