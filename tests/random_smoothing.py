"""One seeded source of random smoothing problems, and their answers by dense conditioning."""

from __future__ import annotations

from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
from random_problems import psd, with_spectral_radius

from lqrad.smoothing.model import SmoothingProblem

NAN = np.nan
GAPS = ("none", "rows", "entries", "start", "end", "both")


@dataclass(frozen=True)
class Case:
    """A problem, its data as keyword arguments, and a series drawn from it, NaN where it has gaps."""

    name: str
    problem: SmoothingProblem
    data: dict[str, np.ndarray | None]
    T: int
    y: np.ndarray


def stages(data, T):
    """The same data with everything varying in time: W, A, c at T stages, and C, V, d at T + 1."""
    n, ny = data["A"].shape[-1], data["C"].shape[-2]
    shapes = {"A": (T, n, n), "W": (T, n, n), "c": (T, n)}
    shapes |= {"C": (T + 1, ny, n), "V": (T + 1, ny, ny), "d": (T + 1, ny)}
    filled = {"c": np.zeros(n), "d": np.zeros(ny)} | data
    return {name: np.broadcast_to(filled[name], shape) for name, shape in shapes.items()}


def root(covariance):
    """A square root of a positive semidefinite matrix, F with F F' the matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def draw_series(data, T, rng):
    """Draw y (T+1, ny) from the model."""
    s = stages(data, T)
    n, ny = data["A"].shape[-1], data["C"].shape[-2]
    x, y = data["m0"] + root(data["P0"]) @ rng.normal(size=n), []
    for t in range(T + 1):
        y.append(s["C"][t] @ x + s["d"][t] + root(s["V"][t]) @ rng.normal(size=ny))
        if t < T:
            x = s["A"][t] @ x + s["c"][t] + root(s["W"][t]) @ rng.normal(size=n)
    return np.array(y)


def with_gaps(y, kind, rng):
    """A copy of y (T+1, ny) with NaN in whole rows, in single entries, at the start or the end."""
    y = y.copy()
    N = len(y)
    if kind in ("rows", "both"):
        y[rng.random(N) < 0.3] = NAN
    if kind in ("entries", "both"):
        y[rng.random(y.shape) < 0.3] = NAN
    if kind == "start":
        y[: (N + 2) // 3] = NAN
    if kind == "end":
        y[N - (N + 2) // 3 :] = NAN
    return y


def random_case(
    seed: int,
    *,
    n: int | None = None,
    ny: int | None = None,
    T: int | None = None,
    radius: float | None = None,
    varying: str | None = None,
    offsets: bool | None = None,
    gaps: str | None = None,
    diffuse: bool = False,
) -> Case:
    """The problem of this seed; what is not asked for is drawn, n = ny = 1 and T = 1 included.

    `varying` is "none", "all" or "some" of the arrays, `radius` the spectral radius of A. The
    covariances have eigenvalues of about 0.3 to 3, and unstable systems short horizons, so that
    the condition of the problem stays moderate.
    """
    rng = np.random.default_rng(seed)

    def draw(value, choices):
        picked = choices[rng.integers(len(choices))]
        return picked if value is None else value

    n = draw(n, [1, 2, 3, 5, 8, 12])
    ny = draw(ny, [1, 2, 3, 5, 8, 12])
    T = draw(T, [1, 2, 5, 9, 20])
    radius = draw(radius, [0.5, 0.9, 1.0] if T > 9 else [0.5, 0.9, 1.0, 1.3])
    varying = draw(varying, ["none", "all", "some"])
    offsets = draw(offsets, [False, True])
    gaps = draw(gaps, GAPS)

    def covariance(size):
        return psd(rng, size) + 0.3 * np.eye(size)

    def array(length, make):
        varies = varying == "all" or (varying == "some" and rng.random() < 0.5)
        return np.array([make() for _ in range(length)]) if varies else make()

    data = {
        "A": array(T, lambda: with_spectral_radius(rng.normal(size=(n, n)), radius)),
        "C": array(T + 1, lambda: rng.normal(size=(ny, n))),
        "W": array(T, lambda: covariance(n)),
        "V": array(T + 1, lambda: covariance(ny)),
        "m0": rng.normal(size=n),
        "P0": covariance(n),
    }
    if offsets:
        data["c"] = array(T, lambda: rng.normal(size=n))
        data["d"] = array(T + 1, lambda: rng.normal(size=ny))
    y = with_gaps(draw_series(data, T, rng), gaps, rng)
    if diffuse:
        data |= {"m0": None, "P0": None}
    words = [f"seed={seed}", f"n={n}", f"ny={ny}", f"T={T}", f"radius={radius}"]
    words += [f"varying={varying}", f"gaps={gaps}", *(["offsets"] if offsets else [])]
    return Case(" ".join(words), SmoothingProblem(**data), data, T, y)


# --- the oracle ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exact:
    """What conditioning the joint Gaussian of states and observations gives."""

    x: np.ndarray
    cov: np.ndarray
    lag_cov: np.ndarray
    p: np.ndarray
    loglik: float


def mp(array):
    """The array in the precision of mpmath, as objects."""
    return np.vectorize(mpmath.mpf, otypes=[object])(array)


def cholesky(S):
    """L lower triangular with L L' = S, in the numbers of S."""
    L = np.zeros_like(S)
    for j in range(len(S)):
        column = S[j:, j] - L[j:, :j] @ L[j, :j]
        if not column[0] > 0:
            raise ValueError("not positive definite")
        L[j:, j] = column / column[0] ** 0.5
    return L


def forward(L, B):
    """L^-1 B for L lower triangular."""
    X = B.copy()
    for j in range(len(L)):
        X[j] = X[j] / L[j, j]
        X[j + 1 :] = X[j + 1 :] - L[j + 1 :, j, None] * X[j]
    return X


def condition(data, y, *, number=np.asarray, vague=None):
    """Condition the states on what is observed of y: naive, dense, O(T^3).

    With x = F (x[0] - m0, w) + mean and y = H x + d + v, everything is jointly Gaussian. `number`
    makes the numbers to compute with: doubles, or those of `mp`. `vague` replaces P0 by that
    multiple of the identity and adds n/2 log(vague) to the log-likelihood, which for vague to
    infinity is the exact diffuse one of Durbin and Koopman (2012, section 7.2.2).
    """
    T, n = len(y) - 1, data["A"].shape[-1]
    s = {name: number(array) for name, array in stages(data, T).items()}
    m0 = number(np.zeros(n) if data["m0"] is None else data["m0"])
    P0 = number(np.eye(n)) * vague if vague is not None else number(data["P0"])
    N = (T + 1) * n

    def at(t):
        return slice(t * n, (t + 1) * n)

    F, noise, mean = number(np.zeros((N, N))), number(np.zeros((N, N))), number(np.zeros(N))
    F[at(0), at(0)], noise[at(0), at(0)], mean[at(0)] = number(np.eye(n)), P0, m0
    for t in range(T):
        F[at(t + 1)] = s["A"][t] @ F[at(t)]
        F[at(t + 1), at(t + 1)] = number(np.eye(n))
        noise[at(t + 1), at(t + 1)] = s["W"][t]
        mean[at(t + 1)] = s["A"][t] @ mean[at(t)] + s["c"][t]
    X = F @ noise @ F.T
    rows = [(t, i) for t in range(T + 1) for i in np.flatnonzero(~np.isnan(y[t]))]
    H = number(np.zeros((len(rows), N)))
    S, r = number(np.zeros((len(rows), len(rows)))), number(np.zeros(len(rows)))
    for k, (t, i) in enumerate(rows):
        H[k, at(t)] = s["C"][t, i]
        r[k] = number(y[t, i]) - s["C"][t, i] @ mean[at(t)] - s["d"][t, i]
        for j, (u, g) in enumerate(rows):
            if u == t:
                S[k, j] = s["V"][t, i, g]
    L = cholesky(S + H @ X @ H.T)
    half = forward(L, np.concatenate([H @ X, r[:, None]], axis=1))
    x = mean + half[:, :-1].T @ half[:, -1]
    cov = X - half[:, :-1].T @ half[:, :-1]
    # S^-1 r, by a triangular solve with L' from the end
    flipped = forward(L.T[::-1, ::-1].copy(), half[::-1, -1:].copy())[::-1, 0]
    pull = (H.T @ flipped).reshape(T + 1, n)
    p = number(np.zeros((T, n)))
    for t in range(T - 1, -1, -1):
        p[t] = pull[t + 1] + (s["A"][t + 1].T @ p[t + 1] if t + 1 < T else 0)
    logdet = sum((mpmath.log(L[k, k]) for k in range(len(rows))), mpmath.mpf(0))
    loglik = -len(rows) * mpmath.log(2 * mpmath.pi) / 2 - logdet
    loglik -= half[:, -1] @ half[:, -1] / 2 if rows else 0
    if vague is not None:
        loglik += n * mpmath.log(vague) / 2
    blocks = cov.reshape(T + 1, n, T + 1, n)
    return Exact(
        x=x.astype(float).reshape(T + 1, n),
        cov=np.array([blocks[t, :, t] for t in range(T + 1)], dtype=float),
        lag_cov=np.array([blocks[t + 1, :, t] for t in range(T)], dtype=float),
        p=p.astype(float),
        loglik=float(loglik),
    )


def condition_exactly(data, y, *, digits=50):
    """Condition in `digits` digits; without a prior, with P0 = 10^digits I in thrice as many."""
    with mpmath.workdps(digits if data["P0"] is not None else 3 * digits):
        vague = None if data["P0"] is not None else mpmath.mpf(10) ** digits
        return condition(data, y, number=mp, vague=vague)


def exact_loglik(s, y):
    """The log-likelihood of constant arrays of mpmath's numbers, by the covariance of all of y."""
    mean, P = [s["m0"]], [s["P0"]]
    for _ in range(len(y) - 1):
        mean.append(s["A"] @ mean[-1] + s["c"])
        P.append(s["A"] @ P[-1] @ s["A"].T + s["W"])
    seen = [(t, i) for t in range(len(y)) for i in np.flatnonzero(~np.isnan(y[t]))]
    S, r = mp(np.zeros((len(seen), len(seen)))), mp(np.zeros(len(seen)))
    for k, (t, i) in enumerate(seen):
        r[k] = mp(y[t, i]) - s["C"][i] @ mean[t] - s["d"][i]
        reach, now = P[t] @ s["C"][i], t
        for j, (u, g) in enumerate(seen[k:], k):
            while now < u:
                reach, now = s["A"] @ reach, now + 1
            S[k, j] = S[j, k] = s["C"][g] @ reach + (s["V"][i, g] if u == t else 0)
    L = cholesky(S)
    e = forward(L, r[:, None])[:, 0]
    logs = sum((mpmath.log(L[k, k]) for k in range(len(seen))), mpmath.mpf(0))
    return -len(seen) * mpmath.log(2 * mpmath.pi) / 2 - logs - e @ e / 2


def exact_slope(data, y, name, change):
    """How it changes with an array, by differences in 150 digits; P0 = 10^50 I where there is no prior."""
    ny, n = data["C"].shape
    with mpmath.workdps(150):
        none = {"m0": np.zeros(n), "P0": 1e50 * np.eye(n)}
        given = data | (none if data["P0"] is None else {})
        exactly = {key: mp(array) for key, array in given.items()}
        exactly |= {"c": mp(np.zeros(n)), "d": mp(np.zeros(ny))}
        h = mpmath.mpf(10) ** -40
        up, down = (
            exact_loglik(exactly | {name: exactly[name] + k * mp(change)}, y) for k in (h, -h)
        )
        return float((up - down) / (2 * h))


# --- comparisons -----------------------------------------------------------------------------


def distance(a, b):
    """The largest difference, relative to the largest entry of b."""
    assert np.shape(a) == np.shape(b)
    largest = np.abs(b).max(initial=0)
    difference = np.abs(np.asarray(a) - b).max(initial=0)
    return difference / largest if largest > 0 else difference


def assert_smoothed(result, exact, rtol, *, covariances=True):
    """The result is the exact one, up to rtol of the largest entry of each of its arrays."""
    assert distance(result.x, exact.x) <= rtol
    assert result.loglik == pytest.approx(exact.loglik, rel=rtol, abs=rtol)
    if covariances:
        assert distance(result.cov, exact.cov) <= rtol
        # Lag-one covariances may all vanish: they are measured by the covariances.
        assert result.lag_cov.shape == exact.lag_cov.shape
        lag_error = np.abs(result.lag_cov - exact.lag_cov).max()
        assert lag_error <= rtol * np.abs(exact.cov).max()
        assert np.array_equal(result.cov, result.cov.swapaxes(-1, -2))
