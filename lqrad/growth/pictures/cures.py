"""Remedies for growing gradients: how fast each descends, and where it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lqrad.figure import LEGEND, Labels, add_title, colors, new_axes, new_figure
from lqrad.growth.blowup import Blowup
from lqrad.growth.cures import Cures
from lqrad.growth.pictures.growth import plot_growth, plot_lost_digits
from lqrad.growth.remedies import Cure
from lqrad.results import draw

_FLOOR = 1e-16  # gaps that rounding hides are drawn here


def plot_cure_histories(study: Cures, *, ax: Axes | None = None) -> Axes:
    """Draw the gap of each remedy against its iterations; a dot where it converged, a cross if not.

    Parameters
    ----------
    study : Cures
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> ax = plot_cure_histories(lqrad.cures(problem, [1.0], T=20))
    >>> ax.get_yscale()
    'log'
    """
    ax = new_axes() if ax is None else ax
    drawn = [cure for cure in study.cures if cure.began]
    ceiling = _ceiling(study)
    for i, (cure, color) in enumerate(zip(drawn, colors(len(drawn)), strict=True)):
        end = "o" if cure.status.converged else "X"
        style = ("-", "--", "-.")[i % 3]
        if cure.gaps is None:  # only its end is known
            k, gaps, style = np.array([cure.iterations]), np.array([cure.gap]), ""
        else:
            k, gaps = np.arange(len(cure.gaps)), cure.gaps
        gaps = np.clip(np.abs(gaps), _FLOOR, ceiling)
        ax.plot(k, gaps, style, color=color, marker=end, markevery=[-1], label=_name(cure))
    ax.set_yscale("log")
    ax.set_xscale("symlog", linthresh=1, linscale=0.3)
    ax.set_xlim(0, 1.4 * max(2, *(cure.iterations for cure in drawn)))
    ax.set_xlabel("iteration (dot: converged, cross: not)")
    ax.set_ylabel("relative gap  |J \N{MINUS SIGN} J*| / |J*|")
    legend = LEGEND | {"handlelength": 2.6}
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, **legend)
    add_title(ax, "descent, with and without a cure", above=-(-len(drawn) // 3))
    return ax


def plot_cure_gaps(study: Cures, *, ax: Axes | None = None) -> Axes:
    """Draw what each remedy leaves of the gap, and its bias, from which no iteration takes it away.

    Parameters
    ----------
    study : Cures
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> ax = plot_cure_gaps(lqrad.cures(problem, [1.0], T=20))
    >>> [label.get_text() for label in ax.get_yticklabels()][:2]
    ['none, gradient', 'none, conjugate-gradient']
    """
    ax = new_axes() if ax is None else ax
    dark, light = colors(2)
    ceiling = _ceiling(study)
    for row, cure in enumerate(study.cures):
        gap = float(np.clip(abs(cure.gap), _FLOOR, ceiling))
        good = cure.status.converged
        ax.plot([_FLOOR, gap], [row, row], color="0.85", linewidth=1, zorder=1)
        ax.plot(gap, row, "o" if good else "X", color=dark, markersize=7, zorder=3)
        if cure.bias:
            bias = float(np.clip(abs(cure.bias), _FLOOR, ceiling))
            ax.plot(bias, row, "D", color=light, markersize=10, markerfacecolor="none", zorder=2)
    ax.plot([], [], "o", color=dark, label="found, converged")
    ax.plot([], [], "X", color=dark, label="found, not converged")
    ax.plot([], [], "D", color=light, markerfacecolor="none", label="bias")
    ax.set_xscale("log")
    ax.set_xlim(_FLOOR / 3, 3 * ceiling)
    ax.set_yticks(range(len(study.cures)), [_name(cure) for cure in study.cures])
    ax.set_ylim(len(study.cures) - 0.5, -0.5)
    ax.set_xlabel("relative gap  |J \N{MINUS SIGN} J*| / |J*|")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, **LEGEND)
    add_title(ax, "where each ends", above=1)
    return ax


def plot_cures(study: Cures) -> Figure:
    """Draw both: the gaps by iteration, and where each remedy ends.

    Parameters
    ----------
    study : Cures

    Returns
    -------
    Figure

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> len(plot_cures(lqrad.cures(problem, [1.0], T=20)).axes)
    2
    """
    figure = new_figure(12, 5)
    left, right = figure.subplots(1, 2)
    plot_cure_histories(study, ax=left)
    plot_cure_gaps(study, ax=right)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def plot_blowup(study: Blowup, system: Labels | None = None) -> Figure:
    """Draw the growth of the gradient, the digits that it costs, and the cures.

    Parameters
    ----------
    study : Blowup
    system : System, optional
        Gives the figure its name.

    Returns
    -------
    Figure

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> len(plot_blowup(lqrad.blowup(problem, [1.0], T=20)).axes)
    4
    """
    figure = new_figure(12, 9)
    problem = study.cures.problem
    name = "" if system is None else f"{system.name}: "
    figure.suptitle(f"{name}n = {problem.n}, m = {problem.m}, T = {study.growth.T}")
    columns: Any = figure.subfigures(1, 2)  # each with margins of its own
    (top_left, low_left), (top_right, low_right) = (column.subplots(2, 1) for column in columns)
    plot_growth(study.growth, ax=top_left)
    if study.digits is None:
        top_right.set_axis_off()
    else:
        plot_lost_digits(study.digits, ax=top_right)
    plot_cure_histories(study.cures, ax=low_left)
    plot_cure_gaps(study.cures, ax=low_right)
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _ceiling(study: Cures) -> float:
    """Ten times the largest finite gap: where infinite ones are drawn."""
    gaps = [1.0]
    for cure in study.cures:
        known = np.abs([cure.gap, cure.bias, *([] if cure.gaps is None else cure.gaps)])
        gaps.append(float(np.max(known[np.isfinite(known)], initial=1.0)))
    return 10 * min(max(gaps), 1e300)


def _name(cure: Cure) -> str:
    return f"{cure.name}, {cure.method}" if cure.name == "none" else cure.name


draw.register(Cures, plot_cures)
draw.register(Blowup, plot_blowup)
