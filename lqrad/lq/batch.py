"""Many linear-quadratic problems of the same sizes at once, each with matrices of its own.

What a loop over the problems would do one by one is done for all at each stage: by a kernel in C where
it is there, else by NumPy on arrays whose last axis is that of the problems, so that each product of
matrices is a sum of products of long rows. What comes out of a problem that is not finite is found again by
an `LQProblem` alone, which has the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    STAGE_SYMBOLS,
    Array,
    check_semidefinite,
    check_stage_weights,
    known_horizon,
    real_array,
    shape_message,
)
from lqrad.batches import of_one, read_batch, read_problems, stacked, with_both_axes, within_problem
from lqrad.errors import ArgumentError, NotConvexError, ShapeError
from lqrad.lq.inputs import LQArrays
from lqrad.lq.problem import NAMES, LQProblem, unchecked
from lqrad.native.batch import gradients

_quiet = np.errstate(over="ignore", invalid="ignore")

SYMBOLS = STAGE_SYMBOLS | {"S": "nn", "s": "n"}
# Above this size, or below this number of problems, NumPy is faster with one after the other.
_MOST_ABREAST, _FEWEST_ABREAST = 30, 16
# So many doubles of matrices at one stage stay in a second-level cache.
_CACHED = 2**18
# An array for each name, (T or 1, ..., b or 1), or None where it is zero.
Lanes = Mapping[str, Any]


class LQBatch(LQArrays):
    """Several problems (A, B, Q, R, S) as of `LQProblem`, of the same n, m and T.

    Each minimises, with matrices, an initial state and inputs of its own,

        J = sum_t ( 1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u )  +  1/2 x[T]'S x[T] + s'x[T]
        subject to  x[t+1] = A x[t] + B u[t] + c,    x[0] = x0

    Its methods do for all what those of LQProblem do for one, with an axis of problems in front:

        for i in range(b):
            J[i], g[i] = batch[i].value_and_gradient(x0[i], u[i])

    An array that all problems share has the axes that it has in one of them; a leading axis b says
    that it differs from problem to problem, (b, T, ...) that it varies in time too. What is shared and
    varies in time is (1, T, ...). The arrays are checked, copied and made read-only once, here.

    Parameters
    ----------
    A, B, Q, R : (n, n), (n, m), (n, n), (m, m)
        As of LQProblem; or (b, ...), (b, T, ...), (1, T, ...).
    S : (n, n) or (b, n, n), optional
        Terminal weight; Q when not given.
    M, c, q, r : (n, m), (n,), (n,), (m,), optional
        As of LQProblem; or (b, ...), (b, T, ...), (1, T, ...).
    s : (n,) or (b, n), optional

    Attributes
    ----------
    b, n, m : int
        The number of problems, also `len(batch)`, and the dimensions of state and input.
    T : int or None
        The horizon, when something varies in time; None when nothing does.
    S_given : bool
        Whether a terminal weight was given.

    Raises
    ------
    NotConvexError
        If a problem is not convex; names it, as "problem 17: ...".

    Examples
    --------
    Two carts, of one and of two kilograms, pushed from rest at distance 1:

    >>> B = np.array([[[0.5], [1.0]], [[0.25], [0.5]]])
    >>> batch = LQBatch(A=[[1, 1], [0, 1]], B=B, Q=np.eye(2), R=[[1]])
    >>> batch
    LQBatch(2 problems, n=2, m=1, time-invariant)
    >>> J, g = batch.value_and_gradient([1.0, 0.0], np.zeros((2, 4, 1)))
    >>> J, g[..., 0]
    (array([2.5, 2.5]), array([[8.  , 4.5 , 2.  , 0.5 ],
           [4.  , 2.25, 1.  , 0.25]]))
    >>> batch[1].value_and_gradient([1.0, 0.0], np.zeros((4, 1)))[1].ravel()
    array([4.  , 2.25, 1.  , 0.25])

    See Also
    --------
    riccati : solves all of them.
    LQProblem : one of them, which takes many initial states and inputs.
    """

    b: int

    def __init__(
        self,
        A: ArrayLike,
        B: ArrayLike,
        Q: ArrayLike,
        R: ArrayLike,
        S: ArrayLike | None = None,
        *,
        M: ArrayLike | None = None,
        c: ArrayLike | None = None,
        q: ArrayLike | None = None,
        r: ArrayLike | None = None,
        s: ArrayLike | None = None,
    ) -> None:
        given = {"A": A, "B": B, "Q": Q, "R": R, "M": M, "c": c, "q": q, "r": r, "S": S, "s": s}
        arrays, sizes, b, T = read_batch(SYMBOLS, given, zeros="McqrSs", still="Ss")
        if S is None:
            if arrays["Q"].ndim == 4:
                raise ArgumentError("S is not given and Q varies in time; pass the terminal weight")
            arrays["S"] = arrays["Q"]
        self._set(**sizes, b=b, T=T, S_given=S is not None, **arrays)
        self._check_weights()

    @classmethod
    def of(cls, problems: Sequence[LQProblem]) -> LQBatch:
        """Return the batch of several problems of the same sizes; what all of them share is kept once.

        Examples
        --------
        >>> one = LQProblem([[0.5]], [[1]], [[1]], [[1]])
        >>> batch = LQBatch.of([one, one.replace(A=[[0.7]])])
        >>> batch.A.shape, batch.B.shape, batch[1].A
        ((2, 1, 1), (1, 1, 1), array([[0.7]]))
        """
        problems, T = read_problems(problems, LQProblem, "LQProblem(A, B, Q, R)", ("n", "m"))
        arrays = {
            name: stacked([getattr(problem, name) for problem in problems], len(SYMBOLS[name]), T)
            for name in NAMES
        }
        if all(len(array) == 1 for array in arrays.values()):
            arrays["A"] = np.repeat(arrays["A"], len(problems), axis=0)
        for array in arrays.values():
            array.setflags(write=False)
        new = object.__new__(cls)
        n, m = problems[0].n, problems[0].m
        S_given = any(problem.S_given for problem in problems)
        new._set(b=len(problems), n=n, m=m, T=T, S_given=S_given, **arrays)
        return new

    def __repr__(self) -> str:
        return super().__repr__().replace("(", f"({self.b} problems, ", 1)

    def __len__(self) -> int:
        return self.b

    def __getitem__(self, i: int) -> LQProblem:
        """Problem i, with views of the arrays."""
        i = index(i)
        if not -self.b <= i < self.b:
            raise IndexError(f"there is no problem {i} in a batch of {self.b}")
        i %= self.b
        arrays = {name: of_one(getattr(self, name), len(SYMBOLS[name]), i) for name in NAMES}
        return unchecked(S_given=self.S_given, **arrays)

    def __iter__(self) -> Iterator[LQProblem]:
        return (self[i] for i in range(self.b))

    def horizon(self, T: int | None = None) -> int:
        """Return the horizon to use: the batch's own, or T where nothing varies in time."""
        return known_horizon(self, T)

    def _check_weights(self) -> None:
        """Raise NotConvexError for the first problem that is not convex."""
        weights = [with_both_axes(getattr(self, name), 2) for name in "QRM"]
        if self.M.any():  # [Q M; M' R] has them all
            leading = np.broadcast_shapes(*(weight.shape[:2] for weight in weights))
            weights = [np.broadcast_to(z, leading + z.shape[2:]) for z in weights]
        try:
            check_stage_weights(*(z.reshape(-1, *z.shape[2:]) for z in weights))
            check_semidefinite("S", self.S)
        except NotConvexError:
            # Where all have the same weights, none is to be named.
            shared = all(len(z) == 1 for z in (*weights, with_both_axes(self.S, 2)))
            for i, problem in enumerate(self):
                with within_problem(None if shared else i):
                    check_stage_weights(problem.Q, problem.R, problem.M)
                    check_semidefinite("S", problem.S)

    # Forward and backward, as LQProblem

    def simulate(self, x0: ArrayLike, u: ArrayLike) -> Array:
        """Return x (b, T+1, n) with x[:, 0] = x0, x[t+1] = A x[t] + B u[t] + c.

        Parameters
        ----------
        x0 : (b, n) or (n,)
        u : (b, T, m) or (T, m)

        Raises
        ------
        NonFiniteError
            If a state overflows, here and in the methods below; names the problem and the step.

        Examples
        --------
        >>> batch = LQBatch(np.array([[[0.5]], [[0.25]]]), [[1]], [[1]], [[1]])
        >>> batch.simulate([8.0], [[0.0], [1.0]])[..., 0]
        array([[8. , 4. , 3. ],
               [8. , 2. , 1.5]])
        """
        x0, u = self._starts(x0), self._series("u", u)
        (x,) = self._run(lambda z, x0, u: (_states(z, x0, u),), LQProblem.simulate, x0, u)
        return x

    def adjoint(self, x: ArrayLike, u: ArrayLike | None = None) -> Array:
        """Return p (b, T, n) with p[t-1] = A'p[t] + Q x[t] + M u[t] + q, p[T-1] = S x[T] + s.

        Parameters
        ----------
        x, u : (b, T+1, n), (b, T, m)
            Or shared by all; u may be left out where no problem has a cross weight M.

        Examples
        --------
        >>> batch = LQBatch(np.array([[[0.5]], [[0.25]]]), [[1]], [[1]], [[1]])
        >>> batch.adjoint([[8.0], [4.0], [2.0]])[..., 0]
        array([[5. , 2. ],
               [4.5, 2. ]])
        """
        x = self._series("x", x)
        if u is None:
            if self._full["M"] is not None:
                raise ArgumentError("u is not given and the cost has a cross weight M; pass u too")
            u = np.zeros((x.shape[1] - 1, self.m))
        u = self._series("u", u, x)
        (p,) = self._run(
            lambda z, x, u: (_costates(z, _state_slopes(z, x, u))[1:],), LQProblem.adjoint, x, u
        )
        return p

    def cost(self, x: ArrayLike, u: ArrayLike) -> Array:
        """Return J (b,) of x (b, T+1, n) and u (b, T, m), or of what all share.

        Examples
        --------
        >>> batch = LQBatch([[0.5]], [[1]], np.array([[[1.0]], [[2.0]]]), [[1]])
        >>> batch.cost([[8.0], [4.0], [3.0]], [[0.0], [1.0]])
        array([45. , 89.5])
        """
        x = self._series("x", x)
        u = self._series("u", u, x)
        (J,) = self._run(
            lambda z, x, u: (_value(z, x, u, _state_slopes(z, x, u), _input_slopes(z, x, u)),),
            LQProblem.cost,
            x,
            u,
        )
        return J

    def value_and_gradient(self, x0: ArrayLike, u: ArrayLike) -> tuple[Array, Array]:
        """Return J (b,) and g (b, T, m): the cost of each problem's inputs, and its gradient in them.

        Parameters
        ----------
        x0 : (b, n) or (n,)
        u : (b, T, m) or (T, m)

        Examples
        --------
        >>> batch = LQBatch(np.array([[[0.5]], [[0.25]]]), [[1]], [[1]], [[1]])
        >>> J, g = batch.value_and_gradient([8.0], [[0.0], [0.0]])
        >>> J, g[..., 0]
        (array([42.   , 34.125]), array([[5.   , 2.   ],
               [2.125, 0.5  ]]))
        """
        x0, u = self._starts(x0), self._series("u", u)
        found = gradients(self._full, x0, u)
        alone = LQProblem.value_and_gradient
        J, g = self._run(_value_and_gradient, alone, x0, u, found=found)
        return J, g

    # How

    def _starts(self, x0: ArrayLike) -> Array:
        """x0 as (b, n)."""
        x0 = real_array("x0", x0)
        if x0.shape not in ((self.n,), (self.b, self.n)):
            expected = f"(n,) or (b, n) with b = {self.b}, n = {self.n}"
            raise ShapeError(shape_message("x0", x0.shape, expected, ""))
        return np.broadcast_to(x0, (self.b, self.n))

    def _series(self, name: str, z: ArrayLike, x: Array | None = None) -> Array:
        """States x as (b, T+1, n) or inputs u as (b, T, m), of the horizon of x where that is given."""
        z = real_array(name, z)
        width, letter = (self.n, "n") if name == "x" else (self.m, "m")
        extra = int(name == "x")
        T = self.T if x is None else x.shape[1] - 1
        fits = z.ndim in (2, 3) and z.shape[-1] == width and z.shape[-2] > extra
        fits = fits and T in (None, z.shape[-2] - extra)
        if not fits or (z.ndim == 3 and len(z) != self.b):
            rows = "T" + " + 1" * extra
            known = f"b = {self.b}, {letter} = {width}, " + ("T >= 1" if T is None else f"T = {T}")
            expected = f"({rows}, {letter}) or (b, {rows}, {letter}) with {known}"
            raise ShapeError(shape_message(name, z.shape, expected, ""))
        return np.broadcast_to(z, (self.b, *z.shape[-2:]))

    @cached_property
    def _full(self) -> dict[str, Array | None]:
        """The arrays as (b or 1, T or 1, ...); None where M, c, q, r or s is zero in all problems."""
        arrays = {
            name: with_both_axes(getattr(self, name), len(axes)) for name, axes in SYMBOLS.items()
        }
        return {
            name: None if name in "Mcqrs" and not array.any() else array
            for name, array in arrays.items()
        }

    def _run(
        self,
        abreast: Callable[..., tuple[Array, ...]],
        alone: Callable[..., Any],
        *series: Array,
        found: tuple[Array, ...] | None = None,
    ) -> tuple[Array, ...]:
        """What a kernel `found`, or else a function of problems abreast; all of it finite.

        `alone` does the same for one LQProblem.
        """
        if not found:
            if max(self.n, self.m) > _MOST_ABREAST or self.b < _FEWEST_ABREAST:
                each = [self._alone(alone, i, *series) for i in range(self.b)]
                return tuple(np.array(numbers) for numbers in zip(*each, strict=True))
            found = self._abreast(abreast, *series)
        self._repair(found, alone, *series)
        return found

    @_quiet
    def _abreast(
        self, function: Callable[..., tuple[Array, ...]], *series: Array
    ) -> tuple[Array, ...]:
        """What a function of arrays whose last axis is that of the problems returns, with that axis in front."""
        found = [function(z, *(_lanes(y[part]) for y in series)) for part, z in self._parts()]
        return tuple(
            np.ascontiguousarray(np.concatenate([np.moveaxis(z, -1, 0) for z in outputs]))
            for outputs in zip(*found, strict=True)
        )

    def _parts(self) -> Iterator[tuple[slice, Lanes]]:
        """Problems in parts that a cache holds, and their arrays, with that axis as the last."""
        most = max(_CACHED // max(self.n, self.m) ** 2, 64)
        for first in range(0, self.b, most):
            part = slice(first, min(first + most, self.b))
            yield (
                part,
                {
                    name: None if z is None else _lanes(z[part] if len(z) > 1 else z)
                    for name, z in self._full.items()
                },
            )

    def _alone(self, method: Callable[..., Any], i: int, *series: Array) -> tuple[Any, ...]:
        with within_problem(i):
            found = method(self[i], *(z[i] for z in series))
        return found if isinstance(found, tuple) else (found,)

    def _repair(self, found: tuple[Array, ...], alone: Callable[..., Any], *series: Array) -> None:
        """Find what is not finite again by the problem alone, which tells why, or does better."""
        # A sum of squares is finite only if all entries are, and costs less than asking each.
        if np.isfinite([np.vdot(z, z) for z in found]).all():
            return
        finite = [np.isfinite(z).reshape(self.b, -1).all(axis=1) for z in found]
        for i in np.flatnonzero(~np.logical_and.reduce(finite)):
            for z, value in zip(found, self._alone(alone, int(i), *series), strict=True):
                z[i] = value


# Many problems abreast: their axis is the last. Arrays of a problem are (T or 1, ..., b or 1).


def _lanes(z: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(z, 0, -1))


def _times(M: Array, z: Array, *, transpose: bool = False) -> Array:
    """M z or M'z at each stage, for z (T, ..., b)."""
    axes = "ji" if transpose else "ij"
    if len(M) == 1:
        return np.asarray(np.einsum(f"{axes}b,tjb->tib", M[0], z))
    return np.asarray(np.einsum(f"t{axes}b,tjb->tib", M, z))


def _states(z: Lanes, x0: Array, u: Array) -> Array:
    A, T = z["A"], len(u)
    x = np.empty((T + 1, *x0.shape))
    x[0] = x0
    x[1:] = _times(z["B"], u)
    if z["c"] is not None:
        x[1:] += z["c"]
    for t in range(T):
        x[t + 1] += np.einsum("ijb,jb->ib", A[t if len(A) > 1 else 0], x[t])
    return x


def _costates(z: Lanes, slopes: Array) -> Array:
    """The total derivatives of the cost in x[1], ..., x[T], from the partial ones, in place."""
    A = z["A"]
    for t in range(len(slopes) - 2, 0, -1):
        slopes[t] += np.einsum("jib,jb->ib", A[t if len(A) > 1 else 0], slopes[t + 1])
    return slopes


def _state_slopes(z: Lanes, x: Array, u: Array) -> Array:
    slopes = np.empty_like(x)
    slopes[:-1] = _times(z["Q"], x[:-1])
    slopes[-1:] = _times(z["S"], x[-1:])
    if z["M"] is not None:
        slopes[:-1] += _times(z["M"], u)
    for name, part in (("q", slopes[:-1]), ("s", slopes[-1:])):
        if z[name] is not None:
            part += z[name]
    return slopes


def _input_slopes(z: Lanes, x: Array, u: Array) -> Array:
    slopes = _times(z["R"], u)
    if z["M"] is not None:
        slopes += _times(z["M"], x[:-1], transpose=True)
    if z["r"] is not None:
        slopes += z["r"]
    return slopes


def _value(z: Lanes, x: Array, u: Array, x_slopes: Array, u_slopes: Array) -> Array:
    """J = 1/2 sum x'(Qx + Mu + 2q) + u'(Ru + M'x + 2r), from the slopes at hand."""
    double = np.einsum("tib,tib->b", x, x_slopes) + np.einsum("tib,tib->b", u, u_slopes)
    for name, part in (("q", x[:-1]), ("r", u), ("s", x[-1:])):
        if z[name] is not None:
            double += (part * z[name]).sum(axis=(0, 1))
    return np.asarray(0.5 * double)


def _value_and_gradient(z: Lanes, x0: Array, u: Array) -> tuple[Array, Array]:
    x = _states(z, x0, u)
    x_slopes, u_slopes = _state_slopes(z, x, u), _input_slopes(z, x, u)
    J = _value(z, x, u, x_slopes, u_slopes)
    return J, u_slopes + _times(z["B"], _costates(z, x_slopes)[1:], transpose=True)
