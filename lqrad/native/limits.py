"""The kernel of receding horizons within limits, as `limits.h` states it."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_char, c_double, c_int64, c_void_p
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.native.library import address, function

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_AT_WORK = 160  # of limits.h


class Maps(Structure):
    """`condensed_maps` of limits.h."""

    ARRAYS = (
        *("map", "P", "errors", "Y", "first", "rounding", "ahead", "moved", "made", "S"),
        *("price", "give"),
    )
    _fields_ = [
        *((name, c_int64) for name in ("n", "m", "inputs", "rows")),
        *((name, c_void_p) for name in ARRAYS),
        ("most_rounding", c_double),
        ("dependent", c_double),
        ("patience", c_int64),
        ("priced", c_int64),
    ]


class Bounds(Structure):
    """`condensed_bounds` of limits.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("low", "high", "slack", "beside")),
        ("tol", c_double),
    ]

    @classmethod
    def of(cls, arrays: Sequence[Array], tol: float) -> Bounds:
        """Those of the four C-contiguous arrays, which are to be kept as long as it is."""
        return cls(*(array.ctypes.data for array in arrays), tol)


_TWO = POINTER(Maps), POINTER(Bounds)
_step = function("condensed_step", *_TWO, c_void_p, c_void_p, c_int64, *3 * [c_void_p])
_steps = function("condensed_steps", *_TWO, c_int64, c_void_p, c_void_p, c_int64, *5 * [c_void_p])


class CondensedKernel:
    """The maps of a `Condensed` as the kernel reads them; made once for these.

    Parameters
    ----------
    m : int
    numbers : most_rounding, dependent, patience and priced
    arrays : of `condensed_maps`, C-contiguous; made and S are written to
    """

    def __init__(self, m: int, *numbers: float, **arrays: NDArray[np.generic]) -> None:
        self._kept = arrays  # what the addresses below point to
        n, width = arrays["map"].shape
        rows, inputs = arrays["Y"].shape
        self.m, self.rows = m, rows
        most = min(rows, rows if numbers[-1] else inputs, _MOST_AT_WORK)
        self._words = 2 * width + rows + 3 * most + most * (most + 1) // 2 + (rows + 7) // 8
        addresses = [arrays[name].ctypes.data for name in Maps.ARRAYS]
        self._maps = byref(Maps(n, m, inputs, rows, *addresses, *numbers))

    def step(
        self,
        bounds: Bounds,
        x0: Array,
        offset: Array | None,
        before: NDArray[np.int8] | None,
        max_iter: int,
    ) -> tuple[int, NDArray[np.int8], Array]:
        """How often states were changed, or -1; the states; the input (m,) with multipliers (rows,)."""
        state, found = np.empty(self.rows, np.int8), np.empty(self._words)
        count: int = _step(
            self._maps,
            bounds,
            address(x0),
            None if offset is None else address(offset),
            max_iter,
            None if before is None else _bytes(before),
            _bytes(state),
            address(found),
        )
        return count, state, found[: self.m + self.rows].copy()

    def steps(
        self,
        bounds: Bounds,
        x0: Array,
        offset: Array | None,
        before: NDArray[np.int8] | None,
        max_iter: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int8], Array]:
        """The same of runs x0 (runs, n): counts (runs,), states (runs, rows), inputs (runs, m)."""
        runs = len(x0)
        u, state = np.empty((runs, self.m)), np.empty((runs, self.rows), np.int8)
        counts, found = np.empty(runs, np.int64), np.empty(self._words)
        _steps(
            self._maps,
            bounds,
            runs,
            address(x0),
            None if offset is None else address(offset),
            max_iter,
            None if before is None else _bytes(before),
            _bytes(state),
            _bytes(u),
            _bytes(counts),
            _bytes(found),
        )
        return counts, state, u


def _bytes(array: Any) -> Any:
    """The same as `address`, of arrays that may be shorter than a double, and are written to."""
    return byref(c_char.from_buffer(array)) if array.size else None
