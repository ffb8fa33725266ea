"""Iterative LQR: Newton's method for nonlinear control, whose every step is a Riccati recursion.

Around a trajectory (x, u) of x[t+1] = f(x[t], u[t]) the problem is, to second order, linear-quadratic
in the deviations, and Riccati solves it: du[t] = -K[t] dx[t] - k[t]. The next trajectory runs through
the nonlinear f, with that feedback:

    u+[t] = u[t] - a k[t] - K[t] (x+[t] - x[t]),    x+[t+1] = f(x+[t], u+[t])

With the second derivatives of the cost alone it is the method of Gauss and Newton, iLQR; with those
of p'f as well it is differential dynamic programming, which converges quadratically.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve

from lqrad.arguments import (
    Array,
    check_count,
    check_limits,
    check_room,
    check_tolerance,
    check_type,
    one_initial_state,
    real_array,
)
from lqrad.copies import ReadOnly
from lqrad.errors import ArgumentError, NonFiniteError, NotConvexError, ShapeError, Status
from lqrad.lq.problem import LQProblem, changed
from lqrad.lq.riccati import riccati
from lqrad.nonlinear.beside import followed, lower_beside
from lqrad.nonlinear.control import ControlProblem
from lqrad.results import Ended, Report, former

_SHORTEST = 2.0**-12  # the last step that the line search tries
_LEAST_SHARE = 1e-4  # of the decrease that the expansion promises, which a step must keep
# Levenberg's weight on du, in units of each input's weight: where it begins, ends, and its factor.
_FIRST, _LAST, _FACTOR = 1e-6, 1e10, 4.0


@dataclass(frozen=True, eq=False)
class Expansions(Report):
    """The cost of each trajectory of `ilqr`, the first included, and the decrease that it promises.

    Both are (iterations + 1,). The decrease is that of the quadratic expansion.
    """

    cost: Array
    decrease: Array


@dataclass(frozen=True, eq=False, repr=False)
class ILQR(ReadOnly, Ended):
    """What `ilqr` returns: a trajectory, a feedback around it, and how it was found.

    Attributes
    ----------
    x : (T+1, n)
    u : (T, m)
    p : (T, n)
        Costates.
    K : (T, m, n)
        Gains of the feedback u[t] - K[t] (x - x[t]); rows of inputs at a bound are zero.
    P : (T+1, n, n)
        Second derivatives of the cost to go.
    cost : float
    status : Status
    what, remedy : str
        How it ended, and what to try where something is known; `message` is both.
    iterations : int
    seconds : float
    history : Expansions
        `history.cost` and `history.decrease`.
    gradient : (T, m)
        That of the cost in u.
    bounds : pair of (m,)
        Lower and upper limits of the inputs, infinite where there are none.
    lower : (T, m), or None
        Where the trajectory is stationary and no minimum, as at a kink or a maximum, inputs beside
        it whose cost is lower: what to start from again. None where none were found.
    problem : ControlProblem
    """

    x: Array
    u: Array
    p: Array
    K: Array
    P: Array
    cost: float
    status: Status
    what: str
    remedy: str
    iterations: int
    seconds: float
    history: Expansions
    gradient: Array
    bounds: tuple[Array, Array]
    lower: Array | None
    problem: ControlProblem

    costs = former("history.cost")
    decreases = former("history.decrease")

    def __repr__(self) -> str:
        return f"<ILQR: {self.message}>"

    def rollout(self, x0: ArrayLike) -> tuple[Array, Array]:
        """Return x (T+1, n) and u (T, m) of the closed loop from another x0 (n,), within the bounds."""
        start = one_initial_state(self.problem, x0)
        k = np.zeros_like(self.u)
        return followed(self.problem, start, self.x, self.u, self.K, k, self.bounds)


@dataclass
class _Expansion:
    """The minimum of the expansion around a trajectory: gains, and what it promises."""

    K: Array
    k: Array
    P: Array
    slope: float  # of the cost along the step -k, at its start: negative
    curvature: float

    def promise(self, step: float) -> float:
        """By how much the cost should fall."""
        return 0.0 - step * (self.slope + 0.5 * step * self.curvature)


def ilqr(
    problem: ControlProblem,
    x0: ArrayLike,
    T: int | None = None,
    u: ArrayLike | None = None,
    *,
    second_order: bool = False,
    bounds: tuple[ArrayLike | None, ArrayLike | None] | None = None,
    max_iter: int = 500,
    tol: float = 1e-10,
    callback: Callable[[int, Array, Array, float], object] | None = None,
) -> ILQR:
    """Minimise the cost of a nonlinear control problem, with a feedback around the optimum.

    Parameters
    ----------
    problem : ControlProblem
    x0 : (n,)
    T : int, optional
        The horizon, if no u is given.
    u : (T, m), optional
        Where to start; zeros when not given. In its former place, that of T, it is taken too.
    second_order : bool
        Use the second derivatives of f too (differential dynamic programming), wherever the
        expansion has a minimum with them.
    bounds : pair (low, high), optional
        Limits of the inputs, each (m,), a number, or None for no limit.
    max_iter : int
        Limit on the iterations.
    tol : float
        Relative change of the cost: stop where the expansion promises at most tol |J|.
    callback : callable, optional
        (iteration, x, u, cost) -> whether to stop; called with each trajectory.

    Raises
    ------
    NonFiniteError
        If the first trajectory is not finite.

    See Also
    --------
    ControlProblem.objective : u -> J(u), for the first-order methods of `descend`.
    policy_gradient : A feedback from a network or a matrix instead.

    References
    ----------
    Jacobson and Mayne, Differential Dynamic Programming, 1970.
    Tassa, Erez and Todorov, Synthesis and stabilization of complex behaviors through online
    trajectory optimization, IROS 2012 (regularisation, line search).
    Tassa, Mansard and Todorov, Control-limited differential dynamic programming, ICRA 2014 (bounds).

    Examples
    --------
    >>> from lqrad.nonlinear.systems import pendulum_swingup
    >>> system = pendulum_swingup()
    >>> result = ilqr(system.problem, system.x0, system.T, bounds=system.bounds)
    >>> result.status.converged, bool(abs(result.x[-1]).max() < 0.1), float(abs(result.u).max()) <= 4
    (True, True, True)
    """
    began = time.perf_counter()
    third: Any = T
    if u is None and np.ndim(third) == 2:
        T, u = None, third
    x0, u, limits = _checked(problem, x0, u, T, bounds)
    max_iter, tol = check_count("max_iter", max_iter, least=0), check_tolerance(tol)
    x = problem.simulate(x0, u)
    cost = float(problem.cost(x, u))
    weight, costs, decreases = 0.0, [cost], []
    status: Status | None = None
    while status is None:
        expansion, weight = _expand(problem, x, u, cost, weight, second_order, limits)
        promise = expansion.promise(1.0)
        if weight and promise <= tol * abs(cost):
            # Under a large weight any promise is small: only that without a weight counts.
            expansion, weight = _expand(problem, x, u, cost, 0.0, second_order, limits)
            promise = expansion.promise(1.0)
        decreases.append(promise)
        iteration = len(costs) - 1
        if callback is not None and callback(iteration, x, u, cost):
            status = Status.CALLBACK
        elif promise <= tol * abs(cost):
            status = Status.CONVERGED_GRADIENT
        elif iteration >= max_iter:
            status = Status.MAX_ITER
        else:
            found = _search(problem, x, u, cost, expansion, limits)
            while found is None and weight < _LAST:
                weight = max(_FIRST, _FACTOR**2 * weight)
                heavier, weight = _expand(problem, x, u, cost, weight, second_order, limits)
                found = _search(problem, x, u, cost, heavier, limits)
            if found is None:
                status = Status.STALLED
                # The gains that are returned are those without a weight.
                expansion, _ = _expand(problem, x, u, cost, 0.0, second_order, limits)
            else:
                x, u, cost = found
                costs.append(cost)
                weight = 0.0 if weight <= _FIRST else weight / _FACTOR
    p = problem.adjoint(x, u)
    gradient = problem.input_gradient(x, u, p)
    lower = None
    if status in (Status.CONVERGED_GRADIENT, Status.STALLED):
        lower = lower_beside(problem, x, u, p, expansion.K, expansion.P, limits, tol)
        if lower is not None:
            status = Status.STATIONARY
    count = len(costs) - 1
    what = (
        f"{status.word} after {count} iteration{'s' * (count != 1)}; J = {cost:.7g}, of which a "
        f"further step promises {decreases[-1]:.2g}"
    )
    if lower is not None:
        what += f", and the cost falls along {lower[2]}, to {lower[1]:.7g}"
    return ILQR(
        x=x,
        u=u,
        p=p,
        K=expansion.K,
        P=expansion.P,
        cost=cost,
        status=status,
        what=what,
        remedy="" if lower is None else "start from `lower`",
        iterations=count,
        seconds=time.perf_counter() - began,
        history=Expansions(np.array(costs), np.array(decreases)),
        gradient=gradient,
        bounds=limits,
        lower=None if lower is None else lower[0],
        problem=problem,
    )


def _expand(
    problem: ControlProblem,
    x: Array,
    u: Array,
    cost: float,
    weight: float,
    second_order: bool,
    limits: tuple[Array, Array],
) -> tuple[_Expansion, float]:
    """The minimum of the expansion, with as much of Levenberg's weight as it takes to have one.

    Where the second derivatives of f leave it without one, those of Gauss and Newton are used.
    """
    bounded = bool(np.isfinite(limits).any())

    def minimum(expansion: LQProblem) -> _Expansion:
        R = expansion.R + weight * np.diag(_input_units(expansion, cost))
        regular = changed(expansion, R=R)
        if bounded:
            return _box_recursion(regular, limits[0] - u, limits[1] - u)
        solution = riccati(regular)
        value = float(solution.w[0])  # the minimum of the expansion: half of the slope
        P, K = np.asarray(solution.P), np.asarray(solution.K)
        return _Expansion(K, solution.k, P, 2 * value, -2 * value)

    if second_order:
        with suppress(NotConvexError, NonFiniteError):
            return minimum(problem.linearise(x, u, problem.adjoint(x, u))), weight
    expansion = problem.linearise(x, u)
    while True:
        try:
            return minimum(expansion), weight
        except (NotConvexError, NonFiniteError):
            if weight >= _LAST:
                raise
            weight = max(_FIRST, _FACTOR * weight)


def _input_units(expansion: LQProblem, cost: float) -> Array:
    """The unit of a weight on each input: its largest own weight, or that of its effect.

    Where there is neither, it is the weight at which the slope promises a decrease of the cost's
    size. An input without any of these has no effect, and any weight leaves it as it is.
    """
    own = np.abs(np.diagonal(expansion.R, axis1=-2, axis2=-1)).max(axis=0)
    weights = np.concatenate([expansion.Q[1:], expansion.S[None]])
    slopes = np.concatenate([expansion.q[1:], expansion.s[None]])
    sizes = np.abs(np.diagonal(weights, axis1=-2, axis2=-1))
    effect = np.einsum("tij,ti->tj", expansion.B**2, sizes).max(axis=0)
    slope = np.abs(expansion.r) + np.einsum("tij,ti->tj", np.abs(expansion.B), np.abs(slopes))
    last = slope.max(axis=0) ** 2 / (abs(cost) or 1.0)
    units = np.where(own > 0, own, np.where(effect > 0, effect, last))
    return np.where(units > 0, units, units.max() or 1.0)


def _box_recursion(problem: LQProblem, low: Array, high: Array) -> _Expansion:
    """The recursion with du[t] = -k[t] held between low[t] and high[t], and no feedback at a bound."""
    T, n, m = len(low), problem.n, problem.m
    K, k, P = np.zeros((T, m, n)), np.zeros((T, m)), np.empty((T + 1, n, n))
    P[-1], v, slope, curvature = problem.S, problem.s, 0.0, 0.0
    for t in reversed(range(T)):
        A, B, Q, M = problem.A[t], problem.B[t], problem.Q[t], problem.M[t]
        PB = P[t + 1] @ B
        G = problem.R[t] + B.T @ PB
        N = PB.T @ A + M.T
        g = problem.r[t] + B.T @ v
        du, free = _box_minimum(G, g, low[t], high[t], t)
        if free.any():
            K[t, free] = np.linalg.solve(G[np.ix_(free, free)], N[free])
        k[t] = -du
        slope += float(du @ g)
        curvature += float(du @ G @ du)
        NK = N.T @ K[t]
        P[t] = Q + A.T @ P[t + 1] @ A + K[t].T @ G @ K[t] - NK - NK.T
        P[t] = 0.5 * (P[t] + P[t].T)
        v = problem.q[t] + A.T @ v + N.T @ du - K[t].T @ (G @ du + g)
    return _Expansion(K, k, P, slope, curvature)


def _box_minimum(G: Array, g: Array, low: Array, high: Array, t: int) -> tuple[Array, Any]:
    """The minimum of 1/2 d'Gd + g'd between the limits, and which entries are at none."""
    held = low >= high
    if held.any():
        d = low.copy()
        if not held.all():
            inner = np.ix_(~held, ~held)
            rest = g[~held] + G[~held][:, held] @ d[held]
            d[~held], _ = _box_minimum(G[inner], rest, low[~held], high[~held], t)
        return d, (d > low) & (d < high)
    try:
        L = np.linalg.cholesky(G)
    except np.linalg.LinAlgError:
        raise NotConvexError(f"R + B'PB is not positive definite at stage {t}") from None
    d = np.clip(-cho_solve((L, True), g, check_finite=False), low, high)
    held = (d <= low) | (d >= high)
    # An active set: every round lowers the value, but for rounding, which the limit ends.
    for _ in range(10 * len(d)):
        free, slope = ~held, G @ d + g
        to = d.copy()
        to[free] -= np.linalg.solve(G[np.ix_(free, free)], slope[free])
        outside = (to < low) | (to > high)
        if outside.any():
            ends = np.where(to < low, low, high)
            shares = np.where(outside, (ends - d) / np.where(outside, to - d, 1.0), np.inf)
            first = int(shares.argmin())
            d = np.clip(d + shares[first] * (to - d), low, high)
            d[first], held[first] = ends[first], True
            continue
        d, slope = to, G @ to + g
        pulled = np.where(d <= low, -slope, slope) / np.sqrt(np.diagonal(G)) * held
        if pulled.max() <= 0:
            break
        held[pulled.argmax()] = False
    return d, (d > low) & (d < high)


def _search(
    problem: ControlProblem,
    x: Array,
    u: Array,
    cost: float,
    expansion: _Expansion,
    limits: tuple[Array, Array],
) -> tuple[Array, Array, float] | None:
    """The first of the halved steps that keeps a share of its promise; None where none does."""
    step = 1.0
    while step >= _SHORTEST:
        try:
            new_x, new_u = followed(problem, x[0], x, u, expansion.K, step * expansion.k, limits)
            new_cost = float(problem.cost(new_x, new_u))
        except NonFiniteError:
            new_cost = math.inf
        if cost - new_cost >= _LEAST_SHARE * expansion.promise(step):
            return new_x, new_u, new_cost
        step *= 0.5
    return None


def _checked(
    problem: ControlProblem,
    x0: ArrayLike,
    u: ArrayLike | None,
    T: int | None,
    bounds: tuple[ArrayLike | None, ArrayLike | None] | None,
) -> tuple[Array, Array, tuple[Array, Array]]:
    """The start, the inputs within their limits, and the limits."""
    check_type("problem", problem, ControlProblem, "ControlProblem(f, stage_cost, n=..., m=...)")
    start = one_initial_state(problem, x0)
    T = None if T is None else check_count("T", T)
    if u is None:
        if T is None:
            raise ArgumentError(
                "neither u nor T is given; pass the horizon T, or inputs to start from"
            )
        check_room(f"two passes over T = {T} steps", T, 2 * (problem.n + problem.m))
        u = np.zeros((T, problem.m))
    inputs = np.array(real_array("u", u))
    if inputs.ndim != 2 or inputs.shape[1] != problem.m or not len(inputs):
        raise ShapeError(f"u has shape {inputs.shape}, expected (T, {problem.m})")
    if T not in (None, len(inputs)):
        raise ArgumentError(f"T is {T}, but u is given for {len(inputs)} steps; leave T out")
    low, high = check_limits("bounds", bounds, (problem.m,))
    return start, np.clip(inputs, low, high), (low, high)
