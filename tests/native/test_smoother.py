"""The kernels of smoothing, by normal equations and by filters, against their twins in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from random_smoothing import GAPS, draw_series, random_case, stages, with_gaps

import lqrad
from lqrad import native
from lqrad.smoothing.covariance_filter import CovarianceFilter
from lqrad.smoothing.roots import root_of

EPS = np.finfo(float).eps
needs_kernels = pytest.mark.skipif(not native.status().in_use, reason=native.status().message)


def both(problem, y):
    """What the kernel and its twin find."""
    found = lqrad.kalman_smoother(problem, y)
    with native.switched_off():
        return found, lqrad.kalman_smoother(problem, y)


def condition(data, y, cov):
    """How much larger the variances are than those of each state with all others known, 1 / H[t, i, i]."""
    T = len(y) - 1
    s, largest = stages(data, T), 1.0
    for t in range(T + 1):
        seen = ~np.isnan(y[t])
        C, V = s["C"][t][seen], s["V"][t][np.ix_(seen, seen)]
        H = C.T @ np.linalg.solve(V, C)
        if t:
            H += np.linalg.inv(s["W"][t - 1])
        elif data["P0"] is not None:
            H += np.linalg.inv(data["P0"])
        if t < T:
            H += s["A"][t].T @ np.linalg.solve(s["W"][t], s["A"][t])
        largest = max(largest, (cov[t].diagonal() * H.diagonal()).max())
    return largest


def assert_same(found, twin, rtol=1e-13):
    """Each to so much of itself, entries of covariances beside the deviations of their states."""
    assert found.method == twin.method
    assert np.abs(found.x - twin.x).max() <= rtol * np.abs(twin.x).max()
    assert np.abs(found.p - twin.p).max() <= rtol * max(np.abs(twin.p).max(), np.abs(twin.x).max())
    np.testing.assert_allclose(found.loglik, twin.loglik, rtol=rtol, atol=10 * rtol)
    sd = np.sqrt(np.diagonal(twin.cov, axis1=-2, axis2=-1))
    assert (np.abs(found.cov - twin.cov) <= rtol * sd[..., :, None] * sd[..., None, :]).all()
    sizes = sd[..., 1:, :, None] * sd[..., :-1, None, :]
    assert (np.abs(found.lag_cov - twin.lag_cov) <= rtol * sizes).all()
    assert (found.cov == found.cov.swapaxes(-1, -2)).all()


@needs_kernels
@pytest.mark.parametrize("seed", range(60))
def test_smoothed_series_agree_with_numpy(seed):
    n = [None, 1, 2, 4, 20, 33][seed % 6]
    diffuse = n in (1, 2) and seed > 30
    T = 20 if diffuse else None
    case = random_case(seed, n=n, T=T, gaps=GAPS[seed // 6 % 6], diffuse=diffuse)
    found, twin = both(case.problem, case.y)
    # Either factor is that of an H changed by (n + 4) eps, which moves the inverse by its condition.
    moved = (case.problem.n + 4) * EPS * condition(case.data, case.y, twin.cov)
    assert_same(found, twin, 1e-13 + moved)


@needs_kernels
@pytest.mark.parametrize("n", [1, 3, 4, 12])
@pytest.mark.parametrize("missing", [0, 3])
def test_blocks_that_repeat_are_those_of_numpy(n, missing):
    """A factor that has settled stands for the rest, until a gap disturbs it."""
    case = random_case(n, n=n, ny=2, T=9, radius=0.5, varying="none", gaps="none")
    y = draw_series(case.data, 300, np.random.default_rng(n))
    y[100 : 100 + missing] = np.nan
    found, twin = both(case.problem, y)
    assert_same(found, twin)
    assert (found.cov[200] == found.cov[201]).all()


@needs_kernels
def test_a_batch_shares_what_it_has_in_common():
    case = random_case(1, n=4, ny=2, T=20, varying="none", gaps="none")
    rng = np.random.default_rng(0)
    y = np.array([draw_series(case.data, 20, rng) for _ in range(5)])
    y[:, 4] = np.nan
    assert_same(*both(case.problem, y))
    mixed = np.array([with_gaps(series, kind, rng) for series, kind in zip(y, GAPS, strict=False)])
    assert_same(*both(case.problem, mixed))


@needs_kernels
@pytest.mark.parametrize("seed", range(36))
def test_filters_and_the_way_back_agree_with_numpy(seed):
    """One series, several with the same gaps, and several with gaps of their own."""
    case = random_case(seed, n=[None, 1, 4, 13][seed % 4], gaps=GAPS[seed % 6], diffuse=False)
    rng = np.random.default_rng(seed)
    y = case.y
    if seed % 3:
        y = np.array([draw_series(case.data, case.T, rng) for _ in range(3)])
        y = np.where(np.isnan(case.y), np.nan, y)
    if seed % 3 == 2:
        y = np.array([with_gaps(one, kind, rng) for one, kind in zip(y, GAPS[:3], strict=True)])
    for function in (lqrad.kalman_filter, lqrad.rts_smoother):
        found = function(case.problem, y)
        with native.switched_off():
            twin = function(case.problem, y)
        for name, array in vars(twin).items():
            if isinstance(array, np.ndarray):
                size = np.nanmax(np.abs(array), initial=0.0)
                if name == "p":
                    size = max(size, np.abs(twin.x).max())
                np.testing.assert_allclose(
                    getattr(found, name), array, rtol=1e-13, atol=1e-13 * size, err_msg=name
                )
        np.testing.assert_allclose(found.loglik, twin.loglik, rtol=1e-13, atol=1e-12)


@needs_kernels
@pytest.mark.parametrize("count", [1, 2, 13])
@pytest.mark.parametrize("size", [1e8, 1e14, 1e18])
def test_a_vague_prior_costs_neither_the_kernels_nor_numpy_digits(size, count):
    """Where the reflections leave rows as they stand, the twins differ by up to 1e-7."""
    rng = np.random.default_rng(count)
    A, C = np.eye(3) + np.eye(3, k=1), np.eye(1, 3)
    data = {
        "A": A,
        "C": C,
        "W": np.eye(3),
        "V": np.eye(1),
        "m0": np.zeros(3),
        "P0": size * np.eye(3),
    }
    y = draw_series(data | {"P0": np.eye(3)}, 12, rng)
    y = np.array([with_gaps(y, "rows", rng) for _ in range(count)])
    problem = lqrad.SmoothingProblem(**data)
    found = lqrad.rts_smoother(problem, y)
    with native.switched_off():
        assert_same(found, lqrad.rts_smoother(problem, y))


@needs_kernels
@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_filters_side_by_side_are_those_of_each_alone(n):
    """To the last bit: their sums have one order."""
    case = random_case(n, n=n, ny=2, T=9, varying="none", gaps="none")
    rng = np.random.default_rng(n)
    y = np.array([with_gaps(case.y, GAPS[k % 5], rng) for k in range(11)])
    for function in (lqrad.kalman_filter, lqrad.rts_smoother):
        together = function(case.problem, y)
        for i, one in enumerate(y):
            alone = function(case.problem, one)
            assert together.cov.ndim == 4
            assert np.array_equal(together.cov[i], alone.cov)
            assert np.array_equal(together.x[i], alone.x)


@needs_kernels
@pytest.mark.parametrize("n", [1, 3])
def test_what_rounding_leaves_is_told_as_by_numpy(n):
    """But for the order of rows, which a root of the update depends on."""
    case = random_case(2, n=n, ny=2, T=20, varying="none", gaps="none")
    data = case.problem.observations(case.y)
    found = CovarianceFilter(case.problem, data, root_of(case.problem.P0)).rounding
    with native.switched_off():
        twin = CovarianceFilter(case.problem, data, root_of(case.problem.P0)).rounding
    assert (found[0] == 0).all()
    few = slice(1, min(len(found), len(twin)))  # until either has settled
    ratio = found[few] / twin[few]
    assert (ratio <= n + 1e-9).all()
    assert (ratio >= 1 / (n + 1e-9)).all()
