"""Linear-quadratic problems within limits: the method of multipliers, with Newton steps by Riccati.

    minimise  J(x, u)   subject to   x[t+1] = A x[t] + B u[t] + c,    low[t] <= g[t] <= high[t]

where g[t] holds rows C x[t] + D u[t] and rows E x[t+1]. With a multiplier y of each row and a
stiffness rho, a step of the method minimises

    phi = J + sum (y+^2 - y^2) / (2 rho),    y+ = w - clip(w, rho low, rho high),   w = y + rho g

over the trajectories of the dynamics, and takes y+ for y. phi is a piecewise quadratic: on a piece
it is the cost of a linear-quadratic problem whose weights are stiffer by rho along the rows that
are at a limit. So a Newton step is a Riccati sweep and two passes with the loop closed, which no
unstable A can blow up, and where to stop along it follows from the ends of the pieces.

Three facts make it exact. At the minimiser of phi the Lagrangian J + sum y+ (g - limit) is
stationary, so that its value bounds the minimum from below, and sum y+ (limit - g) the gap. Where
no trajectory keeps the limits, y grows along a direction whose own lower bound on the cost is
without limit: that proves it. Soft rows then keep their stiffness, a spring beyond each limit, and
what is minimised is J + sum spring/2 excess^2 within the limits of the others.

The stiffness is in units of one over the variance of a row under the inverse Hessian, which is what
the row gets from inputs u[t] = -K[t] x[t] + noise of covariance (R + B'P[t+1]B)^-1: a single row
at its limit comes nearer to it by this factor with each new multiplier.

References
----------
Bertsekas, Constrained Optimization and Lagrange Multiplier Methods, 1982, chapters 2 and 5.
Hermans, Themelis and Patrinos, QPALM: a proximal augmented Lagrangian method for nonconvex
quadratic programs, Mathematical Programming Computation 14 (2022), 497-541 (semismooth Newton
steps with an exact step size).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array, check_finite
from lqrad.errors import Status
from lqrad.kernels.feedback import Feedback
from lqrad.kernels.riccati import sweep
from lqrad.kernels.stages import times
from lqrad.problems.lq import LQProblem

# Rows at a limit are this much stiffer than by nature at first, and by how much more where new
# multipliers do not bring them nearer by as much.
_STIFFNESS, _STIFFER, _STIFFEST = 1e5, 10.0, 1e11
# A variance below this part of its terms is of rounding errors: the row does not feel the inputs.
_NO_VARIANCE = 1e-12
# Where the decrease that is left is below this part of the cost, it is of rounding errors.
_NOTHING = 1e-26
# Limits that are kept by no trajectory of less than this many times the cost are kept by none; where
# rounding errors leave nothing to try, they hide how much more than the second it is.
_BEYOND, _BEYOND_AT_LAST = 1e10, 1e6
# The spring of a soft row that gives way, in units of one over its largest variance.
_SPRING = 1e2


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """A trajectory within limits, and how far it is from the best at most.

    Attributes
    ----------
    x : (T+1, n)
    u : (T, m)
    p : (T, n)
        Costates, with the multipliers of the limits in their equation.
    y : (T, rows)
        Multipliers of the limits: positive at an upper one, negative at a lower one.
    cost : float
        J of x and u.
    gap_bound : float
        What the cost is proven not to exceed the minimum by, among trajectories within the limits.
        Where these cannot be kept, it is that of J + sum spring/2 excess^2.
    excess : float
        The most that a limit is exceeded by, in units of the row that is furthest beyond its own in
        relation to them; zero up to the tolerance where the status is a converged one.
    status : Status
    message : str
    iterations : int
        Newton steps.
    """

    x: Array
    u: Array
    p: Array
    y: Array
    cost: float
    gap_bound: float
    excess: float
    status: Status
    message: str
    iterations: int

    def __repr__(self) -> str:
        return f"<Plan of {len(self.u)} steps: {self.message}>"


@dataclass(frozen=True)
class _Limits:
    """Limits (T, rows)."""

    low: Array
    high: Array

    def excess(self, g: Array) -> Array:
        return np.maximum(np.maximum(g - self.high, self.low - g), 0.0)

    def multipliers(self, w: Array, rho: Array) -> Array:
        """Return y+ of w = y + rho g; its sign is the piece that each row is on."""
        return np.asarray(w - np.clip(w, rho * self.low, rho * self.high))

    def pull(self, y: Array, g: Array) -> float:
        """Return sum y (g - limit), with the limit on the side that the sign of y tells."""
        at = y != 0
        limit = np.where(y > 0, self.high, self.low)[at]
        return float((y[at] * (g[at] - limit)).sum())


class Limited:
    """A problem with limits on rows of its states and inputs, ready for any initial state.

    Parameters
    ----------
    problem : LQProblem
    T : int
        Horizon.
    C, D : (k, n), (k, m)
        The rows C x[t] + D u[t], for t = 0 ... T-1.
    E : (j, n)
        The rows E x[t+1].
    soft : (k+j,) of bool
        The rows that give way where not all limits can be kept.
    names : sequence of k+j str
        What messages call the rows.

    Raises
    ------
    NotConvexError, NonFiniteError
        As `riccati`.

    Examples
    --------
    A mass that is to be stopped, with a force of at most 1:

    >>> problem = LQProblem([[1, 0.5], [0, 1]], [[0.125], [0.5]], np.eye(2), [[0.1]])
    >>> force, none = np.ones((1, 1)), np.zeros((1, 2))
    >>> limited = Limited(
    ...     problem, 20, none, force, none[:0], soft=np.array([False]), names=["force"]
    ... )
    >>> ones = np.ones((20, 1))
    >>> plan = limited.solve(np.array([3.0, 0.0]), -ones, ones)
    >>> plan.u[:6].ravel().round(3) + 0.0
    array([-1.   , -1.   , -1.   ,  0.682,  0.822,  0.589])
    """

    def __init__(
        self,
        problem: LQProblem,
        T: int,
        C: Array,
        D: Array,
        E: Array,
        *,
        soft: NDArray[np.bool_],
        names: Sequence[str],
    ) -> None:
        n, m = problem.n, problem.m
        self.problem, self.T, self.soft, self.names = problem, T, soft, names
        self._CD, self._E, self._k = np.hstack([C, D]), E, len(C)
        self._weights, self._linear = np.empty((T, n + m, n + m)), np.empty((T, n + m))
        self._weights[:, :n, :n], self._weights[:, n:, n:] = problem.Q, problem.R
        self._weights[:, :n, n:] = problem.M
        self._weights[:, n:, :n] = problem.M.swapaxes(-1, -2)
        self._linear[:, :n], self._linear[:, n:] = problem.q, problem.r
        self._c = np.broadcast_to(problem.c, (T, n)) if problem.c.any() else None
        self._plain = self._swept(self._weights, problem.S)
        self._last = b"", self._plain  # the last rows that were stiff, and their Newton steps
        variance = self._variances()
        self._deviation = np.sqrt(variance.max(axis=0, initial=0.0))
        self._reached = variance > 0
        self._natural = 1 / np.where(self._reached, variance, 1.0)
        self._spring = _SPRING / np.where(self._deviation, self._deviation, 1.0) ** 2

    def _variances(self) -> Array:
        """The diagonal of G H^-1 G', with H the Hessian and G the map from inputs to rows.

        It is zero where a row does not feel the inputs, however small it is where it does.
        """
        problem, newton = self.problem, self._plain
        n = problem.n
        A, B = (np.broadcast_to(z, (self.T, *z.shape[-2:])) for z in (problem.A, problem.B))
        noise = np.linalg.solve(newton.L, np.broadcast_to(np.eye(problem.m), newton.L.shape))
        noise = noise.swapaxes(-1, -2) @ noise
        X = np.zeros((n, n))
        variances = np.empty((self.T, len(self.soft)))
        for t in range(self.T):
            loop = np.vstack([np.eye(n), -newton.K[t]])
            joint = loop @ X @ loop.T
            joint[n:, n:] += noise[t]
            variances[t, : self._k] = _felt(self._CD, joint)
            step = np.hstack([A[t], B[t]])
            X = step @ joint @ step.T
            still = _felt(step, joint) == 0  # so that rounding errors move nothing later on
            X[still], X[:, still] = 0.0, 0.0
            variances[t, self._k :] = _felt(self._E, X)
        return variances

    @np.errstate(over="ignore", invalid="ignore")  # looked for in what comes out
    def solve(
        self,
        x0: Array,
        low: Array,
        high: Array,
        *,
        y: Array | None = None,
        max_iter: int = 500,
        tol: float = 1e-8,
    ) -> Plan:
        """Return the cheapest trajectory from x0 within limits.

        Parameters
        ----------
        x0 : (n,)
        low, high : (T, k+j)
            Limits of the rows, those of C x[t] + D u[t] first; -inf and inf where there are none.
        y : (T, k+j), optional
            Multipliers to start from, such as those of a neighbouring problem.
        max_iter : int
            Limit on Newton steps.
        tol : float
            Of the gap relative to the cost, and of an excess relative to its row's largest limit, or
            to how far the row goes where that is less.

        Returns
        -------
        Plan
            Its status is INFEASIBLE where it is proven that not all limits can be kept, or only at
            a million times the cost; the soft ones then give way.

        Raises
        ------
        NonFiniteError
            If a state, an input or the cost overflows.
        """
        zero = np.zeros((self.T + 1, self.problem.n)), np.zeros((self.T, self.problem.m))
        x, u, p, _ = self._plain.minimise(*self._slopes(*zero), x0, self._c)
        g, cost = self._rows(x, u), self._cost(x, u)
        free = g, cost
        asked = _Limits(low, high)
        exceeded = asked.excess(g) > tol * self._units(asked, g, cost)
        if not exceeded.any():
            return self._plan(x, u, p, 0.0 * g, cost, 0.0, asked, Status.CONVERGED_GAP, 0)

        # What no input moves cannot be helped: it is left out, and told of at the end.
        infeasible, gives = bool(exceeded[~self._reached].any()), np.zeros(len(self.soft), bool)
        limits = _Limits(
            np.where(self._reached, low, -np.inf), np.where(self._reached, high, np.inf)
        )
        before = 0.0 * g if y is None else np.where(self._reached, y, 0.0)
        stiffness, last, least, iterations = _STIFFNESS, np.inf, -np.inf, 0
        if before.any():
            x, u = self._start(x0, before, stiffness * self._natural, limits)
        while True:
            rho = np.where(gives, self._spring, stiffness * self._natural)
            x, u, p, y, steps = self._minimise(x, u, before, rho, limits, max_iter - iterations)
            iterations += steps
            g, cost = self._rows(x, u), self._cost(x, u)
            excess = limits.excess(g) / self._units(limits, g, free[1])
            worst = float(np.where(gives, 0.0, excess).max())
            gap, size = -limits.pull(np.where(gives, 0.0, y), g), abs(cost) + abs(free[1])
            if worst <= tol and abs(gap) <= tol * size:
                status = Status.CONVERGED_GAP
                break
            if iterations >= max_iter:
                status = Status.MAX_ITER
                break
            growth = np.where(gives, 0.0, y - before)
            least = max(least, self._least_cost(growth, limits, *free))
            slow = worst > last / _STIFFER
            stuck = slow and stiffness >= _STIFFEST
            if least > (_BEYOND_AT_LAST if stuck else _BEYOND) * size:
                infeasible = True
                if gives.any() or not self.soft.any():
                    status = Status.INFEASIBLE
                    break
                gives, stiffness, worst, least = self.soft, _STIFFNESS, np.inf, -np.inf
                y = np.zeros_like(y)
            elif stuck:
                status = Status.STALLED
                break
            elif slow:
                stiffness *= _STIFFER
            before, last = np.where(gives, 0.0, y), worst
        gap += 0.5 * self._plain.size(*self._slopes(x, u, y))
        if infeasible:
            status = Status.INFEASIBLE
        else:  # early multipliers prove little; their best multiple proves more
            gap = min(gap, cost - self._least_cost(y, limits, *free))
        return self._plan(x, u, p, y, cost, max(gap, 0.0), asked, status, iterations)

    def _minimise(
        self, x: Array, u: Array, before: Array, rho: Array, limits: _Limits, most: int
    ) -> tuple[Array, Array, Array, Array, int]:
        """Return the x, u of the least phi, their costates and multipliers, and the steps taken."""
        w = before + rho * self._rows(x, u)
        y = limits.multipliers(w, rho)
        steps = 0
        while True:
            piece = np.sign(y)
            newton = self._newton(np.where(piece, rho, 0.0))
            dx, du, p, worth = newton.minimise(*self._slopes(x, u, y))
            size = step_size(worth, w, rho * self._rows(dx, du), rho, limits.low, limits.high)
            x, u = x + size * dx, u + size * du
            check_finite("x", x, computed=True)
            check_finite("u", u, computed=True)
            w = before + rho * self._rows(x, u)
            y = limits.multipliers(w, rho)
            steps += 1
            exact = size == 1.0 and np.array_equal(piece, np.sign(y))
            if exact or worth <= _NOTHING * abs(self._cost(x, u)) or steps >= most:
                return x, u, p, y, steps

    def _start(self, x0: Array, y: Array, rho: Array, limits: _Limits) -> tuple[Array, Array]:
        """The trajectory from x0 of the least phi where the rows with a y are at their limits."""
        limit = np.where(y > 0, limits.high, limits.low)
        stiff = (y != 0) & np.isfinite(limit)
        pull = np.where(stiff, y - rho * np.where(stiff, limit, 0.0), 0.0)
        zero = np.zeros((self.T + 1, self.problem.n)), np.zeros((self.T, self.problem.m))
        newton = self._newton(np.where(stiff, rho, 0.0))
        x, u, _, _ = newton.minimise(*self._slopes(*zero, pull), x0, self._c)
        return x, u

    def _newton(self, rho: Array) -> Feedback:
        """Newton steps with rows that are stiffer by rho; those of the last rho are kept."""
        key = rho.tobytes()
        if not rho.any():
            return self._plain
        if self._last[0] != key:
            n, k = self.problem.n, self._k
            weights = self._weights + (self._CD.T * rho[:, None, :k]) @ self._CD
            ahead = (self._E.T * rho[:, None, k:]) @ self._E
            weights[1:, :n, :n] += ahead[:-1]
            self._last = key, self._swept(weights, self.problem.S + ahead[-1])
        return self._last[1]

    def _swept(self, weights: Array, S: Array) -> Feedback:
        """Newton steps for stage weights (T, n+m, n+m) and a terminal weight."""
        n, problem = self.problem.n, self.problem
        Q, M, R = weights[:, :n, :n], weights[:, :n, n:], weights[:, n:, n:]
        P, K, L, _ = sweep(problem.A, problem.B, Q, R, M, S, self.T)
        return Feedback(problem.A, problem.B, P, K, L)

    def _least_cost(self, y: Array, limits: _Limits, g: Array, cost: float) -> float:
        """A lower bound on the cost of what keeps the limits: the best that multiples of y give.

        With multipliers a y, a >= 0, the Lagrangian has the minimum cost + a pull - 1/2 a^2 size,
        where g and cost are those without limits. An entry for a limit that is not there is none.
        """
        y = np.where(np.isfinite(np.where(y > 0, limits.high, limits.low)), y, 0.0)
        pull = limits.pull(y, g)
        if pull <= 0:
            return cost
        zero = np.zeros((self.T + 1, self.problem.n)), np.zeros((self.T, self.problem.m))
        size = self._plain.size(*self._pulled(*zero, y))
        return cost + pull / size * pull / 2 if size else np.inf

    def _rows(self, x: Array, u: Array) -> Array:
        z = np.concatenate([x[:-1], u], axis=1)
        return np.concatenate([z @ self._CD.T, x[1:] @ self._E.T], axis=1)

    def _slopes(self, x: Array, u: Array, y: Array | None = None) -> tuple[Array, Array]:
        """The partial derivatives of J + sum y g in each state and input."""
        n, z = self.problem.n, np.concatenate([x[:-1], u], axis=1)
        slopes = times(self._weights, z) + self._linear
        end = self.problem.S @ x[-1] + self.problem.s
        in_x, in_u = np.concatenate([slopes[:, :n], end[None]]), slopes[:, n:]
        return (in_x, in_u) if y is None else self._pulled(in_x, in_u, y)

    def _pulled(self, in_x: Array, in_u: Array, y: Array) -> tuple[Array, Array]:
        """The slopes, and those of sum y g on top of them."""
        n, k = self.problem.n, self._k
        pull = y[:, :k] @ self._CD
        in_x = in_x.copy()
        in_x[:-1] += pull[:, :n]
        in_x[1:] += y[:, k:] @ self._E
        return in_x, in_u + pull[:, n:]

    def _cost(self, x: Array, u: Array) -> float:
        return float(self.problem.cost(x, u))

    def _units(self, limits: _Limits, g: Array, cost: float) -> Array:
        """What an excess of each row is compared with: its largest limit, or how far it goes.

        The smaller of the two: a limit of 1e20 that stands for none is no measure of the others.
        """
        sizes = [np.where(np.isfinite(z), np.abs(z), 0.0) for z in (limits.low, limits.high)]
        largest = np.maximum(*sizes).max(axis=0)
        # It has to go as far as its limits push it, also from rest.
        far = np.maximum(np.abs(g), np.abs(np.clip(g, limits.low, limits.high))).max(axis=0)
        far = np.maximum(far, self._deviation * np.sqrt(2 * abs(cost)))
        unit = np.where(largest > 0, np.minimum(largest, far), far)
        return np.where(unit > 0, unit, 1.0)

    def _plan(
        self,
        x: Array,
        u: Array,
        p: Array,
        y: Array,
        cost: float,
        gap: float,
        asked: _Limits,
        status: Status,
        iterations: int,
    ) -> Plan:
        g = self._rows(x, u)
        excess = asked.excess(g)
        # Rows may have different units: the worst is that which is so in its own.
        worst = int((excess / self._units(asked, g, cost)).argmax()) if g.size else 0
        most = float(excess.flat[worst]) if g.size else 0.0
        word, _, reason = status.value.partition(": ")
        message = f"{word} after {iterations} Newton step{'s' * (iterations != 1)}; J = {cost:.6g}"
        if status is Status.CONVERGED_GAP:
            message += f", at most {gap:.1g} above the minimum"
        else:
            t, row = divmod(worst, excess.shape[1])
            step = t + (row >= self._k)  # rows of the next state stand behind the others
            message += (
                f"; {reason}, and {self.names[row]} exceeds its limit by {most:.3g} at t={step}"
            )
        return Plan(x, u, p, y, cost, gap, most, status, message, iterations)


def _felt(rows: Array, X: Array) -> Array:
    """The diagonal of rows X rows', and zero where rounding errors are all that is left of it."""
    variance = ((rows @ X) * rows).sum(axis=1)
    terms = np.abs(rows) @ np.sqrt(X.diagonal())
    return np.where(variance > _NO_VARIANCE * terms**2, variance, 0.0)


def step_size(worth: float, w: Array, change: Array, rho: Array, low: Array, high: Array) -> float:
    """Return the a > 0 at which phi is least along x + a dx, u + a du, where w changes by a change.

    Its derivative is -worth at a = 0 and rises by worth a, but for what changes where a row comes
    to a limit: there its share change^2 / rho of the rise sets in or ends.
    """
    ends = np.stack([rho * low, rho * high]) - w
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # rows that hardly move
        ends /= change
    rise = np.sign(change) * change**2 / rho
    turns = np.stack([-rise, rise])
    ahead = ((ends > 0) | ((ends == 0) & (turns > 0))) & (ends < np.inf)
    ends, turns = ends[ahead], turns[ahead]
    order = np.argsort(ends)
    ends = np.concatenate([[0.0], ends[order]])
    rises = worth + np.concatenate([[0.0], np.cumsum(turns[order])])
    with np.errstate(over="ignore"):  # far beyond the minimum
        slopes = -worth + np.concatenate([[0.0], np.cumsum(rises[:-1] * np.diff(ends))])
    last = max(int(np.argmax(slopes >= 0)) - 1, 0) if slopes[-1] >= 0 else len(slopes) - 1
    return 1.0 if last == 0 else float(ends[last] - slopes[last] / rises[last])
