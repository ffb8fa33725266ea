"""Files that are replaced: as a whole, where they are, as they were; and a file held for oneself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import lqrad
from lqrad.cli import main
from lqrad.errors import ArgumentError
from lqrad.files.saved import save_controller, save_parameters
from lqrad.nonlinear.pictures import animate_cart_pole
from lqrad.nonlinear.systems import cart_pole_swingup
from lqrad.outside import alone, read_bytes, replace_file
from lqrad.sweeps import Sweep, sweep

CONTROLLER = lqrad.lqi(lqrad.StateSpace([[0.9]], [[0.1]], dt=0.1), [[1]], [[1]], [[0.1]])
SYSTEM = cart_pole_swingup()
LEVEL = '{"A": 1, "C": 1, "W": 1, "V": 1}'


def smooth(option):
    def write(path):
        (path.parent / "level.json").write_text(LEVEL)
        (path.parent / "flow.csv").write_text("y\n1\n2\n3\n")
        words = [str(path.parent / "flow.csv"), "--model", str(path.parent / "level.json")]
        return main(["smooth", *words, option, str(path)])

    return write


# Everything that writes a file, by the name of what it writes.
WRITERS = {
    "theta.npz": lambda path: save_parameters(path, {"a": 1.0}),
    "controller.npz": lambda path: save_controller(path, CONTROLLER),
    "controller.json": lambda path: save_controller(path, CONTROLLER),
    "film.gif": lambda path: animate_cart_pole(SYSTEM, np.zeros((2, 4)), path),
    "states.csv": smooth("--out"),
    "flow.png": smooth("--plot"),
    "flow.svg": smooth("--plot"),
    "cells.npz": lambda path: sweep(lambda a: a, {"a": [1]}, path=path),
}
BY_COMMAND = {"states.csv", "flow.png", "flow.svg"}
EVERY_WRITER = pytest.mark.parametrize("name", WRITERS)


@pytest.fixture
def usual_mask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def old_file(path, name):
    """What stands there before: nothing of meaning, and for a sweep what it may go on with."""
    path.write_text("old")
    if name == "cells.npz":
        path.unlink()
        sweep(lambda a: 1 / 0, {"a": [1]}, path=path)


@EVERY_WRITER
def test_a_link_stays_and_a_file_keeps_its_mode(tmp_path, usual_mask, name):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / name, tmp_path / name
    old_file(target, name)
    target.chmod(0o640)
    link.symlink_to(target)
    before = target.read_bytes()
    WRITERS[name](link)
    assert link.is_symlink()
    assert target.read_bytes() != before
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / "store").iterdir()] == [name]


@EVERY_WRITER
def test_a_new_file_has_the_usual_mode(tmp_path, usual_mask, name):
    WRITERS[name](tmp_path / name)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


@EVERY_WRITER
def test_where_there_is_no_room_the_old_file_stays(tmp_path, monkeypatch, capsys, name):
    path = tmp_path / name
    old_file(path, name)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    if name in BY_COMMAND:
        assert WRITERS[name](path) == 2
        assert "No space left" in capsys.readouterr().err
    else:
        with pytest.raises(ArgumentError, match="No space left"):
            WRITERS[name](path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from lqrad.outside import replace_file
def write(file):
    file.write(b"half of it")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
replace_file(Path(sys.argv[1]), write)
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="a system whose files all have names")
def test_who_is_killed_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "theta.npz"
    path.write_text("old")
    env = os.environ | {"PYTHONPATH": str(Path(lqrad.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=env, timeout=300)
    assert done.returncode == -9
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_system_whose_files_all_have_names_replaces_too(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / "some.bin"
    for content in (b"first", b"second"):
        replace_file(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_an_end_is_refused_when_memory_is_full(monkeypatch):
    monkeypatch.setattr("lqrad.arguments.memory", lambda: 2**27)
    with pytest.raises(ArgumentError, match=r"/dev/zero would take .* GiB"):
        read_bytes(Path("/dev/zero"))


def test_a_forecast_beyond_the_memory_is_refused(tmp_path, capsys):
    assert smooth("--plot")(tmp_path / "flow.svg") == 0
    words = [str(tmp_path / "flow.csv"), "--model", str(tmp_path / "level.json")]
    assert main(["smooth", *words, "--forecast", "999999999"]) == 2
    assert "a series of 1000000002 steps would take" in capsys.readouterr().err


def test_what_only_the_owner_may_read_is_not_readable_while_it_is_written(tmp_path, usual_mask):
    path, seen = tmp_path / "secret.bin", []
    path.touch(mode=0o600)
    replace_file(path, lambda file: seen.append(os.fstat(file.fileno()).st_mode & 0o777))
    assert seen == [0o600]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_may_not_be_written_is_left(tmp_path, monkeypatch):
    """Asked of the system, as root may write where the modes say no."""
    path = tmp_path / "theta.npz"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ArgumentError, match="cannot be written: Permission denied"):
        save_parameters(path, {"a": 1.0})
    assert path.read_text() == "old"


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    (tmp_path / "gone.npz").symlink_to(tmp_path / "store.npz")
    for name in ("pipe.npz", "loop.npz"):
        with pytest.raises(ArgumentError, match=f"{name} cannot be written: "):
            save_parameters(tmp_path / name, {"a": 1.0})
    with pytest.raises(ArgumentError, match=r"loop\.npz cannot be "):
        sweep(lambda a: a, {"a": [1]}, path=tmp_path / "loop.npz")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    assert main(["design", "--out", str(tmp_path / "loop.json")]) == 2
    save_parameters(tmp_path / "gone.npz", {"a": 1.0})
    assert (tmp_path / "store.npz").exists()


def test_a_long_name_is_written_as_any(tmp_path):
    path = tmp_path / ("a" * 251 + ".npz")
    save_parameters(path, {"a": 1.0})
    assert path.exists()


# --- one at a time --------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from lqrad.outside import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds results.npz."""
    program = [sys.executable, "-c", HOLD, str(tmp_path / "results.npz")]
    env = os.environ | {"PYTHONPATH": str(Path(lqrad.__file__).parents[1])}
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_file_that_another_process_holds_is_not_touched(tmp_path, holder):
    path = tmp_path / "results.npz"
    with pytest.raises(ArgumentError, match=r"results\.npz is in use by another run; wait for its"):
        sweep(lambda a: a, {"a": [1]}, path=path)
    assert not path.exists()
    holder.kill()
    holder.wait()  # whoever is killed holds nothing
    sweep(lambda a: a, {"a": [1]}, path=path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_another_thread_holds_is_not_touched(tmp_path):
    path, told, ready, go = tmp_path / "results.npz", [], threading.Event(), threading.Event()

    def slow(a):
        ready.set()
        assert go.wait(10)
        return a

    first = threading.Thread(target=lambda: sweep(slow, {"a": [1]}, path=path))
    first.start()
    assert ready.wait(10)
    try:
        sweep(lambda a: -a, {"a": [1]}, path=path)
    except ArgumentError as error:
        told.append(str(error))
    go.set()
    first.join()
    assert "is in use by another run" in told[0]
    assert Sweep.load(path).values["value"].tolist() == [1]
    with alone(path):  # and let go of
        pass


# --- the command line and its streams ---------------------------------------------------------------


def command(words, **options):
    env = os.environ | {"PYTHONPATH": str(Path(lqrad.__file__).parents[1])}
    program = [sys.executable, "-W", "error", "-m", "lqrad", *map(str, words)]
    return subprocess.run(program, env=env | options.pop("env", {}), timeout=300, **options)


@pytest.mark.parametrize("closed", ["1", "1 and 2"])
def test_closed_streams_end_quietly(tmp_path, closed):
    out = tmp_path / "c.json"
    redirections = " ".join(f"{number}>&-" for number in closed.split(" and "))
    program = f"{sys.executable} -W error -m lqrad design --json --out {out} {redirections}"
    env = os.environ | {"PYTHONPATH": str(Path(lqrad.__file__).parents[1])}
    done = subprocess.run(["sh", "-c", program], env=env, capture_output=True, timeout=300)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert out.exists()


def test_what_is_asked_for_is_saved_though_nobody_reads(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        words = ["design", "--json", "--out", tmp_path / "a.json"]
        done = command(words, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    assert (tmp_path / "a.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["nonsense"], ["compare", "--tol", "-1"]])
def test_a_complaint_that_cannot_be_written_changes_no_status(words):
    with open("/dev/full", "wb") as full:
        assert command(words, stderr=full).returncode == 2


@pytest.mark.skipif(os.name != "posix", reason="signals of another kind")
def test_an_interrupt_ends_a_command_quietly():
    program = "import os, signal, lqrad, lqrad.cli as cli; lqrad.compare = lambda *a, **k: "
    program += "os.kill(os.getpid(), signal.SIGINT); raise SystemExit(cli.main(['compare']))"
    env = os.environ | {"PYTHONPATH": str(Path(lqrad.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"lqrad: interrupted\n")


def test_json_has_neither_nan_nor_infinities(tmp_path, capsys):
    assert smooth("--plot")(tmp_path / "flow.svg") == 0
    (tmp_path / "level.json").write_text(LEVEL)
    capsys.readouterr()
    words = [str(tmp_path / "flow.csv"), "--model", str(tmp_path / "level.json"), "--json"]
    assert main(["smooth", *words, "--forecast", "2"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["t"] == ["0", "1", "2", "3", "4"]
    assert len(found["x[0]"]) == 5


def test_letters_that_a_terminal_lacks_are_escaped(tmp_path):
    path = tmp_path / "größe.json"
    path.write_text('{"A": 0.5, "B": 1, "Q": 1, "R": 1, "x0": 1, "T": 3, "dt": 0.1, "low": -1}')
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = ["compare", "--file", path, "--method", "conjugate-gradient"]
    done = command(words, env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gr\xf6\xdfe.json: n=1, m=1, horizon 3" in done.stdout
    assert b"not used, of the file: low" in done.stdout


def test_an_output_without_an_encoding_will_do(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    assert main(["compare", "--max-iter", "1"]) == 1
    assert "riccati" in text.getvalue()


@pytest.mark.parametrize("name", ["cart-pole", "inverted-pendulum"])
def test_a_device_has_one_name_in_all_commands(capsys, name):
    assert main(["design", "--system", name]) == 0
    assert main(["compare", "--system", name, "--max-iter", "1"]) == 1
    assert main(["swingup", "--system", name, "--max-iter", "1"]) == 1
    assert main(["compare", "--system", "pendulum"]) == 2
    assert "'pendulum' (choose from" in (said := capsys.readouterr().err)
    assert "it is one of `lqrad swingup`; try lqrad compare --help" in said


def test_a_design_file_is_compared_from_a_state_without_the_inputs_before(tmp_path, capsys):
    path = tmp_path / "motor.json"
    model = {"A": [[0, 1], [0, -2]], "B": [[0], [40]], "Q": [[100, 0], [0, 1]], "R": 1, "dt": 0.02}
    path.write_text(json.dumps(model | {"input_delay": 0.012}))
    words = ["compare", "--file", str(path), "--horizon", "9", "--json", "--max-iter", "1"]
    assert main([*words, "--x0", "1,0"]) == 1
    assert json.loads(capsys.readouterr().out)["x0"] == [1, 0, 0]
    assert main([*words, "--x0", "1,0,0"]) == 2
    assert "x0 has 3 entries, expected n = 2, one for each state" in capsys.readouterr().err
    path.write_text(json.dumps({name: z for name, z in model.items() if name != "dt"}))
    assert main(["design", "--file", str(path)]) == 2
    assert 'a model in discrete time has dt too, and "discrete": 1' in capsys.readouterr().err
