"""Block-tridiagonal symmetric systems: normal equations, their factor and blocks of their inverse."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.lapack import dpbtrf, dpbtrs, dtrtrs

from lqrad.errors import EPS, Array, NonFiniteError, NotConvexError, ShapeError
from lqrad.kernels.banded import first_nonfinite_step

# Up to this size of its blocks, a recursion S = N + G'S G is cheaper over many pieces at once.
_SMALL_BLOCK = 10
# A factor with constant blocks is looked at after this part of them, where that is worth while.
_SETTLED_PART = 8
_LEAST_HEAD = 16


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
