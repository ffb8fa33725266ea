"""Margins of several loops at once, with modes over twelve decades and in any units."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import block_diag

import lqrad
from lqrad import ArgumentError, StateSpace


def modal_loop(rng, *, m, decades=(-3, 9)):
    """A closed-loop stable sum of modes from 1e-3 to 1e9 rad/s, whose response is a plain sum."""
    while True:
        parts = []
        for _ in range(int(rng.integers(1, 5))):
            w, z = 10 ** rng.uniform(*decades), 10 ** rng.uniform(-3, 0)
            b, c = rng.normal(size=m), rng.normal(size=m) * 10 ** rng.uniform(-2, 0.7)
            if rng.random() < 0.5:
                parts.append(
                    ([[0.0, w], [-w, -2 * z * w]], [0 * b, w * b], np.stack([c, 0 * c], 1))
                )
            else:
                parts.append(([[-w * (rng.random() > 0.15)]], [w * b], c[:, None]))
        A = block_diag(*(part[0] for part in parts))
        B = np.concatenate([part[1] for part in parts])
        C = np.concatenate([part[2] for part in parts], axis=1)
        D = rng.normal(size=(m, m)) * 0.3 * (rng.random() < 0.4)
        poles = np.linalg.eigvals(A - B @ np.linalg.solve(np.eye(m) + D, C))
        if poles.real.max() < 0:
            return A, B, C, D, poles


def sensitivity_of(A, B, C, D, omega):
    """(I + L)^-1 at each frequency, L summed over the diagonal blocks of A."""
    L, i = np.broadcast_to(D + 0j, (len(omega), *D.shape)).copy(), 0
    while i < len(A):
        k = i + (2 if A[i, i + 1 : i + 2].any() else 1)
        own = 1j * omega[:, None, None] * np.eye(k - i) - A[i:k, i:k]
        L += C[:, i:k] @ np.linalg.solve(own, B[i:k] + 0j)
        i = k
    return np.linalg.inv(np.eye(len(D)) + L)


def finest(function, poles):
    """The largest value of a function over a fine grid, and around every pole and local peak of it."""
    around = np.concatenate([-np.geomspace(1e-9, 0.5, 60), [0.0], np.geomspace(1e-9, 0.5, 60)])
    grid = [np.geomspace(1e-5, 1e12, 3000), (np.abs(poles)[:, None] * (1 + around)).ravel()]
    omega = np.unique(np.concatenate([*grid, *(p * (1 + around) for p in np.abs(poles.imag) if p)]))
    best = 0.0
    value = function(omega)
    tops = np.flatnonzero((value[1:-1] >= value[:-2]) & (value[1:-1] >= value[2:])) + 1
    for top in [0, len(omega) - 1, *tops[np.argsort(-value[tops])[:4]]]:
        low, high = omega[max(top - 1, 0)], omega[min(top + 1, len(omega) - 1)]
        for _ in range(10):
            inner = np.linspace(low, high, 21)
            values = function(inner)
            k = int(values.argmax())
            low, high = inner[max(k - 1, 0)], inner[min(k + 1, 20)]
        best = max(best, float(values.max()), float(value[top]))
    return best


@pytest.mark.parametrize("seed", range(24))
def test_peaks_of_modes_over_twelve_decades(seed):
    rng = np.random.default_rng(seed)
    m = int(rng.integers(2, 4))
    *loop, poles = modal_loop(rng, m=m)
    found = lqrad.margins(StateSpace(*loop, dt=0))

    def largest(turned):
        return finest(
            lambda omega: np.linalg.norm(turned(sensitivity_of(*loop, omega)), 2, axis=(1, 2)),
            poles,
        )

    assert found.sensitivity == pytest.approx(largest(lambda S: S), rel=1e-6)
    assert found.complementary == pytest.approx(largest(lambda S: np.eye(m) - S), rel=1e-6)
    assert found.disk >= (1 - 1e-6) / largest(lambda S: S - np.eye(m) / 2)
    assert found.disk <= min(one.disk for one in found.loops) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(16))
def test_units_of_states_channels_and_time_do_not_matter(seed):
    rng = np.random.default_rng(100 + seed)
    A, B, C, D, _ = modal_loop(rng, m=2, decades=(-1, 2) if seed % 2 else (-3, 9))
    dt = 0.0
    if seed % 2:  # the same loop in discrete time, by z = (1 + s)/(1 - s), in units of its own
        dt = 2.0**-7
        c = 2.0 ** np.round(np.log2(np.abs(np.linalg.eigvals(A)).max() + 1))
        A, B = A / c, B / c
        right = np.linalg.inv(np.eye(len(A)) - A)
        A, B, C, D = right @ (np.eye(len(A)) + A), right @ B, 2 * C @ right, D + C @ right @ B
    found = lqrad.margins(StateSpace(A, B, C, D, dt=dt))
    d, e = 2.0 ** rng.integers(-40, 41, size=len(A)), 2.0 ** rng.integers(-40, 41, size=2)
    t = 1.0 if dt else 2.0 ** rng.integers(-40, 41)
    other = lqrad.margins(
        StateSpace(
            A * d / d[:, None] * t,
            B / d[:, None] * e * t,
            C * d / e[:, None],
            D * e / e[:, None],
            dt=dt,
        )
    )
    assert (other.disk, other.disk_frequency) == (found.disk, found.disk_frequency * t)
    for one, same in zip(other.loops, found.loops, strict=True):
        assert one.gain == same.gain
        assert (one.phase, one.disk, one.sensitivity) == (same.phase, same.disk, same.sensitivity)
        assert one.disk_frequency == same.disk_frequency * t


def test_others_that_have_no_solution_by_themselves():
    loop = StateSpace(-np.eye(2), np.eye(2), np.eye(2), [[0.0, 1.0], [-1.0, -1.0]], dt=0)
    with pytest.raises(ArgumentError, match="with loop 0 open the others have no solution"):
        lqrad.margins(loop)


def test_loops_without_dynamics():
    loop = StateSpace(
        np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)), np.diag([1.0, 3.0]), dt=0
    )
    found = lqrad.margins(loop)
    assert found.sensitivity == 0.5
    assert found.complementary == pytest.approx(0.75, rel=1e-15)
    assert found.disk == 4.0  # S - I/2 is diag(0, -1/4)
