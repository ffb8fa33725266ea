"""What reaches beyond arrays: a progress bar, files of named arrays, files replaced as a whole."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lqrad.errors import ArgumentError, LqradError


def progress_bar(name: str, total: int, unit: str, *, initial: int = 0) -> Any:
    """Return a progress bar of tqdm's, or None where it is not installed.

    Parameters
    ----------
    name : str
        What makes the progress.
    total, initial : int
        How many units there are, and how many are done.
    unit : str
    """
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=initial, desc=name, unit=unit)


def replace_npz(path: Path, **arrays: Any) -> None:
    """Write arrays to a .npz: whenever the machine stops, the file is the old one or the new.

    Parameters
    ----------
    path : Path
    **arrays
        By names that `numpy.savez` has no arguments of.

    Raises
    ------
    ArgumentError
        If it cannot be written.
    """
    replace_file(path, lambda file: np.savez(file, **arrays))


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file by a function: whenever the machine stops, it is the old one or the new.

    Raises
    ------
    ArgumentError
        If it cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise ArgumentError(
            f"{path} cannot be written: {error.strerror or error}; "
            f"is {path.parent} a directory to write in, with room left?"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def with_ending(path: str | Path, endings: tuple[str, ...]) -> Path:
    """Return a path; raise ArgumentError unless its name has one of the endings."""
    path = Path(path)
    if path.suffix.lower() not in endings:
        wanted = endings[0] if len(endings) == 1 else f"one of: {', '.join(endings)}"
        raise ArgumentError(f"{path} ends in {path.suffix!r}, expected {wanted}")
    return path


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Put the file's name before what is wrong with its contents."""
    try:
        yield
    except LqradError as error:
        raise error.within(str(path)) from error


def read_named(path: Path) -> dict[str, Any]:
    """Read a file of named arrays."""
    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return READERS[path.suffix.lower()](content)
    except Exception as error:  # a reader of a damaged file raises whatever it trips over
        reason = " ".join(str(error).split())
        raise ArgumentError(f"{path} is not a valid {path.suffix} file: {reason}") from error


def check_names(
    path: str | Path,
    data: dict[str, Any],
    required: tuple[str, ...],
    optional: tuple[str, ...],
    what: str,
) -> None:
    """Raise ArgumentError unless data holds all required names, and none but optional ones besides."""
    missing = [name for name in required if name not in data]
    unknown = [name for name in data if name not in required + optional]
    if missing or unknown:
        fault = f"lacks {', '.join(missing)}" if missing else f"holds {', '.join(unknown)}"
        more = f" and may have {', '.join(optional)}" if optional else ""
        raise ArgumentError(f"{path} {fault}; {what} has {', '.join(required)}{more}")


def without_null(limit: Any, infinite: float) -> Any:
    """A limit with an infinite one in the place of each null."""
    if isinstance(limit, list):
        return [infinite if value is None else value for value in limit]
    return infinite if limit is None else limit


# What a .mat file holds as rows or columns, since MATLAB has no vectors.
_VECTORS = ("c", "q", "r", "s", "x0", "m0", "d", "low", "high", "reference")


def _read_json(content: io.BytesIO) -> dict[str, Any]:
    data = json.load(content)
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}, expected an object of arrays")
    return data


def read_npz(content: io.BytesIO) -> dict[str, Any]:
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
        width = np.shape(data.get("B" if name in ("r", "low", "high") else "A", ()))[-1:]
        if name in ("d", "reference"):
            width = np.shape(data.get("tracked", data.get("C", ())))[-2:-1]
        if name in data and np.shape(data[name]) in ((1, *width), (*width, 1)):
            data[name] = np.ravel(data[name])
    return data


READERS: dict[str, Callable[[io.BytesIO], dict[str, Any]]] = {
    ".json": _read_json,
    ".npz": read_npz,
    ".mat": _read_mat,
}
