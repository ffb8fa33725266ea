"""The minimiser of a linear-quadratic problem whose Riccati recursion has been run, for any slopes.

With P, K and the Cholesky factor L of R + B'P[t+1]B at hand, F = A - B K and slopes a[t] in the
states and b[t] in the inputs,

    v[t] = a[t] - K'b[t] + F'(v[t+1] + P[t+1] c[t]),      v[T] = a[T]
    k[t] = (L L')^-1 (b[t] + B'(v[t+1] + P[t+1] c[t]))
    x[t+1] = F x[t] - B k[t] + c[t],     u[t] = -K[t] x[t] - k[t],     p[t] = v[t+1] + P[t+1] x[t+1]

Both recursions are banded solves with the loop closed, so that an unstable A blows nothing up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array
from lqrad.copies import ReadOnly
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.stages import substitute, times


class Feedback(ReadOnly):
    """What the Riccati recursion leaves for all slopes that may come.

    Parameters
    ----------
    A, B : (n, n), (n, m), each also with a leading T axis
    P, K, L : (T+1, n, n), (T, m, n), (T, m, m)

    Examples
    --------
    minimise 1/2 x[1]^2 + 1/2 u^2 + x[1] subject to x[1] = u:

    >>> one, half = np.ones((1, 1, 1)), np.full((1, 1, 1), 0.5)
    >>> feedback = Feedback(one[0], one[0], np.ones((2, 1, 1)), half, np.sqrt(2 * one))
    >>> x, u, p, worth = feedback.minimise(np.array([[0.0], [1.0]]), np.zeros((1, 1)))
    >>> x.ravel(), u.ravel(), p.ravel(), round(worth, 12)
    (array([ 0. , -0.5]), array([-0.5]), array([0.5]), 0.5)
    """

    def __init__(self, A: Array, B: Array, P: ArrayLike, K: ArrayLike, L: ArrayLike) -> None:
        self.B = B
        self.P, self.K, self.L = map(np.asarray, (P, K, L))
        self.closed = A - B @ self.K
        self._dynamics = Bidiagonal(self.closed)

    def minimise(
        self, in_x: Array, in_u: Array, x0: Array | None = None, c: Array | None = None
    ) -> tuple[Array, Array, Array, float]:
        """Return the x, u of least cost, p, and g'H^-1 g: twice what u is worth against u = -K x.

        H is the Hessian, and g the gradient in the inputs that the slopes in_x (..., T+1, n) and
        in_u (..., T, m) make. Without x0 (n,), or c (T, n), that is zero.
        """
        Pc = None if c is None else times(self.P[1:], c)
        v, whitened = self._backward(in_x, in_u, Pc)
        k = substitute(self.L, whitened[..., None], transpose=True)[..., 0]
        x = np.zeros_like(in_x)
        x[..., 1:, :] = -times(self.B, k)
        if x0 is not None:
            x[..., 0, :] = x0
        if c is not None:
            x[..., 1:, :] += c
        x = self._dynamics.solve(x, overwrite=True)
        p = v[..., 1:, :] + times(self.P[1:], x[..., 1:, :])
        u = -times(self.K, x[..., :-1, :]) - k
        return x, u, p, float(np.vdot(whitened, whitened))

    def gradient(self, in_x: Array, in_u: Array) -> Array:
        """Return the gradient (..., T, m) in w[t] = L[t]'(u[t] + K[t] x[t]); its square is g'H^-1 g."""
        _, whitened = self._backward(in_x, in_u, None)
        return whitened

    def _backward(self, in_x: Array, in_u: Array, Pc: Array | None) -> tuple[Array, Array]:
        """The linear part v of the value function, and L^-1 times its slope in each input."""
        v = in_x.copy()
        v[..., :-1, :] -= times(self.K, in_u, transpose=True)
        if Pc is not None:
            v[..., :-1, :] += times(self.closed, Pc, transpose=True)
        v = self._dynamics.solve(v, transpose=True, overwrite=True)
        ahead = v[..., 1:, :] if Pc is None else v[..., 1:, :] + Pc
        slope = in_u + times(self.B, ahead, transpose=True)
        return v, substitute(self.L, slope[..., None])[..., 0]
