"""Heat: fields over a body, what its heaters do, how a descent went, how an inverse problem was weighed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import Array, check_shape, real_array
from lqrad.descent.descend import Descent
from lqrad.descent.pictures import plot_descent
from lqrad.errors import ArgumentError
from lqrad.figure import NEW, add_note, add_title, colors, one_series, panel, save_film, sheet
from lqrad.lq.pictures import plot_trajectory
from lqrad.pde.heat import HeatSystem
from lqrad.pde.inverse import Inversion
from lqrad.results import draw

_MOST_CURVES = 6  # of heaters
_USUAL = 0.98  # of all inputs are within the scale of the map of heaters


@panel
def plot_field(
    system: HeatSystem,
    x: ArrayLike,
    *,
    ax: Axes = NEW,
    label: str = "temperature (K)",
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw a field: a plate as a picture with a scale beside it, a rod as a curve.

    Zero is white, what is above red and what is below blue; where a field has both signs, its
    contours below zero are dashed. A field that is far from zero everywhere has shades of its own.

    Parameters
    ----------
    system : HeatSystem
    x : (n,)
        One number for each cell.
    label : str
        What the numbers are, with their unit.
    limits : (float, float), optional
        Ends of the scale.
    """
    x = real_array("x", x)
    check_shape("x", x, (system.n,), "one for each cell", symbols="(n,)")
    ax.set_xlabel("x (m)")
    if len(system.shape) == 1:
        ax.plot(system.coordinates()[0], x, color=colors(1)[0])
        ax.set_ylabel(label)
        if limits is not None:
            ax.set_ylim(*limits)
        return
    low, high = limits or (float(x.min()), float(x.max()))
    _draw_map(ax, system.field(x), _extent(system), (low, high), label).set_aspect("equal")
    if low < 0 < high:  # in grey, too, where it is negative is seen
        levels = np.asarray(MaxNLocator(6).tick_values(low, high))
        lines: dict[str, Any] = {
            "colors": "0.4",
            "linewidths": 0.5,
            "negative_linestyles": "dashed",
        }
        ax.contour(system.field(x), levels=levels[levels != 0], extent=_extent(system), **lines)
    ax.set_ylabel("y (m)")


def _extent(system: HeatSystem) -> tuple[float, float, float, float]:
    return 0.0, system.lengths[1], 0.0, system.lengths[0]


def _draw_map(
    ax: Axes,
    z: Array,
    extent: tuple[float, float, float, float],
    limits: tuple[float, float],
    label: str,
) -> Axes:
    """Draw numbers as colours, zero white, and their scale beside them, as high as they are."""
    low, high = limits
    size = max(abs(low), abs(high)) or 1.0
    shades = mpl.colormaps["RdBu_r"](np.linspace(low / size, high / size, 256) / 2 + 0.5)
    beyond = (z.min() < low, z.max() > high)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    image = ax.imshow(
        z,
        origin="lower",
        extent=extent,
        aspect="auto",
        cmap="viridis" if 2 * low > high or 2 * high < low else ListedColormap(shades),
        vmin=low,
        vmax=high,
    )
    assert ax.figure is not None
    scale = ax.inset_axes((1.04, 0.0, 0.05, 1.0))
    ax.figure.colorbar(image, cax=scale, label=label, extend=extend.get(beyond, "both"))
    return ax


def animate_field(
    system: HeatSystem,
    x: ArrayLike,
    path: str | Path,
    *,
    frames: int = 40,
    label: str = "temperature (K)",
) -> None:
    """Save a film of a plate's field over time, as a .gif.

    Parameters
    ----------
    system : HeatSystem
        A plate.
    x : (k, n)
        The field at k times, dt apart: states, or costates.
    path : str or Path
    frames : int
        How many of the times are shown, at most: more of them where more changes.
    label : str
        What the numbers are, with their unit.

    Examples
    --------
    >>> import tempfile
    >>> from lqrad.pde.heat import heat_plate
    >>> plate = heat_plate((5, 5), heaters=(1, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     animate_field(plate, np.zeros((3, 25)), f"{folder}/cold.gif")
    """
    x = one_series("x", x)
    check_shape("x", x, (len(x), system.n), "a row for each time, one entry for each cell")
    if len(system.shape) != 2:
        raise ArgumentError(f"{system!r} is no plate; `plot_field` draws a rod")
    figure = Figure(figsize=(4.4, 3.6), dpi=80, layout="constrained")
    ax = figure.subplots()
    limits = (float(x.min()), float(x.max()) + 1e-12)
    _draw_map(ax, system.field(x[0]), _extent(system), limits, label).set_aspect("equal")
    ax.set(xlabel="x (m)", ylabel="y (m)")
    image = ax.images[0]

    def show(t: int) -> tuple[AxesImage]:
        image.set_data(system.field(x[t]))
        ax.set_title(f"{t * system.dt:g} s", loc="left", fontsize="medium")
        return (image,)

    shown = _moments(x, min(frames, len(x)))
    save_film(path, figure, show, shown.tolist(), 10)


def _moments(x: Array, count: int) -> NDArray[np.intp]:
    """So many rows of x: halfway between equal times and equal changes, the first and the last among them."""
    changes = np.linalg.norm(np.diff(x, axis=0), axis=1)
    share = np.cumsum(np.append(0.0, changes)) / (changes.sum() or 1.0)
    pace = share + np.linspace(0.0, 1.0, len(x))
    wanted = np.interp(np.linspace(0.0, pace[-1], count), pace, np.arange(len(x))).round()
    k = np.arange(count)
    apart = np.maximum.accumulate(wanted.astype(np.intp) - k) + k
    return np.minimum(apart, len(x) - count + k)


@sheet(14, 7.5, 2, 3)
def plot_heat(panels: list[Axes], system: HeatSystem, descent: Descent) -> str:
    """Draw a controlled body: target, temperature at the end, costates, heaters, convergence.

    Parameters
    ----------
    system : HeatSystem
    descent : Descent
        What `descend` made of `system.problem().objective(system.x0, system.T)`.
    """
    problem, u = system.problem(), descent.solution
    x = problem.simulate(system.x0, u)
    p = problem.adjoint(x, u)
    span = np.concatenate([system.target, x[-1]])
    limits = (float(span.min()), float(span.max()) + 1e-9)
    missing, kelvin, end = x[-1] - system.target, "temperature (K)", len(u) * system.dt
    fields = {
        "target": (0, system.target, kelvin, limits),
        f"temperature after {end:g} s": (1, x[-1], kelvin, limits),
        "what is missing of the target": (2, missing, "difference (K)", None),
        "costate at the start: what heat is worth": (3, p[0], "cost per K", None),
    }
    for title, (place, field, label, ends) in fields.items():
        plot_field(system, field, ax=panels[place], label=label, limits=ends)
        add_title(panels[place], title)
    _draw_heaters(system, u, panels[4])
    plot_descent(descent, ax=panels[5])
    proven = "" if descent.history.gap_bound is None else " (thin: proven)"
    add_title(panels[5], f"descent by {descent.method}{proven}")
    return system.title


def _draw_heaters(system: HeatSystem, u: Array, ax: Axes) -> None:
    """Draw what each heater does over time: a few of them as curves, more as a map."""
    unit = "K/s" if system.B.max() == 1 else "K m/s"  # of a heated piece, and of an end
    if system.m <= _MOST_CURVES:
        names = [f"heater {k}" for k in range(system.m)]
        plot_trajectory(u, ax=ax, dt=system.dt, names=names, symbol="u")
        ax.set_ylabel(f"heating ({unit})")
    else:  # short peaks are beyond the scale
        usual = np.abs(u) <= np.quantile(np.abs(u), _USUAL)
        limits = (min(float(u[usual].min()), 0.0), max(float(u[usual].max()), 0.0) + 1e-300)
        extent = (0.0, len(u) * system.dt, -0.5, system.m - 0.5)
        _draw_map(ax, u.T, extent, limits, f"heating ({unit})")
        ax.set_xlabel("time (s)")
        ax.set_ylabel("heater")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    add_title(ax, f"what the {system.m} heaters do")


@panel
def plot_l_curve(inversion: Inversion, *, ax: Axes = NEW) -> None:
    """Draw the size of the solution over its misfit, for all alpha, and the chosen one.

    Parameters
    ----------
    inversion : Inversion
    """
    point = (inversion.misfit, inversion.size)
    _draw_chosen(ax, inversion, inversion.misfits, inversion.sizes, point)
    if math.isfinite(inversion.alpha):
        add_note(ax, f"alpha = {inversion.alpha:.2g}", point, xytext=(8, 6))
    ax.axvline(inversion.expected, color="0.5", linestyle="--", linewidth=1)
    ax.set_xlabel("misfit in units of the noise")
    ax.set_ylabel("size of the solution, less its prior")
    add_title(ax, "L-curve (dashed: what noise gives)")


@panel
def plot_discrepancy(inversion: Inversion, *, ax: Axes = NEW) -> None:
    """Draw the misfit over alpha, the level that noise gives, and the chosen alpha.

    Parameters
    ----------
    inversion : Inversion
    """
    point = (inversion.alpha, inversion.misfit)
    _draw_chosen(ax, inversion, inversion.alphas, inversion.misfits, point)
    ax.axhline(inversion.expected, color="0.5", linestyle="--", linewidth=1)
    ax.set_xlabel("alpha")
    ax.set_ylabel("misfit in units of the noise")
    add_title(ax, "discrepancy (dashed: what noise gives)")


@sheet(11, 4.5, 1, 2)
def plot_inversion(panels: list[Axes], inversion: Inversion) -> str:
    """Draw the L-curve, and the misfit over alpha.

    Parameters
    ----------
    inversion : Inversion
    """
    plot_l_curve(inversion, ax=panels[0])
    plot_discrepancy(inversion, ax=panels[1])
    what = "initial state" if inversion.unknown == "initial" else "source"
    return f"{what} of {inversion.solution.size} unknowns, alpha by {inversion.rule}"


def _draw_chosen(
    ax: Axes, inversion: Inversion, x: Array, y: Array, point: tuple[float, float]
) -> None:
    """A curve over all alpha, and the point of the chosen one."""
    line, mark = colors(3)[:2]
    ax.loglog(x, y, color=line, linewidth=1.4)
    if math.isfinite(inversion.alpha):
        ax.plot(*point, "o", color=mark)


draw.register(Inversion, plot_inversion)
