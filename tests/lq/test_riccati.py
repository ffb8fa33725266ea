"""Riccati against the optimality conditions as one dense linear system, and against other solvers.

The oracle stacks all stages: minimise 1/2 z'Hz + g'z over z = (x, u) subject to C z = d, so that
[H C'; C 0] (z, p) = (-g, d). Nothing of it is in the package.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import tracemalloc
import types
from types import SimpleNamespace
from unittest import mock

import control
import numpy as np
import pytest
from random_problems import psd, random_case, with_spectral_radius

import lqrad
from lqrad.errors import (
    ArgumentError,
    DtypeError,
    LqradError,
    NonFiniteError,
    NotConvexError,
    NotStabilizableError,
    ShapeError,
)

solver = importlib.import_module("lqrad.lq.dare")  # lqrad.lq.dare is the function

EPS = np.finfo(float).eps
SEEDS = range(120)
LINEAR = ("c", "q", "r", "s")


# --- oracles ---------------------------------------------------------------------------------


def stacked(problem, T, x0):
    """x, u, p and the cost of the optimum, from one dense linear system, with its rounding error."""
    n, m = problem.n, problem.m

    def at(name, t):
        value = getattr(problem, name)
        return value[t] if value.ndim == {"c": 2, "q": 2, "r": 2}.get(name, 3) else value

    N, U = (T + 1) * n, T * m
    H, g = np.zeros((N + U, N + U)), np.zeros(N + U)
    C, d = np.zeros((N, N + U)), np.zeros(N)
    C[:n, :n], d[:n] = np.eye(n), x0
    for t in range(T):
        x, u, then = (
            slice(k, k + size) for k, size in ((t * n, n), (N + t * m, m), (t * n + n, n))
        )
        H[x, x], H[u, u] = at("Q", t), at("R", t)
        H[x, u], H[u, x] = at("M", t), at("M", t).T
        g[x], g[u] = at("q", t), at("r", t)
        # A x + B u - x+ = -c, so that its multiplier has the sign that p has
        C[then, x], C[then, u], C[then, then] = at("A", t), at("B", t), -np.eye(n)
        d[then] = -at("c", t)
    H[T * n : N, T * n : N], g[T * n : N] = problem.S, problem.s
    kkt = np.block([[H, C.T], [C, np.zeros((N, N))]])
    solution = np.linalg.solve(kkt, np.concatenate([-g, d]))
    z = solution[: N + U]
    return SimpleNamespace(
        x=z[:N].reshape(T + 1, n),
        u=z[N:].reshape(T, m),
        p=solution[N + U + n :].reshape(T, n),
        cost=0.5 * z @ H @ z + g @ z,
        # what a backward stable solver may be off by
        slack=len(kkt) * EPS * np.linalg.cond(kkt) * np.abs(solution).max(),
        scale=np.abs(solution).max(),
    )


def equation(A, B, Q, R, P, M=None):
    """The residual of the algebraic equation, as SciPy's tests evaluate it, and the closed loop."""
    M = np.zeros_like(B) if M is None else M
    K = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A + M.T)
    return A.T @ P @ A - P + Q - (A.T @ P @ B + M) @ K, A - B @ K


def radius_of(matrix):
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def controllable(seed, n, m, radius, **terms):
    """A random time-invariant problem with the given spectral radius of A."""
    rng = np.random.default_rng(seed)
    data = {name: rng.normal(size=size) for name, size in zip("cqrs", (n, n, m, n), strict=True)}
    return lqrad.LQProblem(
        with_spectral_radius(rng.normal(size=(n, n)), radius),
        rng.normal(size=(n, m)),
        psd(rng, n) + 0.1 * np.eye(n),
        psd(rng, m) + 0.1 * np.eye(m),
        psd(rng, n),
        **{name: value for name, value in data.items() if terms.get("linear")},
    )


# --- the whole solution ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_rollout_solves_the_optimality_conditions_of_the_whole_horizon(seed):
    case = random_case(seed)
    found = lqrad.riccati(case.problem, case.T).rollout(case.x0)
    optimum = stacked(case.problem, case.T, case.x0)
    assert np.abs(found.x - optimum.x).max() <= optimum.slack
    assert np.abs(found.u - optimum.u).max() <= optimum.slack
    assert np.abs(found.p - optimum.p).max() <= optimum.slack
    assert abs(found.cost - optimum.cost) <= optimum.slack * optimum.scale
    assert case.problem.kkt_residual(found.x, found.u, found.p, case.x0).relative < 1e-12


@pytest.mark.parametrize("seed", SEEDS)
def test_the_predicted_cost_is_that_of_the_rollout(seed):
    case = random_case(seed)
    solution = lqrad.riccati(case.problem, case.T)
    for x0 in (case.x0, np.zeros_like(case.x0), -100 * case.x0):
        found = solution.rollout(x0)
        size = np.abs(found.x).max() ** 2 * np.abs(solution.P).max() + np.abs(solution.w).max() + 1
        assert solution.cost(x0) == pytest.approx(found.cost, rel=1e-11, abs=1e-12 * size)


@pytest.mark.parametrize("seed", range(40))
def test_the_value_function_at_any_time_is_the_cost_of_the_rest(seed):
    case = random_case(seed, T=7)
    whole = lqrad.riccati(case.problem, 7)
    for t in (1, 3, 6):
        rest = {
            name: value[t:] if value.ndim == (1 if name in "cqr" else 2) + 1 else value
            for name, value in case.data.items()
        }
        expected = lqrad.riccati(lqrad.LQProblem(**rest), 7 - t)
        for name in ("P", "K", "k", "v", "w"):
            mine, other = getattr(whole, name)[t:], getattr(expected, name)
            assert np.allclose(mine, other, rtol=1e-12, atol=1e-12 * (1 + np.abs(other).max()))


@pytest.mark.parametrize("seed", range(40))
def test_the_value_function_is_the_least_cost(seed):
    """At x0 it is the oracle's optimum, for every x0: P, v and w are right, not their sum alone."""
    case = random_case(seed, T=7, all_terms=True)
    solution = lqrad.riccati(case.problem, 7)
    for scale in (0.0, 1.0, -3.0):
        optimum = stacked(case.problem, 7, scale * case.x0)
        assert abs(solution.cost(scale * case.x0) - optimum.cost) <= optimum.slack * optimum.scale


@pytest.mark.parametrize("seed", range(40))
def test_costates_are_the_gradient_of_the_value_function(seed):
    case = random_case(seed)
    solution = lqrad.riccati(case.problem, case.T)
    found = solution.rollout(case.x0)
    expected = [solution.P[t + 1] @ found.x[t + 1] + solution.v[t + 1] for t in range(case.T)]
    assert np.allclose(found.p, expected, rtol=1e-13, atol=1e-13 * np.abs(expected).max())
    # and they are what the problem's own backward pass finds
    adjoint = case.problem.adjoint(found.x, found.u)
    assert np.allclose(found.p, adjoint, rtol=1e-9, atol=1e-10 * (1 + np.abs(adjoint).max()))


@pytest.mark.parametrize("T", [100, 1000])
@pytest.mark.parametrize("radius", [1.5, 2.0])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(("n", "m"), [(2, 1), (4, 2), (12, 3)])
def test_unstable_systems_to_the_last_digits(n, m, linear, radius, T):
    problem = controllable(11, n, m, radius, linear=linear)
    x0 = np.linspace(-1, 2, n)
    solution = lqrad.riccati(problem, T)
    found = solution.rollout(x0)
    assert problem.kkt_residual(found.x, found.u, found.p, x0).relative < 2e-12
    assert solution.cost(x0) == pytest.approx(found.cost, rel=1e-10)
    K, _, _ = lqrad.dlqr(problem.A, problem.B, problem.Q, problem.R)
    assert np.abs(solution.K[: T // 2] - K).max() < 1e-12 * np.abs(K).max()


def test_a_rollout_does_not_simulate_in_open_loop():
    """From the same inputs, each right to 1e-16, an open loop at radius 2 is off by 1e+40."""
    problem = controllable(5, 3, 1, 2.0)
    x0 = np.ones(3)
    found = lqrad.riccati(problem, 200).rollout(x0)
    assert np.abs(found.x[100:]).max() < 1e-6
    assert np.abs(problem.simulate(x0, found.u)[100:]).max() > 1e6


def test_no_backward_or_forward_pass_of_the_problem_is_used(monkeypatch):
    def never(self, *args, **kwargs):
        raise AssertionError("each must be able to prove the other wrong")

    for name in (
        "simulate",
        "adjoint",
        "input_gradient",
        "value_and_gradient",
        "hessian_product",
        "objective",
        "kkt_residual",
        "lagrangian",
    ):
        monkeypatch.setattr(lqrad.LQProblem, name, never)
    case = random_case(1, all_terms=True)
    assert np.isfinite(lqrad.riccati(case.problem, case.T).rollout(case.x0).cost)


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("seed", range(8))
def test_a_batch_is_its_series(seed, batch):
    case = random_case(seed)
    solution = lqrad.riccati(case.problem, case.T)
    x0 = np.random.default_rng(seed).normal(size=(*batch, case.problem.n))
    found = solution.rollout(x0)
    assert found.x.shape == (*batch, case.T + 1, case.problem.n)
    assert found.u.shape == (*batch, case.T, case.problem.m)
    assert found.p.shape == (*batch, case.T, case.problem.n)
    assert np.shape(found.cost) == np.shape(solution.cost(x0)) == batch
    for i in np.ndindex(*batch):
        single = solution.rollout(x0[i])
        for name in ("x", "u", "p", "cost"):
            mine, other = getattr(found, name)[i], getattr(single, name)
            assert np.allclose(mine, other, rtol=1e-12, atol=1e-12 * (1 + np.abs(other).max()))
        assert solution.cost(x0)[i] == pytest.approx(solution.cost(x0[i]), rel=1e-13)


@pytest.mark.parametrize("name", LINEAR)
def test_each_linear_term_alone(name):
    case = random_case(3, n=3, m=2, T=20, all_terms=True)
    weights = {key: case.data[key] for key in "ABQRSM"}
    plain = lqrad.LQProblem(**weights)
    problem = lqrad.LQProblem(**weights, **{name: case.data[name]})
    solution = lqrad.riccati(problem, 20)
    found, optimum = solution.rollout(case.x0), stacked(problem, 20, case.x0)
    assert np.abs(found.u - optimum.u).max() <= optimum.slack
    assert (solution.K == lqrad.riccati(plain, 20).K).all()
    assert solution.k.any()
    assert solution.v.any()


def test_without_linear_terms_their_parts_are_zero():
    solution = lqrad.riccati(controllable(2, 3, 2, 0.9), 10)
    assert not any(part.any() for part in (solution.k, solution.v, solution.w))
    assert solution.rollout(np.zeros(3)).cost == 0.0


def test_linear_terms_beyond_the_stages_that_were_swept():
    """An affine problem settles as well; its v and w do not, and go over the whole horizon."""
    problem = controllable(8, 3, 2, 1.2, linear=True)
    solution = lqrad.riccati(problem, 600)
    assert solution.swept < 300
    x0 = np.ones(3)
    found = solution.rollout(x0)
    assert problem.kkt_residual(found.x, found.u, found.p, x0).relative < 1e-12
    assert solution.cost(x0) == pytest.approx(found.cost, rel=1e-11)
    varying = lqrad.LQProblem(
        np.broadcast_to(problem.A, (600, 3, 3)),
        problem.B,
        problem.Q,
        problem.R,
        problem.S,
        **{name: getattr(problem, name) for name in LINEAR},
    )
    full = lqrad.riccati(varying)
    assert full.swept == 600
    for name in ("P", "K", "k", "v", "w"):
        mine, other = getattr(solution, name), getattr(full, name)
        assert np.allclose(mine, other, rtol=1e-12, atol=1e-12 * np.abs(other).max())


def test_singular_R_and_more_inputs_than_states():
    problem = lqrad.LQProblem(
        A=[[1.2, 1.0], [0.0, 0.9]], B=np.eye(2), Q=np.eye(2), R=np.zeros((2, 2))
    )
    found = lqrad.riccati(problem, 5).rollout([1.0, 2.0])
    assert np.abs(found.x[1:]).max() < 1e-15  # dead-beat: the inputs cost nothing
    wide = lqrad.LQProblem([[2.0]], [[1.0, 1.0, 1.0]], [[1.0]], np.eye(3))
    u = lqrad.riccati(wide, 9).rollout([1.0]).u
    assert np.allclose(u, u[:, :1])


def test_what_a_solution_shows_of_itself():
    problem = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    solution = lqrad.riccati(problem, 3)
    assert repr(solution) == "Riccati(n=1, m=1, T=3, 3 stages swept)"
    assert solution.T == 3
    for name in ("P", "K", "k", "v", "w"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(solution, name)[...] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        solution.P = None


# --- what riccati refuses --------------------------------------------------------------------


def test_horizon_of_riccati():
    problem = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(ArgumentError, match="T is not given and nothing varies"):
        lqrad.riccati(problem)
    with pytest.raises(ArgumentError, match="T is 0, expected a whole number of at least 1"):
        lqrad.riccati(problem, 0)
    varying = lqrad.LQProblem(np.ones((4, 1, 1)), [[1.0]], [[1.0]], [[1.0]])
    assert lqrad.riccati(varying).T == 4
    with pytest.raises(ArgumentError, match="T is 5, but the problem varies over 4 stages"):
        lqrad.riccati(varying, 5)


def test_not_convex_names_the_stage():
    problem = lqrad.LQProblem([[1.0]], [[0.0]], [[1.0]], [[0.0]])
    message = r"^R \+ B'P\[4\]B is not positive definite at stage t=3, .* u\[3\] has no unique min"
    with pytest.raises(NotConvexError, match=message):
        lqrad.riccati(problem, 4)
    R = np.ones((6, 1, 1))
    R[2] = 0.0
    problem = lqrad.LQProblem([[1.0]], [[0.0]], [[1.0]], R)
    with pytest.raises(NotConvexError, match="at stage t=2"):
        lqrad.riccati(problem)
    # R is singular and so is S, and the input moves what S does not weigh
    problem = lqrad.LQProblem(np.eye(2), [[0.0], [1.0]], np.eye(2), [[0.0]], np.diag([1.0, 0.0]))
    with pytest.raises(NotConvexError, match="at stage t=8"):
        lqrad.riccati(problem, 9)


def test_overflow_names_the_stage():
    problem = lqrad.LQProblem([[10.0]], [[0.0]], [[1.0]], [[1.0]])
    with pytest.raises(NonFiniteError, match=r"overflowed at stage t=\d+: .* shorter horizon"):
        lqrad.riccati(problem, 1000)


def test_a_rollout_that_overflows():
    """Nothing is weighed, so that P = 0 and the unstable loop is left as it is."""
    zero = [[0.0]]
    solution = lqrad.riccati(lqrad.LQProblem([[10.0]], zero, zero, [[1.0]]), 400)
    with pytest.raises(NonFiniteError, match=r"^x\[309, 0\] is inf"):
        solution.rollout([1.0])
    solution = lqrad.riccati(lqrad.LQProblem([[10.0]], zero, zero, [[1.0]], s=[1.0]), 300)
    assert solution.cost([1.0]) == pytest.approx(1e300)
    with pytest.raises(NonFiniteError, match=r"^v\[\d+, 0\] is inf: it overflowed"):
        lqrad.riccati(lqrad.LQProblem([[10.0]], zero, zero, [[1.0]], s=[1.0]), 400)


@pytest.mark.parametrize("method", ["rollout", "cost"])
@pytest.mark.parametrize(
    ("x0", "error", "message"),
    [
        ([1.0, 2.0], ShapeError, r"x0 has shape \(2,\), expected \(\.\.\., n\) with n = 1"),
        (1.0, ShapeError, r"x0 has shape \(\), expected .*write it as \[value\]"),
        ([np.nan], NonFiniteError, r"x0\[0\] is nan"),
        ([1j], DtypeError, "x0 holds complex numbers"),
        (["a"], DtypeError, "x0 holds text"),
    ],
)
def test_bad_initial_states(method, x0, error, message):
    solution = lqrad.riccati(lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]]), 3)
    with pytest.raises(error, match=message):
        getattr(solution, method)(x0)


# --- the algebraic equation ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_dare_is_the_limit_of_riccati(seed):
    problem = random_case(seed, time_varying=False, all_terms=False, singular_Q=False).problem
    A, B, Q, R = problem.A, problem.B, problem.Q, problem.R
    K, P, E = lqrad.dlqr(A, B, Q, R)
    assert (P.T == P).all()
    residual, closed = equation(A, B, Q, R, P)
    assert np.abs(residual).max() <= 1e-13 * np.abs(A.T @ P @ A).max() + 1e-14 * np.abs(P).max()
    assert np.abs(E).max() == pytest.approx(radius_of(closed), abs=1e-7)
    assert np.abs(E).max() < 1
    solution = lqrad.riccati(problem, 3000)
    assert np.abs(solution.K[0] - K).max() <= 1e-12 * np.abs(K).max() + 1e-15
    assert np.abs(solution.P[0] - P).max() <= 1e-12 * np.abs(P).max()


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_dlqr_is_that_of_python_control(seed, cross):
    problem = random_case(seed, time_varying=False, all_terms=True, singular_Q=False).problem
    R = problem.R if cross else problem.R + 0.1 * np.eye(problem.m)
    data = problem.A, problem.B, problem.Q, R
    K, P, E = lqrad.dlqr(*data, M=problem.M if cross else None)
    their_K, their_P, their_E = control.dlqr(*data, *[problem.M] * cross)
    assert np.allclose(K, their_K, rtol=1e-9, atol=1e-9)
    assert np.allclose(P, their_P, rtol=1e-9, atol=1e-9)
    assert np.allclose(np.sort(np.abs(E)), np.sort(np.abs(their_E)), atol=1e-6)
    assert (np.diff(np.abs(E)) <= 0).all()


def test_published_gain():
    """The double integrator of the documentation of ControlSystems.jl (lqr, discrete time)."""
    K, _, _ = lqrad.dlqr([[1, 0.1], [0, 1]], [[0], [1]], np.eye(2), np.eye(1))
    assert np.allclose(K, [[0.5890881713787511, 0.7118839434795103]], rtol=1e-14, atol=0)


def test_known_solutions():
    golden = (1 + np.sqrt(5)) / 2
    assert lqrad.dare([[1]], [[1]], [[1]], [[1]])[0, 0] == pytest.approx(golden, rel=4 * EPS)
    assert lqrad.dare([[2]], [[1]], [[0]], [[1]])[0, 0] == pytest.approx(3, rel=4 * EPS)
    assert lqrad.dare([[0.5]], [[0]], [[3]], [[1]])[0, 0] == pytest.approx(4, rel=4 * EPS)
    # p = q + a^2 p r / (r + p) with r = 0
    assert lqrad.dare([[2]], [[1]], [[5]], [[0]])[0, 0] == pytest.approx(5, rel=4 * EPS)


@pytest.mark.parametrize("r", [1e4, 1.0, 1e-4, 1e-8, 1e-12, 0.0])
@pytest.mark.parametrize("radius", [0.5, 1.5, 3.0])
def test_cheap_control_loses_no_digits(r, radius):
    rng = np.random.default_rng(1)
    A, B = with_spectral_radius(rng.normal(size=(4, 4)), radius), rng.normal(size=(4, 2))
    Q, R = psd(rng, 4), r * np.diag([1.0, 1e-3])
    P = lqrad.dare(A, B, Q, R)
    residual, closed = equation(A, B, Q, R, P)
    assert np.abs(residual).max() < 50 * EPS * np.abs(A.T @ P @ A).max()
    assert radius_of(closed) < 1


def test_unstable_modes_that_the_weights_do_not_see_are_made_stable():
    """P = 0 solves the equation on that mode, and is not the answer."""
    rng = np.random.default_rng(2)
    U = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    modes = np.diag([2.0, 1.3, 0.4, 0.1])
    for Q in (np.zeros((4, 4)), np.diag([0.0, 0.0, 1.0, 1.0])):
        A, B, Q = U @ modes @ U.T, U @ np.ones((4, 1)), U @ Q @ U.T
        _, P, E = lqrad.dlqr(A, B, (Q + Q.T) / 2, np.eye(1))
        assert np.abs(E).max() < 1
        # unseen modes are mirrored in the unit circle
        assert np.abs(E - 0.5).min() < 1e-9
        assert np.abs(E - 1 / 1.3).min() < 1e-9
        residual, _ = equation(A, B, (Q + Q.T) / 2, np.eye(1), P)
        assert np.abs(residual).max() < 1e-12 * np.abs(P).max()


def test_weights_of_mixed_units():
    """States in units that differ by powers of two give the same digits."""
    rng = np.random.default_rng(3)
    A, B = with_spectral_radius(rng.normal(size=(4, 4)), 1.4), rng.normal(size=(4, 2))
    Q, R = psd(rng, 4), np.eye(2)
    D = np.diag(2.0 ** np.array([0, 20, -10, 5]))
    inverse = np.linalg.inv(D)
    K, _, _ = lqrad.dlqr(A, B, Q, R)
    scaled, _, _ = lqrad.dlqr(D @ A @ inverse, D @ B, inverse @ Q @ inverse, R)
    assert np.abs(scaled @ D - K).max() < 1e-13 * np.abs(K).max()


def test_symmetric_also_where_newton_comes_from_far():
    """R + B'QB is almost singular here, so that doubling from Q starts Newton's method at 1e8."""
    A = np.array([[-2, 2, 0, -1], [-2, 2, 2, 2], [-2, 0, 0, -2], [2, 0, 2, 2]])
    B = np.array([[1, -1, -1], [-1, 1, 1], [1, 0, -1], [1, -1, 0]])
    Q = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 2]])
    R = np.outer([1, -1, 1], [1, -1, 1])
    P = lqrad.dare(A, B, Q, R)
    assert (P.T == P).all()
    residual, closed = equation(A, B, Q, R, P)
    assert np.abs(residual).max() < 1e-12
    assert radius_of(closed) < 1


def test_a_solution_whose_input_weight_vanishes_is_refused():
    """P[0, 0] goes to zero like 2^-k, and R + B'PB with it: at any finite k it looks like one."""
    A = np.array([[-1, 1, 0], [0, -1, 0], [0, 0, 0]])
    B = np.array([[-1, -1, 0], [1, -1, 1], [-1, 1, -1]])
    Q, R = np.zeros((3, 3)), np.zeros((3, 3))
    Q[1:, 1:] = R[::2, ::2] = [[1, -1], [-1, 1]]
    with pytest.raises(LqradError):
        lqrad.dare(A, B, Q, R)


def test_a_mode_next_to_the_unit_circle():
    for margin in (1e-6, 1e-9, 1e-12):
        A, B = np.diag([1 - margin, 1.5]), np.array([[0.0], [1.0]])
        P = lqrad.dare(A, B, np.eye(2), np.eye(1))
        assert P[0, 0] == pytest.approx(1 / (1 - (1 - margin) ** 2), rel=1e-3)


# --- SciPy's own tests, with this solver in the place of theirs --------------------------------


def load_scipy_tests():
    """SciPy's tests of its solvers, or None where it was installed without them.

    They import decorators from SciPy's conftest, which would also set up pytest and hypothesis in
    its own way for this whole run; a stand-in hands their functions through unchanged.
    """
    conftest = types.ModuleType("scipy.conftest")
    conftest.__getattr__ = lambda name: lambda function: function
    with mock.patch.dict(sys.modules, {"scipy.conftest": conftest}):
        try:
            return importlib.import_module("scipy.linalg.tests.test_solvers")
        except ImportError:
            return None


SCIPY_TESTS = load_scipy_tests()
needs_scipy_tests = pytest.mark.skipif(SCIPY_TESTS is None, reason="SciPy without its tests")
SCIPY_CASES = SCIPY_TESTS.TestSolveDiscreteAre.cases if SCIPY_TESTS else []


def real_form(matrix):
    """A complex matrix as a real one of twice the size."""
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def dare_as_scipy(a, b, q, r, e=None, s=None, balanced=True):
    """The signature of SciPy's solver: complex matrices, and E x+ = A x + B u."""
    matrices = [np.atleast_2d(z) for z in (a, b, q, r)]
    matrices.append(np.zeros(matrices[1].shape) if s is None else np.asarray(s))
    for i in (2, 3):  # one of their weights is symmetric to 12 eps only
        matrices[i] = (matrices[i] + matrices[i].conj().T) / 2
    n = len(matrices[0])
    if any(np.iscomplexobj(z) for z in matrices):
        *data, M = (real_form(z + 0j) for z in matrices)
        P = lqrad.dare(*data, M=M)
        assert radius_of(equation(*data, P)[1]) < 1
        return P[:n, :n] + 1j * P[n:, :n]
    A, B, Q, R, M = (np.asarray(z, dtype=float) for z in matrices)
    if e is None:
        P = lqrad.dare(A, B, Q, R, M=M)
        assert radius_of(equation(A, B, Q, R, P, M)[1]) < 1
        return P
    # With y = E x: y+ = A E^-1 y + B u, and the weights are those of x = E^-1 y.
    E = np.linalg.inv(e)
    Q = E.T @ Q @ E
    return lqrad.dare(A @ E, B, (Q + Q.T) / 2, R, M=E.T @ M)


@needs_scipy_tests
@pytest.mark.parametrize("j", range(len(SCIPY_CASES)))
def test_every_equation_of_scipys_collection(j, monkeypatch):
    """Their test at their tolerance; the closed loop is stable; the residual is no worse."""
    a, b, q, r, known_failure = SCIPY_CASES[j]
    assert not known_failure
    original = SCIPY_TESTS.solve_discrete_are
    monkeypatch.setattr(SCIPY_TESTS, "solve_discrete_are", dare_as_scipy)
    SCIPY_TESTS.TestSolveDiscreteAre().test_solve_discrete_are(j, SCIPY_CASES[j])

    def error(x):
        xa, xb = x @ a, x @ b
        gain = np.linalg.solve(r + b.conj().T @ xb, b.conj().T @ xa)
        return np.abs(a.conj().T @ xa - x + q - a.conj().T @ xb @ gain).max()

    P = dare_as_scipy(a, b, q, r)
    rounding = 20 * EPS * (np.abs(a.conj().T @ P @ a).max() + np.abs(P).max())
    assert error(P) <= error(original(a, b, q, r)) + rounding


@needs_scipy_tests
def test_scipys_generalised_equations(monkeypatch):
    monkeypatch.setattr(SCIPY_TESTS, "solve_discrete_are", dare_as_scipy)
    SCIPY_TESTS.test_solve_generalized_discrete_are()


def test_scipy_is_asked_only_where_doubling_falls_short(monkeypatch):
    asked = []
    original = solver.solve_discrete_are
    monkeypatch.setattr(
        solver,
        "solve_discrete_are",
        lambda *args, **kw: asked.append(args) or original(*args, **kw),
    )
    args = ([[1.0, 0.1], [0.0, 1.0]], [[0.0], [1.0]], np.eye(2), np.eye(1))
    with lqrad.native.switched_off():
        expected = lqrad.dare(*args)
    assert not asked
    monkeypatch.setattr(solver, "double", lambda A, G, H: np.full_like(H, np.nan))
    with lqrad.native.switched_off():
        assert np.allclose(lqrad.dare(*args), expected, rtol=1e-13, atol=0)
    assert len(asked) == 1


def test_newton_repairs_a_poor_start(monkeypatch):
    original = solver.double
    monkeypatch.setattr(solver, "double", lambda A, G, H: original(A, G, H) * (1 + 1e-3))
    monkeypatch.delattr(solver, "solve_discrete_are")
    problem = controllable(4, 4, 2, 1.5)
    with lqrad.native.switched_off():
        P = lqrad.dare(problem.A, problem.B, problem.Q, problem.R)
    residual, _ = equation(problem.A, problem.B, problem.Q, problem.R, P)
    assert np.abs(residual).max() < 1e-13 * np.abs(P).max()


# --- what dare refuses -----------------------------------------------------------------------

ROTATE = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0]


def test_a_mode_that_no_input_moves_is_named():
    message = (
        r"^B cannot move the mode with the eigenvalue 1\.2 of A, of magnitude 1\.2, .* "
        r"left eigenvector, with 1 in x\[0\]; add an input that reaches it"
    )
    for solve in (lqrad.dare, lqrad.dlqr):
        with pytest.raises(NotStabilizableError, match=message):
            solve(np.diag([1.2, 0.5]), [[0], [1]], np.eye(2), [[1]])
    # in rotated coordinates the direction is the left eigenvector
    A, B = ROTATE @ np.diag([1.2, 0.5, 2.0]) @ ROTATE.T, ROTATE @ [[0.0], [1.0], [1.0]]
    with pytest.raises(NotStabilizableError, match=r"the eigenvalue 1\.2 of A") as caught:
        lqrad.dare(A, B, np.eye(3), [[1]])
    w = ROTATE[:, 0] / ROTATE[np.abs(ROTATE[:, 0]).argmax(), 0]
    large = [i for i in range(3) if abs(w[i]) > 0.01]
    assert len(large) > 1
    for i in large:
        assert f"{w[i].round(3):.6g} in x[{i}]" in str(caught.value)


def test_a_complex_mode_that_no_input_moves_is_named():
    A = np.zeros((3, 3))
    A[:2, :2] = [[0.8, -0.9], [0.9, 0.8]]
    message = r"the eigenvalue 0\.8[+-]0\.9j of A, of magnitude 1\.20416"
    with pytest.raises(NotStabilizableError, match=message):
        lqrad.dare(A, [[0], [0], [1]], np.eye(3), [[1]])


def test_a_mode_on_the_unit_circle_that_no_input_moves():
    with pytest.raises(NotStabilizableError, match=r"B cannot move .* eigenvalue 1 of A"):
        lqrad.dare([[1]], [[0]], [[1]], [[1]])


@pytest.mark.parametrize(
    ("A", "B", "Q", "mode"),
    [
        ([[1]], [[1]], [[0]], "1"),
        ([[-1]], [[1]], [[0]], "-1"),
        ([[1, 1], [0, 1]], [[0], [1]], np.diag([0, 1]), "1"),
        ([[1, 0.1], [0, 1]], [[0], [1]], np.zeros((2, 2)), "1"),
        ([[0.6, -0.8], [0.8, 0.6]], [[0], [1]], np.zeros((2, 2)), r"0\.6[+-]0\.8j"),
        (
            ROTATE @ np.diag([1.0, 0.5, 2.0]) @ ROTATE.T,
            ROTATE @ np.ones((3, 1)),
            np.outer(ROTATE[:, 1], ROTATE[:, 1]),
            "1",
        ),
        # In these rounding errors end Newton's method at a loop with a radius of 1 - 1e-8.
        ([[-2, -1], [-1, -2]], [[-1, 1], [-1, -1]], np.zeros((2, 2)), "-1"),
        ([[-1, 1], [2, 0]], [[1, 1], [1, -1]], np.zeros((2, 2)), "1"),
        ([[1, 0], [0, 1]], [[1, -1], [-1, -1]], np.ones((2, 2)), "1"),
    ],
)
def test_a_mode_on_the_unit_circle_that_the_weights_do_not_see_is_named(A, B, Q, mode):
    message = f"weights do not see the mode with the eigenvalue {mode} on the unit circle.* in Q$"
    with pytest.raises(NotStabilizableError, match=message):
        lqrad.dare(A, B, Q, np.eye(np.shape(B)[1]))


def test_indefinite_weights_without_a_minimum():
    A, B = [[1, 0.1], [0, 1]], [[0], [1]]
    with pytest.raises(NotConvexError, match="Q has the eigenvalue -1, expected a positive semi"):
        lqrad.dare(A, B, -np.eye(2), [[1]])
    with pytest.raises(NotConvexError, match="R has the eigenvalue -10, expected a positive semi"):
        lqrad.dare(A, B, np.eye(2), [[-10]])
    with pytest.raises(NotConvexError, match=r"\[Q M; M' R\] has the eigenvalue -1"):
        lqrad.dare([[2]], [[1]], [[1]], [[1]], M=[[2]])


def test_indefinite_weights_with_a_minimum():
    """Q = -0.1 costs less than R = 1 and a = 2 bring in: the cost is convex in the inputs."""
    _, P, E = lqrad.dlqr([[2]], [[1]], [[-0.1]], [[1]])
    residual, _ = equation(np.eye(1) * 2, np.eye(1), np.eye(1) * -0.1, np.eye(1), P)
    assert abs(residual[0, 0]) < 10 * EPS
    assert abs(E[0]) < 1
    assert 1 + P[0, 0] > 0


def test_inputs_that_nothing_holds():
    message = (
        r"direction of the input with 1 in u\[1\], -0\.5 in u\[0\] costs nothing in R and does"
    )
    with pytest.raises(NotConvexError, match=message):
        lqrad.dare([[0.5]], [[2, 1]], [[1]], np.zeros((2, 2)))
    with pytest.raises(NotConvexError, match=r"R has the eigenvalue 0 .* make R positive definite"):
        lqrad.dare(np.eye(2) / 2, [[0], [1]], np.diag([1, 0]), [[0]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"A": np.ones((2, 3))}, ShapeError, r"A has shape \(2, 3\), expected \(n, n\)"),
        ({"A": np.ones((5, 2, 2))}, ShapeError, r"A has shape \(5, 2, 2\), .* use riccati"),
        ({"B": [[0, 1]]}, ShapeError, r"B has shape \(1, 2\), .* did you pass B\.T\?"),
        ({"B": [0, 1]}, ShapeError, r"B has shape \(2,\), .* did you mean B\[:, None\]\?"),
        ({"Q": np.eye(3)}, ShapeError, r"Q has shape \(3, 3\), expected \(n, n\)"),
        ({"R": np.eye(2)}, ShapeError, r"R has shape \(2, 2\), expected \(m, m\)"),
        ({"R": 1.0}, ShapeError, r"R has shape \(\), .* write it as \[\[value\]\]"),
        ({"M": [[1, 1]]}, ShapeError, r"M has shape \(1, 2\), .* did you pass M\.T\?"),
        ({"Q": [[1, 1], [0, 1]]}, NotConvexError, r"Q is not symmetric: entries \(0, 1\)"),
        ({"R": [[np.nan]]}, NonFiniteError, r"R\[0, 0\] is nan"),
        ({"A": [[1, np.inf], [0, 1]]}, NonFiniteError, r"A\[0, 1\] is inf"),
        ({"A": [[1j, 0], [0, 1]]}, DtypeError, "A holds complex numbers"),
        ({"B": [["a"], ["b"]]}, DtypeError, "B holds text"),
        ({"Q": None}, DtypeError, "Q is None"),
        ({"A": np.zeros((0, 0))}, ShapeError, "A has shape .* not empty"),
    ],
)
@pytest.mark.parametrize("solve", [lqrad.dare, lqrad.dlqr], ids=["dare", "dlqr"])
def test_bad_arguments(solve, change, error, message):
    good = {"A": [[1, 0.1], [0, 1]], "B": [[0], [1]], "Q": np.eye(2), "R": [[1]]}
    with pytest.raises(error, match=message) as caught:
        solve(**good | change)
    assert isinstance(caught.value, LqradError)


@pytest.mark.parametrize("function", [lqrad.dlqr, lqrad.dare, lqrad.dlqr_vjp])
def test_a_fifth_argument_is_refused_where_it_might_be_either_weight(function):
    """It would be S of LQProblem and M of these, of one shape where n = m."""
    with pytest.raises(ArgumentError, match=r"too many positional arguments; write .*R, M=M"):
        function(np.eye(2), np.eye(2), np.eye(2), np.eye(2), 0.3 * np.eye(2))


def test_a_plant_and_matrices_are_told_apart():
    plant, one = lqrad.StateSpace([[0.5]], [[1.0]], dt=0.1), [[1.0]]
    with pytest.raises(
        ArgumentError, match=r"lqr: too many .*; write lqr\(plant, Q, R\) .* dlqr\("
    ):
        lqrad.lqr([[0.5]], one, one, one)
    with pytest.raises(ArgumentError, match=r"lqr: multiple values for argument 'Q'; write lqr\("):
        lqrad.lqr([[0.5]], one, Q=one, R=one)
    with pytest.raises(ArgumentError, match=r"dlqr: missing a required argument: 'R'; write .*lqr"):
        lqrad.dlqr(plant, one, one)


def test_a_cost_that_overflows_is_an_error():
    problem = lqrad.LQProblem([[1, 0.1], [0, 1]], [[0], [0.1]], np.eye(2), [[1]])
    solution = lqrad.riccati(problem, 5)
    assert solution.cost([1e150, 0]) < np.inf
    for x0 in ([1e200, 0], [1e300, -2e300], [[1.0, 0.0], [1e200, 0]]):
        with pytest.raises(NonFiniteError, match=r"the cost.* overflowed"):
            solution.cost(x0)
        with pytest.raises(NonFiniteError):
            solution.rollout(x0)


# --- long horizons -----------------------------------------------------------------------------


@pytest.mark.parametrize("linear", [False, True])
def test_stages_that_have_settled_are_held_once(linear):
    problem = controllable(3, 4, 2, 1.1, linear=linear)
    solution, few = lqrad.riccati(problem, 1000), lqrad.riccati(problem, 990)
    assert solution.swept == few.swept < 500
    for name in ("P", "K", "k", "v"):
        long, short = getattr(solution, name), np.asarray(getattr(few, name))
        assert np.allclose(long[10:], short, rtol=1e-12, atol=1e-12 * np.abs(short).max())
    assert len(solution.P.distinct) == solution.swept + 1
    assert np.array_equal(solution.P[5], solution.P[1000 - solution.swept])
    assert np.array(solution.to_dict()["P"]).shape == solution.P.shape == (1001, 4, 4)


def test_a_million_stages_fit_in_memory():
    problem = controllable(1, 12, 4, 1.05)
    tracemalloc.start()
    try:
        solution = lqrad.riccati(problem, 1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6  # 1.15 GB for all P
    assert solution.K.shape == (1_000_000, 4, 12)
    assert np.allclose(
        solution.K[0], lqrad.dlqr(problem.A, problem.B, problem.Q, problem.R)[0], rtol=1e-9
    )


def test_a_value_that_overflows_in_its_factors_is_told_in_words_alone():
    """P is sought in factors at the end, and what these multiply to overflows: an error, no warning."""
    problem = lqrad.LQProblem(
        [[5e159]], np.ones((1, 5)), [[1e-100]], 1e-100 * np.eye(5), S=[[1e-100]]
    )
    with pytest.raises(lqrad.NonFiniteError, match="recursion overflowed at stage t=19"):
        lqrad.riccati(problem, 20)
