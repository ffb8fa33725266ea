"""Smoothed series: data, mean, band and gaps; and how well a filter foretold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import check_shape
from lqrad.errors import ArgumentError, ShapeError
from lqrad.figure import NEW, add_title, colors, curves, new_figure, one_series, panel
from lqrad.results import draw
from lqrad.smoothing.kalman import Filtered, Smoothed
from lqrad.smoothing.model import SmoothingProblem

_QUANTILE = 1.96  # standard deviations to each side hold 95 % of a normal distribution


@panel
def plot_smoothed(
    problem: SmoothingProblem,
    y: ArrayLike,
    smoothed: Smoothed,
    *,
    output: int = 0,
    ax: Axes = NEW,
    t: ArrayLike | None = None,
    name: str | None = None,
) -> None:
    """Draw one output: the data, the smoothed mean, two 95 % bands, and the gaps shaded.

    The wide band is that of y: what was not observed, in a gap or in the forecast, lies there with
    that probability. The narrow one is that of the level C x + d, which has no sensor noise.

    Parameters
    ----------
    problem, y : SmoothingProblem, (T+1, ny)
    smoothed : Smoothed
        What `kalman_smoother` returned for them, with covariances.
    output : int
        Which column of y.
    t : (T+1,), optional
        Times of the rows; 0, 1, ... when not given.
    name : str, optional
        What the output is called, with its unit.

    Examples
    --------
    >>> import lqrad
    >>> model = lqrad.SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
    >>> y = [[0.0], [np.nan], [3.0]]
    >>> ax = plot_smoothed(model, y, lqrad.kalman_smoother(model, y))
    >>> ax.get_ylabel()
    'y[0]'
    """
    y = problem.series(y)
    if y.ndim != 2:
        raise ShapeError(f"y has shape {y.shape}, expected (T+1, ny): one series")
    if smoothed.cov is None:
        raise ArgumentError(
            "smoothed has no covariances; call kalman_smoother with covariances=True"
        )
    if not 0 <= output < problem.ny:
        raise ArgumentError(f"output is {output}, expected one of 0 ... {problem.ny - 1}")
    check_shape("smoothed.x", smoothed.x, (len(y), problem.n), "to match y")
    times = np.arange(len(y)) if t is None else np.asarray(t)
    if times.shape != (len(y),):
        raise ShapeError(f"t has shape {times.shape}, expected ({len(y)},) to match y {y.shape}")
    outputs = smoothed.outputs()
    assert outputs.level_cov is not None
    assert outputs.cov is not None
    mean = outputs.mean[:, output]
    dark, light = colors(2)
    missing = np.isnan(y[:, output])
    for start, stop in [] if missing.all() else _runs(missing):
        before, after = max(start - 1, 0), min(stop, len(y) - 1)
        label = None if ax.patches else "not observed"
        ax.axvspan(times[before], times[after], color="0.93", zorder=0, label=label)
    bands = {
        "95 % of observations y": (outputs.cov, 0.25),
        "95 % band of the level C x": (outputs.level_cov, 0.45),
    }
    for label, (cov, alpha) in bands.items():
        half, look = _QUANTILE * np.sqrt(cov[:, output, output]), {"color": light, "alpha": alpha}
        ax.fill_between(times, mean - half, mean + half, lw=0, label=label, **look)
    ax.plot(times, mean, color=dark, label="smoothed mean")
    label = "" if missing.all() else "observed"
    ax.plot(times, y[:, output], ".", color="0.35", markersize=4, label=label)
    ax.set_xlabel("step t" if t is None else "time")
    ax.set_ylabel(f"y[{output}]" if name is None else name.replace("$", r"\$"))
    ax.margins(x=0.01)


def plot_smoothed_outputs(
    problem: SmoothingProblem,
    y: ArrayLike,
    smoothed: Smoothed,
    *,
    t: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw every output of a smoothed series, one panel below the other.

    Parameters
    ----------
    problem, y, smoothed, t
        As in `plot_smoothed`.
    names : sequence of ny str, optional
        What the outputs are called, with their units.

    Returns
    -------
    Figure
    """
    figure = new_figure(8, 1.0 + 3.0 * problem.ny)
    panels = figure.subplots(problem.ny, 1, sharex=True, squeeze=False)[:, 0]
    for output, ax in enumerate(panels):
        name = None if names is None else names[output]
        plot_smoothed(problem, y, smoothed, output=output, ax=ax, t=t, name=name)
        ax.label_outer()
    return figure


@panel
def plot_innovations(filtered: Filtered, *, ax: Axes = NEW) -> None:
    """Draw the innovations of each output in units of their standard deviations.

    Those of a right model are independent, and 95 % of them lie between the dashed lines.

    Parameters
    ----------
    filtered : Filtered
        Of one series.
    """
    variances = np.diagonal(filtered.innovation_cov, axis1=-2, axis2=-1)
    z = one_series("filtered.innovations", filtered.innovations) / np.sqrt(variances)
    for i, look in enumerate(curves(z.shape[1])):
        look = {"color": look["color"], "marker": "osD^v"[i % 5], "markersize": 3}
        ax.plot(z[:, i], linewidth=0.5, label=f"y[{i}]", **look)
    for level in (-_QUANTILE, 0.0, _QUANTILE):
        ax.axhline(level, color="0.5", linewidth=0.8, linestyle="--" if level else "-", zorder=1)
    ax.set_xlabel("step t")
    ax.set_ylabel("innovation (standard deviations)")
    add_title(ax, "what the filter did not foretell (dashed: 95 %)")


def _draw_smoothed(smoothed: Smoothed, y: ArrayLike | None = None, **options: Any) -> Figure:
    """The outputs, with the data where they are given."""
    if y is None:
        y = np.full((*smoothed.x.shape[:-1], smoothed.problem.ny), np.nan)
    one_series("smoothed.x", smoothed.x)
    return plot_smoothed_outputs(cast(SmoothingProblem, smoothed.problem), y, smoothed, **options)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The runs [start, stop) of true entries."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


draw.register(Smoothed, _draw_smoothed)
draw.register(Filtered, plot_innovations)
