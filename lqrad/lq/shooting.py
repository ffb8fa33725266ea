"""Multiple shooting: the horizon in segments, so that no product of A is longer than one of them.

At each cut t a state s, the start of the next segment, becomes an input of its own, and the step
that it cuts through an equation e = A x[t] + B u[t] + c - s = 0, put into the cost with a multiplier
l and a penalty, the augmented Lagrangian

    J + sum over cuts ( l'e + 1/2 e'D e )

In the inputs (u, s) that is again a linear-quadratic problem: at a cut A is zero and B hands s on.
Conjugate gradients minimise it by the same two passes, in which nothing grows for longer than a
segment; then l <- l + D e, until the cuts close. In the end l is the costate at the cut.

All of it is done in units of the problem's own, so that those of the user decide neither about the
cuts nor about the path of the descent.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    check_count,
    check_finite,
    check_tolerance,
    check_type,
    one_initial_state,
)
from lqrad.descent.descend import descend
from lqrad.errors import NonFiniteError, Status
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem, balanced
from lqrad.results import Report, former

# By how much states may grow over a segment, where its length is not given.
_GROWTH = 20.0
# The penalty on a gap, in units of what the state costs over the segment that starts there: a
# larger one closes the gaps in fewer rounds, of more iterations and with fewer digits.
_PENALTY = 10.0
# By how much a round lowers the gradient: there is no use in more before the multipliers are right.
_INNER = 1e-4
# So many rounds without a smaller residual are the last.
_PATIENCE = 8


@dataclass(frozen=True, eq=False)
class ShootingHistory(Report):
    """The cost and the residual of each round of multipliers; the start, with all at zero, first."""

    cost: Array
    residual: Array


@dataclass(frozen=True, eq=False, repr=False)
class Shooting(Report):
    """What `multiple_shooting` returns: a trajectory and its proof.

    Attributes
    ----------
    x, u : (T+1, n), (T, m)
    p : (T, n)
        Costates; the multipliers at the cuts.
    cost : float
        J(x, u), which may be below the minimum by what the jumps at the cuts are worth.
    iterations, rounds : int
        Of conjugate gradients over all rounds, which are updates of the multipliers.
    cuts : (k,)
        The t whose step to x[t+1] is an equation.
    jump : float
        Largest |A x[t] + B u[t] + c - x[t+1]| at a cut, relative to the largest term that this
        state has at any time.
    residual : float
        Relative KKT residual of (x, u, p), in which nothing is simulated.
    """

    x: Array
    u: Array
    p: Array
    cost: float
    status: Status
    iterations: int
    seconds: float
    history: ShootingHistory
    rounds: int
    cuts: NDArray[np.intp]
    jump: float
    residual: float
    gap = former("jump")

    def facts(self) -> dict[str, Any]:
        """Return what was found by name, and the message."""
        return super().facts() | {"message": self.message}

    @property
    def message(self) -> str:
        """How it ended, and how good the trajectory is."""
        counts = {"segment": len(self.cuts) + 1, "round": self.rounds, "iteration": self.iterations}
        segments, rounds, iterations = (
            f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()
        )
        limit = ", as many as allowed" if self.status is Status.MAX_ITER else ""
        return (
            f"Shooting over {segments}: {self.status.word} after {rounds} of {iterations} in all{limit}; "
            f"J = {self.cost:.7g}, with a relative KKT residual of {self.residual:.1e}"
        )

    def __repr__(self) -> str:
        return f"<{self.message}>"


def multiple_shooting(
    problem: LQProblem,
    x0: ArrayLike,
    T: int | None = None,
    *,
    segment: int | None = None,
    tol: float = 1e-8,
    max_rounds: int = 50,
    max_iter: int = 100_000,
) -> Shooting:
    """Minimise the cost by descent over an unstable horizon that is too long for one simulation.

    The rounds are few at any horizon, but the iterations in each grow with it: some ten thousand at
    T = 500 for a pendulum. Where a stabilising feedback is at hand, `LQProblem.with_feedback` takes
    less work and keeps more digits.

    Parameters
    ----------
    problem, x0, T : LQProblem, (n,), int
        The horizon T is needed where nothing varies in time.
    segment : int, optional
        Steps of a segment; when not given, as many as it takes for the states to grow twentyfold, and
        all T where they do not.
    tol : float
        A relative residual: stop where that of the KKT conditions is at most this.
    max_rounds, max_iter : int
        Limits on the updates of the multipliers, and on the iterations in all of them together.

    Raises
    ------
    NonFiniteError
        If the states of a segment overflow: it is too long then.

    See Also
    --------
    LQProblem.with_feedback : growth is taken out by a feedback instead.
    riccati : the same answer without a descent.
    cures : both beside other remedies.

    References
    ----------
    Bock and Plitt, A multiple shooting algorithm for direct solution of optimal control problems,
    IFAC Proceedings 17 (1984), 1603-1608.
    Nocedal and Wright, Numerical Optimization, 2nd edition, 2006, section 17.3 (the method of
    multipliers).

    Examples
    --------
    >>> problem = LQProblem([[1.5]], [[1.0]], [[1.0]], [[1.0]])
    >>> shot = multiple_shooting(problem, [1.0], T=200, segment=10)
    >>> from lqrad.lq.riccati import riccati
    >>> abs(shot.cost - riccati(problem, 200).rollout([1.0]).cost) < 1e-9, shot.status.converged
    (True, True)
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    T = problem.horizon(T)
    start = one_initial_state(problem, x0)
    tol, max_rounds = check_tolerance(tol), check_count("max_rounds", max_rounds)
    max_iter = check_count("max_iter", max_iter, least=0)
    problem, units = balanced(problem, start)
    start = np.ldexp(start, -units.x)
    if segment is None:
        cuts = _cuts(problem, T)
    else:
        length = min(check_count("segment", segment), T)
        cuts = np.arange(length - 1, T - 1, length)
    began, penalty = time.perf_counter(), _penalty(problem, T, cuts)
    multipliers = np.zeros_like(penalty)
    z = np.zeros((T, problem.m + problem.n))
    iterations, best, entries = 0, (math.inf, 0), list[tuple[float, float]]()

    def read(z: Array) -> tuple[Array, Array, Array, Array, float]:
        """The x, u and p of a round, the jumps e, and its residual, which the history keeps."""
        x, u = augmented.simulate(start, z), z[:, : problem.m].copy()
        e = (times(problem.A, x[:-1]) + times(problem.B, u) + problem.c - x[1:])[cuts]
        p = augmented.adjoint(x, z)
        p[cuts] = multipliers + penalty * e
        residual = problem.kkt_residual(x, u, p, start).relative
        entries.append((float(problem.cost(x, u)), residual))
        return x, u, p, e, residual

    for rounds in range(1, max_rounds + 1):
        augmented = _augmented(problem, T, cuts, penalty, multipliers)
        if not entries:
            read(z)
        objective = replace(augmented.objective(start, T), gap_bound=None)
        inner = descend(
            objective,
            z,
            method="conjugate-gradient",
            tol=_INNER,
            max_iter=max_iter - iterations,
        )
        z, iterations = inner.solution, iterations + inner.iterations
        x, u, p, e, residual = read(z)
        multipliers = p[cuts]
        best = min(best, (residual, rounds))
        if residual <= tol:
            status = Status.CONVERGED_GRADIENT
        elif rounds - best[1] >= _PATIENCE:
            status = Status.STALLED
        elif rounds == max_rounds or iterations >= max_iter:
            status = Status.MAX_ITER
        else:
            continue
        break
    if residual > tol:
        # Multipliers are right to the rounding errors of what they begin with: no way to costates
        # that are zero, or far below. Where nothing grows on the way back the adjoint is right too.
        with suppress(NonFiniteError):
            exact = problem.adjoint(x, u)
            left = problem.kkt_residual(x, u, exact, start).relative
            if left < residual:
                p, residual = exact, left
                status = Status.CONVERGED_GRADIENT if residual <= tol else status
    jump = _jump(problem, x, u, e)
    with np.errstate(over="ignore"):
        costs, residuals = np.array(entries).T
        costs = np.ldexp(costs, units.cost)
    check_finite("the cost", costs[-1:], computed=True)
    history = ShootingHistory(costs, residuals)
    x, u, p = np.ldexp(x, units.x), np.ldexp(u, units.u), np.ldexp(p, units.cost - units.x)
    seconds = time.perf_counter() - began
    ends = (status, iterations, seconds, history, rounds, cuts, jump, residual)
    return Shooting(x, u, p, float(costs[-1]), *ends)


def _jump(problem: LQProblem, x: Array, u: Array, e: Array) -> float:
    """The largest residual e of an equation at a cut, beside the terms of its own state."""
    terms = times(np.abs(problem.A), np.abs(x[:-1])) + times(np.abs(problem.B), np.abs(u))
    size = (terms + np.abs(problem.c) + np.abs(x[1:])).max(axis=0)
    return float((np.abs(e) / np.where(size > 0, size, 1.0)).max(initial=0.0))


def _cuts(problem: LQProblem, T: int) -> NDArray[np.intp]:
    """The steps at which a product of A that began after the last cut exceeds _GROWTH."""
    A = np.broadcast_to(problem.A, (T, problem.n, problem.n))
    cuts, product = [], np.eye(problem.n)
    for t in range(T - 1):
        product = A[t] @ product
        growth = np.linalg.norm(product, 2)
        if growth > _GROWTH:
            cuts.append(t)
        if not 1 < growth <= _GROWTH:  # what shrinks is no start of a growth
            product = np.eye(problem.n)
    return np.array(cuts, dtype=np.intp)


def _penalty(problem: LQProblem, T: int, cuts: NDArray[np.intp]) -> Array:
    """The diagonals of D: those of W[t] = Q + A'W[t+1] A, what a state costs over its segment.

    Where it costs nothing, the mean of the others: in units of the problem's own all are alike.
    """
    A, Q = (np.broadcast_to(z, (T, *z.shape[-2:])) for z in (problem.A, problem.Q))
    penalty = np.empty((len(cuts), problem.n))
    ends = np.append(cuts[1:], T - 1)
    for k, (cut, end) in enumerate(zip(cuts, ends[: len(cuts)], strict=True)):
        W = problem.S if end == T - 1 else np.zeros_like(problem.S)
        for t in range(end, cut, -1):
            W = Q[t] + A[t].T @ W @ A[t]
        penalty[k] = W.diagonal()
    some = penalty > 0
    return _PENALTY * np.where(some, penalty, penalty[some].mean() if some.any() else 1.0)


def _augmented(
    problem: LQProblem, T: int, cuts: NDArray[np.intp], penalty: Array, multipliers: Array
) -> LQProblem:
    """The problem in the inputs (u, s), with the equations at the cuts in its cost.

    With E = [A B -I], so that e = E (x, u, s) + c, a cut adds E'D E to the weights of (x, u, s) and
    E'(l + D c) to the linear ones. Elsewhere s has no effect, and costs 1/2 s's.
    """
    n, m = problem.n, problem.m

    def stages(z: Array, *shape: int) -> Array:
        """The array z at every stage, with zeros where s comes in."""
        whole = np.zeros((T, *shape))
        whole[(slice(None), *(slice(size) for size in z.shape[len(z.shape) - len(shape) :]))] = z
        return whole

    A, B, Q = stages(problem.A, n, n), stages(problem.B, n, m + n), stages(problem.Q, n, n)
    R, M = stages(problem.R, m + n, m + n), stages(problem.M, n, m + n)
    c, q, r = stages(problem.c, n), stages(problem.q, n), stages(problem.r, m + n)
    R[:, m:, m:] = np.eye(n)
    R[cuts, m:, m:] = 0.0
    minus = np.broadcast_to(-np.eye(n), (len(cuts), n, n))
    E = np.concatenate([A[cuts], B[cuts, :, :m], minus], axis=2)
    weight = E.swapaxes(1, 2) @ (penalty[:, :, None] * E)
    slope = (E.swapaxes(1, 2) @ (multipliers + penalty * c[cuts])[:, :, None])[:, :, 0]
    Q[cuts] += weight[:, :n, :n]
    M[cuts] += weight[:, :n, n:]
    R[cuts] += weight[:, n:, n:]
    q[cuts] += slope[:, :n]
    r[cuts] += slope[:, n:]
    A[cuts], c[cuts] = 0.0, 0.0
    B[cuts, :, :m], B[cuts, :, m:] = 0.0, np.eye(n)
    return LQProblem(A, B, Q, R, problem.S, M=M, c=c, q=q, r=r, s=problem.s)
