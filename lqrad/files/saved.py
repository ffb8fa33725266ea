"""What was learned or designed, in files: parameters of networks and controllers, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_limits, check_number, check_type, real_array
from lqrad.design.controller import Controller
from lqrad.design.mpc import MPC
from lqrad.design.observer import Observer
from lqrad.errors import ArgumentError, DtypeError
from lqrad.files.planners import PLANNER_VERSION, planner_arrays, planner_of, with_null
from lqrad.outside import (
    check_names,
    naming,
    of_version,
    read_archive,
    read_named,
    replace_file,
    replace_npz,
    with_ending,
    without_null,
)

_PARAMETERS_VERSION = 1  # of the layout of a file of parameters


def save_parameters(path: str | Path, theta: Mapping[str, ArrayLike]) -> None:
    """Write the parameters of a network to a file, which `load_parameters` reads bit for bit.

    Parameters
    ----------
    path : str or Path
        A name that ends in .npz. A file of this name is replaced as a whole: whenever the machine
        stops, it is the old one or the new.
    theta : dict of name to array
        Any names, arrays of real numbers of any shapes.

    See Also
    --------
    load_parameters : reads them again.
    sgd : trains them.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "network.npz"
    ...     save_parameters(path, {"W1": [[0.5, -1.0]], "b1": [0.1]})
    ...     load_parameters(path)
    {'W1': array([[ 0.5, -1. ]]), 'b1': array([0.1])}
    """
    path = with_ending(path, (".npz",))
    check_type("theta", theta, Mapping, "graph.initial(rng)")
    names = np.array(list(theta), dtype=str)
    if names.tolist() != list(theta):  # a number, or a text that NumPy would shorten
        raise ArgumentError(
            f"theta has the keys {', '.join(map(repr, theta))}, expected texts without NULs"
        )
    # Under numbers: savez has arguments of its own, which a name must not meet.
    arrays: dict[str, Any] = {
        f"parameter_{i}": real_array(f"theta[{name!r}]", value)
        for i, (name, value) in enumerate(theta.items())
    }
    replace_npz(path, parameters_version=np.array(_PARAMETERS_VERSION), names=names, **arrays)


def load_parameters(path: str | Path) -> dict[str, Array]:
    """Read the parameters that `save_parameters` wrote to a .npz file, in the same order.

    Raises
    ------
    ArgumentError, DtypeError
        If the file is not one of parameters, or of another version; names it.

    See Also
    --------
    save_parameters : writes the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_parameters(f"{folder}/line.npz", {"W": [[2.0]], "b": [1.0]})
    ...     load_parameters(f"{folder}/line.npz")
    {'W': array([[2.]]), 'b': array([1.])}
    """
    path = with_ending(path, (".npz",))
    data = read_archive(path, "parameters", _PARAMETERS_VERSION)
    names = data.get("names", np.array(0))
    if names.dtype.kind != "U" or names.ndim != 1 or len(set(names.tolist())) != names.size:
        raise ArgumentError(f"{path}: names is no series of texts, each another")
    held = [f"parameter_{i}" for i in range(names.size)]
    check_names(path, data, ("names", *held), (), "a file of parameters")
    for name in held:
        if data[name].dtype != np.float64:
            raise DtypeError(f"{path}: {name} is of type {data[name].dtype}, expected float64")
    return {name: data[key] for name, key in zip(names.tolist(), held, strict=True)}


_CONTROLLER = ("A", "B", "C", "L", "K", "K_i", "H", "F", "low", "high", "dt")
_FEEDTHROUGH = ("D", "G")  # written where they are not zero
_CONTROLLER_VERSION = 1  # of the layout of a file of a controller


def save_controller(path: str | Path, controller: Controller | MPC) -> None:
    """Write a controller to a file, which `load_controller` reads bit for bit.

    Parameters
    ----------
    path : str or Path
        A name that ends in .json or .npz. A file of this name is replaced as a whole. It holds the
        arrays of `Controller` under their names, dt, and the version of this layout, or what `mpc`
        was given; in .json an infinite limit is null.
    controller : Controller or MPC
        Its design is written, and not its memory.

    See Also
    --------
    load_controller : reads it again, bit for bit.

    Examples
    --------
    >>> import tempfile
    >>> from lqrad import StateSpace, lqi
    >>> controller = lqi(StateSpace([[0.9]], [[0.1]], dt=0.1), [[1]], [[1]], [[0.1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_controller(f"{folder}/speed.json", controller)
    ...     load_controller(f"{folder}/speed.json").K == controller.K
    array([[ True]])
    """
    path = with_ending(path, (".json", ".npz"))
    if isinstance(controller, MPC):
        arrays, kind, version = planner_arrays(controller), "mpc", PLANNER_VERSION
    else:
        check_type("controller", controller, Controller, "lqi(plant, Q, R, Q_i)")
        arrays, kind, version = _controller_arrays(controller), "controller", _CONTROLLER_VERSION
    if path.suffix.lower() == ".npz":
        replace_npz(path, **{f"{kind}_version": np.array(version)}, **arrays)
        return
    data = {f"{kind}_version": version} | with_null(arrays)
    # Python writes a float so that it reads back to the same bits.
    text = json.dumps(data, indent=1, allow_nan=False)
    replace_file(path, lambda file: file.write(f"{text}\n".encode()))


def _controller_arrays(controller: Controller) -> dict[str, Any]:
    """The arrays of a controller, under their names."""
    sources = dict.fromkeys("ABCDL", controller.observer)
    arrays = {
        name: getattr(sources.get(name, controller), name) for name in _CONTROLLER + _FEEDTHROUGH
    }
    for name in _FEEDTHROUGH:
        if not arrays[name].any():
            del arrays[name]
    return arrays


def load_controller(path: str | Path) -> Controller | MPC:
    """Read a controller that `save_controller` wrote to a .json or .npz file, with an empty memory.

    Raises
    ------
    ArgumentError, ShapeError, DtypeError, NonFiniteError
        If the file is not one of a controller, or of another version, or if its arrays are no
        controller; names the file and the array.

    See Also
    --------
    save_controller : writes the file.

    Examples
    --------
    >>> import tempfile
    >>> from lqrad import StateSpace, lqi
    >>> controller = lqi(StateSpace([[0.9]], [[0.1]], dt=0.1), [[1]], [[1]], [[0.1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_controller(f"{folder}/speed.npz", controller)
    ...     load_controller(f"{folder}/speed.npz")
    Controller(n=1, m=1, ny=1, dt=0.1 s, 1 tracked with integral action)
    """
    path = with_ending(path, (".json", ".npz"))
    data = read_named(path)
    if "mpc_version" in data:
        return planner_of(path, of_version(path, data, "mpc", PLANNER_VERSION))
    data = of_version(path, data, "controller", _CONTROLLER_VERSION)
    check_names(path, data, _CONTROLLER, _FEEDTHROUGH, "a controller")
    with naming(path):
        observer = Observer(data["A"], data["B"], data["C"], data["L"], D=data.get("D"))
        ends = without_null(data["low"], -np.inf), without_null(data["high"], np.inf)
        limits = check_limits("low and high", ends, (observer.B.shape[1],), names=("low", "high"))
        options: dict[str, Any] = {name: real_array(name, data[name]) for name in ("H", "K_i", "F")}
        if not any(array.size for array in options.values()):
            options = {}  # nothing is tracked, and an array without entries has no shape in JSON
        options |= {"G": data["G"]} if "G" in data else {}
        dt = check_number("dt", data["dt"], above=0)
        return Controller(observer, data["K"], dt=dt, input_bounds=limits, **options)
