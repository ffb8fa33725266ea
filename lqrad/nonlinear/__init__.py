"""Nonlinear dynamics and costs that are no quadratics: the same two passes, and iterative LQR."""

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
from lqrad.nonlinear.systems import (
    NonlinearSystem,
    cart_pole_swingup,
    pendulum_swingup,
    planar_quadrotor,
    unicycle_parking,
    van_der_pol,
)

__all__ = [
    "ILQR",
    "ControlProblem",
    "NonlinearSystem",
    "Penalty",
    "cart_pole_swingup",
    "euler",
    "huber",
    "ilqr",
    "implicit_midpoint",
    "log_barrier",
    "penalised",
    "pendulum_swingup",
    "planar_quadrotor",
    "rk4",
    "robust_objective",
    "student_t",
    "unicycle_parking",
    "van_der_pol",
]
