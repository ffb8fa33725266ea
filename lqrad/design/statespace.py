"""Linear systems with outputs: simulation, frequency response, dead time, other packages' systems."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property, partial, wraps
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    batch_message,
    check_count,
    check_finite,
    check_number,
    check_room,
    check_shape,
    frozen_array,
    real_array,
    shape_message,
    stage_arrays,
)
from lqrad.copies import Fixed
from lqrad.errors import ArgumentError, LqradError, ShapeError
from lqrad.linalg.balance import balance, in_units
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.paths import joining
from lqrad.linalg.peak import response as gain_at
from lqrad.linalg.stages import times

Complex = NDArray[np.complex128]
Signals = tuple[Array, Array]


def part(of: str, k: int, doc: str) -> Any:
    """Return a property: the k-th array of a cached property."""
    return property(lambda system: getattr(system, of)[k], doc=doc)


def _in_either_order(simulate: Callable[..., Signals]) -> Callable[..., Signals]:
    """Take (u, x0), and u alone, for (x0, u), where the shapes tell them apart."""

    @wraps(simulate)
    def called(system: StateSpace, *given: Any, **named: Any) -> Signals:
        if "u" not in named and len(given) == 1:
            given = (named.pop("x0", None), *given)
        elif not given:
            named.setdefault("x0", None)
        elif len(given) == 2 and not named:
            new, former = (_fit(system, *pair) for pair in (given, given[::-1]))
            if new and former:
                raise ArgumentError(
                    "x0 and u have shapes of which either may be the other's",
                    "name them: simulate(x0=x0, u=u)",
                )
            given = given[::-1] if former else given
        return simulate(system, *given, **named)

    return called


def _fit(system: StateSpace, x0: Any, u: Any) -> bool:
    """Whether two arguments have the shapes of an initial state and of inputs."""
    inputs = real_array("u", u).shape if u is not None else ()
    start = (system.n,) if x0 is None else real_array("x0", x0).shape
    if len(inputs) < 2 or inputs[-1] != system.m or start[-1:] != (system.n,):
        return False
    try:
        np.broadcast_shapes(inputs[:-2], start[:-1])
    except ValueError:
        return False
    return True


class StateSpace(Fixed):
    """A linear time-invariant system, in discrete time or, with dt = 0, in continuous time.

        x[t+1] = A x[t] + B u[t],    y[t] = C x[t] + D u[t]          sampled every dt seconds
        dx/dt  = A x + B u,          y    = C x + D u                where dt = 0

    Inputs that arrive d steps late, u[t-d] in place of u[t], multiply the frequency response by z^-d.
    The delay is kept as a number, and turned into states only where A, B, C or D are read.

    Parameters
    ----------
    A : (n, n)
        State matrix.
    B : (n, m)
        Input matrix.
    C : (ny, n), optional
        Output matrix; the identity when not given.
    D : (ny, m), optional
        Feedthrough; zero when not given.
    dt : float
        Sampling time in seconds; 0 for continuous time.
    delay : int
        Steps after which an input arrives, in discrete time. A, B, C, D and n are those of the state
        (x, u[t-1], ..., u[t-delay]), which holds the inputs on their way.

    Attributes
    ----------
    n, m, ny : int
        Dimensions of state, input and output.
    undelayed : StateSpace
        The system whose inputs arrive at once; with `delay`, it is this one.

    See Also
    --------
    discretise : a system in continuous time, sampled
    margins, step_response, controllability, observability : what it is like
    LQProblem : the same dynamics with a cost

    Examples
    --------
    >>> import numpy as np
    >>> system = StateSpace([[0.5]], [[1.0]], dt=0.1)
    >>> system
    StateSpace(n=1, m=1, ny=1, dt=0.1 s)
    >>> system.response([0.0]).ravel()                # the gain of a constant input
    array([2.+0.j])
    >>> StateSpace([[0.5]], [[1.0]], dt=0.1, delay=2).A
    array([[0.5, 0. , 1. ],
           [0. , 0. , 0. ],
           [0. , 1. , 0. ]])
    """

    dt: float
    delay: int
    n: int
    m: int
    ny: int
    _own: tuple[Array, Array, Array, Array]  # without the delay
    _after: int  # of these states come those of the delay

    def __init__(
        self,
        A: ArrayLike,
        B: ArrayLike,
        C: ArrayLike | None = None,
        D: ArrayLike | None = None,
        *,
        dt: float,
        delay: int = 0,
    ) -> None:
        arrays, T = stage_arrays(A=A, B=B)
        if T is not None:
            raise ShapeError("A or B varies in time; a StateSpace has matrices that do not")
        A, B = arrays["A"], arrays["B"]
        n, m = B.shape
        C = frozen_array("C", np.eye(n) if C is None else C)
        if C.ndim != 2 or C.shape[1] != n or not len(C):
            raise ShapeError(f"C has shape {C.shape}, expected (ny, n) with n = {n}")
        D = frozen_array("D", np.zeros((len(C), m)) if D is None else D)
        check_shape("D", D, (len(C), m), f"to match C {C.shape} and B {B.shape}", symbols="(ny, m)")
        dt = check_number("dt", dt, least=0)
        delay = check_count("delay", delay, least=0)
        if delay and not dt:
            raise ArgumentError("delay is in steps, and a system in continuous time has none")
        self._set(_own=(A, B, C, D), _after=n, n=n + delay * m, m=m, ny=len(C), dt=dt, delay=delay)

    def _late(self, delay: int, after: int) -> StateSpace:
        """The same matrices with another delay, its states after so many of their own."""
        found = object.__new__(StateSpace)
        n, m = self._own[1].shape
        found._set(_own=self._own, _after=after, n=n + delay * m, m=m)
        found._set(ny=self.ny, dt=self.dt, delay=delay)
        return found

    def __repr__(self) -> str:
        time = f"dt={self.dt:g} s" if self.dt else "continuous time"
        late = f", {self.delay} steps of delay" if self.delay else ""
        return f"StateSpace(n={self.n}, m={self.m}, ny={self.ny}, {time}{late})"

    @property
    def undelayed(self) -> StateSpace:
        """The system whose inputs arrive at once: this one where there is no delay."""
        return self._late(0, len(self._own[0])) if self.delay else self

    def delayed(self, steps: int, *, after: int | None = None) -> StateSpace:
        """The same system with inputs that arrive some steps later than now.

        Parameters
        ----------
        steps : int
        after : int, optional
            After how many of the states those of the delay come; after all when not given.
        """
        n = len(self._own[0])
        steps = check_count("steps", steps, least=0)
        after = n if after is None else check_count("after", after, least=0, most=n)
        return self._late(self.delay + steps, after)

    @cached_property
    def _matrices(self) -> tuple[Array, Array, Array, Array]:
        """A, B, C, D with the inputs on their way as states."""
        A, B, C, D = self._own
        if not self.delay:
            return A, B, C, D
        check_room("the state with all inputs on their way in it", 2 * self.n, self.n)
        n, m, late = len(A), self.m, self.n - len(A)
        where = np.arange(n) + late * (np.arange(n) >= self._after)  # of x
        line = self._after + np.arange(late)  # of u[t-1], ..., u[t-delay]
        wide = np.zeros((self.n, self.n)), np.zeros((self.n, m)), np.zeros((self.ny, self.n))
        wide[0][np.ix_(where, where)] = A
        wide[0][np.ix_(where, line[-m:])] = B
        wide[0][line[m:], line[:-m]] = 1.0  # a step older
        wide[1][line[:m], np.arange(m)] = 1.0
        wide[2][:, where], wide[2][:, line[-m:]] = C, D
        for matrix in wide:
            matrix.setflags(write=False)
        none = np.zeros((self.ny, m))
        none.setflags(write=False)
        return *wide, none

    A: Array = part("_matrices", 0, "State matrix, the inputs on their way included.")
    B: Array = part("_matrices", 1, "Input matrix.")
    C: Array = part("_matrices", 2, "Output matrix.")
    D: Array = part("_matrices", 3, "Feedthrough; zero where the input is late.")

    @property
    def poles(self) -> Complex:
        """The eigenvalues of A, the least stable first."""
        check_room("the poles, with one for each input on its way,", 2, self.delay, self.m)
        poles = np.linalg.eigvals(self._own[0]).astype(np.complex128)
        poles = np.append(poles, np.zeros(self.delay * self.m))
        return poles[np.argsort(-(np.abs(poles) if self.dt else poles.real), kind="stable")]

    @property
    def is_stable(self) -> bool:
        """Whether all poles are inside the unit circle, or left of the imaginary axis."""
        poles = np.linalg.eigvals(self._own[0])  # those of inputs on their way are zero
        return bool((np.abs(poles) < 1 if self.dt else poles.real < 0).all())

    def response(self, omega: ArrayLike) -> Complex:
        """Return C (zI - A)^-1 B + D (..., ny, m) at z = exp(i omega dt), or s = i omega.

        It is infinite at a pole.

        Parameters
        ----------
        omega : (...)
            Frequencies in rad/s; of a system in continuous time, they may be infinite.

        Raises
        ------
        NonFiniteError
            If a frequency is no number, or is infinite in discrete time.
        """
        omega = real_array("omega", omega)
        infinite = np.isinf(omega) & (not self.dt)
        check_finite("omega", np.where(infinite, 0.0, omega))
        A, B, C, D = self._own
        units = balance(A, B, C, continuous=not self.dt)
        x, u, y, time = units.x, units.u, units.y, 0 if self.dt else units.time
        B, C = in_units(B, x, u, time), in_units(C, y, x)
        flat = np.where(infinite, 0.0, omega).ravel()
        if self.dt:  # z - 1 and A - I keep the digits of slow modes
            turn = np.remainder(flat * self.dt, 2 * np.pi)
            points, A = -2 * np.sin(turn / 2) ** 2 + 1j * np.sin(turn), A - np.eye(len(A))
            late = np.exp(-1j * turn * self.delay)
        else:
            points, late = 1j * np.ldexp(flat, time), np.ones(len(flat))
        found = _finite_where_unseen(in_units(A, x, x, time), B, C, points)
        with np.errstate(invalid="ignore"):
            found = np.ldexp(found.real, y[:, None] - u) + 1j * np.ldexp(found.imag, y[:, None] - u)
            found = np.where(np.isinf(found), found, (found + D) * late[:, None, None])
        found[infinite.ravel()] = D
        return np.asarray(found.reshape(*omega.shape, self.ny, self.m))

    @_in_either_order
    def simulate(self, x0: ArrayLike | None, u: ArrayLike) -> tuple[Array, Array]:
        """Return the states x (..., T+1, n) and outputs y (..., T, ny) of inputs, in discrete time.

        Parameters
        ----------
        x0 : (..., n) or None
            Initial state; None is zero.
        u : (..., T, m)
            Also u alone, and (u, x0), the former order, are taken where the shapes tell them.

        Raises
        ------
        ArgumentError
            If the system is in continuous time.
        NonFiniteError
            If a state overflows; names the step.

        Examples
        --------
        >>> x, y = StateSpace([[0.5]], [[1.0]], [[2.0]], dt=0.1).simulate([0.0], np.ones((3, 1)))
        >>> x.ravel(), y.ravel()
        (array([0.  , 1.  , 1.5 , 1.75]), array([0., 2., 3.]))
        """
        if not self.dt:
            raise ArgumentError("the system is in continuous time (dt = 0); sample it first")
        u = real_array("u", u)
        if u.ndim < 2 or u.shape[-1] != self.m:
            raise ShapeError(shape_message("u", u.shape, f"(..., T, m) with m = {self.m}", ""))
        start = np.zeros(self.n) if x0 is None else real_array("x0", x0)
        if start.ndim == 0 or start.shape[-1] != self.n:
            raise ShapeError(shape_message("x0", start.shape, f"(..., n) with n = {self.n}", ""))
        for name, array in (("u", u), ("x0", start)):
            check_finite(name, array)
        try:
            batch = np.broadcast_shapes(u.shape[:-2], start.shape[:-1])
        except ValueError:
            raise ShapeError(batch_message("x0", start.shape, "u", u.shape)) from None
        x = np.empty((*batch, u.shape[-2] + 1, self.n))
        x[..., 0, :] = start
        x[..., 1:, :] = times(self.B, u)
        x = Bidiagonal(self.A).solve(x, overwrite=True)
        return x, times(self.C, x[..., :-1, :]) + times(self.D, u)

    # From and to other packages

    @classmethod
    def of(cls, system: Any, *, dt: float | None = None) -> StateSpace:
        """Return a system of another package, bit for bit where it is in state-space form.

        Parameters
        ----------
        system
            A StateSpace, a `System` of `lqrad.systems`, a `control.StateSpace`, a system of
            `scipy.signal` in any form, or anything with attributes A, B, dt and, if it has them, C, D.
        dt : float, optional
            Sampling time in seconds (0 for continuous time), where the system has none: None and True
            in python-control.

        Raises
        ------
        ArgumentError
            If it is none of these, or its time is not known.

        Examples
        --------
        >>> from scipy.signal import TransferFunction
        >>> StateSpace.of(TransferFunction([1.0], [1.0, 2.0]))
        StateSpace(n=1, m=1, ny=1, continuous time)
        """
        if isinstance(system, cls):
            return system
        if callable(getattr(system, "loop", None)):  # a controller
            raise ArgumentError(
                f"system is a {type(system).__name__}, which is half of a loop",
                "pass controller.loop(plant)",
            )
        own = getattr(system, "dt", None)
        # The package that made the system has been imported.
        signal, control = (sys.modules.get(name) for name in ("scipy.signal", "control"))
        if signal and isinstance(system, (signal.lti, signal.dlti)):
            own = 0.0 if own is None else own  # no dt is continuous time there
            system = _realised(system.to_ss)
        elif control and isinstance(system, control.TransferFunction):
            system = _realised(partial(control.ss, system))
        if not isinstance(system, _Equations):
            raise ArgumentError(
                f"system is a {type(system).__name__} without the attributes A and B; convert it to "
                "state-space form first, for instance by control.ss"
            )
        A, B = system.A, system.B
        C, D = (getattr(system, name, None) for name in "CD")
        if np.shape(A) == (0, 0) and D is not None and np.ndim(D) == 2:
            ny, m = np.shape(D)  # a gain alone: one state that nothing reads
            A, B, C = (np.zeros(shape) for shape in ((1, 1), (1, m), (ny, 1)))
        if own is None or own is True:
            if dt is None or (own is True and not dt):
                raise ArgumentError(
                    f"the {type(system).__name__} says nothing of its sampling time (dt is {own})",
                    "pass StateSpace.of(system, dt=...), with dt in seconds"
                    + ("" if own else ", or 0 for continuous time"),
                )
            own = dt
        elif dt not in (None, own):
            raise ArgumentError(f"dt is {dt}, but the system has its own, {own}; leave dt out")
        return cls(A, B, C, D, dt=own)

    def to_control(self) -> Any:
        """The same system as a `control.StateSpace`, of the package python-control."""
        try:
            import control
        except ImportError as error:
            raise LqradError("to_control needs python-control, try: pip install control") from error
        return control.StateSpace(
            self.A, self.B, self.C, self.D, self.dt, remove_useless_states=False
        )

    def to_scipy(self) -> Any:
        """The same system as a `scipy.signal.dlti`, or a `scipy.signal.lti` in continuous time.

        Examples
        --------
        >>> StateSpace([[0.5]], [[1.0]], dt=0.1).to_scipy().A
        array([[0.5]])
        """
        from scipy import signal  # which takes a while to import

        matrices = (self.A, self.B, self.C, self.D)
        return signal.dlti(*matrices, dt=self.dt) if self.dt else signal.lti(*matrices)


def _finite_where_unseen(A: Array, B: Array, C: Array, points: Complex) -> Complex:
    """C (zI - A)^-1 B at each z: at a pole, infinite where its states join an input to an output."""
    found = gain_at(A, B, C, np.zeros((len(C), B.shape[1])), points)
    at_pole = np.isinf(found).any(axis=(1, 2))
    if at_pole.any():
        states = joining(A, B, C)
        for i, j in np.ndindex(*found.shape[1:]):
            own = np.flatnonzero(states[i, j])
            parts = A[np.ix_(own, own)], B[np.ix_(own, [j])], C[np.ix_([i], own)]
            found[at_pole, i, j] = gain_at(*parts, np.zeros((1, 1)), points[at_pole])[:, 0, 0]
    return found


@runtime_checkable
class _Equations(Protocol):
    """A system in state-space form, of any package."""

    A: Any
    B: Any


def _realised(to_ss: Callable[[], Any]) -> Any:
    """A transfer function of another package in state space."""
    try:
        return to_ss()
    except (ValueError, TypeError, ImportError) as error:
        raise ArgumentError(
            f"system is a transfer function that has no state-space form: {error}",
            "where it has more zeros than poles, add fast poles",
        ) from error
