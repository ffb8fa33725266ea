"""The command line: `lqrad`, or `python -m lqrad`."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike

import lqrad
from lqrad.arguments import Array
from lqrad.errors import ArgumentError, LqradError, ShapeError
from lqrad.files import (
    load_model,
    load_plant,
    load_smoothing_model,
)
from lqrad.heat import SCHEMES, heat_plate, heat_rod
from lqrad.nonlinear import NONLINEAR_SYSTEMS
from lqrad.saved import save_controller
from lqrad.series import load_series
from lqrad.solvers.ilqr import ilqr
from lqrad.solvers.methods import METHODS
from lqrad.systems import SYSTEMS, System

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PICTURES = (".png", ".svg", ".pdf")

_COMPARE = """\
Minimise a linear-quadratic cost by descent along adjoint gradients, by several methods, and hold
each answer against the Riccati solution.

examples:
  lqrad compare                                     an aircraft, by every method
  lqrad compare --system inverted-pendulum --horizon 50 --plot pendulum.png
  lqrad compare --method conjugate-gradient --method nesterov --tol 1e-8
  lqrad compare --file model.json --x0 1,0 --json

columns of the table:
  iterations   steps of the method; for riccati, stages swept until its gain had converged
  gap          (J - J*) / |J*|, where J* is Riccati's cost
  proven gap   the bound on it that the method proves from its own gradient, without Riccati
  distance     |u - u*| / |u*|

A model file (.json, .npz, .mat) holds A, B, Q, R and may hold S, M, c, q, r, s, x0 and T, for
  x[t+1] = A x[t] + B u[t] + c,
  J = sum_t (1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u) + 1/2 x[T]'S x[T] + s'x[T];
a matrix that varies in time has a leading axis of T stages.

exit status:
  0 a method met its tolerance     1 none did     2 the input is not usable
"""

_BLOWUP = """\
Show how the gradient in each input grows with its distance from the end of the horizon, at which
horizon it has no digit left, what that does to descent, and which remedy works.

examples:
  lqrad blowup                                      a pendulum on a cart
  lqrad blowup --system aircraft --horizon 300 --plot aircraft.png
  lqrad blowup --file model.json --x0 1,0 --horizon 100 --json

columns of the table:
  gap          (J - J*) / |J*|, where J* is Riccati's cost
  bias         the gap of what the remedy would find if it were solved exactly; empty for none

A model file is that of `lqrad compare`.

exit status:
  0 done     2 the input is not usable
"""

_SMOOTH = """\
Estimate the states behind a series, from all of it, with their standard deviations.

examples:
  lqrad smooth flow.csv --model level.json --out smoothed.csv --plot flow.png
  lqrad smooth flow.csv --model level.json --forecast 10 --plot forecast.pdf

The series is a .csv file with a row for each time and a column for each output; a first line of
names is skipped, and where there is one column more, the first holds labels, such as dates. An
entry that is empty, or nan, was not observed.

The model (.json, .npz, .mat) holds A, C, W, V and may hold m0, P0, c, d, for
  x[t+1] = A x[t] + c + w[t],  w ~ (0, W);   y[t] = C x[t] + d + v[t],  v ~ (0, V);
x[0] ~ (m0, P0), and without P0 there is no prior. A level that drifts, the river Nile's:
  {"A": [[1]], "C": [[1]], "W": [[1469.1]], "V": [[15099]]}

exit status:
  0 done     2 the input is not usable
"""


_SWINGUP = """\
Find the inputs that bring a nonlinear system to its target within their bounds, and a feedback
around them, by iterative LQR from inputs of zero.

examples:
  lqrad swingup                                     a pole on a cart
  lqrad swingup --plot cart.png --gif cart.gif
  lqrad swingup --system pendulum --second-order --json

exit status:
  0 it converged     1 it did not     2 the input is not usable
"""


_HEAT = """\
Control the temperature of a plate or a rod by descent along adjoint gradients, where Riccati would
need a matrix of the square of the number of cells.

examples:
  lqrad heat                                        a plate of 50 x 50 cells over 25 heaters
  lqrad heat --cells 100x100 --plot plate.png
  lqrad heat --cells 200 --scheme crank-nicolson --tol 1e-6 --json

A plate has its edges held at the temperature of its surroundings, a rod is heated at its insulated
ends. The target is a temperature field to be reached and kept.

exit status:
  0 the tolerance was met     1 it was not     2 the input is not usable
"""


_DESIGN = """\
Design a controller for a plant and look at its loop: margins, step response, limits.

examples:
  lqrad design                                      an inverted pendulum
  lqrad design --file plant.json --plot design.png --out controller.json
  lqrad design --file plant.json --json

A plant file (.json, .npz, .mat) holds A, B, Q, R in continuous time, with weights per second, and
the sampling time dt in seconds; with "discrete": 1 they are of discrete time. It may hold
  C                    what is measured (the state, if there is none)
  M                    the cross weight x'Mu
  W, V                 covariances per step: the state is then estimated from C x
  tracked, Q_i         outputs that follow a reference, and the weight of their integrators
  low, high            limits of the inputs (null for none)
  input_delay          in seconds
  reference, x0        of the simulation

exit status:
  0 done     2 the input is not usable, or nothing stabilises the plant
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands behind the program's name; sys.argv when not given.

    Returns
    -------
    int
        0 if a method met its tolerance, 1 if none did, 2 if the input is not usable.

    Examples
    --------
    >>> main(["compare", "--system", "spaceship"])  # the reason stands in the error output
    2
    """
    try:
        try:
            words = _joined(sys.argv[1:] if arguments is None else arguments)
            options = _parser().parse_args(words)
            status = int(options.run(options))
        except SystemExit as leaving:  # --help and --version
            status = int(leaving.code or 0)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe had enough
        status = 128 + 13  # as if by the signal SIGPIPE
    except KeyboardInterrupt:
        print("lqrad: interrupted", file=sys.stderr)
        status = 128 + 2  # as if by the signal SIGINT
    except MemoryError:
        print("lqrad: there is not enough memory; try a shorter horizon or series", file=sys.stderr)
        status = 2
    except (_UsageError, LqradError, OSError) as error:
        print(f"lqrad: {error}", file=sys.stderr)
        status = 2
    try:
        sys.stdout.flush()
    except OSError:  # what cannot be written must not be tried again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join --x0 with its value, which argparse would take for an option in `--x0 -1,0`."""
    words = list(arguments)
    while "--x0" in words[:-1]:
        at = words.index("--x0")
        words[at : at + 2] = [f"--x0={words[at + 1]}"]
    return words


def _compare(options: argparse.Namespace) -> int:
    """Run `lqrad compare`."""
    if options.plot is not None:
        _check_target("--plot", options.plot, _PICTURES)
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
    if options.json:
        print(json.dumps(comparison.to_dict(), indent=1, allow_nan=False))
    else:
        radius = np.abs(np.linalg.eigvals(model.problem.A)).max()
        print(model.title)
        print(
            f"spectral radius of A {radius:.6g}, condition of the Hessian {comparison.condition:.3g}"
        )
        print()
        print(comparison.table())
        print()
        print("\n".join(comparison.notes()))
    if options.plot is not None:
        _save(comparison.plot(model.system), options)
    return 0 if comparison.converged else 1


def _blowup(options: argparse.Namespace) -> int:
    """Run `lqrad blowup`."""
    if options.plot is not None:
        _check_target("--plot", options.plot, _PICTURES)
    model = _model(options)
    study = lqrad.blowup(model.problem, model.x0, model.T, progress=sys.stderr.isatty())
    if options.json:
        print(json.dumps(study.to_dict(), indent=1, allow_nan=False))
    else:
        print(model.title)
        print()
        print(study)
        print()
        print("\n".join(study.notes()))
    if options.plot is not None:
        _save(study.plot(model.system), options)
    return 0


def _swingup(options: argparse.Namespace) -> int:
    """Run `lqrad swingup`."""
    if options.plot is not None:
        _check_target("--plot", options.plot, _PICTURES)
    if options.gif is not None:
        _check_target("--gif", options.gif, (".gif",))
        if options.system != "cart-pole":
            raise ArgumentError(f"--gif {options.gif}: films are of the cart-pole only")
    system = NONLINEAR_SYSTEMS[options.system]()
    problem, x0 = system.problem, system.x0 if options.x0 is None else np.array(options.x0)
    if len(x0) != problem.n:
        raise ShapeError(f"x0 has {len(x0)} entries, expected n = {problem.n}, one for each state")
    result = ilqr(
        problem,
        x0,
        T=options.horizon or system.T,
        second_order=options.second_order,
        bounds=system.bounds,
        max_iter=options.max_iter,
        tol=options.tol,
    )
    missed = result.x[-1] - system.target
    low, high = system.bounds
    at_bound = int(((result.u <= low) | (result.u >= high)).sum())
    if options.json:
        found = {
            "system": system.name,
            "source": system.source,
            "dt": system.dt,
            "T": len(result.u),
            "status": result.status.name,
            "message": result.message,
            "cost": result.cost,
            "costs": result.costs.tolist(),
            "iterations": result.iterations,
            "seconds": result.seconds,
            "states": system.state_names,
            "inputs": system.input_names,
            "bounds": [low.tolist(), high.tolist()],
            "missed": missed.tolist(),
            "inputs_at_bound": at_bound,
            "x": result.x.tolist(),
            "u": result.u.tolist(),
            "p": result.p.tolist(),
            "K": result.K.tolist(),
        }
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        print(
            f"{system.name}: n={problem.n}, m={problem.m}, sampled every {system.dt:g} s, "
            f"horizon {len(result.u)}"
        )
        print(result.message)
        print(f"inputs at a bound: {at_bound} of {result.u.size}")
        print("what the last state lacks of the target:")
        for name, unit, value in zip(system.state_names, system.state_units, missed, strict=True):
            print(f"  {name:16s} {value:10.2e}{'' if unit == '1' else ' ' + unit}")
    if options.plot is not None:
        from lqrad.plotting.nonlinear import plot_swingup

        _save(plot_swingup(system, result), options)
    if options.gif is not None:
        from lqrad.plotting.nonlinear import animate_cart_pole

        options.gif.parent.mkdir(parents=True, exist_ok=True)
        animate_cart_pole(system, result.x, options.gif)
        print(f"film: {options.gif.resolve()}", file=sys.stderr if options.json else sys.stdout)
    return 0 if result.status.converged else 1


def _heat(options: argparse.Namespace) -> int:
    """Run `lqrad heat`."""
    if options.plot is not None:
        _check_target("--plot", options.plot, _PICTURES)
    if len(options.cells) == 2:
        system = heat_plate(options.cells, horizon=options.horizon, scheme=options.scheme)
    else:
        system = heat_rod(options.cells[0], horizon=options.horizon, scheme=options.scheme)
    objective = system.problem().objective(system.x0, system.horizon)
    descent = lqrad.descend(
        objective,
        method="conjugate-gradient",
        max_iter=options.max_iter,
        tol=options.tol,
        progress=sys.stderr.isatty(),
    )
    missed = system.problem().simulate(system.x0, descent.solution)[-1] - system.target
    error = float(np.sqrt(np.mean(missed**2) / np.mean(system.target**2)))
    if options.json:
        found = {
            "system": system.name,
            "source": system.source,
            "cells": system.shape,
            "dt": system.dt,
            "T": system.horizon,
            "status": descent.status.name,
            "message": descent.message,
            "cost": descent.value,
            "gap_bound": descent.gap_bound,
            "iterations": descent.iterations,
            "seconds": descent.seconds,
            "error": error,
            "u": descent.solution.tolist(),
        }
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        print(repr(system).strip("<>"))
        print(f"{descent.message}, in {descent.seconds:.1f} s")
        print(f"temperature at the end: {100 * error:.2g} % off the target, in the mean square")
    if options.plot is not None:
        from lqrad.plotting import plot_heat

        _save(plot_heat(system, descent), options)
    return 0 if descent.status.converged else 1


def _design(options: argparse.Namespace) -> int:
    """Run `lqrad design`."""
    if options.plot is not None:
        _check_target("--plot", options.plot, _PICTURES)
    if options.out is not None:
        _check_target("--out", options.out, (".json", ".npz"))
        if options.file is not None and options.out.resolve() == options.file.resolve():
            raise ArgumentError(f"--out {options.out}: is the input; save under another name")
    if options.file is not None:
        content = load_plant(options.file)
        plant, arguments, title = content.plant, content.arguments, str(options.file)
    else:
        system = SYSTEMS[options.system]()
        plant, title = lqrad.StateSpace.of(system), system.name
        arguments = {"Q": system.Q, "R": system.R, "x0": system.x0}
    found = lqrad.design_controller(plant, **arguments)
    if options.json:
        print(json.dumps({"plant": title} | found.to_dict(), indent=1, allow_nan=False))
    else:
        print(f"{title}: n={plant.n}, m={plant.m}, sampled every {plant.dt:g} s")
        print()
        print(found.table())
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        save_controller(options.out, found.controller)
        where = sys.stderr if options.json else sys.stdout
        print(f"\ncontroller: {options.out.resolve()}", file=where)
    if options.plot is not None:
        _save(found.plot(), options)
    return 0


class _Model(NamedTuple):
    """What a command works on, and how it is called."""

    problem: lqrad.LQProblem
    x0: ArrayLike
    T: int
    title: str
    system: System | None


def _model(options: argparse.Namespace) -> _Model:
    """The example system or the file that was asked for, from its start or another, over a horizon."""
    system = None
    if options.file is not None:
        model = load_model(options.file)
        problem, x0, T = model.problem, model.x0, model.T
        title = f"{options.file}: n={problem.n}, m={problem.m}"
    else:
        system = SYSTEMS[options.system]()
        problem, x0, T = system.problem(), system.x0, system.horizon
        title = f"{system.name}: n={problem.n}, m={problem.m}, sampled every {system.dt:g} s"
    if options.x0 is not None:
        x0 = options.x0
    if x0 is None:
        raise ArgumentError(f"{options.file} has no x0; pass --x0 with {problem.n} numbers")
    if len(x0) != problem.n:
        raise ShapeError(f"x0 has {len(x0)} entries, expected n = {problem.n}, one for each state")
    T = options.horizon or problem.T or T
    if T is None:
        raise ArgumentError(f"{options.file} has no T; pass --horizon with the number of inputs")
    return _Model(problem, x0, T, f"{title}, horizon {T}", system)


def _save(figure: Figure, options: argparse.Namespace) -> None:
    """Save a picture and say where."""
    options.plot.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.plot)
    print(f"\npicture: {options.plot.resolve()}", file=sys.stderr if options.json else sys.stdout)


def _smooth(options: argparse.Namespace) -> int:
    """Run `lqrad smooth`."""
    if options.plot is not None:
        _check_target("--plot", options.plot, _PICTURES)
    if options.out is not None:
        _check_target("--out", options.out, (".csv",))
    problem = load_smoothing_model(options.model)
    series = load_series(options.series, problem.ny)
    for option, path in (("--out", options.out), ("--plot", options.plot)):
        if path is not None and path.resolve() in (
            options.series.resolve(),
            options.model.resolve(),
        ):
            raise ArgumentError(f"{option} {path}: is the input; save under another name")
    if len(series.y) < 2:
        raise ArgumentError(f"{options.series} has one row, expected two at least")
    y = np.concatenate([series.y, np.full((options.forecast, problem.ny), np.nan)])
    names = series.names or ["t"] * (series.labels is not None) + [
        f"y[{i}]" for i in range(problem.ny)
    ]
    label_name = names[0] if series.labels is not None else "t"
    times = _even_times(series.labels or [str(t) for t in range(len(series.y))], len(y))
    if times is not None:
        labels = [f"{time:.15g}" for time in times]
    else:
        labels = [*(series.labels or []), *(f"+{h + 1}" for h in range(options.forecast))]
    smoothed = lqrad.kalman_smoother(problem, y)
    assert smoothed.cov is not None
    seen = int(np.isfinite(y).sum())
    print(f"{options.series}: {len(series.y)} rows, {seen} of {series.y.size} entries observed")
    print(f"log-likelihood {smoothed.loglik:.6f}, by {smoothed.method}")
    if options.out is not None:
        columns = smoothed.columns()
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([label_name, *columns])
            for label, *values in zip(labels, *columns.values(), strict=True):
                writer.writerow([label, *(repr(float(value)) for value in values)])
        print(
            "smoothed states x and outputs y, deviations sd of x, sd_level of C x, sd_y of "
            f"observations: {options.out.resolve()}"
        )
    if options.plot is not None:
        from lqrad.plotting import plot_smoothed_outputs

        options.plot.parent.mkdir(parents=True, exist_ok=True)
        figure = plot_smoothed_outputs(problem, y, smoothed, t=times, names=names[-problem.ny :])
        figure.axes[-1].set_xlabel("step" if times is None else label_name)
        figure.savefig(options.plot)
        print(f"picture: {options.plot.resolve()}")
    return 0


def _even_times(labels: list[str], count: int) -> Array | None:
    """The labels as times, gone on with up to `count`; None unless they are evenly spaced numbers."""
    try:
        times = np.array([float(label) for label in labels])
    except ValueError:
        return None
    steps = np.diff(times)
    even = len(times) > 1 and np.allclose(steps, steps[0], rtol=1e-9, atol=0) and steps[0] > 0
    return np.asarray(times[0] + steps[0] * np.arange(count)) if even else None


def _check_target(option: str, path: Path, endings: tuple[str, ...]) -> None:
    """Raise ArgumentError, before any work, where a file cannot be written."""
    if path.suffix.lower() not in endings:
        raise ArgumentError(f"{option} {path}: expected a name that ends in {', '.join(endings)}")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ArgumentError(f"{option} {path}: is no file that can be written")


class _UsageError(Exception):
    """Words on the command line that it does not know."""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are exceptions."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; try {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lqrad", description=lqrad.__doc__)
    parser.add_argument("--version", action="version", version=f"lqrad {lqrad.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    compare = commands.add_parser(
        "compare",
        help="descend by several methods and verify against Riccati",
        description=_COMPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model(compare, "aircraft")
    compare.add_argument(
        "--method",
        action="append",
        choices=METHODS,
        metavar="METHOD",
        help=f"a method; may be given several times (default: all): {', '.join(METHODS)}",
    )
    compare.add_argument(
        "--max-iter", type=_count, default=2000, metavar="K", help="limit on iterations (2000)"
    )
    compare.add_argument(
        "--tol", type=float, default=1e-12, help="relative gap to prove before stopping (1e-12)"
    )
    _add_results(compare)
    compare.set_defaults(run=_compare)

    blowup = commands.add_parser(
        "blowup",
        help="see how gradients grow, what that breaks, and what cures it",
        description=_BLOWUP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model(blowup, "inverted-pendulum")
    _add_results(blowup)
    blowup.set_defaults(run=_blowup)

    swingup = commands.add_parser(
        "swingup",
        help="control a nonlinear system within bounds by iterative LQR",
        description=_SWINGUP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    swingup.add_argument(
        "--system",
        choices=NONLINEAR_SYSTEMS,
        default="cart-pole",
        metavar="NAME",
        help=f"a nonlinear system (default cart-pole): {', '.join(NONLINEAR_SYSTEMS)}",
    )
    _add_start(swingup)
    swingup.add_argument(
        "--second-order", action="store_true", help="differential dynamic programming"
    )
    swingup.add_argument(
        "--max-iter", type=_count, default=500, metavar="K", help="limit on iterations (500)"
    )
    swingup.add_argument(
        "--tol", type=float, default=1e-10, help="relative decrease that ends it (1e-10)"
    )
    _add_results(swingup)
    swingup.add_argument(
        "--gif", type=Path, metavar="FILM", help="save a film of the cart-pole: .gif"
    )
    swingup.set_defaults(run=_swingup)

    heat = commands.add_parser(
        "heat",
        help="control the temperature of a plate or a rod",
        description=_HEAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    heat.add_argument(
        "--cells",
        type=_cells,
        default=(50, 50),
        metavar="NxM",
        help="of a plate, or N of a rod (50x50)",
    )
    heat.add_argument(
        "--horizon", type=_count, default=200, metavar="T", help="number of time steps (200)"
    )
    heat.add_argument(
        "--scheme",
        choices=SCHEMES,
        default="implicit-euler",
        metavar="SCHEME",
        help=f"in time (default implicit-euler): {', '.join(SCHEMES)}",
    )
    heat.add_argument(
        "--max-iter", type=_count, default=500, metavar="K", help="limit on iterations (500)"
    )
    heat.add_argument(
        "--tol", type=float, default=1e-4, help="relative gap to prove before stopping (1e-4)"
    )
    _add_results(heat)
    heat.set_defaults(run=_heat)

    design = commands.add_parser(
        "design",
        help="design a controller with limits, an estimator, integral action",
        description=_DESIGN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_source(design, "inverted-pendulum")
    design.add_argument(
        "--out", type=Path, metavar="CONTROLLER", help="save the controller: .json or .npz"
    )
    _add_results(design)
    design.set_defaults(run=_design)

    smooth = commands.add_parser(
        "smooth",
        help="smooth a series with gaps by a linear-Gaussian model",
        description=_SMOOTH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    smooth.add_argument("series", type=Path, metavar="SERIES", help="a .csv file")
    smooth.add_argument(
        "--model", type=Path, required=True, metavar="MODEL", help="a .json, .npz or .mat file"
    )
    smooth.add_argument("--out", type=Path, metavar="TABLE", help="save the states: .csv")
    smooth.add_argument(
        "--plot", type=Path, metavar="PICTURE", help="save a picture: .png, .svg or .pdf"
    )
    smooth.add_argument(
        "--forecast", type=_count, default=0, metavar="H", help="go on for H steps past the end"
    )
    smooth.set_defaults(run=_smooth)
    return parser


def _add_model(command: argparse.ArgumentParser, default: str) -> None:
    """The options that `_model` reads."""
    _add_source(command, default)
    _add_start(command)


def _add_source(command: argparse.ArgumentParser, default: str) -> None:
    """The options for an example system or a file."""
    source = command.add_mutually_exclusive_group()
    source.add_argument(
        "--system",
        choices=SYSTEMS,
        default=default,
        metavar="NAME",
        help=f"an example system (default {default}): {', '.join(SYSTEMS)}",
    )
    source.add_argument("--file", type=Path, metavar="MODEL", help="a .json, .npz or .mat file")


def _add_start(command: argparse.ArgumentParser) -> None:
    """The options for where to start and how far to go."""
    command.add_argument(
        "--horizon", type=_count, metavar="T", help="number of inputs (default: the model's)"
    )
    command.add_argument(
        "--x0", type=_numbers, metavar="X,X,...", help="initial state (default: the model's)"
    )


def _add_results(command: argparse.ArgumentParser) -> None:
    """The options for what becomes of the results."""
    command.add_argument(
        "--plot", type=Path, metavar="PICTURE", help="save a picture: .png, .svg or .pdf"
    )
    command.add_argument("--json", action="store_true", help="print everything as JSON")


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 999999999")
    return int(text)


def _cells(text: str) -> tuple[int, ...]:
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() and 1 < int(word) < 10**5 for word in words):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of cells such as 200 or 100x100"
        )
    return tuple(map(int, words))


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers such as 1,0,-0.5"
        ) from None
    if not np.isfinite(numbers).all():
        raise argparse.ArgumentTypeError(f"{text!r} holds a number that is not finite")
    return numbers
