"""Linear-quadratic problems solved by the Riccati recursion: feedback gains and value function.

The optimal cost from state x at time t is  V_t(x) = 1/2 x'P[t]x + v[t]'x + w[t].  It is reached by
u[t] = -K[t] x[t] - k[t]; with e[t] = v[t+1] + P[t+1]c the gradient of V_{t+1} at c,

    K = (R + B'P[t+1]B)^-1 (B'P[t+1]A + M')       k = (R + B'P[t+1]B)^-1 (B'e + r)
    P[t] = Q + A'P[t+1]A - K'(B'P[t+1]A + M')     v[t] = q - K'r + (A - BK)'e

No adjoint pass of the problem is used here, so that either can prove the other wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_finite, check_type, finite_start
from lqrad.copies import ReadOnly
from lqrad.linalg.forward import run_forward, run_in_loop
from lqrad.linalg.riccati import recursion
from lqrad.linalg.stages import Stages, substitute, times
from lqrad.lq.batch import LQBatch
from lqrad.lq.batch_riccati import RiccatiBatch, riccati_batch
from lqrad.lq.inputs import Trajectory
from lqrad.lq.problem import LQProblem
from lqrad.results import Report

# Overflow is looked for in the results and told in words.
_quiet = np.errstate(over="ignore", invalid="ignore")


@dataclass(frozen=True, eq=False, repr=False)
class Riccati(ReadOnly, Report):
    """The solution of a linear-quadratic problem as a feedback law and a value function.

    Attributes
    ----------
    problem : LQProblem
    P, K : (T+1, n, n), (T, m, n)
        Read as arrays; stages that are alike are held once.
    k : (T, m)
        The optimal input is u[t] = -K[t] x[t] - k[t].
    v : (T+1, n)
    w : (T+1,)
        The optimal cost from x at time t is 1/2 x'P[t]x + v[t]'x + w[t].
    swept : int
        How many stages were run before the rest was known to repeat the last; T if it never was.
    """

    problem: LQProblem
    P: Stages
    K: Stages
    k: Array
    v: Array
    w: Array
    swept: int

    def __repr__(self) -> str:
        return (
            f"Riccati(n={self.problem.n}, m={self.problem.m}, T={self.T}, "
            f"{self.swept} stages swept)"
        )

    @property
    def T(self) -> int:
        """The horizon."""
        return len(self.K)

    @_quiet
    def cost(self, x0: ArrayLike) -> float | Array:
        """Return the optimal cost from x0 (..., n), which needs no rollout; (...) for a batch.

        Examples
        --------
        >>> riccati(LQProblem([[1]], [[1]], [[1]], [[1]]), T=1).cost([2.0])
        3.0
        """
        x0 = finite_start(self.problem, x0)
        cost = (0.5 * x0.dot(self.P[0]) * x0).sum(axis=-1) + x0.dot(self.v[0]) + self.w[0]
        check_finite("the cost", np.asarray(cost), computed=True)
        return float(cost) if x0.ndim == 1 else np.asarray(cost)

    @_quiet
    def rollout(self, x0: ArrayLike) -> Trajectory:
        """Return the optimal trajectory from x0 (..., n), simulated in closed loop.

        An open-loop simulation from the same inputs would lose all digits where A is unstable. The
        costates are p[t] = P[t+1] x[t+1] + v[t+1], and the cost is that of x and u, stage by stage.

        Examples
        --------
        >>> solution = riccati(LQProblem([[1]], [[1]], [[1]], [[1]]), T=1)
        >>> trajectory = solution.rollout([2.0])
        >>> trajectory.x.ravel(), trajectory.u.ravel(), trajectory.p.ravel(), trajectory.cost
        (array([2., 1.]), array([-1.]), array([1.]), 3.0)
        """
        x0 = finite_start(self.problem, x0)
        kernel, alike = self.problem._kernel, self.K.repeated
        affine = (self.k, self.v) if _is_affine(self.problem) else (None, None)
        found = kernel and kernel.rollout(
            x0, self.T, alike, self.K.distinct, self.P.distinct, *affine
        )
        if found:
            x, u, p, cost = found
            return Trajectory(x, u, p, cost if cost.ndim else float(cost))
        x = np.empty((*x0.shape[:-1], self.T + 1, self.problem.n))
        x[..., 0, :] = x0
        x[..., 1:, :] = self.problem.c - times(self.problem.B, self.k)
        A, B, K = self.problem.A, self.problem.B, self.K
        if alike:
            run_forward(A - B @ K[0], x[..., : alike + 1, :])
        run_in_loop(A, B, K.distinct, x[..., alike:, :])
        check_finite("x", x, computed=True)
        u = -times(self.K, x[..., :-1, :]) - self.k
        p = times(self.P[1:], x[..., 1:, :]) + self.v[1:]
        for name, array in (("u", u), ("p", p)):
            check_finite(name, array, computed=True)
        return Trajectory(x, u, p, self.problem.cost(x, u))

    def facts(self) -> dict[str, Any]:
        """Return P, K, k, v, w as arrays over the whole horizon, and the stages that were swept."""
        return {name: np.asarray(getattr(self, name)) for name in "PKkvw"} | {"swept": self.swept}

    def vjp(self, **weights: Any) -> Any:
        """`riccati_vjp` of this solution, under its former name."""
        return import_module("lqrad.lq.riccati_gradient").riccati_vjp(self, **weights)

    def cost_gradient(self, x0: ArrayLike) -> Any:
        """`riccati_cost_gradient` of this solution, under its former name."""
        return import_module("lqrad.lq.riccati_gradient").riccati_cost_gradient(self, x0)


@overload
def riccati(problem: LQProblem, T: int | None = None) -> Riccati: ...
@overload
def riccati(problem: LQBatch, T: int | None = None) -> RiccatiBatch: ...
def riccati(problem: LQProblem | LQBatch, T: int | None = None) -> Riccati | RiccatiBatch:
    """Solve a linear-quadratic problem by the backward Riccati recursion.

    Where nothing varies in time, the recursion stops once the rest of the horizon is known to
    repeat the last stage to the last digits.

    Parameters
    ----------
    problem : LQProblem or LQBatch
        One, or several of the same sizes, whose solutions have an axis of problems in front.
    T : int, optional
        The horizon; needed where nothing varies in time.

    Returns
    -------
    Riccati or RiccatiBatch

    Raises
    ------
    NotConvexError
        If R + B'P[t+1]B is not positive definite at a stage, which it names. R may be singular.
    NonFiniteError
        If the cost to go overflows; names the stage.

    See Also
    --------
    dlqr : the limit of an endless horizon.
    compare : this beside descents along adjoint gradients.
    riccati_vjp, riccati_cost_gradient : derivatives in the problem's arrays.
    mpc : the same within limits, from one state after the other.

    Notes
    -----
    A mode that grows by rho a stage and that no weight sees costs nothing, and is not controlled. Rounding
    errors of the weights are a weight on it that grows by rho^2 a stage: over a horizon where eps rho^(2T)
    is not small, they decide whether K leaves the mode alone or makes it stable, and they differ between C
    and NumPy. A small weight on it in S decides in their place.

    References
    ----------
    Anderson and Moore, Optimal Control: Linear Quadratic Methods, 1990, sections 2.4 and 4.1.

    Examples
    --------
    >>> problem = LQProblem(A=[[1, 1], [0, 1]], B=[[0], [1]], Q=np.eye(2), R=[[1]])
    >>> solution = riccati(problem, T=1000)
    >>> solution.swept < 50
    True
    >>> solution.K[0].round(4), round(solution.cost([1.0, 0.0]), 4)
    (array([[0.4221, 1.2439]]), 1.4736)
    """
    if isinstance(problem, LQBatch):
        return riccati_batch(problem, T, riccati)
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    T = problem.horizon(T)
    p, unit = problem, cost_factor(problem)
    P, K, L, swept = recursion(p.A, p.B, p.Q, p.R, p.M, p.S, T, unit, p._kernel)
    if _is_affine(problem):
        k, v, w = _linear_part(problem, P, K, L, unit)
    else:  # zeros, held once
        shapes = (T, p.m), (T + 1, p.n), (T + 1,)
        k, v, w = (np.ndarray(z, np.float64, bytes(8), 0, len(z) * (0,)) for z in shapes)
    for array in (k, v, w):
        array.setflags(write=False)
    return Riccati(problem, P, K, k, v, w, swept)


def _is_affine(problem: LQProblem) -> bool:
    return problem._has["c"] or problem._has["linear"]


def cost_factor(problem: LQProblem) -> float:
    """Return 1 or 2: what the cost is multiplied by so that its unit decides no digit.

    Roots, as Cholesky's, of four times a number are exact multiples, of twice a number they are not.
    So the first weight is brought to an even power of two, in any units of states and inputs.
    """
    for weight in (problem.R, problem.Q, problem.S):
        diagonal = weight.diagonal(0, -2, -1).ravel()
        first = diagonal[(diagonal != 0).argmax()]
        if first:
            return float(1 + math.frexp(first)[1] % 2)
    return 1.0


@_quiet
def _linear_part(
    problem: LQProblem, P: Stages, K: Stages, L: Stages, unit: float
) -> tuple[Array, Array, Array]:
    """Return k, v and w."""
    T, n, alike = len(K), problem.n, K.repeated
    c, r = (np.broadcast_to(z, (T, z.shape[-1])) for z in (problem.c, problem.r))
    Pc = times(P[1:], c)
    closed = np.asarray(problem.A - problem.B @ K.distinct).swapaxes(-1, -2)
    v = np.empty((T + 1, n))  # backward in time, so that its recursion runs forward
    v[0] = problem.s
    v[1:] = (problem.q + times(Stages(closed, T), Pc) - times(K, r, transpose=True))[::-1]
    run_forward(closed[::-1], v[: T - alike + 1])
    run_forward(closed[0], v[T - alike :])
    v = v[::-1].copy()
    slope = times(problem.B, v[1:] + Pc, transpose=True) + r
    check_finite("v", v, computed=True)
    k = np.empty((T, problem.m))
    for factor, part in ((L.distinct[0], slice(alike)), (L.distinct, slice(alike, None))):
        rows = slope[part, :, None] if factor.ndim == 3 else slope[part].T
        solved = substitute(factor, substitute(factor, unit * rows), transpose=True)
        k[part] = solved[..., 0] if factor.ndim == 3 else solved.T
    w = np.zeros(T + 1)
    w[:-1] = (v[1:] * c + 0.5 * Pc * c).sum(axis=-1) - 0.5 * (k * slope).sum(axis=-1)
    w[:-1] = np.cumsum(w[-2::-1])[::-1]
    for name, array in (("k", k), ("w", w)):
        check_finite(name, array, computed=True)
    return k, v, w
