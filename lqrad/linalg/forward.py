"""A linear recursion, run forward: x[t+1] = A[t] x[t] + f[t+1].

Written as one triangular system it has unit diagonal blocks and -A[t] below them. Entry by entry that is
a triangle with 2n - 1 diagonals below the main one, which LAPACK's `dtbtrs` solves in one call; a long
horizon is marched in pieces whose band stays in cache.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dgemv
from scipy.linalg.lapack import dtbtrs

from lqrad.arguments import Array
from lqrad.native.lq import serves_series, solve_bidiagonal

# A band of this size stays in a second-level cache together with the states that it works on.
BAND_BYTES = 256 * 1024
LEAST_BAND_STEPS = 64
# Where a step of all series costs more multiplications than this, a loop of matrix products is
# faster than the half-empty band.
BANDED_WORK = 2000


def run_forward(A: Array, x: Array) -> None:
    """Add A[t] x[t] to x[t+1], step by step, in place; x may not be finite then.

    Parameters
    ----------
    A : (n, n) or (T, n, n)
    x : (..., T+1, n)
        Holds x[0], f[1], ..., f[T].

    Examples
    --------
    >>> x = np.array([[8.0], [0.0], [1.0]])
    >>> run_forward(np.array([[0.5]]), x)
    >>> x.ravel()
    array([8., 4., 3.])
    """
    T, n = x.shape[-2] - 1, x.shape[-1]
    if not T or not x.size:
        return
    if x.ndim > 2:
        for t in range(T):
            x[..., t + 1, :] += x[..., t, :] @ (A[t] if A.ndim == 3 else A).T
    elif serves_series(n, 1) and x.flags.carray:
        solve_bidiagonal(np.ascontiguousarray(A if A.ndim == 3 else A.T), x, transpose=False)
    elif n * n <= BANDED_WORK:
        _march(A, x)
    else:
        steps = A.swapaxes(-1, -2) if A.ndim == 3 else [A.T] * T
        for M, before, after in zip(steps, x[:-1], x[1:], strict=True):
            dgemv(1.0, M, before, 1.0, after, trans=1, overwrite_y=1)


def run_in_loop(A: Array, B: Array, K: Array, x: Array) -> None:
    """The same with A[t] - B[t] K[t] in the place of A[t]; K (T, m, n), A and B with or without its axis.

    Of many states that matrix is not formed: it takes as long as so many steps as there are inputs.
    """
    if x.ndim > 2 or x.shape[1] ** 2 <= BANDED_WORK:
        run_forward(A - B @ K, x)
        return
    As, Bs = (np.broadcast_to(z, (len(K), *z.shape[-2:])).swapaxes(1, 2) for z in (A, B))
    for M, N, gain, before, after in zip(As, Bs, K, x[:-1], x[1:], strict=True):
        dgemv(1.0, M, before, 1.0, after, trans=1, overwrite_y=1)
        dgemv(-1.0, N, dgemv(1.0, gain.T, before, trans=1), 1.0, after, trans=1, overwrite_y=1)


def _march(A: Array, x: Array) -> None:
    """Run forward by banded solves: neighbouring pieces share a state."""
    T, n = len(x) - 1, x.shape[1]
    most = min(band_steps(n), T)
    band = np.zeros((2 * n, (most + 1) * n), order="F")
    for start in range(0, T, most):
        stop = min(start + most, T)
        if A.ndim == 3 or start == 0:
            fill_band(band, A[start:stop] if A.ndim == 3 else np.broadcast_to(A, (most, n, n)))
        piece = x[start : stop + 1].reshape(-1, 1)
        dtbtrs(band[:, : len(piece)], piece, uplo="U", trans="T", diag="U", overwrite_b=1)


def band_steps(n: int) -> int:
    """How many steps of n states a band takes at a time."""
    return max(LEAST_BAND_STEPS, BAND_BYTES // (16 * n * n))


def fill_band(band: Array, A: Array) -> None:
    """Write the blocks -A[t]' above the unit diagonal of a band of the transpose, row by row of A."""
    steps, n = A.shape[:2]
    # [t, i, 2n - 1 - d]: d rows above, in column i of block t
    columns = band.T.reshape(-1, n, 2 * n)
    for i in range(n):
        np.negative(A[:, i, :], out=columns[1 : steps + 1, i, n - 1 - i : 2 * n - 1 - i])
