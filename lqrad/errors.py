"""Exceptions, statuses and argument checks: every message that a user may read is worded here.

A message names the argument, what was expected, what came, the stage where it matters, and what
to try.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)


OVERFLOW_REMEDY = (
    "try a shorter horizon, smaller units, or close the loop with u = v - K x first "
    "(LQProblem.with_feedback)"
)
GROWTH_REMEDY = (
    "where gradients grow along the horizon, descend in v of u = v - K x (LQProblem.with_feedback), "
    "or cut the horizon (multiple_shooting)"
)


class LqradError(Exception):
    """Root of every error that lqrad raises on purpose."""


class ShapeError(LqradError, ValueError):
    """An array has the wrong number of axes, or an axis of the wrong length."""


class DtypeError(LqradError, TypeError):
    """A value is not a real number, or an array of them."""


class ArgumentError(LqradError, ValueError):
    """An argument has a value outside its range or its list of choices."""


class NonFiniteError(LqradError, ArithmeticError):
    """A NaN or an infinity, in what was given or in what was computed."""


class NotConvexError(LqradError, ValueError):
    """A weight is not symmetric positive semidefinite, or a problem has no unique minimiser."""


class NotStabilizableError(LqradError, ValueError):
    """No feedback stabilises the system, or the weights leave it without a stabilising solution."""


class Status(Enum):
    """How an iteration ended. Each value is a sentence; the result's `message` adds the details."""

    CONVERGED_GAP = "converged: the cost is proven to be within the tolerance of the optimum"
    CONVERGED_GRADIENT = "converged: the gradient is below the tolerance"
    STALLED = "stalled: rounding errors leave no further descent"
    MAX_ITER = "stopped: the limit on iterations was reached"
    ILL_CONDITIONED = "ill-conditioned: rounding errors of the largest eigenvalues of the Hessian hide its smallest"
    PATIENCE = "stopped: the validation loss no longer fell"
    INFEASIBLE = "infeasible: no inputs keep everything within its limits"
    CALLBACK = "stopped: the callback asked for it"
    DIVERGED = "diverged: the cost grew without bound or became non-finite"

    @property
    def converged(self) -> bool:
        """Whether the tolerance was met."""
        return self in (Status.CONVERGED_GAP, Status.CONVERGED_GRADIENT)

    def __str__(self) -> str:
        return self.value


def real_array(name: str, value: ArrayLike) -> Array:
    """Return `value` as a float64 array, without a copy where it is one already.

    Raises
    ------
    DtypeError
        If it is complex, text, an object, or a nested sequence of unequal lengths.
    """
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged nested sequence
        raise DtypeError(
            f"{name} is not a rectangular array of numbers; are its rows of equal length?"
        ) from error
    if array.dtype.kind not in "iufb":
        kind = {"c": "complex numbers", "O": "objects", "U": "text", "S": "bytes"}
        raise DtypeError(
            f"{name} holds {kind.get(array.dtype.kind, str(array.dtype))}, "
            f"expected real numbers; {_dtype_remedy(array.dtype.kind)}"
        )
    return np.asarray(array, dtype=np.float64)


def _dtype_remedy(kind: str) -> str:
    if kind == "c":
        return "a complex model must be written in real and imaginary parts first"
    return "convert it with numpy.asarray(..., dtype=float) and see which entry fails"


def frozen_array(name: str, value: ArrayLike) -> Array:
    """Return a read-only float64 copy of `value`, all of it finite.

    Raises
    ------
    DtypeError
        If it does not hold real numbers.
    NonFiniteError
        If it holds a NaN or an infinity; names the first one's index.
    """
    array = np.array(real_array(name, value), order="C")
    check_finite(name, array)
    array.setflags(write=False)
    return array


def check_finite(name: str, array: Array, *, computed: bool = False) -> None:
    """Raise NonFiniteError with the index of the first entry that is not finite.

    `computed` says that the array is a result, whose remedy is another than that of bad input.
    """
    # A sum of squares is finite only if all entries are, and costs less than asking each of them.
    if math.isfinite(np.vdot(array, array)):
        return
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        where = f"{name}[{', '.join(map(str, index))}]" if index else name
        if computed:
            raise NonFiniteError(f"{where} is {array[index]}: it overflowed; {OVERFLOW_REMEDY}")
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
    message += f" {why}" if why else ""
    if len(got) == 2 and got[::-1] == target:
        return f"{message}; did you pass {name}.T?"
    if len(target) == 2 and got == target[:1] and target[1] == 1:
        return f"{message}; did you mean {name}[:, None]?"
    if not got and target in {(1,), (1, 1)}:
        return f"{message}; write it as {'[' * len(target)}value{']' * len(target)}"
    return message


def batch_message(name: str, got: tuple[int, ...], other: str, shape: tuple[int, ...]) -> str:
    """Word an error of leading axes that do not fit each other."""
    return f"{name} has shape {got} and {other} has shape {shape}: their leading axes, the batch, do not fit"


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise ArgumentError unless `value` is one of `choices`, and list them."""
    choices = list(choices)
    if value not in choices:
        raise ArgumentError(f"{name} is {value!r}, expected one of: {', '.join(choices)}")


def check_count(name: str, value: Any, *, least: int = 1) -> int:
    """Return `value` as an int; raise ArgumentError unless it is a whole number >= `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ArgumentError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return int(value)


# What each array of a stage looks like, in letters; all may have a leading axis of T stages.
_STAGE_SYMBOLS = {
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

    Parameters
    ----------
    **given
        A and B, and any of Q, R, M, c, q, r; each constant or with a leading axis of T stages.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
        If one is no array of finite numbers or does not fit the others.
    """
    for name in _STAGE_SYMBOLS:
        if name in "ABQR" and name in given and given[name] is None:
            raise DtypeError(f"{name} is None, expected an array of real numbers")
    arrays = {name: frozen_array(name, value) for name, value in given.items() if value is not None}
    n, m = _dimensions(arrays["A"], arrays["B"])
    letters = {"n": n, "m": m}
    varying: tuple[str, int] | None = None
    for name in given:
        symbols = _STAGE_SYMBOLS[name]
        if name not in arrays:
            arrays[name] = frozen_array(name, np.zeros([letters[i] for i in symbols]))
        varying = _check_stages(name, arrays[name], symbols, letters, varying)
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


def _check_stages(
    name: str,
    array: Array,
    symbols: str,
    letters: dict[str, int],
    varying: tuple[str, int] | None,
) -> tuple[str, int] | None:
    """Check one array of a stage; return the first that varies in time and its number of stages."""
    expected = tuple(letters[i] for i in symbols)
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
    check_symmetric("Q", Q)
    check_symmetric("R", R)
    if not M.any():
        check_semidefinite("Q", Q)
        check_semidefinite("R", R)
        return
    stages = np.broadcast_shapes(*(weight.shape[:-2] for weight in (Q, M, R)))
    Q, M, R = (np.broadcast_to(weight, stages + weight.shape[-2:]) for weight in (Q, M, R))
    rows = [(Q, M), (M.swapaxes(-1, -2), R)]
    block = np.concatenate([np.concatenate(row, axis=-1) for row in rows], axis=-2)
    check_semidefinite("[Q M; M' R]", block)


def check_symmetric(name: str, weight: Array) -> None:
    """Raise NotConvexError unless the weight is symmetric to rounding errors."""
    root = np.sqrt(np.abs(np.diagonal(weight, axis1=-2, axis2=-1)))
    size = root[..., :, None] * root[..., None, :] + np.abs(weight)
    apart = np.abs(weight - weight.swapaxes(-1, -2)) > 64 * EPS * size
    if np.any(apart):
        *stage, i, j = (int(k) for k in np.argwhere(apart)[0])
        where = f"{name}[{stage[0]}]" if stage else name
        raise NotConvexError(
            f"{where} is not symmetric: entries ({i}, {j}) and ({j}, {i}) are "
            f"{weight[(*stage, i, j)]:.17g} and {weight[(*stage, j, i)]:.17g}; "
            f"pass ({name} + {name}.T) / 2 if that is what you mean"
        )


def check_semidefinite(name: str, weight: Array) -> None:
    """Raise NotConvexError unless the weight is symmetric with no eigenvalue below -rounding.

    Scaled to a unit diagonal, so that the units of a state do not decide what passes for rounding.
    """
    check_symmetric(name, weight)
    root = np.sqrt(np.abs(np.diagonal(weight, axis1=-2, axis2=-1)))
    root = np.where(root > 0, root, 1.0)
    scaled = weight / root[..., :, None] / root[..., None, :]
    slack = 16 * weight.shape[-1] * EPS
    try:
        np.linalg.cholesky(scaled + slack * np.eye(weight.shape[-1]))
    except np.linalg.LinAlgError:
        least = np.linalg.eigvalsh(scaled)[..., 0]
        if np.min(least) >= -slack:
            return
        stage = int(np.argmin(least)) if weight.ndim == 3 else None
        where = name if stage is None else f"{name} at stage {stage}"
        value = np.linalg.eigvalsh(weight if stage is None else weight[stage])[0]
        raise NotConvexError(
            f"{where} has the eigenvalue {value:.6g}, expected a positive semidefinite "
            "matrix; a cost that rewards distance has no minimum to descend to"
        ) from None


def check_type(name: str, value: object, expected: type, example: str) -> None:
    """Raise ArgumentError unless `value` is of the expected type, which `example` makes."""
    if not isinstance(value, expected):
        raise ArgumentError(
            f"{name} is of type {type(value).__name__}, expected {expected.__name__}, "
            f"such as {example} gives"
        )


def number_words(value: complex) -> str:
    """Write a number, as a real one where it is.

    Examples
    --------
    >>> number_words(1 + 0j), number_words(0.5 + 1j)
    ('1', '0.5+1j')
    """
    return f"{value.real:.6g}" if value.imag == 0 else f"{value:.6g}"


def direction_words(vector: NDArray[np.complex128] | Array, name: str) -> str:
    """Write the largest entries of a direction, the largest of all scaled to one.

    Examples
    --------
    >>> direction_words(np.array([0.0, 2.0, -1.0]), "x")
    '1 in x[1], -0.5 in x[2]'
    """
    order = np.argsort(-np.abs(vector), kind="stable")
    scaled = vector / vector[order[0]]
    chosen = [i for i in order[:4] if abs(scaled[i]) >= 0.01]
    return ", ".join(
        f"{number_words(complex(np.round(scaled[i], 3) + 0))} in {name}[{i}]" for i in chosen
    )
