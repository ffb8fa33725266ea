"""Many problems of the same sizes at once: what the leading axes of their arrays mean.

Of b problems, an array that has the axes (n, m) in one of them is

    (n, m)          shared by all, and does not vary in time
    (b, n, m)       differs from problem to problem
    (b, T, n, m)    differs, and varies in time
    (1, T, n, m)    shared, and varies in time

so that an axis of problems has length b, or 1 where all have the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    check_items,
    check_type,
    frozen_array,
    shape_hint,
    shape_message,
)
from lqrad.errors import ArgumentError, DtypeError, LqradError, ShapeError

# How a dimension of one letter is called.
_NAMES = {"y": "ny"}


class Batch(NamedTuple):
    """What `read_batch` returns.

    Attributes
    ----------
    arrays : dict of read-only copies, of the shapes that were given
    sizes : dict
        The dimension of each letter.
    b : int
        The number of problems.
    T : int or None
        The horizon, where something varies in time.
    """

    arrays: dict[str, Array]
    sizes: dict[str, int]
    b: int
    T: int | None


def read_batch(
    symbols: Mapping[str, str],
    given: Mapping[str, ArrayLike | None],
    *,
    zeros: Collection[str] = (),
    still: Collection[str] = (),
    more: Collection[str] = (),
) -> Batch:
    """Return the arrays of several problems, read-only, and what their axes say.

    Parameters
    ----------
    symbols : mapping
        The axes of each array in one problem, in letters, such as {"A": "nn", "B": "nm"}; a letter is
        read from the first array that has it.
    given : mapping
        The arrays, or None.
    zeros, still, more : names
        The arrays that are zero where they are None; those that do not vary in time; those that vary
        over T + 1 stages, where others do over T.

    Examples
    --------
    >>> symbols = {"A": "nn", "B": "nm", "c": "n"}
    >>> given = {"A": np.ones((5, 2, 2)), "B": np.ones((1, 7, 2, 1)), "c": None}
    >>> found = read_batch(symbols, given, zeros="c")
    >>> found.sizes, found.b, found.T, found.arrays["c"]
    ({'n': 2, 'm': 1}, 5, 7, array([0., 0.]))
    """
    arrays: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    horizons: dict[str, int] = {}
    for name, letters in symbols.items():
        value = given[name]
        if value is None:
            if name not in zeros:
                raise DtypeError(f"{name} is None, expected an array of real numbers")
            own = tuple(sizes[letter] for letter in letters)
            arrays[name] = frozen_array(name, np.zeros(own))
            continue
        array = arrays[name] = frozen_array(name, value)
        leading, most = array.ndim - len(letters), 1 if name in still else 2
        if 0 <= leading <= most:
            read = dict(zip(reversed(letters), reversed(array.shape), strict=False))
            if all(sizes.get(letter, size) == size for letter, size in read.items()):
                sizes |= read  # from no array that does not fit
        own = tuple(sizes.get(letter, 1) for letter in letters)
        extra = int(name in more)
        fits = 0 <= leading <= most and array.shape[leading:] == own and array.size
        if not fits or (leading == 2 and array.shape[1] <= extra):
            raise ShapeError(_shape_words(name, array, letters, sizes, most, extra))
        if leading:
            counts[name] = len(array)
        if leading == 2:
            horizons[name] = array.shape[1] - extra
    b = max(counts.values(), default=0)
    if not b:
        raise ShapeError(
            "no array has an axis of problems in front",
            "give one that differs from problem to problem a leading axis, or use the class of "
            "one problem",
        )
    largest = max(counts, key=lambda name: counts[name])
    for name, number in counts.items():
        if number not in (1, b):
            raise ShapeError(
                f"{name} has shape {arrays[name].shape} and {largest} has {arrays[largest].shape}: "
                f"their leading axes are {number} and {b} problems long",
                "an array that all problems share has none, or one of length 1: (1, T, ...) where "
                "it varies in time",
            )
    first = next(iter(horizons), "")
    for name, T in horizons.items():
        if horizons[first] != T:
            raise ShapeError(
                f"{name} has {arrays[name].shape[1]} stages and {first} has "
                f"{arrays[first].shape[1]}: everything that varies in time has the same T"
                + (f", and {' and '.join(more)} one stage more" if more else "")
            )
    return Batch(arrays, sizes, b, horizons.get(first))


def _shape_words(
    name: str, array: Array, letters: str, sizes: Mapping[str, int], most: int, extra: int
) -> str:
    """The words for an array of a wrong shape."""
    axes = ", ".join(_NAMES.get(letter, letter) for letter in letters)
    stages = "T + 1" if extra else "T"
    shapes = [f"({axes}{',' * (len(letters) == 1)})", f"(b, {axes})", f"(b, {stages}, {axes})"]
    expected = " or ".join([", ".join(shapes[:most]), shapes[most]])
    known = {_NAMES.get(letter, letter): sizes[letter] for letter in letters if letter in sizes}
    why = "for " + ", ".join(f"{letter} = {size}" for letter, size in known.items())
    flipped = array.shape[::-1] if array.ndim == len(letters) else (0,) * len(letters)
    target = tuple(sizes.get(letter, size) for letter, size in zip(letters, flipped, strict=True))
    message = shape_message(name, array.shape, expected, why if known else "")
    return message + shape_hint(name, array.shape, target) + ("" if array.size else "; it is empty")


def with_both_axes(array: Array, axes: int) -> Array:
    """Return an array of b problems, `axes` of one of them, as (b or 1, T or 1, ...).

    Examples
    --------
    >>> with_both_axes(np.ones((2, 2)), 2).shape, with_both_axes(np.ones((5, 2)), 1).shape
    ((1, 1, 2, 2), (5, 1, 2))
    """
    own = array.shape[array.ndim - axes :]
    leading = (*array.shape[: array.ndim - axes], 1, 1)
    return array.reshape(*leading[:2], *own)


def of_one(array: Array, axes: int, i: int) -> Array:
    """Return the array of problem i: as it is where all share it, with an axis T where it varies.

    Examples
    --------
    >>> of_one(np.arange(3.0)[:, None], 1, 2), of_one(np.zeros((1, 7, 2)), 1, 2).shape
    (array([2.]), (7, 2))
    """
    if array.ndim == axes:
        return array
    return np.asarray(array[0 if len(array) == 1 else i])


def stacked(arrays: Sequence[Array], axes: int, T: int | None) -> Array:
    """Return the arrays of several problems as one of a batch: with one leading axis, 1 where all are equal.

    Those that do not vary are repeated over the T stages where another one does.

    Examples
    --------
    >>> stacked([np.zeros(2), np.zeros(2)], 1, None).shape
    (1, 2)
    >>> stacked([np.zeros(2), np.ones((7, 2))], 1, 7).shape
    (2, 7, 2)
    """
    first = arrays[0]
    if all(array is first or np.array_equal(array, first) for array in arrays):
        return first[None]
    if len({array.ndim for array in arrays}) > 1:
        own = first.shape[first.ndim - axes :]
        assert T is not None
        arrays = [np.broadcast_to(array, (T, *own)) for array in arrays]
    return np.stack(arrays)


def read_problems(
    value: Any, kind: type, example: str, sizes: Sequence[str]
) -> tuple[list[Any], int | None]:
    """Return a list of problems of one kind, which `example` makes, and T, None where none varies in time.

    They are of the same size in each attribute of `sizes`, and in T those that vary.
    """
    problems = check_items("problems", value, f"problems, such as {example}")
    if not problems:
        raise ArgumentError("problems is empty, expected at least one")
    first: dict[str, tuple[int, int]] = {}
    for i, problem in enumerate(problems):
        check_type(f"problems[{i}]", problem, kind, example)
        for size in (*sizes, "T"):
            got = getattr(problem, size)
            if got is None:
                continue
            other, wanted = first.setdefault(size, (i, got))
            if got != wanted:
                raise ShapeError(
                    f"problems[{i}] has {size} = {got} and problems[{other}] has {size} = {wanted}, "
                    "expected problems of the same sizes"
                )
    return problems, first.get("T", (0, None))[1]


@contextmanager
def within_problem(i: int | None) -> Iterator[None]:
    """Name the problem in what is raised in this block, "problem 17: ..."; None where it is all of them.

    Examples
    --------
    >>> with within_problem(17):
    ...     raise ArgumentError("T is 0")
    Traceback (most recent call last):
    lqrad.errors.ArgumentError: problem 17: T is 0
    """
    try:
        yield
    except LqradError as error:
        if i is None:
            raise
        raise error.within(f"problem {i}") from None
