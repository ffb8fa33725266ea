"""The command line: `lqrad`, or `python -m lqrad`."""

from lqrad.cli.program import main

__all__ = ["main"]
