"""Derivatives through a plan within limits: of its states, inputs and cost, in all that it was made of.

With the limits at work held, a plan is the solution of a problem with equations,

    minimise  J(x, u) + sum spring/2 excess^2 + price excess
    subject to  x[t+1] = A x[t] + B u[t] + c,    g = limit  of the rows at work

whose optimality conditions are linear and symmetric. So the adjoint is the same problem again, from
x[0] = 0, with what is given of x and u for its linear terms, zero for the limits at work, and

    spring/2 g^2    of each row that has given way to a spring; nothing of one that pays its price alone.

Its states, inputs, costates and multipliers, times those of the plan, are the gradient. It is exact
where no limit comes to work or leaves it. Where a row is at its limit with a multiplier of zero, or at
a multiplier of its price without an excess, the plan has a kink: the derivative that is given is that
of one side, and the rows are told.

References
----------
Amos and Kolter, OptNet: differentiable optimization as a layer in neural networks, ICML 2017.
Fiacco, Introduction to Sensitivity and Stability Analysis in Nonlinear Programming, 1983, chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dtrtrs

from lqrad.arguments import (
    EPS,
    Array,
    check_finite,
    check_number,
    check_shape,
    check_type,
    real_array,
)
from lqrad.errors import ArgumentError, Status
from lqrad.linalg.feedback import Feedback
from lqrad.linalg.riccati import recursion
from lqrad.linalg.stages import times
from lqrad.lq.plan import Plan
from lqrad.lq.riccati_gradient import LQGradient, Sums, outer
from lqrad.lq.rows import Rows

# A row is at its limit, and its multiplier zero, where either moves the plan by no more than this part
# of what it moves at all.
_CLOSE = 1e-7


@dataclass(frozen=True, eq=False)
class PlanGradient(LQGradient):
    """A gradient in the arrays of a plan's problem, its limits and references.

    That in a weight is symmetric, and taken with references held. An array that varies in time, as c
    does around references, has a gradient at each stage.

    Attributes
    ----------
    x0 : (n,)
    low, high : (T, rows)
        Of the rows as in `Plan.rows`; of an equation, both limits of which move, in the one of these.
    price, spring : (rows,)
        Of rows that have one, and give way.
    x_ref, u_ref : (T+1, n), (T, m)
    u_before : (m,) or None
        The input before the first, where rates are limited.
    weak : (T, rows) of bool
        Where the plan has a kink: the gradient is that of one side.
    """

    low: Array
    high: Array
    price: Array
    spring: Array
    x_ref: Array
    u_ref: Array
    u_before: Array | None
    weak: NDArray[np.bool_]


@np.errstate(over="ignore", invalid="ignore")  # looked for in what comes out
def plan_vjp(
    plan: Plan,
    *,
    dx: ArrayLike | None = None,
    du: ArrayLike | None = None,
    dcost: float = 0.0,
) -> PlanGradient:
    """Return the gradient of <dx, x> + <du, u> + dcost cost in all that a plan was made of.

    Parameters
    ----------
    plan : Plan
        Of `MPC.plan` or `MPC.last`; it has converged.
    dx, du : (T+1, n), (T, m), optional
    dcost : float

    Raises
    ------
    ArgumentError
        If the plan has not converged, so that it is no solution, or holds its inputs in blocks.

    See Also
    --------
    riccati_vjp : without limits.

    Examples
    --------
    A cart that is to be slow: how much farther it gets where its speed may be higher for a step:

    >>> import lqrad
    >>> A, B = [[1, 0.1], [0, 1]], [[0.005], [0.1]]
    >>> problem = lqrad.LQProblem(A, B, np.diag([10, 1]), [[0.1]])
    >>> controller = lqrad.mpc(problem, 8, state_bounds=([-np.inf, -0.5], [np.inf, 0.5]))
    >>> plan = controller.plan([1.0, 0.0])
    >>> dx = np.zeros_like(plan.x)
    >>> dx[-1, 0] = 1.0
    >>> gradient = plan_vjp(plan, dx=dx)
    >>> gradient.low.ravel().round(3) + 0.0                      # of the speeds x[1] ... x[8]
    array([0.1 , 0.1 , 0.1 , 0.1 , 0.1 , 0.1 , 0.1 , 0.05])
    >>> gradient.weak.any()
    np.False_
    """
    check_type("plan", plan, Plan, "mpc(problem, T).plan(x)")
    if plan.status is not Status.CONVERGED_GAP:
        raise ArgumentError(
            f"plan is {plan.status.word}, expected one that has converged: only a solution has "
            "derivatives",
            "soften the rows that cannot be kept by a price, or raise max_iter",
        )
    if plan.model.blocked:
        raise ArgumentError(
            "plan holds its inputs over several steps, of which no derivatives are known",
            "plan without blocks",
        )
    model, rows, n = plan.model, plan.rows, plan.x.shape[1]
    problem = model.problem
    in_x, in_u = np.zeros_like(model.x), np.zeros_like(model.u)
    for name, given, whole in (("dx", dx, in_x[:, :n]), ("du", du, in_u)):
        if given is not None:
            array = real_array(name, given)
            check_shape(name, array, whole.shape, f"as the plan's {name[1]}")
            check_finite(name, array)
            whole += array
    dcost = check_number("dcost", dcost)
    adjoint = _Adjoint(plan)
    x, u, p, y = adjoint.solve(in_x, in_u)
    beyond = np.where(np.isinf(rows.price), 0.0, rows.excess)
    way = np.sign(rows.multipliers) * adjoint.rows.at(x, u)
    price = np.where(beyond > 0, way + dcost * beyond, 0.0).sum(axis=0)
    spring = (way * beyond + dcost / 2 * beyond**2).sum(axis=0)

    total = Sums(problem)
    total.add_products((model.x, model.u, model.p), (x, u, p))
    # Of the cost it is that of the Lagrangian, with the plan held (the envelope theorem).
    own = dcost * model.x, dcost * model.u, dcost * model.p
    total.add_products((model.x / 2, model.u / 2, model.p / 2), own)
    x, u, p, y = x + own[0], u + own[1], p + own[2], y + dcost * rows.multipliers
    x_ref = plan.x - model.x[:, :n]
    wide = np.pad(x_ref[:-1], [(0, 0), (0, problem.n - n)])
    total.add("A", outer(p, wide))  # the dynamics are of the states themselves
    total.add("B", outer(p, plan.u - model.u))

    of_x, of_u = adjoint.slopes(x, u, dcost)
    on_x, on_u = np.zeros_like(of_x), np.zeros_like(of_u)
    adjoint.rows.add_slopes(on_x, on_u, y)
    A = problem.A[0] if problem.A.ndim == 3 else problem.A
    start = in_x[0] + of_x[0] + on_x[0] + p[0] @ A
    adjoint.rows.add_slopes(of_x, of_u, np.where(model.from_target, y, 0.0))
    if problem.n > n:
        of_u += of_x[:-1, n:]  # the input before is compared with the same reference
    found = {
        name: z[..., :n, :] if name == "B" or name == "M" else z
        for name, z in vars(total.gradient(start[:n])).items()
    }
    for name in "AQS":
        found[name] = found[name][..., :n, :n]
    for name in "cqs":
        found[name] = found[name][..., :n]
    high = (rows.multipliers > 0) | ((rows.multipliers == 0) & (rows.low == rows.high))
    gradient = PlanGradient(
        **found,
        low=np.where(high, 0.0, -y),
        high=np.where(high, -y, 0.0),
        price=price,
        spring=spring,
        x_ref=-of_x[:, :n],
        u_ref=-of_u,
        u_before=start[n:] if problem.n > n else None,
        weak=adjoint.weak,
    )
    for name in ("low", "high", "price", "spring", "x_ref", "u_ref"):
        check_finite(f"the gradient in {name}", getattr(gradient, name), computed=True)
    return gradient


class _Way(NamedTuple):
    """States, inputs, costates and multipliers of the adjoint problem."""

    x: Array
    u: Array
    p: Array
    y: Array


class _Adjoint:
    """The adjoint problem of a plan: which rows are at work, and the feedback without them.

    Attributes
    ----------
    rows : Rows
    weak : (T, rows) of bool
    """

    def __init__(self, plan: Plan) -> None:
        model, rows = plan.model, plan.rows
        self.problem = problem = model.problem
        T, m = plan.u.shape
        A, B, Q, R, M, S = (getattr(problem, name) for name in "ABQRMS")
        P, K, L = map(np.asarray, recursion(A, B, Q, R, M, S, T)[:3])
        self.feedback = Feedback(A, B, P, K, L)
        limited = np.isfinite(rows.low) | np.isfinite(rows.high)
        self.rows = Rows(problem, model.C, model.D, model.E, limited)
        roots = np.linalg.solve(L.swapaxes(-1, -2), np.broadcast_to(np.eye(m), L.shape))
        eps = 32 * (problem.n + m) * EPS
        Y, terms = self.rows.of_deviations(K, np.asarray(roots, np.float64), eps)
        norms = np.linalg.norm(Y, axis=1)
        moved = norms > eps * terms
        size = np.zeros(limited.shape)
        size[limited] = np.where(moved, norms, 0.0)

        # How far the plan goes at all, where a step of one costs one half.
        of_x, of_u = self.slopes(model.x, model.u, 0.0)
        pushed = np.where(moved, rows.multipliers[limited], 0.0) @ Y
        far = np.sqrt(np.vdot(of_x, model.x) + np.vdot(of_u, model.u)) + np.linalg.norm(pushed)
        y, price = np.abs(rows.multipliers), np.where(np.isinf(rows.price), np.inf, rows.price)
        near = limited & (np.maximum(rows.excess, rows.slack) <= _CLOSE * far * size)
        past = ~near & (rows.excess > 0) | (y >= price)
        equal = rows.low == rows.high
        at = near & ~past & ((rows.multipliers != 0) | equal) & (size > 0)
        loose = ((y * size <= _CLOSE * far) & ~equal) | (np.abs(y - price) * size <= _CLOSE * far)
        self.weak = near & loose
        give = np.divide(1.0, rows.spring, where=rows.spring > 0, out=np.zeros_like(rows.spring))
        self.held = at | (past & (rows.spring > 0) & (size > 0))
        self.give = np.where(past, give, 0.0)[self.held]
        self.size = size[self.held]
        normals = np.zeros((T, limited.shape[1], Y.shape[1]))
        normals[limited] = Y
        N = np.vstack([normals[self.held].T, np.diag(np.sqrt(self.give))]) / self.size
        _, self.R = np.linalg.qr(N)
        rounding = np.zeros(limited.shape)
        rounding[limited] = eps * terms
        noise = 1e2 * rounding[self.held] / self.size
        if len(self.R) < len(noise) or (np.abs(self.R.diagonal()) <= noise).any():
            t, row = np.argwhere(self.held)[
                int((np.abs(self.R.diagonal()) <= noise[: len(self.R)]).argmax())
            ]
            raise ArgumentError(
                f"plan has rows at their limits that depend on each other: {rows.names[row]} at "
                f"t={t + (row >= rows.now)} follows from the others, and has no multiplier of its own",
                "leave the row out, or soften it by a price",
            )

    def slopes(self, x: Array, u: Array, share: float) -> tuple[Array, Array]:
        """The partial derivatives of the cost in each state and input, with a share of its linear terms."""
        Q, R, M, S = (getattr(self.problem, name) for name in "QRMS")
        q, r, s = (share * getattr(self.problem, name) for name in "qrs")
        of_x = times(Q, x[:-1]) + times(M, u) + q
        return np.concatenate([of_x, (S @ x[-1] + s)[None]]), times(R, u) + times(
            M, x[:-1], transpose=True
        ) + r

    def solve(self, in_x: Array, in_u: Array) -> _Way:
        """The states, inputs, costates and multipliers for these linear terms."""
        y = np.zeros(self.held.shape)
        x, u, p, _ = self.feedback.minimise(in_x, in_u)
        for _ in range(2 if self.held.any() else 0):  # the second takes what rounding has left
            left = (self.rows.at(x, u)[self.held] - self.give * y[self.held]) / self.size
            z, _ = dtrtrs(self.R, left, trans=1)
            y[self.held] += dtrtrs(self.R, z)[0] / self.size
            on_x, on_u = in_x.copy(), in_u.copy()
            self.rows.add_slopes(on_x, on_u, y)
            x, u, p, _ = self.feedback.minimise(on_x, on_u)
        return _Way(x, u, p, y)
