"""Systems with outputs, alone and against other packages."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.signal

import lqrad
from lqrad import ArgumentError, DtypeError, NonFiniteError, ShapeError, StateSpace

MATRICES = ([[0.9, 0.1], [0.0, 0.8]], [[0.0], [1.0]], [[1.0, 0.0], [1.0, 1.0]], [[0.0], [0.5]])


@pytest.mark.parametrize("seed", range(6))
def test_a_simulation_is_a_loop_over_its_equations(seed):
    rng = np.random.default_rng(seed)
    n, m, ny = (int(z) for z in rng.integers(1, 5, size=3))
    system = StateSpace(
        rng.normal(size=(n, n)) / 2,
        rng.normal(size=(n, m)),
        rng.normal(size=(ny, n)),
        rng.normal(size=(ny, m)),
        dt=0.5,
    )
    u, x0 = rng.normal(size=(3, 7, m)), rng.normal(size=n)
    x, y = system.simulate(x0, u)
    assert x.shape == (3, 8, n)
    for run in range(3):
        state = x0
        for t in range(7):
            output = system.C @ state + system.D @ u[run, t]
            np.testing.assert_allclose(y[run, t], output, rtol=1e-10, atol=1e-12)
            state = system.A @ state + system.B @ u[run, t]
            np.testing.assert_allclose(x[run, t + 1], state, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dt", [0.0, 0.2])
def test_the_response_is_that_of_python_control(dt):
    control = pytest.importorskip("control")
    system = StateSpace(*MATRICES, dt=dt)
    omega = np.array([0.1, 1.0, 7.0])
    theirs = control.ss(*MATRICES, dt).frequency_response(omega).complex
    np.testing.assert_allclose(
        system.response(omega), np.moveaxis(np.reshape(theirs, (2, 1, 3)), -1, 0), rtol=1e-12
    )


@pytest.mark.parametrize("dt", [0.0, 0.2])
def test_there_and_back_bit_for_bit(dt):
    control = pytest.importorskip("control")
    system = StateSpace(*MATRICES, dt=dt)
    for other in (system.to_control(), system.to_scipy()):
        back = StateSpace.of(other)
        for name in ("A", "B", "C", "D"):
            np.testing.assert_array_equal(getattr(back, name), getattr(system, name))
        assert back.dt == dt
    assert isinstance(system.to_control(), control.StateSpace)
    unused = StateSpace(np.diag([0.5, 0.0]), [[1.0], [0.0]], [[1.0, 0.0]], dt=0.1)
    assert unused.to_control().nstates == 2  # no state is dropped on the way


def test_every_form_of_scipy():
    for dt in (None, 0.1):
        kind, options = (scipy.signal.lti, {}) if dt is None else (scipy.signal.dlti, {"dt": dt})
        for arguments in (([1.0], [1.0, 2.0]), ([], [-0.5], 1.0)):
            system = StateSpace.of(kind(*arguments, **options))
            assert system.dt == (dt or 0.0)


def test_what_is_known_of_time():
    control = pytest.importorskip("control")
    unknown = control.ss(*MATRICES, None)
    with pytest.raises(ArgumentError, match=r"sampling time \(dt is None\); pass StateSpace.of\("):
        StateSpace.of(unknown)
    assert StateSpace.of(unknown, dt=0.3).dt == 0.3
    discrete = control.ss(*MATRICES, True)
    with pytest.raises(ArgumentError, match=r"sampling time \(dt is True\)"):
        StateSpace.of(discrete, dt=0.0)
    assert StateSpace.of(discrete, dt=0.3).dt == 0.3
    with pytest.raises(ArgumentError, match=r"dt is 0\.3, but the system has its own, 0\.1"):
        StateSpace.of(StateSpace(*MATRICES, dt=0.1).to_scipy(), dt=0.3)
    system = lqrad.systems.aircraft()
    assert StateSpace.of(system).dt == system.dt


def test_poles_and_stability():
    discrete = StateSpace(np.diag([0.5, -0.9]), np.ones((2, 1)), dt=1.0)
    np.testing.assert_array_equal(discrete.poles, [-0.9, 0.5])
    assert discrete.is_stable
    assert not StateSpace([[1.0]], [[1.0]], dt=1.0).is_stable
    continuous = StateSpace(np.diag([-9.0, -0.5]), np.ones((2, 1)), dt=0)
    np.testing.assert_array_equal(continuous.poles, [-0.5, -9.0])
    assert continuous.is_stable
    assert not StateSpace([[0.0]], [[1.0]], dt=0).is_stable


def test_refusals():
    with pytest.raises(ShapeError, match=r"C has shape \(1, 3\), expected \(ny, n\) with n = 2"):
        StateSpace(*MATRICES[:2], [[1.0, 0.0, 0.0]], dt=0.1)
    with pytest.raises(ShapeError, match=r"D has shape \(1, 1\), expected \(ny, m\) = \(2, 1\)"):
        StateSpace(*MATRICES[:3], [[1.0]], dt=0.1)
    with pytest.raises(ArgumentError, match=r"dt is -0\.1, expected a number of at least 0"):
        StateSpace(*MATRICES, dt=-0.1)
    with pytest.raises(DtypeError, match="dt is None, expected a real number"):
        StateSpace(*MATRICES, dt=None)
    with pytest.raises(ShapeError, match="A or B varies in time"):
        StateSpace(np.zeros((2, 1, 1)), [[1.0]], dt=0.1)
    with pytest.raises(ArgumentError, match="in continuous time"):
        StateSpace(*MATRICES, dt=0).simulate(np.zeros((3, 1)))
    system = StateSpace(*MATRICES, dt=0.1)
    with pytest.raises(
        ShapeError, match=r"u has shape \(3, 2\), expected \(\.\.\., T, m\) with m = 1"
    ):
        system.simulate(np.zeros((3, 2)))
    with pytest.raises(ShapeError, match="their leading axes, the batch, do not fit"):
        system.simulate(np.zeros((4, 2)), np.zeros((2, 3, 1)))
    with pytest.raises(NonFiniteError, match="u"):
        system.simulate([[np.nan]])
    with pytest.raises(ArgumentError, match="system is a list without the attributes A and B"):
        StateSpace.of([1, 2])


def wide_system(rng):
    """Modes from 1e-3 to 1e9 rad/s in chains or companion form, repeated or not, in random units."""
    n, m, ny = (int(k) for k in rng.integers(1, [9, 3, 3]))
    dt = float(10 ** rng.uniform(-9, 1) * (rng.random() < 0.5))
    rates = 10 ** rng.uniform(-3, 9, size=n)
    if rng.random() < 0.3:
        rates[:] = rates[0]
    if rng.random() < 0.4:
        A = np.eye(n, k=1)
        A[-1] = -np.poly(np.exp(-rates * dt) if dt else -rates)[:0:-1]
    else:
        size = np.minimum(rates * dt, 2) if dt else rates
        A = np.diag(-size * rng.choice([1, 1, 0], size=n)) + np.eye(n) * (dt > 0)
        A[np.arange(n - 1), np.arange(1, n)] = size[1:] * rng.integers(0, 2, size=n - 1)
    B, C, D = rng.normal(size=(n, m)), rng.normal(size=(ny, n)), rng.normal(size=(ny, m))
    B[rng.integers(n)] *= rng.integers(2)
    d, e, f = (2.0 ** rng.integers(-40, 41, size=k) for k in (n, m, ny))
    top = np.pi / dt if dt else 1e10
    omega = np.concatenate([[0.0], top * 10 ** rng.uniform(-13, 0, size=3)])
    system = A * d / d[:, None], B / d[:, None] * e, C * d / f[:, None], D * e / f[:, None]
    return system, dt, int(rng.choice([0, 1, 1000])) * (dt > 0), omega


def exact_response(A, B, C, D, dt, delay, omega):
    """With sixty digits; infinite where that is singular."""
    with mpmath.workdps(60):
        z = mpmath.expj(mpmath.mpf(omega) * dt) if dt else mpmath.mpc(0, omega)
        A, B, C, D = (mpmath.matrix(part.tolist()) for part in (A, B, C, D))
        try:
            G = C * (mpmath.inverse(z * mpmath.eye(A.rows) - A) * B) + D
        except ZeroDivisionError:
            return np.full((D.rows, D.cols), np.inf + 0j)
        return np.array((G * z**-delay).tolist(), dtype=complex)


@pytest.mark.parametrize("seed", range(60))
def test_responses_of_modes_over_twelve_decades_in_any_units(seed):
    rng = np.random.default_rng(seed)
    system, dt, delay, omega = wide_system(rng)
    found = StateSpace(*system, dt=dt, delay=delay).response(omega)
    for k, w in enumerate(omega):
        right = exact_response(*system, dt, delay, w)
        if np.isinf(right).any():  # a pole, which an entry may not see
            beside = exact_response(*system, dt, delay, w + 1e-30)
            right = np.where(np.abs(beside) > 1e15 * np.abs(system[3]), right, beside)
        # What changes in the last digit of every entry do to it.
        error = 1e-12 * np.abs(right)
        for _ in range(3):
            other = (
                part * (1 + rng.choice([-1, 1], size=part.shape) * 2.0**-52) for part in system
            )
            with np.errstate(invalid="ignore"):  # of two that are infinite
                change = np.abs(exact_response(*other, dt, delay, w) - right)
            error = np.maximum(error, 20 * np.where(np.isnan(change), np.inf, change))
        sure = error < np.abs(right)
        assert (np.abs(found[k][sure] - right[sure]) <= error[sure]).all()


def test_a_pole_is_infinite_only_where_its_states_join_an_input_to_an_output():
    A, B = np.diag([0.0, -1.0, -2.0]), np.eye(3)[:, :2]
    found = StateSpace(A, B, np.eye(3), dt=0).response([0.0, 1.0])
    assert found[0].tolist() == [[np.inf, 0], [0, 1], [0, 0]]
    assert found[1, 1, 1] == pytest.approx(0.5 - 0.5j)


def test_initial_states_come_first_and_the_former_order_is_taken_where_shapes_tell_it():
    rng = np.random.default_rng(0)
    for n, m in ((2, 1), (2, 2), (1, 1)):
        system = StateSpace(0.5 * np.eye(n), np.ones((n, m)), dt=0.1)
        x0, u = rng.normal(size=n), rng.normal(size=(4, m))
        right = system.simulate(x0=x0, u=u)
        zero = system.simulate(np.zeros(n), u)
        assert not np.array_equal(right[0], zero[0])
        for found in (
            system.simulate(x0, u),
            system.simulate(u, x0),
            system.simulate(u, x0=x0),
            system.simulate(x0, u=u),
        ):
            np.testing.assert_array_equal(found[0], right[0])
        for found in (system.simulate(u), system.simulate(u=u), system.simulate(None, u)):
            np.testing.assert_array_equal(found[0], zero[0])
    square = StateSpace(0.5 * np.eye(2), np.eye(2), dt=0.1)
    runs, u = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    with pytest.raises(ArgumentError, match="of which either may be the other's; name them"):
        square.simulate(runs, u)
    assert square.simulate(x0=runs, u=u)[0].shape == (3, 5, 2)
