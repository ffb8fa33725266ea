"""The Riccati recursion of an endless horizon: its stabilising limit, and the regulator of that.

    P = Q + A'PA - (A'PB + M)(R + B'PB)^-1 (B'PA + M'),     K = (R + B'PB)^-1 (B'PA + M')

with the eigenvalues of A - BK inside the unit circle.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, LinAlgWarning, solve_discrete_are
from scipy.linalg.blas import dgemm, dsymm
from scipy.linalg.lapack import dposv, dpotrf, dpotrs, dtrtrs

from lqrad.arguments import (
    EPS,
    Array,
    called_as,
    check_finite,
    check_stage_weights,
    check_symmetric,
    direction_words,
    number_words,
    stage_arrays,
)
from lqrad.errors import LqradError, NotConvexError, NotStabilizableError, ShapeError
from lqrad.linalg.balance import Units, balance, in_units
from lqrad.linalg.hautus import hautus
from lqrad.linalg.riccati import double, lyapunov, vanishing
from lqrad.native.dare import solve_dare

# A way that leads nowhere may end in numbers of any size; they are looked at where they are polished.
_quiet = np.errstate(over="ignore", invalid="ignore")
# Newton's method squares the error at each step; the start is rarely worse than 1e-5.
_NEWTON_STEPS = 12
# A solution is taken at once where its relative residual is below this.
_GOOD_RESIDUAL = 1e-12
# None is offered as a solution where it is above this.
_ANY_RESIDUAL = 1e-8
# A closed loop whose distance from the unit circle is uncertain by more than this part of it does
# not count as stable; likewise R + B'PB as positive definite.
_DOUBT = 0.05
# That is looked into only where the closed loop is squared this often before it vanishes, with its
# largest eigenvalue within 0.001 of the circle, or where a pivot of R + B'PB is as small as this.
_SLOW, _NARROW = 14, 1e-6
# Singular values below this, relative to the matrices, count as zero when a failure is explained.
_BLIND = 1e-7


class _Solution(NamedTuple):
    """A stabilising solution of the algebraic equation, its gain, and how good it is.

    `closed` is A - BK, in balanced units. `doubt` is how uncertain its distance from the unit circle
    is, or R + B'PB; see `_doubt`.
    """

    P: Array
    K: Array
    closed: Array
    residual: float
    doubt: float


@called_as("dare(A, B, Q, R, M=M)")
def dare(
    A: ArrayLike, B: ArrayLike, Q: ArrayLike, R: ArrayLike, *, M: ArrayLike | None = None
) -> Array:
    """Return the stabilising solution of the discrete algebraic Riccati equation.

        P = Q + A'PA - (A'PB + M)(R + B'PB)^-1 (B'PA + M')

    It comes from the doubling algorithm, started from P = Q, and from a multiple of the identity
    on top of it where that ends at a solution that is not stabilising (a mode that is unstable and
    that the weights do not see) or R is too singular; Newton's method takes off the last
    rounding errors and proves that A - BK is stable. SciPy's solver is asked where the relative
    residual is not below 1e-12, and the better answer is taken.

    R + B'PB is positive definite then and A - BK has its eigenvalues inside the unit circle. [Q M; M' R]
    need not be positive semidefinite: where such a P exists, the cost has a minimum all the same.

    Parameters
    ----------
    A, B, Q : (n, n), (n, m), (n, n)
    R : (m, m)
        May be singular as long as R + B'PB is not.
    M : (n, m), optional
        Weight of the cross term x'Mu; zero when not given.

    Raises
    ------
    NotStabilizableError
        If there is no such solution: names the mode that B cannot move, or the mode on the unit
        circle that the weights do not see.
    NotConvexError
        If a weight is not symmetric, or its negative eigenvalue, which is named, leaves the cost
        without a minimum, or no weight and no dynamics hold some direction of the input.

    See Also
    --------
    dlqr : its regulator and the eigenvalues of the closed loop.
    riccati : the recursion over a finite horizon.
    dlqe : the same equation for a stationary filter.

    References
    ----------
    Chu, Fan, Lin and Wang, Int. J. Control 77 (2004), 767-788 (doubling).
    Hewer, An iterative technique for the computation of the steady state gains for the discrete
    optimal regulator, IEEE Trans. Automatic Control 16 (1971), 382-384 (Newton).

    Examples
    --------
    >>> dare([[1]], [[1]], [[1]], [[1]])
    array([[1.61803399]])
    """
    return _stabilising(*_constant_arrays(A, B, Q, R, M)).P


@called_as("dlqr(A, B, Q, R, M=M), or lqr(plant, Q, R) for a plant")
def dlqr(
    A: ArrayLike, B: ArrayLike, Q: ArrayLike, R: ArrayLike, *, M: ArrayLike | None = None
) -> tuple[Array, Array, NDArray[np.complex128]]:
    """Return the regulator u = -K x that minimises sum_t 1/2 x'Qx + x'Mu + 1/2 u'Ru for ever.

    Returns
    -------
    K : (m, n)
    P : (n, n)
        That of `dare`; the optimal cost is 1/2 x0'P x0.
    E : (n,), complex
        The eigenvalues of A - BK, largest first.

    See Also
    --------
    lqr : a controller of a `StateSpace` plant, with limits and integrators.
    dlqr_vjp : derivatives of K and P in the arrays.
    LQProblem.with_feedback : a problem whose loop is closed by K.

    Examples
    --------
    A double integrator sampled at 0.1 s:

    >>> K, P, E = dlqr([[1, 0.1], [0, 1]], [[0], [1]], np.eye(2), [[1]])
    >>> K.round(4), abs(E).round(4)
    (array([[0.5891, 0.7119]]), array([0.9044, 0.3837]))
    """
    solution = _stabilising(*_constant_arrays(A, B, Q, R, M))
    E = np.linalg.eigvals(solution.closed).astype(np.complex128)
    return solution.K, solution.P, E[np.argsort(-np.abs(E), kind="stable")]


def _constant_arrays(
    A: ArrayLike, B: ArrayLike, Q: ArrayLike, R: ArrayLike, M: ArrayLike | None
) -> tuple[Array, Array, Array, Array, Array]:
    arrays, T = stage_arrays(A=A, B=B, Q=Q, R=R, M=M)
    if T is not None:
        name, array = next(item for item in arrays.items() if item[1].ndim == 3)
        raise ShapeError(
            f"{name} has shape {array.shape}, expected two axes: the algebraic equation is for "
            "matrices that do not vary in time; use riccati for those that do"
        )
    Q, R = arrays["Q"], arrays["R"]
    check_symmetric("Q", Q)
    check_symmetric("R", R)
    return arrays["A"], arrays["B"], Q / 2 + Q.T / 2, R / 2 + R.T / 2, arrays["M"]


def _stabilising(A: Array, B: Array, Q: Array, R: Array, M: Array) -> _Solution:
    """Solve the equation in balanced units, or raise.

    The kernel's solution is taken where it needs no second look: the residual is small, the loop proven
    stable, and neither it nor R + B'PB in doubt.
    """
    solution = None
    if kernel_found := solve_dare(A, B, Q, R, M):
        P, K, closed, (residual, squarings, narrowest) = kernel_found
        if squarings <= _SLOW and narrowest >= _NARROW and residual <= _GOOD_RESIDUAL:
            solution = _Solution(P, K, closed, residual, 0.0)
    solution = solution or _by_blas(A, B, Q, R, M)
    for name, array in (("P", solution.P), ("K", solution.K)):
        check_finite(name, array, computed=True)
    return solution


@_quiet
def _by_blas(A: Array, B: Array, Q: Array, R: Array, M: Array) -> _Solution:
    """Solve the equation in balanced units, or raise.

    Weights over hundreds of decades may have balanced units in which entries overflow: then the
    equation is solved as it is given.
    """
    n, m = B.shape
    stage = np.empty((2 * n + m, n + m))  # [A B; Q M; M' R]
    stage[:n, :n], stage[:n, n:], stage[n : 2 * n, :n] = A, B, Q
    stage[n : 2 * n, n:], stage[2 * n :, :n], stage[2 * n :, n:] = M, M.T, R
    units = balance(A, B, Q=Q, R=R)
    x, u, cost = units.x, units.u, units.cost
    found = in_units(stage, np.concatenate([x, cost - x, cost - u]), np.concatenate([x, u]))
    if not np.isfinite(found).all():
        x, u, cost, found = 0 * x, 0 * u, 0, stage
        units = Units(x, u, units.y, 0, 0)
    solution = _solve(np.asfortranarray(found[:n]), np.asfortranarray(found[n:]), units)
    P, K = in_units(solution.P, x, -x, cost), in_units(solution.K, -u, -x)
    return solution._replace(P=P, K=K)


def _solve(AB: Array, weight: Array, units: Units) -> _Solution:
    """Return the best stabilising solution that any of the ways to one finds, or raise.

    AB is [A B] and weight [Q M; M' R].
    """
    best: _Solution | None = None
    for P in _ways(AB, weight):
        solution = None if P is None else _polish(AB, weight, P)
        if solution is None or solution.doubt > _DOUBT:
            continue
        if best is None or solution.residual < best.residual:
            best = solution
        if best.residual <= _GOOD_RESIDUAL:
            return best
    if best and best.residual <= _ANY_RESIDUAL:
        return best
    raise _explain(*_parts(AB, weight), units)


def _parts(AB: Array, weight: Array) -> tuple[Array, Array, Array, Array, Array]:
    """A, B, Q, R and M."""
    n = len(AB)
    return AB[:, :n], AB[:, n:], weight[:n, :n], weight[n:, n:], weight[:n, n:]


def _ways(AB: Array, weight: Array) -> Iterator[Array | None]:
    """Candidates for a solution: by doubling from P = Q and from above, and SciPy's.

    From a positive definite matrix the recursion goes to the stabilising solution: Chan, Goodwin and
    Sin, Convergence properties of the Riccati difference equation in optimal filtering of
    nonstabilizable systems, IEEE Trans. Automatic Control 29 (1984), 110-118.
    """
    A, B, Q, R, M = _parts(AB, weight)
    yield _double_from(Q, AB, weight)
    size, reach = float(np.abs(Q).max()), float(np.abs(B).max())
    if size == 0:  # any size will do; this one has the units of Q
        size = float(np.abs(R).max()) / reach / reach if reach else 1.0
    yield _double_from(Q + size * np.eye(len(A)), AB, weight)
    with suppress(LinAlgError, ValueError):
        yield _scipy(A, B, Q, R, M)


def _double_from(Z: Array, AB: Array, weight: Array) -> Array | None:
    """Return the limit of the recursion from P = Z, or None where it cannot start there.

    P - Z obeys the Riccati equation of the weights [Q M; M' R] + [A B]'Z[A B] - [Z 0; 0 0]: so R
    itself need not have an inverse.
    """
    n = len(AB)
    weight = weight.copy(order="F")
    weight[:n, :n] -= Z
    weight = dgemm(1.0, AB, dsymm(1.0, Z, AB), trans_a=1, beta=1.0, c=weight, overwrite_c=1)
    factor, info = dpotrf(weight[n:, n:], lower=1, clean=0)
    if info:
        return None
    # What the cross term asks for is taken into A and Q.
    sides = np.concatenate([weight[n:, :n].T, AB[:, n:]]).T
    sides, info = dtrtrs(factor, sides, lower=1, overwrite_b=1)
    if info:
        return None
    square = sides.T.dot(sides)
    H = weight[:n, :n] - square[:n, :n]
    return Z + double(AB[:, :n] - square[n:, :n], square[n:, n:], (H + H.T) / 2)


@_quiet
def _scipy(A: Array, B: Array, Q: Array, R: Array, M: Array) -> Array:
    with warnings.catch_warnings():  # the caller looks at what remains of the equation
        warnings.simplefilter("ignore", LinAlgWarning)
        P = solve_discrete_are(A, B, Q, R, s=M)
    return np.asarray((P + P.T) / 2)


def _polish(AB: Array, weight: Array, P: Array) -> _Solution | None:
    """Return what Newton's method makes of P, or None unless it is a stabilising solution.

    A step solves the Lyapunov equation of the closed loop for the error; at each, the closed loop is
    proven stable.
    """
    A, B, Q, R, M = _parts(AB, weight)
    n, m = B.shape
    best: _Solution | None = None
    least = np.inf
    for _ in range(_NEWTON_STEPS):
        H = dgemm(1.0, AB, dsymm(1.0, P, AB), trans_a=1, beta=1.0, c=weight)
        factor, K, info = dposv(H[n:, n:], H[n:, :n], lower=1)
        pivots, diagonal = factor.diagonal() ** 2, H.diagonal()
        # The factor of a singular matrix may exist by the grace of rounding errors.
        if info or not (pivots > (n + m) * EPS * diagonal[n:]).all():
            break
        closed = dgemm(-1.0, B, K, beta=1.0, c=A)
        # Q + K'RK - MK - K'M' + (A - BK)'P(A - BK) - P
        error = dgemm(1.0, closed, dsymm(1.0, P, closed), trans_a=1, beta=1.0, c=Q - P)
        slope = dgemm(1.0, R, K, beta=-2.0, c=M.T)
        error = dgemm(1.0, K, slope, trans_a=1, beta=1.0, c=error, overwrite_c=1)
        error = (error + error.T) / 2
        size = np.abs(diagonal[:n] - Q.diagonal()) + np.abs(P.diagonal()) + np.abs(Q.diagonal())
        relative = _unitless(error, size)
        squarings = vanishing(closed) if relative < least else None
        if squarings is None:
            break
        least = relative
        doubt = 0.0
        if squarings > _SLOW or (pivots < _NARROW * diagonal[n:]).any():
            noise = n * EPS * np.diag(size)
            doubt = max(_doubt(closed, B, factor, D) for D in (error, noise))
        largest = size.max()
        residual = float(np.abs(error).max() / largest) if largest else 0.0
        best = _Solution(P, K, closed, residual, doubt)
        proof = None if relative <= 2 * EPS and doubt <= _DOUBT else lyapunov(closed, error)
        if proof is None:
            break
        P = P + proof[0]
    return best


def _unitless(error: Array, size: Array) -> float:
    """The largest |error[i, j]| / sqrt(size[i] size[j]), the same in all units of the states.

    Where a size is below rounding errors of the largest, these take its place.
    """
    largest = size.max()
    if largest == 0:
        return 0.0
    root = np.sqrt(np.maximum(size, EPS * largest))
    return float(np.abs(error / root / root[:, None]).max())


def _doubt(closed: Array, B: Array, factor: Array, D: Array) -> float:
    """How uncertain a solution is where its residual is D, or may be D for all that is known.

    That is how far the solution with another stage cost would move the largest eigenvalue of the
    closed loop, relative to its distance from the unit circle, or R + B'PB, relative to itself.
    Where the equation has only a solution with eigenvalues on the circle, or with a singular
    R + B'PB, Newton's method halves the distance for ever, until it is lost in rounding errors.
    """
    proof = lyapunov(closed, D)
    if proof is None:
        return np.inf
    BX = B.T.dot(proof[0])
    change = B.dot(dpotrs(factor, BX.dot(closed), lower=1)[0])
    whitened = dtrtrs(factor, dtrtrs(factor, BX.dot(B), lower=1)[0].T, lower=1)[0]
    radius, moved = (np.abs(np.linalg.eigvals(F)).max() for F in (closed, closed - change))
    if radius >= 1:
        return np.inf
    return float(max(abs(moved - radius) / (1 - radius), np.abs(whitened).max()))


def _explain(A: Array, B: Array, Q: Array, R: Array, M: Array, units: Units) -> LqradError:
    """The error for an equation without a stabilising solution, with what is to blame for it.

    The arrays are in balanced units, and what is said of them in the user's.
    """
    x, u, cost = units.x, units.u, units.cost
    check_stage_weights(
        in_units(Q, x, -x, cost), in_units(R, u, -u, cost), in_units(M, x, -u, cost)
    )
    n, m = B.shape
    left, values, _ = np.linalg.svd(np.concatenate([_unit(B), _unit(R)]).T)
    if values[-1] <= _BLIND:
        return NotConvexError(
            "R + B'PB is singular for every P: the direction of the input with "
            f"{direction_words(left[:, -1] * 2.0**u, 'u', -u)} costs nothing in R and does nothing in B; "
            "leave that input out or give it a weight"
        )
    found = hautus(A, B, zero=_BLIND)
    for mode, direction, reached in zip(found.modes, found.directions, found.reached, strict=True):
        if abs(mode) >= 1 - _BLIND and not reached:
            return NotStabilizableError(
                f"B cannot move the mode with the eigenvalue {number_words(mode)} of A, of magnitude "
                f"{abs(mode):.6g}, which no feedback can make stable: B is orthogonal to its left "
                f"eigenvector, with {direction_words(direction * 2.0**-x, 'x', x + found.units)}; "
                "add an input that reaches it, or leave the mode out of the model"
            )
    weights = _unit(np.block([[Q, M], [M.T, R]]))
    modes = np.linalg.eigvals(A - B @ np.linalg.lstsq(R, M.T, rcond=None)[0])
    for mode in modes[np.abs(np.abs(modes) - 1) <= _BLIND]:
        circle = np.concatenate([A - mode * np.eye(n), B], axis=1)
        _, values, right = np.linalg.svd(np.concatenate([circle, weights]))
        if values[-1] <= _BLIND * values[0]:
            return NotStabilizableError(
                f"the weights do not see the mode with the eigenvalue {number_words(mode)} on the unit "
                f"circle, with {direction_words(right[-1, :n] * 2.0**x, 'x', -x)}, so that the "
                "cheapest feedback leaves it there; give it a weight in Q"
            )
    if np.linalg.eigvalsh(R)[0] <= m * EPS * np.abs(R).max():
        least = float(np.linalg.eigvalsh(in_units(R, u, -u, cost))[0])
        return NotConvexError(
            f"R has the eigenvalue {least:.3g} and R + B'PB is not positive definite in the limit "
            "of a long horizon; make R positive definite, or weight in Q the states that B moves"
        )
    return NotStabilizableError(
        "no stabilising solution was found, by doubling, by Newton's method or by SciPy; the "
        "closed loop is too close to the unit circle or the matrices are too badly scaled: "
        "rescale the states, or weight the slow modes more in Q"
    )


def _unit(matrix: Array) -> Array:
    """The matrix with its largest entry scaled to one."""
    largest = np.abs(matrix).max()
    return matrix / largest if largest else matrix
