"""How hard the descent is: extreme eigenvalues of the Hessian over spectral radius and horizon.

    H v[i] = lambda[i] v[i],    mu = min lambda,    L = max lambda,    kappa = L / mu

H, the Hessian of the cost in the inputs, is never formed. L is found by Lanczos on products with H,
a simulation and its adjoint, and 1/mu by Lanczos on products with the inverse of H: by completion of
squares, with the gains K of Riccati,

    H = F' G F,    F u = u + K x,    x[t+1] = A x[t] + B u[t] from rest,    G = blkdiag(R + B'P[t+1]B)

and F is undone by simulating the closed loop, in which nothing grows that a weight sees. So mu is
known to many digits also where it is far below the rounding errors of L, which hide it in a dense H.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import EPS, Array, check_count, check_number, check_type, frozen_array
from lqrad.copies import ReadOnly
from lqrad.descent.descend import descend
from lqrad.errors import ArgumentError, ShapeError
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.lanczos import extreme_eigenvalues
from lqrad.linalg.spectrum import dominant_growth
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem
from lqrad.lq.riccati import riccati
from lqrad.results import Cells, Report
from lqrad.sweeps import Sweep, sweep

PREDICTED = ("gradient", "conjugate-gradient")
_PRODUCTS = 100  # of H, and of its inverse: kappa is right to a percent then, and rather above
_ANGLES = 1024  # of the upper half of the unit circle, at which a limit is looked for
_PEAK = np.linspace(-3.0, 3.0, 61)  # and these about each eigenvalue, in units of its distance


@dataclass(frozen=True, eq=False, repr=False)
class Conditioning(ReadOnly, Report):
    """Condition numbers over a grid, and iterations that they predict and that were observed.

    Arrays have a row for each spectral radius and a column for each horizon, and NaN where the
    Hessian overflows.

    Attributes
    ----------
    problem : LQProblem
        The problem whose A was scaled.
    tol : float
        What the iterations shrink the gap J - J* to, relative to its start.
    grid : Sweep
        What was found in each cell, with the errors of those that failed.
    """

    problem: LQProblem
    tol: float
    grid: Sweep

    @property
    def radii(self) -> Array:
        """The spectral radii of A."""
        return self.grid.axes["radius"]

    @property
    def horizons(self) -> NDArray[np.int64]:
        """The horizons T."""
        return self.grid.axes["T"]

    def _found(self, name: str) -> Array:
        """Outcomes of this name, NaN where no cell has any."""
        return self.grid.values.get(name, np.full(self.grid.seconds.shape, np.nan))

    @property
    def smallest(self) -> Array:
        """The smallest eigenvalue mu of the Hessian."""
        return self._found("smallest")

    @property
    def largest(self) -> Array:
        """The largest eigenvalue L of the Hessian."""
        return self._found("largest")

    @property
    def condition(self) -> Array:
        """The condition number kappa = L / mu; above 1/eps, rounding of L hides mu from a descent."""
        with np.errstate(over="ignore"):
            return self.largest / self.smallest

    @property
    def predicted(self) -> dict[str, Array]:
        """Iterations of each method, by `predicted_iterations`: upper bounds.

        Conjugate gradients end after T m of them at most, the number of eigenvalues. Rounding errors
        may delay that, but not beyond what `predicted_iterations` says.
        """
        found = predicted_iterations(self.condition, self.tol)
        conjugate = np.minimum(found["conjugate-gradient"], self.horizons * self.problem.m)
        return found | {"conjugate-gradient": conjugate}

    @property
    def observed(self) -> dict[str, Array]:
        """Iterations that `descend` took; NaN where it was not run or did not get there."""
        return {method: self._found(method) for method in PREDICTED}

    @property
    def rates(self) -> Array:
        """Slopes of log kappa in T, one for each radius: a fit to the longer half of the horizons."""
        T = self.horizons
        start = min(0.5 * T.max(), np.unique(T)[-2:][0])  # two of them at least
        return np.array([_slope(T[start <= T], row[start <= T]) for row in self.condition])

    @property
    def predicted_rates(self) -> Array:
        """What `rates` tends to with T: 2 log rho where rho is above one, and zero elsewhere.

        That is if an input moves the mode of modulus rho and a weight sees it: L is made of squares
        of states that grow as rho^T, and R keeps mu away from zero. At rho = 1, and for Jordan
        blocks, there are powers of T besides.
        """
        return np.asarray(2 * np.log(np.maximum(self.radii, 1.0)))

    @cached_property
    def limits(self) -> Array:
        """What kappa rises to with T, one for each radius; infinite from rho = 1 on.

        The Hessian of T steps is the last block of that of T + 1 steps: mu falls and L rises with T,
        for every S. With G(z) = (zI - A)^-1 B they tend to the extreme eigenvalues on |z| = 1 of

            R + M'G(z) + G(z)*M + G(z)*Q G(z)

        the symbol of a block Toeplitz matrix. The Hessian is a section of it, its eigenvalues are
        within these bounds, if S weighs the last state as the rest of an infinite horizon would;
        another S may move up to n of them out. If so, those of the longest horizon are the limit.

        References
        ----------
        Grenander and Szego, Toeplitz Forms and Their Applications, 1958, chapter 5.
        """
        limits = np.full(len(self.radii), np.inf)
        for i in np.flatnonzero(self.radii < 1):
            bottom, top = _symbol_range(_scaled(self.problem, float(self.radii[i])))
            unit = _cost_unit(self.problem)
            bottom = np.fmin.reduce(self.smallest[i] / unit, initial=bottom)
            if bottom > 0:
                limits[i] = np.fmax.reduce(self.largest[i] / unit, initial=top) / bottom
        return limits

    def rows(self) -> list[dict[str, Any]]:
        """Return a dictionary for each cell: radius, T, eigenvalues, iterations, error."""
        columns = {"smallest": self.smallest, "largest": self.largest, "condition": self.condition}
        for kind, found in (("predicted", self.predicted), ("observed", self.observed)):
            columns |= {f"{method} {kind}": found[method] for method in PREDICTED}
        return [
            {"radius": radius, "T": T}
            | {name: float(column[i, j]) for name, column in columns.items()}
            | {"error": self.grid.errors.get((i, j))}
            for i, radius in enumerate(self.radii.tolist())
            for j, T in enumerate(self.horizons.tolist())
        ]

    def cells(self) -> Cells:
        """Return the columns and rows of the table of condition numbers, one for each spectral radius.

        After them: the limit for T to infinity, and the factor by which kappa grows in a step, as
        fitted and as predicted.
        """
        columns = ["radius", *(f"T={T}" for T in self.horizons), "limit", "growth", "predicted"]
        with np.errstate(over="ignore"):  # an infinite factor is one that no float can hold
            factors = (np.exp(self.rates), np.exp(self.predicted_rates))
        cells = []
        for radius, row, limit, *growth in zip(
            self.radii, self.condition, self.limits, *factors, strict=True
        ):
            cells.append([f"{radius:g}", *(f"{kappa:.2g}" for kappa in row), f"{limit:.2g}"])
            cells[-1] += [f"{factor:.4f}" for factor in growth]
        return columns, cells

    def __repr__(self) -> str:
        return self.table()

    def facts(self) -> dict[str, Any]:
        """Return everything that was found, by radius and by cell."""
        columns = ("radius", "limit", "rate", "predicted_rate")
        lines = zip(self.radii, self.limits, self.rates, self.predicted_rates, strict=True)
        radii = [dict(zip(columns, line, strict=True)) for line in lines]
        cells = [{name.replace(" ", "_"): v for name, v in row.items()} for row in self.rows()]
        return {"tol": self.tol, "radii": radii, "cells": cells}


def conditioning(
    problem: LQProblem,
    radii: ArrayLike,
    horizons: Sequence[int] | NDArray[np.integer[Any]],
    *,
    tol: float = 1e-6,
    max_iter: int = 5000,
    executor: Executor | None = None,
    progress: bool = False,
    path: str | Path | None = None,
) -> Conditioning:
    """Measure how the condition of a problem depends on its spectral radius and its horizon.

    Parameters
    ----------
    problem : LQProblem
        Nothing in it varies in time. A is scaled to each spectral radius; B, Q, R, S and M are kept.
    radii : (k,)
        Spectral radii, of at least zero.
    horizons : sequence of int
    tol : float
        A relative gap: the descents are run until J - J* is at most tol times that at the start. They start
        where all eigenvectors of the Hessian have the same share in it, on average: at a normal
        draw, of a fixed seed, with the inverse of the Hessian as its covariance.
    max_iter : int
        Limit on their iterations. A method is not run where more are predicted, and none where the
        condition number is above 1/eps.
    executor, progress, path
        As of `sweep`. What goes wrong in a cell, such as an overflow, is in `grid.errors`.

    See Also
    --------
    descend : whose iterations are predicted and counted.
    compare : the condition of one problem, beside its descents.

    References
    ----------
    Astrom, Introduction to Stochastic Control Theory, 1970, chapter 8 (completion of squares).
    Parlett, The Symmetric Eigenvalue Problem, 1998, chapter 13 (Lanczos).

    Examples
    --------
    >>> problem = LQProblem([[0, 1], [-1, 1]], [[0], [1]], [[1, 0], [0, 1]], [[1]])
    >>> print(conditioning(problem, [0.5, 0.9, 1.2], [5, 50, 100], max_iter=0))
    radius  T=5     T=50    T=100  limit  growth  predicted
    -------------------------------------------------------
       0.5  2.4      2.8      2.8    2.8  1.0001     1.0000
       0.9  6.6       44       51     54  1.0029     1.0000
       1.2   21  4.5e+08  3.1e+16    inf  1.4348     1.4400
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    if problem.T is not None:
        raise ArgumentError(
            f"problem varies over {problem.T} stages, expected one that does not vary in time: "
            "its A is scaled to each spectral radius, and serves every horizon"
        )
    if dominant_growth(problem.A)[0] == 0:
        raise ArgumentError("A has no eigenvalue but zero; no scaling changes its spectral radius")
    radii = frozen_array("radii", radii)
    for name, given in (("radii", radii), ("horizons", horizons)):
        if np.ndim(given) != 1 or not np.size(given):
            raise ShapeError(
                f"{name} has shape {np.shape(given)}, expected (k,), not empty; "
                "write a single value as [value]"
            )
    if radii.min() < 0:
        raise ArgumentError(f"radii holds {radii.min():g}, expected numbers of at least 0")
    steps = [check_count(f"horizons[{i}]", T) for i, T in enumerate(horizons)]
    tol = check_number("tol", tol, above=0, below=1)
    measure = partial(_cell, problem, tol, check_count("max_iter", max_iter, least=0))
    grid = {"radius": radii, "T": np.array(steps, dtype=np.int64)}
    result = sweep(measure, grid, executor=executor, progress=progress, path=path)
    return Conditioning(problem, tol, result)


def predicted_iterations(condition: ArrayLike, tol: float) -> dict[str, Array]:
    """Return in how many iterations a condition number lets the gap J - J* fall to tol of its start.

    "gradient": each step shrinks the error by 1 - 2/(kappa + 1), or with the shorter step that
    `descend` takes from kappa = 100 on by 1 - 2/(1.01 kappa), and the gap by the square of it.
    "conjugate-gradient": the gap falls at least as the square of 1/T_k((kappa + 1)/(kappa - 1)), with
    T_k the polynomial of Chebyshev. Both are upper bounds; the first is attained in the long run.

    References
    ----------
    Polyak, Introduction to Optimization, 1987, section 1.4.
    Saad, Iterative Methods for Sparse Linear Systems, 2003, section 6.11.3.

    Examples
    --------
    >>> for method, iterations in predicted_iterations([1, 100, 10_000], 1e-6).items():
    ...     print(method, iterations.astype(int))
    gradient [    1   346 34881]
    conjugate-gradient [  1  38 381]
    """
    kappa = np.maximum(condition, 1.0)
    with np.errstate(divide="ignore"):  # kappa = 1: one step to the minimum
        shrunk = -np.log1p(-2 / (kappa + np.maximum(1.0, 1e-2 * kappa)))
        gradient = -0.5 * math.log(tol) / shrunk
        conjugate = math.acosh(tol**-0.5) / np.arccosh(1 + 2 / (kappa - 1))
    whole = [np.maximum(1.0, np.ceil(k)) for k in (gradient, conjugate)]
    return dict(zip(PREDICTED, whole, strict=True))


def _cell(
    given: LQProblem, tol: float, max_iter: int, *, radius: float, T: int
) -> dict[str, float]:
    """Extreme eigenvalues and observed iterations at one spectral radius and horizon."""
    problem, shape = _scaled(given, radius), (T, given.m)
    root = _inverse_root(problem, T)
    _, L = extreme_eigenvalues(problem.hessian_product, shape, products=_PRODUCTS)
    _, inverse = extreme_eigenvalues(
        lambda v: root(root(v, transpose=True)), shape, products=_PRODUCTS
    )
    start = root(np.random.default_rng(0).normal(size=shape))
    objective = problem.objective(np.zeros(problem.n), T)
    level = tol * objective.value_and_gradient(start)[0]  # J* = 0: no digit of the gap cancels
    unit, kappa = _cost_unit(given), L * inverse
    found = {"smallest": unit / inverse, "largest": unit * L}
    predicted = predicted_iterations(kappa, tol)
    predicted["conjugate-gradient"] = np.minimum(predicted["conjugate-gradient"], start.size)
    for method in PREDICTED:
        found[method] = math.nan
        if predicted[method] <= max_iter and kappa < 1 / EPS:
            result = descend(
                objective,
                start,
                method=method,
                max_iter=max_iter,
                tol=0.0,
                callback=lambda seen: seen.cost <= level,
            )
            # The values of conjugate gradients are a recursion's: the last one was evaluated.
            if result.cost <= 1.01 * level:
                found[method] = result.iterations
    return found


def _scaled(problem: LQProblem, radius: float) -> LQProblem:
    """The problem with A of this spectral radius, without affine and linear terms.

    Its cost is in the unit of `_cost_unit`: roots of weights are rounded as in any other unit.
    """
    A = problem.A * (radius / dominant_growth(problem.A)[0])
    Q, R, S, M = (z / _cost_unit(problem) for z in (problem.Q, problem.R, problem.S, problem.M))
    return LQProblem(A, problem.B, Q, R, S, M=M)


def _cost_unit(problem: LQProblem) -> float:
    """The power of two that R is nearest to."""
    return 2.0 ** int(np.frexp(np.abs(problem.R).max())[1])


def _inverse_root(problem: LQProblem, T: int) -> Callable[..., Array]:
    """Return z -> F^-1 L^-T z, or its transpose, with L L' = G: a root of the Hessian's inverse."""
    recursion = riccati(problem, T)
    B, K = problem.B, np.asarray(recursion.K)
    G = problem.R + B.T @ recursion.P[1:] @ B
    L = np.linalg.cholesky(np.asarray(G, np.float64))
    loop = Bidiagonal(problem.A - B @ K)

    def root(z: Array, *, transpose: bool = False) -> Array:
        f = np.zeros((T + 1, problem.n))
        if transpose:
            f[:-1] = -times(K, z, transpose=True)
            p = loop.solve(f, transpose=True, overwrite=True)
            slopes = z + times(B, p[1:], transpose=True)
            return np.asarray(np.linalg.solve(L, slopes[..., None])[..., 0])
        v = np.asarray(np.linalg.solve(L.swapaxes(-1, -2), z[..., None])[..., 0], np.float64)
        f[1:] = times(B, v)
        return np.asarray(v - times(K, loop.solve(f, overwrite=True)[:-1]))

    return root


def _symbol_range(problem: LQProblem) -> tuple[float, float]:
    """The extreme eigenvalues of the symbol on the unit circle, for a stable A."""
    A, B, Q, R, M = problem.A, problem.B, problem.Q, problem.R, problem.M
    poles = np.linalg.eigvals(A)
    # The symbol peaks where a pole is near, as sharply as that is near.
    peaks = np.angle(poles)[:, None] + (1 - np.abs(poles))[:, None] * _PEAK
    angles = np.concatenate([np.linspace(0, np.pi, _ANGLES), peaks.ravel()])
    values = []
    for z in np.exp(1j * angles):
        G = np.linalg.solve(z * np.eye(len(A)) - A, B)
        cross = M.T @ G
        values.append(np.linalg.eigvalsh(R + cross + cross.conj().T + G.conj().T @ Q @ G))
    return float(np.min(values)), float(np.max(values))


def _slope(T: NDArray[Any], kappa: Array) -> float:
    """The slope of log kappa in T by least squares; NaN without two points."""
    used = np.isfinite(kappa)
    if len(np.unique(T[used])) < 2:
        return math.nan
    apart = T[used] - T[used].mean()
    return float(apart @ np.log(kappa[used]) / (apart @ apart))
