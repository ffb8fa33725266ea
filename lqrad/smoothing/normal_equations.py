"""The normal equations of smoothing: one symmetric block-tridiagonal system.

In the states alone J = 1/2 |R x - r|^2, with the rows R of `NormalEquations`. At its minimum H x = g,
with H = R'R and g = R'r: the optimality conditions in `lqrad.smoothing.kalman`, without the costates
p[t] = W^-1 (x[t+1] - A x[t] - c). The matrix H, its factor, and how many digits they keep depend
on the model and the gaps of the series, and not on what was observed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lqrad.arguments import Array
from lqrad.errors import NotConvexError
from lqrad.linalg.stages import inner, times
from lqrad.linalg.tridiagonal import BlockTridiagonal
from lqrad.smoothing.arrays import Observations, product
from lqrad.smoothing.covariance_filter import LOG_2PI, is_rounded
from lqrad.smoothing.model import SmoothingProblem

# Equations are kept for the next series of the same model where they take no more bytes than this.
_MOST_KEPT = 2**24


class NormalEquations:
    """H x = g, from the whitened rows [prior], [-noise A, noise] and [C] of the least squares.

    `loss` is the relative error with which a constant state comes back from its right-hand side, states
    being measured by the diagonal of H, that is, by their conditional deviations. NotConvexError says
    that P0, W or V is singular, P0 to rounding, or H is; NonFiniteError that they are nearly so.
    """

    def __init__(self, problem: SmoothingProblem, data: Observations) -> None:
        if is_rounded(problem):
            raise NotConvexError("P0 is singular but for rounding")
        self.problem, self.rows = problem, problem.whitened(data)
        N, n, rows = data.z.shape[-2], problem.n, self.rows
        step = rows.noise @ problem.A
        link = -rows.noise.swapaxes(-1, -2) @ step
        varies = any(M.ndim > 2 for M in (step, rows.noise, rows.C))
        # Where nothing varies, the first block, each in the middle and the last are all there are.
        H = np.empty((N if varies else 3, n, n))
        np.matmul(rows.C.swapaxes(-1, -2), rows.C, out=H)
        H[0] += product(rows.prior, rows.prior)
        H[1:] += product(rows.noise, rows.noise)
        H[:-1] += product(step, step)
        if varies:
            self.H = BlockTridiagonal(H, np.broadcast_to(link, (N - 1, n, n)))
        else:
            self.H = BlockTridiagonal(H, link, N=N)
        self.log_determinant = rows.log_determinant + self.H.log_determinant()
        self.loss = self._loss(np.diagonal(H, axis1=1, axis2=2).mean(axis=0, keepdims=True))

    def _loss(self, diagonal: Array) -> float:
        x = 1 / np.sqrt(diagonal)
        pull = self._weigh(x - times(self.problem.A, x))
        H = self.H.shortened()
        g = self._right_hand_side(H.N, x, pull, times(self.rows.C, x))
        return float(np.abs(H.solve(g) / x - 1).max())

    def _weigh(self, w: Array) -> Array:
        """W^-1 w."""
        return times(self.rows.noise, times(self.rows.noise, w), transpose=True)

    def _right_hand_side(self, N: int, start: Array, pull: Array, z: Array) -> Array:
        """C'z[t] + pull[t-1] - A'pull[t], and P0^-1 start at t = 0; pull stands for W^-1 c."""
        rows = self.rows
        g = np.empty((*z.shape[:-2], N, self.H.n))
        g[...] = times(rows.C, z, transpose=True)
        g[..., :1, :] += times(rows.prior, times(rows.prior, start), transpose=True)
        g[..., 1:, :] += pull
        g[..., :-1, :] -= times(self.problem.A, pull, transpose=True)
        return g

    def solve(self, z: Array) -> tuple[Array, Array]:
        """The states and costates of whitened series."""
        A, c, m0 = self.problem.A, self.problem.c, self.problem.m0
        g = self._right_hand_side(self.H.N, m0[None], self._weigh(np.atleast_2d(c)), z)
        x = self.H.solve(g)
        return x, self._weigh(x[..., 1:, :] - times(A, x[..., :-1, :]) - c)

    def correct(self, x: Array, p: Array, z: Array) -> tuple[Array, Array]:
        """One step of iterative refinement of states and costates.

        What is left of the two optimality conditions is evaluated at (x, p) as it stands, where
        p is not recomputed from differences of x, and the correction solves the same equations.
        """
        A, rows = self.problem.A, self.rows
        w = times(A, x[..., :-1, :]) + self.problem.c - x[..., 1:, :]
        p = p - self._weigh(w + times(self.problem.W, p))
        start = self.problem.m0 - x[..., :1, :]
        g = self._right_hand_side(self.H.N, start, -p, z - times(rows.C, x))
        dx = self.H.solve(g)
        return x + dx, p + self._weigh(dx[..., 1:, :] - times(A, dx[..., :-1, :]))

    def loglik(self, x: Array, p: Array, z: Array, entries: Array) -> Array:
        """The log-likelihood, from the solution."""
        misfit = z - times(self.rows.C, x)
        start = times(self.rows.prior, x[..., :1, :] - self.problem.m0)
        cost = inner(misfit, misfit) + inner(start, start) + inner(p, times(self.problem.W, p))
        return np.asarray(-0.5 * (entries * LOG_2PI + self.log_determinant + cost))


def normal_equations(problem: SmoothingProblem, data: Observations) -> NormalEquations:
    """The normal equations of a series; where nothing is missing, those of the last one may do."""
    T, n = data.z.shape[-2] - 1, problem.n
    if data.V is problem.V and 16 * (T + 1) * n * n <= _MOST_KEPT:
        return _without_gaps(problem, T)
    return NormalEquations(problem, data)


@lru_cache(maxsize=1)
def _without_gaps(problem: SmoothingProblem, T: int) -> NormalEquations:
    """The normal equations of every series without a gap."""
    return NormalEquations(problem, problem.observations(np.zeros((T + 1, problem.ny))))
