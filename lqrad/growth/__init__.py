"""Stable against unstable A: how gradients grow, what that costs, and what cures it."""

from lqrad.growth.blowup import Blowup, blowup
from lqrad.growth.conditioning import Conditioning, conditioning
from lqrad.growth.cures import Cures, cures
from lqrad.growth.digits import LostDigits, lost_digits
from lqrad.growth.gradient_growth import GradientGrowth, gradient_growth
from lqrad.growth.nonnormality import Nonnormality, nonnormality, pseudospectrum
from lqrad.growth.remedies import Cure

__all__ = [
    "Blowup",
    "Conditioning",
    "Cure",
    "Cures",
    "GradientGrowth",
    "LostDigits",
    "Nonnormality",
    "blowup",
    "conditioning",
    "cures",
    "gradient_growth",
    "lost_digits",
    "nonnormality",
    "pseudospectrum",
]
