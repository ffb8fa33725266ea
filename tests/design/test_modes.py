"""Which modes inputs move and outputs show, against ranks of the classical matrices."""

from __future__ import annotations

import time

import numpy as np
import pytest
from plants import flexible_structure, rod

import lqrad
from lqrad import ArgumentError, StateSpace


def hidden(seed, *, lost):
    """A system in random coordinates of whose modes the first `lost` are not moved by any input."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(lost + 1, 7)), int(rng.integers(1, 3))
    A = np.triu(rng.normal(size=(n, n)))
    A[:lost, lost:] = 0  # the lost modes drive the others, not the other way round
    A[lost:, :lost] = rng.normal(size=(n - lost, lost))
    B = rng.normal(size=(n, m))
    B[:lost] = 0
    change = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return change @ A @ change.T, change @ B, np.diag(A)[:lost]


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_lost_modes_are_found_with_their_directions(seed, lost):
    A, B, modes = hidden(seed, lost=lost)
    found = lqrad.controllability(A, B)
    assert (~found.reached).sum() == lost
    np.testing.assert_allclose(np.sort(found.eigenvalues[~found.reached].real), np.sort(modes))
    for s, w in zip(
        found.eigenvalues[~found.reached], found.directions[~found.reached], strict=True
    ):
        np.testing.assert_allclose(w.conj() @ A, s * w.conj(), atol=1e-9)
        np.testing.assert_allclose(w.conj() @ B, 0, atol=1e-9)
    dual = lqrad.observability(A.T, B.T)
    np.testing.assert_array_equal(dual.reached, found.reached)
    for s, v in zip(dual.eigenvalues[~dual.reached], dual.directions[~dual.reached], strict=True):
        np.testing.assert_allclose(A.T @ v, s * v, atol=1e-9)
        np.testing.assert_allclose(B.T @ v, 0, atol=1e-9)
    n = len(A)
    powers = [B]
    for _ in range(n - 1):
        powers.append(A @ powers[-1] / np.linalg.norm(A))
    assert found.all_reached == (np.linalg.matrix_rank(np.hstack(powers), tol=1e-8) == n)


def test_stabilisable_and_detectable():
    A = np.diag([1.1, 0.5])
    assert repr(lqrad.controllability(A, [[1.0], [0.0]])) == (
        "<Modes: 2, stabilisable; out of reach of inputs: 0.5>"
    )
    assert repr(lqrad.controllability(A, [[0.0], [1.0]])) == (
        "<Modes: 2, not stabilisable; out of reach of inputs: 1.1>"
    )
    assert repr(lqrad.observability(A, [[1.0, 1.0]])) == "<Modes: 2, observable>"
    continuous = StateSpace(np.diag([-1.1, 0.5]), [[1.0], [0.0]], dt=0)
    found = lqrad.controllability(continuous)
    assert not found.unstable_reached
    np.testing.assert_array_equal(found.stable, [True, False])
    assert lqrad.controllability(
        StateSpace(np.diag([-1.1, 0.5]), [[0.0], [1.0]], dt=0)
    ).unstable_reached


def test_a_complex_pair_and_a_defective_mode():
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    A = np.block([[turn, np.zeros((2, 1))], [np.zeros((1, 2)), np.full((1, 1), 0.5)]])
    found = lqrad.controllability(A, [[0.0], [0.0], [1.0]])
    np.testing.assert_array_equal(found.reached, [False, False, True])
    assert "0.6+0.8j" in found.table()
    jordan = np.diag(np.full(4, 0.9)) + np.eye(4, k=1)
    assert lqrad.controllability(jordan, np.eye(4)[:, 3:]).all_reached
    assert lqrad.controllability(jordan, np.eye(4)[:, :1]).reached.sum() == 1


def test_no_input_at_all_and_refusals():
    assert lqrad.observability(lqrad.systems.aircraft()).all_reached
    assert not lqrad.controllability(np.eye(2), np.zeros((2, 1))).reached.any()
    with pytest.raises(ArgumentError, match="A is given and B is not; pass both, or a system"):
        lqrad.controllability(np.eye(2))
    with pytest.raises(ArgumentError, match="A is given and C is not"):
        lqrad.observability([[1.0]])
    with pytest.raises(lqrad.ShapeError, match="B has shape"):
        lqrad.controllability(np.eye(2), np.zeros((3, 1)))


def test_a_repeated_mode_counts_once_for_each_dimension_out_of_reach():
    two_carts = lqrad.controllability(np.diag([0.5, 0.5]), [[1.0], [1.0]])
    assert two_carts.reached.sum() == 1
    assert repr(two_carts) == "<Modes: 2, stabilisable; out of reach of inputs: 0.5>"
    A = [[2, 1, 1], [5, 3, 6], [-5, -1, -4]]
    found = lqrad.controllability(A, [[1], [0], [0]])
    assert found.eigenvalues[~found.reached] == pytest.approx(2)
    np.testing.assert_allclose(found.directions[~found.reached], [[0, 1, 1]], atol=1e-14)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_the_unit_of_a_rate_does_not_decide(unit):
    s = lqrad.discretise([[0, 1], [0, -2]], [[0], [40]], dt=0.02)
    T = np.diag([1.0, unit])
    assert lqrad.controllability(T @ s.A / np.diag(T), T @ s.B).all_reached


@pytest.mark.parametrize(
    ("plant", "dt"),
    [
        (flexible_structure(120, low=1.0, high=1e3, damping=1e-3, m=2), 1e-3),
        (rod(120), 1e-3),
    ],
)
def test_large_plants_take_no_longer_than_three_regulators(plant, dt):
    """Of the processor, in the best of five rounds, each of which times both: it may have more to do."""
    sampled = lqrad.discretise(plant.A, plant.B, dt=dt)
    n, m = sampled.B.shape

    def seconds(run, *arguments):
        start = time.process_time()
        run(*arguments)
        return time.process_time() - start

    ratios = []
    for _ in range(5):
        regulator = seconds(lqrad.dlqr, sampled.A, sampled.B, np.eye(n), np.eye(m))
        ratios.append(seconds(lqrad.controllability, sampled.A, sampled.B) / regulator)
    assert min(ratios) < 3
