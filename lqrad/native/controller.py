"""The kernels of a linear controller, as `controller.h` states them."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from typing import Any

import numpy as np

from lqrad.arguments import Array
from lqrad.native.library import MOST_MATRICES, address, function, in_use, loaded


class Design(Structure):
    """`linear_controller` of controller.h."""

    SIZES = ("n", "m", "ny", "nr", "k", "predicts")
    ARRAYS = ("AB", "C", "D", "L", "W", "E", "N", "K_i", "low", "high")
    _fields_ = [
        *((name, c_int64) for name in SIZES),
        *((name, c_void_p) for name in ARRAYS),
    ]


class Plant(Structure):
    """`plant_in_loop` of controller.h."""

    ARRAYS = ("AB", "C", "D", "low", "high", "w", "e")
    _fields_ = [("n", c_int64), ("lag", c_int64), *((name, c_void_p) for name in ARRAYS)]


_step = function(
    "controller_step",
    POINTER(Design),
    c_int64,
    c_void_p,
    c_void_p,
    c_int64,
    *5 * [c_void_p],
)
_loop = function(
    "controller_loop",
    POINTER(Design),
    POINTER(Plant),
    c_int64,
    c_int64,
    *5 * [c_void_p],
)


class ControllerKernel:
    """The arrays of a controller as the kernels read them; made once for it.

    Parameters
    ----------
    A, B, C, D, L, F, K, K_i, E, N, low, high : as controller.h has them, none transposed
    """

    def __init__(self, *, predicts: bool, **arrays: Array) -> None:
        (n, m), nr = arrays["B"].shape, arrays["F"].shape[1]
        k, ny = arrays["E"].shape
        K_i = arrays["K_i"] if k else np.zeros((m, 0))
        self._kept, self._design = _structure(
            Design,
            (n, m, ny, nr, k, predicts),
            AB=np.hstack([arrays["A"], arrays["B"]]).T,
            C=-arrays["C"].T,
            D=-arrays["D"].T if predicts else None,
            L=arrays["L"].T,
            W=np.hstack([arrays["F"], -K_i, -arrays["K"]]).T,
            E=arrays["E"].T,
            N=arrays["N"].T,
            K_i=K_i,
            low=arrays["low"],
            high=arrays["high"],
        )
        self._n, self._m, self._nr = n, m, nr

    def step(
        self, y: Array, r: Array | None, x: Array, z: Array
    ) -> tuple[Array, Array, Array] | None:
        """The input u (..., m) and the memory (..., n), (..., k) of the next step; None where not finite.

        y (..., ny), x (..., n) and z (..., k) are of the same runs, and r (..., nr) is, or (nr,), or None.
        """
        if not in_use():
            return None
        runs, shared = y.shape[:-1], r is None or r.ndim == 1
        y, x, z = map(np.ascontiguousarray, (y, x, z))
        u, x_next, z_next = np.empty((*runs, self._m)), np.empty(x.shape), np.empty(z.shape)
        failed = _step(
            self._design,
            x.size // self._n,
            address(y),
            None if r is None else address(np.ascontiguousarray(r)),
            0 if shared else self._nr,
            address(x),
            address(z),
            address(u),
            address(x_next),
            address(z_next),
        )
        return None if failed else (u, x_next, z_next)

    def loop(self, lag: int, x: Array, y: Array, v: Array, u: Array, **loop: Array | None) -> bool:
        """Fill x (T+1, ..., n), y, v and u of a loop of a reset controller from x[0]; whether it could.

        The loop's A, B, C, D, low, high, and r (T, nr), w (T, ..., n), e (T, ..., ny) or None, are as in
        controller.h, none transposed. False where r does not fit, or a number is not finite.
        """
        n, r, D = x.shape[-1], loop["r"], loop["D"]
        fits = n <= MOST_MATRICES and (r is None or 0 < r.shape[1] == self._nr)
        if not (in_use() and fits and x.size):
            return False
        _kept, plant = _structure(
            Plant,
            (n, lag),
            AB=np.hstack([loop["A"], loop["B"]]).T,  # type: ignore[list-item]
            C=loop["C"].T,  # type: ignore[union-attr]
            D=D.T if D is not None and D.any() else None,
            **{name: loop[name] for name in ("low", "high", "w", "e")},
        )
        r = None if r is None else address(np.ascontiguousarray(r))
        sizes = len(y), x[0].size // n
        return not _loop(self._design, plant, *sizes, r, *map(address, (x, y, v, u)))


def controller_kernel(*, predicts: bool, **arrays: Array) -> ControllerKernel | None:
    """The kernel of a controller, where the library is loaded and no vector is long; else None."""
    small = max(map(max, (arrays[name].shape for name in "BCF"))) <= MOST_MATRICES
    return ControllerKernel(predicts=predicts, **arrays) if loaded() and small else None


def _structure(kind: type[Structure], sizes: tuple[int, ...], **arrays: Array | None) -> Any:
    """The arrays, which are to be kept, and the address of the structure that points to them."""
    kept = {
        name: None if array is None else np.ascontiguousarray(array)
        for name, array in arrays.items()
    }
    addresses = (None if array is None else array.ctypes.data for array in kept.values())
    return kept, byref(kind(*sizes, *addresses))
