"""Large plants from formulas, as textbooks and benchmark collections have them."""

from __future__ import annotations

import numpy as np
from scipy.linalg import block_diag

import lqrad


def flexible_structure(
    n: int, *, low: float, high: float, damping: float, m: int
) -> lqrad.StateSpace:
    """Lightly damped modes q'' + 2 damping w q' + w^2 q = b'u, in (q, q'), w from low to high."""
    w = np.geomspace(low, high, n // 2)
    i, j = np.arange(n // 2)[:, None] + 1, np.arange(m) + 1
    B, C = np.zeros((n, m)), np.zeros((m, n))
    B[1::2], C[:, ::2] = np.sin(0.7 * i * j) + 0.3, np.cos(0.4 * i * j).T
    blocks = [[[0.0, 1.0], [-f * f, -2 * damping * f]] for f in w]
    return lqrad.StateSpace(block_diag(*blocks), B, C, dt=0)


def rod(n: int) -> lqrad.StateSpace:
    """Heat in a rod of length one: n inner points, a heater at one, a sensor at another."""
    A = (n + 1) ** 2 * (np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1))
    B, C = np.zeros((n, 1)), np.zeros((1, n))
    B[n // 3], C[0, n // 2] = n, 1.0
    return lqrad.StateSpace(A, B, C, dt=0)
