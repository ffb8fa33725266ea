"""The normal equations of smoothing: one symmetric block-tridiagonal system.

In the states alone J = 1/2 |R x - r|^2, with the whitened rows R = [prior], [-root_W A, root_W] and
[C] of the least squares. At its minimum H x = g, with H = R'R and g = R'r: the optimality conditions
in `lqrad.smoothing.kalman`, without the costates p[t] = W^-1 (x[t+1] - A x[t] - c). The matrix H, its
factor, and how many digits they keep depend on the model and the gaps of the series, and not on what
was observed.

Series with different gaps, or of different models, are one system too: no row links one with the next.
Inside, arrays have the axes (series or 1, stages or 1) in front.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import EPS, Array, is_diagonal
from lqrad.batches import with_both_axes
from lqrad.errors import NonFiniteError, NotConvexError
from lqrad.linalg.stages import substitute, times
from lqrad.linalg.tridiagonal import BlockTridiagonal
from lqrad.native.library import serves_matrices
from lqrad.native.smoother import SmoothedSeries, smooth_series
from lqrad.smoothing.arrays import SYMBOLS, product, transposed
from lqrad.smoothing.batch import SmoothingBatch
from lqrad.smoothing.covariance_filter import LOG_2PI
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.start import is_rounded

# The normal equations are used where they give a known solution back to this relative accuracy,
# and corrected by a step of refinement where the error of that is larger than the second number. The same
# holds of what rounding leaves of the log-likelihood: the misfits are squared, and where V is small beside
# the states, z - C x, of unit variance, is what rounding leaves of it.
MOST_LOSS = 1e-11
NO_LOSS = 1e-14
# Equations are kept for the next series of the same model where they take no more bytes than this.
_MOST_KEPT = 2**24
# So many stages of several series are solved for at a time, to stay in cache.
_PIECE = 2048


class Solution(NamedTuple):
    """Series smoothed by normal equations, in g groups that share gaps and model: one, or each its own.

    `loss` (g,) is the relative error with which a constant state comes back from its right-hand side,
    states being measured by the diagonal of H, that is, by their conditional deviations; infinite where
    P0, W, V or H is singular, and where the log-likelihood of a series of the group loses as many digits
    by rounding. Where it is more than `MOST_LOSS`, nothing else is of any use.
    """

    x: Array  # (b, T+1, n)
    p: Array  # (b, T, n)
    loglik: Array  # (b,)
    loss: Array
    cov: Array | None  # (g, T+1, n, n)
    lag_cov: Array | None  # (g, T, n, n)


class NormalEquations:
    """H x = g for series with the gaps that `seen` (g, T+1, ny) says, g = 1 where all have the same.

    Raises NotConvexError where a P0, W or V is singular, or P0 but for rounding.
    """

    def __init__(self, problem: SmoothingProblem | SmoothingBatch, seen: NDArray[np.bool_]) -> None:
        if is_rounded(problem):
            raise NotConvexError("P0 is singular but for rounding")
        self.N, self.n = seen.shape[1], problem.n
        self.entries = seen.sum(axis=(1, 2))
        A, W, c, C, V = (_with_both_axes(problem, name) for name in ("A", "W", "c", "C", "V"))
        self.which, C, V = _patterns(C, V, seen)
        L = _cholesky(V)
        logs = _log_determinants(L)
        self.log_determinant = logs[self.which].sum(axis=1) if len(logs) > 1 else self.N * logs
        white = substitute(L, C)
        self.patterns = {
            "C": white,
            "root_V": substitute(L, np.eye(problem.ny)),
            "information": product(white, white),
        }
        L = _cholesky(W)
        logs = _log_determinants(L)
        self.log_determinant = self.log_determinant + (
            logs.sum(axis=1) if logs.shape[1] > 1 else (self.N - 1) * logs[:, 0]
        )
        root_W = substitute(L, np.eye(self.n))
        step = root_W @ A
        prior = np.zeros((1, 1, self.n, self.n))
        if problem.P0 is not None:
            L = _cholesky(_with_both_axes(problem, "P0"))
            prior = substitute(L, np.eye(self.n))
            self.log_determinant = self.log_determinant + _log_determinants(L)[:, 0]
        self.stages = {
            "A": A,
            "c": c,
            "W": W,
            "root_W": root_W,
            "precision": product(root_W, root_W),
            "step": product(step, step),
            "link": -product(root_W, step),
            "prior": prior,
            "start": product(prior, prior),
            "m0": _with_both_axes(problem, "m0"),
        }
        groups = max(len(array) for array in (self.which, *self.stages.values()))
        self.which = np.broadcast_to(self.which, (groups, self.N))

    def smooth(self, z: Array, *, covariances: bool) -> Solution:
        """Smooth series z = y - d (b, T+1, ny), zero where nothing was observed."""
        if serves_matrices(self.n):
            found = smooth_series(
                self.stages,
                self.patterns,
                self.which,
                z,
                NO_LOSS,
                MOST_LOSS,
                covariances=covariances,
            )
        else:
            found = self._smooth(z, covariances)
        fixed = self.entries * LOG_2PI + self.log_determinant + found.log_determinant
        loglik = -0.5 * (fixed + found.cost)
        return Solution(found.x, found.p, loglik, found.loss, found.Z, found.X)

    # The twin

    def _smooth(self, z: Array, covariances: bool) -> SmoothedSeries:
        """What the kernel does, piece by piece."""
        groups = len(self.which)
        if groups == 1:
            return self._whole.smooth(z, covariances)
        pieces, step = [], max(1, _PIECE // self.N)
        for start in range(0, groups, step):
            chosen = slice(start, min(start + step, groups))
            try:
                pieces.append(_Piece(self, chosen).smooth(z[chosen], covariances))
            except (NotConvexError, NonFiniteError):  # of one of them
                pieces += [self._alone(i, z, covariances) for i in range(start, chosen.stop)]
        x, p, loss, cost, logs = (
            np.concatenate([getattr(piece, name) for piece in pieces])
            for name in ("x", "p", "loss", "cost", "log_determinant")
        )
        Z = X = None
        if covariances:
            Z, X = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in "ZX")
        return SmoothedSeries(x, p, loss, cost, logs, Z, X)

    def _alone(self, i: int, z: Array, covariances: bool) -> SmoothedSeries:
        chosen = slice(i, i + 1)
        try:
            return _Piece(self, chosen).smooth(z[chosen], covariances)
        except (NotConvexError, NonFiniteError):
            return _nothing(1, z[chosen], self.n, covariances)

    @cached_property
    def _whole(self) -> _Piece:
        return _Piece(self, slice(None))


class _Piece:
    """The equations of some of the groups, in NumPy and LAPACK, their matrices one below the other."""

    def __init__(self, equations: NormalEquations, groups: slice) -> None:
        self.equations, self.N, self.n = equations, equations.N, equations.n
        self.stages = {
            name: array[groups] if len(array) > 1 else array
            for name, array in equations.stages.items()
        }
        which = equations.which[groups]
        self.groups = len(which)
        # Where nothing varies, the first block, each in the middle and the last are all there are.
        if len(equations.patterns["C"]) == 1:
            which = np.zeros((1, 1), dtype=np.int64)
        self.patterns = {name: array[which] for name, array in equations.patterns.items()}
        s, N, n = self.stages, self.N, self.n
        repeats = self.groups == 1 and all(
            array.shape[1] == 1 for array in (s["step"], s["precision"], self.patterns["C"])
        )
        H = np.empty((self.groups, 3 if repeats else N, n, n))
        H[...] = self.patterns["information"]
        H[:, :1] += s["start"]
        H[:, 1:] += s["precision"]
        H[:, :-1] += s["step"]
        weights = np.array([1.0, N - 2.0, 1.0]) if repeats else np.ones(N)
        self.mean = weights @ np.diagonal(H, axis1=2, axis2=3) / N
        if repeats:
            self.H = BlockTridiagonal(H[0], s["link"][0, 0], N=N)
        else:
            below = np.zeros((self.groups, N, n, n))
            below[:, :-1] = s["link"]
            self.H = BlockTridiagonal(H.reshape(-1, n, n), below.reshape(-1, n, n)[:-1])

    @cached_property
    def loss(self) -> Array:
        x = (1 / np.sqrt(self.mean))[:, None, :]
        pull = self._weigh(x - _times(self.stages["A"], x))
        H = self.H.shortened() if self.groups == 1 else self.H
        N = H.N // self.groups
        if N < self.N:  # where nothing varies
            pull = pull[:, :1]
        g = self._right_hand_side(N, x, pull, _times(self.patterns["C"], x))
        return np.asarray(np.abs(self._solve(g, H) / x - 1).max(axis=(1, 2)))

    def _solve(self, g: Array, H: BlockTridiagonal | None = None) -> Array:
        H = H or self.H
        return H.solve(g.reshape(-1, H.N, self.n)).reshape(g.shape)

    def _weigh(self, w: Array) -> Array:
        """W^-1 w."""
        root = self.stages["root_W"]
        return _times(root, _times(root, w), transpose=True)

    def _right_hand_side(self, N: int, start: Array, pull: Array, z: Array) -> Array:
        """C'z[t] + pull[t-1] - A'pull[t], and P0^-1 start at t = 0; pull stands for W^-1 c."""
        prior = self.stages["prior"]
        first = _times(self.patterns["C"], z, transpose=True)
        g = np.empty((max(len(first), len(start), len(pull)), N, self.n))
        g[...] = first
        g[:, :1] += _times(prior, _times(prior, start), transpose=True)
        g[:, 1:] += pull
        g[:, :-1] -= _times(self.stages["A"], pull, transpose=True)
        return g

    def smooth(self, z: Array, covariances: bool) -> SmoothedSeries:
        s, C = self.stages, self.patterns["C"]
        A, W, c, m0 = s["A"], s["W"], s["c"], s["m0"]
        y, z = z, _times(self.patterns["root_V"], z)
        x = self._solve(self._right_hand_side(self.N, m0, self._weigh(c), z))
        p = self._weigh(x[:, 1:] - _times(A, x[:, :-1]) - c)
        misfit, start = z - _times(C, x), _times(s["prior"], x[:, :1] - m0)
        cost, count, loss = self._cost(start, misfit, p), self.N * self.n, self.loss
        # The squares of what is rounded on the way to the misfits and to the noises.
        size = _inner(z, z) + ((x * x).sum(axis=1) * self.mean).sum(axis=1)
        exact = EPS**2 * size <= NO_LOSS * (count + cost)
        again = (loss > NO_LOSS) | ~exact
        if again.any():
            # One step of refinement. What is left of the optimality conditions is evaluated at (x, p) as
            # it stands, and the correction solves the same equations. Neither p nor the misfits are
            # recomputed from differences of x, from whose rounding they would come.
            w = _times(A, x[:, :-1]) + c - x[:, 1:]
            better = p - self._weigh(w + _times(W, p))
            dx = self._solve(self._right_hand_side(self.N, m0 - x[:, :1], -better, misfit))
            better += self._weigh(dx[:, 1:] - _times(A, dx[:, :-1]))
            start, misfit = start + _times(s["prior"], dx[:, :1]), misfit - _times(C, dx)
            x = np.where(again[:, None, None], x + dx, x)
            p = np.where(again[:, None, None], better, p)
            refined = self._cost(start, misfit, better)
            error = np.maximum(loss, EPS) ** 2 * cost + EPS * np.sqrt(cost * refined)
            if not exact.all():
                # By how much rounding of the start, of the states and, in the misfits of other sensors, of
                # y moves the cost.
                sensors = np.abs(np.tril(self.patterns["root_V"], -1))
                moved = _inner(np.abs(start), _times(np.abs(s["prior"]), np.abs(m0)))
                moved = moved + _inner(np.abs(better), np.abs(x[:, 1:]))
                moved += _inner(np.abs(misfit), _times(sensors, np.abs(y)))
                error += np.where(exact, 0.0, EPS * moved)
            lost = again & ~(error <= MOST_LOSS * (count + refined))
            loss = np.where(lost.reshape(self.groups, -1).any(axis=1), np.inf, loss)
            cost = np.where(again, refined, cost)
        cov = lag_cov = None
        if covariances:
            cov, lag_cov = self.H.selected_inverse()
            cov = cov.reshape(self.groups, self.N, self.n, self.n)
            lag_cov = np.concatenate([lag_cov, lag_cov[:1]]).reshape(cov.shape)[:, :-1]
        logs = self.H.log_determinants(self.groups)
        return SmoothedSeries(x, p, loss, cost, logs, cov, lag_cov)

    def _cost(self, start: Array, misfit: Array, p: Array) -> Array:
        """|start|^2 + sum |misfit|^2 + sum p'W p, each of its own rows."""
        pairs = ((misfit, misfit), (start, start), (p, _times(self.stages["W"], p)))
        return np.asarray(sum(_inner(a, b) for a, b in pairs))


def normal_equations(
    problem: SmoothingProblem | SmoothingBatch, seen: NDArray[np.bool_]
) -> NormalEquations:
    """The normal equations of series with these gaps (g, T+1, ny); without gaps, those of the last may do."""
    T, n = seen.shape[1] - 1, problem.n
    if len(seen) == 1 and 16 * (T + 1) * n * n <= _MOST_KEPT and seen.all():
        return _without_gaps(problem, T)
    return NormalEquations(problem, seen)


@lru_cache(maxsize=1)
def _without_gaps(problem: SmoothingProblem | SmoothingBatch, T: int) -> NormalEquations:
    """The normal equations of every series without a gap."""
    return NormalEquations(problem, np.ones((1, T + 1, problem.ny), dtype=np.bool_))


def _with_both_axes(problem: SmoothingProblem | SmoothingBatch, name: str) -> Array:
    """An array of the problem with the axes (series or 1, stages or 1) in front."""
    array: Array = getattr(problem, name)
    if isinstance(problem, SmoothingBatch):
        return with_both_axes(array, {"m0": 1, "c": 1}.get(name, 2))
    own = array.ndim - (name in SYMBOLS and array.ndim > len(SYMBOLS[name]))
    return array.reshape(1, -1, *array.shape[array.ndim - own :])


def _patterns(
    C: Array, V: Array, seen: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], Array, Array]:
    """Which (g, T+1) of the C (k, ny, n) and V (k, ny, ny), with their gaps closed, a row has.

    Each pattern of gaps is there once, for each C and V that it meets. A missing entry has a row of
    zeros in C, and in V the variance one and no covariances, so that it adds nothing to any sum.
    """
    ny = seen.shape[-1]
    models = np.broadcast_shapes(C.shape[:2], V.shape[:2])
    if models == (1, 1) and seen.all():
        return np.zeros(seen.shape[:2], dtype=np.int64), C[0], V[0]
    model = np.arange(math.prod(models)).reshape(models)
    gaps = np.ones((1, ny), dtype=np.bool_)
    code: NDArray[np.int64] = np.zeros((1, 1), dtype=np.int64)
    if not seen.all():
        packed = np.packbits(seen, axis=-1)
        if ny <= 8:
            gaps = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, :ny] > 0
            code = packed[..., 0].astype(np.int64)
        else:
            rows, code = np.unique(
                packed.reshape(-1, packed.shape[-1]), axis=0, return_inverse=True
            )
            gaps, code = np.unpackbits(rows, axis=1)[:, :ny] > 0, code.reshape(seen.shape[:2])
    key: NDArray[np.int64] = model * len(gaps) + code
    if key.shape[1] == 1:
        key = np.broadcast_to(key, (len(key), seen.shape[1]))
    found = np.zeros(model.size * len(gaps), dtype=np.bool_)
    found[key] = True
    keys = np.flatnonzero(found)
    which = (np.cumsum(found) - 1)[key]
    here = gaps[keys % len(gaps)]
    C, V = (np.broadcast_to(M, (*models, *M.shape[2:])).reshape(-1, *M.shape[2:]) for M in (C, V))
    C, V = C[keys // len(gaps)], V[keys // len(gaps)]
    both = here[:, :, None] & here[:, None, :]
    return which, np.where(here[..., None], C, 0.0), np.where(both, V, np.eye(ny))


def _cholesky(covariance: Array) -> Array:
    if is_diagonal(covariance) and covariance.diagonal(0, -2, -1).all():
        return np.sqrt(covariance)
    try:
        return np.asarray(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        raise NotConvexError("a covariance is singular") from None


def _log_determinants(L: Array) -> Array:
    """Those of L L'."""
    return np.asarray(2 * np.log(L.diagonal(0, -2, -1)).sum(axis=-1))


def _times(M: Array, z: Array, *, transpose: bool = False) -> Array:
    """M z, or M'z, for M (g or 1, T or 1, r, c) and z (b or 1, T or 1, c)."""
    if len(M) == 1:
        return times(M[0, 0] if M.shape[1] == 1 else M[0], z, transpose=transpose)
    M = transposed(M) if transpose else M
    if M.shape[1] == 1:
        return np.asarray(z @ transposed(M[:, 0]))
    return np.asarray((M @ z[..., None])[..., 0])


def _inner(y: Array, z: Array) -> Array:
    """The sum of y[t]'z[t] for each series."""
    return np.asarray(np.einsum("bti,bti->b", *np.broadcast_arrays(y, z)))


def _nothing(groups: int, z: Array, n: int, covariances: bool) -> SmoothedSeries:
    """What is found where H is not positive definite: a loss that is infinite."""
    b, N, _ = z.shape
    shapes = [(b, N, n), (b, N - 1, n), (groups,), (b,), (groups,)]
    shapes += [(groups, N, n, n), (groups, N - 1, n, n)] if covariances else []
    arrays = [np.full(shape, np.inf) for shape in shapes]
    return SmoothedSeries(*arrays, *[None] * (7 - len(arrays)))
