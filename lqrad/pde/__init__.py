"""Constraints that are partial differential equations: sparse problems, heat, and inverse problems."""

from lqrad.pde.heat import HeatSystem, advection_diffusion, heat_plate, heat_rod
from lqrad.pde.inverse import Inversion, invert
from lqrad.pde.low_rank import LowRank, low_rank
from lqrad.pde.problem import SparseLQProblem

__all__ = [
    "HeatSystem",
    "Inversion",
    "LowRank",
    "SparseLQProblem",
    "advection_diffusion",
    "heat_plate",
    "heat_rod",
    "invert",
    "low_rank",
]
