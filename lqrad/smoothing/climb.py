"""The log-likelihood as a function of parameters theta, in units in which a descent finds its way.

A user's map makes a model of theta. A parameter's length is the largest power of two of which 1/256
changes no array of the model by more than a small part; the descent is in z = theta / lengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lqrad.arguments import EPS, Array, check_finite
from lqrad.descent.descend import Descent, descend
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, NonFiniteError, NotConvexError
from lqrad.smoothing.model import Balanced, SmoothingProblem, array_units
from lqrad.smoothing.score import NAMES, PRIOR, score

# Of central differences: truncation, step^2, and rounding, EPS / step, are about the same.
_STEP = EPS ** (1 / 3)
# The arrays of a model change by no more than this where a parameter moves by _PROBE of its length:
# a variance exp(theta) has a length of one, and so has an offset of theta standard deviations.
_PROBE, _PART = 2.0**-8, 1.5 * 2.0**-8
# The powers of two, up and down, among which a length is sought.
_DOUBLINGS = 200
# Lengths that differ by more doublings than this are others.
FAR = 4


class Climb:
    """The log-likelihood of y as a function of z = theta / lengths, in units of the model at `start`.

    In these the descent does not depend on the units of the user and of the parameters. The map
    `build` makes problems with the shapes of `first`, that of `start` (k,), where the lengths are
    found, by a search from those that are `near`.
    """

    def __init__(
        self,
        build: Callable[[Array], SmoothingProblem],
        first: SmoothingProblem,
        start: Array,
        y: Array,
        near: Array | None = None,
    ) -> None:
        self.build, self.first, self.start = build, first, start
        _, self.state, self.output = balanced = first.balanced
        self.units = array_units(self.state, self.output)
        if first.P0 is None:
            self.units = {name: self.units[name] for name in self.units if name not in PRIOR}
        seen = ~np.isnan(y)
        self.entries = max(1, int(seen.sum()))
        self.volume = float(balanced.log_volume(seen).sum())
        self.data = y / self.output
        near = _defaults(start) if near is None else near
        sizes = _sizes(balanced.problem)
        self.lengths = np.array([self._length(i, near[i], sizes) for i in range(start.size)])

    def model(self, theta: Array) -> SmoothingProblem:
        return build_problem(self.build, theta, self.first)

    def changes(self, one: SmoothingProblem, other: SmoothingProblem) -> dict[str, Array]:
        """The differences of the arrays in which two models differ, in units of that at `start`."""
        found = {}
        for name, (down, up) in self.units.items():
            here, there = getattr(one, name), getattr(other, name)
            if here.tobytes() != there.tobytes():
                with np.errstate(over="ignore"):
                    found[name] = (there - here) / down * up
                check_finite(f"{name} beside the noises", found[name], computed=True)
        return found

    def logliks(self, costs: Array) -> Array:
        """The log-likelihoods in the units of the user."""
        return np.asarray(-self.entries * costs - self.volume)

    def evaluate(self, z: Array) -> tuple[float, Array]:
        """Minus the log-likelihood for each entry of y, and its gradient in z."""
        theta = self.lengths * z
        at_start = np.array_equal(theta, self.start)
        problem, state, output = (self.first if at_start else self.model(theta)).balanced
        changes = [self._changes(theta, i, step) for i, step in enumerate(self._steps(z))]
        here = Balanced(problem, state / self.state, output / self.output)
        found = score(here, self.data, {name for moved in changes for name in moved})
        slopes = np.array(
            [
                sum(np.vdot(getattr(found, name), change) for name, change in moved.items())
                for moved in changes
            ]
        )
        return -found.loglik / self.entries, -slopes / self.entries

    def _steps(self, z: Array) -> Array:
        """Of the differences. Far from zero it is theta that is rounded: step^2 against EPS |z| / step."""
        return np.asarray(_STEP * np.cbrt(np.maximum(1.0, np.abs(z))))

    def _changes(self, theta: Array, i: int, step: float) -> dict[str, Array]:
        """The derivatives in z[i] of the arrays that depend on it, by central differences."""
        z = theta[i] / self.lengths[i]
        ends, places = [], (self.lengths[i] * (z - step), self.lengths[i] * (z + step))
        for end in places:
            near = theta.copy()
            near[i] = end
            try:
                ends.append(self.model(near))
            except (NotConvexError, ArithmeticError) as error:
                kind = NotConvexError if isinstance(error, NotConvexError) else NonFiniteError
                raise kind(
                    f"build fails at theta[{i}] = {end:.9g}, a step of the differences away from "
                    f"{theta[i]:.9g}: {error}",
                    "let theta hold logarithms of variances",
                ) from error
        apart = (places[1] - places[0]) / self.lengths[i]
        return {name: change / apart for name, change in self.changes(*ends).items()}

    def descend(self, max_iter: int, tol: float, *, onward: bool) -> Descent:
        """Descend by L-BFGS from `start`, at which there must be a likelihood.

        To a gradient of tol, and of tol times that at the start where it does not go on from another.
        """
        start = self.start / self.lengths
        known = self.evaluate(start)

        def trial(z: Array) -> tuple[float, Array]:
            if np.array_equal(z, start):
                return known
            try:
                return self.evaluate(z)
            except (NotConvexError, ArithmeticError, np.linalg.LinAlgError) as error:
                theta = self.lengths * z
                raise NonFiniteError(f"no likelihood at theta = {theta}: {error}") from error

        return descend(
            Objective(shape=start.shape, value_and_gradient=trial),
            start,
            method="l-bfgs",
            max_iter=max_iter,
            tol=tol / (max(tol if onward else 1.0, float(np.linalg.norm(known[1]))) or 1.0),
        )

    def _length(self, i: int, near: float, sizes: dict[str, Array | float]) -> float:
        """The length of theta[i], see above; units of theta that are powers of two multiply it exactly."""

        def part(length: float) -> float:
            """By how much of what is small a probe along theta[i] changes the arrays; inf for no model."""
            theta = self.start.copy()
            theta[i] += _PROBE * length
            try:
                with np.errstate(over="ignore", invalid="ignore"):
                    found = self.changes(self.first, self.model(theta))
            except (NotConvexError, ArithmeticError, np.linalg.LinAlgError):
                return math.inf
            parts = [float((np.abs(found[name]) / sizes[name]).max()) for name in found]
            return max(parts, default=0.0) / _PART

        length, moved = near, part(near)
        if 1 < moved < math.inf:  # an array that is nearly linear in theta is small from here on
            length = math.ldexp(near, -math.ceil(math.log2(moved)))
            moved = part(length)
        factor = 2.0 if moved <= 1 else 0.5
        for _ in range(_DOUBLINGS):
            if (part(factor * length) <= 1) is (factor < 1):
                return length if factor > 1 else factor * length
            length *= factor
        return float(_defaults(self.start)[i])


def _defaults(theta: Array) -> Array:
    """The powers of two next to parameters, and one for zero, and for what is too small to be halved."""
    own = np.where(np.abs(theta) > np.finfo(np.float64).tiny / EPS, theta, 0.0)
    return np.ldexp(1.0, np.frexp(own)[1])


def _sizes(problem: SmoothingProblem) -> dict[str, Array | float]:
    """What a change of each balanced array is small beside; entries that are zero count as noises."""
    sizes: dict[str, Array | float] = {"c": 1.0, "d": 1.0}
    for name in ("A", "C"):
        sizes[name] = max(1.0, float(np.abs(getattr(problem, name)).max()))
    for name in ("W", "V") if problem.P0 is None else ("W", "V", "P0"):
        deviations = np.sqrt(np.diagonal(getattr(problem, name), axis1=-2, axis2=-1))
        deviations = np.where(deviations > 0, deviations, 1.0)
        sizes[name] = deviations[..., :, None] * deviations[..., None, :]
    return sizes if problem.P0 is None else sizes | {"m0": 1.0}


def build_problem(
    build: Callable[[Array], SmoothingProblem], theta: Array, first: SmoothingProblem | None = None
) -> SmoothingProblem:
    """What the user's map makes of theta, checked to be a problem of the same kind as the first."""
    problem = build(theta.copy())
    if not isinstance(problem, SmoothingProblem):
        raise ArgumentError(
            f"build returned {type(problem).__name__} at theta = {theta}, expected a SmoothingProblem"
        )
    shapes, expected = _shapes(problem), _shapes(problem if first is None else first)
    for name in NAMES:
        if shapes[name] != expected[name]:
            raise ArgumentError(
                f"build returned {name} of shape {shapes[name]} at theta = {theta}, and of shape "
                f"{expected[name]} at theta0; shapes must not depend on theta"
            )
    return problem


def _shapes(problem: SmoothingProblem) -> dict[str, tuple[int, ...]]:
    return {name: getattr(getattr(problem, name), "shape", ()) for name in NAMES}
