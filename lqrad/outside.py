"""What reaches beyond arrays: a progress bar, and files that are replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lqrad.errors import ArgumentError


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
