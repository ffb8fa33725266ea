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
    int8_t state[MOST_AT_WORK];
    double *y, *b, *L;
} working;

INLINE int8_t side_of(int8_t state)
{
    return (int8_t)((state > 0) - (state < 0));
}

/* Whether a row is past its price, and whether its multiplier is that. */
INLINE int64_t is_past(int8_t state)
{
    return state > 1 || state < -1;
}

INLINE int64_t is_held(const condensed_maps *z, const int8_t *state, int64_t i)
{
    return is_past(state[i]) && isinf(z->give[i]);
}

/* The rows of equations that do not depend on those before, hard ones first, and their factor, which is
 * kept as far as these are the same. Returns 1 where they are too many. */
INLINE int64_t factor(const condensed_maps *z, int8_t *state, working *at)
{
    int64_t count = 0, same = 1;
    for (int64_t place = 0; place < (1 + z->priced) * z->rows; place++) {
        const int64_t i = place < z->rows ? place : place - z->rows;
        if (!state[i] || (place < z->rows) != isinf(z->price[i]) || is_held(z, state, i))
            continue;
        if (same && count < at->count && at->index[count] == i && at->state[count] == state[i]) {
            count++;
            continue;
        }
        same = 0;
        if (count == at->most) {
            if (z->priced || at->most < z->inputs)
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
        double pivot = S[i] - product(count, row, row);
        if (!is_past(state[i]) && !(pivot > z->dependent)) /* a row with a price has no choice but to give way */
            state[i] = isinf(z->price[i]) ? 0 : (int8_t)(2 * state[i]);
        if (!state[i] || is_held(z, state, i))
            continue;
        if (is_past(state[i]))
            pivot += z->give[i];
        if (!(pivot > z->dependent)) {
            state[i] = 0;
            continue;
        }
        row[count] = sqrt(pivot);
        at->state[count] = state[i];
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

INLINE void take_away(const condensed_maps *z, int64_t row, double y, double *restrict g)
{
    const double *restrict S = products(z, row);
    for (int64_t i = 0; i < z->rows; i++)
        g[i] -= y * S[i];
}

/* The multipliers of rows of equations, what these and held rows make of all rows, and what the first are
 * to be. */
INLINE void multipliers(const condensed_maps *z, const condensed_bounds *limits, const int8_t *state,
                        const double *g0, double *g, working *at)
{
    memcpy(g, g0, sizeof(double) * (size_t)z->rows);
    if (z->priced)
        for (int64_t i = 0; i < z->rows; i++)
            if (is_held(z, state, i))
                take_away(z, i, side_of(state[i]) * z->price[i], g);
    for (int64_t j = 0; j < at->count; j++) {
        const int64_t i = at->index[j];
        at->b[j] = state[i] > 0 ? limits->high[i] : limits->low[i];
        if (is_past(state[i]))
            at->b[j] -= z->give[i] * side_of(state[i]) * z->price[i];
        at->y[j] = g[i] - at->b[j];
    }
    substitute(at, at->y);
    for (int64_t j = 0; j < at->count; j++) {
        const int64_t i = at->index[j];
        take_away(z, i, at->y[j], g);
        if (is_past(state[i]))
            at->b[j] += z->give[i] * at->y[j];
    }
}

/* What a row of an equation with the multiplier y is to be: one that is fixed is turned round. */
INLINE int8_t kept(const condensed_maps *z, const condensed_bounds *limits, const int8_t *state, int64_t i,
                   double y)
{
    const int8_t side = side_of(state[i]);
    if (y * side > z->price[i])
        return (int8_t)(2 * side);
    if (y * side > 0 || (is_past(state[i]) && z->price[i] > 0))
        return side;
    return limits->low[i] == limits->high[i] ? (int8_t)-side : 0;
}

/* How far a row is beyond the limit on its side. */
INLINE double beyond_limit(const condensed_bounds *limits, const int8_t *state, int64_t i, const double *g)
{
    return state[i] > 0 ? g[i] - limits->high[i] : limits->low[i] - g[i];
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
            if (!kept(z, limits, state, at->index[j], at->y[j])) {
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

/* The states of rows that are as they should be; how often they were changed, or -1. wanted holds rows. */
INLINE int64_t search(const condensed_maps *z, const condensed_bounds *limits, double far,
                      const double *g0, int64_t max_iter, int8_t *state, int8_t *wanted, double *g,
                      working *at, double *moves)
{
    int64_t least = z->rows + 1, patience = z->patience;
    at->count = 0;
    for (int64_t iterations = 1; iterations <= max_iter; iterations++) {
        memcpy(wanted, state, (size_t)z->rows);
        if (factor(z, state, at))
            return -1;
        multipliers(z, limits, state, g0, g, at);
        int64_t wrong = 0;
        for (int64_t i = 0; i < z->rows; i++) {
            const double slack = limits->slack[i] + limits->beside[i] * far;
            const int8_t forced = state[i] != wanted[i];
            wanted[i] = (int8_t)((g[i] > limits->high[i] + slack) - (g[i] < limits->low[i] - slack));
            /* Within its limit a held row may be tight, but for one that the others leave no choice. */
            if (is_held(z, state, i))
                wanted[i] = beyond_limit(limits, state, i, g) > 0 ? state[i] : forced ? 0 : side_of(state[i]);
        }
        for (int64_t j = 0; j < at->count; j++) {
            const int64_t i = at->index[j];
            wanted[i] = kept(z, limits, state, i, at->y[j]);
        }
        for (int64_t i = 0; i < z->rows; i++)
            wrong += wanted[i] != state[i];
        if (!wrong)
            return iterations;
        if (wrong < least) {
            least = wrong;
            patience = z->patience;
        } else if (patience) {
            patience--;
        } else {
            return z->priced ? -1 : one_by_one(z, limits, far, g0, iterations, max_iter, state, g, at, moves);
        }
        memcpy(state, wanted, (size_t)z->rows);
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
    /* Rows that give way do not depend on others. */
    int64_t most = z->inputs < rows && !z->priced ? z->inputs : rows;
    most = most < MOST_AT_WORK ? most : MOST_AT_WORK;
    const double far = sqrt(2.0 * fabs(cost));
    working at = {.most = most, .y = g + rows};
    at.b = at.y + most;
    double *moves = at.b + most;
    at.L = moves + most;
    int8_t *wanted = (int8_t *)(at.L + most * (most + 1) / 2);
    const int64_t iterations = search(z, limits, far, g0, max_iter, state, wanted, g, &at, moves);
    if (iterations < 0)
        return -1;

    double pull = 0.0, gap = 0.0, better = cost, smallest = INFINITY;
    memset(y, 0, sizeof(double) * (size_t)rows);
    for (int64_t j = 0; j < at.count; j++) {
        const int64_t i = at.index[j];
        y[i] = at.y[j];
        gap += fabs(y[i]) * fabs(at.b[j] - g[i]);
    }
    for (int64_t i = 0; i < rows; i++) {
        if (is_held(z, state, i))
            y[i] = side_of(state[i]) * z->price[i];
        pull += fabs(y[i]);
    }
    off += z->most_rounding * pull;
    for (int64_t i = 0; i < rows; i++) {
        if (y[i] == 0.0)
            continue;
        rest += fabs(y[i]) * z->rounding[i];
        better += 0.5 * y[i] * (g0[i] - g[i]);
        for (int64_t k = 0; k < m; k++)
            u[k] -= y[i] * z->first[i * m + k];
    }
    gap += pull * off;
    for (int64_t i = 0; i < rows; i++) {
        const double slack = limits->slack[i] + limits->beside[i] * far;
        smallest = slack > 0.0 && slack < smallest ? slack : smallest;
    }
    gap += 0.5 * rest * rest;
    if (!(gap <= tol * (fabs(cost) + fabs(better)) && off <= smallest))
        return -1;
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
