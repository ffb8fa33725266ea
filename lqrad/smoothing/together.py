"""Many series at once: those with the same gaps, those of one system, and the rest one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import EPS, Array, check_type
from lqrad.errors import LqradError, NotConvexError
from lqrad.smoothing.arrays import check_overflow, same_gaps
from lqrad.smoothing.batch import SmoothingBatch
from lqrad.smoothing.model import Balanced, SmoothingProblem

Model = SmoothingProblem | SmoothingBatch
_Result = TypeVar("_Result", bound=Any)

# These are the same for all series of one model with the same gaps.
_SHARED = {"cov", "lag_cov", "predicted_cov", "innovation_cov"}
# So many times as many series as kinds of gaps are taken kind by kind.
_ALIKE = 4


def together(
    problem: Model,
    y: ArrayLike,
    run: Callable[[SmoothingProblem, Array], _Result],
    at_once: Callable[[Model, Array], tuple[_Result, NDArray[np.bool_]] | None] | None = None,
) -> _Result:
    """Run each group of series (g, T+1, ny) with the same model and gaps, in balanced units.

    `at_once` may do for all series (b, T+1, ny) what `run` does for a group; it returns the result, every
    array of which has the axis b, and which of them are good; None where it does for none. Returns the
    results put together, in the units of the problem. Numbers that overflow and variances that
    rounding has made negative are refused.
    """
    if not isinstance(problem, SmoothingBatch):
        check_type("problem", problem, SmoothingProblem, "SmoothingProblem(A, C, W, V, m0, P0)")
    y = problem.series(y)
    balanced = problem.balanced
    batch, seen = y.shape[:-2], ~np.isnan(y)
    with np.errstate(over="ignore"):  # looked for in what comes out
        flat = (y / balanced.output[..., None, :]).reshape(-1, *y.shape[-2:])
    models = cast(Model, balanced.problem)
    if isinstance(models, SmoothingBatch):
        members = [[i] for i in range(models.b)]
    else:
        members = same_gaps(flat)
    whole: dict[str, Any] = {}
    some: Any = None
    methods: set[Any] = set()
    with np.errstate(over="ignore", invalid="ignore"):  # looked for in what comes out
        if at_once and (
            isinstance(models, SmoothingBatch) or len(flat) < _ALIKE * len(members) > 4
        ):
            found = at_once(models, flat)
            if found is not None and found[1].any():
                some, good = found
                methods = {getattr(some, "method", None)}
                whole = {k: z for k, z in vars(some).items() if isinstance(z, np.ndarray)}
                members = [index for index in members if not good[index[0]]]
        for index in members:
            model = models[index[0]] if isinstance(models, SmoothingBatch) else models
            with within_series(index[0], batch if len(index) < len(flat) else ()):
                part = run(model, flat[index])
            methods |= {getattr(part, "method", None)}
            for name, array in vars(part).items():
                if not isinstance(array, np.ndarray):
                    continue
                if len(index) == len(flat) and not isinstance(models, SmoothingBatch):
                    whole[name] = array
                    continue
                shape = array.shape[0 if name in _SHARED else 1 :]
                if name not in whole:
                    whole[name] = np.empty((len(flat), *shape))
                whole[name][index] = array
            some = some or part
    whole = {
        name: array
        if name in _SHARED and array.ndim == 3
        else array.reshape(batch + array.shape[1:])
        for name, array in whole.items()
    }
    whole["loglik"] = whole["loglik"] - balanced.log_volume(seen)
    _in_units(whole, balanced, seen)
    if not batch:
        whole["loglik"] = float(whole["loglik"])
    if methods != {None}:
        whole |= {"problem": problem, "method": " and ".join(sorted(methods))}
    result: _Result = replace(some, **whole)
    return result


@contextmanager
def within_series(i: int, batch: tuple[int, ...]) -> Iterator[None]:
    """Name a series of a batch in what is raised in this block: "series 17: ..."."""
    try:
        yield
    except LqradError as error:
        if not batch:
            raise
        index = ", ".join(str(int(k)) for k in np.unravel_index(i, batch))
        raise error.within(f"series {index}") from None


def _in_units(whole: dict[str, Array], balanced: Balanced, seen: NDArray[np.bool_]) -> None:
    """Bring results in balanced units, in place, to those of the problem; raise where that fails."""
    state, output = balanced.state[..., None, :], balanced.output[..., None, :]
    units = {"x": state, "predicted_x": state, "innovations": output, "p": 1 / state}
    with np.errstate(over="ignore"):
        square = state[..., :, None] * state[..., None, :]
        units |= dict.fromkeys(("cov", "lag_cov", "predicted_cov"), square)
        units["innovation_cov"] = output[..., :, None] * output[..., None, :]
    for name, array in whole.items():
        if name in _SHARED and name != "lag_cov":
            round_to_zero(array)  # noises are of order one still
        if name in units and (units[name] != 1).any():
            with np.errstate(over="ignore"):
                array *= units[name]
        _check_overflow(name, array, seen)
        if name in _SHARED and name != "lag_cov":
            check_variances(name, array)


def _check_overflow(name: str, array: Array, seen: NDArray[np.bool_]) -> None:
    """Raise NonFiniteError where a result is not finite; name the series of a batch."""
    batch = seen.shape[:-2]
    array = np.where(seen, array, 0.0) if name == "innovations" else array
    try:
        check_overflow(name, array)
    except LqradError:
        if name not in _SHARED or array.ndim > 3:
            series = array.reshape(-1, *array.shape[len(batch) :])
            finite = np.isfinite(series).all(axis=tuple(range(1, series.ndim)))
            with within_series(int(np.argmin(finite)), batch):
                raise
        raise


def round_to_zero(cov: Array, size: Array | float = 1.0) -> None:
    """Set negative variances of covariances (..., n, n) to zero, in place, where rounding made them.

    Where an exact observation makes a variance zero, rounding leaves a number of either sign.
    """
    variances = np.diagonal(cov, axis1=-2, axis2=-1)
    if variances.min() < 0:
        known = (variances < 0) & (variances >= -64 * cov.shape[-1] * EPS * size)
        cov[known[..., :, None] | known[..., None, :]] = 0.0


def check_variances(name: str, cov: Array) -> None:
    """Raise NotConvexError where a covariance (..., n, n) has a negative variance."""
    variances = np.diagonal(cov, axis1=-2, axis2=-1)
    if variances.min() < 0:
        *index, i = (int(k) for k in np.argwhere(variances < 0)[0])
        where = ", ".join(map(str, [*index, i, i]))
        raise NotConvexError(
            f"{name}[{where}] is {variances[(*index, i)]:.3g}, a negative variance: rounding has "
            "left no digit of it",
            "leave that state out, or give it a prior that is not so vague",
        )
