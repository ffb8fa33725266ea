"""What all pictures share: figures without windows, panels, colours, line styles, names of curves.

A picture is a function that draws on `ax` and is made one by `panel`; several panels are a `sheet`.
"""

from __future__ import annotations

import inspect
import io
import math
import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import matplotlib as mpl
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import Array, check_shape, real_array
from lqrad.errors import ShapeError
from lqrad.outside import as_path, replace_file

P = ParamSpec("P")
Result = TypeVar("Result")

NEW = cast(Axes, None)  # default of `ax`: axes of a figure of their own
GAP = "relative gap  (J \N{MINUS SIGN} J*) / |J*|"

_LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (7, 2)), (0, (7, 2, 1, 2, 1, 2)))
_LEGEND: dict[str, Any] = {
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "fontsize": "small",
    "labelspacing": 0.25,
    "handlelength": 2.4,
    "borderaxespad": 0.1,
    "borderpad": 0.2,
    "frameon": False,
}
_MOST_COLUMNS = 4
_APART = 0.08  # of the height of the axes: names of two curves have room
_MOST_NAMES = 6  # the colours of more curves than these could not be told apart
_SHORT = 18  # letters of a name that is written beside the axes
_BESIDE = "name beside the axes"


class Labels(Protocol):
    """What names the curves of a picture, and its time axis: `lqrad.systems.System` is one."""

    name: str
    dt: float
    state_names: tuple[str, ...]
    state_units: tuple[str, ...]
    input_names: tuple[str, ...]
    input_units: tuple[str, ...]


def save_film(
    path: str | os.PathLike[str],
    figure: Figure,
    show: Callable[[int], Sequence[Any]],
    times: Sequence[int],
    frames_per_second: int,
) -> None:
    """Save a film as a GIF: a frame for each time that `show` draws. What stands there is replaced whole."""
    film = FuncAnimation(figure, show, frames=times, blit=False)
    with TemporaryDirectory() as folder:
        part = Path(folder) / "film.gif"
        film.save(part, writer=PillowWriter(fps=frames_per_second))
        replace_file(as_path(path), lambda file: file.write(part.read_bytes()))


class Picture(Figure):
    """A figure that belongs to no window: a notebook shows it, a script saves it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches, its panels kept apart."""
    figure = Picture(figsize=(width, height), dpi=120, layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    return figure


def panel(body: Callable[P, None]) -> Callable[P, Axes]:
    """Make a picture of a function that draws on its argument `ax`, whose default is `NEW`.

    Without axes it draws on those of a new figure. It returns the axes, with the house's look: no
    spines at the top and at the right, except around maps, and curves named without covering any.
    The docstring is given Returns, and what it does not tell of the arguments: their types, and `ax`.
    """

    @wraps(body)
    def drawn(*args: P.args, **options: P.kwargs) -> Axes:
        ax = cast("Axes | None", options.get("ax")) or new_figure(6, 4).subplots()
        options["ax"] = ax
        body(*args, **options)
        maps = (QuadMesh, ContourSet)
        if not ax.images and not any(isinstance(part, maps) for part in ax.collections):
            ax.spines[["top", "right"]].set_visible(False)
        _name_curves(ax)
        return ax

    _document(drawn, inspect.signature(body), "Axes", _AX)
    return drawn


def sheet(
    width: float, height: float, rows: int, columns: int
) -> Callable[[Callable[Concatenate[list[Axes], P], str]], Callable[P, Figure]]:
    """Make a figure of several panels: the function draws on them, row by row, and returns a title.

    The argument for the panels is not one of the figure's; its docstring is given Returns.
    """

    def decorate(body: Callable[Concatenate[list[Axes], P], str]) -> Callable[P, Figure]:
        @wraps(body)
        def drawn(*args: P.args, **options: P.kwargs) -> Figure:
            figure = new_figure(width, height)
            title = body(list(figure.subplots(rows, columns).flat), *args, **options)
            if title:
                figure.suptitle(title)
            return figure

        signature = inspect.signature(body)
        rest = list(signature.parameters.values())[1:]
        _document(drawn, signature.replace(parameters=rest), "Figure")
        return drawn

    return decorate


_AX = "ax : Axes, optional\n    Where to draw; a new figure when not given.\n"


def _document(
    function: Callable[..., Any], signature: inspect.Signature, returned: str, more: str = ""
) -> None:
    """Write the arguments and what is returned into a function's signature and docstring."""
    parameters = [
        part.replace(annotation="Axes | None") if part.name == "ax" else part
        for part in signature.parameters.values()
    ]
    told = signature.replace(parameters=parameters, return_annotation=returned)
    vars(function)["__signature__"] = told
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    # The sections start at their headings, which are underlined.
    starts = [i - 1 for i, line in enumerate(lines) if i and set(line) == {"-"}] or [len(lines) + 1]
    if "Parameters" in lines:
        start = lines.index("Parameters")
        after = next((i for i in starts if i > start), len(lines) + 1)
        section = lines[start + 2 : after - 1]
    else:
        start, after, section = starts[0], starts[0], []
    known = {name for line in section for name in line.partition(" : ")[0].split(", ")}
    section[:0] = [
        f"{part.name} : {part.annotation}" for part in parameters if part.name not in known | {"ax"}
    ]
    written = ["Parameters", "----------", *section, *more.splitlines()]
    written += ["", "Returns", "-------", returned]
    tail = ["", *lines[after:]] if lines[after:] else []
    function.__doc__ = "\n".join([*lines[: start - 1], "", *written, *tail])


def one_series(name: str, z: ArrayLike) -> Array:
    """Return z as an array with a column for each curve, or raise ShapeError."""
    z = real_array(name, z)
    if z.ndim != 2 or 0 in z.shape:
        remedy = f"; did you mean {name}[:, None]?" if z.ndim == 1 and z.size else ""
        expected = "(T, k): one series, a column for each curve"
        raise ShapeError(f"{name} has shape {z.shape}, expected {expected}{remedy}")
    return z


def several(
    results: Result | Sequence[Result], names: Sequence[str] | None
) -> tuple[list[Result], list[str]]:
    """Return one result or several as a list, and a name for each: empty where none are given."""
    found = list(results) if isinstance(results, Sequence) else [results]
    labels = [""] * len(found) if names is None else list(names)
    check_shape("names", np.empty(len(labels)), (len(found),), "one for each result")
    return found, labels


def colors(count: int) -> Array:
    """Colours of rising lightness, dark enough to be read on white."""
    return np.array(mpl.colormaps["viridis"](np.linspace(0.0, 0.82, count)), dtype=np.float64)


def curves(count: int) -> list[dict[str, Any]]:
    """A colour and a line style for each curve: in grey too, two of them are told apart."""
    styles = (_LINES[i % len(_LINES)] for i in range(count))
    return [
        {"color": color, "linestyle": style}
        for color, style in zip(colors(count), styles, strict=True)
    ]


def with_units(names: Sequence[str], units: Sequence[str]) -> list[str]:
    """Names of curves with the units of what they show."""
    return [
        name if unit in ("", "1") else f"{name} ({unit})"
        for name, unit in zip(names, units, strict=True)
    ]


def largest(z: Array) -> NDArray[np.intp]:
    """The columns of z (..., T, k) that get a name and a colour, in their order; the others are grey."""
    sizes = np.abs(z).max(axis=tuple(range(z.ndim - 1)))
    return np.sort(np.argsort(-sizes, kind="stable")[:_MOST_NAMES])


def in_turns(ax: Axes) -> None:
    """Count in multiples of pi along each axis whose label ends in the unit rad."""
    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        if axis.get_label_text().endswith(("(rad)", "[rad]")) and high - low > math.pi / 2:
            step = math.pi / 2 * max(1, math.ceil((high - low) / (4 * math.pi)))
            axis.set_major_locator(MultipleLocator(step))
            axis.set_major_formatter(FuncFormatter(_turns))


def _turns(angle: float, _: Any = None) -> str:
    """An angle as a multiple of pi: "pi/2", "-pi", "0"."""
    halves = round(2 * angle / math.pi)
    if halves == 0:
        return "0"
    top = {1: "", 2: ""}.get(abs(halves), str(abs(halves) if halves % 2 else abs(halves) // 2))
    sign = "\N{MINUS SIGN}" if halves < 0 else ""
    return f"{sign}{top}π" + ("/2" if halves % 2 else "")


def power(exponent: float, _: Any = None) -> str:
    """A power of ten, for the labels of an axis on which it is the exponent that is drawn."""
    return f"$10^{{{exponent:g}}}$"


def add_title(ax: Axes, title: str) -> None:
    """Write a title, above the names of the curves."""
    legend, figure = ax.get_legend(), ax.get_figure(root=True)
    rows = 0.0  # in points
    if legend is not None and figure is not None:
        rows = legend.get_window_extent().height * 72 / figure.dpi
    ax.set_title(title, loc="left", fontsize="medium", pad=6 + rows)


def add_note(ax: Axes, text: str, point: tuple[Any, Any], **details: Any) -> None:
    """Write a short text beside a point of the panel."""
    ax.annotate(text, point, textcoords="offset points", fontsize="small", **details)


def _name_curves(ax: Axes) -> None:
    """Name curves where they end, if those places are apart; else in rows above the axes."""
    for text in [text for text in ax.texts if text.get_gid() == _BESIDE]:
        text.remove()
    handles, names = ax.get_legend_handles_labels()
    ends = _ends_apart(ax, handles, names)
    beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0)}
    for name, end in zip(names, ends, strict=False):
        add_note(ax, name, (1.0, end), va="center", gid=_BESIDE, **beside)
    if len(names) > 1 and not ends:
        for columns in range(min(len(names), _MOST_COLUMNS), 0, -1):
            legend = ax.legend(handles, names, ncols=columns, **_LEGEND)
            if legend.get_window_extent().width <= ax.bbox.width:
                break
    add_title(ax, ax.get_title(loc="left"))


def _ends_apart(ax: Axes, handles: list[Any], names: list[str]) -> list[float]:
    """The heights at which the curves end, if their names have room there beside the axes; else nothing."""
    figure = ax.get_figure(root=True)
    if figure is None or figure.get_layout_engine() is None:  # which makes the room
        return []
    if len(names) < 2 or max(map(len, names)) > _SHORT:
        return []
    if not all(isinstance(line, Line2D) and line.get_linestyle() != "None" for line in handles):
        return []
    ends = [tuple(line.get_xydata()[-1]) for line in handles]
    ax.get_xlim()  # limits that are still to be found are not in transData before
    x, y = (ax.transData + ax.transAxes.inverted()).transform(ends).T
    inside = x.min() > 0.9 and x.max() <= 1.0 and y.min() >= 0.0 and y.max() <= 1.0  # false for NaN
    apart = inside and np.diff(np.sort(y)).min() > _APART
    return [end[1] for end in ends] if apart else []
