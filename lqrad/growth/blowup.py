"""Stable against unstable, in one call: how gradients grow, what that breaks, and what cures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from lqrad.arguments import check_type
from lqrad.growth.cures import Cures, cures
from lqrad.growth.digits import LostDigits, lost_digits
from lqrad.growth.gradient_growth import GradientGrowth, gradient_growth
from lqrad.lq.problem import LQProblem
from lqrad.results import Cells, Report


@dataclass(frozen=True, eq=False, repr=False)
class Blowup(Report):
    """What `blowup` found: the growth of d x[T] / d u[t], lost digits, and cures.

    The digits are those of the open-loop gradient at the optimum; None where the problem varies in time.
    """

    growth: GradientGrowth
    digits: LostDigits | None
    cures: Cures

    def __repr__(self) -> str:
        parts = [repr(self.growth)]
        if self.digits is not None:
            parts.append(self.digits.message)
        return "\n".join([*parts, "", self.cures.table()])

    def notes(self) -> list[str]:
        """Return a sentence for each cure: how it ended, in full."""
        return self.cures.notes()

    def facts(self) -> dict[str, Any]:
        """Return what was found: the growth, the digits, and what `Cures` has."""
        return {"growth": self.growth, "digits": self.digits} | self.cures.facts()

    def cells(self) -> Cells:
        """Return the columns and the rows of the table of cures."""
        return self.cures.cells()


def blowup(
    problem: LQProblem, x0: ArrayLike, T: int | None = None, *, progress: bool = False
) -> Blowup:
    """Measure the growth of gradients, the digits that it costs, and every cure.

    Parameters
    ----------
    problem, x0, T : LQProblem, (n,), int
        The horizon T is needed where nothing varies in time.
    progress : bool
        Show a progress bar over the cures, where tqdm is installed.

    See Also
    --------
    gradient_growth, lost_digits, cures : each of these alone.
    conditioning : how hard a descent is, over spectral radius and horizon.

    Examples
    --------
    >>> found = blowup(LQProblem([[1.3]], [[1.0]], [[1.0]], [[1.0]]), [1.0], T=100)
    >>> found.growth.lost_horizon < 100, found.digits.observed < 100
    (True, True)
    >>> found.cures["none"].status.word, found.cures["feedback"].status.word
    ('ill-conditioned', 'converged')
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    T = problem.horizon(T)
    remedies = cures(problem, x0, T, progress=progress)
    growth = gradient_growth(problem.A, problem.B, T=T)
    digits = lost_digits(problem, x0) if problem.T is None else None
    return Blowup(growth, digits, remedies)
