"""The kernel of smoothing by normal equations, as `smoother.h` states it."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.native.library import address, function


class Stages(Structure):
    """`stages` of smoother.h."""

    _fields_ = [("first", c_void_p), ("group", c_int64), ("step", c_int64)]


class Equations(Structure):
    """`normal_equations` of smoother.h."""

    _STAGES = ("A", "c", "W", "root_W", "precision", "step", "link", "prior", "start", "m0")
    _POINTERS = ("C", "root_V", "information", "pattern")
    _fields_ = [
        *((name, c_int64) for name in ("n", "ny", "T")),
        *((name, Stages) for name in _STAGES),
        *((name, c_void_p) for name in _POINTERS),
    ]


_smooth = function(
    "smooth_series",
    POINTER(Equations),
    *2 * [c_int64],
    c_void_p,
    *2 * [c_double],
    *9 * [c_void_p],
)


class SmoothedSeries(NamedTuple):
    """What `smooth_series` of smoother.h finds; Z and X may be None."""

    x: Array
    p: Array
    loss: Array
    cost: Array
    log_determinant: Array
    Z: Array | None
    X: Array | None


def smooth_series(
    stages: dict[str, Array],
    patterns: dict[str, Array],
    which: NDArray[np.int64],
    z: Array,
    no_loss: float,
    most_loss: float,
    *,
    covariances: bool,
) -> SmoothedSeries:
    """Smooth the series z (b, T+1, ny), NaN nowhere, in as many groups as `which` has rows (g, T+1).

    `stages` are (g or 1, T or 1, ...), where an axis of one is shared, or does not vary; those of
    `patterns` are of each pattern of gaps.
    """
    b, N, ny = z.shape
    groups, n = len(which), stages["A"].shape[-1]
    kept = {
        name: np.ascontiguousarray(array)
        for name, array in (stages | patterns | {"pattern": which, "z": z}).items()
    }
    equations = Equations(n, ny, N - 1)
    for name in Equations._POINTERS:
        setattr(equations, name, kept[name].ctypes.data)
    for name in Equations._STAGES:
        array = kept[name]
        if name == "c" and not array.any():
            continue
        one = array[0, 0].size
        group = array[0].size if len(array) > 1 else 0
        step = one if array.shape[1] > 1 else 0
        setattr(equations, name, Stages(array.ctypes.data, group, step))
    found = SmoothedSeries(
        x=np.empty((b, N, n)),
        p=np.empty((b, N - 1, n)),
        loss=np.empty(groups),
        cost=np.empty(b),
        log_determinant=np.empty(groups),
        Z=np.empty((groups, N, n, n)) if covariances else None,
        X=np.empty((groups, N - 1, n, n)) if covariances else None,
    )
    block = np.empty(N, dtype=np.int64)
    work = np.empty(N * (2 * n * n + 2 * n + ny) + 5 * n * n + 8 * n + ny)
    _smooth(
        byref(equations),
        groups,
        b // groups,
        address(kept["z"]),
        no_loss,
        most_loss,
        *(None if array is None else address(array) for array in found),
        address(work),
        block.ctypes.data,
    )
    return found
