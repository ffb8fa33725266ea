"""Block-bidiagonal systems: a simulation and its adjoint.

A horizon of linear dynamics is one triangular system L x = f with unit diagonal blocks and -A[t]
below them, and the costates solve its transpose:

    L x = f :     x[0] = f[0],    x[t+1] = A[t] x[t] + f[t+1]
    L'p = f :     p[T] = f[T],    p[t]   = A[t]' p[t+1] + f[t]

Seen entry by entry, L is triangular with 2n - 1 diagonals below the main one, so LAPACK's banded
triangular solver `dtbtrs` does a whole simulation in one call, and the adjoint on the same band in
another. The band holds L', whose columns are the rows of A: both calls are up to twice as fast on
it as on a band of L. Long horizons are marched in pieces whose band stays in cache.

Of more states, where A does not vary, several steps are taken at once,

    x[t+l] = A^l x[t] + sum_k A^(l-1-k) f[t+1+k],

with the sums of all pieces of the horizon in one product of matrices. From every l-th state those between
are found step by step, in all pieces abreast. Every step then is one of substitution but for the last
of a piece, whose residual is looked at: from where it is more than substitution may leave, that goes on.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.blas import dgemv
from scipy.linalg.lapack import dtbtrs

from lqrad.arguments import EPS, Array
from lqrad.errors import OVERFLOW_REMEDY, NonFiniteError, ShapeError
from lqrad.linalg.forward import BANDED_WORK, band_steps, fill_band
from lqrad.native.library import on_lines
from lqrad.native.lq import serves_series, solve_bidiagonal

# So many steps are taken at once, for numbers of states between these, and horizons of at least this.
_LEAP, _LEAPING, _LEAST_HORIZON = 8, range(20, 120), 400


class Bidiagonal:
    """The unit block-bidiagonal matrix L with -A[t] below the diagonal.

    Parameters
    ----------
    A : (n, n) or (T, n, n)
        State matrix, constant or one for each step. A constant one serves every horizon.
    room : int
        How many bytes the filled band of an A that varies may take to be kept: twice those of A.

    Examples
    --------
    >>> L = Bidiagonal(np.array([[0.5]]))
    >>> f = np.array([[8.0], [0.0], [0.0]])
    >>> L.solve(f).ravel()                       # x[t+1] = 0.5 x[t] from 8
    array([8., 4., 2.])
    >>> L.solve(f[::-1], transpose=True).ravel() # p[t] = 0.5 p[t+1] from 8
    array([2., 4., 8.])
    """

    def __init__(self, A: Array, *, room: int = 0) -> None:
        self.n = A.shape[-1]
        self.T = len(A) if A.ndim == 3 else None
        still = A.ndim == 2
        self.A, self._transposed = on_lines(A, A.T) if still else 2 * [np.ascontiguousarray(A)]
        self._bands: dict[int, Array] = {}  # those that are kept, by their first step
        self._kept_ahead: dict[bool, tuple[Array, Bidiagonal]] = {}
        self._leaps = self.T is None and self.n in _LEAPING
        self._keeps = A.ndim == 2 or 2 * A.nbytes <= room

    def solve(self, f: Array, *, transpose: bool = False, overwrite: bool = False) -> Array:
        """Return x of L x = f, or with `transpose` of L'x = f, for f (..., T+1, n) with batches in front.

        With `overwrite` it is found in f itself, where that is C-contiguous: use the returned array.

        Raises
        ------
        NonFiniteError
            If the recursion overflows; names the first step, in the order of the recursion.
        """
        fits = f.ndim >= 2 and f.shape[-1] == self.n and f.shape[-2] >= 1
        if not fits or self.T not in (None, f.shape[-2] - 1):
            rows = "T + 1" if self.T is None else self.T + 1
            raise ShapeError(
                f"f has shape {f.shape}, expected (..., {rows}, {self.n}): one row for each state"
            )
        # A kernel in C trusts what it is given.
        ours = overwrite and f.flags.carray and f.dtype == np.float64
        x = f if ours else np.array(f, dtype=np.float64, order="C")
        # LAPACK's wrappers corrupt memory when they are handed an empty array.
        if not x.size or x.shape[-2] == 1:
            return x
        flat = x.reshape(-1, x.shape[-2] * self.n)  # a row for each series
        if serves_series(self.n, len(flat)):
            by_rows = self.A if transpose or self.T is not None else self._transposed
            finite = solve_bidiagonal(by_rows, x, transpose=transpose)
        else:
            if self._leaps and len(flat) == 1 and x.shape[-2] > _LEAST_HORIZON:
                flat = self._leap(flat, transpose)
            self._substitute(flat, transpose)
            # A sum of squares is finite only if all entries are, and costs less than asking each.
            finite = math.isfinite(np.vdot(x, x))
        if not finite:
            self._check_finite(x, transpose)
        return x

    def _substitute(self, flat: Array, transpose: bool) -> None:
        """Solve in place, for series that are rows; what comes out may not be finite."""
        # Packing the band of a varying A weighs as much as four series.
        work = len(flat) if self.T is None else len(flat) + 4
        if work * self.n**2 <= BANDED_WORK:
            self._march(flat, transpose)
        else:
            self._step(flat.reshape(len(flat), -1, self.n), transpose)

    @np.errstate(over="ignore", invalid="ignore")  # substitution tells
    def _leap(self, flat: Array, transpose: bool) -> Array:
        """Take several steps at once, in place, as far as rounding errors let it; return where to go on."""
        n, M = self.n, self.A if transpose else self._transposed
        sums, far = self._ahead(transpose)
        x = flat.reshape(-1, n)[:: -1 if transpose else 1]  # rows x[t+1] = x[t] M + f[t+1]
        pieces = (len(x) - 1) // _LEAP
        f = x[1 : pieces * _LEAP + 1].reshape(pieces, _LEAP, n)  # a view
        ends = np.empty((pieces + 1, n))
        ends[0] = x[0]
        np.matmul(f.reshape(pieces, -1), sums, out=ends[1:])
        far._substitute(ends.reshape(1, -1), False)
        found, now = np.empty(f.shape), ends[:-1]
        for i in range(_LEAP):
            before, now = now, found[:, i]
            np.add(before @ M, f[:, i], out=now)
        terms = np.abs(before) @ np.abs(M) + np.abs(f[:, -1]) + np.abs(now)
        near = (np.abs(now - ends[1:]) <= (n + 1) * EPS * terms).all(axis=1)
        now[...] = ends[1:]
        done = pieces if near.all() else int(near.argmin())
        f[:done] = found[:done]
        steps = done * _LEAP
        return flat[:, : flat.size - steps * n] if transpose else flat[:, steps * n :]

    def _ahead(self, transpose: bool) -> tuple[Array, Bidiagonal]:
        """M^(l-1), ..., M, I below each other, of M = A' or A where rows go by it; and what takes l steps."""
        if transpose not in self._kept_ahead:
            M = self.A if transpose else self._transposed
            powers = [np.eye(self.n)]
            for _ in range(_LEAP):
                powers.append(powers[-1] @ M)
            self._kept_ahead[transpose] = np.concatenate(powers[-2::-1]), Bidiagonal(powers[-1].T)
        return self._kept_ahead[transpose]

    def _march(self, flat: Array, transpose: bool) -> None:
        """Solve in place by banded solves over pieces of the horizon.

        Neighbouring pieces share a block: it is the last unknown of one and the first of the next,
        which the unit diagonal leaves as it is.
        """
        n = self.n
        T = flat.shape[1] // n - 1
        most = band_steps(n)
        starts = range(0, T, most)
        spare = None
        trans = "N" if transpose else "T"  # the band is that of L'
        for start in reversed(starts) if transpose else starts:
            stop = min(start + most, T)
            band = spare = self._band_of(start, stop if self.T else start + min(most, T), spare)
            piece = flat[:, start * n : (stop + 1) * n].T  # one column for each series
            columns = np.asfortranarray(piece)  # the piece itself where memory allows
            dtbtrs(band[:, : len(piece)], columns, uplo="U", trans=trans, diag="U", overwrite_b=1)
            if columns.base is None:
                piece[...] = columns

    def _band_of(self, start: int, stop: int, spare: Array | None) -> Array:
        """The band of L' over these steps: one that is kept, or else filled now, in `spare` if that will do."""
        first, columns = start if self.T else 0, (stop - start + 1) * self.n
        band = self._bands.get(first)
        if band is not None and band.shape[1] >= columns:
            return band
        if self._keeps or spare is None or spare.shape[1] < columns:
            spare = np.zeros((2 * self.n, columns), order="F")
        shape = (stop - start, self.n, self.n)
        fill_band(spare, self.A[start:stop] if self.T else np.broadcast_to(self.A, shape))
        if self._keeps:
            self._bands[first] = spare  # whole: another thread may read it from here on
        return spare

    def _step(self, series: Array, transpose: bool) -> None:
        """Solve in place by a matrix product at each step, over the batch at once."""
        T = series.shape[1] - 1
        past, future = series[:, :-1], series[:, 1:]
        source, target = (future, past) if transpose else (past, future)
        order = range(T - 1, -1, -1) if transpose else range(T)
        A = self.A.swapaxes(-1, -2)  # in Fortran order, as BLAS reads it: A'
        matrices = A if A.ndim == 3 else [A] * T
        if len(series) == 1:
            source, target, trans = source[0], target[0], 0 if transpose else 1
            for t in order:
                dgemv(1.0, matrices[t], source[t], 1.0, target[t], trans=trans, overwrite_y=1)
            return
        product = np.empty((len(series), self.n))
        with np.errstate(over="ignore", invalid="ignore"):  # looked for by the caller
            for t in order:
                M = matrices[t].T if transpose else matrices[t]  # states are rows here
                np.matmul(source[:, t], M, out=product)
                target[:, t] += product

    def _check_finite(self, x: Array, transpose: bool) -> None:
        """Raise NonFiniteError if x is not finite, with the first step of the recursion."""
        step = first_nonfinite_step(x, reverse=transpose)
        if step is None:
            return
        last = x.shape[-2] - 1
        if transpose:
            message = f"the derivative in x[{step}] overflowed, backward from step {last}"
        else:
            message = f"the state x[{step}] overflowed, of {last} steps"
        if self.T is None:
            radius = np.abs(np.linalg.eigvals(self.A)).max()
            message += f"; the spectral radius of A is {radius:.4g}"
        raise NonFiniteError(message, OVERFLOW_REMEDY)


def first_nonfinite_step(x: Array, *, reverse: bool = False) -> int | None:
    """Return the first step t at which x (..., T+1, n) is not finite, or None.

    With `reverse` the steps are taken backward, as an adjoint takes them.
    """
    bad = ~np.isfinite(x).all(axis=-1)
    steps = np.flatnonzero(bad.reshape(-1, bad.shape[-1]).any(axis=0))
    return int(steps[-1 if reverse else 0]) if len(steps) else None
