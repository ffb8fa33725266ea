"""LQProblem against loops and dense matrices written out here, on random problems of every kind.

`Dense` writes a whole horizon as one linear system: L x = B u + c with x[0] = x0 in its first
rows, J = 1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u. It also carries the rounding errors through its
own formulas, norm by norm, so that no tolerance here is a matter of taste.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import textwrap
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import SimpleNamespace

import control
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from random_problems import Case, psd, random_case, with_spectral_radius

import lqrad
from lqrad import LQProblem
from lqrad.errors import ArgumentError, NonFiniteError, NotConvexError, ShapeError
from lqrad.lq.problem import changed, units_of

EPS = np.finfo(float).eps
SEEDS = range(240)
BATCHES = pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3)], ids=str)
STAGE_FIELDS = ("A", "B", "Q", "R", "M", "c", "q", "r")


# --- oracles ---------------------------------------------------------------------------------


def staged(data, T):
    """The data of a problem, all of it given and with a time axis where one is allowed."""
    n, m = np.shape(data["B"])[-2:]
    shapes = {"A": (n, n), "B": (n, m), "Q": (n, n), "R": (m, m), "M": (n, m)}
    shapes |= {"c": (n,), "q": (n,), "r": (m,)}
    every = {
        name: np.broadcast_to(data.get(name, np.zeros(shape)), (T, *shape))
        for name, shape in shapes.items()
    }
    S = data.get("S", data["Q"])
    return SimpleNamespace(**every, S=np.asarray(S), s=np.asarray(data.get("s", np.zeros(n))))


def loop_simulate(data, x0, u):
    d = staged(data, len(u))
    x = [np.asarray(x0, dtype=float)]
    for t in range(len(u)):
        x.append(d.A[t] @ x[t] + d.B[t] @ u[t] + d.c[t])
    return np.array(x)


def loop_cost(data, x, u):
    d = staged(data, len(u))
    J = 0.0
    for t in range(len(u)):
        J += x[t] @ d.Q[t] @ x[t] / 2 + x[t] @ d.M[t] @ u[t] + u[t] @ d.R[t] @ u[t] / 2
        J += d.q[t] @ x[t] + d.r[t] @ u[t]
    return J + x[-1] @ d.S @ x[-1] / 2 + d.s @ x[-1]


def loop_lagrangian(data, x, u, p):
    d = staged(data, len(u))
    L = loop_cost(data, x, u)
    for t in range(len(u)):
        L += p[t] @ (d.A[t] @ x[t] + d.B[t] @ u[t] + d.c[t] - x[t + 1])
    return L


@dataclass(frozen=True)
class Dense:
    """The problem as a quadratic in u, with bounds on the rounding errors of its formulas."""

    data: dict[str, np.ndarray]
    T: int
    x0: np.ndarray
    L: np.ndarray = field(init=False)
    B: np.ndarray = field(init=False)
    c: np.ndarray = field(init=False)
    Q: np.ndarray = field(init=False)
    M: np.ndarray = field(init=False)
    R: np.ndarray = field(init=False)
    q: np.ndarray = field(init=False)
    r: np.ndarray = field(init=False)

    def __post_init__(self):
        d, T = staged(self.data, self.T), self.T
        n, m = d.B.shape[1:]
        N = (T + 1) * n
        L, B, Q = np.eye(N), np.zeros((N, T * m)), np.zeros((N, N))
        M, R = np.zeros((N, T * m)), np.zeros((T * m, T * m))
        for t in range(T):
            now, then = (slice(k * n, (k + 1) * n) for k in (t, t + 1))
            put = slice(t * m, (t + 1) * m)
            L[then, now], B[then, put], Q[now, now] = -d.A[t], d.B[t], d.Q[t]
            M[now, put], R[put, put] = d.M[t], d.R[t]
        Q[T * n :, T * n :] = d.S
        c, q = np.concatenate([self.x0, d.c.ravel()]), np.concatenate([d.q.ravel(), d.s])
        for name, value in zip("LBcQMRqr", [L, B, c, Q, M, R, q, d.r.ravel()], strict=True):
            object.__setattr__(self, name, value)

    def states(self, u):
        return np.linalg.solve(self.L, self.B @ u.ravel() + self.c)

    def slopes(self, u):
        """dJ/dx0 in the first n rows, then the costates."""
        pull = self.Q @ self.states(u) + self.M @ u.ravel() + self.q
        return np.linalg.solve(self.L.T, pull)

    def gradient(self, u):
        own = self.R @ u.ravel() + self.M.T @ self.states(u) + self.r
        return own + self.B.T @ self.slopes(u)

    @cached_property
    def hessian(self):
        X = np.linalg.solve(self.L, self.B)
        H = self.R + X.T @ self.M + self.M.T @ X + X.T @ self.Q @ X
        return (H + H.T) / 2

    def optimum(self):
        zero = np.zeros(len(self.r))
        return -np.linalg.solve(self.hessian, self.gradient(zero))

    def gap(self, u):
        """J(u) - min J, without the cancellation of a difference."""
        off = u.ravel() - self.optimum()
        return off @ self.hessian @ off / 2

    # Rounding: a product or a triangular solve errs by at most (rows) eps times its own norms.

    @cached_property
    def eps(self):
        return (len(self.q) + len(self.r)) * EPS

    @cached_property
    def growth(self):
        return np.linalg.norm(np.linalg.inv(self.L), 2)

    @cached_property
    def norms(self):
        return {name: np.linalg.norm(getattr(self, name), 2) for name in "LBQMRcqr"}

    def state_error(self, u):
        x, u = np.linalg.norm(self.states(u)), np.linalg.norm(u)
        terms = self.norms["L"] * x + self.norms["B"] * u + self.norms["c"]
        return self.eps * self.growth * terms

    def slope_error(self, u):
        x, p = np.linalg.norm(self.states(u)), np.linalg.norm(self.slopes(u))
        terms = self.norms["Q"] * x + self.norms["M"] * np.linalg.norm(u) + self.norms["q"]
        own = self.eps * (terms + self.norms["L"] * p)
        return self.growth * (own + self.norms["Q"] * self.state_error(u))

    def gradient_error(self, u):
        x, p = np.linalg.norm(self.states(u)), np.linalg.norm(self.slopes(u))
        terms = self.norms["R"] * np.linalg.norm(u) + self.norms["M"] * x
        terms += self.norms["r"] + self.norms["B"] * p
        inherited = self.norms["M"] * self.state_error(u) + self.norms["B"] * self.slope_error(u)
        return self.eps * terms + inherited

    def value_error(self, u):
        x, z = np.linalg.norm(self.states(u)), np.linalg.norm(u)
        pull = self.norms["Q"] * x + self.norms["M"] * z + self.norms["q"]
        terms = pull * x + self.norms["R"] * z**2 + self.norms["r"] * z
        return self.eps * terms + pull * self.state_error(u)

    def hessian_error(self):
        gain = self.growth * self.norms["B"]
        inner = self.norms["R"] + 2 * gain * self.norms["M"] + gain**2 * self.norms["Q"]
        return self.eps * self.growth * self.norms["L"] * inner


@cache
def known(seed) -> tuple[Case, Dense]:
    case = random_case(seed)
    return case, Dense(case.data, case.T, case.x0)


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed{seed}")
def known_case(request):
    return known(request.param)


def near(actual, expected, error, what):
    """`actual` agrees with `expected` up to `error`, a bound on the norm of the difference."""
    off = np.linalg.norm(np.ravel(actual) - np.ravel(expected))
    assert off <= error, f"{what}: off by {off}, rounding explains {error}"


def test_the_seeds_draw_every_kind_of_problem():
    cases = [known(seed)[0] for seed in SEEDS]
    words = {word for case in cases for word in case.name.split()}
    expected = {"n=1", "T=1", "m=6", "S=0", "singularQ", "terms", "varying", "radius=1.3"}
    assert expected <= words
    assert any(case.problem.m > case.problem.n for case in cases)
    assert any("terms varying singularQ" in case.name for case in cases)


# --- the two passes --------------------------------------------------------------------------


def test_simulate_is_the_loop(known_case):
    case, dense = known_case
    x = case.problem.simulate(case.x0, case.u)
    assert x.shape == (case.T + 1, case.problem.n)
    near(x, loop_simulate(case.data, case.x0, case.u), dense.state_error(case.u), case.name)
    near(x, dense.states(case.u), dense.state_error(case.u), case.name)


def test_cost_is_the_sum(known_case):
    case, dense = known_case
    x = loop_simulate(case.data, case.x0, case.u)
    J = case.problem.cost(x, case.u)
    assert isinstance(J, float)
    near(J, loop_cost(case.data, x, case.u), dense.value_error(case.u), case.name)


def test_costates_are_the_dense_transposed_solve(known_case):
    case, dense = known_case
    p = case.problem.adjoint(loop_simulate(case.data, case.x0, case.u), case.u)
    assert p.shape == (case.T, case.problem.n)
    expected = dense.slopes(case.u)[case.problem.n :]
    near(p, expected, dense.slope_error(case.u), case.name)


def test_costates_are_the_recursion_at_any_states(known_case):
    """The adjoint does not ask that x be a simulation."""
    case, _ = known_case
    d = staged(case.data, case.T)
    x = np.random.default_rng(case.T).normal(size=(case.T + 1, case.problem.n))
    p = case.problem.adjoint(x, case.u)
    assert np.allclose(p[-1], d.S @ x[-1] + d.s, rtol=0, atol=1e-14 * np.abs(p).max() + 1e-14)
    for t in range(1, case.T):
        terms = np.array([d.A[t].T @ p[t], d.Q[t] @ x[t], d.M[t] @ case.u[t], d.q[t], -p[t - 1]])
        scale = np.abs(terms).max() + np.linalg.norm(d.A[t]) * np.linalg.norm(p[t])
        scale += np.linalg.norm(d.Q[t]) * np.linalg.norm(x[t])
        assert np.abs(terms.sum(axis=0)).max() <= 50 * EPS * scale, f"{case.name}: p[{t - 1}]"


def test_gradient_is_the_dense_one(known_case):
    case, dense = known_case
    J, g = case.problem.value_and_gradient(case.x0, case.u)
    assert isinstance(J, float)
    assert g.shape == case.u.shape
    x = loop_simulate(case.data, case.x0, case.u)
    near(J, loop_cost(case.data, x, case.u), dense.value_error(case.u), case.name)
    near(g, dense.gradient(case.u), dense.gradient_error(case.u), case.name)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("beside", [None, "Q", "R"])
def test_a_gradient_of_weights_of_diagonals_alone_is_the_dense_one(beside, varying):
    """Also where one entry stands beside a diagonal, and where some on it are zero."""
    case = random_case(7, n=13, m=11, T=4, radius=0.9, all_terms=True, time_varying=varying)
    rng, data = np.random.default_rng(0), dict(case.data)
    for name, size in (("Q", 13), ("R", 11)):
        diagonals = rng.uniform(1, 2, size=(4, size) if varying else size)
        diagonals[..., 0] = 0.0
        data[name] = diagonals[..., None] * np.eye(size)
        if name == beside:
            data[name][..., 2, 3] = data[name][..., 3, 2] = 0.5
    data["M"] = np.zeros((13, 11))
    dense, problem = Dense(data, 4, case.x0), LQProblem(**data)
    J, g = problem.value_and_gradient(case.x0, case.u)
    error = dense.gradient_error(case.u)
    near(
        J,
        loop_cost(data, dense.states(case.u).reshape(5, 13), case.u),
        dense.value_error(case.u),
        "J",
    )
    near(g, dense.gradient(case.u), error, "g")
    near(problem.value_and_gradient(case.x0, np.stack([case.u] * 2))[1][1], g, error, "batch")


def test_input_gradient_is_the_formula_at_any_point(known_case):
    case, _ = known_case
    d, rng = staged(case.data, case.T), np.random.default_rng(0)
    x, p = (rng.normal(size=(case.T + k, case.problem.n)) for k in (1, 0))
    g = case.problem.input_gradient(x, case.u, p)
    for t in range(case.T):
        expected = d.R[t] @ case.u[t] + d.M[t].T @ x[t] + d.r[t] + d.B[t].T @ p[t]
        np.testing.assert_allclose(g[t], expected, rtol=1e-12, atol=1e-12)


def test_gradient_is_the_central_difference(known_case):
    """Of the loop's cost. Central differences of a quadratic are exact at any step: it is 1."""
    case, dense = known_case
    _, g = case.problem.value_and_gradient(case.x0, case.u)
    for index in np.ndindex(case.u.shape):
        step = np.zeros_like(case.u)
        step[index] = 1.0
        ends = [case.u + step, case.u - step]
        J = [loop_cost(case.data, loop_simulate(case.data, case.x0, u), u) for u in ends]
        error = max(dense.value_error(u) for u in ends) + dense.gradient_error(case.u)
        near(g[index], (J[0] - J[1]) / 2, error, f"{case.name}: g{index}")


def test_gradient_in_the_initial_state_is_the_central_difference(known_case):
    """dJ/dx0 = A[0]'p[0] + Q[0] x[0] + M[0] u[0] + q[0]."""
    case, dense = known_case
    d = staged(case.data, case.T)
    x = case.problem.simulate(case.x0, case.u)
    p = case.problem.adjoint(x, case.u)
    slope = d.A[0].T @ p[0] + d.Q[0] @ x[0] + d.M[0] @ case.u[0] + d.q[0]
    near(slope, dense.slopes(case.u)[: x.shape[1]], 2 * dense.slope_error(case.u), case.name)
    for i, step in enumerate(np.eye(len(case.x0))):
        ends = [case.x0 + step, case.x0 - step]
        J = [loop_cost(case.data, loop_simulate(case.data, x0, case.u), case.u) for x0 in ends]
        error = max(Dense(case.data, case.T, x0).value_error(case.u) for x0 in ends)
        near(slope[i], (J[0] - J[1]) / 2, error + dense.slope_error(case.u), f"{case.name}: {i}")


def test_hessian_products_are_those_of_the_dense_symmetric_hessian(known_case):
    case, dense = known_case
    size = case.u.size
    columns = case.problem.hessian_product(np.eye(size).reshape(size, *case.u.shape))
    H = columns.reshape(size, size)
    error = np.sqrt(size) * dense.hessian_error()
    near(H, dense.hessian, error, case.name)
    near(H, H.T, error, f"{case.name}: symmetry")
    v = np.random.default_rng(0).normal(size=case.u.shape)
    expected = dense.hessian @ v.ravel()
    near(case.problem.hessian_product(v), expected, error * np.linalg.norm(v), case.name)


def test_taylor_remainders_have_order_two_and_none(known_case):
    """J(u + hv) - J - h g'v = O(h^2), and nothing is left of it beyond h^2/2 v'Hv."""
    case, dense = known_case
    problem, x0, u = case.problem, case.x0, case.u
    v = np.random.default_rng(1).normal(size=u.shape)
    J, g = problem.value_and_gradient(x0, u)
    curvature = np.vdot(v, problem.hessian_product(v))
    error = dense.value_error(u)
    # Small steps drown in the rounding of J: start where h^2/2 v'Hv is 1e4 of it, 1 if it can be.
    least = max(1.0, np.sqrt(2e4 * error / curvature))
    remainders = []
    for h in least * np.array([1, 2, 4, 8]):
        moved, _ = problem.value_and_gradient(x0, u + h * v)
        first = moved - J - h * np.vdot(g, v)
        remainders.append(abs(first))
        rounding = error + dense.value_error(u + h * v)
        rounding += h * np.linalg.norm(v) * dense.gradient_error(u)
        rounding += h**2 * np.vdot(v, v) * dense.hessian_error()
        near(first, h**2 / 2 * curvature, rounding, f"{case.name}: h={h}")
    orders = np.diff(np.log2(remainders))
    assert (np.abs(orders - 2) <= 0.1).all(), f"{case.name}: orders {orders}"


def test_forward_map_and_adjoint_are_transposes(known_case):
    """<X u, f> = <u, X'f>, with X u the states from rest and X'f = B' adjoint of the pull f."""
    case, _ = known_case
    n, m, T = case.problem.n, case.problem.m, case.T
    rng = np.random.default_rng(2)
    f, v = rng.normal(size=(T + 1, n)), rng.normal(size=(T, m))
    # The weights put f in the costates and nothing else: Q = R = S = 0, q = f[:T], s = f[T].
    zero = np.zeros
    linear = {"Q": zero((n, n)), "R": zero((m, m)), "S": zero((n, n)), "q": f[:-1], "s": f[-1]}
    pulled = lqrad.LQProblem(case.data["A"], case.data["B"], **linear)
    x = pulled.simulate(zero(n), v)
    _, g = pulled.value_and_gradient(zero(n), v)
    scale = np.linalg.norm(x) * np.linalg.norm(f) + np.linalg.norm(v) * np.linalg.norm(g)
    assert abs(np.vdot(x, f) - np.vdot(v, g)) <= 1e-13 * scale, case.name


@pytest.mark.parametrize("varying", STAGE_FIELDS)
def test_each_array_may_vary_alone(varying):
    """The others stay constant; the horizon is the varying one's."""
    T = 6
    case = random_case(7, n=3, m=2, T=T, radius=0.95, all_terms=True, time_varying=False)
    factor = 1 + np.arange(T) / T if varying == "R" else (T - np.arange(T)) / T
    if varying in "QM":  # scaled down, M and Q keep [Q M; M' R] semidefinite with M = 0 or Q full
        case.data["M"] = 0.0 * case.data["M"] if varying == "Q" else case.data["M"]
    array = case.data[varying]
    data = {**case.data, varying: factor.reshape(T, *[1] * array.ndim) * array}
    problem = lqrad.LQProblem(**data)
    assert problem.T == T
    dense = Dense(data, T, case.x0)
    x = problem.simulate(case.x0, case.u)
    J, g = problem.value_and_gradient(case.x0, case.u)
    near(x, dense.states(case.u), dense.state_error(case.u), varying)
    near(J, loop_cost(data, x, case.u), dense.value_error(case.u), varying)
    near(g, dense.gradient(case.u), dense.gradient_error(case.u), varying)
    Hv = problem.hessian_product(case.u)
    error = dense.hessian_error() * np.linalg.norm(case.u)
    near(Hv, dense.hessian @ case.u.ravel(), error, varying)


@pytest.mark.parametrize("T", [1, 64, 65, 1000])
@pytest.mark.parametrize("n", [1, 12, 100, 130, 300])
def test_simulate_and_adjoint_hold_at_every_step_of_large_problems(n, T):
    """Each step's residual is (n + m + 3) roundings of its terms, whatever came before."""
    rng = np.random.default_rng([n, T])
    A, B = with_spectral_radius(rng.normal(size=(n, n)), 1.01), rng.normal(size=(n, 3))
    Q, S, c, q = psd(rng, n), psd(rng, n), rng.normal(size=n), rng.normal(size=n)
    problem = lqrad.LQProblem(A, B, Q, np.eye(3), S, c=c, q=q)
    x0, u = rng.normal(size=n), rng.normal(size=(T, 3))
    x = problem.simulate(x0, u)
    p = problem.adjoint(x)
    eps = 2 * (n + 3 + 3) * EPS

    def size(M, z):
        return np.abs(z) @ np.abs(M).T

    terms = np.abs(x[1:]) + size(A, x[:-1]) + size(B, u) + np.abs(c)
    assert np.array_equal(x[0], x0)
    assert (np.abs(x[:-1] @ A.T + u @ B.T + c - x[1:]) <= eps * terms).all()
    terms = np.abs(p[:-1]) + size(A.T, p[1:]) + size(Q, x[1:-1]) + np.abs(q)
    assert (np.abs(p[1:] @ A + x[1:-1] @ Q.T + q - p[:-1]) <= eps * terms).all()
    assert (np.abs(p[-1] - S @ x[-1]) <= eps * size(S, x[-1])).all()


# --- Lagrangian and optimality conditions ----------------------------------------------------


def any_point(case):
    """States, inputs, multipliers and an initial state that satisfy nothing."""
    rng = np.random.default_rng(3)
    n, m, T = case.problem.n, case.problem.m, case.T
    return (rng.normal(size=shape) for shape in [(T + 1, n), (T, m), (T, n), (n,)])


def test_lagrangian_is_the_sum(known_case):
    case, _ = known_case
    x, u, p, x0 = any_point(case)
    value = case.problem.lagrangian(x, u, p)
    assert isinstance(value, float)
    assert value == pytest.approx(loop_lagrangian(case.data, x, u, p), rel=1e-11, abs=1e-11)
    moved = np.concatenate([x0[None], x[1:]])
    value = case.problem.lagrangian(x, u, p, x0)
    assert value == pytest.approx(loop_lagrangian(case.data, moved, u, p), rel=1e-11, abs=1e-11)


def test_kkt_residual_is_the_derivative_of_the_lagrangian(known_case):
    """In x[t], u[t] and p[t]; L is quadratic, so that central differences of step 1 are exact."""
    case, _ = known_case
    problem = case.problem
    x, u, p, x0 = any_point(case)
    kkt = problem.kkt_residual(x, u, p, x0)
    assert kkt.dynamics.shape == x.shape
    assert kkt.state.shape == p.shape
    assert kkt.input.shape == u.shape
    np.testing.assert_array_equal(kkt.dynamics[0], x0 - x[0])
    x[0] = x0  # what follows is at the given initial state, which the residual does not move to
    kkt = problem.kkt_residual(x, u, p, x0)
    point = {"x": x, "u": u, "p": p}

    def lagrangian(name, index, step):
        moved = {**point, name: point[name].copy()}
        moved[name][index] += step
        return loop_lagrangian(case.data, **moved)

    blocks = [("x", kkt.state, 1), ("u", kkt.input, 0), ("p", kkt.dynamics[1:], 0)]
    scale = abs(loop_lagrangian(case.data, x, u, p)) + 1e3
    for name, block, first in blocks:
        for t, i in np.ndindex(block.shape):
            ends = [lagrangian(name, (t + first, i), step) for step in (1.0, -1.0)]
            slope = (ends[0] - ends[1]) / 2
            assert block[t, i] == pytest.approx(slope, rel=1e-10, abs=50 * case.T * EPS * scale)


def test_two_passes_solve_all_but_the_input_conditions(known_case):
    """At their result the residual in u is the gradient, and the others vanish."""
    case, dense = known_case
    problem, x0, u = case.problem, case.x0, case.u
    x = problem.simulate(x0, u)
    p = problem.adjoint(x, u)
    kkt = problem.kkt_residual(x, u, p, x0)
    sizes = [np.linalg.norm(x), np.linalg.norm(u), np.linalg.norm(p), 1.0]
    rounding = dense.eps * max(sizes) * max(dense.norms.values())
    assert np.abs(kkt.dynamics).max() <= rounding, case.name
    assert np.abs(kkt.state).max() <= rounding, case.name
    _, g = problem.value_and_gradient(x0, u)
    near(kkt.input, g, dense.gradient_error(u), case.name)


def test_kkt_residual_vanishes_at_the_optimum_alone(known_case):
    case, dense = known_case
    problem = case.problem
    u = dense.optimum().reshape(case.u.shape)
    x = problem.simulate(case.x0, u)
    p = problem.adjoint(x, u)
    # A dense solve leaves (rows) eps |H| |u| in H u + g, and the passes their own rounding.
    left = dense.gradient_error(u) + dense.hessian_error() * np.linalg.norm(u)
    near(problem.kkt_residual(x, u, p, case.x0).input, 0 * u, left, case.name)
    relative = problem.kkt_residual(x, u + 1.0, p, case.x0).relative
    assert relative > 1e-6, case.name


def loop_relative(problem, data, x, u, p, x0):
    """The largest of the blocks' max|residual| / max|terms that were added|, in `units_of`."""
    d, T = staged(data, len(u)), len(u)
    units = units_of(problem)
    dynamics, state, inputs = [[x0, -x[0]]], [], []
    for t in range(T):
        dynamics.append([d.A[t] @ x[t], d.B[t] @ u[t], d.c[t], -x[t + 1]])
        inputs.append([d.R[t] @ u[t], d.M[t].T @ x[t], d.r[t], d.B[t].T @ p[t]])
        if t:
            pull = [d.Q[t] @ x[t], d.M[t] @ u[t], d.q[t]]
            state.append([*pull, d.A[t].T @ p[t], -p[t - 1]])
    state.append([d.S @ x[T], d.s, -p[T - 1]])
    ratios = []
    scales = units.x, units.cost - units.x, units.cost - units.u
    for block, scale in zip((dynamics, state, inputs), scales, strict=True):
        rows = [np.array(terms) / 2.0**scale for terms in block]
        residual = max(np.abs(terms.sum(axis=0)).max() for terms in rows)
        ratios.append(residual / max(np.abs(terms).max() for terms in rows))
    return max(ratios)


def test_relative_residual_is_the_worst_block_over_its_largest_term(known_case):
    case, _ = known_case
    x, u, p, x0 = any_point(case)
    relative = case.problem.kkt_residual(x, u, p, x0).relative
    assert isinstance(relative, float)
    assert relative == pytest.approx(
        loop_relative(case.problem, case.data, x, u, p, x0), rel=1e-9
    ), case.name


@pytest.mark.parametrize(
    ("term", "block"), [("c", "dynamics"), ("q", "state"), ("s", "state"), ("r", "input")]
)
def test_relative_residual_sees_an_error_in_each_block(term, block):
    """The optimum of one problem, in the conditions of another that differs in one term."""
    case = random_case(11, n=3, m=2, T=7, radius=0.95, all_terms=True)
    u = Dense(case.data, case.T, case.x0).optimum().reshape(case.u.shape)
    x = case.problem.simulate(case.x0, u)
    point = x, u, case.problem.adjoint(x, u), case.x0
    assert case.problem.kkt_residual(*point).relative <= 1e-13
    kkt = lqrad.LQProblem(**case.data | {term: case.data[term] + 1e-3}).kkt_residual(*point)
    assert kkt.relative > 1e-5
    for name in ("dynamics", "state", "input"):
        moved = np.abs(getattr(kkt, name)).max()
        assert moved == pytest.approx(1e-3, rel=1e-6) if name == block else moved <= 1e-12


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_relative_residual_does_not_depend_on_the_unit_of_cost(unit):
    case = random_case(12, n=3, m=2, T=7, radius=0.95, all_terms=True)
    x, u, p, x0 = any_point(case)
    scaled = {k: v * (unit if k in "QRSMqrs" else 1.0) for k, v in case.data.items()}
    relative = lqrad.LQProblem(**scaled).kkt_residual(x, u, unit * p, x0).relative
    expected = case.problem.kkt_residual(x, u, p, x0).relative
    assert relative == pytest.approx(expected, rel=1e-9)


def test_relative_residual_counts_terms_that_cancel():
    """At a set-point of 1e8, Q x and q are 1e8 and their sum, a weighted deviation, is 1.

    The states are rounded to 1e8 eps, so the sum is right to a few eps of its terms and to no
    better than 1e8 eps of itself: a solution without fault must not be blamed for that.
    """
    A, B, Q, R = [[1.0, 0.1], [0.0, 0.9]], [[0.0], [0.0]], np.diag([3.0, 1.0]), [[0.0]]
    x_ref, u = np.array([1e8, 0.0]), np.zeros((20, 1))
    tracking = lqrad.LQProblem.tracking(A, B, Q, R, None, x_ref)
    x0 = x_ref + np.array([1 / 3, 0.7])
    x = tracking.simulate(x0, u)
    p = lqrad.LQProblem(A, B, Q, R).adjoint(x - x_ref)  # of the deviations, free of cancellation
    kkt = tracking.kkt_residual(x, u, p, x0)
    assert np.abs(kkt.state).max() <= 10 * EPS * 3e8
    assert kkt.relative <= 10 * EPS


def test_at_rest_every_residual_is_zero_and_not_undefined():
    problem = lqrad.LQProblem([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    zero = np.zeros((3, 1))
    kkt = problem.kkt_residual(np.zeros((4, 1)), zero, zero, [0.0])
    assert kkt.relative == 0.0


def test_lagrangian_on_a_simulation_is_the_cost_for_every_multiplier():
    case = random_case(13, n=3, m=2, T=20, radius=0.95, all_terms=True)
    x = case.problem.simulate(case.x0, case.u)
    J = case.problem.cost(x, case.u)
    for seed in range(5):
        p = np.random.default_rng(seed).normal(size=(case.T, 3))
        assert case.problem.lagrangian(x, case.u, p) == pytest.approx(J, rel=1e-12)


# --- batches ---------------------------------------------------------------------------------


def series(array, batch, own):
    """Every series of an array with or without the batch axes: index -> its own part."""
    full = np.broadcast_to(array, (*batch, *np.shape(array)[-own:]))
    return {index: full[index] for index in np.ndindex(*batch)}


@BATCHES
@pytest.mark.parametrize("given", ["both", "x0", "u"])
@pytest.mark.parametrize("seed", [20, 21, 22, 23], ids=lambda seed: f"seed{seed}")
def test_a_batch_is_a_loop_over_its_series(seed, given, batch):
    """Batches of both, of initial states with one u, and of inputs with one x0."""
    case = random_case(
        seed, n=3, m=2, T=7, radius=0.95, all_terms=True, time_varying=bool(seed % 2)
    )
    rng = np.random.default_rng(seed)
    problem = case.problem
    x0 = rng.normal(size=(*(batch if given != "u" else ()), 3))
    u = rng.normal(size=(*(batch if given != "x0" else ()), 7, 2))
    x = problem.simulate(x0, u)
    wide = np.broadcast_to(u, (*batch, 7, 2))
    p = problem.adjoint(x, wide)
    g = problem.input_gradient(x, wide, p)
    J, gradient = problem.value_and_gradient(x0, u)
    J_of_x, L = problem.cost(x, wide), problem.lagrangian(x, wide, p)
    Hv = problem.hessian_product(u)
    kkt = problem.kkt_residual(x, wide, p + 1.0, x0)
    assert (x.shape, p.shape) == ((*batch, 8, 3), (*batch, 7, 3))
    assert g.shape == gradient.shape == (*batch, 7, 2)
    assert np.shape(J) == np.shape(J_of_x) == np.shape(L) == batch
    assert Hv.shape == u.shape
    assert kkt.dynamics.shape == x.shape
    one_x0, one_u, relative = series(x0, batch, 1), series(u, batch, 2), []
    for k in np.ndindex(*batch):
        same = {"rtol": 1e-11, "atol": 1e-11}
        xk = problem.simulate(one_x0[k], one_u[k])
        pk = problem.adjoint(xk, one_u[k])
        Jk, gk = problem.value_and_gradient(one_x0[k], one_u[k])
        np.testing.assert_allclose(x[k], xk, **same)
        np.testing.assert_allclose(p[k], pk, **same)
        np.testing.assert_allclose(g[k], gk, **same)
        np.testing.assert_allclose(gradient[k], gk, **same)
        for value in (np.asarray(J)[k], np.asarray(J_of_x)[k], np.asarray(L)[k]):
            np.testing.assert_allclose(value, Jk, **same)
        product = problem.hessian_product(one_u[k])
        np.testing.assert_allclose(np.broadcast_to(Hv, wide.shape)[k], product, **same)
        one = problem.kkt_residual(xk, one_u[k], pk + 1.0, one_x0[k])
        for block in ("dynamics", "state", "input"):
            np.testing.assert_allclose(getattr(kkt, block)[k], getattr(one, block), **same)
        relative.append(one.relative)
    assert isinstance(kkt.relative, float)
    assert min(relative) * 0.99 <= kkt.relative <= max(relative) * 1.01


def test_adjoint_of_a_batch_of_states_takes_one_series_of_inputs():
    case = random_case(24, n=3, m=2, T=7, radius=0.95, all_terms=True, time_varying=False)
    x = np.random.default_rng(0).normal(size=(4, 8, 3))
    p = case.problem.adjoint(x, case.u)
    for k in range(4):
        np.testing.assert_allclose(p[k], case.problem.adjoint(x[k], case.u), atol=1e-12)


# --- what is given stays as it is ------------------------------------------------------------

SAME_NUMBERS = {
    "float32": lambda a: np.asarray(a, dtype=np.float32),
    "integer": lambda a: np.asarray(a, dtype=np.int64),
    "boolean-free list": lambda a: np.asarray(a).tolist(),
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: np.flip(a).copy()[tuple(slice(None, None, -1) for _ in a.shape)],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "big-endian": lambda a: np.asarray(a, dtype=">f8"),
    "matrix-free subclass": lambda a: np.ma.masked_array(a).filled(),
}


def whole_numbers(seed, T=9):
    """A problem, x0 and u in small whole numbers, so that every dtype holds them exactly."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.integers(-2, 3, size=shape).astype(float)

    eye2, eye3 = np.eye(2), np.eye(3)
    data = {"A": draw(3, 3), "B": draw(3, 2), "Q": 3 * eye3, "R": 7 * eye2, "S": 2 * eye3}
    data |= {"M": draw(3, 2) // 2, "c": draw(3), "q": draw(T, 3), "r": draw(2), "s": draw(3)}
    return data, draw(3), draw(T, 2)


@pytest.mark.parametrize("form", SAME_NUMBERS.values(), ids=SAME_NUMBERS.keys())
def test_the_same_numbers_in_any_form_give_the_same(form):
    data, x0, u = whole_numbers(0)
    plain, formed = (
        lqrad.LQProblem(**data),
        lqrad.LQProblem(**{k: form(v) for k, v in data.items()}),
    )
    for name in data:
        held = getattr(formed, name)
        assert np.array_equal(held, data[name]), name
        assert held.dtype == np.float64
        assert held.flags.c_contiguous
    x = plain.simulate(x0, u)
    p = plain.adjoint(x, u)
    J, g = plain.value_and_gradient(x0, u)
    Hv = plain.hessian_product(u)
    fx0, fu, fx, fp = form(x0), form(u), form(x), form(p)
    # Whole numbers below 2^53: nothing rounds in float64, and x and p fit float32 only nearly.
    exact = {"rtol": 1e-6 if form is SAME_NUMBERS["float32"] else 0}
    for problem in (plain, formed):
        np.testing.assert_array_equal(problem.simulate(fx0, fu), x)
        assert problem.value_and_gradient(fx0, fu)[0] == J
        np.testing.assert_array_equal(problem.value_and_gradient(fx0, fu)[1], g)
        np.testing.assert_array_equal(problem.hessian_product(fu), Hv)
        np.testing.assert_allclose(problem.adjoint(fx, fu), p, **exact)
        np.testing.assert_allclose(problem.input_gradient(fx, fu, fp), g, **exact)
        np.testing.assert_allclose(problem.cost(fx, fu), J, **exact)
        np.testing.assert_allclose(problem.lagrangian(fx, fu, fp, fx0), J, **exact)
        assert problem.kkt_residual(fx, fu, fp, fx0).relative <= 1.0
    for result in (plain.simulate(fx0, fu), plain.adjoint(fx, fu), plain.hessian_product(fu)):
        assert result.dtype == np.float64


@pytest.mark.parametrize("n", [3, 130])
@pytest.mark.parametrize("varying", [False, True], ids=["constant", "varying"])
def test_no_method_modifies_its_arguments(n, varying):
    case = random_case(
        30, n=n, m=2, T=7, radius=0.95, all_terms=varying, time_varying=varying, zero_S=False
    )
    problem, x0, u = case.problem, case.x0.copy(), case.u.copy()
    held = {name: getattr(problem, name).copy() for name in [*STAGE_FIELDS, "S", "s"]}
    x = problem.simulate(x0, u)
    p = problem.adjoint(x, u)
    arguments = [x0, u, x, p]
    kept = [array.copy() for array in arguments]
    problem.simulate(x0, u)
    problem.adjoint(x, u)
    problem.input_gradient(x, u, p)
    problem.cost(x, u)
    problem.value_and_gradient(x0, u)
    problem.hessian_product(u)
    problem.lagrangian(x, u, p, x0 + 1.0)
    problem.kkt_residual(x, u, p, x0 + 1.0)
    objective = problem.objective(x0, 7)
    _, g = objective.value_and_gradient(u)
    g_kept = g.copy()
    objective.hessian_product(u, u)
    objective.gap_bound(g)
    for array, before in zip(arguments, kept, strict=True):
        assert np.array_equal(array, before)
    assert np.array_equal(g, g_kept)
    for name, before in held.items():
        assert np.array_equal(getattr(problem, name), before), name


def test_results_are_the_callers_to_change():
    case = random_case(31, n=2, m=1, T=7, radius=0.95)
    x = case.problem.simulate(case.x0, case.u)
    results = [
        x,
        case.problem.adjoint(x, case.u),
        case.problem.value_and_gradient(case.x0, case.u)[1],
        case.problem.hessian_product(case.u),
    ]
    kept = [array.copy() for array in results]
    for array in results:
        array += 1.0
    again = [
        case.problem.simulate(case.x0, case.u),
        case.problem.adjoint(x - 1.0, case.u),
        case.problem.value_and_gradient(case.x0, case.u)[1],
        case.problem.hessian_product(case.u),
    ]
    for array, before in zip(again, kept, strict=True):
        np.testing.assert_allclose(array, before, rtol=1e-12, atol=1e-12)


def test_a_problem_is_immutable():
    problem = lqrad.LQProblem(np.eye(2), np.ones((2, 1)), np.eye(2), np.eye(1))
    for name in [*STAGE_FIELDS, "S", "s", "n", "m", "T"]:
        with pytest.raises(AttributeError, match="of a LQProblem cannot be set"):
            setattr(problem, name, np.zeros((2, 2)))
    for name in [*STAGE_FIELDS, "S", "s"]:
        with pytest.raises(ValueError, match="read-only"):
            getattr(problem, name)[...] = 0.0


def test_later_changes_of_the_callers_arrays_do_not_change_the_problem():
    case = random_case(32, n=3, m=2, T=7, radius=0.95, all_terms=True, time_varying=True)
    data = {name: array.copy() for name, array in case.data.items()}
    problem = lqrad.LQProblem(**data)
    x0 = case.x0.copy()
    objective = problem.objective(x0)
    J, g = objective.value_and_gradient(case.u)
    for array in [*data.values(), x0]:
        array[...] = 1e3
    again = objective.value_and_gradient(case.u)
    assert again[0] == J
    assert np.array_equal(again[1], g)


def test_what_is_not_given_is_zero_and_the_terminal_weight_is_q():
    Q = np.diag([1.0, 2.0])
    problem = lqrad.LQProblem(np.eye(2), np.ones((2, 1)), Q, np.eye(1))
    assert np.array_equal(problem.S, Q)
    for name, shape in {"M": (2, 1), "c": (2,), "q": (2,), "r": (1,), "s": (2,)}.items():
        assert np.array_equal(getattr(problem, name), np.zeros(shape)), name
    assert (problem.n, problem.m, problem.T) == (2, 1, None)


# --- overflow --------------------------------------------------------------------------------


def first_bad_step(data, x0, u):
    with np.errstate(all="ignore"):
        x = loop_simulate(data, x0, u)
    return int(np.argmax(~np.isfinite(x).all(axis=1)))


@pytest.mark.parametrize("n", [1, 2, 5, 30, 130])
@pytest.mark.parametrize("offset", [0.0, 1.0], ids=["linear", "affine"])
def test_overflow_names_the_step_at_which_the_loop_overflows(n, offset):
    rng = np.random.default_rng(n)
    A, B = with_spectral_radius(rng.normal(size=(n, n)), 2.0), rng.normal(size=(n, 2))
    data = {"A": A, "B": B, "Q": np.eye(n), "R": np.eye(2), "c": np.full(n, offset)}
    problem = lqrad.LQProblem(**data)
    x0, u = rng.normal(size=n), rng.normal(size=(2000, 2))
    step = first_bad_step(data, x0, u)
    assert 900 < step < 1100
    calls = [
        lambda: problem.simulate(x0, u),
        lambda: problem.value_and_gradient(x0, u),
        lambda: problem.objective(x0, 2000).value_and_gradient(u),
        lambda: problem.simulate(np.array([x0, x0]), np.array([u, u])),
    ]
    for call in calls:
        with pytest.raises(NonFiniteError, match=rf"\b{step}\b.*spectral radius.*2"):
            call()


def test_overflow_of_a_varying_system_names_its_step():
    A = np.full((50, 1, 1), 0.5)
    A[30:] = 1e200
    data = {"A": A} | {name: np.ones((1, 1)) for name in "BQRS"}
    u = np.ones((50, 1))
    step = first_bad_step(data, np.ones(1), u)
    assert step == 32
    with pytest.raises(NonFiniteError, match=r"\b32\b"):
        lqrad.LQProblem(**data).simulate([1.0], u)


def test_overflow_of_the_costates_names_its_step():
    """p[T-1-k] = 2^k: backward from T - 1 = 1999, the first that overflows is p[975]."""
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    problem = lqrad.LQProblem(2 * one, one, zero, one, one)
    with pytest.raises(NonFiniteError, match=r"\b97[56]\b"):  # p[975], or dJ/dx[976]
        problem.adjoint(np.ones((2001, 1)))


def test_overflow_of_the_cost_alone_is_an_error_too():
    """The states stay at 1e200, which is finite; x'Qx is not."""
    problem = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(NonFiniteError, match="cost"):
        problem.value_and_gradient([1e200], np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("gradient", lambda lq, x0, x, u, p: lq.value_and_gradient(x0, u)),
        ("gradient", lambda lq, x0, x, u, p: lq.input_gradient(x, u, p)),
        ("Hessian", lambda lq, x0, x, u, p: lq.hessian_product(u + 1.0)),
        ("residual", lambda lq, x0, x, u, p: lq.kkt_residual(x, u, p, x0)),
        ("Lagrangian", lambda lq, x0, x, u, p: lq.lagrangian(x, u + 1.0, p)),
    ],
    ids=["value_and_gradient", "input_gradient", "hessian_product", "kkt_residual", "lagrangian"],
)
def test_overflow_beyond_the_two_passes_is_an_error_too(name, call):
    """States and costates of 1e150 are finite, B'p = 1e350 is not: no proof may come of it."""
    lq = lqrad.LQProblem([[1.0]], [[1e200]], [[1.0]], [[1.0]])
    x0, u = np.array([1e150]), np.zeros((3, 1))
    x = lq.simulate(x0, u)
    p = lq.adjoint(x)
    assert np.isfinite(x).all()
    assert np.isfinite(p).all()
    with pytest.raises(NonFiniteError, match=f"(?i){name}") as raised:
        call(lq, x0, x, u, p)
    assert "before building" not in str(raised.value), "what was given is finite"


# --- the objective ---------------------------------------------------------------------------


def test_objective_gives_what_the_problem_gives(known_case):
    case, _ = known_case
    problem, x0, u = case.problem, case.x0, case.u
    objective = problem.objective(x0, case.T)
    assert objective.shape == u.shape
    assert objective.quadratic
    J, g = objective.value_and_gradient(u)
    expected = problem.value_and_gradient(x0, u)
    assert isinstance(J, float)
    assert pytest.approx(expected[0], rel=0, abs=0) == J
    assert np.array_equal(g, expected[1])
    v = np.random.default_rng(4).normal(size=u.shape)
    assert np.array_equal(objective.hessian_product(u, v), problem.hessian_product(v))


def test_gap_bound_is_never_below_the_gap(known_case):
    """J(u) - min J <= bound, for all u; R - M'Q^+M is positive definite in every case drawn."""
    case, dense = known_case
    objective = case.problem.objective(case.x0, case.T)
    rng = np.random.default_rng(5)
    for scale in (1e-3, 1.0, 1e3):
        u = dense.optimum().reshape(case.u.shape) + scale * rng.normal(size=case.u.shape)
        _, g = objective.value_and_gradient(u)
        bound, gap = objective.gap_bound(g), dense.gap(u)
        assert isinstance(bound, float)
        error = np.linalg.norm(g) * dense.gradient_error(u)  # R - M'Q^+M >= I/2: 1/2 g'D^-1 g
        error += dense.hessian_error() * scale**2 * u.size
        assert bound >= gap * (1 - 1e-9) - 4 * error, f"{case.name}: gap {gap}, bound {bound}"


def loop_gap_bound(data, g):
    d = staged(data, len(g))
    bound = 0.0
    for t in range(len(g)):
        D = d.R[t] - d.M[t].T @ np.linalg.pinv(d.Q[t], rcond=1e-12, hermitian=True) @ d.M[t]
        bound += g[t] @ np.linalg.solve(D, g[t]) / 2
    return bound


def test_gap_bound_is_its_formula(known_case):
    """It is 1/2 sum g'(R - M'Q^+M)^-1 g."""
    case, _ = known_case
    g = np.random.default_rng(6).normal(size=case.u.shape)
    bound = case.problem.objective(case.x0, case.T).gap_bound(g)
    assert bound == pytest.approx(loop_gap_bound(case.data, g), rel=1e-6), case.name


@pytest.mark.parametrize("varying", [False, True], ids=["constant", "varying"])
@pytest.mark.parametrize("without", ["B", "Q"])
def test_gap_bound_is_tight_where_the_states_do_not_add_curvature(without, varying):
    case = random_case(40, n=3, m=2, T=7, radius=0.95, all_terms=True, time_varying=varying)
    gone = {"B": 0 * case.data["B"]} if without == "B" else {}
    if without == "Q":
        gone = {"Q": 0 * case.data["Q"], "S": 0 * case.data["S"]}
    data = {**case.data, "M": 0 * case.data["M"], **gone}
    objective = lqrad.LQProblem(**data).objective(case.x0, 7)
    _, g = objective.value_and_gradient(case.u)
    gap = Dense(data, 7, case.x0).gap(case.u)
    assert objective.gap_bound(g) == pytest.approx(gap, rel=1e-10)


@pytest.mark.parametrize(
    ("Q", "M", "R"),
    [
        (np.eye(2), np.zeros((2, 2)), np.zeros((2, 2))),
        (np.eye(2), np.zeros((2, 2)), np.diag([1.0, 0.0])),
        (np.eye(2), np.zeros((2, 2)), np.outer([1.0, 3.0], [1.0, 3.0]) / 7),
        (np.eye(2), np.eye(2), np.eye(2)),
        (np.diag([2.0, 0.0]), np.diag([2.0, 0.0]), np.diag([2.0, 1.0])),
        (np.eye(2) / 3, np.diag([0.1, 0.0]), np.diag([0.03, 1.0])),
    ],
    ids=["R=0", "R-diagonal", "R-rank-one", "R=M'M", "Q-singular", "rounded"],
)
@pytest.mark.parametrize("varying", [False, True], ids=["constant", "one-stage"])
def test_no_gap_bound_is_offered_without_proven_curvature(Q, M, R, varying):
    """R - M'Q^+M is singular, be it at one stage only."""
    if varying:
        Q = np.array([np.eye(2), Q, np.eye(2)])
        M = np.array([np.zeros((2, 2)), M, np.zeros((2, 2))])
        R = np.array([np.eye(2), R, np.eye(2)])
    problem = lqrad.LQProblem(np.eye(2), np.eye(2), Q, R, np.eye(2), M=M)
    objective = problem.objective([1.0, 1.0], 3)
    assert objective.gap_bound is None
    J, g = objective.value_and_gradient(np.ones((3, 2)))
    assert np.isfinite(J)
    assert np.isfinite(g).all()


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3)], ids=str)
def test_objective_of_a_batch_adds_its_series_up(batch):
    case = random_case(41, n=3, m=2, T=7, radius=0.95, all_terms=True, time_varying=False)
    rng = np.random.default_rng(0)
    x0, u, v = (rng.normal(size=(*batch, *own)) for own in [(3,), (7, 2), (7, 2)])
    objective = case.problem.objective(x0, 7)
    assert objective.shape == u.shape
    J, g = objective.value_and_gradient(u)
    Hv, bound = objective.hessian_product(u, v), objective.gap_bound(g)
    total_J = total_bound = 0.0
    for k in np.ndindex(*batch):
        one = case.problem.objective(x0[k], 7)
        one_J, one_g = one.value_and_gradient(u[k])
        np.testing.assert_allclose(g[k], one_g, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(Hv[k], one.hessian_product(u[k], v[k]), rtol=1e-11, atol=1e-11)
        total_J += one_J
        total_bound += one.gap_bound(one_g)
    assert isinstance(J, float)
    assert isinstance(bound, float)
    assert pytest.approx(total_J, rel=1e-12) == J
    assert bound == pytest.approx(total_bound, rel=1e-11)


def test_objective_takes_the_horizon_of_what_varies():
    varying = random_case(42, n=2, m=1, T=7, time_varying=True).problem
    assert varying.objective([1.0, 0.0]).shape == (7, 1)
    assert varying.objective([1.0, 0.0], 7).shape == (7, 1)


def test_one_objective_serves_any_number_of_evaluations():
    """Nothing is kept from one point to the next."""
    case = random_case(43, n=3, m=2, T=7, radius=0.95, all_terms=True)
    objective = case.problem.objective(case.x0, 7)
    J, g = objective.value_and_gradient(case.u)
    first = g.copy()
    objective.value_and_gradient(3 * case.u)
    objective.hessian_product(case.u, 2 * case.u)
    assert np.array_equal(g, first), "a returned gradient is not a buffer"
    again = objective.value_and_gradient(case.u)
    assert again[0] == J
    assert np.array_equal(again[1], first)


# --- other ways to make a problem ------------------------------------------------------------


@pytest.mark.parametrize("with_u_ref", [True, False])
@pytest.mark.parametrize("reference", ["varying", "constant"])
@pytest.mark.parametrize("time_varying", [True, False])
def test_tracking_costs_the_deviations(time_varying, reference, with_u_ref):
    """Up to 1/2 x_ref'Q x_ref + 1/2 u_ref'R u_ref summed, which no input changes."""
    T, kind = 6, {"all_terms": False, "zero_S": False, "time_varying": time_varying}
    case = random_case(50, n=3, m=2, T=T, radius=0.95, **kind)
    rng = np.random.default_rng(0)
    A, B, Q, R, S = (case.data[name] for name in "ABQRS")
    x_ref = rng.normal(size=(T + 1, 3) if reference == "varying" else 3)
    u_ref = rng.normal(size=(T, 2) if reference == "varying" else 2) if with_u_ref else None
    arguments = (x_ref,) if u_ref is None else (x_ref, u_ref)
    problem = lqrad.LQProblem.tracking(A, B, Q, R, S, *arguments)
    nothing_varies = reference == "constant" and not time_varying
    assert (problem.T is None) if nothing_varies else (problem.T == T)
    deviations = {"A": A, "B": B, "Q": Q, "R": R, "S": S}
    x_ref = np.broadcast_to(x_ref, (T + 1, 3))
    u_ref = np.broadcast_to(0.0 if u_ref is None else u_ref, (T, 2))
    constant = loop_cost(deviations, x_ref, u_ref)
    for _ in range(3):
        u = rng.normal(size=(T, 2))
        x = problem.simulate(case.x0, u)
        expected = loop_cost(deviations, x - x_ref, u - u_ref)
        assert problem.cost(x, u) + constant == pytest.approx(expected, rel=1e-12)


def test_tracking_without_terminal_weight_uses_q():
    x_ref = np.random.default_rng(0).normal(size=(5, 2))
    Q = np.diag([1.0, 2.0])
    arguments = np.eye(2), np.ones((2, 1)), Q, np.eye(1)
    problem = lqrad.LQProblem.tracking(*arguments, None, x_ref)
    assert np.array_equal(problem.S, Q)
    np.testing.assert_allclose(problem.s, -Q @ x_ref[-1], rtol=1e-15)


def discrete(A, B, dt):
    return SimpleNamespace(A=A, B=B, dt=dt)


def control_statespace(A, B, dt):
    return control.StateSpace(A, B, np.eye(len(A)), 0, dt)


def scipy_dlti(A, B, dt):
    return scipy.signal.dlti(A, B, np.eye(len(A)), np.zeros_like(B), dt=dt)


@pytest.mark.parametrize(
    ("make", "dt"),
    [(discrete, 0.1), (control_statespace, 0.1), (control_statespace, True), (scipy_dlti, 0.1)],
    ids=["duck", "control", "control-unit-step", "scipy"],
)
def test_from_statespace_reads_a_discrete_system(make, dt):
    A, B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.0], [0.1]])
    Q, R, S = np.eye(2), np.eye(1), 3 * np.eye(2)
    problem = lqrad.LQProblem.from_statespace(make(A, B, dt), Q, R, S)
    for name, expected in zip("ABQRS", [A, B, Q, R, S], strict=True):
        assert np.array_equal(getattr(problem, name), expected), name
    assert np.array_equal(lqrad.LQProblem.from_statespace(make(A, B, dt), Q, R).S, Q)


@pytest.mark.parametrize(
    "system",
    [
        discrete(np.eye(2), np.ones((2, 1)), 0),
        discrete(np.eye(2), np.ones((2, 1)), 0.0),
        discrete(np.eye(2), np.ones((2, 1)), None),
        control.StateSpace(np.eye(2), np.ones((2, 1)), np.eye(2), 0, 0),
        control.StateSpace(np.eye(2), np.ones((2, 1)), np.eye(2), 0, None),
        scipy.signal.lti(np.eye(2), np.ones((2, 1)), np.eye(2), np.zeros((2, 1))),
    ],
    ids=["duck-0", "duck-0.0", "duck-None", "control", "control-None", "scipy"],
)
def test_from_statespace_refuses_continuous_time_and_names_discretise(system):
    with pytest.raises(ArgumentError, match="discretise"):
        lqrad.LQProblem.from_statespace(system, np.eye(2), np.eye(1))


@pytest.mark.parametrize(
    "system",
    [scipy.signal.dlti([1.0], [1.0, 0.5], dt=0.1), control.tf([1.0], [1.0, 0.5], 0.1), np.eye(2)],
    ids=["scipy", "control", "array"],
)
def test_from_statespace_refuses_what_is_not_a_state_space(system):
    with pytest.raises(ArgumentError, match=r"(?i)state[- ]space"):
        lqrad.LQProblem.from_statespace(system, np.eye(1), np.eye(1))


# --- properties ------------------------------------------------------------------------------

numbers = st.floats(-1e3, 1e3, allow_subnormal=False)
seeds = st.integers(0, 2**32 - 1)
quickly = settings(max_examples=40, deadline=None, derandomize=True)


@quickly
@given(seed=seeds, a=numbers, b=numbers)
def test_simulation_is_linear_without_affine_terms(seed, a, b):
    case = random_case(seed, all_terms=False)
    rng = np.random.default_rng(seed)
    problem = case.problem
    y0, v = rng.normal(size=case.x0.shape), rng.normal(size=case.u.shape)
    x, y = problem.simulate(case.x0, case.u), problem.simulate(y0, v)
    both = problem.simulate(a * case.x0 + b * y0, a * case.u + b * v)
    growth = Dense(case.data, case.T, case.x0).growth
    scale = abs(a) * np.linalg.norm(x) + abs(b) * np.linalg.norm(y)
    assert np.linalg.norm(both - (a * x + b * y)) <= 100 * growth * EPS * scale * case.T


@quickly
@given(seed=seeds)
def test_hessian_is_self_adjoint_and_positive(seed):
    """<H v, w> = <v, H w>, and v'Hv >= v'(R - M'Q^+M)v >= |v|^2 / 2 as these cases are drawn."""
    case = random_case(seed, radius=0.95)
    rng = np.random.default_rng(seed)
    v, w = rng.normal(size=(2, *case.u.shape))
    Hv, Hw = case.problem.hessian_product(v), case.problem.hessian_product(w)
    scale = np.linalg.norm(Hv) * np.linalg.norm(w) + np.linalg.norm(v) * np.linalg.norm(Hw)
    assert abs(np.vdot(Hv, w) - np.vdot(v, Hw)) <= 1e-13 * scale
    assert np.vdot(v, Hv) >= 0.5 * np.vdot(v, v) * (1 - 1e-9)


@quickly
@given(seed=seeds, T1=st.integers(1, 90), T2=st.integers(1, 90))
def test_two_simulations_in_a_row_are_one(seed, T1, T2):
    case = random_case(seed, T=T1 + T2, radius=0.95, time_varying=False)
    problem, x0, u = case.problem, case.x0, case.u
    whole = problem.simulate(x0, u)
    first = problem.simulate(x0, u[:T1])
    second = problem.simulate(first[-1], u[T1:])
    pieces = np.concatenate([first, second[1:]])
    growth = Dense(case.data, case.T, x0).growth
    error = 50 * growth * EPS * (np.linalg.norm(whole) + np.linalg.norm(u) + 1)
    assert np.linalg.norm(pieces - whole) <= error


@quickly
@given(seed=seeds, scale=st.floats(0.1, 10))
def test_cost_without_linear_terms_is_homogeneous(seed, scale):
    """J(a x0, a u) = a^2 J(x0, u), and the gradient goes as a."""
    case = random_case(seed, all_terms=False, radius=0.95)
    J, g = case.problem.value_and_gradient(case.x0, case.u)
    scaled_J, scaled_g = case.problem.value_and_gradient(scale * case.x0, scale * case.u)
    assert scaled_J == pytest.approx(scale**2 * J, rel=1e-12)
    np.testing.assert_allclose(scaled_g, scale * g, rtol=0, atol=1e-12 * scale * np.abs(g).max())


# Problems made from others


def derived(problem):
    """Everything that makes a problem of another, with the same optimum."""
    return {
        "replace": problem.replace(A=problem.A),
        "feedback": problem.with_feedback(np.zeros((problem.m, problem.n))),
        "tracking": LQProblem.tracking(
            problem.A, problem.B, problem.Q, problem.R, None, np.zeros(problem.n)
        ),
        "copy": copy.deepcopy(problem),
        "pickle": pickle.loads(pickle.dumps(problem)),
    }


def test_that_S_was_not_given_is_kept():
    A, B, Q, R = [[1, 0.1], [0, 1]], [[0.005], [0.1]], np.diag([10.0, 1.0]), [[0.1]]
    problem = LQProblem(A, B, Q, R)
    assert not problem.S_given
    assert LQProblem(A, B, Q, R, problem.Q).S_given  # the same array, and given
    first = lqrad.mpc(problem, 5).step([3.0, 1.0])
    for name, other in derived(problem).items():
        assert not other.S_given, name
        np.testing.assert_allclose(lqrad.mpc(other, 5).step([3.0, 1.0]), first, rtol=1e-9)
    for name, other in derived(LQProblem(A, B, Q, R, Q)).items():
        assert other.S_given or name == "tracking"


def test_where_S_was_not_given_it_follows_Q():
    problem = LQProblem(np.eye(2), np.eye(2), np.eye(2), np.eye(2))
    other = problem.replace(Q=2 * np.eye(2))
    np.testing.assert_array_equal(other.S, 2 * np.eye(2))
    closed = problem.with_feedback(0.5 * np.eye(2))  # whose S is not its Q
    np.testing.assert_array_equal(closed.replace(Q=2 * np.eye(2)).S, np.eye(2))
    assert not other.S_given
    assert problem.replace(S=np.eye(2)).S_given
    assert (
        not LQProblem(np.eye(2), np.eye(2), np.eye(2), np.eye(2), np.eye(2)).replace(S=None).S_given
    )


def test_replace_checks_and_leaves_the_callers_array_alone():
    problem = LQProblem(np.eye(2), np.eye(2), np.eye(2), np.eye(2))
    mine = np.diag([1.0, 2.0])
    other = problem.replace(Q=mine)
    mine[0, 0] = 3.0
    assert other.Q[0, 0] == 1.0
    with pytest.raises(NotConvexError, match="Q has the eigenvalue -1"):
        problem.replace(Q=-np.eye(2))
    with pytest.raises(ShapeError, match=r"R has shape \(2, 2\)"):
        problem.replace(B=np.eye(3)[:2])
    with pytest.raises(ArgumentError, match="an array to replace is 'E', expected one of: A, B, Q"):
        problem.replace(E=np.eye(2))


def test_feedback_that_overflows_is_an_error():
    problem = LQProblem([[1, 0.1], [0, 1]], [[0], [0.1]], np.eye(2), [[1]])
    with pytest.raises(NonFiniteError, match=r"the closed loop's Q\[0, 0\] is .*overflowed"):
        problem.with_feedback([[1e200, 1]])


def test_what_is_right_by_construction_freezes_nobodys_array():
    mine = 2 * np.eye(2)
    changed(LQProblem(np.eye(2), np.eye(2), np.eye(2), np.eye(2)), Q=mine)
    mine[0, 0] = 3.0


@pytest.mark.parametrize("T", [10**12, 10**30, 1e300])
def test_a_horizon_without_room_is_refused(T):
    problem = LQProblem(np.eye(2), np.eye(2), np.eye(2), np.eye(2))
    with pytest.raises(ArgumentError, match=r"two passes over T = .* more than this machine"):
        problem.objective([1.0, 0.0], T)


def test_the_loop_of_the_docstring_is_the_gradient():
    """The lines that the class gives as its definition, run as they stand."""
    case = random_case(3, T=6, time_varying=False, all_terms=True)
    text = inspect.getdoc(LQProblem)
    loop = text[text.index("x, J = [x0]") : text.index("The arrays are checked")]
    names = {name: getattr(case.problem, name) for name in "ABQRSMcqrs"}
    names |= {"x0": case.x0, "u": case.u, "T": 6, "g": np.zeros_like(case.u)}
    exec(textwrap.dedent("    " + loop), names)
    J, g = case.problem.value_and_gradient(case.x0, case.u)
    assert names["J"] == pytest.approx(J, rel=1e-12)
    np.testing.assert_allclose(names["g"], g, atol=1e-12 * np.abs(g).max())
