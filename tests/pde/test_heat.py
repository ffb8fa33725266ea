"""Rods, plates and streams: orders against manufactured solutions, decay of modes, conservation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import lqrad
from lqrad.errors import ArgumentError
from lqrad.pde.heat import SCHEMES, advection_diffusion, diffusion, heat_plate, heat_rod, patches


def march(L, source, x, dt, steps, scheme):
    """The theta method with a source at given times, written out with dense solves."""
    theta, unit = SCHEMES[scheme], np.eye(len(x))
    E, F = unit - theta * dt * L, unit + (1 - theta) * dt * L
    for k in range(steps):
        heating = theta * source((k + 1) * dt) + (1 - theta) * source(k * dt)
        x = np.linalg.solve(E, F @ x + dt * heating)
    return x


@pytest.mark.parametrize(("scheme", "order"), [("implicit-euler", 1), ("crank-nicolson", 2)])
def test_the_error_in_time_falls_with_the_order_of_the_scheme(scheme, order):
    """T = cos(3 t) sin(pi z) on a held rod, with the heating that it takes on these cells."""
    cells, a = 20, 0.1
    rod = heat_rod(cells, diffusivity=a, left="held", right="held", dt=0.1, scheme=scheme)
    L, mode = rod.L.toarray(), np.sin(np.pi * rod.coordinates()[0])

    def source(t):
        return -3 * np.sin(3 * t) * mode - np.cos(3 * t) * (L @ mode)

    errors = []
    for steps in (40, 80):
        found = march(L, source, mode.copy(), 1 / steps, steps, scheme)
        errors.append(np.abs(found - np.cos(3.0) * mode).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("ends", [("held", "held"), ("insulated", "held"), (2.0, "insulated")])
def test_the_error_in_space_falls_with_the_square_of_the_cells(ends):
    """The stationary temperature under a heating of 1 + z, worked out by hand: a T'' = -(1 + z)."""
    a, errors = 0.5, []
    for cells in (40, 80):
        rod = heat_rod(cells, diffusivity=a, left=ends[0], right=ends[1])
        (z,) = rod.coordinates()
        found = np.linalg.solve(rod.L.toarray(), -(1 + z))
        # T = C + D z - (z^2/2 + z^3/6) / a
        rows, right = [], []
        for at, end, outward in ((0.0, ends[0], -1.0), (1.0, ends[1], 1.0)):
            bulk, slope = -(at**2 / 2 + at**3 / 6) / a, -(at + at**2 / 2) / a
            if end == "held":
                rows.append([1.0, at])
                right.append(-bulk)
            else:  # -a T' outward = w T
                w = 0.0 if end == "insulated" else end
                rows.append([w, w * at + a * outward])
                right.append(-(w * bulk + a * outward * slope))
        C, D = np.linalg.solve(rows, right)
        errors.append(np.abs(found - (C + D * z - (z**2 / 2 + z**3 / 6) / a)).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


def test_the_steps_are_those_of_the_problem():
    for scheme in SCHEMES:
        rod = heat_rod(12, dt=5.0, scheme=scheme, T=7, diffusivity=1e-4)
        rng = np.random.default_rng(0)
        u, x = rng.normal(size=(7, 2)), rng.normal(size=12)
        states = rod.problem().simulate(x, u)
        L, heating = rod.L.toarray(), u @ rod.B.toarray().T
        for k in range(7):
            x = march(L, lambda t, added=heating[k]: added, x, 5.0, 1, scheme)
            np.testing.assert_allclose(states[k + 1], x, rtol=1e-11, atol=1e-11)


def test_modes_decay_at_the_rate_of_the_equation():
    """sin(pi y) sin(2 pi z) on a held plate: exp(-a (1 + 4) pi^2 t)."""
    a, dt, steps = 1e-2, 0.02, 50
    plate = heat_plate((60, 60), diffusivity=a, dt=dt, scheme="crank-nicolson", T=steps)
    y, z = plate.coordinates()
    mode = (np.sin(np.pi * y)[:, None] * np.sin(2 * np.pi * z)).ravel()
    x = plate.problem().simulate(mode, np.zeros((steps, plate.m)))[-1]
    rate = -np.log(x @ mode / (mode @ mode)) / (steps * dt)
    assert rate == pytest.approx(5 * np.pi**2 * a, rel=2e-3)
    np.testing.assert_allclose(x, mode * (x @ mode) / (mode @ mode), atol=1e-4)


def test_an_insulated_body_keeps_its_heat():
    rod = heat_rod(30, T=40)
    x0 = np.random.default_rng(0).normal(size=30)
    x = rod.problem().simulate(x0, np.zeros((40, 2)))
    np.testing.assert_allclose(x.sum(axis=1), x0.sum(), rtol=1e-11)
    # Through an end comes what is put in: 30 cells of a metre, one K m/s.
    x = rod.problem().simulate(np.zeros(30), np.ones((40, 2)))
    np.testing.assert_allclose(x[-1].mean(), 2.0 * 40 * rod.dt, rtol=1e-11)


def test_the_matrix_of_a_plate_is_that_of_its_neighbours():
    shape, lengths, a = (3, 4), (1.5, 1.0), 0.7
    L = diffusion(shape, lengths, a, (("held", 2.0), ("insulated", "held"))).toarray()
    dy, dz = 0.5, 0.25
    expected = np.zeros((12, 12))
    for i in range(3):
        for j in range(4):
            k = 4 * i + j
            for di, dj, d in ((1, 0, dy), (-1, 0, dy), (0, 1, dz), (0, -1, dz)):
                if 0 <= i + di < 3 and 0 <= j + dj < 4:
                    expected[k, 4 * (i + di) + j + dj] += a / d**2
                    expected[k, k] -= a / d**2
                elif (di, dj) == (-1, 0):
                    expected[k, k] -= 2 * a / dy**2
                elif (di, dj) == (1, 0):
                    expected[k, k] -= 1 / (dy / (2 * a) + 1 / 2.0) / dy
                elif (di, dj) == (0, 1):
                    expected[k, k] -= 2 * a / dz**2
    np.testing.assert_allclose(L, expected, atol=1e-12)


def test_descent_finds_what_riccati_finds_on_a_small_plate():
    plate = heat_plate((6, 5), heaters=(2, 2), T=15, dt=100.0)
    problem = plate.problem()
    result = lqrad.descend(problem.objective(plate.x0, 15), method="conjugate-gradient", tol=1e-14)
    optimum = lqrad.riccati(problem.dense(), 15).rollout(plate.x0)
    assert result.status.converged
    assert result.cost == pytest.approx(optimum.cost, rel=1e-11)
    np.testing.assert_allclose(result.solution, optimum.u, atol=1e-6 * np.abs(optimum.u).max())


def test_the_iterations_do_not_grow_with_the_cells():
    counts = []
    for cells in (8, 16, 32):
        plate = heat_plate((cells, cells), heaters=(2, 2), T=40, dt=50.0)
        objective = plate.problem().objective(plate.x0, 40)
        counts.append(lqrad.descend(objective, method="conjugate-gradient", tol=1e-8).iterations)
    assert max(counts) - min(counts) <= 2


def test_only_the_cells_that_are_observed_count():
    rod = heat_rod(30, T=40, actuators="distributed", heaters=2)
    seen = (rod.coordinates()[0] < 0.5).astype(float)
    errors = []
    for system in (rod, replace(rod, observed=seen)):
        problem = system.problem()
        objective = problem.objective(rod.x0, 40)
        u = lqrad.descend(objective, method="conjugate-gradient", tol=1e-8).solution
        missed = np.abs(problem.simulate(rod.x0, u)[30] - rod.target)
        errors.append((missed[seen == 1].mean(), missed[seen == 0].mean()))
    assert errors[1][0] < 0.9 * errors[0][0]  # nothing is spent on the others
    assert errors[1][1] > 1.1 * errors[0][1]


def test_a_stream_is_far_from_normal():
    """Over the step whose powers it is about: they rise, though every mode decays."""
    pipe = advection_diffusion(40, velocity=0.05, diffusivity=1e-5, dt=1.0)
    E, F, _ = pipe.matrices()
    A = sp.linalg.spsolve(E.tocsc(), F.tocsc()).toarray()
    study = lqrad.nonnormality(A, T=5)
    assert study.spectral_radius < 1
    assert study.departure > 0.5
    # Upwind: off the diagonal nothing is negative, so that no new extremum arises.
    off = pipe.L.toarray() - np.diag(pipe.L.diagonal())
    assert (off >= 0).all()


def test_heaters_cover_every_cell_once():
    B = patches((7, 5), (3, 2)).toarray()
    assert B.shape == (35, 6)
    np.testing.assert_array_equal(B.sum(axis=1), 1)
    assert (B.sum(axis=0) > 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: heat_rod(1), "cells is 1"),
        (lambda: heat_rod(diffusivity=0.0), "diffusivity is 0.0, expected a positive number"),
        (lambda: heat_rod(left="open"), "left is 'open', expected 'held'"),
        (lambda: heat_rod(actuators="magic"), "actuators is 'magic'"),
        (lambda: heat_rod(scheme="leapfrog"), "scheme is 'leapfrog'"),
        (
            lambda: heat_rod(100, scheme="explicit-euler", dt=10.0),
            r"dt is 10 s, and explicit Euler is stable up to 0.4274 s",
        ),
        (lambda: heat_plate((5, 5), heaters=(6, 1)), "heaters are .*expected 1 to 5 on axis 0"),
        (lambda: advection_diffusion(velocity=-1.0), "velocity is -1.0"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(lqrad.ArgumentError, match=message):
        make()


def test_explicit_euler_below_its_limit_is_taken():
    rod = heat_rod(20, scheme="explicit-euler", dt=5.0, T=100)
    x = rod.problem().simulate(np.random.default_rng(0).normal(size=20), np.zeros((100, 2)))
    assert np.abs(x[-1]).max() < np.abs(x[0]).max()


def test_the_horizon_is_taken_under_its_former_name():
    assert heat_rod(5, horizon=7).T == heat_rod(5, T=7).horizon == 7
    with pytest.raises(ArgumentError, match="T is given twice"):
        heat_rod(5, horizon=7, T=7)
