"""Training: the loss of each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lqrad.figure import NEW, add_title, colors, panel, several
from lqrad.nets.sgd import Training
from lqrad.results import draw

_MARKS = "osD^v"


@panel
def plot_training(
    trainings: Training | Sequence[Training],
    *,
    names: Sequence[str] | None = None,
    ax: Axes = NEW,
) -> None:
    """Draw the loss of each epoch, and that of the validation data, dashed, where there are any.

    Both curves of a training end in the same mark, which tells it from others in grey, too.

    Parameters
    ----------
    trainings : Training or sequence of Training
    names : sequence of str, optional
        What the curves are called.

    Examples
    --------
    >>> import lqrad
    >>> graph = lqrad.mlp([1, 1], loss="squared")
    >>> data = {"x": [[0.0], [1.0]], "y": [[1.0], [3.0]]}
    >>> ax = plot_training(lqrad.sgd(graph, graph.initial(0), data, epochs=5, rng=0))
    >>> ax.get_xlabel(), len(ax.lines)
    ('epoch', 1)
    """
    runs, labels = several(trainings, names)
    drawn = []
    for k, (run, name, color) in enumerate(zip(runs, labels, colors(len(runs)), strict=True)):
        look: dict[str, Any] = {
            "color": color,
            "linewidth": 1.2,
            "markersize": 5,
            "markevery": [-1],
        }
        look["marker"] = _MARKS[k % len(_MARKS)]
        loss, checked = run.history.cost, run.history.validation_loss
        epochs = np.arange(1, len(loss) + 1)
        ax.plot(epochs, loss, label=name, **look)
        if checked is not None:
            ax.plot(epochs, checked, linestyle="--", **look)
        drawn += [loss] if checked is None else [loss, checked]
    seen = np.concatenate(drawn)
    if seen.size and 0 < 10 * seen.min() < seen.max():  # else a linear scale is easier to read
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    checks = any(run.history.validation_loss is not None for run in runs)
    add_title(ax, "training loss" + ", and that of validation (dashed)" * checks)


draw.register(Training, plot_training)
