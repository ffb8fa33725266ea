"""Series and models from files, smoothed from the shell, and their picture."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import lqrad
from lqrad.cli import main
from lqrad.datasets import load
from lqrad.errors import ArgumentError, ShapeError
from lqrad.files import load_smoothing_model
from lqrad.files.series import load_series
from lqrad.plotting import plot_smoothed, plot_smoothed_outputs

FLOW = load("nile")[1][:, 0]
LEVEL = {"A": [[1]], "C": [[1]], "W": [[1469.1]], "V": [[15099]]}
GAPS = [*range(20, 40), *range(60, 80)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the Nile's flow, two gaps in it, and a model of a drifting level."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{1871 + k},{'' if k in GAPS else float(v)}" for k, v in enumerate(FLOW)]
    (tmp_path / "flow.csv").write_text("year,flow\n" + "\n".join(lines) + "\n")
    (tmp_path / "level.json").write_text(json.dumps(LEVEL))
    (tmp_path / "one.csv").write_text("year,flow\n1871,1120\n")
    return tmp_path


def nile_with_gaps():
    y = np.array(FLOW, dtype=float)[:, None]
    y[GAPS] = np.nan
    return y


def test_a_series_comes_with_its_labels_and_its_gaps(folder):
    series = load_series("flow.csv", columns=1)
    np.testing.assert_array_equal(series.y, nile_with_gaps())
    assert series.labels[:2] == ["1871", "1872"]
    assert series.names == ["year", "flow"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("a,b\n1,2\n", [[1, 2]]),
        (",\n1,nan\nNA,2\n", [[np.nan, np.nan], [1, np.nan], [np.nan, 2]]),
        ("\ufeff1,2\n3,4\n\n\n", [[1, 2], [3, 4]]),
        ("t,a,b\n0,1,2\n", [[1, 2]]),
        (",a,b\n0,1,2\n", [[1, 2]]),
    ],
    ids=["plain", "header", "missing", "byte order mark", "labels", "nameless labels"],
)
def test_what_a_series_may_look_like(tmp_path, text, expected):
    path = tmp_path / "series.csv"
    path.write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(load_series(path, columns=2).y, expected)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1,2\n3\n", "line 2: 1 entry, expected 2"),
        ("1,2,3,4\n", "line 1: 4 entries, expected 2, or 3 with a label"),
        ("a,b\n1,two\n", "line 2: 'two' is not a number"),
        ("1,inf\n", "line 1: 'inf' is not a number"),
        ("inf,inf\n1,2\n", "line 1: 'inf' is not a number"),
        ("a,b\n", "holds no rows of numbers"),
        ("", "holds no rows of numbers"),
    ],
)
def test_a_series_that_is_none_is_refused_with_its_line(tmp_path, text, match):
    path = tmp_path / "series.csv"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=match) as raised:
        load_series(path, columns=2)
    assert str(path) in str(raised.value)


def test_a_series_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArgumentError, match=r"none\.csv cannot be read"):
        load_series(tmp_path / "none.csv", columns=1)


@pytest.mark.parametrize("ending", ["json", "npz", "mat"])
def test_a_model_is_the_same_from_every_kind_of_file(tmp_path, ending):
    arrays = {
        "A": np.array([[1.0, 0.1], [0.0, 0.9]]),
        "C": np.array([[1.0, 0.0]]),
        "W": np.eye(2),
        "V": np.array([[2.0]]),
        "m0": np.array([1.0, 2.0]),
        "P0": np.eye(2),
        "c": np.array([0.1, 0.2]),
        "d": np.array([3.0]),
    }
    path = tmp_path / f"model.{ending}"
    if ending == "json":
        path.write_text(json.dumps({name: array.tolist() for name, array in arrays.items()}))
    elif ending == "npz":
        np.savez(path, **arrays)
    else:
        from scipy.io import savemat

        savemat(path, arrays)
    problem = load_smoothing_model(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(problem, name), array)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"A": [[1]]}, "lacks C, W, V; a model has A, C, W, V and may have B, D, Q"),
        ({**LEVEL, "b": [[1]]}, "holds b; a model has A, C, W, V"),
        ({**LEVEL, "V": [[-1]]}, r"model.json: V has the eigenvalue -1"),
    ],
)
def test_a_model_that_is_none_is_refused_by_name(tmp_path, data, match):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(data))
    with pytest.raises(lqrad.LqradError, match=match):
        load_smoothing_model(path)


def test_the_command_writes_what_the_smoother_finds(folder, capsys):
    status = main(
        [
            "smooth",
            "flow.csv",
            "--model",
            "level.json",
            "--out",
            "states.csv",
            "--plot",
            "flow.png",
            "--forecast",
            "5",
        ]
    )
    said = capsys.readouterr().out
    assert status == 0
    assert "100 rows, 60 of 100 entries observed" in said
    y = np.concatenate([nile_with_gaps(), np.full((5, 1), np.nan)])
    smoothed = lqrad.kalman_smoother(load_smoothing_model("level.json"), y)
    assert f"log-likelihood {smoothed.loglik:.6f}" in said
    with open("states.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["year", "x[0]", "y[0]", "sd[0]", "sd_level[0]", "sd_y[0]"]
    assert [row[0] for row in rows[98:102]] == ["1969", "1970", "1971", "1972"]
    table = np.array([[float(value) for value in row[1:]] for row in rows])
    np.testing.assert_array_equal(table[:, 0], smoothed.x[:, 0])
    np.testing.assert_array_equal(table[:, 1], smoothed.x[:, 0])
    for column, variance in ((2, 0.0), (3, 0.0), (4, 15099.0)):  # the level's, and an observation's
        np.testing.assert_allclose(table[:, column] ** 2, smoothed.cov[:, 0, 0] + variance)
    assert (folder / "flow.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("smooth none.csv --model level.json", "none.csv cannot be read"),
        ("smooth flow.csv --model none.json", "none.json cannot be read"),
        ("smooth flow.csv", "--model"),
        ("smooth flow.csv --model level.json --out states.xls", "ends in .csv"),
        ("smooth flow.csv --model level.json --plot flow.gif", "ends in .png, .svg, .pdf"),
        ("smooth flow.csv --model level.json --forecast -1", "not a whole number"),
        ("smooth level.json --model level.json", "no rows of numbers"),
        ("smooth flow.csv --model level.json --out flow.csv", "is the input"),
        ("smooth one.csv --model level.json --forecast 3 --out states.csv", "has one row"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(folder, capsys, words, says):
    before = sorted(folder.rglob("*"))
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_the_picture_shows_data_mean_band_and_gaps():
    problem = lqrad.SmoothingProblem([[1]], [[1]], [[1469.1]], [[15099]], None, None)
    y = nile_with_gaps()
    smoothed = lqrad.kalman_smoother(problem, y)
    years = 1871 + np.arange(100)
    ax = plot_smoothed(problem, y, smoothed, t=years, name="flow of the Nile (1e8 m^3)")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    bands = ["95 % of observations y", "95 % band of the level C x"]
    assert labels == ["not observed", *bands, "smoothed mean", "observed"]
    for band, V in zip(bands, (15099.0, 0.0), strict=True):
        drawn = next(part for part in ax.collections if part.get_label() == band)
        half = 1.96 * np.sqrt(smoothed.cov[:, 0, 0] + V)
        top = np.array([drawn.get_paths()[0].vertices[:, 1].max()])
        assert top == pytest.approx((smoothed.x[:, 0] + half).max())
    assert ax.get_ylabel() == "flow of the Nile (1e8 m^3)"
    mean = next(line for line in ax.lines if line.get_label() == "smoothed mean")
    np.testing.assert_array_equal(mean.get_ydata(), smoothed.x[:, 0])
    np.testing.assert_array_equal(mean.get_xdata(), years)
    spans = [patch.get_extents() for patch in ax.patches]
    assert len(spans) == 2


def test_the_picture_refuses_what_does_not_fit():
    problem = lqrad.SmoothingProblem([[1]], [[1]], [[1]], [[1]], [0], [[1]])
    y = np.zeros((4, 1))
    smoothed = lqrad.kalman_smoother(problem, y)
    with pytest.raises(ArgumentError, match="output is 1, expected one of 0"):
        plot_smoothed(problem, y, smoothed, output=1)
    with pytest.raises(ShapeError, match=r"t has shape \(3,\), expected \(4,\)"):
        plot_smoothed(problem, y, smoothed, t=[1, 2, 3])
    with pytest.raises(ArgumentError, match="covariances=True"):
        plot_smoothed(problem, y, lqrad.kalman_smoother(problem, y, covariances=False))
    with pytest.raises(ShapeError, match="to match y"):
        plot_smoothed(problem, np.zeros((5, 1)), smoothed)


def test_a_name_is_no_formula():
    problem = lqrad.SmoothingProblem([[1]], [[1]], [[1]], [[1]], [0], [[1]])
    y = np.zeros((4, 1))
    ax = plot_smoothed(problem, y, lqrad.kalman_smoother(problem, y), name="flow $x_$")
    ax.figure.draw_without_rendering()


def test_every_output_has_a_panel():
    problem = lqrad.SmoothingProblem([[1]], [[1], [2]], [[1]], np.eye(2), [0], [[1]])
    y = np.zeros((4, 2))
    assert len(plot_smoothed_outputs(problem, y, lqrad.kalman_smoother(problem, y)).axes) == 2
