"""The score: the gradient of the log-likelihood of a series in the arrays of its model.

By Fisher's identity the gradient of log p(y) is the conditional mean of that of log p(x, y). With the
costates p[t], the gradient in c[t], and u[t] = V^-1 (y[t] - C x[t] - d[t]), the gradient in d[t],
both at the smoothed states, and N[t] and D[t] minus their derivatives in c[t] and d[t],

    dL/dA[t] = p[t] x[t]' + (dx[t]/dc[t])'        dL/dW[t] = 1/2 (p[t] p[t]' - N[t])
    dL/dC[t] = u[t] x[t]' + (dx[t]/dd[t])'        dL/dV[t] = 1/2 (u[t] u[t]' - D[t])

and dL/dm0 = p[-1], dL/dP0 = 1/2 (p[-1] p[-1]' - N[-1]). In this form, of Koopman and Shephard, no W,
V or P0 is inverted, and none needs to be regular: everything comes of one run of the filter and one
of its adjoint. Where W, V and P0 are regular and no digits are lost, the normal equations give the
same numbers, in about a tenth of the time, from the smoothed means and covariances. A step of
the EM algorithm is made of them too: E[w x' | y] = W dL/dA.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import EPS, Array, check_type
from lqrad.errors import NotConvexError
from lqrad.linalg.stages import substitute, times
from lqrad.linalg.tridiagonal import congruences
from lqrad.results import Report
from lqrad.smoothing.arrays import Observations, check_overflow, product, same_gaps, transposed
from lqrad.smoothing.covariance_filter import repeat_last
from lqrad.smoothing.kalman import NORMAL_EQUATIONS, kalman_smoother
from lqrad.smoothing.likelihood import gradients_by_filter
from lqrad.smoothing.model import Balanced, SmoothingProblem, array_units
from lqrad.smoothing.start import StartedFilter

# The arrays of a model, and those of them that are its prior.
NAMES = ("A", "C", "W", "V", "m0", "P0", "c", "d")
PRIOR = ("m0", "P0")
# The relative error up to which what the data add to the model is taken from a difference.
_MOST_LOSS = 1e-10


@dataclass(frozen=True, eq=False)
class Score(Report):
    """The gradient of the log-likelihood in each array of a problem, of the array's own shape.

    For an array that is constant it is the total over the stages; for one that varies in time, that
    of each stage. Those in W, V and P0 are symmetric, and meant for symmetric changes:
    dL = sum_ij W_score[i, j] dW[i, j], so that moving W[0, 1] and W[1, 0] together changes L by
    twice the entry. Where there is no prior, m0 and P0 are None.
    """

    A: Array
    C: Array
    W: Array
    V: Array
    m0: Array | None
    P0: Array | None
    c: Array
    d: Array
    loglik: float


def loglik_gradient(problem: SmoothingProblem, y: ArrayLike) -> Score:
    """Return the log-likelihood of a series and its gradient in every array of the problem.

    The cost is that of one smoothing, in time and memory proportional to T, whatever the number of
    arrays. W, V and P0 may be singular, and P0=None stands for the diffuse log-likelihood, whose score
    loses the digits that the start is short of: where the data say of one direction of x[0] a millionth
    of what they say of its entries, six.

    Parameters
    ----------
    problem : SmoothingProblem
    y : (..., T+1, ny)
        NaN where nothing was observed. A batch adds up.

    Raises
    ------
    NotConvexError
        As `kalman_smoother`.

    See Also
    --------
    fit : climbs along it.
    kalman_filter : the log-likelihood alone.

    References
    ----------
    Koopman and Shephard, Exact score for time series models in state space form, Biometrika 79
    (1992), 823-826. Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd edition,
    2012, section 7.3.3.

    Examples
    --------
    One observation y ~ N(m0, P0 + V) = N(0, 4), and L = -1/2 log(8 pi) - y^2 / 8 with y = 4:

    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[3]])
    >>> score = loglik_gradient(model, [[4.0], [np.nan]])
    >>> score.m0, score.V, score.W                # y/4, (y^2/4 - 1)/8, and nothing is known of w
    (array([1.]), array([[0.375]]), array([[0.]]))
    """
    check_type("problem", problem, SmoothingProblem, "SmoothingProblem(A, C, W, V, m0, P0)")
    return score(problem.balanced, problem.series(y))


def score(balanced: Balanced, y: Array, names: Iterable[str] = NAMES) -> Score:
    """The score of checked series; that of arrays that are not named may be None."""
    prior = balanced.problem.P0 is not None
    names = [name for name in names if prior or name not in PRIOR]
    flat = y.reshape(-1, *y.shape[-2:]) / balanced.output
    with np.errstate(over="ignore", invalid="ignore"):  # looked for in what comes out
        try:
            loglik, found = gradients_by_filter(balanced.problem, flat, names)
        except ArithmeticError:
            return score_of(balanced.problem, expect(balanced, y))
        loglik -= float(balanced.log_volume(~np.isnan(y)).sum())
        units = array_units(balanced.state, balanced.output)
        gradients = {name: g / units[name][0] * units[name][1] for name, g in found.items()}
    check_overflow("loglik", np.asarray(loglik))
    for name, gradient in gradients.items():
        check_overflow(f"the gradient in {name}", gradient)
    return Score(**dict.fromkeys(NAMES) | gradients, loglik=loglik)  # type: ignore[arg-type]


class Expected(NamedTuple):
    """What one pass over all series gives, in sums over them.

    The gradients, by the names of the arrays, are those of each stage. `driven` and `seen` are sums of
    E[z z'] with z = (x, 1), over t < T, and over the rows of y with an observed entry; `start` is that
    of z = (x[0] - m0, 1).
    """

    loglik: float
    gradients: dict[str, Array]
    driven: Array
    seen: Array
    start: Array
    series: int


def expect(balanced: Balanced, y: Array) -> Expected:
    """Smooth each group of series with the same gaps at once, in balanced units, and add up."""
    flat = y.reshape(-1, *y.shape[-2:])
    state, output = balanced.state, balanced.output
    volume = float(balanced.log_volume(~np.isnan(y)).sum())
    with np.errstate(over="ignore", invalid="ignore"):  # looked for in what comes out
        moment = np.outer(np.append(state, 1.0), np.append(state, 1.0))
        parts = [
            _expect_group(balanced.problem, flat[members] / output) for members in same_gaps(flat)
        ]
        logliks, gradients, driven, seen, start, counts = zip(*parts, strict=True)
        expected = Expected(
            loglik=sum(logliks) - volume,
            gradients={
                name: np.sum([part[name] for part in gradients], axis=0) / down * up
                for name, (down, up) in array_units(state, output).items()
            },
            driven=np.sum(driven, axis=0) * moment,
            seen=np.sum(seen, axis=0) * moment,
            start=np.sum(start, axis=0) * moment,
            series=sum(counts),
        )
    check_overflow("loglik", np.asarray(expected.loglik))
    for name, gradient in expected.gradients.items():
        check_overflow(f"the gradient in {name}", gradient)
    return expected


def _expect_group(problem: SmoothingProblem, y: Array) -> Expected:
    """The sums over series y (g, T+1, ny) with the same gaps."""
    data = problem.observations(y)
    answer = _answer_by_normal_equations(problem, y, data)
    x, cov, p, u, N, D, x_c, x_d, loglik = answer or _answer_by_recursions(problem, data)
    g, seen = len(y), ~np.isnan(y[0])
    px = np.einsum("gti,gtj->tij", p[:, 1:], x[:, :-1]) + g * x_c
    pp = 0.5 * (np.einsum("gti,gtj->tij", p, p) - g * N)
    ux = np.einsum("gti,gtj->tij", u, x) + g * x_d
    uu = 0.5 * (np.einsum("gti,gtj->tij", u, u) - g * D)
    uu[~(seen[:, :, None] & seen[:, None, :])] = 0.0  # the variance one of what is missing
    gradients = {"A": px, "C": ux, "W": pp[1:], "V": uu, "c": p[:, 1:].sum(axis=0)}
    gradients |= {"d": u.sum(axis=0), "m0": p[:, 0].sum(axis=0), "P0": pp[0]}
    x = np.concatenate([x[:, :1] - problem.m0, x], axis=1)
    z = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    zz = np.einsum("gti,gtj->tij", z, z)
    zz[1:, :-1, :-1] += g * cov
    zz[0, :-1, :-1] += g * cov[0]
    start, zz = zz[0], zz[1:]
    driven, observed = zz[:-1].sum(axis=0), zz[seen.any(axis=-1)].sum(axis=0)
    return Expected(float(loglik.sum()), gradients, driven, observed, start, g)


class _Answer(NamedTuple):
    """The smoothed states of series, their costates, and how both answer to c and d.

    Here p[t] drives x[t], so that p[0] is the gradient in m0 and p[t+1] that in c[t].
    """

    x: Array  # (g, T+1, n)
    cov: Array  # (T+1, n, n)
    p: Array  # (g, T+1, n)
    u: Array  # (g, T+1, ny)
    N: Array  # (T+1, n, n): -dp[t]/dm0 or -dp[t]/dc[t-1]
    D: Array  # (T+1, ny, ny): -du[t]/dd[t]
    x_c: Array  # (T, n, n): (dx[t]/dc[t])'
    x_d: Array  # (T+1, ny, n): (dx[t]/dd[t])'
    loglik: Array  # (g,)


def _answer_by_normal_equations(
    problem: SmoothingProblem, y: Array, data: Observations
) -> _Answer | None:
    """From means and covariances, E[W^-1 w w'W^-1] and so on; None where that would lose digits.

    N = W^-1 - W^-1 cov(w) W^-1 is what the data add to what the model knows of w. Its digits are
    lost where that is little, and those of cov(w) where w is small against the states.
    """
    try:
        rows = problem.whitened(data)
    except NotConvexError:  # a covariance is singular
        return None
    smoothed = kalman_smoother(problem, y)
    if smoothed.method != NORMAL_EQUATIONS:
        return None
    x, cov, lag_cov = smoothed.x, smoothed.cov, smoothed.lag_cov
    assert cov is not None
    assert lag_cov is not None
    A, prior, noise, root, C = problem.A, rows.prior, rows.noise, rows.root, rows.C
    u = times(root, rows.z - times(C, x), transpose=True)
    start = times(prior, times(prior, x[:, :1] - problem.m0), transpose=True)

    step = noise @ A  # w whitened is noise x[t+1] - step x[t] - noise c
    ahead, now = noise @ lag_cov, step @ cov[:-1]
    terms = noise @ cov[1:] @ transposed(noise) + now @ transposed(step)
    cross = ahead @ transposed(step)
    known_w = np.eye(problem.n) - terms + cross + transposed(cross)
    known_v = np.eye(problem.ny) - C @ cov @ transposed(C)
    known_start = np.eye(problem.n) - prior @ cov[0] @ prior.T
    known = [known_w.mean(axis=0), known_v.mean(axis=0), known_start]
    least = min(float(matrix.diagonal().min()) for matrix in known)
    if not EPS * max(1.0, float(np.diagonal(terms, axis1=1, axis2=2).max())) <= _MOST_LOSS * least:
        return None

    N = np.empty_like(cov)
    N[0], N[1:] = product(prior, known_start @ prior), product(noise, known_w @ noise)
    return _Answer(
        x=x,
        cov=cov,
        p=np.concatenate([start, smoothed.p], axis=1),
        u=u,
        N=N,
        D=product(root, known_v @ root),
        x_c=product(noise, ahead - now),
        x_d=-product(root, C @ cov),
        loglik=np.asarray(smoothed.loglik),
    )


def _answer_by_recursions(problem: SmoothingProblem, data: Observations) -> _Answer:
    """From the filter and its adjoint, with no inverse of W, V or P0.

    The vague part b of x[0] is estimated, see `StartedFilter`. Each covariance is that with b given,
    and a term for the error of b: with X, P, U the derivatives of x, p, u in R b, of covariance I, that
    of the costates is N - P'P.
    """
    started = StartedFilter(problem, data)
    filtering = started.filtering
    K, factor, A = filtering.whole(filtering.K), filtering.whole(filtering.factor), problem.A
    roots = substitute(factor, np.broadcast_to(np.eye(problem.ny), factor.shape))  # F^-1/2
    weighted = roots @ data.C
    AK = np.zeros_like(K)  # at T there is nothing left to predict
    AK[:-1] = A @ K[:-1]

    def in_d(e: Array, p: Array) -> Array:
        """The costates of y."""
        u = times(roots, e, transpose=True)
        u[..., :-1, :] -= times(AK[:-1], p[..., 1:, :], transpose=True)
        return u

    b, means = started.filter(problem.m0, problem.c, data.z)
    x, p = filtering.smooth(means)
    u, loglik = in_d(means.e, p), started.loglik(means.e, b)

    # How p, u and x answer to c and d, with b given, and with b following.
    X, P = started.answers()
    U = in_d(started.unit, P)
    X, P, U = (z.swapaxes(0, 1) for z in (X, P, U))  # (T+1, k, ...)
    N, _ = congruences(repeat_last(filtering.loop.A, filtering.T), product(weighted, weighted))
    filtered_cov = filtering.whole(filtering.cov)
    ahead = A @ filtered_cov[:-1]
    pulled = N[1:] @ ahead
    cov = filtered_cov + product(X, X)
    cov[:-1] -= product(ahead, pulled)
    x_c = product(P[1:], X[:-1]) - pulled
    D = product(roots, roots) - product(U, U)
    D[:-1] += product(AK[:-1], N[1:] @ AK[:-1])
    x_d = product(U, X) - transposed(K)
    x_d[:-1] += product(AK[:-1], pulled)
    N -= product(P, P)
    return _Answer(x, cov, p, u, N, D, x_c, x_d, loglik)


def score_of(problem: SmoothingProblem, expected: Expected) -> Score:
    """The gradients in the shapes of the problem's arrays."""
    gradients: dict[str, Array | None] = dict.fromkeys(PRIOR)
    for name, gradient in expected.gradients.items():
        array = getattr(problem, name)
        if name in PRIOR and problem.P0 is None:
            continue
        gradients[name] = gradient if gradient.ndim == array.ndim else gradient.sum(axis=0)
    return Score(**gradients, loglik=expected.loglik)  # type: ignore[arg-type]
