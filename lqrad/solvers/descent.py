"""The descent loop: minimise J(z), given J and its gradient g, and prove what was reached.

    z[k+1] = z[k] + step[k] d[k],    d[k] made of g(z[0]) ... g(z[k]) and of Hessian products

It knows no control: whatever has a value and a gradient is minimised by the same loop.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh_tridiagonal
from scipy.linalg.blas import dnrm2

from lqrad.errors import (
    EPS,
    ArgumentError,
    Array,
    NonFiniteError,
    NotConvexError,
    Status,
    check_choice,
    check_count,
    check_finite,
    check_shape,
    real_array,
)
from lqrad.problems.objective import Objective

_NOISE = 1e-13  # the relative error up to which a value of J is taken to be known
_ARMIJO = 0.3  # the share of the slope's promise that a step must keep; an exact step keeps 1/2


@dataclass(frozen=True, eq=False)
class Iterate:
    """What the callback sees of an iterate, the start being iteration 0; `z` is read-only."""

    iteration: int
    z: Array
    value: float
    gradient_norm: float
    gap_bound: float | None
    step: float


@dataclass(frozen=True, eq=False)
class History:
    """One entry per iterate, the start first; `step[k]` led to iterate k, and step[0] = 0.

    SciPy's methods keep their steps to themselves: there it is the length of the move over that of
    the gradient. Conjugate gradients on a quadratic know all but the last entry by recursion.
    """

    value: Array
    gradient_norm: Array
    step: Array
    gap_bound: Array | None


@dataclass(frozen=True, eq=False, repr=False)
class Descent:
    """What `descend` returns.

    `value`, `gradient` and `gap_bound` (None where the objective offers none) were evaluated at
    `solution`; `evaluations` counts values with gradients, `products` Hessian products.
    """

    solution: Array
    value: float
    gradient: Array
    gap_bound: float | None
    iterations: int
    evaluations: int
    products: int
    status: Status
    message: str
    method: str
    history: History
    seconds: float

    def __repr__(self) -> str:
        return f"<Descent by {self.method}: {self.message}>"


def descend(
    objective: Objective,
    start: ArrayLike | None = None,
    *,
    method: str = "gradient",
    step_size: float | None = None,
    max_iter: int = 1000,
    tol: float = 1e-8,
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
        With a gap bound, stop where J - min J is proven to be at most tol |J|; without, where the
        gradient's norm is at most tol times that at the start. The bound is quadratic in the
        gradient: tol=1e-18 can be met, and gives z to about 1e-9.
    callback : callable, optional
        Called with each `Iterate`; a true return value stops. Its exceptions are passed on.
    progress : bool
        Show a progress bar (tqdm's), or without tqdm one line of text on stderr at the end.

    Returns
    -------
    Descent
        Its solution is the iterate that met the tolerance or where the callback stopped; if none
        did (stalled, diverged, max_iter) the best: that of lowest value or, where rounding
        hides the difference in value, of lower gradient. Before a descent is called converged, J
        and its gradient are evaluated at the solution: the word of a recursion is not taken.

    Raises
    ------
    ArgumentError, DtypeError, ShapeError
        If an argument is not as described, or the gradient has another shape than the objective.
    NonFiniteError
        If `start`, or J or its gradient there, is not finite. Later on, a trial step of a line
        search that meets it is shortened, and an iterate ends the descent as `Status.DIVERGED`.

    References
    ----------
    Polyak, Introduction to Optimization, 1987, sections 1.4 and 3.2 (optimal steps, heavy ball).
    O'Donoghue and Candes, Adaptive restart for accelerated gradient schemes, 2015.
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
    """
    began = time.perf_counter()
    z, step_size = _checked(objective, start, method, step_size, max_iter, tol)
    oracle = _Oracle(objective, z)
    bar = _progress_bar(method, max_iter) if progress else None
    # An overflow is found, and reported in words: NumPy's warnings would only repeat it.
    quiet = np.errstate(over="ignore", invalid="ignore")
    with quiet, nullcontext() if bar is None else bar:
        entry = oracle.point(z)
        monitor = _Monitor(oracle, max_iter, tol, callback, bar, best=entry, last=entry)
        monitor.accept(entry, 0.0)
        while monitor.status is None:  # each round starts the method afresh
            entry = monitor.last
            try:
                _run(oracle, entry, method, step_size, monitor.accept)
                monitor.confirm(entry)
            except (NonFiniteError, NotConvexError) as error:
                monitor.fail(entry, str(error))
        if monitor.error is not None:
            raise monitor.error
        status = monitor.status
        if status is Status.DIVERGED:
            monitor.reason += f"; try {_remedy(oracle, method, step_size)}"
    final = monitor.last if status.converged or status is Status.CALLBACK else monitor.best
    values, norms, steps, bounds = (np.array(column) for column in zip(*monitor.rows, strict=True))
    result = Descent(
        solution=final.z.reshape(objective.shape).copy(),
        value=final.value,
        gradient=final.gradient.reshape(objective.shape).copy(),
        gap_bound=oracle.gap_bound(final),
        iterations=len(values) - 1,
        evaluations=oracle.evaluations,
        products=oracle.products,
        status=status,
        message=monitor.message(final),
        method=method,
        history=History(values, norms, steps, bounds if objective.gap_bound else None),
        seconds=time.perf_counter() - began,
    )
    if progress and bar is None:
        print(result, file=sys.stderr)
    return result


def extreme_eigenvalues(
    product: Callable[[Array], Array], shape: tuple[int, ...], *, products: int = 30
) -> tuple[float, float]:
    """Estimate the smallest and the largest eigenvalue of a symmetric operator by Lanczos.

    Parameters
    ----------
    product : callable
        v -> H v, for v of the given shape.
    shape : tuple of int
        Shape of v.
    products : int
        Number of products at most; fewer are used when they span an invariant subspace.

    Returns
    -------
    (smallest, largest) : tuple of float
        The smallest Ritz value, which is never below the smallest eigenvalue, and the largest plus
        the largest residual among the upper three, which but for contrived H is not below the
        largest eigenvalue, nor far above it. Both are exact, up to rounding, where `products` is at
        least the number of distinct eigenvalues. The first vector is drawn from a fixed seed.

    Raises
    ------
    ArgumentError
        If `shape` has no entries, or `products` is not a whole number of at least one.
    NonFiniteError
        If a product is not finite.

    References
    ----------
    Parlett, The Symmetric Eigenvalue Problem, 1998, chapter 13.
    Zhou and Li, Bounding the spectrum of large Hermitian matrices, 2011.

    Examples
    --------
    >>> smallest, largest = extreme_eigenvalues(lambda v: [1.0, 2.0, 5.0] * v, (3,))
    >>> round(smallest, 12), round(largest, 12)
    (1.0, 5.0)
    """
    size = math.prod(shape)
    if size == 0:
        raise ArgumentError(f"shape is {shape}, expected one with at least one entry")
    steps = min(check_count("products", products), size)
    basis, alpha, beta = np.empty((steps, size)), np.empty(steps), np.empty(steps)
    v = np.random.default_rng(0).normal(size=size)
    v /= dnrm2(v)
    for k in range(steps):
        basis[k] = v
        v = np.array(product(v.reshape(shape)), dtype=np.float64).ravel()
        if not np.isfinite(v).all():
            raise NonFiniteError("the Hessian's product with a vector is not finite")
        scale = dnrm2(v)
        alpha[k] = basis[k] @ v
        for _ in range(2):  # once is not enough to be orthogonal up to rounding, twice is
            v -= (basis[: k + 1] @ v) @ basis[: k + 1]
        beta[k] = dnrm2(v)
        if beta[k] <= 100 * EPS * scale:  # the subspace is invariant: its Ritz values are exact
            steps = k + 1
            break
        v /= beta[k]
    values, vectors = eigh_tridiagonal(alpha[:steps], beta[: steps - 1])
    residuals = beta[steps - 1] * np.abs(vectors[-1, -3:])
    return float(values[0]), float(values[-1] + residuals.max())


def _require_minimum(curvature: float, L: float) -> None:
    """Raise NotConvexError if the curvature is negative by more than rounding, or L not positive."""
    if L <= 0 or curvature < -1e-10 * L:
        raise NotConvexError(f"J has curvature {curvature:.3g} in a direction, hence no minimum")


class _Point(NamedTuple):
    """A place (flat) and what is known there, by evaluation or by recursion."""

    z: Array
    value: float
    gradient: Array
    norm: float
    evaluated: bool


def _point(z: Array, value: float, gradient: Array, *, evaluated: bool) -> _Point:
    norm = float(dnrm2(gradient)) if gradient.size else 0.0
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise NonFiniteError(f"J is {value:.3g}, with a gradient of norm {norm:.3g}")
    return _Point(z, value, gradient, norm, evaluated)


def _rise(a: _Point, b: _Point) -> float:
    """J(b) - J(a); where rounding hides it in the values, by the trapezoidal rule on the gradients.

    That is exact on quadratics. An Armijo test on it is the approximate Wolfe condition of Hager
    and Zhang (A new conjugate gradient method with guaranteed descent, 2005), without which a line
    search loses half of the digits of z.
    """
    rise = b.value - a.value
    if abs(rise) <= _NOISE * abs(a.value):
        rise = 0.5 * float((a.gradient + b.gradient) @ (b.z - a.z))
    return rise


def _improves(point: _Point, best: _Point) -> bool:
    """Whether J is lower, or equal up to rounding and its gradient clearly lower."""
    rise, noise = point.value - best.value, _NOISE * abs(best.value)
    return rise < -noise or (rise <= noise and point.norm < 0.5 * best.norm)


class _Oracle:
    """The objective on flat vectors: checked, counted, and copied, as it may reuse its arrays."""

    def __init__(self, objective: Objective, start: Array) -> None:
        self.objective, self.shape, self.start = objective, objective.shape, start
        self.quadratic = objective.quadratic and objective.hessian_product is not None
        self.evaluations = self.products = 0

    def point(self, z: Array) -> _Point:
        """J and its gradient at z; NonFiniteError where they are not finite."""
        self.evaluations += 1
        value, given = self.objective.value_and_gradient(z.reshape(self.shape))
        gradient = np.array(given, dtype=np.float64)
        check_shape("the gradient", gradient, self.shape, "as the objective says")
        return _point(z, float(value), gradient.ravel(), evaluated=True)

    def trial(self, z: Array) -> _Point | None:
        """As `point`, but None where J or its gradient is not finite."""
        try:
            return self.point(z)
        except NonFiniteError:
            return None

    def gap_bound(self, point: _Point) -> float | None:
        bound = self.objective.gap_bound
        return None if bound is None else float(bound(point.gradient.reshape(self.shape)))

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

    def move(self, point: _Point, d: Array, step: float) -> _Moved:
        """Take a constant step: the new point, the step, the step to try next."""
        return self.point(point.z + step * d), step, step

    def search(self, point: _Point, d: Array, step: float) -> _Moved:
        """As `move`, but shorten the step until J falls by a share of what its slope promises."""
        slope, first = float(point.gradient @ d), step
        for _ in range(60):
            trial = self.trial(point.z + step * d)
            if trial is not None and _rise(point, trial) <= _ARMIJO * step * slope:
                return trial, step, 2 * step if step == first else step
            step *= 0.3
        return None, step, step


_Moved = tuple[_Point | None, float, float]  # no point where rounding leaves no descent
_Iterates = Iterator[tuple[_Point, float]]  # the points, with the steps that led to them
_Accept = Callable[[_Point, float], bool]  # records a point and its step; whether to stop there


def _gradient(oracle: _Oracle, point: _Point, step_size: float | None) -> _Iterates:
    """d[k] = -g(z[k])."""
    if oracle.quadratic and step_size is None:
        mu, L = oracle.spectrum
        step_size = 2 / (L + max(mu, 1e-2 * L))  # mu = 0 would leave the mode of L undamped
    return _steps(oracle, point, step_size, 0.0)


def _heavy_ball(oracle: _Oracle, point: _Point, step_size: float | None) -> _Iterates:
    """d[k] = momentum d[k-1] - g(z[k]); on quadratics the momentum is the best for the step."""
    momentum = 0.9
    if oracle.quadratic:
        mu, L = oracle.spectrum
        if mu < 1e-8 * L:  # no more than rounding, and mu = 0 would leave every mode undamped
            mu = 1e-4 * L
        step_size = step_size or (2 / (math.sqrt(L) + math.sqrt(mu))) ** 2
        momentum = (1 - math.sqrt(step_size * mu)) ** 2
    return _steps(oracle, point, step_size, momentum)


def _steps(oracle: _Oracle, point: _Point, step_size: float | None, momentum: float) -> _Iterates:
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


def _nesterov(oracle: _Oracle, point: _Point, step_size: float | None) -> _Iterates:
    """A gradient step from y = z[k] + momentum (z[k] - z[k-1]); no momentum where J would rise."""
    if oracle.quadratic and step_size is None:
        step_size = 1 / oracle.spectrum[1]
    advance = oracle.search if step_size is None else oracle.move
    step, previous, t = step_size or 1 / point.norm, point, 1.0
    while True:
        t_next = 0.5 + math.sqrt(0.25 + t * t)
        momentum = (t - 1) / t_next
        y = point.z + momentum * (point.z - previous.z)
        ahead: _Point | None = point
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


def _conjugate_gradients(oracle: _Oracle, point: _Point) -> _Iterates:
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


def _scipy(oracle: _Oracle, entry: _Point, method: str, accept: _Accept) -> None:
    """Run a minimiser of SciPy's with its own stopping rules turned off.

    It is given (J - J(entry)) / |g(entry)|, which has a scale that suits SciPy's constants and keeps
    its digits as the rounds come closer to the minimum. A trial where J is not finite is answered
    by the parabola, along the line from the last iterate, whose minimum is at a tenth of the way:
    any line search will come back.
    """
    from scipy.optimize import minimize  # here, as its import takes longer than lqrad's own

    last = trial = best = entry  # the last iterate and trial, the best trial since that iterate
    level = 0.0  # J(last) - J(entry)

    def value_and_gradient(z: Array) -> tuple[float, Array]:
        nonlocal trial, best
        point = oracle.trial(z.copy())
        if point is None:
            slope = float(last.gradient @ (z - last.z))
            return (level - 4 * slope) / entry.norm, -9 * last.gradient / entry.norm
        trial, best = point, point if _improves(point, best) else best
        return (level + _rise(last, trial)) / entry.norm, trial.gradient / entry.norm

    def report(point: _Point) -> bool:
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
    minimize(value_and_gradient, entry.z, jac=True, method=name, callback=callback, options=options)
    if best is not last:  # its CG gives up where no next direction is left, be it at the minimum
        report(best)


_STEPPED = {"gradient": _gradient, "heavy-ball": _heavy_ball, "nesterov": _nesterov}
METHODS = (*_STEPPED, "conjugate-gradient", "l-bfgs")


def _run(
    oracle: _Oracle, entry: _Point, method: str, step_size: float | None, accept: _Accept
) -> None:
    """Run a method from `entry` until `accept` says stop, or until it finds no further descent."""
    if method in _STEPPED:
        iterates = _STEPPED[method](oracle, entry, step_size)
    elif method == "conjugate-gradient" and oracle.quadratic:
        iterates = _conjugate_gradients(oracle, entry)
    else:
        _scipy(oracle, entry, method, accept)
        return
    for point, step in iterates:
        if accept(point, step):
            return


@dataclass
class _Monitor:
    """Records the iterates, keeps the best of them, and decides where to stop."""

    oracle: _Oracle
    max_iter: int
    tol: float
    callback: Callable[[Iterate], object] | None
    bar: Any
    best: _Point  # the start, until there is a better one
    last: _Point
    improved: int = 0  # at which iteration there was
    rows: list[tuple[float, float, float, float | None]] = field(default_factory=list)
    status: Status | None = None
    reason: str = ""  # of a divergence
    asked: bool = False  # by the callback, to stop
    error: Exception | None = None  # of the callback

    def accept(self, point: _Point, step: float) -> bool:
        """Record an iterate; whether to stop there."""
        k, bound = len(self.rows), self.oracle.gap_bound(point)
        self.rows.append((point.value, point.norm, step, bound))
        self.last = point
        if _improves(point, self.best):
            self.best, self.improved = point, k
        if self.bar is not None and k > 0:
            self.bar.update()
        if self.callback is not None:
            z = point.z.reshape(self.oracle.shape)
            z.flags.writeable = False
            try:
                seen = Iterate(k, z, point.value, point.norm, bound, step)
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
        if value - start > scale / EPS:
            self.reason = f"at iteration {k}: J rose from {start:.3g} to {value:.3g}"
            return Status.DIVERGED
        if k >= self.max_iter:
            return Status.MAX_ITER
        # J is flat, and half of the run has brought nothing: momentum may swing for that long.
        flat = value - self.best.value <= 1e-10 * max(abs(start), abs(self.best.value))
        return Status.STALLED if flat and k - self.improved > max(100, k // 2) else None

    def confirm(self, entry: _Point) -> None:
        """End a round: evaluate what a recursion claims; stalled if all of it brought nothing."""
        if not self.last.evaluated:
            self.last = self.oracle.point(self.last.z)
            bound = self.oracle.gap_bound(self.last)
            self.rows[-1] = (self.last.value, self.last.norm, self.rows[-1][2], bound)
            self.best = entry
            if _improves(self.last, entry):
                self.best, self.improved = self.last, len(self.rows) - 1
            self.status = self.verdict()
        if self.status is None and not _improves(self.last, entry):
            self.status = Status.STALLED

    def fail(self, entry: _Point, reason: str) -> None:
        """End the descent at an iterate that could not be reached."""
        self.status = Status.DIVERGED
        self.reason = f"at iteration {len(self.rows)}: {reason.rstrip('.')}"
        if not self.best.evaluated:
            self.best = entry

    def message(self, final: _Point) -> str:
        """How it ended, and what is known of the solution."""
        k, bound = len(self.rows) - 1, self.oracle.gap_bound(final)
        after = f"after {k} iteration{'s' * (k != 1)}"
        how = {
            Status.STALLED: f"{after}: rounding errors (or a wrong gradient) hide what descent is left",
            Status.MAX_ITER: f"{after}, the limit max_iter",
            Status.CALLBACK: f"{after} by the callback",
            Status.DIVERGED: self.reason,
        }
        known = f"gradient norm {final.norm:.2g}, at the start {self.rows[0][1]:.2g}"
        if bound is not None and bound < math.inf:
            known = f"proven to be within {bound:.2g} of the minimum"
        assert self.status is not None
        word = self.status.value.split(":")[0]
        return f"{word} {how.get(self.status, after)}; J = {final.value:.7g}, {known}"


def _remedy(oracle: _Oracle, method: str, step_size: float | None) -> str:
    """What to try after a divergence."""
    other = "method='l-bfgs'" if method == "conjugate-gradient" else "method='conjugate-gradient'"
    if step_size is None:
        return other
    limit = ""
    if oracle.quadratic:
        with suppress(NonFiniteError, NotConvexError):
            limit = f" (gradient descent needs less than 2/L = {2 / oracle.spectrum[1]:.3g})"
    return f"a step_size smaller than {step_size:g}{limit}, or {other}"


def _progress_bar(method: str, max_iter: int) -> Any:
    """A progress bar of tqdm's, or None where it is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=max_iter, desc=method, unit="step")


def _checked(
    objective: Objective,
    start: ArrayLike | None,
    method: str,
    step_size: float | None,
    max_iter: int,
    tol: float,
) -> tuple[Array, float | None]:
    """Check the arguments; the start as a flat copy, and the step size as a float."""
    if not isinstance(objective, Objective):
        raise ArgumentError(
            f"objective is of type {type(objective).__name__}, expected an Objective, "
            "such as problem.objective(x0, T) returns"
        )
    check_choice("method", method, METHODS)
    check_count("max_iter", max_iter, least=0)
    if not 0 <= _scalar("tol", tol) < math.inf:
        raise ArgumentError(f"tol is {tol!r}, expected a number of at least 0")
    if step_size is not None:
        if method not in _STEPPED:
            raise ArgumentError(
                f"step_size is {step_size!r}, but method={method!r} finds its own; "
                f"leave it out, or choose one of: {', '.join(_STEPPED)}"
            )
        if not 0 < _scalar("step_size", step_size) < math.inf:
            raise ArgumentError(f"step_size is {step_size!r}, expected a positive number")
        step_size = float(step_size)
    z = np.zeros(objective.shape) if start is None else np.array(real_array("start", start))
    check_shape("start", z, objective.shape, "as the objective has")
    check_finite("start", z)
    return z.ravel(), step_size


def _scalar(name: str, value: float) -> float:
    number = real_array(name, value)
    check_shape(name, number, (), "for a single number")
    return float(number)
