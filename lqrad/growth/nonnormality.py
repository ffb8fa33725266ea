"""What the powers of a matrix do before its spectral radius decides.

    x[t+1] = A x[t],      |A^k|^(1/k) -> rho(A)      as k -> infinity

Before that |A^k| may rise far above 1, and no eigenvalue tells. How far is told by the resolvent
outside of the unit circle, in the Kreiss constant

    K(A) = sup  (|z| - 1) |(z I - A)^-1|,      K(A) <= max_k |A^k| <= e n K(A)
         |z|>1

K is found without a grid: the largest resolvent on a circle by level sets, whose crossings are
eigenvalues of a pencil, and between two circles by the convexity of its logarithm.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    EPS,
    Array,
    check_count,
    check_finite,
    complex_array,
    frozen_array,
    renamed,
    shape_message,
)
from lqrad.copies import ReadOnly
from lqrad.errors import ShapeError
from lqrad.results import Report

Complex = NDArray[np.complex128]
Pencil = tuple[Array, Array]

_RTOL = 1e-8  # the width of the bracket in which the Kreiss constant is left
_NEAREST = 1e-12  # closer to the unit circle than this, |z| - 1 is mostly rounding
_ON_CIRCLE = 1e-4  # rounding takes roots off the unit circle; a few false ones do no harm
_FARTHEST = 1e300
_MOST_CIRCLES = 64
_MOST_LEVELS = 50  # three or four are enough where rounding does not blur the values
_MOST_STEPS = 10_000
_WORK = 10**8  # n^3 for each power
_DOUBLINGS = 40
_BATCH = 2**20  # entries of resolvents at once: 16 MB


@dataclass(frozen=True, eq=False)
class Nonnormality(ReadOnly, Report):
    """The powers of A, and the numbers that foretell them.

    Attributes
    ----------
    A : (n, n)
    k : (T+1,) of int
        Exponents, from 0: every one; of a long transient every one of the first half, and a regular
        choice of the others.
    log_norms : (T+1,)
        log |A^k|_2, finite where |A^k| itself overflows; -inf where A^k = 0.
    spectral_radius : float
        Largest modulus of an eigenvalue: the rate in the end.
    numerical_radius : float
        w = max |x*Ax| over unit vectors x; |A^k| <= 2 w^k.
    kreiss, kreiss_upper : float
        Bounds of the Kreiss constant, a factor of 1 + 1e-8 apart or as near as 64 circles and
        rounding errors bring them. Both are 1 where w <= 1, and inf for a spectral radius above 1. A
        spectral radius of 1 leaves no upper bound; if its eigenvalue is defective, the constant is
        infinite and the lower bound merely large.
    kreiss_point : complex
        Where (|z| - 1) |(zI - A)^-1| is the lower bound, in the upper half plane; infinite where that
        is 1, the limit for large |z|; the largest eigenvalue where the powers are unbounded.
    departure : float
        Henrici's departure from normality: the Frobenius norm of the strict upper triangle of the
        Schur form, 0 for normal A alone.
    """

    A: Array
    k: NDArray[np.int64]
    log_norms: Array
    spectral_radius: float
    numerical_radius: float
    kreiss: float
    kreiss_upper: float
    kreiss_point: complex
    departure: float

    @property
    def n(self) -> int:
        """Number of states."""
        return len(self.A)

    @property
    def norms(self) -> Array:
        """|A^k|_2; inf where it overflows."""
        with np.errstate(over="ignore"):
            return np.exp(self.log_norms)

    @property
    def proven(self) -> bool:
        """Whether no power beyond these exceeds `peak`.

        True once |A^k| <= 1, to rounding errors, for some k >= 1 with no gap in the exponents up to
        it: by submultiplicativity a later power is no larger than its remainder modulo k.
        """
        small = np.flatnonzero(self.log_norms[1:] <= _slack(self.n)) + 1
        return bool(len(small) and self.k[small[0]] == small[0])

    @property
    def unbounded(self) -> bool:
        """Whether the powers grow without bound: a spectral radius above 1, and nothing disproves it."""
        return not self.proven and self.spectral_radius > 1 + _slack(self.n)

    @property
    def peak(self) -> float:
        """The largest |A^k| seen, of all if `proven`; inf if `unbounded` or where it overflows."""
        return math.inf if self.unbounded else float(self.norms.max())

    @property
    def peak_step(self) -> int | None:
        """The first k that attains the peak, to rounding errors; None where there is none."""
        if self.unbounded:
            return None
        return int(self.k[np.argmax(self.log_norms >= self.log_norms.max() - _slack(self.n))])


@renamed(steps="T")
def nonnormality(A: ArrayLike, T: int | None = None) -> Nonnormality:
    """Return the norms of the powers of A beside its Kreiss constant and other foretellers.

    Parameters
    ----------
    A : (n, n)
        Of x[t+1] = A x[t]: a system, or a closed loop A - B K.
    T : int, optional
        How many powers to take. When not given: as many as prove the largest one; where these are
        too many, a choice of them; 100 where |A^k| never falls to 1.

    See Also
    --------
    gradient_growth : norms of products of A with what stands before and behind them.
    pseudospectrum : how near a matrix is to having an eigenvalue.

    References
    ----------
    Trefethen and Embree, Spectra and Pseudospectra, 2005, chapters 14 to 18 (powers, the Kreiss matrix
    theorem with Spijker's constant e n).
    Mengi and Overton, Algorithms for the computation of the pseudospectral radius and the numerical
    radius of a matrix, IMA Journal of Numerical Analysis 25 (2005), 648-669 (level sets).

    Examples
    --------
    Eigenvalues of 0.9 and 0.8, and yet a state may grow 26.9-fold before it decays:

    >>> result = nonnormality([[0.9, 10.0], [0.0, 0.8]])
    >>> round(result.peak, 1), result.peak_step, result.proven
    (26.9, 6, True)
    >>> round(result.kreiss, 1), round(np.e * 2 * result.kreiss_upper, 1)
    (17.2, 93.4)
    """
    A = _square(A)
    k, log_norms = _powers(A, None if T is None else check_count("T", T))
    scaled, e = _rescaled(A)
    triangle, backward = _schur(scaled)
    # Not the diagonal of the Schur form: LAPACK balances here, and keeps the eigenvalues of states
    # in units far apart.
    eigenvalues = _ldexp(np.linalg.eigvals(scaled).astype(np.complex128), e)
    with np.errstate(over="ignore"):
        found = Nonnormality(
            A=A,
            k=k,
            log_norms=log_norms,
            spectral_radius=float(np.abs(eigenvalues).max()),
            numerical_radius=float(np.ldexp(_numerical_radius(scaled), e)),
            kreiss=math.inf,
            kreiss_upper=math.inf,
            kreiss_point=complex(_upper(eigenvalues[np.argmax(np.abs(eigenvalues))])),
            departure=float(np.ldexp(np.linalg.norm(np.triu(triangle, 1)), e)),
        )
    if found.unbounded:
        return found
    schur = _ldexp(triangle, e)
    kreiss, upper, point = _kreiss(A, schur, math.ldexp(backward, e), found.numerical_radius)
    return replace(found, kreiss=kreiss, kreiss_upper=upper, kreiss_point=point)


def pseudospectrum(A: ArrayLike, z: ArrayLike) -> Array:
    """Return the smallest singular value of z I - A: how near A is to having the eigenvalue z.

    The points where it is at most eps are the eps-pseudospectrum of A: all the eigenvalues of all
    matrices A + E with |E|_2 <= eps.

    It is 1 / |(zI - A)^-1|_2, with an absolute error of a few units of rounding of |A|.

    Parameters
    ----------
    A : (n, n)
    z : (...)
        Points of the complex plane.

    See Also
    --------
    nonnormality : what follows for the powers of A.

    References
    ----------
    Trefethen and Embree, Spectra and Pseudospectra, 2005, chapters 2 and 39.

    Examples
    --------
    A perturbation of 0.002 gives this matrix the eigenvalue 1, though its own are 0.9 and 0.8:

    >>> pseudospectrum([[0.9, 10.0], [0.0, 0.8]], [1.0, 1j]).round(3)
    array([0.002, 0.169])
    """
    A = _square(A)
    points = complex_array("z", z)
    check_finite("z", np.abs(points))
    upper, where = np.unique(_upper(points), return_inverse=True)
    scaled, e = _rescaled(A)
    with np.errstate(over="ignore"):
        sigma = 1 / _resolvent_norms(_ldexp(_schur(scaled)[0], e), upper)
    check_finite("the smallest singular value", sigma, computed=True)
    return np.asarray(sigma[where].reshape(points.shape), dtype=np.float64)


def _square(A: ArrayLike) -> Array:
    A = frozen_array("A", A)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.size:
        target = (1, 1) if A.shape == () else ()
        raise ShapeError(shape_message("A", A.shape, "(n, n), not empty", "", target))
    return A


def _slack(n: int) -> float:
    """What passes for rounding in a norm or an eigenvalue near 1."""
    return 8 * n * EPS


def _rescaled(P: Array) -> tuple[Array, int]:
    """P / 2^e, exactly, with its largest entry near 1; and e."""
    e = int(np.frexp(np.abs(P).max())[1])
    return np.ldexp(P, -e), e


def _upper(z: Any) -> Any:
    """The one of z and its conjugate with Im >= 0: as A is real, both have the same resolvent norm."""
    return z.real + 1j * np.abs(z.imag)


def _ldexp(T: Complex, e: int) -> Complex:
    with np.errstate(over="ignore"):
        return np.asarray(np.ldexp(T.real, e) + 1j * np.ldexp(T.imag, e), dtype=np.complex128)


def _schur(A: Array) -> tuple[Complex, float]:
    """T of A = U T U*, and its backward error: 0 for a triangular A, whose T is exact."""
    T, U = scipy.linalg.schur(A, output="complex")
    return T, float(np.linalg.norm(U @ T @ U.conj().T - A))


def _powers(A: Array, steps: int | None) -> tuple[NDArray[np.int64], Array]:
    """Exponents k, and log |A^k|."""
    most = min(max(_WORK // len(A) ** 3, 256), _MOST_STEPS)
    step, e = _rescaled(A)
    stride = end = 1
    if steps is None:
        # Squaring tells how far to go.
        P, shift = step, e
        while _log_norm(P, shift) > _slack(len(A)) and end < 2**_DOUBLINGS:
            P, more = _rescaled(P @ P)
            end, shift = 2 * end, 2 * shift + more
        steps = max(end, 16)
        if end == 2**_DOUBLINGS:
            steps = end = 100
        elif end > most:
            steps = most // 2
    k, log_norms = np.arange(steps + 1), _march(step, e, steps)
    if end <= steps:
        return k, log_norms
    while stride * (most // 2) < end:
        step, more = _rescaled(step @ step)
        stride, e = 2 * stride, 2 * e + more
    far = stride * np.arange(end // stride + 1)
    new = far > steps
    far_norms = _march(step, e, end // stride)
    return np.concatenate([k, far[new]]), np.concatenate([log_norms, far_norms[new]])


def _march(step: Array, e: int, count: int) -> Array:
    """Log of |(2^e step)^k|, k = 0 ... count."""
    P, shift = np.eye(len(step)), 0
    logs = np.zeros(count + 1)
    for k in range(1, count + 1):
        P, more = _rescaled(P @ step)
        shift += e + more
        logs[k] = _log_norm(P, shift)
    return logs


def _log_norm(P: Array, e: int) -> float:
    return _log(float(np.linalg.norm(P, 2))) + e * math.log(2)


def _maximum(
    value: Callable[[Array], Array], pencil: Callable[[float], Pencil], angles: Array
) -> tuple[float, float]:
    """The maximum over all angles of an even function, and the angle where it is found.

    Between two neighbouring angles where the function crosses the best value so far, the middle is
    higher or the whole interval is lower. The crossings at a level are among the eigenvalues of
    modulus 1 of the pencil of that level. Convergence is quadratic.
    """
    best, where = 0.0, 0.0
    for _ in range(_MOST_LEVELS):
        values = value(angles)
        i = int(np.argmax(values))
        if not values[i] > best * (1 + 16 * EPS):
            break
        best, where = float(values[i]), float(angles[i])
        if math.isinf(best):
            break
        with np.errstate(all="ignore"):
            roots = scipy.linalg.eigvals(*pencil(best), check_finite=False)
            near = np.abs(np.angle(roots[np.abs(np.abs(roots) - 1) < _ON_CIRCLE]))
        edges = np.sort(np.concatenate([[0.0, np.pi], near]))
        angles = np.concatenate([[0.0, np.pi], (edges[1:] + edges[:-1]) / 2])
    return best, where


def _numerical_radius(A: Array) -> float:
    """Max over theta of the largest eigenvalue of the Hermitian part of exp(i theta) A.

    References
    ----------
    He and Watson, An algorithm for computing the numerical radius, IMA Journal of Numerical
    Analysis 17 (1997), 329-342.
    """
    zero, one = np.zeros_like(A), np.eye(len(A))

    def value(angles: Array) -> Array:
        rotated = np.exp(1j * angles)[:, None, None] * A
        return np.linalg.eigvalsh((rotated + rotated.conj().swapaxes(1, 2)) / 2)[:, -1]

    def pencil(level: float) -> Pencil:  # of det(z^2 A - 2 z level + A') = 0
        return (
            np.block([[zero, one], [-A.T, 2 * level * one]]),
            np.block([[one, zero], [zero, A]]),
        )

    return _maximum(value, pencil, np.linspace(0, np.pi, 9))[0]


class _Circle(NamedTuple):
    """The largest |(zI - A)^-1| on |z| = 1 + t, its logarithm, and the angle where it is."""

    t: float
    log_g: float
    angle: float

    @property
    def height(self) -> float:
        return _log(self.t) + self.log_g


def _kreiss(A: Array, T: Complex, backward: float, w: float) -> tuple[float, float, complex]:
    """A lower and an upper bound of the Kreiss constant, and the point that attains the lower.

    With g(r) the largest |(zI - A)^-1| on the circle |z| = r, K is the supremum of (r - 1) g(r).
    As log |(zI - A)^-1| is subharmonic, log g is convex in log r (Hadamard's three circles): its
    chords bound (r - 1) g(r) from above between two radii, and the highest of these bounds says
    where to look next.
    """
    if w <= 1 + _slack(len(A)):  # |(zI - A)^-1| <= 1 / (|z| - w)
        return 1.0, 1.0, complex(math.inf)
    zero, one = np.zeros_like(A), np.eye(len(A))
    outermost = np.diag(T)[np.argsort(-np.abs(np.diag(T)))[:8]]
    angles = np.concatenate([[0.0, np.pi], np.abs(np.angle(outermost))])

    def value(r: float, angles: Array) -> Array:
        return _resolvent_norms(T, r * np.exp(1j * angles))

    def pencil(r: float, level: float) -> Pencil:  # a singular value of z I - A is 1 / level
        return (
            np.block([[A, one / level], [zero, r * one]]),
            np.block([[r * one, zero], [one / level, A.T]]),
        )

    def look(t: float) -> _Circle:
        g, angle = _maximum(partial(value, 1 + t), partial(pencil, 1 + t), angles)
        return _Circle(t, math.log(g), angle)

    stable = bool(np.abs(outermost[0]) < 1 - _NEAREST)
    # (r - 1) / (r - w), which is above (r - 1) g(r), is at most 1 + _RTOL from the last one on.
    last = min(w + (w - 1) / _RTOL, _FARTHEST)
    circles = [look(t) for t in sorted({0.0 if stable else _NEAREST, 1.0, last})]
    while True:
        best = max(circle.height for circle in circles)
        above, t = max(_chord(a, b) for a, b in pairwise(circles))
        if not best + _RTOL < above < math.inf or len(circles) == _MOST_CIRCLES:
            break
        insort(circles, look(t))
    with np.errstate(over="ignore"):
        upper = float(np.exp(max(above, best, _RTOL))) if stable else math.inf
    kreiss, point = 1.0, complex(math.inf)  # the limit as |z| grows
    for circle in circles:
        # Safe from rounding: of T, that of a matrix so far from A, and of the modulus of z.
        sigma = math.exp(-circle.log_g) + 2 * backward
        distance = circle.t - 2 * EPS * (1 + circle.t)
        if distance > kreiss * sigma:
            kreiss = distance / sigma if sigma else math.inf
            point = complex((1 + circle.t) * np.exp(1j * circle.angle))
    return kreiss, upper, point


def _chord(left: _Circle, right: _Circle) -> tuple[float, float]:
    """The highest point between two circles below the chord of log g, and its t."""
    if math.isinf(left.log_g) or math.isinf(right.log_g):
        return math.inf, left.t
    start = math.log1p(left.t)
    slope = (right.log_g - left.log_g) / (math.log1p(right.t) - start)
    t = min(max(-1 / (1 + slope), left.t), right.t) if slope < -1 else right.t
    return _log(t) + left.log_g + slope * (math.log1p(t) - start), t


def _log(t: float) -> float:
    return math.log(t) if t else -math.inf


def _resolvent_norms(T: Complex, z: Complex) -> Array:
    """|(z I - T)^-1| for upper triangular T; inf where it is singular or overflows.

    The largest singular value of the inverse, and not the smallest one of z I - T, which drowns in
    the rounding of large entries: T is its own factor, and substitution in it keeps the relative
    accuracy of small entries of the inverse, which is what is measured here.
    """
    n = len(T)
    norms = np.full(len(z), np.inf)
    size = max(1, _BATCH // n**2)
    for start in range(0, len(z), size):
        part = slice(start, start + size)
        shifted = z[part, None, None] * np.eye(n) - T
        regular = np.flatnonzero(np.diagonal(shifted, axis1=1, axis2=2).all(axis=1))
        with np.errstate(all="ignore"):
            inverse = np.linalg.inv(shifted[regular])
        finite = np.isfinite(inverse).all(axis=(1, 2))
        norms[start + regular[finite]] = np.linalg.svd(inverse[finite], compute_uv=False)[:, 0]
    return norms
