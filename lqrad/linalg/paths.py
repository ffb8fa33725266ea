"""Which entries of a system act on which others, told by where its matrices are zero alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array

Flags = NDArray[np.bool_]


def paths(A: Array) -> Flags:
    """Return where a power of A, its zeroth included, may be other than zero: a path leads from j to i.

    Examples
    --------
    >>> paths(np.array([[0.5, 0.0], [2.0, 0.0]]))
    array([[ True, False],
           [ True,  True]])
    """
    found = ((A != 0) | np.eye(len(A), dtype=bool)).astype(np.float64)
    for _ in range(len(A).bit_length()):
        found = np.minimum(found @ found, 1.0)
    return np.asarray(found > 0)


def joining(A: Array, B: Array, C: Array) -> Flags:
    """Return (ny, m, n): which states are on a path from the input j to the output i.

    Examples
    --------
    >>> joining(np.diag([0.5, 2.0]), np.eye(2), np.array([[0.0, 1.0]])).tolist()
    [[[False, False], [False, True]]]
    """
    moved, shown = _moved_and_shown(A, B, C)
    return np.asarray(shown[:, None, :] & moved.T)


def connected(A: Array, B: Array, C: Array) -> tuple[Array, Array, Array]:
    """Return the system without states that no input moves and no output shows."""
    moved, shown = _moved_and_shown(A, B, C)
    kept = moved.any(axis=1) | shown.any(axis=0)
    return A[np.ix_(kept, kept)], B[kept], C[:, kept]


def _moved_and_shown(A: Array, B: Array, C: Array) -> tuple[Flags, Flags]:
    """Which states each input moves, (n, m), and each output shows, (ny, n)."""
    between = paths(A).astype(np.float64)
    return between @ (B != 0) > 0, (C != 0) @ between > 0
