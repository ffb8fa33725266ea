"""A trajectory within limits, and what proves it: the result of planning."""

from __future__ import annotations

from dataclasses import dataclass

from lqrad.arguments import Array
from lqrad.errors import Status
from lqrad.results import Report, former


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Report):
    """A trajectory within limits, and a bound on how far it is from the best.

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
        Where soft limits have given way, it is that of J + sum spring/2 excess^2.
    excess : float
        How far the worst row is beyond its limit. Rows may have different units: the worst is the
        one with the largest excess in relation to its own limits.
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
    certificate: Array | None = None
    x_ref: Array | None = None
    u_ref: Array | None = None
    missed: Array | None = None
    y = former("multipliers")

    def __repr__(self) -> str:
        return f"<Plan of {len(self.u)} steps: {self.message}>"
