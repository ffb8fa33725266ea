"""Series in .csv files: a row for each time, a column for each output.

Such a file does not say what separates its entries and which sign is the decimal one. All usual ways
are tried on the whole file. If just one of them gives rows of numbers, it is taken; if two of them
give different numbers, the file is refused, with a remedy.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lqrad.arguments import Array, check_count
from lqrad.errors import ArgumentError
from lqrad.outside import as_path, read_bytes

_DIALECTS = ((",", "."), (";", ","), (";", "."), ("\t", ","), ("\t", "."))
_NUMBERS = {
    ".": re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
    ",": re.compile(r"[+-]?[0-9]+(,[0-9]+)?([eE][+-]?[0-9]+)?"),
}
# What may also be a whole number with a sign between its thousands.
_GROUPED = {
    decimal: re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(\{decimal}[0-9]{{3}})+") for decimal in ".,"
}
_MISSING = frozenset(("", "nan", "NaN", "NAN", "na", "NA", "n/a", "N/A", "#N/A", "null", "NULL"))
_DATES = ("%Y-%m", "%Y/%m/%d", "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%b %Y", "%H:%M")
_QUARTER = re.compile(r"([0-9]{4})-?Q([1-4])")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Series:
    """What a .csv file holds: numbers, NaN where there are none, and what it calls things.

    Attributes
    ----------
    y : (T+1, ny)
    labels : list of T+1 str, or None
        The labels of the rows.
    names : list of str, or None
        The header: the name of the labels, where there are any, and of each output.
    """

    y: Array
    labels: list[str] | None
    names: list[str] | None


def load_series(path: str | Path, columns: int) -> Series:
    r"""Read a series from a .csv file: a row for each time, a column for each output.

    Parameters
    ----------
    path : str or Path
        Text in UTF-8, or in UTF-16 with its byte order mark, with commas, semicolons or tabs
        between the entries, and a decimal point, or beside semicolons or tabs a decimal comma.
        Entries may stand in double quotes. Thousands are not separated.

        A first line of names is a header; names may be numbers, such as years, where the first name
        stands above labels that are numbers or dates, or is empty; elsewhere a first line such as
        0,1,2 is refused. If there is one column more than outputs, the first holds labels. Labels
        that are numbers or dates go on by equal steps, of months or working days too: a time that
        was not observed has a line.

        An entry that is empty, or one of nan, NA, N/A and null, was not observed. An empty line is
        such an entry in a file of one column, and refused in others; at the end it is ignored.
    columns : int
        The number of outputs.

    Raises
    ------
    ArgumentError
        If the file can be read in two ways, or a line does not fit; names the line.

    See Also
    --------
    load_smoothing_model : reads a model for it.
    kalman_smoother, fit : take its values.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "series.csv"
    ...     _ = path.write_text("year;flow\n1871;1120,5\n1872;\n")
    ...     series = load_series(path, columns=1)
    >>> series.y.ravel(), series.labels, series.names
    (array([1120.5,    nan]), ['1871', '1872'], ['year', 'flow'])
    """
    path, columns = as_path(path), check_count("columns", columns)
    text = _text(path)
    rows = {separator: _rows(text, separator) for separator in ",;\t"}
    readings, faults = [], []
    for separator, decimal in _DIALECTS:
        try:
            readings.append(_reading(rows[separator], separator, decimal, columns))
        except _UnreadError as fault:
            faults.append((separator in text, fault.reached, fault))
    try:
        if not readings:  # the words of the way that came furthest
            raise max(faults, key=lambda told: told[:2])[2]
        reading = _only(readings)
        if reading.labels is not None:
            _check_times(reading.labels, reading.lines)
    except _UnreadError as fault:
        raise ArgumentError(f"{path}, line {fault.line}: {fault.words}", fault.remedy) from None
    return Series(reading.y, reading.labels, reading.names)


class _UnreadError(Exception):
    """Why a line cannot be read; `reached` is the last line that was read before this was known."""

    def __init__(self, line: int, words: str, remedy: str = "", *, reached: float = 0) -> None:
        super().__init__(words)
        self.line, self.words, self.remedy = line, words, remedy
        self.reached = max(line, reached)


class _Row(NamedTuple):
    """The entries of a row, and the number of the line where it begins."""

    line: int
    entries: list[str]

    @property
    def empty(self) -> bool:
        return len(self.entries) < 2 and not any(self.entries)


class _Reading(NamedTuple):
    """What a file holds if it is read in one way."""

    y: Array
    labels: list[str] | None
    names: list[str] | None
    lines: list[int]  # of the rows
    separator: str
    doubtful: tuple[int, str] | None  # a line and an entry, if all decimals may be thousands


# --- text, rows, columns --------------------------------------------------------------------------


def _text(path: Path) -> str:
    data = read_bytes(path)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ArgumentError(
            f"{path}, line {line}: it is not text in UTF-8", "save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ArgumentError(f"{path}, line {line}: it holds a NUL", "save it as text in UTF-8")
    return text


def _rows(text: str, separator: str) -> list[_Row] | _UnreadError:
    """The rows of a file, without empty lines at its end; or why there are none."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, line = [], 1
    try:
        for entries in reader:
            rows.append(_Row(line, [entry.strip() for entry in entries]))
            line = reader.line_num + 1
    except csv.Error as error:
        return _UnreadError(line, f"{error}")
    while rows and rows[-1].empty:
        rows.pop()
    return rows if rows else _UnreadError(1, "it holds no rows of numbers")


def _reading(
    rows: list[_Row] | _UnreadError, separator: str, decimal: str, columns: int
) -> _Reading:
    """Read a file in one way, or raise what stands against it."""
    if isinstance(rows, _UnreadError):
        raise rows
    filled = [row for row in rows if not row.empty]
    first, names = filled[0].line, None
    if _is_header(filled, columns, decimal):
        names = filled[0].entries
        rows, filled = rows[rows.index(filled[0]) + 1 :], filled[1:]
    if not filled:
        raise _UnreadError(1, "it holds no rows of numbers")
    width = len(filled[0].entries)
    labelled = width == columns + 1
    if not labelled and width != columns:
        raise _UnreadError(
            filled[0].line, f"{_count(width)}, expected {columns}, or {columns + 1} with a label"
        )
    if names is not None:
        unsplit = any(sign in name for name in names for sign in ",;\t")
        if labelled and len(names) == columns and not unsplit:
            names = ["", *names]  # as R writes them
        if len(names) != width or (width == 1 and unsplit):
            raise _UnreadError(first, f"{_count(width)} below the names {', '.join(names)}")
    y, decimals = _numbers(rows, width, columns, decimal)
    if names is None and not labelled and _are_columns(filled):
        raise _doubtful_names(first, filled[0].entries, "numbers")
    for i in np.flatnonzero(np.isnan(y).all(axis=0)):
        raise _UnreadError(
            rows[0].line,
            f"no entry of column {i + labelled + 1} is a number",
            "a separator at the end of each line makes a column",
            reached=rows[-1].line,
        )
    labels = None
    if labelled:
        labels = [_point(row.entries[0], decimal) for row in rows]
        for row, label in zip(rows, labels, strict=True):
            if not label and any(labels):
                raise _UnreadError(row.line, "it has no label")
    doubtful = decimal == "," or separator == ";"  # a point is a decimal one elsewhere
    if not (doubtful and all(_GROUPED[decimal].fullmatch(entry) for _, entry in decimals)):
        decimals = []
    lines = [row.line for row in rows]
    return _Reading(y, labels, names, lines, separator, decimals[0] if decimals else None)


def _numbers(
    rows: list[_Row], width: int, columns: int, decimal: str
) -> tuple[Array, list[tuple[int, str]]]:
    """The numbers of the rows, and with their lines the entries that hold the decimal sign."""
    y = np.full((len(rows), columns), np.nan)
    decimals = []
    for row, given in zip(y, rows, strict=True):
        line, entries = given
        if given.empty:
            if width > 1:
                raise _UnreadError(
                    line, "it is empty", "write the separators of a row that was not observed"
                )
            continue
        if len(entries) != width:
            raise _UnreadError(line, f"{_count(len(entries))}, expected {width}")
        for i, entry in enumerate(entries[width - columns :]):
            if entry in _MISSING:
                continue
            row[i] = float(_point(entry, decimal)) if _NUMBERS[decimal].fullmatch(entry) else np.nan
            if not math.isfinite(row[i]):
                words = f"{_cut(entry)!r} is not a number"
                raise _UnreadError(line, words, "leave what was not observed empty")
            if decimal in entry:
                decimals.append((line, entry))
    return y, decimals


def _is_header(rows: list[_Row], columns: int, decimal: str) -> bool:
    """Whether the first row holds names."""
    line, first = rows[0]
    label, values = (first[0], first[1:]) if len(first) == columns + 1 else ("", first)
    present = [entry for entry in values if entry not in _MISSING]
    if present and all(map(_is_word, present)):
        return label in _MISSING or _is_word(label)
    if len(first) != columns + 1:
        return False
    # Names may be numbers, such as years. Then what stands above the labels is none itself.
    others = [row.entries[0] for row in rows[1:] if row.entries[0] not in _MISSING]
    if not label:
        return len(others) == len(rows) - 1 > 0
    if not _is_word(label) or not others:
        return False
    if any(map(_is_word, others)):
        if present and all(entry.isdecimal() for entry in present):
            raise _doubtful_names(line, first, "a label and numbers")
        return False
    return True


def _are_columns(rows: list[_Row]) -> bool:
    """Whether the first row counts up, as columns without names do, and no other is such a row."""

    def counts_up(entries: list[str]) -> bool:
        whole = all(entry.isdecimal() and len(entry) < 10 for entry in entries)
        return whole and all(int(b) == int(a) + 1 for a, b in pairwise(entries))

    first, *others = [row.entries for row in rows]
    alike = [entries for entries in others if len(entries[0]) == len(first[0])]
    return len(first) > 1 and counts_up(first) and bool(others) and not any(map(counts_up, alike))


def _doubtful_names(line: int, entries: list[str], what: str) -> _UnreadError:
    return _UnreadError(
        line,
        f"{', '.join(entries)} may be names, or {what}",
        "put a line with a name that is no number for each column above",
        reached=math.inf,
    )


def _is_word(entry: str) -> bool:
    """Whether an entry is a name: inf, 1e400 and 0x10 are numbers gone wrong."""
    try:
        float(entry)
    except ValueError:
        begins = re.match(r"[+-]?[.,]?[0-9]", entry)
        return not begins and any(character.isalpha() for character in entry)
    return False


def _point(entry: str, decimal: str) -> str:
    """A number with a decimal point, any other text as it is."""
    return entry.replace(decimal, ".") if _NUMBERS[decimal].fullmatch(entry) else entry


def _cut(entry: str) -> str:
    """An entry as it reads in a message."""
    return entry if len(entry) < 80 else f"{entry[:76]} ..."


def _count(entries: int) -> str:
    return f"{entries} {'entry' if entries == 1 else 'entries'}"


def _only(readings: Sequence[_Reading]) -> _Reading:
    """The one way in which a file can be read."""
    found = list({(r.y.tobytes(), str(r.labels)): r for r in readings}.values())
    if len(found) > 1:  # semicolons and tabs in every row are there to separate
        apart = [r for r in found if r.separator != "," and (r.labels or r.y.shape[1] > 1)]
        found = apart if len(apart) == 1 else found
    reading = found[0]
    if len(found) > 1:
        raise _UnreadError(
            reading.lines[0],
            "its comma may be a decimal one or separate a label from a number",
            "write decimal points, or a line with a name for each column above, or semicolons",
        )
    if reading.doubtful is not None:
        line, entry = reading.doubtful
        plain = re.sub("[.,]", "", entry)
        raise _UnreadError(
            line,
            f"{entry!r} may be a fraction or {plain}, as all numbers of the file",
            f"write {plain}, or other decimals, such as {entry}0",
        )
    return reading


# --- times ----------------------------------------------------------------------------------------


def _check_times(labels: list[str], lines: list[int]) -> None:
    """Raise unless labels that are numbers or dates go on by equal steps, in one way to read them."""
    faults = []
    for times in _times(labels):
        fault = _uneven(times, labels, lines)
        if fault is None:
            return
        faults.append(fault)
    if faults:
        raise faults[0]
    seen: set[str] = set()
    for label, line in zip(labels, lines, strict=True):
        if label in seen and label[:1].isdecimal():
            raise _UnreadError(line, f"the label {_cut(label)} was there before")
        seen.add(label)


def _uneven(times: Array, labels: list[str], lines: list[int]) -> _UnreadError | None:
    """What is wrong with labels as times: one that does not follow, or a gap; None if nothing is."""
    with np.errstate(over="ignore"):
        steps = np.diff(times)
    for k in np.flatnonzero(steps <= 0):
        return _UnreadError(
            lines[k + 1], f"{_cut(labels[k + 1])} does not come after {_cut(labels[k])}"
        )
    usual = np.sort(steps)[(len(steps) - 1) // 2] if len(steps) else 0.0
    for k in np.flatnonzero((steps > 1.5 * usual) | (steps < 0.5 * usual)):
        return _UnreadError(
            lines[k + 1],
            f"{_cut(labels[k + 1])} comes {steps[k] / usual:.3g} steps after {_cut(labels[k])}, "
            "expected 1",
            "write a line with its label alone for each time that was not observed",
        )
    return None


def _times(labels: list[str]) -> list[Array]:
    """Labels as times, in all ways to read them: 2/1/2020 is in January or in February."""
    ways: Sequence[str] = ("", *_DATES)
    if all(_NUMBERS["."].fullmatch(label) for label in labels):
        ways = ["%Y%m%d"] if all(len(label) == 8 for label in labels) else []
    months = [
        _QUARTER.sub(lambda found: f"{found[1]}-{3 * int(found[2]) - 2:02}", z) for z in labels
    ]
    found = [_days(moments) for way in ways if (moments := _moments(months, way)) is not None]
    if found or ways == ("", *_DATES):
        return found
    numbers = np.array([float(label) for label in labels])
    return [numbers] if np.isfinite(numbers).all() else []


def _days(moments: list[datetime]) -> Array:
    """Seconds from the first moment on, or working days; months count 28 to 31 days."""
    days = np.array([moment.date() for moment in moments], dtype="datetime64[D]")
    whole = all(moment.time() == datetime.min.time() for moment in moments)
    if whole and np.is_busday(days).all() and len(days) > 2:
        return np.busday_count(days[0], days).astype(np.float64)
    return np.array([(moment - moments[0]).total_seconds() for moment in moments])


def _moments(labels: list[str], way: str) -> list[datetime] | None:
    """The dates of labels that are written in one way, or else in that of ISO 8601."""
    try:
        found = [
            datetime.strptime(label, way) if way else datetime.fromisoformat(label)
            for label in labels
        ]
    except ValueError:
        return None
    return found if len({moment.tzinfo is None for moment in found}) == 1 else None
