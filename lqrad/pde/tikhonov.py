"""Tikhonov's minimum for every alpha at once, on a bidiagonal basis, and the choice of alpha.

    minimise    |B v - beta e|^2 + alpha |v|^2,      e the first unit vector, B (k + 1, k) bidiagonal

With the singular values s of B and the components c of beta e along its left singular vectors, the
minimum is v = s c / (s^2 + alpha) along the right ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array

_DECADES = 16  # below the square of the largest singular value, in which alpha is looked for
_PER_DECADE = 20


@dataclass(frozen=True)
class Projected:
    """The problem on the basis, by the singular values s of B; v in its singular vectors."""

    s: Array
    c: Array  # components of beta e
    Vt: Array
    outside: float  # squared part of beta e that no v reaches
    tail: float  # the gradient's norm is this times the last entry of v

    @classmethod
    def of(cls, diagonal: list[float], below: list[float], rest: float) -> Projected:
        k = len(diagonal)
        B = np.zeros((k + 1, k))
        B[np.arange(k), np.arange(k)] = diagonal
        B[np.arange(1, k + 1), np.arange(k)] = below[1:]
        left, s, Vt = np.linalg.svd(B, full_matrices=True)
        c = below[0] * left[0]
        return cls(s, c[:k], Vt, float(c[k]) ** 2, rest * below[-1])

    @property
    def start(self) -> float:
        """The norm of the gradient at zero."""
        return float(np.linalg.norm(self.s * self.c))

    def filtered(self, alphas: Array | float) -> Array:
        """The minimum v of each alpha, in the singular vectors."""
        return np.asarray(self.s * self.c / (self.s**2 + np.asarray(alphas)[..., None]))

    def minimum(self, alpha: float) -> Array:
        return np.asarray(self.filtered(alpha) @ self.Vt)

    def misfit(self, alphas: Array | float) -> Array:
        left = self.c - self.s * self.filtered(alphas)
        return np.asarray(np.sqrt((left**2).sum(axis=-1) + self.outside))

    def converged(self, alphas: Array | float, tol: float) -> NDArray[np.bool_]:
        last = self.filtered(alphas) @ self.Vt[:, -1]
        return np.asarray(self.tail * np.abs(last) <= tol * self.start)

    def grid(self, tol: float) -> Array:
        """Values of alpha down to the smallest that has converged."""
        alphas = self.s[0] ** 2 * np.logspace(2, -_DECADES, (_DECADES + 2) * _PER_DECADE + 1)
        done = self.converged(alphas, tol)
        return np.asarray(alphas if done.all() else alphas[: int(np.argmin(done))])

    def curve(self, tol: float) -> tuple[Array, Array, Array]:
        alphas = self.grid(tol)
        return alphas, self.misfit(alphas), np.linalg.norm(self.filtered(alphas), axis=-1)

    def choose(
        self, rule: str, value: float, count: int, tol: float, exhausted: bool
    ) -> float | None:
        """Alpha by the rule, or None where more steps are needed to know it."""
        if rule == "l-curve":
            return self._corner(tol, exhausted)
        alpha = value if rule == "given" else self._discrepancy(count)
        return alpha if alpha is not None and self.converged(alpha, tol) else None

    def _discrepancy(self, count: int) -> float | None:
        """The alpha whose misfit is the root of count: the misfit rises with alpha."""
        low, high = math.log(self.s[0] ** 2) - 100.0, math.log(self.s[0] ** 2) + 100.0
        if self.misfit(math.exp(low)) ** 2 > count:
            return None
        for _ in range(100):
            middle = (low + high) / 2
            if self.misfit(math.exp(middle)) ** 2 > count:
                high = middle
            else:
                low = middle
        return math.exp(low)

    def _corner(self, tol: float, exhausted: bool) -> float | None:
        """The alpha where the curve of log size over log misfit turns most to the left.

        More steps show more of the curve, down to where the misfit hardly falls any more.
        """
        alphas, misfit, size = self.curve(tol)
        below = 2 * _PER_DECADE
        seen = len(alphas) > 2.5 * below and misfit[-1] > 0.9 * misfit[-below]
        if not (seen or exhausted) or len(alphas) < 3:
            return None
        f = self.s**2 / (self.s**2 + alphas[:, None])
        rise = (f * ((1 - f) * self.c) ** 2).sum(axis=1)  # that of misfit^2 / 2 over log alpha
        right, up = rise / misfit**2, -rise / alphas / size**2
        bend = right * np.gradient(up) - up * np.gradient(right)
        turn = -bend / np.hypot(right, up) ** 3  # alpha falls along the grid
        k = int(np.argmax(turn[1:-1])) + 1
        return float(alphas[k]) if exhausted or k < len(alphas) - below else None
