"""Linear-quadratic problems: gradients, Riccati sweeps, algebraic Riccati equations, batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
from engine import Row, Way, has, random_problem

import lqrad

Gradient = Callable[[Any], tuple[Any, Any]]


def numpy_gradient(
    problem: lqrad.LQProblem, x0: np.ndarray, u: np.ndarray
) -> tuple[float, np.ndarray]:
    """The value and gradient as one would write them from the equations."""
    A, B, Q, R, S = problem.A, problem.B, problem.Q, problem.R, problem.S
    T = len(u)
    x = np.empty((T + 1, len(x0)))
    x[0] = x0
    J = 0.0
    for t in range(T):
        J += 0.5 * (x[t] @ Q @ x[t] + u[t] @ R @ u[t])
        x[t + 1] = A @ x[t] + B @ u[t]
    J += 0.5 * x[T] @ S @ x[T]
    g = np.empty_like(u)
    p = S @ x[T]
    for t in reversed(range(T)):
        g[t] = R @ u[t] + B.T @ p
        p = A.T @ p + Q @ x[t]
    return J, g


def jax_ways() -> dict[str, Callable[..., Any]]:
    """The value and gradient of (u, x0, A, B, Q, R, S) in each way that we know, not yet compiled."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def in_the_scan(u, x0, A, B, Q, R, S):
        def step(x, v):
            return A @ x + B @ v, 0.5 * (x @ Q @ x + v @ R @ v)

        last, stages = jax.lax.scan(step, x0, u)
        return stages.sum() + 0.5 * last @ S @ last

    def total(before, last, u, Q, R, S):
        return 0.5 * (jnp.sum(before * (before @ Q)) + jnp.sum(u * (u @ R)) + last @ S @ last)

    def cost_outside(u, x0, A, B, Q, R, S):
        last, before = jax.lax.scan(lambda x, v: (A @ x + B @ v, x), x0, u)
        return total(before, last, u, Q, R, S)

    def inputs_outside(u, x0, A, B, Q, R, S):
        last, before = jax.lax.scan(lambda x, f: (A @ x + f, x), x0, u @ B.T)
        return total(before, last, u, Q, R, S)

    def by_hand(u, x0, A, B, Q, R, S):
        last, before = jax.lax.scan(lambda x, f: (A @ x + f, x), x0, u @ B.T)
        slopes = before @ Q
        _, p = jax.lax.scan(lambda p, f: (A.T @ p + f, p), S @ last, slopes, reverse=True)
        return total(before, last, u, Q, R, S), u @ R + p @ B

    def by_hand_and_diagonal(u, x0, A, B, Q, R, S):
        """Of weights that are known to be diagonal, as we find them to be."""
        q, r = jnp.diagonal(Q), jnp.diagonal(R)
        last, before = jax.lax.scan(lambda x, f: (A @ x + f, x), x0, u @ B.T)
        x_slopes, u_slopes = before * q, u * r
        _, p = jax.lax.scan(lambda p, f: (A.T @ p + f, p), S @ last, x_slopes, reverse=True)
        J = 0.5 * (jnp.sum(before * x_slopes) + jnp.sum(u * u_slopes) + last @ S @ last)
        return J, u_slopes + p @ B

    ways = {
        way.__name__: jax.value_and_grad(way) for way in (in_the_scan, cost_outside, inputs_outside)
    }
    ways |= {way.__name__: way for way in (by_hand, by_hand_and_diagonal)}
    return {name.replace("_", " "): way for name, way in ways.items()}


def jax_gradients(problem: lqrad.LQProblem, x0: np.ndarray) -> dict[str, Gradient]:
    """Those of one problem, compiled; its arrays are constants of the compiler."""
    import jax
    import jax.numpy as jnp

    ways = jax_ways()
    given = [jnp.asarray(z) for z in (x0, *(getattr(problem, name) for name in "ABQRS"))]
    return {name: jax.jit(lambda u, way=way: way(u, *given)) for name, way in ways.items()}


def arrays(problem: Any) -> list[np.ndarray]:
    """A, B, Q, R and S of a problem or a batch, which others may write on."""
    return [np.array(getattr(problem, name)) for name in "ABQRS"]


def pair(found: tuple[Any, Any]) -> list[Any]:
    return list(found)


def gradient(quick: bool) -> Iterator[Row]:
    sizes = [(2, 1, 100), (4, 2, 1000), (12, 6, 1000)]
    if not quick:
        sizes += [(30, 15, 1000), (100, 50, 1000), (300, 150, 1000)]
    for n, m, T in sizes:
        problem, rng = random_problem(n, m), np.random.default_rng(1)
        x0, u = rng.normal(size=n), rng.normal(size=(T, m))
        peers = [Way("NumPy loop", "", lambda p=problem, x=x0, u=u: numpy_gradient(p, x, u), pair)]
        if has("jax"):
            import jax
            import jax.numpy as jnp

            for name, f in jax_gradients(problem, x0).items():
                v = jnp.asarray(u)
                peers += [
                    Way("JAX", name, lambda f=f, v=v: jax.block_until_ready(f(v)), pair),
                    Way(
                        "JAX, NumPy in and out",
                        name,
                        lambda f=f, u=u: [np.asarray(z) for z in f(u)],
                        pair,
                    ),
                ]
        if has("numba"):
            import compiled

            given = (*arrays(problem), x0, u)
            for name, loops in compiled.ways(n, m, quick).items():
                call = partial(loops.gradient, *given)
                peers.append(Way("compiled loop, numba", name, call, pair))
        name = f"gradient, n={n}, m={m}, T={T}"
        yield Row(name, lambda p=problem, x=x0, u=u: p.value_and_gradient(x, u), pair, peers)


def numpy_riccati(
    problem: lqrad.LQProblem, x0: np.ndarray, T: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gains and the closed loop as one would write them from the equations."""
    A, B, P = (np.broadcast_to(problem.A, (T, problem.n, problem.n)), problem.B, problem.S)
    Q, R = problem.Q, problem.R
    K = np.empty((T, problem.m, problem.n))
    for t in reversed(range(T)):
        K[t] = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A[t])
        P = Q + A[t].T @ P @ (A[t] - B @ K[t])
        P = 0.5 * (P + P.T)
    x = np.empty((T + 1, problem.n))
    x[0] = x0
    for t in range(T):
        x[t + 1] = A[t] @ x[t] - B @ (K[t] @ x[t])
    return K[0], x


def crocoddyl_ways(problem: lqrad.LQProblem, x0: np.ndarray, T: int) -> list[Way]:
    """One pass of its solver, whose stages' derivatives are there already, and with them."""
    import crocoddyl

    zero = (
        np.zeros((problem.n, problem.m)),
        np.zeros(problem.n),
        np.zeros(problem.n),
        np.zeros(problem.m),
    )
    A = np.broadcast_to(problem.A, (T, problem.n, problem.n))

    def stage(A: np.ndarray, Q: np.ndarray) -> Any:
        return crocoddyl.ActionModelLQR(A, problem.B, Q, problem.R, *zero)

    running = (
        [stage(a, problem.Q) for a in A] if problem.A.ndim == 3 else T * [stage(A[0], problem.Q)]
    )
    shooting = crocoddyl.ShootingProblem(x0, running, stage(A[0], problem.S))
    solver = crocoddyl.SolverDDP(shooting)
    # Around zero, where nothing is linear: the policy from there is the answer from anywhere.
    solver.setCandidate((T + 1) * [np.zeros(problem.n)], T * [np.zeros(problem.m)], True)
    shooting.calc(solver.xs, solver.us)
    shooting.calcDiff(solver.xs, solver.us)

    def sweep() -> Any:
        solver.backwardPass()
        solver.forwardPass(1.0)
        return solver

    def all_of_it() -> Any:
        solver.computeDirection(True)
        solver.tryStep(1.0)
        return solver

    def read(solver: Any) -> list[Any]:
        x = [x0]  # the solver keeps the trajectory of its forward pass to itself
        for a, K in zip(A, solver.K, strict=True):
            x.append(a @ x[-1] - problem.B @ (K @ x[-1]))
        return [np.array(solver.K[0]), np.array(x)]

    return [
        Way("crocoddyl", "backward and forward pass", sweep, read),
        Way("crocoddyl", "with derivatives", all_of_it, read),
    ]


def compiled_ways(problem: lqrad.LQProblem, x0: np.ndarray, T: int, quick: bool) -> list[Way]:
    """All T stages, where ours stops once P has settled."""
    import compiled

    A, B, *weights = arrays(problem)
    A = A.reshape(-1, problem.n, problem.n)

    def call(loops: compiled.Loops) -> tuple[np.ndarray, np.ndarray]:
        K = loops.riccati(A, B, *weights, T)
        return K[0], compiled.rollout(A, B, K, x0)

    return [
        Way("compiled loop, numba", name, partial(call, loops), pair)
        for name, loops in compiled.ways(problem.n, problem.m, quick).items()
    ]


def riccati(quick: bool) -> Iterator[Row]:
    T = 1000
    for varying in (False, True):
        for n, m in ((4, 2), (12, 6)) if quick else ((4, 2), (12, 6), (30, 15), (100, 50)):
            problem, x0 = random_problem(n, m, 1.1), np.ones(n)
            if varying:
                # Scaled from stage to stage, so that no two stages are alike.
                A = problem.A * (1 + 0.1 * np.sin(np.arange(T)))[:, None, None]
                problem = lqrad.LQProblem(A, problem.B, problem.Q, problem.R, problem.S)

            def ours(
                p: lqrad.LQProblem = problem, x0: np.ndarray = x0, T: int | None = None
            ) -> Any:
                found = lqrad.riccati(p, T)
                return found.K[0], found.rollout(x0).x

            peers = [Way("NumPy loop", "", lambda p=problem, x=x0: numpy_riccati(p, x, T), pair)]
            if has("crocoddyl"):
                peers += crocoddyl_ways(problem, x0, T)
            if has("numba"):
                peers += compiled_ways(problem, x0, T, quick)
            name = f"Riccati, gains, rollout, {'varying' if varying else 'invariant'}, n={n}, m={m}"
            call = ours if varying else lambda ours=ours: ours(T=T)
            yield Row(name, call, pair, peers, 1e-7, 5 if n > 30 else 9)


def dare(quick: bool) -> Iterator[Row]:
    for n, m in ((4, 2), (20, 10)) if quick else ((4, 2), (20, 10), (100, 50), (300, 150)):
        problem = random_problem(n, m, 1.1)
        given = problem.A, problem.B, problem.Q, problem.R

        def one(P: Any) -> list[Any]:
            return [P]

        peers = [Way("SciPy", "", lambda g=given: scipy.linalg.solve_discrete_are(*g), one)]
        if has("control", "slycot"):
            import control

            def with_slycot(g: Any = given) -> Any:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return control.dare(*g, method="slycot")[0]

            peers.append(Way("python-control, slycot", "", with_slycot, one))
        yield Row(f"dare, n={n}, m={m}", lambda g=given: lqrad.dare(*g), one, peers, 1e-7, 5)
