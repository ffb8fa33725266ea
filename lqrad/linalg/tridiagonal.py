"""Block-tridiagonal symmetric systems: normal equations, their factor and blocks of their inverse."""

from __future__ import annotations

import copy
import math

import numpy as np
from scipy.linalg.lapack import dpbtrf, dtbtrs

from lqrad.arguments import EPS, Array
from lqrad.errors import NonFiniteError, NotConvexError, ShapeError
from lqrad.linalg.banded import first_nonfinite_step
from lqrad.linalg.stages import substitute

# Up to this size of its blocks, a recursion S = N + G'S G is cheaper over many pieces at once.
_SMALL_BLOCK = 10
# Whether a factor with repeating blocks has settled is looked at after so many of them, then after
# four times as many, and so on, up to this part of all.
_LEAST_HEAD = 32
_MOST_HEAD = 1 / 4
# Bytes of what is worked on at a time, to stay in cache.
_PIECE_BYTES = 512 * 1024


class BlockTridiagonal:
    """A symmetric positive definite block-tridiagonal matrix, factored by Cholesky in its band.

    Factor and solution cost O(N n^3) and O(N n^2). With N, blocks repeat, and the blocks of the factor
    converge. They are then computed only until one of them, repeated, gives the matrix back to
    rounding errors, which is all that is asked of a factor.

    Parameters
    ----------
    diagonal : (N, n, n), or (3, n, n) where N is given
        Symmetric blocks (t, t), or the first, each in the middle, and the last; only their lower
        triangles are read.
    below : (N-1, n, n), or (n, n) where N is given
        Blocks (t+1, t).
    N : int, optional
        The number of blocks on the diagonal, where they repeat; at least two.

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

    def __init__(self, diagonal: Array, below: Array, *, N: int | None = None) -> None:
        if diagonal.ndim != 3 or diagonal.shape[-2] != diagonal.shape[-1] or not diagonal.size:
            raise ShapeError(f"diagonal has shape {diagonal.shape}, expected (N, n, n)")
        self.N, self.n = len(diagonal) if N is None else N, diagonal.shape[-1]
        # The blocks of the factor. The last but one stands for all up to the last, if they are less
        # than N.
        self._band = self._whole(diagonal, below) if N is None else self._settled(diagonal, below)
        self._cut()

    def _whole(self, diagonal: Array, below: Array) -> Array:
        """The band of the factor, all blocks of it."""
        if below.shape != (self.N - 1, self.n, self.n):
            raise ShapeError(
                f"below has shape {below.shape}, expected (N - 1, n, n) = "
                f"{(self.N - 1, self.n, self.n)}: a block between each two of diagonal"
            )
        band = _lower_band(diagonal, below)
        column = _factor(band)
        if column > 0:
            block = (column - 1) // self.n
            raise NotConvexError(
                f"the block-tridiagonal matrix is not positive definite: its Cholesky "
                f"factorisation broke in block {block} of {self.N}; "
                "look for a direction there that no weight or observation reaches"
            )
        return band

    def _settled(self, diagonal: Array, below: Array) -> Array:
        """The band of the factor up to a block that repeats, and its last; or all where none does."""
        first, middle, last = diagonal
        size, links = (self.n, self.n), np.broadcast_to(below, (self.N - 1, *below.shape))
        h = _LEAST_HEAD
        while h <= _MOST_HEAD * self.N:
            blocks = np.concatenate([first[None], np.broadcast_to(middle, (h - 1, *size))])
            head = _lower_band(blocks, links[: h - 1])
            if _factor(head):
                break
            D = _blocks(head[-1:])[0][0]
            E = substitute(D, below.T).T
            symmetric = np.tril(middle) + np.tril(middle, -1).T
            if _negligible(D @ D.T + E @ E.T - symmetric, symmetric):
                end = _lower_band((last - E @ E.T)[None], links[:0])
                if _factor(end):
                    break
                head[-1] = _lower_band(np.array([D, D]), E[None])[0]
                return np.concatenate([head, end])
            h *= 4
        between = np.broadcast_to(middle, (self.N - 2, *size))
        return self._whole(np.concatenate([first[None], between, last[None]]), links)

    def _cut(self) -> None:
        """Cut the factor into pieces (start, stop, band), where its blocks repeat."""
        N, n, h = self.N, self.n, len(self._band) - 1
        self._repeats = h < N - 1
        if not self._repeats:
            self._pieces = [(0, N, self._band.reshape(-1, 2 * n).T)]
            return
        blocks = _transposed(np.concatenate([self._band[:-1], self._band[-2:]]))
        step = max(_LEAST_HEAD, _PIECE_BYTES // (16 * n * n))
        self._pieces = []
        for start in range(0, N, step):
            stop = min(start + step, N)
            which = np.minimum(np.arange(start, stop), h)  # h is the block that repeats
            which[N - 1 - start :] = h + 1
            if start < h + step or stop == N:  # else it is as the last one: all repeated
                band = blocks[which].reshape(-1, 2 * n).T
            self._pieces.append((start, stop, band))
        self._link = _blocks(self._band[-2:-1])[1][0]

    def shortened(self) -> BlockTridiagonal:
        """The same matrix with fewer blocks in its middle, where the factor has settled.

        A change of the first h blocks, as many as were factored until then, has no effect on the
        factor beyond the next h; 4 h are kept.
        """
        short = copy.copy(self)
        short.N = min(self.N, 4 * len(self._band))
        short._cut()
        return short

    def solve(self, f: Array) -> Array:
        """Return x of H x = f, for f (..., N, n) with batches in front.

        Raises
        ------
        NonFiniteError
            If the solution overflows; names the block.
        """
        if f.shape[-2:] != (self.N, self.n):
            raise ShapeError(f"f has shape {f.shape}, expected (..., {self.N}, {self.n})")
        x = np.array(f, dtype=np.float64, order="C")
        if not x.size:
            return x
        flat = x.reshape(-1, self.N * self.n)
        self._march(flat, transpose=False)
        self._march(flat, transpose=True)
        # A sum of squares is finite only if all entries are, and costs less than asking each.
        if not math.isfinite(np.vdot(x, x)):
            step = first_nonfinite_step(x)
            if step is not None:
                raise NonFiniteError(
                    f"the solution is not finite in block {step} of {self.N}; "
                    "is the right-hand side finite and well scaled?"
                )
        return x

    def _march(self, flat: Array, *, transpose: bool) -> None:
        """Solve with the factor, or its transpose, in place, piece by piece."""
        n = self.n
        uplo = "U" if self._repeats else "L"
        trans = "T" if transpose != self._repeats else "N"
        for start, stop, band in reversed(self._pieces) if transpose else self._pieces:
            piece = flat[:, start * n : stop * n]
            if transpose and stop < self.N:
                piece[:, -n:] -= flat[:, stop * n : (stop + 1) * n] @ self._link
            elif start and not transpose:
                piece[:, :n] -= flat[:, (start - 1) * n : start * n] @ self._link.T
            columns = np.asfortranarray(piece.T)  # the piece itself where memory allows
            dtbtrs(band[:, : len(columns)], columns, uplo=uplo, trans=trans, overwrite_b=1)
            if columns.base is None:
                piece[...] = columns.T

    def log_determinant(self) -> float:
        """Return log det H, from the pivots."""
        return float(self.log_determinants(1)[0])

    def log_determinants(self, parts: int) -> Array:
        """Return those of so many equal parts of H, which no block links."""
        logs = np.log(self._band[:, :, 0]).sum(axis=1)
        if self._repeats:
            return np.array([2.0 * (logs.sum() + (self.N - len(logs)) * logs[-2])])
        return np.asarray(2.0 * logs.reshape(parts, -1).sum(axis=1))

    def selected_inverse(self) -> tuple[Array, Array]:
        """Return the blocks Z[t, t] (N, n, n) and Z[t+1, t] (N-1, n, n) of the inverse Z of H.

        With D[t] and E[t] the blocks (t, t) and (t+1, t) of the Cholesky factor, G = E D^-1, and
        backward from the last block,

            Z[t+1, t] = -Z[t+1, t+1] G[t]        Z[t, t] = (D[t] D[t]')^-1 + G[t]'Z[t+1, t+1] G[t]

        where only positive semidefinite terms are added up, so that nothing cancels.
        """
        N, n, h = self.N, self.n, len(self._band) - 1
        Z, X = np.empty((N, n, n)), np.empty((N - 1, n, n))

        def find(start: int, stop: int, G: Array, inverses: Array) -> None:
            many = (stop - start, n, n)
            S = np.concatenate([np.broadcast_to(inverses, many), Z[stop : stop + 1]])
            Z[start : stop + 1], X[start:stop] = congruences(np.broadcast_to(G, many), S)

        Z[N - 1 :] = self._products(h, h + 1)[1]
        stop = N - 1
        while stop > h:
            start = max(h, stop - h)
            find(start, stop, *self._products(h - 1, h))
            stop = start
            if _negligible(Z[start] - Z[start + 1], Z[start]):
                Z[h:start], X[h:start] = Z[start], X[start]
                stop = h
        step = max(_LEAST_HEAD, _PIECE_BYTES // (8 * n * n))
        for stop in range(h, 0, -step):
            start = max(stop - step, 0)
            find(start, stop, *self._products(start, stop))
        return Z, np.negative(X, out=X)

    def _products(self, start: int, stop: int) -> tuple[Array, Array]:
        """The blocks G and (D D')^-1 of a part of the factor."""
        D, E = _blocks(self._band[start:stop])
        roots = substitute(D, np.eye(self.n))
        return E @ roots, roots.swapaxes(-1, -2) @ roots


def _lower_band(diagonal: Array, below: Array) -> Array:
    """The band [t, i, d] of what is d rows below the diagonal in column i of block t."""
    N, n = diagonal.shape[:2]
    band = np.zeros((N, n, 2 * n))
    for i in range(n):
        band[:, i, : n - i] = diagonal[:, i:, i]
        band[: len(below), i, n - i : 2 * n - i] = below[:, :, i]
    return band


def _transposed(band: Array) -> Array:
    """The upper band of the transpose, where LAPACK's solver is faster: [t, i, -1 - d] is d rows above."""
    columns = band.reshape(-1, band.shape[-1])
    upper = np.zeros_like(columns)
    for d in range(columns.shape[1]):
        upper[d:, -1 - d] = columns[: len(columns) - d, d]
    return upper.reshape(band.shape)


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


def congruences(G: Array, N: Array) -> tuple[Array, Array]:
    """Return S and X with S[T] = N[T], and backward X[t] = S[t+1] G[t], S[t] = N[t] + G[t]'X[t].

    G and X are (T, n, n), N and S (T+1, n, n) and symmetric, S to the last bit. For small blocks a step
    of a loop costs more than its arithmetic. So the horizon is cut into about sqrt(T) pieces, which are
    all marched at once, twice: first from S = 0, together with the products of G, which tells what
    each piece makes of the S that it is given; then from the right S.

    Examples
    --------
    >>> S, X = congruences(np.full((2, 1, 1), 2.0), np.ones((3, 1, 1)))
    >>> S.ravel(), X.ravel()
    (array([21.,  5.,  1.]), array([10.,  2.]))
    """
    T, n = G.shape[:2]
    if n == 1:  # one banded system, of S[t] - G[t]^2 S[t+1] = N[t]
        band = np.ones((2, T + 1))
        band[0, 1:] = -(G[:, 0, 0] ** 2)
        S = dtbtrs(band, N.reshape(T + 1, 1), uplo="U", diag="U")[0].reshape(N.shape)
        return S, S[1:] * G
    length = math.isqrt(T) if n <= _SMALL_BLOCK else 1
    pieces = T // length if length > 1 else 0
    rest = T - pieces * length  # steps that are left for a loop, at the start of the horizon
    S, X, transposed = N.copy(), np.empty(G.shape), G.swapaxes(-1, -2)

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
        S[t] += transposed[t].dot(S[t + 1].dot(G[t], out=X[t]))
    return 0.5 * (S + S.swapaxes(-1, -2)), X
