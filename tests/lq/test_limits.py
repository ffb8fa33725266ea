"""Problems within limits: optimality conditions by loops, a linear program for what is feasible."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.optimize
from random_problems import random_case

import lqrad
from lqrad import LQProblem, Status
from lqrad.lq.limits import Limited

SEEDS = range(60)


class Case:
    """A random problem with limits on inputs, states, and a row that mixes both."""

    def __init__(self, seed, *, tight=None, **asked):
        case = random_case(seed, **asked)
        rng = np.random.default_rng(seed + 1000)
        self.problem, self.T, self.x0 = case.problem, case.T, case.x0
        n, m, T = self.problem.n, self.problem.m, self.T
        mixed = rng.normal(size=(1, n + m))
        self.C = np.vstack([np.zeros((m, n)), mixed[:, :n]])
        self.D = np.vstack([np.eye(m), mixed[:, n:]])
        self.E = np.eye(n)[: int(rng.integers(0, n + 1))]
        k, j = m + 1, len(self.E)
        self.soft = np.arange(k + j) >= m
        self.names = [f"row {i}" for i in range(k + j)]
        free = lqrad.riccati(self.problem, T).rollout(self.x0)
        g = self.rows(free.x, free.u)
        part = rng.uniform(0.3, 1.2, size=k + j) if tight is None else tight
        size = np.abs(g).max(axis=0) * part + 1e-3
        self.low, self.high = np.tile(-size, (T, 1)), np.tile(size, (T, 1))
        if rng.random() < 0.3:  # limits that vary, some of one side only
            self.high = self.high * rng.uniform(0.8, 1.5, size=self.high.shape)
            self.low[:, rng.integers(k + j)] = -np.inf

    def rows(self, x, u):
        return np.hstack([x[:-1] @ self.C.T + u @ self.D.T, x[1:] @ self.E.T])

    def limited(self):
        return Limited(
            self.problem, self.T, self.C, self.D, self.E, soft=self.soft, names=self.names
        )

    def solve(self, **options):
        return self.limited().solve(self.x0, self.low, self.high, **options)

    def feasible(self):
        """Whether a linear program finds inputs within all limits."""
        m, T = self.problem.m, self.T
        zero = np.zeros(T * m)

        def rows_of(flat):
            u = flat.reshape(T, m)
            return self.rows(simulate(self.problem, self.x0, u), u).ravel()

        start = rows_of(zero)
        G = np.array([rows_of(unit) - start for unit in np.eye(T * m)]).T
        low, high = self.low.ravel() - start, self.high.ravel() - start
        A = np.vstack([G, -G])
        b = np.concatenate([high, -low])
        kept = np.isfinite(b)
        # The least excess, relative to the limits: zero, or not within what rounding explains.
        unit = np.concatenate([np.abs(self.high).ravel(), np.abs(self.low).ravel()])[kept]
        least = scipy.optimize.linprog(
            np.append(zero, 1.0),
            A_ub=np.hstack([A[kept], -unit[:, None]]),
            b_ub=b[kept],
            bounds=[(None, None)] * (T * m) + [(0, None)],
        )
        return least.x[-1]


def simulate(problem, x0, u):
    T = len(u)
    A, B, c = (
        np.broadcast_to(z, (T, *z.shape[-d:]))
        for z, d in ((problem.A, 2), (problem.B, 2), (problem.c, 1))
    )
    x = [x0]
    for t in range(T):
        x.append(A[t] @ x[-1] + B[t] @ u[t] + c[t])
    return np.array(x)


def stages(problem, T):
    return {
        name: np.broadcast_to(getattr(problem, name), (T, *getattr(problem, name).shape[-d:]))
        for name, d in {"A": 2, "B": 2, "Q": 2, "R": 2, "M": 2, "c": 1, "q": 1, "r": 1}.items()
    }


def stationarity(case, plan, y):
    """The largest derivative of the Lagrangian in a state or input, relative to its terms."""
    s, T, k = stages(case.problem, case.T), case.T, len(case.C)
    x, u, p = plan.x, plan.u, plan.p
    worst, size = 0.0, 1e-300
    for t in range(T):
        terms = [s["R"][t] @ u[t], s["M"][t].T @ x[t], s["r"][t], s["B"][t].T @ p[t]]
        terms.append(case.D.T @ y[t, :k])
        if t + 1 < T:
            now = [s["Q"][t + 1] @ x[t + 1], s["M"][t + 1] @ u[t + 1], s["q"][t + 1]]
            now += [s["A"][t + 1].T @ p[t + 1], case.C.T @ y[t + 1, :k]]
        else:
            now = [case.problem.S @ x[T], case.problem.s]
        now += [-p[t], case.E.T @ y[t, k:]]
        for parts in (terms, now):
            worst = max(worst, np.abs(sum(parts)).max())
            size = max(size, *(np.abs(z).max() for z in parts))
    return worst / size


def test_the_optimality_conditions_hold_or_no_inputs_keep_the_limits():
    """The conditions of a convex problem are sufficient: no other solver is needed."""
    impossible = 0
    for seed in SEEDS:
        case = Case(seed)
        plan, least = case.solve(), case.feasible()
        dynamics = simulate(case.problem, case.x0, plan.u)
        np.testing.assert_allclose(plan.x, dynamics, atol=1e-9 * max(1, np.abs(dynamics).max()))
        assert stationarity(case, plan, plan.multipliers) < 1e-7
        if plan.status is Status.INFEASIBLE:
            impossible += 1
            assert least > 1e-7
        else:
            assert plan.status is Status.CONVERGED_GAP
            assert least < 1e-6
            check_complementarity(case, plan)
    assert 10 < impossible < 50


def check_complementarity(case, plan):
    """The limits hold, and multipliers are zero but at their limits."""
    g, y = case.rows(plan.x, plan.u), plan.multipliers
    excess = np.maximum(np.maximum(g - case.high, case.low - g), 0)
    assert (excess <= 1e-7 * np.maximum(np.abs(case.high), 1e-3)).all()
    size = np.abs(plan.cost) + 1e-9
    up, down = y > 0, y < 0
    assert (y[up] * (case.high - g)[up] <= 1e-6 * size).all()
    assert (y[down] * (case.low - g)[down] <= 1e-6 * size).all()
    assert plan.cost == pytest.approx(float(case.problem.cost(plan.x, plan.u)), rel=1e-12)


def test_the_bound_is_never_below_the_gap():
    """Also where the method is stopped long before its end."""
    possible, stopped = 0, 0
    for seed in SEEDS:
        case = Case(seed)
        best = case.solve(tol=1e-10)
        possible += best.status is Status.CONVERGED_GAP
        for most in (1, 2, 4):
            plan = case.solve(max_iter=most)
            stopped += plan.status is Status.MAX_ITER
            assert plan.iterations <= most
            if best.status is Status.CONVERGED_GAP:
                assert plan.cost - plan.gap_bound <= best.cost + 1e-8 * abs(best.cost) + 1e-12
    assert possible > 10
    assert stopped > 10


@pytest.mark.parametrize("seed", range(20))
def test_without_limits_it_is_riccati(seed):
    case = Case(seed)
    infinite = np.full_like(case.high, np.inf)
    plan = case.limited().solve(case.x0, -infinite, infinite)
    optimum = lqrad.riccati(case.problem, case.T).rollout(case.x0)
    assert plan.iterations == 0
    scale = max(np.abs(optimum.x).max(), np.abs(optimum.u).max())
    np.testing.assert_allclose(plan.x, optimum.x, atol=1e-10 * scale)
    np.testing.assert_allclose(plan.u, optimum.u, atol=1e-10 * scale)
    np.testing.assert_allclose(plan.p, optimum.p, atol=1e-9 * max(np.abs(optimum.p).max(), 1))


def test_a_gap_without_limits_is_evaluated():
    """It is what rounding errors have left, so seldom zero and never beyond them."""
    gaps = []
    for seed in range(20):
        case = Case(seed, all_terms=False)
        infinite = np.full_like(case.high, np.inf)
        plan = case.limited().solve(case.x0, -infinite, infinite)
        gaps.append(plan.gap_bound / plan.cost)
    assert 0 < max(gaps) < 1e-20
    assert min(gaps) >= 0


def test_a_gap_without_limits_at_work_is_compared_with_the_tolerance():
    """In eight integrators the gap is rounding errors: below 1e-8 of the cost, and above 1e-300 of it."""
    A = np.eye(8) + np.eye(8, k=1)
    problem = LQProblem(A, np.eye(8)[:, -1:], np.eye(8), [[1.0]])
    none = np.full((30, 1), np.inf)
    row, state = np.ones((1, 1)), np.zeros((1, 8))
    limited = Limited(problem, 30, state, row, state[:0], soft=np.array([False]), names=["u"])
    plan = limited.solve(np.ones(8), -none, none)
    assert plan.status is Status.CONVERGED_GAP
    assert 0 < plan.gap_bound <= 1e-8 * plan.cost
    plan = limited.solve(np.ones(8), -none, none, tol=1e-300)
    assert plan.status is Status.STALLED
    assert plan.iterations == 0


def test_a_plan_at_no_limit_is_corrected_where_rounding_errors_hide_the_proof():
    """Inputs of weight 1e-12 beside the last state's: the recursion alone ends STALLED, at 2e-8."""
    rng = np.random.default_rng(29)
    A = rng.normal(size=(3, 3))
    A *= 1.5 / np.abs(np.linalg.eigvals(A)).max()
    B, S = rng.normal(size=(3, 3)), np.eye(3)
    problem = LQProblem(A, B, 0 * S, 1e-12 * S, S)
    x0 = rng.normal(size=3)
    plan = lqrad.mpc(problem, 40, input_bounds=(-1e9, 1e9)).plan(x0)
    assert plan.status is Status.CONVERGED_GAP
    assert plan.iterations == 0
    assert plan.gap_bound <= 1e-9 * plan.cost


def test_the_right_multipliers_are_a_start_that_ends_at_once():
    possible = 0
    for seed in SEEDS:
        case = Case(seed)
        cold = case.solve()
        if cold.status is Status.CONVERGED_GAP:
            possible += 1
            warm = case.solve(y=cold.multipliers)
            assert warm.iterations <= 1
            assert warm.cost == pytest.approx(cold.cost, rel=1e-9)
            wrong = case.solve(y=np.random.default_rng(seed).normal(size=cold.multipliers.shape))
            assert wrong.cost == pytest.approx(cold.cost, rel=1e-9)
    assert possible > 10


def test_linear_terms_of_a_plan_are_those_of_a_problem_made_with_them():
    """The maps do not depend on them; plans with limits at work, springs, and proofs do."""
    statuses = set()
    for seed in range(30):
        case = Case(seed, all_terms=True)
        problem, T = case.problem, case.T
        terms = {name: getattr(problem, name) for name in "cqrs"}
        bare = problem.replace(**{name: 0 * term for name, term in terms.items()})
        limited = Limited(bare, T, case.C, case.D, case.E, soft=case.soft, names=case.names)
        plan, wanted = limited.solve(case.x0, case.low, case.high, **terms), case.solve()
        statuses.add(plan.status)
        assert (plan.status, plan.iterations) == (wanted.status, wanted.iterations)
        for name in ("x", "u", "p", "multipliers", "cost", "gap_bound", "certificate"):
            np.testing.assert_array_equal(getattr(plan, name), getattr(wanted, name), err_msg=name)
        stages = {name: np.broadcast_to(terms[name], (T, terms[name].shape[-1])) for name in "cqr"}
        again = limited.solve(case.x0, case.low, case.high, **stages, s=terms["s"])
        assert again.cost == pytest.approx(plan.cost, rel=1e-9)
        with_offset = limited.rows.with_offset(problem.c)
        sizes = [
            rows.terms(plan.x, plan.u, case.low, case.high)
            for rows in (with_offset, case.limited().rows)
        ]
        np.testing.assert_array_equal(*sizes)
        plain = limited.solve(case.x0, case.low, case.high)  # the next plan is without them
        assert plain.cost != pytest.approx(plan.cost, rel=1e-9)
    assert statuses >= {Status.CONVERGED_GAP, Status.INFEASIBLE}


def test_unstable_and_long():
    """Radius 1.5 over two hundred steps: an open-loop pass would end at 1e35."""
    A, B = np.array([[1.5, 0.2], [0.0, 0.7]]), np.array([[0.3], [1.0]])
    problem, T = LQProblem(A, B, np.eye(2), [[1.0]]), 200
    limited = Limited(
        problem,
        T,
        np.zeros((1, 2)),
        np.eye(1),
        np.zeros((0, 2)),
        soft=np.array([False]),
        names=["u"],
    )
    one = np.ones((T, 1))
    plan = limited.solve(np.array([0.9, 0.1]), -one, one)
    assert plan.status is Status.CONVERGED_GAP
    assert (plan.multipliers != 0).any()
    assert plan.gap_bound <= 1e-8 * plan.cost
    kkt = problem.kkt_residual(plan.x, plan.u, plan.p, [0.9, 0.1])
    np.testing.assert_allclose(kkt.input + plan.multipliers, 0, atol=1e-7)
    np.testing.assert_allclose(kkt.dynamics, 0, atol=1e-12)
    np.testing.assert_allclose(kkt.state, 0, atol=1e-9)


@pytest.mark.parametrize("units", [1e-8, 1e8])
def test_units_change_nothing(units):
    case = Case(7, time_varying=False, all_terms=False)
    problem = case.problem
    scale = np.eye(problem.n) * units
    scaled = LQProblem(
        problem.A, problem.B * units, problem.Q / units**2, problem.R, problem.S / units**2
    )
    plan = case.solve()
    C, E = case.C / units, case.E / units
    other = Limited(scaled, case.T, C, case.D, E, soft=case.soft, names=case.names)
    found = other.solve(scale @ case.x0, case.low, case.high)
    assert found.status is plan.status
    assert found.cost == pytest.approx(plan.cost, rel=1e-7)


def double_integrator(T=20, **options):
    problem = LQProblem([[1, 0.1], [0, 1]], [[0.0], [0.1]], np.eye(2), [[0.1]])
    return Limited(
        problem,
        T,
        np.zeros((1, 2)),
        np.eye(1),
        np.eye(2),
        soft=np.array([False, True, True]),
        names=["u", "position", "velocity"],
        **options,
    )


def test_what_no_input_moves_is_told_of_and_left():
    """The first position follows from the start alone, whatever the force."""
    limited = double_integrator()
    high = np.full((20, 3), np.inf)
    high[:, 0], high[:, 1] = 10.0, 0.93
    plan = limited.solve(np.array([1.0, -0.5]), -high, high)
    assert plan.status is Status.INFEASIBLE
    assert re.search(
        r"infeasible after \d+ steps?; J = [\d.]+; no inputs keep everything within its "
        r"limits, and position exceeds its limit by 0\.02 at t=1",
        plan.message,
    )
    np.testing.assert_allclose(plan.x[1], [0.95, plan.x[1, 1]])
    assert (plan.x[2:, 0] <= 0.93).all()


def test_limits_that_cost_a_million_times_more_are_not_impossible():
    limited = double_integrator()
    high, low = np.full((20, 3), np.inf), np.full((20, 3), -np.inf)
    low[-1, 1] = 1.0  # from a tenth of a millimetre to a metre
    plan = limited.solve(np.array([1e-4, 0.0]), low, high)
    assert plan.status is Status.CONVERGED_GAP
    assert plan.x[-1, 0] == pytest.approx(1.0, abs=1e-7)
    free = lqrad.riccati(limited.problem, 20).cost([1e-4, 0.0])
    assert plan.cost > 1e6 * free


def test_equal_limits_are_equations():
    limited = double_integrator()
    high, low = np.full((20, 3), np.inf), np.full((20, 3), -np.inf)
    high[-1, 1:] = low[-1, 1:] = 0.0
    plan = limited.solve(np.array([1.0, 0.0]), low, high)
    assert plan.status is Status.CONVERGED_GAP
    np.testing.assert_allclose(plan.x[-1], 0, atol=1e-8)


def test_no_rows_at_all():
    problem = LQProblem([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    none = np.zeros((0, 1))
    limited = Limited(problem, 3, none, none, none, soft=np.zeros(0, bool), names=[])
    empty = np.zeros((3, 0))
    plan = limited.solve(np.array([1.0]), empty, empty)
    assert plan.cost == pytest.approx(lqrad.riccati(problem, 3).cost([1.0]))


def test_at_rest_there_is_nothing_to_do():
    limited = double_integrator()
    one = np.ones((20, 3))
    plan = limited.solve(np.zeros(2), -one, one)
    assert (plan.cost, plan.gap_bound, plan.iterations) == (0.0, 0.0, 0)


def test_hard_limits_that_contradict_each_other():
    problem = LQProblem([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    limited = Limited(
        problem,
        4,
        np.zeros((2, 1)),
        np.ones((2, 1)),
        np.zeros((0, 1)),
        soft=np.zeros(2, bool),
        names=["u", "u again"],
    )
    low, high = np.tile([1.0, -2.0], (4, 1)), np.tile([2.0, -1.0], (4, 1))
    plan = limited.solve(np.array([1.0]), low, high)
    assert plan.status is Status.INFEASIBLE
    assert "no inputs keep everything within its limits" in plan.message


def test_the_limit_on_steps_is_told():
    case = Case(5, T=20, tight=0.4)
    plan = case.solve(max_iter=1)
    assert plan.status is Status.MAX_ITER
    assert plan.message.startswith("stopped after 1 step; J = ")
    assert "the limit on iterations was reached, and row" in plan.message


def test_against_piqp_and_osqp():
    """A hundred problems: the same verdicts, the same cost."""
    piqp, osqp = pytest.importorskip("piqp"), pytest.importorskip("osqp")
    from scipy import sparse

    verdicts = []
    for seed in range(100):
        case = Case(seed, all_terms=False, time_varying=False)
        problem, T = case.problem, case.T
        n, m = problem.n, problem.m
        P = sparse.block_diag(
            [
                sparse.kron(sparse.eye(T), problem.Q),
                problem.S,
                sparse.kron(sparse.eye(T), problem.R),
            ],
            format="csc",
        )
        step = sparse.hstack(
            [
                sparse.kron(sparse.eye(T, T + 1), problem.A)
                - sparse.kron(sparse.eye(T, T + 1, k=1), sparse.eye(n)),
                sparse.kron(sparse.eye(T), problem.B),
            ]
        )
        first = sparse.eye(n, (T + 1) * n + T * m)
        equal = sparse.vstack([first, step], format="csc")
        right = np.concatenate([case.x0, np.zeros(T * n)])
        rows = sparse.vstack(
            [
                sparse.hstack(
                    [sparse.kron(sparse.eye(T, T + 1), case.C), sparse.kron(sparse.eye(T), case.D)]
                ),
                sparse.hstack(
                    [
                        sparse.kron(sparse.eye(T, T + 1, k=1), case.E),
                        sparse.csc_matrix((T * len(case.E), T * m)),
                    ]
                ),
            ],
            format="csc",
        )
        k = len(case.C)
        low = np.concatenate([case.low[:, :k].ravel(), case.low[:, k:].ravel()])
        high = np.concatenate([case.high[:, :k].ravel(), case.high[:, k:].ravel()])
        plan = case.solve()

        solver = piqp.SparseSolver()
        solver.settings.eps_abs = solver.settings.eps_rel = 1e-10
        solver.setup(P, np.zeros(P.shape[0]), equal, right, rows, low, high)
        status = str(solver.solve())
        infeasible = "INFEASIBLE" in status
        verdicts.append(infeasible)
        assert infeasible == (plan.status is Status.INFEASIBLE), (seed, status, plan)
        if infeasible:
            continue
        assert plan.cost == pytest.approx(solver.result.info.primal_obj, rel=1e-6)
        assert plan.excess <= 1e-6
        other = osqp.OSQP()
        other.setup(
            sparse.triu(P, format="csc"),
            np.zeros(P.shape[0]),
            sparse.vstack([equal, rows], format="csc"),
            np.concatenate([right, low]),
            np.concatenate([right, high]),
            verbose=False,
            eps_abs=1e-9,
            eps_rel=1e-9,
            max_iter=200_000,
        )
        result = other.solve(raise_error=False)
        if result.info.status == "solved":
            assert plan.cost == pytest.approx(result.info.obj_val, rel=1e-6)
    assert 10 < sum(verdicts) < 90  # both kinds are there
