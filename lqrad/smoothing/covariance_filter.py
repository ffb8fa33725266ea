"""The filter's covariances, the passes over a series that they allow, and a start that is vague.

With P[t] the covariance of x[t] given y[0], ..., y[t-1],

    F = C P C' + V,   K = P C'F^-1,   L = A (I - K C),    P[t+1] = A (I - K C) P A' + W

are the covariance of an innovation, the gain, the closed loop and the covariance of the prediction.
Everything after that is one block-bidiagonal system in L, forward for the predictions, and backward
for the costates: the smoother is the adjoint of the filter. No W or V is inverted, but P[0] is
needed, and digits are lost where it is vague. So x[0] = m0 + root b + (0, base): the filter starts
from the covariance `base`, and b, the vague part, is estimated from the innovations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dgeqrf, dpstrf, dtrtrs

from lqrad.arguments import EPS, Array
from lqrad.errors import NotConvexError
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.settled import looks, settled
from lqrad.linalg.stages import inner, substitute, times
from lqrad.linalg.tridiagonal import congruences
from lqrad.native.library import serves_matrices
from lqrad.native.smoothing import FilterArrays, filter_covariances
from lqrad.smoothing.arrays import Observations, product, state_variances, symmetric, transposed
from lqrad.smoothing.batch import SmoothingBatch
from lqrad.smoothing.model import SmoothingProblem

# Without a prior the start counts as open in a direction to which the observations respond, relative
# to their responses to single entries of x[0], by less than this for each of them.
_OPEN = 1e4 * EPS
# A rounded variance that has grown by more than this in an eighth of the stages may grow for ever.
_GROWTH = 1.0625
# Where a subtraction leaves a smaller part of a variance than this, its digits count as lost.
_MOST_SUBTRACTED = 1e-4
# A part of a variance that rounding P0 may move it by.
_MOST_MOVED = 1e-4
# A direction of a root is zero below so many roundings of its largest.
_LOST = 1024
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


class StartedFilter:
    """The filter of a start that may be vague: x[0] = m0 + root b + (0, base).

    The filter runs from the covariance `base`. What is left of the prior, b ~ (0, I), or what there
    is no prior for, is a regression of the innovations on their responses to b: `moved` (k, T+1, n) are
    those of the predictions, `slopes` (k, T+1, ny) those of the innovations, whitened.
    """

    def __init__(self, problem: SmoothingProblem, data: Observations) -> None:
        self.problem, self.data = problem, data
        base, self.root = split_prior(problem)
        self.filtering = CovarianceFilter(problem, data, base)
        self.nothing = self.filtering.nothing[: len(self.root)]
        self.moved = self.filtering.predict(self.root, 0.0, self.nothing)
        self.slopes = self._whiten(self.moved, self.nothing)

    def _whiten(self, predicted: Array, z: Array) -> Array:
        return self.filtering.whiten(self.filtering.innovate(predicted, z))

    def predict(self, m0: Array, c: Array | float, z: Array) -> tuple[Array, Array, Array]:
        """L and b, as of `estimate_start`, and the predictions from the start that they give."""
        e = self._whiten(self.filtering.predict(m0, c, z), z)
        L, b = estimate_start(self.problem, self.data, self.slopes, e)
        return L, b, self.filtering.predict(m0 + b @ self.root, c, z)

    def loglik(self, e: Array, L: Array, b: Array) -> Array:
        """The log-likelihood, from the whitened innovations e at the start that was estimated."""
        loglik = self.filtering.loglik(e, self.data) - np.log(np.abs(L.diagonal())).sum()
        prior = 0.0 if self.problem.P0 is None else 0.5 * (b * b).sum(axis=-1)
        return np.asarray(loglik - prior)


def smooth_by_recursions(
    problem: SmoothingProblem, data: Observations, covariances: bool
) -> tuple[Array, Array | None, Array | None, Array, Array]:
    """Return x, cov, lag_cov, p and loglik, as of `Smoothed`, by the filter and its adjoint."""
    started = StartedFilter(problem, data)
    filtering = started.filtering

    L, b, predicted = started.predict(problem.m0, problem.c, data.z)
    x, p, e = filtering.smooth(predicted, data.z)
    cov = lag_cov = None
    if covariances:
        cov, lag_cov = filtering.smooth_covariances()
        spread, *_ = filtering.smooth(started.moved, started.nothing)
        spread = substitute(L, spread.swapaxes(0, 1))  # (T+1, k, n)
        cov = symmetric(cov + product(spread, spread))
        lag_cov += product(spread[1:], spread[:-1])
        if is_rounded(problem):
            nothing = filtering.nothing
            response = started.predict(np.eye(problem.n), 0.0, nothing)[2]
            check_rounding(problem, "cov", cov, filtering.smooth(response, nothing)[0])
    return x, cov, lag_cov, p[..., 1:, :], started.loglik(e, L, b)


def is_rounded(problem: SmoothingProblem | SmoothingBatch) -> bool:
    """Whether P0, or one of a batch, has a direction whose variance is not much more than the rounding of P0's entries.

    Where not, that rounding changes all variances by a small part: they grow no faster than P0.
    """
    if problem.P0 is None:
        return False
    size = np.sqrt(np.diagonal(problem.P0, axis1=-2, axis2=-1))
    known = size == 0  # which is exact
    size = np.where(known, 1.0, size)
    correlation = problem.P0 / size[..., :, None] / size[..., None, :]
    correlation += known[..., None] * np.eye(problem.n)
    return bool((np.linalg.eigvalsh(correlation)[..., 0] * _MOST_MOVED <= problem.n * EPS).any())


def check_rounding(problem: SmoothingProblem, name: str, cov: Array, response: Array) -> None:
    """Raise NotConvexError where rounding the entries of P0 moves a variance by a part of it.

    With G[t] = dx[t]/dm0, given as its columns (n, T+1, n), a change of P0 by dP0 changes the
    covariance cov[t] by G[t] dP0 G[t]' to first order.
    """
    assert problem.P0 is not None
    deviations = np.tensordot(np.sqrt(problem.P0.diagonal()), np.abs(response), axes=1)
    moved = EPS * deviations**2
    variances = np.diagonal(cov, axis1=1, axis2=2)
    # What is as small as the square of a rounded deviation is zero, as where sensors are exact.
    lost = (moved > _MOST_MOVED * variances) & (variances > (_LOST * EPS * deviations) ** 2)
    if lost.any():
        t, i = (int(k) for k in np.argwhere(lost)[0])
        raise NotConvexError(
            f"{name}[{t}, {i}, {i}] is lost: P0 is singular but for rounding, and rounding its entries "
            f"moves this variance by about {100 * moved[t, i] / variances[t, i]:.2g} % of it",
            "give a P0 that is exactly singular, as by a state less, or one that has a variance of "
            "its own in each direction",
        )


def split_prior(problem: SmoothingProblem) -> tuple[Array, Array]:
    """The root S of the base, and the rows r[i] of that of the rest: P0 = S S' + sum_i r[i] r[i]'.

    In units of the noise of each state, no entry of the columns of the base's root exceeds one: the
    filter starts from covariances of the size that it will have, and nothing is lost under a wider
    one. Without a prior the rows of the root are the axes of x[0].
    """
    width = np.sqrt(state_variances(problem.A, problem.C, problem.W, problem.V, problem.P0))
    if problem.P0 is None:
        return np.diag(width), np.eye(problem.n)
    L = root_of(problem.P0)
    share = 1 / np.maximum(np.abs(L / width[:, None]).max(axis=0), 1.0)
    wide = share < 1
    return L * share, (L[:, wide] * np.sqrt(1 - share[wide] ** 2)).T


def estimate_start(
    problem: SmoothingProblem, data: Observations, slopes: Array, e: Array
) -> tuple[Array, Array]:
    """The b (g, k) that minimises |e + slopes' b|^2, plus |b|^2 where there is a prior.

    Returns L lower triangular, L L' the inverse of the covariance of b, and b: none where nothing of
    the start is vague. The squares of the slopes are not formed: they would lose half of the digits
    under a vague prior.
    """
    k = len(slopes)
    if not k:
        return np.zeros((0, 0)), np.zeros((len(e), 0))
    prior = np.eye(k) if problem.P0 is not None else np.zeros((0, k))
    Q, R = np.linalg.qr(np.concatenate([slopes.reshape(k, -1).T, prior]))
    if problem.P0 is None:
        _check_start(R, data)
    pull = e.reshape(len(e), -1) @ Q[: e[0].size]
    return R.T, -solve_triangular(R, pull.T).T


def _least_known(R: Array) -> tuple[bool, Array]:
    """Whether R'R, the information on the start, leaves a direction open, and the one it says least of."""
    size = np.linalg.norm(R, axis=0)
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.svd(R / size)[1:]
    known = len(values) == len(size) and values[-1] > _OPEN * len(size)
    return not known, vectors[-1] / size


def is_open(R: Array) -> bool:
    """Whether R'R, the information on the start, leaves a direction of it open."""
    return _least_known(R)[0]


def _check_start(R: Array, data: Observations) -> None:
    """Raise NotConvexError if R'R, the information on the start, leaves a direction of it open."""
    left_open, direction = _least_known(R)
    if not left_open:
        return
    direction /= direction[np.abs(direction).argmax()]
    direction /= np.linalg.norm(direction)
    words = ", ".join(f"{value:.3g}" for value in direction.round(3) + 0.0)
    C = np.broadcast_to(data.C, (data.z.shape[-2], *data.C.shape[-2:]))
    seen = np.flatnonzero(C.any(axis=(1, 2)))
    last = f"y up to time {seen[-1]}, the last that is observed," if len(seen) else "y"
    raise NotConvexError(
        f"the start is not determined by the data: {last} says nothing of the direction "
        f"[{words}] of x[0], and there is no prior; give m0 and P0, a large variance in that "
        "direction at least, or leave that state out of the model"
    )


def root_of(P: Array) -> Array:
    """L with L L' = P (..., n, n), each row as right as its own variance, whatever those of others.

    In units in which the variances are one, by Cholesky's method: with pivoting where P is singular,
    which leaves out what is zero but for rounding.
    """
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
    known = values > _LOST * U.shape[-1] * EPS * values[:, :1]
    half = left.swapaxes(-1, -2) @ f
    weights = np.where(known, 1 / np.where(known, values, 1.0), 0.0)[..., None]
    X = right.swapaxes(-1, -2) @ (half * weights) / size.swapaxes(-1, -2)
    return X, np.where(known[..., None], 0.0, half)
