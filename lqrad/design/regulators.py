"""Design of controllers: set-points, integral action, estimators.

All regulate about the steady state of the reference, so that integrators have only the model's errors
to remove.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import qr, solve_triangular

from lqrad.arguments import (
    Array,
    called_as,
    check_finite,
    check_limits,
    check_shape,
    frozen_array,
    renamed,
    shape_message,
)
from lqrad.design.controller import Controller, Pair
from lqrad.design.observer import Observer, discrete_plant
from lqrad.design.sampling import Sampled
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, NotStabilizableError, ShapeError
from lqrad.linalg.balance import balance, in_units
from lqrad.lq.dare import dlqr

# Singular values below this part of the largest count as zero, rows and columns of unit length.
_RANK = 1e-10


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
    tracked = None if H is None and Q_i is None else _tracked(plant, H)
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


@renamed(tracked="H")
def steady_state_targets(
    plant: StateSpace,
    reference: ArrayLike,
    *,
    H: ArrayLike | None = None,
    input_bounds: Pair | None = None,
) -> tuple[Array, Array]:
    """Return the steady state in which the tracked outputs are at a reference.

        x_ref = A x_ref + B u_ref,    H x_ref + G u_ref = r

    Parameters
    ----------
    plant : StateSpace
        In discrete time.
    reference : (nr,)
        r.
    H : (nr, n), optional
        With G = 0; the plant's outputs C x + D u when not given.
    input_bounds : pair (low, high), optional
        Limits within which u_ref must be.

    Returns
    -------
    x_ref, u_ref : (n,), (m,)
        Of all such states, the one with the least |u_ref|.

    Raises
    ------
    ArgumentError
        If no steady state holds the reference, or its input is outside the limits: names both.

    See Also
    --------
    lqi : an integrator, which needs no exact model.
    simulate_closed_loop : follows references.

    Examples
    --------
    >>> plant = StateSpace([[0.9]], [[0.1]], dt=0.1)
    >>> steady_state_targets(plant, [2.0])
    (array([2.]), array([2.]))
    """
    plant = discrete_plant(plant)
    H, G = _tracked(plant, H)
    r = np.atleast_1d(frozen_array("reference", reference))
    check_shape("reference", r, (len(H),), "one number for each tracked output", symbols="(nr,)")
    N, blind, unit = _steady(plant, H, G)
    with np.errstate(over="ignore", invalid="ignore"):
        own, target = r / unit, N @ r
    check_finite("reference in units of the tracked outputs", own, computed=True)
    missed = np.abs(blind @ own)
    wrong = missed > _RANK * (np.abs(blind) @ np.abs(own))
    if wrong.any():
        direction = blind[int(np.where(wrong, missed, -1.0).argmax())]
        raise ArgumentError(_not_held(direction, unit, r))
    check_finite("the steady state", target, computed=True)
    x_ref, u_ref = target[: plant.n], target[plant.n :]
    low, high = check_limits("input_bounds", input_bounds, (plant.m,))
    beyond = np.maximum(low - u_ref, u_ref - high)
    if (beyond > 1e-9 * np.abs(u_ref)).any():
        i = int(beyond.argmax())
        raise ArgumentError(
            f"reference {r} needs the constant input u[{i}] = {u_ref[i]:.6g}, which is outside its "
            f"limits {low[i]:.6g} to {high[i]:.6g}; ask for less, or for a stronger actuator"
        )
    return x_ref, u_ref


def steady_states(plant: StateSpace, H: Array, G: Array | None = None) -> Array:
    """Return N (n + m, nr): the steady state with H x + G u = r is N r, for every r.

    Raises
    ------
    ArgumentError
        If some reference has none; names it.
    """
    N, blind, unit = _steady(plant, H, np.zeros((len(H), plant.m)) if G is None else G)
    if len(blind):
        raise ArgumentError(_not_held(blind[0], unit))
    return N


def _steady(plant: StateSpace, H: Array, G: Array) -> tuple[Array, Array, Array]:
    """N, right for all references that have a steady state, and the directions (k, nr) that have none.

    The directions are of r / unit; the unit (nr,) comes third. Ranks are decided in balanced units of
    states, inputs and outputs.
    """
    n, m = plant.n, plant.m
    Z = np.block([[plant.A - np.eye(n), plant.B], [H, G]])
    units = balance(np.zeros((n + m, n + m)), C=Z)
    left, values, right = np.linalg.svd(in_units(Z, units.y, units.x))
    rank = int((values > _RANK * values[0]).sum())
    solution = (right[:rank].T / values[:rank]) @ left[n:, :rank].T
    # Of all solutions, that with the least input: along what of the freedom has a part in inputs.
    _, parts, turn = np.linalg.svd(right[rank:, n:].T, full_matrices=False)
    freedom = right[rank:].T @ turn[parts > _RANK].T
    solution, freedom = (
        in_units(z, -units.x, np.zeros(z.shape[1], np.int64)) for z in (solution, freedom)
    )
    solution = _without(solution, freedom, slice(n, None))
    _, sizes, directions = np.linalg.svd(left[n:, rank:].T)
    N = in_units(solution, np.zeros(n + m, np.int64), -units.y[n:])
    check_finite("the steady state of a reference", N, computed=True)
    return N, directions[: int((sizes > _RANK).sum())], np.ldexp(0.5, units.y[n:])


def _without(solution: Array, freedom: Array, rows: slice) -> Array:
    """The solution minus that combination of the freedom which minimises the norm of these rows.

    Householder's reflections are stable row by row where the largest rows come first. Cancellation in
    a row leaves rounding errors of the former entries, which are removed by the next rounds.
    """
    if not freedom.shape[1]:
        return solution
    order = np.argsort(-np.abs(freedom[rows]).max(axis=1), kind="stable")
    Q, R, columns = qr(freedom[rows][order], mode="economic", pivoting=True)
    for _ in range(3):
        combination = solve_triangular(R, Q.T @ solution[rows][order])
        solution = solution - freedom[:, columns] @ combination
    return solution


def _not_held(direction: Array, unit: Array, r: Array | None = None) -> str:
    """Why a reference has no steady state, or why some have none."""
    scaled = direction / unit / (direction / unit)[np.abs(direction / unit).argmax()]
    seen = np.abs(direction) > 1e-6 * np.abs(direction).max()
    terms = [f"{c:.4g} r[{i}]" for i, c in enumerate(scaled) if seen[i]]
    found = "" if r is None else f", expected 0, and is {float(scaled @ r):.4g}"
    return (
        f"no steady state holds every reference: {' + '.join(terms)} is 0 in all of them{found}; "
        "the plant has a zero at z = 1 there, or fewer inputs than tracked outputs: track less"
    )


def _tracked(plant: StateSpace, H: ArrayLike | None) -> tuple[Array, Array]:
    """H, G of what follows the reference, H x + G u: the plant's outputs, or the rows that are given."""
    if H is None:
        return plant.C, plant.D
    H = frozen_array("H", H)
    if H.ndim != 2 or H.shape[1] != plant.n or not len(H):
        raise ShapeError(shape_message("H", H.shape, f"(nr, n) with n = {plant.n}", ""))
    return H, np.zeros((len(H), plant.m))


def _cross_weight(plant: Any, Q: ArrayLike, R: ArrayLike, M: ArrayLike | None) -> ArrayLike | None:
    """M; where it is not given, that of a sampled problem whose Q and R are given."""
    if M is not None or not isinstance(plant, Sampled):
        return M
    own = np.array_equal(np.asarray(Q), plant.Q) and np.array_equal(np.asarray(R), plant.R)
    return plant.M if own else None
