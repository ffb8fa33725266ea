"""Where the curve L(i v) crosses the unit circle and the real axis, and how near it comes to -1.

Intervals of v are halved until each is decided by a bound: log L = f + i a changes by at most
|f'| h + b h^2/2 within h of an interval's middle (b from `Factored.bend`), so that it holds no
crossing where |f| is above that, and at most one, told by the signs at its ends, where |f'| > b h.
In the same way it holds no nearer point where what L may be keeps away from -1. What these
functions do not return is therefore proven not to be there, for the roots that they are given.

Beyond all roots L is what its expansion in v, or in 1/v, says.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import EPS, Array, check_room
from lqrad.linalg.factored import Factored
from lqrad.linalg.twice import Complex

Flags = NDArray[np.bool_]

# So far beyond the roots, and the delay, the first terms of the expansion are all that counts.
_FAR = 2.0**10
# How far beyond the roots and the crossings L is as good as zero or infinite.
_BEYOND = 30 * np.log(2)
# An interval this short, beside its frequency, is not halved again.
_SHORTEST = 2.0**-48
# |L| is one at an end of the axis where its logarithm is below this.
_ONE = 1e-11
_NEWTON_STEPS = 100
# So many intervals, and numbers for each of them and each root, take a half turn of the angle.
_INTERVALS = 200
# The nearest point is proven to this part of its distance, and found to more.
_NEAREST = 1e-6


# What is |1 + L| / |a L + b|, by (a, b): 1/|S|, 1/|T| and 1/|S - T|.
SENSITIVITY, COMPLEMENTARY, BOTH = (0, 1), (1, 0), (-1, 1)


def gain_crossings(L: Factored) -> Array:
    """Return all v > 0 at which |L| = 1, rising.

    Examples
    --------
    >>> from lqrad.linalg.factored import factored
    >>> one = np.array([[1.0]])
    >>> L = factored(0 * one, one, 2 * one, 0 * one, dt=0)
    >>> L.frequency(gain_crossings(L))
    array([2.])
    """

    def function(v: Array) -> tuple[Array, Array]:
        value, slope = L.log_and_slope(v)
        return value.real, slope.real

    def decide(v: Array, h: Array) -> tuple[Flags, Flags]:
        value, slope = np.abs(function(v))
        bend = L.bend(v, h)[0]
        return value > slope * h + bend * h**2 / 2, slope > bend * h

    return np.sort(_zeros(_axis(L), decide, function))


def real_crossings(L: Factored) -> Array:
    """Return all v > 0 at which L is real, and not all around them, rising."""

    def function(v: Array) -> tuple[Array, Array]:
        value, slope = L.log_and_slope(v)
        return value.imag - np.pi * np.round(value.imag / np.pi), slope.imag

    def decide(v: Array, h: Array) -> tuple[Flags, Flags]:
        off, slope = np.abs(function(v))
        bend = L.bend(v, h)[1]
        change = slope * h + bend * h**2 / 2
        within = change < 0.24 * np.pi  # so that both ends are told from the next half turns
        return within & (off > change), within & (slope > bend * h)

    if not len(L.roots):
        return np.zeros(0)
    turns = int(np.abs(L.exponents).sum())
    check_room("the crossings of a loop of so much dead time", _INTERVALS, turns, len(L.roots))
    low, high = _inner(L)
    within = _zeros(_edges(low, high), decide, function)
    return np.sort(np.append(within, _beyond(L, low, high)))


def _inner(L: Factored) -> tuple[float, float]:
    """The part of the axis outside which the expansions hold."""
    roots, e = np.abs(L.roots), np.abs(L.exponents)
    e, roots = e[roots > 0], roots[roots > 0]
    if not len(roots):
        return 1.0, 1.0
    low = min(float(roots.min()) / _FAR, 0.05 / float((e / roots).sum()))
    return low, max(float(roots.max()) * _FAR, 20 * float((e * roots).sum()))


def _beyond(L: Factored, low: float, high: float) -> Array:
    """Where the angle of L crosses a half turn beyond the roots, on either side.

    Its difference from a quarter turn's multiple is c1 v + c3 v^3 + ... with c1 = -M(1),
    c3 = M(3)/3, M(k) = sum_i e_i r_i^-k; and so in 1/v with the sums of r_i^k and the other sign.
    """
    found = []
    for side, roots in ((1, 1 / L.roots[L.roots != 0]), (-1, L.roots)):
        q = (L.near_zero() if side > 0 else L.near_infinity())[1]
        e = L.exponents[L.roots != 0] if side > 0 else L.exponents
        if q % 2:  # the angle starts from a quarter turn
            continue
        c1, c3, c5 = (float((roots**k).real @ e) * s / k for k, s in ((1, -1), (3, 1), (5, -1)))
        noise = 4 * EPS * len(e) * float(np.abs(roots) @ np.abs(e))
        if abs(c1) <= noise or not c3:
            continue
        u = -c1 / c3
        for _ in range(3):
            u = -(c1 + c5 * u**2) / c3
        edge = low if side > 0 else 1 / high
        if 0 < u < edge**2:
            found.append(u ** (side / 2))
    return np.array(found)


def _zeros(
    edges: Array,
    decide: Callable[[Array, Array], tuple[Flags, Flags]],
    function: Callable[[Array], tuple[Array, Array]],
) -> Array:
    """All zeros of a function, between edges that `decide` tells to hold none, or at most one."""
    low, high = edges[:-1], edges[1:]
    brackets = [(low[:0], high[:0])]
    while len(low):
        v, h = (low + high) / 2, (high - low) / 2
        with np.errstate(over="ignore", invalid="ignore"):
            none, one = decide(v, h)
        one = ~none & (one | (h <= _SHORTEST * v))
        brackets.append((low[one], high[one]))
        low, high = _halved(low, high, ~none & ~one)
    low, high = (np.concatenate(ends) for ends in zip(*brackets, strict=True))
    at_low, at_high = function(low)[0], function(high)[0]
    # An angle jumps by a half turn where the nearest one changes: no crossing.
    crossed = ((at_low >= 0) != (at_high >= 0)) & ~(np.abs(at_low - at_high) > 0.99 * np.pi)
    return _bracketed(function, low[crossed], high[crossed])


def _halved(low: Array, high: Array, split: Flags) -> tuple[Array, Array]:
    low, high = low[split], high[split]
    middle = (low + high) / 2
    return np.concatenate([low, middle]), np.concatenate([middle, high])


def _axis(L: Factored) -> Array:
    """Edges, a factor of two apart, between which |L| may be one or comes nearest to -1."""
    low, high = (np.log(end) for end in _inner(L))
    roots, e = np.abs(L.roots), np.abs(L.exponents)
    for end, (size, q, _) in ((0, L.near_zero()), (1, L.near_infinity())):
        if not np.isfinite(size):
            continue
        # There |L| is its limit to a part of v^2 sum(e / r^2), or the inverse.
        part = max(abs(size), _ONE) / 16
        if q:  # |L| = 1 there at about v^q = exp(-size)
            at = -size / q + (_BEYOND if end else -_BEYOND)
        elif not (roots > 0).any():
            continue
        elif end:
            at = 0.5 * float(np.log((e * roots**2).sum() / part))
        else:
            at = 0.5 * float(np.log(part / (e[roots > 0] / roots[roots > 0] ** 2).sum()))
        low, high = (low, max(high, at)) if end else (min(low, at), high)
    return _edges(float(np.exp(low)), float(np.exp(high)))


def _edges(low: float, high: float) -> Array:
    if not low < high < np.inf:
        return np.ones(1)
    return np.geomspace(low, high, 2 + int(np.log2(high / low)))


def _bracketed(function: Callable[[Array], tuple[Array, Array]], low: Array, high: Array) -> Array:
    """The zero of a function between each low and high, by Newton's method, or by halving."""
    low, high = low.copy(), high.copy()
    if not len(low):
        return low
    rising = function(high)[0] >= 0
    v = (low + high) / 2
    for _ in range(_NEWTON_STEPS):
        value, slope = function(v)
        above = (value >= 0) == rising
        low, high = np.where(above, low, v), np.where(above, v, high)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            new = v - value / slope
        new = np.where((new > low) & (new < high), new, (low + high) / 2)
        settled = (np.abs(new - v) <= EPS / 2 * np.abs(v)).all()
        v = new
        if settled:
            break
    return v


def encirclements(L: Factored, real: Array) -> int:
    """Return how often the curve goes round -1 counterclockwise, v from -infinity to infinity.

    L has no root on the border but at zero (`Factored.beside_border`), and crosses the real axis at
    `real`. Each crossing left of -1 counts, upward turns of the angle as one; the curve passes
    integrators by a small half circle on the stable side's outside, where L is large.
    """
    log, slope = L.log_and_slope(real)
    left = (log.real > 0) & (np.cos(log.imag) < 0)
    count = 2 * int(np.sign(slope.imag[left]).sum())
    if not len(L.roots):
        return count
    low, high = _inner(L)
    for v, (size, q, negative) in ((low, L.near_zero()), (high, L.near_infinity())):
        if q == 0 and size > 0 and negative:
            count += int(np.sign(L.log_and_slope(np.array([v]))[1].imag[0]))
    size, q, negative = L.near_zero()
    if q < 0:
        angle = float(L.log_and_slope(np.array([low]))[0].imag[0])
        start = np.pi * negative + q * np.pi / 2
        angle = start + (angle - start + np.pi) % (2 * np.pi) - np.pi
        # From the mirror image, 2 pi negative - angle, down to it: odd multiples of pi between.
        top = 2 * np.pi * negative - angle
        count -= int(np.floor((top / np.pi + 1) / 2) - np.floor((angle / np.pi + 1) / 2))
    return count


# How near the curve comes to -1


def _measure(X: Complex, a: int) -> Array:
    """|1 + X| / |1 + a X|, which is small where X is near to -1."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.abs(1 + X) / np.abs(1 + a * X))


def _disk(measure: float, a: int) -> tuple[float, float, bool]:
    """Centre and radius of Apollonius' circle of a measure, and whether what is nearer is outside."""
    measure = measure if measure != 1 else 1 - EPS
    below = 1 - (a * measure) ** 2
    return -(1 - a * measure**2) / below, (1 - a) * measure / abs(below), below < 0


def nearest(L: Factored, below: tuple[int, int]) -> tuple[float, float]:
    """Return the least |1 + L| / |a L + b| on the axis, its ends included, and the v where it is.

    It is a measure of L, or of 1/L for b = 0; where it is the same of both, the smaller is taken.

    Examples
    --------
    >>> from lqrad.linalg.factored import factored
    >>> one = np.array([[1.0]])
    >>> nearest(factored(-one, one, 2 * one, 0 * one, dt=0), SENSITIVITY)
    (1.0, inf)
    """
    inverse, a = below[1] == 0, min(below[0], 0)

    def points(v: Array) -> tuple[Complex, Complex]:
        log, slope = L.log_and_slope(v)
        sign = np.where(log.real > 0, -1, 1) if a else np.full(len(v), -1 if inverse else 1)
        return np.exp(np.clip(sign * log.real, -600, 600) + 1j * sign * log.imag), sign * slope

    best, where = np.inf, np.nan
    for end, (size, q, negative) in ((0.0, L.near_zero()), (np.inf, L.near_infinity())):
        size = size if q == 0 else np.inf * (q if end else -q)
        if inverse or (a and size > 0):
            size = -size
        limit = np.exp(np.clip([size], -600, 600)) * (-1 if negative else 1) + 0j
        at_end = float(_measure(limit, a)[0])
        if at_end < best:
            best, where = at_end, end
    edges = _axis(L)
    low, high = edges[:-1], edges[1:]
    reach = 0.0
    while len(low):
        v, h = (low + high) / 2, (high - low) / 2
        X, slope = points(v)
        value = _measure(X, a)
        i = int(value.argmin())
        if value[i] < best:
            best, where, reach = float(value[i]), float(v[i]), float(h[i])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            turn = np.abs(slope) * h
            change = np.abs(X) * (np.expm1(turn + L.bend(v, h)[0] * h**2 / 2) - turn)
            centre, radius, outside = _disk(best * (1 - _NEAREST), a)
            step = X * slope * h
            if outside:
                most = np.maximum(np.abs(X + step - centre), np.abs(X - step - centre))
                far = most + change < radius
            else:
                along = ((centre - X) * step.conj()).real / np.abs(step) ** 2
                along = np.clip(np.where(np.isfinite(along), along, 0.0), -1, 1)
                far = np.abs(X + along * step - centre) - change > radius
        low, high = _halved(low, high, ~far & (h > _SHORTEST * v))
    return _lowered(points, a, best, where, reach)


def _lowered(
    points: Callable[[Array], tuple[Complex, Complex]],
    a: int,
    best: float,
    where: float,
    reach: float,
) -> tuple[float, float]:
    """The least measure around a point, by the zero of its derivative."""

    def fall(v: Array) -> tuple[Array, Array]:
        X, slope = points(v)
        change = X * slope / (1 + X) - a * X * slope / (1 + a * X)
        return change.real, np.zeros(len(v))

    if not reach:
        return best, where
    for wide in (1, 4, 16, 64):
        ends = np.array([where - wide * reach, where + wide * reach])
        if ends[0] > 0 and fall(ends[:1])[0][0] < 0 < fall(ends[1:])[0][0]:
            v = _bracketed(fall, ends[:1], ends[1:])
            value = float(_measure(points(v)[0], a)[0])
            return (value, float(v[0])) if value < best else (best, where)
    return best, where
