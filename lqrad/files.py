"""Models in files: the arrays of a problem or a plant as JSON, .npz or .mat; series as .csv.

A file of a linear-quadratic problem holds A, B, Q and R, and if there are any S, M, c, q, r, s, an
initial state x0 and a horizon T; one of a smoothing problem A, C, W and V, and if there are any
m0, P0, c, d; one of a plant is told of at `load_plant`: each under its own name. What varies in time
has a leading axis of stages.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lqrad.arguments import Array, check_shape, frozen_array, real_array
from lqrad.errors import ArgumentError
from lqrad.outside import READERS, check_names, naming, read_named, with_ending, without_null
from lqrad.problems.lq import LQProblem
from lqrad.problems.sampling import discretise
from lqrad.problems.smoothing import SmoothingProblem
from lqrad.problems.statespace import StateSpace

_REQUIRED = ("A", "B", "Q", "R")
_OPTIONAL = ("S", "M", "c", "q", "r", "s", "x0", "T")


@dataclass(frozen=True)
class Model:
    """What a file holds: a problem, and an initial state and a horizon where it gives them."""

    problem: LQProblem
    x0: Array | None
    T: int | None


def load_model(path: str | Path) -> Model:
    """Read a model file.

    Parameters
    ----------
    path : str or Path
        A file whose name ends in .json, .npz or .mat (MATLAB's format up to version 7).

    Returns
    -------
    Model

    Raises
    ------
    ArgumentError
        If the file cannot be read, lacks a matrix or holds a name that is not known.
    ArgumentError, ShapeError, DtypeError, NonFiniteError, NotConvexError
        If its arrays are no problem, see LQProblem, or x0 or T do not fit them. Names the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.json"
    ...     _ = path.write_text('{"A": [[0.5]], "B": [[1]], "Q": [[1]], "R": [[1]], "x0": [8]}')
    ...     load_model(path).x0
    array([8.])
    """
    data = _read_arrays(path, _REQUIRED, _OPTIONAL)
    x0, T = data.pop("x0", None), data.pop("T", None)
    with naming(path):
        problem = LQProblem(**data)
        if x0 is not None:
            x0 = frozen_array("x0", x0)
            check_shape("x0", x0, (problem.n,), f"to match A {problem.A.shape}", symbols="(n,)")
        if T is not None:
            T = problem.horizon(_whole(T))
    return Model(problem, x0, T if problem.T is None else problem.T)


def load_smoothing_model(path: str | Path) -> SmoothingProblem:
    """Read a model file for smoothing: A, C, W, V, and if there are any m0, P0, c, d.

    Parameters
    ----------
    path : str or Path
        A file whose name ends in .json, .npz or .mat. Without P0 there is no prior.

    Returns
    -------
    SmoothingProblem

    Raises
    ------
    ArgumentError
        If the file cannot be read, lacks a matrix or holds a name that is not known.
    ShapeError, DtypeError, NonFiniteError, NotConvexError
        If its arrays are no model; see SmoothingProblem.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.json"
    ...     _ = path.write_text('{"A": [[1]], "C": [[1]], "W": [[1469.1]], "V": [[15099]]}')
    ...     load_smoothing_model(path)
    SmoothingProblem(n=1, ny=1, time-invariant, no prior)
    """
    data = _read_arrays(path, ("A", "C", "W", "V"), ("m0", "P0", "c", "d"))
    with naming(path):
        return SmoothingProblem(**{"m0": None, "P0": None, **data})


_PLANT = ("A", "B", "Q", "R", "dt")
_PLANT_OPTIONAL = (
    "C",
    "M",
    "W",
    "V",
    "Q_i",
    "tracked",
    "low",
    "high",
    "input_delay",
    "discrete",
    "reference",
    "x0",
)


@dataclass(frozen=True)
class PlantFile:
    """What a file of a plant holds: the sampled plant, and the arguments of `design_controller`."""

    plant: StateSpace
    arguments: dict[str, Any]


def load_plant(path: str | Path) -> PlantFile:
    """Read a plant and what its controller is to be designed for.

    Parameters
    ----------
    path : str or Path
        A file whose name ends in .json, .npz or .mat. It holds A, B, Q, R of a model in continuous
        time, with weights per second, and dt, the time in seconds at which it is sampled; where
        `discrete` is given and not 0, of a model in discrete time with weights per step. It may
        hold C (what is measured; the state if there is none), M, W, V (covariances per step, of an
        estimator), tracked and Q_i (integral action), low and high (limits of the inputs; null in
        .json where there is none), input_delay in seconds, a reference and an initial state x0.

    Returns
    -------
    PlantFile

    Raises
    ------
    ArgumentError
        If the file cannot be read, lacks an array or holds a name that is not known.
    ArgumentError, ShapeError, DtypeError, NonFiniteError, NotConvexError
        If the arrays do not fit each other. Names the file.

    Examples
    --------
    >>> import tempfile
    >>> text = '{"A": [[-1]], "B": [[1]], "Q": [[1]], "R": [[1]], "dt": 0.1, "low": -2}'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "motor.json"
    ...     _ = path.write_text(text)
    ...     load_plant(path).plant.A.round(4)
    array([[0.9048]])
    """
    data = _read_arrays(path, _PLANT, _PLANT_OPTIONAL)
    with naming(path):
        A, B, C = data.pop("A"), data.pop("B"), data.pop("C", None)
        weights = {name: data.pop(name, None) for name in "QRM"}
        dt, delay = (
            _number("dt", data.pop("dt")),
            _number("input_delay", data.pop("input_delay", 0)),
        )
        if _number("discrete", data.pop("discrete", 0)):
            if delay:
                raise ArgumentError(
                    "input_delay is given with a discrete model; append the inputs before as states"
                )
            plant = StateSpace(A, B, C, dt=dt)
            arguments = {name: z for name, z in weights.items() if z is not None}
        else:
            sampled = discretise(A, B, **weights, dt=dt, input_delay=delay)
            plant = sampled.plant(C)
            arguments = {"Q": sampled.Q, "R": sampled.R, "M": sampled.M}
        ends = [data.pop("low", None), data.pop("high", None)]
        if ends != [None, None]:
            infinite = (-np.inf, np.inf)
            arguments["input_bounds"] = tuple(map(without_null, ends, infinite))
    return PlantFile(plant, arguments | data)


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
        A first line that is not of numbers is a header. Where there is one column more than there
        are outputs, the first holds labels, such as dates. An entry that is empty, or one of nan
        and NA, was not observed.
    columns : int
        The number of outputs.

    Returns
    -------
    Series

    Raises
    ------
    ArgumentError
        If the file cannot be read, or a row has another length or an entry that is no number;
        names the line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "series.csv"
    ...     _ = path.write_text("year,flow\n1871,1120\n1872,\n")
    ...     series = load_series(path, columns=1)
    >>> series.y.ravel(), series.labels, series.names
    (array([1120.,   nan]), ['1871', '1872'], ['year', 'flow'])
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} cannot be read: {error}") from error
    lines = [(k, row) for k, row in enumerate(csv.reader(io.StringIO(text)), 1) if row]
    header: list[str] | None = None
    words = [entry for entry in lines[0][1] if not _is_missing(entry)] if lines else []
    if words and all(_is_word(entry) for entry in words):
        header = lines.pop(0)[1]
    if not lines:
        raise ArgumentError(f"{path} holds no rows of numbers")
    labelled = len(lines[0][1]) == columns + 1
    y = np.empty((len(lines), columns))
    for row, (k, entries) in zip(y, lines, strict=True):
        if len(entries) != columns + labelled:
            raise ArgumentError(
                f"{path}, line {k} has {len(entries)} entries, expected {columns + labelled}: "
                f"{'a label and ' if labelled else ''}one for each of {columns} outputs"
            )
        for i, entry in enumerate(entries[labelled:]):
            if not (_is_number(entry) or _is_missing(entry)):
                raise ArgumentError(
                    f"{path}, line {k}: {entry!r} is not a number; leave what was not observed empty"
                )
            row[i] = float(entry) if _is_number(entry) else np.nan
    labels = [entries[0] for _, entries in lines] if labelled else None
    return Series(y, labels, header if header and len(header) == columns + labelled else None)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _is_word(text: str) -> bool:
    try:
        float(text)  # inf and 1e400 are numbers gone wrong, not names
    except ValueError:
        return any(character.isalpha() for character in text)
    return False


def _is_missing(text: str) -> bool:
    return text.strip().lower() in ("", "nan", "na")


def _read_arrays(
    path: str | Path, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    """Read named arrays, all of the required ones and none but the optional ones besides."""
    data = read_named(with_ending(path, tuple(READERS)))
    check_names(path, data, required, optional, "a model")
    return data


def _number(name: str, value: Any) -> float:
    """A number, also where it stands in a box: np.array(0.1), [[0.1]]."""
    array = real_array(name, value)
    if array.size != 1:
        raise ArgumentError(f"{name} has shape {array.shape}, expected one number")
    return float(array.reshape(()))


def _whole(T: Any) -> Any:
    """A horizon as a plain int where it is one in a box: np.array(50), [[50.0]]."""
    if isinstance(T, np.ndarray) and T.size == 1 and T.dtype.kind in "iuf":
        T = T.item()
    return int(T) if isinstance(T, float) and T.is_integer() else T
