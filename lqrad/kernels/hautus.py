"""The test of Popov, Belevitch and Hautus: whether inputs move a mode, or outputs show it.

B cannot move the mode s of A where w'[A - sI, B] = 0 for some w, and C does not show it where
[A - sI; C] v = 0 for some v: the same test of A' and C'.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrad.arguments import Array


class Hautus(NamedTuple):
    """What `hautus` finds of each mode.

    Attributes
    ----------
    modes : (n,), complex
        Eigenvalues of A, the largest magnitude first.
    distances : (n,)
        The least singular value of [A - sI, B] relative to the largest, B scaled to A: zero where
        the mode cannot be moved.
    directions : (n, n), complex
        The left singular vector that belongs to it, a row for each mode: where the distance is
        zero, the left eigenvector that B is orthogonal to.
    """

    modes: NDArray[np.complex128]
    distances: Array
    directions: NDArray[np.complex128]


def hautus(A: Array, B: Array) -> Hautus:
    """Apply the test to every eigenvalue of A.

    References
    ----------
    Hautus, Controllability and observability conditions of linear autonomous systems, Indagationes
    Mathematicae 31, 1969, 443-448.

    Examples
    --------
    >>> found = hautus(np.diag([2.0, 0.5]), np.array([[0.0], [1.0]]))
    >>> found.modes.real, found.distances > 1e-10
    (array([2. , 0.5]), array([False,  True]))
    """
    modes = np.linalg.eigvals(A).astype(np.complex128)
    modes = modes[np.argsort(-np.abs(modes), kind="stable")]
    size, reach = np.abs(A).max(), np.abs(B).max(initial=0.0)
    scaled = B * ((size or 1.0) / reach) if reach else B
    tests = [np.concatenate([A - s * np.eye(len(A)), scaled], axis=1) for s in modes]
    left, values, _ = np.linalg.svd(np.array(tests))
    largest = np.where(values[:, 0] > 0, values[:, 0], 1.0)
    return Hautus(modes, values[:, -1] / largest, left[:, :, -1])
