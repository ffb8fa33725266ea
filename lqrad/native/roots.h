/* Loops in square roots of WIDTH filters side by side, each in a lane of its own: smoothing.c includes this
 * for one filter, whose numbers are doubles, and for several, whose numbers are packs of doubles. It defines
 * before: NAME(name), number, picked (what a comparison of numbers gives), PICK, SIZE, PACKS, TILE (how many
 * sums a loop carries at once) and ROUTINE. Entry i of an array is PACKS numbers at AT(array, i).
 *
 * Sums have one order, whatever WIDTH is. */
#define EACH for (int64_t l = 0; l < PACKS; l++)
#define AT(array, i) ((array) + (i) * PACKS)
#define WIDTH ((int64_t)(PACKS * sizeof(number) / sizeof(double)))

/* A matrix (rows, columns) of the filters from `first` on, `next` doubles apart, the last one repeated where
 * there are no more; entries below each other are to be `down` apart, those beside each other `across`. */
INLINE void NAME(load)(const int64_t rows, const int64_t columns, const double *from, int64_t next,
                       int64_t first, int64_t groups, number *restrict to, const int64_t down,
                       const int64_t across)
{
    double *restrict target = (double *)to;
    for (int64_t l = 0; l < WIDTH; l++) {
        const double *restrict one = from + (first + l < groups ? first + l : groups - 1) * next;
        AHEAD(one, 4 * rows * columns, 0);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                target[(i * down + j * across) * WIDTH + l] = one[i * columns + j];
    }
}

/* The other way, from rows of `row`. */
INLINE void NAME(store)(const int64_t rows, const int64_t columns, const number *from, const int64_t row,
                        double *to, int64_t next, int64_t first, int64_t groups)
{
    const double *restrict packs = (const double *)from;
    const int64_t width = first + WIDTH <= groups ? WIDTH : groups - first;
    for (int64_t l = 0; l < width; l++) {
        double *restrict one = to + (first + l) * next;
        AHEAD(one, 4 * rows * columns, 1);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                one[i * columns + j] = packs[(i * row + j) * WIDTH + l];
    }
}

INLINE void NAME(transpose)(const int64_t rows, const int64_t columns, const number *restrict X,
                            const int64_t X_row, number *restrict Xt, const int64_t Xt_row)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            EACH AT(Xt, j * Xt_row + i)[l] = AT(X, i * X_row + j)[l];
}

INLINE void NAME(copy)(const int64_t rows, const int64_t columns, const number *restrict X,
                       const int64_t X_row, number *restrict Z, const int64_t Z_row)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns * PACKS; j++)
            AT(Z, i * Z_row)[j] = AT(X, i * X_row)[j];
}

INLINE void NAME(clear)(const int64_t rows, const int64_t columns, number *restrict Z, const int64_t row)
{
    const number zero = {0};
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns * PACKS; j++)
            AT(Z, i * row)[j] = zero;
}

/* Subtracts from `wide` columns of M (rows, ...) what a reflection takes off them: v (rows) stands in another
 * column, with a one for its first entry. */
INLINE void NAME(reflect)(const int64_t wide, const int64_t rows, const int64_t row,
                          const number *restrict tau, const number *restrict v, number *restrict M)
{
    number sums[TILE][PACKS];
    for (int64_t i = 0; i < wide; i++)
        EACH sums[i][l] = AT(M, i)[l];
    for (int64_t k = 1; k < rows; k++)
        for (int64_t i = 0; i < wide; i++)
            EACH sums[i][l] += AT(v, k * row)[l] * AT(M, k * row + i)[l];
    for (int64_t i = 0; i < wide; i++)
        EACH {
            sums[i][l] *= tau[l];
            AT(M, i)[l] -= sums[i][l];
        }
    for (int64_t k = 1; k < rows; k++)
        for (int64_t i = 0; i < wide; i++)
            EACH AT(M, k * row + i)[l] -= AT(v, k * row)[l] * sums[i][l];
}

/* Exchange the first row of M with that which `where` says. */
INLINE void NAME(exchange)(const int64_t rows, const int64_t columns, const int64_t row,
                           const number *restrict where, number *restrict M)
{
    for (int64_t k = 1; k < rows; k++) {
        if (WIDTH == 1 && *(const double *)where != (double)k)
            continue;
        EACH {
            const picked here = where[l] == (double)k;
            for (int64_t i = 0; i < columns; i++) {
                number *a = AT(M, i) + l, *b = AT(M, k * row + i) + l;
                const number above = PICK(here, *b, *a), below = PICK(here, *a, *b);
                *a = above;
                *b = below;
            }
        }
    }
}

/* The first `pivots` rows of R with R'R = M'M, in place, for M (rows, columns), by Householder's reflections of
 * its columns; what is left of the rows below is not touched further. Before each, the row that is largest
 * in its column changes places with the first, without which rows that are small lose their digits to rows that are
 * large (Cox and Higham, Stability of Householder QR factorization for weighted least squares, 1998). */
ROUTINE void NAME(triangle)(const int64_t rows, const int64_t columns, const int64_t pivots,
                           number *restrict M)
{
    for (int64_t j = 0; j < pivots; j++) {
        number *restrict top = AT(M, j * columns + j), tau[PACKS], scale[PACKS];
        number largest[PACKS], where[PACKS];
        EACH {
            const number zero = {0};
            largest[l] = SIZE(top[l]);
            where[l] = zero;
        }
        for (int64_t k = 1; k < rows - j; k++)
            EACH {
                const number zero = {0}, size = SIZE(AT(top, k * columns)[l]), at = zero + (double)k;
                const picked more = size > largest[l];
                largest[l] = PICK(more, size, largest[l]);
                where[l] = PICK(more, at, where[l]);
            }
        NAME(exchange)(rows - j, columns - j, columns, where, top);
        number rest[PACKS] = {0}, beta[PACKS];
        for (int64_t k = 1; k < rows - j; k++)
            EACH rest[l] += AT(top, k * columns)[l] * AT(top, k * columns)[l];
        EACH beta[l] = top[l] * top[l] + rest[l];
        for (int64_t l = 0; l < WIDTH; l++)
            ((double *)beta)[l] = sqrt(((double *)beta)[l]);
        EACH {
            const number alpha = top[l], zero = {0};
            const picked nothing = rest[l] == zero;
            beta[l] = PICK(alpha > zero, -beta[l], beta[l]);
            tau[l] = PICK(nothing, zero, (beta[l] - alpha) / beta[l]);
            scale[l] = PICK(nothing, zero, 1.0 / (alpha - beta[l]));
            beta[l] = PICK(nothing, alpha, beta[l]);
        }
        for (int64_t k = 1; k < rows - j; k++)
            EACH AT(top, k * columns)[l] *= scale[l];
        int64_t i = 1;
        for (; i + TILE <= columns - j; i += TILE)
            NAME(reflect)(TILE, rows - j, columns, tau, top, AT(top, i));
        for (; i < columns - j; i++)
            NAME(reflect)(1, rows - j, columns, tau, top, AT(top, i));
        EACH top[l] = beta[l];
        NAME(clear)(rows - j - 1, 1, AT(top, columns), columns);
    }
}

INLINE void NAME(tile)(const int64_t high, const int64_t wide, const int64_t inner, const number *restrict X,
                       const int64_t X_row, const number *restrict Y, const int64_t Y_row,
                       number *restrict Z, const int64_t Z_row)
{
    number sums[2][2][PACKS];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            EACH {
                const number zero = {0};
                sums[i][j][l] = zero;
            }
    for (int64_t k = 0; k < inner; k++)
        for (int64_t i = 0; i < high; i++)
            for (int64_t j = 0; j < wide; j++)
                EACH sums[i][j][l] += AT(X, k * X_row + i)[l] * AT(Y, k * Y_row + j)[l];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            EACH AT(Z, i * Z_row + j)[l] = sums[i][j][l];
}

/* Z = X'Y for X (inner, rows), Y (inner, columns). */
ROUTINE void NAME(product)(const int64_t rows, const int64_t columns, const int64_t inner,
                          const number *restrict X, const number *restrict Y, const int64_t Y_row,
                          number *restrict Z, const int64_t Z_row)
{
    if (WIDTH == 1) {
        for (int64_t i = 0; i < rows; i++)
            NAME(clear)(1, columns, AT(Z, i * Z_row), columns);
        add_matrices(rows, columns, inner, (const double *)X, rows, (const double *)Y, Y_row, (double *)Z, Z_row);
        return;
    }
#define SOME(high, wide)                                                                           \
    NAME(tile)(high, wide, inner, AT(X, i), rows, AT(Y, j), Y_row, AT(Z, i * Z_row + j), Z_row)
#define STRIP(high)                                                                                \
    do {                                                                                           \
        int64_t j = 0;                                                                             \
        for (; j + 2 <= columns; j += 2) SOME(high, 2);                                         \
        if (j < columns) SOME(high, 1);                                                            \
    } while (0)
    int64_t i = 0;
    for (; i + 2 <= rows; i += 2) STRIP(2);
    if (i < rows) STRIP(1);
#undef STRIP
#undef SOME
}

/* N <- X N X' for symmetric N (n, n), given X'; half holds n n numbers. */
INLINE void NAME(carry)(const int64_t n, const number *restrict Xt, number *restrict N, number *restrict half)
{
    NAME(product)(n, n, n, N, Xt, n, half, n);
    NAME(product)(n, n, n, half, Xt, n, N, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            EACH AT(N, i * n + j)[l] = AT(N, j * n + i)[l];
}

/* X of U X = F for U upper triangular and F, in place: both stand in rows of `row`. */
INLINE void NAME(solve_upper)(const int64_t n, const int64_t columns, const number *restrict U,
                              number *restrict F, const int64_t row)
{
    for (int64_t i = n - 1; i >= 0; i--) {
        for (int64_t k = i + 1; k < n; k++)
            for (int64_t j = 0; j < columns; j++)
                EACH AT(F, i * row + j)[l] -= AT(U, i * row + k)[l] * AT(F, k * row + j)[l];
        for (int64_t j = 0; j < columns; j++)
            EACH AT(F, i * row + j)[l] /= AT(U, i * row + i)[l];
    }
}

/* failed becomes `when` for each filter that has not failed and whose `good` is not above `bound`; returns how
 * many of them go on. */
INLINE int64_t NAME(check)(const number *good, const number *bound, int64_t when, int64_t *restrict failed)
{
    int64_t left = 0;
    for (int64_t l = 0; l < WIDTH; l++) {
        if (!failed[l] && !(((const double *)good)[l] > ((const double *)bound)[l]))
            failed[l] = when;
        left += !failed[l];
    }
    return left;
}

INLINE void NAME(covariances)(const filter_models *f, const int64_t n, const int64_t ny, int64_t g,
                              int64_t groups, int64_t first, int64_t last, double *S0, double *noise0,
                              double *P0, double *K0, double *factor0, double *roots0, double *cov0,
                              double *rounding0, int64_t *failed0, double *work)
{
    const int64_t both = n + ny, high = 2 * n > both ? 2 * n : both, N = f->T + 1, nn = n * n, ns = n * ny,
                  ss = ny * ny;
    number *restrict M = (number *)on_lines(work), *restrict St = AT(M, high * both), *restrict noise = AT(St, nn),
                     *restrict At = AT(noise, nn), *restrict sizes = AT(At, nn), *restrict wt = AT(sizes, nn),
                     *P = AT(wt, nn), *root = P, *restrict keep = AT(P, nn), *restrict half = AT(keep, nn),
                     *restrict root_sizes = AT(half, nn), *restrict Ct = AT(root_sizes, nn),
                     *restrict C = AT(Ct, ns), *restrict Kt = AT(C, ns), *restrict CN = AT(Kt, ns),
                     *restrict vt = AT(CN, ns), *restrict V = AT(vt, ss), *restrict L = AT(V, ss);
    int64_t failed[WIDTH], left = 1;
    for (int64_t l = 0; l < WIDTH; l++)
        failed[l] = 0;
    NAME(load)(n, n, S0, nn, g, groups, St, 1, n);
    NAME(load)(n, n, noise0, nn, g, groups, noise, n, 1);
#define LOAD(z, rows, columns, to)                                                                 \
    if (t == first || f->z.step)                                                                   \
    NAME(load)(rows, columns, stage(f->z, 0, t), f->z.group, g, groups, to, 1, rows)
#define STORE(from, rows, columns, row, to)                                                        \
    NAME(store)(rows, columns, from, row, to + t * (rows) * (columns), N * (rows) * (columns), g, groups)
    for (int64_t t = first; t < last && left; t++) {
        LOAD(C, ny, n, Ct);
        LOAD(v, ny, ny, vt);
        LOAD(V, ny, ny, V);
        for (int64_t i = 0; i < n; i++)
            EACH AT(half, i)[l] = AT(noise, i * (n + 1))[l];
        STORE(half, n, 1, 1, rounding0);
        NAME(product)(n, n, n, St, St, n, P, n);
        STORE(P, n, n, n, P0);
        /* [S'C', S'; v', 0] -> [factor', factor'K'; 0, root']. */
        NAME(transpose)(n, n, St, n, half, n);
        NAME(product)(n, ny, n, half, Ct, ny, M, both);
        NAME(copy)(n, n, St, n, AT(M, ny), both);
        NAME(copy)(ny, ny, vt, ny, AT(M, n * both), both);
        NAME(clear)(ny, n, AT(M, n * both + ny), both);
        NAME(triangle)(both, both, ny, M);
        NAME(transpose)(n, ny, Ct, ny, C, n);
        NAME(product)(ny, n, n, Ct, noise, n, CN, n);
        for (int64_t i = 0; i < ny; i++) {
            number good[PACKS], variance[PACKS], lost[PACKS] = {0};
            EACH variance[l] = AT(V, i * (ny + 1))[l];
            for (int64_t j = 0; j < ny; j++)
                EACH {
                    const number zero = {0}, entry = j <= i ? AT(M, j * both + i)[l] : zero;
                    AT(L, i * ny + j)[l] = entry;
                    variance[l] += entry * entry;
                }
            for (int64_t j = 0; j < n; j++)
                EACH lost[l] += AT(CN, i * n + j)[l] * AT(C, i * n + j)[l];
            EACH good[l] = AT(L, i * (ny + 1))[l] * AT(L, i * (ny + 1))[l];
            EACH lost[l] = 32.0 * (double)ny * (eps * variance[l] + lost[l]);
            left = NAME(check)(good, lost, t + 1, failed);
        }
        STORE(L, ny, ny, ny, factor0);
        NAME(solve_upper)(ny, n, M, AT(M, ny), both);
        NAME(copy)(ny, n, AT(M, ny), both, Kt, n);
        NAME(transpose)(ny, n, Kt, n, CN, ny);
        STORE(CN, n, ny, ny, K0);
        NAME(product)(n, n, ny, C, Kt, n, keep, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                EACH AT(keep, i * n + j)[l] = (i == j ? 1.0 : 0.0) - AT(keep, i * n + j)[l];
        NAME(carry)(n, keep, noise, half);
        for (int64_t i = 0; i < nn * PACKS; i++)
            noise[i] += eps * eps * P[i];
        NAME(copy)(n, n, AT(M, ny * both + ny), both, St, n); /* root' */
        NAME(transpose)(n, n, St, n, root, n);
        STORE(root, n, n, n, roots0);
        NAME(product)(n, n, n, St, St, n, half, n);
        STORE(half, n, n, n, cov0);
        if (t == f->T)
            break;
        if (t == first || f->A.step) {
            NAME(load)(n, n, stage(f->A, 0, t), f->A.group, g, groups, At, 1, n);
            for (int64_t i = 0; i < nn * PACKS; i++)
                sizes[i] = SIZE(At[i]);
        }
        LOAD(w, n, n, wt);
        /* [root'A'; w'] -> the transposed root of the next prediction. */
        NAME(product)(n, n, n, root, At, n, M, n);
        NAME(copy)(n, n, wt, n, AT(M, nn), n);
        NAME(carry)(n, At, noise, half);
        for (int64_t i = 0; i < nn * PACKS; i++)
            root_sizes[i] = SIZE(root[i]);
        NAME(product)(n, n, n, sizes, root_sizes, n, half, n);
        for (int64_t i = 0; i < n; i++) {
            number lost[PACKS] = {0};
            for (int64_t j = 0; j < n; j++)
                EACH lost[l] += AT(half, i * n + j)[l] * AT(half, i * n + j)[l];
            EACH AT(noise, i * (n + 1))[l] += eps * eps * lost[l];
        }
        NAME(triangle)(2 * n, n, n, M);
        NAME(copy)(n, n, M, n, St, n);
    }
    NAME(transpose)(n, n, St, n, half, n);
    NAME(store)(n, n, half, n, S0, nn, g, groups);
    NAME(store)(n, n, noise, n, noise0, nn, g, groups);
    for (int64_t l = 0; l < WIDTH && g + l < groups; l++)
        failed0[g + l] = failed[l];
#undef LOAD
#undef STORE
}

INLINE void NAME(gains)(const filter_models *f, const int64_t n, int64_t g, int64_t groups, int64_t held,
                        int64_t roots_held, const double *roots, const double *rounding,
                        double most_condition, double *gains0, double *X0, int64_t *failed0, double *work)
{
    const int64_t wide = 2 * n, nn = n * n;
    number *restrict M = (number *)on_lines(work), *restrict At = AT(M, 4 * nn), *restrict wt = AT(At, nn),
                     *restrict root = AT(wt, nn), *restrict inverse = AT(root, nn),
                     *restrict size = AT(inverse, nn), *restrict lost = AT(size, n);
    int64_t failed[WIDTH], left = 1;
    for (int64_t l = 0; l < WIDTH; l++)
        failed[l] = 0;
    for (int64_t t = 0; t < held && left; t++) {
        if (!t || f->A.step)
            NAME(load)(n, n, stage(f->A, 0, t), f->A.group, g, groups, At, 1, n);
        if (!t || f->w.step)
            NAME(load)(n, n, stage(f->w, 0, t), f->w.group, g, groups, wt, 1, n);
        NAME(load)(n, n, roots + t * nn, roots_held * nn, g, groups, root, n, 1);
        NAME(load)(n, 1, rounding + t * n, held * n, g, groups, lost, 1, 1);
        NAME(product)(n, n, n, root, At, n, M, wide);
        NAME(transpose)(n, n, root, n, AT(M, n), wide);
        NAME(copy)(n, n, wt, n, AT(M, n * wide), wide);
        NAME(clear)(n, n, AT(M, n * wide + n), wide);
        NAME(triangle)(wide, wide, n, M);
        number condition[PACKS] = {0}, most[PACKS];
        for (int64_t j = 0; j < n; j++) {
            number variance[PACKS] = {0}, least[PACKS];
            for (int64_t i = 0; i <= j; i++)
                EACH variance[l] += AT(M, i * wide + j)[l] * AT(M, i * wide + j)[l];
            EACH least[l] = 32.0 * AT(lost, j)[l];
            left = NAME(check)(variance, least, t + 1, failed);
            for (int64_t l = 0; l < WIDTH; l++)
                ((double *)AT(size, j))[l] = sqrt(((double *)variance)[l]);
        }
        /* Row by row from the last, U^-1, each entry times the size of its row. */
        for (int64_t i = n - 1; i >= 0; i--) {
            number *restrict row = AT(inverse, i * n);
            for (int64_t j = 0; j < n; j++)
                EACH {
                    const number zero = {0};
                    AT(row, j)[l] = zero + (j == i ? 1.0 : 0.0);
                }
            for (int64_t k = i + 1; k < n; k++)
                for (int64_t j = k; j < n; j++)
                    EACH AT(row, j)[l] -= AT(M, i * wide + k)[l] * AT(inverse, k * n + j)[l];
            for (int64_t j = i; j < n; j++)
                EACH {
                    AT(row, j)[l] /= AT(M, i * wide + i)[l];
                    condition[l] += AT(size, i)[l] * AT(row, j)[l] * (AT(size, i)[l] * AT(row, j)[l]);
                }
        }
        EACH {
            const number zero = {0};
            condition[l] *= (double)n;
            most[l] = zero + most_condition * most_condition;
        }
        left = NAME(check)(most, condition, t + 1, failed);
        NAME(solve_upper)(n, n, M, AT(M, n), wide);
        NAME(store)(n, n, AT(M, n), wide, gains0 + t * nn, held * nn, g, groups);
        NAME(store)(n, n, AT(M, n * wide + n), wide, X0 + t * nn, held * nn, g, groups);
    }
    for (int64_t l = 0; l < WIDTH && g + l < groups; l++)
        failed0[g + l] = failed[l];
}

INLINE void NAME(back)(const int64_t n, int64_t T, int64_t g, int64_t groups, int64_t held, int64_t first,
                       int64_t last, const double *gains, const double *X, double *R0, double *cov,
                       double *work)
{
    const int64_t nn = n * n;
    number *restrict M = (number *)on_lines(work), *restrict R = AT(M, 2 * nn), *restrict G = AT(R, nn);
    NAME(load)(n, n, R0, nn, g, groups, R, n, 1);
    for (int64_t t = last - 1; t >= first; t--) {
        const int64_t k = t < held ? t : held - 1;
        NAME(load)(n, n, gains + k * nn, held * nn, g, groups, G, n, 1);
        NAME(load)(n, n, X + k * nn, held * nn, g, groups, M, n, 1);
        NAME(product)(n, n, n, R, G, n, AT(M, nn), n);
        NAME(triangle)(2 * n, n, n, M);
        NAME(product)(n, n, n, M, M, n, G, n);
        NAME(store)(n, n, G, n, cov + t * nn, (T + 1) * nn, g, groups);
        NAME(transpose)(n, n, M, n, R, n);
    }
    NAME(store)(n, n, R, n, R0, nn, g, groups);
}

#undef EACH
#undef AT
#undef WIDTH
