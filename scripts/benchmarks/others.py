"""Networks, functions of the user's, plates, closed loops, sliders, and the import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from engine import Row, Way, has, random_problem

import lqrad
import lqrad.nonlinear.systems


def torch_gradient(
    theta: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray
) -> Callable[[], tuple[float, np.ndarray]]:
    """The loss of the same network, and its gradient, in double precision."""
    import torch

    torch.set_num_threads(1)
    weights = [torch.tensor(array, requires_grad=True) for array in theta.values()]
    X, labels = torch.tensor(x), torch.tensor(y)

    def call() -> tuple[float, np.ndarray]:
        h = X
        for i in range(0, len(weights) - 2, 2):
            h = torch.tanh(torch.addmm(weights[i + 1], h, weights[i]))
        logits = torch.addmm(weights[-1], h, weights[-2])
        loss = torch.nn.functional.cross_entropy(logits, labels)
        slopes = torch.autograd.grad(loss, weights)
        return loss.item(), np.concatenate([slope.numpy().ravel() for slope in slopes])

    return call


def jax_network(
    theta: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray
) -> Callable[[], tuple[Any, Any]]:
    """The same, compiled."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    X, labels = jnp.asarray(x), jnp.asarray(y)
    weights = [jnp.asarray(array) for array in theta.values()]

    def loss(weights: list[Any]) -> Any:
        h = X
        for W, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            h = jnp.tanh(h @ W + b)
        logits = jax.nn.log_softmax(h @ weights[-2] + weights[-1])
        return -jnp.mean(logits[jnp.arange(len(labels)), labels])

    compiled = jax.jit(jax.value_and_grad(loss))
    return lambda: jax.block_until_ready(compiled(weights))


def flat(found: tuple[Any, Any]) -> list[Any]:
    value, slopes = found
    if isinstance(slopes, list):
        slopes = np.concatenate([np.asarray(z).ravel() for z in slopes])
    return [[value], slopes]


def network(quick: bool) -> Iterator[Row]:
    """One gradient of a network over a batch of 128."""
    widths = [50, 30, 10] if quick else [784, 256, 256, 10]
    rng = np.random.default_rng(0)
    graph = lqrad.mlp(widths, "tanh")
    theta = graph.initial(rng)
    data = {"x": rng.normal(size=(128, widths[0])), "y": rng.integers(0, widths[-1], 128)}
    vector, objective = graph.flatten(theta), graph.objective(data)
    peers = []
    if has("torch"):
        call = torch_gradient(theta, data["x"], data["y"])
        peers.append(Way("PyTorch", "", call, flat))
    if has("jax"):
        peers.append(Way("JAX", "", jax_network(theta, data["x"], data["y"]), flat))
    name = f"gradient of a network of {'-'.join(map(str, widths))}, batch of 128"
    yield Row(name, lambda: objective.value_and_gradient(vector), flat, peers, 1e-10)


def nonlinear(quick: bool) -> Iterator[Row]:
    """A gradient of the cart-pole's swing-up beside its own simulation."""
    plant = lqrad.nonlinear.cart_pole_swingup()
    for T in (1000,) if quick else (1000, 10_000):
        u = 0.1 * np.random.default_rng(0).normal(size=(T, 1))
        forward = partial(plant.problem.simulate, plant.x0, u)
        yield Row(
            f"gradient of a pole on a cart, Runge-Kutta, T={T:,}",
            partial(plant.problem.value_and_gradient, plant.x0, u),
            lambda found: [],
            [Way("its own simulation", "", forward, lambda found: [])],
        )


def heat(quick: bool) -> Iterator[Row]:
    """A gradient on a plate beside its own simulation: implicit Euler, 25 heaters."""
    cells = 40 if quick else 100
    plate = lqrad.heat_plate((cells, cells))
    problem, T = plate.problem(), plate.T
    u = np.random.default_rng(0).normal(size=problem.objective(plate.x0, T).shape)
    yield Row(
        f"gradient on a plate of {cells} x {cells} cells, {T} steps",
        lambda: problem.value_and_gradient(plate.x0, u),
        lambda found: [],
        [Way("its own simulation", "", lambda: problem.simulate(plate.x0, u), lambda found: [])],
        rounds=5,
    )


def numpy_steps(controller: Any, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    """The inputs of a controller as one would write its step: (T, ..., m) from y (T, ..., ny)."""
    o, c = controller.observer, controller
    x, z = np.zeros((*y.shape[1:-1], c.n)), np.zeros((*y.shape[1:-1], c.nr))
    A, B, C, L, K, K_i, F, E = (M.T for M in (o.A, o.B, o.C, o.L, c.K, c.K_i, c.F, c.E))
    inputs = []
    for now in y:
        x_bar = x + (now - x @ C) @ L
        wanted = r @ F - x_bar @ K - z @ K_i
        u = np.minimum(np.maximum(wanted, c.low), c.high)
        growth = now @ E - r
        z = z + np.where(growth * ((wanted - u) @ c.K_i) < 0, 0.0, growth)
        x = x_bar @ A + u @ B
        inputs.append(u)
    return np.array(inputs)


def control_steps(controller: Any, y: np.ndarray, r: np.ndarray) -> Callable[[], np.ndarray]:
    """The same without limits, by a linear system of python-control's, one run."""
    import control

    own = controller.statespace()
    system = control.ss(own.A, own.B, own.C, own.D, own.dt)

    def call() -> np.ndarray:
        x, inputs = np.zeros(own.n), []
        for now in y:
            given = np.concatenate([now, r])
            inputs.append(system.output(0.0, x, given))
            x = system.dynamics(0.0, x, given)
        return np.array(inputs)

    return call


def step(quick: bool) -> Iterator[Row]:
    """Steps of a controller with estimator, integrator and limits, on measurements of noise."""
    for n, runs in ((4, 1), (12, 1), (4, 1000), (12, 1000)):
        rng, m, ny = np.random.default_rng(n), n // 4, n // 2
        problem = random_problem(n, m)
        plant = lqrad.StateSpace(problem.A, problem.B, rng.normal(size=(ny, n)), dt=0.1)
        noise = 0.1 * np.eye(n), 0.1 * np.eye(ny)
        integral = {"Q_i": [[0.01]], "H": plant.C[:1], "input_bounds": (-100, 100)}
        controller = lqrad.lqg(plant, np.eye(n), np.eye(m), *noise, **integral)
        T = 100 if runs == 1 else 10
        y = rng.normal(size=(T, ny) if runs == 1 else (T, runs, ny))
        r = np.ones(1)

        def ours(controller: Any = controller, y: np.ndarray = y, r: np.ndarray = r) -> np.ndarray:
            controller.reset()
            return np.array([controller.step(now, r) for now in y])

        peers = [Way("NumPy", "a step by hand", partial(numpy_steps, controller, y, r), list)]
        if runs == 1 and has("control"):
            call = control_steps(controller, y, r)
            peers.append(Way("python-control", "output and dynamics, no limits", call, list))
        many = f" of {runs:,} runs" if runs > 1 else ""
        yield Row(
            f"{T} steps of a controller{many}, n={n}, m={m}, ny={ny}", ours, list, peers, 1e-12
        )


def loop_over_runs(
    plant: Any, controller: Any, steps: int, W: Any, V: Any, runs: int, rng: Any
) -> np.ndarray:
    """The closed loops of a Monte Carlo study as one would write them: a run at a time."""
    W_root, V_root = np.linalg.cholesky(W), np.linalg.cholesky(V)
    ends = []
    for _ in range(runs):
        controller.reset()
        x = np.zeros(plant.n)
        for _ in range(steps):
            y = plant.C @ x + V_root @ rng.standard_normal(plant.ny)
            u = controller.step(y)
            x = plant.A @ x + plant.B @ u + W_root @ rng.standard_normal(plant.n)
        ends.append(x)
    return np.array(ends)


def closed_loop(quick: bool) -> Iterator[Row]:
    """Noisy runs of a pendulum on a cart, estimated, integrated and limited; noises differ."""
    system, runs, steps = lqrad.systems.inverted_pendulum(), 20, 100 if quick else 500
    plant = lqrad.StateSpace(system.A, system.B, [[1, 0, 0, 0], [0, 0, 1, 0]], dt=system.dt)
    W, V = np.diag([1e-8, 1e-5, 1e-8, 1e-5]), 1e-6 * np.eye(2)
    options = {"Q_i": [[0.01]], "H": [[1, 0, 0, 0]], "input_bounds": (-5, 5)}
    controller = lqrad.lqg(plant, system.Q, system.R, W, V, **options)

    def theirs() -> Any:
        return loop_over_runs(plant, controller, steps, W, V, runs, np.random.default_rng(0))

    yield Row(
        f"{runs} closed loops of {steps} steps with estimator, integrator, limits",
        lambda: lqrad.simulate_closed_loop(plant, controller, steps, W=W, V=V, runs=runs, rng=0),
        lambda found: [],
        [Way("a loop over runs and steps", "", theirs, lambda found: [])],
        rounds=3,
    )


def explore(quick: bool) -> Iterator[Row]:
    """One move of a slider, from the weight to the bytes of the picture."""
    from lqrad import explore

    def move(figure: list[Any], rng: Any) -> bytes:
        figure[0] = explore._lecture(1.1, 60, 10 ** rng.uniform(-2, 2), figure[0])
        return explore._png(figure[0])

    yield Row(
        "one move of a slider of a lecture",
        partial(move, [None], np.random.default_rng(0)),
        lambda found: [],
        [],
        rounds=3 if quick else 9,
    )


def started(line: str) -> None:
    """A process whose modules are compiled already, as those of packages are where they were installed."""
    hindered = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    environment = {name: value for name, value in os.environ.items() if name not in hindered}
    subprocess.run([sys.executable, "-c", line], env=environment, check=True)


def import_(quick: bool) -> Iterator[Row]:
    """Whole processes, with the first name that loads a chapter; their CPU time is not counted."""
    lines = ("import scipy.linalg, scipy.sparse.linalg", "import numpy, scipy.linalg")
    yield Row(
        "`import lqrad; lqrad.riccati`, a whole process",
        partial(started, "import lqrad; lqrad.riccati"),
        lambda found: [],
        [Way(f"`{line}`", "", partial(started, line), lambda found: []) for line in lines],
        rounds=15,
    )
