"""Points that carry their derivatives, and how functions with kinks, or made of others, act on them.

At a kink the derivatives are those of the smooth piece that the function has at x + s v, as s falls
to zero, where v is the first direction, then the second by infinitely less, and so on: a number whose
value is zero has the sign of its first derivative that is not. `side` = -1 takes x - s v. The mean
of both sides is 0 for |x| at 0 and 1/2 for max(x, 0), and does not depend on the units of x. The tip
of a norm has the derivatives 0; its square, which the norm remembers, is smooth there.

References
----------
Khan and Barton, A vector forward mode of automatic differentiation for generalized derivative
evaluation, Optimization Methods and Software 30 (2015), 1185-1212.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lqrad.arguments import Array
from lqrad.functions.carried import (
    RULES,
    Carried,
    Pass,
    linear,
    of_entries,
    outer,
    plain,
    read_only,
    times,
)


def carried(z: Array, run: Pass) -> Any:
    """Return the points z (..., d), read-only, with their derivatives in their own d entries."""
    d = z.shape[-1]
    # Stored with the directions in front: the loops of NumPy run over the points then.
    first = np.moveaxis(np.zeros((d, *z.shape)), 0, -1)
    first[..., range(d), range(d)] = 1.0
    return read_only(Carried(z, first, None, run))


def _sign(x: Any) -> Any:
    """The sign of x beside its kink: of its first derivative that is not zero, where x is zero."""
    sign = np.array(np.sign(x.value))
    zero = sign == 0
    if zero.any():
        rows = x.first[zero] * x.run.side
        if x.second is not None:
            rows = np.concatenate([rows, x.second[zero].reshape(len(rows), -1)], axis=-1)
        sign[zero] = np.sign(rows[np.arange(len(rows)), (rows != 0).argmax(axis=-1)])
        x.run.kinked |= bool(sign[zero].any())
    return sign


def _constant(x: Carried, value: Any) -> Carried:
    """A value without derivatives, into which others can be written."""
    shape = (*np.shape(value), x.first.shape[-1])
    second = np.zeros((*shape, shape[-1])) if x.run.order == 2 else None
    return Carried(np.array(value, dtype=np.float64), np.zeros(shape), second, x.run)


def _absolute(x: Carried) -> Any:
    sign = _sign(x)
    second = None if x.second is None else times(sign, x.second, 2)
    square = _kept(x, lambda y: y * y)
    return Carried(np.abs(x.value), times(sign, x.first, 1), second, x.run, square)


def _kept(x: Carried, square: Callable[[Any], Any]) -> Callable[[], Any] | None:
    """How to make the square of a norm of x, where that is zero; of a copy, as x may change."""
    if np.all(x.value):
        return None
    y = x.copy()
    return lambda: square(y)


def _larger(x: Any, y: Any) -> Any:
    a, b = plain((x, y))
    first = np.greater(a, b) | np.isnan(a)
    tie = np.equal(a, b)
    if tie.any():
        first = first | (tie & (_sign(x - y) > 0))
    return np.where(first, x, y)


def _smaller(x: Any, y: Any) -> Any:
    return -_larger(-x, -y)


def _clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = min if a_min is None else a_min, max if a_max is None else a_max
    if low is not None:
        x = _larger(x, low)
    return x if high is None else _smaller(x, high)


def _step(x: Carried, function: Callable[[Any], Any], value: Any) -> Carried:
    """A value that jumps, on the side that the derivatives are of."""
    x.run.jumped |= bool(np.any(value != function(x.value)))
    return _constant(x, value)


def _floor(x: Carried) -> Any:
    floor = np.floor(x.value)
    return _step(x, np.floor, floor - ((x.value == floor) & (_sign(x - floor) < 0)))


def _ceil(x: Carried) -> Any:
    return -_floor(-x)


def _trunc(x: Carried) -> Any:
    return np.where(_sign(x) > 0, _floor(x), _ceil(x))


def _rint(x: Carried) -> Carried:
    x.run.kinked |= bool((np.abs(x.value - np.floor(x.value)) == 0.5).any())
    return _constant(x, np.rint(x.value))


def _remainder(whole: Callable[[Any], Any], exact: Any) -> Callable[[Any, Any], Any]:
    def function(x: Any, p: Any) -> Any:
        found = x - whole(x / p) * p
        a, b = plain((x, p))
        # As NumPy has it, to the last digit, but on the other side of a jump.
        value = exact(a, b)
        beside = np.abs(found.value - value) > 0.5 * np.abs(b)
        found.value = np.where(beside, b * np.sign(found.value * b), value)
        return found

    return function


def _root(x: Carried) -> Any:
    """sqrt(x); at 0 the slope is infinite, or 0 where x has none, as at the tip of a norm."""
    root = np.sqrt(x.value)
    slope = 0.5 / root
    first = times(slope, x.first, 1)
    second = None
    if x.run.order == 2:
        second = times(-0.25 / (root * x.value), outer(x, x), 2)
        if x.second is not None:
            second = second + times(slope, x.second, 2)
    tip = (np.asarray(root) == 0) & ~x.first.any(axis=-1)
    if tip.any():
        x.run.kinked = x.run.tip = True
        first = np.where(tip[..., None], 0.0, first)
        second = None if second is None else np.where(tip[..., None, None], 0.0, second)
    return Carried(root, first, second, x.run, _kept(x, lambda y: y))


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    vector = np.isscalar(axis) or (axis is None and x.ndim == 1)
    if vector and ord in (1, np.inf, -np.inf):
        reduced: Any = {1: np.sum, np.inf: np.max, -np.inf: np.min}[ord]
        return reduced(_absolute(x), axis=axis, keepdims=keepdims)
    if not (ord is None or (ord == 2 and vector) or (ord == "fro" and not vector)):
        return NotImplemented
    # Divided by a power of two of their size, the squares neither overflow nor vanish.
    _, exponent = np.frexp(np.max(np.abs(x.value), axis=axis, keepdims=True, initial=0.0))
    y = x * np.ldexp(1.0, -exponent)
    size = np.ldexp(1.0, exponent)
    size = size if keepdims else np.squeeze(size, axis=axis)
    found = _root(np.sum(y * y, axis=axis, keepdims=keepdims)) * size
    found.value = np.linalg.norm(x.value, axis=axis, keepdims=keepdims)
    found.square = _kept(x, lambda z: np.sum(z * z, axis=axis, keepdims=keepdims))
    return found


def _hypot(x: Any, y: Any) -> Any:
    shape = np.broadcast_shapes(np.shape(x), np.shape(y))
    return _norm(np.stack([np.broadcast_to(z, shape) for z in (x, y)], axis=-1), axis=-1)


def _multiply(x: Any, y: Any) -> Any:
    if x is y and _tipped(x):
        return x.square()
    found = of_entries(np.multiply, x, y)
    if isinstance(y, Carried):
        x, y = y, x
    if x.square is not None and not isinstance(y, Carried):
        found.square = lambda: x.square() * np.multiply(y, y)
    return found


def _divide(x: Any, y: Any) -> Any:
    found = of_entries(np.divide, x, y)
    if isinstance(x, Carried) and x.square is not None and not isinstance(y, Carried):
        found.square = lambda: x.square() / np.multiply(y, y)
    return found


def _power(x: Any, p: Any) -> Any:
    if _tipped(x) and np.ndim(p) == 0 and not isinstance(p, Carried) and p % 2 == 0:
        return x.square() ** (p // 2)
    return of_entries(np.power, x, p)


def _tipped(x: Any) -> bool:
    """Whether x is a norm, and zero somewhere: its square is smooth there, as it is not."""
    return isinstance(x, Carried) and x.square is not None and not np.all(x.value)


def _interp(x: Carried, xp: Any, fp: Any, **options: Any) -> Any:
    xp, fp = np.asarray(xp, dtype=np.float64), np.asarray(fp, dtype=np.float64)
    if options:
        return NotImplemented
    k = np.searchsorted(xp, x.value, side="right")
    node = np.isin(x.value, xp)
    if node.any():
        k = k - (node & (_sign(x - np.where(node, x.value, np.nan)) < 0))
    slopes = np.concatenate([[0.0], np.diff(fp) / np.diff(xp), [0.0]])
    found = x * slopes[k]
    found.value, found.square = np.interp(x.value, xp, fp), None
    return found


def _solve(A: Any, b: Any) -> Any:
    """A y = b, so that A y[i] = b[i] - A[i] y."""
    a = plain(A)
    columns = a.ndim == np.ndim(plain(b)) or np.ndim(plain(b)) != 1
    if not columns:
        return _solve(A, b[..., None])[..., 0]
    y = np.linalg.solve(a, plain(b))
    if isinstance(A, Carried):
        # Each round makes one more order right: the first derivatives, then the second.
        found = _constant(A, y)
        for _ in range(A.run.order):
            found = found + _solve(a, b - A @ found)
        found.value = y
        return found
    return linear(np.linalg.solve, (1,), (A, b), {})


def _inverse(A: Carried) -> Any:
    return _solve(A, np.broadcast_to(np.eye(A.shape[-1]), A.shape))


def _select(conditions: Any, choices: Any, default: Any = 0) -> Any:
    pairs = list(zip(conditions, choices, strict=True))
    return functools.reduce(lambda y, pair: np.where(pair[0], pair[1], y), pairs[::-1], default)


def _var(x: Carried, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    apart = x - np.mean(x, axis=axis, keepdims=True)
    squares = np.sum(apart * apart, axis=axis, keepdims=keepdims)
    return squares / (x.size / squares.size - ddof)


def _parts(split: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def parts(x: Carried, where: Any, axis: int = 0) -> list[Any]:
        return [np.take(x, rows, axis=axis) for rows in split(np.arange(x.shape[axis]), where)]

    return parts


def _folded(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """The reduction by a function of two, one after the other."""

    def reduced(x: Any, axis: Any = None, keepdims: bool = False, **options: Any) -> Any:
        if options:  # where, initial, out
            return NotImplemented
        axes = tuple(range(x.ndim)) if axis is None else axis if np.iterable(axis) else (axis,)
        axes = tuple(sorted(k % x.ndim for k in axes))
        rows = np.moveaxis(x, axes, range(len(axes)))
        rows = np.reshape(rows, (-1, *rows.shape[len(axes) :]))
        found = functools.reduce(function, rows)
        return np.expand_dims(found, axes) if keepdims else found

    return reduced


def _like(value: float) -> Callable[..., Any]:
    return lambda x, dtype=None: _constant(x, np.full(x.shape, value))


RULES |= {
    np.absolute: _absolute,
    np.fabs: _absolute,
    np.sign: lambda x: _step(x, np.sign, _sign(x)),
    np.square: lambda x: _power(x, 2),
    np.multiply: _multiply,
    np.divide: _divide,
    np.power: _power,
    np.float_power: _power,
    np.maximum: _larger,
    np.minimum: _smaller,
    np.fmax: _larger,
    np.fmin: _smaller,
    np.clip: _clip,
    np.floor: _floor,
    np.ceil: _ceil,
    np.trunc: _trunc,
    np.rint: _rint,
    np.floor_divide: lambda x, p: _floor(x / p),
    np.remainder: _remainder(_floor, np.remainder),
    np.fmod: _remainder(_trunc, np.fmod),
    np.heaviside: lambda x, half: _step(
        x, lambda y: np.heaviside(y, half), np.heaviside(_sign(x), half)
    ),
    np.sqrt: _root,
    np.hypot: _hypot,
    np.linalg.norm: _norm,
    np.linalg.solve: _solve,
    np.linalg.inv: _inverse,
    np.interp: _interp,
    np.prod: _folded(_multiply),
    np.max: _folded(_larger),
    np.min: _folded(_smaller),
    np.amax: _folded(_larger),
    np.amin: _folded(_smaller),
    np.zeros_like: _like(0.0),
    np.empty_like: _like(0.0),
    np.ones_like: _like(1.0),
    np.full_like: lambda x, value, dtype=None: np.zeros_like(x) + value,
    np.copy: lambda x, **options: x.copy(),
    np.select: _select,
    np.var: _var,
    np.std: lambda x, *axis, **options: np.sqrt(np.var(x, *axis, **options)),
    np.ptp: lambda x, *axis, **options: np.max(x, *axis, **options) - np.min(x, *axis, **options),
    np.polyval: lambda p, x: functools.reduce(lambda y, c: y * x + c, p, 0.0 * x),
    np.split: _parts(np.split),
    np.array_split: _parts(np.array_split),
}
