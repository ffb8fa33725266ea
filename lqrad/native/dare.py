"""The kernel of the algebraic Riccati equation, as `dare.h` states it."""

from __future__ import annotations

from ctypes import c_int64, c_void_p

import numpy as np

from lqrad.arguments import Array
from lqrad.native.library import address, function, in_use

# States and inputs together above which BLAS is faster.
_MOST = 60

_solve = function("dare_solve", c_int64, c_int64, *10 * [c_void_p])


def solve_dare(
    A: Array, B: Array, Q: Array, R: Array, M: Array
) -> tuple[Array, Array, Array, list[float]] | None:
    """P, K, the closed loop in balanced units, and the numbers that `found` holds; None where it fails."""
    n, m = B.shape
    if not (in_use() and n + m <= _MOST):
        return None
    P, K, closed, found = np.empty((n, n)), np.empty((m, n)), np.empty((n, n)), np.empty(3)
    work = np.empty(6 * (n + m + 1) ** 2 + 11 * n * n + m * n + 2 * (n + m + 1))
    given = (A, B, Q, R, M if M.any() else None)
    failed = _solve(
        n,
        m,
        *(None if z is None else address(np.ascontiguousarray(z)) for z in given),
        *map(address, (P, K, closed, found, work)),
    )
    return None if failed else (P, K, closed, found.tolist())
