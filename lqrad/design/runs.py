"""A receding horizon in many runs at once, each with its own memory."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array
from lqrad.design.mpc import MPC
from lqrad.errors import ArgumentError
from lqrad.lq.condensed import States


class Runs:
    """Many runs of one `MPC`, in step.

    Parameters
    ----------
    controller : MPC
        Of a measured state.
    runs : int

    Examples
    --------
    >>> from lqrad import LQProblem, mpc
    >>> controller = mpc(LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]]), 5, input_bounds=(-1, 1))
    >>> Runs(controller, 3).step(np.array([[5.0], [0.5], [-5.0]])).ravel().round(3)
    array([-1.   , -0.309,  1.   ])
    """

    def __init__(self, controller: MPC, runs: int) -> None:
        if controller.observer is not None:
            raise ArgumentError(
                f"controller has an observer, whose memory is of one run, and runs = {runs}",
                "simulate one run at a time, or plan from the measured state: mpc without an observer",
            )
        self._one, self._runs = copy.copy(controller), runs
        self.reset()

    def reset(self) -> None:
        """Forget what was."""
        self._u_before = np.zeros((self._runs, self._one.problem.m))
        self._at_work: States | None = None

    def step(self, y: Array, reference: ArrayLike | None = None) -> Array:
        """Return the inputs (runs, m) to apply in the states y (runs, n), as `MPC.step` for each."""
        one, maps = self._one, self._one._own
        ahead = one._ahead(reference, None, None, None)
        found = maps.firsts(y, self._u_before, ahead, self._at_work, one._max_iter, one._tol)
        u = np.empty_like(self._u_before) if found is None else found.u
        for run in range(self._runs) if found is None else np.flatnonzero(found.iterations < 0):
            one.reset(u_before=self._u_before[run])
            plan = one.plan(y[run], reference)
            u[run] = plan.u[0]
            states = maps.states(plan.multipliers)
            if found is not None and states is not None:
                found.state[run] = states
        self._u_before = one._bounds.clipped(u, self._u_before, 0)
        self._at_work = None if found is None else found.state
        return self._u_before.copy()
