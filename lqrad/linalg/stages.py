"""Products with, and solutions of, a matrix at every stage of a horizon.

A matrix M is (r, c), or (T, r, c) when it varies, also as `Stages`; z is (..., T, c), with batches in
front.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import EllipsisType, NoneType
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy.linalg.lapack import dtrtrs

from lqrad.arguments import Array
from lqrad.copies import Fixed

# Series of more entries are not laid out to be printed.
_PRINTED = 1_000_000
# What picks from one axis, or adds one where it stands.
_OF_ONE_AXIS = (int, slice, EllipsisType, NoneType)


class Stages(NDArrayOperatorsMixin, Fixed):
    """A read-only series of arrays, all there to index, of which the first are alike and held once.

    A number gives an array, a slice of consecutive stages such a series; anything else that NumPy
    knows, attributes (T is the transpose) and operators too, works on the whole array.

    Parameters
    ----------
    distinct : (D, ...)
        The last D stages; those before are as the first of them.
    T : int, optional
        The number of stages; D when not given.

    Examples
    --------
    >>> K = Stages(np.array([[[1.0]], [[2.0]]]), 1_000_000)
    >>> K.shape, K[0], K[-1], K[-3:].ravel()
    ((1000000, 1, 1), array([[1.]]), array([[2.]]), array([1., 1., 2.]))
    """

    distinct: Array
    repeated: int
    shape: tuple[int, ...]

    def __init__(self, distinct: Array, T: int | None = None) -> None:
        held = distinct.view()
        held.setflags(write=False)
        T = len(held) if T is None else T
        self._set(distinct=held, repeated=T - len(held), shape=(T, *held.shape[1:]))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """The type of the entries."""
        return self.distinct.dtype

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(np.asarray(self))

    def __iter__(self) -> Iterator[Array]:
        return map(self.__getitem__, range(len(self)))

    def __contains__(self, value: Any) -> bool:
        return value in np.asarray(self)

    def __getitem__(self, key: Any) -> Any:
        first, *rest = key if isinstance(key, tuple) and key else (key,)
        T, number = len(self), isinstance(first, (int, np.integer)) and not isinstance(first, bool)
        if number and -T <= first < T:
            return self.distinct[(max(first % T - self.repeated, 0), *rest)]
        # A further index that is an array may bring its axis before that of the stages.
        if not (isinstance(first, slice) and all(type(z) in _OF_ONE_AXIS for z in rest)):
            return np.asarray(self)[key]
        stages = range(T)[first]
        if rest or stages.step != 1 or not stages:
            held = self.distinct[(slice(None), *rest)]
            found = held[np.maximum(np.array(stages, int) - self.repeated, 0)]
            found.setflags(write=False)
            return found
        ends = max(stages.start - self.repeated, 0), max(stages.stop - self.repeated, 1)
        return Stages(self.distinct[slice(*ends)], len(stages))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise ValueError("assignment destination is read-only")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.repeated:
            if copy is False:
                raise ValueError("stages that are held once make no array without a copy")
            whole = np.empty(self.shape)
            whole[: self.repeated], whole[self.repeated :] = self.distinct[0], self.distinct
            whole.setflags(write=bool(copy))
            return whole.astype(dtype or np.float64, copy=False)
        return np.array(self.distinct, dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        def whole(z: Any) -> Any:
            return np.asarray(z) if isinstance(z, Stages) else z

        if "out" in options:  # which is read-only, as NumPy then says
            options["out"] = tuple(map(whole, options["out"]))
        return getattr(ufunc, method)(*map(whole, inputs), **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"Stages have no attribute {name!r}")
        return getattr(np.asarray(self), name)

    def __repr__(self) -> str:
        if self.size > _PRINTED:
            return f"Stages(shape={self.shape}, {len(self.distinct)} held)"
        return repr(np.asarray(self))

    def __str__(self) -> str:
        return repr(self) if self.size > _PRINTED else str(np.asarray(self))


def times(
    M: Array | Stages, z: Array, *, transpose: bool = False, out: Array | None = None
) -> Array:
    """Return y with y[t] = M[t] z[t], or M[t]' z[t]; `out` is where to write it.

    Examples
    --------
    >>> times(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[3., 2.],
           [7., 4.]])
    """
    if isinstance(M, Stages):
        alike = M.repeated
        y = np.empty((*z.shape[:-1], M.shape[-1 if transpose else -2])) if out is None else out
        for matrix, part in ((M.distinct[0], slice(alike)), (M.distinct, slice(alike, None))):
            times(matrix, z[..., part, :], transpose=transpose, out=y[..., part, :])
        return y
    if M.ndim == z.ndim == 2 and (
        out is None or out.ndim == 2
    ):  # one product for the whole horizon
        return np.asarray(z.dot(M if transpose else M.T, out=out))
    if M.ndim == 2:
        M = M if transpose else M.T
        y = z.reshape(-1, len(M)).dot(M).reshape(*z.shape[:-1], M.shape[1])
    else:
        y = np.matmul(M.swapaxes(-1, -2) if transpose else M, z[..., None])[..., 0]
    if out is None:
        return np.asarray(y)
    out[...] = y
    return out


def substitute(L: Array, F: Array, *, transpose: bool = False) -> Array:
    """Return X of L X = F, or of L'X = F, for lower triangular L (..., n, n) and F (..., n, k).

    A solver that looks for pivots takes others, and rounds in another way, in other units.

    Examples
    --------
    >>> L = np.array([[2.0, 0.0], [1.0, 4.0]])
    >>> substitute(L, np.array([[2.0], [9.0]])).ravel()
    array([1., 2.])
    >>> substitute(np.array([L, L]), np.array([[4.0], [8.0]]), transpose=True)[..., 0]
    array([[1., 2.],
           [1., 2.]])
    """
    if L.ndim == F.ndim == 2:
        return np.asarray(dtrtrs(L, F, lower=1, trans=transpose)[0])
    if transpose:  # read from its last row and column on, L' is lower triangular
        turned = substitute(L.swapaxes(-1, -2)[..., ::-1, ::-1], F[..., ::-1, :])
        return turned[..., ::-1, :]
    X = np.empty((*np.broadcast_shapes(L.shape[:-2], F.shape[:-2]), *F.shape[-2:]))
    for i in range(L.shape[-1]):
        row = F[..., i, :]
        if i:
            row = row - (L[..., i, None, :i] @ X[..., :i, :])[..., 0, :]
        np.divide(row, L[..., i, i, None], out=X[..., i, :])
    return X


def inner(y: Array, z: Array) -> float | Array:
    """Return sum_t y[t]'z[t]: a float, or an array (...) with an entry for each series of a batch."""
    if y.ndim == z.ndim == 2:
        return float(np.vdot(y, z))
    return np.asarray(np.einsum("...ti,...ti->...", y, z))
