/* The equations stand in controller.h. */
#include "controller.h"
#include "small.h"

/* So many runs go side by side, one in a column. */
enum { RUNS = 16, ROOM = MOST_ENTRIES * RUNS };

/* One block of runs: s stacks r, z, x and u, and after `correct` its x is x_bar. */
typedef struct {
    double s[4 * ROOM], y[ROOM], wanted[ROOM], error[ROOM], growth[ROOM], next[ROOM];
    double *r, *z, *x, *u;
} block;

static void lay_out(const linear_controller *c, int64_t runs, block *b)
{
    b->r = b->s;
    b->z = b->r + c->nr * runs;
    b->x = b->z + c->k * runs;
    b->u = b->x + c->n * runs;
}

/* Rows of runs, `step` apart, to columns, and back. */
INLINE void gather(int64_t runs, int64_t size, const double *from, int64_t step, double *to)
{
    for (int64_t j = 0; j < runs; j++)
        for (int64_t i = 0; i < size; i++)
            to[i * runs + j] = from ? from[j * step + i] : 0.0;
}

INLINE void scatter(int64_t runs, int64_t size, const double *from, double *to)
{
    for (int64_t j = 0; j < runs; j++)
        for (int64_t i = 0; i < size; i++)
            to[j * size + i] = from[i * runs + j];
}

/* to += M'from, of M (inner, rows), in each run. */
INLINE void add(int64_t runs, int64_t rows, int64_t inner, const double *M, const double *from,
                double *to)
{
    add_product(rows, runs, inner, M, rows, from, runs, to, runs);
}

INLINE void clip(int64_t runs, int64_t m, const double *low, const double *high, const double *from,
                 double *to)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < runs; j++) {
            const double value = from[i * runs + j];
            to[i * runs + j] = value < low[i] ? low[i] : value > high[i] ? high[i] : value;
        }
}

static void decide(const linear_controller *c, int64_t runs, block *b)
{
    memset(b->wanted, 0, sizeof(double) * (size_t)(c->m * runs));
    add(runs, c->m, c->nr + c->k + c->n, c->W, b->s, b->wanted);
    clip(runs, c->m, c->low, c->high, b->wanted, b->u);
}

static void correct(const linear_controller *c, int64_t runs, block *b)
{
    memcpy(b->error, b->y, sizeof(double) * (size_t)(c->ny * runs));
    add(runs, c->ny, c->n, c->C, b->x, b->error);
    if (c->D)
        add(runs, c->ny, c->m, c->D, b->u, b->error);
    add(runs, c->n, c->ny, c->L, b->error, b->x);
}

/* The memory of the next step; zero, or NaN where a number is not finite. */
static double advance(const linear_controller *c, int64_t runs, block *b)
{
    double whole = 0.0;
    for (int64_t i = 0; i < c->m * runs; i++)
        whole += 0.0 * b->wanted[i];
    if (c->k) {
        double *growth = b->growth, *push = b->next;
        for (int64_t i = 0; i < c->k * runs; i++)
            growth[i] = -b->r[i];
        add(runs, c->k, c->ny, c->E, b->y, growth);
        add(runs, c->k, c->m, c->N, b->u, growth);
        for (int64_t i = 0; i < c->m * runs; i++)
            b->wanted[i] -= b->u[i];
        memset(push, 0, sizeof(double) * (size_t)(c->k * runs));
        add(runs, c->k, c->m, c->K_i, b->wanted, push);
        for (int64_t i = 0; i < c->k * runs; i++) {
            if (!(-growth[i] * push[i] > 0.0))
                b->z[i] += growth[i];
            whole += 0.0 * b->z[i];
        }
    }
    memset(b->next, 0, sizeof(double) * (size_t)(c->n * runs));
    add(runs, c->n, c->n + c->m, c->AB, b->x, b->next);
    for (int64_t i = 0; i < c->n * runs; i++)
        whole += 0.0 * b->next[i];
    memcpy(b->x, b->next, sizeof(double) * (size_t)(c->n * runs));
    return whole;
}

/* One step of a block in which r, z, x and y are set. */
static double step(const linear_controller *c, int64_t runs, block *b)
{
    if (c->predicts)
        decide(c, runs, b);
    correct(c, runs, b);
    if (!c->predicts)
        decide(c, runs, b);
    return advance(c, runs, b);
}

int64_t controller_step(const linear_controller *c, int64_t runs, const double *y, const double *r,
                        int64_t r_step, const double *x, const double *z, double *u, double *x_next,
                        double *z_next)
{
    const int64_t n = c->n, m = c->m, k = c->k;
    block b;
    for (int64_t first = 0; first < runs; first += RUNS) {
        const int64_t some = runs - first < RUNS ? runs - first : RUNS;
        lay_out(c, some, &b);
        gather(some, c->nr, r ? r + first * r_step : 0, r_step, b.r);
        gather(some, k, z + first * k, k, b.z);
        gather(some, n, x + first * n, n, b.x);
        gather(some, c->ny, y + first * c->ny, c->ny, b.y);
        if (step(c, some, &b) != 0.0)
            return 1;
        scatter(some, m, b.u, u + first * m);
        scatter(some, n, b.x, x_next + first * n);
        scatter(some, k, b.z, z_next + first * k);
    }
    return 0;
}

int64_t controller_loop(const linear_controller *c, const plant_in_loop *plant, int64_t T, int64_t runs,
                        const double *r, double *x, double *y, double *v, double *u)
{
    const int64_t n = plant->n, m = c->m, ny = c->ny;
    /* s of the plant stacks its x and v. */
    double s[2 * ROOM], next[ROOM];
    block b;
    for (int64_t first = 0; first < runs; first += RUNS) {
        const int64_t some = runs - first < RUNS ? runs - first : RUNS;
        double *now = s + n * some;
        lay_out(c, some, &b);
        memset(b.s, 0, sizeof(double) * (size_t)((c->nr + c->k + c->n + m) * some));
        gather(some, n, x + first * n, n, s);
        for (int64_t t = 0; t < T; t++) {
            const int64_t at = t * runs + first;
            gather(some, c->nr, r ? r + t * c->nr : 0, 0, b.r);
            if (c->predicts)
                decide(c, some, &b);
            if (plant->lag) {
                gather(some, m, u + at * m, m, next);
                clip(some, m, plant->low, plant->high, next, now);
            } else if (c->predicts)
                clip(some, m, plant->low, plant->high, b.u, now);
            gather(some, ny, plant->e ? plant->e + at * ny : 0, ny, b.y);
            add(some, ny, n, plant->C, s, b.y);
            if (plant->D)
                add(some, ny, m, plant->D, now, b.y);
            correct(c, some, &b);
            if (!c->predicts)
                decide(c, some, &b);
            if (!plant->lag)
                clip(some, m, plant->low, plant->high, b.u, now);
            scatter(some, m, b.u, u + (at + plant->lag * runs) * m);
            scatter(some, m, now, v + at * m);
            scatter(some, ny, b.y, y + at * ny);
            if (advance(c, some, &b) != 0.0)
                return 1;
            gather(some, n, plant->w ? plant->w + at * n : 0, n, next);
            add(some, n, n + m, plant->AB, s, next);
            memcpy(s, next, sizeof(double) * (size_t)(n * some));
            scatter(some, n, next, x + (at + runs) * n);
        }
    }
    return 0;
}
