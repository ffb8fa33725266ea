"""Tests that a user's own operators and gradients must pass: the dot test and the Taylor test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import EPS, Array, check_finite, check_shape, real_array
from lqrad.errors import ArgumentError, NonFiniteError, ShapeError

# Remainders below this many rounding errors of the value say nothing of the order.
_ROUNDINGS = 1000.0


def dot_test(
    forward: Callable[[Array], Array],
    transpose: Callable[[Array], Array],
    shape: tuple[int, ...],
    *,
    rng: np.random.Generator | None = None,
) -> float:
    """Return how far `transpose` is from being the transpose of the linear map `forward`.

    For random u and v it compares <L u, v> with <u, L'v>, relative to |L u| |v| + |u| |L'v|. A
    true transpose gives a few rounding errors, below 1e-13; a wrong one gives its relative error
    over the square root of the number of entries, as random vectors are nearly orthogonal.

    Parameters
    ----------
    forward : callable
        u -> L u, from arrays of the given shape.
    transpose : callable
        v -> L'v, from arrays of the shape of L u.
    shape : tuple of int
        The shape of u.
    rng : numpy.random.Generator, optional
        Where u and v come from; a fixed seed when not given.

    Returns
    -------
    float

    Raises
    ------
    ShapeError
        If L'v has not the shape of u.
    NonFiniteError
        If a result is not finite.

    References
    ----------
    Claerbout, Earth Soundings Analysis: Processing versus Inversion, 1992 (the dot-product test).

    Examples
    --------
    >>> A = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 4.0]])
    >>> dot_test(lambda u: A @ u, lambda v: A.T @ v, (2,)) < 1e-15
    True
    >>> dot_test(lambda u: A @ u, lambda v: -A.T @ v, (2,)) > 0.1
    True
    """
    rng = np.random.default_rng(0) if rng is None else rng
    u = rng.normal(size=shape)
    Lu = real_array("forward(u)", forward(u.copy()))
    v = rng.normal(size=Lu.shape)
    Lv = real_array("transpose(v)", transpose(v.copy()))
    if Lv.shape != u.shape:
        raise ShapeError(
            f"transpose(v) has shape {Lv.shape}, expected {u.shape}, that of the argument of forward"
        )
    size = np.linalg.norm(Lu) * np.linalg.norm(v) + np.linalg.norm(u) * np.linalg.norm(Lv)
    if not math.isfinite(size):
        raise NonFiniteError("forward(u) or transpose(v) is not finite for a random argument")
    return float(abs(np.vdot(Lu, v) - np.vdot(u, Lv)) / size) if size else 0.0


@dataclass(frozen=True)
class TaylorTest:
    """Remainders of a Taylor expansion over shrinking steps, and the order that they show.

    Attributes
    ----------
    steps : (k,)
        Step lengths h along a unit direction.
    remainders : (k,)
        |J(z + h d) - J(z) - h g'd|, with - h^2/2 d'H d where a Hessian was given.
    order : float
        The observed power of h in the remainders: 2 for a right gradient, 3 with a right Hessian,
        1 for a wrong gradient; infinity where they vanish to rounding, as they do for a quadratic
        with its Hessian.
    """

    steps: Array
    remainders: Array
    order: float


def taylor_test(
    value_and_gradient: Callable[[Array], tuple[float, Array]],
    z: ArrayLike,
    *,
    hessian_product: Callable[[Array, Array], Array] | None = None,
    direction: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> TaylorTest:
    """Check a gradient, and a Hessian product, by the order of the Taylor remainder.

    Parameters
    ----------
    value_and_gradient : callable
        z -> (J(z), dJ/dz), such as that of an `Objective`.
    z : array
        Where to expand.
    hessian_product : callable, optional
        (z, v) -> H v.
    direction : array of the shape of z, optional
        Along which to expand; random when not given.
    rng : numpy.random.Generator, optional
        Where the direction comes from; a fixed seed when not given.

    Returns
    -------
    TaylorTest

    Raises
    ------
    ShapeError
        If the gradient, the product or the direction has not the shape of z.
    NonFiniteError
        If J, its gradient or the product is not finite at z, or J as soon as one leaves it.
    ArgumentError
        If the direction is zero.

    References
    ----------
    Farrell, Ham, Funke and Rognes, Automated derivation of the adjoint of high-level transient
    finite element programs, SIAM J. Sci. Comput. 35, 2013, section 6.1 (the Taylor remainder
    convergence test).

    Examples
    --------
    >>> J = lambda z: (float(np.exp(z).sum()), np.exp(z))
    >>> round(taylor_test(J, [0.1, -0.2]).order, 1)
    2.0
    >>> wrong = lambda z: (float(np.exp(z).sum()), 1.01 * np.exp(z))
    >>> taylor_test(wrong, [0.1, -0.2]).order < 1.5
    True
    """
    z = real_array("z", z)
    check_finite("z", z)
    if direction is None:
        direction = (np.random.default_rng(0) if rng is None else rng).normal(size=z.shape)
    d = real_array("direction", direction)
    check_shape("direction", d, z.shape, "that of z")
    check_finite("direction", d)
    if not d.any():
        raise ArgumentError("direction is zero, expected a direction to expand along")
    value, gradient = (np.array(part) for part in value_and_gradient(z.copy()))
    product = None if hessian_product is None else np.array(hessian_product(z.copy(), d.copy()))
    known = [("J(z)", value, ()), ("the gradient", gradient, z.shape)]
    if product is not None:
        known.append(("the Hessian product", product, z.shape))
    for name, array, expected in known:
        check_shape(name, array, expected, "to match z" if expected else "for a number")
        if not np.isfinite(array).all():
            raise NonFiniteError(f"{name} is not finite; expand at another z")
    slope = float(np.vdot(gradient, d))
    bend = 0.0 if product is None else float(np.vdot(product, d))
    steps = 0.5 ** np.arange(1.0, 13.0)
    remainders = np.empty_like(steps)
    rounding = np.empty_like(steps)
    for i, h in enumerate(steps):
        there = float(value_and_gradient(z + h * d)[0])
        terms = [there, -float(value), -h * slope, -0.5 * h * h * bend]
        remainders[i] = abs(math.fsum(terms))
        rounding[i] = _ROUNDINGS * EPS * max(map(abs, terms))
    if not math.isfinite(remainders[-1]):
        raise NonFiniteError(f"J is not finite {steps[-1]:g} of the direction from z")
    return TaylorTest(
        steps * float(np.linalg.norm(d)), remainders, _order(steps, remainders, rounding)
    )


def _order(steps: Array, remainders: Array, rounding: Array) -> float:
    """The slope of log remainder over log step at the smallest steps above rounding."""
    trusted = np.flatnonzero(remainders > rounding)
    if len(trusted) < 2:
        return math.inf
    tail = trusted[-4:]
    return float(np.polyfit(np.log(steps[tail]), np.log(remainders[tail]), 1)[0])
