"""Learning a model from a series: maximum likelihood, by descent along the score and by EM.

`fit` climbs the log-likelihood through a map of the user's; `em` alternates a smoothing pass with
closed-form steps, of which the score has the expected products: E[w x' | y] = W dL/dA, and so on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    EPS,
    Array,
    check_choice,
    check_count,
    check_finite,
    check_function,
    check_items,
    check_tolerance,
    check_type,
    real_array,
)
from lqrad.errors import ArgumentError, NonFiniteError, NotConvexError, ShapeError, Status
from lqrad.results import Ended, Report
from lqrad.smoothing.arrays import ALL
from lqrad.smoothing.climb import FAR, Climb, build_problem
from lqrad.smoothing.covariance_filter import CovarianceFilter
from lqrad.smoothing.model import Balanced, SmoothingProblem
from lqrad.smoothing.score import NAMES, PRIOR, Expected, expect
from lqrad.smoothing.start import split_prior

# A log-likelihood is known to this part of it, for the smoother may lose five digits.
_LOST = 1e-10
# An output whose innovation's deviation is no more than this many roundings of the data is exact.
_ROUNDED = 64
_VANISHED = (
    "diverged: the likelihood has no maximum, it rises without bound as variances go to zero: the "
    "model predicts {} to the last digit of the data"
)
_NO_MAXIMUM = "hold V fixed, or learn fewer arrays"


@dataclass(frozen=True, eq=False)
class History(Report):
    """The log-likelihood of each iterate, the start first; it is read as the array it once was, too."""

    loglik: Array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.loglik, dtype, copy=copy is not False)

    def __len__(self) -> int:
        return len(self.loglik)

    def __getitem__(self, index: Any) -> Any:
        return self.loglik[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "loglik":  # before it is set, in a copy
            raise AttributeError(name)
        return getattr(self.loglik, name)


@dataclass(frozen=True, eq=False, repr=False)
class Fit(Ended):
    """What `fit` and `em` return: the model that was learnt, and for `fit` its theta (k,).

    `loglik` is its log-likelihood, and that of a batch adds up; `history.loglik` (iterations + 1,) has
    those on the way. The status is DIVERGED where the likelihood has no maximum. `what` says how it
    ended, `remedy` what to try; `message` is both.
    """

    problem: SmoothingProblem
    theta: Array | None
    loglik: float
    status: Status
    what: str
    remedy: str
    iterations: int
    seconds: float
    history: History

    @property
    def converged(self) -> bool:
        """`status.converged`, under its former name."""
        return self.status.converged

    def __repr__(self) -> str:
        return f"<Fit: {self.message}>"


def fit(
    build: Callable[[Array], SmoothingProblem],
    theta0: ArrayLike,
    y: ArrayLike,
    *,
    max_iter: int = 500,
    tol: float = 1e-6,
) -> Fit:
    """Maximise the log-likelihood over the parameters theta of a model, by L-BFGS.

    What the map `build` makes of theta is learnt and everything else is held fixed; parameters may
    be shared between arrays, or be logarithms of variances, which keeps them positive. The
    gradient is that of `loglik_gradient`, exact, times the Jacobian of the map's arrays, found by
    central differences of the map alone: 2k calls of `build`, and a relative error of about 1e-10.
    The likelihood may have several maxima: the one that is found is near the start. It is flat where
    a variance is next to nothing: start from large ones.

    The descent is the same in all units of theta: each parameter is measured in its length, a power
    of two at which the arrays at theta0 begin to change, such as one for a log-variance. Where the
    descent ends so far away that the lengths are others there, it goes on in those.

    Parameters
    ----------
    build : callable
        theta (k,) -> SmoothingProblem, smooth in theta, with the same shapes everywhere. A step to
        where it raises NotConvexError or an ArithmeticError is shortened.
    theta0 : (k,)
        Where to start.
    y : (..., T+1, ny)
        NaN where nothing was observed. A batch adds up.
    max_iter : int
    tol : float
        Gradient norm beside the first: stop where that in theta / length, of the log-likelihood per
        observed entry, is at most tol, and at most tol times that at the start.

    Raises
    ------
    NotConvexError, NonFiniteError
        If there is no model or no likelihood at theta0, or a step of the differences from it.

    See Also
    --------
    em : Learns whole arrays, from starts that are far away.
    loglik_gradient : The gradient in each array.

    References
    ----------
    Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd edition, 2012, chapter 7.

    Examples
    --------
    The variance of white noise around zero is learnt as the mean square:

    >>> def build(theta):
    ...     V = np.exp(theta)[:, None]
    ...     return SmoothingProblem([[0]], [[0]], W=[[0]], V=V, m0=[0], P0=[[0]])
    >>> result = fit(build, [0.0], [[1.0], [-3.0], [np.nan], [5.0], [1.0]])
    >>> result.problem.V.round(4), result.status.converged
    (array([[9.]]), True)
    """
    began = time.perf_counter()
    tol = check_tolerance(tol)
    check_function("build", build)
    start = np.array(real_array("theta0", theta0))
    if start.ndim != 1 or not start.size:
        raise ShapeError(f"theta0 has shape {start.shape}, expected (k,), the parameters in a row")
    check_finite("theta0", start)
    problem = build_problem(build, start)
    y = problem.series(y)
    max_iter = check_count("max_iter", max_iter, least=0)
    first = climb = Climb(build, problem, start, y)
    history: list[float] = []
    while True:
        descent = climb.descend(max_iter - max(len(history) - 1, 0), tol, onward=bool(history))
        rise = descent.history.cost[0] - descent.cost
        history += list(climb.logliks(descent.history.cost))[bool(history) :]
        theta = climb.lengths * descent.solution
        # Far from its start theta may have other lengths, in which it is not at a maximum.
        problem = build_problem(build, theta, problem)
        onward = Climb(build, problem, theta, y, near=climb.lengths)
        far = np.abs(np.log2(onward.lengths / climb.lengths)).max() > FAR
        again = far or descent.status is Status.STALLED  # from here the tolerance may be met
        if not again or rise <= _LOST * (1 + abs(descent.cost)) or len(history) > max_iter:
            break
        climb = onward
    status, what, remedy = descent.status, descent.what, descent.remedy
    # In the units of the start: in those of a model that has vanished nothing is small.
    if vanished := _without_noise(problem.in_units(first.state, first.output), first.data):
        status, what, remedy = Status.DIVERGED, vanished, _NO_MAXIMUM
    return Fit(
        problem=problem,
        theta=theta,
        loglik=history[-1],
        status=status,
        what=f"{what}; log-likelihood {history[-1]:.8g}",
        remedy=remedy,
        iterations=len(history) - 1,
        seconds=time.perf_counter() - began,
        history=History(np.array(history)),
    )


def em(
    problem: SmoothingProblem,
    y: ArrayLike,
    *,
    learn: Iterable[str],
    max_iter: int = 1000,
    tol: float = 1e-8,
) -> Fit:
    """Maximise the log-likelihood over whole arrays of a model, by the EM algorithm.

    Each step maximises E[log p(x, y)], the mean taken over x and what is missing of y, given the
    model so far. With z = (x, 1) and S = sum_t E[z z'], the step is

        [A c] += K,   K = W dL/d[A c] S^-1;      W += (2 W dL/dW W - K S K')/T

    and the same for [C d] and V; no W is inverted, and the range of a singular one is kept. The
    log-likelihood never decreases. EM starts well from far away, and ends slowly: linearly at the
    rate of the information that is missing, so that a small step does not prove a maximum.

    Parameters
    ----------
    problem : SmoothingProblem
        Where to start. What is to be learnt must not vary in time, and W neither where A or c is
        learnt, nor V where C or d is.
    y : (..., T+1, ny)
        As of `fit`.
    learn : names
        Of "A", "C", "W", "V", "m0", "P0", "c", "d". One series has no maximum over m0 and P0
        together: it makes P0 shrink to zero.
    max_iter : int
    tol : float
        Relative change of the cost: stop where a step raises the log-likelihood by at most tol for
        each observed entry.

    See Also
    --------
    fit : Learns arrays with structure, and ends faster.

    References
    ----------
    Shumway and Stoffer, An approach to time series smoothing and forecasting using the EM
    algorithm, Journal of Time Series Analysis 3 (1982), 253-264. Koopman, Disturbance smoother for
    state space models, Biometrika 80 (1993), 117-126 (the step from costates).

    Examples
    --------
    A mean is learnt from what is observed:

    >>> model = SmoothingProblem([[0]], [[0]], W=[[0]], V=[[1]], m0=[0], P0=[[0]])
    >>> result = em(model, [[1.0], [-3.0], [np.nan], [5.0], [1.0]], learn=("d", "V"))
    >>> result.problem.d, result.problem.V, result.status.converged
    (array([1.]), array([[8.]]), True)
    """
    began = time.perf_counter()
    check_type("problem", problem, SmoothingProblem, "SmoothingProblem(A, C, W, V, m0, P0)")
    names = _learnable(problem, learn)
    max_iter, tol = check_count("max_iter", max_iter, least=0), check_tolerance(tol)
    y = problem.series(y)
    seen = ~np.isnan(y)
    entries = max(1, int(seen.sum()))
    # In the units of the start: the steps are the same whatever those of the user are.
    problem, state, output = problem.balanced
    volume = float(Balanced(problem, state, output).log_volume(seen).sum())
    data = y / output
    history: list[float] = []
    best, status, what = problem, None, ""
    while status is None:
        try:
            expected = expect(problem.balanced, data)
        except (NotConvexError, NonFiniteError) as error:
            if not history:
                raise
            status = Status.DIVERGED
            what = f"diverged: the model of the next step has no likelihood, {error}"
            break
        rise = expected.loglik - max(history, default=-np.inf)
        history.append(expected.loglik)
        if rise > 0:
            best = problem
        if rise < -_LOST * (entries + abs(expected.loglik)):
            status = Status.STALLED
            what = f"stalled: rounding errors made the log-likelihood fall, by {-rise:.2g}"
        elif rise <= tol * entries:
            status, what = Status.CONVERGED_CHANGE, "converged"
        elif len(history) > max_iter:
            status, what = Status.MAX_ITER, "stopped at the limit max_iter"
        else:
            problem = _maximise(problem, expected, names)
    steps, last = len(history) - 1, ""
    if vanished := _without_noise(best, data):
        status, what = Status.DIVERGED, vanished
    elif steps and status in (Status.CONVERGED_CHANGE, Status.MAX_ITER):
        last = f", raised by {history[-1] - history[-2]:.2g} in the last"
    loglik = max(history) - volume
    return Fit(
        problem=best.in_units(1 / state, 1 / output),
        theta=None,
        loglik=loglik,
        status=status,
        what=f"{what}, after {steps} steps; log-likelihood {loglik:.8g}{last}",
        remedy=_NO_MAXIMUM if vanished else "",
        iterations=steps,
        seconds=time.perf_counter() - began,
        history=History(np.array(history) - volume),
    )


def _without_noise(problem: SmoothingProblem, y: Array) -> str:
    """Say so where a model predicts an output to within the rounding of the data; else nothing.

    The likelihood has no maximum then: it rises without bound as the noises vanish.
    """
    flat = y.reshape(-1, *y.shape[-2:])
    size = np.nanmax(np.abs(flat), axis=(0, 1), initial=0.0)
    size = np.where(size > 0, size, 1.0)  # nothing but zeros, beside the noises of the start
    floor = (_ROUNDED * EPS * size) ** 2
    if (np.diagonal(problem.V, axis1=-2, axis2=-1) > floor).all():
        return ""  # an innovation varies at least as its noise does
    seen = ~np.isnan(flat).all(axis=0)
    own = problem.balanced.problem
    data = own.observations(np.where(seen, 0.0, np.nan))
    try:
        filtering = CovarianceFilter(own, data, split_prior(own)[0])
    except NotConvexError:  # nothing at all is left of the variance of an output
        return _VANISHED.format("an output")
    variances = filtering.whole((filtering.factor**2).sum(axis=-1))
    least = np.where(seen, variances, np.inf).min(axis=0) * problem.balanced.output**2
    exact = np.flatnonzero(least <= floor)
    return _VANISHED.format(f"y[{int(exact[0])}]") if exact.size else ""


def _learnable(problem: SmoothingProblem, learn: Iterable[str]) -> set[str]:
    """The names in `learn`, checked against the problem."""
    names = [learn] if isinstance(learn, str) else check_items("learn", learn, "names of arrays")
    if not names:
        raise ArgumentError(f"learn is empty, expected some of: {', '.join(NAMES)}")
    for name in sorted(names, key=str):
        check_choice("a name in learn", name, NAMES)
        if name in PRIOR and problem.P0 is None:
            raise ArgumentError(f"{name} cannot be learnt: P0 is None, there is no prior")
        for array in (name, {"A": "W", "c": "W", "C": "V", "d": "V"}.get(name, name)):
            if getattr(problem, array).ndim > len(ALL[array]):
                raise ArgumentError(
                    f"{array} varies in time, and em learns {name} only where it does not; "
                    "give a constant one, or use fit with a map of your own"
                )
    return set(names)


def _maximise(problem: SmoothingProblem, expected: Expected, names: set[str]) -> SmoothingProblem:
    """The problem with the arrays in `names` as one step of EM has them."""
    new = {name: getattr(problem, name) for name in NAMES}
    totals = {
        name: gradient.sum(axis=0) if gradient.ndim > new[name].ndim else gradient
        for name, gradient in expected.gradients.items()
        if name in names
    }
    n = problem.n
    for matrix, offset, noise, S in (
        ("A", "c", "W", expected.driven),
        ("C", "d", "V", expected.seen),
    ):
        columns = [*range(n * (matrix in names)), *([n] if offset in names else [])]
        step, count, old = np.zeros((len(new[noise][0]), n + 1)), S[n, n], new[noise]
        if columns:
            G = np.zeros_like(step)
            G[:, :n], G[:, n] = totals.get(matrix, 0.0), totals.get(offset, 0.0)
            step[:, columns] = _regress((old @ G)[:, columns], S[np.ix_(columns, columns)])
        if matrix in names:
            new[matrix] = new[matrix] + step[:, :n]
        if offset in names:
            new[offset] = new[offset] + step[:, n]
        if noise in names and count:
            change = 2 * old @ totals[noise] @ old - step @ S @ step.T
            new[noise] = _covariance(old + change / count)
    moment = expected.start / expected.series
    move = moment[:n, n] if "m0" in names else np.zeros(n)
    new["m0"] = problem.m0 + move
    if "P0" in names:  # the mean of (x[0] - m0 - move)(...)'
        cross = np.outer(moment[:n, n], move)
        new["P0"] = _covariance(moment[:n, :n] - cross - cross.T + np.outer(move, move))
    return problem.replace(**{name: new[name] for name in names})


def _covariance(P: Array) -> Array:
    """P made symmetric, and semidefinite where it is singular and rounding errors tip it over."""
    P = 0.5 * (P + P.T)
    values, vectors = np.linalg.eigh(P)
    return P if values[0] >= 0 else (vectors * np.maximum(values, 0.0)) @ vectors.T


def _regress(wz: Array, zz: Array) -> Array:
    """The step wz zz^-1; zero in the directions of z that never occur, so that old values stay."""
    size = np.sqrt(zz.diagonal())
    size = np.where(size > 0, size, 1.0)
    solution = np.linalg.lstsq(zz / np.outer(size, size), (wz / size).T, rcond=None)[0]
    return np.asarray(solution.T / size)
