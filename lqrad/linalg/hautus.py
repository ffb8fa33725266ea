"""The test of Popov, Belevitch and Hautus: whether inputs move a mode, or outputs show it.

B cannot move the mode s of A where w'[A - sI, B] = 0 for some w, and C does not show it where
[A - sI; C] v = 0 for some v: the same test of A' and C'. It is made in balanced units, so that what
counts as zero does not depend on those of the model.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs, svd
from scipy.linalg.lapack import dgees, dtrsen

from lqrad.arguments import EPS, Array, check_finite
from lqrad.linalg.balance import Exponents, balance, in_units

Complex = NDArray[np.complex128]

# Rounding errors split a multiple eigenvalue. Where the distance is below this, the test is also made
# where it may have been, as often as that leads nearer to zero.
_SPLIT = 1e-4
_MOST_TRIES = 6
# Eigenvalues as near as this to one out of reach are looked at together with it.
_TOGETHER = 1e-5
_MOST_STEPS, _STILL = 20, 1e-4  # of inverse iteration
_BLOCK = 16  # columns that LAPACK takes together


class Hautus(NamedTuple):
    """What `hautus` finds of each mode, the largest magnitude first.

    Attributes
    ----------
    distances : (n,)
        The least singular value of [A - sI, B] relative to the norm of [A, B], B scaled to A: zero
        where the mode cannot be moved.
    directions : (n, n), complex
        The left singular vector that belongs to it, a row for each mode: where the distance is
        zero, the left eigenvector that B is orthogonal to.
    reached : (n,) of bool
        As many are true as the reachable subspace has dimensions: of a multiple eigenvalue, some.
    units : (n,) of int
        Exponents of two: in units of 2^units the states are of comparable size. The test is made
        in these, and the largest entry of a direction, which is one, is the largest in them.
    """

    modes: Complex
    distances: Array
    directions: Complex
    reached: NDArray[np.bool_]
    units: Exponents


def hautus(A: Array, B: Array, *, zero: float) -> Hautus:
    """Apply the test to every eigenvalue of A; distances up to `zero` count as zero.

    The modes at a distance of zero are split off by an ordered Schur form, and a staircase tells
    which part of them is out of reach.

    References
    ----------
    Hautus, Controllability and observability conditions of linear autonomous systems, Indagationes
    Mathematicae 31, 1969, 443-448.
    Van Dooren, The generalized eigenstructure problem in linear system theory, IEEE Trans.
    Automatic Control 26, 1981, 111-129 (staircase).

    Examples
    --------
    >>> found = hautus(np.diag([2.0, 0.5, 0.5]), np.array([[0.0], [1.0], [1.0]]), zero=1e-10)
    >>> found.modes.real, found.reached
    (array([2. , 0.5, 0.5]), array([False,  True, False]))
    """
    units = balance(A, B, continuous=True)
    A, B = (in_units(z, units.x, unit, units.time) for z, unit in ((A, units.x), (B, units.u)))
    size, reach = np.abs(A).max(), np.abs(B).max(initial=0.0)
    if size and reach:
        B = B * (size / reach)
    scale = float(np.linalg.norm(np.concatenate([A, B], axis=1), 2)) or 1.0
    modes, distances, W, reached = _test(A / scale, B / scale, zero)
    # The largest entry becomes one, and the units of the model are put back.
    each, largest = np.arange(len(A)), np.abs(W).argmax(axis=1)
    W /= W[each, largest][:, None]
    W[each, largest] = 1.0
    W[modes.imag == 0] = W[modes.imag == 0].real  # a real one, but for the rounding of its phase
    powers = units.x[largest][:, None] - units.x
    W = np.ldexp(W.real, powers) + 1j * np.ldexp(W.imag, powers)
    order = np.argsort(-np.abs(modes), kind="stable")
    with np.errstate(over="ignore"):
        scale = np.ldexp(scale, -units.time)
    check_finite("the size of A", scale, computed=True)
    return Hautus(scale * modes[order], distances[order], W[order], reached[order], units.x)


def _test(A: Array, B: Array, zero: float) -> tuple[Complex, Array, Complex, NDArray[np.bool_]]:
    """The modes of a balanced system in any order, their distances and directions, and `reached`."""
    if not len(A):  # LAPACK would complain of it on the terminal
        none = np.zeros((0, 0), dtype=np.complex128)
        return none.ravel(), np.zeros(0), none, np.zeros(0, dtype=bool)
    T, _, _, _, Z, _, _ = dgees(lambda *_: False, A)  # a real Schur form, Z T Z'
    modes, distances, W = _distances(T, Z, B, zero)
    reached = distances > zero
    if reached.all():
        return modes, distances, W, reached
    near = np.abs(modes[:, None] - modes[~reached]).min(axis=1) <= _TOGETHER
    T, Z, _, _, count, _, _, info = dtrsen(~near, T, Z, job="N")
    if info:  # some are too near to the others to change places with them
        near[:], count = True, 0
    Q, k = _staircase(T[count:, count:], Z[:, count:].T @ B, zero)
    if k == len(A):  # no part is out of reach by itself: the test decides
        return modes, distances, W, reached
    U = Z[:, count:] @ Q
    reach, rest = U[:, :k], U[:, k:]
    inner = _test(reach.T @ A @ reach, reach.T @ B, zero)
    lost, V = np.linalg.eig((rest.T @ A @ rest).T)
    V = V.conj().T @ rest.T
    errors = np.concatenate([V.conj() @ A - lost[:, None] * V.conj(), V.conj() @ B], axis=1)
    outer = (lost, np.linalg.norm(errors, axis=1), V, np.zeros(len(lost), dtype=bool))
    inner = (*inner[:2], inner[2] @ reach.T, inner[3])
    for whole, *parts in zip((modes, distances, W, reached), inner, outer, strict=True):
        whole[near] = np.concatenate(parts)
    return modes, distances, W, reached


def _staircase(F: Array, G: Array, zero: float) -> tuple[Array, int]:
    """Return orthogonal Q and k such that G, and F from there on, reach the first k of its columns.

    Q'FQ has no entry above zero in the rows from k and the columns before it, and Q'G none in these
    rows.
    """
    n = len(F)
    Q, k, block = np.eye(n), 0, G
    while k < n:
        left, values, _ = svd(block)
        rank = int((values > zero).sum())
        if not rank:
            break
        Q[:, k:] = Q[:, k:] @ left
        block = Q[:, k + rank :].T @ F @ Q[:, k : k + rank]
        k += rank
    return Q, k


def _distances(
    T: NDArray[Any], Z: NDArray[Any], B: Array, zero: float
) -> tuple[Complex, Array, Complex]:
    """The modes of Z T Z', the least singular value of [A - sI, B] at each, and its left vector.

    With [A - sI, B]' upper triangular, but for the rows of B', a QR factorisation of each takes n^2 m
    operations, and inverse iteration as many.
    """
    n, pairs = len(T), np.flatnonzero(T.diagonal(-1))
    if len(pairs):
        T, Z = _triangular(T, Z, pairs)
    modes, distances = T.diagonal().astype(np.complex128), np.empty(n)
    W = np.empty((n, n), dtype=np.complex128)
    turned = np.asfortranarray(T[::-1, ::-1].conj().T)
    rows = np.asfortranarray((B.T @ Z)[:, ::-1])
    for i in np.delete(np.arange(n), pairs + 1):
        s = T[i, i]
        distances[i], w = _least(turned, rows, s)
        for _ in range(_MOST_TRIES if zero < distances[i] < _SPLIT else 0):
            # Newton's step to a root of the least singular value, with M*w / |M*w| for its v.
            slope = np.vdot(w, turned @ w - np.conj(s) * w)
            if not slope:
                break
            s = s + distances[i] ** 2 / slope
            distance, better = _least(turned, rows, s)
            if distance >= distances[i]:
                break
            distances[i], w = distance, better
        W[i] = Z @ w[::-1]
    modes[pairs + 1], distances[pairs + 1] = modes[pairs].conj(), distances[pairs]
    W[pairs + 1] = W[pairs].conj()
    return modes, distances, W


def _triangular(T: Array, Z: Array, pairs: NDArray[np.intp]) -> tuple[Complex, Complex]:
    """Make a real Schur form Z T Z' a complex one, by a rotation of each pair.

    LAPACK's pairs are [[a, b], [c, a]] with b c < 0, and (mu, c) is an eigenvector of a + mu.
    """
    S, U = T.astype(np.complex128), Z.astype(np.complex128)
    for i in pairs.tolist():
        two, (b, c) = slice(i, i + 2), (abs(T[i, i + 1]), T[i + 1, i])
        mu = 1j * math.sqrt(b) * math.sqrt(abs(c))
        G = np.array([[-mu, c], [-c, mu]]) / math.hypot(mu.imag, c)
        S[two, i:] = G @ S[two, i:]
        turn = G.conj().T
        S[: i + 2, two] = S[: i + 2, two] @ turn
        U[:, two] = U[:, two] @ turn
        S[i + 1, i] = 0.0
    return S, U


def _least(turned: Array, rows: Array, s: complex) -> tuple[float, Array]:
    """The least singular value of [turned - conj(s) I; rows], and its right vector."""
    n = len(turned)
    tpqrt, trtrs = get_lapack_funcs(("tpqrt", "trtrs"), (turned,))
    R = turned.copy(order="F")
    R.flat[:: n + 1] -= np.conj(s)
    whole = np.concatenate([R, rows])
    R = tpqrt(0, min(n, _BLOCK), R, rows, overwrite_a=1)[0]
    diagonal = R.diagonal()
    R.flat[:: n + 1] = np.where(np.abs(diagonal) > EPS, diagonal, EPS)
    w, last = np.full(n, n**-0.5, dtype=turned.dtype), 0.0
    for _ in range(_MOST_STEPS):
        w = trtrs(R, trtrs(R, w, trans=2)[0])[0]
        size = math.sqrt(np.vdot(w, w).real)
        if not math.isfinite(size):  # a long chain of zeros
            w = svd(whole)[2][-1].conj()
            break
        w /= size
        if abs(size - last) <= _STILL * size:
            break
        last = size
    return float(np.linalg.norm(whole @ w)), w
