"""Block-banded systems: a simulation, its adjoint, and symmetric normal equations.

A horizon of linear dynamics is one triangular system L x = f with unit diagonal blocks and -A[t]
below them, and the costates solve its transpose:

    L x = f :     x[0] = f[0],    x[t+1] = A[t] x[t] + f[t+1]
    L'p = f :     p[T] = f[T],    p[t]   = A[t]' p[t+1] + f[t]

Seen entry by entry, L is triangular with 2n - 1 diagonals below the main one, so LAPACK's banded
triangular solver `dtbtrs` does a whole simulation in one call, and the adjoint on the same band in
another. The band holds L', whose columns are the rows of A: both calls are up to twice as fast on
it as on a band of L. Long horizons are marched in pieces whose band stays in cache.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.blas import dgemv
from scipy.linalg.lapack import dpbtrf, dpbtrs, dtbtrs, dtrtrs

from lqrad.errors import EPS, OVERFLOW_REMEDY, Array, NonFiniteError, NotConvexError, ShapeError

# A band of this size stays in a second-level cache together with the states that it works on.
_BAND_BYTES = 256 * 1024
_LEAST_BAND_STEPS = 64
# Where a step of all series costs more multiplications than this, a loop of matrix products is
# faster than the half-empty band; packing the band of a varying A weighs as much as four series.
_BANDED_WORK = 2000
# Up to this size of its blocks, a recursion S = N + G'S G is cheaper over many pieces at once.
_SMALL_BLOCK = 10
# A factor with constant blocks is looked at after this part of them, where that is worth while.
_SETTLED_PART = 8
_LEAST_HEAD = 16


class Bidiagonal:
    """The unit block-bidiagonal matrix L with -A[t] below the diagonal.

    Parameters
    ----------
    A : (n, n) or (T, n, n)
        State matrix, constant or one for each step. A constant one serves every horizon.

    Examples
    --------
    >>> L = Bidiagonal(np.array([[0.5]]))
    >>> f = np.array([[8.0], [0.0], [0.0]])
    >>> L.solve(f).ravel()                       # x[t+1] = 0.5 x[t] from 8
    array([8., 4., 2.])
    >>> L.solve(f[::-1], transpose=True).ravel() # p[t] = 0.5 p[t+1] from 8
    array([2., 4., 8.])
    """

    def __init__(self, A: Array) -> None:
        self.A = A
        self.n = A.shape[-1]
        self.T = len(A) if A.ndim == 3 else None
        self._band: Array | None = None

    def solve(self, f: Array, *, transpose: bool = False, overwrite: bool = False) -> Array:
        """Return x of L x = f, or of L'x = f.

        Parameters
        ----------
        f : (..., T+1, n)
            Right-hand sides; leading axes are a batch.
        transpose : bool
            Solve with L', the adjoint: backward in time.
        overwrite : bool
            Work in f itself, where it is C-contiguous. Use the returned array.

        Returns
        -------
        (..., T+1, n)

        Raises
        ------
        NonFiniteError
            If the recursion overflows; names the first step, in the order of the recursion.
        ShapeError
            If f does not fit A.
        """
        fits = f.ndim >= 2 and f.shape[-1] == self.n and f.shape[-2] >= 1
        if not fits or self.T not in (None, f.shape[-2] - 1):
            rows = "T + 1" if self.T is None else self.T + 1
            raise ShapeError(
                f"f has shape {f.shape}, expected (..., {rows}, {self.n}): one row for each state"
            )
        x = f if overwrite and f.flags.c_contiguous else np.array(f, dtype=np.float64, order="C")
        if not x.size:  # LAPACK's wrappers corrupt memory when they are handed an empty array
            return x
        flat = x.reshape(-1, x.shape[-2] * self.n)  # a row for each series
        work = len(flat) if self.T is None else len(flat) + 4
        if work * self.n**2 <= _BANDED_WORK:
            self._march(flat, transpose)
        else:
            self._step(flat.reshape(len(flat), -1, self.n), transpose)
        # A sum of squares is finite only if all entries are, and costs less than asking each.
        if not math.isfinite(np.vdot(x, x)):
            self._check_finite(x, transpose)
        return x

    def _march(self, flat: Array, transpose: bool) -> None:
        """Solve in place by banded solves over pieces of the horizon.

        Neighbouring pieces share a block: it is the last unknown of one and the first of the next,
        which the unit diagonal leaves as it is.
        """
        n = self.n
        T = flat.shape[1] // n - 1
        most = max(_LEAST_BAND_STEPS, _BAND_BYTES // (16 * n * n))
        starts = range(0, T, most)
        band = self._band_of(min(most, T))
        trans = "N" if transpose else "T"  # the band is that of L'
        for start in reversed(starts) if transpose else starts:
            stop = min(start + most, T)
            if self.T is not None:
                _fill(band, self.A[start:stop])
            piece = flat[:, start * n : (stop + 1) * n].T  # one column for each series
            columns = np.asfortranarray(piece)  # the piece itself where memory allows
            dtbtrs(band[:, : len(piece)], columns, uplo="U", trans=trans, diag="U", overwrite_b=1)
            if columns.base is None:
                piece[...] = columns

    def _band_of(self, steps: int) -> Array:
        """The band of L' over at least `steps` steps: of a constant A, kept; else to be filled."""
        if self.T is not None:
            return np.zeros((2 * self.n, (steps + 1) * self.n), order="F")
        if self._band is None or self._band.shape[1] < (steps + 1) * self.n:
            self._band = np.zeros((2 * self.n, (steps + 1) * self.n), order="F")
            _fill(self._band, np.broadcast_to(self.A, (steps, self.n, self.n)))
        return self._band

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
        raise NonFiniteError(f"{message}; {OVERFLOW_REMEDY}")


def _fill(band: Array, A: Array) -> None:
    """Write the blocks -A[t]' above the unit diagonal of a band of L', row by row of A."""
    steps, n = A.shape[:2]
    columns = band.T.reshape(
        -1, n, 2 * n
    )  # [t, i, 2n - 1 - d]: d rows above, in column i of block t
    for i in range(n):
        np.negative(A[:, i, :], out=columns[1 : steps + 1, i, n - 1 - i : 2 * n - 1 - i])


def first_nonfinite_step(x: Array, *, reverse: bool = False) -> int | None:
    """Return the first step t at which x (..., T+1, n) is not finite, or None.

    With `reverse` the steps are taken backward, as an adjoint takes them.

    Examples
    --------
    >>> first_nonfinite_step(np.array([[1.0], [2.0], [np.inf], [np.nan]]))
    2
    """
    bad = ~np.isfinite(x).all(axis=-1)
    steps = np.flatnonzero(bad.reshape(-1, bad.shape[-1]).any(axis=0))
    return int(steps[-1 if reverse else 0]) if len(steps) else None


class BlockTridiagonal:
    """A symmetric positive definite block-tridiagonal matrix, factored by Cholesky in its band.

    The matrix has `diagonal[t]` as its blocks (t, t), `below[t]` as its blocks (t+1, t), and
    below[t]' as its blocks (t, t+1). Factor and solution cost O(N n^3) and O(N n^2).

    Where all blocks but the first and the last diagonal one are the same, the blocks of the factor
    converge. They are then computed only until one of them, repeated, gives the matrix back to
    rounding errors, which is all that is asked of a factor.

    Parameters
    ----------
    diagonal : (N, n, n)
        Symmetric blocks; only their lower triangles are read.
    below : (N-1, n, n)

    Raises
    ------
    NotConvexError
        If the matrix is not positive definite; names the block where the factorisation broke.

    References
    ----------
    Golub and Van Loan, Matrix Computations, 4th edition, section 4.3.6 (band Cholesky).
    Takahashi, Fagan and Chin, Formation of a sparse bus impedance matrix and its application to
    short circuit study, 8th PICA Conference, 1973 (the blocks of the inverse).

    Examples
    --------
    >>> H = BlockTridiagonal(np.array([[[2.0]], [[2.0]]]), np.array([[[-1.0]]]))
    >>> H.solve(np.array([[3.0], [0.0]])).ravel()
    array([2., 1.])
    >>> round(H.log_determinant(), 12) == round(math.log(3.0), 12)
    True
    """

    def __init__(self, diagonal: Array, below: Array) -> None:
        if diagonal.ndim != 3 or diagonal.shape[-2] != diagonal.shape[-1] or not diagonal.size:
            raise ShapeError(f"diagonal has shape {diagonal.shape}, expected (N, n, n)")
        self.N, self.n = diagonal.shape[:2]
        if below.shape != (self.N - 1, self.n, self.n):
            raise ShapeError(
                f"below has shape {below.shape}, expected (N - 1, n, n) = "
                f"{(self.N - 1, self.n, self.n)}: a block between each two of diagonal"
            )
        # How many blocks of the factor were computed one by one, before they repeat up to the last.
        self._head = self.N // _SETTLED_PART
        band = self._settled(diagonal, below, self._head)
        if band is None:
            self._head = self.N - 1
            band = _lower_band(diagonal, below)
            column = _factor(band)
            if column > 0:
                block = (column - 1) // self.n
                raise NotConvexError(
                    f"the block-tridiagonal matrix is not positive definite: its Cholesky "
                    f"factorisation broke in block {block} of {self.N}; "
                    "look for a direction there that no weight or observation reaches"
                )
        self._band = band

    def _settled(self, diagonal: Array, below: Array, h: int) -> Array | None:
        """The band of a factor whose blocks h-1, ..., N-2 are the same; None where there is none."""
        if h < _LEAST_HEAD or (below != below[0]).any() or (diagonal[1:-1] != diagonal[1]).any():
            return None
        head = _lower_band(diagonal[:h], below[: h - 1])
        if _factor(head):
            return None
        D = _blocks(head[-1:])[0][0]
        E = np.asarray(dtrtrs(D, below[0].T, lower=1)[0].T)
        middle = np.tril(diagonal[1]) + np.tril(diagonal[1], -1).T
        if not _negligible(D @ D.T + E @ E.T - middle, middle):
            return None
        end = _lower_band(diagonal[-1:] - E @ E.T, below[:0])
        if _factor(end):
            return None
        band = np.empty((self.N, self.n, 2 * self.n))
        band[: h - 1], band[-1] = head[:-1], end[0]
        band[h - 1 : -1] = _lower_band(np.array([D, D]), E[None])[0]
        return band

    def solve(self, f: Array) -> Array:
        """Return x of H x = f, for f (..., N, n) with batches in front.

        Raises
        ------
        ShapeError
            If f does not fit the matrix.
        NonFiniteError
            If the solution overflows; names the block.
        """
        if f.shape[-2:] != (self.N, self.n):
            raise ShapeError(f"f has shape {f.shape}, expected (..., {self.N}, {self.n})")
        if not f.size:
            return f.copy()
        columns = np.array(f, dtype=np.float64, order="C").reshape(-1, self.N * self.n).T
        factor = self._band.reshape(-1, 2 * self.n).T
        solution, _ = dpbtrs(factor, columns, lower=1, overwrite_b=1)
        x: Array = solution.T.reshape(f.shape)
        step = first_nonfinite_step(x)
        if step is not None:
            raise NonFiniteError(
                f"the solution is not finite in block {step} of {self.N}; "
                "is the right-hand side finite and well scaled?"
            )
        return x

    def log_determinant(self) -> float:
        """Return log det H, from the pivots.

        Examples
        --------
        >>> BlockTridiagonal(np.eye(2)[None], np.zeros((0, 2, 2))).log_determinant()
        0.0
        """
        return 2.0 * float(np.log(self._band[:, :, 0]).sum())

    def selected_inverse(self) -> tuple[Array, Array]:
        """Return the blocks (t, t) and (t+1, t) of the inverse Z of H.

        With D[t] and E[t] the blocks (t, t) and (t+1, t) of the Cholesky factor, G = E D^-1, and
        backward from the last block,

            Z[t+1, t] = -Z[t+1, t+1] G[t]        Z[t, t] = (D[t] D[t]')^-1 + G[t]'Z[t+1, t+1] G[t]

        where only positive semidefinite terms are added up, so that nothing cancels.

        Returns
        -------
        diagonal : (N, n, n)
        below : (N-1, n, n)

        Examples
        --------
        >>> H = BlockTridiagonal(np.array([[[2.0]], [[2.0]]]), np.array([[[-1.0]]]))
        >>> diagonal, below = H.selected_inverse()
        >>> (3 * diagonal).round(12).ravel(), (3 * below).round(12).ravel()
        (array([2., 2.]), array([1.]))
        """
        N, h = self.N, self._head
        D, E = _blocks(np.concatenate([self._band[:h], self._band[-1:]]))
        roots = substitute(D, np.eye(self.n))
        G, inverses = E[:-1] @ roots[:-1], roots.swapaxes(-1, -2) @ roots
        if h < N - 1:  # the blocks h-1, ..., N-2 are the same
            many = (min(h, N - 1 - h), self.n, self.n)
            repeated = np.broadcast_to(inverses[-2], many)
            end, products = congruences(
                np.broadcast_to(G[-1], many), np.concatenate([repeated, inverses[-1:]])
            )
            if _negligible(end[0] - end[1], end[0]):
                start, first = congruences(G, np.concatenate([inverses[:-1], end[:1]]))
                between = (N - len(start) - len(end) + 1, self.n, self.n)
                Z = np.concatenate([start[:-1], np.broadcast_to(end[0], between), end])
                repeated = np.broadcast_to(products[0], between)
                return Z, -np.concatenate([first, repeated, products])
            more = (N - 1 - h, self.n, self.n)
            G = np.concatenate([G, np.broadcast_to(G[-1], more)])
            repeated = np.broadcast_to(inverses[-2], more)
            inverses = np.concatenate([inverses[:-1], repeated, inverses[-1:]])
        Z, products = congruences(G, inverses)
        return Z, -products


def _lower_band(diagonal: Array, below: Array) -> Array:
    """The band [t, i, d] of what is d rows below the diagonal in column i of block t."""
    N, n = diagonal.shape[:2]
    band = np.zeros((N, n, 2 * n))
    for i in range(n):
        band[:, i, : n - i] = diagonal[:, i:, i]
        band[: len(below), i, n - i : 2 * n - i] = below[:, :, i]
    return band


def _blocks(band: Array) -> tuple[Array, Array]:
    """The blocks on and below the diagonal of a lower triangular band."""
    n = band.shape[1]
    D, E = np.zeros((len(band), n, n)), np.empty((len(band), n, n))
    for i in range(n):
        D[:, i:, i] = band[:, i, : n - i]
        E[:, :, i] = band[:, i, n - i : 2 * n - i]
    return D, E


def _factor(band: Array) -> int:
    """Replace a band by that of its Cholesky factor; return the column where that broke, or 0."""
    columns = band.reshape(-1, band.shape[-1]).T
    factor, info = dpbtrf(columns, lower=1, overwrite_ab=1)
    if not np.shares_memory(factor, columns):
        columns[...] = factor
    return int(info)


def _negligible(change: Array, H: Array) -> bool:
    """Whether a change of a semidefinite matrix is one of rounding errors in its products."""
    size = np.sqrt(H.diagonal())
    return bool((np.abs(change) <= (len(H) + 4) * EPS * np.outer(size, size)).all())


def substitute(L: Array, f: Array) -> Array:
    """Return X of L X = f by forward substitution, for all matrices of a batch at once.

    Parameters
    ----------
    L : (..., n, n)
        Lower triangular.
    f : (..., n, k)

    Returns
    -------
    (..., n, k)

    Examples
    --------
    >>> substitute(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[4.0], [3.0]])).ravel()
    array([2., 1.])
    """
    if L.ndim == f.ndim == 2:
        return np.asarray(dtrtrs(L, f, lower=1)[0])
    X = np.empty((*np.broadcast_shapes(L.shape[:-2], f.shape[:-2]), *f.shape[-2:]))
    for i in range(L.shape[-1]):
        row = f[..., i, :]
        if i:
            row = row - (L[..., i, None, :i] @ X[..., :i, :])[..., 0, :]
        np.divide(row, L[..., i, i, None], out=X[..., i, :])
    return X


def congruences(G: Array, N: Array) -> tuple[Array, Array]:
    """Return S and X with S[T] = N[T], and backward X[t] = S[t+1] G[t], S[t] = N[t] + G[t]'X[t].

    For small blocks a step of a loop costs more than its arithmetic. So the horizon is cut into
    about sqrt(T) pieces, which are all marched at once, twice: first from S = 0, together with the
    products of G, which tells what each piece makes of the S that it is given; then from the right S.

    Parameters
    ----------
    G : (T, n, n)
    N : (T+1, n, n)
        Symmetric.

    Returns
    -------
    S : (T+1, n, n)
        Symmetric to the last bit.
    X : (T, n, n)

    Examples
    --------
    >>> S, X = congruences(np.full((2, 1, 1), 2.0), np.ones((3, 1, 1)))
    >>> S.ravel(), X.ravel()
    (array([21.,  5.,  1.]), array([10.,  2.]))
    """
    T, n = G.shape[:2]
    length = math.isqrt(T) if n <= _SMALL_BLOCK else 1
    pieces = T // length if length > 1 else 0
    rest = T - pieces * length  # steps that are left for a loop, at the start of the horizon
    S, X, transposed = N.copy(), np.empty_like(G), G.swapaxes(-1, -2)

    if pieces:
        total, reach = np.zeros((pieces, n, n)), np.eye(n)
        for j in range(length - 1, -1, -1):
            now = slice(rest + j, T, length)
            total = N[now] + transposed[now] @ total @ G[now]
            reach = reach @ G[now]
        for k in range(pieces - 1, -1, -1):
            start = rest + k * length
            S[start] = total[k] + reach[k].T @ S[start + length] @ reach[k]
        for j in range(length - 1, -1, -1):
            now, then = slice(rest + j, T, length), slice(rest + j + 1, T + 1, length)
            np.matmul(S[then], G[now], out=X[now])
            S[now] = N[now] + transposed[now] @ X[now]
    for t in range(rest - 1, -1, -1):
        np.matmul(S[t + 1], G[t], out=X[t])
        S[t] += transposed[t] @ X[t]
    return 0.5 * (S + S.swapaxes(-1, -2)), X
