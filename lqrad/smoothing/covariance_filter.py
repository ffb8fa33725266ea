"""The filter's covariances, and the passes over a series that they allow.

With P[t] the covariance of x[t] given y[0], ..., y[t-1],

    F = C P C' + V,   K = P C'F^-1,   L = A (I - K C),    P[t+1] = A (I - K C) P A' + W

are the covariance of an innovation, the gain, the closed loop and the covariance of the prediction.
Everything after that is one block-bidiagonal system in L, forward for the predictions, and backward
for the costates: the smoother is the adjoint of the filter. No W or V is inverted, but P[0] is
needed, and digits are lost where it is vague: `lqrad.smoothing.start` estimates what is vague of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg.lapack import dgeqrf, dpstrf, dtrtrs

from lqrad.arguments import EPS, Array, is_diagonal
from lqrad.errors import NotConvexError
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.settled import looks, settled
from lqrad.linalg.stages import inner, substitute, times
from lqrad.linalg.tridiagonal import congruences
from lqrad.native.library import serves_matrices
from lqrad.native.smoothing import FilterArrays, filter_covariances
from lqrad.smoothing.arrays import Observations, product, symmetric, transposed
from lqrad.smoothing.model import SmoothingProblem

# A rounded variance that has grown by more than this in an eighth of the stages may grow for ever.
_GROWTH = 1.0625
# Where a subtraction leaves a smaller part of a variance than this, its digits count as lost.
_MOST_SUBTRACTED = 1e-4
# A direction of a root is zero below so many roundings of its largest.
LOST = 1024
LOG_2PI = math.log(2 * math.pi)


class CovarianceFilter:
    """The filter's covariances from P[0] = root root', and the passes over a series that they allow.

    Where nothing varies and the covariances settle, `settled` says how, they are run until then: the
    last of their stages stands for all that follow, and `whole` repeats it.

    Attributes
    ----------
    predicted_cov, cov : (N, n, n), N <= T+1
        P[t|t-1] and P[t|t].
    K : (N, n, ny)
    factor, roots : (N, ny, ny), (N, n, n)
        Lower triangular roots of the innovations' covariances, and those of cov.
    rounding : (N, n)
        What rounding has left of variances of predictions that are zero.
    nothing : (n, T+1, ny)
        Series of zeros, to which the states that start from axes of x[0] are the responses.
    """

    def __init__(self, problem: SmoothingProblem, data: Observations, root: Array) -> None:
        self.T, n, ny = data.z.shape[-2] - 1, problem.n, problem.ny
        self.A, self.C, self.W = problem.A, data.C, problem.W
        self.nothing = np.broadcast_to(np.zeros(ny), (n, self.T + 1, ny))
        found = self._run(root, data.V)
        self.predicted_cov, self.K, self.factor = found.predicted_cov, found.K, found.factor
        self.roots, self.rounding = found.roots, found.rounding
        self.cov = self.roots @ transposed(self.roots)
        steps = slice(self.T)
        self.loop = Loop(self._closed_loop(self.K[steps], self.C[steps]), self.T)

    def _closed_loop(self, K: Array, C: Array) -> Array:
        """A (I - K C)."""
        C = self.C if self.C.ndim == 2 else C
        return np.asarray(self.A @ (np.eye(K.shape[-2]) - K @ C))

    def _run(self, root: Array, V: Array) -> FilterArrays:
        """Run the recursion until its end, or until the covariances have settled."""
        T, (ny, n) = self.T, self.C.shape[-2:]
        arrays = (self.A, self.C, root_of(V), V, root_of(self.W))
        native = serves_matrices(n, ny)
        run = filter_covariances if native else _recursion
        found, S, noise = FilterArrays.empty(T, n, ny), np.array(root), np.zeros((n, n))
        varies = any(z.ndim == 3 for z in arrays)
        first = 0
        for last in [T + 1] if varies else looks(T + 1, *((64, 2.0) if native else ())):
            failed = run(first, last, T, arrays, S, noise, found)
            if failed:
                raise NotConvexError(
                    f"the covariance of the innovation at time {failed - 1} is singular to working "
                    "precision: V is, and what is known by then determines an entry of y, or all "
                    "but; leave that entry out as NaN, or give it a variance in V"
                )
            if last <= T and self._settled(found, last):
                return FilterArrays(*(array[:last].copy() for array in found))
            first = last
        return found

    def _settled(self, found: FilterArrays, N: int) -> bool:
        """Whether N stages are all: P, P[t|t] and the innovations' covariance stay as they are."""
        P, K, factor, roots, rounding = (array[N - 1 :: -1] for array in found)
        if (rounding[0] > _GROWTH * rounding[N // 8]).any():
            return False
        keep = np.eye(len(P[0])) - K[0] @ self.C
        rows = np.concatenate([keep, self.C])
        sizes = [np.sqrt((L * L).sum(axis=1)) for L in (roots[0], factor[0])]
        watched = np.concatenate([rows, np.concatenate(sizes)[:, None]], axis=1)
        return settled(P, self.T + 1 - N, (self.A @ keep).T, watched)

    def whole(self, stages: Array) -> Array:
        """The stages of all times, from those until the covariances have settled."""
        return repeat_last(stages, self.T + 1)

    def innovation_cov(self, C: Array, V: Array) -> Array:
        """The covariances of whole rows of y, be their entries observed or not."""
        return symmetric(C @ self.predicted_cov @ transposed(C) + V)

    def predict(self, start: Array, c: Array | float, z: Array) -> Array:
        """The predicted states x[t+1] = L x[t] + A K z[t] + c from x[0] = start (..., n)."""
        f = np.empty((*z.shape[:-1], self.A.shape[-1]))
        f[..., 0, :] = start
        f[..., 1:, :] = times(self.A, times_settled(self.K, z)[..., :-1, :]) + c
        return self.loop.solve(f)

    def respond(self) -> Array:
        """The derivatives (n, T+1, n) of the predicted states in the entries of m0."""
        return self.predict(np.eye(len(self.nothing)), 0.0, self.nothing)

    def innovate(self, predicted: Array, z: Array) -> Array:
        """The innovations."""
        return np.asarray(z - times(self.C, predicted))

    def update(self, predicted: Array, innovations: Array) -> Array:
        """The filtered states."""
        return predicted + times_settled(self.K, innovations)

    def whiten(self, innovations: Array) -> Array:
        """The innovations, each divided by its standard deviations."""
        h = len(self.factor) - 1
        e, rest = np.empty(innovations.shape), innovations[..., h:, :]
        e[..., :h, :] = substitute(self.factor[:h], innovations[..., :h, :, None])[..., 0]
        last = substitute(self.factor[h], rest.reshape(-1, rest.shape[-1]).T).T
        e[..., h:, :] = last.reshape(rest.shape)
        return e

    def log_determinant(self) -> float:
        """That of the covariance of all observations."""
        logs = np.log(np.abs(np.diagonal(self.factor, axis1=1, axis2=2))).sum(axis=1)
        return 2 * float(logs.sum() + (self.T + 1 - len(logs)) * logs[-1])

    def loglik(self, e: Array, data: Observations) -> Array:
        """The log-likelihood, from the whitened innovations e."""
        square = inner(e, e)
        return np.asarray(-0.5 * (data.entries * LOG_2PI + self.log_determinant() + square))

    def weighted(self) -> Array:
        """C whitened by the innovations: its square is C'F^-1 C."""
        return substitute(self.factor, np.broadcast_to(self.C, (len(self.K), *self.C.shape[-2:])))

    def costates(self, e: Array) -> Array:
        """p[t-1] = L'p[t] + C'F^-1 (innovation) for t = 0, ..., T: the adjoint of `predict`."""
        pulls = times_settled(self.weighted(), e, transpose=True)
        return self.loop.solve(pulls, transpose=True)

    def smooth(self, predicted: Array, z: Array) -> tuple[Array, Array, Array]:
        """x[t|T] = x[t|t] + P[t|t] A'p[t], with the costates p and the whitened innovations."""
        innovations = self.innovate(predicted, z)
        e = self.whiten(innovations)
        x, p = self.update(predicted, innovations), self.costates(e)
        pulled = times(self.A, p[..., 1:, :], transpose=True)
        x[..., :-1, :] += times_settled(self.cov[: self.T], pulled)
        return x, p, e

    def smooth_covariances(self) -> tuple[Array, Array]:
        """Cov and lag_cov, from the covariances N of the costates, N[t-1] = C'F^-1 C + L'N[t] L.

        P[t|T] = P[t|t] - P[t|t] A'N[t] A P[t|t],    cov(x[t+1], x[t]) = (I - P[t+1|t] N[t]) A P[t|t]

        No covariance is solved with, which may be singular; where W is. Where most of a variance is
        subtracted, as from that of an unstable state, RTS has more digits, and is used.
        """
        weighted, filtered_cov = self.whole(self.weighted()), self.whole(self.cov)
        predicted_cov, roots = self.whole(self.predicted_cov), self.whole(self.roots)
        N, _ = congruences(repeat_last(self.loop.A, self.T), product(weighted, weighted))
        ahead = self.A @ filtered_cov[:-1]
        pulled = N[1:] @ ahead
        lag_cov = ahead - predicted_cov[1:] @ pulled
        # P - PA'NAP = S (I - S'A'NAS) S' for P = S S', which keeps it semidefinite.
        S = roots[:-1]
        step = self.A @ S
        values, vectors = np.linalg.eigh(np.eye(S.shape[-1]) - transposed(step) @ N[1:] @ step)
        S = S @ (vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])
        cov = filtered_cov.copy()
        cov[:-1] = S @ transposed(S)
        left, filtered, predicted = (
            np.diagonal(P, axis1=1, axis2=2) for P in (cov, filtered_cov, predicted_cov)
        )
        good = np.all(left >= _MOST_SUBTRACTED * filtered, axis=1)
        if not good.all():
            _, rts_cov, rts_lag_cov = self.rts_covariances()
            both = good[:-1] & np.all((left >= _MOST_SUBTRACTED * predicted)[1:], axis=1)
            cov[~good], lag_cov[~both] = rts_cov[~good], rts_lag_cov[~both]
        return symmetric(cov), lag_cov

    def rts_covariances(self) -> tuple[Array, Array, Array]:
        """J', cov and lag_cov, by the recursion of Rauch, Tung and Striebel, in roots.

        J = P[t|t] A'P[t+1|t]^-1,    P[t|T] = X X' + J P[t+1|T] J',    cov(x[t+1], x[t]) = P[t+1|T] J'

        with X X' = P[t|t] - J P[t+1|t] J', what is left of x[t] where x[t+1] is known. For roots S of
        P[t|t] and w of W, with U the triangle of P[t+1|t] = U'U,

            orthogonal [S'A', S'; w', 0] = [U, U J'; 0, X']

        so that nothing is subtracted, and no square is solved with.
        """
        S, n = self.roots[: self.T], self.roots.shape[-1]
        rows = np.zeros((len(S), 2 * n, 2 * n))
        rows[:, :n, :n] = (self.A @ S).swapaxes(-1, -2)
        rows[:, :n, n:] = S.swapaxes(-1, -2)
        rows[:, n:, :n] = root_of(self.W).swapaxes(-1, -2)
        R: Array = np.asarray(np.linalg.qr(rows, mode="r"))
        U = R[:, :n, :n]
        moves = (U * U).sum(axis=1) > 32 * repeat_last(self.rounding, len(S) + 1)[1:]
        gains, apart = _solve_triangles(np.where(moves[:, None], U, 0.0), R[:, :n, n:])  # J'
        X = np.concatenate([R[:, n:, n:], apart], axis=1)
        cov = self._backward(X, gains)
        return gains, cov, cov[1:] @ repeat_last(gains, self.T)

    def _backward(self, X: Array, gains: Array) -> Array:
        """P[t|T] = X X' + J P[t+1|T] J', as a square of a root at each step, until it settles.

        Where the filter has settled, X and J do not vary, and P[t|T] settles too on the way back.
        """
        T, h, n = self.T, len(gains) - 1, self.roots.shape[-1]
        lower, R = np.tri(n), self.roots[-1]
        cov = np.empty((T + 1, n, n))
        cov[T] = self.cov[-1]

        def run(first: int, last: int) -> None:
            nonlocal R
            for t in range(last - 1, first - 1, -1):
                k = min(t, h)
                R = _triangle(np.concatenate([X[k], R.T.dot(gains[k])]), lower)
                cov[t] = R.dot(R.T)

        last = T
        for swept in looks(T - h):
            run(T - swept, last)
            last = T - swept
            if last > h and settled(cov[last:], last - h, gains[h]):
                cov[h:last] = cov[last]
                last = h
                break
        run(0, last)
        return cov


def repeat_last(stages: Array, count: int) -> Array:
    """The stages (count, ...), of which the last of those given stands for all that follow."""
    if len(stages) >= count:
        return stages[:count]
    whole = np.empty((count, *stages.shape[1:]))
    whole[: len(stages)], whole[len(stages) :] = stages, stages[-1]
    return whole


def times_settled(M: Array, z: Array, *, transpose: bool = False) -> Array:
    """M[t] z[t], or M[t]'z[t], for z (..., T+1, c); the last M stands for all that follow."""
    h, rows = len(M) - 1, z.shape[-2]
    if h + 1 == rows:
        return times(M, z, transpose=transpose)
    y = np.empty((*z.shape[:-1], M.shape[-1 if transpose else -2]))
    times(M[:h], z[..., :h, :], transpose=transpose, out=y[..., :h, :])
    times(M[h], z[..., h:, :], transpose=transpose, out=y[..., h:, :])
    return y


class Loop:
    """L x = f and L'p = f, as `Bidiagonal` has them, of which the last A stands for all that follow."""

    def __init__(self, A: Array, T: int) -> None:
        self.A, self.T = A, T
        settles = len(A) < T
        self.head = Bidiagonal(A[:-1] if settles else A)
        self.rest = Bidiagonal(A[-1]) if settles else None

    def solve(self, f: Array, *, transpose: bool = False) -> Array:
        """The solution, which may be found in f."""
        if self.rest is None:
            return self.head.solve(f, transpose=transpose, overwrite=True)
        h = len(self.A) - 1
        parts = [(self.head, f[..., : h + 1, :]), (self.rest, f[..., h:, :])]
        for matrix, part in reversed(parts) if transpose else parts:
            part[...] = matrix.solve(part, transpose=transpose, overwrite=True)
        return f


def _recursion(
    first: int,
    last: int,
    T: int,
    arrays: Sequence[Array],
    S: Array,
    noise: Array,
    found: FilterArrays,
) -> int:
    """Run the filter at the times first, ..., last - 1, as `filter_covariances` of smoothing.h.

        [C S, v; S, 0] -> [factor, 0; K factor, roots[t]]       [A roots[t], w] -> [S of t+1, 0]

    S, noise and what is found are written in place; 0 is returned, or 1 + a time.
    At that time the covariance of the innovation is singular to working precision.
    """
    A, C, v, V, w = arrays
    ny, n = C.shape[-2:]
    Cs, vs, Vs = (np.broadcast_to(z, (T + 1, *z.shape[-2:])) for z in (C, v, V))
    As, ws = (np.broadcast_to(z, (T, n, n)) for z in (A, w))
    identity, lower = np.eye(n), np.tri(n + ny)
    rows = np.zeros((n + ny, n + ny))  # [C S, v; S, 0], transposed
    if not first:
        S[:] = _triangle(S.T, lower[:n, :n])
    for t in range(first, last):
        C, found.rounding[t] = Cs[t], noise.diagonal()
        rows[:n, :ny], rows[n:, :ny], rows[:n, ny:] = C.dot(S).T, vs[t].T, S.T
        found.predicted_cov[t] = P = S.dot(S.T)
        R = _triangle(rows, lower)
        L = R[:ny, :ny]
        variances = (L * L).sum(axis=1)
        least = EPS * (variances + Vs[t].diagonal()) + C.dot(noise).dot(C.T).diagonal()
        if (L.diagonal() ** 2 <= 32 * ny * least).any():
            return t + 1
        K = dtrtrs(L, R[ny:, :ny].T, lower=1, trans=1)[0].T
        found.K[t], found.factor[t], found.roots[t] = K, L, R[ny:, ny:]
        # What rounding leaves of a variance that is zero, by an exact observation or terms that cancel.
        keep = identity - K.dot(C)
        noise[:] = keep.dot(noise).dot(keep.T) + EPS**2 * P
        if t < T:
            A, root = As[t], found.roots[t]
            lost = EPS * np.abs(A).dot(np.abs(root))
            S[:] = _triangle(np.concatenate([A.dot(root).T, ws[t].T]), lower[:n, :n])
            noise[:] = A.dot(noise).dot(A.T)
            noise.flat[:: n + 1] += (lost * lost).sum(axis=1)
    return 0


def root_of(P: Array) -> Array:
    """L with L L' = P (..., n, n), each row as right as its own variance, whatever those of others.

    In units in which the variances are one, by Cholesky's method: with pivoting where P is singular,
    which leaves out what is zero but for rounding.
    """
    if is_diagonal(P):
        return np.sqrt(P)
    size = np.sqrt(np.diagonal(P, axis1=-2, axis2=-1))
    size = np.where(size > 0, size, 1.0)[..., None]
    scaled = P / size / size.swapaxes(-1, -2)
    try:
        L = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        n = P.shape[-1]
        L = np.reshape([_pivoted(matrix) for matrix in scaled.reshape(-1, n, n)], P.shape)
    return np.asarray(size * L)


def _pivoted(P: Array) -> Array:
    """L with L L' = P, of which zero columns are the last."""
    factor, pivots, rank, _ = dpstrf(P, lower=1)
    L = np.zeros_like(P)
    L[pivots - 1, :rank] = np.tril(factor)[:, :rank]
    return L


def _triangle(M: Array, lower: Array) -> Array:
    """L lower triangular with L L' = M'M; `lower` has ones there."""
    return np.asarray(dgeqrf(M)[0][: len(lower)].T * lower)


def _solve_triangles(U: Array, f: Array) -> tuple[Array, Array]:
    """The least X of U[t] X[t] = f[t], and what of f is in directions that U[t] has lost to rounding.

    Columns of U may be of all sizes.
    """
    size = np.sqrt((U * U).sum(axis=1))
    size = np.where(size > 0, size, 1.0)[:, None, :]
    left, values, right = np.linalg.svd(U / size)
    known = values > LOST * U.shape[-1] * EPS * values[:, :1]
    half = left.swapaxes(-1, -2) @ f
    weights = np.where(known, 1 / np.where(known, values, 1.0), 0.0)[..., None]
    X = right.swapaxes(-1, -2) @ (half * weights) / size.swapaxes(-1, -2)
    return X, np.where(known[..., None], 0.0, half)
