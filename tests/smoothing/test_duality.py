"""The filter's recursion is the dual regulator's; the stationary gain is the transposed feedback."""

from __future__ import annotations

import numpy as np
import pytest

import lqrad
from lqrad.errors import ArgumentError, NotStabilizableError, ShapeError
from lqrad.smoothing.duality import duality


def random_model(seed):
    rng = np.random.default_rng(seed)
    n, ny = rng.integers(1, 6, size=2)
    A = rng.normal(size=(n, n))
    A *= rng.choice([0.7, 1.0, 1.3]) / np.abs(np.linalg.eigvals(A)).max()
    W, V, P0 = (
        F @ F.T + 0.1 * np.eye(len(F)) for F in (rng.normal(size=(k, k)) for k in (n, ny, n))
    )
    return lqrad.SmoothingProblem(A, rng.normal(size=(ny, n)), W, V, np.zeros(n), P0)


@pytest.mark.parametrize("seed", range(30))
def test_the_filter_is_the_dual_regulator(seed):
    result = duality(random_model(seed), T=60)
    assert result.difference < 1e-11
    assert result.distance < 1e-6


def test_a_wrong_dual_is_told_from_the_right_one():
    """The regulator of A, not of A', is another."""
    model = random_model(3)
    wrong = lqrad.riccati(lqrad.LQProblem(model.A, model.C.T, model.W, model.V, model.P0), 60)
    assert np.abs(duality(model, 60).filter_cov - wrong.P[::-1]).max() > 1e-3


@pytest.mark.parametrize("seed", range(30))
def test_dlqe_is_where_a_long_filter_ends(seed):
    model = random_model(seed)
    K, P, E = lqrad.dlqe(model.A, model.C, model.W, model.V)
    filtered = lqrad.kalman_filter(model, np.zeros((2001, model.ny)))
    assert np.abs(filtered.predicted_cov[-1] - P).max() <= 1e-9 * np.abs(P).max()
    np.testing.assert_allclose(
        np.sort(np.abs(E)), np.sort(np.abs(np.linalg.eigvals(model.A - K @ model.C))), atol=1e-9
    )
    assert np.abs(E).max() < 1


@pytest.mark.parametrize("seed", range(10))
def test_dlqe_is_that_of_python_control(seed):
    control = pytest.importorskip("control")
    model = random_model(seed)
    K, P, _ = lqrad.dlqe(model.A, model.C, model.W, model.V)
    theirs, their_P, _ = control.dlqe(model.A, np.eye(model.n), model.C, model.W, model.V)
    np.testing.assert_allclose(K, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())
    np.testing.assert_allclose(P, their_P, rtol=1e-9, atol=1e-9 * np.abs(their_P).max())


def test_an_unseen_unstable_mode_is_named():
    with pytest.raises(NotStabilizableError, match=r"no sensor in C sees .* eigenvalue 2 of A"):
        lqrad.dlqe(np.diag([2.0, 0.5]), [[0, 1]], np.eye(2), [[1]])


def test_bad_input_is_named_as_it_was_given():
    with pytest.raises(
        ShapeError, match=r"C has shape \(2, 1\), expected \(ny, n\) .*did you pass C\.T\?"
    ):
        lqrad.dlqe(np.eye(2), [[1], [0]], np.eye(2), [[1]])
    with pytest.raises(lqrad.NotConvexError, match="W has the eigenvalue -1"):
        lqrad.dlqe(np.eye(2), [[1, 0]], -np.eye(2), [[1]])


def test_what_has_no_dual_is_refused():
    no_prior = lqrad.SmoothingProblem([[1]], [[1]], [[1]], [[1]], None, None)
    with pytest.raises(ArgumentError, match="has no prior"):
        duality(no_prior, 10)
    varying = lqrad.SmoothingProblem(np.ones((3, 1, 1)), [[1]], [[1]], [[1]], [0], [[1]])
    with pytest.raises(ArgumentError, match="varies in time"):
        duality(varying, 3)
