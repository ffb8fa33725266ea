"""The nonlinear systems against their physics: equations of motion, energy, equilibria, tasks."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import scipy.integrate

from lqrad import systems
from lqrad.descent.checks import taylor_test
from lqrad.errors import LqradError, NonFiniteError
from lqrad.nonlinear import systems as nonlinear
from lqrad.nonlinear.ilqr import ilqr

EVERY_SYSTEM = [pytest.param(make(), id=name) for name, make in nonlinear.NONLINEAR_SYSTEMS.items()]


# The equations of motion, from Lagrange's or Newton's, not solved for the accelerations by hand.


def pendulum_motion(x, u):
    angle, rate = x
    return np.array([rate, 9.81 * np.sin(angle) - 0.1 * rate + u[0]])


def cart_pole_motion(x, u):
    """Lagrange's equations of a cart and a uniform rod: a mass matrix, and forces."""
    M, m, half, g = 1.0, 0.1, 0.5, 9.8
    _, speed, angle, rate = x
    s, c = np.sin(angle), np.cos(angle)
    inertia = m * half**2 / 3  # of the rod about its centre
    masses = np.array([[M + m, m * half * c], [m * half * c, inertia + m * half**2]])
    forces = np.array([u[0] + m * half * rate**2 * s, m * g * half * s - 2e-6 * rate])
    acceleration, angular_acceleration = np.linalg.solve(masses, forces)
    return np.array([speed, acceleration, rate, angular_acceleration])


def quadrotor_motion(x, u):
    mass, arm, inertia, g = 0.486, 0.25, 0.00383, 9.81
    angle, velocity = x[2], x[3:5]
    axis = np.array([-np.sin(angle), np.cos(angle)])
    right = np.array([np.cos(angle), np.sin(angle)])
    places = [arm * right, -arm * right]
    force = sum(u) * axis - [0, mass * g]
    moment = sum(
        p[0] * (v * axis)[1] - p[1] * (v * axis)[0] for p, v in zip(places, u, strict=True)
    )
    return np.concatenate([velocity, [x[5]], force / mass, [moment / inertia]])


def van_der_pol_motion(x, u):
    return np.array([x[1], (1 - x[0] ** 2) * x[1] - x[0] + u[0]])


def unicycle_motion(x, u):
    direction = np.exp(1j * x[2])
    return np.array([u[0] * direction.real, u[0] * direction.imag, u[1]])


MOTIONS = {
    "pendulum": pendulum_motion,
    "cart-pole": cart_pole_motion,
    "quadrotor": quadrotor_motion,
    "van-der-pol": van_der_pol_motion,
    "unicycle": unicycle_motion,
}


def test_every_system_has_its_motion_here():
    assert MOTIONS.keys() == nonlinear.NONLINEAR_SYSTEMS.keys()


@pytest.mark.parametrize("name", MOTIONS)
def test_a_step_is_the_motion_over_dt(name):
    """To the fifth power of dt, by which a Runge-Kutta step of order four is wrong."""
    make = nonlinear.NONLINEAR_SYSTEMS[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=make().problem.n)
    u = rng.uniform(*make().bounds)
    wrong = []
    for dt in (0.02, 0.01):
        exact = scipy.integrate.solve_ivp(
            lambda _, z: MOTIONS[name](z, u), (0, dt), x, method="DOP853", rtol=1e-13, atol=1e-15
        ).y[:, -1]
        wrong.append(np.abs(make(dt=dt).problem.next_state(x, u, 0) - exact).max())
    assert wrong[0] < 1e-6
    assert wrong[1] < wrong[0] / 20 or wrong[0] < 1e-13


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_every_system_is_complete(system):
    n, m = system.problem.n, system.problem.m
    assert system.x0.shape == system.target.shape == (n,)
    assert system.bounds[0].shape == system.bounds[1].shape == (m,)
    assert (system.bounds[0] < system.bounds[1]).all()
    assert len(system.state_names) == len(system.state_units) == n
    assert len(system.input_names) == len(system.input_units) == m
    assert len(set(system.state_names)) == n
    assert all(system.state_units + system.input_units)
    assert len(set(system.portrait)) == 2
    assert max(system.portrait) < n
    assert system.source
    assert system.name in repr(system)
    assert nonlinear.NONLINEAR_SYSTEMS[system.name]().name == system.name


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_at_the_target_nothing_moves_and_nothing_costs(system):
    """With the inputs that hold it: half of the weight for each propeller, else none."""
    u = np.zeros((5, system.problem.m))
    if system.name == "quadrotor":
        u[:] = 0.5 * 0.486 * 9.81
    x = system.problem.simulate(system.target, u)
    np.testing.assert_allclose(x, np.broadcast_to(system.target, x.shape), atol=1e-14)
    assert system.problem.cost(x, u) == pytest.approx(0, abs=1e-25)
    low, high = system.bounds
    assert ((low < u) & (u < high)).all()


ACCEPTABLE = {  # deviations of the states and of the inputs, and the seconds that the last one is worth
    "pendulum": ([1, 4], [4], 100),
    "cart-pole": ([1, 5, 2, 10], [10], 1000),
    "quadrotor": ([1, 1, 0.5, 2, 2, 5], [2, 2], 10),
    "van-der-pol": ([1, 1], [1], 10),
    "unicycle": ([0.5, 0.5, 0.5], [1, 1], 100),
}


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_the_cost_counts_deviations_in_units_of_the_acceptable_ones(system):
    rng, (d, e, last) = np.random.default_rng(2), ACCEPTABLE[system.name]
    x, u = rng.normal(size=(4, system.problem.n)), rng.normal(size=(3, system.problem.m))
    rest = 0.5 * 0.486 * 9.81 if system.name == "quadrotor" else 0.0
    expected = 0.0
    for t in range(3):
        for deviation, unit in zip([*x[t], *(u[t] - rest)], d + e, strict=True):
            expected += system.dt / 2 * (deviation / unit) ** 2
    for deviation, unit in zip(x[3], d, strict=True):
        expected += last / 2 * (deviation / unit) ** 2
    assert system.problem.cost(x, u) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_zero_inputs_are_not_stationary(system):
    _, g = system.problem.value_and_gradient(system.x0, np.zeros((system.T, system.problem.m)))
    assert np.linalg.norm(g) > 1e-2


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_derivatives_are_exact_and_the_functions_take_batches(system):
    """No warning of differences, and one call for many points gives what many calls give."""
    problem, rng = system.problem, np.random.default_rng(1)
    x, u = rng.normal(size=(4, 6, problem.n)), rng.normal(size=(4, 6, problem.m))
    together = problem.f(x, u, np.arange(6))
    for i in np.ndindex(4, 6):
        np.testing.assert_allclose(together[i], problem.f(x[i], u[i], 0), rtol=1e-13, atol=1e-15)
    slopes = problem.derivatives(x[0, [0, 1, 2]], u[0, :2])
    assert set(problem.derivative_ways.values()) == {"exact"}
    h = 1e-6
    for j, e in enumerate(h * np.eye(problem.n)):
        difference = (problem.f(x[0, 0] + e, u[0, 0], 0) - problem.f(x[0, 0] - e, u[0, 0], 0)) / 2
        np.testing.assert_allclose(slopes.A[0, :, j], difference / h, atol=1e-8)


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_the_task_can_be_done(system):
    result = ilqr(system.problem, system.x0, T=system.T, bounds=system.bounds, tol=1e-6)
    assert result.status.converged
    assert np.abs(result.x[-1] - system.target).max() < 0.03


def energy(x, cart_mass=1.0, pole_mass=0.1, half=0.5, g=9.8):
    """Of cart and rod; that of the rod's points adds up by integration along it."""
    _, speed, angle, rate = np.moveaxis(x, -1, 0)
    along, weights = np.polynomial.legendre.leggauss(4)
    place = (half * (1 + along)).reshape(-1, *(1,) * speed.ndim)  # 0 to 2 half
    horizontal = speed + place * rate * np.cos(angle)
    vertical = -place * rate * np.sin(angle)
    rod = 0.5 * (horizontal**2 + vertical**2) + g * place * np.cos(angle)
    return 0.5 * cart_mass * speed**2 + pole_mass / 2 * np.tensordot(weights, rod, 1)


def test_a_cart_pole_without_friction_keeps_its_energy():
    system = nonlinear.cart_pole_swingup(pole_friction=0.0, dt=0.005)
    x = system.problem.simulate([0.0, 0.5, 2.0, 1.0], np.zeros((600, 1)))
    assert np.ptp(x[:, 2]) > 1
    np.testing.assert_allclose(energy(x), energy(x[0]), rtol=0, atol=1e-7)
    rubbed = nonlinear.cart_pole_swingup(pole_friction=0.01, dt=0.005)
    x = rubbed.problem.simulate([0.0, 0.5, 2.0, 1.0], np.zeros((600, 1)))
    assert energy(x[-1]) < energy(x[0]) - 1e-3


def test_upright_the_cart_pole_is_the_linear_one():
    """Its linearisation is the inverted pendulum's of the same rod, whose cart has no friction."""
    dt = 0.02
    plant = nonlinear.cart_pole_swingup(pole_friction=0.0, dt=dt)
    linear = systems.inverted_pendulum(
        cart_mass=1.0, pendulum_mass=0.1, length=0.5, inertia=0.1 / 12, friction=0.0, dt=dt
    )
    slopes = plant.problem.derivatives(np.zeros((2, 4)), np.zeros((1, 1)))
    # That one counts the angle the other way: a push to the right makes it grow.
    np.testing.assert_allclose(slopes.A[0], _mirrored(linear.A), atol=1e-6)
    np.testing.assert_allclose(slopes.B[0], _mirrored(linear.B), atol=1e-6)


def _mirrored(M):
    """With the angle counted the other way."""
    sign = np.array([1.0, 1.0, -1.0, -1.0])
    return sign[:, None] * M * (sign if M.shape[1] == 4 else 1.0)


def test_small_swings_of_a_hanging_pendulum_take_the_textbook_time():
    system = nonlinear.pendulum_swingup(length=0.5, damping=0.0, gravity=10.0, dt=0.001)
    x = system.problem.simulate([np.pi + 0.001, 0.0], np.zeros((2000, 1)))
    crossings = np.flatnonzero(np.diff(np.sign(x[:, 0] - np.pi)) < 0) * 0.001
    period = crossings[1] - crossings[0]
    assert period == pytest.approx(2 * np.pi * np.sqrt(0.5 / 10.0), abs=0.002)


def test_the_torque_is_too_weak_to_lift_the_pendulum():
    system = nonlinear.pendulum_swingup()
    assert system.bounds[1][0] < 9.81
    x = system.problem.simulate(system.x0, np.full((system.T, 1), system.bounds[1][0]))
    assert np.cos(x[:, 0]).max() < 0.5


def test_an_unforced_van_der_pol_oscillator_runs_onto_its_cycle():
    """Of amplitude 2.0086 and period 6.6633 at a nonlinearity of one, as is well known."""
    system = nonlinear.van_der_pol(dt=0.01)
    x = system.problem.simulate([0.1, 0.0], np.zeros((6000, 1)))[4000:]
    assert x[:, 0].max() == pytest.approx(2.00862, abs=1e-4)
    rising = np.flatnonzero((x[:-1, 0] < 0) & (x[1:, 0] >= 0))
    assert np.diff(rising)[0] * 0.01 == pytest.approx(6.6633, abs=0.011)


def test_a_unicycle_at_rest_cannot_be_moved_sideways_by_a_linear_feedback():
    system = nonlinear.unicycle_parking()
    slopes = system.problem.derivatives(np.zeros((2, 3)), np.zeros((1, 2)))
    assert np.linalg.matrix_rank(np.hstack([slopes.B[0], slopes.A[0] @ slopes.B[0]])) == 2


def test_parameters_reach_the_motion_and_the_bounds():
    light = nonlinear.cart_pole_swingup(cart_mass=0.5, max_force=3.0, dt=0.01)
    assert light.bounds[1] == 3.0
    assert light.T == 400
    push = light.problem.next_state(np.array([0, 0, np.pi, 0.0]), np.array([1.0]), 0)
    heavy = nonlinear.cart_pole_swingup(cart_mass=50.0, dt=0.01)
    assert push[1] > 50 * heavy.problem.next_state(heavy.x0, np.array([1.0]), 0)[1] > 0
    strong = nonlinear.planar_quadrotor(arm=0.5).problem.next_state(np.zeros(6), np.eye(2)[0], 0)
    usual = nonlinear.planar_quadrotor().problem.next_state(np.zeros(6), np.eye(2)[0], 0)
    assert strong[5] == pytest.approx(2 * usual[5])


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_nothing_in_a_system_can_be_changed(system):
    with pytest.raises(ValueError, match="read-only"):
        system.x0[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        system.bounds[1][0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        system.dt = 1.0
    json.dumps({"x0": system.x0.tolist(), "name": system.name, "units": system.state_units})


def test_a_start_that_is_not_finite_is_refused():
    with pytest.raises(NonFiniteError, match="x0"):
        dataclasses.replace(nonlinear.van_der_pol(), x0=[np.nan, 0.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nonlinear.pendulum_swingup(dt=0), "dt is 0, expected a positive number"),
        (lambda: nonlinear.pendulum_swingup(mass=-1), "mass is -1, expected a positive number"),
        (lambda: nonlinear.pendulum_swingup(damping=-1), "damping is -1, expected a number of at"),
        (lambda: nonlinear.cart_pole_swingup(max_force=np.inf), "max_force is inf, expected"),
        (lambda: nonlinear.cart_pole_swingup(half_length="a"), "half_length is 'a', expected"),
        (lambda: nonlinear.planar_quadrotor(inertia=0.0), r"inertia is 0\.0, expected a positive"),
        (
            lambda: nonlinear.planar_quadrotor(max_thrust=2.0),
            r"max_thrust is 2\.0, expected more than half the weight, 2\.384 N",
        ),
        (lambda: nonlinear.van_der_pol(nonlinearity=np.nan), "nonlinearity is nan, expected"),
        (lambda: nonlinear.unicycle_parking(max_turn=0), "max_turn is 0, expected a positive"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(LqradError, match=message):
        make()


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_the_taylor_remainder_of_every_gradient_has_order_two(system):
    u = np.random.default_rng(0).uniform(*system.bounds, size=(system.T, system.problem.m))
    objective = system.problem.objective(system.x0, system.T)
    assert taylor_test(objective.value_and_gradient, u).order == pytest.approx(2, abs=0.05)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no extended precision here")
@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_gradients_are_those_of_differences_in_extended_precision(system):
    """Over five steps, by a plain loop in 64-bit mantissas and differences of order six: to 1e-12."""
    problem, T = system.problem, 5
    rng = np.random.default_rng(1)
    x0 = system.x0 + 0.1 * rng.normal(size=problem.n)
    u = rng.uniform(*system.bounds, size=(T, problem.m))

    def cost(u):
        x, total = x0.astype(np.longdouble), np.longdouble(0)
        for t in range(T):
            total += problem.stage_cost(x, u[t], t)
            x = problem.f(x, u[t], t)
        return total + problem.terminal_cost(x)

    h, expected = np.longdouble(1e-3), np.empty_like(u)
    for index in np.ndindex(u.shape):
        e = np.zeros(u.shape, np.longdouble)
        e[index] = h
        slopes = [(cost(u + k * e) - cost(u - k * e)) / (2 * k * h) for k in (1, 2, 3)]
        expected[index] = (15 * slopes[0] - 6 * slopes[1] + slopes[2]) / 10
    J, g = problem.value_and_gradient(x0, u)
    assert pytest.approx(float(cost(u.astype(np.longdouble))), rel=1e-13) == J
    np.testing.assert_allclose(g, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
