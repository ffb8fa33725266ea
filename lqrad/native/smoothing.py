"""The kernels of smoothing, as `smoothing.h` states them."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from typing import NamedTuple

import numpy as np

from lqrad.arguments import Array
from lqrad.native.library import address, function

_filter = function("filter_covariances", *5 * [c_int64], *5 * [c_void_p, c_int64], *8 * [c_void_p])


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
    first: int,
    last: int,
    T: int,
    arrays: Sequence[Array],
    S: Array,
    noise: Array,
    found: FilterArrays,
) -> int:
    """Run the times first, ..., last - 1 in place, with the arrays A, C, v, V, w.

    Returns 0, or 1 + the time of a singular innovation.
    """
    n, ny = found.K.shape[-2:]
    given = [np.ascontiguousarray(z) for z in arrays]
    pairs = [(address(z), z[0].size if z.ndim == 3 else 0) for z in given]
    numbers = [number for pair in pairs for number in pair]
    work = np.empty(2 * n * n + 2 * (n + ny) ** 2)
    failed: int = _filter(n, ny, first, last, T, *numbers, *map(address, (S, noise, *found, work)))
    return failed
