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


def found(rows, low, high, *, give=0.0, start=0.0, max_iter=1000):
    ones = np.ones(len(rows))
    return nearest(
        rows,
        low,
        high,
        give=give * ones,
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
