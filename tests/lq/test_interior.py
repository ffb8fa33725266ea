"""Limits on inputs alone: the dual method on ordinary problems, and proofs where it has no digits left."""

from __future__ import annotations

import numpy as np
import pytest

import lqrad
from lqrad import LQProblem, Status
from lqrad.lq.interior import interior, well_within
from lqrad.lq.limits import Limited


def limits_on_inputs(seed):
    """A random problem of ordinary size, rows that limit inputs, and a start where some are at work."""
    rng = np.random.default_rng([13, seed])
    n, m, T = (int(rng.integers(1, high)) for high in (5, 4, 25))
    A = rng.normal(size=(n, n))
    A *= rng.uniform(0.5, 1.3) / np.abs(np.linalg.eigvals(A)).max()
    F = rng.normal(size=(n + m, n + m))
    W = F @ F.T + 0.1 * np.eye(n + m)
    problem = LQProblem(
        A,
        rng.normal(size=(n, m)),
        W[:n, :n],
        W[n:, n:],
        M=W[:n, n:],
        c=rng.normal(size=n),
        q=rng.normal(size=n),
        r=rng.normal(size=m),
    )
    D = np.diag(rng.uniform(0.5, 2, m) * rng.choice([-1, 1], m))
    D = np.vstack([D, D[: int(rng.integers(0, m))]])
    C = rng.normal(size=(len(D), n)) * (np.arange(len(D)) >= m)[:, None]
    x0 = 3 * rng.normal(size=n)
    high = np.tile(rng.uniform(0.3, 3, len(D)), (T, 1))
    low = np.where(rng.random(len(D)) < 0.2, -np.inf, -high)
    low[:, m:], high[:, m:] = -1e3, 1e3  # a change that a clipped input can keep
    return problem, T, C, D, low, high, x0


@pytest.mark.parametrize("seed", range(12))
def test_it_ends_where_the_dual_method_ends(seed):
    problem, T, C, D, low, high, x0 = limits_on_inputs(seed)
    limited = Limited(
        problem,
        T,
        C,
        D,
        np.zeros((0, problem.n)),
        soft=np.zeros(len(D), bool),
        names=[f"row {i}" for i in range(len(D))],
    )
    plan = limited.solve(x0, low, high)
    assert plan.status is Status.CONVERGED_GAP
    free = lqrad.riccati(problem, T)
    start = well_within(problem, C, D, low, high, x0, free.K, -free.k)
    weights = np.block([[problem.Q, problem.M], [problem.M.T, problem.R]])

    def slopes(x, u, y):
        z = np.hstack([x[:-1], u]) @ weights
        in_x = np.vstack([z[:, : problem.n] + problem.q + y @ C, problem.S @ x[-1] + problem.s])
        return in_x, z[:, problem.n :] + problem.r + y @ D

    found = interior(
        problem,
        C,
        D,
        low,
        high,
        *start,
        slopes=slopes,
        unit=np.ones_like(low),
        size=1.0,
        tol=1e-8,
        max_iter=50,
    )
    assert found.iterations < 40
    size = abs(plan.u).max()
    np.testing.assert_allclose(found.u, plan.u, atol=1e-5 * size)
    assert problem.cost(found.x, found.u) == pytest.approx(plan.cost, rel=1e-9, abs=1e-9)
    at = abs(plan.y) > 1e-3 * abs(plan.y).max(initial=1e-300)
    assert found.at[at].all()
    np.testing.assert_array_equal(np.sign(found.y[at]), np.sign(plan.y[at]))


def saturating(seed):
    """An unstable plant or a chain, a long horizon, and inputs of which most end at their limits."""
    rng = np.random.default_rng([14, seed])
    n, m, T = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.choice([30, 60, 100]))
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, m))
    A *= rng.uniform(1.0, 1.6) / np.abs(np.linalg.eigvals(A)).max()
    if seed % 2:  # inputs that all do the same, at different prices
        A, B = np.eye(n) + np.eye(n, k=1), np.zeros((n, m))
        B[-1] = rng.uniform(0.5, 2, m)
    problem = LQProblem(
        A, B, np.eye(n), np.diag(rng.uniform(0.1, 10, m)), 10.0 ** rng.uniform(-6, 6) * np.eye(n)
    )
    high = rng.uniform(0.2, 2, m)
    bounds = {"input_bounds": (-high, high)}
    if rng.random() < 0.5:
        bounds["rate_bounds"] = (-0.3 * high, 0.3 * high)
    return problem, T, bounds, 10 * rng.normal(size=n)


@pytest.mark.parametrize("seed", range(24))
def test_saturated_inputs_end_at_a_proof(seed):
    problem, T, bounds, x0 = saturating(seed)
    plan = lqrad.mpc(problem, T, **bounds).plan(x0)
    assert plan.status is Status.CONVERGED_GAP, plan
    assert plan.gap_bound <= 2e-8 * plan.cost
    low, high = bounds["input_bounds"]
    assert (plan.u <= high * (1 + 1e-7)).all()
    assert (plan.u >= low * (1 + 1e-7)).all()


def test_what_is_within_keeps_off_its_limits():
    for seed in range(12):
        problem, T, C, D, low, high, x0 = limits_on_inputs(seed)
        free = lqrad.riccati(problem, T)
        x, u = well_within(problem, C, D, low, high, x0, free.K, -free.k)
        g = x[:-1] @ C.T + u @ D.T
        np.testing.assert_allclose(x, problem.simulate(x0, u), rtol=1e-9, atol=1e-9)
        assert (g[:, : problem.m] <= high[:, : problem.m]).all()
        two = np.isfinite(low[0]) & (np.arange(len(D)) < problem.m)
        inside = 0.1 * (high - low)[:, two] * (1 - 1e-12)
        assert (g[:, two] - low[:, two] >= inside).all()
        assert (high[:, two] - g[:, two] >= inside).all()
