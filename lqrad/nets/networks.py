"""Networks as computation graphs, and the linear-quadratic problem as one.

    mlp         h[l] = s(h[l-1] W[l] + b[l])                           a layer has its own weights
    residual    h[l] = h[l-1] + s(h[l-1] W[l] + b[l])                  and is added to what it sees
    recurrent   h[t] = s(x[t-1] Wx + b + h[t-1] Wh)                    a step shares its weights
    lq_graph    x[t] = A x[t-1] + B u[t-1] + c                         and its parameters are inputs

The networks end with output = h W + b and a loss of it; s is the activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lqrad.arguments import Array, check_choice, check_count, check_items, check_room, check_type
from lqrad.errors import ArgumentError
from lqrad.lq.problem import LQProblem
from lqrad.nets.graph import Graph
from lqrad.nets.nodes import Node
from lqrad.nets.primitives import (
    Primitive,
    add,
    affine,
    logistic,
    matmul,
    relu,
    sigmoid,
    softmax_cross_entropy,
    softplus,
    squared,
    take,
    tanh,
)

ACTIVATIONS = {primitive.name: primitive for primitive in (tanh, relu, sigmoid, softplus)}
LOSSES = {primitive.name: primitive for primitive in (softmax_cross_entropy, squared, logistic)}


def mlp(
    widths: Sequence[int],
    activation: str | Primitive = "tanh",
    *,
    loss: str | Primitive = "softmax-cross-entropy",
) -> Graph:
    """Return the multilayer perceptron h[l] = s(h[l-1] W[l] + b[l]) with h[0] = x.

    Parameters
    ----------
    widths : sequence of int
        Of the input, of each hidden layer, and of the output.
    activation : {"tanh", "relu", "sigmoid", "softplus"} or Primitive
    loss : {"softmax-cross-entropy", "squared", "logistic"} or Primitive
        A function of the output and of the target.

    Returns
    -------
    Graph
        Inputs "x" (batch, widths[0]) and "y", as the loss wants it; nodes "a1" (before the
        activation), "h1" (after it), "a2", ..., "output", "loss"; parameters "W1", "b1", ...

    See Also
    --------
    residual_network, recurrent : other networks.
    sgd : trains them.
    PolicyProblem : takes one for a policy.

    Examples
    --------
    >>> mlp([64, 32, 10])
    graph of 'x', 'y' with 2410 parameters in 'W1', 'b1', 'W2', 'b2'
      a1 = affine(x, W1, b1)
      h1 = tanh(a1)
      output = affine(h1, W2, b2)
      loss = softmax-cross-entropy(output, y), a cost of weight 1
    """
    widths = [check_count("a width", k) for k in check_items("widths", widths, "whole numbers")]
    if len(widths) < 2:
        raise ArgumentError(f"widths is {widths}, expected those of the input and of the output")
    s = _choice("activation", activation, ACTIVATIONS)
    nodes, below, last = list[Node](), "x", len(widths) - 1
    for layer in range(1, last):
        nodes += [_affine(f"a{layer}", below, layer), Node(f"h{layer}", s, (f"a{layer}",))]
        below = f"h{layer}"
    nodes.append(_affine("output", below, last))
    return _with_loss(nodes, _shapes(widths, first=1), loss)


def residual_network(
    inputs: int,
    width: int,
    outputs: int,
    depth: int,
    activation: str | Primitive = "tanh",
    *,
    loss: str | Primitive = "softmax-cross-entropy",
) -> Graph:
    """Return the residual network h[l] = h[l-1] + s(h[l-1] W[l] + b[l]) with h[0] = x W[0] + b[0].

    A costate passes the skip connections as it is: p[l-1] = p[l] + (ds/dh[l-1])' p[l].

    Parameters
    ----------
    inputs, width, outputs, depth : int
        Width of the input, of the hidden layers and of the output; number of the blocks.
    activation, loss
        As of `mlp`.

    Returns
    -------
    Graph
        Inputs "x" (batch, inputs) and "y"; nodes "h0", and for each block "a1", "s1", "h1", ...,
        "output", "loss"; parameters "W0", "b0", ..., those of the output last.

    See Also
    --------
    mlp, recurrent : other networks.

    References
    ----------
    He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016, section 3.1.

    Examples
    --------
    >>> residual_network(2, 8, 1, depth=20, loss="squared").size
    1473
    """
    s = _choice("activation", activation, ACTIVATIONS)
    depth = check_count("depth", depth)
    inputs, width, outputs = _widths(inputs=inputs, width=width, outputs=outputs)
    check_room(f"a graph of depth {depth}", depth, _NODES)
    nodes = [_affine("h0", "x", 0)]
    for layer in range(1, depth + 1):
        below = f"h{layer - 1}"
        nodes += [
            _affine(f"a{layer}", below, layer),
            Node(f"s{layer}", s, (f"a{layer}",)),
            Node(f"h{layer}", add, (below, f"s{layer}")),
        ]
    nodes.append(_affine("output", f"h{depth}", depth + 1))
    widths = [inputs, *[width] * (depth + 1), outputs]
    return _with_loss(nodes, _shapes(widths, first=0), loss)


def recurrent(
    inputs: int,
    width: int,
    outputs: int,
    T: int,
    activation: str | Primitive = "tanh",
    *,
    loss: str | Primitive = "softmax-cross-entropy",
) -> Graph:
    """Return a recurrent network unrolled over T steps: h[t] = s(x[t-1] Wx + b + h[t-1] Wh), h[0] = 0.

    Its costates are those of the time-varying system with A[t] = diag(s') Wh', and grow as
    `lqrad.gradient_growth` of that measures.

    Parameters
    ----------
    inputs, width, outputs : int
        Width of a step of the series, of the hidden state and of the output.
    T : int
        Number of steps, at least 2.
    activation, loss
        As of `mlp`; the loss is that of the output at the end.

    Returns
    -------
    Graph
        Inputs "x" (batch, T, inputs) and "y"; nodes "x1", ..., the steps of the series, "h1", ...,
        the hidden states, "output", "loss"; parameters "Wx", "b", "Wh", "Wo" and "bo".

    See Also
    --------
    mlp, residual_network : networks without time.
    gradient_growth : why its gradients vanish or explode.

    References
    ----------
    Werbos, Backpropagation through time, Proceedings of the IEEE 78 (1990), 1550-1560.

    Examples
    --------
    >>> recurrent(1, 8, 2, T=100).size
    98
    """
    s = _choice("activation", activation, ACTIVATIONS)
    T = check_count("T", T, least=2)
    inputs, width, outputs = _widths(inputs=inputs, width=width, outputs=outputs)
    check_room(f"a graph over T = {T} steps", T, _NODES)
    nodes: list[Node] = []
    for t in range(1, T + 1):
        driven = f"a{t}" if t == 1 else f"i{t}"
        nodes += [
            Node(f"x{t}", take(t - 1, of=T), ("x",)),
            Node(driven, affine, (f"x{t}",), ("Wx", "b")),
            Node(f"h{t}", s, (f"a{t}",)),
        ]
        if t > 1:
            nodes += [
                Node(f"r{t}", matmul, (f"h{t - 1}",), ("Wh",)),
                Node(f"a{t}", add, (driven, f"r{t}")),
            ]
    nodes.append(Node("output", affine, (f"h{T}",), ("Wo", "bo")))
    shapes = {"Wx": (inputs, width), "b": (width,), "Wh": (width, width)}
    return _with_loss(nodes, shapes | {"Wo": (width, outputs), "bo": (outputs,)}, loss)


def _affine(name: str, parent: str, layer: int) -> Node:
    return Node(name, affine, (parent,), (f"W{layer}", f"b{layer}"))


def _shapes(widths: Sequence[int], *, first: int) -> dict[str, tuple[int, ...]]:
    """Those of the parameters of layers between these widths, counted from the first."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (inside, outside) in enumerate(pairwise(widths), start=first):
        shapes |= {f"W{layer}": (inside, outside), f"b{layer}": (outside,)}
    return shapes


def _with_loss(
    nodes: list[Node], shapes: dict[str, tuple[int, ...]], loss: str | Primitive
) -> Graph:
    nodes.append(Node("loss", _choice("loss", loss, LOSSES), ("output", "y")))
    return Graph(nodes, costs={"loss": 1.0}, parameters=shapes)


def _widths(**widths: int) -> list[int]:
    return [check_count(name, width) for name, width in widths.items()]


# What a node takes in memory, in numbers: a few Python objects.
_NODES = 1000


def _choice(name: str, given: str | Primitive, choices: dict[str, Primitive]) -> Primitive:
    if isinstance(given, Primitive):
        return given
    check_choice(name, given, choices)
    return choices[given]


# The linear-quadratic problem


def lq_graph(problem: LQProblem, T: int | None = None) -> Graph:
    """Return a linear-quadratic problem as a graph, whose parameters are its inputs u[t].

    Its costates are those of the problem: p["x1"] is p[0], and p["x0"] the gradient in x0.

    Parameters
    ----------
    problem : LQProblem
    T : int, optional
        Needed where nothing varies in time.

    Returns
    -------
    Graph
        Input "x0" (batch, n), nodes "x1", ..., "xT" and the costs of the stages "cost0", ...,
        "costT"; parameters "u0", ..., whose flat vector is u (T, m) row by row.

    See Also
    --------
    LQProblem : what it is made of.
    PolicyProblem : a problem whose inputs come from a graph.

    Examples
    --------
    >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
    >>> objective = lq_graph(problem, T=2).objective({"x0": [[8.0]]})
    >>> objective.value_and_gradient(np.zeros(2))
    (42.0, array([5., 2.]))
    >>> J, g = problem.value_and_gradient([8.0], np.zeros((2, 1)))
    >>> J, g.ravel()
    (42.0, array([5., 2.]))
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    T = problem.horizon(T)
    check_room(f"a graph over T = {T} steps", T, _NODES)
    nodes = []
    for t in range(T):
        A, B, c, Q, R, M, q, r = (_at_stage(problem, name, t) for name in "ABcQRMqr")
        nodes += [
            Node(f"cost{t}", _stage_cost(Q, R, M, q, r), (f"x{t}",), (f"u{t}",)),
            Node(f"x{t + 1}", _step(A, B, c), (f"x{t}",), (f"u{t}",)),
        ]
    nodes.append(Node(f"cost{T}", _terminal_cost(problem.S, problem.s), (f"x{T}",)))
    return Graph(
        nodes,
        costs={f"cost{t}": 1.0 for t in range(T + 1)},
        parameters={f"u{t}": (problem.m,) for t in range(T)},
    )


def _at_stage(problem: LQProblem, name: str, t: int) -> Array:
    array: Array = getattr(problem, name)
    return array[t] if array.ndim > (2 if name.isupper() else 1) else array


def _step(A: Array, B: Array, c: Array) -> Primitive:
    """A x + B u + c for each row x; u is the same for all of them."""
    return Primitive(
        "step",
        lambda x, u: x @ A.T + (B @ u + c),
        (lambda p, z, x, u: p @ A, lambda p, z, x, u: p.sum(axis=0) @ B),
    )


def _stage_cost(Q: Array, R: Array, M: Array, q: Array, r: Array) -> Primitive:
    """1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u for each row x."""

    def in_x(x: Array, u: Array) -> Array:
        return x @ Q + (M @ u + q)

    def in_u(x: Array, u: Array) -> Array:
        return x @ M + (R @ u + r)

    return Primitive(
        "stage cost",
        lambda x, u: 0.5 * (np.sum(x * (in_x(x, u) + q), axis=1) + (in_u(x, u) + r) @ u),
        (lambda p, z, x, u: p[:, None] * in_x(x, u), lambda p, z, x, u: p @ in_u(x, u)),
    )


def _terminal_cost(S: Array, s: Array) -> Primitive:
    """1/2 x'Sx + s'x for each row x."""
    return Primitive(
        "terminal cost",
        lambda x: 0.5 * np.sum(x * (x @ S + 2 * s), axis=1),
        (lambda p, z, x: p[:, None] * (x @ S + s),),
    )
