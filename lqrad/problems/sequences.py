"""Checks of initial states and sequences, for every problem with n states, m inputs and a horizon.

    x0 (..., n)        x (..., T+1, n)        u, v (..., T, m)        p (..., T, n)

Batches are leading axes. What does not fit is named, with what was expected and what came.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from lqrad.errors import (
    ArgumentError,
    Array,
    ShapeError,
    batch_message,
    check_count,
    check_finite,
    real_array,
    shape_message,
)


class Sized(Protocol):
    """What has n states, m inputs and, where something varies in time, a horizon T."""

    @property
    def n(self) -> int: ...
    @property
    def m(self) -> int: ...
    @property
    def T(self) -> int | None: ...


def known_horizon(problem: Sized, T: int | None) -> int:
    """Return the horizon to use: the problem's own, or T where nothing varies in time."""
    if T is None:
        if problem.T is None:
            raise ArgumentError("T is not given and nothing varies in time; pass the horizon T")
        return problem.T
    T = check_count("T", T)
    if problem.T not in (None, T):
        raise ArgumentError(
            f"T is {T}, but the problem varies over {problem.T} stages; leave T out"
        )
    return T


def initial_state(problem: Sized, x0: ArrayLike, x: Array | None = None) -> Array:
    """Return x0 (..., n) as an array, its batch fitting that of x where that is given."""
    x0 = real_array("x0", x0)
    if x0.ndim == 0 or x0.shape[-1] != problem.n:
        expected = f"(..., n) with n = {problem.n}"
        raise ShapeError(shape_message("x0", x0.shape, expected, "", (problem.n,)))
    if x is not None and not _broadcasts(x0.shape[:-1], x.shape[:-2]):
        raise ShapeError(batch_message("x0", x0.shape, "x", x.shape))
    return x0


def sequence(problem: Sized, name: str, z: ArrayLike, x: Array | None = None) -> Array:
    """Return a sequence of this name as an array, broadcast to the batch of x if given.

    There are T + 1 states x, or numbers f for each of them, and T of the others; T is that of x, or
    the problem's own.
    """
    z = real_array(name, z)
    width, letter = (problem.m, "m") if name in "uv" else (problem.n, "n")
    extra = 1 if name in "xf" else 0
    T = problem.T if x is None else x.shape[-2] - 1
    fits = z.ndim >= 2 and z.shape[-1] == width and z.shape[-2] > extra
    if not fits or T not in (None, z.shape[-2] - extra):
        known = f"{letter} = {width}, " + ("T >= 1" if T is None else f"T = {T}")
        rows = f"T{' + 1' if extra else ''}" if T is None else T + extra
        columns = letter if T is None else width
        expected = f"(..., {rows}, {columns}) with {known}"
        target = (len(z) if T is None and z.ndim else (T or 0) + extra, width)
        raise ShapeError(shape_message(name, z.shape, expected, "", target))
    if x is None or z.shape[:-2] == x.shape[:-2]:
        return z
    if not _broadcasts(z.shape[:-2], x.shape[:-2]):
        raise ShapeError(batch_message(name, z.shape, "x", x.shape))
    return np.broadcast_to(z, x.shape[:-2] + z.shape[-2:])


def trajectory(problem: Sized, x: ArrayLike, **others: ArrayLike) -> tuple[Array, ...]:
    """Return x and the other sequences as finite arrays of one horizon and batch."""
    states = sequence(problem, "x", x)
    arrays = {"x": states}
    arrays |= {name: sequence(problem, name, z, states) for name, z in others.items()}
    for name, array in arrays.items():
        check_finite(name, array)
    return tuple(arrays.values())


def check_reference(
    name: str, ref: Array, width: int, letter: str, T: int | None, *, extra: int
) -> None:
    """Raise ShapeError unless a reference is constant, or has T + extra rows of its width."""
    rows = len(ref) if T is None and ref.ndim == 2 else (T or 0) + extra
    if ref.shape not in ((width,), (rows, width)) or (rows <= extra and ref.ndim == 2):
        expected = f"({letter},) or (T{' + 1' if extra else ''}, {letter}) with {letter} = {width}"
        expected += ", T >= 1" if T is None or T < 1 else f", T = {T}"
        raise ShapeError(shape_message(name, ref.shape, expected, ""))


def _broadcasts(batch: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array with this batch in front can be repeated to the target's."""
    try:
        return np.broadcast_shapes(batch, target) == target
    except ValueError:
        return False
