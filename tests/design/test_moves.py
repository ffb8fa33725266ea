"""Weights on how inputs change, and inputs that are held over several steps."""

from __future__ import annotations

import numpy as np
import pytest
from dense_references import dense_plan, random_bounds, random_plant
from random_problems import psd

import lqrad
from lqrad import ArgumentError, LQProblem, NotConvexError, ShapeError, Status

CART = LQProblem([[1, 0.1], [0, 1]], [[0.005], [0.1]], np.diag([10.0, 1.0]), [[0.1]])


@pytest.mark.parametrize("kind", ["weight", "blocks", "both"])
@pytest.mark.parametrize("varying", [False, True])
def test_plans_are_those_of_a_dense_program(kind, varying):
    """With references that vary within a block, disturbances, cross terms, and limits of all kinds."""
    compared, at_work = 0, 0
    for seed in range(25):
        rng, T = np.random.default_rng([64, seed, varying]), 6
        problem, x0 = random_plant(rng, T if varying else None)
        n, m = problem.n, problem.m
        told = {
            "x_ref": rng.normal(size=(T + 1, n)),
            "u_ref": rng.normal(size=(T, m)),
            "disturbance": 0.3 * rng.normal(size=(T, n)),
        }
        before = 0.2 * rng.normal(size=m)
        moved, options = {}, {}
        if kind != "blocks":
            moved["rate_weight"] = options["rate_weight"] = psd(rng, m)
        if kind != "weight":
            lengths = rng.choice([1, 2, 3], size=3)
            lengths = lengths[np.cumsum(lengths) <= T]
            options["blocks"] = lengths
            moved["moves"] = np.repeat(
                np.arange(len(lengths)), [*lengths[:-1], T - sum(lengths[:-1])]
            )
        u, x, _ = dense_plan(problem, T, x0, *told.values(), {}, before, **moved)
        bounds = random_bounds(rng, x, u, before)
        controller = lqrad.mpc(problem, T, tol=1e-13, **bounds, **options)
        controller.reset(u_before=before)
        plan = controller.plan(x0, **told)
        if not plan.status.converged:
            continue
        u, x, cost = dense_plan(problem, T, x0, *told.values(), bounds, before, **moved)
        compared, at_work = compared + 1, at_work + plan.multipliers.any()
        assert plan.cost == pytest.approx(cost, rel=1e-8)
        step = controller.step(x0, **told)  # which may need no plan for its first input
        np.testing.assert_allclose(step, u[0], atol=1e-5 * np.abs(u).max())
        np.testing.assert_allclose(controller.last.u, plan.u, atol=1e-7 * np.abs(u).max())
        assert controller.last.message.split(";")[0].startswith("converged")
        # A gap of 1e-12, which the peer leaves, is one of 1e-6 in the inputs.
        np.testing.assert_allclose(plan.u, u, atol=1e-5 * np.abs(u).max())
        np.testing.assert_allclose(plan.x, x, atol=1e-5 * np.abs(x).max())
        if "moves" in moved:  # to the last bit
            np.testing.assert_array_equal(
                plan.u, plan.u[np.unique(moved["moves"], return_index=True)[1]][moved["moves"]]
            )
    assert compared > 14
    assert at_work > 12


def test_a_weight_on_rates_has_the_stationary_regulator_of_the_last_input_without_limits():
    """The terminal weight is that of (x, u[t-1]): every horizon is as good as an endless one."""
    weight = np.array([[5.0]])
    A = np.block([[CART.A, np.zeros((2, 1))], [np.zeros((1, 3))]])
    B, Q = np.vstack([CART.B, [[1.0]]]), np.zeros((3, 3))
    Q[:2, :2], Q[2, 2] = CART.Q, 5.0
    K, _, _ = lqrad.dlqr(A, B, Q, CART.R + weight, M=[[0.0], [0.0], [-5.0]])
    for T in (1, 4):
        controller = lqrad.mpc(CART, T, rate_weight=weight)
        controller.reset(u_before=[0.7])
        np.testing.assert_allclose(controller.step([1.0, -0.5]), -K @ [1.0, -0.5, 0.7], rtol=1e-9)
    run = {}
    for weight in (None, [[5.0]]):
        controller, x, u = lqrad.mpc(CART, 20, rate_weight=weight), np.array([1.0, 0.0]), []
        for _ in range(200):
            u.append(controller.step(x))
            x = CART.A @ x + CART.B @ u[-1]
        assert np.abs(x).max() < 1e-3
        run[weight is None] = np.abs(np.diff(np.ravel(u), prepend=0.0)).max()
    assert run[False] < 0.3 * run[True]


def test_a_plan_is_longer_than_its_moves_and_limits_hold_within_blocks():
    controller = lqrad.mpc(
        CART, 40, blocks=[1, 2, 5], input_bounds=(-1, 1), state_bounds=([-np.inf, -0.6], np.inf)
    )
    x, speeds = np.array([2.0, 0.0]), []
    for _ in range(150):
        u = controller.step(x)
        plan = controller.last
        assert plan.u.shape == (40, 1)
        assert (plan.u[1:3] == plan.u[1]).all()
        assert (plan.u[3:] == plan.u[3]).all()
        x = CART.A @ x + CART.B @ u
        speeds.append(x[1])
    assert np.abs(x).max() < 0.02
    assert min(speeds) >= -0.6 - 1e-6
    assert "inputs are held in blocks" in controller.feasibility.reason


def test_stopped_and_impossible_plans_hold_their_blocks_too():
    bounds = {"input_bounds": (-1, 1), "rate_bounds": (-0.3, 0.3)}
    wall = {"state_bounds": ([-np.inf, -0.3], [np.inf, 0.3])}
    for options in (bounds | wall, bounds | wall | {"max_iter": 1}):
        controller = lqrad.mpc(CART, 12, blocks=[2, 4, 6], **options)
        controller.reset(u_before=[0.2])
        plan = controller.plan([3.0, 1.0])
        assert plan.status in (Status.INFEASIBLE, Status.MAX_ITER)
        starts = np.repeat([0, 2, 6], [2, 4, 6])
        np.testing.assert_array_equal(plan.u, plan.u[starts])
        assert np.abs(np.diff(plan.u[:, 0], prepend=0.2)).max() <= 0.3 + 1e-9
        assert "exceeds its limit by" in plan.message
        np.testing.assert_allclose(CART.simulate([3.0, 1.0], plan.u), plan.x, atol=1e-9)


def test_moves_that_cannot_be_are_refused_in_words():
    for options, kind, message in (
        ({"blocks": []}, ArgumentError, "blocks are 0 steps long, expected at least one block, and T = 5"),
        ({"blocks": [3, 3]}, ArgumentError, "blocks are 6 steps long, expected at least one"),
        ({"blocks": [1, 0]}, ArgumentError, r"blocks\[1\] is 0, expected a whole number of at least 1"),
        ({"blocks": 3}, ArgumentError, "blocks is 3, expected a list of numbers of steps"),
        ({"rate_weight": [[1.0, 0.0]]}, ShapeError, r"rate_weight has shape \(1, 2\), expected \(m, m\)"),
        ({"rate_weight": [[-1.0]]}, NotConvexError, "rate_weight has the eigenvalue -1"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            lqrad.mpc(CART, 5, **options)


def test_a_last_input_that_no_change_brings_back_is_told_by_its_own_excess():
    """The input keeps its bounds; the change of the first step is what it takes, and no other."""
    bounds = {"input_bounds": (-1, 1), "rate_bounds": (-0.3, 0.3)}
    for far, beyond in ((100.0, 98.7), (2.0, 0.7)):
        controller = lqrad.mpc(CART, 8, **bounds)
        controller.reset(u_before=[far])
        plan = controller.plan([1.0, 0.0])
        assert plan.status is Status.INFEASIBLE
        assert f"the change of u[0] exceeds its limit by {beyond} at t=0" in plan.message
        assert plan.excess == pytest.approx(beyond, rel=1e-12)
        assert plan.gap_bound == np.inf  # there is no minimum to be near to
        assert plan.rows.excess.max() == plan.excess
        np.testing.assert_allclose(plan.u[:4, 0], [1.0, 0.7, 0.4, 0.1], atol=1e-9)
    controller.reset(u_before=[1.25])  # near enough
    assert controller.plan([1.0, 0.0]).status is Status.CONVERGED_GAP
