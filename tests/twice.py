"""Which tests call the loops in C, so that these alone run once more without them.

A run notes in pytest's cache the tests that ask whether the kernels are in use, and no call of a kernel
is made without asking. `pytest --asked` runs what the run before has noted: a test with all its cases,
where one of them asked, and a whole file, where a fixture asked that its tests share, or its import.
What starts processes of its own is not seen.
"""

from __future__ import annotations

import pytest

from lqrad.native import library

NOTE = "lqrad/asked"


class Twice:
    """A plugin for every item, where hooks of a conftest serve those of its folder."""

    def __init__(self, config):
        self.config, self.asked, self.count = config, set(), 0
        in_use = library.in_use

        def counted():
            self.count += 1
            return in_use()

        # Before the chapters are imported, which take it by its name.
        library.in_use = counted

    def note(self, name, before):
        if self.count > before:
            self.asked.add(name)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        before = self.count
        result = yield
        self.note(function_of(item.nodeid), before)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        before = self.count
        result = yield
        if fixturedef.scope != "function":
            self.note(file_of(request.node.nodeid), before)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        before = self.count
        result = yield
        self.note(file_of(collector.nodeid), before)
        return result

    def pytest_collection_modifyitems(self, items):
        if not self.config.option.asked:
            return
        names = set(self.config.cache.get(NOTE, []))
        kept = [item for item in items if {function_of(item.nodeid), file_of(item.nodeid)} & names]
        left = [item for item in items if item not in set(kept)]
        self.config.hook.pytest_deselected(items=left)
        items[:] = kept

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        self.asked.update(getattr(node, "workeroutput", {}).get(NOTE, []))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self):
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput[NOTE] = sorted(self.asked)
        elif not self.config.option.asked and hasattr(self.config, "cache"):
            self.config.cache.set(NOTE, sorted(self.asked))


def function_of(nodeid):
    return nodeid.partition("[")[0]


def file_of(nodeid):
    return nodeid.partition("::")[0]
