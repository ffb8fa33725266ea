"""Spectral radius and the size of its Jordan blocks: how the powers of a matrix grow in the end.

|A^k| ~ k^degree rho^k
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import matrix_balance, schur
from scipy.linalg.lapack import ztrsen

from lqrad.arguments import EPS, Array, check_finite
from lqrad.linalg.balance import balance, in_units

# Eigenvalues as close to each other as rounding may have pulled those of one Jordan block apart;
# in blocks larger than this they would be as far apart as any.
_SPREAD = 10.0
_LARGEST_SPREAD = 10
# What rounding leaves of a power that should be zero, in units of its first-order effect.
_LEFT = 100.0
_SAME = 1e-9  # moduli that count as equal


def dominant_growth(A: Array) -> tuple[float, int]:
    """Return the spectral radius rho of A and the degree of the polynomial that may go with it.

    The degree is the size of the largest Jordan block of modulus rho, less one. Rounding splits the
    eigenvalue of a block of size k into k of them, apart by the k-th root of rounding, whose mean
    it hardly moves. So a cluster counts as one multiple eigenvalue, their mean, if N, its block of
    the Schur form less that mean, is nilpotent up to rounding: to first order an error E in N
    leaves sum_i N^i E N^(k-1-i) of N^k = 0.

    References
    ----------
    Golub and Van Loan, Matrix Computations, 4th edition, 2013, section 7.6.

    Examples
    --------
    >>> dominant_growth(np.diag([3.0, -3.0]))
    (3.0, 0)
    >>> dominant_growth(np.array([[2.0, 1.0], [0.0, 2.0]]))
    (2.0, 1)
    """
    if not A.any():
        return 0.0, 0
    x, *_, time, _ = balance(A, continuous=True)  # no units matter then, of states or of time
    balanced, _ = matrix_balance(in_units(A, x, x, time), permute=False)
    T, Q = schur(balanced, output="complex")
    values = T.diagonal()
    size = float(np.linalg.norm(T, 2))
    open_ones = np.argsort(-np.abs(values), kind="stable").tolist()
    found: list[tuple[float, int]] = []
    while open_ones and abs(values[open_ones[0]]) >= (1 - _SAME) * max(found, default=(0.0, 0))[0]:
        members, rho, degree = _cluster(T, Q, values, open_ones, size)
        found.append((rho, degree))
        open_ones = [i for i in open_ones if i not in members]
    rho = max(found)[0]
    with np.errstate(over="ignore"):
        radius = np.ldexp(rho, -time)
    check_finite("the spectral radius", radius, computed=True)
    return float(radius), max(degree for value, degree in found if value >= (1 - _SAME) * rho)


def _cluster(
    T: Array, Q: Array, values: Array, candidates: list[int], size: float
) -> tuple[set[int], float, int]:
    """The largest cluster around the first candidate that is one multiple eigenvalue up to rounding.

    Its members, the modulus of their mean, and their degree.
    """
    first = candidates[0]
    apart = np.abs(values[candidates] - values[first])
    order = np.argsort(apart, kind="stable")
    for k in range(len(candidates), 1, -1):
        if apart[order[k - 1]] > _SPREAD * size * EPS ** (1 / min(k, _LARGEST_SPREAD)):
            continue
        members = [candidates[i] for i in order[:k]]
        chosen = np.zeros(len(values), dtype=np.int32)
        chosen[members] = 1
        leading = ztrsen(chosen, T, Q, job="N", wantq=0)[0][:k, :k]
        centre = leading.diagonal().mean()
        N = np.triu(leading) - centre * np.eye(k)
        power, norms = np.eye(k), [1.0]
        while len(norms) <= k:
            power = power @ N
            error = _LEFT * EPS * size * np.dot(norms, norms[::-1])
            norms.append(float(np.linalg.norm(power, 2)))
            if norms[-1] <= error:  # the smallest power that is zero
                return set(members), float(abs(centre)), len(norms) - 2
    return {first}, float(abs(values[first])), 0
