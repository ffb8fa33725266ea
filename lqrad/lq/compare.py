"""The main job: descend with adjoint gradients by several methods, verify against Riccati.

Two ways to one answer that share no code: the descent sees gradients from the forward and the
backward pass and knows no control; the Riccati recursion sees the matrices and simulates nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import check_choice, check_items, check_type, one_initial_state
from lqrad.descent.descend import Descent, descend
from lqrad.descent.methods import METHODS
from lqrad.errors import ArgumentError, NonFiniteError
from lqrad.linalg.lanczos import extreme_eigenvalues
from lqrad.lq.inputs import Trajectory
from lqrad.lq.problem import LQProblem
from lqrad.lq.riccati import Riccati, riccati
from lqrad.results import Cells, Report

_COLUMNS = ("method", "iterations", "cost", "gap", "proven gap", "distance", "seconds", "status")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Report):
    """Several descents beside the Riccati solution of the same problem.

    Attributes
    ----------
    problem, x0 : LQProblem, (n,)
    recursion, optimum : Riccati, Trajectory
        Gains and value function, and their closed-loop rollout.
    residual : float
        Relative KKT residual of `optimum`: its proof.
    riccati_seconds : float
        Time of the recursion and the rollout.
    descents : tuple of Descent
        One for each method.
    gaps : tuple of float
        (J(u) - J*) / |J*| of each; where rounding hides it, 1/2 (u - u*)'H(u - u*) / |J*|.
    distances : tuple of float
        |u - u*| / |u*| of each.
    curvature : tuple of float
        Estimates of the smallest and the largest eigenvalue of the Hessian H.
    """

    problem: LQProblem
    x0: np.ndarray[Any, np.dtype[np.float64]]
    recursion: Riccati
    optimum: Trajectory
    residual: float
    riccati_seconds: float
    descents: tuple[Descent, ...]
    gaps: tuple[float, ...]
    distances: tuple[float, ...]
    curvature: tuple[float, float]

    @property
    def scale(self) -> float:
        """What gaps are relative to: |J*|, or 1 where the optimal cost is zero."""
        return abs(float(self.optimum.cost)) or 1.0

    @property
    def converged(self) -> bool:
        """Whether at least one descent met its tolerance."""
        return any(descent.status.converged for descent in self.descents)

    @property
    def condition(self) -> float:
        """The condition number of the Hessian, infinite where rounding hides its least eigenvalue."""
        smallest, largest = self.curvature
        return largest / smallest if smallest > 0 else math.inf

    @property
    def rates(self) -> dict[str, float]:
        """By what factor theory says that each method shrinks the error in an iteration.

        With kappa the condition number of the Hessian: (kappa - 1) / (kappa + 1) for the gradient
        method with its best step, and the same with the root of kappa for Polyak's heavy ball and,
        as a bound that is seldom attained, for conjugate gradients.

        References
        ----------
        Polyak, Introduction to Optimization, 1987, sections 1.4 and 3.2.
        """
        fast, plain = ((1 - q) / (1 + q) for q in (self.condition**-0.5, 1 / self.condition))
        return {"gradient": plain, "heavy-ball": fast, "conjugate-gradient": fast}

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as dictionaries, Riccati's row first; gaps are relative to |J*|."""
        cost, swept, seconds = float(self.optimum.cost), self.recursion.swept, self.riccati_seconds
        solved = f"solved, with a relative KKT residual of {self.residual:.1e}"
        lines: list[tuple[Any, ...]] = [
            ("riccati", swept, cost, 0.0, None, 0.0, seconds, "solved", solved)
        ]
        for d, gap, distance in zip(self.descents, self.gaps, self.distances, strict=True):
            bound = None if d.gap_bound is None else d.gap_bound / self.scale
            found = (d.method, d.iterations, d.cost, gap, bound, distance, d.seconds)
            lines.append((*found, d.status.word, d.message))
        return [dict(zip((*_COLUMNS, "message"), line, strict=True)) for line in lines]

    def cells(self) -> Cells:
        """Return the columns of the table and its rows, Riccati's first."""
        formats = ("", "", ".8g", ".1e", ".1e", ".1e", ".4f", "")
        return _COLUMNS, [
            [
                "" if row[n] is None else f"{row[n]:{f}}"
                for n, f in zip(_COLUMNS, formats, strict=True)
            ]
            for row in self.rows()
        ]

    def notes(self) -> list[str]:
        """Return a sentence for the recursion and one for each descent: its status, in full."""
        return [f"{row['method']}: {row['message']}" for row in self.rows()]

    def __repr__(self) -> str:
        return self.table()

    def facts(self) -> dict[str, Any]:
        """Return everything that the comparison found."""
        smallest, largest = self.curvature
        rows = [{name.replace(" ", "_"): value for name, value in r.items()} for r in self.rows()]
        for row, descent in zip(rows[1:], self.descents, strict=True):
            row |= {"converged": descent.status.converged, "u": descent.solution}
        optimum = {"kkt_residual": self.residual, "u": self.optimum.u, "x": self.optimum.x}
        return {
            "n": self.problem.n,
            "m": self.problem.m,
            "T": self.recursion.T,
            "x0": self.x0,
            "hessian_eigenvalues": {"smallest": smallest, "largest": largest},
            "riccati": rows[0] | optimum,
            "descents": rows[1:],
        }


def compare(
    problem: LQProblem,
    x0: ArrayLike,
    T: int | None = None,
    methods: Iterable[str] = METHODS,
    *,
    max_iter: int = 2000,
    tol: float = 1e-12,
    progress: bool = False,
) -> Comparison:
    """Minimise the cost from x0 by several descent methods and hold them against Riccati.

    Parameters
    ----------
    problem, x0, T : LQProblem, (n,), int
        The horizon T is needed where nothing varies in time.
    methods : iterable of str
        Which methods of `descend` to run; all of them when not given.
    max_iter : int
        Limit on the iterations of each.
    tol : float
        Of each, the relative gap to prove. The inputs are then right to about its root.
    progress : bool
        Whether each descent shows its progress.

    See Also
    --------
    descend, riccati : the two roads, each alone.
    blowup : what helps where the gradients grow along the horizon.

    Examples
    --------
    >>> problem = LQProblem([[1, 0.1], [0, 1]], [[0], [0.1]], [[1, 0], [0, 1]], [[1]])
    >>> comparison = compare(problem, [1, 0], T=50, methods=["conjugate-gradient"])
    >>> [row["method"] for row in comparison.rows()]
    ['riccati', 'conjugate-gradient']
    >>> comparison.gaps[0] < 1e-12 and comparison.converged
    True
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    x0 = one_initial_state(problem, x0)
    methods = [methods] if isinstance(methods, str) else check_items("methods", methods, "words")
    if not methods:
        raise ArgumentError(f"methods is empty, expected some of: {', '.join(METHODS)}")
    for method in methods:
        check_choice("method", method, METHODS)
    import scipy.optimize  # noqa: F401  # here, so that no method is charged for its loading

    objective = problem.objective(x0, T)
    start = time.perf_counter()
    recursion = riccati(problem, problem.horizon(T))
    optimum = recursion.rollout(x0)
    riccati_seconds = time.perf_counter() - start
    kkt = problem.kkt_residual(optimum.x, optimum.u, optimum.p, x0)
    descents = tuple(
        descend(objective, method=method, max_iter=max_iter, tol=tol, progress=progress)
        for method in methods
    )
    size = float(np.linalg.norm(optimum.u)) or 1.0
    try:
        curvature = extreme_eigenvalues(problem.hessian_product, objective.shape)
    except NonFiniteError:  # products with it overflow
        curvature = (math.nan, math.inf)
    return Comparison(
        problem=problem,
        x0=x0,
        recursion=recursion,
        optimum=optimum,
        residual=kkt.relative,
        riccati_seconds=riccati_seconds,
        descents=descents,
        gaps=tuple(_gap(problem, descent, optimum) for descent in descents),
        distances=tuple(float(np.linalg.norm(d.solution - optimum.u)) / size for d in descents),
        curvature=curvature,
    )


def _gap(problem: LQProblem, descent: Descent, optimum: Trajectory) -> float:
    """(J(u) - J*) / |J*|; where rounding hides it in the costs, from d = u - u* as 1/2 d'Hd.

    That is the cost of the inputs d from rest, without the affine and linear terms: a sum of
    squares, in which nothing cancels. Open-loop simulation makes noise of it where the costs differ.
    """
    optimal = float(optimum.cost)
    scale = abs(optimal) or 1.0
    if not abs(descent.cost - optimal) <= 1e-8 * scale:
        return (descent.cost - optimal) / scale
    bare = LQProblem(problem.A, problem.B, problem.Q, problem.R, problem.S, M=problem.M)
    d = descent.solution - optimum.u
    return float(bare.cost(bare.simulate(np.zeros(problem.n), d), d)) / scale
