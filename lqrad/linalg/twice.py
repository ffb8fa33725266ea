"""Residuals of (s E - P) x = b in twice the working precision, and solutions right to the last digits.

A sum of products is computed with the rounding error of every operation, which is a number of the
working precision itself, added up beside it (Ogita, Rump and Oishi's Dot2). A system is solved by
LU in the working precision and corrected by its residuals, so that the solution is right however
badly the rows are scaled, as long as a factorisation in the working precision says anything at all.

References
----------
Ogita, Rump and Oishi, Accurate sum and dot product, SIAM Journal on Scientific Computing 26(6),
2005, 1955-1988. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array

# Of complex numbers; real ones are taken, too.
Complex = NDArray[Any]

_SPLITTER = 2.0**27 + 1
# Each correction adds at least a digit or there is none to add; so many make all of them.
_CORRECTIONS = 6
# Parts of the solution below which a correction is the last, and at least has to be.
_CORRECTED, _ENOUGH = 2.0**-90, 2.0**-60


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b as it is rounded, and its rounding error.

    Examples
    --------
    >>> total, error = two_sum(np.float64(1.0), np.float64(1e-20))
    >>> float(total), float(error)
    (1.0, 1e-20)
    """
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a b as it is rounded, and its rounding error."""
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return product, error


def _split(a: Array) -> tuple[Array, Array]:
    wide = _SPLITTER * a
    high = wide - (wide - a)
    return high, a - high


def dot(a: Array, b: Array) -> tuple[Array, Array]:
    """Return sum_j a[..., j] b[..., j] as two numbers whose sum is right to twice the precision."""
    products, errors = two_product(a, b)
    total, rest = products[..., 0], errors[..., 0]
    for j in range(1, products.shape[-1]):
        total, error = two_sum(total, products[..., j])
        rest = rest + (error + errors[..., j])
    return two_sum(total, rest)


class Pencil:
    """s E - P for a real matrix P = high + diag(low) and a diagonal E of zeros and ones.

    Parameters
    ----------
    high : (N, N)
    low : (N,)
        What rounding left of the diagonal.
    ones : int
        How many ones E begins with; zeros follow.
    """

    def __init__(self, high: Array, low: Array, ones: int) -> None:
        self.high, self.low = high, low
        self.E = (np.arange(len(high)) < ones).astype(np.float64)

    def at(self, s: Complex) -> Complex:
        """Return s E - P at each s, (k, N, N), in the working precision."""
        matrices = np.asarray(s[:, None, None] * np.diag(self.E) - self.high)
        index = np.arange(len(self.E))
        matrices[:, index, index] -= self.low
        return matrices

    def residual(self, s: Complex, x: Sequence[Complex], b: Array) -> tuple[Complex, Complex]:
        """Return b - (s E - P) sum(x) as two arrays (k, N), for parts x of shape (k, N)."""
        k, N = x[0].shape
        one, zero = np.ones((k, N, 1)), np.zeros((k, N, 1))
        s_real, s_imag = (part[:, None, None] * self.E[:, None] for part in (s.real, s.imag))
        low = np.broadcast_to(self.low[:, None], (k, N, 1))
        high = np.broadcast_to(self.high, (k, N, N))
        coefficients, real, imag = [one], [b[..., None] + zero], [zero]
        for part in x:
            coefficients += [high, low, -s_real, s_imag]
            own = part[..., None]
            rows = np.broadcast_to(part[:, None, :], (k, N, N))
            real += [rows.real, own.real, own.real, own.imag]
            imag += [rows.imag, own.imag, own.imag, -own.real]
        left = np.concatenate(coefficients, axis=-1)
        parts = [dot(left, np.concatenate(right, axis=-1)) for right in (real, imag)]
        high_part, low_part = (parts[0][i] + 1j * parts[1][i] for i in (0, 1))
        return high_part, low_part

    def solve(self, s: Complex, b: Array) -> tuple[list[Complex], NDArray[np.bool_]]:
        """Return x with (s E - P) x = b at each s, as parts (k, N) whose sum is right; b (N,) or (k, N).

        Returns
        -------
        parts : list of (k, N), complex
        sure : (k,)
            Where the corrections became small; not so where a matrix is singular to rounding.
        """
        matrices = self.at(s)
        right = np.broadcast_to(b, matrices.shape[:2])
        x: list[Complex] = []
        rest: Complex = right + 0j
        first = last = np.zeros(len(s))
        for _ in range(_CORRECTIONS):
            part = np.linalg.solve(matrices, rest[..., None])[..., 0]
            x.append(part)
            last = np.abs(part).max(axis=1)
            first = np.maximum(first, last)
            if (last <= _CORRECTED * first).all():
                break
            rest = np.add(*self.residual(s, x, right))
        return x, last <= _ENOUGH * first
