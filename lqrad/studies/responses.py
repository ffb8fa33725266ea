"""The response to a step, and the figures that are read off it.

    y[t] = D + sum_{s<t} C A^s B,      final = D + C (I - A)^-1 B

for each input and output. The figures are those of the samples: nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array, check_count, check_room
from lqrad.errors import ArgumentError
from lqrad.problems.statespace import StateSpace

# It has settled where it stays within this part of the final value, and has risen between these.
_SETTLED, _RISE = 0.02, (0.1, 0.9)
# A horizon is long enough where what is left of the slowest mode is below this.
_LEFT = 1e-4
_LEAST_STEPS, _MOST_STEPS = 20, 1_000_000


@dataclass(frozen=True, eq=False, repr=False)
class StepResponse:
    """The responses y[:, i, j] of the outputs i to a unit step in the input j, and their figures.

    Figures are arrays (ny, m), times in seconds and the rest in per cent of the final value; NaN
    where the final value is zero, of which nothing is a per cent, or where the horizon is too short
    for it to be reached.

    Attributes
    ----------
    t : (T+1,)
        Times of the samples in seconds.
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

    def table(self) -> str:
        """Return the figures as a table, a row for each output and input."""
        names = (
            "final",
            "rise, s",
            "settling, s",
            "overshoot, %",
            "undershoot, %",
            "peak",
            "at, s",
        )
        columns = (
            self.final,
            self.rise,
            self.settling,
            self.overshoot,
            self.undershoot,
            self.peak,
            self.peak_time,
        )
        rows = [f"{'output':>6}{'input':>6}" + "".join(f"{name:>14}" for name in names)]
        for i, j in np.ndindex(*self.final.shape):
            values = (f"{column[i, j]:14.4g}" for column in columns)
            rows.append(f"{i:6d}{j:6d}" + "".join(values))
        return "\n".join(rows)


def step_response(system: Any, *, T: int | None = None) -> StepResponse:
    """Return the response of a stable system in discrete time to a unit step in each input.

    Parameters
    ----------
    system : StateSpace, or what `StateSpace.of` takes
    T : int, optional
        How many steps; until the slowest mode has fallen to 1e-4 when not given.

    Returns
    -------
    StepResponse

    Raises
    ------
    ArgumentError
        If the system is in continuous time, or a pole is on the unit circle or outside, so that
        the response does not settle: names it.

    Examples
    --------
    >>> step_response(StateSpace([[0.8]], [[0.2]], dt=0.1))
    <StepResponse: to 1, rise 1 s, settling 1.8 s, overshoot 0 %>
    """
    system = StateSpace.of(system)
    if not system.dt:
        raise ArgumentError("the system is in continuous time (dt = 0); sample it first")
    radius = abs(system.poles[0])
    if radius >= 1:
        raise ArgumentError(
            f"the system has the pole {system.poles[0]:.6g}, of magnitude {radius:.6g}: its "
            "response does not settle; close a loop around it first"
        )
    if T is None:
        decay = -np.log(max(radius, 1e-300))
        T = int(np.clip(np.ceil(-np.log(_LEFT) / decay) * 1.5, _LEAST_STEPS, _MOST_STEPS))
    T = check_count("T", T)
    check_room(f"responses of T = {T} steps", T, system.m, 2 * (system.n + system.ny))
    inputs = np.broadcast_to(np.eye(system.m)[:, None, :], (system.m, T + 1, system.m))
    _, y = system.simulate(inputs)
    y = np.moveaxis(y, 0, -1)  # from (inputs, T+1, ny)
    gain = np.linalg.solve(np.eye(system.n) - system.A, system.B)
    final = np.asarray(system.C @ gain + system.D, dtype=np.float64)
    return _measured(y, final, system.dt)


def _measured(y: Array, final: Array, dt: float) -> StepResponse:
    T = len(y) - 1
    # A final value is zero where it is below rounding errors of what adds up to it.
    zero = np.abs(final) <= 1e-12 * np.abs(y).max(axis=0)
    relative = y / np.where(zero, np.nan, final)

    def first(reached: NDArray[np.bool_]) -> Array:
        index = np.where(reached.any(axis=0), reached.argmax(axis=0), np.nan)
        return np.where(zero, np.nan, index * dt)

    low, high = (first(relative >= level) for level in _RISE)
    outside = np.abs(relative - 1) > _SETTLED
    last = np.where(outside.any(axis=0), T - outside[::-1].argmax(axis=0) + 1, 0)
    settling = np.where(zero | (last > T), np.nan, last * dt)
    at = np.abs(y).argmax(axis=0)
    return StepResponse(
        t=np.asarray(dt * np.arange(T + 1)),
        y=y,
        final=np.where(zero, 0.0, final),
        rise=high - low,
        settling=settling,
        overshoot=100 * np.maximum(relative.max(axis=0) - 1, 0),
        undershoot=100 * np.maximum(-relative.min(axis=0), 0),
        peak=np.take_along_axis(y, at[None], axis=0)[0],
        peak_time=at * dt,
    )
