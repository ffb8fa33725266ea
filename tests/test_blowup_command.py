"""`lqrad blowup`, as a user at a shell sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lqrad.cli import main

SMALL = {"A": [[1.3]], "B": [[1.0]], "Q": [[1.0]], "R": [[1.0]], "x0": [1.0], "T": 100}


@pytest.fixture
def run(capsys):
    def run(*words):
        status = main(["blowup", *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_the_pendulum_is_told_and_drawn(run, tmp_path):
    picture = tmp_path / "out.png"
    words = ["--system", "inverted-pendulum", "--horizon", 200, "--plot", picture]
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    assert out.startswith("inverted-pendulum: n=4, m=1, sampled every 0.02 s, horizon 200\n")
    assert "growth per step: fitted 1.117" in out
    assert re.search(r"observed from T = 1[6-9]\d on, predicted from T = 170 on", out)
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert rows["feedback"].endswith("converged")
    assert rows["multiple shooting"].endswith("converged")
    assert "none: ill-conditioned after 2000 iterations, the limit max_iter: the Hessian's" in out
    assert out.endswith(f"picture: {picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_is_all_that_is_printed(run, tmp_path):
    model = tmp_path / "model.json"
    model.write_text(json.dumps(SMALL))
    status, out, err = run("--file", model, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["T"] == 100
    assert found["growth"]["rate"] == pytest.approx(0.262364, rel=1e-5)
    assert found["digits"]["observed"] < 100
    assert [cure["name"] for cure in found["cures"]][:3] == ["none", "none", "feedback"]


def test_a_stable_system_is_told_too(run):
    status, out, _ = run("--system", "double-integrator")
    assert status == 0
    assert "overflow" not in out


def test_the_examples_of_the_help_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = {"A": [[1, 0.1], [0, 1]], "B": [[0], [1]], "Q": [[1, 0], [0, 1]], "R": [[1]]}
    Path("model.json").write_text(json.dumps(file))
    assert main(["blowup", "--help"]) == 0
    lines = list(map(str.strip, capsys.readouterr().out.splitlines()))
    examples = [line.split("  ")[0].split() for line in lines if line.startswith("lqrad blowup")]
    assert len(examples) >= 3
    for words in examples:
        assert main(words[1:]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--system", "spaceship"], "invalid choice: 'spaceship'"),
        (["--horizon", "0"], "'0' is not a whole number from 1"),
        (["--plot", "out.gif"], "--plot out.gif: expected a name that ends in .png, .svg, .pdf"),
        (["--x0", "1,2"], "x0 has 2 entries, expected n = 4"),
        (["--file", "missing.json"], "missing.json"),
        (["--tol", "1"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_refused_in_one_line(run, words, says):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert says in err
    assert err.startswith("lqrad: ")
    assert err.count("\n") == 1
