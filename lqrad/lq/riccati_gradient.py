"""Derivatives through the solution of a linear-quadratic problem: of gains, value and trajectory.

A cost of the solution is pulled back to the matrices of the problem, in one pass each.

Of P and K. One stage of the recursion moves by

    dP[t] = F'dP F + [I -K'] d[Q M; M' R] [I; -K] + F'P (dA - dB K) + (the same, transposed)
    dK[t] = G^-1 ( B'dP F + B'P (dA - dB K) + dB'P F + dM' - dR K )

with P, dP at t+1, F = A - B K and G = R + B'PB: so the multiplier X of P runs forward, like the
covariance of the closed loop, X[t+1] = F X[t] F' + sym(B Y F') + what is given of P[t+1], Y = G^-1
times what is given of K.

Of k and v. Their multiplier is a trajectory, y[t+1] = F y[t] + B G^-1 dk[t] + dv[t+1]: its products with
the one from x = 0, where u = -k, are the gradient, and those of its next states with c - B k add to X.

Of x and u. They solve the optimality conditions, which are linear and symmetric: the adjoint is the
same problem from x[0] = 0 with what is given of x and u for its linear terms, solved with the same
P and K. Its states and costates, times those of the solution, are the gradient.

References
----------
Amos, Jimenez, Sacks, Boots and Kolter, Differentiable MPC for end-to-end planning and control,
NeurIPS 2018 (the adjoint of the optimality conditions).
Kao and Hennequin, Automatic differentiation of Sylvester, Lyapunov, and algebraic Riccati equations,
arXiv:2011.11430, 2020 (the stationary equation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve

from lqrad.arguments import (
    Array,
    batch_message,
    called_as,
    check_finite,
    check_shape,
    check_type,
    real_array,
    stage_arrays,
)
from lqrad.errors import ArgumentError, ShapeError
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.feedback import Feedback
from lqrad.linalg.riccati import steady_covariance
from lqrad.linalg.stages import times
from lqrad.lq.dare import dlqr
from lqrad.lq.problem import LQProblem, unchecked
from lqrad.lq.riccati import Riccati
from lqrad.results import Report

# Overflow is looked for in the gradients and told in words.
_quiet = np.errstate(over="ignore", invalid="ignore")
_Path = tuple[Array, Array, Array]  # x, u, p


@dataclass(frozen=True, eq=False)
class LQGradient(Report):
    """A gradient in the arrays of a problem, each of its shape; a symmetric one in a weight.

    That of a weight W is the symmetric D with <D, dW> the change for a symmetric dW.

    Attributes
    ----------
    A, B, Q, R, S, M, c, q, r, s
        As in `LQProblem`.
    x0 : (..., n) or None
        In the initial state, where there is one.
    """

    A: Array
    B: Array
    Q: Array
    R: Array
    S: Array
    M: Array
    c: Array
    q: Array
    r: Array
    s: Array
    x0: Array | None


@_quiet
def riccati_vjp(
    solution: Riccati,
    *,
    dK: ArrayLike | None = None,
    dk: ArrayLike | None = None,
    dP: ArrayLike | None = None,
    dv: ArrayLike | None = None,
    dx: ArrayLike | None = None,
    du: ArrayLike | None = None,
    x0: ArrayLike | None = None,
) -> LQGradient:
    """Return the gradient of sums over the solution and a rollout, in the problem's arrays.

        <dK, K> + <dk, k> + <dP, P> + <dv, v> + <dx, x> + <du, u>

    It pulls a derivative in the solution back to what the solution was made of, by one adjoint
    solve and without another Riccati recursion; x and u are those of `solution.rollout(x0)`.

    Parameters
    ----------
    solution : Riccati
    dK, dk, dP, dv : (T, m, n), (T, m), (T+1, n, n), (T+1, n), optional
    dx, du : (..., T+1, n), (..., T, m), optional
    x0 : (..., n)
        Where the trajectory starts; needed with dx or du. A batch adds up.

    See Also
    --------
    riccati_cost_gradient : that of the optimal cost alone.
    dlqr_vjp : the limit of an endless horizon.

    Examples
    --------
    How the first gain of a cart depends on the weight of its force:

    >>> from lqrad.lq.riccati import riccati
    >>> A, B = [[1, 0.1], [0, 1]], [[0.005], [0.1]]
    >>> solution = riccati(LQProblem(A, B, np.eye(2), [[1.0]]), T=50)
    >>> dK = np.zeros_like(solution.K)
    >>> dK[0, 0, 0] = 1.0
    >>> riccati_vjp(solution, dK=dK).R.round(3)
    array([[-0.434]])
    >>> more = riccati(LQProblem(A, B, np.eye(2), [[1.0001]]), T=50)
    >>> ((more.K[0, 0] - solution.K[0, 0]) / 1e-4).round(3)[0]
    np.float64(-0.434)
    """
    check_type("solution", solution, Riccati, "riccati(problem, T)")
    problem, T, n, m = solution.problem, solution.T, solution.problem.n, solution.problem.m
    shapes = {"dK": (T, m, n), "dk": (T, m), "dP": (T + 1, n, n), "dv": (T + 1, n)}
    law = tuple(shapes)
    shapes |= {"dx": (T + 1, n), "du": (T, m)}
    arrays = {}
    for name, value in zip(shapes, (dK, dk, dP, dv, dx, du), strict=True):
        if value is None:
            continue
        arrays[name] = array = real_array(name, value)
        tail = array.shape if name in law else array.shape[-2:]
        if tail != shapes[name]:
            dots = "" if name in law else "..., "
            raise ShapeError(
                f"{name} has shape {array.shape}, expected ({dots}{str(shapes[name])[1:]}"
            )
        check_finite(name, array)
    if not arrays:
        raise ArgumentError(
            "none of dK, dk, dP, dv, dx and du is given; pass a derivative in one of them"
        )
    total = Sums(problem)
    if any(name in arrays for name in law):
        _of_recursion(total, solution, *(arrays.get(name) for name in law))
    if "dx" not in arrays and "du" not in arrays:
        return total.gradient(None)
    if x0 is None:
        raise ArgumentError("dx or du is given and x0 is not; pass where the trajectory starts")
    return total.gradient(_of_trajectory(total, solution, arrays.get("dx"), arrays.get("du"), x0))


@_quiet
def riccati_cost_gradient(solution: Riccati, x0: ArrayLike) -> LQGradient:
    """Return the gradient of the optimal cost from x0 in the problem's arrays.

    By the envelope theorem it is that of the Lagrangian, with x, u and p held. A batch x0 (..., n)
    adds up.

    See Also
    --------
    riccati_vjp : that of anything else in the solution.

    Examples
    --------
    >>> from lqrad.lq.riccati import riccati
    >>> solution = riccati(LQProblem([[1]], [[1]], [[1]], [[1]]), T=1)
    >>> gradient = riccati_cost_gradient(solution, [2.0])
    >>> gradient.Q, gradient.R, gradient.x0              # x = 2, 1; u = -1; p = 1
    (array([[2.]]), array([[0.5]]), array([3.]))
    """
    check_type("solution", solution, Riccati, "riccati(problem, T)")
    path = solution.rollout(x0)
    x, u, p = path.x, path.u, path.p
    total = Sums(solution.problem)
    total.add_products((x / 2, u / 2, p / 2), (x, u, p))
    slope = x[..., 0, :] @ solution.P[0] + solution.v[0]
    return total.gradient(np.asarray(slope))


@called_as("dlqr_vjp(A, B, Q, R, M=M, dK=dK, dP=dP)")
@_quiet
def dlqr_vjp(
    A: ArrayLike,
    B: ArrayLike,
    Q: ArrayLike,
    R: ArrayLike,
    *,
    M: ArrayLike | None = None,
    dK: ArrayLike | None = None,
    dP: ArrayLike | None = None,
) -> LQGradient:
    """Return the gradient of <dK, K> + <dP, P> of the stationary regulator `dlqr`.

    It is zero in the arrays other than A, B, Q, R and M.

    Parameters
    ----------
    dK, dP : (m, n), (n, n), optional

    See Also
    --------
    riccati_vjp : the same over a finite horizon.
    dlqr : the regulator itself.

    Examples
    --------
    >>> gradient = dlqr_vjp([[1.0]], [[1.0]], [[1.0]], [[1.0]], dP=[[1.0]])
    >>> K, P, E = dlqr([[1.0]], [[1.0]], [[1.001]], [[1.0]])
    >>> gradient.Q.round(3), ((P - dlqr([[1.0]], [[1.0]], [[1.0]], [[1.0]])[1]) / 0.001).round(3)
    (array([[1.171]]), array([[1.171]]))
    """
    if dK is None and dP is None:
        raise ArgumentError("neither dK nor dP is given; pass a derivative in one of them")
    K, P, _ = dlqr(A, B, Q, R, M=M)
    n = len(P)
    arrays, _ = stage_arrays(A=A, B=B, Q=Q, R=R, M=M, c=None, q=None, r=None)
    # Unchecked: where there is a minimum all the same, dlqr allows for a weight that is indefinite.
    problem = unchecked(S_given=True, S=np.zeros((n, n)), s=np.zeros(n), **arrays)
    bars = {}
    for name, value, like in (("dK", dK, K), ("dP", dP, P)):
        bars[name] = real_array(name, np.zeros_like(like) if value is None else value)
        check_shape(name, bars[name], like.shape, f"as {name[1]}")
        check_finite(name, bars[name])
    F, G = problem.A - problem.B @ K, problem.R + problem.B.T @ P @ problem.B
    check_finite("R + B'PB", G, computed=True)
    Y = cho_solve(cho_factor(G), bars["dK"])
    inside = problem.B @ Y @ F.T
    X = steady_covariance(F, _symmetric(bars["dP"] + inside))
    total = Sums(problem)
    total.add_recursion(P[None], K[None], F[None], X[None], Y[None])
    return total.gradient(None)


def _of_recursion(
    total: Sums,
    solution: Riccati,
    dK: Array | None,
    dk: Array | None,
    dP: Array | None,
    dv: Array | None,
) -> None:
    """Pull back what is given of K, k, P and v."""
    problem, k, T = solution.problem, solution.k, solution.T
    P, K = np.asarray(solution.P), np.asarray(solution.K)
    A, B, R = (np.broadcast_to(z, (T, *z.shape[-2:])) for z in (problem.A, problem.B, problem.R))
    F = A - B @ K
    G = R + B.swapaxes(-1, -2) @ P[1:] @ B
    Y = np.zeros_like(K) if dK is None else np.linalg.solve(G, dK)
    X = np.zeros_like(P) if dP is None else _symmetric(dP)
    X[1:] += _symmetric(B @ Y @ F.swapaxes(-1, -2))
    if dk is not None or dv is not None:
        moved = np.zeros_like(solution.v) if dv is None else dv.copy()
        slope = np.zeros_like(k) if dk is None else dk
        step = np.asarray(np.linalg.solve(G, slope[..., None])[..., 0], np.float64)
        push = times(B, step)
        moved[1:] += push
        moved = Bidiagonal(F).solve(moved, overwrite=True)
        ahead = times(F, moved[:-1]) + push
        start = problem.c - times(B, k)  # where x = 0 goes
        X[1:] += _symmetric(ahead[:, :, None] * start[:, None, :])
        total.add_products(
            (np.zeros_like(moved), -k, times(P[1:], start) + solution.v[1:]),
            (moved, step - times(K, moved[:-1]), times(P[1:], ahead)),
        )
    for t in range(T):
        X[t + 1] += F[t] @ X[t] @ F[t].T
    total.add_recursion(P[1:], K, F, X[:-1], np.asarray(Y, np.float64))
    total.add("S", X[-1])


def _of_trajectory(
    total: Sums, solution: Riccati, dx: Array | None, du: Array | None, x0: ArrayLike
) -> Array:
    """Pull back what is given of x and u; return what that is in x0."""
    problem, path = solution.problem, solution.rollout(x0)
    batch = path.x.shape[:-2]
    in_x, in_u = np.zeros_like(path.x), np.zeros_like(path.u)
    for name, given, whole in (("dx", dx, in_x), ("du", du, in_u)):
        if given is None:
            continue
        try:
            whole += given
        except ValueError:
            other = (*batch, problem.n)
            raise ShapeError(batch_message(name, given.shape, "x0", other)) from None
    G = problem.R + problem.B.swapaxes(-1, -2) @ solution.P[1:] @ problem.B
    L = np.asarray(np.linalg.cholesky(G), np.float64)
    feedback = Feedback(problem.A, problem.B, solution.P, solution.K, L)
    x, u, p, _ = feedback.minimise(in_x, in_u)
    total.add_products((path.x, path.u, path.p), (x, u, p))
    A, M = (z[0] if z.ndim == 3 else z for z in (problem.A, problem.M))
    return np.asarray(in_x[..., 0, :] + p[..., 0, :] @ A + u[..., 0, :] @ M.T).reshape(*batch, -1)


class Sums:
    """Gradients that add up, over the stages where an array is constant."""

    def __init__(self, problem: LQProblem) -> None:
        self.problem = problem
        self.sums = {name: np.zeros_like(getattr(problem, name)) for name in "ABQRSMcqrs"}

    def add(self, name: str, stages: Array) -> None:
        """Add a gradient in each stage, or in the terminal weight."""
        total = self.sums[name]
        total += stages if stages.ndim == total.ndim else stages.sum(axis=0)

    def add_products(self, path: _Path, moved: _Path) -> None:
        """Add the change of the Lagrangian's slopes along a path that moves by `moved`."""
        (x, u, p), (y, w, z) = path, moved
        self.add("S", outer(y[..., -1:, :], x[..., -1:, :])[0])
        self.add("s", _rows(y[..., -1:, :])[0])
        x, y = x[..., :-1, :], y[..., :-1, :]
        self.add("A", outer(p, y) + outer(z, x))
        self.add("B", outer(p, w) + outer(z, u))
        self.add("Q", outer(y, x))
        self.add("R", outer(w, u))
        self.add("M", outer(y, u) + outer(x, w))
        for name, rows in (("c", z), ("q", y), ("r", w)):
            self.add(name, _rows(rows))

    def add_recursion(self, P: Array, K: Array, F: Array, X: Array, Y: Array) -> None:
        """Add what multipliers X of P[t] and Y of K[t] make of each stage; P is that of t+1."""
        B, Kt = self.problem.B, K.swapaxes(-1, -2)
        ahead, gain = 2 * P @ F @ X, P @ B @ Y
        self.add("A", ahead + gain)
        self.add("B", P @ F @ Y.swapaxes(-1, -2) - (ahead + gain) @ Kt)
        self.add("Q", X)
        self.add("R", K @ X @ Kt - Y @ Kt)
        self.add("M", Y.swapaxes(-1, -2) - 2 * X @ Kt)

    def gradient(self, x0: Array | None) -> LQGradient:
        for name, gradient in self.sums.items():
            check_finite(f"the gradient in {name}", gradient, computed=True)
        symmetric = {name: _symmetric(self.sums[name]) for name in "QRS"}
        return LQGradient(**(self.sums | symmetric), x0=x0)


def _symmetric(matrix: Array) -> Array:
    return np.asarray(matrix / 2 + matrix.swapaxes(-1, -2) / 2)


def outer(left: Array, right: Array) -> Array:
    """The products left[t] right[t]', summed over a batch: (T, i, j)."""
    left, right = (z.reshape(-1, *z.shape[-2:]) for z in (left, right))
    return np.asarray(np.einsum("bti,btj->tij", left, right))


def _rows(z: Array) -> Array:
    """The rows of a sequence, summed over a batch."""
    return np.asarray(z.reshape(-1, *z.shape[-2:]).sum(axis=0))
