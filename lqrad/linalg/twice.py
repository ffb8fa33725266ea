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

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import zgetrf, zgetrs

from lqrad.arguments import Array

# Of complex numbers; real ones are taken, too.
Complex = NDArray[Any]

_SPLITTER = 2.0**27 + 1
# Each correction adds at least a digit or there is none to add; so many make all of them.
_CORRECTIONS = 6
# Parts of the solution below which a correction is the last, and at least has to be.
_CORRECTED, _ENOUGH = 2.0**-90, 2.0**-60


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b as it is rounded, and its rounding error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """A product as it is rounded, and its rounding error."""
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return product, error


def _split(a: Array) -> tuple[Array, Array]:
    wide = _SPLITTER * a
    high = wide - (wide - a)
    return high, a - high


def sum_of_products(pairs: Iterable[tuple[Complex, Complex]]) -> tuple[Array, Array]:
    """Return the sum of a b over pairs of real arrays, as two whose sum has twice the precision.

    Examples
    --------
    >>> total, rest = sum_of_products([(1e20, 1.0), (3.0, 1.0), (-1e20, 1.0)])
    >>> float(total + rest)
    3.0
    """
    total = rest = np.zeros(())
    for a, b in pairs:
        product, error = _two_product(np.asarray(a), np.asarray(b))
        total, lost = two_sum(total, product)
        rest = rest + (error + lost)
    return two_sum(total, rest)


def columns(matrix: Array, x: Array) -> Iterator[tuple[Array, Array]]:
    """The pairs whose sum is the product of a matrix and x, of shape (..., N)."""
    return ((matrix[:, j], x[..., j, None]) for j in range(x.shape[-1]))


class Pencil:
    """s E - P for a real matrix P = high + diag(low) and a diagonal E of so many ones, then zeros.

    `low` (N,) is what rounding left of the diagonal.
    """

    def __init__(self, high: Array, low: Array, ones: int) -> None:
        self.high, self.low = high, low
        self.E = (np.arange(len(high)) < ones).astype(np.float64)

    def at(self, s: Complex) -> Complex:
        """Return s E - P at each s, (k, N, N), in the working precision."""
        matrices = np.tile(-self.high + 0j, (len(s), 1, 1))
        index = np.arange(len(self.E))
        matrices[:, index, index] += s[:, None] * self.E - self.low
        return matrices

    def residual(self, s: Complex, x: Sequence[Complex], b: Array) -> tuple[Complex, Complex]:
        """Return b - (s E - P) sum(x) as two arrays (k, N), for parts x of shape (k, N)."""
        s_real, s_imag = s.real[:, None] * self.E, s.imag[:, None] * self.E
        real: list[tuple[Array, Array]] = [(np.ones(()), np.broadcast_to(b, x[0].shape))]
        imag: list[tuple[Array, Array]] = []
        for part in x:
            real += [(self.low, part.real), (-s_real, part.real), (s_imag, part.imag)]
            imag += [(self.low, part.imag), (-s_real, part.imag), (-s_imag, part.real)]
            real += columns(self.high, part.real)
            imag += columns(self.high, part.imag)
        high, low = zip(sum_of_products(real), sum_of_products(imag), strict=True)
        return high[0] + 1j * high[1], low[0] + 1j * low[1]

    def solve(self, s: Complex, b: Array) -> tuple[list[Complex], NDArray[np.bool_]]:
        """Return x with (s E - P) x = b at each s, as parts (k, N) whose sum is right; b (N,) or (k, N).

        Also where the corrections became small (k,): not so where a matrix is singular to rounding.
        """
        right = np.broadcast_to(b, (len(s), len(self.E)))
        distinct, which = np.unique(s, return_inverse=True)
        factors = [zgetrf(matrix)[:2] for matrix in self.at(distinct)]
        x: list[Complex] = []
        rest: Complex = right + 0j
        first = last = np.zeros(len(s))
        with np.errstate(invalid="ignore", over="ignore"):  # a singular matrix is not sure
            for _ in range(_CORRECTIONS):
                pairs = zip(which, rest, strict=True)
                part = np.array([zgetrs(*factors[i], each)[0] for i, each in pairs])
                x.append(part)
                last = np.abs(part).max(axis=1)
                first = np.maximum(first, last)
                if (last <= _CORRECTED * first).all():
                    break
                rest = np.add(*self.residual(s, x, right))
        return x, last <= _ENOUGH * first
