"""Parameter sweeps: one function at every cell of a grid, in this process or on many machines.

    values[i, j, ...] = function(a=a[i], b=b[j], ...)     for every i, j, ...

The cells do not know of each other. Whichever of them fails or is never reached, the others keep
their places, and a file of results takes up where it ended.
"""

from __future__ import annotations

import itertools
import math
import os
import pickle
import reprlib
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array, check_room, check_shape, check_type
from lqrad.copies import ReadOnly
from lqrad.errors import ArgumentError, DtypeError
from lqrad.outside import (
    alone,
    as_path,
    check_names,
    naming,
    progress_bar,
    read_archive,
    replace_npz,
)
from lqrad.results import Report

__all__ = ["Sweep", "sweep"]

_VERSION = 1  # of the file's layout
_INTERVAL = 1.0  # the least time between two savings, in seconds
_LONGEST = 1000  # characters of an error that are kept: a file gives each error the longest's room
_KINDS = {  # of the arrays in a file, besides its version and its axes
    **dict.fromkeys(("axis_names", "outcome_names", "error_texts"), "U"),
    **dict.fromkeys(("values", "seconds"), "f"),
    "error_cells": "i",
    "done": "b",
}

_Axes = dict[str, NDArray[Any]]
_Outcome = tuple[dict[str, float] | str, float]  # of a cell: its numbers or its error, its seconds
_Found = tuple[int, _Outcome] | None  # which cell, and its outcome, or nothing yet


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(ReadOnly, Report):
    """What `sweep` returns: arrays with an axis for each name of the grid, in the grid's order.

    Attributes
    ----------
    axes : dict of name to array
        The values along each axis.
    values : dict of name to array of the grid's shape
        The outcomes, those of a function that returns plain numbers under "value"; NaN in cells
        that failed or were not run. Empty where no cell has an outcome: their names are unknown.
    errors : dict of index to str
        "ExceptionType: message" of each cell that failed, by its index in the grid.
    seconds : array of the grid's shape
        How long each cell took, where it was run; NaN where it was not, or its worker was lost.
    """

    axes: dict[str, NDArray[Any]]
    values: dict[str, Array]
    errors: dict[tuple[int, ...], str]
    seconds: Array

    @classmethod
    def load(cls, path: str | Path) -> Sweep:
        """Return what is in a file of results that this version writes, be it complete or not."""
        return _assembled(*_read(as_path(path)))

    def __repr__(self) -> str:
        grid = " x ".join(f"{name} ({len(axis)})" for name, axis in self.axes.items())
        done = np.count_nonzero(_done(self))
        text = f"{grid or 'no axes'}: {done} of {self.seconds.size} cells done"
        if self.errors:
            index, error = next(iter(self.errors.items()))
            text += f", {len(self.errors)} failed, at {index} with {error}"
        return f"<Sweep of {text}>"


def sweep(
    function: Callable[..., SupportsFloat | Mapping[str, SupportsFloat]],
    grid: Mapping[str, Sequence[Any] | NDArray[Any]],
    *,
    executor: Executor | None = None,
    progress: bool = False,
    path: str | Path | None = None,
) -> Sweep:
    """Call a function at every cell of a grid: at each combination of one value for each name.

    Parameters
    ----------
    function : callable
        Called as function(**cell), with a Python number or string for each name of the grid. It
        returns a real number, or a mapping of names to real numbers, the same names in every cell;
        arrays are not taken.
    grid : mapping of name to sequence
        The values along each axis: all numbers, or all strings. Equal values are cells of their
        own, and an empty axis leaves no cells.
    executor : concurrent.futures.Executor, optional
        Where to run the cells: a ThreadPoolExecutor, a ProcessPoolExecutor, Dask's
        `client.get_executor()`; in this process, one by one, when not given. It stays open. The
        workers of the latter two import lqrad; processes need a function that can be pickled, one
        from the top level of a module.
    progress : bool
        Show a progress bar (tqdm's), or without tqdm one line of text on stderr at the end.
    path : str or Path, optional
        A file of results (.npz), replaced as a whole about once a second and at the end, be it an
        interrupt. If it exists and is of the same grid, the cells that are done are taken from it;
        those that ended in an error are run again. Whether it is of the same function, it cannot
        tell. A sweep holds it for itself; while it runs, a file beside it that begins with a dot says so.

    Returns
    -------
    Sweep
        Its `errors` hold the exception of each cell that raised one, or whose worker was lost, or that
        returned anything else than described, or other names than the first cell of the grid did.
        KeyboardInterrupt and SystemExit are passed on, once what is done is saved and cells that have
        not begun are cancelled.

    Raises
    ------
    ArgumentError
        If the executor takes no work, or the file cannot be written, is in use by another sweep or is
        not one of this grid and version: it is left as it is.

    See Also
    --------
    conditioning : one such study, of radius and horizon.

    Examples
    --------
    >>> from lqrad.lq.problem import LQProblem
    >>> from lqrad.lq.riccati import riccati
    >>> def cost(R, T):
    ...     problem = LQProblem([[1, 0.1], [0, 1]], [[0], [0.1]], [[1, 0], [0, 1]], [[R]])
    ...     return riccati(problem, T).rollout([1, 0]).cost
    >>> result = sweep(cost, {"R": [0.1, 1, -1], "T": [10, 50]})
    >>> result.values["value"].round(2)
    array([[4.96, 6.91],
           [5.33, 9.17],
           [ nan,  nan]])
    >>> result.errors[2, 0]
    'NotConvexError: R has the eigenvalue -1, ...'
    """
    if not callable(function):
        raise ArgumentError(f"function is {reprlib.repr(function)}, expected a callable")
    axes = _checked_axes(grid)
    if executor is not None:
        check_type("executor", executor, Executor, "ThreadPoolExecutor() or client.get_executor()")
    if isinstance(executor, ProcessPoolExecutor):
        try:
            pickle.dumps(function)
        except Exception as error:  # PicklingError, AttributeError or TypeError, as it happens
            raise ArgumentError(
                f"function must be picklable for a ProcessPoolExecutor, and is not ({_worded(error)})",
                "define it at the top level of a module, or use a ThreadPoolExecutor",
            ) from error
    # The whole path, for a cell may change the directory.
    held = None if path is None else Path(os.path.realpath(as_path(path)))
    with nullcontext() if held is None else alone(held):
        return _run(function, _Record(axes, held), executor, progress)


def _run(
    function: Callable[..., Any], record: _Record, executor: Executor | None, progress: bool
) -> Sweep:
    """Run the cells that the record does not have, and keep it up to date."""
    record.open()
    axes = record.axes
    combinations = itertools.product(*(axis.tolist() for axis in axes.values()))
    cells = (
        (k, dict(zip(axes, combination, strict=True)))
        for k, combination in enumerate(combinations)
        if not record.done(k)
    )
    here = ((k, _timed(function, cell)) for k, cell in cells)
    outcomes = here if executor is None else _on(executor, function, cells)
    count = math.prod(map(len, axes.values()))
    done = sum(map(record.done, record.outcomes))
    bar = progress_bar("sweep", count, "cell", initial=done) if progress else None
    with nullcontext() if bar is None else bar:
        try:
            with closing(outcomes):  # which cancels what has not begun, whatever happens here
                for found in outcomes:
                    record.take(found)
                    if bar is not None and found is not None:
                        bar.update()
        finally:
            record.save()
    result = _assembled(axes, record.outcomes)
    if progress and bar is None:
        print(result, file=sys.stderr)
    return result


# --- running the cells ----------------------------------------------------------------------------


def _timed(function: Callable[..., Any], cell: dict[str, Any], ticket: object = None) -> _Outcome:
    """Run one cell where it is, a worker perhaps; nothing comes back that cannot be pickled."""
    began = time.perf_counter()
    try:
        found: dict[str, float] | str = _numbers(function(**cell))
    except Exception as error:  # whatever a user's function raises is the outcome of its cell
        found = _worded(error)
    return found, time.perf_counter() - began


def _numbers(result: object) -> dict[str, float]:
    """The outcomes that a function returned, by name."""
    if not isinstance(result, Mapping):
        return {"value": _number("", result)}
    if not result or not all(map(_is_name, result)):
        raise DtypeError(
            f"function returned {reprlib.repr(result)}, expected names as the keys of the mapping"
        )
    return {name: _number(f" as {name!r}", value) for name, value in result.items()}


def _is_name(name: object) -> bool:
    """Whether this is a text that an array of texts keeps: one that ends in a NUL is cut there."""
    return isinstance(name, str) and not name.endswith("\0")


def _number(where: str, value: Any) -> float:
    with suppress(ValueError):  # NumPy's, of a list with rows of unequal length
        array = np.asarray(value)
        if array.ndim == 0 and array.dtype.kind in "biuf":
            return float(array)
    raise DtypeError(
        f"function returned {reprlib.repr(value)}{where}, "
        f"expected a real number{'' if where else ' or a mapping of names to real numbers'}"
    )


def _worded(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = f"{name}: {error}"
    except Exception as fault:  # a fault in how the user's error words itself
        text = f"{name}, whose text raises {type(fault).__name__}"
    text = text.replace("\0", "\\0")  # NumPy drops those at the end
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _on(
    executor: Executor,
    function: Callable[..., Any],
    cells: Iterable[tuple[int, dict[str, Any]]],
) -> Generator[_Found, None, None]:
    """Run the cells on an executor, as they finish; now and then nothing, so that one can save."""
    # A queue, for concurrent.futures.wait looks at all futures again after each one.
    finished: SimpleQueue[Future[_Outcome]] = SimpleQueue()
    waiting: dict[Future[_Outcome], int] = {}
    sweep_id, refused = uuid.uuid4().hex, True

    def next_outcome() -> _Found:
        with suppress(Empty):
            future = finished.get(timeout=_INTERVAL)
            return waiting.pop(future), _outcome(future)
        return None

    try:
        for k, cell in cells:
            try:
                # Dask runs equal calls once and keeps the result: no two tickets are equal.
                future = executor.submit(_timed, function, cell, f"{sweep_id}-{k}")
            except Exception as error:  # each kind of pool has its own, of being closed or broken
                if refused:
                    raise ArgumentError(
                        f"executor took not even the first cell: {_worded(error)}; "
                        "is it still open, and can function be pickled?"
                    ) from error
                yield k, (_worded(error), math.nan)
                continue
            refused = False
            waiting[future] = k
            future.add_done_callback(finished.put)
            while not finished.empty():
                yield next_outcome()
        while waiting:
            yield next_outcome()
    finally:
        for future in waiting:
            future.cancel()


def _outcome(future: Future[_Outcome]) -> _Outcome:
    """What came of a cell; of one whose worker was lost, the words of the executor."""
    try:
        return future.result()
    except (KeyboardInterrupt, SystemExit):
        raise
    except CancelledError:  # which has no words
        return "CancelledError: the executor gave the cell up", math.nan
    except BrokenExecutor as error:
        hint = "was a worker killed, out of memory, or unable to import function?"
        return f"{_worded(error)} ({hint})", math.nan
    except BaseException as error:  # whatever a pool sends back that ended the cell's worker
        return _worded(error), math.nan


# --- the grid, and what came of it ----------------------------------------------------------------


def _checked_axes(grid: Mapping[str, Any]) -> _Axes:
    """The values along each axis, as read-only arrays that hold exactly what was given."""
    check_type("grid", grid, Mapping, "dict(tol=[1e-3, 1e-6], method=['gradient', 'nesterov'])")
    axes = {}
    for name, given in grid.items():
        if not _is_name(name):
            raise ArgumentError(f"grid has the key {name!r}, expected the name of an argument")
        with suppress(ValueError):  # NumPy's, of rows of unequal length
            axis = np.array(given)
            if axis.dtype.kind == "f":
                axis = axis.astype(np.float64)
            if axis.ndim == 1 and axis.dtype.kind in "biufU":
                axis.setflags(write=False)
                axes[name] = axis
        if name not in axes:
            raise ArgumentError(
                f"grid[{name!r}] is {reprlib.repr(given)}, expected a sequence of numbers or of "
                "strings; write a single value as [value]"
            )
        for i, (value, held) in enumerate(zip(given, axes[name].tolist(), strict=True)):
            if value == value and value != held:  # NaN stays NaN
                raise ArgumentError(
                    f"grid[{name!r}] holds {value!r} at {i}, of which one array with all its "
                    f"values makes {held!r}; expected values of one kind"
                )
    try:
        np.empty([1, *(1 for _ in axes)])  # in a file the outcomes have an axis more
    except ValueError as error:
        raise ArgumentError(
            f"grid has {len(axes)} names, more than a NumPy array has axes",
            "leave out those with one value, or sweep in parts",
        ) from error
    check_room("the outcomes of this grid", *map(len, axes.values()))
    return axes


def _assembled(axes: _Axes, outcomes: dict[int, _Outcome]) -> Sweep:
    """Put the outcomes into arrays; which names there are, the first cell that has any decides."""
    shape = tuple(len(axis) for axis in axes.values())
    ordered = sorted(outcomes.items())
    first = next((list(found) for _, (found, _) in ordered if isinstance(found, dict)), [])
    values = {name: np.full(shape, np.nan) for name in first}
    seconds = np.full(shape, np.nan)
    errors = {}
    for k, (found, took) in ordered:
        index = tuple(int(i) for i in np.unravel_index(k, shape))
        seconds[index] = took
        if isinstance(found, dict) and found.keys() != values.keys():
            found = (
                f"ArgumentError: function returned {', '.join(found)}, "
                f"expected {', '.join(first)} as in an earlier cell"
            )
        if isinstance(found, str):
            errors[index] = found
        else:
            for name, number in found.items():
                values[name][index] = number
    return Sweep(axes, values, errors, seconds)


def _done(result: Sweep) -> NDArray[np.bool_]:
    """Which cells have an outcome; it may be NaN."""
    done = np.array(~np.isnan(result.seconds))  # an array, even of a grid without axes
    for index in result.errors:
        done[index] = False
    return done


# --- the file -------------------------------------------------------------------------------------


@dataclass
class _Record:
    """The outcomes so far, and the file that they are kept in."""

    axes: _Axes
    path: Path | None
    outcomes: dict[int, _Outcome] = field(default_factory=dict)
    unsaved: bool = False
    due: float = 0.0  # when to save next

    def open(self) -> None:
        """Take what the file has, or write a first one: better refused now than after the work."""
        if self.path is None or not self.path.exists():
            self.unsaved = True
            self.save()
            return
        axes, self.outcomes = _read(self.path)
        if difference := _difference(axes, self.axes):
            raise ArgumentError(
                f"{self.path} is of another grid: {difference}",
                "choose another path, or remove the file",
            )

    def done(self, k: int) -> bool:
        return k in self.outcomes and isinstance(self.outcomes[k][0], dict)

    def take(self, found: _Found) -> None:
        """Take the outcome of a cell, if there is one, and save where that is due."""
        if found is not None:
            self.outcomes[found[0]] = found[1]
            self.unsaved = True
        if time.monotonic() >= self.due:
            self.save()

    def save(self) -> None:
        if self.path is None or not self.unsaved:
            return
        began = time.monotonic()
        _write(self.path, _assembled(self.axes, self.outcomes))
        now = time.monotonic()
        # A large grid takes long to write; that shall not be what the time goes to.
        self.unsaved, self.due = False, now + max(_INTERVAL, 10 * (now - began))


def _difference(held: _Axes, wanted: _Axes) -> str:
    """In what the axes of a file differ from those of the call; nothing if in nothing."""
    if list(held) != list(wanted):
        return f"its axes are {', '.join(held) or 'none'}, expected {', '.join(wanted) or 'none'}"
    for name in held:
        # As text, where 1 and 1.0 differ, 0.0 and -0.0 differ, and NaN is NaN.
        own, other = (list(map(repr, axes[name].tolist())) for axes in (held, wanted))
        if len(own) != len(other):
            return f"its axis {name!r} has {len(own)} values, expected {len(other)}"
        for i, (one, expected) in enumerate(zip(own, other, strict=True)):
            if one != expected:
                return f"its axis {name!r} has {one} at {i}, expected {expected}"
    return ""


def _write(path: Path, result: Sweep) -> None:
    """Replace the file as a whole: whenever the machine stops, it is the old one or the new."""
    shape = result.seconds.shape
    arrays: dict[str, Any] = {
        "sweep_version": np.array(_VERSION),
        "axis_names": np.array(list(result.axes), dtype=str),
        **{f"axis_{i}": axis for i, axis in enumerate(result.axes.values())},
        "outcome_names": np.array(list(result.values), dtype=str),
        "values": np.array(list(result.values.values())).reshape(len(result.values), *shape),
        "done": _done(result),
        "seconds": result.seconds,
        "error_cells": np.array(list(result.errors), np.int64).reshape(
            len(result.errors), len(shape)
        ),
        "error_texts": np.array(list(result.errors.values()), dtype=str),
    }
    replace_npz(path, **arrays)


def _read(path: Path) -> tuple[_Axes, dict[int, _Outcome]]:
    """The axes and the outcomes that a file holds, once they are found to be such as `_write` writes."""
    data = read_archive(path, "sweep", _VERSION, ".npz")
    axes_held = [name for name in data if name.startswith("axis_") and name != "axis_names"]
    check_names(path, data, tuple(_KINDS), tuple(axes_held), "a file of a sweep's results")
    with naming(path):
        for name, kind in _KINDS.items():
            if data[name].dtype.kind != kind:
                raise DtypeError(f"{name} is of type {data[name].dtype}")
        keys = data["axis_names"].ravel().tolist()
        if sorted(axes_held) != sorted(f"axis_{i}" for i in range(len(set(keys)))):
            raise ArgumentError(f"its axes {', '.join(axes_held)} do not fit axis_names {keys}")
        axes = _checked_axes({key: data[f"axis_{i}"] for i, key in enumerate(keys)})
        shape = tuple(len(axis) for axis in axes.values())
        names, texts = data["outcome_names"], data["error_texts"]
        for name, expected in [
            ("axis_names", (len(axes),)),
            ("outcome_names", (names.size,)),
            ("error_texts", (texts.size,)),
            ("values", (names.size, *shape)),
            ("done", shape),
            ("seconds", shape),
            ("error_cells", (texts.size, len(shape))),
        ]:
            check_shape(name, data[name], expected, "to match its axes and names")
        if not ((data["error_cells"] >= 0) & (data["error_cells"] < shape)).all():
            raise ArgumentError("error_cells holds a cell that is not in the grid")
    return axes, _outcomes(data, shape)


def _outcomes(data: dict[str, Any], shape: tuple[int, ...]) -> dict[int, _Outcome]:
    """What the arrays of a file say of each cell that was run."""
    names, times = data["outcome_names"].tolist(), data["seconds"].ravel().tolist()
    rows = data["values"].reshape(len(names), math.prod(shape)).T.tolist()
    found: dict[int, dict[str, float] | str] = {
        k: dict(zip(names, rows[k], strict=True)) for k in np.flatnonzero(data["done"]).tolist()
    }
    for index, text in zip(data["error_cells"].tolist(), data["error_texts"].tolist(), strict=True):
        found[int(np.ravel_multi_index(index, shape)) if shape else 0] = text
    return {k: (outcome, times[k]) for k, outcome in found.items()}
