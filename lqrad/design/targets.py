"""Set-points: the steady state that holds a reference, or the nearest one where none does.

    x_ref = A x_ref + B u_ref + c,    H x_ref + G u_ref = r

Of all such states that of the least |u_ref| is taken. Two things may be in the way. Where the plant has
fewer inputs than tracked outputs, or a zero at z = 1, some references have no steady state: the nearest
r - e that has one makes the least 1/2 d'Q d with H d = e, the price of an error in the cost's own
metric. And where (x_ref, u_ref) is beyond limits, the steady state within them that is the best to
stand in takes its place, that of the least

    1/2 [d; v]'[Q M; M' R][d; v],    d = x - x_ref,  v = u - u_ref,

which is what each step costs there, for ever. What the cost does not weigh at all has 1e-10 of its
largest weight here, in units of the problem's own.

References
----------
Rao and Rawlings, Steady states and constraints in model predictive control, AIChE Journal 45 (1999),
1266-1278.
Rawlings, Bonne, Jorgensen, Venkat and Jorgensen, Unreachable setpoints in model predictive control, IEEE
Transactions on Automatic Control 53 (2008), 2209-2215.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr, solve_triangular

from lqrad.arguments import (
    EPS,
    Array,
    check_finite,
    check_limits,
    check_shape,
    frozen_array,
    renamed,
    shape_message,
)
from lqrad.copies import ReadOnly
from lqrad.design.controller import Pair
from lqrad.design.observer import discrete_plant
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, ShapeError
from lqrad.linalg.balance import balance, in_units
from lqrad.linalg.nearest import nearest
from lqrad.lq.problem import LQProblem, units_of
from lqrad.lq.riccati import cost_factor
from lqrad.lq.rows import excess

# Singular values below this part of the largest count as zero, rows and columns of unit length; and
# what the cost weighs less than this beside the rest.
_RANK = 1e-10
# An excess of a row beside the terms that add up to it that counts as none.
_SLACK = 1e3 * EPS
# Where no steady state keeps the limits: how far each gives way for a multiplier of one.
_GIVE = 1e-8
_MOST_STEPS = 1000


@renamed(tracked="H")
def steady_state_targets(
    plant: StateSpace,
    reference: ArrayLike,
    *,
    H: ArrayLike | None = None,
    input_bounds: Pair | None = None,
) -> tuple[Array, Array]:
    """Return the steady state in which the tracked outputs are at a reference.

        x_ref = A x_ref + B u_ref,    H x_ref + G u_ref = r

    Parameters
    ----------
    plant : StateSpace
        In discrete time.
    reference : (nr,)
        r.
    H : (nr, n), optional
        With G = 0; the plant's outputs C x + D u when not given.
    input_bounds : pair (low, high), optional
        Limits within which u_ref must be.

    Returns
    -------
    x_ref, u_ref : (n,), (m,)
        Of all such states, the one with the least |u_ref|.

    Raises
    ------
    ArgumentError
        If no steady state holds the reference, or its input is outside the limits: names both.

    See Also
    --------
    lqi : an integrator, which needs no exact model.
    simulate_closed_loop : follows references.

    Examples
    --------
    >>> plant = StateSpace([[0.9]], [[0.1]], dt=0.1)
    >>> steady_state_targets(plant, [2.0])
    (array([2.]), array([2.]))
    """
    plant = discrete_plant(plant)
    H, G = tracked_outputs(plant, H)
    r = np.atleast_1d(frozen_array("reference", reference))
    check_shape("reference", r, (len(H),), "one number for each tracked output", symbols="(nr,)")
    steady = _steady(plant.A, plant.B, H, G)
    with np.errstate(over="ignore", invalid="ignore"):
        own, target = r / steady.unit[plant.n :], steady.N[:, plant.n :] @ r
    check_finite("reference in units of the tracked outputs", own, computed=True)
    missed, wrong = _missed(steady.unheld, own)
    if wrong.any():
        direction = steady.unheld[int(np.where(wrong, np.abs(missed), -1.0).argmax())]
        raise ArgumentError(*_not_held(direction, steady.unit[plant.n :], r))
    check_finite("the steady state", target, computed=True)
    x_ref, u_ref = target[: plant.n], target[plant.n :]
    low, high = check_limits("input_bounds", input_bounds, (plant.m,))
    beyond = excess(u_ref, low, high)
    if (beyond > 1e-9 * np.abs(u_ref)).any():
        i = int(beyond.argmax())
        raise ArgumentError(
            f"reference {r} needs the constant input u[{i}] = {u_ref[i]:.6g}, which is outside its "
            f"limits {low[i]:.6g} to {high[i]:.6g}",
            "ask for less, or for a stronger actuator",
        )
    return x_ref, u_ref


def steady_states(plant: StateSpace, H: Array, G: Array | None = None) -> Array:
    """Return N (n + m, nr): the steady state with H x + G u = r is N r, for every r.

    Raises
    ------
    ArgumentError
        If some reference has none; names it.
    """
    steady = _steady(plant.A, plant.B, H, np.zeros((len(H), plant.m)) if G is None else G)
    if len(steady.unheld):
        raise ArgumentError(*_not_held(steady.unheld[0], steady.unit[plant.n :]))
    return steady.N[:, plant.n :]


class _Steady(NamedTuple):
    """What solves A x - x + B u = a and H x + G u = r, and what has no solution.

    Attributes
    ----------
    N : (n + m, n + nr)
        (x, u) = N (a, r), right wherever there is a solution.
    blind : (k, n + nr)
        Directions of (a, r) / unit without one, and `unheld` (j, nr) those of r alone.
    unit : (n + nr,)
    """

    N: Array
    blind: Array
    unheld: Array
    unit: Array


def _steady(A: Array, B: Array, H: Array, G: Array) -> _Steady:
    """The steady states of a plant. Ranks are decided in balanced units of states, inputs and outputs."""
    n, m = B.shape
    Z = np.block([[A - np.eye(n), B], [H, G]])
    units = balance(np.zeros((n + m, n + m)), C=Z)
    left, values, right = np.linalg.svd(in_units(Z, units.y, units.x))
    rank = int((values > _RANK * values[0]).sum())
    solution = (right[:rank].T / values[:rank]) @ left[:, :rank].T
    # Of all solutions, that with the least input: along what of the freedom has a part in inputs.
    _, parts, turn = np.linalg.svd(right[rank:, n:].T, full_matrices=False)
    freedom = right[rank:].T @ turn[parts > _RANK].T
    solution, freedom = (
        in_units(z, -units.x, np.zeros(z.shape[1], np.int64)) for z in (solution, freedom)
    )
    solution = _without(solution, freedom, slice(n, None))
    blind = left[:, rank:].T
    _, sizes, directions = np.linalg.svd(blind[:, n:])
    N = in_units(solution, np.zeros(n + m, np.int64), -units.y)
    check_finite("the steady state of a reference", N, computed=True)
    unheld = directions[: int((sizes > _RANK).sum())]
    return _Steady(N, blind, unheld, np.ldexp(0.5, units.y))


def _missed(blind: Array, own: Array) -> tuple[Array, NDArray[np.bool_]]:
    """How far along each direction a right side is without a solution, and where by more than rounding."""
    missed = own @ blind.T
    wrong = np.abs(missed) > _RANK * (np.abs(own) @ np.abs(blind).T)
    return missed, wrong


def _without(solution: Array, freedom: Array, rows: slice) -> Array:
    """The solution minus that combination of the freedom which minimises the norm of these rows.

    Householder's reflections are stable row by row where the largest rows come first. Cancellation in
    a row leaves rounding errors of the former entries, which are removed by the next rounds.
    """
    if not freedom.shape[1]:
        return solution
    order = np.argsort(-np.abs(freedom[rows]).max(axis=1), kind="stable")
    Q, R, columns = qr(freedom[rows][order], mode="economic", pivoting=True)
    for _ in range(3):
        combination = solve_triangular(R, Q.T @ solution[rows][order])
        solution = solution - freedom[:, columns] @ combination
    return solution


def _not_held(direction: Array, unit: Array, r: Array | None = None) -> tuple[str, str]:
    """Why a reference has no steady state, or why some have none; and what to try."""
    scaled = direction / unit / (direction / unit)[np.abs(direction / unit).argmax()]
    seen = np.abs(direction) > 1e-6 * np.abs(direction).max()
    terms = [f"{c:.4g} r[{i}]" for i, c in enumerate(scaled) if seen[i]]
    found = "" if r is None else f", expected 0, and is {float(scaled @ r):.4g}"
    return (
        f"no steady state holds every reference: {' + '.join(terms)} is 0 in all of them{found}; "
        "the plant has a zero at z = 1 there, or fewer inputs than tracked outputs",
        "track less",
    )


def tracked_outputs(plant: StateSpace, H: ArrayLike | None) -> tuple[Array, Array]:
    """Return H, G of what follows the reference, H x + G u: the plant's outputs, or the rows given."""
    if H is None:
        return plant.C, plant.D
    H = frozen_array("H", H)
    if H.ndim != 2 or H.shape[1] != plant.n or not len(H):
        raise ShapeError(shape_message("H", H.shape, f"(nr, n) with n = {plant.n}", ""))
    return H, np.zeros((len(H), plant.m))


class Target(NamedTuple):
    """Steady states to go to, one for each of K references, and what is to be said of them.

    Attributes
    ----------
    x, u : (K, n), (K, m)
    missed : (K, nr)
        r - H x, zero where the reference can be held.
    drift : (K, n)
        A x + B u + c - x: not zero where nothing holds the plant still.
    words : list of K str
        Why the reference cannot be held; empty where it can.
    """

    x: Array
    u: Array
    missed: Array
    drift: Array
    words: list[str]


class Targets(ReadOnly):
    """The best steady states of a problem, for any reference and offset.

    Parameters
    ----------
    problem : LQProblem
        Where it varies in time, its last stage counts.
    H : (nr, n)
    rows, low, high : (k, n + m), (k,), (k,)
        Limits of rows of (x, u).
    names : sequence of k str
        What a message calls the rows.

    Examples
    --------
    A heater of at most 3 kW that is asked for 4 degrees, and one degree for each kW:

    >>> problem = LQProblem([[0.9]], [[0.1]], [[1.0]], [[0.01]])
    >>> power, most = np.array([[0.0, 1.0]]), np.array([3.0])
    >>> targets = Targets(problem, np.ones((1, 1)), power, -most, most, ["u[0]"])
    >>> found = targets.of(np.array([[4.0]]), np.zeros((1, 1)))
    >>> found.x.round(12), found.missed.round(12), found.words
    (array([[3.]]), array([[1.]]), ['u[0] at its limit 3'])
    """

    def __init__(
        self,
        problem: LQProblem,
        H: Array,
        rows: Array,
        low: Array,
        high: Array,
        names: Sequence[str],
    ) -> None:
        unit = cost_factor(problem)
        self.A, self.B, self.Q, self.R, self.M = (
            z if z.ndim == 2 else z[-1]
            for z in (problem.A, problem.B, *(unit * z for z in (problem.Q, problem.R, problem.M)))
        )
        there = np.flatnonzero(rows.any(axis=1))
        self.H, self.rows, self.low, self.high = H, rows[there], low[there], high[there]
        self.names = [names[int(i)] for i in there]
        self._units, self._known = units_of(problem), dict[bytes, tuple[Array, str]]()
        self._steady = _steady(self.A, self.B, H, np.zeros((len(H), problem.m)))

    def of(self, r: Array, c: Array) -> Target:
        """Return the targets of references r (K, nr) under offsets c (K, n)."""
        n, steady = len(self.A), self._steady
        b = np.concatenate([-c, r], axis=1)
        own = b / steady.unit
        check_finite("reference in units of the tracked outputs", own, computed=True)
        z = b @ steady.N.T
        check_finite("the steady state", z, computed=True)
        _, wrong = _missed(steady.blind, own)
        g, slack = self._rows_of(z)
        beyond = (excess(g, self.low, self.high) > slack).any(axis=1)
        missed, drift, words = np.zeros(r.shape), np.zeros(c.shape), [""] * len(r)
        found = {}
        for k in np.flatnonzero(wrong.any(axis=1) | beyond):
            key = b[k].tobytes()
            found[key] = z[k], words[k] = self._known.get(key) or self._nearest(b[k])
            missed[k] = r[k] - self.H @ z[k, :n] if words[k] else 0.0
        self._known = found  # of references that go on, the next step needs them again
        for k in np.flatnonzero(wrong.any(axis=1)):
            drift[k] = self._drift(z[k], c[k])
        return Target(z[:, :n], z[:, n:], missed, drift, words)

    def _nearest(self, b: Array) -> tuple[Array, str]:
        """The steady state (x, u) nearest to one with the right side b = (-c, r), and why no other."""
        n, steady, words = len(self.A), self._steady, []
        missed, wrong = _missed(steady.blind, b / steady.unit)
        if wrong.any():
            held = b.copy()
            held[n:] -= self._nearest_held(np.where(wrong, missed, 0.0))
            still = np.array_equal(held, b)
            words.append("no steady state at all" if still else f"no steady state has {b[n:]}")
            b = held
        z, at_limits = self._within(steady.N @ b)
        return z, ", ".join(words + at_limits)

    def _drift(self, z: Array, c: Array) -> Array:
        """What x moves by in a step; zero where it is no more than rounding errors."""
        n = len(self.A)
        terms = np.abs(self.A) @ np.abs(z[:n]) + np.abs(self.B) @ np.abs(z[n:]) + np.abs(c)
        drift = self.A @ z[:n] + self.B @ z[n:] + c - z[:n]
        return np.where(np.abs(drift) > _RANK * (terms + np.abs(z[:n])), drift, 0.0)

    def _nearest_held(self, missed: Array) -> Array:
        """The change e of a reference of least price that leaves these parts with a solution."""
        n = len(self.A)
        unit = self._steady.unit[n:]
        Q = in_units(self.Q, -self._units.x, self._units.x)
        H = np.ldexp(self.H, self._units.x) / unit[:, None]
        price = H @ _inverse_root(Q)  # of an error e = price d the price is 1/2 |d|^2
        d = np.linalg.lstsq(self._steady.blind[:, n:] @ price, missed, rcond=_RANK)[0]
        return np.asarray(unit * (price @ d))

    @cached_property
    def _freedom(self) -> Array:
        """F (n + m, f): with z + F w all steady states from z, at a cost of 1/2 |w|^2 beside it."""
        n = len(self.A)
        units = np.concatenate([self._units.x, self._units.u])
        still = in_units(np.hstack([self.A - np.eye(n), self.B]), self._units.x, units)
        _, values, right = np.linalg.svd(still)
        F = right[int((values > _RANK * values[0]).sum()) :].T
        F = F * (np.linalg.norm(F, axis=1) > _RANK)[:, None]  # else it is rounding errors
        weight = np.block([[self.Q, self.M], [self.M.T, self.R]])
        root = np.linalg.pinv(_inverse_root(in_units(weight, -units, units)))
        R = np.linalg.qr(root @ F)[1]
        w = solve_triangular(R, F.T, trans="T").T
        return in_units(w, -units, np.zeros(w.shape[1], np.int64))

    def _rows_of(self, z: Array) -> tuple[Array, Array]:
        """The limited rows of steady states (..., n + m), and an excess of each that counts as none."""
        limits = [np.where(np.isfinite(end), np.abs(end), 0.0) for end in (self.low, self.high)]
        terms = np.abs(z) @ np.abs(self.rows).T
        return z @ self.rows.T, _SLACK * np.maximum(terms, np.maximum(*limits))

    def _within(self, z: Array) -> tuple[Array, list[str]]:
        """The best steady state (x, u) within limits, beside z; and which limits are in the way."""
        g, slack = self._rows_of(z)
        if not (excess(g, self.low, self.high) > slack).any():
            return z, []
        F = self._freedom
        rows = self.rows @ F
        size = np.linalg.norm(rows, axis=1)
        moved = size > _RANK * (np.abs(self.rows) @ np.linalg.norm(F, axis=1))
        size = np.where(moved, size, 1.0)
        low, high = (
            np.where(moved, (end - g) / size, none)
            for end, none in ((self.low, -np.inf), (self.high, np.inf))
        )
        words = []
        for give in (0.0, _GIVE):
            found = nearest(
                rows * np.where(moved, 1 / size, 0.0)[:, None],
                low,
                high,
                give=np.full(len(size), give),
                slack=slack / size,
                rounding=np.full(len(size), EPS),
                refutes=lambda proof: True,
                start=np.zeros(len(size)),
                max_iter=_MOST_STEPS,
            )
            if found.proof is None:
                break
            words = ["no steady state is within the limits"]
        z = z + F @ found.w
        for i in np.flatnonzero(found.y):
            limit = self.high[i] if found.y[i] > 0 else self.low[i]
            words.append(f"{self.names[i]} at its limit {limit:.6g}")
        if (excess(self.rows @ z, self.low, self.high) > slack)[~moved].any() and not words:
            words = ["no steady state is within the limits"]
        return z, words


def _inverse_root(weight: Array) -> Array:
    """X with X X' = weight^-1, of a weight whose eigenvalues are at least a little."""
    values, vectors = np.linalg.eigh(weight)
    return np.asarray(vectors / np.sqrt(np.maximum(values, _RANK * (values[-1] or 1.0))))
