"""Step responses, against definitions by loops and python-control."""

from __future__ import annotations

import numpy as np
import pytest

import lqrad
from lqrad import ArgumentError, StateSpace


def stable_system(seed, *, ny=1, m=1):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    A = rng.normal(size=(n, n))
    A *= rng.uniform(0.3, 0.97) / np.abs(np.linalg.eigvals(A)).max()
    return StateSpace(
        A, rng.normal(size=(n, m)), rng.normal(size=(ny, n)), rng.normal(size=(ny, m)), dt=0.2
    )


@pytest.mark.parametrize("seed", range(15))
def test_figures_are_those_of_their_definitions(seed):
    system = stable_system(seed, ny=2, m=2)
    found = lqrad.step_response(system)
    for i in range(2):
        for j in range(2):
            x, path = np.zeros(system.n), []
            for _ in range(len(found.t)):
                path.append(float(system.C[i] @ x + system.D[i, j]))
                x = system.A @ x + system.B[:, j]
            y = np.array(path)
            np.testing.assert_allclose(found.y[:, i, j], y, rtol=1e-9, atol=1e-11)
            end = found.final[i, j]
            assert abs(y[-1] - end) < 1e-2 * np.abs(y).max()
            scaled = y / end
            rise = next(k for k, v in enumerate(scaled) if v >= 0.9)
            rise -= next(k for k, v in enumerate(scaled) if v >= 0.1)
            assert found.rise[i, j] == pytest.approx(0.2 * rise)
            settled = max([k + 1 for k, v in enumerate(scaled) if abs(v - 1) > 0.02], default=0)
            if settled < len(y):
                assert found.settling[i, j] == pytest.approx(0.2 * settled)
            assert found.overshoot[i, j] == pytest.approx(100 * max(max(scaled) - 1, 0), abs=1e-9)
            assert found.undershoot[i, j] == pytest.approx(100 * max(-min(scaled), 0), abs=1e-9)
            assert found.peak[i, j] == pytest.approx(y[np.abs(y).argmax()], rel=1e-12)
            if found.overshoot[i, j] > 1e-6:  # else it only creeps up to its end
                assert found.peak_time[i, j] == pytest.approx(0.2 * np.abs(y).argmax())


@pytest.mark.parametrize("seed", range(15))
def test_overshoot_and_peak_are_those_of_python_control(seed):
    control = pytest.importorskip("control")
    system = stable_system(seed)
    T = 400
    found = lqrad.step_response(system, T=T)
    theirs = control.step_info(system.to_control(), T=0.2 * np.arange(T + 1))
    assert found.final[0, 0] == pytest.approx(theirs["SteadyStateValue"], rel=1e-9)
    assert found.overshoot[0, 0] == pytest.approx(theirs["Overshoot"], rel=1e-9, abs=1e-9)
    assert abs(found.peak[0, 0]) == pytest.approx(abs(theirs["Peak"]), rel=1e-9)
    if theirs["Overshoot"] > 1e-6:  # else it only creeps up to its end
        assert found.peak_time[0, 0] == pytest.approx(theirs["PeakTime"], rel=1e-9)


def test_an_output_that_ends_at_zero_has_a_peak_and_no_per_cents():
    washout = StateSpace([[0.5]], [[1.0]], [[-0.5]], [[1.0]], dt=0.1)
    found = lqrad.step_response(washout)
    assert found.final[0, 0] == 0.0
    assert np.isnan([found.rise, found.settling, found.overshoot, found.undershoot]).all()
    assert found.peak[0, 0] == 1.0


def test_words():
    found = lqrad.step_response(stable_system(2, ny=2))
    lines = found.table().splitlines()
    assert len(lines) == 4
    assert repr(found) == f"<StepResponse: 2 outputs, 1 inputs, {found.t[-1]:.4g} s>"
    with pytest.raises(
        ArgumentError, match=r"the system has the pole 1.*its response does not settle"
    ):
        lqrad.step_response(StateSpace([[1.0]], [[1.0]], dt=0.1))
    with pytest.raises(ArgumentError, match="the system is in continuous time"):
        lqrad.step_response(StateSpace([[-1.0]], [[1.0]], dt=0))
    with pytest.raises(ArgumentError, match="T is 0"):
        lqrad.step_response(StateSpace([[0.5]], [[1.0]], dt=0.1), T=0)


def test_a_slow_pole_settles_when_its_closed_form_does():
    """2 % are left of 0.999999^t when t ln 0.999999 = ln 0.02, millions of steps on."""
    system = StateSpace(np.diag([0.999999, 0.5]), [[1e-6], [0.0]], [[1.0, 1.0]], dt=1e-3)
    found = lqrad.step_response(system)
    steps = np.ceil(np.log(0.02) / np.log(0.999999))
    assert found.settling[0, 0] == pytest.approx(1e-3 * steps, rel=1e-6)
    rise = np.log(0.1) / np.log(0.999999) - np.log(0.9) / np.log(0.999999)
    assert found.rise[0, 0] == pytest.approx(1e-3 * rise, rel=1e-5)
    assert len(found.t) < 20_000


def test_a_cancelled_integrator_does_not_count():
    system = StateSpace(np.diag([0.5, 1.0]), [[0.5], [1.0]], [[1.0, 0.0]], dt=0.1)
    assert lqrad.step_response(system).final[0, 0] == pytest.approx(1.0, rel=1e-14)


def test_a_delay_shifts_the_response():
    late = StateSpace([[0.8]], [[0.2]], dt=0.1, delay=30)
    plain = StateSpace(late.A, late.B, late.C, late.D, dt=0.1)
    found, right = lqrad.step_response(late, T=100), lqrad.step_response(plain, T=100)
    np.testing.assert_allclose(found.y, right.y, atol=1e-15)
    assert found.settling == right.settling


def test_modes_that_no_input_moves_or_no_output_shows_do_not_count():
    """Though one grows, and would overflow before the slow mode has settled."""
    system = StateSpace(np.diag([0.9999, 1.1, 2.0]), [[1.0], [1.0], [0.0]], [[1.0, 0, 1]], dt=1.0)
    found, right = (
        lqrad.step_response(s) for s in (system, StateSpace([[0.9999]], [[1.0]], dt=1.0))
    )
    np.testing.assert_array_equal(found.y, right.y)
    assert repr(found) == repr(right)


@pytest.mark.parametrize("seed", range(8))
def test_long_responses_are_those_of_every_step_in_any_units(seed):
    rng = np.random.default_rng(seed)
    turn, slow, r = rng.uniform(2e-4, 1.6e-3), 1 - 10 ** rng.uniform(-5, -4.3), 1 - 1e-4
    A = np.zeros((3, 3))
    A[:2, :2] = r * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    A[2, 2] = slow
    B, C = rng.normal(size=(3, 1)) * (1 - np.diag(A))[:, None], rng.normal(size=(1, 3))
    d = 2.0 ** rng.integers(-40, 41, size=3)
    found = lqrad.step_response(
        StateSpace(A * d / d[:, None], B / d[:, None], C * d, dt=1.0, delay=7)
    )
    T = int(found.t[-1])
    every = lqrad.step_response(StateSpace(A, B, C, dt=1.0, delay=7), T=T)
    steps = found.t.astype(int)
    scale = np.abs(every.y).max()
    np.testing.assert_allclose(found.y, every.y[steps], rtol=0, atol=1e-9 * scale)
    assert len(steps) < 0.6 * T
    for name in ("rise", "settling"):
        assert abs(getattr(found, name) - getattr(every, name)) <= 1
    for name in ("overshoot", "undershoot"):
        assert getattr(found, name) == pytest.approx(getattr(every, name), abs=2e-2, rel=1e-3)


def test_a_pole_that_rounds_to_minus_one_does_not_settle():
    A = [[0.00265715300014035, -0.1582749380983511], [0.00453933245165958, -1.0007165585570745]]
    plant = lqrad.StateSpace(A, [[0.44], [0.0]], [[0.0, 1.0]], dt=0.1)
    with pytest.raises(lqrad.ArgumentError, match="does not settle"):
        lqrad.step_response(plant)
