"""The first and second derivatives of NumPy's functions of each entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


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
OF_ENTRIES: dict[Any, tuple[tuple[Callable[..., Any], ...], _Curvatures]] = {
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
