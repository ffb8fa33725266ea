"""Receding horizon: at every step the best inputs of the next T, of which the first is applied.

    minimise    sum_{t<T} (1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u)  +  1/2 x[T]'S x[T] + s'x[T]
    subject to  x[t+1] = A x[t] + B u[t] + c,    x[0] the state at hand,
                u[t], u[t] - u[t-1] and x[t+1] within their bounds

The bounds of the inputs and of their rates always hold. Those of the states are exceeded only where
no inputs can keep them, and the plan's status says so. With a reference it is the same problem around
its steady state: x - x_ref and u - u_ref take the place of x and u.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    called_as,
    check_count,
    check_finite,
    check_limits,
    check_room,
    check_shape,
    check_tolerance,
    check_type,
    frozen_array,
    real_array,
    renamed,
    shape_message,
)
from lqrad.copies import Fixed
from lqrad.design.controller import Pair
from lqrad.design.observer import Observer
from lqrad.design.regulators import steady_state_targets
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, ShapeError, Status
from lqrad.lq.dare import dare
from lqrad.lq.limits import Limited, Plan
from lqrad.lq.problem import LQProblem, changed
from lqrad.lq.rows import excess


@renamed(tracked="H")
@called_as("mpc(problem, T), with a problem such as LQProblem(A, B, Q, R) makes")
def mpc(
    problem: LQProblem,
    T: int,
    *,
    input_bounds: Pair | None = None,
    state_bounds: Pair | None = None,
    rate_bounds: Pair | None = None,
    H: ArrayLike | None = None,
    observer: Observer | None = None,
    max_iter: int = 500,
    tol: float = 1e-8,
) -> MPC:
    """Return a receding-horizon controller (model predictive control) with bounds.

    Parameters
    ----------
    problem : LQProblem
        Nothing in it varies in time. Where it was made without S, the terminal weight is the
        stationary Riccati solution of `dare`: without active bounds the inputs are those of `dlqr`
        at every T.
    T : int
        The horizon: how many steps a plan has.
    input_bounds : pair (low, high), optional
        On u[t]: numbers, (m,) or (T, m), infinite where there is no bound.
    state_bounds : pair (low, high), optional
        On x[1] ... x[T], likewise with n in the place of m.
    rate_bounds : pair (low, high), optional
        On u[t] - u[t-1], likewise; before the first step u is what `MPC.reset` says, or zero.
    H : (nr, n), optional
        The outputs H x follow the reference; nothing when not given.
    observer : Observer, optional
        Estimates the state from what is measured; where not given, the state is measured.
    max_iter : int
        Limit on the steps of a plan, each with another set of active bounds. Where it is reached the
        inputs keep their bounds, but states may exceed bounds that other inputs could keep; the
        status is then MAX_ITER and the message names the worst excess.
    tol : float
        Relative: of the cost's gap to its proven minimum, and of what exceeds a bound to the bound.

    Raises
    ------
    ArgumentError
        If something in the problem varies in time, or it has linear terms and an H is given.
    NotStabilizableError
        If there is no S, and no stationary solution in its place; names the mode.

    See Also
    --------
    lqr, lqi, lqg : controllers without a horizon, with limits on inputs
    riccati, descend : a single plan without limits, or with some on inputs

    References
    ----------
    Rawlings, Mayne and Diehl, Model Predictive Control: Theory, Computation, and Design, 2nd
    edition, 2017, chapters 1 and 2 (terminal weight, targets, soft constraints).

    Examples
    --------
    A cart of 1 kg with a force of at most 1 N and no faster than 0.8 m/s, brought home from 3 m:

    >>> A, B = [[1, 0.1], [0, 1]], [[0.005], [0.1]]
    >>> problem = LQProblem(A, B, np.diag([10, 1]), [[0.1]])
    >>> controller = mpc(
    ...     problem, 30, input_bounds=(-1, 1), state_bounds=([-np.inf, -0.8], [np.inf, 0.8])
    ... )
    >>> x = np.array([3.0, 0.0])
    >>> speeds = []
    >>> for _ in range(100):
    ...     x = problem.A @ x + problem.B @ controller.step(x)
    ...     speeds.append(x[1])
    >>> round(min(speeds), 6), abs(x).max().round(3)
    (np.float64(-0.8), np.float64(0.0))
    """
    check_type("problem", problem, LQProblem, "LQProblem(A, B, Q, R)")
    T = check_count("T", T)
    check_room(f"a plan of T = {T} steps", T, 4 * (problem.n + problem.m) ** 2)
    if problem.T is not None:
        raise ArgumentError(
            f"problem varies over {problem.T} stages; a horizon that recedes wants one in which "
            "nothing does"
        )
    if not problem.S_given:
        problem = problem.replace(S=dare(problem.A, problem.B, problem.Q, problem.R, M=problem.M))
    if H is not None:
        H = frozen_array("H", H)
        if H.ndim != 2 or H.shape[1] != problem.n or not len(H):
            raise ShapeError(shape_message("H", H.shape, f"(nr, n) with n = {problem.n}", ""))
        extra = [name for name in "cqrs" if getattr(problem, name).any()]
        if extra:
            raise ArgumentError(
                f"H is given and the problem has {', '.join(extra)}: say what is to be "
                "followed either by a reference or by linear terms"
            )
    if observer is not None:
        check_type("observer", observer, Observer, "Observer(A, B, C, L)")
        check_shape("observer.A", observer.A, problem.A.shape, "as the problem's A")
        check_shape("observer.B", observer.B, problem.B.shape, "as the problem's B")
        if observer.D.any():
            raise ArgumentError(
                "observer has a feedthrough D: what is measured depends on the input that is to be "
                "planned from it",
                "append the input of the step before as a state",
            )
    return MPC(
        problem,
        check_limits("input_bounds", input_bounds, (T, problem.m)),
        check_limits("state_bounds", state_bounds, (T, problem.n)),
        check_limits("rate_bounds", rate_bounds, (T, problem.m)),
        H=H,
        observer=observer,
        max_iter=check_count("max_iter", max_iter),
        tol=check_tolerance(tol),
    )


class MPC(Fixed):
    """A receding-horizon controller, made by `mpc`: a read-only design, and its memory.

    Attributes
    ----------
    problem : LQProblem
        With the terminal weight that is used.
    T : int
        The horizon.
    H : (nr, n) or None
        The outputs H x follow the reference.
    last : Plan or None
        What the last `step` planned; the next starts from its multipliers.
    u_before : (m,)
        The input that was applied last.
    x_hat : (n,)
        What the observer predicts, where there is one.
    """

    problem: LQProblem
    T: int
    H: Array | None
    observer: Observer | None
    last: Plan | None
    u_before: Array
    x_hat: Array
    _max_iter: int
    _tol: float
    _input: tuple[Array, Array]
    _state: tuple[Array, Array]
    _rate: tuple[Array, Array]
    _limited: Limited
    _rows: Array
    _low: Array
    _high: Array
    _has_rates: bool
    _targets: tuple[bytes, Array, Array] | None

    def __init__(
        self,
        problem: LQProblem,
        input_bounds: tuple[Array, Array],
        state_bounds: tuple[Array, Array],
        rate_bounds: tuple[Array, Array],
        *,
        H: Array | None,
        observer: Observer | None,
        max_iter: int,
        tol: float,
    ) -> None:
        n, m, T = problem.n, problem.m, len(input_bounds[0])
        self._set(problem=problem, T=T, H=H, observer=observer, _max_iter=max_iter, _tol=tol)
        self._set(_input=input_bounds, _state=state_bounds, _rate=rate_bounds)
        on_u, on_x, on_rate = (_bounded(z) for z in (input_bounds, state_bounds, rate_bounds))
        has_rates = bool(len(on_rate))
        full = _with_last_input(problem) if has_rates else problem
        C = np.zeros((len(on_u) + len(on_rate), full.n))
        D = np.concatenate([np.eye(m)[on_u], np.eye(m)[on_rate]])
        if has_rates:
            C[len(on_u) :, n:] = -np.eye(m)[on_rate]
        names = [f"u[{i}]" for i in on_u]
        names += [f"the change of u[{i}]" for i in on_rate]
        names += [f"x[{i}]" for i in on_x]
        E = np.eye(n, full.n)[on_x]
        rows = np.block([[C, D], [E, np.zeros((len(on_x), m))]])
        low, high = (
            np.hstack([of_u[:, on_u], of_rate[:, on_rate], of_x[:, on_x]])
            for of_u, of_rate, of_x in zip(input_bounds, rate_bounds, state_bounds, strict=True)
        )
        soft = np.arange(len(names)) >= len(C)
        limited = Limited(full, T, C, D, E, soft=soft, names=names)
        self._set(_limited=limited, _rows=rows, _low=low, _high=high, _has_rates=has_rates)
        self._set(_targets=None)
        self.reset()

    @property
    def tracked(self) -> Array | None:
        """`H`, under its former name."""
        return self.H

    def __repr__(self) -> str:
        parts = [f"n={self.problem.n}", f"m={self.problem.m}", f"T={self.T}"]
        return f"MPC({', '.join(parts)}, {self._low.shape[1]} bounded rows)"

    def reset(self, *, u_before: ArrayLike | None = None, x_hat: ArrayLike | None = None) -> None:
        """Clear the memory, and start from u_before (m,) and, with an observer, x_hat (n,), or zero."""
        m, n = self.problem.m, self.problem.n
        if x_hat is not None and self.observer is None:
            raise ArgumentError("x_hat is given and there is no observer; the state is measured")
        u_before = _vector("u_before", np.zeros(m) if u_before is None else u_before, m)
        x_hat = _vector("x_hat", np.zeros(n) if x_hat is None else x_hat, n)
        self._set(u_before=u_before, x_hat=x_hat, last=None)

    def step(self, y: ArrayLike, reference: ArrayLike | None = None) -> Array:
        """Return the input to apply, from what is measured, and move on by one step.

        Parameters
        ----------
        y : (n,), or (ny,) where there is an observer
        reference : (nr,), optional
            What the tracked outputs are to be; zero when not given.

        Returns
        -------
        (m,)
            Exactly within its bounds, even where the limit on iterations was reached or the bounds on
            the states cannot be kept: see `last.status`.

        Raises
        ------
        ArgumentError
            If no input within its bounds can hold the reference; names it.
        """
        if self.observer is None:
            x = _vector("y", y, self.problem.n)
        else:
            x = self.observer.correct(self.x_hat, _vector("y", y, self.observer.ny))
        plan = self.plan(x, reference)
        u = self._clipped(plan.u[0], self.u_before, 0)
        self._set(last=plan, u_before=u)
        if self.observer is not None:
            self._set(x_hat=self.observer.predict(x, u))
        return u.copy()

    def plan(self, x: ArrayLike, reference: ArrayLike | None = None) -> Plan:
        """Return the best trajectory from x (n,) over the next T steps; the memory stays as it is.

        With a reference (nr,) its cost is that of x - x_ref and u - u_ref. Where the limit on
        iterations was reached it is the best that is known within the bounds of the inputs.
        """
        x = _vector("x", x, self.problem.n)
        x_ref, u_ref = self._target(reference)
        z_ref, z = x_ref, x - x_ref
        if self._has_rates:
            z_ref, z = np.concatenate([x_ref, u_ref]), np.concatenate([z, self.u_before - u_ref])
        around = self._rows @ np.concatenate([z_ref, u_ref])
        y = None
        if self.last is not None:
            before = self.last.multipliers
            y = np.concatenate([before[1:], np.zeros_like(before[:1])])
        low, high = self._low - around, self._high - around
        plan = self._limited.solve(z, low, high, y=y, max_iter=self._max_iter, tol=self._tol)
        n = self.problem.n
        plan = replace(plan, x=plan.x[:, :n] + x_ref, u=plan.u + u_ref, p=plan.p[:, :n])
        unfinished = plan.status in (Status.MAX_ITER, Status.STALLED)
        if unfinished or (plan.status is Status.INFEASIBLE and not self._obeys(plan.u)):
            plan = self._kept(plan, x, x_ref, u_ref)
        return plan

    def _obeys(self, u: Array) -> bool:
        """Whether inputs keep their bounds and those of their rates, to the tolerance."""
        change = np.diff(u, axis=0, prepend=self.u_before[None])
        for values, bounds in ((u, self._input), (change, self._rate)):
            sizes = [np.where(np.isfinite(z), np.abs(z), 0.0) for z in bounds]
            if (excess(values, *bounds) > self._tol * np.maximum(*sizes).max(axis=0)).any():
                return False
        return True

    def _kept(self, plan: Plan, x0: Array, x_ref: Array, u_ref: Array) -> Plan:
        """The better of two trajectories: the inputs of this plan, and of the last, within their bounds.

        States beyond their bounds are weighed by springs. They are simulated, so that the cost is
        that of the inputs.
        """
        before = [] if self.last is None else [np.concatenate([self.last.u[1:], self.last.u[-1:]])]
        on_x = _bounded(self._state)
        spring = self._limited.spring[len(self._limited.spring) - len(on_x) :]
        found = []
        for wanted in (plan.u, *before):
            u, last = np.empty_like(wanted), self.u_before
            for t in range(self.T):
                u[t] = last = self._clipped(wanted[t], last, t)
            x = self.problem.simulate(x0, u)
            cost = float(self.problem.cost(x - x_ref, u - u_ref))
            beyond = excess(x[1:], *self._state)[:, on_x]
            found.append((cost + 0.5 * float((spring * beyond**2).sum()), cost, beyond, x, u))
        _, cost, beyond, x, u = min(found, key=lambda z: z[0])
        gap = max(plan.gap_bound + cost - plan.cost, 0.0)
        message = (
            f"{plan.message}; inputs within their bounds cost {cost:.6g}, at most {gap:.1g} above "
            "the minimum"
        )
        most = 0.0
        if beyond.any():
            step, i = divmod(int((spring * beyond**2).argmax()), len(on_x))
            most = float(beyond[step, i])
            message += f", and x[{on_x[i]}] exceeds its bound by {most:.3g} at t={step + 1}"
        return replace(plan, x=x, u=u, cost=cost, gap_bound=gap, excess=most, message=message)

    def _clipped(self, u: Array, before: Array, t: int) -> Array:
        """The input nearest to u that keeps its bounds, and its rate's where both can be kept."""
        low, high = self._rate
        u = np.clip(u, before + low[t], before + high[t])
        return np.clip(u, self._input[0][t], self._input[1][t])

    def _target(self, reference: ArrayLike | None) -> tuple[Array, Array]:
        """The steady state of a reference, kept until another is asked for."""
        if self.H is None:
            if reference is not None:
                raise ArgumentError(
                    "reference is given, but nothing is tracked",
                    "say what follows it by mpc(..., H=H)",
                )
            return np.zeros(self.problem.n), np.zeros(self.problem.m)
        width = len(self.H)
        r = np.zeros(width) if reference is None else _vector("reference", reference, width)
        if self._targets is None or self._targets[0] != r.tobytes():
            plant = StateSpace(self.problem.A, self.problem.B, self.H, dt=1.0)
            bounds = self._input[0][-1], self._input[1][-1]
            targets = steady_state_targets(plant, r, input_bounds=bounds)
            self._set(_targets=(r.tobytes(), *targets))
        assert self._targets is not None
        return self._targets[1:]


def _vector(name: str, value: ArrayLike, width: int) -> Array:
    """One vector as a finite array."""
    array = real_array(name, value)
    check_shape(name, array, (width,), "one series at a time")
    check_finite(name, array)
    return array


def _bounded(bounds: tuple[Array, Array]) -> NDArray[np.intp]:
    """The entries that have a bound at any time."""
    return np.flatnonzero((np.isfinite(bounds[0]) | np.isfinite(bounds[1])).any(axis=0))


def _with_last_input(problem: LQProblem) -> LQProblem:
    """The same problem with the input of the step before as further states."""
    n, m = problem.n, problem.m
    zero, size = np.zeros((m, m)), (n + m, n + m)
    wide = {name: np.zeros(size) for name in "AQS"}
    for name, array in wide.items():
        array[:n, :n] = getattr(problem, name)
    ends = {name: np.concatenate([getattr(problem, name), np.zeros(m)]) for name in "cqs"}
    return changed(
        problem,
        B=np.concatenate([problem.B, np.eye(m)]),
        M=np.concatenate([problem.M, zero]),
        **wide,
        **ends,
    )
