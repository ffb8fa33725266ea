"""What the descent loop eats: a function to minimise, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lqrad.errors import Array


@dataclass(frozen=True)
class Objective:
    """A function z -> J(z) with its gradient, to be minimised by `lqrad.descend`.

    Parameters
    ----------
    shape : tuple of int
        Shape of z, of the gradient and of a Hessian product.
    value_and_gradient : callable
        z -> (J(z), dJ/dz), where J is a float. It may raise NonFiniteError where J overflows.
    hessian_product : callable, optional
        (z, v) -> the product of the Hessian at z with v.
    gap_bound : callable, optional
        gradient -> a number that J(z) - min J is proven not to exceed, at any z with this gradient.
    quadratic : bool
        Whether J is a quadratic, so that the Hessian product is the same at every z.

    Examples
    --------
    >>> import numpy as np
    >>> bowl = Objective(shape=(2,), value_and_gradient=lambda z: (0.5 * float(z @ z), z))
    >>> value, gradient = bowl.value_and_gradient(np.array([3.0, 4.0]))
    >>> value
    12.5
    """

    shape: tuple[int, ...]
    value_and_gradient: Callable[[Array], tuple[float, Array]]
    hessian_product: Callable[[Array, Array], Array] | None = None
    gap_bound: Callable[[Array], float] | None = None
    quadratic: bool = False
