"""Inverse problems against dense least squares, and against what the noise allows."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import lqrad
from lqrad.problems.sparse import SparseLQProblem
from lqrad.studies.inverse import invert


def rod(n=12):
    laplace = sp.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n))
    G = np.zeros((n, 2))
    G[: n // 2, 0] = G[n // 2 :, 1] = 1.0
    unit = sp.eye_array(n)
    return SparseLQProblem(
        (unit - 0.4 * laplace).tocsc(), unit, G, np.ones(n), [1.0, 1.0], c=np.full(n, 0.02)
    )


def experiment(unknown, n=12, T=15, noise=0.05, seed=0):
    problem, rng = rod(n), np.random.default_rng(seed)
    C = np.eye(n)[[2, 6, 9]]
    w = np.exp(-(((np.arange(n) - 4) / 2) ** 2)) if unknown == "initial" else np.array([0.7, -0.4])
    other = rng.normal(size=(T, 2)) if unknown == "initial" else rng.normal(size=n)
    x = states(problem, unknown, w, other, T)
    y = x @ C.T + noise * rng.normal(size=(T + 1, 3))
    y[3, 1] = np.nan
    return problem, C, w, other, y, noise


def states(problem, unknown, w, other, T):
    if unknown == "initial":
        return problem.simulate(w, other)
    return problem.simulate(other, np.broadcast_to(w, (T, 2)))


def dense(problem, C, other, y, noise, unknown, size):
    """The matrix of all readings and what they are without the unknown, column by column."""
    T, seen = len(y) - 1, ~np.isnan(y)

    def read(w):
        return ((states(problem, unknown, w, other, T) @ C.T) / noise)[seen]

    base = read(np.zeros(size))
    A = np.array([read(e) - base for e in np.eye(size)]).T
    return A, (y / noise)[seen] - base


@pytest.mark.parametrize("unknown", ["initial", "source"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_given_alpha_is_solved_as_dense_least_squares(unknown, weighted):
    problem, C, w, other, y, noise = experiment(unknown)
    size = len(w)
    A, d = dense(problem, C, other, y, noise, unknown, size)
    rng = np.random.default_rng(1)
    root = rng.normal(size=(size, size))
    W = root @ root.T + np.eye(size) if weighted else np.eye(size)
    prior = 0.1 * rng.normal(size=size)
    given = {"u" if unknown == "initial" else "x0": other}
    found = invert(
        problem,
        y,
        C,
        noise=noise,
        unknown=unknown,
        prior=prior,
        weight=W if weighted else None,
        alpha=3.0,
        tol=1e-10,
        **given,
    )
    expected = prior + np.linalg.solve(A.T @ A + 3.0 * W, A.T @ (d - A @ prior))
    np.testing.assert_allclose(found.solution, expected, atol=1e-7)
    assert found.rule == "given"
    assert found.gradient < 1e-8
    np.testing.assert_allclose(found.misfit, np.linalg.norm(d - A @ found.solution), rtol=1e-9)
    assert found.iterations <= size


@pytest.mark.parametrize("unknown", ["initial", "source"])
def test_by_the_discrepancy_principle_the_misfit_is_that_of_the_noise(unknown):
    problem, C, w, other, y, _ = experiment(unknown, noise=0.02)
    given = {"u" if unknown == "initial" else "x0": other}
    found = invert(problem, y, C, noise=0.025, unknown=unknown, **given)
    assert found.misfit == pytest.approx(found.expected, rel=1e-4)
    assert found.expected == np.sqrt(np.isfinite(y).sum())
    assert np.linalg.norm(found.solution - w) < 0.6 * np.linalg.norm(w)
    assert found.x.shape == (16, 12)


def test_the_l_curve_finds_an_alpha_without_the_size_of_the_noise():
    """Told a noise ten times too small, it comes to the same solution."""
    problem, C, w, other, y, _ = experiment("initial", noise=0.02)
    right, wrong = (
        invert(problem, y, C, noise=sigma, u=other, alpha="l-curve") for sigma in (0.02, 0.002)
    )
    np.testing.assert_allclose(right.solution, wrong.solution, atol=0.05)
    assert wrong.alpha == pytest.approx(100 * right.alpha, rel=0.3)
    assert np.linalg.norm(right.solution - w) < 0.7 * np.linalg.norm(w)
    assert (np.diff(right.misfits) * np.sign(np.diff(right.alphas)) >= -1e-9).all()


def test_where_the_prior_explains_the_data_it_is_kept():
    problem, C, w, other, y, _ = experiment("initial")
    found = invert(problem, y, C, noise=0.2, u=other, prior=w)
    np.testing.assert_array_equal(found.solution, w)
    assert found.alpha == np.inf
    found.plot()


def test_the_picture_has_both_curves():
    problem, C, _, other, y, noise = experiment("initial", noise=0.02)
    figure = invert(problem, y, C, noise=noise, u=other).plot()
    assert len(figure.axes) >= 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"C": np.ones((3, 5))}, lqrad.ShapeError, r"C has shape \(3, 5\)"),
        ({"y": np.ones((16, 2))}, lqrad.ShapeError, r"y has shape \(16, 2\)"),
        ({"y": np.full((16, 3), np.nan)}, lqrad.ArgumentError, "nothing but NaN"),
        ({"noise": 0.0}, lqrad.ArgumentError, "noise is 0.0"),
        ({"unknown": "colour"}, lqrad.ArgumentError, "unknown is 'colour'"),
        ({"alpha": -1.0}, lqrad.ArgumentError, "alpha"),
        ({"weight": -np.ones(12)}, lqrad.NotConvexError, "weight holds -1"),
        ({"x0": np.ones(12)}, lqrad.ArgumentError, "x0 is given and unknown at once"),
        ({"C": np.zeros((3, 12))}, lqrad.ArgumentError, "C sees nothing of the unknown"),
        ({"noise": 1e-9}, lqrad.ArgumentError, "noise is too small: after 12 steps"),
    ],
)
def test_bad_input_is_named(changes, error, message):
    problem, C, _, other, y, noise = experiment("initial")
    arguments = {"y": y, "C": C, "noise": noise, "u": other, **changes}
    with pytest.raises(error, match=message):
        invert(problem, **arguments)
