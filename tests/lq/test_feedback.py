"""Closing the loop changes the variables and nothing else; a factor preconditions."""

from __future__ import annotations

import numpy as np
import pytest
from random_problems import random_case

import lqrad
from lqrad import LQProblem, descend
from lqrad.linalg.stages import times


def dense_hessian(problem, T):
    size = T * problem.m
    columns = [problem.hessian_product(e.reshape(T, problem.m)).ravel() for e in np.eye(size)]
    return np.array(columns)


@pytest.mark.parametrize("varying_K", [False, True], ids=["constant K", "varying K"])
@pytest.mark.parametrize("seed", range(12))
def test_trajectories_costs_and_gradients_are_those_of_the_open_loop(seed, varying_K):
    case = random_case(seed, T=7, all_terms=True)
    problem, rng, v = case.problem, np.random.default_rng(seed), case.u
    K = 0.3 * rng.normal(size=(*([7] if varying_K else []), problem.m, problem.n))
    closed = problem.with_feedback(K)
    x = closed.simulate(case.x0, v)
    u = v - times(K, x[:-1])
    growth = max(1.0, np.abs(x).max())
    np.testing.assert_allclose(problem.simulate(case.x0, u), x, rtol=1e-11, atol=1e-11 * growth)
    assert closed.cost(x, v) == pytest.approx(problem.cost(x, u), rel=1e-11, abs=1e-11)
    T = 7 if varying_K else problem.T
    assert closed.T == T
    # A quadratic: its central difference is exact at any step.
    d = rng.normal(size=v.shape)
    ahead, behind = (closed.cost(closed.simulate(case.x0, z), z) for z in (v + d, v - d))
    _, g = closed.value_and_gradient(case.x0, v)
    assert np.vdot(g, d) == pytest.approx((ahead - behind) / 2, abs=1e-11 * (ahead + behind))


@pytest.mark.parametrize("seed", range(8))
def test_with_riccatis_gains_the_hessian_is_block_diagonal(seed):
    case = random_case(seed, T=6, time_varying=bool(seed % 2))
    problem = case.problem
    recursion = lqrad.riccati(problem, 6)
    closed = problem.with_feedback(recursion.K)
    B = np.broadcast_to(problem.B, (6, problem.n, problem.m))
    blocks = problem.R + B.swapaxes(-1, -2) @ recursion.P[1:] @ B
    H = dense_hessian(closed, 6).reshape(6, problem.m, 6, problem.m)
    size = np.abs(blocks).max()
    for t in range(6):
        np.testing.assert_allclose(H[t, :, t], blocks[t], rtol=1e-9, atol=1e-9 * size)
        H[t, :, t] = 0.0
    assert np.abs(H).max() <= 1e-9 * size


@pytest.mark.parametrize("T", [20, 200, 1000])
def test_preconditioned_descent_ends_in_one_step_however_long_the_unstable_horizon(T):
    system = lqrad.systems.SYSTEMS["inverted-pendulum"]()
    plain = system.problem()
    rng = np.random.default_rng(0)
    problem = LQProblem(
        plain.A, plain.B, plain.Q, plain.R, c=0.01 * rng.normal(size=4), q=rng.normal(size=4)
    )
    recursion = lqrad.riccati(problem, T)
    optimum = recursion.rollout(system.x0)
    objective = problem.with_feedback(recursion.K).objective(system.x0)
    L = np.linalg.cholesky(problem.R + problem.B.T @ recursion.P[1:] @ problem.B)
    F = np.linalg.inv(L).swapaxes(-1, -2)
    result = descend(objective.scaled(F), method="gradient", tol=1e-18)
    assert result.history.gradient_norm[1] <= 1e-10 * result.history.gradient_norm[0]
    np.testing.assert_allclose(times(F, result.solution), -recursion.k, rtol=1e-8, atol=1e-9)
    assert result.cost == pytest.approx(optimum.cost, rel=1e-11)


def test_weights_that_rounding_leaves_singular_are_taken():
    """K = R^-1 M' removes the cross weight, and Q - M R^-1 M' of a rank-one cost is zero."""
    F = np.random.default_rng(0).normal(size=(5, 2))
    weight = F @ F.T
    Q, M, R = weight[:3, :3], weight[:3, 3:], weight[3:, 3:]
    problem = LQProblem(np.eye(3), np.ones((3, 2)), Q, R, M=M)
    closed = problem.with_feedback(np.linalg.solve(R, M.T))
    np.testing.assert_allclose(closed.M, 0.0, atol=1e-13)
    np.testing.assert_allclose(closed.Q, 0.0, atol=1e-12)
    assert (closed.Q == closed.Q.T).all()
    with pytest.raises(ValueError, match="read-only"):
        closed.A[0, 0] = 1.0


@pytest.mark.parametrize(
    ("K", "error", "message"),
    [
        (np.ones((2, 1)), lqrad.ShapeError, r"K has shape \(2, 1\), expected .*; did you pass K.T"),
        (np.ones((3, 1, 3)), lqrad.ShapeError, r"K has shape \(3, 1, 3\)"),
        (np.ones((0, 1, 2)), lqrad.ShapeError, r"K has shape \(0, 1, 2\)"),
        (1.0, lqrad.ShapeError, r"K has shape \(\)"),
        ([[np.inf, 1.0]], lqrad.NonFiniteError, r"K\[0, 0\] is inf"),
        ([["a", "b"]], lqrad.DtypeError, "K holds text"),
    ],
)
def test_gains_that_do_not_fit_are_named(K, error, message):
    problem = LQProblem(np.eye(2), np.ones((2, 1)), np.eye(2), np.eye(1))
    with pytest.raises(error, match=message):
        problem.with_feedback(K)


def test_gains_of_another_horizon_are_refused():
    problem = LQProblem(np.ones((4, 2, 2)), np.ones((2, 1)), np.eye(2), np.eye(1), np.eye(2))
    with pytest.raises(lqrad.ShapeError, match=r"K has shape \(3, 1, 2\), .* = \(4, 1, 2\)"):
        problem.with_feedback(np.ones((3, 1, 2)))


@pytest.mark.parametrize("varying", [False, True])
def test_a_scaled_objective_is_the_same_function_in_other_variables(varying):
    case = random_case(3, T=5, m=2, all_terms=True)
    rng = np.random.default_rng(0)
    F = rng.normal(size=(*([5] if varying else []), 2, 2)) + 3 * np.eye(2)
    plain = case.problem.objective(case.x0, 5)
    scaled = plain.scaled(F)
    w, v = rng.normal(size=(2, 5, 2))
    z = times(F, w)
    value, gradient = scaled.value_and_gradient(w)
    assert value == plain.value_and_gradient(z)[0]
    g = plain.value_and_gradient(z)[1]
    np.testing.assert_allclose(gradient, times(F, g, transpose=True))
    product = scaled.hessian_product(w, v)
    np.testing.assert_allclose(
        product, times(F, plain.hessian_product(z, times(F, v)), transpose=True)
    )
    assert scaled.gap_bound(gradient) == pytest.approx(plain.gap_bound(g), rel=1e-10)
    ahead, behind = (scaled.value_and_gradient(z)[0] for z in (w + v, w - v))
    assert np.vdot(gradient, v) == pytest.approx((ahead - behind) / 2, rel=1e-10)


def test_factors_that_do_not_fit_are_named():
    objective = LQProblem([[1.0]], [[1.0, 2.0]], [[1.0]], np.eye(2)).objective([1.0], 5)
    for factor in (np.eye(3), np.ones((4, 2, 2)), 2.0):
        with pytest.raises(lqrad.ShapeError, match=r"factor has shape .*\(5, 2\)"):
            objective.scaled(factor)
    flat = lqrad.Objective(shape=(3,), value_and_gradient=lambda z: (0.0, z))
    with pytest.raises(lqrad.ShapeError, match=r"which is \(3,\)"):
        flat.scaled(np.eye(3))
