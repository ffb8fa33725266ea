"""What the descent loop eats: a function to minimise, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lqrad.errors import Array, ShapeError, frozen_array
from lqrad.kernels.stages import times


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

    def scaled(self, factor: ArrayLike) -> Objective:
        """The same function in the variables w of z[t] = factor[t] w[t]: a preconditioner.

        The Hessian becomes factor' H factor. With factor factor' the inverse of H, such as
        F = L^-T for H = L L', it is the identity, and descent along the gradient takes one step.

        Parameters
        ----------
        factor : (r, r) or (T, r, r)
            Nonsingular, for z of shape (..., T, r). Map the solution back by factor[t] w[t].

        Returns
        -------
        Objective

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError
            If the factor does not fit.

        Examples
        --------
        >>> steep = Objective(
        ...     shape=(2, 1), value_and_gradient=lambda z: (2.0 * float(np.vdot(z, z)), 4.0 * z)
        ... )
        >>> round_ = steep.scaled([[0.5]])
        >>> round_.value_and_gradient(np.array([[2.0], [0.0]]))[1].ravel()
        array([2., 0.])
        """
        F = frozen_array("factor", factor)
        T, r = self.shape[-2:] if len(self.shape) >= 2 else (0, 0)
        if F.shape not in ((r, r), (T, r, r)) or not r:
            raise ShapeError(
                f"factor has shape {F.shape}, expected (r, r) or (T, r, r) for variables of shape "
                f"(..., T, r), which is {self.shape}"
            )

        def value_and_gradient(w: Array) -> tuple[float, Array]:
            value, gradient = self.value_and_gradient(times(F, w))
            return value, times(F, gradient, transpose=True)

        product, bound = self.hessian_product, self.gap_bound
        return Objective(
            shape=self.shape,
            value_and_gradient=value_and_gradient,
            hessian_product=None
            if product is None
            else lambda w, v: times(F, product(times(F, w), times(F, v)), transpose=True),
            gap_bound=None if bound is None else lambda g: bound(_solve_transposed(F, g)),
            quadratic=self.quadratic,
        )


def _solve_transposed(F: Array, g: Array) -> Array:
    """The solutions of F[t]' h[t] = g[t]."""
    return np.asarray(np.linalg.solve(F.swapaxes(-1, -2), g[..., None])[..., 0], dtype=np.float64)
