"""The worst case of a step of a receding horizon: what `lq.cases` makes of a controller."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import check_limits, check_type
from lqrad.design.mpc import MPC
from lqrad.errors import ArgumentError
from lqrad.lq.cases import Walk, WorstCase
from lqrad.lq.condensed import is_short


@np.errstate(over="ignore", invalid="ignore")  # looked for in the rows
def worst_case(controller: MPC, low: ArrayLike, high: ArrayLike) -> WorstCase:
    """Return how many iterations a step of a receding horizon takes at most, over a box of states.

    An iteration solves for the multipliers of the rows that are at work. What is bounded are steps
    without references; for problems of a few states and limits.

    Parameters
    ----------
    controller : MPC
        Of states that are measured; its bounds of inputs are limits of the input before.
    low, high : numbers or (n,)
        The box.

    Raises
    ------
    ArgumentError
        If there are too many cases, or steps that are made in another way.

    See Also
    --------
    mpc : `max_iter` bounds the work as well, and ends with what is best by then

    Examples
    --------
    >>> from lqrad.design.mpc import mpc
    >>> from lqrad.lq.problem import LQProblem
    >>> problem = LQProblem([[1, 0.5], [0, 1]], [[0.125], [0.5]], np.eye(2), [[0.1]])
    >>> worst_case(mpc(problem, 2, input_bounds=(-1, 1)), low=-1, high=1)
    WorstCase(iterations=2, from_reset=2, sets=5, regions=19)
    """
    check_type("controller", controller, MPC, "mpc(problem, T)")
    planner = controller._own
    limited, n = planner.limited, controller.problem.n
    low, high = check_limits("low and high", (low, high), (n,), names=("low", "high"))
    if limited.problem.n > n:
        before = (z[0] for z in controller._bounds.input)
        low, high = (np.concatenate(pair) for pair in zip((low, high), before, strict=True))
    if not np.isfinite([low, high]).all() or (low == high).any():
        raise ArgumentError(
            "low and high are not finite, or equal, or the inputs before have no bounds",
            "give finite numbers that are apart, and input_bounds",
        )
    short = is_short(limited) and bool(limited.prices.hard.all())
    if controller.observer is not None or controller.H is not None or not short:
        raise ArgumentError(
            "controller follows references, has an observer, a long horizon or rows with prices: of its "
            "steps no worst case is known",
            "certify one without",
        )
    if any(getattr(limited.problem, name).any() for name in "cqrs"):
        raise ArgumentError(
            "controller has a problem with linear terms, of which no worst case is known",
            "state it in x - x_ref and u - u_ref, around its steady state",
        )
    layout = planner.layout
    return Walk(
        limited,
        (layout.low, layout.high),
        (low, high),
        max_iter=controller._max_iter,
        tol=controller._tol,
    ).through()
