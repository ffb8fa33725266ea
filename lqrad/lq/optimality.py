"""The optimality conditions of a trajectory, as numbers that one can look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lqrad.arguments import Array, check_finite
from lqrad.linalg.balance import Exponents
from lqrad.results import Report


@dataclass(frozen=True, eq=False)
class KKT(Report):
    """Residuals of the optimality conditions: the derivatives of the Lagrangian.

    Attributes
    ----------
    dynamics : (..., T+1, n)
        x0 - x[0], then A x[t] + B u[t] + c - x[t+1]: derivatives in the multipliers.
    state : (..., T, n)
        Derivatives in x[1], ..., x[T]: zero where p is the adjoint of x and u.
    input : (..., T, m)
        Derivatives in u: the gradient of the cost where the other two are zero.
    relative : float
        The largest, over the three blocks, of max|residual| over the largest single term that was
        added up in its block: a few rounding errors (1e-15) at an optimum, or more where a term
        is itself what is left of larger ones, as B'p is where R is tiny beside Q. States and inputs
        of an `LQProblem` are measured in units of its own, so that no large one hides a small one.
    """

    dynamics: Array
    state: Array
    input: Array
    relative: float


def kkt_from_terms(
    dynamics: Sequence[Array],
    state: Sequence[Array],
    input: Sequence[Array],
    exponents: tuple[Exponents | int, Exponents | int, Exponents | int] = (0, 0, 0),
) -> KKT:
    """Add up the terms of each block, and measure the sums by the largest of their terms.

    Parameters
    ----------
    dynamics, state, input : sequences of arrays
        The terms of each block, of one shape within a block.
    exponents : triple of (n,) or int
        The entries of a block are measured in units of two to the power of these.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> kkt_from_terms([4 * one, -3 * one], [one, -one], [one, -one]).relative
    0.25
    """
    blocks = [np.sum(terms, axis=0) for terms in (dynamics, state, input)]
    relative = 0.0
    for block, terms, unit in zip(blocks, (dynamics, state, input), exponents, strict=True):
        check_finite("the KKT residual", block, computed=True)
        left, *sizes = (float(np.abs(np.ldexp(term, -unit)).max()) for term in (block, *terms))
        if max(sizes) > 0:
            relative = max(relative, left / max(sizes))
    return KKT(blocks[0], blocks[1], blocks[2], relative)
