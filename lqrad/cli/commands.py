"""The commands: what each can be told, what it finds, and the table of all."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import lqrad
from lqrad.arguments import Array, check_room
from lqrad.cli import pages
from lqrad.cli.options import (
    START,
    Option,
    cells,
    count,
    flag,
    limits,
    option,
    source,
    system,
    target,
)
from lqrad.descent.methods import METHODS
from lqrad.errors import ArgumentError, ShapeError
from lqrad.files import Model, PlantFile, load_model, load_plant, load_smoothing_model
from lqrad.files.saved import save_controller
from lqrad.files.series import Series, load_series
from lqrad.nonlinear.systems import NONLINEAR_SYSTEMS
from lqrad.outside import replace_file
from lqrad.pde.heat import SCHEMES
from lqrad.systems import SYSTEMS, System

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Found(NamedTuple):
    """What a command found: how it reads, its figures, and what can be saved of it.

    `files` are by option: what the file holds, and what writes it.
    """

    text: Sequence[str]
    figures: Mapping[str, Any]
    picture: Callable[[], Figure]
    converged: bool = True
    files: Mapping[str, tuple[str, Callable[[Path], object]]] = {}


class Command(NamedTuple):
    """A command: a line and a page on it, its options and its function; what status 0 and 1 mean."""

    help: str
    page: str
    options: Sequence[Option | tuple[Option, ...]]
    find: Callable[[argparse.Namespace], Found]
    status: str = "0 done     2 the input is not usable"


def _drawn(function: str, *details: Any, **named: Any) -> Any:
    """Call a function of `lqrad.plotting`, which is imported only where something is drawn."""
    return getattr(import_module("lqrad.plotting"), function)(*details, **named)


def _compare(options: argparse.Namespace) -> Found:
    model = _model(options)
    comparison = lqrad.compare(
        model.problem,
        model.x0,
        model.T,
        options.method or METHODS,
        max_iter=options.max_iter,
        tol=options.tol,
        progress=sys.stderr.isatty(),
    )
    radius = np.abs(np.linalg.eigvals(model.problem.A)).max()
    line = f"spectral radius of A {radius:.6g}, condition of the Hessian {comparison.condition:.3g}"
    text = [model.title, line, "", comparison.table(), "", *comparison.notes()]
    picture = partial(comparison.plot, model.system)
    return Found(text, comparison.to_dict(), picture, comparison.converged)


def _blowup(options: argparse.Namespace) -> Found:
    model = _model(options)
    study = lqrad.growth.blowup(model.problem, model.x0, model.T, progress=sys.stderr.isatty())
    text = [model.title, "", repr(study), "", *study.notes()]
    return Found(text, study.to_dict(), partial(study.plot, model.system))


def _swingup(options: argparse.Namespace) -> Found:
    if options.gif is not None and options.system != "cart-pole":
        raise ArgumentError(f"--gif {options.gif}: films are of the cart-pole only")
    system = NONLINEAR_SYSTEMS[options.system]()
    problem = system.problem
    result = lqrad.ilqr(
        problem,
        system.x0 if options.x0 is None else _start(options.x0, problem.n),
        T=options.horizon or system.T,
        second_order=options.second_order,
        bounds=system.bounds,
        max_iter=options.max_iter,
        tol=options.tol,
    )
    missed = result.x[-1] - system.target
    low, high = system.bounds
    at_bound = int(((result.u <= low) | (result.u >= high)).sum())
    figures = {
        "system": system.name,
        "source": system.source,
        "dt": system.dt,
        "T": len(result.u),
        "states": system.state_names,
        "inputs": system.input_names,
        "bounds": system.bounds,
        "missed": missed,
        "inputs_at_bound": at_bound,
        "costs": result.costs,
    } | _figures(result, "cost", "iterations", "seconds", "x", "u", "p", "K")
    text = [
        f"{_sizes(system.name, problem, system.dt)}, horizon {len(result.u)}",
        result.message,
        f"inputs at a bound: {at_bound} of {result.u.size}",
        "what the last state lacks of the target:",
    ]
    for name, unit, value in zip(system.state_names, system.state_units, missed, strict=True):
        text.append(f"  {name:16s} {value:10.2e}{'' if unit == '1' else ' ' + unit}")
    picture = partial(_drawn, "plot_swingup", system, result)
    film = partial(_drawn, "animate_cart_pole", system, result.x)
    return Found(text, figures, picture, result.status.converged, {"gif": ("film", film)})


def _heat(options: argparse.Namespace) -> Found:
    steps: dict[str, Any] = {"T": options.horizon, "scheme": options.scheme}
    try:
        if len(options.cells) == 2:
            heaters = tuple(min(5, cells) for cells in options.cells)
            system = lqrad.heat_plate(options.cells, heaters=heaters, **steps)
        else:
            system = lqrad.heat_rod(options.cells[0], **steps)
    except ArgumentError as fault:
        if options.scheme != "explicit-euler":
            raise
        raise ArgumentError(fault.what, "try fewer --cells, or --scheme implicit-euler") from fault
    descent = lqrad.descend(
        system.problem().objective(system.x0, system.T),
        method="conjugate-gradient",
        max_iter=options.max_iter,
        tol=options.tol,
        progress=sys.stderr.isatty(),
    )
    missed = system.problem().simulate(system.x0, descent.solution)[-1] - system.target
    error = float(np.sqrt(np.mean(missed**2) / np.mean(system.target**2)))
    figures = {
        "system": system.name,
        "source": system.source,
        "cells": system.shape,
        "dt": system.dt,
        "T": system.T,
        "error": error,
        "u": descent.solution,
    } | _figures(descent, "cost", "gap_bound", "iterations", "seconds")
    text = [
        system.title,
        f"{descent.message}, in {descent.seconds:.1f} s",
        f"temperature at the end: {100 * error:.2g} % off the target, in the mean square",
    ]
    picture = partial(_drawn, "plot_heat", system, descent)
    return Found(text, figures, picture, descent.status.converged)


def _design(options: argparse.Namespace) -> Found:
    system = None
    if options.file is not None:
        content, title = load_plant(options.file), str(options.file)
    else:
        system = SYSTEMS[options.system]()
        arguments = {"Q": system.Q, "R": system.R, "x0": system.x0}
        content, title = PlantFile(lqrad.StateSpace.of(system), arguments), system.name
    plant = content.plant
    design = lqrad.design_controller(plant, **content.arguments)
    line = f"{_sizes(title, plant, plant.dt)}{_not_used(content.unused)}"
    files = {"out": ("controller", lambda path: save_controller(path, design.controller))}
    figures = {"plant": title} | design.to_dict()
    return Found([line, "", design.table()], figures, partial(design.plot, system), files=files)


def _smooth(options: argparse.Namespace) -> Found:
    problem = load_smoothing_model(options.model)
    series = load_series(options.series, problem.ny)
    if len(series.y) < 2:
        raise ArgumentError(f"{options.series} has one row, expected two at least")
    count = len(series.y) + options.forecast
    check_room(f"a series of {count} steps", count, 4 * (problem.n + problem.ny) ** 2)
    y = np.concatenate([series.y, np.full((options.forecast, problem.ny), np.nan)])
    labelled = series.labels is not None
    names = series.names or ["t"] * labelled + [f"y[{i}]" for i in range(problem.ny)]
    label_name = (names[0] if labelled else "") or "t"
    labels, times = _labels(series, len(y))
    smoothed = lqrad.kalman_smoother(problem, y)
    columns = smoothed.columns()
    seen = int(np.isfinite(y).sum())
    text = [
        f"{options.series}: {len(series.y)} rows, {seen} of {series.y.size} entries observed",
        f"log-likelihood {smoothed.loglik:.6f}, by {smoothed.method}",
    ]
    figures = {
        "series": str(options.series),
        "rows": len(series.y),
        "observed": seen,
        "loglik": smoothed.loglik,
        "method": smoothed.method,
        label_name: labels,
    }

    def table(path: Path) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow([label_name, *columns])
        for label, *values in zip(labels, *columns.values(), strict=True):
            writer.writerow([label, *(repr(float(value)) for value in values)])
        replace_file(path, lambda file: file.write(text.getvalue().encode()))

    def picture() -> Figure:
        shown = names[-problem.ny :]
        figure: Figure = _drawn("plot_smoothed_outputs", problem, y, smoothed, t=times, names=shown)
        figure.axes[-1].set_xlabel("step" if times is None else label_name)
        return figure

    what = (
        "smoothed states x and outputs y, deviations sd of x, sd_level of C x, sd_y of observations"
    )
    return Found(text, figures | dict(columns), picture, files={"out": (what, table)})


# --- what they share ------------------------------------------------------------------------------


class _Model(NamedTuple):
    """What a command works on, and its title."""

    problem: lqrad.LQProblem
    x0: Array
    T: int
    title: str
    system: System | None


def _model(options: argparse.Namespace) -> _Model:
    """The example system or the file that was asked for, from its start or another, over a horizon."""
    system: System | None = None
    if options.file is not None:
        model = load_model(options.file)
        title = _sizes(options.file, model.problem)
    else:
        system = SYSTEMS[options.system]()
        model = Model(system.problem(), system.x0, system.T)
        title = _sizes(system.name, model.problem, system.dt)
    problem, x0, n = model.problem, model.x0, model.problem.n - model.before
    if options.x0 is not None:
        x0 = np.append(_start(options.x0, n), np.zeros(model.before))
    if x0 is None:
        raise ArgumentError(f"{options.file} has no x0; pass --x0 with {n} numbers")
    T = options.horizon or problem.T or model.T
    if T is None:
        raise ArgumentError(f"{options.file} has no T; pass --horizon with the number of inputs")
    return _Model(problem, x0, T, f"{title}, horizon {T}{_not_used(model.unused)}", system)


def _sizes(title: Any, of: Any, dt: float | None = None) -> str:
    """A title with the sizes of a problem or plant, and its sampling time."""
    sampled = "" if dt is None else f", sampled every {dt:g} s"
    return f"{title}: n={of.n}, m={of.m}{sampled}"


def _start(x0: list[float], n: int) -> Array:
    """The initial state that was typed."""
    if len(x0) != n:
        raise ShapeError(f"x0 has {len(x0)} entries, expected n = {n}, one for each state")
    return np.array(x0)


def _not_used(names: tuple[str, ...]) -> str:
    return f"\nnot used, of the file: {', '.join(names)}" if names else ""


def _figures(result: Any, *names: str) -> dict[str, Any]:
    """How a solver ended, and fields of its result."""
    return {name: getattr(result, name) for name in ("status", "message", *names)}


def _labels(series: Series, count: int) -> tuple[list[str], Array | None]:
    """The labels of `count` rows, and as times; None unless they are evenly spaced numbers."""
    known = series.labels or [str(t) for t in range(len(series.y))]
    try:
        times = np.array([float(label) for label in known])
    except ValueError:
        times = np.zeros(0)
    steps = np.diff(times)
    if len(steps) and steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-9, atol=0):
        times = times[0] + steps[0] * np.arange(count)
        return [f"{time:.15g}" for time in times], times
    return [*known, *(f"+{h + 1}" for h in range(count - len(known)))], None


# --- the table ------------------------------------------------------------------------------------

_METHODS = "a method; may be given several times (default: all)"
_METHOD = option("--method", "METHOD", METHODS, _METHODS, action="append")
_GAP = "relative gap to prove before stopping"
_IMPLICIT = "implicit-euler"

COMMANDS = {
    "compare": Command(
        "descend by several methods and verify against Riccati",
        f"{pages.COMPARE}\n{pages.MODEL}",
        [source("aircraft"), *START, _METHOD, *limits(2000, 1e-12, _GAP)],
        _compare,
        "0 a method met its tolerance     1 none did     2 the input is not usable",
    ),
    "blowup": Command(
        "see how gradients grow, what that breaks, and what cures it",
        f"{pages.BLOWUP}\n{pages.MODEL}",
        [source("cart-pole"), *START],
        _blowup,
    ),
    "swingup": Command(
        "control a nonlinear system within bounds by iterative LQR",
        pages.SWINGUP,
        [
            system("cart-pole", NONLINEAR_SYSTEMS),
            *START,
            flag("--second-order", "differential dynamic programming"),
            *limits(500, 1e-10, "relative decrease that ends it"),
            target("--gif", "FILM", "save a film of the cart-pole", ".gif"),
        ],
        _swingup,
        "0 it converged     1 it did not     2 the input is not usable",
    ),
    "heat": Command(
        "control the temperature of a plate or a rod",
        pages.HEAT,
        [
            option("--cells", "NxM", cells, "of a plate, or N of a rod (50x50)", (50, 50)),
            option("--horizon", "T", count, "number of time steps (200)", 200),
            option("--scheme", "SCHEME", SCHEMES, f"in time (default {_IMPLICIT})", _IMPLICIT),
            *limits(500, 1e-4, _GAP),
        ],
        _heat,
        "0 the tolerance was met     1 it was not     2 the input is not usable",
    ),
    "design": Command(
        "design a controller with limits, an estimator, integral action",
        f"{pages.DESIGN}\n{pages.MODEL}",
        [
            source("cart-pole"),
            target("--out", "CONTROLLER", "save the controller", ".json", ".npz"),
        ],
        _design,
        "0 done     2 the input is not usable, or nothing stabilises the plant",
    ),
    "smooth": Command(
        "smooth a series with gaps by a linear-Gaussian model",
        f"{pages.SMOOTH}\n{pages.MODEL}",
        [
            option("series", "SERIES", Path, "a .csv file"),
            option("--model", "MODEL", Path, "a .json, .npz or .mat file", required=True),
            target("--out", "TABLE", "save the states", ".csv"),
            option("--forecast", "H", count, "go on for H steps past the end", 0),
        ],
        _smooth,
    ),
}
