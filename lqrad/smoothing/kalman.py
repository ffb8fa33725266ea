"""Kalman filtering and smoothing: by normal equations, and by recursions of covariances.

The smoothed states are the minimum of a tracking cost whose inputs are the noises. With p[t] the
multiplier of the step from x[t] to x[t+1], its optimality conditions are

    W p[t]  = w[t] = x[t+1] - A x[t] - c                              what drives the state
    p[t-1]  = A'p[t] + C'V^-1 (y[t] - C x[t] - d),   p[T] = 0         the costates, backward
    x[0]    = m0 + P0 p[-1],    with p[-1] the same expression at t = 0

Eliminating p leaves a positive definite block-tridiagonal system H x = g, the normal equations.
They need no prior, but the inverses of W and V. The filter of `lqrad.smoothing.covariance_filter`
needs neither, but a prior; the recursion backward that makes a smoother of it is its adjoint.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import Array, check_items
from lqrad.batches import with_both_axes
from lqrad.errors import ArgumentError, LqradError, NonFiniteError, NotConvexError, ShapeError
from lqrad.linalg.stages import times
from lqrad.results import Report
from lqrad.smoothing.arrays import Observations, symmetric
from lqrad.smoothing.batch import SmoothingBatch, stages_of
from lqrad.smoothing.covariance_filter import CovarianceFilter, Means
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.normal_equations import MOST_LOSS, normal_equations
from lqrad.smoothing.roots import root_of
from lqrad.smoothing.start import check_rounding, is_rounded, smooth_by_recursions
from lqrad.smoothing.together import Model, check_variances, round_to_zero, together

NORMAL_EQUATIONS = "normal equations"
RECURSIONS = "covariance recursions"
# A filter whose covariances settle is run until then: alone, where its series is longer than this.
_LONG = 1000


@dataclass(frozen=True, eq=False)
class Filtered(Report):
    """What is known of each state from the observations up to it.

    Covariances have the batch in front where its series have different gaps, or models of their own.

    Attributes
    ----------
    x, cov : (..., T+1, n), (T+1, n, n)
        Means and covariances given y[0], ..., y[t].
    predicted_x, predicted_cov : (..., T+1, n), (T+1, n, n)
        Those given y[0], ..., y[t-1]: m0 and P0 at the start.
    innovations : (..., T+1, ny)
        y[t] - C predicted_x[t] - d, NaN where y is.
    innovation_cov : (T+1, ny, ny)
        C predicted_cov[t] C' + V: of all entries of y[t], be they observed or not.
    loglik : float, or (...) for a batch
        log p(y) of what is observed.
    """

    x: Array
    cov: Array
    predicted_x: Array
    predicted_cov: Array
    innovations: Array
    innovation_cov: Array
    loglik: float | Array


class Outputs(NamedTuple):
    """What is known of the outputs of a smoothed series: of their level, and of what is observed.

    `mean` (..., T+1, ny) is C x + d, that of the level and of a new observation. The covariances, None
    where they were not asked for, are C cov C' of the level and C cov C' + V of an observation: where y
    was not observed, it lies in mean +- 1.96 of its deviations with probability 0.95.
    """

    mean: Array
    level_cov: Array | None
    cov: Array | None


@dataclass(frozen=True, eq=False)
class Smoothed(Report):
    """What is known of each state from the whole series.

    Attributes
    ----------
    x : (..., T+1, n)
        Means.
    cov, lag_cov : (T+1, n, n), (T, n, n), or None
        Covariances, and cov(x[t+1], x[t]); with the batch in front where gaps or models differ.
    p : (..., T, n)
        Costates, W p[t] = x[t+1] - A x[t] - c: the smoothed noise is W p.
    loglik : float, or (...) for a batch
        log p(y) of what is observed. Without a prior it is the diffuse log-likelihood, the limit
        for P0 = k I of log p(y) + n/2 log k.
    method : str
        How it was found: "normal equations", "covariance recursions", "filter and RTS".
    problem : SmoothingProblem or SmoothingBatch
    """

    x: Array
    cov: Array | None
    lag_cov: Array | None
    p: Array
    loglik: float | Array
    method: str
    problem: Model

    def outputs(self) -> Outputs:
        """Return what is known of the level C x + d, and of an observation y of it.

        Examples
        --------
        A level that drifts; its next observation is less certain than itself:

        >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[4]], m0=None, P0=None)
        >>> outputs = kalman_smoother(model, [[0.0], [3.0], [np.nan]]).outputs()
        >>> outputs.level_cov[2].round(6), outputs.cov[2].round(6)
        (array([[3.222222]]), array([[7.222222]]))
        """
        C, V, d = self.problem.C, self.problem.V, self.problem.d
        if isinstance(self.problem, SmoothingBatch):
            C, V, d = with_both_axes(C, 2), with_both_axes(V, 2), with_both_axes(d, 1)
            mean = (C @ self.x[..., None])[..., 0] + d
        else:
            mean = times(C, self.x) + d
        if self.cov is None:
            return Outputs(mean, None, None)
        check_variances("cov", self.cov)
        level_cov = symmetric(C @ self.cov @ C.swapaxes(-1, -2))
        size = np.abs(C) @ np.sqrt(np.diagonal(self.cov, axis1=-2, axis2=-1))[..., None]
        round_to_zero(level_cov, size[..., 0] ** 2)
        check_variances("level_cov", level_cov)
        return Outputs(mean, level_cov, level_cov + V)

    def to_frame(self, index: Sequence[Any] | None = None) -> Any:
        """Return states and outputs of one series as a pandas DataFrame, with standard deviations.

        Its columns are the means x[0], ... of the states and y[0], ... of the outputs; where the
        covariances were asked for, then the deviations sd[0], ... of the states, sd_level[0], ... of
        C x, and sd_y[0], ... of an observation y, which has the sensor's noise in it too.

        Parameters
        ----------
        index : (T+1,), optional
            Labels of the rows, such as the dates y.index; 0, 1, ... when not given.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise LqradError("to_frame needs pandas, try: pip install pandas") from error
        columns = self.columns()
        if not (index is None or isinstance(index, pandas.Index)):  # which has a name and dates
            index = check_items("index", index, "labels")
        if index is not None and len(index) != len(self.x):
            raise ShapeError(
                f"index has {len(index)} labels, expected T + 1 = {len(self.x)}: one for each row "
                "of y; pass y.index, where y is the frame or the series that was smoothed"
            )
        return pandas.DataFrame(columns, index=index)

    def columns(self) -> dict[str, Array]:
        """Return the columns (T+1,) of the table of one series, by their names in `to_frame`."""
        if self.x.ndim != 2:
            raise ShapeError(
                f"x has shape {self.x.shape}, expected (T+1, n): a frame holds one series; smooth "
                "the series of the batch one by one, y[0] first"
            )
        outputs = self.outputs()
        found = {"x": self.x, "y": outputs.mean}
        covs = {"sd": self.cov, "sd_level": outputs.level_cov, "sd_y": outputs.cov}
        for name, cov in covs.items():
            if cov is not None:
                found[name] = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
        return {
            f"{name}[{i}]": column
            for name, table in found.items()
            for i, column in enumerate(table.T)
        }


_Found = TypeVar("_Found", Filtered, Smoothed)


def kalman_filter(problem: Model, y: ArrayLike) -> Filtered:
    """Estimate each state from the observations up to it, by square-root recursions.

    The covariances are squares of triangular roots, which orthogonal transformations update: they
    are positive semidefinite whatever rounding does. W and V may be singular.

    Parameters
    ----------
    problem : SmoothingProblem, or a SmoothingBatch of b models
    y : (..., T+1, ny), or (b, T+1, ny)
        NaN where nothing was observed; rows of NaN at the end give the forecast.

    Raises
    ------
    NotConvexError
        If an innovation has no positive definite covariance, V being singular; names the time.

    See Also
    --------
    kalman_smoother : The same from the whole series, with or without a prior, which this one needs.

    References
    ----------
    Anderson and Moore, Optimal Filtering, 1979, sections 3.1, 6.3 and 6.5 (square roots).

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
    >>> result = kalman_filter(model, [[2.0], [np.nan]])
    >>> result.x.ravel(), result.cov.ravel(), result.predicted_cov.ravel()
    (array([1., 1.]), array([0.5, 1.5]), array([1. , 1.5]))
    """

    def run(problem: Model, y: Array) -> tuple[Filtered, NDArray[np.bool_]]:
        filtering, data, means = _filter(problem, y)
        P, cov = filtering.whole(filtering.predicted_cov), filtering.whole(filtering.cov)
        if isinstance(problem, SmoothingProblem) and is_rounded(problem):
            response = filtering.respond()
            check_rounding(problem, "predicted_cov", P, response.predicted)
            check_rounding(problem, "cov", cov, response.x)
        C, V = stages_of(problem, "C"), stages_of(problem, "V")
        found = Filtered(
            x=means.x,
            cov=cov,
            predicted_x=means.predicted,
            predicted_cov=P,
            innovations=np.where(np.isnan(y), np.nan, means.innovations),
            innovation_cov=filtering.whole(filtering.innovation_cov(C, V)),
            loglik=filtering.loglik(means.e, data),
        )
        return found, filtering.good

    _check_prior(problem, "kalman_filter")
    return together(problem, y, lambda *of: run(*of)[0], _at_once(run))


def rts_smoother(problem: Model, y: ArrayLike) -> Smoothed:
    """Smooth a series by the filter and the backward recursion of Rauch, Tung and Striebel.

    With J = P[t|t] A'P[t+1|t]^-1, x[t|T] = x[t|t] + J (x[t+1|T] - x[t+1|t]), and the covariances as
    squares of roots, found by orthogonal transformations. It needs a prior, which may be vague; where
    P[t+1|t] is all but singular, J loses more digits than `kalman_smoother` does.

    Parameters
    ----------
    problem : SmoothingProblem, or a SmoothingBatch of b models
    y : (..., T+1, ny), or (b, T+1, ny)
        As of `kalman_filter`.

    See Also
    --------
    kalman_smoother : the same without a prior, and faster.
    kalman_filter : its forward pass.

    References
    ----------
    Rauch, Tung and Striebel, Maximum likelihood estimates of linear dynamic systems, AIAA Journal
    3 (1965), 1445-1450.

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
    >>> result = rts_smoother(model, [[0.0], [np.nan], [3.0]])
    >>> result.x.ravel(), result.p.ravel()
    (array([0.42857143, 1.28571429, 2.14285714]), array([0.85714286, 0.85714286]))
    """

    def run(problem: Model, y: Array) -> tuple[Smoothed, NDArray[np.bool_]]:
        filtering, data, means = _filter(problem, y)
        gains, cov, lag_cov = filtering.rts_covariances()
        if isinstance(problem, SmoothingProblem) and is_rounded(problem):
            moved = filtering.smooth_back(filtering.respond(), gains)
            check_rounding(problem, "cov", cov, moved)
        x, p = filtering.smooth_back(means, gains), filtering.costates(means.e)[..., 1:, :]
        loglik = filtering.loglik(means.e, data)
        found = Smoothed(x, cov, lag_cov, p, loglik, "filter and RTS", problem)
        return found, filtering.good

    _check_prior(problem, "rts_smoother")
    return together(problem, y, lambda *of: run(*of)[0], _at_once(run))


def kalman_smoother(problem: Model, y: ArrayLike, *, covariances: bool = True) -> Smoothed:
    """Smooth a series, by normal equations, or by recursions where those lose digits.

    The normal equations are block tridiagonal: one banded Cholesky factor gives the means and
    costates, its pivots the likelihood, and the blocks of the inverse next to the diagonal the
    covariances, all in time and memory proportional to T. Where P0, W or V is singular, or the
    equations do not return a known solution to eleven digits, the recursions of the filter and its
    adjoint are used. They estimate the vague part of a prior, or all of x[0] where there is none,
    from the data.

    Parameters
    ----------
    problem : SmoothingProblem, or a SmoothingBatch of b models
    y : (..., T+1, ny), or (b, T+1, ny)
        As of `kalman_filter`. A batch shares one factorisation where its series have the same gaps.
    covariances : bool
        Whether to return cov and lag_cov.

    Raises
    ------
    NotConvexError
        If there is no prior and the data leave a direction of x[0] open, or if V is singular and
        an entry of y is known before it is observed; names the direction and the time. If a variance
        is lost in the rounding of a P0 that is all but singular.

    See Also
    --------
    loglik_gradient : The derivatives of the log-likelihood in the arrays of the problem.
    lqrad.nonlinear.robust_objective : The same with penalties that outliers move less.

    References
    ----------
    Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd edition, 2012, sections 4.4
    (costates), 4.7 (lag-one covariances), 5.7 (a start that is estimated) and 7.2.2 (the diffuse
    likelihood). De Jong, The diffuse Kalman filter, Annals of Statistics 19 (1991), 1073-1083.

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=None, P0=None)
    >>> result = kalman_smoother(model, [[0.0], [np.nan], [3.0]])
    >>> result.x.ravel().round(12), result.cov.ravel().round(12), result.method
    (array([0.75, 1.5 , 2.25]), array([0.75, 1.  , 0.75]), 'normal equations')
    """

    def run(problem: SmoothingProblem, y: Array) -> Smoothed:
        data = problem.observations(y)
        try:
            equations = normal_equations(problem, ~np.isnan(y[:1]))
            found = equations.smooth(data.z, covariances=covariances)
            loss = found.loss.item()
        except (NotConvexError, NonFiniteError):  # singular, or so near to it that it overflows
            loss = math.inf
        if not loss <= MOST_LOSS:
            parts = smooth_by_recursions(problem, data, covariances)
            return Smoothed(*parts, RECURSIONS, problem)
        cov, lag_cov = (None if Z is None else Z[0] for Z in (found.cov, found.lag_cov))
        return Smoothed(found.x, cov, lag_cov, found.p, found.loglik, NORMAL_EQUATIONS, problem)

    def at_once(problem: Model, y: Array) -> tuple[Smoothed, NDArray[np.bool_]] | None:
        seen = ~np.isnan(y)
        d = with_both_axes(problem.d, 1) if isinstance(problem, SmoothingBatch) else problem.d
        try:
            equations = normal_equations(problem, seen)
            found = equations.smooth(np.where(seen, y - d, 0.0), covariances=covariances)
        except (NotConvexError, NonFiniteError):  # of one of them
            return None
        smoothed = Smoothed(
            found.x, found.cov, found.lag_cov, found.p, found.loglik, NORMAL_EQUATIONS, problem
        )
        return smoothed, found.loss <= MOST_LOSS

    return together(problem, y, run, at_once)


def _check_prior(problem: Model, name: str) -> None:
    """Raise ArgumentError where there is no prior: no series is named, it is so of all."""
    if isinstance(problem, Model) and problem.P0 is None:
        raise ArgumentError(
            f"P0 is None and {name} needs a prior: before the data determine the state it has no "
            "covariance; use kalman_smoother, which does not, or give P0"
        )


def _filter(problem: Model, y: Array) -> tuple[CovarianceFilter, Observations, Means]:
    """Filter series with the same model and gaps, or each with its own."""
    data = problem.observations(y)
    filtering = CovarianceFilter(problem, data, root_of(stages_of(problem, "P0")))
    return (
        filtering,
        data,
        filtering.filter(stages_of(problem, "m0"), stages_of(problem, "c"), data.z),
    )


def _at_once(
    run: Callable[[Model, Array], tuple[_Found, NDArray[np.bool_]]],
) -> Callable[[Model, Array], tuple[_Found, NDArray[np.bool_]] | None]:
    """The same for many series, those left out that overflow or have a singular innovation."""

    def at_once(problem: Model, y: Array) -> tuple[_Found, NDArray[np.bool_]] | None:
        settles = problem.T is None and not np.isnan(y).any() and len(y[0]) > _LONG
        if len(y) == 1 or settles or is_rounded(problem):
            return None
        with np.errstate(all="ignore"):
            found, good = run(problem, y)
            return found, good & np.isfinite(found.x.sum(axis=(1, 2)))

    return at_once
