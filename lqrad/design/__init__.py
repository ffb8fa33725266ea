"""Design: from a model to a controller that one would ship."""

from lqrad.design.certify import worst_case
from lqrad.design.closed_loop import ClosedLoop, expected_cost, simulate_closed_loop
from lqrad.design.controller import Controller
from lqrad.design.disturbances import disturbance_observer
from lqrad.design.feasibility import Feasibility
from lqrad.design.invariant import InvariantSet, invariant_set
from lqrad.design.limits import Limit
from lqrad.design.margins import LoopMargins, Margins, disk_gain, disk_phase, margins
from lqrad.design.modes import Modes, controllability, observability
from lqrad.design.mpc import MPC, mpc
from lqrad.design.observer import Observer
from lqrad.design.regulators import lqg, lqi, lqr
from lqrad.design.report import Design, design_controller
from lqrad.design.responses import StepResponse, step_response
from lqrad.design.sampling import Sampled, discretise
from lqrad.design.statespace import StateSpace
from lqrad.design.targets import steady_state_targets

__all__ = [
    "MPC",
    "ClosedLoop",
    "Controller",
    "Design",
    "Feasibility",
    "InvariantSet",
    "Limit",
    "LoopMargins",
    "Margins",
    "Modes",
    "Observer",
    "Sampled",
    "StateSpace",
    "StepResponse",
    "controllability",
    "design_controller",
    "discretise",
    "disk_gain",
    "disk_phase",
    "disturbance_observer",
    "expected_cost",
    "invariant_set",
    "lqg",
    "lqi",
    "lqr",
    "margins",
    "mpc",
    "observability",
    "simulate_closed_loop",
    "steady_state_targets",
    "step_response",
    "worst_case",
]
