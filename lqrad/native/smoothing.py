"""The kernels of filters and of their smoother, as `smoothing.h` states them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.native.library import address, function
from lqrad.native.smoother import Stages


class FilterArrays(NamedTuple):
    """The covariances of filters, as `filter_covariances` of smoothing.h states them."""

    predicted_cov: Array
    K: Array
    factor: Array
    roots: Array
    cov: Array
    rounding: Array

    @classmethod
    def empty(cls, group: tuple[int, ...], T: int, n: int, ny: int) -> FilterArrays:
        """Arrays to be filled."""
        shapes = ((n, n), (n, ny), (ny, ny), (n, n), (n, n), (n,))
        return cls(*(np.empty((*group, T + 1, *shape)) for shape in shapes))


class Models(Structure):
    """`filter_models` of smoothing.h."""

    _STAGES = ("A", "C", "v", "V", "w")
    _fields_ = [
        *((name, c_int64) for name in ("n", "ny", "T")),
        *((name, Stages) for name in _STAGES),
    ]


# Of so many filters side by side.
_ABREAST = 8
_models, _integers, _arrays = POINTER(Models), c_int64, c_void_p
_covariances = function("filter_covariances", _models, *3 * [_integers], *10 * [_arrays])
_means = function(
    "filter_means",
    _models,
    Stages,
    *3 * [_integers],
    *3 * [_arrays],
    _integers,
    *5 * [_arrays],
)
_costates = function("filter_costates", _models, *3 * [_integers], *5 * [_arrays])
_gains = function("rts_gains", _models, *3 * [_integers], *2 * [_arrays], c_double, *4 * [_arrays])
_back = function("rts_covariances", *6 * [_integers], *5 * [_arrays])
_means_back = function("rts_means", *5 * [_integers], *3 * [_arrays])


def _stages(array: Array, axes: int) -> Stages:
    """An array (...), (T, ...) or (g or 1, T or 1, ...), of so many axes at each stage."""
    shape = (1, 1, *array.shape)[-axes - 2 :]
    one = math.prod(shape[2:])
    group = one * shape[1] if shape[0] > 1 else 0
    return Stages(array.ctypes.data, group, one if shape[1] > 1 else 0)


class FilterKernel:
    """Filters with the arrays A, C, v, V, w: one, or `groups` that have an axis in front."""

    def __init__(self, T: int, group: tuple[int, ...], arrays: Sequence[Array]) -> None:
        self.ny, self.n = arrays[1].shape[-2:]
        self.T, self.groups = T, math.prod(group)
        self.kept = [np.ascontiguousarray(array) for array in arrays]
        stages = [_stages(array, 2) for array in self.kept]
        self.models = byref(Models(self.n, self.ny, T, *stages))

    def covariances(
        self, first: int, last: int, S: Array, noise: Array, found: FilterArrays
    ) -> NDArray[np.int64]:
        """Run the times first, ..., last - 1 in place; 0, or 1 + the time of a singular innovation."""
        n, ny = self.n, self.ny
        failed = np.zeros(S.shape[:-2], dtype=np.int64)
        work = np.empty(_ABREAST * (2 * (n + ny) ** 2 + 9 * n * n + 4 * n * ny + 3 * ny * ny) + 4)
        arrays = [address(array) for array in (S, noise, *found)]
        _covariances(
            self.models, self.groups, first, last, *arrays, failed.ctypes.data, address(work)
        )
        return failed

    def means(
        self, K: Array, factor: Array, start: Array, c: Array, z: Array
    ) -> tuple[Array, ...] | None:
        """Predicted and filtered states, innovations and these whitened; None where they overflow."""
        z, c, start = (np.ascontiguousarray(array) for array in (z, c, start))
        outputs, states = z.shape, (*z.shape[:-1], self.n)
        found = tuple(np.empty(shape) for shape in (states, states, outputs, outputs))
        failed = _means(
            self.models,
            _stages(c, 1) if c.any() else Stages(),
            self.groups,
            self._many(z),
            K.shape[-3],
            address(K),
            address(factor),
            address(start),
            self.n if start.ndim > 1 else 0,
            *map(address, (z, *found)),
        )
        return None if failed else found

    def costates(self, K: Array, factor: Array, e: Array) -> Array | None:
        """The costates; None where they overflow."""
        p, work = np.empty((*e.shape[:-1], self.n)), np.empty(self.n + self.ny)
        many, held = self._many(e), K.shape[-3]
        arrays = map(address, (K, factor, e, p, work))
        return None if _costates(self.models, self.groups, many, held, *arrays) else p

    def _many(self, z: Array) -> int:
        return math.prod(z.shape[:-2]) // self.groups

    def gains(
        self, roots: Array, rounding: Array, most_condition: float
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """The transposes of J and X, and 0 or 1 + the stage at which they are not to be had."""
        n, held = self.n, rounding.shape[-2]
        gains = np.empty((*roots.shape[:-3], held, n, n))
        X, work = np.empty(gains.shape), np.empty(_ABREAST * (8 * n * n + 2 * n) + 4)
        failed = np.zeros(roots.shape[:-3], dtype=np.int64)
        given = (self.models, self.groups, held, roots.shape[-3], address(roots))
        arrays = address(gains), address(X), failed.ctypes.data, address(work)
        _gains(*given, address(np.ascontiguousarray(rounding)), most_condition, *arrays)
        return gains, X, failed

    def covariances_back(
        self, first: int, last: int, gains: Array, X: Array, R: Array, cov: Array
    ) -> None:
        """Run the times last - 1, ..., first in place."""
        n, held = self.n, gains.shape[-3]
        work = np.empty(_ABREAST * 4 * n * n + 4)
        _back(n, self.T, self.groups, held, first, last, *map(address, (gains, X, R, cov, work)))

    def means_back(self, gains: Array, predicted: Array, x: Array) -> None:
        """Smooth the filtered states x in place."""
        many, held = self._many(x), gains.shape[-3]
        arrays: Any = map(address, (gains, predicted, x))
        _means_back(self.n, self.T, self.groups, many, held, *arrays)
