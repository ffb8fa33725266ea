"""Controllers: responses within their limits, Nyquist curves with the disk, sensitivities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from lqrad.arguments import Array, check_count, check_shape
from lqrad.design.closed_loop import ClosedLoop
from lqrad.design.margins import Margins, disk_gain
from lqrad.design.report import Design
from lqrad.design.responses import StepResponse
from lqrad.design.statespace import StateSpace
from lqrad.figure import (
    NEW,
    Labels,
    add_note,
    add_title,
    colors,
    curves,
    largest,
    panel,
    sheet,
    with_units,
)
from lqrad.results import draw

# So many frequencies make a smooth curve; no figure is read off them.
_POINTS = 2000
_BAND = (5, 95)
_FAR = 8.0  # from zero, on a Nyquist curve
_IN_SIGHT = 3.0  # times the largest input


@panel
def plot_nyquist(loop: StateSpace, margins: Margins, *, channel: int = 0, ax: Axes = NEW) -> None:
    """Draw the Nyquist curve of a loop, and the disk that it stays out of.

    The disk about -1 holds the points -1/f of all factors f that the disk margin allows: the closed
    loop stays stable under each of them, since the curve does not enter the disk.

    Parameters
    ----------
    loop : StateSpace
        The loop that the margins are of.
    margins : Margins
    channel : int
        Which loop, where there are several: the others are open in the curve.
    """
    found = margins.loops[channel]
    dark, light = colors(2)
    L = loop.response(_frequencies(loop))[:, channel, channel]
    L = np.where(np.abs(L) < 20, L, np.nan)
    ax.plot(L.real, L.imag, color=dark, label="L, frequency rising", zorder=3)
    ax.plot(L.real, -L.imag, color=dark, linewidth=0.7, alpha=0.5, zorder=2)
    alpha, sights = found.disk, [1.0]
    if alpha < 2:  # else it is a half-plane, or more
        low, high = disk_gain(alpha)
        middle, radius = -(low + high) / 2, (high - low) / 2
        sights.append(high)
        ax.add_patch(Circle((middle, 0.0), radius, color=light, alpha=0.35, linewidth=0, zorder=1))
        ax.plot([], [], "s", color=light, alpha=0.5, label=f"kept free: disk margin {alpha:.3g}")
    ax.plot(-1.0, 0.0, "+", color="black", markersize=9, zorder=4)
    named = False
    for limit, beside in zip(found.gain, ((-4, 4, "right"), (3, 5, "left")), strict=True):
        if 0 < limit < np.inf:
            label = "" if named else "unstable at this factor"
            ax.plot(-1 / limit, 0.0, "o", color=dark, markersize=4, zorder=4, label=label)
            factor = f"\N{MULTIPLICATION SIGN} {limit:.3g}"
            add_note(ax, factor, (-1 / limit, 0.0), xytext=beside[:2], ha=beside[2])
            sights.append(1 / limit)
            named = True
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    ax.plot(circle.real, circle.imag, ":", color="0.6", linewidth=0.8, zorder=1)
    extent = min(1.7 * max(sights), _FAR)  # with room for a factor
    ax.set_xlim(-extent, extent / 2)
    ax.set_ylim(-0.75 * extent, 0.75 * extent)
    ax.set_aspect("equal", adjustable="box")
    ax.set_xlabel("Re L")
    ax.set_ylabel("Im L")
    add_title(ax, f"Nyquist curve: phase margin {found.phase:.3g}\N{DEGREE SIGN}")


@panel
def plot_sensitivities(loop: StateSpace, *, ax: Axes = NEW) -> None:
    """Draw the largest singular values of S = (I + L)^-1 and T = I - S over frequency.

    Parameters
    ----------
    loop : StateSpace
    """
    omega = _frequencies(loop)
    L = loop.response(omega)
    identity = np.eye(loop.m)
    S = np.linalg.solve(identity + L, np.broadcast_to(identity, L.shape))
    both = {
        "|S|: what is left of a disturbance": S,
        "|T|: what is left of the sensors' noise": identity - S,
    }
    for (label, z), look in zip(both.items(), curves(2), strict=True):
        ax.loglog(omega, np.linalg.svd(z, compute_uv=False)[:, 0], label=label, **look)
    ax.axhline(1.0, color="0.6", linewidth=0.8)
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, 1e-4), high)
    ax.set_xlabel("frequency (rad/s)")
    ax.set_ylabel("largest gain")
    add_title(ax, "sensitivities")


@panel
def plot_step_response(
    response: StepResponse, *, output: int = 0, names: Sequence[str] = (), ax: Axes = NEW
) -> None:
    """Draw the response of an output to a step in each input, its end and its settling.

    Parameters
    ----------
    response : StepResponse
    output : int
    names : sequence of str
        What each input is called; u[j] when not given.
    """
    m = response.final.shape[1]
    for j, look in enumerate(curves(m)):
        color = look["color"]
        label = names[j] if names else f"to u[{j}]"
        ax.plot(response.t, response.y[:, output, j], label=label, **look)
        final, settling = response.final[output, j], response.settling[output, j]
        ax.axhline(final, color=color, linewidth=0.7, linestyle=":")
        if np.isfinite(settling):
            at = int(np.abs(response.t - settling).argmin())
            ax.plot(settling, response.y[at, output, j], "o", color=color, markersize=4)
    ax.set_xlabel("time (s)")
    ax.set_ylabel(f"output {output}")
    add_title(ax, "step response (dots: settled to 2 %)")


@panel
def plot_closed_loop(
    loop: ClosedLoop,
    *,
    rows: Array | None = None,
    names: Sequence[str] = (),
    inputs: bool = False,
    limits: tuple[Array, Array] | None = None,
    ax: Axes = NEW,
) -> None:
    """Draw what a plant did: states, outputs or inputs over time, bands over the runs.

    Where there are several runs a curve is the median and its band holds nine tenths of them. Of more
    curves than can be told apart, the largest are named and the others are grey.

    Parameters
    ----------
    loop : ClosedLoop
    rows : (k, n), optional
        Rows H of the curves H x, those of the tracked outputs first; all states when not given.
    names : sequence of str
        What the curves are called, units included.
    inputs : bool
        Draw the inputs instead.
    limits : pair (low, high) of (m,), optional
        Limits of the inputs, drawn as lines where the inputs come near them.

    Examples
    --------
    >>> import lqrad
    >>> plant = StateSpace([[1.0]], [[1.0]], dt=0.1)
    >>> controller = lqrad.lqr(plant, [[1]], [[1]])
    >>> loop = lqrad.simulate_closed_loop(plant, controller, 20, x0=[1.0])
    >>> plot_closed_loop(loop, names=["position (m)"]).get_xlabel()
    'time (s)'
    """
    if inputs:
        z, symbol = loop.u, "u"
    elif rows is None:
        z, symbol = loop.x, "x"
    else:
        z, symbol = loop.x @ np.asarray(rows).T, "tracked"
    t, style = loop.t[: z.shape[-2]], "steps-post" if inputs else "default"
    check_count("curves", z.shape[-1])
    named = largest(z)
    for i, look in zip(named, curves(len(named)), strict=True):
        label = names[i] if names else f"{symbol}[{i}]"
        curve = z[..., i]
        if curve.ndim == 2:
            low, high = np.percentile(curve, _BAND, axis=0)
            ax.fill_between(t, low, high, color=look["color"], alpha=0.25, linewidth=0)
            curve = np.median(curve, axis=0)
        ax.plot(t, curve, drawstyle=style, label=label, **look)
        if symbol == "tracked" and loop.reference is not None and i < loop.reference.shape[1]:
            steps = {"color": look["color"], "linewidth": 0.8, "linestyle": ":"}
            ax.step(t[:-1], loop.reference[:, i], where="post", **steps)
    grey = np.delete(z, named, axis=-1)
    if grey.size:
        medians = np.median(grey.reshape(-1, *grey.shape[-2:]), axis=0)
        lines = ax.plot(t, medians, color="0.8", linewidth=0.8, drawstyle=style, zorder=1)
        lines[0].set_label(f"{len(lines)} smaller ones")
    if inputs and limits is not None:
        for level in _in_sight(limits, z):
            ax.axhline(level, color="0.5", linewidth=0.8, linestyle="--")
    ax.set_xlabel("time (s)")
    ax.set_ylabel(
        names[0] if len(names) == 1 else {"u": "inputs", "x": "states"}.get(symbol, "outputs")
    )


@sheet(11, 8, 2, 2)
def plot_design(panels: list[Axes], design: Design, system: Labels | None = None) -> str:
    """Draw a design: its simulation within limits, its Nyquist curve and its sensitivities.

    Parameters
    ----------
    design : Design
    system : System, optional
        Gives the curves their names and units.
    """
    top, nyquist, bottom, sensitivity = panels
    controller, loop = design.controller, design.controller.loop(design.plant)
    rows, states, inputs = controller.H if controller.nr else None, [], []
    if system is not None:
        inputs = with_units(system.input_names, system.input_units)
        states = with_units(system.state_names, system.state_units)
        check_shape("state_names", np.empty(len(states)), (design.plant.n,), "one for each state")
    names = states if rows is None else [_row_name(row, states) for row in rows]
    plot_closed_loop(design.simulated, rows=rows, names=names if states else (), ax=top)
    add_title(top, "tracked outputs (dotted: their reference)" if controller.nr else "states")
    limits = controller.low, controller.high
    plot_closed_loop(design.simulated, inputs=True, names=inputs, limits=limits, ax=bottom)
    seen = len(_in_sight(limits, design.simulated.u))
    told = " (dashed: their limits)" if seen else ", far from their limits"
    add_title(bottom, f"inputs{told if np.isfinite(limits).any() else ''}")
    worst = int(np.argmin([found.disk for found in design.margins.loops]))
    plot_nyquist(loop, design.margins, channel=worst, ax=nyquist)
    plot_sensitivities(loop, ax=sensitivity)
    return "" if system is None else system.name


def _row_name(row: Array, names: Sequence[str]) -> str:
    """What a row of H x is called: the name of the state, where it is one."""
    (place,) = np.nonzero(row)
    return names[place[0]] if len(place) == 1 and row[place[0]] == 1 and names else "H x"


def _in_sight(limits: tuple[Array, Array], u: Array) -> Array:
    """The finite limits that the inputs come so near to that both are seen on one scale."""
    levels: Array = np.unique(np.concatenate(limits))
    near = np.abs(levels) <= _IN_SIGHT * np.abs(u).max(initial=0.0)
    return np.array(levels[near & np.isfinite(levels)])


def _frequencies(loop: StateSpace) -> Array:
    """Frequencies from far below the slowest mode to the highest there is."""
    if loop.dt:
        top = np.pi / loop.dt
        rates = np.abs(np.log(np.where(loop.poles == 0, 1.0, loop.poles))) / loop.dt
    else:
        rates = np.abs(loop.poles)
        top = 100 * max(float(rates.max()), 1e-3)
    rates = rates[rates > 1e-9 * top]
    low = min(0.01 * float(rates.min()), 1e-2 * top) if rates.size else 1e-3 * top
    return np.geomspace(max(low, 1e-5 * top), top, _POINTS)


draw.register(Design, plot_design)
draw.register(ClosedLoop, plot_closed_loop)
draw.register(StepResponse, plot_step_response)
