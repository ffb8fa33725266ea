"""Sparse, implicit dynamics against the dense problem that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import lqrad
from lqrad.problems.sparse import SparseLQProblem


def random_sparse(seed, *, reaction=None, symmetric=True, varying=False):
    """A rod or a random sparse E, with all terms."""
    rng = np.random.default_rng(seed)
    n, m, T = 7, 2, 6
    laplace = sp.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n))
    E = sp.eye_array(n) - 0.3 * laplace
    if not symmetric:
        E = E + 0.2 * sp.random_array((n, n), density=0.3, rng=rng)
    F = sp.eye_array(n) + 0.1 * laplace
    G = sp.random_array((n, m), density=0.6, rng=rng)
    rows = (T,) if varying else ()
    vectors = {"c": rng.normal(size=(*rows, n)), "q": rng.normal(size=(*rows, n))}
    vectors |= {"r": rng.normal(size=(*rows, m)), "s": rng.normal(size=n)}
    problem = SparseLQProblem(
        E.tocsc(),
        F,
        G,
        rng.uniform(0, 2, n),
        [0.5, 2.0],
        rng.uniform(0, 3, n),
        reaction=reaction,
        **vectors,
    )
    return problem, rng.normal(size=n), rng.normal(size=(T, m)), rng


KINDS = pytest.mark.parametrize(
    ("symmetric", "varying"), [(True, False), (False, False), (True, True), (False, True)]
)


@KINDS
@pytest.mark.parametrize("seed", range(3))
def test_everything_is_that_of_the_dense_problem(seed, symmetric, varying):
    problem, x0, u, rng = random_sparse(seed, symmetric=symmetric, varying=varying)
    dense, E = problem.dense(), problem.E.toarray()
    x = problem.simulate(x0, u)
    np.testing.assert_allclose(x, dense.simulate(x0, u), rtol=0, atol=1e-11)
    p = problem.adjoint(x, u)
    np.testing.assert_allclose(p @ E, dense.adjoint(x, u), rtol=0, atol=1e-11)
    J, g = problem.value_and_gradient(x0, u)
    expected_J, expected_g = dense.value_and_gradient(x0, u)
    assert pytest.approx(expected_J, rel=1e-12) == J
    np.testing.assert_allclose(g, expected_g, rtol=0, atol=1e-11)
    np.testing.assert_allclose(problem.input_gradient(x, u, p), g, rtol=0, atol=1e-12)
    v = rng.normal(size=u.shape)
    np.testing.assert_allclose(
        problem.hessian_product(v), dense.hessian_product(v), rtol=0, atol=1e-11
    )
    assert problem.cost(x, u) == pytest.approx(J, rel=1e-13)
    assert problem.lagrangian(x, u, p) == pytest.approx(J, rel=1e-12)
    kkt = problem.kkt_residual(x, u, p, x0)
    assert np.abs(kkt.dynamics).max() < 1e-13
    assert np.abs(kkt.state).max() < 1e-12
    np.testing.assert_allclose(kkt.input, g, rtol=0, atol=1e-12)
    objective = problem.objective(x0, len(u))
    assert objective.gap_bound(g) >= J - lqrad.riccati(dense, len(u)).rollout(x0).cost


@KINDS
def test_forward_map_and_adjoint_are_transposes(symmetric, varying):
    problem, _, u, _ = random_sparse(5, symmetric=symmetric, varying=varying)
    zero = problem._changed(
        **{name: np.zeros_like(getattr(problem, name)) for name in ("c", "q", "r", "s")}
    )

    def forward(v):
        return zero.simulate(np.zeros(problem.n), v)[1:]

    def transpose(y):
        linear = zero._changed(
            Q=np.zeros(problem.n),
            S=np.zeros(problem.n),
            R=np.zeros(problem.m),
            q=np.vstack([0 * y[:1], y[:-1]]),
            s=y[-1],
            T=len(y),
        )
        return linear.value_and_gradient(np.zeros(problem.n), np.zeros(u.shape))[1]

    assert lqrad.dot_test(forward, transpose, u.shape) < 1e-12


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 9])
@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_checkpoints_give_the_same_bits(k, kind):
    cubic = (lambda x: -0.1 * x**3, lambda x: -0.3 * x**2)
    problem, x0, u, _ = random_sparse(1, reaction=cubic if kind == "cubic" else None)
    J, g = problem.value_and_gradient(x0, u)
    kept_J, kept_g = problem.value_and_gradient(x0, u, checkpoints=k)
    assert kept_J == J
    np.testing.assert_array_equal(kept_g, g)


def test_a_cubic_source_has_its_gradient():
    cubic = (lambda x: -0.1 * x**3, lambda x: -0.3 * x**2)
    problem, x0, u, _ = random_sparse(2, reaction=cubic)
    objective = problem.objective(x0, len(u))
    assert not objective.quadratic
    assert lqrad.taylor_test(objective.value_and_gradient, u).order == pytest.approx(2, abs=0.05)


def test_the_gradient_in_the_initial_state_is_the_central_difference():
    problem, x0, u, rng = random_sparse(3)
    x = problem.simulate(x0, u)
    g = problem.initial_gradient(x, problem.adjoint(x, u))
    d = rng.normal(size=x0.shape)
    ahead, behind = (problem.cost(problem.simulate(z, u), u) for z in (x0 + d, x0 - d))
    assert g @ d == pytest.approx((ahead - behind) / 2, rel=1e-11)


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3)])
def test_a_batch_is_a_loop_over_its_series(batch):
    problem, _, u, rng = random_sparse(4)
    x0 = rng.normal(size=(*batch, problem.n))
    J, g = problem.value_and_gradient(x0, u)
    for index in np.ndindex(batch):
        one, slope = problem.value_and_gradient(x0[index], u)
        assert J[index] == pytest.approx(one, rel=1e-12)
        np.testing.assert_allclose(g[index], slope, rtol=0, atol=1e-12)


def test_what_is_singular_or_does_not_fit_is_named():
    eye = sp.eye_array(3)
    with pytest.raises(lqrad.ArgumentError, match="E is singular"):
        SparseLQProblem(sp.csc_array((3, 3)), eye, np.ones((3, 1)), np.ones(3), [1.0])
    with pytest.raises(lqrad.ShapeError, match=r"G has shape \(2, 1\)"):
        SparseLQProblem(eye.tocsc(), eye, np.ones((2, 1)), np.ones(3), [1.0])
    with pytest.raises(lqrad.ShapeError, match=r"E has shape \(2, 2\)"):
        SparseLQProblem(sp.eye_array(2).tocsc(), eye, np.ones((3, 1)), np.ones(3), [1.0])
    with pytest.raises(lqrad.NotConvexError, match="Q"):
        SparseLQProblem(eye.tocsc(), eye, np.ones((3, 1)), -np.ones(3), [1.0])
