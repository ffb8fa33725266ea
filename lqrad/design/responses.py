"""Step responses and their figures.

    y[t] = D + sum_{s<t} C A^s B,      final = D + C (I - A)^-1 B

for each input and output. The figures are those of the samples: nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import EPS, Array, check_count, check_room, number_words
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.factored import factored
from lqrad.linalg.paths import connected, joining
from lqrad.linalg.twice import Complex
from lqrad.results import Cells, Report, number

_COLUMNS = (
    *("output", "input", "final", "rise, s", "settling, s", "overshoot, %", "undershoot, %"),
    *("peak", "at, s"),
)
# Parts of the final value: the band in which a response has settled, and the ends of its rise.
_SETTLED, _RISE = 0.02, (0.1, 0.9)
# The part of the slowest mode that is left at the end of the horizon.
_LEFT = 1e-4
_LEAST_STEPS, _MOST_STEPS = 20, 1_000_000
# Responses of more steps are sampled sparsely: a mode has decayed after so many time constants, and
# the others change by so small a part of themselves from one sample to the next.
_DENSE, _GONE, _SMALL = 20_000, 40.0, 0.005


@dataclass(frozen=True, eq=False, repr=False)
class StepResponse(Report):
    """The responses y[:, i, j] of the outputs i to a unit step in the input j, and their figures.

    Figures are arrays (ny, m), with times in seconds and overshoot in per cent of the final value;
    NaN where the final value is zero, or is not reached within the horizon.

    Attributes
    ----------
    t : (T+1,)
        Times of the samples in seconds; of a very long response, not all of them.
    y : (T+1, ny, m)
    final : (ny, m)
        Where the response ends, exactly: the gain at frequency zero.
    rise : (ny, m)
        From the first sample at 10 % of the final value to the first at 90 %.
    settling : (ny, m)
        The first sample from which on it stays within 2 % of the final value.
    overshoot, undershoot : (ny, m)
        How far it goes beyond the final value, and to the other side of zero.
    peak, peak_time : (ny, m)
        The sample of the largest magnitude, and when it is.
    """

    t: Array
    y: Array
    final: Array
    rise: Array
    settling: Array
    overshoot: Array
    undershoot: Array
    peak: Array
    peak_time: Array

    def __repr__(self) -> str:
        ny, m = self.final.shape
        if ny == m == 1:
            return (
                f"<StepResponse: to {self.final[0, 0]:.4g}, rise {self.rise[0, 0]:.3g} s, settling "
                f"{self.settling[0, 0]:.3g} s, overshoot {self.overshoot[0, 0]:.3g} %>"
            )
        return f"<StepResponse: {ny} outputs, {m} inputs, {self.t[-1]:.4g} s>"

    def cells(self) -> Cells:
        """Return the columns and a row for each output and input."""
        figures = [self.final, self.rise, self.settling, self.overshoot, self.undershoot]
        figures += [self.peak, self.peak_time]
        rows = [
            [str(i), str(j), *(number(float(figure[i, j])) for figure in figures)]
            for i, j in np.ndindex(*self.final.shape)
        ]
        return _COLUMNS, rows


def step_response(system: Any, T: int | None = None) -> StepResponse:
    """Return the response of a stable system in discrete time to a unit step in each input.

    Parameters
    ----------
    system : StateSpace, or what `StateSpace.of` takes
    T : int, optional
        How many steps; until the slowest mode has fallen to 1e-4 when not given.

    Raises
    ------
    ArgumentError
        If the system is in continuous time, or a pole is on the unit circle or outside, so that
        the response does not settle: names it.

    See Also
    --------
    StateSpace.simulate : any inputs
    Controller.closed_loop, design_controller : the loop whose response one wants

    Examples
    --------
    >>> step_response(StateSpace([[0.8]], [[0.2]], dt=0.1))
    <StepResponse: to 1, rise 1 s, settling 1.8 s, overshoot 0 %>
    """
    system = StateSpace.of(system)
    if not system.dt:
        raise ArgumentError("the system is in continuous time (dt = 0); sample it first")
    core = _without_unseen(system.undelayed)
    poles, final = core.poles, None
    if abs(poles[0]) >= 1 - 4 * EPS:
        poles, final = _seen(core, poles)
    if T is None:
        slowest = float(np.abs(poles).max(initial=0.0))
        wanted = np.ceil(np.log(_LEFT) / np.log(slowest)) * 1.5 if slowest else 0.0
        wanted = max(wanted, _LEAST_STEPS) + system.delay
        if wanted > _DENSE and final is None:
            return _sparse(core, poles, wanted, system.delay)
        T = int(min(wanted, _MOST_STEPS))
    T = check_count("T", T)
    check_room(f"responses of T = {T} steps", T, core.m, 2 * (core.n + core.ny))
    inputs = np.broadcast_to(np.eye(core.m)[:, None, :], (core.m, T + 1, core.m))
    _, late = core.simulate(None, inputs)
    y = np.zeros_like(late)
    y[:, system.delay :] = late[:, : T + 1 - system.delay]
    y = np.moveaxis(y, 0, -1)  # from (inputs, T+1, ny)
    final = core.response(0.0).real if final is None else final
    return _measured(np.arange(T + 1.0), y, final, system.dt)


def _without_unseen(system: StateSpace) -> StateSpace:
    """The system without states that are on no path from an input to an output."""
    A, B, C, D = system.A, system.B, system.C, system.D
    kept = np.flatnonzero(joining(A, B, C).any(axis=(0, 1)))
    if not len(kept):
        return StateSpace(
            [[0.0]], np.zeros((1, system.m)), np.zeros((system.ny, 1)), D, dt=system.dt
        )
    return StateSpace(A[np.ix_(kept, kept)], B[kept], C[:, kept], D, dt=system.dt)


def _seen(system: StateSpace, poles: Complex) -> tuple[Complex, Array]:
    """The poles that a response has, and where it ends, of a system with a pole that does not decay.

    Such a pole counts unless it is cancelled by a zero from every input to every output.
    """
    final, slowest = np.zeros((system.ny, system.m)), np.zeros(1, dtype=np.complex128)
    for i, j in np.ndindex(*final.shape):
        A, B, C = connected(system.A, system.B[:, [j]], system.C[[i]])
        L = factored(A, B, C, system.D[[i]][:, [j]], dt=system.dt)
        own = L.roots[L.exponents < 0]
        undamped = (own.real >= 0).any() or L.on_border()[L.exponents < 0].any()
        # A pole at -1 is far out in this plane: its real part may be rounding errors alone.
        if undamped or (np.abs((1 + own) / (1 - own)) >= 1).any():
            raise ArgumentError(
                f"the system has the pole {number_words(poles[0])}, of magnitude "
                f"{abs(poles[0]):.6g}: its response does not settle",
                "close a loop around it first",
            )
        size, order, negative = L.near_zero()
        final[i, j] = 0.0 if order else (-1 if negative else 1) * np.exp(size)
        slowest = np.append(slowest, (1 + own) / (1 - own))
    return slowest, final


def _sparse(system: StateSpace, poles: Complex, T: float, delay: int) -> StepResponse:
    """A response of very many steps, y[t] = final - C A^t (I - A)^-1 B, at some samples.

    They are so close that the modes which have not decayed turn by a small part of a radian, or of a
    time constant, from one to the next.
    """
    with np.errstate(divide="ignore"):
        rates = np.sort_complex(np.log(poles))
    A, C = system.A, system.C
    final = system.response(0.0).real
    rest = StateSpace(A, system.B, dt=system.dt).response(0.0).real  # (I - A)^-1 B
    times, values = [np.zeros(1)], [(final - C @ rest)[None]]
    start, count = 1.0, 0.0
    for k, rate in enumerate(rates):
        end = min(_GONE / -rate.real if rate.real else T, T)
        stride = max(1.0, np.floor(_SMALL / np.abs(rates[k:]).max()))
        if end <= start:
            continue
        count += (end - start) / stride
        if count > _MOST_STEPS:
            raise ArgumentError(
                f"the response takes {T:.3g} steps to settle and oscillates fast all the while",
                "pass T, the number of steps to look at",
            )
        t = np.arange(start, end + stride, stride)
        x = np.zeros((system.m, len(t), system.n))
        x[:, 0] = (np.linalg.matrix_power(A, int(start)) @ rest).T
        x = Bidiagonal(np.linalg.matrix_power(A, int(stride))).solve(x, overwrite=True)
        times.append(t)
        values.append(final - np.moveaxis(x @ C.T, 0, -1))
        start = float(t[-1]) + stride
    t, y = np.concatenate(times), np.concatenate(values)
    if delay:
        t, y = np.append([0.0], t + delay), np.concatenate([np.zeros((1, *final.shape)), y])

    def value(time: float, i: int, j: int) -> float:
        state = np.linalg.matrix_power(A, int(time) - delay) @ rest[:, j]
        return float(final[i, j] - C[i] @ state) if time >= delay else 0.0

    return _measured(t, y, final, system.dt, value)


def _measured(
    t: Array,
    y: Array,
    final: Array,
    dt: float,
    value: Callable[[float, int, int], float] | None = None,
) -> StepResponse:
    """The figures of samples y at the steps t; `value` gives the samples between those."""
    # A final value is zero where it is below rounding errors of what adds up to it.
    zero = np.abs(final) <= 1e-12 * np.abs(y).max(axis=0)
    relative = y / np.where(zero, np.nan, final)

    def passed(inside: Callable[[Array], NDArray[np.bool_]], index: Array) -> Array:
        """The first step that is inside, after the sample before the one of an index, in seconds."""
        found = np.full(final.shape, np.nan)
        for i, j in np.ndindex(*final.shape):
            if zero[i, j] or np.isnan(index[i, j]):
                continue
            k = int(index[i, j])
            low, high = t[max(k - 1, 0)], t[k]
            while value is not None and high - low > 1:
                middle = np.floor((low + high) / 2)
                part = np.asarray(value(middle, i, j) / final[i, j])
                low, high = (low, middle) if inside(part) else (middle, high)
            found[i, j] = high * dt
        return found

    def first(level: float) -> Array:
        reached = relative >= level
        index = np.where(reached.any(axis=0), reached.argmax(axis=0), np.nan)
        return passed(lambda part: np.asarray(part >= level), index)

    low, high = (first(level) for level in _RISE)
    outside = np.abs(relative - 1) > _SETTLED
    last = np.where(outside.any(axis=0), len(t) - outside[::-1].argmax(axis=0), 0)
    settled = np.where(last < len(t), last, np.nan)
    settling = passed(lambda part: np.asarray(np.abs(part - 1) <= _SETTLED), settled)
    at = np.abs(y).argmax(axis=0)
    return StepResponse(
        t=np.asarray(dt * t),
        y=y,
        final=np.where(zero, 0.0, final),
        rise=high - low,
        settling=settling,
        overshoot=100 * np.maximum(relative.max(axis=0) - 1, 0),
        undershoot=100 * np.maximum(-relative.min(axis=0), 0),
        peak=np.take_along_axis(y, at[None], axis=0)[0],
        peak_time=t[at] * dt,
    )
