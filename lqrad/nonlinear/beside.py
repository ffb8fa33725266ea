"""Trajectories beside a given one: a search for lower cost at a kink, a maximum or a saddle.

A trajectory is stationary where its expansion promises no decrease. At a kink, and where the
expansion leaves out negative curvature, the cost may fall all the same. Single inputs, and the inputs
along a direction of negative curvature, are pushed a little to either side, with the feedback around
the trajectory; the costs are evaluated, so that a fall is proven. The length of a push is that at
which the curvature of the expansion changes the cost by a fixed share, in any units.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import EPS, Array, check_finite
from lqrad.errors import LqradError
from lqrad.lq.problem import LQProblem
from lqrad.nonlinear.control import ControlProblem

_SHARE = 1e-6  # of the cost, that a push is to change it by
_MOST_PUSHES = 64


@dataclass(frozen=True)
class Push:
    """A direction of the inputs at one time, and the curvature of the cost along it."""

    t: int
    v: Array  # (m,)
    curvature: float


def lower_beside(
    problem: ControlProblem,
    x: Array,
    u: Array,
    p: Array,
    K: Array,
    P: Array,
    limits: tuple[Array, Array],
    tol: float,
) -> tuple[Array, float, str] | None:
    """Return inputs (T, m) of a lower cost beside a trajectory, that cost, and the direction in words.

    None where no push lowers the cost by more than tol |J|. K (T, m, n) and P (T+1, n, n) are the
    gains and the cost to go of the expansion around (x, u, p).
    """
    share = max(_SHARE, 100 * tol)
    if share > 0.01:  # so coarse a tolerance tells no minimum from its neighbourhood
        return None
    cost = float(problem.cost(x, u))
    best: tuple[Array, float, str] | None = None
    for gains, pushes in _pushes(problem, x, u, p, K, P, limits):
        lengths = [_length(push, cost, u, limits, share) for push in pushes]
        moves = np.zeros((2 * len(pushes), *u.shape))
        for k, (push, length) in enumerate(zip(pushes, lengths, strict=True)):
            moves[2 * k : 2 * k + 2, push.t] = np.outer([length, -length], push.v)
        with suppress(LqradError):
            states, inputs = followed(problem, x[0], x, u, gains, -moves, limits)
            for k, value in enumerate(np.asarray(problem.cost(states, inputs))):
                push, length = pushes[k // 2], lengths[k // 2]
                # Beside what the curvature of the expansion gives, and beside the tolerance.
                least = max(0.05 * abs(push.curvature) * length**2, 10 * max(tol, EPS) * abs(cost))
                if value < cost - least and (best is None or value < best[1]):
                    i = int(np.argmax(np.abs(push.v)))
                    words = f"u[{push.t}, {i}], pushed by {moves[k, push.t, i]:.2g}"
                    best = inputs[k].copy(), float(value), words
    return best


def _pushes(
    problem: ControlProblem,
    x: Array,
    u: Array,
    p: Array,
    K: Array,
    P: Array,
    limits: tuple[Array, Array],
) -> list[tuple[Array, list[Push]]]:
    """Each input at some of the times, and the direction of negative curvature, with their gains."""
    T, m = u.shape
    around = problem.linearise(x, u)
    G = around.R + around.B.swapaxes(-1, -2) @ P[1:] @ around.B
    count = max(2, _MOST_PUSHES // m)
    times = np.unique(np.linspace(0, T - 1, min(T, count)).astype(int))
    found = [(K, [Push(int(t), np.eye(m)[i], float(G[t, i, i])) for t in times for i in range(m)])]
    with suppress(LqradError):
        free = (u > limits[0]) & (u < limits[1])
        bent = negative_curvature(problem.linearise(x, u, p), free)
        if bent is not None:
            found.append((bent[0], [bent[1]]))
    return found


def negative_curvature(problem: LQProblem, free: NDArray[np.bool_]) -> tuple[Array, Push] | None:
    """Return gains and a direction along which a quadratic falls; None if it is convex.

    P[t] is the minimum of the cost to go over the free inputs; the first stage, from the end, whose
    R + B'PB has a negative eigenvalue has the direction.

    Parameters
    ----------
    problem : LQProblem
        Of deviations.
    free : (T, m) of bool

    Examples
    --------
    >>> from lqrad.lq.problem import changed
    >>> bowl = LQProblem([[1.0]], [[1.0]], [[0.0]], [[1.0]])
    >>> saddle = changed(bowl, R=np.array([[[-1.0]]]))
    >>> gains, push = negative_curvature(saddle, np.array([[True]]))
    >>> push
    Push(t=0, v=array([1.]), curvature=-1.0)
    """
    T, m = free.shape
    n = problem.n
    A, B, Q, R, M = (
        np.broadcast_to(array, (T, *array.shape[-2:]))
        for array in (problem.A, problem.B, problem.Q, problem.R, problem.M)
    )
    K, P = np.zeros((T, m, n)), np.array(problem.S)
    for t in reversed(range(T)):
        k = free[t]
        G, N = R[t] + B[t].T @ P @ B[t], B[t].T @ P @ A[t] + M[t].T
        if k.any():
            inner = G[np.ix_(k, k)]
            root = np.sqrt(np.abs(np.diagonal(inner)))
            root = np.where(root > 0, root, 1.0)
            values, vectors = np.linalg.eigh(inner / root[:, None] / root)
            if values[0] < -64 * m * EPS:
                v = np.zeros(m)
                v[k] = vectors[:, 0] / root
                return K, Push(t, v, float(values[0]))
            if values[0] < 64 * m * EPS:  # flat: no gain is known
                return None
            K[t, k] = np.linalg.solve(inner, N[k])
        NK = N.T @ K[t]
        P = Q[t] + A[t].T @ P @ A[t] + K[t].T @ G @ K[t] - NK - NK.T
        P = 0.5 * (P + P.T)
    return None


def _length(push: Push, cost: float, u: Array, limits: tuple[Array, Array], share: float) -> float:
    """How long a push is in units of its direction."""
    if cost and push.curvature:
        return float(np.sqrt(2 * share * abs(cost / push.curvature)))
    # A cost of zero, or one without curvature: by the size of the inputs, or of their limits. Where
    # all of these are zero nothing tells in which unit one is, and any length will do.
    size = np.abs(u).max(axis=0)
    for limit in limits:
        size = np.maximum(size, np.where(np.isfinite(limit), np.abs(limit), 0.0))
    entry = np.where(push.v != 0, size / np.where(push.v != 0, np.abs(push.v), 1.0), 0.0).max()
    return float(np.sqrt(share) * (entry or 1.0))


def followed(
    problem: ControlProblem,
    x0: Array,
    x: Array,
    u: Array,
    K: Array,
    k: Array,
    limits: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Return x+ (..., T+1, n), u+ (..., T, m) with u+[t] = u[t] - k[t] - K[t] (x+[t] - x[t]) from x0.

    The inputs are kept within the limits. There is a k (T, m) for each trajectory.
    """
    new_x, new_u = np.empty((*k.shape[:-2], *x.shape)), np.empty(k.shape)
    new_x[..., 0, :] = x0
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(len(u)):
            feedback = (new_x[..., t, :] - x[t]) @ K[t].T
            new_u[..., t, :] = np.clip(u[t] - k[..., t, :] - feedback, *limits)
            new_x[..., t + 1, :] = problem.next_state(new_x[..., t, :], new_u[..., t, :], t)
    check_finite("x", new_x, computed=True)
    return new_x, new_u
