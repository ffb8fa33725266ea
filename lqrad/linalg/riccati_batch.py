"""The Riccati recursions of many problems of the same sizes: each stage for all of them at once.

The recursion is that of `linalg.riccati`, with N = [B'P[t+1]A + M' | B'e + r], whose last column gives k, and
G = U D U' with a unit U below the diagonal: no roots, so that powers of two stay exact. The last axis of all
arrays is that of the problems, so that a product of matrices is a sum of products of long rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import EPS, Array
from lqrad.native.batch import Solutions

# An eigenvalue of P below minus this, with P scaled to a unit diagonal, is no mere rounding error.
_INDEFINITE = 1e-12
# Where less than one part in so many is left of a diagonal entry of P, three digits are lost.
_MOST_CANCELLED = 2.0**10


def run_recursions(z: Mapping[str, Any], found: Solutions) -> None:
    """Run the recursions of b problems backward from P[T], which is there, v[T] = s and w[T] = 0.

    The arrays A, B, Q, R, M, c, q, r, s in `z` are (T or 1, ..., b or 1), or None where they are zero.

    Examples
    --------
    >>> one = np.ones((1, 1, 1, 1))
    >>> z = dict.fromkeys("Mcqrs") | {"A": one, "B": np.array([[[[1.0, 0.0]]]]), "Q": one, "R": one}
    >>> found = Solutions.of_sizes(2, 1, 1, 1)
    >>> found.P[:, 1] = 1.0
    >>> run_recursions(z, found)
    >>> found.P[:, 0].ravel(), found.K.ravel(), found.doubtful
    (array([1.5, 2. ]), array([0.5, 0. ]), array([False, False]))
    """
    P, K, k, v, w, doubtful = found
    b, T, m, n = K.shape
    linear = any(z[name] is not None for name in "cqrs")
    AB = _blocks(n, (0, 0, z["A"]), (0, n, z["B"]))
    # The lower triangle of [Q M; M' R] is read.
    cross = None if z["M"] is None else z["M"].swapaxes(1, 2)
    weights = _blocks(n + m, (0, 0, z["Q"]), (n, 0, cross), (n, n, z["R"]))
    H, N = np.empty((n + m, n + m, b)), np.empty((m, n + linear, b))
    now = np.ascontiguousarray(P[:, T].transpose(1, 2, 0))
    diagonals, pivots = np.empty((T, n, b)), np.empty((T, m, b))
    if z["s"] is not None:
        v[:, T] = z["s"][0].T
    for t in reversed(range(T)):
        ab, weight = _at(AB, t), _at(weights, t)
        diagonals[t] = np.einsum("iib->ib", now)
        PAB = np.einsum("kib,kjb->ijb", now, ab)
        for i in range(n + m):
            np.add(weight[i, : i + 1], _inner(ab[:, i], PAB[:, : i + 1]), out=H[i, : i + 1])
        G, N[:, :n] = H[n:, n:], H[n:, :n]
        if linear:
            c, q, r = (_at(z[name], t) for name in "cqr")
            after = v[:, t + 1].T
            e = after
            if c is not None:
                e = e + np.einsum("ijb,jb->ib", now, np.broadcast_to(c, (n, b)))
                w[:, t] = 0.5 * (c * (after + e)).sum(axis=0)
            slope = _inner(e, ab)
            h = slope[n:] if r is None else slope[n:] + r
            N[:, n] = h
        pivots[t] = _eliminate(G, N)
        gain = N / pivots[t, :, None]
        for i in range(n):
            np.subtract(H[i, : i + 1], _inner(gain[:, i], N[:, : i + 1]), out=now[i, : i + 1])
            doubtful |= ~(_MOST_CANCELLED * now[i, i] >= H[i, i])
            now[:i, i] = now[i, :i]
        for i in range(m - 1, 0, -1):
            for j in range(i):
                gain[j] -= G[i, j] * gain[i]
        P[:, t], K[:, t] = now.transpose(2, 0, 1), gain[:, :n].transpose(2, 0, 1)
        if linear:
            k[:, t] = gain[:, n].T
            slope = slope[:n] - np.einsum("jib,jb->ib", gain[:, :n], h)
            v[:, t] = (slope if q is None else slope + q).T
            w[:, t] += w[:, t + 1] - 0.5 * (gain[:, n] * h).sum(axis=0)
    # A pivot below this may be a rounding error of its terms: these are at most
    # R[j][j] + (sum_i |B[i][j]| sqrt(P[i][i]))^2, and the square at most n times that of the terms.
    terms = n * np.einsum("tib,tijb->tjb", diagonals, np.broadcast_to(z["B"] ** 2, (T, n, m, b)))
    terms += np.einsum("tjjb->tjb", z["R"])
    doubtful |= ~(pivots > (n + m) * EPS * terms).all(axis=(0, 1)) | ~_semidefinite(now)
    for array in (P, K, v, w):
        if not np.isfinite(np.vdot(array, array)):
            doubtful |= ~np.isfinite(array).reshape(b, -1).all(axis=1)


def _eliminate(G: Array, N: Array) -> Array:
    """Solve U X = N in place for G = U D U' (m, m, b), U below the diagonal of G in place; return D (m, b)."""
    m = len(G)
    for i in range(m):
        for j in range(i + 1, m):
            factor = G[j, i] / G[i, i]
            for k in range(i + 1, j):
                G[j, k] -= G[j, i] * G[k, i]  # the factor of row k
            G[j, j] -= G[j, i] * factor
            N[j] -= factor * N[i]
            G[j, i] = factor
    return np.asarray(np.einsum("iib->ib", G))


def _semidefinite(P: Array) -> NDArray[np.bool_]:
    """Whether each P (n, n, b) is semidefinite, to what rounding errors may add up to."""
    n, _, b = P.shape
    raised = P.copy()
    for i in range(n):
        raised[i, i] += _INDEFINITE * P[i, i] + np.finfo(np.float64).tiny
    return np.asarray((_eliminate(raised, np.zeros((n, 0, b))) > 0).all(axis=0))


def _blocks(n: int, *blocks: tuple[int, int, Array | None]) -> Array:
    """The block matrix of arrays (T or 1, ..., b or 1), each given with its first row and column."""
    given = [(i, j, z) for i, j, z in blocks if z is not None]
    T, b = (max(z.shape[axis] for _, _, z in given) for axis in (0, -1))
    columns = max(j + z.shape[2] for _, j, z in given)
    whole = np.zeros((T, n, columns, b))
    for i, j, z in given:
        whole[:, i : i + z.shape[1], j : j + z.shape[2]] = z
    return whole


def _inner(y: Array, M: Array) -> Array:
    """Y'M for y (k, b) and M (k, j, b)."""
    return np.asarray(np.einsum("kb,kjb->jb", y, M))


def _at(array: Array | None, t: int) -> Any:
    return None if array is None else array[t if len(array) > 1 else 0]
