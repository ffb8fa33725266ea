"""Peaks over all frequencies, against every frequency of a fine grid and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from lqrad.linalg.peak import crossings, gains, peak_gain


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
    z, A, B, C = resonances([size, 1e3 * size, 1e-4 * size], [1e-3] * 3, [1.0, 0.5, 1 / 3])
    peak, v = peak_of(A, B, C, np.zeros((3, 3)))
    assert peak == pytest.approx(1 / (2 * z[0] * np.sqrt(1 - z[0] ** 2)), rel=1e-10)
    assert v == pytest.approx(size * np.sqrt(1 - 2 * z[0] ** 2), rel=1e-6)


@pytest.mark.parametrize("size", [1e-9, 1e-4, 1.0, 1e5, 1e12])
def test_levels_are_crossed_where_closed_forms_say(size):
    z, A, B, C = resonances([size, 1e6 * size, 1e-5 * size], [1e-3] * 3, [1.0, 1e-3, 1e-3])
    level, flat = 300.0, 1 - 2 * z[0] ** 2
    root = np.sqrt(flat**2 - 1 + 1 / level**2)
    expected = size * np.sqrt([flat - root, flat + root])
    found = crossings(A, B, C, np.zeros((3, 3)), level, size)
    for v in expected:
        assert np.abs(found / v - 1).min() < 1e-9


def test_a_peak_that_no_start_is_at():
    """The largest of twelve resonances of one size is better damped than the others."""
    w = np.geomspace(1.0, 30.0, 12)
    z, gain = np.full(12, 1e-4), np.full(12, 1.0)
    z[5], gain[5] = 1e-2, 1e3
    _, A, B, C = resonances([*w, 1e9, 3e9], [*z, 0.5, 0.5], [*gain, 1.0, 1.0])
    peak, v = peak_of(A, B, C, np.zeros((14, 14)))
    assert peak == pytest.approx(1e3 / (2e-2 * np.sqrt(1 - 1e-4)), rel=1e-10)
    assert v == pytest.approx(w[5] * np.sqrt(1 - 2e-4), rel=1e-6)


def resonances(frequencies, damping, gain):
    """Filters gain w^2 / (s^2 + 2 z w s + w^2), each of an input and an output of its own."""
    k = len(frequencies)
    A, B, C = np.zeros((2 * k, 2 * k)), np.zeros((2 * k, k)), np.zeros((k, 2 * k))
    for i, (w, z) in enumerate(zip(frequencies, damping, strict=True)):
        A[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[0, w], [-w, -2 * z * w]]
        B[2 * i + 1, i], C[i, 2 * i] = w, gain[i]
    return damping, A, B, C


def test_peaks_that_are_limits():
    zero, one = np.zeros((1, 1)), np.eye(1)
    assert peak_of(-one, zero, zero, -3 * one)[0] == 3.0
    assert peak_of(-one, one, -one, one) == (1.0, np.inf)  # s / (s + 1)
    assert peak_of(-one, one, one, zero) == (1.0, 0.0)
