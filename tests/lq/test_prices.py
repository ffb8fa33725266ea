"""What excesses of rows cost, against the least of the Lagrangian on a grid."""

from __future__ import annotations

import numpy as np

from lqrad.lq.prices import Prices


def test_the_gap_is_the_cost_of_an_excess_above_the_least_of_the_lagrangian():
    """Below, at and above the price; the row beyond its limit by d, the excess e no less."""
    rng = np.random.default_rng(0)
    below = above = 0
    for _ in range(300):
        price, spring = rng.uniform(0, 2), rng.uniform(0.5, 2) * (rng.random() < 0.7)
        prices = Prices(np.array([price]), np.array([spring]))
        y = rng.uniform(-3, 3) if spring else rng.uniform(-price, price)
        e = rng.uniform(0, 2)
        d = e - rng.uniform(0, 1)
        grid = np.linspace(0, 10, 100_001)
        least = (price * grid + 0.5 * spring * grid**2 - abs(y) * grid).min()
        expected = price * e + 0.5 * spring * e**2 - abs(y) * d - least
        (found,) = prices.gap(np.array([y]), np.array([e]), np.array([d]))
        assert found >= 0
        np.testing.assert_allclose(found, expected, atol=1e-8)
        below, above = below + (abs(y) < price), above + (abs(y) > price)
    assert min(below, above) > 50


def test_a_hard_row_pays_by_its_multiplier_and_a_row_without_one_pays_for_its_excess():
    prices = Prices(np.array([np.inf, 3.0]), np.array([0.0, 0.0]))
    y, e, d = np.array([-2.0, 0.0]), np.array([0.0, 0.5]), np.array([-0.25, 7.0])
    np.testing.assert_array_equal(prices.gap(y, e, d), [0.5, 1.5])
    np.testing.assert_array_equal(prices.of(np.array([9.0, 0.5])), [0.0, 1.5])
