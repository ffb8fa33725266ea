"""The benchmark compares like with like; its times are nobody's promise and are not tested."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lqrad

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench.py"
COMPARED = ["gradient", "riccati", "dare", "batches", "smoother", "many", "fit", "mpc", "network"]
COMPARED += ["step", "ilqr"]


@pytest.fixture(scope="module")
def rows():
    """The quick rows of a section by its name; the threads that the script sets up are its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent / "benchmarks")
        patch.syspath_prepend(SCRIPT.parent)
        patch.setattr(os, "environ", dict(os.environ))
        script = importlib.import_module("bench")

        def of(section):
            return getattr(importlib.import_module(script.SECTIONS[section]), section)(True)

        yield of


@pytest.fixture(scope="module")
def engine(rows):
    return importlib.import_module("engine")


@pytest.mark.parametrize("section", COMPARED)
def test_every_peer_computes_what_we_compute(rows, engine, section):
    for row in rows(section):
        engine.same(row)


def test_a_peer_with_another_answer_is_not_timed(engine):
    row = engine.Row(
        "one", lambda: 1.0, lambda v: [[v]], [engine.Way("two", "", lambda: 1.1, lambda v: [[v]])]
    )
    with pytest.raises(AssertionError, match=r"one: two,  is 0\.1 from ours of 1"):
        engine.same(row)
    with pytest.raises(AssertionError, match="is nan from ours"):
        engine.same(row._replace(peers=[engine.Way("two", "", lambda: np.nan, lambda v: [[v]])]))


def test_the_fastest_way_of_a_peer_counts(engine):
    def slow():
        return sum(range(20_000))

    ways = [engine.Way("peer", name, call, list) for name, call in (("slow", slow), ("fast", int))]
    record = engine.timed(engine.Row("work", slow, list, ways), 3)
    assert record["peers"]["peer"]["way"] == "fast"
    assert record["peers"]["peer"]["with C"] < 0.5
    assert next(engine.lines(record)).startswith("| work | ")


def test_a_ratio_is_the_median_of_those_of_the_rounds(engine):
    assert engine.ratio([2.0, 30.0, 4.0], [1.0, 1.0, 1.0]) == 4


def test_a_loop_over_runs_simulates_what_we_simulate(rows):
    loop_over_runs = importlib.import_module("others").loop_over_runs
    plant = lqrad.StateSpace([[0.9]], [[0.1]], dt=0.1)
    controller = lqrad.lqr(plant, [[1]], [[1]])
    W, V, one = np.eye(1), np.eye(1), np.random.default_rng(0)
    theirs = loop_over_runs(plant, controller, 400, W, V, 200, one)
    ours = lqrad.simulate_closed_loop(plant, controller, 400, W=W, V=V, runs=200, rng=1)
    assert theirs.std() == pytest.approx(ours.x[:, -1].std(), rel=0.2)


def run(*arguments, cwd=None):
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )


def test_an_unknown_section_is_refused():
    done = run("gradient", "speed")
    assert done.returncode == 1
    assert done.stderr.startswith("unknown section speed; there are gradient, riccati, ")
    assert done.stdout == ""


def test_a_table_is_printed_and_a_report_is_written(tmp_path):
    done = run("--here", "--quick", "network", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| gradient of a network of 50-30-10, batch of 128 |" in done.stdout
    assert (tmp_path / "out" / "bench.json").exists()


def test_the_head_of_the_script_names_every_section(rows):
    script = importlib.import_module("bench")
    assert all(name in script.__doc__ for name in script.SECTIONS)
