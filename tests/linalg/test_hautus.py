"""Dimensions that inputs reach, known by construction, in any units and any basis."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import block_diag

from lqrad.linalg.balance import balance, in_units
from lqrad.linalg.hautus import hautus

DRAWS = 100


def rotation(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def hidden(rng):
    """A system of which the first r dimensions are reached, in random coordinates; and r.

    Half of them have eigenvalues of the reached part a second time in the other one, each pair with
    one eigenvector.
    """
    n = int(rng.integers(2, 12))
    r, m = int(rng.integers(1, n + 1)), int(rng.integers(1, 4))
    reached, rest = (rng.normal(size=(k, k)) / np.sqrt(max(k, 1)) for k in (r, n - r))
    if rng.random() < 0.5:
        k = min(r, n - r)
        rest = block_diag(reached, rest[k:, k:]) if k == r else rest
    A = np.block([[reached, rng.normal(size=(r, n - r))], [np.zeros((n - r, r)), rest]])
    B = np.concatenate([rng.normal(size=(r, m)), np.zeros((n - r, m))])
    U = rotation(rng, n)
    return U @ A @ U.T, U @ B, r


@pytest.fixture(scope="module")
def systems():
    rng = np.random.default_rng(0)
    return [hidden(rng) for _ in range(DRAWS)]


def test_as_many_modes_are_reached_as_dimensions(systems):
    for i, (A, B, r) in enumerate(systems):
        assert hautus(A, B, zero=1e-10).reached.sum() == r, i


def test_units_change_nothing_but_the_directions(systems):
    rng = np.random.default_rng(1)
    for A, B, _ in systems:
        n, m = B.shape
        x, u = (rng.integers(-40, 41, size=k) for k in (n, m))
        found = hautus(A, B, zero=1e-10)
        other = hautus(np.ldexp(A, x - x[:, None]), np.ldexp(B, u - x[:, None]), zero=1e-10)
        for name in ("modes", "distances", "reached"):
            np.testing.assert_array_equal(getattr(other, name), getattr(found, name))
        for mine, theirs in zip(found.directions, other.directions, strict=True):
            turned = theirs * 2.0**-x  # w'x is the same number
            one = np.flatnonzero(mine == 1)[0]
            np.testing.assert_allclose(turned / turned[one], mine, rtol=1e-15)


def test_what_is_out_of_reach_has_left_eigenvectors_that_B_is_orthogonal_to(systems):
    lost = 0
    for A, B, _ in systems:
        found = hautus(A, B, zero=1e-10)
        for s, w in zip(found.modes[~found.reached], found.directions[~found.reached], strict=True):
            np.testing.assert_allclose(w.conj() @ A, s * w.conj(), atol=1e-7)
            np.testing.assert_allclose(w.conj() @ B, 0, atol=1e-7)
            lost += 1
    assert lost > DRAWS


def test_distances_are_least_singular_values():
    """Of random systems, which have simple eigenvalues, against a decomposition for each of them."""
    rng = np.random.default_rng(2)
    for _ in range(30):
        n, m = int(rng.integers(1, 9)), int(rng.integers(1, 4))
        A, B = rng.normal(size=(n, n)), rng.normal(size=(n, m))
        found = hautus(A, B, zero=1e-10)
        units = balance(A, B, continuous=True)
        A, B = in_units(A, units.x, units.x), in_units(B, units.x, units.u)
        B *= np.abs(A).max() / np.abs(B).max()
        tests = [np.concatenate([A - s * np.eye(n), B], axis=1) for s in found.modes]
        least = np.linalg.svd(np.array(tests))[1][:, -1]
        norm = np.linalg.norm(np.concatenate([A, B], axis=1), 2)
        np.testing.assert_allclose(found.distances, least / norm, rtol=1e-2)


def test_a_long_chain_of_zeros():
    """All powers of a shift: the inverse of its test overflows."""
    n = 60
    A, B = np.eye(n, k=1), np.eye(n)[:, :1]
    assert hautus(A, B, zero=1e-10).reached.sum() == 1
    assert hautus(A, np.eye(n)[:, -1:], zero=1e-10).reached.all()


def test_nothing_moves_where_B_is_zero():
    found = hautus(np.diag([0.5, 2.0]), np.zeros((2, 1)), zero=1e-10)
    assert found.modes.tolist() == [2, 0.5]
    assert not found.reached.any()
    assert not found.distances.any()
    assert not hautus(np.zeros((3, 3)), np.zeros((3, 2)), zero=1e-10).reached.any()


@pytest.mark.parametrize("seed", range(20))
def test_modes_of_pairs_are_those_of_the_matrix(seed):
    """Directions are left vectors of A where B moves nothing, of real modes and of pairs."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(6, 6)) * 10 ** rng.uniform(-2, 2, size=6)
    found = hautus(A, np.zeros((6, 1)), zero=1e-10)
    assert (found.modes.imag != 0).sum() % 2 == 0
    left = found.directions.conj()
    errors = np.abs(left @ A - found.modes[:, None] * left)
    assert errors.max() < 1e-9 * np.abs(A).max() * np.abs(left).max()


def test_inputs_that_move_nothing_reach_nothing_and_nothing_is_printed(capfd):
    found = hautus(np.array([[2.0, 1.0], [0.0, 0.5]]), np.zeros((2, 1)), zero=1e-10)
    assert not found.reached.any()
    assert capfd.readouterr() == ("", "")
