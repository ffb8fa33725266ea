"""lqrad: linear-quadratic optimal control by adjoint gradients, proven against Riccati."""

from lqrad import systems
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
from lqrad.problems.lq import LQProblem
from lqrad.problems.objective import Objective
from lqrad.problems.optimality import KKT
from lqrad.problems.smoothing import SmoothingProblem
from lqrad.solvers.dare import dare, dlqe, dlqr
from lqrad.solvers.descent import Descent, descend
from lqrad.solvers.kalman import (
    Filtered,
    Smoothed,
    kalman_filter,
    kalman_smoother,
    rts_smoother,
)
from lqrad.solvers.learning import Fit, em, fit
from lqrad.solvers.riccati import Riccati, Trajectory, riccati
from lqrad.solvers.score import Score, loglik_gradient
from lqrad.solvers.shooting import Shooting, multiple_shooting
from lqrad.studies.blowup import Blowup, blowup
from lqrad.studies.checks import TaylorTest, dot_test, taylor_test
from lqrad.studies.compare import Comparison, compare
from lqrad.studies.conditioning import Conditioning, conditioning
from lqrad.studies.cures import Cure, Cures, cures
from lqrad.studies.digits import LostDigits, lost_digits
from lqrad.studies.duality import Duality, duality
from lqrad.studies.growth import GradientGrowth, gradient_growth
from lqrad.studies.nonnormality import Nonnormality, nonnormality, pseudospectrum
from lqrad.studies.sweep import Sweep, sweep

__version__ = "0.1.0"

__all__ = [
    "KKT",
    "ArgumentError",
    "Blowup",
    "Comparison",
    "Conditioning",
    "Cure",
    "Cures",
    "Descent",
    "DtypeError",
    "Duality",
    "Filtered",
    "Fit",
    "GradientGrowth",
    "LQProblem",
    "LostDigits",
    "LqradError",
    "NonFiniteError",
    "Nonnormality",
    "NotConvexError",
    "NotStabilizableError",
    "Objective",
    "Riccati",
    "Score",
    "ShapeError",
    "Shooting",
    "Smoothed",
    "SmoothingProblem",
    "Status",
    "Sweep",
    "TaylorTest",
    "Trajectory",
    "blowup",
    "compare",
    "conditioning",
    "cures",
    "dare",
    "descend",
    "dlqe",
    "dlqr",
    "dot_test",
    "duality",
    "em",
    "fit",
    "gradient_growth",
    "kalman_filter",
    "kalman_smoother",
    "loglik_gradient",
    "lost_digits",
    "multiple_shooting",
    "nonnormality",
    "pseudospectrum",
    "riccati",
    "rts_smoother",
    "sweep",
    "systems",
    "taylor_test",
]
