"""The kernels of smoothing, as `smoothing.h` states them."""

from __future__ import annotations

from ctypes import c_int64, c_void_p
from typing import NamedTuple

import numpy as np

from lqrad.arguments import Array
from lqrad.native.library import address, function

_filter = function("filter_covariances", *3 * [c_int64], *5 * [c_void_p, c_int64], *7 * [c_void_p])


class FilterArrays(NamedTuple):
    """The covariances of a filter, as `filter_covariances` of smoothing.h states them."""

    predicted_cov: Array
    K: Array
    factor: Array
    roots: Array
    rounding: Array

    @classmethod
    def empty(cls, T: int, n: int, ny: int) -> FilterArrays:
        """Arrays to be filled."""
        shapes = ((n, n), (n, ny), (ny, ny), (n, n), (n,))
        return cls(*(np.empty((T + 1, *shape)) for shape in shapes))


def filter_covariances(
    T: int, A: Array, C: Array, v: Array, V: Array, w: Array, root: Array
) -> tuple[int, FilterArrays]:
    """The arrays of a filter from P[0] = root root'; 0, or 1 + the time of a singular innovation."""
    n, ny = A.shape[-1], C.shape[-2]
    found, work = FilterArrays.empty(T, n, ny), np.empty(4 * n * n + 2 * (n + ny) ** 2)
    given = [np.ascontiguousarray(z) for z in (A, C, v, V, w)]
    root = np.ascontiguousarray(root)
    pairs = [(address(z), z[0].size if z.ndim == 3 else 0) for z in given]
    numbers = [number for pair in pairs for number in pair]
    arrays = map(address, (root, *found, work))
    failed: int = _filter(n, ny, T, *numbers, *arrays)
    return failed, found
