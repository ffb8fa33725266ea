"""The block-banded solvers against their own equations, dense matrices and plain loops.

Substitution in a triangular matrix leaves a residual of at most (n + 1) eps times the sum of the
absolute terms of its row, whatever the matrix (Higham, Accuracy and Stability of Numerical
Algorithms, theorem 8.5). So a residual within that bound at every step proves a solve right, for
unstable A as for stable, at every horizon.
"""

from __future__ import annotations

import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg
from random_problems import psd, with_spectral_radius

import lqrad
from lqrad import native
from lqrad.errors import NonFiniteError, NotConvexError, ShapeError
from lqrad.linalg import banded
from lqrad.linalg.banded import Bidiagonal, first_nonfinite_step
from lqrad.linalg.tridiagonal import BlockTridiagonal

EPS = np.finfo(float).eps
SIZES = [1, 2, 4, 7, 12, 30, 100, 130, 300]
HORIZONS = [1, 2, 63, 64, 65, 257, 1000]
DIRECTIONS = pytest.mark.parametrize("transpose", [False, True], ids=["forward", "adjoint"])
BATCHES = pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3)], ids=str)
VARYING = pytest.mark.parametrize("varying", [False, True], ids=["constant", "varying"])


def state_matrix(rng, n, T=None, radius=1.02):
    """A of the given spectral radius, one for each of T steps if T is given."""
    if T is None:
        return with_spectral_radius(rng.normal(size=(n, n)), radius)
    return np.array([state_matrix(rng, n, radius=radius) for _ in range(T)])


def loop(A, f, transpose):
    """The recursion as it is written in the mathematics."""
    A = np.broadcast_to(A, (len(f) - 1, *A.shape[-2:]))
    x = np.array(f, dtype=float)
    if transpose:
        for t in reversed(range(len(A))):
            x[t] = A[t].T @ x[t + 1] + f[t]
    else:
        for t in range(len(A)):
            x[t + 1] = A[t] @ x[t] + f[t + 1]
    return x


def dense(A, T):
    """The matrix L itself."""
    n = A.shape[-1]
    L = np.eye((T + 1) * n)
    for t in range(T):
        L[(t + 1) * n : (t + 2) * n, t * n : (t + 1) * n] = -(A[t] if A.ndim == 3 else A)
    return L


def assert_solves(A, f, x, transpose):
    """Every row of L x = f, or of L'x = f, holds to rounding."""
    if transpose:
        A, f, x = A.swapaxes(-1, -2), f[..., ::-1, :], x[..., ::-1, :]
        A = A[::-1] if A.ndim == 3 else A

    def times_A(A, x):
        return x @ A.T if A.ndim == 2 else np.einsum("tij,...tj->...ti", A, x)

    before, after, given = x[..., :-1, :], x[..., 1:, :], f[..., 1:, :]
    terms = np.abs(after) + times_A(np.abs(A), np.abs(before)) + np.abs(given)
    rounding = 2 * (A.shape[-1] + 2) * EPS * terms  # of the solve, and of this residual
    error = np.abs(after - times_A(A, before) - given)
    assert np.array_equal(x[..., 0, :], f[..., 0, :])
    worst = np.unravel_index(np.argmax(error - rounding), error.shape)
    assert (error <= rounding).all(), f"step {worst} of {x.shape}: {error[worst]}"


# --- the recursion ---------------------------------------------------------------------------


@DIRECTIONS
@pytest.mark.parametrize("T", HORIZONS)
@pytest.mark.parametrize("n", SIZES)
def test_constant_dynamics_hold_at_every_step(n, T, transpose):
    rng = np.random.default_rng([n, T])
    A, f = state_matrix(rng, n), rng.normal(size=(T + 1, n))
    assert_solves(A, f, Bidiagonal(A).solve(f, transpose=transpose), transpose)


@DIRECTIONS
@pytest.mark.parametrize("T", HORIZONS)
@pytest.mark.parametrize("n", SIZES)
def test_varying_dynamics_hold_at_every_step(n, T, transpose):
    if T * n**2 > 2_000_000:
        T = 5  # keep the T matrices within a few megabytes
    rng = np.random.default_rng([n, T])
    A = rng.normal(size=(T, n, n)) / np.sqrt(n)
    f = rng.normal(size=(T + 1, n))
    assert_solves(A, f, Bidiagonal(A).solve(f, transpose=transpose), transpose)


@DIRECTIONS
@pytest.mark.parametrize(
    ("n", "horizons"),
    [
        # Bands of 256 KiB hold 16384 / n^2 steps: horizons on both sides of one and two of them,
        # and where that is affordable every horizon, whatever the pieces are.
        (1, [*range(1, 200), *range(16380, 16390), *range(32764, 32773)]),
        (2, [*range(1, 200), *range(4092, 4101), *range(8188, 8197)]),
        (3, [*range(1, 200), *range(1816, 1825), *range(3636, 3645)]),
        (4, range(1, 2100)),
        (7, range(1, 700)),
        (12, range(1, 300)),
        (30, range(1, 200)),
        (100, range(1, 140)),
    ],
    ids=lambda value: f"n={value}" if isinstance(value, int) else "",
)
def test_no_horizon_is_special(n, horizons, transpose):
    rng = np.random.default_rng(n)
    A, f = state_matrix(rng, n), rng.normal(size=(max(horizons) + 1, n))
    L = Bidiagonal(A)  # one matrix serves every horizon
    for T in horizons:
        part = f[: T + 1]
        assert_solves(A, part, L.solve(part, transpose=transpose), transpose)


@DIRECTIONS
@pytest.mark.parametrize("n", SIZES)
def test_a_contraction_agrees_with_the_plain_loop(n, transpose):
    rng = np.random.default_rng(n)
    A = 0.9 * np.linalg.qr(rng.normal(size=(n, n)))[0]  # |A| = 0.9: errors sum to at most 10x one
    f = rng.normal(size=(301, n))
    expected = loop(A, f, transpose)
    one_step = 2 * (n + 2) * EPS * (np.abs(expected).max() + np.abs(f).max())
    x = Bidiagonal(A).solve(f, transpose=transpose)
    np.testing.assert_allclose(x, expected, rtol=0, atol=10 * np.sqrt(n) * one_step)


def masses(n):
    """Masses in a row between springs, over a third of a second, without friction."""
    K = 2 * np.eye(n // 2) - np.eye(n // 2, k=1) - np.eye(n // 2, k=-1)
    zero = np.zeros_like(K)
    return scipy.linalg.expm(np.block([[zero, np.eye(n // 2)], [-K, zero]]) / 3)


SYSTEMS = {
    "masses": masses,
    "modes that die out": lambda n: np.diag(0.5 ** np.arange(1, n + 1)),
    "a delay": lambda n: np.eye(n, k=-1),
    "integrators": lambda n: scipy.linalg.expm(0.1 * np.eye(n, k=1)),
    "unstable": lambda n: 1.3 * np.linalg.qr(np.random.default_rng(n).normal(size=(n, n)))[0],
}


@DIRECTIONS
@pytest.mark.parametrize("held", [None, 1.0, 1e-10], ids=["driven", "held", "held near zero"])
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("n", "T"), [(20, 403), (24, 997), (60, 403), (118, 400)])
def test_steps_that_are_taken_at_once_hold_one_by_one(n, T, system, held, transpose):
    """Also in units far apart, without inputs, and where inputs hold states where they would not stay."""
    rng = np.random.default_rng([n, T])
    units = 10.0 ** rng.integers(-9, 10, size=n)
    A = SYSTEMS[system](n) * units[:, None] / units
    f = rng.normal(size=(T + 1, n)) * (1 / units if transpose else units)
    if held:  # at x of the size of f or, in two of eight steps, of less; were it not for rounding
        x = f[::-1] if transpose else f
        x[8::8] *= held
        x[9::8] *= held
        f = np.concatenate([x[:1], x[1:] - x[:-1] @ (A if transpose else A.T)])
        f = f[::-1].copy() if transpose else f
    with native.switched_off():
        L = Bidiagonal(A)
        assert_solves(A, f, L.solve(f, transpose=transpose), transpose)
        f[1:-1] = 0.0
        assert_solves(A, f, L.solve(f, transpose=transpose), transpose)


@DIRECTIONS
def test_most_steps_are_taken_at_once(transpose, monkeypatch):
    rng, solved = np.random.default_rng(0), []

    def counted(band, rhs, **options):
        solved.append(len(rhs) // 30 - 1)
        return scipy.linalg.lapack.dtbtrs(band, rhs, **options)

    monkeypatch.setattr(banded, "dtbtrs", counted)
    with native.switched_off():
        Bidiagonal(state_matrix(rng, 30)).solve(rng.normal(size=(1001, 30)), transpose=transpose)
    assert sum(solved) == 1000 // 8  # those from piece to piece


@DIRECTIONS
def test_units_of_steps_that_are_taken_at_once_are_exact(transpose):
    rng = np.random.default_rng(0)
    A, f = state_matrix(rng, 30), rng.normal(size=(500, 30))
    units = np.exp2(rng.integers(-40, 40, size=30))
    own = 1 / units if transpose else units
    with native.switched_off():
        x = Bidiagonal(A).solve(f, transpose=transpose)
        scaled = Bidiagonal(A * units[:, None] / units).solve(f * own, transpose=transpose)
    assert np.array_equal(scaled, x * own)


@DIRECTIONS
@VARYING
def test_solve_is_the_dense_solve(varying, transpose):
    rng = np.random.default_rng(5)
    T, n = 9, 3
    A = state_matrix(rng, n, T if varying else None)
    f = rng.normal(size=(T + 1, n))
    L = dense(A, T)
    expected = np.linalg.solve(L.T if transpose else L, f.ravel()).reshape(f.shape)
    x = Bidiagonal(A).solve(f, transpose=transpose)
    tolerance = f.size * EPS * np.linalg.cond(L) * np.abs(expected).max()
    np.testing.assert_allclose(x, expected, rtol=0, atol=tolerance)


@VARYING
@pytest.mark.parametrize("T", [1, 64, 257, 1000])
@pytest.mark.parametrize("n", [1, 2, 4, 12, 130])
def test_the_adjoint_is_the_transpose(n, T, varying):
    """It holds that <L^-1 f, g> = <f, L^-T g>."""
    rng = np.random.default_rng([n, T])
    A = state_matrix(rng, n, min(T, 64) if varying else None, radius=0.9)
    T = len(A) if varying else T
    f, g = rng.normal(size=(2, T + 1, n))
    L = Bidiagonal(A)
    x, p = L.solve(f), L.solve(g, transpose=True)
    scale = np.linalg.norm(x) * np.linalg.norm(g)
    assert abs(np.vdot(x, g) - np.vdot(f, p)) <= 1e-13 * scale


@DIRECTIONS
@VARYING
@BATCHES
@pytest.mark.parametrize(("n", "T"), [(1, 300), (3, 70), (12, 300), (130, 20)])
def test_leading_axes_are_a_batch(n, T, batch, varying, transpose):
    rng = np.random.default_rng([n, T])
    A = rng.normal(size=(T, n, n)) / np.sqrt(n) if varying else state_matrix(rng, n)
    f = rng.normal(size=(*batch, T + 1, n))
    x = Bidiagonal(A).solve(f, transpose=transpose)
    assert x.shape == f.shape
    assert_solves(A, f, x, transpose)


@DIRECTIONS
@BATCHES
def test_no_steps_leave_the_data_as_it_is(batch, transpose):
    f = np.random.default_rng(1).normal(size=(*batch, 1, 3))
    assert np.array_equal(Bidiagonal(np.eye(3)).solve(f, transpose=transpose), f)


@DIRECTIONS
@VARYING
@pytest.mark.parametrize("batch", [(0,), (3, 0)], ids=str)
def test_an_empty_batch_has_an_empty_solution(batch, varying, transpose):
    L = Bidiagonal(np.zeros((4, 2, 2)) if varying else np.zeros((2, 2)))
    assert L.solve(np.zeros((*batch, 5, 2)), transpose=transpose).shape == (*batch, 5, 2)


# --- memory ----------------------------------------------------------------------------------


@DIRECTIONS
@VARYING
@BATCHES
@pytest.mark.parametrize("n", [3, 130])
def test_overwrite_works_in_place_and_gives_the_same(n, batch, varying, transpose):
    rng = np.random.default_rng(2)
    A = state_matrix(rng, n, 20 if varying else None)
    f = rng.normal(size=(*batch, 21, n))
    L = Bidiagonal(A)
    kept = f.copy()
    expected = L.solve(f, transpose=transpose)
    assert np.array_equal(f, kept), "without overwrite, f stays as it is"
    x = L.solve(f, transpose=transpose, overwrite=True)
    assert np.shares_memory(x, f)
    assert np.array_equal(x, f)
    assert np.array_equal(x, expected)


@DIRECTIONS
@VARYING
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda f: np.repeat(f, 2, axis=-1)[..., ::2],
        lambda f: np.repeat(f, 2, axis=-2)[..., ::2, :],
        lambda f: f[..., ::-1, :].copy()[..., ::-1, :],
        lambda f: np.broadcast_to(f[:1], f.shape),
    ],
    ids=["fortran", "strided-columns", "strided-steps", "reversed", "broadcast"],
)
@pytest.mark.parametrize("n", [2, 130])
def test_any_memory_layout_gives_the_same(n, layout, overwrite, varying, transpose):
    rng = np.random.default_rng(3)
    L = Bidiagonal(state_matrix(rng, n, 20 if varying else None))
    f = layout(rng.normal(size=(3, 21, n)))
    expected = L.solve(np.ascontiguousarray(f), transpose=transpose)
    x = L.solve(f, transpose=transpose, overwrite=overwrite)
    np.testing.assert_allclose(x, expected, rtol=0, atol=n * EPS * np.abs(expected).max())


@VARYING
def test_a_read_only_right_hand_side_is_left_alone(varying):
    rng = np.random.default_rng(4)
    L = Bidiagonal(state_matrix(rng, 2, 9 if varying else None))
    f = rng.normal(size=(10, 2))
    expected = L.solve(f)
    f.setflags(write=False)
    assert np.array_equal(L.solve(f), expected)


def test_a_solve_does_not_depend_on_the_solves_before_it():
    rng = np.random.default_rng(6)
    A, f = state_matrix(rng, 3), rng.normal(size=(2001, 3))
    L = Bidiagonal(A)
    for T in (5, 2000, 70, 1, 900):
        for transpose in (True, False):
            fresh = Bidiagonal(A).solve(f[: T + 1], transpose=transpose)
            again = L.solve(f[: T + 1], transpose=transpose)
            np.testing.assert_allclose(again, fresh, rtol=0, atol=1e3 * EPS * np.abs(fresh).max())


# --- what cannot be solved -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "T", "growth"),
    [(1, 100, 1e4), (3, 100, 1e4), (12, 100, 1e4), (30, 600, 2.0), (130, 100, 1e4)],
)
@VARYING
def test_overflow_is_reported_at_the_step_where_the_loop_overflows(n, T, growth, varying):
    rng = np.random.default_rng(n)
    A = state_matrix(rng, n, radius=2.0) * growth
    f = np.zeros((T + 1, n))
    f[0] = rng.normal(size=n)
    L = Bidiagonal(np.array([A] * T) if varying else A)
    with np.errstate(all="ignore"):
        first = int(np.argmax(~np.isfinite(loop(A, f, False)).all(axis=1)))
        last = T - int(np.argmax(~np.isfinite(loop(A, f[::-1], True)[::-1]).all(axis=1)))
    assert 0 < first < T
    with pytest.raises(NonFiniteError, match=rf"\b{first}\b"):
        L.solve(f)
    with pytest.raises(NonFiniteError, match=rf"\b{last}\b"):
        L.solve(f[::-1].copy(), transpose=True)


@pytest.mark.parametrize("n", [2, 130])
def test_overflow_in_one_series_of_a_batch_is_found(n):
    f = np.zeros((2, 3, 2001, n))
    f[1, 2, 0, 1] = 1.0
    with pytest.raises(NonFiniteError, match=r"\b1024\b"):
        Bidiagonal(2.0 * np.eye(n)).solve(f)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (0, 2), (4, 1), ()], ids=str)
def test_a_right_hand_side_that_does_not_fit_is_refused(shape):
    with pytest.raises(ShapeError, match="f has shape"):
        Bidiagonal(np.eye(2)).solve(np.zeros(shape))


def test_a_right_hand_side_of_another_horizon_is_refused():
    with pytest.raises(ShapeError, match=r"f has shape \(5, 2\)"):
        Bidiagonal(np.zeros((5, 2, 2))).solve(np.zeros((5, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_non_finite_step_is_found(bad):
    x = np.ones((2, 6, 3))
    assert first_nonfinite_step(x) is None
    assert first_nonfinite_step(x, reverse=True) is None
    x[1, 2, 0] = x[0, 4, 1] = bad
    assert first_nonfinite_step(x) == 2
    assert first_nonfinite_step(x, reverse=True) == 4
    assert first_nonfinite_step(x[0]) == 4
    x[0, 0, 2] = x[1, 5, 2] = bad
    assert first_nonfinite_step(x) == 0
    assert first_nonfinite_step(x, reverse=True) == 5


def test_finite_numbers_whose_sum_overflows_are_finite():
    x = np.full((4, 2), 1.7e308)
    assert first_nonfinite_step(x) is None
    x[2] = -1.7e308
    assert first_nonfinite_step(x) is None
    assert np.array_equal(Bidiagonal(np.zeros((2, 2))).solve(np.abs(x)), np.abs(x))


# --- block-tridiagonal -----------------------------------------------------------------------


def tridiagonal(seed, N, n):
    """Blocks of G G' + I/10 with G block-bidiagonal, which is positive definite; and the matrix."""
    rng = np.random.default_rng(seed)
    G = np.zeros((N * n, N * n))
    for t in range(N):
        G[t * n : (t + 1) * n, t * n : (t + 1) * n] = rng.normal(size=(n, n))
        if t:
            G[t * n : (t + 1) * n, (t - 1) * n : t * n] = rng.normal(size=(n, n))
    H = G @ G.T + 0.1 * np.eye(N * n)
    block = H.reshape(N, n, N, n)
    diagonal = np.array([block[t, :, t] for t in range(N)])
    below = np.array([block[t + 1, :, t] for t in range(N - 1)]).reshape(N - 1, n, n)
    return diagonal, below, H


@pytest.mark.parametrize("N", [1, 2, 3, 8, 30])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@BATCHES
def test_block_tridiagonal_solve_is_the_dense_solve(n, N, batch):
    diagonal, below, H = tridiagonal([n, N], N, n)
    f = np.random.default_rng(N).normal(size=(*batch, N, n))
    kept = f.copy()
    x = BlockTridiagonal(diagonal, below).solve(f)
    expected = np.linalg.solve(H, f.reshape(-1, N * n).T).T.reshape(f.shape)
    # Cholesky in a band of w = 2n entries per row: backward error of w eps |H|
    tolerance = 10 * (2 * n + N) * EPS * np.linalg.cond(H) * np.abs(expected).max()
    assert x.shape == f.shape
    np.testing.assert_allclose(x, expected, rtol=0, atol=tolerance)
    assert np.array_equal(f, kept)


def test_block_tridiagonal_reads_only_the_lower_triangles():
    diagonal, below, _ = tridiagonal(0, 6, 3)
    f = np.random.default_rng(0).normal(size=(6, 3))
    expected = BlockTridiagonal(diagonal, below).solve(f)
    lower = np.tril(diagonal) + 7.0 * np.triu(np.ones((3, 3)), 1)
    assert np.array_equal(BlockTridiagonal(lower, below).solve(f), expected)


def test_block_tridiagonal_leaves_its_blocks_alone():
    diagonal, below, _ = tridiagonal(1, 6, 3)
    kept = diagonal.copy(), below.copy()
    H = BlockTridiagonal(diagonal, below)
    f = np.ones((6, 3))
    first = H.solve(f)
    assert np.array_equal(H.solve(f), first), "the factor serves again"
    assert np.array_equal(diagonal, kept[0])
    assert np.array_equal(below, kept[1])


@pytest.mark.parametrize("layout", ["fortran", "strided", "integer", "read-only"])
def test_block_tridiagonal_takes_any_right_hand_side(layout):
    diagonal, below, _ = tridiagonal(2, 5, 2)
    H = BlockTridiagonal(diagonal, below)
    f = np.arange(30.0).reshape(3, 5, 2)
    expected = H.solve(f)
    f = {
        "fortran": np.asfortranarray(f),
        "strided": np.repeat(f, 2, axis=-1)[..., ::2],
        "integer": f.astype(int),
        "read-only": np.broadcast_to(f, f.shape),
    }[layout]
    np.testing.assert_allclose(H.solve(f), expected, rtol=1e-14)


@pytest.mark.parametrize("bad", [0, 3, 7])
@pytest.mark.parametrize("n", [1, 3])
def test_block_tridiagonal_names_the_block_that_is_not_positive_definite(n, bad):
    diagonal = np.array([np.eye(n)] * 8)
    diagonal[bad, n - 1, n - 1] = -1.0
    with pytest.raises(NotConvexError, match=rf"\b{bad}\b"):
        BlockTridiagonal(diagonal, np.zeros((7, n, n)))


def test_positive_blocks_do_not_make_a_positive_definite_matrix():
    """[1 2; 2 1] has the eigenvalue -1: block 1 is where Cholesky breaks."""
    with pytest.raises(NotConvexError, match=r"\b1\b"):
        BlockTridiagonal(np.ones((2, 1, 1)), np.full((1, 1, 1), 2.0))


def test_singular_is_not_positive_definite():
    with pytest.raises(NotConvexError):
        BlockTridiagonal(psd(np.random.default_rng(0), 2, rank=0)[None], np.zeros((0, 2, 2)))


@pytest.mark.parametrize("shape", [(3,), (4, 3), (5, 2), (2, 4), ()], ids=str)
def test_block_tridiagonal_refuses_a_right_hand_side_that_does_not_fit(shape):
    H = BlockTridiagonal(np.array([np.eye(2)] * 4), np.zeros((3, 2, 2)))
    with pytest.raises(ShapeError, match="f has shape"):
        H.solve(np.zeros(shape))


def test_block_tridiagonal_refuses_a_solution_that_overflows():
    H = BlockTridiagonal(np.full((3, 1, 1), 1e-200), np.zeros((2, 1, 1)))
    with pytest.raises(NonFiniteError, match="solution is not finite in block"):
        H.solve(np.array([[1.0], [1e200], [1.0]]))


def test_threads_that_share_one_matrix_find_its_band_whole():
    """A band is seen by other threads when it is filled, and not before."""
    rng = np.random.default_rng(0)
    A, f = 0.4 * rng.normal(size=(6, 6)), rng.normal(size=(301, 6))
    lengths = [301, 21, 301, 21, 151, 301, 41, 301]
    right = Bidiagonal(A).solve(f)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(300):
                L = Bidiagonal(A)
                for x in threads.map(lambda N, L=L: L.solve(f[:N]), lengths):
                    np.testing.assert_allclose(x, right[: len(x)], rtol=1e-10, atol=1e-12)
    finally:
        sys.setswitchinterval(interval)


def test_a_band_is_kept_only_where_it_has_room():
    A = np.random.default_rng(0).normal(size=(400, 3, 3)) / 3
    f = np.random.default_rng(1).normal(size=(401, 3))
    for room, kept in ((0, False), (2 * A.nbytes, True)):
        L = Bidiagonal(A, room=room)
        tracemalloc.start()
        with lqrad.native.switched_off():
            answers = [L.solve(f, transpose=t) for t in (False, True, False, True)]
        held = tracemalloc.get_traced_memory()[0] - sum(x.nbytes for x in answers)
        tracemalloc.stop()
        assert (answers[0] == answers[2]).all()
        assert (answers[1] == answers[3]).all()
        assert (held > 1.5 * A.nbytes) == kept
        assert held < 2.5 * A.nbytes
