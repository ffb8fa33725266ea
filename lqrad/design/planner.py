"""A model with its limits, made ready for plans from any state around any references.

With limits on rates, weights on them, or inputs that are held over several steps, the input of the step
before is part of the state: the problem and the rows of limits are those of (x[t], u[t-1]). Where an
input is held, u[t] = u[t-1] takes its place, and what is left of it neither moves nor limits anything.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array, check_finite
from lqrad.copies import ReadOnly
from lqrad.design.limits import Layout
from lqrad.design.references import Ahead, Around, around
from lqrad.design.targets import Targets
from lqrad.errors import ArgumentError
from lqrad.lq.condensed import Bounds, Condensed, States, Step, Steps, is_short
from lqrad.lq.dare import dare
from lqrad.lq.limits import Limited
from lqrad.lq.plan import Plan, shifted
from lqrad.lq.problem import LQProblem, changed, units_of


class _Frame(NamedTuple):
    """What plans have in common of which the same is known ahead.

    Attributes
    ----------
    ahead : Ahead
    ref : Around
    x0 : (n,) or (n+m,)
        What is taken from the state that a plan starts from.
    c : (T, n) or (T, n+m), or None
        Constant part of the dynamics, where it is not zero.
    beside : (T, k+j)
        What is taken from the limits.
    low, high : (T, k+j)
    centred : bool
        Whether plans are made around zero.
    """

    ahead: Ahead
    ref: Around
    x0: Array
    c: Array | None
    beside: Array
    low: Array
    high: Array
    centred: bool


class _FrameBounds(NamedTuple):
    """What condensed rows make of a frame."""

    frame: _Frame
    tol: float
    bounds: Bounds
    offset: Array | None


class Planner(ReadOnly):
    """The maps of a model: what depends neither on the state nor on references.

    Parameters
    ----------
    problem : LQProblem
        Where it has no terminal weight, its own attribute `problem` has that of `dare`.
    T : int
    layout : Layout
        The rows that have limits.
    H : (nr, n), optional
        The outputs H x follow a reference.
    rate_weight : (m, m), optional
        Of the change of the inputs.
    free : (T,) of bool, optional
        Where inputs are not held.
    S : (N, N), optional
        Terminal weight of the states (x, u) that a varying problem without one has.
    """

    def __init__(
        self,
        problem: LQProblem,
        T: int,
        layout: Layout,
        H: Array | None,
        rate_weight: Array | None = None,
        free: NDArray[np.bool_] | None = None,
        S: Array | None = None,
    ) -> None:
        n, m, C, D, E = problem.n, problem.m, layout.C, layout.D, layout.E
        self.T, self.layout, self.free = T, layout, free
        of_rates = C.shape[-1] > n
        self.with_input = of_rates or rate_weight is not None or free is not None
        self.S_given = problem.S_given
        full = with_last_input(problem, rate_weight) if self.with_input else problem
        if not problem.S_given:
            if problem.T is None:
                some = problem if rate_weight is None else full
                S = dare(some.A, some.B, some.Q, some.R, M=some.M)
                S = S if len(S) == full.n else _padded(S, m, m)
            if S is None:
                raise ArgumentError(
                    "problem varies in time and S is not given: no stationary solution takes its place",
                    "pass the terminal weight S",
                )
            full, problem = changed(full, S=S), problem.replace(S=S[:n, :n])
        self.problem, self.full = problem, full
        if self.with_input and not of_rates:
            C, E = (_padded(z, 0, m) for z in (C, E))
        limited = np.isfinite(layout.low) | np.isfinite(layout.high)
        if free is not None:
            full, C, D = _held(full, C, D, free)
            inside = (layout.low <= 0) & (layout.high >= 0)
            limited[:, : D.shape[-2]] &= C.any(axis=-1) | D.any(axis=-1) | ~inside[:, : D.shape[-2]]
        self.limited = Limited(
            full,
            T,
            C,
            D,
            E,
            soft=layout.soft,
            prices=layout.prices,
            names=layout.names,
            limited=limited,
        )
        self.targets = None if H is None else self._targets(H)
        self._has_terms = any(getattr(problem, name).any() for name in "cqrs")

    def _targets(self, H: Array) -> Targets:
        """The steady states within the limits of the last stage, where the input before is the input."""
        layout, n = self.layout, self.problem.n
        C, D, E = (z if z.ndim == 2 else z[-1] for z in (layout.C, layout.D, layout.E))
        of_x, of_u = np.concatenate([C, E]), np.concatenate([D, np.zeros((len(E), D.shape[1]))])
        rows = np.hstack([of_x[:, :n], of_u + of_x[:, n:] if of_x.shape[1] > n else of_u])
        rows[layout.from_target] = 0.0
        ends = layout.low[-1], layout.high[-1]
        return Targets(self.problem, H, rows, *ends, layout.names)

    def rows(self, x: Array, u: Array, u_before: Array, ref: Around) -> Array:
        """The limited rows (T, k+j) of states and inputs: of the distance to the target where asked."""
        if self.with_input:
            x = np.hstack([x, np.vstack([u_before, u])])
        g = self.limited.rows.at(x, u)
        return g - np.where(self.layout.from_target, self._beside(ref), 0.0)

    def cost(self, x: Array, u: Array, u_before: Array, ref: Around) -> float:
        """The cost of states and inputs beside the references."""
        z, v = x - ref.x, u - ref.u[:-1]
        if self.with_input:
            z = np.hstack([z, np.vstack([u_before, u]) - ref.u])
        return float(self.full.cost(z, v))

    def _beside(self, ref: Around) -> Array:
        """The limited rows of what a plan is made around."""
        x = np.hstack([ref.x, ref.u]) if self.with_input else ref.x
        return self.limited.rows.at(x, ref.u[:-1])

    @np.errstate(over="ignore", invalid="ignore")  # looked for in what comes out
    def plan(
        self,
        x: Array,
        u_before: Array,
        ahead: Ahead,
        *,
        y: Array | None,
        max_iter: int,
        tol: float,
    ) -> tuple[Plan, Around]:
        """Return the best trajectory from x, of which y (T, k+j) may be near multipliers.

        It is told what is known ahead; what it was made around comes second.
        """
        n, frame = self.problem.n, self._frame(ahead)
        start, ref = self._start(x, u_before, frame), frame.ref
        check_finite("the state beside the references", start, computed=True)
        limits = frame.low, frame.high
        plan = self.limited.solve(start, *limits, c=frame.c, y=y, max_iter=max_iter, tol=tol)
        u = plan.u + ref.u[:-1]
        if self.free is not None:
            u = u[np.maximum.accumulate(np.where(self.free, np.arange(self.T), 0))]
        message = f"{plan.message}; {ref.words}" if ref.words else plan.message
        plan = replace(
            plan,
            x=plan.x[:, :n] + ref.x,
            u=u,
            p=plan.p[:, :n],
            rows=shifted(plan.rows, frame.beside),
            model=plan.model._replace(
                from_target=self.layout.from_target, blocked=self.free is not None
            ),
            message=message,
            x_ref=ref.x.copy(),
            u_ref=ref.u[:-1].copy(),
            missed=None if ref.missed is None else ref.missed.copy(),
        )
        return plan, ref

    def first(
        self,
        x: Array,
        u_before: Array,
        ahead: Ahead,
        before: States | None,
        max_iter: int,
        tol: float,
    ) -> Step | None:
        """Return the first input of the best trajectory, where condensed rows prove it.

        before holds the states of the rows in the step before.
        """
        if self._condensed is None:
            return None
        known = self._known(ahead, tol)
        step = self._condensed.step(
            self._start(x, u_before, known.frame),
            known.bounds,
            offset=known.offset,
            before=before,
            max_iter=max_iter,
        )
        if step is None or known.frame.centred:
            return step
        return step._replace(u=step.u + known.frame.ref.u[0])

    def firsts(
        self,
        x: Array,
        u_before: Array,
        ahead: Ahead,
        before: States | None,
        max_iter: int,
        tol: float,
    ) -> Steps | None:
        """Return those of many states x (runs, n) after u_before (runs, m); before is (runs, r)."""
        if self._condensed is None:
            return None
        known = self._known(ahead, tol)
        steps = self._condensed.steps(
            self._start(x, u_before, known.frame),
            known.bounds,
            offset=known.offset,
            before=before,
            max_iter=max_iter,
        )
        return steps._replace(u=steps.u + known.frame.ref.u[0])

    def _known(self, ahead: Ahead, tol: float) -> _FrameBounds:
        """What condensed rows make of a frame; made anew where another is asked for."""
        assert self._condensed is not None
        frame = self._frame(ahead)
        for known in self._bounds:
            if known.frame is frame and known.tol == tol:
                return known
        at = self.limited.rows.limited
        bounds = self._condensed.bounds(frame.low[at], frame.high[at], tol)
        offset = None
        if frame.c is not None or self._has_terms:
            offset = self._condensed.offset(self.limited.with_terms(c=frame.c))
        found = _FrameBounds(frame, tol, bounds, offset)
        self._bounds[:] = [found]
        return found

    def formed(
        self,
        x: Array,
        u_before: Array,
        ahead: Ahead,
        y: Array | None,
        max_iter: int,
        tol: float,
    ) -> Plan:
        """Return the plan of which y (r,) are the multipliers that `first` has found."""
        start = None if y is None else self.multipliers(y)
        plan, _ = self.plan(x, u_before, ahead, y=start, max_iter=max_iter, tol=tol)
        return plan

    def multipliers(self, y: Array) -> Array:
        """Those (T, k+j) of all rows, from the ones that `first` has found."""
        assert self._condensed is not None
        return self._condensed.multipliers(y)

    def states(self, y: Array) -> States | None:
        """The states of the rows in a plan of these multipliers (T, k+j)."""
        return None if self._condensed is None else self._condensed.states(y)

    @property
    def way(self) -> str:
        """How steps are taken: by the sizes of horizon and rows."""
        return "on condensed rows" if is_short(self.limited) else "by Riccati sweeps"

    @cached_property
    def _condensed(self) -> Condensed | None:
        return Condensed(self.limited) if is_short(self.limited) else None

    @cached_property
    def _frames(self) -> list[_Frame]:
        """The last one."""
        return []

    @cached_property
    def _bounds(self) -> list[_FrameBounds]:
        """The last ones."""
        return []

    def _frame(self, ahead: Ahead) -> _Frame:
        """What is around a plan; that of the plan before, where the same is known ahead."""
        for known in self._frames:
            if known.ahead is ahead or all(map(_is_same, known.ahead, ahead)):
                return known
        ref = around(self.problem, self.T, ahead, self.targets)
        x0, c = ref.x[0], ref.c
        if self.with_input:
            x0 = np.concatenate([x0, ref.u[0]])
            c = np.hstack([c, ref.u[:-1] - ref.u[1:]])
        beside = np.where(self.layout.from_target, 0.0, self._beside(ref))
        for name, array in (("dynamics", c), ("limits", beside)):
            check_finite(f"the {name} beside the references", array, computed=True)
        given = c if c.any() or self.problem.c.any() else None
        limits = self.layout.low - beside, self.layout.high - beside
        frame = _Frame(ahead, ref, x0, given, beside, *limits, not (ref.x.any() or ref.u.any()))
        self._frames[:] = [frame]
        return frame

    def _start(self, x: Array, u_before: Array, frame: _Frame) -> Array:
        x = np.concatenate([x, u_before], axis=-1) if self.with_input else x
        return x if frame.centred else x - frame.x0


def _is_same(known: Array | None, given: Array | None) -> bool:
    """Whether both are None, or equal."""
    if known is None or given is None:
        return known is given
    return known is given or np.array_equal(known, given)


def with_last_input(problem: LQProblem, rate_weight: Array | None = None) -> LQProblem:
    """The same problem with the input of the step before as further states, and a weight on the change.

    1/2 (u[t] - u[t-1])'W (u[t] - u[t-1]) is W in Q, -W in M and W in R.
    """
    m, lead = problem.m, problem.B.shape[:-2]
    W = np.zeros((m, m)) if rate_weight is None else rate_weight
    wide = {name: _padded(getattr(problem, name), m, m) for name in "AQS"}
    ends = {name: _padded(getattr(problem, name)[..., None, :], 0, m)[..., 0, :] for name in "cqs"}
    M = _padded(problem.M, m, 0)
    wide["Q"][..., -m:, -m:] += W
    M[..., -m:, :] -= W
    B = np.concatenate([problem.B, np.broadcast_to(np.eye(m), (*lead, m, m))], axis=-2)
    return changed(problem, B=B, M=M, R=problem.R + W, **wide, **ends)


def _held(
    full: LQProblem, C: Array, D: Array, free: NDArray[np.bool_]
) -> tuple[LQProblem, Array, Array]:
    """The problem of (x[t], u[t-1]), and its rows C, D, with u[t] = u[t-1] where inputs are not free.

    There the input has a weight alone, of the size of R, and is zero.
    """
    T, m, units = len(free), full.m, units_of(full)
    of = {name: np.array(np.broadcast_to(z, (T, *z.shape[-d:]))) for name, z, d in _stages(full)}
    C, D = (np.array(np.broadcast_to(z, (T, *z.shape[-2:]))) for z in (C, D))
    for t in np.flatnonzero(~free):
        of["Q"][t, -m:, -m:] += of["R"][t]
        of["Q"][t, :, -m:] += of["M"][t]
        of["Q"][t, -m:, :] += of["M"][t].T
        of["q"][t, -m:] += of["r"][t]
        of["A"][t, :, -m:] += of["B"][t]
        C[t, :, -m:] += D[t]
        of["R"][t] = np.diag(np.ldexp(1.0, units.cost - 2 * units.u))
        for z in (of["B"], of["M"], of["r"], D):
            z[t] = 0.0
    return changed(full, **of), C, D


def _stages(problem: LQProblem) -> list[tuple[str, Array, int]]:
    """The arrays of a stage, and how many axes each has."""
    axes = {"A": 2, "B": 2, "Q": 2, "R": 2, "M": 2, "c": 1, "q": 1, "r": 1}
    return [(name, getattr(problem, name), d) for name, d in axes.items()]


def _padded(matrix: Array, rows: int, columns: int) -> Array:
    """A matrix, or each of a series, with so many rows and columns of zeros more."""
    before = [(0, 0)] * (matrix.ndim - 2)
    return np.pad(matrix, [*before, (0, rows), (0, columns)])
