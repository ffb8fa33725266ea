"""A controller as it runs: estimate, feed back, integrate, keep within limits."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    batch_message,
    check_choice,
    check_finite,
    check_limits,
    check_shape,
    check_type,
    frozen_array,
    real_array,
    shape_message,
)
from lqrad.copies import Fixed
from lqrad.design.observer import Observer, discrete_plant, vectors
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, ShapeError
from lqrad.native.controller import ControllerKernel, controller_kernel

Pair = tuple[ArrayLike, ArrayLike]


class Controller(Fixed):
    """Feedback of an estimated state, with integral action and limits: a design and its memory.

        x_bar[t]   = x_hat[t] + L (y[t] - C x_hat[t] - D u[t])
        u[t]       = clip( F r[t] - K x_bar[t] - K_i z[t],  low, high )
        z[t+1]     = z[t] + E (y[t] - D u[t]) + G u[t] - r[t]
        x_hat[t+1] = A x_bar[t] + B u[t]

    r is the reference of the tracked outputs H x + G u, with H = E C. The integrators sum measured,
    not estimated, errors, so that these end at zero whatever the model lacks. Nothing winds up: the
    observer uses the input that was applied, and an integrator is held where it would push an input
    further beyond its limit.

    Where the plant has a feedthrough D, y[t] contains u[t], which must be known before. x_hat[t] then
    takes the place of x_bar[t] in u[t]: `input` returns u[t] before y[t] is measured, and `step`
    corrects afterwards. The linear-quadratic-Gaussian controller of y[0], ..., y[t-1] has this form.

    The design is read-only; `step` changes the memory, `reset` clears it. A batch of measurements
    makes a batch of memories, one for each run.

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
    G : (nr, m), optional
        The tracked outputs are H x + G u; zero when not given.
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
    ArgumentError
        If what is to be integrated is not measured.

    See Also
    --------
    lqr, lqi, lqg : design one
    mpc : plans ahead, with limits on states
    save_controller : into a file

    Examples
    --------
    An integrator with its gain and an input of at most 1:

    >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    >>> controller = Controller(observer, [[0.5]], dt=0.1, input_bounds=(-1, 1))
    >>> controller.step([4.0]), controller.step([1.0])
    (array([-1.]), array([-0.5]))
    """

    observer: Observer
    n: int
    m: int
    nr: int
    dt: float
    K: Array
    K_i: Array
    F: Array
    G: Array
    H: Array
    E: Array
    low: Array
    high: Array
    x_hat: Array
    z: Array
    _through: Array

    def __init__(
        self,
        observer: Observer,
        K: ArrayLike,
        *,
        dt: float,
        H: ArrayLike | None = None,
        K_i: ArrayLike | None = None,
        F: ArrayLike | None = None,
        G: ArrayLike | None = None,
        input_bounds: Pair | None = None,
    ) -> None:
        check_type("observer", observer, Observer, "Observer(A, B, C, L)")
        n, m = observer.B.shape
        dt = StateSpace(observer.A, observer.B, dt=dt).dt
        if not dt:
            raise ArgumentError("dt is 0, expected the time between two steps in seconds")
        H = frozen_array("H", np.zeros((0, n)) if H is None else H)
        if H.ndim != 2 or H.shape[1] != n:
            raise ShapeError(shape_message("H", H.shape, f"(nr, n) with n = {n}", ""))
        nr = len(H)
        why = f"to match B {observer.B.shape} and H {H.shape}"
        sizes = {"m": m, "n": n, "nr": nr}
        gains = {}
        for name, given, rows, columns in (
            ("K", K, "m", "n"),
            ("K_i", K_i, "m", "nr"),
            ("F", F, "m", "nr"),
            ("G", G, "nr", "m"),
        ):
            shape = sizes[rows], sizes[columns]
            gains[name] = frozen_array(name, np.zeros(shape) if given is None else given)
            check_shape(name, gains[name], shape, why, symbols=f"({rows}, {columns})")
        E = np.zeros((0, observer.ny))
        through = np.zeros((0, m))  # what an integrator gets of u besides E y
        if gains["K_i"].any():
            E = _read_off(H, gains["G"], observer)
            through = gains["G"] - E @ observer.D
        low, high = check_limits("input_bounds", input_bounds, (m,))
        E.setflags(write=False)
        self._set(observer=observer, dt=dt, H=H, E=E, low=low, high=high, **gains)
        self._set(n=n, m=m, nr=nr, _through=through)
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
        self._set(x_hat=x_hat, z=np.zeros((*x_hat.shape[:-1], len(self.E))))

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
            Within its limits. Where an argument is refused, the memory stays as it was.

        Examples
        --------
        >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[0.6]])
        >>> controller = Controller(observer, [[0.5]], dt=0.1)
        >>> controller.step([[1.0], [2.0]]).ravel(), controller.x_hat.ravel()     # two runs
        (array([-0.3, -0.6]), array([0.3, 0.6]))
        """
        y = vectors("y", y, self.observer.ny)
        u, x_hat, z = self._after(y, self._reference(reference))
        self._set(x_hat=x_hat, z=z)
        return u

    def _after(self, y: Array, r: Array | None) -> tuple[Array, Array, Array]:
        """The input, and the memory of the next step."""
        x, z, runs = self.x_hat, self.z, self.x_hat.shape[:-1]
        if y.shape[:-1] != runs or (r is not None and r.shape[:-1] not in (runs, ())):
            runs = _batch(y=y, x_hat=x, **({} if r is None else {"reference": r}))
            y, x, z = (np.broadcast_to(array, (*runs, array.shape[-1])) for array in (y, x, z))
            r = r if r is None or r.ndim == 1 else np.broadcast_to(r, (*runs, self.nr))
        moved = self.kernel and self.kernel.step(y, r, x, z)
        return moved or self._step(y, r, x, z)

    def _step(self, y: Array, r: Array | None, x: Array, z: Array) -> tuple[Array, Array, Array]:
        """The same by NumPy: twin of the kernel."""
        o = self.observer
        check_finite("y", y)
        with np.errstate(over="ignore", invalid="ignore"):  # looked for below
            innovation = y - x @ o.C.T
            if self.predicts:
                wanted, u = self._wanted(x, z, r)
                innovation = innovation - u @ o.D.T
            x_bar = x + innovation @ o.L.T
            if not self.predicts:
                wanted, u = self._wanted(x_bar, z, r)
            if len(self.E):
                growth = y @ self.E.T + u @ self._through.T
                growth = growth if r is None else growth - r
                # Of each integrator, how far its next step pushes inputs beyond the limits they are at.
                push = -growth * ((wanted - u) @ self.K_i)
                z = z + np.where(push > 0, 0.0, growth)
            x_hat = x_bar @ o.A.T + u @ o.B.T
        check_finite("x_hat of the controller", x_hat, computed=True)
        check_finite("z of the controller", z, computed=True)
        return u, x_hat, z

    def input(self, reference: ArrayLike | None = None) -> Array:
        """Return the input (..., m) that the next `step` will return: where the plant has a feedthrough.

        The next measurement contains D u, so that u must be known before. The reference (..., nr) is
        that of the step.

        Raises
        ------
        ArgumentError
            If there is no feedthrough: the input follows from what is measured.

        Examples
        --------
        >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[0.6]], D=[[2.0]])
        >>> controller = Controller(observer, [[0.5]], dt=0.1)
        >>> controller.reset([1.0])
        >>> u = controller.input()
        >>> controller.step(3.0 + 2.0 * u) == u, controller.x_hat
        (array([ True]), array([1.7]))
        """
        if not self.predicts:
            raise ArgumentError(
                "the controller has no feedthrough D: its input follows from what is measured",
                "use step(y)",
            )
        r = self._reference(reference)
        return self._after(np.zeros(self.observer.ny), r)[0]  # which does not depend on y

    @cached_property
    def kernel(self) -> ControllerKernel | None:
        """The kernel of its step, where the library is loaded and its arrays are small; else None."""
        o = self.observer
        model = {"A": o.A, "B": o.B, "C": o.C, "D": o.D, "L": o.L}
        gains = {"F": self.F, "K": self.K, "K_i": self.K_i, "E": self.E, "N": self._through}
        limits = {"low": self.low, "high": self.high}
        return controller_kernel(predicts=self.predicts, **model, **gains, **limits)

    @cached_property
    def predicts(self) -> bool:
        """Whether the input follows from the prediction x_hat: where there is a feedthrough."""
        return bool(self.observer.D.any())

    def _wanted(self, x: Array, z: Array, r: Array | None) -> tuple[Array, Array]:
        """F r - K x - K_i z, the input without limits, and within them."""
        wanted = -(x @ self.K.T)
        if r is not None:
            check_finite("reference", r)
            wanted = r @ self.F.T + wanted
        if len(self.E):
            wanted = wanted - z @ self.K_i.T
        u = np.minimum(np.maximum(wanted, self.low), self.high)
        check_finite("u of the controller", u, computed=True)
        return wanted, u

    def _reference(self, reference: ArrayLike | None) -> Array | None:
        if reference is None:
            return None
        if not self.nr:
            raise ArgumentError(
                "reference is given, but nothing is tracked",
                "say what follows it when designing, by H",
            )
        return vectors("reference", reference, self.nr)

    # As a linear system, the limits apart

    @property
    def measures_state(self) -> bool:
        """Whether the state itself is measured, without an estimate in between."""
        identity = np.eye(self.n)
        o = self.observer
        return np.array_equal(o.C, identity) and np.array_equal(o.L, identity) and not self.predicts

    def statespace(self) -> StateSpace:
        """Return the controller without its limits, from (y, r) to u.

        Its states are x_hat, where the state is not itself measured, and z.

        Examples
        --------
        >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[0.6]])
        >>> system = Controller(observer, [[0.5]], dt=0.1).statespace()
        >>> system.A, system.B, system.C, system.D
        (array([[0.2]]), array([[0.3]]), array([[-0.2]]), array([[-0.3]]))
        """
        o, n, k = self.observer, self.n, len(self.E)
        K_i = self.K_i if k else np.zeros((self.m, 0))
        r_in = -np.eye(k, self.nr)
        # x_bar = keep x_hat + L y - L D u, and u = F r - K of_hat x_hat - K of_y y - K_i z
        keep = np.eye(n) - o.L @ o.C
        of_hat, of_y = (np.eye(n), np.zeros_like(o.L)) if self.predicts else (keep, o.L)
        C, D = np.hstack([-self.K @ of_hat, -K_i]), np.hstack([-self.K @ of_y, self.F])
        from_u = np.concatenate([o.B - o.A @ o.L @ o.D, self._through])
        A = np.block([[o.A @ keep, np.zeros((n, k))], [np.zeros((k, n)), np.eye(k)]]) + from_u @ C
        B = np.block([[o.A @ o.L, np.zeros((n, self.nr))], [self.E, r_in]]) + from_u @ D
        kept = slice(self.n if self.measures_state else 0, None)
        if not len(A[kept]):  # a gain alone: a state that nothing reads
            return StateSpace(
                [[0.0]], np.zeros((1, B.shape[1])), np.zeros((self.m, 1)), D, dt=self.dt
            )
        return StateSpace(A[kept, kept], B[kept], C[:, kept], D, dt=self.dt)

    def loop(self, plant: StateSpace, at: str = "input") -> StateSpace:
        """Return the loop of this controller and a plant, broken at one place, as `margins` takes it.

        Parameters
        ----------
        plant : StateSpace
            In discrete time; its outputs are what is measured, unless that is the state.
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
        measured = self._measured(plant)
        plant = measured.undelayed  # the delay is that of the whole loop
        own = self.statespace()
        sides = [
            (plant.A, plant.B, plant.C, plant.D),
            (own.A, own.B[:, : plant.ny], own.C, own.D[:, : plant.ny]),
        ]
        (A1, B1, C1, D1), (A2, B2, C2, D2) = sides if at == "input" else sides[::-1]
        A = np.block([[A1, np.zeros((len(A1), len(A2)))], [B2 @ C1, A2]])
        return StateSpace(
            A,
            np.concatenate([B1, B2 @ D1]),
            -np.hstack([D2 @ C1, C2]),
            -(D2 @ D1),
            dt=self.dt,
            delay=measured.delay,
        )

    def closed_loop(self, plant: StateSpace) -> StateSpace:
        """Return the plant under this controller without limits, from r to (H x + G u, u).

        Its states are those of the plant, then those of `statespace`. With nothing tracked, it goes
        from what is added to the inputs to (x, u).

        Parameters
        ----------
        plant : StateSpace
            In discrete time, with as many states as H has columns.

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
        n, k = plant.n, own.n
        if self.nr:
            H, G, from_r, own_r = self.H, self.G, own.D[:, plant.ny :], own.B[:, plant.ny :]
        else:
            # The observer is told what the controller adds itself, not what comes from outside.
            H, G, from_r = np.eye(n), np.zeros((n, self.m)), np.eye(self.m)
            own_r = np.zeros((k, self.m))
        if H.shape[1] != n:
            raise ShapeError(
                f"plant has n = {n} states and the tracked outputs are of {H.shape[1]}"
            )
        # u = of_state (x, own state) + from_r r: plant.D or own_D is zero, there is no algebraic loop
        of_state = np.hstack([own_D @ plant.C, own.C])
        from_u = np.concatenate([plant.B, own_B @ plant.D])
        A = np.block([[plant.A, np.zeros((n, k))], [own_B @ plant.C, own.A]]) + from_u @ of_state
        B = from_u @ from_r
        B[n:] += own_r
        tracked = np.hstack([H, np.zeros((len(H), k))]) + G @ of_state
        C, D = np.concatenate([tracked, of_state]), np.concatenate([G @ from_r, from_r])
        return StateSpace(A, B, C, D, dt=self.dt)

    def _measured(self, plant: StateSpace) -> StateSpace:
        """The plant with what this controller measures as its output."""
        plant = discrete_plant(plant, self.m)
        if self.measures_state:
            plant = StateSpace(plant.A, plant.B, dt=plant.dt)
        if plant.ny != self.observer.ny:
            raise ShapeError(
                f"plant has {plant.ny} outputs, expected {self.observer.ny}: as many as measured"
            )
        if plant.D.any() and not self.predicts:
            raise ArgumentError(
                "plant has a feedthrough D, and this controller computes u[t] from y[t], which "
                "contains D u[t]",
                "design it for a plant with this D: it acts on what is predicted then",
            )
        return plant


def _batch(**arrays: Array) -> tuple[int, ...]:
    """The leading axes of all of these together."""
    runs, largest = (), ("", ())
    for name, array in arrays.items():
        try:
            both = np.broadcast_shapes(runs, array.shape[:-1])
        except ValueError:
            message = batch_message(name, array.shape, *largest)
            raise ShapeError(message, "reset() before runs of another number") from None
        if both != runs:
            runs, largest = both, (name, array.shape)
    return runs


def _read_off(H: Array, G: Array, observer: Observer) -> Array:
    """E with H = E C, and with G = E D where there is one: how what is measured tells H x."""
    E, missed = combine(np.hstack([observer.C, observer.D]), np.hstack([H, G]))
    if missed.any():
        E, missed = combine(observer.C, H)
    if missed.any():
        raise ArgumentError(
            f"row {int(missed.argmax())} of H, the tracked outputs, is no combination of what is "
            "measured, the rows of C; an integrator removes only errors that a sensor shows: track "
            "measured outputs, or leave the integrators out"
        )
    return E


def combine(rows: Array, wanted: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return E with E rows = wanted in the least squares, and which of the wanted rows it misses.

    Columns and rows are scaled to a size of about one, so that units do not decide.
    """
    size = _power_of_two(np.abs(np.concatenate([rows, wanted])).max(axis=0))
    rows, wanted = rows / size, wanted / size
    height = _power_of_two(np.abs(rows).max(axis=1))
    rows = rows / height[:, None]
    E = np.asarray(np.linalg.lstsq(rows.T, wanted.T, rcond=None)[0].T, dtype=np.float64)
    missed = np.abs(E @ rows - wanted) > 1e-9 * (np.abs(E) @ np.abs(rows) + np.abs(wanted))
    with np.errstate(over="ignore"):
        E = E / height
    check_finite("E with H = E C", E, computed=True)
    return E, np.any(missed, axis=1)


def _power_of_two(sizes: Array) -> Array:
    """The power of two next to each size, not above it; a half for a size of zero."""
    return np.asarray(np.ldexp(0.5, np.frexp(sizes)[1]), dtype=np.float64)
