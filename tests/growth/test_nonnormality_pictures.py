"""The hump and the pseudospectra: what is drawn is what was found, labelled, at every extreme."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from lqrad.growth.nonnormality import nonnormality, pseudospectrum
from lqrad.growth.pictures import plot_nonnormality, plot_powers, plot_pseudospectra

HUMP = [[0.9, 10.0], [0.0, 0.8]]
EXTREMES = {
    "one state": [[0.5]],
    "zero": np.zeros((2, 2)),
    "identity": np.eye(3),
    "normal": np.diag([0.9, -0.5, 0.2]),
    "unstable": [[1.1, 3.0], [0.0, 0.5]],
    "defective": [[1.0, 1.0], [0.0, 1.0]],
    "nilpotent": 3 * np.eye(5, k=1),
    "slow": [[1 - 1e-6, 5.0], [0.0, 0.5]],
    "huge": 1e150 * np.array([[1.0, 3.0], [-2.0, 0.5]]),
    "huge triangle": np.diag(np.full(4, 0.5)) + np.triu(np.full((4, 4), 1e150), 1),
    "tiny": 1e-200 * np.array([[1.0, 3.0], [-2.0, 0.5]]),
}


@pytest.fixture(autouse=True)
def _pyplot_is_left_alone():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


def named_lines(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def names_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("name", EXTREMES)
def test_every_extreme_is_drawn(name):
    figure = nonnormality(EXTREMES[name]).plot()
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    for ax in figure.axes:
        assert ax.get_xlabel()
        assert ax.get_ylabel()
        assert ax.get_title(loc="left")
        assert np.all(np.isfinite([*ax.get_xlim(), *ax.get_ylim()]))
    assert f"n = {len(EXTREMES[name])}," in figure.get_suptitle()


def test_axes_that_are_given_are_used_and_returned():
    ax, study = Figure().subplots(), nonnormality(HUMP)
    assert plot_powers(study, ax=ax) is ax
    assert plot_pseudospectra(study, ax=ax) is ax
    assert len(plot_nonnormality(study).axes) == 2


def test_the_hump_stands_between_its_bounds():
    study = nonnormality(HUMP)
    ax = plot_powers(study)
    lines = named_lines(ax)
    np.testing.assert_array_equal(lines["|A$^k$|"].get_ydata(), study.norms)
    np.testing.assert_array_equal(lines["|A$^k$|"].get_xdata(), study.k)
    np.testing.assert_allclose(lines[r"$\rho^k$, $\rho$ = 0.9"].get_ydata(), 0.9**study.k)
    (peak,) = (line for label, line in lines.items() if label.startswith("peak 26.94 at k = 6"))
    assert (peak.get_xdata()[0], peak.get_ydata()[0]) == (6, study.peak)
    lower, upper = (lines[label].get_ydata()[0] for label in ("K = 17.17", "e n K = 93.36"))
    assert (lower, upper) == pytest.approx((study.kreiss, 2 * np.e * study.kreiss_upper))
    low, high = ax.get_ylim()
    assert low < study.norms.min() < study.peak < upper < high


def test_what_has_no_bound_shows_none():
    names = names_of(plot_powers(nonnormality(EXTREMES["unstable"])))
    assert names == ["|A$^k$|", r"$\rho^k$, $\rho$ = 1.1"]
    names = names_of(plot_powers(nonnormality(EXTREMES["defective"])))
    assert not any(name.startswith("e n K") for name in names)
    assert any(name.startswith("largest seen 100 at k = 100") for name in names)


def test_zeros_and_overflow_are_left_out():
    drawn = named_lines(plot_powers(nonnormality(EXTREMES["nilpotent"])))["|A$^k$|"].get_ydata()
    assert np.all(np.isnan(drawn[5:]))
    assert not np.any(np.isnan(drawn[:5]))
    drawn = named_lines(plot_powers(nonnormality(EXTREMES["huge"])))["|A$^k$|"].get_ydata()
    assert np.all(np.isnan(drawn[2:]))


def test_a_long_transient_is_on_a_logarithmic_axis():
    assert plot_powers(nonnormality(EXTREMES["slow"])).get_xscale() == "symlog"
    assert plot_powers(nonnormality(HUMP)).get_xscale() == "linear"


def test_a_contour_lies_where_the_singular_value_is_its_level():
    study = nonnormality(HUMP)
    ax = plot_pseudospectra(study)
    (contours,) = (c for c in ax.collections if hasattr(c, "levels"))
    assert 3 <= len(contours.levels) <= 8
    for level, path in zip(contours.levels, contours.get_paths(), strict=True):
        x, y = path.vertices.T
        found = pseudospectrum(study.A, x + 1j * y)
        np.testing.assert_allclose(np.log10(found), level, atol=0.03)


def test_eigenvalues_and_the_kreiss_point_are_marked():
    study = nonnormality(HUMP)
    lines = named_lines(plot_pseudospectra(study))
    assert sorted(lines["eigenvalues"].get_xdata()) == pytest.approx([0.8, 0.9])
    cross = lines["z of K"]
    assert cross.get_xdata()[0] + 1j * cross.get_ydata()[0] == study.kreiss_point
    assert np.hypot(*lines["unit circle"].get_data()) == pytest.approx(np.ones(181))
    for name in ("normal", "unstable"):
        assert "z of K" not in names_of(plot_pseudospectra(nonnormality(EXTREMES[name])))
