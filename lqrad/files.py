"""Models in files: the arrays of a linear-quadratic problem as JSON, .npz or .mat.

A file holds A, B, Q and R, and if there are any S, M, c, q, r, s, an initial state x0 and a horizon
T, each under its own name. What varies in time has a leading axis of T stages.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lqrad.errors import ArgumentError, Array, LqradError, check_shape, frozen_array
from lqrad.problems.lq import LQProblem

_REQUIRED = ("A", "B", "Q", "R")
_OPTIONAL = ("S", "M", "c", "q", "r", "s", "x0", "T")
_VECTORS = ("c", "q", "r", "s", "x0")


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
    path = Path(path)
    readers = {".json": _read_json, ".npz": _read_npz, ".mat": _read_mat}
    if path.suffix.lower() not in readers:
        raise ArgumentError(
            f"{path} ends in {path.suffix!r}, expected one of: {', '.join(readers)}"
        )
    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}") from error
    try:
        data = readers[path.suffix.lower()](content)
    except Exception as error:  # a reader of a damaged file raises whatever it trips over
        reason = " ".join(str(error).split())
        raise ArgumentError(f"{path} is not a valid {path.suffix} file: {reason}") from error
    missing = [name for name in _REQUIRED if name not in data]
    unknown = [name for name in data if name not in _REQUIRED + _OPTIONAL]
    if missing or unknown:
        fault = f"lacks {', '.join(missing)}" if missing else f"holds {', '.join(unknown)}"
        raise ArgumentError(
            f"{path} {fault}; a model has {', '.join(_REQUIRED)} and may have "
            f"{', '.join(_OPTIONAL)}"
        )
    x0, T = data.pop("x0", None), data.pop("T", None)
    try:
        problem = LQProblem(**data)
        if x0 is not None:
            x0 = frozen_array("x0", x0)
            check_shape("x0", x0, (problem.n,), f"to match A {problem.A.shape}", symbols="(n,)")
        if T is not None:
            T = problem.horizon(_whole(T))
    except LqradError as error:
        raise type(error)(f"{path}: {error}") from error
    return Model(problem, x0, T if problem.T is None else problem.T)


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
        if name in data and np.shape(data[name]) in ((1, *width), (*width, 1)):
            data[name] = np.ravel(data[name])
    return data


def _whole(T: Any) -> Any:
    """A horizon as a plain int where it is one in a box: np.array(50), [[50.0]]."""
    if isinstance(T, np.ndarray) and T.size == 1 and T.dtype.kind in "iuf":
        T = T.item()
    return int(T) if isinstance(T, float) and T.is_integer() else T
