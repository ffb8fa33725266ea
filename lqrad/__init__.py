"""lqrad: linear-quadratic optimal control by adjoint gradients, proven against Riccati."""

from lqrad import nonlinear, systems
from lqrad.descent.checks import TaylorTest, dot_test, taylor_test
from lqrad.descent.descend import Descent, descend
from lqrad.descent.objective import Objective
from lqrad.descent.proximal import l1
from lqrad.design.closed_loop import ClosedLoop, expected_cost, simulate_closed_loop
from lqrad.design.controller import Controller
from lqrad.design.margins import LoopMargins, Margins, margins
from lqrad.design.modes import Modes, controllability, observability
from lqrad.design.mpc import MPC, mpc
from lqrad.design.observer import Observer
from lqrad.design.regulators import lqg, lqi, lqr, steady_state_targets
from lqrad.design.report import Design, design_controller
from lqrad.design.responses import StepResponse, step_response
from lqrad.design.sampling import Sampled, discretise
from lqrad.design.statespace import StateSpace
from lqrad.errors import (
    ArgumentError,
    DtypeError,
    LqradError,
    NonFiniteError,
    NotConvexError,
    NotStabilizableError,
    ShapeError,
    Status,
)
from lqrad.functions.calls import one_point
from lqrad.growth.blowup import Blowup, blowup
from lqrad.growth.conditioning import Conditioning, conditioning
from lqrad.growth.cures import Cure, Cures, cures
from lqrad.growth.digits import LostDigits, lost_digits
from lqrad.growth.gradient_growth import GradientGrowth, gradient_growth
from lqrad.growth.nonnormality import Nonnormality, nonnormality, pseudospectrum
from lqrad.lq.compare import Comparison, compare
from lqrad.lq.dare import dare, dlqr
from lqrad.lq.limits import Plan
from lqrad.lq.optimality import KKT
from lqrad.lq.problem import LQProblem
from lqrad.lq.riccati import Riccati, Trajectory, riccati
from lqrad.lq.riccati_gradient import LQGradient, dlqr_vjp
from lqrad.lq.shooting import Shooting, multiple_shooting
from lqrad.nets import primitives
from lqrad.nets.graph import Graph, GraphKKT
from lqrad.nets.networks import lq_graph, mlp, recurrent, residual
from lqrad.nets.nodes import Node
from lqrad.nets.primitives import Primitive
from lqrad.nets.sgd import Training, cosine_decay, sgd, step_decay
from lqrad.nonlinear.control import ControlProblem
from lqrad.nonlinear.ilqr import ILQR, ilqr
from lqrad.nonlinear.integrators import euler, implicit_midpoint, rk4
from lqrad.nonlinear.losses import (
    Penalty,
    huber,
    log_barrier,
    penalised,
    robust_objective,
    student_t,
)
from lqrad.pde.heat import HeatSystem, advection_diffusion, heat_plate, heat_rod
from lqrad.pde.inverse import Inversion, invert
from lqrad.pde.low_rank import LowRank, low_rank
from lqrad.pde.problem import SparseLQProblem
from lqrad.policies.policy_gradient import PolicyGradient, policy_gradient
from lqrad.policies.problem import PolicyProblem, linear_policy
from lqrad.saved import load_controller, load_parameters, save_controller, save_parameters
from lqrad.smoothing.duality import Duality, duality
from lqrad.smoothing.kalman import (
    Filtered,
    Smoothed,
    kalman_filter,
    kalman_smoother,
    rts_smoother,
)
from lqrad.smoothing.learning import Fit, em, fit
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.score import Score, loglik_gradient
from lqrad.smoothing.steady import dlqe
from lqrad.sweeps import Sweep, sweep

__version__ = "0.1.0"

__all__ = [
    "ILQR",
    "KKT",
    "MPC",
    "ArgumentError",
    "Blowup",
    "ClosedLoop",
    "Comparison",
    "Conditioning",
    "ControlProblem",
    "Controller",
    "Cure",
    "Cures",
    "Descent",
    "Design",
    "DtypeError",
    "Duality",
    "Filtered",
    "Fit",
    "GradientGrowth",
    "Graph",
    "GraphKKT",
    "HeatSystem",
    "Inversion",
    "LQGradient",
    "LQProblem",
    "LoopMargins",
    "LostDigits",
    "LowRank",
    "LqradError",
    "Margins",
    "Modes",
    "Node",
    "NonFiniteError",
    "Nonnormality",
    "NotConvexError",
    "NotStabilizableError",
    "Objective",
    "Observer",
    "Penalty",
    "Plan",
    "PolicyGradient",
    "PolicyProblem",
    "Primitive",
    "Riccati",
    "Sampled",
    "Score",
    "ShapeError",
    "Shooting",
    "Smoothed",
    "SmoothingProblem",
    "SparseLQProblem",
    "StateSpace",
    "Status",
    "StepResponse",
    "Sweep",
    "TaylorTest",
    "Training",
    "Trajectory",
    "advection_diffusion",
    "blowup",
    "compare",
    "conditioning",
    "controllability",
    "cosine_decay",
    "cures",
    "dare",
    "descend",
    "design_controller",
    "discretise",
    "dlqe",
    "dlqr",
    "dlqr_vjp",
    "dot_test",
    "duality",
    "em",
    "euler",
    "expected_cost",
    "fit",
    "gradient_growth",
    "heat_plate",
    "heat_rod",
    "huber",
    "ilqr",
    "implicit_midpoint",
    "invert",
    "kalman_filter",
    "kalman_smoother",
    "l1",
    "linear_policy",
    "load_controller",
    "load_parameters",
    "log_barrier",
    "loglik_gradient",
    "lost_digits",
    "low_rank",
    "lq_graph",
    "lqg",
    "lqi",
    "lqr",
    "margins",
    "mlp",
    "mpc",
    "multiple_shooting",
    "nonlinear",
    "nonnormality",
    "observability",
    "one_point",
    "penalised",
    "policy_gradient",
    "primitives",
    "pseudospectrum",
    "recurrent",
    "residual",
    "riccati",
    "rk4",
    "robust_objective",
    "rts_smoother",
    "save_controller",
    "save_parameters",
    "sgd",
    "simulate_closed_loop",
    "steady_state_targets",
    "step_decay",
    "step_response",
    "student_t",
    "sweep",
    "systems",
    "taylor_test",
]
