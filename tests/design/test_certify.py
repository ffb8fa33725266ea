"""The worst case of a step: no state of the box takes more, and some take as many."""

from __future__ import annotations

import numpy as np
import pytest

import lqrad
from lqrad.design import Limit, mpc, worst_case
from lqrad.lq import cases
from lqrad.lq.condensed import Condensed

A, B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.005], [0.1]])
CART = lqrad.LQProblem(A, B, np.diag([10.0, 1.0]), [[0.1]])


def counted(controller, runs):
    """The most iterations of first steps from the box of size one, of the next ones in it, and sets."""
    planner = controller._own
    limited, layout = planner.limited, planner.layout
    condensed, at = Condensed(limited), limited.rows.limited
    bounds = condensed.bounds(layout.low[at], layout.high[at], 1e-8)
    x = np.random.default_rng(0).uniform(-1, 1, size=(runs, controller.problem.n))
    first = condensed.steps(x, bounds)
    x = x @ controller.problem.A.T + first.u @ controller.problem.B.T
    inside = np.abs(x).max(axis=1) <= 1
    later = condensed.steps(x[inside], bounds, before=first.state[inside])
    assert min(first.iterations.min(), later.iterations.min()) >= 0
    sets = len({state.tobytes() for state in first.state})
    return first.iterations.max(), later.iterations.max(), sets


@pytest.mark.parametrize("T", [2, 3])
def test_no_state_takes_more_and_one_takes_as_many_but_for_rounding(T):
    """Where rounding errors decide, the bound counts one iteration that is seldom or never seen."""
    controller = mpc(CART, T, input_bounds=(-1, 1))
    found = worst_case(controller, -1, 1)
    first, later, sets = counted(controller, 2000)
    assert first <= found.from_reset <= first + 1
    assert max(first, later) <= found.iterations <= max(first, later) + 1
    assert sets <= found.sets <= sets + 2


def test_the_counts_of_one_step_are_seen_by_hand():
    """Free, at the high limit or at the low one; where rounding errors decide, a row may go again."""
    problem = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    found = worst_case(mpc(problem, 1, input_bounds=(-0.1, 0.1)), -1, 1)
    assert (found.iterations, found.from_reset, found.sets) == (2, 2, 3)


def test_without_a_limit_in_reach_nothing_is_to_be_done():
    found = worst_case(mpc(CART, 3, input_bounds=(-1e3, 1e3)), -1, 1)
    assert (found.iterations, found.sets) == (0, 1)


def test_too_many_cases_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(cases, "_MOST_PROGRAMS", 50)
    with pytest.raises(lqrad.ArgumentError, match=r"too many cases: .* after 50 linear programs"):
        worst_case(mpc(CART, 5, input_bounds=(-1, 1)), -1, 1)


@pytest.mark.parametrize(
    ("problem", "options", "match"),
    [
        (CART, {"input_bounds": (0, 1)}, "a limit is at or beyond the origin"),
        (CART, {"terminal": "origin"}, "a limit is at or beyond the origin"),
        (CART, {"input_bounds": (-1, 1), "H": [[1.0, 0.0]]}, "controller follows references"),
        (CART, {"rows": [Limit(D=[[1.0]], high=1, price=2)]}, "rows with prices"),
        (CART.replace(c=[0.1, 0.0]), {"input_bounds": (-1, 1)}, "linear terms"),
        (CART, {"rate_bounds": (-1, 1)}, "the inputs before have no bounds"),
    ],
)
def test_what_has_no_worst_case_is_refused_in_words(problem, options, match):
    with pytest.raises(lqrad.ArgumentError, match=match):
        worst_case(mpc(problem, 3, **options), -1, 1)
