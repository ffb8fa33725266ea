"""What an excess of a row costs, and what that makes of its multiplier.

An excess e >= 0 of a row costs price e + spring/2 e^2; the price is infinite where the row is hard. The
Lagrangian's minimum over e with a multiplier y bounds the cost from below,

    min_e  price e + spring/2 e^2 - |y| e  =  -b^2 / (2 spring),      b = max(|y| - price, 0)

and is -infinity where a row without a spring has |y| > price. At the best point e = b / spring: none
up to the price, so that a plan whose multipliers stay below their prices is that of hard rows, and its
largest multiplier the least price that leaves it so. With d the way of the row beyond its limit,
negative where it is within, the cost of e exceeds this bound by

    (price - (|y| - b)) e + (spring e - b)^2 / (2 spring) + |y| (e - d)

of which no term is negative: it is evaluated without cancellation.

References
----------
Fletcher, Practical Methods of Optimization, 2nd edition, 1987, section 12.3 (exact l1 penalties).
Bertsekas, Nonlinear Programming, 3rd edition, 2016, section 6.1 (conjugates).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array


class Prices(NamedTuple):
    """What an excess of each row costs.

    Attributes
    ----------
    price, spring : (k,)
        The price is infinite where a row is hard; elsewhere one of both is positive.

    Examples
    --------
    A row with a price of 2 and one with a spring of 4 as well:

    >>> prices = Prices(np.array([2.0, 2.0]), np.array([0.0, 4.0]))
    >>> prices.of(np.array([0.5, 0.5]))
    array([1. , 1.5])
    >>> prices.most
    array([ 2., inf])
    """

    price: Array
    spring: Array

    def of_rows(self, at: NDArray[np.intp]) -> Prices:
        """Those of some rows."""
        return Prices(self.price[at], self.spring[at])

    @property
    def hard(self) -> NDArray[np.bool_]:
        """The rows that do not give way."""
        return np.isinf(self.price)

    @property
    def give(self) -> Array:
        """One over the spring: zero where a row is hard, infinite where it has a price alone."""
        with np.errstate(divide="ignore"):
            return np.where(self.hard, 0.0, 1 / self.spring)

    @property
    def most(self) -> Array:
        """The largest multiplier that a row can have."""
        return np.where(self.spring > 0, np.inf, self.price)

    def of(self, e: Array) -> Array:
        """Return what excesses e (..., k) cost; those of hard rows nothing."""
        return np.asarray(np.where(self.hard, 0.0, self._price * e + 0.5 * self.spring * e**2))

    def gap(self, y: Array, e: Array, d: Array) -> Array:
        """Return what e (T, k) cost above the bound that multipliers y (T, k) prove.

        d (T, k) is the way beyond the limit that y is of; what it is where y is zero does not count.
        """
        size = np.abs(y)
        b = np.where(self.spring > 0, np.maximum(size - self._price, 0.0), 0.0)
        stretch = np.divide(
            self.spring * e - b, np.sqrt(2 * self.spring), where=self.spring > 0, out=0 * y
        )
        soft = (self._price - (size - b)) * e + stretch**2
        return np.asarray(np.where(self.hard, 0.0, soft) + size * np.where(y != 0, e - d, 0.0))

    @property
    def _price(self) -> Array:
        return np.where(self.hard, 0.0, self.price)


def hard(count: int) -> Prices:
    """Return the prices of rows that do not give way."""
    return Prices(np.full(count, np.inf), np.zeros(count))
