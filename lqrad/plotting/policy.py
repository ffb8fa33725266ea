"""Policies: the input over the plane of two states with the loops that it closes, and a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from lqrad.errors import Array, ShapeError, check_shape, real_array
from lqrad.plotting.figure import LEGEND, add_title, colors, new_axes

if TYPE_CHECKING:
    from lqrad.solvers.sgd import Training

_POINTS = 201  # along each side of the plane


def plot_policy(
    policy: Callable[[Array], ArrayLike],
    x: ArrayLike,
    *,
    names: Sequence[str] = ("x[0]", "x[1]"),
    label: str = "u",
    ax: Axes | None = None,
) -> Axes:
    """Draw an input as a function of two states, and trajectories in their plane.

    The plane is as large as the trajectories are. A dot marks where each of them starts, a cross
    where it ends.

    Parameters
    ----------
    policy : callable
        States (k, 2) -> one input (k,): of any feedback, such as a trained graph or a gain.
    x : (T+1, 2) or (b, T+1, 2)
        One trajectory, or several.
    names : two of str
        What the states are called, with their units.
    label : str
        What the input is called, with its unit.
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Raises
    ------
    ShapeError
        If x is not of two states, or the policy returns anything but a number for each state.

    Examples
    --------
    >>> K = np.array([2.0, 1.0])
    >>> x = [[1.0, 0.0], [0.9, -0.4], [0.7, -0.6]]
    >>> ax = plot_policy(lambda x: -x @ K, x, names=["angle (rad)", "rate (rad/s)"])
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('angle (rad)', 'rate (rad/s)')
    """
    x = real_array("x", x)
    if x.ndim not in (2, 3) or x.shape[-1] != 2 or 0 in x.shape:
        raise ShapeError(f"x has shape {x.shape}, expected (T+1, 2) or (b, T+1, 2): two states")
    check_shape("names", np.empty(len(names)), (2,), "one for each state")
    x = x.reshape(-1, *x.shape[-2:])
    low, high = x.min(axis=(0, 1)), x.max(axis=(0, 1))
    # A trajectory that stands still has no extent; the plane around it has one.
    margin = np.where(high > low, 0.05 * (high - low), 0.5)
    sides = np.linspace(low - margin, high + margin, _POINTS, axis=-1)
    plane = np.stack(np.meshgrid(*sides), axis=-1)
    u = np.asarray(policy(plane.reshape(-1, 2)), dtype=np.float64)
    check_shape("what the policy returns", u, (_POINTS**2,), "one input for each of these states")
    ax = new_axes() if ax is None else ax
    image = ax.pcolormesh(
        *sides, u.reshape(_POINTS, _POINTS), cmap="viridis", shading="gouraud", rasterized=True
    )
    assert ax.figure is not None
    ax.figure.colorbar(image, ax=ax, label=label)
    for line in x:
        ax.plot(*line.T, color="0.0", linewidth=2.2, alpha=0.5)  # an edge, to be seen on any colour
        ax.plot(*line.T, color="1.0", linewidth=1.0)
    marks = {"color": "1.0", "markeredgecolor": "0.0", "linestyle": "none", "markersize": 7}
    ax.plot(*x[:, 0].T, marker="o", label="start", **marks)
    ax.plot(*x[:, -1].T, marker="X", label="end", **marks)
    ax.set_xlim(sides[0][0], sides[0][-1])
    ax.set_ylim(sides[1][0], sides[1][-1])
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    ax.legend(loc="best", **{**LEGEND, "facecolor": "0.75"})
    return ax


def plot_training(
    trainings: Training | Sequence[Training],
    *,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the loss of each epoch, and that of the validation data, dashed, where there are any.

    Parameters
    ----------
    trainings : Training or sequence of Training
    names : sequence of str, optional
        What the curves are called.
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Raises
    ------
    ShapeError
        If there are not as many names as trainings.

    Examples
    --------
    >>> import lqrad
    >>> graph = lqrad.mlp([1, 1], loss="squared")
    >>> data = {"x": [[0.0], [1.0]], "y": [[1.0], [3.0]]}
    >>> ax = plot_training(lqrad.sgd(graph, graph.initial(np.random.default_rng(0)), data, epochs=5, rng=0))
    >>> ax.get_xlabel(), len(ax.lines)
    ('epoch', 1)
    """
    runs = list(trainings) if isinstance(trainings, Sequence) else [trainings]
    labels = [""] * len(runs) if names is None else list(names)
    check_shape("names", np.empty(len(labels)), (len(runs),), "one for each training")
    ax = new_axes() if ax is None else ax
    lowest = np.inf
    for run, name, color in zip(runs, labels, colors(len(runs)), strict=True):
        loss, checked = run.history.loss, run.history.validation_loss
        ax.plot(np.arange(1, len(loss) + 1), loss, color=color, linewidth=1.2, label=name)
        lowest = min(lowest, loss.min(initial=np.inf))
        if checked is not None:
            ax.plot(np.arange(1, len(loss) + 1), checked, "--", color=color, linewidth=1.2)
            lowest = min(lowest, checked.min(initial=np.inf))
    if 0 < lowest < np.inf:  # a loss may be negative
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    if names is not None:
        ax.legend(loc="best", **LEGEND)
    checks = any(run.history.validation_loss is not None for run in runs)
    add_title(ax, "training loss" + ", and that of validation (dashed)" * checks)
    return ax
