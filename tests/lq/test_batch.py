"""Many problems at once: each is what its own LQProblem is."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from random_batches import random_batch

import lqrad
from lqrad.lq import LQBatch
from lqrad.lq.problem import NAMES

SEEDS = range(40)


def agrees(found, expected, size=0.0):
    """To 1e-13 of the largest entry, or of the terms of this size that were added up."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-13 * max(np.abs(expected).max(), size)


def terms(problem, x, u):
    """The size of what adds up to a cost or a costate: weights times the largest state or input, squared."""
    weight = max(abs(getattr(problem, name)).max() for name in "QRSMqrs")
    return weight * max(1.0, abs(x).max(), abs(u).max()) ** 2


@pytest.mark.parametrize("seed", SEEDS)
def test_each_problem_is_that_of_its_own_arrays(seed):
    case = random_batch(seed)
    assert len(case.batch) == len(case.problems) == case.batch.b
    for given, expected in zip(case.batch, case.problems, strict=True):
        for name in NAMES:
            np.testing.assert_array_equal(
                getattr(given, name), getattr(expected, name), strict=True
            )
        assert (given.n, given.m, given.T) == (expected.n, expected.m, expected.T)
    assert case.batch[-1].A.tobytes() == case.problems[-1].A.tobytes()


@pytest.mark.parametrize("seed", SEEDS)
def test_all_methods_answer_as_the_problems_alone(seed):
    case = random_batch(seed)
    batch, x0, u = case.batch, case.x0, case.u
    x = batch.simulate(x0, u)
    p, cost = batch.adjoint(x, u), batch.cost(x, u)
    J, g = batch.value_and_gradient(x0, u)
    for i, problem in enumerate(case.problems):
        states = problem.simulate(x0[i], u[i])
        agrees(x[i], states)
        size = terms(problem, states, u[i])
        agrees(p[i], problem.adjoint(x[i], u[i]), size)
        agrees(cost[i], problem.cost(x[i], u[i]), size)
        value, gradient = problem.value_and_gradient(x0[i], u[i])
        agrees(J[i], value, size)
        agrees(g[i], gradient, size)


@pytest.mark.parametrize("n", [1, 2, 12, 33])
@pytest.mark.parametrize("b", [1, 8, 100])
def test_the_gradient_is_that_of_differences(n, b):
    """J is quadratic: its central differences have no error but rounding."""
    case = random_batch(n, b=b, n=n, T=3, m=2)
    direction = np.random.default_rng(b).normal(size=case.u.shape)
    _, g = case.batch.value_and_gradient(case.x0, case.u)
    above, _ = case.batch.value_and_gradient(case.x0, case.u + direction)
    below, _ = case.batch.value_and_gradient(case.x0, case.u - direction)
    slope = (g * direction).sum(axis=(1, 2))
    np.testing.assert_allclose(
        slope, (above - below) / 2, rtol=1e-12, atol=1e-13 * abs(above).max()
    )


@pytest.mark.parametrize("seed", range(10))
def test_what_all_share_may_be_given_once(seed):
    case = random_batch(seed)
    b = case.batch.b
    x0, u = case.x0[0], case.u[0]
    x0s, us = np.tile(x0, (b, 1)), np.tile(u, (b, 1, 1))
    x = case.batch.simulate(x0, u)
    np.testing.assert_array_equal(x, case.batch.simulate(x0s, us))
    for once, repeated in zip(
        case.batch.value_and_gradient(x0, u), case.batch.value_and_gradient(x0s, us), strict=True
    ):
        np.testing.assert_array_equal(once, repeated)
    np.testing.assert_array_equal(case.batch.cost(x, u), case.batch.cost(x, us))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_of_problems_holds_them(seed):
    case = random_batch(seed)
    again = LQBatch.of(case.problems)
    assert (again.b, again.n, again.m, again.T) == (
        case.batch.b,
        case.batch.n,
        case.batch.m,
        case.batch.T,
    )
    J, g = case.batch.value_and_gradient(case.x0, case.u)
    for found, expected in zip(again.value_and_gradient(case.x0, case.u), (J, g), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_equal_problems_are_a_batch_of_as_many():
    one = lqrad.LQProblem([[0.5]], [[1]], [[1]], [[1]])
    assert len(LQBatch.of([one] * 3)) == 3
    assert LQBatch.of([one]).cost([[1.0], [1.0]], [[0.0]]).shape == (1,)


def test_problems_that_do_not_fit_are_told():
    one = lqrad.LQProblem([[0.5]], [[1]], [[1]], [[1]])
    two = lqrad.LQProblem(np.eye(2), np.ones((2, 1)), np.eye(2), [[1]])
    long, short = (one.replace(A=np.ones((T, 1, 1))) for T in (3, 2))
    for problems, words in (
        ([one, two], r"problems\[1\] has n = 2 and problems\[0\] has n = 1"),
        ([one, long, short], r"problems\[2\] has T = 2 and problems\[1\] has T = 3"),
        ([], "problems is empty"),
        ([one, 3], r"problems\[1\] is of type int, expected LQProblem"),
        (one, "problems is LQProblem.*, expected a list"),
    ):
        with pytest.raises(lqrad.LqradError, match=words):
            LQBatch.of(problems)


def weights(b=20, **changes):
    arrays = {"A": np.ones((b, 1, 1)), "B": [[1]], "Q": np.ones((b, 1, 1)), "R": [[1]]}
    return arrays | changes


def test_a_problem_that_is_not_convex_is_named():
    Q = np.ones((20, 1, 1))
    Q[17] = -1
    with pytest.raises(
        lqrad.errors.NotConvexError, match=r"^problem 17: Q has the eigenvalue -1, "
    ):
        LQBatch(**weights(Q=Q))
    with pytest.raises(lqrad.errors.NotConvexError, match=r"^Q has the eigenvalue -1, "):
        LQBatch(**weights(Q=[[-1.0]]))
    R = np.ones((20, 3, 1, 1))
    R[11, 2] = -1
    with pytest.raises(lqrad.errors.NotConvexError, match=r"^problem 11: R at stage 2 has the eig"):
        LQBatch(**weights(R=R))
    with pytest.raises(
        lqrad.errors.NotConvexError, match=r"^problem 17: S has the eigenvalue -1, "
    ):
        LQBatch(**weights(S=Q))
    M = np.zeros((20, 1, 1))
    M[5] = 2
    with pytest.raises(lqrad.errors.NotConvexError, match=r"^problem 5: \[Q M; M' R\] has the eig"):
        LQBatch(**weights(M=M))
    Q = np.tile(np.eye(2), (20, 1, 1))
    Q[3, 0, 1] = 0.1
    with pytest.raises(
        lqrad.errors.NotConvexError, match=r"^problem 3: Q is not symmetric: entries"
    ):
        LQBatch(np.eye(2), np.ones((2, 1)), Q, [[1]])


def test_a_terminal_weight_is_needed_where_Q_varies():
    with pytest.raises(lqrad.LqradError, match="S is not given and Q varies in time"):
        LQBatch(**weights(Q=np.ones((20, 3, 1, 1))))
    np.testing.assert_array_equal(LQBatch(**weights()).S, np.ones((20, 1, 1)))


def test_a_problem_whose_numbers_overflow_is_named_and_the_others_are_not_touched():
    A = np.full((20, 1, 1), 0.5)
    A[[13, 17]] = 1e200
    batch = LQBatch(**weights(A=A))
    x0, u = np.ones((20, 1)), np.zeros((20, 3, 1))
    x0[13] = 0  # the first that grows starts from nothing
    for call in (batch.simulate, batch.value_and_gradient):
        alone = getattr(lqrad.LQProblem, call.__name__)
        with pytest.raises(lqrad.errors.NonFiniteError) as told:
            call(x0, u)
        with pytest.raises(lqrad.errors.NonFiniteError) as expected:
            alone(batch[17], x0[17], u[17])
        assert str(told.value) == f"problem 17: {expected.value}"
    with pytest.raises(
        lqrad.errors.NonFiniteError, match=r"^problem 13: the derivative in x\[1\] "
    ):
        batch.adjoint(np.ones((20, 4, 1)), u)
    with pytest.raises(lqrad.errors.NonFiniteError, match=r"^problem 0: the cost overflowed"):
        batch.cost(np.full((4, 1), 1e200), u)


def test_a_number_that_is_none_is_named_with_its_problem():
    batch = LQBatch(**weights())
    u = np.zeros((20, 3, 1))
    u[12, 1] = np.nan
    with pytest.raises(
        lqrad.errors.NonFiniteError, match=r"^problem 12: u\[1, 0\] is nan, expected"
    ):
        batch.value_and_gradient(np.ones(1), u)
    A = np.ones((20, 1, 1))
    A[4] = np.inf
    with pytest.raises(lqrad.errors.NonFiniteError, match=r"^A\[4, 0, 0\] is inf, expected finite"):
        LQBatch(**weights(A=A))


@pytest.mark.parametrize(
    ("x0", "u", "words"),
    [
        (
            np.ones(2),
            np.ones((3, 1)),
            r"x0 has shape \(2,\), expected \(n,\) or \(b, n\) with b = 20",
        ),
        (np.ones((3, 1)), np.ones((3, 1)), r"x0 has shape \(3, 1\), expected \(n,\) or \(b, n\)"),
        (
            np.ones(1),
            np.ones((2, 3, 1)),
            r"u has shape \(2, 3, 1\), expected \(T, m\) or \(b, T, m\) with b = 20, m = 1, T >= 1",
        ),
        (np.ones(1), np.ones(3), r"u has shape \(3,\), expected \(T, m\) or \(b, T, m\) with b"),
        (np.ones(1), np.ones((0, 1)), r"u has shape \(0, 1\), expected \(T, m\)"),
    ],
)
def test_series_that_do_not_fit_are_told(x0, u, words):
    with pytest.raises(lqrad.errors.ShapeError, match=words):
        LQBatch(**weights()).value_and_gradient(x0, u)


def test_series_of_another_horizon_are_told():
    batch = LQBatch(**weights(A=np.ones((20, 3, 1, 1))))
    words = r"u has shape \(4, 1\), expected \(T, m\) or \(b, T, m\) with b = 20, m = 1, T = 3"
    with pytest.raises(lqrad.errors.ShapeError, match=words):
        batch.simulate([1.0], np.ones((4, 1)))
    with pytest.raises(
        lqrad.errors.ShapeError, match=r"x has shape \(3, 1\), expected \(T \+ 1, n\)"
    ):
        batch.cost(np.ones((3, 1)), np.ones((2, 1)))


def test_inputs_are_needed_where_the_cost_has_a_cross_weight():
    x = np.ones((3, 1))
    M = np.zeros((20, 1, 1))
    M[3] = 0.5
    with pytest.raises(lqrad.LqradError, match="u is not given and the cost has a cross weight M"):
        LQBatch(**weights(M=M)).adjoint(x)
    p = LQBatch(**weights()).adjoint(x)
    np.testing.assert_array_equal(p, LQBatch(**weights()).adjoint(x, np.zeros((2, 1))))


def test_a_batch_is_read_only_and_so_are_its_copies():
    A = np.ones((20, 1, 1))
    batch = LQBatch(**weights(A=A))
    A[0] = 7
    for one in (batch, copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))):
        assert one.A[0, 0, 0] == 1
        for array in (one.A, one[3].A, one[3].B):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 2
        with pytest.raises(AttributeError, match="A of a LQBatch cannot be set"):
            one.A = A
        assert repr(one) == "LQBatch(20 problems, n=1, m=1, time-invariant)"
    assert repr(LQBatch(**weights(c=np.ones((1, 4, 1))))) == (
        "LQBatch(20 problems, n=1, m=1, T=4, with c)"
    )


def test_there_is_no_problem_behind_the_last():
    batch = LQBatch(**weights())
    for i in (20, -21):
        with pytest.raises(IndexError, match=f"there is no problem {i} in a batch of 20"):
            batch[i]
    for i in (slice(2), 1.0, None):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            batch[i]


def test_a_transposed_array_is_told():
    with pytest.raises(lqrad.errors.ShapeError, match=r"for n = 2.* did you pass B\.T\?") as caught:
        LQBatch(np.ones((3, 2, 2)), np.ones((1, 2)), np.eye(2), [[1]])
    assert "m = 2" not in str(caught.value)


def test_a_stack_that_is_not_symmetric_is_told_what_to_pass():
    Q = np.array([np.eye(2), [[1.0, 0.5], [0.0, 1.0]]])
    with pytest.raises(lqrad.errors.NotConvexError) as caught:
        lqrad.LQProblem(np.eye(2), np.ones((2, 1)), Q, [[1]], np.eye(2))
    assert "pass (Q + Q.swapaxes(-1, -2)) / 2" in str(caught.value)


@pytest.mark.parametrize("b", [3, 20])
def test_answers_lie_by_rows(b):
    batch = LQBatch(**weights(b, A=np.full((b, 1, 1), 0.5)))
    for z in (
        batch.simulate([1.0], np.ones((4, 1))),
        batch.value_and_gradient([1.0], np.ones((4, 1)))[1],
    ):
        assert z.flags.c_contiguous
