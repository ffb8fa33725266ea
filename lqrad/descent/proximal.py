"""Bounds and l1: what a gradient step is followed by, and what is proven of where it ends.

    minimise    F(z) = J(z) + h(z)    subject to    low <= z <= high

with J smooth and h convex, a sum over the entries of z, such as weight |z|_1. Gradient steps become

    z+ = prox(z - s g),    prox(v) = argmin over low <= z <= high of  h(z) + |z - v|^2 / (2 s)

and z is optimal where G(z) = (z - z+)/s, the gradient where there is neither h nor a bound, is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.blas import dnrm2

from lqrad.arguments import EPS, Array, check_limits, frozen_array
from lqrad.copies import ReadOnly
from lqrad.descent.methods import Iterates, Oracle, Point, accelerated, bend, scaled
from lqrad.descent.objective import Objective, check_fits
from lqrad.errors import ArgumentError, NonFiniteError
from lqrad.linalg.lanczos import extreme_eigenvalues

Bounds = tuple[ArrayLike | None, ArrayLike | None]


@runtime_checkable
class Regulariser(Protocol):
    """A convex function h(z), a sum over the entries of z, known by its value and its prox.

    See Also
    --------
    l1 : the one that is given here.
    """

    def value(self, z: Array) -> float:
        """Return h(z)."""
        ...

    def prox(self, v: Array, step: Array | float) -> Array:
        """Return argmin over z of h(z) + sum (z - v)^2 / (2 step); step is a number or as v."""
        ...


@dataclass(frozen=True, eq=False)
class L1(ReadOnly):
    """h(z) = sum weight |z|, which makes small entries exactly zero; see `l1`."""

    weight: Array

    def value(self, z: Array) -> float:
        """Return h(z)."""
        return float(np.sum(self.weight * np.abs(z)))

    def prox(self, v: Array, step: Array | float) -> Array:
        """Return v, brought closer to zero by step weight, and to zero where it is closer."""
        return np.asarray(np.sign(v) * np.maximum(np.abs(v) - step * self.weight, 0.0))


def l1(weight: ArrayLike) -> L1:
    """Return the regulariser sum weight |z|, for sparse inputs: `descend(..., regulariser=l1(1))`.

    Parameters
    ----------
    weight : float or array that fits z
        At least zero.

    See Also
    --------
    descend : takes it as `regulariser=`, with bounds or without.
    huber, log_barrier : smooth penalties, of states too.

    References
    ----------
    Beck and Teboulle, A fast iterative shrinkage-thresholding algorithm, 2009.

    Examples
    --------
    >>> import numpy as np
    >>> regulariser = l1(2.0)
    >>> regulariser.value(np.array([3.0, -1.0])), regulariser.prox(np.array([3.0, -1.0]), 1.0)
    (8.0, array([ 1., -0.]))
    """
    array = frozen_array("weight", weight)
    if (array < 0).any():
        raise ArgumentError(
            f"weight is {array.min():.6g} at its least, expected at least 0: less is not convex"
        )
    return L1(array)


class ProximalOracle(Oracle):
    """An objective with bounds or a regulariser: points are inside, and their norm is that of G.

    The step s of G is one for the whole run: 1/L on quadratics, else the step size, else that
    which moves the start by the `length` of a first step.
    """

    def __init__(
        self,
        objective: Objective,
        start: Array,
        bounds: Bounds | None,
        regulariser: Regulariser | None,
        step_size: float | None,
    ) -> None:
        super().__init__(objective, start)
        if regulariser is not None and not isinstance(regulariser, Regulariser):
            raise ArgumentError(
                f"regulariser is {regulariser!r}, expected an object with the methods value and "
                "prox, such as l1(0.1)"
            )
        low, high = check_limits("bounds", bounds, objective.shape)
        self.low, self.high = self.box = low.ravel(), high.ravel()
        if isinstance(regulariser, L1):
            check_fits("weight", regulariser.weight, f"the variables, {self.shape}", self.shape)
        self.regulariser, self.step_size = regulariser, step_size
        self.methods = ("gradient", "nesterov", *(["l-bfgs"] if regulariser is None else []))
        self.start = self.inside(start)
        self.unit = math.nan  # the step of G, which the first evaluation finds

    def check(self, method: str) -> None:
        """Raise ArgumentError unless the method takes what is given."""
        if method not in self.methods:
            what = "bounds" if self.regulariser is None else "regulariser"
            raise ArgumentError(
                f"method is {method!r}, which takes no {what}; use one of: {', '.join(self.methods)}"
            )

    def inside(self, z: Array) -> Array:
        """The nearest point within the bounds."""
        assert self.box is not None
        return np.minimum(np.maximum(z, self.low), self.high)

    def free(self, z: Array) -> NDArray[np.bool_]:
        """Which variables are between their bounds, and away from a kink of the regulariser."""
        between = (z > self.low) & (z < self.high)
        return between if self.regulariser is None else between & (z != 0)

    def prox(self, v: Array, step: Array | float) -> Array:
        """The point behind a gradient step: in one variable, the bounds cut off the prox of h."""
        if self.regulariser is not None:
            # A z per gradient, of the regulariser's own unit.
            if isinstance(step, np.ndarray):
                step = scaled(step, -self.exponent).reshape(self.shape)
            else:
                step = scaled(step, -self.exponent)
            v = np.asarray(self.regulariser.prox(v.reshape(self.shape), step), float).ravel()
        return self.inside(v)

    def penalty(self, z: Array) -> float:
        """The regulariser's value."""
        if self.regulariser is None:
            return 0.0
        return self.in_unit(float(self.regulariser.value(z.reshape(self.shape))))

    def known(self, z: Array, value: float, gradient: Array, *, evaluated: bool = True) -> Point:
        """F, the gradient of J and the norm of G at z; NonFiniteError where they are not finite."""
        smooth = super().known(z, value, gradient, evaluated=evaluated)
        if math.isnan(self.unit):
            L = self.lipschitz
            size = scaled(self.step_size, self.exponent) if self.step_size else None
            self.unit = 1 / L if L else size or self.length / (smooth.norm or 1.0)
        G = (z - self.prox(z - self.unit * gradient, self.unit)) / self.unit
        total, norm = value + self.penalty(z), float(dnrm2(G)) if G.size else 0.0
        if not (math.isfinite(total) and math.isfinite(norm)):
            J, slope = self.in_given(total), self.in_given(norm)
            raise NonFiniteError(f"J is {J:.3g}, with a projected gradient of norm {slope:.3g}")
        return smooth._replace(value=total, norm=norm, smooth=value)

    @cached_property
    def lipschitz(self) -> float:
        """L of a quadratic, its largest |eigenvalue|: within bounds it need not be convex; or 0."""
        if not self.quadratic:
            return 0.0
        return max(map(abs, extreme_eigenvalues(self.product, self.start.shape)))

    def gap_bound(self, point: Point) -> float | None:
        """A bound on F(z) - min F where the Hessian is at least diag(curvature); else None.

        By strong convexity with D = diag(curvature), wherever z + d is within the bounds,

            F(z + d) - F(z)  >=  g'd + 1/2 d'D d + h(z + d) - h(z)

        so that the gap is at most minus the least value of the right-hand side. That separates
        into the entries, and its minimiser z + d is the prox of z - g/D with the steps 1/D.
        """
        D = self._curvature
        if D is None:
            return None
        z, g = point.z, point.gradient
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            nearest = self.prox(z - np.where(g == 0, 0.0, g / D), 1 / D)
            d = nearest - z
            before, after = self.penalty(z), self.penalty(nearest)
            bound = -float(np.sum(d * (g + 0.5 * D * d))) + before - after
            bound += 8 * EPS * (abs(before) + abs(after))  # their rounding errors
        proven = self.proven(self.in_given(max(bound, 0.0)), point)
        if self.regulariser is None:  # then what is proven without the bounds holds as well
            without = super().gap_bound(point)
            proven = min((b for b in (proven, without) if b is not None), default=None)
        return proven

    @cached_property
    def _curvature(self) -> Array | None:
        if not self.convex:
            return None
        given = np.asarray(self.objective.curvature, dtype=np.float64)
        D = np.broadcast_to(given, self.shape).ravel()
        return self.in_unit(D)

    def stepped(self, point: Point, method: str, step_size: float | None) -> Iterates | None:
        """The iterates of a method, or None where it is SciPy's."""
        if method == "l-bfgs":
            return None
        return accelerated(
            self,
            point,
            step_size or self.unit or 1.0,
            advance=self._step if step_size or self.lipschitz else self._search,
            rejects=_rejected,
            affine=bool(self.lipschitz),
            momentum=method == "nesterov",
        )

    def _step(self, point: Point, step: float) -> tuple[Point | None, float, float]:
        """A step of constant length: the new point, the step, the step to try next."""
        return self.point(self.prox(point.z - step * point.gradient, step)), step, step

    def _search(self, point: Point, step: float) -> tuple[Point | None, float, float]:
        """As `_step`, but shortened until J lies below its parabola of curvature 1/step."""
        first = step
        for _ in range(60):
            z = self.prox(point.z - step * point.gradient, step)
            trial, d = self.trial(z), z - point.z
            if trial is not None and bend(point, trial) <= 0.5 * dnrm2(d) * (dnrm2(d) / step):
                return trial, step, 2 * step if step == first else step
            step *= 0.3
        return None, step, step


def _rejected(point: Point, ahead: Point, new: Point) -> bool:
    """Whether nothing moves, or F rises or, where rounding hides that, the move is against the step."""
    rise, move = new.value - point.value, new.z - point.z
    if ahead is point or not move.any():
        return not move.any()
    if not point.hides(rise, point.value):
        return rise > 0
    return float((ahead.z - new.z) @ (move / np.abs(move).max())) > 0
