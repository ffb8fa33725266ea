"""Descent in any unit of J and of z: 2^k J(z / 2^e) is descended on as J(z) is."""

from __future__ import annotations

import numpy as np
import pytest

import lqrad
from lqrad.descent.descend import descend
from lqrad.descent.methods import METHODS
from lqrad.descent.objective import Objective
from lqrad.descent.proximal import l1
from lqrad.errors import Status

DRAWS = 6
BOUNDED = ("gradient", "nesterov", "l-bfgs")


def in_units(objective, k, e):
    """2^k J(z / 2^e), all of its numbers exact."""
    product = objective.hessian_product

    def value_and_gradient(z):
        value, gradient = objective.value_and_gradient(np.ldexp(z, -e))
        return float(np.ldexp(value, k)), np.ldexp(gradient, k - e)

    def hessian_product(z, v):
        return np.ldexp(product(np.ldexp(z, -e), np.ldexp(v, -e)), k - e)

    return Objective(
        objective.shape,
        value_and_gradient,
        None if product is None else hessian_product,
        quadratic=objective.quadratic,
    )


def quadratic(rng, size):
    Q, _ = np.linalg.qr(rng.normal(size=(size, size)))
    H = (Q * rng.uniform(0.05, 3.0, size)) @ Q.T
    H, b = (H + H.T) / 2, rng.normal(size=size)
    return Objective(
        (size,), lambda z: (0.5 * z @ H @ z - b @ z, H @ z - b), lambda z, v: H @ v, quadratic=True
    )


def logistic(rng, size):
    """The sum of log(1 + exp(a'z)), and a small quadratic: convex, and no quadratic."""
    A = rng.normal(size=(10, size))

    def value_and_gradient(z):
        value = np.sum(np.logaddexp(0, A @ z)) + 0.05 * z @ z
        return value, A.T @ (1 / (1 + np.exp(-A @ z))) + 0.1 * z

    return Objective((size,), value_and_gradient)


def drawn(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 8))
    return [make(rng, size) for make in (quadratic, logistic)], rng.normal(size=size)


def seen(result, k, e):
    """What a descent in units found, in the units of J(z)."""
    history = result.history
    return (
        np.ldexp(result.solution, -e),
        np.ldexp(history.cost, -k),
        np.ldexp(history.gradient_norm, e - k),
        np.ldexp(history.step, k - 2 * e),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [-900, -600, 300, 900])
def test_a_cost_times_a_power_of_two_is_the_same_descent(method, k):
    for seed in range(DRAWS):
        for objective in drawn(seed)[0]:
            for bounds in (None, (-0.5, 0.7))[: 1 + (method in BOUNDED)]:
                plain = descend(objective, method=method, bounds=bounds, max_iter=300)
                other = descend(
                    in_units(objective, k, 0), method=method, bounds=bounds, max_iter=300
                )
                assert (other.status, other.iterations) == (plain.status, plain.iterations)
                assert (other.evaluations, other.products) == (plain.evaluations, plain.products)
                for a, b in zip(seen(other, k, 0), seen(plain, 0, 0), strict=True):
                    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("e", [-500, 300])
def test_a_start_in_other_units_is_the_same_descent(method, e):
    """But for the rounding errors of Lanczos' eigenvalues, which set the steps on quadratics."""
    for seed in range(DRAWS):
        objectives, start = drawn(seed)
        for objective in objectives:
            plain = descend(objective, start, method=method, max_iter=300)
            other = descend(
                in_units(objective, 0, e), np.ldexp(start, e), method=method, max_iter=300
            )
            assert (other.status, other.iterations) == (plain.status, plain.iterations)
            for a, b in zip(seen(other, 0, e), seen(plain, 0, 0), strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("e", [-500, 300])
def test_from_zero_the_scale_of_the_variables_is_found(method, e):
    for seed in range(DRAWS):
        for objective in drawn(seed)[0]:
            plain = descend(objective, method=method, tol=1e-9, max_iter=3000)
            other = descend(in_units(objective, 0, e), method=method, tol=1e-9, max_iter=3000)
            assert other.status.converged
            assert plain.status.converged
            # |z - z*| <= |g| / mu, with mu >= 0.05 and |g| <= 1e-9 |g(start)|.
            allowed = 2 * 1e-9 * plain.history.gradient_norm[0] / 0.05
            error = np.linalg.norm(np.ldexp(other.solution, -e) - plain.solution)
            assert error <= allowed


@pytest.mark.parametrize("k", [-900, 900])
def test_a_regulariser_scales_with_its_weight(k):
    for method in ("gradient", "nesterov"):
        for seed in range(DRAWS):
            for objective in drawn(seed)[0]:
                plain = descend(objective, method=method, regulariser=l1(0.25))
                weight = np.ldexp(0.25, k)
                other = descend(in_units(objective, k, 0), method=method, regulariser=l1(weight))
                assert (other.status, other.iterations) == (plain.status, plain.iterations)
                np.testing.assert_array_equal(other.solution, plain.solution)
                assert other.cost == np.ldexp(plain.cost, k)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("weight", "size"), [(1e-200, 1), (1e200, 1), (1, 1e-160), (1, 1e140)])
def test_a_controlled_double_integrator_in_any_unit(method, weight, size):
    """The cost underflows where the state is 1e-160: then the gradient decides, and is right."""
    A, B = [[1, 0.1], [0, 1]], [[0.005], [0.1]]
    problem = lqrad.LQProblem(A, B, weight * np.eye(2), [[weight]])
    result = descend(problem.objective([size, 0], 30), method=method, tol=1e-14, max_iter=3000)
    assert result.status.converged
    u = lqrad.riccati(problem, 30).rollout([size, 0]).u
    # J - J* <= tol J*, whose curvature in u is at least R.
    assert np.abs(result.solution - u).max() <= 1e-5 * np.abs(u).max()


def test_a_bound_that_underflows_proves_nothing():
    """|g|^2 / 2 is zero in floats where g is 1e-170, and the gap is not."""
    target = 1e-170 * np.arange(1.0, 4.0)
    weights = np.array([1.0, 2.0, 5.0])
    bowl = Objective(
        (3,),
        lambda z: (0.5 * float(weights @ (z - target) ** 2), weights * (z - target)),
        lambda z, v: weights * v,
        lambda g: 0.5 * float(g @ g),
        quadratic=True,
    )
    result = descend(bowl, method="conjugate-gradient")
    assert result.status is Status.CONVERGED_GRADIENT
    assert result.gap_bound is None
    np.testing.assert_allclose(result.solution, target, rtol=1e-7)


class TestStationary:
    """Where the gradient is zero, Hessian products tell a saddle from a minimum."""

    def test_a_saddle_on_a_symmetric_start(self):
        """J = x^2 + (y^2 - 1)^2 / 4 from y = 0: descent never leaves the ridge."""
        saddle = Objective(
            (2,),
            lambda z: (
                float(z[0] ** 2 + (z[1] ** 2 - 1) ** 2 / 4),
                np.array([2 * z[0], z[1] * (z[1] ** 2 - 1)]),
            ),
            lambda z, v: np.array([2 * v[0], (3 * z[1] ** 2 - 1) * v[1]]),
        )
        for method in METHODS:
            on_ridge = descend(saddle, [1.0, 0.0], method=method)
            assert on_ridge.status is Status.STATIONARY, on_ridge
            assert not on_ridge.status.converged
            assert "the cost falls along a direction of curvature -1;" in on_ridge.message
            beside = descend(saddle, [1.0, 0.1], method=method)
            assert beside.status is Status.CONVERGED_GRADIENT

    @pytest.mark.parametrize("method", ["conjugate-gradient", "l-bfgs"])
    @pytest.mark.parametrize("seed", range(5))
    def test_a_start_in_an_invariant_subspace_of_a_saddle(self, seed, method):
        """Of the one direction that falls, none of the gradients has a part."""
        rng = np.random.default_rng(seed)
        n = rng.integers(2, 40)
        directions = np.linalg.qr(rng.normal(size=(n, n)))[0]
        H = (directions * np.r_[-1e-3, rng.uniform(1, 10, n - 1)]) @ directions.T
        H = (H + H.T) / 2
        saddle = Objective(
            (n,), lambda z: (0.5 * float(z @ H @ z), H @ z), lambda z, v: H @ v, quadratic=True
        )
        start = directions[:, 1:] @ rng.normal(size=n - 1)
        result = descend(saddle, start, method=method)
        assert result.iterations
        assert result.status is Status.STATIONARY
        assert "the cost falls along a direction of curvature -0.001" in result.message

    @pytest.mark.parametrize("method", METHODS)
    def test_a_start_at_a_maximum(self, method):
        hill = Objective((1,), lambda z: (-float(z @ z), -2 * z), lambda z, v: -2 * v, None, True)
        assert descend(hill, [0.0], method=method).status is Status.STATIONARY

    @pytest.mark.parametrize("method", BOUNDED)
    def test_variables_at_a_bound_are_held_by_it(self, method):
        """J = -z^2 on [0, 1] has its minimum at 1, where its curvature is negative all the same."""
        hill = Objective((1,), lambda z: (-float(z @ z), -2 * z), lambda z, v: -2 * v)
        result = descend(hill, [0.5], method=method, bounds=(0.0, 1.0))
        assert result.status is Status.CONVERGED_GRADIENT
        assert result.solution == 1.0

    @pytest.mark.parametrize("method", METHODS)
    def test_a_cusp_that_points_up(self, method):
        """J = (1 - |x|)^2 + y^2 at x = 0, where differences to both sides cancel to a gradient of zero."""
        cusp = Objective(
            (2,),
            lambda z: (
                float((1 - abs(z[0])) ** 2 + z[1] ** 2),
                np.array([-2 * (1 - abs(z[0])) * np.sign(z[0]), 2 * z[1]]),
            ),
        )
        result = descend(cusp, [0.0, 1.0], method=method)
        assert result.status is Status.STATIONARY
        assert "and the cost falls along a direction, to 0.99" in result.message

    @pytest.mark.parametrize("method", METHODS)
    def test_a_kink_that_is_a_minimum(self, method):
        """J = |x| + y^2, whose subgradient at x = 0 is zero."""
        kink = Objective(
            (2,), lambda z: (float(abs(z[0]) + z[1] ** 2), np.array([np.sign(z[0]), 2 * z[1]]))
        )
        assert descend(kink, [0.0, 1.0], method=method).status.converged
