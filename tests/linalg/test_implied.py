"""Implications within a polytope: what is said to be proven holds in rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from lqrad.linalg.implied import Rows


def exact(rows, y, g, A):
    """The bound sum y limit + |g A - y'E|'reach in rational numbers."""
    y, g = [Fraction(z) for z in y], [Fraction(z) for z in g]
    limits = [rows.sides[j, 0] if z > 0 else -rows.sides[j, 1] for j, z in enumerate(y)]
    total = sum((z * Fraction(h) for z, h in zip(y, limits, strict=True) if z), Fraction(0))
    for i in range(len(g)):
        a = sum((p * Fraction(z) for p, z in zip(g, A[:, i], strict=True)), Fraction(0))
        a -= sum((z * Fraction(e) for z, e in zip(y, rows.E[:, i], strict=True)), Fraction(0))
        total += abs(a) * Fraction(rows.reach[i])
    return total


def test_a_limit_that_is_just_implied_is_said_to_be_so_only_where_it_is():
    """Limits some rounding errors above and below the largest value: at each answer, the exact bound."""
    said = {True: 0, False: 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 5))
        rows = Rows(rng.normal(size=(3 * n, n)), rng.uniform(0.5, 1.0, size=(3 * n, 2)))
        assert rows.bound() is not None
        g, A = rng.normal(size=n), rng.normal(size=(n, n))
        E, h = np.vstack([rows.E, -rows.E]), rows.sides.T.ravel()
        most = -linprog(-g @ A, A_ub=E, b_ub=h, bounds=(None, None)).fun
        for ulps in (-100, -3, -1, 0, 1, 3, 100, 10**4):
            limit = most * (1 + ulps * 2.0**-52)
            found = rows.implied(g, limit, A)
            said[found is not None] += 1
            if found is not None:
                assert exact(rows, found, g, A) <= Fraction(limit)
    assert min(said.values()) > 40


def test_without_a_reach_only_an_exact_sum_is_a_proof():
    rows = Rows(np.array([[0.5, 0.25]]), np.ones((1, 2)))
    assert rows.bound() is None
    np.testing.assert_array_equal(rows.implied(np.array([0.25, 0.125]), 0.5), [0.5])
    assert rows.implied(np.array([0.25, 0.125 + 2**-54]), 0.6) is None


def test_an_equality_adds_up_to_others_or_is_new():
    rows = Rows(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]), np.zeros((3, 2)))
    rows.sides[2] = 1.0
    np.testing.assert_allclose(rows.adds_up(np.array([2.0, 3.0, 1.0])), [2.0, 1.0, 0.0], rtol=1e-14)
    np.testing.assert_allclose(
        rows.adds_up(np.array([2.0, 3.0, 1.0]), side=1), [-2.0, -1.0, 0.0], rtol=1e-14
    )
    assert rows.adds_up(np.array([1.0, 0.0, 0.0])) is None


def test_reach_holds_the_polytope():
    rows = Rows(np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[1.0, 2.0], [1.0, 1.0]]))
    around = rows.bound()
    np.testing.assert_allclose(rows.reach, [1.5, 1.5], rtol=1e-8)
    assert around.shape == (2, 2, 2)
