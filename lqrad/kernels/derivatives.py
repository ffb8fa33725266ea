"""Derivatives of functions of points: exact to rounding by complex steps, else by differences.

    d f / d z[j]  =  Im f(z + i h e[j]) / h        no difference is taken, so h may be tiny

A function maps points (..., d) to values (..., k), point by point. All directions of all points are
evaluated in one call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from lqrad.arguments import EPS, Array

Function = Callable[[Any], Any]  # points (..., d), real or complex -> values (..., k) or (...)

_COMPLEX_STEP = 1e-100
_CENTRAL_STEP = EPS ** (1 / 3)
_SECOND_STEP = EPS ** (1 / 4)  # of a second difference of values
# Derivatives that disagree with differences by more than this were not made for complex numbers.
_DISAGREEMENT = 1e-4
_ASIDE = 1e-3


def takes_complex(function: Function, z: Array) -> bool:
    """Whether complex steps through a function at the points z (..., d) give its derivatives.

    They do not where it raises, drops imaginary parts, or is not analytic, as |z| is not. This is
    found by comparing one direction with a difference, a little off the points, which may all lie
    on a kink, such as that of max(z, 0); a tenth of the values may disagree.

    Examples
    --------
    >>> takes_complex(np.sin, np.array([[1.0, 2.0]])), takes_complex(np.abs, np.array([[1.0, 2.0]]))
    (True, False)
    """
    rng = np.random.default_rng(0)
    d = rng.choice([-1.0, 1.0], size=z.shape[-1]) * _scale(z)
    z = z + _ASIDE * _scale(z) * rng.normal(size=z.shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            stepped = np.asarray(function(z + 1j * _COMPLEX_STEP * d))
    except (TypeError, ValueError, np.exceptions.ComplexWarning):
        return False
    if not np.iscomplexobj(stepped):
        return False
    ahead, behind = (np.asarray(function(z + step * d)) for step in (_CENTRAL_STEP, -_CENTRAL_STEP))
    slope = (ahead - behind) / (2 * _CENTRAL_STEP)
    size = np.abs(slope) + np.abs(ahead) + np.abs(behind)
    apart = np.abs(stepped.imag / _COMPLEX_STEP - slope) > _DISAGREEMENT * size
    return float(np.mean(apart)) <= 0.1


def jacobian(function: Function, z: Array, *, exact: bool = True) -> Array:
    """Return the derivatives (..., k, d), or (..., d) of values (...), at the points z (..., d).

    Parameters
    ----------
    function : callable
    z : (..., d)
    exact : bool
        By complex steps; else by central differences, to about ten digits.

    References
    ----------
    Squire and Trapp, Using complex variables to estimate derivatives of real functions, SIAM Review
    40 (1998), 110-112.

    Examples
    --------
    >>> jacobian(lambda z: z**2, np.array([3.0, 5.0]))
    array([[ 6.,  0.],
           [ 0., 10.]])
    """
    directions, width = _directions(z)
    if exact:
        values = np.asarray(function(z + 1j * _COMPLEX_STEP * directions)).imag / _COMPLEX_STEP
    else:
        steps = _CENTRAL_STEP * width[..., None] * directions
        ahead, behind = (np.asarray(function(z + step)) for step in (steps, -steps))
        values = (ahead - behind) / (2 * _CENTRAL_STEP * _like(width, ahead))
    return np.asarray(np.moveaxis(values, 0, -1), dtype=np.float64)


def hessian(function: Function, z: Array, *, exact: bool = True) -> Array:
    """Return the second derivatives (..., d, d) of values (...) at the points z (..., d).

    By central differences of complex steps, to about ten digits, and to all of a quadratic; without
    complex steps by second differences of values, to about seven.

    Parameters
    ----------
    function : callable
    z : (..., d)
    exact : bool
        Whether complex steps may be taken.

    References
    ----------
    Lai and Crassidis, Extensions of the first and second complex-step derivative approximations,
    Journal of Computational and Applied Mathematics 219 (2008), 276-293.

    Examples
    --------
    >>> hessian(lambda z: z[..., 0] ** 2 * z[..., 1], np.array([1.0, 2.0])).round(6)
    array([[4., 2.],
           [2., 0.]])
    """
    directions, width = _directions(z)
    if exact:
        steps = _CENTRAL_STEP * width[..., None] * directions
        ahead, behind = (jacobian(function, z + step) for step in (steps, -steps))
        values = (ahead - behind) / (2 * _CENTRAL_STEP * width[..., None])
        rows = np.moveaxis(values, 0, -2)
        return np.asarray(0.5 * (rows + rows.swapaxes(-1, -2)))
    steps = _SECOND_STEP * width[..., None] * directions
    first, second = steps[:, None], steps[None]
    values = sum(
        sign * np.asarray(function(z + a * first + b * second))
        for sign, a, b in ((1, 1, 1), (-1, 1, -1), (-1, -1, 1), (1, -1, -1))
    )
    values = values / (4 * _SECOND_STEP**2 * width[:, None] * width[None])
    return np.asarray(np.moveaxis(values, (0, 1), (-2, -1)), dtype=np.float64)


def _scale(z: Array) -> Array:
    """What a step in each entry is measured by."""
    return np.maximum(1.0, np.abs(z))


def _directions(z: Array) -> tuple[Array, Array]:
    """The unit vectors (d, ..., d), ready to be added to all points, and the scales (d, ...)."""
    d = z.shape[-1]
    unit = np.eye(d).reshape(d, *[1] * (z.ndim - 1), d)
    return unit, np.moveaxis(_scale(z), -1, 0)


def _like(width: Array, values: Array) -> Array:
    """The widths (d, ...), with the axes of the values (d, ..., k) where they have more."""
    return width.reshape(width.shape + (1,) * (values.ndim - width.ndim))
