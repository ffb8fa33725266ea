"""A receding-horizon controller as named arrays, of which a file can hold each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lqrad.arguments import Array, check_count, check_number, real_array
from lqrad.design.limits import Limit
from lqrad.design.mpc import MPC, mpc
from lqrad.design.observer import Observer
from lqrad.errors import ArgumentError
from lqrad.lq.problem import LQProblem
from lqrad.outside import check_names, naming, without_null

PLANNER_VERSION = 1  # of the layout of a file

_PROBLEM = ("A", "B", "Q", "R", "M", "c", "q", "r", "s")
_BOUNDS = ("input", "state", "rate")
_ENDS = {"low": -np.inf, "high": np.inf, "price": np.inf}  # infinite numbers are null in JSON
_OPTIONAL = ("S", "H", "Bd", "rate_weight", "blocks", "terminal", "names")
_OBSERVER = ("A", "B", "C", "L")
_LIMIT = ("C", "D", "low", "high", "price", "spring")


def planner_arrays(controller: MPC) -> dict[str, Any]:
    """Return what `planner_of` makes the controller of again: numbers, arrays and texts."""
    design = controller.design
    problem, terminal, rows = design["problem"], design["terminal"], list(design["rows"])
    data = {name: getattr(problem, name) for name in _PROBLEM}
    data |= {"S": problem.S} if problem.S_given else {}
    data |= {name: np.asarray(design[name]) for name in ("T", "max_iter", "tol")}
    for name in _BOUNDS:
        data |= {
            f"{name}_{end}": z
            for end, z in zip(("low", "high"), design[f"{name}_bounds"], strict=True)
        }
    for name in ("H", "Bd", "rate_weight", "blocks"):
        data |= {} if design[name] is None else {name: np.asarray(design[name])}
    if design["observer"] is not None:
        data |= {f"observer_{name}": getattr(design["observer"], name) for name in _OBSERVER}
    if isinstance(terminal, Limit):
        rows.append(terminal)
        terminal = "last limit"
    data |= {} if terminal is None else {"terminal": np.array(terminal)}
    if rows:
        data["names"] = np.array([limit.name or "" for limit in rows])
    for i, limit in enumerate(rows):
        arrays = {name: getattr(limit, name, None) for name in ("C", "D", "low", "high")}
        arrays |= limit.prices._asdict()
        data |= {f"limit_{i}_{name}": z for name, z in arrays.items() if z is not None}
    return data


def with_null(data: dict[str, Any]) -> dict[str, Any]:
    """Return arrays as lists for JSON, with null for infinite numbers."""
    return {name: _listed(np.asarray(array).tolist()) for name, array in data.items()}


def _listed(value: Any) -> Any:
    if isinstance(value, list):
        return [_listed(part) for part in value]
    return None if isinstance(value, float) and np.isinf(value) else value


def planner_of(path: Path, data: dict[str, Any]) -> MPC:
    """Return the controller of what a file holds."""
    names = _texts(data.get("names", []))
    terminal = None if "terminal" not in data else _texts([data["terminal"]])
    if names is None or ("terminal" in data and terminal is None):
        raise ArgumentError(f"{path}: names is no series of texts, or terminal no text")
    required = [
        *_PROBLEM,
        "T",
        "max_iter",
        "tol",
        *(f"{b}_{e}" for b in _BOUNDS for e in ("low", "high")),
    ]
    optional = [*_OPTIONAL, *(f"observer_{name}" for name in _OBSERVER)]
    optional += [f"limit_{i}_{name}" for i in range(len(names)) for name in _LIMIT]
    check_names(path, data, tuple(required), tuple(optional), "a receding-horizon controller")
    for name, value in data.items():
        end = name.rpartition("_")[2]
        if end in _ENDS:
            data[name] = without_null(value, _ENDS[end])
    with naming(path):
        problem = LQProblem(**{name: data[name] for name in (*_PROBLEM, "S") if name in data})
        rows = [_limit(data, i, name) for i, name in enumerate(names)]
        last: Limit | str | None = terminal[0] if terminal else None
        if last == "last limit" and rows:
            last = rows.pop()
        options = {name: data.get(name) for name in ("H", "Bd", "rate_weight", "blocks")}
        if options["blocks"] is not None:
            options["blocks"] = real_array("blocks", options["blocks"]).ravel()
        for name in _BOUNDS:
            options[f"{name}_bounds"] = tuple(data[f"{name}_{end}"] for end in ("low", "high"))
        held = [data[f"observer_{name}"] for name in _OBSERVER if f"observer_{name}" in data]
        if held and len(held) < len(_OBSERVER):
            raise ArgumentError("the observer lacks one of its arrays A, B, C, L")
        return mpc(
            problem,
            check_count("T", data["T"]),
            rows=rows,
            terminal=last,
            observer=Observer(*held) if held else None,
            max_iter=check_count("max_iter", data["max_iter"]),
            tol=check_number("tol", data["tol"], least=0),
            **options,
        )


def _texts(value: Any) -> list[str] | None:
    """A series of texts, of which arrays may be a part; None where it is none."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, list):
        return None
    texts = [
        part.item() if isinstance(part, np.ndarray) and part.ndim == 0 else part for part in value
    ]
    return texts if all(isinstance(part, str) for part in texts) else None


def _limit(data: dict[str, Any], i: int, name: str) -> Limit:
    """One of the limits of a file."""
    held: dict[str, Array | None] = {key: data.get(f"limit_{i}_{key}") for key in _LIMIT}
    return Limit(held.pop("C"), held.pop("D"), name=name or None, **held)
