"""Figures without windows, and what all pictures share: colours, titles, checks of a series."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lqrad.arguments import Array, real_array
from lqrad.errors import ShapeError

LEGEND: dict[str, Any] = {
    "fontsize": "small",
    "labelspacing": 0.25,
    "handlelength": 1.6,
    "framealpha": 0.7,
    "edgecolor": "none",
}


class Labels(Protocol):
    """What names the curves of a picture, and its time axis: `lqrad.systems.System` is one."""

    name: str
    dt: float
    state_names: tuple[str, ...]
    state_units: tuple[str, ...]
    input_names: tuple[str, ...]
    input_units: tuple[str, ...]


class Picture(Figure):
    """A figure that belongs to no window: a notebook shows it, a script saves it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches, its panels kept apart."""
    return Picture(figsize=(width, height), dpi=120, layout="constrained")


def new_axes() -> Axes:
    """The axes of a new figure."""
    return new_figure(6, 4).subplots()


def one_series(name: str, z: ArrayLike) -> Array:
    """Return z as an array with a column for each curve, or raise ShapeError."""
    z = real_array(name, z)
    if z.ndim != 2 or 0 in z.shape:
        remedy = f"; did you mean {name}[:, None]?" if z.ndim == 1 and z.size else ""
        expected = "(T, k): one series, a column for each curve"
        raise ShapeError(f"{name} has shape {z.shape}, expected {expected}{remedy}")
    return z


def colors(count: int) -> Array:
    """Colours of rising lightness, dark enough to be read on white."""
    return np.array(mpl.colormaps["viridis"](np.linspace(0.0, 0.82, count)), dtype=np.float64)


def add_title(ax: Axes, title: str, *, above: int = 0) -> None:
    """Write a title, above so many rows of a legend."""
    ax.set_title(title, loc="left", fontsize="medium", pad=6 + 13 * above)


def with_units(names: Sequence[str], units: Sequence[str]) -> list[str]:
    """Names of curves with the units of what they show."""
    return [
        name if unit in ("", "1") else f"{name} ({unit})"
        for name, unit in zip(names, units, strict=True)
    ]
