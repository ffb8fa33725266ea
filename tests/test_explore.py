"""Sliders: the figure shows what the numbers say, and moving a slider draws what the call would."""

from __future__ import annotations

import builtins
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

import lqrad
from lqrad import ArgumentError, DtypeError, LqradError, StateSpace, explore

PLANT = StateSpace([[1, 0.1], [0, 1]], [[0.005], [0.1]], [[1, 0]], dt=0.1)
Q, R, Q_i = np.diag([2.0, 0.5]), np.eye(1), [[0.01]]


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


@pytest.mark.parametrize(("radius", "T", "R"), [(0.5, 5, 1e-3), (1.0, 60, 1.0), (1.3, 200, 1e3)])
def test_a_lecture_shows_costates_and_the_optimum(radius, T, R):
    figure = explore.lecture(radius=radius, T=T, R=R)
    assert isinstance(figure, Figure)
    left, middle, right = figure.axes
    A, B = radius * np.array([[1, 0.1], [0, 1]]), np.array([[0.005], [0.1]])
    x0 = np.array([1.0, 0.0])
    powers = [np.linalg.matrix_power(A, k) for k in range(T + 1)]
    p0 = sum(powers[t - 1].T @ powers[t] @ x0 for t in range(1, T + 1))  # Q = S = I
    assert lines(left)["at u = 0"].get_ydata()[0] == pytest.approx(np.linalg.norm(p0), rel=1e-9)
    problem = lqrad.LQProblem(A, B, np.eye(2), [[R]], S=np.eye(2))
    optimum = lqrad.riccati(problem, T).rollout(x0)
    np.testing.assert_array_equal(lines(right)["Riccati"].get_ydata(), optimum.u[:, 0])
    for method in ("gradient", "conjugate-gradient"):
        gaps = lines(middle)[method].get_ydata()
        assert gaps[0] > 0
        assert len(gaps) <= 101


def test_a_design_shows_response_margins_and_poles():
    found = lqrad.design_controller(PLANT, Q, R, Q_i=Q_i)
    figure = explore.design(PLANT, Q, R, Q_i=Q_i)
    left, _, right = figure.axes
    np.testing.assert_array_equal(lines(left)["tracked 0"].get_ydata(), found.response.y[:, 0, 0])
    np.testing.assert_array_equal(lines(right)["closed loop"].get_xdata(), found.poles.real)
    assert f"disk {found.margins.disk:.3g}" in titles(figure)[1]


def test_without_a_reference_the_states_are_shown():
    left = explore.design(PLANT, Q, R).axes[0]
    assert lines(left).keys() == {"x[0]", "x[1]"}
    assert lines(left)["x[0]"].get_ydata()[0] == 1.0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"radius": -1}, ArgumentError, "radius is -1"),
        ({"T": 0}, ArgumentError, "T is 0"),
        ({"T": 2.5}, ArgumentError, "T is 2.5"),
        ({"R": 0}, ArgumentError, "R is 0"),
        ({"R": "much"}, DtypeError, "R is 'much'"),
    ],
)
@pytest.mark.parametrize("sliders", [False, True])
def test_what_is_wrong_is_told_before_any_slider(options, error, words, sliders):
    with pytest.raises(error, match=words):
        explore.lecture(**options, sliders=sliders)


def test_what_is_no_plant_is_refused():
    with pytest.raises(ArgumentError, match="plant is of type ndarray, expected StateSpace"):
        explore.design(np.eye(2), Q, R)


def test_without_ipywidgets_the_error_says_what_to_install(monkeypatch):
    def missing(name, *args, **kwargs):
        if name == "ipywidgets":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", missing)
    for call in (
        lambda: explore.lecture(sliders=True),
        lambda: explore.design(PLANT, Q, R, sliders=True),
    ):
        with pytest.raises(LqradError, match=r"need ipywidgets; pip install 'lqrad\[notebook\]'"):
            call()
    assert isinstance(explore.lecture(), Figure)  # in a script nothing is missing


def test_importing_lqrad_does_not_load_it():
    program = "import sys, lqrad; print('lqrad.explore' in sys.modules, lqrad.explore.__all__)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False ['design', 'lecture']\n"


# --- with ipywidgets ------------------------------------------------------------------------------


@pytest.fixture
def _widgets():
    pytest.importorskip("ipywidgets")


def sliders_of(box):
    return {child.description: child for child in box.children if getattr(child, "description", "")}


def png(figure):
    return explore._png(figure)


@pytest.mark.usefixtures("_widgets")
def test_a_moved_slider_draws_what_the_call_would():
    box = explore.lecture(sliders=True)
    picture = box.children[-2]
    assert picture.value == png(explore.lecture(sliders=False))
    sliders_of(box)["spectral radius"].value = 1.2
    sliders_of(box)["horizon T"].value = 30
    assert picture.value == png(explore.lecture(radius=1.2, T=30, sliders=False))


@pytest.mark.usefixtures("_widgets")
def test_a_slider_multiplies_one_weight():
    coupled = np.array([[2.0, 0.5], [0.5, 0.5]])
    box = explore.design(PLANT, coupled, R, Q_i=Q_i, sliders=True)
    assert list(sliders_of(box)) == ["Q[0,0]", "Q[1,1]", "R[0,0]", "Q_i[0,0]"]
    sliders_of(box)["Q[0,0]"].value = 8.0
    D = np.diag([2.0, 1.0])
    expected = explore.design(PLANT, D @ coupled @ D, R, Q_i=Q_i, sliders=False)
    assert box.children[-2].value == png(expected)


@pytest.mark.usefixtures("_widgets")
def test_an_error_stands_below_the_last_picture(monkeypatch):
    box = explore.design(PLANT, Q, R, sliders=True)
    picture, message = box.children[-2:]
    before = picture.value

    def refuses(*_, **__):
        raise LqradError("no controller")

    with monkeypatch.context() as patch:
        patch.setattr(explore, "design_controller", refuses)
        sliders_of(box)["R[0,0]"].value = 5.0
    assert (picture.value, message.value) == (before, "no controller")
    sliders_of(box)["R[0,0]"].value = 6.0
    assert picture.value != before
    assert message.value == ""
