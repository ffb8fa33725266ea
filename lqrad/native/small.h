/* What the kernels share: products of small matrices, and how they are compiled. */
#ifndef LQRAD_SMALL_H
#define LQRAD_SMALL_H

#ifndef LQRAD_SOURCES
#define LQRAD_SOURCES 0
#endif

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* Lanes of four doubles are used where the processor has them, which is found out at load; eight were
 * no faster. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) \
    && !defined(LQRAD_ONE_TARGET)
#define LANES __attribute__((target_clones("avx2", "default")))
#else
#define LANES
#endif

/* Z[i][j] += sum_k X[k][i] Y[k][j] for i < rows, j < columns: Z += X'Y. Tiles of Z stay in registers, and
 * each sum runs in the order of k. */
enum { HIGH = 4, WIDE = 8 };

INLINE void tile(const int64_t high, const int64_t wide, int64_t inner, const double *restrict X,
                 int64_t X_row, const double *restrict Y, int64_t Y_row, double *restrict Z,
                 int64_t Z_row)
{
    double sums[HIGH][WIDE];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            sums[i][j] = Z[i * Z_row + j];
    for (int64_t k = 0; k < inner; k++, X += X_row, Y += Y_row)
        for (int64_t i = 0; i < high; i++)
            for (int64_t j = 0; j < wide; j++)
                sums[i][j] += X[i] * Y[j];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            Z[i * Z_row + j] = sums[i][j];
}

LANES static void add_product(int64_t rows, int64_t columns, int64_t inner,
                              const double *restrict X, int64_t X_row, const double *restrict Y,
                              int64_t Y_row, double *restrict Z, int64_t Z_row)
{
#define TILE(high, wide) tile(high, wide, inner, X + i, X_row, Y + j, Y_row, Z + i * Z_row + j, Z_row)
#define STRIP(high)                                                                                \
    do {                                                                                           \
        int64_t j = 0;                                                                             \
        for (; j + WIDE <= columns; j += WIDE) TILE(high, WIDE);                                   \
        if (j + 4 <= columns) { TILE(high, 4); j += 4; }                                           \
        if (j + 2 <= columns) { TILE(high, 2); j += 2; }                                           \
        if (j < columns) TILE(high, 1);                                                            \
    } while (0)
    int64_t i = 0;
    for (; i + HIGH <= rows; i += HIGH) STRIP(HIGH);
    if (i + 2 <= rows) { STRIP(2); i += 2; }
    if (i < rows) STRIP(1);
#undef STRIP
#undef TILE
}

enum { WIDEST = 16 };

/* y[j] += sum_i M[i][j] z[i] for j < wide, in as many sums as keep a processor busy: of every fourth i. */
INLINE void strip(const int64_t wide, int64_t rows, int64_t columns, const double *restrict M,
                  const double *restrict z, double *restrict y)
{
    double sums[4][WIDEST];
    for (int64_t j = 0; j < wide; j++) {
        sums[0][j] = y[j];
        sums[1][j] = sums[2][j] = sums[3][j] = 0.0;
    }
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4, M += 4 * columns)
        for (int64_t j = 0; j < wide; j++) {
            sums[0][j] += z[i] * M[j];
            sums[1][j] += z[i + 1] * M[columns + j];
            sums[2][j] += z[i + 2] * M[2 * columns + j];
            sums[3][j] += z[i + 3] * M[3 * columns + j];
        }
    for (; i < rows; i++, M += columns)
        for (int64_t j = 0; j < wide; j++)
            sums[0][j] += z[i] * M[j];
    for (int64_t j = 0; j < wide; j++)
        y[j] = (sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]);
}

/* y += M'z for M (rows, columns). */
INLINE void add_times(int64_t rows, int64_t columns, const double *restrict M,
                      const double *restrict z, double *restrict y)
{
    int64_t j = 0;
#define STRIP(wide) strip(wide, rows, columns, M + j, z, y + j)
    for (; j + WIDEST <= columns; j += WIDEST) STRIP(WIDEST);
    if (j + 8 <= columns) { STRIP(8); j += 8; }
    if (j + 4 <= columns) { STRIP(4); j += 4; }
    if (j + 2 <= columns) { STRIP(2); j += 2; }
    if (j < columns) STRIP(1);
#undef STRIP
}

/* y[i] += sum_j M[i][j] z[j]. */
INLINE void add_rows(int64_t rows, int64_t columns, const double *restrict M,
                     const double *restrict z, double *restrict y)
{
    for (int64_t i = 0; i < rows; i++) {
        double sum = y[i];
        for (int64_t j = 0; j < columns; j++)
            sum += M[i * columns + j] * z[j];
        y[i] = sum;
    }
}

INLINE void copy_or_zero(int64_t count, const double *restrict from, double *restrict to)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = from ? from[i] : 0.0;
}

INLINE double dot(int64_t count, const double *restrict y, const double *restrict z)
{
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++)
        sum += y[i] * z[i];
    return sum;
}

INLINE const double *at(const double *array, int64_t step, int64_t t)
{
    return array ? array + t * step : 0;
}

/* The commonest small sizes are compiled apart: their loops are unrolled. */
#define BY_SIZE(n, m, CALL)                                                                        \
    do {                                                                                           \
        if (m == 1) {                                                                              \
            if (n == 1) return CALL(1, 1);                                                         \
            if (n == 2) return CALL(2, 1);                                                         \
            if (n == 3) return CALL(3, 1);                                                         \
            if (n == 4) return CALL(4, 1);                                                         \
        }                                                                                          \
        if (m == 2 && n == 4) return CALL(4, 2);                                                   \
        if (m == 4 && n == 12) return CALL(12, 4);                                                 \
        return CALL(n, m);                                                                         \
    } while (0)

#endif
