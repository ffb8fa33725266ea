"""Products with a matrix at every stage of a horizon, constant or varying in time.

    y[t] = M[t] z[t]      or      y[t] = M[t]' z[t]

The matrix M is (r, c), or (T, r, c) when it varies; z is (..., T, c), with batches in front.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dgemm

from lqrad.arguments import Array


def times(M: Array, z: Array, *, transpose: bool = False, out: Array | None = None) -> Array:
    """Return y with y[t] = M[t] z[t], or M[t]' z[t].

    Parameters
    ----------
    M : (r, c) or (T, r, c)
    z : (..., T, c), or (..., T, r) with `transpose`
    transpose : bool
        Multiply by M'.
    out : (..., T, r), or (..., T, c) with `transpose`, optional
        Where to write the result.

    Returns
    -------
    (..., T, r), or (..., T, c) with `transpose`

    Examples
    --------
    >>> times(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[3., 2.],
           [7., 4.]])
    """
    if M.ndim == z.ndim == 2 and (
        out is None or out.ndim == 2
    ):  # one matrix product for the whole horizon
        return np.asarray(z.dot(M if transpose else M.T, out=out))
    if M.ndim == 2:
        M = M if transpose else M.T
        y = z.reshape(-1, len(M)).dot(M).reshape(*z.shape[:-1], M.shape[1])
    else:
        y = np.matmul(M.swapaxes(-1, -2) if transpose else M, z[..., None])[..., 0]
    if out is None:
        return np.asarray(y)
    out[...] = y
    return out


def add_times(y: Array, M: Array, z: Array, *, transpose: bool = False) -> None:
    """Add M[t] z[t], or M[t]'z[t], to y[t] in place, where y (..., T, r) is C-contiguous.

    Examples
    --------
    >>> y = np.ones((2, 1))
    >>> add_times(y, np.array([[1.0], [2.0]]), np.array([[1.0, 1.0], [0.0, 3.0]]), transpose=True)
    >>> y.ravel()
    array([4., 7.])
    """
    if M.ndim == y.ndim == 2:  # no array for the product: that would cost more than the product
        dgemm(1.0, M.T, z.T, beta=1.0, c=y.T, trans_a=not transpose, overwrite_c=1)
    else:
        y += times(M, z, transpose=transpose)


def substitute(L: Array, b: Array, *, transpose: bool = False) -> Array:
    """Return z with L[t] z[t] = b[t], or L[t]'z[t] = b[t], for lower triangular L.

    A solver that looks for pivots takes others, and rounds in another way, in other units.

    Parameters
    ----------
    L : (T, m, m)
    b : (..., T, m)

    Examples
    --------
    >>> L = np.array([[[2.0, 0.0], [1.0, 4.0]]])
    >>> substitute(L, np.array([[2.0, 9.0]])), substitute(L, np.array([[4.0, 8.0]]), transpose=True)
    (array([[1., 2.]]), array([[1., 2.]]))
    """
    z = np.array(b)
    for i in reversed(range(z.shape[-1])) if transpose else range(z.shape[-1]):
        row, known = (L[:, i + 1 :, i], z[..., i + 1 :]) if transpose else (L[:, i, :i], z[..., :i])
        z[..., i] = (z[..., i] - (row * known).sum(axis=-1)) / L[:, i, i]
    return z


def inner(y: Array, z: Array) -> float | Array:
    """Return sum_t y[t]'z[t]: a float, or an array (...) with an entry for each series of a batch.

    Examples
    --------
    >>> inner(np.ones((3, 2)), np.full((3, 2), 2.0))
    12.0
    """
    if y.ndim == z.ndim == 2:
        return float(np.vdot(y, z))
    return np.asarray(np.einsum("...ti,...ti->...", y, z))
