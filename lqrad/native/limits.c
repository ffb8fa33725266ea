/* Receding horizons within limits, as `limits.h` states them. */
#include "limits.h"
#include "small.h"

/* y'z in four sums. */
INLINE double product(int64_t count, const double *restrict y, const double *restrict z)
{
    double sums[4] = {0.0, 0.0, 0.0, 0.0};
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (int64_t k = 0; k < 4; k++)
            sums[k] += y[i + k] * z[i + k];
    for (; i < count; i++)
        sums[0] += y[i] * z[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* The row i of S. */
INLINE const double *products(const condensed_maps *z, int64_t i)
{
    double *S = z->S + i * z->rows;
    if (!z->made[i]) {
        for (int64_t j = 0; j < z->rows; j++)
            S[j] = product(z->inputs, z->Y + i * z->inputs, z->Y + j * z->inputs);
        z->made[i] = 1;
    }
    return S;
}

/* The rows at work, the factor of their part of S by rows, their multipliers and their limits. */
typedef struct {
    int64_t count, most, index[MOST_AT_WORK];
    double *y, *b, *L;
} working;

/* The rows at work that do not depend on those before, and their factor, which is kept as far as these
 * are the same. Returns 1 where they are too many. */
INLINE int64_t factor(const condensed_maps *z, int8_t *state, working *at)
{
    int64_t count = 0, same = 1;
    for (int64_t i = 0; i < z->rows; i++) {
        if (!state[i])
            continue;
        if (same && count < at->count && at->index[count] == i) {
            count++;
            continue;
        }
        same = 0;
        if (count == at->most) {
            if (at->most < z->inputs)
                return 1;
            state[i] = 0; /* as many rows as dimensions leave nothing that does not depend on them */
            continue;
        }
        const double *S = products(z, i);
        double *row = at->L + count * (count + 1) / 2;
        for (int64_t j = 0; j < count; j++) {
            const double *other = at->L + j * (j + 1) / 2;
            row[j] = (S[at->index[j]] - product(j, row, other)) / other[j];
        }
        const double pivot = S[i] - product(count, row, row);
        if (!(pivot > z->dependent)) {
            state[i] = 0;
            continue;
        }
        row[count] = sqrt(pivot);
        at->index[count++] = i;
    }
    at->count = count;
    return 0;
}

/* y of L L'y = y, in place. */
INLINE void substitute(const working *at, double *y)
{
    for (int64_t i = 0; i < at->count; i++) {
        const double *row = at->L + i * (i + 1) / 2;
        y[i] = (y[i] - product(i, row, y)) / row[i];
    }
    for (int64_t i = at->count - 1; i >= 0; i--) {
        const double *row = at->L + i * (i + 1) / 2;
        y[i] /= row[i];
        for (int64_t j = 0; j < i; j++)
            y[j] -= row[j] * y[i];
    }
}

/* The multipliers of rows at work, and what these make of all rows. */
INLINE void multipliers(const condensed_maps *z, const condensed_bounds *limits, const int8_t *state,
                        const double *g0, double *g, working *at)
{
    for (int64_t j = 0; j < at->count; j++) {
        const int64_t i = at->index[j];
        at->b[j] = state[i] > 0 ? limits->high[i] : limits->low[i];
        at->y[j] = g0[i] - at->b[j];
    }
    substitute(at, at->y);
    memcpy(g, g0, sizeof(double) * (size_t)z->rows);
    for (int64_t j = 0; j < at->count; j++) {
        const double *restrict S = z->S + at->index[j] * z->rows;
        const double y = at->y[j];
        for (int64_t i = 0; i < z->rows; i++)
            g[i] -= y * S[i];
    }
}

/* What a row at work with the multiplier y is to be, tight or not: an equation is turned round. */
INLINE int8_t kept(const condensed_bounds *limits, const int8_t *state, int64_t i, double y)
{
    if (y * state[i] > 0)
        return state[i];
    return limits->low[i] == limits->high[i] ? (int8_t)-state[i] : 0;
}

/* Steps of one row, from rows at work of which some may have to be taken away; how many steps there were
 * in all, or -1. moves holds at->most doubles. */
INLINE int64_t one_by_one(const condensed_maps *z, const condensed_bounds *limits, double far,
                          const double *g0, int64_t iterations, int64_t max_iter, int8_t *state,
                          double *g, working *at, double *moves)
{
    const double *low = limits->low, *high = limits->high;
    for (;;) {
        if (factor(z, state, at))
            return -1;
        multipliers(z, limits, state, g0, g, at);
        int64_t lost = 0;
        for (int64_t j = 0; j < at->count; j++)
            if (!kept(limits, state, at->index[j], at->y[j])) {
                state[at->index[j]] = 0;
                lost = 1;
            }
        if (lost)
            continue;
        int64_t row = -1;
        double most = 0.0;
        for (int64_t i = 0; i < z->rows; i++) {
            const double slack = limits->slack[i] + limits->beside[i] * far;
            const double above = g[i] - high[i], below = low[i] - g[i];
            const double beyond = (above > below ? above : below) - slack;
            if (!state[i] && beyond > most) {
                most = beyond;
                row = i;
            }
        }
        if (row < 0)
            return iterations;
        const int8_t side = g[row] > high[row] ? 1 : -1;
        const double *S = products(z, row), limit = side > 0 ? high[row] : low[row];
        double moved = 0.0;
        for (;;) {
            if (++iterations > max_iter)
                return -1;
            for (int64_t j = 0; j < at->count; j++)
                moves[j] = S[at->index[j]];
            substitute(at, moves);
            double length = S[row], more = g0[row] - limit, stop = INFINITY;
            int64_t gone = -1;
            for (int64_t j = 0; j < at->count; j++) {
                const int64_t i = at->index[j];
                const double falls = side * state[i] * moves[j];
                length -= S[i] * moves[j];
                more -= S[i] * at->y[j];
                if (falls > z->dependent && low[i] != high[i] && state[i] * at->y[j] / falls < stop) {
                    stop = state[i] * at->y[j] / falls;
                    gone = j;
                }
            }
            more = side * more - moved;
            const double full = length > z->dependent ? more / length : INFINITY;
            if (full <= stop) {
                if (full == INFINITY)
                    return -1; /* no w keeps these limits, but that is to be proven */
                state[row] = side;
                break;
            }
            moved += stop;
            for (int64_t j = 0, next = 0; j < at->count; j++)
                if (j != gone)
                    at->y[next++] = at->y[j] - stop * side * moves[j];
            const int64_t left = at->count - 1;
            state[at->index[gone]] = 0;
            if (factor(z, state, at) || at->count != left)
                return -1;
        }
    }
}

/* The states of rows that are as they should be; how often they were changed, or -1. */
INLINE int64_t search(const condensed_maps *z, const condensed_bounds *limits, double far,
                      const double *g0, int64_t max_iter, int8_t *state, double *g, working *at,
                      double *moves)
{
    int64_t least = z->rows + 1, patience = z->patience;
    at->count = 0;
    for (int64_t iterations = 1; iterations <= max_iter; iterations++) {
        if (factor(z, state, at))
            return -1;
        multipliers(z, limits, state, g0, g, at);
        int64_t wrong = 0;
        for (int64_t pass = 0; pass < 2; pass++) {
            /* First they are counted, then they are changed. */
            for (int64_t i = 0, j = 0; i < z->rows; i++) {
                const double slack = limits->slack[i] + limits->beside[i] * far;
                int8_t new = (int8_t)((g[i] > limits->high[i] + slack) - (g[i] < limits->low[i] - slack));
                if (j < at->count && at->index[j] == i)
                    new = kept(limits, state, i, at->y[j++]);
                if (pass)
                    state[i] = new;
                else
                    wrong += new != state[i];
            }
            if (pass)
                break;
            if (!wrong)
                return iterations;
            if (wrong < least) {
                least = wrong;
                patience = z->patience;
            } else if (patience) {
                patience--;
            } else {
                return one_by_one(z, limits, far, g0, iterations, max_iter, state, g, at, moves);
            }
        }
    }
    return -1;
}

LANES int64_t condensed_step(const condensed_maps *z, const condensed_bounds *limits,
                             const double *x0, const double *offset, int64_t max_iter,
                             const int8_t *before, int8_t *state, double *found)
{
    const int64_t n = z->n, m = z->m, rows = z->rows, width = m + rows;
    const double tol = limits->tol;
    double *u = found, *y = u + m, *first = y + rows, *g0 = first + m, *g = g0 + rows, cost = 0.0, rest = 0.0, off = 0.0;
    copy_or_zero(width, offset, first);
    add_times(n, width, z->map, x0, first);
    if (offset) {
        const double *more = offset + width;
        cost = more[n] + dot(n, more, x0);
        rest = more[n + 1];
        off = more[n + 2];
    }
    for (int64_t i = 0; i < n; i++) {
        cost += 0.5 * x0[i] * dot(n, z->P + i * n, x0);
        rest += z->errors[i] * fabs(x0[i]);
        off += z->errors[n + i] * fabs(x0[i]);
    }
    memcpy(u, first, sizeof(double) * (size_t)m);
    int64_t beyond = 0, stuck = 0;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t out = (g0[i] > limits->high[i]) | (g0[i] < limits->low[i]);
        beyond |= out;
        stuck |= out & !z->moved[i];
    }
    /* Also false where something is not finite. */
    const int64_t within = 0.5 * rest * rest <= tol * fabs(cost);
    if (!within || stuck)
        return -1;
    if (!beyond) {
        memset(state, 0, (size_t)rows);
        return 0;
    }
    int64_t started = 0;
    if (before)
        for (int64_t i = 0; i < rows; i++) {
            state[i] = z->ahead[i] < 0 ? 0 : before[z->ahead[i]];
            if (isinf(state[i] > 0 ? limits->high[i] : limits->low[i]))
                state[i] = 0;
            started |= state[i];
        }
    if (!started)
        for (int64_t i = 0; i < rows; i++)
            state[i] = (int8_t)((g0[i] > limits->high[i]) - (g0[i] < limits->low[i]));
    int64_t most = z->inputs < rows ? z->inputs : rows;
    most = most < MOST_AT_WORK ? most : MOST_AT_WORK;
    const double far = sqrt(2.0 * fabs(cost));
    working at = {.most = most, .y = g + rows};
    at.b = at.y + most;
    double *moves = at.b + most;
    at.L = moves + most;
    const int64_t iterations = search(z, limits, far, g0, max_iter, state, g, &at, moves);
    if (iterations < 0)
        return -1;

    double pull = 0.0, gap = 0.0, better = cost, smallest = INFINITY;
    for (int64_t j = 0; j < at.count; j++)
        pull += fabs(at.y[j]);
    off += z->most_rounding * pull;
    for (int64_t j = 0; j < at.count; j++) {
        const int64_t i = at.index[j];
        gap += fabs(at.y[j]) * (fabs(at.b[j] - g[i]) + off);
        rest += fabs(at.y[j]) * z->rounding[i];
        better += 0.5 * at.y[j] * (g0[i] - g[i]);
        for (int64_t k = 0; k < m; k++)
            u[k] -= at.y[j] * z->first[i * m + k];
    }
    for (int64_t i = 0; i < rows; i++) {
        const double slack = limits->slack[i] + limits->beside[i] * far;
        smallest = slack > 0.0 && slack < smallest ? slack : smallest;
    }
    gap += 0.5 * rest * rest;
    if (!(gap <= tol * (fabs(cost) + fabs(better)) && off <= smallest))
        return -1;
    memset(y, 0, sizeof(double) * (size_t)rows);
    for (int64_t j = 0; j < at.count; j++)
        y[at.index[j]] = at.y[j];
    return iterations;
}

int64_t condensed_steps(const condensed_maps *maps, const condensed_bounds *bounds, int64_t runs,
                        const double *x0, const double *offset, int64_t max_iter,
                        const int8_t *before, int8_t *state, double *u, int64_t *iterations,
                        double *found)
{
    const int64_t n = maps->n, m = maps->m, rows = maps->rows;
    int64_t failed = 0;
    for (int64_t run = 0; run < runs; run++) {
        iterations[run] = condensed_step(maps, bounds, x0 + run * n, offset, max_iter,
                                         before ? before + run * rows : 0, state + run * rows, found);
        memcpy(u + run * m, found, sizeof(double) * (size_t)m);
        failed += iterations[run] < 0;
    }
    return failed;
}
