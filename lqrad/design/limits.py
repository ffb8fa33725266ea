"""Limits on rows of states and inputs, and how those of a receding horizon are laid out.

low[t] <= C[t] x[t] + D[t] u[t] <= high[t],     t = 0 ... T-1
low[t] <= C[t] x[t+1]           <= high[t]      of rows without D, since x[0] is given
low    <= C x[T]                <= high         at the end of the horizon
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    check_choice,
    check_items,
    check_limits,
    check_type,
    frozen_array,
    real_array,
)
from lqrad.copies import Fixed
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, DtypeError, ShapeError
from lqrad.lq.prices import Prices, hard

Bounds = tuple[Array, Array]

_EXAMPLE = "Limit(C, low=-1, high=1)"


class Limit(Fixed):
    """Rows of states and inputs that `mpc` is to keep within limits.

        low[t] <= C[t] x[t] + D[t] u[t] <= high[t],     t = 0 ... T-1

    The state that a plan starts from is given, so that a row without inputs is one of the states
    after it: low[t] <= C[t] x[t+1] <= high[t]. Equal limits are an equation.

    Rows of inputs alone always hold. Those of states give way where no inputs keep all limits, and
    the plan says so. With a price or a spring rows are soft from the start: an excess e >= 0 of each
    adds price e + spring/2 e^2 to the cost. A price alone is exact: from a certain price on, told by
    `Plan.rows.least_price`, the plan is that of hard rows wherever these can be kept. A spring alone
    always gives way a little.

    Parameters
    ----------
    C : (k, n), (T, k, n) or StateSpace, optional
        Weights of the states; of a system, its outputs C x + D u. Zero when not given.
    D : (k, m) or (T, k, m), optional
        Weights of the inputs; zero when not given.
    low, high : number, (k,) or (T, k), optional
        -inf and inf, or None, where there is no limit.
    name : str, optional
        What messages and pictures call it.
    price, spring : number or (k,), optional
        What an excess costs, per unit of it, and per half its square. The price of a row that is hard
        is infinite; without either, all are.

    See Also
    --------
    mpc : takes them as its rows, and one of the last state as its terminal

    Examples
    --------
    Two pumps share a supply of 3, and the tank is to hold 5 after three steps:

    >>> import lqrad
    >>> problem = lqrad.LQProblem([[0.9]], [[1.0, 1.0]], [[1.0]], np.eye(2))
    >>> supply = Limit(D=[[1.0, 1.0]], high=3, name="supply")
    >>> due = np.full((4, 1), -np.inf)
    >>> due[2] = 5.0
    >>> level = Limit([[1.0]], low=due, name="level")
    >>> plan = lqrad.mpc(problem, 4, rows=[supply, level]).plan([0.0])
    >>> plan.x.ravel().round(3)
    array([0.   , 0.525, 2.222, 5.   , 1.256])
    >>> plan.u.sum(axis=1).round(3)
    array([ 0.525,  1.75 ,  3.   , -3.244])
    """

    C: Array | None
    D: Array | None
    low: Array
    high: Array
    name: str | None
    prices: Prices
    k: int
    T: int | None

    def __init__(
        self,
        C: ArrayLike | StateSpace | None = None,
        D: ArrayLike | None = None,
        *,
        low: ArrayLike | None = None,
        high: ArrayLike | None = None,
        name: str | None = None,
        price: ArrayLike | None = None,
        spring: ArrayLike | None = None,
    ) -> None:
        if isinstance(C, StateSpace):
            if D is not None:
                raise ArgumentError(
                    "D is given twice: the system has a D of its own", "leave D out"
                )
            D = C.D if C.D.any() else None
            C = C.C
        if C is None and D is None:
            raise ArgumentError(
                "neither C nor D is given: the rows are C x + D u", "give one of them"
            )
        if low is None and high is None:
            raise ArgumentError("neither low nor high is given", "give one of them")
        if name is not None and not isinstance(name, str):
            raise DtypeError(f"name is of type {type(name).__name__}, expected a text")
        found = {"C": C, "D": D}
        arrays = {key: frozen_array(key, z) for key, z in found.items() if z is not None}
        for key, array in arrays.items():
            if array.ndim not in (2, 3) or 0 in array.shape:
                letter = "n" if key == "C" else "m"
                raise ShapeError(
                    f"{key} has shape {array.shape}, expected (k, {letter}) or (T, k, {letter}), not "
                    "empty; write one row as [[...]]"
                )
        counts = {key: array.shape[-2] for key, array in arrays.items()}
        k = next(iter(counts.values()))
        if len(set(counts.values())) > 1:
            raise ShapeError(f"C has {counts['C']} rows and D has {counts['D']}")
        ends = {"low": low, "high": high}
        sides = {key: real_array(key, z) for key, z in ends.items() if z is not None}
        stages = {key: len(z) for key, z in arrays.items() if z.ndim == 3}
        stages |= {key: len(z) for key, z in sides.items() if z.ndim == 2}
        if len(set(stages.values())) > 1:
            words = ", ".join(f"{key} has {count}" for key, count in stages.items())
            raise ShapeError(f"what varies in time needs as many stages: {words}")
        T = next(iter(stages.values()), None)
        pair = check_limits(
            "the limits",
            (sides.get("low"), sides.get("high")),
            (k,) if T is None else (T, k),
            names=("low", "high"),
        )
        self._set(C=arrays.get("C"), D=arrays.get("D"), low=pair[0], high=pair[1], name=name)
        self._set(k=k, T=T, prices=_prices(price, spring, k))

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r}, "
        of = " and ".join(key for key in ("C", "D") if getattr(self, key) is not None)
        return f"Limit({name}{self.k} row{'s' * (self.k > 1)} of {of})"


def _prices(price: ArrayLike | None, spring: ArrayLike | None, k: int) -> Prices:
    """What an excess of each of k rows costs."""
    none = (np.inf if spring is None else 0.0), 0.0
    found = []
    for name, value, default in zip(("price", "spring"), (price, spring), none, strict=True):
        given = np.array(real_array(name, default if value is None else value))
        if given.shape not in ((), (k,)):
            raise ShapeError(f"{name} has shape {given.shape}, expected a number or ({k},)")
        worst = given.min()  # NaN where one is
        if not worst >= 0 or (name == "spring" and np.isinf(given).any()):
            finite = ", and finite" if name == "spring" else ""
            raise ArgumentError(
                f"{name} is {worst if not worst >= 0 else np.inf:.6g}, expected at least 0{finite}"
            )
        found.append(np.full(k, given) if given.ndim == 0 else given)
        found[-1].setflags(write=False)
    if ((found[0] == 0) & (found[1] == 0)).any():
        raise ArgumentError(
            "price and spring are 0: an excess would cost nothing",
            "give one of them, an infinite price where a row is hard, or leave the row out",
        )
    return Prices(*found)


class Layout(NamedTuple):
    """The rows of a horizon: (C[t] x[t] + D[t] u[t], E[t] x[t+1]) within limits.

    Attributes
    ----------
    C, D, E : (k, n), (k, m), (j, n), each also with a leading T axis
    low, high : (T, k+j)
        Infinite where there is no limit.
    names : list of str
    soft : (k+j,) of bool
        Those of states without a price, which give way where not all limits can be kept.
    prices : Prices of k+j rows
    from_target : (k+j,) of bool
        Those whose limits are of x - x_ref, the distance to the target.
    clipped : int
        The first rows, which are bounds of inputs and rates.
    """

    C: Array
    D: Array
    E: Array
    low: Array
    high: Array
    names: list[str]
    soft: NDArray[np.bool_]
    prices: Prices
    from_target: NDArray[np.bool_]
    clipped: int


class _Rows(NamedTuple):
    """Rows C x + D u, or E x of the next state."""

    C: Array
    D: Array | None
    low: Array
    high: Array
    names: list[str]
    gives: NDArray[np.bool_]
    prices: Prices
    from_target: bool = False


def check_rows(
    rows: Iterable[Limit] | None, terminal: Limit | str | None, n: int, m: int, T: int
) -> list[Limit]:
    """Return the limits of a horizon as a list, the terminal one checked as well."""
    limits = [] if rows is None else check_items("rows", rows, f"limits, such as {_EXAMPLE}")
    for j, limit in enumerate(limits):
        _check(f"rows[{j}]", limit, n, m, T)
    if isinstance(terminal, str):
        check_choice("terminal", terminal, ["origin", "invariant"])
    elif terminal is not None:
        _check("terminal", terminal, n, m, T)
        if terminal.D is not None or terminal.T is not None:
            part = "has a D" if terminal.D is not None else "varies in time"
            raise ArgumentError(f"terminal {part}, and limits the last state alone")
    return limits


def _check(name: str, limit: Limit, n: int, m: int, T: int) -> None:
    """Raise an error unless a limit is one, and fits the problem and the horizon."""
    check_type(name, limit, Limit, _EXAMPLE)
    for key, width, letter in (("C", n, "n"), ("D", m, "m")):
        array = getattr(limit, key)
        if array is not None and array.shape[-1] != width:
            raise ShapeError(
                f"{name}.{key} has rows of {array.shape[-1]} weights, expected {letter} = {width}"
            )
    if limit.T not in (None, T):
        raise ShapeError(f"{name} has {limit.T} stages, expected T = {T}")


def lay_out(
    n: int,
    m: int,
    bounds: tuple[Bounds, Bounds, Bounds],
    rows: Sequence[Limit],
    terminal: Limit | str | None,
) -> Layout:
    """Return the rows of a horizon: bounds of inputs, of rates and of states, limits, and of its end.

    With bounds of rates the input of the step before is part of the state, behind the n others.
    """
    of_u, of_rate, of_x = bounds
    T = len(of_u[0])
    on_rate = limited_columns(of_rate)
    width = n + m if len(on_rate) else n
    inputs, states = np.eye(m), np.eye(n, width)
    before = np.zeros((m, width))
    before[:, n:] = -np.eye(m)[:, : width - n]
    names = [f"u[{i}]" for i in range(m)]
    of_change = [f"the change of {name}" for name in names]
    free = np.zeros((m, width))
    parts = [
        _Rows(free, inputs, *of_u, names, np.zeros(m, bool), hard(m)),
        _Rows(before, inputs, *of_rate, of_change, np.zeros(m, bool), hard(m)),
        _Rows(states, None, *of_x, [f"x[{i}]" for i in range(n)], np.ones(n, bool), hard(n)),
    ]
    for j, limit in enumerate(rows):
        parts += _parts(limit, limit.name or f"rows[{j}]", width, m, T)
    if isinstance(terminal, Limit):
        (end,) = _parts(terminal, terminal.name or "terminal", width, m, 1)
        parts.append(_at_the_end(end, T))
    elif terminal is not None:
        zero, ends = np.zeros((1, n)), [f"the last x[{i}]" for i in range(n)]
        end = _Rows(states, None, zero, zero, ends, np.ones(n, bool), hard(n), from_target=True)
        parts.append(_at_the_end(end, T))
    clipped = len(limited_columns(of_u)) + len(on_rate)
    return _stacked(
        [part for part in map(_limited_alone, parts) if part.names], width, m, T, clipped
    )


def limited_columns(bounds: Bounds) -> NDArray[np.intp]:
    """The entries that have a bound at any time."""
    return np.flatnonzero((np.isfinite(bounds[0]) | np.isfinite(bounds[1])).any(axis=0))


def _parts(limit: Limit, name: str, width: int, m: int, T: int) -> list[_Rows]:
    """The rows of a limit: those with inputs, and those of the next state."""
    k = limit.k
    D = np.zeros((k, m)) if limit.D is None else limit.D
    C = np.zeros((k, width))
    if limit.C is not None:
        C = np.zeros((*limit.C.shape[:-1], width))
        C[..., : limit.C.shape[-1]] = limit.C
    low, high = (np.broadcast_to(z, (T, k)) for z in (limit.low, limit.high))
    names = [name] if k == 1 else [f"{name}[{i}]" for i in range(k)]
    direct, soft = ((z != 0).any(axis=-1).reshape(-1, k).any(axis=0) for z in (D, C))
    found = []
    for at, of_inputs in ((np.flatnonzero(direct), True), (np.flatnonzero(~direct), False)):
        if len(at):
            of_u = D[..., at, :] if of_inputs else None
            named = [names[i] for i in at]
            ends, prices = (low[:, at], high[:, at]), limit.prices.of_rows(at)
            found.append(_Rows(C[..., at, :], of_u, *ends, named, soft[at], prices))
    return found


def _limited_alone(rows: _Rows) -> _Rows:
    """The rows that have a limit at any time."""
    at = limited_columns((rows.low, rows.high))
    return rows._replace(
        C=rows.C[..., at, :],
        D=None if rows.D is None else rows.D[..., at, :],
        low=rows.low[:, at],
        high=rows.high[:, at],
        names=[rows.names[i] for i in at],
        gives=rows.gives[at],
        prices=rows.prices.of_rows(at),
    )


def _at_the_end(rows: _Rows, T: int) -> _Rows:
    """The same rows at the last stage only."""
    none = np.full((T - 1, len(rows.names)), np.inf)
    return rows._replace(low=np.vstack([-none, rows.low]), high=np.vstack([none, rows.high]))


def _stacked(parts: list[_Rows], width: int, m: int, T: int, clipped: int) -> Layout:
    """All rows in one layout: those with inputs first."""
    now = [part for part in parts if part.D is not None]
    ahead = [part for part in parts if part.D is None]
    every = now + ahead
    counts = [len(part.names) for part in every]
    none = np.zeros((2, 0))
    prices = Prices(*np.hstack([none, *(np.stack(part.prices) for part in every)]))
    gives = np.concatenate([np.zeros(0, bool), *(part.gives for part in every)])
    return Layout(
        _one_below_another([part.C for part in now], width),
        _one_below_another([part.D for part in now if part.D is not None], m),
        _one_below_another([part.C for part in ahead], width),
        np.hstack([np.zeros((T, 0)), *(part.low for part in every)]),
        np.hstack([np.zeros((T, 0)), *(part.high for part in every)]),
        [name for part in every for name in part.names],
        gives & prices.hard,
        prices,
        np.repeat([part.from_target for part in every], counts).astype(bool),
        clipped,
    )


def _one_below_another(arrays: list[Array], width: int) -> Array:
    """Rows of several arrays in one, which varies in time where one of them does."""
    stages = np.broadcast_shapes(*(array.shape[:-2] for array in arrays))
    arrays = [np.broadcast_to(array, (*stages, *array.shape[-2:])) for array in arrays]
    return np.concatenate([np.zeros((*stages, 0, width)), *arrays], axis=-2)
