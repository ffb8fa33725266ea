"""Sliders: what a problem and a controller do while their numbers are moved.

Each function draws one figure of its arguments. In a notebook it stands below sliders for them, and is
drawn anew at each move; in a script the same call returns the figure. Sliders are those of ipywidgets,
which `pip install 'lqrad[notebook]'` brings. No window is opened and no state of pyplot is touched.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_count, check_number, check_type, real_array
from lqrad.descent import descend
from lqrad.design import Design, StateSpace, design_controller
from lqrad.design.margins import disk_gain
from lqrad.errors import LqradError
from lqrad.figure import Picture, colors, curves
from lqrad.lq import LQProblem, riccati

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["design", "lecture"]

_ITERATIONS = 100  # of each descent
_FLOOR = 1e-12  # of a relative gap: below it there is rounding
_DECADES = 3.0  # that a weight goes up or down
_POINTS = 400  # of a Nyquist curve
_FAR = 4.0  # from zero, on a Nyquist curve


def lecture(
    *, radius: float = 1.0, T: int = 60, R: float = 1.0, sliders: bool | None = None
) -> Any:
    """Show what spectral radius, horizon and price of the input do to gradients, descent and Riccati.

    The plant is the double integrator, A = radius * [[1, 0.1], [0, 1]], with Q = S = I and
    x0 = (1, 0). Costates p[t] at u = 0 grow as radius^(T - t), and the gradient there is B'p[t]; at
    Riccati's optimum they do not. Gradient descent and conjugate gradients start at u = 0.

    Parameters
    ----------
    radius : float
        Spectral radius of A.
    T : int
        Horizon.
    R : float
        Weight of the input.
    sliders : bool, optional
        Whether there are sliders; where not given, in a notebook.

    Returns
    -------
    ipywidgets.VBox or Figure
        With sliders, or the figure alone.

    Raises
    ------
    LqradError
        If there are to be sliders and ipywidgets is not installed.

    See Also
    --------
    lqrad.explore.design : sliders for the weights of a controller
    lqrad.gradient_growth, lqrad.compare, lqrad.riccati : what is shown, as numbers

    Examples
    --------
    >>> from lqrad import explore
    >>> figure = explore.lecture(radius=1.1, sliders=False)
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['costates: |p[0]| = 2.7e+06 and 1.2e+02', 'iterations: not in 100 and 8', 'inputs']
    """
    figure = _lecture(radius, T, R)
    if not _has_sliders(sliders):
        return figure
    widgets = _ipywidgets()
    style = {"style": {"description_width": "9em"}, "layout": {"width": "32em"}}
    moved = {
        "radius": widgets.FloatSlider(
            value=radius,
            min=min(0.5, radius),
            max=max(1.3, radius),
            step=0.01,
            description="spectral radius",
            **style,
        ),
        "T": widgets.IntSlider(
            value=T, min=min(5, T), max=max(200, T), description="horizon T", **style
        ),
        "R": _weight_slider(R, "R", style),
    }
    return _below(moved, lambda values: _lecture(**values, figure=figure))


def design(
    plant: StateSpace,
    Q: ArrayLike,
    R: ArrayLike,
    *,
    Q_i: ArrayLike | None = None,
    H: ArrayLike | None = None,
    sliders: bool | None = None,
) -> Any:
    """Show what the weights of a controller do to step response, margins and poles.

    A slider per diagonal entry of Q, R and Q_i multiplies the weight of one state, input or integrator
    by up to a thousand either way: the matrices become D Q D with D diagonal. What `design_controller`
    finds is drawn; where it finds nothing, its error stands below the last picture.

    Parameters
    ----------
    plant, Q, R, Q_i, H
        As of `design_controller`.
    sliders : bool, optional
        As of `lecture`, and so is what is returned.

    See Also
    --------
    lqrad.design_controller : the same as numbers; lists what is raised
    lqrad.explore.lecture : sliders for spectral radius, horizon and R

    Examples
    --------
    >>> from lqrad import StateSpace, explore
    >>> plant = StateSpace([[1, 0.1], [0, 1]], [[0.005], [0.1]], [[1, 0]], dt=0.1)
    >>> figure = explore.design(plant, np.eye(2), [[1]], Q_i=[[0.01]], sliders=False)
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['step response, |u| up to 1.34', 'phase 59°, disk 0.969', 'poles: slowest 0.9317']
    """
    check_type("plant", plant, StateSpace, "StateSpace(A, B, C, dt=dt)")
    weights = {"Q": real_array("Q", Q), "R": real_array("R", R)}
    if Q_i is not None:
        weights["Q_i"] = real_array("Q_i", Q_i)

    def drawn(weights: dict[str, Array], figure: Picture | None = None) -> Picture:
        Q_i = weights.get("Q_i")
        return _design(design_controller(plant, weights["Q"], weights["R"], Q_i=Q_i, H=H), figure)

    figure = drawn(weights)
    if not _has_sliders(sliders):
        return figure
    style = {"style": {"description_width": "4em"}, "layout": {"width": "26em"}}
    moved = {
        (name, i): _weight_slider(weight[i, i], f"{name}[{i},{i}]", style)
        for name, weight in weights.items()
        for i in range(len(weight))
        if weight[i, i] > 0
    }

    def at(values: dict[tuple[str, int], float]) -> Picture:
        factors = {name: np.ones(len(weight)) for name, weight in weights.items()}
        for (name, i), value in values.items():
            factors[name][i] = np.sqrt(value / weights[name][i, i])
        return drawn({name: d[:, None] * weights[name] * d for name, d in factors.items()}, figure)

    return _below(moved, at)


# --- figures --------------------------------------------------------------------------------------


def _lecture(radius: float, T: int, R: float, figure: Picture | None = None) -> Picture:
    radius = check_number("radius", radius, least=0.0)
    T = check_count("T", T)
    R = check_number("R", R, above=0.0)
    identity, x0, start = np.eye(2), np.array([1.0, 0.0]), np.zeros((T, 1))
    A, B = radius * np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.005], [0.1]])
    problem = LQProblem(A, B, identity, [[R]], S=identity)
    optimum = riccati(problem, T).rollout(x0)
    objective = problem.objective(x0, T)
    figure, (left, middle, right) = _panels(figure)
    free = problem.adjoint(problem.simulate(x0, start), start)
    sizes = [np.linalg.norm(p, axis=-1) for p in (free, optimum.p)]
    for size, label, look in zip(sizes, ("at u = 0", "at the optimum"), curves(2), strict=True):
        _curve(left, label, range(T), size, **look)
    first, last = (size[0] for size in sizes)
    _finish(left, f"costates: |p[0]| = {first:.2g} and {last:.2g}", "step t", "|p[t]|", log=True)
    step: dict[str, Any] = {"drawstyle": "steps-post"}
    _curve(right, "Riccati", range(T), optimum.u[:, 0], color="0.75", linewidth=4, **step)
    counts = []
    for method, look in zip(("gradient", "conjugate-gradient"), curves(2), strict=True):
        found = descend(objective, start, method=method, max_iter=_ITERATIONS)
        gaps = np.abs(found.history.cost - optimum.cost) / np.abs(optimum.cost)
        _curve(middle, method, range(len(gaps)), np.maximum(gaps, _FLOOR), **look)
        _curve(
            right, method.removesuffix("-gradient"), range(T), found.solution[:, 0], **look, **step
        )
        counts.append(f"{found.iterations}" if found.status.converged else f"not in {_ITERATIONS}")
    _finish(
        middle, f"iterations: {counts[0]} and {counts[1]}", "iteration", "relative gap", log=True
    )
    _finish(right, "inputs", "step t", "u[t]")
    low, high = optimum.u.min(), optimum.u.max()
    room = 0.5 * (high - low) + 1e-9 * max(abs(low), abs(high)) + 1e-12
    right.set_ylim(low - room, high + room)
    return figure


def _design(found: Design, figure: Picture | None = None) -> Picture:
    plant, margins = found.plant, found.margins
    figure, (left, middle, right) = _panels(figure)
    if found.response is not None:
        nr = found.controller.nr
        t, y = found.response.t, found.response.y
        title, label = "step response", "tracked outputs"
        series = [y[:, i, i] for i in range(nr)]
        names = [f"tracked {i}" for i in range(nr)]
    else:
        t, title, label = found.simulated.t, "from x0 = 1", "states"
        series = list(found.simulated.x.T)
        names = [f"x[{i}]" for i in range(plant.n)]
    for z, name, look in zip(series, names, curves(len(series)), strict=True):
        _curve(left, name, t, z, **look)
    largest = np.abs(found.simulated.u).max()
    _finish(left, f"{title}, |u| up to {largest:.3g}", "time (s)", label)

    worst = min(range(plant.m), key=lambda i: margins.loops[i].disk)
    omega = np.geomspace(1e-4, 1.0, _POINTS) * np.pi / plant.dt
    L = found.controller.loop(plant).response(omega)[:, worst, worst]
    dark, light = colors(2)
    free = np.empty(0)
    if margins.loops[worst].disk < 2:
        low, high = disk_gain(margins.loops[worst].disk)
        free = (high - low) / 2 * np.exp(1j * np.linspace(0.0, 2 * np.pi, 100)) - (low + high) / 2
    _curve(middle, "kept free", free.real, free.imag, color=light, linewidth=3)
    _curve(middle, f"loop {worst}" if plant.m > 1 else "loop", L.real, L.imag, color=dark)
    _curve(middle, "_-1", [-1.0], [0.0], marker="+", color="black", markersize=9, linestyle="none")
    middle.set(xlim=(-_FAR, 1.0), ylim=(-_FAR / 2 - 0.5, _FAR / 2 + 0.5), aspect="equal")
    phase, disk = margins.loops[worst].phase, margins.disk
    _finish(middle, f"phase {phase:.3g}\N{DEGREE SIGN}, disk {disk:.3g}", "Re L", "Im L")

    circle = np.exp(1j * np.linspace(0.0, 2 * np.pi, 200))
    poles, own = found.poles, plant.poles
    dots: dict[str, Any] = {"linestyle": "none", "markersize": 4}
    _curve(right, "_unit circle", circle.real, circle.imag, color="0.6", linewidth=0.8)
    _curve(right, "plant", own.real, own.imag, marker="x", color="0.5", **dots)
    _curve(right, "closed loop", poles.real, poles.imag, marker="o", color=dark, **dots)
    right.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
    _finish(right, f"poles: slowest {abs(poles[0]):.4g}", "Re z", "Im z")
    return figure


def _panels(figure: Picture | None) -> tuple[Picture, list[Axes]]:
    """Three panels side by side, placed once: a layout engine would take longer than all the rest.

    Those of a figure that is there are drawn in again: what a new one leaves to the garbage collector
    takes as long as a picture.
    """
    if figure is None:
        figure = Picture(figsize=(10.5, 3.6), dpi=80)
        figure.subplots_adjust(left=0.075, bottom=0.15, right=0.985, top=0.84, wspace=0.32)
        figure.subplots(1, 3)
    return figure, list(figure.axes)


def _curve(ax: Axes, label: str, x: Any, y: Any, **look: Any) -> None:
    """Draw a curve, or move the one that has this label."""
    for line in ax.lines:
        if line.get_label() == label:
            line.set_data(x, y)
            return
    ax.plot(x, y, label=label, **look)


def _finish(ax: Axes, title: str, x: str, y: str, *, log: bool = False) -> None:
    """Labels at places that need not be looked for, few ticks, a name for each curve."""
    ax.set_title(title, loc="left", fontsize="medium", y=1.1)
    ax.relim()
    ax.autoscale_view()
    if ax.get_legend():
        return
    if log:
        ax.set_yscale("log")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.xaxis.set_label_coords(0.5, -0.12)
    ax.yaxis.set_label_coords(-0.17, 0.5)
    ax.minorticks_off()
    # Three or four ticks in plain words: ticks and their labels take most of the time of a picture.
    for axis, scale in ((ax.xaxis, ax.get_xscale()), (ax.yaxis, ax.get_yscale())):
        logarithmic = scale == "log"
        axis.get_major_locator().set_params(**{"numticks" if logarithmic else "nbins": 3})
        axis.set_major_formatter(_power if logarithmic else _plain)
    ax.spines[["top", "right"]].set_visible(False)
    place: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (0, 0.99),
        "borderaxespad": 0.1,
        "ncols": 3,
    }
    ax.legend(**place, fontsize="small", frameon=False, handlelength=1.6, columnspacing=1)


def _plain(z: float, _: float) -> str:
    return f"{z:.4g}"


def _power(z: float, _: float) -> str:
    return f"1e{np.log10(z):.0f}"


# --- sliders --------------------------------------------------------------------------------------


def _has_sliders(wanted: bool | None) -> bool:
    """Whether there are to be sliders: where it is not said, if a notebook's kernel runs this."""
    if wanted is not None:
        return bool(wanted)
    shell = sys.modules.get("IPython")
    return getattr(shell.get_ipython() if shell else None, "kernel", None) is not None


def _ipywidgets() -> Any:
    try:
        import ipywidgets
    except ImportError as error:
        raise LqradError(
            "sliders need ipywidgets",
            "pip install 'lqrad[notebook]', or sliders=False for the figure alone",
        ) from error
    return ipywidgets


def _weight_slider(value: float, name: str, style: dict[str, Any]) -> Any:
    middle = np.log10(value)
    return _ipywidgets().FloatLogSlider(
        value=value,
        min=middle - _DECADES,
        max=middle + _DECADES,
        step=0.05,
        description=name,
        readout_format=".3g",
        **style,
    )


def _below(moved: dict[Any, Any], draw: Callable[[dict[Any, Any]], Picture]) -> Any:
    """Sliders, and below them what is drawn of their values, anew at each move."""
    widgets = _ipywidgets()
    picture = widgets.Image(format="png", layout={"width": "100%", "max_width": "840px"})
    message = widgets.Label()

    def show(_: Any = None) -> None:
        try:
            picture.value = _png(draw({name: slider.value for name, slider in moved.items()}))
            message.value = ""
        except LqradError as error:
            message.value = str(error)

    for slider in moved.values():
        slider.observe(show, names="value")
    show()
    return widgets.VBox([*moved.values(), picture, message])


def _png(figure: Picture) -> bytes:
    """A PNG that is quick to make rather than small."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 1})
    return buffer.getvalue()
