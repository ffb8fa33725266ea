"""Inputs that keep their bounds, for plans that do not: those of a search that was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.design.planner import Planner
from lqrad.design.references import Around
from lqrad.lq.plan import Plan
from lqrad.lq.problem import changed
from lqrad.lq.rows import excess

Bounds = tuple[Array, Array]


class InputBounds(NamedTuple):
    """Bounds (T, m) of inputs and of their changes, and the steps (T,) at which inputs are not held.

    Examples
    --------
    >>> ones = np.ones((3, 1))
    >>> bounds = InputBounds((-ones, ones), (-0.4 * ones, 0.4 * ones), np.array([True, False, True]))
    >>> bounds.of(5 * ones, np.zeros(1)).ravel()
    array([0.4, 0.4, 0.8])
    """

    input: Bounds
    rate: Bounds
    free: NDArray[np.bool_] | None
    of_rates: bool = True

    def clipped(self, u: Array, before: Array, t: int) -> Array:
        """The input nearest to u that keeps its bounds, and its rate's where both can be kept."""
        if self.of_rates:
            u = _within(u, before + self.rate[0][t], before + self.rate[1][t])
        return _within(u, self.input[0][t], self.input[1][t])

    def of(self, wanted: Array, before: Array) -> Array:
        """The inputs (T, m) near others that keep the bounds, one after the other."""
        u = np.empty_like(wanted)
        for t in range(len(u)):
            if self.free is None or self.free[t]:
                before = self.clipped(wanted[t], before, t)
            u[t] = before
        return u

    def beyond(self, u: Array, before: Array, tol: float) -> bool:
        """Whether an input or a change is beyond its bounds by more than this part of them."""
        for values, bounds in (
            (u, self.input),
            (np.diff(u, axis=0, prepend=before[None]), self.rate),
        ):
            sizes = [np.where(np.isfinite(z), np.abs(z), 0.0) for z in bounds]
            if (excess(values, *bounds) > tol * np.maximum(*sizes).max(axis=0)).any():
                return True
        return False


def _within(u: Array, low: Array, high: Array) -> Array:
    """The same as `np.clip`, for small arrays in less time."""
    return np.asarray(np.minimum(np.maximum(u, low), high))


def kept(
    plan: Plan,
    x0: Array,
    u_before: Array,
    others: Sequence[Array],
    ref: Around,
    maps: Planner,
    bounds: InputBounds,
    tol: float,
) -> Plan:
    """Return the best of several trajectories: the inputs of a plan, and others, within their bounds.

    Other rows beyond their limits are weighed by their prices, or else by springs. They are simulated,
    so that the cost is that of the inputs. Where the last input is so far outside of the bounds that no
    change within its own bounds brings it back, the change exceeds them.
    """
    layout, limited = maps.layout, maps.limited
    problem = changed(maps.problem, c=ref.offset)
    found = []
    for wanted in (plan.u, *others):
        u = bounds.of(wanted, u_before)
        x = problem.simulate(x0, u)
        g = maps.rows(x, u, u_before, ref)
        beyond = excess(g, layout.low, layout.high)
        if not bounds.beyond(u, u_before, tol):
            beyond[:, : layout.clipped] = 0.0  # but for rounding errors
        weights = limited.weighed(beyond)
        paid = float(layout.prices.of(beyond).sum())
        cost = maps.cost(x, u, u_before, ref)
        found.append((cost + float(weights.sum()), cost + paid, beyond, weights, g, x, u))
    _, cost, beyond, weights, g, x, u = min(found, key=lambda z: z[0])
    word, _, reason = plan.status.value.partition(": ")
    message = f"{word} after {plan.iterations} step{'s' * (plan.iterations != 1)}; {reason}; "
    message += f"inputs within their bounds cost {cost:.6g}"
    gap = np.inf  # no inputs keep all of their bounds: there is no minimum
    if not beyond[:, : layout.clipped].any():
        gap = max(plan.gap_bound + cost - plan.cost, 0.0)
        message += f", at most {gap:.1g} above the minimum"
    most = 0.0
    if beyond.any():
        t, row = divmod(int(weights.argmax()), weights.shape[1])
        most, step = float(beyond[t, row]), t + (row >= limited.rows.now)
        message += f", and {layout.names[row]} exceeds its limit by {most:.3g} at t={step}"
    if ref.words:
        message += f"; {ref.words}"
    rows = replace(plan.rows, values=g)
    plan = replace(plan, x=x, u=u, cost=cost, gap_bound=gap)
    return replace(plan, rows=rows, excess=most, message=message)
