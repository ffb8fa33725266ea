"""How the weight of an inverse problem was chosen: the L-curve, and the misfit over alpha."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lqrad.figure import add_title, colors, new_axes, new_figure

if TYPE_CHECKING:
    from lqrad.pde.inverse import Inversion


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
    >>> import lqrad.pde.inverse
    >>> decay = lqrad.SparseLQProblem(None, [[0.9]], [[1.0]], [1.0], [1.0])
    >>> y = [[1.0], [0.92], [0.79]]
    >>> found = lqrad.pde.inverse.invert(decay, y, [[1.0]], noise=0.1)
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
    >>> import lqrad.pde.inverse
    >>> decay = lqrad.SparseLQProblem(None, [[0.9]], [[1.0]], [1.0], [1.0])
    >>> y = [[1.0], [0.92], [0.79]]
    >>> found = lqrad.pde.inverse.invert(decay, y, [[1.0]], noise=0.1)
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
    >>> import lqrad.pde.inverse
    >>> decay = lqrad.SparseLQProblem(None, [[0.9]], [[1.0]], [1.0], [1.0])
    >>> y = [[1.0], [0.92], [0.79]]
    >>> found = lqrad.pde.inverse.invert(decay, y, [[1.0]], noise=0.1)
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
