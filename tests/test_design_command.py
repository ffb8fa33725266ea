"""`lqrad design`, as one types it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lqrad
from lqrad.cli import main

PLANT = {
    "A": [[0, 1], [0, -0.5]],
    "B": [[0], [1]],
    "C": [[1, 0]],
    "Q": [[10, 0], [0, 1]],
    "R": [[0.1]],
    "dt": 0.05,
    "W": [[1e-6, 0], [0, 1e-4]],
    "V": [[1e-5]],
    "Q_i": [[0.01]],
    "low": -2,
    "high": 2,
    "reference": [0.7],
}


@pytest.fixture
def plant(tmp_path):
    path = tmp_path / "plant.json"
    path.write_text(json.dumps(PLANT))
    return path


def test_a_file_becomes_a_controller_and_a_picture(plant, tmp_path, capsys):
    out, picture = tmp_path / "controller.json", tmp_path / "design.png"
    words = ["design", "--file", str(plant), "--out", str(out), "--plot", str(picture)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for words in (
        "n=2, m=1, sampled every 0.05 s",
        "Controller(n=2, m=1, ny=1, dt=0.05 s, 1 tracked with integral action, limited inputs)",
        "margins, the loop broken at the plant's inputs",
        "response to a unit step, of tracked 0, then the inputs",
        "mean cost of a step under noise",
        f"controller: {out.resolve()}",
    ):
        assert words in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    controller = lqrad.load_controller(out)
    sampled = lqrad.discretise(*(PLANT[name] for name in "ABQR"), dt=0.05)
    expected = lqrad.lqg(
        sampled.plant(PLANT["C"]),
        sampled.Q,
        sampled.R,
        PLANT["W"],
        PLANT["V"],
        M=sampled.M,
        Q_i=PLANT["Q_i"],
    )
    np.testing.assert_array_equal(controller.K, expected.K)


def test_json_holds_every_figure(plant, capsys):
    assert main(["design", "--file", str(plant), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plant"] == str(plant)
    assert {"dt", "K", "K_i", "L", "poles", "margins", "response", "cost_rate"} <= found.keys()
    assert found["margins"]["loops"][0]["gain"][1] > 1


def test_an_example_system_needs_no_file(capsys):
    assert main(["design", "--system", "double-integrator"]) == 0
    assert "double-integrator: n=2, m=1, sampled every 0.1 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"B": [[0], [0]], "Q_i": None}, "B cannot move the mode"),
        ({"C": [[0, 0]]}, "no sensor in C sees a mode"),
        ({"R": [[-1]]}, "R has the eigenvalue -1"),
        ({"dt": 0}, "dt is 0"),
        ({"Q": None}, "lacks Q"),
        ({"low": 3}, "low and high leave nothing at [0]: low is 3 and high is 2"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(plant, capsys, changes, message):
    data = {k: v for k, v in (PLANT | changes).items() if v is not None}
    plant.write_text(json.dumps(data))
    assert main(["design", "--file", str(plant)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lqrad: ")
    assert message in error
    assert error.count("\n") == 1


def test_targets_are_looked_at_before_any_work(plant, capsys):
    assert main(["design", "--file", str(plant), "--out", str(plant)]) == 2
    assert "is the input; save under another name" in capsys.readouterr().err
    assert main(["design", "--out", "controller.txt"]) == 2
    assert "expected a name that ends in .json, .npz" in capsys.readouterr().err
    assert main(["design", "--plot", "design.gif"]) == 2
    assert "expected a name that ends in .png" in capsys.readouterr().err
