"""Smoothing by hand, and the kernels under it: the blocks of an inverse, and a factor that settles."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import lqrad
from lqrad.errors import ArgumentError, DtypeError, NotConvexError
from lqrad.linalg.stages import substitute
from lqrad.linalg.tridiagonal import BlockTridiagonal, congruences
from lqrad.smoothing import normal_equations
from lqrad.smoothing.kalman import kalman_filter, kalman_smoother, rts_smoother
from lqrad.smoothing.model import SmoothingProblem

NAN = np.nan
LEVEL = {"A": [[1]], "C": [[1]], "W": [[1]], "V": [[1]], "m0": [0], "P0": [[1]]}
OSCILLATOR = {
    "A": [[0.9, 0.4], [-0.4, 0.9]],
    "C": [[1.0, 0.0]],
    "W": [[0.2, 0.1], [0.1, 0.3]],
    "V": [[0.5]],
    "m0": [1.0, 0.0],
    "P0": np.eye(2),
}


def dense(diagonal, below):
    N, n = diagonal.shape[:2]
    H = np.zeros((N, n, N, n))
    for t in range(N):
        H[t, :, t] = diagonal[t]
    for t in range(N - 1):
        H[t + 1, :, t], H[t, :, t + 1] = below[t], below[t].T
    return H.reshape(N * n, N * n)


def constant(N, n, seed=0, margin=0.2):
    """A matrix whose blocks are the same but for the ends, as time-invariant models have."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A *= 0.95 / np.abs(np.linalg.eigvals(A)).max()
    diagonal = np.empty((N, n, n))
    diagonal[...] = margin * np.eye(n)
    diagonal[1:] += np.eye(n)
    diagonal[:-1] += A.T @ A
    return diagonal, np.broadcast_to(-A, (N - 1, n, n))


def repeated(diagonal, below):
    """The same matrix, known to have the same blocks but for the ends."""
    N = len(diagonal)
    return BlockTridiagonal(diagonal[[0, min(1, N - 1), -1]], below[0], N=N)


def varying(N, n, seed=0):
    diagonal, below = constant(N, n, seed)
    scale = np.random.default_rng(seed).uniform(0.5, 2, size=(N, n))
    below = scale[1:, :, None] * below * scale[:-1, None, :]
    return scale[:, :, None] * diagonal * scale[:, None, :], below


@pytest.mark.parametrize("make", [constant, varying])
@pytest.mark.parametrize(
    ("N", "n"), [(1, 1), (1, 4), (2, 3), (17, 1), (50, 5), (200, 2), (140, 12)]
)
def test_the_inverse_has_these_blocks_and_the_factor_this_determinant(make, N, n):
    diagonal, below = make(N, n)
    H = BlockTridiagonal(diagonal, below)
    Z = np.linalg.inv(dense(diagonal, below)).reshape(N, n, N, n)
    got_diagonal, got_below = H.selected_inverse()
    scale = np.abs(Z).max()
    assert np.array_equal(got_diagonal, got_diagonal.swapaxes(-1, -2))
    for t in range(N):
        np.testing.assert_allclose(got_diagonal[t], Z[t, :, t], rtol=0, atol=1e-12 * scale)
    for t in range(N - 1):
        np.testing.assert_allclose(got_below[t], Z[t + 1, :, t], rtol=0, atol=1e-12 * scale)
    expected = np.linalg.slogdet(dense(diagonal, below))[1]
    assert H.log_determinant() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("margin", [1.0, 0.2, 1e-3, 1e-6])
def test_a_settled_factor_is_as_good_as_a_whole_one(margin):
    """Small margins settle late, or never within the horizon: the answer is the same."""
    diagonal, below = constant(400, 3, margin=margin)
    H, whole = repeated(diagonal, below), BlockTridiagonal(diagonal, below)
    f = np.random.default_rng(0).normal(size=(400, 3))
    x, expected = H.solve(f), whole.solve(f)
    cond = np.linalg.cond(dense(diagonal, below))
    assert np.abs(x - expected).max() <= 1e-15 * cond * np.abs(expected).max() + 1e-13
    batch = H.solve(np.stack([f, 2 * f]))
    assert np.abs(batch[1] - 2 * expected).max() <= 1e-15 * cond * np.abs(expected).max() + 1e-13
    for got, right in zip(H.selected_inverse(), whole.selected_inverse(), strict=True):
        assert np.abs(got - right).max() <= 1e-15 * cond * np.abs(right).max() + 1e-13
    assert H.log_determinant() == pytest.approx(whole.log_determinant(), rel=1e-12)


def test_an_indefinite_last_block_is_still_named():
    diagonal, below = constant(200, 2)
    diagonal[-1] = 0
    for make in (repeated, BlockTridiagonal):
        with pytest.raises(NotConvexError, match="broke in block 199 of 200"):
            make(diagonal, below)


@pytest.mark.parametrize("N", [2, 3, 31, 127, 128, 129, 3000])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_blocks_that_repeat_are_those_that_they_stand_for(N, n):
    diagonal, below = constant(N, n)
    H, whole = repeated(diagonal, below), BlockTridiagonal(diagonal, below)
    f = np.random.default_rng(0).normal(size=(N, n))
    np.testing.assert_allclose(H.solve(f), whole.solve(f), rtol=0, atol=1e-12)
    for got, right in zip(H.selected_inverse(), whole.selected_inverse(), strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=1e-12)
    assert H.log_determinant() == pytest.approx(whole.log_determinant(), rel=1e-13)


def test_a_shortened_matrix_has_the_same_ends_and_a_shorter_middle():
    diagonal, below = constant(3000, 2)
    short = repeated(diagonal, below).shortened()
    assert 128 <= short.N < 300
    f = np.random.default_rng(0).normal(size=(short.N, 2))
    cut = BlockTridiagonal(
        np.concatenate([diagonal[: short.N - 1], diagonal[-1:]]), below[: short.N - 1]
    )
    np.testing.assert_allclose(short.solve(f), cut.solve(f), rtol=0, atol=1e-12)
    whole = BlockTridiagonal(diagonal[:50], below[:49])
    assert whole.shortened().N == 50


@pytest.mark.parametrize("T", [0, 1, 5, 100, 101])
@pytest.mark.parametrize("n", [1, 4, 13])
def test_congruences_are_their_recursion(T, n):
    rng = np.random.default_rng(0)
    G = rng.normal(size=(T, n, n)) / np.sqrt(2 * n)
    N = rng.normal(size=(T + 1, n, n))
    N = N @ N.swapaxes(-1, -2)
    S, X = congruences(G, N)
    expected = N[T]
    for t in range(T - 1, -1, -1):
        np.testing.assert_allclose(X[t], expected @ G[t], rtol=0, atol=1e-12 * np.abs(S).max())
        expected = N[t] + G[t].T @ expected @ G[t]
        np.testing.assert_allclose(S[t], expected, rtol=0, atol=1e-12 * np.abs(S).max())


def test_substitution_solves_every_triangle_of_a_batch():
    rng = np.random.default_rng(0)
    L = np.tril(rng.normal(size=(7, 5, 5))) + 3 * np.eye(5)
    f = rng.normal(size=(7, 5, 2))
    np.testing.assert_allclose(L @ substitute(L, f), f, rtol=0, atol=1e-14)
    np.testing.assert_allclose(L[0] @ substitute(L[0], f[0]), f[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("smooth", [kalman_smoother, rts_smoother])
def test_a_level_by_hand(smooth):
    """From y = (0, -, 3): 3a - b = 0, -a + 2b - c = 0, -b + 2c = 3 for the states a, b, c."""
    result = smooth(SmoothingProblem(**LEVEL), [[0.0], [NAN], [3.0]])
    np.testing.assert_allclose(7 * result.x.ravel(), [3, 9, 15], rtol=1e-14)
    np.testing.assert_allclose(7 * result.p.ravel(), [6, 6], rtol=1e-14)  # W = 1: the noises
    inverse = np.linalg.inv([[3.0, -1, 0], [-1, 2, -1], [0, -1, 2]])
    np.testing.assert_allclose(result.cov.ravel(), np.diag(inverse), rtol=1e-14)
    np.testing.assert_allclose(result.lag_cov.ravel(), np.diag(inverse, -1), rtol=1e-14)
    S = np.array([[2.0, 1.0], [1.0, 4.0]])  # of y[0] and y[2]
    loglik = -np.log(2 * np.pi) - np.log(7) / 2 - np.array([0, 3]) @ np.linalg.solve(S, [0, 3]) / 2
    assert result.loglik == pytest.approx(loglik, rel=1e-14)


def test_the_method_fits_the_covariances():
    y = np.random.default_rng(0).normal(size=(30, 1))
    assert kalman_smoother(SmoothingProblem(**LEVEL), y).method == "normal equations"
    for name in ("W", "V", "P0"):
        changed = SmoothingProblem(**(LEVEL | {name: [[0.0]]}))
        assert kalman_smoother(changed, y).method == "covariance recursions"
    slow = SmoothingProblem(**(LEVEL | {"W": [[1e-13]]}))
    assert kalman_smoother(slow, y).method == "covariance recursions"
    assert rts_smoother(slow, y).method == "filter and RTS"


def test_both_methods_give_one_answer_without_a_prior():
    y = np.random.default_rng(0).normal(size=(300, 1))
    y[4:7], y[-5:] = NAN, NAN
    problem = SmoothingProblem(**(OSCILLATOR | {"m0": None, "P0": None}))
    equations = kalman_smoother(problem, y)
    # The state twice, the second time without noise or sensor: W is singular, the rest is the same.
    A, W = np.zeros((3, 3)), np.zeros((3, 3))
    A[:2, :2], W[:2, :2], A[2, 2] = problem.A, problem.W, 0.5
    known = {"A": A, "C": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "W": W, "V": np.diag([0.5, 1.0])}
    doubled = np.concatenate([y, np.zeros_like(y)], axis=1)
    recursions = kalman_smoother(SmoothingProblem(**known, m0=None, P0=None), doubled)
    assert {equations.method, recursions.method} == {"normal equations", "covariance recursions"}
    np.testing.assert_allclose(recursions.x[:, :2], equations.x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(recursions.cov[:, :2, :2], equations.cov, rtol=0, atol=1e-12)
    np.testing.assert_allclose(recursions.lag_cov[:, :2, :2], equations.lag_cov, rtol=0, atol=1e-12)
    np.testing.assert_allclose(recursions.p[:, :2], equations.p, rtol=0, atol=1e-11)


@pytest.mark.parametrize("routine", [kalman_filter, rts_smoother])
def test_recursions_from_nothing_are_refused(routine):
    problem = SmoothingProblem(**(LEVEL | {"P0": None}))
    with pytest.raises(ArgumentError, match=f"P0 is None and {routine.__name__} needs a prior"):
        routine(problem, np.ones((3, 1)))


def test_an_exact_sensor_that_is_doubled_is_refused():
    twice = SmoothingProblem(**(LEVEL | {"C": [[1], [1]], "V": np.zeros((2, 2))}))
    with pytest.raises(NotConvexError, match=r"innovation at time 0 is singular.*NaN"):
        kalman_smoother(twice, np.ones((3, 2)))


def test_a_batch_with_the_same_gaps_shares_its_covariances():
    y = np.random.default_rng(0).normal(size=(2, 3, 10, 1))
    y[..., 4, :] = NAN
    result = kalman_smoother(SmoothingProblem(**OSCILLATOR), y)
    assert result.x.shape == (2, 3, 10, 2)
    assert result.cov.shape == (10, 2, 2)
    assert result.loglik.shape == (2, 3)
    y[1, 2, 5] = NAN
    result = kalman_smoother(SmoothingProblem(**OSCILLATOR), y)
    assert result.cov.shape == (2, 3, 10, 2, 2)
    one = kalman_smoother(SmoothingProblem(**OSCILLATOR), y[1, 2])
    np.testing.assert_allclose(result.cov[1, 2], one.cov, rtol=0, atol=1e-15)


def test_a_prior_that_nothing_is_learnt_of_stays_as_it_was():
    """No noise, no data: P[t+1|t] = A P A' all but loses a rank, and cov[0] is P0 to the last bit."""
    A = np.array([[-0.9, -0.3], [-0.9, -0.4]])
    model = SmoothingProblem(A, [[0, 0]], np.zeros((2, 2)), [[1]], [0, 0], np.eye(2))
    result = kalman_smoother(model, np.zeros((13, 1)))
    np.testing.assert_array_equal(result.cov[0], np.eye(2))
    power = np.eye(2)
    for t in range(13):
        np.testing.assert_allclose(result.cov[t], power @ power.T, rtol=1e-12, atol=1e-30)
        power = A @ power


def test_a_state_that_is_known_exactly_leaves_nothing_to_observe():
    """After y[0] the state has no variance but rounding errors, and y[1] no likelihood."""
    model = SmoothingProblem([[0.9]], [[0.7]], [[0]], [[0]], [0], [[0.6]])
    with pytest.raises(NotConvexError, match="innovation at time 1 is singular"):
        kalman_smoother(model, [[1], [0.9], [0.81], [0.729]])


def test_a_mask_says_what_nan_says():
    model = SmoothingProblem([[1]], [[1]], [[1]], [[1]], [0], [[1]])
    y = np.array([[1.0], [99.0], [3.0]])
    masked = kalman_smoother(model, np.ma.array(y, mask=[[0], [1], [0]]))
    y[1] = np.nan
    np.testing.assert_array_equal(masked.x, kalman_smoother(model, y).x)


def test_what_is_no_problem_is_refused():
    with pytest.raises(
        ArgumentError, match="problem is of type ndarray, expected SmoothingProblem"
    ):
        kalman_smoother(np.eye(2), np.zeros((3, 1)))


def test_a_pandas_series_and_a_frame_are_series_too():
    pandas = pytest.importorskip("pandas")
    model = SmoothingProblem([[1]], [[1]], [[1]], [[1]], [0], [[1]])
    y = np.array([[1.0], [np.nan], [3.0]])
    expected = kalman_smoother(model, y).x
    index = pandas.period_range("2001", periods=3, freq="Y")
    series = pandas.Series(y[:, 0], index=index)
    np.testing.assert_array_equal(kalman_smoother(model, series).x, expected)
    np.testing.assert_array_equal(kalman_smoother(model, series.to_frame()).x, expected)


def test_a_model_that_was_smoothed_before_gives_what_a_new_one_gives():
    """To the last bit, whatever series and models came between."""
    rng = np.random.default_rng(0)
    level, oscillator = SmoothingProblem(**LEVEL), SmoothingProblem(**OSCILLATOR)
    long, short, other = (rng.normal(size=(T + 1, 1)) for T in (200, 9, 200))
    gaps = np.where(np.arange(201)[:, None] % 7 == 3, NAN, long)
    batch = np.stack([long, other, gaps])
    for y in (long, other, short, gaps, long, batch, other):
        for model in (level, level, oscillator):
            got, new = kalman_smoother(model, y), kalman_smoother(copy.copy(model), y)
            for name in ("x", "p", "cov", "lag_cov"):
                np.testing.assert_array_equal(getattr(got, name), getattr(new, name))
            np.testing.assert_array_equal(got.loglik, new.loglik)


def test_what_was_returned_may_be_written_on():
    model, y = SmoothingProblem(**LEVEL), np.arange(50.0)
    first = kalman_smoother(model, y)
    expected = copy.deepcopy(first)
    for array in (first.x, first.p, first.cov, first.lag_cov):
        array[...] = 99.0
    again = kalman_smoother(model, y)
    np.testing.assert_array_equal(again.x, expected.x)
    np.testing.assert_array_equal(again.cov, expected.cov)


@pytest.mark.parametrize(("most", "kept"), [(16 * 50 - 1, 0), (16 * 50, 1)])
def test_a_large_factor_is_not_kept(monkeypatch, most, kept):
    monkeypatch.setattr(normal_equations, "_MOST_KEPT", most)
    normal_equations._without_gaps.cache_clear()
    kalman_smoother(SmoothingProblem(**LEVEL), np.arange(50.0))
    assert normal_equations._without_gaps.cache_info().currsize == kept


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_gaps_come_in_every_kind_of_series():
    """Masks, NaN, None, pandas' NA, alone and in lists of different kinds."""
    pandas = pytest.importorskip("pandas")
    model = SmoothingProblem([[1]], [[1]], [[1]], [[1]], [0], [[1]])
    expected = kalman_smoother(model, [[1.0], [np.nan], [3.0]]).x
    masked = np.ma.masked_array([[1.0], [-999.0], [3.0]], mask=[[0], [1], [0]])
    frame = pandas.DataFrame({"a": pandas.array([1, None, 3], dtype="Int64")})
    kinds = [masked, masked.astype(int), frame, [[1.0], [None], [3.0]]]
    kinds += [np.matrix([[1.0], [np.nan], [3.0]]), np.float32([[1], [np.nan], [3]])]
    for y in [*kinds, frame["a"], masked[:, 0]]:
        assert np.array_equal(kalman_smoother(model, y).x, expected)
    for batch in (kinds, tuple(kinds), np.ma.stack([masked, masked])):
        found = kalman_smoother(model, batch).x
        assert np.array_equal(found, np.broadcast_to(expected, found.shape))
    with pytest.raises(DtypeError, match="y is not a rectangular array"):
        kalman_smoother(model, [masked, masked[:2]])


def test_what_is_no_model_is_told():
    problem = lqrad.LQProblem([[1]], [[1]], [[1]], [[1]])
    for function in (kalman_smoother, kalman_filter, rts_smoother, lqrad.loglik_gradient):
        with pytest.raises(ArgumentError, match="problem is of type LQProblem, expected Smoothing"):
            function(problem, [[1.0], [2.0]])
    with pytest.raises(ArgumentError, match="problem is of type LQProblem, expected Smoothing"):
        lqrad.em(problem, [[1.0], [2.0]], learn="V")
