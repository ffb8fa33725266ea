"""Whether a recursion that converges has converged: to rounding, for good, and proven.

Near its limit, two iterates of a Riccati recursion differ by what the closed loop F carries on,

    E[k+1] = F'E[k] F,

and those of a Lyapunov recursion do so everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lqrad.arguments import EPS, Array
from lqrad.native.lq import settles

# Relative changes below this are small enough for their propagation to be linear.
_LINEAR = 1e-6


def looks(T: int, first: int = 16, growth: float = 1.25) -> Iterator[int]:
    """The numbers of stages, T the last of them, after which `settled` is worth asking."""
    swept = 0
    while swept < T:
        swept = min(max(first, int(swept * growth)), T)
        yield swept


def settled(P: Array, left: int, F: Array, watched: Array | None = None) -> bool:
    """Whether the stages that are left to come leave the last iterate as it is, to 2 eps.

    P (swept + 1, n, n) are the iterates, the last one first. The change over the last h stages,
    D = P[0] - P[h], tells all changes to come:

        P[-ih] - P[0]  =  sum_{k=1..i} (F^kh)' D F^kh

    This sum is evaluated, not extrapolated from the sizes of successive changes: so it holds for
    oscillating and for transiently growing changes, and for any spectral radius. The rounding
    errors in D are damped by F^h before they could pass for a change, hence an h of some length:
    a power of two between 1/8 and 1/4 of the stages swept. That the limit is near is read off the
    whole window, since one difference alone could span a period of an oscillation.

    A change is small beside 2 eps sqrt(P[i, i] P[j, j]), in any units. Given the rows `watched`
    (k, n + 1) = [X, s], it is X D X' that is to be small, beside s[i] s[j], as well.

    Examples
    --------
    >>> P = 4.0 - 0.25 ** np.arange(40)[::-1, None, None]
    >>> F = np.array([[0.5]])
    >>> settled(P[20:], 1000, F), settled(P[14:], 1000, F), settled(P[14:], 1000, 3 * F)
    (False, True, False)
    """
    if watched is None and (known := settles(P, left, F)) is not None:
        return known
    h = 1 << (((len(P) - 1) // 4).bit_length() - 1)
    diagonal = np.sqrt(np.abs(P[0].diagonal()))
    scale = np.outer(diagonal, diagonal)
    changes = P[0] - P[1 : h + 1]
    if not changes[0].any():
        return True  # a fixed point to the last bit: all further stages repeat it
    if not (np.abs(changes) <= _LINEAR * scale).all():
        return False
    most = 2 * EPS * scale

    def negligible(total: Array) -> bool:
        if not (np.abs(total) <= most).all():
            return False
        if watched is None:
            return True
        X, s = watched[:, :-1], watched[:, -1]
        return bool((np.abs(X @ total @ X.T) <= 2 * EPS * np.outer(s, s)).all())

    def last(power: Array, total: Array) -> bool:
        # With |total| <= a d d' and d'|power| <= d'/8 entry by entry, for d = diagonal, a doubling adds
        # no more than a/64 d d', and all that follow together no more than a/63 d d'.
        contracts = diagonal.dot(np.abs(power)) <= diagonal / 8
        return bool(contracts.all()) and negligible(total * (64 / 63))

    power, reach = F, 1
    with np.errstate(over="ignore", invalid="ignore"):  # an unstable F overflows: not settled
        while reach < h:
            power, reach = power.dot(power), 2 * reach
        total = power.T.dot(changes[-1]).dot(power)
        while negligible(total):
            if reach >= left or (watched is None and last(power, total)):
                return True
            total += power.T.dot(total).dot(power)
            power, reach = power.dot(power), 2 * reach
    return False
