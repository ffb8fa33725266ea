"""Benchmarks: every figure is a ratio against a named opponent in the same run.

    python scripts/bench.py                 all of them
    python scripts/bench.py gradient        the sections named: gradient, horizon, riccati, dare,
                                            smoothing, network, nonlinear, heat, mpc,
                                            closed-loop, explore, import

BLAS runs on one thread. JAX, PyTorch and OSQP are opponents where they are installed: JAX compiled, in
double precision, in the fastest of the ways that we know, once fed and read as its own device arrays,
once as the NumPy arrays that a descent loop in NumPy or SciPy passes. Each ratio is the median over
rounds in which the contestants take turns.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count=1"
)

import copy
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg

import lqrad
import lqrad.nonlinear.systems

HAS_JAX = importlib.util.find_spec("jax") is not None


def rounds(
    contestants: dict[str, Callable[[], object]], *, count: int = 9
) -> dict[str, list[float]]:
    """Seconds of one call of each, round by round; calls are repeated to fill 20 ms."""
    repeats = {}
    for name, call in contestants.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(0.02 / max(time.perf_counter() - start, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(count):
        for name, call in contestants.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((time.perf_counter() - start) / repeats[name])
    return seconds


def ratio(opponent: list[float], ours: list[float]) -> float:
    return statistics.median(theirs / mine for theirs, mine in zip(opponent, ours, strict=True))


def random_problem(n: int, m: int, radius: float = 0.95) -> lqrad.LQProblem:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, n))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    return lqrad.LQProblem(A, rng.normal(size=(n, m)), np.eye(n), np.eye(m), 2 * np.eye(n))


def numpy_loop(problem: lqrad.LQProblem, x0: np.ndarray, u: np.ndarray) -> tuple[float, np.ndarray]:
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


def jax_gradients(
    problem: lqrad.LQProblem, x0: np.ndarray
) -> dict[str, Callable[[object], tuple[object, object]]]:
    """The same value and gradient compiled by JAX, in each way that we know."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    A, B, Q, R, S = (
        jnp.asarray(M) for M in (problem.A, problem.B, problem.Q, problem.R, problem.S)
    )
    start = jnp.asarray(x0)

    def in_the_scan(u):
        def step(x, v):
            return A @ x + B @ v, 0.5 * (x @ Q @ x + v @ R @ v)

        last, stages = jax.lax.scan(step, start, u)
        return stages.sum() + 0.5 * last @ S @ last

    def total(before, last, u):
        return 0.5 * (jnp.sum(before * (before @ Q)) + jnp.sum(u * (u @ R)) + last @ S @ last)

    def outside(u):
        last, before = jax.lax.scan(lambda x, v: (A @ x + B @ v, x), start, u)
        return total(before, last, u)

    def inputs_outside(u):
        last, before = jax.lax.scan(lambda x, f: (A @ x + f, x), start, u @ B.T)
        return total(before, last, u)

    def by_hand(u):
        last, before = jax.lax.scan(lambda x, f: (A @ x + f, x), start, u @ B.T)
        slopes = before @ Q
        _, p = jax.lax.scan(lambda p, f: (A.T @ p + f, p), S @ last, slopes, reverse=True)
        return total(before, last, u), u @ R + p @ B

    ways = {way.__name__: jax.value_and_grad(way) for way in (in_the_scan, outside, inputs_outside)}
    return {name: jax.jit(way) for name, way in (ways | {"by_hand": by_hand}).items()}


def gradient() -> None:
    print(
        "value and gradient: times of the opponent over ours; JAX in the fastest of four ways, as its "
        f"own arrays and through NumPy's; {lqrad.native.status().message}"
    )
    print(
        f"{'n':>4} {'m':>4} {'T':>5} {'us':>9} {'without C':>10} {'NumPy loop':>11} {'JAX':>7} "
        f"{'JAX, NumPy in and out':>22}  the fastest way"
    )
    for n in (2, 4, 12, 30, 100, 300):
        for T in (100, 1000):
            m = max(1, n // 2)
            problem, rng = random_problem(n, m), np.random.default_rng(1)
            x0, u = rng.normal(size=n), rng.normal(size=(T, m))
            mine = problem.value_and_gradient(x0, u)

            def without(p=problem, x0=x0, u=u) -> object:
                with lqrad.native.switched_off():
                    return p.value_and_gradient(x0, u)

            contestants: dict[str, Callable[[], object]] = {
                "ours": lambda p=problem, x0=x0, u=u: p.value_and_gradient(x0, u),
                "without C": without,
                "NumPy loop": lambda p=problem, x0=x0, u=u: numpy_loop(p, x0, u),
            }
            answers = [numpy_loop(problem, x0, u), without()]
            if HAS_JAX:
                import jax.numpy as jnp

                ways = jax_gradients(problem, x0)  # in double precision from here on
                device_u = jnp.asarray(u)
                for name, f in ways.items():
                    answers.append(f(device_u))
                    contestants[name] = lambda f=f, v=device_u: f(v)[1].block_until_ready()
                    contestants[name + ", NumPy"] = lambda f=f, v=u: [np.asarray(z) for z in f(v)]
            for J, g in answers:
                assert np.isclose(J, mine[0], rtol=1e-10)
                assert np.allclose(g, mine[1], rtol=1e-8, atol=1e-8 * np.abs(mine[1]).max())
            seconds = rounds(contestants)
            ratios = {name: ratio(times, seconds["ours"]) for name, times in seconds.items()}
            cells = [f"{ratios['without C']:9.2f}x", f"{ratios['NumPy loop']:10.1f}x"]
            if HAS_JAX:
                fastest = min(ways, key=ratios.__getitem__)
                through = min(ratios[f"{way}, NumPy"] for way in ways)
                cells += [f"{ratios[fastest]:6.2f}x", f"{through:21.2f}x", f" {fastest}"]
            print(
                f"{n:4d} {m:4d} {T:5d} {1e6 * statistics.median(seconds['ours']):9.1f} "
                f"{' '.join(cells)}",
                flush=True,
            )


_LONG = """
import sys, time
import numpy as np, lqrad
T = int(sys.argv[1])
rng = np.random.default_rng(0)
A = rng.normal(size=(4, 4)); A *= 0.95 / abs(np.linalg.eigvals(A)).max()
problem = lqrad.LQProblem(A, rng.normal(size=(4, 2)), np.eye(4), np.eye(2))
x0, u = rng.normal(size=4), rng.normal(size=(T, 2))
best = float("inf")
for _ in range(max(3, 300_000 // T)):
    start = time.perf_counter()
    J, g = problem.value_and_gradient(x0, u)
    best = min(best, time.perf_counter() - start)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(best / T, 1024 * int(peak) / (8 * 4 * (T + 1)))
"""


def horizon() -> None:
    print("one process, n = 4, m = 2: value and gradient over long horizons")
    results = {}
    for T in (10_000, 1_000_000):
        out = subprocess.run(
            [sys.executable, "-c", _LONG, str(T)], capture_output=True, text=True, check=True
        )
        results[T] = [float(word) for word in out.stdout.split()]
    per_step, memory = results[1_000_000]
    print(
        f"  T = 1,000,000: {1e6 * per_step:.3f} us per step, {per_step / results[10_000][0]:.2f}x that of T = 10,000"
    )
    print(f"  peak memory of the whole process: {memory:.2f} times the size of x")


def naive_riccati(problem: lqrad.LQProblem, T: int) -> np.ndarray:
    A, B, Q, R, P = problem.A, problem.B, problem.Q, problem.R, problem.S
    K = np.empty((T, problem.m, problem.n))
    for t in reversed(range(T)):
        K[t] = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
        P = Q + A.T @ P @ (A - B @ K[t])
    return K


def riccati() -> None:
    print("Riccati, T = 200, every stage swept (A varies in time): NumPy loop over ours")
    for n in (4, 12, 30, 100):
        constant = random_problem(n, max(1, n // 2), 1.1)
        varying = lqrad.LQProblem(
            np.broadcast_to(constant.A, (200, n, n)), constant.B, constant.Q, constant.R, constant.S
        )
        seconds = rounds(
            {
                "ours": lambda p=varying: lqrad.riccati(p),
                "loop": lambda p=constant: naive_riccati(p, 200),
                "invariant": lambda p=constant: lqrad.riccati(p, 200),
            },
            count=5,
        )
        swept = lqrad.riccati(constant, 200).swept
        print(
            f"  n = {n:3d}: {1e6 * statistics.median(seconds['ours']) / 200:7.1f} us per step, "
            f"{ratio(seconds['loop'], seconds['ours']):.2f}x; constant A, {swept} of 200 stages swept: "
            f"{ratio(seconds['loop'], seconds['invariant']):.2f}x"
        )


def dare() -> None:
    print("discrete algebraic Riccati equation: SciPy's solver over ours")
    for n in (4, 12, 30, 100):
        problem = random_problem(n, max(1, n // 2), 1.1)
        matrices = problem.A, problem.B, problem.Q, problem.R
        seconds = rounds(
            {
                "ours": lambda a=matrices: lqrad.dare(*a),
                "SciPy": lambda a=matrices: scipy.linalg.solve_discrete_are(*a),
            },
            count=5,
        )
        print(
            f"  n = {n:3d}: {1e3 * statistics.median(seconds['ours']):7.2f} ms, {ratio(seconds['SciPy'], seconds['ours']):.2f}x"
        )


def statsmodels_smoother(problem: lqrad.SmoothingProblem, y: np.ndarray, covariances: bool):
    """The same model and series in statsmodels' compiled smoother, without its early freezing."""
    from statsmodels.tsa.statespace import kalman_smoother as peer

    what = peer.SMOOTHER_STATE | (peer.SMOOTHER_STATE_COV if covariances else 0)
    model = peer.KalmanSmoother(
        k_endog=problem.ny, k_states=problem.n, k_posdef=problem.n, smoother_output=what
    )
    model.tolerance = 0
    model.bind(np.ascontiguousarray(y))
    model["design"], model["obs_cov"] = problem.C, problem.V
    model["transition"], model["state_cov"] = problem.A, problem.W
    model["selection"] = np.eye(problem.n)
    model.initialize_known(problem.m0, problem.P0)
    return model


def smoothing() -> None:
    print(
        "smoothing, T = 1000: statsmodels' compiled smoother over ours, where a model is new to us,"
    )
    print(
        "and where the series before was of the same model; gaps: a tenth of the entries is missing"
    )
    if importlib.util.find_spec("statsmodels") is None:
        print("  statsmodels is not installed")
    else:
        for n, ny in ((4, 2), (12, 4), (20, 5)):
            for gaps in (False, True):
                against_statsmodels(n, ny, gaps)
    long_series()


def against_statsmodels(n: int, ny: int, gaps: bool) -> None:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, n))
    A *= 0.95 / np.abs(np.linalg.eigvals(A)).max()
    C, identity = rng.normal(size=(ny, n)), np.eye(n)
    problem = lqrad.SmoothingProblem(A, C, identity, np.eye(ny), np.zeros(n), identity)
    y = rng.normal(size=(1001, ny))
    if gaps:
        y[rng.random(y.shape) < 0.1] = np.nan
    cells = []
    for covariances in (False, True):
        peer = statsmodels_smoother(problem, y, covariances)
        mine = lqrad.kalman_smoother(problem, y, covariances=covariances)
        assert np.allclose(peer.smooth().smoothed_state.T, mine.x, rtol=1e-8, atol=1e-8)

        def smooth(problem: lqrad.SmoothingProblem, covariances: bool = covariances) -> object:
            return lqrad.kalman_smoother(problem, y, covariances=covariances)

        seconds = rounds(
            {
                "new": lambda smooth=smooth: smooth(copy.copy(problem)),
                "same": lambda smooth=smooth: smooth(problem),
                "statsmodels": lambda peer=peer: peer.smooth(),
            },
            count=7,
        )
        cell = [
            f"{1e3 * statistics.median(seconds[ours]):6.2f} ms, "
            f"{ratio(seconds['statsmodels'], seconds[ours]):.2f}x"
            for ours in ("new", "same")
        ]
        cells.append(" and".join(cell))
    name = f"n = {n:2d}, ny = {ny}{', gaps' if gaps else ''}:"
    print(f"  {name:21s} means {cells[0]}; with covariances {cells[1]}", flush=True)


_LONG_SERIES = """
import sys, time
import numpy as np, lqrad
T = int(sys.argv[1])
rng = np.random.default_rng(0)
A = rng.normal(size=(4, 4)); A *= 0.95 / abs(np.linalg.eigvals(A)).max()
C, identity = rng.normal(size=(2, 4)), np.eye(4)
y = rng.normal(size=(T + 1, 2))
best = float("inf")
for _ in range(max(3, 100_000 // T)):
    problem = lqrad.SmoothingProblem(A, C, identity, np.eye(2), np.zeros(4), identity)
    start = time.perf_counter()
    smoothed = lqrad.kalman_smoother(problem, y, covariances=False)
    best = min(best, time.perf_counter() - start)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(best, 1024 * int(peak))
"""


def long_series() -> None:
    print("one process, n = 4, ny = 2, means, every model new: a long series")
    results = {}
    for T in (10_000, 1_000_000):
        out = subprocess.run(
            [sys.executable, "-c", _LONG_SERIES, str(T)], capture_output=True, text=True, check=True
        )
        results[T] = [float(word) for word in out.stdout.split()]
    (short, least), (long, most) = results.values()
    print(
        f"  T = 1,000,000: {long:.3f} s, {long:.3f} us per step, {long / short / 100:.2f}x that of T = 10,000"
    )
    print(
        f"  peak memory of the whole process: {most / 2**20:.0f} MiB, {least / 2**20:.0f} MiB with T = 10,000"
    )


def torch_gradient(
    theta: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray
) -> Callable[[], tuple[float, list[np.ndarray]]]:
    """The loss of the same network, and its gradient, in double precision."""
    import torch

    torch.set_num_threads(1)
    weights = [torch.tensor(array, requires_grad=True) for array in theta.values()]
    X, labels = torch.tensor(x), torch.tensor(y)

    def call() -> tuple[float, list[np.ndarray]]:
        h = X
        for i in range(0, len(weights) - 2, 2):
            h = torch.tanh(torch.addmm(weights[i + 1], h, weights[i]))
        logits = torch.addmm(weights[-1], h, weights[-2])
        loss = torch.nn.functional.cross_entropy(logits, labels)
        slopes = torch.autograd.grad(loss, weights)
        return loss.item(), [slope.numpy() for slope in slopes]

    return call


def network() -> None:
    """One gradient of a network of 784-256-256-10, over a batch of 128."""
    rng = np.random.default_rng(0)
    graph = lqrad.mlp([784, 256, 256, 10], "tanh")
    theta = graph.initial(rng)
    data = {"x": rng.normal(size=(128, 784)), "y": rng.integers(0, 10, 128)}
    vector, objective = graph.flatten(theta), graph.objective(data)
    contestants: dict[str, Callable[[], object]] = {
        "forward": lambda: graph.forward(data, theta),
        "gradient": lambda: objective.value_and_gradient(vector),
    }
    if importlib.util.find_spec("torch") is not None:
        contestants["torch"] = torch_gradient(theta, data["x"], data["y"])
    seconds = rounds(contestants, count=25)
    ours = seconds["gradient"]
    print("a network of 784-256-256-10, batch of 128, double precision")
    print(f"  gradient {1e3 * statistics.median(ours):.2f} ms,", end=" ")
    print(f"{ratio(ours, seconds['forward']):.2f} times its forward pass")
    if "torch" in seconds:
        print(
            f"  PyTorch's forward and backward pass over ours: {ratio(seconds['torch'], ours):.2f}x"
        )


def nonlinear() -> None:
    """A gradient of the cart-pole's swing-up: against its forward simulation, and over the horizon."""
    plant = lqrad.nonlinear.cart_pole_swingup()
    times = {}
    print("a pole on a cart, Runge-Kutta steps: one gradient by the adjoint")
    for T in (1000, 10_000):
        u = 0.1 * np.random.default_rng(0).normal(size=(T, 1))
        seconds = rounds(
            {
                "forward": lambda u=u: plant.problem.simulate(plant.x0, u),
                "gradient": lambda u=u: plant.problem.value_and_gradient(plant.x0, u),
            }
        )
        times[T] = seconds["gradient"]
        print(
            f"  T = {T:6,d}: {1e3 * statistics.median(times[T]):.1f} ms, "
            f"{ratio(times[T], seconds['forward']):.2f} times a simulation"
        )
    print(f"  ten times the horizon: {ratio(times[10_000], times[1000]):.2f} times the time")


_LARGE_PLATE = """
import resource, sys, time
import numpy as np
import lqrad
kept = int(sys.argv[1])
plate = lqrad.heat_plate((316, 316))
problem = plate.problem()
u = np.zeros((plate.T, problem.m))
problem.value_and_gradient(plate.x0, u[:2])
start = time.perf_counter()
problem.value_and_gradient(plate.x0, u, checkpoints=kept or None)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def heat() -> None:
    """A plate of 100 x 100 cells over 25 heaters, and one of 316 x 316 in bounded memory."""
    plate = lqrad.heat_plate((100, 100))
    problem, T = plate.problem(), plate.T
    objective = problem.objective(plate.x0, T)
    u = np.random.default_rng(0).normal(size=objective.shape)
    contestants: dict[str, Callable[[], object]] = {
        "forward": lambda: problem.simulate(plate.x0, u),
        "gradient": lambda: problem.value_and_gradient(plate.x0, u),
    }
    seconds = rounds(contestants)
    print(f"a plate of 100 x 100 cells, {T} steps, implicit Euler, 25 heaters")
    print(
        f"  gradient {statistics.median(seconds['gradient']):.2f} s, "
        f"{ratio(seconds['gradient'], seconds['forward']):.2f} times a simulation"
    )
    start = time.perf_counter()
    descent = lqrad.descend(objective, method="conjugate-gradient", tol=1e-4)
    print(
        f"  proven within {descent.gap_bound / abs(descent.cost):.0e} |J| of the minimum after "
        f"{descent.iterations} iterations and {time.perf_counter() - start:.1f} s"
    )
    for kept in (0, 10):
        done = subprocess.run(
            [sys.executable, "-c", _LARGE_PLATE, str(kept)],
            capture_output=True,
            text=True,
            check=True,
        )
        took, peak = map(float, done.stdout.split())
        how = f"{kept} states kept" if kept else "all states kept"
        print(f"  316 x 316 cells, {how}: a gradient in {took:.1f} s, {peak:.0f} MiB at most")


def osqp_of(problem: lqrad.LQProblem, T: int, limit: float, reach: float, eps: float):
    """OSQP set up for the problem from any initial state, x0 -> (cost, first input), warm started."""
    import osqp
    from scipy import sparse

    n, m = problem.n, problem.m
    cost = [sparse.kron(sparse.eye(T), problem.Q), problem.S]
    P = sparse.block_diag([*cost, sparse.kron(sparse.eye(T), problem.R)], format="csc")
    steps = sparse.kron(sparse.eye(T + 1, k=-1), problem.A) - sparse.eye((T + 1) * n)
    pushes = sparse.kron(sparse.eye(T + 1, T, k=-1), problem.B)
    A = sparse.vstack([sparse.hstack([steps, pushes]), sparse.eye(P.shape[0])], format="csc")
    high = np.concatenate([np.full(n, np.inf), np.full(T * n, reach), np.full(T * m, limit)])
    equal = np.zeros((T + 1) * n)
    solver = osqp.OSQP()
    low, top = np.concatenate([equal, -high]), np.concatenate([equal, high])
    options = {"eps_abs": eps, "eps_rel": eps, "max_iter": 100_000, "verbose": False}
    solver.setup(sparse.triu(P, format="csc"), np.zeros(P.shape[0]), A, low, top, **options)

    def solve(x0: np.ndarray) -> tuple[float, np.ndarray]:
        low[:n] = top[:n] = -x0
        solver.update(l=low, u=top)
        found = solver.solve(raise_error=False)
        return found.info.obj_val, found.x[(T + 1) * n :][:m]

    return solve


def mpc() -> None:
    """Receding horizons of n = 12, m = 4, T = 20 with bounds on inputs and states, under noise."""
    n, m, T, limit, reach = 12, 4, 20, 0.2, 10.0
    print(
        f"a receding horizon, n={n}, m={m}, T={T}, bounds on inputs and states, 10 plants of 50 steps"
    )
    if importlib.util.find_spec("osqp") is None:
        print("  OSQP is not installed: nothing to compare with")
        return
    for eps in (1e-3, 1e-6):
        theirs, ours, active, steps, apart = [], [], [], [], []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            A = rng.normal(size=(n, n))
            A *= 1.05 / np.abs(np.linalg.eigvals(A)).max()
            plain = lqrad.LQProblem(A, rng.normal(size=(n, m)), np.eye(n), 0.1 * np.eye(m))
            controller = lqrad.mpc(
                plain, T, input_bounds=(-limit, limit), state_bounds=(-reach, reach)
            )
            problem = controller.problem
            opponent = osqp_of(problem, T, limit, reach, eps)
            x = 0.5 * rng.normal(size=n)
            for _ in range(50):
                start = time.perf_counter()
                cost, _ = opponent(x)
                middle = time.perf_counter()
                u = controller.step(x)
                ours.append(time.perf_counter() - middle)
                theirs.append(middle - start)
                active.append(bool(controller.last.multipliers.any()))
                steps.append(controller.last.iterations)
                apart.append(abs(cost / controller.last.cost - 1))
                x = problem.A @ x + problem.B @ u + 0.3 * rng.normal(size=n)
        theirs, ours, active = np.array(theirs), np.array(ours), np.array(active)
        print(
            f"  OSQP with its own warm start, tolerances {eps:g} (its cost is off by {max(apart):.0e} at most)"
        )
        for name, chosen in (("all steps", active | True), ("steps with a bound at work", active)):
            print(
                f"    {name:27s} {chosen.sum():4d}: OSQP {1e3 * np.median(theirs[chosen]):.2f} ms, "
                f"ours {1e3 * np.median(ours[chosen]):.2f} ms, ours over OSQP "
                f"{np.median((ours / theirs)[chosen]):.2f}x; worst {1e3 * theirs[chosen].max():.1f} "
                f"and {1e3 * ours[chosen].max():.1f} ms, {max(np.array(steps)[chosen])} steps"
            )


def loop_over_runs(plant, controller, steps, W, V, runs, rng) -> np.ndarray:
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


def closed_loop() -> None:
    """10,000 noisy runs of 500 steps of a pendulum on a cart, estimated, integrated and limited."""
    system, runs, steps = lqrad.systems.inverted_pendulum(), 10_000, 500
    plant = lqrad.StateSpace(system.A, system.B, [[1, 0, 0, 0], [0, 0, 1, 0]], dt=system.dt)
    W, V = np.diag([1e-8, 1e-5, 1e-8, 1e-5]), 1e-6 * np.eye(2)
    options = {"Q_i": [[0.01]], "H": [[1, 0, 0, 0]], "input_bounds": (-5, 5)}
    controller = lqrad.lqg(plant, system.Q, system.R, W, V, **options)
    start = time.perf_counter()
    lqrad.simulate_closed_loop(plant, controller, steps, W=W, V=V, runs=runs, rng=0)
    ours = time.perf_counter() - start
    few = runs // 500
    start = time.perf_counter()
    loop_over_runs(plant, controller, steps, W, V, few, np.random.default_rng(0))
    theirs = (time.perf_counter() - start) * runs / few
    print(
        f"{runs:,} closed loops of {steps} steps, n=4, ny=2, m=1, with estimator, integrator and limits"
    )
    print(
        f"  ours {ours:.2f} s; a loop over {few} runs, scaled to all: {theirs:.0f} s, {theirs / ours:.0f}x"
    )


def import_() -> None:
    print("import lqrad, over import scipy.linalg, scipy.sparse.linalg: whole processes in turn")
    lines = ("import lqrad", "import scipy.linalg, scipy.sparse.linalg", "pass")
    seconds: dict[str, list[float]] = {line: [] for line in lines}
    for turn in range(16):
        for line in lines:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", line], check=True)
            if turn:
                seconds[line].append(time.perf_counter() - start)
    ours, theirs, bare = (statistics.median(seconds[line]) for line in lines)
    print(
        f"  {ours / theirs:.2f}x with the interpreter's start, {(ours - bare) / (theirs - bare):.2f}x without it"
    )


def explore() -> None:
    print("sliders: one move of a weight, from its value to the bytes of the picture, 60 of them")
    from lqrad import explore

    plant = lqrad.discretise(
        [[0, 1], [0, -2]], [[0], [40]], np.diag([100, 1]), [[1]], dt=0.02
    ).plant(C=[[1, 0]])
    pictures = {
        "design": lambda R, old: explore._design(
            lqrad.design_controller(plant, np.diag([100.0, 1.0]), [[R]], Q_i=[[0.1]]), old
        ),
        "lecture": lambda R, old: explore._lecture(1.1, 60, R, old),
    }
    for name, draw in pictures.items():
        figure, seconds = None, []
        for R in np.geomspace(0.01, 100, 63):
            start = time.perf_counter()
            figure = draw(R, figure)
            explore._png(figure)
            seconds.append(1e3 * (time.perf_counter() - start))
        middle, late = np.percentile(seconds[3:], [50, 95])
        print(f"  {name:8s} median {middle:.0f} ms, 95th percentile {late:.0f} ms")


SECTIONS = {
    "gradient": gradient,
    "horizon": horizon,
    "riccati": riccati,
    "dare": dare,
    "smoothing": smoothing,
    "network": network,
    "nonlinear": nonlinear,
    "heat": heat,
    "mpc": mpc,
    "closed-loop": closed_loop,
    "explore": explore,
    "import": import_,
}

if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(SECTIONS)
    if unknown:
        sys.exit(f"unknown section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    print(
        f"lqrad {lqrad.__version__}, NumPy {np.__version__}, SciPy {scipy.__version__}, Python {sys.version.split()[0]}"
    )
    for name in sys.argv[1:] or SECTIONS:
        print()
        SECTIONS[name]()
