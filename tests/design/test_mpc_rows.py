"""Rows of states and inputs, equations and terminal sets of a receding horizon."""

from __future__ import annotations

import numpy as np
import pytest
from dense_plans import Dense
from random_problems import psd, with_spectral_radius

import lqrad
from lqrad import ArgumentError, LQProblem, ShapeError, StateSpace, Status
from lqrad.design import Limit

CART = LQProblem([[1, 0.1], [0, 1]], [[0.005], [0.1]], np.diag([10.0, 1.0]), [[0.1]])
CART_S = LQProblem(CART.A, CART.B, CART.Q, CART.R, lqrad.dare(CART.A, CART.B, CART.Q, CART.R))


def random_problem(rng):
    n, m = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    A, B = with_spectral_radius(rng.normal(size=(n, n)), 1.1), rng.normal(size=(n, m))
    return LQProblem(A, B, psd(rng, n) + np.eye(n), psd(rng, m) + np.eye(m), psd(rng, n)), n, m


@pytest.mark.parametrize("seed", range(20))
def test_plans_are_those_of_the_problem_written_out(seed):
    """A row of inputs, one of both that varies, one of states and a terminal one, by PIQP."""
    rng, T = np.random.default_rng(seed), 6
    problem, n, m = random_problem(rng)
    x0 = rng.normal(size=n)
    free = lqrad.riccati(problem, T).rollout(x0)
    D, mixed = rng.normal(size=(1, m)), rng.normal(size=(T, 1, n + m))
    E, end = rng.normal(size=(1, n)), rng.normal(size=(1, n))
    C = np.concatenate([np.zeros((T, 1, n)), mixed[..., :n]], axis=1)
    both = np.concatenate([np.broadcast_to(D, (T, 1, m)), mixed[..., n:]], axis=1)
    dense = Dense(problem, x0, T, C, both, np.vstack([E, end]))
    g = dense.rows(free.u).reshape(T, 4)
    high = np.abs(g) * rng.uniform(0.5, 1.1, size=g.shape) + 0.1
    high[:-1, 3] = np.inf
    rows = [
        Limit(D=D, low=-high[:, :1], high=high[:, :1]),
        Limit(mixed[..., :n], mixed[..., n:], low=-high[:, 1:2], high=high[:, 1:2]),
        Limit(E, low=-high[:, 2:3], high=high[:, 2:3]),
    ]
    end = Limit(end, low=-high[-1, 3], high=high[-1, 3])
    plan = lqrad.mpc(problem, T, rows=rows, terminal=end).plan(x0)
    found = dense.piqp(-high, high)
    if found is None:
        assert plan.status is Status.INFEASIBLE
    else:
        assert plan.status is Status.CONVERGED_GAP
        assert plan.cost == pytest.approx(found[1], rel=1e-7)
        assert (np.abs(dense.rows(plan.u)) <= high.ravel() * (1 + 1e-7)).all()


def test_bounds_are_rows():
    bounds = lqrad.mpc(CART, 20, input_bounds=(-1, 0.5), state_bounds=([-9, -0.8], [9, 0.8]))
    rows = lqrad.mpc(
        CART,
        20,
        rows=[
            Limit(D=[[1.0]], low=-1, high=0.5),
            Limit(np.eye(2), low=[-9, -0.8], high=[9, 0.8]),
        ],
    )
    for x0 in ([3.0, 0.0], [3.0, 2.0]):
        one, other = bounds.plan(x0), rows.plan(x0)
        assert one.status is other.status
        np.testing.assert_array_equal(one.u, other.u)


def test_outputs_of_a_system():
    """The force and the speed that a sensor shows; the second follows from the state alone."""
    plant = StateSpace(CART.A, CART.B, [[0.0, 0.0], [0.0, 2.0]], [[3.0], [0.0]], dt=0.1)
    controller = lqrad.mpc(CART, 30, rows=[Limit(plant, low=-1.5, high=1.5, name="y")])
    plan = controller.plan([3.0, 0.0])
    y = plan.x[:-1] @ plant.C.T + plan.u @ plant.D.T
    assert np.abs(y).max() == pytest.approx(1.5, abs=1e-9)
    assert np.abs(plan.x[1:, 1]).max() == pytest.approx(0.75, abs=1e-9)
    plan = controller.plan([3.0, -2.0])
    assert plan.status is Status.INFEASIBLE
    assert "y[1] exceeds its limit by 2.4 at t=1" in plan.message


def test_a_plan_ends_at_the_origin():
    controller = lqrad.mpc(CART, 30, input_bounds=(-1, 1), terminal="origin")
    plan = controller.plan([1.0, 0.0])
    assert plan.status is Status.CONVERGED_GAP
    np.testing.assert_allclose(plan.x[-1], 0.0, atol=1e-9)
    plan = controller.plan([9.0, 0.0])
    assert plan.status is Status.INFEASIBLE
    assert "the last x[0] exceeds its limit by" in plan.message
    assert "at t=30" in plan.message


def test_the_origin_is_that_of_the_reference():
    controller = lqrad.mpc(
        CART, 30, input_bounds=(-1, 1), rate_bounds=(-0.5, 0.5), H=[[1, 0]], terminal="origin"
    )
    plan = controller.plan([0.0, 0.0], [1.0])
    assert plan.status is Status.CONVERGED_GAP
    np.testing.assert_allclose(plan.x[-1], [1.0, 0.0], atol=1e-9)


def test_other_rows_are_where_they_are_under_a_reference():
    wall = Limit([[1.0, 0.0]], high=0.8, name="wall")
    controller = lqrad.mpc(CART, 30, input_bounds=(-1, 1), H=[[1, 0]], rows=[wall])
    plan = controller.plan([0.0, 0.0], [1.0])
    assert plan.x[:, 0].max() == pytest.approx(0.8, abs=1e-9)


def test_two_inputs_share_what_there_is():
    """In the loop the sum is kept at each step, and the one that costs less does more."""
    problem = LQProblem([[1.0]], [[1.0, 1.0]], [[1.0]], np.diag([0.1, 0.2]))
    controller = lqrad.mpc(problem, 10, rows=[Limit(D=[[1, 1]], low=-1, high=1)])
    x = np.array([5.0])
    for _ in range(12):
        u = controller.step(x)
        assert abs(u.sum()) <= 1 + 1e-9
        assert u[0] == pytest.approx(2 * u[1], abs=1e-6)
        x = x + u.sum()
    assert abs(x[0]) < 1e-2


def test_with_too_few_steps_other_rows_than_bounds_are_told_of():
    rows = [Limit([[1.0, 1.0]], low=-0.2, name="sum")]
    controller = lqrad.mpc(CART, 40, input_bounds=(-3, 3), rows=rows, max_iter=3)
    plan = controller.plan([3.0, 0.0])
    assert plan.status is Status.MAX_ITER
    assert np.abs(plan.u).max() <= 3
    np.testing.assert_allclose(plan.x, CART.simulate([3.0, 0.0], plan.u), atol=1e-12)
    beyond = -0.2 - plan.x[1:].sum(axis=1)
    assert plan.excess == pytest.approx(beyond.max(), rel=1e-9)
    assert f"and sum exceeds its limit by {plan.excess:.3g} at t=" in plan.message


def test_a_price_that_is_large_enough_makes_rows_hard():
    fast = {"C": [[0.0, 1.0]], "low": -0.8, "high": 0.8, "name": "speed"}
    hard = lqrad.mpc(CART, 30, input_bounds=(-1, 1), rows=[Limit(**fast)]).plan([3.0, 0.0])
    least = hard.rows.least_price[hard.rows.names.index("speed")]
    assert least > 0
    for price, word in ((1.01 * least, "converged"), (0.5 * least, "exceeds its limit")):
        plan = lqrad.mpc(CART, 30, input_bounds=(-1, 1), rows=[Limit(**fast, price=price)]).plan(
            [3.0, 0.0]
        )
        assert plan.status is Status.CONVERGED_GAP
        assert word in plan.message
        same = np.abs(plan.u - hard.u).max() < 1e-9
        assert same == (price > least)
        if not same:
            with pytest.raises(
                ArgumentError, match=r"its least price is not below .*, and not known"
            ):
                abs(plan.rows.least_price)
        paid = float(plan.rows.excess_cost.sum())
        assert plan.cost == pytest.approx(float(CART_S.cost(plan.x, plan.u)) + paid, rel=1e-12)


def test_priced_rows_are_never_infeasible():
    """Too fast from the start: the first speed is paid for, no input changes it."""
    rows = [Limit([[0.0, 1.0]], low=-0.8, high=0.8, name="speed", price=1e3, spring=10.0)]
    plan = lqrad.mpc(CART, 30, input_bounds=(-1, 1), rows=rows).plan([3.0, -1.5])
    assert plan.status is Status.CONVERGED_GAP
    assert plan.excess == pytest.approx(0.6)
    assert "and speed exceeds its limit by 0.6 at t=1; what exceeds limits costs" in plan.message
    e = plan.rows.excess[:, plan.rows.names.index("speed")]
    assert plan.rows.excess_cost.sum() == pytest.approx((1e3 * e + 5 * e**2).sum(), rel=1e-12)


def test_what_no_input_changes_is_paid_for():
    """The first position follows from the start alone: it costs what it costs, and nothing is impossible."""
    problem = LQProblem([[1, 0.1], [0, 1]], [[0.0], [0.1]], np.eye(2), [[0.1]])
    wall = Limit([[1.0, 0.0]], high=0.93, name="wall", price=10.0)
    plan = lqrad.mpc(problem, 20, rows=[wall]).plan([1.0, -0.5])
    assert plan.status is Status.CONVERGED_GAP
    assert plan.rows.excess_cost[0] == pytest.approx(0.2)
    assert (plan.x[2:, 0] <= 0.93 + 1e-12).all()
    assert plan.gap_bound <= 1e-8 * plan.cost


def test_where_other_rows_cannot_be_kept_prices_stay_as_they_are():
    rows = [
        Limit([[1.0, 0.0]], low=0.0, name="wall"),
        Limit([[0.0, 1.0]], low=-0.5, name="speed", price=2.0, spring=3.0),
    ]
    controller = lqrad.mpc(CART, 20, input_bounds=(-1, 1), rows=rows)
    plan = controller.plan([0.3, -1.2])
    assert plan.status is Status.INFEASIBLE
    speed = plan.rows.names.index("speed")
    e = plan.rows.excess[:, speed]
    assert (e[1:5] > 0.1).all()
    np.testing.assert_allclose(-plan.multipliers[1:5, speed], 2 + 3 * e[1:5], rtol=1e-9)
    assert (plan.certificate[:, speed] == 0).all()


@pytest.mark.parametrize("seed", [1, 3])
def test_rows_of_inputs_are_swept_whatever_their_scale_at_each_step(seed):
    """Inputs that saturate on an unstable plant: the same plan as with constant rows."""
    rng = np.random.default_rng(5)
    A, B = with_spectral_radius(rng.normal(size=(4, 4)), 1.4), rng.normal(size=(4, 2))
    problem, T = LQProblem(A, B, np.eye(4), np.eye(2)), 100
    rng = np.random.default_rng(seed)
    x0, scale = 3 * rng.normal(size=4), 2.0 ** rng.integers(-3, 4, size=(T, 2))
    varying = Limit(D=scale[:, :, None] * np.eye(2), low=-scale, high=scale)
    plan, same = (
        lqrad.mpc(problem, T, **given).plan(x0)
        for given in ({"rows": [varying]}, {"input_bounds": (-1, 1)})
    )
    assert plan.status is same.status is Status.CONVERGED_GAP
    assert np.abs(plan.u).max() == 1
    assert plan.cost == pytest.approx(same.cost, rel=1e-8)
    assert plan.iterations > 52  # steps before the first sweep, 1e8 products and 40


@pytest.mark.parametrize("T", [10, 40])
def test_inputs_with_a_price_refute_nothing(T):
    """What |u| <= 1 cannot bring home is impossible where it is hard, and paid for where it is not."""
    problem = LQProblem([[1.5]], [[1.0]], [[1.0]], [[1.0]], [[1.0]])
    for price, status in ((None, Status.INFEASIBLE), (1.0, Status.CONVERGED_GAP)):
        rows = [Limit(D=[[1.0]], low=-1, high=1, name="u", price=price)]
        controller = lqrad.mpc(problem, T, rows=rows, terminal=Limit([[1.0]], low=-1, high=1))
        plan = controller.plan([3.0])
        assert plan.status is status
    assert abs(plan.x[-1, 0]) <= 1 + 1e-9
    assert plan.rows.excess[:, 0].max() > 0.5


def test_the_rows_of_a_plan_are_those_of_its_states():
    """Also under a reference and with rates, when the limit on steps is reached, and in a table."""
    wall = Limit([[1.0, 0.0]], high=0.8, name="wall", price=3.0)
    for most in (1, 500):
        controller = lqrad.mpc(
            CART,
            20,
            input_bounds=(-1, 1),
            rate_bounds=(-0.4, 0.4),
            H=[[1, 0]],
            rows=[wall],
            max_iter=most,
        )
        controller.reset(u_before=[0.3])
        plan = controller.plan([0.6, 1.2], [1.0])
        rows = plan.rows
        assert rows.names == ("u[0]", "the change of u[0]", "wall")
        change = np.diff(np.concatenate([[0.3], plan.u[:, 0]]))
        wanted = np.stack([plan.u[:, 0], change, plan.x[1:, 0]], axis=1)
        np.testing.assert_allclose(rows.values, wanted, atol=1e-14)
        np.testing.assert_allclose(rows.high, np.broadcast_to([1.0, 0.4, 0.8], (20, 3)), atol=1e-15)
        apart = plan.x - plan.x_ref, plan.u - plan.u_ref
        paid = float(rows.excess_cost.sum())
        assert paid > 1e-3
        assert plan.cost == pytest.approx(float(CART_S.cost(*apart)) + paid, rel=1e-9)
        assert rows.slack.min() == 0
        assert (rows.slack * rows.excess == 0).all()
    line = next(line for line in rows.table().splitlines() if line.startswith("wall"))
    assert line.split()[2] == f"{rows.excess[:, 2].max():.4g}"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({}, ArgumentError, r"neither C nor D is given: the rows are C x \+ D u; give one of them"),
        ({"C": [[1.0]]}, ArgumentError, "neither low nor high is given"),
        ({"C": [1.0, 2.0], "low": 0}, ShapeError, r"C has shape \(2,\), expected \(k, n\)"),
        (
            {"C": [[1.0]], "low": 1, "high": 0},
            ArgumentError,
            r"the limits leave nothing at \[0\]: low is 1 and high is 0",
        ),
        ({"C": [[1.0]], "low": [0, 0]}, ShapeError, r"low has shape \(2,\), expected a number or"),
        ({"C": [[1.0]], "low": np.nan}, ArgumentError, "low holds a NaN"),
        (
            {"C": [[1.0]], "D": [[1.0], [2.0]], "low": 0},
            ShapeError,
            "C has 1 rows and D has 2",
        ),
        (
            {"C": np.ones((3, 1, 1)), "low": np.zeros((2, 1))},
            ShapeError,
            "what varies in time needs as many stages: C has 3, low has 2",
        ),
        ({"C": [[1.0]], "low": 0, "price": -1}, ArgumentError, "price is -1, expected at least 0"),
        (
            {"C": [[1.0]], "low": 0, "spring": [-1]},
            ArgumentError,
            "spring is -1, expected at least",
        ),
        ({"C": [[1.0]], "low": 0, "spring": np.inf}, ArgumentError, "spring is inf, .* and finite"),
        (
            {"C": [[1.0]], "low": 0, "price": np.nan},
            ArgumentError,
            "price is nan, expected at least",
        ),
        (
            {"C": [[1.0]], "low": 0, "price": [1, 2]},
            ShapeError,
            r"price has shape \(2,\), expected a",
        ),
        ({"C": [[1.0]], "low": 0, "price": 0}, ArgumentError, "an excess would cost nothing"),
        ({"C": [[1.0]], "low": 0, "name": 3}, lqrad.errors.DtypeError, "name is of type int"),
        (
            {"C": StateSpace([[1.0]], [[1.0]], dt=1), "D": [[1.0]], "low": 0},
            ArgumentError,
            "D is given twice",
        ),
    ],
)
def test_what_is_no_limit_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        Limit(**given)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (
            {"rows": Limit([[1, 0]], low=0)},
            ArgumentError,
            "rows is Limit.*expected a list of limits",
        ),
        ({"rows": [(0, 1)]}, ArgumentError, r"rows\[0\] is of type tuple, expected Limit"),
        (
            {"rows": [Limit([[1.0]], low=0)]},
            ShapeError,
            r"rows\[0\].C has rows of 1 weights, expected n = 2",
        ),
        (
            {"rows": [Limit(D=[[1.0, 1.0]], low=0)]},
            ShapeError,
            r"rows\[0\].D has rows of 2 weights, expected m = 1",
        ),
        (
            {"rows": [Limit([[1, 0]], low=np.zeros((4, 1)))]},
            ShapeError,
            r"rows\[0\] has 4 stages, expected T = 5",
        ),
        ({"terminal": "home"}, ArgumentError, "terminal is 'home', expected one of: origin"),
        ({"terminal": 1.0}, ArgumentError, "terminal is of type float, expected Limit"),
        (
            {"terminal": Limit([[1, 0]], [[1]], low=0)},
            ArgumentError,
            "terminal has a D, and limits the last state alone",
        ),
        (
            {"terminal": Limit([[1, 0]], low=np.zeros((5, 1)))},
            ArgumentError,
            "terminal varies in time, and limits the last state alone",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        lqrad.mpc(CART, 5, **given)
