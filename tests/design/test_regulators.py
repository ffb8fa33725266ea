"""Set-points, and the errors of plants that cannot be regulated."""

from __future__ import annotations

import numpy as np
import pytest
from random_problems import with_spectral_radius

import lqrad
from lqrad import ArgumentError, NotConvexError, NotStabilizableError, ShapeError, StateSpace


@pytest.mark.parametrize("seed", range(20))
def test_a_target_is_a_steady_state_at_the_reference(seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    nr = int(rng.integers(1, min(n, m) + 1))
    A, B = with_spectral_radius(rng.normal(size=(n, n)), 1.2), rng.normal(size=(n, m))
    H, r = rng.normal(size=(nr, n)), rng.normal(size=nr)
    x, u = lqrad.steady_state_targets(StateSpace(A, B, dt=1.0), r, H=H)
    np.testing.assert_allclose(A @ x + B @ u, x, rtol=1e-9, atol=1e-9 * np.abs(x).max())
    np.testing.assert_allclose(H @ x, r, rtol=1e-9, atol=1e-9)
    # Of all solutions it is that of the least input: any other differs by a null vector of this.
    Z = np.block([[A - np.eye(n), B], [H, np.zeros((nr, m))]])
    null = np.linalg.svd(Z)[2][n + nr :]
    for direction in null:
        assert abs(direction[n:] @ u) <= 1e-8 * np.linalg.norm(u)


def test_units_do_not_decide_what_can_be_held():
    A, B, H = np.array([[0.9, 0.1], [0.0, 0.8]]), np.array([[0.0], [1.0]]), np.array([[1.0, 0.0]])
    units = np.diag([1e6, 1e-6])
    scaled = StateSpace(units @ A @ np.linalg.inv(units), units @ B * 1e-8, dt=1.0)
    plain = lqrad.steady_state_targets(StateSpace(A, B, dt=1.0), [2.0], H=H)
    far = lqrad.steady_state_targets(scaled, [2.0], H=H @ np.linalg.inv(units))
    np.testing.assert_allclose(far[0], units @ plain[0], rtol=1e-9)
    np.testing.assert_allclose(far[1], plain[1] * 1e8, rtol=1e-9)


def test_what_cannot_be_held_is_named():
    integrator = StateSpace([[1.0, 0.1], [0.0, 1.0]], [[0.005], [0.1]], dt=0.1)
    message = (
        r"no steady state holds every reference: 1 r\[1\] is 0 in all of them, expected 0, and is 3"
    )
    with pytest.raises(ArgumentError, match=message):
        lqrad.steady_state_targets(integrator, [1.0, 3.0])
    x, u = lqrad.steady_state_targets(integrator, [1.0, 0.0])  # at rest it can stand anywhere
    np.testing.assert_allclose(x, [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(u, [0.0], atol=1e-12)
    with pytest.raises(ArgumentError, match=r"1 r\[1\] is 0 in all of them; the plant has a zero"):
        lqrad.lqi(integrator, np.eye(2), [[1]], np.eye(2))
    washout = StateSpace([[0.5, 0.0], [1.0, 0.0]], [[1.0], [0.0]], [[1.0, -0.5]], dt=0.1)
    # Its output is u[t-1]: the pole at one half is cancelled by a zero there, and none is at one.
    np.testing.assert_allclose(lqrad.steady_state_targets(washout, [1.0])[1], [1.0], rtol=1e-12)
    derivative = StateSpace([[0.0, 0.0], [1.0, 0.0]], [[1.0], [0.0]], [[1.0, -1.0]], dt=0.1)
    with pytest.raises(ArgumentError, match=r"1 r\[0\] is 0 in all of them"):
        lqrad.lqi(derivative, np.eye(2), [[1]], [[1]])


def test_two_references_that_one_input_cannot_serve():
    plant = StateSpace([[0.5, 0.0], [0.0, 0.5]], [[1.0], [2.0]], dt=0.1)
    lqrad.steady_state_targets(plant, [1.0, 2.0])
    with pytest.raises(ArgumentError, match=r"1 r\[0\] \+ -0\.5 r\[1\] is 0 in all of them"):
        lqrad.steady_state_targets(plant, [1.0, 1.0])


def test_a_target_beyond_the_actuator_is_named():
    plant = StateSpace([[0.9]], [[0.1]], dt=0.1)
    message = r"reference \[3\.\] needs the constant input u\[0\] = 3, which is outside its limits -1 to 1"
    with pytest.raises(ArgumentError, match=message) as refused:
        lqrad.steady_state_targets(plant, [3.0], input_bounds=(-1, 1))
    assert refused.value.remedy == "ask for less, or for a stronger actuator"
    assert "ask for" not in refused.value.what
    assert lqrad.steady_state_targets(plant, [1.0], input_bounds=(-1, 1))[1] == pytest.approx(1.0)


def test_plants_that_cannot_be_stabilised_name_the_mode():
    unmoved = StateSpace(np.diag([1.2, 0.5]), [[0.0], [1.0]], dt=0.1)
    with pytest.raises(
        NotStabilizableError, match=r"B cannot move the mode with the eigenvalue 1\.2"
    ):
        lqrad.lqr(unmoved, np.eye(2), [[1]])
    unseen = StateSpace(np.diag([1.2, 0.5]), [[1.0], [1.0]], [[0.0, 1.0]], dt=0.1)
    with pytest.raises(NotStabilizableError, match="no sensor in C sees a mode of A"):
        lqrad.lqg(unseen, np.eye(2), [[1]], np.eye(2), [[1]])
    plant = StateSpace([[0.5]], [[1.0]], dt=0.1)
    with pytest.raises(
        NotStabilizableError, match=r"of the plant with its integrators, x\[1\] to x\[1\]: the wei"
    ):
        lqrad.lqi(plant, [[1]], [[1]], [[0.0]])


def test_weights_that_do_not_fit():
    plant = StateSpace([[0.5]], [[1.0]], dt=0.1)
    with pytest.raises(NotConvexError, match=r"has the eigenvalue -0\.618034"):
        lqrad.lqr(plant, [[1]], [[0]], M=[[1.0]])
    with pytest.raises(
        ShapeError, match=r"Q_i has shape \(2, 2\), expected \(nr, nr\) = \(1, 1\) for 1 tr"
    ):
        lqrad.lqi(plant, [[1]], [[1]], np.eye(2))
    with pytest.raises(ShapeError, match=r"H has shape \(1, 2\), expected \(nr, n\) with n = 1"):
        lqrad.lqr(plant, [[1]], [[1]], H=[[1.0, 0.0]])
    with pytest.raises(ShapeError, match=r"reference has shape \(2,\), expected \(nr,\) = \(1,\)"):
        lqrad.steady_state_targets(plant, [1.0, 2.0])


def test_of_all_inputs_that_hold_a_reference_the_least_is_taken_in_any_units():
    """Of u with g'u = r the least is g r / |g|^2, for inputs whose gains are up to 2^80 apart."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        n, m = (int(size) for size in rng.integers(1, 5, size=2))
        A, B, C = rng.normal(size=(n, n)), rng.normal(size=(n, m)), rng.normal(size=(1, n))
        power = rng.integers(-40, 41, size=m)
        g = np.ldexp(C @ np.linalg.solve(np.eye(n) - A, B), power)[0]
        plant = lqrad.StateSpace(A, np.ldexp(B, power), C, dt=0.1)
        _, u = lqrad.steady_state_targets(plant, [2.0])
        least = 2 * (g / np.abs(g).max()) / np.abs(g).max() / np.sum((g / np.abs(g).max()) ** 2)
        np.testing.assert_allclose(u, least, rtol=1e-9, atol=1e-11 * np.abs(least).max())


def test_former_names_are_taken_and_names_of_other_packages_told():
    plant, weights = StateSpace([[0.5]], [[1.0]], dt=0.1), ([[1.0]], [[1.0]])
    H, loop = [[2.0]], lqrad.lqr(plant, [[1]], [[1]])
    for design in (
        lambda **named: lqrad.lqr(plant, *weights, **named).F,
        lambda **named: lqrad.lqi(plant, *weights, [[1.0]], **named).F,
        lambda **named: lqrad.lqg(plant, *weights, *weights, **named).F,
        lambda **named: lqrad.design_controller(plant, *weights, **named).controller.F,
        lambda **named: lqrad.mpc(lqrad.LQProblem([[0.5]], [[1.0]], *weights), 3, **named).tracked,
        lambda **named: lqrad.steady_state_targets(plant, [1.0], **named)[1],
    ):
        np.testing.assert_array_equal(design(tracked=H), design(H=H))
        with pytest.raises(ArgumentError, match="H is given twice, also as tracked"):
            design(tracked=H, H=H)
    for run in (
        lambda **named: len(lqrad.simulate_closed_loop(plant, loop, **named).u),
        lambda **named: lqrad.expected_cost(plant, loop, *weights, W=[[1.0]], **named),
        lambda **named: len(lqrad.design_controller(plant, *weights, **named).simulated.u),
    ):
        assert run(steps=7) == run(T=7) != run(T=8)
    problem = lqrad.LQProblem([[0.5]], [[1.0]], *weights)
    for wrong, message in (
        (
            lambda: lqrad.lqr([[0.5]], [[1.0]], *weights),
            r"write lqr\(plant, Q, R\) for a plant, or dlqr",
        ),
        (lambda: lqrad.lqi([[0.5]], [[1.0]], *weights, [[1.0]]), r"write lqi\(plant, Q, R, Q_i\)"),
        (
            lambda: lqrad.lqg([[0.5]], [[1.0]], *weights, *weights),
            r"write lqg\(plant, Q, R, W, V\)",
        ),
        (
            lambda: lqrad.design_controller([[0.5]], [[1.0]], *weights),
            r"design_controller\(plant, Q",
        ),
        (
            lambda: lqrad.mpc(problem, N=3),
            r"missing a required argument: 'T'; write mpc\(problem, T\)",
        ),
        (lambda: lqrad.mpc([[0.5]], [[1.0]], *weights), "with a problem such as LQProblem"),
        (
            lambda: lqrad.simulate_closed_loop(plant, loop, N=3),
            "argument: 'T'; write simulate_clos",
        ),
    ):
        with pytest.raises(ArgumentError, match=message):
            wrong()
