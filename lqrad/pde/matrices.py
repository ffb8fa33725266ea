"""Matrices of any kind: sparse, dense, diagonal or operators, checked, frozen and multiplied with.

A diagonal weight is the vector of its entries.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator

from lqrad.arguments import (
    EPS,
    Array,
    check_semidefinite,
    check_shape,
    check_stages,
    frozen_array,
    shape_message,
)
from lqrad.errors import DtypeError, NonFiniteError, NotConvexError, ShapeError
from lqrad.linalg.sparse_factors import definite_factor


def any_matrix(name: str, value: Any) -> Any:
    """A frozen copy of a matrix: a csr_array where it is sparse, else an array; an operator as it is."""
    if isinstance(value, LinearOperator):
        if np.issubdtype(value.dtype, np.complexfloating):
            raise DtypeError(f"{name} is a complex LinearOperator, expected a real one")
        return value
    if not sp.issparse(value):
        return frozen_array(name, value)
    if value.dtype.kind not in "iufb":
        raise DtypeError(f"{name} holds {value.dtype}, expected real numbers")
    matrix = sp.csr_array(value, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    if not np.isfinite(matrix.data).all():
        entry = matrix.tocoo()
        k = int(np.argmin(np.isfinite(entry.data)))
        raise NonFiniteError(
            f"{name}[{entry.row[k]}, {entry.col[k]}] is {entry.data[k]}, expected finite numbers; "
            "remove the entry or replace it"
        )
    matrix.data.setflags(write=False)
    return matrix


def any_weight(name: str, value: Any, size: int, letter: str) -> Any:
    """A checked weight: (size,) where it is diagonal, else as `any_matrix`."""
    weight = any_matrix(name, value)
    shapes = (size, size) if weight.ndim == 2 else (size,)
    symbols = f"({letter},) or ({letter}, {letter})"
    if weight.shape != shapes:
        raise ShapeError(shape_message(name, weight.shape, f"{symbols} with {letter} = {size}", ""))
    if isinstance(weight, LinearOperator):
        return weight
    if sp.issparse(weight):
        entries = weight.tocoo()
        if np.any(entries.row != entries.col):
            _check_sparse_weight(name, weight)
            return weight
        weight = frozen_array(name, weight.diagonal())
    if weight.ndim == 2:
        check_semidefinite(name, weight)
    elif weight.min() < 0:
        i = int(weight.argmin())
        raise NotConvexError(
            f"{name} has the eigenvalue {weight[i]:.6g}, its entry {i}, expected none below zero; a "
            "cost that rewards distance has no minimum to descend to"
        )
    return weight


def _check_sparse_weight(name: str, weight: Any) -> None:
    """Raise NotConvexError unless a sparse weight is symmetric positive semidefinite, but for rounding."""
    root = np.sqrt(np.abs(weight.diagonal()))
    apart = (weight - weight.T).tocoo()
    size = root[apart.row] * root[apart.col] + np.abs(weight.tocsr()[apart.row, apart.col])
    wrong = np.abs(apart.data) > 64 * EPS * size
    if wrong.any():
        k = int(np.argmax(wrong))
        i, j = int(apart.row[k]), int(apart.col[k])
        raise NotConvexError(
            f"{name} is not symmetric: entries ({i}, {j}) and ({j}, {i}) are "
            f"{weight[i, j]:.17g} and {weight[j, i]:.17g}; "
            f"pass ({name} + {name}.T) / 2 if that is what you mean"
        )
    scale = sp.diags_array(1 / np.where(root > 0, root, 1.0))
    slack = 16 * len(root) * EPS
    if definite_factor(scale @ weight @ scale + slack * sp.eye_array(len(root))) is None:
        raise NotConvexError(
            f"{name} has a negative eigenvalue, expected a positive semidefinite matrix; a cost that "
            "rewards distance has no minimum to descend to"
        )


def stage_vectors(n: int, m: int, **given: ArrayLike | None) -> tuple[dict[str, Array], int | None]:
    """Frozen copies of c, q, r and s, zeros where not given, and their horizon."""
    found, letters = {}, {"n": n, "m": m}
    varying: tuple[str, int] | None = None
    for name, value in given.items():
        letter = "m" if name == "r" else "n"
        found[name] = frozen_array(name, np.zeros(letters[letter]) if value is None else value)
        if name == "s":
            check_shape(name, found[name], (n,), "", symbols=f"(n,) with n = {n}")
        else:
            varying = check_stages(name, found[name], letter, letters, varying)
    return found, varying[1] if varying else None


@np.errstate(over="ignore", invalid="ignore")  # looked for by the caller
def times_rows(M: Any, z: Array) -> Array:
    """M z for each row z of an array, M (r,) being a diagonal."""
    if M.ndim == 1:
        return cast(Array, M * z)
    if z.ndim == 1:
        return cast(Array, M @ z)
    rows = z.reshape(-1, z.shape[-1])
    return cast(Array, (M @ rows.T).T.reshape(*z.shape[:-1], M.shape[0]))


def inverse_of(weight: Any) -> Callable[[Array], Array] | None:
    """The solver of a weight, for columns; None where it is not positive definite, or an operator."""
    if isinstance(weight, LinearOperator):
        return None
    if weight.ndim == 1:
        return (lambda b: (b.T / weight).T) if weight.all() else None
    if sp.issparse(weight):
        factor = definite_factor(weight)
        return None if factor is None else factor.solve
    try:
        return partial(cho_solve, cho_factor(weight, lower=True))
    except np.linalg.LinAlgError:
        return None


def transposed(M: Any) -> Any:
    """M', stored by rows where it is sparse: its products are as fast as those of M then."""
    return sp.csr_array(M.T) if sp.issparse(M) else M.T


def dense(M: Any) -> Array:
    """A matrix of any kind as an array."""
    if isinstance(M, LinearOperator):
        return np.asarray(M @ np.eye(M.shape[1]))
    if sp.issparse(M):
        return np.asarray(M.toarray())
    return np.diag(M) if M.ndim == 1 else np.asarray(M)
