"""What all tests share: their order, and a generator of random numbers for each."""

import numpy as np
import pytest
from twice import Twice


def pytest_addoption(parser):
    parser.addoption(
        "--asked", action="store_true", help="run what asked for loops in C in the run before"
    )


def pytest_configure(config):
    config.pluginmanager.register(Twice(config))


@pytest.fixture
def rng():
    """A generator of the test's own: what it draws does not depend on which tests ran before."""
    return np.random.default_rng(0)


def pytest_collection_modifyitems(items):
    """Put the notebooks first, which take longest: two processes should end at the same time."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")
