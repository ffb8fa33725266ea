"""Learning a model from a series: the gradient of the log-likelihood, and maximum likelihood by it.

    x[t+1] = A x[t] + c + w[t],  w ~ (0, W);    y[t] = C x[t] + d + v[t],  v ~ (0, V);    x[0] ~ (m0, P0)

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

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrad.errors import (
    EPS,
    ArgumentError,
    Array,
    NonFiniteError,
    NotConvexError,
    ShapeError,
    check_choice,
    check_count,
    check_finite,
    real_array,
)
from lqrad.kernels.banded import congruences, substitute
from lqrad.kernels.stages import times
from lqrad.problems.objective import Objective
from lqrad.problems.smoothing import Observations, SmoothingProblem
from lqrad.solvers.descent import descend
from lqrad.solvers.kalman import (
    NORMAL_EQUATIONS,
    _estimate_start,
    _Filter,
    _split_prior,
    kalman_smoother,
)

# How many axes each array has where it does not vary in time.
_AXES = {"A": 2, "C": 2, "W": 2, "V": 2, "m0": 1, "P0": 2, "c": 1, "d": 1}
_NAMES = tuple(_AXES)
_PRIOR = ("m0", "P0")
# Of central differences: truncation, step^2, and rounding, EPS / step, are about the same.
_STEP = EPS ** (1 / 3)
# The relative error up to which what the data add to the model is taken from a difference.
_MOST_LOSS = 1e-10


@dataclass(frozen=True, eq=False)
class Score:
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


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """What `fit` and `em` return.

    Attributes
    ----------
    problem : SmoothingProblem
        The model that was learnt.
    loglik : float
        Its log-likelihood; that of a batch adds up.
    theta : (k,) or None
        The parameters of `fit`.
    history : (iterations + 1,)
        The log-likelihood, the start first.
    converged : bool
        Whether the tolerance was met.
    message : str
        How it ended.
    """

    problem: SmoothingProblem
    loglik: float
    theta: Array | None
    history: Array
    converged: bool
    message: str

    def __repr__(self) -> str:
        return f"<Fit: {self.message}>"


def loglik_gradient(problem: SmoothingProblem, y: ArrayLike) -> Score:
    """Return the log-likelihood of a series and its gradient in every array of the problem.

    The cost is that of one smoothing, in time and memory proportional to T, whatever the number of
    arrays. W, V and P0 may be singular, and P0=None stands for the diffuse log-likelihood.

    Parameters
    ----------
    problem : SmoothingProblem
    y : (..., T+1, ny)
        NaN where nothing was observed. A batch adds up.

    Returns
    -------
    Score

    Raises
    ------
    NotConvexError
        If there is no prior and the data leave a direction of x[0] open, or if an innovation has no
        positive definite covariance; as `kalman_smoother`.

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
    return _score(problem, _expect(problem, problem.series(y)))


def fit(
    build: Callable[[Array], SmoothingProblem],
    theta0: ArrayLike,
    y: ArrayLike,
    *,
    max_iter: int = 500,
    tol: float = 1e-6,
) -> Fit:
    """Maximise the log-likelihood over the parameters theta of a model, by L-BFGS.

    What the map `build` makes of theta is learnt and everything else is held fixed; parameters may
    be shared between arrays, or be logarithms of variances, which keeps them positive. The
    gradient is that of `loglik_gradient`, exact, times the Jacobian of the map's arrays, found by
    central differences of the map alone: 2k calls of `build`, with steps of 6e-6 max(1, |theta|),
    and a relative error of about 1e-10. The likelihood may have several maxima: the one that is
    found is near the start. It is flat where a variance is next to nothing: start from large ones.

    Parameters
    ----------
    build : callable
        theta (k,) -> SmoothingProblem, smooth in theta, with the same shapes everywhere. A step to
        where it raises NotConvexError or an ArithmeticError is shortened.
    theta0 : (k,)
        Where to start. Parameters of order one are best.
    y : (..., T+1, ny)
        NaN where nothing was observed. A batch adds up.
    max_iter : int
        Limit on iterations.
    tol : float
        Stop where the norm of the gradient in theta, of the log-likelihood per observed entry, is
        at most tol, and at most tol times that at the start.

    Returns
    -------
    Fit

    Raises
    ------
    ArgumentError
        If `build` does not return a SmoothingProblem, or problems of different shapes.
    NotConvexError, NonFiniteError
        If there is no model or no likelihood at theta0, or a step of the differences from it.

    References
    ----------
    Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd edition, 2012, chapter 7.

    Examples
    --------
    The variance of white noise around zero is learnt as the mean square:

    >>> def build(theta):
    ...     V = np.exp(theta)[:, None]
    ...     return SmoothingProblem([[0]], [[0]], W=[[0]], V=V, m0=[0], P0=[[0]])
    >>> result = fit(build, [0.0], [[1.0], [-3.0], [np.nan], [5.0], [1.0]])
    >>> result.problem.V.round(4), result.converged
    (array([[9.]]), True)
    """
    start = np.array(real_array("theta0", theta0))
    if start.ndim != 1 or not start.size:
        raise ShapeError(f"theta0 has shape {start.shape}, expected (k,), the parameters in a row")
    check_finite("theta0", start)
    first = _build(build, start)
    y = first.series(y)
    entries = max(1, int((~np.isnan(y)).sum()))

    def evaluate(theta: Array) -> tuple[float, Array]:
        problem = _build(build, theta, first)
        score = _score(problem, _expect(problem, y))
        slopes = np.empty_like(theta)
        for i, h in enumerate(_STEP * np.maximum(1.0, np.abs(theta))):
            ends = []
            for end in (theta[i] - h, theta[i] + h):
                near = theta.copy()
                near[i] = end
                try:
                    ends.append(_build(build, near, first))
                except (NotConvexError, ArithmeticError) as error:
                    kind = NotConvexError if isinstance(error, NotConvexError) else NonFiniteError
                    raise kind(
                        f"build fails at theta[{i}] = {end:.9g}, a step of the differences away from "
                        f"{theta[i]:.9g}: {error}; let theta hold logarithms of variances"
                    ) from error
            slopes[i] = sum(
                np.vdot(gradient, getattr(ends[1], name) - getattr(ends[0], name))
                for name in _NAMES
                if (gradient := getattr(score, name)) is not None
            ) / (2 * h)
        return -score.loglik / entries, -slopes / entries

    def trial(theta: Array) -> tuple[float, Array]:
        try:
            return evaluate(theta)
        except (NotConvexError, ArithmeticError, np.linalg.LinAlgError) as error:
            raise NonFiniteError(f"no likelihood at theta = {theta}: {error}") from error

    slope = float(np.linalg.norm(evaluate(start)[1]))
    descent = descend(
        Objective(shape=start.shape, value_and_gradient=trial),
        start,
        method="l-bfgs",
        max_iter=max_iter,
        tol=tol / max(1.0, slope),
    )
    loglik = -entries * descent.value
    message = f"{descent.message}; log-likelihood {loglik:.8g} = -{entries} J"
    problem = _build(build, descent.solution, first)
    history = -entries * descent.history.value
    return Fit(problem, loglik, descent.solution, history, descent.status.converged, message)


def em(
    problem: SmoothingProblem,
    y: ArrayLike,
    *,
    learn: Iterable[str],
    max_iter: int = 1000,
    tol: float = 1e-8,
) -> Fit:
    """Maximise the log-likelihood over whole arrays of a model, by the EM algorithm.

    Each step maximises E[log p(x, y)], the mean taken over x and what is missing of y, given the
    model so far. With z = (x, 1) and S = sum_t E[z z'], the step is

        [A c] += K,   K = W dL/d[A c] S^-1;      W += (2 W dL/dW W - K S K')/T

    and the same for [C d] and V; no W is inverted, and the range of a singular one is kept. The
    log-likelihood never decreases. EM starts well from far away, and ends slowly: linearly at the
    rate of the information that is missing, so that a small step does not prove a maximum; see
    `loglik_gradient`. Use `fit` for arrays with structure.

    Parameters
    ----------
    problem : SmoothingProblem
        Where to start. What is to be learnt must not vary in time, and W neither where A or c is
        learnt, nor V where C or d is.
    y : (..., T+1, ny)
        NaN where nothing was observed. A batch adds up.
    learn : names
        Of "A", "C", "W", "V", "m0", "P0", "c", "d". One series has no maximum over m0 and P0
        together: it makes P0 shrink to zero.
    max_iter : int
        Limit on steps.
    tol : float
        Stop where a step raises the log-likelihood by at most tol for each observed entry.

    Returns
    -------
    Fit

    Raises
    ------
    ArgumentError
        If a name in `learn` is unknown, varies in time, or is of the prior where there is none.
    NotConvexError
        As `kalman_smoother`.

    References
    ----------
    Shumway and Stoffer, An approach to time series smoothing and forecasting using the EM
    algorithm, Journal of Time Series Analysis 3 (1982), 253-264. Koopman, Disturbance smoother for
    state space models, Biometrika 80 (1993), 117-126 (the step from costates).

    Examples
    --------
    A mean is learnt from what is observed:

    >>> model = SmoothingProblem([[0]], [[0]], W=[[0]], V=[[1]], m0=[0], P0=[[0]])
    >>> result = em(model, [[1.0], [-3.0], [np.nan], [5.0], [1.0]], learn=("d", "V"))
    >>> result.problem.d, result.problem.V, result.converged
    (array([1.]), array([[8.]]), True)
    """
    names = _learnable(problem, learn)
    max_iter, y = check_count("max_iter", max_iter, least=0), problem.series(y)
    entries, history = max(1, int((~np.isnan(y)).sum())), [-np.inf]
    while True:
        expected = _expect(problem, y)
        history.append(expected.loglik)
        rise = expected.loglik - history[-2]
        converged = rise <= tol * entries
        steps = len(history) - 2
        if converged or steps >= max_iter:
            break
        problem = _maximise(problem, expected, names)
    word = "converged" if converged else "stopped at the limit max_iter"
    message = f"{word}, after {steps} steps; log-likelihood {expected.loglik:.8g}"
    message += f", raised by {rise:.2g} in the last" if steps else ""
    return Fit(problem, expected.loglik, None, np.array(history[1:]), converged, message)


class _Expected(NamedTuple):
    """What one pass over all series gives: sums over them, the gradients stage by stage.

    Attributes
    ----------
    loglik : float
    gradients : dict
        Of the names of the arrays; those of A, W, c have T stages, of C, V, d T + 1.
    driven, seen, start : (n+1, n+1)
        Sums of E[z z'] with z = (x, 1), over t < T, and over the rows of y with an observed entry;
        and that of z = (x[0] - m0, 1).
    series : int
    """

    loglik: float
    gradients: dict[str, Array]
    driven: Array
    seen: Array
    start: Array
    series: int


def _expect(problem: SmoothingProblem, y: Array) -> _Expected:
    """Smooth each group of series with the same gaps at once, and add up."""
    flat = y.reshape(-1, *y.shape[-2:])
    groups: dict[bytes, list[int]] = {}
    for k, gaps in enumerate(np.isnan(flat)):
        groups.setdefault(gaps.tobytes(), []).append(k)
    parts = [_expect_group(problem, flat[members]) for members in groups.values()]
    return _Expected(
        sum(part.loglik for part in parts),
        {name: np.sum([part.gradients[name] for part in parts], axis=0) for name in _NAMES},
        np.sum([part.driven for part in parts], axis=0),
        np.sum([part.seen for part in parts], axis=0),
        np.sum([part.start for part in parts], axis=0),
        len(flat),
    )


def _expect_group(problem: SmoothingProblem, y: Array) -> _Expected:
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
    return _Expected(float(loglik.sum()), gradients, driven, observed, start, g)


class _Answer(NamedTuple):
    """The smoothed states of series, their costates, and how both answer to c and d.

    Attributes
    ----------
    x : (g, T+1, n)
    cov : (T+1, n, n)
    p : (g, T+1, n)
        Here p[t] drives x[t], so that p[0] is the gradient in m0 and p[t+1] that in c[t].
    u : (g, T+1, ny)
    N, D : (T+1, n, n), (T+1, ny, ny)
        -dp[t]/dm0 or -dp[t]/dc[t-1], and -du[t]/dd[t].
    x_c, x_d : (T, n, n), (T+1, ny, n)
        (dx[t]/dc[t])' and (dx[t]/dd[t])'.
    loglik : (g,)
    """

    x: Array
    cov: Array
    p: Array
    u: Array
    N: Array
    D: Array
    x_c: Array
    x_d: Array
    loglik: Array


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
    A, prior, noise, C = problem.A, rows.prior, rows.noise, rows.C
    root = substitute(np.asarray(np.linalg.cholesky(data.V)), np.eye(problem.ny))  # V^-1/2
    u = times(root, rows.z - times(C, x), transpose=True)
    start = times(prior, times(prior, x[:, :1] - problem.m0), transpose=True)

    step = noise @ A  # w whitened is noise x[t+1] - step x[t] - noise c
    ahead, now = noise @ lag_cov, step @ cov[:-1]
    terms = noise @ cov[1:] @ _transposed(noise) + now @ _transposed(step)
    cross = ahead @ _transposed(step)
    known_w = np.eye(problem.n) - terms + cross + _transposed(cross)
    known_v = np.eye(problem.ny) - C @ cov @ _transposed(C)
    known_start = np.eye(problem.n) - prior @ cov[0] @ prior.T
    known = [known_w.mean(axis=0), known_v.mean(axis=0), known_start]
    least = min(float(matrix.diagonal().min()) for matrix in known)
    if not EPS * max(1.0, float(np.diagonal(terms, axis1=1, axis2=2).max())) <= _MOST_LOSS * least:
        return None

    N = np.empty_like(cov)
    N[0], N[1:] = _product(prior, known_start @ prior), _product(noise, known_w @ noise)
    return _Answer(
        x=x,
        cov=cov,
        p=np.concatenate([start, smoothed.p], axis=1),
        u=u,
        N=N,
        D=_product(root, known_v @ root),
        x_c=_product(noise, ahead - now),
        x_d=-_product(root, C @ cov),
        loglik=np.asarray(smoothed.loglik),
    )


def _answer_by_recursions(problem: SmoothingProblem, data: Observations) -> _Answer:
    """From the filter and its adjoint, with no inverse of W, V or P0.

    As in `kalman_smoother`, x[0] = m0 + root b with a vague part b that is estimated. What is known
    with b given is followed by the part of its error: with h the Hessian of -L in b, and X, P, U
    the derivatives of x, p, u in b, the costates' covariance is N - P'h^-1 P, and so on.
    """
    base, root = _split_prior(problem)
    filtering = _Filter(problem, data, base)
    K, factor, A = filtering.K, filtering.factor, problem.A
    roots = substitute(factor, np.broadcast_to(np.eye(problem.ny), factor.shape))  # F^-1/2
    weighted = roots @ data.C
    AK = np.zeros_like(K)  # at T there is nothing left to predict
    AK[:-1] = A @ K[:-1]

    def smooth(start: Array, c: Array | float, z: Array) -> tuple[Array, Array, Array, Array]:
        predicted = filtering.predict(start, c, z)
        e = filtering.whiten(predicted, z)
        p = filtering.costates(e)
        u = times(roots, e, transpose=True)
        u[..., :-1, :] -= times(AK[:-1], p[..., 1:, :], transpose=True)
        return e, filtering.smooth(predicted, z, p), p, u

    nothing = np.zeros((len(root), *data.z.shape[-2:]))
    slopes, X, P, U = smooth(root, 0.0, nothing)
    e = filtering.whiten(filtering.predict(problem.m0, problem.c, data.z), data.z)
    L, b = _estimate_start(problem, data, slopes, e)
    e, x, p, u = smooth(problem.m0 + b @ root, problem.c, data.z)
    loglik = filtering.loglik(e, data) - np.log(np.abs(L.diagonal())).sum()
    if problem.P0 is not None:
        loglik -= 0.5 * (b * b).sum(axis=-1)

    # How p, u and x answer to c and d, with b given, and with b following.
    X, P, U = (substitute(L, z.swapaxes(0, 1)) for z in (X, P, U))  # (T+1, k, ...)
    N, _ = congruences(filtering.loop.A, _product(weighted, weighted))
    ahead = A @ filtering.cov[:-1]
    pulled = N[1:] @ ahead
    cov = filtering.cov + _product(X, X)
    cov[:-1] -= _product(ahead, pulled)
    x_c = _product(P[1:], X[:-1]) - pulled
    D = _product(roots, roots) - _product(U, U)
    D[:-1] += _product(AK[:-1], N[1:] @ AK[:-1])
    x_d = _product(U, X) - _transposed(K)
    x_d[:-1] += _product(AK[:-1], pulled)
    N -= _product(P, P)
    return _Answer(x, cov, p, u, N, D, x_c, x_d, loglik)


def _score(problem: SmoothingProblem, expected: _Expected) -> Score:
    """The gradients in the shapes of the problem's arrays."""
    gradients: dict[str, Array | None] = dict.fromkeys(_PRIOR)
    for name, gradient in expected.gradients.items():
        array = getattr(problem, name)
        if name in _PRIOR and problem.P0 is None:
            continue
        gradients[name] = gradient if gradient.ndim == array.ndim else gradient.sum(axis=0)
    return Score(**gradients, loglik=expected.loglik)  # type: ignore[arg-type]


def _learnable(problem: SmoothingProblem, learn: Iterable[str]) -> set[str]:
    """The names in `learn`, checked against the problem."""
    names = {learn} if isinstance(learn, str) else set(learn)
    if not names:
        raise ArgumentError(f"learn is empty, expected some of: {', '.join(_NAMES)}")
    for name in sorted(names, key=str):
        check_choice("a name in learn", name, _NAMES)
        if name in _PRIOR and problem.P0 is None:
            raise ArgumentError(f"{name} cannot be learnt: P0 is None, there is no prior")
        for array in (name, {"A": "W", "c": "W", "C": "V", "d": "V"}.get(name, name)):
            if getattr(problem, array).ndim > _AXES[array]:
                raise ArgumentError(
                    f"{array} varies in time, and em learns {name} only where it does not; "
                    "give a constant one, or use fit with a map of your own"
                )
    return names


def _maximise(problem: SmoothingProblem, expected: _Expected, names: set[str]) -> SmoothingProblem:
    """The problem with the arrays in `names` as one step of EM has them."""
    new = {name: getattr(problem, name) for name in _NAMES}
    totals = {
        name: gradient.sum(axis=0) if gradient.ndim > new[name].ndim else gradient
        for name, gradient in expected.gradients.items()
        if name in names
    }
    n = problem.n
    for matrix, offset, noise, S in (
        ("A", "c", "W", expected.driven),
        ("C", "d", "V", expected.seen),
    ):
        columns = [*range(n * (matrix in names)), *([n] if offset in names else [])]
        step, count, old = np.zeros((len(new[noise][0]), n + 1)), S[n, n], new[noise]
        if columns:
            G = np.zeros_like(step)
            G[:, :n], G[:, n] = totals.get(matrix, 0.0), totals.get(offset, 0.0)
            step[:, columns] = _regress((old @ G)[:, columns], S[np.ix_(columns, columns)])
        if matrix in names:
            new[matrix] = new[matrix] + step[:, :n]
        if offset in names:
            new[offset] = new[offset] + step[:, n]
        if noise in names and count:
            change = 2 * old @ totals[noise] @ old - step @ S @ step.T
            new[noise] = _covariance(old + change / count)
    moment = expected.start / expected.series
    move = moment[:n, n] if "m0" in names else np.zeros(n)
    new["m0"] = problem.m0 + move
    if "P0" in names:  # the mean of (x[0] - m0 - move)(...)'
        cross = np.outer(moment[:n, n], move)
        new["P0"] = _covariance(moment[:n, :n] - cross - cross.T + np.outer(move, move))
    return SmoothingProblem(**new)


def _covariance(P: Array) -> Array:
    """P made symmetric, and semidefinite where it is singular and rounding errors tip it over."""
    P = 0.5 * (P + P.T)
    values, vectors = np.linalg.eigh(P)
    return P if values[0] >= 0 else (vectors * np.maximum(values, 0.0)) @ vectors.T


def _regress(wz: Array, zz: Array) -> Array:
    """The step wz zz^-1; zero in the directions of z that never occur, so that old values stay."""
    size = np.sqrt(zz.diagonal())
    size = np.where(size > 0, size, 1.0)
    solution = np.linalg.lstsq(zz / np.outer(size, size), (wz / size).T, rcond=None)[0]
    return np.asarray(solution.T / size)


def _build(
    build: Callable[[Array], SmoothingProblem], theta: Array, first: SmoothingProblem | None = None
) -> SmoothingProblem:
    """What the user's map makes of theta, checked to be a problem of the same kind as the first."""
    problem = build(theta.copy())
    if not isinstance(problem, SmoothingProblem):
        raise ArgumentError(
            f"build returned {type(problem).__name__} at theta = {theta}, expected a SmoothingProblem"
        )
    for name in _NAMES:
        shape = np.shape(getattr(problem, name))
        if first is not None and shape != np.shape(getattr(first, name)):
            raise ArgumentError(
                f"build returned {name} of shape {shape} at theta = {theta}, and of shape "
                f"{np.shape(getattr(first, name))} at theta0; shapes must not depend on theta"
            )
    return problem


def _product(M: Array, N: Array) -> Array:
    """M'N at every stage."""
    return np.asarray(_transposed(M) @ N)


def _transposed(M: Array) -> Array:
    return M.swapaxes(-1, -2)
