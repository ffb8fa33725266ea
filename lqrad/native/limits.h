/* Receding horizons within limits, in condensed numbers: see lqrad/lq/condensed.py. */
#ifndef LQRAD_LIMITS_H
#define LQRAD_LIMITS_H

#include <stdint.h>

/* The most rows at work. */
enum { MOST_AT_WORK = 160 };

/* The maps of a problem with n states, m inputs at a time, `inputs` over its horizon, and `rows` rows
 * that have limits. map (n, m + rows) is that of the first input, and behind it of the rows, transposed;
 * P (n, n); errors (2, n); Y (rows, inputs), of norm one; first (rows, m); rounding (rows), of which
 * most_rounding is the largest; moved and made (rows) are 0 or 1; ahead (rows) is where each row stands
 * a stage later, or -1. S (rows, rows) holds Y Y' in the rows that are made; more are made as they are
 * needed. price (rows) is infinite where a row is hard, and give (rows) what a unit of its multiplier past
 * the price moves its limit, infinite for any; priced tells whether a row is not hard. */
typedef struct {
    int64_t n, m, inputs, rows;
    const double *map, *P, *errors, *Y, *first, *rounding;
    const int64_t *ahead;
    const uint8_t *moved;
    uint8_t *made;
    double *S;
    const double *price, *give;
    double most_rounding, dependent;
    int64_t patience, priced;
} condensed_maps;

/* Limits (rows) of which some are infinite, and slacks, slack + beside sqrt(2 J0); the relative gap that is
 * to be proven. */
typedef struct {
    const double *low, *high, *slack, *beside;
    double tol;
} condensed_bounds;

/* The first input of the cheapest trajectory within limits from x0 (n), the multipliers of rows, and their
 * states (rows): 0, or the side that a row is at, 1 or -1, and twice that where it is past its price. They
 * begin with those of `before` (rows) a stage later, if that is not null. offset is null, or what is added
 * for x0 = 0: to the first input and the rows (m + rows), to the slope of the cost (n), to the cost and to
 * the two errors (3). found begins with the input (m) and the multipliers (rows), and goes on with room for
 * work: in all 2 m + 3 rows + k(k+1)/2 + 3 k + (rows + 7)/8 doubles, k the smallest of rows, MOST_AT_WORK
 * and, where no row has a price, inputs. Returns how often states were changed; 0 where nothing is at work,
 * and the multipliers are not set; -1 where there is no answer that is proven. Twin: Condensed.step. */
int64_t condensed_step(const condensed_maps *maps, const condensed_bounds *bounds, const double *x0,
                       const double *offset, int64_t max_iter, const int8_t *before, int8_t *state,
                       double *found);

/* The same for x0 (runs, n), before and state (runs, rows), iterations (runs), and u (runs, m). found is
 * that of one run. Returns how many have no answer. */
int64_t condensed_steps(const condensed_maps *maps, const condensed_bounds *bounds, int64_t runs,
                        const double *x0, const double *offset, int64_t max_iter,
                        const int8_t *before, int8_t *state, double *u, int64_t *iterations,
                        double *found);

#endif
