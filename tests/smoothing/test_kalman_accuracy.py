"""Smoothing where digits are easily lost, against 50-digit arithmetic: vague, singular, diffuse."""

from __future__ import annotations

import re
import tracemalloc

import mpmath
import numpy as np
import pytest
from random_smoothing import (
    GAPS,
    Case,
    assert_smoothed,
    cholesky,
    condition_exactly,
    distance,
    draw_series,
    forward,
    mp,
    random_case,
    stages,
    with_gaps,
)

from lqrad.errors import LqradError, NotConvexError
from lqrad.smoothing.kalman import kalman_filter, kalman_smoother, rts_smoother
from lqrad.smoothing.likelihood import loglik
from lqrad.smoothing.model import SmoothingProblem

NAN = np.nan
EPS = np.finfo(float).eps


def made(name, data, T, *, gaps="none", seed=0):
    """A case with this data, and a series drawn from it; without a prior the start is drawn too."""
    rng = np.random.default_rng(seed)
    n = data["A"].shape[-1]
    moderate = {"m0": np.zeros(n), "P0": np.eye(n)} if data["P0"] is None else {}
    y = with_gaps(draw_series(data | moderate, T, rng), gaps, rng)
    return Case(name, SmoothingProblem(**data), data, T, y)


def by_unit(result, exact):
    """The largest errors of means and covariances, each in the units of its components.

    A mean is measured by the largest of its component over time, or its standard deviation, and a
    covariance by the standard deviations of its two components at its time.
    """
    spread = np.sqrt(np.diagonal(exact.cov, axis1=1, axis2=2))
    mean = np.abs(result.x - exact.x) / np.maximum(np.abs(exact.x).max(axis=0), spread)
    cov = np.abs(result.cov - exact.cov) / (spread[:, :, None] * spread[:, None, :])
    lag = np.abs(result.lag_cov - exact.lag_cov) / (spread[1:, :, None] * spread[:-1, None, :])
    loglik = abs(result.loglik - exact.loglik) / max(1, abs(exact.loglik))
    return mean.max(), cov.max(), lag.max(), loglik


# --- badly conditioned -----------------------------------------------------------------------


def vague(size, gaps, seed):
    """All of the start vague; or for an array of three, each component as it says."""
    case = random_case(seed, n=3, ny=2, T=8, radius=0.9, gaps=gaps)
    data = case.data | {"P0": size * np.eye(3)}
    return Case(f"P0={size}, {gaps}", SmoothingProblem(**data), data, case.T, case.y)


def constant_velocity(dt, V, T, *, q=1.0, P0=None, rank_one=False, gaps="none"):
    """Position and velocity under white acceleration, the position measured every dt."""
    W = q * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    if rank_one:  # an acceleration that is constant over each step
        W = q * np.outer([dt**2 / 2, dt], [dt**2 / 2, dt])
    data = {
        "A": np.array([[1.0, dt], [0.0, 1.0]]),
        "C": np.array([[1.0, 0.0]]),
        "W": W,
        "V": np.array([[V]]),
        "m0": np.zeros(2),
        "P0": P0,
    }
    return made(f"constant velocity dt={dt:g} V={V:g} {gaps}", data, T, gaps=gaps)


def collinear(delta, T=4):
    """Two sensors that tell three states apart by delta only, with errors of size delta.

    Grewal and Andrews, Kalman Filtering, 4th edition, 2015, example 7.2. What sets the rows apart
    enters the information C'V^-1 C relatively as delta^2: of it, eps / delta^2 is lost in doubles.
    """
    data = {
        "A": np.eye(3),
        "C": np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0 + delta]]),
        "W": 0.01 * np.eye(3),
        "V": delta**2 * np.eye(2),
        "m0": np.zeros(3),
        "P0": np.eye(3),
    }
    return made(f"collinear delta={delta:g}", data, T)


def unstable(a, W):
    """One state that grows by a each step, so that the end of the series tells most of its start."""
    one = np.eye(1)
    data = {"A": a * one, "C": one, "W": W * one, "V": one, "m0": np.zeros(1), "P0": one}
    y = np.random.default_rng(0).normal(size=(13, 1))
    return Case(f"a={a} W={W}", SmoothingProblem(**data), data, 12, y)


HARD = [
    *((unstable(a, W), 1e-10) for a in (1.05, 2.0, 5.0) for W in (0.0, 1e-6, 1e-3, 1.0)),
    *((vague(1e8, gaps, seed), 1e-9) for seed, gaps in enumerate(["none", "start", "both"])),
    *((vague(1e14, gaps, seed), 1e-9) for seed, gaps in enumerate(["none", "start", "both"])),
    *(
        (vague(np.array([1e14, 1, small]), "entries", seed), 1e-9)
        for seed, small in [(3, 1), (4, 1e-14)]
    ),
    *((constant_velocity(1e-4, V, 20, P0=np.eye(2)), 1e-8) for V in (1.0, 1e-4, 1e-8)),
    (constant_velocity(1e-4, 1e-8, 20, P0=np.eye(2), gaps="both"), 1e-8),
    (constant_velocity(1e-4, 1e-8, 20, P0=1e8 * np.eye(2)), 1e-8),
    (constant_velocity(1e-4, 1e-8, 20), 1e-8),
    (constant_velocity(1e-4, 1.0, 20), 1e-8),
    *((collinear(delta), 1e-4) for delta in (1e-4, 1e-5, 1e-6)),
    (constant_velocity(1.0, 0.5, 12, P0=np.eye(2), rank_one=True), 1e-10),
    (constant_velocity(0.1, 0.5, 12, P0=np.eye(2), rank_one=True, gaps="both"), 1e-10),
]


@pytest.mark.parametrize(("case", "rtol"), HARD, ids=lambda value: getattr(value, "name", ""))
def test_digits_that_the_data_determine_are_kept(case, rtol):
    result = kalman_smoother(case.problem, case.y)
    errors = by_unit(result, condition_exactly(case.data, case.y))
    assert max(errors) <= rtol, (result.method, errors)
    means = kalman_smoother(case.problem, case.y, covariances=False)
    assert distance(means.x, result.x) <= rtol


@pytest.mark.parametrize("P0", [None, np.eye(2), 1e6 * np.eye(2)], ids=["none", "1", "1e6"])
def test_what_the_normal_equations_lose_a_correction_brings_back(P0):
    """They return a known solution to 12 digits here, and the means are right to 15."""
    case = constant_velocity(0.1, 1.0, 20, P0=P0)
    result = kalman_smoother(case.problem, case.y)
    assert result.method == "normal equations"
    assert distance(result.x, condition_exactly(case.data, case.y).x) <= 1e-14


def awkward(seed):
    """Variances of 1e-36 to 1e6, and levels of up to 1e8: the data, and a series of it with or without gaps."""
    rng = np.random.default_rng(seed)
    n, ny, T = rng.integers(1, 4), rng.integers(1, 3), rng.integers(3, 14)

    def covariance(size):
        root = np.eye(size) + 0.3 * rng.normal(size=(size, size)) * rng.integers(2)
        scale = np.sqrt(10.0 ** rng.uniform(-36, 6, size=size if rng.integers(2) else 1))
        return root @ root.T * scale[:, None] * scale * np.ones((size, size))

    A = rng.normal(size=(n, n))
    A *= rng.choice([0.5, 0.9, 1.0]) / np.abs(np.linalg.eigvals(A)).max()
    data = {"A": A, "C": rng.normal(size=(ny, n)), "W": covariance(n), "V": covariance(ny)}
    data |= {"m0": 10.0 ** rng.uniform(-4, 8) * rng.normal(size=n), "P0": covariance(n)}
    y = SmoothingProblem(**data).simulate(rng, T=int(T))[1]
    y += rng.integers(2) * 10.0 ** rng.uniform(-6, 3) * rng.normal(size=y.shape)
    y[rng.random(y.shape) < rng.choice([0.0, 0.3])] = np.nan
    return data, y


def filter_exactly(data, y):
    """The log-likelihood, the sum of the sizes of its terms, and how far rounding of y and of x moves it."""
    A, C, W, V, m, P = (mp(data[name]) for name in ("A", "C", "W", "V", "m0", "P0"))
    loglik, size, kept = mpmath.mpf(0), mpmath.mpf(0), []
    for row in y:
        seen = np.flatnonzero(~np.isnan(row))
        H = C[seen]
        L = cholesky(H @ P @ H.T + V[np.ix_(seen, seen)])
        e = mp(row[seen]) - H @ m
        root = forward(L, mp(np.eye(len(seen))))
        white, logs = root @ e, [mpmath.log(2 * mpmath.pi * L[k, k] ** 2) for k in range(len(L))]
        loglik -= (sum(white * white) + sum(logs)) / 2
        size += (sum(white * white) + sum(abs(term) for term in logs)) / 2
        K = P @ H.T @ root.T @ root
        kept.append((H, K, root.T @ white, row[seen], m))
        m, P = A @ (m + K @ e), A @ (P - K @ H @ P) @ A.T + W
    p, moved = 0 * m, mpmath.mpf(0)
    for H, K, pull, z, x in reversed(kept):
        p = A.T @ p
        u = pull - K.T @ p
        p = p + H.T @ u
        moved += sum(np.abs(u) * np.abs(z)) + sum(np.abs(p) * np.abs(x))
    return float(loglik), float(size), float(EPS * moved)


@pytest.mark.parametrize("seed", range(60))
def test_a_log_likelihood_is_right_to_eleven_digits_of_its_terms(seed):
    data, y = awkward(seed)
    with mpmath.workdps(120):
        exact, size, moved = filter_exactly(data, y)
    try:
        found = kalman_smoother(SmoothingProblem(**data), y)
    except NotConvexError:  # the recursions would have to answer, and cannot
        with pytest.raises(NotConvexError, match="singular to working precision"):
            kalman_filter(SmoothingProblem(**data), y)
        return
    assert abs(found.loglik - exact) <= 1e-11 * size + 4 * moved, found.method


@pytest.mark.parametrize("V", [1e-18, 1e-26, 1e-30, 1e-36])
@pytest.mark.parametrize("P0", [np.eye(2), 1e-30 * np.eye(2), None], ids=["1", "1e-30", "none"])
def test_the_log_likelihood_of_sensors_without_noise_is_right(V, P0):
    """What rounding leaves of misfits is corrected, in each series of a batch too."""
    data = {"A": np.array([[1.0, 1.0], [0.0, 1.0]]), "C": np.eye(2), "W": np.diag([1e-2, 1e-4])}
    data |= {"V": V * np.eye(2), "m0": np.array([1e6, 0.0]), "P0": P0}
    case = made("level and trend", data, 8)
    exact = condition_exactly(data, case.y, digits=80).loglik
    gap = case.y.copy()
    gap[3, 0] = np.nan
    other = condition_exactly(data, gap, digits=80).loglik
    result = kalman_smoother(case.problem, np.stack([case.y, case.y, gap]))
    np.testing.assert_allclose(result.loglik, [exact, exact, other], rtol=1e-9)
    assert kalman_smoother(case.problem, gap).loglik == pytest.approx(other, rel=1e-9)
    assert loglik(case.problem, case.y) == pytest.approx(exact, rel=1e-9)


def in_units(data, scale):
    """The same model with the state x[i] counted in units of 1 / scale[i]."""
    U, back = np.diag(scale), np.diag(1 / scale)
    changed = {"A": U @ data["A"] @ back, "W": U @ data["W"] @ U, "C": data["C"] @ back}
    if "c" in data:
        changed["c"] = data["c"] * scale
    if data["P0"] is not None:
        changed |= {"m0": scale * data["m0"], "P0": U @ data["P0"] @ U}
    return SmoothingProblem(**(data | changed))


@pytest.mark.parametrize("diffuse", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_units_of_the_states_do_not_matter(seed, diffuse):
    """From micrometres to megametres: x, cov and p change by the scale, in powers of two exactly."""
    gaps = ["rows", "start", "entries"][seed % 3]
    case = random_case(seed, n=3, ny=2, T=9, radius=0.9, diffuse=diffuse, offsets=True, gaps=gaps)
    scale = 2.0 ** np.array([-20, 0, 20])
    one, other = (
        kalman_smoother(problem, case.y) for problem in (case.problem, in_units(case.data, scale))
    )
    assert distance(other.x / scale, one.x) <= 1e-11
    assert distance(other.p * scale, one.p) <= 1e-11
    assert distance(other.cov / np.outer(scale, scale), one.cov) <= 1e-11
    assert distance(other.lag_cov / np.outer(scale, scale), one.lag_cov) <= 1e-11
    # The flat prior is one of another variable: its density changes by the determinant, here 1.
    assert other.loglik == pytest.approx(one.loglik, rel=1e-11)


# --- singular covariances --------------------------------------------------------------------


def ar2(V, T, *, varying=False):
    """y[t] = 0.6 y[t-1] + 0.3 y[t-2] + noise in companion form, the second state a copy."""
    data = {
        "A": np.array([[0.6, 0.3], [1.0, 0.0]]),
        "C": np.array([[1.0, 0.0]]),
        "W": np.diag([1.0, 0.0]),
        "V": np.array([[V]]),
        "m0": np.array([1.0, -1.0]),
        "P0": np.array([[2.0, 0.5], [0.5, 2.0]]),
    }
    if varying:  # noise at every other step only
        data["W"] = np.array([data["W"] * (t % 2) for t in range(T)])
    return made(f"AR(2) V={V} varying={varying}", data, T, gaps="rows")


def regression(T, *, W):
    """A level and slope on a regressor, both constant or the level alone a random walk."""
    C = np.stack([np.ones(T + 1), np.sin(np.arange(T + 1.0))], axis=1)[:, None, :]
    data = {
        "A": np.eye(2),
        "C": C,
        "W": W,
        "V": np.array([[0.5]]),
        "m0": np.zeros(2),
        "P0": 4 * np.eye(2),
    }
    return made(f"regression W={np.diag(W)}", data, T, gaps="rows")


def altered(name, seed, **changes):
    case = random_case(seed, n=3, ny=2, T=6, radius=0.9, varying="none", gaps="entries")
    data = case.data | changes
    return made(name, data, 6, gaps="entries", seed=seed)


SINGULAR = [
    ar2(0.0, 10),
    ar2(0.5, 10),
    ar2(0.5, 10, varying=True),
    regression(8, W=np.diag([1.0, 0.0])),
    regression(8, W=np.zeros((2, 2))),
    altered("one sensor exact", 1, V=np.diag([0.0, 1.0])),
    altered("errors that are equal", 2, V=np.ones((2, 2))),
    altered("start known", 3, P0=np.zeros((3, 3))),
    altered("start known but for a direction", 4, P0=np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])),
    altered("all of it", 5, W=np.diag([1.0, 0.0, 1.0]), V=np.diag([0.0, 1.0]), P0=np.eye(3)),
]


@pytest.mark.parametrize("smooth", [kalman_smoother, rts_smoother])
@pytest.mark.parametrize("case", SINGULAR, ids=lambda case: case.name)
def test_singular_covariances_are_welcome(case, smooth):
    """The costates are then the multipliers that the dense solution has: W p[t] = w[t] still."""
    result, s = smooth(case.problem, case.y), stages(case.data, case.T)
    exact = condition_exactly(case.data, case.y)
    assert_smoothed(result, exact, 1e-10)
    assert distance(result.p, exact.p) <= 1e-10
    w = [result.x[t + 1] - s["A"][t] @ result.x[t] - s["c"][t] for t in range(case.T)]
    Wp = (s["W"] @ result.p[..., None])[..., 0]
    assert np.abs(Wp - w).max() <= 1e-11 * np.abs(result.x).max()


@pytest.mark.parametrize("case", SINGULAR, ids=lambda case: case.name)
def test_the_method_that_works_is_chosen_and_named(case):
    usual = random_case(1, n=3, ny=2, T=6, radius=0.9)
    assert "normal equations" in kalman_smoother(usual.problem, usual.y).method
    assert "recursion" in kalman_smoother(case.problem, case.y).method


def test_an_exact_sensor_is_believed():
    case = altered("one sensor exact", 1, V=np.diag([0.0, 1.0]))
    result, C = kalman_smoother(case.problem, case.y), case.data["C"]
    offset = case.data.get("d", np.zeros(2))[0]
    seen = ~np.isnan(case.y[:, 0])
    misfit = (result.x @ C[0] + offset - case.y[:, 0])[seen]
    assert seen.any()
    assert np.abs(misfit).max() <= 1e-12 * np.abs(case.y[seen, 0]).max()
    assert np.abs((C[0] @ result.cov @ C[0])[seen]).max() <= 1e-12 * np.abs(result.cov).max()


@pytest.mark.parametrize("case", [*SINGULAR[:7], SINGULAR[-1]], ids=lambda case: case.name)
def test_singular_noise_without_a_prior_is_right_too(case):
    """Such are a smooth trend, an AR(2) and a regression whose coefficients are not known before."""
    data = case.data | {"P0": None, "m0": None}
    if case is SINGULAR[0]:
        data["V"] = np.array([[0.1]])
    result = kalman_smoother(SmoothingProblem(**data), case.y)
    exact = condition_exactly(data, case.y)
    assert_smoothed(result, exact, 1e-9)


# --- no prior --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_no_prior_is_the_limit_of_vague_ones(seed):
    """In 150 digits, with P0 = 1e50 I and 1/2 log det P0 added to the log-likelihood."""
    n, gaps = [1, 2, 3][seed % 3], ["none", "entries", "start", "rows"][seed % 4]
    case = random_case(seed, n=n, ny=[1, 2][seed % 2], T=5, gaps=gaps, diffuse=True)
    result = kalman_smoother(case.problem, case.y)
    exact = condition_exactly(case.data, case.y)
    # The start is as well determined as the data allow: up to the condition of its covariance.
    condition_of_start = max(np.linalg.cond(P) for P in exact.cov)
    rtol = 1e-11 + 100 * EPS * condition_of_start
    assert_smoothed(result, exact, rtol)
    assert distance(result.p, exact.p) <= rtol * 10


@pytest.mark.parametrize("seed", range(8))
def test_the_diffuse_likelihood_integrates_the_start_out(seed):
    """It is the integral over x[0] of p(y | x[0]), less n/2 log(2 pi), as Durbin and Koopman have it.

    With y = F x[0] + e and e ~ (0, S) the integral is a generalised least-squares problem.
    """
    case = random_case(seed, n=3, ny=2, T=9, radius=0.9, gaps=GAPS[seed % 4], diffuse=True)
    T, n, s = case.T, 3, stages(case.data, case.T)
    maps, offsets, noise, H, rows = [np.eye(n)], [np.zeros(n)], np.zeros((0, 0)), [], []
    blocks = [np.zeros((n, n * T))]  # of x[t] in (w[0], ..., w[T-1])
    for t in range(T):
        maps.append(s["A"][t] @ maps[t])
        offsets.append(s["A"][t] @ offsets[t] + s["c"][t])
        blocks.append(s["A"][t] @ blocks[t])
        blocks[-1][:, t * n : (t + 1) * n] = np.eye(n)
    noise = np.zeros((n * T, n * T))
    for t in range(T):
        noise[t * n : (t + 1) * n, t * n : (t + 1) * n] = s["W"][t]
    observed = [np.flatnonzero(~np.isnan(row)) for row in case.y]
    F = np.concatenate([s["C"][t][seen] @ maps[t] for t, seen in enumerate(observed)])
    H = np.concatenate([s["C"][t][seen] @ blocks[t] for t, seen in enumerate(observed)])
    rows = [
        (case.y[t] - s["C"][t] @ offsets[t] - s["d"][t])[seen] for t, seen in enumerate(observed)
    ]
    y, S, k = np.concatenate(rows), H @ noise @ H.T, 0
    for t, seen in enumerate(observed):
        S[k : k + len(seen), k : k + len(seen)] += s["V"][t][np.ix_(seen, seen)]
        k += len(seen)
    information = F.T @ np.linalg.solve(S, F)
    x0 = np.linalg.solve(information, F.T @ np.linalg.solve(S, y))
    e = y - F @ x0
    integral = -(len(y) - n) / 2 * np.log(2 * np.pi) - e @ np.linalg.solve(S, e) / 2
    integral -= (np.linalg.slogdet(S)[1] + np.linalg.slogdet(information)[1]) / 2
    result = kalman_smoother(case.problem, case.y)
    assert result.loglik == pytest.approx(integral - n / 2 * np.log(2 * np.pi), rel=1e-10)
    assert distance(result.x[0], x0) <= 1e-10


def test_without_a_prior_the_mean_of_the_start_says_nothing():
    case = random_case(8, n=2, ny=2, T=6, radius=0.9, gaps="none")
    results = [
        kalman_smoother(SmoothingProblem(**(case.data | {"m0": m0, "P0": None})), case.y)
        for m0 in (None, np.zeros(2))
    ]
    assert distance(results[0].x, results[1].x) == 0
    assert results[0].loglik == results[1].loglik


def two_states(**changes):
    """A level and a second state that nothing leads to and nothing observes."""
    data = {
        "A": np.diag([1.0, 0.5]),
        "C": np.array([[1.0, 0.0]]),
        "W": np.eye(2),
        "V": np.eye(1),
        "m0": None,
        "P0": None,
    }
    return SmoothingProblem(**(data | changes))


@pytest.mark.parametrize(
    ("problem", "y", "direction"),
    [
        (two_states(), np.arange(6.0)[:, None], r"\[0, 1\]|x\[0\]\[1\]"),
        (two_states(C=np.array([[1.0, 1.0]]), A=np.eye(2)), np.arange(6.0)[:, None], r"0\.707"),
        (two_states(C=np.eye(2), V=np.eye(2)), np.array([[1.0, NAN]] * 4), r"\[0, 1\]|x\[0\]\[1\]"),
        (two_states(A=np.array([[1.0, 1.0], [0.0, 1.0]])), np.array([[1.0], [NAN], [NAN]]), "0"),
    ],
    ids=["unobserved", "only the sum", "always missing", "a trend from one point"],
)
def test_a_start_that_the_data_leave_open_is_refused(problem, y, direction):
    with pytest.raises(LqradError, match=f"(?s)direction.*({direction})") as caught:
        kalman_smoother(problem, y)
    assert re.search(r"x\[\d+\]|time \d|step \d", str(caught.value)), "names the time"
    assert "P0" in str(caught.value), "names the remedy"


@pytest.mark.parametrize("coupling", [1e-3, 1e-6, 1e-9, 1e-12])
def test_a_start_that_is_known_badly_is_known(coupling):
    """The slope in units so small that a step changes the level by next to nothing."""
    data = {
        "A": np.array([[1.0, coupling], [0.0, 1.0]]),
        "C": np.array([[1.0, 0.0]]),
        "W": np.diag([1.0, coupling**-2]),
        "V": np.eye(1),
        "m0": None,
        "P0": None,
    }
    y = np.arange(8.0)[:, None] ** 1.5
    exact = condition_exactly(data, y)
    assert max(by_unit(kalman_smoother(SmoothingProblem(**data), y), exact)) <= 1e-11


def test_a_start_that_becomes_known_only_later_is_known():
    """A trend from two points: exactly the line through them, where there is no noise to speak of."""
    problem = two_states(A=np.array([[1.0, 1.0], [0.0, 1.0]]))
    y = np.array([[NAN], [3.0], [NAN], [NAN], [9.0], [NAN]])
    result = kalman_smoother(problem, y)
    np.testing.assert_allclose(result.x[:, 0], 1 + 2 * np.arange(6.0), rtol=1e-12)
    np.testing.assert_allclose(result.x[:, 1], 2, rtol=1e-12)


# --- long ------------------------------------------------------------------------------------


def test_a_long_series_takes_memory_in_proportion_and_is_right_throughout():
    """In the middle of a long series everything is stationary, and equal to that of a short one."""
    case = random_case(11, n=4, ny=2, T=2000, radius=0.95, varying="none", gaps="none")
    rng = np.random.default_rng(0)
    y = draw_series(case.data, 20_000, rng)
    y[rng.random(y.shape) < 0.05] = NAN
    y[5_000:5_400], y[14_999] = 0.0, [1.0, NAN]
    kalman_smoother(case.problem, y[:3], covariances=False)  # imports and caches are not counted
    peaks = []
    for T in (2_000, 20_000):
        tracemalloc.start()
        result = kalman_smoother(case.problem, y[: T + 1], covariances=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] <= 11 * peaks[0]
    assert peaks[1] <= 60 * result.x.nbytes
    # What is 300 steps away has decayed below rounding: a piece of the series gives the same.
    piece = kalman_smoother(case.problem, y[4_700:5_701], covariances=False)
    assert distance(result.x[5_000:5_401], piece.x[300:701]) <= 1e-11
    recursion = rts_smoother(case.problem, y)
    assert distance(result.x, recursion.x) <= 1e-11
    assert result.loglik == pytest.approx(recursion.loglik, rel=1e-11)


@pytest.mark.parametrize("radius", [0.5, 0.99, 1.0, 1.05])
@pytest.mark.parametrize(("T", "n", "ny"), [(400, 1, 1), (1500, 3, 2), (3000, 2, 3)])
@pytest.mark.parametrize("weak", [1, 30, 1000])
def test_a_long_series_of_one_model_is_right_throughout(T, n, ny, radius, weak):
    """Whatever is stationary may be computed once: the recursions, which are not, tell the truth.

    A weak sensor and little noise let the transients live for long: weak^-2 is their ratio.
    """
    case = random_case(T, n=n, ny=ny, T=2, radius=radius, varying="none", gaps="none")
    data = dict(case.data)
    data |= {"V": weak * data["V"], "W": data["W"] / weak, "P0": weak * data["P0"]}
    y = 3 * np.random.default_rng(0).normal(size=(T + 1, ny))  # which stays small, for any radius
    result = kalman_smoother(SmoothingProblem(**data), y)
    recursion = rts_smoother(SmoothingProblem(**data), y)
    for name in ("x", "cov", "lag_cov", "p"):
        assert distance(getattr(result, name), getattr(recursion, name)) <= 1e-10, name
    for t in (0, 1, T // 2, T - 1, T):
        assert distance(result.cov[t], recursion.cov[t]) <= 1e-10
    assert result.loglik == pytest.approx(recursion.loglik, rel=1e-11)
    means = kalman_smoother(SmoothingProblem(**data), y, covariances=False)
    assert distance(means.x, result.x) <= 1e-12


# One state, written three times.
THRICE = {
    "A": np.outer([1, 2, -1], [0.9, 0, 0]),
    "W": np.outer([1, 2, -1], [1, 2, -1]),
    "P0": np.outer([1, 2, -1], [1, 2, -1]),
}
# The first row of the second sensor is exact, and nothing drives what it tells.
KNOWN = {"A": [[0.7, 0.3], [0.0, 0.9]], "W": np.diag([1.0, 0.0]), "P0": [[1.0, 0.3], [0.3, 2.0]]}


@pytest.mark.parametrize("model", [THRICE, KNOWN])
def test_a_variance_that_is_lost_in_rounding_is_not_divided_by(model):
    """The way back through covariances that are singular, against the adjoint of the filter, which solves with none."""
    n = len(model["A"])
    V = np.ones((41, n, n)) * np.eye(n)
    V[0, 1, 1] = 0.0
    problem = SmoothingProblem(**model, C=np.eye(n), V=V, m0=np.zeros(n))
    y = np.random.default_rng(0).normal(size=(41, n)).cumsum(axis=0)
    y[1:, 1] = np.nan
    found, adjoint = rts_smoother(problem, y), kalman_smoother(problem, y)
    assert adjoint.method == "covariance recursions"
    np.testing.assert_allclose(found.x, adjoint.x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.cov, adjoint.cov, rtol=1e-12, atol=1e-12)
