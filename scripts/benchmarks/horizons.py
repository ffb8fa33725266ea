"""Receding horizons: steps in closed loop under noise, of all and of those with a bound at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from engine import Row, Way, has

import lqrad

Solve = Callable[[np.ndarray], np.ndarray]


class Plant(NamedTuple):
    """A random unstable plant with limits on its inputs and states, under noise."""

    n: int
    m: int
    T: int
    limit: float
    reach: float
    radius: float
    noise: float

    def problem(self, seed: int) -> tuple[lqrad.LQProblem, np.random.Generator]:
        rng = np.random.default_rng(seed)
        A = rng.normal(size=(self.n, self.n))
        A *= self.radius / np.abs(np.linalg.eigvals(A)).max()
        B = rng.normal(size=(self.n, self.m))
        return lqrad.LQProblem(A, B, np.eye(self.n), 0.1 * np.eye(self.m)), rng


PLANTS = {
    "n=12, m=4, T=20": Plant(12, 4, 20, 0.2, 10.0, 1.05, 0.3),
    "n=4, m=1, T=50": Plant(4, 1, 50, 0.5, 10.0, 1.02, 0.1),
    "n=30, m=10, T=50": Plant(30, 10, 50, 0.2, 10.0, 1.02, 0.2),
}
_STEPS = 50


class Condensed(NamedTuple):
    """The quadratic program in the inputs alone: 1/2 u'Hu + (F x0)'u, and states Phi x0 + G u."""

    H: np.ndarray
    F: np.ndarray
    G: np.ndarray
    Phi: np.ndarray


def condensed(problem: lqrad.LQProblem, T: int) -> Condensed:
    n, m = problem.n, problem.m
    Phi, G = np.zeros((T * n, n)), np.zeros((T * n, T * m))
    power = np.eye(n)
    for t in range(T):
        if t:
            G[t * n : (t + 1) * n, : t * m] = problem.A @ G[(t - 1) * n : t * n, : t * m]
        G[t * n : (t + 1) * n, t * m : (t + 1) * m] = problem.B
        power = problem.A @ power
        Phi[t * n : (t + 1) * n] = power
    weights = [problem.Q] * (T - 1) + [problem.S]
    QG = np.concatenate([W @ G[t * n : (t + 1) * n] for t, W in enumerate(weights)])
    H = G.T @ QG + np.kron(np.eye(T), problem.R)
    return Condensed(0.5 * (H + H.T), QG.T @ Phi, G, Phi)


def daqp_of(problem: lqrad.LQProblem, plant: Plant) -> Solve:
    """Its workspace is kept from step to step, and starts from the last active set."""
    import daqp

    qp, T = condensed(problem, plant.T), plant.T
    high = np.concatenate([np.full(T * plant.m, plant.limit), np.full(T * plant.n, plant.reach)])
    model = daqp.Model()
    model.setup(qp.H, np.zeros(len(qp.H)), qp.G, high, -high)
    inputs = T * plant.m

    def solve(x0: np.ndarray) -> np.ndarray:
        upper, lower, shift = high.copy(), -high, qp.Phi @ x0
        upper[inputs:] -= shift
        lower[inputs:] -= shift
        model.update(f=qp.F @ x0, bupper=upper, blower=lower)
        return model.solve()[0][: plant.m]

    return solve


def stages(problem: lqrad.LQProblem, plant: Plant) -> tuple[Any, Any, np.ndarray]:
    """Cost, dynamics and highs of the program in u[0], x[1], u[1], x[2], ...: banded by stages."""
    from scipy import sparse

    n, m, T = plant.n, plant.m, plant.T
    blocks = [z for t in range(T) for z in (problem.R, problem.Q if t < T - 1 else problem.S)]
    P = sparse.block_diag(blocks, format="csc")
    rows = []
    for t in range(T):
        row: list[Any] = [None] * (2 * T)
        row[2 * t], row[2 * t + 1] = problem.B, -np.eye(n)
        if t:
            row[2 * t - 1] = problem.A
        else:
            row[2 * T - 1] = sparse.csc_matrix((n, n)) if T > 1 else row[2 * T - 1]
        rows.append(row)
    return (
        P,
        sparse.bmat(rows, format="csc"),
        np.tile(np.r_[m * [plant.limit], n * [plant.reach]], T),
    )


def piqp_of(problem: lqrad.LQProblem, plant: Plant, *, multistage: bool) -> Solve:
    import piqp

    P, dynamics, high = stages(problem, plant)
    solver = piqp.SparseSolver()
    if multistage:
        solver.settings.kkt_solver = piqp.KKTSolver.sparse_multistage
    solver.settings.eps_abs = solver.settings.eps_rel = 1e-8
    right = np.zeros(dynamics.shape[0])
    solver.setup(P, np.zeros(len(high)), dynamics, right, x_l=-high, x_u=high)

    def solve(x0: np.ndarray) -> np.ndarray:
        right[: plant.n] = -problem.A @ x0
        solver.update(b=right)
        solver.solve()
        return np.array(solver.result.x[: plant.m])

    return solve


def osqp_of(problem: lqrad.LQProblem, plant: Plant, eps: float) -> Solve:
    """With its own warm start."""
    import osqp
    from scipy import sparse

    P, dynamics, high = stages(problem, plant)
    A = sparse.vstack([dynamics, sparse.eye(len(high))], format="csc")
    low, top = np.r_[np.zeros(dynamics.shape[0]), -high], np.r_[np.zeros(dynamics.shape[0]), high]
    solver = osqp.OSQP()
    options = {"eps_abs": eps, "eps_rel": eps, "max_iter": 100_000, "verbose": False}
    solver.setup(sparse.triu(P, format="csc"), np.zeros(len(high)), A, low, top, **options)

    def solve(x0: np.ndarray) -> np.ndarray:
        low[: plant.n] = top[: plant.n] = -problem.A @ x0
        solver.update(l=low, u=top)
        return solver.solve(raise_error=False).x[: plant.m]

    return solve


def hpipm_of(problem: lqrad.LQProblem, plant: Plant) -> Solve:
    """As CasADi's wheel has it, the only one that pip finds; it sets the solver up at each call."""
    import casadi

    n, m, T = plant.n, plant.m, plant.T
    stage = scipy.linalg.block_diag(problem.Q, problem.R)
    H = scipy.linalg.block_diag(*T * [stage], problem.S)
    gaps = np.zeros((T * n, len(H)))
    for t in range(T):
        gaps[t * n : (t + 1) * n, t * (n + m) : (t + 1) * (n + m) + n] = np.hstack(
            [problem.A, problem.B, -np.eye(n)]
        )
    H, gaps = casadi.sparsify(H), casadi.sparsify(gaps)
    sizes = ("res_g_max", "res_b_max", "res_d_max", "res_m_max")
    options = {"hpipm": {"mode": "speed"} | dict.fromkeys(sizes, 1e-8)}
    qp = casadi.conic("qp", "hpipm", {"h": H.sparsity(), "a": gaps.sparsity()}, options)
    each = np.r_[n * [plant.reach], m * [plant.limit]]
    high = np.r_[np.tile(each, T), n * [plant.reach]]
    low = -high

    def solve(x0: np.ndarray) -> np.ndarray:
        low[:n] = high[:n] = x0
        found = qp(h=H, a=gaps, lba=0, uba=0, lbx=low, ubx=high)
        return np.array(found["x"])[n : n + m, 0]

    return solve


def mpc(quick: bool) -> Iterator[Row]:
    for name, plant in list(PLANTS.items())[: 1 if quick else None]:
        plain, rng = plant.problem(3)
        bounds = (-plant.limit, plant.limit), (-plant.reach, plant.reach)

        def controller(
            plain: Any = plain, bounds: Any = bounds, T: int = plant.T
        ) -> lqrad.design.MPC:
            return lqrad.mpc(plain, T, input_bounds=bounds[0], state_bounds=bounds[1])

        ours = controller()
        problem, x = ours.problem, 0.5 * rng.normal(size=plant.n)
        states, at_work = [], []
        for _ in range(_STEPS):
            u = ours.step(x)
            states.append(x)
            at_work.append(bool(ours.last.multipliers.any()))
            x = problem.A @ x + problem.B @ u + plant.noise * rng.normal(size=plant.n)
        peers: dict[tuple[str, str], Solve] = {}
        if has("daqp"):
            peers["daqp", "condensed, warm start"] = daqp_of(problem, plant)
        if has("piqp"):
            peers["PIQP to 1e-8", "multistage"] = piqp_of(problem, plant, multistage=True)
            peers["PIQP to 1e-8", "sparse"] = piqp_of(problem, plant, multistage=False)
        if has("casadi"):
            peers["HPIPM to 1e-8", "through CasADi"] = hpipm_of(problem, plant)
        if has("osqp"):
            peers["OSQP to 1e-8", "warm start"] = osqp_of(problem, plant, 1e-8)
        for which, chosen in (("a bound at work", True), ("none at work", False)):
            at = [x for x, active in zip(states, at_work, strict=True) if active == chosen]
            if not at:
                continue

            def run(step: Solve, at: Any = at) -> list[np.ndarray]:
                return [step(x) for x in at]

            yield Row(
                f"receding horizon, {name}, {len(at)} steps, {which}",
                lambda run=run, c=ours: run(c.step),
                lambda found: [found],
                [
                    Way(*key, lambda run=run, s=solve: run(s), lambda found: [found])
                    for key, solve in peers.items()
                ],
                1e-6,
                5,
            )
