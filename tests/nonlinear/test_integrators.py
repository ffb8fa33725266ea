"""Steps of differential equations: their orders, their invariants, and exact derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm
from slopes import hessian, jacobian

from lqrad.errors import ArgumentError, LqradError, NonFiniteError, ShapeError
from lqrad.nonlinear.integrators import euler, implicit_midpoint, rk4

STEPS = {"euler": (euler, 1), "rk4": (rk4, 4), "implicit midpoint": (implicit_midpoint, 2)}


def forced(x, u, t):
    """dx/dt = -x + cos t, whose solution from 0.5 is (cos t + sin t) / 2."""
    return -x + np.cos(t) + 0 * u


@pytest.mark.parametrize("name", STEPS)
def test_the_error_falls_with_the_order_also_where_time_enters(name):
    make, order = STEPS[name]
    errors = []
    for count in (20, 40):
        step, x = make(forced, 1 / count), np.array([0.5])
        for k in range(count):
            x = step(x, np.zeros(1), k)
        errors.append(abs(x[0] - (np.cos(1) + np.sin(1)) / 2))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_substeps_are_shorter_steps():
    x, u = np.array([0.3]), np.zeros(1)
    fine = rk4(forced, 0.1)
    np.testing.assert_allclose(
        rk4(forced, 0.2, substeps=2)(x, u, 3), fine(fine(x, u, 6), u, 7), rtol=1e-15
    )


def test_the_midpoint_step_of_linear_dynamics_is_cayleys():
    F, G = np.array([[0.0, 1.0], [-4.0, -0.1]]), np.array([[0.0], [1.0]])
    step = implicit_midpoint(lambda x, u: x @ F.T + u @ G.T, 0.1)
    z = np.random.default_rng(0).normal(size=(5, 3))
    AB = jacobian(lambda p: step(p[..., :2], p[..., 2:], 0), z)
    inverse = np.linalg.inv(np.eye(2) - 0.05 * F)
    A, B = inverse @ (np.eye(2) + 0.05 * F), 0.1 * inverse @ G
    np.testing.assert_allclose(AB, np.broadcast_to(np.hstack([A, B]), AB.shape), atol=1e-14)
    assert np.linalg.norm(A - expm(0.1 * F)) < 2e-3


@pytest.mark.parametrize("name", STEPS)
def test_derivatives_are_those_of_the_step_by_differences(name):
    def f(x, u):
        return np.stack([x[..., 1], np.sin(3 * x[..., 0]) * (1 + u[..., 0])], axis=-1)

    step = STEPS[name][0](f, 0.2)
    z = np.random.default_rng(1).normal(size=(4, 3))
    found = jacobian(lambda p: step(p[..., :2], p[..., 2:], 0), z)
    h = 1e-5
    moved = [[step(p[..., :2], p[..., 2:], 0) for p in (z + h * e, z - h * e)] for e in np.eye(3)]
    rough = np.stack([(ahead - behind) / (2 * h) for ahead, behind in moved], axis=-1)
    np.testing.assert_allclose(found, rough, atol=1e-8)


@pytest.mark.parametrize("name", STEPS)
def test_second_derivatives_are_those_of_first_ones_by_differences(name):
    def f(x, u):
        return np.stack([x[..., 1], np.sin(3 * x[..., 0]) * (1 + u[..., 0])], axis=-1)

    step, h = STEPS[name][0](f, 0.2), 1e-5
    z = np.random.default_rng(2).normal(size=(4, 3))

    def one(p):
        return step(p[..., :2], p[..., 2:], 0)[..., 1]

    slopes = [(jacobian(one, z + h * e) - jacobian(one, z - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(hessian(one, z), np.stack(slopes, axis=-1), atol=1e-8)


@pytest.mark.parametrize("size", [2.0**-60, 2.0**40])
def test_the_midpoint_step_is_the_same_in_any_units(size):
    def rates(x, u, unit=1.0):
        y = x / unit
        return unit * np.stack([y[..., 1] - y[..., 0] ** 3, np.cos(y[..., 0]) - y[..., 1]], axis=-1)

    x = np.random.default_rng(3).normal(size=(6, 2))
    one = implicit_midpoint(rates, 0.3)(x, np.zeros((6, 1)), 0)
    other = implicit_midpoint(lambda x, u: rates(x, u, size), 0.3)(size * x, np.zeros((6, 1)), 0)
    np.testing.assert_array_equal(other, size * one)


def test_stiff_dynamics_are_stable_and_energy_is_kept():
    step = implicit_midpoint(lambda x, u: -1e6 * (x - np.cos(u)), 0.1)
    x = np.array([2.0])
    for k in range(50):
        x = step(x, np.zeros(1), k)
    assert abs(x[0]) < 3


def test_dynamics_with_a_kink_are_solved():
    step = implicit_midpoint(lambda x, u: -np.abs(x) * x, 0.1)
    z = step(np.array([1.0]), np.zeros(1), 0)
    assert z[0] == pytest.approx(1 - 0.1 * ((1 + z[0]) / 2) ** 2, abs=1e-12)


@pytest.mark.parametrize("make", [euler, rk4, implicit_midpoint])
def test_bad_steps_are_refused(make):
    for dt in (0.0, -1.0, np.inf, "1"):
        with pytest.raises(LqradError, match="dt is"):
            make(forced, dt)
    with pytest.raises(ArgumentError, match="f takes 1 arguments"):
        make(lambda x: x, 0.1)
    with pytest.raises(ArgumentError, match="substeps is 0"):
        rk4(forced, 0.1, substeps=0)


def test_an_equation_without_a_solution_is_named():
    step = implicit_midpoint(lambda x, u: 1 + 100 * x**2, 1.0)
    with pytest.raises(
        NonFiniteError, match=r"found no next state .* with dt = 1; try a smaller dt"
    ):
        step(np.array([1.0]), np.zeros(1), 0)


@pytest.mark.parametrize("make", [euler, rk4, implicit_midpoint])
def test_rates_of_another_shape_are_not_added_in_silence(make):
    """x[..., 0] is one number, and every entry of x would take it."""
    step = make(lambda x, u: x[..., 0], 0.1)
    with pytest.raises(
        ShapeError, match=r"f returned shape \(\), expected that of x, \(2,\): dx/dt"
    ):
        step(np.ones(2), np.ones(1), 0)
    # A time for each point, not brought to their shape: (T,) times (T, 1) is (T, T).
    step = make(lambda x, u, t: u * np.cos(t) - x, 0.1)
    with pytest.raises(ShapeError, match=r"f returned shape \(3, 3\), expected .* \(3, 1\)"):
        step(np.ones((3, 1)), np.ones((3, 1)), np.arange(3))
