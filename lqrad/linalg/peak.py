"""The largest gain of a stable system over all frequencies: its H-infinity norm.

G(s) = C (sI - A)^-1 B + D has the singular value g at s = i v just where the pencil

    [ A   0    0     B   ]                            x' = A x + B u
    [ 0  -A'  -C'    0   ]                            p' = -A'p - C'y
    [ C   0   -g I   D   ]  - s diag(I, I, 0, 0)      g y = C x + D u
    [ 0   B'   D'   -g I ]                            g u = B'p + D'y      of (x, p, y, u)

has the eigenvalue i v. So the frequencies at which a level is crossed are known, not searched for on
a grid: between two of them the gain is above the level, and its value there is the next level. Where
no frequency crosses a level, and the gain is below it somewhere, it is so everywhere.

An eigenvalue comes with an error that is small beside the largest one, and modes may be decades apart.
The pencil P - s E is therefore solved once for each size c that modes have: of the eigenvalues t of
(P - c E)^-1 E, those s = c + 1/t that are near c are accurate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array

Complex = NDArray[np.complex128]

# An eigenvalue whose real part is below this part of its size, or that is below this part of c, may be
# on the imaginary axis; what the gain is there decides.
_NEAR = 1e-4
# The level is above the best gain by this part, and the norm right to it.
_ABOVE = 1e-11
# Each level is a gain that is reached, and they converge quadratically.
_MOST_LEVELS = 60
# Modes within this factor are of one size. The search starts at so many of each size, the least damped.
_ONE_SIZE, _STARTS = 2.0**10, 8


def response(A: Array, B: Array, C: Array, D: Array, s: Complex) -> Complex:
    """Return C (sI - A)^-1 B + D at each s, infinite at an eigenvalue of A."""
    resolvent = s[:, None, None] * np.eye(len(A)) - A
    try:
        return np.asarray(C @ np.linalg.solve(resolvent, B + 0j) + D)
    except np.linalg.LinAlgError:  # one of them is singular
        if len(s) == 1:
            return np.full((1, *D.shape), np.inf + 0j)
        halves = s[: len(s) // 2], s[len(s) // 2 :]
        return np.concatenate([response(A, B, C, D, half) for half in halves])


def gains(A: Array, B: Array, C: Array, D: Array, v: Array) -> Array:
    """Return the largest singular value of G(i v) at each v, infinity included; inf at a pole.

    Examples
    --------
    >>> one = np.eye(1)
    >>> gains(-one, one, one, 0 * one, np.array([0.0, 1.0, np.inf])).round(4)
    array([1.    , 0.7071, 0.    ])
    """
    last = np.isinf(v)
    G = response(A, B, C, D, 1j * np.where(last, 0.0, v))
    G[last] = D
    finite = np.isfinite(G).all(axis=(1, 2))
    found = np.full(len(v), np.inf)
    found[finite] = np.linalg.svd(G[finite], compute_uv=False)[:, 0]
    return found


def crossings(A: Array, B: Array, C: Array, D: Array, level: float, c: float) -> Array:
    """Return the v >= 0, accurate near c, at which a singular value of G(i v) may be at the level."""
    (n, m), ny = B.shape, len(C)
    root, eye, zeros = np.sqrt(level), np.eye, np.zeros
    B, C, D = B / root, C / root, D / level
    shifted = np.block(
        [
            [A - c * eye(n), zeros((n, n)), zeros((n, ny)), B],
            [zeros((n, n)), -A.T - c * eye(n), -C.T, zeros((n, m))],
            [C, zeros((ny, n)), -eye(ny), D],
            [zeros((m, n)), B.T, D.T, -eye(m)],
        ]
    )
    try:
        inverse = np.linalg.solve(shifted, np.eye(len(shifted), 2 * n))[: 2 * n]
    except np.linalg.LinAlgError:  # a real number is an eigenvalue, none near it needs to be
        return crossings(A, B * root, C * root, D * level, level, c * 1.01)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = c + 1 / np.linalg.eigvals(inverse)
    s = s[np.isfinite(s)]
    return np.unique(np.abs(s.imag[np.abs(s.real) <= _NEAR * np.maximum(np.abs(s), _NEAR * c)]))


def peak_gain(
    A: Array, B: Array, C: Array, D: Array, poles: Complex, *, enough: float = np.inf
) -> tuple[float, float]:
    """Return the largest gain of G on the imaginary axis, and the v in [0, inf] where it is.

    The system is stable, in units in which states are of comparable size; `poles` are the eigenvalues of
    A, small ones right to a part of their own size. The gain is reached, and by more than 1e-11 of it
    exceeded nowhere; or it is the first that is found to be above `enough`.

    References
    ----------
    Bruinsma and Steinbuch, A fast algorithm to compute the H-infinity norm of a transfer function
    matrix, Systems & Control Letters 14(4), 1990, 287-293.

    Examples
    --------
    >>> one = np.eye(1)
    >>> peak_gain(-one, one, 2 * one, 0 * one, np.array([-1.0 + 0j]))
    (2.0, 0.0)
    """
    sizes, starts = _sizes(poles)
    between = np.sqrt(sizes[1:] * sizes[:-1])
    ends = np.concatenate([[0.0], between, [np.inf]])
    v = np.unique(np.concatenate([ends, starts]))
    peak, where = 0.0, 0.0
    for _ in range(_MOST_LEVELS):
        values = gains(A, B, C, D, v)
        best = int(np.argmax(values))
        if values[best] <= peak * (1 + _ABOVE):
            break
        peak, where = float(values[best]), float(v[best])
        if not peak < enough:
            break
        level = peak * (1 + 0.5 * _ABOVE)
        crossed = [between]
        for c, low, high in zip(sizes, ends[:-1], ends[1:], strict=True):
            own = crossings(A, B, C, D, level, float(c))
            crossed.append(own[(own >= low) & (own <= high)])
        v = np.unique(np.concatenate(crossed))
        v = v[v > 0]
        if not len(v):
            break
        v = np.concatenate([[v[0] / 2], v, np.sqrt(v[1:]) * np.sqrt(v[:-1]), [2 * v[-1]]])
    return peak, where


def _sizes(poles: Complex) -> tuple[Array, Array]:
    """The sizes of modes, a number for each, and the frequencies of the least damped of each size."""
    poles = poles[(poles != 0) & (poles.imag >= 0)]
    poles = poles[np.argsort(np.abs(poles))]
    sizes, starts = [], []
    while len(poles):
        own = np.abs(poles) <= _ONE_SIZE * np.abs(poles[0])
        size, poles = poles[own], poles[~own]
        sizes.append(float(np.sqrt(np.abs(size[0])) * np.sqrt(np.abs(size[-1]))))
        damping = np.abs(size.real) / np.abs(size)
        chosen = size[np.argsort(damping, kind="stable")[:_STARTS]]
        starts += [chosen.imag, np.abs(chosen)]
    return np.array(sizes or [1.0]), np.concatenate([[0.0], *starts])
