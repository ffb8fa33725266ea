"""The loops of the equations, compiled by numba: about the least that a call can cost.

They check nothing and keep nothing. For small n the sizes are constants of the compiler, which unrolls
the loops; from some n = 12 on, products and solves by BLAS and LAPACK are faster.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numba import njit


class Loops(NamedTuple):
    """Compiled calls; A is (1, n, n), or (T, n, n) where it varies."""

    gradient: Callable[..., Any]  # J and g of (A[0], B, Q, R, S, x0, u)
    riccati: Callable[..., Any]  # K of (A, B, Q, R, S, T)


@njit
def add(into: Any, left: Any, right: Any, rows: int, inner: int, columns: int) -> None:
    """Add left right to it."""
    for i in range(rows):
        for k in range(inner):
            for j in range(columns):
                into[i, j] += left[i, k] * right[k, j]


@njit
def dot(left: Any, right: Any, count: int) -> float:
    z = 0.0
    for i in range(count):
        z += left[i] * right[i]
    return z


@cache
def with_sizes(n: int, m: int) -> Loops:
    @njit
    def gradient(A: Any, B: Any, Q: Any, R: Any, S: Any, x0: Any, u: Any) -> Any:
        T = len(u)
        x, g = np.empty((T + 1, n)), np.empty((T, m))
        p, before = np.empty(n), np.empty(n)
        AT, BT = A.T.copy(), B.T.copy()
        x[0] = x0
        for t in range(T):
            for i in range(n):
                x[t + 1, i] = dot(A[i], x[t], n) + dot(B[i], u[t], m)
        for i in range(n):
            p[i] = dot(S[i], x[T], n)
        J = 0.5 * dot(p, x[T], n)
        for t in range(T - 1, -1, -1):
            for i in range(m):
                slope = dot(R[i], u[t], m)
                J += 0.5 * slope * u[t, i]
                g[t, i] = slope + dot(BT[i], p, n)
            for i in range(n):
                slope = dot(Q[i], x[t], n)
                J += 0.5 * slope * x[t, i]
                before[i] = slope + dot(AT[i], p, n)
            p[:] = before
        return J, g

    @njit
    def riccati(A: Any, B: Any, Q: Any, R: Any, S: Any, T: int) -> Any:
        """P = Q + A'PA - Y'Y and K = L^-T Y, with L L' = R + B'PB and L Y = B'PA."""
        K, P, PA, PB = np.empty((T, m, n)), S.copy(), np.empty((n, n)), np.empty((n, m))
        G = np.empty((m, m))
        for t in range(T - 1, -1, -1):
            At, Y = A[t % len(A)], K[t]
            PA[:], PB[:], G[:], Y[:] = 0.0, 0.0, R, 0.0
            add(PA, P, At, n, n, n)
            add(PB, P, B, n, n, m)
            add(G, B.T, PB, m, n, m)
            add(Y, PB.T, At, m, n, n)
            for j in range(m):
                for k in range(j):
                    for i in range(j, m):
                        G[i, j] -= G[i, k] * G[j, k]
                G[j, j] = sqrt(G[j, j])
                for i in range(j + 1, m):
                    G[i, j] /= G[j, j]
            for i in range(m):
                for k in range(i):
                    for j in range(n):
                        Y[i, j] -= G[i, k] * Y[k, j]
                for j in range(n):
                    Y[i, j] /= G[i, i]
            for i in range(n):
                for j in range(i + 1):
                    z = Q[i, j]
                    for k in range(n):
                        z += At[k, i] * PA[k, j]
                    for k in range(m):
                        z -= Y[k, i] * Y[k, j]
                    P[i, j] = P[j, i] = z
            for i in range(m - 1, -1, -1):
                for k in range(i + 1, m):
                    for j in range(n):
                        Y[i, j] -= G[k, i] * Y[k, j]
                for j in range(n):
                    Y[i, j] /= G[i, i]
        return K

    return Loops(gradient, riccati)


@njit
def gradient_by_blas(A: Any, B: Any, Q: Any, R: Any, S: Any, x0: Any, u: Any) -> Any:
    T, n = len(u), len(x0)
    x, p, AT = np.empty((T + 1, n)), np.empty((T, n)), A.T.copy()
    forced, x[0] = np.dot(u, B.T), x0
    for t in range(T):
        x[t + 1] = np.dot(A, x[t]) + forced[t]
    slopes, g, p[T - 1] = np.dot(x[:T], Q), np.dot(u, R), np.dot(S, x[T])
    for t in range(T - 1, 0, -1):
        p[t - 1] = np.dot(AT, p[t]) + slopes[t]
    J = 0.5 * (np.sum(slopes * x[:T]) + np.sum(g * u) + np.dot(p[T - 1], x[T]))
    return J, g + np.dot(p, B)


@njit
def riccati_by_blas(A: Any, B: Any, Q: Any, R: Any, S: Any, T: int) -> Any:
    K, P, BT = np.empty((T, B.shape[1], B.shape[0])), S.copy(), B.T.copy()
    for t in range(T - 1, -1, -1):
        At = A[t % len(A)]
        PA, PB = np.dot(P, At), np.dot(P, B)
        K[t] = np.linalg.solve(R + np.dot(BT, PB), np.dot(BT, PA))
        P = Q + np.dot(At.T.copy(), PA - np.dot(PB, K[t]))
        P = 0.5 * (P + P.T)
    return K


BY_BLAS = Loops(gradient_by_blas, riccati_by_blas)


@njit
def rollout(A: Any, B: Any, K: Any, x0: Any) -> Any:
    """The states of x[t+1] = A x[t] + B u[t], u[t] = -K[t] x[t]."""
    T, m, n = K.shape
    x, u = np.empty((T + 1, n)), np.empty(m)
    x[0] = x0
    for t in range(T):
        At = A[t % len(A)]
        for i in range(m):
            u[i] = -dot(K[t, i], x[t], n)
        for i in range(n):
            x[t + 1, i] = dot(At[i], x[t], n) + dot(B[i], u, m)
    return x


def gradients(loops: Loops) -> Callable[..., Any]:
    """Those of a batch of problems that have R in common, one after the other."""
    one = loops.gradient

    @njit
    def all_of_them(A: Any, B: Any, Q: Any, R: Any, S: Any, x0: Any, u: Any) -> Any:
        J, g = np.empty(len(u)), np.empty(u.shape)
        for i in range(len(u)):
            J[i], g[i] = one(A[i], B[i], Q[i], R, S[i], x0[i], u[i])
        return J, g

    return all_of_them


def riccatis(loops: Loops) -> Callable[..., Any]:
    """The gains of such a batch."""
    one = loops.riccati

    @njit
    def all_of_them(A: Any, B: Any, Q: Any, R: Any, S: Any, T: int) -> Any:
        K = np.empty((len(A), T, B.shape[2], B.shape[1]))
        for i in range(len(A)):
            K[i] = one(A[i : i + 1], B[i], Q[i], R, S[i], T)
        return K

    return all_of_them


def ways(n: int, m: int, quick: bool = False) -> dict[str, Loops]:
    """By how they multiply: at n = 12 one is as fast as the other, far from there the other is slow.

    The quick rows have one of them, since BLAS is compiled for some four seconds.
    """
    known = {"sizes known": with_sizes(n, m)} if n <= 12 else {}
    return known | ({"BLAS": BY_BLAS} if n > 12 or (n == 12 and not quick) else {})
