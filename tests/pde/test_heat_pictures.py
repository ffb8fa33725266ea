"""Pictures of temperatures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lqrad
from lqrad.pde import pictures
from lqrad.plotting import animate_field, plot_field, plot_heat


def test_a_plate_is_a_picture_with_its_lengths_and_a_rod_a_curve():
    plate = lqrad.heat_plate((6, 9), lengths=(1.0, 2.0))
    ax = plot_field(plate, plate.target, limits=(0.0, 3.0))
    (image,) = ax.images
    assert tuple(image.get_extent()) == (0.0, 2.0, 0.0, 1.0)
    assert image.get_clim() == (0.0, 3.0)
    np.testing.assert_array_equal(image.get_array(), plate.field(plate.target))
    rod = lqrad.heat_rod(7)
    (line,) = plot_field(rod, rod.target).lines
    np.testing.assert_array_equal(line.get_xdata(), rod.coordinates()[0])
    np.testing.assert_array_equal(line.get_ydata(), rod.target)
    with pytest.raises(lqrad.ShapeError, match=r"x has shape \(6,\), expected \(n,\) = \(7,\)"):
        plot_field(rod, np.ones(6))


@pytest.mark.parametrize("limits", [(-1.0, 3.0), (-3.0, 1.0), (0.0, 2.0), (-2.0, 0.0)])
def test_zero_is_white_in_every_field(limits):
    plate = lqrad.heat_plate((6, 6))
    (image,) = plot_field(plate, np.linspace(*limits, 36)).images
    assert min(image.cmap(image.norm(0.0))[:3]) > 0.93
    low, high = (image.cmap(image.norm(end)) for end in limits)
    assert limits[0] == 0 or low[2] > low[0]  # blue
    assert limits[1] == 0 or high[0] > high[2]  # red


def test_a_field_far_from_zero_has_shades_of_its_own():
    plate = lqrad.heat_plate((6, 6))
    near, far = (plot_field(plate, np.linspace(low, 300, 36)).images[0] for low in (1, 280))
    assert min(near.cmap(near.norm(1.0))[:3]) > 0.93
    assert far.cmap.name == "viridis"


def test_many_heaters_are_a_map_and_few_are_curves():
    for plate, curves in [
        (lqrad.heat_plate((6, 6), heaters=(3, 3), T=8), 0),
        (lqrad.heat_rod(6, T=8), 2),
    ]:
        objective = plate.problem().objective(plate.x0, 8)
        figure = plot_heat(plate, lqrad.descend(objective, method="conjugate-gradient"))
        (ax,) = [ax for ax in figure.axes if "heaters" in ax.get_title(loc="left")]
        assert len(ax.images) == (not curves)
        unit = "K m/s" if curves else "K/s"
        assert f"heating ({unit})" in (ax.get_ylabel(), *(c.get_ylabel() for c in ax.child_axes))


def test_a_film_shows_more_moments_where_more_changes(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        pictures, "save_film", lambda path, figure, show, times, rate: seen.append(times)
    )
    plate = lqrad.heat_plate((5, 5), heaters=(1, 1))
    x = np.exp(-np.arange(101.0) / 5)[:, None] * np.ones(25)
    for frames in (10, 101, 500):
        animate_field(plate, x, tmp_path / "x.gif", frames=frames)
    few, all_of_them, more = seen
    assert (len(few), few[0], few[-1]) == (10, 0, 100)
    assert sum(t <= 20 for t in few) >= 5  # a fifth of the time, and nearly all of the change
    assert all_of_them == more == list(range(101))


def test_the_figure_of_a_descent_shows_its_fields():
    plate = lqrad.heat_plate((6, 6), heaters=(2, 2), T=8)
    problem = plate.problem()
    objective = problem.objective(plate.x0, 8)
    descent = lqrad.descend(objective, method="conjugate-gradient")
    figure = plot_heat(plate, descent)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "temperature after 40 s" in titles
    costate = figure.axes[titles.index("costate at the start: what heat is worth")].images[0]
    x = problem.simulate(plate.x0, descent.solution)
    np.testing.assert_allclose(
        costate.get_array(), plate.field(problem.adjoint(x, descent.solution)[0])
    )


def test_a_film_has_as_many_frames_as_asked_for(tmp_path):
    image = pytest.importorskip("PIL.Image")
    plate = lqrad.heat_plate((5, 5), heaters=(1, 1))
    x = np.random.default_rng(0).normal(size=(20, 25))
    animate_field(plate, x, tmp_path / "plate.gif", frames=7)
    with image.open(tmp_path / "plate.gif") as film:
        assert film.n_frames == 7
    with pytest.raises(lqrad.ArgumentError, match="is no plate"):
        animate_field(lqrad.heat_rod(25), x, tmp_path / "rod.gif")


def test_a_film_that_is_not_finished_leaves_the_old_one(tmp_path, monkeypatch):
    plate, film = lqrad.heat_plate((5, 5), heaters=(1, 1)), tmp_path / "plate.gif"
    film.write_bytes(b"old")

    def fail_halfway(writer):
        Path(writer.outfile).write_bytes(b"half")
        raise OSError("no room left")

    monkeypatch.setattr("matplotlib.animation.PillowWriter.finish", fail_halfway)
    with pytest.raises(OSError, match="no room left"):
        animate_field(plate, np.zeros((2, 25)), film)
    assert film.read_bytes() == b"old"
    monkeypatch.undo()
    with pytest.raises(lqrad.ArgumentError, match="cannot be written"):
        animate_field(plate, np.zeros((2, 25)), tmp_path / "none" / "plate.gif")
