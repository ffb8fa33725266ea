"""What can be typed: each option once, and how its words are read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from lqrad.nonlinear.systems import NONLINEAR_SYSTEMS
from lqrad.systems import SYSTEMS

# One device has the same names in all commands.
_ALSO = {"cart-pole": "inverted-pendulum", "inverted-pendulum": "cart-pole"}


class UsageError(Exception):
    """Words on the command line that it does not know."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are exceptions, also of words that only it does not know."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; try {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def joined(arguments: Sequence[str]) -> list[str]:
    """Join --x0 with its value, which argparse would take for an option in `--x0 -1,0`."""
    words = list(arguments)
    while "--x0" in words[:-1]:
        at = words.index("--x0")
        words[at : at + 2] = [f"--x0={words[at + 1]}"]
    return words


# --- words as values ------------------------------------------------------------------------------


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 999999999")
    return int(text)


def cells(text: str) -> tuple[int, ...]:
    """The numbers of cells of a rod or a plate."""
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() and 1 < int(word) < 10**5 for word in words):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of cells such as 200 or 100x100"
        )
    return tuple(map(int, words))


def numbers(text: str) -> list[float]:
    """A list of numbers."""
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers such as 1,0,-0.5"
        ) from None
    if not np.isfinite(found).all():
        raise argparse.ArgumentTypeError(f"{text!r} holds a number that is not finite")
    return found


# --- options --------------------------------------------------------------------------------------


class Option(NamedTuple):
    """An option, and what argparse is told of it; `endings` are those of a file to be written."""

    name: str
    told: Mapping[str, Any]
    endings: tuple[str, ...] = ()


def option(
    name: str, metavar: str, kind: Any, help: str, default: Any = None, **told: Any
) -> Option:
    """An option with a word, of a kind: a function that reads it, or a list of the words to choose from."""
    if not callable(kind):
        help, told = f"{help}: {', '.join(kind)}", told | {"choices": kind}
        kind = str
    told |= {"metavar": metavar, "type": kind, "default": default, "help": help}
    return Option(name, told)


def flag(name: str, help: str) -> Option:
    """An option without a word."""
    return Option(name, {"action": "store_true", "help": help})


def target(name: str, metavar: str, help: str, *endings: str) -> Option:
    """An option for a file to be written, whose name has one of the endings."""
    kinds = " or ".join(filter(None, (", ".join(endings[:-1]), endings[-1])))
    return Option(name, {"metavar": metavar, "type": Path, "help": f"{help}: {kinds}"}, endings)


def system(default: str, systems: Mapping[str, Any]) -> Option:
    """The option for an example system."""

    def name(text: str) -> str:
        known = text if text in systems else _ALSO.get(text, text)
        if known not in systems:
            elsewhere = "; it is one of `lqrad swingup`" if text in NONLINEAR_SYSTEMS else ""
            raise argparse.ArgumentTypeError(
                f"invalid choice: {text!r} (choose from {', '.join(systems)}){elsewhere}"
            )
        return known

    words = f"an example system (default {default}): {', '.join(systems)}"
    words += "; cart-pole and inverted-pendulum are one"
    return option("--system", "NAME", name, words, default)


def source(default: str) -> tuple[Option, ...]:
    """The options for an example system or a file, one of which is given."""
    file = option("--file", "MODEL", Path, "a .json, .npz or .mat file")
    return system(default, SYSTEMS), file


def limits(max_iter: int, tol: float, meaning: str) -> tuple[Option, Option]:
    """The options for when to stop."""
    return (
        option("--max-iter", "K", count, f"limit on iterations ({max_iter})", max_iter),
        option("--tol", "TOL", float, f"{meaning} ({tol:g})", tol),
    )


# Where to start and how far to go.
START = (
    option("--horizon", "T", count, "number of inputs (default: the model's)"),
    option("--x0", "X,X,...", numbers, "initial state (default: the model's)"),
)
# What every command has.
COMMON = (
    target("--plot", "PICTURE", "save a picture", ".png", ".svg", ".pdf"),
    flag("--json", "print everything as JSON"),
)


def add_options(parser: Any, options: Sequence[Option | tuple[Option, ...]]) -> None:
    """Tell a parser of options; of those in a tuple, only one may be given."""
    for item in options:
        if isinstance(item, Option):
            parser.add_argument(item.name, **item.told)
        else:
            add_options(parser.add_mutually_exclusive_group(), item)
