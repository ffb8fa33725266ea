"""Design of controllers: set-points, integral action, estimators.

All regulate about the steady state of the reference, so that integrators have only the model's errors
to remove.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    called_as,
    check_shape,
    frozen_array,
    renamed,
)
from lqrad.design.controller import Controller, Pair
from lqrad.design.observer import Observer, discrete_plant
from lqrad.design.sampling import Sampled
from lqrad.design.statespace import StateSpace
from lqrad.design.targets import steady_states, tracked_outputs
from lqrad.errors import NotStabilizableError
from lqrad.lq.dare import dlqr


@renamed(tracked="H")
@called_as("lqr(plant, Q, R) for a plant, or dlqr(A, B, Q, R) for matrices")
def lqr(
    plant: StateSpace,
    Q: ArrayLike,
    R: ArrayLike,
    *,
    M: ArrayLike | None = None,
    H: ArrayLike | None = None,
    input_bounds: Pair | None = None,
) -> Controller:
    """Design a regulator for a plant whose state is measured: the gain of `dlqr`, ready to run.

    Parameters
    ----------
    plant : StateSpace
        In discrete time; also what `StateSpace.of` or `discretise` gives. With the Q and R of what
        `discretise` gives, its M is taken too.
    Q, R, M : (n, n), (m, m), (n, m)
        Weights of the state, of the input and of the cross term x'Mu.
    H : (nr, n), optional
        The outputs H x follow the reference, as far as the model is right; nothing when not given.
    input_bounds : pair (low, high), optional
        Limits of the inputs, each a number or (m,); integrators do not wind up at them.

    Returns
    -------
    Controller
        The y of its `step` is the state.

    Raises
    ------
    ArgumentError
        If the plant is in continuous time, or no steady state holds some reference: names it.
    NotStabilizableError
        If no feedback stabilises the plant; names the mode.
    NotConvexError
        If [Q M; M' R] is not positive semidefinite, or R + B'PB not positive definite.

    See Also
    --------
    lqi : with integral action
    lqg : for a state that is estimated
    mpc : with limits on states, planned ahead
    design_controller : the controller, and its loop looked at

    Examples
    --------
    >>> plant = StateSpace([[1.0]], [[1.0]], dt=0.1)
    >>> lqr(plant, [[1]], [[1]]).step([1.0]).round(4)
    array([-0.618])
    """
    return regulator(plant, Q, R, M=M, H=H, input_bounds=input_bounds)


@renamed(tracked="H")
@called_as("lqi(plant, Q, R, Q_i)")
def lqi(
    plant: StateSpace,
    Q: ArrayLike,
    R: ArrayLike,
    Q_i: ArrayLike,
    *,
    M: ArrayLike | None = None,
    H: ArrayLike | None = None,
    input_bounds: Pair | None = None,
) -> Controller:
    """Design a regulator with integral action, for a plant whose state is measured.

    It minimises sum_t 1/2 (x'Qx + z'Q_i z + 2 x'Mu + u'Ru) of the deviations from the steady state,
    with the integrators z[t+1] = z[t] + H x[t] - r as further states.

    Parameters
    ----------
    plant, Q, R, M, H, input_bounds
        As of `lqr`; without H, the plant's outputs C x + D u follow the reference.
    Q_i : (nr, nr)
        Weight of the integrators, which are sums, not times dt.

    Returns
    -------
    Controller
        The y of its `step` is the state.

    See Also
    --------
    lqr : without integrators; lists what is raised
    lqg : with or without integrators, for a state that is estimated

    References
    ----------
    Young and Willems, An approach to the linear multivariable servomechanism problem, International
    Journal of Control 15(5), 1972, 961-979 (integrators as states).

    Examples
    --------
    A motor whose speed is to be 3 whatever the load torque:

    >>> plant = StateSpace([[0.9]], [[0.1]], dt=0.1)
    >>> controller = lqi(plant, [[1]], [[0.1]], [[0.2]])
    >>> x = np.zeros(1)
    >>> for _ in range(100):
    ...     x = plant.A @ x + plant.B @ (controller.step(x, [3.0]) - 5.0)
    >>> x.round(6)
    array([3.])
    """
    return regulator(plant, Q, R, M=M, H=H, Q_i=Q_i, input_bounds=input_bounds)


@renamed(tracked="H")
@called_as("lqg(plant, Q, R, W, V)")
def lqg(
    plant: StateSpace,
    Q: ArrayLike,
    R: ArrayLike,
    W: ArrayLike,
    V: ArrayLike,
    *,
    M: ArrayLike | None = None,
    Q_i: ArrayLike | None = None,
    H: ArrayLike | None = None,
    input_bounds: Pair | None = None,
) -> Controller:
    """Design a regulator for a plant whose state is estimated by the stationary Kalman filter.

    Without integral action and limits it minimises the mean of 1/2 (x'Qx + 2 x'Mu + u'Ru) over time
    for x[t+1] = A x[t] + B u[t] + w[t], y[t] = C x[t] + D u[t] + v[t], w ~ (0, W), v ~ (0, V), among
    all controllers whose u[t] depends on y[0], ..., y[t]; with a feedthrough D, on y[0], ..., y[t-1],
    see `Controller.input`. Regulator and filter are designed separately.

    Parameters
    ----------
    plant, Q, R, M, input_bounds
        As of `lqr`; the plant's outputs C x + D u are what is measured.
    W, V : (n, n), (ny, ny)
        Covariances of what disturbs the state at each step and of the sensors' noise. The inputs in
        the state of a plant with a delay are known: their rows of W are zero.
    Q_i : (nr, nr), optional
        Weight of the integrators, as of `lqi`; none when not given.
    H : (nr, n), optional
        The outputs H x follow the reference; with a Q_i, combinations of what is measured. When not
        given: the plant's outputs where there is a Q_i, else nothing.

    Raises
    ------
    NotStabilizableError
        Also if what is measured does not show a mode that is not stable; names the mode.

    See Also
    --------
    lqr : for a state that is measured; lists what else is raised
    Observer.kalman : the filter by itself
    expected_cost : the mean cost of the loop, in closed form

    References
    ----------
    Anderson and Moore, Optimal Control: Linear Quadratic Methods, 1990, sections 8.1 and 8.2.

    Examples
    --------
    A mass whose position is measured:

    >>> plant = StateSpace([[1, 0.1], [0, 1]], [[0.005], [0.1]], [[1, 0]], dt=0.1)
    >>> controller = lqg(plant, np.eye(2), [[1]], W=0.01 * np.eye(2), V=[[0.1]])
    >>> controller
    Controller(n=2, m=1, ny=1, dt=0.1 s)
    >>> abs(controller.closed_loop(plant).poles).round(4)   # two of the regulator, two of the filter
    array([0.9171, 0.9171, 0.8993, 0.7432])
    """
    return regulator(plant, Q, R, M=M, noises=(W, V), Q_i=Q_i, H=H, input_bounds=input_bounds)


def regulator(
    plant: StateSpace,
    Q: ArrayLike,
    R: ArrayLike,
    *,
    M: ArrayLike | None = None,
    noises: Pair | None = None,
    Q_i: ArrayLike | None = None,
    H: ArrayLike | None = None,
    input_bounds: Pair | None = None,
) -> Controller:
    """Return a controller with an estimator where there are noises (W, V), and integrators with Q_i."""
    M, plant = _cross_weight(plant, Q, R, M), discrete_plant(plant)
    if noises is None:
        identity = np.eye(plant.n)
        observer = Observer(plant.A, plant.B, identity, identity)
    else:
        observer = Observer.kalman(plant, *noises)
    tracked = None if H is None and Q_i is None else tracked_outputs(plant, H)
    gains = _gains(plant, Q, R, M, tracked, Q_i)
    return Controller(observer, dt=plant.dt, input_bounds=input_bounds, **gains)


def _gains(
    plant: StateSpace,
    Q: ArrayLike,
    R: ArrayLike,
    M: ArrayLike | None,
    tracked: tuple[Array, Array] | None,
    Q_i: ArrayLike | None,
) -> dict[str, Array]:
    """The gains K of the state, K_i of the integrators and F of the reference.

    F r holds the steady state (x_ref, u_ref) of r with the integrators at z_ref, which minimises
    1/2 d'P d for d = (-x_ref, -z_ref), the cost of a step from rest. With z_ref = 0 the errors of a
    step would have to add up to zero: it would overshoot.
    """
    n = plant.n
    if tracked is None:
        return {"K": dlqr(plant.A, plant.B, Q, R, M=M)[0]}
    H, G = tracked
    steady = steady_states(plant, H, G)  # where some reference cannot be held, this says so
    x_ref, u_ref = steady[:n], steady[n:]
    if Q_i is None:
        K = dlqr(plant.A, plant.B, Q, R, M=M)[0]
        return {"K": K, "F": u_ref + K @ x_ref, "H": H, "G": G}
    nr = len(H)
    Q, Q_i = frozen_array("Q", Q), frozen_array("Q_i", Q_i)
    check_shape("Q", Q, (n, n), f"to match A {plant.A.shape}", symbols="(n, n)")
    check_shape("Q_i", Q_i, (nr, nr), f"for {nr} tracked outputs", symbols="(nr, nr)")
    cross = np.zeros((n, plant.m)) if M is None else frozen_array("M", M)
    check_shape("M", cross, (n, plant.m), f"to match B {plant.B.shape}", symbols="(n, m)")
    A = np.block([[plant.A, np.zeros((n, nr))], [H, np.eye(nr)]])
    B = np.concatenate([plant.B, G])
    weight = np.block([[Q, np.zeros((n, nr))], [np.zeros((nr, n)), Q_i]])
    try:
        both, P, _ = dlqr(A, B, weight, R, M=np.concatenate([cross, np.zeros((nr, plant.m))]))
    except NotStabilizableError as error:
        raise NotStabilizableError(
            f"of the plant with its integrators, x[{n}] to x[{n + nr - 1}]: {error}"
        ) from None
    K, K_i = both[:, :n], both[:, n:]
    z_ref = -np.linalg.solve(P[n:, n:], P[n:, :n] @ x_ref)
    return {"K": K, "K_i": K_i, "F": u_ref + K @ x_ref + K_i @ z_ref, "H": H, "G": G}


def _cross_weight(plant: Any, Q: ArrayLike, R: ArrayLike, M: ArrayLike | None) -> ArrayLike | None:
    """M; where it is not given, that of a sampled problem whose Q and R are given."""
    if M is not None or not isinstance(plant, Sampled):
        return M
    own = np.array_equal(np.asarray(Q), plant.Q) and np.array_equal(np.asarray(R), plant.R)
    return plant.M if own else None
