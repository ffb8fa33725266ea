"""Factors of sparse matrices: pairs of solvers, with a matrix and with its transpose, from one factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg.lapack import dpttrf, dpttrs
from scipy.sparse.linalg import LinearOperator, splu

from lqrad.arguments import EPS, Array, real_array
from lqrad.errors import ArgumentError, ShapeError

Solve = Callable[[Array], Array]

_SINGULAR = (
    "a stationary equation without a boundary of given values has no unique solution: look at the "
    "boundary conditions, and whether E has its term of the time step"
)


def factorised(E: Any) -> tuple[Solve, Solve]:
    """Return the solvers of E z = b and of E'z = b, for b (n,) or (n, k), from one factor.

    Raises
    ------
    ArgumentError
        If E is singular, or so close to it that no digit of a solution is certain.

    References
    ----------
    Demmel, Eisenstat, Gilbert, Li and Liu, A supernodal approach to sparse partial pivoting, 1999.
    Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 15.3 (the estimate).

    Examples
    --------
    >>> solve, solve_transposed = factorised(np.array([[2.0, 1.0], [0.0, 4.0]]))
    >>> solve(np.array([4.0, 8.0])), solve_transposed(np.array([4.0, 10.0]))
    (array([1., 2.]), array([2., 2.]))
    """
    if isinstance(E, LinearOperator):
        raise ArgumentError(
            "E is a LinearOperator, which cannot be factorised; pass solver=(solve, solve_transposed)"
        )
    E = sp.csc_array(E)
    pair = _tridiagonal_pair(E)
    if pair is None:
        try:
            factor = splu(E, permc_spec="MMD_AT_PLUS_A")
        except RuntimeError as error:
            raise ArgumentError(f"E is singular ({error}); {_SINGULAR}") from None
        pair = factor.solve, partial(factor.solve, trans="T")
    size = _condition(E, pair)
    if not size < 1 / EPS:
        raise ArgumentError(f"E is singular: its condition number is above {size:.2g}; {_SINGULAR}")
    return pair


def _tridiagonal_pair(E: Any) -> tuple[Solve, Solve] | None:
    """Solvers of a symmetric positive definite tridiagonal matrix, or None where it is none."""
    entries = E.tocoo()
    if np.any(np.abs(entries.row - entries.col) > 1):
        return None
    below, above = E.diagonal(-1), E.diagonal(1)
    if not np.array_equal(below, above):
        return None
    # SciPy's wrapper wants one entry beside the diagonal at least.
    diagonal, beside, info = dpttrf(E.diagonal(), below) if len(below) else (None, None, 1)
    if info != 0:
        return None

    def solve(b: Array) -> Array:
        return np.asarray(dpttrs(diagonal, beside, b)[0])

    return solve, solve


def _condition(E: Any, pair: tuple[Solve, Solve]) -> float:
    """The condition number, nearly, with each row and column in a unit of its own size."""
    size, n = abs(E), E.shape[0]
    rows, columns = np.ones(n), np.ones(n)
    for axis in (0, 1, 0):  # columns first: they have the units of the states
        power = -np.frexp(size.max(axis=axis).toarray().ravel())[1]
        scale = 2.0 ** np.minimum(power, 1023)  # the largest there is
        if axis == 0:
            columns, size = columns * scale, size @ sp.diags_array(scale)
        else:
            rows, size = rows * scale, sp.diags_array(scale) @ size
    solve, solve_transposed = pair
    # A lower bound on the 1-norm of the inverse, nearly always within a factor of three of it.
    z, best = np.full(n, 1.0 / n), 0.0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for _ in range(5):
            y = solve(z / rows) / columns
            norm = float(np.abs(y).sum())
            if not norm > best:
                best = best if math.isfinite(norm) else math.inf
                break
            best = norm
            pull = solve_transposed(np.where(y < 0, -1.0, 1.0) / columns) / rows
            z = np.zeros(n)
            z[np.abs(pull).argmax()] = 1.0
    return best * float(size.sum(axis=0).max())


def checked_solver(function: Solve, name: str) -> Solve:
    """A user's solver, its answers checked."""

    def solve(b: Array) -> Array:
        z = real_array(name, function(b))
        if z.shape != b.shape:
            raise ShapeError(f"{name} returned shape {z.shape}, expected {b.shape}, that of its b")
        return z

    return solve


def definite_factor(weight: Any) -> Any:
    """The factor L D L' of a symmetric sparse matrix, or None unless all of D is positive.

    SuperLU pivots on the diagonal here, so that its U is D L': by Sylvester's law of inertia the
    signs of D are those of the eigenvalues.
    """
    try:
        factor = splu(
            sp.csc_array(weight),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError:  # exactly singular
        return None
    on_diagonal = np.array_equal(factor.perm_r, factor.perm_c)
    return factor if on_diagonal and factor.U.diagonal().min() > 0 else None
