"""Policies: the input as a function of the state, the paths that it makes, and its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from lqrad.arguments import check_shape, real_array
from lqrad.errors import ShapeError
from lqrad.figure import LEGEND, add_title, colors, new_axes
from lqrad.nets.sgd import Training
from lqrad.nonlinear.pictures import plot_descent
from lqrad.policies.policy_gradient import PolicyGradient
from lqrad.policies.problem import PolicyProblem
from lqrad.results import draw

_POINTS = 241  # along each axis
_SHADES = 20


def plot_policy(
    problem: PolicyProblem,
    theta: Mapping[str, ArrayLike],
    *,
    extent: tuple[float, float, float, float],
    paths: ArrayLike | None = None,
    names: Sequence[str] = ("x[0]", "x[1]", "u[0]"),
    ax: Axes | None = None,
) -> Axes:
    """Draw the first input of a policy over its two states, and paths that it makes.

    Parameters
    ----------
    problem : PolicyProblem
        Of two states.
    theta : dict of name to array
        Parameters of the policy.
    extent : (left, right, bottom, top)
        The states to draw.
    paths : (runs, T+1, 2), optional
        States over time, such as `problem.simulate` gives, with a mark at both ends.
    names : sequence of three str
        What the states and the input are called, units included.
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Raises
    ------
    ShapeError
        If there are not two states, or the paths are not of them.

    Examples
    --------
    >>> import lqrad
    >>> cart = lqrad.LQProblem([[1, 0.1], [0, 1]], [[0], [0.1]], np.eye(2), [[1]])
    >>> problem = lqrad.PolicyProblem(cart, lqrad.linear_policy(2, 1), T=50)
    >>> ax = plot_policy(problem, {"K": [[1.0, 2.0]]}, extent=(-1, 1, -1, 1))
    >>> ax.get_xlabel()
    'x[0]'
    """
    n = problem.problem.n
    if n != 2:
        raise ShapeError(f"problem has n = {n} states, expected 2: a picture has two axes")
    left, right, bottom, top = extent
    ax = new_axes() if ax is None else ax
    across, up = np.linspace(left, right, _POINTS), np.linspace(bottom, top, _POINTS)
    grid = np.stack(np.meshgrid(across, up), axis=-1)
    _, u = problem.simulate(grid.reshape(-1, 2), theta, T=1)
    field = u[:, 0, 0].reshape(_POINTS, _POINTS)
    largest = float(np.abs(field).max()) or 1.0
    shades = ax.pcolormesh(
        across,
        up,
        field,
        cmap=mpl.colormaps["viridis"].resampled(_SHADES),
        vmin=-largest,
        vmax=largest,
        shading="nearest",
    )
    shades.set_rasterized(True)  # an .svg of a point for each would be of many megabytes
    ax.figure.colorbar(shades, ax=ax, label=names[2])
    if paths is not None:
        x = real_array("paths", paths)
        if x.ndim != 3 or x.shape[-1] != 2:
            raise ShapeError(f"paths has shape {x.shape}, expected (runs, T+1, 2)")
        for path in x:
            ax.plot(*path.T, color="black", linewidth=2.4)
            ax.plot(*path.T, color="white", linewidth=1.0)  # with an edge, on shades of any kind
        marks: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markersize": 7}
        ax.plot(*x[:, 0].T, "s", label="start", **marks)
        ax.plot(*x[:, -1].T, "o", label="end", **marks)
        ax.legend(loc="upper right", **{**LEGEND, "framealpha": 1.0, "facecolor": "0.8"})
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    add_title(ax, "policy" + ("" if paths is None else " and the paths that it makes"))
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
    lowest, highest = np.inf, -np.inf
    for run, name, color in zip(runs, labels, colors(len(runs)), strict=True):
        loss, checked = run.history.cost, run.history.validation_loss
        ax.plot(np.arange(1, len(loss) + 1), loss, color=color, linewidth=1.2, label=name)
        seen = loss if checked is None else np.concatenate([loss, checked])
        lowest, highest = min([lowest, *seen]), max([highest, *seen])
        if checked is not None:
            ax.plot(np.arange(1, len(loss) + 1), checked, "--", color=color, linewidth=1.2)
    if 0 < 10 * lowest < highest:  # within a decade a linear scale is easier to read
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    if names is not None:
        ax.legend(loc="best", **LEGEND)
    checks = any(run.history.validation_loss is not None for run in runs)
    add_title(ax, "training loss" + ", and that of validation (dashed)" * checks)
    return ax


draw.register(PolicyGradient, plot_descent)
