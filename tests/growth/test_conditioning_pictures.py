"""The map of condition numbers and the iterations: what is drawn is what was found."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

import lqrad
from lqrad.arguments import EPS
from lqrad.growth.conditioning import conditioning, predicted_iterations
from lqrad.growth.pictures import plot_condition, plot_conditioning, plot_iterations

PROBLEM = lqrad.LQProblem([[0, 1], [-1, 1]], [[0], [1]], np.eye(2), [[1]])
EXTREMES = {
    "one cell": ([0.9], [7]),
    "one radius": ([1.3], [5, 20, 80]),
    "one horizon": ([0.0, 0.5, 1.0, 2.0], [1]),
    "far apart": ([0.1, 1.0, 30.0], [1, 10, 300]),
    "all beyond eps": ([3.0, 4.0], [100, 120]),
    "no order": ([1.2, 0.8, 1.2], [40, 10, 40]),
}


@pytest.fixture(autouse=True)
def _pyplot_is_left_alone():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


@pytest.fixture(scope="module")
def study():
    return conditioning(
        PROBLEM, [0.6, 0.9, 1.1, 1.3, 1.5, 1.7], [10, 20, 40, 80, 160], max_iter=500
    )


def mesh_of(ax):
    (mesh,) = (found for found in ax.collections if isinstance(found, QuadMesh))
    return mesh


def contours_of(ax):
    return [found for found in ax.collections if hasattr(found, "levels")]


def drawn_and_labelled(figure):
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    left, right, bar = figure.axes
    for ax in (left, right):
        assert ax.get_xlabel()
        assert ax.get_ylabel()
        assert ax.get_title(loc="left")
        assert np.all(np.isfinite([*ax.get_xlim(), *ax.get_ylim()]))
    assert bar.get_ylabel() == "condition number of the Hessian"
    assert figure.get_suptitle().startswith("n = ")


@pytest.mark.parametrize("name", EXTREMES)
def test_every_extreme_is_drawn(name):
    radii, horizons = EXTREMES[name]
    drawn_and_labelled(conditioning(PROBLEM, radii, horizons, max_iter=100).plot())


@pytest.mark.parametrize(
    "problem",
    [
        lqrad.LQProblem([[1.0]], [[0.0]], [[1.0]], [[0.0]]),  # every cell fails
        lqrad.LQProblem([[1.0]], [[1.0]], [[0.0]], [[1.0]]),  # every Hessian is the identity
    ],
    ids=["no minimum", "identity"],
)
def test_a_grid_without_contrast_is_drawn(problem):
    drawn_and_labelled(conditioning(problem, [0.5, 2.0], [3, 6]).plot())


def test_axes_that_are_given_are_used_and_returned(study):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_condition(study, ax=left) is left
    assert plot_iterations(study, ax=right) is right
    assert len(plot_conditioning(study).axes) == 3


def test_the_map_has_a_cell_for_each_condition_number(study):
    mesh = mesh_of(plot_condition(study))
    np.testing.assert_allclose(mesh.get_array(), np.log10(study.condition))
    assert mesh.get_clim() == (0.0, 24.0)
    corners = mesh.get_coordinates()
    for i, radius in enumerate(study.radii):
        for j, T in enumerate(study.horizons):
            assert corners[i, j, 0] < T < corners[i, j + 1, 0]
            assert corners[i, j, 1] < radius < corners[i + 1, j, 1]


def test_cells_are_put_in_order():
    found = conditioning(PROBLEM, [1.2, 0.8], [40, 10], max_iter=0)
    mesh = mesh_of(plot_condition(found))
    np.testing.assert_allclose(mesh.get_array(), np.log10(found.condition[::-1, ::-1]))


def test_what_failed_has_no_colour():
    found = conditioning(PROBLEM, [0.9, 30.0], [10, 300], max_iter=0)
    ax = plot_condition(found)
    np.testing.assert_array_equal(
        np.ma.getmaskarray(mesh_of(ax).get_array()), [[False, False], [False, True]]
    )
    assert ax.patch.get_hatch()


def test_the_limit_of_the_digits_is_drawn_as_measured_and_by_the_law(study):
    ax = plot_condition(study)
    (contours,) = contours_of(ax)
    assert contours.levels.tolist() == [-np.log10(EPS)]
    T, radius = ax.lines[0].get_data()
    np.testing.assert_allclose(radius ** (2 * T), 1 / EPS, rtol=1e-9)
    measured = contours.get_paths()[0].vertices
    inside = measured[:, 1] > 1.3
    law = -np.log(EPS) / (2 * np.log(measured[inside, 1]))
    np.testing.assert_allclose(measured[inside, 0], law, rtol=0.15)
    assert "1/eps" in ax.get_title(loc="left")


def test_where_all_digits_are_left_no_limit_is_drawn():
    ax = plot_condition(conditioning(PROBLEM, [0.5, 0.9], [10, 20], max_iter=0))
    assert contours_of(ax) == []
    assert len(ax.lines) == 0
    assert "1/eps" not in ax.get_title(loc="left")


def test_markers_are_what_was_observed_and_lines_what_was_predicted(study):
    ax = plot_iterations(study)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["gradient", "conjugate-gradient (at most T m)"]
    for i, (method, observed) in enumerate(study.observed.items()):
        line, markers = ax.lines[2 * i : 2 * i + 2]
        np.testing.assert_array_equal(markers.get_xdata(), study.condition.ravel())
        np.testing.assert_array_equal(markers.get_ydata(), observed.ravel())
        assert markers.get_linestyle() == "None"
        kappa, predicted = line.get_data()
        expected = predicted_iterations(kappa, study.tol)[method]
        if method == "conjugate-gradient":
            expected = np.minimum(expected, 160)
        np.testing.assert_array_equal(predicted, expected)
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        seen = np.isfinite(observed)
        assert left < study.condition[seen].min() < study.condition[seen].max() < right
        assert low < observed[seen].min() < observed[seen].max() < high
