"""Costs that are not quadratic on linear dynamics: Huber, log-barrier, Student-t.

    minimise    J_LQ(u) + sum_{1<=t<=T} phi(x[t]) + sum_{t<T} psi(u[t])         `penalised`
    minimise    1/2 |x[0] - m0|^2_P0 + 1/2 sum |w[t]|^2_W + sum_t rho(e[t])     `robust_objective`

with e[t] = L^-1 (y[t] - C x[t] - d), V = L L', the whitened misfit of a smoothing problem. A smooth
penalty adds its slopes to Q x[t] in the costates, and to R u[t] in the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    check_finite,
    check_function,
    check_limits,
    check_number,
    check_shape,
    check_type,
    frozen_array,
    real_array,
    renamed,
)
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, NonFiniteError, ShapeError
from lqrad.functions.calls import unwritten
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem
from lqrad.smoothing.model import SmoothingProblem


@dataclass(frozen=True, eq=False)
class Penalty:
    """A smooth function of the state or the input of a stage, written for all stages at once.

    Parameters
    ----------
    value : callable
        z (..., T, k) -> (..., T): a number for each stage, infinite where it is not defined.
    slope : callable
        z (..., T, k) -> (..., T, k), its derivative.
    convex : bool
        Whether it is convex; where all penalties are, proofs of optimality stay valid.

    See Also
    --------
    huber, student_t, log_barrier : make one.
    penalised, robust_objective : add it to a cost.

    Examples
    --------
    >>> quartic = Penalty(lambda z: (z**4).sum(axis=-1), lambda z: 4 * z**3)
    >>> quartic.value(np.array([[1.0, 2.0]])), quartic.slope(np.array([[1.0, 2.0]]))
    (array([17.]), array([[ 4., 32.]]))
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    convex: bool = True

    def __post_init__(self) -> None:
        check_function("value", self.value)
        check_function("slope", self.slope)

    def of(self, C: ArrayLike, ref: ArrayLike = 0.0) -> Penalty:
        """Return z -> this penalty of C z - ref: of an output, or of a distance.

        Parameters
        ----------
        C : (k, n) or (T, k, n)
        ref : (k,) or (T, k), optional

        Examples
        --------
        >>> distance = huber().of([[1.0, 0.0]], ref=[3.0])  # of the first state from 3
        >>> distance.value(np.array([[5.0, 7.0]]))
        array([1.5])
        """
        matrix, reference = frozen_array("C", C), frozen_array("ref", ref)
        if matrix.ndim not in (2, 3):
            raise ShapeError(f"C has shape {matrix.shape}, expected (k, n) or (T, k, n)")

        if reference.ndim and reference.shape[-1] not in (1, matrix.shape[-2]):
            raise ShapeError(
                f"ref has shape {reference.shape}, expected (k,) or (T, k) to match C {matrix.shape}"
            )

        def output(z: Array) -> Array:
            if z.shape[-1] != matrix.shape[-1]:
                raise ShapeError(f"C has shape {matrix.shape}, expected (k, {z.shape[-1]})")
            return times(matrix, z) - reference

        def slope(z: Array) -> Array:
            return times(matrix, self.slope(output(z)), transpose=True)

        return Penalty(lambda z: self.value(output(z)), slope, self.convex)


def huber(delta: float = 1.0, weight: float = 1.0) -> Penalty:
    """Return the sum over the entries of weight times Huber's loss, delta and weight positive.

    It is e^2/2 up to |e| = delta and delta (|e| - delta/2) beyond: the slope is at most delta.

    See Also
    --------
    student_t : outliers lose all their weight.
    robust_objective : smooths a series with it.

    References
    ----------
    Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35 (1964).

    Examples
    --------
    >>> huber().value(np.array([[0.5], [3.0]])), huber().slope(np.array([[0.5], [3.0]])).ravel()
    (array([0.125, 2.5  ]), array([0.5, 1. ]))
    """
    delta = check_number("delta", delta, above=0)
    weight = check_number("weight", weight, above=0)

    def value(e: Array) -> Array:
        inner = np.clip(e, -delta, delta)
        return weight * np.asarray(np.sum(inner * (e - 0.5 * inner), axis=-1))

    return Penalty(value, lambda e: weight * np.clip(e, -delta, delta))


def student_t(nu: float = 4.0, size: ArrayLike | None = None) -> Penalty:
    """Return (nu + k)/2 log(1 + |e|^2/nu): minus the logarithm of Student's density, but a constant.

    The density is that of k numbers together. The penalty tends to |e|^2/2 as nu grows. It is not
    convex: its slope falls as 1/|e|, so that outliers have little influence.

    Parameters
    ----------
    nu : float
        Degrees of freedom, positive: the fewer, the heavier the tails.
    size : (T,), optional
        k for each stage, where some of the entries are zero because nothing was observed; the
        number of entries when not given.

    See Also
    --------
    huber : a convex one.
    robust_objective : smooths a series with it.

    References
    ----------
    Aravkin, Burke and Pillonetto, Robust and trend-following Student's t Kalman smoothers, SIAM
    Journal on Control and Optimization 52 (2014).

    Examples
    --------
    >>> student_t(nu=4).slope(np.array([[0.1], [1.0], [100.0]])).ravel().round(3)
    array([0.125, 1.   , 0.05 ])
    """
    nu = check_number("nu", nu, above=0)
    count = None if size is None else frozen_array("size", size)
    if count is not None and (count < 0).any():
        raise ArgumentError(f"size holds {count.min():g}, expected numbers of entries")

    def force(e: Array) -> Array:
        if count is None:
            return np.full(e.shape[:-1], 0.5 * (nu + e.shape[-1]))
        if count.shape != e.shape[-1 - count.ndim : -1]:
            expected = f"one for each of the {e.shape[-2]} stages of the argument, {e.shape}"
            raise ShapeError(f"size has shape {count.shape}, expected {expected}")
        return np.broadcast_to(0.5 * (nu + count), e.shape[:-1])

    def value(e: Array) -> Array:
        return np.asarray(force(e) * np.log1p((e * e).sum(axis=-1) / nu))

    def slope(e: Array) -> Array:
        return np.asarray((2 * force(e) / (nu + (e * e).sum(axis=-1)))[..., None] * e)

    return Penalty(value, slope, convex=False)


@renamed(lo="low", hi="high")
def log_barrier(
    low: ArrayLike | None = None, high: ArrayLike | None = None, *, weight: float = 1.0
) -> Penalty:
    """Return -weight sum (log(z - low) + log(high - z)): smooth inside, infinite at the bounds.

    Its minimiser costs at most weight times the number of bounds more than the one within the bounds.
    It is meant for bounds on states; for those on inputs there is `descend(..., bounds=)`.

    Parameters
    ----------
    low, high : (k,) or (T, k), or numbers
        None, or infinite entries, for no bound.
    weight : float
        Positive.

    See Also
    --------
    penalised : adds it to a problem.
    mpc : limits that hold exactly.

    References
    ----------
    Boyd and Vandenberghe, Convex Optimization, 2004, section 11.2.

    Examples
    --------
    >>> barrier = log_barrier(high=1.0)
    >>> barrier.value(np.array([[0.0], [1.0]])), barrier.slope(np.array([[0.5]]))
    (array([ 0., inf]), array([[2.]]))
    """
    weight = check_number("weight", weight, above=0)
    given = [np.shape(real_array(n, z)) for n, z in (("low", low), ("high", high)) if z is not None]
    if not given:
        raise ArgumentError("neither low nor high is given; a barrier needs at least one of them")
    low, high = check_limits(
        "low and high", (low, high), max(given, key=len), names=("low", "high")
    )
    if not np.all(low < high):
        raise ArgumentError(
            f"low is {low} and high is {high}, expected low < high: no room is left"
        )
    sides = ((1.0, low), (-1.0, high))

    def value(z: Array) -> Array:
        total = np.zeros(z.shape[:-1])
        for sign, bound in sides:
            room = sign * (z - bound)
            inside = room > 0
            near = inside & np.isfinite(bound)
            logs = np.where(inside, np.log(np.where(near, room, 1.0)), -np.inf)
            total = total - weight * logs.sum(axis=-1)
        return total

    def slope(z: Array) -> Array:
        return np.asarray(-weight * sum(1.0 / (z - bound) for _, bound in sides))

    return Penalty(value, slope)


def penalised(
    problem: LQProblem,
    x0: ArrayLike,
    T: int | None = None,
    *,
    state: Penalty | None = None,
    input: Penalty | None = None,
) -> Objective:
    """Return u -> J(u) + the penalties of the states x[1], ..., x[T] and the inputs, from x0.

    Parameters
    ----------
    problem, x0, T
        As of `problem.objective(x0, T)`, whose shape the result has.
    state, input : Penalty, optional
        Where they are convex the result has the gap bound of the problem, as they only add to its
        Hessian.

    See Also
    --------
    huber, student_t, log_barrier : penalties.
    descend : minimises the result.

    Examples
    --------
    >>> problem = LQProblem([[1.0]], [[1.0]], Q=[[0.0]], R=[[1.0]])
    >>> objective = penalised(problem, [10.0], T=2, state=huber())
    >>> J, g = objective.value_and_gradient(np.zeros((2, 1)))  # far off, each state pulls by one
    >>> J, g.ravel()
    (19.0, array([2., 1.]))
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    penalties = {"state": state, "input": input}
    for name, penalty in penalties.items():
        if penalty is not None:
            check_type(name, penalty, Penalty, "huber()")
    base = problem.objective(x0, T)
    start = np.array(real_array("x0", x0))
    dynamics = Bidiagonal(problem.A)

    def value_and_gradient(u: Array) -> tuple[float, Array]:
        value, gradient = base.value_and_gradient(u)
        if input is not None:
            added, slopes = _evaluated("input", input, np.asarray(u, dtype=np.float64), "u")
            value, gradient = value + added, gradient + slopes
        if state is not None:
            x = problem.simulate(start, u)
            added, slopes = _evaluated("state", state, x[..., 1:, :], "x", 1)
            value, pulls = value + added, np.zeros_like(x)
            pulls[..., 1:, :] = slopes
            p = dynamics.solve(pulls, transpose=True, overwrite=True)
            gradient = gradient + times(problem.B, p[..., 1:, :], transpose=True)
        return value, gradient

    convex = all(penalty is None or penalty.convex for penalty in penalties.values())
    return Objective(
        shape=base.shape,
        value_and_gradient=value_and_gradient,
        gap_bound=base.gap_bound if convex else None,
        curvature=base.curvature if convex else None,
    )


def robust_objective(
    problem: SmoothingProblem, y: ArrayLike, nu: float = 4.0, *, loss: Penalty | None = None
) -> Objective:
    """Return the objective of smoothing with noise of heavy tails, which outliers hardly move.

    Parameters
    ----------
    problem : SmoothingProblem
        V is the scale of the noise: its covariance is nu/(nu - 2) V where nu > 2.
    y : (..., T+1, ny)
        NaN where nothing was observed. A batch adds up.
    nu : float
        Degrees of freedom of Student's t; as they grow, the limit is `problem.objective(y)`.
    loss : Penalty, optional
        Another one of the whitened misfit e (..., T+1, ny), such as `huber()`, instead of
        Student's. Entries that were not observed have e = 0.

    Returns
    -------
    Objective
        Of z = (x[0], w[0], ..., w[T-1]), as that of the problem. With Student's t it is not convex:
        start from the solution of `problem.objective(y)`. With a convex loss, it has the problem's
        gap bound.

    See Also
    --------
    SmoothingProblem.objective, kalman_smoother : The same with Gaussian noise.

    References
    ----------
    Aravkin, Burke and Pillonetto, Robust and trend-following Student's t Kalman smoothers, SIAM
    Journal on Control and Optimization 52 (2014).

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
    >>> y = [[0.0], [100.0], [0.0]]
    >>> z = np.zeros((3, 1))
    >>> model.objective(y).value_and_gradient(z)[1].ravel()  # the outlier pulls by 100
    array([-100., -100.,    0.])
    >>> robust_objective(model, y).value_and_gradient(z)[1].ravel().round(3)
    array([-0.05, -0.05,  0.  ])
    """
    check_type("problem", problem, SmoothingProblem, "SmoothingProblem(A, C, W, V, m0, P0)")
    if loss is not None:
        check_type("loss", loss, Penalty, "huber()")
    y = problem.series(y)
    if loss is None:
        loss = student_t(nu, size=(~np.isnan(y)).sum(axis=-1))
    base = problem.objective(np.full_like(y, np.nan))  # no misfit: the prior and the noise
    white = problem.whitened(problem.observations(y))
    dynamics, chosen = Bidiagonal(problem.A), loss

    def value_and_gradient(z: Array) -> tuple[float, Array]:
        value, gradient = base.value_and_gradient(z)
        x = np.array(z, dtype=np.float64)
        x[..., 1:, :] += problem.c
        x = dynamics.solve(x, overwrite=True)
        added, slopes = _evaluated("loss", chosen, times(white.C, x) - white.z, "x")
        pulls = dynamics.solve(times(white.C, slopes, transpose=True), transpose=True)
        return value + added, gradient + pulls

    return Objective(
        shape=base.shape,
        value_and_gradient=value_and_gradient,
        gap_bound=base.gap_bound if loss.convex else None,
        curvature=base.curvature if loss.convex else None,
    )


def _evaluated(
    name: str, penalty: Penalty, z: Array, symbol: str, first: int = 0
) -> tuple[float, Array]:
    """The sum of a penalty over all stages, and its slopes; z begins at symbol[first]."""
    values = np.asarray(unwritten(f"the value of {name}", penalty.value, z), dtype=np.float64)
    check_shape(f"the value of {name}", values, z.shape[:-1], "a number for each stage")
    total = float(np.sum(values))
    if not np.isfinite(total):
        stage = int(np.argmin(np.isfinite(values).reshape(-1, values.shape[-1]).all(axis=0)))
        raise NonFiniteError(
            f"the {name} penalty is {values[..., stage].max():.3g} at {symbol}[{stage + first}]",
            "try a start where it is finite, inside of a barrier",
        )
    slopes = np.asarray(unwritten(f"the slope of {name}", penalty.slope, z), dtype=np.float64)
    check_shape(f"the slope of {name}", slopes, z.shape, "as its argument has")
    check_finite(f"the slope of {name}", slopes, computed=True)
    return total, slopes
