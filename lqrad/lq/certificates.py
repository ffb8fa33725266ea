"""Proofs that no inputs keep limits, in the problem's own terms.

sum y (g - limit) > 0   for all inputs within limits of their own,   with xi the adjoint of y's slopes:
sum y g = xi[0]'x0 + sum xi[t+1]'c + sum (slopes in u[t])'u[t]
"""

from __future__ import annotations

import numpy as np

from lqrad.arguments import Array
from lqrad.errors import NonFiniteError
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem
from lqrad.lq.rows import Rows


def inputs_refute(
    problem: LQProblem, rows: Rows, eps: float, x0: Array, low: Array, high: Array, y: Array
) -> bool:
    """Whether sum y (g - limit) > 0 for all inputs within their own limits, rounding errors included.

    With xi the adjoint of the rows' slopes, that sum is xi[0]'x0 + sum xi[t+1]'c - sum y limit, and
    the inputs' slopes times the inputs. A rounding error in xi[t] counts by the largest x[t].
    """
    T, n = len(y), problem.n
    ends = rows.ranges(low, high)
    if not np.isfinite(ends).all():
        return False
    k, c = rows.now, np.broadcast_to(problem.c, (T, n))
    A, B, _, _, D, _ = rows.sizes
    largest = np.abs(ends).max(axis=0)
    in_x, slopes = np.zeros((T + 1, n)), np.zeros((T, problem.m))
    rows.add_slopes(in_x, slopes, y)
    try:
        xi = Bidiagonal(problem.A).solve(in_x, transpose=True)
        reached = [np.abs(x0)[None], times(B, largest) + np.abs(c)]
        x = Bidiagonal(A).solve(np.concatenate(reached))
    except NonFiniteError:
        return False
    slopes += times(problem.B, xi[1:], transpose=True)
    limits = (y * np.where(y > 0, high, low))[y != 0]
    value = xi[0] @ x0 + (xi[1:] * c).sum() - limits.sum()
    value += np.where(slopes > 0, slopes * ends[0], slopes * ends[1]).sum()

    terms, y, xi = np.abs(in_x), np.abs(y), np.abs(xi[1:])
    terms[:-1] += times(A, xi, transpose=True)
    size = (terms * x).sum() + np.abs(limits).sum()
    from_inputs = times(D, y[:, :k], transpose=True) + times(B, xi, transpose=True)
    size += (from_inputs * largest).sum()
    return bool(value > eps * size)
