"""The kernels of linear-quadratic problems, as `lq.h` states them."""

from __future__ import annotations

import math
from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p

import numpy as np

from lqrad.arguments import Array
from lqrad.native.library import (
    MOST_MATRICES,
    address,
    function,
    in_use,
    loaded,
    on_lines,
    serves_matrices,
)

# Above these BLAS is faster: states or inputs in a whole gradient, which it takes over many stages at
# once; states in a recursion of many vectors, or the multiplications of one step for all but one series.
_MOST_GRADIENT, _MOST_OF_MANY, _MOST_WORK = 12, 50, 40_000
# ON_STACK of lq.c: so many doubles of work are there.
_ON_STACK = 2048


class Problem(Structure):
    """`lq_problem` of lq.h."""

    _ARRAYS = ("A", "At", "B", "Bt", "Q", "R", "M", "c", "q", "r", "S", "s")
    _STEPS = ("A", "B", "Q", "R", "M", "c", "q", "r")
    _fields_ = [
        ("n", c_int64),
        ("m", c_int64),
        *((name, c_void_p) for name in _ARRAYS),
        *((f"{name}_step", c_int64) for name in _STEPS),
    ]


_gradient = function(
    "lq_gradient", POINTER(Problem), c_int64, c_int64, c_void_p, c_int64, *4 * [c_void_p]
)
_riccati = function("lq_riccati", POINTER(Problem), c_int64, c_int64, c_double, *4 * [c_void_p])
_rollout = function(
    "lq_rollout", POINTER(Problem), c_int64, c_int64, c_void_p, c_int64, *9 * [c_void_p]
)
_settled = function("lq_settled", *3 * [c_int64], *3 * [c_void_p])
_solve = function("bidiagonal_solve", *3 * [c_int64], c_void_p, c_int64, c_int64, c_void_p)


class LQKernel:
    """The arrays of a linear-quadratic problem as the kernels read them; made once for a problem.

    Parameters
    ----------
    A, B, Q, R : arrays of the problem, C-contiguous or not, with a leading T axis where they vary
    S, M, c, q, r, s : optional
        None where they are zero.
    """

    def __init__(self, **arrays: Array | None) -> None:
        self.n, self.m = arrays["B"].shape[-2:]  # type: ignore[union-attr]
        self._problem = Problem(self.n, self.m)
        given = {name: array for name, array in arrays.items() if array is not None}
        varying = {
            name
            for name in Problem._STEPS
            if name in given and given[name].ndim > (2 if name.isupper() else 1)
        }
        still = {name: array for name, array in given.items() if name not in varying}
        still |= {f"{name}t": still[name].T for name in "AB" if name in still}
        # What the addresses in there point to.
        self._kept = dict(zip(still, on_lines(*still.values()), strict=True))
        for name in varying:
            self._kept[name] = np.ascontiguousarray(given[name])
            setattr(self._problem, f"{name}_step", given[name][0].size)
        for name, array in self._kept.items():
            setattr(self._problem, name, array.ctypes.data)
        self._address = byref(self._problem)
        self._small_gradient = max(self.n, self.m) <= _MOST_GRADIENT

    def gradient(self, x0: Array, u: Array) -> tuple[float | Array, Array] | None:
        """J, a number or (...), and g (..., T, m) of u (..., T, m) from x0 (n,) or (..., n).

        None where BLAS is faster, where x0 has another batch than u, or where J or g is not finite.
        """
        *batch, T, _ = u.shape
        one = x0.ndim == 1
        if not (
            self._small_gradient and in_use() and (one or x0.shape[:-1] == tuple(batch)) and u.size
        ):
            return None
        number, g = c_double(), np.empty(u.shape)  # quicker to make and to read than an array ()
        J = np.empty(batch) if batch else None
        words = (T + 5) * self.n + self.m + 3
        failed = _gradient(
            self._address,
            T,
            math.prod(batch),
            address(np.ascontiguousarray(x0)),
            0 if one else self.n,
            address(np.ascontiguousarray(u)),
            byref(number) if J is None else address(J),
            address(g),
            None if words <= _ON_STACK else address(np.empty(words)),
        )
        return None if failed else (number.value if J is None else J, g)

    def riccati(self, first: int, last: int, unit: float, P: Array, K: Array, L: Array) -> int:
        """Run the stages last-1, ..., first in place; 0, or from what stage on, t + 1, the twin is to run.

        That is where R + B'P[t+1]B is not positive beyond doubt, or `last` where P or K is not finite.
        """
        work = np.empty(3 * (self.n + self.m + 6) ** 2)
        failed: int = _riccati(self._address, first, last, unit, *map(address, (P, K, L, work)))
        return failed

    def rollout(
        self, x0: Array, T: int, alike: int, K: Array, P: Array, k: Array | None, v: Array | None
    ) -> tuple[Array, Array, Array, Array] | None:
        """x, u and p from x0 (..., n), in closed loop, and J (...); None where they are not finite.

        K and P hold the stages from `alike` on, to which those before are alike. k and v are None where
        they are zero.
        """
        if not (in_use() and x0.size):
            return None
        n, m, batch = self.n, self.m, x0.shape[:-1]
        x, u = np.empty((*batch, T + 1, n)), np.empty((*batch, T, m))
        p, J = np.empty((*batch, T, n)), np.empty((2, *batch))
        x0, K, P = map(np.ascontiguousarray, (x0, K, P))
        failed = _rollout(
            self._address,
            T,
            x0.size // n,
            address(x0),
            alike,
            address(K),
            address(P),
            *(None if z is None else address(np.ascontiguousarray(z)) for z in (k, v)),
            *map(address, (x, u, p, J, np.empty(n * n + n + m))),
        )
        return None if failed else (x, u, p, J[0])


def lq_kernel(n: int, m: int, **arrays: Array | None) -> LQKernel | None:
    """The kernel of a problem, where the library is loaded and the matrices are small; else None.

    It may be kept: whether it is in use is asked at each call, of `riccati` by `serves_matrices`.
    """
    small = max(n, m) <= MOST_MATRICES
    return LQKernel(**arrays) if loaded() and small else None


def serves_series(n: int, series: int) -> bool:
    """Whether the kernels are in use and made for so many series of n states at once."""
    return in_use() and (n <= _MOST_OF_MANY or (series - 1) * n * n <= _MOST_WORK)


def settles(P: Array, left: int, F: Array) -> bool | None:
    """What `linalg.settled.settled` returns; None where the kernels are not in use or made for P."""
    n = len(F)
    if not (serves_matrices(n) and P.flags.c_contiguous):
        return None
    work = np.empty((4 * n + 1) * n)
    F = np.ascontiguousarray(F)
    return bool(_settled(n, len(P), left, *map(address, (P, F, work))))


def solve_bidiagonal(A: Array, x: Array, *, transpose: bool) -> bool:
    """Solve with a `Bidiagonal` matrix in place, in x (..., T+1, n); False where it is not finite.

    A and x are C-contiguous. Forward with an A that does not vary, A' is given in its place.
    """
    *_, rows, n = x.shape
    series, step = x.size // (rows * n), n * n if A.ndim == 3 else 0
    return not _solve(n, rows - 1, series, address(A), step, transpose, address(x))
