"""Receding horizon: at every step the best inputs of the next T, of which the first is applied.

    minimise    sum_{t<T} (1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u)  +  1/2 x[T]'S x[T] + s'x[T]
    subject to  x[t+1] = A x[t] + B u[t] + c,    x[0] the state at hand,
                u[t], u[t] - u[t-1] and x[t+1] within their bounds,
                rows C[t] x[t] + D[t] u[t] and E x[T] within their limits

The bounds of the inputs and of their rates always hold. Those of rows with states are exceeded only
where no inputs can keep them, and the plan's status says so. With references it is the same problem
around these: x - x_ref and u - u_ref take the place of x and u, and where outputs H x are to follow a
reference, x_ref and u_ref are the steady states that hold it, or the nearest that can be held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    called_as,
    check_count,
    check_finite,
    check_items,
    check_limits,
    check_room,
    check_semidefinite,
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
from lqrad.design.disturbances import Disturbed, check_observer, disturbed
from lqrad.design.feasibility import Feasibility, feasibility, terminal_set
from lqrad.design.invariant import InvariantSet
from lqrad.design.kept import InputBounds, kept
from lqrad.design.limits import Layout, Limit, check_rows, lay_out
from lqrad.design.observer import Observer
from lqrad.design.planner import Planner
from lqrad.design.references import Ahead, read_ahead
from lqrad.errors import ArgumentError, NonFiniteError, ShapeError, Status
from lqrad.lq.condensed import States
from lqrad.lq.plan import Plan, later
from lqrad.lq.problem import LQProblem


@renamed(tracked="H")
@called_as("mpc(problem, T), with a problem such as LQProblem(A, B, Q, R) makes")
def mpc(
    problem: LQProblem,
    T: int,
    *,
    input_bounds: Pair | None = None,
    state_bounds: Pair | None = None,
    rate_bounds: Pair | None = None,
    rows: Iterable[Limit] | None = None,
    terminal: Limit | InvariantSet | str | None = None,
    rate_weight: ArrayLike | None = None,
    blocks: ArrayLike | None = None,
    H: ArrayLike | None = None,
    Bd: ArrayLike | None = None,
    observer: Observer | None = None,
    max_iter: int = 500,
    tol: float = 1e-8,
) -> MPC:
    """Return a receding-horizon controller (model predictive control) with bounds.

    Parameters
    ----------
    problem : LQProblem
        Where it was made without S, and nothing in it varies in time, the terminal weight is the
        stationary Riccati solution of `dare`: without active bounds the inputs are those of `dlqr`
        at every T. What varies has T stages, that of the step at hand first, and stays so from one
        step to the next: give what is new to `MPC.step` as its model.
    T : int
        The horizon: how many steps a plan has.
    input_bounds : pair (low, high), optional
        On u[t]: numbers, (m,) or (T, m), infinite where there is no bound.
    state_bounds : pair (low, high), optional
        On x[1] ... x[T], likewise with n in the place of m.
    rate_bounds : pair (low, high), optional
        On u[t] - u[t-1], likewise; before the first step u is what `MPC.reset` says, or zero.
    rows : sequence of Limit, optional
        On C[t] x[t] + D[t] u[t]: rows of inputs always hold, those with states give way as bounds on
        states do.
    terminal : Limit, InvariantSet, "origin" or "invariant", optional
        On rows C x[T] of the last state; "origin" brings it to zero, or to the steady state of the
        reference, "invariant" into the largest set in which `dlqr` keeps all limits for ever.
    rate_weight : (m, m), optional
        Adds 1/2 (u[t] - u[t-1])'W (u[t] - u[t-1]) to the cost of each step, with W this weight.
    blocks : sequence of int, optional
        Inputs are held over as many steps each, the last to the end of the horizon: [1, 1, 2, 4] has
        four moves. A plan is then longer than its moves.
    H : (nr, n), optional
        The outputs H x follow the reference; nothing when not given.
    Bd : (n, nd), optional
        Measured disturbances d add Bd d[t] to x[t+1]; the identity when not given.
    observer : Observer, optional
        Estimates the state from what is measured; where not given, the state is measured. States
        behind those of the problem are disturbances, as of `disturbance_observer`.
    max_iter : int
        Limit on the steps of a plan, each with another set of active bounds. Where it is reached the
        inputs keep their bounds, but states may exceed bounds that other inputs could keep; the
        status is then MAX_ITER and the message names the worst excess.
    tol : float
        Relative: of the cost's gap to its proven minimum, and of what exceeds a bound to the bound.

    Raises
    ------
    ArgumentError
        If the problem varies over another number of stages, or has weights q, r, s and an H is given.
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
    if problem.T not in (None, T):
        raise ArgumentError(
            f"problem varies over {problem.T} stages, and the horizon has T = {T}",
            f"pass T = {problem.T}",
        )
    if H is not None:
        H = frozen_array("H", H)
        if H.ndim != 2 or H.shape[1] != problem.n or not len(H):
            raise ShapeError(shape_message("H", H.shape, f"(nr, n) with n = {problem.n}", ""))
        extra = [name for name in "qrs" if getattr(problem, name).any()]
        if extra:
            raise ArgumentError(
                f"H is given and the problem has {', '.join(extra)}: say what is to be "
                "followed either by a reference or by linear terms"
            )
    if Bd is not None:
        Bd = frozen_array("Bd", Bd)
        if Bd.ndim != 2 or len(Bd) != problem.n or not Bd.size:
            raise ShapeError(shape_message("Bd", Bd.shape, f"(n, nd) with n = {problem.n}", ""))
    if observer is not None:
        check_observer(observer, problem)
    if isinstance(terminal, InvariantSet):
        terminal = terminal.as_limit()
    if rate_weight is not None:
        rate_weight = frozen_array("rate_weight", rate_weight)
        check_shape("rate_weight", rate_weight, (problem.m,) * 2, "as R", symbols="(m, m)")
        check_semidefinite("rate_weight", rate_weight)
    return MPC(
        problem,
        check_limits("input_bounds", input_bounds, (T, problem.m)),
        check_limits("state_bounds", state_bounds, (T, problem.n)),
        check_limits("rate_bounds", rate_bounds, (T, problem.m)),
        rows=check_rows(rows, terminal, problem.n, problem.m, T),
        terminal=terminal,
        rate_weight=rate_weight,
        free=None if blocks is None else _free(blocks, T),
        H=H,
        Bd=Bd,
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
    Bd : (n, nd) or None
        How measured disturbances act.
    last : Plan or None
        What the last `step` planned; the next starts from its multipliers.
    u_before : (m,)
        The input that was applied last.
    x_hat : (n,) or (n + nd,)
        What the observer predicts of the state and of disturbances, where there is one.
    """

    problem: LQProblem
    T: int
    H: Array | None
    Bd: Array | None
    observer: Observer | None
    last: Plan | None
    u_before: Array
    x_hat: Array
    _max_iter: int
    _tol: float
    _bounds: InputBounds
    _layout: Layout
    _own: Planner
    _rate_weight: Array | None
    _limits: dict[str, Any]
    _disturbed: Disturbed | None
    _at_work: States | None
    _multipliers: Array | None

    def __init__(
        self,
        problem: LQProblem,
        input_bounds: tuple[Array, Array],
        state_bounds: tuple[Array, Array],
        rate_bounds: tuple[Array, Array],
        *,
        rows: Sequence[Limit],
        terminal: Limit | str | None,
        rate_weight: Array | None,
        free: NDArray[np.bool_] | None,
        H: Array | None,
        Bd: Array | None,
        observer: Observer | None,
        max_iter: int,
        tol: float,
    ) -> None:
        n, m, T = problem.n, problem.m, len(input_bounds[0])
        self._set(T=T, H=H, Bd=Bd, observer=observer, _max_iter=max_iter, _tol=tol)
        of_rates = bool(np.isfinite(rate_bounds).any())
        self._set(_bounds=InputBounds(input_bounds, rate_bounds, free, of_rates))
        bounds = input_bounds, rate_bounds, state_bounds
        if terminal == "invariant":
            terminal = terminal_set(problem, lay_out(n, m, bounds, rows, None)).as_limit()
        layout = lay_out(n, m, bounds, rows, terminal)
        some = observer is not None and observer.n > n
        self._set(_disturbed=disturbed(observer, n, H) if observer is not None and some else None)
        own = Planner(problem, T, layout, H, rate_weight, free)
        self._set(problem=own.problem, _layout=layout, _own=own)
        limits = {"state_bounds": state_bounds, "rows": tuple(rows), "terminal": terminal}
        self._set(_rate_weight=rate_weight, _limits=limits)
        self.reset()

    @property
    def design(self) -> dict[str, Any]:
        """What `mpc` makes it of again: problem, T, and all else by name."""
        own, free = self._own, self._bounds.free
        problem = own.problem
        if self._rate_weight is not None and not own.S_given:
            problem = problem.replace(S=None)  # that of the states (x, u) is found again
        blocks = None if free is None else np.diff(np.append(np.flatnonzero(free), self.T))
        found = {"problem": problem, "T": self.T, "max_iter": self._max_iter, "tol": self._tol}
        found |= {name: getattr(self, name) for name in ("H", "Bd", "observer")}
        found |= {"input_bounds": self._bounds.input, "rate_bounds": self._bounds.rate}
        return found | self._limits | {"rate_weight": self._rate_weight, "blocks": blocks}

    @property
    def feasibility(self) -> Feasibility:
        """Whether later plans keep all limits once one does: proven, or not known, and why."""
        blocked = self._bounds.free is not None
        return feasibility(self.problem, self._layout, tracks=self.H is not None, blocked=blocked)

    @property
    def tracked(self) -> Array | None:
        """`H`, under its former name."""
        return self.H

    def __repr__(self) -> str:
        parts = [f"n={self.problem.n}", f"m={self.problem.m}", f"T={self.T}"]
        parts += [f"{len(self._layout.names)} bounded rows", f"steps {self._own.way}"]
        return f"MPC({', '.join(parts)})"

    def reset(self, *, u_before: ArrayLike | None = None, x_hat: ArrayLike | None = None) -> None:
        """Clear the memory, and start from u_before (m,) and, with an observer, x_hat, or zero."""
        m, n = self.problem.m, self.problem.n if self.observer is None else self.observer.n
        if x_hat is not None and self.observer is None:
            raise ArgumentError("x_hat is given and there is no observer; the state is measured")
        u_before = _vector("u_before", np.zeros(m) if u_before is None else u_before, m)
        x_hat = _vector("x_hat", np.zeros(n) if x_hat is None else x_hat, n)
        self._set(u_before=u_before, x_hat=x_hat, last=None, _at_work=None, _multipliers=None)

    @property
    def fallback(self) -> Array:
        """The next input (m,) of the last plan within its bounds: what to apply where `step` refuses."""
        if self.last is None:
            return self._bounds.clipped(self.u_before, self.u_before, 0)
        u = self.last.u
        return self._bounds.clipped(u[min(1, len(u) - 1)], self.u_before, 0)

    def step(
        self,
        y: ArrayLike,
        reference: ArrayLike | None = None,
        *,
        x_ref: ArrayLike | None = None,
        u_ref: ArrayLike | None = None,
        disturbance: ArrayLike | None = None,
        model: LQProblem | None = None,
    ) -> Array:
        """Return the input to apply, from what is measured, and move on by one step.

        What is known of the next T steps is given as a series, from this step on, and what is
        constant over them as one row.

        Parameters
        ----------
        y : (n,), or (ny,) where there is an observer
        reference : (nr,) or (T+1, nr), optional
            What the tracked outputs are to be, of one output also a number or (T+1,); zero when not
            given. What no steady state within the limits of the last stage can hold, those with a
            price included, is replaced by the nearest that one can: `last.message` says so, and
            `last.missed` by how much.
        x_ref, u_ref : (n,) or (T+1, n), (m,) or (T, m), optional
            Without H: the weights are on x - x_ref and u - u_ref, as of `LQProblem.tracking`.
        disturbance : (nd,) or (T, nd), optional
            Measured disturbances; they add Bd d[t] to x[t+1].
        model : LQProblem, optional
            Takes the place of the problem in this step, such as a new linearisation; constant, or with
            T stages. A terminal weight that it lacks is that of `mpc`.

        Returns
        -------
        (m,)
            Exactly within its bounds, even where the limit on iterations was reached or the bounds on
            the states cannot be kept: see `last.status`.

        Raises
        ------
        NonFiniteError
            If y is not finite. The memory is as it was, and `fallback` is an input to apply.
        """
        maps, ahead = self._maps(model), self._ahead(reference, x_ref, u_ref, disturbance)
        x = self._estimate(y)
        state, known = self._apart(x, ahead)
        first, limits = None, (self._max_iter, self._tol)
        if maps is self._own:  # what is made once for many steps
            first = maps.first(state, self.u_before, known, self._at_work, *limits)
        if first is None:
            plan = self._plan(state, known, maps)
            u, at_work = plan.u[0], self._own.states(plan.multipliers)
        else:
            u, at_work = first.u, first.state
            form = partial(maps.formed, state, self.u_before, known, first.y, *limits)
            plan = later(form, status=Status.CONVERGED_GAP)
        u = self._bounds.clipped(u, self.u_before, 0)
        if self.observer is not None:
            self._set(x_hat=self._prediction(x, u, ahead, None if model is None else maps.problem))
        pull = plan.multipliers if first is None else first.y
        self._set(last=plan, u_before=u, _at_work=at_work, _multipliers=pull)
        return u.copy()

    def plan(
        self,
        x: ArrayLike,
        reference: ArrayLike | None = None,
        *,
        x_ref: ArrayLike | None = None,
        u_ref: ArrayLike | None = None,
        disturbance: ArrayLike | None = None,
        model: LQProblem | None = None,
    ) -> Plan:
        """Return the best trajectory from x (n,) over the next T steps; the memory stays as it is.

        Disturbances of the observer are those that it predicts, or behind the state in x. The other
        arguments are those of `step`. With references its cost is that of x - x_ref and
        u - u_ref. Where the limit on iterations was reached it is the best that is known within the
        bounds of the inputs.
        """
        n = self.problem.n
        if self._disturbed is None or np.shape(x) != self.x_hat.shape:
            x = np.concatenate([_vector("x", x, n), self.x_hat[n:]])
        x = _vector("x", x, len(self.x_hat))
        ahead = self._ahead(reference, x_ref, u_ref, disturbance)
        return self._plan(*self._apart(x, ahead), self._maps(model))

    def _maps(self, model: LQProblem | None) -> Planner:
        """The maps of the problem, or of a model in its place."""
        if model is None:
            return self._own
        check_type("model", model, LQProblem, "LQProblem(A, B, Q, R)")
        n, m, T = self.problem.n, self.problem.m, self.T
        if (model.n, model.m) != (n, m) or model.T not in (None, T):
            raise ShapeError(
                f"model is {model}, expected n={n}, m={m}, time-invariant or T={T}, as the problem"
            )
        same = self._rate_weight, self._bounds.free, self._own.full.S
        return Planner(model, T, self._layout, self.H, *same)

    def _ahead(
        self,
        reference: ArrayLike | None,
        x_ref: ArrayLike | None,
        u_ref: ArrayLike | None,
        disturbance: ArrayLike | None,
    ) -> Ahead:
        if self.H is reference is x_ref is u_ref is disturbance is None:
            return _NOTHING
        n, m = self.problem.n, self.problem.m
        given = {"reference": reference, "x_ref": x_ref, "u_ref": u_ref}
        return read_ahead(n, m, self.T, self.H, self.Bd, **given, disturbance=disturbance)

    def _estimate(self, y: ArrayLike) -> Array:
        """The state that is measured, or what the observer makes of it."""
        width = self.problem.n if self.observer is None else self.observer.ny
        try:
            y = _vector("y", y, width)
            return y if self.observer is None else self.observer.correct(self.x_hat, y)
        except NonFiniteError as error:
            remedy = f"apply `fallback` = {self.fallback}, the next input of the last plan"
            raise NonFiniteError(error.what, remedy) from None

    def _prediction(self, x: Array, u: Array, ahead: Ahead, model: LQProblem | None) -> Array:
        """What the observer says of the next state, or a model in its place; with what is known of c."""
        assert self.observer is not None
        n, problem = self.problem.n, model or self.problem
        x_hat = self.observer.predict(x, u)
        if model is not None:
            own = self.observer.A[:n, :n], self.observer.B[:n]
            A, B = (z if z.ndim == 2 else z[0] for z in (model.A, model.B))
            x_hat[:n] += (A - own[0]) @ x[:n] + (B - own[1]) @ u
        x_hat[:n] += problem.c if problem.c.ndim == 1 else problem.c[0]
        if ahead.offset is not None:
            x_hat[:n] += ahead.offset[0]
        check_finite("x_hat of the observer", x_hat, computed=True)
        return x_hat

    def _apart(self, x: Array, ahead: Ahead) -> tuple[Array, Ahead]:
        """The state, and what is known ahead with the disturbances that are estimated behind it."""
        if self._disturbed is None:
            return x, ahead
        n = self.problem.n
        return x[:n], ahead.with_estimate(self._disturbed, x[n:], self.T)

    def _plan(self, x: Array, ahead: Ahead, maps: Planner) -> Plan:
        """The best trajectory from x, or the best that is known."""
        y, before = None, self._multipliers
        if before is not None:
            before = before if before.ndim == 2 else self._own.multipliers(before)
            y = np.concatenate([before[1:], np.zeros_like(before[:1])])
        plan, ref = maps.plan(x, self.u_before, ahead, y=y, max_iter=self._max_iter, tol=self._tol)
        unfinished = plan.status in (Status.MAX_ITER, Status.STALLED)
        impossible = plan.status is Status.INFEASIBLE
        if unfinished or (impossible and self._bounds.beyond(plan.u, self.u_before, self._tol)):
            others = [] if self.last is None else [self.last.u[[*range(1, self.T), -1]]]
            plan = kept(plan, x, self.u_before, others, ref, maps, self._bounds, self._tol)
        return plan


_NOTHING = Ahead(None, None, None, None)


def _vector(name: str, value: ArrayLike, width: int) -> Array:
    """One vector as a finite array."""
    array = real_array(name, value)
    check_shape(name, array, (width,), "one series at a time")
    check_finite(name, array)
    return array


def _free(blocks: ArrayLike, T: int) -> NDArray[np.bool_]:
    """Where inputs are not held: at the beginnings of blocks of these lengths."""
    lengths = [
        check_count(f"blocks[{i}]", length)
        for i, length in enumerate(check_items("blocks", blocks, "numbers of steps"))
    ]
    starts = np.cumsum([0, *lengths[:-1]])
    if not lengths or sum(lengths) > T:
        raise ArgumentError(
            f"blocks are {sum(lengths)} steps long, expected at least one block, and T = {T} steps at most"
        )
    free = np.zeros(T, bool)
    free[starts] = True
    return free
