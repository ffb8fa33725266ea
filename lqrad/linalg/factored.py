"""The transfer function of one input and one output by its poles, zeros and gain.

    L(s) = k prod_i (s - r_i)^{e_i},     e_i > 0 for zeros and < 0 for poles,     s = i v

on the border of stability. Discrete time is brought to it by z = (1 + s)/(1 - s), so that
v = tan(omega dt / 2), and d steps of dead time are the roots 1 and -1 with exponents d and -d.
In this form log L and its derivative are sums, whatever the sizes of L and v, and their change
within [v - h, v + h] has a bound: where every root is further from i v than h,

    |(log L)''| <= sum_i |e_i| / (|i v - r_i| - h)^2

so that a search by intervals can prove what it did not find. The roots are those of the pencil

    [A B; C D] - s [I 0; 0 0]          (A - I in discrete time, where s is z - 1)

balanced by powers of two, by the QR and QZ algorithms and then corrected each by itself with
residuals in twice the working precision: modes that lie decades apart are right to the last digits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lqrad.arguments import EPS, Array
from lqrad.errors import LqradError
from lqrad.linalg.balance import balance, in_units
from lqrad.linalg.rational import EXACT, Rational
from lqrad.linalg.twice import Complex, Pencil, columns, sum_of_products, two_sum

# What twice the working precision leaves of a number that is zero, beside its terms.
_NOTHING = 2.0**-80
# On the border: nearer to it than this part of a root's own size. Beside it for a search.
_ON_BORDER, _BESIDE = 4 * EPS, 2.0**-40
# The product and the equations must agree to this.
_AGREES = 1e-7
_REFINEMENTS = 10
# Roots below this part of the largest are looked for again, in their own size.
_SLOW = 2.0**-10
# A step of Newton's method below this part of the root is that of one that converges.
_COLLAPSED = 2.0**-20
_CHECKED = 24
# Of more roots than this only those are corrected that are so near to the border.
_LARGE, _NEAR = 40, 2.0**-30


@dataclass(frozen=True, eq=False)
class Factored:
    """L by its roots in s, in units of time in which the fastest mode is about one.

    `gain` is log |k|, -inf where L is zero, and `negative` tells whether k < 0; `rate` is the unit of v
    in rad/s, 1/dt in discrete time.
    """

    roots: Complex
    exponents: Array
    gain: float
    negative: bool
    rate: float
    discrete: bool

    def frequency(self, v: Array) -> Array:
        """The frequencies, in rad/s, of points i v."""
        return np.asarray(self.rate * (2 * np.arctan(v) if self.discrete else v))

    def log(self, v: Array) -> Complex:
        """Return log L at points i v, its imaginary part up to turns."""
        return self.log_and_slope(v)[0]

    def turns(self, v: Array) -> Array:
        """Return the angles from L at points i v to -1, from -pi to pi."""
        return np.asarray(np.angle(-np.exp(1j * self.log(v).imag)))

    def log_and_slope(self, v: Array) -> tuple[Complex, Complex]:
        """Return log L, its imaginary part up to turns, and its derivative in v."""
        x, y = -self.roots.real, v[:, None] - self.roots.imag
        size = np.hypot(x, y)
        with np.errstate(divide="ignore", invalid="ignore"):
            turned = np.arctan2(y, x) @ self.exponents + np.pi * self.negative
            value = self.gain + np.log(size) @ self.exponents + 1j * turned
            slope = (y / size / size + 1j * (x / size / size)) @ self.exponents
        return value, slope

    def bend(self, v: Array, h: Array) -> tuple[Array, Array]:
        """Return bounds of |(log L)''| within h of v and of its imaginary part alone.

        Both are infinite where a root is as near as h. A root r bends the angle of L by
        Im (i v - r)^-2 = 2 Re r (v - Im r) / |i v - r|^4.
        """
        free = np.hypot(self.roots.real, v[:, None] - self.roots.imag) - h[:, None]
        size = np.abs(self.exponents)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            each = np.where(free > 0, size / free**2, np.inf)
            angle = each * np.minimum(1.0, 2 * np.abs(self.roots.real) / free)
        angle = np.where(free > 0, angle, np.inf)
        return np.asarray(each.sum(axis=1)), np.asarray(angle.sum(axis=1))

    def near_zero(self) -> tuple[float, int, bool]:
        """Return log |c|, q and whether c < 0, for L ~ c s^q as s goes to zero."""
        at_zero = self.roots == 0
        others, e = self.roots[~at_zero], self.exponents[~at_zero]
        turns = np.angle(-others) @ e / np.pi + self.negative
        size = self.gain + float(np.log(np.abs(others)) @ e)
        return size, int(self.exponents[at_zero].sum()), bool(round(turns) % 2)

    def near_infinity(self) -> tuple[float, int, bool]:
        """Return log |k|, q and whether k < 0, for L ~ k s^q as s goes to infinity."""
        return self.gain, int(self.exponents.sum()), self.negative

    def on_border(self) -> NDArray[np.bool_]:
        """Which roots are on the border of stability, s = 0 included."""
        return _level(self.roots)

    def unstable_poles(self) -> int:
        """How many poles are outside the border."""
        outside = (self.roots.real > 0) & ~self.on_border()
        return -int(np.minimum(self.exponents[outside], 0).sum())

    def beside_border(self) -> Factored:
        """The same with roots on the border, but s = 0, moved inside by 2^-40 of their size.

        A curve that passes a pole on the border leaves it on the stable side, as Nyquist's
        criterion wants it.
        """
        return replace(self, roots=self.roots - _BESIDE * self.on_border() * np.abs(self.roots))


def factored(A: Array, B: Array, C: Array, D: Array, *, dt: float, delay: int = 0) -> Factored:
    """Return the system of one input and one output with its roots, and prove them.

    The sampling time dt is 0 in continuous time; `delay` counts steps of dead time, in discrete time.

    Raises
    ------
    LqradError
        If the product of the roots is not what the equations say at frequencies of all sizes.

    Examples
    --------
    >>> one = np.eye(1)
    >>> L = factored(-one, one, 2 * one, 0 * one, dt=0)
    >>> L.roots * L.rate, np.exp(L.near_zero()[0])
    (array([-1.+0.j]), np.float64(2.0))
    """
    if len(A) <= EXACT:
        exact = Rational.of(A, B, C, D, dt)
        gain, _, negative = exact.near_infinity()
        found = Factored(*exact.roots(), gain, negative, exact.rate, exact.discrete)
    else:
        found = _rounded(A, B, C, D, dt)
    if delay:
        found = replace(  # z^-1 = -(s - 1)/(s + 1)
            found,
            roots=np.append(found.roots, [1.0, -1.0]),
            exponents=np.append(found.exponents, [delay, -delay]),
            negative=found.negative != bool(delay % 2),
        )
    return found


def _rounded(A: Array, B: Array, C: Array, D: Array, dt: float, *, alone: bool = False) -> Factored:
    """By rounded roots; where that fails, in units of A `alone`.

    Entries of B and C that decay along A, as in a rod, lead the units of all three astray.
    """
    system = _Scaled.of(A, B, C, D, bool(dt), alone=alone)
    zeros, poles = _without_pairs(system.zeros(), system.poles())
    roots = np.concatenate([zeros, poles])
    exponents = np.concatenate([np.ones(len(zeros)), -np.ones(len(poles))])
    if dt:
        roots, exponents = _mapped(roots, exponents)
    rate = 1 / dt if dt else system.rate
    try:
        return system.proven(Factored(roots, exponents, 0.0, False, rate, bool(dt)))
    except LqradError:
        if alone:
            raise
        return _rounded(A, B, C, D, dt, alone=True)


def closed_poles(A: Array, B: Array, C: Array, D: Array, *, dt: float) -> tuple[Complex, Array]:
    """Return the poles of a loop closed by negative feedback, and how far each is outside.

    They are the finite eigenvalues of the pencil [A B; C I + D] - s [I 0; 0 0], for a loop of any
    width, and as right as those of `factored`. What is outside is Re s, or |z| - 1 in discrete
    time; zero on the border to rounding.
    """
    system = _Scaled.of(A, B, C, D, bool(dt))
    s = system.closed()
    if not dt:
        return s * system.rate, np.where(_level(s), 0.0, s.real * system.rate)
    return 1 + s, _beyond(s) / (1 + np.abs(1 + s))


def _beyond(r: Complex) -> Array:
    """|z|^2 - 1 of z = 1 + r, without cancellation in r, and zero where that is hidden by rounding."""
    square = np.abs(r) ** 2
    beyond = 2 * r.real + square
    level = np.abs(beyond) <= _ON_BORDER * (2 * np.abs(r.real) + square)
    return np.where(level, 0.0, beyond)


def _mapped(roots: Complex, exponents: Array) -> tuple[Complex, Array]:
    """Roots in z - 1 as those in s of z = (1 + s)/(1 - s), and what the map adds at s = 1."""
    fall = -exponents.sum()
    finite = roots != -2  # z = -1 is s = infinity
    r, e = roots[finite], exponents[finite]
    # Re s = (|z|^2 - 1) / |1 + z|^2
    mapped = _beyond(r) / np.abs(2 + r) ** 2 + 1j * (r / (2 + r)).imag
    if fall:
        mapped, e = np.append(mapped, 1.0), np.append(e, fall)
    return mapped, e


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A, B, C, D balanced, in units of time in which A is about one; A - I in discrete time."""

    high: Array  # the bordered matrix [A B; C D]
    low: Array
    n: int
    rate: float
    discrete: bool

    @classmethod
    def of(
        cls, A: Array, B: Array, C: Array, D: Array, discrete: bool, *, alone: bool = False
    ) -> _Scaled:
        """The system in units that A, B and C choose, or A alone."""
        n, index = len(A), np.arange(len(A))
        units = balance(A, *(() if alone else (B, C)), continuous=not discrete)
        x, u, time = units.x, units.u, 0 if discrete else units.time
        if alone:  # B and C of one size, by the unit of the signal that goes round
            zero = np.zeros(B.shape[1], dtype=x.dtype)
            sizes = np.abs(in_units(B, x, zero, time)).max(), np.abs(in_units(C, zero, x)).max()
            u = zero + round(float(np.diff(np.log2(sizes))[0]) / 2) if all(sizes) else zero
        above = [in_units(A, x, x, time), in_units(B, x, u, time)]
        high = np.block([above, [in_units(C, u, x), in_units(D, u, u)]])
        low = np.zeros(len(high))
        if discrete:
            high[index, index], low[:n] = two_sum(high[index, index], -np.ones(n))
        high = scipy.linalg.matrix_balance(high, permute=False)[0]
        return cls(np.asarray(high, dtype=np.float64), low, n, 2.0**-time, discrete)

    def pencil(self, poles: bool) -> Pencil:
        kept = self.n if poles else len(self.high)
        return Pencil(self.high[:kept, :kept], self.low[:kept], self.n)

    def poles(self) -> Complex:
        pencil = self.pencil(poles=True)
        return self.refined(_starts(pencil, self.n), pencil)

    def zeros(self) -> Complex:
        """The finite zeros, as many as the Markov parameters say."""
        pencil = self.pencil(poles=False)
        return self.refined(_starts(pencil, self.n - self.relative_degree()), pencil)

    def closed(self) -> Complex:
        """The roots of I + L, of a loop of any width."""
        high, low = self.high.copy(), self.low.copy()
        index = np.arange(self.n, len(high))
        high[index, index], low[self.n :] = two_sum(high[index, index], np.ones(len(index)))
        pencil = Pencil(high, low, self.n)
        return self.refined(_starts(pencil, self.n), pencil)

    def relative_degree(self) -> int:
        """How many of D, CB, CAB, ... are zero before the first that is not; n + 1 if all are."""
        n = self.n
        A, C = self.high[:n, :n], self.high[n, :n]
        if self.high[n, n]:
            return 0
        x, rest = self.high[:n, n], np.zeros(n)
        size = np.abs(x)
        for degree in range(1, n + 1):
            value, more = sum_of_products(zip(np.r_[C, C], np.r_[x, rest], strict=True))
            if abs(value + more) > _NOTHING * float(np.abs(C) @ size):
                return degree
            size = np.abs(A) @ size
            x, rest = sum_of_products([*columns(A, x), *columns(A, rest), (self.low[:n], x)])
            scale = 2.0 ** -np.floor(np.log2(size.max())) if size.any() else 1.0
            x, rest, size = x * scale, rest * scale, size * scale
        return n + 1

    def refined(self, roots: Complex, pencil: Pencil) -> Complex:
        """Each root s of a pencil s E - P, with a vector x, (s E - P) x = 0, by Newton's method.

            (s E - P) dx + E x ds = -(s E - P) x,     dx = 0 where x is largest

        The right-hand side is computed in twice the working precision, x is kept as a sum of two
        parts, and so s is right to rounding where the working precision is enough to converge.

        References
        ----------
        Dongarra, Moler and Wilkinson, Improving the accuracy of computed eigenvalues and
        eigenvectors, SIAM Journal on Numerical Analysis 20(1), 1983, 23-45.
        """
        upper = np.flatnonzero(roots.imag >= 0)
        if len(roots) > _LARGE:  # of many roots, those that rounding may take to the border
            outside = roots.real + (np.abs(roots) ** 2 / 2 if self.discrete else 0.0)
            near = np.minimum(np.abs(outside), np.abs(roots)) <= _NEAR * np.abs(roots).max()
            upper = upper[near[upper]]
        if not len(upper):
            return roots
        s, N = roots[upper], len(pencil.E)
        real = s.imag == 0
        x, rest = _null_vectors(pencil.at(s)), np.zeros((len(s), N)) + 0j
        pivot = np.abs(x).argmax(axis=1)
        before = np.full(len(s), np.inf)
        for _ in range(_REFINEMENTS):
            right = np.zeros((len(s), N + 1)) + 0j
            right[:, :N] = np.add(*pencil.residual(s, [x, rest], np.zeros(N)))
            step = _solved(_bordered(pencil, s, x, pivot), right)
            ds = np.where(real, step[:, N].real, step[:, N])
            moves = np.isfinite(step).all(axis=1) & (np.abs(ds) <= before)
            before = np.where(moves, np.abs(ds), 0.0)
            s = np.where(moves, s + ds, s)
            dx = np.where(moves[:, None], step[:, :N] + rest, rest)
            x, rest = x + dx, dx - ((x + dx) - x)
        # A step that is still as large as the root, and so small: the root is zero.
        small = np.abs(s) <= _COLLAPSED**2 * np.abs(s).max()
        s = np.where(small & (np.abs(ds) >= _COLLAPSED * np.abs(s)), 0.0, s)
        noise = _noise(pencil, s, x, pivot)
        s = np.where(np.abs(s) <= _NOTHING * noise, 0.0, s)
        if not self.discrete:
            s = np.where(np.abs(s.real) <= _NOTHING * noise, 1j * s.imag, s)
        return _merged(roots, upper, s)

    def proven(self, found: Factored) -> Factored:
        """The product with its gain, which the equations give at frequencies of all sizes."""
        n, roots = self.n, found.roots
        sizes = np.abs(roots[roots != 0])
        v = np.unique(np.concatenate([sizes, np.abs(roots.imag[roots.imag != 0]), [1.0]]))
        v = np.sort(np.concatenate([0.83 * v, 1.07 * v]))
        if len(v) > _CHECKED:
            v = v[np.linspace(0, len(v) - 1, _CHECKED).astype(int)]
        s = 2j * v / (1 - 1j * v) if found.discrete else 1j * v
        B, C, D = self.high[:n, n], self.high[n, :n], self.high[n, n]
        values = np.full(len(v), D + 0j)
        sure = np.ones(len(v), dtype=bool)
        if n:
            parts, sure = self.pencil(poles=True).solve(s, B)
            states = np.concatenate(parts, axis=1).T
            weights = np.tile(C, len(parts))
            real = sum_of_products([(D, np.ones(())), *zip(weights, states.real, strict=True)])
            imag = sum_of_products(zip(weights, states.imag, strict=True))
            values = (real[0] + real[1]) + 1j * (imag[0] + imag[1])
        if not values.any():
            return replace(found, gain=-np.inf, roots=roots[:0], exponents=found.exponents[:0])
        with np.errstate(divide="ignore"):
            gains = np.log(values) - found.log(v)
        gain = float(np.median(gains.real[sure])) if sure.any() else np.nan
        # What rounding hides decides nothing where |L| is far from one, as at an integrator.
        hidden = ~sure & ~(np.abs(found.log(v).real + gain) > -np.log(EPS))
        if hidden.any():
            raise LqradError(
                f"the loop cannot be computed at {found.frequency(v[hidden][0]):.4g} rad/s: its "
                "equations are singular to rounding there",
                "try a balanced or a minimal realisation of the loop",
            )
        v, gains = v[sure], gains[sure]
        turned = np.exp(1j * gains.imag)
        negative = bool(np.median(turned.real) < 0)
        apart = np.abs(gains.real - gain) + np.abs(turned - (-1 if negative else 1))
        if not apart.max() <= _AGREES:
            raise LqradError(
                f"the poles and zeros of the loop, computed, miss it by {apart.max():.2g} of itself at "
                f"{found.frequency(v[apart.argmax()]):.4g} rad/s, so that nothing can be said of its margins",
                "try a balanced or a minimal realisation of the loop",
            )
        return replace(found, gain=gain, negative=negative)


def _level(roots: Complex) -> NDArray[np.bool_]:
    """Which roots are on the imaginary axis to rounding."""
    return np.asarray(np.abs(roots.real) <= _ON_BORDER * np.abs(roots))


def _bordered(pencil: Pencil, s: Complex, x: Complex, pivot: NDArray[np.intp]) -> Complex:
    """The matrices of Newton's method, [s E - P, E x; e', 0] with e the unit vector of the pivot."""
    N = len(pencil.E)
    matrices = np.zeros((len(s), N + 1, N + 1)) + 0j
    matrices[:, :N, :N] = pencil.at(s)
    matrices[:, :N, N] = pencil.E * x
    matrices[np.arange(len(s)), N, pivot] = 1.0
    return matrices


def _noise(pencil: Pencil, s: Complex, x: Complex, pivot: NDArray[np.intp]) -> Array:
    """How far a change of all terms of (s E - P) x by a part of one moves each root."""
    N = len(pencil.E)
    last = np.zeros((len(s), N + 1)) + 0j
    last[:, N] = 1.0
    weights = np.abs(_solved(_bordered(pencil, s, x, pivot).swapaxes(1, 2), last)[:, :N])
    terms = (np.abs(pencil.high) @ np.abs(x)[..., None])[..., 0]
    return np.asarray(np.nan_to_num((weights * terms).sum(axis=1)))


def _starts(pencil: Pencil, count: int) -> Complex:
    """So many finite eigenvalues of a pencil, those nearest to zero, nearly right.

    An eigenvalue comes with an error that is small beside the largest one. The small ones are
    therefore looked for again, as s = c - 1/t with the large eigenvalues t of (c E - P)^-1 E for a
    c of about their size, and so on.
    """
    if count <= 0:
        return np.zeros(0, dtype=np.complex128)
    alpha, beta = scipy.linalg.eigvals(
        pencil.high + np.diag(pencil.low), np.diag(pencil.E), homogeneous_eigvals=True
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = _smallest(alpha / beta, count)
    N = len(pencil.E)
    while True:
        slow = int(np.sum(np.abs(roots) < _SLOW * np.abs(roots[count - 1])))
        if not 0 < slow < count or not roots[slow - 1]:
            return roots
        c = 2.0 ** np.ceil(np.log2(np.abs(roots[slow - 1])) + 1)
        parts, sure = pencil.solve(np.full(N, c + 0j), np.diag(pencil.E))
        if not sure.all():
            return roots
        t = np.linalg.eigvals(np.sum(parts, axis=0).real.T) + 0j
        with np.errstate(divide="ignore", invalid="ignore"):
            roots[:slow] = _smallest(c - 1 / t, slow)
        count = slow


def _smallest(values: Complex, count: int) -> Complex:
    sizes = np.where(np.isfinite(values), np.abs(values), np.inf)
    return np.asarray(values[np.argsort(sizes, kind="stable")[:count]], dtype=np.complex128)


def _null_vectors(matrices: Complex) -> Complex:
    """Vectors with M x almost zero, for matrices that are almost singular, by inverse iteration."""
    x = np.random.default_rng(0).normal(size=matrices.shape[:2]) + 0j
    for _ in range(2):
        x = _solved(matrices, x)
        x = x / x[np.arange(len(x)), np.abs(x).argmax(axis=1)][:, None]
    return x


def _solved(matrices: Complex, right: Complex) -> Complex:
    """Solutions; where a matrix is singular to the last digit, of one a few rounding errors away."""
    rng = np.random.default_rng(1)
    size = np.abs(matrices).max(axis=(1, 2), keepdims=True)
    tiny = np.where(size > 0, EPS**2 * size, 1.0) * np.eye(matrices.shape[1])
    near = matrices
    for errors in (4, 16, 64, 256):
        try:
            x = np.linalg.solve(near, right[..., None])[..., 0]
        except np.linalg.LinAlgError:
            x = np.full(right.shape, np.nan)
        if np.isfinite(x).all():
            return np.asarray(x)
        noise = errors * EPS * rng.normal(size=matrices.shape)
        near = np.asarray(matrices * (1 + noise) + tiny)
    return np.asarray(x)


def _merged(roots: Complex, upper: NDArray[np.intp], s: Complex) -> Complex:
    """All roots from the refined upper ones; a pair that ran into one keeps its starts."""
    old = roots[upper]
    others = ~np.eye(len(s), dtype=bool)
    gap, before = np.abs(s[:, None] - s), np.abs(old[:, None] - old)
    ran = (others & (gap <= 1e-6 * before)).any(axis=1)
    s = np.where(ran, old, s)
    paired = s[old.imag > 0]
    kept = np.ones(len(roots), dtype=bool)
    kept[upper] = False
    for root in old[old.imag > 0].conj():  # the other of its pair, equal but for rounding
        lower = np.where(kept & (roots.imag < 0), np.abs(roots - root), np.inf)
        kept[lower.argmin()] &= not np.isfinite(lower.min())
    return np.concatenate([roots[kept], s[old.imag == 0], paired, paired.conj()])


def _without_pairs(zeros: Complex, poles: Complex) -> tuple[Complex, Complex]:
    """Without zeros that are poles to rounding."""
    kept = []
    for z in zeros:
        apart = np.abs(poles - z)
        if apart.min(initial=np.inf) <= 8 * EPS * abs(z):
            poles = np.delete(poles, apart.argmin())
        else:
            kept.append(z)
    return np.array(kept, dtype=np.complex128), poles
