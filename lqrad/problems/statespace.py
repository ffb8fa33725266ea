"""Linear systems with outputs: what is measured of a state, and how a system answers its inputs.

    x[t+1] = A x[t] + B u[t],    y[t] = C x[t] + D u[t]          sampled every dt seconds
    dx/dt  = A x + B u,          y    = C x + D u                where dt = 0

Discrete or continuous, the frequency response is C (zI - A)^-1 B + D on the border of stability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.errors import (
    ArgumentError,
    Array,
    ShapeError,
    check_shape,
    frozen_array,
    real_array,
    stage_arrays,
)

Complex = NDArray[np.complex128]


@dataclass(frozen=True, init=False, eq=False, repr=False)
class StateSpace:
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
        if not 0 <= dt < np.inf:
            raise ArgumentError(
                f"dt is {dt!r}, expected a number of seconds, 0 for continuous time"
            )
        values = {"A": A, "B": B, "C": C, "D": D, "dt": float(dt), "n": n, "m": m, "ny": len(C)}
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
        points = np.exp(1j * omega * self.dt) if self.dt else 1j * omega
        resolvent = points[:, None, None] * np.eye(self.n) - self.A
        return np.asarray(self.C @ np.linalg.solve(resolvent, self.B + 0j) + self.D)
