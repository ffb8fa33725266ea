"""The example systems against their physics: equations of motion, closed forms, published numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

from lqrad import systems
from lqrad.errors import LqradError, ShapeError
from lqrad.lq.problem import LQProblem

EVERY_SYSTEM = [pytest.param(make(), id=name) for name, make in systems.SYSTEMS.items()]


def continuous(system):
    """F and G of dx/dt = F x + G u, by the logarithm of [A B; 0 I]."""
    n, m = system.B.shape
    transition = np.block([[system.A, system.B], [np.zeros((m, n)), np.eye(m)]])
    generator = scipy.linalg.logm(transition).real / system.dt
    return generator[:n, :n], generator[:n, n:]


# The equations of motion, before any linearisation.


def double_integrator_motion(x, u):
    return np.array([x[1], u[0]])


def pendulum_motion(x, u):
    """The Michigan tutorial's equations, whose angle is measured from the hanging position."""
    M, m, b, length, inertia, g = 0.5, 0.2, 0.1, 0.3, 0.006, 9.8
    _, velocity, lean, rate = x
    angle = np.pi + lean
    masses = np.array(
        [[M + m, m * length * np.cos(angle)], [m * length * np.cos(angle), inertia + m * length**2]]
    )
    forces = np.array(
        [
            u[0] - b * velocity + m * length * rate**2 * np.sin(angle),
            -m * g * length * np.sin(angle),
        ]
    )
    acceleration, angular_acceleration = np.linalg.solve(masses, forces)
    return np.array([velocity, acceleration, rate, angular_acceleration])


def chain_motion(x, u):
    N, mass, k, c = 6, 1.0, 1.0, 0.1
    y, v = x[:N], x[N:]
    acceleration = np.zeros(N)
    for j in range(N):
        force = u[0] if j == 0 else 0.0
        for neighbour in (j - 1, j + 1):
            inside = 0 <= neighbour < N
            force += k * ((y[neighbour] if inside else 0.0) - y[j])
            force += c * ((v[neighbour] if inside else 0.0) - v[j])
        acceleration[j] = force / mass
    return np.concatenate([v, acceleration])


def aircraft_motion(x, u):
    forward, down, rate, pitch = x
    elevator, thrust = u
    return np.array(
        [
            -0.003 * forward + 0.039 * down - 0.322 * pitch + 0.01 * elevator + thrust,
            -0.065 * forward - 0.319 * down + 7.74 * rate - 0.18 * elevator - 0.04 * thrust,
            0.020 * forward - 0.101 * down - 0.429 * rate - 1.16 * elevator + 0.598 * thrust,
            rate,
        ]
    )


def quadrotor_motion(x, u):
    """Newton and Euler for a rigid body whose thrust points along its own z axis."""
    mass, g = 0.028, 9.81
    J = np.array([16.571710e-6, 16.655602e-6, 29.261652e-6])
    velocity, pitch, omega = x[3:6], x[7], x[9:12]
    thrust, moments = mass * g + u[0], 1e-3 * u[1:]
    (cr, cp, cy), (sr, sp, sy) = np.cos(x[6:9]), np.sin(x[6:9])
    body_z = np.array([cr * sp * cy + sr * sy, cr * sp * sy - sr * cy, cr * cp])
    angle_rates = np.array(
        [
            omega[0] + np.tan(pitch) * (sr * omega[1] + cr * omega[2]),
            cr * omega[1] - sr * omega[2],
            (sr * omega[1] + cr * omega[2]) / cp,
        ]
    )
    acceleration = thrust / mass * body_z - [0, 0, g]
    angular = (moments - np.cross(omega, J * omega)) / J
    return np.concatenate([velocity, acceleration, angle_rates, angular])


MOTIONS = {
    "double-integrator": double_integrator_motion,
    "inverted-pendulum": pendulum_motion,
    "mass-spring-chain": chain_motion,
    "aircraft": aircraft_motion,
    "quadrotor": quadrotor_motion,
}


@pytest.mark.parametrize("name", MOTIONS)
def test_a_sample_is_the_derivative_of_the_motion_over_one_step(name):
    """A and B against central differences of the equations of motion, integrated over dt."""
    system = systems.SYSTEMS[name]()
    n, m = system.B.shape
    step = 1e-4

    def after_dt(z):
        result = scipy.integrate.solve_ivp(
            lambda _, x: MOTIONS[name](x, z[n:]),
            (0, system.dt),
            z[:n],
            method="DOP853",
            rtol=1e-12,
            atol=1e-15,
        )
        return result.y[:, -1]

    np.testing.assert_allclose(after_dt(np.zeros(n + m)), np.zeros(n), atol=1e-14)  # equilibrium
    columns = [(after_dt(step * e) - after_dt(-step * e)) / (2 * step) for e in np.eye(n + m)]
    # The differences are wrong by step^2 times a third derivative, relative to each column.
    scale = np.abs(np.hstack([system.A, system.B])).max(axis=0)
    wrong = np.abs(np.array(columns).T - np.hstack([system.A, system.B])) / scale
    assert wrong.max() < 20 * step**2


@pytest.mark.parametrize("name", MOTIONS)
def test_two_short_steps_make_one_long_step(name):
    make = systems.SYSTEMS[name]
    whole = make()
    half = make(dt=whole.dt / 2)
    np.testing.assert_allclose(half.A @ half.A, whole.A, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose((half.A + np.eye(len(half.A))) @ half.B, whole.B, rtol=1e-12)


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_every_system_is_complete(system):
    n, m = system.B.shape
    assert system.A.shape == system.Q.shape == system.S.shape == (n, n)
    assert system.R.shape == (m, m)
    assert system.x0.shape == (n,)
    assert len(system.state_names) == len(system.state_units) == n
    assert len(system.input_names) == len(system.input_units) == m
    assert len(set(system.state_names)) == n
    assert all(system.state_units + system.input_units)
    assert system.source
    assert system.name in repr(system)


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_every_system_goes_by_its_name(name):
    assert systems.SYSTEMS[name]().name == name


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_the_problem_has_the_matrices_of_the_system(system):
    problem = system.problem()
    assert isinstance(problem, LQProblem)
    for name in "ABQRS":
        np.testing.assert_array_equal(getattr(problem, name), getattr(system, name))


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_every_system_is_controllable(system):
    """Popov, Belevitch and Hautus: [A - z I, B] has full row rank at every eigenvalue z."""
    n = len(system.A)
    for z in np.linalg.eigvals(system.A):
        pencil = np.hstack([system.A - z * np.eye(n), system.B])
        assert np.linalg.svd(pencil, compute_uv=False)[-1] > 1e-6


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_the_horizon_gives_time_to_settle(system):
    A, B, Q, R, P = system.A, system.B, system.Q, system.R, system.S
    gains = []
    for _ in range(system.T):
        K = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
        P = Q + K.T @ R @ K + (A - B @ K).T @ P @ (A - B @ K)
        gains.append(K)
    x = system.x0
    for K in reversed(gains):
        x = (A - B @ K) @ x
    assert x @ Q @ x < 0.1**2 * (system.x0 @ Q @ system.x0)


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_nothing_in_a_system_can_be_changed(system):
    with pytest.raises(ValueError, match="read-only"):
        system.A[0, 0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        system.dt = 1.0


def test_weights_follow_brysons_rule():
    pendulum = systems.inverted_pendulum()
    np.testing.assert_allclose(pendulum.Q, np.diag([1 / 0.2**2, 1 / 1.0**2] * 2))
    np.testing.assert_allclose(pendulum.R, [[1 / 5.0**2]])
    np.testing.assert_array_equal(pendulum.S, pendulum.Q)


def test_double_integrator_moves_by_half_a_t_squared():
    system = systems.double_integrator(dt=0.2)
    np.testing.assert_allclose(system.A, [[1, 0.2], [0, 1]], rtol=1e-15)
    np.testing.assert_allclose(system.B, [[0.02], [0.2]], rtol=1e-15)


def test_pendulum_has_the_published_matrices_and_poles():
    """As the tutorial prints them, to four decimals."""
    F, G = continuous(systems.inverted_pendulum())
    published = [[0, 1, 0, 0], [0, -0.1818, 2.6727, 0], [0, 0, 0, 1], [0, -0.4545, 31.1818, 0]]
    np.testing.assert_allclose(F, published, atol=6e-5)
    np.testing.assert_allclose(G, [[0], [1.8182], [0], [4.5455]], atol=6e-5)
    poles = np.sort(np.linalg.eigvals(F).real)
    np.testing.assert_allclose(poles, [-5.6041, -0.1428, 0, 5.5651], atol=6e-5)


def test_a_frictionless_point_mass_on_a_cart_falls_at_the_textbook_rate():
    """Eigenvalues 0, 0 and the two roots of (gravity / length) (1 + pendulum_mass / cart_mass)."""
    system = systems.inverted_pendulum(
        cart_mass=2.0, pendulum_mass=0.5, length=0.4, inertia=0, friction=0, gravity=9.81
    )
    rate = np.sqrt(9.81 / 0.4 * (1 + 0.5 / 2.0))
    expected = np.exp(system.dt * np.array([-rate, rate]))
    found = np.sort(np.linalg.eigvals(system.A).real)[[0, -1]]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("N", [1, 2, 6, 25])
def test_chain_vibrates_in_the_modes_of_a_loaded_string(N):
    """Mode j has s^2 + (c s + k) / mass * 4 sin(j pi / (2 N + 2))^2 = 0."""
    mass, k, c, dt = 2.0, 3.0, 0.1, 0.3
    system = systems.mass_spring_chain(N, mass=mass, stiffness=k, damping=c, dt=dt)
    found = np.linalg.eigvals(system.A)
    for j in range(1, N + 1):
        shape = 4 * np.sin(j * np.pi / (2 * N + 2)) ** 2
        for s in np.roots([1, c * shape / mass, k * shape / mass]):
            assert np.abs(found - np.exp(s * dt)).min() < 1e-12


def test_an_undamped_chain_keeps_its_energy():
    N, mass, k = 9, 2.0, 3.0
    system = systems.mass_spring_chain(N, mass=mass, stiffness=k, damping=0)

    def energy(x):
        stretch = np.diff(x[:N], prepend=0.0, append=0.0)
        return 0.5 * mass * x[N:] @ x[N:] + 0.5 * k * stretch @ stretch

    x = system.x0
    for _ in range(1000):
        x = system.A @ x
    assert energy(x) == pytest.approx(energy(system.x0), rel=1e-11)


def test_the_force_on_a_chain_accelerates_its_first_mass():
    _, G = continuous(systems.mass_spring_chain(3, mass=4.0))
    np.testing.assert_allclose(G[:, 0], [0, 0, 0, 1 / 4.0, 0, 0], atol=1e-14)


def test_a_chain_has_time_for_its_waves():
    """They travel at sqrt(stiffness / mass) masses per second, whatever the sampling time."""
    seconds = [
        chain.T * chain.dt
        for chain in (
            systems.mass_spring_chain(4),
            systems.mass_spring_chain(4, dt=0.25),
            systems.mass_spring_chain(8, stiffness=4.0),
            systems.mass_spring_chain(2, mass=4.0),
        )
    ]
    assert seconds == [20.0] * 4


@pytest.mark.parametrize("N", [1, 20, 100])
def test_a_chain_may_have_any_length(N):
    system = systems.mass_spring_chain(N)
    assert system.A.shape == (2 * N, 2 * N)
    assert np.abs(np.linalg.eigvals(system.A)).max() < 1


def test_aircraft_has_the_published_modes():
    """Short period and phugoid as printed in the EE263 lecture notes, to four decimals."""
    F, _ = continuous(systems.aircraft())
    published = [-0.3750 - 0.8818j, -0.3750 + 0.8818j, -0.0005 - 0.0674j, -0.0005 + 0.0674j]
    np.testing.assert_array_equal(np.sort_complex(np.linalg.eigvals(F)).round(4), published)


def test_aircraft_obeys_gravity_and_flies_at_774_feet_per_second():
    """One crad of pitch turns 0.01 g backwards; one crad/s of pitch rate turns the airspeed."""
    F, _ = continuous(systems.aircraft())
    assert F[0, 3] == pytest.approx(-0.01 * 32.2, rel=1e-10)
    assert F[1, 2] == pytest.approx(0.01 * 774, rel=1e-10)


def test_quadrotor_at_hover_is_a_set_of_chains_of_integrators():
    """A constant pitch moment moves it forward by gravity * moment / inertia * dt^4 / 24."""
    mass, inertia, g, dt = 0.5, (2e-3, 3e-3, 4e-3), 9.81, 0.1
    system = systems.quadrotor(mass=mass, inertia=inertia, gravity=g, dt=dt)
    expected = np.zeros((12, 4))
    expected[[2, 5], 0] = [dt**2 / 2 / mass, dt / mass]
    for column, (J, sign, axis) in enumerate(zip(inertia, (-g, g, 0), (1, 0, 0), strict=True), 1):
        angle = 5 + column
        expected[[angle, angle + 3], column] = [1e-3 / J * dt**2 / 2, 1e-3 / J * dt]
        expected[axis, column] = sign * 1e-3 / J * dt**4 / 24
        expected[axis + 3, column] = sign * 1e-3 / J * dt**3 / 6
    np.testing.assert_allclose(system.B, expected, rtol=1e-13, atol=1e-16)
    np.testing.assert_array_equal(np.linalg.matrix_power(system.A - np.eye(12), 4), 0)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("radius", [0, 0.5, 1.0, 1.7])
def test_random_system_has_the_spectral_radius_asked_for(n, radius):
    system = systems.random_system(n, 2, radius, rng=n)
    assert system.A.shape == (n, n)
    assert system.B.shape == (n, 2)
    assert np.abs(np.linalg.eigvals(system.A)).max() == pytest.approx(radius, rel=1e-12, abs=0)


def test_random_system_is_the_same_for_the_same_seed_only():
    first, again, other = (systems.random_system(rng=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.A, again.A)
    np.testing.assert_array_equal(first.B, again.B)
    np.testing.assert_array_equal(first.x0, again.x0)
    assert not np.array_equal(first.A, other.A)


def test_random_system_draws_from_the_generator_it_is_given():
    rng = np.random.default_rng(3)
    first, second = systems.random_system(rng=rng), systems.random_system(rng=rng)
    np.testing.assert_array_equal(first.A, systems.random_system(rng=3).A)
    assert not np.array_equal(first.A, second.A)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: systems.double_integrator(dt=0), "dt is 0, expected a positive number"),
        (lambda: systems.aircraft(dt=np.inf), "dt is inf, expected a positive number"),
        (lambda: systems.aircraft(dt="fast"), "dt is 'fast', expected a real number"),
        (lambda: systems.inverted_pendulum(length=-0.3), r"length is -0\.3, expected a positive"),
        (
            lambda: systems.inverted_pendulum(friction=-1),
            "friction is -1, expected a number of at least 0",
        ),
        (
            lambda: systems.mass_spring_chain(0),
            "masses is 0, expected a whole number of at least 1",
        ),
        (
            lambda: systems.mass_spring_chain(2.5),
            r"masses is 2\.5, expected a whole number of at least 1",
        ),
        (lambda: systems.mass_spring_chain(stiffness=0), "stiffness is 0, expected a positive"),
        (lambda: systems.mass_spring_chain(damping=np.nan), "damping is nan, expected a number"),
        (lambda: systems.quadrotor(mass=0), "mass is 0, expected a positive number"),
        (
            lambda: systems.quadrotor(inertia=(1.0, -1.0, 1.0)),
            r"inertia\[1\] is -1\.0, expected a positive number",
        ),
        (lambda: systems.random_system(n=0), "n is 0, expected a whole number of at least 1"),
        (lambda: systems.random_system(m=0), "m is 0, expected a whole number of at least 1"),
        (
            lambda: systems.random_system(spectral_radius=-0.1),
            r"spectral_radius is -0\.1, expected a number of at least 0",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(LqradError, match=message):
        make()


@pytest.mark.parametrize("inertia", [(1.0, 1.0), 1.0, np.eye(3)])
def test_a_quadrotor_has_three_moments_of_inertia(inertia):
    with pytest.raises(
        ShapeError, match=r"inertia has shape .*, expected \(3,\) for the x, y and z"
    ):
        systems.quadrotor(inertia=inertia)
