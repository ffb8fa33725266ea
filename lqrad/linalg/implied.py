"""What the rows of a polytope imply, with multipliers that prove it.

    X = { x :  -sides[:, 1] <= E x <= sides[:, 0] }

A row a is at most h within X where multipliers y, positive of high limits and negative of low ones, make

    a'x = y'E x + (a - y'E) x  <=  sum y limit + |a - y'E|'reach  <=  h,        |x| <= reach in X.

They are found by a linear program, the largest a'x, whose dual they are, and do not rely on its
tolerance: the inequality is evaluated with its rounding errors counted, and in rational numbers where
these decide. Without a reach nothing but a = y'E, exactly, is a proof.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import EPS, Array

# Where rounding errors of a row within the polytope may be more than this part of its limit, the limits
# hardly bound it, and no reach is told.
_HARDLY = 1e-8
# A bound that is above the limit by less than this part may be so by rounding errors.
_CLOSE = 1e-9


class Rows:
    """The rows E (r, n) of a polytope that holds the origin, their sides (r, 2), and the reach (n,).

    In units in which limits and states are of size one; a side is infinite where there is no limit, and
    both are zero where a row is an equality.

    Examples
    --------
    >>> square = Rows(np.eye(2), np.ones((2, 2)))
    >>> around = square.bound()
    >>> square.reach.round(6), square.implied(np.array([0.25, -0.5]), 1.0)
    (array([1., 1.]), array([ 0.25, -0.5 ]))
    """

    def __init__(self, E: Array, sides: Array) -> None:
        self.E, self.sides = E, sides
        self.eps = (E.shape[1] + 2) * EPS
        self.reach = np.full(E.shape[1], np.inf)

    @property
    def equal(self) -> NDArray[np.bool_]:
        return np.asarray(~self.sides.any(axis=1))

    def bound(self) -> Array | None:
        """Find the reach, and return the multipliers (2, n, r) of x and of -x; None where there is none."""
        r, n = self.E.shape
        around, bound, rest = np.zeros((2, n, r)), np.zeros((2, n)), np.zeros((2, n, n))
        for side, sign in enumerate((1.0, -1.0)):
            for j, a in enumerate(sign * np.eye(n)):
                y = self._dual(a)
                if y is None:
                    return None
                around[side, j] = y
                bound[side, j], rest[side, j] = self._sum(a, y, 0.0)
        # The reach of each state holds what rounding errors make of the others.
        reach = bound.max(axis=0)
        for _ in range(3):
            reach = (1 + 1e-9) * (bound + rest @ reach).max(axis=0)
        noise = self.eps * (np.abs(self.E) @ reach)[:, None]
        hardly = (noise > _HARDLY * self.sides) & (self.sides > 0)
        if hardly.any() or not (bound + rest @ reach <= reach).all():
            return None
        self.reach = reach
        return around

    def implied(
        self,
        g: Array,
        most: float,
        A: Array | None = None,
        *,
        guess: int | None = None,
        side: int = 0,
    ) -> Array | None:
        """Return multipliers (r,) that prove g'x <= most, or g'A x <= most; None where none are found.

        Of -g in the place of g, where side is 1. The row of a guess is tried alone before the others.
        """
        g = g if side == 0 else -g
        a, terms = (g, 0.0) if A is None else (g @ A, np.abs(g) @ np.abs(A))
        if guess is not None:
            y = np.zeros(len(self.E))
            y[guess] = 1 - 2 * side
            if self._proves(y, g, A, a, terms, most):
                return y
        dual = self._dual(a)
        if dual is not None:
            for y in (dual, self._refined(a, dual)):
                if self._proves(y, g, A, a, terms, most):
                    return y
        return None

    def adds_up(self, g: Array, A: Array | None = None, *, side: int = 0) -> Array | None:
        """Return multipliers of equalities that prove another, to rounding errors; None where it is new."""
        g = g if side == 0 else -g
        a, terms = (g, 0.0) if A is None else (g @ A, np.abs(g) @ np.abs(A))
        y, equal = np.zeros(len(self.E)), self.equal
        if equal.any():
            y[equal] = np.linalg.lstsq(self.E[equal].T, a, rcond=None)[0]
        rest = np.abs(a - y @ self.E)
        noise = self.eps * (terms + np.abs(a) + np.abs(y) @ np.abs(self.E))
        return y if (rest <= noise).all() else None

    def _dual(self, a: Array) -> Array | None:
        """The multipliers of the largest a'x within the rows; None where there is none."""
        from scipy.optimize import linprog  # here, as its import takes longer than lqrad's own

        equal = self.equal
        high, low = (np.flatnonzero(np.isfinite(z) & ~equal) for z in self.sides.T)
        found = linprog(
            -a,
            A_ub=np.vstack([self.E[high], -self.E[low]]),
            b_ub=np.concatenate([self.sides[high, 0], self.sides[low, 1]]),
            A_eq=self.E[equal],
            b_eq=np.zeros(int(equal.sum())),
            bounds=(None, None),
            method="highs",
        )
        if found.status:
            return None
        y = np.zeros(len(self.E))
        y[equal] = -found.eqlin.marginals
        pulls = np.maximum(-found.ineqlin.marginals, 0.0)
        y[high] += pulls[: len(high)]
        y[low] -= pulls[len(high) :]
        return y

    def _refined(self, a: Array, y: Array) -> Array:
        """Multipliers of the same rows, as exact as rounding errors leave them."""
        rows, better = np.flatnonzero(y), np.zeros_like(y)
        better[rows] = np.linalg.lstsq(self.E[rows].T, a, rcond=None)[0]
        return np.where((better * y > 0) | self.equal, better, 0.0)

    def _limits(self, y: Array) -> Array:
        """The limit of each row that its multiplier is of; zero where that is zero."""
        return np.where(y > 0, self.sides[:, 0], np.where(y < 0, -self.sides[:, 1], 0.0))

    def _sum(self, a: Array, y: Array, terms: Array | float) -> tuple[float, Array]:
        """The sum of y limit, and the size of the rest a - y'E, rounding errors included."""
        rest = np.abs(a - y @ self.E)
        rest += self.eps * (np.abs(a) + np.abs(y) @ np.abs(self.E) + terms)
        return float(y @ self._limits(y)) * (1 + (len(y) + 2) * EPS), rest

    def _proves(
        self, y: Array, g: Array, A: Array | None, a: Array, terms: Array | float, most: float
    ) -> bool:
        """Whether sum y limit + |a - y'E|'reach <= most; exactly, where rounding errors may decide."""
        bound, rest = self._sum(a, y, terms)
        at = rest > 0
        if bound + (1 + len(a) * EPS) * float(rest[at] @ self.reach[at]) <= most:
            return True
        if bound > most * (1 + _CLOSE):
            return False
        rows = np.flatnonzero(y)
        exact = [Fraction(z) for z in g] if A is None else [_dot(g, column) for column in A.T]
        total = _dot(y[rows], self._limits(y)[rows])
        for entry, column, reach in zip(exact, self.E[rows].T, self.reach, strict=True):
            left = abs(entry - _dot(y[rows], column))
            if left and reach == np.inf:
                return False
            total += left * Fraction(reach) if left else 0
        return total <= Fraction(most)


def _dot(a: Array, b: Array) -> Fraction:
    return sum((Fraction(p) * Fraction(q) for p, q in zip(a, b, strict=True)), Fraction(0))
