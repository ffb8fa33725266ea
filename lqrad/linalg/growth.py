"""Norms of products of matrices, and their exponents, however large or small they become.

    M[T-1] = seed,    M[t-1] = A[t]'M[t]    the adjoint recursion, for all columns of a seed at once
    log |B[t]'M[t]|   for t = T-1, ..., 0

The products are carried as M = Q diag(2^e) U: Q orthonormal, U upper triangular with rows of size
one, and e whole numbers, so that scaling is exact. The rows are scaled apart from each other: what
an input adds to a decaying direction is not lost under one that grows. A constant A is made
triangular first, in an order in which Q stays the identity, but for turns in the planes of complex
pairs: rounding then respects the zeros, without which the powers of a Jordan block drift.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import matrix_balance, schur
from scipy.linalg.blas import dnrm2
from scipy.linalg.lapack import dgeqrf, dorgqr

from lqrad.arguments import Array
from lqrad.linalg.balance import balance, in_units

Powers = NDArray[np.int64]  # of two

# Products are kept up to this many numbers before their norms are taken, all at once.
_KEPT = 2**20
_NEVER = -(2**40)  # the exponent of a zero
_NOTHING = -4000  # a power of two that leaves nothing of any float
_LOG_2 = math.log(2)


def adjoint_growth(A: Array, B: Array, seed: Array | None, T: int) -> tuple[Array, Array]:
    """Return the logarithms of |B[t]'M[t]|_2, and the exponents of the recursion.

    A and B may have a leading T axis. The seed has k <= n columns; None is the identity, with which
    M[t] is the derivative of x[T] in x[t+1], transposed. The logarithms (T,) are -inf where the product
    is zero. The exponents (k,) are the means of log |r[i, i]| over all T steps, with r the triangular
    factor that a step adds: the finite-time Lyapunov exponents in the directions of the seed.

    References
    ----------
    Benettin, Galgani, Giorgilli and Strelcyn, Lyapunov characteristic exponents for smooth
    dynamical systems, Meccanica 15 (1980), 9-20.

    Examples
    --------
    >>> log_norms, exponents = adjoint_growth(2 * np.eye(1), np.eye(1), None, 5000)
    >>> (log_norms[[0, -1]] / np.log(2)).round(9) + 0.0, exponents / np.log(2)
    (array([4999.,    0.]), array([1.]))
    """
    n, m = B.shape[-2:]
    (A, a), (B, b), (seed, s) = map(_unit, (A, B, np.eye(n) if seed is None else seed))
    if A.ndim == 2:
        A, B, seed = _triangular(A, B, seed)
    k = seed.shape[1]
    As, Bs = np.broadcast_to(A, (T, n, n)), np.broadcast_to(B, (T, n, m))
    Q, U = _qr(seed)
    e = _normalise(U, np.zeros(k, dtype=np.int64))
    log_norms, diagonals = np.empty(T), np.empty((T, k))
    most = max(1, _KEPT // (k * (m + k)))
    kept_Q, kept_U = np.empty((most, n, k)), np.empty((most, k, k))
    kept_e = np.empty((most, k), dtype=np.int64)
    for stop in range(T, 0, -most):
        start = max(stop - most, 0)
        for t in range(stop - 1, start - 1, -1):
            kept_Q[t - start], kept_U[t - start], kept_e[t - start] = Q, U, e
            Q, r = _qr(As[t].T @ Q)
            diagonals[t] = r.diagonal()
            scaled, e = _align(r, e)
            U = scaled @ U
            e = _normalise(U, e)
        count = stop - start
        slopes, shift = _align(Bs[start:stop].swapaxes(-1, -2) @ kept_Q[:count], kept_e[:count])
        # One power of two for all rows of a product: its norm joins them.
        common = shift.max(axis=-1)
        down = np.maximum(shift - common[:, None], _NOTHING)
        products = np.ldexp(slopes @ kept_U[:count], down[..., None])
        with np.errstate(divide="ignore"):
            log_norms[start:stop] = np.log(np.linalg.norm(products, ord=2, axis=(-2, -1)))
        log_norms[start:stop] += common * _LOG_2
    log_norms += (a * np.arange(T - 1.0, -1.0, -1.0) + (b + s)) * _LOG_2
    with np.errstate(divide="ignore"):
        return log_norms, np.log(np.abs(diagonals)).mean(axis=0) + a * _LOG_2


def _unit(M: Array) -> tuple[Array, int]:
    """Return M / 2^e and e, such that the largest entry is in [1/2, 1)."""
    e = int(np.frexp(np.abs(M).max())[1])
    return np.ldexp(M, -e), e


def _triangular(A: Array, B: Array, seed: Array) -> tuple[Array, Array, Array]:
    """The recursion in states in which A' is upper triangular, by balancing and Schur.

    With A = D Z L Z'D^-1 and L lower triangular, B'(A')^k seed = (Z'D^-1 B)'(L')^k Z'D seed. The
    units of the states, D, are powers of two.
    """
    x = balance(A).x
    balanced, (D, _) = matrix_balance(in_units(A, x, x), permute=False, separate=True)
    D = np.ldexp(D, x)
    L, Z = schur(balanced)
    L, Z = L[::-1, ::-1], Z[:, ::-1]
    B = Z.T @ (B / D[:, None])
    if np.array_equal(seed * D[:, None], seed[0, 0] * np.eye(len(A))):
        return L, B, seed  # norms do not see the turn Z at the end
    return L, B, Z.T @ (D[:, None] * seed)


def free_response(A: Array, x0: Array, T: int) -> tuple[Array, float]:
    """Return (v, s) with x[T] = exp(s) v, where x[t+1] = A[t] x[t] from x0.

    Examples
    --------
    >>> v, s = free_response(2 * np.eye(1), np.ones(1), 5000)
    >>> float((s + np.log(v[0])) / np.log(2))
    5000.0
    """
    x, power = x0.copy(), 0
    for step in np.broadcast_to(A, (T, *A.shape[-2:])):
        x = step @ x
        by = int(np.frexp(np.abs(x).max())[1])
        x, power = np.ldexp(x, -by), power + by
    return x, power * _LOG_2


def _qr(M: Array) -> tuple[Array, Array]:
    k = M.shape[1]
    if k == 1:
        r = dnrm2(M)
        return M / (r or 1.0), np.array([[r]])
    factor, tau, _, _ = dgeqrf(M)
    return np.asarray(dorgqr(factor, tau)[0]), np.triu(factor[:k])


def _align(r: Array, e: Powers) -> tuple[Array, Powers]:
    """Return s and e' with diag(2^e') s = r diag(2^e), no entry of s larger than that of r."""
    e = np.where(r != 0, e[..., None, :], _NEVER)
    top = e.max(axis=-1)
    return np.asarray(np.ldexp(r, np.maximum(e - top[..., None], _NOTHING))), top


def _normalise(U: Array, e: Powers) -> Powers:
    """Scale the rows of U, in place, to a largest entry in [1/2, 1); return e with the powers."""
    power = np.frexp(np.abs(U).max(axis=-1))[1].astype(np.int64)
    U[...] = np.ldexp(U, -power[:, None])
    return np.asarray(e + power)
