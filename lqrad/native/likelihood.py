"""The kernels of the likelihood and its score, as `likelihood.h` states them."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from typing import NamedTuple

import numpy as np

from lqrad.arguments import Array
from lqrad.native.library import function


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


class Forward(NamedTuple):
    """What `loglik_forward` found: the triangle R (k+1, k+1), 2 log det L, and the trace for its adjoint."""

    R: Array
    log_determinant: float
    trace: dict[str, Array]


class SeriesKernel:
    """The arrays of a model as the kernels read them: x[0] = m0 + root'b + (0, base), root (k, n)."""

    def __init__(self, T: int, base: Array, root: Array, prior: bool, **arrays: Array) -> None:
        self._kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self.n, self.ny, self.k, self.T = len(base), arrays["C"].shape[-2], len(root), T
        self._model = Model(self.n, self.ny, self.k, T)
        for name in Model._ARRAYS:
            array = self._kept[name]
            setattr(self._model, name, array.ctypes.data)
            varies = array.ndim == (3 if name.isupper() else 2)
            setattr(self._model, f"{name}_step", array[0].size if varies else 0)
        self._start = (self._kept["m0"], np.ascontiguousarray(root.T), base @ base.T)
        self._prior = prior
        n, ny, k = self.n, self.ny, self.k
        room = 4 * n * n + 4 * n * ny + ny * ny + 2 * n * k + ny * k + 4 * (n + ny + k + 1)
        self._room = np.empty(room), np.empty(n * n + n, dtype=np.int64)

    def _work(self) -> tuple[int, int]:
        work, index = self._room
        return work.ctypes.data, index.ctypes.data

    def forward(self, y: Array, *, trace: bool = False, states: bool = False) -> Forward | None:
        """Run the filter over y (T+1, ny); None where digits are lost."""
        n, ny, k, T = self.n, self.ny, self.k, self.T
        y = np.ascontiguousarray(y)
        x, M, P = (array.copy() for array in self._start)
        R, log_determinant = np.zeros((k + 1, k + 1)), np.zeros(1)
        if self._prior:
            R.flat[: k * (k + 2) : k + 2] = 1.0
        shapes = {"S": (ny, n), "L": (ny, ny), "e": (ny,), "g": (ny, k)} if trace else {}
        shapes |= {"x": (n,), "M": (n, k), "P": (n, n)} if states else {}
        kept = {name: np.empty((T + 1, *shape)) for name, shape in shapes.items()}
        failed = _forward(
            byref(self._model),
            *(0, T + 1, y.ctypes.data),
            *(array.ctypes.data for array in (x, M, P, R, log_determinant)),
            byref(_pointers(Trace(), kept)) if trace else None,
            *self._work(),
        )
        return None if failed else Forward(R, float(log_determinant[0]), kept)

    def backward(self, y: Array, found: Forward, b: Array, gradients: dict[str, Array]) -> bool:
        """Add the gradients of a series whose start is b; False where they are not finite."""
        n, k, T = self.n, self.k, self.T
        y, b = np.ascontiguousarray(y), np.ascontiguousarray(b)
        p, pb, N = np.zeros(n), np.zeros((n, k)), np.zeros((n, n))
        score = _pointers(Gradients(), gradients)
        for name in Gradients._ARRAYS[:-2]:
            if name in gradients:
                array = gradients[name]
                varies = array.ndim == (3 if name.isupper() else 2)
                setattr(score, f"{name}_step", array[0].size if varies else 0)
        failed = _backward(
            byref(self._model),
            *(0, T + 1),
            *(array.ctypes.data for array in (y, found.R, b)),
            byref(_pointers(Trace(), found.trace)),
            *(array.ctypes.data for array in (p, pb, N)),
            byref(score),
            *self._work(),
        )
        return not failed


def _pointers(structure: Trace | Gradients, arrays: dict[str, Array]) -> Trace | Gradients:
    for name, array in arrays.items():
        setattr(structure, name, array.ctypes.data)
    return structure
