"""The dot test and the Taylor test tell right operators, gradients and Hessians from wrong ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from random_problems import random_case

import lqrad
from lqrad import dot_test, taylor_test
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError
from lqrad.linalg.banded import Bidiagonal

# What the docstring of dot_test promises of a true transpose.
ROUNDING = 1e-13
CASES = [random_case(seed) for seed in range(30)]
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

L = np.random.default_rng(5).normal(size=(6, 4))


# --- the dot test -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (6, 4)])
def test_a_matrix_and_its_transpose_pass(size, rng):
    A = rng.normal(size=size)
    assert dot_test(lambda u: A @ u, lambda v: A.T @ v, size[1:]) < ROUNDING


@pytest.mark.parametrize(
    ("transpose", "seen"),
    [
        pytest.param(lambda v: -L.T @ v, 0.02, id="sign"),
        pytest.param(lambda v: 1.01 * L.T @ v, 1e-4, id="factor"),
        pytest.param(lambda v: np.linalg.pinv(L) @ v, 0.02, id="inverse"),
        pytest.param(lambda v: L.T @ np.roll(v, 1), 0.02, id="shift"),
        pytest.param(lambda v: (L.T @ v) * [1, 1, 1, 0], 0.02, id="missing-term"),
        pytest.param(lambda v: L.T @ v + 0.01, 1e-4, id="affine"),
        pytest.param(lambda v: 0 * (L.T @ v), 0.02, id="zero"),
    ],
)
def test_a_wrong_transpose_fails(transpose, seen):
    """Any one pair of vectors may happen to be nearly orthogonal."""
    generators = map(np.random.default_rng, range(5))
    assert max(dot_test(lambda u: L @ u, transpose, (4,), rng=rng) for rng in generators) > seen


@pytest.mark.parametrize("T", [1, 2, 50])
def test_the_adjoint_pass_is_the_transpose_of_the_simulation(T, rng):
    dynamics = Bidiagonal(rng.normal(size=(T, 3, 3)) / 2)
    forward, backward = dynamics.solve, lambda f: dynamics.solve(f, transpose=True)
    assert dot_test(forward, backward, (T + 1, 3)) < ROUNDING


@EVERY_CASE
def test_the_hessian_is_its_own_transpose(case):
    product = case.problem.hessian_product
    assert dot_test(product, product, case.u.shape) < ROUNDING


def test_the_result_does_not_depend_on_the_units_of_the_operator():
    big, small = (
        dot_test(lambda u, k=k: k * L @ u, lambda v, k=k: -k * L.T @ v, (4,))
        for k in (1e150, 1e-150)
    )
    assert big == pytest.approx(small, rel=1e-12)


def test_the_zero_operator_passes():
    assert dot_test(lambda u: 0 * u, lambda v: 0 * v, (3,)) == 0


def test_an_operator_may_overwrite_its_argument():
    def doubled(u):
        u *= 2
        return u

    assert dot_test(doubled, doubled, (3,)) < ROUNDING


@pytest.mark.parametrize("test", ["dot", "taylor"])
def test_the_same_generator_gives_the_same_result_and_another_one_another(test):
    def run(seed):
        generator = None if seed is None else np.random.default_rng(seed)
        if test == "dot":
            return dot_test(lambda u: L @ u, lambda v: 1.01 * L.T @ v, (4,), rng=generator)
        return taylor_test(rosenbrock, [-1.0, 2.0], rng=generator).remainders[0]

    assert run(1) == run(1)
    assert run(None) == run(None)
    assert run(1) != run(2)


def test_a_transpose_of_the_wrong_shape_is_refused():
    words = r"transpose\(v\) has shape \(6,\), expected \(4,\), that of the argument of forward"
    with pytest.raises(ShapeError, match=words):
        dot_test(lambda u: L @ u, lambda v: v, (4,))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["forward", "transpose"])
def test_a_result_that_is_not_finite_is_refused(where, bad):
    one = {"forward": np.ones(3), "transpose": np.ones(4)} | {where: np.array([1.0, bad, 1.0, 1.0])}
    with pytest.raises(NonFiniteError, match="not finite for a random argument"):
        dot_test(lambda u: one["forward"], lambda v: one["transpose"], (4,))


def test_a_complex_operator_is_refused():
    with pytest.raises(DtypeError, match=r"forward\(u\) holds complex numbers"):
        dot_test(lambda u: 1j * u, lambda v: v, (2,))


# --- the Taylor test --------------------------------------------------------------------------

# The smallest steps are below 1e-2: there the next term of the expansion shifts the order less.
ORDER = 0.1


def rosenbrock(z):
    x, y = z
    gradient = np.array([-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)])
    return 100 * (y - x * x) ** 2 + (1 - x) ** 2, gradient


def rosenbrock_product(z, v):
    x, y = z
    return np.array([[1200 * x * x - 400 * y + 2, -400 * x], [-400 * x, 200]]) @ v


def wrong(value_and_gradient, fault):
    """The same function with a fault in its gradient."""

    def faulty(z):
        value, gradient = value_and_gradient(z)
        return value, fault(gradient)

    return faulty


def drop_first(gradient):
    gradient = gradient.copy()
    gradient.flat[0] = 0
    return gradient


GRADIENT_FAULTS = {
    "sign": lambda g: -g,
    "factor": lambda g: 1.01 * g,
    "missing-entry": drop_first,
    "reversed": lambda g: g[::-1],
}
EVERY_FAULT = pytest.mark.parametrize("fault", GRADIENT_FAULTS.values(), ids=list(GRADIENT_FAULTS))


def test_a_right_gradient_has_order_two_and_with_its_hessian_three():
    z = [-1.2, 1.0]
    assert taylor_test(rosenbrock, z).order == pytest.approx(2, abs=ORDER)
    with_hessian = taylor_test(rosenbrock, z, hessian_product=rosenbrock_product)
    assert with_hessian.order == pytest.approx(3, abs=ORDER)


@EVERY_FAULT
def test_a_wrong_gradient_has_order_one_also_beside_a_right_hessian(fault):
    faulty = wrong(rosenbrock, fault)
    z = [-1.2, 1.0]
    assert taylor_test(faulty, z).order < 1.5
    assert taylor_test(faulty, z, hessian_product=rosenbrock_product).order < 1.5


@pytest.mark.parametrize(
    "product",
    [
        pytest.param(lambda z, v: -rosenbrock_product(z, v), id="sign"),
        pytest.param(lambda z, v: 1.01 * rosenbrock_product(z, v), id="factor"),
        pytest.param(lambda z, v: rosenbrock_product(z, v) * [1, 0], id="missing-row"),
        pytest.param(lambda z, v: rosenbrock_product(np.flip(z), v), id="another-place"),
    ],
)
def test_a_wrong_hessian_has_order_two(product):
    test = taylor_test(rosenbrock, [-1.2, 1.0], hessian_product=product)
    assert test.order == pytest.approx(2, abs=2 * ORDER)


@EVERY_CASE
def test_the_cost_of_a_linear_quadratic_problem_is_exact_at_order_two(case):
    """A quadratic's remainder is 1/2 h^2 d'Hd, to the last digit; with its Hessian nothing."""
    objective = case.problem.objective(case.x0, case.T)
    test = taylor_test(objective.value_and_gradient, case.u)
    assert test.order == pytest.approx(2, abs=1e-3)
    test = taylor_test(
        objective.value_and_gradient, case.u, hessian_product=objective.hessian_product
    )
    assert test.order == np.inf


def changed(problem, **changes):
    """The problem with some of its arrays replaced: what an author forgot."""
    names = ("A", "B", "Q", "R", "S", "M", "c", "q", "r", "s")
    return lqrad.LQProblem(**{name: getattr(problem, name) for name in names} | changes)


@pytest.mark.parametrize("name", ["S", "M", "c", "q", "r", "s"])
def test_a_gradient_that_forgets_a_term_of_the_problem_has_order_one(name):
    case = random_case(3, n=3, m=2, T=7, radius=0.95, all_terms=True, zero_S=False)
    forgetful = changed(case.problem, **{name: 0 * getattr(case.problem, name)})

    def value_and_gradient(u):
        value, _ = case.problem.value_and_gradient(case.x0, u)
        return value, forgetful.value_and_gradient(case.x0, u)[1]

    test = taylor_test(
        value_and_gradient, case.u, hessian_product=lambda u, v: case.problem.hessian_product(v)
    )
    assert test.order == pytest.approx(1, abs=1e-3)


def test_a_gradient_one_step_late_has_order_one():
    case = random_case(4, T=20, radius=0.95, time_varying=False)
    late = wrong(
        case.problem.objective(case.x0, case.T).value_and_gradient, lambda g: np.roll(g, 1, 0)
    )
    assert taylor_test(late, case.u).order < 1.5


@pytest.mark.parametrize("z", [[0.3], [[0.3]], 0.3], ids=["(1,)", "(1, 1)", "()"])
def test_one_dimension_is_enough(z):
    def value_and_gradient(z):
        return float(np.exp(z).sum()), np.exp(z)

    assert taylor_test(value_and_gradient, z).order == pytest.approx(2, abs=ORDER)
    exact = taylor_test(value_and_gradient, z, hessian_product=lambda z, v: np.exp(z) * v)
    assert exact.order == pytest.approx(3, abs=ORDER)


def test_a_linear_function_has_no_remainder_at_all():
    test = taylor_test(lambda z: (float(z.sum()), np.ones(3)), [1.0, 2.0, 3.0])
    assert test.order == np.inf


def test_the_steps_are_lengths_along_the_given_direction():
    test = taylor_test(rosenbrock, [0.0, 0.0], direction=[0.0, 5.0])
    # Along y at x = 0 the remainder is exactly 100 y^2.
    assert test.steps == pytest.approx(5 * 0.5 ** np.arange(1, 13), rel=1e-15)
    assert test.remainders == pytest.approx(100 * test.steps**2, rel=1e-12)


def test_a_gradient_that_is_overwritten_by_the_next_one_is_read_in_time():
    store = np.empty(2)

    def value_and_gradient(z):
        value, store[:] = rosenbrock(z)
        return value, store

    assert taylor_test(value_and_gradient, [-1.2, 1.0]).order == pytest.approx(2, abs=ORDER)


def test_the_point_is_not_changed():
    def value_and_gradient(z):
        value, gradient = rosenbrock(z)
        z[:] = 7
        return value, gradient

    z = np.array([-1.2, 1.0])
    taylor_test(value_and_gradient, z)
    assert z.tolist() == [-1.2, 1.0]


def right(z):
    return float(z @ z), 2 * z


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"direction": [1.0]}, ShapeError, r"direction has shape \(1,\), expected \(2,\)"),
        ({"direction": [0.0, 0.0]}, ArgumentError, "direction is zero"),
        ({"direction": [np.nan, 1.0]}, NonFiniteError, r"direction\[0\] is nan"),
        ({"z": [np.inf, 1.0]}, NonFiniteError, r"z\[0\] is inf"),
        (
            {"value_and_gradient": lambda z: (0.0, z[:1])},
            ShapeError,
            r"the gradient has shape \(1,\), expected \(2,\) as the objective says",
        ),
        (
            {"value_and_gradient": lambda z: (z, z)},
            ShapeError,
            r"J, of what value_and_gradient returned, has shape \(2,\), expected one number",
        ),
        ({"value_and_gradient": lambda z: (np.nan, z)}, NonFiniteError, r"J\(z\) is not finite"),
        (
            {"value_and_gradient": lambda z: (0.0, z * np.inf)},
            NonFiniteError,
            "the gradient is not finite; expand at another z",
        ),
        (
            {"hessian_product": lambda z, v: v[:1]},
            ShapeError,
            r"the Hessian product has shape \(1,\)",
        ),
        (
            {"hessian_product": lambda z, v: v * np.nan},
            NonFiniteError,
            "the Hessian product is not finite",
        ),
        (
            {"value_and_gradient": lambda z: (0.0 if z[0] == 1 else np.nan, z)},
            NonFiniteError,
            "J is not finite 0.000244141 of the direction from z",
        ),
    ],
)
def test_what_says_nothing_is_refused(arguments, error, words):
    given = {"value_and_gradient": right, "z": [1.0, 2.0]} | arguments
    with pytest.raises(error, match=words):
        taylor_test(given.pop("value_and_gradient"), given.pop("z"), **given)


# Where the steps cannot tell, that is what it says


def square(z):
    return float(z @ z) / 2, z


def exponentials(z):
    return float(np.exp(z).sum()), np.exp(z)


@pytest.mark.parametrize("size", 10.0 ** np.arange(-12, 17, 2))
def test_the_verdict_does_not_depend_on_the_size_of_z(size):
    """Nor on that of its entries: steps are in units of each."""
    z = size * np.array([1.0, -2e-6, 3e6])
    assert taylor_test(square, z).order == pytest.approx(2, abs=1e-6)
    assert taylor_test(wrong(square, lambda g: 1.01 * g), z).order < 1.1
    bowl = taylor_test(square, z, hessian_product=lambda z, v: v)
    assert bowl.order == np.inf
    assert "vanishes" in bowl.message


@pytest.mark.parametrize("length", 10.0 ** np.arange(-18, 1))
@pytest.mark.parametrize("fault", [None, lambda g: 1.01 * g, lambda g: -g])
def test_a_step_within_rounding_passes_no_gradient(length, fault):
    function = exponentials if fault is None else wrong(exponentials, fault)
    test = taylor_test(function, [0.1, -0.2], direction=[length, length / 2])
    assert test.order != np.inf
    if np.isnan(test.order):
        assert test.message.startswith("cannot tell: an error of one per cent is")
    else:
        assert abs(test.order - (2 if fault is None else 1)) < 0.2
    assert length > 1e-14 or np.isnan(test.order)
    assert length < 1e-5 or not np.isnan(test.order)


def test_an_operator_of_any_size_is_told_from_a_wrong_one():
    wrong = dot_test(lambda u: L @ u, lambda v: -L.T @ v, (4,))
    for k in (1e-300, 1e-200, 1e200, 1e300):
        assert dot_test(lambda u, k=k: k * L @ u, lambda v, k=k: k * L.T @ v, (4,)) < ROUNDING
        found = dot_test(lambda u, k=k: k * L @ u, lambda v, k=k: -k * L.T @ v, (4,))
        assert found == pytest.approx(wrong, rel=1e-9)


def test_steps_on_which_the_function_overflows_are_left_out():
    def value_and_gradient(z):
        x = float(z[0])
        return (float("inf") if abs(x) > 0.3 else np.cosh(x)), np.sinh(z)

    test = taylor_test(value_and_gradient, [0.1], direction=[1.0])
    assert np.isinf(test.remainders[:2]).all()
    assert test.order == pytest.approx(2, abs=ORDER)


def test_the_result_is_a_record():
    test = taylor_test(rosenbrock, [-1.2, 1.0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        test.order = 2
    assert len(test.steps) == len(test.remainders) == 12
