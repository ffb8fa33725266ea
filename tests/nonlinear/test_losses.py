"""Costs that are not quadratic: against sums written out, differences, and other solvers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import lqrad
from lqrad.descent.checks import taylor_test
from lqrad.descent.descend import descend
from lqrad.errors import ArgumentError, DtypeError, ShapeError, Status
from lqrad.lq.problem import LQProblem
from lqrad.nonlinear.control import ControlProblem
from lqrad.nonlinear.losses import (
    Penalty,
    huber,
    log_barrier,
    penalised,
    robust_objective,
    student_t,
)
from lqrad.smoothing.model import SmoothingProblem

NAN = np.nan


def cart(T=None, **changes):
    """A cart pushed for steps of 0.5; with T its arrays vary in time."""
    data = {"A": [[1, 0.5], [0, 1]], "B": [[0.1], [0.5]], "Q": 0.1 * np.eye(2), "R": [[0.2]]}
    data = {name: np.array(value, float) for name, value in (data | changes).items()}
    if T is not None:
        rng = np.random.default_rng(0)
        for name in ("A", "B"):
            data[name] = data[name] + 0.05 * rng.normal(size=(T, *data[name].shape))
        data["c"] = 0.1 * rng.normal(size=(T, 2))
    return LQProblem(**data)


def track(T=20, seed=0, **changes):
    """Position and velocity with the position observed, and a series drawn from it."""
    data = {
        "A": [[1.0, 0.3], [0.0, 0.9]],
        "C": [[1.0, 0.0]],
        "W": [[0.02, 0.01], [0.01, 0.05]],
        "V": [[0.25]],
        "m0": [1.0, 0.5],
        "P0": np.eye(2),
        "c": [0.1, -0.05],
        "d": [0.7],
    }
    model = SmoothingProblem(**(data | changes))
    x, y = model.simulate(np.random.default_rng(seed), T)
    return model, x, y


def states(model, z):
    """x[0] = z[0], x[t+1] = A x[t] + c + z[t+1]."""
    x = [z[0]]
    for w in z[1:]:
        x.append(model.A @ x[-1] + model.c + w)
    return np.array(x)


def smoothed(model, objective, start=None):
    result = descend(objective, start, method="l-bfgs", tol=1e-10, max_iter=3000)
    assert result.status.converged, result
    return states(model, result.solution)


def close_to_slope(penalty, z, step=1e-6):
    """The slope against central differences, entry by entry."""
    slope = penalty.slope(z)
    for index in np.ndindex(z.shape):
        e = np.zeros(z.shape)
        e[index] = step
        difference = (penalty.value(z + e).sum() - penalty.value(z - e).sum()) / (2 * step)
        assert slope[index] == pytest.approx(difference, rel=1e-6, abs=1e-7)


class TestPenalties:
    def test_huber_is_a_parabola_then_a_line(self):
        e = np.linspace(-4, 4, 41)[:, None]
        expected = np.where(np.abs(e) <= 1.5, 0.5 * e * e, 1.5 * (np.abs(e) - 0.75)).ravel()
        np.testing.assert_allclose(huber(1.5, weight=3).value(e), 3 * expected, rtol=1e-14)
        from scipy.special import huber as reference

        np.testing.assert_allclose(huber(1.5).value(e), reference(1.5, e).ravel(), rtol=1e-14)

    def test_student_t_is_the_density_but_a_constant(self):
        rng = np.random.default_rng(0)
        e = 3 * rng.normal(size=(6, 3))
        density = scipy.stats.multivariate_t(np.zeros(3), np.eye(3), df=5.0)
        expected = density.logpdf(np.zeros(3)) - density.logpdf(e)
        np.testing.assert_allclose(student_t(5.0).value(e), expected, rtol=1e-12)

    def test_the_barrier_is_infinite_from_the_bounds_on(self):
        barrier = log_barrier([-1.0, 0.0], [1.0, 2.0], weight=0.5)
        z = np.array([[0.5, 0.5], [-1.0, 1.0], [0.0, 2.5], [0.0, -0.1]])
        first = -0.5 * np.log(1.5 * 0.5 * 0.5 * 1.5)
        np.testing.assert_allclose(barrier.value(z), [first, np.inf, np.inf, np.inf])

    @pytest.mark.parametrize(
        "penalty",
        [
            huber(0.7, weight=2.0),
            student_t(3.0),
            student_t(3.0, size=[1, 0, 2, 2]),
            log_barrier(-4.0, [4.0, 5.0], weight=0.3),
            log_barrier(high=4.0),
            huber(0.5).of([[1.0, 2.0], [0.0, 1.0], [1.0, 1.0]], ref=[0.1, 0.2, 0.3]),
            student_t(2.0).of(np.arange(16.0).reshape(4, 2, 2), ref=np.arange(8.0).reshape(4, 2)),
        ],
    )
    def test_slopes_are_those_of_the_values(self, penalty):
        close_to_slope(penalty, np.random.default_rng(1).uniform(-2, 2, (4, 2)))

    def test_convexity_is_told(self):
        assert huber().convex
        assert log_barrier(0).of([[1.0]]).convex
        assert not student_t().of([[1.0]]).convex


class TestControl:
    @pytest.mark.parametrize("T", [None, 6])
    def test_the_value_is_the_sum_and_the_gradient_passes_the_taylor_test(self, T):
        problem, rng = cart(T), np.random.default_rng(2)
        state, inputs = huber(0.4).of([[1.0, 0.5]], ref=[0.3]), student_t(3.0)
        objective = penalised(problem, [1.0, -0.5], 6, state=state, input=inputs)
        u = rng.normal(size=(6, 1))
        x = problem.simulate([1.0, -0.5], u)
        expected = problem.cost(x, u)
        for t in range(1, 7):
            e = x[t, 0] + 0.5 * x[t, 1] - 0.3
            expected += 0.5 * e * e if abs(e) < 0.4 else 0.4 * (abs(e) - 0.2)
        expected += sum(2 * np.log1p(v * v / 3) for v in u[:, 0])
        assert objective.value_and_gradient(u)[0] == pytest.approx(expected, rel=1e-13)
        assert taylor_test(objective.value_and_gradient, u).order == pytest.approx(2, abs=0.1)

    def test_it_is_the_cost_that_a_control_problem_has_too(self):
        problem = cart()

        def pseudo(z):
            return Penalty(
                lambda e: (np.sqrt(1 + e * e) - 1).sum(axis=-1), lambda e: e / np.sqrt(1 + e * e)
            ).value(z)

        penalty = Penalty(pseudo, lambda e: e / np.sqrt(1 + e * e))
        other = ControlProblem(
            lambda x, u: x @ problem.A.T + u @ problem.B.T,
            lambda x, u: 0.05 * (x * x).sum(axis=-1) + 0.1 * (u * u).sum(axis=-1) + pseudo(x),
            lambda x: 0.05 * (x * x).sum(axis=-1) + pseudo(x),
            n=2,
            m=1,
        )
        x0, u = np.array([2.0, -1.0]), np.random.default_rng(0).normal(size=(8, 1))
        value, gradient = penalised(problem, x0, 8, state=penalty).value_and_gradient(u)
        reference, slope = other.objective(x0, 8).value_and_gradient(u)
        assert value == pytest.approx(reference - pseudo(x0), rel=1e-13)
        np.testing.assert_allclose(gradient, slope, rtol=1e-11)

    def test_a_batch_adds_up(self):
        problem, rng = cart(), np.random.default_rng(3)
        x0, u = rng.normal(size=(3, 2)), rng.normal(size=(3, 5, 1))
        options = {"state": huber(0.3), "input": log_barrier(-5, 5)}
        value, gradient = penalised(problem, x0, 5, **options).value_and_gradient(u)
        singles = [
            penalised(problem, x0[i], 5, **options).value_and_gradient(u[i]) for i in range(3)
        ]
        assert value == pytest.approx(sum(v for v, _ in singles), rel=1e-13)
        np.testing.assert_allclose(gradient, [g for _, g in singles], rtol=1e-12)

    @pytest.mark.parametrize("method", ["l-bfgs", "nesterov", "heavy-ball", "conjugate-gradient"])
    def test_a_huber_cost_is_minimised_and_proven(self, method):
        problem = cart()
        objective = penalised(problem, [8.0, 0.0], 10, state=huber(0.5, weight=2.0))
        result = descend(objective, method=method, tol=1e-11, max_iter=5000)
        assert result.status is Status.CONVERGED_GAP
        found = scipy.optimize.minimize(
            lambda u: objective.value_and_gradient(u[:, None])[0], np.zeros(10), tol=1e-10
        )
        assert result.cost - found.fun <= result.gap_bound <= 1e-11 * result.cost
        assert (result.history.gap_bound >= result.history.cost - found.fun).all()
        np.testing.assert_allclose(result.solution[:, 0], found.x, atol=1e-4)

    def test_bounds_and_a_huber_cost_together(self):
        objective = penalised(cart(), [8.0, 0.0], 10, state=huber(0.5, weight=2.0))
        result = descend(objective, method="l-bfgs", bounds=(-1, 1), tol=1e-11)
        assert result.status is Status.CONVERGED_GAP
        found = scipy.optimize.minimize(
            lambda u: objective.value_and_gradient(u[:, None])[0],
            np.zeros(10),
            jac=lambda u: objective.value_and_gradient(u[:, None])[1].ravel(),
            bounds=[(-1, 1)] * 10,
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert result.cost == pytest.approx(found.fun, rel=1e-9)
        np.testing.assert_allclose(result.solution[:, 0], found.x, atol=1e-4)
        assert result.solution.min() == -1

    def test_the_barrier_goes_to_the_bound_as_its_weight_goes_to_zero(self):
        """States with |x| < 2.2: SLSQP has the linear constraints themselves."""
        problem, x0, T = cart(), np.array([2.0, 1.0]), 8
        plain = problem.objective(x0, T)

        def room(u):
            return 2.2 - problem.simulate(x0, u[:, None])[1:, 0]

        exact = scipy.optimize.minimize(
            lambda u: plain.value_and_gradient(u[:, None])[0],
            np.zeros(T),
            constraints={"type": "ineq", "fun": room},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        u = np.full((T, 1), -4.0)  # strictly inside
        for weight in (1.0, 1e-2, 1e-4):
            barrier = log_barrier(high=2.2, weight=weight).of([[1.0, 0.0]])
            result = descend(
                penalised(problem, x0, T, state=barrier), u, method="l-bfgs", max_iter=3000
            )
            assert result.status.converged, result
            u = result.solution
            excess = plain.value_and_gradient(u)[0] - exact.fun
            assert -1e-9 < excess <= weight * T + 1e-9
            assert room(u[:, 0]).min() > 0
        assert room(exact.x).min() < 1e-9  # the constraint is active
        assert excess < 1e-3

    def test_a_start_outside_of_the_barrier_is_told(self):
        objective = penalised(cart(), [2.0, 1.0], 8, state=log_barrier(high=0.0))
        result = descend(objective)
        assert result.status is Status.DIVERGED
        assert "the state penalty is inf at x[1]; try a start where it is finite" in result.message
        assert "try method" not in result.message

    def test_proofs_are_kept_only_where_they_hold(self):
        plain = cart().objective([1.0, 0.0], 4)
        kept = penalised(cart(), [1.0, 0.0], 4, state=huber())
        np.testing.assert_array_equal(kept.curvature, plain.curvature)
        assert kept.gap_bound is not None
        lost = penalised(cart(), [1.0, 0.0], 4, state=huber(), input=student_t())
        assert lost.gap_bound is None
        assert lost.curvature is None
        assert not kept.quadratic


class TestSmoothing:
    @pytest.mark.parametrize("loss", [None, huber(0.8)])
    def test_the_value_is_the_sum_and_the_gradient_passes_the_taylor_test(self, loss):
        model, _, y = track(8, C=[[1.0, 0.0], [1.0, 1.0]], V=[[0.5, 0.2], [0.2, 0.3]], d=[0.7, 0])
        y[2, 0] = y[5] = NAN
        objective = robust_objective(model, y, nu=3.0, loss=loss)
        z = np.random.default_rng(1).normal(size=(9, 2))
        x = states(model, z)
        first = z[0] - model.m0
        expected = 0.5 * first @ np.linalg.solve(model.P0, first)
        expected += sum(0.5 * w @ np.linalg.solve(model.W, w) for w in z[1:])
        for t in range(9):
            seen = ~np.isnan(y[t])
            if not seen.any():
                continue
            V = model.V[np.ix_(seen, seen)]
            e = (y[t] - model.C @ x[t] - model.d)[seen]
            if loss is None:
                expected += (3 + seen.sum()) / 2 * np.log1p(e @ np.linalg.solve(V, e) / 3)
            else:
                white = np.abs(np.linalg.solve(np.linalg.cholesky(V), e))
                expected += np.where(white < 0.8, white**2 / 2, 0.8 * (white - 0.4)).sum()
        assert objective.value_and_gradient(z)[0] == pytest.approx(expected, rel=1e-12)
        assert taylor_test(objective.value_and_gradient, z).order == pytest.approx(2, abs=0.1)

    def test_with_many_degrees_of_freedom_it_is_gaussian(self):
        model, _, y = track()
        gaussian = lqrad.kalman_smoother(model, y).x
        apart = [
            np.abs(smoothed(model, robust_objective(model, y, nu=nu)) - gaussian).max()
            for nu in (1e2, 1e4, 1e6)
        ]
        assert apart[0] > 30 * apart[1] > 30 * 30 * apart[2]
        assert apart[2] < 1e-5

    def test_outliers_hardly_move_it(self):
        model, x, y = track(40)
        spoiled = y.copy()
        spoiled[[7, 20, 33]] += [[12.0], [-15.0], [20.0]]
        gaussian, moved = (lqrad.kalman_smoother(model, series).x for series in (y, spoiled))
        start = descend(model.objective(spoiled), method="conjugate-gradient").solution
        for loss, share in ((None, 0.1), (huber(1.5), 0.35)):
            clean = smoothed(model, robust_objective(model, y, loss=loss))
            robust = smoothed(model, robust_objective(model, spoiled, loss=loss), start)
            shift = np.abs(robust - clean)[:, 0].max()
            assert shift < share * np.abs(moved - gaussian)[:, 0].max()
            error, gaussian_error = (np.sqrt(np.mean((e - x)[:, 0] ** 2)) for e in (robust, moved))
            assert error < 0.5 * gaussian_error

    def test_the_further_off_an_outlier_the_less_it_pulls(self):
        model, _, y = track(20)
        missing = y.copy()
        missing[10] = NAN
        without = smoothed(model, robust_objective(model, missing))
        shifts = []
        for size in (5.0, 50.0, 500.0):
            spoiled = y.copy()
            spoiled[10] += size
            start = descend(model.objective(missing), method="conjugate-gradient").solution
            found = smoothed(model, robust_objective(model, spoiled), start)
            shifts.append(np.abs(found - without).max())
        assert shifts[0] > 5 * shifts[1] > 25 * shifts[2]

    def test_a_convex_loss_keeps_the_proof(self):
        model, _, y = track(15)
        y[4] += 30
        objective = robust_objective(model, y, loss=huber())
        result = descend(objective, method="l-bfgs", tol=1e-12, max_iter=3000)
        assert result.status is Status.CONVERGED_GAP
        history = result.history
        assert (history.gap_bound >= history.cost - result.cost).all()
        assert robust_objective(model, y).gap_bound is None

    def test_a_batch_adds_up(self):
        model, _, y = track(5)
        both = np.array([y, y + 1.0])
        both[1, 3] = NAN
        z = np.random.default_rng(4).normal(size=(2, 6, 2))
        value, gradient = robust_objective(model, both).value_and_gradient(z)
        singles = [robust_objective(model, both[i]).value_and_gradient(z[i]) for i in range(2)]
        assert value == pytest.approx(sum(v for v, _ in singles), rel=1e-13)
        np.testing.assert_allclose(gradient, [g for _, g in singles], rtol=1e-11, atol=1e-13)


class TestBadInput:
    @pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf])
    def test_numbers_are_positive(self, value):
        for name, make in (
            ("delta", lambda v: huber(v)),
            ("weight", lambda v: huber(weight=v)),
            ("nu", lambda v: student_t(v)),
            ("weight", lambda v: log_barrier(0, weight=v)),
        ):
            with pytest.raises(ArgumentError, match=f"{name} is .*, expected a positive number"):
                make(value)

    def test_a_barrier_has_a_side(self):
        with pytest.raises(ArgumentError, match="neither low nor high is given"):
            log_barrier()

    def test_what_is_no_penalty_is_named(self):
        with pytest.raises(
            ArgumentError, match="state is of type float, expected Penalty, such as"
        ):
            penalised(cart(), [1.0, 0.0], 3, state=1.0)
        with pytest.raises(ArgumentError, match="problem is of type int, expected LQProblem"):
            penalised(3, [1.0, 0.0], 3)
        with pytest.raises(ArgumentError, match="loss is of type str, expected Penalty"):
            robust_objective(track()[0], np.zeros((5, 1)), loss="huber")
        with pytest.raises(ArgumentError, match="problem is of type LQProblem, expected Smoothing"):
            robust_objective(cart(), np.zeros((5, 1)))
        with pytest.raises(DtypeError, match="nu is 'four', expected a real number"):
            student_t("four")

    def test_a_penalty_of_another_shape_is_told(self):
        summed = Penalty(lambda z: z.sum(), lambda z: np.ones_like(z))
        with pytest.raises(ShapeError, match=r"the value of state has shape \(\), expected \(3,\)"):
            penalised(cart(), [1.0, 0.0], 3, state=summed).value_and_gradient(np.zeros((3, 1)))
        short = Penalty(lambda z: z.sum(axis=-1), lambda z: z[..., :1])
        with pytest.raises(ShapeError, match=r"the slope of state has shape \(3, 1\)"):
            penalised(cart(), [1.0, 0.0], 3, state=short).value_and_gradient(np.zeros((3, 1)))
        with pytest.raises(ShapeError, match=r"C has shape \(2,\), expected \(k, n\)"):
            huber().of([1.0, 0.0])

    def test_without_a_prior_there_is_no_objective(self):
        model, _, y = track(5)
        free = SmoothingProblem(model.A, model.C, model.W, model.V, None, None)
        with pytest.raises(ArgumentError, match="P0 is None"):
            robust_objective(free, y)


class TestNewcomers:
    def test_an_infinite_bound_of_a_barrier_is_none(self):
        both = log_barrier([-np.inf, -1.0], [2.0, np.inf], weight=0.3)
        first, second = log_barrier(high=2.0, weight=0.3), log_barrier(low=-1.0, weight=0.3)
        z = np.array([[0.5, 7.0], [-9.0, 0.0], [2.0, 0.0], [0.0, -1.5]])
        np.testing.assert_allclose(both.value(z), first.value(z[:, :1]) + second.value(z[:, 1:]))
        inside = z[:2]
        expected = np.hstack([first.slope(inside[:, :1]), second.slope(inside[:, 1:])])
        np.testing.assert_allclose(both.slope(inside), expected)

    @pytest.mark.parametrize("bounds", [(2.0, 1.0), (1.0, 1.0), ([0.0, 3.0], 2.0), (np.nan, 1.0)])
    def test_a_barrier_leaves_room(self, bounds):
        words = "low and high leave nothing|no room is left|low holds a NaN"
        with pytest.raises(ArgumentError, match=words):
            log_barrier(*bounds)

    def test_an_output_that_does_not_fit_is_named(self):
        with pytest.raises(ShapeError, match=r"ref has shape \(2,\), expected .* C \(1, 1\)"):
            huber().of([[1.0]], ref=[1.0, 2.0])
        penalty = huber().of([[1.0, 2.0]])
        objective = penalised(LQProblem([[1]], [[1]], [[1]], [[1]]), [1.0], 3, state=penalty)
        with pytest.raises(ShapeError, match=r"C has shape \(1, 2\), expected \(k, 1\)"):
            objective.value_and_gradient(np.ones((3, 1)))


def test_the_sides_of_a_barrier_are_taken_under_their_former_names():
    z = np.array([[0.5]])
    assert log_barrier(lo=0.0, hi=1.0).value(z) == log_barrier(0.0, 1.0).value(z)
