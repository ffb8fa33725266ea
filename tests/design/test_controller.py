"""Controllers, step by step and as linear systems."""

from __future__ import annotations

import numpy as np
import pytest
from random_controllers import random_controller, random_plant
from random_problems import psd

import lqrad
from lqrad import ArgumentError, Controller, Observer, ShapeError, StateSpace

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_is_its_four_equations(seed):
    controller, plant = random_controller(seed, bounds=(-0.3, 0.2))
    rng, o = np.random.default_rng(seed), controller.observer
    x_hat, z = np.zeros(plant.n), np.zeros_like(controller.z)
    for _ in range(15):
        y, r = rng.normal(size=o.ny), rng.normal(size=controller.nr)
        x_bar = x_hat + o.L @ (y - o.C @ x_hat)
        wanted = controller.F @ r - controller.K @ x_bar
        if len(z):
            wanted = wanted - controller.K_i @ z
        u = np.minimum(np.maximum(wanted, -0.3), 0.2)
        for k in range(len(z)):
            growth = controller.E[k] @ y - r[k]
            # u moves by -K_i growth: beyond a limit it is pushed where that has the sign of beyond.
            push = -(wanted - u) @ controller.K_i[:, k] * growth
            z[k] += 0.0 if push > 0 else growth
        x_hat = o.A @ x_bar + o.B @ u
        np.testing.assert_allclose(controller.step(y, r), u, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(controller.x_hat, x_hat, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(controller.z, z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_is_its_runs(seed):
    controller, _ = random_controller(seed, bounds=(-0.3, 0.2))
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(8, 5, controller.observer.ny))
    r = rng.normal(size=controller.nr)
    together = [controller.step(z, r) for z in y]
    for run in range(5):
        controller.reset()
        for t in range(8):
            alone = controller.step(y[t, run], r)
            np.testing.assert_allclose(alone, together[t][run], rtol=1e-12, atol=1e-13)


def test_runs_of_another_number_are_refused_and_one_serves_all():
    controller, _ = random_controller(3)
    n, ny, nr = controller.n, controller.observer.ny, controller.nr
    controller.reset(np.ones((3, n)))
    before = controller.x_hat
    words = rf"x_hat has shape \(3, {n}\) and y has shape \(5, {ny}\): .* do not fit; reset\(\)"
    with pytest.raises(ShapeError, match=words):
        controller.step(np.zeros((5, ny)))
    words = rf"reference has shape \(4, {nr}\) and x_hat has shape \(3, {n}\): .* do not fit"
    with pytest.raises(ShapeError, match=words):
        controller.step(np.zeros(ny), np.zeros((4, nr)))
    assert controller.x_hat is before
    assert controller.step(np.zeros(ny)).shape == (3, controller.m)
    controller.reset()
    references = np.random.default_rng(0).normal(size=(4, nr))
    u, z = controller.step(np.zeros(ny), references), controller.z
    for run in range(4):
        controller.reset()
        np.testing.assert_allclose(
            controller.step(np.zeros(ny), references[run]), u[run], rtol=1e-13
        )
        np.testing.assert_allclose(controller.z, z[run], rtol=1e-13)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_linear_system_does_what_the_steps_do(seed):
    controller, _ = random_controller(seed)
    rng = np.random.default_rng(seed)
    y, r = rng.normal(size=(12, controller.observer.ny)), rng.normal(size=(12, controller.nr))
    _, u = controller.statespace().simulate(None, np.hstack([y, r]))
    for t in range(12):
        np.testing.assert_allclose(controller.step(y[t], r[t]), u[t], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_closed_loop_does_what_the_steps_do(seed):
    controller, plant = random_controller(seed)
    r = np.random.default_rng(seed).normal(size=(12, controller.nr))
    _, both = controller.closed_loop(plant).simulate(None, r)
    loop = lqrad.simulate_closed_loop(plant, controller, 12, reference=r)
    tracked = loop.x[:-1] @ controller.H.T
    np.testing.assert_allclose(both, np.hstack([tracked, loop.u]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_loop_has_the_poles_of_regulator_and_filter(seed):
    """Separation: closing the loop moves neither the regulator's poles nor the filter's."""
    controller, plant = random_controller(seed, kind="lqg with integrators")
    n, nr, o = plant.n, controller.nr, controller.observer
    A = np.block([[plant.A, np.zeros((n, nr))], [controller.H, np.eye(nr)]])
    B = np.concatenate([plant.B, np.zeros((nr, plant.m))])
    regulator = np.linalg.eigvals(A - B @ np.hstack([controller.K, controller.K_i]))
    estimator = np.linalg.eigvals(plant.A - plant.A @ o.L @ plant.C)
    expected = np.poly(np.concatenate([regulator, estimator]))
    found = np.poly(controller.closed_loop(plant).poles)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("at", ["input", "output"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_broken_loop_closes_to_the_closed_loop(seed, at):
    """det(I + L(z)) is the ratio of the closed and the open characteristic polynomial."""
    controller, plant = random_controller(seed)
    loop = controller.loop(plant, at)
    z = np.exp(0.7j)
    back = loop.C @ np.linalg.solve(z * np.eye(loop.n) - loop.A, loop.B) + loop.D
    closed = np.prod(z - controller.closed_loop(plant).poles)
    opened = np.prod(z - loop.poles)
    ratio = np.linalg.det(np.eye(len(back)) + back)
    assert ratio == pytest.approx(closed / opened, rel=1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_references_are_reached(seed):
    controller, plant = random_controller(seed)
    r = np.random.default_rng(seed).normal(size=controller.nr)
    loop = lqrad.simulate_closed_loop(plant, controller, 3000, reference=r)
    np.testing.assert_allclose(controller.H @ loop.x[-1], r, atol=1e-6 * np.abs(r).max())


@pytest.mark.parametrize("kind", ["lqi", "lqg with integrators"])
def test_integral_action_removes_what_a_wrong_model_leaves(kind):
    """A plant with other poles, stronger actuators and a load: the reference is reached all the same."""
    plant = StateSpace([[0.9, 0.1], [0.0, 0.8]], [[0.0], [0.2]], [[1.0, 0.0]], dt=0.1)
    real = StateSpace([[0.92, 0.11], [0.0, 0.78]], [[0.0], [0.25]], [[1.0, 0.0]], dt=0.1)
    weights = (np.eye(2), [[0.1]])
    noise = {"W": np.eye(2), "V": [[0.1]]}
    H = [[1.0, 0.0]]
    if kind == "lqi":
        controller = lqrad.lqi(plant, *weights, [[0.1]])
        without = lqrad.lqr(plant, *weights, H=H)
    else:
        controller = lqrad.lqg(plant, *weights, **noise, Q_i=[[0.1]])
        without = lqrad.lqg(plant, *weights, **noise, H=H)
    ends = [
        lqrad.simulate_closed_loop(real, c, 600, reference=[2.0]).x[-1, 0]
        for c in (controller, without)
    ]
    assert ends[0] == pytest.approx(2.0, abs=1e-9)
    assert abs(ends[1] - 2.0) > 0.05


def test_integrators_do_not_wind_up():
    """A set-point that takes the actuator long: an integrator that goes on overshoots far more."""
    plant = StateSpace([[0.98, 0.1], [0.0, 0.9]], [[0.0], [0.1]], [[1.0, 0.0]], dt=0.1)
    controller = lqrad.lqi(plant, np.eye(2), [[0.1]], [[0.1]], input_bounds=(-1, 1))
    loop = lqrad.simulate_closed_loop(plant, controller, 400, reference=[1.5])
    x, z, wound_up = np.zeros(2), np.zeros(1), []
    for _ in range(400):
        wound_up.append(x[0])
        u = np.clip(controller.F @ [1.5] - controller.K @ x - controller.K_i @ z, -1.0, 1.0)
        z = z + x[:1] - 1.5
        x = plant.A @ x + plant.B @ u
    assert loop.at_limit[0] > 0.03
    assert loop.x[-1, 0] == pytest.approx(1.5, abs=1e-6)
    assert max(wound_up) - 1.5 > 3 * (loop.x[:, 0].max() - 1.5)


def test_a_step_from_rest_costs_least_at_the_level_of_the_integrators():
    """No other feed-forward of the integrators makes the sum of the deviations' costs smaller."""
    plant = StateSpace([[1.0, 0.1], [0.0, 1.0]], [[0.005], [0.1]], [[1.0, 0.0]], dt=0.1)
    Q, R, Q_i = np.eye(2), [[0.1]], [[0.05]]
    controller = lqrad.lqi(plant, Q, R, Q_i)
    x_ref, u_ref = lqrad.steady_state_targets(plant, [1.0])

    def cost(F):
        other = Controller(
            controller.observer, controller.K, dt=0.1, H=controller.H, K_i=controller.K_i, F=F
        )
        x, total, path = np.zeros(2), 0.0, []
        for _ in range(800):
            path.append(other.z.copy())
            u = other.step(x, [1.0])
            total += 0.5 * ((x - x_ref) @ Q @ (x - x_ref) + R[0][0] * (u[0] - u_ref[0]) ** 2)
            x = plant.A @ x + plant.B @ u
        z = np.array(path)[:, 0]
        return total + 0.5 * Q_i[0][0] * ((z - z[-1]) ** 2).sum()

    best = cost(controller.F)
    for change in (-0.05, 0.05):
        assert cost(controller.F + change) > best


def test_gains_of_lqi_are_those_of_python_control():
    control = pytest.importorskip("control")
    for seed in range(8):
        plant, rng = random_plant(seed, m=2, n=3)
        H = rng.normal(size=(2, 3))
        Q, R, Q_i = psd(rng, 3) + np.eye(3), psd(rng, 2) + np.eye(2), np.diag([0.3, 0.7])
        controller = lqrad.lqi(plant, Q, R, Q_i, H=H)
        system = control.ss(plant.A, plant.B, np.eye(3), 0, 0.1)
        block = np.block([[Q, np.zeros((3, 2))], [np.zeros((2, 3)), Q_i]])
        K, _, _ = control.dlqr(system, block, R, integral_action=H)
        ours = np.hstack([controller.K, controller.K_i])
        np.testing.assert_allclose(ours, K, rtol=1e-9, atol=1e-9 * np.abs(K).max())


def test_gains_of_the_estimator_are_those_of_python_control():
    control = pytest.importorskip("control")
    for seed in range(8):
        plant, rng = random_plant(seed)
        n, ny = plant.n, plant.ny
        W, V = psd(rng, n) + 0.1 * np.eye(n), psd(rng, ny) + 0.1 * np.eye(ny)
        L, _, _ = control.dlqe(plant.A, np.eye(n), plant.C, W, V)  # of the predictor
        ours = plant.A @ Observer.kalman(plant, W, V).L
        np.testing.assert_allclose(ours, L, rtol=1e-9, atol=1e-9 * np.abs(L).max())


def test_the_published_gain_of_a_double_integrator():
    plant = StateSpace([[1, 0.1], [0, 1]], [[0], [0.1]], dt=0.1)
    # ControlSystems.jl, documentation of lqr, and Drake's DiscreteTimeLinearQuadraticRegulator.
    expected = [[0.5890881713787511, 0.7118839434795103]]
    discrete = StateSpace([[1, 0.1], [0, 1]], [[0], [1]], dt=0.1)
    np.testing.assert_allclose(lqrad.lqr(discrete, np.eye(2), [[1]]).K, expected, rtol=1e-12)
    assert lqrad.lqr(plant, np.eye(2), [[1]]).K[0, 0] != expected[0][0]


def test_refusals():
    plant = StateSpace([[1.0]], [[1.0]], dt=0.1)
    observer = Observer([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(ArgumentError, match="plant is in continuous time"):
        lqrad.lqr(StateSpace([[1.0]], [[1.0]], dt=0), [[1]], [[1]])
    with pytest.raises(ShapeError, match=r"L has shape \(1, 2\), expected \(n, ny\) = \(1, 1\)"):
        Observer([[1.0]], [[1.0]], [[1.0]], [[1.0, 2.0]])
    with pytest.raises(ShapeError, match=r"K has shape \(1, 2\), expected \(m, n\) = \(1, 1\)"):
        Controller(observer, [[1.0, 2.0]], dt=0.1)
    moving = StateSpace([[1.0, 0.1], [0.0, 1.0]], [[0.0], [0.1]], [[1.0, 0.0]], dt=0.1)
    with pytest.raises(
        ArgumentError, match="row 0 of H, the tracked outputs, is no combination of wha"
    ):
        lqrad.lqg(moving, np.eye(2), [[1]], np.eye(2), [[1]], Q_i=[[1]], H=[[1.0, 1.0]])
    with pytest.raises(ArgumentError, match="dt is 0, expected the time between two steps"):
        Controller(observer, [[1.0]], dt=0.0)
    with pytest.raises(
        ArgumentError, match=r"input_bounds leave nothing at \[0\]: low is 1 and high is -1"
    ):
        Controller(observer, [[1.0]], dt=0.1, input_bounds=(1, -1))
    with pytest.raises(ArgumentError, match=r"input_bounds is 3, expected a pair \(low, high\)"):
        Controller(observer, [[1.0]], dt=0.1, input_bounds=3)
    with pytest.raises(ArgumentError, match=r"input_bounds\[1\] holds a NaN"):
        Controller(observer, [[1.0]], dt=0.1, input_bounds=(0, np.nan))
    with pytest.raises(ShapeError, match=r"input_bounds\[0\] has shape \(2,\), expected a number"):
        Controller(observer, [[1.0]], dt=0.1, input_bounds=([0, 0], 1))
    controller = lqrad.lqr(plant, [[1]], [[1]])
    before = controller.x_hat
    with pytest.raises(ShapeError, match=r"y has shape \(2,\), expected \(\.\.\., 1\)"):
        controller.step([1.0, 2.0])
    with pytest.raises(lqrad.NonFiniteError, match=r"y\[0\] is nan"):
        controller.step([np.nan])
    assert controller.x_hat is before
    with pytest.raises(ArgumentError, match="at is 'middle', expected one of: input, output"):
        controller.loop(plant, "middle")
    with pytest.raises(ShapeError, match="plant has 2 inputs, expected 1"):
        controller.loop(StateSpace([[1.0]], [[1.0, 1.0]], dt=0.1))


def test_its_design_cannot_be_set():
    controller, _ = random_controller(0)
    for name in ("K", "E", "low", "x_hat"):
        with pytest.raises(AttributeError, match=f"{name} of a Controller cannot be set"):
            setattr(controller, name, np.zeros((1, 1)))
    with pytest.raises(ValueError, match="read-only"):
        controller.K[0, 0] = 1.0
