"""Rows of states and inputs that have limits: what they are, and by what an excess is measured.

g[t] = (C[t] x[t] + D[t] u[t],  E[t] x[t+1]),      low[t] <= g[t] <= high[t]

A row may have no limits at some stages, as those of the last state alone have none before.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem


class Rows:
    """The rows of a problem, over all its stages.

    Parameters
    ----------
    problem : LQProblem
    C, D, E : (k, n), (k, m), (j, n), each also with a leading T axis
    limited : (T, k+j) of bool
        Where there is a limit.

    Attributes
    ----------
    sizes : tuple of arrays
        |A|, |B|, |c|, |C|, |D| and |E|.
    single : list of (row, i)
        The rows of C and D with an entry of one input alone, u[i].
    of_inputs : bool
        Whether all are such rows.

    Examples
    --------
    >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
    >>> rows = Rows(problem, np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1)), np.ones((2, 2), bool))
    >>> rows.at(np.array([[8.0], [4.0], [3.0]]), np.array([[0.0], [1.0]]))
    array([[0., 4.],
           [1., 3.]])
    """

    def __init__(
        self, problem: LQProblem, C: Array, D: Array, E: Array, limited: NDArray[np.bool_]
    ) -> None:
        self.C, self.D, self.E, self._dynamics = C, D, E, (problem.A, problem.B)
        self.limited = limited
        self.sizes = tuple(np.abs(z) for z in (problem.A, problem.B, problem.c, C, D, E))
        T, k = len(limited), C.shape[-2]
        entries = np.broadcast_to(D != 0, (T, *D.shape[-2:]))
        always = entries.all(axis=0) & (entries.any(axis=0).sum(axis=1) == 1)[:, None]
        self.single = [(int(row), int(i)) for row, i in np.argwhere(always)]
        self.of_inputs = not E.shape[-2] and len(self.single) == k
        self._filled = np.empty(limited.shape, bool)
        self._filled[:, :k] = C.any(axis=-1) | D.any(axis=-1)
        self._filled[:, k:] = E.any(axis=-1)

    @property
    def now(self) -> int:
        """How many rows are of x[t] and u[t]; those of x[t+1] stand behind them."""
        return int(self.C.shape[-2])

    def with_offset(self, c: Array) -> Rows:
        """The same rows, of dynamics with the constant part c (n,) or (T, n)."""
        new = copy.copy(self)
        A, B, _, *others = self.sizes
        new.sizes = (A, B, np.abs(c), *others)
        return new

    def at(self, x: Array, u: Array) -> Array:
        """Return g (T, k+j) of x (T+1, n) and u (T, m)."""
        return _stacked(x[:-1], x[1:], u, self.C, self.D, self.E)

    def terms(self, x: Array, u: Array, low: Array, high: Array) -> Array:
        """Return the size of what adds up to g; of the largest limit where a row has no entries."""
        A, B, c, C, D, E = self.sizes
        x, u = np.abs(x), np.abs(u)
        ahead = times(A, x[:-1]) + times(B, u) + c
        terms = _stacked(np.concatenate([x[:1], ahead[:-1]]), ahead, u, C, D, E)
        if not self._filled.all():
            limits = np.abs(np.stack([low, high]))
            largest = limits.max(initial=0.0, where=np.isfinite(limits))
            terms = np.where(self._filled, terms, largest)
        return terms

    def of_deviations(self, K: Array, roots: Array, eps: float) -> tuple[Array, Array]:
        """Return the map Y (r, T m) from w to the r limited entries of g, and the size of what adds up.

        Parameters
        ----------
        K : (T, m, n)
            Gains of the loop that is closed.
        roots : (T, m, m)
            The inputs are roots[t] w[t] - K[t] x[t].
        eps : float
            What passes for rounding, beside the terms of a state: it must move nothing later on.
        """
        (T, m, n), k = K.shape, self.now
        A, B, C, D, E = (
            np.broadcast_to(z, (T, *z.shape[-2:]))
            for z in (*self._dynamics, self.C, self.D, self.E)
        )
        ends = np.concatenate([[0], np.cumsum(self.limited.sum(axis=1))])
        Y, terms = np.zeros((ends[-1], T * m)), np.empty(ends[-1])
        x, x_terms = np.zeros((n, T * m)), np.zeros(n)
        for t in range(T):
            now, ahead = self.limited[t, :k], self.limited[t, k:]
            first, last = ends[t], ends[t + 1]
            middle = first + now.sum()
            u = -K[t] @ x
            u[:, t * m : (t + 1) * m] = roots[t]
            u_terms = np.abs(K[t]) @ x_terms + np.linalg.norm(roots[t], axis=1)
            Y[first:middle] = C[t][now] @ x + D[t][now] @ u
            terms[first:middle] = np.abs(C[t][now]) @ x_terms + np.abs(D[t][now]) @ u_terms
            x_terms = np.abs(A[t]) @ np.linalg.norm(x, axis=1)
            x_terms += np.abs(B[t]) @ np.linalg.norm(u, axis=1)
            x = A[t] @ x + B[t] @ u
            x[np.linalg.norm(x, axis=1) <= eps * x_terms] = 0.0
            Y[middle:last] = E[t][ahead] @ x
            terms[middle:last] = np.abs(E[t][ahead]) @ x_terms
        return Y, terms

    def add_slopes(self, in_x: Array, in_u: Array, y: Array) -> None:
        """Add the partial derivatives of sum y g in each state and input to these, in place."""
        k = self.now
        in_x[:-1] += times(self.C, y[:, :k], transpose=True)
        in_x[1:] += times(self.E, y[:, k:], transpose=True)
        in_u += times(self.D, y[:, :k], transpose=True)

    def feedback(self, at: NDArray[np.intp], row: int, i: int) -> tuple[Array, Array]:
        """Return C[t] / D[t, i] (., n) and D[t, i] (.,) of a single row at these stages."""
        C, D = (np.broadcast_to(z, (len(self.limited), *z.shape[-2:])) for z in (self.C, self.D))
        entry = D[at, row, i]
        return C[at, row] / entry[:, None], entry

    def ranges(self, low: Array, high: Array) -> Array:
        """Return the lowest and the highest inputs (2, T, m) that limits on single inputs allow."""
        ends = np.full((2, len(low), self.D.shape[-1]), np.inf)
        ends[0] = -np.inf
        for row, i in self.single:
            if self.C[..., row, :].any():
                continue
            both = np.stack([low[:, row], high[:, row]])
            least, most = np.sort(both / self.D[..., row, i], axis=0)
            ends[0, :, i] = np.maximum(ends[0, :, i], least)
            ends[1, :, i] = np.minimum(ends[1, :, i], most)
        return ends


def excess(g: Array, low: Array, high: Array) -> Array:
    """Return how far rows are beyond their limits; zero where they are within."""
    return np.maximum(np.maximum(g - high, low - g), 0.0)


def units_of_rows(g: Array, low: Array, high: Array, moved: Array) -> Array:
    """Return what an excess of each row is compared with: its largest limit, or how far it goes.

    The smaller of the two: a limit of 1e20 that stands for none is no measure of the others. How far
    a row goes is the largest of |g| (T, k+j), of what its limits push it to, and of `moved` (k+j,),
    how far inputs worth the cost move it.
    """
    sizes = [np.where(np.isfinite(z), np.abs(z), 0.0) for z in (low, high)]
    largest = np.maximum(*sizes).max(axis=0)
    # It has to go as far as its limits push it, also from rest.
    far = np.maximum(np.abs(g), np.abs(np.clip(g, low, high))).max(axis=0)
    far = np.maximum(far, moved)
    unit = np.where(largest > 0, np.minimum(largest, far), far)
    return np.where(unit > 0, unit, 1.0)


def _stacked(x: Array, ahead: Array, u: Array, C: Array, D: Array, E: Array) -> Array:
    """(C x[t] + D u[t], E x[t+1]) of all stages."""
    return np.concatenate([times(C, x) + times(D, u), times(E, ahead)], axis=1)
