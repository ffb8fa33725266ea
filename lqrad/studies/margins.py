"""How much a loop stands before it becomes unstable: gain, phase, delay, and both at once.

L is the loop broken at one place, S = (I + L)^-1 and T = I - S are its sensitivities, and the
closed loop is stable. It stays so while L is multiplied by f, the same at all frequencies, in

    gain margin    low < f < high, f real
    phase margin   f = exp(-i a), |a| below it
    delay margin   f = exp(-i omega tau), 0 <= tau below it
    disk margin    f = (1 + d/2) / (1 - d/2) with |d| < alpha, d complex and of any frequency:
                   gain and phase at the same time; alpha = 1 / |S - I/2|_inf

No frequency is searched for on a grid: where L is real, or of magnitude one, and where a
sensitivity is largest, follows from eigenvalues on the unit circle. A loop in continuous time is
mapped to it by s = c (z - 1)/(z + 1), which changes no value of L.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from lqrad.arguments import Array
from lqrad.errors import ArgumentError, ShapeError
from lqrad.kernels.peak import circle_angles, crossings, peak_gain, response
from lqrad.problems.statespace import StateSpace

# A crossing counts where Newton's method brings its residual below this.
_CROSSED = 1e-9
_NEWTON_STEPS = 30
# Of a balance of the channels against each other, for several loops at once.
_BALANCINGS = 8


@dataclass(frozen=True)
class LoopMargins:
    """The margins of one loop, the others closed.

    Attributes
    ----------
    gain : pair of float
        Factors (low, high) of the loop's gain between which it stays stable: 0 and inf where
        nothing ends that side.
    gain_frequency : pair of float
        Where the closed loop gets its pole on the border then, in rad/s; NaN where nothing does.
    phase : float
        In degrees, of lag or of lead; inf where |L| is one at no frequency.
    phase_frequency : float
        In rad/s; NaN where the phase margin is infinite.
    delay : float
        In seconds.
    disk : float
        The disk margin alpha.
    disk_frequency : float
        In rad/s.
    sensitivity, complementary : float
        Peaks of |S| and |T|; 1 / sensitivity is the distance of L from -1.
    """

    gain: tuple[float, float]
    gain_frequency: tuple[float, float]
    phase: float
    phase_frequency: float
    delay: float
    disk: float
    disk_frequency: float
    sensitivity: float
    complementary: float


@dataclass(frozen=True, eq=False, repr=False)
class Margins:
    """The margins of every loop, and of all loops at once.

    Attributes
    ----------
    loops : tuple of LoopMargins
        One for each channel, the others closed.
    disk : float
        Disk margin of all loops at the same time, each with a d of its own: that of the loop where
        there is one, else a number that the margin is proven not to be below.
    disk_frequency : float
        In rad/s.
    sensitivity, complementary : float
        Peaks of the largest singular values of S and T.
    """

    loops: tuple[LoopMargins, ...]
    disk: float
    disk_frequency: float
    sensitivity: float
    complementary: float

    @property
    def disk_gain(self) -> tuple[float, float]:
        """Factors of the gain that the disk margin allows, in all loops at the same time."""
        return disk_gain(self.disk)

    @property
    def disk_phase(self) -> float:
        """Degrees of phase that the disk margin allows, in all loops at the same time."""
        return disk_phase(self.disk)

    def __repr__(self) -> str:
        worst = min(self.loops, key=lambda loop: loop.disk)
        low, high = worst.gain
        return (
            f"<Margins: gain {low:.3g} to {high:.3g}, phase {worst.phase:.3g} deg, delay "
            f"{worst.delay:.3g} s, disk {self.disk:.3g}, sensitivity at most {self.sensitivity:.3g}>"
        )

    def table(self) -> str:
        """Return the margins as a table: gains in decibels, phases in degrees."""
        rows = [
            f"{'loop':6}{'gain, dB':>18}{'phase, deg':>12}{'delay, s':>10}{'disk':>8}"
            f"{'allows, dB':>12}{'deg':>7}{'max |S|':>9}{'max |T|':>9}"
        ]
        for i, loop in enumerate(self.loops):
            low, high = (_decibels(f) for f in loop.gain)
            rows.append(
                f"{i:<6}{f'{low} to {high}':>18}{_number(loop.phase):>12}{_number(loop.delay):>10}"
                f"{_disk_columns(loop.disk)}{loop.sensitivity:9.3g}{loop.complementary:9.3g}"
            )
        if len(self.loops) > 1:
            columns = f"{_disk_columns(self.disk)}{self.sensitivity:9.3g}{self.complementary:9.3g}"
            rows.append(f"{'all':<6}{'':>40}{columns}")
        return "\n".join(rows)


def disk_gain(alpha: float) -> tuple[float, float]:
    """Return the factors of the gain that a disk margin allows.

    Examples
    --------
    >>> disk_gain(1.0)
    (0.3333333333333333, 3.0)
    """
    if alpha >= 2:
        return 0.0, np.inf
    return (2 - alpha) / (2 + alpha), (2 + alpha) / (2 - alpha)


def disk_phase(alpha: float) -> float:
    """Return the degrees of phase that a disk margin allows.

    Examples
    --------
    >>> round(disk_phase(2.0))
    90
    """
    return float(np.degrees(2 * np.arctan(alpha / 2)))


def margins(loop: Any) -> Margins:
    """Return the stability margins of a loop under negative feedback.

    Parameters
    ----------
    loop : StateSpace, or what `StateSpace.of` takes
        The loop L, broken where it goes through m signals; `Controller.loop` makes one.

    Returns
    -------
    Margins

    Raises
    ------
    ArgumentError
        If the closed loop is unstable, which has no margins: names the pole; or I + D is singular.
    ShapeError
        If there are not as many outputs as inputs.

    References
    ----------
    Seiler, Packard and Gahinet, An introduction to disk margins, IEEE Control Systems Magazine
    40(5), 2020, 78-95.

    Examples
    --------
    An integrator with a gain of one half and a step of delay:

    >>> loop = StateSpace([[1.0, 0.5], [0.0, 0.0]], [[0.0], [1.0]], [[1.0, 0.0]], dt=0.1)
    >>> found = margins(loop)
    >>> found
    <Margins: gain 0 to 2, phase 46.6 deg, delay 0.161 s, disk 0.572, sensitivity at most 2.2>
    """
    system = StateSpace.of(loop)
    m = system.m
    if system.ny != m:
        raise ShapeError(
            f"loop has {m} inputs and {system.ny} outputs, expected as many of both: what goes "
            "round the loop comes back where it was sent"
        )
    own = system.A, system.B, system.C, system.D
    S = _sensitivity(*own)
    poles = np.linalg.eigvals(S[0])
    worst = poles[(np.abs(poles) if system.dt else poles.real).argmax()]
    if abs(worst) >= 1 if system.dt else worst.real >= 0:
        pole = f"{worst:.6g}, of magnitude {abs(worst):.6g}" if system.dt else f"{worst:.6g} rad/s"
        raise ArgumentError(
            f"the closed loop is unstable, with a pole at {pole}; margins say how far a stable "
            "loop is from that. Is the sign of the loop that of negative feedback?"
        )
    loops = tuple(_one_loop(*_others_closed(*own, i), system.dt) for i in range(m))
    identity, circle = np.eye(m), _Circle.of(*own, system.dt)
    disk, where = _balanced_peak(*circle.mapped(*S[:3], S[3] - 0.5 * identity))
    sensitivity, _ = peak_gain(*circle.mapped(*S))
    complementary, _ = peak_gain(*circle.mapped(S[0], S[1], -S[2], identity - S[3]))
    return Margins(loops, 1 / disk, circle.frequency(where), sensitivity, complementary)


@dataclass(frozen=True)
class _Circle:
    """How a system is brought to the unit circle: as it is, or by s = c (z - 1)/(z + 1)."""

    dt: float
    c: float

    @classmethod
    def of(cls, A: Array, B: Array, C: Array, D: Array, dt: float) -> _Circle:
        """The map for a loop: c is above the magnitudes of all modes, open and closed."""
        modes = [np.linalg.eigvals(A), np.linalg.eigvals(_sensitivity(A, B, C, D)[0])]
        return cls(dt, 2 * float(np.abs(modes).max()) or 1.0)

    def mapped(self, A: Array, B: Array, C: Array, D: Array) -> tuple[Array, Array, Array, Array]:
        if self.dt:
            return A, B, C, D
        identity = np.eye(len(A))
        shifted = self.c * identity - A
        B_z = _solve(shifted, B)
        C_z = 2 * self.c * _solve(shifted.T, C.T).T
        return _solve(shifted, self.c * identity + A), B_z, C_z, D + C @ B_z

    def frequency(self, angle: float) -> float:
        """The frequency of an angle, in rad/s."""
        return angle / self.dt if self.dt else self.c * float(np.tan(angle / 2))


def _sensitivity(A: Array, B: Array, C: Array, D: Array) -> tuple[Array, Array, Array, Array]:
    """S = (I + L)^-1."""
    back = np.eye(len(D)) + D
    if np.linalg.cond(back) > 1e12:
        raise ArgumentError(
            "I + D is singular: the loop has no solution at the moment of a jump; remove the "
            "feedthrough D, for instance by a step of delay"
        )
    C_s, D_s = _solve(back, C), _solve(back, np.eye(len(D)))
    return A - B @ C_s, B @ D_s, -C_s, D_s


def _others_closed(
    A: Array, B: Array, C: Array, D: Array, i: int
) -> tuple[Array, Array, Array, Array]:
    """The loop through channel i, with the other channels' loops closed."""
    other = np.arange(len(D)) != i
    b, c = B[:, ~other], C[~other]
    if not other.any():
        return A, B, C, D
    Bo, Co = B[:, other], C[other]
    back = np.eye(len(Co)) + D[np.ix_(other, other)]
    from_x, from_u = _solve(back, Co), _solve(back, D[np.ix_(other, ~other)])
    down = D[np.ix_(~other, other)]
    return A - Bo @ from_x, b - Bo @ from_u, c - down @ from_x, D[~other][:, ~other] - down @ from_u


def _balanced_peak(A: Array, B: Array, C: Array, D: Array) -> tuple[float, float]:
    """The least peak of |E G E^-1| over diagonal E, of those that are tried: all are bounds.

    A structure of separate perturbations in each channel does not see E; Osborne's balancing at
    the frequency of the peak makes the next one.
    """
    E = np.ones(len(D))
    best = (np.inf, 0.0)
    for _ in range(_BALANCINGS if len(D) > 1 else 1):
        peak, angle = peak_gain(A, B / E, E[:, None] * C, E[:, None] * D / E)
        if peak >= best[0]:
            break
        best = peak, angle
        E = _balance(np.abs(response(A, B, C, D, np.exp(1j * np.array([angle])))[0]))
    return best


def _balance(size: Array) -> Array:
    """A diagonal E for which each row of E size E^-1 is as long as its column, off the diagonal."""
    size = size - np.diag(np.diag(size))
    E = np.ones(len(size))
    for _ in range(_BALANCINGS):
        for i in range(len(size)):
            row, column = np.linalg.norm(size[i] / E), np.linalg.norm(size[:, i] * E)
            if row > 0 and column > 0:
                E[i] = np.sqrt(column / row)
    return E


def _one_loop(A: Array, B: Array, C: Array, D: Array, dt: float) -> LoopMargins:
    circle = _Circle.of(A, B, C, D, dt)
    Az, Bz, Cz, Dz = circle.mapped(A, B, C, D)

    def value(angle: float) -> tuple[complex, complex]:
        """L at exp(i angle), and its derivative in the angle."""
        z = np.exp(1j * angle)
        resolvent = z * np.eye(len(Az)) - Az
        try:
            x = np.linalg.solve(resolvent, Bz[:, 0] + 0j)
            slope = -1j * z * (Cz[0] @ np.linalg.solve(resolvent, x))
        except np.linalg.LinAlgError:
            return complex(np.inf), complex(np.inf)
        return complex(Cz[0] @ x + Dz[0, 0]), complex(slope)

    def real_at(angle: float) -> tuple[float, float]:
        L, slope = value(angle)
        return L.imag / abs(L), (slope.imag * abs(L) - L.imag * _growth(L, slope)) / abs(L) ** 2

    def one_at(angle: float) -> tuple[float, float]:
        L, slope = value(angle)
        return float(np.log(abs(L))), _growth(L, slope) / abs(L)

    real = [(angle, value(angle)[0]) for angle in _polished(_real_angles(Az, Bz, Cz, Dz), real_at)]
    # L is real at the ends of the circle, too; in continuous time it is D at the far one.
    real += [(0.0, value(0.0)[0]), (np.pi, value(np.pi)[0] if dt else complex(D[0, 0]))]
    low, high = (0.0, np.nan), (np.inf, np.nan)
    for angle, L in real:
        if not np.isfinite(L) or L.real >= 0:
            continue
        factor = -1 / L.real
        if 1 < factor < high[0]:
            high = (factor, circle.frequency(angle))
        elif low[0] < factor < 1:
            low = (factor, circle.frequency(angle))
    phase, delay = (np.inf, np.nan), np.inf
    for angle in _polished(crossings(Az, Bz, Cz, Dz, 1.0), one_at):
        turn = float(np.angle(-value(angle)[0]))
        if abs(turn) < phase[0]:
            phase = (abs(turn), circle.frequency(angle))
        omega = circle.frequency(angle)
        if omega > 0:
            delay = min(delay, (turn if turn >= 0 else turn + 2 * np.pi) / omega)
    S = _sensitivity(A, B, C, D)
    disk, at = peak_gain(*circle.mapped(*S[:3], S[3] - 0.5))
    return LoopMargins(
        gain=(low[0], high[0]),
        gain_frequency=(low[1], high[1]),
        phase=float(np.degrees(phase[0])),
        phase_frequency=phase[1],
        delay=delay,
        disk=1 / disk,
        disk_frequency=circle.frequency(at),
        sensitivity=peak_gain(*circle.mapped(*S))[0],
        complementary=peak_gain(*circle.mapped(S[0], S[1], -S[2], 1 - S[3]))[0],
    )


def _solve(matrix: Array, right: Array) -> Array:
    return np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)


def _growth(L: complex, slope: complex) -> float:
    """The derivative of |L|."""
    return (L.real * slope.real + L.imag * slope.imag) / abs(L)


def _real_angles(A: Array, B: Array, C: Array, D: Array) -> Array:
    """The angles at which L(z) = L(1/z) may hold, so that L is real."""
    (n, _), zero = B.shape, np.zeros
    E = scipy.linalg.block_diag(np.eye(n), np.zeros((n + 1, n + 1)))
    E[n:, n : 2 * n] = np.concatenate([A.T, B.T])
    F = np.block([[A, zero((n, n)), B], [zero((n, n)), np.eye(n), -C.T], [C, zero((1, n + 1))]])
    return circle_angles(F, E)


def _polished(angles: Array, function: Callable[[float], tuple[float, float]]) -> list[float]:
    """The zeros in (0, pi) of a function, given with its derivative, that Newton finds from angles."""
    found: list[float] = []
    for start in angles:
        angle = float(start)
        for _ in range(_NEWTON_STEPS):
            with np.errstate(divide="ignore", invalid="ignore"):
                residual, slope = function(angle)
                step = residual / slope if slope else 0.0
            if not np.isfinite(step) or abs(step) <= 1e-16 * max(angle, 1e-300):
                break
            angle -= step
        good = 0 < angle < np.pi and abs(angle - start) < 0.01 and abs(residual) < _CROSSED
        if good and not any(abs(angle - other) < 1e-9 * angle for other in found):
            found.append(angle)
    return found


def _decibels(factor: float) -> str:
    if factor == 0:
        return "-inf"
    return "inf" if np.isinf(factor) else f"{20 * np.log10(factor):.3g}"


def _number(value: float) -> str:
    return "inf" if np.isinf(value) else f"{value:.4g}"


def _disk_columns(alpha: float) -> str:
    gain = _decibels(disk_gain(alpha)[1])
    return f"{alpha:8.3g}{'+-' + gain:>12}{disk_phase(alpha):7.3g}"
