"""Swing-ups by `ilqr`, by iLQR compiled by JAX, and as nonlinear programs of CasADi.

All start from no input and stop where they promise no more than 1e-10 of the cost, or where the
conditions of optimality hold to 1e-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from engine import Row, Way, has

import lqrad
from lqrad.nonlinear.systems import NonlinearSystem, cart_pole_swingup, pendulum_swingup


def pendulum(x: Any, u: Any, of: Any) -> list[Any]:
    """dx/dt, with the functions of a library."""
    return [x[1], 9.81 * of.sin(x[0]) - 0.1 * x[1] + u[0]]


def cart_pole(x: Any, u: Any, of: Any) -> list[Any]:
    s, c = of.sin(x[2]), of.cos(x[2])
    push = (u[0] + 0.05 * x[3] ** 2 * s) / 1.1
    turn = (9.8 * s - c * push - 2e-6 * x[3] / 0.05) / (0.5 * (4 / 3 - 0.1 * c**2 / 1.1))
    return [x[1], push - 0.05 * turn * c / 1.1, x[3], turn]


class Task(NamedTuple):
    """A system of lqrad, and the same for others: rates, acceptable deviations, terminal weight."""

    system: NonlinearSystem
    rates: Callable[[Any, Any, Any], list[Any]]
    deviations: np.ndarray
    effort: float
    last: float

    def step(self, x: Any, u: Any, of: Any, stack: Any) -> Any:
        """Runge-Kutta of order four."""
        dt = self.system.dt

        def f(z: Any) -> Any:
            return stack(self.rates(z, u, of))

        a = f(x)
        b = f(x + 0.5 * dt * a)
        c = f(x + 0.5 * dt * b)
        return x + dt / 6 * (a + 2 * b + 2 * c + f(x + dt * c))

    def cost(self, x: Any, u: Any, sum_: Any) -> Any:
        """Of a stage."""
        states, inputs = (x / self.deviations) ** 2, (u / self.effort) ** 2
        return 0.5 * self.system.dt * (sum_(states) + sum_(inputs))

    def end(self, x: Any, sum_: Any) -> Any:
        return 0.5 * self.last * sum_((x / self.deviations) ** 2)


TASKS = {
    "pendulum": Task(pendulum_swingup(), pendulum, np.array([1.0, 4.0]), 4.0, 100.0),
    "cart-pole": Task(
        cart_pole_swingup(), cart_pole, np.array([1.0, 5.0, 2.0, 10.0]), 10.0, 1000.0
    ),
}


def by_jax(task: Task, T: int) -> Callable[[], Any]:
    """Gauss-Newton steps and a line search over all lengths at once, in one compiled loop."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    n, m = task.system.problem.n, task.system.problem.m

    def f(x: Any, u: Any) -> Any:
        return task.step(x, u, jnp, jnp.stack)

    def cost(x: Any, u: Any) -> Any:
        return task.cost(x, u, jnp.sum)

    def end(x: Any) -> Any:
        return task.end(x, jnp.sum)

    def total(x: Any, u: Any) -> Any:
        return jax.vmap(cost)(x[:-1], u).sum() + end(x[-1])

    def expansion(x: Any, u: Any) -> Any:
        z = jnp.concatenate([x[:-1], u], axis=1)

        def split(g: Any) -> Any:
            return lambda z: g(z[:n], z[n:])

        F = jax.vmap(jax.jacfwd(split(f)))(z)
        slopes, weights = (jax.vmap(d(split(cost)))(z) for d in (jax.grad, jax.hessian))

        def stage(carry: Any, given: Any) -> Any:
            s, P, promise = carry
            F, slope, weight = given
            g, H = slope + F.T @ s, weight + F.T @ P @ F
            gains = jnp.linalg.solve(H[n:, n:], jnp.column_stack([g[n:], H[n:, :n]]))
            k, K = gains[:, 0], gains[:, 1:]
            s, P = g[:n] - K.T @ g[n:], H[:n, :n] - H[:n, n:] @ K
            return (s, 0.5 * (P + P.T), promise + 0.5 * g[n:] @ k), (k, K)

        first = jax.grad(end)(x[-1]), jax.hessian(end)(x[-1]), 0.0
        (_, _, promise), gains = jax.lax.scan(stage, first, (F, slopes, weights), reverse=True)
        return promise, gains

    def followed(x: Any, u: Any, gains: Any, length: Any) -> Any:
        def step(z: Any, given: Any) -> Any:
            x, u, k, K = given
            v = u - length * k - K @ (z - x)
            return f(z, v), (z, v)

        last, (z, v) = jax.lax.scan(step, x[0], (x[:-1], u, *gains))
        return jnp.vstack([z, last]), v

    lengths = 0.5 ** jnp.arange(12)

    def better(state: Any) -> Any:
        x, u, J, _, count = state
        promise, gains = expansion(x, u)
        z, v = jax.vmap(lambda length: followed(x, u, gains, length))(lengths)
        costs = jax.vmap(total)(z, v)
        enough = costs <= J - 1e-4 * lengths * promise
        i = jnp.where(enough.any(), jnp.argmax(enough), jnp.nanargmin(costs))
        improved = costs[i] < J
        x, u, J = (jnp.where(improved, a, b) for a, b in ((z[i], x), (v[i], u), (costs[i], J)))
        return x, u, J, improved & (promise > 1e-10 * J), count + 1

    @jax.jit
    def solve(x0: Any) -> Any:
        u = jnp.zeros((T, m))
        last, before = jax.lax.scan(lambda x, v: (f(x, v), x), x0, u)
        x = jnp.vstack([before, last])
        return jax.lax.while_loop(
            lambda state: state[3] & (state[4] < 500), better, (x, u, total(x, u), True, 0)
        )

    x0 = jnp.asarray(task.system.x0)
    return lambda: jax.block_until_ready(solve(x0))


def by_casadi(task: Task, T: int, bounds: Any, solver: str) -> Callable[[], Any]:
    """A program in x[0], u[0], x[1], ..., whose every derivative is exact."""
    import casadi

    system = task.system
    n, m = system.problem.n, system.problem.m
    x, u = casadi.SX.sym("x", n), casadi.SX.sym("u", m)

    def squares(z: Any) -> Any:
        return casadi.sum1(z)

    def stack(parts: list[Any]) -> Any:
        return casadi.vertcat(*parts)

    step = casadi.Function("step", [x, u], [task.step(x, u, casadi, stack)])
    cost = casadi.Function("cost", [x, u], [task.cost(x, u, squares)])
    X = [casadi.SX.sym(f"x{t}", n) for t in range(T + 1)]
    U = [casadi.SX.sym(f"u{t}", m) for t in range(T)]
    J = sum(cost(X[t], U[t]) for t in range(T)) + task.end(X[T], squares)
    gaps = [X[t + 1] - step(X[t], U[t]) for t in range(T)]
    # x[0] is fixed by a row of its own before the first gap, as the structured solver wants it.
    constraints = [gaps[0], X[0] - system.x0, *gaps[1:]]
    variables = [z for pair in zip(X, U, strict=False) for z in pair] + [X[T]]
    program = {"x": stack(variables), "f": J, "g": stack(constraints)}
    options: dict[str, Any] = {"print_time": False}
    if solver == "ipopt":
        options["ipopt"] = {"print_level": 0, "sb": "yes", "tol": 1e-8}
    else:
        options |= {"structure_detection": "auto", "equality": [True] * (n * (T + 1))}
        options["fatrop"] = {"print_level": 0, "tol": 1e-8}
    nlp = casadi.nlpsol("nlp", solver, program, options)
    free = np.full(n, np.inf)
    low = np.concatenate([*T * [-free, bounds[0]], -free])
    start = system.problem.simulate(system.x0, np.zeros((T, m)))
    start = np.concatenate([np.hstack([start[:-1], np.zeros((T, m))]).ravel(), start[-1]])
    given = {"x0": start, "lbx": low, "ubx": -low, "lbg": 0, "ubg": 0}
    return lambda: nlp(**given)


def ilqr(quick: bool) -> Iterator[Row]:
    rows = [("pendulum", 300, False), ("pendulum", 100, True), ("cart-pole", 80, True)]
    for name, T, limited in [("pendulum", 40, True)] if quick else rows:
        task = TASKS[name]
        system = task.system
        bounds = system.bounds if limited else (np.full(1, -np.inf), np.full(1, np.inf))
        peers = []
        if has("jax") and not limited:
            call = by_jax(task, T)
            peers.append(Way("JAX, iLQR", "Gauss-Newton", call, lambda found: [[found[2]]]))
        if has("casadi"):
            for solver in ("ipopt", "fatrop"):
                call = by_casadi(task, T, bounds, solver)
                peers.append(Way("CasADi", solver, call, lambda found: [[float(found["f"])]]))
        yield Row(
            f"`ilqr`, {name}, T={T}, {'limits' if limited else 'no limits'}",
            partial(lqrad.ilqr, system.problem, system.x0, T, second_order=True, bounds=bounds),
            lambda found: [[found.cost]],
            peers,
            1e-6,
            3,
        )
