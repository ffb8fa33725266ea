"""Growth of gradients: measured against predicted, and against the passes of LQProblem."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from random_problems import psd, with_spectral_radius

import lqrad
from lqrad import gradient_growth
from lqrad.arguments import EPS


def test_norms_are_those_of_the_adjoint_of_the_problem():
    """Against LQProblem's own backward pass, with no cost but at the end."""
    rng = np.random.default_rng(0)
    T, n, m = 12, 3, 2
    A, B, S, x0 = rng.normal(size=(n, n)), rng.normal(size=(n, m)), psd(rng, n), rng.normal(size=n)
    problem = lqrad.LQProblem(A, B, np.zeros((n, n)), np.zeros((m, m)), S)
    u = np.zeros((T, m))
    _, g = problem.value_and_gradient(x0, u)
    expected = np.log(np.linalg.norm(g, axis=1))
    for start in ({"x0": x0}, {"x": problem.simulate(x0, u)}):
        growth = gradient_growth(A, B, S, T=T, **start)
        np.testing.assert_allclose(growth.log_norms, expected, atol=1e-12)
        assert growth.quantity == "gradient of 1/2 x[T]'S x[T]"
    products = [B]
    for _ in range(T - 1):
        products.append(A @ products[-1])
    for weight, words in ((None, "d x[T] / d u[t]"), (S, "S d x[T] / d u[t]")):
        growth = gradient_growth(A, B, weight, T=T)
        W = np.eye(n) if weight is None else weight
        expected = [np.log(np.linalg.norm(W @ z, 2)) for z in products[::-1]]
        np.testing.assert_allclose(growth.log_norms, expected, atol=1e-12)
        assert growth.quantity == words


@pytest.mark.parametrize("rho", [0.5, 0.98, 1.02, 2.0])
@pytest.mark.parametrize("n", [2, 5, 8])
def test_rates_are_within_one_percent_of_the_spectral_radius(rho, n):
    rng = np.random.default_rng(n)
    A, B = with_spectral_radius(rng.normal(size=(n, n)), rho), rng.normal(size=(n, 2))
    growth = gradient_growth(A, B, T=10_000)
    assert growth.predicted_rate == pytest.approx(math.log(rho), rel=1e-10)
    assert growth.rate == pytest.approx(math.log(rho), rel=0.01)
    assert growth.exponents.max() == pytest.approx(math.log(rho), rel=0.01)
    assert growth.predicted_degree == 0


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("rho", [0.9, 1.0, 1.5])
def test_a_jordan_block_adds_a_power_of_the_distance(size, rho):
    A = rho * np.eye(size) + np.diag(np.ones(size - 1), 1)
    growth = gradient_growth(A, T=10_000)
    assert growth.predicted_degree == size - 1
    assert growth.degree == pytest.approx(size - 1, abs=0.02)
    assert growth.rate == pytest.approx(math.log(rho), abs=1e-5)
    k = 9999
    exact = math.log(math.comb(k, size - 1)) + (k - size + 1) * math.log(rho)
    assert growth.log_norms[0] == pytest.approx(exact, abs=0.05)


def test_a_hundred_thousand_steps_at_spectral_radius_two():
    A = np.array([[2.0, 1.0], [0.0, 0.5]])
    growth = gradient_growth(A, [[0.0], [1.0]], T=100_000)
    # A^k [0, 1] has the first entry (2^k - 2^-k) / 1.5, and the second 2^-k.
    assert growth.log_norms[0] == pytest.approx(99_999 * math.log(2) - math.log(1.5), rel=1e-13)
    assert growth.rate == pytest.approx(math.log(2), rel=1e-9)
    assert growth.log_norms[growth.overflow_step] > math.log(np.finfo(float).max)
    assert growth.log_norms[growth.overflow_step + 1] <= math.log(np.finfo(float).max)


def test_the_henon_map_has_its_lyapunov_exponents():
    """0.419 and the sum log 0.3: Sprott, Chaos and Time-Series Analysis, 2003, appendix A."""
    T, x, y, A = 20_000, 0.1, 0.1, []
    for _ in range(T):
        A.append([[-2.8 * x, 1.0], [0.3, 0.0]])
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
    growth = gradient_growth(A)
    assert growth.T == T
    assert growth.predicted_rate == growth.exponents.max() == pytest.approx(0.419, abs=0.005)
    assert growth.exponents.sum() == pytest.approx(math.log(0.3), rel=1e-12)
    assert growth.rate == pytest.approx(0.419, abs=0.02)
    assert growth.predicted_degree is None
    assert growth.degree == 0


def test_a_direction_that_no_input_reaches_does_not_cost_digits():
    growth = gradient_growth(np.diag([2.0, 0.5]), [[0.0], [1.0]], T=200)
    assert growth.lost_horizon == growth.overflow_horizon == math.inf
    assert "no digit" not in repr(growth)


def test_growth_that_comes_and_goes_costs_its_digits():
    A = np.array([0.2] * 100 + [5.0] * 100).reshape(-1, 1, 1)
    growth = gradient_growth(A)
    assert growth.predicted_rate == pytest.approx(0, abs=1e-12)
    # 5^11.2 = 1/sqrt(eps), and the last step's own A is in no derivative.
    assert growth.lost_horizon == 13


def first_lost(A, B, S):
    """The horizon, by multiplying until a norm has grown by 1/sqrt(eps)."""
    step, T = S @ B, 1
    first = np.linalg.norm(step, 2)
    while np.linalg.norm(step, 2) < first / np.sqrt(np.finfo(float).eps):
        B, T = A @ B, T + 1
        step = S @ B
    return T


@pytest.mark.parametrize("seed", range(12))
def test_the_lost_horizon_does_not_depend_on_the_horizon(seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 5)), int(rng.integers(1, 3))
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, m))
    A *= rng.choice([1.02, 1.3]) / np.abs(np.linalg.eigvals(A)).max()
    root = rng.normal(size=(n, n))
    S = root @ root.T
    expected = first_lost(A, B, S)
    for T in (1, 7, 200, expected, expected + 1, 2000):
        assert gradient_growth(A, B, S, T=T).lost_horizon == expected
        along = gradient_growth(A, B, S, T=T, x0=rng.normal(size=n))
        assert along.lost_horizon == expected


def test_slow_growth_is_lost_where_the_predicted_rate_says():
    growth = gradient_growth([[1.0001]], T=5)
    assert growth.lost_horizon == pytest.approx(-0.5 * math.log(EPS) / math.log(1.0001) + 1)
    assert gradient_growth([[1.0, 0.1], [0.0, 1.0]], T=5).lost_horizon == math.inf


def test_a_hump_of_a_stable_system_costs_its_digits_at_every_horizon():
    """0.9^k and 0.8^k differ first: the norm rises to 3e8 before it falls."""
    A = [[0.9, 1e8], [0.0, 0.8]]
    found = {gradient_growth(A, [[0.0], [1.0]], T=T).lost_horizon for T in (1, 2, 50)}
    assert found == {2.0}


def test_over_a_short_horizon_the_predicted_power_is_taken_for_the_fit():
    A = [[1.0, 0.1], [0.0, 1.0]]
    growth = gradient_growth(A, [[0.0], [0.1]], T=50)
    assert growth.degree == growth.predicted_degree == 1
    assert growth.rate == pytest.approx(0, abs=0.02)
    varying = gradient_growth(A, np.full((50, 2, 1), 0.1))
    assert varying.predicted_degree == 1  # it is A that does not vary


def test_the_simulation_overflows_where_it_is_said_to():
    growth = gradient_growth([[1.5]], T=3000)
    assert growth.overflow_horizon == 1752
    assert gradient_growth([[1.5]], T=100).overflow_horizon == 1752
    problem = lqrad.LQProblem([[1.5]], [[1]], [[1]], [[1]])
    with pytest.raises(lqrad.NonFiniteError, match=r"x\[1751\] overflowed"):
        problem.simulate([1.0], np.zeros((3000, 1)))
    assert growth.T - 1 - growth.overflow_step == 1751


def test_without_growth_nothing_breaks():
    growth = gradient_growth([[0.5]], T=10)
    assert growth.lost_horizon == growth.overflow_horizon == math.inf
    assert growth.overflow_step is None
    assert "no digit" not in repr(growth)
    found = json.loads(json.dumps(growth.to_dict(), allow_nan=False))
    assert found["lost_horizon"] is None
    assert found["log_norms"][-1] == 0.0


@pytest.mark.parametrize("T", [1, 2, 3])
def test_short_horizons_have_norms_but_no_rate(T):
    growth = gradient_growth([[2.0]], [[3.0]], T=T)
    np.testing.assert_allclose(growth.log_norms, np.log(3.0 * 2.0 ** np.arange(T - 1, -1, -1)))
    assert math.isnan(growth.rate)
    assert "growth per step: too few norms for a fit, predicted 2\n" in repr(growth)


def test_an_input_that_cannot_move_the_last_state():
    growth = gradient_growth([[0.0, 1.0], [0.0, 0.0]], T=6)
    assert growth.predicted_rate == -math.inf
    assert (growth.log_norms[:-2] == -np.inf).all()
    assert "0 at t = 0" in repr(growth)
    growth.plot()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"A": [[1.0]]}, lqrad.ArgumentError, "T is not given"),
        ({"A": [[1.0]], "T": 0}, lqrad.ArgumentError, "T is 0"),
        ({"A": [[[1.0]]] * 3, "T": 4}, lqrad.ArgumentError, "T is 4, but A or B is given for 3"),
        (
            {"A": [[1.0]], "T": 3, "x": [[1.0]] * 3, "S": [[1.0]]},
            lqrad.ArgumentError,
            "for 2 steps",
        ),
        ({"A": [[1.0]], "T": 3, "x0": [1.0]}, lqrad.ArgumentError, "S is not given"),
        (
            {"A": [[1.0]], "x": [[1.0]] * 3, "x0": [1.0], "S": [[1.0]]},
            lqrad.ArgumentError,
            "both given",
        ),
        ({"A": [[1.0]], "T": 3, "S": np.eye(2)}, lqrad.ShapeError, r"S has shape \(2, 2\)"),
        ({"A": [[1.0]], "T": 3, "S": [[-1.0]]}, lqrad.NotConvexError, "S has the eigenvalue"),
        ({"A": [[1.0]], "T": 3, "S": [[1.0]], "x0": 1.0}, lqrad.ShapeError, "x0 has shape"),
        ({"A": [1.0], "T": 3}, lqrad.ShapeError, r"A has shape \(1,\)"),
        ({"A": 1.0, "T": 3}, lqrad.ShapeError, r"A has shape \(\)"),
        ({"A": [[np.nan]], "T": 3}, lqrad.NonFiniteError, "A"),
        ({"A": np.eye(2), "B": np.eye(3), "T": 3}, lqrad.ShapeError, "B has shape"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        gradient_growth(**arguments)
