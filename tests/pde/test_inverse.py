"""Inverse problems: against dense normal equations, and the choice of alpha against root finding."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.figure import Figure
from scipy.optimize import brentq
from scipy.sparse.linalg import aslinearoperator

import lqrad
from lqrad.errors import ArgumentError, NonFiniteError, NotConvexError, ShapeError
from lqrad.pde.inverse import invert
from lqrad.pde.pictures import plot_discrepancy, plot_inversion, plot_l_curve
from lqrad.pde.problem import SparseLQProblem

N, M, T, NY = 30, 4, 40, 3


def laplacian(n, ends=1.0):
    """Second differences, minus; the ends insulated by default."""
    diagonal = np.r_[ends, np.full(n - 2, 2.0), ends]
    return sp.diags_array([-np.ones(n - 1), diagonal, -np.ones(n - 1)], offsets=[-1, 0, 1])


def rod(n=N, **changes):
    """A rod, which leaks at its ends, in a wind, so that nothing is symmetric."""
    wind = 0.2 * sp.diags_array([-1.0, 1.0], offsets=[-1, 0], shape=(n, n))
    G = np.repeat(np.eye(M), n // M + 1, axis=0)[:n] * 0.1
    given = {"c": 0.02 * np.cos(np.arange(n)), "q": np.ones(n)} | changes
    E = sp.eye_array(n) + 0.8 * laplacian(n, 1.1) + wind
    return SparseLQProblem(E, sp.eye_array(n), G, np.ones(n), np.ones(M), **given)


def dense_map(problem, C, noise, unknown, seen):
    """A and the offset of readings A w + b, column by column, by dense solves."""
    E, F, G = problem.E.toarray(), problem.F.toarray(), np.asarray(problem.G)

    def readings(x0, u):
        x = [x0]
        for _ in range(T):
            x.append(np.linalg.solve(E, F @ x[-1] + G @ u + problem.c))
        return ((np.array(x) @ np.asarray(C).T) / noise)[seen]

    def at(w):
        if unknown == "initial":
            return readings(w, np.zeros(M))
        return readings(np.zeros(N), w)

    size = N if unknown == "initial" else M
    b = at(np.zeros(size))
    return np.array([at(e) - b for e in np.eye(size)]).T, b


def case(unknown, *, noise=0.05, seed=0):
    rng = np.random.default_rng(seed)
    problem, C = rod(), rng.normal(size=(NY, N)) / np.sqrt(N)
    if unknown == "initial":
        w = np.exp(-(((np.arange(N) - 11) / 4) ** 2)) + 0.3
        x = problem.simulate(w, np.zeros((T, M)))
    else:
        w = rng.normal(size=M)
        x = problem.simulate(np.zeros(N), np.broadcast_to(w, (T, M)))
    sigma = np.broadcast_to(noise, (NY,))
    y = x @ C.T + sigma * rng.normal(size=(T + 1, NY))
    return problem, C, y, w, rng


WEIGHTS = {
    "none": lambda size: (None, np.eye(size)),
    "diagonal": lambda size: (np.linspace(0.5, 2, size),) * 2,
    "dense": lambda size: (np.eye(size) + 0.5 * laplacian(size).toarray(),) * 2,
    "sparse": lambda size: (sp.eye_array(size) + 0.5 * laplacian(size), None),
}


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("unknown", ["initial", "source"])
@pytest.mark.parametrize("rule", ["given", "discrepancy"])
def test_it_solves_the_normal_equations(unknown, weight, rule):
    problem, C, y, _, rng = case(unknown)
    size = N if unknown == "initial" else M
    given, W = WEIGHTS[weight](size)
    W = given.toarray() if W is None else np.diag(W) if np.ndim(W) == 1 else W
    prior = 0.1 * rng.normal(size=size)
    noise = np.array([0.05, 0.1, 0.04])
    y[5:9, 1] = np.nan
    seen = ~np.isnan(y)
    A, b = dense_map(problem, C, noise, unknown, seen)
    d = (y / noise)[seen] - b - A @ prior

    def solve(alpha):
        return np.linalg.solve(A.T @ A + alpha * W, A.T @ d)

    def misfit(alpha):
        return np.linalg.norm(A @ solve(alpha) - d)

    alpha = 2.0
    if rule == "discrepancy":
        target = np.sqrt(seen.sum())
        assert misfit(1e-8) < target < np.linalg.norm(d)
        alpha = np.exp(brentq(lambda z: misfit(np.exp(z)) - target, -18, 25, xtol=1e-13))
    found = invert(
        problem,
        y,
        C,
        noise=noise,
        unknown=unknown,
        prior=prior,
        weight=given,
        alpha=alpha if rule == "given" else rule,
        tol=1e-10,
    )
    assert found.rule == rule
    assert found.alpha == pytest.approx(alpha, rel=1e-6)
    expected = solve(alpha)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.w - prior, expected, rtol=0, atol=1e-6 * scale)
    assert found.misfit == pytest.approx(misfit(alpha), rel=1e-8)
    assert found.expected == pytest.approx(np.sqrt(seen.sum()))
    assert found.size == pytest.approx(np.sqrt(expected @ W @ expected), rel=1e-6)
    assert found.gradient < 1e-8
    start, u = (found.w, np.zeros(M)) if unknown == "initial" else (np.zeros(N), found.w)
    np.testing.assert_array_equal(found.x, problem.simulate(start, np.broadcast_to(u, (T, M))))
    for k in range(0, len(found.alphas), 15):
        assert found.misfits[k] == pytest.approx(misfit(found.alphas[k]), rel=1e-6)


def test_what_is_known_enters():
    """Known inputs of an unknown initial state, and a known initial state of an unknown source."""
    rng = np.random.default_rng(0)
    problem, C, x0, w = rod(), np.eye(N)[::4], rng.normal(size=N), rng.normal(size=M)
    u = rng.normal(size=(T, M))
    y = problem.simulate(x0, u) @ C.T
    found = invert(problem, y, C, noise=1e-3, u=u, alpha=1e-6, max_iter=300)
    assert np.abs(found.x[3:] - problem.simulate(x0, u)[3:]).max() < 0.02
    y = problem.simulate(x0, np.broadcast_to(w, (T, M))) @ C.T
    found = invert(problem, y, C, noise=1e-3, unknown="source", x0=x0, alpha=1e-8)
    np.testing.assert_allclose(found.w, w, rtol=1e-8)


@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("seed", range(3))
def test_the_discrepancy_principle_leaves_what_noise_leaves(noise, seed):
    problem, C, y, w, _ = case("initial", noise=noise, seed=seed)
    found = invert(problem, y, C, noise=noise)
    assert found.misfit == pytest.approx(np.sqrt(y.size), rel=1e-6)
    assert np.linalg.norm(found.w - w) < 2 * least_error(problem, y, C, noise, w)


def least_error(problem, y, C, noise, w):
    """That of the best alpha, which only who knows w can choose."""
    return min(
        np.linalg.norm(invert(problem, y, C, noise=noise, alpha=alpha).w - w)
        for alpha in np.logspace(-2, 4, 13)
    )


@pytest.mark.parametrize("noise", [1e-1, 1e-2])
@pytest.mark.parametrize("seed", range(3))
def test_the_l_curve_needs_no_noise_level_and_comes_near(noise, seed):
    """With a noise that is wrong by a factor of 30: the same solution, and alpha in its square."""
    problem, C, y, w, _ = case("initial", noise=noise, seed=seed)
    found = invert(problem, y, C, noise=noise, alpha="l-curve")
    wrong = invert(problem, y, C, noise=30 * noise, alpha="l-curve")
    assert wrong.alpha == pytest.approx(found.alpha / 900, rel=1e-9)
    np.testing.assert_allclose(wrong.w, found.w, atol=1e-6)
    assert np.linalg.norm(found.w - w) < 2 * least_error(problem, y, C, noise, w)


def test_a_finer_noise_gives_a_finer_picture():
    errors = []
    for noise in (0.3, 0.03, 0.003):
        problem, C, y, w, _ = case("initial", noise=noise)
        errors.append(np.linalg.norm(invert(problem, y, C, noise=noise).w - w))
    assert errors[0] > errors[1] > errors[2]


def test_where_the_prior_explains_the_data_nothing_is_added():
    problem, C, y, w, _ = case("initial", noise=0.05)
    found = invert(problem, y, C, noise=0.06, prior=w)
    assert found.alpha == np.inf
    assert found.iterations == 0
    assert np.array_equal(found.w, w)
    assert found.misfit <= found.expected
    assert isinstance(found.plot(), Figure)


def test_a_warm_spot_on_a_plate_is_found_by_sixty_sensors():
    k, steps = 40, 30
    line = sp.kron(laplacian(k), sp.eye_array(k)) + sp.kron(sp.eye_array(k), laplacian(k))
    unit = sp.eye_array(k * k)
    plate = SparseLQProblem(unit + line, unit, np.ones((k * k, 1)), np.ones(k * k), [1.0])
    y0, x0 = np.meshgrid(np.arange(k), np.arange(k), indexing="ij")
    w = np.exp(-((y0 - 12) ** 2 + (x0 - 25) ** 2) / 40).ravel()
    rng = np.random.default_rng(0)
    C = unit.tocsr()[rng.choice(k * k, 60, replace=False)]
    y = (C @ plate.simulate(w, np.zeros((steps, 1))).T).T
    y += 0.01 * rng.normal(size=y.shape)
    found = invert(plate, y, C, noise=0.01, weight=unit + 4 * line)
    assert found.misfit == pytest.approx(found.expected, rel=1e-6)
    assert abs(int(found.w.argmax()) - int(w.argmax())) <= 3 * k
    assert np.linalg.norm(found.w - w) < 0.4 * np.linalg.norm(w)
    assert found.iterations < 60


# --- pictures and words ---------------------------------------------------------------------------


def test_the_picture_shows_the_curve_the_choice_and_the_noise():
    problem, C, y, _, _ = case("initial")
    found = invert(problem, y, C, noise=0.05)
    figure = plot_inversion(found)
    figure.canvas.draw()
    left, right = figure.axes
    curve, mark, _ = left.lines
    np.testing.assert_array_equal(curve.get_xdata(), found.misfits)
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (found.misfit, found.size)
    nearest = np.abs(np.log(found.alphas / found.alpha)).argmin()
    assert found.misfits[nearest] == pytest.approx(found.misfit, rel=0.1)
    assert right.lines[1].get_xdata()[0] == found.alpha
    assert right.lines[2].get_ydata()[0] == found.expected
    for ax in figure.axes:
        assert ax.get_xlabel()
        assert ax.get_ylabel()
    ax = Figure().subplots()
    assert plot_l_curve(found, ax=ax) is ax
    assert plot_discrepancy(found, ax=ax) is ax
    assert plt.get_fignums() == []
    assert repr(found).startswith("<Inversion: initial state, alpha = ")
    problem, C, y, _, _ = case("source")
    assert "source, alpha" in repr(invert(problem, y, C, noise=0.05, unknown="source"))


# --- refusals -------------------------------------------------------------------------------------

Y, EYE = np.ones((T + 1, NY)), np.eye(N)[:NY]
TILTED = np.diag([1e20, *np.ones(N - 1)])  # by more than rounding of its own entries, if not of all
TILTED[1, 2] = 0.5


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"problem": 3}, ArgumentError, "problem is of type int"),
        ({"problem": rod(reaction=(np.sin, np.cos))}, ArgumentError, "problem has a reaction"),
        ({"unknown": "sources"}, ArgumentError, "unknown is 'sources', expected one of: initial, source"),
        ({"C": np.ones((NY, 4))}, ShapeError, r"C has shape \(3, 4\), expected \(ny, n\) with n = 30"),
        ({"y": np.ones((T, 2))}, ShapeError, r"y has shape \(40, 2\), expected \(T\+1, 3\)"),
        ({"y": np.ones((1, NY))}, ShapeError, r"y has shape \(1, 3\)"),
        ({"y": np.ones((4, NY)), "problem": rod(q=np.ones((5, N)))}, ShapeError, r"expected \(6, 3\)"),
        ({"y": Y * np.nan}, ArgumentError, "nothing but NaN"),
        ({"y": Y * np.inf}, NonFiniteError, r"y\[0, 0\] is inf"),
        ({"noise": 0.0}, ArgumentError, "noise is 0.0, expected a positive number or 3 of them"),
        ({"noise": np.ones(2)}, ArgumentError, "noise is"),
        ({"prior": np.ones(M)}, ShapeError, r"prior has shape \(4,\), expected \(30,\)"),
        ({"x0": np.ones(N)}, ArgumentError, "x0 is given and unknown at once"),
        ({"u": np.ones((T, M)), "unknown": "source"}, ArgumentError, "u is given and unknown at once"),
        ({"u": np.ones((T - 1, M))}, ShapeError, r"u has shape \(39, 4\)"),
        ({"weight": np.ones(M)}, ShapeError, r"weight has shape \(4,\)"),
        ({"weight": np.zeros(N)}, NotConvexError, "weight is not known to be positive"),
        ({"weight": -np.eye(N)}, NotConvexError, "weight has the eigenvalue -1"),
        ({"weight": -sp.eye_array(N)}, NotConvexError, "weight has the eigenvalue -1"),
        ({"weight": np.ones((N, N))}, NotConvexError, "weight is not known to be positive"),
        ({"weight": aslinearoperator(np.eye(N))}, NotConvexError, "not known to be positive"),
        ({"weight": TILTED}, NotConvexError, r"weight is not symmetric: entries \(1, 2\)"),
        ({"weight": sp.csr_array(TILTED)}, NotConvexError, "weight is not symmetric"),
        ({"C": sp.csr_array(EYE * np.nan)}, NonFiniteError, r"C\[0, 0\] is nan"),
        ({"weight": np.triu(np.ones((N, N)))}, NotConvexError, "weight is not symmetric"),
        ({"alpha": "gcv"}, ArgumentError, "alpha is 'gcv', expected one of: discrepancy, l-curve"),
        ({"alpha": -1.0}, ArgumentError, "alpha is -1.0, expected a positive number"),
        ({"tol": 1.0}, ArgumentError, "tol is 1.0"),
        ({"max_iter": 0}, ArgumentError, "max_iter is 0"),
        ({"max_iter": 2, "alpha": 1e-9}, ArgumentError, "max_iter is 2, and the gradient has not fallen"),
        ({"C": np.zeros((NY, N))}, ArgumentError, "C sees nothing of the unknown"),
        ({"noise": 1e-9}, ArgumentError, r"noise is too small.*alpha='l-curve'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(changes, error, words):
    rng = np.random.default_rng(0)
    given = {"problem": rod(), "y": Y + rng.normal(size=Y.shape), "C": EYE, "noise": 0.1} | changes
    with pytest.raises(error, match=words):
        invert(given.pop("problem"), given.pop("y"), given.pop("C"), **given)


def test_a_source_that_varies_in_time_is_named_where_no_constant_one_fits():
    problem, C, y, w, _ = case("source")
    assert invert(problem, y, C, noise=0.05, unknown="source").misfit > 0
    u = np.outer(np.sin(np.arange(T) / 3), 10 * w)
    y = problem.simulate(np.zeros(N), u) @ C.T
    with pytest.raises(
        ArgumentError, match=r"noise is too small, or the source varies in time: .*"
    ):
        invert(problem, y, C, noise=0.05, unknown="source")


def test_the_dynamics_of_an_explicit_scheme_that_blows_up_are_named():
    problem = SparseLQProblem(None, 1e9 * np.eye(2), np.ones((2, 1)), np.ones(2), [1.0])
    with pytest.raises(NonFiniteError, match="not finite"):
        invert(problem, np.ones((60, 2)), np.eye(2), noise=1.0, prior=np.ones(2))


def test_it_is_the_minimum_that_a_descent_finds():
    """The same cost, as a tracking problem of the source as an input at one step."""
    problem, C, y, _, _ = case("initial")
    found = invert(problem, y, C, noise=0.05, alpha=3.0, tol=1e-12)

    def value(w):
        residual = (y - problem.simulate(w, np.zeros((T, M))) @ C.T) / 0.05
        slopes = -(residual / 0.05) @ C
        _, pull = problem.pull_back(slopes)
        return np.vdot(residual, residual) / 2 + 1.5 * w @ w, pull + 3.0 * w

    objective = lqrad.Objective(shape=(N,), value_and_gradient=value)
    descent = lqrad.descend(objective, method="l-bfgs", tol=1e-8)
    np.testing.assert_allclose(found.w, descent.solution, atol=1e-5)
    assert value(found.w)[0] <= descent.cost * (1 + 1e-12)
