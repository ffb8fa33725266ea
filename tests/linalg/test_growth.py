"""Norms of long products against multiple precision, and where their scales are far apart."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from random_problems import with_spectral_radius

from lqrad.linalg.growth import adjoint_growth, free_response


def oracle(A, B, seed, T, steps):
    """The logarithms of |B'(A')^k seed|_2 by mpmath, with the digits that the growth needs."""
    with mpmath.workdps(60):
        At, Bt = mpmath.matrix(A.T.tolist()), mpmath.matrix(B.T.tolist())
        M, found = mpmath.matrix(seed.tolist()), {}
        for t in range(T - 1, -1, -1):
            if t in steps:
                G = Bt * M
                largest = mpmath.sqrt(max(mpmath.eigsy(G * G.T, eigvals_only=True)))
                found[t] = float(mpmath.log(largest))
            M = At * M
    return found


@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (2, 2, 2), (4, 1, 4), (5, 2, 3), (6, 2, 1)])
def test_logarithms_are_those_of_multiple_precision_where_the_norms_overflow(n, m, k):
    rng = np.random.default_rng(n)
    T = 2000
    A, B = with_spectral_radius(rng.normal(size=(n, n)), 2.0), rng.normal(size=(n, m))
    seed = rng.normal(size=(n, k))
    log_norms, _ = adjoint_growth(A, B, seed, T)
    expected = oracle(A, B, seed, T, {0, 1, 500, 1500, T - 2, T - 1})
    assert expected[0] > 1380  # exp(710) is the largest float
    for t, value in expected.items():
        assert log_norms[t] == pytest.approx(value, abs=1e-11, rel=1e-12)


@pytest.mark.parametrize("spread", [3, 20, 40])
@pytest.mark.parametrize("seeded", [False, True])
def test_the_units_of_the_states_do_not_matter(spread, seeded):
    """States in units of powers of two far apart, up to 1e12."""
    rng = np.random.default_rng(3)
    n, T = 4, 500
    D = 2.0 ** np.array([0, spread, -spread // 2, 7])
    A = with_spectral_radius(rng.normal(size=(n, n)), 1.2) * D[:, None] / D
    B = rng.normal(size=(n, 2)) * D[:, None]
    seed = rng.normal(size=(n, 3)) / D[:, None] if seeded else None
    log_norms, _ = adjoint_growth(A, B, seed, T)
    expected = oracle(A, B, np.eye(n) if seed is None else seed, T, {0, 1, 250, T - 1})
    for t, value in expected.items():
        assert log_norms[t] == pytest.approx(value, abs=1e-10)


def test_products_are_those_of_a_loop_where_everything_varies():
    rng = np.random.default_rng(1)
    T, n, m = 30, 3, 2
    A, B, seed = rng.normal(size=(T, n, n)), rng.normal(size=(T, n, m)), rng.normal(size=(n, 2))
    log_norms, exponents = adjoint_growth(A, B, seed, T)
    M = seed
    for t in range(T - 1, -1, -1):
        assert log_norms[t] == pytest.approx(np.log(np.linalg.norm(B[t].T @ M, 2)), abs=1e-12)
        M = A[t].T @ M
    # The diagonal of the triangular factor of the whole product, over that of the seed.
    ends = [np.log(np.abs(np.diag(np.linalg.qr(z)[1]))) for z in (M, seed)]
    np.testing.assert_allclose(exponents, (ends[0] - ends[1]) / T, atol=1e-12)


def test_a_decaying_direction_is_not_lost_under_one_that_grows():
    for A, B in (([2, 0.5], [0, 1]), ([0.5, 2], [1, 0])):
        log_norms, _ = adjoint_growth(np.diag(A), np.array([B]).T * 1.0, None, 3000)
        np.testing.assert_allclose(log_norms / np.log(0.5), np.arange(2999, -1, -1), atol=1e-9)


def test_products_longer_than_one_piece_are_the_same(monkeypatch):
    rng = np.random.default_rng(2)
    A, B = rng.normal(size=(3, 3)), rng.normal(size=(3, 2))
    whole = adjoint_growth(A, B, None, 100)
    monkeypatch.setattr("lqrad.linalg.growth._KEPT", 7 * 15)
    for a, b in zip(whole, adjoint_growth(A, B, None, 100), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_nilpotent_matrix_and_an_input_without_effect_give_minus_infinity():
    shift = np.diag([1.0, 1.0], 1)
    log_norms, exponents = adjoint_growth(shift, np.eye(3), None, 5)
    np.testing.assert_array_equal(log_norms, [-np.inf, -np.inf, 0.0, 0.0, 0.0])
    assert exponents.max() == -np.inf
    log_norms, _ = adjoint_growth(np.eye(2), np.zeros((2, 1)), None, 3)
    np.testing.assert_array_equal(log_norms, -np.inf)


def test_entries_near_the_limits_of_floating_point():
    log_norms, _ = adjoint_growth(np.full((3, 3), 1.7e308), np.full((3, 1), 1.7e308), None, 3)
    # A = 3 a v v' with the unit vector v of ones, and B = sqrt(3) a v.
    expected = np.log(1.7e308 * 1.0) + np.log(3) / 2 + np.arange(2, -1, -1) * np.log(1.7e308)
    np.testing.assert_allclose(log_norms, expected + np.arange(2, -1, -1) * np.log(3), rtol=1e-14)
    for size in (1e150, 1e-150):
        log_norms, exponents = adjoint_growth(size * np.eye(2), np.eye(2), None, 50)
        np.testing.assert_allclose(log_norms, np.arange(49, -1, -1) * np.log(size), rtol=1e-14)
        np.testing.assert_allclose(exponents, np.log(size), rtol=1e-14)


def test_a_free_response_beyond_the_largest_number():
    A, x0 = np.array([[1.5, 1.0], [0.0, 0.25]]), np.array([1.0, 2.0])
    x, scale = free_response(A, x0, 3000)
    # The eigenvector of 1.5 is [1, 0]; x0 has the part 1 + 2 / 1.25 of it.
    assert scale + np.log(x[0]) == pytest.approx(3000 * np.log(1.5) + np.log(2.6), abs=1e-10)
    x, scale = free_response(np.array([A, 2 * A]), x0, 2)
    np.testing.assert_allclose(np.exp(scale) * x, 2 * A @ A @ x0, rtol=1e-14)
