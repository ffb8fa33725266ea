"""The command line: what it prints and saves, what it refuses, and with which exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lqrad
from lqrad.cli import main
from lqrad.cli.options import COMMON
from lqrad.descent.methods import METHODS
from lqrad.systems import SYSTEMS

FAST = ("--method", "conjugate-gradient")
SMALL = {"A": [[0.5]], "B": [[1.0]], "Q": [[1.0]], "R": [[1.0]]}
VARYING = SMALL | {"c": [[0.1], [0.2], [0.3], [0.4], [0.5]]}
SIGNATURES = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture
def run(capsys):
    """Run `lqrad compare` in this process; return its exit status, output and error output."""

    def run(*words):
        status = main(["compare", *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def model(tmp_path):
    """Write a model file and return its path."""

    def model(name="model.json", **data):
        path = tmp_path / name
        path.write_text(json.dumps(data))
        return path

    return model


def command(*words, **options):
    """Run `python -m lqrad` in a process of its own, with its output buffered as usual."""
    path = os.pathsep.join([str(Path(lqrad.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": ""}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    program = [sys.executable, "-W", "error", "-m", "lqrad", *words]
    return subprocess.run(program, env=env, text=True, timeout=300, **options)


def table_of(out):
    """The rows of the table that was printed, by method."""
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("---"))
    rows = lines[at + 1 : lines.index("", at)]
    return {row.split()[0]: row.split() for row in rows}


# --- what it prints -------------------------------------------------------------------------------


def test_without_options_an_aircraft_is_compared_by_every_method(run):
    status, out, err = run()
    assert status == 0
    assert out.startswith("aircraft: n=4, m=2, sampled every 0.5 s, horizon 80\n")
    assert list(table_of(out)) == ["riccati", *METHODS]
    for method in ("riccati", *METHODS):
        assert any(line.startswith(f"{method}: ") for line in out.splitlines())
    assert err == ""


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_can_be_chosen(run, name):
    system = SYSTEMS[name]()
    status, out, _ = run("--system", name, *FAST)
    assert status == 0
    assert out.startswith(f"{name}: n={len(system.x0)}, ")
    assert f"horizon {system.T}\n" in out
    assert list(table_of(out)) == ["riccati", "conjugate-gradient"]


def test_the_figures_above_the_table_are_those_of_the_problem(run):
    _, out, _ = run("--system", "double-integrator", *FAST)
    system = SYSTEMS["double-integrator"]()
    found = lqrad.compare(system.problem(), system.x0, system.T, ["gradient"], max_iter=1)
    condition = f"{found.condition:.3g}"
    assert f"spectral radius of A 1, condition of the Hessian {condition}\n" in out


def test_methods_run_in_the_order_in_which_they_are_given(run):
    _, out, _ = run("--method", "l-bfgs", "--method", "nesterov")
    assert list(table_of(out)) == ["riccati", "l-bfgs", "nesterov"]


def test_the_horizon_and_the_initial_state_can_be_given(run):
    _, out, _ = run(*FAST, "--json", "--horizon", 7, "--x0", "1,2e-1,.5,0")
    found = json.loads(out)
    assert (found["T"], found["x0"]) == (7, [1, 0.2, 0.5, 0])


@pytest.mark.parametrize("words", [["--x0", "-1,0"], ["--x0=-1,0"], ["--x0", "-1, 0"]], ids=str)
def test_an_initial_state_may_begin_with_a_minus_sign(run, words):
    status, out, _ = run("--system", "double-integrator", *FAST, "--json", *words)
    assert status == 0
    assert json.loads(out)["x0"] == [-1, 0]


def test_json_is_all_that_is_printed(run):
    status, out, err = run(*FAST, "--json")
    found = json.loads(out, parse_constant=pytest.fail)
    assert status == 0
    assert err == ""
    system = SYSTEMS["aircraft"]()
    direct = lqrad.compare(system.problem(), system.x0, 80, ["conjugate-gradient"])
    assert found["riccati"]["u"] == direct.optimum.u.tolist()
    assert [row["method"] for row in found["descents"]] == ["conjugate-gradient"]


def test_json_and_a_picture_do_not_mix(run, tmp_path):
    path = tmp_path / "a.svg"
    _, out, err = run(*FAST, "--json", "--plot", path)
    json.loads(out)
    assert str(path) in err
    assert path.exists()


def test_a_file_is_compared(run, model):
    path = model(**SMALL, x0=[2.0], T=9)
    status, out, _ = run("--file", path, *FAST)
    assert status == 0
    assert out.startswith(f"{path}: n=1, m=1, horizon 9\n")


def test_what_is_given_overrides_the_file(run, model):
    _, out, _ = run(
        "--file", model(**SMALL, x0=[2.0], T=9), *FAST, "--json", "--x0=3", "--horizon=4"
    )
    found = json.loads(out)
    assert (found["T"], found["x0"]) == (4, [3])


def test_a_file_that_varies_in_time_brings_its_horizon(run, model):
    status, out, _ = run("--file", model(**VARYING, x0=[1.0]), *FAST)
    assert status == 0
    assert "horizon 5\n" in out


@pytest.mark.parametrize("name", ["model.npz", "model.mat"])
def test_a_file_of_another_format_is_compared(run, tmp_path, name):
    import scipy.io

    path = tmp_path / name
    data = {key: np.array(value) for key, value in SMALL.items()} | {"x0": [[1.0]], "T": 4}
    if path.suffix == ".npz":
        np.savez(path, **data | {"x0": np.ones(1)})
    else:
        scipy.io.savemat(path, data)
    assert run("--file", path, *FAST)[0] == 0


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SIGNATURES)
def test_a_picture_is_saved_and_its_place_told(run, tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(*FAST, "--plot", f"picture{kind}")
    path = tmp_path / f"picture{kind}"
    assert status == 0
    assert out.splitlines()[-1] == f"picture: {path}"
    assert path.read_bytes().startswith(SIGNATURES[kind])


def test_a_picture_replaces_an_older_one(run, tmp_path):
    path = tmp_path / "a.png"
    path.write_text("old")
    assert run(*FAST, "--plot", path)[0] == 0
    assert path.read_bytes().startswith(SIGNATURES[".png"])


@pytest.mark.parametrize("source", ["system", "file"])
def test_a_picture_knows_the_names_of_a_system(run, model, tmp_path, monkeypatch, source):
    seen = []
    plot = lqrad.Comparison.plot
    monkeypatch.setattr(
        lqrad.Comparison, "plot", lambda self, system: seen.append(system) or plot(self, system)
    )
    chosen = model(**SMALL, x0=[2.0], T=9) if source == "file" else "quadrotor"
    run(f"--{source}", chosen, *FAST, "--plot", tmp_path / "a.png")
    assert [getattr(system, "name", None) for system in seen] == [
        None if source == "file" else "quadrotor"
    ]


# --- exit status ----------------------------------------------------------------------------------


def test_the_status_is_one_where_no_method_converged(run):
    status, out, _ = run("--max-iter", 1)
    assert status == 1
    assert {row[-1] for row in list(table_of(out).values())[1:]} == {"stopped"}


def test_the_status_is_zero_where_one_of_them_did(run):
    status, out, _ = run("--max-iter", 40)
    assert status == 0
    assert {row[-1] for row in list(table_of(out).values())[1:]} == {"stopped", "converged"}


def test_a_loose_tolerance_takes_fewer_iterations(run):
    iterations = [
        int(table_of(run(*FAST, "--tol", tol)[1])["conjugate-gradient"][1])
        for tol in ("1e-2", "1e-12")
    ]
    assert iterations[0] < iterations[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--help"], "compare"),
        (["compare", "--help"], "lqrad compare --system cart-pole"),
        (["compare", "--help"], "exit status:\n  0 a method met its tolerance     1 none did"),
        (["compare", "--help"], "x[t+1] = A x[t] + B u[t] + c"),
        (["--version"], f"lqrad {lqrad.__version__}"),
    ],
)
def test_help_and_version_are_printed(capsys, words, expected):
    assert main(words) == 0
    printed = capsys.readouterr()
    assert expected in printed.out
    assert printed.err == ""


def test_help_names_every_system_and_method_and_option(capsys):
    main(["compare", "--help"])
    text = capsys.readouterr().out
    for word in (*SYSTEMS, *METHODS, "--file", "--x0", "--tol", "--plot", "--json", "--max-iter"):
        assert word in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


def test_the_examples_of_the_help_run(capsys, tmp_path, monkeypatch):
    """As they stand there, the file included."""
    monkeypatch.chdir(tmp_path)
    file = SMALL | {"A": np.eye(2).tolist(), "B": [[1], [1]], "Q": np.eye(2).tolist(), "T": 5}
    Path("model.json").write_text(json.dumps(file))
    main(["compare", "--help"])
    examples = [
        line.split("  ")[0].split()
        for line in map(str.strip, capsys.readouterr().out.splitlines())
        if line.startswith("lqrad compare")
    ]
    assert len(examples) >= 4
    for words in examples:
        assert main(words[1:]) in (0, 1)
        assert capsys.readouterr().err == ""


# --- what is refused --------------------------------------------------------------------------------


def bad(*words, says):
    return pytest.param(words, says, id=" ".join(words)[:60] or "nothing")


BAD = [
    bad(says="the following arguments are required: COMMAND; try lqrad --help"),
    bad("contrast", says="invalid choice: 'contrast' (choose from"),
    bad(
        "compare",
        "--speed",
        "9",
        says="unrecognized arguments: --speed 9; try lqrad compare --help",
    ),
    bad("compare", "aircraft", says="unrecognized arguments: aircraft"),
    bad(
        "compare",
        "--system",
        "spaceship",
        says="--system: invalid choice: 'spaceship' (choose from",
    ),
    bad("compare", "--system", says="--system: expected one argument"),
    bad("compare", "--system", "", says="--system: invalid choice: ''"),
    bad(
        "compare",
        "--system",
        "random",
        "--file",
        "a.json",
        says="not allowed with argument --system",
    ),
    bad("compare", "--method", "newton", says="--method: invalid choice: 'newton' (choose from"),
    bad(
        "compare", "--horizon", "0", says="--horizon: '0' is not a whole number from 1 to 999999999"
    ),
    bad("compare", "--horizon", "-3", says="--horizon: '-3' is not a whole number"),
    bad("compare", "--horizon", "2.5", says="--horizon: '2.5' is not a whole number"),
    bad("compare", "--horizon", "ten", says="--horizon: 'ten' is not a whole number"),
    bad("compare", "--horizon", "", says="--horizon: '' is not a whole number"),
    bad("compare", "--horizon", "²", says="--horizon: '²' is not a whole number"),
    bad("compare", "--horizon", "9" * 5000, says="is not a whole number from 1 to 999999999"),
    bad("compare", "--max-iter", "0", says="--max-iter: '0' is not a whole number"),
    bad("compare", "--tol", "-1", says="tol is -1.0, expected a number of at least 0"),
    bad("compare", "--tol", "nan", says="tol is nan, expected a number of at least 0"),
    bad("compare", "--tol", "inf", says="tol is inf, expected a number of at least 0"),
    bad("compare", "--tol", "small", says="--tol: invalid float value: 'small'"),
    bad("compare", "--x0", "1,0", says="x0 has 2 entries, expected n = 4, one for each state"),
    bad("compare", "--x0", "", says="--x0: '' is not a list of numbers such as 1,0,-0.5"),
    bad("compare", "--x0", "1,a,0,0", says="--x0: '1,a,0,0' is not a list of numbers"),
    bad("compare", "--x0", "1;2;3;4", says="--x0: '1;2;3;4' is not a list of numbers"),
    bad("compare", "--x0", "1,2,3,4,", says="--x0: '1,2,3,4,' is not a list of numbers"),
    bad("compare", "--x0", "nan,0,0,0", says="--x0: 'nan,0,0,0' holds a number that is not finite"),
    bad("compare", "--x0", "1e999,0,0,0", says="holds a number that is not finite"),
    bad("compare", "--x0", "1e200,0,0,0", says="cost"),
    bad("compare", "--x0", says="--x0: expected one argument"),
    bad("compare", "--x0", "--json", says="--x0: '--json' is not a list of numbers"),
    bad(
        "compare", "--file", "none.json", says="none.json cannot be read: No such file or directory"
    ),
    bad("compare", "--file", "", says=". ends in '', expected one of: .json, .npz, .mat"),
    bad("compare", "--file", "model.csv", says="model.csv ends in '.csv', expected one of"),
    bad("compare", "--file", "empty.json", says="empty.json is not a valid .json file"),
    bad("compare", "--file", "no-x0.json", says="no-x0.json has no x0; pass --x0 with 1 number"),
    bad("compare", "--file", "no-T.json", says="no-T.json has no T; pass --horizon"),
    bad(
        "compare",
        "--file",
        "varying.json",
        "--horizon",
        "7",
        says="T is 7, but the problem varies over 5",
    ),
    bad("compare", "--file", "no-minimum.json", says="not positive definite"),
    bad("compare", "--file", "no-T.json", "--x0", "1,2", says="x0 has 2 entries, expected n = 1"),
    bad(
        "compare",
        "--plot",
        "a.xyz",
        says="--plot a.xyz: expected a name that ends in .png, .svg, .pdf",
    ),
    bad("compare", "--plot", "picture", says="--plot picture: expected a name that ends in"),
    bad("compare", "--plot", "", says="expected a name that ends in .png"),
    bad(
        "compare", "--plot", "folder.png", says="--plot folder.png: is no file that can be written"
    ),
    bad(
        "compare", "--plot", "empty.json/a.png", says="--plot empty.json/a.png: there is no folder"
    ),
    bad(
        "compare",
        "--plot",
        "/dev/null/a/b.png",
        says="--plot /dev/null/a/b.png: there is no folder",
    ),
    bad("compare", "--plot", "a" * 300 + ".png", says="File name too long"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current directory with files that are no good."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.json").touch()
    (tmp_path / "model.csv").touch()
    files = {
        "no-x0": SMALL | {"T": 5},
        "no-T": SMALL | {"x0": [1.0]},
        "varying": VARYING | {"x0": [1.0]},
        "no-minimum": SMALL | {"B": [[0.0]], "R": [[0.0]], "x0": [1.0], "T": 3},
    }
    for name, data in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    return tmp_path


@pytest.mark.parametrize(("words", "says"), BAD)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing_behind(folder, capsys, words, says):
    before = sorted(folder.rglob("*"))
    picture = [] if "--plot" in words or not words else ["--plot", "picture.png"]
    assert main([*words[:1], *picture, *words[1:]]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in printed.err
    assert printed.err.startswith("lqrad: ")
    assert printed.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_may_not_be_written_is_refused_before_any_work(run, tmp_path, monkeypatch):
    """Asked of the system, as root may write where the modes say no."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    monkeypatch.setattr(lqrad, "compare", pytest.fail)
    status, out, err = run("--plot", tmp_path / "a.png")
    assert (status, out) == (2, "")
    assert "is no file that can be written" in err
    assert list(tmp_path.iterdir()) == []


def test_too_long_a_horizon_is_told_as_lack_of_memory(run, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(lqrad, "compare", full)
    status, out, err = run()
    assert (status, out) == (2, "")
    assert err == "lqrad: there is not enough memory; try a shorter horizon or series\n"


def test_an_interrupt_is_quiet(run, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(lqrad, "compare", interrupted)
    assert run() == (130, "", "lqrad: interrupted\n")


def test_a_fault_of_ours_is_not_hidden(run, monkeypatch):
    """Only what the user can mend is put into one line."""

    def faulty(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(lqrad, "compare", faulty)
    with pytest.raises(ZeroDivisionError):
        run()


# --- in a process of its own ----------------------------------------------------------------------


def test_the_module_runs_from_anywhere(tmp_path):
    picture = tmp_path / "a.png"
    done = command("compare", *FAST, "--plot", str(picture), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"picture: {picture}"


def test_bad_input_ends_the_process_with_status_two():
    done = command("compare", "--horizon", "-3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes of another kind")
@pytest.mark.parametrize(
    "words", [["compare", "--json"], ["compare"], ["compare", "--help"]], ids=str
)
def test_a_closed_pipe_is_quiet(words):
    """As in `lqrad compare | head -1`: whoever reads goes away before all is written."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = command(*words, stdout=writer)
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_full_disk_is_told():
    with open("/dev/full", "w") as full:
        done = command("compare", *FAST, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "lqrad: [Errno 28] No space left on device\n"


def test_arguments_are_those_of_the_process_when_none_are_given(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lqrad", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"lqrad {lqrad.__version__}\n"


def test_the_command_line_takes_nothing_from_matplotlib_until_a_picture_is_asked_for():
    program = "import sys; from lqrad.cli import main; main(['compare', '--max-iter', '1']); "
    program += "sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_the_kinds_of_pictures_are_those_tested_here():
    assert set(COMMON[0].endings) == set(SIGNATURES)
