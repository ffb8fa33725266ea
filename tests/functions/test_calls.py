"""Functions that a user wrote: their times, wrappers of one point, and what they raise."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import lqrad
from lqrad.functions.calls import one_point, with_time
from lqrad.nonlinear.control import ControlProblem

A = np.array([[1.0, 0.1], [-0.2, 0.9]])


def timed(x, u, t):
    return (x @ A.T + u) * (1 + np.cos(t))[..., None]


def square(x, u):
    return (x**2).sum(axis=-1) + (u**2).sum(axis=-1)


def default_t(x, u, t=0):
    return timed(x, u, t)


def default_time(x, u, time=None):
    return timed(x, u, time)


def anything(*args):
    return timed(*args)


def more(x, u, *rest):
    return timed(x, u, *rest)


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


TIMED = [timed, default_t, default_time, anything, more, decorated(timed), decorated(default_t)]


@pytest.mark.parametrize("f", TIMED)
def test_every_way_to_take_the_time_gets_it(f):
    u = np.random.default_rng(0).normal(size=(5, 2))
    expected = ControlProblem(timed, square, n=2, m=2).value_and_gradient([1.0, 2.0], u)
    found = ControlProblem(f, square, n=2, m=2).value_and_gradient([1.0, 2.0], u)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


def test_functions_of_two_arguments_are_given_two():
    def f(x, u):
        return x + u

    def parameter(x, u, dt=0.5):
        return x + dt * u

    for function, expected in [
        (f, 3.0),
        (lambda *args: f(*args), 3.0),
        (decorated(f), 3.0),
        (parameter, 2.0),
        (functools.partial(parameter, dt=1.0), 3.0),
        (np.vectorize(lambda x, u: x + u, signature="(n),(n)->(n)"), 3.0),
    ]:
        assert with_time("f", function)(np.array([1.0]), np.array([2.0]), 7) == expected


@pytest.mark.parametrize("default", [0, 0.0, None])
def test_a_third_argument_that_may_be_the_time_is_asked_for(default):
    def f(x, u, wind=default):
        return x + u

    with pytest.raises(lqrad.ArgumentError, match=r"f has a third argument, wind=.* call it t"):
        ControlProblem(f, square, n=1, m=1)


def test_what_is_no_function_of_two_or_three_arguments_is_named():
    for function in (lambda x: x, lambda x, u, t, w: x):
        with pytest.raises(
            lqrad.ArgumentError, match=r"stage_cost takes . arguments, expected two"
        ):
            ControlProblem(lambda x, u: x, function, n=1, m=1)
    with pytest.raises(lqrad.ArgumentError, match="terminal_cost is 3, expected a function of x"):
        ControlProblem(lambda x, u: x, square, 3, n=1, m=1)


# Functions of one point


def many(x, u, t):
    angle = x[..., 1] + 0.05 * (9.81 * np.sin(x[..., 0]) + u[..., 0]) + 0.01 * t
    return np.stack([x[..., 0] + 0.05 * x[..., 1], angle], axis=-1)


ONE = {
    "an array": lambda x, u, t: np.array(
        [x[0] + 0.05 * x[1], x[1] + 0.05 * (9.81 * np.sin(x[0]) + u[0]) + 0.01 * t]
    ),
    "a list": lambda x, u, t: [
        x[0] + 0.05 * x[1],
        x[1] + 0.05 * (9.81 * np.sin(x[0]) + u[0]) + 0.01 * t,
    ],
    "a stack": lambda x, u, t: np.stack(
        [x[0] + 0.05 * x[1], x[1] + 0.05 * (9.81 * np.sin(x[0]) + u[0]) + 0.01 * t]
    ),
    "plain numbers": lambda x, u, t: [
        float(x[0]) + 0.05 * float(x[1]),
        x[1] + 0.05 * (9.81 * np.sin(float(x[0])) + u[0]) + 0.01 * t,
    ],
}


WAYS = [None, "exact", "exact", "differences"]


@pytest.mark.parametrize(("f", "way"), list(zip(ONE.values(), WAYS, strict=True)))
def test_a_function_of_one_point_becomes_one_of_many(f, way):
    u = np.random.default_rng(1).normal(size=(6, 1))

    def end(x):
        return 3 * x @ x

    expected = ControlProblem(many, square, lambda x: 3 * (x**2).sum(-1), n=2, m=1)
    found = ControlProblem(
        one_point(f), one_point(lambda x, u: x @ x + u @ u), one_point(end), n=2, m=1
    )
    for x0 in ([0.4, -1.0], np.random.default_rng(2).normal(size=(3, 2))):
        J, g = found.value_and_gradient(x0, u)
        expected_J, expected_g = expected.value_and_gradient(x0, u)
        np.testing.assert_allclose(J, expected_J, rtol=1e-14)
        np.testing.assert_allclose(g, expected_g, rtol=1e-7, atol=1e-9)
    assert way in (None, found.derivative_ways["f"])
    assert found.derivative_ways["stage_cost"] == "exact"
    assert lqrad.ilqr(found, [0.4, -1.0], T=5).status.converged


@pytest.mark.parametrize(
    ("f", "stage", "end", "message"),
    [
        (lambda x, u: np.array([x[0], x[1]]), square, None, r"f returned shape \(2, 2\), expected"),
        (None, lambda x, u: x @ x, None, "stage_cost raised ValueError for x"),
        (None, lambda x, u: (x**2).sum() + u.sum(), None, r"stage_cost returned shape \(\)"),
        (None, lambda x, u: float(x[..., 0]), None, "stage_cost raised TypeError for x"),
        (None, lambda x, u: x[0] ** 2 + u[0] ** 2, None, "stage_cost r"),
    ],
)
def test_functions_of_one_point_are_named_with_the_remedy(f, stage, end, message):
    problem = ControlProblem(f or (lambda x, u: x + u), stage, end, n=2, m=2)
    for use in (problem.value_and_gradient, lambda x0, u: lqrad.ilqr(problem, x0, u=u)):
        with pytest.raises(lqrad.LqradError, match=message) as caught:
            use([1.0, 2.0], np.ones((6, 2)))
        assert "lqrad.one_point" in caught.value.remedy


def test_the_third_argument_of_a_function_of_one_point_is_its_time():
    step = one_point(lambda x, u, t: x + t)
    np.testing.assert_array_equal(
        step(np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), np.arange(3))[1, :, 0], [0, 1, 2]
    )


def test_objectives_and_losses_cannot_write_to_their_arguments():
    def in_place(z):
        z -= 1.0
        return float(z @ z) / 2, z

    for method in ("gradient", "l-bfgs", "nesterov"):
        with pytest.raises(
            lqrad.ArgumentError, match=r"value_and_gradient writes to its argument.*x ="
        ):
            lqrad.descend(lqrad.Objective((2,), in_place), [1.0, 2.0], method=method)

    def value(z):
        z *= z
        return z.sum(axis=-1)

    lq = lqrad.LQProblem([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    penalty = lqrad.Penalty(value, lambda z: 2 * z)
    with pytest.raises(lqrad.ArgumentError, match=r"writes to its argument: .*read-only"):
        lqrad.penalised(lq, [1.0], 3, input=penalty).value_and_gradient(np.ones((3, 1)))
