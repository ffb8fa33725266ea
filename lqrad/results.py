"""What every result offers: a table, plain data, a picture.

Results do not know how they are drawn. The pictures of a chapter say which result each of them
draws, `draw.register(Comparison, plot_comparison)`, and are imported when the first is asked for.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import singledispatch
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np

from lqrad.errors import DtypeError, Status

Cells = tuple[Sequence[str], list[list[str]]]  # columns, and rows of a table

_SHOWN = 4  # entries of an array that a cell of a table has room for
_PLAIN = (bool, int, float, complex, str, Status, np.ndarray, np.generic, type(None))


class Report:
    """A base of results, which are dataclasses: the solution first, then how it was found.

    A result whose table is not a line for each field says so by `cells`; one whose data are not its
    fields, by `facts`.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Answer(Report):
    ...     u: np.ndarray
    ...     cost: float
    ...     status: Status
    >>> answer = Answer(np.zeros((50, 2)), math.inf, Status.DIVERGED)
    >>> print(answer.table())
    field   value
    ----------------
    u       (50, 2)
    cost    inf
    status  diverged
    >>> answer.to_dict()["cost"], answer.to_dict()["status"]
    (None, 'diverged')
    """

    def cells(self) -> Cells:
        """Return the names of the table's columns, and its rows in words."""
        return ("field", "value"), [[name, _words(value)] for name, value in self.facts().items()]

    def facts(self) -> dict[str, Any]:
        """Return what was found by name; arrays, and results within the result, as they are."""
        found = {part.name: getattr(self, part.name) for part in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in found.items() if _is_told(value)}

    def table(self) -> str:
        """Return the result as a table of text."""
        return text_table(*self.cells())

    def to_dict(self) -> dict[str, Any]:
        """Return what was found as dictionaries, lists, strings and numbers, as JSON has them.

        None stands for NaN and infinities, which JSON has not; (real, imaginary) for a complex
        number; a status is its first word.
        """
        return {name: plain(value) for name, value in self.facts().items()}

    def plot(self, *details: Any, **options: Any) -> Any:
        """Draw the result; `lqrad.plot` of it."""
        return plot(self, *details, **options)

    def _repr_html_(self) -> str:
        return html_table(*self.cells())


class Ended(Report):
    """A base of results that say in `what` how they ended, and in `remedy` what to try.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Answer(Ended):
    ...     what: str
    ...     remedy: str
    >>> Answer("diverged at t = 3", "try a shorter horizon").message
    'diverged at t = 3; try a shorter horizon'
    >>> Answer("converged", "").to_dict()
    {'message': 'converged', 'what': 'converged', 'remedy': ''}
    """

    what: str
    remedy: str

    @property
    def message(self) -> str:
        """How it ended, what is known of the result, and what to try."""
        return f"{self.what}; {self.remedy}" if self.remedy else self.what

    def facts(self) -> dict[str, Any]:
        """Return what was found by name, the message before its two parts."""
        found: dict[str, Any] = {}
        for name, value in super().facts().items():
            if name == "what":
                found["message"] = self.message
            found[name] = value
        return found


def former(name: str) -> property:
    """Return the property of a result's class that reads a field, or "history.cost", as it was called."""
    return property(attrgetter(name), doc=f"`{name}`, under its former name.")


@singledispatch
def draw(result: Any, *details: Any, **options: Any) -> Any:
    """Draw a result by the function that was registered for its type."""
    raise DtypeError(
        f"there is no picture of a {type(result).__name__}",
        "lqrad.plotting has pictures of arrays, such as plot_trajectory(x, u)",
    )


def plot(result: Any, *details: Any, **options: Any) -> Any:
    """Draw a result.

    Parameters
    ----------
    result
        What a function of lqrad returned; or a list of such results that are drawn together:
        descents, or trainings.
    *details, **options
        Those of the function in `lqrad.plotting` that draws results of this type.

    Raises
    ------
    DtypeError
        If there is no picture of it.

    See Also
    --------
    lqrad.plotting : the pictures, and parts of them, one by one.

    Examples
    --------
    >>> import lqrad
    >>> ax = plot(lqrad.gradient_growth([[1.5]], T=100))
    >>> ax.get_ylabel()
    '|d x[T] / d x[t+1]|'
    """
    import_module("lqrad.plotting")  # where each picture says which result it draws
    return draw(result, *details, **options)


def plain(value: Any) -> Any:
    """Return a value as dictionaries, lists, strings and numbers that JSON knows.

    Examples
    --------
    >>> plain({"a": [1.0, float("inf")], "K": np.eye(1), "pole": 1j})
    {'a': [1.0, None], 'K': [[1.0]], 'pole': [0.0, 1.0]}
    """
    if isinstance(value, Report):
        return value.to_dict()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Status):
        return value.word
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def text_table(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """Return lines of text: the columns' names, a rule, and the cells, numbers flush right.

    Examples
    --------
    >>> print(text_table(["method", "steps"], [["gradient", "7"]]))
    method    steps
    ---------------
    gradient      7
    """
    lines = [list(columns), *map(list, cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(map(_is_number, column[1:])) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        sides = zip(line, widths, right, strict=True)
        text.append("  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in sides).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


def html_table(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """Return the same as a table of HTML.

    Examples
    --------
    >>> html_table(["a"], [["1 < 2"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1 &lt; 2</td></tr></tbody></table>'
    """

    def row(tag: str, entries: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(entry)}</{tag}>' for entry in entries)}</tr>"

    body = "".join(row("td", line) for line in cells)
    return f"<table><thead>{row('th', columns)}</thead><tbody>{body}</tbody></table>"


def number(value: float, digits: int = 4) -> str:
    """Return a number for a table; a dash for NaN, which is none.

    Examples
    --------
    >>> number(1 / 3), number(np.nan)
    ('0.3333', '-')
    """
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def _is_told(value: Any) -> bool:
    """Whether a field holds what was found, and not a problem or a system that was given."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_told, value))
    if isinstance(value, dict):
        return all(map(_is_told, value.values()))
    return isinstance(value, (*_PLAIN, Report))


def _words(value: Any) -> str:
    """A value in a cell of a table: an array by its shape, where it has many entries."""
    if value is None:
        return "-"
    if isinstance(value, Status):
        return value.word
    if isinstance(value, Report):
        return type(value).__name__
    if isinstance(value, np.ndarray) and (value.ndim > 1 or value.size > _SHOWN):
        return str(value.shape)
    if isinstance(value, (np.ndarray, np.generic)):
        return _words(value.tolist())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_words, value))}]" if len(value) <= _SHOWN else str(len(value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return f"{value:.6g}" if isinstance(value, (float, complex)) else str(value)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell in ("", "-")
    return True
