"""Units are the user's business: every public function that takes a model, in other units.

    x' = 2^a x,   u' = 2^b u,   y' = 2^c y,   t' = 2^d t,   J' = 2^e J

with exponents drawn from -40 to 40 for each entry. Each answer must be that of the first units, with
each entry in the new ones, to the last bit or to 1e-12 of itself; what is no number must be the same.

A law says in which units an array is: "J /x /u" of the weight M, whose rows are in 1/x and columns in
1/u, and all of it in J. A point stands for an axis without a unit; X and U are the unit that all states
or all inputs have in common. Whoever adds a public function adds it to a case here, or to EXEMPT with
the reason.

A case has all the units "xuyJt" that its arguments have, but where theory forbids it:

- The gradient in the inputs, the Hessian in them and its condition number depend on which unit each
  input has, by definition: descend, compare, conditioning, penalised and low_rank's objective take one
  unit U for all of them, and so one path. (Descents that choose their coordinates themselves, on gains,
  by multiple shooting and in the cures, take any.)
- The norm of S A^k B is a norm in the user's units: gradient_growth takes one unit X and one U for it,
  and any for the predicted rate, which has none.
- The kept digits of lost_digits are of rounding errors, which no law binds but for their size.
- A robust loss of a norm, as of penalised, is of states in one unit X.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from names import NAMES
from random_problems import psd, random_case

import lqrad
from lqrad import ControlProblem, LQProblem, SmoothingProblem, StateSpace

DRAWS = 2
LARGEST = 40
SCALARS = ("J", "t", "X", "U")  # X, U: of all states, of all inputs
OWN = 1e-12  # of its own entry


# The law of an array, applied


def exponents(law: str, units: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """The power of two by which each entry of an array of this law changes."""
    total, axis = np.zeros(shape, dtype=np.int64), 0
    for word in law.split():
        name, sign = word.strip("/"), -1 if word.startswith("/") else 1
        if name in SCALARS:
            total = total + sign * units[name]
            continue
        if name != ".":
            along = [1] * len(shape)
            along[axis] = shape[axis]
            total = total + sign * np.reshape(units[name], along)
        axis += 1
    assert axis == len(shape), f"law {law!r} for an array of shape {shape}"
    return total


def in_units(value: Any, law: str, units: dict[str, Any]) -> Any:
    value = np.asarray(value)
    power = exponents(law, units, value.shape)
    if np.iscomplexobj(value):
        return np.ldexp(value.real, power) + 1j * np.ldexp(value.imag, power)
    return np.ldexp(value.astype(np.float64), power)


# Cases


@dataclass(frozen=True)
class Case:
    """Arguments with their laws, and a function from them to answers with theirs."""

    covers: tuple[str, ...]
    data: Callable[[np.random.Generator], dict[str, tuple[Any, str]]]
    answers: Callable[..., dict[str, tuple[Any, str]]]
    units: str
    rtol: float
    draws: int


CASES: dict[str, Case] = {}


def case(
    *covers: str, data: Any, units: str = "xuyJt", rtol: float = 0.0, draws: int = DRAWS
) -> Any:
    """Register a function of arguments to answers; it is exact where no tolerance is given."""

    def register(answers: Any) -> Any:
        CASES[answers.__name__] = Case(covers, data, answers, units, rtol, draws)
        return answers

    return register


def words(value: Any) -> tuple[Any, str]:
    return value, "same"


def lq(rng):
    """A linear-quadratic problem of any kind, and a trajectory."""
    case = random_case(int(rng.integers(10**6)))
    laws = {
        "A": "x /x",
        "B": "x /u",
        "Q": "J /x /x",
        "R": "J /u /u",
        "S": "J /x /x",
        "M": "J /x /u",
        "c": "x",
        "q": "J /x",
        "r": "J /u",
        "s": "J /x",
    }
    plain = {"A": 2, "B": 2, "Q": 2, "R": 2, "S": 2, "M": 2, "c": 1, "q": 1, "r": 1, "s": 1}
    found = {}
    for name, array in case.data.items():
        law = laws[name]
        if array.ndim > plain[name]:  # it varies in time
            head = [word for word in law.split() if word.strip("/") in SCALARS]
            law = " ".join([*head, ".", *law.split()[len(head) :]])
        found[name] = (array, law)
    return found | {"x0": (case.x0, "x"), "u": (case.u, ". u")}


def constant(rng, *, n=4, m=2):
    """A constant problem with a stabilising solution, unstable."""
    A = rng.normal(size=(n, n))
    A *= 1.1 / np.abs(np.linalg.eigvals(A)).max()
    return {
        "A": (A, "x /x"),
        "B": (rng.normal(size=(n, m)), "x /u"),
        "Q": (psd(rng, n), "J /x /x"),
        "R": (psd(rng, m) + 0.1 * np.eye(m), "J /u /u"),
        "x0": (rng.normal(size=n), "x"),
        "K": (0.1 * rng.normal(size=(m, n)), "u /x"),
        "cov": (psd(rng, n) + 0.1 * np.eye(n), "x x"),
        "size": (0.5, "X"),
        "weight": (0.7, "J /X /X"),
        "u": (rng.normal(size=(8, m)), ". u"),
    }


def odd(rng):
    """One of any size: entries and rows that are zero, singular Q, M, modes that no input moves."""
    n, m = (int(size) for size in rng.integers(1, 6, size=2))
    A = 10.0 ** rng.normal(size=(n, n)) * rng.choice([-1, 0, 1], size=(n, n))
    B = rng.normal(size=(n, m)) * rng.choice([0, 1], size=(n, m))
    A[rng.integers(n)] *= rng.integers(2)
    half = rng.normal(size=(int(rng.integers(n + 1)), n + m))
    weight = half.T @ half
    return {
        "A": (A, "x /x"),
        "B": (B, "x /u"),
        "Q": (weight[:n, :n], "J /x /x"),
        "R": (weight[n:, n:] + np.diag(10.0 ** rng.uniform(-3, 3, size=m)), "J /u /u"),
        "M": (weight[:n, n:], "J /x /u"),
        "x0": (rng.normal(size=n), "x"),
    }


def unreached(rng):
    """One whose mode 1.2 no input moves, in other coordinates."""
    found = constant(rng)
    A, B = found["A"][0].copy(), found["B"][0].copy()
    A[0], B[0] = 0, 0
    A[0, 0] = 1.2
    U = np.linalg.qr(rng.normal(size=A.shape))[0]
    return found | {"A": (U @ A @ U.T, "x /x"), "B": (U @ B, "x /u")}


def estimation(rng, *, n=3, ny=2, T=8):
    A = rng.normal(size=(n, n))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    y = rng.normal(size=(T + 1, ny))
    y[2, 0] = np.nan
    return {
        "A": (A, "x /x"),
        "C": (rng.normal(size=(ny, n)), "y /x"),
        "W": (psd(rng, n), "x x"),
        "V": (psd(rng, ny) + 0.1 * np.eye(ny), "y y"),
        "m0": (rng.normal(size=n), "x"),
        "P0": (psd(rng, n) + 0.1 * np.eye(n), "x x"),
        "y": (y, ". y"),
    }


def noiseless(rng):
    """A state without noise, known at the start, that no sensor reads: it gets what A gives it."""
    found = estimation(rng)
    A = np.array([[0.9, 0.2, 0.0], [0.0, 0.8, 0.3], [0.0, 0.0, 0.7]])
    W, P0 = np.diag([0.0, 0.0, 1.0]), np.diag([0.0, 0.0, 2.0])
    C = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return found | {"A": (A, "x /x"), "C": (C, "y /x"), "W": (W, "x x"), "P0": (P0, "x x")}


def plant(rng, *, n=3, m=2, ny=2):
    """A stable plant in continuous time, with weights and noises for its controller."""
    A = rng.normal(size=(n, n))
    A -= (np.linalg.eigvals(A).real.max() + 0.5) * np.eye(n)
    return {
        "A": (A, "/t x /x"),
        "B": (rng.normal(size=(n, m)), "/t x /u"),
        "C": (rng.normal(size=(ny, n)), "y /x"),
        "D": (0.1 * rng.normal(size=(ny, m)), "y /u"),
        "dt": (0.1, "t"),
        "Q": (psd(rng, n), "J /t /x /x"),
        "R": (psd(rng, m) + 0.1 * np.eye(m), "J /t /u /u"),
        "W": (psd(rng, n), "x x"),
        "V": (psd(rng, ny) + 0.1 * np.eye(ny), "y y"),
        "Q_i": (psd(rng, ny) + 0.1 * np.eye(ny), "J /y /y"),
        "x0": (rng.normal(size=n), "x"),
        "reference": (rng.normal(size=ny), "y"),
        "omega": (np.array([0.1, 1.0, 10.0]), "/t ."),
    }


def sampled(A, B, C, dt, Q, R, **_):
    s = lqrad.discretise(A, B, Q, R, dt=float(dt))
    return StateSpace(s.A, s.B, C, dt=float(dt)), s


# Linear-quadratic problems


def problem_of(data):
    names = ["A", "B", "Q", "R", "S", "M", "c", "q", "r", "s"]
    return LQProblem(**{name: data[name] for name in names if name in data})


@case("LQProblem", "KKT", "Objective", data=lq, units="xuJ")
def passes(**data):
    problem, x0, u = problem_of(data), data["x0"], data["u"]
    x = problem.simulate(x0, u)
    p = problem.adjoint(x, u)
    cost, g = problem.value_and_gradient(x0, u)
    kkt = problem.kkt_residual(x, u, p, x0)
    return {
        "x": (x, ". x"),
        "p": (p, "J . /x"),
        "cost": (cost, "J"),
        "g": (g, "J . /u"),
        "own g": (problem.input_gradient(x, u, p), "J . /u"),
        "H u": (problem.hessian_product(u), "J . /u"),
        "lagrangian": (problem.lagrangian(x, u, p, x0), "J"),
        "kkt input": (kkt.input, "J . /u"),
        "kkt relative": words(kkt.relative),
        "with feedback": (
            problem.with_feedback(np.zeros((problem.m, problem.n))).Q,
            q_law(problem),
        ),
    }


def several(rng):
    """Three problems with the weights of one, and a trajectory of each."""
    found = {}
    for name, (array, law) in lq(rng).items():
        scales = np.array([1.0, 0.7, 3.0]) if name not in "QRMS" else np.ones(3)
        axes = law.split()
        axes.insert(axes[0] == "J", ".")
        found[name] = (np.stack([array * scale for scale in scales]), " ".join(axes))
    return found


@case("LQBatch", data=several, units="xuJ", rtol=OWN)
def batch_passes(x0, u, **data):
    batch = lqrad.lq.LQBatch(**data)
    x = batch.simulate(x0, u)
    J, g = batch.value_and_gradient(x0, u)
    return {
        "x": (x, ". . x"),
        "p": (batch.adjoint(x, u), "J . . /x"),
        "cost": (batch.cost(x, u), "J ."),
        "J": (J, "J ."),
        "g": (g, "J . . /u"),
    }


def solved(found, x0, axes):
    """The laws of a Riccati solution and its rollout, with these axes of problems and stages."""
    best = found.rollout(x0)
    return {
        "P": (found.P, f"J {axes} /x /x"),
        "K": (found.K, f"{axes} u /x"),
        "k": (found.k, f"{axes} u"),
        "x": (best.x, f"{axes} x"),
        "u": (best.u, f"{axes} u"),
        "p": (best.p, f"J {axes} /x"),
    }


@case("riccati", "RiccatiBatch", data=several, units="xuJ", rtol=OWN)
def batch_recursions(x0, u, **data):
    solution = lqrad.riccati(lqrad.lq.LQBatch(**data), u.shape[1])
    return solved(solution, x0, ". .") | {"cost": (solution.cost(x0), "J .")}


def q_law(problem):
    return "J . /x /x" if problem.Q.ndim == 3 else "J /x /x"


@case("riccati", "Riccati", "Trajectory", data=lq, units="xuJ", rtol=OWN)
def recursion(**data):
    problem = problem_of(data)
    found = lqrad.riccati(problem, len(data["u"]))
    return solved(found, data["x0"], ".") | {
        "cost": (found.cost(data["x0"]), "J"),
        "gap": gap(problem, data["x0"], data["u"]),
        "swept": words(found.swept),
    }


def gap(problem, x0, u):
    """The bound on J - J*, where it is known."""
    objective = problem.objective(x0, len(u))
    if objective.gap_bound is None:
        return words(None)
    return objective.gap_bound(objective.value_and_gradient(u)[1]), "J"


@case("dare", "dlqr", data=constant, units="xuJ")
def algebraic_equation(A, B, Q, R, **_):
    K, P, E = lqrad.dlqr(A, B, Q, R)
    return {"P": (P, "J /x /x"), "K": (K, "u /x"), "E": (E, ".")}


@case("dare", "riccati", "controllability", data=odd, units="xuJ", draws=20)
def odd_problems(A, B, Q, R, M, x0):
    """All of them, or the same refusal."""
    solution = lqrad.riccati(LQProblem(A, B, Q, R, M=M), 20)
    found = {
        "P": (solution.P, "J . /x /x"),
        "x": (solution.rollout(x0).x, ". x"),
        "modes": words(repr(lqrad.controllability(A, B))),
    }
    try:
        found["endless"] = (lqrad.dare(A, B, Q, R, M=M), "J /x /x")
    except lqrad.LqradError as error:
        found["error"] = words(type(error))
    return found


@case("NotStabilizableError", data=unreached, units="xuJ")
def no_solution(A, B, Q, R, **_):
    with pytest.raises(lqrad.NotStabilizableError) as caught:
        lqrad.dare(A, B, Q, R)
    return {"error": words(str(caught.value).split(": B is orthogonal")[0])}


@case("dlqe", data=estimation, units="xy")
def stationary_filter(A, C, W, V, **_):
    K, P, E = lqrad.dlqe(A, C, W, V)
    return {"P": (P, "x x"), "K": (K, "x /y"), "E": (E, ".")}


@case("dlqr_vjp", "LQGradient", data=constant, units="xuJ", rtol=OWN)
def regulator_gradient(A, B, Q, R, **_):
    K = lqrad.dlqr(A, B, Q, R)[0]
    found = lqrad.dlqr_vjp(A, B, Q, R, dP=np.zeros_like(Q), dK=1 / K)
    return {
        "A": (found.A, "/x x"),
        "B": (found.B, "/x u"),
        "Q": (found.Q, "/J x x"),
        "R": (found.R, "/J u u"),
    }


@case("controllability", "observability", "Modes", data=plant)
def modes(A, B, C, D, **_):
    system = StateSpace(A, B, C, D, dt=0)
    reached, seen = lqrad.controllability(system), lqrad.observability(system)
    return {
        "eigenvalues": (reached.eigenvalues, "/t ."),
        "distances": words(reached.distances.tolist()),
        "seen": words(seen.distances.tolist()),
        "reached": words(repr(reached)),
    }


@case("controllability", data=unreached, units="xuJ")
def modes_out_of_reach(A, B, **_):
    found = lqrad.controllability(A, B)
    return {"eigenvalues": (found.eigenvalues, "."), "found": words(repr(found))}


@case("gradient_growth", "GradientGrowth", data=constant, units="XUJ", rtol=OWN)
def growth(A, B, Q, **_):
    found = lqrad.gradient_growth(A, B, Q, T=30)
    return {
        "slope": (found.rate, ""),
        "norm": (np.exp(found.log_norms), "J /X /U ."),
        "lost": (found.lost_horizon, ""),
        "degree": words(found.predicted_degree),
    }


@case("gradient_growth", data=constant, units="xuJ", rtol=OWN)
def predicted_growth(A, B, Q, **_):
    found = lqrad.gradient_growth(A, B, Q, T=30)
    return {
        "rate": (found.predicted_rate, ""),
        "degree": words(found.predicted_degree),
    }


@case("lost_digits", "LostDigits", data=constant, units="xuJ")
def digits(A, B, Q, R, x0, **_):
    """Its errors are rounding errors, which no law binds but for their size."""
    found = lqrad.lost_digits(LQProblem(A, B, Q, R), x0, [5, 10, 20])
    return {"kept": words((found.errors < 1e-10).tolist()), "observed": words(found.observed)}


@case("conditioning", "Conditioning", data=constant, units="xUJ", rtol=OWN)
def condition(A, B, Q, R, **_):
    found = lqrad.conditioning(LQProblem(A, B, Q, R), [0.7, 1.1], [5, 20], max_iter=100)
    return {
        "smallest": (found.smallest, "J /U /U . ."),
        "largest": (found.largest, "J /U /U . ."),
        "limits": (found.limits, "."),
        "observed": words(repr(found.observed)),
    }


# Descents


@case("descend", "Descent", data=constant, units="xUJ")
def descents(A, B, Q, R, x0, **_):
    objective = LQProblem(A, B, Q, R).objective(x0, 12)
    found = {}
    for method in ("gradient", "heavy-ball", "nesterov", "conjugate-gradient", "l-bfgs"):
        done = lqrad.descend(objective, method=method, max_iter=300)
        found[f"{method} u"] = (done.solution, ". u")
        found[f"{method} value"] = (done.cost, "J")
        found[f"{method} end"] = words((done.status, done.iterations, done.evaluations))
    return found


@case("compare", "Comparison", data=constant, units="xUJ")
def comparison(A, B, Q, R, x0, **_):
    found = lqrad.compare(LQProblem(A, B, Q, R), x0, 12, ["conjugate-gradient", "l-bfgs"])
    return {
        "cost": (found.optimum.cost, "J"),
        "ends": words([(d.status, d.iterations) for d in found.descents]),
        "proof": words((found.residual, found.gaps, found.distances)),
        "curvature": (found.curvature, "J /U /U ."),
    }


@case("cures", "Cures", "Cure", "blowup", "Blowup", data=constant, units="xuJ")
def remedies(A, B, Q, R, x0, **_):
    found = lqrad.cures(LQProblem(A, B, Q, R), x0, 10, max_iter=200)
    optimum = found.optimum
    return {
        "ends": words([(c.name, c.status, c.iterations, c.gap, c.bias) for c in found.cures]),
        "u": (optimum.u, ". u"),
        "cost": (optimum.cost, "J"),
    }


@case("multiple_shooting", "Shooting", data=constant, units="xuJ")
def shooting(A, B, Q, R, x0, **_):
    found = lqrad.multiple_shooting(LQProblem(A, B, Q, R), x0, 30)
    return {
        "x": (found.x, ". x"),
        "u": (found.u, ". u"),
        "p": (found.p, "J . /x"),
        "cost": (found.cost, "J"),
        "end": words((found.cuts.tolist(), found.status, found.rounds, found.residual, found.jump)),
    }


@case("policy_gradient", "PolicyGradient", data=constant, units="xuJ")
def gain_descent(A, B, Q, R, cov, **_):
    K, found = 0.9 * lqrad.dlqr(A, B, Q, R)[0], {}
    for method in ("gradient", "natural", "gauss-newton"):
        done = lqrad.policy_gradient(LQProblem(A, B, Q, R), K, cov, method=method, max_iter=100)
        found |= {
            f"{method} K": (done.K, "u /x"),
            f"{method} P": (done.P, "J /x /x"),
            f"{method} end": words((done.status, done.iterations, done.evaluations)),
        }
    return found


# Control design


@case("discretise", "Sampled", data=plant)
def sampling(A, B, Q, R, dt, **_):
    found = lqrad.discretise(A, B, Q, R, dt=float(dt))
    return {
        "A": (found.A, "x /x"),
        "B": (found.B, "x /u"),
        "Q": (found.Q, "J /x /x"),
        "R": (found.R, "J /u /u"),
        "M": (found.M, "J /x /u"),
    }


@case("StateSpace", data=plant, rtol=OWN)
def frequency_response(A, B, C, D, dt, omega, **data):
    system = StateSpace(A, B, C, D, dt=0)
    discrete, _ = sampled(A, B, C, dt, **data)
    return {
        "continuous": (system.response(omega), ". y /u"),
        "discrete": (discrete.response(omega), ". y /u"),
        "poles": (system.poles, "/t ."),
    }


@case("lqr", "lqi", "lqg", "Controller", "Observer", "steady_state_targets",
      "disturbance_observer", data=plant)  # fmt: skip
def regulators(Q_i, W, V, reference, **data):
    system, s = sampled(**data)
    targets = lqrad.steady_state_targets(system, reference)
    lqi = lqrad.lqi(system, s.Q, s.R, Q_i, M=s.M)
    lqg = lqrad.lqg(system, s.Q, s.R, W, V, M=s.M)
    disturbed = lqrad.design.disturbance_observer(system, W, V, V, at="output")
    return {
        "L of disturbances": (disturbed.L[system.n :], "y /y"),
        "L with disturbances": (disturbed.L[: system.n], "x /y"),
        "lqr": (lqrad.lqr(system, s.Q, s.R, M=s.M).K, "u /x"),
        "x": (targets[0], "x"),
        "u": (targets[1], "u"),
        "lqi": (lqi.K, "u /x"),
        "K_i": (lqi.K_i, "u /y"),
        "L": (lqg.observer.L, "x /y"),
    }


@case(
    "simulate_closed_loop", "ClosedLoop", "expected_cost", "margins", "Margins", "LoopMargins",
    "design_controller", "Design", data=plant, rtol=OWN,
)  # fmt: skip
def closed_loop(W, V, x0, **data):
    system, s = sampled(**data)
    controller = lqrad.lqg(system, s.Q, s.R, W, V, M=s.M)
    run = lqrad.simulate_closed_loop(system, controller, 12, x0=x0, Q=s.Q, R=s.R, M=s.M)
    design = lqrad.design_controller(system, s.Q, s.R, M=s.M, W=W, V=V)
    found = lqrad.margins(controller.loop(system))
    return {
        "x": (run.x, ". x"),
        "u": (run.u, ". u"),
        "expected": (lqrad.expected_cost(system, controller, s.Q, s.R, W=W, V=V, M=s.M), "J"),
        "cost rate": (design.cost_rate, "J"),
        "poles": (design.poles, "."),
        "gains": ([loop.gain for loop in found.loops], ". ."),
        "phases": ([loop.phase for loop in found.loops], "."),
        "delays": ([loop.delay for loop in found.loops], "t ."),
        "frequencies": ([loop.phase_frequency for loop in found.loops], "/t ."),
    }


@case("step_response", "StepResponse", data=plant, rtol=OWN)
def step(**data):
    system, _ = sampled(**data)
    found = lqrad.step_response(system)
    return {
        "t": (found.t, "t ."),
        "y": (found.y, ". y /u"),
        "final": (found.final, "y /u"),
        "settling": (found.settling, "t . ."),
    }


@case("mpc", "MPC", "Plan", data=constant, units="xuJ")
def predictive(A, B, Q, R, x0, **_):
    size = np.abs(lqrad.dlqr(A, B, Q, R)[0] @ x0)
    bounds, problem = (-size / 2, size / 2), LQProblem(A, B, Q, R)
    plan = lqrad.mpc(problem, 10, input_bounds=bounds).plan(x0)
    ramp = np.outer(np.linspace(0, 1, 11), x0)
    told = lqrad.mpc(problem, 10, input_bounds=bounds).plan(x0, x_ref=ramp, disturbance=x0 / 8)
    # All states are to follow, which no steady state can, and that within the limits.
    controller = lqrad.mpc(problem, 10, input_bounds=bounds, H=np.eye(len(A)))
    target = controller.plan(x0, 8 * x0)
    moved = lqrad.mpc(problem, 10, input_bounds=bounds, rate_weight=3 * R, blocks=[1, 2, 4])
    return {
        "moved": (moved.plan(x0).u, ". u"),
        "x": (plan.x, ". x"),
        "u": (plan.u, ". u"),
        "cost": (plan.cost, "J"),
        "told x": (told.x, ". x"),
        "told u": (told.u, ". u"),
        "x_ref": (target.x_ref, ". x"),
        "u_ref": (target.u_ref, ". u"),
        "missed": (target.missed, ". x"),
        "end": words((plan.status, plan.iterations)),
    }


@case("Limit", "PlanRows", data=constant, units="xuJ")
def predictive_rows(A, B, Q, R, x0, **_):
    """Rows of K x + u, whose units are those of the inputs: hard, with a price, with a spring."""
    K, _, _ = lqrad.dlqr(A, B, Q, R)
    size, both = np.abs(K @ x0), (K, np.eye(len(K)))
    found, limits = {}, {"low": -size / 2, "high": size / 2}
    weights = {"price": 0.1 * R.diagonal() * size, "spring": R.diagonal()}
    for name, given in (("hard", {}), *((key, {key: z}) for key, z in weights.items())):
        rows = [lqrad.design.Limit(*both, **limits, **given)]
        plan = lqrad.mpc(LQProblem(A, B, Q, R), 10, rows=rows, terminal="origin").plan(x0)
        found |= {
            f"{name} x": (plan.x, ". x"),
            f"{name} u": (plan.u, ". u"),
            f"{name} cost": (plan.cost, "J"),
            f"{name} excess": (plan.rows.excess[:, : len(K)], ". u"),
            f"{name} end": words((plan.status, plan.iterations)),
        }
    return found


@case("plan_vjp", "PlanGradient", data=constant, units="xuJ", rtol=OWN)
def through_a_plan(A, B, Q, R, x0, **_):
    size = np.abs(lqrad.dlqr(A, B, Q, R)[0] @ x0)
    plan = lqrad.mpc(LQProblem(A, B, Q, R), 10, input_bounds=(-size / 2, size / 2)).plan(x0)
    dx, du = np.vstack([plan.p, plan.p[:1]]), plan.u @ R
    found = lqrad.lq.plan_vjp(plan, dx=dx, du=du, dcost=1.0)
    return {
        "A": (found.A, "J /x x"),
        "B": (found.B, "J /x u"),
        "Q": (found.Q, "x x"),
        "R": (found.R, "u u"),
        "S": (found.S, "x x"),
        "x0": (found.x0, "J /x"),
        "high": (found.high, "J . /u"),
        "x_ref": (found.x_ref, "J . /x"),
        "weak": words(found.weak.tolist()),
    }


@case("worst_case", "WorstCase", data=constant, units="xuJ", draws=1)
def worst(A, B, Q, R, x0, **_):
    size = np.abs(lqrad.dlqr(A, B, Q, R)[0] @ x0) + np.abs(lqrad.dlqr(A, B, Q, R)[0]) @ np.abs(x0)
    controller = lqrad.mpc(LQProblem(A, B, Q, R), 1, input_bounds=(-size / 2, size / 2))
    found = lqrad.design.worst_case(controller, -np.abs(x0), np.abs(x0))
    return {"counts": words((found.iterations, found.from_reset, found.sets))}


@case("invariant_set", "InvariantSet", data=constant, units="xuJ")
def invariance(A, B, Q, R, x0, **_):
    K = lqrad.dlqr(A, B, Q, R)[0]
    loop, far = A - B @ K, np.abs(x0)
    found = lqrad.design.invariant_set(loop, np.eye(len(A)), -far, 2 * far)
    rows = found.source[:, 0]
    return {
        "reach": (found.reach, "x"),
        "E": (found.E * far / far[rows, None], ". ."),
        "low": (found.low / far[rows], "."),
        "ahead": (found.ahead * far[rows] / far[rows, None], ". . ."),
        "end": words((found.source.tolist(), found.steps)),
    }


# Estimation


@case("SmoothingProblem", "kalman_filter", "kalman_smoother", "rts_smoother", "Filtered", "Smoothed",
      data=estimation, units="xy")  # fmt: skip
def smoothing(y, **data):
    problem = SmoothingProblem(**data)
    found = {}
    for name in ("kalman_smoother", "rts_smoother"):
        smoothed = getattr(lqrad, name)(problem, y)
        found |= {
            f"{name} x": (smoothed.x, ". x"),
            f"{name} cov": (smoothed.cov, ". x x"),
            f"{name} lag": (smoothed.lag_cov, ". x x"),
            f"{name} method": words(smoothed.method),
        }
    filtered = lqrad.kalman_filter(problem, y)
    return found | {
        "filtered": (filtered.x, ". x"),
        "cov": (filtered.cov, ". x x"),
        "innovations": (np.nan_to_num(filtered.innovations), ". y"),
    }


def estimations(rng):
    """Three models of one size, each with a series."""
    drawn = [estimation(rng) for _ in range(3)]
    return {
        name: (np.stack([one[name][0] for one in drawn]), f". {law}")
        for name, (_, law) in drawn[0].items()
    }


@case("SmoothingBatch", data=estimations, units="xy")
def many_models(y, **data):
    batch = lqrad.smoothing.SmoothingBatch(**data)
    smoothed, filtered = lqrad.kalman_smoother(batch, y), lqrad.kalman_filter(batch, y)
    return {
        "x": (smoothed.x, ". . x"),
        "cov": (smoothed.cov, ". . x x"),
        "p": (smoothed.p, ". . /x"),
        "filtered": (filtered.x, ". . x"),
        "method": words(smoothed.method),
    }


@case("kalman_filter", data=noiseless, units="xy")
def smoothing_without_noise(y, **data):
    problem = SmoothingProblem(**data)
    smoothed, filtered = lqrad.kalman_smoother(problem, y), lqrad.kalman_filter(problem, y)
    return {
        "x": (smoothed.x, ". x"),
        "cov": (smoothed.cov, ". x x"),
        "filtered": (filtered.x, ". x"),
    }


@case("loglik", data=estimation, units="xy", rtol=1e-12)
def likelihood(y, V, **data):
    """The density of y has the unit of 1/y for each entry that is seen."""
    volume = 0.5 * (~np.isnan(y) * np.log(np.diag(V))).sum()
    return {"loglik": (lqrad.smoothing.loglik(SmoothingProblem(V=V, **data), y) + volume, "")}


@case("loglik_gradient", "Score", data=estimation, units="xy")
def score(y, **data):
    found = lqrad.loglik_gradient(SmoothingProblem(**data), y)
    return {"A": (found.A, "/x x"), "C": (found.C, "/y x"), "W": (found.W, "/x /x")}


@case("em", "Fit", data=estimation, units="xy")
def expectation_maximisation(y, **data):
    found = lqrad.em(SmoothingProblem(**data), y, learn=["V"], max_iter=5)
    return {"V": (found.problem.V, "y y"), "message": words(found.status)}


@case("duality", "Duality", data=estimation, units="xy")
def dual(A, C, W, V, m0, P0, **_):
    found = lqrad.duality(SmoothingProblem(A, C, W, V, m0, P0), 6)
    return {"P": (found.filter_cov, ". x x"), "K": (found.stationary_gain, "x /y")}


@case("fit", data=estimation, units="xy")
def fitted(y, V, **data):
    found = lqrad.fit(
        lambda theta: SmoothingProblem(**data, V=np.exp(theta[0]) * V), [0.5], y, max_iter=20
    )
    return {"theta": (found.theta, "."), "end": words((found.status, found.iterations))}


# Sparse problems: the rows of E x[t+1] = F x[t] + G u[t] have no unit


def diffusion(rng, *, n=6):
    laplace = np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1)
    return {
        "E": (np.eye(n) - laplace, ". /x"),
        "F": (np.eye(n), ". /x"),
        "G": (np.eye(n)[:, 2:4], ". /u"),
        "Q": (np.eye(n), "J /x /x"),
        "R": (0.1 * np.eye(2), "J /u /u"),
        "x0": (rng.normal(size=n), "x"),
        "u": (rng.normal(size=(5, 2)), ". u"),
    }


@case("SparseLQProblem", data=diffusion, units="xuJ", rtol=OWN)
def sparse_passes(x0, u, **data):
    problem = lqrad.SparseLQProblem(**data)
    cost, g = problem.value_and_gradient(x0, u)
    return {"x": (problem.simulate(x0, u), ". x"), "cost": (cost, "J"), "g": (g, "J . /u")}


def readings(rng):
    found = diffusion(rng)
    return found | {
        "C": (np.eye(6)[[1, 4]], "y /x"),
        "y": (rng.normal(size=(6, 2)), ". y"),
        "noise": (np.full(2, 0.1), "y"),
        "weight": (np.eye(6), "/x /x"),
    }


@case("invert", "Inversion", data=readings, units="xuyJ", rtol=OWN)
def inversion(C, y, noise, x0, u, weight, **data):
    problem = lqrad.SparseLQProblem(**data)
    found = lqrad.invert(problem, y, C, noise=noise, u=u, weight=weight, alpha=0.3)
    return {"x0": (found.w, "x"), "iterations": words(found.iterations)}


@case("low_rank", "LowRank", data=constant, units="xuJ", rtol=OWN)
def curvature(A, B, Q, R, x0, **_):
    found = lqrad.low_rank(LQProblem(A, B, Q, R).objective(x0, 8), R, 3)
    return {"values": (found.values, ".")}


@case("penalised", data=constant, units="XuJ")
def penalty(A, B, Q, R, x0, size, weight, u, **_):
    shaped = lqrad.huber(float(size), weight=float(weight))
    objective = lqrad.penalised(LQProblem(A, B, Q, R), x0, 8, state=shaped)
    value, g = objective.value_and_gradient(u)
    return {"value": (value, "J"), "g": (g, "J . /u"), "shape": words(objective.shape)}


@case("PolicyProblem", "linear_policy", data=constant, units="xuJ")
def linear_gain(A, B, Q, R, x0, K, **_):
    problem = lqrad.PolicyProblem(LQProblem(A, B, Q, R), lqrad.linear_policy(4, 2), T=6)
    value, gradient = problem.value_and_gradient(x0[None], {"K": K})
    return {"value": (value, "J"), "K": (gradient["K"], "J /u x")}


# Nonlinear problems


def pendulum(rng):
    return {
        "x0": (np.array([0.3, -0.2]), "x"),
        "sx": (np.ones(2), "x"),
        "su": (np.ones(1), "u"),
        "sJ": (1.0, "J"),
        "u": (0.1 * rng.normal(size=(12, 1)), ". u"),
    }


def scaled_pendulum(sx, su, sJ):
    def f(x, u):
        x, u = x / sx, u / su
        a, v = x[..., 0], x[..., 1]
        return sx * np.stack([a + 0.1 * v, v + 0.1 * (np.sin(a) + u[..., 0])], axis=-1)

    def stage(x, u):
        x, u = x / sx, u / su
        return sJ * ((1 - np.cos(x[..., 0])) + 0.1 * x[..., 1] ** 2 + 0.05 * u[..., 0] ** 2)

    def terminal(x):
        x = x / sx
        return sJ * 5 * (x[..., 0] ** 2 + x[..., 1] ** 2)

    return ControlProblem(f, stage, terminal, n=2, m=1)


@case("ControlProblem", data=pendulum, units="xuJ")
def nonlinear_passes(x0, sx, su, sJ, u):
    problem = scaled_pendulum(sx, su, sJ)
    cost, g = problem.value_and_gradient(x0, u)
    return {"cost": (cost, "J"), "g": (g, "J . /u")}


@case("ilqr", "ILQR", data=pendulum, units="xuJ", rtol=OWN)
def nonlinear_optimum(x0, sx, su, sJ, u):
    found = lqrad.ilqr(scaled_pendulum(sx, su, sJ), x0, u=u)
    return {
        "cost": (found.cost, "J"),
        "x": (found.x, ". x"),
        "end": words((found.status, found.iterations)),
    }


# What no case covers, each with its reason

NUMBERS = "takes numbers or functions of numbers, no model"
GRAPH = "a graph of the user's own functions, whose units it does not know"
EXEMPT = {
    **dict.fromkeys(["cart_pole_swingup", "NonlinearSystem", "pendulum_swingup", "planar_quadrotor",
                     "unicycle_parking", "van_der_pol"], "an example, in units of its own"),
    **dict.fromkeys(["disk_gain", "disk_phase"], "numbers without a unit"),
    **dict.fromkeys(["riccati_vjp", "riccati_cost_gradient"], "as dlqr_vjp, over a horizon: tests/lq/test_riccati_gradient.py"),
    "Feasibility": "a verdict and a sentence",
    "plot": "a picture",
    **dict.fromkeys(
        ["ArgumentError", "DtypeError", "LqradError", "NonFiniteError", "NotConvexError", "ShapeError"],
        "an error; that one is raised in all units or in none, the cases show",
    ),
    **dict.fromkeys(
        ["Penalty", "cosine_decay", "huber", "l1", "log_barrier", "one_point", "step_decay",
         "student_t", "Status", "sweep", "Sweep", "dot_test", "taylor_test", "TaylorTest"],
        NUMBERS,
    ),
    **dict.fromkeys(
        ["Graph", "GraphKKT", "Node", "Primitive", "mlp", "recurrent", "residual_network", "sgd", "Training"],
        GRAPH,
    ),
    **dict.fromkeys(["euler", "implicit_midpoint", "rk4"], "a step of the user's function f"),
    **dict.fromkeys(
        ["heat_rod", "heat_plate", "advection_diffusion", "HeatSystem"],
        "a system in metres and seconds, made of numbers",
    ),
    **dict.fromkeys(
        [
            *("load_controller", "save_controller", "load_parameters", "save_parameters"),
            *("load_model", "load_plant", "load_series", "load_smoothing_model"),
            *("Model", "PlantFile", "Series"),
        ],
        "writes and reads arrays as they are",
    ),
    **dict.fromkeys(
        ["nonnormality", "Nonnormality", "pseudospectrum"],
        "the norm of a power of A is one of the state in the user's units, by definition",
    ),
    "lq_graph": "the passes of LQProblem, node by node: tests/problems/test_cascade.py",
    "robust_objective": "its losses are of residuals over sqrt(V); the smoothers' case covers these",
}  # fmt: skip


def public_names() -> set[str]:
    return {name for name in NAMES if not inspect.ismodule(getattr(lqrad, name))}


def test_every_public_name_is_in_a_case_or_exempt():
    covered = {name for case in CASES.values() for name in case.covers}
    assert covered | set(EXEMPT) == public_names()
    assert not covered & set(EXEMPT)


def drawn(rng, names, sizes):
    """Exponents for each unit: zero of those without a name, and alike for one in capitals."""
    units = {}
    for name, size in sizes.items():
        power = rng.integers(-LARGEST, LARGEST + 1, size=size or None)
        if name.upper() in names and size:
            power = np.full(size, power[0])
        elif name not in names:
            power = 0 * power
        units[name] = power
    for name in "xu":
        units[name.upper()] = units[name][0] if sizes[name] else 0
    return units


def sizes_of(data):
    sizes = {"J": 0, "t": 0, "x": 0, "u": 0, "y": 0}
    for value, law in data.values():
        axes = [word.strip("/") for word in law.split() if word.strip("/") not in SCALARS]
        for name, size in zip(axes, np.shape(value), strict=True):
            if name != ".":
                sizes[name] = size
    return sizes


@pytest.mark.parametrize("name", CASES)
def test_answers_are_the_same_in_other_units(name):
    case = CASES[name]
    rng = np.random.default_rng(list(CASES).index(name))
    for _ in range(case.draws):
        data = case.data(rng)
        expected = case.answers(**{key: np.array(value) for key, (value, _) in data.items()})
        units = drawn(rng, case.units, sizes_of(data))
        found = case.answers(
            **{key: in_units(value, law, units) for key, (value, law) in data.items()}
        )
        for key, (value, law) in expected.items():
            if law == "same":
                assert found[key][0] == value, key
                continue
            returned = in_units(found[key][0], law, {k: -v for k, v in units.items()})
            assert_close(returned, np.asarray(value), case.rtol, f"{key} of {name}")


def assert_close(found, expected, rtol, what):
    """To the bit, or to a part of its own entry."""
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=0, err_msg=what)
