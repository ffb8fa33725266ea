"""Remedies for growing gradients: which of them reach Riccati's cost, and what the others miss."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from random_problems import random_case

import lqrad
from lqrad import Status, cures
from lqrad.growth import remedies
from lqrad.growth.remedies import (
    Bench,
    clipped_objective,
    cut_gradient,
    greedy_cost,
    open_loop_weights,
    whitening,
    windows,
)


@pytest.fixture(scope="module")
def pendulum():
    """Balanced for four seconds: 200 steps at the spectral radius 1.118."""
    system = lqrad.systems.SYSTEMS["inverted-pendulum"]()
    return cures(system.problem(), system.x0, 200)


def test_plain_descent_fails_and_says_why(pendulum):
    plain, conjugate = pendulum.cures[:2]
    assert plain.name == conjugate.name == "none"
    for cure in (plain, conjugate):
        assert cure.status is Status.ILL_CONDITIONED
        assert "rounding errors hide the smallest" in cure.message
    assert plain.gap > 1


@pytest.mark.parametrize("name", ["feedback", "Riccati's feedback", "multiple shooting"])
def test_feedback_and_multiple_shooting_reach_riccatis_cost(pendulum, name):
    cure = pendulum[name]
    assert cure.status.converged
    assert abs(cure.gap) <= 1e-8
    assert cure.bias == 0


def test_what_is_biased_says_by_how_much(pendulum):
    discounted = pendulum["discounted"]
    assert discounted.status.converged
    assert discounted.bias > 0.1
    # A part tol = 1e-12 of the discounted cost is up to sqrt(tol gamma^-T) = 0.5 of this one.
    assert discounted.gap == pytest.approx(discounted.bias, rel=1e-2)
    assert pendulum["cut costates"].bias > 0.1
    # (1.118 sqrt(gamma))^200 = 1e4.
    growth = 200 * (math.log(1.11773) + math.log(pendulum.discount) / 2)
    assert growth == pytest.approx(math.log(1e4), rel=1e-4)


def test_on_a_stable_system_all_that_is_not_biased_agrees():
    problem = lqrad.LQProblem([[0.8]], [[1]], [[1]], [[1]])
    study = cures(problem, [1.0], T=30, window=10)
    assert study.discount == 1.0
    for cure in study.cures:
        assert cure.status.converged, cure
        assert cure.gap == pytest.approx(cure.bias, abs=1e-8), cure
    assert study["cut costates"].bias > 0
    assert study["discounted"].bias == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("seed", range(6))
def test_the_cut_gradient_vanishes_where_each_window_is_minimised_alone(seed):
    """Against windows minimised one after the other by Riccati, each from where the last ended."""
    case = random_case(seed, T=7, all_terms=bool(seed % 2), time_varying=False, radius=1.1)
    problem, T, window = case.problem, 7, 3
    bench = Bench(problem, case.x0, T, 100, 1e-10)
    cut = windows(problem, T, window)
    x, inputs = case.x0, []
    for start in range(0, T, window):
        steps = min(window, T - start)
        last = start + steps == T
        part = lqrad.LQProblem(
            problem.A,
            problem.B,
            problem.Q,
            problem.R,
            problem.S if last else problem.Q,
            M=problem.M,
            c=problem.c,
            q=problem.q,
            r=problem.r,
            s=problem.s if last else problem.q,
        )
        solution = lqrad.riccati(part, steps).rollout(x)
        x = solution.x[-1]
        inputs.append(solution.u)
    u = np.concatenate(inputs)
    terms = np.abs(problem.R @ u.T).max() + np.abs(problem.simulate(case.x0, u)).max()
    assert np.abs(cut_gradient(bench, cut, u)).max() <= 1e-10 * terms
    expected = problem.cost(problem.simulate(case.x0, u), u)
    assert greedy_cost(bench, cut, window) == pytest.approx(expected, rel=1e-10)


def test_riccatis_feedback_takes_one_step_from_anywhere(pendulum):
    cure = pendulum["Riccati's feedback"]
    assert cure.gaps[0] > 0.1
    assert cure.iterations == 1
    assert pendulum["feedback"].iterations > 5  # its gains are not the answer


def test_clipped_gradients_are_no_longer_than_those_of_windows():
    system = lqrad.systems.SYSTEMS["inverted-pendulum"]()
    bench = Bench(system.problem(), system.x0, 100, 20, 1e-12)
    zero = np.zeros((100, 1))
    cut = cut_gradient(bench, windows(bench.problem, 100, 20), zero)
    limit = np.linalg.norm(cut, axis=1).max()
    _, plain = bench.objective.value_and_gradient(zero)
    _, clipped = clipped_objective(bench, 20).value_and_gradient(zero)
    sizes = np.linalg.norm(clipped, axis=1)
    assert np.linalg.norm(plain, axis=1).max() > 10 * limit
    assert sizes.max() == pytest.approx(limit)
    np.testing.assert_allclose(sizes, np.minimum(np.linalg.norm(plain, axis=1), limit))
    assert (np.sign(clipped) == np.sign(plain)).all()


def test_scaling_by_time_pays_where_the_inputs_differ():
    """R from 1 to 1e6 along the horizon: the scaled descent does not see it."""
    R = np.geomspace(1, 1e6, 40)[:, None, None]
    problem = lqrad.LQProblem([[0.5]], [[1]], [[1]], R, [[1]])
    study = cures(problem, [1.0], 40)
    assert study["scaled by time"].iterations < study.cures[1].iterations / 2


@pytest.mark.parametrize("seed", range(4))
def test_several_inputs_over_a_long_unstable_horizon(seed):
    """Where R is far below the rounding errors of B'WB."""
    case = random_case(seed, n=3, m=2, T=150, radius=1.3, time_varying=False, all_terms=False)
    study = cures(case.problem, case.x0, 150)
    for name in ("feedback", "Riccati's feedback", "multiple shooting"):
        assert study[name].status.converged, study[name]
        assert abs(study[name].gap) < 1e-8


def test_a_system_that_forgets_everything_at_once():
    study = cures(lqrad.LQProblem([[1e-160]], [[1]], [[1]], [[1]]), [1.0], 1)
    assert study.discount == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_inputs_are_scaled_by_the_diagonal_blocks_of_the_hessian(seed):
    case = random_case(seed, T=5)
    problem, m = case.problem, case.problem.m
    F = whitening(problem, open_loop_weights(problem, 5))
    for t in range(5):
        block = np.empty((m, m))
        for i in range(m):
            v = np.zeros((5, m))
            v[t, i] = 1.0
            block[:, i] = problem.hessian_product(v)[t]
        np.testing.assert_allclose(F[t].T @ block @ F[t], np.eye(m), atol=1e-10)


def test_a_window_as_long_as_the_horizon_is_not_biased():
    case = random_case(1, T=7, all_terms=True)
    study = cures(case.problem, case.x0, 7, window=7)
    assert study["cut costates"].bias == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_discounted_cost_is_the_weighted_sum(seed):
    """The bias, against a dense minimisation of sum_t gamma^t (stage cost)."""
    case = random_case(seed, T=4, all_terms=True, radius=1.1)
    problem, gamma = case.problem, 0.7
    size = case.u.size

    def weighted(z):
        u = z.reshape(case.u.shape)
        x = problem.simulate(case.x0, u)
        total = 0.0
        for t in range(4):
            Q, R, M, q, r = (
                a[t] if problem.T else a
                for a in (problem.Q, problem.R, problem.M, problem.q, problem.r)
            )
            stage = 0.5 * x[t] @ Q @ x[t] + x[t] @ M @ u[t] + 0.5 * u[t] @ R @ u[t]
            total += gamma**t * (stage + q @ x[t] + r @ u[t])
        return total + gamma**4 * (0.5 * x[4] @ problem.S @ x[4] + problem.s @ x[4])

    # A quadratic: differences with unit steps are exact.
    e, zero = np.eye(size), np.zeros(size)
    g = np.array([(weighted(d) - weighted(-d)) / 2 for d in e])
    H = np.array(
        [[weighted(a + b) - weighted(a) - weighted(b) + weighted(zero) for a in e] for b in e]
    )
    u = -np.linalg.solve(H, g).reshape(case.u.shape)
    study = cures(problem, case.x0, 4, discount=gamma)
    best = study.optimum.cost
    gap = (problem.cost(problem.simulate(case.x0, u), u) - best) / abs(best)
    assert study["discounted"].bias == pytest.approx(gap, rel=1e-6, abs=1e-10)
    assert study["discounted"].gap == pytest.approx(gap, rel=1e-3, abs=1e-8)


def test_what_overflows_fails_and_is_not_an_error():
    """1.5^2000 is more than the largest number, and its inverse less than the smallest."""
    problem = lqrad.LQProblem([[1.5]], [[1]], [[1]], [[1]])
    study = cures(problem, [1.0], 2000, max_iter=50)
    assert study["discounted"].bias == np.inf
    for cure in study.cures:
        if "feedback" not in cure.name and "shooting" not in cure.name:
            assert cure.gap == np.inf
        if cure.name in ("none", "scaled by time", "clipped", "cut costates"):
            assert cure.status is Status.DIVERGED or cure.message.startswith("failed"), cure
    assert abs(study["feedback"].gap) <= 1e-9
    json.dumps(study.to_dict(), allow_nan=False)
    study.plot()


def test_tables_notes_json_and_pictures(pendulum):
    assert pendulum.table().splitlines()[0].split() == [
        "cure",
        "method",
        "iterations",
        "gap",
        "bias",
        "seconds",
        "status",
    ]
    assert repr(pendulum) == pendulum.table()
    assert "<td>multiple shooting</td>" in pendulum._repr_html_()
    assert len(pendulum.notes()) == len(pendulum.cures) == 9
    found = json.loads(json.dumps(pendulum.to_dict(), allow_nan=False))
    assert found["cures"][2]["name"] == "feedback"
    assert len(found["cures"][2]["gaps"]) == pendulum["feedback"].iterations + 1
    left, right = pendulum.plot().axes
    assert left.get_yscale() == right.get_xscale() == "log"
    assert len(right.get_yticklabels()) == 9


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"problem": 1}, lqrad.ArgumentError, "problem is of type int"),
        ({"T": None}, lqrad.ArgumentError, "T is not given"),
        ({"x0": [[1.0]]}, lqrad.ShapeError, r"x0 has shape \(1, 1\), expected \(1,\)"),
        ({"window": 0}, lqrad.ArgumentError, "window is 0"),
        (
            {"discount": 0.0},
            lqrad.ArgumentError,
            "discount is 0.0, expected a positive number of at most 1",
        ),
        ({"discount": 1.5}, lqrad.ArgumentError, "discount is 1.5"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    problem = lqrad.LQProblem([[2.0]], [[1]], [[1]], [[1]])
    with pytest.raises(error, match=message):
        cures(**{"problem": problem, "x0": [1.0], "T": 5, **arguments})


def test_an_unknown_cure_is_refused_with_the_list(pendulum):
    with pytest.raises(lqrad.ArgumentError, match="no cure 'leeches', expected one of: none"):
        pendulum["leeches"]


def test_a_long_horizon_has_a_bound_on_its_work(monkeypatch):
    """Multiple shooting is what takes long: it stops after so many steps, and says so."""
    monkeypatch.setattr(remedies, "_STEPS", 300 * 100)
    problem = lqrad.systems.inverted_pendulum().problem()
    found = lqrad.cures(problem, [0.1, 0, 0.1, 0], T=300, max_iter=50)["multiple shooting"]
    assert found.iterations == 100
    assert found.status is Status.MAX_ITER
    assert "100 iterations in all, as many as allowed;" in found.message


def test_clipping_where_squares_of_gradients_overflow():
    """At a = 2 and T = 600 the gradient is 1e180: its square is beyond floats, and warns of nothing."""
    problem = lqrad.LQProblem([[2.0]], [[1.0]], [[1.0]], [[1.0]])
    found = lqrad.cures(problem, [1.0], T=600, max_iter=20)
    assert found["clipped"].message
    assert found["feedback"].status.converged


def test_the_cost_is_that_of_the_users_units(pendulum):
    best = pendulum.optimum.cost
    for cure in pendulum.cures:
        assert cure.gap == pytest.approx((cure.cost - best) / best, rel=1e-9, abs=1e-12)
    assert pendulum["feedback"].history is pendulum["feedback"].gaps  # its former name
