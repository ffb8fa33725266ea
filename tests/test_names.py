"""Names: one for each idea, in one order, wherever a public function takes it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections import defaultdict

import pytest
from names import PUBLIC, SCRIPT, listing

from lqrad.results import Report

# What an idea is called elsewhere, and here.
OURS = {
    "steps": "T",
    "horizon": "T",
    "N": "T",
    "tracked": "H",
    "lr": "step_size",
    "learning_rate": "step_size",
    "seed": "rng",
    "random_state": "rng",
    "maxiter": "max_iter",
    "tolerance": "tol",
    "limits": "bounds",
    "lo": "low",
    "hi": "high",
    "Ts": "dt",
}
# These count something else than the inputs of a horizon.
COUNTS = {
    "cosine_decay",
    "step_decay",
    "StateSpace.delayed",
    "PolicyGradient",
    "Training",
    "TaylorTest",
}
# Pairs that stand in the other order where a point (x, u, p) is judged, and x0 belongs to it.
POINT = {("u", "x0"), ("x", "x0"), ("p", "x0"), ("p", "z")}
ABOUT_A_POINT = {"adjoint", "gradient", "kkt_residual", "lagrangian", "products", "vjp"}


def functions():
    """Every public function, class and method with its parameters; results are not called."""
    for name, thing in PUBLIC.items():
        if inspect.isclass(thing) and issubclass(thing, (Exception, Report)):
            continue
        if inspect.isclass(thing):
            yield from ((f"{name}.{key}", method) for key, method in listing.methods(thing))
        if callable(thing):
            yield name, thing


def parameters():
    for name, function in functions():
        try:
            signature = inspect.signature(function)
        except ValueError:  # an enumeration
            continue
        yield name, [p for p in signature.parameters.values() if p.name != "self"]


PARAMETERS = dict(parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_idea_has_one_name(name):
    taken = {p.name for p in PARAMETERS[name]} - ({"steps"} if name in COUNTS else set())
    assert {theirs: OURS[theirs] for theirs in taken & OURS.keys()} == {}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_cross_term_is_by_keyword(name):
    assert [p for p in PARAMETERS[name] if p.name == "M" and p.kind != p.KEYWORD_ONLY] == []


def order_of(table):
    """Where each pair of positional parameters stands in this order."""
    found = defaultdict(set)
    for name, given in table.items():
        positional = [p.name for p in given if p.kind == p.POSITIONAL_OR_KEYWORD]
        for i, first in enumerate(positional):
            for second in positional[i + 1 :]:
                found[first, second].add(name)
    return found


def test_arguments_stand_in_one_order():
    order = order_of(PARAMETERS)
    both = {pair: names for pair, names in order.items() if pair[::-1] in order}
    assert {pair for pair in both if pair not in POINT and pair[::-1] not in POINT} == set()
    for pair in POINT:  # of the questions about a point alone
        assert {name.split(".")[-1] for name in order[pair]} <= ABOUT_A_POINT


def test_a_planted_other_order_is_found():
    planted = PARAMETERS | {"other": [*reversed(PARAMETERS["compare"][:2])]}
    order = order_of(planted)
    assert ("x0", "problem") in order
    assert ("problem", "x0") in order


def test_the_script_prints_a_row_for_each_name():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(PUBLIC) + 2
