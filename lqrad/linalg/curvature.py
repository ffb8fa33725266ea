"""A lower bound on the curvature of a linear-quadratic problem in its inputs."""

from __future__ import annotations

import numpy as np

from lqrad.arguments import EPS, Array


def input_curvature(Q: Array, R: Array, M: Array) -> Array | None:
    """Return the Cholesky factor of a D such that the Hessian in u is at least blkdiag(D[t]).

    Minimised over the state as if that were free, the cost 1/2 x'Qx + x'Mu + 1/2 u'Ru of a stage
    is 1/2 u'(R - M'Q^+M)u, by the Schur complement of Q. Dynamics that tie the states to the
    inputs can only raise it, so D = R - M'Q^+M. Each weight may have a leading T axis; [Q M; M' R] is
    positive semidefinite. None is returned where D is not proven to be positive definite.

    References
    ----------
    Boyd and Vandenberghe, Convex Optimization, 2004, appendix A.5.5 (Schur complement).

    Examples
    --------
    >>> input_curvature(np.array([[2.0]]), np.array([[3.0]]), np.array([[2.0]]))
    array([[1.]])
    """
    D = R
    if M.any():
        n, m = M.shape[-2:]
        # In units of the states in which the diagonal of Q is near one: what is zero is so in them.
        units = -(np.frexp(np.diagonal(Q, axis1=-2, axis2=-1))[1] // 2)
        Q = np.ldexp(Q, units[..., None, :] + units[..., :, None])
        M = np.ldexp(M, units[..., :, None])
        values, vectors = np.linalg.eigh(Q)
        positive = values > n * EPS * np.abs(values).max(axis=-1, keepdims=True)
        cross = vectors.swapaxes(-1, -2) @ M
        # No column of M is larger than this, by the semidefiniteness of [Q M; M' R].
        size = np.sqrt(n * values.max(axis=-1)[..., None] * np.diagonal(R, axis1=-2, axis2=-1))
        rounding = 2 * n * EPS * size[..., None, :]
        if np.any(~positive[..., :, None] & (np.abs(cross) > rounding)):
            return None  # M reaches a direction that Q hardly weighs: M'Q^+M is not known there
        root = np.where(positive, np.sqrt(np.where(positive, values, 1.0)), np.inf)
        scaled = cross / root[..., None]
        # What rounding may have added to the difference is taken off, so that the bound holds.
        rounding = 4 * m * (n + m) * EPS * np.diagonal(R, axis1=-2, axis2=-1)
        D = R - scaled.swapaxes(-1, -2) @ scaled - rounding[..., None, :] * np.eye(m)
    try:
        return np.asarray(np.linalg.cholesky(D))
    except np.linalg.LinAlgError:
        return None
