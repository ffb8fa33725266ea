"""The library of kernels: loaded where it was built from the sources that are here."""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import addressof, byref, c_double, c_int64
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from lqrad.arguments import Array

# Of no system's own ending, by which Python would take it for a module.
LIBRARY = Path(__file__).with_name("kernels.native")
# Above this size BLAS is faster in recursions of matrices.
MOST_MATRICES = 40


@dataclass(frozen=True)
class Status:
    """Whether the kernels in C are in use, and why or why not.

    Attributes
    ----------
    in_use : bool
    message : str
    """

    in_use: bool
    message: str


def _load() -> tuple[Any, Status]:
    if os.environ.get("LQRAD_NATIVE") == "0":
        return None, Status(False, "switched off by LQRAD_NATIVE=0")
    if not LIBRARY.exists():
        why = "was not built: lqrad is not installed, or no C compiler could; pip install -v tells why"
        return None, Status(False, f"{LIBRARY.name} {why}")
    if not _is_whole():  # loading what is cut short may end the process
        why = "is not as long as it was when built; install lqrad again"
        return None, Status(False, f"{LIBRARY.name} {why}")
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.lqrad_sources.restype = c_int64
        sources = library.lqrad_sources()
    except (OSError, AttributeError) as error:
        return None, Status(False, f"{LIBRARY.name} cannot be loaded: {error}; install lqrad again")
    files = sorted(LIBRARY.parent.glob("*.[ch]"))
    if sources != zlib.crc32(b"".join(file.read_bytes() for file in files)):
        why = "was built from other sources than those that are here; install lqrad again"
        return None, Status(False, f"{LIBRARY.name} {why}")
    return library, Status(True, f"{LIBRARY.name} is loaded")


def _is_whole() -> bool:
    """Whether the library has the length that its build noted beside it; one built by hand has no note."""
    try:
        return int(LIBRARY.with_suffix(".length").read_text()) == LIBRARY.stat().st_size
    except FileNotFoundError:
        return True
    except ValueError:
        return False


_library, _status = _load()
_first_double = c_double.from_buffer
# The blocks of `switched_off` that run now, in any thread.
_blocks, _counting = 0, Lock()


def function(name: str, *arguments: Any) -> Any:
    """A kernel, which takes arguments of these types; None where the library is not loaded."""
    if _library is None:
        return None
    kernel = getattr(_library, name)
    kernel.argtypes, kernel.restype = arguments, c_int64
    return kernel


def loaded() -> bool:
    """Whether the library is there, switched off or not."""
    return _library is not None


def in_use() -> bool:
    """Whether the kernels are to be called."""
    return _library is not None and not _blocks


def serves_matrices(*sizes: int) -> bool:
    """Whether the kernels are in use and made for matrices of these numbers of rows."""
    return in_use() and max(sizes) <= MOST_MATRICES


def status() -> Status:
    """Return whether the kernels in C are in use, and why or why not.

    Examples
    --------
    >>> import lqrad.native
    >>> lqrad.native.status()  # doctest: +SKIP
    Status(in_use=True, message='kernels.native is loaded')
    """
    return Status(False, "switched off by lqrad.native.switched_off()") if _blocks else _status


@contextmanager
def switched_off() -> Iterator[None]:
    """Let the twins in NumPy run in this block, in all threads: to compare them with the kernels.

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[0.5]], [[1]], [[1]], [[1]])
    >>> with lqrad.native.switched_off():
    ...     problem.value_and_gradient([8.0], [[0.0], [0.0]])[0], lqrad.native.status().in_use
    (42.0, False)
    """
    global _blocks
    with _counting:
        _blocks += 1
    try:
        yield
    finally:
        with _counting:
            _blocks -= 1


def on_lines(*arrays: Array) -> list[Array]:
    """Copies by rows, each from where a line of the cache begins: kernels read those up to a third faster.

    Examples
    --------
    >>> copies = on_lines(np.ones(3), np.array([[1.0, 2.0], [3.0, 4.0]]).T)
    >>> [copy.ctypes.data % 64 for copy in copies], copies[1].ravel()
    ([0, 0], array([1., 3., 2., 4.]))
    """
    starts = [0, *accumulate(-(-array.size // 8) * 8 for array in arrays)]
    room = np.empty(starts[-1] + 7)
    room = room[-(room.ctypes.data // 8) % 8 :]
    copies = []
    for array, start in zip(arrays, starts, strict=False):
        copies.append(room[start : start + array.size].reshape(array.shape))
        copies[-1][...] = array
    return copies


def address(array: Any) -> Any:
    """The array as a kernel takes it. The shorter way, for most of the time of a call, needs to write."""
    try:
        return byref(_first_double(array))
    except (TypeError, ValueError):  # read-only, or empty
        return array.ctypes.data


def pointer(array: Any) -> int:
    """The address of the array, for a field of a structure; `address` is for arguments."""
    try:
        return addressof(_first_double(array))
    except (TypeError, ValueError):
        return int(array.ctypes.data)
