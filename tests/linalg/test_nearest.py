"""The nearest point of a polyhedron, against non-negative least squares and by its own conditions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog, nnls

from lqrad.linalg.nearest import nearest


def drawn(seed):
    """Unit rows, more or fewer than dimensions, some of them said twice; limits of either side."""
    rng = np.random.default_rng(seed)
    N, r = int(rng.integers(1, 9)), int(rng.integers(1, 20))
    rows = rng.normal(size=(r, N))
    if rng.random() < 0.3:
        rows = np.vstack([rows, rows[:2]])
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    middle = rng.normal(size=len(rows)) if rng.random() < 0.4 else rows @ rng.normal(size=N)
    width = rng.uniform(0, 2, size=len(rows)) * (rng.random(len(rows)) < 0.8)
    low, high = middle - width, middle + width
    low[rng.random(len(rows)) < 0.4] = -np.inf
    high[rng.random(len(rows)) < 0.4] = np.inf
    return rows, low, high


def found(rows, low, high, *, give=0.0, price=0.0, start=0.0, max_iter=1000):
    ones = np.ones(len(rows))
    return nearest(
        rows,
        low,
        high,
        give=give * ones,
        price=price * ones,
        slack=1e-10 * ones,
        rounding=1e-14 * ones,
        refutes=lambda y: False,
        start=start * ones,
        max_iter=max_iter,
    )


def half_spaces(rows, low, high):
    """The limits that there are, as a'w <= h."""
    a, h = np.vstack([rows, -rows]), np.concatenate([high, -low])
    return a[np.isfinite(h)], h[np.isfinite(h)]


def test_it_is_the_dual_of_non_negative_least_squares():
    """Least |(a'y, h'y) + (0, 1)| with y >= 0 (Lawson and Hanson, chapter 23), and its verdicts."""
    impossible = 0
    for seed in range(300):
        rows, low, high = drawn(seed)
        a, h = half_spaces(rows, low, high)
        if not len(h):
            continue
        result = found(rows, low, high)
        y, _ = nnls(np.hstack([-a, -h[:, None]]).T, np.append(np.zeros(rows.shape[1]), 1.0))
        residual = np.append(-a.T @ y, -h @ y - 1.0)
        feasible = linprog(np.zeros(a.shape[1]), A_ub=a, b_ub=h + 1e-11, bounds=(None, None))
        assert result.finished == (feasible.status == 0), seed
        assert result.finished != (result.proof is not None), seed
        if result.finished:
            np.testing.assert_allclose(
                result.w, -residual[:-1] / residual[-1], atol=1e-7 * (1 + np.abs(result.w).max())
            )
        else:
            impossible += 1
            check_proof(result.proof, rows, low, high)
    assert 30 < impossible < 270


def check_proof(y, rows, low, high):
    """The sum of half-spaces has no w in it, and says 0 <= sum y limit < 0."""
    limits = np.where(y > 0, high, low)[y != 0] @ y[y != 0]
    assert np.abs(y @ rows).max() <= 1e-12 * np.abs(y).sum()
    assert limits < -1e-9 * np.abs(y).max()


@pytest.mark.parametrize("give", [1e-6, 1.0, 1e6])
def test_springs_keep_their_conditions(give):
    """They are w = -rows'y, an excess of give y where y is not zero, and none where it is."""
    for seed in range(60):
        rows, low, high = drawn(seed)
        result = found(rows, low, high, give=give)
        g, y = rows @ result.w, result.y
        assert result.finished
        np.testing.assert_allclose(result.w, -rows.T @ y, atol=1e-9 * (1 + np.abs(y).max()))
        size = 1e-8 * (1 + give) * (1 + np.abs(y).max())
        np.testing.assert_allclose((g - high)[y > 0], give * y[y > 0], atol=size)
        np.testing.assert_allclose((g - low)[y < 0], give * y[y < 0], atol=size)
        assert (g[y == 0] <= high[y == 0] + 1e-9).all()
        assert (g[y == 0] >= low[y == 0] - 1e-9).all()


def test_each_step_gives_a_higher_bound_and_any_start_the_same_end():
    for seed in range(60):
        rows, low, high = drawn(seed)
        end = found(rows, low, high)
        values = [np.linalg.norm(found(rows, low, high, max_iter=k).w) for k in range(8)]
        if end.finished:
            assert (np.diff(values) >= -1e-12 * np.linalg.norm(end.w)).all()
            assert values[-1] <= np.linalg.norm(end.w) * (1 + 1e-12)
        start = np.random.default_rng(seed).normal(size=len(rows))
        other = found(rows, low, high, start=start)
        assert other.finished == end.finished
        if end.finished:
            np.testing.assert_allclose(other.w, end.w, atol=1e-8 * (1 + np.abs(end.w).max()))


def of_every_kind(seed):
    """Limits of which some are hard, some springs, some priced, some both: what give and price are."""
    rows, low, high = drawn(seed)
    rng = np.random.default_rng([seed, 1])
    kind = rng.integers(0, 4, size=len(rows))
    stiff = 10 ** rng.uniform(-3, 3, size=len(rows))
    give = np.choose(kind, [np.zeros(len(rows)), stiff, np.full(len(rows), np.inf), stiff])
    return rows, low, high, give, np.where(kind >= 2, 10 ** rng.uniform(-2, 1, len(rows)), 0.0)


def test_prices_keep_the_conditions_of_optimality():
    """The problem is convex: w = -rows'y and s = give max(|y| - price, 0) prove the minimum."""
    past, proofs = 0, 0
    for seed in range(300):
        rows, low, high, give, price = of_every_kind(seed)
        start = np.random.default_rng(seed).normal(size=len(rows)) * (seed % 2)
        result = found(rows, low, high, give=give, price=price, start=start)
        if not result.finished:
            check_proof(result.proof, rows, low, high)
            assert not result.proof[give > 0].any()
            proofs += 1
            continue
        g, y = rows @ result.w, result.y
        np.testing.assert_allclose(result.w, -rows.T @ y, atol=1e-11 * (1 + np.abs(y).max()))
        size = 1e-9 * (1 + np.abs(g).max() + np.abs(y).max())
        excess = np.where(y > 0, g - high, low - g)
        tight, over = (y != 0) & (np.abs(y) < price * (1 - 1e-12)), np.abs(y) > price
        hard, priced = give == 0, np.isinf(give)
        assert np.abs(excess[tight | ((y != 0) & hard)]).max(initial=0.0) <= size
        assert (np.abs(y[priced]) <= price[priced]).all()
        assert excess[priced & (y != 0)].min(initial=0.0) >= -size
        spring = over & ~hard
        gives_way = give[spring] * (np.abs(y) - price)[spring]
        np.testing.assert_allclose(excess[spring], gives_way, atol=1e3 * size)
        assert np.maximum(g - high, low - g)[y == 0].max(initial=-1.0) <= 1e-9
        past += int((np.abs(y) >= price)[(y != 0) & ~hard].sum())
    assert past > 300
    assert proofs > 2


def test_a_price_above_the_largest_multiplier_is_exact():
    """One of 1/2 |w| beside so many unit rows is not: |w| = |rows'y| is half of what it was."""
    exact = 0
    for seed in range(100):
        rows, low, high = drawn(seed)
        hard = found(rows, low, high)
        if not hard.finished or not hard.y.any():
            continue
        most = np.abs(hard.y).max()
        soft = found(rows, low, high, give=np.inf, price=1.001 * most)
        np.testing.assert_allclose(soft.w, hard.w, atol=1e-8 * (1 + np.abs(hard.w).max()))
        length = np.linalg.norm(hard.w)
        cheap = found(rows, low, high, give=np.inf, price=0.5 * length / len(rows))
        assert np.linalg.norm(cheap.w) <= 0.5 * length * (1 + 1e-12)
        exact += 1
    assert exact > 30
