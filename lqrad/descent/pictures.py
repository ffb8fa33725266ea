"""Convergence: how far the cost of each iterate is above the lowest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lqrad.arguments import Array
from lqrad.descent.descend import Descent
from lqrad.figure import GAP, NEW, add_title, colors, panel, several
from lqrad.results import draw


@panel
def plot_descent(
    results: Any | Sequence[Any],
    *,
    names: Sequence[str] | None = None,
    reference: float | None = None,
    ax: Axes = NEW,
) -> None:
    """Draw by how much the cost of each iterate is above the lowest that is known.

    Dashed: the bounds that were proven of it, where there are any.

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
    for run, label, color in zip(runs, labels, colors(len(runs)), strict=True):
        bound = getattr(run.history, "gap_bound", None)
        with np.errstate(over="ignore"):
            gap = (run.history.cost - reference) / scale
        if bound is not None and np.any(bound > 0):
            ax.plot(bound / scale, "--", color=color, linewidth=1)
            proven = " (dashed: proven)"
        seen = np.flatnonzero(gap > 0)
        ax.plot(seen, gap[seen], ".-", color=color, markersize=4, linewidth=1.2, label=label)
    ax.set(yscale="log", xlabel="iteration", ylabel=GAP)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
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
