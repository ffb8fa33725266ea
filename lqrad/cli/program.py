"""What `lqrad` does with what is typed: find a command, run it, print, save, return a status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import lqrad
from lqrad.cli.commands import COMMANDS, Command
from lqrad.cli.options import COMMON, Option, Parser, UsageError, add_options, joined
from lqrad.errors import ArgumentError, LqradError
from lqrad.outside import replace_file
from lqrad.results import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
            options = _parser().parse_args(joined(arguments))
            status = _run(COMMANDS[options.command], options)
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
    except (UsageError, LqradError, OSError, UnicodeError) as error:
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


def _run(command: Command, options: argparse.Namespace) -> int:
    """Run a command, print what it found and save what was asked for."""
    inputs = [getattr(options, name, None) for name in ("file", "model", "series")]
    asked = {}
    for option in (*COMMON, *command.options):
        if isinstance(option, Option) and option.endings:
            name = option.name.removeprefix("--")
            if (path := getattr(options, name)) is not None:
                _check_target(option, path, [given for given in inputs if given])
                asked[name] = path
    found = command.find(options)
    files = dict(found.files, plot=("picture", lambda path: _save_picture(found.picture(), path)))
    told = []
    try:
        if options.json:
            _say(json.dumps(plain(dict(found.figures)), indent=1, allow_nan=False))
        else:
            _say("\n".join(found.text))
        sys.stdout.flush()
    finally:  # saved too where nobody reads what is printed
        for name, path in asked.items():
            what, write = files[name]
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
    """Write a picture as its ending says."""
    kind = path.suffix.lower().removeprefix(".")
    replace_file(path, lambda file: figure.savefig(file, format=kind))


def _check_target(option: Option, path: Path, inputs: list[Path]) -> None:
    """Raise ArgumentError, before any work, where a file cannot be written."""
    what = f"{option.name} {path}"
    if path.suffix.lower() not in option.endings:
        raise ArgumentError(f"{what}: expected a name that ends in {', '.join(option.endings)}")
    if os.path.realpath(path) in map(os.path.realpath, inputs):  # of a link in a circle: itself
        raise ArgumentError(f"{what}: is the input; save under another name")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ArgumentError(f"{what}: there is no folder {folder}", "make it first")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise ArgumentError(f"{what}: is no file that can be written")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="lqrad", description=(lqrad.__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"lqrad {lqrad.__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.help,
            description=f"{command.page}\nexit status:\n  {command.status}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_options(sub, [*command.options, *COMMON])
    return parser
