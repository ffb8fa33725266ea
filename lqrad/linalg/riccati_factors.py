"""The Riccati recursion in factors: P[t] = Y'Y is never formed, and so cannot become indefinite.

With W'W = [R M'; M Q] and P[t+1] = Y'Y, one QR factorisation makes a stage:

    [ W         ]              [ D  E ]        D'D = R + B'P[t+1]B        K[t] = D^-1 E
    [ Y B   Y A ]  =  (Q, with [ 0  Y ]),      Y'Y = P[t], the new Y

It takes longer than the recursion of P, and there are two kinds of problems that need it. One has a mode
that grows and that Q and S do not see. There P is zero and stays so; but that fixed point is unstable, and
a rounding error in P grows with the square of the mode until, if it was negative, P is indefinite and
R + B'PB too. The errors here are those of Y: their squares are far smaller, and positive. The other has an S
that is large beside what the inputs cost: P[t] is then a small difference of large terms. Here no terms are
subtracted; and with its rows in falling order, the reflections of a QR factorisation leave each row's
own digits: the small ones are not lost beside the large.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpstrf, dtrtrs

from lqrad.arguments import EPS, Array


def recursion_in_factors(
    A: Array, B: Array, Q: Array, R: Array, M: Array, S: Array, T: int
) -> tuple[Array, Array, Array] | None:
    """Return P, K and L as `riccati.recursion` does; None where a weight is indefinite.

    P is semidefinite to the rounding errors of a product. Where a pivot of L is zero, K is not a gain.

    References
    ----------
    Kailath, Sayed and Hassibi, Linear Estimation, 2000, section 12.3 (array algorithms).
    Morf and Kailath, Square-root algorithms for least-squares estimation, IEEE Trans. Automatic
    Control 20 (1975), 487-497.
    Cox and Higham, Stability of Householder QR factorization for weighted least squares problems, in
    Numerical Analysis 1997 (1998), 57-73 (rows in falling order).

    Examples
    --------
    >>> one = np.eye(1)
    >>> P, K, L = recursion_in_factors(one, one, one, one, 0 * one, one, 40)
    >>> print(round(P[0, 0, 0], 12))  # the golden ratio
    1.61803398875
    """
    n, m = B.shape[-2:]
    weights = np.empty((*np.broadcast_shapes(*(z.shape[:-2] for z in (Q, R, M))), m + n, m + n))
    weights[..., :m, :m], weights[..., m:, m:] = R, Q
    weights[..., m:, :m], weights[..., :m, m:] = M, M.swapaxes(-1, -2)
    roots = []
    for weight in (S, *weights.reshape(-1, m + n, m + n)):
        W = _half(weight)
        if W is None:
            return None
        roots.append(W)
    A, B = (np.broadcast_to(z, (T, *z.shape[-2:])) for z in (A, B))
    Ys, K, L = np.empty((T + 1, n, n)), np.empty((T, m, n)), np.empty((T, m, m))
    Ys[T], *roots = roots
    rows = np.empty((m + 2 * n, m + n))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the caller looks
        for t in reversed(range(T)):
            rows[: m + n] = roots[t % len(roots)]  # one that is constant, or T
            np.matmul(Ys[t + 1], B[t], out=rows[m + n :, :m])
            np.matmul(Ys[t + 1], A[t], out=rows[m + n :, m:])
            falling = (-np.abs(rows).max(axis=1)).argsort(kind="stable")
            triangle = np.asarray(np.linalg.qr(rows[falling], mode="r"))
            D, Ys[t] = triangle[:m, :m], triangle[m:, m:]
            L[t] = D.T * np.sign(D.diagonal())
            K[t], _ = dtrtrs(D, triangle[:m, m:])
        P = Ys.swapaxes(1, 2) @ Ys
        return (P + P.swapaxes(1, 2)) / 2, K, L


def _half(weight: Array) -> Array | None:
    """Return W with W'W = weight, or None where that is indefinite.

    Where no more than rounding errors are left of the weight, scaled to a unit diagonal, W ends.
    """
    size = np.sqrt(np.abs(weight.diagonal()))
    size = np.where(size > 0, size, 1.0)
    scaled = weight / size / size[:, None]
    triangle, order, rank, _ = dpstrf(scaled)
    W = np.triu(triangle)
    W[rank:] = 0.0
    W[:, order - 1] = W.copy()
    if (np.abs(W.T @ W - scaled) > 16 * len(W) * EPS).any():
        return None
    return np.asarray(W * size)
