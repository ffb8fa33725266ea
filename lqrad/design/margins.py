"""Stability margins of a loop: gain, phase, delay, and gain and phase together.

L is the loop broken at one place, S = (I + L)^-1 and T = I - S are its sensitivities, and the
closed loop is stable. It stays so while L is multiplied by a factor f, the same at all frequencies:

    gain margin    low < f < high, f real
    phase margin   f = exp(-i a), |a| below it
    delay margin   f = exp(-i omega tau), 0 <= tau below it
    disk margin    f = (1 + d/2) / (1 - d/2) with |d| < alpha, d complex and of any frequency;
                   alpha = 1 / |S - I/2|_inf

A loop of up to 16 states without dead time is a quotient of polynomials with whole coefficients: its
crossings and its nearest points to -1 are roots of polynomials, found without rounding. Larger loops
are evaluated from their poles, zeros and gain, which keep their digits at all frequencies. There the
crossings, and the point that is nearest to -1, are searched by intervals with bounds, so that none is
missed, and the number of encirclements of -1 must agree with the poles of the open and closed loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lqrad.arguments import Array, check_number, number_words
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, LqradError, ShapeError
from lqrad.linalg.balance import balance, in_units
from lqrad.linalg.border import (
    BOTH,
    COMPLEMENTARY,
    SENSITIVITY,
    encirclements,
    gain_crossings,
    nearest,
    real_crossings,
)
from lqrad.linalg.factored import Factored, closed_poles, factored
from lqrad.linalg.paths import connected
from lqrad.linalg.peak import peak_gain, response
from lqrad.linalg.rational import EXACT, Rational
from lqrad.linalg.twice import Complex
from lqrad.results import Cells, Report, number

# Rounds of balancing the channels against each other, for several loops at once.
_BALANCINGS = 8
# A crossing this near, relative to its frequency, to a pole or zero on the border is that root itself.
_AT_ROOT = 2.0**-30
# A loop that comes as near to -1 as this counts as being on the border: its roots are rounded.
_ON_BORDER = 1e-13

_COLUMNS = (
    *("loop", "gain, dB", "phase, deg", "delay, s", "disk", "allows, dB", "deg"),
    *("max |S|", "max |T|"),
)

System = tuple[Array, Array, Array, Array]


@dataclass(frozen=True)
class LoopMargins(Report):
    """The margins of one loop, the others closed.

    Attributes
    ----------
    gain : pair of float
        Factors (low, high) of the gain between which the loop is stable; 0 and inf for no limit.
    gain_frequency : pair of float
        Frequency of the closed loop's pole on the border at either factor, in rad/s; NaN for none.
    phase : float
        In degrees, of lag or of lead; inf where |L| is one at no frequency.
    phase_frequency : float
        In rad/s; NaN where the phase margin is infinite.
    delay : float
        In seconds; 0 for a loop in continuous time whose gain at infinite frequency is one or more.
    disk, disk_frequency : float
        The disk margin alpha, and its frequency in rad/s.
    sensitivity, complementary : float
        Peaks of |S| and |T|; 1 / sensitivity is the distance of L from -1.
    gain_crossings : tuple of pairs of float
        Every frequency in rad/s at which |L| = 1, and the phase in degrees to -1: positive where lag
        brings L there, negative where lead does.
    phase_crossings : tuple of pairs of float
        Every frequency in rad/s at which L is real and negative, and the factor that makes it -1.
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
    gain_crossings: tuple[tuple[float, float], ...]
    phase_crossings: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Margins(Report):
    """The margins of every loop, and of all loops at once.

    Attributes
    ----------
    loops : tuple of LoopMargins
        One for each channel, the others closed.
    disk, disk_frequency : float
        The disk margin of all loops at the same time, each with a d of its own, and its frequency in
        rad/s. Of several loops it is a proven lower bound.
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
        """The factors of the gain that the disk margin allows, in all loops at the same time."""
        return disk_gain(self.disk)

    @property
    def disk_phase(self) -> float:
        """The degrees of phase that the disk margin allows, in all loops at the same time."""
        return disk_phase(self.disk)

    def __repr__(self) -> str:
        worst = min(self.loops, key=lambda loop: loop.disk)
        low, high = worst.gain
        return (
            f"<Margins: gain {low:.3g} to {high:.3g}, phase {worst.phase:.3g} deg, delay "
            f"{worst.delay:.3g} s, disk {self.disk:.3g}, sensitivity at most {self.sensitivity:.3g}>"
        )

    def cells(self) -> Cells:
        """Return the columns, a row for each loop, and one for all at once: decibels and degrees."""
        rows = []
        for i, loop in enumerate(self.loops):
            low, high = (_decibels(f) for f in loop.gain)
            figures = [f"{low} to {high}", number(loop.phase), number(loop.delay)]
            rows.append([str(i), *figures, *_disk_columns(loop)])
        if len(self.loops) > 1:
            rows.append(["all", "", "", "", *_disk_columns(self)])
        return _COLUMNS, rows


def disk_gain(alpha: float) -> tuple[float, float]:
    """Return the factors of the gain that a disk margin allows.

    See Also
    --------
    margins : finds the disk margin of a loop.
    disk_phase : the phase that it allows.

    Examples
    --------
    >>> disk_gain(1.0)
    (0.3333333333333333, 3.0)
    """
    alpha = check_number("alpha", alpha, least=0)
    if alpha >= 2:
        return 0.0, np.inf
    return (2 - alpha) / (2 + alpha), (2 + alpha) / (2 - alpha)


def disk_phase(alpha: float) -> float:
    """Return the degrees of phase that a disk margin allows.

    See Also
    --------
    margins : finds the disk margin of a loop.
    disk_gain : the gain that it allows.

    Examples
    --------
    >>> round(disk_phase(2.0))
    90
    """
    return float(np.degrees(2 * np.arctan(check_number("alpha", alpha, least=0) / 2)))


def margins(loop: Any) -> Margins:
    """Return the stability margins of a loop under negative feedback.

    Parameters
    ----------
    loop : StateSpace, or what `StateSpace.of` takes
        The loop L, broken where it goes through m signals; `Controller.loop` makes one.

    Raises
    ------
    ArgumentError
        If the closed loop is unstable, and so has no margins: names the pole; or I + D is singular.
    ShapeError
        If there are not as many outputs as inputs.
    LqradError
        If the encirclements of -1 and the closed loop's poles disagree, by rounding.

    See Also
    --------
    step_response : what the closed loop does in time.
    Controller.loop : the loop of a controller and a plant.
    disk_gain, disk_phase : what a disk margin means.

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
    >>> [(round(w, 3), round(f, 3)) for w, f in found.loops[0].phase_crossings]
    [(10.472, 2.0)]
    """
    system = StateSpace.of(loop)
    m, dt = system.m, system.dt
    if system.ny != m:
        raise ShapeError(
            f"loop has {m} inputs and {system.ny} outputs, expected as many of both: what goes "
            "round the loop comes back where it was sent"
        )
    if m > 1:  # of several loops, each has the others' delays inside
        system = StateSpace(system.A, system.B, system.C, system.D, dt=dt)
    core = system.undelayed
    own = (*connected(core.A, core.B, core.C), core.D)
    if m == 1:
        _check_jump(system.D)
        one = _one_loop(*own, dt, delay=system.delay)
        return Margins((one,), one.disk, one.disk_frequency, one.sensitivity, one.complementary)
    return _all_loops(*own, dt)


def _check_jump(D: Array) -> None:
    """Raise ArgumentError if I + D is singular."""
    if np.linalg.cond(np.eye(len(D)) + D) > 1e12:
        raise ArgumentError(
            "I + D is singular: the loop has no solution at the moment of a jump",
            "remove the feedthrough D, for instance by a step of delay",
        )


def _check_closed(poles: Complex, outside: Array, dt: float) -> Complex:
    """Return the poles of the closed loop; raise ArgumentError unless it is stable."""
    if len(poles) and outside.max() >= 0:
        worst = poles[outside.argmax()]
        pole = number_words(worst) + (f", of magnitude {abs(worst):.6g}" if dt else " rad/s")
        raise ArgumentError(
            f"the closed loop is unstable, with a pole at {pole}; margins say how far a stable "
            "loop is from that",
            "is the sign of the loop that of negative feedback?",
        )
    return poles


def _one_loop(A: Array, B: Array, C: Array, D: Array, dt: float, delay: int = 0) -> LoopMargins:
    exact = Rational.of(A, B, C, D, dt) if len(A) <= EXACT else None
    if exact and not delay:
        _check_closed(*exact.closed_poles(), dt)
        return _figures(exact, exact.real_crossings(), exact.gain_crossings(), exact.nearest)
    factors = factored(A, B, C, D, dt=dt, delay=delay)
    if not delay:
        _check_closed(*closed_poles(A, B, C, D, dt=dt), dt)
    beside = factors.beside_border()
    crossed = real_crossings(beside)
    unstable = beside.unstable_poles() - encirclements(beside, crossed)
    if unstable and delay:
        raise ArgumentError(
            f"the closed loop is unstable: with its {delay} steps of delay, {unstable} of its poles "
            "are outside the unit circle; margins say how far a stable loop is from that",
            "is the sign of the loop that of negative feedback?",
        )
    if unstable:
        raise LqradError(
            f"the loop's crossings of the real axis say that {unstable} closed-loop poles are "
            "unstable, and the closed loop's own poles that none is: one of both is lost in rounding",
            "try a balanced or a minimal realisation of the loop",
        )
    distance, closest = nearest(factors, SENSITIVITY)
    if distance <= _ON_BORDER:
        raise ArgumentError(
            "the closed loop has a pole on the border of stability, at "
            f"{float(factors.frequency(np.array(closest))):.6g} rad/s; margins say how far a stable "
            "loop is from that"
        )
    ones = exact.gain_crossings() if exact else _apart(factors, gain_crossings(beside))
    return _figures(factors, _apart(factors, crossed), ones, partial(nearest, factors))


def _apart(L: Factored, v: Array) -> Array:
    """The crossings that are not at a pole or zero on the border of stability itself."""
    at = np.abs(L.roots[L.on_border()])
    return v[~(np.abs(v[:, None] - at) <= _AT_ROOT * at).any(axis=1)]


def _figures(
    L: Factored | Rational,
    real: Array,
    ones: Array,
    nearest: Callable[[tuple[int, int]], tuple[float, float]],
) -> LoopMargins:
    """The margins of a loop which is real at the points `real`, and of magnitude one at `ones`."""
    logs = L.log(real)
    negative = np.cos(logs.imag) < 0
    crossed = list(zip(L.frequency(real[negative]), logs[negative].real, strict=True))
    for v, (size, q, turned) in ((0.0, L.near_zero()), (np.inf, L.near_infinity())):
        if q == 0 and turned and np.isfinite(size):  # L is real at the ends of the axis, too
            crossed.append((L.frequency(np.array(v)), size))
    crossed = sorted((float(w), float(np.clip(size, -700, 700))) for w, size in crossed)
    factors = tuple((w, float(np.exp(-size))) for w, size in crossed)
    # Whether a factor is below one is told by its logarithm: the factor may be rounded to one.
    sides = [(f, w, size > 0) for (w, f), (_, size) in zip(factors, crossed, strict=True)]
    low = max(((f, w) for f, w, lower in sides if lower), default=(0.0, np.nan))
    high = min(((f, w) for f, w, lower in sides if not lower), default=(np.inf, np.nan))

    turns = L.turns(ones)
    omega = L.frequency(ones)
    nearest_turn = int(np.abs(turns).argmin()) if len(turns) else None
    delays = np.where(turns >= 0, turns, turns + 2 * np.pi) / omega
    size, q, _ = L.near_infinity()
    at_infinity = not L.discrete and q == 0 and size >= 0
    disk, disk_at = nearest(BOTH)
    return LoopMargins(
        gain=(low[0], high[0]),
        gain_frequency=(low[1], high[1]),
        phase=np.inf if nearest_turn is None else float(np.degrees(abs(turns[nearest_turn]))),
        phase_frequency=np.nan if nearest_turn is None else float(omega[nearest_turn]),
        delay=0.0 if at_infinity else float(delays.min(initial=np.inf)),
        disk=2 * disk,
        disk_frequency=float(L.frequency(np.array(disk_at))),
        sensitivity=1 / nearest(SENSITIVITY)[0],
        complementary=1 / nearest(COMPLEMENTARY)[0],
        gain_crossings=tuple(zip(omega.tolist(), np.degrees(turns).tolist(), strict=True)),
        phase_crossings=factors,
    )


# Several loops at once


def _all_loops(A: Array, B: Array, C: Array, D: Array, dt: float) -> Margins:
    """The margins of several loops, each alone and all at once, in balanced units."""
    units = balance(A, B, C, D=D, continuous=not dt)
    x, u, time = units.x, units.u, 0 if dt else units.time
    own = in_units(A, x, x), in_units(B, x, u), in_units(C, u, x), in_units(D, u, u)
    _check_jump(own[3])
    poles = _check_closed(*closed_poles(*own, dt=dt), dt)
    loops = tuple(_one_loop(*_others_closed(*own, i), dt) for i in range(len(D)))
    # S and T as functions of s = i v, with v in units of 2^-time rad/s, or tan(omega dt / 2).
    scale = 2.0**time
    A, B, C, D = _sensitivity(own[0] * scale, own[1] * scale, *own[2:])
    if dt:
        A, B, C, D = _mapped(A, B, C, D)
    poles = np.asarray((poles - 1) / (poles + 1) if dt else poles * scale, dtype=np.complex128)
    identity = np.eye(len(D))
    disk, v = _balanced_peak(A, B, C, D - 0.5 * identity, poles)
    sides = np.ldexp(1.0, u)  # |S| and |T| are those of the signals as they are given
    B, C = B / sides, sides[:, None] * C
    S, T = (sides[:, None] * size / sides for size in (D, identity - D))
    sensitivity, _ = peak_gain(A, B, C, S, poles)
    complementary, _ = peak_gain(A, B, -C, T, poles)
    frequency = 2 * np.arctan(v) / dt if dt else v / scale
    return Margins(loops, 1 / disk, float(frequency), sensitivity, complementary)


def _sensitivity(A: Array, B: Array, C: Array, D: Array) -> System:
    """S = (I + L)^-1."""
    back = np.eye(len(D)) + D
    C_s, D_s = _solve(back, C), _solve(back, np.eye(len(D)))
    return A - B @ C_s, B @ D_s, -C_s, D_s


def _mapped(A: Array, B: Array, C: Array, D: Array) -> System:
    """A stable system in z as one in s, z = (1 + s)/(1 - s)."""
    identity = np.eye(len(A))
    B_s = _solve(identity + A, B)
    C_s = _solve(identity + A.T, 2 * C.T).T
    return _solve(identity + A, A - identity), B_s, C_s, D - C @ B_s


def _others_closed(A: Array, B: Array, C: Array, D: Array, i: int) -> System:
    """The loop through channel i, with the other channels' loops closed."""
    own, other = [i], np.arange(len(D)) != i
    back = np.eye(len(D) - 1) + D[np.ix_(other, other)]
    if np.linalg.cond(back) > 1e12:
        raise ArgumentError(
            f"with loop {i} open the others have no solution at the moment of a jump: their I + D is "
            "singular",
            "remove the feedthrough D, for instance by a step of delay",
        )
    from_x, from_u = _solve(back, C[other]), _solve(back, D[np.ix_(other, own)])
    out, down = B[:, other], D[np.ix_(own, other)]
    return (
        A - out @ from_x,
        B[:, own] - out @ from_u,
        C[own] - down @ from_x,
        D[np.ix_(own, own)] - down @ from_u,
    )


def _balanced_peak(A: Array, B: Array, C: Array, D: Array, poles: Complex) -> tuple[float, float]:
    """The least peak of |E G E^-1| over the diagonal E that are tried: each peak is a bound.

    Perturbations of each channel alone commute with E. The next E is Osborne's balancing at the
    frequency of the peak.
    """
    E = np.ones(len(D))
    best = (np.inf, 0.0)
    for _ in range(_BALANCINGS):
        system = A, B / E, E[:, None] * C, E[:, None] * D / E
        peak, v = peak_gain(*system, poles, enough=best[0])
        if peak >= best[0]:
            break
        best = peak, v
        at_peak = response(A, B, C, D, np.array([1j * v]))[0] if v < np.inf else D
        E = _balance(np.abs(at_peak))
    return best


def _balance(size: Array) -> Array:
    """The diagonal E that gives each row of E size E^-1 the norm of its column, off the diagonal."""
    size = size - np.diag(np.diag(size))
    E = np.ones(len(size))
    for _ in range(_BALANCINGS):
        for i in range(len(size)):
            row, column = np.linalg.norm(size[i] / E), np.linalg.norm(size[:, i] * E)
            if row > 0 and column > 0:
                E[i] = np.sqrt(column / row)
    return E


def _solve(matrix: Array, right: Array) -> Array:
    return np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)


def _decibels(factor: float) -> str:
    if factor == 0:
        return "-inf"
    return "inf" if np.isinf(factor) else f"{20 * np.log10(factor):.3g}"


def _disk_columns(of: LoopMargins | Margins) -> list[str]:
    figures = of.disk, disk_phase(of.disk), of.sensitivity, of.complementary
    disk, *rest = (number(figure, 3) for figure in figures)
    return [disk, f"+-{_decibels(disk_gain(of.disk)[1])}", *rest]
