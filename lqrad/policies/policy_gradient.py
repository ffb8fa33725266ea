"""Descent on the gain of u = -K x itself, over an endless horizon.

    minimise  J(K) = 1/2 tr(P S0),    P = Q - MK - K'M' + K'RK + F'PF,    F = A - BK stable

where S0 is the covariance of x0 (its second moment). With the sum of x[t]x[t]' over all times, X, and

    X = S0 + F X F'        G = R + B'PB        E = G K - (B'PA + M')

the gradient is E X, and no term is approximated: P and X are solutions of Lyapunov equations. J is
not convex in K, but its only stationary point is the regulator of Riccati's equation, E = 0, and

    gradient        K - step E X
    natural         K - step E              the gradient times X^-1
    gauss-newton    K - step G^-1 E         at step 1 Hewer's policy iteration, which is quadratic

all three reach it from every stabilising K.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    EPS,
    Array,
    check_choice,
    check_count,
    check_finite,
    check_number,
    check_semidefinite,
    check_shape,
    check_tolerance,
    check_type,
    real_array,
)
from lqrad.descent.descend import History
from lqrad.errors import ArgumentError, NotConvexError, Status
from lqrad.linalg.balance import Exponents, in_units
from lqrad.linalg.riccati import lyapunov
from lqrad.lq.problem import LQProblem, balanced
from lqrad.results import Report, former

METHODS = ("gradient", "natural", "gauss-newton")

_ARMIJO = 1e-4  # the part of the predicted decrease that a step has to bring
_HALVINGS = 60
# Where J moves by less than this part of it, rounding errors decide whether it falls.
_NOISE = 1e-14


@dataclass(frozen=True, eq=False, repr=False)
class PolicyGradient(Report):
    """What `policy_gradient` returns: a gain, its cost, and how it was found.

    Attributes
    ----------
    K : (m, n)
        The gain of u = -K x.
    gap_bound : float
        J(K) - min J is proven not to exceed it; infinite where Q - M R^-1 M' is singular.
    history : History
        `cost`, `gradient_norm` and `step` of every iterate, the start first.
    P : (n, n)
        The cost of K from x0 is 1/2 x0'P x0.
    evaluations : int
        Gains whose cost was asked for, those that were refused included.
    method : str
    """

    K: Array
    cost: float
    status: Status
    message: str
    iterations: int
    seconds: float
    gap_bound: float
    history: History
    P: Array
    evaluations: int
    method: str
    costs = former("history.cost")
    gradient_norms = former("history.gradient_norm")
    steps = former("history.step")

    def __repr__(self) -> str:
        return f"<PolicyGradient by {self.method}: {self.message}>"


def policy_gradient(
    problem: LQProblem,
    K0: ArrayLike,
    x0_cov: ArrayLike | None = None,
    *,
    method: str = "gradient",
    step_size: float | None = None,
    max_iter: int = 1000,
    tol: float = 1e-8,
) -> PolicyGradient:
    """Minimise the mean cost of u = -K x over an endless horizon, by descent in K.

    Parameters
    ----------
    problem : LQProblem
        Not varying in time, and without c, q, r, s. The terminal weight S is not used.
    K0 : (m, n)
        Where to start: A - B K0 is stable.
    x0_cov : (n, n), optional
        Second moment of the initial state, positive definite; the identity by default.
    method : {"gradient", "natural", "gauss-newton"}
    step_size : float, optional
        The first step to try, halved until the loop is stable and J falls by Armijo's rule. The next
        iteration begins with twice the last step; of "gauss-newton" none is longer than the first.
        By default 1/(|G| |X|), 1/|G| and 1, in the order of the methods, with states and inputs in
        balanced units. Steps of Fazel et al., whose cost has no 1/2, are half of those here.
    max_iter : int
    tol : float
        Relative gap: stop where J(K) - min J is proven to be at most tol J(K); where there is no
        bound, where the gradient norm is at most tol times the first.

    Raises
    ------
    ArgumentError
        If K0 does not stabilise, x0_cov is singular, or the problem varies in time or has linear
        terms.
    NotConvexError
        If R + B'PB is singular.

    See Also
    --------
    lqrad.dlqr : The same gain, from Riccati's equation.
    PolicyProblem : Policies of other kinds, over a horizon.

    Notes
    -----
    With K* the minimiser and X* its X, J(K) - J(K*) <= 1/2 |X*| tr(E'G^-1 E), by the gradient
    domination of Fazel et al. As J(K*) <= J(K), |X*| is at most 2 J(K) over the least eigenvalue of
    Q - M R^-1 M'.

    References
    ----------
    Fazel, Ge, Kakade and Mesbahi, Global convergence of policy gradient methods for the linear
    quadratic regulator, ICML 2018, sections 3 and 4.
    Hewer, An iterative technique for the computation of the steady state gains for the discrete
    optimal regulator, IEEE Trans. Automatic Control 16 (1971), 382-384.

    Examples
    --------
    >>> from lqrad import dlqr
    >>> A, B, Q, R = [[1.2, 0.5], [0.0, 0.9]], [[0.0], [1.0]], np.eye(2), [[1.0]]
    >>> problem = LQProblem(A, B, Q, R)
    >>> for method in METHODS:
    ...     result = policy_gradient(problem, [[0.5, 1.0]], method=method, tol=1e-12)
    ...     error = abs(result.K - dlqr(A, B, Q, R)[0]).max()
    ...     print(method, result.status.converged, bool(error < 1e-6))
    gradient True True
    natural True True
    gauss-newton True True
    """
    began = time.perf_counter()
    check_choice("method", method, METHODS)
    max_iter = check_count("max_iter", max_iter, least=0)
    _check_constant(problem)
    tol = check_tolerance(tol)
    K, S0 = _start(problem, K0, x0_cov)
    # In balanced units, and with S0 scaled to about one: else the squares of gradients overflow or
    # underflow long before the gradients do.
    plant, (x, u, _, _, weight) = balanced(problem)
    K, S0, least = in_units(K, u, x), in_units(S0, x, -x), _least_weight(plant)
    spread = math.frexp(float(np.abs(S0).max()))[1]
    S0 = np.ldexp(S0, -spread)
    point = _evaluate(plant, K, S0)
    if point is None:
        radius = np.abs(np.linalg.eigvals(plant.A - plant.B @ K)).max()
        raise ArgumentError(
            f"K0 leaves A - B K0 with the spectral radius {radius:.4g}, expected less than 1: J is "
            "infinite there; start from a gain that stabilises, such as dlqr of other weights gives"
        )
    if not _definite(point.G):
        raise NotConvexError(
            "R + B'PB is singular: an input that costs nothing and moves nothing has no best gain",
            "give R more weight",
        )
    size = float(np.linalg.norm(point.G, 2))
    power, usual = {
        "gradient": (weight + spread, 1 / (size * point.spread)),
        "natural": (weight, 1 / size),
        "gauss-newton": (0, 1.0),
    }[method]
    first, metric = usual, np.zeros((1, 1), dtype=np.int64)
    if step_size is not None:  # along the direction that it has in the units that it is given in
        with np.errstate(over="ignore"):
            first = float(np.ldexp(check_number("step_size", step_size, above=0), power))
        check_finite("step_size in the units of the problem", np.asarray(first), computed=True)
        metric = {"gradient": 2 * x - 2 * u[:, None], "natural": -2 * u[:, None]}.get(
            method, metric
        )
    start, evaluations, trial = point.norm, 1, first
    rows = [(point.cost, point.norm_in(x, u), 0.0)]
    while (status := _verdict(point, len(rows), start, least, max_iter, tol)) is None:
        direction = np.ldexp(point.direction(method), metric)
        slope = float(np.vdot(point.gradient, direction))
        for _ in range(_HALVINGS):
            new = _evaluate(plant, point.K - trial * direction, S0)
            evaluations += 1
            if new is not None and _rise(point, new) <= -_ARMIJO * trial * slope:
                break
            trial /= 2
        else:
            status = Status.STALLED
            break
        point = new
        rows.append((new.cost, new.norm_in(x, u), trial))
        trial = min(2 * trial, first) if method == "gauss-newton" else 2 * trial
    found = (np.array(column) for column in zip(*rows, strict=True))
    powers = (weight + spread, weight + spread, -power)
    costs, norms, steps = (np.ldexp(z, power) for z, power in zip(found, powers, strict=True))
    bound, k = float(np.ldexp(_gap_bound(point, least), weight + spread)), len(rows) - 1
    known = (
        f"proven to be within {bound:.2g} of the minimum"
        if bound < math.inf
        else f"gradient norm {norms[-1]:.2g}, at the start {norms[0]:.2g}"
    )
    after = f"after {k} iteration{'s' * (k != 1)}"
    limit = ", the limit max_iter" if status is Status.MAX_ITER else ""
    return PolicyGradient(
        K=in_units(point.K, -u, -x),
        cost=float(costs[-1]),
        status=status,
        message=f"{status.word} {after}{limit}; J = {costs[-1]:.7g}, {known}",
        iterations=k,
        seconds=time.perf_counter() - began,
        gap_bound=bound,
        history=History(costs, norms, steps, None),
        P=in_units(point.P, x, -x, weight),
        evaluations=evaluations,
        method=method,
    )


def _definite(M: Array) -> bool:
    """Whether a semidefinite matrix is positive definite, beyond rounding errors in any units."""
    root = np.sqrt(M.diagonal())
    if not root.all():
        return False
    values = np.linalg.eigvalsh(M / root[:, None] / root)
    return bool(values[0] > 8 * len(M) * EPS)


class _Point(NamedTuple):
    """A stabilising gain, and the exact cost and gradient there."""

    K: Array
    P: Array
    G: Array
    E: Array
    gradient: Array
    cost: float
    spread: float  # |X|

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.gradient))

    def norm_in(self, x: Exponents, u: Exponents) -> float:
        """The norm of the gradient in the user's units of K."""
        return float(np.linalg.norm(in_units(self.gradient, u, x)))

    def direction(self, method: str) -> Array:
        """What a step subtracts from K: the gradient, times X^-1, and times G^-1 on the left."""
        if method == "gradient":
            return self.gradient
        if method == "natural":
            return self.E
        return np.asarray(np.linalg.solve(self.G, self.E), dtype=np.float64)


def _evaluate(problem: LQProblem, K: Array, S0: Array) -> _Point | None:
    """The cost and its gradient at K, or None where the loop is not stable."""
    with np.errstate(over="ignore", invalid="ignore"):  # a trial step may go anywhere
        closed = problem.with_feedback(K) if np.isfinite(K).all() else None
        found = closed and lyapunov(closed.A, closed.Q)
        sums = closed and lyapunov(closed.A.T, S0)
        if not (closed and found and sums):
            return None
        P, X = found[0], sums[0]
        PB = P @ problem.B
        # What the closed loop leaves of M: E = -(B'P F + M' - RK), with nothing large to cancel.
        E = -(PB.T @ closed.A + closed.M.T)
        cost = 0.5 * float(np.vdot(P, S0))
        gradient = E @ X
    if not (math.isfinite(cost) and np.isfinite(gradient).all()):
        return None
    G = problem.R + problem.B.T @ PB
    return _Point(K, P, G, E, gradient, cost, float(np.linalg.norm(X, 2)))


def _rise(point: _Point, new: _Point) -> float:
    """The rise of J; where rounding hides it, by the trapezoidal rule on the gradients."""
    rise = new.cost - point.cost
    if abs(rise) > _NOISE * point.cost:
        return rise
    return 0.5 * float(np.vdot(point.gradient + new.gradient, new.K - point.K))


def _verdict(
    point: _Point, count: int, start: float, least: float, max_iter: int, tol: float
) -> Status | None:
    """The status at the last of so many iterates, or None to go on; `start` is the first norm."""
    bound = _gap_bound(point, least)
    if bound <= tol * point.cost:
        return Status.CONVERGED_GAP
    if point.norm == 0 or (bound == math.inf and point.norm <= tol * start):
        return Status.CONVERGED_GRADIENT
    return Status.MAX_ITER if count > max_iter else None


def _gap_bound(point: _Point, least: float) -> float:
    if not least > 0:
        return math.inf
    try:
        decrease = float(np.vdot(point.E, np.linalg.solve(point.G, point.E)))
    except np.linalg.LinAlgError:
        return math.inf
    return point.cost / least * decrease


def _check_constant(problem: LQProblem) -> None:
    """Raise unless an endless horizon has one gain."""
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    if problem.T is not None:
        raise ArgumentError(
            f"the problem varies over T = {problem.T} stages, expected one that does not: an "
            "endless horizon has one gain; train linear_policy in a PolicyProblem instead"
        )
    for name in "cqrs":
        if getattr(problem, name).any():
            raise ArgumentError(
                f"the problem has a linear term {name}, expected none: the best u would not be -K x; "
                "move the origin to the set-point first"
            )


def _least_weight(problem: LQProblem) -> float:
    """The least eigenvalue of Q - M R^-1 M', zero where rounding errors hide it."""
    try:
        rest = problem.Q - problem.M @ np.linalg.solve(problem.R, problem.M.T)
    except np.linalg.LinAlgError:
        return 0.0
    values = np.linalg.eigvalsh((rest + rest.T) / 2)
    return float(values[0]) if values[0] > 1e3 * EPS * max(values[-1], 0.0) else 0.0


def _start(problem: LQProblem, K0: ArrayLike, x0_cov: ArrayLike | None) -> tuple[Array, Array]:
    n, m = problem.n, problem.m
    K = np.array(real_array("K0", K0))
    check_shape("K0", K, (m, n), f"to match B {problem.B.shape}", symbols="(m, n)")
    S0 = np.eye(n) if x0_cov is None else np.array(real_array("x0_cov", x0_cov))
    check_shape("x0_cov", S0, (n, n), f"to match A {problem.A.shape}", symbols="(n, n)")
    for name, array in (("K0", K), ("x0_cov", S0)):
        check_finite(name, array)
    check_semidefinite("x0_cov", S0)
    if not _definite(S0):
        raise ArgumentError(
            "x0_cov is singular, expected a positive definite matrix: a gain is not determined in "
            "states that no initial state has a part in; add a multiple of the identity"
        )
    return K, S0
