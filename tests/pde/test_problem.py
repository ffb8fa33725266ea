"""SparseLQProblem in depth: every kind of matrix, reactions, bounded memory, proofs, refusals.

The oracles are loops with dense solves; a central difference of a quadratic is exact at any step.
"""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from random_problems import psd
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import lqrad
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, NotConvexError, ShapeError
from lqrad.linalg.checkpointing import forward_steps
from lqrad.linalg.sparse_factors import factorised
from lqrad.pde.problem import SparseLQProblem

EPS = np.finfo(float).eps


def line(n):
    """Second differences, minus, with walls held at zero."""
    return sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))


def plate(k):
    """The same on k by k cells."""
    return sp.kron(line(k), sp.eye_array(k)) + sp.kron(sp.eye_array(k), line(k))


def random_matrices(seed, n=9, m=3):
    """Dense data of a problem with all terms, T = 5."""
    rng = np.random.default_rng(seed)
    return {
        "E": np.eye(n) + 0.3 * line(n).toarray() + 0.1 * rng.normal(size=(n, n)),
        "F": np.eye(n) + 0.2 * rng.normal(size=(n, n)),
        "G": rng.normal(size=(n, m)),
        "Q": psd(rng, n, n - 2),
        "R": psd(rng, m) + 0.5 * np.eye(m),
        "S": psd(rng, n),
        "c": rng.normal(size=(5, n)),
        "q": rng.normal(size=n),
        "r": rng.normal(size=(5, m)),
        "s": rng.normal(size=n),
    }


def positional(data):
    return [data[name] for name in "EFGQRS"], {name: data[name] for name in "cqrs"}


def build(data, **options):
    matrices, vectors = positional(data)
    return SparseLQProblem(*matrices, **vectors, **options)


def lq_problem(data):
    """The oracle, by inverses."""
    inverse = np.linalg.inv(data["E"])
    return lqrad.LQProblem(
        A=inverse @ data["F"],
        B=inverse @ data["G"],
        c=data["c"] @ inverse.T,
        **{name: data[name] for name in "QRSqrs"},
    )


def cubic(order):
    """A source of heat that grows with temperature and a sink of its third power."""
    functions = (
        lambda x: 0.2 * x - 0.1 * x**3,
        lambda x: 0.2 - 0.3 * x**2,
        lambda x: -0.6 * x,
    )
    return functions[:order]


def reacting(order=3, seed=0, **changes):
    """A rod with a reaction, an initial state and inputs."""
    rng = np.random.default_rng(seed)
    n, m, T = 8, 2, 6
    problem = SparseLQProblem(
        sp.eye_array(n) + 0.5 * line(n),
        sp.eye_array(n),
        rng.normal(size=(n, m)),
        rng.uniform(0, 1, n),
        [0.5, 1.0],
        rng.uniform(0, 2, n),
        c=rng.normal(size=n),
        q=rng.normal(size=(T, n)),
        s=rng.normal(size=n),
        reaction=cubic(order),
        **changes,
    )
    return problem, rng.normal(size=n), 0.5 * rng.normal(size=(T, m))


def counted(E):
    """Solvers of E that count their calls."""
    calls = {"solve": 0, "transposed": 0}

    def solver(name, matrix):
        def solve(b):
            calls[name] += 1
            return np.linalg.solve(matrix, b)

        return solve

    return (solver("solve", E), solver("transposed", E.T)), calls


# --- kinds of matrices ----------------------------------------------------------------------------

KINDS = {
    "arrays": lambda M: M,
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "matrices": sp.csr_matrix,
    "operators": aslinearoperator,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [(), (1,), (2, 3)], ids=str)
def test_every_kind_of_matrix_gives_the_numbers_of_the_dense_problem(seed, kind, batch):
    data = random_matrices(seed)
    given = {name: KINDS[kind](data[name]) for name in "EFGQRS"}
    pair = (lambda b: np.linalg.solve(data["E"], b), lambda b: np.linalg.solve(data["E"].T, b))
    solver = pair if kind == "operators" else None
    problem, dense = build(data | given, solver=solver), lq_problem(data)
    assert (problem.n, problem.m, problem.T) == (9, 3, 5)
    rng = np.random.default_rng(seed)
    x0, u, v = (rng.normal(size=(*batch, *own)) for own in [(9,), (5, 3), (5, 3)])
    close = {"rtol": 1e-11, "atol": 1e-11}
    x = problem.simulate(x0, u)
    np.testing.assert_allclose(x, dense.simulate(x0, u), **close)
    p = problem.adjoint(x, u)
    np.testing.assert_allclose(p @ data["E"], dense.adjoint(x, u), **close)
    J, g = problem.value_and_gradient(x0, u)
    expected_J, expected_g = dense.value_and_gradient(x0, u)
    np.testing.assert_allclose(J, expected_J, rtol=1e-12)
    assert np.shape(J) == batch
    np.testing.assert_allclose(g, expected_g, **close)
    np.testing.assert_allclose(problem.input_gradient(x, u, p), g, **close)
    np.testing.assert_allclose(problem.cost(x, u), J, rtol=1e-12)
    np.testing.assert_allclose(problem.hessian_product(v), dense.hessian_product(v), **close)
    other = rng.normal(size=p.shape)
    expected = dense.lagrangian(x + 0.1, u, other @ data["E"], x0)
    np.testing.assert_allclose(problem.lagrangian(x + 0.1, u, other, x0), expected, rtol=1e-11)
    again = problem.dense()
    for name in "ABQRScqrs":
        np.testing.assert_allclose(getattr(again, name), getattr(dense, name), **close)


def test_without_e_the_scheme_is_explicit():
    data = random_matrices(0) | {"E": np.eye(9)}
    explicit = build(data | {"E": None})
    x0, u = np.ones(9), np.ones((5, 3))
    assert np.array_equal(
        explicit.simulate(x0, u), build(data | {"E": sp.eye_array(9)}).simulate(x0, u)
    )
    J, g = explicit.value_and_gradient(x0, u)
    expected_J, expected_g = lq_problem(data).value_and_gradient(x0, u)
    assert pytest.approx(expected_J, rel=1e-12) == J
    np.testing.assert_allclose(g, expected_g, rtol=1e-11, atol=1e-11)


def test_diagonal_weights_are_kept_as_diagonals_however_they_are_given():
    data = random_matrices(1)
    for name, size in [("Q", 9), ("R", 3), ("S", 9)]:
        data[name] = np.diag(np.arange(1.0, size + 1))
    sparse = build(data | {name: sp.dia_array(data[name]) for name in "QRS"})
    vectors = build(data | {name: np.diag(data[name]) for name in "QRS"})
    for name in "QRS":
        assert getattr(sparse, name).ndim == 1
        assert np.array_equal(getattr(sparse, name), getattr(vectors, name))
    u = np.ones((5, 3))
    expected = lq_problem(data).value_and_gradient(np.ones(9), u)
    assert vectors.value_and_gradient(np.ones(9), u)[0] == pytest.approx(expected[0], rel=1e-12)


def test_s_is_q_when_not_given():
    problem = build(random_matrices(2) | {"S": None})
    assert problem.S is problem.Q


def test_what_is_given_is_copied_and_frozen():
    data = random_matrices(3)
    F, Q = sp.csr_array(data["F"]), np.ones(9)
    problem = build(data | {"F": F, "Q": Q})
    F.data[:] = 7.0
    Q[:] = 7.0
    np.testing.assert_array_equal(problem.F.toarray(), data["F"])
    assert np.array_equal(problem.Q, np.ones(9))
    with pytest.raises(ValueError, match="read-only"):
        problem.F.data[0] = 1.0
    with pytest.raises(AttributeError, match="n of a SparseLQProblem cannot be set"):
        problem.n = 4
    with pytest.raises(AttributeError, match="n of a SparseLQProblem cannot be deleted"):
        del problem.n


def test_it_can_be_sent_to_another_process():
    data = random_matrices(4)
    problem = build({**data, **{name: sp.csr_array(data[name]) for name in "EFG"}})
    problem.value_and_gradient(np.ones(9), np.ones((5, 3)))
    twin = pickle.loads(pickle.dumps(problem))
    J, g = problem.value_and_gradient(np.ones(9), np.ones((5, 3)))
    twin_J, twin_g = twin.value_and_gradient(np.ones(9), np.ones((5, 3)))
    assert twin_J == J
    assert np.array_equal(twin_g, g)


def test_nothing_of_size_n_squared_is_made():
    """With n = 40,000 an array (n, n) would take 12.8 GB."""
    tracemalloc.start()
    k, T = 200, 3
    n = k * k
    problem = SparseLQProblem(
        sp.eye_array(n) + plate(k), sp.eye_array(n), np.ones((n, 1)), np.ones(n), [1.0]
    )
    x0, u = np.zeros(n), np.ones((T, 1))
    J, _ = problem.value_and_gradient(x0, u, checkpoints=2)
    x = problem.simulate(x0, u)
    problem.kkt_residual(x, u, problem.adjoint(x), x0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.isfinite(J)
    assert peak < 3000 * n


# --- factors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "E",
    [
        np.eye(6) + line(6).toarray(),
        line(6).toarray() - 1.5 * np.eye(6),
        np.eye(6) + np.triu(line(6).toarray()),
        np.diag([1.0, -2.0, 3.0, 4.0, 5.0, 6.0]),
        np.array([[2.0]]),
        np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [3.0, 0.0, 0.0]]),
        1e-200 * np.array([[2.0, 1.0], [1.0, 1e3]]),
    ],
    ids=["rod", "indefinite rod", "stream", "indefinite diagonal", "scalar", "permutation", "tiny"],
)
@pytest.mark.parametrize("columns", [(), (1,), (4,)], ids=str)
def test_factors_solve_with_the_matrix_and_its_transpose(E, columns):
    b = np.random.default_rng(0).normal(size=(len(E), *columns))
    before = b.copy()
    solve, solve_transposed = factorised(sp.csr_array(E))
    np.testing.assert_allclose(solve(b), np.linalg.solve(E, b), rtol=1e-13)
    np.testing.assert_allclose(solve_transposed(b), np.linalg.solve(E.T, b), rtol=1e-13)
    assert np.array_equal(b, before), "a right-hand side is not worked in"


@pytest.mark.parametrize(
    "E",
    [
        np.zeros((3, 3)),
        np.diag([1.0, 0.0, 1.0]),
        np.array([[1.0, 2.0], [0.5, 1.0]]),
        np.array([[1.0, 1.0], [1.0, 1.0 + 1e-16]]),
        (line(30) - sp.coo_array(([1.0, 1.0], ([0, 29], [0, 29])), shape=(30, 30))).toarray() / 3,
        (plate(9) - sp.diags_array(plate(9).sum(axis=1))).toarray() / 3,
        np.zeros((1, 1)),
    ],
    ids=["zero", "zero row", "rank one", "rounded", "insulated rod", "insulated plate", "scalar"],
)
def test_a_singular_e_is_refused_also_where_rounding_hides_it(E):
    """Insulated on all sides and without a term of the time step, any constant solves E x = 0."""
    n = len(E)
    with pytest.raises(ArgumentError, match=r"E is singular.*boundary"):
        SparseLQProblem(sp.csr_array(E), np.eye(n), np.ones((n, 1)), np.ones(n), [1.0])


def test_a_badly_conditioned_e_that_has_digits_left_is_taken():
    """A plate, insulated but for a term of the time step of 1e-9: condition 1e10."""
    k = 9
    E = plate(k) - sp.diags_array(plate(k).sum(axis=1)) + 1e-9 * sp.eye_array(k * k)
    problem = SparseLQProblem(E, np.eye(k * k), np.ones((k * k, 1)), np.ones(k * k), [1.0])
    x = problem.simulate(np.ones(k * k), np.zeros((1, 1)))
    np.testing.assert_allclose(x[1], 1e9, rtol=1e-5)


@pytest.mark.parametrize("batch", [(), (3,)], ids=str)
def test_a_users_solver_is_used_once_for_each_step_of_each_pass(batch):
    data = random_matrices(5)
    solver, calls = counted(data["E"])
    problem = build(data | {"E": aslinearoperator(data["E"])}, solver=solver)
    calls.update(solve=0, transposed=0)
    x0, u = np.ones((*batch, 9)), np.ones((5, 3))
    problem.value_and_gradient(x0, u)
    assert calls == {"solve": 5, "transposed": 5}, "a gradient is two simulations, not more"
    problem.hessian_product(np.ones((*batch, 5, 3)))
    assert calls == {"solve": 10, "transposed": 10}


# --- two passes that are transposes of each other -------------------------------------------------


@pytest.mark.parametrize(
    "problem",
    [
        SparseLQProblem(
            sp.eye_array(100) + 2 * plate(10), sp.eye_array(100), np.eye(100)[:, :4], np.ones(100), [1.0] * 4
        ),
        SparseLQProblem(
            sp.eye_array(100) + plate(10) / 2,
            sp.eye_array(100) - plate(10) / 2,
            np.eye(100)[:, :4],
            np.ones(100),
            [1.0] * 4,
        ),
        SparseLQProblem(
            sp.eye_array(60) + 5 * sp.diags_array([-1.0, 1.0], offsets=[-1, 0], shape=(60, 60)),
            sp.eye_array(60),
            np.eye(60)[:, :4],
            np.ones(60),
            [1.0] * 4,
        ),
        SparseLQProblem(sp.eye_array(40) + 9 * line(40), sp.eye_array(40), np.eye(40)[:, :4], np.ones(40), [1.0] * 4),
    ],
    ids=["Euler", "Crank-Nicolson", "upwind", "rod"],
)  # fmt: skip
@pytest.mark.parametrize("T", [1, 30])
def test_pulling_back_is_the_transpose_of_simulating(problem, T):
    n, m = problem.n, problem.m

    def forward(z):
        return problem.simulate(z[:n], z[n:].reshape(T, m))

    def backward(f):
        p, pull = problem.pull_back(f)
        zero = np.zeros((T, m))
        return np.concatenate([pull, problem.input_gradient(f, zero, p).ravel()])

    assert lqrad.dot_test(forward, backward, (n + T * m,)) < 1e-12


def test_the_adjoint_pulls_the_slopes_of_the_cost_back():
    data = random_matrices(6)
    problem, rng = build(data), np.random.default_rng(0)
    x, u = rng.normal(size=(6, 9)), rng.normal(size=(5, 3))
    slopes = x @ data["Q"] + data["q"]
    slopes[-1] = x[-1] @ data["S"] + data["s"]
    p, pull = problem.pull_back(slopes)
    np.testing.assert_allclose(problem.adjoint(x, u), p, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(pull, slopes[0] + data["F"].T @ p[0], rtol=1e-13, atol=1e-13)


# --- proofs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "reaction"])
def test_the_kkt_residual_is_the_derivative_of_the_lagrangian(kind):
    """Differences of a quadratic are exact; with a reaction the complex step is."""
    rng = np.random.default_rng(0)
    problem = build(random_matrices(7)) if kind == "linear" else reacting()[0]
    T, n, m = problem.T, problem.n, problem.m
    x, u, p = (rng.normal(size=shape) for shape in [(T + 1, n), (T, m), (T, n)])
    x0 = x[0]
    kkt = problem.kkt_residual(x, u, p, x0)
    h = 1.0 if kind == "linear" else 1e-4
    for name, block in [("x", kkt.state), ("u", kkt.input), ("p", kkt.dynamics[1:])]:
        d = rng.normal(size=block.shape)
        moved = np.concatenate([np.zeros((1, n)), d]) if name == "x" else d
        sides = []
        for sign in (1, -1):
            at = {"x": x, "u": u, "p": p}
            at[name] = at[name] + sign * h * moved
            sides.append(problem.lagrangian(**at))
        slope = (sides[0] - sides[1]) / (2 * h)
        assert np.vdot(block, d) == pytest.approx(slope, rel=1e-9 if h == 1 else 1e-6)
    assert np.array_equal(kkt.dynamics[0], np.zeros(n))
    assert np.allclose(problem.kkt_residual(x, u, p, x0 + 1.0).dynamics[0], 1.0)
    assert kkt.relative > 0.1


def test_a_descent_ends_at_riccatis_optimum_with_a_proof():
    data = random_matrices(8)
    problem, x0 = build(data | {"E": sp.csc_array(data["E"])}), np.ones(9)
    result = lqrad.descend(problem.objective(x0), method="conjugate-gradient", tol=1e-18)
    optimum = lqrad.riccati(lq_problem(data)).rollout(x0)
    assert result.status.converged
    np.testing.assert_allclose(result.solution, optimum.u, rtol=1e-7, atol=1e-7)
    u = optimum.u
    x = problem.simulate(x0, u)
    kkt = problem.kkt_residual(x, u, problem.adjoint(x), x0)
    assert kkt.relative < 1e-12
    assert problem.cost(x, u) == pytest.approx(optimum.cost, rel=1e-11)


@pytest.mark.parametrize("kind", ["array", "csr", "diagonal"])
def test_the_gap_bound_is_its_formula_and_never_below_the_gap(kind):
    data = random_matrices(9)
    if kind == "diagonal":
        data["R"] = np.diag([0.5, 1.0, 2.0])
    R = {"array": data["R"], "csr": sp.csr_array(data["R"]), "diagonal": np.diag(data["R"])}[kind]
    problem, x0, rng = build(data | {"R": R}), np.ones(9), np.random.default_rng(0)
    objective = problem.objective(x0)
    optimum = lqrad.riccati(lq_problem(data)).rollout(x0)
    for scale in (1e-2, 1.0, 100.0):
        u = optimum.u + scale * rng.normal(size=optimum.u.shape)
        J, g = objective.value_and_gradient(u)
        bound = objective.gap_bound(g)
        assert bound == pytest.approx(np.sum(g * np.linalg.solve(data["R"], g.T).T) / 2, rel=1e-12)
        assert bound >= J - optimum.cost
    least = np.broadcast_to(objective.curvature, (5, 3))[0]
    assert np.linalg.eigvalsh(data["R"] - np.diag(least)).min() >= -1e-15


@pytest.mark.parametrize(
    "R", [[1.0, 0.0], np.ones((2, 2)), sp.csr_array(np.ones((2, 2))), aslinearoperator(np.eye(2))]
)
def test_no_gap_bound_is_offered_without_proven_curvature(R):
    problem = SparseLQProblem(None, np.eye(2), np.eye(2), np.ones(2), R)
    assert problem.objective([1.0, 1.0], 3).gap_bound is None
    J, _ = problem.objective([1.0, 1.0], 3).value_and_gradient(np.ones((3, 2)))
    assert np.isfinite(J)


def test_objective_of_a_batch_adds_its_series_up():
    problem, rng = build(random_matrices(10)), np.random.default_rng(0)
    x0, u, v = (rng.normal(size=(2, *own)) for own in [(9,), (5, 3), (5, 3)])
    objective = problem.objective(x0)
    J, g = objective.value_and_gradient(u)
    ones = [problem.objective(x0[k]) for k in range(2)]
    assert pytest.approx(sum(ones[k].value_and_gradient(u[k])[0] for k in range(2)), rel=1e-13) == J
    assert objective.gap_bound(g) == pytest.approx(
        sum(ones[k].gap_bound(g[k]) for k in range(2)), rel=1e-13
    )
    for k in range(2):
        np.testing.assert_allclose(
            objective.hessian_product(u, v)[k], ones[k].hessian_product(u[k], v[k]), atol=1e-12
        )


# --- reactions ------------------------------------------------------------------------------------


def loop_states(problem, x0, u, dtype=float):
    """By dense solves, in any arithmetic of NumPy's."""
    E, F, G = (problem.E.toarray(), problem.F.toarray(), np.asarray(problem.G))
    x = [np.asarray(x0, dtype=dtype)]
    for t in range(len(u)):
        right = F @ x[t] + G @ u[t] + problem.c + problem.reaction[0](x[t])
        x.append(np.linalg.solve(E, right))
    return np.array(x)


def loop_cost(problem, x, u):
    J = sum(x[t] @ (problem.Q * x[t] / 2 + problem.q[t]) for t in range(len(u)))
    J += sum(u[t] @ (problem.R * u[t] / 2) for t in range(len(u)))
    return J + x[-1] @ (problem.S * x[-1] / 2 + problem.s)


def complex_gradient(problem, x0, u):
    g = np.zeros(u.shape)
    for index in np.ndindex(*u.shape):
        z = u.astype(complex)
        z[index] += 1e-30j
        g[index] = loop_cost(problem, loop_states(problem, x0, z, complex), z).imag / 1e-30
    return g


@pytest.mark.parametrize("seed", range(3))
def test_a_reaction_has_the_states_costs_and_gradients_of_a_loop(seed):
    problem, x0, u = reacting(seed=seed)
    x = problem.simulate(x0, u)
    np.testing.assert_allclose(x, loop_states(problem, x0, u), rtol=1e-12, atol=1e-13)
    J, g = problem.value_and_gradient(x0, u)
    assert pytest.approx(loop_cost(problem, x, u), rel=1e-12) == J
    np.testing.assert_allclose(g, complex_gradient(problem, x0, u), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(problem.input_gradient(x, u, problem.adjoint(x)), g, rtol=1e-11)
    assert problem.kkt_residual(x, u, problem.adjoint(x), x0).relative > 1e-6  # u is not optimal
    kkt = problem.kkt_residual(x, u, problem.adjoint(x), x0)
    assert max(np.abs(kkt.dynamics).max(), np.abs(kkt.state).max()) < 1e-13


def test_values_and_gradients_with_a_reaction_have_taylor_order_two():
    problem, x0, u = reacting()
    objective = problem.objective(x0)
    assert not objective.quadratic
    assert objective.gap_bound is None
    assert objective.curvature is None
    assert lqrad.taylor_test(objective.value_and_gradient, u).order == pytest.approx(2, abs=0.05)

    def along(w):
        def slope(z):
            _, g = objective.value_and_gradient(z)
            return float(np.vdot(w, g)), objective.hessian_product(z, w)

        return slope

    w = np.random.default_rng(1).normal(size=u.shape)
    assert lqrad.taylor_test(along(w), u).order == pytest.approx(2, abs=0.05)


def test_the_gradient_in_the_initial_state_with_a_reaction():
    problem, x0, u = reacting()
    x = problem.simulate(x0, u)
    slopes = np.vstack([x[:-1] * problem.Q + problem.q, x[-1] * problem.S + problem.s])
    g = problem.pull_back(slopes, x)[1]
    for i in range(problem.n):
        z = x0.astype(complex)
        z[i] += 1e-30j
        slope = loop_cost(problem, loop_states(problem, z, u, complex), u).imag / 1e-30
        assert g[i] == pytest.approx(slope, rel=1e-11)


def test_without_the_second_derivative_products_are_those_of_gauss_and_newton():
    """J'WJ + R, with J the derivatives of the states: positive definite wherever one starts."""
    problem, x0, u = reacting(order=2)
    assert problem.objective(x0).hessian_product is None
    size = u.size
    jacobian = np.zeros(((len(u) + 1) * problem.n, size))
    for k in range(size):
        z = u.astype(complex).ravel()
        z[k] += 1e-30j
        states = loop_states(problem, x0, z.reshape(u.shape), complex)
        jacobian[:, k] = states.imag.ravel() / 1e-30
    weights = np.concatenate([np.tile(problem.Q, len(u)), problem.S])
    expected = (jacobian.T * weights) @ jacobian + np.diag(np.tile(problem.R, len(u)))
    found = [problem.hessian_product(e.reshape(u.shape), x0, u).ravel() for e in np.eye(size)]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    exact = reacting(order=3)[0]
    other = [exact.hessian_product(e.reshape(u.shape), x0, u).ravel() for e in np.eye(size)]
    np.testing.assert_allclose(other, np.array(other).T, atol=1e-13)
    assert np.abs(np.array(other) - expected).max() > 1e-3


@pytest.mark.parametrize("batch", [(2,), (2, 2)], ids=str)
def test_a_batch_with_a_reaction_is_a_loop_over_its_series(batch):
    problem, _, _ = reacting()
    rng = np.random.default_rng(0)
    x0, u, v = (0.5 * rng.normal(size=(*batch, *own)) for own in [(8,), (6, 2), (6, 2)])
    J, g = problem.value_and_gradient(x0, u)
    Hv = problem.hessian_product(v, x0, u)
    x = problem.simulate(x0, u)
    p, pull = problem.adjoint(x, u), problem.pull_back(x, x)[1]
    for k in np.ndindex(batch):
        one_J, one_g = problem.value_and_gradient(x0[k], u[k])
        assert J[k] == pytest.approx(one_J, rel=1e-12)
        np.testing.assert_allclose(g[k], one_g, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(Hv[k], problem.hessian_product(v[k], x0[k], u[k]), atol=1e-11)
        np.testing.assert_allclose(p[k], problem.adjoint(x[k]), atol=1e-12)
        np.testing.assert_allclose(pull[k], problem.pull_back(x[k], x[k])[1], atol=1e-12)


# --- bounded memory -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "reaction", "batch", "plate"])
def test_checkpoints_change_no_bit(kind):
    rng = np.random.default_rng(0)
    if kind == "reaction":
        problem, x0, u = reacting()
    elif kind == "plate":
        problem = SparseLQProblem(
            sp.eye_array(64) + plate(8), sp.eye_array(64), np.ones((64, 1)), np.ones(64), [0.1]
        )
        x0, u = rng.normal(size=64), rng.normal(size=(23, 1))
    else:
        problem, x0, u = build(random_matrices(11)), rng.normal(size=9), rng.normal(size=(5, 3))
        x0 = x0 if kind == "linear" else rng.normal(size=(3, 9))
    J, g = problem.value_and_gradient(x0, u)
    v = rng.normal(size=g.shape)
    T = u.shape[-2]
    for k in range(1, T + 3):
        kept_J, kept_g = problem.value_and_gradient(x0, u, checkpoints=k)
        assert np.array_equal(kept_J, J)
        assert np.array_equal(kept_g, g)
        if kind != "reaction":
            kept = problem.hessian_product(v, checkpoints=k)
            assert np.array_equal(kept, problem.hessian_product(v))
    objective = problem.objective(x0, T, checkpoints=2)
    inputs = np.broadcast_to(u, objective.shape)
    assert np.array_equal(objective.value_and_gradient(inputs)[1], g)


@pytest.mark.parametrize(("T", "k"), [(1, 1), (10, 1), (10, 3), (40, 4), (60, 10), (20, 20)])
def test_recomputed_steps_are_the_fewest_there_can_be(T, k):
    """Griewank and Walther's count, and one step to the last state."""
    data = random_matrices(12)
    solver, calls = counted(data["E"])
    data |= {"c": data["c"][0], "r": data["r"][0]}
    problem = build(data, solver=solver)
    calls.update(solve=0, transposed=0)
    problem.value_and_gradient(np.ones(9), np.ones((T, 3)), checkpoints=k)
    assert calls == {"solve": forward_steps(T, k) + 1, "transposed": T}


def test_memory_is_that_of_the_checkpoints():
    n, T = 20_000, 100
    problem = SparseLQProblem(
        sp.eye_array(n) + line(n), sp.eye_array(n), np.ones((n, 1)), np.ones(n), [1.0]
    )
    peaks = {}
    for k in (5, 20, None):
        tracemalloc.start()
        problem.value_and_gradient(np.ones(n), np.zeros((T, 1)), checkpoints=k)
        peaks[k] = tracemalloc.get_traced_memory()[1] / (8 * n)
        tracemalloc.stop()
    assert peaks[5] < 5 + 12
    assert peaks[20] < 20 + 12
    assert peaks[None] > 90, "the test sees states where they are kept"


# --- references, horizons -------------------------------------------------------------------------


@pytest.mark.parametrize("with_u_ref", ["no", "constant", "varying"])
@pytest.mark.parametrize("x_kind", ["constant", "varying"])
def test_tracking_costs_the_deviations(x_kind, with_u_ref):
    rng, T = np.random.default_rng(0), 5
    data = random_matrices(13)
    matrices, vectors = positional(data)
    x_ref = rng.normal(size=(T + 1, 9) if x_kind == "varying" else 9)
    u_ref = {"no": None, "constant": rng.normal(size=3), "varying": rng.normal(size=(T, 3))}
    u_ref = u_ref[with_u_ref]
    problem = SparseLQProblem.tracking(*matrices, x_ref, u_ref, c=vectors["c"][0])
    varies = "varying" in (x_kind, with_u_ref)
    horizon = T if varies else None
    assert horizon == problem.T
    xr = np.broadcast_to(x_ref, (T + 1, 9))
    ur = np.broadcast_to(0.0 if u_ref is None else u_ref, (T, 3))
    differences = []
    for _ in range(2):
        u = rng.normal(size=(T, 3))
        x = problem.simulate(np.ones(9), u)
        d, e = x - xr, u - ur
        J = np.einsum("ti,ij,tj", d[:-1], data["Q"], d[:-1]) + d[-1] @ data["S"] @ d[-1]
        J += np.einsum("ti,ij,tj", e, data["R"], e)
        differences.append(J / 2 - problem.cost(x, u))
    assert differences[0] == pytest.approx(differences[1], rel=1e-11)


def test_the_horizon_is_that_of_what_varies():
    varying = build(random_matrices(14))
    assert varying.horizon() == varying.horizon(5) == 5
    with pytest.raises(ArgumentError, match=r"T is 4, but the problem varies over 5 stages"):
        varying.horizon(4)
    constant = SparseLQProblem(None, EYE, ONE, np.ones(3), [1.0], reaction=cubic(3))
    with pytest.raises(ArgumentError, match="pass the horizon T"):
        constant.objective(np.zeros(3))
    with pytest.raises(ArgumentError, match="T is 0"):
        constant.horizon(0)


# --- refusals -------------------------------------------------------------------------------------

EYE, ONE = np.eye(3), np.ones((3, 1))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"F": np.ones((3, 2))}, ShapeError, r"F has shape \(3, 2\), expected \(n, n\)"),
        ({"F": np.ones(3)}, ShapeError, r"F has shape \(3,\), expected \(n, n\)"),
        ({"F": 1j * sp.eye_array(3)}, DtypeError, "F holds complex128"),
        ({"F": aslinearoperator(1j * np.eye(3))}, DtypeError, "F is a complex LinearOperator"),
        ({"F": sp.csr_array(np.diag([1.0, np.nan, 1.0]))}, NonFiniteError, r"F\[1, 1\] is nan"),
        ({"G": np.ones((1, 3))}, ShapeError, r"G has shape \(1, 3\).*n = 3.*did you pass G\.T"),
        ({"G": np.ones(3)}, ShapeError, r"G has shape \(3,\).*G\[:, None\]"),
        ({"G": sp.csr_array((3, 0))}, ShapeError, r"G has shape \(3, 0\)"),
        ({"E": sp.eye_array(2)}, ShapeError, r"E has shape \(2, 2\), expected \(n, n\) = \(3, 3\)"),
        ({"E": aslinearoperator(EYE)}, ArgumentError, r"E is a LinearOperator.*pass solver="),
        ({"Q": np.ones(2)}, ShapeError, r"Q has shape \(2,\), expected .* with n = 3"),
        ({"Q": np.ones((2, 2))}, ShapeError, r"Q has shape \(2, 2\)"),
        ({"Q": [1.0, -1.0, 1.0]}, NotConvexError, r"Q has the eigenvalue -1, its entry 1"),
        ({"Q": -sp.eye_array(3)}, NotConvexError, r"Q has the eigenvalue -1"),
        ({"Q": sp.csr_array([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]])}, NotConvexError, "Q has a negative"),
        ({"Q": sp.csr_array([[0.0, 2, 0], [2, 0, 0], [0, 0, 1]])}, NotConvexError, "Q has a negative"),
        ({"Q": sp.csr_array([[3.0, 1, 0], [2, 3, 0], [0, 0, 1]])}, NotConvexError, r"Q is not symm.*\(0, 1\)"),
        ({"S": np.array([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]])}, NotConvexError, "S has the eigenvalue -1"),
        ({"R": [-1.0]}, NotConvexError, "R has the eigenvalue -1"),
        ({"R": [1.0, 1.0]}, ShapeError, r"R has shape \(2,\), expected .* m = 1"),
        ({"c": np.ones(2)}, ShapeError, r"c has shape \(2,\), expected \(n,\) = \(3,\) or with a leading"),
        ({"s": np.ones((2, 3))}, ShapeError, r"s has shape \(2, 3\), expected \(n,\) with n = 3"),
        ({"c": np.ones((4, 3)), "r": np.ones((5, 1))}, ShapeError, "r has 5 stages and c has 4"),
        ({"q": [np.nan, 1, 1]}, NonFiniteError, r"q\[0\] is nan"),
        ({"reaction": abs}, ArgumentError, r"reaction is .*expected two or three functions"),
        ({"reaction": (abs,)}, ArgumentError, "expected two or three functions"),
        ({"solver": np.linalg.solve}, ArgumentError, r"solver is .*\(solve, solve_transposed\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(changes, error, words):
    given = {"E": None, "F": EYE, "G": ONE, "Q": np.ones(3), "R": [1.0]} | changes
    with pytest.raises(error, match=words):
        SparseLQProblem(**given)


def test_sparse_weights_on_the_edge_of_convexity_are_taken():
    """Few sensors, or differences: semidefinite, with many zero eigenvalues."""
    C = sp.random_array((3, 40), density=0.2, rng=np.random.default_rng(0))
    D = sp.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(39, 40))
    for weight in (C.T @ C, D.T @ D, 1e-30 * (D.T @ D)):
        problem = SparseLQProblem(None, sp.eye_array(40), np.ones((40, 1)), weight, [1.0])
        assert problem.Q.nnz < 400


PLAIN = SparseLQProblem(None, EYE, ONE, np.ones(3), [1.0])
VARYING = SparseLQProblem(None, EYE, ONE, np.ones(3), [1.0], c=np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: PLAIN.simulate(np.ones(2), np.ones((4, 1))), ShapeError, r"x0 has shape \(2,\)"),
        (lambda: PLAIN.simulate([1, np.nan, 1], np.ones((4, 1))), NonFiniteError, r"x0\[1\] is nan"),
        (lambda: PLAIN.simulate(np.ones(3), np.ones(4)), ShapeError, r"u has shape \(4,\).*u\[:, None\]"),
        (lambda: PLAIN.simulate(np.ones(3), np.ones((0, 1))), ShapeError, "T >= 1"),
        (lambda: VARYING.simulate(np.ones(3), np.ones((5, 1))), ShapeError, r"\(\.\.\., 4, 1\) with m = 1, T = 4"),
        (lambda: PLAIN.simulate(np.ones((2, 3)), np.ones((3, 4, 1))), ShapeError, "the batch, do not fit"),
        (lambda: PLAIN.adjoint(np.ones((1, 3))), ShapeError, r"x has shape \(1, 3\)"),
        (lambda: PLAIN.adjoint(np.ones((5, 3)), np.ones((3, 1))), ShapeError, "u has shape"),
        (lambda: PLAIN.input_gradient(np.ones((5, 3)), np.ones((4, 1)), np.ones((5, 3))), ShapeError, "p has shape"),
        (lambda: PLAIN.pull_back(np.ones((1, 3))), ShapeError, r"f has shape \(1, 3\)"),
        (lambda: PLAIN.kkt_residual(np.ones((5, 3)), np.ones((4, 1)), np.ones((4, 3)), np.ones((2, 3))), ShapeError, "x0 has shape"),
        (lambda: PLAIN.cost(np.ones((2, 5, 3)), np.ones((3, 4, 1))), ShapeError, "u has shape .* the batch"),
        (lambda: PLAIN.value_and_gradient(np.ones(3), np.ones((4, 1)), checkpoints=0), ArgumentError, "checkpoints is 0"),
        (lambda: PLAIN.hessian_product(np.ones((4, 1)), checkpoints=0), ArgumentError, "checkpoints is 0"),
        (lambda: PLAIN.objective(np.ones(3), 4, checkpoints=1.5), ArgumentError, "checkpoints is 1.5"),
        (lambda: PLAIN.objective(np.ones(3), 4).value_and_gradient(np.ones((5, 1))), ShapeError, "as the objective says"),
        (lambda: SparseLQProblem.tracking(None, EYE, ONE, np.ones(3), [1.0], None, np.ones(2)), ShapeError, "x_ref has shape"),
        (lambda: SparseLQProblem.tracking(None, EYE, ONE, np.ones(3), [1.0], None, np.ones((1, 3))), ShapeError, "x_ref has shape"),
        (lambda: SparseLQProblem.tracking(None, EYE, ONE, np.ones(3), [1.0], None, np.ones((5, 3)), np.ones((5, 1))), ShapeError, "u_ref has shape .*T = 4"),
        (lambda: reacting()[0].dense(), ArgumentError, "reaction"),
        (lambda: reacting()[0].hessian_product(np.ones((6, 2))), ArgumentError, "x0 and u are needed"),
        (lambda: reacting()[0].hessian_product(np.ones((5, 2)), np.ones(8), np.ones((6, 2))), ShapeError, "v has shape"),
        (lambda: reacting()[0].pull_back(np.ones((7, 8))), ArgumentError, "x is needed"),
    ],
)  # fmt: skip
def test_a_call_that_does_not_fit_is_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    ("reaction", "message"),
    [
        (
            (lambda x: x - x**3, lambda x: 1 - 2 * x**2),
            r"reaction\[1\] is wrong: that of reaction\[0\]",
        ),
        (
            (lambda x: np.sin(x), lambda x: np.cos(x), lambda x: np.sin(x)),
            r"reaction\[2\] is wrong: that of reaction\[1\]",
        ),
        ((lambda x: abs(x) * x, lambda x: abs(x)), r"reaction\[1\] is wrong"),
    ],
)
def test_a_wrong_derivative_of_a_reaction_is_found(reaction, message):
    problem = SparseLQProblem(None, EYE, ONE, np.ones(3), [1.0], reaction=reaction)
    objective, u = problem.objective([0.5, 0.2, -0.1], 3), np.ones((3, 1))
    uses = objective.value_and_gradient, objective.hessian_product
    arguments = (u,) if len(reaction) == 2 else (u, u)
    with pytest.raises(ArgumentError, match=message):
        uses[len(reaction) - 2](*arguments)
    # At rest the first one is right, and is asked again.
    still = SparseLQProblem(None, EYE, ONE, np.ones(3), [1.0], reaction=reaction[:2])
    if reaction[1](np.zeros(3)).any():
        still.value_and_gradient(np.zeros(3), np.zeros((3, 1)))


def test_a_reaction_cannot_write_to_the_state():
    def in_place(x):
        x *= x
        return x

    problem = SparseLQProblem(
        None, EYE, ONE, np.ones(3), [1.0], reaction=(in_place, lambda x: 2 * x)
    )
    with pytest.raises(ArgumentError, match=r"reaction\[0\] raised ValueError .*read-only"):
        problem.simulate(np.ones(3), np.ones((2, 1)))


def test_a_reaction_or_a_solver_of_another_shape_is_named():
    total = SparseLQProblem(
        None, EYE, ONE, np.ones(3), [1.0], reaction=(lambda x: x.sum(), lambda x: x)
    )
    with pytest.raises(ShapeError, match=r"reaction\[0\] returned shape \(\)"):
        total.simulate(np.ones(3), np.ones((2, 1)))
    short = SparseLQProblem(EYE, EYE, ONE, np.ones(3), [1.0], solver=(lambda b: b[:2], lambda b: b))
    with pytest.raises(ShapeError, match=r"solver\[0\] returned shape \(2,\)"):
        short.simulate(np.ones(3), np.ones((2, 1)))


def test_an_explicit_scheme_with_too_long_a_step_is_told_by_its_first_bad_state():
    """|1 - dt lambda| = 399: 399^k overflows between k = 118 and 119, and x'Qx at k = 60."""
    n = 20
    problem = SparseLQProblem(
        None, sp.eye_array(n) - 100 * line(n), np.ones((n, 1)), np.ones(n), [1.0]
    )
    x0, u = np.random.default_rng(0).normal(size=n), np.zeros((300, 1))
    F, x, step = problem.F.toarray(), x0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        while np.isfinite(x).all():
            x, step = F @ x, step + 1
    for call in (problem.simulate, problem.value_and_gradient):
        with pytest.raises(NonFiniteError, match=rf"x\[{step}\] is not finite.*implicit scheme"):
            call(x0, u)
    with pytest.raises(NonFiniteError, match=r"costate p\[\d+\].*backward"):
        problem.adjoint(np.ones((301, n)))
    with pytest.raises(NonFiniteError, match="cost"):
        problem.value_and_gradient(x0, u[:80])


def test_an_operator_without_a_transpose_says_so_itself():
    one_way = LinearOperator((3, 3), matvec=lambda z: z, dtype=float)
    problem = SparseLQProblem(None, one_way, ONE, np.ones(3), [1.0])
    assert np.array_equal(problem.simulate(np.ones(3), np.zeros((1, 1)))[1], np.ones(3))
    with pytest.raises(NotImplementedError):
        problem.value_and_gradient(np.ones(3), np.zeros((1, 1)))


def test_its_representation_tells_sizes_and_terms():
    assert repr(PLAIN) == "SparseLQProblem(n=3, m=1, time-invariant)"
    assert repr(reacting()[0]) == "SparseLQProblem(n=8, m=2, T=6, with c, q, s, reaction)"
