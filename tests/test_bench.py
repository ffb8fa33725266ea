"""The benchmark compares like with like; its times are nobody's promise and are not tested."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lqrad

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench.py"


@pytest.fixture(scope="module")
def bench():
    """What the script defines; the threads that it sets up are for a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize("n", [2, 12])
def test_the_loop_computes_what_we_compute(bench, n):
    problem, rng = bench["random_problem"](n, max(1, n // 2)), np.random.default_rng(0)
    x0, u = rng.normal(size=n), rng.normal(size=(20, problem.m))
    value, gradient = bench["numpy_loop"](problem, x0, u)
    ours = problem.value_and_gradient(x0, u)
    assert value == pytest.approx(ours[0], rel=1e-12)
    assert gradient == pytest.approx(ours[1], rel=1e-10, abs=1e-10)


def test_jax_computes_what_we_compute(bench):
    pytest.importorskip("jax")
    problem, rng = bench["random_problem"](4, 2), np.random.default_rng(0)
    x0, u = rng.normal(size=4), rng.normal(size=(20, 2))
    ours = problem.value_and_gradient(x0, u)
    for way in bench["jax_gradients"](problem, x0).values():
        value, gradient = way(u)
        assert float(value) == pytest.approx(ours[0], rel=1e-12)
        assert np.asarray(gradient) == pytest.approx(ours[1], rel=1e-10, abs=1e-10)


def test_pytorch_computes_what_we_compute(bench):
    pytest.importorskip("torch")
    graph, rng = lqrad.mlp([5, 4, 4, 3], "tanh"), np.random.default_rng(0)
    theta = graph.initial(rng)
    x, y = rng.normal(size=(7, 5)), rng.integers(0, 3, 7)
    value, slopes = bench["torch_gradient"](theta, x, y)()
    ours = graph.objective({"x": x, "y": y}).value_and_gradient(graph.flatten(theta))
    assert value == pytest.approx(ours[0], rel=1e-12)
    np.testing.assert_allclose(np.concatenate([z.ravel() for z in slopes]), ours[1], atol=1e-14)


def test_the_naive_riccati_recursion_finds_our_gains(bench):
    problem = bench["random_problem"](4, 2, 1.1)
    naive = bench["naive_riccati"](problem, 30)
    assert naive == pytest.approx(lqrad.riccati(problem, 30).K, rel=1e-9, abs=1e-12)


def test_osqp_solves_what_our_receding_horizon_solves(bench):
    pytest.importorskip("osqp")
    problem = lqrad.LQProblem([[1, 0.1], [0, 1]], [[0.005], [0.1]], np.eye(2), [[0.1]])
    controller = lqrad.mpc(problem, 10, input_bounds=(-0.5, 0.5), state_bounds=(-3, 3))
    solve = bench["osqp_of"](controller.problem, 10, 0.5, 3.0, 1e-9)
    for x in ([1.0, 0.0], [-1.0, 0.3]):
        cost, u = solve(np.array(x))
        plan = controller.plan(x)
        assert plan.y.any()
        assert cost == pytest.approx(plan.cost, rel=1e-6)
        assert u == pytest.approx(plan.u[0], abs=1e-6)


def test_a_loop_over_runs_simulates_what_we_simulate(bench):
    plant = lqrad.StateSpace([[0.9]], [[0.1]], dt=0.1)
    controller = lqrad.lqr(plant, [[1]], [[1]])
    W, V, one = np.eye(1), np.eye(1), np.random.default_rng(0)
    theirs = bench["loop_over_runs"](plant, controller, 400, W, V, 200, one)
    ours = lqrad.simulate_closed_loop(plant, controller, 400, W=W, V=V, runs=200, rng=1)
    assert theirs.std() == pytest.approx(ours.x[:, -1].std(), rel=0.2)


def test_a_ratio_is_the_median_of_those_of_the_rounds(bench):
    assert bench["ratio"]([2.0, 30.0, 4.0], [1.0, 1.0, 1.0]) == 4


def test_an_unknown_section_is_refused(bench):
    done = subprocess.run(
        [sys.executable, SCRIPT, "gradient", "speed"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )
    assert done.returncode == 1
    assert done.stderr == f"unknown section speed; there are {', '.join(bench['SECTIONS'])}\n"
    assert done.stdout == ""


def test_the_head_of_the_script_names_every_section(bench):
    assert all(name in bench["__doc__"] for name in bench["SECTIONS"])
