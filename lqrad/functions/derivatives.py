"""Derivatives of a user's function of points: exact, or by differences that agree, or refused.

A function maps points (..., d) to values (..., k), or to one number for each point, (...). It is
evaluated on points that carry their derivatives (`carried`). Where that is not possible, as the
function leaves NumPy or the exact derivative is not finite, differences are taken: of each component
at several steps, in units of what the entry is along the data, and extrapolated. Two extrapolations
that do not agree are an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lqrad.arguments import EPS, Array, entry_name
from lqrad.errors import ArgumentError, DtypeError, LqradError
from lqrad.functions.carried import Carried, Pass, read_only
from lqrad.functions.kinks import carried

Function = Callable[[Any], Any]  # points (..., d) -> values (..., k) or (...)

# Steps in units of an entry, each an eighth of the last; of an entry that is zero everywhere, whose
# unit is not known, over all that floating point numbers can tell apart.
_FACTOR = 8.0
_STEPS = {1: _FACTOR ** -np.arange(1.0, 9.0), 2: _FACTOR ** -np.arange(1.0, 6.0)}
_STEPS_OF_UNKNOWN = _FACTOR ** -np.arange(-16.0, 17.0)
# And of one whose own steps change nothing, as it is small beside what it is added to: probes, and steps.
_PROBES = _FACTOR ** np.array([4.0, 8.0, 16.0, 24.0])
_LONGER_STEPS = _FACTOR ** np.arange(24.0, -1.0, -1.0)
# Steps by which a kink beside a point is told from one at it.
_FINE_STEPS = _FACTOR ** -np.array([10.0, 12.0, 14.0])
# How far two extrapolations may be apart, in units of the slope (order 1) or of the bend (order 2).
_AGREEMENT = {1: 1e-6, 2: 1e-4}


def derivatives(
    function: Function,
    z: Array,
    *,
    order: int = 1,
    name: str = "the function",
    entries: Sequence[str] | None = None,
    value: Array | None = None,
) -> tuple[Array, str]:
    """Return the first or second derivatives of a function at points, and the way they were found.

    Parameters
    ----------
    z : (..., d)
    name, entries : str, sequence of d str
        What errors call the function, and the entries of z.
    value : (..., k) or (...), optional
        The function at the points, where it is known but for its rounding.

    Returns
    -------
    derivatives : (..., k, d) or (..., k, d, d), without k where a value is a number
    way : {"exact", "differences"}

    Raises
    ------
    ArgumentError
        If differences do not agree; names the component.
    DtypeError
        If differences are needed of a function that rounds to less than double precision.

    Examples
    --------
    >>> derivatives(lambda z: abs(z) * z, np.array([3.0, -5.0]))
    (array([[ 6.,  0.],
           [ 0., 10.]]), 'exact')
    >>> import math
    >>> one = lambda z: np.array([math.sin(z[0])])
    >>> slope, way = derivatives(one, np.array([0.5]))
    >>> way, bool(abs(slope[0, 0] - math.cos(0.5)) < 1e-9)
    ('differences', True)
    """
    z = read_only(z)
    with np.errstate(all="ignore"):
        sides, tip = _sides(function, z, order, value)
        if sides is None:
            return _agreed(function, z, order, name, entries), "differences"
        found = sides[0] if len(sides) == 1 else 0.5 * (sides[0] + sides[1])
        if tip and order == 2:
            # The curvature of a norm at its tip is infinite, and taken as none; but that of a smooth
            # function of it, such as cos(norm(x)), is what differences of the slopes agree on.
            rough, apart = _by_differences(lambda y: derivatives(function, y)[0], z, 1)
            other = np.abs(rough - found) > 1e-3 * (np.abs(rough) + np.abs(found))
            found = np.where((apart <= _AGREEMENT[1]) & other, rough, found)
        return found, "exact"


def check_given(
    function: Function,
    z: Array,
    given: Array,
    *,
    name: str,
    of: str,
    entries: Sequence[str] | None = None,
) -> None:
    """Raise ArgumentError unless given first derivatives (..., k, d) are those of a function at points.

    At a kink they may be anything between those of its sides. What differences cannot tell passes.
    Errors call the derivatives by `name`, and the function by `of`.

    Examples
    --------
    >>> z = np.array([0.0, 2.0])
    >>> check_given(np.abs, z, np.diag([0.3, 1.0]), name="slope", of="phi")
    >>> check_given(np.abs, z, np.diag([0.3, 2.0]), name="slope", of="phi")
    Traceback (most recent call last):
    ...
    lqrad.errors.ArgumentError: slope is wrong: that of phi[1] in entry 1 is 1, and 2 is given
    """
    with np.errstate(all="ignore"):
        sides, _ = _sides(function, z, 1)
        if sides is None:
            try:
                sides = [_agreed(function, z, 1, of, entries)]
            except LqradError:
                return
        value = np.asarray(function(z))
    points = tuple(range(z.ndim - 1))
    low, high = np.min(sides, axis=0), np.max(sides, axis=0)
    size = np.abs(low) + np.abs(high) + np.where(np.isfinite(given), np.abs(given), 0.0)
    # Rounding: of a derivative beside what it is elsewhere, and of the values.
    unit = np.abs(z).max(axis=points)
    rounding = np.abs(value).max(axis=points)[..., None] / np.where(unit > 0, unit, np.inf)
    slack = 1e-6 * size + 1e-10 * size.max(axis=points) + 64 * EPS * rounding
    wrong = ~((low - slack <= given) & (given <= high + slack))  # NaN is wrong too
    if wrong.any():
        index = tuple(np.argwhere(wrong)[0])
        j = index[-1]
        raise ArgumentError(
            f"{name} is wrong: that of {entry_name(of, index[:-1])} in {entries[j] if entries else f'entry {j}'} is "
            f"{0.5 * (low + high)[index]:.6g}, and {given[index]:.6g} is given"
        )


def _sides(
    function: Function, z: Array, order: int, known: Array | None = None
) -> tuple[list[Array] | None, bool]:
    """What the points carry through the function, on both sides of a kink; whether it was a norm's tip.

    None where that is not possible, where one is not finite though the value is, and where the
    function has other values for points that carry derivatives: it asks what they are, and does
    another thing then.
    """
    run, d = Pass(order), z.shape[-1]
    try:
        value = function(carried(z, run))
    except Exception:  # a user's function: if the fault is its own, the next line has it again
        value = None
    plain = np.asarray(function(z) if known is None else known)
    if value is None or (not isinstance(value, Carried) and np.asarray(value).dtype == object):
        return None, False
    sides = [_derivative(value, plain, d, order)]
    if run.kinked:
        other = function(carried(z, Pass(order, side=-1)))
        sides.append(_derivative(other, plain, d, order))
    if not run.jumped and not _equal(value.value if isinstance(value, Carried) else value, plain):
        # Sums of large terms that cancel depend on their order, which may be another for a batch.
        return (None, False) if known is None else _sides(function, z, order)
    finite = np.isfinite(sides).all(axis=(0, *range(plain.ndim + 1, plain.ndim + 1 + order)))
    return (sides if (finite | ~np.isfinite(plain)).all() else None), run.tip


def _equal(value: Any, plain: Array) -> bool:
    """Whether values are the same but for the order of their sums."""
    slack = 1e-10 * np.abs(plain).max(initial=0.0)
    return np.allclose(value, plain, rtol=1e-10, atol=slack, equal_nan=True)


def _derivative(value: Any, plain: Array, d: int, order: int) -> Array:
    """What a value carries, zeros if it carries nothing."""
    if not isinstance(value, Carried):
        return np.zeros(plain.shape + (d,) * order)
    found = value.first if order == 1 else value.second
    return np.zeros(plain.shape + (d,) * order) if found is None else found


# Differences


def _agreed(
    function: Function, z: Array, order: int, name: str, entries: Sequence[str] | None
) -> Array:
    """Derivatives by differences, each of which agrees with others, or an error."""
    value = np.asarray(function(z))
    if value.dtype.kind == "f" and value.dtype.itemsize < 8:
        raise DtypeError(
            f"{name} returned {value.dtype}, expected float64: its rounding is of the size of the "
            "differences that its derivatives would be found by",
            "let it compute in double precision (JAX: jax.config.update('jax_enable_x64', True); "
            "PyTorch: torch.float64), or pass jacobian=",
        )
    found, apart = _by_differences(function, z, order)
    if apart.size and apart.max() > _AGREEMENT[order]:
        index = np.unravel_index(int(apart.argmax()), apart.shape)
        at = ", ".join(str(int(i)) for i in index[: value.ndim])
        where = (entries[int(j)] if entries else f"entry {j}" for j in index[value.ndim :])
        raise ArgumentError(
            f"the {'' if order == 1 else 'second '}derivative of {name}{f'[{at}]' if at else ''} in "
            f"{' and '.join(where)} is not known: {name} leaves NumPy, and differences of several "
            "steps do not agree on it",
            f"write {name} in NumPy's functions, which are differentiated exactly; look for a jump, "
            "for numbers of single precision, and for values too large beside their changes"
            + "; or pass jacobian="
            * (name == "f" and order == 1),
        )
    return found


def _by_differences(function: Function, z: Array, order: int) -> tuple[Array, Array]:
    """Derivatives by differences, and how far apart those of several steps are, in their units."""
    value = np.asarray(function(z), dtype=np.float64)
    d, known = z.shape[-1], _known_values(function, value)
    unit = np.abs(z).reshape(-1, d).max(axis=0)
    found, apart = (np.empty(value.shape + (d,) * order) for _ in range(2))
    for j in range(d):
        steps = _STEPS[order] * unit[j] if unit[j] else _STEPS_OF_UNKNOWN
        differences = _differences(known, z, j, steps, order)
        at: Any = (..., *(j,) * order)
        found[at], apart[at], relative = _settled(*differences)
        hidden = (differences[1] == 0).all(axis=0) & bool(unit[j])
        if hidden.any() and (hidden & _moves(known, z, j, _PROBES * unit[j])).any():
            longer = _differences(known, z, j, _LONGER_STEPS * unit[j], order)
            far, far_apart, _ = _settled(*longer)
            drowned = np.abs(far) * steps[0] ** order <= 4 * EPS * np.abs(value)
            taken = hidden & drowned & (far_apart <= _AGREEMENT[order])
            found[at] = np.where(taken, far, found[at])
            apart[at] = np.where(taken, far_apart, apart[at])
        if not unit[j]:  # from the middle of the steps that serve all components
            serves = (relative <= _AGREEMENT[order]).reshape(len(relative), -1).all(axis=-1)
            unit[j] = steps[int(np.median(np.flatnonzero(serves)))] * _FACTOR if serves.any() else 1
        if order == 1:
            rough, size, rounding = _slopes(known, z, j, _FINE_STEPS * unit[j])
            beside = (np.abs(rough - found[at]) > 1e-3 * size + 64 * rounding).any(axis=0)
        else:
            beside = _bends_jump(known, z, j, steps, relative)
        apart[at] = np.where(beside, np.inf, apart[at])
    for i in range(d if order == 2 else 0):
        for j in range(i):
            bend, far, _ = _settled(
                *_bends(known, z, i, j, _STEPS[2] * unit[i], _STEPS[2] * unit[j])
            )
            found[..., i, j] = found[..., j, i] = bend
            apart[..., i, j] = apart[..., j, i] = far
    return found, apart


def _known_values(function: Function, at: Array) -> Callable[[Array | None], Array]:
    """The function, NaN where a step leaves its domain; of None, its values at the points."""

    def values(z: Array | None) -> Array:
        if z is None:
            return at
        try:
            return np.asarray(function(z), dtype=np.float64)
        except Exception:  # a user's function, in whose own way it says that it has no value
            return np.full(at.shape, np.nan)

    return values


def _moved(z: Array, *moves: tuple[int, float]) -> Array:
    z = np.array(z)
    for j, step in moves:
        z[..., j] += step
    z.setflags(write=False)
    return z


def _slopes(
    values: Callable[[Array | None], Array], z: Array, j: int, steps: Array
) -> tuple[Array, Array, Array]:
    """Central differences at each step, what they are measured by, and their rounding."""
    rows = []
    for h in steps:
        ahead, here, behind = values(_moved(z, (j, h))), values(None), values(_moved(z, (j, -h)))
        size = np.maximum(np.abs(ahead - here), np.abs(behind - here)) / h
        rounding = EPS * np.maximum(np.abs(ahead), np.abs(behind)) / h
        rows.append(((ahead - behind) / (2 * h), size, rounding))
    return tuple(map(np.array, zip(*rows, strict=True)))  # type: ignore[return-value]


def _differences(
    values: Callable[[Array | None], Array], z: Array, j: int, steps: Array, order: int
) -> tuple[Array, Array, Array]:
    """First or second differences in one entry, as `_slopes`."""
    return _slopes(values, z, j, steps) if order == 1 else _bends(values, z, j, j, steps)


def _moves(values: Callable[[Array | None], Array], z: Array, j: int, steps: Array) -> Array:
    """Which values a step changes, be it ahead or behind."""
    moved = [values(_moved(z, (j, sign * h))) for h in steps for sign in (1, -1)]
    return np.asarray(np.any([np.isfinite(y) & (y != values(None)) for y in moved], axis=0))


def _bends(
    values: Callable[[Array | None], Array],
    z: Array,
    i: int,
    j: int,
    steps: Array,
    others: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Second differences in two entries, as `_slopes`."""
    rows = []
    for h, k in zip(steps, steps if others is None else others, strict=True):
        corners = [values(_moved(z, (i, a * h), (j, b * k))) for a in (1, -1) for b in (1, -1)]
        size = sum(np.abs(corner - values(None)) for corner in corners) / (4 * h * k)
        rounding = EPS * np.max(np.abs(corners), axis=0) / (h * k)
        bend = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * h * k)
        rows.append((bend, size, rounding))
    return tuple(map(np.array, zip(*rows, strict=True)))  # type: ignore[return-value]


def _bends_jump(
    values: Callable[[Array | None], Array], z: Array, j: int, steps: Array, relative: Array
) -> Array:
    """Whether second differences on either side of the points differ, the more so in short steps."""
    good = np.flatnonzero((relative <= _AGREEMENT[2]).reshape(len(relative), -1).any(axis=-1))
    jumps = []
    for h in steps[good[len(good) // 2] if good.size else -1] / [1.0, _FACTOR]:
        far, near = ([values(_moved(z, (j, k * h))) for k in (a, -a)] for a in (2, 1))
        jumps.append(np.abs(far[0] - 2 * near[0] + 2 * near[1] - far[1]) / h**2)
        rounding = EPS * np.max(np.abs([*far, *near]), axis=0) / h**2
    return np.asarray((jumps[1] > 0.5 * jumps[0]) & (jumps[1] > 64 * rounding))


def _settled(rough: Array, size: Array, rounding: Array) -> tuple[Array, Array, Array]:
    """The extrapolation of `_slopes` or `_bends` that agrees best with the next, and how far they are apart.

    Then how far apart all are, (steps - 2, ...), from each step on: in units of the size. Infinite
    where longer steps agree among themselves on something else, as those of a function that rounds
    its numbers do.

    References
    ----------
    Ridders, Accurate computation of F'(x) and F'(x)F''(x), Advances in Engineering Software 4
    (1982), 75-76.
    """
    finer = (_FACTOR**2 * rough[1:] - rough[:-1]) / (_FACTOR**2 - 1)
    # Values that do not change say no more than that the slope is hidden by their rounding.
    flat = (size[:-2] == 0) & (size[1:-1] == 0) & (size[2:] == 0)
    apart = np.abs(finer[1:] - finer[:-1])
    error = np.where(flat, rounding[:-2], apart + 4 * rounding[2:])
    measure = np.where(flat, np.fmax.accumulate(size[:-2]), size[:-2])
    relative = np.where((error == 0) | (flat & (measure == 0)), 0.0, error / measure)
    relative = np.where(np.isnan(relative), np.inf, relative)
    chosen = relative.argmin(axis=0)
    best = np.take_along_axis(finer, chosen[None] + 1, axis=0)[0]
    longer = np.arange(len(apart)).reshape(-1, *(1,) * chosen.ndim) < chosen
    other = np.abs(finer[:-1] - best) > 10 * apart + 4 * rounding[1:-1]
    contradicted = (longer & ~flat & (relative < 1e-3) & other).any(axis=0)
    found = np.take_along_axis(relative, chosen[None], axis=0)[0]
    return best, np.where(contradicted, np.inf, found), relative
