"""Networks compute what their formulas say, and the linear-quadratic problem is one of them."""

from __future__ import annotations

import numpy as np
import pytest
from random_problems import random_case

import lqrad
from lqrad.errors import ArgumentError, ShapeError
from lqrad.nets import primitives
from lqrad.nets.networks import lq_graph, mlp, recurrent, residual_network
from lqrad.nets.primitives import Primitive

ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "softplus": lambda a: np.log(1 + np.exp(a)),
}
LOSSES = {
    "softmax-cross-entropy": lambda a, y: np.log(np.exp(a).sum()) - a[y],
    "squared": lambda a, y: 0.5 * np.sum((a - y) ** 2),
    "logistic": lambda a, y: np.sum(np.log(1 + np.exp(a)) - y * a),
}
identity = Primitive("identity", lambda a: a, (lambda p, z, a: p,))


def targets(loss, batch, outputs, rng):
    return {
        "softmax-cross-entropy": rng.integers(0, outputs, batch),
        "squared": rng.normal(size=(batch, outputs)),
        "logistic": rng.integers(0, 2, (batch, outputs)),
    }[loss]


def mlp_output(s, theta, x):
    """One sample through the layers."""
    layers = len(theta) // 2
    for layer in range(1, layers):
        x = s(x @ theta[f"W{layer}"] + theta[f"b{layer}"])
    return x @ theta[f"W{layers}"] + theta[f"b{layers}"]


def residual_output(s, theta, x):
    layers = len(theta) // 2 - 1
    h = x @ theta["W0"] + theta["b0"]
    for layer in range(1, layers):
        h = h + s(h @ theta[f"W{layer}"] + theta[f"b{layer}"])
    return h @ theta[f"W{layers}"] + theta[f"b{layers}"]


def recurrent_output(s, theta, x):
    h = np.zeros(len(theta["b"]))
    for step in x:
        h = s(step @ theta["Wx"] + theta["b"] + h @ theta["Wh"])
    return h @ theta["Wo"] + theta["bo"]


BUILDERS = {
    "mlp": (lambda *kinds, **loss: mlp([4, 5, 6, 3], *kinds, **loss), mlp_output, (4,)),
    "one layer": (lambda *kinds, **loss: mlp([4, 3], *kinds, **loss), mlp_output, (4,)),
    "residual": (
        lambda *kinds, **loss: residual_network(4, 5, 3, 3, *kinds, **loss),
        residual_output,
        (4,),
    ),
    "recurrent": (
        lambda *kinds, **loss: recurrent(2, 5, 3, 4, *kinds, **loss),
        recurrent_output,
        (4, 2),
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", BUILDERS)
def test_a_network_computes_its_formula_and_its_gradient_has_order_two(kind, activation, loss, rng):
    build, output, shape = BUILDERS[kind]
    graph = build(activation, loss=loss)
    theta = graph.initial(np.random.default_rng(1))
    theta = {name: value + 0.1 * rng.normal(size=value.shape) for name, value in theta.items()}
    data = {"x": rng.normal(size=(7, *shape)), "y": targets(loss, 7, 3, rng)}
    z = graph.forward(data, theta)
    expected = [output(ACTIVATIONS[activation], theta, x) for x in data["x"]]
    np.testing.assert_allclose(z["output"], expected, rtol=0, atol=1e-13)
    losses = [LOSSES[loss](a, y) for a, y in zip(expected, data["y"], strict=True)]
    assert graph.cost(z) == pytest.approx(np.mean(losses), rel=1e-13)
    objective, vector = graph.objective(data), graph.flatten(theta)
    direction = 0.02 * rng.normal(size=vector.shape)
    test = lqrad.taylor_test(objective.value_and_gradient, vector, direction=direction)
    assert test.order > 1.9
    assert graph.kkt_residual(z, graph.adjoint(z, theta), theta).relative < 1e-14


def test_an_activation_and_a_loss_may_be_ones_own(rng):
    plain = mlp([3, 4, 2], identity, loss=primitives.squared)
    theta = plain.initial(rng)
    x = rng.normal(size=(5, 3))
    z = plain.forward({"x": x}, theta, only=["output"])
    np.testing.assert_allclose(z["output"], x @ theta["W1"] @ theta["W2"], rtol=0, atol=1e-14)


def test_a_skip_connection_passes_the_costate_on_as_it_is(rng):
    """However deep the network, an update of size zero leaves costates that do not fade."""
    depth = 50
    deep = residual_network(3, 4, 2, depth, loss="squared")
    theta = deep.initial(rng)
    theta |= {name: 0 * value for name, value in theta.items() if name[1:] not in ("0", "51")}
    data = {"x": rng.normal(size=(5, 3)), "y": rng.normal(size=(5, 2))}
    p = deep.adjoint(deep.forward(data, theta), theta)
    assert p[f"h{depth}"].any()
    assert all((p[f"h{layer}"] == p[f"h{depth}"]).all() for layer in range(depth))


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0])
def test_the_costates_of_a_recurrent_network_grow_as_gradient_growth_says(radius, rng):
    T, width = 60, 4
    graph = recurrent(2, width, 3, T, loss="squared")
    theta = graph.initial(rng)
    theta["Wh"] *= radius / np.abs(np.linalg.eigvals(theta["Wh"])).max()
    data = {"x": 0.1 * rng.normal(size=(1, T, 2)), "y": rng.normal(size=(1, 3))}
    z = graph.forward(data, theta)
    p = graph.adjoint(z, theta)
    h = np.array([z[f"h{t}"][0] for t in range(1, T + 1)])
    A = (1 - h[1:, :, None] ** 2) * theta["Wh"].T
    trajectory = np.zeros((T, width))
    trajectory[-1] = p[f"h{T}"][0]
    growth = lqrad.gradient_growth(A, S=np.eye(width), x=trajectory)
    ours = [np.log(np.linalg.norm(p[f"h{t}"])) for t in range(2, T + 1)]
    np.testing.assert_allclose(ours, growth.log_norms, rtol=0, atol=1e-10)


# --- the linear-quadratic problem ---------------------------------------------------------------------

EVERY_LQ = pytest.mark.parametrize("case", [random_case(seed) for seed in range(30)])


@EVERY_LQ
def test_the_linear_quadratic_graph_has_the_costates_and_the_gradient_of_the_problem(case):
    problem, x0, u = case.problem, case.x0, case.u
    graph = lq_graph(problem, case.T)
    inputs, theta = {"x0": x0[None]}, graph.unflatten(u.ravel())
    z = graph.forward(inputs, theta)
    p = graph.adjoint(z, theta)
    x = problem.simulate(x0, u)
    expected = problem.adjoint(x, u)
    J, g = problem.value_and_gradient(x0, u)
    size = max(1.0, *(np.abs(array).max() for array in (x, expected, g)))
    rounding = 1e-13 * case.T * size

    def close(names, rows):
        actual = np.array([(z if names == "x" else p)[f"x{t + 1}"][0] for t in range(case.T)])
        np.testing.assert_allclose(actual, rows, rtol=0, atol=rounding)

    close("x", x[1:])
    close("p", expected)
    first = (array[0] if array.ndim == 3 else array for array in (problem.A, problem.Q, problem.M))
    A, Q, M = first
    q = problem.q[0] if problem.q.ndim == 2 else problem.q
    start = A.T @ expected[0] + Q @ x0 + M @ u[0] + q
    np.testing.assert_allclose(p["x0"][0], start, rtol=0, atol=10 * rounding)
    assert graph.cost(z) == pytest.approx(J, rel=1e-12, abs=1e-12)
    value, gradient = graph.objective(inputs).value_and_gradient(u.ravel())
    assert value == graph.cost(z)
    np.testing.assert_allclose(gradient.reshape(u.shape), g, rtol=0, atol=10 * rounding)


@EVERY_LQ
def test_both_have_the_same_residuals_away_from_any_solution(case, rng):
    problem, x0, u = case.problem, case.x0, case.u
    graph = lq_graph(problem, case.T)
    x = rng.normal(size=(case.T + 1, problem.n))
    x[0] = x0
    p = rng.normal(size=(case.T, problem.n))
    theta = graph.unflatten(u.ravel())
    values = {f"x{t}": x[t : t + 1] for t in range(case.T + 1)}
    # The costs are functions of the rest: their values cancel out of the other residuals.
    costs = {f"cost{t}": np.ones(1) for t in range(case.T + 1)}
    multipliers = {f"x{t + 1}": p[t : t + 1] for t in range(case.T)}
    kkt = graph.kkt_residual(values | costs, multipliers | costs, theta)
    expected = problem.kkt_residual(x, u, p, x0)
    states = [f"x{t + 1}" for t in range(case.T)]
    for actual, block in (
        (np.concatenate([kkt.p[name] for name in states]), expected.dynamics[1:]),
        (np.concatenate([kkt.z[name] for name in states]), expected.state),
        (np.array([kkt.theta[f"u{t}"] for t in range(case.T)]), expected.input),
    ):
        np.testing.assert_allclose(actual, block, rtol=0, atol=1e-13 * (1 + np.abs(block).max()))


def test_a_batch_of_initial_states_averages_over_them(rng):
    case = random_case(5, n=3, m=2, T=6)
    graph = lq_graph(case.problem, 6)
    x0 = rng.normal(size=(4, 3))
    value, gradient = graph.objective({"x0": x0}).value_and_gradient(case.u.ravel())
    each = [case.problem.value_and_gradient(start, case.u) for start in x0]
    assert value == pytest.approx(np.mean([J for J, _ in each]), rel=1e-12)
    expected = np.mean([g for _, g in each], axis=0)
    np.testing.assert_allclose(
        gradient.reshape(6, 2), expected, rtol=0, atol=1e-12 * np.abs(expected).max()
    )


def test_descent_on_the_graph_ends_at_riccatis_inputs():
    system = lqrad.systems.SYSTEMS["double-integrator"]()
    problem = system.problem()
    found = lqrad.descend(
        lq_graph(problem, 20).objective({"x0": system.x0[None]}),
        np.zeros(20 * problem.m),
        method="l-bfgs",
        tol=1e-10,
        max_iter=2000,
    )
    best = lqrad.riccati(problem, 20).rollout(system.x0)
    np.testing.assert_allclose(
        found.solution.reshape(best.u.shape), best.u, rtol=0, atol=1e-6 * np.abs(best.u).max()
    )


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: mlp([3]), r"widths is \[3\], expected those of the input and of the output"),
        (lambda: mlp([3, 0, 2]), "a width is 0, expected a whole number of at least 1"),
        (
            lambda: mlp([3, 4, 2], "swish"),
            "activation is 'swish', expected one of: tanh, relu, sigmoid, softplus",
        ),
        (
            lambda: mlp([3, 4, 2], loss="hinge"),
            "loss is 'hinge', expected one of: softmax-cross-entropy, squared, logistic",
        ),
        (lambda: residual_network(2, 3, 1, 0), "depth is 0, expected a whole number of at least 1"),
        (lambda: recurrent(2, 3, 1, T=1), "T is 1, expected a whole number of at least 2"),
        (lambda: recurrent(2, 0, 1, T=3), r"width is 0"),
        (lambda: lq_graph(random_case(1, time_varying=False).problem), "pass the horizon T"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(build, words):
    with pytest.raises(ArgumentError, match=words):
        build()


def test_a_series_of_another_length_is_refused():
    graph = recurrent(3, 4, 2, 5, loss="squared")
    theta = graph.initial(0)
    for steps in (4, 6):
        with pytest.raises(ShapeError, match=r"expected \(batch, T, n\) with T = 5"):
            graph.forward({"x": np.ones((2, steps, 3)), "y": np.ones((2, 2))}, theta)
