"""Model files: what is written by JSON, NumPy or MATLAB's format is read back, or refused in words."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from random_problems import random_case

from lqrad.errors import (
    ArgumentError,
    DtypeError,
    LqradError,
    NonFiniteError,
    NotConvexError,
    ShapeError,
)
from lqrad.files import load_model

CONSTANT = random_case(1, n=3, m=2, T=4, all_terms=True, time_varying=False)
VARYING = random_case(2, n=3, m=2, T=4, all_terms=True, time_varying=True)
SCALAR = random_case(3, n=1, m=1, T=4, all_terms=True, time_varying=False)
SCALAR_VARYING = random_case(4, n=1, m=1, T=4, all_terms=True, time_varying=True)
PLAIN = random_case(5, n=3, m=2, T=4, all_terms=False, time_varying=False)
SMALL = {"A": [[0.5]], "B": [[1.0]], "Q": [[1.0]], "R": [[1.0]]}


def write_json(path, data):
    path.write_text(json.dumps({name: np.asarray(value).tolist() for name, value in data.items()}))


def write_npz(path, data):
    np.savez(path, **data)


def write_mat(path, data):
    scipy.io.savemat(path, data)


WRITERS = {".json": write_json, ".npz": write_npz, ".mat": write_mat}
EVERY_FORMAT = pytest.mark.parametrize("kind", WRITERS)


@pytest.fixture
def save(tmp_path):
    """Write data in a format and return the path."""

    def save(data, kind=".json", name="model"):
        path = tmp_path / f"{name}{kind}"
        WRITERS[kind.lower()](path, data)
        return path

    return save


def assert_same(problem, data):
    for name, value in data.items():
        assert np.array_equal(getattr(problem, name), value), name


# --- what is written is read ------------------------------------------------------------------------


@EVERY_FORMAT
@pytest.mark.parametrize(
    "case", [CONSTANT, VARYING, SCALAR, SCALAR_VARYING, PLAIN], ids=lambda case: case.name
)
def test_a_model_survives_to_the_last_digit(save, kind, case):
    model = load_model(save(case.data | {"x0": case.x0, "T": 4}, kind))
    assert_same(model.problem, case.data)
    assert model.problem.T == case.problem.T
    assert np.array_equal(model.x0, case.x0)
    assert model.T == 4


@EVERY_FORMAT
def test_only_four_matrices_are_needed(save, kind):
    model = load_model(save(SMALL, kind))
    assert_same(model.problem, SMALL | {"S": SMALL["Q"], "M": [[0]], "c": [0]})
    assert (model.x0, model.T) == (None, None)


@EVERY_FORMAT
@pytest.mark.parametrize(
    "T", [7, 7.0, np.array(7), np.array([[7.0]]), np.array([7], dtype=np.uint8)]
)
def test_a_horizon_may_be_any_kind_of_whole_number(save, kind, T):
    if kind == ".json":
        T = np.asarray(T).ravel().tolist()[0]
    model = load_model(save(SMALL | {"T": T}, kind))
    assert model.T == 7
    assert type(model.T) is int


@EVERY_FORMAT
def test_what_varies_in_time_brings_its_horizon(save, kind):
    assert load_model(save(VARYING.data, kind)).T == 4


@pytest.mark.parametrize("turn", ["rows", "columns"])
@pytest.mark.parametrize("case", [CONSTANT, SCALAR], ids=["n=3", "n=1"])
def test_matlab_vectors_are_rows_or_columns(save, turn, case):
    """MATLAB knows matrices only: c may come as 1 x n or as n x 1."""
    shape = (1, -1) if turn == "rows" else (-1, 1)
    data = case.data | {"x0": case.x0}
    for name in ("c", "q", "r", "s", "x0"):
        data[name] = data[name].reshape(shape)
    model = load_model(save(data, ".mat"))
    assert_same(model.problem, case.data)
    assert np.array_equal(model.x0, case.x0)
    assert model.problem.T is None


def test_a_column_as_long_as_the_horizon_is_not_taken_for_a_vector(save):
    data = {name: [[1.0]] for name in "BQR"} | {"A": [[0.5]], "r": [[1.0], [2.0], [3.0]]}
    problem = load_model(save(data, ".mat")).problem
    assert problem.T == 3
    assert problem.r.tolist() == [[1], [2], [3]]


@pytest.mark.parametrize(
    "sparse", [scipy.sparse.csc_matrix, scipy.sparse.csr_array, scipy.sparse.coo_array]
)
def test_matlab_matrices_may_be_sparse(save, sparse):
    data = {name: sparse(PLAIN.data[name]) for name in ("A", "B", "Q")} | {"R": PLAIN.data["R"]}
    assert_same(load_model(save(data, ".mat")).problem, {n: PLAIN.data[n] for n in "ABQR"})


def test_matlab_integers_and_logicals_are_numbers(save):
    data = {"A": np.int8([[2]]), "B": np.uint16([[3]]), "Q": np.array([[True]]), "R": [[1]]}
    assert_same(load_model(save(data, ".mat")).problem, {"A": [[2]], "B": [[3]], "Q": [[1]]})


@pytest.mark.parametrize("kind", [".JSON", ".Npz", ".MAT"])
def test_capital_letters_in_the_ending_do_not_matter(tmp_path, kind):
    path = tmp_path / f"model{kind}"
    with path.open("wb") as file:
        if kind == ".JSON":
            file.write(json.dumps(SMALL).encode())
        elif kind == ".Npz":
            np.savez(file, **SMALL)
        else:
            scipy.io.savemat(file, SMALL)
    assert_same(load_model(path).problem, SMALL)


def test_a_path_may_be_text(save):
    assert load_model(str(save(SMALL))).problem.n == 1


def test_null_in_json_is_what_was_not_given(save, tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(SMALL | {"S": None, "M": None, "x0": None, "T": None}))
    model = load_model(path)
    assert model.problem.S.tolist() == [[1]]
    assert (model.x0, model.T) == (None, None)


# --- what is no model is refused, with the name of the file in front -----------------------------------


def refused(path, error, words):
    with pytest.raises(error, match=re.escape(str(path)) + words) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["model.txt", "model", "model.json.gz", "model.m"])
def test_another_ending_is_refused(tmp_path, name):
    words = r" ends in '.*', expected one of: \.json, \.npz, \.mat"
    refused(tmp_path / name, ArgumentError, words)


@EVERY_FORMAT
def test_a_file_that_is_not_there_is_refused(tmp_path, kind):
    refused(tmp_path / f"none{kind}", ArgumentError, " cannot be read: No such file or directory")


@EVERY_FORMAT
def test_a_directory_is_refused(tmp_path, kind):
    (tmp_path / f"folder{kind}").mkdir()
    refused(tmp_path / f"folder{kind}", ArgumentError, " ")


@EVERY_FORMAT
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"once upon a time", id="prose"),
        pytest.param(b"\x00" * 300, id="zeros"),
        pytest.param(bytes(range(256)) * 4, id="bytes"),
        pytest.param(b"PK\x03\x04" + b"\x01" * 100, id="half-a-zip"),
        pytest.param(
            b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\x0f" * 90, id="half-a-mat"
        ),
        pytest.param(b"[" * 100_000, id="brackets"),
        pytest.param(pickle.dumps(SMALL), id="pickle"),
    ],
)
def test_a_garbled_file_is_refused(tmp_path, kind, content):
    path = tmp_path / f"model{kind}"
    path.write_bytes(content)
    refused(path, ArgumentError, f" is not a valid {kind} file: ")


def test_a_pickle_is_not_offered_to_be_trusted(tmp_path):
    """NumPy's own words for what is no archive speak of loading it unsafely."""
    path = tmp_path / "model.npz"
    path.write_bytes(pickle.dumps(SMALL))
    refused(path, ArgumentError, ".*: it is no archive such as numpy.savez writes")


@EVERY_FORMAT
def test_a_file_cut_short_is_refused(save, kind):
    path = save(CONSTANT.data, kind)
    path.write_bytes(path.read_bytes()[:-60])
    refused(path, ArgumentError, f" is not a valid {kind} file: ")


@pytest.mark.parametrize(
    ("text", "kind"), [("[1, 2]", "list"), ("3", "int"), ('"A"', "str"), ("null", "NoneType")]
)
def test_json_that_is_no_object_is_refused(tmp_path, text, kind):
    path = tmp_path / "model.json"
    path.write_text(text)
    refused(path, ArgumentError, f".* it holds a {kind}, expected an object of arrays")


def test_objects_in_npz_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    path = tmp_path / "model.npz"
    np.savez(path, **SMALL | {"A": np.array([[Trap()]], dtype=object)})
    refused(path, DtypeError, ": A holds objects")
    assert not (tmp_path / "sprung").exists()


@EVERY_FORMAT
@pytest.mark.parametrize("name", ["A", "B", "Q", "R"])
def test_a_missing_matrix_is_named(save, kind, name):
    data = {key: value for key, value in SMALL.items() if key != name}
    words = f" lacks {name}; a model has A, B, Q, R and may have C, D, S, M, W, V,"
    refused(save(data, kind), ArgumentError, words)


@EVERY_FORMAT
def test_an_unknown_name_is_named(save, kind):
    words = " holds horizon, a; a model has A, B, Q, R and may have C, D, S,"
    refused(save(SMALL | {"horizon": 3, "a": [[1]]}, kind), ArgumentError, words)


@EVERY_FORMAT
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"B": [[1.0], [2.0]]}, ShapeError, ": B has shape"),
        ({"Q": [[-1.0]]}, NotConvexError, ": Q has the eigenvalue -1"),
        ({"x0": [1.0, 2.0]}, ShapeError, r": x0 has shape .*, expected \(n,\) = \(1,\) to match A"),
        ({"x0": [[1.0, 2.0], [3.0, 4.0]]}, ShapeError, r": x0 has shape \(2, 2\)"),
        ({"T": 0}, ArgumentError, ": T is 0, expected a whole number of at least 1"),
        ({"T": -3}, ArgumentError, ": T is -3, expected a whole number"),
        ({"T": 2.5}, ArgumentError, r": T is .*2\.5"),
        ({"T": [3, 4]}, ArgumentError, ": T is .*3"),
        ({"A": "two"}, DtypeError, ": A holds text"),
        ({"T": 5, "c": np.ones((4, 1))}, ArgumentError, ": T is 5, but the problem varies over 4"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_what_the_problem_refuses_is_refused_with_the_name_of_the_file(
    save, kind, change, error, words
):
    refused(save(SMALL | change, kind), error, words)


@pytest.mark.parametrize("kind", [".npz", ".mat"])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"A": np.array([[1j]])}, DtypeError, ": A holds complex numbers"),
        ({"A": [[np.nan]]}, NonFiniteError, r": A\[0, 0\] is nan"),
        ({"x0": [np.inf]}, NonFiniteError, r": x0\[0\] is inf"),
        ({"x0": ["a"]}, DtypeError, ": x0 holds text"),
        ({"T": [[np.nan]]}, ArgumentError, ": T is nan"),
        ({"T": "5"}, ArgumentError, ": T is "),
    ],
    ids=["complex", "nan", "inf", "text", "T=nan", "T=text"],
)
def test_what_json_cannot_say_is_refused_too(save, kind, change, error, words):
    refused(save(SMALL | change, kind), error, words)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ('"A": [[1, 2], [3]]', DtypeError, ": A is not a rectangular array of numbers"),
        ('"A": {"a": 1}', DtypeError, ": A holds objects"),
        ('"A": [[NaN]]', NonFiniteError, r": A\[0, 0\] is nan"),
        ('"A": [[1e999]]', NonFiniteError, r": A\[0, 0\] is inf"),
        ('"A": null', DtypeError, ": A is None, expected an array of real numbers"),
        ('"T": true', ArgumentError, ": T is True"),
        ('"T": "5"', ArgumentError, ": T is '5'"),
        ('"T": [5]', ArgumentError, r": T is \[5\]"),
    ],
)
def test_what_only_json_can_say_is_refused_too(tmp_path, change, error, words):
    path = tmp_path / "model.json"
    others = {name: value for name, value in SMALL.items() if f'"{name}"' not in change}
    path.write_text(json.dumps(others)[:-1] + f", {change}}}")
    refused(path, error, words)


def test_a_matlab_cell_is_refused(save):
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = "text"
    words = ": Q is of MATLAB's class cell, expected a matrix of numbers"
    refused(save(SMALL | {"Q": cell}, ".mat"), DtypeError, words)


def test_every_refusal_is_one_of_ours(tmp_path):
    with pytest.raises(LqradError):
        load_model(tmp_path / ("a" * 300 + ".json"))
