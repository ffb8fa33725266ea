"""Finite volumes: the matrices of diffusion and of heaters on equal cells.

A state is the mean of each cell, and what leaves a cell enters its neighbour; the fluxes through faces,
and what passes at a boundary, are those of `lqrad.pde.heat`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from typing import Any

import numpy as np
import scipy.sparse as sp

from lqrad.arguments import check_finite, check_number, check_room
from lqrad.errors import ArgumentError, DtypeError

# A side of the body: held at the surroundings' temperature, insulated, or a transfer velocity in m/s.
Boundary = str | float


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # looked for in L
def diffusion(
    shape: Sequence[int],
    lengths: Sequence[float],
    diffusivity: float,
    sides: Sequence[tuple[Boundary, Boundary]],
) -> Any:
    """Return L, the sparse (n, n) matrix of div(a grad T) on equal cells, in 1/s.

    There are `shape` cells over `lengths` in m, the diffusivity is in m^2/s, and `sides` are the two
    ends of each axis, as of `heat_rod`.

    Examples
    --------
    >>> diffusion([3], [3.0], 1.0, [("held", "insulated")]).toarray()
    array([[-3.,  1.,  0.],
           [ 1., -2.,  1.],
           [ 0.,  1., -1.]])
    """
    check_room(f"matrices of {math.prod(shape)} cells", math.prod(shape), 30)
    parts, a = [], check_number("diffusivity", diffusivity, above=0)
    for axis, (count, length, ends) in enumerate(zip(shape, lengths, sides, strict=True)):
        dx = np.float64(length) / count  # which a number may be divided by, were it zero
        faces = np.full(count - 1, a / dx)  # m/s
        diagonal = np.zeros(count)
        diagonal[:-1] -= faces
        diagonal[1:] -= faces
        diagonal[0] -= _leak(ends[0], a, dx)
        diagonal[-1] -= _leak(ends[1], a, dx)
        line = sp.diags_array([faces, diagonal, faces], offsets=[-1, 0, 1]) / dx
        others = [sp.eye_array(size) if k != axis else line for k, size in enumerate(shape)]
        parts.append(reduce(sp.kron, others))
    L = sp.csr_array(reduce(lambda y, z: y + z, parts))
    check_finite("L", L.data, computed=True)
    return L


def patches(shape: Sequence[int], heaters: Sequence[int]) -> Any:
    """Return B, the sparse (n, m) matrix of heaters on equal rectangles, 1 in the cells of each.

    Examples
    --------
    >>> patches([4], [2]).toarray()
    array([[1., 0.],
           [1., 0.],
           [0., 1.],
           [0., 1.]])
    """
    owner = np.zeros(tuple(shape), dtype=int)
    for axis, (cells, count) in enumerate(zip(shape, heaters, strict=True)):
        if not 0 < count <= cells:
            raise ArgumentError(
                f"heaters are {tuple(heaters)}, expected 1 to {cells} on axis {axis}"
            )
        index = np.arange(cells) * count // cells
        owner = owner * count + index.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    n = owner.size
    return sp.csr_array((np.ones(n), (np.arange(n), owner.ravel())), shape=(n, math.prod(heaters)))


def _leak(boundary: Boundary, a: float, dx: float) -> float:
    """The velocity at which heat leaves through a face at the boundary, m/s."""
    if boundary == "held":
        return 2 * a / dx
    if boundary == "insulated" or boundary == 0:
        return 0.0
    return 1 / (dx / (2 * a) + 1 / float(boundary))


def boundary(name: str, value: Any) -> Boundary:
    """A boundary: a word, or a velocity of at least 0 as a float."""
    if isinstance(value, str):
        if value in ("held", "insulated"):
            return value
    else:
        with suppress(DtypeError):
            return check_number(name, value, least=0)
    raise ArgumentError(
        f"{name} is {value!r}, expected 'held', 'insulated' or a transfer velocity in m/s"
    )
