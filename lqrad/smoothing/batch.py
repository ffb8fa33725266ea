"""Many models of the same sizes, each with a series of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import index

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_covariance, shape_message
from lqrad.batches import of_one, read_batch, read_problems, stacked, with_both_axes, within_problem
from lqrad.copies import Fixed
from lqrad.errors import ArgumentError, NotConvexError, ShapeError
from lqrad.smoothing.arrays import ALL, Observations, close_gaps
from lqrad.smoothing.model import Balanced, SmoothingProblem


class SmoothingBatch(Fixed):
    """Several models as of `SmoothingProblem`, of the same n, ny and T.

    Each is x[t+1] = A x[t] + c + w[t], y[t] = C x[t] + d + v[t], with x[0] ~ N(m0, P0), w[t] ~ N(0, W) and
    v[t] ~ N(0, V), and matrices of its own. `kalman_smoother`, `kalman_filter` and `rts_smoother` take
    it, with y (b, T+1, ny), and do for all what they do for one, with an axis of problems in front:

        for i in range(b):
            x[i] = kalman_smoother(batch[i], y[i]).x

    An array that all problems share has the axes that it has in one of them; a leading axis b says
    that it differs from problem to problem, (b, T, ...) that it varies in time too. What is shared and
    varies in time is (1, T, ...). The arrays are checked, copied and made read-only once, here.

    Parameters
    ----------
    A, W : (n, n)
        As of SmoothingProblem; or (b, n, n), (b, T, n, n), (1, T, n, n).
    C, V : (ny, n), (ny, ny)
        As of SmoothingProblem; or (b, ...), (b, T+1, ...), (1, T+1, ...).
    m0 : (n,), (b, n) or None
        May be None where P0 is.
    P0 : (n, n), (b, n, n) or None
        None is no prior for any of them.
    c : (n,), optional
        Or (b, n), (b, T, n), (1, T, n).
    d : (ny,), optional
        Or (b, ny), (b, T+1, ny), (1, T+1, ny).

    Attributes
    ----------
    b, n, ny : int
        The number of problems, also `len(batch)`, and the dimensions of state and output.
    T : int or None
        The number of steps, when something varies in time; None when nothing does.

    Raises
    ------
    NotConvexError
        If a covariance of a problem is none; names it, as "problem 17: ...".

    Examples
    --------
    Two levels that drift, one of them ten times as much as the other:

    >>> from lqrad import kalman_smoother
    >>> W = np.array([[[0.1]], [[1.0]]])
    >>> batch = SmoothingBatch([[1]], [[1]], W=W, V=[[1]], m0=None, P0=None)
    >>> batch
    SmoothingBatch(2 problems, n=1, ny=1, time-invariant, no prior)
    >>> y = np.array([[[0.0], [1.0], [2.0]], [[0.0], [np.nan], [2.0]]])
    >>> kalman_smoother(batch, y).x[..., 0].round(3)
    array([[0.909, 1.   , 1.091],
           [0.5  , 1.   , 1.5  ]])

    See Also
    --------
    SmoothingProblem : one of them, which takes many series.
    """

    A: Array
    C: Array
    W: Array
    V: Array
    m0: Array
    P0: Array | None
    c: Array
    d: Array
    b: int
    n: int
    ny: int
    T: int | None

    def __init__(
        self,
        A: ArrayLike,
        C: ArrayLike,
        W: ArrayLike,
        V: ArrayLike,
        m0: ArrayLike | None,
        P0: ArrayLike | None,
        *,
        c: ArrayLike | None = None,
        d: ArrayLike | None = None,
    ) -> None:
        if m0 is None and P0 is not None:
            raise ArgumentError("m0 is None and P0 is given; pass the mean of x[0], or P0=None too")
        given = {"A": A, "C": C, "W": W, "V": V, "m0": m0, "P0": P0, "c": c, "d": d}
        symbols = {name: axes for name, axes in ALL.items() if name != "P0" or P0 is not None}
        arrays, sizes, b, T = read_batch(
            symbols, given, zeros=("c", "d", "m0"), still=("m0", "P0"), more="CVd"
        )
        for name in ("W", "V", "P0"):
            if name in arrays:
                self._check_covariance(name, arrays[name])
        self._set(**({"P0": None} | arrays), b=b, n=sizes["n"], ny=sizes["y"], T=T)

    @staticmethod
    def _check_covariance(name: str, array: Array) -> None:
        try:
            check_covariance(name, array.reshape(-1, *array.shape[-2:]))
        except NotConvexError:
            # Where all have the same, none is to be named.
            for i in range(1 if array.ndim == 2 else len(array)):
                with within_problem(None if array.ndim == 2 or len(array) == 1 else i):
                    check_covariance(name, of_one(array, 2, i))

    @classmethod
    def of(cls, problems: Sequence[SmoothingProblem]) -> SmoothingBatch:
        """Return the batch of several problems of the same sizes; what all of them share is kept once.

        Examples
        --------
        >>> models = [SmoothingProblem([[a]], [[1]], [[1]], [[1]], [0], [[1]]) for a in (0.5, 0.7)]
        >>> batch = SmoothingBatch.of(models)
        >>> batch.A.shape, batch.C.shape, batch[1].A
        ((2, 1, 1), (1, 1, 1), array([[0.7]]))
        """
        example = "SmoothingProblem(A, C, W, V, m0, P0)"
        problems, T = read_problems(problems, SmoothingProblem, example, ("n", "ny"))
        for i, problem in enumerate(problems):
            if (problem.P0 is None) != (problems[0].P0 is None):
                raise ArgumentError(
                    f"problems[{i}] has {'no' if problem.P0 is None else 'a'} prior P0 and problems[0] "
                    "has not the same, expected one for all or for none"
                )
        arrays: dict[str, Array | None] = {"P0": None}
        for name, axes in ALL.items():
            if name != "P0" or problems[0].P0 is not None:
                stages = T if T is None else T + (name in "CVd")
                arrays[name] = stacked([getattr(z, name) for z in problems], len(axes), stages)
        if all(array is None or len(array) == 1 for array in arrays.values()):
            assert arrays["A"] is not None
            arrays["A"] = np.repeat(arrays["A"], len(problems), axis=0)
        for array in arrays.values():
            if array is not None:
                array.setflags(write=False)
        new = object.__new__(cls)
        new._set(b=len(problems), n=problems[0].n, ny=problems[0].ny, T=T, **arrays)
        return new

    def __repr__(self) -> str:
        return repr(self[0]).replace("SmoothingProblem(", f"SmoothingBatch({self.b} problems, ", 1)

    def __len__(self) -> int:
        return self.b

    def __getitem__(self, i: int) -> SmoothingProblem:
        """Problem i, with views of the arrays."""
        i = index(i)
        if not -self.b <= i < self.b:
            raise IndexError(f"there is no problem {i} in a batch of {self.b}")
        i %= self.b
        arrays = {name: getattr(self, name) for name in ALL}
        problem = object.__new__(SmoothingProblem)  # what was checked holds for each
        found = {
            name: None if array is None else of_one(array, len(ALL[name]), i)
            for name, array in arrays.items()
        }
        problem._set(n=self.n, ny=self.ny, T=self.T, **found)
        return problem

    def __iter__(self) -> Iterator[SmoothingProblem]:
        return (self[i] for i in range(self.b))

    def series(self, y: ArrayLike) -> Array:
        """Return y (b, T+1, ny), a series for each problem, as `SmoothingProblem.series` returns them."""
        y = self[0].series(y)
        if y.ndim != 3 or len(y) != self.b:
            rows = "T + 1" if self.T is None else self.T + 1
            expected, why = f"({self.b}, {rows}, {self.ny})", "a series for each problem"
            raise ShapeError(shape_message("y", y.shape, expected, why))
        return y

    def observations(self, y: Array) -> Observations:
        """Return the series (b, T+1, ny), as `series` returns them, with their gaps closed."""
        return close_gaps(y, *(stages_of(self, name) for name in "CVd"))

    @cached_property
    def balanced(self) -> Balanced:
        """The same models, each in units in which its noises are of order one."""
        each = [problem.balanced for problem in self]
        return Balanced(
            SmoothingBatch.of([one.problem for one in each]),  # type: ignore[arg-type]
            np.array([one.state for one in each]),
            np.array([one.output for one in each]),
        )


def stages_of(problem: SmoothingProblem | SmoothingBatch, name: str) -> Array:
    """An array of a model (...) or (T, ...), of many that differ (b, T or 1, ...) or, without T, (b, ...)."""
    array: Array = getattr(problem, name)
    if isinstance(problem, SmoothingProblem):
        return array
    array = with_both_axes(array, len(ALL[name]))
    if len(array) > 1:
        return np.asarray(array[:, 0] if name in ("m0", "P0") else array)
    return np.asarray(array[0, 0] if array.shape[1] == 1 else array[0])
