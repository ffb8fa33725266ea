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
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import EPS, Array
from lqrad.errors import NotConvexError
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.settled import looks, settled
from lqrad.linalg.stages import inner, substitute, times
from lqrad.linalg.tridiagonal import congruences
from lqrad.native.library import serves_matrices
from lqrad.native.smoothing import FilterArrays, FilterKernel
from lqrad.smoothing.arrays import Observations, product, symmetric, transposed
from lqrad.smoothing.batch import SmoothingBatch, stages_of
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.roots import (
    LOST,
    abreast,
    products,
    root_of,
    solve_triangles,
    solve_upper,
    triangle,
)

# A rounded variance that has grown by more than this in an eighth of the stages may grow for ever.
_GROWTH = 1.0625
# Where a subtraction leaves a smaller part of a variance than this, its digits count as lost.
_MOST_SUBTRACTED = 1e-4
# A condition up to which, over n, no direction of a triangle of n rows can be zero so.
_MOST_CONDITION = 1 / (LOST * EPS)
# So many matrices are taken abreast, whose entries stay in a cache.
_ABREAST = 1000
LOG_2PI = math.log(2 * math.pi)


class Means(NamedTuple):
    """A pass of the filter over series: predicted and filtered states, innovations, and these whitened."""

    predicted: Array  # (..., T+1, n)
    x: Array
    innovations: Array  # (..., T+1, ny)
    e: Array


class CovarianceFilter:
    """The filter's covariances from P[0] = root root', and the passes over a series that they allow.

    Where nothing varies and the covariances settle, `settled` says how, they are run until then: the
    last of their stages stands for all that follow, and `whole` repeats it. Many filters, of models or
    gaps of their own, have an axis g in front, are run to the end, and take a series each.

    Attributes
    ----------
    predicted_cov, cov : (N, n, n), N <= T+1
        P[t|t-1] and P[t|t].
    K : (N, n, ny)
    factor, roots : (N, ny, ny), (N, n, n)
        Lower triangular roots of the innovations' covariances, and those of cov.
    rounding : (N, n)
        What rounding has left of variances of predictions that are zero.
    good : (g,)
        Of which filters no innovation is singular; of one filter it is an error.
    nothing : (n, T+1, ny)
        Series of zeros, to which the states that start from axes of x[0] are the responses.
    """

    def __init__(
        self, problem: SmoothingProblem | SmoothingBatch, data: Observations, root: Array
    ) -> None:
        self.T, n, ny = data.z.shape[-2] - 1, problem.n, problem.ny
        self.A, self.C, self.W = stages_of(problem, "A"), data.C, stages_of(problem, "W")
        self.w, v = root_of(self.W), root_of(data.V)
        self.nothing = np.broadcast_to(np.zeros(ny), (n, self.T + 1, ny))
        arrays = (self.A, self.C, v, data.V, self.w)
        leading = [array.shape[:-3] for array in arrays]
        many = (problem.b,) if isinstance(problem, SmoothingBatch) else ()
        self.group = np.broadcast_shapes(many, root.shape[:-2], *leading)
        self.kernel = FilterKernel(self.T, self.group, arrays) if serves_matrices(n, ny) else None
        found = self._run(root, arrays)
        self.predicted_cov, self.K, self.factor, self.roots, self.cov, self.rounding = found

    @cached_property
    def loop(self) -> Loop:
        """The closed loop L = A (I - K C)."""
        K, C = self.K[..., : self.T, :, :], self.C
        C = C if C.ndim == 2 else C[..., : self.T, :, :]
        return Loop(np.asarray(self.A @ (np.eye(K.shape[-2]) - K @ C)), self.T)

    def _run(self, root: Array, arrays: Sequence[Array]) -> FilterArrays:
        """Run the recursion until its end, or until the covariances have settled."""
        T, (ny, n), native = self.T, self.C.shape[-2:], self.kernel is not None
        found = FilterArrays.empty(self.group, T, n, ny)
        S = np.array(np.broadcast_to(root, (*self.group, n, n)), order="C")
        noise = np.zeros(S.shape)
        varies = any(z.ndim > 2 for z in arrays) or self.group
        first = 0
        for last in [T + 1] if varies else looks(T + 1, *((64, 2.0) if native else ())):
            if self.kernel:
                failed = self.kernel.covariances(first, last, S, noise, found)
            else:
                failed = _recursion(first, last, T, arrays, S, noise, found)
            if not self.group and failed:
                raise NotConvexError(
                    f"the covariance of the innovation at time {failed - 1} is singular to working "
                    "precision: V is, and what is known by then determines an entry of y, or all "
                    "but; leave that entry out as NaN, or give it a variance in V"
                )
            self.good = np.asarray(failed == 0)
            if last <= T and self._settled(found, last):
                return FilterArrays(*(array[:last].copy() for array in found))
            first = last
        return found

    def _settled(self, found: FilterArrays, N: int) -> bool:
        """Whether N stages are all: P, P[t|t] and the innovations' covariance stay as they are."""
        P, K, factor, roots, _, rounding = (array[N - 1 :: -1] for array in found)
        if (rounding[0] > _GROWTH * rounding[N // 8]).any():
            return False
        keep = np.eye(len(P[0])) - K[0] @ self.C
        rows = np.concatenate([keep, self.C])
        sizes = [np.sqrt((L * L).sum(axis=1)) for L in (roots[0], factor[0])]
        watched = np.concatenate([rows, np.concatenate(sizes)[:, None]], axis=1)
        return settled(P, self.T + 1 - N, (self.A @ keep).T, watched)

    def whole(self, stages: Array) -> Array:
        """The stages of all times, from those until the covariances have settled."""
        return stages if self.group else repeat_last(stages, self.T + 1)

    def innovation_cov(self, C: Array, V: Array) -> Array:
        """The covariances of whole rows of y, be their entries observed or not."""
        P = self.predicted_cov
        return symmetric(C @ (times(C, P) if C.ndim == 2 else P @ transposed(C)) + V)

    def filter(self, start: Array, c: Array | float, z: Array) -> Means:
        """Filter the series z (..., T+1, ny) from x[0] = start (..., n).

        innovation = z - C predicted    x = predicted + K innovation    predicted[t+1] = A x + c
        """
        if self.kernel:
            means = self.kernel.means(self.K, self.factor, start, np.asarray(c), z)
            if means:
                return Means(*means)
        # predicted[t+1] = L predicted + A K z + c
        f = np.empty((*z.shape[:-1], self.A.shape[-1]))
        f[..., 0, :] = start
        f[..., 1:, :] = times(self.A, times_settled(self.K, z)[..., :-1, :]) + c
        predicted = self.loop.solve(f)
        innovations = np.asarray(z - times(self.C, predicted))
        x = predicted + times_settled(self.K, innovations)
        return Means(predicted, x, innovations, self._whiten(innovations))

    def respond(self) -> Means:
        """The derivatives (n, T+1, n) of the states in the entries of m0."""
        return self.filter(np.eye(len(self.nothing)), 0.0, self.nothing)

    def _whiten(self, innovations: Array) -> Array:
        """The innovations, each divided by its standard deviations."""
        h = self.factor.shape[-3] - 1
        e, rest = np.empty(innovations.shape), innovations[..., h:, :]
        e[..., :h, :] = substitute(self.factor[..., :h, :, :], innovations[..., :h, :, None])[
            ..., 0
        ]
        e[..., h:, :] = transposed(substitute(self.factor[..., h, :, :], transposed(rest)))
        return e

    def log_determinant(self) -> Array:
        """That of the covariance of all observations."""
        logs = np.log(np.abs(np.diagonal(self.factor, axis1=-2, axis2=-1))).sum(axis=-1)
        left = self.T + 1 - logs.shape[-1]
        return np.asarray(2 * (logs.sum(axis=-1) + left * logs[..., -1]))

    def loglik(self, e: Array, data: Observations) -> Array:
        """The log-likelihood, from the whitened innovations e."""
        square = inner(e, e)
        return np.asarray(-0.5 * (data.entries * LOG_2PI + self.log_determinant() + square))

    def weighted(self) -> Array:
        """C whitened by the innovations: its square is C'F^-1 C."""
        stages = (*self.K.shape[:-2], *self.C.shape[-2:])
        return substitute(self.factor, np.broadcast_to(self.C, stages))

    def costates(self, e: Array) -> Array:
        """p[t-1] = L'p[t] + C'F^-1 (innovation) for t = 0, ..., T: the adjoint of the filter."""
        if self.kernel:
            p = self.kernel.costates(self.K, self.factor, e)
            if p is not None:
                return p
        pulls = times_settled(self.weighted(), e, transpose=True)
        return self.loop.solve(pulls, transpose=True)

    def smooth(self, means: Means) -> tuple[Array, Array]:
        """x[t|T] = x[t|t] + P[t|t] A'p[t], and the costates p."""
        p = self.costates(means.e)
        pulled = times(self.A, p[..., 1:, :], transpose=True)
        x = means.x.copy()
        x[..., :-1, :] += times_settled(self.cov[: self.T], pulled)
        return x, p

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
        n, rounding = self.roots.shape[-1], self.rounding[..., 1:, :]
        S = self.roots[..., : self.T, :, :]
        if S.shape[-3] > rounding.shape[-2]:  # it has settled
            rounding = np.concatenate([rounding, rounding[-1:]])
        found = self.kernel and self.kernel.gains(self.roots, rounding, _MOST_CONDITION / n)
        if found and not found[2].any():
            gains, X, _ = found
        else:
            gains, X = self._gains(S, rounding)
        cov = self._backward(gains, X)
        return gains, cov, cov[..., 1:, :, :] @ self._steps(gains)

    def _gains(self, S: Array, rounding: Array) -> tuple[Array, Array]:
        """J' and X' from the roots S of P[t|t] and what rounding leaves of P[t+1|t]."""
        n, whole = S.shape[-1], S.shape[:-2]
        S, rounding = S.reshape(-1, n, n), rounding.reshape(-1, n)
        A, w = (np.broadcast_to(z, (*whole, n, n)).reshape(-1, n, n) for z in (self.A, self.w))
        gains, X, apart = (np.zeros(S.shape) for _ in range(3))
        for some in (slice(i, i + _ABREAST) for i in range(0, len(S), _ABREAST)):
            root, step = abreast(S[some]), abreast(A[some]).swapaxes(0, 1)
            rows = np.zeros((2 * n, 2 * n, root.shape[-1]))
            rows[:n, :n], rows[:n, n:] = products(root, step), root.swapaxes(0, 1)
            rows[n:, :n] = abreast(w[some]).swapaxes(0, 1)
            R = triangle(rows, n)
            U, F = R[:n, :n], R[:n, n:]
            variances = (U * U).sum(axis=0)
            moves = variances > 32 * rounding[some].T
            size = np.sqrt(np.where(moves, variances, 1.0))
            # |U^-1| |U| is no less than the condition, of which most triangles have little.
            identity = np.broadcast_to(np.eye(n)[..., None], U.shape)
            with np.errstate(all="ignore"):
                both = solve_upper(U / size, np.concatenate([F, identity], axis=1))
                norms = np.sqrt((both[:, n:] ** 2).sum(axis=(0, 1)) * n)
            gains[some] = np.moveaxis(both[:, :n] / size[:, None], -1, 0)
            X[some] = np.moveaxis(R[n:, n:], -1, 0)
            lost = np.flatnonzero(~(moves.all(axis=0) & (norms < _MOST_CONDITION / n)))
            if len(lost):
                U, F = (np.moveaxis(z[..., lost], -1, 0) for z in (np.where(moves, U, 0.0), F))
                gains[some][lost], apart[some][lost] = solve_triangles(U, F)
        if apart.any():
            X = np.concatenate([X, apart], axis=-2)
        return gains.reshape(*whole, n, n), X.reshape(*whole, -1, n)

    def _steps(self, stages: Array) -> Array:
        """The stages of all steps 0, ..., T-1."""
        return stages if self.group else repeat_last(stages, self.T)

    def _backward(self, gains: Array, X: Array) -> Array:
        """P[t|T] = X X' + J P[t+1|T] J', as a square of a root at each step, until it settles.

        Where the filter has settled, X and J do not vary, and P[t|T] settles too on the way back.
        """
        T, h, n = self.T, gains.shape[-3] - 1, gains.shape[-1]
        R = self.roots[..., -1, :, :].copy(order="C")
        cov = np.empty((*self.group, T + 1, n, n))
        cov[..., T, :, :] = self.cov[..., -1, :, :]

        def run(first: int, last: int) -> None:
            if self.kernel and X.shape[-2] == n:
                self.kernel.covariances_back(first, last, gains, X, R, cov)
                return
            root = abreast(R).swapaxes(0, 1)
            for t in range(last - 1, first - 1, -1):
                ahead, left = (abreast(_at(z, t)) for z in (gains, X))
                below = products(root.swapaxes(0, 1), ahead)
                root = triangle(np.concatenate([left, below]), n)[:n]
                cov[..., t, :, :] = np.moveaxis(products(root, root), (0, 1), (-2, -1))
            R[...] = np.moveaxis(root, (0, 1), (-1, -2))

        last = T
        for swept in [] if self.group else looks(T - h):
            run(T - swept, last)
            last = T - swept
            if last > h and settled(cov[last:], last - h, gains[h]):
                cov[h:last] = cov[last]
                last = h
                break
        run(0, last)
        return cov

    def smooth_back(self, means: Means, gains: Array) -> Array:
        """x[t|T] = x[t|t] + J (x[t+1|T] - x[t+1|t])."""
        f = means.x.copy()
        if self.kernel:
            self.kernel.means_back(gains, means.predicted, f)
            return f
        f[..., :-1, :] -= times_settled(gains, means.predicted[..., 1:, :], transpose=True)
        return Loop(gains, self.T).solve(f, transpose=True)


def repeat_last(stages: Array, count: int) -> Array:
    """The stages (count, ...), of which the last of those given stands for all that follow."""
    if len(stages) >= count:
        return stages[:count]
    whole = np.empty((count, *stages.shape[1:]))
    whole[: len(stages)], whole[len(stages) :] = stages, stages[-1]
    return whole


def times_settled(M: Array, z: Array, *, transpose: bool = False) -> Array:
    """M[t] z[t], or M[t]'z[t], for z (..., T+1, c); the last M stands for all that follow."""
    h, rows = M.shape[-3] - 1, z.shape[-2]
    if h + 1 == rows:
        return times(M, z, transpose=transpose)
    y = np.empty((*z.shape[:-1], M.shape[-1 if transpose else -2]))
    times(M[:h], z[..., :h, :], transpose=transpose, out=y[..., :h, :])
    times(M[h], z[..., h:, :], transpose=transpose, out=y[..., h:, :])
    return y


class Loop:
    """L x = f and L'p = f, as `Bidiagonal` has them, of which the last A stands for all that follow.

    Many loops A (g, T, n, n) take a series each.
    """

    def __init__(self, A: Array, T: int) -> None:
        self.A, self.T = A, T

    def solve(self, f: Array, *, transpose: bool = False) -> Array:
        """The solution, which may be found in f."""
        T, N = self.T, self.A.shape[-3]
        if self.A.ndim > 3:
            A = transposed(self.A) if transpose else self.A
            for t in range(T - 1, -1, -1) if transpose else range(T):
                to, of = (t, t + 1) if transpose else (t + 1, t)
                f[..., to, :] += (A[:, t] @ f[..., of, :, None])[..., 0]
            return f
        if N == T:
            return Bidiagonal(self.A).solve(f, transpose=transpose, overwrite=True)
        parts = [(self.A[:-1], f[..., :N, :]), (self.A[-1], f[..., N - 1 :, :])]
        for A, part in reversed(parts) if transpose else parts:
            part[...] = Bidiagonal(A).solve(part, transpose=transpose, overwrite=True)
        return f


def _recursion(
    first: int,
    last: int,
    T: int,
    arrays: Sequence[Array],
    S: Array,
    noise: Array,
    found: FilterArrays,
) -> NDArray[np.int64]:
    """Run the filters at the times first, ..., last - 1, as `filter_covariances` of smoothing.h.

        [C S, v; S, 0] -> [factor, 0; K factor, roots[t]]       [A roots[t], w] -> [S of t+1, 0]

    S, noise and what is found are written in place; 0 is returned, or 1 + a time, for each filter.
    At that time the covariance of the innovation is singular to working precision.
    """
    group, (ny, n) = S.shape[:-2], arrays[1].shape[-2:]
    # Here, filters are the last axis.
    P, K, factor, roots, cov, rounding = (
        np.moveaxis(z, (len(group), *range(len(group))), (0, *range(-len(group), 0))) for z in found
    )
    root, noises = abreast(S).swapaxes(0, 1), abreast(noise)
    identity = np.eye(n).reshape(n, n, *[1] * len(group))
    rows = np.empty((n + ny, n + ny, *group))
    driven = np.empty((2 * n, n, *group))
    failed = np.zeros(group, dtype=np.int64)
    if not first:
        root = triangle(root, n)
    for t in range(first, last):
        Ct, vt, Vt = (abreast(_at(z, t), group) for z in arrays[1:4])
        rounding[t], P[t] = _variances(noises), products(root, root)
        # [S'C', S'; v', 0] -> [factor', factor'K'; 0, root']
        C = Ct.swapaxes(0, 1)
        rows[:n, :ny], rows[:n, ny:] = products(root.swapaxes(0, 1), C), root
        rows[n:, :ny], rows[n:, ny:] = vt.swapaxes(0, 1), 0.0
        R = triangle(rows, ny)
        U, root = R[:ny, :ny], R[ny:, ny:]
        size = (U * U).sum(axis=0) + _variances(Vt)
        least = EPS * size + _variances(products(C, products(noises, C)))
        singular = _variances(U) ** 2 <= 32 * ny * least
        if singular.any():
            failed[...] = np.where((failed == 0) & singular.any(axis=0), t + 1, failed)
            if not group:
                break
        gain = solve_upper(U, R[:ny, ny:])
        K[t], factor[t] = gain.swapaxes(0, 1), U.swapaxes(0, 1)
        roots[t], cov[t] = root.swapaxes(0, 1), products(root, root)
        # What rounding leaves of a variance that is zero, by an exact observation or terms that cancel.
        keep = identity - products(Ct, gain)
        noises = products(keep, products(noises, keep)) + EPS**2 * P[t]
        if t < T:
            At, wt = (abreast(_at(z, t), group).swapaxes(0, 1) for z in (arrays[0], arrays[4]))
            driven[:n], driven[n:] = products(root.swapaxes(0, 1), At), wt
            noises = products(At, products(noises, At))
            lost = products(np.abs(At), np.abs(root.swapaxes(0, 1)))
            noises += EPS**2 * identity * (lost * lost).sum(axis=1)
            root = triangle(driven, n)[:n].copy()
    S[...], noise[...] = np.moveaxis(root, (0, 1), (-1, -2)), np.moveaxis(noises, (0, 1), (-2, -1))
    return failed


def _at(stages: Array, t: int) -> Array:
    """A matrix at time t, of all filters."""
    if stages.ndim == 2:
        return stages
    return np.asarray(stages[..., min(t, stages.shape[-3] - 1), :, :])


def _variances(P: Array) -> Array:
    return P.diagonal().T  # of those abreast too
