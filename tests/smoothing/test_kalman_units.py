"""Estimates in other units: the same answers, exactly; the same decisions; and right ones."""

from __future__ import annotations

import re

import mpmath
import numpy as np
import pytest
from random_smoothing import condition_exactly, draw_series, mp, random_case, with_gaps

from lqrad.errors import LqradError, NonFiniteError, NotConvexError
from lqrad.smoothing.duality import duality
from lqrad.smoothing.kalman import Smoothed, kalman_filter, kalman_smoother, rts_smoother
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.score import loglik_gradient

NAN = np.nan
EPS = np.finfo(float).eps


def powers_of_two(rng, size):
    return 2.0 ** rng.integers(-40, 41, size)


def in_units(data, state, output):
    """The same model of states and outputs that are counted in other units: times these numbers."""
    new = dict(data)
    new["A"] = data["A"] * state[:, None] / state
    new["C"] = data["C"] * output[:, None] / state
    new["W"] = data["W"] * np.outer(state, state)
    new["V"] = data["V"] * np.outer(output, output)
    if data["P0"] is not None:
        new["m0"], new["P0"] = data["m0"] * state, data["P0"] * np.outer(state, state)
    if "c" in data:
        new["c"], new["d"] = data["c"] * state, data["d"] * output
    return new


def structural(seed):
    """A level, a slope and seasons, of which any may lack noise; a start that is known, vague or not."""
    rng = np.random.default_rng(seed)
    s = int(rng.integers(2, 5))
    n = s + 1
    A, C, W = np.zeros((n, n)), np.zeros((1, n)), np.zeros((n, n))
    A[:2, :2], A[2, 2:], A[3:, 2:-1] = [[1, 1], [0, 1]], -1, np.eye(s - 2)
    C[0, [0, 2]] = 1
    W[range(3), range(3)] = rng.exponential(size=3) * rng.integers(0, 2, 3)
    known = {"m0": rng.normal(size=n), "P0": np.diag(rng.exponential(size=n))}
    data = {"A": A, "C": C, "W": W, "V": np.array([[rng.exponential()]]), **known}
    y = with_gaps(draw_series(data, 3 * s, rng), ["none", "rows", "end"][seed % 3], rng)
    if seed % 4 == 0:
        data |= {"m0": None, "P0": None}
    if seed % 4 == 1:
        data["P0"] = data["P0"] * 1e12
    return data, y


def drawn(seed):
    """Every kind of model: with everything varying, batches of gaps, singular, diffuse, structural."""
    if seed % 2:
        return structural(seed // 2)
    case = random_case(seed, T=6, diffuse=seed % 3 == 0)
    data = dict(case.data)
    rng = np.random.default_rng(seed)
    if seed % 4 == 0:  # states without noise
        keep = np.diag(1.0 * (rng.random(case.problem.n) < 0.5))
        data["W"] = keep @ data["W"] @ keep
    return data, case.y


def answer(function, data, y):
    """What a function says of a model, or the words in which it refuses."""
    try:
        return function(SmoothingProblem(**data), y)
    except LqradError as error:
        # The directions and eigenvalues that a message quotes are in the user's units.
        return type(error).__name__, re.sub(r"\[.*?\]|eigenvalue \S+", "", str(error))


@pytest.mark.parametrize("seed", range(40))
def test_estimates_transform_exactly(seed):
    data, y = drawn(seed)
    rng = np.random.default_rng(seed)
    state = powers_of_two(rng, data["A"].shape[-1])
    output = powers_of_two(rng, data["C"].shape[-2])
    scaled = in_units(data, state, output)
    entries = (~np.isnan(y)).sum(axis=0)
    volume = entries @ np.log(output) - (data["P0"] is None) * np.log(state).sum()
    for function in (kalman_smoother, kalman_filter, rts_smoother, loglik_gradient):
        here, there = answer(function, data, y), answer(function, scaled, y * output)
        if isinstance(here, tuple):
            assert there == here
            continue
        units = {"x": state, "predicted_x": state, "p": 1 / state, "innovations": output}
        units |= dict.fromkeys(("cov", "lag_cov", "predicted_cov"), np.outer(state, state))
        units["innovation_cov"] = np.outer(output, output)
        if function is loglik_gradient:
            units = {"A": np.outer(1 / state, state), "W": np.outer(1 / state, 1 / state)}
            units |= {"C": np.outer(1 / output, state), "V": np.outer(1 / output, 1 / output)}
            units |= {"c": 1 / state, "d": 1 / output, "m0": 1 / state, "P0": units["W"]}
        for name, unit in units.items():
            found = getattr(here, name, None)
            if found is not None:
                np.testing.assert_array_equal(getattr(there, name), found * unit, err_msg=name)
        assert getattr(there, "method", 0) == getattr(here, "method", 0)
        # Logarithms of units are added: they round.
        size = abs(here.loglik) + np.abs(entries @ np.abs(np.log(output))) + 40 * len(state)
        assert there.loglik == pytest.approx(here.loglik - volume, rel=0, abs=8 * EPS * size)


@pytest.mark.parametrize("seed", range(12))
def test_states_without_noise_in_small_and_large_units_are_right(seed):
    """Against conditioning in 50 digits, and 150 where there is no prior: each entry by its deviation."""
    data, y = structural(seed)
    rng = np.random.default_rng(seed)
    state, output = powers_of_two(rng, len(data["A"])), powers_of_two(rng, 1)
    scaled = in_units(data, state, output)
    exact = condition_exactly(scaled, y * output)
    result = kalman_smoother(SmoothingProblem(**scaled), y * output)
    deviations = np.sqrt(np.diagonal(exact.cov, axis1=1, axis2=2))
    assert (np.abs(result.x - exact.x) <= 1e-9 * (deviations + np.abs(exact.x))).all()
    size = deviations[:, :, None] * deviations[:, None, :]
    assert (np.abs(result.cov - exact.cov) <= 1e-8 * size).all()
    assert result.loglik == pytest.approx(exact.loglik, rel=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_the_dual_regulator_transforms_exactly(seed):
    data = dict(random_case(seed, n=3, ny=2, varying="none", radius=0.9, offsets=False).data)
    rng = np.random.default_rng(seed)
    state, output = powers_of_two(rng, 3), powers_of_two(rng, 2)
    here = duality(SmoothingProblem(**data), 15)
    there = duality(SmoothingProblem(**in_units(data, state, output)), 15)
    assert (there.difference, there.distance) == (here.difference, here.distance)
    for name in ("filter_cov", "regulator_P"):
        assert np.array_equal(getattr(there, name), getattr(here, name) * np.outer(state, state))
    for name in ("filter_gain", "regulator_gain", "stationary_gain"):
        assert np.array_equal(
            getattr(there, name), getattr(here, name) * np.outer(state, 1 / output)
        )


def test_gigahertz_beside_nanometres():
    """A frequency of 1e9 with a noise of 1e3, and a length of 1e-9 with one of 1e-12, coupled."""
    state = np.array([1e3, 1e-12])
    data = {"A": np.array([[0.9, 0.2], [0.1, 0.8]]), "C": np.array([[1.0, 0.5]])}
    data |= {"W": np.eye(2), "V": np.eye(1), "m0": np.zeros(2), "P0": np.diag([1e30, 1e-30])}
    y = draw_series(data, 12, np.random.default_rng(0))
    scaled = in_units(data, state, np.array([1e15]))
    exact = condition_exactly(scaled, 1e15 * y)
    result = kalman_smoother(SmoothingProblem(**scaled), 1e15 * y)
    deviations = np.sqrt(np.diagonal(exact.cov, axis1=1, axis2=2))
    assert (np.abs(result.x - exact.x) <= 1e-12 * (deviations + np.abs(exact.x))).all()
    size = deviations[:, :, None] * deviations[:, None, :]
    assert (np.abs(result.cov - exact.cov) <= 1e-12 * size).all()


@pytest.mark.parametrize(
    "function", [kalman_smoother, kalman_filter, rts_smoother, loglik_gradient]
)
@pytest.mark.parametrize("start", [0.0, None])
def test_a_likelihood_that_overflows_is_an_error(function, start):
    if start is None and function in (kalman_filter, rts_smoother):
        return
    m0, P0 = (None, None) if start is None else ([0], [[1]])
    model = SmoothingProblem([[1]], [[1]], [[1]], [[1]], m0, P0)
    with pytest.raises(NonFiniteError, match="overflowed"):
        function(model, [[1e200], [0], [-1e200]])


@pytest.mark.parametrize("seed", range(40))
def test_covariances_are_semidefinite_to_rounding(seed):
    """Of models whose noises and start are singular, and some of whose sensors are exact or vague."""
    rng = np.random.default_rng(seed)
    n, T = int(rng.integers(1, 6)), int(rng.integers(2, 30))
    ny = int(rng.integers(1, n + 1))

    def singular(size):
        root = rng.normal(size=(size, rng.integers(0, size + 1)))
        return root @ root.T

    A = rng.normal(size=(n, n))
    A *= rng.choice([0.5, 0.9, 1.0, 1.1]) / np.abs(np.linalg.eigvals(A)).max()
    C = rng.normal(size=(ny, n)) if seed % 2 else np.eye(n)[:ny]
    P0 = [singular(n), np.eye(n), 1e12 * np.eye(n)][seed % 3]
    model = SmoothingProblem(A, C, singular(n), singular(ny), np.zeros(n), P0)
    y = with_gaps(rng.normal(size=(T + 1, ny)), "entries", rng)
    for function in (kalman_filter, rts_smoother, kalman_smoother):
        try:
            cov = function(model, y).cov
        except NotConvexError:
            continue  # an exact sensor reads what is known
        assert np.array_equal(cov, cov.swapaxes(-1, -2))
        variances = np.diagonal(cov, axis1=-2, axis2=-1)
        assert (variances >= 0).all()
        size = np.sqrt(np.where(variances > 0, variances, 1.0))
        scaled = cov / (size[..., :, None] * size[..., None, :])
        assert np.linalg.eigvalsh(scaled).min() >= -16 * n * EPS


def test_a_negative_variance_is_an_error():
    cov = np.array([[[1.0, 0.0], [0.0, -1e-20]]])
    model = SmoothingProblem(np.eye(2), np.eye(2), np.eye(2), np.eye(2), None, None)
    smoothed = Smoothed(np.zeros((1, 2)), cov, None, np.zeros((0, 2)), 0.0, "made up", model)
    with pytest.raises(NotConvexError, match=r"cov\[0, 1, 1\] is -1e-20, a negative variance"):
        smoothed.to_frame()


@pytest.mark.parametrize("seed", range(40))
def test_small_variances_beside_large_correlated_ones_are_right(seed):
    """Of a start whose deviations lie up to fourteen decades apart, and are correlated."""
    rng = np.random.default_rng(seed)
    n = 2 + seed % 3
    A, C = np.eye(n) + np.eye(n, k=1), np.eye(n)[:1]
    W = np.diag(rng.exponential(size=n) * rng.integers(0, 2, n))
    root = rng.normal(size=(n, n))
    correlation = root @ root.T + 0.1 * np.eye(n)
    size = 10.0 ** rng.uniform(-7, 7, n) / np.sqrt(correlation.diagonal())
    P0 = correlation * size[:, None] * size
    data = {"A": A, "C": C, "W": W, "V": np.eye(1), "m0": np.zeros(n), "P0": (P0 + P0.T) / 2}
    y = draw_series(data, 5, rng)
    exact = condition_exactly(data, y)
    result = kalman_smoother(SmoothingProblem(**data), y)
    deviations = np.sqrt(np.diagonal(exact.cov, axis1=1, axis2=2))
    assert (np.abs(result.x - exact.x) <= 1e-8 * (deviations + np.abs(exact.x))).all()
    assert (
        np.abs(result.cov - exact.cov) <= 1e-8 * deviations[:, :, None] * deviations[:, None, :]
    ).all()


def deviations_of(exact):
    return np.sqrt(np.diagonal(exact.cov, axis1=1, axis2=2))


@pytest.mark.parametrize("seed", range(40))
def test_variances_that_an_all_but_singular_start_leaves_are_right_or_refused(seed):
    """P0 = g g' rounded, up to 1e24 times as large as the noises."""
    rng = np.random.default_rng(seed)
    n, T = 2 + seed % 3, 6
    A, C = np.eye(n) + np.eye(n, k=1), np.eye(n)[: 1 + seed % 2]
    g = rng.normal(size=n) * 10.0 ** rng.integers(0, 13)
    W = np.diag(rng.exponential(size=n) * rng.integers(0, 2, n))
    data = {"A": A, "C": C, "W": W, "V": np.diag(rng.exponential(size=len(C)))}
    data |= {"m0": np.zeros(n), "P0": np.outer(g, g)}
    y = with_gaps(draw_series(data, T, rng), "rows", rng)
    with mpmath.workdps(50):  # of g g' as it is meant
        exact = condition_exactly(data | {"P0": mp(g)[:, None] * mp(g)}, y)
    deviations = deviations_of(exact)
    size = deviations[:, :, None] * deviations[:, None, :]
    model = SmoothingProblem(**data)
    for function in (kalman_smoother, rts_smoother):
        try:
            result = function(model, y)
        except NotConvexError:
            assert np.abs(g).max() > 1e4  # no start of an ordinary size is refused
            words = "is lost: P0 is singular but for rounding|the innovation at time . is singular"
            with pytest.raises(NotConvexError, match=words):
                function(model, y)
            continue
        assert (np.abs(result.cov - exact.cov) <= 1e-4 * size).all()


@pytest.mark.parametrize("seed", range(20))
def test_the_backward_recursion_keeps_its_digits_under_a_vague_start(seed):
    """Where squares of roots are solved with, half of the variances below lose all of theirs."""
    rng = np.random.default_rng(seed)
    n, T = 2 + seed % 3, 6
    data = {"A": np.eye(n) + np.eye(n, k=1), "C": np.eye(n)[:1], "V": np.eye(1)}
    root = rng.normal(size=(n, 1 + seed % n))
    data |= {"W": root @ root.T, "m0": np.zeros(n), "P0": 10.0 ** rng.integers(8, 15) * np.eye(n)}
    y = draw_series(data, T, rng)
    exact = condition_exactly(data, y)
    deviations = deviations_of(exact)
    result = rts_smoother(SmoothingProblem(**data), y)
    size = deviations[:, :, None] * deviations[:, None, :]
    assert (np.abs(result.cov - exact.cov) <= 1e-6 * size).all()


@pytest.mark.parametrize("seed", range(30))
def test_covariances_keep_their_digits_where_rows_of_their_roots_are_of_all_sizes(seed):
    """Where reflections take rows as they stand, a fifth of these lose five digits and more."""
    rng = np.random.default_rng(100 + seed)
    n, T = 2 + seed % 3, 6
    data = {"A": np.eye(n) + np.eye(n, k=1 if seed % 2 else -1), "C": rng.normal(size=(1, n))}
    data |= {"W": np.eye(n), "V": np.eye(1), "m0": np.zeros(n)}
    data |= {"P0": np.diag(10.0 ** rng.integers(-8, 15, n))}
    y = draw_series(data, T, rng)
    exact = condition_exactly(data, y)
    deviations = deviations_of(exact)
    model = SmoothingProblem(**data)
    size = deviations[:, :, None] * deviations[:, None, :]
    for series in (y, np.array([np.roll(y, 1, axis=0), with_gaps(y, "rows", rng), y])):
        cov = rts_smoother(model, series).cov
        assert (np.abs((cov if cov.ndim == 3 else cov[-1]) - exact.cov) <= 1e-12 * size).all()


@pytest.mark.parametrize("seed", range(20))
def test_the_backward_recursion_keeps_what_the_next_state_does_not_tell(seed):
    """Of A that forgets a direction, where neither noise nor start reaches all states."""
    rng = np.random.default_rng(seed)
    n, T = 3, 5
    A = rng.normal(size=(n, n - 1)) @ rng.normal(size=(n - 1, n)) / n
    data = {"A": A, "C": rng.normal(size=(1, n)), "V": np.eye(1), "m0": np.zeros(n)}
    data |= {"W": np.diag(rng.integers(0, 2, n) * 1.0), "P0": np.diag(rng.integers(0, 2, n) * 1.0)}
    y = draw_series(data, T, rng)
    exact = condition_exactly(data, y)
    result = rts_smoother(SmoothingProblem(**data), y)
    assert np.abs(result.cov - exact.cov).max() <= 1e-12
    assert np.abs(result.x - exact.x).max() <= 1e-12


@pytest.mark.parametrize("seed", [0, 4, 10])
def test_the_backward_recursion_takes_terms_that_cancel_for_zero(seed):
    """A season that repeats without noise: what rounding leaves of it is no variance to divide by."""
    rng = np.random.default_rng(seed)
    T = 8
    A = np.array(
        [[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, -1, -1, -1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]
    )
    V = 10.0 ** rng.uniform(-1, 2, size=(T + 1, 1, 1))
    data = {"A": A * 1.0, "C": np.array([[1.0, 0, 1, 0, 0]]), "W": np.zeros((5, 5)), "V": V}
    data |= {"m0": rng.normal(size=5), "P0": np.diag([1.0, 0, 0, 1, 0])}
    y = draw_series(data, T, rng)
    exact = condition_exactly(data, y)
    result = rts_smoother(SmoothingProblem(**data), y)
    assert np.abs(result.cov - exact.cov).max() <= 1e-12
    assert np.abs(result.x - exact.x).max() <= 1e-12 * max(1, np.abs(exact.x).max())
