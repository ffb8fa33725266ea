"""The main job: descents held against Riccati, with gaps, bounds and words that are true."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from random_problems import random_case

import lqrad
from lqrad import compare
from lqrad.arguments import EPS
from lqrad.descent.methods import METHODS
from lqrad.errors import (
    ArgumentError,
    DtypeError,
    NonFiniteError,
    NotConvexError,
    ShapeError,
    Status,
)

COLUMNS = ["method", "iterations", "cost", "gap", "proven gap", "distance", "seconds", "status"]

STABLE = [random_case(seed, radius=[0.5, 0.95][seed % 2]) for seed in range(40)]
UNSTABLE = [random_case(seed, radius=1.3, T=20 if seed % 2 else 60) for seed in range(8)]


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def scalar_problem(a=0.5, **terms):
    return lqrad.LQProblem([[a]], [[1.0]], [[1.0]], [[1.0]], **terms)


@pytest.fixture(scope="module")
def comparison():
    """A cart brought to rest by every method."""
    problem = lqrad.LQProblem([[1, 0.1], [0, 1]], [[0], [0.1]], np.eye(2), [[1.0]])
    return compare(problem, [1.0, 0.0], 30)


@pytest.fixture(scope="module")
def overflowing():
    """A start whose cost is near the largest number: momentum overflows, others stall."""
    return compare(scalar_problem(1.5), [1.0], 868, max_iter=300)


def size_of_terms(problem, x, u):
    """The cost with every product of its sums made positive: what its rounding error scales with."""
    x, u = np.abs(x), np.abs(u)
    terms = {name: np.abs(getattr(problem, name)) for name in ("Q", "R", "M", "q", "r")}
    Qx = (terms["Q"] @ x[:-1, :, None])[..., 0]
    Ru = (terms["R"] @ u[..., None])[..., 0]
    Mu = (terms["M"] @ u[..., None])[..., 0]
    stages = (x[:-1] * (Qx + Mu + terms["q"])).sum() + (u * (Ru + terms["r"])).sum()
    return float(stages + x[-1] @ (np.abs(problem.S) @ x[-1] + np.abs(problem.s)))


# --- the gaps are those of the costs, and the bounds hold -----------------------------------------


@by_name(STABLE + UNSTABLE)
def test_a_gap_is_never_negative(case):
    assert min(compare(case.problem, case.x0, case.T, max_iter=50).gaps) >= 0


@by_name(STABLE)
def test_a_gap_is_the_difference_of_the_costs_over_the_optimal_one(case):
    found = compare(case.problem, case.x0, case.T, max_iter=5)
    problem, optimum = case.problem, found.optimum
    assert found.scale == (abs(optimum.cost) or 1)
    for descent, gap in zip(found.descents, found.gaps, strict=True):
        u = descent.solution
        x = problem.simulate(case.x0, u)
        noise = size_of_terms(problem, x, u) + size_of_terms(problem, optimum.x, optimum.u)
        # A sum of some T (n + m)^2 terms, each of which passed through T steps of the dynamics.
        noise *= 100 * case.T * EPS
        difference = problem.cost(x, u) - optimum.cost
        assert abs(gap * found.scale - difference) <= noise


@by_name(STABLE)
def test_a_distance_is_relative_to_the_inputs_of_riccati(case):
    found = compare(case.problem, case.x0, case.T, max_iter=5)
    size = np.linalg.norm(found.optimum.u) or 1
    for descent, distance in zip(found.descents, found.distances, strict=True):
        expected = np.linalg.norm(descent.solution - found.optimum.u) / size
        assert distance == pytest.approx(expected, rel=1e-12)


@by_name(STABLE)
def test_no_proven_gap_is_below_the_true_one(case):
    """At the solution, where the true gap is known without cancellation, and on the way there."""
    found = compare(case.problem, case.x0, case.T, max_iter=200)
    u_size = np.linalg.norm(found.optimum.u) + np.linalg.norm(case.x0)
    L = found.curvature[1]
    # The inputs of Riccati, and the gradients, are themselves right to some roundings only.
    rounding = L * (1e4 * EPS * u_size) ** 2
    noise = 1e3 * EPS * size_of_terms(case.problem, found.optimum.x, found.optimum.u)
    for descent, row in zip(found.descents, found.rows()[1:], strict=True):
        assert row["gap"] * found.scale <= descent.gap_bound * (1 + 1e-9) + rounding
        assert row["proven gap"] * found.scale == pytest.approx(descent.gap_bound, rel=1e-12)
        history = descent.history
        true = history.cost - found.optimum.cost
        allowed = noise + 1e3 * EPS * np.abs(history.cost)
        assert np.all(true <= history.gap_bound * (1 + 1e-9) + allowed)


@by_name(STABLE)
def test_conjugate_gradients_reach_the_inputs_of_riccati(case):
    found = compare(case.problem, case.x0, case.T, ["conjugate-gradient"], tol=1e-20)
    assert found.distances[0] <= 1e-9


@by_name(STABLE)
def test_riccati_proves_itself_by_its_residual(case):
    found = compare(case.problem, case.x0, case.T, ["gradient"], max_iter=1)
    assert found.residual <= 1e-12
    assert f"{found.residual:.1e}" in found.notes()[0]


@by_name(UNSTABLE)
def test_converged_is_said_only_of_what_is_proven(case):
    tol = 1e-10
    found = compare(case.problem, case.x0, case.T, max_iter=200, tol=tol)
    for descent, gap in zip(found.descents, found.gaps, strict=True):
        if descent.status is Status.CONVERGED_GAP:
            assert descent.gap_bound <= tol * abs(descent.cost)
            assert gap <= 2 * tol
        else:
            assert not descent.status.converged
    assert found.converged == any(descent.status.converged for descent in found.descents)


# --- the rates ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[0, 1], ids="seed={}".format)
def small(request):
    """A problem whose Hessian has 24 rows, so that Lanczos knows its eigenvalues exactly."""
    shape = {"n": 3, "m": 2, "T": 12, "radius": 0.95}
    case = random_case(request.param, **shape, all_terms=False, time_varying=False)
    found = compare(case.problem, case.x0, case.T, tol=1e-24)
    assert found.condition < 100  # up to there descend takes the step 2 / (L + mu)
    return found


def observed(found, method, low, high):
    """The factor by which the error shrank per iteration while the relative gap fell to low."""
    history = found.descents[METHODS.index(method)].history
    gap = (history.cost - found.optimum.cost) / found.scale
    first, last = np.flatnonzero(gap < high)[0], np.flatnonzero(gap > low)[-1]
    return (gap[last] / gap[first]) ** (0.5 / (last - first))


def test_the_condition_number_is_that_of_the_dense_hessian(small):
    problem, size = small.problem, small.optimum.u.size
    units = np.eye(size).reshape(size, *small.optimum.u.shape)
    H = np.array([problem.hessian_product(unit).ravel() for unit in units])
    eigenvalues = np.linalg.eigvalsh(H)
    assert small.condition == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=1e-8)


def test_the_gradient_method_contracts_as_predicted(small):
    """In the long run the slowest mode is left, and its factor is the predicted one."""
    predicted = small.rates["gradient"]
    assert predicted == pytest.approx((small.condition - 1) / (small.condition + 1), rel=1e-12)
    seen = observed(small, "gradient", 1e-12, 1e-8)
    assert np.log(seen) == pytest.approx(np.log(predicted), rel=1e-3)


def test_heavy_ball_contracts_as_predicted(small):
    root = small.condition**0.5
    predicted = small.rates["heavy-ball"]
    assert predicted == pytest.approx((root - 1) / (root + 1), rel=1e-12)
    # The double root of its recursion adds a factor k, which dies out like log(k) / k.
    seen = observed(small, "heavy-ball", 1e-12, 1e-4)
    assert np.log(seen) == pytest.approx(np.log(predicted), rel=0.15)


def test_conjugate_gradients_are_at_least_as_fast_as_predicted(small):
    history = small.descents[METHODS.index("conjugate-gradient")].history
    gap = history.cost - small.optimum.cost
    bound = 4 * small.rates["conjugate-gradient"] ** (2.0 * np.arange(len(gap))) * gap[0]
    assert np.all(gap <= bound + 1e-13 * abs(small.optimum.cost))


def test_no_contraction_is_predicted_where_rounding_hides_the_smallest_eigenvalue(comparison):
    blind = dataclasses.replace(comparison, curvature=(-1e-20, 1.0))
    assert blind.condition == np.inf
    assert set(blind.rates.values()) == {1.0}


# --- what it shows --------------------------------------------------------------------------------


def test_the_rows_are_riccati_and_then_the_methods_in_their_order(comparison):
    assert [row["method"] for row in comparison.rows()] == ["riccati", *METHODS]
    order = ["l-bfgs", "gradient"]
    found = compare(comparison.problem, comparison.x0, 5, order)
    assert [row["method"] for row in found.rows()] == ["riccati", *order]
    assert [descent.method for descent in found.descents] == order


def test_riccati_is_the_row_that_the_others_are_measured_by(comparison):
    first = comparison.rows()[0]
    assert (first["gap"], first["distance"], first["proven gap"]) == (0, 0, None)
    assert first["status"] == "solved"
    assert first["cost"] == comparison.optimum.cost


def test_the_iterations_of_riccati_are_the_stages_that_were_swept():
    found = compare(scalar_problem(), [1.0], 500, ["conjugate-gradient"])
    assert found.rows()[0]["iterations"] == found.recursion.swept < 100


def test_the_table_has_these_columns_and_a_line_for_each_row(comparison):
    header, rule, *lines = str(comparison).splitlines()
    assert re.split(r"\s{2,}", header) == COLUMNS
    assert set(rule) == {"-"}
    assert [line.split()[0] for line in lines] == ["riccati", *METHODS]
    assert [line.split()[-1] for line in lines] == [row["status"] for row in comparison.rows()]
    assert str(comparison) == comparison.table()
    assert max(map(len, [header, rule, *lines])) <= 110  # so that it fits a terminal


def test_every_row_has_a_sentence(comparison):
    notes = comparison.notes()
    assert [note.split(": ")[0] for note in notes] == ["riccati", *METHODS]
    assert [note.split(": ")[1] for note in notes[1:]] == [d.message for d in comparison.descents]


class Cells(HTMLParser):
    """The text of the cells of an HTML table, row by row."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.rows[-1][-1] += data


def test_a_notebook_shows_the_same_table(comparison):
    header, *rows = Cells(comparison._repr_html_()).rows
    assert header == COLUMNS
    assert [row[0] for row in rows] == ["riccati", *METHODS]
    assert {len(row) for row in rows} == {len(COLUMNS)}
    for row, line in zip(rows, comparison.table().splitlines()[2:], strict=True):
        assert [cell for cell in row if cell] == line.split()


def test_a_notebook_shows_text_as_text(comparison):
    odd = dataclasses.replace(comparison.descents[0], method="<script>&")
    cells = Cells(
        dataclasses.replace(
            comparison, descents=(odd,), gaps=(0.0,), distances=(0.0,)
        )._repr_html_()
    )
    assert cells.rows[2][0] == "<script>&"
    assert "script" not in cells.tags


def strict(value):
    return json.loads(json.dumps(value, allow_nan=False))


def test_everything_found_survives_json(comparison):
    found = strict(comparison.to_dict())
    assert (found["n"], found["m"], found["T"], found["x0"]) == (2, 1, 30, [1, 0])
    assert found["hessian_eigenvalues"]["largest"] == comparison.curvature[1]
    assert found["riccati"]["u"] == comparison.optimum.u.tolist()
    assert found["riccati"]["x"] == comparison.optimum.x.tolist()
    assert found["riccati"]["kkt_residual"] == comparison.residual
    assert [row["method"] for row in found["descents"]] == list(METHODS)
    for row, descent, gap in zip(
        found["descents"], comparison.descents, comparison.gaps, strict=True
    ):
        assert (row["gap"], row["cost"], row["u"]) == (
            gap,
            descent.cost,
            descent.solution.tolist(),
        )
        assert row["converged"] is descent.status.converged
        assert row["message"] == descent.message
        assert row["status"] == descent.status.value.split(":")[0]
        assert row["proven_gap"] == descent.gap_bound / comparison.scale


def test_a_descent_that_diverged_says_so_and_survives_json(overflowing):
    diverged = [d for d in overflowing.descents if d.status is Status.DIVERGED]
    assert diverged
    assert all("try " in descent.message for descent in diverged)
    assert not overflowing.converged
    found = strict(overflowing.to_dict())
    assert [row["status"] for row in found["descents"] if row["method"] == diverged[0].method] == [
        "diverged"
    ]
    assert "diverged" in overflowing.table()


def test_what_json_has_no_word_for_is_none(comparison):
    odd = dataclasses.replace(comparison, gaps=(np.inf, np.nan, 0.0, 0.0, 0.0))
    assert [row["gap"] for row in strict(odd.to_dict())["descents"]] == [None, None, 0, 0, 0]


def test_its_progress_can_be_seen(comparison, capsys):
    compare(comparison.problem, comparison.x0, 5, ["gradient"], progress=True)
    assert "gradient" in capsys.readouterr().err


# --- special cases ----------------------------------------------------------------------------------


def test_one_state_one_input_one_step():
    """J = 1/2 (x0^2 + u^2 + (x0/2 + u)^2) has its minimum at u = -x0/4."""
    found = compare(scalar_problem(0.5), [4.0], 1)
    assert found.converged
    for descent in found.descents:
        assert descent.solution == pytest.approx(-1.0, abs=1e-5)
    assert found.optimum.cost == pytest.approx(9.0, rel=1e-15)


def test_from_rest_there_is_nothing_to_do():
    found = compare(scalar_problem(0.5), [0.0], 8)
    assert found.optimum.cost == 0
    assert found.scale == 1
    assert found.gaps == found.distances == (0,) * len(METHODS)
    assert [descent.iterations for descent in found.descents] == [0] * len(METHODS)
    assert found.converged
    strict(found.to_dict())


def test_without_a_bound_the_proven_gap_is_left_blank():
    """R = 0: the Hessian is positive definite by B'PB, but nothing cheap proves how much."""
    problem = lqrad.LQProblem([[0.5]], [[1.0]], [[1.0]], [[0.0]])
    found = compare(problem, [1.0], 6)
    assert {row["proven gap"] for row in found.rows()} == {None}
    assert {row["proven_gap"] for row in strict(found.to_dict())["descents"]} == {None}
    assert "None" not in found.table()
    assert max(found.gaps) < 1e-20


def test_a_problem_that_varies_in_time_brings_its_own_horizon():
    case = random_case(2, T=7, time_varying=True, radius=0.95)
    found = compare(case.problem, case.x0, methods=["conjugate-gradient"], tol=1e-20)
    assert found.recursion.T == 7
    assert found.distances[0] < 1e-9


def test_the_name_of_one_method_is_enough():
    found = compare(scalar_problem(), [1.0], 4, "nesterov")
    assert [descent.method for descent in found.descents] == ["nesterov"]


def test_the_initial_state_is_copied():
    x0 = np.ones(1)
    found = compare(scalar_problem(), x0, 4, ["gradient"])
    x0[0] = 7
    assert found.x0.tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"methods": ["newton"]}, ArgumentError, "method is 'newton', expected one of: gradient,"),
        (
            {"methods": []},
            ArgumentError,
            "methods is empty, expected some of: gradient, heavy-ball",
        ),
        (
            {"x0": [[1.0], [2.0]]},
            ShapeError,
            r"x0 has shape \(2, 1\), expected \(1,\): one initial state",
        ),
        ({"x0": 1.0}, ShapeError, r"x0 has shape \(\), expected \(1,\): one initial state"),
        ({"x0": [1.0, 2.0]}, ShapeError, r"x0 has shape \(2,\)"),
        ({"x0": [np.nan]}, NonFiniteError, r"x0\[0\] is nan"),
        ({"x0": ["a"]}, DtypeError, "x0 holds text"),
        ({"T": None}, ArgumentError, "T is not given and nothing varies in time"),
        ({"T": 0}, ArgumentError, "T is 0, expected a whole number of at least 1"),
        ({"max_iter": -1}, ArgumentError, "max_iter is -1"),
        ({"tol": np.nan}, ArgumentError, "tol is nan"),
        (
            {"problem": scalar_problem(c=np.ones((5, 1)))},
            ArgumentError,
            "T is 4, but the problem varies over 5 stages",
        ),
        (
            {"problem": lqrad.LQProblem([[0.5]], [[0.0]], [[1.0]], [[0.0]])},
            NotConvexError,
            "not positive definite at stage t=3",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, error, words):
    given = {"problem": scalar_problem(), "x0": [1.0], "T": 4, "methods": METHODS} | arguments
    with pytest.raises(error, match=words):
        compare(**given)


def test_where_an_open_loop_overflows_riccati_stands_alone():
    """1.2^T is no number: the descents say so in their rows, and Riccati's is as good as ever."""
    problem = lqrad.LQProblem([[1.2]], [[1]], [[1]], [[1]])
    comparison = lqrad.compare(problem, [1.0], T=5000)
    P = lqrad.dare([[1.2]], [[1]], [[1]], [[1]])
    assert comparison.optimum.cost == pytest.approx(0.5 * P[0, 0], rel=1e-12)
    assert comparison.residual < 1e-12
    for row in comparison.rows()[1:]:
        assert row["status"] == "diverged"
        assert "x[" in row["message"]
        assert row["gap"] == np.inf
    assert not comparison.converged
    assert len(comparison.plot().axes) == 4


def test_a_gap_that_is_plain_in_the_costs_is_their_difference():
    """U - u* simulated open loop is noise times 2^T; J - J* is not."""
    problem = lqrad.LQProblem([[1.5, 1], [0, 2]], [[0], [1]], np.eye(2), [[1]])
    comparison = lqrad.compare(problem, [1.0, 1.0], T=400, methods=["nesterov"])
    expected = (comparison.descents[0].cost - comparison.optimum.cost) / comparison.scale
    assert comparison.gaps[0] == pytest.approx(expected, rel=1e-12)
