"""What the example systems share: a name, a source, and a task over T steps of dt seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from lqrad.arguments import Array, frozen_array
from lqrad.copies import ReadOnly


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Example(ReadOnly):
    """A base of plants with a name and a task: what to do from x0 in T steps.

    Parameters
    ----------
    name : str
        What the command line calls it.
    x0 : (n,)
        An initial state.
    T : int
        The horizon: a number of inputs in which an optimal controller does most of the task.
    dt : float
        Time from one sample to the next, in seconds.
    source : str
        Where the equations and the numbers come from.
    """

    name: str
    x0: Array
    T: int
    dt: float
    source: str
    _arrays: ClassVar[tuple[str, ...]] = ("x0",)

    def __post_init__(self) -> None:
        for name in self._arrays:
            object.__setattr__(self, name, frozen_array(name, getattr(self, name)))

    @property
    def horizon(self) -> int:
        """`T`, under its former name."""
        return self.T

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return f"{type(self).__name__} {self.name}: {self._sizes()}, dt={self.dt:g} s, T={self.T}"

    def _sizes(self) -> str:
        return f"n={len(self.x0)}"

    def __repr__(self) -> str:
        return f"<{self.title}>"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Plant(Example):
    """A base of plants of a few states and inputs, each with a name and a unit.

    Parameters
    ----------
    name, x0, T, dt, source
        As of `Example`.
    state_names, input_names : tuple of str
        What each state and each input is.
    state_units, input_units : tuple of str
        Their units; "1" where there is none.
    """

    state_names: tuple[str, ...]
    input_names: tuple[str, ...]
    state_units: tuple[str, ...]
    input_units: tuple[str, ...]

    def _sizes(self) -> str:
        return f"n={len(self.x0)}, m={len(self.input_names)}"


def columns(states: Iterable[Any], inputs: Iterable[Any]) -> tuple[dict[str, Any], Any, Any]:
    """Return the names and units of a `Plant`, and what else is said of its states and its inputs.

    Examples
    --------
    >>> names, limits, _ = columns([("angle", "rad", 0.2), ("rate", "1/s", 1.0)], [("force", "N")])
    >>> names["state_units"], limits
    (('rad', '1/s'), [(0.2, 1.0)])
    """
    (state_names, state_units, *of_states), (input_names, input_units, *of_inputs) = (
        zip(*rows, strict=True) for rows in (states, inputs)
    )
    names = {
        "state_names": state_names,
        "input_names": input_names,
        "state_units": state_units,
        "input_units": input_units,
    }
    return names, of_states, of_inputs
