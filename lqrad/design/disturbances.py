"""Disturbances as states: what holds a set-point without an offset whatever the model lacks.

    x[t+1] = A x[t] + B u[t] + Bd d[t],     d[t+1] = d[t],     y[t] = C x[t] + D u[t] + Cd d[t]

An observer of (x, d) explains by d what the model leaves unexplained, and `mpc` takes the steady state
under d for its target. Where nothing moves any more, the observer's correction is zero; with as many
disturbances as measured outputs, C x + Cd d is then y itself, and so are the tracked combinations of it.

References
----------
Pannocchia and Rawlings, Disturbance models for offset-free model-predictive control, AIChE Journal 49
(2003), 426-437.
Maeder, Borrelli and Morari, Linear offset-free model predictive control, Automatica 45 (2009),
2214-2222.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import block_diag

from lqrad.arguments import (
    Array,
    check_choice,
    check_covariance,
    check_shape,
    check_type,
    frozen_array,
    number_words,
    shape_message,
)
from lqrad.design.controller import combine
from lqrad.design.observer import Observer, discrete_plant
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, NotStabilizableError, ShapeError
from lqrad.linalg.balance import balance, in_units
from lqrad.lq.problem import LQProblem

# Singular values below this part of the largest count as zero, in balanced units.
_RANK = 1e-10


def disturbance_observer(
    plant: StateSpace,
    W: ArrayLike,
    V: ArrayLike,
    W_d: ArrayLike,
    *,
    at: str = "input",
    Bd: ArrayLike | None = None,
    Cd: ArrayLike | None = None,
) -> Observer:
    """Return the stationary Kalman filter of a plant's state and of constant disturbances.

    With it, `mpc` holds the outputs H x that it tracks at their reference under any constant load and
    any error of the model's gains, as long as limits leave it room.

    Parameters
    ----------
    plant : StateSpace
        In discrete time; its outputs are what is measured. C = I where that is the state.
    W, V : (n, n), (ny, ny)
        Covariances of what disturbs the state at each step and of the sensors' noise, V definite.
    W_d : (nd, nd)
        Covariance of the change of the disturbances in each step: the larger, the sooner they are
        found, and the more of the noise is taken for them.
    at : {"input", "output"}
        Where they act: Bd = B and Cd = 0, one for each input; or Bd = 0 and Cd = I, one for each
        measured output.
    Bd, Cd : (n, nd), (ny, nd), optional
        Where else; the one that is not given is zero.

    Returns
    -------
    Observer
        Of the states (x, d), n + nd of them.

    Raises
    ------
    NotStabilizableError
        If what is measured does not tell a disturbance from a state, or from another one; names them.

    See Also
    --------
    mpc : takes it as its observer
    lqi : integrators instead

    Examples
    --------
    A motor's speed, with a load that the model does not know:

    >>> from lqrad import LQProblem, mpc
    >>> plant = StateSpace([[0.9]], [[0.1]], dt=0.1)
    >>> observer = disturbance_observer(plant, [[1e-4]], [[1e-2]], [[1e-2]])
    >>> problem = LQProblem(plant.A, plant.B, [[1.0]], [[0.1]])
    >>> controller = mpc(problem, 20, input_bounds=(-5, 5), H=[[1.0]], observer=observer)
    >>> x = np.zeros(1)
    >>> for _ in range(100):
    ...     x = plant.A @ x + plant.B @ (controller.step(x, 2.0) - 2.5)
    >>> x.round(9), controller.x_hat.round(9)
    (array([2.]), array([ 2. , -2.5]))
    """
    plant = discrete_plant(plant)
    n, ny = plant.n, plant.ny
    check_choice("at", at, ("input", "output"))
    if at != "input" and (Bd is not None or Cd is not None):
        raise ArgumentError(
            f"at is {at!r}, and Bd or Cd say where disturbances act", "leave at out"
        )
    if Bd is None and Cd is None:
        Bd, Cd = (plant.B, None) if at == "input" else (None, np.eye(ny))
    given = [None if z is None else frozen_array(name, z) for name, z in (("Bd", Bd), ("Cd", Cd))]
    nd = next(z.shape[-1] if z.ndim else 1 for z in given if z is not None)
    Bd, Cd = (
        np.zeros((rows, nd)) if z is None else z for z, rows in zip(given, (n, ny), strict=True)
    )
    for name, array, rows, letter in (("Bd", Bd, n, "n"), ("Cd", Cd, ny, "ny")):
        if array.ndim != 2 or len(array) != rows or not array.size:
            raise ShapeError(
                shape_message(name, array.shape, f"({letter}, nd) with {letter} = {rows}", "")
            )
    check_shape("Cd", Cd, (ny, nd), f"to match Bd {Bd.shape}", symbols="(ny, nd)")
    W, W_d = frozen_array("W", W), frozen_array("W_d", W_d)
    for name, array, size, letter in (("W", W, n, "n"), ("W_d", W_d, nd, "nd")):
        why = "of what disturbs the state" if name == "W" else f"for {nd} disturbances"
        check_shape(name, array, (size, size), why, symbols=f"({letter}, {letter})")
        check_covariance(name, array)
    _check_told(plant, Bd, Cd)
    A = np.block([[plant.A, Bd], [np.zeros((nd, n)), np.eye(nd)]])
    B = np.concatenate([plant.B, np.zeros((nd, plant.m))])
    both = StateSpace(A, B, np.hstack([plant.C, Cd]), plant.D, dt=plant.dt)
    return Observer.kalman(both, block_diag(W, W_d), V)


def _check_told(plant: StateSpace, Bd: Array, Cd: Array) -> None:
    """Raise NotStabilizableError unless what is measured tells constant disturbances from states.

    [A - I, Bd; C, Cd] (x, d) = 0 is a state that stands still under d with nothing to be seen of it.
    """
    n = plant.n
    Z = np.block([[plant.A - np.eye(n), Bd], [plant.C, Cd]])
    units = balance(np.zeros((Z.shape[1],) * 2), C=Z)
    _, values, right = np.linalg.svd(in_units(Z, units.y, units.x))
    hidden = right[int((values > _RANK * values[0]).sum()) :]
    sizes = np.abs(hidden[:, n:]).max(axis=1, initial=0.0)
    if (sizes <= _RANK).all():
        return  # a state of the plant alone is told of by the filter
    direction = hidden[int(sizes.argmax())]
    order = np.argsort(-np.abs(direction), kind="stable")
    seen = [i for i in order if abs(direction[i]) > 1e-6 * abs(direction[order[0]])]
    direction = np.ldexp(direction, units.x)
    scale = direction[max(seen, key=lambda i: (i >= n, abs(direction[i])))]
    names = [f"x[{i}]" for i in range(n)] + [f"d[{i}]" for i in range(Bd.shape[1])]
    words = [f"{number_words(complex(direction[i] / scale))} in {names[i]}" for i in sorted(seen)]
    raise NotStabilizableError(
        f"nothing that is measured tells of a constant disturbance: with {', '.join(words)} all is "
        "still, and y is zero",
        f"measure more, or model fewer disturbances ({plant.ny} at most), or others: at the inputs, "
        "at the outputs, or by Bd and Cd",
    )


def check_observer(observer: Any, problem: LQProblem) -> None:
    """Raise an error unless it is an observer of the problem's states, and of disturbances behind."""
    check_type("observer", observer, Observer, "Observer(A, B, C, L)")
    k = max(observer.n, problem.n)
    for name, columns in (("A", k), ("B", problem.m)):
        why = f"as the problem's {name}, or with disturbances behind"
        check_shape(f"observer.{name}", getattr(observer, name), (k, columns), why)
    if observer.D.any():
        raise ArgumentError(
            "observer has a feedthrough D: what is measured depends on the input that is to be "
            "planned from it",
            "append the input of the step before as a state",
        )


class Disturbed(NamedTuple):
    """How disturbances that an observer estimates act on a plan.

    Attributes
    ----------
    Ad : (nd, nd)
        d[t+1] = Ad d[t].
    Bd : (n, nd)
        What they add to x[t+1].
    outputs : (nr, nd) or None
        What they add to the tracked outputs; None where that is nothing.
    """

    Ad: Array
    Bd: Array
    outputs: Array | None

    def over(self, d: Array, T: int) -> Array:
        """The disturbances (T+1, nd) from d on."""
        found = np.broadcast_to(d, (T + 1, len(d)))
        if not np.array_equal(self.Ad, np.eye(len(d))):
            found = found.copy()
            for t in range(T):
                found[t + 1] = self.Ad @ found[t]
        return found


def disturbed(observer: Observer, n: int, H: Array | None) -> Disturbed:
    """Return the disturbances of an observer whose state is (x, d), with x (n,)."""
    A, B, C = observer.A, observer.B, observer.C
    if A[n:, :n].any() or B[n:].any():
        raise ArgumentError(
            f"observer has {observer.n} states, {observer.n - n} more than the problem, and the plant "
            "moves these: expected disturbances, d[t+1] = Ad d[t], behind the problem's states",
            "make it by disturbance_observer",
        )
    Cd, outputs = C[:, n:], None
    if H is not None and Cd.any():
        E, missed = combine(C[:, :n], H)
        if missed.any():
            raise ArgumentError(
                f"row {int(missed.argmax())} of H, the tracked outputs, is no combination of what is "
                "measured, and disturbances act on what is measured: what they make of it is unknown",
                "track measured outputs, or let the disturbances act on states, by Bd",
            )
        outputs = E @ Cd
    return Disturbed(A[n:, n:], A[:n, n:], outputs)
