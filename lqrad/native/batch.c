/* The equations stand in batch.h. */
#include "batch.h"
#include "small.h"

#include <float.h>

/* WIDTH problems are abreast: entry i of an array of theirs is PACKS packs at [i * PACKS], with one double for
 * each problem. The vectors of the compiler, where it has them: it finds them by itself in few of these loops. */
#if defined(__GNUC__)
typedef double pack __attribute__((vector_size(32), aligned(8), may_alias));
#else
typedef double pack;
#endif
enum { PACKS = 2, WIDTH = PACKS * sizeof(pack) / sizeof(double) };
#define EACH for (int64_t l = 0; l < PACKS; l++)
#define AT(array, i) ((array) + (i) * PACKS)

/* Stage t of a matrix (rows, columns) of the problems from `first` on, the last one repeated where there
 * are no more; its rows are to be `row` entries apart. */
INLINE void load_rows(const batch_array *z, int64_t rows, int64_t columns, int64_t first, int64_t b,
                      int64_t t, pack *restrict to, int64_t row)
{
    double *restrict target = (double *)to;
    for (int64_t l = 0; l < WIDTH; l++) {
        const double *from = z->at + (first + l < b ? first + l : b - 1) * z->next + t * z->step;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                target[(i * row + j) * WIDTH + l] = from[i * columns + j];
    }
}

INLINE void load(const batch_array *z, int64_t count, int64_t first, int64_t b, int64_t t, pack *restrict to)
{
    load_rows(z, 1, count, first, b, t, to, count);
}

INLINE void store(const pack *restrict packs, int64_t count, int64_t first, int64_t b, double *to,
                  int64_t next)
{
    const double *restrict from = (const double *)packs;
    const int64_t width = first + WIDTH <= b ? WIDTH : b - first;
    for (int64_t l = 0; l < width; l++) {
        double *restrict target = to + (first + l) * next;
        for (int64_t i = 0; i < count; i++)
            target[i] = from[i * WIDTH + l];
    }
}

INLINE void copy(int64_t count, const pack *restrict from, pack *restrict to)
{
    memcpy(to, from, sizeof(pack) * (size_t)(count * PACKS));
}

INLINE void nothing(int64_t count, pack *restrict to)
{
    memset(to, 0, sizeof(pack) * (size_t)(count * PACKS));
}

/* y[i] += sum_k M[i * row + k * column] z[k] for i < high: sums in the order of k, `high` at once. */
INLINE void some(const int64_t high, int64_t inner, const pack *restrict M, int64_t row, int64_t column,
                 const pack *restrict z, pack *restrict y)
{
    pack sums[4][PACKS];
    for (int64_t i = 0; i < high; i++)
        EACH sums[i][l] = AT(y, i)[l];
    for (int64_t k = 0; k < inner; k++, M = AT(M, column), z = AT(z, 1))
        for (int64_t i = 0; i < high; i++)
            EACH sums[i][l] += AT(M, i * row)[l] * z[l];
    for (int64_t i = 0; i < high; i++)
        EACH AT(y, i)[l] = sums[i][l];
}

INLINE void add_matrix(int64_t count, int64_t inner, const pack *restrict M, int64_t row, int64_t column,
                       const pack *restrict z, pack *restrict y)
{
    int64_t i = 0;
#define SOME(high) some(high, inner, AT(M, i * row), row, column, z, AT(y, i))
    for (; i + 4 <= count; i += 4) SOME(4);
    if (i + 2 <= count) { SOME(2); i += 2; }
    if (i < count) SOME(1);
#undef SOME
}

/* y += M z and y += M'z for M (rows, columns). */
#define ADD_ROWS(rows, columns, M, z, y) add_matrix(rows, columns, M, columns, 1, z, y)
#define ADD_TIMES(rows, columns, M, z, y) add_matrix(columns, rows, M, 1, columns, z, y)

INLINE void add(int64_t count, const pack *restrict z, pack *restrict y)
{
    for (int64_t i = 0; i < count * PACKS; i++)
        y[i] += z[i];
}

INLINE void add_inner(int64_t count, const pack *restrict y, const pack *restrict z, pack *restrict sum)
{
    for (int64_t i = 0; i < count; i++)
        EACH sum[l] += AT(y, i)[l] * AT(z, i)[l];
}

/* The entries of an array at stage t, which are there already where they do not vary and t is not `start`. */
INLINE void follow(const batch_array *z, int64_t count, int64_t first, int64_t b, int64_t t, int64_t start,
                   pack *restrict to)
{
    if (z->at && (z->step || t == start))
        load(z, count, first, b, t, to);
}

int64_t batch_work(int64_t n, int64_t m, int64_t T)
{
    return WIDTH * (5 * (n + m) * (n + m) + (T + 8) * (n + m));
}

LANES int64_t batch_gradient(const lq_batch *z, int64_t T, const double *x0, const double *u0, double *J,
                             double *g, double *work)
{
    const int64_t b = z->b, n = z->n, m = z->m;
    pack *restrict A = (pack *)work, *restrict B = AT(A, n * n), *restrict Q = AT(B, n * m),
                   *restrict R = AT(Q, n * n), *restrict M = AT(R, m * m), *restrict S = AT(M, n * m),
                   *restrict c = AT(S, n * n), *restrict q = AT(c, n), *restrict r = AT(q, n),
                   *restrict p = AT(r, m), *restrict slope = AT(p, n), *restrict gt = AT(slope, n),
                   *restrict u = AT(gt, m), *restrict x = AT(u, T * m);
    const batch_array starts = {x0, n, 0}, inputs = {u0, T * m, 0};
    for (int64_t first = 0; first < b; first += WIDTH) {
        load(&starts, n, first, b, 0, x);
        load(&inputs, T * m, first, b, 0, u);
        for (int64_t t = 0; t < T; t++) {
            pack *restrict after = AT(x, (t + 1) * n);
            follow(&z->A, n * n, first, b, t, 0, A);
            follow(&z->B, n * m, first, b, t, 0, B);
            follow(&z->c, n, first, b, t, 0, c);
            z->c.at ? copy(n, c, after) : nothing(n, after);
            ADD_ROWS(n, m, B, AT(u, t * m), after);
            ADD_ROWS(n, n, A, AT(x, t * n), after);
        }
        const pack *last = AT(x, T * n);
        pack doubled[PACKS] = {0};
        load(&z->S, n * n, first, b, 0, S);
        nothing(n, p);
        ADD_ROWS(n, n, S, last, p);
        add_inner(n, last, p, doubled);
        if (z->s.at) {
            load(&z->s, n, first, b, 0, slope);
            add(n, slope, p);
            add_inner(n, last, slope, doubled);
            add_inner(n, last, slope, doubled);
        }
        for (int64_t t = T - 1; t >= 0; t--) {
            const pack *xt = AT(x, t * n);
            pack *restrict ut = AT(u, t * m), term[PACKS] = {0};
            follow(&z->A, n * n, first, b, t, T, A);
            follow(&z->B, n * m, first, b, t, T, B);
            follow(&z->Q, n * n, first, b, t, T - 1, Q);
            follow(&z->R, m * m, first, b, t, T - 1, R);
            follow(&z->M, n * m, first, b, t, T - 1, M);
            follow(&z->q, n, first, b, t, T - 1, q);
            follow(&z->r, m, first, b, t, T - 1, r);
            nothing(n, slope);
            nothing(m, gt);
            ADD_ROWS(n, n, Q, xt, slope);
            ADD_ROWS(m, m, R, ut, gt);
            if (z->M.at) {
                ADD_ROWS(n, m, M, ut, slope);
                ADD_TIMES(n, m, M, xt, gt);
            }
            if (z->q.at) {
                add(n, q, slope);
                add_inner(n, xt, q, term);
            }
            if (z->r.at) {
                add(m, r, gt);
                add_inner(m, ut, r, term);
            }
            add_inner(n, xt, slope, term);
            add_inner(m, ut, gt, term);
            add(1, term, doubled);
            ADD_TIMES(n, m, B, p, gt);
            copy(m, gt, ut);
            ADD_TIMES(n, n, A, p, slope);
            copy(n, slope, p);
        }
        EACH doubled[l] *= 0.5;
        store(doubled, 1, first, b, J, 1);
        store(u, T * m, first, b, g, T * m);
    }
    return 0;
}

/* Z[i][j] += sum_k X[k][i] Y[k][j], of which `high` rows and `wide` columns stay in registers. */
INLINE void block(const int64_t high, const int64_t wide, int64_t inner, const pack *restrict X,
                  int64_t X_row, const pack *restrict Y, int64_t Y_row, pack *restrict Z, int64_t Z_row)
{
    pack sums[2][3][PACKS];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            EACH sums[i][j][l] = AT(Z, i * Z_row + j)[l];
    for (int64_t k = 0; k < inner; k++, X = AT(X, X_row), Y = AT(Y, Y_row))
        for (int64_t i = 0; i < high; i++)
            for (int64_t j = 0; j < wide; j++)
                EACH sums[i][j][l] += AT(X, i)[l] * AT(Y, j)[l];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            EACH AT(Z, i * Z_row + j)[l] = sums[i][j][l];
}

/* Z += X'Y for X (inner, rows), Y (inner, columns); with `lower` the entries above the diagonal may be left
 * as they are. */
INLINE void add_products(int64_t rows, int64_t columns, int64_t inner, const pack *restrict X, int64_t X_row,
                         const pack *restrict Y, int64_t Y_row, pack *restrict Z, int64_t Z_row,
                         const int lower)
{
#define BLOCK(high, wide) \
    block(high, wide, inner, AT(X, i), X_row, AT(Y, j), Y_row, AT(Z, i * Z_row + j), Z_row)
#define STRIP(high)                                                                                \
    do {                                                                                           \
        const int64_t end = lower && i + high < columns ? i + high : columns;                      \
        int64_t j = 0;                                                                             \
        for (; j + 3 <= end; j += 3) BLOCK(high, 3);                                               \
        for (; j < end; j++) BLOCK(high, 1);                                                       \
    } while (0)
    int64_t i = 0;
    for (; i + 2 <= rows; i += 2) STRIP(2);
    if (i < rows) STRIP(1);
#undef STRIP
#undef BLOCK
}

/* y -= factor z. */
INLINE void subtract(int64_t count, const pack *restrict factor, const pack *restrict z, pack *restrict y)
{
    for (int64_t i = 0; i < count; i++)
        EACH AT(y, i)[l] -= factor[l] * AT(z, i)[l];
}

/* W = U D U' with a unit U below the diagonal, in place in the lower triangle of W: no root, so that powers
 * of two stay exact. */
INLINE void factorise(int64_t n, pack *restrict W, int64_t row)
{
    for (int64_t k = 0; k < n; k++) {
        const pack *pivot = AT(W, k * row + k);
        for (int64_t i = k + 1; i < n; i++) {
            pack *entry = AT(W, i * row + k), factor[PACKS];
            EACH factor[l] = entry[l] / pivot[l];
            for (int64_t j = k + 1; j < i; j++)
                EACH AT(W, i * row + j)[l] -= entry[l] * AT(W, j * row + k)[l];
            EACH AT(W, i * row + i)[l] -= entry[l] * factor[l];
            EACH entry[l] = factor[l];
        }
    }
}

/* Counts for each problem the pivots of a factorised W that are not above `least` of them. */
INLINE void count_small(int64_t n, const pack *restrict W, int64_t row, const pack *restrict least,
                        double *restrict small)
{
    for (int64_t k = 0; k < n; k++) {
        const double *pivot = (const double *)AT(W, k * row + k), *bound = (const double *)AT(least, k);
        for (int64_t l = 0; l < WIDTH; l++)
            small[l] += pivot[l] > bound[l] ? 0.0 : 1.0;
    }
}

/* Where less than one part in so many is left of a diagonal entry of P, three digits are lost. */
#define MOST_CANCELLED 1024.0

LANES int64_t batch_riccati(const lq_batch *z, int64_t T, int64_t linear, double *P0, double *K0, double *k0,
                            double *v0, double *w0, int64_t *doubtful, double *work)
{
    const int64_t b = z->b, n = z->n, m = z->m, both = n + m;
    pack *restrict AB = (pack *)work, *restrict PAB = AT(AB, n * both),
                   *restrict weights = AT(PAB, n * both), *restrict H = AT(weights, both * both),
                   *restrict P = AT(H, both * both), *restrict Y = AT(P, n * n), *restrict least = AT(Y, m * n),
                   *restrict c = AT(least, both), *restrict q = AT(c, n), *restrict r = AT(q, n),
                   *restrict v = AT(r, m), *restrict e = AT(v, n), *restrict h = AT(e, n),
                   *restrict k = AT(h, m);
    pack *N = AT(H, n * both), *G = AT(N, n);
    for (int64_t first = 0; first < b; first += WIDTH) {
        double small[WIDTH] = {0};
        pack lost[PACKS] = {0}, w[PACKS] = {0};
        load(&z->S, n * n, first, b, 0, P);
        store(P, n * n, first, b, P0 + T * n * n, (T + 1) * n * n);
        nothing(both * both, weights);
        nothing(n, v);
        if (linear) {
            if (z->s.at)
                load(&z->s, n, first, b, 0, v);
            store(v, n, first, b, v0 + T * n, (T + 1) * n);
            store(w, 1, first, b, w0 + T, T + 1);
        }
        for (int64_t t = T - 1; t >= 0; t--) {
            const int start = t == T - 1;
            if (start || z->A.step)
                load_rows(&z->A, n, n, first, b, t, AB, both);
            if (start || z->B.step)
                load_rows(&z->B, n, m, first, b, t, AT(AB, n), both);
            if (start || z->Q.step)
                load_rows(&z->Q, n, n, first, b, t, weights, both);
            if (start || z->R.step)
                load_rows(&z->R, m, m, first, b, t, AT(weights, n * both + n), both);
            if (z->M.at && (start || z->M.step)) {
                load(&z->M, n * m, first, b, t, PAB);
                for (int64_t i = 0; i < n; i++)
                    for (int64_t j = 0; j < m; j++)
                        copy(1, AT(PAB, i * m + j), AT(weights, (n + j) * both + i));
            }
            /* A pivot of R + B'PB below this may be a rounding error of its terms: these are at most
             * R[j][j] + (sum_i |B[i][j]| sqrt(P[i][i]))^2, and the square at most n times that of the terms. */
            for (int64_t j = 0; j < m; j++) {
                pack sum[PACKS] = {0};
                for (int64_t i = 0; i < n; i++)
                    EACH sum[l] += AT(AB, i * both + n + j)[l] * AT(AB, i * both + n + j)[l] * AT(P, i * (n + 1))[l];
                EACH AT(least, j)[l] = (double)both * DBL_EPSILON
                                       * ((double)n * sum[l] + AT(weights, (n + j) * (both + 1))[l]);
            }
            nothing(n * both, PAB);
            add_products(n, both, n, P, n, AB, both, PAB, both, 0);
            /* The lower triangle of H = [Q M; M' R] + [A B]'P[A B]; N = H[n:, :n], G = H[n:, n:]. */
            copy(both * both, weights, H);
            add_products(both, both, n, AB, both, PAB, both, H, both, 1);
            factorise(m, G, both);
            count_small(m, G, both, least, small);
            for (int64_t i = 0; i < n; i++)
                EACH AT(least, i)[l] = AT(H, i * (both + 1))[l] / MOST_CANCELLED;
            if (linear) {
                follow(&z->c, n, first, b, t, T - 1, c);
                follow(&z->q, n, first, b, t, T - 1, q);
                follow(&z->r, m, first, b, t, T - 1, r);
                copy(n, v, e);
                if (z->c.at) {
                    ADD_ROWS(n, n, P, c, e);
                    for (int64_t i = 0; i < n; i++)
                        EACH w[l] += 0.5 * AT(c, i)[l] * (AT(v, i)[l] + AT(e, i)[l]);
                }
                z->r.at ? copy(m, r, h) : nothing(m, h);
                add_matrix(m, n, AT(AB, n), 1, both, e, h);
                copy(m, h, k);
            }
            /* K = G^-1 N: forward, P = H - (U^-1 N)'D^-1(U^-1 N), and back. */
            for (int64_t i = 1; i < m; i++)
                for (int64_t j = 0; j < i; j++) {
                    subtract(n, AT(G, i * both + j), AT(N, j * both), AT(N, i * both));
                    if (linear)
                        subtract(1, AT(G, i * both + j), AT(k, j), AT(k, i));
                }
            for (int64_t i = 0; i < m; i++) {
                copy(n, AT(N, i * both), AT(Y, i * n));
                const pack *pivot = AT(G, i * (both + 1));
                for (int64_t j = 0; j < n; j++)
                    EACH AT(N, i * both + j)[l] /= pivot[l];
                if (linear)
                    EACH AT(k, i)[l] /= pivot[l];
            }
            for (int64_t i = 0; i < n; i++) {
                for (int64_t j = 0; j < m; j++)
                    subtract(i + 1, AT(N, j * both + i), AT(Y, j * n), AT(H, i * both));
                for (int64_t j = 0; j <= i; j++) {
                    copy(1, AT(H, i * both + j), AT(P, i * n + j));
                    copy(1, AT(H, i * both + j), AT(P, j * n + i));
                }
            }
            for (int64_t i = 0; i < n; i++) {
                const double *left = (const double *)AT(P, i * (n + 1)), *bound = (const double *)AT(least, i);
                for (int64_t l = 0; l < WIDTH; l++)
                    small[l] += left[l] >= bound[l] ? 0.0 : 1.0;
            }
            for (int64_t i = m - 2; i >= 0; i--)
                for (int64_t j = i + 1; j < m; j++) {
                    subtract(n, AT(G, j * both + i), AT(N, j * both), AT(N, i * both));
                    if (linear)
                        subtract(1, AT(G, j * both + i), AT(k, j), AT(k, i));
                }
            for (int64_t i = 0; i < n * n; i++)
                EACH lost[l] += 0.0 * AT(P, i)[l];
            store(P, n * n, first, b, P0 + t * n * n, (T + 1) * n * n);
            for (int64_t i = 0; i < m; i++) {
                for (int64_t j = 0; j < n; j++)
                    EACH lost[l] += 0.0 * AT(N, i * both + j)[l];
                store(AT(N, i * both), n, first, b, K0 + (t * m + i) * n, T * m * n);
            }
            if (!linear)
                continue;
            z->q.at ? copy(n, q, v) : nothing(n, v);
            add_matrix(n, n, AB, 1, both, e, v);
            for (int64_t j = 0; j < m; j++) {
                subtract(n, AT(h, j), AT(N, j * both), v);
                EACH w[l] -= 0.5 * AT(k, j)[l] * AT(h, j)[l];
            }
            for (int64_t i = 0; i < n; i++)
                EACH lost[l] += 0.0 * AT(v, i)[l];
            EACH lost[l] += 0.0 * w[l];
            store(k, m, first, b, k0 + t * m, T * m);
            store(v, n, first, b, v0 + t * n, (T + 1) * n);
            store(w, 1, first, b, w0 + t, T + 1);
        }
        /* P[0] is raised by what rounding errors may add up to, as its twin does. */
        for (int64_t i = 0; i < n; i++)
            EACH AT(P, i * (n + 1))[l] = AT(P, i * (n + 1))[l] * (1.0 + 1e-12) + DBL_MIN;
        factorise(n, P, n);
        nothing(n, least);
        count_small(n, P, n, least, small);
        for (int64_t l = 0; l < WIDTH && first + l < b; l++)
            doubtful[first + l] = !(small[l] == 0.0 && ((double *)lost)[l] == 0.0);
    }
    return 0;
}

LANES int64_t batch_rollout(const lq_batch *z, int64_t T, const double *x0, const double *K0, const double *k0,
                            const double *P0, const double *v0, double *x, double *u, double *p, double *work)
{
    const int64_t b = z->b, n = z->n, m = z->m;
    pack *restrict A = (pack *)work, *restrict B = AT(A, n * n), *restrict F = AT(B, n * m),
                   *restrict P = AT(F, n * n), *restrict K = AT(P, n * n), *restrict k = AT(K, m * n),
                   *restrict c = AT(k, m), *restrict now = AT(c, n), *restrict after = AT(now, n),
                   *restrict pt = AT(after, n), *restrict ut = AT(pt, n);
    const batch_array starts = {x0, n, 0}, gains = {K0, T * m * n, m * n}, offsets = {k0, T * m, m};
    const batch_array values = {P0, (T + 1) * n * n, n * n}, slopes = {v0, (T + 1) * n, n};
    for (int64_t first = 0; first < b; first += WIDTH) {
        load(&starts, n, first, b, 0, now);
        store(now, n, first, b, x, (T + 1) * n);
        for (int64_t t = 0; t < T; t++) {
            follow(&z->A, n * n, first, b, t, 0, A);
            follow(&z->B, n * m, first, b, t, 0, B);
            follow(&z->c, n, first, b, t, 0, c);
            load(&gains, m * n, first, b, t, K);
            load(&offsets, m, first, b, t, k);
            load(&values, n * n, first, b, t + 1, P);
            load(&slopes, n, first, b, t + 1, pt);
            copy(n * n, A, F);
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < m; j++)
                    subtract(n, AT(B, i * m + j), AT(K, j * n), AT(F, i * n));
            copy(m, k, ut);
            ADD_ROWS(m, n, K, now, ut);
            nothing(n, after);
            ADD_ROWS(n, m, B, k, after);
            for (int64_t i = 0; i < m * PACKS; i++)
                ut[i] = -ut[i];
            for (int64_t i = 0; i < n * PACKS; i++)
                after[i] = -after[i];
            if (z->c.at)
                add(n, c, after);
            ADD_ROWS(n, n, F, now, after);
            ADD_ROWS(n, n, P, after, pt);
            copy(n, after, now);
            store(now, n, first, b, x + (t + 1) * n, (T + 1) * n);
            store(ut, m, first, b, u + t * m, T * m);
            store(pt, n, first, b, p + t * n, T * n);
        }
    }
    return 0;
}
