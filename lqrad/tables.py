"""What studies show for themselves: tables of text, tables of HTML, and types that JSON knows."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Sequence
from typing import Any


def text_table(
    columns: Sequence[str], cells: Sequence[Sequence[str]], *, left: Collection[int] = (0,)
) -> str:
    """Return lines of text: the columns' names, a rule, and the cells.

    Parameters
    ----------
    columns : sequence of str
    cells : sequence of rows of str
    left : collection of int
        Columns that are flush left; the others are flush right.

    Examples
    --------
    >>> print(text_table(["method", "steps"], [["gradient", "7"]]))
    method    steps
    ---------------
    gradient      7
    """
    lines = [list(columns), *map(list, cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = []
    for line in lines:
        padded = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(padded).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


def html_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return the same as a table of HTML.

    Examples
    --------
    >>> html_table(["a"], [["1 < 2"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1 &lt; 2</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def jsonable(value: Any) -> Any:
    """Return dictionaries, lists and numbers with None for NaN and infinities, as JSON has neither.

    Examples
    --------
    >>> jsonable({"a": [1.0, float("inf")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
