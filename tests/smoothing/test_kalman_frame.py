"""Smoothed series as pandas has them: in and out with their dates, and a word where it is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lqrad.errors import LqradError, ShapeError
from lqrad.smoothing.kalman import kalman_smoother, rts_smoother
from lqrad.smoothing.model import SmoothingProblem

MODEL = SmoothingProblem(
    [[1.0, 1.0], [0.0, 1.0]], [[1.0, 0.0]], np.diag([0.1, 0.2]), [[0.5]], [0.0, 0.0], np.eye(2)
)
Y = np.array([[0.0], [1.1], [np.nan], [2.9]])


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas")


@pytest.mark.parametrize("smooth", [kalman_smoother, rts_smoother])
def test_a_frame_holds_means_and_standard_deviations(pandas, smooth):
    result = smooth(MODEL, Y)
    frame = result.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    deviations = ["sd[0]", "sd[1]", "sd_level[0]", "sd_y[0]"]
    assert list(frame.columns) == ["x[0]", "x[1]", "y[0]", *deviations]
    assert list(frame.index) == [0, 1, 2, 3]
    assert np.array_equal(frame[["x[0]", "x[1]"]], result.x)
    for t in range(4):
        assert frame["sd[0]"][t] == np.sqrt(result.cov[t, 0, 0])
        assert frame["sd[1]"][t] == np.sqrt(result.cov[t, 1, 1])


def test_the_band_of_an_observation_holds_95_percent_of_the_future():
    """Of 200 series; that of the level holds fewer. Beside the formula, with the sensor's noise added."""
    rng = np.random.default_rng(0)
    model = SmoothingProblem([[1.0]], [[2.0]], [[1.0]], [[4.0]], None, None, d=[3.0])
    n, h, hits = 120, 12, []
    for _ in range(200):
        x = np.cumsum(rng.normal(size=n + h))
        y = 2 * x + 3 + 2 * rng.normal(size=n + h)
        result = kalman_smoother(model, np.r_[y[:n], np.full(h, np.nan)])
        mean, level_cov, cov = (a.ravel() for a in result.outputs())
        np.testing.assert_allclose(cov, 4 * result.cov.ravel() + 4, rtol=1e-12)
        off = np.abs(y - mean)[n:]
        hits.append([(off < 1.96 * np.sqrt(v[n:])).mean() for v in (cov, level_cov)])
    of_y, of_level = np.mean(hits, axis=0)
    assert of_y == pytest.approx(0.95, abs=0.015)
    assert of_level < 0.93


def test_the_forecast_is_as_uncertain_as_that_of_statsmodels(pandas):
    api = pytest.importorskip("statsmodels.api")
    y = np.cumsum(np.random.default_rng(0).normal(size=40))
    theirs = api.tsa.UnobservedComponents(y, "llevel").smooth([4.0, 1.0]).get_forecast(6)
    model = SmoothingProblem([[1.0]], [[1.0]], [[1.0]], [[4.0]], None, None)
    frame = kalman_smoother(model, np.r_[y, np.full(6, np.nan)]).to_frame()
    # theirs starts from the variance 1e6, not from none
    np.testing.assert_allclose(frame["sd_y[0]"][-6:], theirs.se_mean, rtol=1e-5)


def test_without_covariances_there_are_the_means_alone(pandas):
    frame = kalman_smoother(MODEL, Y, covariances=False).to_frame()
    assert list(frame.columns) == ["x[0]", "x[1]", "y[0]"]


def test_a_state_that_is_known_has_the_deviation_zero(pandas):
    known = SmoothingProblem([[0.7]], [[1.0]], [[0.0]], [[1.0]], [1.0], [[0.0]])
    assert np.array_equal(kalman_smoother(known, Y).to_frame()["sd[0]"], np.zeros(4))


@pytest.mark.parametrize("kind", ["frame", "series"])
def test_dates_go_in_with_the_series_and_come_out_with_the_states(pandas, kind):
    dates = pandas.date_range("2024-01-01", periods=4, freq="MS", name="month")
    y = pandas.DataFrame(Y, index=dates, columns=["level"])
    if kind == "series":
        y = y["level"]
    result = kalman_smoother(MODEL, y)
    assert np.array_equal(result.x, kalman_smoother(MODEL, Y).x)
    frame = result.to_frame(y.index)
    assert frame.index.equals(dates)
    assert frame.index.name == "month"
    assert frame["x[0]"]["2024-03-01"] == result.x[2, 0]


def test_the_frame_is_a_copy(pandas):
    result = kalman_smoother(MODEL, Y)
    frame = result.to_frame()
    frame.iloc[0, 0] = 5.0
    assert result.x[0, 0] != 5.0


@pytest.mark.parametrize("labels", [[], ["a", "b", "c"], range(5)])
def test_an_index_of_another_length_is_refused(pandas, labels):
    message = rf"index has {len(labels)} labels, expected T \+ 1 = 4: .* pass y.index"
    with pytest.raises(ShapeError, match=message):
        kalman_smoother(MODEL, Y).to_frame(labels)


def test_a_batch_is_refused(pandas):
    result = kalman_smoother(MODEL, np.stack([Y, Y]))
    message = r"x has shape \(2, 4, 2\), expected \(T\+1, n\): a frame holds one series"
    with pytest.raises(ShapeError, match=message):
        result.to_frame()


def test_without_pandas_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    result = kalman_smoother(MODEL, Y)
    with pytest.raises(LqradError, match="to_frame needs pandas, try: pip install pandas"):
        result.to_frame()
