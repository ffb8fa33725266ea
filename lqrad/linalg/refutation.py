"""A proof that half-spaces have no point in common, by a linear program.

    minimise  t   subject to   low - t <= rows w <= high + t,    t >= 0

Its dual is a sum of half-spaces, y >= 0 on the limits with rows'y = 0, that says 0 <= sum y limit = -t:
a proof where t is positive (Farkas). The solver keeps rows'y = 0 to a tolerance only; what it misses is
taken away by least squares on the rows that have a multiplier.
"""

from __future__ import annotations

import math

import numpy as np

from lqrad.arguments import Array

# Beside the largest multiplier, one below this is none; and how often rows are left out.
_NONE, _ROUNDS = 1e-9, 5


def refutation(rows: Array, low: Array, high: Array) -> Array | None:
    """Return multipliers (r,) whose sum of half-spaces says 0 < 0, to rounding errors; else None.

    Positive for high limits, negative for low ones; rows (r, N) are of norm one.

    Examples
    --------
    >>> one, inf = np.ones((2, 1)), np.inf
    >>> y = refutation(one, np.array([2.0, -inf]), np.array([inf, 1.0]))
    >>> y / y.max()
    array([-1.,  1.])
    >>> refutation(one, np.array([0.0, -inf]), np.array([inf, 1.0])) is None
    True
    """
    from scipy.optimize import linprog  # here, as its import takes longer than lqrad's own

    side = np.repeat([1.0, -1.0], len(rows))
    limit = np.concatenate([high, -low])
    given = np.flatnonzero(np.isfinite(limit))
    normals, limit = side[given, None] * rows[given % len(rows)], limit[given]
    unit = math.ldexp(1.0, math.frexp(float(np.abs(limit).max(initial=0.0)))[1])
    ahead = np.hstack([normals, -np.ones((len(given), 1))])
    free = [(None, None)] * rows.shape[1]
    cost = np.append(np.zeros(rows.shape[1]), 1.0)
    found = linprog(cost, A_ub=ahead, b_ub=limit / unit, bounds=[*free, (0, None)])
    if found.status != 0 or found.fun <= 0:
        return None
    y = -np.asarray(found.ineqlin.marginals, dtype=np.float64)
    at = np.flatnonzero(y > _NONE * y.max())
    y = y[at]
    for _ in range(_ROUNDS):
        y = y - normals[at] @ np.linalg.lstsq(normals[at], y, rcond=None)[0]
        if (y > 0).all():
            break
        at, y = at[y > 0], y[y > 0]
    if not len(at) or limit[at] @ y >= 0:
        return None
    proof = np.zeros(len(rows))
    np.add.at(proof, given[at] % len(rows), side[given[at]] * y)
    return proof
