"""Nonlinear dynamics and any smooth cost: the same two passes.

    minimise    J = sum_{t<T} l(x[t], u[t], t)  +  phi(x[T])
    subject to  x[t+1] = f(x[t], u[t], t),    x[0] = x0

With A[t] = df/dx and B[t] = df/du along the trajectory, the derivatives of the Lagrangian
J + sum_t p[t]'(f(x[t], u[t], t) - x[t+1]) are

    in p[t]:    f(x[t], u[t], t) - x[t+1]            zero: the simulation, forward
    in x[t]:    dl/dx + A[t]'p[t] - p[t-1]           zero: the costates, backward from dphi/dx
    in u[t]:    dl/du + B[t]'p[t]                    with both of these: the gradient of J in u

The backward pass is that of a linear problem. The Jacobians of all steps are found in one call,
exactly, by points that carry their derivatives through f (`lqrad.functions.carried`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    check_count,
    check_finite,
    initial_state,
    joint_batch,
    one_initial_state,
    real_array,
    sequence,
    trajectory,
)
from lqrad.copies import Fixed
from lqrad.descent.objective import Objective
from lqrad.errors import OVERFLOW_REMEDY, ArgumentError, DtypeError, NonFiniteError, ShapeError
from lqrad.functions.calls import called, with_time
from lqrad.functions.carried import Carried, read_only
from lqrad.functions.derivatives import check_given, derivatives
from lqrad.linalg.banded import Bidiagonal, first_nonfinite_step
from lqrad.linalg.stages import times
from lqrad.lq.inputs import KKT, InputProblem, Slopes, input_objective, kkt_from_terms
from lqrad.lq.problem import LQProblem, unchecked

_COSTS = ("stage_cost", "terminal_cost")

_quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")


class ControlProblem(InputProblem, Fixed):
    """Nonlinear dynamics, a stage cost and a terminal cost, written in NumPy.

        minimise    J = sum_{t<T} l(x[t], u[t], t)  +  phi(x[T])
        subject to  x[t+1] = f(x[t], u[t], t),    x[0] = x0

    Batches are leading axes: x0 (..., n), u (..., T, m), x (..., T+1, n), p (..., T, n). The
    functions are written for points, x (..., n) and u (..., m): x[..., 0] is the first state. They
    may take the time t as a third argument, an integer or an array of them for the points of a
    trajectory, and cannot write to their arguments.

    Functions written in NumPy are differentiated exactly; at a kink of abs, max, norm, mod, where or
    clip the derivative is one between those of its sides. Where a function leaves NumPy, by
    math.sin(x) or float(x), differences are taken, of each component at several steps. If these do
    not agree, an error names the function and the component. `derivative_ways` tells the way taken.

    Parameters
    ----------
    f : callable
        (x, u) or (x, u, t) -> the next state (..., n).
    stage_cost : callable
        (x, u) or (x, u, t) -> l (...).
    terminal_cost : callable, optional
        x -> phi (...); zero when not given.
    n, m : int
        Dimensions of state and input.
    jacobian : callable, optional
        As f -> the pair A (..., n, n), B (..., n, m), where they are known. They are compared with
        those of f along the first trajectory, and not on later ones.

    Raises
    ------
    ArgumentError
        If a function cannot be called with these arguments.

    See Also
    --------
    ilqr : The minimum, with a feedback around it.
    rk4, euler, implicit_midpoint : f of a differential equation.
    one_point : f of many points, from that of one.

    Examples
    --------
    A pendulum, to be swung upright by a torque:

    >>> def swing(x, u, dt=0.05):
    ...     angle, rate = x[..., 0], x[..., 1]
    ...     rate = rate + dt * (9.81 * np.sin(angle) + u[..., 0])
    ...     return np.stack([angle + dt * rate, rate], axis=-1)
    >>> problem = ControlProblem(
    ...     swing,
    ...     stage_cost=lambda x, u: 0.05 * (u**2).sum(axis=-1),
    ...     terminal_cost=lambda x: 10 * (x**2).sum(axis=-1),
    ...     n=2,
    ...     m=1,
    ... )
    >>> J, g = problem.value_and_gradient([np.pi, 0.0], np.zeros((40, 1)))
    >>> round(J, 9), g.shape
    (98.696044011, (40, 1))

    References
    ----------
    Bryson and Ho, Applied Optimal Control, 1975, section 2.2.
    """

    n: int
    m: int
    T: int | None = None  # no horizon of its own: that of the inputs decides
    f: Callable[..., Any]
    stage_cost: Callable[..., Any]
    terminal_cost: Callable[[Any], Any]
    jacobian: Callable[..., Any] | None
    _ways: dict[str, str]

    def __init__(
        self,
        f: Callable[..., Any],
        stage_cost: Callable[..., Any],
        terminal_cost: Callable[[Any], Any] | None = None,
        *,
        n: int,
        m: int,
        jacobian: Callable[..., tuple[Any, Any]] | None = None,
    ) -> None:
        self._set(n=check_count("n", n), m=check_count("m", m), _ways={})
        self._set(f=with_time("f", f), stage_cost=with_time("stage_cost", stage_cost))
        if terminal_cost is not None and not callable(terminal_cost):
            raise ArgumentError(f"terminal_cost is {terminal_cost!r}, expected a function of x")
        self._set(terminal_cost=terminal_cost or _nothing)
        self._set(jacobian=None if jacobian is None else with_time("jacobian", jacobian))

    def __repr__(self) -> str:
        return f"ControlProblem(n={self.n}, m={self.m})"

    @property
    def derivative_ways(self) -> dict[str, str]:
        """How the last derivatives of each function were found; empty until they are asked for.

        "exact": carried through NumPy's functions; "differences": by differences of several steps
        that agree; "given": by the user's jacobian, which was right along the first trajectory.

        Examples
        --------
        >>> problem = ControlProblem(lambda x, u: x + u, lambda x, u: abs(u[..., 0]), n=1, m=1)
        >>> problem.value_and_gradient([1.0], [[2.0], [-3.0]])
        (5.0, array([[ 1.],
               [-1.]]))
        >>> problem.derivative_ways
        {'f': 'exact', 'stage_cost': 'exact', 'terminal_cost': 'exact'}
        """
        return dict(self._ways)

    # The two passes

    @_quiet
    def simulate(self, x0: ArrayLike, u: ArrayLike) -> Array:
        """Return x with x[0] = x0, x[t+1] = f(x[t], u[t], t).

        Raises
        ------
        NonFiniteError
            If a state is not finite; names the first step.
        ShapeError
            If f returns another shape than (..., n).
        """
        x0, u = self._initial_state(x0), sequence(self, "u", u)
        check_finite("u", u)
        batch = joint_batch(x0, u)
        u = np.broadcast_to(u, batch + u.shape[-2:])
        x = np.empty((*batch, u.shape[-2] + 1, self.n))
        x[..., 0, :] = x0
        states = read_only(x)  # for f; u was made read-only when it was broadcast
        for t in range(u.shape[-2]):
            x[..., t + 1, :] = self.next_state(states[..., t, :], u[..., t, :], t)
        if not math.isfinite(np.vdot(x, x)):
            step = first_nonfinite_step(x)
            if step is not None:
                raise NonFiniteError(
                    f"the state x[{step}] is not finite, of {u.shape[-2]} steps; "
                    f"{OVERFLOW_REMEDY}, or look at f there"
                )
        return x

    def next_state(self, x: Array, u: Array, t: int) -> Array:
        """Return f(x, u, t) (..., n) for x (..., n), u (..., m) and an integer t, its shape checked."""
        value = np.asarray(called("f", self.f, x, u, t))
        if value.shape != x.shape:
            raise ShapeError(
                f"f returned shape {value.shape} for x {x.shape} and u {u.shape}, expected "
                f"{x.shape}; did you stack the entries along the last axis, np.stack(..., axis=-1)?"
            )
        _check_real("f", value)
        return np.asarray(value, dtype=np.float64)

    @_quiet
    def derivatives(self, x: ArrayLike, u: ArrayLike) -> Slopes:
        """Return A (..., T, n, n), B (..., T, n, m), and the cost's slopes in x and u along (x, u)."""
        x, u = self._checked(x, u=u)
        return self._slopes(self._points(x, u), x[..., -1, :], {})

    def _slopes(self, z: Array, end: Array, known: Mapping[str, Array]) -> Slopes:
        """The first derivatives at points (x, u) and at the last state, of functions known there."""
        n = self.n
        AB = self._given_jacobian(z) if self.jacobian else self._derivative("f", z, known=known)
        A, B = AB[..., :n], AB[..., n:]
        slopes = self._derivative("stage_cost", z, known=known)
        last = self._derivative("terminal_cost", end, known=known)
        x_slopes = np.concatenate([slopes[..., :n], last[..., None, :]], axis=-2)
        return Slopes(A, B, x_slopes, slopes[..., n:].copy())

    def adjoint(self, x: ArrayLike, u: ArrayLike) -> Array:
        """Return p with p[t-1] = A[t]'p[t] + dl/dx at t, p[T-1] = dphi/dx at x[T]."""
        return costates(self.derivatives(x, u))

    @_quiet
    def cost(self, x: ArrayLike, u: ArrayLike) -> float | Array:
        """Return J(x, u): a float, or one for each series of a batch."""
        x, u = self._checked(x, u=u)
        return _total(self._costs(self._points(x, u), x[..., -1, :]))

    def _costs(self, z: Array, end: Array) -> dict[str, Array]:
        """The costs of points (x, u), and of the last state."""
        return {name: self._values(name, y) for name, y in zip(_COSTS, (z, end), strict=True)}

    @_quiet
    def value_and_gradient(self, x0: ArrayLike, u: ArrayLike) -> tuple[float | Array, Array]:
        """Return the cost of the inputs u from x0, and its gradient g (..., T, m) in u."""
        x = self.simulate(x0, u)
        u = np.broadcast_to(real_array("u", u), (*x.shape[:-2], x.shape[-2] - 1, self.m))
        z, end = self._points(x, u), x[..., -1, :]
        costs = self._costs(z, end)
        value = _total(costs)
        slopes = self._slopes(z, end, {"f": x[..., 1:, :]} | costs)
        p = costates(slopes)
        return value, slopes.u + times(slopes.B, p, transpose=True)

    def _gradient(self, x: Array, u: Array, p: Array) -> Array:
        slopes = self.derivatives(x, u)
        return slopes.u + times(slopes.B, p, transpose=True)

    # Optimality

    def _missing(self, x: Array, u: Array) -> Array:
        return np.asarray(self._values("f", self._points(x, u))) - x[..., 1:, :]

    @_quiet
    def kkt_residual(self, x: ArrayLike, u: ArrayLike, p: ArrayLike, x0: ArrayLike) -> KKT:
        """Return the derivatives of the Lagrangian at (x, u, p): all zero at a stationary point."""
        x, u, p = self._checked(x, u=u, p=p)
        start = np.broadcast_to(self._initial_state(x0, x), (*x.shape[:-2], self.n))
        slopes = self.derivatives(x, u)
        steps = self._values("f", self._points(x, u))
        pulled = times(slopes.A[..., 1:, :, :], p[..., 1:, :], transpose=True)
        zero = np.zeros((*x.shape[:-2], 1, self.n))
        return kkt_from_terms(
            dynamics=[np.concatenate([start[..., None, :], steps], axis=-2), -x],
            state=[slopes.x[..., 1:, :], np.concatenate([pulled, zero], axis=-2), -p],
            input=[slopes.u, times(slopes.B, p, transpose=True)],
        )

    @_quiet
    def linearise(self, x: ArrayLike, u: ArrayLike, p: ArrayLike | None = None) -> LQProblem:
        """Return the linear-quadratic problem in the deviations from one trajectory x (T+1, n), u (T, m).

        A and B are the Jacobians, c = f(x[t], u[t], t) - x[t+1] the defect, and Q, M, R, q, r, S, s the
        derivatives of the cost. With costates p (T, n), the second derivatives of p'f are added to the
        weights: they are those of the Lagrangian then, else those of Gauss and Newton. Where the cost
        is not convex the weights may have negative eigenvalues; `riccati` tells if there is a minimum.
        """
        x, u, *costates = self._checked(x, u=u, **({} if p is None else {"p": p}))
        if x.ndim != 2:
            raise ShapeError(
                f"x has shape {x.shape}, expected (T+1, n): one trajectory, and u as one"
            )
        n, z = self.n, self._points(x, u)
        slopes = self.derivatives(x, u)
        H = self._derivative("stage_cost", z, order=2)
        for p in costates:
            H = H + self._derivative("f", z, order=2, p=p)
        S = self._derivative("terminal_cost", x[-1], order=2)
        c = self._missing(x, u)
        return unchecked(
            A=slopes.A,
            B=slopes.B,
            Q=H[:, :n, :n],
            R=H[:, n:, n:],
            S=S,
            M=H[:, :n, n:],
            c=c,
            q=slopes.x[:-1],
            r=slopes.u,
            s=slopes.x[-1],
        )

    def hessian_product(self, v: ArrayLike, x0: ArrayLike, u: ArrayLike) -> Array:
        """Return H v (..., T, m), with H the Hessian of the cost in u at one u (T, m), from x0 (n,)."""
        x = self.simulate(one_initial_state(self, x0), u)
        return self.linearise(x, u, self.adjoint(x, u)).hessian_product(v)

    def objective(self, x0: ArrayLike, T: int | None = None) -> Objective:
        """Return u -> J(u) from x0 over T steps, for `lqrad.descend`: summed over a batch.

        It has no bound, as J need not be convex.
        """
        return input_objective(self, self._initial_state(x0), T, self.value_and_gradient)

    # Derivatives

    def _points(self, x: Array, u: Array) -> Array:
        """The points (x[t], u[t]), (..., T, n+m)."""
        return np.concatenate([x[..., :-1, :], u], axis=-1)

    def _at(self, name: str, z: Any, t: Any) -> Any:
        """A function at points (x, u) and their times; the terminal cost at states."""
        if name == "terminal_cost":
            return called(name, self.terminal_cost, z)
        return called(name, getattr(self, name), z[..., : self.n], z[..., self.n :], t)

    def _values(self, name: str, z: Any) -> Any:
        """A function at all points of trajectories, (..., T, n+m) or (..., n) at their ends."""
        value = self._at(name, z, np.arange(z.shape[-2]) if z.ndim > 1 else 0)
        if not isinstance(value, Carried):
            value = np.asarray(value)
        expected = (*z.shape[:-1], self.n) if name == "f" else z.shape[:-1]
        if value.shape != expected:
            per_point, remedy = "one number", "sum over the last axis, .sum(axis=-1)"
            if name == "f":
                per_point, remedy = "a state", "stack along the last axis, np.stack(..., axis=-1)"
            raise ShapeError(
                f"{name} returned shape {value.shape}, expected {expected}: {per_point} for each "
                "point",
                f"did you {remedy}? A function of one point becomes one of many by lqrad.one_point",
            )
        _check_real(name, value)
        return value

    def _check_points(self, name: str, z: Array) -> None:
        """Raise ShapeError unless a function of many points has the same value for the last alone."""
        # A little aside, as at rest all points are alike.
        size = np.abs(z).max(axis=tuple(range(z.ndim - 1)))
        size = np.where(size > 0, size, size.max() or 1.0)
        z = z + 1e-3 * size * np.random.default_rng(0).normal(size=z.shape)
        together = self._values(name, z)
        if z.ndim == 1:  # there is one point only
            return
        t = z.shape[-2] - 1
        last = (0,) * (z.ndim - 2) + (t,)
        alone = np.asarray(self._at(name, z[last], t))
        if alone.shape != together[last].shape or not np.allclose(
            together[last], alone, rtol=1e-8, atol=1e-8 * np.abs(alone).max(), equal_nan=True
        ):
            raise ShapeError(
                f"{name} of all points at once is not what it is of each, at t = {t}: "
                f"{together[last]} and {alone}; did you write A @ x for x @ A.T?"
            )

    def _derivative(
        self,
        name: str,
        z: Array,
        *,
        order: int = 1,
        p: Array | None = None,
        known: Mapping[str, Array] | None = None,
    ) -> Array:
        """The Jacobian or the Hessian of a function at points, or of p'f; `known` are its values there."""
        if name not in self._ways:
            self._check_points(name, z)

        def function(y: Any) -> Any:
            value = self._values(name, y)
            return value if p is None else (value * p).sum(axis=-1)

        found, self._ways[name] = derivatives(
            function,
            z,
            order=order,
            name=name,
            entries=self._entries,
            value=(known or {}).get(name),
        )
        check_finite(f"a derivative of {name}", found, computed=True)
        return found

    def _given_jacobian(self, z: Array) -> Array:
        """The user's derivatives of f at points, compared with those that are found."""
        n, steps = self.n, np.arange(z.shape[-2])
        assert self.jacobian is not None
        pair = called("jacobian", self.jacobian, z[..., :n], z[..., n:], steps)
        A, B = map(np.asarray, pair)
        expected = (*z.shape[:-1], n, n), (*z.shape[:-1], n, self.m)
        if (A.shape, B.shape) != expected:
            raise ShapeError(
                f"jacobian returned shapes {A.shape} and {B.shape}, expected {expected[0]} "
                f"and {expected[1]}"
            )
        AB = np.concatenate([A, B], axis=-1)
        if "f" not in self._ways:
            self._check_points("f", z)
            check_given(
                lambda y: self._values("f", y),
                z,
                AB,
                name="jacobian",
                of="f",
                entries=self._entries,
            )
            self._ways["f"] = "given"
        check_finite("jacobian", AB, computed=True)
        return AB

    @property
    def _entries(self) -> list[str]:
        """What the entries of a point (x, u) are called."""
        return [f"x[{i}]" for i in range(self.n)] + [f"u[{i}]" for i in range(self.m)]

    # Checks

    def _initial_state(self, x0: ArrayLike, x: Array | None = None) -> Array:
        x0 = initial_state(self, x0, x)
        if not x0.size:
            raise ShapeError(f"x0 has shape {x0.shape}, expected (..., n), and not none")
        check_finite("x0", x0)
        return x0

    def _checked(self, x: ArrayLike, **others: ArrayLike) -> tuple[Array, ...]:
        """Return x and the others as finite arrays of one horizon and batch, not empty."""
        arrays = trajectory(self, x, **others)
        if not arrays[0].size:
            raise ShapeError(f"x has shape {arrays[0].shape}, expected (..., T+1, n), and not none")
        return arrays


def costates(slopes: Slopes) -> Array:
    """Return p (..., T, n) with p[t-1] = A[t]'p[t] + x[t], p[T-1] = x[T], x the slopes in x.

    The series of a batch are put behind each other, with A = 0 between them: one banded solve.
    """
    *batch, T, n, _ = slopes.A.shape
    chain = np.zeros((math.prod(batch), T + 1, n, n))
    chain[:, :T] = slopes.A.reshape(-1, T, n, n)
    system = Bidiagonal(chain.reshape(-1, n, n)[:-1])
    total = system.solve(slopes.x.reshape(-1, n), transpose=True).reshape(slopes.x.shape)
    return total[..., 1:, :]


def _check_real(name: str, value: Any) -> None:
    if value.dtype.kind == "c":
        raise DtypeError(
            f"{name} returned complex numbers for real ones; is a root negative there?"
        )


def _total(costs: dict[str, Array]) -> float | Array:
    """J: a float, or one for each series of a batch."""
    stages, last = (costs[name] for name in _COSTS)
    total = stages.sum(axis=-1) + last
    check_finite("the cost", np.asarray(total), computed=True)
    return total if total.ndim else float(total)


def _nothing(x: Any) -> Any:
    """No terminal cost."""
    return 0.0 * x[..., 0]
