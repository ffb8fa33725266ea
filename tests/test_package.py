"""The package as a whole: what importing it loads, what it exports, what it ships."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import inspect
import subprocess
import sys

import pytest
from names import NAMES

import lqrad


def test_importing_lqrad_loads_nothing_slow():
    """Pictures, SciPy's larger parts and optional packages wait until they are asked for."""
    program = "import sys, lqrad; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    slow = {"matplotlib", "scipy.io", "scipy.optimize", "scipy.signal", "tqdm", "control", "jax"}
    assert slow & set(done.stdout.split()) == set()


def test_pictures_are_loaded_when_they_are_asked_for():
    program = "import lqrad; print(lqrad.plotting.plot_trajectory.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "plot_trajectory\n"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_exists_and_explains_itself(name):
    thing = getattr(lqrad, name)
    doc = inspect.getdoc(thing)
    assert doc
    assert not doc.startswith(f"{name}(")  # what a dataclass without a docstring says
    if inspect.isfunction(thing):
        assert ">>>" in doc
    if inspect.isclass(thing):
        methods = {
            key: value
            for key, value in vars(thing).items()
            if not key.startswith("_") and (callable(value) or isinstance(value, property))
        }
        assert [key for key, value in methods.items() if not inspect.getdoc(value)] == []


def test_former_names_are_found():
    assert lqrad.residual is lqrad.nets.residual is lqrad.nets.residual_network


def test_public_names_are_listed_once():
    assert len(set(lqrad.__all__)) == len(lqrad.__all__)


def test_the_types_are_shipped():
    assert (importlib.resources.files("lqrad") / "py.typed").is_file()


def test_the_version_is_that_of_the_installation():
    try:
        installed = importlib.metadata.version("lqrad")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lqrad is on the path here, not installed")
    assert lqrad.__version__ == installed


def test_a_status_has_a_word_and_is_a_sentence_that_begins_with_it():
    for status in lqrad.Status:
        assert status.value.startswith(f"{status.word}: ")
        assert " " not in status.word
        assert status.converged == (status.word == "converged")


def test_a_module_is_imported_where_it_is_asked_for():
    asked = "import sys, lqrad; lqrad.{}; print(*sys.modules)"
    for name, loaded, other in (
        ("native.status()", "lqrad.native.library", "lqrad.design"),
        ("riccati", "lqrad.lq.riccati", "lqrad.design"),
        ("design.lqr", "lqrad.design", "matplotlib"),
        ("em", "lqrad.smoothing", "matplotlib"),
    ):
        line = asked.format(name)
        done = subprocess.run(
            [sys.executable, "-c", line], capture_output=True, text=True, check=True
        )
        assert loaded in done.stdout.split()
        assert other not in done.stdout.split()
