"""SmoothingProblem: what it takes, what it refuses, and the objective that it makes of a series."""

from __future__ import annotations

import re

import numpy as np
import pytest
from random_smoothing import condition, random_case

import lqrad
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, NotConvexError, ShapeError
from lqrad.smoothing.model import SmoothingProblem

NAN = np.nan


def model(**changes):
    """Position and velocity, the position seen, with anything replaced by `changes`."""
    data = {
        "A": [[1.0, 1.0], [0.0, 1.0]],
        "C": [[1.0, 0.0]],
        "W": [[1 / 3, 1 / 2], [1 / 2, 1.0]],
        "V": [[4.0]],
        "m0": [1.0, 2.0],
        "P0": [[5.0, 1.0], [1.0, 3.0]],
    }
    return SmoothingProblem(**(data | changes))


def test_arrays_are_copied_once_and_cannot_be_written():
    A = np.eye(2)
    problem = model(A=A)
    A[0, 0] = 7
    assert problem.A[0, 0] == 1
    for name in ("A", "C", "W", "V", "m0", "P0", "c", "d"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(problem, name)[...] = 0


def test_attributes_cannot_be_set():
    problem = model()
    with pytest.raises(AttributeError, match="A of a SmoothingProblem cannot be set"):
        problem.A = np.eye(2)
    with pytest.raises(AttributeError, match="P0 of a SmoothingProblem cannot be set"):
        problem.in_units(np.ones(problem.n), np.ones(problem.ny)).P0 = None


def test_replace_keeps_what_it_is_not_given_and_checks_the_rest():
    problem = model(c=np.zeros((7, 2)))
    W = np.eye(2)
    other = problem.replace(W=W, P0=None)
    W[0, 0] = -1
    assert (other.W[0, 0], other.P0, other.T) == (1, None, 7)
    for name in ("A", "C", "V", "m0", "c", "d"):
        assert getattr(other, name) is getattr(problem, name)
    assert problem.P0 is not None
    assert problem.replace(c=None).T is None
    bigger = problem.replace(C=np.eye(2), V=np.eye(2), d=None)
    assert (bigger.ny, bigger.d.shape) == (2, (2,))
    np.testing.assert_array_equal(other.balanced.problem.W, model(W=np.eye(2)).balanced.problem.W)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"W": [[1, 2], [2, 1]]}, NotConvexError, "W has the eigenvalue -1, expected a positive"),
        ({"P0": [[-1.0, 0], [0, 1]]}, NotConvexError, "P0 has the eigenvalue -1"),
        ({"V": np.eye(2)}, ShapeError, r"V has shape \(2, 2\), expected \(ny, ny\) = \(1, 1\)"),
        ({"C": np.eye(2)}, ShapeError, r"V has shape \(1, 1\), expected \(ny, ny\) = \(2, 2\)"),
        ({"c": np.zeros((7, 2)), "d": np.zeros((7, 1))}, ShapeError, "d has 7 stages and c has 7"),
        ({"A": None}, DtypeError, "A is None, expected an array"),
        ({"m0": None}, ArgumentError, "m0 is None and P0 is given"),
        (
            {"E": 1},
            ArgumentError,
            "an array to replace is 'E', expected one of: A, C, W, V, c, d, m0",
        ),
    ],
)
def test_what_does_not_fit_is_not_replaced(changes, error, message):
    with pytest.raises(error, match=message):
        model().replace(**changes)


def test_dimensions_are_read_off_and_the_horizon_off_what_varies():
    assert (model().n, model().ny, model().T) == (2, 1, None)
    assert model(c=np.zeros((7, 2))).T == 7
    assert model(d=np.zeros((8, 1))).T == 7
    assert repr(model(V=np.ones((8, 1, 1)), d=[1.0])) == "SmoothingProblem(n=2, ny=1, T=7, with d)"
    assert repr(model(P0=None)) == "SmoothingProblem(n=2, ny=1, time-invariant, no prior)"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"A": 1.0}, ShapeError, r"A has shape \(\), expected .*scalar as \[\[value\]\]"),
        ({"A": np.ones((2, 3))}, ShapeError, r"A has shape \(2, 3\), expected \(n, n\)"),
        ({"C": [1.0, 0.0]}, ShapeError, r"C has shape \(2,\).*C\[None, :\]"),
        ({"C": [[1.0], [0.0]]}, ShapeError, r"C has shape \(2, 1\).*C\.T"),
        ({"W": 1.0}, ShapeError, r"W has shape \(\), expected \(n, n\) = \(2, 2\)"),
        ({"V": 1.0}, ShapeError, r"V has shape \(\), .*\[\[value\]\]"),
        ({"P0": 1.0}, ShapeError, r"P0 has shape \(\), expected \(n, n\)"),
        ({"m0": [1.0]}, ShapeError, r"m0 has shape \(1,\), expected \(n,\) = \(2,\)"),
        ({"c": [1.0]}, ShapeError, r"c has shape \(1,\), expected \(n,\) = \(2,\)"),
        ({"W": -np.eye(2)}, NotConvexError, "W has the eigenvalue -1, .*covariance"),
        ({"P0": np.diag([1, -2])}, NotConvexError, "P0 has the eigenvalue -2"),
        ({"V": [[[1.0]], [[-3.0]]]}, NotConvexError, "V at stage 1 has the eigenvalue -3"),
        ({"W": [[1, 1], [0, 1]]}, NotConvexError, "W is not symmetric"),
        ({"A": [[NAN, 0], [0, 1]]}, NonFiniteError, r"A\[0, 0\] is nan"),
        ({"V": None}, DtypeError, "V is None"),
        ({"m0": None}, ArgumentError, "m0 is None and P0 is given"),
        (
            {"c": np.zeros((7, 2)), "d": np.zeros((7, 1))},
            ShapeError,
            "d has 7 stages and c has 7; .*T, and .*T \\+ 1",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes, error, message):
    with pytest.raises(error, match=message):
        model(**changes)


def test_singular_covariances_are_taken_and_the_objective_says_what_needs_their_inverse():
    for name, size in [("W", 2), ("V", 1), ("P0", 2)]:
        problem = model(**{name: np.zeros((size, size))})
        with pytest.raises(NotConvexError, match=f"{name} is singular .*kalman_smoother"):
            problem.objective(np.ones((4, 1)))
    with pytest.raises(ArgumentError, match="P0 is None"):
        model(P0=None).objective(np.ones((4, 1)))


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (np.ones(1), ShapeError, r"y has shape \(1, 1\), expected .*T >= 1"),
        (np.ones((1, 5)), ShapeError, r"y has shape \(1, 5\), expected \(5, 1\); .*y\.T"),
        (np.ones((1, 1)), ShapeError, r"y has shape \(1, 1\), expected .*T >= 1"),
        ([[1.0], [np.inf]], NonFiniteError, r"y\[1, 0\] is inf; .*NaN"),
        ([["a"], ["b"]], DtypeError, "y holds text"),
    ],
)
def test_a_series_that_does_not_fit_is_refused(y, error, message):
    with pytest.raises(error, match=message):
        model().objective(y)


def test_a_gap_adds_nothing():
    rng = np.random.default_rng(0)
    problem = model(C=rng.normal(size=(2, 2)), V=[[2.0, 1.0], [1.0, 3.0]], d=[1.0, -1.0])
    y = rng.normal(size=(3, 4, 2))
    whole = problem.observations(y)
    assert whole.C is problem.C
    assert whole.V is problem.V
    y[:, 1, 0] = NAN
    same = problem.observations(y)
    assert same.C.shape == (4, 2, 2)  # one pattern, no batch
    assert not same.C[1, 0].any()
    assert np.array_equal(same.V[1], [[1, 0], [0, 3]])
    assert not same.z[:, 1, 0].any()
    y[0, 3] = NAN
    assert problem.observations(y).C.shape == (3, 4, 2, 2)
    assert np.array_equal(problem.observations(y).entries, [5, 7, 7])


def test_rows_are_whitened_by_the_factors_of_their_covariances():
    problem = model()
    y = np.array([[1.0], [NAN], [3.0]])
    prior, noise, _, C, z, log_determinant = problem.whitened(problem.observations(y))
    np.testing.assert_allclose(prior.T @ prior, np.linalg.inv(problem.P0))
    np.testing.assert_allclose(noise.T @ noise, np.linalg.inv(problem.W))
    np.testing.assert_allclose(C[0], [[0.5, 0.0]])
    np.testing.assert_allclose(z.ravel(), [0.5, 0.0, 1.5])
    logs = [np.linalg.slogdet(S)[1] for S in (problem.P0, problem.W, problem.W)]
    assert log_determinant == pytest.approx(sum(logs) + 2 * np.log(4))


@pytest.mark.parametrize("seed", range(8))
def test_the_minimum_of_the_objective_is_the_conditional_mean(seed):
    """Newton's step from anywhere, with the Hessian column by column, simulates to the oracle's x."""
    case = random_case(seed, n=[1, 2, 3][seed % 3], T=5)
    objective = case.problem.objective(case.y)
    size = int(np.prod(objective.shape))
    z = np.random.default_rng(seed).normal(size=objective.shape)
    _, gradient = objective.value_and_gradient(z)
    units = np.eye(size).reshape(size, *objective.shape)
    H = np.array([objective.hessian_product(z, unit).ravel() for unit in units])
    np.testing.assert_allclose(H, H.T, rtol=0, atol=1e-13 * np.abs(H).max())
    z = z - np.linalg.solve(H, gradient.ravel()).reshape(z.shape)
    x = [z[0]]
    A, c = (np.broadcast_to(getattr(case.problem, k), (5, *s)) for k, s in _step_shapes(case))
    for t in range(5):
        x.append(A[t] @ x[t] + c[t] + z[t + 1])
    expected = condition(case.data, case.y).x
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def _step_shapes(case):
    n = case.problem.n
    return [("A", (n, n)), ("c", (n,))]


@pytest.mark.parametrize("seed", range(6))
def test_gradient_and_hessian_are_those_of_the_value(seed):
    case = random_case(seed + 100)
    objective = case.problem.objective(case.y)
    z = np.random.default_rng(seed).normal(size=objective.shape)
    assert lqrad.taylor_test(objective.value_and_gradient, z).order == pytest.approx(2, abs=0.01)
    product = objective.hessian_product
    exact = lqrad.taylor_test(objective.value_and_gradient, z, hessian_product=product)
    assert exact.order == np.inf


def test_variables_of_the_wrong_shape_are_refused():
    objective = model().objective(np.ones((4, 1)))
    with pytest.raises(ShapeError, match=re.escape("z has shape (3, 2), expected (4, 2)")):
        objective.value_and_gradient(np.ones((3, 2)))
    with pytest.raises(ShapeError, match=re.escape("v has shape (2,), expected (4, 2)")):
        objective.hessian_product(np.ones((4, 2)), np.ones(2))


def test_a_simulation_has_the_moments_of_the_model():
    problem, T, count = model(c=[0.1, 0.0], d=[-2.0]), 3, 4000
    rng = np.random.default_rng(0)
    draws = [problem.simulate(rng, T) for _ in range(count)]
    x, y = (np.array(part) for part in zip(*draws, strict=True))
    assert x.shape == (count, T + 1, 2)
    assert y.shape == (count, T + 1, 1)
    w = x[:, 1:] - x[:, :-1] @ problem.A.T - problem.c
    v = y - x @ problem.C.T - problem.d
    for sample, covariance in [(x[:, 0] - problem.m0, problem.P0), (w, problem.W), (v, problem.V)]:
        sample = sample.reshape(-1, len(covariance))
        off = sample.T @ sample / len(sample) - covariance
        assert np.abs(off).max() <= 5 * np.abs(covariance).max() * np.sqrt(2 / len(sample))


def test_a_simulation_needs_a_prior_and_a_length():
    rng = np.random.default_rng(0)
    with pytest.raises(ArgumentError, match="T is not given"):
        model().simulate(rng)
    with pytest.raises(ArgumentError, match="P0 is None"):
        model(P0=None).simulate(rng, 3)
    with pytest.raises(ArgumentError, match="T is 3, but the model varies over 7 steps"):
        model(c=np.zeros((7, 2))).simulate(rng, 3)
    assert len(model(c=np.zeros((7, 2))).simulate(rng)[0]) == 8
