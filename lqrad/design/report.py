"""A controller designed, and its loop analysed: margins, responses, a simulation, the mean cost."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, called_as, renamed
from lqrad.design.closed_loop import ClosedLoop, expected_cost, simulate_closed_loop
from lqrad.design.controller import Controller, Pair
from lqrad.design.margins import Margins, margins
from lqrad.design.regulators import regulator
from lqrad.design.responses import StepResponse, step_response
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError
from lqrad.results import Report

# A simulation runs until the slowest mode of the closed loop has fallen to this.
_LEFT = 1e-3
_LEAST_STEPS, _MOST_STEPS = 50, 20_000


@dataclass(frozen=True, eq=False, repr=False)
class Design(Report):
    """A controller and the analysis of its loop: what `design_controller` returns.

    Attributes
    ----------
    plant : StateSpace
    controller : Controller
    margins : Margins
        Of the loop broken at the plant's inputs.
    response : StepResponse or None
        Of the tracked outputs, then the inputs, to each reference, without limits; None where
        nothing is tracked.
    simulated : ClosedLoop
        Within the limits: to the reference, or from the initial state.
    cost_rate : float or None
        The mean cost of a step under noise; None without W.
    """

    plant: StateSpace
    controller: Controller
    margins: Margins
    response: StepResponse | None
    simulated: ClosedLoop
    cost_rate: float | None

    def __repr__(self) -> str:
        return f"<Design: {self.controller}, {self.margins}>"

    @property
    def poles(self) -> Any:
        """The closed loop's poles, the slowest first."""
        return self.controller.closed_loop(self.plant).poles

    def table(self) -> str:
        """Return gains, poles, margins and responses as text."""
        controller, dt = self.controller, self.plant.dt
        slowest = np.abs(self.poles[0])
        time = -dt / np.log(slowest) if slowest > 0 else 0.0
        lines = [repr(controller), f"gain K = {_matrix(controller.K)}"]
        if controller.nr and controller.K_i.any():
            lines.append(f"integral gain K_i = {_matrix(controller.K_i)}")
        lines.append(f"slowest closed-loop pole {slowest:.6g}, a time constant of {time:.4g} s")
        if self.cost_rate is None and not np.array_equal(self.plant.C, np.eye(self.plant.n)):
            lines.append(
                "measured: the whole state, not C x; with W and V the state is estimated from C x"
            )
        lines += ["", "margins, the loop broken at the plant's inputs", self.margins.table()]
        if self.response is not None:
            names = [f"tracked {i}" for i in range(controller.nr)]
            lines += ["", f"response to a unit step, of {', '.join(names)}, then the inputs"]
            lines.append(self.response.table())
        share = self.simulated.at_limit
        if share.any():
            words = ", ".join(f"u[{i}] {100 * value:.3g} %" for i, value in enumerate(share))
            lines += ["", f"at a limit in the simulation: {words} of the time"]
        if self.cost_rate is not None:
            lines += ["", f"mean cost of a step under noise: {self.cost_rate:.6g}"]
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """Return the gains, poles, margins and figures of the response."""
        controller = self.controller
        found = {
            "dt": self.plant.dt,
            "K": controller.K,
            "K_i": controller.K_i,
            "L": controller.observer.L,
            "poles": self.poles,
            "margins": self.margins,
            "at_limit": self.simulated.at_limit,
            "cost_rate": self.cost_rate,
        }
        if self.response is not None:
            names = ("final", "rise", "settling", "overshoot", "undershoot", "peak", "peak_time")
            found["response"] = {name: getattr(self.response, name) for name in names}
        return found

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.table())}</pre>"


@renamed(tracked="H", steps="T")
@called_as("design_controller(plant, Q, R)")
def design_controller(
    plant: StateSpace,
    Q: ArrayLike,
    R: ArrayLike,
    *,
    M: ArrayLike | None = None,
    W: ArrayLike | None = None,
    V: ArrayLike | None = None,
    Q_i: ArrayLike | None = None,
    H: ArrayLike | None = None,
    input_bounds: Pair | None = None,
    reference: ArrayLike | None = None,
    x0: ArrayLike | None = None,
    T: int | None = None,
) -> Design:
    """Design a controller by `lqr`, `lqi` or `lqg`, and analyse its loop.

    Parameters
    ----------
    plant, Q, R, M, W, V, Q_i, H, input_bounds
        As of `lqg`. Without W and V the controller reads the whole state, whatever C is, and the
        table says so.
    reference : (nr,), optional
        For the simulation; ones when not given.
    x0 : (n,), optional
        For the simulation; zero when not given, or ones where nothing is tracked.
    T : int, optional
        Steps of the simulation; until the slowest mode has fallen to 1e-3 when not given.

    See Also
    --------
    lqr, lqi, lqg : the design; `lqr` lists what is raised
    margins, step_response, simulate_closed_loop, expected_cost : the analysis

    Examples
    --------
    >>> plant = StateSpace([[1, 0.1], [0, 1]], [[0.005], [0.1]], [[1, 0]], dt=0.1)
    >>> found = design_controller(plant, np.eye(2), [[1]], Q_i=[[0.01]], input_bounds=(-1, 1))
    >>> found.controller
    Controller(n=2, m=1, ny=2, dt=0.1 s, 1 tracked with integral action, limited inputs)
    >>> found.margins
    <Margins: gain 0.189 to 8.88, phase 59 deg, delay 0.448 s, disk 0.969, sensitivity at most 1.13>
    """
    if (W is None) != (V is None):
        raise ArgumentError("W and V belong together: an estimator weighs one against the other")
    noises = None if W is None or V is None else (W, V)
    controller = regulator(plant, Q, R, M=M, noises=noises, Q_i=Q_i, H=H, input_bounds=input_bounds)
    closed = controller.closed_loop(plant)
    response = step_response(closed) if controller.nr else None
    if T is None:
        slowest = min(abs(closed.poles[0]), 1 - 1e-9)
        needed = np.log(_LEFT) / np.log(slowest) if slowest > 0 else 0
        T = int(np.clip(2 * np.ceil(needed), _LEAST_STEPS, _MOST_STEPS))
    tracking = bool(controller.nr)
    if x0 is None:
        x0 = np.zeros(plant.n) if tracking else np.ones(plant.n)
    if reference is None or not tracking:
        reference = np.ones(controller.nr) if tracking else None
    simulated = simulate_closed_loop(
        plant, controller, T, reference=reference, x0=x0, input_bounds=input_bounds
    )
    cost = None if W is None else expected_cost(plant, controller, Q, R, M=M, W=W, V=V)
    return Design(plant, controller, margins(controller.loop(plant)), response, simulated, cost)


def _matrix(matrix: Array) -> str:
    return np.array2string(matrix, precision=6, suppress_small=True, separator=", ")
