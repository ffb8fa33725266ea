"""Functions of arrays, each with the transpose of its derivative: what a graph is made of.

    z = f(a[0], ..., a[r-1])          vjp(k, p, z, a) = (df / da[k])' p,   of the shape of a[k]

The arguments are the values of the parents, whose leading axis is the batch, and then the
parameters, which have none: what an argument was repeated over, its product is summed over. No
function writes into its arguments or into p, and a product may be p itself or a part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy

from lqrad.arguments import Array
from lqrad.errors import ArgumentError, DtypeError, ShapeError


@dataclass(frozen=True)
class Primitive:
    """A function and, for each of its arguments, its vector-Jacobian product.

    Parameters
    ----------
    name : str
        How errors call it.
    function : callable
        (*arguments) -> z.
    vjps : tuple of callables or None, or one callable
        vjps[k](p, z, *arguments) is the product of p, shaped like z, with the transposed Jacobian
        in the argument k, and shaped like that argument. None where there is no derivative: labels.
        A function of any number of arguments has one callable instead, (k, p, z, *arguments).

    See Also
    --------
    Node : gives it arguments.
    dot_test, taylor_test : tell whether a VJP is right.

    Examples
    --------
    A function of one's own, and its proof: the derivative along u by a complex step, against vjps.

    >>> from lqrad import dot_test
    >>> sine = Primitive("sine", np.sin, (lambda p, z, x: p * np.cos(x),))
    >>> x = np.array([[0.1, 0.2], [0.3, 0.4]])
    >>> z = sine.function(x)
    >>> along = lambda u: sine.function(x + 1e-20j * u).imag / 1e-20
    >>> dot_test(along, lambda p: sine.vjp(0, p, z, x), x.shape) < 1e-13
    True
    """

    name: str
    function: Callable[..., Any]
    vjps: tuple[Callable[..., Any] | None, ...] | Callable[..., Any]

    def vjp(self, k: int, p: Array, z: Array, *arguments: Any) -> Any:
        """Return the product of p with the transposed Jacobian in argument k; z is the value there."""
        if callable(self.vjps):
            return self.vjps(k, p, z, *arguments)
        product = self.vjps[k]
        assert product is not None, f"{self.name} has no derivative in its argument {k}"
        return product(p, z, *arguments)

    def has_vjp(self, k: int) -> bool:
        """Whether there is a derivative in the argument k."""
        return callable(self.vjps) or self.vjps[k] is not None


# Products of matrices


def _matmul(x: Array, W: Array) -> Array:
    if x.ndim < 2 or W.ndim < 2 or (x.ndim == 2 and W.ndim > 2):  # that would mix the samples
        raise ShapeError(
            f"its factors have the shapes {x.shape} and {W.shape}, expected (batch, ..., in) and "
            "(in, out), or a batch of matrices; a vector of one number for each sample is x[:, None]"
        )
    return np.asarray(x @ W)


def _matmul_left(p: Array, z: Array, x: Array, W: Array, *b: Array) -> Array:
    return _summed(p @ W.swapaxes(-1, -2), x.shape)


def _matmul_right(p: Array, z: Array, x: Array, W: Array, *b: Array) -> Array:
    if W.ndim == 2:  # one matrix for all rows of x: one product, and no (batch, in, out) to add up
        return x.reshape(-1, x.shape[-1]).T @ p.reshape(-1, p.shape[-1])
    return _summed(x.swapaxes(-1, -2) @ p, W.shape)


def _affine(x: Array, W: Array, b: Array) -> Array:
    xW = _matmul(x, W)
    z = xW + b
    if z.shape != xW.shape:
        raise ShapeError(
            f"b has shape {b.shape}, expected (out,) = {W.shape[1:]} to match W {W.shape}"
        )
    return np.asarray(z)


def _affine_offset(p: Array, z: Array, x: Array, W: Array, b: Array) -> Array:
    return _summed(p, b.shape)


matmul = Primitive("matmul", _matmul, (_matmul_left, _matmul_right))
"""x W with x (batch, ..., in) and W (in, out); or both of them batches of matrices."""

affine = Primitive("affine", _affine, (_matmul_left, _matmul_right, _affine_offset))
"""x W + b with x (batch, ..., in), W (in, out) and b (out,)."""


# Functions of each entry


def _tanh_vjp(p: Array, z: Array, x: Array) -> Array:
    return p * (1.0 - z * z)


tanh = Primitive("tanh", np.tanh, (_tanh_vjp,))


def _relu_vjp(p: Array, z: Array, x: Array) -> Array:
    return p * (z > 0)


relu = Primitive("relu", partial(np.maximum, 0.0), (_relu_vjp,))
"""max(x, 0); its derivative at 0 is set to 0."""


def _expit(x: Array) -> Array:
    """1 / (1 + exp(-x)); SciPy loads its special functions when they are first asked for."""
    return np.asarray(scipy.special.expit(x))


def _sigmoid_vjp(p: Array, z: Array, x: Array) -> Array:
    return p * (z * (1.0 - z))


sigmoid = Primitive("sigmoid", _expit, (_sigmoid_vjp,))
"""1 / (1 + exp(-x))"""


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _softplus_vjp(p: Array, z: Array, x: Array) -> Array:
    return np.asarray(p * _expit(x))


softplus = Primitive("softplus", _softplus, (_softplus_vjp,))
"""log(1 + exp(x))"""


# Joins of several variables


def _joined(join: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    z = join(a, b)
    if z.shape not in (a.shape, b.shape):  # such as (batch,) with (batch, 1): (batch, batch)
        raise ShapeError(
            f"its arguments have the shapes {a.shape} and {b.shape}, expected one shape, or one "
            "that repeats into the other's; a vector of one number for each sample is a[:, None]"
        )
    return z


def _add_vjp(k: int, p: Array, z: Array, *arguments: Array) -> Array:
    return _summed(p, arguments[k].shape)


add = Primitive("add", partial(_joined, np.add), _add_vjp)
"""a + b, where one may repeat into the shape of the other."""


def _multiply_vjp(k: int, p: Array, z: Array, *arguments: Array) -> Array:
    return _summed(p * arguments[1 - k], arguments[k].shape)


multiply = Primitive("multiply", partial(_joined, np.multiply), _multiply_vjp)
"""a b, entry by entry, where one may repeat into the shape of the other."""


def _concatenate(*arguments: Array) -> Array:
    return np.concatenate(arguments, axis=-1)


def _concatenate_vjp(k: int, p: Array, z: Array, *arguments: Array) -> Array:
    start = sum(argument.shape[-1] for argument in arguments[:k])
    return p[..., start : start + arguments[k].shape[-1]]


concatenate = Primitive("concatenate", _concatenate, _concatenate_vjp)
"""Any number of arrays side by side, along their last axis."""


def take(t: int, *, of: int | None = None) -> Primitive:
    """The primitive x (batch, T, n) -> x[:, t] (batch, n): one step of a series, of T = `of`.

    Examples
    --------
    >>> take(1).function(np.array([[[1.0], [2.0], [3.0]]]))
    array([[2.]])
    """
    return Primitive(f"take {t}", partial(_take, t, of), (partial(_take_vjp, t),))


def _take(t: int, of: int | None, x: Array) -> Array:
    if of is not None and x.shape[1:2] != (of,):
        raise ShapeError(f"x has shape {x.shape}, expected (batch, T, n) with T = {of}")
    return x[:, t]


def _take_vjp(t: int, p: Array, z: Array, x: Array) -> Array:
    product = np.zeros(x.shape)
    product[:, t] = p
    return product


# Losses, one number for each sample


def _squared(a: Array, b: Array) -> Array:
    if a.shape != b.shape:
        raise ShapeError(
            f"its arguments have the shapes {a.shape} and {b.shape}, expected the same; "
            "a vector of one target for each sample is y[:, None]"
        )
    return _squared_norm(a - b)


def _squared_vjp(k: int, p: Array, z: Array, *arguments: Array) -> Array:
    difference = arguments[k] - arguments[1 - k]
    difference *= _columns(p, difference)
    return difference


squared = Primitive("squared", _squared, _squared_vjp)
"""1/2 |a - b|^2 of two arrays of one shape."""


def _squared_norm(a: Array) -> Array:
    rows = a.reshape(len(a), -1)
    return np.asarray(0.5 * np.einsum("ij,ij->i", rows, rows))


def _squared_norm_vjp(p: Array, z: Array, a: Array) -> Array:
    return _columns(p, a) * a


squared_norm = Primitive("squared-norm", _squared_norm, (_squared_norm_vjp,))
"""1/2 |a|^2 of each sample, the penalty on a variable."""


def _penalty(a: Array) -> Array:
    return np.asarray(0.5 * np.vdot(a, a))


def _penalty_vjp(p: Array, z: Array, a: Array) -> Array:
    return p * a


penalty = Primitive("penalty", _penalty, (_penalty_vjp,))
"""1/2 |a|^2 of a parameter, one number: weight decay as a cost."""


def _logistic(a: Array, y: Array) -> Array:
    y = np.asarray(y)
    if a.shape != y.shape:
        raise ShapeError(
            f"its logits have the shape {a.shape} and its labels {y.shape}, expected the same; "
            "a vector of labels is y[:, None] to logits of one column"
        )
    if np.any((y < 0) | (y > 1)):
        raise ArgumentError("its labels reach outside [0, 1]; write labels -1 and 1 as (y + 1) / 2")
    # log(1 + exp(a)) - y a, without the cancellation at y = 1 and large a.
    loss = np.maximum(a, 0.0) - y * a + np.log1p(np.exp(-np.abs(a)))
    return np.asarray(loss.reshape(len(a), -1).sum(axis=1))


def _logistic_vjp(p: Array, z: Array, a: Array, y: Array) -> Array:
    slope = _expit(a)
    slope -= y
    slope *= _columns(p, slope)
    return slope


logistic = Primitive("logistic", _logistic, (_logistic_vjp, None))
"""-y log(s) - (1 - y) log(1 - s), with s the sigmoid of the logits a and labels y in [0, 1]."""


def _softmax_cross_entropy(a: Array, y: Any) -> Array:
    _check_labels(a, y)
    shifted = a - a.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(a)), y])


def _softmax_cross_entropy_vjp(p: Array, z: Array, a: Array, y: Any) -> Array:
    slope: Array = np.exp(a - a.max(axis=1, keepdims=True))
    slope /= slope.sum(axis=1, keepdims=True)
    slope[np.arange(len(a)), y] -= 1.0
    slope *= p[:, None]
    return slope


softmax_cross_entropy = Primitive(
    "softmax-cross-entropy", _softmax_cross_entropy, (_softmax_cross_entropy_vjp, None)
)
"""-log of the softmax of the logits a (batch, classes) at the labels y (batch,), whole numbers."""


def _check_labels(a: Array, y: Any) -> None:
    if y.dtype.kind not in "iu":
        raise DtypeError(
            f"its labels are {y.dtype}, expected the whole numbers of the classes; try y.astype(int)"
        )
    if a.ndim != 2 or y.shape != a.shape[:1]:
        raise ShapeError(
            f"its logits have the shape {a.shape} and its labels {y.shape}, expected "
            "(batch, classes) and (batch,); labels of the one-hot kind are y.argmax(axis=1)"
        )
    if y.min() < 0 or y.max() >= a.shape[1]:
        raise ArgumentError(
            f"its labels lie between {y.min()} and {y.max()}, expected classes from 0 to "
            f"{a.shape[1] - 1}, one for each of the {a.shape[1]} columns of the logits"
        )


def _columns(p: Array, like: Array) -> Array:
    """The numbers p (batch,) with as many axes as `like` (batch, ...)."""
    return p.reshape(-1, *(1,) * (like.ndim - 1))


def _summed(p: Array, shape: tuple[int, ...]) -> Array:
    """Sum p over the axes along which an argument of this shape was repeated."""
    if p.shape == shape:
        return p
    p = p.sum(axis=tuple(range(p.ndim - len(shape))))
    repeated = tuple(i for i, length in enumerate(shape) if length == 1 != p.shape[i])
    return np.asarray(p.sum(axis=repeated, keepdims=True))
