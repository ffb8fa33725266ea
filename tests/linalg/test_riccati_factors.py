"""The recursion in factors, and the recursion where only factors will do: a mode that no weight sees.

The problems with such a mode are in numbers that floats hold exactly, A v = rho v and Q v = 0, so that
the answer of 50 digits is that of the same problem: the mode is left alone.
"""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
from random_problems import psd, with_spectral_radius

import lqrad
from lqrad.errors import NotConvexError
from lqrad.linalg import riccati as kernel
from lqrad.linalg.riccati import recursion
from lqrad.linalg.riccati_factors import recursion_in_factors
from lqrad.lq import LQBatch

EPS = np.finfo(float).eps


# --- oracles and problems --------------------------------------------------------------------


def exact_stage(A, B, Q, R, M, P):
    """P[t] and K[t] from P[t+1], in matrices of mpmath."""
    N = B.T * P * A + M.T
    K = mpmath.inverse(R + B.T * P * B) * N
    P = Q + A.T * P * A - N.T * K
    return (P + P.T) / 2, K


def floats(matrix):
    return np.array(matrix.tolist(), dtype=float)


def exact(*stage, T, S=None):
    """The recursion in arithmetic of 50 digits, rounded at the end; constant or varying."""
    gains, values = [], [stage[2] if S is None else S]
    with mpmath.workdps(50):
        P = mpmath.matrix(values[0].tolist())
        for t in reversed(range(T)):
            P, K = exact_stage(
                *(mpmath.matrix((z[t] if z.ndim == 3 else z).tolist()) for z in stage), P
            )
            values.append(floats(P))
            gains.append(floats(K))
    return np.array(values[::-1]), np.array(gains[::-1])


def distance(a, b):
    """The largest relative error of any stage."""
    scale = np.abs(b).max(axis=(1, 2))
    return float((np.abs(a - b).max(axis=(1, 2)) / np.where(scale > 0, scale, 1.0)).max())


def unseen(seed, n, m, radius=1.3125):
    """A stage whose weights do not see a mode of A with the given eigenvalue; its eigenvectors."""
    rng = np.random.default_rng(seed)
    below = np.tril(rng.integers(-1, 2, (n, n)), -1) + np.eye(n)
    above = np.triu(rng.integers(-1, 2, (n, n)), 1) + np.eye(n)
    V = below @ above
    inverse = np.round(np.linalg.inv(V))
    assert (V @ inverse == np.eye(n)).all()
    A = V @ np.diag([radius, *(rng.integers(-14, 15, n - 1) / 16)]) @ inverse
    B = rng.integers(-3, 4, (n, m)) + 0.5
    Q = inverse.T @ np.diag([0.0] + [1.0] * (n - 1)) @ inverse
    assert (A @ V[:, 0] == radius * V[:, 0]).all()
    assert not (Q @ V[:, 0]).any()
    return (A, B, Q, 0.75 * np.eye(m), np.zeros((n, m))), V


def least_eigenvalue(P):
    """Of P scaled to a unit diagonal."""
    size = np.sqrt(np.abs(P.diagonal()))
    size = np.where(size > 0, size, 1.0)
    return np.linalg.eigvalsh(P / size / size[:, None])[0]


def assert_stage(stage, P, K, t):
    """P[t] and K[t] are what 50 digits make of P[t+1]."""
    A, B, _, R, _ = stage
    with mpmath.workdps(50):
        exact_P, exact_K = exact_stage(
            *(mpmath.matrix(z.tolist()) for z in (*stage, np.asarray(P[t + 1])))
        )
    rounding = 50 * len(A) * EPS
    # the cost to go of G^-1 N instead of K is quadratic in what K is off by
    size = np.linalg.norm(A, 2) ** 2 * np.linalg.norm(P[t + 1], 2)
    assert np.abs(P[t] - floats(exact_P)).max() < rounding * (size + 1)
    size *= np.linalg.norm(B, 2) / np.linalg.norm(A, 2)
    cond = np.linalg.cond(R + B.T @ P[t + 1] @ B)
    assert np.abs(K[t] - floats(exact_K)).max() < rounding * cond * (size + 1)


# --- a mode that grows and that no weight sees ---------------------------------------------------

SEEDS, SIZES, T = range(8), [(2, 1), (3, 1), (3, 2), (4, 2)], 80


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("seed", SEEDS)
def test_factors_keep_the_digits_that_P_loses(seed, n, m):
    """What is lost is the square of a rounding error, grown with the square of the mode."""
    stage, V = unseen(seed, n, m)
    P, K = exact(*stage, T=T)
    found = recursion_in_factors(*stage, stage[2], T)
    lost = (4 * n * EPS * np.linalg.cond(V)) ** 2 * 1.3125 ** (2 * T)
    assert distance(found[0], P) < 100 * EPS * np.linalg.cond(V) ** 2 + lost
    assert distance(found[1], K) < 100 * EPS * np.linalg.cond(V) ** 2 + lost


def test_the_recursion_turns_to_factors_where_P_becomes_indefinite():
    """In units of its own, so with rounding errors of its own, which grow: then only stages compare."""
    raised = silent = 0
    for seed, (n, m), horizon in itertools.product(SEEDS, SIZES, range(60, T + 1, 4)):
        stage, _ = unseen(seed, n, m)
        try:
            plain = kernel.recursion_of_P(*stage, stage[2], horizon)
        except NotConvexError:
            raised += 1
        else:
            if least_eigenvalue(plain.P[0]) > -1e-12:
                continue
            silent += 1  # not yet below zero by so much that R + B'PB is too
        found = recursion(*stage, stage[2], horizon)
        assert found.swept == horizon
        for t in (0, horizon // 2, horizon - 1):
            assert_stage(stage, found.P, found.K, t)
        assert least_eigenvalue(found.P[0]) > -1e-12
    assert raised > 10
    assert silent > 1


@pytest.mark.parametrize("seed", range(12))
def test_in_any_coordinates_each_stage_is_right_and_none_indefinite(seed):
    """Rounded, A and Q decide by chance what the growing mode costs: then only stages compare."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 6)), int(rng.integers(1, 3))
    V = rng.normal(size=(n, n))
    A = V @ np.diag([1.3, *rng.uniform(-0.9, 0.9, n - 1)]) @ np.linalg.inv(V)
    B, v = rng.normal(size=(n, m)), V[:, 0]
    C = rng.normal(size=(n - 1, n))
    C -= np.outer(C @ v, v) / (v @ v)
    Q = (C.T @ C + (C.T @ C).T) / 2
    solution = lqrad.riccati(lqrad.LQProblem(A, B, Q, np.eye(m)), T)
    for t in range(0, T, 7):
        assert_stage((A, B, Q, np.eye(m), np.zeros((n, m))), solution.P, solution.K, t)
    assert min(map(least_eigenvalue, solution.P)) > -1e-12


# --- a weight on the end that is large -----------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_a_large_weight_on_the_end_takes_no_digits(seed):
    """Where P falls by many powers of two in a stage, it is a small difference of large terms."""
    rng = np.random.default_rng(seed)
    n, m, horizon = int(rng.integers(1, 6)), int(rng.integers(1, 4)), 6
    stages = (horizon,) * (seed % 2)
    A, B = rng.normal(size=(*stages, n, n)), rng.normal(size=(*stages, n, m))
    stage = (A, B, (seed % 3 > 0) * np.eye(n), np.eye(m), np.zeros((n, m)))
    S = 2.0 ** int(rng.integers(0, 60)) * psd(rng, n)
    P, _ = exact(*stage, T=horizon, S=S)
    size = np.sqrt(P.diagonal(0, 1, 2))
    problem = lqrad.LQProblem(*stage[:4], S)
    solutions = [lqrad.riccati(problem, horizon)]
    batch = LQBatch.of([problem] * 24)  # so many are solved abreast
    with lqrad.native.switched_off():
        solutions.append(lqrad.riccati(problem, horizon))
        other = lqrad.riccati(batch, horizon)
    for found in (*(one.P for one in solutions), lqrad.riccati(batch, horizon).P[7], other.P[23]):
        assert (np.abs(found - P) <= 1e-11 * size[:, :, None] * size[:, None, :]).all()


def test_stages_after_a_large_weight_settle_and_are_held_once():
    A, B = np.array([[1, 0.1], [0, 1]]), np.array([[0.005], [0.1]])
    stage = (A, B, np.eye(2), np.eye(1), np.zeros((2, 1)))
    found = recursion(*stage, 1e16 * np.eye(2), 100_000)
    assert len(found.P.distinct) < 1000
    limit = recursion(*stage, np.eye(2), 100_000).P[0]
    assert found.P[0] == pytest.approx(limit, rel=1e-13)
    P, _ = exact(*stage, T=4, S=1e16 * np.eye(2))
    assert distance(found.P[-5:], P) < 1e-14


@pytest.mark.parametrize("s", [1e16, 1e18, 1e22])
def test_digits_that_are_lost_are_not_taken_for_settled(s):
    """One state falls at each stage by 1e4, so that none is without a loss, and one by a huge weight."""
    A, one = np.diag([100.0, 1.0]), np.eye(2)
    problem = lqrad.LQProblem(A, one, np.diag([1.0, 0.0]), one, np.diag([1.0, s]))
    expected = 1 / (1 / s + 200)
    assert lqrad.riccati(problem, 200).P[0][1, 1] == pytest.approx(expected, rel=1e-12)


def test_entries_whose_squares_overflow_are_as_before():
    problem = lqrad.LQProblem([[0, 1e160], [0, 0]], [[0], [1]], np.diag([1e-40, 1e-3]), [[1]])
    P = lqrad.riccati(problem, 5).P[0]
    np.testing.assert_allclose(P, np.diag([1e-40, 1e280]), rtol=1e-12)


def test_pivots_of_inputs_that_are_small_beside_a_large_weight_are_no_rounding_errors():
    """More inputs than states: R alone makes R + B'SB positive definite, 1 beside 1e16."""
    B, one = np.array([[1.0, 2.0]]), np.eye(1)
    P, K = exact(one, B, one, np.eye(2), np.zeros((1, 2)), T=2, S=1e16 * one)
    found = lqrad.riccati(lqrad.LQProblem(one, B, one, np.eye(2), 1e16 * one), 2)
    np.testing.assert_allclose(found.P, P, rtol=1e-14)
    np.testing.assert_allclose(found.K, K, rtol=1e-14)


# --- the recursion in factors -------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1, 2, 25])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (3, 1), (3, 2), (2, 5)])
@pytest.mark.parametrize("varying", ["", "A", "B", "Q", "R", "ABQRM"])
def test_factors_are_the_recursion(varying, n, m, horizon):
    rng = np.random.default_rng(n + 10 * m + 100 * horizon)

    def draw():
        A = with_spectral_radius(rng.normal(size=(n, n)), 1.2)
        Q = psd(rng, n, max(n - 1, 1))
        M = Q @ rng.normal(size=(n, m)) / n * ("M" in varying or not varying)
        R = M.T @ np.linalg.pinv(Q, hermitian=True) @ M + psd(rng, m) + 0.1 * np.eye(m)
        return A, rng.normal(size=(n, m)), Q, (R + R.T) / 2, M

    draws = [draw() for _ in range(horizon)]
    stage = [
        np.array([each[i] for each in draws]) if name in varying else draws[0][i]
        for i, name in enumerate("ABQRM")
    ]
    S = psd(rng, n, 1)
    P, K = exact(*stage, T=horizon, S=S)
    found = recursion_in_factors(*stage, S, horizon)
    assert (found[0] == found[0].swapaxes(1, 2)).all()
    assert distance(found[0], P) < 1e-12
    assert distance(found[1], K) < 1e-12
    _, B, _, R, _ = stage
    G = R + B.swapaxes(-1, -2) @ P[1:] @ B
    assert distance(found[2] @ found[2].swapaxes(1, 2), G) < 1e-12
    assert (np.triu(found[2], 1) == 0).all()
    assert (np.diagonal(found[2], axis1=1, axis2=2) > 0).all()


def test_units_of_states_and_inputs_do_not_matter():
    (A, B, Q, R, M), _ = unseen(3, 3, 2)
    D, E = np.diag(2.0 ** np.array([0, 30, -20])), np.diag(2.0 ** np.array([12, -25]))
    inverse = np.linalg.inv(D)
    plain = recursion_in_factors(A, B, Q, R, M, Q, 30)
    weights = (inverse @ Q @ inverse, E @ R @ E, M, inverse @ Q @ inverse)
    scaled = recursion_in_factors(D @ A @ inverse, D @ B @ E, *weights, 30)
    assert distance(D @ scaled[0] @ D, plain[0]) < 1e-13
    assert distance(E @ scaled[1] @ D, plain[1]) < 1e-12


@pytest.mark.parametrize("which", range(3))
def test_an_indefinite_weight_has_no_factor(which):
    weights = [np.eye(2), np.eye(1), np.eye(2)]  # Q, R, S
    weights[which] = weights[which] - 1.001 * np.eye(len(weights[which]))
    Q, R, S = weights
    assert recursion_in_factors(np.eye(2), np.ones((2, 1)), Q, R, np.zeros((2, 1)), S, 5) is None
    cross = np.array([[1.01], [0.0]])
    assert (
        recursion_in_factors(np.eye(2), np.ones((2, 1)), np.eye(2), np.eye(1), cross, S, 5) is None
    )


def test_indefinite_weights_with_a_minimum_are_left_to_the_recursion_of_P():
    """Q = -0.1 makes P[0] negative after one stage, and rightly so."""
    one = np.eye(1)
    found = recursion(0.5 * one, one, -0.1 * one, one, 0 * one, 0 * one, 1)
    assert found.P.ravel() == pytest.approx([-0.1, 0.0])


def test_what_is_singular_in_factors_too_is_named():
    with pytest.raises(NotConvexError, match=r"^R \+ B'P\[4\]B is not positive definite .* t=3"):
        recursion(
            np.eye(2),
            np.ones((2, 1)),
            0 * np.eye(2),
            np.zeros((1, 1)),
            np.zeros((2, 1)),
            np.array([[1.0, -1.0], [-1.0, 1.0]]),
            4,
        )


def test_a_healthy_sweep_is_not_done_twice(monkeypatch):
    """A singular P, in states of any units, is indefinite by rounding errors at most."""

    def refuse(*args):
        raise AssertionError("in factors")

    monkeypatch.setattr(kernel, "recursion_in_factors", refuse)
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, m = int(rng.integers(1, 7)), int(rng.integers(1, 4))
        units = np.diag(10.0 ** rng.integers(-6, 7, n))
        A = with_spectral_radius(rng.normal(size=(n, n)), rng.choice([0.5, 1.0, 1.3]))
        Q = units @ psd(rng, n, int(rng.integers(1, n + 1))) @ units
        Q = np.diag([0.0] + [1.0] * (n - 1)) * Q if rng.random() < 0.2 else Q
        A, B = np.linalg.inv(units) @ A @ units, np.linalg.inv(units) @ rng.normal(size=(n, m))
        for horizon in (1, 2, 30):
            recursion(A, B, (Q + Q.T) / 2, np.eye(m), 0 * B, 0 * Q, horizon)
