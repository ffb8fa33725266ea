"""What is known of the next T steps, references and disturbances, and what a plan is made around.

In the deviations z[t] = x[t] - x_ref[t] and v[t] = u[t] - u_ref[t] the problem is the same one with

    z[t+1] = A z[t] + B v[t] + (A x_ref[t] + B u_ref[t] + c[t] - x_ref[t+1]),

where c[t] is the problem's own, with measured and estimated disturbances. Around the steady state of
a constant reference the bracket is zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_reference, frozen_array
from lqrad.design.disturbances import Disturbed
from lqrad.design.targets import Targets
from lqrad.errors import ArgumentError
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem


def over_horizon(
    name: str, value: ArrayLike, width: int, letter: str, T: int, *, extra: int = 0
) -> Array:
    """Return a constant (width,) or a series (T + extra, width) as the series; a number where width is 1.

    Examples
    --------
    >>> over_horizon("reference", 2.0, 1, "nr", 2, extra=1)
    array([[2.],
           [2.],
           [2.]])
    """
    given = frozen_array(name, value)
    if given.ndim == 0:
        given = given[None]
    elif width == 1 and given.shape == (T + extra,) != (1,):
        given = given[:, None]
    check_reference(name, given, width, letter, T, extra=extra)
    return np.broadcast_to(given, (T + extra, width))


class Ahead(NamedTuple):
    """What a step is told of the next T.

    Attributes
    ----------
    r : (T+1, nr) or None
    x, u : (T+1, n), (T, m), or None
    offset : (T, n) or None
        What disturbances add to x[t+1].
    outputs : (T+1, nr) or None
        What disturbances add to the tracked outputs.
    """

    r: Array | None
    x: Array | None
    u: Array | None
    offset: Array | None
    outputs: Array | None = None

    def with_estimate(self, model: Disturbed, d: Array, T: int) -> Ahead:
        """The same with disturbances that are estimated to be d (nd,) now."""
        each = model.over(d, T)
        offset, outputs = each[:-1] @ model.Bd.T, None
        if self.offset is not None:
            offset = offset + self.offset
        if model.outputs is not None:
            outputs = each @ model.outputs.T
        return self._replace(offset=offset, outputs=outputs)


class Around(NamedTuple):
    """The trajectory that a plan is made around.

    Attributes
    ----------
    x, u : (T+1, n), (T+1, m)
    c : (T, n)
        Constant part of the dynamics of the deviations.
    offset : (T, n)
        That of the states themselves.
    missed : (T+1, nr) or None
        r - H x_ref, where outputs are tracked.
    words : str
        What is out of reach; empty where nothing is.
    """

    x: Array
    u: Array
    c: Array
    offset: Array
    missed: Array | None = None
    words: str = ""


def read_ahead(
    n: int,
    m: int,
    T: int,
    H: Array | None,
    Bd: Array | None,
    *,
    reference: ArrayLike | None,
    x_ref: ArrayLike | None,
    u_ref: ArrayLike | None,
    disturbance: ArrayLike | None,
) -> Ahead:
    """Read what is given of the next T steps; what is not is None, but for the reference: zero."""
    if reference is not None and H is None:
        raise ArgumentError(
            "reference is given, but nothing is tracked",
            "say what follows it by mpc(..., H=H), or where the state should be by x_ref",
        )
    of_state = [name for name, z in (("x_ref", x_ref), ("u_ref", u_ref)) if z is not None]
    if of_state and H is not None:
        raise ArgumentError(
            f"{of_state[0]} is given, and H says that outputs follow a reference",
            "give the reference, or leave H out of mpc",
        )
    r = None
    if H is not None:
        zero = np.zeros(len(H))
        r = over_horizon(
            "reference", zero if reference is None else reference, len(H), "nr", T, extra=1
        )
    offset = None
    if disturbance is not None:
        width, letter = (n, "n") if Bd is None else (Bd.shape[1], "nd")
        offset = over_horizon("disturbance", disturbance, width, letter, T)
        offset = offset if Bd is None else offset @ Bd.T
    return Ahead(
        r,
        None if x_ref is None else over_horizon("x_ref", x_ref, n, "n", T, extra=1),
        None if u_ref is None else over_horizon("u_ref", u_ref, m, "m", T),
        offset,
    )


def around(problem: LQProblem, T: int, ahead: Ahead, targets: Targets | None) -> Around:
    """Return what the next plan is made around: references as they are, or targets of the outputs'.

    Examples
    --------
    A ramp of one metre in each step, which a cart can follow without a force:

    >>> problem = LQProblem([[1, 1], [0, 1]], [[0.5], [1]], np.eye(2), [[1]])
    >>> ramp = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> around(problem, 2, Ahead(None, ramp, None, None), None).c
    array([[0., 0.],
           [0., 0.]])
    """
    n, m = problem.n, problem.m
    offset = np.broadcast_to(problem.c, (T, n))
    if ahead.offset is not None:
        offset = offset + ahead.offset
    if targets is None:
        x = np.zeros((T + 1, n)) if ahead.x is None else ahead.x
        u = np.zeros((T, m)) if ahead.u is None else ahead.u
        c = offset
        if ahead.x is not None or ahead.u is not None:
            c = times(problem.A, x[:-1]) + times(problem.B, u) + offset - x[1:]
        return Around(x, np.concatenate([u, u[-1:]]), c, offset)
    assert ahead.r is not None
    r = ahead.r if ahead.outputs is None else ahead.r - ahead.outputs
    both = np.concatenate([r, np.concatenate([offset, offset[-1:]])], axis=1)
    if (both == both[0]).all():
        both = both[:1]
    found = targets.of(both[:, : r.shape[1]], both[:, r.shape[1] :])
    x, u, missed, drift = (np.broadcast_to(z, (T + 1, z.shape[1])) for z in found[:4])
    if problem.T is None:
        c = x[:-1] - x[1:] + drift[:-1]
    else:
        c = times(problem.A, x[:-1]) + times(problem.B, u[:-1]) + offset - x[1:]
    t, words = next(((t, z) for t, z in enumerate(found.words) if z), (0, ""))
    if words:
        when = f" at t={t}" if len(found.words) > 1 else ""
        held = ahead.r[t] - missed[t]
        words = (
            f"the reference {ahead.r[t]}{when} is out of reach, and {held} is the nearest: {words}"
        )
    return Around(x, u, c, offset, missed, words)
