"""Plans of a receding horizon as dense quadratic programs, solved by PIQP; and random plants for them."""

from __future__ import annotations

import numpy as np
import pytest
from random_problems import psd, with_spectral_radius

from lqrad import LQProblem


def least(H, g, equal=None, rows=None):
    """Min 1/2 z'Hz + g'z subject to E z = e, low <= G z <= high, by PIQP to 1e-12."""
    piqp = pytest.importorskip("piqp")
    solver = piqp.DenseSolver()
    solver.settings.eps_abs, solver.settings.eps_rel, solver.settings.max_iter = 1e-12, 1e-12, 500
    E, e = (None, None) if equal is None else equal
    G, low, high = (None, None, None) if rows is None else rows
    solver.setup(0.5 * (H + H.T), g, E, e, G, low, high)
    assert "SOLVED" in str(solver.solve())
    return solver.result.x


def stage(z, t, dim):
    return z if z.ndim == dim else z[t]


def dense_plan(problem, T, x0, x_ref, u_ref, d, bounds, before, rate_weight=None, moves=None):
    """Inputs alone are the variables: the cost of the deviations by a loop, probed by unit inputs.

    `moves` (T,) says which of the variables is the input of a step.
    """
    n, m = problem.n, problem.m

    def states(u):
        x = [np.asarray(x0, float)]
        for t in range(T):
            A, B, c = (stage(problem.A, t, 2), stage(problem.B, t, 2), stage(problem.c, t, 1))
            x.append(A @ x[-1] + B @ u[t] + c + d[t])
        return np.array(x)

    def parts(u):
        x = states(u)
        change = np.diff(u, axis=0, prepend=before[None])
        return np.concatenate([z.ravel() for z in (x - x_ref, u - u_ref, change)]), x

    moves = np.arange(T) if moves is None else moves
    count = moves.max() + 1
    zero = np.zeros((T, m))
    (w0, free), units = parts(zero), [e.reshape(count, m)[moves] for e in np.eye(count * m)]
    W = np.array([parts(e)[0] - w0 for e in units]).T
    X = np.array([(parts(e)[1] - free)[1:].ravel() for e in units]).T
    weight = np.zeros((len(w0), len(w0)))
    for t in range(T):
        i, k = slice(t * n, t * n + n), slice((T + 1) * n + t * m, (T + 1) * n + t * m + m)
        M = stage(problem.M, t, 2)
        weight[i, i], weight[k, k] = stage(problem.Q, t, 2), stage(problem.R, t, 2)
        weight[i, k], weight[k, i] = M, M.T
        if rate_weight is not None:
            k = slice(k.start + T * m, k.stop + T * m)
            weight[k, k] = rate_weight
    weight[T * n : (T + 1) * n, T * n : (T + 1) * n] = problem.S
    U = np.array([e.ravel() for e in units]).T
    G = np.vstack([U, X, W[-T * m :]])
    shift = np.concatenate([np.zeros(T * m), free[1:].ravel(), w0[-T * m :]])
    names = ("input_bounds", "state_bounds", "rate_bounds")
    widths = (m, n, m)
    low, high = (
        np.concatenate(
            [
                np.tile(np.broadcast_to(bounds.get(name, (-np.inf, np.inf))[k], width), T)
                for name, width in zip(names, widths, strict=True)
            ]
        )
        for k in (0, 1)
    )
    kept = np.isfinite(low) | np.isfinite(high)
    rows = (G[kept], (low - shift)[kept], (high - shift)[kept]) if kept.any() else None
    u = least(W.T @ weight @ W, W.T @ weight @ w0, rows=rows).reshape(count, m)[moves]
    w, x = parts(u)
    return u, x, 0.5 * w @ weight @ w


def random_plant(rng, T=None):
    """Constant, or with everything varying over T stages; M != 0, linear dynamics c."""
    n, m = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    lead = () if T is None else (T,)

    def each(make):
        return make() if T is None else np.array([make() for _ in range(T)])

    weight = each(lambda: psd(rng, n + m) + 0.3 * np.eye(n + m))
    problem = LQProblem(
        each(lambda: with_spectral_radius(rng.normal(size=(n, n)), rng.uniform(0.6, 1.2))),
        rng.normal(size=(*lead, n, m)),
        weight[..., :n, :n],
        weight[..., n:, n:],
        psd(rng, n) + np.eye(n),
        M=weight[..., :n, n:],
        c=0.3 * rng.normal(size=(*lead, n)),
    )
    return problem, rng.normal(size=n)


def random_bounds(rng, x, u, before):
    """Limits that cut into a trajectory, so that some are at work, and that u = 0 keeps mostly."""
    bounds = {}
    if rng.random() < 0.8:
        far = np.abs(u).max(axis=0) * rng.uniform(0.5, 0.9)
        bounds["input_bounds"] = (-far, far)
    if rng.random() < 0.4:
        far = np.abs(np.diff(u, axis=0, prepend=before[None])).max(axis=0) * rng.uniform(0.6, 0.9)
        bounds["rate_bounds"] = (-far, far)
    if not bounds or rng.random() < 0.4:
        far = np.abs(x[1:]).max(axis=0) * rng.uniform(0.9, 1.1)
        bounds["state_bounds"] = (-far, far)
    return bounds
