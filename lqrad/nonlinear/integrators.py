"""Steps of differential equations: continuous dynamics made discrete, for `ControlProblem`.

    dx/dt = f(x, u, t)     becomes     x[k+1] = step(x[k], u[k], k),   with u held over the step

Each returns a function that is written for points, as f is. Its derivatives are exact where those of
f are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lqrad.arguments import EPS, Array, check_count, check_number
from lqrad.errors import NonFiniteError, ShapeError
from lqrad.functions.calls import raise_named, with_time
from lqrad.functions.carried import Carried, plain, read_only
from lqrad.functions.derivatives import derivatives

Step = Callable[[Any, Any, Any], Any]

_MOST_NEWTON_STEPS = 50


def euler(f: Callable[..., Any], dt: float) -> Step:
    """Return the explicit Euler step x + dt f(x, u), of order one.

    Parameters
    ----------
    f : callable
        (x, u) or (x, u, t) -> dx/dt, for points x (..., n), u (..., m); t in the units of dt.
    dt : float
        Step, positive.

    See Also
    --------
    rk4, implicit_midpoint : steps of order four and two.

    Examples
    --------
    >>> step = euler(lambda x, u: -x, 0.5)
    >>> step(np.array([1.0]), np.array([0.0]), 0)
    array([0.5])
    """
    f, dt = _rates(f), check_number("dt", dt, above=0)
    return lambda x, u, k: x + dt * f(read_only(x), read_only(u), k * dt)


def rk4(f: Callable[..., Any], dt: float, *, substeps: int = 1) -> Step:
    """Return the classical Runge-Kutta step, of order four.

    Parameters
    ----------
    f, dt
        As of `euler`.
    substeps : int
        Steps of dt / substeps that are taken for one of dt.

    See Also
    --------
    euler : one call of f a step.
    implicit_midpoint : for stiff f, and what is to keep its energy.

    References
    ----------
    Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, 1993, section II.1.

    Examples
    --------
    >>> step = rk4(lambda x, u: -x, 0.1)
    >>> float(step(np.array([1.0]), np.array([0.0]), 0)[0] - np.exp(-0.1)) < 1e-7
    True
    """
    f, dt, substeps = _rates(f), check_number("dt", dt, above=0), check_count("substeps", substeps)
    h = dt / substeps

    def step(x: Any, u: Any, k: Any) -> Any:
        u = read_only(u)
        for i in range(substeps):
            t, x = k * dt + i * h, read_only(x)
            k1 = f(x, u, t)
            k2 = f(x + h / 2 * k1, u, t + h / 2)
            k3 = f(x + h / 2 * k2, u, t + h / 2)
            k4 = f(x + h * k3, u, t + h)
            x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
        return x

    return step


def implicit_midpoint(f: Callable[..., Any], dt: float) -> Step:
    """Return the implicit midpoint step z = x + dt f((x + z) / 2, u), of order two.

    It is stable for stiff f and keeps quadratic invariants, such as the energy of an oscillator. The
    equation is solved by Newton's method, and its derivatives are those of the solution and not of
    the iteration: a Newton step on points that carry derivatives makes the first ones right, and one
    more the second ones.

    Parameters
    ----------
    f, dt
        As of `euler`.

    Raises
    ------
    NonFiniteError
        By the step, if Newton's method does not converge; a smaller dt helps.

    See Also
    --------
    euler, rk4 : steps without an equation to solve.

    References
    ----------
    Hairer, Lubich and Wanner, Geometric Numerical Integration, 2006, section II.1.

    Examples
    --------
    >>> step = implicit_midpoint(lambda x, u: np.stack([x[..., 1], -x[..., 0]], axis=-1), 0.5)
    >>> z = step(np.array([3.0, 4.0]), np.zeros(1), 0)
    >>> round(float(z @ z), 12)
    25.0
    """
    f, dt = _rates(f), check_number("dt", dt, above=0)

    def step(x: Any, u: Any, k: Any) -> Any:
        t, x, u = (k + 0.5) * dt, read_only(x), read_only(u)
        a, b = plain(x), plain(u)
        z, unit, done = a + dt * f(a, b, t), np.eye(a.shape[-1]), False
        size = np.abs(a) + np.abs(z)  # what each entry of a correction is measured by
        for _ in range(_MOST_NEWTON_STEPS):
            slopes, _ = derivatives(lambda y: f(y, b, t), (a + z) / 2, name="f")
            J = unit - dt / 2 * slopes
            correction = _solved(J, z - a - dt * f((a + z) / 2, b, t))
            z = z - correction
            if done:
                break
            size = np.maximum(size, np.maximum(np.abs(z), np.abs(correction)))
            done = bool(np.all(np.abs(correction) <= np.sqrt(EPS) * size))
        else:
            raise NonFiniteError(
                f"implicit_midpoint found no next state in {_MOST_NEWTON_STEPS} steps of Newton's "
                f"method with dt = {dt:g}",
                "try a smaller dt",
            )
        run = next((y.run for y in (x, u) if isinstance(y, Carried)), None)
        for _ in range(run.order if run else 0):
            z = z - _solved(J, z - x - dt * f((x + z) / 2, u, t))
        return z

    return step


def _solved(J: Array, residual: Any) -> Any:
    return np.linalg.solve(J, residual[..., None])[..., 0]


def _rates(f: Callable[..., Any]) -> Step:
    """The function of (x, u, t), its shape checked: a sum with x might broadcast another in silence.

    What is used again after a call is made read-only by the steps.
    """
    given = with_time("f", f)

    def checked(x: Any, u: Any, t: Any) -> Any:
        try:
            rates = given(x, u, t)
        except Exception as error:
            raise_named("f", error, x, u, t)
        # Arrays, which almost all are, tell their shapes in a fraction of the time of np.shape.
        arrays = isinstance(rates, np.ndarray) and isinstance(x, np.ndarray)
        if rates.shape != x.shape if arrays else np.shape(rates) != np.shape(x):
            raise ShapeError(
                f"f returned shape {np.shape(rates)}, expected that of x, {np.shape(x)}: dx/dt for "
                "each point; did you stack the entries along the last axis, np.stack(..., axis=-1)?"
            )
        return rates

    return checked
