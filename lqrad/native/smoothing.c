/* The equations stand in smoothing.h. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-math-errno") /* for square roots in lanes */
#endif
#include "smoothing.h"
#include "small.h"

static const double eps = 2.220446049250313e-16;

/* Results of filters side by side go to as many places, of which no processor guesses the next. */
#if defined(__GNUC__)
#define AHEAD(place, count, written)                                                               \
    __builtin_prefetch((const void *)((uintptr_t)(place) + 8 * (uintptr_t)(count)), written)
#else
#define AHEAD(place, count, written) (void)(place)
#endif

#define NAME(name) name##_of_one
#define PICK(where, z, y) ((where) ? (z) : (y))
#define SIZE(z) fabs(z)
#define ROUTINE INLINE
#define TILE 4
#define PACKS 1
#define number double
#define picked int64_t
#include "roots.h"
#undef NAME
#undef ROUTINE
#undef PACKS

/* The vectors of the compiler, where it has them: it finds them by itself in few of these loops. */
#define NAME(name) name##_abreast
#define ROUTINE LANES static
#define PACKS 2
#if defined(__GNUC__)
typedef double pack __attribute__((vector_size(32), aligned(8), may_alias));
typedef int64_t picked_lanes __attribute__((vector_size(32), aligned(8), may_alias));
#undef PICK
#undef SIZE
#undef number
#undef picked
#define PICK(where, z, y) ((pack)((picked)(y) ^ (((picked)(z) ^ (picked)(y)) & (where))))
#define SIZE(z) ((pack)((picked)(z) & INT64_MAX))
#define number pack
#define picked picked_lanes
#endif
#include "roots.h"

/* So many filters or more are taken together. */
enum { ABREAST = PACKS * sizeof(number) / sizeof(double), FEW = 3 };

LANES int64_t filter_covariances(const filter_models *f, int64_t groups, int64_t first,
                                 int64_t last, double *S, double *noise, double *P, double *K,
                                 double *factor, double *roots, double *cov, double *rounding,
                                 int64_t *failed, double *work)
{
    int64_t g = 0;
#define CALL(loop, n, ny)                                                                          \
    loop(f, n, ny, g, groups, first, last, S, noise, P, K, factor, roots, cov, rounding, failed, work)
    for (; g + FEW <= groups; g += ABREAST)
        CALL(covariances_abreast, f->n, f->ny);
    for (; g < groups; g++) {
        if (f->n == 1 && f->ny == 1)
            CALL(covariances_of_one, 1, 1);
        else if (f->n == 2 && f->ny == 1)
            CALL(covariances_of_one, 2, 1);
        else if (f->n == 4 && f->ny == 2)
            CALL(covariances_of_one, 4, 2);
        else
            CALL(covariances_of_one, f->n, f->ny);
    }
#undef CALL
    return 0;
}

INLINE int64_t means(const filter_models *f, const int64_t n, const int64_t ny, stages c,
                     int64_t group, int64_t held, const double *restrict K,
                     const double *restrict factor, const double *start, const double *restrict z,
                     double *restrict predicted, double *restrict x, double *restrict innovations,
                     double *restrict e)
{
    int64_t overflows = 0;
    memcpy(predicted, start, sizeof(double) * (size_t)n);
    for (int64_t t = 0; t <= f->T; t++) {
        const int64_t k = t < held ? t : held - 1;
        const double *restrict Kt = K + k * n * ny, *restrict L = factor + k * ny * ny,
                     *restrict C = stage(f->C, group, t);
        for (int64_t i = 0; i < ny; i++) {
            innovations[i] = z[i] - dot(n, C + i * n, predicted);
            double sum = innovations[i];
            for (int64_t j = 0; j < i; j++)
                sum -= L[i * ny + j] * e[j];
            e[i] = sum / L[i * ny + i];
        }
        for (int64_t i = 0; i < n; i++)
            x[i] = predicted[i] + dot(ny, Kt + i * ny, innovations);
        if (t < f->T) {
            const double *restrict A = stage(f->A, group, t),
                         *offset = c.first ? stage(c, group, t) : 0;
            for (int64_t i = 0; i < n; i++) {
                const double next = dot(n, A + i * n, x) + (offset ? offset[i] : 0.0);
                overflows |= !isfinite(next);
                predicted[n + i] = next;
            }
        }
        z += ny, innovations += ny, e += ny, predicted += n, x += n;
    }
    return overflows;
}

LANES int64_t filter_means(const filter_models *f, stages c, int64_t groups, int64_t many,
                           int64_t held, const double *K, const double *factor,
                           const double *start, int64_t start_step, const double *z,
                           double *predicted, double *x, double *innovations, double *e)
{
    int64_t overflows = 0;
    for (int64_t s = 0; s < groups * many; s++) {
        const int64_t g = s / many, N = f->T + 1, states = s * N * f->n, outputs = s * N * f->ny;
        const double *gain = K + g * held * f->n * f->ny, *root = factor + g * held * f->ny * f->ny;
#define CALL(n, ny)                                                                                \
    means(f, n, ny, c, g, held, gain, root, start + s * start_step, z + outputs, predicted + states, x + states,                     \
          innovations + outputs, e + outputs)
        if (f->n == 1 && f->ny == 1)
            overflows |= CALL(1, 1);
        else if (f->n == 4 && f->ny == 2)
            overflows |= CALL(4, 2);
        else
            overflows |= CALL(f->n, f->ny);
#undef CALL
    }
    return overflows;
}

INLINE int64_t costates(const filter_models *f, const int64_t n, const int64_t ny, int64_t group,
                        int64_t held, const double *restrict K, const double *restrict factor,
                        const double *restrict e, double *restrict p, double *restrict work)
{
    double *restrict q = work, *restrict r = q + n;
    int64_t overflows = 0;
    for (int64_t i = 0; i < n; i++)
        q[i] = 0.0;
    for (int64_t t = f->T; t >= 0; t--) {
        const int64_t k = t < held ? t : held - 1;
        const double *restrict Kt = K + k * n * ny, *restrict L = factor + k * ny * ny,
                     *restrict C = stage(f->C, group, t);
        if (t < f->T) {
            for (int64_t i = 0; i < n; i++)
                q[i] = 0.0;
            add_times(n, n, stage(f->A, group, t), p + (t + 1) * n, q);
        }
        for (int64_t i = ny - 1; i >= 0; i--) {
            double sum = e[t * ny + i];
            for (int64_t j = i + 1; j < ny; j++)
                sum -= L[j * ny + i] * r[j];
            r[i] = sum / L[i * ny + i];
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < ny; j++)
                r[j] -= Kt[i * ny + j] * q[i];
        for (int64_t i = 0; i < n; i++)
            p[t * n + i] = q[i];
        add_times(ny, n, C, r, p + t * n);
        for (int64_t i = 0; i < n; i++)
            overflows |= !isfinite(p[t * n + i]);
    }
    return overflows;
}

LANES int64_t filter_costates(const filter_models *f, int64_t groups, int64_t many, int64_t held,
                              const double *K, const double *factor, const double *e, double *p,
                              double *work)
{
    int64_t overflows = 0;
    for (int64_t s = 0; s < groups * many; s++) {
        const int64_t g = s / many, N = f->T + 1;
        const double *gain = K + g * held * f->n * f->ny, *root = factor + g * held * f->ny * f->ny;
        const double *pull = e + s * N * f->ny;
        double *costate = p + s * N * f->n;
#define CALL(n, ny) costates(f, n, ny, g, held, gain, root, pull, costate, work)
        if (f->n == 1 && f->ny == 1)
            overflows |= CALL(1, 1);
        else if (f->n == 4 && f->ny == 2)
            overflows |= CALL(4, 2);
        else
            overflows |= CALL(f->n, f->ny);
#undef CALL
    }
    return overflows;
}

#define BY_STATES(CALL)                                                                            \
    switch (n) {                                                                                   \
    case 1: CALL(1); break;                                                                        \
    case 4: CALL(4); break;                                                                        \
    default: CALL(n);                                                                              \
    }
#define ALL_GROUPS(MANY, ONE)                                                                      \
    do {                                                                                           \
        int64_t g = 0;                                                                             \
        for (; g + FEW <= groups; g += ABREAST)                                                    \
            MANY(n);                                                                               \
        for (; g < groups; g++)                                                                    \
            BY_STATES(ONE)                                                                         \
    } while (0)

LANES int64_t rts_gains(const filter_models *f, int64_t groups, int64_t held, int64_t roots_held,
                        const double *roots, const double *rounding, double most_condition,
                        double *gains, double *X, int64_t *failed, double *work)
{
    const int64_t n = f->n;
#define CALL(loop, n)                                                                              \
    loop(f, n, g, groups, held, roots_held, roots, rounding, most_condition, gains, X, failed, work)
#define MANY(n) CALL(gains_abreast, n)
#define ONE(n) CALL(gains_of_one, n)
    ALL_GROUPS(MANY, ONE);
#undef CALL
    return 0;
}

LANES int64_t rts_covariances(int64_t n, int64_t T, int64_t groups, int64_t held, int64_t first,
                              int64_t last, const double *gains, const double *X, double *R,
                              double *cov, double *work)
{
#define CALL(loop, n) loop(n, T, g, groups, held, first, last, gains, X, R, cov, work)
#undef MANY
#undef ONE
#define MANY(n) CALL(back_abreast, n)
#define ONE(n) CALL(back_of_one, n)
    ALL_GROUPS(MANY, ONE);
#undef CALL
    return 0;
}

INLINE void means_back(const int64_t n, int64_t T, int64_t held, const double *restrict gains,
                       const double *restrict predicted, double *restrict x)
{
    for (int64_t t = T - 1; t >= 0; t--) {
        const double *restrict G = gains + (t < held ? t : held - 1) * n * n;
        for (int64_t i = 0; i < n; i++) {
            const double move = x[(t + 1) * n + i] - predicted[(t + 1) * n + i];
            for (int64_t j = 0; j < n; j++)
                x[t * n + j] += G[i * n + j] * move;
        }
    }
}

LANES int64_t rts_means(int64_t n, int64_t T, int64_t groups, int64_t many, int64_t held,
                        const double *gains, const double *predicted, double *x)
{
    for (int64_t s = 0; s < groups * many; s++) {
        const int64_t g = s / many, states = s * (T + 1) * n;
#define CALL(n) means_back(n, T, held, gains + g * held * n * n, predicted + states, x + states)
        BY_STATES(CALL)
#undef CALL
    }
    return 0;
}
