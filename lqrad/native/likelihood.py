"""The kernels of the likelihood and its score, as `likelihood.h` states them."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from typing import NamedTuple

import numpy as np

from lqrad.arguments import Array
from lqrad.native.library import address, function, pointer


class Model(Structure):
    """`series_model` of likelihood.h."""

    _ARRAYS = ("A", "C", "W", "V", "c")
    _fields_ = [
        *((name, c_int64) for name in ("n", "ny", "k", "T")),
        *((name, c_void_p) for name in _ARRAYS),
        *((f"{name}_step", c_int64) for name in _ARRAYS),
    ]


class Trace(Structure):
    """`series_trace` of likelihood.h."""

    _fields_ = [(name, c_void_p) for name in ("S", "L", "e", "g", "x", "M", "P")]


class Gradients(Structure):
    """`series_score` of likelihood.h."""

    _ARRAYS = ("A", "C", "W", "V", "c", "d", "m0", "P0")
    _fields_ = [
        *((name, c_void_p) for name in _ARRAYS),
        *((f"{name}_step", c_int64) for name in _ARRAYS[:-2]),
    ]


_forward = function(
    "loglik_forward",
    POINTER(Model),
    c_int64,
    c_int64,
    *6 * [c_void_p],
    POINTER(Trace),
    *2 * [c_void_p],
)
_backward = function(
    "loglik_backward",
    *(POINTER(Model), c_int64, c_int64, *3 * [c_void_p], POINTER(Trace)),
    *(*3 * [c_void_p], POINTER(Gradients), *2 * [c_void_p]),
)


class State(NamedTuple):
    """What `loglik_forward` works on in place: x (n,), M (n, k), P (n, n), R (k+1, k+1) and log det (1,)."""

    x: Array
    M: Array
    P: Array
    R: Array
    log_determinant: Array


class SeriesKernel:
    """The arrays of a model as the kernels read them, for series of T steps and k directions of a start."""

    def __init__(self, T: int, k: int, **arrays: Array) -> None:
        ny, n = arrays["C"].shape[-2:]
        self._kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        places = [self._kept[name].ctypes.data for name in Model._ARRAYS]
        steps = [_step(name, self._kept[name]) for name in Model._ARRAYS]
        self._model = Model(n, ny, k, T, *places, *steps)
        room = 4 * n * n + 3 * n * ny + ny * ny + 2 * n * k + ny * k + 4 * (n + ny + k + 1)
        self._room = np.empty(room), np.empty(n * n + n, dtype=np.int64)

    def forward(
        self, y: Array, first: int, last: int, state: State, trace: dict[str, Array] | None
    ) -> bool:
        """Run the filter over rows of y (T+1, ny), contiguous; False where digits are lost."""
        failed = _forward(
            byref(self._model),
            *(first, last, address(y)),
            *map(address, state),
            byref(_pointers(Trace(), trace)) if trace else None,
            *map(address, self._room),
        )
        return not failed

    def backward(
        self,
        y: Array,
        last: int,
        R: Array,
        b: Array,
        trace: dict[str, Array],
        costates: tuple[Array, Array, Array],
        gradients: dict[str, Array],
    ) -> bool:
        """Add the gradients of the rows before the last, from p, pb and N; False where they are not finite."""
        score = _pointers(Gradients(), gradients)
        for name in Gradients._ARRAYS[:-2]:
            if name in gradients:
                setattr(score, f"{name}_step", _step(name, gradients[name]))
        failed = _backward(
            byref(self._model),
            *(0, last),
            *map(address, (y, R, b)),
            byref(_pointers(Trace(), trace)),
            *map(address, costates),
            byref(score),
            *map(address, self._room),
        )
        return not failed


def _step(name: str, array: Array) -> int:
    """How far it is to the next stage of an array, 0 where it does not vary in time."""
    return array[0].size if array.ndim == (3 if name.isupper() else 2) else 0


def _pointers(structure: Trace | Gradients, arrays: dict[str, Array]) -> Trace | Gradients:
    for name, array in arrays.items():
        setattr(structure, name, pointer(array))
    return structure
