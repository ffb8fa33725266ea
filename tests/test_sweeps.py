"""Sweeps: every cell once and in its place, on any executor, whatever is raised, killed or resumed."""

from __future__ import annotations

import importlib
import itertools
import math
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import lqrad.sweeps as module
from lqrad.errors import ArgumentError, LqradError
from lqrad.sweeps import Sweep, sweep

GRID = {"a": [3, 1, 2], "b": [0.5, -0.25], "kind": ["sine", "root"]}

# What workers and children import: they do not know this file.
CELLS = '''
import math
import os
import signal
import threading
import time
from pathlib import Path


def curve(a, b, kind):
    return {"y": math.sin(a * b) if kind == "sine" else math.sqrt(a) * b, "a": a}


def reluctant(a, b, kind):
    if kind == "root" and b < 0:
        raise ValueError(f"no {kind} of {b}")
    return curve(a, b, kind)


def deadly(a, folder):
    Path(folder, f"began-{a}").touch()
    if a == 2 and not Path(folder, "cured").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return math.sqrt(a)


class OddError(Exception):
    def __str__(self):
        return self.args[3]


def odd(a):
    if a == 1:
        raise OddError("x")
    return threading.Lock() if a == 2 else a


def counted(a, b, folder):
    """Leave a file for each call, and from the thirteenth cell on wait for leave to finish."""
    Path(folder, f"{a}-{b}-{time.monotonic_ns()}").touch()
    go = Path(folder, "go")
    time.sleep(0 if go.exists() else 0.03)
    while 4 * a + b >= 12 and not go.exists():
        time.sleep(0.01)
    return {"y": [math.exp(a) / 3 + b / 7, math.nan, -0.0, -math.inf][b], "a": a}
'''


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The functions above, in a module that other processes find."""
    folder = tmp_path_factory.mktemp("cells")
    (folder / "sweep_cells.py").write_text(CELLS)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("sweep_cells")
    sys.path.remove(str(folder))
    del sys.modules["sweep_cells"]


@pytest.fixture(scope="module")
def new_pool():
    """Make a pool of two processes; they are spawned, which is safe beside threads."""
    return partial(ProcessPoolExecutor, 2, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def client():
    """Dask with two worker processes, of which a cell may kill one before it is given up."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.npz"


@pytest.fixture
def often(monkeypatch):
    """Save as often as there is something to save."""
    monkeypatch.setattr(module, "_INTERVAL", 0.01)


def naive(function, grid):
    """Outcomes by index: loops and a dictionary, no arrays."""
    found = {}
    for index in itertools.product(*(range(len(values)) for values in grid.values())):
        cell = {name: grid[name][i] for name, i in zip(grid, index, strict=True)}
        found[index] = function(**cell)
    return found


def until(condition):
    """Wait for something that another thread or process brings about."""
    for _ in range(24_000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("waited for two minutes in vain")


def saved(path):
    """How many cells are done in the file."""
    if not path.exists():
        return 0
    with np.load(path) as held:
        return int(held["done"].sum())


def assert_same(one, other):
    """Everything but the times is equal to the last bit."""
    assert list(one.axes) == list(other.axes)
    for name, axis in one.axes.items():
        assert axis.tolist() == other.axes[name].tolist()
    assert list(one.values) == list(other.values)
    for name, array in one.values.items():
        assert array.dtype == np.float64
        assert array.shape == other.values[name].shape == one.seconds.shape
        assert array.tobytes() == other.values[name].tobytes()
    assert one.errors == other.errors
    assert np.isnan(one.seconds).tolist() == np.isnan(other.seconds).tolist()


# --- every cell in its place ----------------------------------------------------------------------


def test_every_cell_holds_what_the_function_returns_there(cells):
    result = sweep(cells.curve, GRID)
    expected = naive(cells.curve, GRID)
    assert result.seconds.shape == (3, 2, 2)
    assert list(result.values) == ["y", "a"]
    for index, outcome in expected.items():
        for name, number in outcome.items():
            assert result.values[name][index] == number
    assert result.errors == {}
    assert all(result.axes[name].tolist() == values for name, values in GRID.items())


def test_a_plain_number_goes_under_the_name_value():
    result = sweep(lambda a: a / 2, {"a": range(3)})
    assert list(result.values) == ["value"]
    assert result.values["value"].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("number", [3, True, 2.5, np.float32(1.5), np.int8(4), np.array(7.0)])
def test_whatever_is_a_real_number_is_an_outcome(number):
    result = sweep(lambda: number, {})
    assert result.values["value"].tolist() == float(number)


def test_the_function_gets_plain_numbers_and_strings():
    seen = []
    grid = {"n": np.array([1], dtype=np.int32), "x": np.array([0.5]), "on": [True], "s": ["é"]}
    sweep(lambda **cell: len(seen.append(cell) or "x"), grid)
    assert seen == [{"n": 1, "x": 0.5, "on": True, "s": "é"}]
    assert [type(value) for value in seen[0].values()] == [int, float, bool, str]


def test_cells_that_finish_in_reverse_are_put_in_order():
    size, ended = 6, []
    ready = [threading.Event() for _ in range(size + 1)]
    ready[size].set()

    def waits_for_the_next(a):
        assert ready[a + 1].wait(10)
        ended.append(a)
        ready[a].set()
        return a * a

    with ThreadPoolExecutor(size) as executor:
        result = sweep(waits_for_the_next, {"a": range(size)}, executor=executor)
    assert ended == list(range(size))[::-1]
    assert result.values["value"].tolist() == [0, 1, 4, 9, 16, 25]


def test_processes_and_threads_return_what_one_process_does(cells, new_pool):
    alone = sweep(cells.reluctant, GRID)
    assert len(alone.errors) == 3
    with new_pool() as processes, ThreadPoolExecutor(3) as threads:
        assert_same(sweep(cells.reluctant, GRID, executor=processes), alone)
        assert_same(sweep(cells.reluctant, GRID, executor=threads), alone)
        assert processes.submit(abs, -1).result() == 1  # it stays open


def test_the_seconds_are_those_of_the_cell_and_not_of_the_queue():
    with ThreadPoolExecutor(1) as executor:
        result = sweep(lambda s: time.sleep(s) or 1, {"s": [0.2, 0, 0.1]}, executor=executor)
    assert (result.seconds >= [0.2, 0, 0.1]).all()
    assert result.seconds[1] < 0.2  # it had waited for 0.2 seconds


def test_no_names_make_one_cell():
    result = sweep(lambda: 5, {})
    assert result.values["value"].shape == result.seconds.shape == ()
    assert result.values["value"] == 5


def test_an_empty_axis_leaves_no_cells(path):
    result = sweep(lambda a, b: pytest.fail("called"), {"a": [1, 2], "b": []}, path=path)
    assert result.seconds.shape == (2, 0)
    assert result.values == result.errors == {}
    assert_same(Sweep.load(path), result)
    assert_same(sweep(lambda a, b: 1, {"a": [1, 2], "b": []}, path=path), result)


def test_equal_values_are_cells_of_their_own():
    calls = itertools.count()
    result = sweep(lambda a: next(calls), {"a": [5, 5, 5]})
    assert result.values["value"].tolist() == [0, 1, 2]


def test_a_line_tells_what_became_of_the_cells(cells):
    assert repr(sweep(cells.curve, GRID)) == (
        "<Sweep of a (3) x b (2) x kind (2): 12 of 12 cells done>"
    )
    assert repr(sweep(cells.reluctant, GRID)) == (
        "<Sweep of a (3) x b (2) x kind (2): 9 of 12 cells done, 3 failed, "
        "at (0, 1, 1) with ValueError: no root of -0.25>"
    )
    assert repr(sweep(lambda: 1, {})) == "<Sweep of no axes: 1 of 1 cells done>"
    assert repr(sweep(lambda: 1 / 0, {})) == (
        "<Sweep of no axes: 0 of 1 cells done, 1 failed, "
        "at () with ZeroDivisionError: division by zero>"
    )


# --- Dask -----------------------------------------------------------------------------------------


def test_dask_returns_what_one_process_does(client):
    def curve(a, b, kind):  # within the test, so that Dask sends it by value
        if kind == "root" and b < 0:
            raise ValueError(f"no {kind} of {b}")
        return {"y": math.sin(a * b) if kind == "sine" else math.sqrt(a) * b, "a": a}

    assert isinstance(client.get_executor().submit(abs, -1), Future)
    assert_same(sweep(curve, GRID, executor=client.get_executor()), sweep(curve, GRID))


def test_dask_uses_its_workers_and_runs_equal_cells_each(client):
    def draws(a):
        return {"pid": os.getpid(), "number": random.random()}

    result = sweep(draws, {"a": [1] * 20}, executor=client.get_executor())
    assert os.getpid() not in result.values["pid"]
    assert len(set(result.values["number"])) == 20
    again = sweep(draws, {"a": [1] * 20}, executor=client.get_executor())
    assert not set(again.values["number"]) & set(result.values["number"])


def test_a_worker_of_dask_that_is_killed_is_an_error_of_its_cell(client):
    def deadly(a):
        if a == 2:
            os._exit(1)
        return a

    result = sweep(deadly, {"a": [1, 2, 3]}, executor=client.get_executor())
    assert result.errors[1,].startswith("KilledWorker: ")
    assert math.isnan(result.seconds[1])


def test_a_client_that_is_closed_midway_gives_its_cells_up(client, path, often):
    distributed = pytest.importorskip("distributed")
    other = distributed.Client(client.cluster)

    def slow(a):
        time.sleep(0.02 if a < 2 else 0.5)
        return a

    def close_when_two_are_done():
        until(lambda: saved(path) >= 2)
        other.close()

    closer = threading.Thread(target=close_when_two_are_done)
    closer.start()
    result = sweep(slow, {"a": range(8)}, executor=other.get_executor(), path=path)
    closer.join()
    assert result.errors[7,] == "CancelledError: the executor gave the cell up"
    assert_same(Sweep.load(path), result)
    with pytest.raises(ArgumentError, match=r"executor took not even the first cell: .*closed"):
        sweep(slow, {"a": range(8)}, executor=other.get_executor())
    resumed = sweep(lambda a: a, {"a": range(8)}, executor=client.get_executor(), path=path)
    assert resumed.values["value"].tolist() == list(range(8))


def test_what_dask_cannot_send_is_said_before_the_first_cell(client):
    lock = threading.Lock()
    with pytest.raises(ArgumentError, match=r"first cell: TypeError: .*can function be pickled\?"):
        sweep(lambda a: lock.locked(), {"a": [1, 2]}, executor=client.get_executor())


# --- what goes wrong in a cell stays there --------------------------------------------------------


def test_a_cell_that_raises_keeps_the_others_and_is_run_again_on_resuming(path):
    calls = []

    def fails(a, b, cured):
        calls.append((a, b))
        if a == 1 and not cured:
            raise ZeroDivisionError(f"b is {b}")
        return 10 * a + b

    grid = {"a": [0, 1], "b": [0, 1, 2]}
    broken = sweep(partial(fails, cured=False), grid, path=path)
    assert broken.values["value"][0].tolist() == [0, 1, 2]
    assert np.isnan(broken.values["value"][1]).all()
    assert broken.errors == {(1, b): f"ZeroDivisionError: b is {b}" for b in range(3)}
    assert np.isfinite(broken.seconds).all()  # they were run, if in vain
    assert_same(Sweep.load(path), broken)
    calls.clear()
    resumed = sweep(partial(fails, cured=True), grid, path=path)
    assert calls == [(1, 0), (1, 1), (1, 2)]
    assert_same(resumed, sweep(partial(fails, cured=True), grid))
    assert_same(Sweep.load(path), resumed)


def test_where_all_cells_fail_there_are_no_names():
    result = sweep(lambda a: 1 / a, {"a": [0, 0]})
    assert result.values == {}
    assert set(result.errors.values()) == {"ZeroDivisionError: division by zero"}


ALONE = ", expected a real number or a mapping of names to real numbers"


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        ("text", "returned 'text'" + ALONE),
        (None, "returned None" + ALONE),
        (1j, "returned 1j" + ALONE),
        ([1.0, 2.0], "returned [1.0, 2.0]" + ALONE),
        ([[1], [2, 3]], "returned [[1], [2, 3]]" + ALONE),
        (np.zeros(1), "returned array([0.])" + ALONE),
        ({}, "returned {}, expected names as the keys of the mapping"),
        ({1: 2.0}, "returned {1: 2.0}, expected names as the keys of the mapping"),
        ({"x": None}, "returned None as 'x', expected a real number"),
        ({"x": "1"}, "returned '1' as 'x', expected a real number"),
    ],
    ids=repr,
)
def test_a_cell_that_returns_something_else_is_in_error(returned, text):
    result = sweep(lambda a: returned if a == 1 else float(a), {"a": [0, 1, 2]})
    assert result.errors == {(1,): f"DtypeError: function {text}"}
    np.testing.assert_array_equal(result.values["value"], [0, np.nan, 2])


def test_a_cell_with_other_names_than_the_first_is_in_error():
    returned = [{"x": 1, "y": 2}, {"y": 3, "x": 4}, {"x": 5}, {"z": 6, "x": 7}, 8]
    result = sweep(lambda a: returned[a], {"a": range(5)})
    expected = "expected x, y as in an earlier cell"
    assert result.errors == {
        (2,): f"ArgumentError: function returned x, {expected}",
        (3,): f"ArgumentError: function returned z, x, {expected}",
        (4,): f"ArgumentError: function returned value, {expected}",
    }
    np.testing.assert_array_equal(result.values["x"], [1, 4, *[np.nan] * 3])
    np.testing.assert_array_equal(result.values["y"], [2, 3, *[np.nan] * 3])


def test_the_first_cell_of_the_grid_decides_on_the_names_and_not_the_first_to_finish(path):
    last_is_done = threading.Event()

    def named(a):
        if a == 3:
            last_is_done.set()
        assert last_is_done.wait(10)
        if a == 0:
            raise ValueError("no name")
        return {f"name {min(a, 2)}": a}

    with ThreadPoolExecutor(4) as executor:
        result = sweep(named, {"a": range(4)}, executor=executor, path=path)
    assert list(result.values) == ["name 1"]
    assert list(result.errors) == [(0,), (2,), (3,)]
    # A cell that comes back on resuming may decide anew.
    resumed = sweep(lambda a: {"name 2": a}, {"a": range(4)}, path=path)
    assert list(resumed.values) == ["name 2"]
    assert list(resumed.errors) == [(1,)]


class OddError(Exception):
    """An exception with a fault of its own, which no process can send either."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()

    def __str__(self):
        return self.args[3]


@pytest.mark.parametrize("where", ["here", "threads"])
def test_an_error_whose_text_raises_is_one_of_its_cell(path, where):
    def odd(a):
        if a == 1:
            raise OddError("x")
        return a

    with ThreadPoolExecutor(2) as threads:
        executor = threads if where == "threads" else None
        result = sweep(odd, {"a": [0, 1, 2]}, executor=executor, path=path)
    assert result.errors == {(1,): "OddError, whose text raises IndexError"}
    assert_same(Sweep.load(path), result)


def test_what_no_process_can_send_is_an_error_of_its_cell(cells, new_pool):
    with new_pool() as processes:
        result = sweep(cells.odd, {"a": [0, 1, 2]}, executor=processes)
    assert result.values["value"][0] == 0
    assert result.errors[1,] == "OddError, whose text raises IndexError"
    assert result.errors[2,].startswith("DtypeError: function returned <unlocked _th")


def test_names_and_texts_that_a_file_would_cut_are_told(path):
    result = sweep(lambda a: {"x\0": 1.0}, {"a": [1]}, path=path)
    assert result.errors[0,].startswith(r"DtypeError: function returned {'x\x00': 1.0}, expected")
    with pytest.raises(ArgumentError, match=r"grid has the key 'a\\x00', expected the name"):
        sweep(lambda **cell: 1.0, {"a\0": [1]})

    def fails(a):
        raise ValueError("ends in\0")

    path.unlink()
    result = sweep(fails, {"a": [1]}, path=path)
    assert result.errors == {(0,): r"ValueError: ends in\0"}
    assert_same(Sweep.load(path), result)


def test_a_grid_has_as_many_names_as_an_array_has_axes(path):
    most = next(k for k in range(1, 100) if not fits_an_array(k + 1))
    few = {f"a{i}": [1] for i in range(most - 1)}  # in the file is an axis more
    assert_same(sweep(lambda **cell: 1.0, few, path=path), Sweep.load(path))
    with pytest.raises(
        ArgumentError, match=r"grid has \d\d names, more than a NumPy array has axes"
    ):
        sweep(lambda **cell: 1.0, few | {"b": [1], "c": [1]})


def fits_an_array(axes):
    try:
        np.empty([1] * axes)
    except ValueError:
        return False
    return True


def test_a_grid_that_has_no_room_is_refused():
    with pytest.raises(ArgumentError, match=r"the outcomes of this grid would take .* GiB"):
        sweep(lambda **cell: 1.0, {"a": range(10**6), "b": range(10**6)})


def test_long_errors_are_cut():
    def fails():
        raise ValueError("x" * 5000)

    ((_, text),) = sweep(fails, {}).errors.items()
    assert len(text) == 1000
    assert text.startswith("ValueError: xxx")
    assert text.endswith("xxx...")


def test_a_worker_that_is_killed_is_an_error_and_what_was_done_is_kept(
    cells, new_pool, path, tmp_path, often
):
    deadly = partial(cells.deadly, folder=str(tmp_path))
    with new_pool() as pool:
        result = sweep(deadly, {"a": range(12)}, executor=pool, path=path)
        assert result.errors[2,].startswith("BrokenProcessPool: ")
        assert result.errors[2,].endswith("or unable to import function?)")
        with pytest.raises(ArgumentError, match=r"not even the first cell: BrokenProcessPool"):
            sweep(deadly, {"a": range(12)}, executor=pool)
    for a in range(12):
        value = result.values["value"][a] if result.values else math.nan
        assert math.isnan(value) if (a,) in result.errors else value == math.sqrt(a)
    assert_same(Sweep.load(path), result)
    for began in tmp_path.glob("began-*"):
        began.unlink()
    (tmp_path / "cured").touch()
    with new_pool() as pool:
        resumed = sweep(deadly, {"a": range(12)}, executor=pool, path=path)
    assert resumed.values["value"].tolist() == [math.sqrt(a) for a in range(12)]
    assert {int(p.name[6:]) for p in tmp_path.glob("began-*")} == {a for (a,) in result.errors}


def test_a_lambda_is_refused_before_processes_are_started(new_pool):
    with new_pool() as pool, pytest.raises(ArgumentError, match="function must be picklable"):
        sweep(lambda a: a, {"a": [1]}, executor=pool)


# --- interrupts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_is_done_before_an_interrupt_is_saved(path, stop):
    calls = []

    def stops(a):
        calls.append(a)
        if a == 3 and len(calls) == 4:
            raise stop
        return a

    with pytest.raises(stop):
        sweep(stops, {"a": range(5)}, path=path)
    partly = Sweep.load(path)
    np.testing.assert_array_equal(partly.values["value"], [0, 1, 2, np.nan, np.nan])
    assert np.isnan(partly.seconds).tolist() == [False, False, False, True, True]
    assert partly.errors == {}
    assert repr(partly) == "<Sweep of a (5): 3 of 5 cells done>"
    assert sweep(stops, {"a": range(5)}, path=path).values["value"].tolist() == [0, 1, 2, 3, 4]
    assert calls == [0, 1, 2, 3, 3, 4]


def test_an_interrupt_cancels_the_cells_that_have_not_begun(path, often):
    began, released = [], threading.Event()

    def interrupts(a):
        began.append(a)
        if a == 1:
            until(lambda: saved(path) == 1)  # though no other cell has finished since
            os.kill(os.getpid(), signal.SIGINT)
            assert released.wait(10)
        return a

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(KeyboardInterrupt):
            sweep(interrupts, {"a": range(50)}, executor=executor, path=path)
        released.set()
    assert began == [0, 1]
    assert saved(path) == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_that_a_worker_sends_back_is_passed_on(path, stop):
    def stops(a):
        if a == 1:
            raise stop
        return a

    with ThreadPoolExecutor(1) as executor, pytest.raises(stop):
        sweep(stops, {"a": range(3)}, executor=executor, path=path)
    assert saved(path) == 1


def test_an_interrupted_resumption_keeps_the_errors_that_it_did_not_reach(path):
    def stops(a):
        raise KeyboardInterrupt

    broken = sweep(lambda a: 1 / a, {"a": [1, 0]}, path=path)
    with pytest.raises(KeyboardInterrupt):
        sweep(stops, {"a": [1, 0]}, path=path)
    assert_same(Sweep.load(path), broken)


# --- the file -------------------------------------------------------------------------------------

KILLED = """
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from sweep_cells import counted
import lqrad.sweeps as module
# After every cell, though a file that takes long to write is written seldom else.
module._Record.due = property(lambda self: 0.0, lambda self, due: None)
executor = ThreadPoolExecutor(2) if sys.argv[3] == "threads" else None
grid = {"a": range(6), "b": range(4)}
module.sweep(partial(counted, folder=sys.argv[1]), grid, executor=executor, path=sys.argv[2])
"""


@pytest.mark.parametrize("where", ["here", "threads"])
def test_a_sweep_that_is_killed_resumes_as_if_it_had_not_been(cells, path, tmp_path, where):
    folder = tmp_path / "calls"
    folder.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(path), where],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        until(lambda: saved(path) and list(folder.glob("3-0-*")))
    finally:
        child.kill()
        ended = child.wait()
    assert ended == -signal.SIGKILL
    with np.load(path) as held:
        done = held["done"]
    assert 1 <= done.sum() <= 12
    (folder / "go").touch()
    before = set(folder.iterdir())
    grid = {"a": range(6), "b": range(4)}
    resumed = sweep(partial(cells.counted, folder=str(folder)), grid, path=path)
    for a, b in np.ndindex(6, 4):
        calls = set(folder.glob(f"{a}-{b}-*"))
        assert len(calls - before) == (0 if done[a, b] else 1)
        assert len(calls & before) >= done[a, b]
    assert_same(resumed, sweep(partial(cells.counted, folder=str(folder)), grid))
    assert_same(Sweep.load(path), resumed)


def test_a_sweep_that_is_done_runs_nothing_and_writes_nothing(cells, path):
    whole = sweep(cells.curve, GRID, path=path)
    content, written = path.read_bytes(), path.stat().st_mtime_ns
    again = sweep(lambda a, b, kind: pytest.fail("called"), GRID, path=path)
    assert_same(again, whole)
    np.testing.assert_array_equal(again.seconds, whole.seconds)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, written)


def test_the_file_is_of_plain_arrays(cells, path):
    result = sweep(cells.reluctant, GRID, path=path)
    with np.load(path, allow_pickle=False) as held:
        assert held["sweep_version"] == 1
        assert held["axis_names"].tolist() == ["a", "b", "kind"]
        assert held["axis_2"].tolist() == ["sine", "root"]
        assert held["outcome_names"].tolist() == ["y", "a"]
        np.testing.assert_array_equal(held["values"], list(result.values.values()))
        np.testing.assert_array_equal(held["seconds"], result.seconds)
        assert [tuple(index) for index in held["error_cells"]] == list(result.errors)
        assert held["error_texts"].tolist() == list(result.errors.values())
        done = held["done"]
    assert done.sum() == 9
    assert not any(done[index] for index in result.errors)


@pytest.mark.parametrize(
    "grid",
    [{}, {"é": [math.nan, -0.0, math.inf]}, {"a": [], "b": [1]}, {"s": ["", "ü"]}],
    ids=repr,
)
def test_whatever_a_sweep_holds_comes_back_from_its_file(grid, path):
    def odd(**cell):
        if "" in cell.values():
            raise ValueError("nothing, ñ")
        return {"ß": math.nan, "-": -0.0, "big": 1e308}

    result = sweep(odd, grid, path=path)
    loaded = Sweep.load(path)
    assert repr(loaded.axes) == repr(result.axes)
    assert list(loaded.values) == list(result.values)
    for name, array in result.values.items():
        assert loaded.values[name].tobytes() == array.tobytes()
    assert loaded.errors == result.errors
    assert loaded.seconds.tobytes() == result.seconds.tobytes()
    assert repr(sweep(odd, grid, path=path)) == repr(result)


def test_the_file_is_written_no_more_often_than_asked(path, monkeypatch):
    written, replace = [], os.replace
    monkeypatch.setattr(module, "_INTERVAL", 60)
    monkeypatch.setattr(os, "replace", lambda *pair: written.append(pair) or replace(*pair))
    sweep(lambda a: a, {"a": range(100)}, path=path)
    assert len(written) == 2  # before the first cell and after the last
    assert Sweep.load(path).values["value"].tolist() == list(range(100))


def test_a_writing_that_fails_leaves_the_old_file_and_no_other(path, monkeypatch):
    def fails_halfway(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    sweep(lambda a: 1 / a, {"a": [1, 0]}, path=path)
    content = path.read_bytes()
    monkeypatch.setattr(np, "savez", fails_halfway)
    wording = r"results.npz cannot be written: No space left on device; is .* a directory"
    with pytest.raises(ArgumentError, match=wording):
        sweep(lambda a: 5, {"a": [1, 0]}, path=path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_function_may_change_the_directory(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    sweep(lambda a: os.chdir("elsewhere") or a, {"a": [1]}, path="results.npz")
    assert saved(path) == 1


@pytest.mark.parametrize(
    ("grid", "difference"),
    [
        ({"a": [1, 2]}, "its axes are a, b, expected a"),
        ({"b": ["x"], "a": [1, 2]}, "its axes are a, b, expected b, a"),
        ({}, "its axes are a, b, expected none"),
        ({"a": [1, 2, 3], "b": ["x"]}, "its axis 'a' has 2 values, expected 3"),
        ({"a": [1, 3], "b": ["x"]}, "its axis 'a' has 2 at 1, expected 3"),
        ({"a": [1.0, 2.0], "b": ["x"]}, "its axis 'a' has 1 at 0, expected 1.0"),
        ({"a": [1, 2], "b": ["xy"]}, "its axis 'b' has 'x' at 0, expected 'xy'"),
    ],
)
def test_a_file_of_another_grid_is_refused(path, grid, difference):
    sweep(lambda a, b: a, {"a": [1, 2], "b": ["x"]}, path=path)
    content = path.read_bytes()
    wording = re.escape(f"{path} is of another grid: {difference}; choose another path")
    with pytest.raises(ArgumentError, match=wording):
        sweep(lambda **cell: pytest.fail("called"), grid, path=path)
    assert path.read_bytes() == content


def check_refused(path, wording):
    content = path.read_bytes()
    for read in (
        lambda: sweep(lambda a, b: pytest.fail("called"), {"a": [1, 2], "b": ["x"]}, path=path),
        lambda: Sweep.load(path),
    ):
        with pytest.raises(LqradError, match=re.escape(f"{path}{wording}")):
            read()
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


DAMAGES = {
    " is no file of this kind: it lacks sweep_version": lambda data: data.pop("sweep_version"),
    ": its axes axis_0 do not fit axis_names ['a', 'b']": lambda data: data.pop("axis_1"),
    " lacks done; a file of a sweep's results has": lambda data: data.pop("done"),
    ": values holds objects": lambda data: data.update(values=np.array([print])),
    ": values is of type <U1": lambda data: data.update(values=np.full((1, 2, 1), "x")),
    ": values has shape (1, 1, 2)": lambda data: data.update(values=np.zeros((1, 1, 2))),
    ": done is of type float64": lambda data: data.update(done=np.zeros((2, 1))),
    ": seconds has shape (2,)": lambda data: data.update(seconds=np.zeros(2)),
    ": error_cells has shape (0, 3)": lambda data: data.update(error_cells=np.zeros((0, 3), int)),
    ": grid['a'] is": lambda data: data.update(axis_0=np.zeros((2, 2))),
    ": error_cells holds a cell that is not in the grid": lambda data: data.update(
        error_cells=np.array([[2, 0]]), error_texts=np.array(["x"])
    ),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_file_that_is_damaged_is_refused(path, reason):
    sweep(lambda a, b: a, {"a": [1, 2], "b": ["x"]}, path=path)
    with np.load(path) as held:
        data = dict(held)
    DAMAGES[reason](data)
    np.savez(path, **data)
    check_refused(path, reason)


def test_a_file_of_another_version_is_refused(path):
    sweep(lambda a, b: a, {"a": [1, 2], "b": ["x"]}, path=path)
    with np.load(path) as held:
        data = dict(held)
    np.savez(path, **data | {"sweep_version": 2, "done": "otherwise"})
    check_refused(
        path, " is of version 2, expected 1; read it with the version of lqrad that wrote it"
    )


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x80\x04K\x01."], ids=repr)
def test_a_file_of_something_else_is_refused(path, content):
    path.write_bytes(content)
    check_refused(path, " is not a valid .npz file: it is no archive")


def test_a_file_that_ends_too_early_or_has_changed_is_refused(path):
    sweep(lambda a, b: a, {"a": [1, 2], "b": ["x"]}, path=path)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    check_refused(path, " is not a valid .npz file: ")
    place = content.index(np.array([1.0, 2.0]).tobytes())
    path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    check_refused(path, " is not a valid .npz file: Bad CRC-32")


def test_a_directory_that_is_missing_is_said_before_the_first_cell(tmp_path):
    path = tmp_path / "missing" / "results.npz"
    wording = f"{path} cannot be written: No such file or directory; is {path.parent} a directory"
    with pytest.raises(ArgumentError, match=re.escape(wording)):
        sweep(lambda a: pytest.fail("called"), {"a": [1]}, path=path)
    with pytest.raises(ArgumentError, match=re.escape(f"{tmp_path} cannot be read: Is a dir")):
        sweep(lambda a: pytest.fail("called"), {"a": [1]}, path=tmp_path)
    with pytest.raises(ArgumentError, match=re.escape(f"{path} cannot be read: No such file")):
        Sweep.load(path)


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "wording"),
    [
        ([1, 2], "grid is of type list, expected Mapping, such as dict(tol=[1e-3, 1e-6]"),
        ({1: [2]}, "grid has the key 1, expected the name of an argument"),
        ({"a": 3}, "grid['a'] is 3, expected a sequence of numbers or of strings; write a single"),
        ({"a": "abc"}, "grid['a'] is 'abc', expected a sequence"),
        ({"a": [[1, 2]]}, "grid['a'] is [[1, 2]], expected a sequence"),
        ({"a": [[1], [2, 3]]}, "grid['a'] is [[1], [2, 3]], expected a sequence"),
        ({"a": [1j]}, "grid['a'] is [1j], expected a sequence"),
        ({"a": [None]}, "grid['a'] is [None], expected a sequence"),
        ({"a": {1, 2}}, "grid['a'] is {1, 2}, expected a sequence"),
        (
            {"a": [1, "x"]},
            "grid['a'] holds 1 at 0, of which one array with all its values makes '1'",
        ),
        ({"a": ["x", "x\0"]}, r"grid['a'] holds 'x\x00' at 1, of which"),
        ({"a": [0.5, 2**53 + 1]}, "grid['a'] holds 9007199254740993 at 1, of which"),
    ],
    ids=repr,
)
def test_a_grid_that_is_none_is_refused(grid, wording):
    with pytest.raises(ArgumentError, match=re.escape(wording)):
        sweep(lambda **cell: 1, grid)


def test_a_function_that_is_none_is_refused():
    with pytest.raises(ArgumentError, match="function is 3, expected a callable"):
        sweep(3, {"a": [1]})


def test_what_is_no_executor_is_refused():
    wording = r"executor is of type dict, expected Executor, such as .*client.get_executor\(\)"
    with pytest.raises(ArgumentError, match=wording):
        sweep(abs, {"a": [1]}, executor={})


def test_an_executor_that_is_shut_down_is_refused(path):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(ArgumentError, match=r"not even the first cell: RuntimeError: .*still open"):
        sweep(lambda a: a, {"a": [1]}, executor=executor, path=path)


def test_an_executor_that_is_shut_down_midway_is_an_error_of_what_is_left(path):
    class TakesTwo(ThreadPoolExecutor):
        def submit(self, *args):
            if args[2]["a"] == 2:
                self.shutdown()
            return super().submit(*args)

    result = sweep(lambda a: a, {"a": range(4)}, executor=TakesTwo(1), path=path)
    np.testing.assert_array_equal(result.values["value"], [0, 1, np.nan, np.nan])
    assert list(result.errors) == [(2,), (3,)]
    assert result.errors[3,].startswith("RuntimeError: cannot schedule new futures")
    assert_same(Sweep.load(path), result)


# --- progress -------------------------------------------------------------------------------------


def test_with_tqdm_there_is_a_bar(path, capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(module, "_INTERVAL", 0.001)  # pauses are not cells
    with ThreadPoolExecutor(1) as executor:
        sweep(
            lambda a: time.sleep(0.01) or 1 / a,
            {"a": range(5)},
            executor=executor,
            progress=True,
            path=path,
        )
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("\rsweep: ")
    assert "5/5" in err
    assert "cell" in err
    sweep(lambda a: 1, {"a": range(5)}, progress=True, path=path)
    assert "4/5" in capsys.readouterr().err.split("\r")[1]  # those done are there at the start


def test_without_tqdm_there_is_a_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    result = sweep(lambda a: a, {"a": [1, 2]}, progress=True)
    assert capsys.readouterr() == ("", f"{result}\n")


def test_by_default_there_is_nothing(capsys):
    sweep(lambda a: a, {"a": [1, 2]})
    assert capsys.readouterr() == ("", "")
