"""Remedies for gradients that grow along the horizon, each measured on the same problem."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_count, check_number, check_type, one_initial_state
from lqrad.errors import ArgumentError, NonFiniteError
from lqrad.growth.remedies import (
    Bench,
    Cure,
    clipped,
    cut,
    discounted,
    exact_feedback,
    feedback,
    plain,
    scaled,
    shooting,
)
from lqrad.linalg.growth import adjoint_growth
from lqrad.linalg.spectrum import dominant_growth
from lqrad.lq.inputs import Trajectory
from lqrad.lq.problem import LQProblem, balanced
from lqrad.lq.riccati import riccati
from lqrad.outside import progress_bar
from lqrad.results import Cells, Report

_COLUMNS = ("cure", "method", "iterations", "gap", "bias", "seconds", "status")
# How much a discounted gradient may grow over the horizon, where no discount is given.
_GROWTH = 1e4


@dataclass(frozen=True, eq=False, repr=False)
class Cures(Report):
    """Remedies side by side, "none" first, and Riccati's optimum.

    Costates are cut after `window` steps, and `discount` is the gamma of the discounted cost.
    """

    problem: LQProblem
    x0: Array
    optimum: Trajectory
    window: int
    discount: float
    cures: tuple[Cure, ...]

    def __getitem__(self, name: str) -> Cure:
        """The cure of this name."""
        for cure in self.cures:
            if cure.name == name:
                return cure
        names = ", ".join(cure.name for cure in self.cures)
        raise ArgumentError(f"there is no cure {name!r}, expected one of: {names}")

    def cells(self) -> Cells:
        """Return the columns of the table, and a row for each cure."""
        return _COLUMNS, [
            [
                cure.name,
                cure.method,
                str(cure.iterations),
                f"{cure.gap:.1e}",
                f"{cure.bias:.1e}" if cure.bias else "",
                f"{cure.seconds:.3f}",
                cure.status.word,
            ]
            for cure in self.cures
        ]

    def notes(self) -> list[str]:
        """Return a sentence for each cure: how it ended, in full."""
        return [f"{cure.name}: {cure.message}" for cure in self.cures]

    def __repr__(self) -> str:
        return self.table()

    def facts(self) -> dict[str, Any]:
        """Return what each cure came to, and the optimal cost."""
        return {
            "T": len(self.optimum.u),
            "optimal_cost": float(self.optimum.cost),
            "window": self.window,
            "discount": self.discount,
            "cures": self.cures,
        }


def cures(
    problem: LQProblem,
    x0: ArrayLike,
    T: int | None = None,
    *,
    window: int | None = None,
    discount: float | None = None,
    max_iter: int = 2000,
    tol: float = 1e-12,
    progress: bool = False,
) -> Cures:
    """Minimise the cost from x0 with each of the remedies for growing gradients.

    Parameters
    ----------
    problem, x0, T : LQProblem, (n,), int
        The horizon T is needed where nothing varies in time.
    window : int, optional
        After how many steps costates are cut; a fifth of the horizon when not given.
    discount : float, optional
        gamma, between 0 and 1; when not given, that with which a gradient grows by no more than
        1e4, and 1 where it does not grow that much.
    max_iter : int
        Limit on the iterations of each. Multiple shooting has up to ten times as many, but over long
        horizons no more than six million steps of simulation, and says so.
    tol : float
        As of `descend`: the relative gap to prove.
    progress : bool
        Show a progress bar over the cures, where tqdm is installed.

    Returns
    -------
    Cures
        - "none", by the gradient and by conjugate gradients;
        - "feedback": with the gains of the same problem with dearer inputs;
        - "Riccati's feedback": with the gains of the problem, preconditioned, from a random start;
        - "multiple shooting";
        - "scaled by time": each input by the root of its own block of the Hessian;
        - "clipped": each g[t] to at most the norm of the largest one that the cut costates give at
          the start, with a line search;
        - "cut costates", "discounted".

    See Also
    --------
    blowup : this, with the growth of gradients and the digits that it costs.
    LQProblem.with_feedback, multiple_shooting : the two that are exact.

    References
    ----------
    Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, ICML 2013
    (clipping). Williams and Peng, An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories, Neural Computation 2 (1990), 490-501 (cut costates).

    Examples
    --------
    >>> problem = LQProblem([[1.3]], [[1.0]], [[1.0]], [[1.0]])
    >>> found = cures(problem, [1.0], T=100)
    >>> [found[name].status.word for name in ("none", "feedback", "multiple shooting")]
    ['ill-conditioned', 'converged', 'converged']
    >>> found["feedback"].gap < 1e-9 < found["discounted"].bias
    True
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    T = problem.horizon(T)
    start = one_initial_state(problem, x0)
    window = max(1, T // 5) if window is None else check_count("window", window)
    # In units of the problem's own: descents go other ways where an input is measured in others.
    own, units = balanced(problem, start)
    with np.errstate(over="ignore", under="ignore"):
        unit = float(np.ldexp(1.0, -units.cost))
    if not 0 < unit < math.inf:
        raise NonFiniteError(
            f"the unit of the cost from x0, 2^{units.cost}, is beyond all floats", "scale x0"
        )
    if discount is None:
        discount = _mild_discount(own, T)
    else:
        discount = check_number("discount", discount, above=0, most=1)
    bench = Bench(own, np.ldexp(start, -units.x), T, max_iter, tol, unit)
    tried: tuple[Callable[[Bench], Cure], ...] = (
        partial(plain, method="gradient"),
        partial(plain, method="conjugate-gradient"),
        feedback,
        exact_feedback,
        shooting,
        scaled,
        partial(clipped, window=window),
        partial(cut, window=window),
        partial(discounted, gamma=discount),
    )
    found = []
    bar = progress_bar("cures", len(tried), "cure") if progress else None
    with nullcontext() if bar is None else bar:
        for cure in tried:
            found.append(cure(bench))
            if bar is not None:
                bar.update()
    optimum = riccati(problem, T).rollout(start)
    return Cures(problem, start, optimum, window, discount, tuple(found))


def _mild_discount(problem: LQProblem, T: int) -> float:
    """The gamma with which exp(rate T) gamma^(T/2) is at most _GROWTH."""
    if problem.A.ndim == 2:
        radius, _ = dominant_growth(problem.A)
        rate = math.log(radius) if radius > 0 else -math.inf
    else:
        _, exponents = adjoint_growth(problem.A, np.eye(problem.n), None, T)
        rate = float(exponents.max())
    return math.exp(min(0.0, 2 * (math.log(_GROWTH) / T - rate)))
