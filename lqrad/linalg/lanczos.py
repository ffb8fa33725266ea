"""Extreme eigenvalues of a symmetric operator that is known by its products only."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.linalg.blas import dnrm2

from lqrad.arguments import EPS, Array, check_count
from lqrad.errors import ArgumentError, NonFiniteError


def extreme_eigenvalues(
    product: Callable[[Array], Array], shape: tuple[int, ...], *, products: int = 30
) -> tuple[float, float]:
    """Estimate the smallest and the largest eigenvalue of a symmetric operator v -> H v by Lanczos.

    `products` is how many are taken at most; fewer are when they span an invariant subspace.

    The first is the smallest Ritz value, which is never below the smallest eigenvalue; the second the
    largest plus the largest residual among the upper three, which but for contrived H is not below the
    largest eigenvalue, nor far above it. Both are exact, up to rounding, where `products` is at least
    the number of distinct eigenvalues. The first vector is drawn from a fixed seed.

    Raises
    ------
    NonFiniteError
        If a product is not finite.

    References
    ----------
    Parlett, The Symmetric Eigenvalue Problem, 1998, chapter 13.
    Zhou and Li, Bounding the spectrum of large Hermitian matrices, 2011.

    Examples
    --------
    >>> smallest, largest = extreme_eigenvalues(lambda v: [1.0, 2.0, 5.0] * v, (3,))
    >>> round(smallest, 12), round(largest, 12)
    (1.0, 5.0)
    """
    size = math.prod(shape)
    if size == 0:
        raise ArgumentError(f"shape is {shape}, expected one with at least one entry")
    steps = min(check_count("products", products), size)
    basis, alpha, beta = np.empty((steps, size)), np.empty(steps), np.empty(steps)
    v = np.random.default_rng(0).normal(size=size)
    v /= dnrm2(v)
    for k in range(steps):
        basis[k] = v
        v = np.array(product(v.reshape(shape)), dtype=np.float64).ravel()
        if not np.isfinite(v).all():
            raise NonFiniteError("the Hessian's product with a vector is not finite")
        scale = dnrm2(v)
        alpha[k] = basis[k] @ v
        for _ in range(2):  # once is not enough to be orthogonal up to rounding, twice is
            v -= (basis[: k + 1] @ v) @ basis[: k + 1]
        beta[k] = dnrm2(v)
        if beta[k] <= 100 * EPS * scale:  # the subspace is invariant: its Ritz values are exact
            steps = k + 1
            break
        v /= beta[k]
    values, vectors = eigh_tridiagonal(alpha[:steps], beta[: steps - 1])
    residuals = beta[steps - 1] * np.abs(vectors[-1, -3:])
    return float(values[0]), float(values[-1] + residuals.max())
