"""`lqrad swingup`, as a user at a shell sees it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lqrad.cli import main
from lqrad.nonlinear.systems import NONLINEAR_SYSTEMS


@pytest.fixture
def run(capsys):
    def run(*words):
        status = main(["swingup", *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_the_cart_pole_is_told_drawn_and_filmed(run, tmp_path):
    picture, film = tmp_path / "out.png", tmp_path / "out.gif"
    status, out, err = run("--plot", picture, "--gif", film)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "cart-pole: n=4, m=1, sampled every 0.05 s, horizon 80"
    assert lines[1].startswith("converged after ")
    assert lines[2].endswith(" of 80")
    (angle,) = (line for line in lines if line.startswith("  pole angle "))
    assert abs(float(angle.split()[2])) < 1e-3
    assert angle.endswith(" rad")
    assert out.endswith(f"picture: {picture}\nfilm: {film}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert film.read_bytes().startswith(b"GIF89a")


def test_json_is_all_that_is_printed(run, tmp_path):
    picture = tmp_path / "out.svg"
    status, out, err = run("--system", "pendulum", "--second-order", "--json", "--plot", picture)
    assert status == 0
    assert err == f"\npicture: {picture}\n"
    found, system = json.loads(out), NONLINEAR_SYSTEMS["pendulum"]()
    x, u = np.array(found["x"]), np.array(found["u"])
    assert found["status"] == "converged"
    np.testing.assert_allclose(system.problem.simulate(system.x0, u), x, atol=1e-6)
    assert found["cost"] == pytest.approx(system.problem.cost(x, u), rel=1e-12)
    assert found["costs"][-1] == found["cost"]
    assert found["inputs_at_bound"] == int((np.abs(u) == 4).sum()) > 0
    np.testing.assert_allclose(found["missed"], x[-1])
    assert np.shape(found["K"]) == (100, 1, 2)


def test_another_start_and_horizon(run):
    status, out, _ = run("--system", "van-der-pol", "--x0", "-1,0.5", "--horizon", "30", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["T"] == 30
    assert found["x"][0] == [-1.0, 0.5]


def test_the_status_tells_that_it_did_not_converge(run):
    status, out, err = run("--system", "pendulum", "--max-iter", "3")
    assert (status, err) == (1, "")
    assert "stopped after 3 iterations" in out


def test_the_examples_of_the_help_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["swingup", "--help"]) == 0
    lines = list(map(str.strip, capsys.readouterr().out.splitlines()))
    examples = [line.split("  ")[0].split() for line in lines if line.startswith("lqrad swingup")]
    assert len(examples) >= 3
    for words in examples:
        assert main([*words[1:], "--max-iter", "2", "--horizon", "10"]) in (0, 1)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--system", "spaceship"], "invalid choice: 'spaceship'"),
        (["--horizon", "0"], "'0' is not a whole number from 1"),
        (["--plot", "out.gif"], "--plot out.gif: expected a name that ends in .png, .svg, .pdf"),
        (["--gif", "out.png"], "--gif out.png: expected a name that ends in .gif"),
        (["--system", "pendulum", "--gif", "out.gif"], "films are of the cart-pole only"),
        (["--x0", "1,2"], "x0 has 2 entries, expected n = 4"),
        (["--tol", "small"], "argument --tol: invalid float value: 'small'"),
        (["--tol", "nan"], "tol is nan, expected a number of at least 0"),
        (["--file", "missing.json"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_refused_in_one_line(run, words, says):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert says in err
    assert err.startswith("lqrad: ")
    assert err.count("\n") == 1
