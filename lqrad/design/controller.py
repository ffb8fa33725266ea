"""A controller as it runs: estimate, feed back, integrate, keep within limits.

    x_bar[t]   = x_hat[t] + L (y[t] - C x_hat[t])
    u[t]       = clip( F r[t] - K x_bar[t] - K_i z[t],  low, high )
    z[t+1]     = z[t] + E y[t] - r[t]
    x_hat[t+1] = A x_bar[t] + B u[t]

r is what the tracked outputs H x = E C x are to be. What is integrated is measured, not estimated, so
that it ends at zero error whatever the model lacks. The observer is told the input that was applied,
so that it does not wind up; an integrator is held where it would push an input further beyond its
limit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    check_choice,
    check_finite,
    check_limits,
    check_shape,
    check_type,
    frozen_array,
    real_array,
    shape_message,
)
from lqrad.copies import ReadOnly
from lqrad.design.observer import Observer
from lqrad.errors import ArgumentError, ShapeError
from lqrad.problems.statespace import StateSpace


class Controller(ReadOnly):
    """Feedback of an estimated state, with integral action and limits: a design and its memory.

    `lqi` and `lqg` design one. The design is read-only; `step` changes the memory, `reset` clears
    it. A batch of measurements makes a batch of memories, one for each run.

    Parameters
    ----------
    observer : Observer
        With C = L = I where the state itself is measured.
    K : (m, n)
        Gain of the state.
    dt : float
        Time from one step to the next in seconds.
    H : (nr, n), optional
        The tracked outputs are H x; nothing is tracked without it.
    K_i : (m, nr), optional
        Gain of the integrators; zero, and nothing integrated, when not given.
    F : (m, nr), optional
        Gain of the reference; zero when not given.
    input_bounds : pair (low, high), optional
        Limits of the inputs: numbers or (m,), infinite where there is none.

    Attributes
    ----------
    x_hat : (..., n)
        What is predicted of the state, before the next measurement.
    z : (..., nr), or (..., 0) without integrators
        The integrators: sums of E y - r.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArgumentError
        If an array does not fit, a lower limit is above the upper one, or what is to be integrated
        is not measured.

    Examples
    --------
    An integrator with its gain and an input of at most 1:

    >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    >>> controller = Controller(observer, [[0.5]], dt=0.1, input_bounds=(-1, 1))
    >>> controller.step([4.0]), controller.step([1.0])
    (array([-1.]), array([-0.5]))
    """

    def __init__(
        self,
        observer: Observer,
        K: ArrayLike,
        *,
        dt: float,
        H: ArrayLike | None = None,
        K_i: ArrayLike | None = None,
        F: ArrayLike | None = None,
        input_bounds: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> None:
        check_type("observer", observer, Observer, "Observer(A, B, C, L)")
        n, m = observer.B.shape
        self.observer, self.n, self.m = observer, n, m
        self.dt = StateSpace(observer.A, observer.B, dt=dt).dt
        if not self.dt:
            raise ArgumentError("dt is 0, expected the time between two steps in seconds")
        self.H = frozen_array("H", np.zeros((0, n)) if H is None else H)
        if self.H.ndim != 2 or self.H.shape[1] != n:
            raise ShapeError(shape_message("H", self.H.shape, f"(nr, n) with n = {n}", ""))
        self.nr = len(self.H)
        self.K = frozen_array("K", K)
        self.K_i = frozen_array("K_i", np.zeros((m, self.nr)) if K_i is None else K_i)
        self.F = frozen_array("F", np.zeros((m, self.nr)) if F is None else F)
        why = f"to match B {observer.B.shape} and H {self.H.shape}"
        check_shape("K", self.K, (m, n), why, symbols="(m, n)")
        check_shape("K_i", self.K_i, (m, self.nr), why, symbols="(m, nr)")
        check_shape("F", self.F, (m, self.nr), why, symbols="(m, nr)")
        self.E = _read_off(self.H, observer.C) if self.K_i.any() else np.zeros((0, observer.ny))
        self.low, self.high = check_limits("input_bounds", input_bounds, (m,))
        self.reset()

    def __repr__(self) -> str:
        words = [f"n={self.n}", f"m={self.m}", f"ny={self.observer.ny}", f"dt={self.dt:g} s"]
        if self.nr:
            words.append(f"{self.nr} tracked{' with integral action' if self.K_i.any() else ''}")
        if np.isfinite([self.low, self.high]).any():
            words.append("limited inputs")
        return f"Controller({', '.join(words)})"

    def reset(self, x_hat: ArrayLike | None = None) -> None:
        """Clear the integrators, and start from a prediction of the state, or from zero.

        Parameters
        ----------
        x_hat : (..., n), optional
        """
        x_hat = np.zeros(self.n) if x_hat is None else np.array(real_array("x_hat", x_hat))
        if x_hat.ndim == 0 or x_hat.shape[-1] != self.n:
            raise ShapeError(shape_message("x_hat", x_hat.shape, f"(..., n) with n = {self.n}", ""))
        check_finite("x_hat", x_hat)
        self.x_hat, self.z = x_hat, np.zeros((*x_hat.shape[:-1], len(self.E)))

    def step(self, y: ArrayLike, reference: ArrayLike | None = None) -> Array:
        """Return the input to apply, from what is measured, and move on by one step.

        Parameters
        ----------
        y : (..., ny)
        reference : (..., nr), optional
            What the tracked outputs are to be; zero when not given.

        Returns
        -------
        (..., m)
            Within its limits.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError, NonFiniteError
            If y or the reference does not fit; the memory is as it was.

        Examples
        --------
        >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[0.6]])
        >>> controller = Controller(observer, [[0.5]], dt=0.1)
        >>> controller.step([[1.0], [2.0]]).ravel(), controller.x_hat.ravel()     # two runs
        (array([-0.3, -0.6]), array([0.3, 0.6]))
        """
        y = self._signal("y", y, self.observer.ny)
        if reference is not None and not self.nr:
            raise ArgumentError(
                "reference is given, but nothing is tracked; say what follows it when designing, "
                "by tracked="
            )
        r = (
            np.zeros(self.nr)
            if reference is None
            else self._signal("reference", reference, self.nr)
        )
        x_bar = self.observer.correct(self.x_hat, y)
        wanted = r @ self.F.T - x_bar @ self.K.T
        if len(self.E):
            wanted = wanted - self.z @ self.K_i.T
        u = np.clip(wanted, self.low, self.high)
        if len(self.E):
            growth = y @ self.E.T - r
            # Of each integrator, how far its next step pushes inputs beyond the limits they are at.
            push = -growth * ((wanted - u) @ self.K_i)
            self.z = self.z + np.where(push > 0, 0.0, growth)
        self.x_hat = self.observer.predict(x_bar, u)
        return u

    def _signal(self, name: str, value: ArrayLike, width: int) -> Array:
        array = real_array(name, value)
        if array.ndim == 0 or array.shape[-1] != width:
            expected = f"(..., {width})"
            raise ShapeError(shape_message(name, array.shape, expected, "", (width,)))
        check_finite(name, array)
        return array

    # As a linear system, the limits apart

    @property
    def measures_state(self) -> bool:
        """Whether the state itself is measured, without an estimate in between."""
        identity = np.eye(self.n)
        return np.array_equal(self.observer.C, identity) and np.array_equal(
            self.observer.L, identity
        )

    def statespace(self) -> StateSpace:
        """The controller without its limits, from (y, r) to u.

        Returns
        -------
        StateSpace
            Its states are x_hat, where the state is not itself measured, and z.

        Examples
        --------
        >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[0.6]])
        >>> system = Controller(observer, [[0.5]], dt=0.1).statespace()
        >>> system.A, system.B, system.C, system.D
        (array([[0.2]]), array([[0.3]]), array([[-0.2]]), array([[-0.3]]))
        """
        o, K, F, k = self.observer, self.K, self.F, len(self.E)
        K_i = self.K_i if k else np.zeros((self.m, 0))
        from_hat = np.eye(self.n) - o.L @ o.C  # x_bar = from_hat x_hat + L y
        closed = o.A - o.B @ K
        A = np.block([[closed @ from_hat, -o.B @ K_i], [np.zeros((k, self.n)), np.eye(k)]])
        B = np.block([[closed @ o.L, o.B @ F], [self.E, -np.eye(k, self.nr)]])
        C, D = np.hstack([-K @ from_hat, -K_i]), np.hstack([-K @ o.L, F])
        kept = slice(self.n if self.measures_state else 0, None)
        if not len(A[kept]):  # a gain alone: a state that nothing reads
            return StateSpace(
                [[0.0]], np.zeros((1, B.shape[1])), np.zeros((self.m, 1)), D, dt=self.dt
            )
        return StateSpace(A[kept, kept], B[kept], C[:, kept], D, dt=self.dt)

    def loop(self, plant: StateSpace, at: str = "input") -> StateSpace:
        """The loop of this controller and a plant, broken at one place: what `margins` wants.

        Parameters
        ----------
        plant : StateSpace
            In discrete time with D = 0; its C is what is measured, unless that is the state.
        at : {"input", "output"}
            Where it is broken: at the plant's inputs, or at what is measured.

        Returns
        -------
        StateSpace
            L, such that the closed loop is (I + L)^-1: negative feedback.

        Examples
        --------
        >>> plant = StateSpace([[1.0]], [[1.0]], dt=0.1)
        >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[1.0]])
        >>> L = Controller(observer, [[0.5]], dt=0.1).loop(plant)
        >>> L.response([2.0]).ravel().round(4), np.round(0.5 / (np.exp(0.2j) - 1), 4)
        (array([-0.25-2.4917j]), np.complex128(-0.25-2.4917j))
        """
        check_choice("at", at, ("input", "output"))
        plant = self._measured(plant)
        own = self.statespace()
        own_B, own_D = own.B[:, : plant.ny], own.D[:, : plant.ny]
        if at == "input":
            first, second = (plant.A, plant.B, plant.C, plant.D), (own.A, own_B, own.C, own_D)
        else:
            first, second = (own.A, own_B, own.C, own_D), (plant.A, plant.B, plant.C, plant.D)
        A1, B1, C1, D1 = first
        A2, B2, C2, D2 = second
        A = np.block([[A1, np.zeros((len(A1), len(A2)))], [B2 @ C1, A2]])
        return StateSpace(
            A,
            np.concatenate([B1, B2 @ D1]),
            -np.hstack([D2 @ C1, C2]),
            -(D2 @ D1),
            dt=self.dt,
        )

    def closed_loop(self, plant: StateSpace) -> StateSpace:
        """The plant under this controller without limits, from r to (H x, u).

        Parameters
        ----------
        plant : StateSpace
            In discrete time with D = 0 and as many states as H has columns.

        Returns
        -------
        StateSpace
            Its states are those of the plant, then those of `statespace`. With nothing tracked, it
            goes from what is added to the inputs to (x, u).

        Examples
        --------
        >>> plant = StateSpace([[1.0]], [[1.0]], dt=0.1)
        >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[1.0]])
        >>> Controller(observer, [[0.5]], dt=0.1).closed_loop(plant).poles
        array([0.5+0.j, 0. +0.j])
        """
        plant = self._measured(plant)
        own = self.statespace()
        own_B, own_D = own.B[:, : plant.ny], own.D[:, : plant.ny]
        A = np.block(
            [[plant.A + plant.B @ own_D @ plant.C, plant.B @ own.C], [own_B @ plant.C, own.A]]
        )
        of_u = np.hstack([own_D @ plant.C, own.C])
        H = self.H if self.nr else np.eye(self.n)
        if H.shape[1] != plant.n:
            raise ShapeError(
                f"plant has n = {plant.n} states and the tracked outputs are of {H.shape[1]}"
            )
        of_x = np.hstack([H, np.zeros((len(H), own.n))])
        if self.nr:
            from_r, own_r = own.D[:, plant.ny :], own.B[:, plant.ny :]
        else:
            # The observer is told what the controller adds itself, not what comes from outside.
            from_r, own_r = np.eye(self.m), np.zeros((own.n, self.m))
        B = np.concatenate([plant.B @ from_r, own_r])
        D = np.concatenate([np.zeros((len(H), B.shape[1])), from_r])
        return StateSpace(A, B, np.concatenate([of_x, of_u]), D, dt=self.dt)

    def _measured(self, plant: StateSpace) -> StateSpace:
        """The plant with what this controller measures as its output."""
        plant = discrete_plant(plant, self.m)
        if self.measures_state:
            plant = StateSpace(plant.A, plant.B, dt=plant.dt)
        if plant.ny != self.observer.ny:
            raise ShapeError(
                f"plant has {plant.ny} outputs, expected {self.observer.ny}: as many as measured"
            )
        return plant


def _read_off(H: Array, C: Array) -> Array:
    """E with H = E C: how tracked outputs follow from what is measured."""
    E = np.asarray(np.linalg.lstsq(C.T, H.T, rcond=None)[0].T, dtype=np.float64)
    missed = np.abs(E @ C - H).max(axis=1)
    if (missed > 1e-9 * np.abs(H).max(axis=1)).any():
        raise ArgumentError(
            f"row {int(missed.argmax())} of the tracked outputs is no combination of what is "
            "measured, the rows of C; an integrator removes only errors that a sensor shows: track "
            "measured outputs, or leave the integrators out"
        )
    return E


def discrete_plant(plant: StateSpace, m: int | None = None) -> StateSpace:
    """Return a plant as it is; raise unless it is in discrete time, with D = 0 and m inputs."""
    check_type("plant", plant, StateSpace, "StateSpace(A, B, C, dt=0.1)")
    if not plant.dt:
        raise ArgumentError(
            "plant is in continuous time (dt = 0), expected discrete time; sample it first, "
            "by lqrad.discretise"
        )
    if plant.D.any():
        raise ArgumentError(
            "plant has a feedthrough D, expected D = 0: what is measured must not depend on the "
            "input that is computed from it; append the input of the step before as a state"
        )
    if m is not None and plant.m != m:
        raise ShapeError(f"plant has {plant.m} inputs, expected {m}: as many as the controller's")
    return plant
