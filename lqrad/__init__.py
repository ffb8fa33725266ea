"""lqrad: linear-quadratic optimal control by adjoint gradients, proven against Riccati.

The chapters, each with its problem, what solves it, what studies it and what draws it:

    lqrad.lq          the linear-quadratic problem, its adjoint gradient, and Riccati
    lqrad.descent     the descent loop, which knows only objectives; tests of gradients
    lqrad.growth      stable against unstable A: how gradients grow, and what cures it
    lqrad.smoothing   Kalman filters and smoothers, likelihoods, learning of models
    lqrad.nets        graphs, networks, stochastic gradient descent
    lqrad.pde         sparse problems, heat, inverse problems
    lqrad.nonlinear   nonlinear dynamics and costs, iterative LQR, penalties
    lqrad.policies    inputs from a network, trained through the closed loop
    lqrad.design      from a model to a controller: discretise, regulate, judge, simulate
    lqrad.systems     example plants; lqrad.nonlinear.systems has the nonlinear ones
    lqrad.datasets    packaged series: the Nile, sunspots, carbon dioxide, and others
    lqrad.files       models, series, controllers and parameters in files
    lqrad.plotting    pictures of all results
    lqrad.explore     sliders in a notebook, for a lecture and for a design

One letter for each thing, everywhere: states x (T + 1, n), inputs u (T, m), costates p (T, n),
T the number of inputs, and

    x[t+1] = A x[t] + B u[t] + c
    J = sum_t (1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u)  +  1/2 x[T]'S x[T] + s'x[T]
    p[T-1] = S x[T] + s,     p[t-1] = A'p[t] + Q x[t] + M u[t] + q
    dJ/du[t] = R u[t] + M'x[t] + r + B'p[t]

Smoothing has x[t+1] = A x[t] + w[t], y[t] = C x[t] + v[t] with covariances W, V and a start
(m0, P0). A feedback is u = -K x. What is used most stands at the top, as `lqrad.riccati`; all names
of the chapters are found from there, too.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lqrad import datasets as datasets
    from lqrad import descent as descent
    from lqrad import design as design
    from lqrad import errors as errors
    from lqrad import files as files
    from lqrad import functions as functions
    from lqrad import growth as growth
    from lqrad import lq as lq
    from lqrad import nets as nets
    from lqrad import nonlinear as nonlinear
    from lqrad import pde as pde
    from lqrad import policies as policies
    from lqrad import smoothing as smoothing
    from lqrad import sweeps as sweeps
    from lqrad import systems as systems
    from lqrad.descent import Objective, descend, dot_test, taylor_test
    from lqrad.design import (
        Controller,
        Observer,
        StateSpace,
        design_controller,
        discretise,
        lqg,
        lqi,
        lqr,
        margins,
        mpc,
        simulate_closed_loop,
    )
    from lqrad.errors import LqradError, Status
    from lqrad.growth import gradient_growth
    from lqrad.lq import LQProblem, compare, dare, dlqr, riccati
    from lqrad.nets import Graph, mlp, sgd
    from lqrad.nonlinear import ControlProblem, ilqr
    from lqrad.pde import SparseLQProblem, heat_plate, heat_rod
    from lqrad.policies import PolicyProblem, policy_gradient
    from lqrad.results import plot
    from lqrad.smoothing import SmoothingProblem, fit, kalman_filter, kalman_smoother, rts_smoother
    from lqrad.sweeps import sweep

__version__ = "0.1.0"

# A chapter is imported where a name of it is asked for.
_CHAPTERS = (
    "descent",
    "design",
    "errors",
    "files",
    "functions",
    "growth",
    "lq",
    "nets",
    "nonlinear",
    "pde",
    "policies",
    "smoothing",
    "sweeps",
)

__all__ = [
    "ControlProblem",
    "Controller",
    "Graph",
    "LQProblem",
    "LqradError",
    "Objective",
    "Observer",
    "PolicyProblem",
    "SmoothingProblem",
    "SparseLQProblem",
    "StateSpace",
    "Status",
    "compare",
    "dare",
    "descend",
    "design_controller",
    "discretise",
    "dlqr",
    "dot_test",
    "fit",
    "gradient_growth",
    "heat_plate",
    "heat_rod",
    "ilqr",
    "kalman_filter",
    "kalman_smoother",
    "lqg",
    "lqi",
    "lqr",
    "margins",
    "mlp",
    "mpc",
    "plot",
    "policy_gradient",
    "riccati",
    "rts_smoother",
    "sgd",
    "simulate_closed_loop",
    "sweep",
    "taylor_test",
]

# Where the names that stand at the top are at home.
_HOMES = {
    name: f"lqrad.{chapter}"
    for chapter, names in {
        "descent": "Objective descend dot_test taylor_test",
        "design": "Controller Observer StateSpace design_controller discretise lqg lqi lqr margins mpc "
        "simulate_closed_loop",
        "errors": "LqradError Status",
        "growth": "gradient_growth",
        "lq": "LQProblem compare dare dlqr riccati",
        "nets": "Graph mlp sgd",
        "nonlinear": "ControlProblem ilqr",
        "pde": "SparseLQProblem heat_plate heat_rod",
        "policies": "PolicyProblem policy_gradient",
        "results": "plot",
        "smoothing": "SmoothingProblem fit kalman_filter kalman_smoother rts_smoother",
        "sweeps": "sweep",
    }.items()
    for name in names.split()
}
_FORMER = {"residual": "residual_network"}  # names that are taken for one more release

if not TYPE_CHECKING:  # a type checker is told to import a chapter's names from the chapter

    def __getattr__(name: str) -> Any:
        """Import a module that is asked for, or find a name of a chapter."""
        if not name.startswith("_") and find_spec(f"lqrad.{name}"):
            return import_module(f"lqrad.{name}")
        name = _FORMER.get(name, name)
        if name in _HOMES:
            return globals().setdefault(name, getattr(import_module(_HOMES[name]), name))
        for chapter in map(import_module, (f"lqrad.{name}" for name in _CHAPTERS)):
            if name in chapter.__all__:
                return getattr(chapter, name)
        raise AttributeError(f"module 'lqrad' has no attribute {name!r}; help(lqrad) has a map")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_CHAPTERS, "datasets", "native", "systems"})
