"""The Riccati solutions of a batch: each is that of its own problem."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from random_batches import random_batch

import lqrad
from lqrad.lq import LQBatch

SEEDS = range(40)
NAMES = "PKkvw"


def agrees(found, expected, size=0.0):
    """To 1e-13 of the largest entry, or of the terms of this size that were added up."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-13 * max(np.abs(expected).max(), size)


def naive(problem, T):
    """P and K by the equations, with inverses, one stage after the other."""
    P = [problem.S]
    K = []
    for t in reversed(range(T)):
        A, B, Q, R, M = (
            z[t] if z.ndim == 3 else z
            for z in (problem.A, problem.B, problem.Q, problem.R, problem.M)
        )
        N = B.T @ P[0] @ A + M.T
        K.insert(0, np.linalg.solve(R + B.T @ P[0] @ B, N))
        now = Q + A.T @ P[0] @ A - N.T @ K[0]
        P.insert(0, (now + now.T) / 2)
    return np.array(P), np.array(K)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("b", [None, 30])
def test_each_solution_is_that_of_its_problem(seed, b):
    case = random_batch(seed, b=b)
    solution = lqrad.riccati(case.batch, case.T)
    rollout, cost = solution.rollout(case.x0), solution.cost(case.x0)
    assert solution.T == case.T
    np.testing.assert_array_equal(solution.P, solution.P.swapaxes(-1, -2))
    for i, problem in enumerate(case.problems):
        alone = lqrad.riccati(problem, case.T)
        P, K = naive(problem, case.T)
        np.testing.assert_allclose(solution.P[i], P, rtol=1e-9, atol=1e-11 * abs(P).max())
        np.testing.assert_allclose(solution.K[i], K, rtol=1e-9, atol=1e-10 * abs(K).max())
        size = abs(alone.P).max() * max(1.0, *(abs(getattr(problem, z)).max() for z in "cqrs")) ** 2
        for name in NAMES:
            own = size if name in "vw" else abs(alone.K).max() if name == "k" else 0.0
            agrees(getattr(solution, name)[i], getattr(alone, name), 10 * own)
        best = alone.rollout(case.x0[i])
        for name in "xup":
            own = {"x": 1.0, "u": abs(alone.K).max(), "p": size}[name] * abs(best.x).max()
            agrees(getattr(rollout, name)[i], getattr(best, name), 10 * own)
        largest = size * max(1.0, abs(best.x).max(), abs(best.u).max()) ** 2
        agrees(rollout.cost[i], best.cost, largest)
        agrees(cost[i], alone.cost(case.x0[i]), largest)


@pytest.mark.parametrize("n", [1, 4, 12, 33, 45])
def test_every_size_is_solved_alike(n):
    case = random_batch(n, b=25, n=n, T=7, m=3)
    solution = lqrad.riccati(case.batch, 7)
    rollout = solution.rollout(case.x0)
    for i in (0, 7, 24):
        alone = lqrad.riccati(case.problems[i], 7)
        for name in "PK":
            agrees(getattr(solution, name)[i], getattr(alone, name))
        best = alone.rollout(case.x0[i])
        for name in "xup":
            agrees(getattr(rollout, name)[i], getattr(best, name), 10 * abs(best.p).max())


def test_the_gradient_at_the_optimum_is_zero_for_all():
    """Riccati and the adjoint share no code."""
    case = random_batch(5, b=30, n=3, m=2, T=7)
    best = lqrad.riccati(case.batch, 7).rollout(case.x0)
    J, g = case.batch.value_and_gradient(case.x0, best.u)
    _, g0 = case.batch.value_and_gradient(case.x0, 0 * best.u)
    np.testing.assert_allclose(J, best.cost, rtol=1e-12, atol=1e-12 * abs(J).max())
    assert np.abs(g).max() <= 1e-12 * np.abs(g0).max()
    agrees(case.batch.adjoint(best.x, best.u), best.p, 1e2 * np.abs(best.p).max())


def test_a_problem_whose_P_becomes_indefinite_is_solved_in_factors():
    """A mode that grows and that no weight sees: of some, rounding errors make P indefinite."""
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.normal(size=(30, 3, 3)))[0]
    A, Q = (U @ np.diag(modes) @ U.swapaxes(1, 2) for modes in ([1.5, 0.5, 0.3], [0.0, 1.0, 1.0]))
    batch = LQBatch(A, np.ones((3, 1)), (Q + Q.swapaxes(1, 2)) / 2, [[1.0]])
    solution = lqrad.riccati(batch, 200)
    assert np.linalg.eigvalsh(solution.P[:, 0]).min() > -1e-12
    alone = [lqrad.riccati(problem, 200).P for problem in batch]
    same = [np.array_equal(P, own) for P, own in zip(solution.P, alone, strict=True)]
    assert sum(same) > 3  # those that were found to be indefinite, and were solved alone


@pytest.mark.parametrize("b", [3, 30])
def test_a_problem_without_a_solution_is_named(b):
    one = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    last = b - 1
    none = one.replace(B=[[0.0]], R=[[0.0]])
    batch = LQBatch.of([one] * last + [none])
    with pytest.raises(lqrad.errors.NotConvexError) as told:
        lqrad.riccati(batch, 5)
    with pytest.raises(lqrad.errors.NotConvexError) as alone:
        lqrad.riccati(none, 5)
    assert str(told.value) == f"problem {last}: {alone.value}"
    overflows = one.replace(A=[[1e200]], B=[[1e-200]])
    batch = LQBatch.of([one] * last + [overflows])
    with pytest.raises(
        lqrad.errors.NonFiniteError, match=f"^problem {last}: the Riccati recursion ov"
    ):
        lqrad.riccati(batch, 5)


def test_a_pivot_that_is_a_rounding_error_is_no_solution():
    """Two inputs that do the same, at no cost: R + B'PB has rank one, and its last pivot either sign."""
    B = np.random.default_rng(0).normal(size=(40, 1, 2))
    problems = [lqrad.LQProblem([[0.7]], one, [[1.0]], np.zeros((2, 2))) for one in B]
    well = problems[0].replace(R=np.eye(2))
    for problem in problems:
        with pytest.raises(lqrad.errors.NotConvexError, match=r"^problem 29: .*not positive def"):
            lqrad.riccati(LQBatch.of([well] * 29 + [problem]), 3)


@pytest.mark.parametrize("b", [3, 30])
@pytest.mark.parametrize(
    ("changes", "word"),
    [({"A": [[10.0]], "B": [[0.0]], "s": [1e307]}, "v"), ({"c": [1e200]}, "w")],
)
def test_a_linear_part_that_overflows_alone_is_named(changes, word, b):
    one = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    grows = one.replace(**changes)
    with pytest.raises(lqrad.errors.NonFiniteError, match=rf"^{word}\[.*overflowed") as alone:
        lqrad.riccati(grows, 2)
    with pytest.raises(lqrad.errors.NonFiniteError) as told:
        lqrad.riccati(LQBatch.of([one] * (b - 1) + [grows]), 2)
    assert str(told.value) == f"problem {b - 1}: {alone.value}"


@pytest.mark.parametrize("b", [13, 30])
def test_a_rollout_that_overflows_is_named(b):
    one = lqrad.LQProblem([[1e30]], [[1e-200]], [[1.0]], [[1e-300]])
    solution = lqrad.riccati(LQBatch.of([one] * b), 3)
    x0 = np.zeros((b, 1))
    x0[12] = 1e150
    with pytest.raises(
        lqrad.errors.NonFiniteError, match=r"^problem 12: u\[0, 0\] is -inf: it over"
    ):
        solution.rollout(x0)
    with pytest.raises(lqrad.errors.NonFiniteError, match=r"^problem 12: the cost is inf: it over"):
        solution.cost(1e10 * x0)
    x0[4] = np.nan
    with pytest.raises(lqrad.errors.NonFiniteError, match=r"^x0\[4, 0\] is nan, expected finite"):
        solution.rollout(x0)


def test_a_horizon_is_read_as_everywhere():
    batch = LQBatch(np.ones((3, 1, 1)), [[1]], [[1]], [[1]])
    with pytest.raises(lqrad.LqradError, match="T is not given and nothing varies in time"):
        lqrad.riccati(batch)
    with pytest.raises(lqrad.LqradError, match="over T = 1000000000 steps would take"):
        lqrad.riccati(batch, 10**9)
    varying = LQBatch(np.ones((3, 4, 1, 1)), [[1]], [[1]], [[1]])
    assert lqrad.riccati(varying).T == 4
    with pytest.raises(lqrad.LqradError, match="T is 5, but the problem varies over 4 stages"):
        lqrad.riccati(varying, 5)


def test_a_solution_is_read_only_prints_and_tells():
    solution = lqrad.riccati(LQBatch(np.ones((3, 1, 1)), [[1]], [[1]], [[1]]), 4)
    assert repr(solution) == "RiccatiBatch(3 problems, n=1, m=1, T=4)"
    assert set(solution.to_dict()) == set(NAMES)
    assert "P      (3, 5, 1, 1)" in solution.table()
    for one in (solution, copy.deepcopy(solution)):
        for name in NAMES:
            assert not getattr(one, name).flags.writeable
