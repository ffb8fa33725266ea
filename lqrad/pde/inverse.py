"""Inverse problems: what a few sensors tell of an initial state, or of a source.

    y[t] = C x[t] + noise,    E x[t+1] = F x[t] + G u[t] + c,    w = x[0], or w = u[t] for all t

Diffusion forgets: most of w hardly reaches the sensors, and the w that fits them best is made of
amplified noise. Tikhonov's method charges for a w that is far from a prior w0,

    minimise    |A w - d|^2 + alpha (w - w0)'W (w - w0)

with A w - d the residuals of the sensors in units of their noise. All alpha are served by one basis: k
steps of Golub and Kahan's bidiagonalisation, a simulation and its adjoint each, reduce A to a
bidiagonal matrix of k columns, on which the minimum of every alpha is found at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    EPS,
    Array,
    check_choice,
    check_count,
    check_finite,
    check_number,
    check_shape,
    check_type,
    frozen_array,
    real_array,
)
from lqrad.errors import ArgumentError, NonFiniteError, NotConvexError, ShapeError, Status
from lqrad.pde.matrices import any_matrix, any_weight, inverse_of, times_rows
from lqrad.pde.problem import SparseLQProblem
from lqrad.pde.tikhonov import Projected
from lqrad.results import Report, former

UNKNOWNS = ("initial", "source")
RULES = ("discrepancy", "l-curve")


@dataclass(frozen=True, eq=False, repr=False)
class Inversion(Report):
    """What `invert` returns. It shows as a sentence; `plot` draws how alpha was chosen.

    There is no history: of a step no w is known, but a basis in which that of each alpha is.

    Attributes
    ----------
    w, x : (n,) or (m,), (T+1, n)
        The initial state, or the constant input, and the states that follow from it.
    cost : float
        |A w - d|^2 + alpha (w - w0)'W (w - w0).
    iterations : int
        Steps of the bidiagonalisation.
    unknown, rule : str
        "initial" or "source"; "discrepancy", "l-curve" or "given".
    alpha : float
        The weight; infinite where the prior explains the data.
    misfit, expected : float
        Root of the sum of the squared residuals, in units of the noise, and of their number.
    size : float
        ((w - w0)'W(w - w0))^1/2.
    gradient : float
        Norm of the gradient at the solution over that at the prior, both evaluated there.
    alphas, misfits, sizes : (j,)
        The L-curve, as far down in alpha as it has converged.
    """

    w: Array
    x: Array
    cost: float
    status: Status
    message: str
    iterations: int
    seconds: float
    unknown: str
    alpha: float
    rule: str
    misfit: float
    expected: float
    size: float
    gradient: float
    alphas: Array
    misfits: Array
    sizes: Array

    solution = former("w")

    def __repr__(self) -> str:
        return f"<Inversion: {self.message}>"


@np.errstate(over="ignore", invalid="ignore")  # looked for in what comes out
def invert(
    problem: SparseLQProblem,
    y: ArrayLike,
    C: Any,
    *,
    noise: ArrayLike,
    unknown: str = "initial",
    x0: ArrayLike | None = None,
    u: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    weight: Any = None,
    alpha: str | float = "discrepancy",
    max_iter: int = 200,
    tol: float = 1e-6,
) -> Inversion:
    """Recover an initial state or a constant source from noisy sensors.

    Parameters
    ----------
    problem : SparseLQProblem
        Its dynamics, which are linear; its weights play no part.
    y : (T+1, ny)
        What the sensors read, a row for each state; NaN where nothing was read.
    C : (ny, n) array or sparse
        What they measure.
    noise : float or (ny,)
        Standard deviation of their noise.
    unknown : "initial" or "source"
        x[0], or the input that is the same at all times.
    x0, u : (n,), (T, m), optional
        The initial state where the source is unknown, or the inputs; zero when not given.
    prior : (n,) or (m,), optional
        w0; zero when not given.
    weight : (k,), or (k, k) array or sparse, optional
        W, symmetric positive definite, for k unknowns; the identity when not given. With I - l^2
        Laplacian, say, roughness on scales below l is charged for.
    alpha : "discrepancy", "l-curve" or float
        - "discrepancy": the misfit is what noise gives, the number of readings (Morozov).
        - "l-curve": where the curve of log size over log misfit bends most, for a noise that is known
          up to a factor only (Hansen).
        - a positive number.
    max_iter : int
        Limit on steps, each a simulation and its adjoint.
    tol : float
        Gradient norm beside the first: they end where it is tol times that at the prior.

    Raises
    ------
    ArgumentError
        If the steps do not suffice, or no solution fits as closely as the noise says: of a source
        that varies in time there is none.

    See Also
    --------
    kalman_smoother : few states, their noise and covariances.
    SparseLQProblem : the dynamics.

    References
    ----------
    Golub and Kahan, Calculating the singular values and pseudo-inverse of a matrix, 1965.
    Hansen, Rank-Deficient and Discrete Ill-Posed Problems, 1998, sections 6.4, 7.2 and 7.5.
    Arridge, Betcke and Harhanen, Iterated preconditioned LSQR method for inverse problems on
    unstructured grids, Inverse Problems 30, 2014 (the weight without its root).

    Examples
    --------
    Where on a rod was it warm? Two sensors, which see the end of it only after a while:

    >>> import scipy.sparse as sp
    >>> n, T = 40, 100
    >>> laplace = sp.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n))
    >>> rod = SparseLQProblem(sp.eye_array(n) - laplace, sp.eye_array(n), np.ones((n, 1)), np.ones(n), [1])
    >>> warm = np.exp(-(((np.arange(n) - 12) / 4) ** 2))
    >>> C = np.eye(n)[[8, 30]]
    >>> rng = np.random.default_rng(0)
    >>> y = rod.simulate(warm, np.zeros((T, 1))) @ C.T + 0.01 * rng.normal(size=(T + 1, 2))
    >>> found = invert(rod, y, C, noise=0.01)
    >>> found
    <Inversion: initial state, alpha = ... (discrepancy), misfit 14.21 where noise gives 14.21, ...>
    >>> int(found.w.argmax())
    12
    """
    began = time.perf_counter()
    check_type("problem", problem, SparseLQProblem, "SparseLQProblem(E, F, G, Q, R)")
    if problem.reaction:
        raise ArgumentError("problem has a reaction; `invert` takes linear dynamics")
    check_choice("unknown", unknown, UNKNOWNS)
    sensors = _Sensors.of(problem, y, C, noise, unknown)
    n, m, T = problem.n, problem.m, sensors.T
    size = n if unknown == "initial" else m
    w0 = _vector("prior", prior, (size,))
    if unknown == "initial":
        if x0 is not None:
            raise ArgumentError("x0 is given and unknown at once; pass a guess of it as prior")
        known = _vector("u", u, (T, m))
    else:
        if u is not None:
            raise ArgumentError("u is given and unknown at once; pass a guess of it as prior")
        known = _vector("x0", x0, (n,))
    measure = _Weight.of(weight, size)
    rule, value = _rule(alpha)
    max_iter = check_count("max_iter", max_iter)
    tol = check_number("tol", tol, above=0, below=1)

    d = sensors.residual(sensors.states(problem, w0, known))
    check_finite("the misfit of the prior", d, computed=True)
    count = len(d)
    if not d.any() or (rule == "discrepancy" and d @ d <= count):
        shift, chosen, curve, iterations = np.zeros(size), math.inf, (np.empty(0),) * 3, 0
    else:
        shift, chosen, curve, iterations = _minimise(
            sensors, measure, d, rule, value, max_iter, tol
        )
    alphas, misfits, sizes = curve
    w = w0 + shift
    x = sensors.states(problem, w, known)
    residual = sensors.residual(x)
    gradient = 0.0
    if iterations:
        slope = chosen * measure.times(shift) - sensors.transposed(residual)
        gradient = measure.dual_norm(slope) / measure.dual_norm(sensors.transposed(d))
    misfit, moved = float(np.linalg.norm(residual)), _norm(float(shift @ measure.times(shift)))
    return Inversion(
        w=w,
        x=x,
        cost=misfit**2 + (chosen * moved**2 if moved else 0.0),
        status=Status.CONVERGED_GRADIENT,
        message=(
            f"{'initial state' if unknown == 'initial' else 'source'}, alpha = {chosen:.3g} ({rule}), "
            f"misfit {misfit:.4g} where noise gives {math.sqrt(count):.4g}, {iterations} iterations"
        ),
        iterations=iterations,
        seconds=time.perf_counter() - began,
        unknown=unknown,
        alpha=chosen,
        rule=rule,
        misfit=misfit,
        expected=math.sqrt(count),
        size=moved,
        gradient=gradient,
        alphas=alphas,
        misfits=misfits,
        sizes=sizes,
    )


@dataclass(frozen=True)
class _Sensors:
    """The linear map A from the unknown to all readings, in units of their noise."""

    problem: SparseLQProblem
    linear: SparseLQProblem  # without its offsets
    C: Any
    y: Array
    seen: NDArray[np.bool_]
    noise: Array
    initial: bool

    @classmethod
    def of(
        cls, problem: SparseLQProblem, y: ArrayLike, C: Any, noise: ArrayLike, unknown: str
    ) -> _Sensors:
        C = any_matrix("C", C)
        if C.ndim != 2 or C.shape[1] != problem.n or not C.shape[0]:
            raise ShapeError(f"C has shape {C.shape}, expected (ny, n) with n = {problem.n}")
        y = real_array("y", y)
        T = len(y) - 1 if problem.T is None and y.ndim else problem.T or 0
        if y.shape != (T + 1, C.shape[0]) or T < 1:
            rows = "T+1" if problem.T is None else T + 1
            raise ShapeError(
                f"y has shape {y.shape}, expected ({rows}, {C.shape[0]}): a row for each state, a "
                "column for each row of C"
            )
        seen = ~np.isnan(y)
        y = np.where(seen, y, 0.0)
        check_finite("y", y)
        if not seen.any():
            raise ArgumentError("y holds nothing but NaN, which says that nothing was read")
        sigma = frozen_array("noise", noise)
        if sigma.shape not in ((), (C.shape[0],)) or not np.all(sigma > 0):
            raise ArgumentError(
                f"noise is {noise!r}, expected a positive number or {C.shape[0]} of them"
            )
        initial = unknown == "initial"
        return cls(problem, problem.homogeneous(), C, y, seen, sigma, initial)

    @property
    def T(self) -> int:
        return len(self.y) - 1

    def _read(self, x: Array) -> Array:
        return np.asarray((self.C @ x.T).T)

    def residual(self, x: Array) -> Array:
        """Readings less what they should be for these states."""
        return np.asarray(((self.y - self._read(x)) / self.noise)[self.seen])

    def states(self, problem: SparseLQProblem, w: Array, known: Array) -> Array:
        """The states that follow from the unknown w and what is known: the inputs, or the start."""
        if self.initial:
            return problem.simulate(w, known)
        return problem.simulate(known, np.broadcast_to(w, (self.T, problem.m)))

    def times(self, w: Array) -> Array:
        """A w."""
        linear = self.linear
        x = self.states(linear, w, np.zeros((self.T, linear.m) if self.initial else linear.n))
        return np.asarray((self._read(x) / self.noise)[self.seen])

    def transposed(self, residual: Array) -> Array:
        """A'r."""
        slopes = np.zeros(self.y.shape)
        slopes[self.seen] = residual
        p, pull = self.linear.pull_back((self.C.T @ (slopes / self.noise).T).T)
        return pull if self.initial else np.asarray(self.problem.G.T @ p.sum(axis=0))


@dataclass(frozen=True)
class _Weight:
    """W and its inverse, for vectors; the norm of gradients is that of W^-1."""

    times: Callable[[Array], Array]
    solve: Callable[[Array], Array]

    @classmethod
    def of(cls, weight: Any, size: int) -> _Weight:
        if weight is None:
            return cls(lambda v: v, lambda g: g)
        W = any_weight("weight", weight, size, "k")
        solve = inverse_of(W)
        if solve is None:
            raise NotConvexError(
                "weight is not known to be positive definite; leave nothing without a price, or alpha "
                "cannot regularise it"
            )
        return cls(partial(times_rows, W), solve)

    def dual_norm(self, g: Array) -> float:
        """(g'W^-1 g)^1/2."""
        return _norm(float(g @ self.solve(g)))


def _minimise(
    sensors: _Sensors,
    measure: _Weight,
    d: Array,
    rule: str,
    value: float,
    max_iter: int,
    tol: float,
) -> tuple[Array, float, tuple[Array, Array, Array], int]:
    """The minimum of the chosen alpha, alpha, the L-curve, and the number of steps."""
    diagonal, below = [], [float(np.linalg.norm(d))]
    first = d / below[0]
    z = measure.solve(sensors.transposed(first))
    U, V = np.empty((max_iter + 1, len(d))), np.empty((max_iter, len(z)))
    U[0] = first
    for k in range(1, max_iter + 1):
        size = _norm(float(z @ measure.times(z)))
        if k == 1 and size == 0:
            raise ArgumentError("C sees nothing of the unknown: all its effects on y are zero")
        diagonal.append(size)
        V[k - 1] = z / size
        left = sensors.times(V[k - 1]) - size * U[k - 1]
        for _ in range(2):  # once is not enough to be orthogonal up to rounding, twice is
            left -= (U[:k] @ left) @ U[:k]
        below.append(float(np.linalg.norm(left)))
        U[k] = left / (below[k] or 1.0)
        z = measure.solve(sensors.transposed(U[k])) - below[k] * V[k - 1]
        for _ in range(2):
            z -= (V[:k] @ measure.times(z)) @ V[:k]
        rest = _norm(float(z @ measure.times(z)))
        exhausted = k in (len(d), len(z)) or min(below[k], rest) <= 100 * EPS * diagonal[0]
        small = Projected.of(diagonal, below, 0.0 if exhausted else rest)
        chosen = small.choose(rule, value, len(d), tol, exhausted)
        if chosen is not None:
            return small.minimum(chosen) @ V[:k], chosen, small.curve(tol), k
        if exhausted:
            break
    least = float(small.misfit(0.0))
    if rule == "discrepancy" and least**2 > len(d):
        other = "" if sensors.initial else ", or the source varies in time"
        raise ArgumentError(
            f"noise is too small{other}: after {k} steps the closest fit leaves a misfit of "
            f"{least:.4g}, and noise would give {math.sqrt(len(d)):.4g}; check the model, or try "
            "alpha='l-curve'"
        )
    raise ArgumentError(
        f"max_iter is {max_iter}, and the gradient has not fallen to tol = {tol:g} of its start; "
        "try more steps, a larger alpha or a larger tol"
    )


def _rule(alpha: str | float) -> tuple[str, float]:
    if isinstance(alpha, str):
        check_choice("alpha", alpha, RULES)
        return alpha, math.nan
    value = real_array("alpha", alpha)
    if value.shape != () or not 0 < float(value) < math.inf:
        raise ArgumentError(
            f"alpha is {alpha!r}, expected a positive number or one of: {', '.join(RULES)}"
        )
    return "given", float(value)


def _vector(name: str, value: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    if value is None:
        return np.zeros(shape)
    array = frozen_array(name, value)
    check_shape(name, array, shape, "to match the problem and y")
    return array


def _norm(square: float) -> float:
    """The root of v'W v."""
    if not math.isfinite(square):
        raise NonFiniteError("a product with A is not finite; are the dynamics unstable?")
    if square < 0:
        raise NotConvexError("weight is not positive definite: v'W v is negative for some v")
    return math.sqrt(square)
