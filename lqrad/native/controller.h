/* A linear controller as it runs, alone and with its plant: see lqrad/design/controller.py. */
#ifndef LQRAD_CONTROLLER_H
#define LQRAD_CONTROLLER_H

#include <stdint.h>

/* The most entries of any vector. */
enum { MOST_ENTRIES = 40 };

/* n states, m inputs, ny measured and nr tracked outputs, k integrators (0 or nr). With the memory x (n),
 * z (k), and where predicts is 0
 *
 *     x_bar  = x + L (y - C x - D u)
 *     wanted = F r - K_i z - K x_bar          and of x in the place of x_bar where predicts is not 0
 *     u      = clip(wanted, low, high)
 *     z     += E y + N u - r                  but 0 where this pushes an input further beyond its limit
 *     x      = A x_bar + B u
 *
 * Every matrix is transposed, so that its columns are read in order: AB = [A B]' (n + m, n),
 * C = -C' (n, ny), D = -D' (m, ny) or null, L' (ny, n), W = [F -K_i -K]' (nr + k + n, m), E' (ny, k),
 * N' (m, k), and K_i (m, k). */
typedef struct {
    int64_t n, m, ny, nr, k, predicts;
    const double *AB, *C, *D, *L, *W, *E, *N, *K_i, *low, *high;
} linear_controller;

/* One step of many runs: u (runs, m), x_next (runs, n) and z_next (runs, k) from y (runs, ny), x (runs, n)
 * and z (runs, k). r is null for zero, or its runs are r_step apart. Each sum has one order, whatever the
 * number of runs. Returns 1 where a number is not finite. Twin: Controller.step. */
int64_t controller_step(const linear_controller *c, int64_t runs, const double *y, const double *r,
                        int64_t r_step, const double *x, const double *z, double *u, double *x_next,
                        double *z_next);

/* x[t+1] = A x[t] + B v[t] + w[t] and y[t] = C x[t] + D v[t] + e[t], where v[t] = clip(u[t - lag], low,
 * high): AB = [A B]' (n + m, n), C' (n, ny), D' (m, ny) or null, and w (T, runs, n), e (T, runs, ny) or
 * null. */
typedef struct {
    int64_t n, lag;
    const double *AB, *C, *D, *low, *high, *w, *e;
} plant_in_loop;

/* T steps of a controller with its plant, from x[0] and a memory of zeros, r (T, nr) or null:
 * x (T + 1, runs, n), y (T, runs, ny), v (T, runs, m) and the controller's inputs u (lag + T, runs, m),
 * of which the first lag are given. Returns 1 where a number of the controller is not finite. Twin:
 * simulate_closed_loop. */
int64_t controller_loop(const linear_controller *c, const plant_in_loop *plant, int64_t T, int64_t runs,
                        const double *r, double *x, double *y, double *v, double *u);

#endif
