"""A model with its limits, made ready for plans from any state around any references.

With limits on rates, or weights on them, the input of the step before is part of the state: the rows of
limits C, D, E and the weights are those of (x[t], u[t-1]).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lqrad.arguments import Array, check_finite
from lqrad.copies import ReadOnly
from lqrad.design.limits import Layout
from lqrad.design.references import Ahead, Around, around
from lqrad.design.targets import Targets
from lqrad.lq.limits import Limited
from lqrad.lq.plan import Plan, shifted
from lqrad.lq.problem import LQProblem, changed


class Planner(ReadOnly):
    """The maps of a model: what depends neither on the state nor on references.

    Parameters
    ----------
    problem : LQProblem
        With the terminal weight that is used.
    T : int
    layout : Layout
        The rows that have limits.
    H : (nr, n), optional
        The outputs H x follow a reference.
    """

    def __init__(self, problem: LQProblem, T: int, layout: Layout, H: Array | None) -> None:
        self.problem, self.T, self.layout = problem, T, layout
        self.with_input = layout.C.shape[-1] > problem.n  # the input before is part of the state
        self.limited = Limited(
            with_last_input(problem) if self.with_input else problem,
            T,
            layout.C,
            layout.D,
            layout.E,
            soft=layout.soft,
            prices=layout.prices,
            names=layout.names,
            limited=np.isfinite(layout.low) | np.isfinite(layout.high),
        )
        self.targets = None if H is None else self._targets(H)

    def _targets(self, H: Array) -> Targets:
        """The steady states within the limits of the last stage, where the input before is the input."""
        layout, n = self.layout, self.problem.n
        C, D, E = (z if z.ndim == 2 else z[-1] for z in (layout.C, layout.D, layout.E))
        of_x, of_u = np.concatenate([C, E]), np.concatenate([D, np.zeros((len(E), D.shape[1]))])
        rows = np.hstack([of_x[:, :n], of_u + of_x[:, n:] if self.with_input else of_u])
        rows[layout.from_target] = 0.0
        ends = layout.low[-1], layout.high[-1]
        return Targets(self.problem, H, rows, *ends, layout.names)

    def rows(self, x: Array, u: Array, u_before: Array, ref: Around) -> Array:
        """The limited rows (T, k+j) of states and inputs: of the distance to the target where asked."""
        if self.with_input:
            x = np.hstack([x, np.vstack([u_before, u])])
        g = self.limited.rows.at(x, u)
        return g - np.where(self.layout.from_target, self._beside(ref), 0.0)

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
        n, ref = self.problem.n, around(self.problem, self.T, ahead, self.targets)
        start, c = x - ref.x[0], ref.c
        if self.with_input:
            start = np.concatenate([start, u_before - ref.u[0]])
            c = np.hstack([c, ref.u[:-1] - ref.u[1:]])
        beside = np.where(self.layout.from_target, 0.0, self._beside(ref))
        for name, array in (("dynamics", c), ("limits", beside), ("state", start)):
            check_finite(f"the {name} beside the references", array, computed=True)
        plan = self.limited.solve(
            start,
            self.layout.low - beside,
            self.layout.high - beside,
            c=c if c.any() or self.problem.c.any() else None,
            y=y,
            max_iter=max_iter,
            tol=tol,
        )
        message = f"{plan.message}; {ref.words}" if ref.words else plan.message
        plan = replace(
            plan,
            x=plan.x[:, :n] + ref.x,
            u=plan.u + ref.u[:-1],
            p=plan.p[:, :n],
            rows=shifted(plan.rows, beside),
            message=message,
            x_ref=ref.x.copy(),
            u_ref=ref.u[:-1].copy(),
            missed=None if ref.missed is None else ref.missed.copy(),
        )
        return plan, ref


def with_last_input(problem: LQProblem) -> LQProblem:
    """The same problem with the input of the step before as further states."""
    m, added = (
        problem.m,
        np.broadcast_to(np.eye(problem.m), (*problem.B.shape[:-2], *[problem.m] * 2)),
    )
    wide = {name: _padded(getattr(problem, name), m, m) for name in "AQS"}
    ends = {name: _padded(getattr(problem, name)[..., None, :], 0, m)[..., 0, :] for name in "cqs"}
    of_both = {"B": np.concatenate([problem.B, added], axis=-2), "M": _padded(problem.M, m, 0)}
    return changed(problem, **wide, **ends, **of_both)


def _padded(matrix: Array, rows: int, columns: int) -> Array:
    """A matrix, or each of a series, with so many rows and columns of zeros more."""
    before = [(0, 0)] * (matrix.ndim - 2)
    return np.pad(matrix, [*before, (0, rows), (0, columns)])
