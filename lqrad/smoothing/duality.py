"""Filtering and control are one recursion, read in opposite directions of time.

The covariance of the filter's prediction of x[t] obeys

    P[t+1] = W + A P[t] A' - A P[t] C'(C P[t] C' + V)^-1 C P[t] A',      P[0] = P0

and that is the Riccati recursion of the regulator of (A', C', W, V, P0), run backward from its end. The
gain of the predictor is the transposed feedback.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import Array, check_count, check_room, check_type
from lqrad.errors import ArgumentError, NotStabilizableError, ShapeError
from lqrad.lq.dare import dlqr
from lqrad.lq.problem import LQProblem
from lqrad.lq.riccati import riccati
from lqrad.results import Report
from lqrad.smoothing.arrays import transposed
from lqrad.smoothing.kalman import kalman_filter
from lqrad.smoothing.model import SmoothingProblem


def dlqe(
    A: ArrayLike, C: ArrayLike, W: ArrayLike, V: ArrayLike
) -> tuple[Array, Array, NDArray[np.complex128]]:
    """Return the stationary Kalman predictor x[t+1] = A x[t] + K (y[t] - C x[t]).

    It is dual to the regulator: `dlqr` of (A', C', W, V), transposed.

    Parameters
    ----------
    A, C : (n, n), (ny, n)
    W, V : (n, n), (ny, ny)
        Covariances of the noise of the state, and of the observations.

    Returns
    -------
    K : (n, ny)
        A P C'(C P C' + V)^-1; the gain of the update is K without the A.
    P : (n, n)
        Covariance of the prediction.
    E : (n,), complex
        The eigenvalues of A - KC, largest first.

    Raises
    ------
    NotStabilizableError
        If C does not see a mode of A that is not stable, or W does not move one on the unit circle.

    See Also
    --------
    dlqr : its dual.
    kalman_filter : the filter of a finite series.
    lqg : a controller with such a filter.

    References
    ----------
    Anderson and Moore, Optimal Filtering, 1979, section 4.4.

    Examples
    --------
    >>> K, P, E = dlqe([[1]], [[1]], W=[[1469.1]], V=[[15099]])
    >>> K.round(3), E.round(3)
    (array([[0.267]]), array([0.733+0.j]))
    """
    model = SmoothingProblem(A, C, W, V, None, None)
    if model.T is not None:
        raise ShapeError(
            f"one of A, C, W, V varies over T = {model.T} steps; a stationary filter has matrices "
            "that do not: use kalman_filter for those that do"
        )
    W, V = (0.5 * z + 0.5 * z.T for z in (model.W, model.V))
    try:
        K, P, E = dlqr(model.A.T, model.C.T, W, V)
    except NotStabilizableError as error:
        raise NotStabilizableError(
            "no sensor in C sees a mode of A that is not stable, or W does not move one on the "
            f"unit circle; in the words of the dual regulator, of (A', C', W, V): {error}"
        ) from None
    return K.T, P, E


@dataclass(frozen=True, eq=False)
class Duality(Report):
    """The filter's covariances and gains beside the dual regulator's, of which time is reversed.

    The covariances (T+1, n, n) are those of the predictions, and P. The gains (T, n, ny) are those of
    the predictor, A P C'(C P C' + V)^-1, and the transposed feedback; the stationary one is by `dlqe`.
    `difference` is the largest of covariances and gains, relative to their largest entries, where
    states and outputs are measured in units in which their noises are of order one; `distance` is that
    of the last gain from the stationary one.
    """

    filter_cov: Array
    regulator_P: Array
    filter_gain: Array
    regulator_gain: Array
    stationary_gain: Array
    difference: float
    distance: float


def duality(problem: SmoothingProblem, T: int) -> Duality:
    """Run the filter and the regulator that is dual to it, and hold them side by side.

    Parameters
    ----------
    problem : SmoothingProblem
        Time-invariant, with a prior.
    T : int

    Raises
    ------
    NotStabilizableError
        If the filter has no stationary limit: a mode that no sensor sees, or that no noise moves.

    See Also
    --------
    dlqe, dlqr : both limits.

    References
    ----------
    Kalman, A new approach to linear filtering and prediction problems, Journal of Basic Engineering
    82 (1960), 35-45 (the duality theorem).

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
    >>> result = duality(model, T=20)
    >>> result.difference < 1e-14, result.distance < 1e-14
    (True, True)
    """
    check_type("problem", problem, SmoothingProblem, "SmoothingProblem(A, C, W, V, m0, P0)")
    T = check_count("T", T)
    check_room(f"covariances over T = {T} steps", T, 8 * problem.n * problem.n)
    if problem.T is not None or problem.P0 is None:
        what = "has no prior" if problem.T is None else "varies in time"
        raise ArgumentError(f"problem {what}; duality compares a time-invariant filter from a P0")
    own, state, output = problem.balanced
    A, C, V = own.A, own.C, own.V
    assert own.P0 is not None
    P = kalman_filter(own, np.zeros((T + 1, own.ny))).predicted_cov
    CP = C @ P[:-1]
    gain = transposed(np.asarray(np.linalg.solve(CP @ C.T + V, CP @ A.T), dtype=np.float64))
    dual = riccati(LQProblem(A.T, C.T, own.W, V, own.P0), T)
    dual_P, dual_gain = dual.P[::-1], transposed(dual.K[::-1])
    stationary, _, _ = dlqe(A, C, own.W, V)
    of_cov, of_gain = np.outer(state, state), np.outer(state, 1 / output)
    return Duality(
        filter_cov=P * of_cov,
        regulator_P=dual_P * of_cov,
        filter_gain=gain * of_gain,
        regulator_gain=dual_gain * of_gain,
        stationary_gain=stationary * of_gain,
        difference=max(_relative(P, dual_P), _relative(gain, dual_gain)),
        distance=_relative(gain[-1], stationary),
    )


def _relative(a: Array, b: Array) -> float:
    """Max |a - b| / max |b|."""
    return float(np.abs(a - b).max() / (np.abs(b).max() or 1.0))
