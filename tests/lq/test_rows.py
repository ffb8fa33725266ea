"""Rows that vary in time, or have limits at some stages only, against dense matrices made by loops."""

from __future__ import annotations

import numpy as np
import pytest
from dense_plans import Dense
from random_problems import random_case

import lqrad
from lqrad import Status
from lqrad.lq.limits import Limited
from lqrad.lq.prices import Prices
from lqrad.lq.rows import Rows


class Case:
    """A random problem with varying rows; equations, copies of rows and rows of the end among them."""

    def __init__(self, seed, **asked):
        case, rng = random_case(seed, **asked), np.random.default_rng(seed + 3000)
        self.problem, self.T, self.x0 = case.problem, case.T, case.x0
        n, m, T = self.problem.n, self.problem.m, self.T
        vary = rng.random(3) < 0.5
        mixed = rng.normal(size=(T, 2, n + m)) if vary[0] else rng.normal(size=(2, n + m))
        inputs = np.zeros((m, n + m))
        inputs[:, n:] = np.diag(rng.uniform(0.5, 2.0, size=m))
        if vary[0]:
            inputs = np.array([inputs * factor for factor in rng.uniform(0.5, 2, size=T)])
        both = np.concatenate([inputs, mixed, mixed[..., :1, :]], axis=-2)  # the last is a copy
        self.C, self.D = both[..., :n], both[..., n:]
        self.E = rng.normal(size=(T, 2, n)) if vary[1] else rng.normal(size=(2, n))
        self.dense = Dense(self.problem, self.x0, T, self.C, self.D, self.E)
        self.free = lqrad.riccati(self.problem, T).rollout(self.x0)
        g = self.dense.rows(self.free.u).reshape(T, -1)
        self.count = g.shape[1]
        size = np.abs(g).max(axis=0) + 1e-3
        reach = (0.3, 1.1) if rng.random() < 0.5 else (0.7, 1.5)
        self.high = size * rng.uniform(*reach, size=g.shape)
        self.low = -size * rng.uniform(*reach, size=g.shape)
        self.high[rng.random(size=g.shape) < 0.2] = np.inf
        self.low[rng.random(size=g.shape) < 0.2] = -np.inf
        self.low[:-1, -1], self.high[:-1, -1] = -np.inf, np.inf  # a row of the end alone
        if vary[2]:  # an equation, of what some inputs nearby reach
            u = self.free.u * rng.uniform(0.8, 1.2, size=self.free.u.shape)
            self.low[-1, -1] = self.high[-1, -1] = self.dense.rows(u)[-1]

    def limited(self, **options):
        names = [f"row {i}" for i in range(self.count)]
        given = np.isfinite(self.low) | np.isfinite(self.high)
        soft = np.zeros(self.count, bool)
        rows = self.C, self.D, self.E
        return Limited(
            self.problem, self.T, *rows, soft=soft, names=names, limited=given, **options
        )


def check_stationary(dense, u, y):
    """The Lagrangian's slopes vanish, beside the largest of what adds up to them."""
    slopes = dense.H @ u + dense.f + dense.G.T @ y
    terms = np.abs(dense.H) @ np.abs(u), np.abs(dense.f), np.abs(dense.G.T) @ np.abs(y)
    size = max(z.max() for z in terms)
    assert np.abs(slopes).max() <= 1e-7 * size
    return size


def check_conditions(case, plan):
    """The conditions of the best u, by arithmetic: the Lagrangian's slopes, limits, complementarity."""
    dense, y, u = case.dense, plan.multipliers.ravel(), plan.u.ravel()
    check_stationary(dense, u, y)
    g, low, high = dense.rows(plan.u), case.low.ravel(), case.high.ravel()
    slack = 1e-7 * (np.abs(dense.G) @ np.abs(u) + np.abs(dense.g0))
    assert (g <= high + slack).all()
    assert (g >= low - slack).all()
    at = np.where(y > 0, high, low)
    worth = abs(plan.cost) + abs(case.free.cost)
    assert (np.abs(y * (g - np.where(y != 0, at, g))) <= 1e-6 * worth).all()


def check_certificate(case, y):
    """By arithmetic alone: sum y g is the same for all u, and beyond sum y limit."""
    y, dense = y.ravel(), case.dense
    at = y != 0
    slopes, size = y @ dense.G, np.abs(y) @ np.abs(dense.G)
    assert (np.abs(slopes) <= 1e-9 * size.max()).all()
    limit = np.where(y > 0, case.high.ravel(), case.low.ravel())[at]
    assert np.isfinite(limit).all()
    assert y[at] @ (dense.g0[at] - limit) > 0


@pytest.mark.parametrize("seed", range(60))
def test_plans_are_those_of_a_dense_program(seed):
    case = Case(seed)
    plan = case.limited().solve(case.x0, case.low, case.high)
    found = case.dense.piqp(case.low, case.high)
    if found is None:
        assert plan.status is Status.INFEASIBLE
        check_certificate(case, plan.certificate)
    else:
        assert plan.status is Status.CONVERGED_GAP
        size = abs(plan.cost) + abs(case.free.cost)
        assert abs(plan.cost - found[1]) <= 1e-8 * size
        check_conditions(case, plan)


def test_a_proof_is_found_where_multipliers_outgrow_all_digits():
    """Radius 1.3 over twenty steps: the dual value of single steps ends at 6e12, and rises no more."""
    case = Case(1073)
    plan = case.limited().solve(case.x0, case.low, case.high)
    assert case.dense.piqp(case.low, case.high) is None
    assert plan.status is Status.INFEASIBLE
    check_certificate(case, plan.certificate)


def with_prices(seed, *, exact=False):
    """The same problems, some rows with a price, a spring or both: those of single inputs as well."""
    case, rng = Case(seed), np.random.default_rng(seed + 4000)
    size = abs(case.free.cost) + 1.0
    unit = np.abs(np.where(np.isfinite(case.high), case.high, 0.0)).max(axis=0) + 0.1
    price = size / unit * 10.0 ** rng.uniform(-2, 1, size=case.count)
    spring = size / unit**2 * 10.0 ** rng.uniform(-2, 2, size=case.count)
    kind = rng.integers(0, 4, size=case.count)
    price = np.select([kind == 0, kind == 1], [np.inf, 0.0], price)
    spring = np.where((kind == 0) | (kind == 2), 0.0, spring)
    case.prices = Prices(price, spring)
    return case


@pytest.mark.parametrize("seed", range(60))
def test_prices_are_those_of_a_dense_program(seed):
    case = with_prices(seed)
    plan = case.limited(prices=case.prices).solve(case.x0, case.low, case.high)
    shape = case.high.shape
    prices = [np.broadcast_to(z, shape) for z in case.prices]
    found = case.dense.piqp(case.low, case.high, *prices)
    if found is None:
        assert plan.status is Status.INFEASIBLE
        check_certificate(case, plan.certificate)
        assert (plan.certificate[:, ~case.prices.hard] == 0).all()
    else:
        assert plan.status is Status.CONVERGED_GAP
        size = abs(plan.cost) + abs(case.free.cost)
        assert abs(plan.cost - found[1]) <= 1e-8 * size
        check_priced_conditions(case, plan)


def check_priced_conditions(case, plan):
    """The Lagrangian's slopes vanish, and each multiplier is one that its row's excess has."""
    dense, y, u = case.dense, plan.multipliers, plan.u.ravel()
    size = check_stationary(dense, u, y.ravel())
    g = dense.rows(plan.u).reshape(y.shape)
    slack = 1e-7 * (np.abs(dense.G) @ np.abs(u) + np.abs(dense.g0)).reshape(y.shape)
    for t, i in zip(*np.nonzero(moved_rows(case)), strict=True):
        above, below = g[t, i] - case.high[t, i], case.low[t, i] - g[t, i]
        price, spring = case.prices.price[i], case.prices.spring[i]
        e = max(above, below)
        pull = y[t, i] if above >= below else -y[t, i]
        near = 1e-6 * (abs(pull) + 1e-9 * size)
        if e > slack[t, i]:  # past its limit
            assert np.isfinite(price)
            assert abs(pull - price - spring * e) <= near + spring * slack[t, i]
        elif e > -slack[t, i]:  # at it, or at both of an equation
            assert abs(pull) <= price + spring * slack[t, i] + near
            assert pull >= -near or min(above, below) > -slack[t, i]
        else:
            worth = abs(plan.cost) + abs(case.free.cost)
            assert pull == 0 or abs(pull) * min(-above, -below) <= 1e-6 * worth


def test_the_bound_with_prices_is_the_value_of_the_dual():
    """Also where the method is stopped long before its end: no price is left out, no term counted twice."""
    stopped = 0
    for seed in range(40):
        case = with_prices(seed)
        for most in (1, 2, 500):
            plan = case.limited(prices=case.prices).solve(
                case.x0, case.low, case.high, max_iter=most
            )
            stopped += plan.status is Status.MAX_ITER
            y, (price, spring) = plan.multipliers, case.prices
            past = np.maximum(np.abs(y) - price, 0.0)
            assert (past[:, spring == 0] <= 1e-12 * np.abs(y).max()).all()
            given = np.divide(past**2, 2 * spring, where=spring > 0, out=np.zeros_like(y))
            bound = case.dense.lower_bound(y, case.low, case.high) - given.sum()
            fixed = plan.rows.excess_cost[~moved_rows(case)].sum()
            size = abs(plan.cost) + abs(case.free.cost) + abs(bound)
            wanted = plan.cost - fixed - bound
            if plan.status is Status.CONVERGED_GAP:
                assert abs(wanted) <= 1e-7 * size
            assert plan.gap_bound == pytest.approx(max(wanted, 0.0), abs=1e-8 * size)
    assert stopped > 3


def moved_rows(case):
    """Where the inputs move the rows (T, k)."""
    return (np.abs(case.dense.G).max(axis=1) > 1e-13).reshape(case.high.shape)


def test_from_the_least_price_on_the_plan_is_that_of_hard_rows():
    """And below it, it is not: with a tenth less, rows give way."""
    possible = 0
    for seed in range(40):
        case = Case(seed)
        hard = case.limited().solve(case.x0, case.low, case.high)
        if hard.status is not Status.CONVERGED_GAP or not hard.multipliers.any():
            continue
        possible += 1
        least = hard.rows.least_price
        assert (least == np.abs(hard.multipliers).max(axis=0)).all()
        for factor, same in ((1.001, True), (0.9, False)):
            prices = Prices(np.where(least > 0, factor * least, 1.0), np.zeros(case.count))
            plan = case.limited(prices=prices).solve(case.x0, case.low, case.high)
            assert plan.status is Status.CONVERGED_GAP
            size = np.abs(hard.u).max()
            assert (np.abs(plan.u - hard.u).max() <= 1e-6 * size) == same
            assert bool((plan.rows.excess_cost > 1e-6 * abs(plan.cost)).any()) is not same
    assert possible > 10


def test_what_is_exceeded_is_part_of_the_cost_and_told():
    """A force of at most 1, its excess at a price of 2 and half a spring of 4."""
    problem = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[0.1]])
    none, one, T = np.zeros((1, 1)), np.ones((3, 1)), 3
    prices = Prices(np.array([2.0]), np.array([4.0]))
    limited = Limited(
        problem, T, none, one[:1], none[:0], soft=np.zeros(1, bool), names=["force"], prices=prices
    )
    plan = limited.solve(np.array([5.0]), -one, one)
    assert plan.status is Status.CONVERGED_GAP
    e = np.maximum(np.abs(plan.u) - 1, 0)
    assert e[0, 0] > 0.1
    np.testing.assert_allclose(plan.rows.excess, e)
    np.testing.assert_allclose(plan.rows.excess_cost, 2 * e + 2 * e**2)
    paid = float((2 * e + 2 * e**2).sum())
    assert plan.cost == pytest.approx(float(problem.cost(plan.x, plan.u)) + paid, rel=1e-14)
    np.testing.assert_allclose(plan.multipliers[0], -(2 + 4 * e[0]), rtol=1e-12)
    assert f"and force exceeds its limit by {e.max():.3g} at t=0" in plan.message
    assert f"what exceeds limits costs {paid:.6g} of it" in plan.message
    assert plan.excess == pytest.approx(e.max())
    with pytest.raises(lqrad.LqradError, match="force exceeds its limit in this plan: its least"):
        abs(plan.rows.least_price)


@pytest.mark.parametrize("varies", [False, True])
def test_the_feedback_of_a_row_of_one_input_holds_it(varies):
    """u[i] = limit / D - (C / D) x makes the row what its limit is."""
    rng = np.random.default_rng(0)
    stages = (4,) if varies else ()
    C, D = rng.normal(size=(*stages, 1, 3)), np.zeros((*stages, 1, 2))
    D[..., 0, 1] = rng.uniform(0.5, 2, size=stages)
    problem = lqrad.LQProblem(np.eye(3), np.ones((3, 2)), np.eye(3), np.eye(2))
    rows = Rows(problem, C, D, np.zeros((0, 3)), np.ones((4, 1), bool))
    assert rows.single == [(0, 1)]
    K, entry = rows.feedback(np.arange(4), 0, 1)
    x, limit = rng.normal(size=(5, 3)), rng.normal(size=4)
    u = np.zeros((4, 2))
    u[:, 1] = limit / entry - (K * x[:-1]).sum(axis=1)
    np.testing.assert_allclose(rows.at(x, u)[:, 0], limit, atol=1e-14)
