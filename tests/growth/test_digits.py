"""The horizon at which an open-loop gradient has no digit left: observed against predicted."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from random_problems import with_spectral_radius

import lqrad
from lqrad import blowup, lost_digits


def test_the_pendulum_loses_its_last_digit_where_it_is_predicted():
    system = lqrad.systems.SYSTEMS["inverted-pendulum"]()
    lost = lost_digits(system.problem(), system.x0, range(100, 221, 2))
    assert lost.predicted == pytest.approx(36.04 / (2 * math.log(1.11773)), rel=0.06)
    assert lost.observed == pytest.approx(lost.predicted, rel=1 / 8)
    # The errors grow as the law does: a slope through seventeen decades of rounding.
    slope, law = (np.polyfit(lost.horizons, z, 1)[0] for z in (np.log(lost.errors), lost.law))
    assert slope == pytest.approx(law, rel=0.1)
    assert law == pytest.approx(2 * math.log(1.11773), rel=0.01)


@pytest.mark.parametrize(
    "name", ["aircraft", "mass-spring-chain", "quadrotor", "inverted-pendulum"]
)
def test_the_law_is_within_two_decades_of_the_errors_with_and_without_growth(name):
    system = lqrad.systems.SYSTEMS[name]()
    lost = lost_digits(system.problem(), system.x0)
    seen = (lost.errors > 0) & np.isfinite(lost.errors)
    decades = (np.log(lost.errors[seen]) - lost.law[seen]) / math.log(10)
    assert abs(np.median(decades)) < 2
    assert decades.max() < 1  # the law is not far below


@pytest.mark.parametrize("seed", range(5))
def test_random_systems_lose_it_within_a_sixth_of_the_prediction(seed):
    rng = np.random.default_rng(seed)
    A = with_spectral_radius(rng.normal(size=(4, 4)), 1.2)
    problem = lqrad.LQProblem(A, rng.normal(size=(4, 2)), np.eye(4), np.eye(2))
    lost = lost_digits(problem, rng.normal(size=4), range(60, 160))
    assert lost.observed == pytest.approx(lost.predicted, rel=1 / 6)


def test_the_error_is_that_of_the_gradient_at_the_optimum():
    problem = lqrad.LQProblem([[1.5]], [[1]], [[1]], [[2]], r=[0.3])
    errors = []
    for start in (1.0, 1.3, 0.7):  # of one alone the rounding errors may be small by chance
        (error,) = lost_digits(problem, [start], [30]).errors
        optimum = lqrad.riccati(problem, 30).rollout([start])
        _, g = problem.value_and_gradient([start], optimum.u)
        terms = max(np.abs(optimum.u + 0.3).max(), np.abs(optimum.p).max())
        assert error == pytest.approx(np.abs(g).max() / terms)
        errors.append(error)
    assert 1e-7 < max(errors) < 1e-3  # eps 1.5^60 = 8e-6


def test_a_transient_of_a_stable_system_loses_digits_too():
    A = 0.9 * np.eye(10) + np.diag(np.full(9, 10.0), 1)
    problem = lqrad.LQProblem(A, np.eye(10), np.eye(10), np.eye(10))
    lost = lost_digits(problem, np.ones(10), range(1, 40))
    assert lost.growth.predicted_rate < 0
    assert lost.predicted < 30
    assert lost.observed == pytest.approx(lost.predicted, rel=0.3)


def test_without_an_input_weight_digits_are_lost_as_well():
    problem = lqrad.LQProblem([[1.5, 0.3], [0, 0.5]], [[1], [1]], np.eye(2), [[0]])
    lost = lost_digits(problem, [1.0, 1.0], range(1, 80))
    assert lost.observed == pytest.approx(lost.predicted, rel=0.3)


def test_a_stable_system_keeps_its_digits():
    problem = lqrad.LQProblem([[0.9]], [[1]], [[1]], [[1]])
    lost = lost_digits(problem, [1.0])
    assert lost.observed is None
    assert lost.predicted == math.inf
    assert lost.errors.max() < 1e-14
    assert lost.horizons[-1] == 1000
    assert repr(lost).endswith("observed at no horizon up to 1000, predicted never>")
    lost.plot()


def test_an_overflow_is_an_infinite_error():
    problem = lqrad.LQProblem([[1.5]], [[1]], [[1]], [[1]])
    lost = lost_digits(problem, [1.0], [2000, 1])
    np.testing.assert_array_equal(lost.horizons, [1, 2000])
    assert lost.errors[1] == np.inf
    found = json.loads(json.dumps(lost.to_dict(), allow_nan=False))
    assert found["errors"][1] is None
    lost.plot()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problem": 1}, "problem is of type int"),
        ({"horizons": []}, "horizons is empty"),
        ({"horizons": [0]}, "horizon is 0"),
        (
            {"problem": lqrad.LQProblem([[[1.0]]] * 3, [[1]], [[1]], [[1]])},
            "problem varies over 3 stages, expected a time-invariant one",
        ),
    ],
)
def test_bad_input_is_named(arguments, message):
    problem = lqrad.LQProblem([[2.0]], [[1]], [[1]], [[1]])
    with pytest.raises(lqrad.ArgumentError, match=message):
        lost_digits(**{"problem": problem, "x0": [1.0], **arguments})


def test_a_blowup_holds_growth_digits_and_cures():
    problem = lqrad.LQProblem([[1.3]], [[1]], [[1]], [[1]])
    study = blowup(problem, [1.0], 100)
    assert study.growth.rate == pytest.approx(math.log(1.3), rel=1e-6)
    assert study.digits.observed < 100
    assert study.cures["none"].status is lqrad.Status.ILL_CONDITIONED
    assert study.cures.table() in repr(study)
    assert "observed from T = " in repr(study)
    found = json.loads(json.dumps(study.to_dict(), allow_nan=False))
    assert found.keys() >= {"growth", "digits", "cures", "T"}
    assert len(study.plot().axes) == 4
    assert study.notes() == study.cures.notes()


def test_a_varying_problem_has_no_horizons_to_vary():
    problem = lqrad.LQProblem(np.full((30, 1, 1), 1.3), [[1]], [[1]], [[1]])
    study = blowup(problem, [1.0])
    assert study.digits is None
    assert study.to_dict()["digits"] is None
    assert "observed" not in repr(study)
    study.plot()
