"""Spectral radius and Jordan blocks, known by construction, behind any change of basis."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.stats import ortho_group

from lqrad.linalg.spectrum import dominant_growth


def jordan(value: float, size: int) -> np.ndarray:
    return value * np.eye(size) + np.diag(np.ones(size - 1), 1)


def rotating(rho: float) -> np.ndarray:
    """A Jordan block of size two for each of a pair of complex eigenvalues."""
    turn = rho * np.array([[0.6, 0.8], [-0.8, 0.6]])
    return np.block([[turn, np.eye(2)], [np.zeros((2, 2)), turn]])


CASES = {
    "one block": (jordan(2, 3), 2.0, 2),
    "a large block": (jordan(1.1, 8), 1.1, 7),
    "two blocks of one value": (block_diag(jordan(2, 2), jordan(2, 4)), 2.0, 3),
    "two values of one modulus": (block_diag(jordan(-2, 2), jordan(2, 3), [[1.5]]), 2.0, 2),
    "semisimple": (block_diag([[2.0]], [[2.0]], [[-2.0]], [[1.0]]), 2.0, 0),
    "a block of smaller modulus": (block_diag([[2.0]], jordan(1.9, 3)), 2.0, 0),
    "a complex pair": (rotating(1.3), 1.3, 1),
    "nilpotent": (jordan(0, 4), 0.0, 3),
    "zero": (np.zeros((3, 3)), 0.0, 0),
    "scalar": (np.array([[-0.7]]), 0.7, 0),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_jordan_blocks_are_found_in_any_basis(name, seed):
    J, rho, degree = CASES[name]
    if seed is not None and len(J) > 1:
        U = ortho_group.rvs(len(J), random_state=np.random.default_rng(seed))
        J = U @ J @ U.T
    found, power = dominant_growth(J)
    # Up to rounding of the mean: the eigenvalues themselves are off by up to eps^(1/8) = 0.01.
    assert found == pytest.approx(rho, rel=1e-12, abs=1e-14)
    assert power == degree


@pytest.mark.parametrize("n", [2, 5, 20, 60])
def test_random_matrices_have_no_jordan_blocks(n):
    for seed in range(10):
        A = np.random.default_rng(seed).normal(size=(n, n))
        rho, degree = dominant_growth(A)
        assert degree == 0
        assert rho == pytest.approx(np.abs(np.linalg.eigvals(A)).max(), rel=1e-12)


def test_close_eigenvalues_are_one_only_where_their_vectors_are_close_too():
    apart = np.diag([1.0, 1.0 + 1e-9])
    assert dominant_growth(apart)[1] == 0
    assert dominant_growth(apart + np.eye(2, k=1))[1] == 1


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_scale_does_not_matter(scale):
    rho, degree = dominant_growth(scale * jordan(2, 3))
    assert rho / scale == pytest.approx(2.0, rel=1e-12)
    assert degree == 2


@pytest.mark.parametrize("spread", [1e6, 1e12])
def test_the_units_of_the_states_do_not_matter(spread):
    A = np.random.default_rng(0).normal(size=(4, 4))
    D = np.array([1.0, spread, 1 / spread, 7.0])
    rho, degree = dominant_growth(A * D[:, None] / D)
    assert rho == pytest.approx(np.abs(np.linalg.eigvals(A)).max(), rel=1e-12)
    assert degree == 0
