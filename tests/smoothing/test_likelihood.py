"""The likelihood alone and its score, by the kernels: against exact conditioning and the smoothers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from random_smoothing import GAPS, condition_exactly, random_case

import lqrad
from lqrad import native
from lqrad.native.likelihood import SeriesKernel, State
from lqrad.smoothing import loglik, loglik_gradient
from lqrad.smoothing.innovations import Series, _stages, backward, forward
from lqrad.smoothing.kalman import kalman_smoother
from lqrad.smoothing.likelihood import Runner, gradients_by_filter
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.score import NAMES, PRIOR, expect, score_of
from lqrad.smoothing.start import is_open, split_prior
from lqrad.smoothing.steady import doubled

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


def run(problem, y):
    y = y / problem.balanced.output
    return Runner(problem.balanced.problem, y[None]).forward(y)


def is_served(problem, y):
    try:
        return run(problem, y) is not None
    except ArithmeticError:
        return False


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


def through(problem, y, steps):
    """The filter and its adjoint over a series, by the kernels or by their twins."""
    base, root = split_prior(problem)
    k, (N, ny), n = len(root), y.shape, problem.n
    R, log_determinant = np.zeros((k + 1, k + 1)), np.zeros(1)
    R[:k, :k] = (problem.P0 is not None) * np.eye(k)
    state = State(
        problem.m0.copy(), np.ascontiguousarray(root.T), base @ base.T, R, log_determinant
    )
    shapes = {"S": (ny, n), "L": (ny, ny), "e": (ny,), "g": (ny, k)}
    shapes |= {"x": (n,), "M": (n, k), "P": (n, n)}
    trace = {name: np.empty((N, *shape)) for name, shape in shapes.items()}
    if steps == "kernels":
        arrays = {name: getattr(problem, name) for name in "ACWVc"}
        kernel, series = SeriesKernel(N - 1, k, **arrays), np.ascontiguousarray(y - problem.d)
        ahead, back = partial(kernel.forward, series), partial(kernel.backward, series)
    else:
        series = Series.of(problem, y)
        ahead, back = partial(forward, problem, series), partial(backward, problem, series)
    if not ahead(0, N, state, trace) or (problem.P0 is None and is_open(R[:k, :k])):
        return None
    b = -np.linalg.solve(R[:k, :k], R[:k, k])
    costates = np.zeros(n), np.zeros((n, k)), np.zeros((n, n))
    names = NAMES if problem.P0 is not None else set(NAMES) - set(PRIOR)
    gradients = {name: np.zeros(getattr(problem, name).shape) for name in names}
    assert back(N, R, b, trace, costates, gradients)
    return log_determinant[0], R, trace["P"], gradients


@needs_kernels
@pytest.mark.parametrize("seed", range(120))
def test_the_kernels_and_their_twins_agree(seed):
    """To 1e-13 of the terms that are added up: a score is a difference, and zero at a maximum.

    A state's terms are as large as the deviations of its prior, and the start is as uncertain as the
    data leave it, where there is no prior.
    """
    problem, _, y = drawn(seed)
    y, problem = y / problem.balanced.output, problem.balanced.problem
    found, twin = (through(problem, y, steps) for steps in ("kernels", "twins"))
    if twin is None:
        assert found is None
        return
    assert found[0] == pytest.approx(twin[0], rel=1e-13, abs=1e-13 * y.size)
    assert found[1][-1, -1] == pytest.approx(twin[1][-1, -1], rel=1e-13)
    assert np.abs(found[2] - twin[2]).max() <= 1e-13 * np.abs(twin[2]).max()
    lost, size = 1.0, 0.0
    if problem.P0 is None:
        lost = np.linalg.cond(twin[1][:-1, :-1]) ** 2
    else:
        size = np.sqrt(problem.P0.max())
    size = max(1.0, size, np.abs(kalman_smoother(problem, y).x).max())
    for name, gradient in twin[3].items():
        scale = max(1.0, np.abs(gradient).max()) * lost * (size if name in "AC" else 1.0)
        assert np.abs(found[3][name] - gradient).max() <= 1e-13 * scale, name


@pytest.mark.parametrize("seed", range(24))
def test_a_state_and_an_output_are_filtered_as_numbers_or_as_matrices(seed, monkeypatch):
    """With a prior, a vague one or none, with gaps, offsets, and arrays that vary."""
    case = random_case(seed, n=1, ny=1, gaps=GAPS[seed % 6], diffuse=seed % 3 == 0)
    data = case.data | ({"P0": 1e6 * case.data["P0"]} if seed % 3 == 1 else {})
    problem, y = SmoothingProblem(**data), case.y
    y, problem = y / problem.balanced.output, problem.balanced.problem
    numbers = through(problem, y, "twins")
    monkeypatch.setattr("lqrad.smoothing.innovations._numbers", _stages)
    matrices = through(problem, y, "twins")
    assert (numbers is None) is (matrices is None)
    if numbers is None:
        return
    np.testing.assert_allclose(numbers[0], matrices[0], rtol=0, atol=1e-13 * y.size)
    for name, gradient in matrices[3].items():
        size = 1e-12 * max(
            1.0, np.abs(gradient).max(), float(np.nanmax(np.abs(y), initial=0.0)) ** 2
        )
        np.testing.assert_allclose(numbers[3][name], gradient, rtol=0, atol=size)


@needs_kernels
def test_all_but_the_hardest_are_served():
    """Where the kernel cannot go on the smoothers answer: that must not be the rule."""
    served = [is_served(drawn(s)[0], drawn(s)[2]) for s in range(60)]
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
    assert is_served(problem, y)
    assert score.loglik == pytest.approx(twin.loglik, rel=1e-12)
    for name in set(NAMES) - set(PRIOR):
        a, b = getattr(score, name), getattr(twin, name)
        assert np.abs(a - b).max() <= 1e-9 * max(1.0, np.abs(b).max()), name


@pytest.mark.parametrize("prior", [1.0, None])
@pytest.mark.parametrize(("n", "ny", "T"), [(2, 1, 9000), (4, 2, 2500), (7, 3, 900), (12, 4, 400)])
def test_covariances_that_have_settled_stay(n, ny, T, prior):
    """Constant gains, and sums that are doubled, are what all stages one by one come to."""
    rng = np.random.default_rng(n)
    A = rng.normal(size=(n, n))
    A *= 0.95 / np.abs(np.linalg.eigvals(A)).max()
    C, one = rng.normal(size=(ny, n)), np.eye(n)
    own = {"c": rng.normal(size=(T, n)), "d": rng.normal(size=ny)}
    prior = None if prior is None else prior * one
    problem = SmoothingProblem(A, C, one, np.eye(ny), rng.normal(size=n), prior, **own)
    y = rng.normal(size=(T + 1, ny))
    if native.status().in_use:  # without, normal equations are faster where something is missing
        y[3:9] = y[20, 0] = np.nan
    assert run(problem, y).steady is not None
    assert problem.balanced.problem is problem
    log_determinant, R, _, expected = through(problem, y, "twins")
    found = loglik_gradient(problem, y)
    square = (~np.isnan(y)).sum() * np.log(2 * np.pi) + log_determinant + R[-1, -1]
    whole = -0.5 * square - np.log(np.abs(R.diagonal()[:-1])).sum()
    assert loglik(problem, y) == pytest.approx(whole, rel=1e-14)
    assert found.loglik == pytest.approx(whole, rel=1e-14)
    for name, gradient in expected.items():
        apart = np.abs(getattr(found, name) - gradient).max()
        assert apart <= 2e-13 * np.abs(gradient).max(), name


def test_a_gap_unsettles_what_has_settled():
    rng = np.random.default_rng(0)
    A, T = 0.5 * rng.normal(size=(4, 4)) / np.sqrt(4), 4000
    C, W = rng.normal(size=(2, 4)), np.diag([1.0, 1.0, 1.0, 0.0])
    problem = SmoothingProblem(A, C, W, np.eye(2), np.zeros(4), np.eye(4)).balanced.problem
    y = rng.normal(size=(T + 1, 2))
    y[1200, 0] = np.nan
    assert run(problem, y).steady.first > 1200
    log_determinant, R, *_ = through(problem, y, "twins")
    square = (y.size - 1) * np.log(2 * np.pi) + log_determinant + R[-1, -1]
    whole = -0.5 * square - np.log(np.abs(R.diagonal()[:-1])).sum()
    assert loglik(problem, y) == pytest.approx(whole, rel=1e-14)


@pytest.mark.parametrize("m", [1, 2, 3, 7, 64, 1000])
def test_sums_are_doubled(m):
    rng = np.random.default_rng(m)
    F = rng.normal(size=(3, 3))
    F *= 0.9 / np.abs(np.linalg.eigvals(F)).max()
    Q = np.diag([1.0, 0.0, 4.0])
    S, total = np.zeros((3, 3)), np.zeros((3, 3))
    for _ in range(m):
        total, S = total + S, F.T @ S @ F + Q
    for found, expected in zip(doubled(F, Q, m), (S, total), strict=True):
        assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()


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
    assert is_served(problem, y) is (ratio > 1e-3 or not stops)
    # An innovation of about one deviation is a difference of numbers that are rounded to eps |y|.
    rounding = np.finfo(float).eps * np.abs(y).sum() / np.sqrt(ratio)
    expected = condition_exactly(data, y).loglik
    assert loglik(problem, y) == pytest.approx(expected, rel=1e-12, abs=rounding)


@needs_kernels
def test_gradients_that_are_asked_for_alone_are_the_same():
    case = random_case(7, n=5, ny=2, T=20, radius=0.9)
    y = case.y[None]
    everything = gradients_by_filter(case.problem, y, NAMES)
    for names in (["W"], ["V", "d"], ["C"], ["A", "c"], ["m0", "P0"]):
        value, some = gradients_by_filter(case.problem, y, names)
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


@pytest.mark.parametrize("complete", [0, 1, 2, 15, 16, 17, 40])
def test_few_rows_after_the_last_gap_are_enough(complete):
    """Of a state without noise, for which there are no normal equations."""
    one = np.eye(1)
    data = {"A": 0.9 * one, "C": one, "W": 0 * one, "V": one, "m0": np.zeros(1), "P0": one}
    y = np.random.default_rng(0).normal(size=(45, 1))
    y[44 - complete] = np.nan
    with native.switched_off():
        found = loglik(SmoothingProblem(**data), y)
    assert found == pytest.approx(condition_exactly(data, y).loglik, rel=1e-12)
