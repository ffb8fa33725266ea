"""The order of the tests: the suite runs in two processes, which should end at the same time."""


def pytest_collection_modifyitems(items):
    """Put the notebooks first, which take longest: whoever ends with one leaves the other idle."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")
