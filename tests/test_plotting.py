"""Pictures: what is drawn is what was given, everything is labelled, and no window is touched."""

from __future__ import annotations

import warnings
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lqrad
from lqrad.errors import DtypeError, ShapeError
from lqrad.plotting import plot_comparison, plot_convergence, plot_costates, plot_trajectory
from lqrad.systems import SYSTEMS

SIGNATURES = {"png": b"\x89PNG\r\n", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.fixture(autouse=True)
def _pyplot_is_left_alone():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


@pytest.fixture
def ax():
    return Figure().subplots()


def compared(name, **options):
    system = SYSTEMS[name]()
    return lqrad.compare(system.problem(), system.x0, system.T, **options), system


@pytest.fixture(scope="module")
def aircraft():
    return compared("aircraft", max_iter=200)


def names_of(ax):
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def named_lines(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def circles(ax):
    return [line for line in ax.lines if line.get_linestyle() == "None"]


def is_labelled(ax):
    return bool(ax.get_xlabel() and ax.get_ylabel())


# --- trajectories -----------------------------------------------------------------------------


def test_axes_that_are_given_are_used_and_returned(ax, aircraft):
    comparison, _ = aircraft
    z = np.ones((3, 2))
    assert plot_trajectory(z, ax=ax) is ax
    assert plot_costates(z, z, ax=ax) is ax
    assert plot_convergence(comparison, ax=ax) is ax


def test_without_axes_a_figure_is_made(aircraft):
    z = np.ones((3, 2))
    for made in (plot_trajectory(z), plot_costates(z, z), plot_convergence(aircraft[0])):
        assert isinstance(made, Axes)
        assert isinstance(made.figure, Figure)
        assert is_labelled(made)


def test_every_column_is_a_curve_over_the_steps(ax):
    x = np.array([[3.0, 1.0], [2.0, 0.0], [1.0, -1.0]])
    lines = named_lines(plot_trajectory(x, ax=ax))
    assert list(lines) == names_of(ax) == ["x[0]", "x[1]"]
    for i in range(2):
        t, values = lines[f"x[{i}]"].get_data()
        assert t.tolist() == [0, 1, 2]
        assert values.tolist() == x[:, i].tolist()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step t", "state")


def test_with_a_sampling_time_the_axis_is_in_seconds(ax):
    plot_trajectory(np.ones((3, 2)), ax=ax, dt=0.25)
    assert named_lines(ax)["x[0]"].get_xdata().tolist() == [0, 0.25, 0.5]
    assert ax.get_xlabel() == "time (s)"


def test_names_that_are_given_are_shown(ax):
    plot_trajectory(np.ones((3, 2)), ax=ax, names=["position (m)", "velocity (m/s)"])
    assert names_of(ax) == ["position (m)", "velocity (m/s)"]


def test_one_curve_needs_no_legend(ax):
    plot_trajectory(np.ones((3, 1)), ax=ax, names=["force (N)"], symbol="u")
    assert names_of(ax) == []
    assert ax.get_ylabel() == "force (N)"


@pytest.mark.parametrize(
    ("symbol", "label"),
    [("x", "state"), ("u", "input"), ("p", "costate (cost per unit of state)"), ("y", "y")],
)
def test_the_symbol_says_what_the_axis_shows(ax, symbol, label):
    plot_trajectory(np.ones((3, 2)), ax=ax, symbol=symbol)
    assert ax.get_ylabel() == label
    assert names_of(ax) == [f"{symbol}[0]", f"{symbol}[1]"]


def test_inputs_are_held_from_step_to_step_the_last_one_too(ax):
    plot_trajectory([[1.0], [2.0]], ax=ax, symbol="u")
    line = ax.lines[0]
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert line.get_ydata().tolist() == [1, 2, 2]


def test_of_many_curves_the_largest_are_named_and_the_others_grey(ax):
    sizes = np.array([1, 9, 2, 8, 3, 7, 4, 6, 5, 0.5])
    plot_trajectory(np.outer([1.0, -0.5], sizes), ax=ax)
    assert names_of(ax) == ["x[1]", "x[3]", "x[5]", "x[6]", "x[7]", "x[8]", "4 smaller ones"]
    drawn = sorted(abs(line.get_ydata()[0]) for line in ax.lines)
    assert drawn == [0, *sorted(sizes)]  # the zero line, and all the curves


def test_colours_survive_greyscale(ax):
    plot_trajectory(np.ones((2, 6)), ax=ax)
    lightness = [np.dot(line.get_color()[:3], [0.299, 0.587, 0.114]) for line in ax.lines[:6]]
    assert all(after - before > 0.05 for before, after in pairwise(lightness))
    assert max(lightness) < 0.75  # still to be seen on white


def test_of_curves_that_coincide_both_are_seen(ax):
    plot_trajectory(np.ones((3, 2)), ax=ax)
    below, above = named_lines(ax).values()
    assert below.get_linewidth() > above.get_linewidth()


@pytest.mark.parametrize("symbol", ["x", "u", "p"])
def test_a_single_step_is_seen(ax, symbol):
    plot_trajectory([[2.0, 1.0]], ax=ax, symbol=symbol)
    line = ax.lines[0]
    assert len(line.get_xdata()) > 1 or line.get_marker() != "None"


def test_zeros_have_a_sensible_scale(ax):
    plot_trajectory(np.zeros((20, 2)), ax=ax, symbol="u")
    assert np.ptp(ax.get_ylim()) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"x": np.ones((2, 3, 4))},
            r"x has shape \(2, 3, 4\), expected \(T, k\): one series, a column for each curve",
        ),
        (
            {"x": np.ones(3)},
            r"x has shape \(3,\), expected \(T, k\).*; did you mean x\[:, None\]\?",
        ),
        ({"x": 1.0}, r"x has shape \(\), expected"),
        ({"x": np.ones((0, 2))}, r"x has shape \(0, 2\), expected"),
        ({"x": np.ones((3, 0))}, r"x has shape \(3, 0\), expected"),
        (
            {"x": np.ones((3, 2)), "names": ["a"]},
            r"names has shape \(1,\), expected \(2,\) to match x \(3, 2\)",
        ),
        ({"x": np.ones((2, 2, 2)), "symbol": "u"}, r"u has shape \(2, 2, 2\)"),
    ],
)
def test_what_is_not_one_series_is_refused(arguments, words):
    with pytest.raises(ShapeError, match=words):
        plot_trajectory(**arguments)


def test_what_is_no_number_is_refused():
    with pytest.raises(DtypeError, match="x holds complex numbers"):
        plot_trajectory(np.ones((2, 2)) * 1j)


# --- costates -----------------------------------------------------------------------------------


def test_costates_are_circles_on_the_lines_of_riccati(ax):
    p, Px = np.array([[3.0, 1.0], [2.0, 0.5]]), np.array([[4.0, 1.0], [1.0, 0.0]])
    plot_costates(p, Px, ax=ax, dt=0.5, names=["position", "velocity"])
    lines = named_lines(ax)
    assert list(lines) == ["position", "velocity"]
    for i, (line, dots) in enumerate(zip(lines.values(), circles(ax), strict=True)):
        assert line.get_ydata().tolist() == Px[:, i].tolist()
        assert dots.get_ydata().tolist() == p[:, i].tolist()
        assert dots.get_xdata().tolist() == [0, 0.5]
        assert np.array_equal(dots.get_color(), line.get_color())
    assert is_labelled(ax)


def test_circles_of_a_long_series_leave_the_line_to_be_seen(ax):
    p = np.arange(1000.0)[:, None]
    plot_costates(p, p, ax=ax)
    (dots,) = circles(ax)
    assert 20 <= len(dots.get_xdata()) <= 25
    assert np.array_equal(dots.get_xdata(), dots.get_ydata())


@pytest.mark.parametrize(
    ("p", "Px", "words"),
    [
        (np.ones((3, 2)), np.ones((2, 2)), r"Px has shape \(2, 2\), expected \(3, 2\) to match p"),
        (np.ones((2, 3, 2)), np.ones((2, 3, 2)), r"p has shape \(2, 3, 2\), expected \(T, k\)"),
    ],
)
def test_costates_that_do_not_match_are_refused(p, Px, words):
    with pytest.raises(ShapeError, match=words):
        plot_costates(p, Px)


# --- convergence ----------------------------------------------------------------------------------


def test_convergence_shows_the_gap_of_every_method_from_the_start(ax, aircraft):
    comparison, _ = aircraft
    lines = named_lines(plot_convergence(comparison, ax=ax))
    assert list(lines) == names_of(ax) == [descent.method for descent in comparison.descents]
    for descent, line in zip(comparison.descents, lines.values(), strict=True):
        gap = (descent.history.cost - comparison.optimum.cost) / comparison.scale
        shown = line.get_ydata()
        assert line.get_xdata().tolist() == list(range(len(shown)))
        seen = gap[: len(shown)] > 1e-14
        assert shown[seen] == pytest.approx(gap[: len(shown)][seen], rel=1e-12)
        assert np.all(gap[len(shown) :] < 1e-14)  # nothing is left out but rounding
    assert (ax.get_xscale(), ax.get_yscale()) == ("symlog", "log")
    assert is_labelled(ax)


def test_what_converged_ends_in_a_dot_and_what_did_not_in_a_cross(ax, aircraft):
    comparison, _ = aircraft
    lines = named_lines(plot_convergence(comparison, ax=ax))
    ends = {descent.method: descent.status.converged for descent in comparison.descents}
    assert set(ends.values()) == {True, False}
    for method, converged in ends.items():
        assert lines[method].get_marker() == ("o" if converged else "X")
    assert ax.get_xlabel() == "iteration (dot: converged, cross: not)"


def test_the_predicted_rate_is_dashed_beside_the_observed_one(ax, aircraft):
    comparison, _ = aircraft
    lines = named_lines(plot_convergence(comparison, ax=ax))
    dashed = [line for line in ax.lines if line.is_dashed()]
    assert len(dashed) == len(comparison.rates)
    for method, line in zip(comparison.rates, dashed, strict=True):
        predicted = line.get_ydata()
        assert predicted[0] == lines[method].get_ydata()[0]
        factors = predicted[1:] / predicted[:-1]
        assert factors == pytest.approx(comparison.rates[method] ** 2, rel=1e-9)
        assert np.array_equal(line.get_color(), lines[method].get_color())


def test_two_predictions_that_coincide_are_both_seen(ax, aircraft):
    plot_convergence(aircraft[0], ax=ax)
    _, heavy_ball, conjugate_gradient = (line for line in ax.lines if line.is_dashed())
    assert np.array_equal(heavy_ball.get_ydata(), conjugate_gradient.get_ydata())
    # The dashes of one are drawn in the gaps of the other: offset, (on, off) in points.
    (first, (on, off)), (second, pattern) = (
        line._unscaled_dash_pattern for line in (heavy_ball, conjugate_gradient)
    )
    assert pattern == (on, off)
    shift = (second - first) % (on + off)
    assert on < shift < off


# --- the whole picture ----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SYSTEMS)
def pictured(request):
    comparison, system = compared(request.param, max_iter=60)
    figure = comparison.plot(system)
    figure.draw_without_rendering()
    return comparison, system, figure


def boxes(artists):
    return [artist.get_window_extent() for artist in artists if artist.get_text()]


def test_every_panel_is_titled_labelled_and_filled(pictured):
    _, _, figure = pictured
    assert len(figure.axes) == 4
    for ax in figure.axes:
        assert is_labelled(ax)
        assert ax.get_title(loc="left")
        assert ax.lines


def test_no_text_leaves_the_figure_and_no_title_meets_another(pictured):
    _, _, figure = pictured
    page = figure.bbox
    titles = boxes([figure._suptitle, *(ax._left_title for ax in figure.axes)])
    labels = boxes(label for ax in figure.axes for label in (ax.xaxis.label, ax.yaxis.label))
    legends = [ax.get_legend().get_window_extent() for ax in figure.axes if ax.get_legend()]
    for box in titles + labels + legends:
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1
    everything = titles + labels + legends
    overlaps = [
        (one, other)
        for i, one in enumerate(everything)
        for other in everything[:i]
        if one.overlaps(other)
    ]
    assert overlaps == []


def test_names_and_units_of_the_system_are_shown(pictured):
    _, system, figure = pictured
    states, inputs, _, costates = figure.axes
    assert states.get_xlabel() == inputs.get_xlabel() == costates.get_xlabel() == "time (s)"
    assert figure.get_suptitle().startswith(f"{system.name}: n = {len(system.x0)}, m = ")
    for ax, names, units in (
        (states, system.state_names, system.state_units),
        (inputs, system.input_names, system.input_units),
    ):
        full = {
            name if unit == "1" else f"{name} ({unit})"
            for name, unit in zip(names, units, strict=True)
        }
        shown = {name for name in names_of(ax) if "smaller" not in name} or {ax.get_ylabel()}
        assert shown <= full
        assert len(shown) == min(len(full), 6)
    assert set(names_of(costates)) - {names_of(costates)[-1]} <= set(system.state_names)


def test_lines_are_those_of_riccati_and_circles_those_of_the_best_descent(pictured):
    comparison, _, figure = pictured
    states, inputs, _, costates = figure.axes
    best = comparison.descents[int(np.argmin(comparison.gaps))]
    assert best.method in inputs.get_title(loc="left")
    assert best.method in costates.get_title(loc="left")
    x = comparison.problem.simulate(comparison.x0, best.solution)
    p = comparison.problem.adjoint(x, best.solution)

    def columns_of(lines, z):
        """Which columns of z are drawn, at the rows that are."""
        found = set()
        for line in lines:
            rows = np.rint(line.get_xdata() / line.get_xdata()[-1] * 1e6)
            steps = np.round(np.linspace(0, 1e6, len(rows)))
            assert np.allclose(rows, steps, atol=1)
            every = next(k for k in range(1, len(z) + 1) if len(z[::k]) == len(rows))
            found |= {
                i for i in range(z.shape[1]) if np.array_equal(line.get_ydata(), z[::every, i])
            }
        return found

    named = min(6, comparison.problem.n)
    assert len(columns_of(named_lines(states).values(), comparison.optimum.x)) >= named
    assert len(columns_of(circles(inputs), best.solution)) >= min(6, comparison.problem.m)
    assert len(columns_of(circles(costates), p)) >= named


def test_all_panels_over_time_show_the_same_span(pictured):
    _, _, figure = pictured
    states, inputs, _, costates = figure.axes
    assert states.get_xlim() == inputs.get_xlim() == costates.get_xlim()


@pytest.mark.parametrize("kind", SIGNATURES)
def test_a_picture_is_saved_in_every_format(aircraft, tmp_path, kind):
    comparison, system = aircraft
    path = tmp_path / f"picture.{kind}"
    plot_comparison(comparison, system).savefig(path)
    assert path.read_bytes().startswith(SIGNATURES[kind])
    assert path.stat().st_size > 10_000


def test_a_notebook_shows_the_figure(aircraft):
    """It has no pyplot to do so: the figure itself must know how."""
    image = aircraft[0].plot()._repr_png_()
    assert image.startswith(SIGNATURES["png"])
    assert len(image) < 400_000


def test_without_a_system_the_picture_counts_steps(aircraft):
    figure = aircraft[0].plot()
    states, inputs, _, costates = figure.axes
    assert states.get_xlabel() == inputs.get_xlabel() == costates.get_xlabel() == "step t"
    assert names_of(states) == ["x[0]", "x[1]", "x[2]", "x[3]"]
    assert figure.get_suptitle() == "n = 4, m = 2, T = 80"


def test_the_system_of_another_problem_is_refused(aircraft):
    with pytest.raises(ShapeError, match=r"names has shape \(2,\), expected \(4,\) to match x"):
        aircraft[0].plot(SYSTEMS["double-integrator"]())


def scalar(a, R=1.0):
    return lqrad.LQProblem([[a]], [[1.0]], [[1.0]], [[R]])


@pytest.mark.parametrize(
    ("problem", "x0", "T"),
    [
        pytest.param(scalar(0.5), 1.0, 1, id="T=1"),
        pytest.param(scalar(0.5), 0.0, 8, id="x0=0"),
        pytest.param(scalar(0.5, 0.0), 1.0, 8, id="R=0"),
        pytest.param(scalar(1.3), 1.0, 600, id="unstable"),
        pytest.param(scalar(1.5), 1.0, 868, id="overflow"),
    ],
)
def test_special_cases_are_drawn_too(problem, x0, T):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = lqrad.compare(problem, [x0], T, max_iter=200).plot()
        figure.draw_without_rendering()
    assert all(ax.lines for ax in figure.axes)


def test_matplotlib_settings_are_left_as_they_are(aircraft):
    before = dict(plt.rcParams)
    aircraft[0].plot()
    assert dict(plt.rcParams) == before
