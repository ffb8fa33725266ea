"""The adjoint of a graph is the derivative of its cost: in its variables and its parameters."""

from __future__ import annotations

import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest

import lqrad
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError
from lqrad.nets import primitives
from lqrad.nets.graph import Graph, Node
from lqrad.nets.primitives import Primitive, take

BATCH, WIDTH, CLASSES = 4, 3, 3
DRAWN = np.random.default_rng(3)  # the data of several tests


# --- random graphs, and oracles that know nothing of adjoints ----------------------------------


@dataclasses.dataclass(frozen=True)
class Case:
    """A graph and what to evaluate it at."""

    graph: Graph
    inputs: dict[str, np.ndarray]
    theta: dict[str, np.ndarray]

    @property
    def z(self):
        return self.graph.forward(self.inputs, self.theta)

    @property
    def p(self):
        return self.graph.adjoint(self.z, self.theta)


def random_case(seed):
    """A graph of two inputs, shared parameters, skips, dead ends, a loss and two penalties.

    All variables have one width, which keeps the number of programs that JAX compiles small.
    """
    rng = np.random.default_rng(seed)
    nodes, hidden = [], ["x0", "x1"]
    shapes = dict.fromkeys(("W0", "W1"), (WIDTH, WIDTH)) | {"b0": (WIDTH,), "C": (6, WIDTH)}

    def pick(names):
        return str(rng.choice(names))

    for i in range(int(rng.integers(3, 12))):
        kind = pick(["affine", "matmul", "entry", "join", "concatenate", "shift"])
        name, a, b = f"h{i}", pick(hidden), pick(hidden)
        W = pick(["W0", "W1"])
        if kind == "affine":
            nodes.append(Node(name, primitives.affine, (a,), (W, "b0")))
        elif kind == "matmul":
            nodes.append(Node(name, primitives.matmul, (a,), (W,)))
        elif kind == "entry":
            entry = pick(["tanh", "relu", "sigmoid", "softplus"])
            nodes.append(Node(name, getattr(primitives, entry), (a,)))
        elif kind == "join":
            join = pick(["add", "multiply"])
            nodes.append(Node(name, getattr(primitives, join), (a, b)))
        elif kind == "concatenate":
            nodes.append(Node(f"c{i}", primitives.concatenate, (a, b)))
            nodes.append(Node(name, primitives.matmul, (f"c{i}",), ("C",)))
        else:
            nodes.append(Node(name, primitives.add, (a,), ("b0",)))
        hidden.append(name)
    # So that no parameter is left without a use.
    nodes.append(Node("c", primitives.concatenate, (hidden[-1], pick(hidden))))
    nodes.append(Node("d", primitives.matmul, ("c",), ("C",)))
    nodes.append(Node("e", primitives.affine, ("d",), ("W0", "b0")))
    nodes.append(Node("f", primitives.matmul, ("e",), ("W1",)))
    loss = pick(["softmax_cross_entropy", "logistic", "squared"])
    nodes.append(Node("loss", getattr(primitives, loss), ("f", "y")))
    nodes.append(Node("small", primitives.squared_norm, (pick(hidden),)))
    nodes.append(Node("near", primitives.squared, (pick(hidden), pick(hidden))))
    y = {
        "softmax_cross_entropy": rng.integers(0, CLASSES, BATCH),
        "logistic": rng.integers(0, 2, (BATCH, WIDTH)),
        "squared": rng.normal(size=(BATCH, WIDTH)),
    }[loss]
    order = rng.permutation(len(nodes))
    graph = Graph(
        [nodes[i] for i in order],
        costs={"loss": 1.0, "small": 0.3, "near": -0.2},
        parameters=shapes,
    )
    data = {name: rng.normal(size=(BATCH, WIDTH)) for name in ("x0", "x1")}
    inputs = {name: value for name, value in (data | {"y": y}).items() if name in graph.inputs}
    return Case(graph, inputs, {k: rng.normal(size=s) / 2 for k, s in shapes.items()})


CASES = [random_case(seed) for seed in range(30)]
EVERY_CASE = pytest.mark.parametrize("case", CASES)


def evaluate(graph, inputs, theta, bump=None):
    """The cost by recursion from its definition, with `bump` added to some of the variables."""
    z, bump = {}, bump or {}
    nodes = {node.name: node for node in graph.nodes}

    def value(name):
        if name not in z:
            if name in nodes:
                node = nodes[name]
                parts = [value(parent) for parent in node.parents]
                z[name] = node.primitive.function(*parts, *(theta[k] for k in node.parameters))
            else:
                z[name] = inputs[name]
            if name in bump:
                z[name] = z[name] + bump[name]
        return z[name]

    return sum(weight * np.mean(value(name)) for name, weight in graph.costs.items())


def slope(function, h=1e-5):
    """The derivative at zero of a function of a number."""
    return (function(h) - function(-h)) / (2 * h)


def close(actual, expected, tol=1e-8):
    scale = max([1e-3, *(np.abs(value).max() for value in expected.values())])
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=tol * scale)


# --- the two passes -----------------------------------------------------------------------------


@EVERY_CASE
def test_forward_computes_every_variable_from_its_parents(case):
    z = case.z
    assert z.keys() == {*case.inputs, *(node.name for node in case.graph.nodes)}
    assert case.graph.cost(z) == pytest.approx(
        evaluate(case.graph, case.inputs, case.theta), rel=1e-14
    )


@EVERY_CASE
def test_a_costate_is_the_derivative_of_the_cost_in_its_variable(case, rng):
    """Added to the variable by hand, on its way to its children."""
    for name, p in case.p.items():
        u = rng.normal(size=p.shape)

        def along(h, name=name, u=u):
            return evaluate(case.graph, case.inputs, case.theta, {name: h * u})

        assert np.vdot(p, u) == pytest.approx(slope(along), abs=1e-7)


@EVERY_CASE
def test_the_gradient_is_the_derivative_of_the_cost_in_the_parameters(case, rng):
    g = case.graph.gradient(case.z, case.p, case.theta)
    assert g.keys() == case.theta.keys()
    for name in g:
        u = rng.normal(size=g[name].shape)

        def along(h, name=name, u=u):
            theta = case.theta | {name: case.theta[name] + h * u}
            return evaluate(case.graph, case.inputs, theta)

        assert np.vdot(g[name], u) == pytest.approx(slope(along), abs=1e-7)


@EVERY_CASE
def test_the_objective_passes_the_taylor_test(case, rng):
    objective = case.graph.objective(case.inputs)
    vector = case.graph.flatten(case.theta)
    # A short direction: on one side of the kinks of relu.
    direction = 0.02 * rng.normal(size=vector.shape)
    order = lqrad.taylor_test(objective.value_and_gradient, vector, direction=direction).order
    assert order > 1.9


@EVERY_CASE
def test_the_objective_is_the_two_passes_over_the_flat_vector(case):
    graph = case.graph
    vector = graph.flatten(case.theta)
    value, gradient = graph.objective(case.inputs).value_and_gradient(vector)
    assert value == graph.cost(case.z)
    assert (gradient == graph.flatten(graph.gradient(case.z, case.p, case.theta))).all()


def test_the_result_does_not_depend_on_the_order_of_the_nodes(rng):
    case = CASES[0]
    expected = case.graph.objective(case.inputs).value_and_gradient(case.graph.flatten(case.theta))
    for _ in range(5):
        nodes = [case.graph.nodes[i] for i in rng.permutation(len(case.graph.nodes))]
        graph = Graph(nodes, costs=case.graph.costs, parameters=case.graph.parameters)
        value, gradient = graph.objective(case.inputs).value_and_gradient(graph.flatten(case.theta))
        assert value == pytest.approx(expected[0], rel=1e-14)
        np.testing.assert_allclose(gradient, expected[1], rtol=0, atol=1e-13)


# --- other programs -------------------------------------------------------------------------------


def peer_cost(library, graph, inputs, theta):
    """The cost in the functions of `library`: all that the peers need to differentiate it."""
    z = {**inputs, **theta}
    for node in graph.nodes:
        z[node.name] = library[node.primitive.name](*(z[name] for name in node.arguments))
    return sum(weight * z[name].mean() for name, weight in graph.costs.items())


@pytest.fixture(scope="module")
def jax_gradient():
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    library = {
        "affine": lambda x, W, b: x @ W + b,
        "matmul": lambda x, W: x @ W,
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "sigmoid": jax.nn.sigmoid,
        "softplus": jax.nn.softplus,
        "add": lambda a, b: a + b,
        "multiply": lambda a, b: a * b,
        "concatenate": lambda *parts: jnp.concatenate(parts, axis=-1),
        "squared": lambda a, b: 0.5 * jnp.sum((a - b) ** 2, axis=1),
        "squared-norm": lambda a: 0.5 * jnp.sum(a**2, axis=1),
        "logistic": lambda a, y: jnp.sum(jax.nn.softplus(a) - y * a, axis=1),
        "softmax-cross-entropy": lambda a, y: -jax.nn.log_softmax(a)[jnp.arange(len(y)), y],
    }

    def gradient(graph, inputs, theta):
        smooth = {k: jnp.array(v) for k, v in inputs.items() if k not in graph.labels}
        labels = {k: jnp.array(v) for k, v in inputs.items() if k in graph.labels}

        def cost(smooth, theta):
            return peer_cost(library, graph, smooth | labels, theta)

        value, parts = jax.value_and_grad(cost, (0, 1))(smooth, dict(theta))
        return float(value), *parts

    return gradient


@pytest.mark.parametrize("seed", range(100))
def test_random_graphs_have_the_gradients_and_input_costates_of_jax(jax_gradient, seed):
    case = random_case(1000 + seed)
    value, p, g = jax_gradient(case.graph, case.inputs, case.theta)
    assert case.graph.cost(case.z) == pytest.approx(value, rel=1e-13)
    ours = {name: case.p[name] for name in p}
    close(ours | case.graph.gradient(case.z, case.p, case.theta), p | g, tol=1e-12)


def test_random_graphs_have_the_gradients_of_pytorch():
    torch = pytest.importorskip("torch")
    library = {
        "affine": lambda x, W, b: torch.addmm(b, x, W),
        "matmul": torch.matmul,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "softplus": torch.nn.functional.softplus,
        "add": torch.add,
        "multiply": torch.mul,
        "concatenate": lambda *parts: torch.cat(parts, dim=-1),
        "squared": lambda a, b: 0.5 * ((a - b) ** 2).sum(dim=1),
        "squared-norm": lambda a: 0.5 * (a**2).sum(dim=1),
        "logistic": lambda a, y: (torch.nn.functional.softplus(a) - y * a).sum(dim=1),
        "softmax-cross-entropy": lambda a, y: torch.nn.functional.cross_entropy(
            a, y, reduction="none"
        ),
    }
    for case in CASES:
        inputs = {name: torch.tensor(value) for name, value in case.inputs.items()}
        theta = {k: torch.tensor(v, requires_grad=True) for k, v in case.theta.items()}
        value = peer_cost(library, case.graph, inputs, theta)
        value.backward()
        assert case.graph.cost(case.z) == pytest.approx(value.item(), rel=1e-12)
        g = case.graph.gradient(case.z, case.p, case.theta)
        # softplus there is the identity above 20, and 2e-9 away from it below.
        close(g, {name: tensor.grad.numpy() for name, tensor in theta.items()}, tol=1e-8)


# --- the same function, written in other ways -------------------------------------------------------

tanh_affine = Primitive(
    "tanh affine",
    lambda x, W, b: np.tanh(x @ W + b),
    (
        lambda p, z, x, W, b: (p * (1 - z**2)) @ W.T,
        lambda p, z, x, W, b: x.T @ (p * (1 - z**2)),
        lambda p, z, x, W, b: (p * (1 - z**2)).sum(axis=0),
    ),
)
WRITINGS = {
    "one node": [Node("h", tanh_affine, ("x",), ("W", "b"))],
    "two nodes": [
        Node("a", primitives.affine, ("x",), ("W", "b")),
        Node("h", primitives.tanh, ("a",)),
    ],
    "three nodes": [
        Node("m", primitives.matmul, ("x",), ("W",)),
        Node("a", primitives.add, ("m",), ("b",)),
        Node("h", primitives.tanh, ("a",)),
    ],
}


def test_fusing_and_splitting_nodes_gives_other_costates_and_the_same_gradient(rng):
    inputs = {"x": rng.normal(size=(7, 3)), "y": rng.normal(size=(7, 4))}
    theta = {"W": rng.normal(size=(3, 4)), "b": rng.normal(size=4)}
    found = {}
    for writing, nodes in WRITINGS.items():
        graph = Graph(
            [*nodes, Node("loss", primitives.squared, ("h", "y"))],
            costs={"loss": 1.0},
            parameters={"W": (3, 4), "b": (4,)},
        )
        z = graph.forward(inputs, theta)
        p = graph.adjoint(z, theta)
        kkt = graph.kkt_residual(z, p, theta)
        assert kkt.relative < 1e-15
        found[writing] = p, graph.gradient(z, p, theta)
    one, two, three = found.values()
    assert [len(p) for p, _ in found.values()] == [4, 5, 6]
    for p, g in (two, three):
        close(g, one[1], tol=1e-14)
        close({k: p[k] for k in ("h", "x", "y")}, {k: one[0][k] for k in ("h", "x", "y")}, 1e-14)
    # What stands between the nodes has a costate of its own, where it is one.
    assert (two[0]["a"] == three[0]["m"]).all()
    assert not np.allclose(two[0]["a"], one[0]["h"])


def chain(*, W, costs=None, depth=3):
    nodes = [
        Node(f"h{i + 1}", primitives.matmul, (f"h{i}" if i else "x",), (W[i],))
        for i in range(depth)
    ]
    nodes.append(Node("loss", primitives.squared, (f"h{depth}", "y")))
    nodes += [Node(f"size{i + 1}", primitives.squared_norm, (f"h{i + 1}",)) for i in range(depth)]
    shapes = dict.fromkeys(dict.fromkeys(W), (2, 2))
    return Graph(nodes, costs=costs or {"loss": 1.0}, parameters=shapes)


DATA = {"x": DRAWN.normal(size=(5, 2)), "y": DRAWN.normal(size=(5, 2))}


def test_the_gradient_in_a_shared_parameter_is_the_sum_over_its_uses(rng):
    W = rng.normal(size=(2, 2))
    apart, shared = chain(W=["W0", "W1", "W2"]), chain(W=["W", "W", "W"])
    gradients = {}
    for graph in (apart, shared):
        theta = dict.fromkeys(graph.parameters, W)
        z = graph.forward(DATA, theta)
        gradients |= graph.gradient(z, graph.adjoint(z, theta), theta)
    parts = gradients["W0"] + gradients["W1"] + gradients["W2"]
    np.testing.assert_allclose(gradients["W"], parts, rtol=1e-14)
    assert shared.size == 4


def test_costs_on_hidden_variables_add_up(rng):
    """Hand-made: the penalty adds its own slope where it is attached, and its costate flows on."""
    weights = {"loss": 2.0, "size2": 0.5}
    graph = chain(W=["W0", "W1", "W2"], costs=weights)
    theta = {name: rng.normal(size=(2, 2)) for name in graph.parameters}
    z = graph.forward(DATA, theta)
    p = graph.adjoint(z, theta)
    p3 = 2.0 * (z["h3"] - DATA["y"]) / 5
    p2 = p3 @ theta["W2"].T + 0.5 * z["h2"] / 5
    p1 = p2 @ theta["W1"].T
    expected = {"h3": p3, "h2": p2, "h1": p1, "x": p1 @ theta["W0"].T}
    close({name: p[name] for name in expected}, expected, tol=1e-15)
    assert not p["size1"].any()
    assert p["size2"].tolist() == [0.1] * 5
    assert p["loss"].tolist() == [0.4] * 5
    loss, penalty = (
        chain(W=["W0", "W1", "W2"], costs={name: weight}) for name, weight in weights.items()
    )
    vector = graph.flatten(theta)
    both, *each = (g.objective(DATA).value_and_gradient(vector)[1] for g in (graph, loss, penalty))
    np.testing.assert_allclose(both, each[0] + each[1], rtol=0, atol=1e-14)


def test_a_variable_that_is_used_twice_by_one_node_gets_both_products():
    graph = Graph(
        [Node("z", primitives.multiply, ("x", "x")), Node("loss", primitives.squared_norm, ("z",))],
        costs={"loss": 1.0},
    )
    z = graph.forward({"x": [[3.0]]}, {})
    assert graph.adjoint(z, {})["x"] == 2 * 3.0**3


def test_a_cost_of_parameters_alone_needs_no_batch(rng):
    size = Primitive("1/2 |W|^2", lambda W: 0.5 * np.sum(W**2), (lambda p, z, W: p * W,))
    nodes = [*chain(W=["W", "W", "W"]).nodes, Node("decay", size, (), ("W",))]
    graph = Graph(nodes, costs={"loss": 1.0, "decay": 0.1}, parameters={"W": (2, 2)})
    plain = Graph(nodes[:-1], costs={"loss": 1.0}, parameters={"W": (2, 2)})
    w = rng.normal(size=4)
    values, gradients = zip(
        *(g.objective(DATA).value_and_gradient(w) for g in (graph, plain)), strict=True
    )
    assert values[0] - values[1] == pytest.approx(0.05 * (w @ w))
    np.testing.assert_allclose(gradients[0] - gradients[1], 0.1 * w, rtol=1e-12)


def test_descent_on_a_line_ends_at_the_least_squares_solution(rng):
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    graph = Graph(
        [
            Node("output", primitives.affine, ("x",), ("W", "b")),
            Node("loss", primitives.squared, ("output", "y")),
        ],
        costs={"loss": 1.0},
        parameters={"W": (3, 2), "b": (2,)},
    )
    found = lqrad.descend(
        graph.objective({"x": x, "y": y}), np.zeros(8), method="l-bfgs", tol=1e-10
    )
    W, b = graph.unflatten(found.solution).values()
    expected = np.linalg.lstsq(np.hstack([x, np.ones((20, 1))]), y)[0]
    np.testing.assert_allclose(np.vstack([W, b]), expected, rtol=0, atol=1e-8)


# --- the Lagrangian ---------------------------------------------------------------------------------


@EVERY_CASE
def test_after_the_two_passes_the_conditions_hold_and_what_is_left_is_the_gradient(case):
    z, p = case.z, case.p
    kkt = case.graph.kkt_residual(z, p, case.theta)
    assert kkt.relative < 1e-14
    assert all(not block.any() for block in kkt.p.values())
    close(kkt.theta, case.graph.gradient(z, p, case.theta), tol=1e-15)
    assert case.graph.lagrangian(z, p, case.theta) == case.graph.cost(z)


@EVERY_CASE
def test_the_residuals_are_the_derivatives_of_the_lagrangian_anywhere(case, rng):
    """Where nothing is computed from anything: no value is its function, no costate an adjoint."""

    def moved(arrays, by=1.0):
        return {
            name: array + by * rng.normal(size=array.shape) if name in names else array
            for name, array in arrays.items()
        }

    names = {node.name for node in case.graph.nodes}
    z, p = moved(case.z, 0.3), moved(case.p)
    kkt = case.graph.kkt_residual(z, p, case.theta)
    assert kkt.relative > 1e-3
    for block, at in (("z", z), ("p", p), ("theta", case.theta)):
        for name, residual in getattr(kkt, block).items():
            u = rng.normal(size=residual.shape)

            def along(h, block=block, at=at, name=name, u=u):
                point = {"z": z, "p": p, "theta": case.theta} | {
                    block: at | {name: at[name] + h * u}
                }
                return case.graph.lagrangian(**point)

            assert np.vdot(residual, u) == pytest.approx(slope(along), abs=3e-7)
    assert kkt.z.keys() == kkt.p.keys() == names
    assert kkt.theta.keys() == case.theta.keys()


def test_relative_measures_the_largest_residual_by_the_largest_term():
    graph = chain(W=["W", "W", "W"])
    theta = {"W": np.eye(2)}
    z = graph.forward(DATA, theta)
    p = graph.adjoint(z, theta)
    largest = max(np.abs(z[node.name]).max() for node in graph.nodes)
    z["size3"] = z["size3"] + np.array([0.5 * largest, 0, 0, 0, 0])
    top = max(largest, z["size3"].max())
    relative = graph.kkt_residual(z, p, theta).relative
    assert relative == pytest.approx(0.5 * largest / top)


# --- what is computed, and when ---------------------------------------------------------------------


def forbidden(*arguments):
    raise AssertionError("not needed")


def test_the_objective_computes_no_costate_of_an_input():
    """Of a network's first layer that product would be the largest of all."""
    guarded = Primitive(
        "affine",
        primitives.affine.function,
        (forbidden, *primitives.affine.vjps[1:]),
    )
    graph = Graph(
        [
            Node("first", guarded, ("scaled",), ("W", "b")),
            Node("scaled", primitives.tanh, ("x",)),
            Node("loss", primitives.squared_norm, ("first",)),
            Node("dead", Primitive("dead", forbidden, (forbidden,)), ("first",)),
        ],
        costs={"loss": 1.0},
        parameters={"W": (2, 3), "b": (3,)},
    )
    value, gradient = graph.objective({"x": DATA["x"]}).value_and_gradient(np.ones(9))
    assert value > 0
    assert gradient.all()


def test_a_prediction_needs_no_targets():
    graph = chain(W=["W", "W", "W"])
    theta = {"W": np.eye(2)}
    z = graph.forward({"x": DATA["x"]}, theta, only=["h3"])
    assert list(z) == ["x", "h1", "h2", "h3"]
    assert (z["h3"] == DATA["x"]).all()
    assert graph.forward(DATA, theta, only=["h1"]).keys() == {"x", "h1"}


def test_inputs_and_parameters_are_not_changed_and_may_be_read_only():
    for case in CASES[:10]:
        arrays = [*case.inputs.values(), *case.theta.values()]
        before = [array.copy() for array in arrays]
        for array in arrays:
            array.setflags(write=False)
        vector = case.graph.flatten(case.theta)
        kept = vector.copy()
        first = case.graph.objective(case.inputs).value_and_gradient(vector)
        second = case.graph.objective(case.inputs).value_and_gradient(vector)
        assert first[0] == second[0]
        assert (first[1] == second[1]).all()
        assert (vector == kept).all()
        assert all((array == old).all() for array, old in zip(arrays, before, strict=True))


def test_a_gradient_outlives_the_next_one():
    graph = chain(W=["W", "W", "W"])
    objective = graph.objective(DATA)
    first = objective.value_and_gradient(np.ones(4))[1]
    copy = first.copy()
    second = objective.value_and_gradient(np.full(4, 2.0))[1]
    assert (first == copy).all()
    assert not np.shares_memory(first, second)


def test_the_flat_vector_holds_the_parameters_in_their_order(rng):
    graph = Graph(
        [
            Node("a", primitives.affine, ("x",), ("W", "b")),
            Node("z", primitives.multiply, ("a",), ("k",)),
            Node("loss", primitives.squared_norm, ("z",)),
        ],
        costs={"loss": 1.0},
        parameters={"k": (), "W": (2, 3), "b": (3,)},
    )
    theta = graph.unflatten(np.arange(10.0))
    assert theta["k"].shape == ()
    assert theta["W"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert theta["b"].tolist() == [7, 8, 9]
    assert graph.flatten(theta).tolist() == list(range(10))
    vector = np.zeros(10)
    graph.unflatten(vector)["b"][1] = 5.0
    assert vector[8] == 5.0
    assert not np.shares_memory(graph.flatten(graph.unflatten(vector)), vector)
    order = lqrad.taylor_test(
        graph.objective({"x": DATA["x"]}).value_and_gradient, rng.normal(size=10)
    ).order
    assert order > 1.9


def test_initial_parameters_keep_the_size_of_what_passes_through():
    def graph(activation):
        return Graph(
            [
                Node("a", primitives.affine, ("x",), ("W", "b")),
                Node("h", activation, ("a",)),
                Node("m", primitives.matmul, ("h",), ("V",)),
                Node("z", primitives.multiply, ("m",), ("k",)),
                Node("loss", primitives.squared_norm, ("z",)),
            ],
            costs={"loss": 1.0},
            parameters={"W": (200, 300), "b": (300,), "V": (300, 100), "k": ()},
        )

    for activation, gain in ((primitives.tanh, 1.0), (primitives.relu, 2.0)):
        theta = graph(activation).initial(np.random.default_rng(0))
        assert theta["W"].std() == pytest.approx(np.sqrt(gain / 200), rel=0.02)
        assert theta["V"].std() == pytest.approx(np.sqrt(1 / 300), rel=0.02)
        assert not theta["b"].any()
        assert not theta["k"].any()
        again = graph(activation).initial(np.random.default_rng(0))
        assert all((theta[name] == again[name]).all() for name in theta)


def test_lists_integers_as_parameters_and_smaller_floats_are_taken_as_numbers():
    graph = chain(W=["W", "W", "W"])
    x = DATA["x"].astype(np.float32)
    z = graph.forward({"x": x.tolist(), "y": DATA["y"]}, {"W": [[1, 0], [0, 1]]})
    assert z["h3"].dtype == np.float64
    assert (z["h3"] == x).all()


def test_a_graph_can_be_sent_to_another_process_and_cannot_be_changed():
    case = CASES[0]
    copy = pickle.loads(pickle.dumps(case.graph))
    assert repr(copy) == repr(case.graph)
    assert (copy.flatten(case.theta) == case.graph.flatten(case.theta)).all()
    with pytest.raises(AttributeError, match="costs of a Graph cannot be set"):
        copy.costs = {}


# --- errors -------------------------------------------------------------------------------------------


def graph_of(*nodes, costs=None, **parameters):
    return Graph(nodes, costs=costs or {"loss": 1.0}, parameters=parameters)


h = Node("h", primitives.affine, ("x",), ("W", "b"))
loss = Node("loss", primitives.squared, ("h", "y"))
SHAPES = {"W": (2, 3), "b": (3,)}
INPUTS = {"x": DRAWN.normal(size=(5, 2)), "y": DRAWN.normal(size=(5, 3))}
THETA = {"W": DRAWN.normal(size=(2, 3)), "b": DRAWN.normal(size=3)}
labelled = Node("loss", primitives.softmax_cross_entropy, ("h", "y"))


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        pytest.param(
            lambda: graph_of(
                Node("a", primitives.add, ("x", "c")),
                Node("b", primitives.tanh, ("a",)),
                Node("c", primitives.tanh, ("b",)),
                Node("loss", primitives.squared_norm, ("b",)),
            ),
            ArgumentError,
            r"have a cycle: '[abc]' -> '[abc]' -> '[abc]' -> '[abc]'; unroll a loop in time",
            id="cycle",
        ),
        pytest.param(
            lambda: graph_of(h, Node("h", primitives.tanh, ("x",)), loss, **SHAPES),
            ArgumentError,
            r"the name of node 'h' \(tanh\) is taken by another node; rename one",
            id="two nodes of one name",
        ),
        pytest.param(
            lambda: graph_of(Node("b", primitives.tanh, ("x",)), h, loss, **SHAPES),
            ArgumentError,
            r"the name of node 'b' \(tanh\) is taken by a parameter; rename one",
            id="a node of a parameter's name",
        ),
        pytest.param(
            lambda: graph_of(Node("h", primitives.add, ("x", "b")), loss, b=(2,)),
            ArgumentError,
            r"the parent 'b' of node 'h' \(add\) is a parameter; name it among those",
            id="a parameter as a parent",
        ),
        pytest.param(
            lambda: graph_of(h, loss, W=(2, 3)),
            ArgumentError,
            r"the parameter 'b' of node 'h' \(affine\) has no shape; add it .* which has 'W'",
            id="a parameter that is not declared",
        ),
        pytest.param(
            lambda: graph_of(h, loss, **SHAPES, V=(2,)),
            ArgumentError,
            "the parameter 'V' is used by no node; leave it out",
            id="a parameter that is not used",
        ),
        pytest.param(
            lambda: graph_of(h, loss, W=(2, 3), b=3),
            ShapeError,
            r"parameters\['b'\] is 3, expected a shape such as \(3,\)",
            id="a length as a shape",
        ),
        pytest.param(
            lambda: graph_of(h, loss, W=(2, 0), b=(3,)),
            ArgumentError,
            r"a length of parameters\['W'\] is 0, expected a whole number of at least 1",
            id="an empty shape",
        ),
        pytest.param(
            lambda: graph_of(h, loss, costs={"lose": 1.0}, **SHAPES),
            ArgumentError,
            "'lose' is no node of the graph; its nodes are 'h', 'loss'",
            id="a cost that is no node",
        ),
        pytest.param(
            lambda: Graph([h, loss], costs={}, parameters=SHAPES),
            ArgumentError,
            "costs is empty, expected the weight of one node at least",
            id="no cost",
        ),
        pytest.param(
            lambda: graph_of(h, loss, costs={"loss": np.nan}, **SHAPES),
            ArgumentError,
            r"costs\['loss'\] is nan, expected a number",
            id="a weight that is no number",
        ),
        pytest.param(
            lambda: Node("h", primitives.affine, ("x",), ("W",)),
            ArgumentError,
            r"node 'h' \(affine\) has 2 arguments, 'x', 'W', expected 3, one for each of its vjps",
            id="too few arguments",
        ),
        pytest.param(
            lambda: Node("h", primitives.tanh, "x"),
            ArgumentError,
            r"parents of node 'h' \(tanh\) is 'x', expected a tuple of names such as \('a',\)",
            id="text for a tuple",
        ),
        pytest.param(
            lambda: Node("h", np.tanh, ("x",)),
            ArgumentError,
            "the primitive of node 'h' is of type ufunc, expected Primitive, such as Primitive",
            id="a function for a primitive",
        ),
        pytest.param(
            lambda: graph_of(h, ("loss", primitives.squared, ("h", "y")), **SHAPES),
            ArgumentError,
            "an entry of nodes is of type tuple, expected Node, such as Node",
            id="a tuple for a node",
        ),
        pytest.param(
            lambda: graph_of(
                h,
                Node("k", primitives.tanh, ("y",)),
                Node("loss", labelled.primitive, ("h", "k")),
                **SHAPES,
            ),
            ArgumentError,
            r"'k' is taken without a derivative by a node, .* would not see that node 'loss' \(soft",
            id="labels that are computed",
        ),
    ],
)
def test_graphs_that_mean_nothing_are_refused(build, error, words):
    with pytest.raises(error, match=words):
        build()


def without(given, name):
    return {key: value for key, value in given.items() if key != name}


@pytest.mark.parametrize(
    ("inputs", "theta", "error", "words"),
    [
        (
            without(INPUTS, "y"),
            THETA,
            ArgumentError,
            r"inputs has no 'y', for node 'loss' \(squared\); it has 'x'",
        ),
        (
            INPUTS | {"w": INPUTS["y"]},
            THETA,
            ArgumentError,
            "inputs has 'w', which is not used: 'x', 'y' are",
        ),
        (
            INPUTS,
            without(THETA, "b"),
            ArgumentError,
            r"theta has no 'b', for node 'h' \(affine\); it has 'W'",
        ),
        (
            INPUTS,
            THETA | {"c": THETA["b"]},
            ArgumentError,
            "theta has 'c', which is not used: 'W', 'b' are",
        ),
        (
            INPUTS,
            THETA | {"W": THETA["W"].T},
            ShapeError,
            r"theta\['W'\] has shape \(3, 2\), expected \(2, 3\) of the graph, for node 'h' \(affine\);"
            r" did you pass theta\['W'\].T\?",
        ),
        (
            INPUTS,
            THETA | {"b": np.array([1.0, np.nan, 2.0])},
            NonFiniteError,
            r"theta\['b'\]\[1\] is nan, expected finite numbers",
        ),
        (INPUTS, THETA | {"b": 1j * THETA["b"]}, DtypeError, r"theta\['b'\] holds complex numbers"),
        (
            INPUTS | {"x": INPUTS["x"].T[:, :2]},
            THETA,
            ShapeError,
            "leading axes that differ or are empty: 'x' has 2, 'y' has 5; expected one batch",
        ),
        (
            {"x": np.zeros((0, 2)), "y": np.zeros((0, 3))},
            THETA,
            ShapeError,
            "'x' has 0, 'y' has 0; expected one batch of at least one sample",
        ),
        (INPUTS | {"x": 1.0}, THETA, ShapeError, r"the input 'x' has shape \(\), expected \(batch"),
        (
            INPUTS | {"x": np.ones((5, 4))},
            THETA,
            ShapeError,
            r"node 'h' \(affine\) fails on x \(5, 4\), W \(2, 3\), b \(3,\): .*check these shapes",
        ),
        (
            INPUTS | {"y": np.ones((5, 1))},
            THETA,
            ShapeError,
            r"node 'loss' \(squared\): its arguments have the shapes \(5, 3\) and \(5, 1\)",
        ),
        (
            INPUTS | {"x": np.ones((5, 2), dtype=int)},
            THETA,
            DtypeError,
            r"the input 'x' holds int64, expected real numbers: node 'h' \(affine\) has a derivative"
            r" in it; try astype\(float\)",
        ),
        (
            INPUTS | {"y": INPUTS["y"] > 0},
            THETA,
            DtypeError,
            r"the input 'y' holds bool, expected real numbers: node 'loss' \(squared\)",
        ),
        (
            INPUTS | {"x": 1j * INPUTS["x"]},
            THETA,
            DtypeError,
            "the input 'x' holds complex numbers",
        ),
        (
            INPUTS | {"x": np.full(INPUTS["x"].shape, None)},
            THETA,
            DtypeError,
            "the input 'x' holds objects",
        ),
        (
            INPUTS | {"x": np.where(INPUTS["x"] > 9, 0, np.inf)},
            THETA,
            NonFiniteError,
            r"the input 'x'\[0, 0\] is inf, expected finite numbers",
        ),
        (
            INPUTS | {"x": 1e200 * INPUTS["x"]},
            THETA | {"W": 1e200 * THETA["W"]},
            NonFiniteError,
            r"node 'h' \(affine\) is not finite, though all .*: it overflowed; try smaller param",
        ),
        (
            INPUTS,
            THETA | {"W": 1e200 * THETA["W"]},
            NonFiniteError,
            r"node 'loss' \(squared\) is not finite",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused_by_name(inputs, theta, error, words):
    graph = graph_of(h, loss, **SHAPES)
    with pytest.raises(error, match=words):
        graph.forward(inputs, theta)
    with pytest.raises(error):
        graph.objective(inputs).value_and_gradient(graph.flatten(theta))


def test_labels_are_checked_where_they_are_used():
    graph = graph_of(h, labelled, **SHAPES)
    assert graph.labels == ("y",)
    for y, words in (
        (
            np.array([0, 1, 2, 3, 0]),
            r"node 'loss' \(softmax-cross-entropy\): its labels lie between",
        ),
        (np.zeros(5), r"node 'loss' \(softmax-cross-entropy\): its labels are float64"),
        (np.array([[0]] * 5), r"node 'loss' \(softmax-cross-entropy\): its logits have the shape"),
    ):
        with pytest.raises(lqrad.LqradError, match=words):
            graph.forward({"x": INPUTS["x"], "y": y}, THETA)
    z = graph.forward({"x": INPUTS["x"], "y": np.zeros(5, dtype=np.uint8)}, THETA)
    assert z["y"].dtype == np.uint8
    assert "y" not in graph.adjoint(z, THETA)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda graph, z, p: graph.adjoint(without(z, "h"), THETA),
            ArgumentError,
            r"z has no 'h', for node 'h' \(affine\); it has 'x', 'y', 'loss'",
        ),
        (
            lambda graph, z, p: graph.adjoint(without(z, "x"), THETA),
            ArgumentError,
            r"z has no 'x', for node 'h' \(affine\)",
        ),
        (
            lambda graph, z, p: graph.gradient(z, without(p, "loss"), THETA),
            ArgumentError,
            r"p has no 'loss', for node 'loss' \(squared\); it has 'x', 'y', 'h'",
        ),
        (
            lambda graph, z, p: graph.gradient(z, p | {"k": p["h"]}, THETA),
            ArgumentError,
            "p has 'k', which is not used",
        ),
        (
            lambda graph, z, p: graph.gradient(z, p | {"h": p["h"][:, 0]}, THETA),
            ShapeError,
            r"p\['h'\] has shape \(5,\), expected \(5, 3\) that of its variable",
        ),
        (
            lambda graph, z, p: graph.lagrangian(z | {"h": z["h"][:, :1]}, p, THETA),
            ShapeError,
            r"p\['h'\] has shape \(5, 3\), expected \(5, 1\)",
        ),
        (
            lambda graph, z, p: graph.kkt_residual(
                z | {"loss": z["loss"][:, None]}, p | {"loss": p["loss"][:, None]}, THETA
            ),
            ShapeError,
            r"z\['loss'\] has shape \(5, 1\), expected \(5,\) that of its function",
        ),
        (
            lambda graph, z, p: graph.objective(INPUTS).value_and_gradient(np.zeros(8)),
            ShapeError,
            r"vector has shape \(8,\), expected \(9,\) to hold all parameters",
        ),
        (
            lambda graph, z, p: graph.objective(INPUTS).value_and_gradient(np.full(9, np.nan)),
            NonFiniteError,
            r"vector\[0\] is nan",
        ),
        (
            lambda graph, z, p: graph.forward(INPUTS, THETA, only=["k"]),
            ArgumentError,
            "'k' is no node of the graph; its nodes are 'h', 'loss'",
        ),
        (
            lambda graph, z, p: graph.adjoint(
                z | {"h": 1e307 * z["h"]}, THETA | {"W": 1e10 * THETA["W"]}
            ),
            NonFiniteError,
            r"p\['x'\] is not finite",
        ),
        (
            lambda graph, z, p: graph.gradient(z, p | {"h": np.full((5, 3), 1e308)}, THETA),
            NonFiniteError,
            r"gradient\['W'\] is not finite",
        ),
    ],
)
def test_what_is_passed_between_the_passes_is_checked(call, error, words):
    graph = graph_of(h, loss, **SHAPES)
    z = graph.forward(INPUTS, THETA)
    with pytest.raises(error, match=words):
        call(graph, z, graph.adjoint(z, THETA))


def test_an_overflow_in_the_backward_pass_alone_is_told():
    """The values are tame, as tanh is, and the products of their slopes are not."""
    steep = Primitive("steep", lambda x: np.tanh(x), (lambda p, z, x: p * 1e200,))
    graph = graph_of(
        h,
        Node("s", steep, ("h",)),
        Node("t", steep, ("s",)),
        Node("loss", primitives.squared_norm, ("t",)),
        **SHAPES,
    )
    with pytest.raises(NonFiniteError, match=r"the gradient is not finite, .* smaller step size"):
        graph.objective({"x": INPUTS["x"]}).value_and_gradient(graph.flatten(THETA))


@pytest.mark.parametrize(
    ("primitive", "error", "words"),
    [
        pytest.param(
            Primitive("bad", lambda x: x @ np.ones((7, 7)), (forbidden,)),
            ShapeError,
            r"node 's' \(bad\) fails on h \(5, 3\): .*; check these shapes, and its functions",
            id="an error of NumPy",
        ),
        pytest.param(
            Primitive("bad", lambda x, y: x, (forbidden,)),
            ShapeError,
            r"node 's' \(bad\) fails on h \(5, 3\): .* missing 1 required positional argument",
            id="a function of more arguments",
        ),
        pytest.param(
            Primitive("bad", lambda x: 1j * x, (forbidden,)),
            DtypeError,
            r"node 's' \(bad\): a value that is computed holds complex numbers",
            id="a complex value",
        ),
        pytest.param(
            Primitive("bad", lambda x: None, (forbidden,)),
            DtypeError,
            r"node 's' \(bad\): a value that is computed holds objects",
            id="a function that returns nothing",
        ),
        pytest.param(
            Primitive("bad", np.tanh, (lambda p, z, x: p[0],)),
            ShapeError,
            r"vjps\[0\] of node 's' \(bad\) returns the shape \(3,\), expected \(5, 3\), that of its "
            "argument 'h'",
            id="a product of the wrong shape",
        ),
        pytest.param(
            Primitive("bad", np.tanh, (lambda z, x: z,)),
            ShapeError,
            r"node 's' \(bad\) fails on h \(5, 3\): .* takes 2 positional arguments but 3",
            id="a vjp of fewer arguments",
        ),
        pytest.param(
            Primitive("bad", np.tanh, lambda p, z, x: z),
            ShapeError,
            r"node 's' \(bad\) fails on h \(5, 3\): .* takes 3 positional arguments but 4",
            id="a comma forgotten",
        ),
    ],
)
def test_faults_of_a_users_primitive_name_the_node(primitive, error, words):
    graph = graph_of(
        h, Node("s", primitive, ("h",)), Node("loss", primitives.squared, ("s", "y")), **SHAPES
    )
    with pytest.raises(error, match=words):
        graph.objective(INPUTS).value_and_gradient(graph.flatten(THETA))


def test_a_cost_must_be_one_number_for_each_sample():
    graph = graph_of(h, costs={"h": 1.0}, **SHAPES)
    words = r"node 'h' \(affine\) is a cost of shape \(5, 3\), expected \(batch,\) = \(5,\), one number for"
    with pytest.raises(ShapeError, match=words):
        graph.forward({"x": INPUTS["x"]}, THETA)


def test_the_representation_reads_like_the_program():
    graph = graph_of(loss, h, **SHAPES)
    assert repr(graph).splitlines() == [
        "graph of 'x', 'y' with 9 parameters in 'W', 'b'",
        "  h = affine(x, W, b)",
        "  loss = squared(h, y), a cost of weight 1",
    ]


def test_take_has_no_costate_outside_its_step(rng):
    graph = graph_of(Node("s", take(1), ("x",)), Node("loss", primitives.squared_norm, ("s",)))
    x = rng.normal(size=(2, 3, 4))
    p = graph.adjoint(graph.forward({"x": x}, {}), {})["x"]
    assert (p[:, 1] == x[:, 1] / 2).all()
    assert not p[:, [0, 2]].any()


def test_a_cost_has_one_number_for_each_sample_and_of_parameters_one_in_all():
    W = {"W": np.arange(6.0).reshape(3, 2)}
    data = {"x": np.ones(4), "y": np.ones(4)}
    both = Node("both", primitives.concatenate, ("x", "y"))
    with pytest.raises(
        ShapeError, match=r"node 'both' .* shape \(8,\), expected \(batch,\) = \(4,\)"
    ):
        Graph([both], costs={"both": 1.0}).forward(data, {})
    rows = Graph(
        [Node("rows", primitives.squared_norm, (), ("W",))],
        costs={"rows": 1.0},
        parameters={"W": (3, 2)},
    )
    with pytest.raises(ShapeError, match=r"a cost of parameters alone.*the primitive `penalty`"):
        rows.forward({}, W)
    decay = Graph(
        [Node("decay", primitives.penalty, (), ("W",))],
        costs={"decay": 2.0},
        parameters={"W": (3, 2)},
    )
    z = decay.forward({}, W)
    assert decay.cost(z) == 55.0
    np.testing.assert_array_equal(decay.gradient(z, decay.adjoint(z, W), W)["W"], 2 * W["W"])


def test_nodes_may_come_from_a_generator_and_one_name_may_be_asked_for():
    nodes = (Node(name, primitives.squared_norm, ("x",)) for name in ("a", "b"))
    graph = Graph(nodes, costs={"a": 1.0})
    assert set(graph.forward({"x": np.ones((2, 3))}, {}, only="b")) == {"x", "b"}
    for wrong in ({"costs": ["a"]}, {"costs": {"a": 1.0}, "parameters": ["W"]}):
        with pytest.raises(ArgumentError, match="is of type list, expected Mapping"):
            Graph([Node("a", primitives.squared_norm, ("x",))], **wrong)


def test_a_relu_of_a_parameter_can_be_initialised():
    graph = Graph(
        [Node("r", primitives.relu, (), ("w",)), Node("p", primitives.penalty, ("r",))],
        costs={"p": 1.0},
        parameters={"w": (3,)},
    )
    np.testing.assert_array_equal(graph.initial(0)["w"], 0.0)


@pytest.mark.parametrize("where", ["function", "vjp"])
def test_a_primitive_cannot_write_to_its_arguments(where):
    def in_place(p, z, x):
        p *= x > 0
        return p

    function = (
        (lambda x: np.maximum(x, 0, out=x)) if where == "function" else primitives.relu.function
    )
    vjp = in_place if where == "vjp" else primitives.relu.vjps[0]
    graph = Graph(
        [
            Node("a", primitives.affine, ("x",), ("W", "b")),
            Node("h", Primitive("relu_", function, (vjp,)), ("a",)),
            Node("sum", primitives.add, ("h", "a")),
            Node("loss", primitives.squared_norm, ("sum",)),
        ],
        costs={"loss": 1.0},
        parameters={"W": (2, 2), "b": (2,)},
    )
    objective = graph.objective({"x": np.ones((2, 2))})
    with pytest.raises(ShapeError, match=r"node 'h' \(relu_\) fails on .*read-only; its arguments"):
        objective.value_and_gradient(np.arange(6.0))


@pytest.mark.parametrize("theta", [None, 3, [1.0]])
def test_parameters_that_are_no_dict_are_named(theta):
    with pytest.raises(
        ArgumentError, match=r"theta is of type .*, expected a dict \{'W1': ..., 'b1'"
    ):
        lqrad.mlp([2, 2]).flatten(theta)


def test_a_gradient_keeps_no_costate_that_is_done_with():
    """One pass has the values of all nodes in memory, and not the costates of all as well."""
    graph = lqrad.mlp([20, *[20] * 40, 1], loss="squared")
    rng = np.random.default_rng(0)
    theta, data = graph.initial(rng), {"x": rng.normal(size=(2000, 20)), "y": np.zeros((2000, 1))}
    objective, vector = graph.objective(data), graph.flatten(theta)
    values = sum(z.nbytes for z in graph.forward(data, theta).values())
    tracemalloc.start()
    objective.value_and_gradient(vector)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * values
