"""Peaks over all frequencies, against every frequency of a fine grid and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from lqrad.linalg.peak import gains, peak_gain


def peak_of(A, B, C, D):
    return peak_gain(A, B, C, D, np.linalg.eigvals(A) + 0j)


@pytest.mark.parametrize("seed", range(30))
def test_the_peak_is_above_every_frequency_and_reached(seed):
    rng = np.random.default_rng(seed)
    n, m, ny = (int(z) for z in rng.integers(1, 6, size=3))
    A = rng.normal(size=(n, n))
    A -= (np.linalg.eigvals(A).real.max() + rng.choice([0.5, 1e-2, 1e-6])) * np.eye(n)
    system = A, rng.normal(size=(n, m)), rng.normal(size=(ny, n)), rng.normal(size=(ny, m))
    peak, v = peak_of(*system)
    assert gains(*system, np.array([v]))[0] == pytest.approx(peak, rel=1e-12)
    poles = np.abs(np.linalg.eigvals(A).imag)
    grid = np.concatenate(
        [np.geomspace(1e-6, 1e6, 3000), *(poles + s for s in np.linspace(-1e-5, 1e-5, 101))]
    )
    assert gains(*system, grid).max() <= peak * (1 + 1e-10)


@pytest.mark.parametrize("size", [1e-9, 1e-4, 1.0, 1e5, 1e12])
def test_a_resonance_of_any_frequency_beside_others(size):
    """1 / (1 - v^2 + 2 z v i) peaks at 1 / (2 z sqrt(1 - z^2)), where v^2 = 1 - 2 z^2."""
    z, A, B, C = 1e-3, np.zeros((6, 6)), np.zeros((6, 3)), np.zeros((3, 6))
    for i, w in enumerate([size, 1e3 * size, 1e-4 * size]):
        A[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[0, w], [-w, -2 * z * w]]
        B[2 * i + 1, i], C[i, 2 * i] = w, 1.0 / (1 + i)
    peak, v = peak_gain(A, B, C, np.zeros((3, 3)), np.linalg.eigvals(A) + 0j)
    assert peak == pytest.approx(1 / (2 * z * np.sqrt(1 - z**2)), rel=1e-10)
    assert v == pytest.approx(size * np.sqrt(1 - 2 * z**2), rel=1e-6)


def test_peaks_that_are_limits():
    zero, one = np.zeros((1, 1)), np.eye(1)
    assert peak_of(-one, zero, zero, -3 * one)[0] == 3.0
    assert peak_of(-one, one, -one, one) == (1.0, np.inf)  # s / (s + 1)
    assert peak_of(-one, one, one, zero) == (1.0, 0.0)
