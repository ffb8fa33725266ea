"""Derivatives of functions that stay in NumPy and that leave it, against those worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from slopes import hessian, jacobian

from lqrad.errors import ArgumentError, DtypeError
from lqrad.functions.derivatives import check_given, derivatives


def field(z):
    x, y = z[..., 0], z[..., 1]
    return np.stack([np.sin(x) * y, x**3, np.exp(x * y)], axis=-1)


def field_jacobian(z):
    x, y = z[..., 0], z[..., 1]
    e = np.exp(x * y)
    rows = [[np.cos(x) * y, np.sin(x)], [3 * x**2, 0 * x], [y * e, x * e]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def outside_numpy(function):
    """The same numbers, by a function that knows single points and plain numbers only."""
    return np.vectorize(lambda z: function(np.array(z)), signature="(d)->(k)")


def a_number_outside_numpy(function):
    return np.vectorize(lambda z: float(function(np.array(z))), signature="(d)->()")


@pytest.mark.parametrize("shape", [(2,), (7, 2), (3, 4, 2)])
def test_jacobians_are_those_worked_out(shape):
    z = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose(jacobian(field, z), field_jacobian(z), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("size", [2.0**-70, 1.0, 2.0**70])
def test_differences_are_those_worked_out_in_any_units(size):
    z = np.random.default_rng(1).normal(size=(7, 2))
    found, way = derivatives(outside_numpy(lambda y: field(y / size)), size * z)
    assert way == "differences"
    scale = np.abs(field_jacobian(z)).max(axis=0)
    assert (np.abs(found * size - field_jacobian(z)) <= 1e-8 * scale).all()


def test_hessians_are_those_worked_out_and_symmetric():
    z = np.random.default_rng(2).normal(size=(6, 2))
    x, y = z.T
    s, c = np.sin(x * y), np.cos(x * y)
    expected = np.array([[-(y**2) * s, c - x * y * s], [c - x * y * s, -(x**2) * s]])
    expected = np.moveaxis(expected, -1, 0)

    def product(p):
        return np.sin(p[..., 0] * p[..., 1])

    np.testing.assert_allclose(hessian(product, z), expected, rtol=1e-13, atol=1e-14)
    rough, way = derivatives(a_number_outside_numpy(product), z, order=2)
    assert way == "differences"
    np.testing.assert_allclose(rough, expected, atol=1e-5)
    np.testing.assert_array_equal(rough, rough.swapaxes(-1, -2))


def test_entries_that_are_zero_everywhere_need_no_unit():
    """Differences try all steps there."""
    for unit in (1e-9, 1.0, 1e9):
        f = a_number_outside_numpy(lambda z, unit=unit: math.sin(z[0] / unit) + (z[1] / unit) ** 2)
        slope, _ = derivatives(f, np.zeros((3, 2)))
        np.testing.assert_allclose(slope * unit, [[1.0, 0.0]] * 3, atol=1e-6)


# What cannot be told from differences is refused

COARSE = {
    "its values": lambda z: float(np.float32(math.sin(z[0]) * math.exp(z[1]))),
    "its arguments": lambda z: math.sin(np.float32(z[0])) * math.exp(np.float32(z[1])),
    "half precision of a part": lambda z: (
        z[0] + 0.1 * float(np.float16(math.sin(3 * z[0]) * math.exp(z[1])))
    ),
    "a part of it": lambda z: z[0] + 0.1 * float(np.float32(math.sin(z[0]) * math.exp(z[1]))),
}


@pytest.mark.parametrize("function", COARSE.values(), ids=COARSE)
@pytest.mark.parametrize("seed", range(5))
def test_single_precision_inside_a_function_is_found_out(function, seed):
    z = np.random.default_rng(seed).normal(size=(6, 2))
    with pytest.raises(ArgumentError, match=r"the derivative of phi\[\d\] in (x|u) is not known"):
        derivatives(a_number_outside_numpy(function), z, name="phi", entries=["x", "u"])


def test_single_precision_of_a_result_is_named():
    with pytest.raises(DtypeError, match="f returned float32, expected float64"):
        derivatives(lambda z: np.sin(z.astype(np.float32)), np.ones((3, 1)), name="f")


REFUSED = {
    "a jump": (lambda z: float(math.floor(z[0])), [[1.0], [2.5]]),
    "a kink near": (lambda z: abs(z[0] - 1e-7), [[2e-7], [1.0]]),
    "a value that hides its changes": (lambda z: 1e14 + z[0], [[1.0], [2.0]]),
    "NaN": (lambda z: math.nan, [[1.0], [2.0]]),
    "a steep root": (lambda z: math.copysign(math.sqrt(abs(z[0])), z[0]), [[0.0], [1.0]]),
}


@pytest.mark.parametrize(("function", "z"), REFUSED.values(), ids=REFUSED)
def test_what_differences_do_not_agree_on_is_refused(function, z):
    with pytest.raises(ArgumentError, match="is not known: the function leaves NumPy"):
        derivatives(a_number_outside_numpy(function), np.array(z))


@pytest.mark.parametrize("aside", [0.0, 1e-9, -1e-9])
def test_a_curvature_that_jumps_at_or_beside_a_point_is_refused(aside):
    f = a_number_outside_numpy(lambda z: max(z[0] - 1 - aside, 0) ** 2 + math.sin(z[0]))
    with pytest.raises(
        ArgumentError, match=r"the second derivative of the function.* is not known"
    ):
        derivatives(f, np.array([[1.0], [2.0]]), order=2)


def test_a_small_slope_beside_a_large_value_is_found():
    f = a_number_outside_numpy(lambda z: 1e4 + 0.02 * abs(z[0]) + z[1])
    found, _ = derivatives(f, np.array([[1.0, 2.0], [-3.0, 1.0]]))
    np.testing.assert_allclose(found, [[0.02, 1.0], [-0.02, 1.0]], rtol=1e-6)


def test_a_slope_is_found_whose_steps_drown_in_what_they_are_added_to():
    z = np.array([[np.pi, 2e-15], [np.pi, -1e-15]])  # a pendulum that hangs, all but at rest
    swing = outside_numpy(lambda z: np.array([z[0] + 0.05 * z[1], z[1] - 0.5 * math.sin(z[0])]))
    slope = np.array([[1.0, 0.05], [0.5, 1.0]])
    np.testing.assert_allclose(derivatives(swing, z)[0], [slope, slope], rtol=1e-9)


def test_an_exact_derivative_that_overflows_is_found_by_differences():
    """1 / (1 + exp(800)) is 0, as are its derivatives; exp(800) is infinite."""
    fence = lambda z: 1 / (1 + np.exp(-100 * (z[..., 0] - 11)))  # noqa: E731
    found, way = derivatives(fence, np.array([[3.0], [4.0]]))
    assert way == "differences"
    np.testing.assert_allclose(found, 0.0, atol=1e-290)


def test_a_function_that_asks_what_it_is_given_is_differenced():
    def f(z):
        return np.sin(z) if isinstance(z, np.ndarray) else 0 * z

    found, way = derivatives(f, np.array([[0.5], [1.5]]))
    assert way == "differences"
    np.testing.assert_allclose(found[..., 0], np.cos([[0.5], [1.5]]), rtol=1e-8)


# Derivatives that are given


@pytest.mark.parametrize("way", ["exact", "differences"])
@pytest.mark.parametrize("size", [2.0**-40, 1.0, 2.0**40])
def test_one_wrong_component_of_given_derivatives_is_found(way, size):
    z = np.random.default_rng(3).normal(size=(7, 2)) * [size, 1.0]

    def function(y):
        return field(y / [size, 1.0])

    if way == "differences":
        function = outside_numpy(function)
    right = field_jacobian(z / [size, 1.0]) / [size, 1.0]
    check_given(function, z, right, name="slope", of="f")
    for k, j in np.ndindex(3, 2):
        wrong = right.copy()
        wrong[4, k, j] += 1e-3 * np.abs(wrong[4, :, j]).max()
        with pytest.raises(ArgumentError, match=rf"slope is wrong: that of f\[4, {k}\] in entry"):
            check_given(function, z, wrong, name="slope", of="f")
    wrong = np.where(right == right[2, 0, 1], np.nan, right)
    with pytest.raises(ArgumentError, match="nan is given"):
        check_given(function, z, wrong, name="slope", of="f")


def test_complex_numbers_in_between_are_left_to_differences():
    z = np.array([[0.3, -0.4], [1.0, 2.0]])
    slope, way = derivatives(lambda z: np.abs(z[..., 0] + 1j * z[..., 1]), z)
    assert way == "differences"
    np.testing.assert_allclose(slope, z / np.linalg.norm(z, axis=-1, keepdims=True), rtol=1e-8)


def test_known_values_are_not_computed_again_and_may_differ_by_rounding():
    calls = []

    def f(z):
        calls.append(type(z))
        return (1e8 + z**2) - 1e8

    z = np.array([[0.5, 0.7], [3.0, -2.0]])
    exact, way = derivatives(f, z, value=f(z))
    assert (way, len(calls)) == ("exact", 2)
    np.testing.assert_array_equal(exact, 2 * z[..., None] * np.eye(2))
    found, way = derivatives(f, z, value=f(z) + 1e-8)  # as of sums in another order
    assert way == "exact"
    np.testing.assert_array_equal(found, exact)
