"""Kalman smoothing: the same problem with a tracking cost, four routes to it, and learning of models."""

from lqrad.smoothing.batch import SmoothingBatch
from lqrad.smoothing.duality import Duality, dlqe, duality
from lqrad.smoothing.kalman import Filtered, Smoothed, kalman_filter, kalman_smoother, rts_smoother
from lqrad.smoothing.learning import Fit, em, fit
from lqrad.smoothing.likelihood import loglik
from lqrad.smoothing.model import SmoothingProblem
from lqrad.smoothing.score import Score, loglik_gradient

__all__ = [
    "Duality",
    "Filtered",
    "Fit",
    "Score",
    "Smoothed",
    "SmoothingBatch",
    "SmoothingProblem",
    "dlqe",
    "duality",
    "em",
    "fit",
    "kalman_filter",
    "kalman_smoother",
    "loglik",
    "loglik_gradient",
    "rts_smoother",
]
