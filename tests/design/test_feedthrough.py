"""Plants whose outputs contain the input, y = C x + D u: estimated, controlled, simulated, costed."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from random_problems import psd, with_spectral_radius

import lqrad
from lqrad import ArgumentError, Controller, NonFiniteError, NotConvexError, Observer, StateSpace
from lqrad.files.saved import load_controller, save_controller


def drawn(seed):
    """A plant with a feedthrough, and the weights and covariances of an LQG problem."""
    rng = np.random.default_rng(seed)
    n, m, ny = (int(k) for k in rng.integers(1, 5, 3))
    A = with_spectral_radius(rng.normal(size=(n, n)), 1.1)
    C, D = rng.normal(size=(ny, n)), 2 * rng.normal(size=(ny, m))
    plant = StateSpace(A, rng.normal(size=(n, m)), C, D, dt=0.1)
    weights = psd(rng, n) + 0.1 * np.eye(n), psd(rng, m) + 0.1 * np.eye(m)
    return plant, weights, (psd(rng, n) + 0.1 * np.eye(n), psd(rng, ny) + 0.1 * np.eye(ny)), rng


def servo(seed):
    """A square plant with a feedthrough, and its controller of integral action on all outputs."""
    plant, (Q, R), (W, V), rng = drawn(seed)
    m = plant.m
    C, D = rng.normal(size=(m, plant.n)), 2 * rng.normal(size=(m, m))
    plant = StateSpace(plant.A, plant.B, C, D, dt=0.1)
    V = psd(rng, m) + 0.1 * np.eye(m)
    return plant, lqrad.lqg(plant, Q, R, W, V, Q_i=0.1 * np.eye(m)), (W, V), rng


@pytest.mark.parametrize("seed", range(6))
def test_an_estimate_converges_to_the_state(seed):
    plant, (Q, R), noises, rng = drawn(seed)
    observer = Observer.kalman(plant, *noises)
    K, _, _ = lqrad.dlqr(plant.A, plant.B, Q, R)
    x, x_hat = rng.normal(size=plant.n), np.zeros(plant.n)
    for _ in range(400):
        u = rng.normal(size=plant.m) - K @ x
        y = plant.C @ x + plant.D @ u
        x_hat = observer.predict(observer.correct(x_hat, y, u), u)
        x = plant.A @ x + plant.B @ u
    np.testing.assert_allclose(x_hat, x, rtol=1e-8, atol=1e-8)
    with pytest.raises(ArgumentError, match="u is not given, and what is measured contains D u"):
        observer.correct(x_hat, y)


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("seed", range(6))
def test_a_run_is_a_loop_over_its_equations(seed, delay):
    """u[t] from the prediction, then y[t] with what is applied in it, then the correction."""
    plant, c, _, rng = servo(seed)
    low, high = -0.7, 0.6
    gains = {"H": c.H, "K_i": c.K_i, "F": c.F, "G": c.G}
    c = Controller(c.observer, c.K, dt=c.dt, input_bounds=(low, high), **gains)
    o, r = c.observer, rng.normal(size=(30, c.nr))
    other = StateSpace(0.9 * plant.A, 1.1 * plant.B, plant.C, 0.8 * plant.D, dt=0.1)
    x = 0.3 * rng.normal(size=plant.n)
    found = lqrad.simulate_closed_loop(other, c, 30, reference=r, x0=x, input_delay=delay)
    x_hat, z, line = np.zeros(plant.n), np.zeros(c.nr), [np.zeros(plant.m)] * delay
    for t in range(30):
        wanted = c.F @ r[t] - c.K @ x_hat - c.K_i @ z
        u = np.clip(wanted, low, high)
        line.append(u)
        applied = line.pop(0)
        y = other.C @ x + other.D @ applied
        growth = c.E @ (y - o.D @ u) + c.G @ u - r[t]
        z = z + np.where(-growth * (c.K_i.T @ (wanted - u)) > 0, 0, growth)
        x_hat = o.A @ (x_hat + o.L @ (y - o.C @ x_hat - o.D @ u)) + o.B @ u
        np.testing.assert_allclose(found.u[t], applied, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.y[t], y, rtol=1e-9, atol=1e-9)
        x = other.A @ x + other.B @ applied
        np.testing.assert_allclose(found.x[t + 1], x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(8))
def test_the_closed_loop_is_what_a_run_without_limits_does(seed):
    """And its poles are those of the regulator and of the filter, each by itself."""
    plant, c, _, rng = servo(seed)
    loop, r = c.closed_loop(plant), rng.normal(size=(25, c.nr))
    run = lqrad.simulate_closed_loop(plant, c, 25, reference=r)
    _, outputs = loop.simulate(None, r)
    np.testing.assert_allclose(outputs[:25, : c.nr], run.y, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(outputs[:25, c.nr :], run.u, rtol=1e-8, atol=1e-8)
    o, n = c.observer, plant.n
    regulated = np.block([[plant.A, np.zeros((n, c.nr))], [plant.C, np.eye(c.nr)]])
    regulated = regulated - np.concatenate([plant.B, plant.D]) @ np.hstack([c.K, c.K_i])
    poles = [*np.linalg.eigvals(regulated), *np.linalg.eigvals(o.A - o.A @ o.L @ o.C)]
    # As polynomials: poles that nearly coincide are known to fewer digits.
    np.testing.assert_allclose(np.poly(loop.poles), np.poly(poles), rtol=1e-8, atol=1e-8)
    own, z = c.statespace(), np.exp(0.3j)

    def response(s, B, D):
        return s.C @ np.linalg.solve(z * np.eye(s.n) - s.A, B) + D

    broken = -response(own, own.B[:, : plant.ny], own.D[:, : plant.ny])
    broken = broken @ response(plant, plant.B, plant.D)
    np.testing.assert_allclose(c.loop(plant).response([3.0])[0], broken, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("seed", range(8))
def test_the_mean_cost_is_that_of_the_textbook_and_the_least(seed):
    """1/2 tr(P W) + 1/2 tr(X K'(R + B'PB)K), with X the covariance of the error of the prediction."""
    plant, (Q, R), (W, V), rng = drawn(seed)
    c = lqrad.lqg(plant, Q, R, W, V)
    cost = lqrad.expected_cost(plant, c, Q, R, W=W, V=V)
    K, P, _ = lqrad.dlqr(plant.A, plant.B, Q, R)
    _, X, _ = lqrad.dlqe(plant.A, plant.C, W, V)
    G = R + plant.B.T @ P @ plant.B
    assert cost == pytest.approx(0.5 * np.trace(P @ W) + 0.5 * np.trace(X @ K.T @ G @ K), rel=1e-9)
    o = c.observer
    for _ in range(5):
        L = o.L + 1e-3 * rng.normal(size=o.L.shape)
        K = c.K + 1e-3 * rng.normal(size=c.K.shape)
        other = Controller(Observer(o.A, o.B, o.C, L, D=o.D), K, dt=0.1)
        assert lqrad.expected_cost(plant, other, Q, R, W=W, V=V) > cost
    runs = lqrad.simulate_closed_loop(
        plant, c, 150, W=W, V=V, runs=1000, rng=seed, Q=Q, R=R, x0=np.zeros(plant.n)
    )
    mean, error = runs.mean_cost()
    exact = lqrad.expected_cost(plant, c, Q, R, W=W, V=V, T=150)
    assert abs(mean - exact) < 5 * error


@pytest.mark.parametrize("seed", range(6))
def test_all_of_the_outputs_follow_their_reference(seed):
    """Whatever disturbs the plant: what is integrated is y, with D u in it."""
    plant, c, _, rng = servo(seed)
    r, disturbance = rng.normal(size=c.nr), rng.normal(size=plant.m)
    x = np.zeros(plant.n)
    for _ in range(3000):
        u = c.input(r)
        y = plant.C @ x + plant.D @ (u + disturbance)
        assert np.array_equal(c.step(y, r), u)
        x = plant.A @ x + plant.B @ (u + disturbance)
    np.testing.assert_allclose(y, r, rtol=1e-6, atol=1e-6)
    Q, R, Q_i = np.eye(plant.n), np.eye(plant.m), 0.1 * np.eye(c.nr)
    c = lqrad.lqi(plant, Q, R, Q_i)
    x = np.zeros(plant.n)
    for _ in range(3000):
        u = c.step(x, r)
        y = plant.C @ x + plant.D @ u
        x = plant.A @ x + plant.B @ u
    np.testing.assert_allclose(y, r, rtol=1e-6, atol=1e-6)
    run = lqrad.simulate_closed_loop(plant, c, 3000, reference=r)
    np.testing.assert_allclose(run.x[-1], x, rtol=1e-6, atol=1e-6)
    x_ref, u_ref = lqrad.steady_state_targets(plant, r)
    np.testing.assert_allclose(plant.C @ x_ref + plant.D @ u_ref, r, atol=1e-9)


@pytest.mark.parametrize("ending", ["json", "npz"])
def test_a_controller_with_a_feedthrough_comes_back_from_its_file(tmp_path, ending):
    _, c, _, rng = servo(0)
    save_controller(tmp_path / f"c.{ending}", c)
    back = load_controller(tmp_path / f"c.{ending}")
    assert np.array_equal(back.observer.D, c.observer.D)
    y, r = rng.normal(size=c.observer.ny), rng.normal(size=c.nr)
    for _ in range(3):
        assert np.array_equal(back.step(y, r), c.step(y, r))


def test_a_controller_that_does_not_know_of_the_feedthrough_is_refused():
    plant = StateSpace([[0.5]], [[1.0]], [[1.0]], [[2.0]], dt=0.1)
    blind = lqrad.lqg(StateSpace([[0.5]], [[1.0]], [[1.0]], dt=0.1), [[1]], [[1]], [[1]], [[1]])
    message = "plant has a feedthrough D"
    with pytest.raises(ArgumentError, match=message):
        lqrad.simulate_closed_loop(plant, blind, 3)
    with pytest.raises(ArgumentError, match=message):
        lqrad.expected_cost(plant, blind, [[1]], [[1]], W=[[1]])
    with pytest.raises(ArgumentError, match="its input follows from what is measured"):
        blind.input()
    delayed = lqrad.simulate_closed_loop(plant, blind, 3, input_delay=1, x0=[1.0])
    np.testing.assert_allclose(delayed.y, delayed.x[:-1] + 2 * delayed.u)


# What is given stays as it is


def test_a_controller_that_is_given_is_left_alone_and_many_threads_share_it():
    plant, (Q, R), (W, V), rng = drawn(1)
    c = lqrad.lqg(plant, Q, R, W, V)
    c.step(np.ones(plant.ny))
    x_hat, z, starts = c.x_hat, c.z, rng.normal(size=(32, plant.n))
    alone = [lqrad.simulate_closed_loop(plant, c, 60, x0=x0).x for x0 in starts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            many = list(
                threads.map(lambda x0: lqrad.simulate_closed_loop(plant, c, 60, x0=x0).x, starts)
            )
    finally:
        sys.setswitchinterval(interval)
    assert np.array_equal(many, alone)
    assert c.x_hat is x_hat
    assert c.z is z


def test_a_step_that_cannot_be_taken_leaves_the_memory():
    c = Controller(Observer([[1.0]], [[1.0]], [[1.0]], [[0.5]]), [[1e300]], dt=0.1)
    c.step([1.0])
    before = c.x_hat
    with pytest.raises(NonFiniteError, match=r"y\[0\] is nan"):
        c.step([np.nan])
    with pytest.raises(NonFiniteError, match="of the controller"):
        c.step([1e300])
    assert c.x_hat is before


def test_covariances_are_read_alike():
    plant, (Q, R), (W, V), _ = drawn(0)
    c = lqrad.lqg(plant, Q, R, W, V)
    skew = W + np.triu(np.ones_like(W), 1) if plant.n > 1 else -W
    for bad_W, bad_V in ((-W, V), (W, -V), (skew, V)):
        said = []
        for run in (
            lambda W, V: lqrad.expected_cost(plant, c, Q, R, W=W, V=V),
            lambda W, V: lqrad.simulate_closed_loop(plant, c, 3, W=W, V=V, rng=0),
        ):
            with pytest.raises(NotConvexError) as error:
                run(bad_W, bad_V)
            said.append(str(error.value))
        assert said[0] == said[1]


def test_a_cost_that_overflows_is_an_error():
    plant = StateSpace([[0.5]], [[1.0]], dt=1.0)
    c = lqrad.lqr(plant, [[1]], [[1]])
    with pytest.raises(NonFiniteError, match="the cost of the closed loop"):
        lqrad.simulate_closed_loop(plant, c, 3, x0=[1e200], Q=[[1]], R=[[1]])


# Plants and references as people have them


def test_plants_of_other_packages_and_sampled_ones_are_taken():
    control = pytest.importorskip("control")
    arrays = [[1, 0.1], [0, 1]], [[0.005], [0.1]], [[1, 0]], [[0.3]]
    theirs, ours = control.ss(*arrays, 0.1), StateSpace(*arrays, dt=0.1)
    noises = {"W": 0.01 * np.eye(2), "V": [[0.1]]}
    c, d = (lqrad.lqg(plant, np.eye(2), [[1]], **noises) for plant in (theirs, ours))
    assert np.array_equal(c.K, d.K)
    assert np.array_equal(c.observer.D, d.observer.D)
    runs = [lqrad.simulate_closed_loop(p, c, 9, x0=[1, 0], Q=np.eye(2)).x for p in (theirs, ours)]
    assert np.array_equal(*runs)
    costs = [lqrad.expected_cost(p, c, np.eye(2), [[1]], **noises) for p in (theirs, ours)]
    assert costs[0] == costs[1]
    assert np.array_equal(c.closed_loop(theirs).A, c.closed_loop(ours).A)
    with pytest.raises(ArgumentError, match="without the attributes A and B"):
        Observer.kalman(3, np.eye(2), [[1]])


def test_the_cross_weight_of_a_sampled_problem_is_not_forgotten():
    sampled = lqrad.discretise([[0, 1], [0, 0]], [[0], [1]], np.eye(2), [[1]], dt=0.5)
    assert sampled.M.any()
    right = lqrad.dlqr(sampled.A, sampled.B, sampled.Q, sampled.R, M=sampled.M)[0]
    np.testing.assert_array_equal(lqrad.lqr(sampled, sampled.Q, sampled.R).K, right)
    c = lqrad.lqg(sampled, sampled.Q, sampled.R, W=np.eye(2), V=np.eye(2))
    np.testing.assert_array_equal(c.K, right)
    cost = lqrad.expected_cost(sampled, c, np.eye(2), [[1]], W=np.eye(2), V=np.eye(2))
    assert np.isfinite(cost)


@pytest.mark.parametrize("reference", [2.0, [2.0], np.full(60, 2.0), np.full((60, 1), 2.0)])
def test_one_output_may_have_a_number_or_a_row_of_them(reference):
    plant = StateSpace([[0.9]], [[0.1]], dt=0.1)
    c = lqrad.lqi(plant, [[1]], [[0.1]], [[0.2]])
    run = lqrad.simulate_closed_loop(plant, c, 60, reference=reference)
    assert run.x[-1, 0] == pytest.approx(2.0, abs=1e-3)


def test_a_problem_has_no_sampling_time_and_is_no_plant():
    problem = lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(ArgumentError, match=r"the LQProblem says nothing of .* StateSpace\.of\("):
        Observer.kalman(problem, [[1.0]], [[1.0]])
    assert Observer.kalman(lqrad.StateSpace.of(problem, dt=1.0), [[1.0]], [[1.0]]).ny == 1
