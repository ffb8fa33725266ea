"""Plans that end in an invariant set go on for ever; where that is not proven, it is not claimed."""

from __future__ import annotations

import numpy as np
import pytest

import lqrad
from lqrad.design import Limit, invariant_set, mpc

A, B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.005], [0.1]])
CART = lqrad.LQProblem(A, B, np.diag([10.0, 1.0]), [[0.1]])
BOTH = {"input_bounds": (-1, 1), "state_bounds": ([-2.0, -1.5], [0.5, 0.8])}


def run(problem, controller, x, steps=40):
    """The status of each plan along the closed loop, and the states."""
    controller.reset()
    ends, states = [], [x]
    for _ in range(steps):
        x = problem.A @ x + problem.B @ controller.step(x)
        ends.append(controller.last.status.word)
        states.append(x)
    return ends, np.array(states)


@pytest.mark.parametrize("extra", [{}, {"rate_bounds": (-0.4, 0.4)}, {"T": 1}])
def test_a_plan_that_ends_in_the_invariant_set_is_followed_by_others(extra):
    controller = mpc(CART, **BOTH, **({"T": 12} | extra), terminal="invariant")
    assert controller.feasibility.recursive
    rng = np.random.default_rng(0)
    started = 0
    for x in rng.uniform([-0.6, -0.5], [0.5, 0.5], size=(20, 2)):
        ends, states = run(CART, controller, x)
        if ends[0] == "infeasible":
            continue
        started += 1
        assert set(ends) == {"converged"}
        assert (states[1:] <= np.array([0.5, 0.8]) + 1e-7).all()
        assert (states[1:] >= np.array([-2.0, -1.5]) - 1e-7).all()
        assert np.abs(states[-1]).max() < 0.5
    assert 3 <= started < 20


def test_without_an_end_a_plan_may_lead_to_where_none_keeps_the_limits():
    """The same start: with the set it is refused at once, without it in the middle of the way."""
    x = np.array([0.3, 0.8])
    blind = mpc(CART, 2, **BOTH)
    ends, _ = run(CART, blind, x)
    assert ends[0] == "converged"
    assert "infeasible" in ends
    assert not blind.feasibility.recursive
    assert "the last state is free" in blind.feasibility.reason


@pytest.mark.parametrize(
    ("options", "recursive", "reason"),
    [
        ({}, True, "nothing is limited, or at a price alone"),
        ({"input_bounds": (-1, 1)}, True, "nothing limits the states"),
        ({"input_bounds": (-np.ones((5, 1)), np.arange(1.0, 6)[:, None])}, True, "nothing limits"),
        ({"input_bounds": (-1, 1), "rate_bounds": (-1, 1)}, True, "the last input can be held"),
        ({"input_bounds": (-1, 1), "rate_bounds": (0.1, 1)}, False, "the last state is free"),
        (BOTH, False, "the last state is free; terminal='invariant' makes it known"),
        (BOTH | {"terminal": "origin"}, True, "within the other limits under dlqr"),
        (BOTH | {"terminal": "origin", "H": [[1.0, 0.0]]}, True, "while the reference is constant"),
        (BOTH | {"terminal": "origin", "rate_bounds": (-1, 1)}, False, "not proven to be invariant"),
        (BOTH | {"terminal": Limit(np.eye(2), low=-0.1, high=0.1)}, False, "not proven"),
        (BOTH | {"terminal": Limit(np.eye(2), low=-9, high=9)}, False, "not proven"),
        (BOTH | {"state_bounds": (-np.ones((5, 2)), np.arange(1.0, 11).reshape(5, 2))}, False, "vary"),
        (BOTH | {"rows": [Limit([[1.0, 1.0]], [[1.0]], low=-3)], "terminal": "origin"}, True, "dlqr"),
        (BOTH | {"rows": [Limit([[1.0, 1.0]], low=0.1)], "terminal": "origin"}, False, "not proven"),
        (BOTH | {"rows": [Limit([[1.0, 1.0]], low=0.1, price=9)], "terminal": "origin"}, True, "dlqr"),
        ({"rows": [Limit([[1.0, 1.0]], low=0.1, price=9)]}, True, "at a price alone"),
    ],
)  # fmt: skip
def test_what_is_known_is_told_with_its_reason(options, recursive, reason):
    found = mpc(CART, 5, **options).feasibility
    assert found.recursive is recursive
    assert reason in found.reason
    assert ("recursively feasible" if recursive else "not known") in repr(found)


def test_a_set_of_the_user_is_checked():
    K, _, _ = lqrad.dlqr(A, B, CART.Q, CART.R)
    C = np.vstack([np.eye(2), -K])
    small = invariant_set(A - B @ K, C, [-0.1, -0.1, -1], [0.1, 0.1, 1])
    assert mpc(CART, 5, **BOTH, terminal=small).feasibility.recursive
    as_limit = Limit(small.E, low=small.low, high=small.high)
    assert mpc(CART, 5, **BOTH, terminal=as_limit).feasibility.recursive
    wide = invariant_set(A - B @ K, C, [-9, -9, -1], [9, 9, 1])  # beyond the limits of the states
    assert not mpc(CART, 5, **BOTH, terminal=wide).feasibility.recursive
    other = invariant_set(0.5 * np.eye(2), np.eye(2), -0.1, 0.1)  # of another loop
    assert not mpc(CART, 5, **BOTH, terminal=other).feasibility.recursive


def test_with_a_constant_term_the_origin_is_no_end():
    problem = CART.replace(c=[0.1, 0.0])
    assert "no steady state" in mpc(problem, 5, **BOTH, terminal="origin").feasibility.reason
    with pytest.raises(lqrad.ArgumentError, match="the problem has c"):
        mpc(problem, 5, **BOTH, terminal="invariant")


def test_of_a_problem_that_varies_nothing_is_known():
    problem = CART.replace(c=np.zeros((5, 2)), S=np.eye(2))
    assert "the problem varies" in mpc(problem, 5, **BOTH, terminal="origin").feasibility.reason
    with pytest.raises(lqrad.ArgumentError, match="the problem varies in time"):
        mpc(problem, 5, **BOTH, terminal="invariant")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"rows": [Limit([[1.0, 1.0]], low=0.1, name="level")]},
            "level has the limits 0.1 and inf",
        ),
        ({"state_bounds": (np.arange(-12.0, -2).reshape(5, 2), 1)}, "the limits vary over the hor"),
        ({"terminal": "invariants"}, "expected one of: origin, invariant"),
        ({"terminal": invariant_set([[0.5]], [[1.0]], -1, 1)}, "weights, expected n = 2"),
    ],
)
def test_a_set_that_cannot_be_is_refused_in_words(options, match):
    with pytest.raises((lqrad.ArgumentError, lqrad.ShapeError), match=match):
        mpc(CART, 5, **(BOTH | {"terminal": "invariant"} | options))


def test_rows_with_a_price_are_no_obstacle_and_no_end_that_holds():
    hard, soft = ({"price": price} for price in (None, 5.0))
    slow = {"C": [[0.0, 1.0]], "low": -0.5, "high": 0.5}
    end = {"C": np.eye(2), "low": 0.0, "high": 0.0}
    for rows, terminal, recursive in (
        ([Limit(**slow, **soft)], None, True),
        ([Limit(**slow, **hard)], None, False),
        ([Limit(**slow, **hard)], Limit(**end, **hard), True),
        ([Limit(**slow, **hard)], Limit(**end, **soft), False),
    ):
        controller = mpc(CART, 12, input_bounds=(-1, 1), rows=rows, terminal=terminal)
        assert controller.feasibility.recursive is recursive
    wide = mpc(CART, 12, **BOTH, rows=[Limit(**slow, **soft)], terminal="invariant")
    same = mpc(CART, 12, **BOTH, terminal="invariant")
    assert wide.feasibility.recursive
    names, others = (set(z.plan([0.1, 0.0]).rows.names) for z in (wide, same))
    assert names - others == {"rows[0]"}
    assert others < names
