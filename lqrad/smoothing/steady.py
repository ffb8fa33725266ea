"""The filter of an endless series: its gain no longer changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import Array
from lqrad.errors import NotStabilizableError, ShapeError
from lqrad.lq.dare import dlqr
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
