"""The log-likelihood of a series, alone: by the filter in covariances, or by a smoother."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg.lapack import dtrtrs

from lqrad.arguments import EPS, Array, check_type
from lqrad.errors import ArgumentError
from lqrad.linalg.settled import looks
from lqrad.native.library import serves_matrices
from lqrad.native.likelihood import SeriesKernel, State
from lqrad.smoothing.arrays import check_overflow
from lqrad.smoothing.batch import SmoothingBatch
from lqrad.smoothing.covariance_filter import LOG_2PI
from lqrad.smoothing.innovations import Series, backward, forward
from lqrad.smoothing.kalman import kalman_smoother
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.start import is_open, is_rounded, least_known, split_prior
from lqrad.smoothing.steady import Steady, has_settled, stages_left

# With the kernels one looks after so many stages, then after twice as many, and so on up to so many,
# whether covariances have settled; where that spares this many stages times n^2, it is worth its calls.
_FIRST, _MOST_HEAD, _WORTH = 64, 1024, 30_000
# Without, a stage is a dozen calls of NumPy. The normal equations are faster where more than N n / _DEAR
# stages are needed, but not for the score of _MANY states or more.
_FIRST_IN_NUMPY, _DEAR, _MANY = 16, 64, 10
# A stage of one state and one output is in Python's numbers: the score of so many rows is faster by the filter.
_FEW_NUMBERS = 200
# The score, by the responses of the innovations to a start of which so little is known, is within about
# 1e-10 of its terms: EPS over the square, the start and its responses being divided by it twice.
_LEAST_KNOWN = math.sqrt(EPS / 1e-10)
# Whole arrays, of all states and how they answer to the start, may hold so many numbers.
_MOST_NUMBERS = 2**24


class LostError(ArithmeticError):
    """Digits would be lost, or it would take longer than by the smoothers: they have to answer."""


def loglik(problem: SmoothingProblem, y: ArrayLike) -> float | Array:
    """Return log p(y) of what is observed of a series, or (...) of each series of a batch.

    It is that of `kalman_smoother`, without the states: the diffuse one where there is no prior.

    Parameters
    ----------
    problem : SmoothingProblem
    y : (..., T+1, ny)
        NaN where nothing was observed.

    Raises
    ------
    NotConvexError
        As `kalman_smoother`.

    See Also
    --------
    loglik_gradient : With its gradient in every array of the problem.
    fit : climbs it.

    References
    ----------
    Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd edition, 2012, section 7.2.

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[3]])
    >>> round(loglik(model, [[4.0], [np.nan]]), 12)      # -1/2 log(8 pi) - 4^2 / 8
    -3.612085713765
    """
    if isinstance(problem, SmoothingBatch):
        raise ArgumentError(
            "problem is a SmoothingBatch, expected a SmoothingProblem",
            "kalman_smoother(problem, y, covariances=False).loglik has the likelihood of each",
        )
    check_type("problem", problem, SmoothingProblem, "SmoothingProblem(A, C, W, V, m0, P0)")
    y = problem.series(y)
    flat = y.reshape(-1, *y.shape[-2:])
    balanced = problem.balanced
    try:
        runner = Runner(balanced.problem, flat)
        found = [runner.forward(series).loglik for series in flat / balanced.output]
    except ArithmeticError:
        return kalman_smoother(problem, y, covariances=False).loglik
    logliks = np.array(found).reshape(y.shape[:-2]) - balanced.log_volume(~np.isnan(y))
    check_overflow("loglik", logliks)
    return logliks if logliks.ndim else float(logliks)


class Started(NamedTuple):
    """One series through the filter, and the start b (k,) that was estimated."""

    series: Array | Series
    R: Array
    trace: dict[str, Array]
    steady: Steady | None
    b: Array
    loglik: float


class Runner:
    """The filter of likelihood.h for balanced series y (g, T+1, ny), and its adjoint, in C or in NumPy.

    Where nothing varies or is missing any more its covariances may settle; what follows is `Steady` then.
    An ArithmeticError says that it cannot go on.
    """

    def __init__(self, problem: SmoothingProblem, y: Array) -> None:
        native = serves_matrices(problem.n, problem.ny)
        # In NumPy a smoother takes all series of a batch at once.
        if is_rounded(problem) or not (native or len(y) == 1):
            raise LostError
        self.problem = problem
        self.T: int = y.shape[-2] - 1
        base, root = split_prior(problem)
        self.k, self.prior = len(root), problem.P0 is not None
        self._start = (problem.m0, np.ascontiguousarray(root.T), base @ base.T)
        few = (1 + self.k) * (self.T + 1) * problem.n <= _MOST_NUMBERS
        self._numbers = not native and problem.n == problem.ny == 1 and self.T < _FEW_NUMBERS
        self._may_settle = (
            few and not self._numbers and all(getattr(problem, name).ndim == 2 for name in "ACWV")
        )
        self._kernel: SeriesKernel | None = None
        if native:
            arrays = {name: getattr(problem, name) for name in ("A", "C", "W", "V", "c")}
            self._kernel = SeriesKernel(self.T, self.k, **arrays)

    def forward(self, y: Array, *, trace: bool = False, states: bool = False) -> Started:
        """Run the filter over y (T+1, ny); keep what `backward` needs, with `states` for A and C too."""
        k, N, seen = self.k, self.T + 1, y == y
        R, log_determinant = np.zeros((k + 1, k + 1)), np.zeros(1)
        if self.prior:
            R.flat[: k * (k + 2) : k + 2] = 1.0
        x, M, P = (array.copy() for array in self._start)
        start = 0 if seen.all() else N - int(np.argmin(seen.all(axis=1)[::-1]))
        if self._kernel is not None:
            series: Array | Series = np.ascontiguousarray(y - self.problem.d)
            head = min(N, start + _MOST_HEAD)
            settles = self._may_settle and (N - start - _FIRST) * self.problem.n**2 >= _WORTH
            rows = N if trace else head if settles else 0
        else:
            head = self._head_in_numpy(start, trace)
            series = Series.of(self.problem, y)
            settles, rows = self._may_settle, N if trace or head == N else head
        kept = self._room(rows, states or settles)
        state = State(x, M, P, R, log_determinant)
        first, steady = 0, None
        if settles:
            first, steady = self._settle(series, start, head, state, kept)
        if steady is not None:
            steady.add_to(R, log_determinant)
        elif first < N:
            if self._kernel is None and head < N:
                raise LostError
            self._step(series, first, N, state, kept if rows == N else {})
        if not math.isfinite(R[k, k]) or (k and self._is_lost(R[:k, :k], trace)):
            raise LostError
        b, sizes = np.zeros(0), 0.0
        if k:
            solved, singular = dtrtrs(R[:k, :k], R[:k, k:])
            if singular:
                raise LostError
            b = -solved[:, 0]
            sizes = float(np.log(np.abs(R[:k, :k].diagonal())).sum())
        square = np.count_nonzero(seen) * LOG_2PI + float(log_determinant[0]) + float(R[k, k])
        return Started(series, R, kept, steady, b, -0.5 * square - sizes)

    def _is_lost(self, R: Array, trace: bool) -> bool:
        """Whether the start is open, or for the score, of which a trace is kept, known too little."""
        if trace:
            return least_known(R) < _LEAST_KNOWN
        return not self.prior and is_open(R)

    def _head_in_numpy(self, start: int, trace: bool) -> int:
        """Up to how many stages it is faster than the normal equations; LostError where it is never."""
        problem, N = self.problem, self.T + 1
        if self._numbers and trace:
            return N
        noises = [np.diagonal(P, axis1=-2, axis2=-1) for P in (problem.W, problem.V)]
        slow = (trace and problem.n >= _MANY) or not all(noise.all() for noise in noises)
        if slow and N * problem.n * (problem.n + self.k + 1) <= _MOST_NUMBERS:
            return N  # there are no normal equations, or they take longer
        head = N * problem.n // _DEAR
        if not self._may_settle or start or head < 2 * _FIRST_IN_NUMPY:
            raise LostError
        return min(head, N)

    def _room(self, rows: int, states: bool) -> dict[str, Array]:
        """Arrays for the trace of likelihood.h."""
        n, ny, k = self.problem.n, self.problem.ny, self.k
        shapes = {"S": (ny, n), "L": (ny, ny), "e": (ny,), "g": (ny, k)} if rows else {}
        shapes |= {"x": (n,), "M": (n, k), "P": (n, n)} if rows and states else {}
        return {name: np.empty((rows, *shape)) for name, shape in shapes.items()}

    def _settle(
        self, series: Array | Series, start: int, head: int, state: State, kept: dict[str, Array]
    ) -> tuple[int, Steady | None]:
        """Run until the covariances have settled, or up to the head; return how far, and what follows."""
        native, first, N = self._kernel is not None, 0, self.T + 1
        for swept in looks(head - start, *((_FIRST, 2.0) if native else (_FIRST_IN_NUMPY, 1.25))):
            last = start + swept
            self._step(series, first, last, state, kept)
            first = last
            S, L, P = kept["S"][last - 1], kept["L"][last - 1], kept["P"][start:last]
            if last < N and has_settled(self.problem, P, S, L, N - last):
                z = series.z if isinstance(series, Series) else series
                return last, Steady(self.problem, last, z[last:], state.x, state.M, kept)
            if not native and last < head < last + stages_left(P):
                break
        return first, None

    def _step(
        self,
        series: Array | Series,
        first: int,
        last: int,
        state: State,
        trace: dict[str, Array],
    ) -> None:
        if isinstance(series, Series):
            done = forward(self.problem, series, first, last, state, trace)
        else:
            assert self._kernel is not None
            done = self._kernel.forward(series, first, last, state, trace)
        if not done:
            raise LostError

    def backward(self, found: Started, gradients: dict[str, Array]) -> None:
        """Add the gradients of a series."""
        n, last, series = self.problem.n, self.T + 1, found.series
        costates = np.zeros(n), np.zeros((n, self.k)), np.zeros((n, n))
        if found.steady is not None:
            last = found.steady.first
            found.steady.backward(found.R, found.b, *costates, gradients)
        rest = last, found.R, found.b, found.trace, costates, gradients
        if isinstance(series, Series):
            done = backward(self.problem, series, *rest)
        else:
            assert self._kernel is not None
            done = self._kernel.backward(series, *rest)
        if not done:
            raise LostError


def gradients_by_filter(
    problem: SmoothingProblem, y: Array, names: Iterable[str]
) -> tuple[float, dict[str, Array]]:
    """The log-likelihood of balanced series, and its gradients in these arrays, in their shapes.

    An ArithmeticError says that the smoothers have to answer.
    """
    gradients = {name: np.zeros(np.shape(getattr(problem, name))) for name in names}
    runner = Runner(problem, y)
    if runner.k and "P0" in gradients:
        # Under a vague prior the gradients in it are what is left of terms that are far larger.
        raise LostError
    states, loglik = not {"A", "C"}.isdisjoint(gradients), 0.0
    for series in y:
        found = runner.forward(series, trace=True, states=states)
        runner.backward(found, gradients)
        loglik += found.loglik
    return loglik, gradients
