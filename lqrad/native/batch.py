"""The kernels of batches of linear-quadratic problems, as `batch.h` states them."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array
from lqrad.native.library import address, function, serves_matrices


class _Array(Structure):
    """`batch_array` of batch.h."""

    _fields_ = [("at", c_void_p), ("next", c_int64), ("step", c_int64)]


class _Batch(Structure):
    """`lq_batch` of batch.h."""

    _fields_ = [
        *((size, c_int64) for size in ("b", "n", "m")),
        *((name, _Array) for name in "ABQRMcqrSs"),
    ]


_work = function("batch_work", *3 * [c_int64])
_gradient = function("batch_gradient", POINTER(_Batch), c_int64, *5 * [c_void_p])
_riccati = function("batch_riccati", POINTER(_Batch), c_int64, c_int64, *7 * [c_void_p])
_rollout = function("batch_rollout", POINTER(_Batch), c_int64, *9 * [c_void_p])


class Solutions(NamedTuple):
    """The Riccati recursions of a batch.

    Attributes
    ----------
    P, K, k, v, w : (b, T+1, n, n), (b, T, m, n), (b, T, m), (b, T+1, n), (b, T+1)
    doubtful : (b,)
        Whether a problem's numbers are not finite, one of its R + B'PB has a pivot that may be rounding
        errors alone, or its P[0] is not semidefinite.
    """

    P: Array
    K: Array
    k: Array
    v: Array
    w: Array
    doubtful: NDArray[np.bool_]

    @classmethod
    def of_sizes(cls, b: int, T: int, n: int, m: int) -> Solutions:
        """Arrays for b problems of these sizes: P and K to be filled, the others zero."""
        # Empty arrays of this size come in huge pages, arrays of zeros do not.
        P, K = np.empty((b, T + 1, n, n)), np.empty((b, T, m, n))
        k, v, w = np.zeros((b, T, m)), np.zeros((b, T + 1, n)), np.zeros((b, T + 1))
        return cls(P, K, k, v, w, np.zeros(b, dtype=bool))


def gradients(arrays: Mapping[str, Any], x0: Array, u: Array) -> tuple[Array, Array] | None:
    """J (b,) and g (b, T, m) of u (b, T, m) from x0 (b, n); None where no kernel serves.

    `arrays` are (b or 1, T or 1, ...), and None where they are zero. What overflows is not finite.
    """
    b, T, m = u.shape
    n = x0.shape[-1]
    if not serves_matrices(n, m):
        return None
    x0, u = np.ascontiguousarray(x0), np.ascontiguousarray(u)
    J, g = np.empty(b), np.empty(u.shape)
    batch, _kept = _batch(arrays, b, n, m)
    work = np.empty(_work(n, m, T))
    _gradient(byref(batch), T, *map(address, (x0, u, J, g, work)))
    return J, g


def recursions(arrays: Mapping[str, Any], b: int, T: int) -> Solutions | None:
    """The Riccati recursion of each problem; None where no kernel serves."""
    n, m = arrays["B"].shape[-2:]
    if not serves_matrices(n, m):
        return None
    found, doubtful = Solutions.of_sizes(b, T, n, m), np.empty(b, dtype=np.int64)
    linear = any(arrays[name] is not None for name in "cqrs")
    batch, _kept = _batch(arrays, b, n, m)
    work = np.empty(_work(n, m, T))
    _riccati(byref(batch), T, linear, *map(address, (*found[:5], doubtful, work)))
    return found._replace(doubtful=doubtful != 0)


def rollouts(
    arrays: Mapping[str, Any], x0: Array, K: Array, k: Array, P: Array, v: Array
) -> tuple[Array, Array, Array] | None:
    """x, u and p of each problem from x0 (b, n), in closed loop; None where no kernel serves."""
    b, T, m, n = K.shape
    if not serves_matrices(n, m):
        return None
    x0, K, k, P, v = map(np.ascontiguousarray, (x0, K, k, P, v))
    x, u, p = np.empty((b, T + 1, n)), np.empty((b, T, m)), np.empty((b, T, n))
    batch, _kept = _batch(arrays, b, n, m)
    work = np.empty(_work(n, m, 0))
    _rollout(byref(batch), T, *map(address, (x0, K, k, P, v, x, u, p, work)))
    return x, u, p


def _batch(arrays: Mapping[str, Any], b: int, n: int, m: int) -> tuple[_Batch, list[Array]]:
    """The arrays as the kernels read them, and those that have to be kept until they have been."""
    batch, kept = _Batch(b, n, m), []
    for name, array in arrays.items():
        if array is None:
            continue
        array = np.ascontiguousarray(array)
        kept.append(array)
        problems, stages = array.shape[:2]
        size = array[0, 0].size
        steps = (stages * size if problems > 1 else 0, size if stages > 1 else 0)
        setattr(batch, name, _Array(array.ctypes.data, *steps))
    return batch, kept
