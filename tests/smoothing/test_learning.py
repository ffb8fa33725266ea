"""Learning: the score against differences, and its zeros as fixed points of fit and of EM."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from random_smoothing import (
    GAPS,
    condition,
    distance,
    exact_slope,
    random_case,
    stages,
    with_gaps,
)

from lqrad.datasets import load
from lqrad.errors import (
    ArgumentError,
    DtypeError,
    NonFiniteError,
    NotConvexError,
    ShapeError,
    Status,
)
from lqrad.smoothing.kalman import kalman_smoother
from lqrad.smoothing.learning import em, fit
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.score import expect, loglik_gradient, score, score_of

FLOW = load("nile")[1][:, 0]
NAMES = ("A", "C", "W", "V", "m0", "P0", "c", "d")
COVARIANCES = ("W", "V", "P0")
NAN = np.nan
DRAWS = 8

# n and ny from 1 to 4, every kind of gap, and the rest as the seed has it.
CASES = [
    random_case(seed, n=1 + seed % 4, ny=1 + (seed // 4) % 4, gaps=GAPS[seed % 6])
    for seed in range(48)
]
CASES += [
    random_case(seed, n=1 + seed % 4, ny=2, T=9, gaps=GAPS[seed % 3], diffuse=True)
    for seed in range(100, 108)
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def direction(rng, name, array):
    """A random change of the array: symmetric where the array is."""
    change = rng.normal(size=array.shape)
    return change + change.swapaxes(-1, -2) if name in COVARIANCES else change


def slope(function, h):
    """The derivative at 0 by central differences, their leading error extrapolated away."""
    wide, narrow = ((function(k) - function(-k)) / (2 * k) for k in (h, h / 2))
    return (4 * narrow - wide) / 3


def learnt(problem, y, names):
    """The score in the arrays of these names, all entries in a row."""
    score = loglik_gradient(problem, y)
    return np.concatenate([np.ravel(getattr(score, name)) for name in names])


# --- the score -------------------------------------------------------------------------------


@cases
def test_the_score_is_the_slope_of_the_smoothers_log_likelihood(case):
    rng = np.random.default_rng(1)
    score = loglik_gradient(case.problem, case.y)
    assert score.loglik == pytest.approx(kalman_smoother(case.problem, case.y).loglik, rel=1e-12)
    for name in NAMES:
        array, gradient = getattr(case.problem, name), getattr(score, name)
        if case.problem.P0 is None and name in ("m0", "P0"):
            assert gradient is None
            continue
        assert gradient.shape == array.shape
        change = direction(rng, name, array)
        change /= np.linalg.norm(change)

        def loglik(h, name=name, array=array, change=change):
            moved = case.problem.replace(**{name: array + h * change})
            return kalman_smoother(moved, case.y, covariances=False).loglik

        size = max(1, np.linalg.norm(gradient))
        assert np.vdot(gradient, change) == pytest.approx(slope(loglik, 1e-3), abs=1e-8 * size)


@cases
def test_the_two_ways_to_the_score_agree(case, monkeypatch):
    score = score_of(case.problem, expect(case.problem.balanced, case.y))
    monkeypatch.setattr("lqrad.smoothing.score._answer_by_normal_equations", lambda *_: None)
    other = score_of(case.problem, expect(case.problem.balanced, case.y))
    for name in NAMES:
        if getattr(score, name) is not None:
            largest = max(1, np.abs(getattr(other, name)).max())
            np.testing.assert_allclose(
                getattr(score, name), getattr(other, name), rtol=0, atol=1e-10 * largest
            )


def ar2(phi, variance):
    """An AR(2) seen without noise, x[t+1] = phi[0] x[t] + phi[1] x[t-1] + w: W of rank one, and no V at all."""
    return {
        "A": np.array([[phi[0], phi[1]], [1, 0]]),
        "C": np.array([[1.0, 0]]),
        "W": np.diag([variance, 0.0]),
        "V": np.zeros((1, 1)),
        "m0": np.zeros(2),
        "P0": np.array([[2.0, 0.5], [0.5, 2.0]]),
    }


AR2 = ar2([0.6, -0.3], 0.7)
EXTREME = {
    "AR(2) in companion form, V = 0": AR2,
    "a deterministic state": AR2 | {"A": np.array([[1.0, 1], [0, 1]]), "V": np.eye(1)},
    "no noise at all in x": AR2 | {"W": np.zeros((2, 2)), "V": np.eye(1)},
    "x[0] known": AR2 | {"P0": np.zeros((2, 2)), "V": np.eye(1)},
    "P0 = 1e14 I": AR2 | {"W": np.eye(2), "V": np.eye(1), "P0": 1e14 * np.eye(2)},
    "no prior, W singular": AR2 | {"V": np.eye(1), "P0": None, "m0": None},
    "W = 1e-12 I": AR2 | {"W": 1e-12 * np.eye(2), "V": np.eye(1)},
    "constant velocity, dt = 1e-4": AR2
    | {
        "A": np.array([[1, 1e-4], [0, 1]]),
        "W": np.array([[1e-12 / 3, 1e-8 / 2], [1e-8 / 2, 1e-4]]),
        "V": np.eye(1),
    },
}


@pytest.mark.parametrize("data", EXTREME.values(), ids=EXTREME.keys())
def test_the_score_needs_no_inverse_of_a_covariance(data):
    """Also in directions that leave the range of a singular W, in forty and more digits."""
    rng = np.random.default_rng(2)
    y = np.cumsum(rng.normal(size=(7, 1)), axis=0)
    y[3] = NAN
    score = loglik_gradient(SmoothingProblem(**data), y)
    for name in NAMES[:4] + NAMES[6:] if data["P0"] is None else NAMES:
        gradient = getattr(score, name)
        change = direction(rng, name, gradient)
        size = np.linalg.norm(gradient) * np.linalg.norm(change)
        expected = exact_slope(data, y, name, change)
        assert np.vdot(gradient, change) == pytest.approx(expected, rel=0, abs=1e-9 * size), name


@pytest.mark.parametrize("diffuse", [False, True])
def test_the_scores_of_a_batch_add_up(diffuse):
    rng = np.random.default_rng(3)
    case = random_case(4, n=2, ny=2, T=9, varying="some", gaps="none", diffuse=diffuse)
    y = np.array(
        [with_gaps(case.y + rng.normal(size=case.y.shape), kind, rng) for kind in GAPS[:3]]
    )
    y = np.array([y, y + 1])  # series with the same gaps and with others, on two axes
    whole = loglik_gradient(case.problem, y)
    parts = [loglik_gradient(case.problem, one) for one in y.reshape(-1, *y.shape[-2:])]
    for name in (*NAMES, "loglik"):
        if getattr(whole, name) is not None:
            assert (
                distance(getattr(whole, name), sum(getattr(part, name) for part in parts)) < 1e-12
            )


def test_nothing_is_learnt_from_nothing():
    model = SmoothingProblem(**AR2 | {"V": np.eye(1)})
    score = loglik_gradient(model, np.full((5, 1), NAN))
    assert all(not np.any(np.round(getattr(score, name), 15)) for name in (*NAMES, "loglik"))


# --- maximum likelihood through a map --------------------------------------------------------


def local_level(theta):
    V, W = np.exp(theta)
    return SmoothingProblem([[1]], [[1]], W=[[W]], V=[[V]], m0=None, P0=None)


@pytest.mark.parametrize("start", [[0, 0], [5, 10], [15, 0], [0, 15]])
def test_the_nile_has_the_published_variances(start):
    """Durbin and Koopman (2012), section 2.10.3, from starts that are poor by orders of magnitude."""
    y = FLOW[:, None]
    result = fit(local_level, start, y)
    assert result.status.converged
    assert result.problem.V[0, 0] == pytest.approx(15099, abs=0.6)
    assert result.problem.W[0, 0] == pytest.approx(1469.1, abs=0.1)
    variances = [result.problem.V[0, 0], result.problem.W[0, 0]]
    assert np.exp(result.theta) == pytest.approx(variances, rel=1e-13)
    assert result.loglik == pytest.approx(-633.4646, abs=5e-5)
    assert result.loglik == pytest.approx(kalman_smoother(result.problem, y).loglik, rel=1e-13)
    assert result.history.loglik[-1] == result.loglik == result.history.loglik.max()


def test_the_score_of_the_nile_is_zero_at_the_maximum():
    y = FLOW[:, None]
    best = fit(local_level, [9, 7], y, tol=1e-9).problem
    away = best.replace(V=1.1 * best.V, W=1.1 * best.W)
    # In logarithms: a change of the log-likelihood for a relative change of the variance.
    for name in ("V", "W"):
        zero, other = (
            abs(float(getattr(loglik_gradient(p, y), name)[0, 0] * getattr(p, name)[0, 0]))
            for p in (best, away)
        )
        assert zero < 1e-6
        assert other > 0.1


def test_statsmodels_finds_the_same_maximum_on_the_nile():
    sm = pytest.importorskip("statsmodels.api")
    model = sm.tsa.UnobservedComponents(FLOW, "llevel", use_exact_diffuse=True)
    model.ssm.tolerance = 0
    theirs = model.fit(disp=False, pgtol=1e-10, factr=10.0)
    ours = fit(local_level, [9, 7], FLOW[:, None])
    assert np.exp(ours.theta) == pytest.approx(theirs.params, rel=1e-3)
    assert ours.loglik >= theirs.llf - 1e-9
    # Their score is by complex steps, at parameters that are nobody's maximum.
    V, W = 10000.0, 3000.0
    score = loglik_gradient(local_level(np.log([V, W])), FLOW[:, None])
    expected = model.score(np.array([V, W]))
    assert [score.V[0, 0], score.W[0, 0]] == pytest.approx(expected, rel=1e-6)


def test_an_autoregression_with_a_gap_is_fitted_with_a_singular_covariance():
    """The estimate of an AR(2) is within its standard errors, and its score in theta is zero."""
    rng = np.random.default_rng(5)
    T, phi, sigma = 2000, np.array([0.6, -0.3]), 0.8
    x = np.zeros(T + 3)
    for t in range(2, T + 3):
        x[t] = phi @ x[[t - 1, t - 2]] + sigma * rng.normal()
    y = x[2:, None].copy()
    y[700:720] = NAN

    def build(theta):
        return SmoothingProblem(**ar2(theta[:2], np.exp(theta[2])))

    result = fit(build, [0.0, 0.0, 0.0], y)
    assert result.status.converged
    assert result.theta[:2] == pytest.approx(phi, abs=4 / np.sqrt(T))
    assert result.theta[2] == pytest.approx(2 * np.log(sigma), abs=4 * np.sqrt(2 / T))
    for i in range(3):

        def loglik(h, i=i):
            theta = result.theta.copy()
            theta[i] += h
            return kalman_smoother(build(theta), y, covariances=False).loglik

        assert abs(slope(loglik, 1e-3)) < 1e-5 * T


def test_parameters_may_be_shared_and_others_held_fixed():
    """One parameter is the variance of all noises, and the diagonal of A in both places."""
    truth = SmoothingProblem(0.8 * np.eye(2), np.eye(2), np.eye(2), np.eye(2), [0, 0], np.eye(2))
    y = truth.simulate(np.random.default_rng(6), T=400)[1]

    def build(theta):
        noise = np.exp(theta[1]) * np.eye(2)
        return SmoothingProblem(theta[0] * np.eye(2), np.eye(2), noise, noise, [0, 0], np.eye(2))

    result = fit(build, [0.0, 1.0], y)
    assert result.theta == pytest.approx([0.8, 0.0], abs=0.12)
    score = loglik_gradient(result.problem, y)
    assert abs(np.trace(score.A)) < 1e-3
    assert abs(np.trace(score.W) + np.trace(score.V)) < 1e-3
    assert result.loglik >= kalman_smoother(truth, y).loglik


def test_a_step_to_where_there_is_no_model_is_shortened():
    """Variances that are not held positive: L-BFGS steps over zero and comes back."""
    refused = []

    def build(theta):
        try:
            return SmoothingProblem([[1]], [[1]], W=[[theta[0]]], V=[[1]], m0=[0], P0=[[1]])
        except NotConvexError:
            refused.append(theta)
            raise

    y = SmoothingProblem([[1]], [[1]], W=[[0.05]], V=[[1]], m0=[0], P0=[[1]]).simulate(
        np.random.default_rng(7), T=300
    )[1]
    result = fit(build, [4.0], y)
    assert refused
    assert result.status.converged
    assert abs(learnt(result.problem, y, ["W"])[0]) < 1e-3


def test_a_limit_on_iterations_is_told():
    result = fit(local_level, [0, 0], FLOW[:, None], max_iter=2)
    assert not result.status.converged
    assert result.status is Status.MAX_ITER
    assert "stopped after 2 iterations, the limit max_iter" in repr(result)
    assert result.iterations == len(result.history.loglik) - 1 == 2


def test_a_history_is_its_log_likelihoods_as_an_array():
    """As scripts read it that were written when it was an array."""
    result = fit(local_level, [9, 7], FLOW[:, None])
    assert result.history[-1] == result.loglik
    assert len(result.history) == result.iterations + 1
    assert np.array_equal(np.diff(result.history), np.diff(result.history.loglik))
    assert result.converged
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("build", "theta0", "error", "match"),
    [
        (
            lambda theta: theta,
            [1.0],
            ArgumentError,
            "build returned ndarray at theta = .*expected a",
        ),
        (lambda theta: None, [1.0], ArgumentError, "build returned NoneType"),
        (local_level, [[0.0, 0.0]], ShapeError, r"theta0 has shape \(1, 2\), expected \(k,\)"),
        (local_level, 0.0, ShapeError, r"theta0 has shape \(\)"),
        (local_level, [0.0, NAN], NonFiniteError, r"theta0\[1\] is nan"),
        (local_level, ["a"], DtypeError, "theta0 holds text"),
        (
            lambda theta: SmoothingProblem([[1]], [[1]], [theta[:1]], [[1]], [0], [[1]]),
            [-1.0],
            NotConvexError,
            "W has the eigenvalue -1",
        ),
        (
            lambda theta: SmoothingProblem([[1]], [[1]], [theta[:1]], [[1]], [0], [[1]]),
            [0.0],
            NotConvexError,
            r"build fails at theta\[0\] = -6.*logarithms of variances",
        ),
        (
            lambda theta: SmoothingProblem(
                [[1]], [[1]], [[1]], [[1]], *([0], [[1]]) if theta[0] <= 1 else (None, None)
            ),
            [1.0],
            ArgumentError,
            r"build returned P0 of shape \(\) at theta = .* must not depend",
        ),
    ],
)
def test_nonsense_from_the_map_is_named(build, theta0, error, match):
    with pytest.raises(error, match=match):
        fit(build, theta0, FLOW[:, None])


# --- EM --------------------------------------------------------------------------------------


def textbook_step(data, series, names):
    """One step of EM as printed, from dense conditioning; missing entries of y are states too.

    Shumway and Stoffer, Time Series Analysis and Its Applications, section 6.3; the matrix and the
    offset are one regression on (x, 1).
    """
    T, n, ny = len(series[0]) - 1, data["A"].shape[-1], data["C"].shape[-2]
    s = stages(data, T)
    before, seen, starts = [], [], []
    for y in series:
        answer = condition(data, y)
        x, cov = answer.x, answer.cov
        z = np.concatenate([x, np.ones((T + 1, 1))], axis=1)

        def second(t, z=z, cov=cov):
            moment = np.outer(z[t], z[t])
            moment[:n, :n] += cov[t]
            return moment

        for t in range(T):
            cross = np.outer(x[t + 1], z[t])
            cross[:, :n] += answer.lag_cov[t]
            before.append((second(t + 1)[:n, :n], x[t + 1], cross, second(t)))
        for t in range(T + 1):
            o = ~np.isnan(y[t])
            if not o.any():
                continue
            V, C, d = s["V"][t], s["C"][t], s["d"][t]
            # y = H z + r: what is missing follows x and, through V, what is observed
            H, rest = np.zeros((ny, n + 1)), np.zeros((ny, ny))
            H[o, n] = y[t][o]
            if not o.all():
                G = V[np.ix_(~o, o)] @ np.linalg.inv(V[np.ix_(o, o)])
                H[~o, :n] = C[~o] - G @ C[o]
                H[~o, n] = d[~o] + G @ (y[t][o] - d[o])
                rest[np.ix_(~o, ~o)] = V[np.ix_(~o, ~o)] - G @ V[np.ix_(o, ~o)]
            zz = second(t)
            seen.append((H @ zz @ H.T + rest, H @ zz[:, n], H @ zz, zz))
        starts.append((second(0)[:n, :n], x[0]))

    new = {name: data.get(name) for name in NAMES}
    new["c"] = np.zeros(n) if new["c"] is None else new["c"]
    new["d"] = np.zeros(ny) if new["d"] is None else new["d"]
    for moments, matrix, offset, noise in ((before, "A", "c", "W"), (seen, "C", "d", "V")):
        yy, y1, yz, zz = (sum(part) for part in zip(*moments, strict=True))
        del y1
        both = np.concatenate([new[matrix], new[offset][:, None]], axis=1)
        free = [*range(n * (matrix in names)), *([n] if offset in names else [])]
        held = [k for k in range(n + 1) if k not in free]
        if free:
            rest = yz[:, free] - both[:, held] @ zz[np.ix_(held, free)]
            both[:, free] = rest @ np.linalg.inv(zz[np.ix_(free, free)])
        new[matrix], new[offset] = both[:, :n], both[:, n]
        if noise in names:
            new[noise] = (yy - both @ yz.T - yz @ both.T + both @ zz @ both.T) / len(moments)
    mean = np.mean([x for _, x in starts], axis=0)
    if "m0" in names:
        new["m0"] = mean
    if "P0" in names:
        m0 = new["m0"]
        square = np.mean([xx for xx, _ in starts], axis=0)
        new["P0"] = square - np.outer(m0, mean) - np.outer(mean, m0) + np.outer(m0, m0)
    return new


LEARN = [[name] for name in NAMES] + [
    ["A", "c"],
    ["c", "W"],
    ["A", "W"],
    ["C", "d"],
    ["C", "d", "V"],
    ["d", "V"],
    ["m0", "P0"],
    list(NAMES),
]


@pytest.mark.parametrize("learn", LEARN, ids="-".join)
@pytest.mark.parametrize(("n", "ny", "gaps"), [(1, 1, "rows"), (2, 3, "both"), (3, 2, "none")])
def test_a_step_of_em_is_the_one_of_the_textbook(learn, n, ny, gaps):
    rng = np.random.default_rng(8)
    case = random_case(9, n=n, ny=ny, T=9, radius=0.9, varying="none", offsets=True, gaps="none")
    y = np.array([with_gaps(case.y + rng.normal(size=case.y.shape), gaps, rng) for _ in range(3)])
    step = em(case.problem, y, learn=learn, max_iter=1, tol=0).problem
    expected = textbook_step(case.data, y, learn)
    for name in NAMES:
        assert distance(getattr(step, name), expected[name]) < 1e-10, name
        if name not in learn:
            assert np.array_equal(getattr(step, name), getattr(case.problem, name))


@pytest.mark.parametrize(
    ("learn", "diffuse"),
    [(learn, False) for learn in LEARN]
    + [(learn, True) for learn in LEARN if not {"m0", "P0"}.intersection(learn)]
    + [([name for name in NAMES if name not in ("m0", "P0")], True)],
)
def test_em_never_lowers_the_likelihood(learn, diffuse):
    rng = np.random.default_rng(10)
    case = random_case(11, n=2, ny=2, T=20, varying="none", gaps="none", diffuse=diffuse)
    y = np.array([with_gaps(case.y + rng.normal(size=case.y.shape), "both", rng) for _ in range(4)])
    result = em(case.problem, y, learn=learn, max_iter=25, tol=0)
    assert np.diff(result.history.loglik).min() >= -1e-12 * abs(result.loglik)
    assert result.history.loglik[-1] > result.history.loglik[0]
    assert result.loglik == pytest.approx(
        kalman_smoother(result.problem, y).loglik.sum(), rel=1e-12
    )


@pytest.mark.parametrize("learn", [["A"], ["W"], ["A", "c", "W"], ["C", "d", "V"], ["m0"]])
def test_the_score_is_zero_where_em_stops(learn):
    rng = np.random.default_rng(12)
    case = random_case(3, n=1, ny=1, T=20, radius=0.9, varying="none", offsets=True)
    draws = [case.problem.simulate(rng, 20)[1] for _ in range(6)]
    y = np.array([with_gaps(one, "rows", rng) for one in draws])
    result = em(case.problem, y, learn=learn, max_iter=2000, tol=1e-15)
    assert result.status.converged
    assert np.abs(learnt(case.problem, y, learn)).max() > 0.1
    assert np.abs(learnt(result.problem, y, learn)).max() < 1e-4


@pytest.mark.parametrize(("offset", "unit"), [(0, 1.0), (0, 2.0**-30), (10, 2.0**37), (50, 1.0)])
def test_a_likelihood_without_a_maximum_is_named(offset, unit):
    """A ramp without noise: the variances go to zero until rounding errors make the likelihood fall."""
    y = unit * (offset + np.arange(1.0, 9.0))
    noise = unit**2 * np.eye(2)
    start = SmoothingProblem([[1, 1], [0, 1]], [[1, 0]], noise, noise[:1, :1], [0, 0], noise)
    result = em(start, y, learn=("W", "V", "m0", "P0"), max_iter=1000)
    assert not result.status.converged
    assert "the likelihood has no maximum, it rises without bound" in result.message
    assert result.loglik == result.history.loglik.max()
    assert kalman_smoother(result.problem, y).loglik == pytest.approx(result.loglik, rel=1e-12)

    if offset:
        return

    def build(theta):
        w = unit**2 * np.exp(theta)
        return SmoothingProblem(start.A, start.C, np.diag(w[:2]), w[None, 2:], None, None)

    fitted = fit(build, np.zeros(3), y)
    assert not fitted.status.converged
    assert "the likelihood has no maximum, it rises without bound" in fitted.message


@pytest.mark.parametrize("level", [0.0, 1.0, 2.0**-30])
@pytest.mark.parametrize("T", [5, 20])
def test_variances_that_a_fit_takes_to_zero_are_no_maximum(level, T):
    """Nothing but one number: the model of the end has no variance left, in whose units nothing is small."""

    def build(theta):
        W, V = np.diag(np.exp(theta[:1])), np.diag(np.exp(theta[1:]))
        return SmoothingProblem([[1]], [[1]], W, V, None, None)

    fitted = fit(build, [7.0, 9.0], np.full((T, 1), level))
    assert fitted.status is Status.DIVERGED
    assert "the likelihood has no maximum, it rises without bound" in fitted.message


def test_zeros_beside_a_series_that_varies_have_no_maximum():
    def build(theta):
        W, V = np.diag(np.exp(theta[:2])), np.diag(np.exp(theta[2:]))
        return SmoothingProblem(np.eye(2), np.eye(2), W, V, None, None)

    walk = np.random.default_rng(0).normal(size=60).cumsum()
    fitted = fit(build, np.ones(4), np.column_stack([walk, np.zeros(60)]))
    assert fitted.status is Status.DIVERGED
    assert "the model predicts y[1] to the last digit" in fitted.message


@pytest.mark.parametrize("seed", range(4))
def test_learning_takes_the_same_steps_in_all_units(seed):
    case = random_case(seed, n=2, ny=2, T=9, varying="none", offsets=True, gaps="entries")
    rng = np.random.default_rng(seed)
    state, output = (2.0 ** rng.integers(-40, 41, 2) for _ in range(2))
    there = case.problem.in_units(1 / state, 1 / output)
    learn = ("A", "W", "V", "d")
    here, far = (
        em(problem, y, learn=learn, max_iter=12)
        for problem, y in ((case.problem, case.y), (there, case.y * output))
    )
    back = far.problem.in_units(state, output)
    for name in ("A", "C", "W", "V", "m0", "P0", "c", "d"):
        assert np.array_equal(getattr(back, name), getattr(here.problem, name)), name
    volume = (~np.isnan(case.y)).sum(axis=0) @ np.log(output)
    np.testing.assert_allclose(
        far.history.loglik, here.history.loglik - volume, rtol=0, atol=1e-11 * abs(volume)
    )

    def build(theta, problem=case.problem):
        return SmoothingProblem(*(getattr(problem, k) for k in ("A", "C")), np.exp(theta[0]) * problem.W,
            np.exp(theta[1]) * problem.V, problem.m0, problem.P0)  # fmt: skip

    here = fit(build, np.ones(2), case.y)
    far = fit(lambda theta: build(theta, there), np.ones(2), case.y * output)
    assert np.array_equal(far.theta, here.theta)
    assert (len(far.history.loglik), far.status.converged) == (
        len(here.history.loglik),
        here.status.converged,
    )


@pytest.mark.parametrize("seed", range(DRAWS))
def test_a_fit_is_the_same_in_all_units_of_theta_and_of_the_data(seed):
    """An entry of A, a log-variance, a variance and an offset, from zero or from elsewhere."""
    rng = np.random.default_rng(seed)
    n, ny = rng.integers(1, 3, 2)
    case = random_case(seed, n=n, ny=ny, T=29, radius=0.7, varying="none", gaps="entries")
    start = np.array([0.0, 0.0, 1.0, 0.0]) + (seed % 2) * rng.uniform(0.1, 0.5, 4)

    def build(theta, problem=case.problem, output=1.0):
        A = problem.A + 0.0
        A[0, 0] += theta[0]
        new = {"A": A, "W": np.exp(theta[1]) * problem.W, "V": theta[2] * problem.V}
        return problem.replace(d=problem.d + output * theta[3], **new)

    here = fit(build, start, case.y)
    state, output = 2.0 ** rng.integers(-30, 31, n), 2.0 ** rng.integers(-30, 31, ny)
    units = 2.0 ** rng.integers(-40, 41, 4)
    there = case.problem.in_units(1 / state, 1 / output)
    far = fit(lambda theta: build(theta / units, there, output), start * units, case.y * output)
    np.testing.assert_allclose(far.theta / units, here.theta, rtol=1e-6, atol=1e-6)
    assert (far.status.converged, len(far.history.loglik)) == (
        here.status.converged,
        len(here.history.loglik),
    )
    assert here.history.loglik[-1] > here.history.loglik[0]


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e3, 1e9])
@pytest.mark.parametrize("entry", range(3))
def test_no_parameter_stays_behind_for_its_unit(entry, unit):
    """One parameter in a unit far from one: the maximum is that of all in units of one."""
    truth = SmoothingProblem([[0.8]], [[1]], W=[[1]], V=[[0.5]], m0=[0], P0=[[1]], d=[3])
    y = truth.simulate(np.random.default_rng(19), T=60)[1]
    units = np.ones(3)
    units[entry] = unit

    def build(theta):
        a, w, d = theta
        W = [[np.exp(w)]]
        return SmoothingProblem([[0.5 + a]], [[1]], W, V=[[0.5]], m0=[0], P0=[[1]], d=[d])

    here, far = fit(build, np.zeros(3), y), fit(lambda theta: build(theta / units), np.zeros(3), y)
    assert here.status.converged
    assert far.status.converged
    assert far.theta / units == pytest.approx(here.theta, rel=1e-4)
    assert far.loglik == pytest.approx(here.loglik, rel=1e-9)


@pytest.mark.parametrize(
    "start", [[1e4, 1, 0], [1e-4, 1e-4, 0], [1e6, 1e6, 0], [1e8, 1e-3, 0], [1, 1, 1e6]]
)
def test_a_start_decades_away_ends_at_the_same_maximum(start):
    """Variances and an offset as they are: their lengths at the start are not those at the end."""
    truth = SmoothingProblem([[0.8]], [[1]], W=[[1]], V=[[0.5]], m0=[0], P0=[[1]], d=[3])
    y = truth.simulate(np.random.default_rng(0), T=80)[1]

    def build(theta):
        w, v, d = theta
        return SmoothingProblem([[0.8]], [[1]], W=[[w]], V=[[v]], m0=[0], P0=[[1]], d=[d])

    near, far = fit(build, [1, 1, 0], y), fit(build, start, y)
    assert near.status.converged
    assert far.status.converged
    assert far.loglik == pytest.approx(near.loglik, abs=1e-8)
    assert far.theta == pytest.approx(near.theta, rel=1e-4)
    # Never down, but by the rounding errors of a sum over 81 times near its end.
    rounding = 81 * np.finfo(float).eps * np.abs(far.history.loglik[1:])
    assert (np.diff(far.history.loglik) >= -rounding).all()


def test_a_fit_near_its_maximum_evaluates_nothing_twice(monkeypatch):
    count = []
    monkeypatch.setattr("lqrad.smoothing.climb.score", lambda *a: count.append(1) or score(*a))
    result = fit(lambda theta: local_level(theta), [9.0, 7.0], FLOW[:, None])
    assert result.status.converged
    assert len(count) <= 2 * len(result.history.loglik)


def test_differences_are_taken_beside_the_length_far_from_zero():
    """One logarithm for both variances, from far away: 6e-6 |theta| is longer than its length."""
    shift = 1e6

    def build(theta):
        return local_level([theta[0], 2 * theta[0] - 12])

    here = fit(build, [8.0], FLOW[:, None])
    far = fit(lambda theta: build(theta - shift), [shift + 8], FLOW[:, None])
    assert here.status.converged
    assert far.loglik == pytest.approx(here.loglik, rel=1e-9)
    assert far.theta - shift == pytest.approx(here.theta, rel=1e-4)


def test_em_comes_to_the_published_variances_of_the_nile():
    y = FLOW[:, None]
    result = em(local_level(np.log([1e3, 1e3])), y, learn=("W", "V"), max_iter=3000, tol=1e-14)
    assert result.status.converged
    assert result.problem.V[0, 0] == pytest.approx(15099, abs=0.6)
    assert result.problem.W[0, 0] == pytest.approx(1469.1, abs=0.15)
    assert result.theta is None


def test_em_recovers_what_the_data_were_drawn_from():
    rng = np.random.default_rng(13)
    A, W = np.array([[0.8, 0.3], [-0.2, 0.7]]), np.array([[1.0, 0.4], [0.4, 0.5]])
    V, c, d = np.array([[0.3, 0.1], [0.1, 0.4]]), np.array([0.5, -1]), np.zeros(2)
    truth = SmoothingProblem(A, np.eye(2), W, V, np.zeros(2), np.eye(2), c=c, d=d)
    y = np.array([truth.simulate(rng, T=60)[1] for _ in range(60)])
    y[:, np.isnan(with_gaps(y[0], "entries", rng))] = NAN
    start = SmoothingProblem(
        np.zeros((2, 2)), np.eye(2), np.eye(2), np.eye(2), np.zeros(2), np.eye(2)
    )
    result = em(start, y, learn=("A", "c", "W", "V"), max_iter=150)
    # 3600 steps, of which seven tenths are seen: standard errors of about 0.03
    for name, expected in {"A": A, "c": c, "W": W, "V": V}.items():
        np.testing.assert_allclose(getattr(result.problem, name), expected, atol=0.1)


def test_em_keeps_the_structure_of_a_singular_covariance():
    """The second state of an AR(2) is the first one, delayed; EM does not touch what has no noise."""
    y = SmoothingProblem(**ar2([0.6, -0.3], 0.7)).simulate(np.random.default_rng(14), T=300)[1]
    start = SmoothingProblem(**ar2([0, 0], 2.0))
    result = em(start, y, learn=("A", "W"), tol=1e-14)
    assert result.status.converged
    np.testing.assert_allclose(result.problem.A[1], [1, 0], atol=1e-12)
    np.testing.assert_allclose(result.problem.W[1], 0, atol=1e-12)
    score = loglik_gradient(result.problem, y)
    assert np.abs(score.A[0]).max() < 1e-3
    assert abs(score.W[0, 0]) < 1e-3


def test_em_stays_in_the_range_of_a_singular_covariance():
    """The same in other coordinates, where no zero of W is written as one, and W shrinks a lot."""
    rng = np.random.default_rng(18)
    y = SmoothingProblem(**ar2([0.6, -0.3], 0.7)).simulate(rng, T=100)[1]
    turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    start = ar2([0, 0], 1e5)
    start |= {name: turn @ start[name] @ turn.T for name in ("A", "W", "P0")}
    start |= {"C": start["C"] @ turn.T, "V": np.eye(1)}
    result = em(SmoothingProblem(**start), y, learn=("A", "W"), max_iter=300)
    assert np.diff(result.history.loglik).min() >= -1e-10
    W = turn.T @ result.problem.W @ turn
    assert 0 < W[0, 0] < 10
    np.testing.assert_allclose(W[1], 0, atol=1e-9)


def test_em_learns_beside_arrays_that_vary_in_time():
    """A time-varying regression, y = C[t] x + v: its variances, with C[t] and d[t] as they are."""
    rng = np.random.default_rng(15)
    C, d = rng.normal(size=(41, 1, 2)), rng.normal(size=(41, 1))
    model = SmoothingProblem(
        np.eye(2), C, 0.1 * np.eye(2), [[1]], None, None, c=rng.normal(size=(40, 2)), d=d
    )
    y = rng.normal(size=(41, 1))
    result = em(model, y, learn=["A", "W", "V"], max_iter=20, tol=0)
    assert np.diff(result.history.loglik).min() >= 0
    assert np.array_equal(result.problem.C, C)


def test_what_is_never_observed_keeps_its_parameters():
    case = random_case(16, n=2, ny=2, T=9, varying="none", gaps="none")
    model = case.problem.replace(V=np.eye(2))
    y = case.y.copy()
    y[:, 1] = NAN
    result = em(model, y, learn=["C", "d", "V"], max_iter=3, tol=0)
    for name in ("C", "d", "V"):
        old, new = getattr(model, name), getattr(result.problem, name)
        np.testing.assert_allclose(new[1], old[1], rtol=1e-12)
        assert not np.allclose(new[0], old[0], rtol=1e-3)


def test_a_step_of_em_that_lowers_the_likelihood_is_not_convergence(monkeypatch):
    """It stops there, says so, and returns the best model that it has seen."""
    y = np.random.default_rng(0).normal(size=(40, 1)).cumsum(axis=0)
    start = SmoothingProblem([[1]], [[1]], [[1]], [[1]], [0], [[1]])
    two = em(start, y, learn=("W", "V"), max_iter=2)
    passes = []

    def rounded(balanced, data):  # what rounding errors may do, by a plain fall in the fourth pass
        passes.append(expect(balanced, data))
        return passes[-1]._replace(loglik=passes[-1].loglik - 100 * (len(passes) == 4))

    monkeypatch.setattr("lqrad.smoothing.learning.expect", rounded)
    result = em(start, y, learn=("W", "V"))
    assert not result.status.converged
    assert "rounding errors made the log-likelihood fall" in result.message
    assert len(result.history.loglik) == 4
    assert result.history.loglik[3] < result.history.loglik[2] == result.loglik
    assert np.array_equal(result.problem.W, two.problem.W)
    assert np.array_equal(result.problem.V, two.problem.V)


def test_a_limit_on_the_steps_of_em_is_told():
    model = local_level([5, 5])
    result = em(model, FLOW[:, None], learn="W", max_iter=3)
    assert not result.status.converged
    assert "stopped at the limit max_iter, after 3 steps" in repr(result)
    none = em(model, FLOW[:, None], learn="W", max_iter=0)
    assert np.array_equal(none.problem.W, model.W)
    assert "raised" not in none.message


VARYING = random_case(17, n=2, ny=2, T=9, varying="all").problem


@pytest.mark.parametrize(
    ("problem", "learn", "match"),
    [
        (local_level([0, 0]), ["Q"], "a name in learn is 'Q', expected one of: A, C, W, V"),
        (local_level([0, 0]), [1], "a name in learn is 1, expected one of"),
        (local_level([0, 0]), [], "learn is empty, expected some of: A, C, W"),
        (local_level([0, 0]), ["P0"], "P0 cannot be learnt: P0 is None"),
        (VARYING, ["A"], "A varies in time, and em learns A only where it does not; give"),
        (VARYING, ["V"], "V varies in time"),
        (
            VARYING.replace(A=VARYING.A[0]),
            ["A"],
            "W varies in time, and em learns A only where it does not",
        ),
        (
            VARYING.replace(d=VARYING.d[0]),
            ["d"],
            "V varies in time, and em learns d",
        ),
    ],
)
def test_what_em_cannot_learn_is_named(problem, learn, match):
    with pytest.raises(ArgumentError, match=match):
        em(problem, FLOW[:, None] if problem.ny == 1 else np.zeros((10, 2)), learn=learn)


def test_the_history_is_read_as_the_array_that_it_was():
    y = np.random.default_rng(0).normal(size=(30, 1))
    model = SmoothingProblem([[1]], [[1]], [[1]], [[1]], [0], [[1]])
    history = em(model, y, learn=("W", "V")).history
    assert history[-1] == history.max() == history.loglik[-1]
    assert history.size == len(history) == len(copy.deepcopy(history).loglik)
