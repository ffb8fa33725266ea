"""Smoothing: filters, smoothers, likelihoods, many series, and fits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from engine import Row, Way, has

import lqrad
from lqrad.smoothing import kalman_filter, kalman_smoother, rts_smoother

_PARTS = ("means", "means and covariances", "log-likelihood")


def random_model(n: int, ny: int) -> lqrad.SmoothingProblem:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, n))
    A *= 0.95 / np.abs(np.linalg.eigvals(A)).max()
    C, one = rng.normal(size=(ny, n)), np.eye(n)
    return lqrad.SmoothingProblem(A, C, one, np.eye(ny), np.zeros(n), one)


def local_level() -> lqrad.SmoothingProblem:
    return lqrad.SmoothingProblem([[1]], [[1]], [[0.1]], [[1]], [0], [[10]])


def series_of(model: lqrad.SmoothingProblem, T: int, gaps: bool, *batch: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    y = rng.normal(size=(*batch, T + 1, model.ny))
    if gaps:
        y[rng.random(y.shape) < 0.1] = np.nan
    return y


def fresh(model: lqrad.SmoothingProblem) -> lqrad.SmoothingProblem:
    """The same model anew, so that nothing that was computed for a series before is kept."""
    return lqrad.SmoothingProblem(model.A, model.C, model.W, model.V, model.m0, model.P0)


def statsmodels_of(model: lqrad.SmoothingProblem, y: np.ndarray, what: int) -> Any:
    """The same model and series in statsmodels' compiled code, without its early freezing."""
    from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

    theirs = KalmanSmoother(
        k_endog=model.ny, k_states=model.n, k_posdef=model.n, smoother_output=what
    )
    theirs.tolerance = 0
    theirs.bind(np.ascontiguousarray(y))
    theirs["design"], theirs["obs_cov"] = model.C, model.V
    theirs["transition"], theirs["state_cov"] = model.A, model.W
    theirs["selection"] = np.eye(model.n)
    theirs.initialize_known(model.m0, model.P0)
    return theirs


def smoothed(found: Any) -> list[Any]:
    return [
        found.smoothed_state.T,
        *([found.smoothed_state_cov.T] if found.smoothed_state_cov is not None else []),
    ]


def filters(quick: bool) -> Iterator[Row]:
    T = 10_000 if quick else 100_000
    for name, model in (("local level", local_level()), ("n=4, ny=2", random_model(4, 2))):
        y = series_of(model, T, False)
        for work in (kalman_filter, rts_smoother):
            peers = []
            if has("statsmodels"):
                from statsmodels.tsa.statespace.kalman_smoother import (
                    SMOOTHER_STATE,
                    SMOOTHER_STATE_COV,
                )

                theirs = statsmodels_of(model, y, SMOOTHER_STATE | SMOOTHER_STATE_COV)
                if work is kalman_filter:
                    peers.append(
                        Way(
                            "statsmodels",
                            "",
                            theirs.filter,
                            lambda f: [f.filtered_state.T, [f.llf]],
                        )
                    )
                else:
                    peers.append(Way("statsmodels", "", theirs.smooth, smoothed))

            def read(found: Any, work: Any = work) -> list[Any]:
                return [found.x, [found.loglik]] if work is kalman_filter else [found.x, found.cov]

            row = f"`{work.__name__}`, {name}, T={T:,}"
            yield Row(row, lambda w=work, m=model, y=y: w(fresh(m), y), read, peers, 1e-7, 3)


def smoother(quick: bool) -> Iterator[Row]:
    T = 1000
    for n, ny in ((1, 1), (4, 2)) if quick else ((1, 1), (4, 2), (12, 4), (20, 5)):
        model = random_model(n, ny)
        for gaps in (False, True):
            y = series_of(model, T, gaps)
            for part in _PARTS:
                peers = []
                if has("statsmodels"):
                    from statsmodels.tsa.statespace.kalman_smoother import (
                        SMOOTHER_STATE,
                        SMOOTHER_STATE_COV,
                    )

                    both = SMOOTHER_STATE | SMOOTHER_STATE_COV
                    theirs = statsmodels_of(model, y, SMOOTHER_STATE if part == "means" else both)
                    if part == "log-likelihood":
                        peers.append(
                            Way("statsmodels", "", theirs.loglike, lambda value: [[value]])
                        )
                    else:
                        peers.append(Way("statsmodels", "", theirs.smooth, smoothed))
                if part == "log-likelihood":

                    def ours(m: Any = model, y: Any = y) -> Any:
                        return lqrad.smoothing.loglik(fresh(m), y)

                    def read(value: Any) -> list[Any]:
                        return [[value]]
                else:

                    def ours(m: Any = model, y: Any = y, c: bool = part != "means") -> Any:
                        return kalman_smoother(fresh(m), y, covariances=c)

                    def read(found: Any, c: bool = part != "means") -> list[Any]:
                        return [found.x, found.cov] if c else [found.x]

                name = f"smoother, {part}, n={n}, ny={ny}{', gaps' if gaps else ''}"
                yield Row(name, ours, read, peers, 1e-7, 5)


def simdkalman_of(
    model: lqrad.SmoothingProblem, y: np.ndarray, what: str, covariances: bool
) -> Way:
    """Filter or smoother of many series at once; its states are the same where its prior is ours."""
    from simdkalman import KalmanFilter

    theirs = KalmanFilter(model.A, model.W, model.C, model.V)
    asked = {"smoothed": what == "smoothed", "filtered": what == "filtered"}

    def call() -> Any:
        prior = {"initial_value": model.m0, "initial_covariance": model.P0}
        return theirs.compute(y, 0, **prior, **asked, states=True, observations=False)

    def read(found: Any) -> list[Any]:
        states = getattr(found, what).states
        return [states.mean, states.cov] if covariances else [states.mean]

    return Way("simdkalman", "", call, read)


def dynamax_of(model: lqrad.SmoothingProblem, y: np.ndarray, quick: bool) -> list[Way]:
    """Its smoother over all series, step by step and by an associative scan, compiled for 9 seconds.

    It adds 1e-9 to each covariance that it factors, unasked: here, where variances are of size 1, its
    means are 4e-10 from ours; with variances of 1e-4 they are 3e-6 from them, with 1e-8 3 %.
    """
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    with warnings.catch_warnings():  # of its imports
        warnings.simplefilter("ignore")
        from dynamax.linear_gaussian_ssm import inference, parallel_inference

    names = ("m0", "P0", "A", "W", "C", "V")
    given = inference.make_lgssm_params(*(jnp.asarray(getattr(model, name)) for name in names))
    series, found = jnp.asarray(y), []
    ways = {"a scan": inference} | ({} if quick else {"in parallel": parallel_inference})
    for name, module in ways.items():
        f = jax.jit(jax.vmap(lambda z, m=module: m.lgssm_smoother(given, z).smoothed_means))
        call = partial(lambda f: jax.block_until_ready(f(series)), f)
        found.append(Way("dynamax, JAX vmap", name, call, lambda x: [x]))
    return found


def many(quick: bool) -> Iterator[Row]:
    """Simdkalman takes a row with a gap for one that is missing whole, dynamax takes no gaps."""
    count = 100 if quick else 1000
    model = random_model(4, 2)
    for missing in ("nothing", "different entries", "different rows"):
        y = series_of(model, 99, missing == "different entries", count)
        if missing == "different rows":
            y[np.random.default_rng(2).random(y.shape[:2]) < 0.1] = np.nan
        works = (
            ("means", partial(kalman_smoother, covariances=False), "smoothed", False),
            ("`kalman_filter`", kalman_filter, "filtered", True),
            ("`rts_smoother`", rts_smoother, "smoothed", True),
        )
        for name, work, what, covariances in works[:1] if missing == "nothing" else works:
            peers = []
            if has("statsmodels"):
                from statsmodels.tsa.statespace.kalman_smoother import (
                    SMOOTHER_STATE,
                    SMOOTHER_STATE_COV,
                )

                asked = SMOOTHER_STATE | SMOOTHER_STATE_COV if covariances else SMOOTHER_STATE
                theirs = [statsmodels_of(model, one, asked) for one in y]

                def loop(
                    theirs: Any = theirs, what: str = what, covariances: bool = covariances
                ) -> list[Any]:
                    found = [one.smooth() if what == "smoothed" else one.filter() for one in theirs]
                    states = [getattr(one, f"{what}_state").T for one in found]
                    if not covariances:
                        return [states]
                    return [states, [getattr(one, f"{what}_state_cov").T for one in found]]

                peers.append(Way("statsmodels", "a loop, models made before", loop, lambda f: f))
            if missing == "nothing" and has("dynamax"):
                peers += dynamax_of(model, y, quick)
            if missing != "different entries" and has("simdkalman"):
                peers.append(simdkalman_of(model, y, what, covariances))
            yield Row(
                f"{count:,} series, T=100, n=4, {name}, {missing} missing",
                lambda y=y, work=work: work(model, y),
                lambda found, c=covariances: [found.x, found.cov] if c else [found.x],
                peers,
                1e-7,
                3,
            )


def seasonal(theta: np.ndarray) -> lqrad.SmoothingProblem:
    """A level and a season of 12 of three log-variances: level, season, noise."""
    level, season, noise = np.exp(theta)
    A = np.zeros((12, 12))
    A[0, 0] = 1
    A[1, 1:] = -1
    A[2:, 1:-1] = np.eye(10)
    W = np.diag([level, season, *10 * [0.0]])
    C = np.eye(1, 12) + np.eye(1, 12, 1)
    return lqrad.SmoothingProblem(A, C, W, [[noise]], np.zeros(12), 1e4 * np.eye(12))


def level_alone(theta: np.ndarray) -> lqrad.SmoothingProblem:
    """A level of two log-variances: level, noise; its prior is vague."""
    level, noise = np.exp(theta)
    return lqrad.SmoothingProblem([[1]], [[1]], [[level]], [[noise]], [1000], [[1e7]])


def fit(quick: bool) -> Iterator[Row]:
    """Maximum likelihood from the starts that statsmodels takes, until both are within 1e-6 of it."""
    rng = np.random.default_rng(0)
    months = np.arange(180)
    simulated = np.cumsum(rng.normal(size=180)) + 5 * np.sin(2 * np.pi * months / 12)
    cases = [("the Nile, local level", level_alone, lqrad.datasets.load("nile")[1].reshape(-1), 0)]
    if not quick:
        y = simulated + rng.normal(size=180)
        cases.append(("180 months, level and season of 12", seasonal, y, 12))
    for name, build, y, season in cases:
        peers, start = (
            [],
            np.log([np.var(np.diff(y)) / 2, *([1.0] if season else []), np.var(y) / 2]),
        )
        if has("statsmodels"):
            from statsmodels.tsa.statespace.structural import UnobservedComponents

            theirs = UnobservedComponents(y, "local level", seasonal=season or None)
            model = build(start)
            theirs.ssm.initialize_known(model.m0, model.P0)
            theirs.ssm.tolerance, theirs.loglikelihood_burn = 0, 0
            # Theirs in the order irregular, level, seasonal; with their own start.
            call = partial(theirs.fit, disp=False)
            start = np.log(np.roll(theirs.start_params, -1))
            peers.append(Way("statsmodels", "L-BFGS, its own start", call, lambda r: [[r.llf]]))
        yield Row(
            f"fit, {name}",
            partial(lqrad.smoothing.fit, build, start, y[:, None]),
            lambda found: [[found.loglik]],
            peers,
            1e-6,
            3,
        )
