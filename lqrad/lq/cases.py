"""The worst case of a step of a receding horizon over a box of states, by going through all that can happen.

In `lq.condensed` all that decides is whether a row or a multiplier is above a number, and both are affine
functions of x0 while what was decided before is the same:

    y = S[w, w]^-1 (G[w] x0 - b),      g = G x0 - S[:, w] y          with rows w at work

So the box is cut into polytopes in which all comparisons come out alike, and each is followed to the end
of the step, and along the model through the next one, which starts from the rows at work of the first,
moved on by one stage. That a polytope is empty is proven by multipliers z >= 0 of its rows, sum z = 1,

    z'(a x)  <=  z'b    and    z'b + |z'a| reach < 0

and all comparisons may come out either way within what rounding errors may add, so that the bound holds
of the steps as they are computed. So does the proof of the gap without which a step would be made in
another way.

References
----------
Cimini and Bemporad, Exact complexity certification of active-set methods for quadratic programming,
IEEE Transactions on Automatic Control 62 (2017), 6094-6109.
Arnstrom and Axehill, A unifying complexity certification framework for active-set methods for convex
quadratic programming, IEEE Transactions on Automatic Control 67 (2022), 2758-2770.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dtrtrs

from lqrad.arguments import EPS, Array, check_finite
from lqrad.errors import ArgumentError
from lqrad.lq.condensed import MOST_STEPS, PATIENCE, Condensed, States
from lqrad.lq.limits import Limited
from lqrad.results import Report

# Beyond so many linear programs, of some milliseconds each, there are too many cases.
_MOST_PROGRAMS = 20_000
_FEWER = "take a smaller box, a shorter horizon, or fewer limits"


@dataclass(frozen=True, eq=False)
class WorstCase(Report):
    """What steps of a receding horizon take at most, for all states of a box.

    Attributes
    ----------
    iterations : int
        Of a first step, and of the one after it where the state has followed the model.
    from_reset : int
        Of a first step: from any state of the box.
    sets : int
        How many sets of rows at work occur.
    regions : int
        The polytopes that were gone through.
    """

    iterations: int
    from_reset: int
    sets: int
    regions: int


class _Region(NamedTuple):
    """A polytope a x <= b of x in [-1, 1]^n, and a box around it."""

    a: Array
    b: Array
    low: Array
    high: Array


class _End(NamedTuple):
    """Where a step ends: the states of the rows, and the first input K x + k, all over a region."""

    region: _Region
    state: States
    K: Array
    k: Array


class Walk:
    """All that may happen in a step, in states of which the box is [-1, 1]^n."""

    def __init__(
        self,
        limited: Limited,
        limits: tuple[Array, Array],
        box: tuple[Array, Array],
        *,
        max_iter: int,
        tol: float,
    ) -> None:
        condensed = self.condensed = Condensed(limited)
        at = limited.rows.limited
        self.bounds = bounds = condensed.bounds(limits[0][at], limits[1][at], tol)
        self.most, self.tol = min(max_iter, MOST_STEPS), tol
        middle, half = (box[1] + box[0]) / 2, (box[1] - box[0]) / 2
        G = condensed.map[:, condensed.m :].T
        self.G, self.h = G * half, G @ middle
        check_finite(
            "rows of limits over the box", np.column_stack([self.G, self.h]), computed=True
        )
        K = condensed.map[:, : condensed.m].T
        self.K, self.k = K * half, K @ middle
        A, B = (z[0] if z.ndim == 3 else z for z in (limited.problem.A, limited.problem.B))
        self.A, self.B = A * half / half[:, None], B / half[:, None]
        self.c = (A @ middle - middle) / half
        self.S = condensed.Y @ condensed.Y.T
        self.largest = np.maximum(*np.abs(box))
        P = np.abs(condensed.P)
        self.slack = bounds.slack + bounds.beside * np.sqrt(self.largest @ P @ self.largest)
        self.fixed = bounds.low == bounds.high
        self.programs = self.regions = 0
        self._check_proof()

    def _check_proof(self) -> None:
        """Raise where a step may be refused before rows come to work; find the least cost where they are."""
        condensed, bounds = self.condensed, self.bounds
        G, errors = condensed.map[:, condensed.m :].T, condensed.errors[0]
        far = np.abs(self.G).sum(axis=1) + np.abs(self.h)
        limit = np.minimum(np.abs(bounds.low), np.abs(bounds.high))
        limit = np.where((bounds.low > 0) | (bounds.high < 0), 0.0, limit)
        L, failed = dpotrf(condensed.P, lower=1)
        live = far >= limit
        if failed or (live & (~condensed.moved | (limit == 0))).any():
            raise ArgumentError(
                "no worst case is known between low and high: the cost of a state is zero, or a limit is at or beyond the origin, "
                "where the proof of a plan is not known to succeed",
                "weight all states, and give limits a margin",
            )
        whole = dtrtrs(L, np.abs(np.vstack([errors, G])).T, lower=1)[0]
        # A row is at its limit only where x0'P x0 is at least limit^2 / (G P^-1 G').
        row = dtrtrs(L, G.T, lower=1)[0]
        self.costs = 2 * (row**2).sum(axis=0)
        self.least = float((limit**2 / self.costs)[live].min(initial=np.inf))
        if not (np.linalg.norm(whole[:, 0]) ** 2 <= self.tol):
            raise ArgumentError(
                "no worst case is known between low and high: rounding errors hide the gap of a plan",
                _FEWER,
            )

    def through(self) -> WorstCase:
        """Go through all first steps, and through those that follow each of them along the model."""
        n, none = self.G.shape[1], np.zeros(len(self.G), np.int8)
        whole = _Region(np.zeros((0, n)), np.zeros(0), -np.ones(n), np.ones(n))
        bounds, own = self.bounds, (self.G, self.h)
        ends: list[_End] = []
        first = 0
        index = np.zeros(0, np.intp)
        for region, state in self._cells(
            whole, *own, none, index, bounds.high, bounds.low, self._noise(*own)
        ):
            if state.any():
                first = max(first, self._follow(region, own, state, ends))
            else:
                ends.append(_End(region, state, self.K, self.k))
        sets = {end.state.tobytes() for end in ends}
        most = first
        for end in ends.copy():
            later = self.condensed.ahead
            state = np.where(later < 0, 0, end.state[later]).astype(np.int8)
            state[np.isinf(np.where(state > 0, bounds.high, bounds.low))] = 0
            # The next state in terms of this one, in the same coordinates.
            F, f = self.A + self.B @ end.K, self.c + self.B @ end.k
            ahead: _Region | None = end.region
            for row, offset in zip(F, f, strict=True):
                ahead = None if ahead is None else self._cut(ahead, row, offset, -1.0, 1.0)
            rows = self.G @ F, self.G @ f + self.h
            if ahead is not None and state.any():
                most = max(most, self._follow(ahead, rows, state, []))
        return WorstCase(most, first, len(sets), self.regions)

    def _noise(self, F: Array, f: Array) -> Array:
        """What rounding errors may add to affine functions in the box."""
        return np.asarray(8 * EPS * (len(f) + F.shape[1]) * (np.abs(F).sum(axis=1) + np.abs(f)))

    def _follow(
        self, region: _Region, rows: tuple[Array, Array], state: States, ends: list[_End]
    ) -> int:
        """The most iterations from a state of the rows, for all x in a region; adds what it ends with.

        Without limits the rows are those of G x + h.
        """
        G, h = rows
        worst, open_ones = 0, [(region, state, 1, len(state) + 1, PATIENCE)]
        bounds = self.bounds
        while open_ones:
            region, state, count, least, patience = open_ones.pop()
            if count > self.most:
                raise ArgumentError(
                    f"between low and high a step may take more than {self.most} iterations", _FEWER
                )
            state, index, _ = self.condensed._factor(state)
            b = np.where(state[index] > 0, bounds.high[index], bounds.low[index])
            within = self.S[np.ix_(index, index)]
            F, f = G, h
            if len(index):
                solved = np.linalg.solve(within, np.column_stack([G[index], h[index] - b]))
                Y, y = np.asarray(solved[:, :-1], np.float64), np.asarray(solved[:, -1], np.float64)
                F, f = G - self.S[:, index] @ Y, h - self.S[:, index] @ y
                y_noise = np.linalg.cond(within) * self._noise(Y, y).max() * np.ones(len(index))
            noise = self._noise(G, h)
            if len(index):
                noise = noise + np.abs(self.S[:, index]) @ y_noise
                F[index], f[index] = state[index, None] * Y, state[index] * y
                noise[index] = y_noise
            for cell, new in self._cells(
                region, F, f, state, index, bounds.high + self.slack, bounds.low - self.slack, noise
            ):
                wrong = int(np.count_nonzero(new != state))
                if not wrong:
                    worst = max(worst, count)
                    self._check_gap(cell, rows, F, f, index)
                    first = self.condensed.first[index].T
                    K, k = (
                        (self.K, self.k)
                        if not len(index)
                        else (self.K - first @ Y, self.k - first @ y)
                    )
                    ends.append(_End(cell, state, K, k))
                elif wrong < least:
                    open_ones.append((cell, new, count + 1, wrong, PATIENCE))
                elif patience:
                    open_ones.append((cell, new, count + 1, least, patience - 1))
                else:
                    raise ArgumentError(
                        "between low and high a step may have to add rows one after another, of which none is known",
                        _FEWER,
                    )
        return worst

    def _check_gap(
        self,
        region: _Region,
        rows: tuple[Array, Array],
        F: Array,
        f: Array,
        index: NDArray[np.intp],
    ) -> None:
        """Raise unless the proof of a plan with these rows at work succeeds all over a region."""
        condensed = self.condensed
        if not len(index):
            return
        pull = _most(F[index], f[index], region)
        rest, off = condensed.errors @ self.largest
        off += condensed.most_rounding * float(pull.sum())
        rest += float(pull @ condensed.rounding[index])
        # A factor solves its equations to rounding errors of their terms, whatever its condition.
        missed = self._noise(self.G, self.h).max() + 8 * EPS * len(index) * float(pull.sum())
        gap = float(pull.sum()) * (missed + off) + 0.5 * rest**2
        slack = self.slack[self.slack > 0].min(initial=np.inf)
        # The cost that the rows without limits show, anywhere in the region.
        lowest, highest = rows[1] + _ends(rows[0], region)
        away = np.maximum(np.maximum(lowest, -highest), 0.0)
        cost = max(self.least, float((away**2 / self.costs).max()))
        if not (gap <= self.tol * cost and off <= slack):
            raise ArgumentError(
                "no worst case is known between low and high: rounding errors hide the gap of a plan",
                _FEWER,
            )

    def _cells(
        self,
        region: _Region,
        F: Array,
        f: Array,
        state: States,
        index: NDArray[np.intp],
        top: Array,
        bottom: Array,
        noise: Array,
    ) -> list[tuple[_Region, States]]:
        """The parts of a region in which the rows come out alike, and how.

        Of a row at work F x + f is its multiplier, by the side that it is on; of the others it is the row.
        """
        at = np.zeros(len(f), bool)
        at[index] = True
        low, high = np.where(at, 0.0, bottom), np.where(at, np.inf, top)
        less = np.where(at, np.where(self.fixed, -state, 0), -1).astype(np.int8)
        between = np.where(at, state, 0).astype(np.int8)
        cells = [(region, between)]
        middle, half = (region.high + region.low) / 2, (region.high - region.low) / 2
        centre, spread = F @ middle + f, np.abs(F) @ half + noise
        unsure = np.flatnonzero((centre - spread <= low) | (centre + spread >= high))
        for i in unsure:
            parts = []
            for cell, new in cells:
                ways = (
                    (less[i], None, low[i] + noise[i]),
                    (between[i], low[i] - noise[i], high[i] + noise[i]),
                    (1, high[i] - noise[i], None),
                )
                for way, least, most in ways:
                    part = self._cut(cell, F[i], f[i], least, most)
                    if part is not None:
                        changed = new.copy()
                        changed[i] = way
                        parts.append((part, changed))
            cells = parts
        self.regions += len(cells)
        return [(cell if cell is region else self._tight(cell), new) for cell, new in cells]

    def _cut(
        self, region: _Region, F: Array, f: float, least: float | None, most: float | None
    ) -> _Region | None:
        """The part of a region where F x + f is within these; None where it is proven to have none."""
        rows, ends = [], []
        reach = np.abs(F) @ np.maximum(np.abs(region.low), np.abs(region.high))
        lowest, highest = f + _ends(F, region)
        for sign, end in ((1.0, most), (-1.0, None if least is None else -least)):
            if end is None or end == np.inf:
                continue
            top = highest if sign > 0 else -lowest
            if (-highest if sign < 0 else lowest) > end + 8 * EPS * (reach + abs(f)):
                return None
            if top > end:
                size = np.abs(F).sum() or 1.0
                rows.append(sign * F / size)
                ends.append((end - sign * f) / size)
        if not rows:
            return region
        a, b = np.vstack([region.a, rows]), np.concatenate([region.b, ends])
        part = region._replace(a=a, b=b)
        return None if self._is_empty(part) else part

    def _is_empty(self, region: _Region) -> bool:
        """Whether a region is proven to have no points."""
        a, b = region.a, region.b
        # The most t with a x + t <= b, in the box around the region.
        z = self._dual(
            np.append(np.zeros(a.shape[1]), 1.0), np.column_stack([a, np.ones(len(a))]), region
        )
        if z is None:
            return False
        lowest, _ = _ends(z @ a, region)
        return bool(z @ b - lowest < -64 * EPS * (z @ (1 + np.abs(b))))

    def _tight(self, region: _Region) -> _Region:
        """A region with a smaller box around it, as the multipliers of linear programs prove it."""
        n, ends = region.a.shape[1], [region.high.copy(), -region.low]
        for end, sign in zip(ends, (1.0, -1.0), strict=True):
            for j, axis in enumerate(sign * np.eye(n)):
                z = self._dual(axis, region.a, region)
                if z is not None:
                    _, rest = _ends(axis - z @ region.a, region)
                    bound = z @ region.b + rest
                    noise = 64 * EPS * (1 + z @ (1 + np.abs(region.b)))
                    end[j] = min(end[j], bound + noise)
        return region._replace(low=-ends[1], high=ends[0])

    def _dual(self, cost: Array, a: Array, region: _Region) -> Array | None:
        """Multipliers of rows a x <= b where cost'x is largest; what has no box is at most one."""
        from scipy.optimize import linprog  # here, as its import takes longer than lqrad's own

        self.programs += 1
        if self.programs > _MOST_PROGRAMS:
            raise ArgumentError(
                f"low and high leave too many cases: {self.regions} regions after {_MOST_PROGRAMS} linear programs",
                _FEWER,
            )
        # In units of the box: the tolerance of the solver is to be small beside a region.
        n = len(region.low)
        middle, half = (region.high + region.low) / 2, (region.high - region.low) / 2
        inside = a[:, :n] * half
        size = np.abs(inside).sum(axis=1)
        size[size == 0] = 1.0
        rows = np.hstack([inside, a[:, n:] * size[:, None]]) / size[:, None]
        more = [(None, 1.0)] * (len(cost) - n)
        found = linprog(
            -np.append(cost[:n] * half, cost[n:]),
            rows,
            (region.b - a[:, :n] @ middle) / size,
            bounds=[(-1.0, 1.0)] * n + more,
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        return None if found.status else np.maximum(-found.ineqlin.marginals, 0.0) / size


def _ends(F: Array, region: _Region) -> Array:
    """The least and the largest F x in the box around a region."""
    middle, half = (region.high + region.low) / 2, (region.high - region.low) / 2
    spread = np.abs(F) @ half
    return np.array([F @ middle - spread, F @ middle + spread])


def _most(F: Array, f: Array, region: _Region) -> Array:
    """No less than each |F x + f| in a region."""
    middle, half = (region.high + region.low) / 2, (region.high - region.low) / 2
    return np.asarray(np.abs(F @ middle + f) + np.abs(F) @ half)
