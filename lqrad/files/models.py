"""Models in files (.json, .npz, .mat): one format for all that is done with a model.

A file holds arrays under their names: A, B, Q, R, and as may be S, M, c, q, r, s, of

    x[t+1] = A x[t] + B u[t] + c,
    J = sum_t (1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u) + 1/2 x[T]'S x[T] + s'x[T];

those that vary in time have a leading axis of T stages. With dt, the seconds from one sample to the
next, and no "discrete": 1, A and B are those of dx/dt = A x + B u, and Q, R, M are
weights per second: the model is sampled when it is read. The file may also hold

    x0, T            an initial state and a horizon
    C, D, W, V       what is measured, C x + D u; covariances per step, of the state and of that
    m0, P0, d        of a smoother: the mean and covariance of x[0]; the offset of what is measured
    tracked, Q_i     the rows H of what is to follow a reference, H x; the weight of its integrators
    low, high        limits of the inputs; null in .json where there is none
    reference        what H x is to be in a simulation
    input_delay      the seconds until an input acts: earlier inputs become further entries of the
                     state, for which C, S, s, W, tracked and x0 get zeros

A matrix or a vector of one number may be that number. Names that are of no use are told and left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lqrad.arguments import Array, check_limits, check_number, check_shape, frozen_array, real_array
from lqrad.design.sampling import discretise
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, ShapeError
from lqrad.lq.problem import LQProblem
from lqrad.outside import READERS, check_names, naming, read_named, with_ending, without_null
from lqrad.smoothing.model import SmoothingProblem

# How many axes each array has, without that of the stages.
_AXES = dict.fromkeys(("A", "B", "C", "D", "Q", "R", "S", "M", "W", "V", "P0", "Q_i", "tracked"), 2)
_AXES |= dict.fromkeys(("c", "q", "r", "s", "x0", "m0", "d", "low", "high", "reference"), 1)
_AXES |= dict.fromkeys(("T", "dt", "input_delay", "discrete"), 0)

# Those of the axes that are as long as the state.
_STATE_AXES = {"C": (1,), "S": (0, 1), "s": (0,), "W": (0, 1), "tracked": (1,), "x0": (0,)}

# What other programs call them, and what is easily forgotten.
_HINTS = {
    "dt": 'a model in discrete time has dt too, and "discrete": 1',
    "N": "the cross weight, MATLAB's N, is called M here, and a horizon T",
    "Ts": "the sampling time is called dt",
    "Qn": "the covariance of the state's noise is called W",
    "Rn": "the covariance of the noise of what is measured is called V",
    "H": "the rows of what is tracked are called tracked",
}


@dataclass(frozen=True)
class Model:
    """What a file holds: a problem, and an initial state and a horizon where it gives them.

    The last `before` entries of the state are earlier inputs; `unused` are the other names in the
    file.
    """

    problem: LQProblem
    x0: Array | None
    T: int | None
    before: int = 0
    unused: tuple[str, ...] = ()


def load_model(path: str | Path) -> Model:
    """Read a problem: A, B, Q, R, and if there are any S, M, c, q, r, s, x0, T, dt, input_delay.

    Parameters
    ----------
    path : str or Path
        A file whose name ends in .json, .npz or .mat (MATLAB's format up to version 7). The head of
        this module says what its arrays mean.

    Raises
    ------
    ArgumentError, ShapeError, DtypeError, NonFiniteError, NotConvexError
        If the file cannot be read, lacks an array or holds a name that is not known, or if its arrays
        are no problem. Names the file.

    See Also
    --------
    load_plant, load_smoothing_model : the other kinds of model.
    LQProblem : what `Model.problem` is.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.json"
    ...     _ = path.write_text('{"A": 0.5, "B": 1, "Q": 1, "R": 1, "x0": 8}')
    ...     load_model(path).x0
    array([8.])
    """
    data = _read_model(path, ("A", "B", "Q", "R"))
    with naming(path):
        data, _, before = _in_steps(data)
        x0, T = data.pop("x0", None), data.pop("T", None)
        terms = {name: data.pop(name) for name in "ABQRSMcqrs" if name in data}
        problem = LQProblem(**terms)
        if x0 is not None:
            x0 = frozen_array("x0", x0)
            check_shape("x0", x0, (problem.n,), f"to match A {problem.A.shape}", symbols="(n,)")
        if T is not None:
            T = problem.horizon(T)
    T = T if problem.T is None else problem.T
    return Model(problem, x0, T, before, tuple(data))


def load_smoothing_model(path: str | Path) -> SmoothingProblem:
    """Read a smoothing problem: A, C, W, V, and if there are any m0, P0, c, d, dt.

    Parameters
    ----------
    path : str or Path
        A file as of `load_model`. Without P0 there is no prior. Inputs and costs are not used.

    See Also
    --------
    load_series : reads what is to be smoothed.
    SmoothingProblem : the model itself.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.json"
    ...     _ = path.write_text('{"A": [[1]], "C": [[1]], "W": [[1469.1]], "V": [[15099]]}')
    ...     load_smoothing_model(path)
    SmoothingProblem(n=1, ny=1, time-invariant, no prior)
    """
    data = _read_model(path, ("A", "C", "W", "V"))
    names = ("A", "C", "W", "V", "m0", "P0", "c", "d")
    with naming(path):
        of_states = {name: z for name, z in data.items() if name in (*names, "dt", "discrete")}
        of_states, *_ = _in_steps(of_states)
        return SmoothingProblem(**{"m0": None, "P0": None} | of_states)


@dataclass(frozen=True)
class PlantFile:
    """What a file holds for a design: the sampled plant, and the arguments of `design_controller`.

    `unused` are the other names in the file.
    """

    plant: StateSpace
    arguments: dict[str, Any]
    unused: tuple[str, ...] = ()


def load_plant(path: str | Path) -> PlantFile:
    """Read a plant and what its controller is to be designed for: A, B, Q, R, dt and more.

    Parameters
    ----------
    path : str or Path
        A file as of `load_model`. It may hold M; C, D, W and V, for an estimator, the whole state
        being measured where there are none; tracked, Q_i, low, high, input_delay, discrete,
        reference and x0.

    Raises
    ------
    ArgumentError
        Also if the file has C without W and V: no design would use such a sensor.

    See Also
    --------
    load_model : a problem whose matrices are in discrete time.
    design_controller : what a plant is read for.

    Examples
    --------
    >>> import tempfile
    >>> text = '{"A": [[-1]], "B": [[1]], "Q": [[1]], "R": [[1]], "dt": 0.1, "low": -2}'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "motor.json"
    ...     _ = path.write_text(text)
    ...     load_plant(path).plant.A.round(4)
    array([[0.9048]])
    """
    data = _read_model(path, ("A", "B", "Q", "R", "dt"))
    with naming(path):
        if {"C", "D"} & data.keys() and not {"W", "V"} <= data.keys():
            raise ArgumentError(
                "C says what is measured, but an estimate of the state from it needs W and V",
                "add both, or leave C out where the whole state is measured; rows that are to follow "
                "a reference are called tracked",
            )
        if "W" in data and "C" not in data:
            data["C"] = np.eye(real_array("A", data["A"]).shape[-1])
        data, dt, _ = _in_steps(data)
        if dt is None:
            raise ArgumentError("dt is null, expected the seconds from one sample to the next")
        A, B, C, D = (data.pop(name, None) for name in "ABCD")
        plant = StateSpace(A, B, C, D, dt=dt)
        low = without_null(data.pop("low", None), -np.inf)
        high = without_null(data.pop("high", None), np.inf)
        bounds = check_limits("low and high", (low, high), (plant.m,), names=("low", "high"))
        names = ("Q", "R", "M", "W", "V", "Q_i", "tracked", "reference", "x0")
        arguments = {name: frozen_array(name, data.pop(name)) for name in names if name in data}
        if "tracked" in arguments:
            arguments["H"] = arguments.pop("tracked")
    return PlantFile(plant, arguments | {"input_bounds": bounds}, tuple(data))


def _read_model(path: str | Path, required: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of a model file, all of the required ones, each with the axes that it has."""
    path = with_ending(path, tuple(READERS))
    data = {name: z for name, z in read_named(path).items() if z is not None or name in required}
    optional = tuple(name for name in _AXES if name not in required)
    check_names(path, data, required, optional, "a model", _HINTS)
    if path.suffix.lower() == ".mat":
        data = {name: _from_matlab(name, value, data) for name, value in data.items()}
    with naming(path):
        return {name: _with_axes(name, value) for name, value in data.items()}


def _with_axes(name: str, value: Any) -> Any:
    """A number as the matrix or vector that it stands for; an array of one number as a number."""
    in_box = isinstance(value, np.ndarray) and value.size == 1
    if _AXES[name] == 0 or (in_box and name in ("low", "high")):
        return value.item() if in_box else value
    if isinstance(value, (int, float)) or (in_box and value.ndim == 0):
        return np.reshape(real_array(name, value), (1,) * _AXES[name])
    return value


def _from_matlab(name: str, value: Any, data: dict[str, Any]) -> Any:
    """A vector from MATLAB's row or column."""
    if _AXES[name] != 1:
        return value
    width = np.shape(data.get("B" if name in ("r", "low", "high") else "A", ()))[-1:]
    if name in ("d", "reference"):
        width = np.shape(data.get("tracked", data.get("C", ())))[-2:-1]
    return np.ravel(value) if np.shape(value) in ((1, *width), (*width, 1)) else value


def _in_steps(data: dict[str, Any]) -> tuple[dict[str, Any], float | None, int]:
    """The arrays of the same model in discrete time; dt, if known; how many inputs the state holds."""
    data = dict(data)
    dt = data.pop("dt", None)
    delay = check_number("input_delay", data.pop("input_delay", 0), least=0)
    discrete = real_array("discrete", data.pop("discrete", dt is None))
    check_shape("discrete", discrete, (), "it is 1 or 0")
    if discrete not in (0, 1):
        raise ArgumentError(f"discrete is {discrete:g}, expected 1 or 0")
    if dt is not None:
        dt = check_number("dt", dt, above=0)
    if discrete:
        if delay:
            raise ArgumentError(
                "input_delay is given with a discrete model", "append the inputs before as states"
            )
        return data, dt, 0
    if dt is None:
        raise ArgumentError("a model in continuous time lacks dt, the seconds between its samples")
    for name in ("c", "q", "r", *("D" if delay else "")):
        if name in data:
            raise ArgumentError(
                f"{name} is given with {'input_delay' if name == 'D' else 'a model in continuous time'}"
                ", with which it has no meaning here",
                'sample the model first, by lqrad.discretise, and write "discrete": 1',
            )
    n = real_array("A", data["A"]).shape[-1]
    with_inputs = {name: data[name] for name in "ABQRM" if name in data}
    sampled = discretise(**{"B": np.zeros((n, 1))} | with_inputs, dt=dt, input_delay=delay)
    data["A"] = sampled.A
    if "B" in data:
        data |= {"B": sampled.B, "Q": sampled.Q, "R": sampled.R, "M": sampled.M}
    before = len(sampled.A) - n  # entries of the state that hold earlier inputs
    for name, axes in _STATE_AXES.items():
        if name in data:
            data[name] = _longer(name, real_array(name, data[name]), axes, n, before)
    return data, dt, before


def _longer(name: str, array: Array, axes: tuple[int, ...], n: int, before: int) -> Array:
    """An array of the state with zeros for the earlier inputs."""
    if array.ndim != _AXES[name] or any(array.shape[axis] != n for axis in axes):
        letters = ["n" if axis in axes else "any" for axis in range(_AXES[name])]
        raise ShapeError(
            f"{name} has shape {array.shape}, expected ({', '.join(letters)}) with n = {n} to match A"
        )
    return np.pad(array, [(0, before if axis in axes else 0) for axis in range(array.ndim)])
