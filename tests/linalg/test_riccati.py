"""The Riccati recursion against a plain loop, 50-digit arithmetic, and itself without early stopping.

A recursion whose A has a time axis never stops early: it is the oracle for one that may.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from random_problems import psd, with_spectral_radius

from lqrad.errors import NonFiniteError, NotConvexError
from lqrad.linalg.riccati import double, lyapunov, recursion, steady_covariance

EPS = np.finfo(float).eps


# --- oracles and problems --------------------------------------------------------------------


def loop(A, B, Q, R, M, S, T, symmetrise=True):
    """The recursion as it is written in the mathematics."""
    A, B, Q, R, M = (np.broadcast_to(z, (T, *z.shape[-2:])) for z in (A, B, Q, R, M))
    P, K = [S], []
    for t in reversed(range(T)):
        G = R[t] + B[t].T @ P[-1] @ B[t]
        N = B[t].T @ P[-1] @ A[t] + M[t].T
        K.append(np.linalg.solve(G, N))
        new = Q[t] + A[t].T @ P[-1] @ A[t] - N.T @ K[-1]
        P.append((new + new.T) / 2 if symmetrise else new)
    return np.array(P[::-1]), np.array(K[::-1])


def exact(A, B, Q, R, M, S, T, digits=50):
    """The same in arithmetic of 50 digits, rounded at the end."""
    with mpmath.workdps(digits):
        A, B, Q, R, M, P = (mpmath.matrix(z.tolist()) for z in (A, B, Q, R, M, S))
        gains, values = [], [P]
        for _ in range(T):
            N = B.T * P * A + M.T
            K = mpmath.inverse(R + B.T * P * B) * N
            P = Q + A.T * P * A - N.T * K
            P = (P + P.T) / 2
            gains.append(np.array(K.tolist(), dtype=float))
            values.append(P)
        return np.array([np.array(P.tolist(), dtype=float) for P in values[::-1]]), np.array(
            gains[::-1]
        )


def draw(seed, n=3, m=2, radius=1.0, cross=True, rank=None):
    """A random stage with a positive definite R - M'Q^+M, and a terminal weight."""
    rng = np.random.default_rng(seed)
    A = with_spectral_radius(rng.normal(size=(n, n)), radius)
    B, Q, S = rng.normal(size=(n, m)), psd(rng, n, rank), psd(rng, n, rank)
    M = Q @ rng.normal(size=(n, m)) / n * cross
    R = M.T @ np.linalg.pinv(Q, hermitian=True) @ M + psd(rng, m) + 0.1 * np.eye(m)
    return A, B, Q, (R + R.T) / 2, M, S


def in_full(A, B, Q, R, M, S, T):
    """The recursion over all stages: a time axis keeps it from stopping early."""
    result = recursion(np.broadcast_to(A, (T, *A.shape)), B, Q, R, M, S, T)
    assert result.swept == T
    return result


def distance(a, b):
    """The largest relative error of any stage."""
    scale = np.abs(b).max(axis=(1, 2))
    error = np.abs(a - b).max(axis=(1, 2))
    return float((error / np.where(scale > 0, scale, 1.0)).max())


def regulator(F, T, weight=1.0):
    """A problem whose closed loop is F to first order in a small weight of the inputs' effect."""
    n = len(F)
    return F, np.eye(n), weight * np.eye(n), 1e8 * np.eye(n), np.zeros((n, n)), np.eye(n), T


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


# --- the recursion ---------------------------------------------------------------------------


@pytest.mark.parametrize("T", [1, 2, 30])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (3, 1), (3, 2), (2, 5), (12, 4)])
@pytest.mark.parametrize("radius", [0.5, 1.3])
def test_sweep_is_the_recursion(n, m, T, radius):
    stage = draw(n + 10 * m, n, m, radius)
    P, K = loop(*stage, T)
    for run in (recursion, in_full):
        result = run(*stage, T)
        assert distance(result.P, P) < 1e-12
        assert distance(result.K, K) < 1e-12


@pytest.mark.parametrize("varying", ["A", "B", "Q", "R", "M", "ABQRM"])
def test_anything_may_vary_in_time(varying):
    T = 9
    stages = [draw(seed) for seed in range(T)]
    data = [
        np.array([stage[i] for stage in stages]) if name in varying else stages[0][i]
        for i, name in enumerate("ABQRM")
    ]
    # A cross weight of one stage need not fit the weights of another.
    data[4] = data[4] * (varying == "ABQRM")
    P, K = loop(*data, stages[0][5], T)
    result = recursion(*data, stages[0][5], T)
    assert result.swept == T
    assert distance(result.P, P) < 1e-12
    assert distance(result.K, K) < 1e-12


def test_the_factor_is_that_of_the_input_weight():
    A, B, Q, R, M, S = draw(3)
    result = recursion(A, B, Q, R, M, S, 20)
    G = R + B.T @ result.P[1:] @ B
    assert (np.triu(result.L, 1) == 0).all()
    assert distance(result.L @ result.L.swapaxes(1, 2), G) < 20 * EPS


def test_symmetric_to_the_last_bit_and_no_input_is_touched():
    stage = draw(1, n=5, radius=1.3)
    copies = [z.copy() for z in stage]
    P = recursion(*stage, 50).P
    assert (P.swapaxes(1, 2) == P).all()
    assert all((z == copy).all() for z, copy in zip(stage, copies, strict=True))


@pytest.mark.parametrize("T", [100, 1000])
@pytest.mark.parametrize("radius", [1.5, 2.0])
@pytest.mark.parametrize(("n", "m"), [(2, 1), (3, 2)])
def test_unstable_systems_lose_no_digits(radius, T, n, m):
    stage = draw(7, n, m, radius)
    P, K = exact(*stage, min(T, 150))  # long settled to all digits of a float by then
    settled = len(K) < T
    for run in (recursion, in_full):
        result = run(*stage, T)
        assert distance(result.K[-len(K) :], K) < 1e-12
        assert distance(result.P[-len(P) :], P) < 1e-12
        if settled:
            assert distance(result.K[: -len(K)], K[:1]) < 1e-12


def test_without_symmetry_unstable_systems_lose_all_digits():
    """The test above can fail: this is the fault that it is there to find."""
    stage = draw(7, 3, 2, 1.5)
    _, K = exact(*stage, 100)
    with np.errstate(over="ignore", invalid="ignore"):
        _, wrong = loop(*stage, 100, symmetrise=False)
    assert not distance(wrong, K) < 1e-3


@pytest.mark.parametrize("radius", [0.9, 1.5])
def test_units_of_the_states_change_nothing(radius):
    """Powers of two scale without rounding, so that the results are the same to the last bit."""
    A, B, Q, R, M, S = draw(5, n=4, radius=radius)
    D = np.diag(2.0 ** np.array([0, 30, -20, 7]))
    inverse = np.linalg.inv(D)
    plain = recursion(A, B, Q, R, M, S, 400)
    scaled = recursion(
        D @ A @ inverse, D @ B, inverse @ Q @ inverse, R, inverse @ M, inverse @ S @ inverse, 400
    )
    assert scaled.swept == plain.swept < 400
    assert (scaled.K @ D == plain.K).all()
    assert (D @ scaled.P @ D == plain.P).all()


# --- early stopping --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_stopping_early_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 7)), int(rng.integers(1, 4))
    radius = rng.choice([0.3, 0.9, 1.0, 1.01, 1.5, 2.0])
    stage = draw(seed, n, m, radius, rank=int(rng.integers(1, n + 1)))
    full, early = in_full(*stage, 1500), recursion(*stage, 1500)
    most = max(1e-13, n**2 * EPS * gathered(stage[0] - stage[1] @ full.K[0], full.P[0]))
    assert distance(early.P, full.P) < most
    assert distance(early.K, full.K) < most
    assert distance(early.L, full.L) < most


def gathered(F, P):
    """How much of one stage's rounding errors a settled loop F gathers: sum_j |F^j|^2, in units of P."""
    size = np.sqrt(P.diagonal())
    F = F * size[:, None] / size
    return sum(np.linalg.norm(np.linalg.matrix_power(F, j), 2) ** 2 for j in range(1500))


@pytest.mark.parametrize("radius", [0.9, 0.99, 0.999])
@pytest.mark.parametrize("angle", [0.0, 0.01, 1.0, np.pi / 2], ids=["real", "slow", "fast", "90"])
def test_slow_and_oscillating_closed_loops(radius, angle):
    T = int(40 / (1 - radius))
    *stage, T = regulator(radius * rotation(angle), T, weight=1e-3)
    full, early = in_full(*stage, T), recursion(*stage, T)
    closed = stage[0] - stage[1] @ full.K[0]
    assert abs(np.abs(np.linalg.eigvals(closed)).max() - radius) < 1e-4
    assert early.swept < T
    assert distance(early.P, full.P) < 1e-12
    assert distance(early.K, full.K) < 1e-12
    # Nor does it run on for long: the last digits take log(eps) / (2 log radius) stages.
    assert early.swept < 1.6 * np.log(EPS) / (2 * np.log(radius)) + 40


@pytest.mark.parametrize("n", [5, 30, 64])
def test_a_change_that_comes_late_is_waited_for(n):
    """A cost at the far end of a chain of delays is seen by the inputs n stages later."""
    A, B = np.eye(n, k=1), np.eye(n)[:, -1:]
    Q, S = np.zeros((n, n)), np.diag(np.eye(n)[0])
    for weights in ((Q, S), (S, Q)):
        stage = (A, B, weights[0], np.eye(1), 0 * B, weights[1])
        full, early = in_full(*stage, 400), recursion(*stage, 400)
        assert early.swept < 400
        assert distance(early.P, full.P) < 1e-12


GROWTH = {
    "linear": (np.eye(1), np.zeros((1, 1)), np.eye(1)),
    "quadratic": (np.array([[1.0, 1.0], [0.0, 1.0]]), np.zeros((2, 1)), np.diag([1.0, 0.0])),
    "exponential": (np.eye(1) * 1.01, np.zeros((1, 1)), np.eye(1)),
    "slow, beside what has settled": (
        np.diag([0.5, 1.0]),
        np.array([[1.0], [0.0]]),
        np.diag([1.0, 1e-9]),
    ),
    "exponential, from next to nothing": (
        np.diag([0.5, 1.05]),
        np.array([[1.0], [0.0]]),
        np.diag([1.0, 1e-40]),
    ),
}


@pytest.mark.parametrize("kind", GROWTH)
def test_growth_without_limit_never_stops_early(kind):
    A, B, Q = GROWTH[kind]
    stage = (A, B, Q, np.eye(1), 0 * B, Q)
    T = 5000
    early = recursion(*stage, T)
    assert early.swept == T
    assert (early.P == in_full(*stage, T).P).all()


def test_slower_than_any_geometric_rate_never_stops_early():
    """P = 1 / (1 + j) after j stages: each change is small, and their sum is not."""
    one = np.eye(1)
    result = recursion(one, one, 0 * one, one, 0 * one, one, 20_000)
    assert result.swept == 20_000
    assert result.P[0, 0, 0] == pytest.approx(1 / 20_001, rel=1e-11)


def test_changes_too_small_to_see_are_added_up():
    """P[0, 1] = 1e-16 j after j stages: no stage matters, and all of them together do."""
    A, B, T = np.array([[1.0, 1e-16], [0.0, 1.0]]), np.zeros((2, 1)), 30_000
    early = recursion(A, B, np.zeros((2, 2)), np.eye(1), B, np.eye(2), T)
    assert early.P[0, 0, 1] == pytest.approx(1e-16 * T, rel=1e-11)
    # over a short horizon they do not add up to anything
    assert recursion(A, B, np.zeros((2, 2)), np.eye(1), B, np.eye(2), 20).swept == 16


@pytest.mark.parametrize("period", [2, 3, 4, 8, 16, 5, 64])
def test_periodic_solutions_never_stop_early(period):
    """Undamped and unweighted, the terminal weight goes round for ever, equal after each turn."""
    A = np.roll(np.eye(period), 1, axis=0)
    B = np.zeros((period, 1))
    S = np.diag(np.eye(period)[0])
    result = recursion(A, B, 0 * S, np.eye(1), B, S, 1000)
    assert result.swept == 1000
    assert (result.P[-1 - period :: -period] == S).all()
    assert result.P[-2, 0, 0] == 0


def test_a_repeated_value_stops_at_the_first_look():
    one = np.eye(2)
    result = recursion(2 * one, one, 0 * one, one, 0 * one, 0 * one, 100)  # P = 0 although A grows
    assert result.swept == 16
    assert not result.P.any()
    assert not result.K.any()


def test_the_filled_stages_repeat_the_last():
    result = recursion(*draw(2, radius=0.5), 500)
    first = 500 - result.swept
    assert result.swept < 200
    for array in (result.P, result.K, result.L):
        assert (array[:first] == array[first]).all()


# --- what has no solution --------------------------------------------------------------------


@pytest.mark.parametrize("stage", [0, 3, 9])
def test_not_convex_names_the_stage(stage):
    A, B, Q, R, M, S = draw(4, cross=False)
    R = np.array([R] * 10)
    R[stage] -= 1000 * np.eye(2)
    message = rf"^R \+ B'P\[{stage + 1}\]B is not positive definite at stage t={stage}, .* give R more weight"
    with pytest.raises(NotConvexError, match=message):
        recursion(A, B, Q, R, M, S, 10)


def test_a_singular_input_weight_is_not_rescued_by_rounding_errors():
    """B'SB is zero for this S, and 1e-17 as it is computed: a factor, but no solution."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = 4
        B = rng.normal(size=(n, 1))
        others = np.linalg.qr(B, mode="complete")[0][:, 1:]
        S = others @ others.T
        A, zero = rng.normal(size=(n, n)), np.zeros((1, 1))
        with pytest.raises(NotConvexError, match="at stage t=19, to working precision"):
            recursion(A, B, np.eye(n), zero, 0 * B, (S + S.T) / 2, 20)


def test_a_singular_R_will_do_where_the_states_carry_weight():
    A, B, Q, _, _, S = draw(6, n=4, m=2)
    R = np.zeros((2, 2))
    P, K = loop(A, B, Q, R, np.zeros((4, 2)), S, 30)
    result = recursion(A, B, Q, R, np.zeros((4, 2)), S, 30)
    assert distance(result.P, P) < 1e-10
    assert distance(result.K, K) < 1e-10


@pytest.mark.parametrize("varying", [False, True])
def test_overflow_names_the_stage(varying):
    A, B = np.diag([10.0, 0.5]), np.array([[0.0], [1.0]])
    run = in_full if varying else recursion
    with pytest.raises(NonFiniteError, match=r"overflowed at stage t=(\d+): .* dare") as caught:
        run(A, B, np.eye(2), np.eye(1), 0 * B, np.eye(2), 400)
    t = int(str(caught.value).split("t=")[1].split(":")[0])
    assert 400 - t == 155  # the first power of 100 beyond 1.8e308


# --- the limit -------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.5, 1.5])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_doubling_is_the_limit_of_the_sweep(n, radius):
    A, B, Q, R, M, _ = draw(n, n, 2, radius, cross=False)
    G = B @ np.linalg.solve(R, B.T)
    P = double(A, (G + G.T) / 2, Q)
    limit = recursion(A, B, Q, R, M, 0 * Q, 2000)
    assert limit.swept < 2000
    assert (P == P.T).all()
    assert np.abs(P - limit.P[0]).max() < 1e-10 * np.abs(P).max()


def test_doubling_without_a_limit_is_no_solution():
    """An unstable mode out of reach: P grows for ever, and nothing warns or raises."""
    P = double(np.eye(1) * 1.5, np.zeros((1, 1)), np.eye(1))
    assert not np.isfinite(P).all() or np.abs(P).max() > 1e15


@pytest.mark.parametrize("radius", [0.0, 0.5, 0.99, 1 - 1e-9])
def test_lyapunov_solves_its_equation(radius):
    rng = np.random.default_rng(3)
    F = radius * np.linalg.qr(rng.normal(size=(4, 4)))[0]
    D = psd(rng, 4)
    X, _ = lyapunov(F, D)
    residual = X - D - F.T @ X @ F
    # Each squaring doubles the relative error of the power, until the power has vanished.
    assert np.abs(residual).max() < 10 * EPS / (1 - radius) * np.abs(X).max()


def test_lyapunov_sees_through_growth_before_decay():
    F = np.array([[0.5, 1e6], [0.0, 0.5]])
    X, _ = lyapunov(F, np.eye(2))
    assert np.abs(X - np.eye(2) - F.T @ X @ F).max() < 10 * EPS * np.abs(X).max()


@pytest.mark.parametrize("radius", [1.0, 1 + 1e-12, 1 + 1e-4, 1.5, 1e200])
def test_lyapunov_proves_nothing_that_is_not_so(radius):
    rng = np.random.default_rng(4)
    for n in (1, 2, 7):
        F = np.linalg.qr(rng.normal(size=(n, n)))[0]
        assert lyapunov(radius * F, np.eye(n)) is None
        assert lyapunov(np.array([[1.0, 1.0], [0.0, 1.0]]), np.eye(2)) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_steady_covariance_is_its_sum_whatever_the_units_and_sizes(seed):
    """Each entry by itself, beside the deviations of its row and column; powers of two change no bit."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    F = rng.normal(size=(n, n))
    F *= 0.8 / np.abs(np.linalg.eigvals(F)).max()
    sizes = 10.0 ** rng.integers(-150, 1, size=n)  # of what disturbs one state beside another
    D = np.diag(sizes)
    total, term = np.zeros((n, n)), D
    for _ in range(400):
        total, term = total + term, F @ term @ F.T
    found = steady_covariance(F, D)
    deviations = np.sqrt(total.diagonal())
    assert (np.abs(found - total) <= 1e-12 * np.outer(deviations, deviations)).all()
    x = 2.0 ** rng.integers(-40, 41, size=n)
    scaled = steady_covariance(F * x[:, None] / x, D * np.outer(x, x))
    np.testing.assert_array_equal(scaled, found * np.outer(x, x))
