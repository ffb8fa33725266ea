"""The descent loop: minimise J(z), given J and its gradient g, and prove what was reached.

    z[k+1] = z[k] + step[k] d[k],    d[k] made of g(z[0]) ... g(z[k]) and of Hessian products

Within bounds, or with a regulariser, each step ends in a prox (see `lqrad.descent.proximal`).
It knows no control: whatever has a value and a gradient is minimised by the same loop.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    EPS,
    Array,
    called_as,
    check_choice,
    check_count,
    check_finite,
    check_number,
    check_shape,
    check_tolerance,
    check_type,
    real_array,
)
from lqrad.descent.methods import METHODS, STEPPED, Oracle, Point, improves, run, scaled
from lqrad.descent.objective import Objective
from lqrad.descent.proximal import Bounds, ProximalOracle, Regulariser
from lqrad.errors import (
    GROWTH_REMEDY,
    ArgumentError,
    LqradError,
    NonFiniteError,
    NotConvexError,
    Status,
)
from lqrad.outside import progress_bar
from lqrad.results import Ended, Report, former

# An eigenvalue of the Hessian below so many rounding errors of the largest cannot be descended on.
_HIDDEN = 100.0
_BOTTOMLESS = 1e100  # a J that falls by so many times its first scale is taken to have no minimum
# Curvature below minus this part of the largest is negative beyond all rounding errors.
_CURVED = 1e-8
_Row = tuple[float, float, float, float | None]  # value, norm, step, gap bound, in the unit of J


@dataclass(frozen=True, eq=False)
class Iterate:
    """What the callback sees of an iterate, the start being iteration 0; `z` is read-only."""

    iteration: int
    z: Array
    cost: float
    gradient_norm: float
    gap_bound: float | None
    step: float
    value = former("cost")


@dataclass(frozen=True, eq=False)
class History(Report):
    """One entry per iterate, the start first; `step[k]` led to iterate k, and step[0] = 0.

    SciPy's methods keep their steps to themselves: there it is the length of the move over that of
    the gradient. Conjugate gradients on a quadratic know all but the last entry by recursion.
    With bounds or a regulariser `gradient_norm` is that of the gradient map, see `descend`.
    `gap_bound` is None where none of the iterates has one.
    """

    cost: Array
    gradient_norm: Array
    step: Array
    gap_bound: Array | None
    value = former("cost")


@dataclass(frozen=True, eq=False, repr=False)
class Descent(Ended):
    """What `descend` returns.

    `cost`, `gradient` and `gap_bound` were evaluated at `solution`; the bound is None where the
    objective offers none, or where it underflows. `evaluations` counts values with gradients,
    `products` Hessian products. With a regulariser `cost` includes it, and `gradient` is that of
    the objective alone. `what` says how it ended and what is known of the solution, `remedy` what
    to try, where something is known; `message` is both.
    """

    solution: Array
    cost: float
    status: Status
    what: str
    remedy: str
    iterations: int
    seconds: float
    gap_bound: float | None
    history: History
    gradient: Array
    evaluations: int
    products: int
    method: str
    value = former("cost")

    def __repr__(self) -> str:
        return f"<Descent by {self.method}: {self.message}>"


@called_as("descend(objective, start, method=..., step_size=..., max_iter=..., tol=...)")
def descend(
    objective: Objective,
    start: ArrayLike | None = None,
    *,
    method: str = "gradient",
    step_size: float | None = None,
    max_iter: int = 1000,
    tol: float = 1e-8,
    bounds: Bounds | None = None,
    regulariser: Regulariser | None = None,
    callback: Callable[[Iterate], object] | None = None,
    progress: bool = False,
) -> Descent:
    """Minimise an objective by its gradients; the result carries its own proof.

    Parameters
    ----------
    objective : Objective
        What to minimise, such as `problem.objective(x0, T)`.
    start : array of the objective's shape, optional
        Where to start; zeros by default. It is not modified.
    method : str
        - "gradient": step 2/(L + mu) on quadratics, with the Hessian's `extreme_eigenvalues` mu
          and L; else Armijo's backtracking.
        - "heavy-ball": Polyak's step and momentum from mu and L on quadratics; else momentum 0.9
          with backtracking, dropped where it points uphill.
        - "nesterov": step 1/L on quadratics, else backtracking; the momentum is dropped where J
          would rise, so that J never does.
        - "conjugate-gradient": on quadratics it ends in at most rank + 1 steps of one Hessian
          product each; else SciPy's, of Polak and Ribiere.
        - "l-bfgs": SciPy's L-BFGS-B.

        On quadratics: where `objective.quadratic` and a `hessian_product` is given.
    step_size : float, optional
        A constant step, for the first three methods.
    max_iter : int
        Limit on steps; 0 only evaluates J at the start.
    tol : float
        Relative gap: stop where J - min J is proven to be at most tol |J|. The bound is quadratic in
        the gradient: tol=1e-18 can be met, and gives z to about 1e-9. Without a bound, gradient norm
        beside the first, which proves nothing of J - min J.
    bounds : pair (low, high), optional
        low <= z <= high, each a number, an array that fits z, or None for no bound; the start is moved
        inside. Methods: "gradient", projected, and "nesterov", FISTA with restart, in steps 1/L on
        quadratics, which need not be convex here, else with backtracking; and "l-bfgs".
    regulariser : Regulariser, optional
        A convex h(z) to be added, such as `l1(weight)`; by "gradient" and "nesterov".

        With either, the gradient's norm is replaced by that of (z - prox(z - s g))/s, which is zero
        exactly at optima: s is 1/L on quadratics, else the step size, else 1/|g| at the start. There
        is a gap bound where the objective's `curvature` is given.
    callback : callable, optional
        Called with each `Iterate`; a true return value stops. Its exceptions are passed on.
    progress : bool
        Show a progress bar (tqdm's), or without tqdm one line of text on stderr at the end.

    Returns
    -------
    Descent
        Its solution is the iterate that met the tolerance or where the callback stopped; if none
        did (stalled, diverged, max_iter) the best: that of lowest cost or, where rounding
        hides the difference in cost, of lower gradient. Before a descent is called converged, J
        and its gradient are evaluated at the solution: the word of a recursion is not taken.

    Raises
    ------
    NonFiniteError
        If `start` is not finite. Where J or its gradient is not, a trial step of a line search is
        shortened, and an iterate, the start included, ends the descent as `Status.DIVERGED`.

    See Also
    --------
    Objective : What is minimised, and how to precondition it.
    taylor_test : A test of its gradient.
    lqrad.sgd : Descent on a part of the data at a time.

    References
    ----------
    Polyak, Introduction to Optimization, 1987, sections 1.4 and 3.2 (optimal steps, heavy ball).
    O'Donoghue and Candes, Adaptive restart for accelerated gradient schemes, 2015.
    Beck and Teboulle, A fast iterative shrinkage-thresholding algorithm, 2009 (FISTA).
    Byrd, Lu, Nocedal and Zhu, A limited memory algorithm for bound constrained optimization, 1995.
    Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems, 1952.

    Examples
    --------
    >>> import numpy as np
    >>> H, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([3.0, 4.0])
    >>> bowl = Objective(
    ...     shape=(2,),
    ...     value_and_gradient=lambda z: (0.5 * z @ H @ z - b @ z, H @ z - b),
    ...     hessian_product=lambda z, v: H @ v,
    ...     quadratic=True,
    ... )
    >>> result = descend(bowl, method="conjugate-gradient")
    >>> result.solution.round(9), result.iterations, result.status.converged
    (array([1., 1.]), 2, True)
    >>> descend(bowl, method="nesterov", bounds=(0.0, 0.5)).solution
    array([0.5, 0.5])
    """
    began = time.perf_counter()
    check_type("objective", objective, Objective, "problem.objective(x0, T)")
    check_choice("method", method, METHODS)
    max_iter, tol = check_count("max_iter", max_iter, least=0), check_tolerance(tol)
    if step_size is not None:
        if method not in STEPPED:
            raise ArgumentError(
                f"step_size is {step_size!r}, but method={method!r} finds its own; "
                f"leave it out, or choose one of: {', '.join(STEPPED)}"
            )
        step_size = check_number("step_size", step_size, above=0)
    z = _start(objective, start)
    oracle = Oracle(objective, z)
    if bounds is not None or regulariser is not None:
        oracle = ProximalOracle(objective, z, bounds, regulariser, step_size)
        oracle.check(method)
    bar = progress_bar(method, max_iter, "step") if progress else None
    # An overflow is found, and reported in words: NumPy's warnings would only repeat it.
    quiet = np.errstate(over="ignore", invalid="ignore", under="ignore")
    with quiet, nullcontext() if bar is None else bar:
        monitor = _started(oracle, max_iter, tol, callback, bar)
        size = None if step_size is None else scaled(step_size, oracle.exponent)
        while monitor.status is None:  # each round starts the method afresh
            entry = monitor.last
            try:
                run(oracle, entry, method, size, monitor.accept)
                monitor.confirm(entry)
            except (NonFiniteError, NotConvexError) as error:
                monitor.fail(entry, error)
        if monitor.error is not None:
            raise monitor.error
        if monitor.status is Status.DIVERGED:
            monitor.remedy = monitor.remedy or _remedy(oracle, method, step_size)
        elif monitor.status in (Status.STALLED, Status.MAX_ITER):
            monitor.diagnose()
        elif monitor.status is Status.CONVERGED_GRADIENT:
            monitor.look_around()
        status = monitor.status
    chosen = status.converged or status in (Status.CALLBACK, Status.STATIONARY)
    final = monitor.last if chosen else monitor.best
    result = Descent(
        solution=final.z.reshape(objective.shape).copy(),
        cost=oracle.in_given(final.value),
        status=status,
        what=monitor.what(final),
        remedy=monitor.remedy,
        iterations=len(monitor.rows) - 1,
        seconds=time.perf_counter() - began,
        gap_bound=monitor.given_bound(oracle.gap_bound(final)),
        history=monitor.history(),
        gradient=oracle.in_given(final.gradient).reshape(objective.shape).copy(),
        evaluations=oracle.evaluations,
        products=oracle.products,
        method=method,
    )
    if progress and bar is None:
        print(result, file=sys.stderr)
    return result


@dataclass
class _Monitor:
    """Records the iterates, keeps the best of them, and decides where to stop."""

    oracle: Oracle
    max_iter: int
    tol: float
    callback: Callable[[Iterate], object] | None
    bar: Any
    best: Point  # the start, until there is a better one
    last: Point
    improved: int = 0  # at which iteration there was
    rows: list[_Row] = field(default_factory=list)
    status: Status | None = None
    reason: str = ""  # of a divergence, and what else is to be said of the status
    remedy: str = ""
    asked: bool = False  # by the callback, to stop
    error: Exception | None = None  # of the callback

    def accept(self, point: Point, step: float) -> bool:
        """Record an iterate; whether to stop there."""
        k, bound = len(self.rows), self.oracle.gap_bound(point)
        self.rows.append((point.value, point.norm, step, bound))
        self.last = point
        if improves(point, self.best):
            self.best, self.improved = point, k
        if self.bar is not None and k > 0:
            self.bar.update()
        if self.callback is not None:
            z = point.z.reshape(self.oracle.shape)
            z.flags.writeable = False
            value, norm, step, proven = self.given(self.rows[-1])
            try:
                seen = Iterate(k, z, value, norm, proven, step)
                self.asked = bool(self.callback(seen))
            except Exception as error:  # for descend to raise, where neither it nor SciPy catches
                self.asked, self.error = True, error
        self.status = self.verdict()
        return self.status is not None

    def verdict(self) -> Status | None:
        """The status at the last iterate, or None to go on."""
        value, norm, _, bound = self.rows[-1]
        start, start_norm, _, _ = self.rows[0]
        k = len(self.rows) - 1
        if bound is not None and bound <= self.tol * abs(value):
            return Status.CONVERGED_GAP
        if norm == 0 or (bound is None and norm <= self.tol * start_norm):
            return Status.CONVERGED_GRADIENT
        if self.asked:
            return Status.CALLBACK
        # Where J has risen by 1/eps times the scale of its start, none of its digits is left.
        scale = abs(start) + self.rows[min(k, 1)][2] * start_norm * start_norm
        if value - start > scale / EPS or start - value > scale * _BOTTOMLESS:
            first, last = self.oracle.in_given(start), self.oracle.in_given(value)
            self.reason = f"at iteration {k}: J went from {first:.3g} to {last:.3g}"
            return Status.DIVERGED
        if k >= self.max_iter:
            return Status.MAX_ITER
        # J is flat, and half of the run has brought nothing: momentum may swing for that long.
        flat = value - self.best.value <= 1e-10 * max(abs(start), abs(self.best.value))
        return Status.STALLED if flat and k - self.improved > max(100, k // 2) else None

    def confirm(self, entry: Point) -> None:
        """End a round: evaluate what a recursion claims; stalled if all of it brought nothing."""
        if not self.last.evaluated:
            self.last = self.oracle.point(self.last.z)
            bound = self.oracle.gap_bound(self.last)
            self.rows[-1] = (self.last.value, self.last.norm, self.rows[-1][2], bound)
            self.best = entry
            if improves(self.last, entry):
                self.best, self.improved = self.last, len(self.rows) - 1
            self.status = self.verdict()
        if self.status is None and not improves(self.last, entry):
            self.status = Status.STALLED

    def fail(self, entry: Point, error: LqradError) -> None:
        """End the descent at an iterate that could not be reached."""
        self.status, self.remedy = Status.DIVERGED, error.remedy
        self.reason = f"at iteration {len(self.rows)}: {error.what.rstrip('.')}"
        if not self.best.evaluated:
            self.best = entry

    def diagnose(self) -> None:
        """Name the cause, where a quadratic that is known to have a minimum was not minimised."""
        if not self.oracle.quadratic or self.oracle.objective.gap_bound is None:
            return
        with suppress(NonFiniteError, NotConvexError):
            mu, L = self.oracle.spectrum
            if mu <= _HIDDEN * EPS * L:
                limit = ", the limit max_iter" if self.status is Status.MAX_ITER else ""
                self.status, self.remedy = Status.ILL_CONDITIONED, GROWTH_REMEDY
                self.reason = (
                    f"{limit}: the Hessian's eigenvalues reach {self.oracle.in_given(L):.2g}, and "
                    "their rounding errors hide the smallest"
                )

    def look_around(self) -> None:
        """Tell a saddle, a maximum or a kink from a minimum: by Hessian products, and by two pushes.

        Convex functions have neither, nor have quadratics whose spectrum was asked for. Others may: of
        the directions that symmetry keeps a descent from, it sees no curvature.
        """
        convex = self.oracle.objective.gap_bound is not None or self.oracle.convex
        if convex or "spectrum" in vars(self.oracle):
            return
        with suppress(NonFiniteError):
            least, largest = self.oracle.curvatures(self.last.z)
            if least < -_CURVED * max(largest, -least):
                self.status = Status.STATIONARY
                self.reason = f" of curvature {self.oracle.in_given(least):.3g}"
                return
        if not self.oracle.quadratic:
            lower = self.oracle.lower_beside(self.last)
            if lower is not None:
                self.status = Status.STATIONARY
                self.reason = f", to {self.oracle.in_given(lower):.7g} at a small push"

    def given(self, row: _Row) -> _Row:
        """A row of the history in the objective's own units."""
        value, norm, step, bound = row
        given = self.oracle.in_given
        step = scaled(step, -self.oracle.exponent)  # a z per gradient
        return given(value), given(norm), step, self.given_bound(bound)

    def given_bound(self, bound: float | None) -> float | None:
        """A gap bound in the objective's own units."""
        return None if bound is None else self.oracle.in_given(bound)

    def history(self) -> History:
        """The rows so far, as columns."""
        *others, bounds = zip(*map(self.given, self.rows), strict=True)
        known = any(bound is not None for bound in bounds)
        proven = np.array([math.inf if bound is None else bound for bound in bounds])
        values, norms, steps = map(np.array, others)
        return History(values, norms, steps, proven if known else None)

    def what(self, final: Point) -> str:
        """How it ended, and what is known of the solution."""
        k, bound = len(self.rows) - 1, self.oracle.gap_bound(final)
        after = f"after {k} iteration{'s' * (k != 1)}"
        how = {
            Status.ILL_CONDITIONED: after + self.reason,
            Status.STALLED: f"{after}: rounding errors (or a wrong gradient) hide what descent is left",
            Status.MAX_ITER: f"{after}, the limit max_iter",
            Status.CALLBACK: f"{after} by the callback",
            Status.DIVERGED: self.reason,
            Status.STATIONARY: f"{after}, and the cost falls along a direction{self.reason}",
        }
        given = self.oracle.in_given
        known = f"gradient norm {given(final.norm):.2g}, at the start {given(self.rows[0][1]):.2g}"
        if bound is not None and bound < math.inf:
            known = f"proven to be within {given(bound):.2g} of the minimum"
        assert self.status is not None
        if not math.isfinite(final.value):  # not even at the start
            return f"{self.status.word} {self.reason}"
        how_it_ended = f"{self.status.word} {how.get(self.status, after)}"
        return f"{how_it_ended}; J = {given(final.value):.7g}, {known}"


def _started(
    oracle: Oracle,
    max_iter: int,
    tol: float,
    callback: Callable[[Iterate], object] | None,
    bar: Any,
) -> _Monitor:
    """A monitor that has seen the start, which may have no J."""
    try:
        entry, error = oracle.first(), None
    except NonFiniteError as raised:
        nowhere = np.full(oracle.start.shape, math.nan)
        entry, error = Point(oracle.start, math.inf, nowhere, math.nan, True, 0.0), raised
    monitor = _Monitor(oracle, max_iter, tol, callback, bar, best=entry, last=entry)
    monitor.accept(entry, 0.0)
    if error is not None:
        monitor.status, monitor.remedy = Status.DIVERGED, error.remedy
        monitor.reason = f"at the start: {error.what.rstrip('.')}"
    return monitor


def _remedy(oracle: Oracle, method: str, step_size: float | None) -> str:
    """What to try after a divergence. `step_size` is as the user gave it."""
    known = ("conjugate-gradient", "l-bfgs", "nesterov", "gradient")
    other = next(f"method={m!r}" for m in known if m in oracle.methods and m != method)
    if step_size is None:
        return f"try {other}"
    limit = ""
    if oracle.quadratic:
        with suppress(NonFiniteError, NotConvexError):
            most = scaled(2 / oracle.spectrum[1], -oracle.exponent)
            limit = f" (gradient descent needs less than 2/L = {most:.3g})"
    return f"try a step_size smaller than {step_size:g}{limit}, or {other}"


def _start(objective: Objective, start: ArrayLike | None) -> Array:
    """A flat copy of the start, checked."""
    z = np.zeros(objective.shape) if start is None else np.array(real_array("start", start))
    check_shape("start", z, objective.shape, "as the objective has")
    check_finite("start", z)
    return z.ravel()
