"""The Nile as published, and agreement with statsmodels where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from random_smoothing import distance, random_case, stages

from lqrad.datasets import load
from lqrad.smoothing.kalman import kalman_filter, kalman_smoother, rts_smoother
from lqrad.smoothing.model import SmoothingProblem

YEARS, FLOW = load("nile")[0], load("nile")[1][:, 0]
NAN = np.nan
LOG_2PI = np.log(2 * np.pi)

# The maximum-likelihood variances of Durbin and Koopman (2012), section 2.10.
V, W = 15099.0, 1469.1
Q = W / V


def local_level(V, W, *, P0=None):
    one = np.eye(1)
    return SmoothingProblem(one, one, W * one, V * one, None if P0 is None else [0.0], P0)


# --- the Nile --------------------------------------------------------------------------------


def test_the_series_is_the_one_that_everybody_has():
    assert FLOW.shape == YEARS.shape == (100,)
    assert (FLOW[0], FLOW[42], FLOW[-1]) == (1120, 456, 740)  # 1913 was the driest year
    assert (FLOW.sum(), FLOW.min(), FLOW.max()) == (91935, 456, 1370)
    sm = pytest.importorskip("statsmodels.api")
    theirs = sm.datasets.nile.load_pandas().data
    assert np.array_equal(theirs["volume"], FLOW)
    assert np.array_equal(theirs["year"], YEARS)


def test_the_nile_has_the_published_diffuse_likelihood():
    """Durbin and Koopman, table 2.1: -492.07, which leaves out the constants 50 log(2 pi) + 99/2.

    The vignette of the R package statspacer on the local level model ends its search at 6.334646,
    which is minus the log-likelihood over 100. Without a log(2 pi) for the first observation, which
    only starts the level, it is -632.5456; a vague prior of 1e6 and the first term left out give
    the -632.54 (-632.538) that statsmodels prints.
    """
    loglik = kalman_smoother(local_level(V, W), FLOW[:, None]).loglik
    assert loglik + 50 * LOG_2PI + 99 / 2 == pytest.approx(-492.07, abs=0.005)
    assert loglik == pytest.approx(-633.4646, abs=5e-5)
    assert loglik + LOG_2PI / 2 == pytest.approx(-632.5456, abs=5e-5)
    vague = kalman_smoother(local_level(V, W, P0=[[1e6]]), FLOW[:, None]).loglik
    first = -0.5 * (LOG_2PI + np.log(1e6 + V) + FLOW[0] ** 2 / (1e6 + V))
    assert vague - first == pytest.approx(-632.538, abs=5e-4)


def test_the_likelihood_is_that_of_the_published_search():
    """Table 2.1: the likelihood with the scale of both variances maximised out, at each step of q.

    With a diffuse start and W = q V, the best V makes the standardised innovations (all but the
    first) have the mean square 1: it is n - 1 in place of the quadratic form in the likelihood.
    """
    y, n = FLOW[:, None], 100
    for q, published in [(1.0, -495.68), (0.0360, -492.53), (0.0745, -492.10), (0.0973, -492.07)]:
        small, unit = (kalman_smoother(local_level(s, s * q), y).loglik for s in (1e4, 2e4))
        # loglik(s) = a - (n - 1)/2 log s - b / (2 s) determines b, from two s.
        b = (small - unit - (n - 1) / 2 * np.log(2)) / (1 / 4e4 - 1 / 2e4)
        best = b / (n - 1)
        loglik = kalman_smoother(local_level(best, best * q), y).loglik
        assert loglik + 50 * LOG_2PI + 99 / 2 == pytest.approx(published, abs=0.01)
    assert best == pytest.approx(V, rel=1e-3)


def test_the_published_variances_are_where_the_score_vanishes():
    """A Newton step from there changes the variances by less than the rounding of their print."""

    def loglik(scale_V, scale_W):
        return kalman_smoother(local_level(V * scale_V, W * scale_W), FLOW[:, None]).loglik

    top, h = loglik(1, 1), 1e-2
    for step in [(1, 0), (0, 1)]:
        ahead, behind = (loglik(*(np.exp(sign * h * np.array(step)))) for sign in (1, -1))
        slope, curvature = (ahead - behind) / (2 * h), (ahead - 2 * top + behind) / h**2
        assert curvature < 0
        assert abs(slope / curvature) < 1e-4  # of the logarithm of the variance


def test_the_nile_is_smoothed_as_published():
    """Durbin and Koopman, section 2.11: the predicted variance settles at x V, x^2 - q x - q = 0.

    The smoothed one, in the middle, is what past and future tell together.
    """
    result = kalman_smoother(local_level(V, W), FLOW[:, None])
    predicted = (Q + np.sqrt(Q**2 + 4 * Q)) / 2 * V
    assert predicted == pytest.approx(5501.258, abs=5e-3)
    filtered = predicted * V / (predicted + V)
    assert filtered == pytest.approx(4032.158, abs=5e-3)
    # The first and the last year know one side only; between them, both sides' information.
    assert result.cov[[0, -1]].ravel() == pytest.approx([filtered] * 2, rel=1e-9)
    middle = 1 / (1 / filtered + 1 / predicted)
    assert result.cov[50].item() == pytest.approx(middle, rel=1e-9)
    assert result.lag_cov[50].item() == pytest.approx(middle * filtered / predicted, rel=1e-9)
    # The level as statsmodels prints it.
    level = dict(zip(YEARS, result.x[:, 0], strict=True))
    published = {1871: 1111.668, 1872: 1110.858, 1873: 1105.266, 1970: 798.370}
    for year, value in published.items():
        assert level[year] == pytest.approx(value, abs=5e-4)


def test_the_nile_with_its_gaps_is_interpolated_as_published():
    """Section 2.7 takes out observations 21 to 40 and 61 to 80: the level is then a straight line."""
    y = FLOW[:, None].copy()
    y[20:40], y[60:80] = NAN, NAN
    problem = local_level(V, W)
    result = kalman_smoother(problem, y)
    for start, stop in [(19, 41), (59, 81)]:
        bends = np.diff(result.x[start:stop, 0], n=2)
        assert np.abs(bends).max() <= 1e-9
        widths = result.cov[start:stop, 0, 0]
        assert widths.argmax() in (10, 11)  # widest in the middle, as figure 2.5 shows
    known = local_level(V, W, P0=[[1e7]])  # and the filter stays where the data left it
    assert np.ptp(kalman_filter(known, y).x[19:40, 0]) <= 1e-9


# --- statsmodels -----------------------------------------------------------------------------


def statsmodels_smoothed(data, y):
    """The same by statsmodels, with its habit of freezing the recursions switched off."""
    smoother = pytest.importorskip("statsmodels.tsa.statespace.kalman_smoother")
    initialization = pytest.importorskip("statsmodels.tsa.statespace.initialization")
    T, n, ny = len(y) - 1, data["A"].shape[-1], data["C"].shape[-2]
    s = stages(data, T)
    # Theirs has a transition after the last observation too, which nothing depends on.
    after = {name: np.concatenate([s[name], s[name][-1:]]) for name in ("A", "W", "c")}
    model = smoother.KalmanSmoother(ny, n, k_posdef=n)
    model.bind(np.array(y))
    model["design"], model["obs_cov"] = s["C"].transpose(1, 2, 0), s["V"].transpose(1, 2, 0)
    model["transition"], model["selection"] = after["A"].transpose(1, 2, 0), np.eye(n)
    model["state_cov"], model["state_intercept"] = after["W"].transpose(1, 2, 0), after["c"].T
    model["obs_intercept"] = s["d"].T
    if data["P0"] is None:
        model.initialize(initialization.Initialization(n, "diffuse"))
    else:
        model.initialize_known(data["m0"], data["P0"])
    model.tolerance = 0
    result = model.smooth()
    return (
        result.smoothed_state.T,
        result.smoothed_state_cov.transpose(2, 0, 1),
        result.smoothed_state_autocov.transpose(2, 0, 1)[:-1],
        result.llf,
        result.nobs_diffuse,
    )


def assert_agreement(smooth, data, y, rtol):
    x, cov, lag_cov, loglik, diffuse = statsmodels_smoothed(data, y)
    result = smooth(SmoothingProblem(**data), y)
    assert distance(result.x, x) <= rtol
    assert distance(result.cov, cov) <= rtol
    # It leaves the lag-one covariances of its diffuse steps at zero.
    assert distance(result.lag_cov[diffuse:], lag_cov[diffuse:]) <= rtol
    assert result.loglik == pytest.approx(loglik, rel=rtol)


def local_linear_trend():
    """A level and a slope, both moving, on a rising series with gaps."""
    rng = np.random.default_rng(0)
    data = {
        "A": np.array([[1.0, 1.0], [0.0, 1.0]]),
        "C": np.array([[1.0, 0.0]]),
        "W": np.diag([0.5, 0.1]),
        "V": np.array([[2.0]]),
    }
    y = np.cumsum(np.cumsum(rng.normal(size=80)))[:, None]
    y[[0, 5, 6, 30]], y[60:66] = NAN, NAN
    return data, y


def second_order_autoregression():
    """In companion form, observed without error: W and V are singular, and P0 is stationary."""
    rng = np.random.default_rng(1)
    data = {
        "A": np.array([[0.5, 0.3], [1.0, 0.0]]),
        "C": np.array([[1.0, 0.0]]),
        "W": np.diag([1.5, 0.0]),
        "V": np.zeros((1, 1)),
    }
    y = rng.normal(size=(60, 1))
    y[10:14], y[40] = NAN, NAN
    return data, y


def time_varying_regression():
    """Three coefficients in random walks, on regressors that are the rows of C."""
    rng = np.random.default_rng(2)
    C = np.concatenate([np.ones((70, 1, 1)), rng.normal(size=(70, 1, 2))], axis=2)
    data = {
        "A": np.eye(3),
        "C": C,
        "W": np.diag([0.1, 0.02, 0.03]),
        "V": np.array([[0.4]]),
        "d": np.linspace(0, 3, 70)[:, None],
    }
    y = rng.normal(size=(70, 1)) + 2
    y[20:25] = NAN
    return data, y


MODELS = [local_linear_trend, second_order_autoregression, time_varying_regression]


@pytest.mark.parametrize("smooth", [kalman_smoother, rts_smoother])
@pytest.mark.parametrize("model", MODELS)
def test_statsmodels_agrees_with_a_prior(model, smooth):
    data, y = model()
    n = data["A"].shape[-1]
    data |= {"m0": np.linspace(1, 2, n), "P0": 3 * np.eye(n)}
    assert_agreement(smooth, data, y, 1e-10)


@pytest.mark.parametrize("model", [local_linear_trend, time_varying_regression])
def test_statsmodels_agrees_without_a_prior(model):
    """Its exact diffuse recursions follow Durbin and Koopman's chapter 5, ours the least squares."""
    data, y = model()
    assert_agreement(kalman_smoother, data | {"m0": None, "P0": None}, y, 1e-9)


def test_statsmodels_agrees_on_the_nile():
    one = np.eye(1)
    data = {"A": one, "C": one, "W": W * one, "V": V * one, "m0": None, "P0": None}
    assert_agreement(kalman_smoother, data, FLOW[:, None], 1e-11)


@pytest.mark.parametrize("seed", range(6))
def test_statsmodels_agrees_on_random_problems(seed):
    case = random_case(seed, n=[2, 3, 4][seed % 3], ny=[1, 2, 3][seed % 3], T=20, gaps="both")
    assert_agreement(kalman_smoother, case.data, case.y, 1e-10)
