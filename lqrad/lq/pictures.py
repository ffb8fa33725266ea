"""Trajectories, costates and convergence: descent beside Riccati."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import Array, check_shape, real_array
from lqrad.errors import NonFiniteError
from lqrad.figure import (
    LEGEND,
    Labels,
    add_title,
    colors,
    new_axes,
    new_figure,
    one_series,
    with_units,
)
from lqrad.lq.compare import Comparison
from lqrad.results import draw

_MOST_NAMES = 6  # the colours of more curves than these could not be told apart
_MOST_CIRCLES = 25
_FLOOR = 1e-15  # a relative gap below this, the difference of two costs, is rounding
_CEILING = 1e250  # matplotlib's margins overflow above it
_QUANTITIES = {"x": "state", "u": "input", "p": "costate (cost per unit of state)"}


def plot_trajectory(
    x: ArrayLike,
    *,
    ax: Axes | None = None,
    dt: float | None = None,
    names: Sequence[str] | None = None,
    symbol: str = "x",
) -> Axes:
    """Draw a sequence against time, each column a curve with its name.

    Of more columns than can be told apart, the largest are named and the others are grey.

    Parameters
    ----------
    x : (T, k)
        States, inputs or costates, one row for each step.
    ax : Axes, optional
        Where to draw; a new figure when not given.
    dt : float, optional
        Seconds from row to row; the axis counts steps when not given.
    names : sequence of k str, optional
        Names of the columns, with units; x[0], x[1], ... when not given.
    symbol : str
        The letter of the sequence. Inputs "u" are drawn as held from step to step.

    Returns
    -------
    Axes

    Raises
    ------
    ShapeError
        If `x` is not one series, or has not as many columns as there are names.

    Examples
    --------
    >>> ax = plot_trajectory([[1.0], [0.5], [0.25]], dt=0.1)
    >>> ax.get_xlabel()
    'time (s)'
    """
    x = one_series(symbol, x)
    columns = x.shape[1]
    labels = [f"{symbol}[{i}]" for i in range(columns)] if names is None else list(names)
    check_shape("names", np.empty(len(labels)), (columns,), f"to match {symbol} {x.shape}")
    ax = new_axes() if ax is None else ax
    style = "default"
    if symbol == "u":
        x, style = np.concatenate([x, x[-1:]]), "steps-post"  # the last one is held for a step too
    t = _times(len(x), dt)
    named = _largest(x)
    grey = np.delete(x, named, axis=1)
    # Of two curves that coincide, the wider one below shows on both sides of the other.
    widths = np.linspace(1.4, 2.2, len(named))[::-1]
    marker = "_" if len(x) == 1 else ""  # a line through one point is not seen
    for i, color, width in zip(named, colors(len(named)), widths, strict=True):
        (line,) = ax.plot(t, x[:, i], color=color, drawstyle=style, marker=marker)
        line.set(linewidth=width, label=labels[i])
    if grey.size:
        lines = ax.plot(t, grey, color="0.8", linewidth=0.8, drawstyle=style, zorder=1)
        lines[0].set_label(f"{len(lines)} smaller ones")
    ax.plot(t[[0, -1]], [0.0, 0.0], color="0.6", linewidth=0.6, zorder=0)
    ax.set_xlabel("step t" if dt is None else "time (s)")
    if dt is None:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(names[0] if names and columns == 1 else _QUANTITIES.get(symbol, symbol))
    if columns > 1:
        ax.legend(loc="best", **LEGEND)
    return ax


def plot_costates(
    p: ArrayLike,
    Px: ArrayLike,
    *,
    ax: Axes | None = None,
    dt: float | None = None,
    names: Sequence[str] | None = None,
) -> Axes:
    """Draw Riccati's P x[t+1] + v as curves, and the costates of a backward pass as circles.

    On the optimum they agree: the multiplier is the gradient of the value function.

    Parameters
    ----------
    p : (T, n)
        Costates.
    Px : (T, n)
        P[t+1] x[t+1] + v[t+1].
    ax, dt, names
        As in `plot_trajectory`.

    Returns
    -------
    Axes

    Raises
    ------
    ShapeError
        If `p` is not one series, or `Px` or the names do not match it.

    Examples
    --------
    >>> ax = plot_costates([[2.0], [1.0]], [[2.0], [1.0]])
    >>> ax.get_ylabel()
    'costate (cost per unit of state)'
    """
    p, Px = one_series("p", p), real_array("Px", Px)
    check_shape("Px", Px, p.shape, "to match p")
    ax = plot_trajectory(Px, ax=ax, dt=dt, names=names, symbol="p")
    _add_circles(ax, p, _largest(Px), dt)
    add_title(ax, "costates: Riccati's P x (lines), backward pass (circles)")
    return ax


def plot_convergence(comparison: Comparison, *, ax: Axes | None = None) -> Axes:
    """Draw the relative gap of each descent against its iterations, with the theoretical rates.

    The curve of a descent that met its tolerance ends in a dot, that of another one in a cross.
    Dashed, from the same start: the rates that the condition number of the Hessian predicts.

    Parameters
    ----------
    comparison : Comparison
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    References
    ----------
    Polyak, Introduction to Optimization, 1987, sections 1.4 and 3.2 (the rates).

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> ax = plot_convergence(lqrad.compare(problem, [1.0], T=20, methods=["gradient"]))
    >>> ax.get_yscale()
    'log'
    """
    ax = new_axes() if ax is None else ax
    ax.set_yscale("log")
    descents, rates = comparison.descents, comparison.rates
    with np.errstate(over="ignore"):
        optimal, scale = float(comparison.optimum.cost), comparison.scale
        gaps = [np.fmin((d.history.cost - optimal) / scale, _CEILING) for d in descents]
    # Each gap up to the last one that is more than rounding.
    gaps = [gap[: np.flatnonzero(gap > _FLOOR).max(initial=0) + 1] for gap in gaps]
    longest = max(2, *map(len, gaps))
    for descent, gap, color in zip(descents, gaps, colors(len(descents)), strict=True):
        if descent.method in rates:
            predicted = gap[0] * rates[descent.method] ** (2.0 * np.arange(longest))
            predicted = predicted[predicted > _FLOOR]
            # Two methods have the same rate: their dashes take turns.
            dashes = (6 * list(rates).index(descent.method), (4, 8))
            ax.plot(predicted, linestyle=dashes, color=color, linewidth=1, zorder=1)
        end = "o" if descent.status.converged else "X"
        gap = np.maximum(gap, _FLOOR)
        ax.plot(gap, marker=end, markevery=[-1], color=color, label=descent.method)
    # Linear before the first iteration, so that the start is seen too.
    ax.set_xscale("symlog", linthresh=1, linscale=0.3, subs=range(2, 10))
    ax.set_xlim(0, 1.2 * longest)
    digits = (1, 2, 5) if longest < 50 else (1,)
    decades = range(math.ceil(math.log10(longest)) + 1)
    ticks = [0, *(digit * 10**decade for decade in decades for digit in digits)]
    ax.set_xticks([k for k in ticks if k <= 1.2 * longest])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    ax.set_xlabel("iteration (dot: converged, cross: not)")
    ax.set_ylabel("relative gap  (J \N{MINUS SIGN} J*) / |J*|")
    rows = math.ceil(len(descents) / 3)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, **LEGEND)
    add_title(ax, "convergence: observed (solid), predicted (dashed)", above=rows)
    return ax


def plot_comparison(comparison: Comparison, system: Labels | None = None) -> Figure:
    """Draw a comparison: states, inputs, convergence, and costates beside Riccati's P x.

    Lines are Riccati's, circles those of the descent with the smallest gap.

    Parameters
    ----------
    comparison : Comparison
    system : System, optional
        Gives the time axis its seconds, and the curves their names and units.

    Returns
    -------
    Figure

    Raises
    ------
    ShapeError
        If the system has not as many states or inputs as the problem.

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> figure = plot_comparison(lqrad.compare(problem, [1.0], T=20))
    >>> len(figure.axes)
    4
    """
    problem, recursion, optimum = comparison.problem, comparison.recursion, comparison.optimum
    best = comparison.descents[int(np.argmin(comparison.gaps))]
    dt = states = inputs = costates = None
    title = f"n = {problem.n}, m = {problem.m}, T = {recursion.T}"
    if system is not None:
        dt, costates, title = system.dt, system.state_names, f"{system.name}: {title}"
        states = with_units(system.state_names, system.state_units)
        inputs = with_units(system.input_names, system.input_units)
    figure = new_figure(11, 8)
    figure.suptitle(title)
    (top_left, top_right), (low_left, low_right) = figure.subplots(2, 2)
    plot_trajectory(optimum.x, ax=top_left, dt=dt, names=states)
    add_title(top_left, "states: Riccati's feedback")
    plot_trajectory(optimum.u, ax=top_right, dt=dt, names=inputs, symbol="u")
    _add_circles(top_right, best.solution, _largest(optimum.u), dt)
    add_title(top_right, f"inputs: Riccati (lines), {best.method} (circles)")
    plot_convergence(comparison, ax=low_left)
    try:
        p = problem.adjoint(problem.simulate(comparison.x0, best.solution), best.solution)
    except NonFiniteError:  # simulated open loop, they overflow
        p = np.full_like(optimum.p, np.nan)
    Px = (recursion.P[1:] @ optimum.x[1:, :, None])[..., 0] + recursion.v[1:]
    plot_costates(p, Px, ax=low_right, dt=dt, names=costates)
    add_title(low_right, f"costates: Riccati's P x (lines), {best.method} (circles)")
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    for ax in (top_right, low_right):
        ax.set_xlim(top_left.get_xlim())
    return figure


def _times(steps: int, dt: float | None) -> Array:
    return np.array(np.arange(steps) * (1.0 if dt is None else dt), dtype=np.float64)


def _largest(z: Array) -> NDArray[np.intp]:
    """The columns that get a name and a colour, in their order."""
    return np.sort(np.argsort(-np.abs(z).max(axis=0), kind="stable")[:_MOST_NAMES])


def _add_circles(ax: Axes, z: Array, columns: NDArray[np.intp], dt: float | None) -> None:
    every = math.ceil(len(z) / _MOST_CIRCLES)
    t = _times(len(z), dt)[::every]
    for i, color in zip(columns, colors(len(columns)), strict=True):
        ax.plot(t, z[::every, i], "o", color=color, markersize=4, markerfacecolor="none")


draw.register(Comparison, plot_comparison)
