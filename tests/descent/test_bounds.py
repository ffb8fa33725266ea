"""Descent within bounds and with a regulariser, on problems that other methods solve too."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize

from lqrad.descent.descend import descend
from lqrad.descent.methods import METHODS
from lqrad.descent.objective import Objective, diagonal_below
from lqrad.descent.proximal import l1
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError, Status
from lqrad.lq.problem import LQProblem

PROXIMAL = ("gradient", "nesterov")
BOUNDED = (*PROXIMAL, "l-bfgs")
EPS = np.finfo(float).eps


def symmetric(rng, eigenvalues):
    """A random symmetric matrix with the given eigenvalues."""
    Q, _ = np.linalg.qr(rng.normal(size=(len(eigenvalues), len(eigenvalues))))
    H = (Q * eigenvalues) @ Q.T
    return (H + H.T) / 2


def quadratic(H, b, *, curvature=None, products=True):
    """J(z) = 1/2 z'Hz - b'z."""
    return Objective(
        shape=b.shape,
        value_and_gradient=lambda z: (0.5 * z @ H @ z - b @ z, H @ z - b),
        hessian_product=(lambda z, v: H @ v) if products else None,
        quadratic=products,
        curvature=curvature,
    )


def smallest(H):
    return float(np.linalg.eigvalsh(H)[0])


def box_solution(H, b, lo, hi):
    """The minimiser of 1/2 z'Hz - b'z in a box: SciPy's active-set method on H = L L'."""
    L = np.linalg.cholesky(H)
    found = scipy.optimize.lsq_linear(
        L.T, np.linalg.solve(L, b), (lo, hi), method="bvls", tol=1e-15, max_iter=1000
    )
    assert found.status in (1, 2, 3)
    return found.x


def lasso_solution(H, b, weight, lo=-np.inf, hi=np.inf, sweeps=4000):
    """The minimiser of 1/2 z'Hz - b'z + weight |z|_1 in a box, one coordinate after the other."""
    z = np.zeros(len(b))
    for _ in range(sweeps):
        before = z.copy()
        for i in range(len(b)):
            pull = b[i] - H[i] @ z + H[i, i] * z[i]
            z[i] = np.sign(pull) * max(abs(pull) - weight, 0.0) / H[i, i]
            z[i] = min(max(z[i], lo), hi)
        if np.array_equal(before, z):
            break
    return z


def case(seed, size=12, condition=30.0):
    rng = np.random.default_rng(seed)
    H, b = symmetric(rng, np.geomspace(1, condition, size)), 5 * rng.normal(size=size)
    return H, b, rng


class TestBounds:
    @pytest.mark.parametrize("products", [True, False], ids=["quadratic", "gradients only"])
    @pytest.mark.parametrize("method", BOUNDED)
    def test_every_method_finds_what_an_active_set_method_finds(self, method, products):
        active = 0
        for seed in range(6):
            H, b, rng = case(seed)
            lo, hi = -rng.uniform(0, 0.3, 12), rng.uniform(0, 0.3, 12)
            objective = quadratic(H, b, products=products)
            result = descend(
                objective, rng.normal(size=12), method=method, bounds=(lo, hi), tol=1e-11
            )
            assert result.status is Status.CONVERGED_GRADIENT, result
            np.testing.assert_allclose(
                result.solution, box_solution(H, b, lo, hi), rtol=1e-8, atol=1e-9
            )
            assert ((lo <= result.solution) & (result.solution <= hi)).all()
            active += np.sum((result.solution == lo) | (result.solution == hi))
        assert 10 < active < 60  # some entries are held by a bound, exactly, and some are not

    @pytest.mark.parametrize("method", BOUNDED)
    def test_the_conditions_of_karush_kuhn_and_tucker_hold(self, method):
        H, b, _ = case(20)
        z = (
            result := descend(quadratic(H, b), method=method, bounds=(-0.1, 0.2), tol=1e-11)
        ).solution
        g, small = result.gradient, 1e-8
        np.testing.assert_array_equal(g, H @ z - b)
        assert np.abs(g[(z > -0.1) & (z < 0.2)]).max() < small
        assert (g[z == -0.1] > -small).all()
        assert (g[z == 0.2] < small).all()

    @pytest.mark.parametrize("method", BOUNDED)
    def test_no_iterate_leaves_the_bounds(self, method):
        H, b, rng = case(3)
        lo, hi = np.sort(rng.normal(size=(2, 12)), axis=0)
        seen = []
        for products in (True, False):
            objective = quadratic(H, b, products=products)
            descend(
                objective, method=method, bounds=(lo, hi), callback=lambda it: seen.append(it.z)
            )
        assert len(seen) > 10
        assert all(((lo <= z) & (z <= hi)).all() for z in seen)

    @pytest.mark.parametrize("method", BOUNDED)
    def test_a_function_is_never_asked_outside(self, method):
        """J = sum z log z - z is not defined for z < 0, and minimal at min(1, hi)."""

        def value_and_gradient(z):
            assert (z >= 0.01).all()
            assert (z <= 1.4).all()
            return float(np.sum(w * (z * np.log(z) - z))), w * np.log(z)

        w, hi = np.geomspace(1, 100, 6), np.array([1.4, 0.5, 1.4, 0.7, 1.4, 0.2])
        objective = Objective((6,), value_and_gradient)
        for start in (0.0, 5.0, np.linspace(0.1, 0.9, 6)):
            start = np.broadcast_to(start, 6)
            result = descend(objective, start, method=method, bounds=(0.01, hi), tol=1e-10)
            # The curvature is at least min w / max z = 1/1.4.
            allowed = 1.4 * 1e-10 * result.history.gradient_norm[0]
            np.testing.assert_allclose(result.solution, np.minimum(hi, 1), atol=2 * allowed, rtol=0)

    def test_momentum_that_would_carry_past_a_bound_is_cut_off_before_anything_is_asked_there(self):
        """The slow variable arrives at its bound, z = 1, with speed."""

        def value_and_gradient(z):
            asked.append(z.copy())
            return float(w @ (z - c) ** 2 / 2 + 0.01 * np.sum(z**4)), w * (z - c) + 0.04 * z**3

        asked, w, c = [], np.array([1.0, 30.0]), np.array([2.0, 0.3])
        objective = Objective((2,), value_and_gradient)
        result = descend(objective, method="nesterov", bounds=(0.0, 1.0))
        assert result.solution[0] == 1
        assert np.max(asked) == 1

    def test_projected_gradient_is_the_recursion_with_step_one_over_l(self):
        H, b, _ = case(4)
        L = np.linalg.eigvalsh(H)[-1]
        history = descend(quadratic(H, b), bounds=(-0.1, 0.1), max_iter=15, tol=0).history
        z = np.zeros(12)
        for k in range(16):
            moved = np.clip(z - (H @ z - b) / L, -0.1, 0.1)
            assert history.cost[k] == pytest.approx(0.5 * z @ H @ z - b @ z, rel=1e-10)
            norm = L * np.linalg.norm(z - moved)
            assert history.gradient_norm[k] == pytest.approx(norm, rel=1e-9)
            z = moved
        np.testing.assert_allclose(history.step[1:], 1 / L, rtol=1e-10)

    def test_acceleration_pays(self):
        H, b, _ = case(5, size=40, condition=2e3)
        count = {
            m: descend(quadratic(H, b), method=m, bounds=(-0.5, 0.5), max_iter=10**5).iterations
            for m in PROXIMAL
        }
        assert 5 * count["nesterov"] < count["gradient"]

    def test_fista_with_restart_beats_fista(self):
        H, b, _ = case(6, size=40, condition=3e3)
        L = np.linalg.eigvalsh(H)[-1]
        z = y = np.zeros(40)
        t, plain, first = 1.0, 0, None
        while True:
            G = L * np.linalg.norm(z - np.clip(z - (H @ z - b) / L, -0.5, 0.5))
            first = first or 1e-8 * G
            if first >= G:
                break
            z_next = np.clip(y - (H @ y - b) / L, -0.5, 0.5)
            t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
            y = z_next + (t - 1) / t_next * (z_next - z)
            z, t, plain = z_next, t_next, plain + 1
        result = descend(quadratic(H, b), method="nesterov", bounds=(-0.5, 0.5), max_iter=10**4)
        assert result.status.converged
        assert result.iterations < 0.7 * plain

    @pytest.mark.parametrize("products", [True, False])
    @pytest.mark.parametrize("method", PROXIMAL)
    def test_the_value_never_rises(self, method, products):
        H, b, _ = case(7, condition=1e3)
        objective = quadratic(H, b, products=products)
        for options in ({"bounds": (-0.1, 0.3)}, {"regulariser": l1(2.0)}):
            values = descend(objective, method=method, max_iter=2000, **options).history.cost
            assert np.diff(values).max() <= 1e-12 * np.abs(values).max()

    @pytest.mark.parametrize("method", BOUNDED)
    def test_bounds_that_hold_nothing_change_nothing(self, method):
        H, b, _ = case(8)
        result = descend(quadratic(H, b), method=method, bounds=(-1e3, None), tol=1e-11)
        np.testing.assert_allclose(result.solution, np.linalg.solve(H, b), rtol=1e-8)

    @pytest.mark.parametrize("method", BOUNDED)
    def test_a_start_outside_is_moved_inside_and_equal_bounds_fix_an_entry(self, method):
        H, b, _ = case(9)
        lo, hi = np.full(12, -0.2), np.full(12, 0.2)
        lo[3] = hi[3] = 0.125
        start = np.full(12, 7.0)
        result = descend(
            quadratic(H, b), start, method=method, bounds=(lo, hi), tol=1e-11, max_iter=2000
        )
        assert result.solution[3] == 0.125
        np.testing.assert_array_equal(start, 7.0)
        free = np.arange(12) != 3
        rest = box_solution(H[free][:, free], (b - 0.125 * H[3])[free], lo[free], hi[free])
        np.testing.assert_allclose(result.solution[free], rest, rtol=1e-8, atol=1e-9)

    @pytest.mark.parametrize("method", BOUNDED)
    def test_a_function_that_is_no_quadratic(self, method):
        """Rosenbrock's valley, cut at x <= 1/2: the minimum is at (1/2, 1/4)."""

        def value_and_gradient(z):
            x, y = z
            slope = np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])
            return (1 - x) ** 2 + 100 * (y - x * x) ** 2, slope

        result = descend(
            Objective((2,), value_and_gradient),
            [-1.2, 1.0],
            method=method,
            bounds=(None, [0.5, np.inf]),
            max_iter=20000,
            tol=1e-9,
        )
        assert result.status is Status.CONVERGED_GRADIENT
        np.testing.assert_allclose(result.solution, [0.5, 0.25], atol=1e-6)

    @pytest.mark.parametrize("method", BOUNDED)
    def test_where_j_is_not_finite_a_step_is_shortened(self, method):
        weights = np.array([100.0, 90.0, 30.0])

        def value_and_gradient(z):
            if z.min() <= 0:
                raise NonFiniteError("the logarithm of a number that is not positive")
            return float(np.sum(weights * z - np.log(z))), weights - 1 / z

        result = descend(
            Objective((3,), value_and_gradient),
            np.ones(3),
            method=method,
            bounds=(-1.0, [5.0, 0.002, 5.0]),
            tol=1e-10,
        )
        assert result.status.converged, result
        np.testing.assert_allclose(result.solution, [0.01, 0.002, 1 / 30], rtol=1e-6)

    @pytest.mark.parametrize("method", BOUNDED)
    def test_within_a_box_a_quadratic_need_not_be_convex(self, method):
        H = np.diag([1.0, -2.0, -0.5])
        result = descend(quadratic(H, np.array([0.5, 0.1, -0.1])), method=method, bounds=(-1, 1))
        assert result.status.converged
        np.testing.assert_allclose(result.solution, [0.5, 1, -1], atol=1e-7)

    @pytest.mark.parametrize("method", BOUNDED)
    @pytest.mark.parametrize("eigenvalues", [[-3.0, -1.0, -0.2], [-30.0, -1.0, 0.2]])
    def test_where_no_curvature_or_little_is_positive_the_step_is_one_over_the_largest(
        self, method, eigenvalues
    ):
        """Concave: L is negative, or far smaller than the curvature that bends down."""
        H = symmetric(np.random.default_rng(0), np.array(eigenvalues))
        result = descend(quadratic(H, 0.1 * np.ones(3)), method=method, bounds=(-1, 1))
        assert result.status.converged, result
        np.testing.assert_array_equal(np.abs(result.solution), 1)
        assert (result.gradient * np.sign(result.solution)).max() < 0  # all corners but one fall
        if method in PROXIMAL:
            assert np.diff(result.history.cost).max() < 0
            np.testing.assert_allclose(result.history.step[1:], -1 / eigenvalues[0], rtol=1e-6)

    @pytest.mark.parametrize("method", BOUNDED)
    def test_a_linear_cost_goes_to_a_corner(self, method):
        b = np.array([1.0, -2.0, 3.0])
        objective = quadratic(np.zeros((3, 3)), b, curvature=0.0)
        result = descend(objective, method=method, bounds=(-1, 2))
        assert result.status.converged
        np.testing.assert_array_equal(result.solution, [2, -1, 2])
        assert result.gap_bound == 0

    @pytest.mark.parametrize("method", BOUNDED)
    def test_half_of_the_digits_are_not_all(self, method):
        # J = 1e6 + ... hides all below 1e-10.
        H, b, _ = case(10)
        plain = quadratic(H, b)
        objective = Objective((12,), lambda z: (plain.value_and_gradient(z)[0] + 1e6, H @ z - b))
        result = descend(objective, method=method, bounds=(-0.1, 0.2), tol=1e-12, max_iter=3000)
        assert result.status.converged, result
        np.testing.assert_allclose(
            result.solution, box_solution(H, b, -0.1 * np.ones(12), 0.2), atol=1e-10
        )

    @pytest.mark.parametrize("seed", range(11, 15))
    def test_momentum_is_dropped_in_time_also_where_rounding_hides_the_rise(self, seed):
        """With 1e8 added to J its values tell nothing any more; the moves still do."""
        H, b, _ = case(seed, condition=300.0)

        def iterations(offset):
            objective = Objective(
                (12,),
                lambda z: (0.5 * z @ H @ z - b @ z + offset, H @ z - b),
                lambda z, v: H @ v,
                quadratic=True,
            )
            result = descend(
                objective, method="nesterov", bounds=(-0.1, 0.2), tol=1e-12, max_iter=3000
            )
            assert result.status is Status.CONVERGED_GRADIENT
            return result.iterations

        assert iterations(1e8) <= 1.2 * iterations(0.0)

    @pytest.mark.parametrize("scale", [2.0**300, 2.0**-300])
    @pytest.mark.parametrize("method", BOUNDED)
    def test_the_scale_of_j_does_not_matter(self, method, scale):
        H, b, _ = case(11)
        one, other = (
            descend(quadratic(s * H, s * b, products=False), method=method, bounds=(-0.1, 0.2))
            for s in (1.0, scale)
        )
        assert one.status is other.status
        np.testing.assert_array_equal(one.solution, other.solution)

    def test_a_step_size_is_taken_as_given(self):
        H, b, _ = case(12)
        for method in PROXIMAL:
            result = descend(
                quadratic(H, b), method=method, bounds=(-0.1, 0.1), step_size=1e-3, max_iter=9
            )
            assert set(result.history.step[1:]) == {1e-3}

    def test_a_step_that_is_too_large_is_named(self):
        H, b = np.diag([1.0, 4.0]), np.ones(2)
        result = descend(quadratic(H, b), bounds=(-np.inf, np.inf), step_size=0.8)
        assert result.status is Status.DIVERGED
        assert "try a step_size smaller than 0.8" in result.remedy
        assert "or method='l-bfgs'" in result.message

    def test_the_inputs_of_a_control_problem(self):
        problem = LQProblem([[1, 0.1], [0, 1]], [[0.005], [0.1]], np.eye(2), [[0.1]])
        objective = problem.objective([[1.0, 0.0], [0.0, -1.0]], 20)
        results = [
            descend(objective, method=m, bounds=(-0.8, None), tol=1e-14, max_iter=5000)
            for m in BOUNDED
        ]
        for result in results:
            assert result.solution.shape == (2, 20, 1)
            assert result.status is Status.CONVERGED_GAP
            assert result.solution.min() == -0.8
            np.testing.assert_allclose(result.solution, results[0].solution, atol=1e-5)


class TestProof:
    @pytest.mark.parametrize("kind", ["scalar", "diagonal", "zero"])
    @pytest.mark.parametrize("method", BOUNDED)
    def test_the_gap_is_never_below_the_true_one(self, method, kind):
        for seed in range(4):
            H, b, rng = case(seed)
            D = rng.uniform(1, 50, 12)
            if kind == "diagonal":
                H = H - smallest(H) * np.eye(12) + np.diag(D)
            curvature = {"scalar": smallest(H), "diagonal": D, "zero": 0.0}[kind]
            objective = quadratic(H, b, curvature=curvature)
            lo, hi = -rng.uniform(0, 0.3, 12), rng.uniform(0, 0.3, 12)
            best = box_solution(H, b, lo, hi)
            least = objective.value_and_gradient(best)[0]
            history = descend(
                objective, method=method, bounds=(lo, hi), tol=1e-13, max_iter=3000
            ).history
            gaps = history.cost - least
            assert (history.gap_bound >= gaps - 1e-13 * abs(least)).all()
            assert history.gap_bound[-1] <= 1e-13 * abs(least)
            # It is a bound that says something: not far above the gap where the gap is large.
            assert history.gap_bound[0] < (200 if kind == "zero" else 60) * gaps[0]

    def test_at_any_point_in_the_box_it_is_the_least_of_the_lower_model(self):
        rng = np.random.default_rng(0)
        D, H = np.array([2.0, 5.0]), np.array([[3.0, 0.5], [0.5, 6.0]])
        for _ in range(20):
            b, z = 4 * rng.normal(size=2), rng.uniform(-1, 0.5, 2)
            result = descend(
                quadratic(H, b, curvature=D), z, bounds=(-1.0, 0.5), max_iter=0, regulariser=l1(0.7)
            )
            grid = np.linspace(-1, 0.5, 1501)
            rise = np.zeros(2)
            for i in range(2):
                d = grid - z[i]
                g = (H @ z - b)[i]
                model = g * d + 0.5 * D[i] * d * d + 0.7 * (np.abs(grid) - abs(z[i]))
                rise[i] = model.min()
            assert result.gap_bound == pytest.approx(-rise.sum(), abs=1e-4)
            assert result.gap_bound >= -rise.sum() - 1e-12

    @pytest.mark.parametrize("tol", [1e-8, 1e-18])
    @pytest.mark.parametrize("method", BOUNDED)
    def test_a_tolerance_far_below_rounding_can_be_proven(self, method, tol):
        H, b, _ = case(2)
        objective = quadratic(H, b, curvature=0.99 * smallest(H))
        result = descend(objective, method=method, bounds=(-0.1, 0.2), tol=tol, max_iter=3000)
        assert result.status is Status.CONVERGED_GAP, result
        assert result.gap_bound <= tol * abs(result.cost)
        best = box_solution(H, b, -0.1 * np.ones(12), 0.2)
        # mu/2 |z - z*|^2 <= gap
        error = math.sqrt(2 * tol * abs(result.cost) / smallest(H))
        assert np.linalg.norm(result.solution - best) <= error + 1e-13

    @pytest.mark.parametrize("method", PROXIMAL)
    def test_with_a_regulariser_too(self, method):
        for seed in range(4):
            H, b, _ = case(seed)
            objective = quadratic(H, b, curvature=0.99 * smallest(H))
            best = lasso_solution(H, b, 3.0, -0.3, 0.2)
            least = objective.value_and_gradient(best)[0] + 3.0 * np.abs(best).sum()
            result = descend(
                objective, method=method, bounds=(-0.3, 0.2), regulariser=l1(3.0), tol=1e-12
            )
            assert result.status is Status.CONVERGED_GAP
            assert result.cost == pytest.approx(least, rel=1e-12)
            history = result.history
            assert (history.gap_bound >= history.cost - least).all()

    @pytest.mark.parametrize("seed", range(12))
    def test_rounding_of_a_large_regulariser_is_allowed_for(self, seed):
        """The gap is 1e-14, the penalty 1e12: in exact fractions, the bound is above the gap."""
        rng = np.random.default_rng(seed)
        c, weight = rng.integers(-(2**20), 2**20, 40).astype(float), 2.0**19 / 3
        w = Fraction(weight)
        best = [max(abs(Fraction(a)) - w, Fraction(0)) * (1 if a > 0 else -1) for a in c]

        def total(z):
            pairs = [(Fraction(v), Fraction(a)) for v, a in zip(z, c, strict=True)]
            return sum((v - a) ** 2 / 2 + w * abs(v) for v, a in pairs)

        z = np.array([float(v) for v in best]) * (1 + 1e-13 * rng.normal(size=40))
        objective = Objective(
            (40,), lambda z: (0.5 * float(np.sum((z - c) ** 2)), z - c), curvature=1.0
        )
        result = descend(objective, z, regulariser=l1(weight), max_iter=0)
        assert result.gap_bound >= total(z) - total(best) > 0
        assert result.gap_bound < 1e-13 * result.cost

    def test_where_there_is_neither_slope_nor_curvature_nothing_is_left_to_gain(self):
        objective = quadratic(np.zeros((2, 2)), np.array([1.0, 0.0]), curvature=0.0)
        result = descend(objective, [0.5, 0.3], bounds=([-1, -np.inf], [2, np.inf]), max_iter=0)
        assert result.gap_bound == pytest.approx(1.5)

    def test_the_control_problem_offers_it_and_its_scaling_keeps_it(self):
        rng = np.random.default_rng(3)
        R = symmetric(rng, [0.5, 2.0, 3.0])
        problem = LQProblem(
            0.5 * rng.normal(size=(2, 2)),
            rng.normal(size=(2, 3)),
            np.eye(2),
            R,
            M=0.2 * np.ones((2, 3)),
        )
        objective = problem.objective([3.0, -2.0], 4)
        scaled = objective.scaled(np.array([[2.0, 1.0, 0.0], [0.0, 0.5, 0.3], [0.0, 0.0, 3.0]]))
        for one in (objective, scaled):
            H = np.array(
                [one.hessian_product(np.zeros((4, 3)), v.reshape(4, 3)).ravel() for v in np.eye(12)]
            )
            D = np.broadcast_to(one.curvature, (4, 3)).ravel()
            assert D.min() > 0.01
            assert np.linalg.eigvalsh(H - np.diag(D))[0] >= -1e-12
        plain = LQProblem([[0.5]], [[1.0, 2.0]], [[1.0]], np.diag([2.0, 1e6]))
        np.testing.assert_allclose(plain.objective([1.0], 3).curvature, [2.0, 1e6], rtol=1e-12)

    def test_without_a_curvature_there_is_none(self):
        H, b, _ = case(0)
        plain = quadratic(H, b)
        guarded = Objective((12,), plain.value_and_gradient, gap_bound=lambda g: float(g @ g))
        for objective in (plain, guarded):
            result = descend(objective, bounds=(-0.1, 0.1))
            assert result.gap_bound is None
            assert result.history.gap_bound is None
            assert result.status is Status.CONVERGED_GRADIENT
        singular = LQProblem([[0.5]], [[1.0]], [[1.0]], [[0.0]]).objective([1.0], 3)
        assert singular.curvature is None

    def test_a_negative_curvature_proves_nothing(self):
        H, b, _ = case(0)
        result = descend(quadratic(H, b, curvature=-1.0), bounds=(-0.1, 0.1))
        assert result.gap_bound is None

    def test_where_no_bound_holds_the_proof_without_bounds_is_kept(self):
        H, b = np.array([[2.0, 1.9], [1.9, 2.0]]), np.array([1.0, 1.0])
        objective = Objective(
            (2,),
            lambda z: (0.5 * z @ H @ z - b @ z, H @ z - b),
            gap_bound=lambda g: 0.5 * g @ np.linalg.solve(H, g),
            curvature=smallest(H),
        )
        z = np.array([0.1, 0.1])
        result = descend(objective, z, bounds=(-9, 9), max_iter=0)
        error = z - np.linalg.solve(H, b)
        assert result.gap_bound == pytest.approx(0.5 * error @ H @ error, rel=1e-12)

    def test_a_diagonal_below_a_matrix_is_below_it_in_any_units(self):
        for seed in range(20):
            rng = np.random.default_rng(seed)
            units = 10.0 ** rng.integers(-6, 6, 4)
            D = units[:, None] * symmetric(rng, rng.uniform(0.1, 2, 4)) * units
            below = diagonal_below(D)
            scaled = (D - np.diag(below)) / units[:, None] / units
            assert np.linalg.eigvalsh(scaled)[0] >= 0
            assert (below / units**2 > 0.01).all()


class TestRegulariser:
    @pytest.mark.parametrize("products", [True, False], ids=["quadratic", "gradients only"])
    @pytest.mark.parametrize("method", PROXIMAL)
    def test_the_lasso_is_that_of_coordinate_descent(self, method, products):
        zeros = 0
        for seed in range(5):
            H, b, rng = case(seed)
            objective = quadratic(H, b, products=products)
            result = descend(
                objective, rng.normal(size=12), method=method, regulariser=l1(4.0), tol=1e-11
            )
            assert result.status is Status.CONVERGED_GRADIENT, result
            expected = lasso_solution(H, b, 4.0)
            np.testing.assert_allclose(result.solution, expected, atol=1e-9)
            np.testing.assert_array_equal(result.solution == 0, expected == 0)
            least = objective.value_and_gradient(expected)[0] + 4 * np.abs(expected).sum()
            assert result.cost == pytest.approx(least, rel=1e-12)
            zeros += np.sum(expected == 0)
        assert 10 < zeros < 50

    @pytest.mark.parametrize("method", PROXIMAL)
    def test_with_bounds(self, method):
        H, b, _ = case(6)
        result = descend(
            quadratic(H, b), method=method, bounds=(0.05, 0.3), regulariser=l1(1.0), tol=1e-11
        )
        np.testing.assert_allclose(result.solution, lasso_solution(H, b, 1.0, 0.05, 0.3), atol=1e-9)

    def test_a_weight_of_its_own_for_each_entry(self):
        weight = np.array([[0.0, 1.0], [5.0, 0.5]])
        target = np.array([[1.0, 2.0], [3.0, -4.0]])
        objective = Objective(
            (2, 2), lambda z: (0.5 * float(np.sum((z - target) ** 2)), z - target), curvature=1.0
        )
        for method in PROXIMAL:
            result = descend(objective, method=method, regulariser=l1(weight), tol=1e-13)
            np.testing.assert_allclose(result.solution, [[1.0, 1.0], [0.0, -3.5]], atol=1e-6)
            assert result.solution[1, 0] == 0

    def test_another_regulariser(self):
        """The group of all entries: weight |z|^2/2 has the prox v / (1 + weight step)."""

        class Ridge:
            def value(self, z):
                return 1.5 * float(np.sum(z * z))

            def prox(self, v, step):
                return v / (1 + 3.0 * step)

        H, b, _ = case(7)
        result = descend(quadratic(H, b), method="nesterov", regulariser=Ridge(), tol=1e-11)
        np.testing.assert_allclose(
            result.solution, np.linalg.solve(H + 3 * np.eye(12), b), rtol=1e-8
        )

    def test_sparse_inputs_of_a_control_problem(self):
        problem = LQProblem([[1, 1], [0, 1]], [[0.5], [1]], 0.1 * np.eye(2), [[0.1]])
        objective = problem.objective([5.0, 0.0], 25)
        counts = []
        for weight in (0.01, 1.0, 3.0, 1e4):
            result = descend(
                objective, method="nesterov", regulariser=l1(weight), tol=1e-10, max_iter=10**4
            )
            assert result.status is Status.CONVERGED_GAP
            counts.append(int(np.count_nonzero(result.solution)))
        assert counts[0] > counts[1] > counts[2] > counts[3] == 0


class TestLoop:
    @pytest.mark.parametrize("method", BOUNDED)
    @pytest.mark.parametrize("curvature", [None, 0.5])
    def test_the_history_tells_each_iterate(self, method, curvature):
        H, b, _ = case(0)
        seen = []
        objective = quadratic(H, b, curvature=curvature)
        result = descend(objective, method=method, bounds=(-0.1, 0.2), callback=seen.append)
        assert len(seen) == result.iterations + 1 == len(result.history.cost)
        assert (result.history.gap_bound is None) == (curvature is None)
        np.testing.assert_array_equal(seen[-1].z, result.solution)
        assert result.cost == result.history.cost[-1]

    @pytest.mark.parametrize("method", BOUNDED)
    def test_evaluations_and_products_are_counted(self, method):
        H, b, _ = case(0)
        count = {"evaluations": 0, "products": 0}

        def value_and_gradient(z):
            count["evaluations"] += 1
            return 0.5 * z @ H @ z - b @ z, H @ z - b

        def product(z, v):
            count["products"] += 1
            return H @ v

        objective = Objective((12,), value_and_gradient, product, None, True)
        result = descend(objective, method=method, bounds=(-0.1, 0.2))
        assert (result.evaluations, result.products) == (count["evaluations"], count["products"])
        if method in PROXIMAL:  # the gradient ahead is affine, and costs nothing
            assert result.evaluations <= result.iterations + 5

    @pytest.mark.parametrize("method", BOUNDED)
    def test_an_optimal_start_is_the_end(self, method):
        objective = quadratic(np.eye(2), np.array([3.0, 4.0]))
        result = descend(objective, np.ones(2), method=method, bounds=(0, 1), tol=0)
        assert result.status is Status.CONVERGED_GRADIENT
        assert result.iterations == 0
        assert result.gradient.tolist() == [-2.0, -3.0]

    @pytest.mark.parametrize("method", BOUNDED)
    def test_a_tolerance_out_of_reach_stalls(self, method):
        H, b, _ = case(1, condition=1e2)
        result = descend(
            quadratic(H, b), method=method, bounds=(-0.3, 0.2), tol=1e-30, max_iter=10**4
        )
        assert result.status in (Status.STALLED, Status.CONVERGED_GRADIENT)
        assert result.iterations < 9000
        best = box_solution(H, b, -0.3 * np.ones(12), 0.2)
        np.testing.assert_allclose(result.solution, best, atol=1e-12)

    @pytest.mark.parametrize("method", BOUNDED)
    def test_a_wrong_gradient_is_not_a_convergence(self, method):
        objective = Objective((2,), lambda z: (0.5 * z @ z, -z))
        result = descend(objective, [3.0, 4.0], method=method, bounds=(-10, 10))
        assert result.status is Status.STALLED
        np.testing.assert_array_equal(result.solution, [3.0, 4.0])

    @pytest.mark.parametrize("method", BOUNDED)
    def test_a_start_without_a_finite_value_diverges_at_once(self, method):
        objective = Objective((1,), lambda z: (np.inf, np.ones(1)), curvature=1.0)
        result = descend(objective, method=method, bounds=(0, 1))
        assert result.status is Status.DIVERGED
        assert result.gap_bound == np.inf


class TestBadInput:
    @pytest.mark.parametrize("method", sorted(set(METHODS) - set(BOUNDED)))
    def test_methods_without_bounds_say_which_have_them(self, method):
        objective = quadratic(np.eye(2), np.ones(2))
        message = (
            f"method is '{method}', which takes no bounds; use one of: gradient, nesterov, l-bfgs"
        )
        with pytest.raises(ArgumentError, match=message):
            descend(objective, method=method, bounds=(0, 1))

    def test_l_bfgs_takes_no_regulariser(self):
        message = "method is 'l-bfgs', which takes no regulariser; use one of: gradient, nesterov"
        with pytest.raises(ArgumentError, match=message):
            descend(quadratic(np.eye(2), np.ones(2)), method="l-bfgs", regulariser=l1(1.0))

    @pytest.mark.parametrize(
        ("bounds", "error", "message"),
        [
            (3.0, ArgumentError, "bounds is 3.0, expected a pair"),
            ((1, 2, 3), ArgumentError, "expected a pair"),
            ((1, 0), ArgumentError, r"bounds leave nothing at \[0\]: low is 1 and high is 0"),
            (
                (0, [1, -1]),
                ArgumentError,
                r"at \[1\]: low is 0 and high is -1, expected low <= high",
            ),
            ((np.nan, 1), ArgumentError, "holds a NaN"),
            ((np.inf, np.inf), ArgumentError, "leave nothing"),
            (
                (0, np.ones(3)),
                ShapeError,
                r"bounds\[1\] has shape \(3,\), expected a number or \(2,\)",
            ),
            (("a", 1), DtypeError, r"bounds\[0\] holds text"),
        ],
    )
    def test_bounds_are_a_pair_that_leaves_room(self, bounds, error, message):
        with pytest.raises(error, match=message):
            descend(quadratic(np.eye(2), np.ones(2)), bounds=bounds)

    def test_a_regulariser_has_a_value_and_a_prox(self):
        message = re.escape(
            "regulariser is 0.1, expected an object with the methods value and prox"
        )
        with pytest.raises(ArgumentError, match=message):
            descend(quadratic(np.eye(2), np.ones(2)), regulariser=0.1)

    def test_weights_are_not_negative(self):
        with pytest.raises(ArgumentError, match="weight is -1 at its least, expected at least 0"):
            l1([1.0, -1.0])
        with pytest.raises(NonFiniteError, match="weight is nan"):
            l1(np.nan)

    def test_weights_fit_the_variables(self):
        message = r"weight has shape \(3,\), expected one that fits the variables, \(2,\)"
        with pytest.raises(ShapeError, match=message):
            descend(quadratic(np.eye(2), np.ones(2)), regulariser=l1(np.ones(3)))
