"""Kalman filtering and smoothing: by normal equations, and by recursions of covariances.

    x[t+1] = A x[t] + c + w[t],  w ~ (0, W);    y[t] = C x[t] + d + v[t],  v ~ (0, V);    x[0] ~ (m0, P0)

The smoothed states are the minimum of a tracking cost whose inputs are the noises. With p[t] the
multiplier of the step from x[t] to x[t+1], its optimality conditions are

    W p[t]  = w[t] = x[t+1] - A x[t] - c                              what drives the state
    p[t-1]  = A'p[t] + C'V^-1 (y[t] - C x[t] - d),   p[T] = 0         the costates, backward
    x[0]    = m0 + P0 p[-1],    with p[-1] the same expression at t = 0

Eliminating p leaves a positive definite block-tridiagonal system H x = g, the normal equations.
They need no prior, but the inverses of W and V. The filter needs neither, but a prior: there

    F = C P C' + V,   K = P C'F^-1,   L = A (I - K C),    P[t+1] = A (I - K C) P A' + W

are the covariance of an innovation, the gain, the closed loop and the covariance of the prediction.
Everything after that is one block-bidiagonal system in L, forward for the predictions, and backward
for the costates: the smoother is the adjoint of the filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dposv

from lqrad.errors import (
    EPS,
    ArgumentError,
    Array,
    NonFiniteError,
    NotConvexError,
    check_type,
)
from lqrad.kernels.banded import Bidiagonal
from lqrad.kernels.stages import inner, times
from lqrad.kernels.tridiagonal import BlockTridiagonal, congruences, substitute
from lqrad.problems.smoothing import Observations, SmoothingProblem, Whitened

# The normal equations are used where they give a known solution back to this relative accuracy,
# and their solution is corrected where this is not better than another.
_MOST_LOSS = 1e-11
_NO_LOSS = 1e-14
# Without a prior the start counts as open in a direction to which the observations respond, relative
# to their responses to single entries of x[0], by less than this for each of them.
_OPEN = 1e4 * EPS
# Digits of a variance that may be lost to a subtraction: a part of it as small as this is left.
_MOST_SUBTRACTED = 1e-4
_LOG_2PI = math.log(2 * math.pi)

NORMAL_EQUATIONS = "normal equations"
RECURSIONS = "covariance recursions"


@dataclass(frozen=True, eq=False)
class Filtered:
    """What is known of each state from the observations up to it.

    Attributes
    ----------
    x : (..., T+1, n)
        Means given y[0], ..., y[t].
    cov : (T+1, n, n)
        Their covariances; with the batch in front where its series have different gaps.
    predicted_x : (..., T+1, n)
        Means given y[0], ..., y[t-1]: m0 at the start.
    predicted_cov : (T+1, n, n)
        Their covariances.
    innovations : (..., T+1, ny)
        y[t] - C predicted_x[t] - d, NaN where y is.
    innovation_cov : (T+1, ny, ny)
        C predicted_cov[t] C' + V: of all entries of y[t], be they observed or not.
    loglik : float, or (...) for a batch
        log p(y) of what is observed.
    """

    x: Array
    cov: Array
    predicted_x: Array
    predicted_cov: Array
    innovations: Array
    innovation_cov: Array
    loglik: float | Array


@dataclass(frozen=True, eq=False)
class Smoothed:
    """What is known of each state from the whole series.

    Attributes
    ----------
    x : (..., T+1, n)
        Means.
    cov : (T+1, n, n) or None
        Covariances; with the batch in front where its series have different gaps.
    lag_cov : (T, n, n) or None
        cov(x[t+1], x[t]).
    p : (..., T, n)
        Costates, W p[t] = x[t+1] - A x[t] - c: the smoothed noise is W p.
    loglik : float, or (...) for a batch
        log p(y) of what is observed. Without a prior it is the diffuse log-likelihood, the limit
        for P0 = k I of log p(y) + n/2 log k.
    method : str
        How it was found: "normal equations", "covariance recursions", "filter and RTS".
    """

    x: Array
    cov: Array | None
    lag_cov: Array | None
    p: Array
    loglik: float | Array
    method: str


def kalman_filter(problem: SmoothingProblem, y: ArrayLike) -> Filtered:
    """Run the filter over a series.

    The covariances are updated in Joseph's form, (I - KC) P (I - KC)' + K V K', which keeps them
    positive semidefinite. W and V may be singular.

    Parameters
    ----------
    problem : SmoothingProblem
    y : (..., T+1, ny)
        NaN where nothing was observed; rows of NaN at the end give the forecast.

    Returns
    -------
    Filtered

    Raises
    ------
    ArgumentError
        If there is no prior: the first states have no covariance then.
    NotConvexError
        If an innovation has no positive definite covariance, V being singular; names the time.

    References
    ----------
    Anderson and Moore, Optimal Filtering, 1979, sections 3.1 and 6.3.

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
    >>> result = kalman_filter(model, [[2.0], [np.nan]])
    >>> result.x.ravel(), result.cov.ravel(), result.predicted_cov.ravel()
    (array([1., 1.]), array([0.5, 1.5]), array([1. , 1.5]))
    """
    P0 = _prior(problem, "kalman_filter")

    def run(y: Array) -> Filtered:
        data = problem.observations(y)
        filtering = CovarianceFilter(problem, data, P0)
        predicted = filtering.predict(problem.m0, problem.c, data.z)
        P = filtering.predicted_cov
        return Filtered(
            x=filtering.update(predicted, data.z),
            cov=filtering.cov,
            predicted_x=predicted,
            predicted_cov=P,
            innovations=y - times(problem.C, predicted) - problem.d,
            innovation_cov=_symmetric(problem.C @ P @ problem.C.swapaxes(-1, -2) + problem.V),
            loglik=filtering.loglik(filtering.whiten(predicted, data.z), data),
        )

    return _by_gaps(problem, y, run)


def rts_smoother(problem: SmoothingProblem, y: ArrayLike) -> Smoothed:
    """Smooth a series by the filter and the backward recursion of Rauch, Tung and Striebel.

    With J = P[t|t] A'P[t+1|t]^-1, x[t|T] = x[t|t] + J (x[t+1|T] - x[t+1|t]), and the covariances in
    Joseph's form. Under a vague prior, or where P[t+1|t] is all but singular, J loses digits;
    `kalman_smoother` does not.

    Parameters
    ----------
    problem : SmoothingProblem
    y : (..., T+1, ny)
        NaN where nothing was observed.

    Returns
    -------
    Smoothed

    Raises
    ------
    ArgumentError, NotConvexError
        As `kalman_filter`.

    References
    ----------
    Rauch, Tung and Striebel, Maximum likelihood estimates of linear dynamic systems, AIAA Journal
    3 (1965), 1445-1450.

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
    >>> result = rts_smoother(model, [[0.0], [np.nan], [3.0]])
    >>> result.x.ravel(), result.p.ravel()
    (array([0.42857143, 1.28571429, 2.14285714]), array([0.85714286, 0.85714286]))
    """
    P0 = _prior(problem, "rts_smoother")

    def run(y: Array) -> Smoothed:
        data = problem.observations(y)
        filtering = CovarianceFilter(problem, data, P0)
        predicted = filtering.predict(problem.m0, problem.c, data.z)
        gains, cov, lag_cov = filtering.rts_covariances()
        f = filtering.update(predicted, data.z)
        f[..., :-1, :] -= times(gains, predicted[..., 1:, :], transpose=True)
        x = Bidiagonal(gains).solve(f, transpose=True, overwrite=True)
        e = filtering.whiten(predicted, data.z)
        p = filtering.costates(e)[..., 1:, :]
        return Smoothed(x, cov, lag_cov, p, filtering.loglik(e, data), "filter and RTS")

    return _by_gaps(problem, y, run)


def kalman_smoother(
    problem: SmoothingProblem, y: ArrayLike, *, covariances: bool = True
) -> Smoothed:
    """Smooth a series, by the method that keeps its digits.

    The normal equations are block tridiagonal: one banded Cholesky factorisation and two banded
    solves give the means and costates, the pivots the likelihood, and the blocks of the inverse
    next to the diagonal the covariances, all in time and memory proportional to T. Where P0, W or
    V is singular, or the equations do not return a known solution to eleven digits, the recursions
    of the filter and its adjoint are used; a vague prior does no harm to them, since its vague
    part is estimated from the data, as the whole of x[0] is where there is no prior.

    Parameters
    ----------
    problem : SmoothingProblem
    y : (..., T+1, ny)
        NaN where nothing was observed; rows of NaN at the end give the forecast. A batch shares one
        factorisation where its series have the same gaps.
    covariances : bool
        Whether to return cov and lag_cov.

    Returns
    -------
    Smoothed

    Raises
    ------
    NotConvexError
        If there is no prior and the data leave a direction of x[0] open, or if V is singular and
        an entry of y is known before it is observed; names the direction and the time.

    References
    ----------
    Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd edition, 2012, sections 4.4
    (costates), 4.7 (lag-one covariances), 5.7 (a start that is estimated) and 7.2.2 (the diffuse
    likelihood). De Jong, The diffuse Kalman filter, Annals of Statistics 19 (1991), 1073-1083.

    Examples
    --------
    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=None, P0=None)
    >>> result = kalman_smoother(model, [[0.0], [np.nan], [3.0]])
    >>> result.x.ravel().round(12), result.cov.ravel().round(12), result.method
    (array([0.75, 1.5 , 2.25]), array([0.75, 1.  , 0.75]), 'normal equations')
    """

    def run(y: Array) -> Smoothed:
        data = problem.observations(y)
        try:
            equations = _NormalEquations(problem, problem.whitened(data))
            loss = equations.loss()
        except (NotConvexError, NonFiniteError):  # singular, or so near to it that it overflows
            loss = math.inf
        if not loss <= _MOST_LOSS:
            return _smooth_by_recursions(problem, data, covariances)
        return equations.smooth(data, covariances, corrections=int(loss > _NO_LOSS))

    return _by_gaps(problem, y, run)


class _NormalEquations:
    """H x = g, from the whitened rows [prior], [-noise A, noise] and [C] of the least squares."""

    def __init__(self, problem: SmoothingProblem, rows: Whitened) -> None:
        self.problem, self.rows = problem, rows
        T, n = rows.z.shape[-2] - 1, problem.n
        step = rows.noise @ problem.A
        H = np.empty((T + 1, n, n))
        H[...] = _square(rows.C)
        H[0] += _square(rows.prior)
        H[1:] += _square(rows.noise)
        H[:-1] += _square(step)
        below = np.broadcast_to(-rows.noise.swapaxes(-1, -2) @ step, (T, n, n))
        self.H = BlockTridiagonal(H, below)
        self.scale = 1 / np.sqrt(np.diagonal(H, axis1=1, axis2=2).mean(axis=0))

    def _weigh(self, w: Array) -> Array:
        """W^-1 w."""
        return times(self.rows.noise, times(self.rows.noise, w), transpose=True)

    def correct(self, x: Array, p: Array) -> tuple[Array, Array]:
        """One step of iterative refinement of states and costates; from zeros, the solution.

        What is left of the two optimality conditions is evaluated at (x, p) as it stands, where
        p is not recomputed from differences of x, and the correction solves the same equations.
        """
        A, rows = self.problem.A, self.rows
        w = times(A, x[..., :-1, :]) + self.problem.c - x[..., 1:, :]
        p = p - self._weigh(w + times(self.problem.W, p))
        g = times(rows.C, rows.z - times(rows.C, x), transpose=True)
        g[..., :-1, :] += times(A, p, transpose=True)
        g[..., 1:, :] -= p
        start = times(rows.prior, self.problem.m0 - x[..., :1, :])
        g[..., :1, :] += times(rows.prior, start, transpose=True)
        dx = self.H.solve(g)
        return x + dx, p + self._weigh(dx[..., 1:, :] - times(A, dx[..., :-1, :]))

    def loss(self) -> float:
        """The relative error with which a constant state comes back from its right-hand side.

        States are measured by the diagonal of H, that is, by their conditional deviations.
        """
        A, rows = self.problem.A, self.rows
        x = np.broadcast_to(self.scale, (self.H.N, self.H.n))
        w = self._weigh(x[1:] - times(A, x[:-1]))
        g = times(rows.C, times(rows.C, x), transpose=True)
        g[1:] += w
        g[:-1] -= times(A, w, transpose=True)
        g[:1] += times(rows.prior, times(rows.prior, x[:1]), transpose=True)
        return float(np.abs(self.H.solve(g) / self.scale - 1).max())

    def smooth(self, data: Observations, covariances: bool, corrections: int = 1) -> Smoothed:
        """The solution, corrected so many times."""
        rows = self.rows
        x = np.zeros((*rows.z.shape[:-1], self.H.n))
        p = np.zeros_like(x[..., 1:, :])
        for _ in range(1 + corrections):
            x, p = self.correct(x, p)
        misfit = rows.z - times(rows.C, x)
        start = times(rows.prior, x[..., :1, :] - self.problem.m0)
        square = inner(misfit, misfit) + inner(start, start) + inner(p, times(self.problem.W, p))
        loglik = -0.5 * (
            data.entries * _LOG_2PI + rows.log_determinant + self.H.log_determinant() + square
        )
        cov, lag_cov = self.H.selected_inverse() if covariances else (None, None)
        return Smoothed(x, cov, lag_cov, p, loglik, NORMAL_EQUATIONS)


class CovarianceFilter:
    """The filter's covariances from P[0] = P0, and the passes over a series that they allow.

    Attributes
    ----------
    predicted_cov, cov : (T+1, n, n)
        P[t|t-1] and P[t|t].
    K : (T+1, n, ny)
    factor : (T+1, ny, ny)
        Lower Cholesky factors of the innovations' covariances.
    """

    def __init__(self, problem: SmoothingProblem, data: Observations, P0: Array) -> None:
        T, n, ny = data.z.shape[-2] - 1, problem.n, problem.ny
        self.A, self.C, self.W = problem.A, data.C, problem.W
        self.predicted_cov, self.cov = np.empty((T + 1, n, n)), np.empty((T + 1, n, n))
        self.K, self.factor = np.empty((T + 1, n, ny)), np.empty((T + 1, ny, ny))
        Cs, Vs = (np.broadcast_to(z, (T + 1, *z.shape[-2:])) for z in (data.C, data.V))
        As, Ws = (np.broadcast_to(z, (T, n, n)) for z in (problem.A, problem.W))
        identity, P = np.eye(n), P0
        # What rounding leaves of a variance that an exact observation has made zero.
        noise = np.zeros((n, n))
        for t in range(T + 1):
            C, V = Cs[t], Vs[t]
            CP = C.dot(P)
            F = CP.dot(C.T)
            size = F.diagonal() + V.diagonal()
            L, K, info = dposv(F + V, CP, lower=1)
            least = 32 * ny * (EPS * size + C.dot(noise).dot(C.T).diagonal())
            if info or (L.diagonal() ** 2 <= least).any():
                raise NotConvexError(
                    f"the covariance of the innovation at time {t} is singular to working "
                    "precision: V is, and what is known by then determines an entry of y, or all "
                    "but; leave that entry out as NaN, or give it a variance in V"
                )
            self.predicted_cov[t], self.K[t], self.factor[t] = P, K.T, L
            keep = identity - K.T.dot(C)
            noise = keep.dot(noise).dot(keep.T) + EPS**2 * P
            P = keep.dot(P).dot(keep.T) + K.T.dot(V).dot(K)
            P = self.cov[t] = 0.5 * (P + P.T)
            if t < T:
                P = As[t].dot(P).dot(As[t].T) + Ws[t]
                P = 0.5 * (P + P.T)
                noise = As[t].dot(noise).dot(As[t].T)
        self.factor = np.tril(self.factor)
        closed = self.A @ (identity - self.K[:-1] @ Cs[:-1])
        self.loop = Bidiagonal(closed)

    def predict(self, start: Array, c: Array | float, z: Array) -> Array:
        """The predicted states x[t+1] = L x[t] + A K z[t] + c from x[0] = start (..., n)."""
        f = np.empty((*z.shape[:-1], self.A.shape[-1]))
        f[..., 0, :] = start
        f[..., 1:, :] = times(self.A, times(self.K[:-1], z[..., :-1, :])) + c
        return self.loop.solve(f, overwrite=True)

    def update(self, predicted: Array, z: Array) -> Array:
        """The filtered states."""
        return predicted + times(self.K, z - times(self.C, predicted))

    def whiten(self, predicted: Array, z: Array) -> Array:
        """The innovations, each divided by its standard deviations."""
        innovations = z - times(self.C, predicted)
        return np.asarray(substitute(self.factor, innovations[..., None])[..., 0])

    def log_determinant(self) -> float:
        """That of the covariance of all observations."""
        return 2 * float(np.log(np.diagonal(self.factor, axis1=1, axis2=2)).sum())

    def loglik(self, e: Array, data: Observations) -> Array:
        """The log-likelihood, from the whitened innovations e."""
        square = inner(e, e)
        return np.asarray(-0.5 * (data.entries * _LOG_2PI + self.log_determinant() + square))

    def _weighted(self) -> Array:
        """C whitened by the innovations: its square is C'F^-1 C."""
        return substitute(self.factor, np.broadcast_to(self.C, (len(self.K), *self.C.shape[-2:])))

    def costates(self, e: Array) -> Array:
        """p[t-1] = L'p[t] + C'F^-1 (innovation) for t = 0, ..., T: the adjoint of `predict`."""
        return self.loop.solve(times(self._weighted(), e, transpose=True), transpose=True)

    def smooth(self, predicted: Array, z: Array, p: Array) -> Array:
        """x[t|T] = x[t|t] + P[t|t] A'p[t], with p as of `costates`."""
        x = self.update(predicted, z)
        x[..., :-1, :] += times(self.cov[:-1], times(self.A, p[..., 1:, :], transpose=True))
        return x

    def smooth_covariances(self) -> tuple[Array, Array]:
        """Cov and lag_cov, from the covariances N of the costates, N[t-1] = C'F^-1 C + L'N[t] L.

        P[t|T] = P[t|t] - P[t|t] A'N[t] A P[t|t],    cov(x[t+1], x[t]) = (I - P[t+1|t] N[t]) A P[t|t]

        No covariance is solved with, which may be singular; where W is. Where most of a variance is
        subtracted, as from that of an unstable state, RTS has more digits, and is used.
        """
        N, _ = congruences(self.loop.A, _square(self._weighted()))
        ahead = self.A @ self.cov[:-1]
        pulled = N[1:] @ ahead
        cov = self.cov.copy()
        cov[:-1] -= ahead.swapaxes(-1, -2) @ pulled
        lag_cov = ahead - self.predicted_cov[1:] @ pulled
        left, filtered, predicted = (
            np.diagonal(P, axis1=1, axis2=2) for P in (cov, self.cov, self.predicted_cov)
        )
        good = np.all(left >= _MOST_SUBTRACTED * filtered, axis=1)
        if not good.all():
            _, rts_cov, rts_lag_cov = self.rts_covariances()
            both = good[:-1] & np.all((left >= _MOST_SUBTRACTED * predicted)[1:], axis=1)
            cov[~good], lag_cov[~both] = rts_cov[~good], rts_lag_cov[~both]
        return _symmetric(cov), lag_cov

    def rts_covariances(self) -> tuple[Array, Array, Array]:
        """J', cov and lag_cov, by the recursion of Rauch, Tung and Striebel, in Joseph's form.

        J = P[t|t] A'P[t+1|t]^-1
        P[t|T] = (I - JA) P[t|t] (I - JA)' + J W J' + J P[t+1|T] J',    cov(x[t+1], x[t]) = P[t+1|T] J'
        """
        P = self.cov[:-1]
        gains = _solve_semidefinite(self.predicted_cov[1:], self.A @ P)  # J'
        keep = np.eye(P.shape[-1]) - gains.swapaxes(-1, -2) @ self.A
        N = self.cov.copy()
        N[:-1] = keep @ P @ keep.swapaxes(-1, -2) + gains.swapaxes(-1, -2) @ self.W @ gains
        return gains, *congruences(gains, N)


def _smooth_by_recursions(
    problem: SmoothingProblem, data: Observations, covariances: bool
) -> Smoothed:
    """Smooth by the filter and its adjoint, the vague part of the prior estimated from the data.

    x[0] = m0 + root b + (0, base): the filter runs from the covariance `base`, and what is left of
    the prior, b ~ (0, I), or what there is no prior for, is a regression of the innovations on
    their responses to b.
    """
    base, root = split_prior(problem)
    filtering = CovarianceFilter(problem, data, base)
    nothing = np.zeros((len(root), *data.z.shape[-2:]))
    moved = filtering.predict(root, 0.0, nothing)
    slopes = filtering.whiten(moved, nothing)  # of the innovations, whitened, in b
    e = filtering.whiten(filtering.predict(problem.m0, problem.c, data.z), data.z)
    L, b = estimate_start(problem, data, slopes, e)
    predicted = filtering.predict(problem.m0 + b @ root, problem.c, data.z)
    e = filtering.whiten(predicted, data.z)
    p = filtering.costates(e)
    loglik = filtering.loglik(e, data) - np.log(np.abs(L.diagonal())).sum()
    if problem.P0 is not None:
        loglik -= 0.5 * (b * b).sum(axis=-1)
    x = filtering.smooth(predicted, data.z, p)
    cov = lag_cov = None
    if covariances:
        cov, lag_cov = filtering.smooth_covariances()
        moved = filtering.smooth(moved, nothing, filtering.costates(slopes))
        spread = substitute(L, moved.swapaxes(0, 1))  # (T+1, k, n)
        cov = _symmetric(cov + _square(spread))
        lag_cov += spread[1:].swapaxes(-1, -2) @ spread[:-1]
    return Smoothed(x, cov, lag_cov, p[..., 1:, :], loglik, RECURSIONS)


def split_prior(problem: SmoothingProblem) -> tuple[Array, Array]:
    """The base, and the rows r[i] of the root, with P0 = base + sum_i r[i] r[i]'.

    In units of the noise of each state, no eigenvalue of the base is larger than one: the filter
    starts from covariances of the size that it will have, and nothing is lost under a wider one.
    Without a prior the rows of the root are the axes of x[0].
    """
    width = np.sqrt(_variances(problem))
    if problem.P0 is None:
        return np.diag(width**2), np.eye(problem.n)
    values, vectors = np.linalg.eigh(problem.P0 / np.outer(width, width))
    vectors *= width[:, None]
    base = (vectors * np.clip(values, 0.0, 1.0)) @ vectors.T
    return _symmetric(base), (vectors * np.sqrt(np.maximum(values - 1.0, 0.0))).T


def _variances(problem: SmoothingProblem) -> Array:
    """A variance for each state, in its units: of its noise, or of what a sensor tells, or one."""
    W, V = (np.diagonal(z, axis1=-2, axis2=-1) for z in (problem.W, problem.V))
    variances = np.array(W.reshape(-1, problem.n).max(axis=0))
    largest = V.reshape(-1, problem.ny).max(axis=0)
    squares = (problem.C**2).reshape(-1, problem.ny, problem.n).max(axis=0)
    noisy = largest > 0
    told = (squares[noisy] / largest[noisy, None]).max(axis=0, initial=0.0)
    known = (variances == 0) & (told > 0)
    variances[known] = 1 / told[known]
    variances[variances == 0] = 1.0
    return variances


def estimate_start(
    problem: SmoothingProblem, data: Observations, slopes: Array, e: Array
) -> tuple[Array, Array]:
    """The b (g, k) that minimises |e + slopes' b|^2, plus |b|^2 where there is a prior.

    Returns L lower triangular, L L' the inverse of the covariance of b, and b. The squares of the
    slopes are not formed: they would lose half of the digits under a vague prior.
    """
    k = len(slopes)
    prior = np.eye(k) if problem.P0 is not None else np.zeros((0, k))
    Q, R = np.linalg.qr(np.concatenate([slopes.reshape(k, -1).T, prior]))
    if problem.P0 is None:
        _check_start(R, data)
    pull = e.reshape(len(e), -1) @ Q[: e[0].size]
    return R.T, -solve_triangular(R, pull.T).T


def _check_start(R: Array, data: Observations) -> None:
    """Raise NotConvexError if R'R, the information on the start, leaves a direction of it open."""
    size = np.linalg.norm(R, axis=0)
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.svd(R / size)[1:]
    if len(values) == len(size) and values[-1] > _OPEN * len(size):
        return
    direction = vectors[-1] / size
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


def _solve_semidefinite(P: Array, f: Array) -> Array:
    """A solution X of P[t] X[t] = f[t], for symmetric P that may be singular where f is zero too."""
    size = np.sqrt(np.diagonal(P, axis1=1, axis2=2))
    size = np.where(size > 0, size, 1.0)[..., None]
    scaled, f = P / (size * size.swapaxes(-1, -2)), f / size
    values, vectors = np.linalg.eigh(scaled)
    known = values > P.shape[-1] * EPS * values[:, -1:]
    half = vectors.swapaxes(-1, -2) @ f
    half *= np.where(known, 1 / np.where(known, values, 1.0), 0.0)[..., None]
    return np.asarray(vectors @ half / size)


def _square(M: Array) -> Array:
    """M'M."""
    return np.asarray(M.swapaxes(-1, -2) @ M)


def _symmetric(P: Array) -> Array:
    return np.asarray(0.5 * (P + P.swapaxes(-1, -2)))


def _prior(problem: SmoothingProblem, name: str) -> Array:
    if problem.P0 is None:
        raise ArgumentError(
            f"P0 is None and {name} needs a prior: before the data determine the state it has no "
            "covariance; use kalman_smoother, which does not, or give P0"
        )
    return problem.P0


_Result = TypeVar("_Result", Filtered, Smoothed)


# These are the same for all series with the same gaps.
_SHARED = {"cov", "lag_cov", "predicted_cov", "innovation_cov"}


def _by_gaps(problem: SmoothingProblem, y: ArrayLike, run: Callable[[Array], _Result]) -> _Result:
    """Run each group of series (g, T+1, ny) with the same gaps at once; put the results together."""
    check_type("problem", problem, SmoothingProblem, "SmoothingProblem(A, C, W, V, m0, P0)")
    y = problem.series(y)
    batch = y.shape[:-2]
    flat = y.reshape(-1, *y.shape[-2:])
    gaps = np.isnan(flat).reshape(len(flat), -1)
    if (gaps == gaps[0]).all():
        members = [np.arange(len(flat))]
    else:
        group = np.unique(gaps, axis=0, return_inverse=True)[1].ravel()
        members = [np.flatnonzero(group == k) for k in range(group.max() + 1)]
    parts = [run(flat[index]) for index in members]
    whole: dict[str, Any] = {}
    for name in (field.name for field in fields(parts[0])):
        values = [getattr(part, name) for part in parts]
        if name == "method":
            whole[name] = " and ".join(sorted(set(values)))
        elif values[0] is None or (len(parts) == 1 and name in _SHARED):
            whole[name] = values[0]
        else:
            shape: tuple[int, ...] = values[0].shape[0 if name in _SHARED else 1 :]
            joined = values[0]
            if len(parts) > 1:
                joined = np.empty((len(flat), *shape))
                for index, value in zip(members, values, strict=True):
                    joined[index] = value
            whole[name] = joined.reshape(batch + shape)
    if not batch:
        whole["loglik"] = float(whole["loglik"])
    return type(parts[0])(**whole)
