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

/* Z[i][j] += sum_k X[k][i] Y[k][j] for i < rows, j < columns: Z += X'Y, or Z -= X'Y with `less`. Tiles of Z
 * stay in registers, and each sum runs in the order of k. */
enum { HIGH = 4, WIDE = 8 };

INLINE void tile(const int less, const int64_t high, const int64_t wide, int64_t inner,
                 const double *restrict X, int64_t X_row, const double *restrict Y, int64_t Y_row,
                 double *restrict Z, int64_t Z_row)
{
    double sums[HIGH][WIDE];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            sums[i][j] = Z[i * Z_row + j];
    for (int64_t k = 0; k < inner; k++, X += X_row, Y += Y_row)
        for (int64_t i = 0; i < high; i++)
            for (int64_t j = 0; j < wide; j++)
                sums[i][j] += less ? -(X[i] * Y[j]) : X[i] * Y[j];
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = 0; j < wide; j++)
            Z[i * Z_row + j] = sums[i][j];
}

INLINE void tiles(const int less, int64_t rows, int64_t columns, int64_t inner,
                  const double *restrict X, int64_t X_row, const double *restrict Y, int64_t Y_row,
                  double *restrict Z, int64_t Z_row)
{
#define TILE(high, wide)                                                                           \
    tile(less, high, wide, inner, X + i, X_row, Y + j, Y_row, Z + i * Z_row + j, Z_row)
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

/* Z += X'Y. */
LANES static void add_product(int64_t rows, int64_t columns, int64_t inner,
                              const double *restrict X, int64_t X_row, const double *restrict Y,
                              int64_t Y_row, double *restrict Z, int64_t Z_row)
{
    tiles(0, rows, columns, inner, X, X_row, Y, Y_row, Z, Z_row);
}

/* Z -= X'Y. */
LANES static void subtract_product(int64_t rows, int64_t columns, int64_t inner,
                                   const double *restrict X, int64_t X_row,
                                   const double *restrict Y, int64_t Y_row, double *restrict Z,
                                   int64_t Z_row)
{
    tiles(1, rows, columns, inner, X, X_row, Y, Y_row, Z, Z_row);
}

/* Sizes up to this are compiled apart, and their loops unrolled. */
enum { SMALL = 4 };

/* Z += X'Y. */
INLINE void add_matrices(const int64_t rows, const int64_t columns, const int64_t inner,
                const double *restrict X, int64_t X_row, const double *restrict Y, int64_t Y_row,
                double *restrict Z, int64_t Z_row)
{
    if (rows > SMALL || columns > SMALL || inner > SMALL) {
        add_product(rows, columns, inner, X, X_row, Y, Y_row, Z, Z_row);
        return;
    }
    for (int64_t k = 0; k < inner; k++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                Z[i * Z_row + j] += X[k * X_row + i] * Y[k * Y_row + j];
}

/* y += M'z for M (rows, columns): four rows of M at a time, each read once and in order. */
INLINE void add_times(int64_t rows, int64_t columns, const double *restrict M,
                      const double *restrict z, double *restrict y)
{
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4, M += 4 * columns)
        for (int64_t j = 0; j < columns; j++)
            y[j] += (z[i] * M[j] + z[i + 1] * M[columns + j])
                    + (z[i + 2] * M[2 * columns + j] + z[i + 3] * M[3 * columns + j]);
    for (; i < rows; i++, M += columns)
        for (int64_t j = 0; j < columns; j++)
            y[j] += z[i] * M[j];
}

/* Four sums side by side, which compilers do not put into one register by themselves. */
#if defined(__GNUC__)
typedef double four __attribute__((vector_size(32)));
#define ADD_FOUR(sums, M, z)                                                                       \
    do {                                                                                           \
        four lanes, others;                                                                        \
        memcpy(&lanes, M, sizeof lanes);                                                           \
        memcpy(&others, z, sizeof others);                                                         \
        sums += lanes * others;                                                                    \
    } while (0)
#define SUM_OF(sums) ((sums[0] + sums[1]) + (sums[2] + sums[3]))
#define NO_FOUR {0.0, 0.0, 0.0, 0.0}
#else
typedef struct {
    double lane[4];
} four;
#define ADD_FOUR(sums, M, z)                                                                       \
    do {                                                                                           \
        for (int lane = 0; lane < 4; lane++) sums.lane[lane] += (M)[lane] * (z)[lane];             \
    } while (0)
#define SUM_OF(sums) ((sums.lane[0] + sums.lane[1]) + (sums.lane[2] + sums.lane[3]))
#define NO_FOUR {{0.0, 0.0, 0.0, 0.0}}
#endif

/* y[i] = sum_j M[i][j] z[j] for so many rows i at most HIGH, each in four sums, of every fourth j. */
INLINE void dots(const int64_t high, int64_t columns, const double *restrict M, int64_t M_row,
                 const double *restrict z, double *restrict y)
{
    four sums[HIGH] = {NO_FOUR, NO_FOUR, NO_FOUR, NO_FOUR};
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4)
        for (int64_t i = 0; i < high; i++)
            ADD_FOUR(sums[i], M + i * M_row + j, z + j);
    for (int64_t i = 0; i < high; i++)
        y[i] = SUM_OF(sums[i]);
    for (; j < columns; j++)
        for (int64_t i = 0; i < high; i++)
            y[i] += M[i * M_row + j] * z[j];
}

/* y += M z for M (rows, columns). */
INLINE void add_rows(int64_t rows, int64_t columns, const double *restrict M,
                     const double *restrict z, double *restrict y)
{
    int64_t i = 0;
    if (columns >= 8)
        for (; i + HIGH <= rows; i += HIGH, M += HIGH * columns) {
            double sums[HIGH];
            dots(HIGH, columns, M, columns, z, sums);
            for (int64_t k = 0; k < HIGH; k++)
                y[i + k] += sums[k];
        }
    for (; i < rows; i++, M += columns) {
        double sum = y[i];
        for (int64_t j = 0; j < columns; j++)
            sum += M[j] * z[j];
        y[i] = sum;
    }
}

/* The first of the doubles from here on, at most three later, at which lanes do not lie across lines of
 * a cache. */
INLINE double *on_lines(double *work)
{
    return (double *)(((uintptr_t)work + 31) & ~(uintptr_t)31);
}

INLINE void copy_or_zero(int64_t count, const double *restrict from, double *restrict to)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = from ? from[i] : 0.0;
}

/* Zero where all entries are finite, else not a number. In eight sums, of which none waits for another. */
INLINE double zero_if_finite(int64_t count, const double *restrict z)
{
    double sums[8] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int64_t k = 0; k < 8; k++)
            sums[k] += 0.0 * z[i + k];
    for (; i < count; i++)
        sums[0] += 0.0 * z[i];
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
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

/* Small sizes, of which the processor's lanes hold no whole number, and the commonest others are compiled
 * apart: their loops are unrolled. */
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
        if (n == 2) return CALL(2, m);                                                             \
        if (n == 3) return CALL(3, m);                                                             \
        if (n == 5) return CALL(5, m);                                                             \
        if (n == 6) return CALL(6, m);                                                             \
        if (n == 7) return CALL(7, m);                                                             \
        return CALL(n, m);                                                                         \
    } while (0)

#endif
