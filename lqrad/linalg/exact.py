"""Transfer functions without rounding: polynomials whose coefficients are whole numbers.

Every float is a whole number times a power of two, so that for a system of one input and one output

    L(s) = C (s I - A)^-1 B + D = num(s) / den(s)

is known exactly, by Faddeev and LeVerrier's recursion on whole numbers,

    N[0] = I,   c[k] = -trace(A N[k-1]) / k,   N[k] = A N[k-1] + c[k] I
    den = s^n + c[1] s^(n-1) + ...,   num = C N[0] B s^(n-1) + C N[1] B s^(n-2) + ... + D den

Its roots are found by Aberth's method: every correction p(s)/p'(s) is evaluated with 500 bits, at the
s of the moment, so that roots are right to the last digit however far apart they are, and the real
part of a root is right even where it is 2^-100 of the root's size.

A polynomial is a list of its coefficients, that of s^0 first and the last one not zero; [] is zero.

References
----------
Faddeev and Faddeeva, Computational Methods of Linear Algebra, 1963, section 47.
Bini, Numerical computation of polynomial zeros by means of Aberth's method, Numerical
Algorithms 13, 1996, 179-200.
"""

from __future__ import annotations

from itertools import pairwise, zip_longest
from math import frexp, gcd, log2

import numpy as np

from lqrad.arguments import Array
from lqrad.errors import LqradError

Polynomial = list[int]

# A prime, by which common factors are excluded before they are looked for.
_PRIME = 2**61 - 1
# A root is real, or on the imaginary axis, where its other part is below this share of it.
_NOTHING = 2.0**-90
_SETTLED = 2.0**-51
# Sums are right to so many bits of their largest term.
_BITS = 500
_SWEEPS = 500


def _shortened(p: Polynomial) -> Polynomial:
    """The polynomial without leading zeros."""
    while p and not p[-1]:
        p.pop()
    return p


def _primitive(p: Polynomial) -> Polynomial:
    """The polynomial without leading zeros, and without a common factor of its numbers."""
    content = gcd(*p)
    return [c // content for c in _shortened(p)]


def add(p: Polynomial, q: Polynomial, factor: int = 1) -> Polynomial:
    """Return p + factor q.

    Examples
    --------
    >>> add([1, 2], [0, 1, 3], -1)
    [1, 1, -3]
    """
    return _shortened([a + factor * b for a, b in zip_longest(p, q, fillvalue=0)])


def times(p: Polynomial, q: Polynomial) -> Polynomial:
    """Return p q."""
    product = [0] * (len(p) + len(q) - 1) if p and q else []
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            product[i + j] += a * b
    return product


def derivative(p: Polynomial) -> Polynomial:
    return [k * c for k, c in enumerate(p)][1:]


def quotient(p: Polynomial, q: Polynomial) -> Polynomial:
    """Return p / q, where q divides p and has no common factor of its numbers."""
    rest, found = list(p), []
    for k in range(len(p) - len(q), -1, -1):
        share = rest[k + len(q) - 1] // q[-1]  # whole, by Gauss's lemma
        for i, c in enumerate(q):
            rest[k + i] -= share * c
        found.append(share)
    return found[::-1]


def common(p: Polynomial, q: Polynomial) -> Polynomial:
    """Return the greatest common divisor of two polynomials.

    Examples
    --------
    >>> common([-1, 0, 1], [1, 2, 1])
    [1, 1]
    """
    if len(_divided(p, q, _PRIME)) == 1:
        return [1]
    return _divided(p, q, 0)


def _divided(p: Polynomial, q: Polynomial, modulus: int) -> Polynomial:
    """The last remainder of Euclid's algorithm that is not zero, modulo a prime or (0) exactly."""

    def reduced(p: Polynomial) -> Polynomial:
        return _shortened([c % modulus for c in p]) if modulus else _primitive(list(p))

    p, q = reduced(p), reduced(q)
    while q:
        while len(p) >= len(q):
            up, share, shift = q[-1], p[-1], len(p) - len(q)
            p = reduced([up * c - share * d for c, d in zip(p, [0] * shift + q, strict=True)])
        p, q = q, p
    return p if modulus else [c if p[-1] > 0 else -c for c in p]


def transfer(
    A: Array, low: Array, B: Array, C: Array, D: float
) -> tuple[Polynomial, Polynomial, int]:
    """Return num, den and k of C (s I - A - diag(low))^-1 B + D = num(2^k s) / den(2^k s).

    Examples
    --------
    >>> transfer(np.array([[-3.0]]), np.zeros(1), np.ones(1), np.array([0.5]), 0.0)
    ([1], [6, 2], 0)
    """
    n = len(A)
    (a, extra), k = _whole(A, low)
    (b,), of_b = _whole(B)
    (c,), of_c = _whole(C)
    (d,), of_d = _whole(np.array([D]))
    a = a + np.diag(extra) if n else a
    N = np.array([[int(i == j) for j in range(n)] for i in range(n)], dtype=object).reshape(n, n)
    den, num = [1], []
    for step in range(1, n + 1):
        num.append(int(c @ N @ b))
        N = a @ N
        den.append(-int(np.trace(N)) // step)
        N[np.arange(n), np.arange(n)] += den[-1]
    # L = 2^(k - of_b - of_c) num / den + 2^-of_d d, all exponents made whole numbers.
    up, down = k - of_b - of_c, -of_d
    least = min(up, down, 0)
    num = add(
        [v << (up - least) for v in num[::-1]], [v * int(d[0]) << (down - least) for v in den[::-1]]
    )
    return num, [v << -least for v in den[::-1]], k


def _whole(*arrays: Array) -> tuple[list[Array], int]:
    """Arrays of whole numbers, and k, such that each array is its whole numbers times 2^-k."""
    ratios = [[v.as_integer_ratio() for v in array.ravel().tolist()] for array in arrays]
    k = max((below for each in ratios for _, below in each), default=1).bit_length() - 1
    whole = []
    for array, each in zip(arrays, ratios, strict=True):
        numbers = np.empty(len(each), dtype=object)
        numbers[:] = [(above << k) // below for above, below in each]
        whole.append(numbers.reshape(array.shape))
    return whole, k


def roots(p: Polynomial) -> list[tuple[complex, int]]:
    """Return the roots of a polynomial and how often each is one.

    Raises
    ------
    LqradError
        If Aberth's method does not converge.

    Examples
    --------
    >>> roots([0, 4, 8, 5, 1])
    [(0j, 1), ((-1+0j), 1), ((-2+0j), 2)]
    """
    at_zero = next((k for k, c in enumerate(p) if c), 0)
    found = [(0j, at_zero)] if at_zero else []
    left = _primitive(p[at_zero:])
    if len(left) < 2:
        return found
    repeated, multiplicity = common(left, derivative(left)), 1
    distinct = quotient(left, repeated)
    while len(distinct) > 1:
        again = common(distinct, repeated)
        found += [(s, multiplicity) for s in _simple_roots(quotient(distinct, again))]
        distinct, repeated = again, quotient(repeated, again)
        multiplicity += 1
    return found


def positive_roots(p: Polynomial) -> list[float]:
    """Return the positive roots, rising."""
    return sorted(s.real for s, _ in roots(p) if s.imag == 0 and s.real > 0)


def _simple_roots(p: Polynomial) -> list[complex]:
    """The roots of a polynomial of which none is zero or repeated, by Aberth's method."""
    s = _starts(p)
    settled = [0] * len(s)
    for _ in range(_SWEEPS):
        for i, at in enumerate(s):
            if settled[i] > 1:  # the second step makes the small one of both parts right
                continue
            step = _newton(p, at)
            step /= 1 - step * sum(1 / (at - other) for j, other in enumerate(s) if j != i)
            s[i] = at - step
            settled[i] = settled[i] + 1 if abs(step) <= _SETTLED * abs(at) else 0
        if min(settled, default=2) > 1:
            break
    else:
        raise LqradError(
            f"the roots of a polynomial of degree {len(s)} are not found",
            "try a balanced or a minimal realisation of the loop",
        )
    real = [complex(v.real) for v in s if abs(v.imag) <= _NOTHING * abs(v)]
    upper = [v for v in s if v.imag > _NOTHING * abs(v)]
    upper = [complex(v.real if abs(v.real) > _NOTHING * abs(v) else 0.0, v.imag) for v in upper]
    return real + upper + [v.conjugate() for v in upper]


def _starts(p: Polynomial) -> list[complex]:
    """Points of about the size of the roots, from the slopes of the hull of log |coefficients|."""
    hull: list[tuple[int, float]] = []
    for k, c in enumerate(p):
        if not c:
            continue
        new = (k, log2(abs(c)))
        while len(hull) > 1 and _slope(hull[-2], new) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(new)
    s = []
    for a, b in pairwise(hull):
        size, count = 2.0 ** -_slope(a, b), b[0] - a[0]
        s += [size * np.exp(1j * (2 * np.pi * i / count + 0.7 + a[0])) for i in range(count)]
    return [complex(v) for v in s]


def _slope(a: tuple[int, float], b: tuple[int, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _newton(p: Polynomial, s: complex) -> complex:
    """p(s) / p'(s), from sums that are right to 2^-_BITS of their largest term.

    Horner's rule for s = 2^q w with |w| < 1, in whole multiples of that last bit.
    """
    q = frexp(abs(s))[1]
    last = max(c.bit_length() + k * q for k, c in enumerate(p)) - _BITS
    x, y = (_shifted(*z.as_integer_ratio(), _BITS - q) for z in (s.real, s.imag))
    value, slope = (0, 0), (0, 0)
    for k in range(len(p) - 1, -1, -1):
        a, b = slope
        c, d = value
        slope = ((a * x - b * y) >> _BITS) + c, ((a * y + b * x) >> _BITS) + d
        value = (
            ((c * x - d * y) >> _BITS) + _shifted(p[k], 1, k * q - last),
            (c * y + d * x) >> _BITS,
        )
    size = slope[0] ** 2 + slope[1] ** 2
    if not size:
        return s * 2.0**-20  # away from a place where the slope is zero
    along = value[0] * slope[0] + value[1] * slope[1]
    across = value[1] * slope[0] - value[0] * slope[1]
    return complex(along / size, across / size) * 2.0**q


def _shifted(above: int, below: int, up: int) -> int:
    """The whole number of above / below 2^up, where below is a power of two."""
    up -= below.bit_length() - 1
    return above << up if up >= 0 else above >> -up
