"""Steps of a receding horizon on few numbers: an active set of condensed rows.

With w of `limits`, in which J = J0 + 1/2 |w|^2 and g = g0 + Y w (rows of Y of norm one), multipliers y give
w = -Y'y and g = g0 - S y with S = Y Y', and all that changes from one step to the next is g0, which is
linear in x0. What is left of the problem is to find y, a number for each row at work. Each row i with the
limit b[i] on its side, sign[i], is in one of these states:

    out     y = 0                                            within its limits
    tight   g = b                                            0 < sign y < price
    past    g - b = give (y - sign price)                    sign y > price
    held    y = sign price, where give is infinite           beyond its limit

with a price, and with what it gives a unit of its multiplier: zero where a row is hard, whose price is
infinite, and one over its spring else (see `prices`). A step solves the equations of tight rows and of
those past their price that have a spring, a system of as many numbers as there are such rows, and changes
the state of all rows for which the right column is wrong (block principal pivoting). Where for some steps
the number of these has not become less there is no answer if a row has a price; else multipliers of the
wrong sign are taken away until there are none, and rows are added one after another, as `nearest` does:
the row that is farthest beyond its limit moves the multipliers of those at work, of which the first that
comes to zero is taken away, until it is at its limit itself. All that decides are comparisons of
multipliers and rows, which are affine functions of x0 while what was decided before is the same.

The proof is that of `limits`, from numbers that are at hand. All maps are linear, so that it is enough to
know once what is missed for each state and each row: with e[j] the length of the gradient in w that is
left of the trajectory for the j-th unit state, and rho[i] that of row i, the gradient that is left of
J + sum y g is at most e'|x0| + rho'|y|, half of its square is what it adds to the gap, and the rows add
|y| times what they miss of their equations. Where that is more than the tolerance, or no such set is
found, there is no answer here.

References
----------
Judice and Pires, A block principal pivoting algorithm for large-scale strictly monotone linear
complementarity problems, Computers and Operations Research 21 (1994), 587-596.
Goldfarb and Idnani, A numerically stable dual method for solving strictly convex quadratic programs,
Mathematical Programming 27 (1983), 1-33.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

from lqrad.arguments import EPS, Array
from lqrad.linalg.stages import times
from lqrad.native.library import in_use, loaded
from lqrad.native.limits import Bounds as KernelBounds
from lqrad.native.limits import CondensedKernel, Maps

if TYPE_CHECKING:
    from lqrad.lq.limits import Limited

# Most entries of S: 64 MiB, of which those are touched whose rows were at work.
MOST_PRODUCTS = 2**23
# Steps in which the number of wrong rows may be no less than before, and steps at all.
PATIENCE, MOST_STEPS = 5, 100
# A row whose part beyond the others at work has a smaller square is left out: it depends on them.
_DEPENDENT = 1e-10

States = NDArray[np.int8]


class Bounds(NamedTuple):
    """Limits (r,) of condensed rows, in units of the rows' norms.

    Attributes
    ----------
    low, high : (r,)
    slack : (r,)
        What exceeds a limit by no more counts as none; zero where that is to be
        compared with how far inputs worth the cost move the row.
    beside : (r,)
        Where it is, what it is beside sqrt(2 J0), else zero.
    native : KernelBounds
        The four as the kernel reads them.
    """

    low: Array
    high: Array
    slack: Array
    beside: Array
    native: KernelBounds


def _rows_and_errors(
    limited: Limited, x: Array, u: Array, p: Array, rest: Array
) -> tuple[Array, Array]:
    """Rows (b, r) of trajectories, and (2, b) the gradient left, and what rows are off.

    Both with what rounding errors of all terms may add.
    """
    at, moved = limited.rows.limited, limited._moved[limited.rows.limited]
    size, none = limited._size[at], np.full(at.shape, np.inf)
    rows = np.array([limited.rows.at(*z)[at] for z in zip(x, u, strict=True)]) / size
    terms = np.array([limited.rows.terms(*z, -none, none)[at] for z in zip(x, u, strict=True)])
    off = np.where(moved, terms / size, 0.0).max(axis=1, initial=0.0)
    z = np.abs(np.concatenate([x[:, :-1], u], axis=-1))
    slopes = times(np.abs(limited._weights), z)[..., x.shape[-1] :]
    slopes += times(np.abs(limited._scaled.B), np.abs(p), transpose=True)
    slopes += np.abs(limited._linear[:, x.shape[-1] :])
    sizes = times(np.abs(limited._roots), slopes, transpose=True)
    missed = np.linalg.norm(rest, axis=(1, 2)) + limited._eps * np.linalg.norm(sizes, axis=(1, 2))
    return rows, np.stack([missed, limited._eps * off])


class Step(NamedTuple):
    """The first input, and what is at work.

    Attributes
    ----------
    u : (m,)
    state : (r,) of int
        Of each row: its side, 1 or -1, where it is tight; twice that where it is past its price.
    y : (r,) or None
        Multipliers, in units of the rows' norms; None where there are none.
    iterations : int
    """

    u: Array
    state: States
    y: Array | None
    iterations: int


class Steps(NamedTuple):
    """First inputs from many states.

    Attributes
    ----------
    u : (runs, m)
    state : (runs, r) of int
    iterations : (runs,) of int
        Negative where there is no answer.
    """

    u: Array
    state: States
    iterations: NDArray[np.int64]


@dataclass(frozen=True)
class _Found:
    """States of which none is wrong, the rows at work, and what these miss of their equations."""

    state: States
    index: NDArray[np.intp]
    y: Array
    g: Array
    missed: Array
    iterations: int


def is_short(limited: Limited) -> bool:
    """Whether a horizon is short enough for condensed rows."""
    return int(limited.rows.limited.sum()) ** 2 <= MOST_PRODUCTS


class Condensed:
    """The maps of a `Limited` from initial states and multipliers to its rows.

    Parameters
    ----------
    limited : Limited
    """

    def __init__(self, limited: Limited) -> None:
        n, m, T = limited.problem.n, limited.problem.m, limited.T
        free, at = limited._free, limited.rows.limited
        self.m = m
        self.moved, self.size = limited._moved[at], limited._size[at]
        self.Y, self.rounding = limited._Y, limited._rounding
        self.first = self.Y[:, :m] @ limited._roots[0].T  # of u[0], to a unit of each multiplier
        none = np.zeros((n, T + 1, n)), np.zeros((n, T, m))
        x, u, p, _ = free.minimise(*none, np.eye(n))
        z = np.concatenate([x[:, :-1], u], axis=-1)
        slopes = times(limited._weights, z)
        in_x = np.concatenate([slopes[..., :n], (x[:, -1] @ limited._scaled.S)[:, None]], axis=1)
        rest = free.gradient(in_x, slopes[..., n:])
        rows, self.errors = _rows_and_errors(limited, x, u, p, rest)
        self.map = np.concatenate([u[:, 0], rows], axis=1)
        self.P = np.ascontiguousarray(free.P[0])
        self.most_rounding = float(self.rounding[self.moved].max(initial=0.0))
        r = len(self.Y)
        self.S, self.made = np.empty((r, r)), np.zeros(r, bool)
        places = np.full((T + 1, at.shape[1]), -1)
        places[:-1][at] = np.arange(r)
        self.ahead, self._at, self._unit = places[1:][at], at, limited._unit
        prices = limited.prices.of_rows(np.nonzero(at)[1])
        self.price = self._unit * prices.price * self.size
        self.give = prices.give / (self._unit * self.size**2)
        self.soft = ~prices.hard
        self.priced = bool(self.soft.any())
        self._kernel = None
        if loaded():
            arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in Maps.ARRAYS}
            numbers = self.most_rounding, _DEPENDENT, PATIENCE, self.priced
            self._kernel = CondensedKernel(m, *numbers, **arrays)

    def offset(self, limited: Limited) -> Array:
        """What linear terms add for x0 = 0, as of `condensed_steps`."""
        none = limited._zero()
        x, u, p, _ = limited._free.minimise(*limited._slopes(*none), none[0][0], limited._c)
        rest = limited._free.gradient(*limited._slopes(x, u))
        (rows,), errors = _rows_and_errors(limited, *(z[None] for z in (x, u, p, rest)))
        problem = limited._scaled
        in_x, _ = limited._slopes(x, u)
        slope = in_x[0] + np.broadcast_to(problem.A, (limited.T, *problem.A.shape[-2:]))[0].T @ p[0]
        return np.concatenate([u[0], rows, slope, [problem.cost(x, u)], errors[:, 0]])

    def bounds(self, low: Array, high: Array, tol: float) -> Bounds:
        """Limits (r,) of the rows as they are used here, and a relative gap as of `Limited.solve`."""
        low, high = low / self.size, high / self.size
        sizes = np.abs(np.stack([low, high]))
        sizes[~np.isfinite(sizes) | (sizes == 0)] = np.inf
        least = sizes.min(axis=0)
        bounded = np.isfinite(low) | np.isfinite(high)
        slack = np.where(np.isfinite(least) & self.moved, 0.5 * tol * least, 0.0)
        beside = np.where(bounded & self.moved & (slack == 0), 0.5 * tol, 0.0)
        arrays = low, high, slack, beside
        return Bounds(*arrays, KernelBounds.of(arrays, tol))

    def multipliers(self, y: Array) -> Array:
        """The multipliers (T, k+j) of all rows from those of the condensed ones."""
        everywhere = np.zeros(self._at.shape)
        everywhere[self._at] = y / (self.size * self._unit)
        return everywhere

    def states(self, y: Array) -> States:
        """The states of rows with multipliers y (T, k+j)."""
        y = y[self._at] * self.size * self._unit
        within = np.abs(y) < (1 - 8 * EPS) * self.price  # the price itself may have been rounded
        return (np.sign(y) * np.where(within, 1, 2)).astype(np.int8)

    def step(
        self,
        x0: Array,
        bounds: Bounds,
        *,
        offset: Array | None = None,
        before: States | None = None,
        max_iter: int = 500,
    ) -> Step | None:
        """The best first input from x0 (n,) within limits; None where it cannot be proven here.

        Parameters
        ----------
        offset : (m + r + n + 3,), optional
            What `offset` returns; none where nothing is to be added.
        before : (r,) of int, optional
            States a stage earlier of the step before.
        """
        most, tol = min(max_iter, MOST_STEPS), bounds.native.tol
        if in_use() and self._kernel is not None:
            count, states, answer = self._kernel.step(bounds.native, x0, offset, before, most)
            if count < 0:
                return None
            return Step(answer[: self.m], states, answer[self.m :] if count else None, count)
        z, rest, off, cost = self._free(x0, offset)
        u, g0 = z[: self.m], z[self.m :]
        if not 0.5 * rest**2 <= tol * abs(cost):
            return None
        above, below = g0 > bounds.high, g0 < bounds.low
        beyond = above | below
        if not beyond.any():
            return Step(u, np.zeros(len(g0), np.int8), None, 0)
        if (beyond & ~self.moved).any():
            return None
        slack = bounds.slack + bounds.beside * np.sqrt(2 * abs(cost))
        state = above.astype(np.int8) - below
        if before is not None:
            later = np.where(self.ahead < 0, 0, before[self.ahead]).astype(np.int8)
            later[np.isinf(np.where(later > 0, bounds.high, bounds.low))] = 0
            state = later if later.any() else state
        found = self._search(g0, bounds, slack, state, most)
        if found is None:
            return None
        index, y, g = found.index, found.y, found.g
        pull = np.abs(y)
        off += self.most_rounding * float(pull.sum())
        rest += float(pull @ self.rounding[index])
        better = cost + 0.5 * float(y @ (g0 - g)[index])
        gap = float(pull @ (found.missed + off)) + 0.5 * rest**2
        if not (
            gap <= tol * (abs(cost) + abs(better)) and off <= slack[slack > 0].min(initial=np.inf)
        ):
            return None
        all_y = np.zeros(len(state))
        all_y[index] = y
        return Step(u - y @ self.first[index], found.state, all_y, found.iterations)

    def _free(self, x0: Array, offset: Array | None) -> tuple[Array, Any, Any, Any]:
        """Without limits: the first input and the rows, the gradient left, what rows are off, the cost."""
        z = x0 @ self.map
        errors = np.abs(x0) @ self.errors.T
        rest, off = errors[..., 0], errors[..., 1]
        cost = 0.5 * ((x0 @ self.P) * x0).sum(axis=-1)
        if offset is not None:
            width = z.shape[-1]
            z += offset[:width]
            cost = cost + x0 @ offset[width:-3] + offset[-3]
            rest, off = rest + offset[-2], off + offset[-1]
        return z, rest, off, cost

    def steps(
        self,
        x0: Array,
        bounds: Bounds,
        *,
        offset: Array | None = None,
        before: States | None = None,
        max_iter: int = 500,
    ) -> Steps:
        """The same from many states x0 (runs, n), and states of rows (runs, r) in the steps before."""
        if in_use() and self._kernel is not None:
            most = min(max_iter, MOST_STEPS)
            z = np.array(x0, order="C")
            counts, state, u = self._kernel.steps(bounds.native, z, offset, before, most)
            return Steps(u, state, counts)
        z, rest, _, cost = self._free(x0, offset)
        u, g0 = z[:, : self.m].copy(), z[:, self.m :]
        free = ((g0 <= bounds.high) & (g0 >= bounds.low)).all(axis=1)
        free &= 0.5 * rest**2 <= bounds.native.tol * np.abs(cost)
        state, counts = np.zeros(g0.shape, np.int8), np.where(free, 0, -1)
        for run in np.flatnonzero(~free):
            start = None if before is None else before[run]
            step = self.step(x0[run], bounds, offset=offset, before=start, max_iter=max_iter)
            if step is not None:
                u[run], state[run], counts[run] = step.u, step.state, step.iterations
        return Steps(u, state, counts)

    def _search(
        self, g0: Array, bounds: Bounds, slack: Array, state: States, most: int
    ) -> _Found | None:
        """States of all rows of which none is wrong; None where they are not found in so many steps."""
        top, bottom = bounds.high + slack, bounds.low - slack
        fixed = bounds.low == bounds.high
        least, patience = len(state) + 1, PATIENCE
        for iterations in range(1, most + 1):
            wanted = state
            state, index, L = self._factor(state)
            base, held, pull = self._held(state, g0)
            y, b = self._multipliers(index, L, state, base, bounds)
            g = base - y @ self.S[index]
            new = (g > top).astype(np.int8) - (g < bottom)
            side = np.sign(state[index])
            within = y * side > 0
            if self.priced:
                price = self.price[index]
                within |= (np.abs(state[index]) == 2) & (price > 0)
                side = side * np.where(y * side > price, 2, 1).astype(np.int8)
            new[index] = np.where(within, side, np.where(fixed[index], -side, 0))
            if len(held):
                side = np.sign(state[held])
                beyond = side * g[held] - np.where(side > 0, bounds.high[held], -bounds.low[held])
                # Within its limit a row may be tight, but for one that the others leave no choice.
                new[held] = np.where(
                    beyond > 0, 2 * side, np.where((state == wanted)[held], side, 0)
                )
            wrong = int(np.count_nonzero(new != state))
            if not wrong:
                missed = np.append(np.abs(b - g[index]), np.zeros(len(held)))
                index, y = np.append(index, held), np.append(y, pull)
                return _Found(state, index, y, g, missed, iterations)
            if wrong < least:
                least, patience = wrong, PATIENCE
            elif patience:
                patience -= 1
            elif self.priced:
                return None
            else:
                return self._one_by_one(g0, bounds, slack, state, iterations, most)
            state = new
        return None

    def _one_by_one(
        self, g0: Array, bounds: Bounds, slack: Array, state: States, iterations: int, most: int
    ) -> _Found | None:
        """The same by steps of one row, from rows at work of which some may have to be taken away."""
        fixed, state = bounds.low == bounds.high, state.copy()
        while True:
            state, index, L = self._factor(state)
            y, b = self._multipliers(index, L, state, g0, bounds)
            lost = (y * state[index] <= 0) & ~fixed[index]
            if lost.any():
                state[index[lost]] = 0
                continue
            g = g0 - y @ self.S[index]
            beyond = np.maximum(g - bounds.high, bounds.low - g) - slack
            beyond[index] = 0.0
            row = int(beyond.argmax())
            if beyond[row] <= 0:
                return _Found(state, index, y, g, np.abs(b - g[index]), iterations)
            side = 1 if g[row] > bounds.high[row] else -1
            limit, moved = bounds.high[row] if side > 0 else bounds.low[row], 0.0
            (column,) = self._products(np.array([row]))
            while True:
                iterations += 1
                if iterations > most:
                    return None
                moves = _solve(L, column[index])
                length = float(column[row] - column[index] @ moves)
                more = side * (float(g0[row] - column[index] @ y) - limit) - moved
                falls = side * state[index] * moves
                room = np.full(len(index), np.inf)
                np.divide(
                    state[index] * y, falls, out=room, where=(falls > _DEPENDENT) & ~fixed[index]
                )
                stop = float(room.min(initial=np.inf))
                full = more / length if length > _DEPENDENT else np.inf
                step = min(stop, full)
                if step == np.inf:
                    return None  # no w keeps these limits, but that is to be proven
                if full <= stop:
                    state[row] = side
                    break
                y, moved = y - step * side * moves, moved + step
                gone = room.argmin()
                state[index[gone]] = 0
                y = np.delete(y, gone)
                state, index, L = self._factor(state)
                if len(index) != len(y):
                    return None

    def _products(self, index: NDArray[np.intp]) -> Array:
        """Rows of S, which are made when they are first asked for."""
        if not self.made[index].all():
            new = index[~self.made[index]]
            self.S[new] = self.Y[new] @ self.Y.T
            self.made[new] = True
        return self.S[index]

    def _held(self, state: States, g0: Array) -> tuple[Array, NDArray[np.intp], Array]:
        """The rows with what held ones pull, which these are, and their multipliers."""
        if not self.priced:
            return g0, np.empty(0, np.intp), np.empty(0)
        held = np.flatnonzero((np.abs(state) == 2) & np.isinf(self.give))
        pull = np.sign(state[held]) * self.price[held]
        return g0 - pull @ self._products(held), held, pull

    def _factor(self, state: States) -> tuple[States, NDArray[np.intp], Array]:
        """The rows of equations that do not depend on those before, and the factor of these."""
        while True:
            past = np.abs(state) == 2
            index = np.flatnonzero(
                (state != 0) & ~(past & np.isinf(self.give)) if self.priced else state
            )
            if not len(index):
                return state, index, np.empty((0, 0))
            if self.priced:  # last, where they depend on others: they can give way
                index = np.concatenate([index[~self.soft[index]], index[self.soft[index]]])
            S = self._products(index)[:, index]
            if self.priced:
                S[np.diag_indices(len(index))] += np.where(past[index], self.give[index], 0.0)
            L, failed = dpotrf(S, lower=1)
            size = L.diagonal() ** 2
            if not failed and size.min() > _DEPENDENT:
                return state, index, L
            upto = failed - 1 if failed else len(index)
            small = np.flatnonzero(size[:upto] <= _DEPENDENT)
            state = state.copy()
            row = index[small[0] if len(small) else upto]
            # The others leave a row with a price no choice: it is taken to be past it.
            state[row] = 0 if past[row] or np.isinf(self.price[row]) else 2 * state[row]

    def _multipliers(
        self, index: NDArray[np.intp], L: Array, state: States, g0: Array, bounds: Bounds
    ) -> tuple[Array, Array]:
        """Those of rows of equations, and where these are: at their limits, or past them."""
        if not self.priced:
            b = np.where(state[index] > 0, bounds.high[index], bounds.low[index])
            return _solve(L, g0[index] - b), b
        side, past = np.sign(state[index]), np.abs(state[index]) == 2
        give = np.where(past, self.give[index], 0.0)
        b = np.where(side > 0, bounds.high[index], bounds.low[index])
        b -= give * side * np.where(past, self.price[index], 0.0)
        y = _solve(L, g0[index] - b)
        return y, b + give * y


def _solve(L: Array, z: Array) -> Array:
    """Return y of L L'y = z."""
    return np.asarray(dpotrs(L, z, lower=1)[0]) if len(z) else z
