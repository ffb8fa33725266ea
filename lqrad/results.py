"""What every result offers, and how a result finds its picture.

Results do not know how they are drawn. The pictures of a chapter say which result each of them
draws, `draw.register(Comparison, plot_comparison)`, and are imported when the first is asked for.
"""

from __future__ import annotations

from functools import singledispatch
from importlib import import_module
from typing import Any

from lqrad.errors import DtypeError


@singledispatch
def draw(result: Any, *details: Any, **options: Any) -> Any:
    """Draw a result by the function that was registered for its type."""
    raise DtypeError(
        f"there is no picture of a {type(result).__name__}",
        "lqrad.plotting has pictures of arrays, such as plot_trajectory(x, u)",
    )


def plot(result: Any, *details: Any, **options: Any) -> Any:
    """Draw a result.

    Parameters
    ----------
    result
        What a function of lqrad returned.
    *details, **options
        Those of the function in `lqrad.plotting` that draws results of this type.

    Returns
    -------
    matplotlib Axes or Figure

    Raises
    ------
    DtypeError
        If there is no picture of it.

    Examples
    --------
    >>> import lqrad
    >>> ax = plot(lqrad.gradient_growth([[1.5]], T=100))
    >>> ax.get_ylabel()
    '|d x[T] / d x[t+1]|'
    """
    package, _, inside = type(result).__module__.partition(".")
    chapter, _, module = inside.partition(".")
    if package == "lqrad" and module:
        import_module(f"lqrad.{chapter}.pictures")
    return draw(result, *details, **options)


class Report:
    """A base of results: each has a picture."""

    def plot(self, *details: Any, **options: Any) -> Any:
        """Draw the result; `lqrad.plot` of it."""
        return plot(self, *details, **options)
