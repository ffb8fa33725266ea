"""The point of a polyhedron that is nearest to the origin: a dual active-set method.

    minimise  1/2 |w|^2 + sum ( price[i] |s[i]| + 1/2 s[i]^2 / give[i] )
    subject to  low[i] <= rows[i] w - s[i] <= high[i]

with s[i] = 0 where give[i] = 0: such limits are hard. The others give way: as springs of stiffness
1 / give, which a price holds back until the multiplier has reached it, or, where give is infinite, at
the price alone (an exact penalty: s = 0 where the multiplier of the hard limit is below it).
Turned round where need be, each limit is a half-space a'w - s <= h with a multiplier y >= 0. With N the
half-spaces of positive multipliers, the optimality conditions are

    w = -N y,    0 <= s = give max(y - price, 0),    a'w - s = h where y > 0,    a'w <= h elsewhere,

where give is infinite y <= price and s >= 0 is free where y = price. A half-space at work is so either
tight (a'w = h, 0 < y < price) or past its price: a spring (a'w - give y = h - give price) or, where give
is infinite, held (y = price, and a'w >= h).

Every iterate keeps all conditions but a'w <= h elsewhere and a'w >= h where held. Then the value

    1/2 |w|^2 + sum ( price s + 1/2 s^2 / give )  where held half-spaces count price (a'w - h)

is a lower bound of the minimum, and it rises from one iterate to the next, so that no set of half-spaces
comes twice. A step of many half-spaces adds all that are violated, makes those tight that are held for
nothing, and takes away, or lets past their price, those whose multipliers come out so. Where the value
has not risen, a step of one half-space a, h (Goldfarb and Idnani) moves the multiplier of the most
violated one: with r the least-squares solution of N r = a and z = a - N r, raising it by d changes the
others by -d r and w by -d z, until the half-space holds, or until a multiplier, this one included,
comes to zero or to its price.

Where z = 0, the half-space is hard, and no positive r stops it nor a price, y = (-r, 1) >= 0 has
N y = z = 0 and sum y h = h - a'w < 0: the sum of hard half-spaces says 0 <= sum y h < 0, which proves
that no w keeps them all (Farkas).

References
----------
Goldfarb and Idnani, A numerically stable dual method for solving strictly convex quadratic programs,
Mathematical Programming 27 (1983), 1-33.
Portugal, Judice and Vicente, A comparison of block pivoting and interior-point algorithms for linear
least squares problems with nonnegative variables, Mathematics of Computation 63 (1994), 625-643.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtrs

from lqrad.arguments import Array
from lqrad.linalg.refutation import refutation

# After a step of many half-spaces in vain, this many steps of one before the next.
_STEPS_OF_ONE = 8

# A proof is one where the sum of half-spaces is beyond zero by this many times what rounding errors
# of the rows make of it at a point as large as the best one.
_CERTAIN = 1e6

# Up to so many entries of the rows a linear program looks for a proof: a second's work.
_PROGRAM = 10**6

Refutes = Callable[[Array], bool]


@dataclass(frozen=True)
class _Face:
    """The point of least value where half-spaces are at work in these ways.

    Attributes
    ----------
    state : (r,) of int
        Of each row: its side, 1 or -1, where it is tight; twice that where it is past its price.
    index, y : (k,), (k,)
        The rows that have an equation, in the order of the columns of Q and R, and their multipliers.
    """

    state: NDArray[np.int8]
    index: NDArray[np.intp]
    y: Array
    w: Array
    value: float
    Q: Array
    R: Array


class Nearest(NamedTuple):
    """What `nearest` found, in so many steps of either kind.

    Attributes
    ----------
    y : (r,)
        Multipliers: positive where a row is at its high limit, negative at its low one.
    proof : (r,) or None
        Multipliers whose sum of half-spaces says 0 < 0, where no w keeps the limits.
    finished : bool
        Whether w keeps the limits, or springs have given way.
    """

    w: Array
    y: Array
    proof: Array | None
    iterations: int
    finished: bool
    face: _Face

    def correction(self, gradient: Array) -> tuple[Array, Array]:
        """Return changes of w and y that keep the limits at work and make a gradient vanish.

        It is what w + rows'y is found to be where both are evaluated in more digits than here: with
        N = Q R the half-spaces at work, dw = Q Q'g - g and dy = -R^-1 Q'g.
        """
        face, y = self.face, np.zeros_like(self.y)
        if not len(face.index):
            return -gradient, y
        Q = face.Q[: len(gradient)]
        along = Q.T @ gradient
        y[face.index] = -np.sign(face.state[face.index]) * _substitute(face.R, along)
        return Q @ along - gradient, y


def nearest(
    rows: Array,
    low: Array,
    high: Array,
    *,
    give: Array,
    slack: Array,
    rounding: Array,
    refutes: Refutes,
    start: Array,
    max_iter: int,
    price: Array | None = None,
) -> Nearest:
    """Return the point nearest to the origin within limits (r,), infinite where there is none.

    Parameters
    ----------
    rows : (r, N)
        Of norm one.
    give, slack, rounding : (r,)
        One over the stiffness of each spring, zero where a limit is hard, infinite where it has a
        price alone; an excess that counts as none; what rounding errors may add up to in the entries
        of each row.
    refutes : callable
        Of a proof (r,): whether who knows more of the rows finds it valid, where rounding errors leave
        that open here.
    start : (r,)
        Multipliers whose signs tell the half-spaces to begin with.
    max_iter : int
    price : (r,), optional
        Of an excess of each row that gives way: zero when not given, positive where give is infinite.

    Examples
    --------
    The point nearest to the origin with a first entry of at least 1:

    >>> one, inf = np.ones(1), np.full(1, np.inf)
    >>> found = nearest(
    ...     np.array([[1.0, 0.0]]), one, inf, give=0 * one, slack=1e-9 * one,
    ...     rounding=1e-15 * one, refutes=lambda y: False, start=0 * one, max_iter=10,
    ... )
    >>> found.w, found.y, found.finished
    (array([1., 0.]), array([-1.]), True)
    """
    price = np.zeros_like(give) if price is None else price
    search = _Search(rows, low, high, give, price, slack, rounding, refutes, max_iter)
    finished, proof = search.run(start)
    best = search.best
    y = np.where(np.abs(best.state) == 2, np.sign(best.state) * price, 0.0)
    y[best.index] = np.sign(best.state[best.index]) * best.y
    return Nearest(best.w, y, proof, search.iterations, finished, best)


@dataclass
class _Search:
    """The limits, the best point so far, and how many steps it took."""

    rows: Array
    low: Array
    high: Array
    give: Array
    price: Array
    slack: Array
    rounding: Array
    refutes: Refutes
    max_iter: int
    iterations: int = 0

    def __post_init__(self) -> None:
        # The multiplier at which a tight half-space gives way.
        self.top = np.where(self.give == 0, np.inf, self.price)
        self.priced = np.isinf(self.give)
        self.best = self.origin = self._face(np.zeros(len(self.rows), np.int8))

    def run(self, start: Array) -> tuple[bool, Array | None]:
        """Find the best point; whether it keeps the limits, and a proof that none does.

        Steps of many half-spaces may lead to where rounding errors leave nothing to be seen; steps of
        one, each time the first that is violated, seldom do.
        """
        if start.any() and self.max_iter > 0:
            excess, side = self._excess(-start @ self.rows)
            side = np.where(start, np.sign(start), np.where(excess > self.slack, side, 0.0))
            side[~np.isfinite(np.where(side > 0, self.high, self.low))] = 0.0
            self._many(np.where(np.abs(start) >= self.top, 2, 1) * side)
        finished, proof = self._rise(together=True)
        if finished or proof is not None or self.iterations >= self.max_iter:
            return finished, proof
        before, self.best = self.best, self.origin
        finished, proof = self._rise(together=False)
        if not finished and before.value > self.best.value:
            self.best = before
        stalled = not finished and proof is None and self.iterations < self.max_iter
        if stalled and self.rows.size <= _PROGRAM:
            proof = self._refutation()
        return finished, proof

    def _refutation(self) -> Array | None:
        """A proof by a linear program, where multipliers have grown beyond what steps can tell."""
        hard = self.give == 0
        low, high = np.where(hard, self.low, -np.inf), np.where(hard, self.high, np.inf)
        proof = refutation(self.rows, low, high)
        if proof is None:
            return None
        left, noise = np.linalg.norm(proof @ self.rows), np.abs(proof) @ self.rounding
        return proof if left <= noise and self._proves(proof) else None

    def _rise(self, *, together: bool) -> tuple[bool, Array | None]:
        """Move violated half-spaces until there are none, or the value rises no more."""
        wait = 0
        while True:
            state = self.best.state
            excess, side = self._excess(self.best.w)
            excess[self.best.index] = 0.0
            held = self._held(state)
            normals, h = self._half_spaces(held, state)
            excess[held] = h - self.best.w @ normals
            beyond = excess > self.slack
            if not beyond.any():
                return True, None
            if self.iterations >= self.max_iter:
                return False, None
            if together and not wait:
                new = np.where(state, np.sign(state), np.where(self.top > 0, 1, 2) * side)
                if not self._many(np.where(beyond, new, state)):
                    wait = _STEPS_OF_ONE
                continue
            wait = max(wait - 1, 0)
            first = int(beyond.argmax())
            risen, proof = self._one(first, int(np.sign(state[first]) or side[first]))
            if not risen:
                return False, proof

    def _excess(self, w: Array) -> tuple[Array, Array]:
        """How far each row is beyond its limits, negative where it is within, and on which side."""
        g = self.rows @ w
        above, below = g - self.high, self.low - g
        return np.maximum(above, below), np.where(above >= below, 1.0, -1.0)

    def _held(self, state: NDArray[np.int8]) -> NDArray[np.intp]:
        """The rows whose multipliers are their prices."""
        return np.flatnonzero((np.abs(state) == 2) & self.priced)

    def _half_spaces(self, index: NDArray[np.intp], state: NDArray[np.int8]) -> tuple[Array, Array]:
        """The normals (N, k) and the limits (k,) of half-spaces."""
        side = np.sign(state[index])
        limit = np.where(side > 0, self.high[index], self.low[index])
        return self.rows[index].T * side, limit * side

    def _equations(self, index: NDArray[np.intp], state: NDArray[np.int8]) -> tuple[Array, Array]:
        """The same, with a further entry of each normal, and past its price, for those that give way."""
        normals, h = self._half_spaces(index, state)
        past = np.abs(state[index]) == 2
        if past.any():
            give = np.where(past, self.give[index], 0.0)
            return np.vstack([normals, np.diag(np.sqrt(give))]), h - give * self.price[index]
        return normals, h

    def _ends(self, index: NDArray[np.intp], state: NDArray[np.int8]) -> tuple[Array, Array]:
        """Between what the multipliers of equations are, while they work in the same way."""
        past, top = np.abs(state[index]) == 2, self.top[index]
        return np.where(past, top, 0.0), np.where(past, np.inf, top)

    def _face(self, state: NDArray[np.int8], order: NDArray[np.intp] | None = None) -> _Face:
        """The face of half-spaces: of those that are independent of the ones before, without an order."""
        held = self._held(state)
        pull, at = self._half_spaces(held, state)
        base = -pull @ self.price[held]
        value = -0.5 * float(base @ base) - float(self.price[held] @ at)
        if order is None:
            index = np.setdiff1d(np.flatnonzero(state), held, assume_unique=True)
        else:
            index = order
        while True:
            normals, h = self._equations(index, state)
            Q, R = np.linalg.qr(normals)
            if order is None:
                kept = np.zeros(len(index), bool)
                size = np.abs(R.diagonal())
                kept[: len(R)] = size > 1e2 * self.rounding[index[: len(R)]]
                if not kept.all():
                    index = index[kept]
                    continue
            if len(held):
                h = h - base @ normals[: len(base)]
            z = _substitute(R, h, transpose=True)
            z += _substitute(R, h - normals.T @ (Q @ z), transpose=True)  # what rounding has left
            w = Q @ z
            y = -_substitute(R, z)
            y -= _substitute(R, Q.T @ (w + normals @ y))
            low, high = self._ends(index, state)
            y = y if order is None else np.clip(y, low, high)  # not beyond but for rounding errors
            kept_state = np.zeros_like(state)
            kept_state[held], kept_state[index] = state[held], state[index]
            past = index[np.abs(state[index]) == 2]
            value += 0.5 * float(z @ z - self.give[past] @ self.price[past] ** 2)
            return _Face(kept_state, index, y, base + w[: len(base)], value, Q, R)

    def _many(self, wanted: Array) -> bool:
        """Try half-spaces in these ways, as far as their multipliers fit; whether the value rises.

        Where they do not, a tight one is let past its price, or taken away, and one that is past it
        is taken away: which ends.
        """
        self.iterations += 1
        state = wanted.astype(np.int8)
        while state.any():
            face = self._face(state)
            (low, high), state = self._ends(face.index, face.state), face.state.copy()
            below, above = face.y <= low, face.y > high
            if not (below | above).any():
                return self._keep(face)
            state[face.index[below]] = 0
            state[face.index[above]] *= 2
        return False

    def _keep(self, face: _Face) -> bool:
        """Take a face for the best one where its value is higher; whether it is."""
        risen = face.value > self.best.value
        if risen:
            self.best = face
        return risen

    def _one(self, row: int, side: int) -> tuple[bool, Array | None]:
        """Move one half-space; whether the value rises, and a proof that nothing keeps the limits."""
        best, state = self.best, self.best.state.copy()
        index, y, w, Q, R, N = best.index, best.y, best.w, best.Q, best.R, len(best.w)
        falls = bool(state[row])  # held, and no longer for anything
        sign, moved = (-1.0, float(self.price[row])) if falls else (1.0, 0.0)
        state[row] = side if falls or self.top[row] > 0 else 2 * side
        (a,), (h,) = (z.T for z in self._half_spaces(np.array([row]), state))
        self.iterations += 1
        while True:
            along = Q[:N].T @ a
            z = -(Q @ along)
            z[:N] += a
            r = _substitute(R, along)
            past = abs(state[row]) == 2
            give = float(self.give[row]) if past else 0.0
            beyond = sign * (float(a @ w) - h - give * (moved - self.price[row]))
            full = len(index) == len(Q) > 0  # all that is left is rounding
            length = (0.0 if full else float(z @ z)) + give
            noise = float(np.abs(r) @ self.rounding[index]) + self.rounding[row]
            dependent = length <= noise**2
            rate, small = -sign * r, noise if dependent else 0.0
            low, high = self._ends(index, state)
            room = np.full(len(r), np.inf)
            np.divide(y - low, -rate, out=room, where=rate < -small)
            np.divide(high - y, rate, out=room, where=rate > small)
            own = moved if falls else np.inf if past else float(self.top[row]) - moved
            most = min(own, float(room.min(initial=np.inf)))
            if dependent and most == np.inf and self.give[row] == 0:
                proof = np.zeros(len(self.rows))
                proof[index], proof[row] = np.sign(state[index]) * np.maximum(-r, 0.0), side
                proof[self.give != 0] = 0.0
                if self._proves(proof):
                    return False, proof
            step = min(most, beyond / length if length else np.inf)
            if step == np.inf:
                return False, None
            y, w, moved = y + step * rate, w - sign * step * z[:N], moved + sign * step
            if step < most:
                return self._keep(self._face(state, np.append(index, row))), None
            if own == most:
                if not falls and not self.priced[row]:
                    state[row] = 2 * side
                    continue
                state[row] = 0 if falls else 2 * side
                return self._keep(self._face(state, index)), None
            stops = int(room.argmin())
            other = index[stops]
            turn = np.sign(state[other])
            if abs(state[other]) == 2:
                state[other] = turn if self.top[other] > 0 else 0
            else:
                state[other] = 2 * turn if rate[stops] > 0 else 0
            gone = state[other] == 0 or other in self._held(state)
            if gone:
                index, y = np.delete(index, stops), np.delete(y, stops)
            Q, R = np.linalg.qr(self._equations(index, state)[0])

    def _proves(self, proof: Array) -> bool:
        """Whether the sum of half-spaces is beyond zero by more than rounding errors can make.

        The sum is that of the limits themselves: the best point may miss those of its own face by
        what a face with nearly dependent normals makes of rounding errors.
        """
        limit = np.where(proof > 0, self.high, self.low)[proof != 0]
        size = np.linalg.norm(self.best.w) + np.abs(limit).max()
        beyond = -float(proof[proof != 0] @ limit)
        if beyond > _CERTAIN * float(np.abs(proof) @ self.rounding) * float(size):
            return True
        return beyond > 0 and self.refutes(proof)


def _substitute(R: Array, b: Array, *, transpose: bool = False) -> Array:
    """Return x of R x = b, or of R'x = b, where R is upper triangular."""
    if not len(b):
        return b
    x, _ = dtrtrs(R, b, trans=transpose)
    return np.asarray(x)
