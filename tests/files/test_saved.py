"""Files of parameters: what is saved is loaded bit for bit, or refused in words."""

from __future__ import annotations

import os
import pickle
import re

import numpy as np
import pytest

from lqrad.errors import ArgumentError, DtypeError, LqradError
from lqrad.files.saved import load_parameters, save_parameters

THETA = {
    name: np.random.default_rng(seed).normal(size=shape)
    for seed, (name, shape) in enumerate({"W2": (4, 3), "b2": (3,), "W1": (2, 4)}.items())
}


def assert_same_bits(loaded, theta):
    assert list(loaded) == list(theta)
    for name, value in theta.items():
        value = np.asarray(value, dtype=float)
        assert loaded[name].shape == value.shape
        assert loaded[name].dtype == np.float64
        assert np.ascontiguousarray(loaded[name]).tobytes() == np.ascontiguousarray(value).tobytes()


@pytest.mark.parametrize(
    "theta",
    [
        THETA,
        {},
        {
            "scalar": np.float64(0.1),
            "empty": np.zeros((0, 3)),
            "cube": np.arange(24).reshape(2, 3, 4) / 7,
        },
        {"hard": np.array([-0.0, 5e-324, 1 / 3, 1.7976931348623157e308, np.nan, -np.inf])},
        {"columns": np.asfortranarray(THETA["W1"]), "every other": THETA["W2"][::2, ::-1]},
        {"ints": [1, 2**53], "single": np.array([0.1], dtype=np.float32)},
    ],
    ids=["network", "nothing", "shapes", "hard numbers", "layouts", "kinds"],
)
def test_parameters_survive_to_the_last_bit_and_in_order(tmp_path, theta):
    save_parameters(tmp_path / "theta.npz", theta)
    assert_same_bits(load_parameters(tmp_path / "theta.npz"), theta)


def test_a_name_may_be_any_text(tmp_path):
    names = ["file", "allow_pickle", "names", "parameters_version", "parameter_1", "a", "a.npy"]
    names += ["layers/1", "layers\\1", "", "Größe θ", "A", " ", "x\ny"]
    theta = {name: np.array([float(i)]) for i, name in enumerate(names)}
    save_parameters(str(tmp_path / "theta.npz"), theta)
    assert_same_bits(load_parameters(str(tmp_path / "theta.npz")), theta)


def test_what_is_loaded_can_be_written_to(tmp_path):
    save_parameters(tmp_path / "theta.npz", THETA)
    theta = load_parameters(tmp_path / "theta.npz")
    theta["W1"][0, 0] = 7
    assert load_parameters(tmp_path / "theta.npz")["W1"][0, 0] == THETA["W1"][0, 0]


def test_a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "theta.npz"
    save_parameters(path, THETA)
    save_parameters(path, {"b": [1.0]})
    assert_same_bits(load_parameters(path), {"b": [1.0]})
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_a_machine_that_stops_while_writing_leaves_the_old_file(tmp_path, monkeypatch, stage):
    path = tmp_path / "theta.npz"
    save_parameters(path, THETA)

    def stop(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, stage, stop)
    with pytest.raises(ArgumentError, match="cannot be written: No space left on device; is "):
        save_parameters(path, {"b": [1.0]})
    assert_same_bits(load_parameters(path), THETA)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "nowhere" / "theta.npz"
    with pytest.raises(ArgumentError, match=re.escape(f"is {path.parent} a directory to write in")):
        save_parameters(path, THETA)
    with pytest.raises(ArgumentError, match="cannot be read: No such file"):
        load_parameters(path)


@pytest.mark.parametrize("name", ["theta", "theta.pt", "theta.npz.old"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(ArgumentError, match=r"ends in '.*', expected \.npz"):
        save_parameters(tmp_path / name, THETA)
    with pytest.raises(ArgumentError, match=r"ends in '.*', expected \.npz"):
        load_parameters(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("theta", "error", "words"),
    [
        ({"W1": [1j]}, DtypeError, r"theta\['W1'\] holds complex numbers"),
        ({"W1": ["a"]}, DtypeError, r"theta\['W1'\] holds text"),
        ({"W1": [object()]}, DtypeError, r"theta\['W1'\] holds objects"),
        ({1: [1.0]}, ArgumentError, "theta has the keys 1, expected texts"),
        ({"W1": [1.0], "b\0": [1.0]}, ArgumentError, "expected texts without NULs"),
        ([1.0], ArgumentError, "theta is of type list, expected Mapping"),
    ],
)
def test_what_is_no_parameters_is_not_written(tmp_path, theta, error, words):
    with pytest.raises(error, match=words):
        save_parameters(tmp_path / "theta.npz", theta)
    assert list(tmp_path.iterdir()) == []


def write_text(path):
    path.write_text("W1 = 3")


def write_pickle(path):
    path.write_bytes(pickle.dumps(THETA))


def write_other(path):
    np.savez(path, **THETA)


def write_half(path):
    save_parameters(path, THETA)
    path.write_bytes(path.read_bytes()[:-100])


def write_damage(path):
    save_parameters(path, THETA)
    content = bytearray(path.read_bytes())
    content[content.index(THETA["W2"].tobytes())] ^= 1
    path.write_bytes(content)


def write_lack(path):
    np.savez(path, parameters_version=1, names=["W1", "b1"], parameter_0=[1.0])


def write_words(path):
    np.savez(path, parameters_version=1, names=["W1"], parameter_0=["x"])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (write_text, " is not a valid .npz file: it is no archive"),
        (write_pickle, " is not a valid .npz file: it is no archive"),
        (write_other, " is no file of this kind: it lacks parameters_version"),
        (write_half, " is not a valid .npz file: "),
        (write_damage, " is not a valid .npz file: .*CRC"),
        (
            write_lack,
            " lacks parameter_1; a file of parameters has names, parameter_0, parameter_1",
        ),
        (write_words, ": parameter_0 is of type <U1, expected float64"),
    ],
)
def test_another_file_is_refused_and_named(tmp_path, write, words):
    path = tmp_path / "theta.npz"
    write(path)
    with pytest.raises(LqradError, match=rf"theta\.npz{words}"):
        load_parameters(path)


def test_another_version_is_refused(tmp_path):
    np.savez(tmp_path / "theta.npz", parameters_version=2, something="else")
    with pytest.raises(ArgumentError, match="is of version 2, expected 1; read it with"):
        load_parameters(tmp_path / "theta.npz")
