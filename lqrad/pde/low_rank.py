"""A preconditioner for conjugate gradients: what is large in a Hessian, by a few of its eigenvectors.

    D'H D = I + K,    D D' = R^-1,    K = V diag(lambda) V' + less,    lambda[0] >= lambda[1] >= ...

In the inputs u of a problem H is R and what their effect on the states adds. Where the dynamics
smooth, as diffusion does, few combinations of inputs have an effect to speak of, on any grid: the
eigenvalues of K decay, and they tend to those of the equation as the grid is refined. In the variables
w of z = F w, with

    F = D (I + V diag(((1 + lambda[k-1]) / (1 + lambda))^1/2 - 1) V')

the k directions V are brought down to the level of the rest, so that the condition number of F'HF is
about 1 + lambda[k-1] instead of 1 + lambda[0], whatever the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh_tridiagonal, solve_triangular
from scipy.linalg.blas import dnrm2

from lqrad.arguments import (
    EPS,
    Array,
    check_count,
    check_finite,
    check_shape,
    check_type,
    frozen_array,
    real_array,
)
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, NotConvexError, ShapeError
from lqrad.results import Report


@dataclass(frozen=True, eq=False, repr=False)
class LowRank(Report):
    """Change of variables z = F w, by `low_rank`.

    It serves every objective whose Hessian is nearly that of the one it was made from: other initial
    states, other targets, and the same inputs on a finer grid.

    Attributes
    ----------
    shape : tuple of int
        Shape of z, w and gradients.
    root : (m, m) or (m,)
        Lower Cholesky factor of the weight R; the square roots of a diagonal one.
    values, vectors : (k,), (k, size)
        The largest eigenvalues of K, the largest first, and their eigenvectors V', orthonormal.
    products : int
        How many Hessian products they cost.
    """

    shape: tuple[int, ...]
    root: Array
    values: Array
    vectors: Array
    products: int

    def __repr__(self) -> str:
        return (
            f"<LowRank: {len(self.values)} of {math.prod(self.shape)} directions, eigenvalues from "
            f"1 + {self.values[0]:.3g} down to 1 + {self.values[-1]:.3g}>"
        )

    def precondition(self, objective: Objective) -> Objective:
        """Return the objective in the variables w; descend there and `recover` the solution.

        Its gap bound, if any, is that of the objective itself.
        """
        check_type("objective", objective, Objective, "problem.objective(x0, T)")
        if objective.shape != self.shape:
            raise ShapeError(
                f"objective has variables of shape {objective.shape}, expected {self.shape}: a "
                "preconditioner serves the inputs and the horizon that it was made for"
            )
        return objective.substituted(self._forward, self._transposed, self._solve_transposed)

    def recover(self, w: ArrayLike) -> Array:
        """Return z = F w, both of this shape."""
        z = self._forward(self._checked("w", w))
        check_finite("z = F w", z, computed=True)
        return z

    def start(self, z: ArrayLike) -> Array:
        """Return w of F w = z: where to start a descent that is to start at z."""
        z = self._checked("z", z)
        w = self._stretched(_times_root(self.root, z, transpose=True), -0.5)
        check_finite("w of F w = z", w, computed=True)
        return w

    def _checked(self, name: str, z: ArrayLike) -> Array:
        z = real_array(name, z)
        check_shape(name, z, self.shape, "as the preconditioner says")
        check_finite(name, z)
        return z

    def _forward(self, w: Array) -> Array:
        return _solve_root(self.root, self._stretched(w, 0.5), transpose=True)

    def _transposed(self, g: Array) -> Array:
        return self._stretched(_solve_root(self.root, g), 0.5)

    def _solve_transposed(self, g: Array) -> Array:
        return _times_root(self.root, self._stretched(g, -0.5))

    @np.errstate(over="ignore", invalid="ignore")  # looked for by the caller
    def _stretched(self, w: Array, power: float) -> Array:
        """The power of I + V diag(level / (1 + lambda) - 1) V' times w."""
        factors = ((1 + self.values[-1]) / (1 + self.values)) ** power - 1
        flat = w.ravel()
        stretched = flat + (factors * (self.vectors @ flat)) @ self.vectors
        return np.asarray(stretched.reshape(w.shape), dtype=np.float64)


def low_rank(
    objective: Objective,
    R: ArrayLike,
    rank: int = 20,
    *,
    at: ArrayLike | None = None,
) -> LowRank:
    """Find the largest eigenvalues of a Hessian relative to R, for a preconditioner.

    Parameters
    ----------
    objective : Objective
        With Hessian products. Where the same inputs act on a coarser grid, a problem on that grid
        gives nearly the same eigenvectors at a fraction of the price.
    R : (m,) or (m, m)
        Weight of the inputs, positive definite: `problem.R`. (m,) is a diagonal.
    rank : int
        How many eigenvectors to keep, of twice as many products.
    at : array of the objective's shape, optional
        Where the Hessian is taken, if it is not the same everywhere; zero by default.

    See Also
    --------
    SparseLQProblem : whose Hessian it is for.
    LowRank.precondition : the objective that `descend` then minimises.

    Notes
    -----
    Lanczos with full orthogonalisation, from a fixed seed. Its lower half is dropped: Ritz vectors
    that have not converged mix large eigenvalues with small ones.

    References
    ----------
    Parlett, The Symmetric Eigenvalue Problem, 1998, chapter 13 (Lanczos).
    Frangella, Tropp and Udell, Randomized Nystrom preconditioning, SIAM Journal on Matrix Analysis
    and Applications 44, 2023, section 5 (the level to bring the k directions down to).

    Examples
    --------
    >>> from lqrad.pde.problem import SparseLQProblem
    >>> from lqrad.descent.descend import descend
    >>> heat = SparseLQProblem([[1.1]], [[1.0]], [[1.0]], [1.0], [1e-3])
    >>> objective = heat.objective([1.0], T=100)
    >>> descend(objective, method="conjugate-gradient").iterations
    48
    >>> factor = low_rank(objective, heat.R, rank=30)
    >>> result = descend(factor.precondition(objective), method="conjugate-gradient")
    >>> result.iterations
    12
    >>> u = factor.recover(result.solution)
    """
    check_type("objective", objective, Objective, "problem.objective(x0, T)")
    product = objective.hessian_product
    if product is None:
        raise ArgumentError("objective has no hessian_product, whose eigenvectors are looked for")
    shape, size = objective.shape, math.prod(objective.shape)
    root = _root(R, shape)
    z = np.zeros(shape) if at is None else frozen_array("at", at)
    check_shape("at", z, shape, "as the objective has")
    rank = min(check_count("rank", rank), size)
    steps = min(2 * rank, size)
    basis, alpha, beta = np.empty((steps, size)), np.empty(steps), np.empty(steps)
    v = np.random.default_rng(0).normal(size=size)
    v /= dnrm2(v)
    largest = 1.0
    for k in range(steps):
        basis[k] = v
        whitened = _solve_root(root, v.reshape(shape), transpose=True)
        v = _solve_root(root, product(z, whitened)).ravel() - v
        check_finite("the Hessian's product", v, computed=True)
        alpha[k], largest = basis[k] @ v, max(largest, dnrm2(v))
        for _ in range(2):  # once is not enough to be orthogonal up to rounding, twice is
            v -= (basis[: k + 1] @ v) @ basis[: k + 1]
        beta[k] = dnrm2(v)
        if beta[k] <= 100 * EPS * largest:  # nothing is left outside of this subspace
            steps = k + 1
            break
        v /= beta[k]
    values, vectors = eigh_tridiagonal(alpha[:steps], beta[: steps - 1])
    top = slice(None, -min(rank, steps) - 1, -1)
    return LowRank(
        shape=shape,
        root=root,
        values=np.maximum(values[top], 0.0),
        vectors=vectors.T[top] @ basis[:steps],
        products=steps,
    )


def _root(R: ArrayLike, shape: tuple[int, ...]) -> Array:
    """The square roots of a diagonal, or the lower Cholesky factor."""
    weight, m = frozen_array("R", R), shape[-1] if shape else 0
    if weight.shape not in ((m,), (m, m)):
        raise ShapeError(
            f"R has shape {weight.shape}, expected (m,) or (m, m) for variables of shape (..., m), "
            f"which is {shape}"
        )
    if weight.ndim == 1 and weight.min() > 0:
        return np.asarray(np.sqrt(weight))
    try:
        return np.asarray(np.linalg.cholesky(np.diag(weight) if weight.ndim == 1 else weight))
    except np.linalg.LinAlgError:
        raise NotConvexError(
            "R is not positive definite; inputs without a weight have no scale to measure H by"
        ) from None


def _times_root(L: Array, z: Array, *, transpose: bool = False) -> Array:
    """L z or L'z for each row z."""
    return z * L if L.ndim == 1 else z @ (L if transpose else L.T)


def _solve_root(L: Array, z: Array, *, transpose: bool = False) -> Array:
    """The solutions of L w = z or of L'w = z for each row z."""
    if L.ndim == 1:
        return z / L
    rows = z.reshape(-1, len(L)).T
    solved = solve_triangular(L, rows, lower=True, trans=int(transpose), check_finite=False)
    return np.asarray(solved.T.reshape(z.shape), dtype=np.float64)
