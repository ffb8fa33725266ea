"""Condition of the descent: a map over spectral radius and horizon, and iterations against it."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lqrad.arguments import EPS, Array
from lqrad.figure import LEGEND, add_title, colors, new_axes, new_figure
from lqrad.growth.conditioning import Conditioning, predicted_iterations
from lqrad.results import draw

_DIGITS = -math.log10(EPS)
_MOST_DECADES = 24  # a larger condition number has the colour of this one
_INFINITE = 1000.0  # decades
_MOST_TICKS = 13
_MARKERS = {"gradient": "o", "conjugate-gradient": "s"}


def plot_condition(conditioning: Conditioning, *, ax: Axes | None = None) -> Axes:
    """Draw the condition number of the Hessian over horizon and spectral radius.

    On the solid line it is 1/eps: beyond it no descent has a digit. The dashed line is the law
    rho^(2 T) = 1/eps. What failed, by overflow perhaps, is hatched.

    Parameters
    ----------
    conditioning : Conditioning
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> study = lqrad.growth.conditioning(problem, [0.9, 1.1], [10, 20])
    >>> ax = plot_condition(study)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('horizon T', 'spectral radius of A')
    """
    ax = new_axes() if ax is None else ax
    T, columns = np.unique(conditioning.horizons, return_index=True)
    radii, rows = np.unique(conditioning.radii, return_index=True)
    power = np.minimum(np.log10(conditioning.condition[np.ix_(rows, columns)]), _INFINITE)
    top = min(np.nanmax(power, initial=1.0), _MOST_DECADES)
    across, up = _set_scale(ax, "x", T.astype(np.float64)), _set_scale(ax, "y", radii)
    mesh = ax.pcolormesh(across, up, power, cmap="viridis", vmin=0.0, vmax=top)
    ax.patch.set(facecolor="white", edgecolor="0.6", hatch="///")
    extend = "max" if np.nanmax(power, initial=0.0) > top else "neither"
    bar = ax.figure.colorbar(mesh, ax=ax, extend=extend)
    bar.set_label("condition number of the Hessian")
    bar.ax.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(_power))
    title = "condition number"
    power = np.where(np.isnan(power), _INFINITE, power)
    if min(power.shape) > 1 and power.min() < _DIGITS < power.max():
        lines = ax.contour(T, radii, power, levels=[_DIGITS], colors="white", linewidths=2.4)
        lines.set(path_effects=[withStroke(linewidth=3.6, foreground="black")])
        growing = np.linspace(1 + 1e-3, up[-1], 500)
        ax.plot(_DIGITS / (2 * np.log10(growing)), growing, "--", color="black", linewidth=1.2)
        title += r" 1/eps: measured (solid), law $\rho^{2T}$ (dashed)"
    ax.set_xlim(across[0], across[-1])
    ax.set_ylim(up[0], up[-1])
    ax.set_xlabel("horizon T")
    ax.set_ylabel("spectral radius of A")
    add_title(ax, title)
    return ax


def plot_iterations(conditioning: Conditioning, *, ax: Axes | None = None) -> Axes:
    """Draw iterations against the condition number: predicted as lines, observed as markers.

    The line of conjugate gradients ends at the largest T m: where they have not met the tolerance
    before, they end there but for rounding errors.

    Parameters
    ----------
    conditioning : Conditioning
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    References
    ----------
    Polyak, Introduction to Optimization, 1987, section 1.4 (the predictions).

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> study = lqrad.growth.conditioning(problem, [0.9, 1.1], [10, 20])
    >>> plot_iterations(study).get_yscale()
    'log'
    """
    ax = new_axes() if ax is None else ax
    kappa, observed = conditioning.condition, conditioning.observed
    seen = np.isfinite(list(observed.values())).any(axis=0)
    right = 3 * kappa[seen].max(initial=10.0)
    highest = max(np.nanmax(found, initial=10.0) for found in observed.values())
    curve = np.geomspace(1.0, right, 1000)
    finite = conditioning.horizons.max() * conditioning.problem.m
    for (method, found), color in zip(observed.items(), colors(3)[::2], strict=True):
        predicted = predicted_iterations(curve, conditioning.tol)[method]
        label = method
        if method == "conjugate-gradient":
            predicted, label = np.minimum(predicted, finite), f"{method} (at most T m)"
        ax.plot(curve, predicted, color=color, linewidth=1.2, zorder=1)
        (dots,) = ax.plot(kappa.ravel(), found.ravel(), _MARKERS[method], color=color, label=label)
        dots.set(markersize=4.5, markerfacecolor="none")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(0.8, right)
    ax.set_ylim(0.8, 5 * highest)
    ax.set_xlabel("condition number of the Hessian")
    ax.set_ylabel(f"iterations until the gap is {conditioning.tol:g} of its start")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, **LEGEND)
    add_title(ax, "iterations: observed (markers), predicted (lines)", above=1)
    return ax


def plot_conditioning(conditioning: Conditioning) -> Figure:
    """Draw the condition number over horizon and spectral radius, and iterations against it.

    Parameters
    ----------
    conditioning : Conditioning

    Returns
    -------
    Figure

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> study = lqrad.growth.conditioning(problem, [0.9, 1.1], [10, 20])
    >>> len(plot_conditioning(study).axes)  # one is the scale of the colours
    3
    """
    figure = new_figure(11, 4.5)
    left, right = figure.subplots(1, 2)
    plot_condition(conditioning, ax=left)
    plot_iterations(conditioning, ax=right)
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"n = {conditioning.problem.n}, m = {conditioning.problem.m}")
    return figure


def _set_scale(ax: Axes, name: Literal["x", "y"], values: Array) -> Array:
    """Prepare an axis for cells at these rising values: the edges at which the cells meet."""
    if values[0] > 0 and values[-1] >= 10 * values[0]:
        ax.set(**{f"{name}scale": "log"})
        edges = np.exp(_edges(np.log(values)))
    else:
        edges = np.maximum(_edges(values), 0.0)
    axis = ax.xaxis if name == "x" else ax.yaxis
    axis.set_major_locator(FixedLocator(values[:: math.ceil(len(values) / _MOST_TICKS)].tolist()))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return edges


def _edges(centres: Array) -> Array:
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.array([2 * centres[0] - middle[0], *middle, 2 * centres[-1] - middle[-1]])


def _power(exponent: float, _: Any) -> str:
    return f"$10^{{{exponent:g}}}$"


draw.register(Conditioning, plot_conditioning)
