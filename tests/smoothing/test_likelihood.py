"""The likelihood alone and its score, by the kernels: against exact conditioning and the smoothers."""

from __future__ import annotations

import numpy as np
import pytest
from random_smoothing import GAPS, condition_exactly, random_case

import lqrad
from lqrad import native
from lqrad.smoothing import loglik, loglik_gradient
from lqrad.smoothing.kalman import kalman_smoother
from lqrad.smoothing.likelihood import gradients_by_kernel, started_kernels
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.score import NAMES, PRIOR, expect, score_of

needs_kernels = pytest.mark.skipif(not native.status().in_use, reason=native.status().message)


def drawn(seed):
    """A case with a prior of order one, a vague one, or none."""
    case = random_case(seed, diffuse=seed % 3 == 0)
    if seed % 3 == 1:
        data = case.data | {"P0": 1e6 * case.data["P0"]}
        return SmoothingProblem(**data), data, case.y
    return case.problem, case.data, case.y


@pytest.mark.parametrize("prior", [1.0, 1e6, 1e12, None])
@pytest.mark.parametrize("gaps", GAPS)
def test_it_is_that_of_the_joint_density(gaps, prior):
    case = random_case(5, n=3, ny=2, T=9, radius=0.9, gaps=gaps, diffuse=prior is None)
    data = case.data if prior is None else case.data | {"P0": prior * case.data["P0"]}
    exact = condition_exactly(data, case.y).loglik
    assert loglik(SmoothingProblem(**data), case.y) == pytest.approx(exact, rel=1e-12)


def refused(call):
    try:
        call()
    except lqrad.LqradError as error:
        return str(error)
    return ""


@needs_kernels
@pytest.mark.parametrize("seed", range(120))
def test_the_kernel_and_the_smoothers_agree(seed):
    problem, _, y = drawn(seed)
    with native.switched_off():
        words = refused(lambda: loglik(problem, y))
        if not words:
            expected, twin = loglik(problem, y), score_of(problem, expect(problem.balanced, y))
    if words:
        assert refused(lambda: loglik(problem, y)) == words
        assert refused(lambda: loglik_gradient(problem, y)) == words
        return
    # A start that the data hardly tell is as uncertain as the answers of both.
    lost = 1.0
    if problem.P0 is None:
        lost = np.linalg.cond(kalman_smoother(problem, y).cov[0])
    assert loglik(problem, y) == pytest.approx(expected, rel=1e-12 * lost, abs=1e-12 * lost)
    score = loglik_gradient(problem, y)
    assert score.loglik == pytest.approx(expected, rel=1e-12 * lost, abs=1e-12 * lost)
    for name in NAMES:
        a, b = getattr(score, name), getattr(twin, name)
        if b is None:
            assert a is None
            continue
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1e-10 * lost * max(1.0, np.abs(b).max()), name


@needs_kernels
def test_all_but_the_hardest_are_served():
    """Where the kernel cannot go on the smoothers answer: that must not be the rule."""
    served = [started_kernels(drawn(s)[0], drawn(s)[2][None]) is not None for s in range(60)]
    assert sum(served) >= 55


def sparse(n):
    """A level and a season, of which the matrix A has few entries."""
    A = np.zeros((n, n))
    A[0, 0], A[1, 1:] = 1.0, -1.0
    A[np.arange(2, n), np.arange(1, n - 1)] = 1.0
    C = np.zeros((1, n))
    C[0, :2] = 1.0
    return SmoothingProblem(A, C, np.diag([0.5, 0.1, *np.zeros(n - 2)]), [[1.0]], None, None)


@needs_kernels
@pytest.mark.parametrize("n", [3, 4, 8, 13])
def test_a_season_is_right_by_its_few_entries(n):
    problem = sparse(n)
    y = np.cumsum(np.random.default_rng(n).normal(size=(90, 1)), axis=0)
    y[[5, 40, 41]] = np.nan
    with native.switched_off():
        twin = loglik_gradient(problem, y)
    score = loglik_gradient(problem, y)
    assert started_kernels(problem.balanced.problem, y[None]) is not None
    assert score.loglik == pytest.approx(twin.loglik, rel=1e-12)
    for name in set(NAMES) - set(PRIOR):
        a, b = getattr(score, name), getattr(twin, name)
        assert np.abs(a - b).max() <= 1e-9 * max(1.0, np.abs(b).max()), name


@needs_kernels
@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("ratio", [1e-2, 1e-4, 1e-8, 1e-12])
def test_where_subtractions_lose_digits_the_smoothers_answer(ratio, stops):
    """A sensor so exact that it leaves that part of a variance; noise, unless it stops, adds more."""
    one, W = np.eye(1), np.ones((19, 1, 1))
    W[10:] = not stops
    data = {"A": one, "C": one, "W": W, "V": ratio * one, "m0": np.zeros(1), "P0": one}
    problem = SmoothingProblem(**data)
    x = np.cumsum([1.0, *np.sqrt(W[:, 0, 0])])[:, None]
    y = x + np.sqrt(ratio) * np.random.default_rng(0).normal(size=x.shape)
    served = started_kernels(problem, y[None]) is not None
    assert served is (ratio > 1e-3 or not stops)
    # An innovation of about one deviation is a difference of numbers that are rounded to eps |y|.
    rounding = np.finfo(float).eps * np.abs(y).sum() / np.sqrt(ratio)
    expected = condition_exactly(data, y).loglik
    assert loglik(problem, y) == pytest.approx(expected, rel=1e-12, abs=rounding)


@needs_kernels
def test_gradients_that_are_asked_for_alone_are_the_same():
    case = random_case(7, n=5, ny=2, T=20, radius=0.9)
    y = case.y[None]
    everything = gradients_by_kernel(case.problem, y, NAMES)
    for names in (["W"], ["V", "d"], ["C"], ["A", "c"], ["m0", "P0"]):
        value, some = gradients_by_kernel(case.problem, y, names)
        assert value == everything[0]
        for name in names:
            assert np.array_equal(some[name], everything[1][name])


def test_a_batch_has_the_likelihoods_of_its_series():
    case = random_case(3, n=3, ny=2, T=9, radius=0.9)
    y = np.random.default_rng(0).normal(size=(2, 3, 10, 2))
    y[0, 1, 3:6, 0] = np.nan
    found = loglik(case.problem, y)
    assert found.shape == (2, 3)
    for index in np.ndindex(2, 3):
        assert found[index] == pytest.approx(loglik(case.problem, y[index]), rel=1e-13)
    assert isinstance(loglik(case.problem, y[0, 1]), float)
