"""What the example systems share: a name, a source, and a task over T steps of dt seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
