"""A start that is vague: what no prior says of x[0] is estimated from the innovations of a filter.

x[0] = m0 + root b + (0, base): the filter of `lqrad.smoothing.covariance_filter` runs from the covariance
`base`, and b, the vague part, is a regression of its innovations.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dgeqp3, dormqr

from lqrad.arguments import EPS, Array, is_diagonal
from lqrad.errors import NotConvexError
from lqrad.smoothing.arrays import Observations, product, symmetric
from lqrad.smoothing.batch import SmoothingBatch
from lqrad.smoothing.covariance_filter import CovarianceFilter, Means
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.roots import LOST, root_of

# Without a prior the start counts as open in a direction to which the observations respond, relative
# to their responses to single entries of x[0], by less than this for each of them.
_OPEN = 1e4 * EPS
# A part of a variance that rounding P0 may move it by.
_MOST_MOVED = 1e-4


class StartedFilter:
    """The filter of a start that may be vague: x[0] = m0 + root b + (0, base).

    The filter runs from the covariance `base`. What is left of the prior, b ~ (0, I), or what there
    is no prior for, is a regression of the innovations on their responses to b: those of the k series
    that start from the rows of `root`. With R upper triangular, R'R is the inverse of the covariance of b;
    `unit` (k, T+1, ny) is how the innovations answer to R b.
    """

    def __init__(self, problem: SmoothingProblem, data: Observations) -> None:
        self.problem, self.data = problem, data
        base, self.root = split_prior(problem)
        self.filtering = CovarianceFilter(problem, data, base)
        k = len(self.root)
        moved = self.filtering.filter(self.root, 0.0, self.filtering.nothing[:k])
        prior = np.eye(k if problem.P0 is not None else 0, k)
        rows = np.concatenate([moved.e.reshape(k, math.prod(data.z.shape[-2:])).T, prior])
        self._regression = Regression(rows)
        self.R, order = self._regression.R, self._regression.order
        self.root, self._moved = self.root[order], moved.x[order]
        if problem.P0 is None:
            _check_start(self.R, self.root, data)
        self.unit = self._rows(self._regression.turn(np.eye(len(rows), k)), moved.e.shape)

    def filter(self, m0: Array, c: Array | float, z: Array) -> tuple[Array, Means]:
        """The b (g, k) that minimises |e + slopes' b|^2, plus |b|^2 with a prior; series filtered from there.

        Their innovations e are what the regression leaves: from the start that it gives they would be
        differences of numbers as large as that start.
        """
        e = self.filtering.filter(m0, c, z).e
        k, rows = len(self.R), np.zeros((len(self._regression.rows), len(e)))
        rows[: e[0].size] = e.reshape(len(e), -1).T
        turned = self._regression.turn(rows, transpose=True)
        b = -solve_triangular(self.R, turned[:k]).T if k else np.zeros((len(e), 0))
        turned[:k] = 0.0
        means = self.filtering.filter(m0 + b @ self.root, c, z)
        return b, means._replace(e=self._rows(self._regression.turn(turned), e.shape))

    def _rows(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """The rows of the innovations, without those of the prior, as series."""
        return np.ascontiguousarray(rows[: math.prod(shape[1:])].T).reshape(shape)

    def answers(self) -> tuple[Array, Array]:
        """How smoothed states and costates (k, T+1, n) answer to R b."""
        x = self._moved
        if len(x):
            x = solve_triangular(self.R, x.reshape(len(x), -1), trans=1).reshape(x.shape)
        return self.filtering.smooth(Means(x, x, self.unit, self.unit))

    def loglik(self, e: Array, b: Array) -> Array:
        """The log-likelihood, from the whitened innovations e at the start that was estimated."""
        loglik = self.filtering.loglik(e, self.data) - np.log(np.abs(self.R.diagonal())).sum()
        prior = 0.0 if self.problem.P0 is None else 0.5 * (b * b).sum(axis=-1)
        return np.asarray(loglik - prior)


class Regression:
    """G = Q R for rows of G (N, k) of all sizes, its columns in `order`: |G b + e|^2 is least at R b = -Q'e.

    With the largest rows first and columns pivoted, a row of Q, or of e - Q Q'e, has the rounding of its
    own size: where the first of many rows says most of b it is left with next to nothing of e, which b,
    as large as that is small, multiplies. The squares G'G are not formed: they would lose half of the digits.

    References
    ----------
    Cox and Higham, Stability of Householder QR factorization for weighted least squares problems,
    Numerical Analysis 1997, 57-73.
    """

    def __init__(self, G: Array) -> None:
        k = G.shape[1]
        scaled, size = _scaled(G)
        self.rows = np.argsort(-np.abs(scaled).max(axis=1, initial=0.0), kind="stable")
        self._factor = self._tau = np.zeros((0, 0))
        self.order, self.R = np.arange(k), np.zeros((0, 0))
        if k:
            self._factor, pivots, self._tau, _, _ = dgeqp3(scaled[self.rows])
            self.order = pivots - 1
            self.R = np.triu(self._factor[:k]) * size[self.order]

    def turn(self, z: Array, *, transpose: bool = False) -> Array:
        """Q z, or Q'z, of the square Q."""
        if not len(self.R):
            return z
        rows, trans = (z[self.rows], "T") if transpose else (z, "N")
        room = 64 * (rows.shape[1] + 65)  # of its blocks of 64 reflections
        turned = np.array(dormqr("L", trans, self._factor, self._tau, rows, room)[0])
        if not transpose:
            turned[self.rows] = turned.copy()
        return turned


def smooth_by_recursions(
    problem: SmoothingProblem, data: Observations, covariances: bool
) -> tuple[Array, Array | None, Array | None, Array, Array]:
    """Return x, cov, lag_cov, p and loglik, as of `Smoothed`, by the filter and its adjoint."""
    started = StartedFilter(problem, data)
    filtering = started.filtering

    b, means = started.filter(problem.m0, problem.c, data.z)
    x, p = filtering.smooth(means)
    cov = lag_cov = None
    if covariances:
        cov, lag_cov = filtering.smooth_covariances()
        spread = started.answers()[0].swapaxes(0, 1)  # (T+1, k, n)
        cov = symmetric(cov + product(spread, spread))
        lag_cov += product(spread[1:], spread[:-1])
        if is_rounded(problem):
            response = started.filter(np.eye(problem.n), 0.0, filtering.nothing)[1]
            check_rounding(problem, "cov", cov, filtering.smooth(response)[0])
    return x, cov, lag_cov, p[..., 1:, :], started.loglik(means.e, b)


def is_rounded(problem: SmoothingProblem | SmoothingBatch) -> bool:
    """Whether P0, or one of a batch, has a direction whose variance is not much more than the rounding of P0's entries.

    Where not, that rounding changes all variances by a small part: they grow no faster than P0.
    """
    if problem.P0 is None or is_diagonal(problem.P0):
        return False
    size = np.sqrt(np.diagonal(problem.P0, axis1=-2, axis2=-1))
    known = size == 0  # which is exact
    size = np.where(known, 1.0, size)
    correlation = problem.P0 / size[..., :, None] / size[..., None, :]
    correlation += known[..., None] * np.eye(problem.n)
    return bool((np.linalg.eigvalsh(correlation)[..., 0] * _MOST_MOVED <= problem.n * EPS).any())


def check_rounding(problem: SmoothingProblem, name: str, cov: Array, response: Array) -> None:
    """Raise NotConvexError where rounding the entries of P0 moves a variance by a part of it.

    With G[t] = dx[t]/dm0, given as its columns (n, T+1, n), a change of P0 by dP0 changes the
    covariance cov[t] by G[t] dP0 G[t]' to first order.
    """
    assert problem.P0 is not None
    deviations = np.tensordot(np.sqrt(problem.P0.diagonal()), np.abs(response), axes=1)
    moved = EPS * deviations**2
    variances = np.diagonal(cov, axis1=1, axis2=2)
    # What is as small as the square of a rounded deviation is zero, as where sensors are exact.
    lost = (moved > _MOST_MOVED * variances) & (variances > (LOST * EPS * deviations) ** 2)
    if lost.any():
        t, i = (int(k) for k in np.argwhere(lost)[0])
        raise NotConvexError(
            f"{name}[{t}, {i}, {i}] is lost: P0 is singular but for rounding, and rounding its entries "
            f"moves this variance by about {100 * moved[t, i] / variances[t, i]:.2g} % of it",
            "give a P0 that is exactly singular, as by a state less, or one that has a variance of "
            "its own in each direction",
        )


def split_prior(problem: SmoothingProblem) -> tuple[Array, Array]:
    """The root S of the base, and the rows r[i] of that of the rest: P0 = S S' + sum_i r[i] r[i]'.

    In units of the noise of each state, no entry of the columns of the base's root exceeds one: the
    filter starts from covariances of the size that it will have, and nothing is lost under a wider
    one. Without a prior the rows of the root are the axes of x[0].
    """
    width = np.sqrt(problem.variances)
    if problem.P0 is None:
        return np.diag(width), np.eye(problem.n)
    L = root_of(problem.P0)
    share = 1 / np.maximum(np.abs(L / width[:, None]).max(axis=0), 1.0)
    wide = share < 1
    return L * share, (L[:, wide] * np.sqrt(1 - share[wide] ** 2)).T


def _scaled(R: Array) -> tuple[Array, Array]:
    """R with columns of size one, and their sizes."""
    size = np.linalg.norm(R, axis=0)
    size = np.where(size > 0, size, 1.0)
    return R / size, size


def least_known(R: Array) -> float:
    """How little R'R, the information on b (k,), says of a direction: 0 is nothing, 1 as of entries of b."""
    values = np.linalg.svd(_scaled(R)[0], compute_uv=False)
    return float(values[-1]) if len(values) == R.shape[1] else 0.0


def is_open(R: Array) -> bool:
    """Whether R'R, the information on the start, leaves a direction of it open."""
    return not least_known(R) > _OPEN * R.shape[1]


def _check_start(R: Array, root: Array, data: Observations) -> None:
    """Raise NotConvexError if R'R, the information on the start, leaves a direction of it open."""
    scaled, size = _scaled(R)
    values, vectors = np.linalg.svd(scaled)[1:]
    known = int((values > _OPEN * len(size)).sum())
    if known == len(size):
        return
    # Of all directions that are open the one nearest to a single entry: which others there are rounding says.
    project = vectors[known:].T @ vectors[known:]
    direction = project[project.diagonal().argmax()] / size @ root
    direction /= direction[np.abs(direction).argmax()]
    direction /= np.linalg.norm(direction)
    words = ", ".join(f"{value:.3g}" for value in direction.round(3) + 0.0)
    C = np.broadcast_to(data.C, (data.z.shape[-2], *data.C.shape[-2:]))
    seen = np.flatnonzero(C.any(axis=(1, 2)))
    last = f"y up to time {seen[-1]}, the last that is observed," if len(seen) else "y"
    raise NotConvexError(
        f"the start is not determined by the data: {last} says nothing of the direction "
        f"[{words}] of x[0], and there is no prior; give m0 and P0, a large variance in that "
        "direction at least, or leave that state out of the model"
    )
