"""`lqrad heat`, as a user at a shell sees it."""

from __future__ import annotations

import json

import pytest

from lqrad.cli import main


@pytest.fixture
def run(capsys):
    def run(*words):
        status = main(["heat", *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_a_plate_is_told_and_drawn(run, tmp_path):
    picture = tmp_path / "plate.png"
    status, out, err = run("--cells", "12x10", "--horizon", 30, "--plot", picture)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "HeatSystem heat-plate: 12 x 10 cells, m=25, dt=5 s, T=30"
    assert lines[1].startswith("converged after ")
    assert "% off the target" in lines[2]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_rod_in_json(run):
    status, out, err = run("--cells", 20, "--horizon", 25, "--scheme", "crank-nicolson", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["cells"] == [20]
    assert found["gap_bound"] <= 1e-4 * abs(found["cost"])
    assert len(found["u"]) == 25
    assert found["status"] == "converged"


def test_the_status_is_one_where_the_tolerance_was_not_met(run):
    assert run("--cells", "10x10", "--horizon", 20, "--max-iter", 1)[0] == 1


def test_help_tells_of_the_options(run):
    status, out, _ = run("--help")
    assert status == 0
    assert "lqrad heat --cells 100x100 --plot plate.png" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cells", "10x"], "'10x' is not a number of cells such as 200 or 100x100"),
        (["--cells", "1"], "'1' is not a number of cells"),
        (["--scheme", "leapfrog"], "invalid choice: 'leapfrog'"),
        (
            ["--cells", "100", "--scheme", "explicit-euler"],
            "Lewy); try fewer --cells, or --scheme implicit-euler",
        ),
        (["--tol", "-1"], "tol is -1.0"),
        (["--plot", "plate.gif"], "expected a name that ends in .png, .svg, .pdf"),
    ],
)
def test_bad_input_is_refused_in_one_line(run, words, says):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert says in err
    assert err.startswith("lqrad: ")
    assert err.count("\n") == 1
