"""Four ways to one answer: descent, normal equations, filter and RTS, and dense conditioning."""

from __future__ import annotations

import numpy as np
import pytest
from random_smoothing import (
    GAPS,
    assert_smoothed,
    condition,
    distance,
    draw_series,
    random_case,
    stages,
    with_gaps,
)

import lqrad
from lqrad.errors import (
    ArgumentError,
    DtypeError,
    LqradError,
    NonFiniteError,
    NotConvexError,
    ShapeError,
)
from lqrad.smoothing.kalman import kalman_filter, kalman_smoother, rts_smoother
from lqrad.smoothing.model import SmoothingProblem

NAN = np.nan

# Every kind of gap with every size, and the rest as the seed has it.
CASES = [
    random_case(seed, gaps=GAPS[seed % 6], n=[1, 2, 3, 5, 8, 12][(seed // 6 + seed) % 6])
    for seed in range(48)
]
SMOOTHERS = [kalman_smoother, rts_smoother]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
smoothers = pytest.mark.parametrize("smooth", SMOOTHERS)


def textbook(data, y):
    """Kalman's filter and the smoother of Rauch, Tung and Striebel, step by step as printed.

    Returns the smoothed means, covariances and lag-one covariances, the log-likelihood, and the
    filter's predicted and filtered means and covariances, innovations and their covariances.
    """
    T, n = len(y) - 1, len(data["m0"])
    s = stages(data, T)
    m, P, loglik = data["m0"], data["P0"], 0.0
    predicted, filtered, innovations = [], [], []
    for t in range(T + 1):
        predicted.append((m, P))
        seen = ~np.isnan(y[t])
        C, V = s["C"][t][seen], s["V"][t][np.ix_(seen, seen)]
        e, S = y[t][seen] - C @ m - s["d"][t][seen], C @ P @ C.T + V
        innovations.append((e, S))
        K = P @ C.T @ np.linalg.inv(S)
        m, P = m + K @ e, (np.eye(n) - K @ C) @ P
        filtered.append((m, P))
        loglik -= 0.5 * (np.log(np.linalg.det(2 * np.pi * S)) + e @ np.linalg.solve(S, e))
        if t < T:
            A = s["A"][t]
            m, P = A @ m + s["c"][t], A @ P @ A.T + s["W"][t]
    x, cov, lag_cov = [m], [P], []
    for t in range(T - 1, -1, -1):
        m, P = filtered[t]
        prior_m, prior_P = predicted[t + 1]
        G = P @ s["A"][t].T @ np.linalg.inv(prior_P)
        lag_cov.insert(0, cov[0] @ G.T)
        x.insert(0, m + G @ (x[0] - prior_m))
        cov.insert(0, P + G @ (cov[0] - prior_P) @ G.T)
    return (np.array(x), np.array(cov), np.array(lag_cov), loglik), predicted, filtered, innovations


def simulated(data, z):
    """The states of z = (x[0], w[0], ..., w[T-1])."""
    s = stages(data, len(z) - 1)
    x = [z[0]]
    for t, w in enumerate(z[1:]):
        x.append(s["A"][t] @ x[t] + s["c"][t] + w)
    return np.array(x)


def naive_objective(data, y, z):
    """Half the squared, weighted misfits of the prior, the noises and what is observed."""
    s, x = stages(data, len(z) - 1), simulated(data, z)
    J = (z[0] - data["m0"]) @ np.linalg.solve(data["P0"], z[0] - data["m0"]) / 2
    for t in range(len(z)):
        seen = ~np.isnan(y[t])
        v = (y[t] - s["C"][t] @ x[t] - s["d"][t])[seen]
        J += v @ np.linalg.solve(s["V"][t][np.ix_(seen, seen)], v) / 2
        if t:
            J += z[t] @ np.linalg.solve(s["W"][t - 1], z[t]) / 2
    return J


def dense_hessian(objective):
    """The Hessian, column by column."""
    size = int(np.prod(objective.shape))
    units = np.eye(size).reshape(size, *objective.shape)
    zero = np.zeros(objective.shape)
    return np.array([objective.hessian_product(zero, unit).ravel() for unit in units])


# --- four routes -----------------------------------------------------------------------------


def test_the_generator_draws_what_it_promises():
    def with_unseen(case):
        return np.isnan(case.y).any() and not np.isnan(case.y).all(axis=1).any()

    assert {case.problem.n for case in CASES} == {1, 2, 3, 5, 8, 12}
    assert {case.problem.ny for case in CASES} == {1, 2, 3, 5, 8, 12}
    assert {case.T for case in CASES} >= {1, 2, 20}
    assert any(case.problem.T is None for case in CASES)
    assert any(case.data["A"].ndim == 3 and case.data["C"].ndim == 2 for case in CASES)
    assert any(with_unseen(case) for case in CASES)
    assert any(np.isnan(case.y[0]).all() for case in CASES)


@cases
def test_the_oracles_agree(case):
    exact = condition(case.data, case.y)
    (x, cov, lag_cov, loglik), *_ = textbook(case.data, case.y)
    for result, expected in [(x, exact.x), (cov, exact.cov), (lag_cov, exact.lag_cov)]:
        assert distance(result, expected) <= 1e-11
    assert loglik == pytest.approx(exact.loglik, rel=1e-11)


@cases
def test_normal_equations_give_the_conditional_distribution(case):
    result = kalman_smoother(case.problem, case.y)
    exact = condition(case.data, case.y)
    assert_smoothed(result, exact, 1e-10)
    assert distance(result.p, exact.p) <= 1e-10
    assert "normal equations" in result.method


@cases
def test_recursions_give_the_conditional_distribution(case):
    result = rts_smoother(case.problem, case.y)
    assert_smoothed(result, condition(case.data, case.y), 1e-10)


@cases
def test_conjugate_gradients_find_the_smoothed_states(case):
    """The error in z is at most sqrt(2 gap / mu), so that nearly all digits of the gap are needed."""
    objective = case.problem.objective(case.y)
    found = lqrad.descend(objective, method="conjugate-gradient", tol=1e-28)
    x = simulated(case.data, found.solution)
    assert distance(x, condition(case.data, case.y).x) <= 1e-10, found
    assert distance(x, kalman_smoother(case.problem, case.y).x) <= 1e-10


@cases
def test_the_filter_gives_what_is_known_at_each_time(case):
    result = kalman_filter(case.problem, case.y)
    (_, _, _, loglik), predicted, filtered, innovations = textbook(case.data, case.y)
    x, cov = (np.array(part) for part in zip(*filtered, strict=True))
    prior_x, prior_cov = (np.array(part) for part in zip(*predicted, strict=True))
    assert distance(result.x, x) <= 1e-10
    assert distance(result.cov, cov) <= 1e-10
    assert distance(result.predicted_x, prior_x) <= 1e-10
    assert distance(result.predicted_cov, prior_cov) <= 1e-10
    assert result.loglik == pytest.approx(loglik, rel=1e-10)
    for t, (e, S) in enumerate(innovations):
        seen = ~np.isnan(case.y[t])
        assert np.isnan(result.innovations[t][~seen]).all()
        scale = np.abs(case.y[t][seen]).max(initial=0) + np.abs(prior_x[t]).max()
        assert np.abs(result.innovations[t][seen] - e).max(initial=0) <= 1e-10 * scale
        assert distance(result.innovation_cov[t][np.ix_(seen, seen)], S) <= 1e-10


def test_the_last_filtered_state_is_the_last_smoothed_one():
    for case in CASES[:12]:
        filtered, smoothed = (
            kalman_filter(case.problem, case.y),
            kalman_smoother(case.problem, case.y),
        )
        assert distance(filtered.x[-1], smoothed.x[-1]) <= 1e-10
        assert distance(filtered.cov[-1], smoothed.cov[-1]) <= 1e-10
        assert filtered.loglik == pytest.approx(smoothed.loglik, rel=1e-11)


def test_what_needs_no_covariances_is_the_same_without_them():
    case = random_case(5, n=3, ny=2, T=9, gaps="both")
    whole = kalman_smoother(case.problem, case.y)
    bare = kalman_smoother(case.problem, case.y, covariances=False)
    assert bare.cov is None
    assert bare.lag_cov is None
    assert distance(bare.x, whole.x) <= 1e-14
    assert distance(bare.p, whole.p) <= 1e-14
    assert bare.loglik == pytest.approx(whole.loglik, rel=1e-14)


# --- the objective ---------------------------------------------------------------------------


@cases
def test_the_objective_is_half_the_squared_misfit(case):
    z = np.random.default_rng(0).normal(size=(case.T + 1, case.problem.n))
    objective = case.problem.objective(case.y)
    assert objective.shape == z.shape
    assert objective.quadratic
    value, gradient = objective.value_and_gradient(z)
    assert isinstance(value, float)
    assert value == pytest.approx(naive_objective(case.data, case.y, z), rel=1e-12)
    # A central difference is exact on a quadratic, up to the rounding of two values, over h.
    rng, h = np.random.default_rng(1), 1.0
    for _ in range(5):
        v = rng.normal(size=z.shape)
        ends = [naive_objective(case.data, case.y, z + sign * h * v) for sign in (1, -1)]
        rounding = 1e-12 * max(ends) / h
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(np.vdot(gradient, v), abs=rounding)


@cases
def test_gradient_and_hessian_pass_the_taylor_and_dot_tests(case):
    z = np.random.default_rng(0).normal(size=(case.T + 1, case.problem.n))
    objective = case.problem.objective(case.y)
    product = objective.hessian_product
    assert lqrad.taylor_test(objective.value_and_gradient, z).order == pytest.approx(2, abs=0.01)
    exact = lqrad.taylor_test(objective.value_and_gradient, z, hessian_product=product)
    assert exact.order == np.inf
    assert lqrad.dot_test(lambda v: product(z, v), lambda v: product(z, v), z.shape) <= 1e-13


@cases
def test_the_gap_is_bounded_by_the_curvature_of_prior_and_noise(case):
    objective, s = case.problem.objective(case.y), stages(case.data, case.T)
    value, gradient = objective.value_and_gradient(np.zeros(objective.shape))
    H = dense_hessian(objective)
    gap = 0.5 * gradient.ravel() @ np.linalg.solve(H, gradient.ravel())
    bound = gradient[0] @ case.data["P0"] @ gradient[0] / 2
    bound += sum(g @ W @ g / 2 for g, W in zip(gradient[1:], s["W"], strict=True))
    assert objective.gap_bound(gradient) == pytest.approx(bound, rel=1e-11)
    assert gap <= bound * (1 + 1e-11)
    assert value - gap >= -1e-11 * value


@cases
def test_the_likelihood_is_the_integral_of_the_exponentiated_objective(case):
    """The logarithm of p(y) is -min J + 1/2 log det(2 pi H^-1) - 1/2 log det(2 pi (P0, W, V observed))."""
    objective, s = case.problem.objective(case.y), stages(case.data, case.T)
    value, gradient = objective.value_and_gradient(np.zeros(objective.shape))
    H = dense_hessian(objective)
    loglik = -value + 0.5 * gradient.ravel() @ np.linalg.solve(H, gradient.ravel())
    loglik -= np.linalg.slogdet(H / (2 * np.pi))[1] / 2
    covariances = [case.data["P0"], *s["W"]]
    for V, row in zip(s["V"], case.y, strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        covariances.append(V[np.ix_(seen, seen)])
    loglik -= sum(np.linalg.slogdet(2 * np.pi * S)[1] for S in covariances if S.size) / 2
    assert kalman_smoother(case.problem, case.y).loglik == pytest.approx(loglik, rel=1e-10)


def test_the_gap_bound_is_exact_where_nothing_is_observed():
    case = random_case(3, n=3, ny=2, T=5)
    objective = case.problem.objective(np.full((6, 2), NAN))
    z = np.random.default_rng(0).normal(size=objective.shape)
    value, gradient = objective.value_and_gradient(z)
    assert objective.gap_bound(gradient) == pytest.approx(value, rel=1e-12)


def test_the_objective_of_a_batch_is_the_sum_over_its_series():
    case = random_case(4, n=3, ny=2, T=5, gaps="none")
    rng = np.random.default_rng(0)
    y = np.array([with_gaps(draw_series(case.data, 5, rng), kind, rng) for kind in GAPS])
    objective = case.problem.objective(y)
    z, v = rng.normal(size=(2, 6, 6, 3))
    assert objective.shape == z.shape
    value, gradient = objective.value_and_gradient(z)
    single = [case.problem.objective(series) for series in y]
    parts = [one.value_and_gradient(start) for one, start in zip(single, z, strict=True)]
    assert value == pytest.approx(sum(part[0] for part in parts), rel=1e-13)
    assert distance(gradient, np.array([part[1] for part in parts])) <= 1e-13
    products = [one.hessian_product(a, b) for one, a, b in zip(single, z, v, strict=True)]
    assert distance(objective.hessian_product(z, v), np.array(products)) <= 1e-13
    bounds = [one.gap_bound(part[1]) for one, part in zip(single, parts, strict=True)]
    assert objective.gap_bound(gradient) == pytest.approx(sum(bounds), rel=1e-13)


# --- costates --------------------------------------------------------------------------------


@smoothers
@cases
def test_costates_are_the_multipliers(smooth, case):
    """p[t-1] = A'p[t] + C'V^-1 (y[t] - C x[t] - d),  W p[t] = w[t],  and x[0] = m0 + P0 (...)."""
    result, s = smooth(case.problem, case.y), stages(case.data, case.T)
    x, p = result.x, result.p
    assert p.shape == (case.T, case.problem.n)
    ahead = np.concatenate([p, np.zeros((1, case.problem.n))])  # A'p[T] does not exist: zero
    A = [*s["A"], np.zeros_like(s["A"][0])]
    terms = []
    for t in range(case.T + 1):
        seen = ~np.isnan(case.y[t])
        C, V = s["C"][t][seen], s["V"][t][np.ix_(seen, seen)]
        v = case.y[t][seen] - C @ x[t] - s["d"][t][seen]
        terms.append((A[t].T @ ahead[t], C.T @ np.linalg.solve(V, v)))
    terms = np.array(terms)
    scale = np.abs(terms).max(initial=0)
    # What is left of y - C x - d has the rounding errors of y and C x.
    states = np.abs(x).max() + np.abs(np.nan_to_num(case.y)).max()
    residual = p - terms[1:].sum(axis=1)
    assert np.abs(residual).max() <= 1e-11 * max(scale, states)
    w = np.array([x[t + 1] - s["A"][t] @ x[t] - s["c"][t] for t in range(case.T)])
    Wp = (s["W"] @ p[..., None])[..., 0]
    assert np.abs(Wp - w).max() <= 1e-11 * np.abs(x).max()
    start = case.data["m0"] + case.data["P0"] @ terms[0].sum(axis=0)
    assert np.abs(x[0] - start).max() <= 1e-11 * max(np.abs(x).max(), scale)


@pytest.mark.parametrize("seed", range(6))
def test_costates_solve_the_dense_kkt_system(seed):
    """Stationarity in x and the dynamics, assembled as one symmetric indefinite matrix."""
    case = random_case(seed, n=3, ny=2, T=7, radius=0.9)
    n, T, s = 3, case.T, stages(case.data, case.T)
    N = (T + 1) * n
    K, rhs = np.zeros((N + T * n, N + T * n)), np.zeros(N + T * n)
    K[:n, :n], rhs[:n] = (
        np.linalg.inv(case.data["P0"]),
        np.linalg.solve(case.data["P0"], case.data["m0"]),
    )
    for t in range(T + 1):
        at = slice(t * n, (t + 1) * n)
        seen = ~np.isnan(case.y[t])
        C, V = s["C"][t][seen], s["V"][t][np.ix_(seen, seen)]
        K[at, at] += C.T @ np.linalg.solve(V, C)
        rhs[at] += C.T @ np.linalg.solve(V, case.y[t][seen] - s["d"][t][seen])
        if t < T:  # x[t+1] - A x[t] - W p[t] = c, and its transpose
            multiplier, after = slice(N + t * n, N + (t + 1) * n), slice((t + 1) * n, (t + 2) * n)
            K[multiplier, after], K[multiplier, at] = np.eye(n), -s["A"][t]
            K[multiplier, multiplier], rhs[multiplier] = -s["W"][t], s["c"][t]
            K[after, multiplier], K[at, multiplier] = np.eye(n), -s["A"][t].T
    solution = np.linalg.solve(K, rhs)
    result = kalman_smoother(case.problem, case.y)
    assert distance(result.x, solution[:N].reshape(T + 1, n)) <= 1e-11
    assert distance(result.p, solution[N:].reshape(T, n)) <= 1e-10


# --- gaps and forecasts ----------------------------------------------------------------------


@smoothers
@pytest.mark.parametrize("seed", range(4))
def test_missing_rows_at_the_end_are_a_forecast(smooth, seed):
    case = random_case(seed, n=3, ny=2, T=12, radius=1.0, varying="all", gaps="none", offsets=True)
    y, s = case.y.copy(), stages(case.data, 12)
    y[8:] = NAN
    result, known = smooth(case.problem, y), kalman_filter(case.problem, y)
    x, P = known.x[7], known.cov[7]
    assert distance(result.x[7], x) <= 1e-11
    for t in range(7, 12):
        assert distance(result.lag_cov[t], s["A"][t] @ P) <= 1e-11
        x, P = s["A"][t] @ x + s["c"][t], s["A"][t] @ P @ s["A"][t].T + s["W"][t]
        assert distance(result.x[t + 1], x) <= 1e-11
        assert distance(result.cov[t + 1], P) <= 1e-11
    assert np.abs(result.p[7:]).max() <= 1e-12 * np.abs(result.p).max()  # nothing pulls


@smoothers
@pytest.mark.parametrize("T", [1, 6])
def test_a_series_of_nothing_leaves_the_prior(smooth, T):
    case = random_case(1, n=3, ny=2, T=T, gaps="none", offsets=True)
    result, s = smooth(case.problem, np.full((T + 1, 2), NAN)), stages(case.data, T)
    x, P = case.data["m0"], case.data["P0"]
    for t in range(T + 1):
        assert distance(result.x[t], x) <= 1e-12
        assert distance(result.cov[t], P) <= 1e-12
        if t < T:
            x, P = s["A"][t] @ x + s["c"][t], s["A"][t] @ P @ s["A"][t].T + s["W"][t]
    assert np.abs(result.p).max() <= 1e-14 * np.abs(result.x).max()
    assert abs(result.loglik) <= 1e-12


@smoothers
def test_an_entry_that_is_missing_is_a_row_that_was_never_there(smooth):
    """Leaving the second sensor out of the model, or out of every row of y, is the same."""
    case = random_case(2, n=3, ny=3, T=9, varying="none", offsets=True, gaps="rows")
    y = case.y.copy()
    y[:, 1] = NAN
    few = case.data | {
        "C": case.data["C"][[0, 2]],
        "V": case.data["V"][np.ix_([0, 2], [0, 2])],
        "d": case.data["d"][[0, 2]],
    }
    gappy, without = smooth(case.problem, y), smooth(SmoothingProblem(**few), y[:, [0, 2]])
    for name in ("x", "cov", "lag_cov", "p"):
        assert distance(getattr(gappy, name), getattr(without, name)) <= 1e-12
    assert gappy.loglik == pytest.approx(without.loglik, rel=1e-12)


# --- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("routine", [kalman_smoother, rts_smoother, kalman_filter])
@pytest.mark.parametrize("pattern", ["none", "same", "different", "groups"])
@pytest.mark.parametrize("leading", [(4,), (2, 3), (1,)])
def test_a_batch_is_its_series_one_by_one(routine, pattern, leading):
    case = random_case(6, n=3, ny=2, T=8, radius=0.9, varying="some", offsets=True, gaps="none")
    rng = np.random.default_rng(0)
    y = np.array([draw_series(case.data, 8, rng) for _ in range(np.prod(leading))])
    if pattern == "same":
        y[:, 2], y[:, 5, 1] = NAN, NAN
    if pattern == "groups":  # the first and the third share their gaps, and the rest have others
        y[::2, 2], y[1::2, 5, 1] = NAN, NAN
    if pattern == "different":
        y = np.array([with_gaps(y[k], GAPS[-1 - k], rng) for k in range(len(y))])
    batch = routine(case.problem, y.reshape(*leading, 9, 2))
    names = {"x", "cov", "lag_cov", "p", "predicted_x", "predicted_cov", "innovation_cov"}
    assert batch.x.shape == (*leading, 9, 3)
    assert np.shape(batch.loglik) == leading
    for k, index in enumerate(np.ndindex(*leading)):
        one = routine(case.problem, y[k])
        assert isinstance(one.loglik, float)
        assert batch.loglik[index] == pytest.approx(one.loglik, rel=1e-12)
        for name in names & vars(one).keys():
            part, expected = getattr(batch, name), getattr(one, name)
            part = np.broadcast_to(part, leading + expected.shape)[index]
            nan = np.isnan(expected)
            assert np.array_equal(np.isnan(part), nan)
            assert distance(part[~nan], expected[~nan]) <= 1e-12, name
    if pattern == "different" and len(y) > 1:
        assert batch.cov.shape == (*leading, 9, 3, 3)


def test_a_batch_without_a_prior_is_its_series_one_by_one():
    case = random_case(7, n=2, ny=2, T=6, radius=0.9, gaps="none", diffuse=True)
    y = np.stack([case.y, case.y[::-1] + 1, np.where(np.arange(14).reshape(7, 2) % 5, case.y, NAN)])
    batch = kalman_smoother(case.problem, y)
    for k, series in enumerate(y):
        one = kalman_smoother(case.problem, series)
        assert distance(batch.x[k], one.x) <= 1e-12
        assert distance(batch.cov[k], one.cov) <= 1e-12
        assert batch.loglik[k] == pytest.approx(one.loglik, rel=1e-12)


# --- what is refused -------------------------------------------------------------------------


def good():
    """Data of a problem with n = 3, ny = 2, none of it varying."""
    return {
        "A": np.diag([0.5, 0.9, 1.0]),
        "C": np.arange(6.0).reshape(2, 3),
        "W": np.diag([1.0, 2.0, 3.0]),
        "V": np.diag([4.0, 5.0]),
        "m0": np.ones(3),
        "P0": np.eye(3),
        "c": np.ones(3),
        "d": np.ones(2),
    }


def problem(**changes):
    return SmoothingProblem(**(good() | changes))


def spoiled(name, value, *, stages=None):
    """The good array of this name with its last entry replaced."""
    array = good()[name]
    array = array.copy() if stages is None else np.array([array] * stages)
    array.flat[-1] = value
    return array


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"A": np.ones((3, 2))}, r"A has shape \(3, 2\), expected .*\(n, n\)"),
        ({"A": 0.5}, r"A has shape \(\)"),
        ({"A": np.zeros((0, 0))}, r"A has shape \(0, 0\)"),
        ({"C": np.ones((3, 2))}, r"C has shape \(3, 2\), expected \(ny, n\).*C\.T"),
        ({"C": np.ones(3)}, r"C has shape \(3,\), expected \(ny, n\)"),
        ({"C": 1.0}, r"C has shape \(\), expected \(ny, n\)"),
        ({"W": 0.1}, r"W has shape \(\), expected \(n, n\).*\(3, 3\)"),
        ({"W": np.ones(3)}, r"W has shape \(3,\), expected \(n, n\).*\(3, 3\)"),
        ({"W": np.eye(2)}, r"W has shape \(2, 2\), expected \(n, n\).*\(3, 3\)"),
        ({"V": 0.1}, r"V has shape \(\), expected \(ny, ny\).*\(2, 2\)"),
        ({"V": [0.1]}, r"V has shape \(1,\), expected \(ny, ny\).*\(2, 2\)"),
        ({"V": np.eye(3)}, r"V has shape \(3, 3\), expected \(ny, ny\).*\(2, 2\)"),
        ({"P0": 1e7}, r"P0 has shape \(\), expected \(n, n\).*\(3, 3\)"),
        ({"P0": np.eye(2)}, r"P0 has shape \(2, 2\), expected \(n, n\).*\(3, 3\)"),
        ({"P0": np.array([np.eye(3)] * 4)}, r"P0 has shape \(4, 3, 3\)"),
        ({"m0": 0.0}, r"m0 has shape \(\), expected \(n,\).*\(3,\)"),
        ({"m0": np.ones((3, 1))}, r"m0 has shape \(3, 1\), expected \(n,\)"),
        ({"m0": np.ones(2)}, r"m0 has shape \(2,\), expected \(n,\)"),
        ({"c": 1.0}, r"c has shape \(\), expected \(n,\)"),
        ({"c": np.ones(2)}, r"c has shape \(2,\), expected \(n,\)"),
        ({"d": 1.0}, r"d has shape \(\), expected \(ny,\)"),
        ({"d": np.ones(3)}, r"d has shape \(3,\), expected \(ny,\)"),
    ],
    ids=str,
)
def test_a_wrong_shape_names_the_array_and_both_shapes(changes, match):
    with pytest.raises(ShapeError, match=match):
        problem(**changes)


def test_scalars_are_no_matrices_even_of_one_state():
    one = {name: np.ones((1, 1)) for name in ("A", "C", "W", "V", "P0")} | {"m0": [0.0]}
    assert (SmoothingProblem(**one).n, SmoothingProblem(**one).ny) == (1, 1)
    for name in ("A", "C", "W", "V", "P0"):
        with pytest.raises(ShapeError, match=rf"{name} has shape \(\).*\[\[value\]\]"):
            SmoothingProblem(**(one | {name: 1.0}))
    with pytest.raises(ShapeError, match=r"m0 has shape \(\).*\[value\]"):
        SmoothingProblem(**(one | {"m0": 0.0}))


@pytest.mark.parametrize("name", ["A", "C", "W", "V", "m0", "P0", "c", "d"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_is_finite(name, value):
    array = spoiled(name, value)
    index = ", ".join(str(size - 1) for size in array.shape)
    with pytest.raises(NonFiniteError, match=rf"{name}\[{index}\] is {value}"):
        problem(**{name: array})


@pytest.mark.parametrize("name", ["A", "C", "W", "V", "m0", "P0", "c", "d"])
def test_a_model_is_real(name):
    with pytest.raises(DtypeError, match=rf"{name} holds complex numbers"):
        problem(**{name: good()[name] + 0j})


@pytest.mark.parametrize("name", ["A", "C", "W", "V"])
def test_only_a_prior_may_be_left_out(name):
    with pytest.raises(LqradError, match=rf"{name} is None|{name} holds objects"):
        problem(**{name: None})


def test_a_prior_needs_a_mean():
    with pytest.raises(LqradError, match=r"m0 is None.*P0"):
        problem(m0=None)


@pytest.mark.parametrize("name", ["W", "V", "P0"])
def test_a_covariance_is_symmetric_and_semidefinite(name):
    skew = good()[name]
    skew[0, 1] = 0.5
    with pytest.raises(NotConvexError, match=rf"{name} is not symmetric: entries \(0, 1\)"):
        problem(**{name: skew})
    with pytest.raises(NotConvexError, match=rf"{name} has the eigenvalue -0.25") as caught:
        problem(**{name: spoiled(name, -0.25)})
    assert "descend" not in str(caught.value), "it is a covariance, not the weight of a cost"


@pytest.mark.parametrize(("name", "count"), [("W", 4), ("V", 5)])
def test_a_bad_covariance_is_named_with_its_stage(name, count):
    with pytest.raises(NotConvexError, match=rf"{name} at stage {count - 1} has the eigenvalue -2"):
        problem(**{name: spoiled(name, -2.0, stages=count)})


@pytest.mark.parametrize(
    ("longer", "other"),
    [
        ("A", "C"),
        ("A", "V"),
        ("A", "d"),
        ("W", "C"),
        ("c", "V"),
        ("A", "W"),
        ("C", "V"),
        ("W", "c"),
    ],
)
def test_time_axes_fit(longer, other):
    """A, W, c have T stages, and C, V, d one more."""
    after = {"C", "V", "d"}
    first, second = np.array([good()[longer]] * 5), good()[other]
    right = 5 + (other in after) - (longer in after)
    fitting = problem(**{longer: first, other: np.array([second] * right)})
    assert fitting.T + (longer in after) == 5
    for wrong in (right - 1, right + 1):
        with pytest.raises(ShapeError, match=rf"\b({longer}|{other})\b.*stages") as caught:
            problem(**{longer: first, other: np.array([second] * wrong)})
        assert str(wrong) in str(caught.value)
        if (longer in after) != (other in after):
            assert "T + 1" in str(caught.value)


@pytest.mark.parametrize("routine", [kalman_smoother, rts_smoother, kalman_filter])
class TestSeries:
    @pytest.mark.parametrize(
        ("y", "match"),
        [
            (np.ones((6, 3)), r"y has shape \(6, 3\), expected \(\.\.\., .*2\)"),
            (np.ones((2, 6)), r"y has shape \(2, 6\), expected .*y\.T"),
            (np.ones(6), r"y has shape \(6,\), expected"),
            (1.0, r"y has shape \(\), expected"),
            (np.ones((1, 2)), r"y has shape \(1, 2\), expected .*T >= 1"),
            (np.ones((0, 2)), r"y has shape \(0, 2\), expected"),
            (np.ones((0, 6, 2)), r"y has shape \(0, 6, 2\), expected"),
        ],
        ids=str,
    )
    def test_of_a_wrong_shape(self, routine, y, match):
        with pytest.raises(ShapeError, match=match):
            routine(problem(), y)

    @pytest.mark.parametrize("rows", [5, 7])
    def test_of_another_length_than_the_model(self, routine, rows):
        varying = problem(A=np.array([good()["A"]] * 5))
        match = rf"y has shape \({rows}, 2\), expected \(\.\.\., .*6.*2\)"
        with pytest.raises(ShapeError, match=match):
            routine(varying, np.ones((rows, 2)))

    def test_with_an_infinity(self, routine):
        y = np.ones((6, 2))
        y[3, 1] = np.inf
        with pytest.raises(NonFiniteError, match=r"y\[3, 1\] is inf.*NaN"):
            routine(problem(), y)

    def test_of_text(self, routine):
        with pytest.raises(DtypeError, match="y holds text"):
            routine(problem(), [["1", "2"]] * 6)


@pytest.mark.parametrize("routine", [kalman_smoother, rts_smoother, kalman_filter])
def test_nothing_that_was_given_is_changed(routine):
    case = random_case(9, n=3, ny=2, T=7, gaps="both", offsets=True)
    data = {name: array.copy() for name, array in case.data.items()}
    made, y = SmoothingProblem(**data), case.y.copy()
    first = routine(made, y)
    assert np.array_equal(y, case.y, equal_nan=True)
    for name, array in data.items():
        assert np.array_equal(array, case.data[name])
        array += 1  # the problem has its own copy
    again = routine(made, np.asfortranarray(y))
    assert np.array_equal(first.x, again.x)
    for name in "ACWV":
        assert not getattr(made, name).flags.writeable
    frozen = y.copy()
    frozen.flags.writeable = False
    assert np.array_equal(routine(made, frozen).x, first.x)


def test_whole_numbers_and_lists_are_accepted():
    lists = SmoothingProblem([[1]], [[1]], [[2]], [[3]], [0], [[4]])
    arrays = SmoothingProblem(
        *(np.array(v, float) for v in ([[1]], [[1]], [[2]], [[3]], [0], [[4]]))
    )
    y = [[1], [2], [4]]
    expected = kalman_smoother(arrays, np.array(y, float))
    assert np.array_equal(kalman_smoother(lists, y).x, expected.x)


@pytest.mark.parametrize(
    "changes",
    [
        {"P0": None},
        {"W": np.diag([1.0, 1.0, 0.0])},
        {"V": np.ones((2, 2))},
        {"P0": np.zeros((3, 3))},
    ],
    ids=["no prior", "singular W", "singular V", "known start"],
)
def test_an_objective_needs_weights_and_names_what_does_not(changes):
    (name,) = changes
    with pytest.raises((ArgumentError, NotConvexError), match=rf"\b{name}\b.*kalman_smoother"):
        problem(**changes).objective(np.ones((5, 2)))


@pytest.mark.parametrize("size", [1e-200, 1e-20, 1.0, 1e200])
@pytest.mark.parametrize("name", ["W", "V", "P0"])
def test_a_state_without_variance_has_no_covariances(name, size):
    data = {name: np.eye(2) for name in ("A", "C", "W", "V", "P0")} | {"m0": np.zeros(2)}
    SmoothingProblem(**data | {name: np.diag([0.0, 1.0])})
    wrong = np.array([[0.0, size], [size, 1.0]])
    with pytest.raises(NotConvexError, match=f"^{name} has "):
        SmoothingProblem(**data | {name: wrong})
