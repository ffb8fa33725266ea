"""The methods of the descent loop: each goes from a point to better ones, and knows no control.

Those of this module are generators of points and steps; SciPy's report the same by its callback.
None decides when to stop: `descend` does.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dnrm2

from lqrad.arguments import Array, check_shape
from lqrad.errors import NonFiniteError, NotConvexError
from lqrad.kernels.lanczos import extreme_eigenvalues
from lqrad.problems.objective import Objective

_NOISE = 1e-13  # the relative error up to which a value of J is taken to be known
_ARMIJO = 0.3  # the share of the slope's promise that a step must keep; an exact step keeps 1/2


def _require_minimum(curvature: float, L: float) -> None:
    """Raise NotConvexError if the curvature is negative by more than rounding, or L not positive."""
    if L <= 0 or curvature < -1e-10 * L:
        raise NotConvexError(f"J has curvature {curvature:.3g} in a direction, hence no minimum")


class Point(NamedTuple):
    """A place (flat) and what is known there, by evaluation or by recursion."""

    z: Array
    value: float
    gradient: Array
    norm: float
    evaluated: bool
    smooth: float = math.nan  # the value without that of a regulariser, where there may be one


def _point(z: Array, value: float, gradient: Array, *, evaluated: bool) -> Point:
    norm = float(dnrm2(gradient)) if gradient.size else 0.0
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise NonFiniteError(f"J is {value:.3g}, with a gradient of norm {norm:.3g}")
    return Point(z, value, gradient, norm, evaluated)


def exceeds_noise(difference: float, value: float) -> bool:
    """Whether a difference of values is more than their rounding errors may be."""
    return abs(difference) > _NOISE * abs(value)


def bend(a: Point, b: Point) -> float:
    """How far J(b) lies above the tangent at a; where rounding hides it, by the trapezoidal rule."""
    d = b.z - a.z
    above = b.smooth - a.smooth - float(a.gradient @ d)
    return above if exceeds_noise(above, a.smooth) else 0.5 * float((b.gradient - a.gradient) @ d)


def _rise(a: Point, b: Point) -> float:
    """J(b) - J(a); where rounding hides it in the values, by the trapezoidal rule on the gradients.

    That is exact on quadratics. An Armijo test on it is the approximate Wolfe condition of Hager
    and Zhang (A new conjugate gradient method with guaranteed descent, 2005), without which a line
    search loses half of the digits of z.
    """
    rise = b.value - a.value
    if not exceeds_noise(rise, a.value):
        rise = 0.5 * float((a.gradient + b.gradient) @ (b.z - a.z))
    return rise


def improves(point: Point, best: Point) -> bool:
    """Whether J is lower, or equal up to rounding and its gradient clearly lower."""
    rise, noise = point.value - best.value, _NOISE * abs(best.value)
    return rise < -noise or (rise <= noise and point.norm < 0.5 * best.norm)


class Oracle:
    """The objective on flat vectors: checked, counted, and copied, as it may reuse its arrays."""

    methods: tuple[str, ...]
    box: tuple[Array, Array] | None = None

    def __init__(self, objective: Objective, start: Array) -> None:
        self.methods = METHODS
        self.objective, self.shape, self.start = objective, objective.shape, start
        self.quadratic = objective.quadratic and objective.hessian_product is not None
        self.evaluations = self.products = 0

    def point(self, z: Array) -> Point:
        """J and its gradient at z; NonFiniteError where they are not finite."""
        self.evaluations += 1
        value, given = self.objective.value_and_gradient(z.reshape(self.shape))
        gradient = np.array(given, dtype=np.float64)
        check_shape("the gradient", gradient, self.shape, "as the objective says")
        return _point(z, float(value), gradient.ravel(), evaluated=True)

    def trial(self, z: Array) -> Point | None:
        """As `point`, but None where J or its gradient is not finite."""
        try:
            return self.point(z)
        except NonFiniteError:
            return None

    def gap_bound(self, point: Point) -> float | None:
        """The proven bound, infinite where it is not a number; None where there is none."""
        if self.objective.gap_bound is None:
            return None
        bound = float(self.objective.gap_bound(point.gradient.reshape(self.shape)))
        return math.inf if math.isnan(bound) else bound

    def stepped(self, point: Point, method: str, step_size: float | None) -> Iterates | None:
        """The iterates of a method, or None where it is SciPy's."""
        if method in STEPPED:
            return STEPPED[method](self, point, step_size)
        if method == "conjugate-gradient" and self.quadratic:
            return _conjugate_gradients(self, point)
        return None

    def product(self, v: Array) -> Array:
        """The Hessian, of a quadratic, times v."""
        assert self.objective.hessian_product is not None
        self.products += 1
        z, v = self.start.reshape(self.shape), v.reshape(self.shape)
        return np.asarray(self.objective.hessian_product(z, v), dtype=np.float64).ravel()

    @cached_property
    def spectrum(self) -> tuple[float, float]:
        """The extreme eigenvalues (mu, L) of a quadratic's Hessian, which must be convex."""
        mu, L = extreme_eigenvalues(self.product, self.start.shape)
        _require_minimum(mu, L)
        return mu, L

    def move(self, point: Point, d: Array, step: float) -> _Moved:
        """Take a constant step: the new point, the step, the step to try next."""
        return self.point(point.z + step * d), step, step

    def search(self, point: Point, d: Array, step: float) -> _Moved:
        """As `move`, but shorten the step until J falls by a share of what its slope promises."""
        slope, first = float(point.gradient @ d), step
        for _ in range(60):
            trial = self.trial(point.z + step * d)
            if trial is not None and _rise(point, trial) <= _ARMIJO * step * slope:
                return trial, step, 2 * step if step == first else step
            step *= 0.3
        return None, step, step


_Moved = tuple[Point | None, float, float]  # no point where rounding leaves no descent
Iterates = Iterator[tuple[Point, float]]  # the points, with the steps that led to them
Accept = Callable[[Point, float], bool]  # records a point and its step; whether to stop there


def _gradient(oracle: Oracle, point: Point, step_size: float | None) -> Iterates:
    """d[k] = -g(z[k])."""
    if oracle.quadratic and step_size is None:
        mu, L = oracle.spectrum
        step_size = 2 / (L + max(mu, 1e-2 * L))  # mu = 0 would leave the mode of L undamped
    return _steps(oracle, point, step_size, 0.0)


def _heavy_ball(oracle: Oracle, point: Point, step_size: float | None) -> Iterates:
    """d[k] = momentum d[k-1] - g(z[k]); on quadratics the momentum is the best for the step."""
    momentum = 0.9
    if oracle.quadratic:
        mu, L = oracle.spectrum
        if mu < 1e-8 * L:  # no more than rounding, and mu = 0 would leave every mode undamped
            mu = 1e-4 * L
        step_size = step_size or (2 / (math.sqrt(L) + math.sqrt(mu))) ** 2
        momentum = (1 - math.sqrt(step_size * mu)) ** 2
    return _steps(oracle, point, step_size, momentum)


def _steps(oracle: Oracle, point: Point, step_size: float | None, momentum: float) -> Iterates:
    advance = oracle.search if step_size is None else oracle.move
    step, d = step_size or 1 / point.norm, -point.gradient
    while True:
        new, used, step = advance(point, d, step)
        if new is None:
            return
        yield new, used
        point, d = new, momentum * d - new.gradient
        if step_size is None and d @ point.gradient >= 0:
            d = -point.gradient


def _nesterov(oracle: Oracle, point: Point, step_size: float | None) -> Iterates:
    """A gradient step from y = z[k] + momentum (z[k] - z[k-1]); no momentum where J would rise."""
    if oracle.quadratic and step_size is None:
        step_size = 1 / oracle.spectrum[1]
    advance = oracle.search if step_size is None else oracle.move
    step, previous, t = step_size or 1 / point.norm, point, 1.0
    while True:
        t_next = 0.5 + math.sqrt(0.25 + t * t)
        momentum = (t - 1) / t_next
        y = point.z + momentum * (point.z - previous.z)
        ahead: Point | None = point
        if oracle.quadratic:  # whose gradient is affine in z: there is nothing to evaluate
            g = point.gradient + momentum * (point.gradient - previous.gradient)
            ahead = point._replace(z=y, gradient=g)
        elif momentum:
            ahead = oracle.trial(y)
        new = None
        if ahead is not None:
            new, used, step = advance(ahead, -ahead.gradient, step)
        if momentum and (new is None or _rise(point, new) > 0):
            previous, t = point, 1.0
        elif new is None:
            return
        else:
            yield new, used
            previous, point, t = point, new, t_next


def _conjugate_gradients(oracle: Oracle, point: Point) -> Iterates:
    """The method for linear systems, for as long as its recursion for g has any digits."""
    lost, d = 1e-14 * point.norm, -point.gradient
    while point.norm > lost:
        curved = oracle.product(d)
        curvature = float(d @ curved)
        if curvature <= 0:
            _require_minimum(curvature / float(d @ d), oracle.spectrum[1])
            return
        square = point.norm * point.norm
        step = square / curvature
        z, gradient = point.z + step * d, point.gradient + step * curved
        point = _point(z, point.value - 0.5 * step * square, gradient, evaluated=False)
        yield point, step
        d = point.norm * point.norm / square * d - gradient


def _scipy(oracle: Oracle, entry: Point, method: str, accept: Accept) -> None:
    """Run a minimiser of SciPy's with its own stopping rules turned off.

    It is given (J - J(entry)) / |g(entry)|, which has a scale that suits SciPy's constants and keeps
    its digits as the rounds come closer to the minimum. A trial where J is not finite is answered
    by the parabola, along the line from the last iterate, whose minimum is at a tenth of the way:
    any line search will come back.
    """
    from scipy.optimize import Bounds, minimize  # here, as its import takes longer than lqrad's own

    last = trial = best = entry  # the last iterate and trial, the best trial since that iterate
    level = 0.0  # J(last) - J(entry)

    def value_and_gradient(z: Array) -> tuple[float, Array]:
        nonlocal trial, best
        point = oracle.trial(z.copy())
        if point is None:
            slope = float(last.gradient @ (z - last.z))
            return (level - 4 * slope) / entry.norm, -9 * last.gradient / entry.norm
        trial, best = point, point if improves(point, best) else best
        return (level + _rise(last, trial)) / entry.norm, trial.gradient / entry.norm

    def report(point: Point) -> bool:
        nonlocal last, best, level
        step = float(dnrm2(point.z - last.z)) / last.norm
        level += _rise(last, point)
        last = best = point
        return accept(point, step)

    def callback(z: Array) -> None:
        if report(trial if np.array_equal(trial.z, z) else oracle.point(z.copy())):
            raise StopIteration

    name, options = "CG", {"gtol": 0, "maxiter": sys.maxsize}
    if method == "l-bfgs":
        name, options = "L-BFGS-B", options | {"ftol": 0, "maxfun": sys.maxsize}
    limits = None if oracle.box is None else Bounds(*oracle.box)
    minimize(
        value_and_gradient,
        entry.z,
        jac=True,
        method=name,
        bounds=limits,
        callback=callback,
        options=options,
    )
    if best is not last:  # its CG gives up where no next direction is left, be it at the minimum
        report(best)


STEPPED = {"gradient": _gradient, "heavy-ball": _heavy_ball, "nesterov": _nesterov}
METHODS = (*STEPPED, "conjugate-gradient", "l-bfgs")


def run(oracle: Oracle, entry: Point, method: str, step_size: float | None, accept: Accept) -> None:
    """Run a method from `entry` until `accept` says stop, or until it finds no further descent."""
    iterates = oracle.stepped(entry, method, step_size)
    if iterates is None:
        _scipy(oracle, entry, method, accept)
        return
    for point, step in iterates:
        if accept(point, step):
            return
