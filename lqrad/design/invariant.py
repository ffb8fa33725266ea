"""The largest set of states from which a stable loop stays within limits, with its proof.

    O = { x :  low <= C A^t x <= high  for all t >= 0 }          of x[t+1] = A x[t]

Rows C A^t are added step by step, until all those of the next step are implied by the ones before
(Gilbert and Tan): then A maps the set into itself, so that later rows are implied as well. Whether a
row is implied is a linear program, and what is believed is its dual: multipliers y, positive of a high
limit and negative of a low one, that prove it by arithmetic (`linalg.implied`). A row that is not
proven to be implied is added.

The rows C A^t are rounded. For the set to be invariant nevertheless, limits of later steps are tighter
by what rounding errors can make of a row within the set: some 1e-14 of the limit, more in a thin set.

References
----------
Gilbert and Tan, Linear systems with state and control constraints: the theory and application of
maximal output admissible sets, IEEE Transactions on Automatic Control 36 (1991), 1008-1020.
Bitsoris, Positively invariant polyhedral sets of discrete-time linear systems, International Journal
of Control 47 (1988), 1713-1726 (the multipliers).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    EPS,
    Array,
    check_finite,
    check_limits,
    check_shape,
    direction_words,
    frozen_array,
    number_words,
    real_array,
    shape_message,
)
from lqrad.design.limits import Limit
from lqrad.errors import ArgumentError, ShapeError
from lqrad.linalg.balance import balance, in_units
from lqrad.linalg.implied import Rows
from lqrad.results import Report

# Beyond these the set is refused: it would be of little use as the end of a plan.
_MOST_STEPS, _MOST_ROWS = 2000, 600
_REMEDY = "limit more states, weight the slow modes more, or end the plan at the origin"


@dataclass(frozen=True, eq=False, repr=False)
class InvariantSet(Report):
    """The largest set within limits that a stable loop x[t+1] = A x[t] does not leave.

    It is { x : low <= E x <= high }. The proof are multipliers y, positive of a high limit of E and
    negative of a low one: within the set

        a'x  <=  sum y limit + |a - y'E|'reach

    and this is at most the limit of a, where a is a row of E A or of C, for its high limit, or minus
    such a row, for its low one. Of equalities the last term, their rounding errors, is all there is.

    Attributes
    ----------
    E : (r, n)
        Its rows, none of them implied by the others; each is a row of C A^t.
    low, high : (r,)
        Infinite where a side is implied by the others.
    source : (r, 2) of int
        The row i of C and the step t of each row, E[j] = C[i] A^t.
    steps : int
        The rows of this step and all later ones are implied.
    reach : (n,)
        The set has no larger |x|; infinite for a state that the limits never see.
    ahead : (2, r, r)
        Multipliers of the rows E A and -E A: the set is invariant.
    within : (2, k, r)
        Those of the rows C and -C: the set is within the limits.
    around : (2, n, r)
        Those of x and -x, for reach: the set is bounded.
    """

    E: Array
    low: Array
    high: Array
    source: NDArray[np.int64]
    steps: int
    reach: Array
    ahead: Array
    within: Array
    around: Array

    def __repr__(self) -> str:
        r, n = self.E.shape
        return f"<InvariantSet: {r} rows of {n} states, {self.steps} steps>"

    def as_limit(self) -> Limit | None:
        """Return its rows as the limit of a last state; None where there are none."""
        return Limit(self.E, low=self.low, high=self.high, name="terminal") if len(self.E) else None

    def contains(self, x: ArrayLike) -> bool | NDArray[np.bool_]:
        """Return whether states x (..., n) are in the set; an excess by rounding errors is none.

        Examples
        --------
        >>> found = invariant_set([[0.5]], [[1.0]], -1.0, 2.0)
        >>> found.contains([1.5]), found.contains([[-0.5], [-1.5]])
        (True, array([ True, False]))
        """
        x = real_array("x", x)
        n = self.E.shape[1]
        if not x.ndim or x.shape[-1] != n:
            raise ShapeError(shape_message("x", x.shape, f"(..., n) with n = {n}", "", (n,)))
        check_finite("x", x)
        g = x @ self.E.T
        slack = 2 * n * EPS * (np.abs(x) @ np.abs(self.E).T)
        inside = ((g <= self.high + slack) & (g >= self.low - slack)).all(axis=-1)
        return inside if x.ndim > 1 else bool(inside)


def invariant_set(
    A: ArrayLike, C: ArrayLike, low: ArrayLike | None = None, high: ArrayLike | None = None
) -> InvariantSet:
    """Return the largest set of states from which x[t+1] = A x[t] keeps low <= C x <= high.

    Parameters
    ----------
    A : (n, n)
        A stable loop, such as A - B K of a plant under `dlqr`.
    C : (k, n)
        What has limits: rows of the states, and -K for those of the inputs.
    low, high : numbers or (k,), optional
        Infinite where there is none. The origin is within; equal limits are an equality, of zero.

    Raises
    ------
    ArgumentError
        If A has a mode that does not decay, the origin is not within the limits, they leave the set
        unbounded, or it has too many rows.

    See Also
    --------
    mpc : a plan that ends in such a set keeps its limits for ever
    dlqr : the gain of the loop

    Examples
    --------
    A double integrator under its regulator, with an input of at most 1 and a speed of at most 2:

    >>> from lqrad.lq.dare import dlqr
    >>> A, B = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[0.5], [1.0]])
    >>> K, _, _ = dlqr(A, B, np.eye(2), [[1.0]])
    >>> found = invariant_set(A - B @ K, np.vstack([-K, [[0.0, 1.0]]]), [-1, -2], [1, 2])
    >>> found
    <InvariantSet: 3 rows of 2 states, 2 steps>
    >>> found.contains([[2.0, 0.0], [3.0, 0.0]])
    array([ True, False])
    """
    A, C = frozen_array("A", A), frozen_array("C", C)
    n = A.shape[-1] if A.ndim else 0
    if A.ndim != 2 or A.shape[0] != n or not n:
        raise ShapeError(shape_message("A", A.shape, "(n, n), not empty", ""))
    if C.ndim != 2:
        raise ShapeError(shape_message("C", C.shape, f"(k, n) with n = {n}", ""))
    check_shape("C", C, (len(C), n), "as A", symbols="(k, n)")
    low, high = check_limits("low and high", (low, high), (len(C),), names=("low", "high"))
    _check_origin(low, high)
    _check_stable(A)
    search = _Search(A, C, low, high)
    search.grow()
    return search.found()


def is_invariant(
    E: Array, e_low: Array, e_high: Array, A: Array, C: Array, low: Array, high: Array
) -> bool:
    """Return whether e_low <= E x <= e_high is proven to be invariant under A, and to keep C x within limits.

    Examples
    --------
    >>> one = np.ones(1)
    >>> is_invariant(np.eye(1), -one, one, np.array([[0.5]]), np.array([[2.0]]), -3 * one, 3 * one)
    True
    """
    low, high = np.concatenate([e_low, low]), np.concatenate([e_high, high])
    if (low > 0).any() or (high < 0).any():
        return False
    search = _Search(A, np.vstack([E, C]), low, high)
    r = len(E)
    search.rows = Rows(search.C[:r], search.limits[:r])
    search.source = np.stack([np.arange(r), np.zeros(r, np.int64)], axis=1)
    return search.proof() is not None


def _check_origin(low: Array, high: Array) -> None:
    outside = np.flatnonzero((low > 0) | (high < 0))
    if len(outside):
        i = outside[0]
        raise ArgumentError(
            f"low and high of row {i} are {low[i]:.6g} and {high[i]:.6g}, and the origin, where the loop "
            "ends, is not within them: no set is invariant",
            "state the limits around the steady state, as those of x - x_ref",
        )


def _check_stable(A: Array) -> None:
    x = balance(A).x
    modes = np.linalg.eigvals(in_units(A, x, x))
    mode = complex(modes[np.abs(modes).argmax()])
    if abs(mode) >= 1 - 8 * len(A) * EPS:
        raise ArgumentError(
            f"A has the mode {number_words(mode)} of magnitude {abs(mode):.6g}, expected all below "
            "one: limits of a loop that does not decay leave no such set",
            "pass the closed loop A - B K, with K of dlqr",
        )


class _Search:
    """The rows so far, in units in which limits, and states within them, are of size one.

    The sides of a row are its high limit, and that of minus the row.
    """

    def __init__(self, A: Array, C: Array, low: Array, high: Array) -> None:
        self.k, self.n = C.shape
        limited = (np.isfinite(low) | np.isfinite(high)) & C.any(axis=1)
        seen, powers = C[limited].any(axis=0), [C[limited]]
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(self.n - 1):
                seen = seen | A[seen].any(axis=0)
                powers.append(powers[-1] @ A)
        check_finite("C A^t", np.asarray(powers), computed=True)
        sizes = np.abs(np.stack([low, high]))
        sizes = np.where(np.isfinite(sizes), sizes, 0.0).max(axis=0, initial=0.0)
        self.y = np.frexp(sizes)[1].astype(np.int64)
        # How far each state may go alone, within limits that see it at once or later.
        far = np.ldexp(np.abs(powers)[..., seen], -self.y[limited][:, None])
        self.x = -np.frexp(far.max(axis=(0, 1), initial=0.0))[1].astype(np.int64)
        self.seen = np.flatnonzero(seen)
        self.A = in_units(A[np.ix_(seen, seen)], self.x, self.x)
        self.C = in_units(C[:, seen], self.y, self.x)
        self.limits = np.stack([np.ldexp(high, -self.y), np.ldexp(-low, -self.y)], axis=1)
        self.of = np.flatnonzero(limited)
        self.rows = Rows(self.C[self.of], self.limits[self.of])
        self.source = np.stack([self.of, np.zeros_like(self.of)], axis=1)
        self.steps = 0

    def grow(self) -> None:
        """Add the rows of each step, until all those of the next are implied."""
        rows, of, E = self.rows, self.of, self.rows.E
        spread = all_spread = np.zeros_like(E)  # how rounding errors of rows have added up
        bounded = False
        for self.steps in range(1, _MOST_STEPS + 1):
            if not bounded:
                bounded = rows.bound() is not None
                if bounded:
                    rows.sides = self._tighter(rows.sides, all_spread)
                elif self.steps == len(self.seen):
                    self._check_rank()
            spread = spread + np.abs(E) @ np.abs(self.A)
            E = E @ self.A
            limits = self.limits[of].copy()
            if bounded:
                limits = self._tighter(limits, spread)
            for row, sides in zip(E, limits, strict=True):
                equal = not sides.any()
                for side in _limited(sides):
                    found = (
                        rows.adds_up(row) if equal else rows.implied(row, sides[side], side=side)
                    )
                    sides[side] = np.inf if found is not None else sides[side]
            new = np.isfinite(limits).any(axis=1)
            if not new.any():
                return
            rows.E = np.vstack([rows.E, E[new]])
            rows.sides = np.vstack([rows.sides, limits[new]])
            all_spread = np.vstack([all_spread, spread[new]])
            step = np.full(int(new.sum()), self.steps)
            self.source = np.vstack([self.source, np.stack([of[new], step], axis=1)])
            if len(rows.E) > (_MOST_ROWS if bounded else _MOST_ROWS // 4):
                break
        if not bounded:
            raise ArgumentError(
                f"low and high do not bound the set, or hardly: after {self.steps} steps rounding errors "
                "hide whether those of later steps are kept",
                _REMEDY,
            )
        raise ArgumentError(
            f"the set within low and high has more than {_MOST_ROWS} rows, or more than "
            f"{_MOST_STEPS} steps: {len(rows.E)} rows after {self.steps} steps",
            _REMEDY,
        )

    def _tighter(self, limits: Array, spread: Array) -> Array:
        """Limits of rows whose rounding errors have added up to eps times spread; zero has no room."""
        noise = 4 * self.rows.eps * (spread @ self.rows.reach)[:, None]
        return np.where(limits > 0, limits - noise, limits)

    def _check_rank(self) -> None:
        """Raise where no more rows can bound the set, as they do not see a direction."""
        _, sizes, V = np.linalg.svd(self.rows.E)
        if len(sizes) < len(V) or sizes[-1] <= len(self.rows.E) * EPS * sizes[0]:
            free = np.zeros(self.n)
            free[self.seen] = np.ldexp(V[-1], self.x)
            raise ArgumentError(
                f"low and high leave the set unbounded along {direction_words(free, 'x')}, which no row "
                "of C A^t sees",
                _REMEDY,
            )

    def found(self) -> InvariantSet:
        """The set without rows that others imply, proven, in the units of the limits."""
        rows, whole = self.rows, (self.rows.E, self.rows.sides.copy(), self.source)
        for E, sides in zip(rows.E[::-1], rows.sides[::-1], strict=True):
            for side in _limited(sides) if sides.any() else []:
                most, sides[side] = sides[side], np.inf
                if rows.implied(E, most, side=side) is None:
                    sides[side] = most
        kept = np.isfinite(rows.sides).any(axis=1)
        rows.E, rows.sides, self.source = rows.E[kept], rows.sides[kept], self.source[kept]
        proof = self.proof()
        if proof is None:  # by rounding errors: of what was implied by rows that were left out
            rows.E, rows.sides, self.source = whole
            proof = self.proof()
        if proof is None:
            raise ArgumentError(
                "rounding errors leave no proof that the set within low and high is invariant",
                "give a limit at zero a margin, or end the plan at the origin",
            )
        y, x = self.y[self.source[:, 0]], self.x
        E, reach = np.zeros((len(rows.E), self.n)), np.full(self.n, np.inf)
        E[:, self.seen] = in_units(rows.E, -y, -x)
        reach[self.seen] = np.ldexp(rows.reach, x)
        around = np.zeros((2, self.n, len(E)))
        around[:, self.seen] = np.ldexp(proof[2], x[:, None] - y)
        high, low = np.ldexp(rows.sides[:, 0], y), -np.ldexp(rows.sides[:, 1], y)
        ahead = np.ldexp(proof[0], y[:, None] - y)
        within = np.ldexp(proof[1], self.y[:, None] - y)
        return InvariantSet(E, low, high, self.source, self.steps, reach, ahead, within, around)

    def proof(self) -> tuple[Array, Array, Array] | None:
        """Multipliers that the set is invariant, within the limits, and bounded."""
        rows, r = self.rows, len(self.rows.E)
        around = rows.bound()
        if around is None:
            rows.reach[:], around = np.inf, np.zeros((2, len(self.seen), r))
        places = {(int(i), int(t)): j for j, (i, t) in enumerate(self.source)}
        ahead, within = np.zeros((2, r, r)), np.zeros((2, self.k, r))
        todo = [
            (ahead, rows.E, rows.sides, self.source + np.array([0, 1]), self.A),
            (within, self.C, self.limits, np.argwhere(np.ones((self.k, 1))), None),
        ]
        for proof, E, limits, wanted, A in todo:
            for j, (g, sides) in enumerate(zip(E, limits, strict=True)):
                place = places.get((int(wanted[j][0]), int(wanted[j][1])))
                for side in _limited(sides):
                    if sides.any():
                        y = rows.implied(g, sides[side], A, guess=place, side=side)
                    else:
                        y = rows.adds_up(g, A, side=side)
                    if y is None:
                        return None
                    proof[side, j] = y
        return ahead, within, around


def _limited(sides: Array) -> list[int]:
    """The sides of a row that have a limit."""
    return [side for side in (0, 1) if np.isfinite(sides[side])]
