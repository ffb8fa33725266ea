"""Copies and pickles of everything that is made by a public function: read-only stays read-only.

Each result of `public_calls`, and each problem, plant or controller that is given to one, is used,
copied, and walked through. What was found from its arrays before, and kept, is not in the copy.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from public_calls import CALLS

import lqrad
from lqrad.copies import ReadOnly

# Classes with cached properties that are no ReadOnly, and why.
NEVER_COPIED = {
    "Oracle": "it lives within one descent",
    "ProximalOracle": "it lives within one descent",
    "CovarianceFilter": "it lives within one call of a filter or smoother",
    "NormalEquations": "they live within one call of a smoother",
    "_Piece": "it lives within one call of a smoother",
}


def classes() -> Iterator[type]:
    """Every class of the package."""
    for module in pkgutil.walk_packages(lqrad.__path__, "lqrad."):
        if not module.name.endswith(("__main__", ".kernels")):  # a C library, not a module
            for thing in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(thing) and thing.__module__ == module.name:
                    yield thing


def kept_by(kind: type) -> set[str]:
    return {
        name
        for base in kind.__mro__
        for name, value in vars(base).items()
        if isinstance(value, cached_property)
    }


def parts_of(thing: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """The arrays in a thing, and the things of lqrad in it, each with its path."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    children: dict[Any, Any] = {}
    if isinstance(thing, np.ndarray):
        yield path, thing
    elif isinstance(thing, (tuple, list)):
        children = dict(enumerate(thing))
    elif isinstance(thing, dict):
        children = thing
    elif type(thing).__module__.startswith("lqrad"):
        yield path, thing
        children = {k: v for k, v in vars(thing).items() if k not in kept_by(type(thing))}
    for key, child in children.items():
        yield from parts_of(child, f"{path}.{key}", seen)


def copies_of(thing: Any) -> Iterator[tuple[str, Any]]:
    yield "deepcopy", copy.deepcopy(thing)
    yield "copy", copy.copy(thing)
    with contextlib.suppress(AttributeError, TypeError, pickle.PicklingError):
        yield "pickle", pickle.loads(pickle.dumps(thing))  # not where it holds a user's function


def used(thing: Any) -> Any:
    """The same thing, its cached properties asked for."""
    for _, part in parts_of(thing):
        if not isinstance(part, np.ndarray):
            for name in kept_by(type(part)):
                with contextlib.suppress(lqrad.LqradError):
                    getattr(part, name)
    return thing


@pytest.mark.parametrize("name", CALLS)
def test_what_is_read_only_stays_so(name):
    function, given = CALLS[name]()
    of_lqrad = [part for part in given.values() if type(part).__module__.startswith("lqrad")]
    result = function(**given)
    results = result if isinstance(result, tuple) else (result,)
    of_lqrad += [part for part in results if type(part).__module__.startswith("lqrad")]
    for thing in of_lqrad:
        originals = dict(parts_of(used(thing)))
        for how, other in copies_of(thing):
            for path, part in parts_of(other):
                original = originals[path]
                if how == "copy" and path:  # it has the parts of the original
                    continue
                if isinstance(part, np.ndarray):
                    assert part.flags.writeable <= original.flags.writeable, (how, path)
                    assert part.tobytes() == original.tobytes(), (how, path)
                else:
                    assert not kept_by(type(part)) & set(vars(part)), (how, path)


def test_what_keeps_answers_drops_them_in_copies():
    kept = [kind for kind in classes() if kept_by(kind) and kind.__name__ not in NEVER_COPIED]
    assert len(kept) > 5
    assert [kind.__name__ for kind in kept if not issubclass(kind, ReadOnly)] == []


def test_a_copy_is_used_as_the_original():
    """The arrays of a copy are not those of the original, and answer the same."""
    A = [[1.0, 0.1], [0.0, 1.0]]
    problem = lqrad.LQProblem(A, [[0.0], [0.1]], np.eye(2), [[1.0]])
    first = problem.value_and_gradient([1.0, 0.0], np.ones((5, 1)))
    other = copy.deepcopy(problem)
    assert other.A is not problem.A
    with pytest.raises(ValueError, match="read-only"):
        other.A[0, 1] = 0.5
    value, gradient = other.value_and_gradient([1.0, 0.0], np.ones((5, 1)))
    assert value == first[0]
    np.testing.assert_array_equal(gradient, first[1])


def test_the_copy_of_a_controller_has_a_memory_of_its_own():
    plant = lqrad.StateSpace([[1.0]], [[1.0]], dt=1.0)
    controller = lqrad.lqg(plant, [[1.0]], [[1.0]], [[1.0]], [[1.0]])
    controller.step([1.0])
    other = copy.deepcopy(controller)
    first = [controller.step([1.0]) for _ in range(3)]
    np.testing.assert_array_equal([other.step([1.0]) for _ in range(3)], first)
