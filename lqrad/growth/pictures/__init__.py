"""Pictures of growth: norms, digits, condition numbers, cures, pseudospectra."""

from lqrad.growth.pictures import conditioning, cures, growth, nonnormality

__all__ = ["conditioning", "cures", "growth", "nonnormality"]
