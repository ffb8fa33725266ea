"""The largest gain of a discrete-time system over all frequencies: its H-infinity norm.

G(z) = C (zI - A)^-1 B + D has the singular value g at z = exp(i a) just where the pencil

    [ A      0   B            ]       [ I  0   0 ]
    [ -C'C   I  -C'D          ]  - z  [ 0  A'  0 ]      of (x, p, u)
    [ -D'C   0   g^2 I - D'D  ]       [ 0  B'  0 ]

has an eigenvalue on the unit circle: x is the state that u makes, p the adjoint of C x + D u, and
g^2 u what both give back. So the angles at which a level is crossed are known, not searched for on
a grid: between two of them the gain is above the level, and its value there is the next level.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lqrad.arguments import Array

# An eigenvalue this near to the unit circle may be on it; what the gain is there decides.
_NEAR = 1e-4
# The level is above the best gain by this part, and the norm right to it.
_ABOVE = 1e-12
# Each level is a gain that is reached, and they converge quadratically.
_MOST_LEVELS = 60


def gains(A: Array, B: Array, C: Array, D: Array, angles: Array) -> Array:
    """Return the largest singular value of G(exp(i angle)) at each angle; inf at a pole.

    Examples
    --------
    >>> one = np.eye(1)
    >>> gains(0.5 * one, one, one, 0 * one, np.array([0.0, np.pi])).round(4)
    array([2.    , 0.6667])
    """
    G = response(A, B, C, D, np.exp(1j * angles))
    finite = np.isfinite(G).all(axis=(1, 2))
    found = np.full(len(angles), np.inf)
    found[finite] = np.linalg.svd(G[finite], compute_uv=False)[:, 0]
    return found


def response(
    A: Array, B: Array, C: Array, D: Array, z: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """Return C (zI - A)^-1 B + D at each z, infinite at an eigenvalue of A."""
    resolvent = z[:, None, None] * np.eye(len(A)) - A
    try:
        return np.asarray(C @ np.linalg.solve(resolvent, B + 0j) + D)
    except np.linalg.LinAlgError:  # one of them is singular
        if len(z) == 1:
            return np.full((1, *D.shape), np.inf + 0j)
        halves = z[: len(z) // 2], z[len(z) // 2 :]
        return np.concatenate([response(A, B, C, D, half) for half in halves])


def crossings(A: Array, B: Array, C: Array, D: Array, level: float) -> Array:
    """Return the angles in [0, pi] at which a singular value of G may be at the level.

    Examples
    --------
    >>> one = np.eye(1)
    >>> crossings(0.5 * one, one, one, 0 * one, 1.0)  # 1.25 - cos(a) = 1
    array([1.31811607])
    """
    (n, m), zero = B.shape, np.zeros
    E = scipy.linalg.block_diag(np.eye(n), np.zeros((n + m, n + m)))
    E[n:, n : 2 * n] = np.concatenate([A.T, B.T])
    F = np.block(
        [
            [A, zero((n, n)), B],
            [-C.T @ C, np.eye(n), -C.T @ D],
            [-D.T @ C, zero((m, n)), level**2 * np.eye(m) - D.T @ D],
        ]
    )
    return circle_angles(F, E)


def circle_angles(F: Array, E: Array) -> Array:
    """Return the angles in [0, pi] of the eigenvalues z of F - z E that may be on the unit circle."""
    with np.errstate(divide="ignore", invalid="ignore"):  # infinite ones, of the algebraic rows
        z = scipy.linalg.eigvals(F, E)
    z = z[np.isfinite(z)]
    return np.unique(np.abs(np.angle(z[np.abs(np.abs(z) - 1) < _NEAR])))


def peak_gain(A: Array, B: Array, C: Array, D: Array) -> tuple[float, float]:
    """Return the largest gain of G on the unit circle, and the angle in [0, pi] where it is.

    Parameters
    ----------
    A, B, C, D : (n, n), (n, m), (ny, n), (ny, m)
        Real matrices; if A has eigenvalues on the unit circle that B moves and C sees, the gain is
        infinite there. It is the H-infinity norm where A is stable.

    Returns
    -------
    peak : float
        A gain that is reached, and by more than 1e-12 of it exceeded nowhere.
    angle : float

    References
    ----------
    Bruinsma and Steinbuch, A fast algorithm to compute the H-infinity norm of a transfer function
    matrix, Systems & Control Letters 14(4), 1990, 287-293.

    Examples
    --------
    >>> one = np.eye(1)
    >>> peak_gain(0.5 * one, one, one, 0 * one)
    (2.0, 0.0)
    """
    poles = np.abs(np.angle(np.linalg.eigvals(A)))
    angles = np.unique(np.concatenate([[0.0, np.pi], poles]))
    peak, where = 0.0, 0.0
    for _ in range(_MOST_LEVELS):
        values = gains(A, B, C, D, angles)
        best = int(np.argmax(values))
        if values[best] <= peak * (1 + _ABOVE):
            break
        peak, where = float(values[best]), float(angles[best])
        if not np.isfinite(peak):
            break
        level = crossings(A, B, C, D, peak * (1 + 0.5 * _ABOVE))
        edges = np.unique(np.concatenate([[0.0], level, [np.pi]]))
        angles = np.concatenate([edges, (edges[1:] + edges[:-1]) / 2])
    return peak, where
