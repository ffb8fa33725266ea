"""A loop of one input and one output on the border of stability, without rounding.

    L(s) = num(s) / den(s),     s = i v,     z = (1 + s)/(1 - s) in discrete time

with polynomials of whole numbers. On the border a polynomial is p(i v) = a(x) + i v b(x) with
x = v^2, and its square of magnitude a^2 + x b^2 is one in x as well. So

    |L| = 1           where |num|^2 - |den|^2 = 0
    L is real         where b_num a_den - a_num b_den = 0
    |f/g| is least    at an end, or where (|f|^2)' |g|^2 - |f|^2 (|g|^2)' = 0

and the closed loop's poles are the roots of num + den. Positive roots x of polynomials are all
there is to find: no crossing is missed, and none is taken for one where |L| only comes near to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import atan2, gcd, inf, ldexp, log, log1p, sqrt

import numpy as np

from lqrad.arguments import Array
from lqrad.linalg.exact import (
    Polynomial,
    add,
    common,
    derivative,
    positive_roots,
    quotient,
    roots,
    times,
    transfer,
)
from lqrad.linalg.twice import Complex, two_sum

# Larger systems take seconds: their numbers have too many digits.
EXACT = 16


@dataclass(frozen=True, eq=False)
class Rational:
    """L = num / den, without the factor `hidden` that they had in common, of a system of `order` states.

    `rate` is the unit of v in rad/s: in continuous time one in which closed-loop poles are about one,
    1/dt in discrete time.
    """

    num: Polynomial
    den: Polynomial
    hidden: Polynomial
    order: int
    rate: float
    discrete: bool

    @classmethod
    def of(cls, A: Array, B: Array, C: Array, D: Array, dt: float) -> Rational:
        """The transfer function of a system of one input and one output.

        Examples
        --------
        >>> one = np.eye(1)
        >>> L = Rational.of(-one, one, 2 * one, 0 * one, 0.0)
        >>> L.num, L.den, L.rate
        ([2], [1, 2], 2.0)
        """
        n = len(A)
        low = np.zeros(n)
        if dt:  # polynomials in z - 1
            A = A.copy()
            A[np.arange(n), np.arange(n)], low = two_sum(A.diagonal(), -np.ones(n))
        num, den, k = transfer(A, low, B[:, 0], C[0], float(D[0, 0]))
        if dt:
            num, den, rate = _mapped(num, n, k), _mapped(den, n, k), 1 / dt
        else:
            r = _size(add(num, den))
            num, den, rate = _in_unit(num, r, n), _in_unit(den, r, n), 2.0 ** (r - k)
        content = gcd(*num, *den)
        num, den = [c // content for c in num], [c // content for c in den]
        shared = common(num, den)
        return cls(quotient(num, shared), quotient(den, shared), shared, n, rate, bool(dt))

    def frequency(self, v: Array) -> Array:
        """The frequencies, in rad/s, of points i v."""
        return np.asarray(self.rate * (2 * np.arctan(v) if self.discrete else v))

    def closed_poles(self) -> tuple[Complex, Array]:
        """Return the poles of the closed loop, in rad/s or as z, and how far in s each is outside."""
        found = [s for p in (add(self.num, self.den), self.hidden) for s, _ in roots(p)]
        s = np.array(found, dtype=np.complex128)
        if not self.discrete:
            return self.rate * s, s.real
        # z = -1 is s = infinity: a pole there is a degree that num + den has lost.
        closed = times(add(self.num, self.den), self.hidden)
        lost = self.order + 1 - len(closed)
        z = np.append((1 + s) / (1 - s), np.full(lost, -1.0))
        return z, np.append(s.real, np.zeros(lost))

    def roots(self) -> tuple[Complex, Array]:
        """The zeros and poles of L with exponents, which are negative for poles."""
        found = [(s, e) for s, e in roots(self.num)] + [(s, -e) for s, e in roots(self.den)]
        return np.array([s for s, _ in found]) + 0j, np.array([float(e) for _, e in found])

    def log(self, v: Array) -> Complex:
        """Return log L at points i v, its imaginary part up to turns, each part rounded once."""
        return np.array([self._log(at, 1) for at in v], dtype=np.complex128)

    def turns(self, v: Array) -> Array:
        """Return the angles from L at points i v to -1, from -pi to pi."""
        return np.array([self._log(at, -1).imag for at in v])

    def _log(self, v: float, sign: int) -> complex:
        """The logarithm of L or of -L."""
        degree = max(len(self.num), len(self.den))
        (a, b), (c, d) = _value(self.num, v, degree), _value(self.den, v, degree)
        above, below = a * a + b * b, c * c + d * d
        x, y = sign * (a * c + b * d), sign * (b * c - a * d)
        whole = max(abs(x), abs(y))
        return complex(_log_ratio(above, below) / 2, atan2(y / whole, x / whole))

    def near_zero(self) -> tuple[float, int, bool]:
        """Return log |c|, q and whether c < 0, for L ~ c s^q as s goes to zero."""
        return self._end(lambda p: next((k, c) for k, c in enumerate(p) if c))

    def near_infinity(self) -> tuple[float, int, bool]:
        """Return log |c|, q and whether c < 0, for L ~ c s^q as s goes to infinity."""
        return self._end(lambda p: (len(p), p[-1]))

    def _end(self, term: Callable[[Polynomial], tuple[int, int]]) -> tuple[float, int, bool]:
        """The quotient of a term, its power and coefficient, of num and of den."""
        if not self.num:
            return -inf, 0, False
        (i, a), (j, b) = term(self.num), term(self.den)
        return _log_ratio(abs(a), abs(b)), i - j, (a < 0) != (b < 0)

    def gain_crossings(self) -> Array:
        """Return all v > 0 at which |L| = 1, and not all around them."""
        return _frequencies(add(_square(self.num), _square(self.den), -1))

    def real_crossings(self) -> Array:
        """Return all v > 0 at which L is real and not zero or infinite, and not all around them."""
        (a, b), (c, d) = _parts(self.num), _parts(self.den)
        odd = add(times(b, c), times(a, d), -1)
        ends = times(_square(self.num), _square(self.den))
        while odd and len(shared := common(odd, ends)) > 1:
            odd = quotient(odd, shared)
        return _frequencies(odd)

    def nearest(self, below: tuple[int, int]) -> tuple[float, float]:
        """Return the least |L + 1| / |a L + b| on the axis, its ends included, and the v where it is."""
        F = _square(add(self.num, self.den))
        a, b = below
        G = _square(add([a * c for c in self.num], self.den, b))
        if not G:
            return inf, 0.0
        best, where = _root_of_quotient(F[0], G[0]), 0.0
        if len(F) <= len(G):
            at_end = _root_of_quotient(F[-1], G[-1]) if len(F) == len(G) else 0.0
            if at_end < best:
                best, where = at_end, inf
        turns = add(times(derivative(F), G), times(F, derivative(G)), -1)
        for v in _frequencies(turns):
            at = _root_of_quotient(*(sum(_terms(p, v, len(turns), 2)) for p in (F, G)))
            if at < best:
                best, where = at, float(v)
        return best, where


def _log_ratio(above: int, below: int) -> float:
    """The logarithm of a quotient, right to the last digit where that is near to one, too."""
    if below < 4 * above < 16 * below:
        return log1p((above - below) / below)
    return log(above) - log(below)


def _root_of_quotient(above: int, below: int) -> float:
    """The square root of a quotient; infinite where below is zero or no float is as large."""
    if not below:
        return inf
    half = (above.bit_length() - below.bit_length()) // 2
    if half > 1000:
        return inf
    up, down = max(-half, 0), max(half, 0)
    return ldexp(sqrt((above << 2 * up) / (below << 2 * down)), half)


def _size(p: Polynomial) -> int:
    """The exponent of a power of two of about the size of the roots."""
    if len(p) < 2 or not p[0]:
        return 0
    return (p[0].bit_length() - p[-1].bit_length()) // (len(p) - 1)


def _in_unit(p: Polynomial, r: int, degree: int) -> Polynomial:
    """p(2^r s), times a power of two that is the same for all polynomials up to a degree."""
    up = max(0, -r * degree)
    return [c << (r * k + up) for k, c in enumerate(p)]


def _mapped(p: Polynomial, degree: int, k: int) -> Polynomial:
    """(1 - s)^degree p(2^k w), w = z - 1 = 2 s / (1 - s)."""
    found: Polynomial = []
    power = [1]  # of 1 - s
    for i in range(degree, -1, -1):
        if i < len(p):
            found = add(found, [0] * i + power, p[i] << (i * (k + 1)))
        power = times(power, [1, -1])
    return found


def _parts(p: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Return a and b of p(i v) = a(v^2) + i v b(v^2)."""
    signs = [(-1) ** (k // 2) * c for k, c in enumerate(p)]
    return add(signs[::2], []), add(signs[1::2], [])


def _square(p: Polynomial) -> Polynomial:
    """|p(i v)|^2, in v^2."""
    a, b = _parts(p)
    return add(times(a, a), [0, *times(b, b)])


def _frequencies(p: Polynomial) -> Array:
    """The v > 0 at which a polynomial in v^2 is zero; none where it is zero everywhere."""
    return np.asarray(np.sqrt(np.array(positive_roots(p))))


def _terms(p: Polynomial, v: float, degree: int, power: int = 1) -> list[int]:
    """The terms of p(v^power), times a power of two that is the same for all p up to a degree."""
    above, below = v.as_integer_ratio()
    t = below.bit_length() - 1
    return [c * above ** (power * k) << power * (degree - k) * t for k, c in enumerate(p)]


def _value(p: Polynomial, v: float, degree: int) -> tuple[int, int]:
    """p(i v), times that power of two."""
    terms = _terms(p, v, degree)
    return sum(terms[::4]) - sum(terms[2::4]), sum(terms[1::4]) - sum(terms[3::4])
