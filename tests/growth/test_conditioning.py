"""Condition of the descent: Lanczos against dense, laws against fits, predictions against descents."""

from __future__ import annotations

import json
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import mpmath
import numpy as np
import pytest
from random_problems import psd, random_case, with_spectral_radius
from scipy.linalg import solve_discrete_lyapunov

import lqrad
from lqrad.arguments import EPS
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError
from lqrad.growth.conditioning import (
    PREDICTED,
    Conditioning,
    _inverse_root,
    conditioning,
    predicted_iterations,
)
from lqrad.sweeps import Sweep

RADII, HORIZONS = [0.5, 0.9, 1.0, 1.1, 1.5], [5, 10, 20, 60]


def random_problem(seed, n=3, m=1, **changes):
    """A time-invariant problem whose spectral radius is of no account."""
    rng = np.random.default_rng(seed)
    data = {
        "A": rng.normal(size=(n, n)),
        "B": rng.normal(size=(n, m)),
        "Q": psd(rng, n),
        "R": psd(rng, m) + 0.1 * np.eye(m),
    }
    return lqrad.LQProblem(**(data | changes))


def scaled(problem, radius):
    A = with_spectral_radius(problem.A, radius)
    return lqrad.LQProblem(A, problem.B, problem.Q, problem.R, problem.S, M=problem.M)


def dense_hessian(problem, T):
    """R + G'QG, from the derivatives of the states in the inputs; in any arithmetic of NumPy's."""
    A, B, Q, R, S, M = problem
    n, m = B.shape
    x = np.zeros((n, T * m), dtype=A.dtype)  # of x[t] in all inputs
    H = np.zeros((T * m, T * m), dtype=A.dtype)
    for t in range(T):
        u = np.zeros((m, T * m), dtype=A.dtype)
        u[:, t * m : (t + 1) * m] = np.eye(m, dtype=int)
        H = H + x.T @ Q @ x + u.T @ R @ u + x.T @ M @ u + u.T @ M.T @ x
        x = A @ x + B @ u
    return H + x.T @ S @ x


def parts(problem):
    return problem.A, problem.B, problem.Q, problem.R, problem.S, problem.M


def symbol_range(problem, points=20_001):
    """The extreme eigenvalues of the symbol, by inverses on a fine grid of the circle."""
    A, B, Q, R, _, M = parts(problem)
    z = np.exp(1j * np.linspace(0, np.pi, points))[:, None, None]
    G = np.linalg.inv(z * np.eye(len(A)) - A) @ B
    GH = G.conj().swapaxes(1, 2)
    values = np.linalg.eigvalsh(R + M.T @ G + GH @ M + GH @ Q @ G)
    return values.min(), values.max()


@pytest.fixture(scope="module")
def study():
    return conditioning(random_problem(0), RADII, HORIZONS, max_iter=3000)


# --- eigenvalues ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_eigenvalues_are_those_of_the_dense_hessian(seed):
    """To rounding: no more eigenvalues than products. Those of a dense H are right to eps L."""
    case = random_case(seed, time_varying=False)
    radius = [0.0, 0.4, 0.95, 1.2][seed % 4]
    found = conditioning(case.problem, [radius], [1, 7, 15], max_iter=0)
    for j, T in enumerate([1, 7, 15]):
        values = np.linalg.eigvalsh(dense_hessian(parts(scaled(case.problem, radius)), T))
        condition = values[-1] / values[0]
        assert found.largest[0, j] == pytest.approx(values[-1], rel=1e-12)
        assert found.smallest[0, j] == pytest.approx(values[0], rel=1e-12 + 100 * EPS * condition)
        assert found.condition[0, j] == found.largest[0, j] / found.smallest[0, j]


@pytest.mark.parametrize(("radius", "m"), [(0.6, 1), (0.6, 2), (0.98, 2), (1.0, 1), (1.05, 2)])
def test_a_hundred_products_give_the_condition_number_to_a_percent(radius, m):
    for seed in range(3):
        problem = random_problem(seed, m=m)
        found = conditioning(problem, [radius], [400 // m], max_iter=0)
        values = np.linalg.eigvalsh(dense_hessian(parts(scaled(problem, radius)), 400 // m))
        condition = values[-1] / values[0]
        assert condition < 3e11  # the dense one is right to a percent too
        assert (1 - 1e-3) * condition <= found.condition[0, 0] <= 1.012 * condition


def test_digits_are_right_where_those_of_a_dense_hessian_are_lost():
    """Against 80 digits, at a condition number of 4e26."""
    problem, T = random_problem(1, n=2), 24
    found = conditioning(problem, [4.0], [T], max_iter=0)
    assert found.condition[0, 0] > 1e26
    double = np.linalg.eigvalsh(dense_hessian(parts(scaled(problem, 4.0)), T))
    assert not 0.1 < double[0] / found.smallest[0, 0] < 10
    with mpmath.workdps(80):
        exact = [np.vectorize(mpmath.mpf)(z) for z in parts(scaled(problem, 4.0))]
        values = mpmath.eigsy(mpmath.matrix(dense_hessian(exact, T)), eigvals_only=True)
        smallest, largest = float(min(values)), float(max(values))
    assert found.smallest[0, 0] == pytest.approx(smallest, rel=1e-11)
    assert found.largest[0, 0] == pytest.approx(largest, rel=1e-11)


@pytest.mark.parametrize("seed", range(6))
def test_the_root_is_one_of_the_inverse(seed):
    case = random_case(seed, T=7, time_varying=False)
    problem, size = case.problem, 7 * case.problem.m
    root = _inverse_root(problem, 7)
    units = np.eye(size).reshape(size, 7, problem.m)
    C = np.array([root(unit).ravel() for unit in units]).T
    Ct = np.array([root(unit, transpose=True).ravel() for unit in units]).T
    H = dense_hessian(parts(problem), 7)
    bound = 1e-12 * np.linalg.cond(H)
    np.testing.assert_allclose(Ct, C.T, atol=1e-12 * np.abs(C).max())
    np.testing.assert_allclose(H @ C @ C.T, np.eye(size), atol=bound)


def test_only_the_quadratic_part_counts():
    extra = {"c": [1.0, 2.0, 3.0], "q": [1.0, 0.0, 5.0], "r": [2.0], "s": [1.0, 1.0, 0.0]}
    plain, full = (
        conditioning(random_problem(0, **terms), [0.9, 1.2], [6, 12]) for terms in ({}, extra)
    )
    assert json.dumps(full.to_dict()) == json.dumps(plain.to_dict())


# --- the laws of growth and of saturation ---------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
def test_above_one_it_grows_as_the_square_of_the_spectral_radius(n):
    """Far beyond 1/eps, where the constant and the slower modes no longer count."""
    radii = [1.05, 1.2, 1.5, 2.0]
    found = conditioning(random_problem(n, n=n, m=2), radii, [50, 100, 150, 200], max_iter=0)
    assert found.condition[-1, -1] > 1e100
    np.testing.assert_allclose(found.predicted_rates, 2 * np.log(radii), rtol=1e-15)
    np.testing.assert_allclose(found.rates, 2 * np.log(radii), rtol=0.01)


def test_the_fit_takes_the_longer_half_and_two_horizons_at_least():
    found = conditioning(random_problem(0), [1.3], [60, 5, 40, 30, 29], max_iter=0)
    T, logs = np.array([60, 40, 30]), np.log(found.condition[0, [0, 2, 3]])
    assert found.rates[0] == pytest.approx(np.polyfit(T, logs, 1)[0], rel=1e-12)
    found = conditioning(random_problem(0), [1.3], [5, 60], max_iter=0)
    (first, last) = np.log(found.condition[0])
    assert found.rates[0] == pytest.approx((last - first) / 55, rel=1e-12)
    assert math.isnan(conditioning(random_problem(0), [1.3], [5, 5], max_iter=0).rates[0])


@pytest.mark.parametrize("seed", range(4))
def test_below_one_it_saturates_at_the_symbol(seed):
    """S is that of the infinite horizon: the Hessian is a section of a Toeplitz operator."""
    case = random_case(seed, n=2 + seed, radius=0.9, time_varying=False, all_terms=seed % 2 == 1)
    A, B, Q, R, _, M = parts(case.problem)
    S = solve_discrete_lyapunov(A.T, Q)
    problem = lqrad.LQProblem(A, B, Q, R, (S + S.T) / 2, M=M)
    found = conditioning(problem, [0.9], [10, 50, 150, 500], max_iter=0)
    smallest, largest = symbol_range(problem)
    limit = largest / smallest
    assert found.limits[0] == pytest.approx(limit, rel=0.012)
    assert np.all(np.diff(found.condition[0]) > -0.012 * limit)
    assert np.all(found.condition[0] <= 1.012 * limit)
    assert found.condition[0, -1] >= 0.97 * limit
    assert np.all(found.largest[0] <= 1.01 * largest)
    assert np.all(found.smallest[0] >= 0.99 * smallest)


def test_a_sharp_resonance_is_not_missed():
    """Its peak in the symbol is narrower than the steps of a uniform grid are wide."""
    angle, radius = 1.2345678, 1 - 1e-5
    A = radius * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    problem = lqrad.LQProblem(A, [[0.0], [1.0]], np.eye(2), [[1.0]])
    found = conditioning(problem, [radius], [2], max_iter=0)
    near = np.exp(1j * (angle + 1e-5 * np.linspace(-1, 1, 201)))
    peak = max(np.linalg.norm(np.linalg.solve(z * np.eye(2) - A, problem.B)) ** 2 for z in near)
    smallest, _ = symbol_range(problem)
    assert found.limits[0] == pytest.approx((1 + peak) / smallest, rel=0.01)


@pytest.mark.parametrize("weight", ["zero", "random", "large"])
def test_whatever_the_terminal_weight_it_rises_to_its_limit(weight):
    rng = np.random.default_rng(7)
    S = {"zero": 0.0, "random": 1.0, "large": 100.0}[weight] * psd(rng, 3)
    problem = random_problem(7, m=2, S=S)
    found = conditioning(problem, [0.3, 0.8], [1, 2, 5, 20, 80], max_iter=0)
    longer = conditioning(problem, [0.3, 0.8], [500], max_iter=0)
    for i in range(2):
        assert np.all(np.diff(found.smallest[i]) <= 0.01 * found.smallest[i, 1:])
        assert np.all(np.diff(found.largest[i]) >= -0.01 * found.largest[i, 1:])
    np.testing.assert_allclose(longer.condition[:, 0], found.limits, rtol=0.03)


def test_from_one_on_there_is_no_limit():
    assert np.isinf(conditioning(random_problem(0), [1.0, 1.2], [3], max_iter=0).limits).all()


# --- iterations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [3.0, 40.0, 99.0, 101.0, 700.0])
def test_the_gradient_method_takes_what_is_predicted_from_the_slowest_mode(condition):
    """With the step that `descend` chooses; from L's side the error falls at least as fast."""
    eigenvalues = np.array([1.0, (1 + condition) / 2, condition])
    bowl = lqrad.Objective(
        shape=(3,),
        value_and_gradient=lambda z: (0.5 * float(eigenvalues @ z**2), eigenvalues * z),
        hessian_product=lambda z, v: eigenvalues * v,
        quadratic=True,
    )
    result = lqrad.descend(
        bowl, [1.0, 0.0, 0.0], tol=0.0, max_iter=10_000, callback=lambda seen: seen.cost <= 5e-9
    )
    assert result.iterations == predicted_iterations(condition, 1e-8)["gradient"]


@pytest.mark.parametrize("condition", [1.5, 10.0, 1e3, 1e5])
@pytest.mark.parametrize("tol", [1e-2, 1e-8])
def test_conjugate_gradients_are_bounded_by_the_polynomials_of_chebyshev(condition, tol):
    x = (condition + 1) / (condition - 1)
    previous, current, k = 1.0, x, 1
    while 1 / current**2 > tol:
        previous, current, k = current, 2 * x * current - previous, k + 1
    assert predicted_iterations(condition, tol)["conjugate-gradient"] == k


def test_a_round_bowl_takes_one_step():
    for condition in (1.0, 1 - EPS):
        assert set(predicted_iterations(condition, 1e-6).values()) == {1.0}


@pytest.mark.parametrize("seed", range(4))
def test_no_method_takes_more_iterations_than_predicted(seed):
    problem = random_problem(seed, n=1 + seed, m=1 + seed % 3)
    for tol in (1e-2, 1e-8):
        found = conditioning(problem, RADII, [1, 6, 20, 60], tol=tol, max_iter=1000)
        gradient, conjugate = (found.observed[method] for method in PREDICTED)
        run = found.predicted["gradient"] <= 1000
        assert run.any()
        np.testing.assert_array_equal(np.isfinite(gradient), run)
        assert np.all(gradient[run] <= found.predicted["gradient"][run])
        seen = np.isfinite(conjugate)
        bound = predicted_iterations(found.condition, tol)["conjugate-gradient"]
        assert np.all(conjugate[seen] <= bound[seen])
        finite = found.horizons * problem.m
        np.testing.assert_array_equal(
            found.predicted["conjugate-gradient"], np.minimum(bound, finite)
        )
        exact = found.condition < 100  # above, rounding may delay the end
        assert np.all(conjugate[exact] <= np.minimum(bound, finite)[exact])


def test_the_gradient_method_takes_nearly_what_is_predicted(study):
    """Every mode has its share in the gap: the slowest one decides."""
    seen = np.isfinite(study.observed["gradient"]) & (study.condition > 10)
    assert seen.sum() >= 8
    ratio = study.observed["gradient"][seen] / study.predicted["gradient"][seen]
    assert np.all(ratio > 0.6)


def test_iterations_are_those_of_a_dense_descent():
    problem, T, tol = scaled(random_problem(2), 1.05), 15, 1e-5
    found = conditioning(problem, [1.05], [T], tol=tol)
    H = dense_hessian(parts(problem), T)
    mu, L = np.linalg.eigvalsh(H)[[0, -1]]
    u = _inverse_root(problem, T)(np.random.default_rng(0).normal(size=(T, 1))).ravel()
    first, k = u @ H @ u, 0
    while u @ H @ u > tol * first:
        u, k = u - 2 / (L + max(mu, L / 100)) * (H @ u), k + 1
    assert found.observed["gradient"][0, 0] == k


def test_what_would_take_too_long_is_not_run(study):
    assert np.all(study.predicted["gradient"][np.isfinite(study.observed["gradient"])] <= 3000)
    assert np.isnan(study.observed["gradient"][study.predicted["gradient"] > 3000]).all()
    hidden = study.condition >= 1 / EPS
    assert hidden.any()
    assert np.isnan(study.observed["conjugate-gradient"][hidden]).all()
    assert np.isfinite(study.observed["conjugate-gradient"][~hidden]).all()
    found = conditioning(random_problem(0), [0.9], [5], max_iter=0)
    assert all(np.isnan(found.observed[method]).all() for method in PREDICTED)


# --- the grid, and how it is run ------------------------------------------------------------------


def test_what_overflows_is_an_error_of_its_cell():
    found = conditioning(random_problem(0), [0.9, 30.0], [10, 300], max_iter=0)
    assert list(found.grid.errors) == [(1, 1)]
    assert found.grid.errors[1, 1].startswith("NonFiniteError: ")
    np.testing.assert_array_equal(np.isnan(found.condition), [[False, False], [False, True]])
    assert math.isnan(found.rates[1])
    cell = found.rows()[-1]
    assert cell["error"] == found.grid.errors[1, 1]
    assert math.isnan(cell["condition"])
    assert "nan" in found.table().splitlines()[-1]


def test_a_problem_without_a_minimum_has_no_numbers():
    problem = lqrad.LQProblem([[1.0]], [[0.0]], [[1.0]], [[0.0]])
    found = conditioning(problem, [0.5, 1.5], [3, 4])
    assert len(found.grid.errors) == 4
    assert "NotConvexError" in found.grid.errors[0, 0]
    assert np.isnan(found.condition).all()
    assert found.table()
    json.dumps(found.to_dict(), allow_nan=False)


def test_any_executor_gives_the_same(study):
    problem = random_problem(0)
    here = conditioning(problem, [0.9, 1.1], [5, 20], max_iter=3000)
    with ThreadPoolExecutor(2) as pool:
        threads = conditioning(problem, [0.9, 1.1], [5, 20], max_iter=3000, executor=pool)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        processes = conditioning(problem, [0.9, 1.1], [5, 20], max_iter=3000, executor=pool)
    for other in (threads, processes):
        assert not other.grid.errors
        assert json.dumps(other.to_dict()) == json.dumps(here.to_dict())
    assert here.condition[0, 1] == study.condition[1, 2]


def test_a_file_takes_up_where_it_ended(tmp_path):
    path, problem = tmp_path / "study.npz", random_problem(0)
    first = conditioning(problem, [0.9, 1.1], [5, 20], path=path)
    again = conditioning(problem, [0.9, 1.1], [5, 20], path=path)
    np.testing.assert_array_equal(again.grid.seconds, first.grid.seconds)  # nothing was run
    loaded = Conditioning(problem, first.tol, Sweep.load(path))
    assert json.dumps(loaded.to_dict()) == json.dumps(first.to_dict())


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"problem": 3}, ArgumentError, "problem is of type int, expected LQProblem"),
        (
            {"problem": random_problem(0, R=np.ones((4, 1, 1)))},
            ArgumentError,
            "problem varies over 4 stages, expected one that does not vary in time",
        ),
        (
            {"problem": random_problem(0, A=np.eye(3, k=1))},
            ArgumentError,
            "A has no eigenvalue but zero",
        ),
        ({"radii": 0.9}, ShapeError, r"radii has shape \(\), expected \(k,\).* as \[value\]"),
        ({"radii": []}, ShapeError, r"radii has shape \(0,\), expected \(k,\), not empty"),
        ({"radii": [0.5, -0.1]}, ArgumentError, "radii holds -0.1, expected numbers of at least 0"),
        ({"radii": [np.nan]}, NonFiniteError, r"radii\[0\] is nan"),
        ({"horizons": 5}, ShapeError, r"horizons has shape \(\), expected \(k,\)"),
        ({"horizons": [5, 2.5]}, ArgumentError, r"horizons\[1\] is 2.5, expected a whole number"),
        ({"horizons": [0]}, ArgumentError, r"horizons\[0\] is 0, expected .* at least 1"),
        ({"tol": 1.0}, ArgumentError, "tol is 1.0, expected a positive number below 1"),
        ({"tol": "small"}, DtypeError, "tol is 'small', expected a real number"),
        ({"max_iter": -1}, ArgumentError, "max_iter is -1"),
        ({"executor": 4}, ArgumentError, "executor is of type int, expected Executor"),
    ],
)
def test_what_cannot_be_studied_is_refused(changes, error, words):
    given = {"problem": random_problem(0), "radii": [0.9], "horizons": [5]} | changes
    with pytest.raises(error, match=words):
        conditioning(**given)


# --- what it shows --------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_radius(study):
    header, rule, *lines = repr(study).splitlines()
    assert header.split() == [
        "radius",
        *(f"T={T}" for T in HORIZONS),
        "limit",
        "growth",
        "predicted",
    ]
    assert set(rule) == {"-"}
    for i, line in enumerate(lines):
        radius, *kappa, limit, growth, predicted = map(float, line.split())
        assert radius == RADII[i]
        np.testing.assert_allclose(kappa, study.condition[i], rtol=0.05)
        assert limit == pytest.approx(study.limits[i], rel=0.05)
        assert growth == pytest.approx(math.exp(study.rates[i]), rel=1e-3)
        assert predicted == pytest.approx(max(1, RADII[i]) ** 2, rel=1e-3)


def test_everything_found_survives_json(study):
    found = json.loads(json.dumps(study.to_dict(), allow_nan=False))
    assert found["tol"] == 1e-6
    assert [row["radius"] for row in found["radii"]] == RADII
    assert found["radii"][0]["limit"] == study.limits[0]
    assert found["radii"][-1]["limit"] is None
    assert [row["rate"] for row in found["radii"]] == study.rates.tolist()
    assert [row["predicted_rate"] for row in found["radii"]] == study.predicted_rates.tolist()
    cells = found["cells"]
    assert [(row["radius"], row["T"]) for row in cells] == [(r, T) for r in RADII for T in HORIZONS]
    assert cells[1]["condition"] == study.condition[0, 1]
    assert cells[1]["smallest"] == study.smallest[0, 1]
    assert cells[1]["largest"] == study.largest[0, 1]
    for method in PREDICTED:
        assert cells[1][f"{method}_observed"] == study.observed[method][0, 1]
        assert cells[1][f"{method}_predicted"] == study.predicted[method][0, 1]
    assert cells[-1]["gradient_observed"] is None
    assert {row["error"] for row in cells} == {None}
