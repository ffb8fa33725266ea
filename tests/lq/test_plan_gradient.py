"""Derivatives through a plan: central differences, Taylor remainders, and the dense optimality conditions."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from dense_plans import Dense
from random_problems import random_case

import lqrad
from lqrad.design import Limit, mpc
from lqrad.lq import plan_vjp
from lqrad.lq.limits import Limited
from lqrad.lq.prices import Prices

WEIGHTS = ("Q", "R", "S")
ARRAYS = ("A", "B", "Q", "R", "S", "M", "c", "q", "r", "s")


def drawn(seed):
    """Everything that a plan with rows of all kinds is made of, in one dictionary."""
    case = random_case(seed, T=6, m=2, n=3, zero_S=False, radius=1.1, singular_Q=False)
    rng = np.random.default_rng(seed)
    k, j, T = 3, 2, 6
    C, D, E = rng.normal(size=(k, 3)), rng.normal(size=(k, 2)), rng.normal(size=(j, 3))
    given = {name: np.array(getattr(case.problem, name)) for name in ARRAYS} | {"x0": 3 * case.x0}
    given["Q"] = given["Q"] + 0.3 * np.eye(3)
    price = np.full(k + j, np.inf)
    spring = np.zeros(k + j)
    price[1], price[3] = rng.uniform(0.5, 2.0), rng.uniform(0.0, 1.0)
    spring[3] = rng.uniform(0.5, 2.0)
    free = Limited(case.problem, T, C, D, E, soft=np.zeros(k + j, bool), names=list("abcde"))
    inf = np.full((T, k + j), np.inf)
    g = free.solve(given["x0"], -inf, inf).rows.values
    shrink = rng.uniform(0.5, 0.9, size=g.shape)
    low = np.where(g < 0, shrink * g, -inf)
    high = np.where(g > 0, shrink * g, inf)
    some = rng.uniform(size=g.shape) < 0.4
    low, high = np.where(some, low, -inf), np.where(some, high, inf)
    low[2, 0] = high[2, 0] = 0.9 * g[2, 0]
    return given | {"low": low, "high": high, "price": price, "spring": spring}, (C, D, E)


def planned(given, rows):
    problem = lqrad.LQProblem(**{name: given[name] for name in ARRAYS})
    prices = Prices(given["price"], given["spring"])
    soft = np.zeros(len(prices.price), bool)
    T = len(given["low"])
    limited = Limited(problem, T, *rows, soft=soft, prices=prices, names=list("abcde"))
    return limited.solve(given["x0"], given["low"], given["high"], tol=1e-12)


def at_work(plan):
    """Signs of the multipliers, and which rows are beyond a limit: what makes the pieces of a plan."""
    signs = np.sign(np.where(np.abs(plan.multipliers) > 1e-9, plan.multipliers, 0.0))
    return signs.tobytes(), (plan.rows.excess > 1e-9).tobytes()


def direction(rng, name, value):
    """A random change of one argument, symmetric in a weight and none where there is no limit."""
    step = rng.normal(size=value.shape) * 0.1 * (1 + np.abs(np.where(np.isfinite(value), value, 0)))
    if name in WEIGHTS:
        step = step + step.swapaxes(-1, -2)
    return np.where(np.isfinite(value), step, 0.0)


def value(plan, dx, du, dcost):
    return float(np.vdot(dx, plan.x) + np.vdot(du, plan.u) + dcost * plan.cost)


def moved(given, steps, h):
    return given | {name: given[name] + h * step for name, step in steps.items()}


def cotangents(rng, plan):
    return rng.normal(size=plan.x.shape), rng.normal(size=plan.u.shape), float(rng.normal())


def slope(gradient, steps):
    total = 0.0
    for name, step in steps.items():
        total += float(np.vdot(getattr(gradient, name), step))
    return total


def noise(plan, weights, h):
    """What rounding errors of two values, of some hundred terms, make of their difference over 2 h."""
    dx, du, dcost = weights
    size = np.abs(dx * plan.x).sum() + np.abs(du * plan.u).sum() + abs(dcost * plan.cost)
    return 1e3 * np.finfo(float).eps * size / h


@pytest.mark.parametrize("name", [*ARRAYS, "x0", "limits", "price", "spring"])
def test_the_gradient_is_that_of_central_differences(name):
    compared, h = 0, 1e-5
    for seed in range(20):
        given, rows = drawn(seed)
        plan, rng = planned(given, rows), np.random.default_rng(seed)
        weights = cotangents(rng, plan)
        gradient = plan_vjp(plan, dx=weights[0], du=weights[1], dcost=weights[2])
        assert not gradient.weak.any()
        names = ("low", "high") if name == "limits" else (name,)
        steps = {key: direction(rng, key, given[key]) for key in names}
        if name == "limits":  # an equation stays one
            same = given["low"] == given["high"]
            steps["low"] = np.where(same, steps["high"], steps["low"])
        if name == "spring":
            steps["spring"] = np.where(given["spring"] > 0, steps["spring"], 0.0)
        plans = [planned(moved(given, steps, z), rows) for z in (h, -h)]
        if any(at_work(z) != at_work(plan) for z in plans):
            continue
        compared += 1
        there, back = (value(z, *weights) for z in plans)
        error = abs((there - back) / (2 * h) - slope(gradient, steps))
        size = sum(np.abs(getattr(gradient, key) * step).sum() for key, step in steps.items())
        assert error <= 1e-6 * size + noise(plan, weights, h)
    assert compared >= 17


def remainders(given, rows, steps, weights, sizes):
    """What the first-order expansion leaves at each size of a step, and the plans there."""
    plan = planned(given, rows)
    gradient = plan_vjp(plan, dx=weights[0], du=weights[1], dcost=weights[2])
    plans = [planned(moved(given, steps, h), rows) for h in sizes]
    start, first = value(plan, *weights), slope(gradient, steps)
    left = [abs(value(z, *weights) - start - h * first) for z, h in zip(plans, sizes, strict=True)]
    return np.array(left), [at_work(z) == at_work(plan) for z in plans]


@pytest.mark.parametrize("seed", range(6))
def test_the_taylor_remainder_is_of_second_order_while_the_same_limits_are_at_work(seed):
    given, rows = drawn(seed)
    rng = np.random.default_rng(seed)
    plan = planned(given, rows)
    steps = {name: direction(rng, name, given[name]) for name in ("A", "B", "Q", "x0", "r")}
    sizes = 2.0 ** -np.arange(6, 12)
    left, same = remainders(given, rows, steps, cotangents(rng, plan), sizes)
    assert all(same[-4:])
    orders = np.log2(left[-4:-1] / left[-3:])
    np.testing.assert_allclose(orders, 2.0, atol=0.1)


def test_the_taylor_remainder_is_of_first_order_where_a_limit_leaves_or_comes_to_work():
    """The first input is at its limit with a multiplier of zero: a kink, of which one side is given."""
    problem = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]], [[1.0]])
    wanted = lqrad.riccati(problem, T=3).rollout([1.0]).u[0, 0]
    plans = {
        x0: mpc(problem, 3, input_bounds=(wanted, np.inf)).plan([x0]) for x0 in (0.99, 1.0, 1.01)
    }
    du = np.zeros((3, 1))
    du[0] = 1.0
    gradients = {x0: plan_vjp(plan, du=du) for x0, plan in plans.items()}
    assert gradients[1.0].weak.tolist() == [[True], [False], [False]]
    assert not gradients[0.99].weak.any()
    assert not gradients[1.01].weak.any()
    free, held = float(gradients[0.99].x0[0]), float(gradients[1.01].x0[0])
    np.testing.assert_allclose([free, held], [wanted, 0.0], atol=1e-12)
    assert min(abs(gradients[1.0].x0[0] - z) for z in (free, held)) < 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_jacobian_of_the_dense_optimality_conditions(seed):
    """With the limits at work as equations in u alone: H u + f + G'y = 0, G u + g0 = limit."""
    given, rows = drawn(seed)
    plan = planned(given, rows)
    T, m, n = 6, 2, 3
    problem = lqrad.LQProblem(**{name: given[name] for name in ARRAYS})
    dense = Dense(problem, given["x0"], T, *rows)
    of_x0 = [Dense(problem, given["x0"] + e, T, *rows) for e in np.eye(n)]
    df = np.array([z.f - dense.f for z in of_x0]).T
    dg = np.array([z.g0 - dense.g0 for z in of_x0]).T
    y, beyond = plan.multipliers.ravel(), plan.rows.excess.ravel()
    price, spring = (np.tile(z, T) for z in (plan.rows.price, plan.rows.spring))
    past = np.isfinite(price) & (beyond > 1e-9)
    held = (y != 0) & ~past
    G = dense.G
    H = dense.H + G[past].T @ (spring[past, None] * G[past])
    df = df + G[past].T @ (spring[past, None] * dg[past])
    size = T * m
    KKT = np.zeros((size + held.sum(),) * 2)
    KKT[:size, :size], KKT[size:, :size], KKT[:size, size:] = H, G[held], G[held].T
    jacobian = np.linalg.solve(KKT, -np.concatenate([df, dg[held]]))[:size]
    for i in range(size):
        du = np.zeros((T, m))
        du.flat[i] = 1.0
        np.testing.assert_allclose(
            plan_vjp(plan, du=du).x0, jacobian[i], rtol=1e-8, atol=1e-10 * np.abs(jacobian).max()
        )


BOTH = {"input_bounds": (-1, 1), "state_bounds": ([-2.0, -0.4], [2.0, 0.4])}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rate_bounds": (-0.3, 0.3)},
        {"rate_weight": [[0.4]]},
        {"terminal": "origin", "state_bounds": ([-2.0, -0.6], [2.0, 0.6])},
        {"rows": [Limit([[1.0, 2.0]], [[0.5]], high=0.4, price=3.0, spring=2.0)]},
        {"rate_bounds": (-0.3, 0.3), "rows": [Limit(D=[[1.0]], low=-0.45, price=1.0)]},
    ],
)
def test_plans_of_a_receding_horizon_in_states_inputs_before_references_and_the_model(options):
    T = 8
    rng = np.random.default_rng(5)
    given = {
        "A": np.array([[1.0, 0.3], [0.0, 0.95]]),
        "B": np.array([[0.05], [0.3]]),
        "Q": np.diag([3.0, 1.0]),
        "R": np.array([[0.1]]),
        "S": np.diag([9.0, 2.0]),
        "M": np.array([[0.02], [0.01]]),
        "c": np.array([0.01, -0.02]),
        "x0": np.array([0.9, 0.1]),
        "x_ref": 0.2 * rng.normal(size=(T + 1, 2)),
        "u_ref": 0.1 * rng.normal(size=(T, 1)),
        "u_before": np.array([0.1]),
    }
    if "terminal" in options:
        given["x_ref"][:] = [0.1, 0.0]

    def made(given):
        problem = lqrad.LQProblem(**{name: given[name] for name in "ABQRSMc"})
        controller = mpc(problem, T, **(BOTH | options), tol=1e-12)
        controller.reset(u_before=given["u_before"])
        return controller.plan(given["x0"], x_ref=given["x_ref"], u_ref=given["u_ref"])

    plan = made(given)
    assert plan.status.converged
    assert np.count_nonzero(plan.multipliers) >= 3
    weights, h = cotangents(rng, plan), 1e-5
    gradient = plan_vjp(plan, dx=weights[0], du=weights[1], dcost=weights[2])
    assert not gradient.weak.any()
    if not options.keys() & {"rate_bounds", "rate_weight"}:
        assert gradient.u_before is None
    for name in given:
        found = getattr(gradient, name)
        if found is None:
            continue
        step = direction(rng, name, given[name])
        plans = [made(moved(given, {name: step}, z)) for z in (h, -h)]
        assert all(at_work(z) == at_work(plan) for z in plans), name
        there, back = (value(z, *weights) for z in plans)
        along = float(np.vdot(found.sum(axis=0) if found.ndim > step.ndim else found, step))
        size = np.abs(found).max() * np.abs(step).sum()
        error = abs((there - back) / (2 * h) - along)
        assert error <= 1e-6 * size + noise(plan, weights, h), name


def test_the_cost_alone_is_that_of_the_envelope_theorem():
    """Its derivative in a limit is minus the multiplier, and in x0 the slope of the value function."""
    given, rows = drawn(2)
    plan = planned(given, rows)
    gradient = plan_vjp(plan, dcost=1.0)
    np.testing.assert_allclose(gradient.low + gradient.high, -plan.multipliers, atol=1e-14)
    assert not plan_vjp(plan, dcost=0.0).A.any()
    both = plan_vjp(plan, dx=plan.x, dcost=2.0)
    np.testing.assert_allclose(
        both.Q, plan_vjp(plan, dx=plan.x).Q + 2 * gradient.Q, rtol=1e-12, atol=1e-12
    )


def test_without_limits_it_is_that_of_the_riccati_solution():
    problem = lqrad.LQProblem(np.diag([1.1, 0.9]), np.ones((2, 1)), np.eye(2), [[1.0]], np.eye(2))
    plan, rng = mpc(problem, 7).plan([1.0, -2.0]), np.random.default_rng(0)
    dx, du, _ = cotangents(rng, plan)
    ours = plan_vjp(plan, dx=dx, du=du)
    theirs = lqrad.lq.riccati_vjp(lqrad.riccati(problem, T=7), dx=dx, du=du, x0=[1.0, -2.0])
    for name in ("A", "B", "Q", "R", "S", "M", "c", "q", "r", "s", "x0"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-11, atol=1e-12, err_msg=name
        )


def test_plans_are_pickled_and_copied_with_what_their_derivatives_need():
    given, rows = drawn(4)
    plan = planned(given, rows)
    for other in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        np.testing.assert_array_equal(plan_vjp(other, du=plan.u).x0, plan_vjp(plan, du=plan.u).x0)


def test_what_has_no_derivative_is_refused_in_words():
    problem = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    stuck = mpc(problem, 3, input_bounds=(-1, 1), state_bounds=(-1, 1)).plan([5.0])
    with pytest.raises(lqrad.ArgumentError, match="plan is infeasible, expected one that has conv"):
        plan_vjp(stuck, du=stuck.u)
    held = mpc(problem, 3, blocks=[1, 2]).plan([5.0])
    with pytest.raises(lqrad.ArgumentError, match="plan holds its inputs over several steps"):
        plan_vjp(held, du=held.u)
    fine = mpc(problem, 3, input_bounds=(-1, 1)).plan([5.0])
    with pytest.raises(lqrad.ShapeError, match=r"dx has shape \(3, 1\), expected \(4, 1\)"):
        plan_vjp(fine, dx=fine.u)
    with pytest.raises(lqrad.NonFiniteError, match=r"du\[0, 0\] is nan"):
        plan_vjp(fine, du=np.full((3, 1), np.nan))


def test_an_equation_is_at_work_also_where_its_multiplier_is_zero():
    """From the origin to the origin: nothing pulls, and the derivative is that of any other start."""
    problem = lqrad.LQProblem([[1.0, 0.3], [0.0, 1.0]], [[0.05], [0.3]], np.eye(2), [[1.0]])
    controller = mpc(problem, 5, terminal="origin")
    du = np.ones((5, 1))
    rest, away = (plan_vjp(controller.plan(x0), du=du) for x0 in ([0.0, 0.0], [0.3, -0.1]))
    assert not rest.weak.any()
    np.testing.assert_allclose(rest.x0, away.x0, rtol=1e-10)
    assert np.abs(rest.x0 - plan_vjp(mpc(problem, 5).plan([0.0, 0.0]), du=du).x0).max() > 0.1


def test_the_same_limit_twice_is_told_as_a_kink():
    """Of two equal rows one is at work; both are told where the second is at its limit as well."""
    problem = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    twice = [Limit(D=[[1.0]], low=-1, high=1), Limit(D=[[2.0]], low=-2, high=2)]
    gradient = plan_vjp(mpc(problem, 3, rows=twice).plan([5.0]), du=np.ones((3, 1)))
    assert gradient.weak.any()
