"""Controllability and observability: which modes the inputs can move, and which the outputs show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import Array, direction_words, number_words, real_array
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError
from lqrad.linalg.hautus import Hautus, hautus
from lqrad.results import Cells, Report, number

# A mode counts as out of reach where the distance of Hautus's test is below this, that of a change of
# the matrices which rounding errors could have made.
_OUT_OF_REACH = 1e-10


@dataclass(frozen=True, eq=False, repr=False)
class Modes(Report):
    """The modes of a system, and whether each is in reach of its inputs, or of its outputs.

    Attributes
    ----------
    eigenvalues : (n,), complex
        The largest magnitude first.
    distances : (n,)
        The distance to the nearest system in which the mode is out of reach, relative to the matrices
        in balanced units.
    directions : (n, n), complex
        A row for each mode: the left eigenvector that is nearest to being orthogonal to B, or the
        right one to C. Its largest entry in balanced units is one.
    reached : (n,) of bool
        As many are true as the dimension of the reachable, or the observable, subspace; of a multiple
        eigenvalue some may be and some not.
    stable : (n,) of bool
    through : "inputs" or "outputs"
    units : (n,) of int
        The balanced unit of each state is 2^units.
    """

    eigenvalues: NDArray[np.complex128]
    distances: Array
    directions: NDArray[np.complex128]
    reached: NDArray[np.bool_]
    stable: NDArray[np.bool_]
    through: str
    units: NDArray[np.int64]

    @property
    def all_reached(self) -> bool:
        """Whether the system is controllable, or observable."""
        return bool(self.reached.all())

    @property
    def unstable_reached(self) -> bool:
        """Whether the system is stabilisable, or detectable."""
        return bool((self.reached | self.stable).all())

    def __repr__(self) -> str:
        words = {
            "inputs": ("controllable", "stabilisable"),
            "outputs": ("observable", "detectable"),
        }[self.through]
        if self.all_reached:
            return f"<Modes: {len(self.reached)}, {words[0]}>"
        lost = [number_words(z) for z in self.eigenvalues[~self.reached]]
        kind = f"{'' if self.unstable_reached else 'not '}{words[1]}"
        return f"<Modes: {len(self.reached)}, {kind}; out of reach of {self.through}: {', '.join(lost)}>"

    def cells(self) -> Cells:
        """Return the columns and a row for each mode; with its direction, where it is out of reach."""
        rows = []
        for i, mode in enumerate(self.eigenvalues):
            stable, reached = (
                "yes" if flag else "no" for flag in (self.stable[i], self.reached[i])
            )
            lost = "" if self.reached[i] else direction_words(self.directions[i], "x", self.units)
            distance = f"{self.distances[i]:.1e}"
            rows.append([number_words(mode), number(abs(mode)), stable, reached, distance, lost])
        return ("mode", "magnitude", "stable", "reached", "distance", "out of reach"), rows


def controllability(system: Any, B: ArrayLike | None = None) -> Modes:
    """Return which modes the inputs can move.

    Parameters
    ----------
    system : StateSpace or what `StateSpace.of` takes, or A (n, n) of a system in discrete time
    B : (n, m), where A is given

    See Also
    --------
    observability : its dual

    References
    ----------
    Hautus, Controllability and observability conditions of linear autonomous systems, Indagationes
    Mathematicae 31, 1969, 443-448.
    Eising, Between controllable and uncontrollable, Systems & Control Letters 4(5), 1984, 263-264
    (the distance).

    Examples
    --------
    >>> found = controllability([[1.2, 0.0], [0.0, 0.5]], [[0.0], [1.0]])
    >>> found
    <Modes: 2, not stabilisable; out of reach of inputs: 1.2>
    >>> print(found.table())
    mode  magnitude  stable  reached  distance  out of reach
    --------------------------------------------------------
     1.2        1.2  no      no        0.0e+00  1 in x[0]
     0.5        0.5  yes     yes       5.4e-01
    """
    system = _system(system, B, None, "B")
    return _modes(hautus(system.A, system.B, zero=_OUT_OF_REACH), system, "inputs")


def observability(system: Any, C: ArrayLike | None = None) -> Modes:
    """Return which modes the outputs show.

    Parameters
    ----------
    system : StateSpace or what `StateSpace.of` takes, or A (n, n) of a system in discrete time
    C : (ny, n), where A is given

    See Also
    --------
    controllability : its dual; cites the sources

    Examples
    --------
    >>> observability([[1.0, 0.1], [0.0, 1.0]], [[0.0, 1.0]])      # the speed does not tell where
    <Modes: 2, not detectable; out of reach of outputs: 1>
    """
    system = _system(system, None, C, "C")
    found = hautus(system.A.T, system.C.T, zero=_OUT_OF_REACH)
    return _modes(found._replace(directions=found.directions.conj()), system, "outputs")


def _system(system: Any, B: ArrayLike | None, C: ArrayLike | None, name: str) -> StateSpace:
    """A system, or one in discrete time of two matrices."""
    if B is None and C is None:
        try:
            return StateSpace.of(system)
        except ArgumentError as error:
            if isinstance(system, (list, tuple, np.ndarray)):
                raise ArgumentError(
                    f"A is given and {name} is not; pass both, or a system"
                ) from error
            raise
    A = real_array("A", system)
    n = A.shape[-1] if A.ndim else 1
    return StateSpace(A, np.zeros((n, 1)) if B is None else B, C, dt=1.0)


def _modes(found: Hautus, system: StateSpace, through: str) -> Modes:
    modes, distances, directions, reached, units = found
    stable = np.abs(modes) < 1 if system.dt else modes.real < 0
    return Modes(modes, distances, directions, reached, stable, through, units)
