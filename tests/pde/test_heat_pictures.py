"""Pictures of temperatures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lqrad
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
