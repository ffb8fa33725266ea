"""When an open-loop gradient has no digit left: predicted from its growth, and observed.

At the optimum R u + M'x + r + B'p = 0. Riccati's inputs are right to rounding errors; simulated open
loop these grow by exp(rate) a step, and as much again on their way back in the costates. What is
left of the sum, over the size of its terms, is the error of a gradient that should be zero:

    error ~ eps (growth over T steps)^2  ~  eps exp(2 rate T)

Every step makes a rounding error of its own, which grows over the steps that are left and back again.
They are independent, so that what arrives is eps sum_k (growth over k steps)^2: the same law where
there is growth, and where there is none as many times more as there are steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    EPS,
    Array,
    check_count,
    check_items,
    check_type,
    one_initial_state,
)
from lqrad.errors import ArgumentError, NonFiniteError
from lqrad.growth.gradient_growth import GradientGrowth, gradient_growth
from lqrad.linalg.spectrum import dominant_growth
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem
from lqrad.lq.riccati import riccati
from lqrad.results import Report


@dataclass(frozen=True, eq=False, repr=False)
class LostDigits(Report):
    """The relative error of the open-loop gradient at the optimum, over horizons.

    Attributes
    ----------
    horizons : (k,) of int
        In rising order.
    errors : (k,)
        The largest of |g| at Riccati's inputs, where g should be zero, over that of its terms, of
        R u + M'x + r or |B|'|p|, of the input in which this is most: 1 where no digit is left, inf
        where the simulation overflows.
    growth : GradientGrowth
        Over the longest of the horizons.
    """

    horizons: NDArray[np.intp]
    errors: Array
    growth: GradientGrowth

    @property
    def predicted(self) -> float:
        """The horizon at which eps times the square of the growth is one; infinite without growth."""
        return self.growth.lost_horizon

    @property
    def law(self) -> Array:
        """The logarithms of the predicted errors: eps times the squares of the growth, over all steps."""
        growth = (self.growth.log_norms - self.growth.log_norms[-1])[::-1]  # by distance to the end
        return np.asarray(math.log(EPS) + np.logaddexp.accumulate(2 * growth)[self.horizons - 1])

    @property
    def observed(self) -> int | None:
        """The first of the horizons at which no digit is left; None where there is none."""
        lost = np.flatnonzero(self.errors >= 1)
        return int(self.horizons[lost[0]]) if len(lost) else None

    @property
    def message(self) -> str:
        """From which horizon on no digit is left, as seen and as predicted."""
        seen, predicted = f"at no horizon up to {self.horizons[-1]}", "never"
        if self.observed is not None:
            seen = f"from T = {self.observed} on"
        if math.isfinite(self.predicted):
            predicted = f"from T = {self.predicted:.0f} on"
        return f"open-loop gradients without a digit: observed {seen}, predicted {predicted}"

    def __repr__(self) -> str:
        return f"<{self.message}>"

    def facts(self) -> dict[str, Any]:
        """Return the horizons, predicted and observed, and the errors."""
        return {
            "predicted": self.predicted,
            "observed": self.observed,
            "rate": self.growth.predicted_rate,
            "horizons": self.horizons,
            "errors": self.errors,
        }


def lost_digits(
    problem: LQProblem, x0: ArrayLike, horizons: Iterable[int] | None = None
) -> LostDigits:
    """Observe at which horizon an open-loop gradient loses its last digit.

    Parameters
    ----------
    problem : LQProblem
        Time-invariant.
    x0 : (n,)
    horizons : iterable of int, optional
        Forty of them up to half as far again as the predicted one when not given, or up to 1000.

    See Also
    --------
    gradient_growth : the growth that this is predicted from.

    Examples
    --------
    >>> problem = LQProblem([[1.5]], [[1.0]], [[1.0]], [[1.0]])
    >>> lost = lost_digits(problem, [1.0], range(10, 80))
    >>> round(lost.predicted), 36 < lost.observed < 54
    (46, True)
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    if problem.T is not None:
        raise ArgumentError(
            f"problem varies over {problem.T} stages, expected a time-invariant one: "
            "its horizon is what this study varies"
        )
    one_initial_state(problem, x0)
    if horizons is None:
        radius, _ = dominant_growth(problem.A)
        longest = 1.5 * -math.log(EPS) / (2 * math.log(radius)) + 1 if radius > 1 else math.inf
        horizons = np.linspace(1, min(1000.0, longest), 40).astype(int).tolist()
    horizons = check_items("horizons", horizons, "whole numbers")
    steps = np.array(sorted({check_count("horizon", T) for T in horizons}), dtype=np.intp)
    if not len(steps):
        raise ArgumentError("horizons is empty, expected whole numbers of at least one")
    errors = np.array([_error(problem, x0, int(T)) for T in steps])
    return LostDigits(steps, errors, gradient_growth(problem.A, problem.B, T=int(steps[-1])))


def _error(problem: LQProblem, x0: ArrayLike, T: int) -> float:
    optimum = riccati(problem, T).rollout(x0)
    x, u = optimum.x, optimum.u
    terms = times(problem.R, u) + times(problem.M, x[:-1], transpose=True) + problem.r
    try:
        _, g = problem.value_and_gradient(x0, u)
    except NonFiniteError:
        return math.inf
    pulled = times(np.abs(problem.B), np.abs(optimum.p), transpose=True)
    size = np.maximum(np.abs(terms), pulled).max(axis=0)
    felt = size > 0
    return float((np.abs(g).max(axis=0)[felt] / size[felt]).max(initial=0.0))
