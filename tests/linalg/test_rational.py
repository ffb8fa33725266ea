"""Loops by whole numbers and by rounded roots: two ways, and what both must find."""

from __future__ import annotations

import numpy as np
import pytest
from plants import flexible_structure, rod

import lqrad
from lqrad.linalg.border import (
    BOTH,
    COMPLEMENTARY,
    SENSITIVITY,
    gain_crossings,
    nearest,
    real_crossings,
)
from lqrad.linalg.exact import common, positive_roots, quotient, roots, times
from lqrad.linalg.factored import factored
from lqrad.linalg.rational import EXACT, Rational


@pytest.mark.parametrize("seed", range(20))
def test_roots_of_a_product_are_those_of_its_factors_however_far_apart(seed):
    rng = np.random.default_rng(seed)
    right = sorted(int(s) for s in 10 ** rng.uniform(0, 15, size=5) * rng.choice([1, -1], size=5))
    p = [1]
    for root in right * (1 + seed % 3):
        p = times(p, [-root, 1])
    found = sorted(roots(p), key=lambda pair: pair[0].real)
    assert found == [(complex(root), 1 + seed % 3) for root in right]
    assert positive_roots(p) == [float(root) for root in right if root > 0]


@pytest.mark.parametrize("seed", range(20))
def test_a_common_factor_is_found_and_divided_out(seed):
    rng = np.random.default_rng(seed)
    p, q, shared = ([int(c) for c in rng.integers(1, 2**40, size=k)] for k in (4, 6, 3))
    found = common(times(p, shared), times(q, shared))
    assert len(found) == 3
    assert quotient(times(p, found), found) == p
    assert common(p, q) == [1]


@pytest.mark.parametrize("dt", [0.0, 1e-3])
@pytest.mark.parametrize("plant", [flexible_structure, rod])
def test_rounded_roots_find_what_whole_numbers_find(plant, dt):
    """Just above the size to which loops are computed without rounding."""
    n = EXACT + 2
    system = plant(n) if plant is rod else plant(n, low=1, high=1e3, damping=0.05, m=1)
    C = system.C * 3
    if dt:
        system = lqrad.discretise(system.A, system.B, dt=dt)
    matrices = system.A, system.B, C, np.zeros((1, 1))
    exact, rounded = Rational.of(*matrices, dt), factored(*matrices, dt=dt)
    for mine, right in (
        (gain_crossings(rounded), exact.gain_crossings()),
        (real_crossings(rounded), exact.real_crossings()),
    ):
        np.testing.assert_allclose(rounded.frequency(mine), exact.frequency(right), rtol=1e-8)
    for kind in (SENSITIVITY, COMPLEMENTARY, BOTH):
        assert nearest(rounded, kind)[0] == pytest.approx(exact.nearest(kind)[0], rel=1e-8)
