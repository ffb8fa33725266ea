"""Set-points, previews and disturbances in a receding horizon, against dense quadratic programs."""

from __future__ import annotations

import numpy as np
import pytest
from dense_references import dense_plan, least, random_bounds, random_plant
from random_problems import psd, with_spectral_radius

import lqrad
from lqrad import ArgumentError, LQProblem, NonFiniteError, ShapeError, Status
from lqrad.design.targets import Targets

CART = LQProblem([[1, 0.1], [0, 1]], [[0.005], [0.1]], np.diag([10.0, 1.0]), [[0.1]])
HEATER = LQProblem([[0.9]], [[0.1]], [[1.0]], [[0.01]])


@pytest.mark.parametrize("varying", [False, True])
def test_plans_with_previews_are_those_of_a_dense_program(varying):
    """References of states and inputs, and disturbances, each constant or previewed, within limits."""
    compared, at_work = 0, 0
    for seed in range(40):
        rng, T = np.random.default_rng([61, seed, varying]), 5
        problem, x0 = random_plant(rng, T if varying else None)
        n, m = problem.n, problem.m
        told = {
            "x_ref": rng.normal(size=(T + 1, n) if rng.random() < 0.7 else n),
            "u_ref": rng.normal(size=(T, m) if rng.random() < 0.7 else m),
            "disturbance": 0.3 * rng.normal(size=(T, n) if rng.random() < 0.7 else n),
        }
        for name in rng.choice(list(told), size=rng.integers(0, 3), replace=False):
            del told[name]
        zero = {"x_ref": np.zeros(n), "u_ref": np.zeros(m), "disturbance": np.zeros(n)} | told
        x_ref = np.broadcast_to(zero["x_ref"], (T + 1, n))
        u_ref, d = (
            np.broadcast_to(zero["u_ref"], (T, m)), np.broadcast_to(zero["disturbance"], (T, n)),
        )  # fmt: skip
        before = 0.2 * rng.normal(size=m)
        u, x, _ = dense_plan(problem, T, x0, x_ref, u_ref, d, {}, before)
        bounds = random_bounds(rng, x, u, before)
        controller = lqrad.mpc(problem, T, tol=1e-13, **bounds)
        controller.reset(u_before=before)
        plan = controller.plan(x0, **told)
        if not plan.status.converged:
            continue
        u, x, cost = dense_plan(problem, T, x0, x_ref, u_ref, d, bounds, before)
        compared, at_work = compared + 1, at_work + plan.multipliers.any()
        assert plan.cost == pytest.approx(cost, rel=1e-8)
        step = controller.step(x0, **told)  # which may need no plan for its first input
        np.testing.assert_allclose(step, u[0], atol=1e-5 * np.abs(u).max())
        np.testing.assert_allclose(controller.last.u, plan.u, atol=1e-7 * np.abs(u).max())
        assert controller.last.message.split(";")[0].startswith("converged")
        # A gap of 1e-12, which the peer leaves, is one of 1e-6 in the inputs.
        np.testing.assert_allclose(plan.u, u, atol=1e-5 * np.abs(u).max())
        np.testing.assert_allclose(plan.x, x, atol=1e-5 * np.abs(x).max())
        np.testing.assert_array_equal(plan.x_ref, x_ref)
        np.testing.assert_array_equal(plan.u_ref, u_ref)
    assert compared > 25
    assert at_work > 20


def dense_target(problem, H, r, c, rows, low, high):
    """The three steps of a target, each as a quadratic program of its own."""
    n, m, nr = problem.n, problem.m, len(H)
    still = np.hstack([problem.A - np.eye(n), problem.B])
    # The least price of an error: z = (x, u, d) with x, u at rest and H (x + d) = r.
    weight = np.zeros((n + m + n, n + m + n))
    weight[n + m :, n + m :] = problem.Q
    equal = np.block([[still, np.zeros((n, n))], [H, np.zeros((nr, m)), H]])
    z = least(
        weight + 1e-13 * np.eye(len(weight)),
        np.zeros(len(weight)),
        (equal, np.concatenate([-c, r])),
    )
    held = r - H @ z[n + m :]
    both = np.zeros((n + m, n + m))
    both[n:, n:] = np.eye(m)
    equal = np.concatenate([still, np.hstack([H, np.zeros((nr, m))])])
    z = least(both + 1e-13 * np.eye(n + m), np.zeros(n + m), (equal, np.concatenate([-c, held])))
    weight = np.block([[problem.Q, problem.M], [problem.M.T, problem.R]])
    z = least(weight, -weight @ z, (still, -c), (rows, low, high))
    return z[:n], z[n:]


def test_the_nearest_target_is_that_of_dense_programs():
    """Too many outputs, limits on inputs and states, offsets; what can be held is held."""
    held, beyond = 0, 0
    for seed in range(60):
        rng = np.random.default_rng([62, seed])
        n, m = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        nr = int(rng.integers(1, n + 1))
        weight = psd(rng, n + m) + 0.3 * np.eye(n + m)
        A, B = with_spectral_radius(rng.normal(size=(n, n)), 0.8), rng.normal(size=(n, m))
        problem = LQProblem(A, B, weight[:n, :n], weight[n:, n:], M=weight[:n, n:])
        H, r, c = rng.normal(size=(nr, n)), rng.normal(size=nr), 0.3 * rng.normal(size=n)
        rows = np.concatenate([np.eye(n + m)[n:], np.eye(n + m)[:1]])
        most = rng.uniform(0.1, 3.0, size=m + 1)
        names = [f"row {i}" for i in range(m + 1)]
        found = Targets(problem, H, rows, -most, most, names).of(r[None], c[None])
        x, u = dense_target(problem, H, r, c, rows, -most, most)
        if found.words == ["no steady state is within the limits"]:
            continue
        found = found._replace(x=found.x[0], u=found.u[0], missed=found.missed[0])
        size = max(np.abs(x).max(), np.abs(u).max())
        np.testing.assert_allclose(found.x, x, atol=1e-5 * size, err_msg=str(seed))
        np.testing.assert_allclose(found.u, u, atol=1e-5 * size, err_msg=str(seed))
        np.testing.assert_allclose(A @ found.x + B @ found.u + c, found.x, atol=1e-12 * size)
        np.testing.assert_allclose(r - H @ found.x, found.missed, atol=1e-12 * size)
        assert (np.abs(rows @ np.concatenate([found.x, found.u])) <= most * (1 + 1e-12)).all()
        held, beyond = held + (not found.words[0]), beyond + bool(found.words[0])
    assert held > 8
    assert beyond > 30


def test_a_set_point_out_of_reach_becomes_the_nearest_and_is_told_of():
    controller = lqrad.mpc(HEATER, 10, input_bounds=(-3, 3), H=[[1.0]])
    x = np.zeros(1)
    for _ in range(250):  # at full power it comes nearer by a tenth in each step
        x = HEATER.A @ x + HEATER.B @ controller.step(x, 4.0)
    assert x[0] == pytest.approx(3.0, abs=1e-9)
    plan = controller.last
    assert plan.status is Status.CONVERGED_GAP
    assert (
        "the reference [4.] is out of reach, and [3.] is the nearest: u[0] at its limit 3"
        in plan.message
    )
    np.testing.assert_allclose(plan.missed, np.ones((11, 1)), rtol=1e-12)
    np.testing.assert_allclose(plan.x_ref, 3 * np.ones((11, 1)), rtol=1e-12)
    controller.step(x, 2.0)
    assert not controller.last.missed.any()
    assert "out of reach" not in controller.last.message
    # Just out of reach is no fault either, and a wall is a limit as any.
    controller.step(x, 3.0001)
    assert controller.last.missed[0, 0] == pytest.approx(1e-4)
    cart = lqrad.mpc(CART, 20, state_bounds=([-np.inf, -np.inf], [0.5, np.inf]), H=[[1.0, 0.0]])
    cart.step([0.0, 0.0], 1.0)
    assert "and [0.5] is the nearest: x[0] at its limit 0.5" in cart.last.message


def test_outputs_that_no_steady_state_holds_give_way_by_their_price():
    """A cart that is to stand at 1 and move at 0.5 stands: that error is all that it can have."""
    controller = lqrad.mpc(CART, 20, H=np.eye(2))
    controller.step([0.0, 0.0], [1.0, 0.5])
    np.testing.assert_allclose(controller.last.missed[0], [0.0, 0.5], atol=1e-12)
    assert "no steady state has [1.  0.5]" in controller.last.message
    drifting = LQProblem(CART.A, CART.B, CART.Q, CART.R, c=[0.0, 0.3])
    stuck = lqrad.mpc(drifting, 20, input_bounds=(-1, 1), H=[[1.0, 0.0]])
    stuck.step([0.0, 0.0], 1.0)
    assert "no steady state is within the limits" in stuck.last.message
    assert stuck.last.u[0] == -1.0  # the wind takes it away


def cost_of_run(preview, T=20, steps=80):
    """A step of the reference at t = 40, seen T steps ahead or when it comes."""
    r = np.where(np.arange(steps + T + 1) >= 40, 1.0, 0.0)
    controller = lqrad.mpc(CART, T, input_bounds=(-1, 1), H=[[1.0, 0.0]])
    x, cost = np.zeros(2), 0.0
    for t in range(steps):
        u = controller.step(x, r[t : t + T + 1] if preview else r[t])
        d = x - [r[t], 0.0]
        cost += 0.5 * (d @ CART.Q @ d + u @ CART.R @ u)
        x = CART.A @ x + CART.B @ u
    return cost, x


def test_a_step_that_is_seen_ahead_costs_less():
    (seen, x), (unseen, _) = cost_of_run(True), cost_of_run(False)
    assert x[0] == pytest.approx(1.0, abs=1e-4)
    assert seen < 0.5 * unseen


def test_a_disturbance_that_is_seen_ahead_costs_less():
    """A gust from t = 30 to 40, by measurements of now or of the next T steps."""
    T, Bd = 15, np.array([[0.0], [0.1]])
    gust = np.where((np.arange(100) >= 30) & (np.arange(100) < 40), 1.0, 0.0)
    costs = {}
    for kind in ("none", "now", "ahead"):
        controller = lqrad.mpc(CART, T, Bd=Bd)
        x, cost = np.zeros(2), 0.0
        for t in range(70):
            told = {"none": None, "now": gust[t : t + 1], "ahead": gust[t : t + T]}[kind]
            u = controller.step(x, disturbance=told)
            cost += 0.5 * (x @ CART.Q @ x + u @ CART.R @ u)
            x = CART.A @ x + CART.B @ u + Bd[:, 0] * gust[t]
        costs[kind] = cost
    assert costs["ahead"] < 0.7 * costs["none"]
    assert costs["ahead"] < costs["now"]


def test_a_model_that_is_new_at_each_step_is_planned_with_and_the_memory_kept():
    """A plant that varies in time, by its next T stages at each step, against its own optimum."""
    rng, N, T = np.random.default_rng(5), 12, 12
    A = np.array([with_spectral_radius(rng.normal(size=(2, 2)), 1.1) for _ in range(N)])
    B, S, x0 = rng.normal(size=(N, 2, 1)), np.eye(2), np.array([1.0, -1.0])
    optimum = lqrad.riccati(LQProblem(A, B, np.eye(2), [[1.0]], S)).rollout(x0)
    stays = LQProblem(np.eye(2), np.zeros((2, 1)), np.zeros((2, 2)), [[1.0]], S)
    controller = lqrad.mpc(LQProblem(A, B, np.eye(2), [[1.0]], S), T, rate_bounds=(-9, 9))
    x = x0
    for t in range(N):  # once the plant's life is over, nothing moves and nothing costs
        stages = {
            "A": np.concatenate([A[t:], np.tile(stays.A, (t, 1, 1))]),
            "B": np.concatenate([B[t:], np.tile(stays.B, (t, 1, 1))]),
            "Q": np.concatenate([np.tile(np.eye(2), (N - t, 1, 1)), np.tile(stays.Q, (t, 1, 1))]),
        }
        u = controller.step(x, model=LQProblem(**stages, R=[[1.0]], S=S))
        np.testing.assert_allclose(u, optimum.u[t], rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(controller.u_before, u)
        assert (controller.plan(x).cost != controller.last.cost) == (t > 0)  # its own again
        x = A[t] @ x + B[t] @ u
    controller.step(x, model=LQProblem(A[0], B[0], np.eye(2), [[1.0]]))  # with a weight by dare
    assert controller.last.status.converged


def test_what_is_told_of_the_next_steps_is_read_in_words():
    controller = lqrad.mpc(CART, 5, H=[[1.0, 0.0]])
    free = lqrad.mpc(CART, 5, Bd=[[0.0], [0.1]])
    x = [0.0, 0.0]
    for refused, kind, message in (
        (lambda: controller.step(x, np.zeros((5, 1))), ShapeError,
         r"reference has shape \(5, 1\), expected \(nr,\) or \(T \+ 1, nr\) with nr = 1, T = 5"),
        (lambda: controller.step(x, [0, 0, 0, np.nan, 0, 0]), NonFiniteError, r"reference\[3\] is nan"),
        (lambda: controller.step(x, x_ref=x), ArgumentError,
         "x_ref is given, and H says that outputs follow a reference; give the reference, or leave H"),
        (lambda: free.step(x, 1.0), ArgumentError, "reference is given, but nothing is tracked"),
        (lambda: free.step(x, x_ref=np.zeros((5, 2))), ShapeError, r"x_ref has shape \(5, 2\), exp"),
        (lambda: free.step(x, u_ref=np.zeros((6, 1))), ShapeError,
         r"u_ref has shape \(6, 1\), expected \(m,\) or \(T, m\) with m = 1, T = 5"),
        (lambda: free.step(x, disturbance=np.zeros((5, 2))), ShapeError,
         r"disturbance has shape \(5, 2\), expected \(nd,\) or \(T, nd\) with nd = 1, T = 5"),
        (lambda: free.step(x, model=HEATER), ShapeError, r"model is LQProblem\(n=1, m=1, time-"),
        (lambda: free.step(x, model=CART.A), ArgumentError, "model is of type ndarray, expected LQP"),
        (lambda: lqrad.mpc(CART, 5, Bd=[[1.0]]), ShapeError, r"Bd has shape \(1, 1\), expected \(n, nd"),
        (lambda: lqrad.mpc(LQProblem(np.tile(CART.A, (4, 1, 1)), CART.B, CART.Q, CART.R, CART.Q), 5),
         ArgumentError, "problem varies over 4 stages, and the horizon has T = 5; pass T = 4"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            refused()


def test_where_a_measurement_is_refused_the_memory_stays_and_an_input_is_told():
    controller = lqrad.mpc(CART, 8, input_bounds=(-1, 1), rate_bounds=(-0.4, 0.4))
    first = controller.step([3.0, 0.0])
    plan = controller.last
    fallback = controller.fallback
    with pytest.raises(
        NonFiniteError, match=r"y\[0\] is nan, expected finite.*apply `fallback` = \[-0\.8"
    ):
        controller.step([np.nan, 0.0])
    assert controller.last is plan
    np.testing.assert_array_equal(controller.u_before, first)
    np.testing.assert_allclose(fallback, plan.u[1], atol=1e-12)
    fresh = lqrad.mpc(CART, 1, input_bounds=(0.5, 1))
    np.testing.assert_array_equal(
        fresh.fallback, [0.5]
    )  # none was planned: what was, within bounds
