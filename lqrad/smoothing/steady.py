"""A filter whose covariances have settled: what follows is one banded system, and sums in closed form.

With constant gains, nothing missing and F = A (I - K C), the predictions from x[0] and the costates are

    x[t+1] = F x[t] + A K z[t] + c[t]              p[t] = F'p[t+1] + C'L'^-1 e[t],  p[T+1] = 0

with e = L^-1 (z - C x), and the covariances of the costates N[t] = F'N[t+1] F + C'L'^-1 L^-1 C, of which the
score needs the last and the sum over t. Both are sums of terms F'^j C'(..) C F^j, and are doubled.
"""

from __future__ import annotations

import math

import numpy as np

from lqrad.arguments import EPS, Array
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.settled import settled
from lqrad.linalg.stages import substitute
from lqrad.smoothing.innovations import add_rows, at_start
from lqrad.smoothing.model import SmoothingProblem


def gain_of(S: Array, L: Array) -> Array:
    """K = S'L^-1 (n, ny), the gain of the update, for S = L^-1 C P."""
    return np.asarray(substitute(L, S, transpose=True).T)


def has_settled(problem: SmoothingProblem, P: Array, S: Array, L: Array, left: int) -> bool:
    """Whether the filtered covariances P (N, n, n), the last one last, stay so for the stages that are left.

    They are carried on by (I - K C) A; the predictions' and the innovations' are to stay too.
    """
    A, C = problem.A, problem.C
    ahead = A @ P[-1] @ A.T + problem.W
    sizes = np.sqrt(np.concatenate([ahead.diagonal(), (np.tril(L) ** 2).sum(axis=1)]))
    watched = np.column_stack([np.concatenate([A, C @ A]), sizes])
    return settled(P[::-1], left, (A - gain_of(S, L) @ (C @ A)).T, watched)


def stages_left(P: Array) -> float:
    """A guess after how many more stages P (N, n, n) will have settled, from how its changes have shrunk."""
    half = len(P) // 2
    early, late = (float(np.abs(P[i] - P[i - 1]).max()) for i in (half, -1))
    least = EPS * float(np.abs(P[-1]).max())
    if late <= least:
        return 0.0
    rate = math.log(early / late) / (len(P) - 1 - half) if early > late else 0.0
    return math.log(late / least) / rate if rate else math.inf


class Steady:
    """The stages from `first` on, at z (N, ny), from the prediction x (n,), which answers by M (n, k) to b.

    S, L and P are as of the last stage before, see likelihood.h. Predictions `x` (1+k, N, n) and whitened
    innovations `e` (1+k, N, ny) are those at b = 0, and then how they answer to b.
    """

    def __init__(
        self,
        problem: SmoothingProblem,
        first: int,
        z: Array,
        x: Array,
        M: Array,
        trace: dict[str, Array],
    ) -> None:
        self.problem, self.first = problem, first
        self.S, self.L, self.P = (trace[name][first - 1] for name in "SLP")
        A, C, c = problem.A, problem.C, problem.c
        self.K = gain_of(self.S, self.L)
        self.AK = A @ self.K
        self.loop = Bidiagonal(A - self.AK @ C)
        f = np.zeros((1 + M.shape[1], len(z), len(A)))
        f[0, 0], f[1:, 0] = x, M.T
        f[0, 1:] = z[:-1] @ self.AK.T + (c if c.ndim == 1 else c[first:])
        self.x = self.loop.solve(f, overwrite=True)
        e = -(self.x @ C.T)
        e[0] += z
        self.e = substitute(self.L, e.reshape(-1, e.shape[-1]).T).T.reshape(e.shape)

    def add_to(self, R: Array, log_determinant: Array) -> None:
        """Add what the stages say of b, and of the likelihood, as `loglik_forward` of likelihood.h does."""
        add_rows(R, np.concatenate([self.e[1:], self.e[:1]]).reshape(len(R), -1).T)
        log_determinant += 2 * len(self.x[0]) * np.log(self.L.diagonal()).sum()

    def backward(
        self, R: Array, b: Array, p: Array, pb: Array, N: Array, gradients: dict[str, Array]
    ) -> None:
        """Add the gradients of these stages; p (n,), pb (n, k), N (n, n) are found for those before.

        As `loglik_backward` of likelihood.h.
        """
        A, K, L, n, m = self.problem.A, self.K, self.L, len(self.K), self.x.shape[1]
        e = at_start(self.e, R, b)
        root = substitute(L, np.eye(len(L)))
        white = root @ self.problem.C
        costates = self.loop.solve(e @ white, transpose=True, overwrite=True)
        p[:], pb[:] = costates[0, 0], costates[1:, 0].T
        ahead = np.zeros_like(costates)
        ahead[:, :-1] = costates[:, 1:]
        N[:], total = doubled(self.loop.A, white.T @ white, m)
        u = e @ root - ahead @ self.AK
        NA = total @ A
        pulled = NA @ self.P
        flat_p, flat_u = ahead.reshape(-1, n), u.reshape(-1, len(L))
        if "W" in gradients:
            gradients["W"] += 0.5 * (flat_p.T @ flat_p - total)
        if "V" in gradients:
            D = m * (root.T @ root) + self.AK.T @ total @ self.AK
            gradients["V"] += 0.5 * (flat_u.T @ flat_u - D)
        if not {"A", "C"}.isdisjoint(gradients):
            x = (at_start(self.x, R, b) + e @ self.S + ahead @ (A @ self.P)).reshape(-1, n)
            if "A" in gradients:
                gradients["A"] += flat_p.T @ x - pulled
            if "C" in gradients:
                gradients["C"] += flat_u.T @ x + K.T @ (A.T @ pulled - m * np.eye(n))
        for name, own in (("c", ahead[0, :-1]), ("d", u[0])):
            if name in gradients:
                gradient = gradients[name]
                if gradient.ndim == 1:
                    gradient += own.sum(axis=0)
                else:
                    gradient[self.first :] += own


def doubled(F: Array, Q: Array, m: int) -> tuple[Array, Array]:
    """S[m] and S[0] + ... + S[m-1] of S[0] = 0, S[t+1] = F'S[t] F + Q, by doubling.

    Every term is semidefinite: nothing is subtracted.

    Examples
    --------
    >>> doubled(np.array([[2.0]]), np.array([[1.0]]), 3)       # S = 0, 1, 5, 21
    (array([[21.]]), array([[6.]]))
    """
    S, total, power, done = np.zeros_like(Q), np.zeros_like(Q), np.eye(len(Q)), 0
    for bit in f"{m:b}":
        total = total + done * S + power.T @ total @ power
        S = S + power.T @ S @ power
        power, done = power @ power, 2 * done
        if bit == "1":
            total, S = total + S, F.T @ S @ F + Q
            power, done = power @ F, done + 1
    return 0.5 * (S + S.T), 0.5 * (total + total.T)
