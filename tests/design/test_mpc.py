"""Receding horizon: what is applied, what is promised, and what is said when neither can be."""

from __future__ import annotations

import numpy as np
import pytest
from random_problems import psd, random_case, with_spectral_radius

import lqrad
from lqrad import ArgumentError, LQProblem, Observer, ShapeError, StateSpace, Status

CART = LQProblem([[1, 0.1], [0, 1]], [[0.005], [0.1]], np.diag([10.0, 1.0]), [[0.1]])


def run(controller, x, steps, reference=None):
    x, states, inputs, plans = np.array(x, dtype=float), [], [], []
    for _ in range(steps):
        u = controller.step(x, reference)
        states.append(x)
        inputs.append(u)
        plans.append(controller.last)
        x = controller.problem.A @ x + controller.problem.B @ u
    return np.array([*states, x]), np.array(inputs), plans


@pytest.mark.parametrize("seed", range(12))
def test_without_bounds_it_is_the_stationary_regulator(seed):
    """The terminal weight of dare makes every horizon as good as an endless one."""
    case = random_case(seed, time_varying=False, all_terms=False, radius=1.1, singular_Q=False)
    problem = LQProblem(case.problem.A, case.problem.B, case.problem.Q, case.problem.R)
    K, _, _ = lqrad.dlqr(problem.A, problem.B, problem.Q, problem.R)
    for T in (1, 5):
        controller = lqrad.mpc(problem, T)
        np.testing.assert_allclose(
            controller.step(case.x0), -K @ case.x0, rtol=1e-8, atol=1e-9 * np.abs(K @ case.x0).max()
        )


def test_a_terminal_weight_that_is_given_is_kept():
    problem = LQProblem(CART.A, CART.B, CART.Q, CART.R, 3 * np.eye(2))
    assert lqrad.mpc(problem, 5).problem.S is problem.S


def test_bounds_hold_on_the_way_and_the_state_comes_home():
    controller = lqrad.mpc(
        CART,
        30,
        input_bounds=(-1, 1),
        state_bounds=([-np.inf, -0.8], [np.inf, 0.8]),
        rate_bounds=(-0.3, 0.3),
    )
    x, u, plans = run(controller, [3.0, 0.0], 120)
    assert np.abs(u).max() <= 1.0
    assert np.abs(np.diff(np.vstack([[0.0], u]), axis=0)).max() <= 0.3 + 1e-12
    assert x[:, 1].min() >= -0.8 - 1e-6
    assert np.abs(x[-1]).max() < 1e-3
    # Each kind of bound is at work, or there would be nothing to see.
    assert (np.abs(u) > 0.999).any()
    assert (x[:, 1] < -0.799).any()
    assert (np.abs(np.diff(u[:, 0])) > 0.299).any()
    assert all(plan.status is Status.CONVERGED_GAP for plan in plans)
    assert all(plan.gap_bound <= 1e-7 * (plan.cost + 1e-12) for plan in plans)


@pytest.mark.parametrize("seed", range(15))
def test_a_plan_with_rates_is_that_of_the_problem_written_out(seed):
    """Inputs, rates and states as rows of a dense quadratic program, its conditions by hand."""
    rng = np.random.default_rng(seed)
    n, m, T = int(rng.integers(1, 4)), int(rng.integers(1, 3)), 6
    A, B = with_spectral_radius(rng.normal(size=(n, n)), 1.1), rng.normal(size=(n, m))
    problem = LQProblem(A, B, psd(rng, n) + np.eye(n), psd(rng, m) + np.eye(m), np.eye(n))
    x0 = rng.normal(size=n)
    free = lqrad.riccati(problem, T).rollout(x0).u
    limit, rate = 0.6 * np.abs(free).max(axis=0), 0.5 * np.abs(free).max(axis=0)
    controller = lqrad.mpc(problem, T, input_bounds=(-limit, limit), rate_bounds=(-rate, rate))
    before = 0.2 * limit
    controller.reset(u_before=before)
    plan = controller.plan(x0)
    # min 1/2 u'Hu + g'u subject to G u <= h
    H = np.array([problem.hessian_product(e.reshape(T, m)).ravel() for e in np.eye(T * m)])
    g = problem.value_and_gradient(x0, np.zeros((T, m)))[1].ravel()
    step = np.eye(T * m) - np.eye(T * m, k=-m)
    first = np.concatenate([before, np.zeros((T - 1) * m)])
    G = np.vstack([np.eye(T * m), -np.eye(T * m), step, -step])
    h = np.concatenate(
        [np.tile(limit, T), np.tile(limit, T), np.tile(rate, T) + first, np.tile(rate, T) - first]
    )
    u = plan.u.ravel()
    assert (G @ u - h).max() <= 1e-7
    at = G @ u - h > -1e-6
    y = np.linalg.lstsq(G[at].T, -(H @ u + g), rcond=None)[0] if at.any() else np.zeros(0)
    residual = H @ u + g + G[at].T @ y
    assert np.abs(residual).max() <= 1e-6 * np.abs(g).max()
    # Multipliers of rows at a limit can be chosen at least zero (Farkas): by nonnegative fitting.
    from scipy.optimize import nnls

    if at.any():
        assert nnls(G[at].T, -(H @ u + g))[1] <= 1e-6 * np.abs(g).max()


def test_a_reference_is_followed_within_bounds():
    controller = lqrad.mpc(
        CART, 30, input_bounds=(-1, 1), rate_bounds=(-0.5, 0.5), tracked=[[1.0, 0.0]]
    )
    x, u, _ = run(controller, [0.0, 0.0], 120, [2.0])
    np.testing.assert_allclose(x[-1], [2.0, 0.0], atol=1e-3)
    assert np.abs(u).max() <= 1.0
    assert np.abs(np.diff(np.vstack([[0.0], u]), axis=0)).max() <= 0.5 + 1e-12
    x, _, _ = run(controller, x[-1], 120)  # without a reference: zero
    np.testing.assert_allclose(x[-1], 0.0, atol=1e-3)


def test_a_constant_input_that_a_reference_needs_is_known():
    """A lossy plant: around its steady state, not around zero, the deviations are small."""
    problem = LQProblem([[0.9]], [[0.1]], [[1.0]], [[0.01]])
    controller = lqrad.mpc(problem, 10, input_bounds=(-3, 3), tracked=[[1.0]])
    x, u, plans = run(controller, [0.0], 60, [2.0])
    assert x[-1, 0] == pytest.approx(2.0, abs=1e-9)
    assert u[-1, 0] == pytest.approx(2.0, abs=1e-9)
    assert plans[-1].cost < 1e-15
    with pytest.raises(
        ArgumentError, match=r"needs the constant input u\[0\] = 4, which is outside"
    ):
        controller.step([0.0], [4.0])


def test_states_that_no_inputs_can_keep_give_way_and_come_back():
    controller = lqrad.mpc(
        CART, 30, input_bounds=(-1, 1), state_bounds=([-np.inf, -0.8], [np.inf, 0.8])
    )
    x, u, plans = run(controller, [3.0, 2.0], 80)
    assert plans[0].status is Status.INFEASIBLE
    assert "x[1] exceeds its limit by 1.1 at t=1" in plans[0].message
    np.testing.assert_allclose(u[:10], -1.0)  # brakes as hard as it can
    assert np.abs(u).max() <= 1.0
    back = next(k for k, plan in enumerate(plans) if plan.status.converged)
    assert back <= 12
    assert all(plan.status.converged for plan in plans[back:])
    assert np.abs(x[back + 2 :, 1]).max() <= 0.8 + 1e-6


def test_an_unstable_plant_with_rates_and_a_wall_that_is_too_near():
    """No force within its rate stops the cart before the wall: proven, and the wall gives way."""
    system = lqrad.systems.inverted_pendulum()
    wall = ([-0.01, -np.inf, -np.inf, -np.inf], np.inf)
    controller = lqrad.mpc(
        system.problem(), 40, input_bounds=(-8, 8), rate_bounds=(-2, 2), state_bounds=wall
    )
    for speed in (-0.5, -0.8):
        plan = controller.plan([0.0, speed, 0.0, 0.0])
        assert plan.status is Status.INFEASIBLE
        assert "x[0] exceeds its limit by 0." in plan.message
        assert np.abs(plan.u).max() <= 8 + 1e-6
        assert np.abs(np.diff(plan.u[:, 0], prepend=0.0)).max() <= 2 + 1e-6
    assert controller.plan([0.0, 0.3, 0.0, 0.0]).status.converged
    hurried = lqrad.mpc(
        system.problem(),
        40,
        input_bounds=(-8, 8),
        rate_bounds=(-2, 2),
        state_bounds=wall,
        max_iter=200,
    )
    stopped = hurried.plan([0.0, -0.8, 0.0, 0.0])  # proven impossible, and not finished with
    assert not stopped.status.converged
    assert np.abs(stopped.u).max() <= 8
    assert np.abs(np.diff(stopped.u[:, 0], prepend=0.0)).max() <= 2 + 1e-12
    np.testing.assert_allclose(
        system.problem().simulate([0.0, -0.8, 0.0, 0.0], stopped.u), stopped.x, atol=1e-8
    )


def test_the_limit_on_iterations_bounds_the_work_and_keeps_the_inputs():
    options = {"input_bounds": (-1, 1), "state_bounds": ([-np.inf, -0.8], [np.inf, 0.8])}
    exact = lqrad.mpc(CART, 30, **options)
    for most in (1, 2, 3):
        hurried = lqrad.mpc(CART, 30, max_iter=most, **options)
        x, u, plans = run(hurried, [3.0, 0.0], 100)
        assert max(plan.iterations for plan in plans) <= most
        assert np.abs(u).max() <= 1.0
        stopped = [
            (state, p)
            for state, p in zip(x[:-1], plans, strict=True)
            if p.status is Status.MAX_ITER
        ]
        for state, plan in stopped:
            assert np.abs(plan.u).max() <= 1.0
            np.testing.assert_allclose(CART.simulate(state, plan.u), plan.x, atol=1e-9)
            best = exact.plan(state)
            if plan.excess <= 1e-7 and best.status.converged:
                assert plan.cost - plan.gap_bound <= best.cost * (1 + 1e-7)
                assert plan.cost >= best.cost * (1 - 1e-7)
            assert "inputs within their bounds cost" in plan.message
        assert np.abs(x[-1]).max() < 0.05


def test_it_starts_from_the_plan_before():
    controller = lqrad.mpc(CART, 30, input_bounds=(-1, 1))
    _, _, plans = run(controller, [3.0, 0.0], 15)
    cold = []
    x = np.array([3.0, 0.0])
    for plan in plans:
        cold.append(lqrad.mpc(CART, 30, input_bounds=(-1, 1)).plan(x))
        assert plan.cost == pytest.approx(cold[-1].cost, rel=1e-6)
        x = plan.x[1]
    warm = sum(plan.iterations for plan in plans[1:])
    assert warm < 0.7 * sum(plan.iterations for plan in cold[1:])


def test_plan_changes_nothing():
    controller = lqrad.mpc(CART, 10, input_bounds=(-1, 1), rate_bounds=(-0.3, 0.3))
    controller.step([1.0, 0.0])
    before = controller.last, controller.u_before
    first = controller.plan([2.0, 0.0])
    second = controller.plan([2.0, 0.0])
    np.testing.assert_array_equal(first.u, second.u)
    assert (controller.last, controller.u_before) == before
    controller.reset(u_before=[0.5])
    assert controller.last is None
    assert controller.plan([2.0, 0.0]).u[0, 0] == pytest.approx(0.2, abs=1e-7)


def test_with_an_observer_the_state_is_estimated():
    plant = StateSpace(CART.A, CART.B, [[1.0, 0.0]], dt=0.1)
    W, V = 1e-4 * np.eye(2), [[1e-4]]
    observer = Observer.kalman(plant, W, V)
    controller = lqrad.mpc(CART, 20, input_bounds=(-1, 1), tracked=[[1.0, 0.0]], observer=observer)
    loop = lqrad.simulate_closed_loop(
        plant, controller, 100, reference=[1.0], W=W, V=V, rng=0, input_bounds=(-1, 1)
    )
    assert np.abs(loop.u).max() <= 1.0
    assert loop.x[-30:, 0].mean() == pytest.approx(1.0, abs=0.1)
    # Without bounds it is the LQG controller.
    free = lqrad.mpc(CART, 20, observer=observer)
    gaussian = lqrad.lqg(plant, CART.Q, CART.R, W, V)
    for y in np.random.default_rng(0).normal(size=(10, 1)):
        np.testing.assert_allclose(free.step(y), gaussian.step(y), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(free.x_hat, gaussian.x_hat, rtol=1e-8, atol=1e-10)


def test_refusals():
    varying = LQProblem(np.tile(CART.A, (3, 1, 1)), CART.B, CART.Q, CART.R)
    with pytest.raises(ArgumentError, match="problem varies over 3 stages; a horizon that recedes"):
        lqrad.mpc(varying, 3)
    with pytest.raises(ArgumentError, match="T is 0, expected a whole number of at least 1"):
        lqrad.mpc(CART, 0)
    with pytest.raises(
        ArgumentError, match=r"state_bounds leave nothing at \[0, 1\]: low is 2 and high is 1"
    ):
        lqrad.mpc(CART, 3, state_bounds=([0, 2], [1, 1]))
    with pytest.raises(
        ShapeError, match=r"rate_bounds\[0\] has shape \(2,\), expected a number or \(1,\)"
    ):
        lqrad.mpc(CART, 3, rate_bounds=([0, 0], 1))
    with pytest.raises(
        ShapeError, match=r"tracked has shape \(2,\), expected \(nr, n\) with n = 2"
    ):
        lqrad.mpc(CART, 3, tracked=[1.0, 0.0])
    pulled = LQProblem(CART.A, CART.B, CART.Q, CART.R, q=[1.0, 0.0])
    with pytest.raises(ArgumentError, match="tracked is given and the problem has q"):
        lqrad.mpc(pulled, 3, tracked=[[1.0, 0.0]])
    with pytest.raises(lqrad.NotStabilizableError, match="B cannot move the mode"):
        lqrad.mpc(LQProblem([[2.0]], [[0.0]], [[1.0]], [[1.0]]), 3)
    controller = lqrad.mpc(CART, 3)
    with pytest.raises(
        ShapeError, match=r"y has shape \(1, 2\), expected \(2,\) one series at a time"
    ):
        controller.step([[1.0, 0.0]])
    with pytest.raises(ArgumentError, match="reference is given, but nothing is tracked"):
        controller.step([1.0, 0.0], [1.0])
    with pytest.raises(ArgumentError, match="x_hat is given and there is no observer"):
        controller.reset(x_hat=[0.0, 0.0])
    with pytest.raises(lqrad.NonFiniteError, match=r"y\[1\] is inf"):
        controller.step([1.0, np.inf])
    with pytest.raises(ArgumentError, match="tol is -1, expected a number of at least 0"):
        lqrad.mpc(CART, 3, tol=-1)
    with pytest.raises(lqrad.NonFiniteError, match="the cost overflowed: max"):
        lqrad.mpc(CART, 3, input_bounds=(-1, 1)).plan([1e160, 0.0])
    assert repr(lqrad.mpc(CART, 3, input_bounds=(-1, 1))) == "MPC(n=2, m=1, T=3, 1 bounded rows)"


def test_linear_terms_are_part_of_the_problem():
    """An affine plant and a cost with slopes, against the same plan without bounds by riccati."""
    case = random_case(4, n=3, m=2, T=6, all_terms=True, time_varying=False)
    controller = lqrad.mpc(case.problem, 6)
    optimum = lqrad.riccati(controller.problem, 6).rollout(case.x0)
    np.testing.assert_allclose(controller.plan(case.x0).u, optimum.u, rtol=1e-8, atol=1e-9)
