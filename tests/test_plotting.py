"""Pictures: what is drawn is what was given, everything is labelled, and no window is touched."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lqrad
from lqrad import plotting
from lqrad.errors import DtypeError, ShapeError
from lqrad.plotting import plot_comparison, plot_convergence, plot_costates, plot_trajectory
from lqrad.results import Report, draw
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
    """What the curves are called: above the axes, or beside them where they end."""
    legend = ax.get_legend()
    texts = ax.texts if legend is None else legend.get_texts()
    return [text.get_text() for text in texts]


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
    drawn = list(named_lines(ax).values())
    lightness = [np.dot(line.get_color()[:3], [0.299, 0.587, 0.114]) for line in drawn]
    assert all(after - before > 0.05 for before, after in pairwise(lightness))
    assert max(lightness) < 0.75  # still to be seen on white
    patterns = {str(line._unscaled_dash_pattern) for line in drawn}
    assert len(patterns) == len(drawn) == 6  # and without any lightness the lines are told apart


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
    assert list(lines) == names_of(ax)
    for descent in comparison.descents:
        line = lines[descent.method]
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


def test_what_has_a_bound_stays_below_it(ax, aircraft):
    comparison, _ = aircraft
    lines = named_lines(plot_convergence(comparison, ax=ax))
    for method, most in (("gradient", 1.0), ("conjugate-gradient", 4.0)):
        bound, gap = lines[f"bound of {method}"].get_ydata(), lines[method].get_ydata()
        assert bound[0] == gap[0]
        both = min(len(bound), len(gap))
        assert np.all(gap[:both] <= bound[:both] * (1 + 1e-6))
        k = np.arange(len(bound))
        assert np.all(bound <= most * gap[0] * comparison.rates[method] ** (2 * k) * (1 + 1e-9))
    assert len(lines) == len(comparison.descents) + 2


def test_the_curves_of_the_methods_differ_in_grey(ax, aircraft):
    lines = named_lines(plot_convergence(aircraft[0], ax=ax))
    looks = [str(line._unscaled_dash_pattern) for line in lines.values()]
    assert len(set(looks)) == len(looks)


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


# --- every picture --------------------------------------------------------------------------------

PICTURES = [getattr(plotting, name) for name in plotting.__all__ if name.startswith("plot_")]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.__name__)
def test_every_picture_says_what_it_takes_and_returns(picture):
    signature, told = inspect.signature(picture), inspect.getdoc(picture)
    assert told.count("\nReturns\n-------\n") == 1
    returned = told.partition("\nReturns\n-------\n")[2].split()[0]
    assert signature.return_annotation == returned
    assert returned in ("Axes", "Figure")
    for name in signature.parameters:
        assert re.search(rf"^([a-zA-Z_0-9]+, )*{name}\b.*( :|$)", told, re.MULTILINE), name
    if returned == "Axes":
        ax = signature.parameters["ax"]
        assert (ax.kind, ax.default, ax.annotation) == (ax.KEYWORD_ONLY, None, "Axes | None")
        assert "ax : Axes, optional\n    Where to draw; a new figure when not given.\n" in told
        assert told.index("Parameters\n") < told.index("ax : Axes") < told.index("Returns\n")


def lq():
    return lqrad.LQProblem([[1.1, 0.2], [0, 0.9]], [[0.1], [1.0]], np.eye(2), [[1.0]])


def model():
    return lqrad.SmoothingProblem([[1]], [[1], [2]], [[1]], np.eye(2), [0], [[1]])


def plant():
    return lqrad.StateSpace([[1, 0.1], [0, 1]], [[0.005], [0.1]], [[1, 0]], dt=0.1)


def nonlinear_result():
    system = lqrad.nonlinear.van_der_pol()
    return lqrad.ilqr(system.problem, system.x0, T=system.T, max_iter=3)


def inversion():
    decay = lqrad.SparseLQProblem(None, [[0.9]], [[1.0]], [1.0], [1.0])
    return lqrad.pde.invert(decay, [[1.0], [0.92], [0.79]], [[1.0]], noise=0.1)


def training():
    graph = lqrad.mlp([1, 1], loss="squared")
    data = {"x": [[0.0], [1.0]], "y": [[1.0], [3.0]]}
    return lqrad.sgd(graph, graph.initial(0), data, epochs=5, rng=0)


x0, y = [1.0, -1.0], np.ones((6, 2))
DRAWN = {
    "Blowup": lambda: lqrad.blowup(lq(), x0, T=20),
    "ClosedLoop": lambda: lqrad.simulate_closed_loop(
        plant(), lqrad.lqr(plant(), np.eye(2), [[1]]), 20, x0=x0
    ),
    "Comparison": lambda: lqrad.compare(lq(), x0, T=20),
    "Conditioning": lambda: lqrad.growth.conditioning(lq(), [0.9, 1.1], [5, 10]),
    "Cures": lambda: lqrad.growth.cures(lq(), x0, T=20),
    "Descent": lambda: lqrad.descend(lq().objective(x0, 20)),
    "Design": lambda: lqrad.design_controller(plant(), np.eye(2), [[1]]),
    "Filtered": lambda: lqrad.kalman_filter(model(), y),
    "GradientGrowth": lambda: lqrad.gradient_growth([[1.5]], T=30),
    "ILQR": nonlinear_result,
    "Inversion": inversion,
    "LostDigits": lambda: lqrad.growth.lost_digits(lq(), x0),
    "Nonnormality": lambda: lqrad.growth.nonnormality([[0.9, 10.0], [0.0, 0.8]]),
    "Plan": lambda: lqrad.mpc(lq(), 5, input_bounds=(-1.0, 1.0)).plan(x0),
    "PlanRows": lambda: lqrad.mpc(lq(), 5, input_bounds=(-1.0, 1.0)).plan(x0).rows,
    "PolicyGradient": lambda: lqrad.policies.policy_gradient(lq(), [[0.5, 0.5]], max_iter=4),
    "Riccati": lambda: lqrad.riccati(lq(), T=20),
    "Shooting": lambda: lqrad.lq.multiple_shooting(lq(), x0, T=20),
    "Smoothed": lambda: lqrad.kalman_smoother(model(), y),
    "StepResponse": lambda: lqrad.step_response(lqrad.StateSpace([[0.8]], [[0.2]], dt=0.1)),
    "Training": training,
    "Trajectory": lambda: lqrad.riccati(lq(), T=20).rollout(x0),
}
WITHOUT = {
    "Cure": "one row of Cures, which is drawn",
    "Duality": "two sequences of matrices that are equal",
    "Ended": "a base of results",
    "Feasibility": "a sentence",
    "Fit": "one curve: plot_trajectory of its history",
    "GraphKKT": "three numbers",
    "InvariantSet": "a polytope of any number of states",
    "KKT": "three numbers",
    "LQGradient": "derivatives in matrices",
    "LoopMargins": "numbers; plot_nyquist(loop, margins) draws them in the loop, which they have not",
    "LowRank": "a change of variables",
    "Margins": "numbers; plot_nyquist(loop, margins) draws them in the loop, which they have not",
    "Modes": "a table with words",
    "PlanGradient": "derivatives in matrices",
    "RiccatiBatch": "many feedback laws: plot draws that of one, riccati(batch[i], T)",
    "Score": "derivatives in matrices",
    "Sweep": "a table of whatever its function returned",
    "TaylorTest": "one number, the order",
    "WorstCase": "four numbers",
}


def kinds_of(base):
    for kind in base.__subclasses__():
        yield kind
        yield from kinds_of(kind)


def test_every_result_is_drawn_or_is_listed_with_the_reason():
    for module in pkgutil.walk_packages(lqrad.__path__, "lqrad."):
        if not module.name.endswith(("__main__", ".kernels")):  # a C library, not a module
            importlib.import_module(module.name)
    kinds = {kind for kind in kinds_of(Report) if kind.__module__.startswith("lqrad.")}
    pictured = {kind.__name__ for kind in kinds if draw.dispatch(kind) is not draw.dispatch(object)}
    assert pictured == DRAWN.keys()
    parts = {kind for kind in kinds if kind.__name__.endswith(("History", "Expansions"))}
    assert {kind.__name__ for kind in kinds - parts} - pictured == WITHOUT.keys()


@pytest.mark.parametrize("name", DRAWN)
def test_what_a_result_draws_is_labelled_has_the_house_look_and_covers_nothing(name):
    result = DRAWN[name]()
    assert type(result).__name__ == name
    made = result.plot()
    figure = made.figure if isinstance(made, Axes) else made
    assert isinstance(figure, plotting.Picture)
    figure.draw_without_rendering()
    bars = [ax for ax in figure.axes if not ax.get_xlabel() and ax.get_ylabel()]
    for ax in figure.axes:
        if not ax.axison or ax in bars:
            continue
        assert ax.get_ylabel()
        for label in (ax.get_xlabel(), ax.get_ylabel()):
            assert not re.search(r" \[[^\]]+\]$", label)  # units are in round brackets
        parts = [*ax.images, *ax.collections]
        is_map = any(part.get_array() is not None for part in parts)
        for side in ("top", "right"):
            assert ax.spines[side].get_visible() == is_map
        inside = ax.get_window_extent()
        legend = ax.get_legend()
        if legend is not None:
            assert legend.get_window_extent().y0 >= inside.y1
        for text in ax.texts:
            if text.get_gid():
                assert text.get_window_extent().x0 >= inside.x1


def test_what_has_no_picture_says_what_to_try():
    with pytest.raises(DtypeError, match=r"there is no picture of a Modes; lqrad\.plotting has"):
        lqrad.controllability([[1.0]], [[1.0]]).plot()


def test_several_descents_or_trainings_share_axes():
    runs = [lqrad.descend(lq().objective(x0, 10), method=m) for m in ("gradient", "nesterov")]
    ax = lqrad.plot(runs, names=["one", "other"])
    assert list(named_lines(ax)) == ["one", "other"]
    lowest = min(run.history.cost.min() for run in runs)
    for run, line in zip(runs, named_lines(ax).values(), strict=True):
        above = (run.history.cost - lowest) / lowest
        np.testing.assert_array_equal(line.get_ydata(), above[above > 0])
    named = named_lines(ax).values()
    bounds = [line for line in ax.lines if line not in named]
    for run, line, bound in zip(runs, named, bounds, strict=True):
        np.testing.assert_array_equal(bound.get_ydata(), run.history.gap_bound / lowest)
        assert bound.get_linewidth() < line.get_linewidth()
        assert bound.get_linestyle() == line.get_linestyle()


def test_a_long_descent_has_no_dots_and_a_short_one_beside_it_is_seen():
    objective = lqrad.systems.aircraft().problem().objective([10, 0, 0, 5], 80)
    long, short = (lqrad.descend(objective, method=m) for m in ("gradient", "conjugate-gradient"))
    assert long.iterations > 100 > 60 > short.iterations
    lines = named_lines(lqrad.plot([long, short], names=["long", "short"]))
    assert lines["long"].get_marker() == "None"
    assert lines["short"].get_marker() == "."
    assert lines["long"].axes.get_xscale() == "symlog"
    assert lines["long"].get_xdata()[0] == 0
    assert lqrad.plot(long).get_xscale() == "linear"


def test_angles_are_counted_in_turns():
    pendulum = lqrad.nonlinear.pendulum_swingup()
    problem = lqrad.PolicyProblem(pendulum.problem, lqrad.linear_policy(2, 1), T=2)
    names, extent = ["angle (rad)", "rate (rad/s)", "torque (N m)"], (-7, 7, -8, 8)
    policy = plotting.plot_policy(problem, {"K": [[1, 1]]}, extent=extent, names=names)
    portrait = plotting.plot_portrait(pendulum, [[np.pi, 0.0], [0.0, 1.0]])
    for ax in (policy, portrait):
        ax.figure.draw_without_rendering()
        assert "π" in [text.get_text() for text in ax.get_xticklabels()]
        assert not any("π" in text.get_text() for text in ax.get_yticklabels())


def test_trainings_are_drawn_together():
    assert len(lqrad.plot((training(), training())).lines) == 2
    for wrong in ([DRAWN["Descent"](), training()], [DRAWN["Riccati"]()] * 2, []):
        with pytest.raises(DtypeError, match="there is no picture of several results"):
            lqrad.plot(wrong)


def test_curves_are_named_where_they_end_if_those_places_are_apart():
    apart, close = np.array([[0.0, 0.0], [1.0, -1.0]]), np.array([[1.0, -1.0], [0.0, 0.01]])
    ax = plot_trajectory(apart, names=["up", "down"])
    assert ax.get_legend() is None
    assert [(text.get_text(), text.xy[1]) for text in ax.texts] == [("up", 1.0), ("down", -1.0)]
    ax.figure.draw_without_rendering()
    edge = ax.get_window_extent().x1
    assert all(text.get_window_extent().x0 > edge for text in ax.texts)
    ax = plot_trajectory(close, names=["up", "down"])
    assert list(ax.texts) == []
    assert names_of(ax) == ["up", "down"]
    assert plot_trajectory(apart, names=["up" * 20, "down"]).get_legend() is not None


def test_gains_are_drawn_entry_by_entry():
    solution = DRAWN["Riccati"]()
    lines = named_lines(plotting.plot_gains(solution, dt=0.1))
    np.testing.assert_array_equal(lines["K[0, 1]"].get_ydata(), solution.K[:, 0, 1])


def test_innovations_are_in_standard_deviations():
    filtered = DRAWN["Filtered"]()
    line = plotting.plot_innovations(filtered).lines[1]
    expected = filtered.innovations[:, 1] / np.sqrt(filtered.innovation_cov[:, 1, 1])
    np.testing.assert_array_equal(line.get_ydata(), expected)


def test_a_smoothed_series_is_drawn_with_its_data_or_without():
    smoothed, data = DRAWN["Smoothed"](), y.copy()
    data[2:4, 0] = np.nan
    first, _ = lqrad.plot(smoothed, data).axes
    assert {"not observed", "observed"} <= set(names_of(first))
    first, _ = lqrad.plot(smoothed).axes
    assert names_of(first)[-1] == "smoothed mean"
    assert list(first.patches) == []


def test_a_plan_is_drawn_with_its_references():
    """Dots in the colours of the states and inputs that are to follow them; none where there is none."""
    controller = lqrad.mpc(lq(), 5, input_bounds=(-1.0, 1.0))
    ramp = np.outer(np.arange(6.0), [0.5, 0.1])
    figure = lqrad.plot(controller.plan(x0, x_ref=ramp, u_ref=[0.3]))
    for ax, expected in zip(figure.axes[:2], (ramp, np.full((5, 1), 0.3)), strict=True):
        dotted = [line for line in ax.lines if line.get_marker() == "."]
        assert len(dotted) == expected.shape[1]
        followed = {str(line.get_color()) for line in ax.lines if line.get_marker() != "."}
        assert {str(line.get_color()) for line in dotted} <= followed
        drawn = sorted(tuple(line.get_ydata()) for line in dotted)
        np.testing.assert_allclose(drawn, sorted(map(tuple, expected.T)))
    plain = lqrad.plot(controller.plan(x0))
    assert not [line for line in plain.axes[0].lines if line.get_marker() == "."]
