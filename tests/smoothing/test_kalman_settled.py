"""A filter whose covariances settle is run until then: what it returns is what the whole recursion does."""

from __future__ import annotations

import numpy as np
import pytest
from random_smoothing import random_case

from lqrad.smoothing import covariance_filter
from lqrad.smoothing.covariance_filter import CovarianceFilter
from lqrad.smoothing.kalman import kalman_filter, rts_smoother
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.roots import root_of

EPS = np.finfo(float).eps
ONE = np.eye(1)


def model(A, C, W, V, P0=None):
    A, C, W, V = (np.array(z, dtype=float) for z in (A, C, W, V))
    n = len(A)
    return SmoothingProblem(A, C, W, V, np.zeros(n), np.eye(n) if P0 is None else P0)


def rotation(angle, radius):
    c, s = np.cos(angle), np.sin(angle)
    return radius * np.array([[c, -s], [s, c]])


MODELS = {
    "local level": model(ONE, ONE, ONE, ONE),
    "little noise": model(ONE, ONE, 1e-4 * ONE, ONE),
    "vague start": model(ONE, ONE, ONE, ONE, 1e8 * ONE),
    "unstable": model(1.5 * ONE, ONE, ONE, ONE),
    "unstable, without noise": model(1.5 * ONE, ONE, 0 * ONE, ONE),
    "oscillates": model(rotation(1.0, 0.99), [[1, 0]], np.eye(2), 100 * ONE),
    "alternates": model([[-0.95]], ONE, ONE, 100 * ONE),
    "grows before it decays": model([[0.9, 50.0], [0, 0.9]], [[1, 0]], np.eye(2), ONE),
    "trend of rank one": model([[1, 1], [0, 1]], [[1, 0]], np.diag([0.0, 0.01]), ONE),
    "a level known from a hundredth on": model(np.eye(2), [[1, 1], [0, 1]], np.eye(2), 1e-4 * np.eye(2)),
    "small beside large": model(np.diag([0.5, 0.99]), np.eye(2), np.diag([1e-12, 1e12]), np.diag([1e-12, 1e12])),
    "a sensor that is exact": model([[0.5, 0.3], [0.2, 0.8]], [[1, 0]], np.eye(2), 0 * ONE),
    **{f"random {n}": random_case(n, n=n, ny=2, radius=0.95, T=2, varying="none", offsets=True).problem for n in (3, 5)},
}  # fmt: skip
FOREVER = {
    "a mean": model(ONE, ONE, 0 * ONE, ONE),
    "a walk that no sensor sees": model(np.eye(2), [[1, 0]], np.eye(2), ONE),
    "a known circle": model(rotation(0.1, 1.0), [[1, 0]], np.zeros((2, 2)), ONE),
}


def by_the_whole_recursion(problem, y):
    """Means and covariances, filtered and smoothed, in long doubles: ten lines, for stages one by one."""
    A, C, W, V, P = (getattr(problem, k).astype(np.longdouble) for k in ("A", "C", "W", "V", "P0"))
    x, T = problem.m0.astype(np.longdouble), len(y) - 1
    predicted, filtered = [], []
    for t in range(T + 1):
        predicted.append((x, P))
        F, e = C @ P @ C.T + V, y[t] - C @ x - problem.d
        K = np.linalg.solve(F.astype(float), (C @ P).astype(float)).T.astype(np.longdouble)
        K = K + ((C @ P).T - K @ F) @ np.linalg.inv(F.astype(float))  # to the last bits
        keep = np.eye(len(A)) - K @ C
        x, P = x + K @ e, keep @ P @ keep.T + K @ V @ K.T
        filtered.append((x, P))
        x, P = A @ x + problem.c, A @ P @ A.T + W
    return predicted, filtered


def series(problem, T):
    return np.random.default_rng(0).normal(size=(T + 1, problem.ny))


@pytest.mark.parametrize("name", [*MODELS, *FOREVER])
def test_what_has_settled_is_what_the_whole_recursion_gives(name):
    problem = (MODELS | FOREVER)[name]
    y = series(problem, 1500)
    found = kalman_filter(problem, y)
    predicted, filtered = by_the_whole_recursion(problem, y)
    for x, cov, expected in (
        (found.predicted_x, found.predicted_cov, predicted),
        (found.x, found.cov, filtered),
    ):
        means, covs = (np.array(z, dtype=float) for z in zip(*expected, strict=True))
        sizes = np.sqrt(np.diagonal(covs, axis1=1, axis2=2))
        assert (np.abs(x - means) <= 1e-11 * np.abs(means).max(axis=0)).all()
        scale = sizes[:, :, None] * sizes[:, None, :]
        assert (np.abs(cov - covs) <= 1e-11 * scale + 1e-15 * np.abs(covs).max()).all()


@pytest.mark.parametrize("T", [17, 100, 400])
@pytest.mark.parametrize("name", MODELS)
def test_the_end_of_a_series_is_that_of_a_longer_one_seen_no_further(name, T):
    """The same numbers, whether the recursion settles or ends before: NaN at the end lets it run."""
    problem = MODELS[name]
    y = series(problem, 600)
    y[T + 1 :] = np.nan
    short, long = (rts_smoother(problem, z) for z in (y[: T + 1], y))
    assert short.loglik == pytest.approx(long.loglik, rel=1e-12)
    for key in ("x", "cov"):
        a, b = getattr(short, key), getattr(long, key)[: T + 1]
        assert np.abs(a - b).max() <= 1e-11 * np.abs(b).max(), key
    assert np.abs(short.lag_cov - long.lag_cov[:T]).max() <= 1e-11 * np.abs(short.cov).max()


def stages_of(problem, T):
    data = problem.observations(series(problem, T))
    return len(CovarianceFilter(problem, data, root_of(problem.P0)).K)


@pytest.mark.parametrize("name", FOREVER)
def test_what_changes_for_ever_never_settles(name):
    assert stages_of(FOREVER[name], 2000) == 2001


def test_few_stages_are_run_where_the_closed_loop_is_fast():
    assert stages_of(MODELS["local level"], 10_000) <= 64
    assert stages_of(MODELS["little noise"], 10_000) <= 4096  # 0.99^2 at a step


def test_the_way_back_settles_for_all_stages_that_are_left(monkeypatch):
    """What changes a bit at a time is told from a limit by how many stages there are to come."""
    asked = []

    def settled(P, left, F, watched=None):
        asked.append((len(P) - 1, left, watched is None))
        return looked_at(P, left, F, watched)

    looked_at = covariance_filter.settled
    monkeypatch.setattr(covariance_filter, "settled", settled)
    problem, T = MODELS["little noise"], 4000
    rts_smoother(problem, series(problem, T))
    back = [swept + left for swept, left, alone in asked if alone]
    assert len(back) > 1
    assert set(back) == {T + 1 - stages_of(problem, T)}


def test_a_settled_filter_takes_a_batch():
    problem = MODELS["random 3"]
    y = np.random.default_rng(1).normal(size=(3, 2, 300, 2))
    whole = rts_smoother(problem, y)
    filtered = kalman_filter(problem, y)
    for index in np.ndindex(3, 2):
        one, other = rts_smoother(problem, y[index]), kalman_filter(problem, y[index])
        np.testing.assert_allclose(whole.x[index], one.x, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(filtered.x[index], other.x, rtol=1e-12, atol=1e-13)
        assert whole.loglik[index] == pytest.approx(one.loglik, rel=1e-13)
    assert whole.cov.shape == (300, 3, 3)
