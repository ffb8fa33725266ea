/* Every kernel on arrays of just their size, of random sizes with zero among them: the sanitizers of the
 * compiler see a read or a write beside one. Prints how many calls were made. */
#include "batch.h"
#include "controller.h"
#include "dare.h"
#include "limits.h"
#include "likelihood.h"
#include "lq.h"
#include "smoother.h"
#include "smoothing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double *doubles(int64_t count)
{
    double *array = malloc(sizeof(double) * (size_t)count);
    for (int64_t i = 0; i < count; i++)
        array[i] = (double)rand() / RAND_MAX - 0.5;
    return array;
}

/* A matrix of random numbers plus `diagonal` on its diagonal, at each of `stages` stages. */
static double *matrices(int64_t stages, int64_t n, double diagonal)
{
    double *array = doubles(stages * n * n);
    for (int64_t t = 0; t < stages; t++)
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < i; j++)
                array[(t * n + i) * n + j] = array[(t * n + j) * n + i];
            array[(t * n + i) * n + i] += diagonal;
        }
    return array;
}

/* An array of b problems: shared or not, varying over T stages or not, or zero. */
static batch_array array_of(int64_t b, int64_t T, int64_t count, double diagonal, int may_vary)
{
    const int64_t problems = rand() % 2 ? b : 1, stages = may_vary && rand() % 2 ? T : 1;
    const int64_t n = diagonal > 0.0 ? (int64_t)(sqrt((double)count) + 0.5) : 1;
    batch_array z = {0};
    if (!problems || !stages)
        return z;
    z.at = diagonal > 0.0 ? matrices(problems * stages, n, diagonal) : doubles(problems * stages * count);
    z.step = stages > 1 ? count : 0;
    z.next = problems > 1 ? stages * count : 0;
    return z;
}

static void batches(void)
{
    const int64_t b = rand() % 20, n = 1 + rand() % 13, m = 1 + rand() % 7, T = 1 + rand() % 6;
    const int64_t linear = rand() % 2;
    lq_batch z = {b, n, m, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}};
    z.A = array_of(b, T, n * n, 0.0, 1), z.B = array_of(b, T, n * m, 0.0, 1);
    z.Q = array_of(b, T, n * n, 20.0, 1), z.R = array_of(b, T, m * m, 20.0, 1);
    z.S = array_of(b, T, n * n, 20.0, 0);
    if (linear) {
        z.M = array_of(b, T, n * m, 0.0, 1), z.c = array_of(b, T, n, 0.0, 1);
        z.q = array_of(b, T, n, 0.0, 1), z.r = array_of(b, T, m, 0.0, 1), z.s = array_of(b, T, n, 0.0, 0);
    }
    double *x0 = doubles(b * n), *u = doubles(b * T * m), *J = doubles(b), *g = doubles(b * T * m);
    double *P = doubles(b * (T + 1) * n * n), *K = doubles(b * T * m * n);
    double *k = doubles(linear * b * T * m), *v = doubles(linear * b * (T + 1) * n);
    double *w = doubles(linear * b * (T + 1)), *work = doubles(batch_work(n, m, T));
    int64_t *doubtful = malloc(sizeof(int64_t) * (size_t)b);
    if (b) {
        batch_gradient(&z, T, x0, u, J, g, work);
        batch_riccati(&z, T, linear, P, K, k, v, w, doubtful, work);
        double *x = doubles(b * (T + 1) * n), *p = doubles(b * T * n);
        double *offsets = doubles(b * T * m), *slopes = doubles(b * (T + 1) * n);
        batch_rollout(&z, T, x0, K, offsets, P, slopes, x, u, p, work);
        free(x), free(p), free(offsets), free(slopes);
    }
    const batch_array given[] = {z.A, z.B, z.Q, z.R, z.M, z.c, z.q, z.r, z.S, z.s};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        free((double *)given[i].at);
    double *all[] = {x0, u, J, g, P, K, k, v, w, work, (double *)doubtful};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Steps within limits of random maps; how many calls were made. */
static int64_t condensed(void)
{
    const int large = rand() % 4 == 0;
    const int64_t n = 1 + rand() % 4, m = 1 + rand() % 3, inputs = m * (1 + rand() % (large ? 90 : 25));
    const int64_t rows = 1 + rand() % (large ? 250 : 60), runs = 1 + rand() % 3, priced = rand() % 2;
    int64_t most = inputs < rows && !priced ? inputs : rows;
    most = most < MOST_AT_WORK ? most : MOST_AT_WORK;
    double *map = doubles(n * (m + rows)), *P = matrices(1, n, 5.0), *errors = doubles(2 * n);
    double *Y = doubles(rows * inputs), *first = doubles(rows * m), *rounding = doubles(rows);
    double *S = doubles(rows * rows), *low = doubles(rows), *high = doubles(rows);
    double *slack = doubles(rows), *beside = doubles(rows), *x0 = doubles(runs * n);
    double *offset = doubles(m + rows + n + 3), *u = doubles(runs * m);
    double *found = doubles(2 * m + 3 * rows + most * (most + 1) / 2 + 3 * most + (rows + 7) / 8);
    double *price = doubles(rows), *give = doubles(rows);
    int64_t *ahead = malloc(sizeof(int64_t) * (size_t)rows);
    int64_t *iterations = malloc(sizeof(int64_t) * (size_t)runs);
    uint8_t *moved = malloc((size_t)rows), *made = calloc((size_t)rows, 1);
    int8_t *before = calloc((size_t)(rows * runs), 1), *state = malloc((size_t)(rows * runs));
    for (int64_t i = 0; i < 2 * n; i++)
        errors[i] = 1e-12;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < inputs; j++)
            sum += Y[i * inputs + j] * Y[i * inputs + j];
        for (int64_t j = 0; j < inputs; j++)
            Y[i * inputs + j] /= sqrt(sum);
        ahead[i] = i + 2 < rows ? i + 2 : -1;
        low[i] = rand() % 4 ? -0.2 : -INFINITY, high[i] = rand() % 9 ? 0.1 : -0.2;
        price[i] = priced && rand() % 2 ? 0.5 + price[i] : INFINITY;
        give[i] = isinf(price[i]) ? 0.0 : rand() % 2 ? 0.5 + give[i] : INFINITY;
        moved[i] = rand() % 99 > 0, slack[i] = 1e-9, beside[i] = rounding[i] = 0.0;
    }
    condensed_maps maps = {n, m, inputs, rows, map, P, errors, Y, first, rounding, ahead,
                           moved, made, S, price, give, 1e-12, 1e-10, rand() % 6, priced};
    condensed_bounds bounds = {low, high, slack, beside, 1e-8};
    condensed_steps(&maps, &bounds, runs, x0, rand() % 2 ? offset : 0, 100, 0, state, u,
                    iterations, found);
    memcpy(before, state, (size_t)(rows * runs));
    condensed_steps(&maps, &bounds, runs, x0, 0, 100, before, state, u, iterations, found);
    void *all[] = {map, P, errors, Y, first, rounding, S, price, give, low, high, slack, beside, x0, offset, u,
                   found, ahead, iterations, moved, made, before, state};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return 2;
}

/* An array of `groups` models, or one that they share, at `steps` stages, or one. */
static stages some(int64_t groups, int64_t steps, double *array, int64_t size)
{
    return (stages){array, groups > 1 ? (steps ? steps : 1) * size : 0, steps > 1 ? size : 0};
}

static void smoothers(void)
{
    const int64_t n = 1 + rand() % 21, ny = rand() % 6, T = rand() % 9, groups = rand() % 4;
    const int64_t many = rand() % 3, models = rand() % 2 ? groups : 1, kinds = 1 + rand() % 3;
    const int64_t steps = rand() % 2 ? T : 1, count = models * steps;
    double *A = doubles(count * n * n), *c = doubles(count * n), *W = doubles(count * n * n);
    double *root = doubles(count * n * n), *precision = matrices(count, n, 20.0);
    double *step = matrices(count, n, 20.0), *link = doubles(count * n * n);
    double *prior = doubles(models * n * n), *start = matrices(models, n, 20.0);
    double *m0 = doubles(models * n), *C = doubles(kinds * ny * n), *root_V = doubles(kinds * ny * ny);
    double *information = matrices(kinds, n, rand() % 8 ? 20.0 : -60.0);
    int64_t *pattern = malloc(sizeof(int64_t) * (size_t)(groups * (T + 1)));
    int64_t *block = malloc(sizeof(int64_t) * (size_t)(T + 1));
    for (int64_t i = 0; i < groups * (T + 1); i++)
        pattern[i] = rand() % kinds;
    const normal_equations e
        = {n, ny, T, some(models, steps, A, n * n), some(models, steps, rand() % 2 ? c : 0, n),
           some(models, steps, W, n * n), some(models, steps, root, n * n),
           some(models, steps, precision, n * n), some(models, steps, step, n * n),
           some(models, steps, link, n * n), some(models, 1, prior, n * n),
           some(models, 1, start, n * n), some(models, 1, m0, n), C, root_V, information, pattern};
    double *z = doubles(groups * many * (T + 1) * ny), *x = doubles(groups * many * (T + 1) * n);
    double *p = doubles(groups * many * T * n), *loss = doubles(groups), *logs = doubles(groups);
    double *cost = doubles(groups * many), *Z = doubles(groups * (T + 1) * n * n);
    double *X = doubles(groups * T * n * n);
    double *work = doubles((T + 1) * (2 * n * n + 2 * n + ny) + 5 * n * n + 8 * n + ny);
    smooth_series(&e, groups, many, z, rand() % 2, 1e9, x, p, loss, cost, logs, rand() % 2 ? Z : 0,
                  X, work, block);
    double *all[] = {A, c, W, root, precision, step, link, prior, start, m0, C, root_V, information,
                     z, x, p, loss, logs, cost, Z, X, work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(pattern);
    free(block);
}

static void filters(void)
{
    const int64_t n = 1 + rand() % 13, ny = 1 + rand() % 5, T = rand() % 9;
    const int64_t groups = rand() % (rand() % 2 ? 4 : 19);
    const int64_t many = rand() % 3, models = rand() % 2 ? groups : 1, split = rand() % (T + 2);
    const int64_t steps = rand() % 2 ? T : 1, rows = rand() % 2 ? T + 1 : 1, one = groups * (T + 1);
    double *A = doubles(models * steps * n * n), *C = doubles(models * rows * ny * n);
    double *v = doubles(models * rows * ny * ny), *V = matrices(models * rows, ny, 20.0);
    double *w = doubles(models * steps * n * n), *c = doubles(models * steps * n);
    const filter_models f = {n, ny, T, some(models, steps, A, n * n), some(models, rows, C, ny * n),
                             some(models, rows, v, ny * ny), some(models, rows, V, ny * ny),
                             some(models, steps, w, n * n)};
    double *S = matrices(groups, n, 2.0), *noise = matrices(groups, n, 1e-9);
    double *P = doubles(one * n * n), *K = doubles(one * n * ny), *factor = doubles(one * ny * ny);
    double *roots = matrices(one, n, 2.0), *cov = doubles(one * n * n), *rounding = doubles(one * n);
    double *work = doubles(8 * (9 * n * n + 4 * n * ny + 3 * ny * ny + 2 * (n + ny) * (n + ny)) + 4);
    int64_t *failed = malloc(sizeof(int64_t) * (size_t)groups);
    filter_covariances(&f, groups, 0, split, S, noise, P, K, factor, roots, cov, rounding, failed, work);
    filter_covariances(&f, groups, split, T + 1, S, noise, P, K, factor, roots, cov, rounding, failed,
                       work);
    free(work);
    const int64_t held = 1 + rand() % (T + 1), series = groups * many * (T + 1);
    double *start = doubles(groups * many * n), *z = doubles(series * ny), *predicted = doubles(series * n);
    double *x = doubles(series * n), *innovations = doubles(series * ny), *e = doubles(series * ny);
    double *p = doubles(series * n), *few = doubles(n + ny);
    filter_means(&f, some(models, steps, rand() % 2 ? c : 0, n), groups, many, held, K, factor, start,
                 rand() % 2 ? n : 0, z, predicted, x, innovations, e);
    filter_costates(&f, groups, many, held, K, factor, e, p, few);
    const int64_t back = held < T ? held : T;
    double *gains = doubles(groups * back * n * n), *X = doubles(groups * back * n * n);
    double *R = matrices(groups, n, 2.0), *last = doubles(32 * n * n + 4);
    double *half = doubles(8 * (8 * n * n + 2 * n) + 4);
    rts_gains(&f, groups, back, T + 1, roots, rounding, rand() % 9 ? 1e9 : 2.0, gains, X, failed, half);
    if (back) {
        rts_covariances(n, T, groups, back, T / 2, T, gains, X, R, cov, last);
        rts_covariances(n, T, groups, back, 0, T / 2, gains, X, R, cov, last);
        rts_means(n, T, groups, many, back, gains, predicted, x);
    }
    double *all[] = {A, C, v, V, w, c, S, noise, P, K, factor, roots, cov, rounding, start, z, predicted,
                     x, innovations, e, p, few, gains, X, R, half, last};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(failed);
}

static void likelihoods(int64_t n, int64_t ny, int64_t k, int64_t T, double *A, double *C, double *W,
                        double *V, int64_t varies, int64_t states)
{
    series_model z = {n, ny, k, T, A, C, W, V, 0, 0, 0, 0, 0, 0};
    double *c = doubles(varies ? T * n : n), *y = doubles((T + 1) * ny), *x = doubles(n);
    double *M = doubles(n * k), *P = matrices(1, n, 20.0), *R = matrices(1, k + 1, 20.0);
    double *b = doubles(k), *p = doubles(n), *pb = doubles(n * k), *N = matrices(1, n, 20.0);
    z.c = c;
    if (varies)
        z.A_step = z.W_step = n * n, z.C_step = n * ny, z.V_step = ny * ny, z.c_step = n;
    for (int64_t i = 0; i < (T + 1) * ny; i++)
        if (rand() % 5 == 0)
            y[i] = NAN;
    int64_t *index = malloc(sizeof(int64_t) * (size_t)(n * n + n));
    double *work
        = doubles(4 * n * n + 3 * n * ny + ny * ny + 2 * n * k + ny * k + 4 * (n + ny + k + 1));
    double *traces[7], *scores[8], determinant = 0.0;
    const int64_t traced[] = {ny * n, ny * ny, ny, ny * k, n, n * k, n * n};
    const int64_t scored[] = {n * n, ny * n, n * n, ny * ny, n, ny, n, n * n};
    for (int i = 0; i < 7; i++)
        traces[i] = i < 4 || states ? doubles((T + 1) * traced[i]) : 0;
    for (int i = 0; i < 8; i++)
        scores[i] = i > 1 || states ? doubles((varies ? T + 1 : 1) * scored[i]) : 0;
    const series_trace trace = {traces[0], traces[1], traces[2], traces[3], traces[4], traces[5],
                                traces[6]};
    const series_score score = {scores[0], scores[1], scores[2], scores[3], scores[4], scores[5],
                                scores[6], scores[7], z.A_step, z.C_step, z.W_step, z.V_step,
                                z.c_step, varies ? ny : 0};
    loglik_forward(&z, 0, T + 1, y, x, M, P, R, &determinant, &trace, work, index);
    loglik_backward(&z, 0, T + 1, y, R, b, &trace, p, pb, N, &score, work, index);
    double *all[] = {c, y, x, M, P, R, b, p, pb, N, work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    for (int i = 0; i < 7; i++)
        free(traces[i]);
    for (int i = 0; i < 8; i++)
        free(scores[i]);
    free(index);
}

/* Steps of a controller, and its loop with a plant of another size; how many calls were made. */
static int64_t controllers(void)
{
    const int64_t n = 1 + rand() % MOST_ENTRIES, m = 1 + rand() % 9, ny = 1 + rand() % 9;
    const int64_t nr = rand() % 9, k = rand() % 2 ? nr : 0, states = 1 + rand() % MOST_ENTRIES;
    const int64_t runs = rand() % 40, T = rand() % 9, lag = rand() % 3, known = rand() % 2;
    double *AB = doubles((n + m) * n), *C = doubles(n * ny), *D = doubles(m * ny), *L = doubles(ny * n);
    double *W = doubles((nr + k + n) * m), *E = doubles(ny * k), *N = doubles(m * k);
    double *K_i = doubles(m * k), *low = doubles(m), *high = doubles(m);
    double *own_AB = doubles((states + m) * states), *own_C = doubles(states * ny);
    double *y = doubles(runs * ny), *r = doubles((runs + T) * nr), *x = doubles(runs * n);
    double *z = doubles(runs * k), *u = doubles(runs * m), *next = doubles(runs * (n + k));
    double *w = doubles(T * runs * states), *e = doubles(T * runs * ny);
    double *all_x = doubles((T + 1) * runs * states), *all_y = doubles(T * runs * ny);
    double *all_v = doubles(T * runs * m), *all_u = doubles((lag + T) * runs * m);
    for (int64_t i = 0; i < m; i++)
        high[i] += 1.0;
    const linear_controller c = {n, m, ny, nr, k, known, AB, C, known ? D : 0, L, W, E, N, K_i, low, high};
    const plant_in_loop plant = {states, lag, own_AB, own_C, known ? D : 0, low, high,
                                 rand() % 2 ? w : 0, rand() % 2 ? e : 0};
    controller_step(&c, runs, y, rand() % 4 ? r : 0, rand() % 2 ? nr : 0, x, z, u, next, next + runs * n);
    controller_loop(&c, &plant, T, runs, rand() % 4 ? r : 0, all_x, all_y, all_v, all_u);
    double *all[] = {AB, C, D, L, W, E, N, K_i, low, high, own_AB, own_C, y, r, x, z, u, next, w, e,
                     all_x, all_y, all_v, all_u};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return 2;
}

/* An algebraic Riccati equation, with a solution for most of them; how many calls were made. */
static int64_t algebraic(void)
{
    const int64_t n = 1 + rand() % (rand() % 4 ? 16 : MOST_ENTRIES), m = 1 + rand() % 9;
    double *A = doubles(n * n), *B = doubles(n * m), *Q = matrices(1, n, 20.0);
    double *R = matrices(1, m, rand() % 8 ? 20.0 : -20.0), *M = rand() % 2 ? doubles(n * m) : 0;
    double *P = doubles(n * n), *K = doubles(m * n), *F = doubles(n * n), *found = doubles(3);
    double *work = doubles(6 * (n + m + 1) * (n + m + 1) + 11 * n * n + m * n + 2 * (n + m + 1));
    for (int64_t i = 0; i < n; i++)
        A[i * n + rand() % n] = 0.0;
    dare_solve(n, m, A, B, Q, R, M, P, K, F, found, work);
    double *all[] = {A, B, Q, R, M, P, K, F, found, work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return 1;
}

int main(void)
{
    int64_t calls = 0;
    srand(0);
    for (int round = 0; round < 400; round++) {
        const int64_t n = 1 + rand() % 21, m = 1 + rand() % 9, T = rand() % 9, series = rand() % 4;
        const int64_t varying = rand() % 2, stages = varying ? T : 1, cross = rand() % 2;
        lq_problem z = {0};
        z.n = n, z.m = m;
        double *A = doubles(stages * n * n), *At = varying ? 0 : doubles(n * n);
        double *B = doubles(stages * n * m), *Bt = varying ? 0 : doubles(n * m);
        double *Q = matrices(stages, n, 20.0), *R = matrices(stages, m, 20.0);
        double *M = cross ? doubles(stages * n * m) : 0, *S = matrices(1, n, 20.0);
        double *c = cross ? doubles(stages * n) : 0, *q = cross ? doubles(stages * n) : 0;
        double *r = cross ? doubles(stages * m) : 0, *s = cross ? doubles(n) : 0;
        z.A = A, z.At = At, z.B = B, z.Bt = Bt, z.Q = Q, z.R = R, z.M = M, z.S = S;
        z.c = c, z.q = q, z.r = r, z.s = s;
        if (varying) {
            z.A_step = z.Q_step = n * n, z.B_step = z.M_step = n * m, z.R_step = m * m;
            z.c_step = z.q_step = n, z.r_step = m;
        }
        double *x0 = doubles(series * n), *u = doubles(series * T * m), *J = doubles(series);
        double *g = doubles(series * T * m), *work = doubles((T + 1) * n + 4 * n + m + 3);
        lq_gradient(&z, T, series, x0, n, u, J, g, work);
        lq_gradient(&z, T, series ? 1 : 0, x0, 0, u, J, g, 0);
        free(work);

        double *P = doubles((T + 1) * n * n), *K = doubles(T * m * n), *L = doubles(T * m * m);
        for (int64_t i = 0; i < n * n; i++)
            P[T * n * n + i] = S[i];
        work = doubles(3 * (n + m + 6) * (n + m + 6));
        const int64_t stopped = lq_riccati(&z, 0, T, 2.0, P, K, L, work);
        free(work);
        if (stopped) {
            printf("stopped at %lld\n", (long long)stopped);
            return 1;
        }
        const int64_t count = 5 + rand() % 9;
        double *iterates = matrices(count, n, 20.0), *loop = doubles(n * n);
        if (rand() % 2) /* all but alike */
            for (int64_t i = n * n; i < count * n * n; i++)
                iterates[i] = iterates[i - n * n] * (1.0 + 1e-12 * loop[i % (n * n)]);
        work = doubles(4 * n * n + n);
        lq_settled(n, count, 100, iterates, loop, work);
        free(work), free(iterates), free(loop);
        double *k = doubles(T * m), *v = doubles((T + 1) * n), *x = doubles(series * (T + 1) * n);
        double *p = doubles(series * T * n);
        work = doubles(n * n + n + m);
        double *costs = doubles(2 * series);
        lq_rollout(&z, T, series, x0, 0, K, P, k, v, x, u, p, costs, work);
        if (!varying) {
            const int64_t alike = T / 2;
            lq_rollout(&z, T, series, x0, alike, K + alike * m * n, P + alike * n * n, 0, 0, x, u, p,
                       costs, work);
        }
        free(costs);
        free(work);
        bidiagonal_solve(n, T, series, A, varying ? n * n : 0, 0, x);
        bidiagonal_solve(n, T, series, A, varying ? n * n : 0, 1, x);

        const int64_t each = varying ? T + 1 : 1;
        double *C = doubles(each * m * n), *V = matrices(each, m, 20.0), *W = doubles(stages * n * n);
        filters();
        batches();
        smoothers();
        const int64_t starts = rand() % (n + 1);
        likelihoods(n, m, starts, T, A, C, W, V, varying ? T + 1 : 0, rand() % 2);
        calls += 19 + condensed() + controllers() + algebraic();
        double *all[] = {A, At, B, Bt, Q, R, M, S, c, q, r, s, x0, u, J, g, P, K, L, k, v, x, p,
                         C, V, W};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            free(all[i]);
    }
    printf("%lld calls\n", (long long)calls);
    return 0;
}
