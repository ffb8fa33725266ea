"""A node of a computation graph: a primitive, and what its arguments are called."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array, check_items, check_type, real_array
from lqrad.errors import ArgumentError, LqradError, ShapeError
from lqrad.functions.calls import IN_PLACE
from lqrad.functions.carried import read_only
from lqrad.nets.primitives import Primitive

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Node:
    """A variable of a graph: z[name] = primitive(z of the parents..., theta of the parameters...).

    Parameters
    ----------
    name : str
    primitive : Primitive
    parents : tuple of str
        Names of nodes; a name that no node has is an input of the graph.
    parameters : tuple of str
        Several nodes may use the same one.

    See Also
    --------
    Graph : what nodes make.
    Primitive : what a node computes.
    """

    name: str
    primitive: Primitive
    parents: tuple[str, ...]
    parameters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        example = "Primitive(name, function, vjps)"
        check_type(f"the primitive of node {self.name!r}", self.primitive, Primitive, example)
        for kind in ("parents", "parameters"):
            names = getattr(self, kind)
            if not isinstance(names, str):
                names = check_items(f"{kind} of {self.name!r}", names, "names")
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise ArgumentError(
                    f"{kind} of {self} is {names!r}, expected a tuple of names such as ('a',)"
                )
            object.__setattr__(self, kind, tuple(names))
        vjps = self.primitive.vjps
        if not callable(vjps) and len(vjps) != len(self.arguments):
            raise ArgumentError(
                f"{self} has {len(self.arguments)} arguments, {listed(self.arguments)}, expected "
                f"{len(vjps)}, one for each of its vjps: the parents, then the parameters"
            )

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the parents and of the parameters."""
        return self.parents + self.parameters

    def value(self, values: Arrays) -> Array:
        """Return f(arguments), with the arguments looked up among the values."""
        given = (read_only(values[name]) for name in self.arguments)
        return self._call(self.primitive.function, *given)

    def products(
        self, p: Array, z: Array, values: Arrays, wanted: Collection[str]
    ) -> Iterator[tuple[str, Array]]:
        """Yield each wanted argument, and the product of p with the transposed Jacobian in it."""
        p, z = read_only(p), read_only(z)
        arguments = [read_only(values[name]) for name in self.arguments]
        # The last first: of p, which has just been found, an offset takes a sum, and a matrix a product
        # that leaves nothing of p in a cache.
        for k, name in reversed(list(enumerate(self.arguments))):
            if name in wanted:
                term = self._call(self.primitive.vjp, k, p, z, *arguments)
                if term.shape != arguments[k].shape:
                    raise ShapeError(
                        f"vjps[{k}] of {self} returns the shape {term.shape}, expected "
                        f"{arguments[k].shape}, that of its argument {name!r}"
                    )
                yield name, term

    def _call(self, function: Callable[..., Any], *given: Any) -> Array:
        """Call a function of the primitive; its errors name the node and the shapes it was given."""
        try:
            return real_array("a value that is computed", function(*given))
        except LqradError as error:
            raise type(error)(f"{self}: {error}") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            shapes = map(np.shape, given[-len(self.arguments) :])
            listed = ", ".join(
                f"{name} {shape}" for name, shape in zip(self.arguments, shapes, strict=False)
            )
            remedy = "check these shapes, and its functions"
            if "read-only" in str(error):
                remedy = IN_PLACE
            raise ShapeError(f"{self} fails on {listed}: {error}", remedy) from error

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.primitive.name})"


def listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
