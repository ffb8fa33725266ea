"""The log-likelihood of a series, alone: by the kernel in C where there is one, or by a smoother."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from lqrad.arguments import Array, check_type
from lqrad.native.library import serves_matrices
from lqrad.native.likelihood import Forward, SeriesKernel
from lqrad.smoothing.arrays import check_overflow
from lqrad.smoothing.covariance_filter import LOG_2PI
from lqrad.smoothing.kalman import kalman_smoother
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.start import is_open, is_rounded, split_prior


def loglik(problem: SmoothingProblem, y: ArrayLike) -> float | Array:
    """Return log p(y) of what is observed of a series, or (...) of each series of a batch.

    It is that of `kalman_smoother`, without the states: the diffuse one where there is no prior.

    Parameters
    ----------
    problem : SmoothingProblem
    y : (..., T+1, ny)
        NaN where nothing was observed.

    Raises
    ------
    NotConvexError
        As `kalman_smoother`.

    See Also
    --------
    loglik_gradient : With its gradient in every array of the problem.
    fit : climbs it.

    References
    ----------
    Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd edition, 2012, section 7.2.

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[3]])
    >>> round(loglik(model, [[4.0], [np.nan]]), 12)      # -1/2 log(8 pi) - 4^2 / 8
    -3.612085713765
    """
    check_type("problem", problem, SmoothingProblem, "SmoothingProblem(A, C, W, V, m0, P0)")
    y = problem.series(y)
    flat = y.reshape(-1, *y.shape[-2:])
    found = started_kernels(problem.balanced.problem, flat / problem.balanced.output)
    if found is None:
        return kalman_smoother(problem, y, covariances=False).loglik
    logliks = np.array([each.loglik for each in found]).reshape(y.shape[:-2])
    logliks = logliks - problem.balanced.log_volume(~np.isnan(y))
    check_overflow("loglik", logliks)
    return logliks if logliks.ndim else float(logliks)


class Started(NamedTuple):
    """One series through the kernel, and the start b (k,) that was estimated."""

    z: Array
    kernel: SeriesKernel
    forward: Forward
    b: Array
    loglik: float


def started_kernels(
    problem: SmoothingProblem, y: Array, *, trace: bool = False, states: bool = False
) -> list[Started] | None:
    """Run the kernel over each of the balanced series y (g, T+1, ny); None where it cannot serve one."""
    if not serves_matrices(problem.n, problem.ny) or is_rounded(problem):
        return None
    base, root = split_prior(problem)
    k, prior = len(root), problem.P0 is not None
    kernel = SeriesKernel(
        y.shape[-2] - 1, base, root, prior, **{name: getattr(problem, name) for name in _READ}
    )
    found = []
    for series in y:
        z = series - problem.d
        forward = kernel.forward(z, trace=trace, states=states)
        if forward is None:
            return None
        R = forward.R[:k, :k]
        if not prior and is_open(R):
            return None
        size = np.abs(R.diagonal())
        b = -solve_triangular(R, forward.R[:k, k]) if k else np.zeros(0)
        entries = np.count_nonzero(z == z)
        square = entries * LOG_2PI + forward.log_determinant + forward.R[k, k]
        found.append(
            Started(z, kernel, forward, b, -0.5 * float(square) - float(np.log(size).sum()))
        )
    return found


_READ = ("A", "C", "W", "V", "c", "m0")


def gradients_by_kernel(
    problem: SmoothingProblem, y: Array, names: Iterable[str]
) -> tuple[float, dict[str, Array]] | None:
    """The log-likelihood of balanced series, and its gradients in these arrays, in their shapes."""
    gradients = {name: np.zeros(np.shape(getattr(problem, name))) for name in names}
    states = not {"A", "C"}.isdisjoint(gradients)
    found = started_kernels(problem, y, trace=True, states=states)
    # Under a vague prior the gradients in it are what is left of terms that are far larger.
    if found is None or (found[0].kernel.k and "P0" in gradients):
        return None
    for series in found:
        if not series.kernel.backward(series.z, series.forward, series.b, gradients):
            return None
    return sum(series.loglik for series in found), gradients
