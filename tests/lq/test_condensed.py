"""First inputs by condensed rows, against the whole plan: the same verdict, from other numbers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from lqrad import LQProblem, Status, native, riccati
from lqrad.lq.condensed import Condensed
from lqrad.lq.limits import Limited
from lqrad.lq.plan import later
from lqrad.lq.prices import hard
from lqrad.lq.riccati import cost_factor


def drawn(seed, priced=False):
    """Rows of every kind: said twice, of one input, equations, limits on one side, at zero, or none.

    With prices every second row of states gives way at a price, a spring, or both.
    """
    rng = np.random.default_rng([seed, 7])
    n, m, T = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(1, 13))
    A = rng.normal(size=(n, n))
    A *= rng.uniform(0.2, 1.3) / max(np.abs(np.linalg.eigvals(A)).max(), 1e-3)
    terms = {"c": rng.normal(size=n), "q": rng.normal(size=n), "r": rng.normal(size=m)}
    problem = LQProblem(
        A,
        rng.normal(size=(n, m)),
        np.diag(rng.uniform(0, 2, size=n)),
        np.diag(rng.uniform(0.1, 2, size=m)),
        np.diag(rng.uniform(0, 5, size=n)),
        **(terms if seed % 3 == 0 else {}),
    )
    k, j = int(rng.integers(0, 3)), int(rng.integers(0, 3))
    C, D = np.zeros((m + k, n)), np.vstack([np.eye(m), rng.normal(size=(k, m))])
    C[m:] = rng.normal(size=(k, n))
    E = rng.normal(size=(j, n))
    if k and seed % 4 == 0:
        C[m], D[m] = -2 * C[0], -2 * D[0]
    limits = rng.uniform(0.1, 2, size=(2, T, m + k + j)) * 10 ** rng.uniform(-1, 1)
    low, high = -limits[0], limits[1]
    low[rng.random(low.shape) < 0.2] = -np.inf
    high[rng.random(low.shape) < 0.2] = np.inf
    low[:, 0] = np.where(rng.random(T) < 0.3, 0.0, low[:, 0])
    if seed % 5 == 0:
        low[-1, -1] = high[-1, -1] = 0.1
    limited = np.isfinite(low) | np.isfinite(high)
    names = [f"row {i}" for i in range(m + k + j)]
    soft = np.zeros(m + k + j, bool)
    prices = hard(m + k + j)
    if priced:
        at = m + np.flatnonzero(rng.random(k + j) < 0.8)
        kind = rng.integers(0, 3, size=len(at))
        prices.price[at] = np.where(kind == 1, 0.0, 10 ** rng.uniform(-2, 2, size=len(at)))
        prices.spring[at] = np.where(kind == 0, 0.0, 10 ** rng.uniform(-2, 2, size=len(at)))
    options = {"soft": soft, "names": names, "limited": limited, "prices": prices}
    return Limited(problem, T, C, D, E, **options), low, high, rng


TIES = []  # of each pair of steps, whether they were decided otherwise


def both_ways(condensed, *args, **options):
    """The step of the kernel, if it is there, and of its twin, which have to be the same.

    Rows that are said twice are violated by the same amount but for rounding: then either may be first.
    """
    found = condensed.step(*args, **options)
    with native.switched_off():
        twin = condensed.step(*args, **options)
    assert (found is None) == (twin is None)
    if found is not None:
        same = found.iterations == twin.iterations and (found.state == twin.state).all()
        TIES.append(not same)
        np.testing.assert_allclose(found.u, twin.u, rtol=0, atol=1e-12 * (1 + np.abs(twin.u).max()))
    return found


@pytest.mark.parametrize("priced", [False, True])
def test_first_inputs_are_those_of_plans_and_no_verdict_is_another(priced):
    counts = dict.fromkeys(("free", "at work", "past", "infeasible", "no answer"), 0)
    for seed in range(150):
        limited, low, high, rng = drawn(seed, priced)
        condensed, at = Condensed(limited), limited.rows.limited
        bounds = condensed.bounds(low[at], high[at], 1e-8)
        offset, before = condensed.offset(limited), None
        x0 = rng.normal(size=limited.problem.n) * 10 ** rng.uniform(-1, 0.5)
        for _ in range(3):
            plan = limited.solve(x0, low, high)
            step = both_ways(condensed, x0, bounds, offset=offset, before=before)
            if step is None:
                proven = plan.status is Status.CONVERGED_GAP
                counts["no answer" if proven else "infeasible"] += 1
                continue
            assert plan.status is Status.CONVERGED_GAP, seed
            scale = np.abs(plan.u).max() + np.abs(x0).max()
            np.testing.assert_allclose(step.u, plan.u[0], atol=1e-6 * scale)
            counts["at work" if step.y is not None else "free"] += 1
            if step.y is not None:
                counts["past"] += bool((np.abs(step.state) == 2).any())
                y = condensed.multipliers(step.y)
                if priced:
                    assert (condensed.states(y) == step.state)[step.y != 0].all()
                found = limited.solve(x0, low, high, y=y)
                assert found.iterations <= 1
                np.testing.assert_allclose(
                    found.multipliers, y, atol=1e-7 * (1 + np.abs(y).max()), err_msg=str(seed)
                )
            before = step.state
            x0 = x0 + 0.1 * rng.normal(size=len(x0))
    assert min(counts["free"], counts["infeasible"]) > (10 if priced else 20)
    assert counts["past"] > (80 if priced else -1)
    assert counts["at work"] > 150
    # Rows with a price are not added one after another: where many depend on others the plan decides.
    assert counts["no answer"] < (0.4 if priced else 0.03) * counts["at work"]
    assert np.mean(TIES) < 0.02


def test_states_of_any_kind_to_begin_with_lead_to_the_same_end():
    for seed in range(40):
        limited, low, high, rng = drawn(seed)
        condensed, at = Condensed(limited), limited.rows.limited
        bounds, offset = condensed.bounds(low[at], high[at], 1e-8), condensed.offset(limited)
        x0 = rng.normal(size=limited.problem.n)
        end = both_ways(condensed, x0, bounds, offset=offset)
        before = rng.integers(-1, 2, size=at.sum()).astype(np.int8)
        other = both_ways(condensed, x0, bounds, offset=offset, before=before)
        if end is not None and other is not None:
            np.testing.assert_allclose(other.u, end.u, atol=1e-7 * (1 + np.abs(end.u).max()))
    assert np.mean(TIES) < 0.02


def test_the_products_of_rows_are_those_of_their_adjoints():
    """Y_i is the gradient in w of a row, which the adjoint gives as well: by another recursion."""
    limited, *_ = drawn(2)
    condensed, at = Condensed(limited), limited.rows.limited
    for i, (t, row) in enumerate(np.argwhere(at)):
        y = np.zeros(at.shape)
        y[t, row] = 1 / condensed.size[i]
        in_x, in_u = limited._zero()
        limited.rows.add_slopes(in_x, in_u, y)
        gradient = limited._free.gradient(in_x, in_u).ravel()
        np.testing.assert_allclose(condensed.Y[i], gradient, atol=1e-13)


def test_what_is_missed_for_each_unit_state_is_measured():
    """A map that is wrong by a part in a thousand has no proof, at any state."""
    limited, low, high, _ = drawn(1)
    broken = copy.copy(limited)
    broken._free = copy.copy(limited._free)
    broken._free.K = limited._free.K * (1 + 1e-3)
    x0, at = np.ones(limited.problem.n), limited.rows.limited
    for which, proven in ((limited, True), (broken, False)):
        condensed = Condensed(which)
        wide = condensed.bounds(1e3 * low[at] - 1, 1e3 * high[at] + 1, 1e-8)
        assert (both_ways(condensed, x0, wide) is not None) == proven


def test_a_limit_on_steps_and_rows_that_no_input_moves_have_no_answer():
    problem = LQProblem([[1, 0.5], [0, 1]], [[0.125], [0.5]], np.eye(2), [[0.1]])
    force, none = np.ones((1, 1)), np.zeros((1, 2))
    C = np.vstack([none, [[1.0, 0.0]]])
    options = {"soft": np.zeros(2, bool), "names": ["force", "position"]}
    limited = Limited(problem, 20, C, np.vstack([force, 0 * force]), none[:0], **options)
    condensed, ones = Condensed(limited), np.ones((20, 2))
    bounds = condensed.bounds(-ones.ravel(), 5 * ones.ravel(), 1e-8)
    x0 = np.array([4.5, 0.0])
    assert both_ways(condensed, x0, bounds).y is not None
    assert both_ways(condensed, x0, bounds, max_iter=1) is None
    assert both_ways(condensed, np.array([5.5, 0.0]), bounds) is None  # x[0] is what it is


def formed():
    limited, low, high, _ = drawn(2)
    return limited.solve(0.01 * np.ones(limited.problem.n), low, high)


def test_a_plan_for_later_is_made_when_it_is_read():
    made = []

    def form():
        made.append(1)
        return formed()

    plan = later(form, status=Status.CONVERGED_GAP)
    assert plan.status is Status.CONVERGED_GAP
    assert not hasattr(plan, "no_such_name")
    assert not made
    assert plan.certificate is None  # a default of the class, which is read as well
    assert made == [1]
    whole = formed()
    assert abs(plan.x - whole.x).max() == 0
    assert plan.to_dict().keys() == whole.to_dict().keys()
    assert made == [1]
    for again in (
        pickle.loads(pickle.dumps(later(formed))),
        copy.deepcopy(later(formed)),
        copy.copy(later(formed)),
    ):
        assert repr(again)[:20] == repr(whole)[:20]
        assert again.cost == whole.cost
    with pytest.raises(AttributeError, match="cannot assign"):
        later(formed).x = 3


def test_the_cost_without_limits_is_that_of_the_riccati_solution():
    for seed in (0, 3, 6, 7):
        limited, _, _, rng = drawn(seed)
        condensed, problem = Condensed(limited), limited.problem
        slope, cost = np.split(condensed.offset(limited)[-(problem.n + 3) : -2], [problem.n])
        x0 = rng.normal(size=problem.n)
        expected = riccati(problem, limited.T).rollout(x0).cost * cost_factor(problem)
        found = 0.5 * x0 @ condensed.P @ x0 + slope @ x0 + cost[0]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
