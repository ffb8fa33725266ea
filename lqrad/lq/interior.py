"""Linear-quadratic problems whose inputs alone have limits: an interior-point method of Riccati sweeps.

    minimise  J(x, u)   subject to   x[t+1] = A x[t] + B u[t] + c,    low[t] <= C x[t] + D u[t] <= high[t]

where each row of D has one entry: a row limits an input, or its change where the input before is part of
the state. With slacks a = g - low and b = high - g and multipliers v, w of these, all of them positive,
the optimality conditions are those of J + sum (w - v) g together with v a = w b = 0. Newton's method
on v a = w b = m, for an m that goes to zero, needs the minimum of a quadratic,

    J(x + dx, u + du) + sum y dg + 1/2 sum (v/a + w/b) dg^2,

with y what the slacks and multipliers make it: each row that is near its limit is one more weight, and
one Riccati sweep of the whole horizon finds dx and du. The number of sweeps hardly depends on how many
rows end at limits, and inputs that saturate on an unstable plant are no difficulty: no rows are
combined whose sizes are as far apart as A^0 and A^T.

References
----------
Rao, Wright and Rawlings, Application of interior-point methods to model predictive control, Journal of
Optimization Theory and Applications 99 (1998), 723-757.
Mehrotra, On the implementation of a primal-dual interior point method, SIAM Journal on Optimization 2
(1992), 575-601.
El-Bakry, Tapia and Zhang, A study of indicators for identifying zero variables in interior-point
methods, SIAM Review 36 (1994), 45-72.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.errors import NonFiniteError, NotConvexError
from lqrad.linalg.feedback import Feedback
from lqrad.linalg.riccati import recursion
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem

# How much of the way to the nearest limit a step goes, and how far from its limits a start keeps,
# as a part of their distance.
_MOST, _INSIDE = 0.995, 0.1
# A slack is at least this part of its row's unit to begin with.
_LEAST = 1e-9
# Products of slacks and multipliers, beside the tolerance of the gap, at which the search ends.
_CLOSE = 1e-4
# Of a change in a row's room below and above.
_SIGN = np.array([-1.0, 1.0]).reshape(2, 1, 1)

Slopes = Callable[[Array, Array, Array], tuple[Array, Array]]


class Interior(NamedTuple):
    """What `interior` found.

    Attributes
    ----------
    x, u : (T+1, n), (T, m)
    y : (T, k)
        Multipliers: positive at an upper limit, negative at a lower one.
    at : (T, k) of bool
        The rows that end at a limit.
    K : (T, m, n)
        The feedback of the last sweep, which leaves inputs at limits where they are.
    """

    x: Array
    u: Array
    y: Array
    at: NDArray[np.bool_]
    K: Array
    iterations: int


class _Sides(NamedTuple):
    """Slacks (2, T, k) to low and high limits and their multipliers; 1 and 0 where there is none."""

    slack: Array
    y: Array

    def product(self) -> float:
        """The sum of slacks times multipliers."""
        return float((self.slack * self.y).sum())

    def moved(self, by: _Sides, length: float) -> _Sides:
        """All of them after a step."""
        return _Sides(self.slack + length * by.slack, self.y + length * by.y)

    def longest(self, by: _Sides) -> float:
        """The longest step, up to 1, that makes nothing negative."""
        ends = [-z[dz < 0] / dz[dz < 0] for z, dz in zip(self, by, strict=True)]
        return min(1.0, float(np.concatenate(ends).min(initial=np.inf)))


def interior(
    problem: LQProblem,
    C: Array,
    D: Array,
    low: Array,
    high: Array,
    x: Array,
    u: Array,
    *,
    slopes: Slopes,
    unit: Array,
    size: float,
    tol: float,
    max_iter: int,
) -> Interior:
    """Return the best states and inputs within limits, from others that are well within.

    Parameters
    ----------
    C, D : (k, n), (k, m), each also with a leading T axis
    low, high : (T, k)
    x, u : (T+1, n), (T, m)
        Such as `well_within` returns.
    slopes : callable
        Of x, u and y (T, k): the partial derivatives of J + sum y g in each state and input.
    unit : (T, k)
        Of each row.
    size, tol : float
        The gap is to be tol times the cost and this size.
    """
    stages = np.broadcast_shapes(C.shape[:-2], D.shape[:-2])
    CD = np.concatenate([np.broadcast_to(z, (*stages, *z.shape[-2:])) for z in (C, D)], axis=-1)
    rows = _Rows(problem, CD, np.stack([low, high]), slopes)
    cost, count = float(problem.cost(x, u)), rows.given.sum()
    slack = np.where(rows.given, np.maximum(rows.room(x, u), _LEAST * unit), 1.0)
    product = (abs(cost) + size) / count
    sides = _Sides(slack, np.where(rows.given, product / slack, 0.0))
    at, K, iterations = np.zeros(slack.shape, bool), np.zeros((*u.shape, problem.n)), 0
    while iterations < max_iter and sides.product() > _CLOSE * tol * (abs(cost) + size):
        iterations += 1
        try:
            newton = _Newton(rows, x, u, sides)
            _, _, by = newton.step(0.0)  # shows how much of the product one step can do away with
            left = sides.moved(by, sides.longest(by)).product() / sides.product()
            centre = left**3 * sides.product() / count
            dx, du, by = newton.step(centre - by.slack * by.y)
        except (NonFiniteError, NotConvexError):
            break  # what has been found is judged by its proof
        longest = sides.longest(by)
        length = longest if longest == 1.0 else _MOST * longest
        # The slacks that fall faster than their multipliers go to zero.
        at = rows.given & (np.abs(by.slack) * sides.y > np.abs(by.y) * sides.slack)
        x, u, sides = x + length * dx, u + length * du, sides.moved(by, length)
        cost, K = float(problem.cost(x, u)), newton.feedback.K
    return Interior(x, u, sides.y[1] - sides.y[0], at[0] | at[1], K, iterations)


@dataclass(frozen=True)
class _Rows:
    """Rows CD (x, u), their limits (2, T, k), and the slopes of the Lagrangian."""

    problem: LQProblem
    CD: Array
    limits: Array
    slopes: Slopes

    @property
    def given(self) -> NDArray[np.bool_]:
        """Where there is a limit."""
        return np.isfinite(self.limits)

    def of(self, x: Array, u: Array) -> Array:
        """The rows (T, k) of states and inputs."""
        return times(self.CD, np.concatenate([x[:-1], u], axis=1))

    def room(self, x: Array, u: Array) -> Array:
        """How far rows are from their limits; zero where there is none."""
        return _SIGN * (np.where(self.given, self.limits - self.of(x, u), 0.0))


class _Newton:
    """Newton's method at a point: a Riccati recursion with a weight on each row."""

    def __init__(self, rows: _Rows, x: Array, u: Array, sides: _Sides) -> None:
        self.rows, self.x, self.u, self.sides = rows, x, u, sides
        self.missing = np.where(rows.given, rows.room(x, u) - sides.slack, 0.0)
        problem, n, T = rows.problem, rows.problem.n, len(u)
        # Rounding errors of larger states before: the step takes them away.
        self.jump = times(problem.A, x[:-1]) + times(problem.B, u) + problem.c - x[1:]
        weight = (sides.y / sides.slack).sum(axis=0)
        more = (rows.CD.swapaxes(-1, -2) * weight[:, None, :]) @ rows.CD
        Q, M, R = problem.Q + more[:, :n, :n], problem.M + more[:, :n, n:], more[:, n:, n:]
        A, B = (np.broadcast_to(z, (T, *z.shape[-2:])) for z in (problem.A, problem.B))
        P, K, L, _ = recursion(A, B, Q, problem.R + R, M, problem.S, T)
        self.feedback = Feedback(A, B, P, K, L)

    def step(self, product: Array | float) -> tuple[Array, Array, _Sides]:
        """The step to slack * y = product."""
        rows, (slack, y) = self.rows, self.sides
        start = np.where(rows.given, (product - y * self.missing) / slack, 0.0)
        slopes = rows.slopes(self.x, self.u, start[1] - start[0])
        dx, du, _, _ = self.feedback.minimise(*slopes, c=self.jump)
        by = np.where(rows.given, self.missing - _SIGN * rows.of(dx, du), 0.0)
        return dx, du, _Sides(by, np.where(rows.given, (product - y * by) / slack - y, 0.0))


def well_within(
    problem: LQProblem, C: Array, D: Array, low: Array, high: Array, x0: Array, K: Array, v: Array
) -> tuple[Array, Array]:
    """Return states and inputs u = v - K x, each kept off its limits by a tenth of their distance.

    Each row of D, (k, m) or (T, k, m), has one entry, in the same place; low and high are (T, k).
    """
    T, n, m = K.shape[0], problem.n, problem.m
    of = np.abs(D).reshape(-1, *D.shape[-2:])[0].argmax(axis=1)
    entry = D[..., np.arange(len(of)), of]
    slope = np.broadcast_to(C / entry[..., None], (T, len(of), n))
    ends = np.sort(np.stack([low, high]) / entry, axis=0)
    A, B, c = (
        np.broadcast_to(z, (T, *shape))
        for z, shape in ((problem.A, (n, n)), (problem.B, (n, m)), (problem.c, (n,)))
    )
    x, u = np.empty((T + 1, n)), np.empty((T, m))
    x[0] = x0
    for t in range(T):
        least, most = np.full(m, -np.inf), np.full(m, np.inf)
        shift = slope[t] @ x[t]
        np.maximum.at(least, of, ends[0, t] - shift)
        np.minimum.at(most, of, ends[1, t] - shift)
        both = np.isfinite(least) & np.isfinite(most)
        inside = _INSIDE * np.subtract(most, least, out=np.zeros(m), where=both)
        u[t] = np.minimum(np.maximum(v[t] - K[t] @ x[t], least + inside), most - inside)
        x[t + 1] = A[t] @ x[t] + B[t] @ u[t] + c[t]
    return x, u
