"""Remedies for gradients that grow along the horizon, each measured on the same problem.

Two of them change what is descended on and nothing else: feedback, u = v - K x, and multiple
shooting. Scaling each input by its own curvature, and clipping, keep the minimum too, if they reach
it. Two change the answer: costates that are cut at the end of a window minimise the cost of the
window alone, and a discount gamma weighs the stage t by gamma^t. What they would lose if they were
solved exactly is their bias.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import EPS, Array, check_count, check_number, check_type, real_array
from lqrad.descent.descend import descend
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, NonFiniteError, ShapeError
from lqrad.linalg.growth import adjoint_growth
from lqrad.linalg.lanczos import extreme_eigenvalues
from lqrad.linalg.spectrum import dominant_growth
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem, balanced
from lqrad.lq.riccati import Trajectory, riccati
from lqrad.lq.shooting import multiple_shooting
from lqrad.outside import progress_bar
from lqrad.results import Cells, Report

_COLUMNS = ("cure", "method", "iterations", "gap", "bias", "seconds", "status")
# The feedback that stabilises without being the answer is that of inputs so much dearer.
_DEARER = 100.0
# Multiple shooting takes more iterations the longer the horizon is, each of its length: so many
# steps in all, some ten seconds, and no more.
_STEPS = 6_000_000
# How much a discounted gradient may grow over the horizon, where no discount is given.
_GROWTH = 1e4
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Cure(Report):
    """What one remedy came to.

    Attributes
    ----------
    name, method : str
    gap : float
        (J - J*) / |J*| of the inputs that were found, in the cost of the problem itself; of what
        knows states too, feedback and shooting, in closed loop.
    bias : float
        The same of the exact solution of what the remedy minimises; zero where that is J.
    iterations : int
    seconds : float
    status, message : str
    history : (iterations + 1,) or None
        Gap after each iteration; None where its iterates are not inputs of the whole horizon.
    """

    name: str
    method: str
    gap: float
    bias: float
    iterations: int
    seconds: float
    status: str
    message: str
    history: Array | None


@dataclass(frozen=True, eq=False, repr=False)
class Cures(Report):
    """Remedies side by side. In a notebook it shows as its table; `plot` draws it.

    Attributes
    ----------
    problem : LQProblem
    x0 : (n,)
    optimum : Trajectory
        Riccati's.
    window : int
        Steps after which costates are cut.
    discount : float
        The gamma of the discounted cost.
    cures : tuple of Cure
        "none" first.
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
                cure.status,
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
    problem : LQProblem
    x0 : (n,)
        Initial state.
    T : int, optional
        The horizon; needed where nothing varies in time.
    window : int, optional
        After how many steps costates are cut; a fifth of the horizon when not given.
    discount : float, optional
        gamma, between 0 and 1; when not given, that with which a gradient grows by no more than
        1e4, and 1 where it does not grow that much.
    max_iter, tol : int, float
        As of `descend`, for each. Multiple shooting has up to ten times as many iterations, but over
        long horizons no more than six million steps of simulation, and says so.
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

    Raises
    ------
    ArgumentError, ShapeError, NotConvexError
        If an argument is not as described, or the problem has no unique minimiser.

    References
    ----------
    Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, ICML 2013
    (clipping). Williams and Peng, An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories, Neural Computation 2 (1990), 490-501 (cut costates).

    Examples
    --------
    >>> problem = LQProblem([[1.3]], [[1.0]], [[1.0]], [[1.0]])
    >>> found = cures(problem, [1.0], T=100)
    >>> found["none"].status, found["feedback"].status, found["multiple shooting"].status
    ('ill-conditioned', 'converged', 'converged')
    >>> found["feedback"].gap < 1e-9 < found["discounted"].bias
    True
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    T = problem.horizon(T)
    start = np.array(real_array("x0", x0))
    if start.shape != (problem.n,):
        raise ShapeError(f"x0 has shape {start.shape}, expected ({problem.n},): one initial state")
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
    bench = _Bench(own, np.ldexp(start, -units.x), T, max_iter, tol, unit)
    tried: tuple[Callable[[], Cure], ...] = (
        partial(bench.plain, "gradient"),
        partial(bench.plain, "conjugate-gradient"),
        bench.feedback,
        bench.exact_feedback,
        bench.shooting,
        bench.scaled,
        partial(bench.clipped, window),
        partial(bench.cut, window),
        partial(bench.discounted, discount),
    )
    found = []
    bar = progress_bar("cures", len(tried), "cure") if progress else None
    with nullcontext() if bar is None else bar:
        for cure in tried:
            found.append(cure())
            if bar is not None:
                bar.update()
    optimum = riccati(problem, T).rollout(start)
    return Cures(problem, start, optimum, window, discount, tuple(found))


class _Bench:
    """The problem that all cures are tried on, and its answer."""

    def __init__(
        self, problem: LQProblem, x0: Array, T: int, max_iter: int, tol: float, unit: float = 1.0
    ) -> None:
        self.problem, self.x0, self.T = problem, x0, T
        self.max_iter, self.tol, self.unit = max_iter, tol, unit  # unit: a cost of one, the user's
        self.recursion = riccati(problem, T)
        self.optimum = self.recursion.rollout(x0)
        self.objective = problem.objective(x0, T)

    def gap(self, cost: float) -> float:
        """(J - J*) / |J*|, or J - J* where J* is zero."""
        best = float(self.optimum.cost)
        return (cost - best) / (abs(best) or self.unit)

    def descent(
        self,
        name: str,
        objective: Objective,
        *,
        method: str = "gradient",
        step_size: float | None = None,
        bias: float = 0.0,
        cost: Callable[[Array], float] | None = None,
        start: Array | None = None,
    ) -> Cure:
        """Descend. `cost` is that of the problem, where the objective's value is another."""
        gaps: list[float] = []
        result = descend(
            objective,
            start,
            method=method,
            step_size=step_size,
            max_iter=self.max_iter,
            tol=self.tol,
            callback=lambda iterate: gaps.append(
                self.gap(cost(iterate.z) if cost else iterate.cost)
            ),
        )
        return Cure(
            name=name,
            method=method,
            gap=self.gap(cost(result.solution) if cost else result.cost),
            bias=bias,
            iterations=result.iterations,
            seconds=result.seconds,
            status=result.status.word,
            message=result.what,  # a remedy for the descent is none for the cure
            history=np.array(gaps),
        )

    def cost(self, u: Array, x: Array | None = None) -> float:
        """That of inputs and their states, simulated if not given; infinite where one overflows."""
        try:
            x = self.problem.simulate(self.x0, u) if x is None else x
            return float(self.problem.cost(x, u))
        except NonFiniteError:
            return math.inf

    def plain(self, method: str) -> Cure:
        """Descend as if nothing were the matter."""
        return self.descent("none", self.objective, method=method)

    def feedback(self) -> Cure:
        """Descend in v of u = v - K x, with gains that stabilise and are not the answer."""
        p = self.problem
        dearer = LQProblem(p.A, p.B, p.Q, _DEARER * p.R, p.S, M=p.M)
        closed = p.with_feedback(riccati(dearer, self.T).K)
        objective = closed.objective(self.x0, self.T)
        return self.descent("feedback", objective, method="conjugate-gradient")

    def exact_feedback(self) -> Cure:
        """The same with Riccati's gains, preconditioned by the blocks R + B'P[t+1]B of its Hessian.

        Without linear terms v = 0 is its minimum: it starts from a random v, each input of the size of its u.
        """
        name, P = "Riccati's feedback", self.recursion.P[1:]
        closed = self.problem.with_feedback(self.recursion.K)
        size = np.abs(self.optimum.u).max(axis=0)
        v = size * np.random.default_rng(0).normal(size=self.objective.shape)
        factor = _whitening(self.problem, P)
        if factor is None:
            return _failed(name, "gradient", "R + B'PB is singular")
        start = np.linalg.solve(factor, v[:, :, None])[:, :, 0]
        objective = closed.objective(self.x0, self.T).scaled(factor)
        return self.descent(name, objective, start=start)

    def shooting(self) -> Cure:
        """Multiple shooting; its gap is that of its inputs with Riccati's feedback to its states.

        Its own cost is that of states with gaps at the cuts, and may be below the optimum.
        """
        began = time.perf_counter()
        limit = max(self.max_iter, min(10 * self.max_iter, _STEPS // self.T))
        shot = multiple_shooting(self.problem, self.x0, self.T, max_iter=limit)
        seconds = time.perf_counter() - began
        closed = self.problem.with_feedback(self.recursion.K)
        v = shot.u + times(self.recursion.K, shot.x[:-1])
        return Cure(
            name="multiple shooting",
            method="multipliers",
            gap=self.gap(float(closed.cost(closed.simulate(self.x0, v), v))),
            bias=0.0,
            iterations=shot.iterations,
            seconds=seconds,
            status=shot.status.word,
            message=replace(shot, cost=shot.cost / self.unit).message,
            history=None,
        )

    def scaled(self) -> Cure:
        """Conjugate gradients with each input scaled by its own block of the Hessian."""
        name, method = "scaled by time", "conjugate-gradient"
        with np.errstate(over="ignore", invalid="ignore"):
            factor = _whitening(self.problem, self._open_loop_weights())
        if factor is None:
            return _failed(
                name, method, "a block of the Hessian overflows or is singular to rounding"
            )
        return self.descent(name, self.objective.scaled(factor), method=method)

    def _open_loop_weights(self) -> Array:
        """W[t+1] for each stage, W[t] = Q + A'W[t+1]A: what a state costs if no input answers it."""
        p = self.problem
        A, Q = (np.broadcast_to(z, (self.T, p.n, p.n)) for z in (p.A, p.Q))
        W = np.empty((self.T, p.n, p.n))
        W[-1] = p.S
        for t in range(self.T - 1, 0, -1):
            W[t - 1] = Q[t] + A[t].T @ W[t] @ A[t]
        return W

    def clipped(self, window: int) -> Cure:
        """Descend, with a line search, along gradients with no g[t] larger than those of windows."""
        limit = math.inf
        with suppress(NonFiniteError):  # of which the descent will tell
            start = self._cut_gradient(self._windows(window), np.zeros(self.objective.shape))
            limit = float(_row_norms(start).max())

        def value_and_gradient(u: Array) -> tuple[float, Array]:
            value, g = self.objective.value_and_gradient(u)
            size = _row_norms(g)[:, None]
            return value, g * np.minimum(1.0, limit / np.maximum(size, _TINY))

        return self.descent("clipped", Objective(self.objective.shape, value_and_gradient))

    def cut(self, window: int) -> Cure:
        """Descend along gradients from costates that are cut where a window ends."""
        cut = self._windows(window)
        mu, L = extreme_eigenvalues(cut.hessian_product, self.objective.shape)

        def value_and_gradient(u: Array) -> tuple[float, Array]:
            return self.objective.value_and_gradient(u)[0], self._cut_gradient(cut, u)

        return self.descent(
            "cut costates",
            Objective(self.objective.shape, value_and_gradient),
            step_size=2 / (L + mu),
            bias=self.gap(self._greedy_cost(cut, window)),
        )

    def _windows(self, window: int) -> LQProblem:
        """The problem with its windows apart: their costates are those that are cut."""
        p = self.problem
        A = np.array(np.broadcast_to(p.A, (self.T, p.n, p.n)))
        M = np.array(np.broadcast_to(p.M, (self.T, p.n, p.m)))
        A[window::window], M[window::window] = 0.0, 0.0
        return LQProblem(A, p.B, p.Q, p.R, p.S, M=M, c=p.c, q=p.q, r=p.r, s=p.s)

    def _cut_gradient(self, cut: LQProblem, u: Array) -> Array:
        """The gradient with the states of the problem and the costates of its windows."""
        x = self.problem.simulate(self.x0, u)
        return self.problem.input_gradient(x, u, cut.adjoint(x, u))

    def _greedy_cost(self, cut: LQProblem, window: int) -> float:
        """The cost where each window is minimised on its own, which is where the cut gradient is zero."""
        p, recursion = self.problem, riccati(cut, self.T)
        K = recursion.K.copy()
        A, B, R, M = (np.broadcast_to(z, (self.T, *z.shape[-2:])) for z in (p.A, p.B, p.R, p.M))
        for t in range(window, self.T, window):  # the first input of a window sees its state again
            PB = recursion.P[t + 1] @ B[t]
            K[t] = np.linalg.solve(R[t] + B[t].T @ PB, PB.T @ A[t] + M[t].T)
        closed = p.with_feedback(K)
        return float(closed.cost(closed.simulate(self.x0, -recursion.k), -recursion.k))

    def discounted(self, gamma: float) -> Cure:
        """Descend on the stages' costs times gamma^t, in the variables gamma^(t/2) x and gamma^(t/2) u.

        There the dynamics are sqrt(gamma) A and sqrt(gamma) B, with the weights as they were.
        """
        p = self.problem
        weight = gamma ** (np.arange(self.T + 1.0)[:, None] / 2)
        root = math.sqrt(gamma)
        problem = LQProblem(
            root * p.A,
            root * p.B,
            p.Q,
            p.R,
            p.S,
            M=p.M,
            c=weight[1:] * p.c,
            q=weight[:-1] * p.q,
            r=weight[:-1] * p.r,
            s=weight[-1] * p.s,
        )
        exact = riccati(problem, self.T).rollout(self.x0)

        return self.descent(
            "discounted",
            problem.objective(self.x0, self.T),
            method="conjugate-gradient",
            bias=self.gap(self.cost(_quotient(exact.u, weight[:-1]), _quotient(exact.x, weight))),
            cost=lambda z: self.cost(_quotient(z, weight[:-1])),
        )


def _row_norms(g: Array) -> Array:
    """The norms of the rows, whose squares may overflow."""
    size = np.abs(g).max(axis=1)
    unit = g / np.where(size > 0, size, 1.0)[:, None]
    return np.asarray(size * np.sqrt(np.sum(unit * unit, axis=1)))


def _quotient(z: Array, weight: Array) -> Array:
    """Return z / weight; what is not finite in it is found where it is used."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return z / weight


def _whitening(problem: LQProblem, P: Array) -> Array | None:
    """F with F'(R + B'P[t]B)F = I for each stage; None where a block is singular to rounding.

    From the triangular factor of [R^1/2; P^1/2 B]: in the sum a large P would swallow R.
    """
    stages = (len(P), problem.n, problem.m)
    if not np.isfinite(P).all():
        return None
    roots = _root(problem.R), _root(P) @ problem.B
    rows = [np.broadcast_to(z, (len(P), *z.shape[-2:])) for z in roots]
    factor = np.linalg.qr(np.concatenate(rows, axis=1), mode="r")
    pivots = np.abs(np.diagonal(factor, axis1=1, axis2=2))
    if not (pivots > len(P[0]) * EPS * np.abs(factor).max(axis=(1, 2))[:, None]).all():
        return None
    unit = np.broadcast_to(np.eye(stages[2]), (stages[0], stages[2], stages[2]))
    return np.asarray(np.linalg.solve(factor, unit))


def _root(P: Array) -> Array:
    """X with X'X = P, for semidefinite P."""
    values, vectors = np.linalg.eigh(P)
    roots = np.sqrt(np.maximum(values, 0.0))[..., None]
    return np.asarray(roots * vectors.swapaxes(-1, -2))


def _failed(name: str, method: str, why: str) -> Cure:
    """A cure that could not begin."""
    return Cure(name, method, math.inf, 0.0, 0, 0.0, "failed", f"failed at the start: {why}", None)


def _mild_discount(problem: LQProblem, T: int) -> float:
    """The gamma with which exp(rate T) gamma^(T/2) is at most _GROWTH."""
    if problem.A.ndim == 2:
        radius, _ = dominant_growth(problem.A)
        rate = math.log(radius) if radius > 0 else -math.inf
    else:
        _, exponents = adjoint_growth(problem.A, np.eye(problem.n), None, T)
        rate = float(exponents.max())
    return math.exp(min(0.0, 2 * (math.log(_GROWTH) / T - rate)))
