"""The arrays of a linear-Gaussian model and its series: shapes, gaps, factors of covariances, units."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_covariance, check_shape, frozen_array, frozen_zeros
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, NotConvexError, ShapeError

# What each array looks like in letters, and how many more than T stages it has where it varies.
SYMBOLS = {"A": "nn", "C": "yn", "W": "nn", "V": "yy", "c": "n", "d": "y"}
_EXTRA = {"A": 0, "W": 0, "c": 0, "C": 1, "V": 1, "d": 1}
# With those of x[0], which do not vary.
ALL = SYMBOLS | {"m0": "n", "P0": "nn"}


class Observations(NamedTuple):
    """A series with its gaps closed, so that a missing entry adds nothing to any sum.

    A missing entry has a row of zeros in C, a zero in z = y - d, and in V the variance one and no
    covariances: its innovation, its gain, and the logarithm of its variance are zero. C and V are
    constant where that is so and nothing is missing, and have a batch in front only where its series
    have different gaps. `entries` (...) says how many are observed.
    """

    z: Array
    C: Array
    V: Array
    entries: Array


class Whitened(NamedTuple):
    """The rows of the least-squares problem, each scaled to noise of unit variance.

    J = 1/2 |prior (x[0] - m0)|^2 + 1/2 sum |noise w[t]|^2 + 1/2 sum |z[t] - C x[t]|^2

    With L the factors of P0, W and V = L L', `prior`, `noise` and `root` are the L^-1, that of the prior
    zero where there is none; C and z are L^-1 C and L^-1 (y - d). `log_determinant` (...) is that of
    P0, W and V together, over all stages, for each series.
    """

    prior: Array
    noise: Array
    root: Array
    C: Array
    z: Array
    log_determinant: Array


def same_gaps(series: Array) -> list[list[int]]:
    """The indices of series (g, T+1, ny), those with the same gaps together."""
    groups: dict[bytes, list[int]] = {}
    for k, gaps in enumerate(np.isnan(series)):
        groups.setdefault(gaps.tobytes(), []).append(k)
    return list(groups.values())


def close_gaps(y: Array, C: Array, V: Array, d: Array) -> Observations:
    """The series y, which are NaN where nothing was observed, with their gaps closed."""
    seen = ~np.isnan(y)
    entries = np.asarray(seen.sum(axis=(-2, -1)))
    if seen.all():
        return Observations(y - d, C, V, entries)
    z = np.where(seen, y - d, 0.0)
    first = seen[(0,) * (seen.ndim - 2)]
    if (seen == first).all():
        seen = first  # one pattern of gaps for the whole batch
    both = seen[..., :, None] & seen[..., None, :]
    V = np.where(both, V, np.eye(y.shape[-1]))
    return Observations(z, np.where(seen[..., None], C, 0.0), V, entries)


def check_overflow(name: str, array: Array) -> None:
    """Raise NonFiniteError unless all of a result is finite."""
    # A sum of squares is finite only if all entries are, and costs less than asking each.
    if not math.isfinite(np.vdot(array, array)) and not np.isfinite(array).all():
        raise NonFiniteError(
            f"{name} is not finite: it overflowed",
            "look for an entry of y, or of the model, that is far out of size beside the noises",
        )


def model_arrays(
    kept: dict[str, Array | None], given: dict[str, ArrayLike | None]
) -> tuple[dict[str, Array], Array | None, int | None]:
    """Return the arrays of a model but P0, P0, and the horizon T: some kept, the others frozen copies, checked.

    Zeros for a c, d or m0 that is None.
    """
    for name in "ACWV":
        if given.get(name, "") is None:
            raise DtypeError(f"{name} is None, expected an array of real numbers")
    arrays = {name: array for name, array in kept.items() if array is not None}
    for name, value in given.items():
        if value is not None:
            arrays[name] = frozen_array(name, value)
    A, C = arrays["A"], arrays["C"]
    if A.ndim not in (2, 3) or A.shape[-1] != A.shape[-2] or 0 in A.shape:
        raise ShapeError(
            f"A has shape {A.shape}, expected (n, n) or (T, n, n), not empty{_scalar_remedy(A)}"
        )
    n = A.shape[-1]
    if C.ndim not in (2, 3) or C.shape[-1] != n or 0 in C.shape:
        message = (
            f"C has shape {C.shape}, expected (ny, n) or (T + 1, ny, n) with n = {n} "
            f"to match A {A.shape}{_scalar_remedy(C)}"
        )
        if C.ndim == 2 and len(C) == n:
            message += "; did you pass C.T?"
        elif C.ndim == 1 and len(C) == n:
            message += "; did you mean C[None, :]?"
        raise ShapeError(message)
    if "P0" in arrays and "m0" not in arrays:
        raise ArgumentError("m0 is None and P0 is given; pass the mean of x[0], or P0=None too")
    ny = C.shape[-2]
    varying: tuple[str, int] | None = None
    for name, expected in _shapes(n, ny).items():
        if name not in arrays:
            if name != "P0":
                arrays[name] = frozen_zeros(*expected)
            continue
        array = arrays[name]
        if array.shape == expected:
            continue
        extra = _EXTRA.get(name)
        if extra is None:
            why = f"to match A {A.shape}"
        else:
            if array.shape[1:] == expected and len(array) > extra:
                steps = len(array) - extra
                if varying and steps != varying[1]:
                    raise ShapeError(
                        f"{name} has {len(array)} stages and {varying[0]} has "
                        f"{varying[1] + _EXTRA[varying[0]]}; A, W, c have one for each step, T, "
                        "and C, V, d one for each row of y, T + 1"
                    )
                varying = varying or (name, steps)
                continue
            why = f"or with a leading axis of T{' + 1' if extra else ''} stages, for n = {n}, ny = {ny}"
        shape = ", ".join(ALL[name]).replace("y", "ny")
        symbols = f"({shape}{',' if len(expected) == 1 else ''})"
        check_shape(name, array, expected, why, symbols=symbols)
    for name in ("W", "V", "P0"):
        if given.get(name) is not None:
            check_covariance(name, arrays[name])
    P0 = arrays.pop("P0", None)
    return arrays, P0, varying[1] if varying else None


@lru_cache
def _shapes(n: int, ny: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays of a model in which nothing varies."""
    return {name: tuple({"n": n, "y": ny}[i] for i in axes) for name, axes in ALL.items()}


def _scalar_remedy(array: Array) -> str:
    return "; write a scalar as [[value]]" if array.ndim < 2 and array.size == 1 else ""


def cholesky_factor(name: str, covariance: Array) -> Array:
    """The Cholesky factor of a covariance that must be positive definite."""
    try:
        return np.asarray(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        least = np.linalg.eigvalsh(covariance)[..., 0].ravel()
        stage = int(np.argmin(least))
        where = f"{name} at stage {stage % covariance.shape[-3]}" if covariance.ndim > 2 else name
        raise NotConvexError(
            f"{where} is singular (eigenvalue {least[stage]:.3g}), and its inverse would weigh the "
            "misfit; use kalman_smoother, which needs no inverse, or make it positive definite"
        ) from None


def covariance_root(covariance: Array) -> Array:
    """A matrix L with L L' = covariance, which may be singular; units of its rows do not matter."""
    size = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    size = np.where(size > 0, size, 1.0)[..., None]
    values, vectors = np.linalg.eigh(covariance / size / size.swapaxes(-1, -2))
    return np.asarray(size * vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])


def state_variances(A: Array, C: Array, W: Array, V: Array, P0: Array | None) -> Array:
    """A variance (n,) for each state, in its units, by which the state is scaled.

    It is that of the state's noise; without noise, that with which a sensor determines the state;
    without a sensor, that which moves another state through A by the deviation of the other; else
    that of the prior, or of the states that drive it. A state without any of these has the variance
    one.
    """
    variances = largest(np.diagonal(W, axis1=-2, axis2=-1))

    def fill(found: Array) -> bool:
        """Take what was found for the states that lack a variance; whether to look for more."""
        take = (variances == 0) & (found > 0) & (found < np.inf)
        variances[take] = found[take]
        return bool(take.any()) and not variances.all()

    if not variances.all():
        V = largest(np.diagonal(V, axis1=-2, axis2=-1))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            A, C = largest(A**2, axes=2), largest(C**2, axes=2)
            fill(1 / (C[V > 0] / V[V > 0, None]).max(axis=0, initial=0.0))
            drives = A.T > 0
            while fill(np.where(drives & (variances > 0), variances / A.T, np.inf).min(axis=1)):
                pass
            if P0 is not None and not variances.all():
                fill(P0.diagonal())
            while not variances.all() and fill((A * variances).max(axis=1)):
                pass
        variances[variances == 0] = 1.0
    return variances


def largest(array: Array, axes: int = 1) -> Array:
    """The largest entry over time of each entry of arrays that have so many axes beside time."""
    if array.ndim == axes:
        return np.array(array)
    return np.array(array.reshape(-1, *array.shape[-axes:]).max(axis=0))


def root_of_two(variances: Array) -> Array:
    """A power of two near each deviation; in units that are powers of two it scales exactly."""
    return np.asarray(np.ldexp(1.0, np.frexp(variances)[1] // 2), dtype=np.float64)


def product(M: Array, N: Array) -> Array:
    """M'N at every stage."""
    return np.asarray(transposed(M) @ N)


def transposed(M: Array) -> Array:
    """M' at every stage."""
    return M.swapaxes(-1, -2)


def symmetric(P: Array) -> Array:
    """P without the rounding errors that make it differ from P'."""
    return np.asarray(0.5 * (P + transposed(P)))
