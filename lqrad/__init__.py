"""lqrad: linear-quadratic optimal control by adjoint gradients, proven against Riccati."""

from lqrad.problems.lq import LQProblem
from lqrad.problems.objective import Objective
from lqrad.problems.optimality import KKT

__all__ = ["KKT", "LQProblem", "Objective"]
