"""Each remedy for gradients that grow along the horizon, tried on one problem.

A remedy is a function of the `Bench` with the problem and its answer; it returns a `Cure`. Two change
what is descended on and nothing else: feedback, u = v - K x, and multiple shooting. Scaling each input
by its own curvature, and clipping, keep the minimum too, if they reach it. Two change the answer:
costates that are cut at the end of a window minimise the cost of the window alone, and a discount
gamma weighs the stage t by gamma^t. What they would lose if they were solved exactly is their bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from lqrad.arguments import EPS, Array
from lqrad.descent.descend import descend
from lqrad.descent.objective import Objective
from lqrad.errors import NonFiniteError, Status
from lqrad.linalg.lanczos import extreme_eigenvalues
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem
from lqrad.lq.riccati import riccati
from lqrad.lq.shooting import multiple_shooting
from lqrad.results import Report, former

# The feedback that stabilises without being the answer is that of inputs so much dearer.
_DEARER = 100.0
# Multiple shooting takes more iterations the longer the horizon is, each of its length: so many
# steps in all, some ten seconds, and no more.
_STEPS = 6_000_000
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Cure(Report):
    """What one remedy came to.

    Attributes
    ----------
    cost : float
        J of the inputs that were found. Feedback and shooting have states of their own: theirs is J
        with the loop closed about these.
    gap : float
        (J - J*) / |J*|.
    bias : float
        The same of the exact solution of what the remedy minimises; zero where that is J.
    gaps : (iterations + 1,) or None
        Gap of each iterate, the start first; None where these are not inputs of the whole horizon.
    """

    name: str
    method: str
    cost: float
    status: Status
    message: str
    iterations: int
    seconds: float
    gap: float
    bias: float
    gaps: Array | None
    history = former("gaps")

    @property
    def began(self) -> bool:
        """Whether it could begin: scaling cannot where a block of the Hessian overflows."""
        return self.gaps is not None or math.isfinite(self.gap)


class Bench:
    """The problem that all remedies are tried on, in units of its own, and its answer.

    `unit` is a cost of one in the user's unit.
    """

    def __init__(
        self, problem: LQProblem, x0: Array, T: int, max_iter: int, tol: float, unit: float = 1.0
    ) -> None:
        self.problem, self.x0, self.T = problem, x0, T
        self.max_iter, self.tol, self.unit = max_iter, tol, unit
        self.recursion = riccati(problem, T)
        self.optimum = self.recursion.rollout(x0)
        self.objective = problem.objective(x0, T)

    def gap(self, cost: float) -> float:
        """(J - J*) / |J*|, or J - J* where J* is zero."""
        best = float(self.optimum.cost)
        return (cost - best) / (abs(best) or self.unit)

    def cost(self, u: Array, x: Array | None = None) -> float:
        """That of inputs and their states, simulated if not given; infinite where one overflows."""
        try:
            x = self.problem.simulate(self.x0, u) if x is None else x
            return float(self.problem.cost(x, u))
        except NonFiniteError:
            return math.inf

    def found(self, name: str, method: str, cost: float, **known: object) -> Cure:
        """What a remedy came to that found inputs of this cost."""
        with np.errstate(over="ignore"):
            given = float(np.float64(cost) / self.unit)
        return Cure(name, method, given, gap=self.gap(cost), **known)  # type: ignore[arg-type]

    def failed(self, name: str, method: str, why: str) -> Cure:
        """A remedy that could not begin."""
        message, status = f"failed at the start: {why}", Status.ILL_CONDITIONED
        return Cure(name, method, math.inf, status, message, 0, 0.0, math.inf, 0.0, None)

    def descent(
        self,
        name: str,
        objective: Objective,
        *,
        bias: float = 0.0,
        cost: Callable[[Array], float] | None = None,
        start: Array | None = None,
        method: str = "gradient",
        step_size: float | None = None,
    ) -> Cure:
        """Descend. `cost` is that of the problem, where the objective's is another."""
        gaps: list[float] = []
        result = descend(
            objective,
            start,
            max_iter=self.max_iter,
            tol=self.tol,
            callback=lambda seen: gaps.append(self.gap(cost(seen.z) if cost else seen.cost)),
            method=method,
            step_size=step_size,
        )
        return self.found(
            name,
            method,
            cost(result.solution) if cost else result.cost,
            status=result.status,
            message=result.what,  # a remedy for the descent is none for the cure
            iterations=result.iterations,
            seconds=result.seconds,
            bias=bias,
            gaps=np.array(gaps),
        )


def plain(bench: Bench, method: str) -> Cure:
    """Descend as if nothing were the matter."""
    return bench.descent("none", bench.objective, method=method)


def feedback(bench: Bench) -> Cure:
    """Descend in v of u = v - K x, with gains that stabilise and are not the answer."""
    p = bench.problem
    dearer = LQProblem(p.A, p.B, p.Q, _DEARER * p.R, p.S, M=p.M)
    closed = p.with_feedback(riccati(dearer, bench.T).K)
    objective = closed.objective(bench.x0, bench.T)
    return bench.descent("feedback", objective, method="conjugate-gradient")


def exact_feedback(bench: Bench) -> Cure:
    """The same with Riccati's gains, preconditioned by the blocks R + B'P[t+1]B of its Hessian.

    Without linear terms v = 0 is its minimum: it starts from a random v, each input of the size of its u.
    """
    name = "Riccati's feedback"
    closed = bench.problem.with_feedback(bench.recursion.K)
    size = np.abs(bench.optimum.u).max(axis=0)
    v = size * np.random.default_rng(0).normal(size=bench.objective.shape)
    factor = whitening(bench.problem, bench.recursion.P[1:])
    if factor is None:
        return bench.failed(name, "gradient", "R + B'PB is singular")
    start = np.linalg.solve(factor, v[:, :, None])[:, :, 0]
    objective = closed.objective(bench.x0, bench.T).scaled(factor)
    return bench.descent(name, objective, start=start)


def shooting(bench: Bench) -> Cure:
    """Multiple shooting; its gap is that of its inputs with Riccati's feedback to its states.

    Its own cost is that of states with jumps at the cuts, and may be below the optimum.
    """
    limit = max(bench.max_iter, min(10 * bench.max_iter, _STEPS // bench.T))
    shot = multiple_shooting(bench.problem, bench.x0, bench.T, max_iter=limit)
    closed = bench.problem.with_feedback(bench.recursion.K)
    v = shot.u + times(bench.recursion.K, shot.x[:-1])
    return bench.found(
        "multiple shooting",
        "multipliers",
        float(closed.cost(closed.simulate(bench.x0, v), v)),
        status=shot.status,
        message=replace(shot, cost=shot.cost / bench.unit).message,
        iterations=shot.iterations,
        seconds=shot.seconds,
        bias=0.0,
        gaps=None,
    )


def scaled(bench: Bench) -> Cure:
    """Conjugate gradients with each input scaled by its own block of the Hessian."""
    name, method = "scaled by time", "conjugate-gradient"
    with np.errstate(over="ignore", invalid="ignore"):
        factor = whitening(bench.problem, open_loop_weights(bench.problem, bench.T))
    if factor is None:
        why = "a block of the Hessian overflows or is singular to rounding"
        return bench.failed(name, method, why)
    return bench.descent(name, bench.objective.scaled(factor), method=method)


def clipped(bench: Bench, window: int) -> Cure:
    """Descend, with a line search, along gradients with no g[t] larger than those of windows."""
    return bench.descent("clipped", clipped_objective(bench, window))


def clipped_objective(bench: Bench, window: int) -> Objective:
    """J, and its gradient with each g[t] shortened to the largest that cut costates give at the start."""
    limit, shape = math.inf, bench.objective.shape
    with suppress(NonFiniteError):  # of which the descent will tell
        start = cut_gradient(bench, windows(bench.problem, bench.T, window), np.zeros(shape))
        limit = float(_row_norms(start).max())

    def value_and_gradient(u: Array) -> tuple[float, Array]:
        value, g = bench.objective.value_and_gradient(u)
        size = _row_norms(g)[:, None]
        return value, g * np.minimum(1.0, limit / np.maximum(size, _TINY))

    return Objective(shape, value_and_gradient)


def cut(bench: Bench, window: int) -> Cure:
    """Descend along gradients from costates that are cut where a window ends."""
    apart, shape = windows(bench.problem, bench.T, window), bench.objective.shape
    mu, L = extreme_eigenvalues(apart.hessian_product, shape)

    def value_and_gradient(u: Array) -> tuple[float, Array]:
        return bench.objective.value_and_gradient(u)[0], cut_gradient(bench, apart, u)

    return bench.descent(
        "cut costates",
        Objective(shape, value_and_gradient),
        step_size=2 / (L + mu),
        bias=bench.gap(greedy_cost(bench, apart, window)),
    )


def discounted(bench: Bench, gamma: float) -> Cure:
    """Descend on the stages' costs times gamma^t, in the variables gamma^(t/2) x and gamma^(t/2) u.

    There the dynamics are sqrt(gamma) A and sqrt(gamma) B, with the weights as they were.
    """
    p, root = bench.problem, math.sqrt(gamma)
    weight = gamma ** (np.arange(bench.T + 1.0)[:, None] / 2)
    linear = {"c": weight[1:] * p.c, "q": weight[:-1] * p.q, "r": weight[:-1] * p.r}
    problem = p.replace(A=root * p.A, B=root * p.B, s=weight[-1] * p.s, **linear)
    exact = riccati(problem, bench.T).rollout(bench.x0)
    return bench.descent(
        "discounted",
        problem.objective(bench.x0, bench.T),
        method="conjugate-gradient",
        bias=bench.gap(bench.cost(_quotient(exact.u, weight[:-1]), _quotient(exact.x, weight))),
        cost=lambda z: bench.cost(_quotient(z, weight[:-1])),
    )


def windows(problem: LQProblem, T: int, window: int) -> LQProblem:
    """The problem with its windows apart: their costates are those that are cut."""
    A, M = (np.array(np.broadcast_to(z, (T, *z.shape[-2:]))) for z in (problem.A, problem.M))
    A[window::window], M[window::window] = 0.0, 0.0
    return problem.replace(A=A, M=M)


def cut_gradient(bench: Bench, apart: LQProblem, u: Array) -> Array:
    """The gradient with the states of the problem and the costates of its windows."""
    x = bench.problem.simulate(bench.x0, u)
    return bench.problem.input_gradient(x, u, apart.adjoint(x, u))


def greedy_cost(bench: Bench, apart: LQProblem, window: int) -> float:
    """The cost where each window is minimised on its own, which is where the cut gradient is zero."""
    p, T, recursion = bench.problem, bench.T, riccati(apart, bench.T)
    K = recursion.K.copy()
    A, B, R, M = (np.broadcast_to(z, (T, *z.shape[-2:])) for z in (p.A, p.B, p.R, p.M))
    for t in range(window, T, window):  # the first input of a window sees its state again
        PB = recursion.P[t + 1] @ B[t]
        K[t] = np.linalg.solve(R[t] + B[t].T @ PB, PB.T @ A[t] + M[t].T)
    closed = p.with_feedback(K)
    return float(closed.cost(closed.simulate(bench.x0, -recursion.k), -recursion.k))


def open_loop_weights(problem: LQProblem, T: int) -> Array:
    """W[t+1] for each stage, W[t] = Q + A'W[t+1]A: what a state costs if no input answers it."""
    n = problem.n
    A, Q = (np.broadcast_to(z, (T, n, n)) for z in (problem.A, problem.Q))
    W = np.empty((T, n, n))
    W[-1] = problem.S
    for t in range(T - 1, 0, -1):
        W[t - 1] = Q[t] + A[t].T @ W[t] @ A[t]
    return W


def whitening(problem: LQProblem, P: Array) -> Array | None:
    """F with F'(R + B'P[t]B)F = I for each stage; None where a block is singular to rounding.

    From the triangular factor of [R^1/2; P^1/2 B]: in the sum a large P would swallow R.
    """
    if not np.isfinite(P).all():
        return None
    halves = _half(problem.R), _half(P) @ problem.B
    rows = [np.broadcast_to(z, (len(P), *z.shape[-2:])) for z in halves]
    factor = np.linalg.qr(np.concatenate(rows, axis=1), mode="r")
    pivots = np.abs(np.diagonal(factor, axis1=1, axis2=2))
    if not (pivots > problem.n * EPS * np.abs(factor).max(axis=(1, 2))[:, None]).all():
        return None
    unit = np.broadcast_to(np.eye(problem.m), (len(P), problem.m, problem.m))
    return np.asarray(np.linalg.solve(factor, unit))


def _half(P: Array) -> Array:
    """X with X'X = P, for semidefinite P."""
    values, vectors = np.linalg.eigh(P)
    roots = np.sqrt(np.maximum(values, 0.0))[..., None]
    return np.asarray(roots * vectors.swapaxes(-1, -2))


def _row_norms(g: Array) -> Array:
    """The norms of the rows, whose squares may overflow."""
    return np.asarray(np.hypot.reduce(np.abs(g), axis=1))


def _quotient(z: Array, weight: Array) -> Array:
    """Return z / weight; what is not finite in it is found where it is used."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return z / weight
