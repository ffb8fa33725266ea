"""Units in which the entries of a model are of comparable size: powers of two, so that nothing is rounded.

    A' = D^-1 A D,   B' = D^-1 B E,   C' = F^-1 C D        x = D x',   u = E u',   y = F y'
    Q' = D Q D / j,  R' = E R E / j,  M' = D M E / j        J = j J'

and A and B also times s, where they are rates and t = s t'. The exponents make the sum of the squares
of log2 |entry| least, and the balanced model is the same, to the last bit, whatever units the model
came in. So whatever is computed from it, or decided on it, does not depend on units either.

Least squares alone would not do: their solution is to be rounded to whole numbers, and rounding goes
another way in other units. So the model is first brought to a form that all units have in common: the
entries along a spanning forest of the pattern of non-zeros get the exponent zero.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgebal, dposv

from lqrad.arguments import Array

# An exponent that is left by the fit and is larger than this shows an entry that is next to nothing,
# and has pulled all others away from one. The norms of rows and columns say how far.
_FAR_FROM_ONE, _FARTHEST = 40, 500

Exponents = NDArray[np.int64]
Levels = list[tuple[Exponents, Exponents]]


class Units(NamedTuple):
    """The units of states (n,), inputs (m,), outputs (ny,), time and cost, as exponents of two."""

    x: Exponents
    u: Exponents
    y: Exponents
    time: int
    cost: int


def in_units(matrix: Array, rows: Exponents, columns: Exponents, factor: int = 0) -> Array:
    """Return diag(2^-rows) matrix diag(2^columns) 2^factor."""
    with np.errstate(over="ignore"):  # looked for by the caller
        return np.asarray(np.ldexp(matrix, columns - rows[:, None] + factor))


def balance(
    A: Array,
    B: Array | None = None,
    C: Array | None = None,
    *,
    D: Array | None = None,
    Q: Array | None = None,
    R: Array | None = None,
    continuous: bool = False,
) -> Units:
    """Return the units in which the non-zero entries of a model are nearest to one.

    The balanced model is in_units(A, x, x, time), in_units(B, x, u, time), in_units(C, y, x),
    in_units(Q, -x, x, -cost), in_units(R, -u, u, -cost), in_units(M, -x, u, -cost); of its gain K and its
    cost to go P come in_units(K, -u, -x) and in_units(P, x, -x, cost). Groups of states, inputs and
    outputs that no entry links to others have an arbitrary unit in common, on which no entry depends.

    Parameters
    ----------
    A, B, C : (n, n), (n, m), (ny, n)
        These and the others may have leading axes, such as time: the largest of each entry counts.
    D : (m, m)
        Of a loop, whose outputs are in the units of its inputs: in_units(C, u, x), in_units(D, u, u).
    Q, R : (n, n), (m, m)
        Weights, of which the diagonal counts. Of an estimation problem, pass A', C', W, V as A, B, Q,
        R; the unit of x is 2^-x and that of y is 2^-u then.
    continuous : bool
        Whether A and B are rates, and a unit of time is to be found.

    References
    ----------
    Fulkerson and Wolfe, An algorithm for scaling matrices, SIAM Review 4 (1962), 142-146.
    Schneider and Zenios, A comparative study of algorithms for matrix balancing, Operations Research
    38 (1990), 439-455.

    Examples
    --------
    >>> A, B = np.array([[1.0, 2.0**40], [0.0, 1.0]]), np.array([[0.0], [2.0**-60]])
    >>> x, u, *_ = balance(A, B)
    >>> in_units(A, x, x).tolist(), in_units(B, x, u).tolist()
    ([[1.0, 1.0], [0.0, 1.0]], [[0.0], [1.0]])
    """
    n, m = A.shape[-1], 0 if B is None else B.shape[-1]
    ny = 0 if C is None or D is not None else C.shape[-2]
    N = n + m + ny
    x, u, y = slice(n), slice(n, n + m), slice(n + m, N)
    if D is not None:
        y = u
    # The root of a weight's diagonal leads from x and u to the root of the cost, the last node.
    entries = np.zeros((N + 1, N + 1))
    for rows, columns, matrix in ((x, x, A), (x, u, B), (y, x, C), (y, u, D)):
        if matrix is not None and matrix.size:
            entries[rows, columns] = _largest(np.abs(matrix), 2)
    rates = None
    if continuous:
        rates = np.zeros_like(entries)
        rates[:n] = entries[:n] != 0
    odd = 0
    if Q is not None or R is not None:
        for columns, weight in ((x, Q), (u, R)):
            if weight is not None:
                entries[N, columns] = _largest(np.abs(weight.diagonal(0, -2, -1)), 1)
        # Only even powers of two have roots that are such: an odd one is left in the cost.
        first = entries[N, (entries[N] != 0).argmax()]
        odd = (math.frexp(first)[1] - 1) % 2 if first else 0
        entries[N] = np.sqrt(np.ldexp(entries[N], -odd))
    unit, time = _fit(entries, rates)
    return Units(unit[x], unit[u], unit[y], time, 2 * int(unit[N]) + odd)


def _largest(sizes: Array, axes: int) -> Array:
    """The largest of each entry, along all but the last axes."""
    return sizes if sizes.ndim == axes else sizes.reshape(-1, *sizes.shape[-axes:]).max(axis=0)


def _fit(entries: Array, rates: Array | None) -> tuple[Exponents, int]:
    """Return exponents z of the nodes and s of time.

    An entry a[i, j] becomes a[i, j] 2^(z[j] - z[i] + rates[i, j] s).
    """
    N, there, s = len(entries), entries != 0, 0
    mantissas, powers = np.frexp(np.where(there, entries, 0.5))
    powers = powers - np.float64(1)  # a power of two is 1 times itself
    levels, groups = _forest(there)
    z = _along(levels, there, powers)
    powers += z - z[:, None]
    if rates is not None:
        slopes = _along(levels, there, rates)
        circles = np.where(there, rates + slopes - slopes[:, None], 0.0)
        timed = circles.ravel().nonzero()[0]
        if len(timed):  # an entry that closes a circle, the same in all units, gives the time
            s = int(-powers.flat[timed[0]] // circles.flat[timed[0]])
            z, powers = z + s * slopes, powers + s * circles
        else:
            rates = None  # every unit of time will do
    # The normal equations, with the Laplacian of the graph; each group can be shifted as a whole.
    logs = np.where(there, powers + np.log2(2 * mantissas), 0.0)
    both = there + there.T.astype(np.float64)
    size = N + (rates is not None)
    normal, sides = np.zeros((size, size)), np.zeros(size)
    normal[:N, :N] = (groups == groups[:, None]) - both
    normal.flat[: N * size : size + 1] += both.sum(axis=1)
    sides[:N] = logs.sum(axis=1) - logs.sum(axis=0)
    if rates is not None:
        normal[N, :N] = normal[:N, N] = rates.sum(axis=0) - rates.sum(axis=1)
        normal[N, N], sides[N] = np.vdot(rates, rates), -np.vdot(rates, logs)
    change = np.rint(dposv(normal, sides)[1])
    z, time = z + change[:N], change[N:].sum()
    powers = np.where(there, powers + (change[:N] - change[:N, None]), 0.0)
    if rates is not None:
        powers += time * rates
    if np.abs(powers).max(initial=0.0) > _FAR_FROM_ONE:
        powers = np.clip(powers, -_FARTHEST, _FARTHEST).astype(np.int64)
        sizes = np.ldexp(np.where(there, 2 * mantissas, 0.0), powers)
        z = z + np.log2(dgebal(sizes, scale=1, permute=0)[3])
    return z.astype(np.int64), s + int(time)


def _forest(there: NDArray[np.bool_]) -> tuple[Levels, Exponents]:
    """Return the levels (nodes, their parents) that span the pattern from roots on, and each node's root.

    The root is a node with links to all others where there is one. Else the forest is grown breadth first
    from the first node of each group. Sets of nodes are the bits of whole numbers: of a few nodes and
    of hundreds, there is nothing quicker.
    """
    nodes, both = np.arange(len(there)), there | there.T
    both.flat[:: len(nodes) + 1] = True
    star = int(both.all(axis=1).argmax())
    roots = np.zeros_like(nodes) + star
    if both[star].all():
        others = nodes[nodes != star]
        return [(others, roots[others])], roots
    rows = np.packbits(both, axis=1, bitorder="little")
    neighbours = [int.from_bytes(row.tobytes(), "little") for row in rows]
    left, levels = (1 << len(nodes)) - 1, []
    for root in nodes.tolist():
        front = [root] if left >> root & 1 else []
        roots[front] = root
        left &= ~(1 << root)
        while front:
            links: dict[int, int] = {}
            for parent in front:
                found = neighbours[parent] & left
                left ^= found
                while found:
                    node = found.bit_length() - 1
                    found ^= 1 << node
                    links[node] = parent
            front = sorted(links)
            if front:
                roots[front] = root
                levels.append((np.array(front), np.array([links[node] for node in front])))
    return levels, roots


def _along(levels: Levels, there: NDArray[np.bool_], powers: Array) -> Array:
    """Return exponents of the nodes with which the powers of the entries along links become zero."""
    z = np.zeros(len(there))
    steps = np.where(there, powers, -powers.T)
    for nodes, parents in levels:
        z[nodes] = z[parents] + steps[nodes, parents]
    return z
