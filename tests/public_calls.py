"""One good call of everything public, for tests that hold for all of it.

`CALLS` maps a name, such as "LQProblem.simulate", to a function that makes a fresh call: what is
called, and its arguments by name. What needs none is left out.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from names import NAMES

import lqrad
from lqrad import datasets, nonlinear, primitives, systems

Call = tuple[Callable[..., Any], dict[str, Any]]

CALLS: dict[str, Callable[[], Call]] = {}

# What a user does not make, but is given, or that has no numbers; each with the reason.
EXEMPT = {
    "ClosedLoop": "a result",
    "Comparison": "a result",
    "Blowup": "a result",
    "Conditioning": "a result",
    "Cure": "a result",
    "Cures": "a result",
    "Descent": "a result",
    "Design": "a result",
    "Duality": "a result",
    "Feasibility": "a result",
    "Filtered": "a result",
    "Fit": "a result",
    "GradientGrowth": "a result",
    "GraphKKT": "a result",
    "HeatSystem": "a result of heat_rod and its like",
    "ILQR": "a result",
    "InvariantSet": "a result of invariant_set",
    "Inversion": "a result",
    "KKT": "a result",
    "LQGradient": "a result",
    "LoopMargins": "a result",
    "LostDigits": "a result",
    "LowRank": "a result",
    "MPC": "a result of mpc",
    "Margins": "a result",
    "Modes": "a result",
    "Nonnormality": "a result",
    "Plan": "a result",
    "PlanGradient": "a result",
    "PlanRows": "a result",
    "RiccatiBatch": "a result",
    "Riccati.vjp": "riccati_vjp, under its former name",
    "Riccati.cost_gradient": "riccati_cost_gradient, under its former name",
    "Model": "a result of load_model",
    "PlantFile": "a result of load_plant",
    "Series": "a result of load_series",
    "load_model": "reads files: tests/files/test_models.py",
    "load_plant": "reads files: tests/files/test_models.py",
    "load_series": "reads files: tests/files/test_series.py",
    "load_smoothing_model": "reads files: tests/files/test_models.py",
    "plot": "takes results, and the options of a function in lqrad.plotting",
    "PolicyGradient": "a result",
    "Riccati": "a result",
    "Sampled": "a result of discretise",
    "Score": "a result",
    "Shooting": "a result",
    "Smoothed": "a result",
    "Status": "an enumeration",
    "StepResponse": "a result",
    "WorstCase": "a result",
    "Sweep": "a result",
    "TaylorTest": "a result",
    "Training": "a result",
    "Trajectory": "a result",
    "ControlProblem.next_state": "called at each step, with what has been checked",
    "LQProblem.next_state": "called at each step, with what has been checked",
    "Node.products": "called by Graph, with what it has checked",
    "Node.value": "called by Graph, with what it has checked",
    "Graph.leading_to": "called by PolicyProblem, with what it has checked",
    "Graph.pull_back": "called by PolicyProblem, with what it has checked",
    "Primitive.vjp": "called by Graph, with what it has checked",
    "Primitive.has_vjp": "called by Graph, with what it has checked",
    "SmoothingBatch.observations": "takes what SmoothingBatch.series returns",
    "SmoothingProblem.observations": "takes what SmoothingProblem.series returns",
    "SmoothingProblem.whitened": "takes what SmoothingProblem.observations returns",
    "SmoothingProblem.in_units": "takes powers of two that lqrad has found",
    "NonlinearSystem": "a result of pendulum_swingup and its like",
    "systems.System": "a result of inverted_pendulum and its like",
} | {
    f"{kind}Error{method}": "an error"
    for kind in ("Argument", "Dtype", "Lqrad", "NonFinite", "NotConvex", "NotStabilizable", "Shape")
    for method in ("", ".within")
}


def public() -> Iterator[str]:
    """The name of every public function, class and method that takes an argument."""
    for name in [*NAMES, "datasets", "primitives", "systems"]:
        thing = getattr(lqrad, name)
        if inspect.ismodule(thing):
            for key, value in vars(thing).items():
                if (
                    not key.startswith("_")
                    and getattr(value, "__module__", "").startswith(thing.__name__)
                    and callable(value)
                    and not isinstance(value, lqrad.Primitive)
                    and key != "Primitive"
                    and inspect.signature(value).parameters
                ):
                    yield f"{name}.{key}"
        elif inspect.isclass(thing):
            yield name
            for base in thing.__mro__:
                if not base.__module__.startswith("lqrad"):
                    continue
                for key, value in vars(base).items():
                    function = getattr(value, "__func__", value)
                    if key.startswith("_") or not inspect.isfunction(function):
                        continue
                    if key == "plot":  # its options are those of a function in lqrad.plotting
                        continue
                    if len(inspect.signature(function).parameters) > 1:
                        yield f"{name}.{key}"
        elif inspect.signature(thing).parameters:
            yield name


def call(name: str) -> Callable[[Callable[[], Call]], Callable[[], Call]]:
    def add(make: Callable[[], Call]) -> Callable[[], Call]:
        CALLS[name] = make
        return make

    return add


def data(T: int = 4) -> dict[str, Any]:
    """Arrays of a problem of two states and one input, fresh ones."""
    rng = np.random.default_rng(0)
    return {
        "A": np.array([[1.0, 0.1], [-0.2, 0.9]]),
        "B": np.array([[0.005], [0.1]]),
        "Q": np.array([[2.0, 0.5], [0.5, 1.0]]),
        "R": np.array([[0.5]]),
        "S": np.array([[3.0, 0.0], [0.0, 1.0]]),
        "M": np.array([[0.1], [0.2]]),
        "c": np.array([0.1, 0.0]),
        "q": np.array([0.1, 0.2]),
        "r": np.array([0.3]),
        "s": np.array([0.1, -0.1]),
        "x0": np.array([1.0, -0.5]),
        "u": rng.normal(size=(T, 1)),
        "v": rng.normal(size=(T, 1)),
        "x": rng.normal(size=(T + 1, 2)),
        "p": rng.normal(size=(T, 2)),
        "K": np.array([[1.0, 1.5]]),
        "C": np.array([[1.0, 0.0]]),
        "W": np.diag([0.1, 0.2]),
        "V": np.array([[0.5]]),
        "m0": np.array([0.5, 0.0]),
        "P0": np.eye(2),
        "y": rng.normal(size=(T + 1, 1)),
        "T": T,
    }


def of(*names: str, T: int = 4) -> dict[str, Any]:
    """Those arrays with these names."""
    arrays = data(T)
    return {name: arrays[name] for name in names}


@cache
def problem() -> lqrad.LQProblem:
    return lqrad.LQProblem(**of(*"ABQRS"))


@cache
def batch() -> lqrad.lq.LQBatch:
    return lqrad.lq.LQBatch(**of(*"ABQRS") | {"A": several()})


def several() -> np.ndarray:
    """The matrices A of three problems."""
    return data()["A"] * np.array([1.0, 0.9, 1.1])[:, None, None]


@cache
def free() -> lqrad.LQProblem:
    return lqrad.LQProblem(**of(*"ABQR"))


@cache
def plant() -> lqrad.StateSpace:
    return lqrad.StateSpace(**of(*"ABC"), dt=0.1)


@cache
def model() -> lqrad.SmoothingProblem:
    return lqrad.SmoothingProblem(**of("A", "C", "W", "V", "m0", "P0"))


@cache
def sparse() -> lqrad.SparseLQProblem:
    arrays = data()
    return lqrad.SparseLQProblem(np.diag([1.5, 2.0]), *(arrays[name] for name in "ABQR"))


@cache
def control() -> lqrad.ControlProblem:
    return lqrad.ControlProblem(swing, effort, distance, n=2, m=1)


@cache
def observer() -> lqrad.Observer:
    return lqrad.Observer.kalman(plant(), data()["W"], data()["V"])


def controller() -> lqrad.Controller:
    return lqrad.Controller(observer(), data()["K"], dt=0.1)


def feedthrough_controller() -> lqrad.Controller:
    plant = lqrad.StateSpace(**of(*"ABC"), D=[[0.1]], dt=0.1)
    return lqrad.lqg(plant, **of(*"QRWV"), H=data()["C"])


quiet = np.errstate(over="ignore", invalid="ignore")  # a user's function may overflow


@quiet
def swing(x: Any, u: Any) -> Any:
    rate = x[..., 1] - 0.1 * np.sin(x[..., 0]) + 0.1 * u[..., 0]
    return np.stack([x[..., 0] + 0.1 * rate, rate], axis=-1)


@quiet
def rates(x: Any, u: Any) -> Any:
    return np.stack([x[..., 1], u[..., 0] - np.sin(x[..., 0])], axis=-1)


@quiet
def effort(x: Any, u: Any) -> Any:
    return (x**2).sum(axis=-1) + (u**2).sum(axis=-1)


@quiet
def distance(x: Any) -> Any:
    return (x**2).sum(axis=-1)


def bowl(z: Any) -> Any:
    return 0.5 * float(np.vdot(z, z)), np.array(z)


@quiet
def square(z: Any) -> Any:
    return (z**2).sum(axis=-1)


@quiet
def slope(z: Any) -> Any:
    return 2 * z


def identity(z: Any) -> Any:
    return np.array(z)


def of_sizes(**sizes: Any) -> float:
    return float(sum(sizes.values()))


@quiet
def quartic(z: Any) -> Any:
    return float(np.sum(z**4)), 4 * z**3


@quiet
def built(theta: Any) -> lqrad.SmoothingProblem:
    arrays = of("A", "C", "W", "V", "m0", "P0")
    return lqrad.SmoothingProblem(**arrays | {"V": arrays["V"] * np.exp(theta[0])})


@cache
def network() -> lqrad.Graph:
    return lqrad.mlp([2, 3, 2])


@cache
def theta() -> dict[str, Any]:
    return network().initial(0)


def samples() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=(6, 2)), "y": rng.integers(0, 2, size=6)}


@cache
def values() -> dict[str, Any]:
    return network().forward(samples(), theta())


@cache
def costates() -> dict[str, Any]:
    return network().adjoint(values(), theta())


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="lqrad-"))


@cache
def saved_sweep() -> Path:
    lqrad.sweep(of_sizes, {"a": [1, 2]}, path=folder() / "sweep")
    return folder() / "sweep"


@cache
def saved_controller() -> Path:
    lqrad.save_controller(folder() / "saved.json", controller())
    return folder() / "saved.json"


@cache
def saved_parameters() -> Path:
    lqrad.save_parameters(folder() / "saved.npz", theta())
    return folder() / "saved.npz"


# Problems

for _name in ("simulate", "value_and_gradient"):
    CALLS[f"LQProblem.{_name}"] = lambda name=_name: (getattr(problem(), name), of("x0", "u"))
    CALLS[f"ControlProblem.{_name}"] = lambda name=_name: (getattr(control(), name), of("x0", "u"))
    CALLS[f"SparseLQProblem.{_name}"] = lambda name=_name: (getattr(sparse(), name), of("x0", "u"))
for _name in ("cost", "adjoint"):
    CALLS[f"LQProblem.{_name}"] = lambda name=_name: (getattr(problem(), name), of("x", "u"))
    CALLS[f"ControlProblem.{_name}"] = lambda name=_name: (getattr(control(), name), of("x", "u"))
    CALLS[f"SparseLQProblem.{_name}"] = lambda name=_name: (getattr(sparse(), name), of("x", "u"))
for _name, _extra in (("input_gradient", ()), ("lagrangian", ("x0",)), ("kkt_residual", ("x0",))):
    CALLS[f"LQProblem.{_name}"] = lambda name=_name, extra=_extra: (
        getattr(problem(), name),
        of("x", "u", "p", *extra),
    )
    CALLS[f"SparseLQProblem.{_name}"] = lambda name=_name, extra=_extra: (
        getattr(sparse(), name),
        of("x", "u", "p", *extra),
    )
    CALLS[f"ControlProblem.{_name}"] = lambda name=_name, extra=_extra: (
        getattr(control(), name),
        of("x", "u", "p", *extra),
    )
for _name, _given in (
    ("simulate", "x0 u"),
    ("value_and_gradient", "x0 u"),
    ("cost", "x u"),
    ("adjoint", "x u"),
    ("horizon", "T"),
):
    CALLS[f"LQBatch.{_name}"] = lambda name=_name, given=_given: (
        getattr(batch(), name),
        of(*given.split()),
    )
CALLS |= {
    "LQBatch": lambda: (lqrad.lq.LQBatch, of(*"ABQRSMcqrs") | {"A": several()}),
    "LQBatch.of": lambda: (lqrad.lq.LQBatch.of, {"problems": [problem(), problem()]}),
    "LQProblem": lambda: (lqrad.LQProblem, of(*"ABQRSMcqrs")),
    "LQProblem.replace": lambda: (problem().replace, of(*"AQS")),
    "LQProblem.tracking": lambda: (
        lqrad.LQProblem.tracking,
        of(*"ABQRS") | {"x_ref": np.ones((5, 2)), "u_ref": np.ones((4, 1))},
    ),
    "LQProblem.from_statespace": lambda: (
        lqrad.LQProblem.from_statespace,
        {"system": plant(), **of(*"QRS")},
    ),
    "LQProblem.with_feedback": lambda: (problem().with_feedback, of("K")),
    "LQProblem.hessian_product": lambda: (problem().hessian_product, of("v")),
    "LQProblem.objective": lambda: (problem().objective, of("x0", "T")),
    "LQProblem.horizon": lambda: (problem().horizon, of("T")),
    "LQProblem.derivatives": lambda: (problem().derivatives, of("x", "u")),
    "SparseLQProblem": lambda: (
        lqrad.SparseLQProblem,
        {"E": np.diag([1.5, 2.0]), "F": data()["A"], "G": data()["B"], **of(*"QRScqrs")},
    ),
    "SparseLQProblem.tracking": lambda: (
        lqrad.SparseLQProblem.tracking,
        {
            "E": np.diag([1.5, 2.0]),
            "F": data()["A"],
            "G": data()["B"],
            **of(*"QRS"),
            "x_ref": np.ones((5, 2)),
            "u_ref": np.ones((4, 1)),
        },
    ),
    "SparseLQProblem.value_and_gradient": lambda: (
        sparse().value_and_gradient,
        of("x0", "u") | {"checkpoints": 2},
    ),
    "SparseLQProblem.hessian_product": lambda: (
        sparse().hessian_product,
        of("v", "x0", "u") | {"checkpoints": 2},
    ),
    "SparseLQProblem.pull_back": lambda: (sparse().pull_back, {"f": data()["x"], "x": data()["x"]}),
    "SparseLQProblem.objective": lambda: (sparse().objective, of("x0", "T") | {"checkpoints": 2}),
    "SparseLQProblem.horizon": lambda: (sparse().horizon, of("T")),
    "ControlProblem": lambda: (
        lqrad.ControlProblem,
        {"f": swing, "stage_cost": effort, "terminal_cost": distance, "n": 2, "m": 1},
    ),
    "ControlProblem.derivatives": lambda: (control().derivatives, of("x", "u")),
    "ControlProblem.linearise": lambda: (control().linearise, of("x", "u", "p")),
    "ControlProblem.horizon": lambda: (control().horizon, of("T")),
    "ControlProblem.hessian_product": lambda: (
        control().hessian_product,
        {"v": data()["u"], **of("x0", "u")},
    ),
    "ControlProblem.objective": lambda: (control().objective, of("x0", "T")),
    "SmoothingBatch": lambda: (
        lqrad.smoothing.SmoothingBatch,
        of("A", "C", "W", "V", "m0", "P0") | {"A": several()},
    ),
    "SmoothingBatch.of": lambda: (
        lqrad.smoothing.SmoothingBatch.of,
        {"problems": [model(), model()]},
    ),
    "SmoothingBatch.series": lambda: (
        lqrad.smoothing.SmoothingBatch.of([model(), model()]).series,
        {"y": np.stack([data()["y"]] * 2)},
    ),
    "SmoothingProblem": lambda: (
        lqrad.SmoothingProblem,
        of("A", "C", "W", "V", "m0", "P0") | {"c": np.ones(2), "d": np.ones(1)},
    ),
    "SmoothingProblem.replace": lambda: (model().replace, of(*"AWV")),
    "SmoothingProblem.series": lambda: (model().series, of("y")),
    "SmoothingProblem.objective": lambda: (model().objective, of("y")),
    "SmoothingProblem.simulate": lambda: (
        model().simulate,
        {"rng": np.random.default_rng(0), "T": 4},
    ),
    "StateSpace": lambda: (lqrad.StateSpace, of(*"ABC") | {"D": np.zeros((1, 1)), "dt": 0.1}),
    "StateSpace.response": lambda: (plant().response, {"omega": np.array([0.0, 1.0])}),
    "StateSpace.simulate": lambda: (plant().simulate, of("u", "x0")),
    "StateSpace.delayed": lambda: (plant().delayed, {"steps": 2, "after": 1}),
    "StateSpace.of": lambda: (lqrad.StateSpace.of, {"system": plant(), "dt": 0.1}),
    "Objective": lambda: (
        lqrad.Objective,
        {"shape": (4, 1), "value_and_gradient": bowl, "curvature": 1.0},
    ),
    "Objective.scaled": lambda: (
        problem().objective([1.0, 0.0], 4).scaled,
        {"factor": np.array([[2.0]])},
    ),
    "Objective.substituted": lambda: (
        problem().objective([1.0, 0.0], 4).substituted,
        {"factor": identity, "transposed": identity, "solve_transposed": identity},
    ),
    "Penalty": lambda: (lqrad.Penalty, {"value": square, "slope": slope}),
    "Penalty.of": lambda: (lqrad.huber().of, {"C": np.array([[1.0, 0.0]]), "ref": np.array([3.0])}),
    "huber": lambda: (lqrad.huber, {"delta": 1.0, "weight": 2.0}),
    "student_t": lambda: (lqrad.student_t, {"nu": 4.0, "size": np.array([1.0, 2.0])}),
    "log_barrier": lambda: (
        lqrad.log_barrier,
        {"low": -1.0, "high": np.array([1.0, 2.0]), "weight": 1.0},
    ),
    "penalised": lambda: (
        lqrad.penalised,
        {"problem": problem(), **of("x0", "T"), "state": lqrad.huber(), "input": lqrad.huber()},
    ),
    "robust_objective": lambda: (
        lqrad.robust_objective,
        {"problem": model(), **of("y"), "nu": 4.0},
    ),
    "l1": lambda: (lqrad.l1, {"weight": 0.1}),
    "one_point": lambda: (lqrad.one_point, {"function": rates}),
    "euler": lambda: (lqrad.euler, {"f": rates, "dt": 0.1}),
    "rk4": lambda: (lqrad.rk4, {"f": rates, "dt": 0.1, "substeps": 2}),
    "implicit_midpoint": lambda: (lqrad.implicit_midpoint, {"f": rates, "dt": 0.1}),
    "discretise": lambda: (lqrad.discretise, of(*"ABQRM") | {"dt": 0.1, "input_delay": 0.05}),
    "Sampled.problem": lambda: (lqrad.discretise(**of(*"ABQR"), dt=0.1).problem, of("S")),
    "Sampled.plant": lambda: (lqrad.discretise(**of(*"ABQR"), dt=0.1).plant, of("C")),
}

# Graphs

CALLS |= {
    "Graph": lambda: (
        lqrad.Graph,
        {
            "nodes": list(network().nodes),
            "costs": dict(network().costs),
            "parameters": dict(network().parameters),
        },
    ),
    "Graph.forward": lambda: (network().forward, {"inputs": samples(), "theta": dict(theta())}),
    "Graph.adjoint": lambda: (network().adjoint, {"z": dict(values()), "theta": dict(theta())}),
    "Graph.cost": lambda: (network().cost, {"z": dict(values())}),
    "Graph.flatten": lambda: (network().flatten, {"theta": dict(theta())}),
    "Graph.unflatten": lambda: (network().unflatten, {"vector": np.arange(float(network().size))}),
    "Graph.initial": lambda: (network().initial, {"rng": 0}),
    "Graph.objective": lambda: (network().objective, {"inputs": samples()}),
    "Node": lambda: (
        lqrad.Node,
        {
            "name": "line",
            "primitive": primitives.affine,
            "parents": ("x",),
            "parameters": ("W", "b"),
        },
    ),
    "Primitive": lambda: (
        lqrad.Primitive,
        {"name": "double", "function": slope, "vjps": (lambda p, z, a: 2 * p,)},
    ),
    "primitives.take": lambda: (primitives.take, {"t": 1, "of": 3}),
    "mlp": lambda: (lqrad.mlp, {"widths": [2, 3, 2], "activation": "tanh", "loss": "squared"}),
    "residual_network": lambda: (
        lqrad.residual_network,
        {"inputs": 2, "width": 3, "outputs": 2, "depth": 2},
    ),
    "recurrent": lambda: (lqrad.recurrent, {"inputs": 2, "width": 3, "outputs": 2, "T": 3}),
    "lq_graph": lambda: (lqrad.lq_graph, {"problem": problem(), "T": 3}),
    "linear_policy": lambda: (lqrad.linear_policy, {"n": 2, "m": 1}),
    "PolicyProblem": lambda: (
        lqrad.PolicyProblem,
        {"problem": problem(), "policy": lqrad.linear_policy(2, 1), "T": 4},
    ),
    "sgd": lambda: (
        lqrad.sgd,
        {
            "graph": network(),
            "theta": dict(theta()),
            "data": samples(),
            "epochs": 2,
            "rng": 0,
            "batch_size": 3,
            "step_size": 0.01,
            "momentum": 0.9,
            "weight_decay": 0.1,
        },
    ),
    "cosine_decay": lambda: (lqrad.cosine_decay, {"step_size": 0.1, "steps": 4}),
    "step_decay": lambda: (lqrad.step_decay, {"step_size": 0.1, "every": 4, "factor": 0.1}),
}
for _name in ("gradient", "lagrangian", "kkt_residual"):
    CALLS[f"Graph.{_name}"] = lambda name=_name: (
        getattr(network(), name),
        {"z": dict(values()), "p": dict(costates()), "theta": dict(theta())},
    )


@cache
def policy() -> lqrad.PolicyProblem:
    return lqrad.PolicyProblem(problem(), lqrad.linear_policy(2, 1), T=4)


for _name in ("simulate", "value_and_gradient"):
    CALLS[f"PolicyProblem.{_name}"] = lambda name=_name: (
        getattr(policy(), name),
        {"x0": np.ones((3, 2)), "theta": of("K"), "T": 4},
    )
CALLS |= {
    "PolicyProblem.flatten": lambda: (policy().flatten, {"theta": of("K")}),
    "PolicyProblem.unflatten": lambda: (policy().unflatten, {"vector": np.ones(2)}),
    "PolicyProblem.initial": lambda: (policy().initial, {"rng": np.random.default_rng(0)}),
    "PolicyProblem.objective": lambda: (policy().objective, {"x0": np.ones((3, 2)), "T": 4}),
}

# Solvers


@cache
def solution() -> lqrad.Riccati:
    return lqrad.riccati(problem(), 4)


@cache
def preconditioner() -> lqrad.LowRank:
    return lqrad.low_rank(problem().objective([1.0, 0.0], 4), data()["R"], 2)


CALLS |= {
    "riccati": lambda: (lqrad.riccati, {"problem": problem(), "T": 4}),
    "RiccatiBatch.cost": lambda: (lqrad.riccati(batch(), 4).cost, of("x0")),
    "RiccatiBatch.rollout": lambda: (lqrad.riccati(batch(), 4).rollout, of("x0")),
    "Riccati.cost": lambda: (solution().cost, of("x0")),
    "Riccati.rollout": lambda: (solution().rollout, of("x0")),
    "riccati_cost_gradient": lambda: (
        lqrad.lq.riccati_cost_gradient,
        {"solution": solution()} | of("x0"),
    ),
    "riccati_vjp": lambda: (
        lqrad.lq.riccati_vjp,
        {
            "solution": solution(),
            "dK": np.ones((4, 1, 2)),
            "dk": np.ones((4, 1)),
            "dP": np.ones((5, 2, 2)),
            "dv": np.ones((5, 2)),
            "dx": np.ones((5, 2)),
            "du": np.ones((4, 1)),
            **of("x0"),
        },
    ),
    "dare": lambda: (lqrad.dare, of(*"ABQRM")),
    "dlqr": lambda: (lqrad.dlqr, of(*"ABQRM")),
    "dlqe": lambda: (lqrad.dlqe, of(*"ACWV")),
    "dlqr_vjp": lambda: (
        lqrad.dlqr_vjp,
        of(*"ABQRM") | {"dK": np.ones((1, 2)), "dP": np.ones((2, 2))},
    ),
    "descend": lambda: (
        lqrad.descend,
        {
            "objective": problem().objective([1.0, 0.0], 4),
            "start": np.zeros((4, 1)),
            "step_size": 0.05,
            "max_iter": 20,
            "tol": 1e-6,
            "bounds": (-1.0, np.ones((4, 1))),
        },
    ),
    "ilqr": lambda: (
        lqrad.ilqr,
        {
            "problem": control(),
            **of("x0", "u"),
            "T": 4,
            "bounds": (-5.0, np.array([5.0])),
            "max_iter": 3,
            "tol": 1e-6,
        },
    ),
    "ILQR.rollout": lambda: (
        lqrad.ilqr(control(), data()["x0"], T=4, max_iter=2).rollout,
        of("x0"),
    ),
    "multiple_shooting": lambda: (
        lqrad.multiple_shooting,
        {
            "problem": problem(),
            **of("x0", "T"),
            "segment": 2,
            "tol": 1e-6,
            "max_rounds": 10,
            "max_iter": 100,
        },
    ),
    "policy_gradient": lambda: (
        lqrad.policy_gradient,
        {
            "problem": free(),
            "K0": data()["K"],
            "x0_cov": np.eye(2),
            "step_size": 1.0,
            "max_iter": 3,
            "tol": 1e-6,
        },
    ),
    "low_rank": lambda: (
        lqrad.low_rank,
        {
            "objective": problem().objective([1.0, 0.0], 4),
            **of("R"),
            "rank": 2,
            "at": np.zeros((4, 1)),
        },
    ),
    "LowRank.precondition": lambda: (
        preconditioner().precondition,
        {"objective": problem().objective([1.0, 0.0], 4)},
    ),
    "LowRank.recover": lambda: (preconditioner().recover, {"w": np.ones((4, 1))}),
    "LowRank.start": lambda: (preconditioner().start, {"z": np.ones((4, 1))}),
    "kalman_filter": lambda: (lqrad.kalman_filter, {"problem": model(), **of("y")}),
    "kalman_smoother": lambda: (lqrad.kalman_smoother, {"problem": model(), **of("y")}),
    "rts_smoother": lambda: (lqrad.rts_smoother, {"problem": model(), **of("y")}),
    "loglik": lambda: (lqrad.smoothing.loglik, {"problem": model(), **of("y")}),
    "loglik_gradient": lambda: (lqrad.loglik_gradient, {"problem": model(), **of("y")}),
    "Smoothed.to_frame": lambda: (
        lqrad.kalman_smoother(model(), data()["y"]).to_frame,
        {"index": [1, 2, 3, 4, 5]},
    ),
    "fit": lambda: (
        lqrad.fit,
        {"build": built, "theta0": np.array([0.0]), **of("y"), "max_iter": 3, "tol": 1e-3},
    ),
    "em": lambda: (
        lqrad.em,
        {"problem": model(), **of("y"), "learn": "V", "max_iter": 3, "tol": 1e-3},
    ),
    "duality": lambda: (lqrad.duality, {"problem": model(), "T": 4}),
}

# Studies

CALLS |= {
    "compare": lambda: (
        lqrad.compare,
        {
            "problem": problem(),
            **of("x0", "T"),
            "methods": ["gradient"],
            "max_iter": 10,
            "tol": 1e-6,
        },
    ),
    "conditioning": lambda: (
        lqrad.conditioning,
        {
            "problem": problem(),
            "radii": np.array([0.5, 0.9]),
            "horizons": [2, 3],
            "tol": 1e-3,
            "max_iter": 5,
        },
    ),
    "cures": lambda: (
        lqrad.cures,
        {
            "problem": free(),
            **of("x0"),
            "T": 6,
            "window": 3,
            "discount": 0.9,
            "max_iter": 10,
            "tol": 1e-3,
        },
    ),
    "blowup": lambda: (lqrad.blowup, {"problem": free(), **of("x0"), "T": 6}),
    "lost_digits": lambda: (lqrad.lost_digits, {"problem": free(), **of("x0"), "horizons": [2, 4]}),
    "gradient_growth": lambda: (lqrad.gradient_growth, of(*"ABS") | {"T": 6}),
    "nonnormality": lambda: (lqrad.nonnormality, of("A") | {"steps": 10}),
    "pseudospectrum": lambda: (lqrad.pseudospectrum, of("A") | {"z": np.array([1.0, 1.5])}),
    "controllability": lambda: (lqrad.controllability, {"system": data()["A"], **of("B")}),
    "observability": lambda: (lqrad.observability, {"system": data()["A"], **of("C")}),
    "disk_gain": lambda: (lqrad.design.disk_gain, {"alpha": 0.5}),
    "disk_phase": lambda: (lqrad.design.disk_phase, {"alpha": 0.5}),
    "margins": lambda: (lqrad.margins, {"loop": lqrad.StateSpace([[0.5]], [[0.3]], dt=0.1)}),
    "step_response": lambda: (lqrad.step_response, {"system": plant(), "T": 10}),
    "invert": lambda: (
        lqrad.invert,
        {
            "problem": sparse(),
            "y": data()["y"],
            "C": data()["C"],
            "noise": 1.0,
            "u": data()["u"],
            "prior": np.zeros(2),
            "max_iter": 5,
            "tol": 1e-3,
        },
    ),
    "sweep": lambda: (
        lqrad.sweep,
        {"function": of_sizes, "grid": {"a": [1, 2], "b": np.array([1.0])}},
    ),
    "Sweep.load": lambda: (lqrad.Sweep.load, {"path": saved_sweep()}),
    "dot_test": lambda: (
        lqrad.dot_test,
        {
            "forward": identity,
            "transpose": identity,
            "shape": (3,),
            "rng": np.random.default_rng(0),
        },
    ),
    "taylor_test": lambda: (
        lqrad.taylor_test,
        {
            "value_and_gradient": quartic,
            "z": np.ones(3),
            "direction": np.array([1.0, 0.5, -1.0]),
        },
    ),
}

# Design

CALLS |= {
    "Observer": lambda: (lqrad.Observer, of(*"ABC") | {"L": np.array([[0.5], [0.1]])}),
    "Observer.kalman": lambda: (lqrad.Observer.kalman, {"plant": plant(), **of("W", "V")}),
    "Observer.correct": lambda: (observer().correct, {"x_hat": np.ones(2), "y": np.ones(1)}),
    "Observer.predict": lambda: (observer().predict, {"x_bar": np.ones(2), "u": np.ones(1)}),
    "Controller": lambda: (
        lqrad.Controller,
        {
            "observer": observer(),
            **of("K"),
            "dt": 0.1,
            "H": data()["C"],
            "K_i": np.array([[0.1]]),
            "F": np.array([[0.2]]),
            "input_bounds": (-1.0, np.array([1.0])),
        },
    ),
    "Controller.reset": lambda: (controller().reset, {"x_hat": np.ones(2)}),
    "Controller.step": lambda: (controller().step, {"y": np.ones(1)}),
    "Controller.input": lambda: (feedthrough_controller().input, {"reference": np.ones(1)}),
    "Controller.loop": lambda: (controller().loop, {"plant": plant(), "at": "input"}),
    "Controller.closed_loop": lambda: (controller().closed_loop, {"plant": plant()}),
    "lqr": lambda: (
        lqrad.lqr,
        {
            "plant": plant(),
            **of(*"QRM"),
            "H": data()["C"],
            "input_bounds": (-1.0, np.array([1.0])),
        },
    ),
    "lqi": lambda: (
        lqrad.lqi,
        {
            "plant": lqrad.StateSpace(**of(*"AB"), dt=0.1),
            **of(*"QRM"),
            "Q_i": np.array([[1.0]]),
            "H": data()["C"],
            "input_bounds": (-1.0, np.array([1.0])),
        },
    ),
    "lqg": lambda: (
        lqrad.lqg,
        {
            "plant": plant(),
            **of(*"QRWVM"),
            "Q_i": np.array([[1.0]]),
            "H": data()["C"],
            "input_bounds": (-1.0, np.array([1.0])),
        },
    ),
    "steady_state_targets": lambda: (
        lqrad.steady_state_targets,
        {
            "plant": plant(),
            "reference": np.array([1.0]),
            "H": data()["C"],
            "input_bounds": (-100.0, np.array([100.0])),
        },
    ),
    "simulate_closed_loop": lambda: (
        lqrad.simulate_closed_loop,
        {
            "plant": plant(),
            "controller": controller(),
            "T": 4,
            **of("x0", "W", "V"),
            "runs": 2,
            "rng": 0,
            "input_bounds": (-1.0, np.array([1.0])),
            **of("Q", "R", "M"),
        },
    ),
    "expected_cost": lambda: (
        lqrad.expected_cost,
        {"plant": plant(), "controller": controller(), **of(*"QRWVM"), **of("x0"), "T": 4},
    ),
    "design_controller": lambda: (
        lqrad.design_controller,
        {
            "plant": plant(),
            **of(*"QRWVM"),
            "H": data()["C"],
            "input_bounds": (-1.0, np.array([1.0])),
        },
    ),
    "disturbance_observer": lambda: (
        lqrad.design.disturbance_observer,
        {
            "plant": plant(),
            **of(*"WV"),
            "W_d": np.array([[0.1]]),
            "Bd": np.array([[0.0], [1.0]]),
            "Cd": np.array([[0.5]]),
        },
    ),
    "invariant_set": lambda: (
        lqrad.design.invariant_set,
        {"A": np.array([[0.9, 0.1], [-0.2, 0.8]]), **of("C"), "low": -1.0, "high": np.array([2.0])},
    ),
    "InvariantSet.contains": lambda: (
        lqrad.design.invariant_set([[0.9, 0.1], [-0.2, 0.8]], np.eye(2), -1, 1).contains,
        of("x"),
    ),
    "mpc": lambda: (
        lqrad.mpc,
        {
            "problem": problem(),
            "T": 3,
            "input_bounds": (-1.0, np.array([1.0])),
            "state_bounds": (np.array([-9.0, -9.0]), 9.0),
            "rate_bounds": (-1.0, 1.0),
            "rows": [lqrad.design.Limit([[1.0, 1.0]], low=-9.0)],
            "terminal": lqrad.design.Limit([[1.0, 1.0]], low=-9.0),
            "rate_weight": np.array([[0.5]]),
            "blocks": [1, 2],
            "H": data()["C"],
            "Bd": np.array([[0.0], [1.0]]),
            "observer": observer(),
            "max_iter": 50,
            "tol": 1e-6,
        },
    ),
    "Limit": lambda: (
        lqrad.design.Limit,
        {
            "C": np.ones((3, 1, 2)),
            "D": np.ones((1, 1)),
            "low": np.array([-1.0]),
            "high": np.array([1.0]),
            "name": "load",
            "price": np.array([2.0]),
            "spring": np.array([1.0]),
        },
    ),
    "MPC.reset": lambda: (
        lqrad.mpc(problem(), 3, observer=observer()).reset,
        {"u_before": np.ones(1), "x_hat": np.ones(2)},
    ),
    "MPC.step": lambda: (
        lqrad.mpc(problem(), 3, H=data()["C"]).step,
        {"y": np.ones(2), "reference": np.ones(1), "disturbance": np.ones(2), "model": problem()},
    ),
    "MPC.plan": lambda: (
        lqrad.mpc(problem(), 3).plan,
        {"x": np.ones(2), "x_ref": np.ones(2), "u_ref": np.ones((3, 1)), "disturbance": np.ones(2)},
    ),
    "plan_vjp": lambda: (
        lqrad.lq.plan_vjp,
        {
            "plan": lqrad.mpc(problem(), 4, input_bounds=(-0.1, 0.1)).plan([1.0, -0.5]),
            "dx": data()["x"],
            "du": data()["u"],
            "dcost": 0.5,
        },
    ),
    "worst_case": lambda: (
        lqrad.design.worst_case,
        {
            "controller": lqrad.mpc(problem(), 2, input_bounds=(-1.0, 1.0)),
            **{name: np.array([z, z]) for name, z in (("low", -2.0), ("high", 2.0))},
        },
    ),
    "datasets.load": lambda: (datasets.load, {"name": "nile"}),
    "load_controller": lambda: (lqrad.load_controller, {"path": saved_controller()}),
    "load_parameters": lambda: (lqrad.load_parameters, {"path": saved_parameters()}),
    "save_controller": lambda: (
        lqrad.save_controller,
        {"path": folder() / "lqrad-controller.json", "controller": controller()},
    ),
    "save_parameters": lambda: (
        lqrad.save_parameters,
        {"path": folder() / "lqrad-parameters.npz", "theta": dict(theta())},
    ),
}

# Systems

CALLS |= {
    "heat_rod": lambda: (
        lqrad.heat_rod,
        {
            "cells": 5,
            "length": 1.0,
            "diffusivity": 1e-4,
            "left": "held",
            "right": 0.1,
            "actuators": "distributed",
            "heaters": 2,
            "dt": 1.0,
            "T": 3,
            "input_weight": 1.0,
        },
    ),
    "heat_plate": lambda: (
        lqrad.heat_plate,
        {
            "shape": (3, 4),
            "lengths": (1.0, 1.0),
            "diffusivity": 1e-4,
            "heaters": (1, 2),
            "dt": 1.0,
            "T": 3,
            "input_weight": 1.0,
        },
    ),
    "advection_diffusion": lambda: (
        lqrad.advection_diffusion,
        {
            "cells": 5,
            "length": 1.0,
            "velocity": 0.01,
            "diffusivity": 1e-4,
            "heaters": 2,
            "dt": 1.0,
            "T": 3,
            "input_weight": 1.0,
        },
    ),
    "HeatSystem.field": lambda: (lqrad.heat_rod(5).field, {"x": np.ones(5)}),
    "HeatSystem.problem": lambda: (lqrad.heat_rod(5, T=3).problem, {"x_ref": np.ones(5)}),
}
for _name in (
    "double_integrator",
    "inverted_pendulum",
    "mass_spring_chain",
    "aircraft",
    "quadrotor",
    "random_system",
):
    CALLS[f"systems.{_name}"] = lambda name=_name: defaults(getattr(systems, name))
for _name in (
    "pendulum_swingup",
    "cart_pole_swingup",
    "planar_quadrotor",
    "van_der_pol",
    "unicycle_parking",
):
    CALLS[_name] = lambda name=_name: defaults(getattr(nonlinear, name))


def defaults(function: Callable[..., Any]) -> Call:
    """A call with the values that a function has for all of its arguments."""
    return function, {name: p.default for name, p in inspect.signature(function).parameters.items()}
