"""The command line: `lqrad`, or `python -m lqrad`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TextIO

import numpy as np
from numpy.typing import ArrayLike

import lqrad
from lqrad.arguments import Array, check_room
from lqrad.descent.methods import METHODS
from lqrad.errors import ArgumentError, LqradError, ShapeError
from lqrad.files import load_model, load_plant, load_smoothing_model
from lqrad.files.saved import save_controller
from lqrad.files.series import load_series
from lqrad.nonlinear.ilqr import ilqr
from lqrad.nonlinear.systems import NONLINEAR_SYSTEMS
from lqrad.outside import replace_file
from lqrad.pde.heat import SCHEMES, heat_plate, heat_rod
from lqrad.results import plain
from lqrad.systems import SYSTEMS, System

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PICTURES = (".png", ".svg", ".pdf")

# One device has the same names in all commands.
_ALSO = {"cart-pole": "inverted-pendulum", "inverted-pendulum": "cart-pole"}

_MODEL = """\
A model file (.json, .npz, .mat) is the same for all commands. For
  x[t+1] = A x[t] + B u[t] + c,
  J = sum_t (1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u) + 1/2 x[T]'S x[T] + s'x[T]
it holds A, B, Q, R, and may hold M, S, c, q, r, s; a matrix that varies in time has a leading axis
of T stages. Where it holds dt, the seconds from one sample to the next, and no "discrete": 1, it is
of dx/dt = A x + B u, with weights per second, and is sampled. It may hold
  x0, T                an initial state and a horizon
  C, D, W, V           what is measured, C x + D u, with covariances per step
  m0, P0, d            of a smoother: the prior of x[0], and the offset of what is measured
  tracked, Q_i         rows that follow a reference, and the weight of their integrators
  low, high            limits of the inputs (null for none)
  input_delay          in seconds: inputs of the steps before become states, which get zeros in C,
                       S, s, W, tracked and x0
  reference            of the simulation of a design
What a command has no use for, it names and leaves.
"""

_COMPARE = """\
Minimise a linear-quadratic cost by descent along adjoint gradients, by several methods, and hold
each answer against the Riccati solution.

examples:
  lqrad compare                                     an aircraft, by every method
  lqrad compare --system cart-pole --horizon 50 --plot pendulum.png
  lqrad compare --method conjugate-gradient --method nesterov --tol 1e-8
  lqrad compare --file model.json --x0 1,0 --json

columns of the table:
  iterations   steps of the method; for riccati, stages swept until its gain had converged
  gap          (J - J*) / |J*|, where J* is Riccati's cost
  proven gap   the bound on it that the method proves from its own gradient, without Riccati
  distance     |u - u*| / |u*|
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
"""

_SMOOTH = """\
Estimate the states behind a series, from all of it, with their standard deviations.

examples:
  lqrad smooth flow.csv --model level.json --out smoothed.csv --plot flow.png
  lqrad smooth flow.csv --model level.json --forecast 10 --plot forecast.pdf

The series is a .csv file with a row for each time and a column for each output; a first line of
names is skipped, and where there is one column more, the first holds labels, such as dates. An
entry that is empty, or nan, was not observed. Commas, semicolons or tabs separate, and beside the
latter two the decimal sign may be a comma. Labels that are numbers or dates go on by equal steps.

The model is of
  x[t+1] = A x[t] + c + w[t],  w ~ (0, W);   y[t] = C x[t] + d + v[t],  v ~ (0, V);
x[0] ~ (m0, P0), and without P0 there is no prior. A level that drifts, the river Nile's:
  {"A": [[1]], "C": [[1]], "W": [[1469.1]], "V": [[15099]]}
"""

_SWINGUP = """\
Find the inputs that bring a nonlinear system to its target within their bounds, and a feedback
around them, by iterative LQR from inputs of zero.

examples:
  lqrad swingup                                     a pole on a cart
  lqrad swingup --plot cart.png --gif cart.gif
  lqrad swingup --system pendulum --second-order --json
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
"""

_DESIGN = """\
Design a controller for a plant and look at its loop: margins, step response, limits.

examples:
  lqrad design                                      a pendulum on a cart
  lqrad design --file plant.json --plot design.png --out controller.json
  lqrad design --file plant.json --json

A design needs dt. The state is measured where there are no C, W and V, and else estimated.
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
    with ExitStack() as stack:
        for name, redirect in (("stdout", redirect_stdout), ("stderr", redirect_stderr)):
            if getattr(sys, name) is None:  # closed, as by `lqrad design >&-`
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(redirect(nowhere))
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: Sequence[str]) -> int:
    """Run the command line; what goes wrong is a line on stderr and a status."""
    try:
        try:
            options = _parser().parse_args(_joined(arguments))
            status = _run(_COMMANDS[options.command], options)
        except SystemExit as leaving:  # --help and --version
            status = int(leaving.code or 0)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe had enough
        status = 128 + 13  # as if by the signal SIGPIPE
    except KeyboardInterrupt:
        _complain("interrupted")
        status = 128 + 2  # as if by the signal SIGINT
    except MemoryError:
        _complain("there is not enough memory; try a shorter horizon or series")
        status = 2
    except (_UsageError, LqradError, OSError, UnicodeError) as error:
        _complain(" ".join(str(error).split()))
        status = 2
    try:
        sys.stdout.flush()
    except OSError:  # what cannot be written must not be tried again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _complain(words: str) -> None:
    """Say what is wrong, if somebody can hear it."""
    with suppress(OSError):
        print("lqrad:", words, file=sys.stderr, flush=True)


class _Found(NamedTuple):
    """What a command found: how it reads, its figures, and what can be saved of it.

    `files` are by option: what the file holds, and what writes it.
    """

    text: str
    figures: Mapping[str, Any]
    picture: Callable[[], Figure]
    converged: bool = True
    files: Mapping[str, tuple[str, Callable[[Path], object]]] = {}


class _Command(NamedTuple):
    """A command: a line and a page on it, its options and its function.

    `targets` are the options that name a file to be written, beside --plot, with their endings.
    """

    help: str
    page: str
    add_options: Callable[[argparse.ArgumentParser], None]
    find: Callable[[argparse.Namespace], _Found]
    status: str = "0 done     2 the input is not usable"
    targets: Mapping[str, tuple[str, ...]] = {}


def _run(command: _Command, options: argparse.Namespace) -> int:
    """Run a command, print what it found and save what was asked for."""
    targets = {"plot": _PICTURES} | dict(command.targets)
    asked = {name: path for name in targets if (path := getattr(options, name)) is not None}
    inputs = [getattr(options, name, None) for name in ("file", "model", "series")]
    for name, path in asked.items():
        _check_target(f"--{name}", path, targets[name], [given for given in inputs if given])
    found = command.find(options)
    told = []
    try:
        if options.json:
            _say(json.dumps(plain(dict(found.figures)), indent=1, allow_nan=False))
        else:
            _say(found.text)
        sys.stdout.flush()
    finally:  # saved too where nobody reads what is printed
        for name, path in asked.items():
            if name == "plot":
                _save_picture(found.picture(), path)
                told.append(f"picture: {os.path.realpath(path)}")
            else:
                what, write = found.files[name]
                write(path)
                told.append(f"{what}: {os.path.realpath(path)}")
    if told:
        _say("\n" + "\n".join(told), sys.stderr if options.json else sys.stdout)
    return 0 if found.converged else 1


def _say(text: str, where: TextIO | None = None) -> None:
    """Print a text, with escapes for what the terminal or file has no letters for."""
    where = sys.stdout if where is None else where
    encoding = where.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=where)


def _save_picture(figure: Figure, path: Path) -> None:
    kind = path.suffix.lower().removeprefix(".")
    replace_file(path, lambda file: figure.savefig(file, format=kind))


def _check_target(option: str, path: Path, endings: tuple[str, ...], inputs: list[Path]) -> None:
    """Raise ArgumentError, before any work, where a file cannot be written."""
    if path.suffix.lower() not in endings:
        raise ArgumentError(f"{option} {path}: expected a name that ends in {', '.join(endings)}")
    if os.path.realpath(path) in map(os.path.realpath, inputs):  # of a link in a circle: itself
        raise ArgumentError(f"{option} {path}: is the input; save under another name")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ArgumentError(f"{option} {path}: there is no folder {folder}", "make it first")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise ArgumentError(f"{option} {path}: is no file that can be written")


# --- the commands ---------------------------------------------------------------------------------


def _compare(options: argparse.Namespace) -> _Found:
    """Run `lqrad compare`."""
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
    figures = (
        f"spectral radius of A {radius:.6g}, condition of the Hessian {comparison.condition:.3g}"
    )
    text = [model.title, figures, "", comparison.table(), "", *comparison.notes()]
    return _Found(
        "\n".join(text),
        comparison.to_dict(),
        lambda: comparison.plot(model.system),
        comparison.converged,
    )


def _blowup(options: argparse.Namespace) -> _Found:
    """Run `lqrad blowup`."""
    model = _model(options)
    study = lqrad.growth.blowup(model.problem, model.x0, model.T, progress=sys.stderr.isatty())
    text = [model.title, "", repr(study), "", *study.notes()]
    return _Found("\n".join(text), study.to_dict(), lambda: study.plot(model.system))


def _swingup(options: argparse.Namespace) -> _Found:
    """Run `lqrad swingup`."""
    if options.gif is not None and options.system != "cart-pole":
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
    figures = {
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
    text = [
        f"{system.name}: n={problem.n}, m={problem.m}, sampled every {system.dt:g} s, "
        f"horizon {len(result.u)}",
        result.message,
        f"inputs at a bound: {at_bound} of {result.u.size}",
        "what the last state lacks of the target:",
    ]
    for name, unit, value in zip(system.state_names, system.state_units, missed, strict=True):
        text.append(f"  {name:16s} {value:10.2e}{'' if unit == '1' else ' ' + unit}")

    def picture() -> Figure:
        from lqrad.plotting import plot_swingup

        return plot_swingup(system, result)

    def film(path: Path) -> None:
        from lqrad.plotting import animate_cart_pole

        animate_cart_pole(system, result.x, path)

    files = {"gif": ("film", film)}
    return _Found("\n".join(text), figures, picture, result.status.converged, files)


def _heat(options: argparse.Namespace) -> _Found:
    """Run `lqrad heat`."""
    steps: dict[str, Any] = {"horizon": options.horizon, "scheme": options.scheme}
    try:
        if len(options.cells) == 2:
            heaters = tuple(min(5, cells) for cells in options.cells)
            system = heat_plate(options.cells, heaters=heaters, **steps)
        else:
            system = heat_rod(options.cells[0], **steps)
    except ArgumentError as fault:
        if options.scheme != "explicit-euler":
            raise
        raise ArgumentError(fault.what, "try fewer --cells, or --scheme implicit-euler") from fault
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
    figures = {
        "system": system.name,
        "source": system.source,
        "cells": system.shape,
        "dt": system.dt,
        "T": system.horizon,
        "status": descent.status.name,
        "message": descent.message,
        "cost": descent.cost,
        "gap_bound": descent.gap_bound,
        "iterations": descent.iterations,
        "seconds": descent.seconds,
        "error": error,
        "u": descent.solution.tolist(),
    }
    text = [
        system.title,
        f"{descent.message}, in {descent.seconds:.1f} s",
        f"temperature at the end: {100 * error:.2g} % off the target, in the mean square",
    ]

    def picture() -> Figure:
        from lqrad.plotting import plot_heat

        return plot_heat(system, descent)

    return _Found("\n".join(text), figures, picture, descent.status.converged)


def _design(options: argparse.Namespace) -> _Found:
    """Run `lqrad design`."""
    unused: tuple[str, ...] = ()
    if options.file is not None:
        content = load_plant(options.file)
        plant, arguments, title = content.plant, content.arguments, str(options.file)
        unused = content.unused
    else:
        system = SYSTEMS[options.system]()
        plant, title = lqrad.StateSpace.of(system), system.name
        arguments = {"Q": system.Q, "R": system.R, "x0": system.x0}
    design = lqrad.design_controller(plant, **arguments)
    line = f"{title}: n={plant.n}, m={plant.m}, sampled every {plant.dt:g} s{_not_used(unused)}"
    return _Found(
        f"{line}\n\n{design.table()}",
        {"plant": title} | design.to_dict(),
        design.plot,
        files={"out": ("controller", lambda path: save_controller(path, design.controller))},
    )


def _smooth(options: argparse.Namespace) -> _Found:
    """Run `lqrad smooth`."""
    problem = load_smoothing_model(options.model)
    series = load_series(options.series, problem.ny)
    if len(series.y) < 2:
        raise ArgumentError(f"{options.series} has one row, expected two at least")
    count = len(series.y) + options.forecast
    check_room(f"a series of {count} steps", count, 4 * (problem.n + problem.ny) ** 2)
    y = np.concatenate([series.y, np.full((options.forecast, problem.ny), np.nan)])
    names = series.names or ["t"] * (series.labels is not None) + [
        f"y[{i}]" for i in range(problem.ny)
    ]
    label_name = (names[0] if series.labels is not None else "") or "t"
    times = _even_times(series.labels or [str(t) for t in range(len(series.y))], len(y))
    if times is not None:
        labels = [f"{time:.15g}" for time in times]
    else:
        labels = [*(series.labels or []), *(f"+{h + 1}" for h in range(options.forecast))]
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
    } | {name: np.asarray(column).tolist() for name, column in columns.items()}

    def table(path: Path) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow([label_name, *columns])
        for label, *values in zip(labels, *columns.values(), strict=True):
            writer.writerow([label, *(repr(float(value)) for value in values)])
        replace_file(path, lambda file: file.write(text.getvalue().encode()))

    def picture() -> Figure:
        from lqrad.plotting import plot_smoothed_outputs

        figure = plot_smoothed_outputs(problem, y, smoothed, t=times, names=names[-problem.ny :])
        figure.axes[-1].set_xlabel("step" if times is None else label_name)
        return figure

    what = (
        "smoothed states x and outputs y, deviations sd of x, sd_level of C x, sd_y of observations"
    )
    return _Found("\n".join(text), figures, picture, files={"out": (what, table)})


class _Model(NamedTuple):
    """What a command works on, and how it is called."""

    problem: lqrad.LQProblem
    x0: ArrayLike
    T: int
    title: str
    system: System | None


def _model(options: argparse.Namespace) -> _Model:
    """The example system or the file that was asked for, from its start or another, over a horizon."""
    system: System | None = None
    unused: tuple[str, ...] = ()
    before = 0  # entries of the state that hold inputs of the steps before
    if options.file is not None:
        model = load_model(options.file)
        problem, x0, T, unused = model.problem, model.x0, model.T, model.unused
        before = model.before
        title = f"{options.file}: n={problem.n}, m={problem.m}"
    else:
        system = SYSTEMS[options.system]()
        problem, x0, T = system.problem(), system.x0, system.horizon
        title = f"{system.name}: n={problem.n}, m={problem.m}, sampled every {system.dt:g} s"
    n = problem.n - before
    if options.x0 is not None:
        if len(options.x0) != n:
            raise ShapeError(
                f"x0 has {len(options.x0)} entries, expected n = {n}, one for each state"
            )
        x0 = np.append(options.x0, np.zeros(before))
    if x0 is None:
        raise ArgumentError(f"{options.file} has no x0; pass --x0 with {n} numbers")
    T = options.horizon or problem.T or T
    if T is None:
        raise ArgumentError(f"{options.file} has no T; pass --horizon with the number of inputs")
    return _Model(problem, x0, T, f"{title}, horizon {T}{_not_used(unused)}", system)


def _not_used(names: tuple[str, ...]) -> str:
    return f"\nnot used, of the file: {', '.join(names)}" if names else ""


def _even_times(labels: list[str], count: int) -> Array | None:
    """The labels as times, gone on with up to `count`; None unless they are evenly spaced numbers."""
    try:
        times = np.array([float(label) for label in labels])
    except ValueError:
        return None
    steps = np.diff(times)
    even = len(times) > 1 and np.allclose(steps, steps[0], rtol=1e-9, atol=0) and steps[0] > 0
    return np.asarray(times[0] + steps[0] * np.arange(count)) if even else None


# --- what is typed --------------------------------------------------------------------------------


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join --x0 with its value, which argparse would take for an option in `--x0 -1,0`."""
    words = list(arguments)
    while "--x0" in words[:-1]:
        at = words.index("--x0")
        words[at : at + 2] = [f"--x0={words[at + 1]}"]
    return words


class _UsageError(Exception):
    """Words on the command line that it does not know."""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are exceptions."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; try {self.prog} --help")


class _CommandParser(_Parser):
    """That of a command, which itself complains of words that it does not know."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lqrad", description=lqrad.__doc__)
    parser.add_argument("--version", action="version", version=f"lqrad {lqrad.__version__}")
    commands = parser.add_subparsers(
        title="commands",
        dest="command",
        required=True,
        metavar="COMMAND",
        parser_class=_CommandParser,
    )
    for name, command in _COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.help,
            description=f"{command.page}\nexit status:\n  {command.status}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_options(sub)
        sub.add_argument(
            "--plot", type=Path, metavar="PICTURE", help="save a picture: .png, .svg or .pdf"
        )
        sub.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


def _compare_options(command: argparse.ArgumentParser) -> None:
    _add_model(command, "aircraft")
    command.add_argument(
        "--method",
        action="append",
        choices=METHODS,
        metavar="METHOD",
        help=f"a method; may be given several times (default: all): {', '.join(METHODS)}",
    )
    _add_limits(command, 2000, 1e-12, "relative gap to prove before stopping")


def _swingup_options(command: argparse.ArgumentParser) -> None:
    _add_system(command, "cart-pole", NONLINEAR_SYSTEMS)
    _add_start(command)
    command.add_argument(
        "--second-order", action="store_true", help="differential dynamic programming"
    )
    _add_limits(command, 500, 1e-10, "relative decrease that ends it")
    command.add_argument(
        "--gif", type=Path, metavar="FILM", help="save a film of the cart-pole: .gif"
    )


def _heat_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cells",
        type=_cells,
        default=(50, 50),
        metavar="NxM",
        help="of a plate, or N of a rod (50x50)",
    )
    command.add_argument(
        "--horizon", type=_count, default=200, metavar="T", help="number of time steps (200)"
    )
    command.add_argument(
        "--scheme",
        choices=SCHEMES,
        default="implicit-euler",
        metavar="SCHEME",
        help=f"in time (default implicit-euler): {', '.join(SCHEMES)}",
    )
    _add_limits(command, 500, 1e-4, "relative gap to prove before stopping")


def _design_options(command: argparse.ArgumentParser) -> None:
    _add_source(command, "cart-pole")
    command.add_argument(
        "--out", type=Path, metavar="CONTROLLER", help="save the controller: .json or .npz"
    )


def _smooth_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("series", type=Path, metavar="SERIES", help="a .csv file")
    command.add_argument(
        "--model", type=Path, required=True, metavar="MODEL", help="a .json, .npz or .mat file"
    )
    command.add_argument("--out", type=Path, metavar="TABLE", help="save the states: .csv")
    command.add_argument(
        "--forecast", type=_count, default=0, metavar="H", help="go on for H steps past the end"
    )


_COMMANDS = {
    "compare": _Command(
        "descend by several methods and verify against Riccati",
        f"{_COMPARE}\n{_MODEL}",
        _compare_options,
        _compare,
        "0 a method met its tolerance     1 none did     2 the input is not usable",
    ),
    "blowup": _Command(
        "see how gradients grow, what that breaks, and what cures it",
        f"{_BLOWUP}\n{_MODEL}",
        lambda command: _add_model(command, "cart-pole"),
        _blowup,
    ),
    "swingup": _Command(
        "control a nonlinear system within bounds by iterative LQR",
        _SWINGUP,
        _swingup_options,
        _swingup,
        "0 it converged     1 it did not     2 the input is not usable",
        {"gif": (".gif",)},
    ),
    "heat": _Command(
        "control the temperature of a plate or a rod",
        _HEAT,
        _heat_options,
        _heat,
        "0 the tolerance was met     1 it was not     2 the input is not usable",
    ),
    "design": _Command(
        "design a controller with limits, an estimator, integral action",
        f"{_DESIGN}\n{_MODEL}",
        _design_options,
        _design,
        "0 done     2 the input is not usable, or nothing stabilises the plant",
        {"out": (".json", ".npz")},
    ),
    "smooth": _Command(
        "smooth a series with gaps by a linear-Gaussian model",
        f"{_SMOOTH}\n{_MODEL}",
        _smooth_options,
        _smooth,
        targets={"out": (".csv",)},
    ),
}


def _add_model(command: argparse.ArgumentParser, default: str) -> None:
    """The options that `_model` reads."""
    _add_source(command, default)
    _add_start(command)


def _add_source(command: argparse.ArgumentParser, default: str) -> None:
    """The options for an example system or a file."""
    source = command.add_mutually_exclusive_group()
    _add_system(source, default, SYSTEMS)
    source.add_argument("--file", type=Path, metavar="MODEL", help="a .json, .npz or .mat file")


def _add_system(command: Any, default: str, systems: Mapping[str, Any]) -> None:
    """The option for an example system."""

    def name(text: str) -> str:
        known = text if text in systems else _ALSO.get(text, text)
        if known not in systems:
            elsewhere = "; it is one of `lqrad swingup`" if text in NONLINEAR_SYSTEMS else ""
            raise argparse.ArgumentTypeError(
                f"invalid choice: {text!r} (choose from {', '.join(systems)}){elsewhere}"
            )
        return known

    command.add_argument(
        "--system",
        type=name,
        default=default,
        metavar="NAME",
        help=f"an example system (default {default}): {', '.join(systems)}; cart-pole and "
        "inverted-pendulum are one",
    )


def _add_limits(command: argparse.ArgumentParser, max_iter: int, tol: float, meaning: str) -> None:
    """The options for when to stop."""
    command.add_argument(
        "--max-iter",
        type=_count,
        default=max_iter,
        metavar="K",
        help=f"limit on iterations ({max_iter})",
    )
    command.add_argument("--tol", type=float, default=tol, help=f"{meaning} ({tol:g})")


def _add_start(command: argparse.ArgumentParser) -> None:
    """The options for where to start and how far to go."""
    command.add_argument(
        "--horizon", type=_count, metavar="T", help="number of inputs (default: the model's)"
    )
    command.add_argument(
        "--x0", type=_numbers, metavar="X,X,...", help="initial state (default: the model's)"
    )


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
