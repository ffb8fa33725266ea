"""Sampling against integration in small steps, other packages and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.signal
from random_problems import psd
from scipy.integrate import solve_ivp

import lqrad
from lqrad import ArgumentError, NonFiniteError, NotConvexError, ShapeError


def random_model(seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    W = psd(rng, n + m) + 0.1 * np.eye(n + m)
    A = rng.normal(size=(n, n)) * rng.uniform(0.2, 3)
    return rng, {
        "A": A,
        "B": rng.normal(size=(n, m)),
        "Q": W[:n, :n],
        "R": W[n:, n:],
        "M": W[:n, n:],
    }


def integrated(model, dt, delay, x0, u, past):
    """The final state and the cost, by an integrator that stops at every jump of the input."""
    A, B, Q, R, M = (model[name] for name in "ABQRM")
    n, T = len(A), len(u)
    arrivals = np.arange(-len(past), T) * dt + delay
    edges = np.unique(np.round(np.concatenate([[0.0, T * dt], arrivals]), 12))
    edges = edges[(edges >= 0) & (edges <= T * dt + 1e-12)]
    z = np.append(x0, 0.0)
    for start, stop in itertools.pairwise(edges):
        k = int(np.floor(((start + stop) / 2 - delay) / dt))
        v = u[k] if k >= 0 else past[-k - 1]  # the newest of the past comes first

        def slope(_, z, v=v):
            x = z[:n]
            return np.append(A @ x + B @ v, 0.5 * (x @ Q @ x + 2 * x @ M @ v + v @ R @ v))

        z = solve_ivp(slope, (start, stop), z, rtol=1e-12, atol=1e-13, method="DOP853").y[:, -1]
    return z[:n], z[n]


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.17, 0.2, 0.25])
@pytest.mark.parametrize("seed", range(5))
def test_states_and_cost_are_those_of_the_continuous_system(seed, delay):
    rng, model = random_model(seed)
    dt, T = 0.1, 6
    sampled = lqrad.discretise(**model, dt=dt, input_delay=delay)
    n, m = model["B"].shape
    assert sampled.delayed == int(np.ceil(delay / dt - 1e-9))
    x0, u, past = rng.normal(size=n), rng.normal(size=(T, m)), rng.normal(size=(sampled.delayed, m))
    problem = sampled.problem(S=np.zeros_like(sampled.Q))
    x = problem.simulate(np.concatenate([x0, past.ravel()]), u)
    end, cost = integrated(model, dt, delay, x0, u, past)
    np.testing.assert_allclose(x[-1, :n], end, rtol=1e-9, atol=1e-9)
    assert float(problem.cost(x, u)) == pytest.approx(cost, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_dynamics_are_those_of_other_packages(seed):
    control = pytest.importorskip("control")
    _, model = random_model(seed)
    A, B = model["A"], model["B"]
    sampled = lqrad.discretise(A, B, dt=0.3)
    C, D = np.eye(len(A)), np.zeros_like(B)
    other = scipy.signal.cont2discrete((A, B, C, D), 0.3)
    theirs = control.ss(A, B, C, D).sample(0.3)
    for a, b in (other[:2], (theirs.A, theirs.B)):
        np.testing.assert_allclose(sampled.A, a, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(sampled.B, b, rtol=1e-11, atol=1e-11)


def test_a_double_integrator_in_closed_form():
    dt, q, r = 0.3, 2.0, 0.7
    sampled = lqrad.discretise([[0, 1], [0, 0]], [[0], [1]], [[q, 0], [0, 0]], [[r]], dt=dt)
    # x(s) = y + v s + u s^2 / 2; the integral of q x(s)^2 + r u^2 by powers of dt
    Q = q * np.array([[dt, dt**2 / 2], [dt**2 / 2, dt**3 / 3]])
    M = q * np.array([[dt**3 / 6], [dt**4 / 8]])
    R = q * dt**5 / 20 + r * dt
    np.testing.assert_allclose(sampled.Q, Q, rtol=1e-14)
    np.testing.assert_allclose(sampled.M, M, rtol=1e-14)
    np.testing.assert_allclose(sampled.R, [[R]], rtol=1e-14)


@pytest.mark.parametrize("rate", [-1e6, -50.0, 3.0])
def test_one_mode_in_closed_form_over_many_time_constants(rate):
    """One exponential over dt would compute exp(1e7) on the way to a fast mode's cost."""
    dt = 10.0 if rate < 0 else 5.0
    sampled = lqrad.discretise([[rate]], [[1.0]], [[1.0]], [[0.5]], dt=dt)
    e = np.expm1(rate * dt)
    assert sampled.A[0, 0] == pytest.approx(np.exp(rate * dt), rel=1e-11, abs=1e-300)
    assert sampled.B[0, 0] == pytest.approx(e / rate, rel=1e-11)
    assert sampled.Q[0, 0] == pytest.approx(np.expm1(2 * rate * dt) / (2 * rate), rel=1e-11)
    b = (np.expm1(2 * rate * dt) / (2 * rate) - e / rate) / rate
    assert sampled.M[0, 0] == pytest.approx(b, rel=1e-10)


@pytest.mark.parametrize("dt", [1e-9, 1e-3, 1.0, 1e3])
def test_the_sampled_weights_are_semidefinite(dt):
    for seed in range(6):
        _, model = random_model(seed)
        model["A"] = model["A"] - (np.abs(np.linalg.eigvals(model["A"])).max() + 1) * np.eye(
            len(model["A"])
        )
        for delay in (0.0, 0.4 * dt, 1.3 * dt):
            problem = lqrad.discretise(**model, dt=dt, input_delay=delay).problem()
            assert problem.n >= len(model["A"])  # LQProblem refuses an indefinite weight


def test_a_delay_of_whole_steps_is_whole_but_for_rounding():
    for steps in (1, 3, 7):
        sampled = lqrad.discretise([[0.0]], [[1.0]], dt=0.1, input_delay=steps * 0.1)
        assert sampled.delayed == steps


def test_the_delayed_loop_is_stabilised_where_the_design_knows_the_delay():
    """A gain designed without the delay makes the loop with it unstable."""
    A, B, Q, R = [[0.0, 1.0], [1.0, 0.0]], [[0.0], [1.0]], np.eye(2), [[0.001]]
    sampled = lqrad.discretise(A, B, Q, R, dt=0.1, input_delay=0.25)
    _, _, E = lqrad.dlqr(sampled.A, sampled.B, sampled.Q, sampled.R, M=sampled.M)
    assert np.abs(E).max() < 1
    blind = lqrad.discretise(A, B, Q, R, dt=0.1)
    short, _, _ = lqrad.dlqr(blind.A, blind.B, blind.Q, blind.R, M=blind.M)
    padded = np.hstack([short, np.zeros((1, 3))])
    assert np.abs(np.linalg.eigvals(sampled.A - sampled.B @ padded)).max() > 1


def test_outputs_are_of_the_state_without_the_inputs_before():
    sampled = lqrad.discretise([[0.0, 1.0], [0.0, 0.0]], [[0.0], [1.0]], dt=0.1, input_delay=0.15)
    assert repr(sampled) == "<Sampled: n=4, m=1, dt=0.1 s, 2 of the inputs before in the state>"
    np.testing.assert_array_equal(sampled.plant([[1.0, 0.0]]).C, [[1, 0, 0, 0]])
    with pytest.raises(ShapeError, match=r"C has shape \(1, 3\), expected \(ny, n\) with n = 2"):
        sampled.plant([[1.0, 0.0, 0.0]])


def test_refusals():
    with pytest.raises(ArgumentError, match="dt is 0, expected a positive number"):
        lqrad.discretise([[0.0]], [[1.0]], dt=0)
    with pytest.raises(ArgumentError, match="input_delay is -1, expected a number of at least 0"):
        lqrad.discretise([[0.0]], [[1.0]], dt=1, input_delay=-1)
    with pytest.raises(NotConvexError, match="Q has the eigenvalue -1"):
        lqrad.discretise([[0.0]], [[1.0]], [[-1.0]], [[1.0]], dt=1)
    with pytest.raises(ShapeError, match="one of A, B, Q, R and M has a leading axis"):
        lqrad.discretise(np.zeros((2, 1, 1)), [[1.0]], dt=1)
    with pytest.raises(NonFiniteError, match="the sampled system"):
        lqrad.discretise([[1000.0]], [[1.0]], dt=1)


@pytest.mark.parametrize("dt", [0.1, 0.01, 0.001])
def test_weights_that_underflow_are_semidefinite_and_solved(dt):
    """At the end of a chain of sixty masses, whose start is weighed, weights fall below 1e-308."""
    k = 60
    L = 2 * np.eye(k) - np.eye(k, k=1) - np.eye(k, k=-1)
    A = np.block([[np.zeros((k, k)), np.eye(k)], [-L, -0.1 * L]])
    B, C = np.eye(2 * k)[:, [k]], np.eye(2 * k)[[k - 1]]
    sampled = lqrad.discretise(A, B, C.T @ C, [[1.0]], dt=dt)
    assert (sampled.Q.diagonal() == 0).any()
    sampled.problem()  # its weights are accepted
    _, P, E = lqrad.dlqr(sampled.A, sampled.B, sampled.Q, sampled.R, M=sampled.M)
    N = sampled.M.T + sampled.B.T @ P @ sampled.A
    G = sampled.R + sampled.B.T @ P @ sampled.B
    right = sampled.Q + sampled.A.T @ P @ sampled.A - N.T @ np.linalg.solve(G, N)
    np.testing.assert_allclose(P, right, rtol=0, atol=1e-13 * np.abs(P).max())
    assert np.abs(E).max() < 1
