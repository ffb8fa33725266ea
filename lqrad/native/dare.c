/* The equations stand in dare.h. */
#include "dare.h"
#include "small.h"

#include <float.h>

/* Exponents of balanced entries above the first are left to the twin; see linalg.balance. */
enum { FAR_FROM_ONE = 40, MOST_DOUBLINGS = 42, MOST_STEPS = 12 };

INLINE void transposed(int64_t rows, int64_t columns, const double *restrict X, int64_t X_row,
                       double *restrict Xt)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            Xt[j * rows + i] = X[i * X_row + j];
}

/* The lower triangle L of G = L L' in its place, whose rows stand `row` doubles apart; 1 where there is none. */
INLINE int64_t factored(int64_t n, double *restrict G, int64_t row)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sum = G[i * row + j];
            for (int64_t k = 0; k < j; k++)
                sum -= G[i * row + k] * G[j * row + k];
            if (j < i)
                G[i * row + j] = sum / G[j * row + j];
            else if (!(sum > 0.0 && isfinite(sum)))
                return 1;
            else
                G[i * row + i] = sqrt(sum);
        }
    return 0;
}

/* Y <- L^-1 Y, or L'^-1 Y, for Y (n, columns). */
INLINE void substituted(int64_t n, const double *restrict L, int64_t row, int64_t transpose,
                        int64_t columns, double *restrict Y)
{
    for (int64_t step = 0; step < n; step++) {
        const int64_t i = transpose ? n - 1 - step : step;
        double *restrict here = Y + i * columns;
        for (int64_t k = transpose ? i + 1 : 0; k < (transpose ? n : i); k++) {
            const double factor = transpose ? L[k * row + i] : L[i * row + k];
            for (int64_t j = 0; j < columns; j++)
                here[j] -= factor * Y[k * columns + j];
        }
        for (int64_t j = 0; j < columns; j++)
            here[j] /= L[i * row + i];
    }
}

/* The exponents z of linalg.balance for entries (N, N), as its `_fit`; 1 where they lie far apart. */
INLINE int64_t fitted(int64_t N, const double *restrict entries, double *restrict z,
                      double *restrict powers, double *restrict logs, double *restrict normal,
                      double *restrict sides)
{
    int64_t root = N;
    for (int64_t i = N - 1; i >= 0; i--) {
        int64_t all = 1;
        for (int64_t j = 0; j < N; j++) {
            int power = 1;
            const double entry = entries[i * N + j];
            logs[i * N + j] = entry != 0.0 ? log2(2.0 * frexp(entry, &power)) : 0.0;
            powers[i * N + j] = power - 1;
            all &= i == j || entry != 0.0 || entries[j * N + i] != 0.0;
        }
        root = all ? i : root;
    }
    /* A forest, breadth first: `sides` is the queue, `normal` marks in its first row the group of a node. */
    double *group = normal, *queue = sides;
    for (int64_t i = 0; i < N; i++)
        group[i] = -1.0;
    for (int64_t start = 0; start < N; start++) {
        const int64_t first = start == 0 && root < N ? root : start;
        if (group[first] >= 0.0)
            continue;
        int64_t head = 0, tail = 0;
        queue[tail++] = (double)first;
        group[first] = (double)first;
        z[first] = 0.0;
        while (head < tail) {
            const int64_t i = (int64_t)queue[head++];
            for (int64_t j = 0; j < N; j++) {
                const int64_t to = entries[j * N + i] != 0.0, from = entries[i * N + j] != 0.0;
                if (group[j] >= 0.0 || !(to || from))
                    continue;
                group[j] = (double)first;
                z[j] = z[i] + (to ? powers[j * N + i] : -powers[i * N + j]);
                queue[tail++] = (double)j;
            }
        }
    }
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++) {
            const double here = entries[i * N + j] != 0.0;
            powers[i * N + j] = here * (powers[i * N + j] + z[j] - z[i]);
            logs[i * N + j] += powers[i * N + j];
        }
    for (int64_t i = 0; i < N; i++) {
        sides[i] = 0.0;
        for (int64_t j = 0; j < N; j++)
            sides[i] += logs[i * N + j] - logs[j * N + i];
    }
    for (int64_t i = N - 1; i >= 0; i--) { /* the first row, which holds the groups, comes last */
        double links = 0.0;
        for (int64_t j = 0; j < N; j++) {
            const double both = (double)(entries[i * N + j] != 0.0) + (double)(entries[j * N + i] != 0.0);
            links += i == j ? 0.0 : both;
            if (j < i)
                normal[i * N + j] = (double)(group[i] == group[j]) - both;
        }
        normal[i * N + i] = 1.0 + links;
    }
    if (factored(N, normal, N))
        return 1;
    substituted(N, normal, N, 0, 1, sides);
    substituted(N, normal, N, 1, 1, sides);
    double farthest = 0.0;
    for (int64_t i = 0; i < N; i++)
        sides[i] = rint(sides[i]);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++)
            if (entries[i * N + j] != 0.0)
                farthest = fmax(farthest, fabs(powers[i * N + j] + (sides[j] - sides[i])));
    for (int64_t i = 0; i < N; i++)
        z[i] += sides[i];
    return !(farthest <= FAR_FROM_ONE);
}

/* The limit of doubling in H, from A, G and H (n, n); work holds 6 n n doubles. */
INLINE int64_t doubled(const int64_t n, double *restrict A, double *restrict G, double *restrict H,
                       double *restrict work)
{
    const int64_t all = n * n, wide = 2 * n;
    double *restrict W = work, *restrict sides = W + all, *restrict At = sides + 2 * all,
                     *restrict one = At + all, *restrict other = one + all;
    for (int64_t count = 0; count < MOST_DOUBLINGS; count++) {
        memset(W, 0, sizeof(double) * (size_t)all);
        for (int64_t i = 0; i < n; i++) {
            W[i * n + i] = 1.0;
            memcpy(sides + i * wide, A + i * n, sizeof(double) * (size_t)n);
            memcpy(sides + i * wide + n, G + i * n, sizeof(double) * (size_t)n);
        }
        add_product(n, n, n, G, n, H, n, W, n);
        for (int64_t k = 0; k < n; k++) {
            int64_t best = k;
            for (int64_t i = k + 1; i < n; i++)
                if (fabs(W[i * n + k]) > fabs(W[best * n + k]))
                    best = i;
            if (!(fabs(W[best * n + k]) > 0.0))
                return 1;
            if (best != k) {
                for (int64_t j = k; j < n; j++) {
                    const double kept = W[k * n + j];
                    W[k * n + j] = W[best * n + j];
                    W[best * n + j] = kept;
                }
                for (int64_t j = 0; j < wide; j++) {
                    const double kept = sides[k * wide + j];
                    sides[k * wide + j] = sides[best * wide + j];
                    sides[best * wide + j] = kept;
                }
            }
            for (int64_t i = k + 1; i < n; i++) {
                const double factor = W[i * n + k] / W[k * n + k];
                for (int64_t j = k + 1; j < n; j++)
                    W[i * n + j] -= factor * W[k * n + j];
                for (int64_t j = 0; j < wide; j++)
                    sides[i * wide + j] -= factor * sides[k * wide + j];
            }
        }
        for (int64_t k = n - 1; k >= 0; k--) {
            for (int64_t j = 0; j < wide; j++)
                sides[k * wide + j] /= W[k * n + k];
            for (int64_t i = 0; i < k; i++) {
                const double factor = W[i * n + k];
                for (int64_t j = 0; j < wide; j++)
                    sides[i * wide + j] -= factor * sides[k * wide + j];
            }
        }
        transposed(n, n, A, n, At);
        /* G += A (W^-1 G) A', of which the mean with its transpose is taken; H likewise. */
        memset(one, 0, sizeof(double) * (size_t)(2 * all));
        add_product(n, n, n, At, n, sides + n, wide, one, n);
        transposed(n, n, one, n, W);
        add_product(n, n, n, W, n, At, n, other, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                G[i * n + j] += 0.5 * (other[i * n + j] + other[j * n + i]);
        memset(one, 0, sizeof(double) * (size_t)(2 * all));
        add_product(n, n, n, H, n, sides, wide, one, n);
        add_product(n, n, n, A, n, one, n, other, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                H[i * n + j] += 0.5 * (other[i * n + j] + other[j * n + i]);
        memset(A, 0, sizeof(double) * (size_t)all);
        add_product(n, n, n, At, n, sides, wide, A, n);
        if (!(dot(all, A, A) > DBL_EPSILON))
            return 0;
    }
    return 1;
}

/* H = [Q M; M' R] + [A B]'P[A B], with PAB (n, n+m) for P[A B]. */
INLINE void completed(int64_t n, int64_t both, const double *restrict AB,
                      const double *restrict weight, const double *restrict P,
                      double *restrict PAB, double *restrict H)
{
    memset(PAB, 0, sizeof(double) * (size_t)(n * both));
    memcpy(H, weight, sizeof(double) * (size_t)(both * both));
    add_product(n, both, n, P, n, AB, both, PAB, both);
    add_product(both, both, n, AB, both, PAB, both, H, both);
}

/* [A B] and [Q M; M' R] in balanced units, whose exponents are z (n+m+1); `spare` holds 4 (n+m+1)^2 doubles. */
INLINE int64_t balanced(int64_t n, int64_t m, const double *A, const double *B, const double *Q,
                        const double *R, const double *M, double *restrict AB,
                        double *restrict weight, double *restrict z, double *restrict sides,
                        double *restrict spare)
{
    const int64_t both = n + m, N = both + 1;
    double *entries = spare, first = 0.0;
    memset(entries, 0, sizeof(double) * (size_t)(N * N));
    for (int64_t i = 0; i < both; i++) {
        const double diagonal = fabs(i < n ? Q[i * n + i] : R[(i - n) * (m + 1)]);
        entries[both * N + i] = diagonal;
        first = first != 0.0 ? first : diagonal;
        if (i < n)
            for (int64_t j = 0; j < both; j++)
                entries[i * N + j] = fabs(j < n ? A[i * n + j] : B[i * m + j - n]);
    }
    int power = 1;
    frexp(first, &power);
    const int odd = first != 0.0 ? (power - 1) & 1 : 0;
    for (int64_t i = 0; i < both; i++)
        entries[both * N + i] = sqrt(ldexp(entries[both * N + i], -odd));
    if (fitted(N, entries, z, entries + N * N, entries + 2 * N * N, entries + 3 * N * N, sides))
        return 1;
    z[both] = 2.0 * z[both] + odd;
    const int cost = (int)z[both];
    for (int64_t i = 0; i < both; i++)
        for (int64_t j = 0; j < both; j++) {
            const int x = (int)z[i], y = (int)z[j];
            double entry;
            if (i < n)
                AB[i * both + j] = ldexp(j < n ? A[i * n + j] : B[i * m + j - n], y - x);
            if (i < n && j < n)
                entry = Q[i * n + j];
            else if (i >= n && j >= n)
                entry = R[(i - n) * m + j - n];
            else
                entry = !M ? 0.0 : i < n ? M[i * m + j - n] : M[j * m + i - n];
            weight[i * both + j] = ldexp(entry, x + y - cost);
        }
    return 0;
}

/* P by doubling from Q, of the weights [Q M; M' R] + [A B]'Q[A B] - [Q 0; 0 0]; `spare` holds 8 n n doubles. */
INLINE int64_t started(int64_t n, int64_t m, const double *AB, double *weight, double *P,
                       double *PAB, double *H, double *limit, double *spare)
{
    const int64_t both = n + m;
    double *A = spare, *G = A + n * n, *L = H + n * both + n, *sides = PAB;
    for (int64_t i = 0; i < n; i++) {
        memcpy(P + i * n, weight + i * both, sizeof(double) * (size_t)n);
        memset(weight + i * both, 0, sizeof(double) * (size_t)n);
    }
    completed(n, both, AB, weight, P, PAB, H);
    for (int64_t i = 0; i < n; i++)
        memcpy(weight + i * both, P + i * n, sizeof(double) * (size_t)n);
    if (factored(m, L, both))
        return 1;
    for (int64_t i = 0; i < m; i++) /* L^-1 [N B'] */
        for (int64_t j = 0; j < n; j++) {
            sides[i * 2 * n + j] = H[(n + i) * both + j];
            sides[i * 2 * n + n + j] = AB[j * both + n + i];
        }
    substituted(m, L, both, 0, 2 * n, sides);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double a = 0.0, g = 0.0, h = 0.0;
            for (int64_t k = 0; k < m; k++) {
                const double *row = sides + k * 2 * n;
                a += row[n + i] * row[j];
                g += row[n + i] * row[n + j];
                h += row[i] * row[j];
            }
            A[i * n + j] = AB[i * both + j] - a;
            G[i * n + j] = g;
            limit[i * n + j] = 0.5 * (H[i * both + j] + H[j * both + i]) - h;
        }
    if (doubled(n, A, G, limit, G + n * n))
        return 1;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            P[i * n + j] += 0.5 * (limit[i * n + j] + limit[j * n + i]);
    return 0;
}

/* The numbers by which P is judged, the first of all the largest |E[i][j]| / sqrt(s[i] s[j]). */
typedef struct {
    double relative, residual, narrowest;
} judgement;

/* K, F = A - B K, E, and what they are worth; 1 where R + B'PB has no factor or E is not finite. */
INLINE int64_t judged(int64_t n, int64_t m, const double *AB, const double *weight, const double *P,
                      double *PAB, double *H, double *K, double *F, double *E, double *PF,
                      double *size, judgement *found)
{
    const int64_t both = n + m;
    double *L = H + n * both + n, *slope = PAB, largest = 0.0, unsound = 0.0;
    completed(n, both, AB, weight, P, PAB, H);
    for (int64_t i = 0; i < n; i++) {
        const double q = weight[i * both + i];
        size[i] = fabs(H[i * both + i] - q) + fabs(P[i * n + i]) + fabs(q);
        largest = fmax(largest, size[i]);
    }
    for (int64_t i = 0; i < m; i++) {
        memcpy(K + i * n, H + (n + i) * both, sizeof(double) * (size_t)n);
        size[n + i] = L[i * both + i];
    }
    if (factored(m, L, both))
        return 1;
    found->narrowest = 1.0;
    for (int64_t i = 0; i < m; i++)
        found->narrowest = fmin(found->narrowest, L[i * both + i] * L[i * both + i] / size[n + i]);
    substituted(m, L, both, 0, n, K);
    substituted(m, L, both, 1, n, K);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = AB[i * both + j];
            for (int64_t k = 0; k < m; k++)
                sum -= AB[i * both + n + k] * K[k * n + j];
            F[i * n + j] = sum;
            E[i * n + j] = weight[i * both + j] - P[i * n + j];
        }
    for (int64_t i = 0; i < m; i++) /* R K - 2 M' */
        for (int64_t j = 0; j < n; j++) {
            double sum = -2.0 * weight[j * both + n + i];
            for (int64_t k = 0; k < m; k++)
                sum += weight[(n + i) * both + n + k] * K[k * n + j];
            slope[i * n + j] = sum;
        }
    memset(PF, 0, sizeof(double) * (size_t)(n * n));
    add_product(n, n, n, P, n, F, n, PF, n);
    add_product(n, n, n, F, n, PF, n, E, n);
    add_product(n, n, m, K, n, slope, n, E, n);
    const double least = DBL_EPSILON * largest;
    found->relative = found->residual = 0.0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            const double error = 0.5 * (E[i * n + j] + E[j * n + i]);
            E[i * n + j] = E[j * n + i] = error;
            unsound += 0.0 * error;
            found->residual = fmax(found->residual, fabs(error));
            if (largest > 0.0) {
                const double unit = sqrt(fmax(size[i], least)) * sqrt(fmax(size[j], least));
                found->relative = fmax(found->relative, fabs(error) / unit);
            }
        }
    if (largest > 0.0)
        found->residual /= largest;
    return !(unsound == 0.0);
}

/* How often F is squared until it vanishes, or 0. With `sum` also X = E + F'XF in the place of E. `spare` holds
 * 5 n n doubles. */
INLINE int64_t vanished(int64_t n, const double *F, int64_t sum, double *E, double *spare)
{
    const int64_t all = n * n;
    double *loop = spare, *square = loop + all, *turned = square + all, *EF = turned + all,
           *more = EF + all;
    memcpy(loop, F, sizeof(double) * (size_t)all);
    for (int64_t squarings = 1; squarings <= MOST_DOUBLINGS; squarings++) {
        if (sum) {
            memset(EF, 0, sizeof(double) * (size_t)(2 * all));
            add_product(n, n, n, E, n, loop, n, EF, n);
            add_product(n, n, n, loop, n, EF, n, more, n);
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < n; j++)
                    E[i * n + j] += 0.5 * (more[i * n + j] + more[j * n + i]);
        }
        transposed(n, n, loop, n, turned);
        memset(square, 0, sizeof(double) * (size_t)all);
        add_product(n, n, n, turned, n, loop, n, square, n);
        double *kept = loop;
        loop = square;
        square = kept;
        const double left = dot(all, loop, loop);
        if (!(left > DBL_EPSILON))
            return left <= DBL_EPSILON ? squarings : 0;
    }
    return 0;
}

LANES int64_t dare_solve(int64_t n, int64_t m, const double *A, const double *B, const double *Q,
                         const double *R, const double *M, double *P, double *K, double *F,
                         double *found, double *work)
{
    const int64_t both = n + m, square = (both + 1) * (both + 1), all = n * n;
    double *AB = work, *weight = AB + square, *spare = weight + square, *PAB = spare,
           *H = PAB + square, *limit = H + square, *now = spare + 4 * square, *gain = now + all,
           *closed = gain + m * n, *E = closed + all, *more = E + all, *z = more + 8 * all,
           *sides = z + both + 1, least = INFINITY;
    if (balanced(n, m, A, B, Q, R, M, AB, weight, z, sides, spare)
        || started(n, m, AB, weight, now, PAB, H, limit, more))
        return 1;
    for (int64_t step = 0; step < MOST_STEPS; step++) {
        judgement here;
        if (judged(n, m, AB, weight, now, PAB, H, gain, closed, E, more, sides, &here))
            return 1;
        if (!(here.relative < least)) /* rounding errors are left: the last was best */
            break;
        const int64_t done = here.relative <= 2.0 * DBL_EPSILON;
        const int64_t squarings = vanished(n, closed, !done, E, more);
        if (!squarings)
            return 1;
        least = here.relative;
        found[0] = here.residual;
        found[1] = (double)squarings;
        found[2] = here.narrowest;
        memcpy(P, now, sizeof(double) * (size_t)all);
        memcpy(K, gain, sizeof(double) * (size_t)(m * n));
        memcpy(F, closed, sizeof(double) * (size_t)all);
        if (done)
            break;
        for (int64_t i = 0; i < all; i++)
            now[i] += E[i];
    }
    const int cost = (int)z[both];
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < n; i++)
            P[i * n + j] = ldexp(P[i * n + j], cost - (int)z[i] - (int)z[j]);
        for (int64_t i = 0; i < m; i++)
            K[i * n + j] = ldexp(K[i * n + j], (int)z[n + i] - (int)z[j]);
    }
    return 0;
}
