"""Policies: the input as a function of the state, and the paths that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from lqrad.arguments import real_array
from lqrad.descent.pictures import plot_descent
from lqrad.errors import ShapeError
from lqrad.figure import NEW, add_title, in_turns, panel
from lqrad.policies.policy_gradient import PolicyGradient
from lqrad.policies.problem import PolicyProblem
from lqrad.results import draw

_POINTS = 241  # along each axis
_SHADES = 20


@panel
def plot_policy(
    problem: PolicyProblem,
    theta: Mapping[str, ArrayLike],
    *,
    extent: tuple[float, float, float, float],
    paths: ArrayLike | None = None,
    names: Sequence[str] = ("x[0]", "x[1]", "u[0]"),
    ax: Axes = NEW,
) -> None:
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
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    in_turns(ax)
    add_title(ax, "policy" + ("" if paths is None else " and the paths that it makes"))


draw.register(PolicyGradient, plot_descent)
