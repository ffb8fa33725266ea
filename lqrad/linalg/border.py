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
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Crossings:
    """Points v, rising; log L there, and its derivative."""

    v: Array
    log: Complex
    slope: Complex

    @classmethod
    def at(cls, L: Factored, v: Array) -> Crossings:
        v = np.sort(v)
        return cls(v, *L.log_and_slope(v))

    def kept(self, which: Flags) -> Crossings:
        return Crossings(self.v[which], self.log[which], self.slope[which])


def gain_crossings(L: Factored) -> Crossings:
    """Return all v > 0 at which |L| = 1.

    Examples
    --------
    >>> from lqrad.linalg.factored import factored
    >>> one = np.array([[1.0]])
    >>> L = factored(0 * one, one, 2 * one, 0 * one, dt=0)
    >>> L.frequency(gain_crossings(L).v)
    array([2.])
    """

    def function(v: Array) -> tuple[Array, Array]:
        value, slope = L.log_and_slope(v)
        return value.real, slope.real

    def decide(v: Array, h: Array) -> tuple[Flags, Flags]:
        value, slope = np.abs(function(v))
        bend = L.bend(v, h)[0]
        return value > slope * h + bend * h**2 / 2, slope > bend * h

    return Crossings.at(L, _zeros(axis(L), decide, function))


def real_crossings(L: Factored) -> Crossings:
    """Return all v > 0 at which L is real, and not all around them."""

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
        return Crossings.at(L, np.zeros(0))
    turns = int(np.abs(L.exponents).sum())
    check_room("the crossings of a loop of so much dead time", _INTERVALS, turns, len(L.roots))
    low, high = _inner(L)
    beyond = _beyond(L, low, high)
    return Crossings.at(L, np.append(_zeros(_edges(low, high), decide, function), beyond))


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


def axis(L: Factored) -> Array:
    """Return edges, a factor of two apart, between which |L| may be one or comes nearest to -1."""
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


def encirclements(L: Factored, real: Crossings) -> int:
    """Return how often the curve goes round -1 counterclockwise, v from -infinity to infinity.

    L has no root on the border but at zero (`Factored.beside_border`), and crosses the real axis at
    `real`. Each crossing left of -1 counts, upward turns of the angle as one; the curve passes
    integrators by a small half circle on the stable side's outside, where L is large.
    """
    left = (real.log.real > 0) & (np.cos(real.log.imag) < 0)
    count = 2 * int(np.sign(real.slope.imag[left]).sum())
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


def _point(X: Complex) -> Array:
    return np.asarray(np.abs(1 + X))


def _around(distance: float) -> tuple[float, float, bool]:
    return -1.0, distance, False


def _ratio(X: Complex) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.abs(1 + X) / np.abs(1 - X))


def _apollonius(ratio: float) -> tuple[float, float, bool]:
    """The X with |1 + X| < ratio |1 - X|: inside a circle, or outside where ratio > 1."""
    ratio = ratio if ratio != 1 else 1 - EPS
    square = ratio**2
    return -(1 + square) / (1 - square), 2 * ratio / abs(1 - square), ratio > 1


@dataclass(frozen=True)
class Nearness:
    """A measure |1 + L| / |below[0] L + below[1]| of X, which is small where X is near to -1.

    X is 1/L or L, as `inverse` says; for None the smaller of both, where the measure is the same.
    `disk` gives the centre and the radius of a circle for a measure, and whether what is nearer than
    that is outside.
    """

    inverse: bool | None
    below: tuple[int, int]
    measure: Callable[[Complex], Array]
    disk: Callable[[float], tuple[float, float, bool]]


# 1/|S| = |1 + L|, 1/|T| = |1 + 1/L|, 1/|S - T| = |1 + L| / |1 - L|
SENSITIVITY = Nearness(False, (0, 1), _point, _around)
COMPLEMENTARY = Nearness(True, (1, 0), _point, _around)
BOTH = Nearness(None, (-1, 1), _ratio, _apollonius)


def nearest(L: Factored, kind: Nearness) -> tuple[float, float]:
    """Return the least measure on the axis, its ends included, and the v where it is.

    Examples
    --------
    >>> from lqrad.linalg.factored import factored
    >>> one = np.array([[1.0]])
    >>> nearest(factored(-one, one, 2 * one, 0 * one, dt=0), SENSITIVITY)
    (1.0, inf)
    """

    def points(v: Array) -> tuple[Complex, Complex]:
        log, slope = L.log_and_slope(v)
        turned = log.real > 0 if kind.inverse is None else np.full(len(v), kind.inverse)
        sign = np.where(turned, -1, 1)
        return np.exp(np.clip(sign * log.real, -600, 600) + 1j * sign * log.imag), sign * slope

    best, where = np.inf, np.nan
    for end, (size, q, negative) in ((0.0, L.near_zero()), (np.inf, L.near_infinity())):
        size = size if q == 0 else np.inf * (q if end else -q)
        if kind.inverse or (kind.inverse is None and size > 0):
            size = -size
        limit = np.exp(np.clip([size], -600, 600)) * (-1 if negative else 1) + 0j
        at_end = float(kind.measure(limit)[0])
        if at_end < best:
            best, where = at_end, end
    edges = axis(L)
    low, high = edges[:-1], edges[1:]
    reach = 0.0
    while len(low):
        v, h = (low + high) / 2, (high - low) / 2
        X, slope = points(v)
        value = kind.measure(X)
        i = int(value.argmin())
        if value[i] < best:
            best, where, reach = float(value[i]), float(v[i]), float(h[i])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            turn = np.abs(slope) * h
            change = np.abs(X) * (np.expm1(turn + L.bend(v, h)[0] * h**2 / 2) - turn)
            centre, radius, outside = kind.disk(best * (1 - _NEAREST))
            step = X * slope * h
            if outside:
                most = np.maximum(np.abs(X + step - centre), np.abs(X - step - centre))
                far = most + change < radius
            else:
                along = ((centre - X) * step.conj()).real / np.abs(step) ** 2
                along = np.clip(np.where(np.isfinite(along), along, 0.0), -1, 1)
                far = np.abs(X + along * step - centre) - change > radius
        low, high = _halved(low, high, ~far & (h > _SHORTEST * v))
    return _lowered(points, kind, best, where, reach)


def _lowered(
    points: Callable[[Array], tuple[Complex, Complex]],
    kind: Nearness,
    best: float,
    where: float,
    reach: float,
) -> tuple[float, float]:
    """The least measure around a point, by the zero of its derivative."""

    def fall(v: Array) -> tuple[Array, Array]:
        X, slope = points(v)
        change = X * slope / (1 + X)
        if kind.inverse is None:
            change = change + X * slope / (1 - X)
        return change.real, np.zeros(len(v))

    if not reach:
        return best, where
    for wide in (1, 4, 16, 64):
        ends = np.array([where - wide * reach, where + wide * reach])
        if ends[0] > 0 and fall(ends[:1])[0][0] < 0 < fall(ends[1:])[0][0]:
            v = _bracketed(fall, ends[:1], ends[1:])
            value = float(kind.measure(points(v)[0])[0])
            return (value, float(v[0])) if value < best else (best, where)
    return best, where
