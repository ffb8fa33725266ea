"""A plant under its controller: noise, limits, delays, a plant that is not the model, many runs.

    y[t]   = C x[t] + D clip(u[t-d], low, high) + v[t],    v ~ (0, V)
    u[t]   = controller.step(y[t], reference[t])
    x[t+1] = A x[t] + B clip(u[t-d], low, high) + w[t],    w ~ (0, W)

With a feedthrough D and no delay d, u[t] must be known before y[t]: a `Controller` designed for this
acts on its prediction. All runs are advanced together, a step at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    called_as,
    check_count,
    check_covariance,
    check_finite,
    check_generator,
    check_limits,
    check_room,
    check_shape,
    check_stage_weights,
    check_type,
    frozen_array,
    real_array,
    renamed,
    shape_message,
)
from lqrad.copies import ReadOnly
from lqrad.design.controller import Controller, Pair
from lqrad.design.mpc import MPC
from lqrad.design.observer import discrete_plant
from lqrad.design.runs import Runs
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, NonFiniteError, NotStabilizableError, ShapeError
from lqrad.linalg.banded import first_nonfinite_step
from lqrad.linalg.riccati import steady_covariance
from lqrad.results import Report
from lqrad.smoothing.arrays import covariance_root

# So many numbers are drawn at a time, so that they stay in the processor's cache.
_DRAWS = 8192


class Steps(Protocol):
    """What can run a plant: a `Controller`, an `MPC`, or an object of the user's.

    See Also
    --------
    simulate_closed_loop : runs it against a plant.
    Controller, MPC : two that are given here.
    """

    def step(self, y: Array, reference: Array | None = None, /) -> Array:
        """Return the input to apply, from what is measured, and move on by one step."""

    def reset(self) -> None:
        """Forget what was."""


@dataclass(frozen=True, eq=False, repr=False)
class ClosedLoop(ReadOnly, Report):
    """What a plant did under its controller, with a leading axis of runs where there are several.

    Attributes
    ----------
    x : (..., T+1, n)
    y : (..., T, ny)
        What was measured.
    u : (..., T, m)
        As they reached the plant: delayed, and within the actuators' limits.
    reference : (T, nr) or None
    at_limit : (m,)
        The share of all steps at which each input was at a limit.
    cost : (...) or None
        Sum over the steps of 1/2 x'Qx + x'Mu + 1/2 u'Ru, of each run.
    dt : float
    """

    x: Array
    y: Array
    u: Array
    reference: Array | None
    at_limit: Array
    cost: Array | None
    dt: float

    def __repr__(self) -> str:
        runs = f"{len(self.x)} runs of " if self.x.ndim == 3 else ""
        words = f"<ClosedLoop: {runs}{self.u.shape[-2]} steps of {self.dt:g} s"
        if self.cost is not None:
            mean, error = self.mean_cost()
            words += f", cost {mean:.6g}" + (f" +- {error:.2g}" if runs else "")
        return f"{words}>"

    @property
    def t(self) -> Array:
        """The times of the states in seconds: (T+1,)."""
        return np.asarray(self.dt * np.arange(self.x.shape[-2]))

    def mean_cost(self) -> tuple[float, float]:
        """Return the mean cost of all runs, and its standard error: zero for a single run."""
        if self.cost is None:
            raise ArgumentError(
                "no cost was asked for; pass Q and R to simulate_closed_loop for the weights"
            )
        cost = np.atleast_1d(self.cost)
        size = float(np.abs(cost).max()) or 1.0  # squares of large costs overflow
        error = (cost / size).std(ddof=1) / np.sqrt(len(cost)) if len(cost) > 1 else 0.0
        return size * float((cost / size).mean()), size * float(error)


@renamed(steps="T")
@called_as("simulate_closed_loop(plant, controller, T)")
def simulate_closed_loop(
    plant: StateSpace,
    controller: Steps,
    T: int,
    *,
    reference: ArrayLike | None = None,
    preview: bool = False,
    x0: ArrayLike | None = None,
    W: ArrayLike | None = None,
    V: ArrayLike | None = None,
    runs: int | None = None,
    rng: np.random.Generator | int | None = None,
    input_bounds: Pair | None = None,
    input_delay: int = 0,
    Q: ArrayLike | None = None,
    R: ArrayLike | None = None,
    M: ArrayLike | None = None,
) -> ClosedLoop:
    """Simulate a plant under its controller, once or in many runs at the same time.

    Parameters
    ----------
    plant : StateSpace
        In discrete time; also what `StateSpace.of` or `discretise` gives. It need not be the
        controller's model. Its outputs are measured, unless a `Controller` measures the state.
    controller : Controller, MPC, or any object with `step(y, reference)` and `reset()`
        A shallow copy of it runs, from a reset: an object of yours should replace its memory, and not
        change it in place. Several runs need one that takes batches, as `Controller` does, and an `MPC`
        without an observer.
    T : int
        How many steps.
    reference : (nr,) or (T, nr), optional
        For the controller; of one tracked output also a number, or (T,).
    preview : bool
        Whether an `MPC` is told the references of its whole horizon, the last one beyond the end, and
        not that of the step alone.
    x0 : (n,) or (runs, n), optional
        Initial state; zero when not given.
    W, V : (n, n), (ny, ny), optional
        Covariances of what disturbs the state at each step and of the sensors' noise, singular ones
        included; zero when not given.
    runs : int, optional
        How many; when not given, one without an axis of runs.
    rng : numpy.random.Generator or int, optional
        Source of the noise, or its seed; needed where there is noise.
    input_bounds : pair (low, high), optional
        Limits of the actuators: numbers or (m,).
    input_delay : int
        Steps before an input reaches the plant, which gets zeros until then.
    Q, R, M : (n, n), (m, m), (n, m), optional
        Weights of a cost.

    Raises
    ------
    NonFiniteError
        If a state overflows: the loop is unstable. Names the step.
    ArgumentError
        If there is noise without a rng, or the plant has a feedthrough that the controller, which
        computes u[t] from y[t], was not designed for.

    See Also
    --------
    expected_cost : the mean cost of a loop without limits, in closed form
    Controller.closed_loop : the loop as a linear system

    Examples
    --------
    A thousand runs of a noisy integrator:

    >>> from lqrad import lqi
    >>> plant = StateSpace([[1.0]], [[1.0]], dt=0.1)
    >>> controller = lqi(plant, [[1.0]], [[1.0]], [[0.1]])
    >>> loop = simulate_closed_loop(
    ...     plant, controller, 200, reference=[2.0], W=[[0.01]], runs=1000, rng=0
    ... )
    >>> loop
    <ClosedLoop: 1000 runs of 200 steps of 0.1 s>
    >>> loop.x[:, -1].mean().round(2), loop.x[:, -1].std().round(2)
    (np.float64(2.0), np.float64(0.11))
    """
    for name in ("step", "reset"):
        if not callable(getattr(controller, name, None)):
            raise ArgumentError(
                f"controller is of type {type(controller).__name__} without a method {name}, "
                "expected one with step(y, reference) and reset(), such as lqi and mpc make"
            )
    plant = discrete_plant(plant)
    # The memory of a run is its own: runs in other threads have theirs.
    controller = copy.copy(controller)
    measured, through = plant.C, plant.D
    if isinstance(controller, Controller) and controller.measures_state:
        measured, through = np.eye(plant.n), np.zeros((plant.n, plant.m))
    T, lag = check_count("T", T), check_count("input_delay", input_delay, least=0)
    batch = () if runs is None else (check_count("runs", runs),)
    ahead = controller.T + 1 if preview and isinstance(controller, MPC) else 0
    if preview and (not ahead or reference is None):
        raise ArgumentError(
            f"preview is {preview!r}, reference is {'not ' * (reference is None)}given and controller is of "
            f"type {type(controller).__name__}, expected a reference and an MPC, which looks ahead",
            "leave preview out",
        )
    if batch and isinstance(controller, MPC):
        controller = Runs(controller, *batch)
    n, m, ny = plant.n, plant.m, len(measured)
    check_room(f"T = {T} steps of {runs or 1} runs", T + lag, runs or 1, 2 * (n + ny + m))
    start = np.zeros(n) if x0 is None else real_array("x0", x0)
    if start.shape not in ((n,), (*batch, n)):
        expected = f"({n},)" + (f" or {(*batch, n)}" if batch else "")
        raise ShapeError(shape_message("x0", start.shape, expected, ""))
    check_finite("x0", start)
    known = controller if isinstance(controller, Controller) else None
    if through.any() and not (lag or (known and known.predicts)):
        raise ArgumentError(
            "plant has a feedthrough D: y[t] contains D u[t], and the controller computes u[t] from "
            "y[t]",
            "design a Controller for a plant with this D, by lqg: it acts on what is predicted",
        )
    r = None if reference is None else _reference(reference, T, known.nr if known else None)
    low, high = check_limits("input_bounds", input_bounds, (m,))
    weight = _weight(Q, R, M, n, m)
    roots = [
        None if given is None else covariance_root(_covariance(name, given, width))
        for name, given, width in (("V", V, ny), ("W", W, n))
    ]
    if rng is None and any(root is not None for root in roots):
        raise ArgumentError("W or V is given and rng is not; pass a Generator or a seed")
    generator = check_generator(0 if rng is None else rng)  # without noise, it is not asked

    # Time is the first axis while it runs: each step is one block of memory.
    e, w = _noises(T, batch, roots, generator)
    x, y = np.empty((T + 1, *batch, n)), np.empty((T, *batch, ny))
    u, asked = np.empty((T, *batch, m)), np.zeros((T + lag, *batch, m))
    x[0] = start
    kernel = controller.kernel if type(controller) is Controller else None
    own = {"A": plant.A, "B": plant.B, "C": measured, "D": through, "low": low, "high": high}
    if not (kernel and kernel.loop(lag, x, y, u, asked, **own, r=r, w=w, e=e)):
        now = _references(r, T, ahead)
        _run(controller, lag, x, y, u, asked, **own, now=now, w=w, e=e)
    if first_nonfinite_step(np.moveaxis(x, 0, -2)) is not None:
        raise _diverged(T)
    if known:
        low, high = np.maximum(low, known.low), np.minimum(high, known.high)
    at_limit = ((u <= low) | (u >= high)).mean(axis=tuple(range(u.ndim - 1)))
    cost = None
    if weight is not None:
        z = np.concatenate([x[:-1], u], axis=-1)
        with np.errstate(over="ignore", invalid="ignore"):
            cost = 0.5 * ((z @ weight) * z).sum(axis=-1).sum(axis=0)
        check_finite("the cost of the closed loop", cost, computed=True)
    x, y, u = (np.moveaxis(z, 0, -2) for z in (x, y, u))
    return ClosedLoop(x, y, u, r, np.asarray(at_limit), cost, plant.dt)


@renamed(steps="T")
@np.errstate(over="ignore", invalid="ignore")  # looked for in the cost
def expected_cost(
    plant: StateSpace,
    controller: Controller,
    Q: ArrayLike,
    R: ArrayLike,
    *,
    W: ArrayLike,
    V: ArrayLike | None = None,
    M: ArrayLike | None = None,
    x0: ArrayLike | None = None,
    T: int | None = None,
) -> float:
    """Return the mean of 1/2 x'Qx + x'Mu + 1/2 u'Ru under noise: of a settled step, or of a horizon.

    It is 1/2 tr([Q M; M' R] X), with X the second moment of (x, u) in the loop without limits and
    reference: the solution of a Lyapunov equation, or from x0 over T steps the sum of its recursion.

    Parameters
    ----------
    plant, controller, Q, R, M, W, V
        As of `simulate_closed_loop`; V is zero when not given.
    x0 : (n,), optional
        With T: the initial state, zero when not given. The controller starts from a reset.
    T : int, optional
        A horizon whose costs are summed; the cost of one step, once settled, when not given.

    Raises
    ------
    NotStabilizableError
        If the closed loop is unstable and there is no horizon; names the pole.
    ArgumentError
        If there is an x0 without T.

    See Also
    --------
    simulate_closed_loop : many runs, with limits and delays

    References
    ----------
    Anderson and Moore, Optimal Control: Linear Quadratic Methods, 1990, section 8.2.

    Examples
    --------
    With the state measured, `lqr` has the mean cost 1/2 tr(P W):

    >>> from lqrad import dlqr, lqr
    >>> plant = StateSpace([[1.0]], [[1.0]], dt=0.1)
    >>> _, P, _ = dlqr(plant.A, plant.B, [[1.0]], [[1.0]])
    >>> cost = expected_cost(plant, lqr(plant, [[1.0]], [[1.0]]), [[1.0]], [[1.0]], W=[[0.1]])
    >>> round(cost, 12) == round(float(0.5 * P[0, 0] * 0.1), 12)
    True
    """
    check_type("controller", controller, Controller, "lqg(plant, Q, R, W, V)")
    plant = discrete_plant(plant)
    loop = controller.closed_loop(plant)
    worst = loop.poles[0]
    if x0 is not None and T is None:
        raise ArgumentError("x0 is given and T is not: a settled loop has forgotten its start")
    if abs(worst) >= 1 and T is None:
        raise NotStabilizableError(
            f"the closed loop has the pole {worst:.6g}, of magnitude {abs(worst):.6g}: its mean "
            "cost grows without bound; design for this plant, or remove the integrators' weight"
        )
    n, m, own = plant.n, plant.m, controller.statespace()
    weight = _weight(Q, R, M, n, m)
    assert weight is not None
    ny = controller.observer.ny
    measured = np.eye(n) if controller.measures_state else plant.C
    noise = _covariance("W", W, n)
    sensors = np.zeros((ny, ny)) if V is None else _covariance("V", V, ny)
    from_y = np.concatenate([plant.B @ own.D[:, :ny], own.B[:, :ny]])
    disturbed = from_y @ sensors @ from_y.T
    disturbed[:n, :n] += noise
    if T is None:
        X, count = steady_covariance(loop.A, disturbed), 1
    else:
        start = np.zeros(n) if x0 is None else frozen_array("x0", x0)
        check_shape("x0", start, (n,), "to match A", symbols="(n,)")
        moment = np.zeros_like(loop.A)
        moment[:n, :n] = np.outer(start, start)
        X, count = np.zeros_like(loop.A), check_count("T", T)
        for done in range(1, count + 1):
            X, before = X + moment, moment
            moment = loop.A @ moment @ loop.A.T + disturbed
            if np.array_equal(moment, before) or not np.isfinite(moment).all():
                X = X + (count - done) * moment  # settled, to the last bit; or overflowed
                break
    of_state = np.block([[np.eye(n), np.zeros((n, own.n))], [own.D[:, :ny] @ measured, own.C]])
    of_noise = np.concatenate([np.zeros((n, ny)), own.D[:, :ny]])
    joint = of_state @ X @ of_state.T + count * of_noise @ sensors @ of_noise.T
    cost = 0.5 * np.sum(weight * joint)
    check_finite("the mean cost", cost, computed=True)
    return float(cost)


def _weight(
    Q: ArrayLike | None, R: ArrayLike | None, M: ArrayLike | None, n: int, m: int
) -> Array | None:
    """[Q M; M' R], or None where neither Q nor R is given."""
    if Q is None and R is None and M is None:
        return None
    found = []
    for name, given, shape in (("Q", Q, (n, n)), ("R", R, (m, m)), ("M", M, (n, m))):
        found.append(np.zeros(shape) if given is None else frozen_array(name, given))
        check_shape(name, found[-1], shape, "to match the plant")
    Q, R, M = found
    check_stage_weights(Q, R, M)
    return np.block([[Q, M], [M.T, R]])


def _covariance(name: str, covariance: ArrayLike, width: int) -> Array:
    """A covariance of noises, checked."""
    covariance = frozen_array(name, covariance)
    check_shape(name, covariance, (width, width), "to match the plant")
    check_covariance(name, covariance)
    return covariance


@np.errstate(over="ignore", invalid="ignore")  # looked for
def _run(
    controller: Steps,
    lag: int,
    x: Array,
    y: Array,
    v: Array,
    u: Array,
    *,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    low: Array,
    high: Array,
    now: Sequence[Array | None],
    w: Array | None,
    e: Array | None,
) -> None:
    """Fill the arrays of a loop of any controller from x[0]; twin of the kernel, v its clipped u."""
    through, known = D.any(), controller if isinstance(controller, Controller) else None
    controller.reset()
    for t in range(len(y)):
        y[t] = x[t] @ C.T
        if through:
            if known and not lag:
                u[t] = known.input(now[t])
            y[t] += np.clip(u[t], low, high) @ D.T
        if e is not None:
            y[t] += e[t]
        if not np.isfinite(y[t]).all():
            raise _diverged(t)
        try:
            u[t + lag] = controller.step(y[t], now[t])
        except NonFiniteError as error:
            raise _diverged(t) from error
        np.clip(u[t], low, high, out=v[t])
        x[t + 1] = x[t] @ A.T + v[t] @ B.T
        if w is not None:
            x[t + 1] += w[t]


def _references(r: Array | None, T: int, ahead: int) -> Sequence[Array | None]:
    """What the controller is told at each step: the reference, or of so many steps from this one on."""
    if r is None:
        return [None] * T
    if not ahead:
        return list(r)
    longer = np.concatenate([r, np.repeat(r[-1:], ahead - 1, axis=0)])
    return [longer[t : t + ahead] for t in range(T)]


def _noises(
    T: int, batch: tuple[int, ...], roots: list[Array | None], generator: np.random.Generator
) -> list[Array | None]:
    """For each root of a covariance its noise (T, ..., width), or None; each step draws for all in turn."""
    found = [None if root is None else np.empty((T, *batch, len(root))) for root in roots]
    each = sum(noise[0].size for noise in found if noise is not None)
    steps = max(1, _DRAWS // max(1, each))
    for first in range(0, T if each else 0, steps):
        drawn = generator.standard_normal((min(steps, T - first), each))
        for root, noise in zip(roots, found, strict=True):
            if root is not None and noise is not None:
                into = noise[first : first + steps]
                part, drawn = drawn[:, : into[0].size], drawn[:, into[0].size :]
                into[:] = (part.reshape(-1, len(root)) @ root.T).reshape(into.shape)
    return found


def _reference(reference: ArrayLike, T: int, nr: int | None) -> Array:
    """A reference (T, nr); one tracked output may have a number, or (T,)."""
    r = np.atleast_1d(frozen_array("reference", reference))
    if r.ndim == 1 and nr == 1 and len(r) == T:
        r = r[:, None]
    if r.ndim not in (1, 2) or (r.ndim == 2 and len(r) != T):
        raise ShapeError(f"reference has shape {r.shape}, expected (nr,) or (T, nr) = ({T}, nr)")
    return np.broadcast_to(r, (T, r.shape[-1]))


def _diverged(t: int) -> NonFiniteError:
    return NonFiniteError(
        f"the closed loop overflowed at step {t}: the controller does not stabilise this plant "
        "within these limits; look at the poles of its closed loop, or simulate fewer steps"
    )
