"""Nonlinear problems: gradients against differences and a peer, and LQProblem's numbers where linear."""

from __future__ import annotations

import numpy as np
import pytest
from random_problems import random_case
from slopes import jacobian as jacobian_of

import lqrad
from lqrad.nonlinear.control import ControlProblem
from lqrad.nonlinear.integrators import implicit_midpoint, rk4


def cart_pole(x, u):
    """Barto, Sutton and Anderson (1983), without friction; the angle is that from upright."""
    theta, v, w = x[..., 1], x[..., 2], x[..., 3]
    s, c = np.sin(theta), np.cos(theta)
    push = (u[..., 0] + 0.05 * w**2 * s) / 1.1
    turn = (9.81 * s - c * push) / (0.5 * (4 / 3 - 0.1 * c**2 / 1.1))
    return np.stack([v, w, push - 0.05 * turn * c / 1.1, turn], axis=-1)


def stage(x, u, t):
    return (0.01 * (1 + 0.1 * t)) * ((x**2).sum(axis=-1) + np.cosh(u[..., 0]) * (2 + x[..., 0]))


def last(x):
    return 5 * np.sin(x[..., 1]) ** 2 + x[..., 0] ** 4


def problem(**options):
    return ControlProblem(rk4(cart_pole, 0.05), stage, last, n=4, m=1, **options)


@pytest.fixture
def point():
    rng = np.random.default_rng(0)
    return np.array([0.1, 2.0, 0.0, -0.3]), rng.normal(size=(15, 1))


def from_lq(lq, T):
    """The same problem in functions."""

    def at(z, t):
        return z[t] if z.ndim and lq.T is not None and len(z) == T and lq.T == T else z

    varies = lq.T is not None

    def pick(name, dims, t):
        z = getattr(lq, name)
        return z[t] if varies and z.ndim == dims + 1 else z

    def times(M, z):
        return (M @ z[..., None])[..., 0]

    def f(x, u, t):
        return times(pick("A", 2, t), x) + times(pick("B", 2, t), u) + pick("c", 1, t)

    def cost(x, u, t):
        Q, R, M = (pick(name, 2, t) for name in "QRM")
        q, r = (pick(name, 1, t) for name in "qr")
        quadratic = (x * (0.5 * times(Q, x) + times(M, u) + q)).sum(axis=-1)
        return quadratic + (u * (0.5 * times(R, u) + r)).sum(axis=-1)

    def end(x):
        return (x * (0.5 * x @ lq.S + lq.s)).sum(axis=-1)

    return ControlProblem(f, cost, end, n=lq.n, m=lq.m)


@pytest.mark.parametrize("seed", range(15))
def test_on_a_linear_problem_the_numbers_are_those_of_lqproblem(seed):
    case = random_case(seed, radius=0.95)
    lq, general = case.problem, from_lq(case.problem, case.T)
    x = general.simulate(case.x0, case.u)
    np.testing.assert_allclose(x, lq.simulate(case.x0, case.u), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        general.adjoint(x, case.u), lq.adjoint(x, case.u), rtol=1e-12, atol=1e-12
    )
    J, g = general.value_and_gradient(case.x0, case.u)
    expected_J, expected_g = lq.value_and_gradient(case.x0, case.u)
    assert pytest.approx(expected_J, rel=1e-12) == J
    np.testing.assert_allclose(g, expected_g, rtol=1e-12, atol=1e-12 * np.abs(expected_g).max())
    p = np.random.default_rng(seed).normal(size=(case.T, lq.n))
    mine, theirs = (z.kkt_residual(x + 0.1, case.u, p, case.x0) for z in (general, lq))
    for block in ("dynamics", "state", "input"):
        np.testing.assert_allclose(getattr(mine, block), getattr(theirs, block), atol=1e-12)
    assert general.lagrangian(x + 0.1, case.u, p) == pytest.approx(
        lq.lagrangian(x + 0.1, case.u, p), rel=1e-11
    )
    # Its linearisation is itself, in deviations: the same optimum.
    around = general.linearise(x, case.u)
    step = lqrad.riccati(around).rollout(np.zeros(lq.n))
    optimum = lqrad.riccati(lq, case.T).rollout(case.x0)
    np.testing.assert_allclose(
        case.u + step.u, optimum.u, atol=1e-8 * max(1, np.abs(optimum.u).max())
    )


def test_the_taylor_remainder_has_order_two(point):
    x0, u = point
    objective = problem().objective(x0, len(u))
    assert lqrad.taylor_test(objective.value_and_gradient, u).order == pytest.approx(2, abs=0.05)


def test_the_gradient_is_that_of_jax_to_rounding(point):
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    x0, u = point

    def total(u):
        def cart(x, a):
            s, c = jnp.sin(x[1]), jnp.cos(x[1])
            push = (a[0] + 0.05 * x[3] ** 2 * s) / 1.1
            turn = (9.81 * s - c * push) / (0.5 * (4 / 3 - 0.1 * c**2 / 1.1))
            return jnp.stack([x[2], x[3], push - 0.05 * turn * c / 1.1, turn])

        x, J, h = jnp.array(x0), 0.0, 0.05
        for t in range(len(u)):
            J += 0.01 * (1 + 0.1 * t) * ((x**2).sum() + jnp.cosh(u[t, 0]) * (2 + x[0]))
            k1 = cart(x, u[t])
            k2 = cart(x + h / 2 * k1, u[t])
            k3 = cart(x + h / 2 * k2, u[t])
            k4 = cart(x + h * k3, u[t])
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return J + 5 * jnp.sin(x[1]) ** 2 + x[0] ** 4

    expected = np.asarray(jax.grad(total)(jnp.array(u)))
    J, g = problem().value_and_gradient(x0, u)
    assert float(total(jnp.array(u))) == pytest.approx(J, rel=1e-13)
    np.testing.assert_allclose(g, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_given_jacobians_are_used(point):
    x0, u = point
    calls = []

    def jacobian(x, u, t):
        calls.append(np.shape(t))
        step = rk4(cart_pole, 0.05)
        slopes = jacobian_of(lambda z: step(z[..., :4], z[..., 4:], t), np.concatenate([x, u], -1))
        return slopes[..., :4], slopes[..., 4:]

    expected = problem().value_and_gradient(x0, u)[1]
    found = problem(jacobian=jacobian).value_and_gradient(x0, u)[1]
    np.testing.assert_array_equal(found, expected)
    assert calls == [(15,)]
    used = problem(jacobian=jacobian)
    used.value_and_gradient(x0, u)
    assert used.derivative_ways["f"] == "given"
    with pytest.raises(lqrad.ShapeError, match=r"jacobian returned shapes \(4, 4\)"):
        problem(jacobian=lambda x, u: (np.eye(4), np.eye(4))).value_and_gradient(x0, u)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3)])
def test_a_batch_is_a_loop_over_its_series(batch, point):
    _, u = point
    x0 = np.random.default_rng(1).normal(size=(*batch, 4))
    J, g = problem().value_and_gradient(x0, u)
    for index in np.ndindex(batch):
        one, slope = problem().value_and_gradient(x0[index], u)
        assert np.asarray(J)[index] == pytest.approx(one, rel=1e-14)
        np.testing.assert_allclose(g[index], slope, rtol=1e-12, atol=1e-14)
    objective = problem().objective(x0, len(u))
    inputs = np.broadcast_to(u, (*batch, *u.shape))
    assert objective.shape == inputs.shape
    assert objective.value_and_gradient(inputs)[0] == pytest.approx(np.sum(J))


def test_the_second_order_expansion_is_that_of_the_lagrangian(point):
    """Q, M, R with costates, against second differences of the Lagrangian at fixed p."""
    x0, u = point
    general = problem()
    x = general.simulate(x0, u)
    p = general.adjoint(x, u)
    found = general.linearise(x, u, p)
    rng = np.random.default_rng(0)
    dx, du = rng.normal(size=x.shape), rng.normal(size=u.shape)
    h = 1e-4
    values = [general.lagrangian(x + s * h * dx, u + s * h * du, p) for s in (-1, 0, 1)]
    second = (values[0] - 2 * values[1] + values[2]) / h**2
    ahead = np.einsum("ti,tij,tj->", dx[:-1], found.Q, dx[:-1]) + dx[-1] @ found.S @ dx[-1]
    ahead += np.einsum("ti,tij,tj->", du, found.R, du)
    ahead += 2 * np.einsum("ti,tij,tj->", dx[:-1], found.M, du)
    assert second == pytest.approx(ahead, rel=1e-5)
    np.testing.assert_allclose(found.c, 0, atol=1e-14)


def test_the_hessian_product_is_the_derivative_of_the_gradient(point):
    x0, u = point
    v, h = np.random.default_rng(2).normal(size=u.shape), 1e-5
    ahead, behind = (problem().value_and_gradient(x0, u + s * h * v)[1] for s in (1, -1))
    difference = (ahead - behind) / (2 * h)
    scale = np.abs(difference).max()
    found = problem().hessian_product(v, x0, u)
    np.testing.assert_allclose(found, difference, rtol=0, atol=1e-6 * scale)


def test_an_initial_state_that_is_given_stands_in_for_the_first_one(point):
    x0, u = point
    x = problem().simulate(x0, u)
    p = problem().adjoint(x, u)
    moved = x.copy()
    moved[0] = 7.0
    assert problem().lagrangian(moved, u, p, x0) == problem().lagrangian(x, u, p)


def test_a_kink_that_is_squared_is_smooth(point):
    x0, u = point
    smooth = ControlProblem(rk4(cart_pole, 0.05), lambda x, u: (u**2).sum(axis=-1), n=4, m=1)
    kinked = ControlProblem(
        rk4(cart_pole, 0.05), lambda x, u: (np.abs(u) ** 2).sum(axis=-1), n=4, m=1
    )
    for inputs in (u, 0 * u):
        found = kinked.value_and_gradient(x0, inputs)[1]
        np.testing.assert_array_equal(found, smooth.value_and_gradient(x0, inputs)[1])
    assert set(kinked.derivative_ways.values()) == {"exact"}


def test_without_a_terminal_cost_there_is_none():
    bare = ControlProblem(lambda x, u: x + u, lambda x, u: (x * u).sum(axis=-1), n=2, m=2)
    J, g = bare.value_and_gradient([1.0, 2.0], np.ones((1, 2)))
    assert J == 3.0
    np.testing.assert_array_equal(g, [[1.0, 2.0]])


def test_the_work_grows_linearly_with_the_horizon():
    """By the calls of f: one a step forward, and one for all Jacobians."""
    calls = []

    def f(x, u):
        calls.append(x.ndim)
        return 0.9 * x + u

    counted = ControlProblem(f, lambda x, u: (x**2 + u**2).sum(axis=-1), n=1, m=1)
    for T in (10, 100):
        counted.value_and_gradient([1.0], np.zeros((T, 1)))
        calls.clear()
        counted.value_and_gradient([1.0], np.zeros((T, 1)))
        assert len(calls) == T + 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: ControlProblem(3, stage, n=1, m=1),
            lqrad.ArgumentError,
            "f is 3, expected a func",
        ),
        (
            lambda: ControlProblem(lambda x: x, stage, n=1, m=1),
            lqrad.ArgumentError,
            "f takes 1 arguments, expected two",
        ),
        (lambda: ControlProblem(cart_pole, stage, n=0, m=1), lqrad.ArgumentError, "n is 0"),
        (
            lambda: problem().simulate([0.0] * 3, np.zeros((5, 1))),
            lqrad.ShapeError,
            r"x0 has shape \(3,\), expected \(..., n\) with n = 4",
        ),
        (
            lambda: problem().simulate([0.0] * 4, np.zeros((5, 2))),
            lqrad.ShapeError,
            r"u has shape \(5, 2\), expected \(..., T, m\) with m = 1",
        ),
        (
            lambda: ControlProblem(lambda x, u: x[..., 0], stage, n=4, m=1).simulate(
                [0.0] * 4, np.zeros((5, 1))
            ),
            lqrad.ShapeError,
            r"f returned shape \(\) for x \(4,\).*did you stack",
        ),
        (
            lambda: ControlProblem(cart_pole, lambda x, u: u, n=4, m=1).cost(
                np.zeros((6, 4)), np.zeros((5, 1))
            ),
            lqrad.ShapeError,
            r"stage_cost returned shape \(5, 1\), expected \(5,\).*sum over the last axis",
        ),
        (
            lambda: ControlProblem(lambda x, u: x**3, stage, n=1, m=1).simulate(
                [10.0], np.zeros((9, 1))
            ),
            lqrad.NonFiniteError,
            r"the state x\[6\] is not finite",
        ),
        (
            lambda: problem().adjoint(np.zeros((6, 4)), np.zeros((4, 1))),
            lqrad.ShapeError,
            r"u has shape \(4, 1\), expected \(..., 5, 1\) with m = 1, T = 5",
        ),
    ],
)
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_an_exception_in_f_says_at_which_step():
    def f(x, u, t):
        if np.ndim(t) == 0 and t == 3:
            raise KeyError("table")
        return x

    with pytest.raises(KeyError) as caught:
        ControlProblem(f, stage, n=1, m=1).simulate([0.0], np.zeros((5, 1)))
    assert "this came from f, called for x (1,) and u (1,) at t = 3" in caught.value.__notes__[0]


# Functions that are not written for leading axes

A = np.array([[1.0, 0.1], [0.0, 1.0]])


def square(x, u):
    return (x**2).sum(axis=-1) + (u**2).sum(axis=-1)


@pytest.mark.parametrize(
    ("f", "T", "message"),
    [
        (
            lambda x, u: np.array([x[1], x[0] + u[0]]),
            3,
            r"f returned shape \(2, 2\), expected \(3, 2\): a state for each point; did you stack",
        ),
        # As many steps as states: the shapes are right by chance, the states are not.
        (lambda x, u: np.array([x[1], x[0] + u[0]]), 2, "f of all points at once is not what"),
        (lambda x, u: [x[1], x[0] + u[0]], 2, "f of all points at once is not what it is of each"),
        (lambda x, u: A @ x, 2, "at t = 1: .* did you write A @ x for x @ A.T?"),
    ],
)
@pytest.mark.parametrize("x0", [[1.0, 2.0], [0.0, 0.0]])
def test_dynamics_of_one_point_only_give_no_wrong_gradient(f, T, message, x0):
    single = ControlProblem(f, square, n=2, m=1)
    assert single.simulate(x0, np.ones((T, 1))).shape == (T + 1, 2)
    with pytest.raises(lqrad.ShapeError, match=message):
        single.value_and_gradient(x0, np.ones((T, 1)))


def test_a_cost_of_one_point_only_gives_no_wrong_cost():
    for cost in (lambda x, u: float(u[0] ** 2), lambda x, u: u[0] ** 2):
        single = ControlProblem(lambda x, u: x + u, cost, n=1, m=1)
        with pytest.raises(lqrad.LqradError, match=r"stage_cost r.*lqrad.one_point"):
            single.value_and_gradient([1.0], np.ones((2, 1)))
    mixed = ControlProblem(
        lambda x, u: x @ A.T + u, lambda x, u: (A @ x)[..., 0] ** 2 + u[..., 0] ** 2, n=2, m=1
    )
    with pytest.raises(lqrad.ShapeError, match="stage_cost of all points at once is not what"):
        mixed.value_and_gradient([1.0, 2.0], np.ones((2, 1)))


@pytest.mark.parametrize(
    ("f", "kind"),
    [
        (lambda x, u: A @ x, "ValueError"),  # five steps, two states
        (lambda x, u, t: x + u if t < 2 else x - u, "ValueError"),
        (lambda x, u, t: x * [1, 2, 3, 4, 5][t], "TypeError"),
        (lambda x, u: x * float(u[..., 0]), "TypeError"),
    ],
)
def test_an_exception_at_all_points_says_how_to_write_for_them(f, kind):
    with pytest.raises(
        lqrad.ArgumentError,
        match=rf"f raised {kind} for x \(5, 2\) and u \(5, 1\).*write it for leading .*lqrad.one_point",
    ):
        ControlProblem(f, square, n=2, m=1).value_and_gradient([1.0, 2.0], np.ones((5, 1)))


def subtract_in_place(x):
    x -= 1.0
    return (x**2).sum(axis=-1)


def test_functions_cannot_write_to_their_arguments():
    def f(x, u):
        x += 0.1 * u
        return x

    def rates(x, u):
        x *= -1.0
        return x

    x0, u = [1.0], np.ones((3, 1))
    for dynamics in (f, rk4(rates, 0.1), implicit_midpoint(rates, 0.1)):
        with pytest.raises(
            lqrad.ArgumentError, match=r"f raised .* read-only.* write x = x - goal"
        ):
            ControlProblem(dynamics, square, n=1, m=1).simulate(x0, u)
    costs = (lambda x, u: subtract_in_place(x), square), (square, subtract_in_place)
    for name, (stage, end) in zip(("stage_cost", "terminal_cost"), costs, strict=True):
        problem = ControlProblem(lambda x, u: x + u, stage, end, n=1, m=1)
        x = problem.simulate(x0, u)
        before = x.copy()
        for use in (problem.cost, problem.adjoint, problem.linearise):
            with pytest.raises(lqrad.ArgumentError, match=f"{name} raised ValueError .*read-only"):
                use(x, u)
        np.testing.assert_array_equal(x, before)
    point = np.array([1.0])
    assert ControlProblem(lambda x, u: x + u, square, n=1, m=1).next_state(point, point, 0) == 2
    point[0] = 3.0  # the caller's array stays the caller's


def test_no_initial_states_are_none():
    with pytest.raises(lqrad.ShapeError, match=r"x0 has shape \(0, 4\), expected .* and not none"):
        problem().value_and_gradient(np.zeros((0, 4)), np.zeros((5, 1)))
    with pytest.raises(lqrad.ShapeError, match=r"x has shape \(0, 6, 4\)"):
        problem().adjoint(np.zeros((0, 6, 4)), np.zeros((0, 5, 1)))


def test_an_exception_at_the_end_is_told_too():
    """The end of one trajectory is a single point."""

    def last(x):
        raise KeyError("table")

    problem = ControlProblem(lambda x, u: x + u, square, last, n=1, m=1)
    with pytest.raises(KeyError) as caught:
        problem.adjoint(np.ones((3, 1)), np.ones((2, 1)))
    assert "this came from terminal_cost" in caught.value.__notes__[0]
    strict = ControlProblem(lambda x, u: x + u, square, lambda x: float(x), n=2, m=1)
    with pytest.raises(lqrad.ArgumentError, match=r"terminal_cost raised TypeError for x \(2,\)"):
        strict.adjoint(np.ones((3, 2)), np.ones((2, 1)))


def test_its_functions_cannot_be_set():
    problem = ControlProblem(lambda x, u: x + u, lambda x, u: u[..., 0] ** 2, n=1, m=1)
    for name in ("f", "stage_cost", "terminal_cost", "n", "T"):
        with pytest.raises(AttributeError, match=f"{name} of a ControlProblem cannot be set"):
            setattr(problem, name, None)
