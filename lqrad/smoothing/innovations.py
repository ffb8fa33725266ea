"""The filter in covariances and its adjoint, whose kernels and equations are those of likelihood.h, in NumPy.

A missing entry has a row of zeros in C, S, e and g here, and the variance one: it adds nothing to any sum.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpotrf, dtrtrs

from lqrad.arguments import Array
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.stages import substitute
from lqrad.linalg.tridiagonal import congruences
from lqrad.native.likelihood import State
from lqrad.smoothing.arrays import product, transposed
from lqrad.smoothing.model import SmoothingProblem

# A variance that is a smaller part of the terms that were subtracted has lost digits.
MOST_LOST = 1e-3


class Series(NamedTuple):
    """A series (T+1, ny) with its gaps closed, as of `SmoothingProblem.observations`, and where it has none."""

    z: Array
    C: Array
    V: Array
    seen: NDArray[np.bool_]

    @classmethod
    def of(cls, problem: SmoothingProblem, y: Array) -> Series:
        """Close the gaps of y."""
        z, C, V, _ = problem.observations(y)
        return cls(z, C, V, ~np.isnan(y))


@np.errstate(invalid="ignore", over="ignore")
def forward(
    problem: SmoothingProblem,
    series: Series,
    first: int,
    last: int,
    state: State,
    trace: dict[str, Array],
) -> bool:
    """Run the filter at the times first, ..., last - 1; False where digits are lost."""
    x, M, P, R, log_determinant = state
    n, ny, T = len(P), series.z.shape[1], len(series.z) - 1
    A, W = (np.broadcast_to(z, (T, n, n)) for z in (problem.A, problem.W))
    c, C = np.broadcast_to(problem.c, (T, n)), np.broadcast_to(series.C, (T + 1, ny, n))
    V = np.broadcast_to(series.V, (T + 1, ny, ny))
    ahead = np.column_stack([P, M, x])
    series_of = (C, series.z, V), (A, c, W)
    run = _numbers if n == ny == 1 and M.size <= 1 else _stages
    found = run(np.column_stack([P, M, x]), first, last, *series_of)
    if found is None:
        return False
    predicted, filtered, Y, L, ahead = found
    P[:], M[:], x[:] = ahead[:, :n], ahead[:, n:-1], ahead[:, -1]
    times = slice(first, last)
    # Each variance beside the terms that were subtracted on the way to it, as A carries them on.
    size = np.sqrt(np.diagonal(predicted, axis1=1, axis2=2))
    pivots = np.diagonal(L, axis1=1, axis2=2)
    terms = (np.abs(C[times]) @ size[..., None])[..., 0] ** 2
    terms += np.diagonal(V[times], axis1=1, axis2=2)
    carried = (np.abs(A[first : min(last, T)]) @ size[: T - first, :, None])[..., 0] ** 2
    variances = np.append(size[1:], np.sqrt(P.diagonal())[None], axis=0)[: len(carried)] ** 2
    if not ((pivots**2 > MOST_LOST * terms).all() and (variances >= MOST_LOST * carried).all()):
        return False
    parts = {"S": Y[..., :n], "L": L, "e": -Y[..., -1], "g": -Y[..., n:-1]}
    parts |= {"P": filtered[..., :n], "M": filtered[..., n:-1], "x": filtered[..., -1]}
    for name in trace:
        trace[name][times] = parts[name]
    log_determinant += 2 * np.log(pivots).sum()
    add_rows(R, -Y[..., n:].reshape(-1, len(R)))
    return bool(np.isfinite(R[-1, -1]))


def _stages(
    ahead: Array, first: int, last: int, seen: tuple[Array, ...], driven: tuple[Array, ...]
) -> tuple[Array, ...] | None:
    """[P, M, x] predicted and filtered, Y = L^-1 (C [P, M, x] - [0, 0, z]), L, and what is predicted last.

    None where an L is not to be found.
    """
    (C, z, V), (A, c, W) = seen, driven
    n, width = ahead.shape
    rows, ny = last - first, z.shape[1]
    predicted, filtered = np.empty((2, rows + 1, n, width))
    Y, roots = np.empty((rows, ny, width)), np.empty((rows, ny, ny))
    predicted[0] = ahead
    for k, t in enumerate(range(first, last)):
        ahead, y = predicted[k], Y[k]
        C[t].dot(ahead, out=y)
        y[:, -1] -= z[t]
        F = y[:, :n].dot(C[t].T) + V[t]
        if ny == 1:
            f = F.item()
            if not f > 0:
                return None
            roots[k] = f = math.sqrt(f)
            y /= f
        else:
            roots[k], failed = dpotrf(F, lower=1)
            if failed:
                return None
            y[...] = dtrtrs(roots[k], y, lower=1)[0]
        here = np.subtract(ahead, y[:, :n].T.dot(y), out=filtered[k])
        if t == len(A):  # nothing is driven at T
            break
        ahead = A[t].dot(here, out=predicted[k + 1])
        ahead[:, -1] += c[t]
        P = ahead[:, :n].dot(A[t].T) + W[t]
        np.multiply(P + P.T, 0.5, out=ahead[:, :n])
    return predicted[:-1], filtered[:-1], Y, roots, ahead


def _numbers(
    ahead: Array, first: int, last: int, seen: tuple[Array, ...], driven: tuple[Array, ...]
) -> tuple[Array, ...] | None:
    """`_stages` of one state and one output, in Python's numbers: ten times as fast as with arrays of one."""
    rows: list[tuple[float, ...]] = []
    P, *moved, x = ahead[0].tolist()
    M = moved[0] if moved else 0.0
    numbers = [array[first:last].ravel().tolist() for array in (*seen, *driven)]
    for h, z, v, a, c, w in zip_longest(*numbers, fillvalue=0.0):  # nothing is driven at T
        S = h * P
        f = S * h + v
        if not f > 0:
            return None
        L = math.sqrt(f)
        s, m, e = S / L, h * M / L, (h * x - z) / L
        P_here, M_here, x_here = P - s * s, M - s * m, x - s * e
        rows.append((P, M, x, P_here, M_here, x_here, s, m, e, L))
        P, M, x = a * P_here * a + w, a * M_here, a * x_here + c
    found = np.array([*rows, (P, M, x, *7 * [0.0])])[:, None]
    here = [0, 1, 2] if moved else [0, 2]
    predicted, filtered, Y = (found[:-1, :, i : i + 3][..., here] for i in (0, 3, 6))
    return predicted, filtered, Y, found[:-1, :, 9:], found[-1][:, here]


def add_rows(R: Array, rows: Array) -> None:
    """Add rows [g, e] to the triangle R (k+1, k+1), whose last entry adds up the squares that are left."""
    k = len(R) - 1
    if k:
        triangle: Array = np.asarray(np.linalg.qr(np.concatenate([R[:k], rows]), mode="r"))
        R[:k], rows = triangle[:k], triangle[k:, k:]
    R[k, k] += np.vdot(rows, rows)


def at_start(z: Array, R: Array, b: Array) -> Array:
    """What answers z (1+k, ...) to b = 0 and to b, at the b that was estimated, and to b / R."""
    k = len(b)
    if not k:
        return z
    flat = z.reshape(k + 1, -1)
    moved = solve_triangular(R[:k, :k], flat[1:], trans=1)
    return np.concatenate([flat[:1] + b @ flat[1:], moved]).reshape(z.shape)


def backward(
    problem: SmoothingProblem,
    series: Series,
    last: int,
    R: Array,
    b: Array,
    trace: dict[str, Array],
    costates: tuple[Array, Array, Array],
    gradients: dict[str, Array],
) -> bool:
    """Add the gradients of the times before the last; False where they are not finite."""
    p, pb, N_ahead = costates
    n, ny, T = problem.n, problem.ny, len(series.z) - 1
    S, L = trace["S"][:last], trace["L"][:last]
    A = np.broadcast_to(problem.A, (T, n, n))[:last]
    if last > T:  # there is nothing left to predict
        A = np.concatenate([A, np.zeros((1, n, n))])
    C = np.broadcast_to(series.C, (T + 1, ny, n))[:last]
    root = substitute(L, np.broadcast_to(np.eye(ny), L.shape))  # L^-1
    white, K = root @ C, product(S, root)
    AK = A @ K
    # The axes (1+k, times, ...) of what is at b, and how it answers to b / R.
    e = np.concatenate([trace["e"][None, :last], trace["g"][:last].transpose(2, 0, 1)])
    e = at_start(e, R, b)
    f = np.empty((len(e), last + 1, n))
    f[:, :last] = (e[..., None, :] @ white)[..., 0, :]
    f[0, last], f[1:, last] = p, pb.T
    F = A - AK @ C
    f = Bidiagonal(F).solve(f, transpose=True, overwrite=True)
    N, _ = congruences(F, np.concatenate([product(white, white), N_ahead[None]]))
    p[:], pb[:], N_ahead[:] = f[0, 0], f[1:, 0].T, N[0]
    ahead, N = f[:, 1:], N[1:]
    u = (e[..., None, :] @ root - ahead[..., None, :] @ AK)[..., 0, :]
    NA = N @ A

    def add(name: str, own: Array) -> None:
        to = gradients[name]
        if to.ndim == own.ndim:
            to[: len(own)] += own[: len(to)]
        else:
            to += own.sum(axis=0)

    if "c" in gradients:
        add("c", ahead[0])
    if "d" in gradients:
        add("d", u[0])
    if "W" in gradients:
        add("W", 0.5 * (_outer(ahead, ahead) - N))
    if "V" in gradients:
        own = 0.5 * (_outer(u, u) - product(root, root) - product(AK, N @ AK))
        seen = series.seen[:last]
        add("V", np.where(seen[:, :, None] & seen[:, None, :], own, 0.0))
    if not {"A", "C"}.isdisjoint(gradients):
        P = trace["P"][:last]
        x = np.concatenate([trace["x"][None, :last], trace["M"][:last].transpose(2, 0, 1)])
        x = at_start(x, R, b) + (ahead[..., None, :] @ (A @ P))[..., 0, :]
        pulled = NA @ P
        if "A" in gradients:
            add("A", _outer(ahead, x) - pulled)
        if "C" in gradients:
            add("C", _outer(u, x) + transposed(AK) @ pulled - transposed(K))
    if "m0" in gradients:
        gradients["m0"] += p
    if "P0" in gradients:
        gradients["P0"] += 0.5 * (np.outer(p, p) + pb @ pb.T - N_ahead)
    return bool(np.isfinite(p).all() and np.isfinite(N_ahead).all())


def _outer(y: Array, z: Array) -> Array:
    """The sums over the first axis of y[t] z[t]'."""
    return np.asarray(y.transpose(1, 2, 0) @ z.swapaxes(0, 1))
