"""Products with, and solutions of, a matrix at every stage of a horizon.

A matrix M is (r, c), or (T, r, c) when it varies; z is (..., T, c), with batches in front.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dgemm
from scipy.linalg.lapack import dtrtrs

from lqrad.arguments import Array


def times(M: Array, z: Array, *, transpose: bool = False, out: Array | None = None) -> Array:
    """Return y with y[t] = M[t] z[t], or M[t]' z[t]; `out` is where to write it.

    Examples
    --------
    >>> times(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[3., 2.],
           [7., 4.]])
    """
    if M.ndim == z.ndim == 2 and (
        out is None or out.ndim == 2
    ):  # one product for the whole horizon
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


def substitute(L: Array, F: Array, *, transpose: bool = False) -> Array:
    """Return X of L X = F, or of L'X = F, for lower triangular L (..., n, n) and F (..., n, k).

    A solver that looks for pivots takes others, and rounds in another way, in other units.

    Examples
    --------
    >>> L = np.array([[2.0, 0.0], [1.0, 4.0]])
    >>> substitute(L, np.array([[2.0], [9.0]])).ravel()
    array([1., 2.])
    >>> substitute(np.array([L, L]), np.array([[4.0], [8.0]]), transpose=True)[..., 0]
    array([[1., 2.],
           [1., 2.]])
    """
    if L.ndim == F.ndim == 2:
        return np.asarray(dtrtrs(L, F, lower=1, trans=transpose)[0])
    if transpose:  # read from its last row and column on, L' is lower triangular
        turned = substitute(L.swapaxes(-1, -2)[..., ::-1, ::-1], F[..., ::-1, :])
        return turned[..., ::-1, :]
    X = np.empty((*np.broadcast_shapes(L.shape[:-2], F.shape[:-2]), *F.shape[-2:]))
    for i in range(L.shape[-1]):
        row = F[..., i, :]
        if i:
            row = row - (L[..., i, None, :i] @ X[..., :i, :])[..., 0, :]
        np.divide(row, L[..., i, i, None], out=X[..., i, :])
    return X


def inner(y: Array, z: Array) -> float | Array:
    """Return sum_t y[t]'z[t]: a float, or an array (...) with an entry for each series of a batch."""
    if y.ndim == z.ndim == 2:
        return float(np.vdot(y, z))
    return np.asarray(np.einsum("...ti,...ti->...", y, z))
