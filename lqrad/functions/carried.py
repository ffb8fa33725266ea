"""An array that carries its derivatives through NumPy: forward differentiation, first and second.

    y = g(x)   carries   y[i] = g'(x) x[i]    and    y[i, j] = g'(x) x[i, j] + g''(x) x[i] x[j]

NumPy hands its own functions over to an array that is not its own (`__array_ufunc__`,
`__array_function__`), so a function written in NumPy is differentiated as it stands. There are three
kinds of functions, and a table of each: those that act on each entry, which have derivatives
(`slopes`); those that are linear, or in several arguments linear in each, which act on derivatives as
on values; and those that choose, such as max, which have rules of their own (`kinks`).

What leaves NumPy, such as float(x), math.sin(x) or an assignment to a plain array, raises TypeError;
so do complex numbers, of which abs and others mean something else.

References
----------
Griewank and Walther, Evaluating Derivatives, 2008, chapters 3 and 14.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from lqrad.arguments import Array
from lqrad.functions.slopes import OF_ENTRIES

# The functions with rules of their own, which `kinks` writes here.
RULES: dict[Any, Callable[..., Any]] = {}


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
    >>> from lqrad.functions.kinks import carried
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


def read_only(z: Any) -> Any:
    """Return an array as one that cannot be written to, sharing its memory; other things as they are."""
    if isinstance(z, np.ndarray):
        if z.flags.writeable:
            z = z.view()
            z.setflags(write=False)
    elif isinstance(z, Carried):
        parts = (z.value, z.first, z.second)
        value, first, second = (None if part is None else read_only(part) for part in parts)
        return Carried(value, first, second, z.run, z.square)
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
    if function in RULES:
        return RULES[function](*args, **options)
    if function in OF_ENTRIES:
        return of_entries(function, *args)
    if function in _LINEAR:
        return linear(function, _LINEAR[function], args, options)
    if function in _PRODUCTS:
        return _product(function, _PRODUCTS[function], args, options)
    return NotImplemented


# Functions of each entry


def times(slope: Any, derivative: Array, axes: int) -> Array:
    if not isinstance(slope, float):
        slope = np.reshape(slope, np.shape(slope) + (1,) * axes)
    product: Array = np.multiply(slope, derivative)
    return product


def outer(x: Any, y: Any) -> Array:
    """The products x[i] y[j]."""
    return np.asarray(x.first[..., :, None] * y.first[..., None, :])


def of_entries(ufunc: Any, *arguments: Any) -> Carried:
    """By the chain rule, with the terms of the arguments that carry derivatives."""
    slopes, curvatures = OF_ENTRIES[ufunc]
    values = plain(arguments)
    z = ufunc(*values)
    known = {
        i: (slope(*values, z), w)
        for i, (slope, w) in enumerate(zip(slopes, arguments, strict=True))
        if isinstance(w, Carried)
    }
    run, second = next(iter(known.values()))[1].run, None
    if run.order == 2:
        terms = [times(s, w.second, 2) for s, w in known.values() if w.second is not None]
        for (i, j), curvature in curvatures.items():
            if i in known and j in known:
                term = times(curvature(*values, z), outer(arguments[i], arguments[j]), 2)
                terms.append(term if i == j else term + term.swapaxes(-1, -2))
        second = _repeated(functools.reduce(np.add, terms), np.shape(z), 2) if terms else None
    first = functools.reduce(np.add, [times(s, w.first, 1) for s, w in known.values()])
    return Carried(z, _repeated(first, np.shape(z), 1), second, run)


def _repeated(derivative: Any, shape: tuple[int, ...], axes: int) -> Array:
    """Derivatives as many as the values, where an argument without any was repeated."""
    if derivative.shape[: derivative.ndim - axes] == shape:
        return np.asarray(derivative)
    return np.array(np.broadcast_to(derivative, shape + derivative.shape[derivative.ndim - axes :]))


# Functions that are linear, and products of such


def linear(function: Any, which: tuple[int, ...], args: Any, options: Any) -> Any:
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


_ON_VALUES = {
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.isnan),
    *(np.isfinite, np.isinf, np.signbit, np.logical_and, np.logical_or, np.logical_not),
    *(np.logical_xor, np.argmax, np.argmin, np.argsort, np.nonzero, np.any, np.all, np.shape),
    *(np.ndim, np.size, np.isclose, np.allclose, np.count_nonzero, np.argwhere, np.flatnonzero),
    *(np.searchsorted, np.array_equal),
}
