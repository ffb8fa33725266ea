"""Functions that a user wrote: how they are called, and what their errors say.

They get arrays that cannot be written to. What they raise names them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import numpy as np

from lqrad.errors import ArgumentError, LqradError
from lqrad.functions.carried import Carried, read_only

IN_PLACE = (
    "its arguments cannot be written to; write x = x - goal, which makes a new array, for x -= goal, "
    "or start from x = x.copy()"
)
_TIMES = {"t", "time", "k", "step", "stage"}  # what a third argument with a default may be called


def called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return function(*arguments), of arguments that it cannot write to.

    Raises
    ------
    ArgumentError
        For what is raised by functions that are given arrays of another shape than they are written
        for, or write to them; it names the function. Other exceptions get a note of it.
    """
    try:
        return function(*map(read_only, arguments))
    except Exception as error:  # whatever a user's function raises is to name it
        raise_named(name, error, *arguments)


def raise_named(name: str, error: Exception, *arguments: Any) -> NoReturn:
    """Raise what a function raised for these arguments, as `called` says."""
    if isinstance(error, LqradError):
        raise error
    if isinstance(error, (TypeError, ValueError, IndexError, AttributeError)):
        text = " ".join(str(error).split())
        raise ArgumentError(
            f"{name} raised {type(error).__name__} {_where(arguments)}: {text}", _remedy(text)
        ) from error
    error.add_note(f"this came from {name}, called {_where(arguments)}")
    raise error


def unwritten(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return function(*arguments); what it raises is its own, but an ArgumentError if it writes to them."""
    try:
        return function(*map(read_only, arguments))
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise ArgumentError(f"{name} writes to its argument: {error}", IN_PLACE) from error


def _where(arguments: tuple[Any, ...]) -> str:
    """The points (x, u) and the time of a call, or the states x alone."""
    shapes = " and ".join(f"{c} {np.shape(z)}" for c, z in zip("xu", arguments, strict=False))
    at = f" at t = {arguments[2]:g}" if len(arguments) > 2 and np.ndim(arguments[2]) == 0 else ""
    return f"for {shapes}{at}"


def _remedy(text: str) -> str:
    if "read-only" in text:
        return IN_PLACE
    return (
        "write it for leading axes, with x[..., 0], np.stack(..., axis=-1), .sum(axis=-1) and "
        "np.where, or make a function of one point one of many by lqrad.one_point"
    )


def with_time(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as one of (x, u, t), where it may be one of (x, u).

    A third argument is the time, also one with a default if it is called t, time, k, step or stage.

    Raises
    ------
    ArgumentError
        If it is no function of two or three arguments, or the third may be the time or not.

    Examples
    --------
    >>> with_time("f", lambda x, u: x + u)(1, 2, 3)
    3
    >>> with_time("f", lambda x, u, t=0: x + u + t)(1, 2, 3)
    6
    """
    if not callable(function):
        raise ArgumentError(f"{name} is {function!r}, expected a function of (x, u) or (x, u, t)")
    # numpy.vectorize takes any arguments and hands them on.
    inner = function.pyfunc if isinstance(function, np.vectorize) else function
    try:
        parameters = inspect.signature(inner).parameters.values()
    except (TypeError, ValueError):  # some built-in functions do not tell
        return _two_or_three(function)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in positional)
    more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if more and needed < 2:
        return _two_or_three(function)
    if needed > 3 or len(positional) < 2:
        raise ArgumentError(
            f"{name} takes {needed} arguments, expected two, (x, u), or three, (x, u, t)"
        )
    if len(positional) == 2:
        return function if more else lambda x, u, t: function(x, u)
    third = positional[2]
    if third.default is third.empty or third.name in _TIMES:
        return function
    if third.default is None or (np.ndim(third.default) == 0 and third.default == 0):
        raise ArgumentError(
            f"{name} has a third argument, {third.name}={third.default!r}, which may be the time",
            f"call it t if it is, or else let it be given by name only, def {name}(x, u, *, "
            f"{third.name}={third.default!r})",
        )
    return lambda x, u, t: function(x, u)


def _two_or_three(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that does not tell its arguments: of three, or of two if it takes no three."""
    takes: list[int] = []

    def either(*arguments: Any) -> Any:
        if takes:
            return function(*arguments[: takes[0]])
        try:
            value, count = function(*arguments), 3
        except TypeError as error:
            try:
                value, count = function(*arguments[:2]), 2
            except TypeError:
                raise error from None
        takes.append(count)
        return value

    return either


def one_point(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of many points, from one that is written for a single point.

    It calls the function for each point, which takes time: T calls for a trajectory of T steps.

    Parameters
    ----------
    function : callable
        (x, u), (x, u, t) or x -> a state (n,) or a number, for x (n,), u (m,) and a number t.

    Returns
    -------
    callable
        The same for x (..., n), u (..., m) and t (...), for `lqrad.ControlProblem`.

    See Also
    --------
    ControlProblem : takes functions for many points.

    Examples
    --------
    >>> swing = one_point(lambda x, u: [x[0] + 0.1 * x[1], x[1] + 0.1 * (np.sin(x[0]) + u[0])])
    >>> swing(np.zeros((5, 2)), np.ones((5, 1))).shape
    (5, 2)
    """

    @wraps(function)
    def many(*arguments: Any) -> Any:
        *points, t = (*arguments, None) if len(arguments) < 3 else arguments
        batch = np.broadcast_shapes(*(np.shape(z)[:-1] for z in points))
        points = [np.broadcast_to(z, batch + np.shape(z)[-1:]) for z in points]
        times = [] if t is None else [np.broadcast_to(t, batch)]
        values = [
            _stacked(function(*(z[i] for z in points), *(k[i] for k in times)))
            for i in np.ndindex(*batch)
        ]
        return np.reshape(np.stack(values), batch + np.shape(values[0]))

    return many


def _stacked(value: Any) -> Any:
    """A list of numbers as an array, also of numbers that carry derivatives."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = list(value)  # what np.array made of such numbers
    if isinstance(value, (list, tuple)):
        return np.stack([_stacked(part) for part in value])
    return value if isinstance(value, Carried) else np.asarray(value)
