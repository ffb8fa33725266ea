"""Convergence: how far the cost of each iterate is above the lowest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lqrad.arguments import Array
from lqrad.descent.descend import Descent
from lqrad.figure import GAP, NEW, add_title, curves, panel, several
from lqrad.results import draw

_MOST_DOTS = 60  # along a curve; more would make a rope of it
_LONGER = 8  # times the shortest run, and a linear axis would show only one of them


@panel
def plot_descent(
    results: Any | Sequence[Any],
    *,
    names: Sequence[str] | None = None,
    reference: float | None = None,
    ax: Axes = NEW,
) -> None:
    """Draw by how much the cost of each iterate is above the lowest that is known.

    Thin: the bounds that were proven of it, where there are any. Where some runs are much shorter than
    others the axis of the iterations is logarithmic, and begins at the start all the same.

    Parameters
    ----------
    results : Descent, ILQR, PolicyGradient, or a sequence of them
        Of one problem, by different methods or from different starts.
    names : sequence of str, optional
        What the curves are called.
    reference : float, optional
        The lowest cost; when not given, the lowest of the results, less what the last expansion of
        `ilqr` still promises.

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> ax = plot_descent(lqrad.descend(problem.objective([1.0], 20)))
    >>> ax.get_yscale()
    'log'
    """
    runs, labels = several(results, names)
    if reference is None:
        reference = min(map(_lowest, runs))
    scale, proven = abs(reference) or 1.0, ""
    lengths = [len(run.history.cost) - 1 for run in runs]
    for run, label, look in zip(runs, labels, curves(len(runs)), strict=True):
        bound = getattr(run.history, "gap_bound", None)
        with np.errstate(over="ignore"):
            gap = (run.history.cost - reference) / scale
        if bound is not None and np.any(bound > 0):
            ax.plot(bound / scale, linewidth=0.7, **look)
            proven = " (thin: proven)"
        seen = np.flatnonzero(gap > 0)
        (line,) = ax.plot(seen, gap[seen], linewidth=1.6, label=label, **look)
        if len(gap) <= _MOST_DOTS:
            line.set(marker=".", markersize=5)
    if max(lengths) > _LONGER * max(min(lengths), 1) and len(runs) > 1:
        over_iterations(ax, 1.2 * max(lengths))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(yscale="log", xlabel="iteration", ylabel=GAP)
    add_title(ax, f"cost above the lowest, J* = {reference:.6g}{proven}")


def add_gap(ax: Axes, gap: Array, *, converged: bool, start: int = 0, **style: Any) -> None:
    """Draw a gap over the iterations, which ends in a dot, or in a cross where it did not converge."""
    k = start + np.arange(len(gap))
    ax.plot(k, gap, marker="o" if converged else "X", markevery=[-1], **style)


def over_iterations(ax: Axes, longest: float) -> None:
    """Prepare axes for gaps over iterations of any number, in which the start is seen too."""
    ax.set_xscale("symlog", linthresh=1, linscale=0.3, subs=range(2, 10))
    xlabel = "iteration (dot: converged, cross: not)"
    ax.set(yscale="log", xlim=(0, longest), xlabel=xlabel, ylabel=GAP)


def _lowest(run: Any) -> float:
    """The lowest cost of a descent; of `ilqr` the last, less the decrease that a step promises."""
    cost, promised = run.history.cost, getattr(run.history, "decrease", [0.0])[-1]
    return float(cost[-1] - promised if promised > 0 else np.nanmin(cost))


draw.register(Descent, plot_descent)
