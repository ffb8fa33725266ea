"""A plant under its controller, against a loop that is written out."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from random_controllers import random_controller
from random_problems import psd

import lqrad
from lqrad import ArgumentError, NonFiniteError, NotConvexError, NotStabilizableError, ShapeError


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_a_run_is_a_loop_over_its_equations(seed, delay):
    """The noise is drawn from the same generator, in the same order."""
    controller, plant = random_controller(seed)
    rng = np.random.default_rng(seed)
    n, m, ny = plant.n, plant.m, controller.observer.ny
    W, V, r = psd(rng, n), psd(rng, ny), rng.normal(size=(20, controller.nr))
    other = lqrad.StateSpace(0.9 * plant.A, 1.1 * plant.B, plant.C, dt=plant.dt)
    x0 = rng.normal(size=n)
    found = lqrad.simulate_closed_loop(
        other,
        controller,
        20,
        reference=r,
        x0=x0,
        W=W,
        V=V,
        rng=7,
        input_bounds=(-0.5, 0.4),
        input_delay=delay,
        Q=np.eye(n),
        R=np.eye(m),
    )
    noise = np.random.default_rng(7)
    controller.reset()

    def root(covariance):
        size = np.sqrt(np.diag(covariance))
        values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
        return size[:, None] * vectors * np.sqrt(np.maximum(values, 0))

    C = controller.observer.C
    x, line, cost = x0, [np.zeros(m)] * delay, 0.0
    for t in range(20):
        y = C @ x + root(V) @ noise.standard_normal(ny)
        line.append(controller.step(y, r[t]))
        u = np.clip(line.pop(0), -0.5, 0.4)
        np.testing.assert_allclose(found.y[t], y, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.u[t], u, rtol=1e-9, atol=1e-9)
        cost += 0.5 * (x @ x + u @ u)
        x = other.A @ x + other.B @ u + root(W) @ noise.standard_normal(n)
        np.testing.assert_allclose(found.x[t + 1], x, rtol=1e-8, atol=1e-8)
    assert float(found.cost) == pytest.approx(cost, rel=1e-9)
    inside = (found.u > -0.5) & (found.u < 0.4)
    np.testing.assert_allclose(found.at_limit, 1 - inside.mean(axis=0))


@pytest.mark.parametrize("seed", range(4))
def test_runs_without_noise_are_each_a_run_of_its_own(seed):
    controller, plant = random_controller(seed, bounds=(-0.4, 0.4))
    starts = np.random.default_rng(seed).normal(size=(5, plant.n))
    r = np.ones(controller.nr)
    together = lqrad.simulate_closed_loop(plant, controller, 9, reference=r, x0=starts, runs=5)
    assert together.x.shape == (5, 10, plant.n)
    for run, x0 in enumerate(starts):
        alone = lqrad.simulate_closed_loop(plant, controller, 9, reference=r, x0=x0)
        np.testing.assert_allclose(together.x[run], alone.x, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(together.u[run], alone.u, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_the_noise_has_the_covariances_that_were_asked_for(seed):
    rng = np.random.default_rng(seed)
    W = psd(rng, 3, 2)  # singular
    plant = lqrad.StateSpace(np.zeros((3, 3)), np.zeros((3, 1)), np.zeros((2, 3)), dt=1.0)
    V = psd(rng, 2)

    class Nothing:
        def step(self, y, reference=None):
            return np.zeros((len(y), 1))

        def reset(self):
            pass

    runs = 40_000
    found = lqrad.simulate_closed_loop(plant, Nothing(), 1, W=W, V=V, runs=runs, rng=seed)
    for samples, covariance in ((found.x[:, 1], W), (found.y[:, 0], V)):
        error = np.abs(np.cov(samples.T) - covariance).max()
        assert error < 6 * np.abs(covariance).max() * np.sqrt(2 / runs)


def test_the_mean_cost_is_that_of_the_textbook_and_of_ten_thousand_runs():
    """LQG: 1/2 tr(P W) + 1/2 tr(X K'(R + B'PB)K), X the covariance of the filtered error."""
    system = lqrad.systems.inverted_pendulum()
    plant = lqrad.StateSpace(system.A, system.B, [[1, 0, 0, 0], [0, 0, 1, 0]], dt=system.dt)
    W, V = np.diag([1e-8, 1e-5, 1e-8, 1e-5]), 1e-6 * np.eye(2)
    controller = lqrad.lqg(plant, system.Q, system.R, W, V)
    cost = lqrad.expected_cost(plant, controller, system.Q, system.R, W=W, V=V)
    K, P, _ = lqrad.dlqr(system.A, system.B, system.Q, system.R)
    _, predicted, _ = lqrad.dlqe(system.A, plant.C, W, V)
    filtered = predicted - controller.observer.L @ plant.C @ predicted
    G = system.R + system.B.T @ P @ system.B
    textbook = 0.5 * np.trace(P @ W) + 0.5 * np.trace(filtered @ K.T @ G @ K)
    assert cost == pytest.approx(textbook, rel=1e-10)
    settling = 300
    loop = lqrad.simulate_closed_loop(
        plant, controller, settling + 100, W=W, V=V, runs=10_000, rng=1
    )
    z = np.concatenate([loop.x[:, settling:-1], loop.u[:, settling:]], axis=-1)
    weight = np.zeros((5, 5))
    weight[:4, :4], weight[4:, 4:] = system.Q, system.R
    costs = 0.5 * np.einsum("rti,ij,rtj->r", z, weight, z) / 100
    error = costs.std() / np.sqrt(len(costs))
    assert abs(costs.mean() - cost) < 4 * error
    assert error < 0.01 * cost


@pytest.mark.parametrize("seed", range(8))
def test_the_cost_to_go_under_noise_is_that_of_the_runs(seed):
    """From a state over a horizon, for every kind of controller; the runs agree to four errors."""
    controller, plant = random_controller(seed)
    rng = np.random.default_rng(seed)
    n, m, ny = plant.n, plant.m, controller.observer.ny
    Q, R, M = psd(rng, n), psd(rng, m) + np.eye(m), np.zeros((n, m))
    noise = {"W": 0.1 * psd(rng, n), "V": 0.1 * psd(rng, ny)}
    x0 = rng.normal(size=n)
    mean = lqrad.expected_cost(plant, controller, Q, R, M=M, **noise, x0=x0, T=25)
    loop = lqrad.simulate_closed_loop(
        plant,
        controller,
        25,
        reference=np.zeros(controller.nr),
        x0=x0,
        **noise,
        runs=20_000,
        rng=seed,
        Q=Q,
        R=R,
    )
    found, error = loop.mean_cost()
    assert abs(found - mean) < 4 * error
    assert error < 0.02 * mean


def test_the_cost_to_go_of_the_regulator_is_that_of_the_value_function():
    """1/2 x0'Px0 + 1/2 sum tr(P W), less what is left after the horizon."""
    system = lqrad.systems.aircraft()
    plant = lqrad.StateSpace.of(system)
    controller = lqrad.lqr(plant, system.Q, system.R)
    _, P, _ = lqrad.dlqr(system.A, system.B, system.Q, system.R)
    W = 1e-4 * np.eye(plant.n)
    long = lqrad.expected_cost(plant, controller, system.Q, system.R, W=0 * W, x0=system.x0, T=9000)
    assert long == pytest.approx(0.5 * system.x0 @ P @ system.x0, rel=1e-9)
    rate = lqrad.expected_cost(plant, controller, system.Q, system.R, W=W)
    assert rate == pytest.approx(0.5 * np.trace(P @ W), rel=1e-9)
    both = [
        lqrad.expected_cost(plant, controller, system.Q, system.R, W=W, x0=system.x0, T=k)
        for k in (9000, 9001)
    ]
    assert both[1] - both[0] == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_gain_has_a_lower_mean_cost(seed):
    _, plant = random_controller(seed, kind="lqg")
    rng = np.random.default_rng(seed)
    Q, R = psd(rng, plant.n) + np.eye(plant.n), psd(rng, plant.m) + np.eye(plant.m)
    W, V = psd(rng, plant.n) + np.eye(plant.n), np.eye(plant.ny)
    best = lqrad.lqg(plant, Q, R, W, V)

    def cost(K, L):
        observer = lqrad.Observer(plant.A, plant.B, plant.C, L)
        other = lqrad.Controller(observer, K, dt=plant.dt)
        return lqrad.expected_cost(plant, other, Q, R, W=W, V=V)

    least = cost(best.K, best.observer.L)
    for _ in range(4):
        change = 1e-3 * rng.normal(size=best.K.shape), 1e-3 * rng.normal(size=best.observer.L.shape)
        assert cost(best.K + change[0], best.observer.L) > least
        assert cost(best.K, best.observer.L + change[1]) > least


def test_refusals():
    plant = lqrad.StateSpace([[1.0]], [[1.0]], dt=0.1)
    controller = lqrad.lqr(plant, [[1]], [[1]])
    run = lqrad.simulate_closed_loop
    with pytest.raises(ArgumentError, match="W or V is given and rng is not"):
        run(plant, controller, 5, W=[[1.0]])
    with pytest.raises(ArgumentError, match="controller is of type int without a method step, exp"):
        run(plant, 3, 5)
    with pytest.raises(ArgumentError, match="reference is given, but nothing is tracked"):
        run(plant, controller, 5, reference=[1.0])
    with pytest.raises(NotConvexError, match="W has the eigenvalue -1"):
        run(plant, controller, 5, W=[[-1.0]], rng=0)
    with pytest.raises(ShapeError, match=r"x0 has shape \(3, 1\), expected \(1,\) or \(2, 1\)"):
        run(plant, controller, 5, x0=np.ones((3, 1)), runs=2)
    with pytest.raises(
        ShapeError, match=r"reference has shape \(4, 1\), expected \(nr,\) or \(T, nr"
    ):
        run(plant, controller, 5, reference=np.ones((4, 1)))
    with pytest.raises(ArgumentError, match="input_delay is -1, expected a whole number"):
        run(plant, controller, 5, input_delay=-1)
    with pytest.raises(ArgumentError, match="no cost was asked for"):
        run(plant, controller, 5).mean_cost()
    wild = lqrad.StateSpace([[3.0]], [[1.0]], dt=0.1)
    with pytest.raises(NonFiniteError, match=r"the closed loop overflowed at step \d+"):
        run(wild, controller, 5000, x0=[1.0])
    with pytest.raises(ArgumentError, match="x0 is given and T is not: a settled loop has forg"):
        lqrad.expected_cost(plant, controller, [[1]], [[1]], W=[[1.0]], x0=[1.0])
    assert lqrad.expected_cost(wild, controller, [[1]], [[1]], W=[[1.0]], T=3) > 0
    with pytest.raises(NotStabilizableError, match=r"the closed loop has the pole 2\.38197"):
        lqrad.expected_cost(wild, controller, [[1]], [[1]], W=[[1.0]])


def test_what_it_shows_of_itself():
    plant = lqrad.StateSpace([[1.0]], [[1.0]], dt=0.1)
    controller = lqrad.lqr(plant, [[1]], [[1]])
    loop = lqrad.simulate_closed_loop(plant, controller, 4, x0=[1.0], Q=[[1]], R=[[1]])
    assert repr(loop) == f"<ClosedLoop: 4 steps of 0.1 s, cost {float(loop.cost):.6g}>"
    np.testing.assert_allclose(loop.t, [0, 0.1, 0.2, 0.3, 0.4])
    many = lqrad.simulate_closed_loop(
        plant, controller, 4, W=[[1.0]], rng=0, runs=3, Q=[[1]], R=[[1]]
    )
    mean, error = many.mean_cost()
    assert repr(many) == f"<ClosedLoop: 3 runs of 4 steps of 0.1 s, cost {mean:.6g} +- {error:.2g}>"
    assert error == pytest.approx(many.cost.std(ddof=1) / np.sqrt(3))


@pytest.mark.parametrize("bounds", [{}, {"rate_bounds": (-0.4, 0.4)}])
def test_many_runs_of_a_receding_horizon_are_those_of_one_after_another(bounds):
    """Also where states cannot be kept within their bounds, and around a reference."""
    A, B = np.array([[1, 0.2], [0, 1.05]]), np.array([[0.02], [0.2]])
    problem = lqrad.LQProblem(A, B, np.diag([10.0, 1.0]), [[0.1]])
    limits = {"input_bounds": (-1, 1), "state_bounds": ([-np.inf, -0.5], [np.inf, 0.5]), **bounds}
    controller = lqrad.mpc(problem, 12, **limits, H=[[1.0, 0.0]])
    plant, runs = lqrad.StateSpace(A, B, dt=1.0), 12
    x0 = np.random.default_rng(0).uniform(-1, 1, size=(runs, 2)) * [2.0, 0.6]
    options = {"reference": [0.5], "Q": np.eye(2), "R": [[1.0]]}
    both = []
    for switched in (False, True):
        with lqrad.native.switched_off() if switched else nullcontext():
            both.append(
                lqrad.simulate_closed_loop(plant, controller, 25, x0=x0, runs=runs, **options)
            )
    np.testing.assert_allclose(both[0].u, both[1].u, atol=1e-9)
    for run in range(runs):
        alone = lqrad.simulate_closed_loop(plant, controller, 25, x0=x0[run], **options)
        np.testing.assert_allclose(both[0].x[run], alone.x, atol=1e-7)
        np.testing.assert_allclose(both[0].u[run], alone.u, atol=1e-7)
    change = np.diff(both[0].u, axis=1, prepend=0.0)
    assert (np.isclose(np.abs(both[0].u), 1.0) | np.isclose(np.abs(change), 0.4)).mean() > 0.06
    assert controller.last is None  # the runs have memories of their own


def test_many_runs_of_a_receding_horizon_with_an_observer_are_refused():
    plant = lqrad.StateSpace([[0.9]], [[1.0]], dt=1.0)
    observer = lqrad.Observer(plant.A, plant.B, plant.C, [[0.5]])
    controller = lqrad.mpc(
        lqrad.LQProblem([[0.9]], [[1.0]], [[1.0]], [[1.0]]), 5, observer=observer
    )
    with pytest.raises(ArgumentError, match="has an observer, whose memory is of one run"):
        lqrad.simulate_closed_loop(plant, controller, 5, runs=3)


@pytest.mark.parametrize("runs", [None, 3])
def test_a_preview_is_the_window_of_each_step(runs):
    """And what is known ahead costs less than what is told at the step."""
    A, B, H = [[1.0, 0.1], [0.0, 1.0]], [[0.005], [0.1]], [[1.0, 0.0]]
    problem = lqrad.LQProblem(A, B, np.diag([1.0, 0.1]), [[0.1]])
    plant = lqrad.StateSpace(A, B, dt=0.1)
    controller = lqrad.mpc(problem, 12, input_bounds=(-1, 1), H=H)
    r = np.where(np.arange(40) < 20, 0.0, 1.0)[:, None]
    options = {"reference": r, "runs": runs}
    loop = lqrad.simulate_closed_loop(plant, controller, 40, preview=True, **options)
    longer, x = np.concatenate([r, np.ones((12, 1))]), np.zeros(2)
    for t in range(40):
        u = controller.step(x, longer[t : t + 13])
        np.testing.assert_allclose(
            loop.u[..., t, :], np.broadcast_to(u, loop.u[..., t, :].shape), atol=1e-12
        )
        x = plant.A @ x + plant.B @ u
    told = lqrad.simulate_closed_loop(plant, controller, 40, **options)
    errors = [((z.x[..., :-1, 0] - r[:, 0]) ** 2).sum() for z in (loop, told)]
    assert errors[0] < 0.7 * errors[1]


def test_a_preview_needs_a_controller_that_looks_ahead():
    plant = lqrad.StateSpace([[1.0]], [[1.0]], dt=0.1)
    linear = lqrad.lqr(plant, [[1]], [[1]], H=[[1.0]])
    ahead = lqrad.mpc(lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]]), 3, H=[[1.0]])
    words = "preview is True, reference is given and controller is of type Controller, expected"
    with pytest.raises(ArgumentError, match=words):
        lqrad.simulate_closed_loop(plant, linear, 5, reference=1.0, preview=True)
    words = "preview is True, reference is not given and controller is of type MPC, expected"
    with pytest.raises(ArgumentError, match=words):
        lqrad.simulate_closed_loop(plant, ahead, 5, preview=True)
