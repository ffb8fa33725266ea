"""Models in files: the arrays of a problem as JSON, .npz or .mat; series as .csv; parameters.

A file of a linear-quadratic problem holds A, B, Q and R, and if there are any S, M, c, q, r, s, an
initial state x0 and a horizon T; one of a smoothing problem A, C, W and V, and if there are any
m0, P0, c, d: each under its own name. What varies in time has a leading axis of stages. The
parameters of a network, and the arrays of a controller, go to a file and come back bit for bit.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.design.controller import Controller
from lqrad.design.observer import Observer
from lqrad.errors import (
    ArgumentError,
    Array,
    LqradError,
    check_shape,
    check_type,
    frozen_array,
    real_array,
)
from lqrad.outside import replace_file, replace_npz
from lqrad.problems.lq import LQProblem
from lqrad.problems.sampling import discretise
from lqrad.problems.smoothing import SmoothingProblem
from lqrad.problems.statespace import StateSpace

_REQUIRED = ("A", "B", "Q", "R")
_OPTIONAL = ("S", "M", "c", "q", "r", "s", "x0", "T")
_VECTORS = ("c", "q", "r", "s", "x0", "m0", "d")
_PARAMETERS_VERSION = 1  # of the layout of a file of parameters


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
    with _naming(path):
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
    with _naming(path):
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
    with _naming(path):
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
            arguments["input_bounds"] = tuple(map(_without_null, ends, infinite))
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


def save_parameters(path: str | Path, theta: Mapping[str, ArrayLike]) -> None:
    """Write the parameters of a network to a file, which `load_parameters` reads bit for bit.

    Parameters
    ----------
    path : str or Path
        A name that ends in .npz. A file of this name is replaced as a whole: whenever the machine
        stops, it is the old one or the new.
    theta : dict of name to array
        Any names, arrays of real numbers of any shapes.

    Raises
    ------
    ArgumentError
        If the name ends otherwise, or the file cannot be written.
    DtypeError
        If an array does not hold real numbers; names it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "network.npz"
    ...     save_parameters(path, {"W1": [[0.5, -1.0]], "b1": [0.1]})
    ...     load_parameters(path)
    {'W1': array([[ 0.5, -1. ]]), 'b1': array([0.1])}
    """
    path = _with_ending(path, (".npz",))
    check_type("theta", theta, Mapping, "graph.initial(rng)")
    names = np.array(list(theta), dtype=str)
    if names.tolist() != list(theta):  # a number, or a text that NumPy would shorten
        raise ArgumentError(
            f"theta has the keys {', '.join(map(repr, theta))}, expected texts without NULs"
        )
    # Under numbers: savez has arguments of its own, which a name must not meet.
    arrays: dict[str, Any] = {
        f"parameter_{i}": real_array(f"theta[{name!r}]", value)
        for i, (name, value) in enumerate(theta.items())
    }
    replace_npz(path, parameters_version=np.array(_PARAMETERS_VERSION), names=names, **arrays)


def load_parameters(path: str | Path) -> dict[str, Array]:
    """Read the parameters that `save_parameters` wrote, in the same order.

    Parameters
    ----------
    path : str or Path
        A file whose name ends in .npz.

    Returns
    -------
    dict of name to array

    Raises
    ------
    ArgumentError
        If the file cannot be read, or is not one of parameters, or of another version.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_parameters(f"{folder}/line.npz", {"W": [[2.0]], "b": [1.0]})
    ...     load_parameters(f"{folder}/line.npz")
    {'W': array([[2.]]), 'b': array([1.])}
    """
    path = _with_ending(path, (".npz",))
    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}") from error
    try:
        data = _read_npz(content)
        version = data["parameters_version"].item()
        theta = {}
        if version == _PARAMETERS_VERSION:
            for i, name in enumerate(data["names"].tolist()):
                theta[name] = data[f"parameter_{i}"]
                if theta[name].dtype != np.float64:
                    raise TypeError(f"{name!r} is of type {theta[name].dtype}")
    except Exception as error:  # a damaged file raises whatever it trips over
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ArgumentError(
            f"{path} is not a file of parameters: {reason}; save_parameters writes one"
        ) from error
    if version != _PARAMETERS_VERSION:
        raise ArgumentError(
            f"{path} is of version {version}, expected {_PARAMETERS_VERSION}; "
            "read it with the version of lqrad that wrote it"
        )
    return theta


_CONTROLLER = ("A", "B", "C", "L", "K", "K_i", "H", "F", "low", "high", "dt")
_CONTROLLER_VERSION = 1  # of the layout of a file of a controller


def save_controller(path: str | Path, controller: Controller) -> None:
    """Write a controller to a file, which `load_controller` reads bit for bit.

    Parameters
    ----------
    path : str or Path
        A name that ends in .json or .npz. A file of this name is replaced as a whole. It holds the
        arrays of `Controller` under their names, dt, and the version of this layout; in .json an
        infinite limit is null.
    controller : Controller
        Its design; what it remembers of a run is not written.

    Raises
    ------
    ArgumentError
        If the name ends otherwise, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from lqrad import StateSpace, lqi
    >>> controller = lqi(StateSpace([[0.9]], [[0.1]], dt=0.1), [[1]], [[1]], [[0.1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_controller(f"{folder}/speed.json", controller)
    ...     load_controller(f"{folder}/speed.json").K == controller.K
    array([[ True]])
    """
    path = _with_ending(path, (".json", ".npz"))
    check_type("controller", controller, Controller, "lqi(plant, Q, R, Q_i)")
    sources = {"A": controller.observer, "B": controller.observer, "C": controller.observer}
    sources["L"] = controller.observer
    arrays = {name: getattr(sources.get(name, controller), name) for name in _CONTROLLER}
    if path.suffix.lower() == ".npz":
        replace_npz(path, controller_version=np.array(_CONTROLLER_VERSION), **arrays)
        return
    data: dict[str, Any] = {"controller_version": _CONTROLLER_VERSION}
    data |= {name: np.asarray(array).tolist() for name, array in arrays.items()}
    for name in ("low", "high"):
        data[name] = [value if np.isfinite(value) else None for value in data[name]]
    # Python writes a float so that it reads back to the same bits.
    text = json.dumps(data, indent=1, allow_nan=False)
    replace_file(path, lambda file: file.write(f"{text}\n".encode()))


def load_controller(path: str | Path) -> Controller:
    """Read a controller that `save_controller` wrote; it starts with an empty memory.

    Parameters
    ----------
    path : str or Path
        A file whose name ends in .json or .npz.

    Returns
    -------
    Controller

    Raises
    ------
    ArgumentError
        If the file cannot be read, or is not one of a controller, or of another version.
    ShapeError, DtypeError, NonFiniteError
        If its arrays are no controller. Names the file.

    Examples
    --------
    >>> import tempfile
    >>> from lqrad import StateSpace, lqi
    >>> controller = lqi(StateSpace([[0.9]], [[0.1]], dt=0.1), [[1]], [[1]], [[0.1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_controller(f"{folder}/speed.npz", controller)
    ...     load_controller(f"{folder}/speed.npz")
    Controller(n=1, m=1, ny=1, dt=0.1 s, 1 tracked with integral action)
    """
    path = _with_ending(path, (".json", ".npz"))
    data = _read(path)
    version = data.pop("controller_version", None)
    if version is None:
        raise ArgumentError(
            f"{path} is not a file of a controller: it lacks controller_version; save_controller "
            "writes one"
        )
    if version != _CONTROLLER_VERSION:
        raise ArgumentError(
            f"{path} is of version {version}, expected {_CONTROLLER_VERSION}; "
            "read it with the version of lqrad that wrote it"
        )
    _check_names(path, data, _CONTROLLER, (), "a controller")
    low, high = _without_null(data["low"], -np.inf), _without_null(data["high"], np.inf)
    nr = len(data["H"])
    with _naming(path):
        observer = Observer(data["A"], data["B"], data["C"], data["L"])
        n, m = observer.B.shape
        shapes = {"H": (nr, n), "K_i": (m, nr), "F": (m, nr)}
        # An array without entries has lost its shape in JSON.
        wide = {k: np.reshape(data[k], z) if not nr else data[k] for k, z in shapes.items()}
        return Controller(
            observer, data["K"], dt=float(data["dt"]), input_bounds=(low, high), **wide
        )


def _with_ending(path: str | Path, endings: tuple[str, ...]) -> Path:
    path = Path(path)
    if path.suffix.lower() not in endings:
        wanted = endings[0] if len(endings) == 1 else f"one of: {', '.join(endings)}"
        raise ArgumentError(f"{path} ends in {path.suffix!r}, expected {wanted}")
    return path


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


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Put the file's name before what is wrong with its contents."""
    try:
        yield
    except LqradError as error:
        raise type(error)(f"{path}: {error}") from error


def _read_arrays(
    path: str | Path, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    """Read named arrays, all of the required ones and none but the optional ones besides."""
    data = _read(_with_ending(path, tuple(_READERS)))
    _check_names(path, data, required, optional, "a model")
    return data


def _read(path: Path) -> dict[str, Any]:
    """Read a file of named arrays."""
    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _READERS[path.suffix.lower()](content)
    except Exception as error:  # a reader of a damaged file raises whatever it trips over
        reason = " ".join(str(error).split())
        raise ArgumentError(f"{path} is not a valid {path.suffix} file: {reason}") from error


def _check_names(
    path: str | Path,
    data: dict[str, Any],
    required: tuple[str, ...],
    optional: tuple[str, ...],
    what: str,
) -> None:
    missing = [name for name in required if name not in data]
    unknown = [name for name in data if name not in required + optional]
    if missing or unknown:
        fault = f"lacks {', '.join(missing)}" if missing else f"holds {', '.join(unknown)}"
        more = f" and may have {', '.join(optional)}" if optional else ""
        raise ArgumentError(f"{path} {fault}; {what} has {', '.join(required)}{more}")


def _read_json(content: io.BytesIO) -> dict[str, Any]:
    data = json.load(content)
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}, expected an object of arrays")
    return data


def _read_npz(content: io.BytesIO) -> dict[str, Any]:
    if not zipfile.is_zipfile(content):  # NumPy would take it for a pickle
        raise TypeError("it is no archive such as numpy.savez writes")
    content.seek(0)
    with np.load(content, allow_pickle=False) as archive:
        return dict(archive)


def _read_mat(content: io.BytesIO) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.sparse import issparse

    data = {name: value for name, value in loadmat(content).items() if not name.startswith("__")}
    for name, value in data.items():
        if issparse(value):
            data[name] = value.toarray()
    for name in _VECTORS:  # MATLAB has none, only rows and columns
        width = np.shape(data.get("B" if name == "r" else "A", ()))[-1:]
        if name == "d":
            width = np.shape(data.get("C", ()))[-2:-1]
        if name in data and np.shape(data[name]) in ((1, *width), (*width, 1)):
            data[name] = np.ravel(data[name])
    return data


def _without_null(limit: Any, infinite: float) -> Any:
    """A limit with an infinite one in the place of each null."""
    if isinstance(limit, list):
        return [infinite if value is None else value for value in limit]
    return infinite if limit is None else limit


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


_READERS: dict[str, Callable[[io.BytesIO], dict[str, Any]]] = {
    ".json": _read_json,
    ".npz": _read_npz,
    ".mat": _read_mat,
}
