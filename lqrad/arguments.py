"""What an argument must look like: each idea is read by one function, which all of lqrad uses.

Numbers, tolerances, counts, choices, pairs of limits, generators, arrays, covariances and weights,
the arrays of a stage, horizons, and series of states and inputs. What does not fit is named, with
what was expected and what came. Nothing that is given is ever changed.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dpotrf

from lqrad.errors import (
    OVERFLOW_REMEDY,
    ArgumentError,
    DtypeError,
    NonFiniteError,
    NotConvexError,
    ShapeError,
)

Array = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)

P = ParamSpec("P")
Result = TypeVar("Result")


# Calls


def called_as(usage: str) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Return a decorator: a call whose arguments do not fit is an ArgumentError that says `usage`.

    For functions whose names other packages use with other arguments, or that once took more by
    position: what stands in a wrong place there is an array of a shape that may fit.
    """

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> Result:
            try:
                return function(*args, **kwargs)
            except TypeError:
                try:
                    signature.bind(*args, **kwargs)
                except TypeError as error:
                    raise ArgumentError(f"{function.__name__}: {error}", f"write {usage}") from None
                raise

        return checked

    return decorate


def renamed(**names: str) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Return a decorator: keywords under their former names are taken as well, `old="new"`.

    Examples
    --------
    >>> @renamed(steps="T")
    ... def last(*, T):
    ...     return T - 1
    >>> last(steps=5)
    4
    """

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> Result:
            for old in [name for name in names if name in kwargs]:
                if names[old] in {*kwargs, *islice(signature.parameters, len(args))}:
                    raise ArgumentError(
                        f"{function.__name__}: {names[old]} is given twice, also as {old}, its "
                        "former name",
                        f"leave {old} out",
                    )
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return called

    return decorate


# Numbers and words


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """Return a finite number as a float: an int, a float, a fraction, or an array () of one.

    Raises
    ------
    DtypeError
        If it is no real number.
    ArgumentError
        If it is not finite, or not above or below, or at least or at most, what it has to be.

    Examples
    --------
    >>> check_number("dt", np.array(1), above=0)
    1.0
    """
    number = _number(value)
    if number is None:
        raise DtypeError(f"{name} is {_short(value)}, expected a real number")
    if not (
        math.isfinite(number)
        and (above is None or number > above)
        and (least is None or number >= least)
        and (below is None or number < below)
        and (most is None or number <= most)
    ):
        kind = "positive number" if above == 0 else "number"
        ends = {"above": above or None, "of at least": least, "below": below}
        ends["of at most" if least is None else "at most"] = most
        words = " and ".join(f"{word} {end:g}" for word, end in ends.items() if end is not None)
        finite = ", and finite" if math.isinf(number) else ""
        range_words = f"{kind} {words}".strip()
        raise ArgumentError(f"{name} is {_short(value)}, expected a {range_words}{finite}")
    return number


def check_numbers(
    *, above: float | None = None, least: float | None = None, **values: Any
) -> list[float]:
    """Return several numbers of one range, by their names, as floats."""
    return [check_number(name, value, above=above, least=least) for name, value in values.items()]


def check_tolerance(value: Any, name: str = "tol") -> float:
    """Return a tolerance, a number of at least 0, as a float."""
    return check_number(name, value, least=0)


def check_count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Return a whole number as an int; 6.0 and numpy.array(6) are whole numbers, True is none.

    Examples
    --------
    >>> check_count("T", 6.0)
    6
    """
    number = _number(value)
    fits = number is not None and math.isfinite(number) and number == math.floor(number)
    # An int keeps all of its digits, which a float does not.
    count = int(value) if isinstance(value, numbers.Integral) else int(number or 0) if fits else 0
    if not fits or count < least or (most is not None and count > most):
        end = f" and at most {most}" if most is not None else ""
        raise ArgumentError(
            f"{name} is {_short(value)}, expected a whole number of at least {least}{end}"
        )
    return count


def _number(value: Any) -> float | None:
    """A real number as a float, infinite where it is larger than those; None for anything else."""
    if isinstance(value, np.ndarray) and value.shape == () and not np.ma.is_masked(value):
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Real, Decimal)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if bool(value > 0) else -math.inf  # type: ignore[operator]
    except ValueError:  # a Decimal that signals
        return None


def _short(value: Any) -> str:
    """How a value reads in a message: its repr, cut where it is long."""
    try:
        text = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    except Exception:  # a fault in how the user's object words itself
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:76]} ..."


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise ArgumentError unless `value` is one of `choices`, and list them."""
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{name} is {_short(value)}, expected one of: {', '.join(choices)}")


def check_type(name: str, value: object, expected: type, example: str) -> None:
    """Raise ArgumentError unless `value` is of the expected type, which `example` makes."""
    if not isinstance(value, expected):
        given, wanted = type(value).__name__, expected.__name__
        if given == wanted:
            given = f"{type(value).__module__}.{given}"
            wanted = f"lqrad's {wanted}"
        raise ArgumentError(
            f"{name} is of type {given}, expected {wanted}, such as {example} gives"
        )


def check_generator(rng: Any) -> np.random.Generator:
    """Return a Generator: the one that is given, or a new one from a seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    try:
        return np.random.default_rng(check_count("rng", rng, least=0))
    except ArgumentError:
        raise ArgumentError(
            f"rng is {_short(rng)}, expected a numpy.random.Generator or a seed, a whole number of "
            "at least 0, so that the run can be repeated"
        ) from None


def check_function(name: str, value: Any) -> None:
    """Raise ArgumentError unless `value` can be called."""
    if not callable(value):
        raise ArgumentError(f"{name} is {_short(value)}, expected a function")


def check_items(name: str, value: Any, of: str) -> list[Any]:
    """Return the items of a series, such as a list, a tuple or a generator, as a list.

    A single item, a text and a dict are none; `of` says what it is to hold.

    Examples
    --------
    >>> check_items("horizons", range(2, 4), "whole numbers")
    [2, 3]
    """
    if not isinstance(value, (str, bytes, Mapping)) and isinstance(value, Iterable):
        with suppress(TypeError):  # an array () can be iterated over only until one tries
            return list(value)
    raise ArgumentError(f"{name} is {_short(value)}, expected a list of {of}")


def check_lengths(name: str, value: Any) -> tuple[int, ...]:
    """Return the shape of an array, given as a series of lengths."""
    lengths = check_items(name, value, "lengths, such as (10, 2)")
    return tuple(check_count(f"{name}[{i}]", k, least=0) for i, k in enumerate(lengths))


def steps_in(seconds: float, dt: float) -> float:
    """Return how many steps of dt a time has; raise ArgumentError where they are beyond all numbers."""
    steps = seconds / dt
    if not math.isfinite(steps):
        raise ArgumentError(f"dt is {dt:.3g}, too short a step for {seconds:.3g} seconds")
    return steps


def check_room(what: str, *shape: int) -> None:
    """Raise ArgumentError where an array of this shape has no room in the machine's memory."""
    size = 8 * math.prod(map(int, shape))  # of ints, which do not overflow
    if size > memory():
        raise ArgumentError(
            f"{what} would take {Decimal(size) / 2**30:.3g} GiB, more than this machine's memory has",
            "try a shorter horizon, or fewer series at once",
        )


@functools.cache
def memory() -> int:
    """Bytes of memory that the machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not told on this system
        return 2**63 - 1


# Arrays


_RAGGED = "is not a rectangular array of numbers; are its rows of equal length?"
_KINDS = {"c": "complex numbers", "U": "text", "S": "bytes", "M": "dates", "m": "durations"}
_PLAIN = {float, int, np.float64}
_CONVERT = "convert it with numpy.asarray(..., dtype=float) and see which entry fails"


def entry_name(name: str, index: Iterable[Any]) -> str:
    """Return how an entry of an array is called in a message, such as "Q[2, 0]"."""
    inside = ", ".join(str(int(i)) for i in index)
    return f"{name}[{inside}]" if inside else name


def real_array(name: str, value: ArrayLike, *, gaps: bool = False) -> Array:
    """Return `value` as a plain float64 array, without a copy where it is one already.

    Taken are numbers, nested sequences of them, arrays of any real type, objects that are numbers
    (such as fractions), numpy.matrix, masked arrays without a masked entry, sparse matrices, and
    what numpy.asarray makes of pandas' frames; anything else is a DtypeError. With `gaps`, a masked or
    missing entry becomes NaN; without, it is refused.

    Examples
    --------
    >>> real_array("y", np.ma.array([1.0, 2.0], mask=[False, True]), gaps=True)
    array([ 1., nan])
    """
    if type(value) is np.ndarray and value.dtype == np.float64:
        return value
    sparse = None if isinstance(value, np.ndarray) else getattr(value, "toarray", None)
    if callable(sparse):  # what scipy.sparse makes
        value = sparse()
    if _has_masks(value):
        value = _filled(name, value, gaps)
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged nested sequence
        raise DtypeError(f"{name} {_RAGGED}") from error
    except Exception as error:  # a user's object, whose own conversion to an array fails
        raise DtypeError(
            f"{name} is {_short(value)}, which NumPy cannot make an array of: {error}"
        ) from error
    if array.dtype == np.float64:
        return array
    if array.dtype.kind == "O":
        return _from_objects(name, array, gaps)
    if array.dtype.kind not in "iufb":
        held = _KINDS.get(array.dtype.kind, str(array.dtype))
        parts = "a complex model must be written in real and imaginary parts first"
        remedy = parts if array.dtype.kind == "c" else _CONVERT
        raise DtypeError(f"{name} holds {held}, expected real numbers", remedy)
    if array.dtype.kind != "f":
        return np.asarray(array, dtype=np.float64)
    with np.errstate(over="ignore"):  # an infinity is told by whoever wants finite numbers
        return np.asarray(array, dtype=np.float64)


def any_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return an array of whatever type it is, such as whole numbers; refuse a masked entry."""
    return np.asarray(real_array(name, value) if _has_masks(value) else value)


def complex_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return an array of complex numbers as it is, and anything else as `real_array` does."""
    with suppress(ValueError):  # a ragged sequence, which real_array tells
        array = any_array(name, value)
        if array.dtype.kind == "c":
            return array
    return real_array(name, value)


def _has_masks(value: Any) -> bool:
    """Whether an array has a mask, or a nested sequence holds one that does."""
    if isinstance(value, (list, tuple)):
        return not set(map(type, value)) <= _PLAIN and any(map(_has_masks, value))
    return isinstance(value, np.ma.MaskedArray)


def _filled(name: str, value: Any, gaps: bool) -> Array:
    """A masked array, or a nested sequence with some, as a plain one with NaN for what is masked."""
    if not isinstance(value, np.ma.MaskedArray):
        try:
            value = np.ma.stack([np.ma.asanyarray(part) for part in value])
        except ValueError as error:  # parts of unequal shapes
            raise DtypeError(f"{name} {_RAGGED}") from error
    mask = np.ma.getmaskarray(value)
    if mask.any() and not gaps:
        where = entry_name(name, np.argwhere(mask)[0])
        raise DtypeError(f"{where} is masked, expected a number; fill it, or leave it out")
    data = np.ma.getdata(value)
    return np.where(mask, np.nan, data) if mask.any() else np.asarray(data)


def _from_objects(name: str, array: NDArray[np.object_], gaps: bool) -> Array:
    """The numbers of an array of objects, such as fractions or Python's large integers."""
    if array.shape == () and isinstance(array.item(), Iterator):
        raise DtypeError(f"{name} is an iterator, expected an array; write list(...) around it")
    found = np.empty(array.shape)
    for index, entry in np.ndenumerate(array):
        number = float(entry) if isinstance(entry, bool) else _number(entry)
        if number is None and gaps and (entry is None or type(entry).__name__ == "NAType"):
            number = math.nan
        if number is None:
            where = entry_name("entry ", index) if index else "it"
            raise DtypeError(
                f"{name} holds objects, expected real numbers: {where} is {_short(entry)}, of type "
                f"{type(entry).__name__}",
                _CONVERT,
            )
        found[index] = number
    return found


def frozen_array(name: str, value: ArrayLike) -> Array:
    """Return a read-only float64 copy of `value`, all of it finite."""
    array = np.array(real_array(name, value), order="C")
    check_finite(name, array)
    array.setflags(write=False)
    return array


def frozen_zeros(*shape: int) -> Array:
    """Return a read-only array of zeros."""
    array = np.zeros(shape)
    array.setflags(write=False)
    return array


def check_finite(name: str, array: Array, *, computed: bool = False) -> None:
    """Raise NonFiniteError with the index of the first entry that is not finite.

    `computed` says that the array is a result, whose remedy is another than that of bad input.
    """
    # A sum of squares is finite only if all entries are, and costs less than asking each of them.
    if math.isfinite(array.item() if array.size == 1 else np.vdot(array, array)):
        return
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0])
        where = entry_name(name, index)
        if computed:
            raise NonFiniteError(f"{where} is {array[index]}: it overflowed", OVERFLOW_REMEDY)
        raise NonFiniteError(
            f"{where} is {array[index]}, expected finite numbers; remove the entry or replace it"
        )


def check_shape(
    name: str, array: Array, expected: tuple[int, ...], why: str, *, symbols: str | None = None
) -> None:
    """Raise ShapeError unless `array` has the shape `expected`, which `why` explains.

    `symbols` is how the expected shape reads in the problem's letters, such as "(n, m)".
    """
    if array.shape != expected:
        raise ShapeError(shape_message(name, array.shape, symbols or str(expected), why, expected))


def shape_message(
    name: str, got: tuple[int, ...], expected: str, why: str, target: tuple[int, ...] = ()
) -> str:
    """Word a shape error: name, got, expected, why, and a remedy where one is plain to see."""
    message = f"{name} has shape {got}, expected {expected}"
    if target and expected != str(target) and expected.endswith(")"):  # and not by words
        message += f" = {target}"
    return message + (f" {why}" if why else "") + shape_hint(name, got, target)


def shape_hint(name: str, got: tuple[int, ...], target: tuple[int, ...]) -> str:
    """Word what may have been meant by an array of a wrong shape; nothing where that is not plain to see.

    Examples
    --------
    >>> shape_hint("B", (1, 2), (2, 1)), shape_hint("B", (3, 2), (2, 1))
    ('; did you pass B.T?', '')
    """
    if len(got) == 2 and got[::-1] == target:
        return f"; did you pass {name}.T?"
    if len(target) == 2 and got == target[:1] and target[1] == 1:
        return f"; did you mean {name}[:, None]?"
    if not got and target in {(1,), (1, 1)}:
        return f"; write it as {'[' * len(target)}value{']' * len(target)}"
    return ""


def batch_message(name: str, got: tuple[int, ...], other: str, shape: tuple[int, ...]) -> str:
    """Word an error of leading axes that do not fit each other."""
    return f"{name} has shape {got} and {other} has shape {shape}: their leading axes, the batch, do not fit"


def check_limits(
    name: str, pair: Any, shape: tuple[int, ...], *, names: tuple[str, str] | None = None
) -> tuple[Array, Array]:
    """Return limits (low, high) as read-only arrays of a shape; None stands for no limit.

    Each is a number, an array of trailing axes of the shape, or None; infinite where an entry has no
    limit. A finite number has to lie between them. `names` are theirs, where they are arguments of
    their own.

    Examples
    --------
    >>> check_limits("input_bounds", (-1, [1, np.inf]), (2,))
    (array([-1., -1.]), array([ 1., inf]))
    >>> check_limits("bounds", (None, 1.0), (1,))
    (array([-inf]), array([1.]))
    """
    given = (None, None) if pair is None else pair
    if isinstance(given, np.ndarray) and given.ndim:
        given = list(given)
    if not (isinstance(given, (tuple, list)) and len(given) == 2):
        raise ArgumentError(
            f"{name} is {_short(pair)}, expected a pair (low, high) of numbers, arrays or None"
        )
    names = names or (f"{name}[0]", f"{name}[1]")
    sides = []
    for k, none in enumerate((-np.inf, np.inf)):
        entry: Any = given[k]
        side = real_array(names[k], none if entry is None else entry)
        # An axis of length one is no trailing axis of the shape: broadcasting would take it.
        if side.shape != shape[len(shape) - side.ndim :]:
            wanted = " or ".join(str(shape[i:]) for i in range(len(shape) - 1, -1, -1))
            raise ShapeError(
                f"{names[k]} has shape {side.shape}, expected a number or {wanted or 'one'}"
            )
        if np.isnan(side).any():
            raise ArgumentError(
                f"{names[k]} holds a NaN, expected numbers, infinite where there is no limit"
            )
        sides.append(np.array(np.broadcast_to(side, shape)))
        sides[k].setflags(write=False)
    low, high = sides
    empty = (low > high) | (low == np.inf) | (high == -np.inf)
    if empty.any():
        index = tuple(np.argwhere(empty)[0])
        at = entry_name(" at ", index) if index else ""
        raise ArgumentError(
            f"{name} leave nothing{at}: low is {low[index]:.6g} and high is {high[index]:.6g}, "
            "expected low <= high, and a finite number between them; no limit is -inf below and "
            "inf above, or None"
        )
    return low, high


def check_covariance(name: str, covariance: Array) -> None:
    """Raise NotConvexError unless a covariance, or each of a series, is positive semidefinite."""
    why = "it is a covariance, and no direction has a negative variance"
    check_semidefinite(name, covariance, why)


# What each array of a stage looks like, in letters; all may have a leading axis of T stages.
STAGE_SYMBOLS = {
    "A": "nn",
    "B": "nm",
    "Q": "nn",
    "R": "mm",
    "M": "nm",
    "c": "n",
    "q": "n",
    "r": "m",
}


def stage_arrays(**given: ArrayLike | None) -> tuple[dict[str, Array], int | None]:
    """Return frozen copies of the arrays of a stage, zeros for None, and their horizon T.

    They are A and B, and any of Q, R, M, c, q, r; each constant or with a leading axis of T stages.
    """
    for name in STAGE_SYMBOLS:
        if name in "ABQR" and name in given and given[name] is None:
            raise DtypeError(f"{name} is None, expected an array of real numbers")
    arrays = {name: frozen_array(name, value) for name, value in given.items() if value is not None}
    n, m = _dimensions(arrays["A"], arrays["B"])
    letters = {"n": n, "m": m}
    varying: tuple[str, int] | None = None
    for name in given:
        symbols = STAGE_SYMBOLS[name]
        if name not in arrays:
            arrays[name] = frozen_zeros(*(letters[i] for i in symbols))
            continue
        varying = check_stages(name, arrays[name], symbols, letters, varying)
    return arrays, varying[1] if varying else None


def _dimensions(A: Array, B: Array) -> tuple[int, int]:
    """Return n and m, read off A and B."""
    if A.ndim not in (2, 3) or A.shape[-1] != A.shape[-2] or 0 in A.shape:
        message = f"A has shape {A.shape}, expected (n, n) or (T, n, n), not empty"
        if A.ndim < 2 and A.size == 1:
            message += "; write a scalar as [[value]]"
        raise ShapeError(message)
    n = A.shape[-1]
    if B.ndim in (2, 3) and B.shape[-2] == n and 0 not in B.shape:
        return n, B.shape[-1]
    message = (
        f"B has shape {B.shape}, expected (n, m) or (T, n, m) with n = {n} to match A {A.shape}"
    )
    if B.ndim in (2, 3) and B.shape[-1] == n:
        message += "; did you pass B.T?"
    elif B.ndim == 1 and len(B) == n:
        message += "; did you mean B[:, None]?"
    raise ShapeError(message)


def check_stages(
    name: str,
    array: Array,
    symbols: str,
    letters: dict[str, int],
    varying: tuple[str, int] | None,
) -> tuple[str, int] | None:
    """Check one array of a stage; return the first that varies in time and its number of stages."""
    expected = tuple([letters[i] for i in symbols])
    if array.shape == expected:
        return varying
    shape = f"({', '.join(symbols)}{',' if len(symbols) == 1 else ''})"
    if array.ndim == len(expected) + 1 and array.shape[1:] == expected and len(array):
        if varying and len(array) != varying[1]:
            raise ShapeError(
                f"{name} has {len(array)} stages and {varying[0]} has {varying[1]}; "
                "everything that varies in time needs the same leading axis"
            )
        return varying or (name, len(array))
    why = f"or with a leading axis of T stages, for n = {letters['n']}, m = {letters['m']}"
    check_shape(name, array, expected, why, symbols=shape)
    return varying


def check_stage_weights(Q: Array, R: Array, M: Array) -> None:
    """Raise NotConvexError unless [Q M; M' R] is symmetric positive semidefinite at every stage."""
    if not M.any():
        check_semidefinite("Q", Q)
        check_semidefinite("R", R)
        return
    check_symmetric("Q", Q)
    check_symmetric("R", R)
    stages = np.broadcast_shapes(*(weight.shape[:-2] for weight in (Q, M, R)))
    Q, M, R = (np.broadcast_to(weight, stages + weight.shape[-2:]) for weight in (Q, M, R))
    rows = [(Q, M), (M.swapaxes(-1, -2), R)]
    block = np.concatenate([np.concatenate(row, axis=-1) for row in rows], axis=-2)
    check_semidefinite("[Q M; M' R]", block)


def is_diagonal(matrix: Array) -> bool:
    """Whether a matrix, or each of a series, is zero beside its diagonal."""
    return bool(np.count_nonzero(matrix) == np.count_nonzero(matrix.diagonal(0, -2, -1)))


def check_symmetric(name: str, weight: Array) -> None:
    """Raise NotConvexError unless the weight is symmetric to rounding errors."""
    transpose = weight.swapaxes(-1, -2)
    if (weight == transpose).all():
        return
    root = np.sqrt(np.abs(np.diagonal(weight, axis1=-2, axis2=-1)))
    size = root[..., :, None] * root[..., None, :] + np.abs(weight)
    apart = np.abs(weight - transpose) > 64 * EPS * size
    if np.any(apart):
        *stage, i, j = (int(k) for k in np.argwhere(apart)[0])
        where = f"{name}[{stage[0]}]" if stage else name
        raise NotConvexError(
            f"{where} is not symmetric: entries ({i}, {j}) and ({j}, {i}) are "
            f"{weight[(*stage, i, j)]:.17g} and {weight[(*stage, j, i)]:.17g}; "
            f"pass ({name} + {name}{'.swapaxes(-1, -2)' if stage else '.T'}) / 2 if that is what you mean"
        )


def check_semidefinite(
    name: str,
    weight: Array,
    why: str = "a cost that rewards distance has no minimum to descend to",
) -> None:
    """Raise NotConvexError unless the weight is symmetric with no eigenvalue below -rounding.

    Scaled to a unit diagonal, so that the units of a state do not decide what passes for rounding.
    Beside a diagonal entry that is zero there is no rounding: its row must be zero.
    """
    if weight.size == 1 and weight.item() >= 0:
        return
    diagonal = weight.diagonal(0, -2, -1)
    if diagonal.min() >= 0 and is_diagonal(weight):
        return
    check_symmetric(name, weight)
    # A factor's errors, in any units, are less than the slack below; where there is none, we look closer.
    if _factors(weight):
        return
    root = np.sqrt(np.abs(diagonal))
    root = np.where(root > 0, root, 1.0)
    with np.errstate(over="ignore"):
        scaled = weight / root[..., :, None] / root[..., None, :]
    # An entry above one makes an eigenvalue negative, whatever it is.
    scaled = np.clip(scaled, -2.0, 2.0)
    slack = 16 * weight.shape[-1] * EPS
    if not _factors(scaled + slack * np.eye(weight.shape[-1])):
        least = np.linalg.eigvalsh(scaled)[..., 0]
        if np.min(least) < -slack:
            stage = int(np.argmin(least)) if weight.ndim == 3 else None
            where = name if stage is None else f"{name} at stage {stage}"
            value = np.linalg.eigvalsh(weight if stage is None else weight[stage])[0]
            raise NotConvexError(
                f"{where} has the eigenvalue {value:.6g}, expected a positive semidefinite "
                f"matrix; {why}"
            )
    alone = (diagonal == 0)[..., :, None] & (weight != 0)
    if alone.any():
        *stages, i, j = (int(k) for k in np.argwhere(alone)[0])
        where = f"{name} at stage {stages[0]}" if stages else name
        raise NotConvexError(
            f"{where} has zero at ({i}, {i}) and {weight[(*stages, i, j)]:.6g} at ({i}, {j}), so a "
            f"negative eigenvalue, expected a positive semidefinite matrix; {why}"
        )


def _factors(weight: Array) -> bool:
    """Whether a matrix, or each of a series, has a Cholesky factor."""
    if weight.ndim == 2:
        return bool(dpotrf(weight, lower=1)[1] == 0)
    try:
        np.linalg.cholesky(weight)
    except np.linalg.LinAlgError:
        return False
    return True


def number_words(value: complex) -> str:
    """Write a number, as a real one where it is."""
    return f"{value.real:.6g}" if value.imag == 0 else f"{value:.6g}"


def direction_words(
    vector: NDArray[np.complex128] | Array, name: str, units: NDArray[np.int64] | None = None
) -> str:
    """Write the largest entries of a direction, the largest of all scaled to one.

    Which ones these are is told in units of 2^units, where those are given.

    Examples
    --------
    >>> direction_words(np.array([0.0, 2.0, -1.0]), "x")
    '1 in x[1], -0.5 in x[2]'
    >>> direction_words(np.array([0.0, 2.0, -1.0]), "x", np.array([0, 0, 4]))
    '1 in x[2], -2 in x[1]'
    """
    size = np.abs(vector) if units is None else np.ldexp(np.abs(vector), units)
    order = np.argsort(-size, kind="stable")
    chosen = [i for i in order[:4] if size[i] >= 0.01 * size[order[0]]]
    scaled = vector / vector[order[0]]
    # Three decimals, and in other units than the largest entry's as many as a small one needs.
    digits = [
        3 if abs(scaled[i]) >= 0.01 else 2 - math.floor(math.log10(abs(scaled[i]))) for i in chosen
    ]
    return ", ".join(
        f"{number_words(complex(np.round(scaled[i], count) + 0))} in {name}[{i}]"
        for i, count in zip(chosen, digits, strict=True)
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
    check_room(f"two passes over T = {T} steps", T, 2 * (problem.n + problem.m))
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


def finite_start(problem: Sized, x0: ArrayLike, x: Array | None = None) -> Array:
    """Return `initial_state` of finite numbers."""
    x0 = initial_state(problem, x0, x)
    check_finite("x0", x0)
    return x0


def one_initial_state(problem: Sized, x0: ArrayLike) -> Array:
    """Return a copy of x0 (n,), of finite numbers: one, where a batch is not taken."""
    start = np.array(real_array("x0", x0))
    if start.shape != (problem.n,):
        raise ShapeError(f"x0 has shape {start.shape}, expected ({problem.n},): one initial state")
    check_finite("x0", start)
    return start


def joint_batch(x0: Array, u: Array, name: str = "u") -> tuple[int, ...]:
    """Return the batch of x0 (..., n) and a series u (..., T, m), either repeated to the other's."""
    try:
        return np.broadcast_shapes(x0.shape[:-1], u.shape[:-2])
    except ValueError:
        raise ShapeError(batch_message("x0", x0.shape, name, u.shape)) from None


def sequence(problem: Sized, name: str, z: ArrayLike, x: Array | None = None) -> Array:
    """Return a sequence of this name as an array, broadcast to the batch of x if given.

    There are T + 1 states x, or numbers f for each of them, and T of the others; T is that of x, or
    the problem's own.
    """
    z = real_array(name, z)
    width, letter = (problem.m, "m") if name in "uv" else (problem.n, "n")
    extra = 1 if name in "xf" else 0
    T = problem.T if x is None else x.shape[-2] - 1
    shape = z.shape
    fits = len(shape) >= 2 and shape[-1] == width and shape[-2] > extra
    if not fits or (T is not None and shape[-2] - extra != T):
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
