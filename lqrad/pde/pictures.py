"""Heat: fields over a body, what its heaters do, how a descent went, how an inverse problem was weighed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from lqrad.arguments import check_shape, real_array
from lqrad.descent.descend import Descent
from lqrad.errors import ArgumentError
from lqrad.figure import LEGEND, add_title, colors, new_axes, new_figure, one_series
from lqrad.pde.heat import HeatSystem
from lqrad.pde.inverse import Inversion
from lqrad.results import draw


def plot_field(
    system: HeatSystem,
    x: ArrayLike,
    *,
    ax: Axes | None = None,
    label: str = "temperature (K)",
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Draw a field: a plate as a picture with a scale beside it, a rod as a curve.

    Parameters
    ----------
    system : HeatSystem
    x : (n,)
        One number for each cell.
    ax : Axes, optional
        Where to draw; a new figure when not given.
    label : str
        What the numbers are, with their unit.
    limits : (float, float), optional
        Ends of the scale.

    Returns
    -------
    Axes

    Raises
    ------
    ShapeError
        If x has not one entry for each cell.

    Examples
    --------
    >>> from lqrad.pde.heat import heat_plate
    >>> plate = heat_plate((6, 8))
    >>> ax = plot_field(plate, plate.target)
    >>> ax.get_xlabel()
    'x (m)'
    """
    ax = new_axes() if ax is None else ax
    x = real_array("x", x)
    check_shape("x", x, (system.n,), "one for each cell", symbols="(n,)")
    ax.set_xlabel("x (m)")
    if len(system.shape) == 1:
        ax.plot(system.coordinates()[0], x, color=colors(1)[0])
        ax.set_ylabel(label)
        if limits is not None:
            ax.set_ylim(*limits)
        return ax
    low, high = (None, None) if limits is None else limits
    image = ax.imshow(
        system.field(x),
        origin="lower",
        extent=(0.0, system.lengths[1], 0.0, system.lengths[0]),
        cmap="viridis",
        vmin=low,
        vmax=high,
    )
    assert ax.figure is not None
    ax.figure.colorbar(image, ax=ax, label=label, shrink=0.85)
    ax.set_ylabel("y (m)")
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
        Where to, a name that ends in .gif.
    frames : int
        How many of the times are shown, at most.
    label : str
        What the numbers are, with their unit.

    Raises
    ------
    ShapeError
        If x is not a row for each time, of one entry for each cell.
    ArgumentError
        If the system is not a plate.

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
    plot_field(system, x[0], ax=ax, label=label, limits=limits)
    image = ax.images[0]

    def draw(t: int) -> tuple[AxesImage]:
        image.set_data(system.field(x[t]))
        ax.set_title(f"{t * system.dt:g} s", loc="left", fontsize="medium")
        return (image,)

    shown = np.unique(np.linspace(0, len(x) - 1, min(frames, len(x))).astype(int))
    film = FuncAnimation(figure, draw, frames=shown.tolist(), blit=False)
    film.save(Path(path), writer=PillowWriter(fps=10))


def plot_heat(system: HeatSystem, descent: Descent) -> Figure:
    """Draw a controlled body: target, temperature at the end, costates, heaters, convergence.

    Parameters
    ----------
    system : HeatSystem
    descent : Descent
        What `descend` made of `system.problem().objective(system.x0, system.T)`.

    Returns
    -------
    Figure

    Examples
    --------
    >>> import lqrad
    >>> from lqrad.pde.heat import heat_plate
    >>> plate = heat_plate((6, 8), heaters=(2, 2), T=5)
    >>> objective = plate.problem().objective(plate.x0, 5)
    >>> figure = plot_heat(plate, lqrad.descend(objective, method="conjugate-gradient"))
    >>> figure.axes[0].get_title(loc="left")
    'target'
    """
    problem, u = system.problem(), descent.solution
    x = problem.simulate(system.x0, u)
    p = problem.adjoint(x, u)
    seconds = system.dt * np.arange(system.T)
    figure = new_figure(14, 7.5)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    figure.suptitle(system.title)
    panels = figure.subplots(2, 3)
    span = np.concatenate([system.target, x[-1]])
    limits = (float(span.min()), float(span.max()) + 1e-9)
    fields = (
        (panels[0, 0], "target", system.target, "temperature (K)", limits),
        (
            panels[0, 1],
            f"temperature after {seconds[-1] + system.dt:g} s",
            x[-1],
            "temperature (K)",
            limits,
        ),
        (
            panels[0, 2],
            "what is missing of the target",
            x[-1] - system.target,
            "difference (K)",
            None,
        ),
        (panels[1, 0], "costate at the start: what heat is worth", p[0], "cost per K", None),
    )
    for ax, title, field, label, ends in fields:
        plot_field(system, field, ax=ax, label=label, limits=ends)
        add_title(ax, title)
    ax = panels[1, 1]
    shown = np.linspace(0, system.m - 1, min(system.m, 6)).astype(int)
    for k, color in zip(shown, colors(len(shown)), strict=True):
        ax.plot(seconds, u[:, k], color=color, label=f"u[{k}]", drawstyle="steps-post")
    ax.set_xlabel("time (s)")
    ax.set_ylabel("input")
    ax.legend(loc="best", **LEGEND)
    add_title(ax, f"heaters: {len(shown)} of {system.m}")
    ax = panels[1, 2]
    history, scale = descent.history, abs(descent.cost) or 1.0
    if history.gap_bound is not None:
        bounds = np.array(history.gap_bound, dtype=np.float64) / scale
        ax.semilogy(bounds, color=colors(2)[0], label="proven gap")
    last = history.cost[-1]
    gaps = (history.cost - last) / scale
    ax.semilogy(
        np.where(gaps > 1e-15, gaps, np.nan), "--", color=colors(2)[1], label="above the last"
    )
    ax.set_xlabel("iteration")
    ax.set_ylabel("relative gap")
    ax.legend(loc="best", **LEGEND)
    add_title(ax, f"descent by {descent.method}")
    return figure


def plot_l_curve(inversion: Inversion, *, ax: Axes | None = None) -> Axes:
    """Draw the size of the solution over its misfit, for all alpha, and the chosen one.

    Parameters
    ----------
    inversion : Inversion
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import lqrad
    >>> decay = lqrad.SparseLQProblem(None, [[0.9]], [[1.0]], [1.0], [1.0])
    >>> y = [[1.0], [0.92], [0.79]]
    >>> found = lqrad.pde.invert(decay, y, [[1.0]], noise=0.1)
    >>> plot_l_curve(found).get_xlabel()
    'misfit in units of the noise'
    """
    ax = new_axes() if ax is None else ax
    line, mark = colors(3)[:2]
    ax.loglog(inversion.misfits, inversion.sizes, color=line, linewidth=1.4)
    if math.isfinite(inversion.alpha):
        point = (inversion.misfit, inversion.size)
        ax.plot(*point, "o", color=mark)
        text = f"alpha = {inversion.alpha:.2g}"
        ax.annotate(text, point, xytext=(8, -14), textcoords="offset points")
    ax.axvline(inversion.expected, color="0.5", linestyle="--", linewidth=1)
    ax.set_xlabel("misfit in units of the noise")
    ax.set_ylabel("size of the solution, less its prior")
    add_title(ax, "L-curve (dashed: what noise gives)")
    return ax


def plot_discrepancy(inversion: Inversion, *, ax: Axes | None = None) -> Axes:
    """Draw the misfit over alpha, the level that noise gives, and the chosen alpha.

    Parameters
    ----------
    inversion : Inversion
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import lqrad
    >>> decay = lqrad.SparseLQProblem(None, [[0.9]], [[1.0]], [1.0], [1.0])
    >>> y = [[1.0], [0.92], [0.79]]
    >>> found = lqrad.pde.invert(decay, y, [[1.0]], noise=0.1)
    >>> plot_discrepancy(found).get_xlabel()
    'alpha'
    """
    ax = new_axes() if ax is None else ax
    line, mark = colors(3)[:2]
    ax.loglog(inversion.alphas, inversion.misfits, color=line, linewidth=1.4)
    if math.isfinite(inversion.alpha):
        ax.plot(inversion.alpha, inversion.misfit, "o", color=mark)
    ax.axhline(inversion.expected, color="0.5", linestyle="--", linewidth=1)
    ax.set_xlabel("alpha")
    ax.set_ylabel("misfit in units of the noise")
    add_title(ax, "discrepancy (dashed: what noise gives)")
    return ax


def plot_inversion(inversion: Inversion) -> Figure:
    """Draw the L-curve, and the misfit over alpha.

    Parameters
    ----------
    inversion : Inversion

    Returns
    -------
    Figure

    Examples
    --------
    >>> import lqrad
    >>> decay = lqrad.SparseLQProblem(None, [[0.9]], [[1.0]], [1.0], [1.0])
    >>> y = [[1.0], [0.92], [0.79]]
    >>> found = lqrad.pde.invert(decay, y, [[1.0]], noise=0.1)
    >>> len(plot_inversion(found).axes)
    2
    """
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    plot_l_curve(inversion, ax=left)
    plot_discrepancy(inversion, ax=right)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    what = "initial state" if inversion.unknown == "initial" else "source"
    figure.suptitle(f"{what} of {inversion.solution.size} unknowns, alpha by {inversion.rule}")
    return figure


draw.register(Inversion, plot_inversion)
