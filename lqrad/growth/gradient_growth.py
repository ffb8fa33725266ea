"""How a gradient scales with its distance from the end: measured, predicted, and when it breaks.

    d x[T] / d u[t] = A[T-1] ... A[t+1] B[t],    its norm ~ k^degree rho^k at the distance k = T-1-t

The costates are multiplied by A' once for each step, so the powers of A are in every gradient: where
the spectral radius rho is above one the early inputs have huge ones, where it is below they have
none to speak of. Everything here is in logarithms, and serves where the numbers would overflow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    EPS,
    Array,
    check_count,
    check_room,
    check_semidefinite,
    check_shape,
    frozen_array,
    stage_arrays,
)
from lqrad.copies import ReadOnly
from lqrad.errors import ArgumentError
from lqrad.linalg.growth import adjoint_growth, free_response
from lqrad.linalg.spectrum import dominant_growth
from lqrad.results import Report

_LOG_DIGITS = -math.log(EPS)
_LOG_LARGEST = math.log(np.finfo(np.float64).max)
_FIRST, _FAR = 64, 8192  # steps over which a horizon is looked for: doubled from the first on
_LONG = 500  # steps over which k and log k can be told apart
_FITTED = 0.1  # the share of the horizon, next to its end, that is left out of the fit


class Derivative(NamedTuple):
    """S d x[T] / d u[t] of a system that does not vary, over any horizon; S is None for the identity."""

    A: Array
    B: Array
    S: Array | None

    def log_norms(self, T: int) -> Array:
        """Logarithms of the norms, (T,)."""
        return adjoint_growth(self.A, self.B, self.S, T)[0]

    def vanishes(self, T: int) -> bool:
        """Whether nothing is left of any state after T steps, to rounding."""
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.linalg.norm(np.linalg.matrix_power(self.A, T)) <= EPS)


@dataclass(frozen=True, eq=False, repr=False)
class GradientGrowth(ReadOnly, Report):
    """Norms of a gradient in each input, and the law that they follow.

    Attributes
    ----------
    log_norms : (T,)
        Natural logarithm of the norm for each t; -inf where the input has no effect.
    quantity : str
        What the norm is of: "d x[T] / d u[t]", "S d x[T] / d u[t]" or
        "gradient of 1/2 x[T]'S x[T]".
    rate : float
        Slope of a fit of a + rate k + degree log k to log_norms, at the distances k = T-1-t that
        are at least a tenth of the horizon; NaN where there are not enough of them.
    degree : float
        Fitted power of k. Below five hundred steps k and log k are too much alike to be told apart:
        the predicted degree is taken then. Zero where A varies.
    predicted_rate : float
        log rho, with rho the spectral radius of A; the largest of the exponents where A varies.
    predicted_degree : int or None
        Size of the largest Jordan block of modulus rho, less one; None where A varies.
    exponents : (n,)
        Finite-time Lyapunov exponents of the products of all A[t], per step. Of one column only
        where the gradient itself is followed.
    derivative : Derivative or None
        Of the last state, which is followed over other horizons; None where A or B varies.
    along_trajectory : bool
        Whether log_norms are of the gradient of a terminal cost, and not of the derivative.
    """

    log_norms: Array
    quantity: str
    rate: float
    degree: float
    predicted_rate: float
    predicted_degree: int | None
    exponents: Array
    derivative: Derivative | None = None
    along_trajectory: bool = False

    @property
    def T(self) -> int:
        """The horizon."""
        return len(self.log_norms)

    @cached_property
    def lost_horizon(self) -> float:
        """The horizon at which an open-loop gradient near the optimum has no digit left.

        A rounding error of an input grows on its way to the end as the norms do, and by as much again
        on its way back in the costates: eps times the square of their growth is one. The norms are
        followed until they have grown that much, whatever T is. Where that takes more than 8192
        steps, or beyond T where A or B varies, they go on at the predicted rate; infinite where
        nothing grows.
        """
        return self._horizon(_LOG_DIGITS / 2, self.derivative, relative=True)

    @cached_property
    def overflow_horizon(self) -> float:
        """The horizon at which a norm is too large for a float, found likewise.

        Along a trajectory, which ends elsewhere for another T, it goes on at the predicted rate
        from T on.
        """
        derivative = None if self.along_trajectory else self.derivative
        return self._horizon(_LOG_LARGEST, derivative, relative=False)

    def _horizon(self, limit: float, derivative: Derivative | None, *, relative: bool) -> float:
        """The first horizon at which the logarithms reach a limit, relative to that of one step."""
        T, logs = _FIRST, self.log_norms
        while True:
            if derivative is not None:
                logs = derivative.log_norms(T)
            known = np.flatnonzero(logs > -math.inf)
            start = logs[known[-1]] if relative and len(known) else 0.0
            reached = np.flatnonzero(logs - start >= limit)
            if len(reached):
                return float(len(logs) - reached[-1])
            if derivative is None or T == _FAR or derivative.vanishes(T):
                break
            T *= 2
        if self.predicted_rate <= 0 or logs[0] <= logs[len(logs) // 2]:
            return math.inf
        rest = (limit - (logs[0] - start)) / self.predicted_rate
        return len(logs) + rest if rest < 1 / EPS else math.inf

    @property
    def overflow_step(self) -> int | None:
        """The last t, the first of a backward pass, at which the norm is too large for a float."""
        steps = np.flatnonzero(self.log_norms > _LOG_LARGEST)
        return int(steps[-1]) if len(steps) else None

    def facts(self) -> dict[str, Any]:
        """Return the rates, measured and predicted, and the horizons at which digits are lost."""
        names = ["T", "quantity", "rate", "predicted_rate", "degree", "predicted_degree"]
        names += ["lost_horizon", "overflow_horizon", "overflow_step", "exponents", "log_norms"]
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        first, last = (_power_of_ten(self.log_norms[t]) for t in (0, -1))
        fitted, power = (
            f" k^{degree:g}" if degree and math.isfinite(degree) else ""
            for degree in (round(self.degree, 2), self.predicted_degree)
        )
        fit = f"fitted {math.exp(self.rate):.6g}{fitted}"
        if math.isnan(self.rate):
            fit = "too few norms for a fit"
        lines = [
            f"{self.quantity} over T = {self.T} steps: {first} at t = 0, {last} at the end",
            f"growth per step: {fit}, predicted {math.exp(self.predicted_rate):.6g}{power}",
        ]
        ends = {"has no digit left": self.lost_horizon, "overflows": self.overflow_horizon}
        for what, horizon in ends.items():
            if math.isfinite(horizon):
                lines.append(f"an open-loop gradient {what} from T = {horizon:.0f} on")
        return "\n".join(lines)


def gradient_growth(
    A: ArrayLike,
    B: ArrayLike | None = None,
    S: ArrayLike | None = None,
    *,
    T: int | None = None,
    x0: ArrayLike | None = None,
    x: ArrayLike | None = None,
) -> GradientGrowth:
    """Measure how a gradient grows or decays with its distance from the end of the horizon.

    Without S it is the derivative of the last state in each input; with S alone, that weighted by
    S; with S and a trajectory, the gradient of the terminal cost 1/2 x[T]'S x[T] itself. (With
    weights at every stage it is the sum of such gradients, of which the last grows most.)

    Parameters
    ----------
    A : (n, n) or (T, n, n)
        State matrix; for a nonlinear system its Jacobians along a trajectory.
    B : (n, m) or (T, n, m), optional
        Input matrix; the identity when not given: the derivative is in the state x[t+1] then.
    S : (n, n), optional
        Terminal weight, symmetric positive semidefinite.
    T : int, optional
        The horizon; needed where nothing varies in time and no x is given.
    x0 : (n,), optional
        Where the free response x[t+1] = A x[t] starts. It may overflow, its logarithm is carried.
    x : (T+1, n), optional
        The trajectory, where it is another.

    See Also
    --------
    lost_digits : what this growth leaves of a gradient.
    cures : what can be done about it.
    nonnormality : the powers of A alone, and what foretells them.

    References
    ----------
    Bengio, Simard and Frasconi, Learning long-term dependencies with gradient descent is difficult,
    IEEE Transactions on Neural Networks 5 (1994), 157-166.
    Trefethen and Embree, Spectra and Pseudospectra, 2005, chapter 14 (powers of matrices).

    Examples
    --------
    >>> growth = gradient_growth([[1.5]], [[1.0]], T=5000)
    >>> round(float(np.exp(growth.rate)), 9), growth.overflow_step is None
    (1.5, False)
    >>> print(growth)
    d x[T] / d u[t] over T = 5000 steps: 10^880.3 at t = 0, 10^0.0 at the end
    growth per step: fitted 1.5, predicted 1.5
    an open-loop gradient has no digit left from T = 46 on
    an open-loop gradient overflows from T = 1752 on
    """
    A = frozen_array("A", A)
    arrays, stages = stage_arrays(A=A, B=np.eye(A.shape[-1] if A.ndim else 1) if B is None else B)
    n, T = len(arrays["A"].T), _horizon(T, stages, x)
    seed, shift = None, 0.0
    quantity = f"d x[T] / d {'u[t]' if B is not None else 'x[t+1]'}"
    if S is not None:
        seed = frozen_array("S", S)
        check_shape("S", seed, (n, n), f"to match A {A.shape}", symbols="(n, n)")
        check_semidefinite("S", seed)
        quantity = f"S {quantity}"
    derivative = None
    if A.ndim == arrays["B"].ndim == 2:
        derivative = Derivative(A, arrays["B"], seed)
    along_trajectory = x0 is not None or x is not None
    if along_trajectory:
        if seed is None:
            raise ArgumentError(
                "S is not given and a trajectory is: without a cost at its end it has no gradient; "
                "pass S, or leave the trajectory out"
            )
        last, shift = _last_state(A, T, x0, x)
        seed = (seed @ last)[:, None]
        quantity = "gradient of 1/2 x[T]'S x[T]"
    log_norms, exponents = adjoint_growth(A, arrays["B"], seed, T)
    log_norms += shift
    predicted_rate, predicted_degree = float(exponents.max()), None
    if A.ndim == 2:
        radius, predicted_degree = dominant_growth(A)
        predicted_rate = math.log(radius) if radius > 0 else -math.inf
    laws = (*_fit(log_norms, predicted_degree), predicted_rate, predicted_degree)
    return GradientGrowth(log_norms, quantity, *laws, exponents, derivative, along_trajectory)


def _horizon(T: int | None, stages: int | None, x: ArrayLike | None) -> int:
    """The one horizon that is given, or raise ArgumentError."""
    known = {"A or B": stages, "x": None if x is None else len(np.atleast_1d(x)) - 1}
    for name, value in known.items():
        if value is None:
            continue
        if T not in (None, value):
            raise ArgumentError(f"T is {T}, but {name} is given for {value} steps; leave T out")
        T = value
    if T is None:
        raise ArgumentError("T is not given and nothing varies in time; pass the horizon T")
    T = check_count("T", T)
    check_room(f"growth over T = {T} steps", T, 8)
    return T


def _last_state(A: Array, T: int, x0: ArrayLike | None, x: ArrayLike | None) -> tuple[Array, float]:
    """The last state of a trajectory, and the logarithm of what it is to be multiplied by."""
    n = A.shape[-1]
    if x is not None and x0 is not None:
        raise ArgumentError("x0 and x are both given; pass one: a start, or a whole trajectory")
    if x is not None:
        x = frozen_array("x", x)
        check_shape("x", x, (T + 1, n), f"to match A {A.shape}", symbols="(T + 1, n)")
        return x[-1], 0.0
    start = frozen_array("x0", x0 if x0 is not None else [])
    check_shape("x0", start, (n,), f"to match A {A.shape}", symbols="(n,)")
    return free_response(A, start, T)


def _fit(log_norms: Array, degree: int | None) -> tuple[float, float]:
    """The rate and the degree of a + rate k + degree log k, by least squares."""
    k = len(log_norms) - 1.0 - np.arange(len(log_norms))
    used = np.isfinite(log_norms) & (k >= max(1.0, _FITTED * len(k)))
    if used.sum() < 3:
        return math.nan, math.nan
    k, target = k[used], log_norms[used]
    columns = [np.ones_like(k), k]
    if degree is not None and len(log_norms) >= _LONG:
        columns.append(np.log(k))
    elif degree is not None:
        target = target - degree * np.log(k)
    M = np.stack(columns, axis=1)
    size = np.abs(M).max(axis=0)
    _, rate, *power = np.linalg.lstsq(M / size, target)[0] / size
    return float(rate), float(power[0]) if power else float(degree or 0)


def _power_of_ten(log_norm: float) -> str:
    return "0" if log_norm == -math.inf else f"10^{log_norm / math.log(10) + 0.0:.1f}"
