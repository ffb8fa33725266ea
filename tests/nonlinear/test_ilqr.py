"""Iterative LQR: Riccati's answer where linear, known optima and peers where not, and its statuses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from random_problems import random_case

import lqrad
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError, Status
from lqrad.nonlinear import systems as nonlinear
from lqrad.nonlinear.control import ControlProblem
from lqrad.nonlinear.ilqr import ilqr

SWINGUPS = ("pendulum", "cart-pole")


@pytest.fixture(scope="module")
def solved():
    """The systems of a name and what was found for them, each once."""
    found = {}

    def solve(name, second_order=False):
        if (name, second_order) not in found:
            system = nonlinear.NONLINEAR_SYSTEMS[name]()
            found[name, second_order] = (
                system,
                ilqr(
                    system.problem,
                    system.x0,
                    T=system.T,
                    bounds=system.bounds,
                    second_order=second_order,
                ),
            )
        return found[name, second_order]

    return solve


def lunge(T=12):
    """A unicycle without bounds, far from the target: strongly curved, with a residual."""
    system = nonlinear.unicycle_parking(dt=0.2)
    return system.problem, np.array([0.5, 1.0, 0.3]), T


def projected_gradient(result):
    """Zero where the inputs are stationary between their bounds."""
    return result.u - np.clip(result.u - result.gradient, *result.bounds)


# Linear and quadratic


def from_lq(lq):
    """A problem that does not vary in time, as functions."""

    def times(M, z):
        return z @ M.T

    def stage(x, u):
        quadratic = x * (0.5 * times(lq.Q, x) + times(lq.M, u) + lq.q)
        return quadratic.sum(axis=-1) + (u * (0.5 * times(lq.R, u) + lq.r)).sum(axis=-1)

    return ControlProblem(
        lambda x, u: times(lq.A, x) + times(lq.B, u) + lq.c,
        stage,
        lambda x: (x * (0.5 * times(lq.S, x) + lq.s)).sum(axis=-1),
        n=lq.n,
        m=lq.m,
    )


@pytest.mark.parametrize("bounds", [None, (-1e9, 1e9)], ids=["free", "wide bounds"])
@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_one_iteration_gives_riccatis_answer(seed, second_order, bounds):
    case = random_case(seed, T=10, radius=0.95, all_terms=True, time_varying=False)
    recursion = lqrad.riccati(case.problem, case.T)
    optimum = recursion.rollout(case.x0)
    result = ilqr(
        from_lq(case.problem),
        case.x0,
        case.u,
        max_iter=1,
        second_order=second_order,
        bounds=bounds,
    )
    start = from_lq(case.problem).simulate(case.x0, case.u)
    for found, expected, first in (
        (result.u, optimum.u, case.u),
        (result.x, optimum.x, start),
        (result.p, optimum.p, case.problem.adjoint(start, case.u)),
    ):  # to 1e-9 of what the iteration changed
        atol = 1e-9 * np.abs(expected - first).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(result.K, recursion.K, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        result.P, recursion.P, rtol=1e-9, atol=1e-9 * np.abs(recursion.P).max()
    )
    assert result.cost == pytest.approx(optimum.cost, rel=1e-9)
    # The expansion is exact: it promised what came, and promises nothing more.
    assert result.history.decrease[0] == pytest.approx(
        result.history.cost[0] - result.history.cost[1], rel=1e-9
    )
    assert result.history.decrease[1] <= 1e-12 * abs(result.history.cost[0])


@pytest.mark.parametrize("seed", range(4))
def test_bounds_on_a_linear_problem_give_the_quadratic_programs_answer(seed):
    """The Hessian of the whole program, column by column, and a solver of bounded least squares."""
    case = random_case(seed, m=2, T=7, radius=0.95, all_terms=False, time_varying=False)
    lq = case.problem
    free = lqrad.riccati(lq, case.T).rollout(case.x0)
    limit = 0.4 * np.abs(free.u).max()
    g = lq.value_and_gradient(case.x0, np.zeros((case.T, 2)))[1].ravel()
    H = np.column_stack(
        [
            lq.value_and_gradient(case.x0, e.reshape(case.T, 2))[1].ravel() - g
            for e in np.eye(2 * case.T)
        ]
    )
    L = np.linalg.cholesky(0.5 * (H + H.T))
    exact = scipy.optimize.lsq_linear(
        L.T, -np.linalg.solve(L, g), (-limit, limit), method="bvls", tol=1e-14
    ).x
    assert (np.abs(exact) >= 0.999 * limit).any()
    result = ilqr(from_lq(lq), case.x0, T=case.T, bounds=(-limit, limit), tol=1e-15)
    np.testing.assert_allclose(result.u.ravel(), exact, rtol=0, atol=1e-6 * limit)


# Rates


def distances(second_order):
    """Of every iterate to the solution, and the decreases that were promised."""
    problem, x0, T = lunge()
    best = ilqr(problem, x0, T=T, second_order=True, tol=0.0)
    seen = []
    result = ilqr(
        problem,
        x0,
        T=T,
        second_order=second_order,
        tol=1e-15,
        callback=lambda k, x, u, cost: seen.append(np.linalg.norm(u - best.u)),
    )
    assert result.cost == pytest.approx(best.cost, rel=1e-12)
    return np.array(seen), result.history.decrease


def test_with_second_derivatives_it_converges_quadratically():
    """The digits double: log e[k+1] / log e[k] is 2 at the end, and that of the decreases too."""
    e, promised = distances(second_order=True)
    last = np.flatnonzero(e > 1e-7)[-1]  # what follows is nearer than the solution is known
    near = e[last - 2 : last + 1]
    assert near[0] < 0.3
    assert (near[1:] < 2 * near[:-1] ** 2).all()
    # The promised decrease is half the Hessian's value of the step: it squares as well.
    tail = promised[last - 2 : last + 1]
    assert (np.diff(np.log(tail)) < 1.5 * np.log(near[:-1])).all()


def test_with_first_derivatives_it_converges_linearly():
    e, promised = distances(second_order=False)
    middle = np.flatnonzero((e < 1e-2) & (e > 1e-6))
    ratios = e[middle + 1] / e[middle]
    assert len(middle) > 6
    assert 0.05 < ratios.min() <= ratios.max() < 0.95
    assert ratios[-1] == pytest.approx(ratios[-2], rel=0.05)
    # Decreases are of second order in the distance.
    assert promised[middle[-1]] / promised[middle[-2]] == pytest.approx(ratios[-1] ** 2, rel=0.1)


def test_second_derivatives_take_fewer_iterations(solved):
    counts = [solved("unicycle", order)[1].iterations for order in (True, False)]
    assert counts[0] < 0.5 * counts[1]


def test_p_and_P_are_the_derivatives_of_the_optimal_cost_in_the_start():
    """By differences of the costs that are found from other starts."""
    problem, x0, T = lunge()
    h = 1e-3

    def value(x):
        return ilqr(problem, x, u=best.u, second_order=True, tol=1e-16).cost

    best = ilqr(problem, x0, T=T, second_order=True, tol=1e-15)
    A = problem.derivatives(best.x, best.u).A[0]
    stage = 0.2 * best.x[0] / 0.5**2  # dl/dx of the quadratic cost, by hand
    gradient, hessian = np.zeros(3), np.zeros((3, 3))
    for i, a in enumerate(h * np.eye(3)):
        gradient[i] = (value(x0 + a) - value(x0 - a)) / (2 * h)
        for j, b in enumerate(h * np.eye(3)):
            corners = value(x0 + a + b) - value(x0 + a - b) - value(x0 - a + b) + value(x0 - a - b)
            hessian[i, j] = corners / (4 * h * h)
    np.testing.assert_allclose(A.T @ best.p[0] + stage, gradient, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(best.P[0], hessian, rtol=1e-3, atol=1e-3 * np.abs(hessian).max())


def test_K_is_the_slope_of_the_optimal_input_in_the_start():
    problem, x0, T = lunge()
    h = 1e-4
    best = ilqr(problem, x0, T=T, second_order=True, tol=1e-15)

    def first_input(x):
        return ilqr(problem, x, u=best.u, second_order=True, tol=1e-16).u[0]

    slope = [(first_input(x0 + e) - first_input(x0 - e)) / (2 * h) for e in h * np.eye(3)]
    np.testing.assert_allclose(-best.K[0], np.transpose(slope), rtol=1e-3, atol=1e-3)


# Bounds


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("name", ["pendulum", "unicycle", "van-der-pol"])
def test_at_the_solution_the_projected_gradient_is_zero(solved, name, second_order):
    system, result = solved(name, second_order)
    assert result.status.converged
    low, high = system.bounds
    assert ((result.u >= low) & (result.u <= high)).all()
    at_bound = (result.u == low) | (result.u == high)
    assert at_bound.any()
    assert np.abs(projected_gradient(result)).max() < 1e-4 * np.abs(result.gradient).max()
    # Where an input is held, the cost would fall beyond, and the feedback leaves it alone.
    assert (result.gradient * np.sign(result.u))[at_bound & (low < 0)].max() <= 1e-6
    assert (result.K[at_bound] == 0).all()
    assert (np.abs(result.K[~at_bound]).max(axis=-1) > 0).all()


def test_two_bounded_inputs_are_those_of_scipy(solved):
    system, result = solved("unicycle", True)
    objective = system.problem.objective(system.x0, system.T)

    def value_and_gradient(z):
        value, gradient = objective.value_and_gradient(z.reshape(-1, 2))
        return value, gradient.ravel()

    rng = np.random.default_rng(0)
    peer = scipy.optimize.minimize(
        value_and_gradient,
        np.clip(result.u + 0.01 * rng.normal(size=result.u.shape), -1, 1).ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-1, 1)] * result.u.size,
        options={"maxiter": 3000, "maxfun": 4000, "ftol": 1e-16, "gtol": 1e-9, "maxcor": 30},
    )
    assert result.cost <= peer.fun * (1 + 1e-12)
    assert result.cost == pytest.approx(peer.fun, rel=1e-6)
    np.testing.assert_allclose(result.u.ravel(), peer.x, rtol=0, atol=1e-5)


def test_bounds_may_be_one_sided_or_closed():
    problem, x0, T = lunge()
    one_sided = ilqr(problem, x0, T=T, bounds=([-0.4, -np.inf], np.inf))
    assert one_sided.u[:, 0].min() == -0.4
    assert np.abs(projected_gradient(one_sided)).max() < 1e-4
    same = ilqr(problem, x0, T=T, bounds=([-0.4, -np.inf], None))
    np.testing.assert_array_equal(same.u, one_sided.u)
    held = ilqr(problem, x0, T=T, bounds=([-1, 0.25], [1, 0.25]))
    np.testing.assert_array_equal(held.u[:, 1], 0.25)
    assert np.ptp(held.u[:, 0]) > 0.1


def test_bounds_that_nothing_touches_change_nothing():
    problem, x0, T = lunge()
    free, wide = ilqr(problem, x0, T=T), ilqr(problem, x0, T=T, bounds=(-100, 100))
    np.testing.assert_allclose(wide.u, free.u, atol=1e-9)
    np.testing.assert_allclose(wide.history.cost, free.history.cost, rtol=1e-9)


# Swinging up


@pytest.mark.parametrize("name", SWINGUPS)
def test_it_swings_up_from_zero_inputs_within_the_bounds(solved, name):
    system, result = solved(name)
    assert result.status is Status.CONVERGED_GRADIENT
    assert result.x[0] == pytest.approx(system.x0)
    assert np.abs(result.x[-1] - system.target).max() < 1e-3
    assert (np.abs(result.u) <= system.bounds[1]).all()
    steps = [system.problem.next_state(result.x[t], result.u[t], t) for t in range(system.T)]
    np.testing.assert_array_equal(result.x[1:], steps)


@pytest.mark.parametrize("name", [*SWINGUPS, "quadrotor", "van-der-pol", "unicycle"])
def test_costs_never_rise_and_the_result_is_of_one_trajectory(solved, name):
    system, result = solved(name)
    assert (np.diff(result.history.cost) <= 0).all()
    assert len(result.history.cost) == len(result.history.decrease) == result.iterations + 1
    assert result.cost == result.history.cost[-1] == system.problem.cost(result.x, result.u)
    assert result.history.cost[0] == system.problem.cost(
        system.problem.simulate(system.x0, np.zeros_like(result.u)), np.zeros_like(result.u)
    )
    np.testing.assert_array_equal(result.p, system.problem.adjoint(result.x, result.u))
    kkt = system.problem.kkt_residual(result.x, result.u, result.p, system.x0)
    assert np.abs(kkt.dynamics).max() < 1e-12
    assert np.abs(kkt.state).max() < 1e-9 * np.abs(result.p).max()
    np.testing.assert_array_equal(kkt.input, result.gradient)
    assert result.message.startswith(f"converged after {result.iterations} iterations; J = ")
    assert repr(result) == f"<ILQR: {result.message}>"
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("name", "disturbance"),
    [("pendulum", [0.1, -0.2]), ("cart-pole", [0.05, 0.1, -0.05, 0.1])],
)
def test_the_closed_loop_holds_from_a_disturbed_start(solved, name, disturbance):
    system, result = solved(name)
    x, u = result.rollout(system.x0 + disturbance)
    assert (np.abs(u) <= system.bounds[1]).all()
    closed = np.abs(x[-1] - system.target).max()
    alone = system.problem.simulate(system.x0 + disturbance, result.u)
    assert closed < 0.05
    assert np.abs(alone[-1] - system.target).max() > 10 * closed
    np.testing.assert_allclose(system.problem.simulate(x[0], u), x, atol=1e-8)
    undisturbed = result.rollout(system.x0)
    np.testing.assert_array_equal(undisturbed[0], result.x)
    np.testing.assert_array_equal(undisturbed[1], result.u)


# A peer


def in_casadi(casadi, name):
    """The equations of motion, the weights d, e and last, and the limit, once more."""
    sin, cos = casadi.sin, casadi.cos
    if name == "pendulum":

        def f(x, u):
            return casadi.vertcat(x[1], 9.81 * sin(x[0]) - 0.1 * x[1] + u)

        return f, [1.0, 4.0], 4.0, 100.0, 4.0

    def f(x, u):
        s, c = sin(x[2]), cos(x[2])
        force = u + 0.1 * 0.5 * x[3] ** 2 * s
        turn = (9.8 * s - c * force / 1.1 - 2e-6 * x[3] / (0.1 * 0.5)) / (
            0.5 * (4 / 3 - 0.1 * c**2 / 1.1)
        )
        return casadi.vertcat(x[1], (force - 0.1 * 0.5 * turn * c) / 1.1, x[3], turn)

    return f, [1.0, 5.0, 2.0, 10.0], 10.0, 1000.0, 10.0


@pytest.mark.parametrize("name", SWINGUPS)
def test_ipopt_finds_nothing_better_from_the_same_start(solved, name):
    casadi = pytest.importorskip("casadi")
    system, result = solved(name)
    f, d, e, last, limit = in_casadi(casadi, name)
    h, n, T = system.dt, system.problem.n, system.T
    X, U = casadi.MX.sym("x", n), casadi.MX.sym("u")
    k1 = f(X, U)
    k2 = f(X + h / 2 * k1, U)
    k3 = f(X + h / 2 * k2, U)
    k4 = f(X + h * k3, U)
    step = casadi.Function("step", [X, U], [X + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)])
    x, u = casadi.MX.sym("x", n, T + 1), casadi.MX.sym("u", 1, T)
    squares = casadi.sum1((x / np.array(d)) ** 2)
    cost = h / 2 * (casadi.sum2(squares[:T]) + casadi.sumsqr(u) / e**2) + last / 2 * squares[T]
    gaps = [x[:, 0] - system.x0, casadi.vec(x[:, 1:] - step.map(T)(x[:, :T], u))]
    program = {
        "x": casadi.veccat(x, u),
        "f": cost,
        "g": casadi.vertcat(*gaps),
    }
    quiet = {"ipopt.print_level": 0, "print_time": False, "ipopt.sb": "yes"}
    solver = casadi.nlpsol("solver", "ipopt", program, quiet)
    start = system.problem.simulate(system.x0, np.zeros((T, 1)))
    wide = np.full(x.numel(), np.inf)
    bound = np.full(T, limit)
    found = solver(
        x0=np.concatenate([start.ravel(), np.zeros(T)]),
        lbx=np.concatenate([-wide, -bound]),
        ubx=np.concatenate([wide, bound]),
        lbg=0,
        ubg=0,
    )
    assert solver.stats()["success"]
    assert result.cost <= 1.01 * float(found["f"])
    # Ours is also a minimum of the peer's program: started there, it finds nothing to do.
    again = solver(
        x0=np.concatenate([result.x.ravel(), result.u.ravel()]),
        lbx=np.concatenate([-wide, -bound]),
        ubx=np.concatenate([wide, bound]),
        lbg=0,
        ubg=0,
    )
    assert float(again["f"]) == pytest.approx(result.cost, rel=1e-6)


# Statuses


def test_the_limit_on_iterations(solved):
    system, full = solved("pendulum")
    result = ilqr(system.problem, system.x0, T=system.T, bounds=system.bounds, max_iter=3)
    assert result.status is Status.MAX_ITER
    assert result.iterations == 3
    np.testing.assert_array_equal(result.history.cost, full.history.cost[:4])
    np.testing.assert_array_equal(result.history.decrease, full.history.decrease[:4])
    assert result.message.startswith("stopped after 3 iterations; ")
    none = ilqr(system.problem, system.x0, T=system.T, max_iter=0)
    assert (none.iterations, none.status) == (0, Status.MAX_ITER)
    np.testing.assert_array_equal(none.u, 0)
    assert none.message.startswith("stopped after 0 iterations; ")


def test_the_callback_sees_every_trajectory_and_may_stop(solved):
    system, full = solved("pendulum")
    seen = []

    def callback(iteration, x, u, cost):
        assert system.problem.cost(x, u) == cost
        seen.append((iteration, cost))
        return iteration == 4

    result = ilqr(system.problem, system.x0, T=system.T, bounds=system.bounds, callback=callback)
    assert result.status is Status.CALLBACK
    assert seen == list(enumerate(full.history.cost[:5]))
    assert result.iterations == 4


def test_a_jacobian_that_turns_wrong_stalls_and_the_gains_are_still_those_of_the_expansion():
    """A wrong one is found where it is first asked for; this one waits."""
    sign = [1.0]
    problem = ControlProblem(
        lambda x, u: x + u,
        lambda x, u: 0.5 * (u**2).sum(axis=-1),
        lambda x: 0.5 * (x**2).sum(axis=-1),
        n=1,
        m=1,
        jacobian=lambda x, u: (np.ones((*x.shape, 1)), sign[0] * np.ones((*x.shape, 1))),
    )
    problem.value_and_gradient([1.0], [[0.0]])
    sign[0] = -1.0
    result = ilqr(problem, [1.0], T=1)
    assert result.status is Status.STATIONARY  # none of its steps is downhill, another one is
    assert not result.status.converged
    assert result.iterations == 0
    assert result.message.startswith("stationary after 0 iterations; ")
    np.testing.assert_allclose(result.K, [[[-0.5]]])
    np.testing.assert_allclose(result.P[0], [[0.5]])
    assert result.history.decrease == pytest.approx([0.25])


def test_without_a_tolerance_it_ends_at_rounding_and_keeps_its_feedback():
    problem, x0, T = lunge()
    best = ilqr(problem, x0, T=T, second_order=True)
    exact = ilqr(problem, x0, u=best.u, second_order=True, tol=0.0)
    assert exact.status in (Status.STALLED, Status.CONVERGED_GRADIENT)
    assert np.abs(exact.gradient).max() < 1e-9
    np.testing.assert_allclose(exact.K, best.K, atol=1e-4)


def test_a_cost_that_is_not_convex_is_brought_down_all_the_same():
    """Cosine has a maximum beside the start, and minima near odd multiples of pi."""
    problem = ControlProblem(
        lambda x, u: x + u,
        lambda x, u: 0.01 * (u**2).sum(axis=-1),
        lambda x: np.cos(x).sum(axis=-1),
        n=1,
        m=1,
    )
    for second_order in (False, True):
        result = ilqr(problem, [0.1], T=5, second_order=second_order)
        assert result.status.converged
        assert (np.diff(result.history.cost) < 0).all()
        # Equal inputs u = (x - 0.1) / 5, with sin x = 0.02 u, in some trough of the cosine.
        trough = (2 * round((result.x[-1, 0] / np.pi - 1) / 2) + 1) * np.pi
        end = scipy.optimize.brentq(
            lambda x: np.sin(x) - 0.004 * (x - 0.1), trough - 1.0, trough + 1.0
        )
        assert result.x[-1, 0] == pytest.approx(end, abs=1e-4)
        np.testing.assert_allclose(result.u, (end - 0.1) / 5, atol=1e-4)


@pytest.mark.parametrize(
    ("seed", "second_order", "bounds"),
    [
        (0, False, (-1, 1)),
        (6, True, None),
        (14, True, (-1, 1)),
        (18, False, None),
        (32, False, (-1, 1)),
    ],
)
def test_a_weight_that_makes_steps_short_is_no_convergence(seed, second_order, bounds):
    """Valleys with edges: a heavy weight promises next to nothing, and from there it goes on."""
    rng = np.random.default_rng(seed)
    M, w = rng.normal(size=(2, 2)), 10.0 ** rng.uniform(-1, 4)
    k, e = rng.uniform(0.5, 6), 10.0 ** rng.uniform(-6, -1)

    def last(x):
        a, b = x[..., 0], x[..., 1]
        valleys = w * (np.sin(k * a) * np.sin(k * b + 1) + np.sqrt(e + (a - b**2) ** 2))
        return 1 + valleys + a**2 + b**2

    problem = ControlProblem(
        lambda x, u: x @ M.T + np.tanh(u),
        lambda x, u: 1e-3 * (u**2).sum(axis=-1),
        last,
        n=2,
        m=2,
    )
    x0 = 2 * rng.normal(size=2)
    options = {"second_order": second_order, "bounds": bounds, "tol": 1e-8}
    result = ilqr(problem, x0, u=rng.normal(size=(3, 2)), **options)
    assert result.status.converged, result
    again = ilqr(problem, x0, u=result.u, **options)
    assert again.cost >= result.cost - 1e-7 * abs(result.cost)


def test_steps_that_overflow_are_shortened():
    """Newton's first step leads where exp overflows."""
    problem = ControlProblem(
        lambda x, u: x + u,
        lambda x, u: 1e-9 * (u**2).sum(axis=-1),
        lambda x: np.exp(-x).sum(axis=-1) + np.exp(np.exp(0.2 * x)).sum(axis=-1) - 3 * x[..., 0],
        n=1,
        m=1,
    )
    result = ilqr(problem, [-6.0], u=np.full((1, 1), 0.0))
    assert result.status.converged
    assert np.abs(result.gradient).max() < 1e-3
    far = ilqr(problem, [20.0], T=1)
    assert far.cost == pytest.approx(result.cost, rel=1e-6)
    assert far.x[-1] == pytest.approx(result.x[-1], abs=1e-3)


# Bad input


def line():
    return ControlProblem(lambda x, u: x + u, lambda x, u: (u**2).sum(axis=-1), n=1, m=1)


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        ({}, ArgumentError, "neither u nor T is given; pass the horizon T"),
        ({"T": 0}, ArgumentError, "T is 0, expected a whole number of at least 1"),
        ({"T": 3, "x0": [1.0, 2.0]}, ShapeError, r"x0 has shape \(2,\), expected \(1,\)"),
        ({"u": np.zeros(3)}, ShapeError, r"u has shape \(3,\), expected \(T, 1\)"),
        ({"u": np.zeros((3, 2))}, ShapeError, r"u has shape \(3, 2\), expected \(T, 1\)"),
        ({"u": np.zeros((0, 1))}, ShapeError, r"u has shape \(0, 1\), expected \(T, 1\)"),
        ({"u": np.zeros((3, 1)), "T": 4}, ArgumentError, "T is 4, but u is given for 3 steps"),
        ({"u": [[np.nan]]}, NonFiniteError, "u"),
        ({"u": [["a"]]}, DtypeError, "u holds text"),
        ({"T": 3, "x0": [np.inf]}, NonFiniteError, "x0"),
        ({"T": 3, "bounds": 4.0}, ArgumentError, r"bounds is 4\.0, expected a pair \(low, high\)"),
        (
            {"T": 3, "bounds": (1, -1)},
            ArgumentError,
            r"bounds leave nothing at .*: low is 1 and high is -1",
        ),
        ({"T": 3, "bounds": ([0, 0], 1)}, ShapeError, r"bounds\[0\] has shape \(2,\)"),
        ({"T": 3, "bounds": (np.inf, None)}, ArgumentError, r"low is inf and high is inf"),
        ({"T": 3, "bounds": (None, -np.inf)}, ArgumentError, r"low is -inf and high is -inf"),
        ({"T": 3, "bounds": (-1, np.nan)}, ArgumentError, r"bounds\[1\] holds a NaN"),
        ({"T": 3, "max_iter": -1}, ArgumentError, "max_iter is -1, expected a whole number"),
        ({"T": 3, "tol": np.nan}, ArgumentError, "tol is nan, expected a number of at least 0"),
        ({"T": 3, "tol": -1e-3}, ArgumentError, r"tol is -0\.001, expected a number of at least"),
        ({"T": 3, "tol": "small"}, DtypeError, "tol is 'small', expected a real number"),
    ],
)
def test_bad_input_is_named(words, kind, says):
    words = {"x0": [1.0], **words}
    with pytest.raises(kind, match=says):
        ilqr(line(), words.pop("x0"), **words)


def test_what_is_no_problem_is_named():
    with pytest.raises(ArgumentError, match=r"problem is .*ControlProblem\(f, stage_cost"):
        ilqr("pendulum", [1.0], T=3)


def test_a_start_to_roll_out_must_be_one_state(solved):
    with pytest.raises(ShapeError, match=r"x0 has shape \(3,\), expected \(2,\)"):
        solved("pendulum")[1].rollout([1.0, 2.0, 3.0])
    with pytest.raises(NonFiniteError, match=r"x0\[1\] is nan, expected finite"):
        solved("pendulum")[1].rollout([1.0, np.nan])


@pytest.mark.parametrize("bounds", [None, (1, 2)], ids=["free", "zero is outside"])
@pytest.mark.parametrize("m", [1, 3])
def test_one_state_one_step_and_more_inputs_than_states(m, bounds):
    """The least of (u.u + (x + sum u)^2) / 2: every u is -x / (1 + m), or at its bound."""
    problem = ControlProblem(
        lambda x, u: x + u.sum(axis=-1, keepdims=True),
        lambda x, u: 0.5 * (u**2).sum(axis=-1),
        lambda x: 0.5 * (x**2).sum(axis=-1),
        n=1,
        m=m,
    )
    result = ilqr(problem, [2.0], T=1, bounds=bounds)
    assert result.status.converged
    expected = -2.0 / (1 + m) if bounds is None else 1.0
    np.testing.assert_allclose(result.u, np.full((1, m), expected), rtol=1e-9)
    assert "promises -" not in result.message


def test_the_inputs_that_are_passed_are_not_changed():
    problem, x0, T = lunge()
    u = np.full((T, 2), 3.0)
    x0_before = x0.copy()
    ilqr(problem, x0, u=u, bounds=(-1, 1), max_iter=2)
    np.testing.assert_array_equal(u, 3.0)
    np.testing.assert_array_equal(x0, x0_before)


# Kinks, maxima and saddles are no minima


def wrapped(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


def hanging(cost):
    def f(x, u):
        rate = x[..., 1] + 0.05 * (9.81 * np.sin(x[..., 0]) + u[..., 0])
        return np.stack([x[..., 0] + 0.05 * x[..., 1], rate], axis=-1)

    return ControlProblem(f, lambda x, u: 0.05 * (u**2).sum(-1), cost, n=2, m=1)


NO_MINIMA = {
    "a cusp": (hanging(lambda x: 10 * (wrapped(x[..., 0]) ** 2 + x[..., 1] ** 2)), [np.pi, 0.0]),
    "a maximum": (hanging(lambda x: 1000 * np.cos(x[..., 0] - np.pi)), [np.pi, 0.0]),
    "a maximum of the inputs": (
        ControlProblem(lambda x, u: x + 0.1 * u, lambda x, u: -(u**2).sum(-1), n=1, m=1),
        [1.0],
    ),
    "a saddle of two inputs": (
        ControlProblem(
            lambda x, u: 0.9 * x + u[..., :1],
            lambda x, u: (u**2).sum(-1) + 3 * u[..., 0] * u[..., 1] + x[..., 0] ** 2,
            n=1,
            m=2,
        ),
        [0.0],
    ),
    "a ridge": (
        ControlProblem(lambda x, u: x + u, lambda x, u: 3 - abs(u[..., 0]), n=1, m=1),
        [1.0],
    ),
}


@pytest.mark.parametrize(("problem", "x0"), NO_MINIMA.values(), ids=NO_MINIMA)
@pytest.mark.parametrize("unit", [2.0**-40, 1.0, 2.0**40])
def test_a_stationary_point_that_is_no_minimum_is_told_from_one(problem, x0, unit):
    """In any unit of the inputs and of the cost; and the inputs that it names do cost less."""
    m = problem.m
    f, stage, end = problem.f, problem.stage_cost, problem.terminal_cost
    scaled = ControlProblem(
        lambda x, u: f(x, u / unit, 0),
        lambda x, u: stage(x, u / unit, 0) / unit,
        lambda x: end(x) / unit,
        n=problem.n,
        m=m,
    )
    result = ilqr(scaled, x0, T=20, bounds=(-unit, unit))
    assert result.status is Status.STATIONARY
    assert not result.status.converged
    assert "and the cost falls along u[" in result.message
    lower = scaled.cost(scaled.simulate(x0, result.lower), result.lower)
    assert lower < result.cost
    further = ilqr(scaled, x0, u=result.lower, bounds=(-unit, unit), max_iter=5)
    assert further.cost < lower


@pytest.mark.parametrize("seed", range(5))
def test_a_minimum_at_a_kink_is_one(seed):
    """|u| + a u with |a| < 1 is least at 0, though it has no slope there."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(-0.9, 0.9, size=2)
    problem = ControlProblem(
        lambda x, u: x + u, lambda x, u: (np.abs(u) + a * u + 0.1 * u**2).sum(-1), n=2, m=2
    )
    result = ilqr(problem, [1.0, 2.0], T=5)
    assert result.status is not Status.STATIONARY
    assert result.lower is None


def wavy():
    """A terminal cost that is not convex: steps need a weight."""
    return ControlProblem(
        lambda x, u: x + 0.3 * u,
        lambda x, u: 0.01 * u[..., 0] ** 2 + 0.3 * u[..., 1] ** 2,
        lambda x: 2 + np.cos(3 * x[..., 0]) + np.sin(2 * x[..., 1] + x[..., 0]),
        n=2,
        m=2,
    )


UNITS = {
    "quadrotor": (
        nonlinear.planar_quadrotor().problem,
        nonlinear.planar_quadrotor().x0,
        nonlinear.planar_quadrotor().bounds,
    ),
    "wavy": (wavy(), np.array([0.1, 0.4]), (-np.ones(2), np.ones(2))),
    "wavy, free": (wavy(), np.array([0.1, 0.4]), (-np.full(2, np.inf), np.full(2, np.inf))),
}


@pytest.mark.parametrize(("problem", "x0", "bounds"), UNITS.values(), ids=UNITS)
def test_units_are_the_users_business(problem, x0, bounds):
    """States, inputs and cost in powers of two: the same iterations, and the same numbers."""
    rng = np.random.default_rng(6)
    plain = ilqr(problem, x0, T=20, bounds=bounds, max_iter=8)
    for _ in range(3):
        D, E = (2.0 ** rng.integers(-30, 31, size=k) for k in (problem.n, problem.m))
        J = 2.0 ** rng.integers(-30, 31)
        scaled = ControlProblem(
            lambda x, u, t, D=D, E=E: D * problem.f(x / D, u / E, t),
            lambda x, u, t, D=D, E=E, J=J: J * problem.stage_cost(x / D, u / E, t),
            lambda x, D=D, J=J: J * problem.terminal_cost(x / D),
            n=problem.n,
            m=problem.m,
        )
        found = ilqr(scaled, D * x0, T=20, bounds=(E * bounds[0], E * bounds[1]), max_iter=8)
        assert (found.status, found.iterations) == (plain.status, plain.iterations)
        np.testing.assert_allclose(found.u / E, plain.u, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.history.cost / J, plain.history.cost, rtol=1e-9)


def test_former_names_and_places_are_taken():
    problem, x0, u = near_rest(), [0.1, 0.0], np.full((6, 1), 0.01)
    result = ilqr(problem, x0, u, max_iter=1)  # the inputs in the place of T
    np.testing.assert_array_equal(result.u, ilqr(problem, x0, u=u, max_iter=1).u)
    assert result.costs is result.history.cost
    assert result.decreases is result.history.decrease


def near_rest():
    return ControlProblem(
        lambda x, u: np.stack([x[..., 0] + 0.1 * x[..., 1], x[..., 1] + u[..., 0]], axis=-1),
        lambda x, u: (x**2).sum(axis=-1) + (u**2).sum(axis=-1),
        n=2,
        m=1,
    )
