"""A trajectory within limits, and what proves it: the result of planning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.errors import ArgumentError, Status
from lqrad.lq.prices import Prices
from lqrad.lq.problem import LQProblem
from lqrad.lq.rows import excess
from lqrad.results import Cells, Report, former, number


@dataclass(frozen=True, eq=False, repr=False)
class PlanRows(Report):
    """The rows of a plan that have limits: C x[t] + D u[t], and behind these E x[t+1].

    Attributes
    ----------
    names : tuple of str
    values, low, high : (T, rows)
    multipliers : (T, rows)
        Positive at a high limit, negative at a low one.
    price, spring : (rows,)
        An excess e costs price e + spring/2 e^2; the price is infinite where a row has neither.
    now : int
        How many rows are of step t; the others are of step t+1.
    """

    names: tuple[str, ...]
    values: Array
    low: Array
    high: Array
    multipliers: Array
    price: Array
    spring: Array
    now: int

    @property
    def excess(self) -> Array:
        """How far each is beyond its limits (T, rows); zero where it is within."""
        return excess(self.values, self.low, self.high)

    @property
    def slack(self) -> Array:
        """How far each is from its nearer limit (T, rows), infinite where there is none."""
        nearer = np.minimum(self.high - self.values, self.values - self.low)
        return np.asarray(np.maximum(nearer, 0.0))

    @property
    def excess_cost(self) -> Array:
        """What the excess of rows with a price costs (T, rows)."""
        return Prices(self.price, self.spring).of(self.excess)

    @property
    def least_price(self) -> Array:
        """The price (rows,) from which on this plan is the best: the largest multiplier of each row.

        Prices that are exact, and at least so large, leave a plan as it is with hard rows. Of a plan
        whose rows give way it is not known.

        Raises
        ------
        ArgumentError
            If a row has given way; names it.
        """
        given = (np.abs(self.multipliers) >= self.price) & (self.excess > 0)
        if given.any():
            row = int(given.any(axis=0).argmax())
            raise ArgumentError(
                f"{self.names[row]} exceeds its limit in this plan: its least price is not below "
                f"{self.price[row]:.6g}, and not known",
                "plan with this row hard",
            )
        return np.asarray(np.abs(self.multipliers).max(axis=0, initial=0.0))

    def cells(self) -> Cells:
        """Return a line for each row: its least slack, and its largest excess and multiplier."""
        columns = ("row", "least slack", "excess", "at t", "multiplier", "price", "spring")
        lines = []
        for i, name in enumerate(self.names):
            beyond, y = self.excess[:, i], self.multipliers[:, i]
            worst = int(beyond.argmax())
            numbers = self.slack[:, i].min(), beyond[worst], y[np.abs(y).argmax()]
            slack, most, pull = map(number, numbers)
            when = str(worst + (i >= self.now)) if beyond[worst] > 0 else "-"
            price = number(self.price[i]) if np.isfinite(self.price[i]) else "hard"
            spring = number(self.spring[i]) if self.spring[i] else "-"
            lines.append([name, slack, most, when, pull, price, spring])
        return columns, lines


def shifted(rows: PlanRows, by: Array) -> PlanRows:
    """Return rows with these numbers (T, rows) added to their values and limits."""
    moved = {key: getattr(rows, key) + by for key in ("values", "low", "high")}
    return replace(rows, **moved)


class PlanModel(NamedTuple):
    """What a plan is of: a problem, its limited rows C x[t] + D u[t] and E x[t+1], and its answer there.

    Where a plan is made around references, x and u are the differences to these, and where rates have
    limits the states end with the input before.

    Attributes
    ----------
    problem : LQProblem
    C, D, E : (k, N), (k, m), (j, N), each also with a leading T axis
    x, u, p : (T+1, N), (T, m), (T, N)
    from_target : (k+j,) of bool
        The rows whose limits move with the references.
    blocked : bool
        Whether inputs are held over several steps.
    """

    problem: LQProblem
    C: Array
    D: Array
    E: Array
    x: Array
    u: Array
    p: Array
    from_target: NDArray[np.bool_]
    blocked: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Report):
    """A trajectory within limits, and a bound on how far it is from the best.

    What an excess of rows with a price costs is part of the cost, and of what is minimised.

    Attributes
    ----------
    x, u : (T+1, n), (T, m)
    p : (T, n)
        Costates, with the multipliers of the limits in their equation.
    multipliers : (T, rows)
        Those of the limits: positive at an upper one, negative at a lower one.
    iterations : int
        Steps of `nearest`, each with another set of limits at work, and of `interior`. There is no
        history: before the last one no trajectory keeps the limits.
    gap_bound : float
        The cost is proven to exceed the minimum, among trajectories within the limits, by no more.
        Where rows without a price have given way, it is that of the cost + sum spring/2 excess^2.
    excess : float
        How far the worst row is beyond its limit. Rows may have different units: the worst is the
        one with the largest excess in relation to its own limits.
    rows : PlanRows
        What has limits: values, limits, multipliers, prices and excesses by row.
    model : PlanModel
        What `plan_vjp` differentiates.
    certificate : (T, rows) or None
        Where the status is INFEASIBLE, multipliers that prove it: sum y g is the same for all inputs,
        to rounding errors, and larger than sum y limit, with the high limit where y is positive and
        the low one where it is negative.
    x_ref, u_ref : (T+1, n), (T, m), or None
        What x and u are compared with, where the cost is that of x - x_ref and u - u_ref.
    missed : (T+1, nr) or None
        How far a reference of outputs is from the nearest that can be held: zero where it can.
    """

    x: Array
    u: Array
    p: Array
    multipliers: Array
    cost: float
    status: Status
    message: str
    iterations: int
    seconds: float
    gap_bound: float
    excess: float
    rows: PlanRows
    model: PlanModel
    certificate: Array | None = None
    x_ref: Array | None = None
    u_ref: Array | None = None
    missed: Array | None = None
    y = former("multipliers")

    def __repr__(self) -> str:
        return f"<Plan of {len(self.u)} steps: {self.message}>"

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: all fields."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Make the fields that are not there yet."""
            form = vars(self).get("_form")
            if form is not None and name in _NAMES:
                vars(self).update(vars(form()))
                vars(self).pop("_form", None)
            return object.__getattribute__(self, name)


def later(form: Callable[[], Plan], **known: Any) -> Plan:
    """Return a plan of which no more is made than fields that are known, until another is read.

    Then `form` makes all of them.
    """
    plan = object.__new__(Plan)
    vars(plan).update(known, _form=form)
    return plan


_NAMES = {part.name for part in fields(Plan)}
for _name in _NAMES & vars(Plan).keys():
    delattr(Plan, _name)  # a default would be read in the place of what is not there yet
