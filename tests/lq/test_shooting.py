"""Multiple shooting against Riccati, where one simulation from end to end has no digits left."""

from __future__ import annotations

import numpy as np
import pytest
from random_problems import random_case, with_spectral_radius

import lqrad
from lqrad import LQProblem, Status, multiple_shooting
from lqrad.lq.shooting import _augmented


@pytest.mark.parametrize("seed", range(12))
def test_random_unstable_problems_reach_riccatis_answer(seed):
    case = random_case(seed, T=60, radius=1.3)
    optimum = lqrad.riccati(case.problem, 60).rollout(case.x0)
    shot = multiple_shooting(case.problem, case.x0, 60)
    assert shot.status.converged, shot
    assert len(shot.cuts) >= 2  # where all varies, products grow by less than 1.3 a step
    assert shot.cost == pytest.approx(optimum.cost, rel=1e-8)
    for found, exact in ((shot.x, optimum.x), (shot.u, optimum.u), (shot.p, optimum.p)):
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6 * np.abs(exact).max())
    kkt = case.problem.kkt_residual(shot.x, shot.u, shot.p, case.x0)
    assert kkt.relative == shot.residual <= 1e-8


def test_the_pendulum_balanced_for_four_seconds():
    system = lqrad.systems.SYSTEMS["inverted-pendulum"]()
    problem = system.problem()
    optimum = lqrad.riccati(problem, 200).rollout(system.x0)
    shot = multiple_shooting(problem, system.x0, 200)
    assert shot.cost == pytest.approx(optimum.cost, rel=1e-8)
    # 1.118^27 = 20.3, in units in which the weights are about one.
    assert set(np.diff(shot.cuts)) == {27}
    assert "converged after" in repr(shot)
    tighter = multiple_shooting(problem, system.x0, 200, tol=1e-10)
    np.testing.assert_allclose(tighter.u, optimum.u, rtol=0, atol=1e-9 * np.abs(optimum.u).max())


@pytest.mark.parametrize("cuts", [[0], [4], [0, 1, 2, 3, 4], [2, 3]])
def test_the_augmented_problem_is_the_augmented_lagrangian(cuts):
    """At any (x0, u, s), against the sum written out."""
    case = random_case(3, T=6, all_terms=True)
    problem, rng, cuts = case.problem, np.random.default_rng(0), np.array(cuts)
    n, m = problem.n, problem.m
    multipliers, penalty = rng.normal(size=(len(cuts), n)), rng.uniform(1, 2, size=(len(cuts), n))
    u, s = rng.normal(size=(6, m)), np.zeros((6, n))
    s[cuts] = rng.normal(size=(len(cuts), n))
    x, gaps = [case.x0], []
    for t in range(6):
        A, B, c = (z[t] if problem.T else z for z in (problem.A, problem.B, problem.c))
        x.append(A @ x[t] + B @ u[t] + c)
        if t in cuts:
            gaps.append(x[-1] - s[t])
            x[-1] = s[t]
    x, gaps = np.array(x), np.array(gaps)
    expected = problem.cost(x, u) + (multipliers * gaps).sum() + 0.5 * (penalty * gaps**2).sum()
    # The constants l'c + 1/2 c'Dc, which do not depend on the variables, are left out.
    cs = np.broadcast_to(problem.c, (6, n))[cuts]
    expected -= (multipliers * cs).sum() + 0.5 * (penalty * cs**2).sum()
    augmented = _augmented(problem, 6, cuts, penalty, multipliers)
    z = np.concatenate([u, s], axis=1)
    np.testing.assert_allclose(augmented.simulate(case.x0, z), x, atol=1e-12)
    assert augmented.value_and_gradient(case.x0, z)[0] == pytest.approx(expected, rel=1e-12)


def test_a_stable_system_is_one_segment():
    problem = lqrad.LQProblem([[0.9]], [[1]], [[1]], [[1]])
    shot = multiple_shooting(problem, [1.0], 50)
    assert len(shot.cuts) == 0
    assert shot.jump == shot.gap == 0.0
    assert shot.cost == pytest.approx(lqrad.riccati(problem, 50).rollout([1.0]).cost, rel=1e-12)


@pytest.mark.parametrize(
    "a",
    [[0.2] * 100 + [5.0] * 100, [2.0] * 100 + [0.0] + [2.0] * 99],
    ids=["growth that comes late", "a state that is forgotten"],
)
def test_growth_is_cut_where_it_is(a):
    problem = lqrad.LQProblem(np.array(a).reshape(-1, 1, 1), [[1]], [[1]], [[1]], [[1]], c=[1.0])
    shot = multiple_shooting(problem, [1.0])
    assert shot.status.converged, shot
    assert shot.cost == pytest.approx(lqrad.riccati(problem).rollout([1.0]).cost, rel=1e-7)


def test_a_transient_of_a_stable_system_is_cut_too():
    A = 0.9 * np.eye(6) + np.diag(np.full(5, 4.0), 1)
    problem = lqrad.LQProblem(A, np.eye(6), np.eye(6), np.eye(6))
    shot = multiple_shooting(problem, np.ones(6), 60)
    assert len(shot.cuts) > 3
    cost = lqrad.riccati(problem, 60).rollout(np.ones(6)).cost
    assert shot.cost == pytest.approx(cost, rel=1e-7)


def test_the_units_of_the_states_do_not_move_the_cuts():
    A = with_spectral_radius(np.random.default_rng(0).normal(size=(4, 4)), 1.2)
    found = []
    for D in (np.ones(4), 2.0 ** np.array([0, 20, -10, 7])):
        weight = np.diag(1 / D**2)
        problem = lqrad.LQProblem(A * D[:, None] / D, np.diag(D), weight, np.eye(4))
        found.append(multiple_shooting(problem, D, 60).cuts)
    assert len(found[0]) > 2
    np.testing.assert_array_equal(*found)


def test_every_step_may_be_a_segment():
    problem = lqrad.LQProblem([[2.0]], [[1]], [[1]], [[1]])
    shot = multiple_shooting(problem, [1.0], 8, segment=1)
    np.testing.assert_array_equal(shot.cuts, np.arange(7))
    assert shot.cost == pytest.approx(lqrad.riccati(problem, 8).rollout([1.0]).cost, rel=1e-8)
    assert multiple_shooting(problem, [1.0], 1).status.converged


def test_at_rest_nothing_moves():
    problem = lqrad.LQProblem([[2.0]], [[1]], [[1]], [[1]])
    shot = multiple_shooting(problem, [0.0], 50)
    assert shot.status.converged
    assert shot.cost == 0.0


def test_what_is_not_reached_is_said():
    problem = lqrad.LQProblem([[2.0]], [[1]], [[1]], [[1]])
    assert multiple_shooting(problem, [1.0], 50, max_rounds=1).status is Status.MAX_ITER
    # One segment of 200 steps is a descent along gradients without digits.
    shot = multiple_shooting(problem, [1.0], 200, segment=200)
    assert shot.status is Status.STALLED
    assert shot.residual > 1e-3
    with pytest.raises(lqrad.NonFiniteError, match=r"x\[1024\] overflowed"):
        multiple_shooting(problem, [1.0], 3000, segment=3000)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x0": [1.0, 2.0]}, lqrad.ShapeError, r"x0 has shape \(2,\), expected \(1,\)"),
        ({"T": None}, lqrad.ArgumentError, "T is not given"),
        ({"segment": 0}, lqrad.ArgumentError, "segment is 0"),
        ({"tol": -1.0}, lqrad.ArgumentError, "tol is -1.0, expected a number of at least 0"),
        ({"max_rounds": 0}, lqrad.ArgumentError, "max_rounds is 0"),
        ({"x0": [np.nan]}, lqrad.NonFiniteError, "x0"),
        ({"problem": 3}, lqrad.ArgumentError, "problem is of type int"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    problem = lqrad.LQProblem([[2.0]], [[1]], [[1]], [[1]])
    with pytest.raises(error, match=message):
        multiple_shooting(**{"problem": problem, "x0": [1.0], "T": 5, **arguments})


def test_it_counts_in_grammar():
    problem = lqrad.LQProblem([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    shot = lqrad.multiple_shooting(problem, [1.0], T=5)
    assert repr(shot).startswith("<Shooting over 1 segment: converged after")
    assert "1 rounds" not in shot.message
    assert repr(shot) == f"<{shot.message}>"


@pytest.mark.parametrize("k", [-900, 900])
def test_weights_times_a_power_of_two_are_the_same_trajectory(k):
    plant = lqrad.systems.inverted_pendulum()
    plain = lqrad.multiple_shooting(plant.problem(), plant.x0, 60)
    scaled = lqrad.LQProblem(plant.A, plant.B, np.ldexp(plant.Q, k), np.ldexp(plant.R, k))
    other = lqrad.multiple_shooting(scaled, plant.x0, 60)
    assert (other.status, other.iterations) == (plain.status, plain.iterations)
    np.testing.assert_allclose(other.u, plain.u, rtol=1e-12, atol=1e-12 * np.abs(plain.u).max())


@pytest.mark.parametrize("segment", [None, 5])
def test_what_costs_nothing_has_costates_of_zero(segment):
    A, zero = [[1.5, 0.1], [0.0, 1.2]], np.zeros((2, 2))
    problem = LQProblem(A, np.zeros((2, 1)), zero, [[1.0]], zero)
    shot = multiple_shooting(problem, [1.0, 2.0], 20, segment=segment)
    assert shot.status.converged
    assert not shot.p.any()
    assert not shot.u.any()


def test_the_history_has_the_start_and_each_round():
    system = lqrad.systems.SYSTEMS["inverted-pendulum"]()
    shot = multiple_shooting(system.problem(), system.x0, 200)
    history = shot.history
    assert len(history.cost) == len(history.residual) == shot.rounds + 1
    assert history.cost[-1] == shot.cost
    assert history.residual[-1] == shot.residual < 1e-8 < history.residual[0]
    assert shot.seconds > 0
    assert shot.to_dict()["message"] == shot.message
