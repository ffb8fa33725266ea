"""Exceptions, and the statuses in which an iteration may end.

A message says what the argument is called, what was expected, what came and where; what to try is
the error's `remedy`.
"""

from __future__ import annotations

from enum import Enum

__all__ = [
    "ArgumentError",
    "DtypeError",
    "LqradError",
    "NonFiniteError",
    "NotConvexError",
    "NotStabilizableError",
    "ShapeError",
    "Status",
]

OVERFLOW_REMEDY = (
    "try a shorter horizon, smaller units, or close the loop with u = v - K x first "
    "(LQProblem.with_feedback)"
)
GROWTH_REMEDY = (
    "where gradients grow along the horizon, descend in v of u = v - K x (LQProblem.with_feedback), "
    "or cut the horizon (multiple_shooting)"
)


class LqradError(Exception):
    """Root of every error that lqrad raises on purpose.

    Attributes
    ----------
    what : str
        What was given or found, and what was expected.
    remedy : str
        What to try; empty where nothing is known. Printed behind `what`.

    Examples
    --------
    >>> error = LqradError("the state x[7] is inf", "try a shorter horizon")
    >>> str(error), error.remedy
    ('the state x[7] is inf; try a shorter horizon', 'try a shorter horizon')
    """

    def __init__(self, what: str = "", remedy: str = "") -> None:
        super().__init__(what, remedy)  # the arguments by which it is pickled
        self.what, self.remedy = what, remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what

    def within(self, where: str) -> LqradError:
        """Return the same error, told as one of a place, such as a file: "where: what"."""
        return type(self)(f"{where}: {self.what}", self.remedy)


class ShapeError(LqradError, ValueError):
    """An array has the wrong number of axes, or an axis of the wrong length."""


class DtypeError(LqradError, TypeError):
    """A value is not a real number, or an array of them."""


class ArgumentError(LqradError, ValueError):
    """An argument has a value outside its range or its list of choices."""


class NonFiniteError(LqradError, ArithmeticError):
    """A NaN or an infinity, in what was given or in what was computed."""


class NotConvexError(LqradError, ValueError):
    """A weight is not symmetric positive semidefinite, or a problem has no unique minimiser."""


class NotStabilizableError(LqradError, ValueError):
    """No feedback stabilises the system, or the weights leave it without a stabilising solution."""


class Status(Enum):
    """How an iteration ended. Each value is a sentence; the result's `message` adds the details.

    See Also
    --------
    Descent : a result that ends with one.
    """

    CONVERGED_GAP = "converged: the cost is proven to be within the tolerance of the optimum"
    CONVERGED_GRADIENT = "converged: the gradient is below the tolerance"
    CONVERGED_CHANGE = "converged: a step changed the cost by no more than the tolerance"
    STATIONARY = (
        "stationary: the gradient is below the tolerance, and the cost falls along a direction"
    )
    STALLED = "stalled: rounding errors leave no further descent"
    MAX_ITER = "stopped: the limit on iterations was reached"
    ILL_CONDITIONED = "ill-conditioned: rounding errors of the largest eigenvalues of the Hessian hide its smallest"
    PATIENCE = "stopped: the validation loss no longer fell"
    INFEASIBLE = "infeasible: no inputs keep everything within its limits"
    CALLBACK = "stopped: the callback asked for it"
    DIVERGED = "diverged: the cost grew without bound or became non-finite"

    @property
    def converged(self) -> bool:
        """Whether the tolerance was met."""
        return self in (Status.CONVERGED_GAP, Status.CONVERGED_GRADIENT, Status.CONVERGED_CHANGE)

    @property
    def word(self) -> str:
        """The sentence's first word, such as "converged": what a table has room for."""
        return self.value.partition(":")[0]

    def __str__(self) -> str:
        return self.value
