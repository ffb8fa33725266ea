"""What LQProblem refuses, and in which words: the argument, what was expected, what came, a remedy."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import scipy.sparse

import lqrad
from lqrad.errors import (
    ArgumentError,
    DtypeError,
    LqradError,
    NonFiniteError,
    NotConvexError,
    ShapeError,
)

NAN, INF = np.nan, np.inf


def good():
    """Data of a problem with n = 3, m = 2, every array given and none of it varying."""
    return {
        "A": np.eye(3) / 2,
        "B": np.arange(6.0).reshape(3, 2),
        "Q": np.diag([1.0, 2.0, 3.0]),
        "R": np.diag([4.0, 5.0]),
        "S": np.diag([1.0, 0.0, 2.0]),
        "M": np.full((3, 2), 0.1),
        "c": np.ones(3),
        "q": np.ones(3),
        "r": np.ones(2),
        "s": np.ones(3),
    }


def problem(**changes):
    return lqrad.LQProblem(**(good() | changes))


def stages(array, T):
    return np.array([array] * T)


def spoiled(name, value):
    """The good array of this name with its last entry replaced."""
    array = good()[name]
    array.flat[-1] = value
    return array


def test_the_data_that_the_errors_start_from_is_good():
    assert (problem().n, problem().m, problem().T) == (3, 2, None)


# --- shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"A": np.ones((3, 2))}, r"A has shape \(3, 2\), expected .*\(n, n\)"),
        ({"A": np.ones(3)}, r"A has shape \(3,\)"),
        ({"A": 0.5}, r"A has shape \(\)"),
        ({"A": np.ones((2, 2, 3, 3))}, r"A has shape \(2, 2, 3, 3\)"),
        ({"B": np.ones((2, 3))}, r"B has shape \(2, 3\), expected \(.*m\).*did you pass B\.T\?"),
        ({"B": np.ones(3)}, r"B has shape \(3,\), expected .*did you mean B\[:, None\]\?"),
        ({"B": np.ones((4, 2))}, r"B has shape \(4, 2\), expected \(.*m\)"),
        ({"B": 1.0}, r"B has shape \(\)"),
        ({"Q": np.eye(2)}, r"Q has shape \(2, 2\), expected \(n, n\).*\(3, 3\)"),
        ({"Q": np.ones(3)}, r"Q has shape \(3,\), expected .*\(3, 3\)"),
        ({"Q": 1.0}, r"Q has shape \(\), expected .*\(3, 3\)"),
        ({"R": np.eye(3)}, r"R has shape \(3, 3\), expected \(m, m\).*\(2, 2\)"),
        ({"R": np.ones(2)}, r"R has shape \(2,\), expected .*\(2, 2\)"),
        ({"R": 1.0}, r"R has shape \(\), expected .*\(2, 2\)"),
        ({"S": np.eye(2)}, r"S has shape \(2, 2\), expected \(n, n\).*\(3, 3\)"),
        ({"S": stages(np.eye(3), 4)}, r"S has shape \(4, 3, 3\), expected \(n, n\)"),
        ({"M": np.ones((2, 3))}, r"M has shape \(2, 3\), expected .*\(3, 2\).*did you pass M\.T\?"),
        ({"M": np.ones((3, 3))}, r"M has shape \(3, 3\), expected .*\(3, 2\)"),
        ({"c": np.ones(2)}, r"c has shape \(2,\), expected .*\(3,\)"),
        ({"c": np.ones((1, 1, 3))}, r"c has shape \(1, 1, 3\)"),
        ({"c": np.ones((3, 1))}, r"c has shape \(3, 1\)"),
        ({"q": np.ones(2)}, r"q has shape \(2,\), expected .*\(3,\)"),
        ({"r": np.ones(3)}, r"r has shape \(3,\), expected .*\(2,\)"),
        ({"r": 1.0}, r"r has shape \(\), expected .*\(2,\)"),
        ({"s": np.ones(4)}, r"s has shape \(4,\), expected .*\(3,\)"),
        ({"s": np.ones((4, 3))}, r"s has shape \(4, 3\), expected .*\(3,\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_shape_names_the_array_and_both_shapes(changes, match):
    with pytest.raises(ShapeError, match=match):
        problem(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"A": []}, r"A has shape \(0,\)"),
        ({"A": [[]]}, r"A has shape \(1, 0\)"),
        ({"A": np.zeros((0, 0))}, r"A has shape \(0, 0\)"),
        ({"A": np.zeros((0, 3, 3))}, r"A has shape \(0, 3, 3\)"),
        ({"B": np.zeros((3, 0))}, r"B has shape \(3, 0\)"),
        ({"B": []}, r"B has shape \(0,\)"),
        ({"Q": np.zeros((0, 3, 3))}, r"Q has shape \(0, 3, 3\)"),
        ({"c": np.zeros((0, 3))}, r"c has shape \(0, 3\)"),
        ({"R": np.zeros((0, 0))}, r"R has shape \(0, 0\)"),
    ],
    ids=str,
)
def test_nothing_is_not_a_problem(changes, match):
    with pytest.raises(ShapeError, match=match):
        problem(**changes)


@pytest.mark.parametrize(("first", "second"), [*permutations("ABQRMcqr", 2)])
def test_time_axes_that_disagree_name_both_arrays_and_both_lengths(first, second):
    changes = {first: stages(good()[first], 5), second: stages(good()[second], 4)}
    both = rf"(?=.*\b{first}\b)(?=.*\b{second}\b)(?=.*\b5\b)(?=.*\b4\b)"
    with pytest.raises(ShapeError, match=both):
        problem(**changes)


def test_a_terminal_weight_is_asked_for_where_q_varies():
    data = good() | {"Q": stages(good()["Q"], 4)}
    del data["S"]
    with pytest.raises(ArgumentError, match=r"S .*Q (varies|is time-varying)"):
        lqrad.LQProblem(**data)


# --- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("name", good())
def test_a_number_that_is_not_finite_is_named_with_its_index(name, value):
    last = ", ".join(str(size - 1) for size in good()[name].shape)
    with pytest.raises(NonFiniteError, match=rf"{name}\[{last}\] is {value}"):
        problem(**{name: spoiled(name, value)})


def test_a_stage_that_is_not_finite_is_named():
    A = stages(good()["A"], 5)
    A[3, 1, 2] = NAN
    with pytest.raises(NonFiniteError, match=r"A\[3, 1, 2\] is nan"):
        problem(A=A)


@pytest.mark.parametrize("name", good())
@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda a: a + 0j, "holds complex numbers, expected real numbers"),
        (lambda a: a.astype(str), "holds text, expected real numbers"),
        (lambda a: a.astype(str).tolist(), "holds text, expected real numbers"),
        (lambda a: a.astype(bytes), "holds bytes, expected real numbers"),
        (lambda a: np.full(a.shape, None), "holds objects, expected real numbers"),
        (lambda a: [a.tolist(), [1.0]], "is not a rectangular array of numbers"),
        (lambda a: {"a": 1.0}, "holds objects, expected real numbers"),
        (lambda a: a.astype("datetime64[s]"), "expected real numbers"),
    ],
    ids=["complex", "text", "list-of-text", "bytes", "objects", "ragged", "dict", "dates"],
)
def test_what_is_not_real_numbers_is_named(name, spoil, match):
    with pytest.raises(DtypeError, match=rf"{name} {match}|{name} holds .*{match}"):
        problem(**{name: spoil(good()[name])})


@pytest.mark.parametrize("name", ["A", "B", "Q", "R"])
def test_none_is_not_an_array(name):
    with pytest.raises(DtypeError, match=f"{name} is None, expected an array"):
        problem(**{name: None})


def test_sparse_matrices_fractions_and_numpy_matrices_are_taken_as_arrays():
    for A in (
        scipy.sparse.eye_array(3),
        np.eye(3).view(np.matrix),
        np.ma.array(np.eye(3), mask=False),
        [[Fraction(i == j) for i in range(3)] for j in range(3)],
    ):
        assert type(problem(A=A).A) is np.ndarray
        assert np.array_equal(problem(A=A).A, np.eye(3))


def test_a_masked_entry_is_not_a_number():
    with pytest.raises(DtypeError, match=r"A\[0, 1\] is masked"):
        problem(A=np.ma.array(np.eye(3), mask=np.eye(3, k=1)))


# --- convexity -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Q", "R", "S"])
@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_a_weight_that_is_not_symmetric_is_refused(name, size):
    weight = good()[name]
    weight[0, 1] += size
    with pytest.raises(NotConvexError, match=rf"{name}\b.* symmetric"):
        problem(**{name: weight})


@pytest.mark.parametrize("name", ["Q", "R"])
def test_a_stage_whose_weight_is_not_symmetric_is_named(name):
    weight = stages(good()[name], 6)
    weight[4, 0, 1] += 1.0
    with pytest.raises(NotConvexError, match=rf"(?=.*\b{name}\b)(?=.*\b4\b).*symmetric"):
        problem(**{name: weight})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"Q": np.diag([1.0, -2.0, 3.0]), "M": None}, r"\bQ\b.*eigenvalue -2"),
        ({"R": np.diag([1.0, -3.0]), "M": None}, r"\bR\b.*eigenvalue -3"),
        ({"S": np.diag([1.0, -4.0, 3.0])}, r"\bS\b.*eigenvalue -4"),
        ({"Q": np.eye(3), "R": np.eye(2), "M": 2 * np.eye(3, 2)}, r"\[Q M; M' R\].*eigenvalue -1"),
        ({"Q": np.zeros((3, 3))}, r"\[Q M; M' R\].*eigenvalue -"),
        ({"R": np.zeros((2, 2))}, r"\[Q M; M' R\].*eigenvalue -"),
        ({"R": np.diag([4.0, -1e-6]), "M": None}, r"\bR\b.*eigenvalue -1e-06"),
    ],
    ids=["Q", "R", "S", "joint", "M without Q", "M without R", "slightly"],
)
def test_an_indefinite_weight_is_refused_with_its_eigenvalue(changes, match):
    with pytest.raises(NotConvexError, match=match):
        problem(**changes)


@pytest.mark.parametrize(
    ("name", "weight"),
    [("Q", np.diag([1.0, -2.0, 3.0])), ("R", np.diag([1.0, -3.0])), ("M", 9 * np.eye(3, 2))],
    ids=["Q", "R", "M"],
)
def test_the_stage_of_an_indefinite_weight_is_named(name, weight):
    varying = stages(good()[name], 6)
    varying[4] = weight
    with pytest.raises(NotConvexError, match=r"(?=.*\b4\b).*eigenvalue -"):
        problem(**{name: varying})


def test_what_rounding_makes_indefinite_or_unsymmetric_is_accepted():
    rng = np.random.default_rng(0)
    for _ in range(50):
        X = rng.normal(size=(5, 2)) * 10.0 ** rng.integers(-8, 9)
        Q = X @ (X.T * 3)  # of rank two: its other eigenvalues are a few eps |Q|, of any sign
        Q[0, 1] *= 1 + 2**-52
        lqrad.LQProblem(np.eye(5), np.ones((5, 1)), Q, [[1e-3]], Q)


def test_singular_weights_are_accepted():
    zero = lqrad.LQProblem(np.eye(2), np.eye(2), *3 * [np.zeros((2, 2))])
    assert zero.value_and_gradient([1.0, 1.0], np.ones((3, 2)))[0] == 0.0


# --- initial states and sequences ------------------------------------------------------------

T = 5
X, U, P, X0 = np.ones((T + 1, 3)), np.ones((T, 2)), np.ones((T, 3)), np.ones(3)


def calls_with(name, value):
    """Every method that takes the argument of this name, with this value for it."""
    lq = problem()
    given = {"x0": X0, "u": U, "x": X, "p": P, "v": U} | {name: value}
    x0, u, x, p, v = given.values()
    calls = {
        "simulate": (lambda: lq.simulate(x0, u), "x0 u"),
        "adjoint": (lambda: lq.adjoint(x, u), "x u"),
        "input_gradient": (lambda: lq.input_gradient(x, u, p), "x u p"),
        "cost": (lambda: lq.cost(x, u), "x u"),
        "value_and_gradient": (lambda: lq.value_and_gradient(x0, u), "x0 u"),
        "hessian_product": (lambda: lq.hessian_product(v), "v"),
        "lagrangian": (lambda: lq.lagrangian(x, u, p, x0), "x u p x0"),
        "kkt_residual": (lambda: lq.kkt_residual(x, u, p, x0), "x u p x0"),
        "objective": (lambda: lq.objective(x0, T), "x0"),
        "objective's value": (lambda: lq.objective(X0, T).value_and_gradient(u), "u"),
        "objective's product": (lambda: lq.objective(X0, T).hessian_product(U, v), "v"),
    }
    return {method: call for method, (call, names) in calls.items() if name in names.split()}


def outcome(call):
    """What is raised, in words."""
    try:
        call()
    except LqradError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def assert_each_call_raises(name, value, error, match):
    for method, call in calls_with(name, value).items():
        said = outcome(call)
        assert re.match(f"{error.__name__}: {match}", said), f"{method}: {said}"


@pytest.mark.parametrize("name", ["x0", "u", "x", "p", "v"])
@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        (lambda a: a + 0j, DtypeError, "holds complex numbers"),
        (lambda a: a.astype(str), DtypeError, "holds text"),
        (lambda a: {"a": a}, DtypeError, "holds objects"),
        (lambda a: [a.tolist(), [1.0]], DtypeError, "is not a rectangular array"),
        (lambda a: 1.0, ShapeError, r"has shape \(\)"),
        (lambda a: [], ShapeError, r"has shape \(0,\)"),
        (lambda a: a[..., :1], ShapeError, r"has shape \(.*1,?\), expected .*[23]"),
        (lambda a: a[..., :0], ShapeError, r"has shape \(.*0,?\), expected .*[23]"),
    ],
    ids=["complex", "text", "dict", "ragged", "number", "empty", "one column", "no columns"],
)
def test_every_method_refuses_what_is_no_sequence(name, spoil, error, match):
    array = {"x0": X0, "u": U, "x": X, "p": P, "v": U}[name]
    assert_each_call_raises(name, spoil(array), error, rf"{name} {match}")


@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("name", ["x0", "u", "x", "p", "v"])
def test_every_method_names_the_entry_that_is_not_finite(name, value):
    array = {"x0": X0, "u": U, "x": X, "p": P, "v": U}[name].copy()
    index = (1,) if name == "x0" else (3, 1)
    array[index] = value
    entry = ", ".join(map(str, index))
    assert_each_call_raises(name, array, NonFiniteError, rf"{name}\[{entry}\] is {value}")


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("u", np.ones(T), r"u has shape \(5,\), expected .*m = 2"),
        ("u", np.ones((T, 3)), r"u has shape \(5, 3\), expected .*m = 2"),
        ("u", np.ones((2, T)), r"u has shape \(2, 5\), expected .*m = 2"),
        ("u", np.ones((0, 2)), r"u has shape \(0, 2\)"),
        ("x0", np.ones(2), r"x0 has shape \(2,\), expected .*3"),
        ("x0", np.ones((3, 1)), r"x0 has shape \(3, 1\), expected .*3"),
    ],
)
def test_a_simulation_refuses_a_wrong_start_or_wrong_inputs(name, value, match):
    arguments = {"x0": X0, "u": U} | {name: value}
    for method in (problem().simulate, problem().value_and_gradient):
        with pytest.raises(ShapeError, match=match):
            method(**arguments)


def test_inputs_of_one_axis_are_told_to_take_another():
    scalar = lqrad.LQProblem([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(ShapeError, match=r"u has shape \(5,\).*u\[:, None\]"):
        scalar.simulate([1.0], np.ones(5))
    with pytest.raises(ShapeError, match=r"x0 has shape \(\), expected .*1"):
        scalar.simulate(1.0, np.ones((5, 1)))


def test_transposed_inputs_are_recognised():
    with pytest.raises(ShapeError, match=r"u has shape \(2, 5\).*did you pass u\.T\?"):
        problem(c=np.ones((5, 3))).simulate(X0, np.ones((2, 5)))


@pytest.mark.parametrize("length", [1, 4, 6])
@pytest.mark.parametrize(("name", "extra"), [("x", 1), ("p", 0), ("u", 0)])
def test_sequences_of_different_horizons_are_refused(name, extra, length):
    value = np.ones((length + extra, 2 if name == "u" else 3))
    calls = calls_with(name, value)
    for method in {"x": ["cost"], "u": ["cost"], "p": []}[name] + [
        "input_gradient",
        "kkt_residual",
    ]:
        with pytest.raises(ShapeError, match=r"\b(x|u|p) has shape \(\d, [23]\), expected .*\d"):
            calls[method]()


@pytest.mark.parametrize("length", [1, 4, 6])
def test_sequences_of_another_horizon_than_the_problems_are_refused(length):
    varying = problem(A=stages(good()["A"], 5))
    with pytest.raises(ShapeError, match=rf"u has shape \({length}, 2\), expected .*5"):
        varying.simulate(X0, np.ones((length, 2)))
    with pytest.raises(ShapeError, match=rf"u has shape \({length}, 2\), expected .*5"):
        varying.value_and_gradient(X0, np.ones((length, 2)))
    with pytest.raises(ShapeError, match=rf"v has shape \({length}, 2\), expected .*5"):
        varying.hessian_product(np.ones((length, 2)))
    with pytest.raises(ShapeError, match=rf"x has shape \({length + 1}, 3\), expected .*6"):
        varying.adjoint(np.ones((length + 1, 3)), U)


@pytest.mark.parametrize("call", ["simulate", "value_and_gradient", "lagrangian", "kkt_residual"])
def test_batches_that_do_not_fit_each_other_are_refused(call):
    x, u, p, x0 = (
        np.ones((size, *own))
        for size, own in [(3, X.shape), (3, U.shape), (3, P.shape), (2, X0.shape)]
    )
    arguments = (x0, u) if call in ("simulate", "value_and_gradient") else (x, u, p, x0)
    with pytest.raises(ShapeError, match=r"x0 has shape \(2, 3\).*\(3, \d, \d\)"):
        getattr(problem(), call)(*arguments)


def test_a_batch_of_states_refuses_a_batch_of_inputs_that_does_not_fit():
    with pytest.raises(ShapeError, match=r"u has shape \(4, 5, 2\) and x has shape \(2, 6, 3\)"):
        problem().cost(np.ones((2, 6, 3)), np.ones((4, 5, 2)))


@pytest.mark.parametrize("shape", [(T + 1, 2), (2, T, 2), (T, 1), (T * 2,)], ids=str)
def test_an_objective_takes_points_of_its_own_shape_alone(shape):
    objective = problem().objective(X0, T)
    with pytest.raises(ShapeError, match=r"u has shape .*, expected"):
        objective.value_and_gradient(np.ones(shape))


def test_costates_with_a_cross_weight_need_the_inputs():
    with pytest.raises(ArgumentError, match=r"\bu\b.*\bM\b"):
        problem().adjoint(X)


# --- horizons --------------------------------------------------------------------------------


def test_a_horizon_is_asked_for_where_nothing_varies():
    with pytest.raises(ArgumentError, match=r"\bT\b"):
        problem().objective(X0)
    with pytest.raises(ArgumentError, match=r"\bT\b"):
        problem().horizon()


def test_a_horizon_that_disagrees_with_the_problem_is_refused():
    varying = problem(c=np.ones((5, 3)))
    assert varying.horizon() == varying.horizon(5) == 5
    for call in (lambda: varying.objective(X0, 4), lambda: varying.horizon(4)):
        with pytest.raises(ArgumentError, match=r"(?=.*\bT\b)(?=.*\b4\b)(?=.*\b5\b)"):
            call()


@pytest.mark.parametrize("T", [0, -1, 2.5, "4", True, np.nan, [3]], ids=repr)
def test_a_horizon_is_a_positive_whole_number(T):
    for lq in (problem(), problem(c=np.ones((5, 3)))):
        with pytest.raises(ArgumentError, match=r"T is .*, expected a whole number of at least 1"):
            lq.objective(X0, T)


def test_a_horizon_may_be_a_numpy_integer():
    assert problem().objective(X0, np.int32(4)).shape == (4, 2)


# --- tracking --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x_ref", "u_ref", "match"),
    [
        (np.ones(2), None, r"x_ref has shape \(2,\), expected .*3"),
        (np.ones((6, 2)), None, r"x_ref has shape \(6, 2\), expected .*3"),
        (np.ones((1, 3)), None, r"x_ref has shape \(1, 3\)"),
        (np.ones((0, 3)), None, r"x_ref has shape \(0, 3\)"),
        (np.ones((6, 3)), np.ones((6, 2)), r"u_ref has shape \(6, 2\), expected .*5"),
        (np.ones((6, 3)), np.ones((5, 3)), r"u_ref has shape \(5, 3\), expected .*2"),
        (1.0, None, r"x_ref has shape \(\)"),
    ],
)
def test_references_of_a_wrong_shape_are_named(x_ref, u_ref, match):
    A, B, Q, R, S = (good()[name] for name in "ABQRS")
    with pytest.raises(ShapeError, match=match):
        lqrad.LQProblem.tracking(A, B, Q, R, S, x_ref, u_ref)


@pytest.mark.parametrize("name", ["x_ref", "u_ref"])
@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (NAN, NonFiniteError, r"\[3, 1\] is nan"),
        (1j, DtypeError, " holds complex"),
        ("a", DtypeError, " holds"),
    ],
    ids=["nan", "complex", "text"],
)
def test_references_that_are_not_real_numbers_are_named(name, value, error, match):
    reference = {"x_ref": np.ones((6, 3)), "u_ref": np.ones((5, 2))}
    spoiled_one = reference[name].astype(object if isinstance(value, str) else type(value))
    spoiled_one[3, 1] = value
    A, B, Q, R, S = (good()[name] for name in "ABQRS")
    with pytest.raises(error, match=name + match):
        lqrad.LQProblem.tracking(A, B, Q, R, S, **reference | {name: spoiled_one})


@pytest.mark.parametrize("name", ["B", "Q", "R", "S"])
@pytest.mark.parametrize(
    ("value", "error"),
    [(np.ones((7, 7)), ShapeError), ([["a"]], DtypeError), (NAN * np.ones((3, 3)), NonFiniteError)],
    ids=["shape", "text", "nan"],
)
def test_tracking_checks_the_matrices_as_the_problem_does(name, value, error):
    data = {key: good()[key] for key in "ABQRS"} | {name: value}
    with pytest.raises(error, match=rf"^{name}( has|\[0, 0\] is| holds)"):
        lqrad.LQProblem.tracking(**data, x_ref=np.ones((6, 3)))


def test_tracking_needs_a_convex_cost_too():
    A, B, Q, R, S = (good()[name] for name in "ABQRS")
    with pytest.raises(NotConvexError, match=r"\bR\b.*eigenvalue -5"):
        lqrad.LQProblem.tracking(A, B, Q, -R, S, np.ones(3))


# --- nothing else is changed -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("R", np.diag([1.0, -1.0]), NotConvexError),
        ("s", np.array([1.0, 1.0, NAN]), NonFiniteError),
        ("r", np.ones(3), ShapeError),
        ("M", np.ones((3, 2)) * 1j, DtypeError),
    ],
    ids=["indefinite", "nan", "shape", "complex"],
)
def test_refused_data_is_left_as_it_was(name, value, error):
    data = good() | {name: value}
    kept = {key: array.copy() for key, array in data.items()}
    with pytest.raises(error):
        lqrad.LQProblem(**data)
    for key, array in data.items():
        assert np.array_equal(array, kept[key], equal_nan=array.dtype.kind == "f")
        assert array.flags.writeable


@pytest.mark.parametrize(
    ("x0", "u", "error"),
    [
        (X0, np.ones((T, 3)), ShapeError),
        (X0, np.full((T, 2), NAN), NonFiniteError),
        (np.full(3, 1e308), np.full((T, 2), 1e308), NonFiniteError),
    ],
    ids=["shape", "nan", "overflow"],
)
def test_a_refused_call_changes_neither_the_problem_nor_its_arguments(x0, u, error):
    lq = problem()
    before = lq.value_and_gradient(X0, U)
    kept_x0, kept_u = x0.copy(), u.copy()
    for call in (lq.simulate, lq.value_and_gradient):
        with pytest.raises(error):
            call(x0, u)
    assert np.array_equal(x0, kept_x0)
    assert np.array_equal(u, kept_u, equal_nan=True)
    after = lq.value_and_gradient(X0, U)
    assert after[0] == before[0]
    assert np.array_equal(after[1], before[1])


@pytest.mark.parametrize(
    ("changes", "builtin"),
    [
        ({"A": np.ones((3, 2))}, ValueError),
        ({"A": "text"}, TypeError),
        ({"A": np.full((3, 3), NAN)}, ArithmeticError),
        ({"R": -np.eye(2)}, ValueError),
    ],
    ids=["shape", "type", "nan", "convexity"],
)
def test_errors_are_lqrads_and_of_the_builtin_kind_that_fits(changes, builtin):
    with pytest.raises(builtin) as raised:
        problem(**changes)
    assert isinstance(raised.value, LqradError)
    assert str(raised.value).count("\n") == 0


@pytest.mark.parametrize("small", [1e-8, 1e-300], ids=str)
def test_a_negative_weight_is_refused_however_small_beside_the_others(small):
    """-1e-8 beside 1e8 is no rounding error: its direction may have units of its own."""
    with pytest.raises(NotConvexError, match=rf"Q has the eigenvalue -{small:g}"):
        lqrad.LQProblem(np.eye(2), np.eye(2), np.diag([1e8, -small]), np.eye(2))


def test_a_rounding_error_of_a_product_is_no_negative_weight():
    C = np.random.default_rng(0).normal(size=(1, 3)) * [1e-4, 1.0, 1e6]
    for _ in range(20):
        C = C * 1.1
        lqrad.LQProblem(np.eye(3), np.eye(3), C.T @ C, np.eye(3))
