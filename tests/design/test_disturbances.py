"""Disturbances as states: no offset under loads, in wind, with gains that are wrong, limits at work."""

from __future__ import annotations

import numpy as np
import pytest
from random_problems import with_spectral_radius

import lqrad
from lqrad import ArgumentError, LQProblem, NotStabilizableError, Observer, ShapeError, StateSpace
from lqrad.design import disturbance_observer

A, B = np.array([[1, 0.1], [0, 1]]), np.array([[0.005], [0.1]])
CART = StateSpace(A, B, [[1, 0]], dt=0.1)
PROBLEM = LQProblem(A, B, np.diag([10.0, 1.0]), [[0.1]])


def run(controller, plant, x, steps, reference, load=0.0, **told):
    """The plant, which need not be the model, with a constant load (n,) on x[t+1]."""
    x, inputs = np.array(x, float), []
    for _ in range(steps):
        u = controller.step(plant.C @ x, reference, **told)
        inputs.append(u)
        x = plant.A @ x + plant.B @ u + load
    return x, np.array(inputs)


def test_a_cart_under_a_load_stands_where_it_should_with_limits_at_work():
    observer = disturbance_observer(CART, 1e-6 * np.eye(2), [[1e-6]], [[1e-4]])
    controller = lqrad.mpc(
        PROBLEM,
        20,
        input_bounds=(-1, 1),
        rate_bounds=(-0.3, 0.3),
        state_bounds=([-np.inf, -0.6], [np.inf, 0.6]),
        H=[[1.0, 0.0]],
        observer=observer,
    )
    x, u = run(controller, CART, [0.0, 0.0], 400, 2.0, load=B[:, 0] * 0.5)
    np.testing.assert_allclose(x, [2.0, 0.0], atol=1e-10)
    assert u[-1, 0] == pytest.approx(-0.5, abs=1e-10)
    assert np.abs(u).max() <= 1
    assert (np.abs(np.diff(u[:, 0], prepend=0.0)) > 0.29).any()
    np.testing.assert_allclose(controller.x_hat[2:], [0.5], atol=1e-10)
    without = lqrad.mpc(PROBLEM, 20, input_bounds=(-1, 1), H=[[1.0, 0.0]])
    both = StateSpace(A, B, np.eye(2), dt=0.1)
    x, _ = run(without, both, [0.0, 0.0], 400, 2.0, load=B[:, 0] * 0.5)
    assert x[0] > 2.03  # the fault that this is there for


@pytest.mark.parametrize("at", ["input", "output"])
@pytest.mark.parametrize("gain", [0.8, 1.2])
def test_a_plant_whose_gain_is_wrong_ends_at_its_set_point(gain, at):
    plant = StateSpace([[0.9]], [[0.1]], dt=0.1)
    observer = disturbance_observer(plant, [[1e-4]], [[1e-2]], [[1e-2]], at=at)
    problem = LQProblem(plant.A, plant.B, [[1.0]], [[0.1]])
    controller = lqrad.mpc(problem, 15, input_bounds=(-5, 5), H=[[1.0]], observer=observer)
    x, _ = run(controller, StateSpace([[0.9]], [[0.1 * gain]], dt=0.1), [0.0], 300, 3.0, load=0.05)
    assert x[0] == pytest.approx(3.0, abs=1e-10)


def quadrotor():
    """At hover: positions, angles, and their rates; thrust and three torques, in units of the weight."""
    dynamics, inputs, wind = np.zeros((12, 12)), np.zeros((12, 4)), np.zeros((12, 3))
    dynamics[:3, 6:9] = dynamics[3:6, 9:] = np.eye(3)  # rates
    dynamics[6, 4], dynamics[7, 3] = 9.81, -9.81  # pitch and roll lean the thrust
    dynamics[6:9, 6:9] = -0.3 * np.eye(3)  # drag
    inputs[8, 0] = 9.81
    inputs[9:, 1:] = np.diag([80.0, 80.0, 40.0])
    wind[6:9] = np.eye(3)
    measured = np.eye(12)[:6]
    both = np.hstack([inputs, wind])
    sampled = lqrad.discretise(dynamics, both, np.eye(12), np.eye(7), dt=0.05)
    return sampled.A, sampled.B[:, :4], sampled.B[:, 4:], measured


def test_a_quadrotor_in_wind_hovers_where_it_should():
    A, B, Bd, C = quadrotor()
    plant = StateSpace(A, B, C, dt=0.05)
    observer = disturbance_observer(
        plant, 1e-6 * np.eye(12), 1e-5 * np.eye(6), 1e-3 * np.eye(3), Bd=Bd
    )
    Q = np.diag([10.0] * 3 + [1.0] * 3 + [1.0] * 3 + [0.1] * 3)
    track = np.eye(12)[[0, 1, 2, 5]]  # position and heading
    controller = lqrad.mpc(
        LQProblem(A, B, Q, np.eye(4)), 20, input_bounds=(-0.3, 0.3), H=track, observer=observer
    )
    goal = [1.0, -2.0, 0.5, 0.3]
    wind = np.array([1.5, -0.8, 0.4])
    x, u = run(controller, plant, np.zeros(12), 500, goal, load=Bd @ wind)
    np.testing.assert_allclose(track @ x, goal, atol=1e-9)
    np.testing.assert_allclose(controller.x_hat[12:], wind, atol=1e-9)
    assert np.abs(u).max() <= 0.3


@pytest.mark.parametrize("seed", range(12))
def test_what_is_wrong_in_the_model_leaves_no_offset_in_what_is_measured(seed):
    """Random stable plants whose every entry is a little off, with a load: H x = E C x is at r."""
    rng = np.random.default_rng([63, seed])
    n, m = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    ny = int(rng.integers(1, min(n, m) + 1))
    A = with_spectral_radius(rng.normal(size=(n, n)), 0.8)
    B, C = rng.normal(size=(n, m)), rng.normal(size=(ny, n))
    model = StateSpace(A, B, C, dt=1.0)
    off = [z * (1 + 0.03 * rng.normal(size=z.shape)) for z in (A, B, C)]
    true, load = StateSpace(*off, dt=1.0), 0.3 * rng.normal(size=n)
    Bd, Cd = rng.normal(size=(n, ny)), rng.normal(size=(ny, ny))
    observer = disturbance_observer(
        model, 1e-3 * np.eye(n), 1e-2 * np.eye(ny), 1e-2 * np.eye(ny), Bd=Bd, Cd=Cd
    )
    problem = LQProblem(A, B, C.T @ C + 0.1 * np.eye(n), np.eye(m))
    controller = lqrad.mpc(problem, 10, H=C, observer=observer)
    r = rng.normal(size=ny)
    x, _ = run(controller, true, np.zeros(n), 800, r, load=load)
    # The controller's C is wrong, too: what ends at r is what is measured.
    np.testing.assert_allclose(true.C @ x, r, atol=1e-9)


def test_what_is_estimated_enters_the_plan_as_what_is_measured_does():
    """The same trajectory whether d is told or estimated; decaying disturbances decay in both."""
    observer = disturbance_observer(CART, 1e-6 * np.eye(2), [[1e-6]], [[1e-4]])
    estimated = lqrad.mpc(PROBLEM, 10, input_bounds=(-1, 1), observer=observer)
    told = lqrad.mpc(PROBLEM, 10, input_bounds=(-1, 1))
    x, d = np.array([0.5, -0.2]), np.array([0.3])
    plan = estimated.plan(np.concatenate([x, d]))
    np.testing.assert_array_equal(plan.u, told.plan(x, disturbance=B @ d).u)
    estimated.reset(x_hat=[0.0, 0.0, 0.3])
    np.testing.assert_array_equal(estimated.plan(x).u, plan.u)
    decaying = Observer(
        np.block([[A, B], [np.zeros((1, 2)), np.full((1, 1), 0.8)]]),
        np.concatenate([B, [[0.0]]]),
        observer.C,
        observer.L,
    )
    each = 0.3 * 0.8 ** np.arange(10)
    found = lqrad.mpc(PROBLEM, 10, observer=decaying).plan(np.concatenate([x, d]))
    wanted = lqrad.mpc(PROBLEM, 10).plan(x, disturbance=np.outer(each, B))
    np.testing.assert_allclose(found.u, wanted.u, atol=1e-12)


def test_the_observer_knows_what_is_told_and_the_model_of_the_step():
    """A prediction is that of the model, with measured disturbances and the constant part."""
    problem = LQProblem(A, B, PROBLEM.Q, PROBLEM.R, c=[0.01, 0.0])
    observer = disturbance_observer(CART, 1e-6 * np.eye(2), [[1e-6]], [[1e-4]])
    controller = lqrad.mpc(problem, 5, Bd=[[0.0], [0.1]], observer=observer)
    x_bar = observer.correct(np.zeros(3), [0.3])
    u = controller.step([0.3], disturbance=2.0)
    expected = observer.A @ x_bar + observer.B @ u + [0.01, 0.2, 0.0]
    np.testing.assert_allclose(controller.x_hat, expected, atol=1e-15)
    model = LQProblem(0.9 * A, 2 * B, PROBLEM.Q, PROBLEM.R, c=[0.0, 0.5])
    x_bar = observer.correct(controller.x_hat, [0.3])
    u = controller.step([0.3], model=model)
    whole = observer.A.copy()
    whole[:2, :2] = model.A
    expected = whole @ x_bar + np.append(model.B @ u, 0.0) + [0.0, 0.5, 0.0]
    np.testing.assert_allclose(controller.x_hat, expected, atol=1e-15)


def test_what_a_sensor_cannot_tell_is_named():
    noise = (1e-6 * np.eye(2), [[1e-6]])
    with pytest.raises(
        NotStabilizableError,
        match=r"tells of a constant disturbance: with -1 in x\[0\], 1 in d\[0\] all is still.*"
        r"or model fewer disturbances \(1 at most\)",
    ):
        disturbance_observer(CART, *noise, [[1e-4]], at="output")  # a cart stands anywhere
    with pytest.raises(NotStabilizableError, match=r"with -1 in d\[0\], 1 in d\[1\] all is still"):
        disturbance_observer(CART, *noise, np.eye(2), Bd=np.hstack([B, B]))
    unseen = StateSpace(np.diag([1.0, 0.5]), B, [[0.0, 1.0]], dt=0.1)
    with pytest.raises(NotStabilizableError, match="no sensor in C sees a mode of A"):
        disturbance_observer(unseen, *noise, [[1e-4]])
    with pytest.raises(ArgumentError, match="at is 'state', expected one of: input, output"):
        disturbance_observer(CART, *noise, [[1e-4]], at="state")
    with pytest.raises(ArgumentError, match="at is 'output', and Bd or Cd say where"):
        disturbance_observer(CART, *noise, [[1e-4]], at="output", Bd=B)
    with pytest.raises(ShapeError, match=r"Bd has shape \(1, 1\), expected \(n, nd\) with n = 2"):
        disturbance_observer(CART, *noise, [[1e-4]], Bd=[[1.0]])
    with pytest.raises(ShapeError, match=r"Cd has shape \(1, 2\), expected \(ny, nd\) = \(1, 1\)"):
        disturbance_observer(CART, *noise, [[1e-4]], Bd=B, Cd=[[1.0, 0.0]])
    with pytest.raises(
        ShapeError, match=r"W_d has shape \(2, 2\), expected \(nd, nd\) = \(1, 1\) for 1 dist"
    ):
        disturbance_observer(CART, *noise, np.eye(2))
    moved = Observer(np.eye(3), np.ones((3, 1)), [[1.0, 0.0, 0.0]], np.ones((3, 1)))
    with pytest.raises(
        ArgumentError, match="observer has 3 states, 1 more than the problem, and the"
    ):
        lqrad.mpc(PROBLEM, 5, observer=moved)
    both = StateSpace([[0.5, 0.1], [0.0, 0.5]], B, [[1.0, 0.0]], dt=0.1)
    observer = disturbance_observer(both, *noise, [[1e-4]], at="output")
    with pytest.raises(ArgumentError, match="row 0 of H, the tracked outputs, is no combination"):
        lqrad.mpc(LQProblem(both.A, B, np.eye(2), [[1.0]]), 5, H=[[0.0, 1.0]], observer=observer)
    small = Observer([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(
        ShapeError, match=r"observer.A has shape \(1, 1\), expected \(2, 2\) as the"
    ):
        lqrad.mpc(PROBLEM, 5, observer=small)
