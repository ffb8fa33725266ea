"""What reaches beyond arrays: a progress bar, files of named arrays, files replaced as a whole."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lqrad.arguments import check_count, check_room
from lqrad.errors import ArgumentError, DtypeError, LqradError

# How often the contents of a file stand in memory while they are read and checked.
_COPIES = 4
_PART = 2**24  # bytes that are read at once
# Lists in lists in a .json file: stages, rows, columns, and one too many, whose shape can be told.
_DEEPEST = 4
# The files that this process holds for itself, by `alone`.
_HELD: dict[Path, object] = {}


def progress_bar(name: str, total: int, unit: str, *, initial: int = 0) -> Any:
    """Return a progress bar of tqdm's, or None where it is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=initial, desc=name, unit=unit)


# --- writing --------------------------------------------------------------------------------------


def replace_npz(path: Path, **arrays: Any) -> None:
    """Write arrays to a .npz by `replace_file`, by names that `numpy.savez` has no arguments of."""
    replace_file(path, lambda file: np.savez(file, **arrays))


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file by a function: whenever the machine stops, it is the old one or the new.

    A link stays, and what it points to is written; the file keeps its mode. Who is killed before the
    last step of all may leave the new file, whole, under a name of its own that begins with a dot.

    Raises
    ------
    ArgumentError
        If it cannot be written; what was there is left as it is.
    """
    part = None
    try:
        target = Path(os.path.realpath(path))
        mode = _mode(target)
        # A short name of its own: not too long where that of the file is not.
        part = target.with_name(f".{uuid.uuid4().hex}.tmp")
        # What only the owner may read is not readable to others while it is written.
        opened, named = _opened(part, 0o666 if mode is None else 0o600)
        with open(opened, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if not named:
                _name(opened, part)
        if mode is not None:
            os.chmod(part, mode)
        os.replace(part, target)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _opened(part: Path, mode: int) -> tuple[int, bool]:
    """Open a new file to write, and say whether it has its name yet.

    Linux has files without a name: whoever is killed while writing one leaves nothing behind.
    """
    if os.path.isdir("/proc/self/fd"):
        with suppress(AttributeError, OSError):  # another system, or file system
            return os.open(part.parent, os.O_WRONLY | os.O_TMPFILE, mode), False
    return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), True


def _name(opened: int, part: Path) -> None:
    """Give a file that has none its name."""
    folder = os.open(part.parent, os.O_RDONLY)
    try:  # relative to a folder, for only then does Python ask for the file behind the link
        os.link(f"/proc/self/fd/{opened}", part.name, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _mode(target: Path) -> int | None:
    """The permissions of a file that may be written; None where there is none yet."""
    try:
        found = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        raise OSError("it is no ordinary file")
    if not os.access(target, os.W_OK):
        raise PermissionError(13, "Permission denied")
    return stat.S_IMODE(found)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a file for oneself; the system lets it go, however the process ends.

    Raises
    ------
    ArgumentError
        If another process holds it, or another thread of this one.
    """
    path, mine = Path(os.path.realpath(path)), object()
    if _HELD.setdefault(path, mine) is not mine:  # the system's lock is one of processes
        raise _in_use(path)
    try:
        with _locked(path):
            yield
    finally:
        del _HELD[path]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock that other processes see: on a file beside, for this one is replaced."""
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise _in_use(path) from None
        except OSError:  # a file system without such locks
            pass
        if os.fstat(descriptor).st_nlink == 0:  # who had it before removed it meanwhile
            raise _in_use(path)
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _in_use(path: Path) -> ArgumentError:
    return ArgumentError(
        f"{path} is in use by another run", "wait for its end, or choose another path"
    )


def _not_written(path: Path, error: OSError) -> ArgumentError:
    return ArgumentError(
        f"{path} cannot be written: {error.strerror or error}",
        f"is {path.parent} a directory to write in, with room left?",
    )


# --- reading --------------------------------------------------------------------------------------


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return the name of a file as a Path; raise ArgumentError where it can be none."""
    if not isinstance(path, (str, os.PathLike)) or "\0" in os.fspath(path):
        raise ArgumentError(f"path is {path!r}, expected the name of a file")
    return Path(path)


def with_ending(path: str | Path, endings: tuple[str, ...]) -> Path:
    """Return a path; raise ArgumentError unless its name has one of the endings."""
    path = as_path(path)
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


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, where the machine has room for it; a pipe's end is not known before."""
    content = bytearray()
    try:
        with open(path, "rb") as file:
            check_room(str(path), _COPIES, os.fstat(file.fileno()).st_size // 8)
            while part := file.read(_PART):
                content += part
                check_room(str(path), _COPIES, len(content) // 8)
            return bytes(content)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}") from error


def read_named(path: Path, ending: str | None = None) -> dict[str, Any]:
    """Read a file of named arrays, of the kind that its ending says if no other is given."""
    ending = path.suffix.lower() if ending is None else ending
    content = io.BytesIO(read_bytes(path))
    try:
        with naming(path):
            return READERS[ending](content)
    except LqradError:
        raise
    except Exception as error:  # a reader of a damaged file raises whatever it trips over
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        raise ArgumentError(f"{path} is not a valid {ending} file: {reason}") from error


def read_archive(path: Path, kind: str, version: int, ending: str | None = None) -> dict[str, Any]:
    """Read what lqrad wrote: named arrays, beside the version of the layout of this kind of file.

    Raises
    ------
    ArgumentError
        If it cannot be read, or is of another kind or version; names the file.
    """
    return of_version(path, read_named(path, ending), kind, version)


def of_version(path: Path, data: dict[str, Any], kind: str, version: int) -> dict[str, Any]:
    """Return what a file of this kind holds beside its version; raise where that is another."""
    held = data.pop(f"{kind}_version", None)
    if held is None:
        raise ArgumentError(f"{path} is no file of this kind: it lacks {kind}_version")
    with naming(path):
        held = check_count(f"{kind}_version", held, least=0)
    if held != version:
        raise ArgumentError(
            f"{path} is of version {held}, expected {version}",
            "read it with the version of lqrad that wrote it",
        )
    return data


def check_names(
    path: str | Path,
    data: dict[str, Any],
    required: tuple[str, ...],
    optional: tuple[str, ...],
    what: str,
    hints: Mapping[str, str] | None = None,
) -> None:
    """Raise ArgumentError unless data holds all required names, and none but optional ones besides.

    `hints` say what to try of some names, where they are missing or not known.
    """
    missing = [name for name in required if name not in data]
    unknown = [name for name in data if name not in required + optional]
    if missing or unknown:
        shown = [name if name.isprintable() and name else repr(name) for name in missing or unknown]
        fault = f"{'lacks' if missing else 'holds'} {', '.join(shown)}"
        more = f" and may have {', '.join(optional)}" if optional else ""
        remedy = "; ".join(
            text for name, text in (hints or {}).items() if name in missing + unknown
        )
        raise ArgumentError(f"{path} {fault}; {what} has {', '.join(required)}{more}", remedy)


def without_null(limit: Any, infinite: float) -> Any:
    """A limit with an infinite one in the place of each null."""
    if isinstance(limit, list):
        return [without_null(value, infinite) for value in limit]
    return infinite if limit is None else limit


def _read_json(content: io.BytesIO) -> dict[str, Any]:
    data = json.load(content, object_pairs_hook=_once)
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}, expected an object of arrays")
    for name, value in data.items():
        _check_depth(name, value)
    return data


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """What names stand for, each given once."""
    found = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is given more than once")
        found[name] = value
    return found


def _check_depth(name: str, value: Any) -> None:
    """Raise DtypeError where lists are deeper in each other than those of any array."""
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [entry for part in level if isinstance(part, list) for entry in part]
    if level:
        raise DtypeError(f"{name} is nested too deeply, expected an array of numbers")


def _read_npz(content: io.BytesIO) -> dict[str, Any]:
    if not zipfile.is_zipfile(content):  # NumPy would take it for a pickle
        raise TypeError("it is no archive such as numpy.savez writes")
    data = {}
    with zipfile.ZipFile(content) as archive:
        members = _once((one.filename.removesuffix(".npy"), one) for one in archive.infolist())
        check_room("its arrays", _COPIES, sum(one.file_size for one in members.values()) // 8)
        for name, member in members.items():
            with archive.open(member) as file:
                _check_size(name, file, member.file_size)
            with archive.open(member) as file:
                data[name] = np.lib.format.read_array(file, allow_pickle=False)
    return data


_HEADERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _check_size(name: str, file: Any, size: int) -> None:
    """Raise ValueError unless a member of an archive is as long as the array that it says to be."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{name} is of version {version} of .npy, which is none of numbers")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise DtypeError(f"{name} holds objects, expected real numbers")
    if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"{name} is not as long as its shape {shape} says")


def _read_mat(content: io.BytesIO) -> dict[str, Any]:
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError
    from scipy.sparse import issparse

    try:
        held = whosmat(content)
    except NotImplementedError as error:
        raise MatReadError(
            "it is of MATLAB's version 7.3; save(name, '-v7') writes one to read"
        ) from error
    names = list(_once((name, kind) for name, _, kind in held))
    for name, shape, kind in held:
        if kind == "struct":
            raise DtypeError(
                f"{name} is a struct", f"save(file, '-struct', '{name}') writes its fields"
            )
        if kind not in _MATRICES:
            raise DtypeError(f"{name} is of MATLAB's class {kind}, expected a matrix of numbers")
        check_room(name, _COPIES, *shape)
    content.seek(0)
    data = loadmat(content, variable_names=names)
    return {name: data[name].toarray() if issparse(data[name]) else data[name] for name in names}


# The classes of MATLAB's that hold numbers, or text to be refused by the name of the array.
_MATRICES = {"double", "single", "logical", "sparse", "char"}
_MATRICES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}

READERS: dict[str, Callable[[io.BytesIO], dict[str, Any]]] = {
    ".json": _read_json,
    ".npz": _read_npz,
    ".mat": _read_mat,
}
