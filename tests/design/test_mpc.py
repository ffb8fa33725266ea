"""Receding horizon: what is applied, what is promised, and what is said when neither can be."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from random_problems import psd, random_case, with_spectral_radius
from scipy import sparse

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
    controller = lqrad.mpc(CART, 30, input_bounds=(-1, 1), rate_bounds=(-0.5, 0.5), H=[[1.0, 0.0]])
    x, u, _ = run(controller, [0.0, 0.0], 120, [2.0])
    np.testing.assert_allclose(x[-1], [2.0, 0.0], atol=1e-3)
    assert np.abs(u).max() <= 1.0
    assert np.abs(np.diff(np.vstack([[0.0], u]), axis=0)).max() <= 0.5 + 1e-12
    x, _, _ = run(controller, x[-1], 120)  # without a reference: zero
    np.testing.assert_allclose(x[-1], 0.0, atol=1e-3)


def test_a_constant_input_that_a_reference_needs_is_known():
    """A lossy plant: around its steady state, not around zero, the deviations are small."""
    problem = LQProblem([[0.9]], [[0.1]], [[1.0]], [[0.01]])
    controller = lqrad.mpc(problem, 10, input_bounds=(-3, 3), H=[[1.0]])
    x, u, plans = run(controller, [0.0], 60, [2.0])
    assert x[-1, 0] == pytest.approx(2.0, abs=1e-9)
    assert u[-1, 0] == pytest.approx(2.0, abs=1e-9)
    assert plans[-1].cost < 1e-15


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
    controller = lqrad.mpc(CART, 20, input_bounds=(-1, 1), H=[[1.0, 0.0]], observer=observer)
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
    with pytest.raises(ArgumentError, match="problem varies in time and S is not given"):
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
    with pytest.raises(ShapeError, match=r"H has shape \(2,\), expected \(nr, n\) with n = 2"):
        lqrad.mpc(CART, 3, H=[1.0, 0.0])
    pulled = LQProblem(CART.A, CART.B, CART.Q, CART.R, q=[1.0, 0.0])
    with pytest.raises(ArgumentError, match="H is given and the problem has q"):
        lqrad.mpc(pulled, 3, H=[[1.0, 0.0]])
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
    assert repr(lqrad.mpc(CART, 3, input_bounds=(-1, 1))) == (
        "MPC(n=2, m=1, T=3, 1 bounded rows, steps on condensed rows)"
    )
    long = lqrad.mpc(CART, 3000, input_bounds=(-1, 1))
    assert repr(long).endswith("1 bounded rows, steps by Riccati sweeps)")


def test_linear_terms_are_part_of_the_problem():
    """An affine plant and a cost with slopes, against the same plan without bounds by riccati."""
    case = random_case(4, n=3, m=2, T=6, all_terms=True, time_varying=False)
    controller = lqrad.mpc(case.problem, 6)
    optimum = lqrad.riccati(controller.problem, 6).rollout(case.x0)
    np.testing.assert_allclose(controller.plan(case.x0).u, optimum.u, rtol=1e-8, atol=1e-9)


# Hard problems: unstable plants, heavy and light terminal weights, long horizons


@pytest.mark.parametrize("ratio", [1e8, 1e10, 1e12, 1e-12])
def test_heavy_terminal_weights_end_at_the_optimum_within_limits(ratio):
    """A cart from 10 m at rest: it may stay there, and a plan that costs more is not the best."""
    problem = LQProblem([[1, 1], [0, 1]], [[0.5], [1]], np.eye(2), [[1.0]], ratio * np.eye(2))
    controller = lqrad.mpc(
        problem, 10, input_bounds=(-1, 1), state_bounds=([-np.inf, -1], [np.inf, 1])
    )
    plan = controller.plan([10.0, 0.0])
    assert plan.status is Status.CONVERGED_GAP
    assert plan.gap_bound <= 1e-8 * plan.cost
    assert np.abs(plan.x[:, 1]).max() <= 1 + 1e-9
    assert np.abs(plan.u).max() <= 1
    # The last place that a speed of 1 reaches is half a metre: 1/2 S/4 and what the way costs.
    assert plan.cost == pytest.approx(0.4 * ratio, rel=2e-2) or ratio < 1


@pytest.mark.parametrize(
    ("a", "k", "T"),
    [(2, 1.001, 20), (1.1, 1.25, 150), (1.3, 1.25, 100), (3, 1.05, 16), (3, 1.25, 150)],
)
def test_limits_on_inputs_alone_can_always_be_kept(a, k, T):
    """From k times what |u| <= 1 can hold, u = -1 all along is best: its gradient is positive."""
    problem = LQProblem([[a]], [[1.0]], [[1.0]], [[1.0]], [[1.0]])
    plan = lqrad.mpc(problem, T, input_bounds=(-1, 1)).plan([k / (a - 1)])
    assert (plan.u == -1).all()
    _, gradient = problem.value_and_gradient([k / (a - 1)], plan.u)
    assert (gradient > 0).all()
    assert plan.status is Status.CONVERGED_GAP
    assert plan.gap_bound <= 1e-8 * plan.cost


def hard_problem(seed):
    """An unstable plant, T up to 200, S/R from 1e-12 to 1e12, and limits of up to three kinds."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    T = int(rng.choice([5, 16, 30, 60, 100, 200]))
    A = with_spectral_radius(rng.normal(size=(n, n)), rng.uniform(0.8, 3.0))
    Q, R = psd(rng, n) * 10.0 ** rng.uniform(-10, 2), psd(rng, m) + 0.5 * np.eye(m)
    S = (psd(rng, n) + 0.1 * np.eye(n)) * 10.0 ** rng.uniform(-12, 12)
    problem, x0 = LQProblem(A, rng.normal(size=(n, m)), Q, R, S), rng.normal(size=n)
    free = lqrad.riccati(problem, T).rollout(x0)
    far_u, far_x = np.abs(free.u).max(axis=0), np.abs(free.x[1:]).max(axis=0)
    high = {"input_bounds": far_u * rng.uniform(0.5, 1.1)}
    if rng.random() < 0.5:
        high["state_bounds"] = far_x * rng.uniform(0.8, 1.3, size=n)
    if rng.random() < 0.3:
        high["rate_bounds"] = far_u * rng.uniform(0.4, 1.3)
    return problem, T, x0, {name: (-z, z) for name, z in high.items()}


def peer_verdict(problem, T, x0, bounds):
    """What PIQP says of the problem with its states as variables, and its cost."""
    piqp = pytest.importorskip("piqp")
    n, m, unit = problem.n, problem.m, np.abs(problem.R).max()
    states = [sparse.kron(sparse.eye(T - 1), problem.Q), problem.S]
    weights = sparse.block_diag([*states, sparse.kron(sparse.eye(T), problem.R)], format="csc")
    ahead = sparse.kron(sparse.eye(T, k=-1), problem.A) - sparse.eye(T * n)
    equal = sparse.hstack([ahead, sparse.kron(sparse.eye(T), problem.B)], format="csc")
    right = np.concatenate([-problem.A @ x0, np.zeros((T - 1) * n)])
    none = np.full(n, np.inf)
    x_high, u_high = (
        bounds.get(name, (-none, none))[1] for name in ("state_bounds", "input_bounds")
    )
    high = np.concatenate([np.tile(x_high, T), np.tile(u_high, T)])
    rate = (None, None, None)
    if "rate_bounds" in bounds:
        changes = sparse.eye(T * m) - sparse.eye(T * m, k=-m)
        most = np.tile(bounds["rate_bounds"][1], T)
        rate = sparse.hstack([sparse.csc_matrix((T * m, T * n)), changes], "csc"), -most, most
    solver = piqp.SparseSolver()
    solver.settings.eps_abs, solver.settings.eps_rel, solver.settings.max_iter = 1e-12, 1e-10, 500
    solver.setup(weights / unit, np.zeros(len(high)), equal, right, *rate, -high, high)
    status, z = str(solver.solve()), solver.result.x
    x, u = np.vstack([x0, z[: T * n].reshape(T, n)]), z[T * n :].reshape(T, m)
    return status, float(problem.cost(x, u))


def proven_impossible(problem, x0, bounds, y):
    """Whether sum y (g - limit) > 0 for all inputs within their own bounds, in exact arithmetic."""
    n, m, T = problem.n, problem.m, len(y)
    A, B = (np.vectorize(Fraction, otypes=[object])(z) for z in (problem.A, problem.B))
    y = np.vectorize(Fraction, otypes=[object])(y)
    rates = "rate_bounds" in bounds
    parts = np.split(y, [m, m + m * rates], axis=1)
    on_u, on_rate, on_x = parts[0], parts[1] if rates else 0 * parts[0], parts[2]
    width = {"input_bounds": on_u, "rate_bounds": on_rate, "state_bounds": on_x}
    total = Fraction(0)
    for name, (_, high) in bounds.items():
        limits = np.vectorize(Fraction, otypes=[object])(high)
        total -= (np.abs(width[name]) * limits).sum()
    pull = np.zeros(n, object)  # the derivative of sum y g in x[t+1]
    for t in reversed(range(T)):
        pull = A.T @ pull + (on_x[t] if on_x.shape[1] else 0)
        slope = B.T @ pull + on_u[t] + on_rate[t] - (on_rate[t + 1] if t + 1 < T else 0)
        total -= (
            np.abs(slope) * np.vectorize(Fraction, otypes=[object])(bounds["input_bounds"][1])
        ).sum()
    start = np.vectorize(Fraction, otypes=[object])(x0)
    return total + pull @ A @ start > 0


def test_hard_problems_have_the_verdicts_and_costs_of_a_peer_or_a_proof():
    """PIQP where it ends at a solution; else a proof of ours, or a word that there is none."""
    compared, impossible, unproven = 0, 0, 0
    for seed in range(80):
        problem, T, x0, bounds = hard_problem(seed)
        plan = lqrad.mpc(problem, T, **bounds).plan(x0)
        status, cost = peer_verdict(problem, T, x0, bounds)
        solved = "SOLVED" in status
        if plan.status is Status.INFEASIBLE:
            impossible += 1
            assert not solved, (seed, plan, cost)
            assert proven_impossible(problem, x0, bounds, plan.certificate), seed
        elif plan.status is Status.CONVERGED_GAP:
            compared += solved
            assert plan.gap_bound <= 2e-8 * plan.cost
            assert not solved or plan.cost == pytest.approx(cost, rel=1e-6)
        else:  # PIQP finds nothing either, or the proof of the right answer is short of digits
            unproven += 1
            assert not solved or plan.cost == pytest.approx(cost, rel=1e-6)
    assert compared > 30
    assert impossible > 10
    assert unproven < 8  # beyond all limits, at costs of 1e20 and more


@pytest.mark.parametrize("seed", range(12))
def test_units_change_no_digit_and_no_verdict(seed):
    """States, inputs and the cost in units of other powers of two."""
    problem, T, x0, bounds = hard_problem(seed)
    rng = np.random.default_rng(seed)
    D, E = 2.0 ** rng.integers(-40, 41, problem.n), 2.0 ** rng.integers(-40, 41, problem.m)
    unit = 2.0 ** int(rng.integers(-40, 41))
    other = LQProblem(
        D[:, None] * problem.A / D,
        D[:, None] * problem.B / E,
        unit * problem.Q / np.outer(D, D),
        unit * problem.R / np.outer(E, E),
        unit * problem.S / np.outer(D, D),
    )
    scales = {"input_bounds": E, "rate_bounds": E, "state_bounds": D}
    scaled = {name: tuple(scales[name] * z for z in pair) for name, pair in bounds.items()}
    plan = lqrad.mpc(problem, T, **bounds).plan(x0)
    found = lqrad.mpc(other, T, **scaled).plan(D * x0)
    assert (found.status, found.iterations) == (plan.status, plan.iterations)
    np.testing.assert_array_equal(found.u, E * plan.u)
    np.testing.assert_array_equal(found.x, D * plan.x)
    assert found.cost == unit * plan.cost


def test_many_threads_share_one_controller():
    A, B = [[1.0, 0.1], [0.0, 1.0]], [[0.005], [0.1]]
    plant = lqrad.StateSpace(A, B, dt=0.1)
    controller = lqrad.mpc(
        LQProblem(A, B, np.diag([10.0, 1.0]), [[0.1]]),
        12,
        input_bounds=(-1, 1),
        rate_bounds=(-0.3, 0.3),
        H=[[1.0, 0.0]],
    )
    starts = np.random.default_rng(0).normal(size=(16, 2))

    def run(k):
        x0, reference = starts[k], [float(k % 3)]
        return lqrad.simulate_closed_loop(plant, controller, 10, x0=x0, reference=reference).x

    alone = [run(k) for k in range(16)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            many = list(threads.map(run, range(16)))
    finally:
        sys.setswitchinterval(interval)
    assert np.array_equal(many, alone)
    assert controller.last is None


def test_an_observer_of_what_the_input_feeds_through_to_is_refused():
    problem = lqrad.LQProblem([[0.9]], [[0.1]], [[1.0]], [[1.0]])
    plant = lqrad.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.5]], dt=1.0)
    observer = lqrad.Observer.kalman(plant, [[1.0]], [[1.0]])
    with pytest.raises(lqrad.ArgumentError, match="observer has a feedthrough D"):
        lqrad.mpc(problem, 5, observer=observer)


def plant_and_start(rng):
    """A plant, stable or not, whose weights are decades apart; a horizon, and an initial state."""
    n, m, T = (int(rng.integers(1, most)) for most in (6, 4, 31))
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, m))
    A *= rng.uniform(0.5, 1.6) / np.abs(np.linalg.eigvals(A)).max()
    F, G = rng.normal(size=(n, n)), rng.normal(size=(m, m))
    Q, R = F @ F.T * 10.0 ** rng.uniform(-6, 6) / n, G @ G.T / m + 0.3 * np.eye(m)
    problem = LQProblem(A, B, Q, R, 10.0 ** rng.uniform(-6, 6) * np.eye(n))
    return problem, T, rng.normal(size=n) * 10.0 ** rng.uniform(-3, 3)


def touched(values, rng):
    """Limits that values (T, k) keep, and that all of them touch, or the outermost ones do."""
    if rng.random() < 1 / 3:
        return values.min(axis=0), values.max(axis=0)
    lower = rng.random(values.shape) < 0.5
    return np.where(lower, values, values - 1), np.where(lower, values + 1, values)


@pytest.mark.parametrize("seed", [*range(40), 602, 803])
def test_what_a_trajectory_keeps_by_touching_it_is_never_infeasible(seed):
    rng = np.random.default_rng([15, seed])
    problem, T, x0 = plant_and_start(rng)
    u = rng.normal(size=(T, problem.m)) * 10.0 ** rng.uniform(-2, 2)
    bounds = {
        "input_bounds": touched(u, rng),
        "state_bounds": touched(problem.simulate(x0, u)[1:], rng),
    }
    if rng.random() < 0.4:
        bounds["rate_bounds"] = touched(np.diff(u, axis=0, prepend=0 * u[:1]), rng)
    plan = lqrad.mpc(problem, T, max_iter=150, **bounds).plan(x0)
    assert plan.status is not Status.INFEASIBLE
    assert plan.certificate is None


def fractions_of(values):
    """An array of rationals, each equal to its double."""
    return np.vectorize(Fraction, otypes=[object])(np.asarray(values, float))


def least_sum(problem, x0, bound, y_u, y_x, t, low):
    """The least of sum y_u u + sum y_x x[t] - its limits over |u| <= bound, in rationals.

    Only one state has a limit, the low one `low` at stage t.
    """
    A, B, xi = fractions_of(problem.A), fractions_of(problem.B), fractions_of(y_x)
    total = -sum(fractions_of(np.abs(y_u)).ravel() * np.tile(fractions_of(bound), len(y_u)))
    total -= sum(v * Fraction(low) for v in xi if v)
    slopes = fractions_of(y_u)
    for s in reversed(range(t)):
        slopes[s] = slopes[s] + B.T.dot(xi)
        xi = A.T.dot(xi)
    return total + xi.dot(fractions_of(x0)) - (abs(slopes) * fractions_of(bound)).sum()


@pytest.mark.parametrize("seed", range(40))
def test_what_is_out_of_reach_is_infeasible_by_a_certificate_in_rationals(seed):
    rng = np.random.default_rng([16, seed])
    problem, T, x0 = plant_and_start(rng)
    bound = np.abs(rng.normal(size=problem.m)) * 10.0 ** rng.uniform(-2, 1)
    t, i = int(rng.integers(1, T + 1)), int(rng.integers(problem.n))
    powers = [np.linalg.matrix_power(problem.A, s) for s in range(t + 1)]
    reach = sum(np.abs(power @ problem.B) @ bound for power in powers[:-1])[i]
    centre = (powers[-1] @ x0)[i]
    low = np.full((T, problem.n), -np.inf)
    low[t - 1, i] = centre + reach + rng.choice([1e-4, 1e-2, 1.0, 100.0]) * (reach + abs(centre))
    bounds = {"input_bounds": (-bound, bound), "state_bounds": (low, np.inf)}
    plan = lqrad.mpc(problem, T, **bounds).plan(x0)
    assert plan.status is Status.INFEASIBLE
    y_u, y_x = plan.certificate[:, : problem.m], np.zeros(problem.n)
    y_x[i] = plan.certificate[t - 1, problem.m]
    assert y_x[i] < 0
    assert (plan.certificate[np.arange(T) != t - 1, problem.m] == 0).all()
    assert least_sum(problem, x0, bound, y_u, y_x, t, low[t - 1, i]) > 0


def test_the_multipliers_of_a_plan_are_read_under_their_former_name():
    plan = lqrad.mpc(CART, 5, input_bounds=(-0.1, 0.1)).plan([1.0, 0.0])
    assert plan.multipliers.any()
    assert plan.y is plan.multipliers


def test_its_design_cannot_be_set():
    controller = lqrad.mpc(CART, 5)
    with pytest.raises(AttributeError, match="T of a MPC cannot be set"):
        controller.T = 6


def test_a_horizon_without_any_limit_has_the_inputs_of_dlqr():
    problem = lqrad.LQProblem([[1, 0.1], [0, 1]], [[0.005], [0.1]], np.eye(2), [[0.1]])
    K, _, _ = lqrad.dlqr(problem.A, problem.B, problem.Q, problem.R)
    controller, x = lqrad.mpc(problem, 12), np.array([1.0, -2.0])
    for _ in range(3):
        u = controller.step(x)
        np.testing.assert_allclose(u, -K @ x, rtol=1e-12)
        assert controller.last.multipliers.shape == (12, 0)
        x = problem.A @ x + problem.B @ u
