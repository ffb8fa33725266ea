"""The score where the data barely determine the start, against differences in 150 digits."""

from __future__ import annotations

import numpy as np
import pytest
from random_smoothing import draw_series, exact_slope

from lqrad.arguments import EPS
from lqrad.errors import NotConvexError
from lqrad.smoothing.learning import fit
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.score import loglik_gradient
from lqrad.smoothing.start import StartedFilter, least_known

# A start that is hardly seen, as states die out; as they hardly move; in one direction, always; as one
# sensor alone sees it, twice. The last has a prior, so wide that it says as little.
KINDS = ("dying", "still", "blind", "twice", "wide")


def drawn(kind, seed):
    """A model with a start that the data barely determine, and a series of it."""
    rng = np.random.default_rng((KINDS.index(kind), seed))
    n, ny = int(rng.integers(2, 5)), 2 if kind == "twice" else 1
    A, C = rng.normal(size=(n, n)), rng.normal(size=(ny, n))
    A /= np.abs(np.linalg.eigvals(A)).max()
    N = n + int(rng.integers(3))  # how many rows have an observation
    if kind == "still":
        A = np.eye(n) + 10 ** rng.uniform(-5, -1) * A
    elif kind == "blind":
        values, basis = np.linalg.eigh(A + A.T)
        A = basis * (0.5 + 0.5 * values / np.abs(values).max()) @ basis.T
        C[0] = basis @ np.append(10 ** rng.uniform(-9, -2), rng.normal(size=n - 1))
    else:
        A *= rng.choice([0.05, 0.1] if kind == "twice" else [0.05, 0.1, 0.3, 0.6])
    if kind == "twice":
        C[1] = C[0]
    root = rng.normal(size=(n, n))
    W, V = root @ root.T / n + 0.1 * np.eye(n), np.diag(rng.uniform(0.1, 2.0, ny))
    data = {"A": A, "C": C, "W": W, "V": V, "m0": np.zeros(n), "P0": np.eye(n)}
    T = N + 7 if kind in ("dying", "twice", "wide") else N
    y = draw_series(data, T, rng)
    y[1 + rng.permutation(T)[N - 1 :]] = np.nan
    y[1:, 1:] = np.nan
    prior = {"P0": 10.0 ** rng.choice([8, 14, 20]) * np.eye(n)} if kind == "wide" else {"P0": None}
    return data | prior, y


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_exact_for_starts_that_data_barely_determine(kind):
    """To EPS over what is known of the start; 1e-10 where that is enough to estimate it on the way.

    It is measured by what it is in relative changes of an array, or 1, a unit of the log-likelihood.
    """
    hard = 0
    for seed in range(12):
        data, y = drawn(kind, seed)
        problem, rng = SmoothingProblem(**data), np.random.default_rng(seed)
        balanced, _, output = problem.balanced
        try:
            started = StartedFilter(balanced, balanced.observations(y[None] / output))
        except NotConvexError:
            with pytest.raises(NotConvexError, match="the start is not determined by the data"):
                loglik_gradient(problem, y)
            continue
        known = least_known(started.R)
        hard += known < 1e-3
        score = loglik_gradient(problem, y)
        for name in "ACWV":
            change = data[name] * rng.normal(size=data[name].shape)
            if name in "WV":
                change = change + change.T
            gradient = getattr(score, name)
            size = max(1.0, np.abs(gradient * change).sum())
            apart = np.vdot(gradient, change) - exact_slope(data, y, name, change)
            assert abs(apart) <= (1e-10 + 100 * EPS / known) * size, (seed, name, known)
    assert hard >= 4


@pytest.mark.parametrize("seed", [1, 4, 7])
def test_a_fit_finds_a_maximum_where_the_start_is_hardly_known(seed):
    data, y = drawn("dying", seed)

    def arrays(gain):
        C = data["C"].copy()
        C[0, -1] = gain
        return data | {"C": C}

    found = fit(lambda theta: SmoothingProblem(**arrays(theta[0])), [data["C"][0, -1]], y)
    assert found.status.converged
    change = np.zeros_like(data["C"])
    change[0, -1] = 1.0
    first, last = (
        exact_slope(arrays(gain), y, "C", change) for gain in (data["C"][0, -1], found.theta[0])
    )
    assert abs(last) <= 1e-5 * abs(first)
