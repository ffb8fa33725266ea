"""The linear-quadratic problem: its adjoint gradient, and the Riccati solution that proves it."""

from lqrad.lq.batch import LQBatch
from lqrad.lq.batch_riccati import RiccatiBatch
from lqrad.lq.cases import WorstCase
from lqrad.lq.compare import Comparison, compare
from lqrad.lq.dare import dare, dlqr
from lqrad.lq.inputs import KKT, Trajectory
from lqrad.lq.plan import Plan, PlanRows
from lqrad.lq.plan_gradient import PlanGradient, plan_vjp
from lqrad.lq.problem import LQProblem
from lqrad.lq.riccati import Riccati, riccati
from lqrad.lq.riccati_gradient import LQGradient, dlqr_vjp, riccati_cost_gradient, riccati_vjp
from lqrad.lq.shooting import Shooting, multiple_shooting

__all__ = [
    "KKT",
    "Comparison",
    "LQBatch",
    "LQGradient",
    "LQProblem",
    "Plan",
    "PlanGradient",
    "PlanRows",
    "Riccati",
    "RiccatiBatch",
    "Shooting",
    "Trajectory",
    "WorstCase",
    "compare",
    "dare",
    "dlqr",
    "dlqr_vjp",
    "multiple_shooting",
    "plan_vjp",
    "riccati",
    "riccati_cost_gradient",
    "riccati_vjp",
]
