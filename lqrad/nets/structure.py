"""What a graph is made of: its nodes, parents first, and which of them depend on what."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

import numpy as np

from lqrad.arguments import check_count, check_items, check_number, check_type
from lqrad.copies import Fixed
from lqrad.errors import ArgumentError, ShapeError
from lqrad.nets.nodes import Node, listed


class Structure(Fixed):
    """The nodes of a `lqrad.nets.Graph`, checked; it knows no values."""

    nodes: tuple[Node, ...]
    costs: dict[str, float]
    parameters: dict[str, tuple[int, ...]]
    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    size: int

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        costs: Mapping[str, float],
        parameters: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        given = {} if parameters is None else parameters
        for name, value in {"costs": costs, "parameters": given}.items():
            check_type(name, value, Mapping, "{'name': value}")
        nodes = _parents_first(nodes)
        arguments = [
            (name, node.primitive.has_vjp(k))
            for node in nodes
            for k, name in enumerate(node.arguments)
        ]
        shapes = {name: _shape(name, shape) for name, shape in given.items()}
        own = {node.name for node in nodes}.union(shapes, *(node.parameters for node in nodes))
        self._set(
            nodes=nodes,
            costs={name: check_number(f"costs[{name!r}]", w) for name, w in costs.items()},
            parameters=shapes,
            inputs=tuple(dict.fromkeys(name for name, _ in arguments if name not in own)),
            labels=tuple(dict.fromkeys(name for name, smooth in arguments if not smooth)),
            size=sum(math.prod(shape) for shape in shapes.values()),
        )
        self._check()

    # Which nodes matter to what

    def leading_to(self, names: Collection[str]) -> list[Node]:
        """The named nodes and those that they depend on, parents first."""
        needed = set(names)
        for name in needed.difference(node.name for node in self.nodes):
            nodes = listed([node.name for node in self.nodes])
            raise ArgumentError(f"{name!r} is no node of the graph; its nodes are {nodes}")
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.parents)
        return [node for node in self.nodes if node.name in needed]

    @cached_property
    def _variables(self) -> tuple[str, ...]:
        """What has a costate: the inputs but for the labels, and the nodes."""
        inputs = (name for name in self.inputs if name not in self.labels)
        return (*inputs, *(node.name for node in self.nodes))

    def _with_dependents(self, names: Collection[str]) -> frozenset[str]:
        """The names, and those of the nodes that depend on them."""
        found = set(names)
        for node in self.nodes:
            if not found.isdisjoint(node.arguments):
                found.add(node.name)
        return frozenset(found)

    @cached_property
    def _trained(self) -> frozenset[str]:
        """The parameters, and the nodes that depend on one."""
        return self._with_dependents(self.parameters)

    @cached_property
    def _sampled(self) -> frozenset[str]:
        """The inputs, and the nodes that depend on one."""
        return self._with_dependents(self.inputs)

    @cached_property
    def _smooth(self) -> dict[str, Node]:
        """The inputs that a node has a derivative in, and that node."""
        return {
            name: node
            for node in self.nodes
            for k, name in enumerate(node.arguments)
            if name in self.inputs and node.primitive.has_vjp(k)
        }

    def _check(self) -> None:
        """Raise unless every name stands for one thing, which exists and is used."""
        used = {name: node for node in self.nodes for name in node.parameters}
        taken = {*used, *self.parameters}
        for node in self.nodes:
            if node.name in taken:
                raise ArgumentError(f"the name of {node} is taken by a parameter; rename one")
            for name in node.parents:
                if name in taken:
                    raise ArgumentError(
                        f"the parent {name!r} of {node} is a parameter; name it among those"
                    )
            for name in node.arguments:
                if name in self.labels and name not in self.inputs:
                    raise ArgumentError(
                        f"{name!r} is taken without a derivative by a node, expected an input there: "
                        f"a gradient would not see that {node} depends on it"
                    )
        for name in used:
            if name not in self.parameters:
                raise ArgumentError(
                    f"the parameter {name!r} of {used[name]} has no shape; add it to parameters, "
                    f"which has {listed(self.parameters)}"
                )
        for name in self.parameters:
            if name not in used:
                raise ArgumentError(f"the parameter {name!r} is used by no node; leave it out")
        if not self.costs:
            raise ArgumentError("costs is empty, expected the weight of one node at least")
        self.leading_to(self.costs)

    def __repr__(self) -> str:
        parameters = f"{self.size} parameters in {listed(self.parameters)}"
        lines = [f"graph of {listed(self.inputs)} with {parameters}"]
        for node in self.nodes:
            line = f"  {node.name} = {node.primitive.name}({', '.join(node.arguments)})"
            cost = self.costs.get(node.name)
            lines.append(line if cost is None else f"{line}, a cost of weight {cost:g}")
        return "\n".join(lines)


def _parents_first(nodes: Sequence[Node]) -> tuple[Node, ...]:
    by_name: dict[str, Node] = {}
    for node in check_items("nodes", nodes, "Nodes"):
        check_type("an entry of nodes", node, Node, "Node(name, primitive, parents)")
        if node.name in by_name:
            raise ArgumentError(f"the name of {node} is taken by another node; rename one")
        by_name[node.name] = node
    parents = {name: node.parents for name, node in by_name.items()}
    try:
        order = list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        cycle = " -> ".join(repr(name) for name in error.args[1])
        raise ArgumentError(
            f"the nodes have a cycle: {cycle}; unroll a loop in time, with one node for each step"
        ) from None
    return tuple(by_name[name] for name in order if name in by_name)


def _shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(shape, (int, np.integer)):
        raise ShapeError(f"parameters[{name!r}] is {shape}, expected a shape such as ({shape},)")
    shape = tuple(check_items(f"parameters[{name!r}]", shape, "lengths"))
    return tuple(check_count(f"a length of parameters[{name!r}]", length) for length in shape)
