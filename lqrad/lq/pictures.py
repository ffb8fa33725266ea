"""Trajectories, gains, costates and convergence: descent beside Riccati."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import Array, check_shape, real_array
from lqrad.descent.pictures import add_gap, over_iterations
from lqrad.errors import NonFiniteError
from lqrad.figure import (
    NEW,
    Labels,
    add_title,
    colors,
    curves,
    largest,
    one_series,
    panel,
    sheet,
    with_units,
)
from lqrad.lq.compare import Comparison
from lqrad.lq.inputs import Trajectory
from lqrad.lq.plan import Plan, PlanRows
from lqrad.lq.riccati import Riccati
from lqrad.lq.shooting import Shooting
from lqrad.results import draw

_MOST_CIRCLES = 25
_FLOOR = 1e-15  # a relative gap below this, the difference of two costs, is rounding
_CEILING = 1e250  # matplotlib's margins overflow above it
_BOUNDED = {"gradient": (0, (1, 2)), "conjugate-gradient": (0, (5, 3))}  # and their dashes
_QUANTITIES = {"x": "state", "u": "input", "p": "costate (cost per unit of state)"}


@panel
def plot_trajectory(
    x: ArrayLike,
    *,
    ax: Axes = NEW,
    dt: float | None = None,
    names: Sequence[str] | None = None,
    symbol: str = "x",
) -> None:
    """Draw a sequence against time, each column a curve with its name.

    Of more columns than can be told apart, the largest are named and the others are grey.

    Parameters
    ----------
    x : (T, k)
        States, inputs or costates, one row for each step.
    dt : float, optional
        Seconds from row to row; the axis counts steps when not given.
    names : sequence of k str, optional
        Names of the columns, with units; x[0], x[1], ... when not given.
    symbol : str
        The letter of the sequence. Inputs "u" are drawn as held from step to step.

    Examples
    --------
    >>> ax = plot_trajectory([[1.0], [0.5], [0.25]], dt=0.1)
    >>> ax.get_xlabel()
    'time (s)'
    """
    x = one_series(symbol, x)
    columns = x.shape[1]
    labels = [f"{symbol}[{i}]" for i in range(columns)] if names is None else list(names)
    check_shape("names", np.empty(len(labels)), (columns,), f"to match {symbol} {x.shape}")
    style = "default"
    if symbol == "u":
        x, style = np.concatenate([x, x[-1:]]), "steps-post"  # the last one is held for a step too
    t = _times(len(x), dt)
    named = largest(x)
    grey = np.delete(x, named, axis=1)
    # Of two curves that coincide, the wider one below shows on both sides of the other.
    widths = np.linspace(1.4, 2.2, len(named))[::-1]
    marker = "_" if len(x) == 1 else ""  # a line through one point is not seen
    for i, look, width in zip(named, curves(len(named)), widths, strict=True):
        (line,) = ax.plot(t, x[:, i], drawstyle=style, marker=marker, **look)
        line.set(linewidth=width, label=labels[i])
    if grey.size:
        lines = ax.plot(t, grey, color="0.8", linewidth=0.8, drawstyle=style, zorder=1)
        lines[0].set_label(f"{len(lines)} smaller ones")
    ax.plot(t[[0, -1]], [0.0, 0.0], color="0.6", linewidth=0.6, zorder=0)
    _over_steps(ax, dt)
    ax.set_ylabel(names[0] if names and columns == 1 else _QUANTITIES.get(symbol, symbol))


@panel
def plot_costates(
    p: ArrayLike,
    Px: ArrayLike,
    *,
    ax: Axes = NEW,
    dt: float | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Draw Riccati's P x[t+1] + v as curves, and the costates of a backward pass as circles.

    On the optimum they agree: the multiplier is the gradient of the value function.

    Parameters
    ----------
    p : (T, n)
        Costates.
    Px : (T, n)
        P[t+1] x[t+1] + v[t+1].
    dt, names
        As in `plot_trajectory`.
    """
    p, Px = one_series("p", p), real_array("Px", Px)
    check_shape("Px", Px, p.shape, "to match p")
    plot_trajectory(Px, ax=ax, dt=dt, names=names, symbol="p")
    _add_circles(ax, p, largest(Px), dt)
    add_title(ax, "costates: Riccati's P x (lines), backward pass (circles)")


@panel
def plot_convergence(comparison: Comparison, *, ax: Axes = NEW) -> None:
    """Draw the relative gap of each descent against its iterations, and two bounds that theory has.

    The curve of a descent that met its tolerance ends in a dot, that of another one in a cross.
    Thin and grey: what gradient descent with its best step, and conjugate gradients, leave at most
    of the gap at the start, for the condition number of the Hessian. The other methods have no such
    bound: heavy ball may first go up, whatever its rate is in the end.

    References
    ----------
    Polyak, Introduction to Optimization, 1987, section 1.4; Nocedal and Wright, Numerical
    Optimization, 2nd edition, 2006, section 5.1 (Chebyshev polynomials).
    """
    descents, rates = comparison.descents, comparison.rates
    with np.errstate(over="ignore"):
        optimal, scale = float(comparison.optimum.cost), comparison.scale
        gaps = [np.fmin((d.history.cost - optimal) / scale, _CEILING) for d in descents]
    # Each gap up to the last one that is more than rounding.
    gaps = [gap[: np.flatnonzero(gap > _FLOOR).max(initial=0) + 1] for gap in gaps]
    longest = max(2, *map(len, gaps))
    for descent, gap, look in zip(descents, gaps, curves(len(descents)), strict=True):
        name, converged = descent.method, descent.status.converged
        add_gap(ax, np.maximum(gap, _FLOOR), converged=converged, label=name, **look)
    for descent, gap in zip(descents, gaps, strict=True):
        if descent.method in _BOUNDED:
            power = rates[descent.method] ** np.arange(longest)
            left = power if descent.method == "gradient" else 2 * power / (1 + power**2)
            bound = gap[0] * left**2
            (line,) = ax.plot(bound[bound > _FLOOR], color="0.5", linewidth=0.8, zorder=1)
            line.set(linestyle=_BOUNDED[descent.method], label=f"bound of {descent.method}")
    over_iterations(ax, 1.2 * longest)
    digits = (1, 2, 5) if longest < 50 else (1,)
    decades = range(math.ceil(math.log10(longest)) + 1)
    ticks = [0, *(digit * 10**decade for decade in decades for digit in digits)]
    ax.set_xticks([k for k in ticks if k <= 1.2 * longest])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    add_title(ax, "convergence, and what theory bounds it by (grey)")


@sheet(11, 8, 2, 2)
def plot_comparison(
    panels: list[Axes], comparison: Comparison, system: Labels | None = None
) -> str:
    """Draw a comparison: states, inputs, convergence, and costates beside Riccati's P x.

    Lines are Riccati's, circles those of the descent with the smallest gap.

    Parameters
    ----------
    system : System, optional
        Gives the time axis its seconds, and the curves their names and units.
    """
    problem, recursion, optimum = comparison.problem, comparison.recursion, comparison.optimum
    best = comparison.descents[int(np.argmin(comparison.gaps))]
    dt, states, inputs = _names(system)
    costates = None if system is None else system.state_names
    title = f"n = {problem.n}, m = {problem.m}, T = {recursion.T}"
    title = title if system is None else f"{system.name}: {title}"
    top_left, top_right, low_left, low_right = panels
    plot_trajectory(optimum.x, ax=top_left, dt=dt, names=states)
    add_title(top_left, "states: Riccati's feedback")
    plot_trajectory(optimum.u, ax=top_right, dt=dt, names=inputs, symbol="u")
    _add_circles(top_right, best.solution, largest(optimum.u), dt)
    add_title(top_right, f"inputs: Riccati (lines), {best.method}, the closest (circles)")
    plot_convergence(comparison, ax=low_left)
    try:
        p = problem.adjoint(problem.simulate(comparison.x0, best.solution), best.solution)
    except NonFiniteError:  # simulated open loop, they overflow
        p = np.full_like(optimum.p, np.nan)
    Px = (recursion.P[1:] @ optimum.x[1:, :, None])[..., 0] + recursion.v[1:]
    plot_costates(p, Px, ax=low_right, dt=dt, names=costates)
    add_title(low_right, f"costates: Riccati's P x (lines), {best.method}'s (circles)")
    for ax in (top_right, low_right):
        ax.set_xlim(top_left.get_xlim())
    return title


@sheet(11, 4, 1, 2)
def plot_states_and_inputs(
    panels: list[Axes], result: Trajectory | Shooting, system: Labels | None = None
) -> str:
    """Draw the states and the inputs of a trajectory.

    Parameters
    ----------
    result : Trajectory or Shooting
        Or anything else with x (T+1, n) and u (T, m).
    system : System, optional
        As in `plot_comparison`.

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]])
    >>> plot_states_and_inputs(lqrad.riccati(problem, T=20).rollout([1.0])).get_suptitle()
    'J = 0.886885'
    """
    _add_states_and_inputs(panels, result, system)
    status = "" if isinstance(result, Trajectory) else f", {result.status.word}"
    return f"J = {result.cost:.6g}{status}"


@sheet(11, 8, 2, 2)
def plot_plan(panels: list[Axes], plan: Plan, system: Labels | None = None) -> str:
    """Draw a plan within limits: states, inputs, the rows that have limits, and their multipliers.

    References are dots, in the colours of what is to follow them.

    Parameters
    ----------
    system : System, optional
        As in `plot_comparison`.
    """
    _add_states_and_inputs(panels, plan, system)
    dt, _, _ = _names(system)
    for ax, z, ref in ((panels[0], plan.x, plan.x_ref), (panels[1], plan.u, plan.u_ref)):
        if ref is not None and ref.any():
            named = largest(z)
            for i, look in zip(named, curves(len(named)), strict=True):
                dots = {"color": look["color"], "linestyle": "none", "marker": ".", "markersize": 3}
                ax.plot(_times(len(z), dt), ref[:, i], **dots)
    if plan.rows.names:
        plot_rows(plan.rows, ax=panels[2], dt=dt)
        plot_multipliers(plan.rows, ax=panels[3], dt=dt)
        for ax in panels[2:]:
            ax.set_xlim(panels[0].get_xlim())
    else:
        for ax in panels[2:]:
            ax.set_axis_off()
    return f"J = {plan.cost:.6g}, {plan.status.word}"


@panel
def plot_rows(rows: PlanRows, *, ax: Axes = NEW, dt: float | None = None) -> None:
    """Draw rows that have limits, the limits as dashes, and crosses where they are exceeded.

    Of more rows than can be told apart, those with the largest multipliers beside their values are
    named, and the others left out. A row that has a price, or a spring, is called soft.

    Parameters
    ----------
    rows : PlanRows
        `Plan.rows`.
    dt
        As in `plot_trajectory`.
    """
    shown = _at_work(rows)
    for i, look in zip(shown, curves(len(shown)), strict=True):
        t = _times(len(rows.values), dt) + (i >= rows.now) * (1.0 if dt is None else dt)
        soft = " (soft)" if np.isfinite(rows.price[i]) else ""
        ax.plot(t, rows.values[:, i], label=f"{rows.names[i]}{soft}", linewidth=1.4, **look)
        dashes = {"color": look["color"], "linestyle": "none", "marker": "_", "markersize": 5}
        for limits in (rows.low, rows.high):
            given = np.isfinite(limits[:, i])
            ax.plot(t[given], limits[given, i], **dashes)
        beyond = rows.excess[:, i] > 1e-9 * np.abs(rows.values[:, i]).max()  # more than is seen
        ax.plot(t[beyond], rows.values[beyond, i], "x", color=look["color"])
    _over_steps(ax, dt)
    ax.set_ylabel("rows with limits (dashes)")
    add_title(ax, "rows within limits; crosses: beyond")


@panel
def plot_multipliers(rows: PlanRows, *, ax: Axes = NEW, dt: float | None = None) -> None:
    """Draw what limits cost: their multipliers, positive at a high one, and prices as dots.

    A row gives way where its multiplier has reached its price.

    Parameters
    ----------
    rows, dt
        As in `plot_rows`.
    """
    shown = _at_work(rows)
    for i, look in zip(shown, curves(len(shown)), strict=True):
        t = _times(len(rows.values), dt) + (i >= rows.now) * (1.0 if dt is None else dt)
        y, price = rows.multipliers[:, i], rows.price[i]
        ax.plot(t, y, label=rows.names[i], linewidth=1.4, marker="_" if len(t) == 1 else "", **look)
        if 0 < price <= 2 * np.abs(y).max():
            side = price * np.sign(y[np.abs(y).argmax()])
            ax.plot(t, np.full(len(t), side), ":", color=look["color"], linewidth=0.8)
    _over_steps(ax, dt)
    ax.axhline(0.0, color="0.6", linewidth=0.6, zorder=0)
    ax.set_ylabel("multiplier (cost per unit of the row)")
    add_title(ax, "multipliers of the limits; dots: prices")


@panel
def plot_gains(solution: Riccati, *, dt: float | None = None, ax: Axes = NEW) -> None:
    """Draw the entries of the feedback gain K over time.

    Parameters
    ----------
    dt : float, optional
        As in `plot_trajectory`.
    """
    T, m, n = solution.K.shape
    names = [f"K[{i}, {j}]" for i in range(m) for j in range(n)]
    plot_trajectory(solution.K.reshape(T, m * n), ax=ax, dt=dt, names=names, symbol="K")
    ax.set_ylabel("gain K[i, j] (unit of u[i] per unit of x[j])")
    add_title(ax, "feedback: u[t] = \N{MINUS SIGN}K[t] x[t] \N{MINUS SIGN} k[t]")


def _add_states_and_inputs(
    panels: list[Axes], result: Trajectory | Plan | Shooting, system: Labels | None
) -> None:
    """Draw states and inputs on the first two panels, over the same times."""
    dt, states, inputs = _names(system)
    plot_trajectory(result.x, ax=panels[0], dt=dt, names=states)
    plot_trajectory(result.u, ax=panels[1], dt=dt, names=inputs, symbol="u")
    add_title(panels[0], "states")
    add_title(panels[1], "inputs")
    panels[1].set_xlim(panels[0].get_xlim())


def _at_work(rows: PlanRows) -> NDArray[np.intp]:
    """The rows that are drawn: of those with multipliers first, in their order."""
    unit = np.abs(rows.values).max(axis=0, initial=0.0)
    work = np.abs(rows.multipliers).max(axis=0, initial=0.0) * unit
    # Of rows without a multiplier, those nearest to a limit.
    return largest(np.where(work > 0, 1 + work / (work.max(initial=0.0) or 1.0), 0.5)[None])


def _over_steps(ax: Axes, dt: float | None) -> None:
    """Label the axis of time."""
    ax.set_xlabel("step t" if dt is None else "time (s)")
    if dt is None:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _names(system: Labels | None) -> tuple[float | None, list[str] | None, list[str] | None]:
    """The sampling time of a system, and the names of its states and inputs."""
    if system is None:
        return None, None, None
    states = with_units(system.state_names, system.state_units)
    return system.dt, states, with_units(system.input_names, system.input_units)


def _times(steps: int, dt: float | None) -> Array:
    return np.array(np.arange(steps) * (1.0 if dt is None else dt), dtype=np.float64)


def _add_circles(ax: Axes, z: Array, columns: NDArray[np.intp], dt: float | None) -> None:
    every = math.ceil(len(z) / _MOST_CIRCLES)
    t = _times(len(z), dt)[::every]
    for i, color in zip(columns, colors(len(columns)), strict=True):
        ax.plot(t, z[::every, i], "o", color=color, markersize=4, markerfacecolor="none")


draw.register(Comparison, plot_comparison)
for kind in (Trajectory, Shooting):
    draw.register(kind, plot_states_and_inputs)
draw.register(Plan, plot_plan)
draw.register(PlanRows, plot_rows)
draw.register(Riccati, plot_gains)
