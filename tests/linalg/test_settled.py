"""What is called settled is: the stages left to come, run in long doubles, change it by 2 eps at most."""

from __future__ import annotations

import numpy as np
import pytest

from lqrad.linalg.settled import settled

EPS = np.finfo(float).eps
LOOPS = {
    "decays": np.diag([0.5, -0.8]),
    "grows before it decays": np.array([[0.9, 0.0], [50.0, 0.9]]),
    "the other way": np.array([[0.9, 50.0], [0.0, 0.9]]),
    "turns": 0.95 * np.array([[np.cos(1.5), np.sin(1.5)], [-np.sin(1.5), np.cos(1.5)]]),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("left", [3, 40, 2000])
def test_the_stages_left_change_nothing_where_it_is_called_settled(name, left):
    F = LOOPS[name].astype(np.longdouble)
    D = np.diag([1.0, 1e-6]).astype(np.longdouble)
    P, called = [D], []
    for _ in range(1400 + left):
        P.append(D + F.T @ P[-1] @ F)
    rounded = np.array(P, dtype=float)
    for k in range(4, 1400, 7):
        if not settled(rounded[k::-1], left, F.astype(float)):
            continue
        called.append(k)
        size = np.sqrt(np.diagonal(P[k]))
        change = np.abs(np.array(P[k + 1 : k + left + 1]) - P[k]) / np.outer(size, size)
        assert change.max() <= 3 * EPS  # and the rounding of P itself
    assert called
    # Nor is it called much later than it is true: nothing holds it up but the stages between two looks.
    k, size = called[0] - 14, np.sqrt(np.diagonal(P[called[0]]))
    if k > 4:
        later = np.abs(P[k + left] - P[k]) / np.outer(size, size)
        assert later.max() > 0.02 * EPS


def test_a_change_is_carried_on_by_the_loop_and_not_by_its_transpose():
    """F takes the second state to 1e9 times the first: F'D F has D[0, 0] alone in it."""
    F = np.array([[0.0, 1e9], [0.0, 0.0]])
    for changed, called in ((0, False), (1, True)):
        P = np.array(5 * [np.eye(2)])
        P[1, changed, changed] -= 2.0**-50
        assert settled(P, 10, F) is called
