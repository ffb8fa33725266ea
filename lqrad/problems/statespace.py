"""Linear systems with outputs: what is measured of a state, and how a system answers its inputs.

    x[t+1] = A x[t] + B u[t],    y[t] = C x[t] + D u[t]          sampled every dt seconds
    dx/dt  = A x + B u,          y    = C x + D u                where dt = 0

Discrete or continuous, the frequency response is C (zI - A)^-1 B + D on the border of stability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    batch_message,
    check_finite,
    check_number,
    check_shape,
    frozen_array,
    real_array,
    shape_message,
    stage_arrays,
)
from lqrad.copies import ReadOnly
from lqrad.errors import ArgumentError, LqradError, ShapeError
from lqrad.kernels.banded import Bidiagonal
from lqrad.kernels.stages import times

Complex = NDArray[np.complex128]


@dataclass(frozen=True, init=False, eq=False, repr=False)
class StateSpace(ReadOnly):
    """A linear time-invariant system, in discrete time or, with dt = 0, in continuous time.

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

    Attributes
    ----------
    n, m, ny : int
        Dimensions of state, input and output.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
        If an array does not fit; names it.
    ArgumentError
        If dt is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> system = StateSpace([[0.5]], [[1.0]], dt=0.1)
    >>> system
    StateSpace(n=1, m=1, ny=1, dt=0.1 s)
    >>> system.response([0.0]).ravel()                # the gain of a constant input
    array([2.+0.j])
    """

    A: Array
    B: Array
    C: Array
    D: Array
    dt: float
    n: int
    m: int
    ny: int

    def __init__(
        self,
        A: ArrayLike,
        B: ArrayLike,
        C: ArrayLike | None = None,
        D: ArrayLike | None = None,
        *,
        dt: float,
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
        values = {"A": A, "B": B, "C": C, "D": D, "dt": dt, "n": n, "m": m, "ny": len(C)}
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the way into a frozen dataclass

    def __repr__(self) -> str:
        time = f"dt={self.dt:g} s" if self.dt else "continuous time"
        return f"StateSpace(n={self.n}, m={self.m}, ny={self.ny}, {time})"

    @property
    def poles(self) -> Complex:
        """The eigenvalues of A, the least stable first."""
        poles = np.linalg.eigvals(self.A).astype(np.complex128)
        return poles[np.argsort(-(np.abs(poles) if self.dt else poles.real), kind="stable")]

    @property
    def is_stable(self) -> bool:
        """Whether all poles are inside the unit circle, or left of the imaginary axis."""
        worst = self.poles[0]
        return bool(abs(worst) < 1 if self.dt else worst.real < 0)

    def response(self, omega: ArrayLike) -> Complex:
        """Return C (zI - A)^-1 B + D at z = exp(i omega dt), or at s = i omega.

        Parameters
        ----------
        omega : (k,)
            Frequencies in rad/s.

        Returns
        -------
        (k, ny, m), complex
        """
        omega = real_array("omega", omega)
        if omega.ndim != 1:
            why = "write one frequency as [value]"
            raise ShapeError(f"omega has shape {omega.shape}, expected (k,)", why)
        check_finite("omega", omega)
        points = np.exp(1j * omega * self.dt) if self.dt else 1j * omega
        resolvent = points[:, None, None] * np.eye(self.n) - self.A
        return np.asarray(self.C @ np.linalg.solve(resolvent, self.B + 0j) + self.D)

    def simulate(self, u: ArrayLike, x0: ArrayLike | None = None) -> tuple[Array, Array]:
        """Return the states and outputs that inputs make, in discrete time.

        Parameters
        ----------
        u : (..., T, m)
        x0 : (..., n), optional
            Initial state; zero when not given.

        Returns
        -------
        x : (..., T+1, n)
        y : (..., T, ny)

        Raises
        ------
        ArgumentError
            If the system is in continuous time.
        ShapeError, DtypeError, NonFiniteError
            If u or x0 does not fit, or a state overflows; names the step.

        Examples
        --------
        >>> x, y = StateSpace([[0.5]], [[1.0]], [[2.0]], dt=0.1).simulate(np.ones((3, 1)))
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
        """The same system from another package, bit for bit where that is in state-space form.

        Parameters
        ----------
        system
            A StateSpace, a `System` of `lqrad.systems`, a `control.StateSpace`, a system of
            `scipy.signal` in any form, or anything with attributes A, B, dt and, if it has them, C, D.
        dt : float, optional
            Sampling time in seconds (0 for continuous time), where the system has none: python-control
            means by None that it is not specified, and by True that it is that of a discrete time.

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
        own = getattr(system, "dt", None)
        if type(system).__module__.startswith("scipy.signal"):  # no dt is continuous time there
            system, own = system.to_ss(), 0.0 if own is None else own
        A, B = (getattr(system, name, None) for name in "AB")
        if A is None or B is None:
            raise ArgumentError(
                f"system is a {type(system).__name__} without the attributes A and B; convert it to "
                "state-space form first, for instance by control.ss"
            )
        if own is None or own is True:
            if dt is None or (own is True and not dt):
                raise ArgumentError(
                    f"system has dt = {own}, which says no time; pass dt in seconds"
                    + ("" if own else ", 0 for continuous time")
                )
            own = dt
        elif dt not in (None, own):
            raise ArgumentError(f"dt is {dt}, but the system has its own, {own}; leave dt out")
        C, D = (getattr(system, name, None) for name in "CD")
        return cls(A, B, C, D, dt=float(own))

    def to_control(self) -> Any:
        """The same system as a `control.StateSpace`, of the package python-control.

        Raises
        ------
        LqradError
            If it is not installed.
        """
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
        from scipy import signal

        matrices = (self.A, self.B, self.C, self.D)
        return signal.dlti(*matrices, dt=self.dt) if self.dt else signal.lti(*matrices)
