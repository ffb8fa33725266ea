"""Random loops with modes decades apart, in random units, and their margins by naive exact arithmetic.

The numerator and the denominator are determinants, expanded term by term in fractions; real roots lie
between those of the derivative, where the exact sign changes; values have 60 digits.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, permutations, zip_longest
from math import gcd, lcm, sqrt

import mpmath
import numpy as np

import lqrad

# Modes in rad/s, as powers of ten.
SLOWEST, FASTEST = -3, 9
DIGITS = 60


# Loops


def random_loop(seed: int, *, discrete: bool, delay: int = 0, most: int = 4) -> lqrad.StateSpace:
    """A loop that is stable when closed, by the exact criterion; it need not be so when open."""
    rng = np.random.default_rng(seed)
    while True:
        dt = float(10 ** rng.uniform(-9, 2)) if discrete else 0.0
        n = int(rng.integers(1, most + 1))
        form = rng.choice([_companion, _modal, _mixed])
        A, B, C, D = _in_random_units(rng, *form(rng, n, dt))
        for _ in range(6):
            loop = lqrad.StateSpace(A, B, C, 0 * D if delay else D, dt=dt, delay=delay)
            num, den = transfer(loop)
            hidden = num and num[0] == den[0] == 0
            closed = add(num, den)
            if num and not hidden and len(closed) == len(den) and stable(closed):
                return loop
            C, D = C * 10.0 ** -rng.integers(1, 4), D / 10


def _modes(rng, n, dt, unstable):
    """Modes of a plant, as s, or as z in discrete time."""
    s = []
    while len(s) < n:
        w, sign = (
            10 ** rng.uniform(SLOWEST, FASTEST),
            rng.choice([1, -1], p=[unstable, 1 - unstable]),
        )
        if len(s) < n - 1 and rng.random() < 0.5:
            damping = 10 ** rng.uniform(-3, 0)
            pair = sign * damping * w + 1j * w * sqrt(1 - damping**2)
            s += [pair, np.conj(pair)]
        else:
            s.append(0.0 if rng.random() < 0.1 and 0 not in s else sign * w)
    s = np.array(s, dtype=complex)
    return np.exp(np.clip(s.real * dt, -1e3, 1) + 1j * s.imag * dt) if dt else s


def _companion(rng, n, dt):
    """A companion form of which |L| is one at a random frequency."""
    zeros = _modes(rng, int(rng.integers(0, n + 1)), dt, 0.3)
    den, num = np.poly(_modes(rng, n, dt, 0.1)).real, np.atleast_1d(np.poly(zeros)).real
    w = 10 ** rng.uniform(SLOWEST, FASTEST)
    s = np.exp(1j * min(w * dt, 3)) if dt else 1j * w
    num = num * abs(np.polyval(den, s) / np.polyval(num, s)) * rng.choice([1, 1, 1, -1])
    num = np.append(np.zeros(n + 1 - len(num)), num)
    A = np.vstack([-den[1:], np.eye(n - 1, n)])
    return A, np.eye(n, 1), (num - num[0] * den)[None, 1:], num[:1, None]


def _modal(rng, n, dt):
    A, modes, i = np.zeros((n, n)), _modes(rng, n, dt, 0.1), 0
    while i < n:
        size = 2 if modes[i].imag else 1
        x, y = modes[i].real, modes[i].imag
        A[i : i + size, i : i + size] = [[x, y], [-y, x]] if y else x
        i += size
    gain = np.sqrt(np.abs(1 - modes.real if dt else modes) + 1e-9)
    return (
        A,
        rng.normal(size=(n, 1)) * gain[:, None],
        rng.normal(size=(1, n)) * gain,
        np.array([[rng.choice([0.0, 0.0, rng.normal()])]]),
    )


def _mixed(rng, n, dt):
    A, B, C, D = _modal(rng, n, dt)
    T = rng.normal(size=(n, n))
    return T @ A @ np.linalg.inv(T), T @ B, C @ np.linalg.inv(T), D


def _in_random_units(rng, A, B, C, D):
    x, u = 2.0 ** rng.integers(-40, 41, size=len(A)), 2.0 ** rng.integers(-40, 41)
    return A * x / x[:, None], B / x[:, None] * u, C * x / u, D


# Polynomials of whole numbers, that of s^0 first


def add(p, q):
    return _trimmed([a + b for a, b in zip_longest(p, q, fillvalue=0)])


def times(p, q):
    product = [0] * (len(p) + len(q) - 1) if p and q else []
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            product[i + j] += a * b
    return _trimmed(product)


def power(p, k):
    return times(p, power(p, k - 1)) if k else [1]


def _trimmed(p):
    return _trimmed(p[:-1]) if p and not p[-1] else p


def transfer(loop):
    """Return num and den of L, in discrete time as functions of s with z = (1 + s)/(1 - s)."""
    system = loop.undelayed
    n = system.n
    whole = [
        [[Fraction(-v)] for v in row]
        for row in np.block([[system.A, system.B], [system.C, system.D]])
    ]
    whole[n][n] = [-whole[n][n][0]]
    for i in range(n):
        whole[i][i].append(Fraction(1))
        whole[i][n] = [-whole[i][n][0]]
    den = _determinant([row[:n] for row in whole[:n]])
    num = _determinant(whole)
    den = times(den, power([0, 1], loop.delay))
    below = lcm(*(Fraction(c).denominator for c in num + den))
    num, den = ([int(c * below) for c in p] for p in (num, den))
    if loop.dt:
        degree = len(den) - 1
        num, den = (_mapped(p, degree) for p in (num, den))
    content = gcd(*num, *den)
    return [c // content for c in num], [c // content for c in den]


def _determinant(matrix):
    """By Leibniz's formula."""
    total = []
    for order in permutations(range(len(matrix))):
        swaps = sum(a > b for i, a in enumerate(order) for b in order[i + 1 :])
        term = [(-1) ** swaps]
        for row, j in zip(matrix, order, strict=True):
            term = times(term, _trimmed(row[j]))
        total = add(total, term)
    return total


def _mapped(p, degree):
    terms = [
        times([c], times(power([1, 1], k), power([1, -1], degree - k))) for k, c in enumerate(p)
    ]
    total = []
    for term in terms:
        total = add(total, term)
    return total


def stable(p):
    """Whether all roots have negative real parts, by Routh's table."""
    above, below = ([c if p[-1] > 0 else -c for c in p[start::-2]] for start in (-1, -2))
    while above and below:
        if below[0] <= 0 or above[0] <= 0:
            return False
        rest = [
            below[0] * x - above[0] * y for x, y in zip_longest(above[1:], below[1:], fillvalue=0)
        ]
        shared = gcd(*rest) or 1
        above, below = below, [c // shared for c in rest if any(rest)]
    return len(above) == 1


def positive_roots(p):
    """The positive roots of odd multiplicity."""
    p = p[next((k for k, c in enumerate(p) if c), 0) :]
    if len(p) < 2:
        return []
    knots = positive_roots([k * c for k, c in enumerate(p)][1:])
    beyond = 2.0 ** (max(c.bit_length() for c in p) - p[-1].bit_length() + 2)
    before = 2.0 ** (p[0].bit_length() - max(c.bit_length() for c in p) - 2)
    edges = [before, *(x for x in knots if before < x < beyond), beyond]
    found = []
    for low, high in pairwise(edges):
        rises = _positive(p, high)
        if _positive(p, low) == rises:
            continue
        while True:
            middle = sqrt(low) * sqrt(high) if high > 2 * low else (low + high) / 2
            if not low < middle < high:
                break
            low, high = (low, middle) if _positive(p, middle) == rises else (middle, high)
        found.append(high)
    return found


def _positive(p, x):
    above, below = x.as_integer_ratio()
    value, scale = 0, 1
    for c in reversed(p):
        value, scale = value * above + c * scale, scale * below
    return value > 0


# Margins


def exact_margins(loop):
    """The figures of `lqrad.margins(loop).loops[0]`, by name."""
    num, den = transfer(loop)
    with mpmath.workdps(DIGITS):
        return _margins(num, den, loop.dt)


def _margins(num, den, dt):
    (a, b), (c, d) = _on_axis(num), _on_axis(den)

    def L(v):
        s = mpmath.mpc(0, v)
        return _value(num, s) / _value(den, s)

    def frequency(v):
        return float(2 * mpmath.atan(v) / dt if dt else v)

    real = [
        (frequency(v), -1 / L(v).real)
        for v in _axis_roots(add(times(b, c), _negative(times(a, d))))
    ]
    if den[0]:
        real.append((0.0, -mpmath.mpf(den[0]) / num[0] if num[0] else mpmath.mpf(-1)))
    if len(num) == len(den):
        real.append((np.pi / dt if dt else np.inf, -mpmath.mpf(den[-1]) / num[-1]))
    real = sorted((w, factor) for w, factor in real if factor > 0)
    square = {name: _square(p) for name, p in (("num", num), ("den", den))}
    ones = _axis_roots(add(square["num"], _negative(square["den"])))
    turns = [float(mpmath.arg(-L(v))) for v in ones]
    delays = [
        (t if t >= 0 else t + 2 * np.pi) / frequency(v) for v, t in zip(ones, turns, strict=True)
    ]
    if not dt and len(num) == len(den) and abs(num[-1]) >= abs(den[-1]):
        delays = [0.0]
    closed = _square(add(num, den))
    return {
        "gain": (
            float(max((f for _, f in real if f < 1), default=0.0)),
            float(min((f for _, f in real if f > 1), default=np.inf)),
        ),
        "phase": min((abs(np.degrees(t)) for t in turns), default=np.inf),
        "delay": min(delays, default=np.inf),
        "disk": 2 / _peak(_square(add(den, _negative(num))), closed),
        "sensitivity": _peak(square["den"], closed),
        "complementary": _peak(square["num"], closed),
        "gain_crossings": [frequency(v) for v in ones],
        "phase_crossings": [w for w, _ in real],
    }


def _value(p, s):
    total = mpmath.mpf(0)
    for c in reversed(p):
        total = total * s + c
    return total


def _negative(p):
    return [-c for c in p]


def _on_axis(p):
    """Return a and b of p(i v) = a(v^2) + i v b(v^2)."""
    signs = [(-1) ** (k // 2) * c for k, c in enumerate(p)]
    return _trimmed(signs[::2]), _trimmed(signs[1::2])


def _square(p):
    a, b = _on_axis(p)
    return add(times(a, a), times([0, 1], times(b, b)))


def _axis_roots(p):
    return [mpmath.sqrt(x) for x in positive_roots(p)]


def _peak(F, G):
    """The root of the largest F / G."""
    slope = [[k * c for k, c in enumerate(p)][1:] for p in (F, G)]
    turns = positive_roots(add(times(slope[0], G), _negative(times(F, slope[1]))))
    values = [_value(F, x) / _value(G, x) for x in turns]
    values.append(mpmath.mpf(F[0]) / G[0])
    if len(F) == len(G):
        values.append(mpmath.mpf(F[-1]) / G[-1])
    return float(mpmath.sqrt(max(values)))
