"""Step sizes that change along a training: functions k -> step[k] of the minibatch k = 0, 1, ..."""

from __future__ import annotations

import math
from collections.abc import Callable

from lqrad.arguments import check_count, check_number

Schedule = Callable[[int], float]


def cosine_decay(step_size: float, steps: int) -> Schedule:
    """A schedule that falls from `step_size` to zero along half a cosine, over so many steps.

    See Also
    --------
    step_decay : another schedule.
    sgd : takes it as `step_size=`.

    References
    ----------
    Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2017, equation 5.

    Examples
    --------
    >>> [round(cosine_decay(0.1, 4)(k), 3) for k in range(6)]
    [0.1, 0.085, 0.05, 0.015, 0.0, 0.0]
    """
    step_size, steps = check_number("step_size", step_size, least=0), check_count("steps", steps)
    return lambda k: step_size * (1 + math.cos(math.pi * min(k / steps, 1.0))) / 2


def step_decay(step_size: float, every: int, factor: float = 0.1) -> Schedule:
    """A schedule that begins with `step_size` and is multiplied by `factor` after every so many steps.

    See Also
    --------
    cosine_decay : another schedule.
    sgd : takes it as `step_size=`.

    Examples
    --------
    >>> [step_decay(0.8, every=2, factor=0.5)(k) for k in range(6)]
    [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]
    """
    step_size = check_number("step_size", step_size, least=0)
    factor = check_number("factor", factor, least=0)
    every = check_count("every", every)
    return lambda k: step_size * factor ** (k // every)
