"""Whether plans that recede can go on for ever: the end of a plan, and what it is worth.

A plan of T steps that ends in a set O goes on by one step under u = -K x where

    x in O   implies   (A - B K) x in O,   C x - D K x within its limits,   E (A - B K) x within its limits

Then all but its first step, and this one, are a plan of the state that comes next: from a state whose
plan keeps all limits, those of all later states do.

References
----------
Mayne, Rawlings, Rao and Scokaert, Constrained model predictive control: stability and optimality,
Automatica 36 (2000), 789-814, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.design.invariant import InvariantSet, invariant_set, is_invariant
from lqrad.design.limits import Layout
from lqrad.errors import ArgumentError, LqradError
from lqrad.lq.dare import dlqr
from lqrad.lq.problem import LQProblem
from lqrad.results import Report


@dataclass(frozen=True, eq=False, repr=False)
class Feasibility(Report):
    """Whether, once a plan keeps all limits, those of all later states do: proven, or not known.

    It is of the model as it is, without disturbances, and of rows without a price.

    Attributes
    ----------
    recursive : bool
        Whether it is proven.
    reason : str
        By what, or what is missing.
    """

    recursive: bool
    reason: str

    def __repr__(self) -> str:
        word = "recursively feasible" if self.recursive else "not known"
        return f"<Feasibility: {word}: {self.reason}>"


def feasibility(
    problem: LQProblem, layout: Layout, *, tracks: bool, blocked: bool = False
) -> Feasibility:
    """Return what is known of plans within these limits, as they recede.

    It `tracks` with a reference, and is `blocked` where inputs are held over several steps.
    """
    layout = _hard(layout)
    now, n = layout.C.shape[-2], problem.n
    constant = all(z.ndim == 2 for z in (layout.C, layout.D, layout.E)) and _constant(layout, now)
    if not layout.names:
        return Feasibility(True, "nothing is limited, or at a price alone")
    if blocked:
        what = "inputs are held in blocks, and a plan that is moved on by a step has other ones"
        return Feasibility(False, what)
    has_rates = layout.C.shape[-1] > n
    if not layout.C[..., :n].any() and not layout.E.any():
        if not has_rates:
            return Feasibility(True, "nothing limits the states")
        on_rate = layout.C.any(axis=-1).reshape(-1, now).any(axis=0)
        held = (layout.low[0, :now] <= 0) & (layout.high[0, :now] >= 0) | ~on_rate
        if constant and held.all():
            return Feasibility(True, "nothing limits the states, and the last input can be held")
    if not constant or problem.T is not None:
        what = "problem varies" if constant else "limits vary"
        return Feasibility(False, f"the {what} over the horizon")
    if problem.c.any():
        return Feasibility(False, "the problem has c, so that the origin is no steady state")
    ends = _ends(layout, now)
    if not ends.any():
        return Feasibility(False, "the last state is free; terminal='invariant' makes it known")
    try:
        loop, C, low, high = _closed(problem, layout, ~ends)
    except LqradError as error:
        return Feasibility(False, f"there is no terminal controller: {error.what}")
    last = layout.low[-1, now:][ends], layout.high[-1, now:][ends]
    if not is_invariant(layout.E[ends], *last, loop, C, low, high):
        return Feasibility(
            False, "the terminal set is not proven to be invariant and within the other limits"
        )
    of = ""
    if tracks and layout.from_target.any():
        of = ", while the reference is constant and its steady state is within the limits"
    return Feasibility(
        True, f"the terminal set is invariant and within the other limits under dlqr{of}"
    )


def terminal_set(problem: LQProblem, layout: Layout) -> InvariantSet:
    """Return the largest set in which `dlqr` keeps all limits of a horizon, for ever.

    Raises
    ------
    ArgumentError
        If the limits vary in time, the problem has a c, or there is no such set.
    """
    layout = _hard(layout)
    now = layout.C.shape[-2]
    if any(z.ndim == 3 for z in (layout.C, layout.D, layout.E)) or not _constant(layout, now):
        raise ArgumentError(
            "terminal is 'invariant' and the limits vary over the horizon: beyond it they are unknown",
            "give a terminal Limit",
        )
    if problem.T is not None:
        raise ArgumentError(
            "terminal is 'invariant' and the problem varies in time: beyond the horizon it is unknown",
            "give a terminal Limit",
        )
    if problem.c.any():
        raise ArgumentError(
            "terminal is 'invariant' and the problem has c: the origin is no steady state",
            "state the problem in x - x_ref and u - u_ref, around its steady state",
        )
    loop, C, low, high = _closed(problem, layout, np.ones(layout.E.shape[-2], bool))
    outside = np.flatnonzero((low > 0) | (high < 0))
    if len(outside):
        i = outside[0]
        raise ArgumentError(
            f"terminal is 'invariant' and {layout.names[i]} has the limits {low[i]:.6g} and "
            f"{high[i]:.6g}, which leave out the origin, where the loop ends",
            "state the problem in x - x_ref and u - u_ref, around its steady state",
        )
    try:
        return invariant_set(loop, C, low, high)
    except ArgumentError as error:
        raise error.within("terminal is 'invariant'") from None


def _hard(layout: Layout) -> Layout:
    """The rows without a price: the others can always be exceeded."""
    kept, now = layout.prices.hard, layout.C.shape[-2]
    return layout._replace(
        C=layout.C[..., kept[:now], :],
        D=layout.D[..., kept[:now], :],
        E=layout.E[..., kept[now:], :],
        low=layout.low[:, kept],
        high=layout.high[:, kept],
        names=[name for name, hard in zip(layout.names, kept, strict=True) if hard],
        from_target=layout.from_target[kept],
    )


def _constant(layout: Layout, now: int) -> bool:
    """Whether limits are the same at all stages, but for those of the last state."""
    kept = np.concatenate([np.ones(now, bool), ~_ends(layout, now)])
    return all(bool((z[:, kept] == z[0, kept]).all()) for z in (layout.low, layout.high))


def _ends(layout: Layout, now: int) -> NDArray[np.bool_]:
    """Which rows E have limits at the last stage alone."""
    free = np.isinf(layout.low[:-1, now:]) & np.isinf(layout.high[:-1, now:])
    return np.asarray(free.all(axis=0))


def _closed(
    problem: LQProblem, layout: Layout, kept: NDArray[np.bool_]
) -> tuple[Array, Array, Array, Array]:
    """The loop under `dlqr`, and its limited rows; the last input is a state where these have it."""
    n, now = problem.n, layout.C.shape[-2]
    K, _, _ = dlqr(problem.A, problem.B, problem.Q, problem.R, M=problem.M)
    width = layout.C.shape[-1]
    gain, loop = np.zeros((problem.m, width)), np.zeros((width, width))
    gain[:, :n], loop[:n, :n] = K, problem.A - problem.B @ K
    loop[n:] = -gain[: width - n]
    C = np.concatenate([layout.C - layout.D @ gain, layout.E[kept]])
    rows = np.concatenate([np.ones(now, bool), kept])
    return loop, C, layout.low[0, rows], layout.high[0, rows]
