"""Nonlinear control: a trajectory within its bounds, its portrait, its convergence, a film of it."""

from __future__ import annotations

import math
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_shape
from lqrad.descent.pictures import plot_descent
from lqrad.errors import ArgumentError
from lqrad.figure import (
    NEW,
    add_title,
    colors,
    in_turns,
    one_series,
    panel,
    save_film,
    sheet,
    with_units,
)
from lqrad.lq.pictures import plot_trajectory
from lqrad.nonlinear.ilqr import ILQR
from lqrad.results import draw

if TYPE_CHECKING:
    from lqrad.nonlinear.systems import NonlinearSystem

# A GIF counts in hundredths of a second, and viewers slow down below two.
_MOST_FRAMES_PER_SECOND = 50


@panel
def plot_inputs(system: NonlinearSystem, u: ArrayLike, *, ax: Axes = NEW) -> None:
    """Draw inputs against time, the values outside their bounds shaded.

    Parameters
    ----------
    system : NonlinearSystem
    u : (T, m)
    """
    names = with_units(system.input_names, system.input_units)
    plot_trajectory(u, ax=ax, dt=system.dt, names=names, symbol="u")
    low, high = system.bounds
    for limit in np.unique(system.bounds):
        ax.axhline(limit, color="0.5", linewidth=0.8, linestyle="--", zorder=1)
    bottom, top = min(low.min(), ax.get_ylim()[0]), max(high.max(), ax.get_ylim()[1])
    margin = 0.08 * (top - bottom)
    ax.set_ylim(bottom - margin, top + margin)
    ax.axhspan(bottom - margin, low.min(), color="0.92", zorder=0)
    ax.axhspan(high.max(), top + margin, color="0.92", zorder=0)
    add_title(ax, "inputs, and their bounds (dashed)")


@panel
def plot_portrait(system: NonlinearSystem, x: ArrayLike, *, ax: Axes = NEW) -> None:
    """Draw two states against each other, such as an angle and its rate, a dot for each step.

    The start and the target are marked; of an angle, all upright (cross) and hanging (circle)
    positions in the picture.

    Parameters
    ----------
    system : NonlinearSystem
        Its `portrait` tells which states.
    x : (T+1, n)

    Examples
    --------
    >>> from lqrad.nonlinear.systems import pendulum_swingup
    >>> ax = plot_portrait(pendulum_swingup(), [[3.1, 0.0], [3.0, -1.0]])
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('angle (rad)', 'rate (rad/s)')
    """
    x = _states(system, x)
    dark, light = colors(2)
    pair = list(system.portrait)
    names = with_units(system.state_names, system.state_units)
    across, up = x[:, pair].T
    ax.plot(across, up, ".-", color=dark, linewidth=1.2, markersize=3, zorder=2)
    ax.plot(across[0], up[0], "o", color=dark, markersize=6, label="start", zorder=5)
    places = [across, [system.target[pair[0]]]]
    if system.state_units[pair[0]] == "rad":
        low, high = (np.min(np.concatenate(places)), np.max(np.concatenate(places)))
        half_turns = np.arange(math.ceil(low / math.pi - 0.1), math.floor(high / math.pi + 0.1) + 1)
        for remainder, marker, word in ((0, "P", "upright"), (1, "o", "hanging")):
            angles = math.pi * half_turns[half_turns % 2 == remainder]
            (marks,) = ax.plot(angles, 0 * angles, marker, markersize=9, label=word, zorder=4)
            if remainder == 0:
                marks.set(color=light)
            else:
                marks.set(color="0.4", markerfacecolor="none")
    else:
        target = system.target[pair]
        ax.plot(*target, "P", color=light, markersize=9, label="target", zorder=4)
        if system.state_units[pair[0]] == system.state_units[pair[1]] == "m":
            ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel(names[pair[0]])
    ax.set_ylabel(names[pair[1]])
    in_turns(ax)
    add_title(ax, f"portrait: a dot every {system.dt:g} s")


@sheet(11, 8, 2, 2)
def plot_swingup(panels: list[Axes], system: NonlinearSystem, result: ILQR) -> str:
    """Draw what `ilqr` found for a nonlinear system: states, inputs, portrait and convergence.

    Parameters
    ----------
    system : NonlinearSystem
    result : ILQR
    """
    states, inputs, portrait, convergence = panels
    names = with_units(system.state_names, system.state_units)
    plot_trajectory(_states(system, result.x), ax=states, dt=system.dt, names=names)
    add_title(states, "states")
    plot_inputs(system, result.u, ax=inputs)
    inputs.set_xlim(states.get_xlim())
    plot_portrait(system, result.x, ax=portrait)
    plot_descent(result, ax=convergence)
    return f"{system.name}: {result.message}"


def animate_cart_pole(
    system: NonlinearSystem,
    x: ArrayLike,
    path: str | PathLike[str],
    *,
    half_length: float = 0.5,
) -> None:
    """Save a film of a cart and its pole as a GIF, a frame for each step, in real time.

    Parameters
    ----------
    system : NonlinearSystem
        A `cart_pole_swingup`.
    x : (T+1, 4)
        Cart position, its velocity, the pole's angle from upright, its rate.
    path : path
        Where to save it; a name that ends in .gif.
    half_length : float
        That of the system's pole, in m.

    Raises
    ------
    ArgumentError
        If the system is no cart-pole.

    Notes
    -----
    A GIF counts in hundredths of a second: at other sampling times it runs a little fast or slow.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from lqrad.nonlinear.systems import cart_pole_swingup
    >>> system = cart_pole_swingup()
    >>> x = system.problem.simulate(system.x0, [[10.0]] * 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     film = Path(folder) / "push.gif"
    ...     animate_cart_pole(system, x, film)
    ...     film.read_bytes()[:6]
    b'GIF89a'
    """
    if system.name != "cart-pole":
        raise ArgumentError(
            f"system is {system!r}, expected a cart-pole; try lqrad.nonlinear.cart_pole_swingup()"
        )
    x = _states(system, x)
    dark, light = colors(2)
    y, angle = x[:, 0], x[:, 2]
    # The angle is positive where the tip leans towards positive y.
    tip = np.column_stack([y + 2 * half_length * np.sin(angle), 2 * half_length * np.cos(angle)])
    left, right = min(y.min(), tip[:, 0].min()) - 0.3, max(y.max(), tip[:, 0].max()) + 0.3
    reach = 2 * half_length + 0.15
    width = 6.0
    figure = Figure(figsize=(width, max(1.5, width * 2 * reach / (right - left))), dpi=80)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.set_xlim(left, right)
    ax.set_ylim(-reach, reach)
    ax.axhline(0.0, color="0.7", linewidth=1.0, zorder=0)
    cart = Rectangle((0.0, -0.06), 0.3, 0.12, color="0.35", zorder=1)
    ax.add_patch(cart)
    (trail,) = ax.plot([], [], color=light, linewidth=1.0, zorder=2)
    (pole,) = ax.plot([], [], "-o", color=dark, linewidth=4.0, markersize=5, zorder=3)
    clock = ax.text(0.02, 0.96, "", transform=ax.transAxes, va="top", fontsize="small")

    def show(t: int) -> tuple[Rectangle]:
        cart.set_x(y[t] - 0.15)
        pole.set_data([y[t], tip[t, 0]], [0.0, tip[t, 1]])
        trail.set_data(tip[: t + 1, 0], tip[: t + 1, 1])
        clock.set_text(f"{t * system.dt:.2f} s")
        return (cart,)

    every = max(1, math.ceil(1 / (_MOST_FRAMES_PER_SECOND * system.dt) - 1e-9))
    frames_per_second = max(1, round(1 / (every * system.dt)))
    save_film(path, figure, show, range(0, len(x), every), frames_per_second)


def _states(system: NonlinearSystem, x: ArrayLike) -> Array:
    x = one_series("x", x)
    check_shape("x", x, (len(x), system.problem.n), f"a column for each state of {system!r}")
    return x


draw.register(ILQR, plot_descent)
