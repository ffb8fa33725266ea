"""The methods of the descent loop: each goes from a point to better ones, and knows no control.

Those of this module are generators of points and steps; SciPy's report the same by its callback.
None decides when to stop: `descend` does.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dnrm2

from lqrad.arguments import Array
from lqrad.descent.objective import Objective, evaluated
from lqrad.errors import NonFiniteError, NotConvexError
from lqrad.linalg.lanczos import extreme_eigenvalues

Quantity = TypeVar("Quantity", float, Array)

_NOISE = 1e-13  # the relative error up to which a value of J is taken to be known
_TINY = float(np.finfo(np.float64).tiny)  # below it values lose their digits one by one
_ARMIJO = 0.3  # the share of the slope's promise that a step must keep; an exact step keeps 1/2


class Point(NamedTuple):
    """A place (flat) and what is known there, by evaluation or by recursion.

    J and its gradient are in the oracle's unit of J, and z is in its own.
    """

    z: Array
    value: float
    gradient: Array
    norm: float
    evaluated: bool
    tiny: float  # the least value that has all of its digits
    smooth: float = math.nan  # the value without that of a regulariser, where there may be one

    def hides(self, difference: float, value: float) -> bool:
        """Whether a difference from such a value may be nothing but rounding errors."""
        return abs(difference) <= _NOISE * abs(value) + self.tiny


def bend(a: Point, b: Point) -> float:
    """How far J(b) lies above the tangent at a; where rounding hides it, by the trapezoidal rule."""
    d = b.z - a.z
    above = b.smooth - a.smooth - float(a.gradient @ d)
    return 0.5 * float((b.gradient - a.gradient) @ d) if a.hides(above, a.smooth) else above


def _rise(a: Point, b: Point) -> float:
    """J(b) - J(a); where rounding hides it in the values, by the trapezoidal rule on the gradients.

    That is exact on quadratics. An Armijo test on it is the approximate Wolfe condition of Hager
    and Zhang (A new conjugate gradient method with guaranteed descent, 2005), without which a line
    search loses half of the digits of z.
    """
    rise = b.value - a.value
    if a.hides(rise, a.value):
        rise = 0.5 * float((a.gradient + b.gradient) @ (b.z - a.z))
    return rise


def improves(point: Point, best: Point) -> bool:
    """Whether J is lower, or equal up to rounding and its gradient clearly lower."""
    rise = point.value - best.value
    if best.hides(rise, best.value):
        return point.norm < 0.5 * best.norm
    return rise < 0


class Oracle:
    """The objective on flat vectors: checked, counted, and copied, as it may reuse its arrays.

    J is measured in a unit of 2^exponent, which gives the gradient at the start a norm of about one:
    squares of gradients would overflow or underflow long before the gradients do. A power of two
    rounds nothing, so that J and 2^k J are descended on by the same iterates.
    """

    methods: tuple[str, ...]
    box: tuple[Array, Array] | None = None

    def __init__(self, objective: Objective, start: Array) -> None:
        self.methods = METHODS
        self.objective, self.shape, self.start = objective, objective.shape, start
        self.quadratic = objective.quadratic and objective.hessian_product is not None
        self.convex = objective.curvature is not None and bool(np.min(objective.curvature) >= 0)
        self.evaluations = self.products = self.exponent = 0

    def first(self) -> Point:
        """The start, whose gradient sets the unit of J."""
        value, gradient = self._evaluate(self.start)
        norm = _norm(gradient)
        if math.isfinite(norm) and norm > 0:
            self.exponent = math.frexp(norm)[1]
        return self.known(self.start, self.in_unit(value), self.in_unit(gradient))

    def point(self, z: Array) -> Point:
        """J and its gradient at z; NonFiniteError where they are not finite."""
        value, gradient = self._evaluate(z)
        return self.known(z, self.in_unit(value), self.in_unit(gradient))

    def _evaluate(self, z: Array) -> tuple[float, Array]:
        self.evaluations += 1
        value, gradient = evaluated(self.objective, z.reshape(self.shape))
        return value, gradient.ravel()

    def known(self, z: Array, value: float, gradient: Array, *, evaluated: bool = True) -> Point:
        """A point of this value and gradient; NonFiniteError where they are not finite."""
        norm = _norm(gradient)
        if not (math.isfinite(value) and math.isfinite(norm)):
            J, slope = self.in_given(value), self.in_given(norm)
            raise NonFiniteError(f"J is {J:.3g}, with a gradient of norm {slope:.3g}")
        return Point(z, value, gradient, norm, evaluated, self.in_unit(_TINY))

    def in_unit(self, quantity: Quantity) -> Quantity:
        """A value, a gradient or a Hessian product of the objective's, in the unit of J."""
        return scaled(quantity, -self.exponent)

    def in_given(self, quantity: Quantity) -> Quantity:
        """The same the other way: as the objective itself would say it."""
        return scaled(quantity, self.exponent)

    def trial(self, z: Array) -> Point | None:
        """As `point`, but None where J or its gradient is not finite."""
        try:
            return self.point(z)
        except NonFiniteError:
            return None

    def gap_bound(self, point: Point) -> float | None:
        """The proven bound, None where there is none."""
        if self.objective.gap_bound is None:
            return None
        gradient = self.in_given(point.gradient)
        bound = float(self.objective.gap_bound(gradient.reshape(self.shape)))
        return self.proven(bound, point)

    def proven(self, bound: float, point: Point) -> float | None:
        """A bound of the objective's in the unit of J, infinite where it is not a number.

        None where it is so small that squares of the gradient have lost their digits.
        """
        if bound < _TINY and point.norm > 0:
            return None
        return math.inf if math.isnan(bound) else self.in_unit(bound)

    def stepped(self, point: Point, method: str, step_size: float | None) -> Iterates | None:
        """The iterates of a method, or None where it is SciPy's."""
        if method in STEPPED:
            return STEPPED[method](self, point, step_size)
        if method == "conjugate-gradient" and self.quadratic:
            return _conjugate_gradients(self, point)
        return None

    def product(self, v: Array, z: Array | None = None) -> Array:
        """The Hessian at z, or of a quadratic, times v."""
        assert self.objective.hessian_product is not None
        self.products += 1
        z, v = ((self.start if z is None else z).reshape(self.shape), v.reshape(self.shape))
        Hv = np.asarray(self.objective.hessian_product(z, v), dtype=np.float64)
        return self.in_unit(Hv.ravel())

    @cached_property
    def spectrum(self) -> tuple[float, float]:
        """The extreme eigenvalues (mu, L) of a quadratic's Hessian, which must be convex."""
        mu, L = extreme_eigenvalues(self.product, self.start.shape)
        self.require_minimum(mu, L)
        return mu, L

    def require_minimum(self, curvature: float, L: float) -> None:
        """Raise NotConvexError if the curvature is negative by more than rounding, or L not positive."""
        if L <= 0 or curvature < -1e-10 * L:
            curvature = self.in_given(curvature)
            raise NotConvexError(
                f"J has curvature {curvature:.3g} in a direction, hence no minimum"
            )

    def curvatures(self, z: Array) -> tuple[float, float]:
        """The extreme eigenvalues of the Hessian at z, in the variables that are free to move.

        Zeros where there are no Hessian products, or no such variable.
        """
        free = self.free(z)
        if self.objective.hessian_product is None or not free.any():
            return 0.0, 0.0

        def restricted(v: Array) -> Array:
            whole = np.zeros_like(z)
            whole[free] = v
            return self.product(whole, z)[free]

        return extreme_eigenvalues(restricted, (int(free.sum()),))

    def lower_beside(self, point: Point) -> float | None:
        """A value beside a stationary point, to both sides of it, lower than there can be at a minimum.

        Where F is convex, F(z + d) >= F(z) - |G| |d|. What is lower by twice as much, and by more than
        rounding, proves a cusp or negative curvature. None where neither push shows any.
        """
        d = np.random.default_rng(0).normal(size=point.z.shape)
        d *= 1e-5 * max(self.length, _norm(point.z) / math.sqrt(d.size)) / _norm(d)
        least = math.inf
        for side in (1.0, -1.0):
            beside = self.trial(self.inside(point.z + side * d))
            if beside is None:
                return None
            fall = point.value - beside.value - 2 * point.norm * _norm(d)
            if fall <= 0 or point.hides(fall, point.value):
                return None
            least = min(least, beside.value)
        return least

    def free(self, z: Array) -> NDArray[np.bool_]:
        """Which variables are between their bounds."""
        return np.ones(z.shape, dtype=bool)

    @cached_property
    def length(self) -> float:
        """The length of a first step, a power of two: a mean entry of the start.

        From zero it is the distance to the minimum of the parabola along the gradient; one, where
        there is none.
        """
        if self.start.any():
            return _power(_norm(self.start) / math.sqrt(self.start.size))
        value, gradient = self._evaluate(self.start)
        g = self.in_unit(gradient)
        # The first that is tried: that over which the slope brings as much as the cost itself.
        length = _power(abs(self.in_unit(value)) / (_norm(g) or 1.0))
        for power in (50, -50):  # longer while J looks straight, shorter while it overflows
            while 1e-300 < length < 1e300:
                move = self.inside(self.start - length * g / (_norm(g) or 1.0)) - self.start
                ahead = self._slope(self.start + move)
                slope = float(g @ move)
                bent = math.inf if ahead is None else float((ahead - g) @ move)
                if 1e-10 * abs(slope) < abs(bent) < math.inf:
                    return _power(_norm(move) * abs(slope / bent))
                if (power > 0) == (bent == math.inf):
                    break
                length = math.ldexp(length, power)
        return 1.0

    def _slope(self, z: Array) -> Array | None:
        """The gradient at z, None where it or J is not finite."""
        with suppress(NonFiniteError):
            value, gradient = self._evaluate(z)
            if math.isfinite(value) and np.isfinite(gradient).all():
                return self.in_unit(gradient)
        return None

    def inside(self, z: Array) -> Array:
        """The nearest point at which J may be evaluated."""
        return z

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


def scaled(quantity: Quantity, exponent: int) -> Quantity:
    """Return quantity 2^exponent, without rounding but where it underflows."""
    if isinstance(quantity, np.ndarray):
        return quantity if exponent == 0 else np.ldexp(quantity, exponent)
    try:
        return math.ldexp(quantity, exponent)
    except OverflowError:
        return math.copysign(math.inf, quantity)


def _norm(z: Array) -> float:
    return float(dnrm2(z)) if z.size else 0.0


def _power(number: float) -> float:
    """The largest power of two that is at most a positive number."""
    return math.ldexp(1.0, math.frexp(number)[1] - 1) if 0 < number < math.inf else 1.0


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
        step_size = step_size or (2 / (1 + math.sqrt(mu / L))) ** 2 / L
        momentum = (1 - math.sqrt(step_size * mu)) ** 2
    return _steps(oracle, point, step_size, momentum)


def _steps(oracle: Oracle, point: Point, step_size: float | None, momentum: float) -> Iterates:
    advance = oracle.search if step_size is None else oracle.move
    step, d = step_size or oracle.length / point.norm, -point.gradient
    while True:
        new, used, step = advance(point, d, step)
        if new is None:
            return
        yield new, used
        point, d = new, momentum * d - new.gradient
        if step_size is None and d @ point.gradient >= 0:
            d = -point.gradient


def _nesterov(oracle: Oracle, point: Point, step_size: float | None) -> Iterates:
    """Accelerated gradient steps, in which J never rises."""
    if oracle.quadratic and step_size is None:
        step_size = 1 / oracle.spectrum[1]
    move = oracle.search if step_size is None else oracle.move
    return accelerated(
        oracle,
        point,
        step_size or oracle.length / point.norm,
        advance=lambda ahead, step: move(ahead, -ahead.gradient, step),
        rejects=lambda point, ahead, new: ahead is not point and _rise(point, new) > 0,
        affine=oracle.quadratic,
    )


def accelerated(
    oracle: Oracle,
    point: Point,
    step: float,
    *,
    advance: Callable[[Point, float], _Moved],
    rejects: Callable[[Point, Point, Point], bool],
    affine: bool,
    momentum: bool = True,
) -> Iterates:
    """Steps by `advance` from y = z[k] + momentum (z[k] - z[k-1]).

    The momentum is dropped where there is no step, or one that `rejects` of z[k], y and what is new.
    Where the gradient is `affine` in z, as a quadratic's, there is nothing to evaluate at y; else y
    is moved inside first: J may not be defined elsewhere.
    """
    previous, t = point, 1.0
    while True:
        t_next = 0.5 + math.sqrt(0.25 + t * t) if momentum else 1.0
        weight = (t - 1) / t_next
        ahead: Point | None = point
        if weight:
            y = point.z + weight * (point.z - previous.z)
            g = point.gradient + weight * (point.gradient - previous.gradient)
            ahead = point._replace(z=y, gradient=g) if affine else oracle.trial(oracle.inside(y))
        new = None
        if ahead is not None:
            new, used, step = advance(ahead, step)
        if ahead is not None and new is not None and not rejects(point, ahead, new):
            yield new, used
            previous, point, t = point, new, t_next
        elif weight:
            previous, t = point, 1.0
        else:
            return


def _conjugate_gradients(oracle: Oracle, point: Point) -> Iterates:
    """The method for linear systems, for as long as its recursion for g has any digits."""
    # Rounds begin with ever smaller gradients: in a unit of its own each keeps its squares.
    lost, unit = 1e-14 * point.norm, math.frexp(point.norm)[1]
    d = -scaled(point.gradient, -unit)
    while point.norm > lost:
        curved = oracle.product(d)
        curvature = float(d @ curved)
        if curvature <= 0:
            oracle.require_minimum(curvature / float(d @ d), oracle.spectrum[1])
            return
        square = scaled(point.norm, -unit) ** 2
        step = square / curvature
        move = scaled(step, unit)
        z, gradient = point.z + move * d, point.gradient + move * curved
        value = point.value - scaled(0.5 * step * square, 2 * unit)
        point = oracle.known(z, value, gradient, evaluated=False)
        yield point, step
        d = scaled(point.norm, -unit) ** 2 / square * d - scaled(gradient, -unit)


def _scipy(oracle: Oracle, entry: Point, method: str, accept: Accept) -> None:
    """Run a minimiser of SciPy's with its own stopping rules turned off.

    It is given (J - J(entry)) / |length g(entry)| in the variables z / length, which has a scale that
    suits SciPy's constants and keeps its digits as the rounds come closer to the minimum. A trial where J is not finite is answered
    by the parabola, along the line from the last iterate, whose minimum is at a tenth of the way:
    any line search will come back.
    """
    from scipy.optimize import Bounds, minimize  # here, as its import takes longer than lqrad's own

    last = trial = best = entry  # the last iterate and trial, the best trial since that iterate
    level = 0.0  # J(last) - J(entry)
    length = oracle.length
    height = entry.norm * length

    def value_and_gradient(w: Array) -> tuple[float, Array]:
        nonlocal trial, best
        z = length * w
        point = oracle.trial(z)
        if point is None:
            slope = float(last.gradient @ (z - last.z))
            return (level - 4 * slope) / height, -9 * last.gradient / entry.norm
        trial, best = point, point if improves(point, best) else best
        return (level + _rise(last, trial)) / height, trial.gradient / entry.norm

    def report(point: Point) -> bool:
        nonlocal last, best, level
        step = float(dnrm2(point.z - last.z)) / last.norm
        level += _rise(last, point)
        last = best = point
        return accept(point, step)

    def callback(w: Array) -> None:
        z = length * w
        if report(trial if np.array_equal(trial.z, z) else oracle.point(z)):
            raise StopIteration

    name, options = "CG", {"gtol": 0, "maxiter": sys.maxsize}
    if method == "l-bfgs":
        name, options = "L-BFGS-B", options | {"ftol": 0, "maxfun": sys.maxsize}
    limits = None if oracle.box is None else Bounds(*(side / length for side in oracle.box))
    minimize(
        value_and_gradient,
        entry.z / length,
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
