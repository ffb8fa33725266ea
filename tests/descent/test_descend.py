"""The descent loop on functions whose minimisers are known without it."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize

import lqrad
from lqrad.descent.descend import descend
from lqrad.descent.methods import METHODS
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError, Status
from lqrad.linalg.lanczos import extreme_eigenvalues

STEPPED = ("gradient", "heavy-ball", "nesterov")
EPS = np.finfo(float).eps


def symmetric(rng, eigenvalues):
    """A random symmetric matrix with the given eigenvalues."""
    Q, _ = np.linalg.qr(rng.normal(size=(len(eigenvalues), len(eigenvalues))))
    H = (Q * eigenvalues) @ Q.T
    return (H + H.T) / 2


def quadratic(H, b, *, bound=False, products=True, constant=0.0):
    """J(z) = 1/2 z'Hz - b'z + constant; its gap is at most |g|^2 / (2 mu)."""
    mu = np.linalg.eigvalsh(H)[0] if bound else None
    return Objective(
        shape=b.shape,
        value_and_gradient=lambda z: (0.5 * z @ H @ z - b @ z + constant, H @ z - b),
        hessian_product=(lambda z, v: H @ v) if products else None,
        gap_bound=(lambda g: 0.5 * g @ g / mu) if bound else None,
        quadratic=True,
    )


def rosenbrock(*, hessian=False):
    """Its minimum, 0, is at (1, 1), at the end of a curved valley."""

    def value_and_gradient(z):
        x, y = z
        slope = np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2, slope

    def hessian_product(z, v):
        x, y = z
        return np.array([[2 - 400 * (y - 3 * x * x), -400 * x], [-400 * x, 200.0]]) @ v

    return Objective((2,), value_and_gradient, hessian_product if hessian else None)


def barrier(weights):
    """J(z) = sum of w z - log(z), minimal at z = 1/w, and not finite where a z is not positive."""

    def value_and_gradient(z):
        if z.min() <= 0:
            raise NonFiniteError("the logarithm of a number that is not positive.")
        return float(np.sum(weights * z - np.log(z))), weights - 1 / z

    return Objective(weights.shape, value_and_gradient)


def rates(norms):
    """The factors by which successive gradient norms fall."""
    return norms[1:] / norms[:-1]


class TestQuadratics:
    @pytest.mark.parametrize("products", [True, False], ids=["products", "gradients only"])
    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_finds_the_solution_of_the_linear_system(self, method, products):
        for seed in range(8):
            rng = np.random.default_rng(seed)
            size = [1, 2, 3, 7, 20, 45][seed % 6]
            H = symmetric(rng, rng.uniform(0.05, 2.0, size))
            b = rng.normal(size=size)
            objective = quadratic(H, b, products=products)
            result = descend(
                objective, rng.normal(size=size), method=method, tol=1e-11, max_iter=5000
            )
            assert result.status is Status.CONVERGED_GRADIENT, result
            # |z - z*| <= |g| / mu, with |g| <= tol |g(start)|.
            allowed = 1e-11 * result.history.gradient_norm[0] / np.linalg.eigvalsh(H)[0]
            error = np.linalg.norm(result.solution - np.linalg.solve(H, b))
            assert error <= allowed + 100 * EPS * np.linalg.norm(b) / np.linalg.eigvalsh(H)[0]

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("tol", [1e-8, 1e-18])
    def test_the_gap_is_proven_and_never_below_the_true_one(self, method, tol):
        rng = np.random.default_rng(1)
        H, b = symmetric(rng, np.geomspace(0.02, 1, 30)), 1e-3 * rng.normal(size=30)
        solution = np.linalg.solve(H, b)
        result = descend(quadratic(H, b, bound=True), method=method, tol=tol, max_iter=5000)
        assert result.status is Status.CONVERGED_GAP
        assert result.gap_bound <= tol * abs(result.cost)
        error = result.solution - solution
        rounding = 1e3 * EPS**2 * abs(result.cost)  # of the solution of the linear system
        assert 0.5 * error @ H @ error <= result.gap_bound + rounding
        assert np.linalg.norm(error) <= 30 * np.sqrt(tol) * np.linalg.norm(solution)

    def test_arrays_of_any_shape_are_descended_on(self):
        rng = np.random.default_rng(2)
        weights = rng.uniform(0.5, 2, (2, 3, 4))
        target = rng.normal(size=(2, 3, 4))
        objective = Objective(
            (2, 3, 4),
            lambda z: (0.5 * np.sum(weights * (z - target) ** 2), weights * (z - target)),
            lambda z, v: weights * v,
            quadratic=True,
        )
        for method in METHODS:
            result = descend(objective, np.asfortranarray(0 * target), method=method, tol=1e-12)
            assert result.solution.shape == result.gradient.shape == (2, 3, 4)
            np.testing.assert_allclose(result.solution, target, atol=1e-10)

    @pytest.mark.parametrize("method", METHODS)
    def test_a_number_is_an_array_of_shape_nothing(self, method):
        objective = Objective((), lambda z: (0.5 * z * z - z, z - 1), lambda z, v: v, None, True)
        result = descend(objective, method=method, tol=1e-12)
        assert result.solution.shape == ()
        assert result.solution == pytest.approx(1)

    @pytest.mark.parametrize("rank", [1, 2, 5, 9])
    def test_conjugate_gradients_end_in_rank_plus_one_steps(self, rank):
        for seed in range(5):
            rng = np.random.default_rng(seed)
            eigenvalues = np.r_[rng.uniform(0.5, 2, rank), np.zeros(12 - rank)]
            H = symmetric(rng, eigenvalues)
            objective = quadratic(H, H @ rng.normal(size=12))  # b in the range of H
            convex = replace(objective, curvature=0.0)  # else it is looked for what may fall
            result = descend(convex, rng.normal(size=12), method="conjugate-gradient", tol=1e-9)
            assert result.status is Status.CONVERGED_GRADIENT
            assert result.iterations <= rank + 1
            assert result.products == result.iterations
            assert result.evaluations == 2  # at the start, and the proof at the end

    @pytest.mark.parametrize("method", METHODS)
    def test_a_singular_hessian_leaves_its_kernel_alone(self, method):
        rng = np.random.default_rng(3)
        H = symmetric(rng, np.r_[0.3, 0.5, 1.0, 2.0, np.zeros(3)])
        z = rng.normal(size=7)
        result = descend(quadratic(H, H @ z), method=method, max_iter=3000, tol=1e-10)
        assert result.status.converged
        np.testing.assert_allclose(H @ result.solution, H @ z, atol=1e-8)
        np.testing.assert_allclose(np.linalg.pinv(H) @ H @ z, result.solution, atol=1e-8)

    def test_gradient_descent_has_its_theoretical_rate(self):
        rng = np.random.default_rng(4)
        kappa = 50.0
        H = symmetric(rng, np.geomspace(1 / kappa, 1, 20))
        result = descend(quadratic(H, rng.normal(size=20)), tol=1e-12)
        observed = rates(result.history.gradient_norm)[-50:]
        np.testing.assert_allclose(np.log(observed), np.log((kappa - 1) / (kappa + 1)), rtol=0.02)
        np.testing.assert_allclose(result.history.step[1:], 2 / (1 + 1 / kappa), rtol=1e-12)

    def test_the_heavy_ball_has_its_theoretical_rate(self):
        rng = np.random.default_rng(5)
        kappa = 400.0
        H = symmetric(rng, np.geomspace(1 / kappa, 1, 20))
        result = descend(quadratic(H, rng.normal(size=20)), method="heavy-ball", tol=1e-12)
        # At Polyak's step the modes of mu and L have double roots: |g[k]| ~ k rho^k.
        k = np.arange(100, result.iterations)
        decay = np.polyfit(k, np.log(result.history.gradient_norm[k] / k), 1)[0]
        rho = (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
        assert decay == pytest.approx(np.log(rho), rel=0.03)

    def test_the_methods_rank_as_the_theory_says(self):
        rng = np.random.default_rng(6)
        objective = quadratic(symmetric(rng, np.geomspace(1e-3, 1, 25)), rng.normal(size=25))
        count = {m: descend(objective, method=m, max_iter=10**5).iterations for m in METHODS}
        assert count["conjugate-gradient"] < count["heavy-ball"] < count["nesterov"]
        assert 5 * count["nesterov"] < count["gradient"]

    def test_nesterov_s_restart_beats_momentum_without_restart(self):
        rng = np.random.default_rng(7)
        H, b = symmetric(rng, np.geomspace(1e-3, 1, 25)), rng.normal(size=25)
        z = y = np.zeros(25)
        t, plain = 1.0, 0
        while np.linalg.norm(H @ z - b) > 1e-8 * np.linalg.norm(b):
            t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
            z_next = y - (H @ y - b)
            y = z_next + (t - 1) / t_next * (z_next - z)
            z, t, plain = z_next, t_next, plain + 1
        result = descend(quadratic(H, b), method="nesterov", max_iter=10**4)
        assert result.status.converged
        assert result.iterations < 0.5 * plain

    def test_a_constant_step_without_momentum_is_plain_gradient_descent(self):
        rng = np.random.default_rng(14)
        H, b = symmetric(rng, np.linspace(0.1, 1, 6)), rng.normal(size=6)
        z = rng.normal(size=6)
        result = descend(quadratic(H, b), z, step_size=0.3, max_iter=20)
        for k in range(21):
            assert result.history.cost[k] == pytest.approx(0.5 * z @ H @ z - b @ z, rel=1e-12)
            z = z - 0.3 * (H @ z - b)

    def test_the_heavy_ball_follows_polyak_s_recursion(self):
        rng = np.random.default_rng(15)
        H, b = symmetric(rng, np.geomspace(0.01, 1, 6)), rng.normal(size=6)
        result = descend(quadratic(H, b), method="heavy-ball", max_iter=60, tol=0)
        alpha, beta = 4 / 1.1**2, (0.9 / 1.1) ** 2
        previous = z = np.zeros(6)
        for k in range(61):
            value = 0.5 * z @ H @ z - b @ z
            assert result.history.cost[k] == pytest.approx(value, rel=1e-9)
            z, previous = z - alpha * (H @ z - b) + beta * (z - previous), z

    def test_a_constant_step_keeps_the_momentum_uphill(self):
        objective = quadratic(np.eye(1), np.zeros(1), products=False)
        result = descend(objective, [1.0], method="heavy-ball", step_size=0.1, max_iter=60, tol=0)
        previous = z = 1.0
        for k in range(61):
            assert result.history.cost[k] == pytest.approx(0.5 * z * z, rel=1e-9, abs=1e-15)
            z, previous = z - 0.1 * z + 0.9 * (z - previous), z

    @pytest.mark.parametrize("products", [True, False])
    def test_nesterov_follows_the_recursion_with_restart(self, products):
        rng = np.random.default_rng(16)
        H, b = symmetric(rng, np.geomspace(0.003, 1, 6)), rng.normal(size=6)
        objective = quadratic(H, b, products=products)
        result = descend(objective, method="nesterov", step_size=1.0, max_iter=100, tol=0)
        previous = z = np.zeros(6)
        t, restarts = 1.0, 0
        for k in range(101):
            value = 0.5 * z @ H @ z - b @ z
            assert result.history.cost[k] == pytest.approx(value, rel=1e-9)
            t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
            y = z + (t - 1) / t_next * (z - previous)
            z_next = y - (H @ y - b)
            if 0.5 * z_next @ H @ z_next - b @ z_next > value:
                z_next = z - (H @ z - b)
                t_next, restarts = (1 + np.sqrt(5)) / 2, restarts + 1
            previous, z, t = z, z_next, t_next
        assert restarts >= 1

    @pytest.mark.parametrize("method", ["gradient", "nesterov", "conjugate-gradient"])
    @pytest.mark.parametrize("products", [True, False])
    def test_the_value_never_rises(self, method, products):
        rng = np.random.default_rng(8)
        H, b = symmetric(rng, np.geomspace(1e-3, 1, 25)), rng.normal(size=25)
        result = descend(quadratic(H, b, products=products), method=method, max_iter=3000)
        assert np.diff(result.history.cost).max() <= 1e-12 * abs(result.cost)

    @pytest.mark.parametrize("method", METHODS)
    def test_a_line_search_does_not_stop_at_the_resolution_of_the_values(self, method):
        # J = 1e6 + ... hides all below 1e-10, that is half of the digits of z.
        rng = np.random.default_rng(9)
        H, b = symmetric(rng, np.linspace(0.1, 1, 10)), rng.normal(size=10)
        objective = quadratic(H, b, products=False, constant=1e6)
        result = descend(objective, method=method, tol=1e-13, max_iter=3000)
        assert result.status.converged, result
        np.testing.assert_allclose(result.solution, np.linalg.solve(H, b), rtol=1e-10)


class TestOtherFunctions:
    @pytest.mark.parametrize("hessian", [False, True])
    @pytest.mark.parametrize("method", METHODS)
    def test_rosenbrock_is_minimised_by_every_method(self, method, hessian):
        objective = rosenbrock(hessian=hessian)
        result = descend(objective, [-1.2, 1.0], method=method, max_iter=30000, tol=1e-9)
        assert result.status is Status.CONVERGED_GRADIENT
        np.testing.assert_allclose(result.solution, 1.0, atol=2e-6)
        assert result.products == 2 * hessian  # to see that it is no saddle

    @pytest.mark.parametrize("method", METHODS)
    def test_a_line_search_comes_back_from_where_j_is_not_finite(self, method):
        weights = np.array([100.0, 90.0, 30.0])
        outside = []

        def value_and_gradient(z):
            outside.append(z.min() <= 0)
            return barrier(weights).value_and_gradient(z)

        result = descend(Objective((3,), value_and_gradient), np.ones(3), method=method, tol=1e-10)
        assert any(outside)
        assert result.status.converged, result
        assert result.evaluations < 600
        np.testing.assert_allclose(result.solution, 1 / weights, rtol=1e-7)

    @pytest.mark.parametrize("method", METHODS)
    def test_a_value_that_is_not_finite_is_rejected_as_an_error_is(self, method):
        for bad in (np.nan, np.inf, -np.inf):

            def value_and_gradient(z, bad=bad):
                return (bad, z) if z.min() <= 0 else barrier(100 * np.ones(2)).value_and_gradient(z)

            result = descend(Objective((2,), value_and_gradient), np.ones(2), method=method)
            assert result.status.converged, result

    @pytest.mark.parametrize("method", METHODS)
    def test_with_a_line_search_the_value_never_rises(self, method):
        for seed in range(5):
            start = np.random.default_rng(seed).normal(size=2)
            values = descend(rosenbrock(), start, method=method, max_iter=3000).history.cost
            assert (np.diff(values) <= 0).all()

    def test_in_one_dimension_scipy_s_conjugate_gradients_do_not_give_up(self):
        for curvature in np.arange(0.1, 3, 0.05):
            objective = quadratic(np.array([[curvature]]), np.ones(1), products=False)
            for start in (1.0, -3.0, 0.7):
                result = descend(objective, [start], method="conjugate-gradient", tol=1e-11)
                assert result.status.converged, result
                np.testing.assert_allclose(result.solution, 1 / curvature, rtol=1e-9)

    @pytest.mark.parametrize("method", ["conjugate-gradient", "l-bfgs"])
    def test_scipy_s_own_stopping_rules_are_off(self, method, monkeypatch):
        calls, minimize = [], scipy.optimize.minimize

        def counted(*args, **options):
            calls.append(1)
            return minimize(*args, **options)

        monkeypatch.setattr(scipy.optimize, "minimize", counted)
        result = descend(rosenbrock(), [-1.2, 1.0], method=method)
        assert result.status.converged
        assert len(calls) == 1

    @pytest.mark.parametrize("scale", [2.0**400, 2.0**-400])
    @pytest.mark.parametrize("method", METHODS)
    def test_the_scale_of_j_does_not_matter(self, method, scale):
        plain = rosenbrock()

        def value_and_gradient(z):
            value, gradient = plain.value_and_gradient(z)
            return scale * value, scale * gradient

        one = descend(plain, [-1.2, 1.0], method=method)
        other = descend(Objective((2,), value_and_gradient), [-1.2, 1.0], method=method)
        assert other.status is one.status
        np.testing.assert_array_equal(other.solution, one.solution)

    def test_every_step_of_the_line_search_keeps_a_share_of_its_promise(self):
        for seed in range(5):
            start = np.random.default_rng(seed).normal(size=2)
            history = descend(rosenbrock(), start, max_iter=3000).history
            promise = history.step[1:] * history.gradient_norm[:-1] ** 2
            assert (np.diff(history.cost) <= -0.29 * promise).all()

    @pytest.mark.parametrize("method", STEPPED)
    def test_a_constant_step_is_taken_as_given(self, method):
        for objective in (rosenbrock(), quadratic(np.diag([1.0, 2.0]), np.ones(2))):
            result = descend(objective, [0.5, 0.2], method=method, step_size=1e-3, max_iter=50)
            assert result.status is Status.MAX_ITER
            assert set(result.history.step[1:]) == {1e-3}

    def test_a_saddle_is_told_by_its_products_and_by_a_push_if_it_falls(self):
        saddle = Objective(
            (2,),
            lambda z: (z[0] ** 2 - 0.5 * z[1] ** 2, np.array([2, -1]) * z),
            lambda z, v: np.array([2, -1]) * v,
        )
        assert descend(saddle).status is Status.STATIONARY
        hill = Objective((2,), lambda z: (-float(z @ z), -2 * z))
        assert descend(hill).status is Status.STATIONARY


class TestProof:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("bound", [False, True])
    @pytest.mark.parametrize("tol", [0.0, 1e-36])
    def test_a_tolerance_out_of_reach_is_a_stall_with_the_best_that_can_be(
        self, method, bound, tol
    ):
        rng = np.random.default_rng(10)
        H, b = symmetric(rng, np.geomspace(0.1, 1, 20)), rng.normal(size=20)
        result = descend(quadratic(H, b, bound=bound), method=method, tol=tol, max_iter=10**4)
        assert result.status is Status.STALLED, result
        assert "rounding errors" in result.message
        assert result.iterations < 2000
        np.testing.assert_allclose(result.solution, np.linalg.solve(H, b), rtol=1e-12, atol=1e-13)
        np.testing.assert_array_equal(result.gradient, H @ result.solution - b)

    def test_conjugate_gradients_do_not_go_on_below_rounding(self):
        rng = np.random.default_rng(10)
        H, b = symmetric(rng, np.geomspace(0.1, 1, 20)), rng.normal(size=20)
        result = descend(quadratic(H, b), method="conjugate-gradient", tol=0)
        assert result.status is Status.STALLED
        assert result.iterations <= 80

    def test_where_there_is_a_bound_a_small_gradient_is_no_proof(self):
        # At the minimum J is nearly zero, and a gap that is small against it is out of reach.
        H, b = np.diag([1.0, 2.0, 7.0]), np.ones(3)
        least = -0.5 * b @ np.linalg.solve(H, b)
        objective = quadratic(H, b, bound=True, constant=1e-12 - least)
        for method in METHODS:
            result = descend(objective, method=method, tol=1e-8)
            assert result.history.gradient_norm[-1] < 1e-8 * result.history.gradient_norm[0]
            assert result.status is not Status.CONVERGED_GRADIENT

    def test_a_bound_that_is_not_finite_proves_nothing(self):
        objective = Objective((2,), lambda z: (0.5 * z @ z, z), gap_bound=lambda g: np.inf)
        result = descend(objective, [3.0, 4.0], max_iter=0)
        assert result.status is Status.MAX_ITER
        assert result.message.endswith("J = 12.5, gradient norm 5, at the start 5")

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("seed", range(5))
    def test_ill_conditioning_never_gives_a_false_proof(self, method, seed):
        # The recursions drift: with a condition of 1e14 they claim gradients that are not there.
        rng = np.random.default_rng(seed)
        H, z = symmetric(rng, np.geomspace(1e-14, 1, 30)), rng.normal(size=30)
        objective = quadratic(H, H @ z)
        for tol in (1e-6, 1e-13, 1e-17):
            result = descend(objective, 1e8 * z, method=method, tol=tol, max_iter=400)
            gradient = H @ result.solution - H @ z
            np.testing.assert_array_equal(result.gradient, gradient)
            assert result.cost == objective.value_and_gradient(result.solution)[0]
            if result.status.converged:
                first = H @ (1e8 * z) - H @ z
                assert np.linalg.norm(gradient) <= tol * np.linalg.norm(first) * (1 + 1e-12)
        assert not result.status.converged  # 1e-17 of it is below its rounding errors

    def test_conjugate_gradients_begin_anew_where_their_recursion_has_drifted(self):
        # The rank-one product is wrong by 1%: only fresh gradients lead to the solution.
        H, b = np.diag([1.0, 2.0, 3.0]), np.ones(3)
        objective = Objective(
            (3,),
            lambda z: (0.5 * z @ H @ z - b @ z, H @ z - b),
            lambda z, v: 1.01 * (H @ v),
            quadratic=True,
        )
        result = descend(objective, method="conjugate-gradient", tol=1e-10)
        assert result.status is Status.CONVERGED_GRADIENT
        assert result.iterations > 4
        np.testing.assert_allclose(result.solution, np.linalg.solve(H, b), rtol=1e-9)

    @pytest.mark.parametrize("method", METHODS)
    def test_a_wrong_gradient_is_not_a_convergence(self, method):
        objective = Objective((2,), lambda z: (0.5 * z @ z, -z))
        result = descend(objective, [3.0, 4.0], method=method)
        assert result.status is Status.STALLED
        assert "or a wrong gradient" in result.message
        if method not in STEPPED:  # SciPy finds nothing better, and nothing worse is reported
            assert result.iterations == 0
        np.testing.assert_array_equal(result.solution, [3.0, 4.0])

    @pytest.mark.parametrize("method", METHODS)
    def test_a_zero_gradient_at_the_start_is_the_end(self, method):
        for bound in (False, True):
            objective = quadratic(np.eye(2), np.ones(2), bound=bound)
            result = descend(objective, np.ones(2), method=method, tol=0)
            assert result.status.converged
            assert (result.iterations, result.evaluations) == (0, 1)
        loose = Objective((2,), lambda z: (0.5 * z @ z, z), gap_bound=lambda g: 1.0)
        assert descend(loose, method=method).status is Status.CONVERGED_GRADIENT

    def test_a_gradient_whose_square_underflows_is_not_zero(self):
        result = descend(quadratic(1e-200 * np.eye(2), np.full(2, 1e-200)), tol=0.5, max_iter=0)
        assert result.status is Status.MAX_ITER

    def test_zero_iterations_evaluate_the_start(self):
        result = descend(rosenbrock(), [0.0, 0.0], max_iter=0)
        assert (result.cost, result.iterations, result.evaluations) == (1.0, 0, 1)
        assert result.status is Status.MAX_ITER
        np.testing.assert_array_equal(result.gradient, [-2.0, 0.0])

    @pytest.mark.parametrize("method", METHODS)
    def test_the_limit_on_iterations_is_kept(self, method):
        rng = np.random.default_rng(11)
        H, b = symmetric(rng, np.geomspace(1e-4, 1, 20)), rng.normal(size=20)
        for objective in (quadratic(H, b), quadratic(H, b, products=False)):
            result = descend(objective, method=method, max_iter=7)
            assert result.iterations == 7
            assert "stopped after 7 iterations, the limit max_iter" in result.message
            value, gradient = objective.value_and_gradient(result.solution)
            assert result.cost == value == result.history.cost[-1]
            assert value < result.history.cost[0]
            np.testing.assert_array_equal(result.gradient, gradient)

    def test_of_a_run_that_did_not_settle_the_best_iterate_is_the_solution(self):
        # In the mode of L the heavy ball first swings out to three times the error of the start.
        objective = quadratic(np.diag([1.0, 1e-4]), np.array([1.0, 0.0]))
        result = descend(objective, method="heavy-ball", max_iter=5)
        assert result.history.cost[-1] > result.history.cost[0]
        assert result.cost == result.history.cost.min()
        np.testing.assert_array_equal(result.solution, [0.0, 0.0])


class TestIllConditioning:
    """Eigenvalues from 1 to 1e18 leave no digit of the smallest; from 1 to 1e6, ten of them."""

    @staticmethod
    def objective(largest, **kind):
        return quadratic(np.geomspace(1.0, largest, 40) * np.eye(40), np.ones(40), **kind)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_cause_and_the_remedies_are_named(self, method):
        result = descend(self.objective(1e18, bound=True), method=method, max_iter=300)
        assert result.status is Status.ILL_CONDITIONED
        assert not result.status.converged
        assert re.search(
            r"ill-conditioned after \d+ iterations?(, the limit max_iter)?: the Hessian's eigenvalues reach 1e\+18",
            result.message,
        )
        assert "with_feedback" in result.message
        assert "multiple_shooting" in result.message

    def test_a_slow_descent_is_not_an_ill_conditioned_one(self):
        result = descend(self.objective(1e6, bound=True), max_iter=50)
        assert result.status is Status.MAX_ITER

    @pytest.mark.parametrize("kind", [{"products": False, "bound": True}, {"bound": False}])
    def test_it_is_not_claimed_of_what_may_be_singular_or_is_not_known(self, kind):
        result = descend(self.objective(1e18, **kind), max_iter=50, step_size=1e-18)
        assert result.status is Status.MAX_ITER

    def test_the_pendulum_balanced_for_four_seconds(self):
        """Its spectral radius is 1.118, and 1.118^400 is more than 1/eps."""
        system = lqrad.systems.SYSTEMS["inverted-pendulum"]()
        result = descend(system.problem().objective(system.x0, 200))
        assert result.status is Status.ILL_CONDITIONED
        assert result.cost > 10 * lqrad.riccati(system.problem(), 200).rollout(system.x0).cost


class TestDivergence:
    def test_a_step_that_is_too_large_is_named_with_the_limit(self):
        H = np.diag([1.0, 4.0])
        result = descend(quadratic(H, np.ones(2)), step_size=0.8)
        assert result.status is Status.DIVERGED
        assert re.search(r"diverged at iteration \d+: J went from 0 to", result.message)
        assert result.remedy == (
            "try a step_size smaller than 0.8 (gradient descent needs less than 2/L = 0.5), "
            "or method='conjugate-gradient'"
        )
        assert result.iterations < 60
        assert np.isfinite(result.solution).all()
        assert result.cost == result.history.cost.min()

    @pytest.mark.parametrize("method", STEPPED)
    def test_without_hessian_products_the_limit_is_not_known(self, method):
        objective = quadratic(np.diag([1.0, 4.0]), np.ones(2), products=False)
        result = descend(objective, method=method, step_size=30.0)
        assert result.status is Status.DIVERGED
        assert "2/L" not in result.message
        assert "try a step_size smaller than 30, or" in result.remedy

    def test_a_step_just_below_the_limit_converges(self):
        objective = quadratic(np.diag([1.0, 4.0]), np.ones(2))
        assert descend(objective, step_size=0.499, max_iter=10**4).status.converged

    def test_the_objective_s_own_sentence_is_quoted(self):
        result = descend(barrier(np.ones(3)), [1.5, 1.5, 1.5], step_size=10.0)
        assert result.status is Status.DIVERGED
        assert "at iteration 1: the logarithm of a number that is not positive; J" in result.what
        assert result.remedy.startswith("try a step_size smaller than 10, or")
        np.testing.assert_array_equal(result.solution, 1.5)

    @pytest.mark.parametrize("step_size", [1.0, 1e120])
    @pytest.mark.parametrize("method", STEPPED)
    def test_an_overflow_is_a_status_without_a_warning(self, method, step_size):
        quartic = Objective((2,), lambda z: (float(np.sum(z**4)), 4 * z**3))
        result = descend(quartic, [3.0, 2.0], method=method, step_size=step_size)
        assert result.status is Status.DIVERGED
        assert np.isfinite(result.history.cost).all()
        assert result.cost == result.history.cost.min()

    def test_where_a_product_fails_the_solution_is_one_that_was_evaluated(self):
        H, b, calls = np.diag([1.0, 2.0, 3.0, 4.0]), np.ones(4), []

        def hessian_product(z, v):
            calls.append(1)
            if len(calls) == 3:
                raise NonFiniteError("the product overflowed")
            return H @ v

        plain = quadratic(H, b)
        objective = Objective((4,), plain.value_and_gradient, hessian_product, None, True)
        result = descend(objective, method="conjugate-gradient")
        assert result.status is Status.DIVERGED
        assert "at iteration 3: the product overflowed; J" in result.what
        assert result.remedy == "try method='l-bfgs'"
        assert len(result.history.cost) == 3
        np.testing.assert_array_equal(result.gradient, H @ result.solution - b)

    @pytest.mark.parametrize("method", ["gradient", "heavy-ball", "nesterov", "conjugate-gradient"])
    def test_a_quadratic_without_a_minimum_is_found_out(self, method):
        for eigenvalues in ([1.0, -0.5, 2.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -3.0]):
            objective = quadratic(np.diag(eigenvalues), np.ones(3))
            result = descend(objective, method=method)
            assert result.status is Status.DIVERGED
            assert "hence no minimum" in result.message

    def test_a_product_that_is_not_finite_is_a_divergence(self):
        objective = Objective((2,), lambda z: (z @ z, 2 * z), lambda z, v: v * np.nan, None, True)
        told = {"gradient": "product with a vector is not finite", "conjugate-gradient": "J is nan"}
        for method, words in told.items():
            result = descend(objective, [1.0, 2.0], method=method)
            assert result.status is Status.DIVERGED
            assert words in result.message

    def test_the_heavy_ball_s_first_swing_is_no_divergence(self):
        # All of the error in the mode of L, where the transient is the largest.
        objective = quadratic(np.diag([1.0, 1e-6]), np.array([1.0, 0.0]))
        result = descend(objective, method="heavy-ball", max_iter=30000)
        assert result.history.cost.max() > 1e4 * abs(result.cost)
        assert result.status.converged


class TestHistoryAndCallback:
    @pytest.mark.parametrize("bound", [False, True])
    @pytest.mark.parametrize("method", METHODS)
    def test_the_history_has_one_entry_per_iterate(self, method, bound):
        rng = np.random.default_rng(12)
        H, b = symmetric(rng, np.geomspace(0.1, 1, 8)), rng.normal(size=8)
        start = rng.normal(size=8)
        objective = quadratic(H, b, bound=bound)
        seen = []
        result = descend(objective, start, method=method, callback=seen.append)
        history = result.history
        assert len(history.cost) == len(history.step) == result.iterations + 1
        assert [it.iteration for it in seen] == list(range(result.iterations + 1))
        assert [it.step for it in seen] == list(history.step)
        assert history.step[0] == 0
        assert (history.step[1:] > 0).all()
        assert (history.gap_bound is None) == (not bound)
        for k, iterate in enumerate(seen):
            value, gradient = objective.value_and_gradient(iterate.z)
            norm = np.linalg.norm(gradient)
            rounding = 1e-13 * history.gradient_norm[0]
            assert history.cost[k] == pytest.approx(value, rel=1e-12)
            assert history.gradient_norm[k] == pytest.approx(norm, rel=1e-9, abs=rounding)
            if bound:
                expected = objective.gap_bound(gradient)
                assert history.gap_bound[k] == pytest.approx(expected, rel=1e-6)
        np.testing.assert_array_equal(seen[0].z, start)
        np.testing.assert_array_equal(seen[-1].z, result.solution)
        assert history.cost[-1] == result.cost

    @pytest.mark.parametrize("method", METHODS)
    def test_the_callback_stops_where_it_says(self, method):
        rng = np.random.default_rng(13)
        H, b = symmetric(rng, np.geomspace(1e-3, 1, 20)), rng.normal(size=20)
        for products in (True, False):
            seen = []

            def stop(iterate, seen=seen):
                seen.append(iterate)
                return iterate.iteration == 3

            objective = quadratic(H, b, products=products)
            result = descend(objective, method=method, callback=stop)
            assert result.status is Status.CALLBACK
            assert result.iterations == 3
            assert "stopped after 3 iterations by the callback" in result.message
            np.testing.assert_array_equal(result.solution, seen[-1].z)

    @pytest.mark.parametrize("kind", [KeyError, NonFiniteError, StopIteration])
    @pytest.mark.parametrize("method", METHODS)
    def test_an_exception_of_the_callback_is_passed_on(self, method, kind):
        def callback(iterate):
            assert iterate.iteration <= 2
            if iterate.iteration == 2:
                raise kind("from the callback")

        objective = quadratic(np.diag([1.0, 2.0, 3.0]), np.ones(3), products=False)
        with pytest.raises(kind, match="from the callback"):
            descend(objective, method=method, callback=callback)

    def test_what_the_callback_sees_cannot_be_modified(self):
        def vandal(iterate):
            iterate.z[:] = 0

        with pytest.raises(ValueError, match="read-only"):
            descend(rosenbrock(), callback=vandal)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_start_is_not_modified_and_the_solution_is_free(self, method):
        start = np.array([-1.2, 1.0])
        iterates = []
        result = descend(rosenbrock(), start, method=method, callback=iterates.append)
        np.testing.assert_array_equal(start, [-1.2, 1.0])
        assert not np.shares_memory(start, iterates[0].z)
        last = iterates[-1].z.copy()
        result.solution[:] = result.gradient[:] = 7
        np.testing.assert_array_equal(iterates[-1].z, last)

    @pytest.mark.parametrize("method", METHODS)
    def test_an_objective_may_reuse_its_arrays(self, method):
        H, b = np.diag([1.0, 2.0, 5.0]), np.ones(3)
        gradient, product = np.empty(3), np.empty(3)

        def value_and_gradient(z):
            np.subtract(H @ z, b, out=gradient)
            return 0.5 * z @ H @ z - b @ z, gradient

        def hessian_product(z, v):
            return np.matmul(H, v, out=product)

        shared = Objective((3,), value_and_gradient, hessian_product, None, True)
        result = descend(shared, method=method, tol=1e-12)
        reference = descend(quadratic(H, b), method=method, tol=1e-12)
        np.testing.assert_array_equal(result.solution, reference.solution)

    def test_the_gradient_may_be_the_point_itself(self):
        bowl = Objective((2,), lambda z: (0.5 * z @ z, z), lambda z, v: v, None, True)
        for method in METHODS:
            result = descend(bowl, [3.0, 4.0], method=method, tol=1e-12)
            np.testing.assert_allclose(result.solution, 0, atol=1e-11)

    @pytest.mark.parametrize("method", METHODS)
    def test_evaluations_and_products_are_counted(self, method):
        count = {"evaluations": 0, "products": 0}
        plain = quadratic(np.diag([1.0, 3.0, 9.0]), np.ones(3))

        def value_and_gradient(z):
            count["evaluations"] += 1
            return plain.value_and_gradient(z)

        def hessian_product(z, v):
            count["products"] += 1
            return plain.hessian_product(z, v)

        objective = Objective((3,), value_and_gradient, hessian_product, None, True)
        result = descend(objective, method=method)
        assert result.evaluations == count["evaluations"]
        assert result.products == count["products"]

    def test_an_iterate_of_scipy_s_need_not_be_its_last_trial(self, monkeypatch):
        def minimize(value_and_gradient, start, *, callback, **options):
            value_and_gradient(np.array([0.5, 0.5]))
            value_and_gradient(np.array([9.0, 9.0]))
            with suppress(StopIteration):
                callback(np.array([0.5, 0.5]))

        monkeypatch.setattr(scipy.optimize, "minimize", minimize)
        result = descend(rosenbrock(), [1.0, -1.0], method="l-bfgs", max_iter=1)
        assert list(result.history.cost) == [400.0, 6.5]

    def test_nesterov_evaluates_a_quadratic_once_per_step(self):
        result = descend(quadratic(np.diag([1.0, 1.0, 1.0]), np.ones(3)), method="nesterov")
        assert result.evaluations == result.iterations + 1

    def test_the_repr_is_a_line_with_method_status_value_and_proof(self):
        objective = quadratic(np.eye(2), np.array([3.0, 4.0]), bound=True)
        result = descend(objective, method="conjugate-gradient")
        assert repr(result) == (
            "<Descent by conjugate-gradient: converged after 1 iteration; J = -12.5, "
            "proven to be within 0 of the minimum>"
        )
        without = descend(quadratic(np.eye(2), np.array([3.0, 4.0])), max_iter=0)
        assert repr(without) == (
            "<Descent by gradient: stopped after 0 iterations, the limit max_iter; J = 0, "
            "gradient norm 5, at the start 5>"
        )
        assert result.seconds > 0


class TestProgress:
    def test_with_tqdm_there_is_a_bar(self, capsys):
        pytest.importorskip("tqdm")
        result = descend(rosenbrock(), method="l-bfgs", progress=True)
        assert result.status.converged
        out, err = capsys.readouterr()
        assert not out
        assert f"{result.iterations}/1000" in err
        assert "converged" not in err
        assert err.startswith("\rl-bfgs: ")

    def test_without_tqdm_there_is_a_line(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        result = descend(rosenbrock(), method="l-bfgs", progress=True)
        assert capsys.readouterr() == ("", f"{result}\n")

    def test_by_default_there_is_nothing(self, capsys):
        descend(rosenbrock())
        assert capsys.readouterr() == ("", "")


class TestBadInput:
    def test_an_unknown_method_gets_the_list(self):
        with pytest.raises(ArgumentError, match="method is 'newton', expected one of: gradient, "):
            descend(rosenbrock(), method="newton")

    @pytest.mark.parametrize("step_size", [0, -1.0, np.nan, np.inf])
    def test_a_step_size_is_positive(self, step_size):
        with pytest.raises(ArgumentError, match=r"step_size is .*, expected a positive number"):
            descend(rosenbrock(), step_size=step_size)

    @pytest.mark.parametrize("method", ["conjugate-gradient", "l-bfgs"])
    def test_a_step_size_for_a_method_without_one(self, method):
        message = f"step_size is 0.1, but method='{method}' finds its own; .*: gradient, heavy-ball"
        with pytest.raises(ArgumentError, match=message):
            descend(rosenbrock(), method=method, step_size=0.1)

    @pytest.mark.parametrize("tol", [-1e-8, np.nan, np.inf])
    def test_a_tolerance_is_at_least_zero(self, tol):
        with pytest.raises(ArgumentError, match=r"tol is .*, expected a number of at least 0"):
            descend(rosenbrock(), tol=tol)

    def test_numbers_are_numbers(self):
        with pytest.raises(DtypeError, match="tol is 'small', expected a real number"):
            descend(rosenbrock(), tol="small")
        with pytest.raises(DtypeError, match=r"step_size is \[0.1, 0.2\], expected a real number"):
            descend(rosenbrock(), step_size=[0.1, 0.2])

    @pytest.mark.parametrize("max_iter", [-1, 2.5, True])
    def test_a_limit_on_iterations_is_a_whole_number(self, max_iter):
        with pytest.raises(ArgumentError, match=r"max_iter is .* whole number of at least 0"):
            descend(rosenbrock(), max_iter=max_iter)

    def test_the_start_has_the_objective_s_shape_and_is_finite(self):
        with pytest.raises(ShapeError, match=r"start has shape \(3,\), expected \(2,\) as the obj"):
            descend(rosenbrock(), np.zeros(3))
        with pytest.raises(NonFiniteError, match=r"start\[1\] is nan"):
            descend(rosenbrock(), [0.0, np.nan])
        with pytest.raises(DtypeError, match="start holds complex numbers"):
            descend(rosenbrock(), [0.0, 1j])

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        ("objective", "reason"),
        [
            (barrier(np.ones(3)), "the logarithm of a number"),
            (
                Objective((1,), lambda z: (np.inf, np.ones(1))),
                "J is inf, with a gradient of norm 1",
            ),
            (
                Objective((1,), lambda z: (0.0, np.full(1, np.nan))),
                "J is 0, with a gradient of nor",
            ),
        ],
        ids=["error", "value", "gradient"],
    )
    def test_a_start_without_a_finite_value_diverges_at_once(self, objective, reason, method):
        result = descend(objective, method=method)
        assert result.status is Status.DIVERGED
        assert result.message.startswith(f"diverged at the start: {reason}")
        assert result.iterations == 0
        assert result.cost == np.inf
        assert not result.solution.any()

    def test_what_has_no_minimum_diverges(self):
        """J = -z^2: each method runs off, and none calls that a success."""
        objective = Objective((1,), lambda z: (-float(z[0] ** 2), -2 * z))
        for method in METHODS:
            result = descend(objective, [1.0], method=method)
            assert result.status is Status.DIVERGED, method

    def test_a_gradient_of_another_shape_is_an_error(self):
        with pytest.raises(ShapeError, match=r"the gradient has shape \(1, 2\), expected \(2,\)"):
            descend(Objective((2,), lambda z: (1.0, np.ones((1, 2)))))

    def test_a_problem_is_not_an_objective(self):
        with pytest.raises(
            ArgumentError, match="objective is of type ndarray, expected Objective, such as"
        ):
            descend(np.eye(2))


class TestExtremeEigenvalues:
    @pytest.mark.parametrize("size", [1, 2, 3, 10, 30])
    def test_with_enough_products_they_are_exact(self, size):
        for seed in range(5):
            rng = np.random.default_rng(seed)
            H = symmetric(rng, rng.normal(size=size))
            found = extreme_eigenvalues(lambda v, H=H: H @ v, (size,))
            dense = np.linalg.eigvalsh(H)
            np.testing.assert_allclose(found, dense[[0, -1]], atol=1e-12 * np.abs(dense).max())

    @pytest.mark.parametrize(
        "eigenvalues",
        [
            np.r_[1 + 1e-9 * np.arange(12), 2 + 1e-9 * np.arange(12)],
            np.r_[np.zeros(100), 1e-7, 1e-3, 1],
            np.geomspace(1e-14, 1, 25),
        ],
        ids=["clusters", "low rank", "graded"],
    )
    def test_nearly_dependent_krylov_vectors_do_not_spoil_it(self, eigenvalues):
        H = symmetric(np.random.default_rng(0), eigenvalues)
        found = extreme_eigenvalues(lambda v: H @ v, eigenvalues.shape)
        np.testing.assert_allclose(found, np.linalg.eigvalsh(H)[[0, -1]], rtol=1e-9, atol=1e-14)

    @pytest.mark.parametrize("density", [lambda x: x, lambda x: x**2, lambda x: 1 - x**4])
    def test_with_few_the_largest_is_not_below_and_the_smallest_not_above_the_truth(self, density):
        spread = density(np.linspace(0, 1, 300))
        for seed in range(5):
            H = symmetric(np.random.default_rng(seed), spread)
            smallest, largest = extreme_eigenvalues(lambda v, H=H: H @ v, (300,))
            assert 1 <= largest <= 1.05
            assert -1e-12 <= smallest <= 0.05

    def test_repeated_eigenvalues_end_it_early(self):
        H = symmetric(np.random.default_rng(0), np.repeat([1.0, 2.0, 5.0], 20))
        calls = []

        def product(v):
            calls.append(1)
            return H @ v

        found = extreme_eigenvalues(product, (60,))
        np.testing.assert_allclose(found, (1, 5), rtol=1e-12)
        assert len(calls) <= 6

    def test_a_zero_hessian_and_an_identity_take_one_product(self):
        calls = []

        def scaled(factor):
            return lambda v: calls.append(1) or factor * v

        assert extreme_eigenvalues(scaled(0.0), (4, 5)) == (0, 0)
        np.testing.assert_allclose(extreme_eigenvalues(scaled(7.0), (4, 5)), 7, rtol=1e-14)
        assert len(calls) == 2

    def test_a_product_may_return_its_argument(self):
        np.testing.assert_allclose(extreme_eigenvalues(lambda v: v, (9,)), 1, rtol=1e-14)

    def test_equal_calls_have_equal_results(self):
        H = symmetric(np.random.default_rng(1), np.linspace(0, 1, 100))
        one, two = (extreme_eigenvalues(lambda v: H @ v, (100,), products=5) for _ in range(2))
        assert one == two

    def test_bad_input_is_refused(self):
        with pytest.raises(ArgumentError, match=r"shape is \(0, 3\), expected one with at least"):
            extreme_eigenvalues(lambda v: v, (0, 3))
        with pytest.raises(ArgumentError, match="products is 0"):
            extreme_eigenvalues(lambda v: v, (3,), products=0)
        with pytest.raises(NonFiniteError, match="product with a vector is not finite"):
            extreme_eigenvalues(lambda v: v * np.inf, (3,))


def test_names_of_other_packages_are_met_by_ours():
    with pytest.raises(ArgumentError, match=r"'lr'; write descend\(objective, .*step_size=\.\.\."):
        descend(rosenbrock(), lr=0.1)
