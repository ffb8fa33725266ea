"""lqrad: linear-quadratic optimal control by adjoint gradients, proven against Riccati."""

from lqrad.problems.lq import KKT, LQProblem
from lqrad.problems.objective import Objective

__all__ = ["KKT", "LQProblem", "Objective"]
