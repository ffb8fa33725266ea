"""Roots of covariances: triangles by reflections, of one matrix or of many side by side.

Many matrices (rows, columns, g) have their number as the last axis here, so that each operation is one
of NumPy on long rows; `abreast` brings them to it.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dgeqrf, dormqr, dpstrf

from lqrad.arguments import EPS, Array, is_diagonal
from lqrad.smoothing.arrays import transposed

# A direction of a root is zero below so many roundings of its largest.
LOST = 1024
# Rows of one matrix whose sizes differ by no more need not change places.
_ONE_SIZE = 64


def abreast(M: Array, group: tuple[int, ...] = ()) -> Array:
    """Matrices (g, r, c), or one (r, c) that a group shares, as (r, c, g or 1)."""
    if M.ndim > 2:
        return np.ascontiguousarray(np.moveaxis(M, 0, -1))
    return M[..., None] if group else M


def products(X: Array, Y: Array) -> Array:
    """X'Y of matrices, or of those abreast (..., g)."""
    return np.asarray(X.T @ Y if X.ndim == 2 else np.einsum("kig,kjg->ijg", X, Y))


def root_of(P: Array) -> Array:
    """L with L L' = P (..., n, n), each row as right as its own variance, whatever those of others.

    In units in which the variances are one, by Cholesky's method: with pivoting where P is singular,
    which leaves out what is zero but for rounding.
    """
    if is_diagonal(P):
        return np.sqrt(P)
    size = np.sqrt(np.diagonal(P, axis1=-2, axis2=-1))
    size = np.where(size > 0, size, 1.0)[..., None]
    scaled = P / size / size.swapaxes(-1, -2)
    try:
        L = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        n = P.shape[-1]
        L = np.reshape([_pivoted(matrix) for matrix in scaled.reshape(-1, n, n)], P.shape)
    return np.asarray(size * L)


def _pivoted(P: Array) -> Array:
    """L with L L' = P, of which zero columns are the last."""
    factor, pivots, rank, _ = dpstrf(P, lower=1)
    L = np.zeros_like(P)
    L[pivots - 1, :rank] = np.tril(factor)[:, :rank]
    return L


def triangle(M: Array, pivots: int) -> Array:
    """The first `pivots` rows of R with R'R = M'M, by reflections, and what they leave of the rows below.

    M is (rows, columns), or has many of them abreast in a last axis, and may be written into. Before each
    reflection, the row that is largest in its column changes places with the first: rows that are small,
    beside which a prior is vague, lose their digits to those that are large otherwise (Cox and Higham,
    Stability of Householder QR factorization for weighted least squares problems, 1998).
    """
    if M.ndim == 2:
        size = np.abs(M).max(axis=1)
        if size.max() <= _ONE_SIZE * size.min(where=size > 0, initial=np.inf):
            QR, tau, _, _ = dgeqrf(M[:, :pivots])
            R = np.empty_like(M)
            R[:, :pivots] = QR * np.tri(*QR.shape[::-1]).T
            if pivots < M.shape[1]:
                R[:, pivots:] = dormqr("L", "T", QR, tau, M[:, pivots:], len(M) * 64)[0]
            return R
        return triangle(M[..., None], pivots)[..., 0]
    M = np.ascontiguousarray(M)
    columns, g = M.shape[1:]
    flat, lanes = M.reshape(-1), np.arange(g)
    for j in range(pivots):
        top = M[j, j:]
        where = np.abs(M[j:, j]).argmax(axis=0)
        if where.any():
            entries = ((j + where) * columns + j) * g + lanes + g * np.arange(columns - j)[:, None]
            largest = flat[entries]
            flat[entries] = top
            top[...] = largest
        v, rest = M[j + 1 :, j], M[j + 1 :, j + 1 :]
        square = np.einsum("kg,kg->g", v, v)
        alpha = top[0].copy()
        beta = np.sqrt(alpha * alpha + square)
        beta = np.where(square > 0, np.where(alpha > 0, -beta, beta), alpha)
        with np.errstate(divide="ignore", invalid="ignore"):
            tau = np.where(square > 0, (beta - alpha) / beta, 0.0)
            v *= np.where(square > 0, 1 / (alpha - beta), 0.0)
        along = tau * (top[1:] + np.einsum("kg,kig->ig", v, rest))
        top[0] = beta
        top[1:] -= along
        rest -= v[:, None] * along
        v[...] = 0.0
    return M


def solve_upper(U: Array, F: Array) -> Array:
    """X of U X = F, for upper triangular U (n, n) or (n, n, g)."""
    X = np.empty(np.broadcast_shapes(F.shape, (*F.shape[:2], *U.shape[2:])))
    for i in reversed(range(len(U))):
        np.divide(F[i] - products(U[i, i + 1 :, None], X[i + 1 :])[0], U[i, i], out=X[i])
    return X


def solve_triangles(U: Array, f: Array) -> tuple[Array, Array]:
    """The least X of U X = f, and what of f is in directions that U (..., n, n) has lost to rounding.

    Columns of U may be of all sizes.
    """
    n = U.shape[-1]
    size = np.sqrt((U * U).sum(axis=-2))
    size = np.where(size > 0, size, 1.0)[..., None, :]
    left, values, right = np.linalg.svd(U / size)
    known = values > LOST * n * EPS * values[..., :1]
    half = transposed(left) @ f
    weights = np.where(known, 1 / np.where(known, values, 1.0), 0.0)[..., None]
    return transposed(right) @ (half * weights) / transposed(size), np.where(
        known[..., None], 0.0, half
    )
