"""Pictures of nonlinear control: what is drawn is what was found, with its bounds and its marks."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from lqrad.errors import ArgumentError, ShapeError
from lqrad.nonlinear import systems as nonlinear
from lqrad.nonlinear.ilqr import ilqr
from lqrad.nonlinear.systems import NONLINEAR_SYSTEMS
from lqrad.plotting import (
    animate_cart_pole,
    plot_descent,
    plot_inputs,
    plot_portrait,
    plot_swingup,
)


@pytest.fixture(autouse=True)
def _pyplot_is_left_alone():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


@pytest.fixture(scope="module")
def oscillator():
    system = nonlinear.van_der_pol()
    return system, ilqr(system.problem, system.x0, T=system.T, bounds=system.bounds)


def names_of(ax):
    """What the curves are called: above the axes, or beside them where they end."""
    texts = ax.texts if ax.get_legend() is None else ax.get_legend().get_texts()
    return [text.get_text() for text in texts]


def labelled(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


@pytest.mark.parametrize("name", NONLINEAR_SYSTEMS)
def test_every_system_is_drawn_with_labels_and_units(name):
    system = NONLINEAR_SYSTEMS[name]()
    result = ilqr(system.problem, system.x0, T=system.T, bounds=system.bounds, max_iter=2)
    figure = plot_swingup(system, result)
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert figure.get_suptitle() == f"{name}: {result.message}"
    for ax in figure.axes:
        assert ax.get_xlabel()
        assert ax.get_ylabel()
        assert ax.get_title(loc="left")
        assert np.all(np.isfinite([*ax.get_xlim(), *ax.get_ylim()]))
    states, inputs, portrait, _ = figure.axes
    assert len(names_of(states)) == system.problem.n
    assert states.get_xlim() == inputs.get_xlim()
    for ax, i in ((portrait.xaxis, 0), (portrait.yaxis, 1)):
        assert system.state_names[system.portrait[i]] in ax.get_label().get_text()


def test_the_bounds_are_drawn_where_they_are(oscillator):
    system, result = oscillator
    ax = plot_inputs(system, result.u)
    dashed = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == [-0.75, 0.75]
    below, above = (p.get_extents() for p in ax.patches if isinstance(p, Rectangle | Polygon))
    low, high = ax.get_ylim()
    to_data = ax.transData.inverted().transform
    assert to_data((0, below.y1))[1] == pytest.approx(-0.75)
    assert to_data((0, above.y0))[1] == pytest.approx(0.75)
    assert low < -0.75 < 0.75 < high
    curve = ax.lines[0].get_ydata()
    np.testing.assert_array_equal(curve[:-1], result.u[:, 0])


def test_bounds_that_are_far_away_are_in_sight(oscillator):
    system, result = oscillator
    wide = dataclasses.replace(system, bounds=([-5.0], [5.0]))
    low, high = plot_inputs(wide, result.u).get_ylim()
    assert low < -5 < 5 < high


def test_the_portrait_marks_upright_and_hanging():
    system = nonlinear.pendulum_swingup()
    x = np.column_stack([np.linspace(np.pi, -3.2, 30), np.linspace(0, -2, 30)])
    ax = plot_portrait(system, x)
    lines = labelled(ax)
    np.testing.assert_allclose(lines["upright"].get_xdata(), [0.0], atol=1e-15)
    np.testing.assert_allclose(lines["hanging"].get_xdata(), [-np.pi, np.pi])
    assert not np.any(lines["upright"].get_ydata())
    assert (lines["start"].get_xdata()[0], lines["start"].get_ydata()[0]) == (np.pi, 0.0)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), x[:, 0])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), x[:, 1])
    ax.figure.canvas.draw()
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    minus = "\N{MINUS SIGN}"
    assert {f"{minus}π", f"{minus}π/2", "0", "π/2", "π"} <= set(ticks)


def test_a_portrait_that_is_a_plan_has_equal_axes():
    system = nonlinear.unicycle_parking()
    ax = plot_portrait(system, np.random.default_rng(0).normal(size=(9, 3)))
    assert ax.get_aspect() == 1
    assert names_of(ax) == ["start", "target"]


def test_the_gap_is_that_to_the_lowest_cost(oscillator):
    system, result = oscillator
    other = ilqr(
        system.problem, system.x0, T=system.T, bounds=system.bounds, second_order=True, max_iter=4
    )
    ax = plot_descent([result, other], names=["first", "second"], reference=7.0)
    for run, name in ((result, "first"), (other, "second")):
        np.testing.assert_allclose(labelled(ax)[name].get_ydata(), (run.costs - 7.0) / 7.0)
        np.testing.assert_array_equal(labelled(ax)[name].get_xdata(), np.arange(len(run.costs)))
    assert names_of(ax) == ["first", "second"]
    alone = plot_descent(result)
    last = alone.lines[0].get_ydata()[-1]
    assert last == pytest.approx(result.decreases[-1] / result.cost, rel=1e-3)
    assert alone.get_legend() is None


def test_axes_that_are_given_are_used_and_returned(oscillator):
    system, result = oscillator
    ax = Figure().subplots()
    assert plot_inputs(system, result.u, ax=ax) is ax
    assert plot_portrait(system, result.x, ax=ax) is ax
    assert plot_descent(result, ax=ax) is ax


def test_the_film_has_a_frame_for_each_step_in_real_time(tmp_path):
    image = pytest.importorskip("PIL.Image")
    system = nonlinear.cart_pole_swingup()
    x = system.problem.simulate(system.x0, np.full((11, 1), 5.0))
    animate_cart_pole(system, x, tmp_path / "film.gif")
    with image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 12
        assert film.info["duration"] == 50
        assert film.info["loop"] == 0
        frames = []
        for i in (0, 11):
            film.seek(i)
            frames.append(np.asarray(film.convert("L"), dtype=float))
    height, width = frames[0].shape
    pole = [frame < 80 for frame in frames]  # nothing else is as dark as the pole and the cart
    # At the start it hangs from the cart, in the lower half; the push moves all to the right.
    assert pole[0][: height // 3, : width // 2].sum() < 0.05 * pole[0].sum() + 60
    assert pole[0][height // 2 :].sum() > 5 * pole[0][: height // 2 - 20].sum()
    centres = [np.argwhere(frame)[:, 1].mean() for frame in pole]
    assert centres[1] > centres[0]


def test_a_film_of_short_steps_leaves_some_out(tmp_path):
    image = pytest.importorskip("PIL.Image")
    system = nonlinear.cart_pole_swingup(dt=0.005)
    x = system.problem.simulate(system.x0, np.full((40, 1), 5.0))
    animate_cart_pole(system, x, tmp_path / "film.gif")
    with image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 11
        assert film.info["duration"] == 20


def test_bad_input_is_named(oscillator, tmp_path):
    system, result = oscillator
    with pytest.raises(ShapeError, match=r"x has shape \(101, 3\), expected \(101, 2\)"):
        plot_portrait(system, np.zeros((101, 3)))
    with pytest.raises(ShapeError, match="names has shape"):
        plot_inputs(system, np.zeros((5, 2)))
    with pytest.raises(ShapeError, match="names has shape"):
        plot_descent([result], names=["a", "b"])
    with pytest.raises(ArgumentError, match=r"expected a cart-pole; try lqrad\.nonlinear"):
        animate_cart_pole(system, result.x, tmp_path / "film.gif")
    with pytest.raises(ShapeError, match=r"x has shape \(5, 2\), expected \(5, 4\)"):
        animate_cart_pole(nonlinear.cart_pole_swingup(), np.zeros((5, 2)), tmp_path / "film.gif")
    assert list(tmp_path.iterdir()) == []
