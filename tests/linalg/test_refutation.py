"""Proofs that half-spaces have no point in common, by arithmetic; and none where they have one."""

from __future__ import annotations

import numpy as np
import pytest

from lqrad.linalg.refutation import refutation


@pytest.mark.parametrize("seed", range(30))
def test_a_proof_is_a_sum_that_says_0_below_0(seed):
    """Rows around a point, and a sum of some of them that is limited to what they exclude."""
    rng = np.random.default_rng(seed)
    r, N = int(rng.integers(5, 60)), int(rng.integers(1, 20))
    rows = rng.normal(size=(r, N))
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    middle, width = rows @ rng.normal(size=N), 10.0 ** rng.uniform(-3, 3, size=r)
    low, high = middle - width, middle + width
    low[rng.random(r) < 0.3] = -np.inf
    high[rng.random(r) < 0.3] = np.inf
    assert refutation(rows, low, high) is None

    some = rng.integers(0, r, size=3)
    weights = rng.uniform(0.5, 2, size=3) * rng.choice([-1.0, 1.0], size=3)
    low[some], high[some] = middle[some] - width[some], middle[some] + width[some]
    extra = weights @ rows[some]
    most = weights @ middle[some] + np.abs(weights) @ width[some]
    scale = np.linalg.norm(extra)
    rows = np.vstack([rows, extra / scale])
    low = np.append(low, (most + 0.1 * np.abs(weights) @ width[some]) / scale)
    high = np.append(high, np.inf)
    y = refutation(rows, low, high)
    limit = np.where(y > 0, high, low)
    assert np.isfinite(limit[y != 0]).all()
    assert np.linalg.norm(y @ rows) <= 1e-14 * np.abs(y).sum()
    assert y[y != 0] @ limit[y != 0] < 0
