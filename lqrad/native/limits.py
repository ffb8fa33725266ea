"""The kernel of receding horizons within limits, as `limits.h` states it."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.native.library import address, function

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_AT_WORK = 160  # of limits.h


class Maps(Structure):
    """`condensed_maps` of limits.h."""

    _ARRAYS = ("map", "P", "errors", "Y", "first", "rounding", "ahead", "moved", "made", "S")
    _fields_ = [
        *((name, c_int64) for name in ("n", "m", "inputs", "rows")),
        *((name, c_void_p) for name in _ARRAYS),
        ("most_rounding", c_double),
        ("dependent", c_double),
        ("patience", c_int64),
    ]


class Bounds(Structure):
    """`condensed_bounds` of limits.h."""

    _fields_ = [(name, c_void_p) for name in ("low", "high", "slack", "beside")]

    @classmethod
    def of(cls, arrays: Sequence[Array]) -> Bounds:
        """Those of the four C-contiguous arrays, which are to be kept as long as it is."""
        return cls(*(array.ctypes.data for array in arrays))


_steps = function(
    "condensed_steps",
    POINTER(Maps),
    POINTER(Bounds),
    c_int64,
    c_void_p,
    c_void_p,
    c_double,
    c_int64,
    *6 * [c_void_p],
)


class CondensedKernel:
    """The maps of a `Condensed` as the kernel reads them; made once for these.

    Parameters
    ----------
    m : int
    numbers : most_rounding, dependent and patience
    arrays : of `condensed_maps`, C-contiguous; made and S are written to
    """

    def __init__(self, m: int, *numbers: float, **arrays: NDArray[np.generic]) -> None:
        self._kept = arrays  # what the addresses below point to
        n, width = arrays["map"].shape
        rows, inputs = arrays["Y"].shape
        self.m, self.rows = m, rows
        most = min(rows, inputs, _MOST_AT_WORK)
        self._words = width + rows + 3 * most + most * (most + 1) // 2
        addresses = [arrays[name].ctypes.data for name in Maps._ARRAYS]
        self._maps = byref(Maps(n, m, inputs, rows, *addresses, *numbers))

    def steps(
        self,
        bounds: Bounds,
        x0: Array,
        offset: Array | None,
        before: NDArray[np.int8] | None,
        *,
        tol: float,
        max_iter: int,
    ) -> tuple[int, Array, NDArray[np.int8], NDArray[np.int64], Array]:
        """How many of the runs x0 (runs, n) have no answer; u, states, iterations and the last y."""
        runs = len(x0)
        u, state = np.empty((runs, self.m)), np.empty((runs, self.rows), np.int8)
        iterations, y = np.empty(runs, np.int64), np.empty(self.rows)
        failed: int = _steps(
            self._maps,
            byref(bounds),
            runs,
            address(x0),
            None if offset is None else address(offset),
            tol,
            max_iter,
            None if before is None else address(before),
            *map(address, (state, u, iterations, y, np.empty(self._words))),
        )
        return failed, u, state, iterations, y
