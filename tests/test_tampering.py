"""Files that somebody changed: each is read as it stands, or refused by name; nothing else is raised."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from random_controllers import random_controller
from scipy.io import savemat

import lqrad
from lqrad.errors import ArgumentError, DtypeError, LqradError
from lqrad.files import load_model, load_plant, load_smoothing_model
from lqrad.files.saved import load_controller, load_parameters, save_controller, save_parameters
from lqrad.sweeps import Sweep, sweep

MODEL = {
    "A": [[0.0, 1.0], [0.0, -2.0]],
    "B": [[0.0], [40.0]],
    "Q": [[100.0, 0.0], [0.0, 1.0]],
    "R": [[1.0]],
    "dt": 0.02,
    "C": [[1.0, 0.0]],
    "W": [[1e-4, 0.0], [0.0, 1e-2]],
    "V": [[1e-4]],
    "S": [[1.0, 0.0], [0.0, 1.0]],
    "M": [[0.0], [0.0]],
    "tracked": [[1.0, 0.0]],
    "Q_i": [[0.1]],
    "low": [-1.0],
    "high": [2.0],
    "input_delay": 0.012,
    "reference": [1.0],
    "x0": [1.0, 0.0],
    "T": 5,
    "m0": [0.0, 0.0],
    "P0": [[1.0, 0.0], [0.0, 1.0]],
    "d": [0.0],
}


def nested(depth):
    value = 1.0
    for _ in range(depth):
        value = [value]
    return value


JSON_VALUES = [
    None,
    True,
    0,
    -1,
    10**400,
    -(10**400),
    0.5,
    float("nan"),
    float("inf"),
    1e150,
    "",
    "a",
]
JSON_VALUES += ["1.0", [], [[]], [[[]]], {}, {"a": 1}, [None], ["a"], [[None]], [[1], [2, 3]], [{}]]
JSON_VALUES += [
    [1.0],
    [[1.0]],
    [[[1.0]]],
    nested(6),
    nested(70),
    nested(300),
    [10**400],
    [[10**400]],
]
JSON_VALUES += [[[1.0, 2.0], [3.0, 4.0]], [[1.0] * 3] * 3, [0.1] * 7, [True], [[1, "2"]]]

NPZ_VALUES = [np.array(v) for v in (0, -1, 0.5, np.nan, np.inf, True, "a", 1j, 1e150, 2**63)]
NPZ_VALUES += [np.array(v) for v in ([], [[]], [1.0], [[1.0]], [1, 1], ["a", "b"], [np.nan, 1.0])]
NPZ_VALUES += [np.zeros((0, 2)), np.zeros((2, 0)), np.ones((3, 3)), np.ones((2, 2, 2)), np.ones(7)]
NPZ_VALUES += [np.array([[1.0]], dtype=object), np.array(["2020-01-01"], dtype="M8[D]")]
NPZ_VALUES += [np.zeros(2, dtype=[("a", "f8")]), np.float16([[1.0]]), np.array([b"a"])]


class Trap:
    """What shows itself where it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


NPZ_VALUES += [np.array([[Trap()]], dtype=object)]


def write_json(path, data):
    path.write_text(json.dumps(data))


def write_npz(path, data):
    np.savez(path, **data)


def changes(data, values):
    """Every field left out, every field with every value, and a field too many."""
    for name in data:
        yield name, {key: value for key, value in data.items() if key != name}
        for value in values:
            yield name, data | {name: value}
    yield "extra", data | {"extra": values[-1]}


def outcomes(path, write, data, values, load):
    """How many changed files were loaded, and how many refused; what else is raised passes through."""
    loaded = refused = 0
    for name, changed in changes(data, values):
        write(path, changed)
        try:
            load(path)
            loaded += 1
        except LqradError as error:
            told = str(error)
            assert str(path) in told, (name, told)
            assert "\n" not in told
            refused += 1
    return loaded, refused


@pytest.mark.parametrize("kind", ["json", "npz"])
@pytest.mark.parametrize("seed", [3])
@pytest.mark.parametrize("planner", [False, True])
def test_every_tampered_controller_is_refused_by_name(tmp_path, kind, seed, planner):
    path = tmp_path / f"controller.{kind}"
    controller, _ = random_controller(seed, bounds=(-0.3, 0.2))
    if planner:
        problem = lqrad.LQProblem([[0.5]], [[1.0]], [[1.0]], [[1.0]])
        rows = [lqrad.design.Limit([[1.0]], [[0.5]], high=2.0, price=3.0, name="sum")]
        options = {"rows": rows, "rate_weight": [[0.5]], "blocks": [1, 1], "H": [[1.0]]}
        controller = lqrad.mpc(problem, 3, input_bounds=(-1, 1), terminal="origin", **options)
    save_controller(path, controller)
    if kind == "json":
        found = outcomes(
            path, write_json, json.loads(path.read_text()), JSON_VALUES, load_controller
        )
    else:
        with np.load(path) as held:
            data = dict(held)
        found = outcomes(path, write_npz, data, NPZ_VALUES, load_controller)
    assert found[1] > (3 if planner else 4) * found[0]


def test_every_tampered_file_of_parameters_is_refused_by_name(tmp_path):
    path = tmp_path / "theta.npz"
    save_parameters(path, {"W": [[1.0, 2.0]], "b": [3.0]})
    with np.load(path) as held:
        data = dict(held)
    loaded, refused = outcomes(path, write_npz, data, NPZ_VALUES, load_parameters)
    assert refused > loaded  # any array of numbers is one of parameters


def test_every_tampered_file_of_a_sweep_is_refused_by_name(tmp_path):
    path = tmp_path / "sweep.npz"
    sweep(lambda a, b: {"x": 1 / (a - 1), "y": b}, {"a": [1, 2], "b": [0.5]}, path=path)
    with np.load(path) as held:
        data = dict(held)
    loaded, refused = outcomes(path, write_npz, data, NPZ_VALUES, Sweep.load)
    assert refused > 4 * loaded


@pytest.mark.parametrize("load", [load_model, load_plant, load_smoothing_model])
@pytest.mark.parametrize("kind", ["json", "npz", "mat"])
def test_every_tampered_model_is_read_or_refused_by_name(tmp_path, kind, load):
    path = tmp_path / f"model.{kind}"
    data = dict(MODEL) if kind == "json" else {k: np.array(value) for k, value in MODEL.items()}
    values = JSON_VALUES if kind == "json" else NPZ_VALUES[::2]
    if kind == "mat":  # which knows neither dates nor Python's objects
        values = [value for value in values if value.dtype.kind not in "OMS"]
    write = {"json": write_json, "npz": write_npz, "mat": savemat}[kind]
    write(path, data)
    load(path)
    del data["input_delay"]  # of which a huge one is the sampling's to refuse
    loaded, refused = outcomes(path, write, data, values, load)
    assert refused > 20
    assert loaded > 20


@pytest.mark.parametrize("kind", ["json", "npz"])
@pytest.mark.parametrize("seed", range(12))
def test_a_file_with_any_byte_changed_is_read_or_refused(tmp_path, kind, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / f"controller.{kind}"
    controller, _ = random_controller(0)
    save_controller(path, controller)
    content = path.read_bytes()
    for _ in range(20):
        changed = bytearray(content)
        for at in rng.integers(len(content), size=int(rng.integers(1, 4))):
            changed[at] = rng.integers(256)
        path.write_bytes(changed[: int(rng.integers(len(content) // 2, len(content) + 1))])
        try:
            load_controller(path)
        except LqradError as error:
            told = str(error)
            assert str(path) in told


# --- sizes are told before memory is taken --------------------------------------------------------


def write_member(path, header, size, data=b""):
    """An archive with one array whose header says what it likes."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("names.npy", buffer.getvalue() + data)
        with archive.open("parameters_version.npy", "w", force_zip64=True) as file:
            np.save(file, np.array(1))
    assert path.stat().st_size < size


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (2**40, 0, 3), (-1,)])
@pytest.mark.parametrize("dtype", ["<f8", "<U1", "<U0", "|b1"])
def test_an_array_that_says_to_be_long_is_refused(tmp_path, shape, dtype):
    path = tmp_path / "theta.npz"
    header = {"shape": shape, "fortran_order": False, "descr": dtype}
    write_member(path, header, 10_000)
    with pytest.raises(LqradError, match=r"theta\.npz"):
        load_parameters(path)


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "theta.npz"
    header = {"shape": (10**6,), "fortran_order": False, "descr": "<f8"}
    write_member(path, header, 20_000, bytes(8 * 10**6))
    monkeypatch.setattr("lqrad.arguments.memory", lambda: 4 * 10**6)
    with pytest.raises(ArgumentError, match=r"theta\.npz: its arrays would take .* GiB"):
        load_parameters(path)


def test_a_sparse_matrix_of_matlab_is_not_filled_where_there_is_no_room(tmp_path):
    from scipy.sparse import csc_matrix

    path = tmp_path / "model.mat"
    savemat(path, {"A": csc_matrix((10**7, 10**7)), "B": 1, "Q": 1, "R": 1})
    with pytest.raises(ArgumentError, match=r"model\.mat: A would take .* GiB"):
        load_model(path)


# --- what only one format can say -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"A": 1, "A": 2}', "A is given more than once"),
        ('{"A": {"b": 1, "b": 2}}', "b is given more than once"),
        ('{"A": ' + "[" * 5000 + "]" * 5000 + "}", "nested too deeply"),
        ('{"A": ' + "[" * 50 + "]" * 50 + "}", "A is nested too deeply, expected an array"),
        ('{"A": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ('{"A": [[NaN]], "B": 1, "Q": 1, "R": 1}', r"A\[0, 0\] is nan"),
        ('{"A": [[-Infinity]], "B": 1, "Q": 1, "R": 1}', r"A\[0, 0\] is -inf"),
        ('{"A": 1, "B": 1, "Q": 1, "R": 1, "N": 0}', "holds N; .*; the cross weight, MATLAB's N"),
        (
            '{"A": 1, "B": 1, "Q": 1, "R": 1, "Ts": 1}',
            "holds Ts; .*; the sampling time is called dt",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_json_that_means_nothing_is_refused_in_words(tmp_path, text, words):
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(LqradError, match=words):
        load_model(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_may_have_a_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "model.json"
    path.write_text('{"A": 0.5, "B": 1, "Q": 1, "R": 1}', encoding=encoding)
    assert load_model(path).problem.A == [[0.5]]
    path.write_bytes(b'{"A": 0.5, "\xff": 1}')
    with pytest.raises(ArgumentError, match=r"is not a valid \.json file: .*can't decode"):
        load_model(path)


@pytest.mark.parametrize("kind", ["json", "npz", "mat"])
def test_a_number_may_stand_for_an_array_of_it(tmp_path, kind):
    path = tmp_path / f"model.{kind}"
    data = {"A": 0.5, "B": 1.0, "Q": 2.0, "R": 3.0, "S": 4.0, "c": 0.1, "q": 0.2, "x0": 5.0}
    {"json": write_json, "npz": write_npz, "mat": savemat}[kind](path, data)
    model = load_model(path)
    for name in ("A", "B", "Q", "R", "S", "c", "q"):
        assert getattr(model.problem, name).tolist() in ([data[name]], [[data[name]]])
    assert model.x0.tolist() == [5.0]


def test_matlab_is_told_what_to_write_instead(tmp_path):
    path = tmp_path / "model.mat"
    savemat(path, {"plant": {"A": 1.0, "B": 1.0}})
    with pytest.raises(DtypeError, match=r"plant is a struct; save\(file, '-struct', 'plant'\)"):
        load_model(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(ArgumentError, match=r"it is of MATLAB's version 7\.3; save\(name, '-v7'\)"):
        load_model(path)


def test_a_name_that_is_twice_in_an_archive_is_refused(tmp_path):
    path = tmp_path / "model.npz"
    write_npz(path, {"A": 1.0, "B": 1.0, "Q": 1.0, "R": 1.0})
    with zipfile.ZipFile(path, "a") as archive, archive.open("R", "w") as file:
        np.save(file, np.array([[100.0]]))
    with pytest.raises(ArgumentError, match="R is given more than once"):
        load_model(path)


# --- one format for all -----------------------------------------------------------------------------


def test_a_design_file_serves_every_reader(tmp_path):
    """The sampled problem is that of discretise; what stands for delayed inputs is zero."""
    path = tmp_path / "motor.json"
    write_json(path, MODEL)
    sampled = lqrad.discretise(*(MODEL[name] for name in "ABQR"), dt=0.02, input_delay=0.012)
    model, plant = load_model(path), load_plant(path)
    for name in "ABQRM":
        np.testing.assert_array_equal(getattr(model.problem, name), getattr(sampled, name))
    assert model.problem.S.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert model.x0.tolist() == [1, 0, 0]
    assert model.unused == (
        "C",
        "W",
        "V",
        "tracked",
        "Q_i",
        "low",
        "high",
        "reference",
        "m0",
        "P0",
        "d",
    )
    assert plant.plant.C.tolist() == plant.arguments["H"].tolist() == [[1, 0, 0]]
    assert plant.arguments["W"].tolist() == [[1e-4, 0, 0], [0, 1e-2, 0], [0, 0, 0]]
    assert plant.unused == ("S", "T", "m0", "P0", "d")
    design = lqrad.design_controller(plant.plant, **plant.arguments)
    assert design.controller.observer.ny == 1
    assert design.simulated.x[-1, 0] == pytest.approx(1.0, abs=1e-2)
    smoothing = load_smoothing_model(path)
    np.testing.assert_allclose(smoothing.A, sampled.A[:2, :2], rtol=1e-14)


def test_a_feedthrough_is_one_of_the_plant(tmp_path):
    path = tmp_path / "motor.json"
    write_json(path, {name: z for name, z in MODEL.items() if name != "input_delay"} | {"D": 0.5})
    plant = load_plant(path)
    assert plant.plant.D.tolist() == [[0.5]]
    assert lqrad.design_controller(plant.plant, **plant.arguments).controller.predicts
    assert "D" in load_model(path).unused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"W": None, "V": None},
            "C says what is measured, but an estimate .* needs W and V; add both",
        ),
        ({"V": None}, "C says what is measured, but an estimate"),
        (
            {"W": np.eye(3).tolist()},
            r"W has shape \(3, 3\), expected \(n, n\) with n = 2 to match A",
        ),
        ({"C": [[1, 0, 0]]}, r"C has shape \(1, 3\), expected \(any, n\) with n = 2"),
        ({"dt": None}, "lacks dt"),
        (
            {"c": [1.0, 1.0]},
            "c is given with a model in continuous time, with which it has no .*; sample",
        ),
        ({"D": [[1.0]]}, "D is given with input_delay, with which it has no meaning here; sample"),
        ({"input_delay": -1}, "input_delay is -1"),
        ({"input_delay": 0, "discrete": 2}, "discrete is 2, expected 1 or 0"),
        ({"\ud800": 1}, r"holds '\\ud800'; a model has A"),
        ({"discrete": True}, "input_delay is given with a discrete model; append"),
    ],
)
def test_a_design_file_that_is_none_is_told_in_words(tmp_path, change, words):
    path = tmp_path / "motor.json"
    write_json(path, {name: z for name, z in (MODEL | change).items() if z is not None})
    with pytest.raises(LqradError, match=words):
        load_plant(path)
