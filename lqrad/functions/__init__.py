"""What a user wrote: how such a function is called, and its derivatives, right or refused."""

from lqrad.functions.calls import one_point

__all__ = [
    "one_point",
]
