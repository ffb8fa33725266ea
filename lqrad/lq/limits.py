"""Linear-quadratic problems within limits, as the nearest point of a polyhedron.

    minimise  J(x, u)   subject to   x[t+1] = A x[t] + B u[t] + c,    low[t] <= g[t] <= high[t]

where g[t] holds rows C x[t] + D u[t] and rows E x[t+1]. The Riccati recursion gives the plan without
limits, and with it the cost of every other. Let K[t] be its gains and L[t] the Cholesky factor of
R + B'P[t+1]B; then with new variables w[t] = L[t]'(du[t] + K[t] dx[t]), where dx and du are the
differences to that plan,

    J = J0 + 1/2 sum |w[t]|^2,       g = g0 + Y w,

where J0 and g0 are those of the plan without limits, and Y follows from running the closed loop
A - B K, so that an unstable A blows nothing up and heavy weights stretch nothing. What is left is to
find the point nearest to the origin within limits, by `nearest`.

The multipliers y of the limits make the Lagrangian J + sum y (g - limit), whose minimum bounds that
of J from below: this is the proof of the answer. Where no trajectory keeps the limits, another set of
multipliers proves it: sum y g is the same for all inputs, and it is larger than sum y limit. Soft
rows then become springs, and what is minimised is J + sum spring/2 excess^2 within the other limits.
Rows that have a price, or a spring of their own, give way at that cost from the start, see `Prices`.

References
----------
Bertsekas, Nonlinear Programming, 3rd edition, 2016, chapter 6 (duality).
Boyd and Vandenberghe, Convex Optimization, 2004, section 5.8 (theorems of alternatives).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import EPS, Array, check_finite, check_room
from lqrad.errors import Status
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.feedback import Feedback
from lqrad.linalg.nearest import Nearest, Refutes, nearest
from lqrad.linalg.riccati import recursion
from lqrad.linalg.stages import times
from lqrad.lq.certificates import inputs_refute
from lqrad.lq.interior import interior, well_within
from lqrad.lq.plan import Plan, PlanModel, PlanRows
from lqrad.lq.prices import Prices, hard
from lqrad.lq.problem import LQProblem, changed
from lqrad.lq.riccati import cost_factor
from lqrad.lq.rows import Rows, excess, units_of_rows

# Rounding errors of a row, in units of EPS times its terms and the number of these.
_ROUNDINGS = 32
# The spring of a soft row that gives way, in units of one over its largest variance.
_SPRING = 1e2
# Where the inputs alone have limits, steps of `nearest` may take this many products of numbers, each
# one as many as there are inputs to the power of three; `interior` needs about as long.
_WORK = 1e8


class _Try(NamedTuple):
    """A trajectory, its costates and multipliers, and what rounding errors have left.

    That is an excess of its rows, whether the hard ones keep their limits all the same, and a gradient
    in w. The cost holds that of excesses, `paid`.
    """

    x: Array
    u: Array
    p: Array
    g: Array
    y: Array
    cost: float
    gap: float
    beyond: Array
    kept: bool = True
    rest: Array = np.zeros(0)
    paid: float = 0.0


class _Limits(NamedTuple):
    """Limits (T, k+j), the excess that counts as none, and what more of it costs."""

    low: Array
    high: Array
    slack: Array
    prices: Prices


class Limited:
    """A problem with limits on rows of its states and inputs, ready for any initial state.

    Parameters
    ----------
    C, D : (k, n), (k, m), each also with a leading T axis
        The rows C[t] x[t] + D[t] u[t], for t = 0 ... T-1.
    E : (j, n) or (T, j, n)
        The rows E[t] x[t+1].
    soft : (k+j,) of bool
        The rows without a price that give way where not all limits can be kept.
    names : sequence of k+j str
        What messages call the rows.
    limited : (T, k+j) of bool, optional
        Where a row may have limits; everywhere when not given.
    prices : Prices of k+j rows, optional
        Those of rows that give way from the start; all are hard when not given.

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
        limited: NDArray[np.bool_] | None = None,
        prices: Prices | None = None,
    ) -> None:
        n, m = problem.n, problem.m
        self.problem, self._unit = problem, cost_factor(problem)
        costs = {name: self._unit * getattr(problem, name) for name in "QRMSqrs"}
        self._scaled = problem = changed(problem, **costs)
        self.T, self.soft, self.names = T, soft, names
        if limited is None:
            limited = np.ones((T, len(soft)), bool)
        self.rows = Rows(problem, C, D, E, limited)
        self.prices = hard(len(soft)) if prices is None else prices
        self._of_hard_inputs = self.rows.of_inputs and bool(self.prices.hard.all())
        self._eps = _ROUNDINGS * (n + m) * EPS
        self._weights = np.empty((T, n + m, n + m))
        self._weights[:, :n, :n], self._weights[:, n:, n:] = problem.Q, problem.R
        self._weights[:, :n, n:] = problem.M
        self._weights[:, n:, :n] = problem.M.swapaxes(-1, -2)
        self._take_terms()
        found = recursion(problem.A, problem.B, problem.Q, problem.R, problem.M, problem.S, T)
        P, K, L = map(np.asarray, found[:3])
        self._free = Feedback(problem.A, problem.B, P, K, L)
        roots = np.linalg.solve(L.swapaxes(-1, -2), np.broadcast_to(np.eye(m), L.shape))
        self._roots = np.asarray(roots, np.float64)  # the inverse of each L'
        check_room("The map from inputs to limited rows", limited.sum(), T * m)
        self._Y, terms = self.rows.of_deviations(K, self._roots, self._eps)
        size = np.linalg.norm(self._Y, axis=1)
        moved = size > self._eps * terms  # else what moves the row is rounding errors
        size = np.where(moved, size, 1.0)
        self._Y *= np.where(moved, 1 / size, 0.0)[:, None]
        self._rounding = self._eps * terms / size
        # Of all rows; no input moves those without a limit.
        self._moved, self._size = np.zeros(limited.shape, bool), np.ones(limited.shape)
        self._moved[limited], self._size[limited] = moved, size
        self._deviation = np.where(self._moved, self._size, 0.0).max(axis=0, initial=0.0)
        spring = _SPRING / np.where(self._deviation, self._deviation, 1.0) ** 2
        self.spring = spring / self._unit

    def _take_terms(self) -> None:
        """Lay out the linear terms of the scaled problem by stages."""
        problem, T = self._scaled, self.T
        stages = [np.broadcast_to(z, (T, z.shape[-1])) for z in (problem.q, problem.r)]
        self._linear = np.concatenate(stages, axis=1)
        self._c = np.broadcast_to(problem.c, (T, problem.n)) if problem.c.any() else None

    def with_terms(self, **given: Array | None) -> Limited:
        """Return the same limits and maps, which do not depend on linear terms, with others of these."""
        terms = {name: term for name, term in given.items() if term is not None}
        if not terms:
            return self
        new = copy.copy(self)
        scaled = {name: z if name == "c" else self._unit * z for name, z in terms.items()}
        new.problem = changed(self.problem, **terms)
        new._scaled = changed(self._scaled, **scaled)
        if "c" in terms:
            new.rows = self.rows.with_offset(terms["c"])
        new._take_terms()
        return new

    @np.errstate(over="ignore", invalid="ignore")  # looked for in what comes out
    def solve(
        self,
        x0: Array,
        low: Array,
        high: Array,
        *,
        c: Array | None = None,
        q: Array | None = None,
        r: Array | None = None,
        s: Array | None = None,
        y: Array | None = None,
        max_iter: int = 500,
        tol: float = 1e-8,
    ) -> Plan:
        """Return the cheapest trajectory from x0 within limits.

        Its status is INFEASIBLE where its certificate proves that not all limits can be kept; the soft
        ones then give way. What an excess of rows with a price costs is part of the cost.

        Parameters
        ----------
        x0 : (n,)
        low, high : (T, k+j)
            Limits of the rows, those of C x[t] + D u[t] first; -inf and inf where there are none, as
            everywhere out of `limited`.
        c, q, r, s : (T, n), (T, n), (T, m), (n,), optional
            Linear terms of this plan, c, q and r also without a leading axis; those of the problem when
            not given. No map is made anew.
        y : (T, k+j), optional
            Multipliers to start from, such as those of a neighbouring problem.
        max_iter : int
            Limit on steps; each changes the set of limits at work.
        tol : float
            Relative gap: that to the minimum beside the cost. An excess of a row within this part of its
            largest limit, or of how far the row goes where that is less, is none.
        """
        began = time.perf_counter()
        with_terms = self.with_terms(c=c, q=q, r=r, s=s)
        if with_terms is not self:
            return with_terms.solve(x0, low, high, y=y, max_iter=max_iter, tol=tol)
        x, u, p, _ = self._free.minimise(*self._slopes(*self._zero()), x0, self._c)
        cost, gap = self._worth(x, u)
        if gap > 2 * tol * abs(cost):  # Newton's method, once more: what rounding errors have left
            dx, du, corrected, _ = self._free.minimise(*self._slopes(x, u))
            less = self._worth(x + dx, u + du)
            if less[1] < gap:
                x, u, p, (cost, gap) = x + dx, u + du, corrected, less
        close = gap <= 2 * tol * abs(cost)
        status = Status.CONVERGED_GAP if close else Status.STALLED
        g = self.rows.at(x, u)
        start = np.zeros_like(g) if y is None else self._unit * y
        beyond = excess(g, low, high)
        free = _Try(x, u, p, g, np.zeros_like(g), cost, gap, beyond)
        prices = Prices(*(self._unit * z for z in self.prices))
        limits = _Limits(low, high, np.zeros_like(beyond), prices)
        if not (beyond > 0).any():
            return self._plan(began, free, limits, status, 0)
        far = self._deviation * np.sqrt(2 * abs(cost))
        unit, size = units_of_rows(g, low, high, far), abs(cost)
        rounding = self._eps * self.rows.terms(x, u, low, high)
        limits = limits._replace(slack=np.broadcast_to(tol * unit, beyond.shape))
        exceeded = beyond > np.maximum(limits.slack, rounding)
        if not exceeded.any():
            return self._plan(began, free, limits, status, 0, unit)

        certificate, stuck = None, exceeded & ~self._moved & prices.hard
        if stuck.any():
            # The proof is one row: no input changes it.
            row = np.unravel_index((beyond / unit * stuck).argmax(), g.shape)
            certificate = np.zeros_like(g)
            certificate[row] = 1.0 if g[row] > high[row] else -1.0
        refutes = partial(
            inputs_refute, self._scaled, self.rows, self._eps, x0, *self._of_hard(limits)
        )
        most = max_iter
        if self._of_hard_inputs:
            most = min(max_iter, 40 + int(_WORK / u.size**3))
        found = self._search(limits, g, refutes, start, most)
        iterations = found.iterations
        if found.proof is not None:
            certificate = self._of_all(found.proof)
            if self.soft.any() and iterations < max_iter:
                springs = np.where(self.soft, self._unit * self.spring, prices.spring)
                giving = Prices(np.where(self.soft, 0.0, prices.price), springs)
                limits = limits._replace(prices=giving)
                start = self._of_all(found.y)
                found = self._search(limits, g, refutes, start, max_iter - iterations)
                iterations += found.iterations

        w, y = found.w.reshape(u.shape), self._of_all(found.y)
        tight = np.where(limits.prices.hard, np.inf, limits.prices.price)
        K = self._free.K
        v = u + times(K, x[:-1])  # without limits, u = v - K x
        tries: list[_Try] = []

        def proven(tried: _Try) -> bool:
            return abs(tried.gap) <= tol * (size + abs(tried.cost)) and tried.kept

        # Inputs at their limits to the last bit, where rounding errors leave that a proof; then
        # without that; and both again, corrected by the gradient that rounding errors have left.
        for pins in (True, False, True, False) if found.finished else (False,):
            drive = v + times(self._roots, w)
            at = (y != 0) & (np.abs(y) < tight) & pins
            tries.append(self._at_limits(x0, K, drive, y, at, limits))
            if proven(tries[-1]):
                break
            if not pins:
                dw, dy = found.correction(tries[-1].rest.ravel())
                w, y = w + dw.reshape(w.shape), y + self._of_all(dy)
        if self._of_hard_inputs and certificate is None and not proven(tries[-1]):
            inner = interior(
                self._scaled,
                self.rows.C,
                self.rows.D,
                low,
                high,
                *well_within(self._scaled, self.rows.C, self.rows.D, low, high, x0, K, v),
                slopes=self._slopes,
                unit=np.broadcast_to(unit, low.shape),
                size=size,
                tol=tol,
                max_iter=max_iter - iterations,
            )
            iterations += inner.iterations
            # With the loop closed, or open: where inputs saturate, no feedback is at work.
            for loop in (inner.K, np.zeros_like(K)):
                drive = inner.u + times(loop, inner.x[:-1])
                for pinned in (inner.at & self._moved, np.zeros_like(inner.at)):
                    tries.append(self._at_limits(x0, loop, drive, inner.y, pinned, limits))
        best = min(tries, key=lambda tried: (not tried.kept, abs(tried.gap)))
        if certificate is not None:
            status = Status.INFEASIBLE
        elif proven(best):
            status = Status.CONVERGED_GAP
        else:
            status = Status.MAX_ITER if iterations >= max_iter else Status.STALLED
        best = best._replace(gap=max(best.gap, 0.0))
        return self._plan(began, best, limits, status, iterations, unit, certificate)

    def _search(
        self, limits: _Limits, g: Array, refutes: Refutes, y: Array, max_iter: int
    ) -> Nearest:
        """The nearest point within limits of Y w alone, with rows brought to a norm of one."""
        at, size = self.rows.limited, self._size
        price = np.where(limits.prices.hard, 0.0, limits.prices.price)
        return nearest(
            self._Y,
            np.where(self._moved, (limits.low - g) / size, -np.inf)[at],
            np.where(self._moved, (limits.high - g) / size, np.inf)[at],
            give=(limits.prices.give / size**2)[at],
            price=(price * size)[at],
            slack=(limits.slack / size)[at],
            rounding=self._rounding,
            refutes=lambda proof: refutes(self._of_all(proof)),
            start=(y * size * self._moved)[at],
            max_iter=max_iter,
        )

    def _of_hard(self, limits: _Limits) -> tuple[Array, Array]:
        """The limits of hard rows; infinite those of the others."""
        hard = limits.prices.hard
        return np.where(hard, limits.low, -np.inf), np.where(hard, limits.high, np.inf)

    def weighed(self, beyond: Array) -> Array:
        """Return what excesses (T, k+j) weigh: their price, or the spring of rows that have none."""
        springs = Prices(0 * self.spring, self.spring)
        return np.where(self.prices.hard, springs.of(beyond), self.prices.of(beyond))

    def _of_all(self, y: Array) -> Array:
        """Multipliers (T, k+j) from those of the limited rows in units of their norms."""
        everywhere = np.zeros(self._size.shape)
        everywhere[self.rows.limited] = y
        return everywhere / self._size

    def _at_limits(
        self,
        x0: Array,
        K: Array,
        drive: Array,
        y: Array,
        pinned: NDArray[np.bool_],
        limits: _Limits,
    ) -> _Try:
        """The trajectory of u = drive - K x, and its gap.

        A pinned row of one input gives this input, u[i] = (limit - C x) / D[i], to the last bit, and
        has the multiplier that makes the derivative of the Lagrangian in u[i] vanish. What is left are
        the derivatives in the others, as a gradient in w: half of its square adds to the gap.
        """
        A, B, open_loop = self._scaled.A, self._scaled.B, not K.any()
        low, high, slack, prices = limits
        most = np.where(self._moved, prices.most, 0.0)
        K, drive, y = K.copy(), drive.copy(), np.clip(y, -most, most)
        free, pins = np.ones(drive.shape, bool), []
        for row, i in self.rows.single:
            at = np.flatnonzero(pinned[:, row] & free[:, i])
            if not len(at):
                continue
            free[at, i] = False
            limit = np.where(y[at, row] > 0, high[at, row], low[at, row])
            K[at, i], entry = self.rows.feedback(at, row, i)
            drive[at, i] = limit / entry
            pins.append((at, row, i, entry))
        dynamics = Bidiagonal(A - B @ K)
        x = dynamics.solve(np.concatenate([x0[None], times(B, drive) + self._scaled.c]))
        u = drive - times(K, x[:-1])
        check_finite("x", x, computed=True)
        check_finite("u", u, computed=True)

        others = y.copy()
        for at, row, _, _ in pins:
            others[at, row] = 0.0
        in_x, in_u = self._slopes(x, u, others)
        in_x[:-1] -= times(K, in_u, transpose=True)
        p = dynamics.solve(in_x, transpose=True)[1:]
        slopes = in_u + times(B, p, transpose=True)
        for at, row, i, entry in pins:
            pull = -slopes[at, i] / entry
            bounded = np.clip(pull, -most[at, row], most[at, row])
            y[at, row] = np.where(pull * y[at, row] > 0, bounded, 0.0)
            slopes[at, i] = np.where(y[at, row] == pull, 0.0, slopes[at, i] + entry * y[at, row])
        g = self.rows.at(x, u)
        beyond, rounding = excess(g, low, high), self._eps * self.rows.terms(x, u, low, high)
        more = (beyond > np.maximum(slack, rounding)) & self._moved
        kept = not (more & prices.hard).any()
        past = ~prices.hard & (np.abs(y) >= prices.price)
        counted = np.where(more | past | ~self._moved, beyond, 0.0)
        ahead = np.where(y == 0, 0.0, np.sign(y) * (g - np.where(y > 0, high, low)))
        hard_excess = np.where(prices.hard, 0.0, counted)
        pull = prices.gap(y, hard_excess, ahead)[self._moved].sum()
        if open_loop:
            # The slopes are a gradient in the inputs: none can gain more than by its whole range.
            ends = self.rows.ranges(low, high)
            gain = np.where(slopes > 0, slopes * (u - ends[0]), slopes * (u - ends[1]))
            bounded = np.isfinite(gain)
            pull += gain[bounded].sum()
            slopes = np.where(bounded, 0.0, slopes)
        rest = np.concatenate([times(K, slopes, transpose=True), np.zeros_like(x[:1])])
        rest = self._free.gradient(rest, slopes)
        gap = float(pull + 0.5 * np.vdot(rest, rest))
        paid = self._unit * float(self.prices.of(counted).sum())
        cost = float(self._scaled.cost(x, u)) + paid
        return _Try(x, u, p, g, y, cost, gap, beyond, kept, rest, paid)

    def _worth(self, x: Array, u: Array) -> tuple[float, float]:
        """The cost of a trajectory, and how far it is above the minimum without limits."""
        left = self._free.gradient(*self._slopes(x, u))
        return float(self._scaled.cost(x, u)), 0.5 * float(np.vdot(left, left))

    def _zero(self) -> tuple[Array, Array]:
        """States and inputs that are zero."""
        return np.zeros((self.T + 1, self._scaled.n)), np.zeros((self.T, self._scaled.m))

    def _slopes(self, x: Array, u: Array, y: Array | None = None) -> tuple[Array, Array]:
        """The partial derivatives of J + sum y g in each state and input."""
        n = self._scaled.n
        slopes = times(self._weights, np.concatenate([x[:-1], u], axis=1)) + self._linear
        in_x = np.concatenate([slopes[:, :n], (self._scaled.S @ x[-1] + self._scaled.s)[None]])
        in_u = slopes[:, n:]
        if y is not None:
            self.rows.add_slopes(in_x, in_u, y)
        return in_x, in_u

    def _plan(
        self,
        began: float,
        found: _Try,
        limits: _Limits,
        status: Status,
        iterations: int,
        unit: Array | float = 1.0,
        certificate: Array | None = None,
    ) -> Plan:
        beyond, p, y = found.beyond, found.p / self._unit, found.y / self._unit
        cost, gap = found.cost / self._unit, found.gap / self._unit
        # Rows may have different units: the worst is that which is so in its own.
        worst = int((beyond / unit).argmax()) if beyond.size else 0
        most = float(beyond.flat[worst]) if beyond.size else 0.0
        word, _, reason = status.value.partition(": ")
        message = f"{word} after {iterations} step{'s' * (iterations != 1)}; J = {cost:.6g}"
        t, row = divmod(worst, max(beyond.shape[1], 1))
        step = t + (row >= self.rows.now)  # rows of the next state stand behind the others
        if status is Status.CONVERGED_GAP:
            message += f", at most {gap:.1g} above the minimum"
        else:
            message += f"; {reason}"
        if status is not Status.CONVERGED_GAP or found.paid:
            message += f", and {self.names[row]} exceeds its limit by {most:.3g} at t={step}"
        if found.paid:
            message += f"; what exceeds limits costs {found.paid / self._unit:.6g} of it"
        seconds = time.perf_counter() - began
        rows = PlanRows(
            tuple(self.names), found.g, limits.low, limits.high, y, *self.prices, self.rows.now
        )
        C, D, E = self.rows.C, self.rows.D, self.rows.E
        path, never = (found.x, found.u, p), np.zeros(len(self.names), bool)
        model = PlanModel(self.problem, C, D, E, *path, never)
        ends = (status, message, iterations, seconds, gap, most, rows, model, certificate)
        return Plan(found.x, found.u, p, y, cost, *ends)
