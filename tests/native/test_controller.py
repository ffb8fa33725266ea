"""A controller's step and its loop in C against their twins in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from random_controllers import random_controller, random_plant

import lqrad
from lqrad import Controller, NonFiniteError, Observer, native

pytestmark = pytest.mark.skipif(not native.status().in_use, reason=native.status().message)
SEEDS = range(24)


def controller_of(seed, bounds=(-0.3, 0.2)):
    """One of each kind in turn, every fifth of a plant with feedthrough and integrators."""
    if seed % 5:
        return random_controller(seed, bounds=bounds)
    plant, rng = random_plant(seed, radius=0.9)
    n, m, ny = plant.n, plant.m, plant.ny
    D = rng.normal(size=(ny, m))
    plant = lqrad.StateSpace(plant.A, plant.B, plant.C, D, dt=0.1)
    observer = Observer(plant.A, plant.B, plant.C, 0.1 * rng.normal(size=(n, ny)), D=D)
    gains = {"K_i": 0.1 * rng.normal(size=(m, 1)), "F": rng.normal(size=(m, 1)), "H": plant.C[:1]}
    K = 0.1 * rng.normal(size=(m, n))
    return Controller(observer, K, dt=0.1, input_bounds=bounds, **gains), plant


def agree(found, twin):
    """Each entry to rounding: beside the largest number of the same array, which all sums hold."""
    assert found.shape == twin.shape
    assert np.abs(found - twin).max(initial=0.0) <= 1e-13 * np.abs(twin).max(initial=1e-300)


@pytest.mark.parametrize("runs", [(), (1,), (3, 7)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_agrees_with_numpy(seed, runs):
    controller, plant = controller_of(seed)
    rng = np.random.default_rng(seed)
    references = (None, rng.normal(size=controller.nr), rng.normal(size=(*runs, controller.nr)))
    for t in range(9):
        controller.reset(x_hat := rng.normal(size=(*(runs if t else ()), plant.n)))
        y, r = rng.normal(size=(*runs, controller.observer.ny)), references[t % 3]
        moves = []
        for _ in range(3):
            u = controller.step(y, r)
            moves.append((u, controller.x_hat, controller.z))
        controller.reset(x_hat)
        with native.switched_off():
            for move in moves:
                twin = controller.step(y, r), controller.x_hat, controller.z
                for one, other in zip(move, twin, strict=True):
                    agree(one, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_has_the_same_bits_alone_and_among_others(seed):
    controller, plant = controller_of(seed)
    rng = np.random.default_rng(seed)
    x_hat, y = rng.normal(size=(37, plant.n)), rng.normal(size=(37, controller.observer.ny))
    controller.reset(x_hat)
    u, after = controller.step(y), controller.x_hat
    for run in range(37):
        controller.reset(x_hat[run])
        assert np.array_equal(controller.step(y[run]), u[run])
        assert np.array_equal(controller.x_hat, after[run])


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("runs", [None, 1, 19])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_loop_agrees_with_numpy(seed, runs, lag):
    controller, plant = controller_of(seed)
    rng = np.random.default_rng(seed)
    if not lag and plant.D.any() and not controller.predicts:
        pytest.skip("refused")
    options = {
        "reference": rng.normal(size=(30, controller.nr)) if seed % 3 else None,
        "W": 0.1 * np.eye(plant.n) if seed % 4 else None,
        "V": 0.1 * np.eye(controller.observer.ny) if seed % 2 else None,
        "input_bounds": (-0.25, 0.5),
        "x0": rng.normal(size=plant.n),
    }

    def run():
        return lqrad.simulate_closed_loop(
            plant, controller, 30, runs=runs, rng=seed, input_delay=lag, **options
        )

    found = run()
    with native.switched_off():
        twin = run()
    for name in "xyu":
        one, other = getattr(found, name), getattr(twin, name)
        # An unstable plant carries a rounding on.
        scale = 1e-13 * np.abs(other).max() * 1.1**30 * 30
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= scale, name


@pytest.mark.parametrize(
    ("y", "r", "words"),
    [
        ([1e308, 1e308], None, r"x_hat of the controller\[0\] is inf: it overflowed"),
        ([1e300, 0.0], None, r"u of the controller\[0\] is -inf: it overflowed"),
        ([0.0, np.nan], None, r"y\[1\] is nan, expected finite numbers"),
        ([0.0, 0.0], [np.inf], r"reference\[0\] is inf, expected finite numbers"),
        ([0.0, 0.0], [1.7e308], r"z of the controller\[0\] is -inf: it overflowed"),
    ],
)
def test_what_is_not_finite_is_told_as_by_the_twin(y, r, words):
    """And the memory is that of before."""
    observer = Observer(np.diag([2.0, 0.0]), [[0.0], [1.0]], np.eye(2), np.eye(2))
    gains = {"H": [[0.0, 1.0]], "K_i": [[1e-300]], "F": [[0.0]]}
    controller = Controller(observer, [[1e10, 0.0]], dt=1.0, **gains)
    if "x_hat" in words:
        controller = Controller(observer, [[1e-300, 0.0]], dt=1.0, **gains)
    if "z of" in words:
        controller.step([0.0, 0.0], [1.7e308])
    before = controller.x_hat, controller.z
    with pytest.raises(NonFiniteError, match=words):
        controller.step(y, r)
    with native.switched_off(), pytest.raises(NonFiniteError, match=words):
        controller.step(y, r)
    assert controller.x_hat is before[0]
    assert controller.z is before[1]


def test_a_reference_of_one_run_serves_all_by_any_shape():
    controller, _ = controller_of(3)
    y = np.random.default_rng(0).normal(size=(5, 4, controller.observer.ny))
    r = np.random.default_rng(1).normal(size=(4, controller.nr))
    u = controller.step(y, r)
    controller.reset()
    assert np.array_equal(controller.step(y, np.stack([r] * 5)), u)


def test_an_infinite_reference_is_no_reason_for_a_limit():
    observer = Observer([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    gains = {"H": [[1.0]], "F": [[1.0]], "input_bounds": (-1, 1)}
    controller = Controller(observer, [[0.1]], dt=1.0, **gains)
    with pytest.raises(NonFiniteError, match=r"reference\[0\] is inf, expected finite numbers"):
        controller.step([0.0], [np.inf])


def test_an_input_that_overflows_within_limits_is_at_its_limit_both_ways():
    """F r is infinite where its product is; the limit is not, and the loop goes on."""
    observer = Observer([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    controller = Controller(observer, [[0.1]], dt=1.0, H=[[1.0]], F=[[1e200]], input_bounds=(-1, 1))
    assert controller.step([0.0], [1e200]) == [1.0]
    plant = lqrad.StateSpace([[0.5]], [[1.0]], dt=1.0)
    loop = lqrad.simulate_closed_loop(plant, controller, 3, reference=[1e200])
    assert loop.u.ravel().tolist() == [1.0, 1.0, 1.0]


def test_arrays_in_any_order_and_from_another_plant():
    """What is not in C order, and a plant of more states than the model."""
    controller, _ = controller_of(2)
    rng = np.random.default_rng(0)
    n, ny = controller.n, controller.observer.ny
    y, x_hat = rng.normal(size=(ny, 5)).T, np.asfortranarray(rng.normal(size=(5, n)))
    controller.reset(x_hat)
    u = controller.step(y)
    controller.reset(np.ascontiguousarray(x_hat))
    assert np.array_equal(controller.step(np.ascontiguousarray(y)), u)
    more = np.diag(np.full(n + 2, 0.5))
    plant = lqrad.StateSpace(more, np.ones((n + 2, controller.m)), np.ones((ny, n + 2)), dt=0.1)
    found = lqrad.simulate_closed_loop(plant, controller, 5, x0=np.ones(n + 2))
    with native.switched_off():
        twin = lqrad.simulate_closed_loop(plant, controller, 5, x0=np.ones(n + 2))
    agree(found.x, twin.x)
