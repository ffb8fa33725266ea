"""An array that carries its derivatives through NumPy: forward differentiation, first and second.

    y = g(x)   carries   y[i] = g'(x) x[i]    and    y[i, j] = g'(x) x[i, j] + g''(x) x[i] x[j]

NumPy hands its own functions over to an array that is not its own (`__array_ufunc__`,
`__array_function__`), so a function written in NumPy is differentiated as it stands. There are three
kinds of functions, and a table of each: those that act on each entry, which have derivatives; those
that are linear, or in several arguments linear in each, which act on derivatives as on values; and
those that choose, such as max.

At a kink the derivatives are those of the smooth piece that the function has at x + s v, as s falls
to zero, where v is the first direction, then the second by infinitely less, and so on: a number whose
value is zero has the sign of its first derivative that is none. `side` = -1 takes x - s v. The mean
of both sides is 0 for |x| at 0 and 1/2 for max(x, 0), and does not depend on the units of x. The tip
of a norm has the derivatives 0; its square, which the norm remembers, is smooth there.

What leaves NumPy, such as float(x), math.sin(x) or an assignment to a plain array, raises TypeError;
so do complex numbers, of which abs and others mean something else.

References
----------
Griewank and Walther, Evaluating Derivatives, 2008, chapters 3 and 14.
Khan and Barton, A vector forward mode of automatic differentiation for generalized derivative
evaluation, Optimization Methods and Software 30 (2015), 1185-1212 (kinks).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from lqrad.arguments import Array


@dataclass
class Pass:
    """One evaluation of a function: its order, the side of its kinks, and whether it met one.

    `tip` says that it was the tip of a norm, which has more sides than two; `jumped` that a value was
    that of the other side of a jump.
    """

    order: int
    side: int = 1
    kinked: bool = False
    tip: bool = False
    jumped: bool = False


class Carried(NDArrayOperatorsMixin):
    """Values (...), their first derivatives (..., d), and second ones (..., d, d), None for zero.

    Examples
    --------
    >>> x = carried(np.array([3.0, 4.0]), Pass(order=2))
    >>> y = np.linalg.norm(x) * x[1]
    >>> y.value, y.first, y.second
    (np.float64(20.0), array([2.4, 8.2]), array([[0.512, 0.216],
           [0.216, 1.888]]))
    """

    __slots__ = ("first", "run", "second", "square", "value")

    def __init__(
        self,
        value: Any,
        first: Any,
        second: Any,
        run: Pass,
        square: Callable[[], Any] | None = None,
    ) -> None:
        if value.dtype.kind == "c":
            raise TypeError("derivatives of complex numbers are not carried")
        self.value, self.first, self.second = value, first, second
        self.run, self.square = run, square

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", (None,))[0]
        if method == "__call__" and not options:
            found = _applied(ufunc, _joined(inputs), {})
        elif method in ("reduce", "accumulate"):
            found = _reduce(ufunc, method, *inputs, **options)
        else:
            return NotImplemented
        if out is None or found is NotImplemented:
            return found
        if not isinstance(out, Carried):
            raise TypeError("derivatives cannot be written into a plain array")
        if not isinstance(out.value, np.ndarray):  # s += 1 of a number makes another one
            return found
        out[...] = found
        return out

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return _applied(function, args, options)

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("an array that carries derivatives cannot be made a plain one")

    def __float__(self) -> float:
        raise TypeError("a number that carries derivatives cannot be made a plain one")

    __int__ = __complex__ = __index__ = __float__

    def __bool__(self) -> bool:
        return bool(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Carried:
        if self.run.order == 2 and self.second is None and np.asarray(self.value).flags.writeable:
            self.second = np.zeros((*self.first.shape, self.first.shape[-1]))  # for views of it
        inner = _with_axes(key)
        return Carried(
            self.value[key],
            self.first[inner(1)],
            None if self.second is None else self.second[inner(2)],
            self.run,
            self.square and (lambda: self.square()[key]),  # type: ignore[misc]
        )

    def __setitem__(self, key: Any, entry: Any) -> None:
        inner, known = _with_axes(key), isinstance(entry, Carried)
        self.value[key] = entry.value if known else entry
        self.first[inner(1)] = entry.first if known else 0.0
        second = entry.second if known else None
        if second is not None and self.second is None:
            self.second = np.zeros((*self.first.shape, self.first.shape[-1]))
        if self.second is not None:
            self.second[inner(2)] = 0.0 if second is None else second
        self.square = None

    # Attributes and methods of arrays

    shape = property(lambda self: np.shape(self.value))
    ndim = property(lambda self: np.ndim(self.value))
    size = property(lambda self: np.size(self.value))
    dtype = property(lambda self: np.dtype(np.float64))
    T = property(lambda self: np.transpose(self))
    real = property(lambda self: self)

    def astype(self, dtype: Any, **options: Any) -> Carried:
        if np.dtype(dtype) != np.float64:
            raise TypeError(f"derivatives are not carried in {np.dtype(dtype)}")
        return self.copy()

    def copy(self, order: str = "C") -> Carried:
        second = None if self.second is None else self.second.copy()
        return Carried(np.array(self.value), self.first.copy("K"), second, self.run, self.square)

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def reshape(self, *shape: Any) -> Any:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def flatten(self) -> Any:
        return np.ravel(self).copy()


def _method(function: Any) -> Any:
    def method(self: Carried, *args: Any, **options: Any) -> Any:
        return function(self, *args, **options)

    return method


for _name in (
    *("sum", "mean", "prod", "cumsum", "max", "min", "clip", "dot", "ravel", "squeeze", "swapaxes"),
    *("repeat", "take", "diagonal", "trace", "argmax", "argmin", "argsort", "any", "all"),
    *("var", "std"),
):
    setattr(Carried, _name, _method(getattr(np, _name)))


def carried(z: Array, run: Pass) -> Any:
    """Return the points z (..., d), read-only, with their derivatives in their own d entries."""
    d = z.shape[-1]
    # Stored with the directions in front: the loops of NumPy run over the points then.
    first = np.moveaxis(np.zeros((d, *z.shape)), 0, -1)
    first[..., range(d), range(d)] = 1.0
    return read_only(Carried(z, first, None, run))


def read_only(z: Any) -> Any:
    """Return an array as one that cannot be written to, sharing its memory; other things as they are."""
    if isinstance(z, Carried):
        parts = (z.value, z.first, z.second)
        value, first, second = (None if part is None else read_only(part) for part in parts)
        return Carried(value, first, second, z.run, z.square)
    if not isinstance(z, np.ndarray) or not z.flags.writeable:
        return z
    z = z.view()
    z.setflags(write=False)
    return z


def _with_axes(key: Any) -> Callable[[int], Any]:
    """The key of derivatives, which have so many axes more at the end."""
    keys = key if isinstance(key, tuple) else (key,)
    if any(entry is Ellipsis for entry in keys):
        return lambda axes: keys + (slice(None),) * axes
    return lambda axes: keys


def plain(tree: Any) -> Any:
    """Return arguments, in lists or not, without their derivatives."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(plain(branch) for branch in tree)
    return tree.value if isinstance(tree, Carried) else tree


def _leaves(tree: Any) -> Iterator[Carried]:
    """All arrays among the arguments that carry derivatives."""
    if isinstance(tree, (list, tuple)):
        for branch in tree:
            yield from _leaves(branch)
    elif isinstance(tree, Carried):
        yield tree


def _joined(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments, a list of numbers that carry derivatives among them as one array that does."""
    return tuple(
        np.stack(_joined(tuple(a)))
        if isinstance(a, (list, tuple)) and next(_leaves(a), None) is not None
        else a
        for a in arguments
    )


def _applied(function: Any, args: Any, options: Any) -> Any:
    """A function of NumPy's by the table that it stands in."""
    if function in _ON_VALUES:
        return function(*plain(args), **options)
    if function in _FUNCTIONS:
        return _FUNCTIONS[function](*args, **options)
    if function in _OF_ENTRIES:
        return _of_entries(function, *args)
    if function in _LINEAR:
        return _linear(function, _LINEAR[function], args, options)
    if function in _PRODUCTS:
        return _product(function, _PRODUCTS[function], args, options)
    return NotImplemented


# Functions of each entry


def _times(slope: Any, derivative: Array, axes: int) -> Array:
    if not isinstance(slope, float):
        slope = np.reshape(slope, np.shape(slope) + (1,) * axes)
    product: Array = np.multiply(slope, derivative)
    return product


def _outer(x: Any, y: Any) -> Array:
    """The products x[i] y[j]."""
    return np.asarray(x.first[..., :, None] * y.first[..., None, :])


def _of_entries(ufunc: Any, *arguments: Any) -> Carried:
    """By the chain rule, with the terms of the arguments that carry derivatives."""
    slopes, curvatures = _OF_ENTRIES[ufunc]
    values = plain(arguments)
    z = ufunc(*values)
    known = {
        i: (slope(*values, z), w)
        for i, (slope, w) in enumerate(zip(slopes, arguments, strict=True))
        if isinstance(w, Carried)
    }
    run, second = next(iter(known.values()))[1].run, None
    if run.order == 2:
        terms = [_times(s, w.second, 2) for s, w in known.values() if w.second is not None]
        for (i, j), curvature in curvatures.items():
            if i in known and j in known:
                term = _times(curvature(*values, z), _outer(arguments[i], arguments[j]), 2)
                terms.append(term if i == j else term + term.swapaxes(-1, -2))
        second = _repeated(functools.reduce(np.add, terms), np.shape(z), 2) if terms else None
    first = functools.reduce(np.add, [_times(s, w.first, 1) for s, w in known.values()])
    return Carried(z, _repeated(first, np.shape(z), 1), second, run)


def _repeated(derivative: Any, shape: tuple[int, ...], axes: int) -> Array:
    """Derivatives as many as the values, where an argument without any was repeated."""
    if derivative.shape[: derivative.ndim - axes] == shape:
        return np.asarray(derivative)
    return np.array(np.broadcast_to(derivative, shape + derivative.shape[derivative.ndim - axes :]))


def _power_slope(x: Any, p: Any, z: Any) -> Any:
    return np.where(np.equal(p, 0), 0.0, p * x ** (p - 1.0))


def _power_curvature(x: Any, p: Any, z: Any) -> Any:
    factor = p * (p - 1.0)
    return np.where(np.equal(factor, 0), 0.0, factor * x ** (p - 2.0))


def _log(x: Any) -> Any:
    """log(x), and 0 at 0: of the power 0^p, which is 0 for every p > 0."""
    return np.log(np.where(np.equal(x, 0), 1.0, x))


_TWO, _TEN, _RADIAN = np.log(2.0), np.log(10.0), np.pi / 180

# The function of x: its derivative and its second one, if not 0, of x and of the value y.
_OF_ONE: dict[Any, tuple[Callable[..., Any], Callable[..., Any] | None]] = {
    np.negative: (lambda x, y: -1.0, None),
    np.positive: (lambda x, y: 1.0, None),
    np.conjugate: (lambda x, y: 1.0, None),
    np.reciprocal: (lambda x, y: -y * y, lambda x, y: 2 * y**3),
    np.exp: (lambda x, y: y, lambda x, y: y),
    np.exp2: (lambda x, y: _TWO * y, lambda x, y: _TWO**2 * y),
    np.expm1: (lambda x, y: np.exp(x), lambda x, y: np.exp(x)),
    np.log: (lambda x, y: 1 / x, lambda x, y: -1 / x**2),
    np.log2: (lambda x, y: 1 / (_TWO * x), lambda x, y: -1 / (_TWO * x**2)),
    np.log10: (lambda x, y: 1 / (_TEN * x), lambda x, y: -1 / (_TEN * x**2)),
    np.log1p: (lambda x, y: 1 / (1 + x), lambda x, y: -1 / (1 + x) ** 2),
    np.cbrt: (lambda x, y: 1 / (3 * y**2), lambda x, y: -2 / (9 * y**5)),
    np.sin: (lambda x, y: np.cos(x), lambda x, y: -y),
    np.cos: (lambda x, y: -np.sin(x), lambda x, y: -y),
    np.tan: (lambda x, y: 1 + y * y, lambda x, y: 2 * y * (1 + y * y)),
    np.arcsin: (
        lambda x, y: 1 / np.sqrt((1 - x) * (1 + x)),
        lambda x, y: x / np.sqrt((1 - x) * (1 + x)) ** 3,
    ),
    np.arccos: (
        lambda x, y: -1 / np.sqrt((1 - x) * (1 + x)),
        lambda x, y: -x / np.sqrt((1 - x) * (1 + x)) ** 3,
    ),
    np.arctan: (lambda x, y: 1 / (1 + x * x), lambda x, y: -2 * x / (1 + x * x) ** 2),
    np.sinh: (lambda x, y: np.cosh(x), lambda x, y: y),
    np.cosh: (lambda x, y: np.sinh(x), lambda x, y: y),
    np.tanh: (lambda x, y: 1 / np.cosh(x) ** 2, lambda x, y: -2 * y / np.cosh(x) ** 2),
    np.arcsinh: (lambda x, y: 1 / np.hypot(1, x), lambda x, y: -x / np.hypot(1, x) ** 3),
    np.arccosh: (
        lambda x, y: 1 / np.sqrt((x - 1) * (x + 1)),
        lambda x, y: -x / np.sqrt((x - 1) * (x + 1)) ** 3,
    ),
    np.arctanh: (
        lambda x, y: 1 / ((1 - x) * (1 + x)),
        lambda x, y: 2 * x / ((1 - x) * (1 + x)) ** 2,
    ),
    np.deg2rad: (lambda x, y: _RADIAN, None),
    np.rad2deg: (lambda x, y: 1 / _RADIAN, None),
}
_OF_ONE[np.radians], _OF_ONE[np.degrees] = _OF_ONE[np.deg2rad], _OF_ONE[np.rad2deg]

# The function of x and y with the value z: its derivatives, and its second ones that are not 0.
_Curvatures = dict[tuple[int, int], Callable[..., Any]]
_OF_ENTRIES: dict[Any, tuple[tuple[Callable[..., Any], ...], _Curvatures]] = {
    f: ((slope,), {} if bend is None else {(0, 0): bend}) for f, (slope, bend) in _OF_ONE.items()
} | {
    np.add: ((lambda x, y, z: 1.0, lambda x, y, z: 1.0), {}),
    np.subtract: ((lambda x, y, z: 1.0, lambda x, y, z: -1.0), {}),
    np.multiply: ((lambda x, y, z: y, lambda x, y, z: x), {(0, 1): lambda x, y, z: 1.0}),
    np.divide: (
        (lambda x, y, z: 1 / y, lambda x, y, z: -z / y),
        {(0, 1): lambda x, y, z: -1 / (y * y), (1, 1): lambda x, y, z: 2 * z / (y * y)},
    ),
    np.power: (
        (_power_slope, lambda x, p, z: z * _log(x)),
        {
            (0, 0): _power_curvature,
            (0, 1): lambda x, p, z: x ** (p - 1.0) * (1 + p * _log(x)),
            (1, 1): lambda x, p, z: z * _log(x) ** 2,
        },
    ),
    np.arctan2: (
        (
            lambda y, x, z: x / np.hypot(x, y) / np.hypot(x, y),
            lambda y, x, z: -y / np.hypot(x, y) / np.hypot(x, y),
        ),
        {
            (0, 0): lambda y, x, z: -2 * x * y / np.hypot(x, y) ** 4,
            (0, 1): lambda y, x, z: (y - x) * (y + x) / np.hypot(x, y) ** 4,
            (1, 1): lambda y, x, z: 2 * x * y / np.hypot(x, y) ** 4,
        },
    ),
    np.logaddexp: (
        (lambda x, y, z: np.exp(x - z), lambda x, y, z: np.exp(y - z)),
        {
            (0, 0): lambda x, y, z: np.exp(x + y - 2 * z),
            (0, 1): lambda x, y, z: -np.exp(x + y - 2 * z),
            (1, 1): lambda x, y, z: np.exp(x + y - 2 * z),
        },
    ),
}


# Functions that are linear, and products of such


def _linear(function: Any, which: tuple[int, ...], args: Any, options: Any) -> Any:
    """A function that is linear in the arguments `which` together, as np.where is in its last two."""

    def of(part: Callable[[Any], Any]) -> Any:
        changed = [_mapped(part, a) if k in which else a for k, a in enumerate(args)]
        return function(*changed, **options)

    leaves = list(_leaves(args))
    if _NOT_LINEAR & options.keys() or len(args) > _MOST_ARGUMENTS.get(function, len(args)):
        return NotImplemented
    if len(leaves) != len(list(_leaves([args[k] for k in which if k < len(args)]))):
        return NotImplemented  # a condition or a length with derivatives is none
    value = of(lambda z: z.value if isinstance(z, Carried) else z)
    return _assembled(
        value,
        leaves,
        lambda i: of(lambda z: _part(z, i)),
        lambda i, j: of(lambda z: _part(z, i, j)),
        any(z.second is not None for z in leaves),
    )


def _product(function: Any, which: tuple[int, ...] | None, args: Any, options: Any) -> Any:
    """A function that is linear in each of the arguments `which`, for None in all but the first."""
    args = _joined(args)
    which = tuple(range(1, len(args))) if which is None else which
    known = [k for k in which if isinstance(args[k], Carried)]
    values = plain(args)

    def of(*parts: tuple[int, tuple[int, ...]]) -> Any:
        changed = list(values)
        for k, index in parts:
            changed[k] = _part(args[k], *index)
        return function(*changed, **options)

    def second(i: int, j: int) -> Any:
        terms = [of((k, (i, j))) for k in known if args[k].second is not None]
        terms += [of((k, (i,)), (q, (j,))) for k in known for q in known if k != q]
        return sum(terms)

    return _assembled(
        function(*values, **options),
        [args[k] for k in known],
        lambda i: sum(of((k, (i,))) for k in known),
        second,
        len(known) > 1 or args[known[0]].second is not None,
    )


def _assembled(
    value: Any,
    leaves: list[Carried],
    first: Callable[[int], Any],
    second: Callable[[int, int], Any],
    bent: bool,
) -> Any:
    """Derivatives from those in each direction; read-only, as the value may be a view."""
    d, run = leaves[0].first.shape[-1], leaves[0].run
    found = [np.moveaxis(np.array([first(i) for i in range(d)]), 0, -1)]
    if run.order == 2 and bent:
        rows = {(i, j): second(i, j) for i in range(d) for j in range(i + 1)}
        table = np.array([[rows[max(i, j), min(i, j)] for j in range(d)] for i in range(d)])
        found.append(np.moveaxis(table, (0, 1), (-2, -1)))
    return read_only(Carried(np.asarray(value), found[0], found[1] if found[1:] else None, run))


# Options that add a constant, which is none of the derivatives; and where they stand without a name.
_NOT_LINEAR = {"initial", "prepend", "append", "dtype", "out", "where"}
_MOST_ARGUMENTS = {np.diff: 3, np.sum: 2, np.mean: 2, np.cumsum: 2, np.nansum: 2}


def _mapped(part: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, (list, tuple)):
        return [_mapped(part, branch) for branch in tree]
    return part(tree)


def _part(z: Any, *index: int) -> Any:
    """A derivative of an argument, zero of one that has none."""
    if not isinstance(z, Carried):
        return np.zeros(np.shape(z))
    derivative = z.first if len(index) == 1 else z.second
    return np.zeros(z.shape) if derivative is None else derivative[..., *index]


_LINEAR: dict[Any, tuple[int, ...]] = dict.fromkeys(
    (
        *(np.stack, np.concatenate, np.column_stack, np.vstack, np.hstack, np.dstack, np.block),
        *(np.reshape, np.ravel, np.transpose, np.moveaxis, np.swapaxes, np.rollaxis, np.squeeze),
        *(np.expand_dims, np.broadcast_to, np.tile, np.repeat, np.roll, np.flip, np.fliplr),
        *(np.flipud, np.rot90, np.take, np.take_along_axis, np.delete, np.diag, np.diagonal),
        *(np.trace, np.tril, np.triu, np.sum, np.mean, np.cumsum, np.diff, np.real),
        *(np.nansum, np.atleast_1d, np.atleast_2d, np.atleast_3d),
    ),
    (0,),
) | {np.where: (1, 2), np.append: (0, 1), np.insert: (0, 2)}

_PRODUCTS: dict[Any, tuple[int, ...] | None] = dict.fromkeys(
    (
        *(np.matmul, np.dot, np.vdot, np.inner, np.outer, np.tensordot, np.kron, np.cross),
        *(np.convolve, getattr(np.linalg, "matmul", np.matmul)),  # the latter from NumPy 2 on
    ),
    (0, 1),
) | {np.einsum: None}


# Functions that choose, and those with kinks


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
    second = None if x.second is None else _times(sign, x.second, 2)
    square = _kept(x, lambda y: y * y)
    return Carried(np.abs(x.value), _times(sign, x.first, 1), second, x.run, square)


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
    first = _times(slope, x.first, 1)
    second = None
    if x.run.order == 2:
        second = _times(-0.25 / (root * x.value), _outer(x, x), 2)
        if x.second is not None:
            second = second + _times(slope, x.second, 2)
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
    found = _of_entries(np.multiply, x, y)
    if isinstance(y, Carried):
        x, y = y, x
    if x.square is not None and not isinstance(y, Carried):
        found.square = lambda: x.square() * np.multiply(y, y)
    return found


def _divide(x: Any, y: Any) -> Any:
    found = _of_entries(np.divide, x, y)
    if isinstance(x, Carried) and x.square is not None and not isinstance(y, Carried):
        found.square = lambda: x.square() / np.multiply(y, y)
    return found


def _power(x: Any, p: Any) -> Any:
    if _tipped(x) and np.ndim(p) == 0 and not isinstance(p, Carried) and p % 2 == 0:
        return x.square() ** (p // 2)
    return _of_entries(np.power, x, p)


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
    return _linear(np.linalg.solve, (1,), (A, b), {})


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


def _reduce(ufunc: Any, method: str, x: Any, axis: Any = 0, **options: Any) -> Any:
    options = {k: v for k, v in options.items() if v is not None}
    if ufunc is np.add and method == "accumulate":
        return np.cumsum(x, axis=axis, **options)
    if method == "reduce" and ufunc in _REDUCTIONS:
        return _REDUCTIONS[ufunc](x, axis=axis, **options)
    return getattr(ufunc, method)(x.value, axis=axis) if ufunc in _ON_VALUES else NotImplemented


_REDUCTIONS: dict[Any, Any] = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
}


def _like(value: float) -> Callable[..., Any]:
    return lambda x, dtype=None: _constant(x, np.full(x.shape, value))


_ON_VALUES = {
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.isnan),
    *(np.isfinite, np.isinf, np.signbit, np.logical_and, np.logical_or, np.logical_not),
    *(np.logical_xor, np.argmax, np.argmin, np.argsort, np.nonzero, np.any, np.all, np.shape),
    *(np.ndim, np.size, np.isclose, np.allclose, np.count_nonzero, np.argwhere, np.flatnonzero),
    *(np.searchsorted, np.array_equal),
}
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
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
