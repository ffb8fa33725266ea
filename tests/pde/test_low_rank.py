"""The low-rank preconditioner: a change of variables, its spectrum, and iterations on refined grids."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from random_problems import psd, random_case

import lqrad
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, NonFiniteError, NotConvexError, ShapeError
from lqrad.pde.low_rank import low_rank
from lqrad.pde.problem import SparseLQProblem

TOL = 1e-8


def bowl(H, b, shape):
    """1/2 z'H z - b'z."""
    size = len(b)

    def value_and_gradient(z):
        flat = z.ravel()
        return float(flat @ H @ flat / 2 - b @ flat), (H @ flat - b).reshape(shape)

    return Objective(
        shape=shape,
        value_and_gradient=value_and_gradient,
        hessian_product=lambda z, v: (H @ v.reshape(size)).reshape(shape),
        gap_bound=lambda g: float(g.ravel() @ np.linalg.solve(H, g.ravel())) / 2,
        quadratic=True,
    )


def plate(k, T=30, *, price=1e-5, pieces=2):
    """A unit square of k x k cells, cold at first, heated through pieces of its four sides.

    The heat equation over a tenth of its time scale, by implicit Euler; the cost is an integral over
    the square and over time, so that it is that of the equation on every grid.
    """
    h, dt = 1 / k, 0.1 / T
    ends = np.r_[1.0, np.full(k - 2, 2.0), 1.0]
    line = sp.diags_array([-np.ones(k - 1), ends, -np.ones(k - 1)], offsets=[-1, 0, 1]) / h**2
    L = sp.kron(line, sp.eye_array(k)) + sp.kron(sp.eye_array(k), line)
    middles = (np.arange(k) + 0.5) * h
    columns = []
    for axis in (0, 1):
        for end in (0, -1):
            for piece in range(pieces):
                heated = np.zeros((k, k))
                flux = (np.floor(middles * pieces) == piece) / h
                np.moveaxis(heated, axis, 0)[end] = flux
                columns.append(dt * heated.ravel())
    G = np.array(columns).T
    target = np.sin(np.pi * middles)[:, None] * (1 + middles)[None]
    weights = np.full(k * k, h * h * dt), np.full(4 * pieces, price * dt / pieces)
    unit = sp.eye_array(k * k)
    problem = SparseLQProblem.tracking(
        unit + dt * L, unit, G, *weights, np.full(k * k, h * h), target.ravel()
    )
    return problem, problem.objective(np.zeros(k * k), T)


def iterations(objective, factor=None):
    objective = objective if factor is None else factor.precondition(objective)
    result = lqrad.descend(objective, method="conjugate-gradient", tol=TOL)
    assert result.status.converged
    return result.iterations


# --- a change of variables ------------------------------------------------------------------------


def dense_factor(factor, size):
    return np.array([factor.recover(e.reshape(factor.shape)).ravel() for e in np.eye(size)]).T


@pytest.mark.parametrize("weights", ["diagonal", "dense"])
@pytest.mark.parametrize("rank", [1, 5, 12, 100])
def test_the_objective_changes_its_variables_and_nothing_else(rank, weights):
    case = random_case(3, n=4, m=3, T=4, radius=0.9, time_varying=False, all_terms=False)
    R = np.diag([0.5, 1.0, 3.0]) if weights == "diagonal" else case.data["R"]
    problem = lqrad.LQProblem(**(case.data | {"R": R}))
    objective = problem.objective(case.x0, 4)
    factor = low_rank(objective, np.diag(R) if weights == "diagonal" else R, rank)
    new, rng = factor.precondition(objective), np.random.default_rng(0)
    F = dense_factor(factor, 12)
    w, v = rng.normal(size=(2, 4, 3))
    z = (F @ w.ravel()).reshape(4, 3)
    J, g = objective.value_and_gradient(z)
    new_J, new_g = new.value_and_gradient(w)
    assert pytest.approx(J, rel=1e-13) == new_J
    np.testing.assert_allclose(new_g.ravel(), F.T @ g.ravel(), rtol=1e-11, atol=1e-11)
    H = np.array([problem.hessian_product(e.reshape(4, 3)).ravel() for e in np.eye(12)])
    product = new.hessian_product(w, v).ravel()
    np.testing.assert_allclose(product, F.T @ H @ F @ v.ravel(), rtol=1e-11, atol=1e-11)
    assert new.gap_bound(new_g) == pytest.approx(objective.gap_bound(g), rel=1e-10)
    assert new.quadratic
    np.testing.assert_allclose(factor.recover(factor.start(z)), z, rtol=1e-12)
    np.testing.assert_allclose(factor.start(z), w, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dense_R", [False, True], ids=["diagonal R", "dense R"])
def test_eigenvalues_are_those_relative_to_r(dense_R):
    """R + G D G' has the eigenvalues D relative to R, if G'R^-1 G is the identity."""
    rng, T, m = np.random.default_rng(0), 10, 4
    R = psd(rng, m) + np.eye(m) if dense_R else np.diag([0.1, 1.0, 10.0, 0.5])
    full = np.kron(np.eye(T), R)
    root = np.linalg.cholesky(full)
    V = np.linalg.qr(rng.normal(size=(T * m, 5)))[0]
    values = np.array([1e4, 1e3, 50.0, 7.0, 0.5])
    H = full + root @ (V * values) @ V.T @ root.T
    objective = bowl(H, rng.normal(size=T * m), (T, m))
    factor = low_rank(objective, R if dense_R else np.diag(R), rank=5)
    np.testing.assert_allclose(factor.values, values, rtol=1e-9)
    np.testing.assert_allclose(np.abs(factor.vectors @ V), np.eye(5), atol=1e-7)
    assert factor.products <= 7  # what is left is invariant
    F = dense_factor(factor, T * m)
    level = 1.5  # 1 + the smallest that was kept
    spectrum = np.linalg.eigvalsh(F.T @ H @ F)
    np.testing.assert_allclose(spectrum[-5:], level, rtol=1e-9)
    np.testing.assert_allclose(spectrum[:-5], 1.0, rtol=1e-9)


def test_with_all_directions_one_step_is_enough():
    rng = np.random.default_rng(1)
    H = 1e3 * psd(rng, 12) + np.eye(12)
    objective = bowl(H, rng.normal(size=12), (4, 3))
    assert iterations(objective, low_rank(objective, np.ones(3), rank=12)) == 1
    assert iterations(objective) > 5


def test_the_solution_is_that_without_and_the_gap_is_proven():
    problem, objective = plate(8)
    factor = low_rank(objective, problem.R, rank=30)
    result = lqrad.descend(factor.precondition(objective), method="conjugate-gradient", tol=1e-16)
    plain = lqrad.descend(objective, method="conjugate-gradient", tol=1e-16)
    u = factor.recover(result.solution)
    np.testing.assert_allclose(u, plain.solution, rtol=0, atol=1e-6 * np.abs(u).max())
    optimum = lqrad.riccati(problem.dense(), 30).rollout(np.zeros(problem.n)).cost
    result = lqrad.descend(factor.precondition(objective), method="conjugate-gradient", tol=1e-8)
    J, g = objective.value_and_gradient(factor.recover(result.solution))
    assert 0 < J - optimum <= objective.gap_bound(g) <= 1e-8 * abs(J)
    assert objective.gap_bound(g) == pytest.approx(result.gap_bound, rel=1e-9)


def test_one_factor_serves_other_targets_and_states():
    problem, objective = plate(8)
    factor = low_rank(objective, problem.R, rank=30)
    expected = iterations(objective, factor)
    rng = np.random.default_rng(0)
    other = problem.objective(rng.normal(size=problem.n), 30)
    assert iterations(other, factor) <= expected + 3
    assert iterations(other, factor) < iterations(other) / 2


def test_a_hessian_that_depends_on_the_point_is_taken_there():
    curved = Objective(
        shape=(3, 1),
        value_and_gradient=lambda z: (float((z**4).sum() / 12), z**3 / 3),
        hessian_product=lambda z, v: z**2 * v,
    )
    at = np.array([[1.0], [2.0], [5.0]])
    np.testing.assert_allclose(
        low_rank(curved, [1.0], 3, at=at).values, [24.0, 3.0, 0.0], atol=1e-12
    )


def test_a_batch_of_series_is_preconditioned_as_one():
    problem, _ = plate(4, T=6)
    objective = problem.objective(np.random.default_rng(0).normal(size=(2, 16)), 6)
    assert objective.shape == (2, 6, 8)
    factor = low_rank(objective, problem.R, rank=96)
    assert iterations(objective, factor) == 1
    assert repr(factor).startswith("<LowRank: 96 of 96 directions, eigenvalues from 1 + ")


# --- refined grids --------------------------------------------------------------------------------


def test_iterations_do_not_grow_as_the_grid_is_refined():
    """Neither with each grid's own eigenvectors, nor with those of the coarsest for all of them."""
    grids = {k: plate(k) for k in (6, 12, 24)}
    coarse = low_rank(grids[6][1], grids[6][0].R, rank=120)
    plain, own, borrowed = [], [], []
    for problem, objective in grids.values():
        plain.append(iterations(objective))
        own.append(iterations(objective, low_rank(objective, problem.R, rank=30)))
        borrowed.append(iterations(objective, coarse))
    assert max(own[1:]) <= own[0] + 2
    assert borrowed[2] <= borrowed[1] + 2
    assert max(own) < min(plain) / 2
    assert max(borrowed[1:]) < min(plain) / 2


def test_the_largest_eigenvalues_tend_to_those_of_the_equation():
    tops = []
    for k in (6, 12, 24):
        problem, objective = plate(k)
        tops.append(low_rank(objective, problem.R, rank=8).values[:3])
    steps = np.abs(np.diff(tops, axis=0) / tops[-1])
    assert np.all(steps[1] < steps[0] / 2)
    assert np.all(steps[1] < 0.02)


# --- refusals -------------------------------------------------------------------------------------

OBJECTIVE = bowl(np.eye(6), np.ones(6), (3, 2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: low_rank(np.ones(3), [1.0]), ArgumentError, "objective is of type ndarray"),
        (lambda: low_rank(Objective((3, 2), lambda z: (0.0, z)), np.ones(2)), ArgumentError, "objective has no hessian_product"),
        (lambda: low_rank(OBJECTIVE, np.ones(3)), ShapeError, r"R has shape \(3,\), expected \(m,\) or \(m, m\)"),
        (lambda: low_rank(OBJECTIVE, sp.eye_array(3)), ShapeError, r"R has shape \(3, 3\)"),
        (lambda: low_rank(OBJECTIVE, [1.0, 0.0]), NotConvexError, "R is not positive definite"),
        (lambda: low_rank(OBJECTIVE, np.ones((2, 2)) - 2 * np.eye(2)), NotConvexError, "R is not positive definite"),
        (lambda: low_rank(OBJECTIVE, [1.0, np.nan]), NonFiniteError, r"R\[1\] is nan"),
        (lambda: low_rank(OBJECTIVE, np.ones(2), 0), ArgumentError, "rank is 0"),
        (lambda: low_rank(OBJECTIVE, np.ones(2), at=np.ones(3)), ShapeError, r"at has shape \(3,\)"),
        (lambda: low_rank(OBJECTIVE, np.ones(2)).precondition(bowl(np.eye(2), np.ones(2), (1, 2))), ShapeError, r"\(1, 2\), expected \(3, 2\)"),
        (lambda: low_rank(OBJECTIVE, np.ones(2)).recover(np.ones(6)), ShapeError, r"w has shape \(6,\)"),
        (lambda: low_rank(bowl(np.full((6, 6), 1e300), np.ones(6), (3, 2)), np.full(2, 1e-200)), NonFiniteError, "Hessian's product"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(call, error, words):
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(error, match=words):
        call()
