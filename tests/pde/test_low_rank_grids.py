"""The low-rank preconditioner: its eigenvalues, its change of variables, and grids that do not matter."""

from __future__ import annotations

import numpy as np
import pytest

import lqrad
from lqrad.pde.heat import heat_plate
from lqrad.pde.low_rank import low_rank


def plate(cells, T=20):
    """Not square: a symmetry would give double eigenvalues, of which Lanczos finds one vector each."""
    system = heat_plate(
        (cells, cells),
        lengths=(1.0, 0.8),
        heaters=(2, 2),
        T=T,
        dt=50.0,
        input_weight=1e-4,
    )
    return system, system.problem()


def dense_hessian(problem, T):
    columns = [
        problem.hessian_product(e.reshape(T, problem.m)).ravel() for e in np.eye(T * problem.m)
    ]
    return np.array(columns)


def test_it_finds_the_largest_eigenvalues_relative_to_the_weight():
    system, problem = plate(6)
    factor = low_rank(problem.objective(system.x0, 20), problem.R, rank=8)
    scale = np.tile(np.sqrt(problem.R), 20)
    K = dense_hessian(problem, 20) / np.outer(scale, scale) - np.eye(80)
    expected = np.linalg.eigvalsh(K)[::-1]
    # The last of a Lanczos run have not converged.
    np.testing.assert_allclose(factor.values[:4], expected[:4], rtol=1e-6)


def test_the_variables_go_there_and_back_and_the_hessian_is_flattened():
    system, problem = plate(6)
    objective = problem.objective(system.x0, 20)
    factor = low_rank(objective, problem.R, rank=12)
    z = np.random.default_rng(0).normal(size=objective.shape)
    np.testing.assert_allclose(factor.recover(factor.start(z)), z, atol=1e-10)
    new = factor.precondition(objective)
    H = np.array([new.hessian_product(z, e.reshape(z.shape)).ravel() for e in np.eye(z.size)])
    np.testing.assert_allclose(H, H.T, atol=1e-10 * np.abs(H).max())
    values = np.linalg.eigvalsh(H)
    plain = np.linalg.eigvalsh(dense_hessian(problem, 20))
    assert values[-1] / values[0] < 0.5 * plain[-1] / plain[0]
    w = factor.start(z)
    value, gradient = new.value_and_gradient(w)
    plain_value, plain_gradient = objective.value_and_gradient(z)
    assert value == pytest.approx(plain_value, rel=1e-10)
    assert new.gap_bound(gradient) == pytest.approx(objective.gap_bound(plain_gradient), rel=1e-7)


def test_iterations_do_not_grow_over_four_grids_and_are_fewer_than_without():
    plain, preconditioned = [], []
    for cells in (8, 16, 32, 64):
        system, problem = plate(cells)
        objective = problem.objective(system.x0, 20)
        plain.append(lqrad.descend(objective, method="conjugate-gradient", tol=1e-8))
        factor = low_rank(objective, problem.R, rank=20)
        found = lqrad.descend(factor.precondition(objective), method="conjugate-gradient", tol=1e-8)
        preconditioned.append(found.iterations)
        assert found.cost == pytest.approx(plain[-1].cost, rel=1e-7)
    assert max(preconditioned) - min(preconditioned) <= 1
    assert max(preconditioned) < 0.7 * min(descent.iterations for descent in plain)


def test_one_grid_serves_another():
    coarse_system, coarse = plate(8)
    factor = low_rank(coarse.objective(coarse_system.x0, 20), coarse.R, rank=20)
    system, problem = plate(32)
    objective = factor.precondition(problem.objective(system.x0, 20))
    own = low_rank(problem.objective(system.x0, 20), problem.R, rank=20)
    counts = [
        lqrad.descend(z, method="conjugate-gradient", tol=1e-8).iterations
        for z in (objective, own.precondition(problem.objective(system.x0, 20)))
    ]
    assert counts[0] <= counts[1] + 4


def test_what_does_not_fit_is_named():
    system, problem = plate(6)
    objective = problem.objective(system.x0, 20)
    with pytest.raises(lqrad.ShapeError, match=r"R has shape \(3,\)"):
        low_rank(objective, np.ones(3))
    with pytest.raises(lqrad.NotConvexError, match="R is not positive definite"):
        low_rank(objective, np.zeros(4))
    with pytest.raises(lqrad.ArgumentError, match="rank is 0"):
        low_rank(objective, problem.R, 0)
    factor = low_rank(objective, problem.R, 3)
    with pytest.raises(lqrad.ShapeError, match=r"variables of shape \(10, 4\)"):
        factor.precondition(problem.objective(system.x0, 10))
