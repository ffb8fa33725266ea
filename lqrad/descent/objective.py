"""What the descent loop eats: a function to minimise, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    EPS,
    Array,
    check_finite,
    check_function,
    check_lengths,
    check_shape,
    frozen_array,
    real_array,
)
from lqrad.errors import ArgumentError, ShapeError
from lqrad.functions.calls import unwritten
from lqrad.linalg.stages import times


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
    curvature : float, or array that fits z, optional
        Numbers, at least zero, such that the Hessian is proven to be at least diag(curvature) at
        every z: what bounds J(z) - min J within bounds on z. Zero says that J is convex.

    See Also
    --------
    descend : minimises it.
    dot_test, taylor_test : tell whether its derivatives are right.

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
    curvature: ArrayLike | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", check_lengths("shape", self.shape))
        for name in ("value_and_gradient", "hessian_product", "gap_bound"):
            function = getattr(self, name)
            if function is not None or name == "value_and_gradient":
                check_function(name, function)
        if self.curvature is not None:
            array = real_array("curvature", self.curvature)
            check_finite("curvature", array)
            check_fits("curvature", array, f"variables {self.shape}", self.shape)
            object.__setattr__(self, "curvature", array)

    def scaled(self, factor: ArrayLike) -> Objective:
        """The same function in the variables w of z[t] = factor[t] w[t]: a preconditioner.

        The Hessian becomes factor' H factor. With factor factor' the inverse of H, such as
        F = L^-T for H = L L', it is the identity, and descent along the gradient takes one step.

        Parameters
        ----------
        factor : (r, r) or (T, r, r)
            Nonsingular, for z of shape (..., T, r). Map the solution back by factor[t] w[t].

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

        new = self.substituted(
            partial(times, F), partial(times, F, transpose=True), partial(_solve_transposed, F)
        )
        return replace(new, curvature=self._scaled_curvature(F))

    def substituted(
        self,
        factor: Callable[[Array], Array],
        transposed: Callable[[Array], Array],
        solve_transposed: Callable[[Array], Array] | None = None,
    ) -> Objective:
        """The same function in the variables w of z = F w, with F known by its products.

        Parameters
        ----------
        factor, transposed : callable
            w -> F w and g -> F'g, of arrays of this objective's shape.
        solve_transposed : callable, optional
            g -> h of F'h = g; without it the new objective has no gap bound.

        Examples
        --------
        >>> steep = Objective(
        ...     shape=(2,), value_and_gradient=lambda z: (2.0 * float(np.vdot(z, z)), 4.0 * z)
        ... )
        >>> round_ = steep.substituted(lambda w: w / 2, lambda g: g / 2)
        >>> round_.value_and_gradient(np.array([2.0, 0.0]))[1]
        array([2., 0.])
        """

        def value_and_gradient(w: Array) -> tuple[float, Array]:
            value, gradient = self.value_and_gradient(factor(w))
            return value, transposed(gradient)

        product, bound, solve = self.hessian_product, self.gap_bound, solve_transposed
        return Objective(
            shape=self.shape,
            value_and_gradient=value_and_gradient,
            hessian_product=None
            if product is None
            else lambda w, v: transposed(product(factor(w), factor(v))),
            gap_bound=None if bound is None or solve is None else lambda g: bound(solve(g)),
            quadratic=self.quadratic,
        )

    @np.errstate(over="ignore", invalid="ignore")
    def _scaled_curvature(self, F: Array) -> Array | None:
        """A diagonal below F' diag(curvature) F."""
        if self.curvature is None:
            return None
        D = np.broadcast_to(np.asarray(self.curvature, dtype=np.float64), self.shape)
        scaled = F.swapaxes(-1, -2) @ (D[..., None] * F)
        return diagonal_below(scaled) if np.isfinite(scaled).all() else None


def check_fits(name: str, array: Array, what: str, shape: tuple[int, ...]) -> None:
    """Raise ShapeError unless an array can be repeated to the shape of what it is for."""
    try:
        np.broadcast_to(array, shape)
    except ValueError:
        raise ShapeError(f"{name} has shape {array.shape}, expected one that fits {what}") from None


def evaluated(objective: Objective, z: Array) -> tuple[float, Array]:
    """Return J at z and a new array of its gradient, of a function that cannot write to z."""
    answer = unwritten("value_and_gradient", objective.value_and_gradient, z)
    return read_answer(answer, objective.shape, "value_and_gradient")


def read_answer(answer: Any, shape: tuple[int, ...], name: str) -> tuple[float, Array]:
    """Return what a user's value_and_gradient gave as a float and a new array of this shape.

    Examples
    --------
    >>> read_answer((np.array([1.0]), [2.0]), (1,), "cost")
    Traceback (most recent call last):
    lqrad.errors.ShapeError: J, of what cost returned, has shape (1,), expected one number, of shape ()
    """
    if not (isinstance(answer, (tuple, list)) and len(answer) == 2):
        kind = type(answer).__name__
        raise ArgumentError(f"{name} returned a {kind}, expected a pair: J and its gradient")
    value = answer[0]
    if type(value) is not float:
        what = f"J, of what {name} returned,"
        array = real_array(what, value)
        if array.shape:
            raise ShapeError(f"{what} has shape {array.shape}, expected one number, of shape ()")
        value = float(array)
    gradient = np.array(real_array("the gradient", answer[1]))
    check_shape("the gradient", gradient, shape, "as the objective says")
    return value, gradient


def _solve_transposed(F: Array, g: Array) -> Array:
    """The solutions of F[t]' h[t] = g[t]."""
    return np.asarray(np.linalg.solve(F.swapaxes(-1, -2), g[..., None])[..., 0], dtype=np.float64)


def diagonal_below(D: Array) -> Array:
    """Return numbers d with diag(d) <= D, for symmetric positive semidefinite matrices D (..., m, m).

    Scaled to a unit diagonal D has the smallest eigenvalue mu, whence mu diag(D) <= D, in any units
    of the variables. A diagonal D is its own bound.

    Examples
    --------
    >>> diagonal_below(np.array([[2.0, 0.0], [0.0, 3.0]])).round(9)
    array([2., 3.])
    >>> diagonal_below(np.array([[2.0, 1.0], [1.0, 2.0]])).round(9)
    array([1., 1.])
    """
    diagonal = np.maximum(np.diagonal(D, axis1=-2, axis2=-1), 0.0)
    root = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = D / root[..., :, None] / root[..., None, :]
    least = np.linalg.eigvalsh(scaled)[..., :1] - 8 * D.shape[-1] * EPS  # less what may be rounding
    return np.asarray(np.maximum(least, 0.0) * diagonal)
