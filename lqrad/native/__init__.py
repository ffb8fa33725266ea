"""The small loops in C99, where they were built: each has its twin in NumPy, which is the reference.

`kernels.h` states each function as an equation. Small matrices spend their time between the calls of
NumPy and LAPACK; these loops spend it on the numbers. Installing lqrad builds them where a C compiler
is found, and nothing is lost but time where none is. A kernel returns None, or a number other than
zero, where it cannot go on; its twin then runs and says why in words.

    LQRAD_NATIVE=0 python ...      switches them off
    lqrad.native.status()          says what is in use, and why
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, byref, c_double, c_int64
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from lqrad.arguments import Array

# Above these sizes BLAS is faster: in a whole gradient, which it takes over many stages at once; in a
# recursion of vectors, and in one of so many of them at once; in recursions of matrices.
_MOST_GRADIENT = 6
_MOST_STATES, _MOST_OF_MANY, _MANY = 50, 8, 8
_MOST_MATRICES = 40

_INTERFACE = 2
# ON_STACK of kernels.c: so many doubles of work are there.
_ON_STACK = 2048
# Of no system's own ending, by which Python would take it for a module.
LIBRARY = Path(__file__).with_name("kernels.native")


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


class Problem(Structure):
    """`lq_problem` of kernels.h."""

    _ARRAYS = ("A", "At", "B", "Bt", "Q", "R", "M", "c", "q", "r", "S", "s")
    _STEPS = ("A", "B", "Q", "R", "M", "c", "q", "r")
    _fields_ = [
        ("n", c_int64),
        ("m", c_int64),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
        *((f"{name}_step", c_int64) for name in _STEPS),
    ]


_pointer, _number = ctypes.c_void_p, c_int64
_SIGNATURES = {
    "lqrad_interface": [],
    "lq_gradient": [POINTER(Problem), _number, _number, _pointer, _number, *4 * [_pointer]],
    "lq_riccati": [POINTER(Problem), _number, _number, *4 * [_pointer]],
    "lq_rollout": [POINTER(Problem), _number, _number, *9 * [_pointer]],
    "bidiagonal_solve": [*3 * [_number], _pointer, _number, _number, _pointer],
    "filter_covariances": [*3 * [_number], *5 * [_pointer, _number], *7 * [_pointer]],
}


def _load() -> tuple[Any, Status]:
    if os.environ.get("LQRAD_NATIVE") == "0":
        return None, Status(False, "switched off by LQRAD_NATIVE=0")
    if not LIBRARY.exists():
        why = "was not built: no C compiler was found when lqrad was installed, or it was not installed"
        return None, Status(False, f"{LIBRARY.name} {why}")
    try:
        library = ctypes.CDLL(str(LIBRARY))
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, c_int64
        interface = library.lqrad_interface()
    except (OSError, AttributeError) as error:
        return None, Status(False, f"{LIBRARY.name} cannot be loaded: {error}; install lqrad again")
    if interface != _INTERFACE:
        why = f"has interface {interface}, expected {_INTERFACE}; install lqrad again"
        return None, Status(False, f"{LIBRARY.name} {why}")
    return library, Status(True, f"{LIBRARY.name} is loaded")


_library, _status = _load()
# The blocks of `switched_off` that run now, in any thread.
_blocks, _counting = 0, Lock()


def _in_use() -> bool:
    return _library is not None and not _blocks


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


def _address(array: Any) -> Any:
    """The array as a kernel takes it. The shorter way, for most of the time of a call, needs to write."""
    return byref(c_double.from_buffer(array)) if array.flags.writeable else array.ctypes.data


class LQKernel:
    """The arrays of a linear-quadratic problem as the kernels read them; made once for a problem.

    Parameters
    ----------
    A, B, Q, R : arrays of the problem, C-contiguous or not, with a leading T axis where they vary
    S, M, c, q, r, s : optional
        None where they are zero.
    """

    def __init__(self, **arrays: Array | None) -> None:
        found = {
            name: None if array is None else np.ascontiguousarray(array)
            for name, array in arrays.items()
        }
        for name in ("A", "B"):
            array = arrays[name]
            assert array is not None
            found[f"{name}t"] = np.ascontiguousarray(array.T) if array.ndim == 2 else None
        self._kept = found  # what the addresses below point to
        self.n, self.m = arrays["B"].shape[-2:]  # type: ignore[union-attr]
        self._problem = Problem(self.n, self.m)
        for name, array in found.items():
            if array is None:
                continue
            setattr(self._problem, name, array.ctypes.data)
            if name in Problem._STEPS and array.ndim == (3 if name.isupper() else 2):
                setattr(self._problem, f"{name}_step", array[0].size)

    def gradient(self, x0: Array, u: Array) -> tuple[Array, Array] | None:
        """J (...) and g (..., T, m) of u (..., T, m) from x0 (n,) or (..., n).

        None where BLAS is faster, where x0 has another batch than u, or where J or g is not finite.
        """
        batch, T = u.shape[:-2], u.shape[-2]
        fits = x0.ndim == 1 or x0.shape[:-1] == batch
        small = max(self.n, self.m) <= _MOST_GRADIENT
        if not (_in_use() and small and fits and u.size):
            return None
        x0, u = np.ascontiguousarray(x0), np.ascontiguousarray(u)
        J, g = np.empty(batch), np.empty(u.shape)
        words = (T + 5) * self.n + self.m
        work = None if words <= _ON_STACK else _address(np.empty(words))
        failed = _library.lq_gradient(
            byref(self._problem),
            T,
            J.size,
            _address(x0),
            self.n if x0.ndim > 1 else 0,
            _address(u),
            _address(J),
            _address(g),
            work,
        )
        return None if failed else (J, g)

    def riccati(self, first: int, last: int, P: Array, K: Array, L: Array) -> int:
        """Run the stages last-1, ..., first in place; 0, or t + 1 where R + B'P[t+1]B is not positive."""
        n, both = self.n, self.n + self.m
        work = np.empty(2 * n * both + both * both + self.m)
        failed: int = _library.lq_riccati(
            byref(self._problem), first, last, *map(_address, (P, K, L, work))
        )
        return failed

    def rollout(
        self, x0: Array, K: Array, k: Array, P: Array, v: Array
    ) -> tuple[Array, Array, Array] | None:
        """x, u and p from x0 (..., n), in closed loop; None where they are not finite."""
        if not (_in_use() and x0.size):
            return None
        T, batch = len(K), x0.shape[:-1]
        x0, K, k, P, v = map(np.ascontiguousarray, (x0, K, k, P, v))
        x, p = np.empty((*batch, T + 1, self.n)), np.empty((*batch, T, self.n))
        u = np.empty((*batch, T, self.m))
        failed = _library.lq_rollout(
            byref(self._problem),
            T,
            x0.size // self.n,
            *map(_address, (x0, K, k, P, v, x, u, p, np.empty((self.n, self.n)))),
        )
        return None if failed else (x, u, p)


def lq_kernel(n: int, m: int, **arrays: Array | None) -> LQKernel | None:
    """The kernel of a problem, where the library is loaded and the matrices are small; else None.

    It may be kept: whether it is in use is asked at each call, of `riccati` by `serves_matrices`.
    """
    small = max(n, m) <= _MOST_MATRICES
    return LQKernel(**arrays) if _library is not None and small else None


def serves_matrices(*sizes: int) -> bool:
    """Whether the kernels are in use and made for matrices of these numbers of rows."""
    return _in_use() and max(sizes) <= _MOST_MATRICES


def serves_series(n: int, series: int) -> bool:
    """Whether the kernels are in use and made for so many series of n states at once."""
    return _in_use() and n <= (_MOST_STATES if series <= _MANY else _MOST_OF_MANY)


def solve_bidiagonal(A: Array, x: Array, *, transpose: bool) -> bool:
    """Solve with a `Bidiagonal` matrix in place, in x (..., T+1, n); False where it is not finite.

    A and x are C-contiguous. Forward with an A that does not vary, A' is given in its place.
    """
    *_, rows, n = x.shape
    series, step = x.size // (rows * n), n * n if A.ndim == 3 else 0
    solve = _library.bidiagonal_solve
    return not solve(n, rows - 1, series, _address(A), step, transpose, _address(x))


class FilterArrays(NamedTuple):
    """The covariances of a filter, as `filter_covariances` of kernels.h states them."""

    predicted_cov: Array
    K: Array
    factor: Array
    roots: Array
    rounding: Array

    @classmethod
    def empty(cls, T: int, n: int, ny: int) -> FilterArrays:
        """Arrays to be filled."""
        shapes = ((n, n), (n, ny), (ny, ny), (n, n), (n,))
        return cls(*(np.empty((T + 1, *shape)) for shape in shapes))


def filter_covariances(
    T: int, A: Array, C: Array, v: Array, V: Array, w: Array, root: Array
) -> tuple[int, FilterArrays]:
    """The arrays of a filter from P[0] = root root'; 0, or 1 + the time of a singular innovation."""
    n, ny = A.shape[-1], C.shape[-2]
    found, work = FilterArrays.empty(T, n, ny), np.empty(4 * n * n + 2 * (n + ny) ** 2)
    given = [np.ascontiguousarray(z) for z in (A, C, v, V, w)]
    root = np.ascontiguousarray(root)
    pairs = [(_address(z), z[0].size if z.ndim == 3 else 0) for z in given]
    numbers = [number for pair in pairs for number in pair]
    arrays = map(_address, (root, *found, work))
    failed: int = _library.filter_covariances(n, ny, T, *numbers, *arrays)
    return failed, found
