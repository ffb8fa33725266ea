"""Tests that a user's own operators and gradients must pass: the dot test and the Taylor test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    EPS,
    Array,
    check_finite,
    check_function,
    check_generator,
    check_lengths,
    check_shape,
    real_array,
)
from lqrad.descent.objective import read_answer
from lqrad.errors import ArgumentError, NonFiniteError, ShapeError
from lqrad.results import Report

# Remainders below this many rounding errors of the value say nothing of the order.
_ROUNDINGS = 1000.0
_STEPS = 0.5 ** np.arange(1.0, 13.0)
# Factors of the direction that are tried where it cannot tell; a given one is not made longer.
_SHORTER = (2.0**-6, 2.0**-12)
_LONGER = (2.0**10, 2.0**20, 2.0**30)
_NEAR = 1e-4  # a step so short beside z leaves no remainder of any function
_HIDDEN = "an error of one per cent"


def dot_test(
    forward: Callable[[Array], Array],
    transpose: Callable[[Array], Array],
    shape: tuple[int, ...],
    *,
    rng: np.random.Generator | int | None = None,
) -> float:
    """Return how far `transpose` is from being the transpose of the linear map `forward`.

    For random u and v it compares <L u, v> with <u, L'v>, relative to |L u| |v| + |u| |L'v|. A
    true transpose gives a few rounding errors, below 1e-13; a wrong one gives its relative error
    over the square root of the number of entries, as random vectors are nearly orthogonal.

    Parameters
    ----------
    forward, transpose : callable
        u -> L u, of arrays of the given shape, and v -> L'v, of arrays of the shape of L u.
    shape : tuple of int
    rng : Generator or int, optional
        Where u and v come from; a fixed seed when not given.

    See Also
    --------
    taylor_test : the same question for a gradient of a function that is not linear.

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
    check_function("forward", forward)
    check_function("transpose", transpose)
    rng = check_generator(0 if rng is None else rng)
    u = rng.normal(size=check_lengths("shape", shape))
    Lu = real_array("forward(u)", forward(u.copy()))
    v = rng.normal(size=Lu.shape)
    Lv = real_array("transpose(v)", transpose(v.copy()))
    if Lv.shape != u.shape:
        raise ShapeError(
            f"transpose(v) has shape {Lv.shape}, expected {u.shape}, that of the argument of forward"
        )
    largest = max(np.abs(Lu).max(initial=0.0), np.abs(Lv).max(initial=0.0))
    if not (np.isfinite(Lu).all() and np.isfinite(Lv).all()):
        raise NonFiniteError("forward(u) or transpose(v) is not finite for a random argument")
    if not largest:
        return 0.0
    Lu, Lv = Lu / largest, Lv / largest  # whose squares neither overflow nor vanish
    size = np.linalg.norm(Lu) * np.linalg.norm(v) + np.linalg.norm(u) * np.linalg.norm(Lv)
    return float(abs(np.vdot(Lu, v) - np.vdot(u, Lv)) / size)


@dataclass(frozen=True)
class TaylorTest(Report):
    """Remainders of a Taylor expansion over shrinking steps, and the order that they show.

    Attributes
    ----------
    steps : (k,)
        Step lengths h along a unit direction.
    remainders : (k,)
        |J(z + h d) - J(z) - h g'd|, with - h^2/2 d'H d where a Hessian was given.
    order : float
        The observed power of h in the remainders: 2 for a right gradient, 3 with a right Hessian,
        1 for a wrong gradient; infinity where they vanish to rounding though the steps are long and
        an error of one per cent would be seen, as for a quadratic with its Hessian; NaN where the
        steps cannot tell.
    message : str
        What was seen, and why the steps cannot tell.
    """

    steps: Array
    remainders: Array
    order: float
    message: str = ""


@np.errstate(over="ignore", invalid="ignore")  # looked for in what comes out
def taylor_test(
    value_and_gradient: Callable[[Array], tuple[float, Array]],
    z: ArrayLike,
    *,
    hessian_product: Callable[[Array, Array], Array] | None = None,
    direction: ArrayLike | None = None,
    rng: np.random.Generator | int | None = None,
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
        Along which to expand, and how far at most; when not given random, each entry in units of
        that of z.
    rng : Generator or int, optional
        Where the direction comes from; a fixed seed when not given.

    Raises
    ------
    NonFiniteError
        If J, its gradient or the product is not finite at z, or J as soon as one leaves it.

    See Also
    --------
    dot_test : the same question for a linear map and its transpose.

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
    check_function("value_and_gradient", value_and_gradient)
    if hessian_product is not None:
        check_function("hessian_product", hessian_product)
    z = real_array("z", z)
    check_finite("z", z)
    scales: tuple[float, ...] = _SHORTER
    if direction is None:
        size = np.where(z != 0, np.abs(z), np.abs(z).max(initial=0.0) or 1.0)
        direction = check_generator(0 if rng is None else rng).normal(size=z.shape) * size
        scales = _SHORTER + _LONGER
    d = real_array("direction", direction)
    check_shape("direction", d, z.shape, "that of z")
    check_finite("direction", d)
    if not d.any():
        raise ArgumentError("direction is zero, expected a direction to expand along")
    value, gradient = read_answer(value_and_gradient(z.copy()), z.shape, "value_and_gradient")
    known = {"J(z)": np.array(value), "the gradient": gradient}
    slope, bend = float(np.vdot(gradient, d)), None
    if hessian_product is not None:
        known["the Hessian product"] = product = np.array(hessian_product(z.copy(), d.copy()))
        check_shape("the Hessian product", product, z.shape, "to match z")
        bend = float(np.vdot(product, d))
    for name, array in known.items():
        if not np.isfinite(array).all():
            raise NonFiniteError(f"{name} is not finite; expand at another z")
    check_finite("what J changes by along direction", np.array([slope, bend or 0.0]), computed=True)

    def expanded(scale: float) -> TaylorTest:
        values = [float(value_and_gradient(z + scale * h * d)[0]) for h in _STEPS]
        near = scale * np.abs(d).max() < _NEAR * np.abs(z).max(initial=0.0)
        bent = None if bend is None else scale**2 * bend
        return _expanded(values, float(value), scale * slope, bent, scale * d, near)

    first = expanded(1.0)
    if not math.isfinite(first.remainders[-1]):
        raise NonFiniteError(f"J is not finite {_STEPS[-1]:g} of the direction from z")
    # Shorter steps where the curvature hides an error of the gradient, longer ones in rounding.
    tries = (first, *map(expanded, scales)) if math.isnan(first.order) else (first,)
    return next((test for test in tries if not math.isnan(test.order)), first)


def _expanded(
    values: list[float], value: float, slope: float, bend: float | None, d: Array, near: bool
) -> TaylorTest:
    """The remainders at the steps, and what they say of an error of one per cent."""
    known = [_STEPS * slope] + ([] if bend is None else [0.5 * _STEPS**2 * bend])
    terms = np.array([values, np.full_like(_STEPS, -value), *(-term for term in known)])
    remainders = np.array([abs(math.fsum(column)) for column in terms.T])
    rounding = _ROUNDINGS * EPS * np.abs(terms).max(axis=0)
    seen = np.flatnonzero(remainders > rounding)
    steps = _STEPS * float(np.linalg.norm(d))

    def verdict(order: float, message: str) -> TaylorTest:
        return TaylorTest(steps, remainders, order, message)

    if len(seen) < 2:
        if not terms.any() or (
            not near and all(0.01 * abs(term[0]) > rounding[0] for term in known)
        ):
            return verdict(math.inf, "the remainder vanishes to rounding")
        return verdict(math.nan, f"cannot tell: {_HIDDEN} is within the rounding of J")
    tail = seen[-4:]
    order = float(np.polyfit(np.log(steps[tail]), np.log(remainders[tail]), 1)[0])
    last = tail[-1]
    if order > len(known) + 0.5 and 0 < 0.01 * abs(known[-1][last]) < remainders[last]:
        return verdict(math.nan, f"cannot tell: {_HIDDEN} is below the terms of higher order")
    return verdict(order, f"the remainder falls as h^{order:.2f}")
