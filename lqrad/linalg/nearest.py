"""The point of a polyhedron that is nearest to the origin: a dual active-set method.

    minimise  1/2 |w|^2 + 1/2 sum s[i]^2 / give[i]   subject to   low[i] <= rows[i] w - s[i] <= high[i]

with s[i] = 0 where give[i] = 0: such limits are hard, the others are springs of stiffness 1 / give.
Turned round where need be, each limit is a half-space a'w - s <= h with a multiplier y >= 0. Those at
work are the columns of N, and the optimality conditions are

    w = -N y,    s = give y,    y >= 0,    a'w - s = h where y > 0,    a'w <= h elsewhere.

Every iterate keeps all conditions but the last. Then the value 1/2 |w|^2 + 1/2 sum s^2 / give is a
lower bound of the minimum, and it rises from one iterate to the next, so that no set of half-spaces
comes twice. A step of many half-spaces adds all that are violated, and takes away those whose
multipliers come out negative. Where the value has not risen, a step of one half-space a, h (Goldfarb
and Idnani) adds the most violated one: with r the least-squares solution of N r = a and z = a - N r,
raising its multiplier by d changes the others by -d r and w by -d z, until the half-space holds, or
until another multiplier is zero and its half-space is taken away.

Where z = 0 and no r is positive, y = (-r, 1) >= 0 has N y = z = 0 and sum y h = h - a'w < 0: the sum of
the half-spaces says 0 <= sum y h < 0, which proves that no w keeps them all (Farkas).

References
----------
Goldfarb and Idnani, A numerically stable dual method for solving strictly convex quadratic programs,
Mathematical Programming 27 (1983), 1-33.
Portugal, Judice and Vicente, A comparison of block pivoting and interior-point algorithms for linear
least squares problems with nonnegative variables, Mathematics of Computation 63 (1994), 625-643.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr_delete
from scipy.linalg.lapack import dtrtrs

from lqrad.arguments import Array

# After a step of many half-spaces in vain, this many steps of one before the next.
_STEPS_OF_ONE = 8

# A proof is one where the sum of half-spaces is beyond zero by this many times what rounding errors
# of the rows make of it at a point as large as the best one.
_CERTAIN = 1e6

Refutes = Callable[[Array], bool]


@dataclass(frozen=True)
class _Face:
    """The point of least value where the half-spaces of these rows and sides hold with equality."""

    index: NDArray[np.intp]
    side: Array
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
        y[face.index] = -face.side * _substitute(face.R, along)
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
) -> Nearest:
    """Return the point nearest to the origin within limits (r,), infinite where there is none.

    Parameters
    ----------
    rows : (r, N)
        Of norm one.
    give, slack, rounding : (r,)
        One over the stiffness of each spring, zero where a limit is hard; an excess that counts as
        none; what rounding errors may add up to in the entries of each row.
    refutes : callable
        Of a proof (r,): whether who knows more of the rows finds it valid, where rounding errors leave
        that open here.
    start : (r,)
        Multipliers whose signs tell the half-spaces to begin with.
    max_iter : int

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
    search = _Search(rows, low, high, give, slack, rounding, refutes, max_iter)
    finished, proof = search.run(start)
    best = search.best
    y = np.zeros(len(rows))
    y[best.index] = best.side * best.y
    return Nearest(best.w, y, proof, search.iterations, finished, best)


@dataclass
class _Search:
    """The limits, the best point so far, and how many steps it took."""

    rows: Array
    low: Array
    high: Array
    give: Array
    slack: Array
    rounding: Array
    refutes: Refutes
    max_iter: int
    iterations: int = 0

    def __post_init__(self) -> None:
        none = np.zeros(0)
        start = np.zeros(self.rows.shape[1])
        self.best = self.origin = _Face(np.zeros(0, np.intp), none, none, start, 0.0, none, none)

    def run(self, start: Array) -> tuple[bool, Array | None]:
        """Find the best point; whether it keeps the limits, and a proof that none does.

        Steps of many half-spaces may lead to where rounding errors leave nothing to be seen; steps of
        one, each time the first that is violated, seldom do.
        """
        if start.any() and self.max_iter > 0:
            excess, side = self._excess(-start @ self.rows)
            side = np.where(start, np.sign(start), np.where(excess > self.slack, side, 0.0))
            side[~np.isfinite(np.where(side > 0, self.high, self.low))] = 0.0
            self._many(side)
        finished, proof = self._rise(together=True)
        if finished or proof is not None or self.iterations >= self.max_iter:
            return finished, proof
        before, self.best = self.best, self.origin
        finished, proof = self._rise(together=False)
        if not finished and before.value > self.best.value:
            self.best = before
        return finished, proof

    def _rise(self, *, together: bool) -> tuple[bool, Array | None]:
        """Add violated half-spaces until there are none, or the value rises no more."""
        wait = 0
        while True:
            excess, side = self._excess(self.best.w)
            excess[self.best.index] = 0.0
            beyond = excess > self.slack
            if not beyond.any():
                return True, None
            if self.iterations >= self.max_iter:
                return False, None
            if together and not wait:
                side = np.where(beyond, side, 0.0)
                side[self.best.index] = self.best.side
                if not self._many(side):
                    wait = _STEPS_OF_ONE
                continue
            wait = max(wait - 1, 0)
            first = int(beyond.argmax())
            risen, proof = self._one(first, float(side[first]))
            if not risen:
                return False, proof

    def _excess(self, w: Array) -> tuple[Array, Array]:
        """How far each row is beyond its limits, negative where it is within, and on which side."""
        g = self.rows @ w
        above, below = g - self.high, self.low - g
        return np.maximum(above, below), np.where(above >= below, 1.0, -1.0)

    def _half_space(self, index: NDArray[np.intp], side: Array) -> tuple[Array, Array]:
        """The normals (N, k) and the limits (k,) of half-spaces."""
        limit = np.where(side > 0, self.high[index], self.low[index])
        return self.rows[index].T * side, limit * side

    def _face(self, index: NDArray[np.intp], side: Array, *, independent: bool = False) -> _Face:
        """The face of half-spaces; of those that are independent of the ones before, where asked."""
        while True:
            normals, h = self._half_space(index, side)
            if self.give[index].any():
                normals = np.vstack([normals, np.diag(np.sqrt(self.give[index]))])
            Q, R = np.linalg.qr(normals)
            if independent:
                kept = np.zeros(len(index), bool)
                size = np.abs(R.diagonal())
                kept[: len(R)] = size > 1e2 * self.rounding[index[: len(R)]]
                if not kept.all():
                    index, side = index[kept], side[kept]
                    continue
            z = _substitute(R, h, transpose=True)
            z += _substitute(R, h - normals.T @ (Q @ z), transpose=True)  # what rounding has left
            w = Q @ z
            y = -_substitute(R, z)
            y -= _substitute(R, Q.T @ (w + normals @ y))
            y = y if independent else np.maximum(y, 0.0)  # not beyond zero but for rounding errors
            w = w[: self.rows.shape[1]]
            return _Face(index, side, y, w, 0.5 * float(z @ z), Q, R)

    def _many(self, side: Array) -> bool:
        """Try a set of half-spaces, less those of negative multipliers; whether the value rises."""
        self.iterations += 1
        index = np.flatnonzero(side)
        while len(index):
            face = self._face(index, side[index], independent=True)
            if (face.y > 0).all():
                return self._keep(face)
            index = face.index[face.y > 0]
        return False

    def _keep(self, face: _Face) -> bool:
        """Take a face for the best one where its value is higher; whether it is."""
        risen = face.value > self.best.value
        if risen:
            self.best = face
        return risen

    def _one(self, row: int, side: float) -> tuple[bool, Array | None]:
        """Add one half-space; whether the value rises, and a proof that nothing keeps the limits."""
        new = np.array([row]), np.array([side])
        (a,), (h,) = (z.T for z in self._half_space(*new))
        face, y, w = self.best, self.best.y, self.best.w
        raised = 0.0  # the multiplier of the new half-space
        self.iterations += 1
        while True:
            if len(face.index):
                along = face.Q[: len(a)].T @ a
                z = -(face.Q @ along)
                z[: len(a)] += a
                r = _substitute(face.R, along)
            else:
                z, r = a, np.zeros(0)
            beyond = float(a @ w) - h - self.give[row] * raised
            full = len(face.index) == len(face.Q) > 0  # all that is left is rounding
            length = (0.0 if full else float(z @ z)) + self.give[row]
            noise = float(np.abs(r) @ self.rounding[face.index]) + self.rounding[row]
            dependent = length <= noise**2
            falls = r > (noise if dependent else 0.0)
            ends = np.divide(y, r, out=np.full(len(r), np.inf), where=falls)
            most = float(ends.min(initial=np.inf))
            if dependent and most == np.inf:
                proof = np.zeros(len(self.rows))
                proof[face.index], proof[row] = face.side * np.maximum(-r, 0.0), side
                if self._proves(proof):
                    return False, proof
            step = min(most, beyond / length if length else np.inf)
            if step == np.inf:
                return False, None
            y, w, raised = y - step * r, w - step * z[: len(a)], raised + step
            if step < most:
                index, sides = np.append(face.index, row), np.append(face.side, side)
                return self._keep(self._face(index, sides)), None
            gone = int(ends.argmin())
            y = np.delete(y, gone)
            Q, R = qr_delete(face.Q, face.R, gone, which="col")
            face = replace(
                face,
                index=np.delete(face.index, gone),
                side=np.delete(face.side, gone),
                Q=Q[:, : len(y)],
                R=R[: len(y)],
            )

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
