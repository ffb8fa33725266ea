"""Policies: gradients against differences and a peer, Riccati's gain, and three ways down to it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from random_problems import random_case

import lqrad
from lqrad.errors import ArgumentError, NonFiniteError, NotConvexError, ShapeError, Status
from lqrad.nets.graph import Graph
from lqrad.nets.networks import mlp
from lqrad.nets.nodes import Node
from lqrad.nets.primitives import add, affine, matmul, squared, tanh
from lqrad.nets.sgd import sgd
from lqrad.nonlinear.control import ControlProblem
from lqrad.policies.policy_gradient import METHODS, policy_gradient
from lqrad.policies.problem import PolicyProblem, linear_policy


def swing(x, u, t):
    angle, rate = x[..., 0], x[..., 1]
    push = np.tanh(u[..., 0]) - 0.3 * u[..., 1] * np.cos(angle) + 0.01 * t
    rate = rate + 0.1 * (9.81 * np.sin(angle) + push)
    return np.stack([angle + 0.1 * rate, rate], axis=-1)


def stage(x, u, t):
    return (1 + 0.1 * t) * (1 - np.cos(x[..., 0]) + 0.1 * (u**2).sum(axis=-1) * np.cosh(x[..., 1]))


def last(x):
    return x[..., 0] ** 4 + np.sin(x[..., 1])


pendulum = ControlProblem(swing, stage, last, n=2, m=2)


def problems():
    """A nonlinear policy, a linear one, and one with a skip and a parameter that is used twice."""
    skip = Graph(
        [
            Node("a", affine, ("x",), ("W", "b")),
            Node("h", tanh, ("a",)),
            Node("s", add, ("h", "x")),
            Node("output", matmul, ("s",), ("W",)),
            Node("unused", matmul, ("x",), ("V",)),
            Node("loss", squared, ("output", "unused")),
        ],
        costs={"loss": 1.0},
        parameters={"V": (2, 2), "W": (2, 2), "b": (2,)},
    )
    return {
        "mlp": PolicyProblem(pendulum, mlp([2, 5, 4, 2], loss="squared"), T=7),
        "linear": PolicyProblem(pendulum, linear_policy(2, 2), T=7),
        "skip": PolicyProblem(pendulum, skip, T=7),
    }


X0 = np.random.default_rng(1).normal(size=(4, 2))


def point(problem, seed=0):
    return 0.5 * np.random.default_rng(seed).normal(size=problem.size)


def one_by_one(problem, x0, theta):
    """The mean cost, by a plain loop over series and times, from functions of one point."""
    total = 0.0
    for x in x0:
        for t in range(problem.T):
            u = problem.policy.forward({"x": x[None]}, theta, only=["output"])["output"][0]
            total += float(stage(x, u, t))
            x = swing(x, u, t)
        total += float(last(x))
    return total / len(x0)


@pytest.mark.parametrize("name", ["mlp", "linear", "skip"])
def test_the_gradient_is_that_of_differences_of_a_plain_loop(name):
    problem = problems()[name]
    v = point(problem)
    J, g = problem.objective(X0).value_and_gradient(v)
    value = lambda v: one_by_one(problem, X0, problem.unflatten(v))  # noqa: E731
    assert pytest.approx(value(v), rel=1e-13) == J
    h = 1e-5
    differences = [(value(v + h * e) - value(v - h * e)) / (2 * h) for e in np.eye(len(v))]
    np.testing.assert_allclose(g, differences, atol=1e-7 * np.abs(g).max())


@pytest.mark.parametrize("name", ["mlp", "linear", "skip"])
def test_the_taylor_remainder_has_order_two(name):
    problem = problems()[name]
    objective = problem.objective(X0, T=4)
    test = lqrad.taylor_test(objective.value_and_gradient, point(problem))
    assert test.order == pytest.approx(2, abs=0.05)


def test_the_gradient_is_that_of_jax_to_rounding():
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    problem = problems()["mlp"]
    v = point(problem)
    theta = problem.unflatten(v)

    def cost(theta, x):
        total = 0.0
        for t in range(3):
            h = jnp.tanh(x @ theta["W1"] + theta["b1"])
            h = jnp.tanh(h @ theta["W2"] + theta["b2"])
            u = h @ theta["W3"] + theta["b3"]
            total += (1 + 0.1 * t) * (1 - jnp.cos(x[0]) + 0.1 * (u @ u) * jnp.cosh(x[1]))
            push = jnp.tanh(u[0]) - 0.3 * u[1] * jnp.cos(x[0]) + 0.01 * t
            rate = x[1] + 0.1 * (9.81 * jnp.sin(x[0]) + push)
            x = jnp.stack([x[0] + 0.1 * rate, rate])
        return total + x[0] ** 4 + jnp.sin(x[1])

    mean = lambda theta: jax.vmap(cost, (None, 0))(theta, X0).mean()  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected_J, expected = jax.jit(jax.value_and_grad(mean))(theta)
    J, gradient = problem.value_and_gradient(X0, theta, T=3)
    assert pytest.approx(float(expected_J), rel=1e-12) == J
    size = max(float(abs(g).max()) for g in expected.values())
    for name, g in expected.items():
        np.testing.assert_allclose(gradient[name], g, rtol=1e-10, atol=1e-10 * size)


def test_a_batch_is_the_mean_of_its_series():
    problem = problems()["mlp"]
    theta = problem.unflatten(point(problem))
    J, gradient = problem.value_and_gradient(X0, theta)
    single = [problem.value_and_gradient(x, theta) for x in X0]
    assert pytest.approx(np.mean([value for value, _ in single]), rel=1e-13) == J
    for name in gradient:
        mean = np.mean([g[name] for _, g in single], axis=0)
        np.testing.assert_allclose(gradient[name], mean, rtol=1e-11, atol=1e-11)
    x, u = problem.simulate(X0.reshape(2, 2, 2), theta, T=3)
    assert x.shape == (2, 2, 4, 2)
    assert u.shape == (2, 2, 3, 2)
    lone_x, lone_u = problem.simulate(X0[3], theta)
    np.testing.assert_allclose(x[1, 1], lone_x[:4], rtol=1e-13)
    np.testing.assert_allclose(u[1, 1], lone_u[:3], rtol=1e-13)
    folded, _ = problem.value_and_gradient(X0.reshape(2, 2, 2), theta)
    assert folded == J


@pytest.mark.parametrize("seed", range(20))
def test_a_linear_policy_costs_what_the_loop_closed_by_hand_does(seed):
    case = random_case(seed, radius=0.95)
    lq, rng = case.problem, np.random.default_rng(seed)
    problem = PolicyProblem(lq, linear_policy(lq.n, lq.m), T=case.T)
    x0 = rng.normal(size=(3, lq.n))
    K = 0.2 * rng.normal(size=(lq.m, lq.n))
    J, gradient = problem.value_and_gradient(x0, {"K": K})
    zero = np.zeros((3, case.T, lq.m))

    def closed(K):
        loop = lq.with_feedback(K)
        return float(np.mean(loop.cost(loop.simulate(x0, zero), zero)))

    assert pytest.approx(closed(K), rel=1e-11, abs=1e-11) == J
    x, u = problem.simulate(x0, {"K": K})
    np.testing.assert_allclose(x, lq.with_feedback(K).simulate(x0, zero), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(u, -x[:, :-1] @ K.T, rtol=1e-12, atol=1e-12)
    d, h = rng.normal(size=K.shape), 1e-5
    slope = (closed(K + h * d) - closed(K - h * d)) / (2 * h)
    scale = np.linalg.norm(gradient["K"]) * np.linalg.norm(d) + abs(J)
    assert np.vdot(gradient["K"], d) == pytest.approx(slope, abs=1e-7 * scale)


SYSTEMS = {
    "stable": ([[0.9, 0.2], [0.0, 0.7]], [[0.0], [1.0]], [[0.1, 0.2]]),
    "unstable": ([[1.2, 0.5], [0.0, 0.9]], [[0.0], [1.0]], [[0.8, 1.0]]),
    "two inputs, unstable": (
        [[1.1, 0.3, 0.0], [0.0, 1.3, 0.2], [0.1, 0.0, 0.8]],
        [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    ),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_linear_policy_finds_the_regulator_of_riccati(name):
    A, B, start = map(np.array, SYSTEMS[name])
    Q, R = np.eye(len(A)), np.eye(B.shape[1])
    K, P, _ = lqrad.dlqr(A, B, Q, R)
    # With the cost to go as terminal weight the stationary gain is optimal over any horizon.
    lq = lqrad.LQProblem(A, B, Q, R, S=P)
    problem = PolicyProblem(lq, linear_policy(lq.n, lq.m), T=60)
    result = lqrad.descend(problem.objective(np.eye(lq.n)), start.ravel(), method="l-bfgs")
    assert result.status.converged
    np.testing.assert_allclose(problem.unflatten(result.solution)["K"], K, atol=1e-4)
    assert result.cost == pytest.approx(0.5 * np.trace(P) / lq.n, rel=1e-9)


def test_minibatches_of_initial_states_train_a_policy():
    lq = lqrad.LQProblem([[1.0, 0.1], [0.0, 1.0]], [[0.0], [0.1]], np.eye(2), [[0.1]])
    problem = PolicyProblem(lq, mlp([2, 8, 1], loss="squared"), T=30)
    rng = np.random.default_rng(0)
    theta, data = problem.initial(rng), {"x0": rng.normal(size=(64, 2))}
    result = sgd(problem, theta, data, epochs=30, rng=0, batch_size=16, step_size=0.02)
    optimum = np.mean(lqrad.riccati(lq, 30).cost(data["x0"]))
    before, _ = problem.value_and_gradient(data["x0"], theta)
    after, _ = problem.value_and_gradient(data["x0"], result.theta)
    assert result.status is Status.MAX_ITER
    assert optimum < after < 1.2 * optimum < before


# What goes wrong


def test_a_loop_that_overflows_names_the_step_and_ends_a_descent():
    lq = lqrad.LQProblem([[1e40]], [[1.0]], [[1.0]], [[1.0]])
    problem = PolicyProblem(lq, linear_policy(1, 1), T=20)
    message = r"state x\[8\] of the closed loop is not finite, of 20 steps; try smaller parameters"
    with pytest.raises(NonFiniteError, match=message):
        problem.simulate([1.0], {"K": [[0.0]]})
    with pytest.raises(NonFiniteError, match=message):
        problem.objective([[1.0]]).value_and_gradient(np.zeros(1))
    result = lqrad.descend(problem.objective([[1.0]]))
    assert result.status is Status.DIVERGED
    assert "x[8]" in result.message
    lq = lqrad.LQProblem([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    problem = PolicyProblem(lq, linear_policy(1, 1), T=3)
    with pytest.raises(NonFiniteError, match=r"vector\[0\] is nan"):
        problem.objective([1.0]).value_and_gradient(np.array([np.nan]))
    # Forward all is finite, from a state so small that the backward pass has no room left.
    steep = PolicyProblem(
        lqrad.LQProblem([[1e40]], [[1.0]], [[1.0]], [[1.0]]), linear_policy(1, 1), T=10
    )
    with pytest.raises(NonFiniteError, match="costates of the closed loop overflowed, of 10 steps"):
        steep.value_and_gradient([[1e-300], [0.0]], {"K": [[0.0]]})
    with pytest.raises(NonFiniteError, match="the cost overflowed"):
        problem.value_and_gradient([1e120], {"K": [[1e20]]})


def test_a_line_search_comes_back_from_steps_that_overflow():
    # The gradient at the start is so steep that the first steps of a line search leave the numbers.
    lq = lqrad.LQProblem([[3.0]], [[1.0]], [[1.0]], [[1.0]])
    problem = PolicyProblem(lq, linear_policy(1, 1), T=300)
    result = lqrad.descend(problem.objective([[1.0]]), [3.97])
    assert result.status.converged
    np.testing.assert_allclose(result.solution, lqrad.dlqr([[3]], [[1]], [[1]], [[1]])[0][0], 1e-6)


def test_what_does_not_fit_is_named():
    lq = lqrad.LQProblem(np.eye(2), np.ones((2, 1)), np.eye(2), [[1.0]])
    varying = lqrad.LQProblem(np.ones((3, 1, 1)), [[1.0]], [[1.0]], [[1.0]])
    good = PolicyProblem(lq, linear_policy(2, 1), T=3)
    theta = {"K": [[0.1, 0.2]]}
    x = Node("x2", matmul, ("x",), ("W",))
    other = Graph(
        [x, Node("output", add, ("x2", "z")), Node("loss", squared, ("output", "y"))],
        costs={"loss": 1.0},
        parameters={"W": (2, 1)},
    )
    blind = Graph(
        [x, Node("loss", squared, ("x2", "y"))], costs={"loss": 1}, parameters={"W": (2, 1)}
    )
    for call, error, message in [
        (lambda: PolicyProblem(lq, linear_policy(2, 1)), ArgumentError, "T is not given"),
        (lambda: PolicyProblem(pendulum, linear_policy(2, 2)), ArgumentError, "T is not given"),
        (lambda: PolicyProblem(varying, linear_policy(1, 1), T=4), ArgumentError, "T is 4, but"),
        (
            lambda: PolicyProblem(np.eye(2), linear_policy(2, 1), T=3),
            ArgumentError,
            "problem is of",
        ),
        (lambda: PolicyProblem(lq, np.eye(2), T=3), ArgumentError, "policy is of type ndarray"),
        (
            lambda: PolicyProblem(lq, other, T=3),
            ArgumentError,
            r"inputs \['x', 'z'\], expected 'x'",
        ),
        (lambda: PolicyProblem(lq, blind, T=3), ArgumentError, "'output' is no node"),
        (
            lambda: PolicyProblem(lq, linear_policy(2, 2), T=3),
            ShapeError,
            r"output has shape \(2, 2\) for x \(2, 2\), expected \(2, 1\)",
        ),
        (lambda: PolicyProblem(lq, linear_policy(3, 1), T=3), ShapeError, "node 'output'"),
        (lambda: good.simulate(np.ones(3), theta), ShapeError, r"x0 has shape \(3,\)"),
        (lambda: good.objective(np.ones((0, 2))), ShapeError, "at least one state"),
        (lambda: good.objective({"x": np.eye(2)}), ArgumentError, r"the data have \['x'\]"),
        (lambda: good.simulate([np.nan, 1], theta), NonFiniteError, r"x0\[0\] is nan"),
        (lambda: good.simulate([1, 1], {"K": np.eye(2)}), ShapeError, r"theta\['K'\] has shape"),
        (lambda: good.simulate([1, 1], {}), ArgumentError, "theta has no 'K'"),
        (lambda: good.simulate([1, 1], theta, T=0), ArgumentError, "T is 0"),
        (
            lambda: good.objective(np.eye(2)).value_and_gradient(np.ones(3)),
            ShapeError,
            r"vector has shape \(3,\)",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert PolicyProblem(varying, linear_policy(1, 1)).T == 3


# Descent on the gain


def stage_weights(seed):
    """A system with a cross weight, and a gain that stabilises it without being optimal."""
    rng = np.random.default_rng(seed)
    n, m = [(1, 1), (2, 1), (3, 2), (4, 2)][seed % 4]
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, m))
    A *= (0.8 + 0.1 * seed) / np.abs(np.linalg.eigvals(A)).max()
    lq = lqrad.LQProblem(A, B, np.eye(n), np.eye(m), M=0.2 * rng.normal(size=(n, m)))
    K0 = lqrad.dlqr(A, B, 0.1 * np.eye(n), 20 * np.eye(m))[0]
    half = rng.normal(size=(n, n))
    return lq, K0, half @ half.T + np.eye(n)


def long_run(lq, K, cov):
    """The cost of K by summing stages: 1/2 sum_t tr((Q - MK - K'M' + K'RK) F^t S0 F^t')."""
    F = lq.A - lq.B @ K
    D = lq.Q - lq.M @ K - K.T @ lq.M.T + K.T @ lq.R @ K
    total = 0.0
    for _ in range(3000):
        total += 0.5 * np.trace(D @ cov)
        cov = F @ cov @ F.T
    return total


@pytest.mark.parametrize("seed", range(6))
def test_the_three_methods_reach_the_regulator(seed):
    lq, K0, cov = stage_weights(seed)
    K, P, _ = lqrad.dlqr(lq.A, lq.B, lq.Q, lq.R, M=lq.M)
    least = 0.5 * np.trace(P @ cov)
    for method in METHODS:
        result = policy_gradient(lq, K0, cov, method=method, tol=1e-10, max_iter=20000)
        assert result.status is Status.CONVERGED_GAP, result
        gap = result.history.cost[-1] - least
        assert gap <= result.gap_bound + 1e-13 * least <= 2e-10 * least
        assert (np.diff(result.history.cost) <= 1e-14 * result.history.cost[0]).all()
        np.testing.assert_allclose(result.K, K, atol=1e-4)
        np.testing.assert_allclose(0.5 * np.trace(result.P @ cov), result.cost, rtol=1e-14)
        assert result.cost == result.history.cost[-1] == result.costs[-1]
        # The bound holds all along the way, not only at the end.
        early = policy_gradient(lq, K0, cov, method=method, max_iter=1)
        assert 0 < early.history.cost[-1] - least <= early.gap_bound


@pytest.mark.parametrize("seed", range(4))
def test_costs_and_the_first_step_are_those_of_sums_and_differences(seed):
    lq, K0, cov = stage_weights(seed)
    result = policy_gradient(lq, K0, cov, max_iter=1, step_size=1e-4)
    assert result.history.cost[0] == pytest.approx(long_run(lq, K0, cov), rel=1e-10)
    h, g = 1e-5, np.empty_like(K0)
    for i in np.ndindex(K0.shape):
        e = np.zeros_like(K0)
        e[i] = h
        g[i] = (long_run(lq, K0 + e, cov) - long_run(lq, K0 - e, cov)) / (2 * h)
    assert result.history.gradient_norm[0] == pytest.approx(np.linalg.norm(g), rel=1e-7)
    np.testing.assert_allclose((K0 - result.K) / 1e-4, g, atol=1e-6 * np.abs(g).max())
    # The natural gradient is the gradient times the inverse of X = sum_t F^t S0 F^t'.
    F, X, term = lq.A - lq.B @ K0, np.zeros_like(cov), cov
    for _ in range(3000):
        X, term = X + term, F @ term @ F.T
    natural = policy_gradient(lq, K0, cov, method="natural", max_iter=1, step_size=1e-4)
    expected = g @ np.linalg.inv(X)
    np.testing.assert_allclose(
        (K0 - natural.K) / 1e-4, expected, atol=1e-5 * np.abs(expected).max()
    )


def test_gauss_newton_at_step_one_is_policy_iteration_and_quadratic():
    lq, K, cov = stage_weights(3)
    best = lqrad.dlqr(lq.A, lq.B, lq.Q, lq.R, M=lq.M)[0]
    start, errors = K, []
    for k in range(1, 5):
        F = lq.A - lq.B @ K
        D = lq.Q - lq.M @ K - K.T @ lq.M.T + K.T @ lq.R @ K
        P = np.zeros_like(D)
        for _ in range(3000):  # evaluate the policy, then be greedy with its cost to go
            P = D + F.T @ P @ F
        K = np.linalg.solve(lq.R + lq.B.T @ P @ lq.B, lq.B.T @ P @ lq.A + lq.M.T)
        result = policy_gradient(lq, start, cov, method="gauss-newton", max_iter=k, tol=1e-300)
        np.testing.assert_allclose(result.K, K, rtol=1e-9, atol=1e-10)
        assert result.history.step[1:].tolist() == [1.0] * k
        errors.append(np.abs(result.K - best).max())
    assert errors[0] > 1e-3 > errors[2]
    squares = np.array(errors[:2]) ** 2
    assert (np.array(errors[1:3]) <= 2 * squares).all(), errors


def test_where_rounding_hides_the_descent_the_gradients_still_tell():
    """An inverted pendulum, whose J = 1314 has rounding errors above the decrease of a step."""
    plant = lqrad.systems.inverted_pendulum()
    start = lqrad.dlqr(plant.A, plant.B, np.eye(4), [[1.0]])[0]
    result = policy_gradient(plant.problem(), start, tol=1e-11, max_iter=5000)
    assert result.status is Status.CONVERGED_GAP, result
    K = lqrad.dlqr(plant.A, plant.B, plant.Q, plant.R)[0]
    np.testing.assert_allclose(result.K, K, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_tolerance_out_of_reach_stalls(method):
    lq, K0, cov = stage_weights(3)
    result = policy_gradient(lq, K0, cov, method=method, tol=1e-40, max_iter=20000)
    assert result.status is Status.STALLED, result
    assert result.iterations < 2000
    np.testing.assert_allclose(
        result.K, lqrad.dlqr(lq.A, lq.B, lq.Q, lq.R, M=lq.M)[0], rtol=0, atol=1e-12
    )


def test_a_blind_weight_ends_by_the_gradient_and_a_limit_says_so():
    lq = lqrad.LQProblem([[1.0, 0.1], [0.0, 1.0]], [[0.0], [0.1]], np.diag([1.0, 0.0]), [[1.0]])
    result = policy_gradient(lq, [[2.0, 2.0]], method="gauss-newton")
    assert result.status is Status.CONVERGED_GRADIENT
    assert result.gap_bound == np.inf
    np.testing.assert_allclose(result.K, lqrad.dlqr(lq.A, lq.B, lq.Q, lq.R)[0], atol=1e-6)
    result = policy_gradient(lq, [[2.0, 2.0]], max_iter=3)
    assert result.status is Status.MAX_ITER
    assert result.iterations == 3
    assert "stopped after 3 iterations, the limit max_iter; J = " in repr(result)


def test_gains_and_problems_without_an_answer_are_named():
    one = [[1.0]]
    lq = lqrad.LQProblem([[1.5]], one, one, one)
    varying = lqrad.LQProblem(np.ones((3, 1, 1)), one, one, one)
    driven = lqrad.LQProblem([[1.5]], one, one, one, r=[1.0])
    idle = lqrad.LQProblem([[1.5]], [[1.0, 0.0]], one, np.diag([1.0, 0.0]))
    for call, error, message in [
        (lambda: policy_gradient(lq, [[0.1]]), ArgumentError, "K0 leaves .* radius 1.4, expected"),
        (lambda: policy_gradient(lq, [1.0]), ShapeError, r"K0 has shape \(1,\)"),
        (lambda: policy_gradient(lq, one, [[0.0]]), ArgumentError, "x0_cov is singular"),
        (lambda: policy_gradient(lq, one, np.eye(2)), ShapeError, "x0_cov has shape"),
        (lambda: policy_gradient(lq, one, method="newton"), ArgumentError, "method is 'newton'"),
        (lambda: policy_gradient(lq, one, tol=-1), ArgumentError, "tol is -1"),
        (lambda: policy_gradient(varying, one), ArgumentError, "varies over T = 3"),
        (lambda: policy_gradient(driven, one), ArgumentError, "linear term r"),
        (lambda: policy_gradient(idle, [[1.0], [0.0]]), NotConvexError, "R \\+ B'PB is singular"),
    ]:
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("method", ["gradient", "natural", "gauss-newton"])
def test_gains_descend_alike_in_any_unit_of_the_cost_and_of_the_starts(method):
    A, B, K0 = [[1.2, 0.5], [0.0, 0.9]], [[0.0], [1.0]], [[0.5, 1.0]]
    plain = policy_gradient(lqrad.LQProblem(A, B, np.eye(2), [[1.0]]), K0, method=method)
    for weight, spread in ((-900, 0), (900, 0), (0, -60), (300, 60)):
        lq = lqrad.LQProblem(A, B, np.ldexp(np.eye(2), weight), np.ldexp([[1.0]], weight))
        other = policy_gradient(lq, K0, np.ldexp(np.eye(2), spread), method=method)
        assert (other.status, other.iterations) == (plain.status, plain.iterations)
        np.testing.assert_array_equal(other.K, plain.K)
        np.testing.assert_array_equal(other.P, np.ldexp(plain.P, weight))
        np.testing.assert_array_equal(
            other.history.cost, np.ldexp(plain.history.cost, weight + spread)
        )


def test_inputs_in_units_decades_apart_have_gains():
    """R + B'PB has eigenvalues 1e-20 and 1, and is singular in no units."""
    E = np.diag([1.0, 2.0**-33])
    lq = lqrad.LQProblem([[1.2, 0.5], [0.0, 0.9]], np.eye(2) @ E, np.eye(2), E @ E)
    found = policy_gradient(lq, np.linalg.solve(E, [[0.5, 0.5], [0.0, 0.4]]), method="gauss-newton")
    assert found.status.converged


@pytest.mark.parametrize("varying", [False, True])
def test_a_linear_problem_says_its_steps_and_slopes_as_a_nonlinear_one_does(varying):
    """The same functions in NumPy, differentiated: two ways to one set of matrices and slopes."""
    rng, n, m, T = np.random.default_rng(3), 2, 1, 4
    stages = (T,) if varying else ()
    A, B, c = (rng.normal(size=(*stages, *shape)) for shape in ((n, n), (n, m), (n,)))
    L = rng.normal(size=(n + m, n + m))
    H, q, r, s = L @ L.T, rng.normal(size=n), rng.normal(size=m), rng.normal(size=n)
    linear = lqrad.LQProblem(A, B, H[:n, :n], H[n:, n:], np.eye(n), M=H[:n, n:], c=c, q=q, r=r, s=s)

    def f(x, u, t):
        A_t, B_t, c_t = (z[t] if varying else z for z in (A, B, c))
        return np.einsum("...ij,...j", A_t, x) + np.einsum("...ij,...j", B_t, u) + c_t

    def stage_cost(x, u):
        z = np.concatenate([x, u], axis=-1)
        return 0.5 * ((z @ H) * z).sum(axis=-1) + x @ q + u @ r

    same = ControlProblem(f, stage_cost, lambda x: 0.5 * (x * x).sum(axis=-1) + x @ s, n=n, m=m)
    x, u = rng.normal(size=(3, T + 1, n)), rng.normal(size=(3, T, m))
    for ours, theirs in zip(linear.derivatives(x, u), same.derivatives(x, u), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    for t in range(T):
        ours, theirs = (z.next_state(x[:, t], u[:, t], t) for z in (linear, same))
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-13)


def test_its_parts_cannot_be_set():
    lq = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    problem = PolicyProblem(lq, linear_policy(1, 1), T=2)
    with pytest.raises(AttributeError, match="T of a PolicyProblem cannot be set"):
        problem.T = 3
