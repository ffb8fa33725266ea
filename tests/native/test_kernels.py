"""The kernels in C against their twins in NumPy, and against writing beside an array."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from random_problems import psd, random_case, with_spectral_radius
from random_smoothing import random_case as random_series

import lqrad
from lqrad import native
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.riccati import recursion
from lqrad.native.dare import solve_dare
from lqrad.native.lq import lq_kernel, solve_bidiagonal

ROOT = Path(__file__).resolve().parents[2]
needs_kernels = pytest.mark.skipif(not native.status().in_use, reason=native.status().message)
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def both(call):
    """What a call returns with the kernels, and with their twins."""
    found = call()
    with native.switched_off():
        return found, call()


@needs_kernels
@pytest.mark.parametrize("seed", range(40))
def test_gradients_agree_with_numpy(seed):
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    batch = [(), (), (3,), (2, 2)][seed % 4]
    x0 = case.x0 if seed % 3 else rng.normal(size=(*batch, case.problem.n))
    u = rng.normal(size=(*batch, case.T, case.problem.m))
    (J, g), (J_twin, g_twin) = both(lambda: case.problem.value_and_gradient(x0, u))
    assert type(J) is type(J_twin)
    assert np.shape(J) == np.shape(J_twin)
    assert g.shape == g_twin.shape
    scale = sum(abs(z).max() for z in (case.problem.simulate(x0, u), u)) ** 2
    weight = max(abs(getattr(case.problem, z)).max() for z in "QRSMqrs")
    np.testing.assert_allclose(J, J_twin, rtol=1e-13, atol=1e-13 * scale * weight)
    assert np.abs(g - g_twin).max() <= 1e-13 * np.abs(g_twin).max() + 1e-15 * scale * weight
    v, v_twin = both(lambda: case.problem.hessian_product(u))
    assert np.abs(v - v_twin).max() <= 1e-13 * np.abs(v_twin).max()


@needs_kernels
@pytest.mark.parametrize("seed", range(40))
def test_riccati_and_its_rollout_agree_with_numpy(seed):
    n = [None, None, 12, 23][seed % 4]
    case = random_case(seed, n=n, m=n and 1 + seed % 9)
    solution, twin = both(lambda: lqrad.riccati(case.problem, case.T))
    for name in ("P", "K", "k", "v"):
        found, expected = getattr(solution, name), getattr(twin, name)
        assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max(), name
    assert (solution.P.swapaxes(1, 2) == solution.P).all()
    x0 = np.stack([case.x0, -2 * case.x0])
    rollout, expected = both(lambda: twin.rollout(x0))
    for name in "xup":
        found, other = getattr(rollout, name), getattr(expected, name)
        assert np.abs(found - other).max() <= 1e-13 * np.abs(other).max(), name
    assert type(twin.rollout(case.x0).cost) is float
    scale = sum(np.abs(getattr(expected, z)).max() for z in "xu") ** 2
    weight = max(abs(getattr(case.problem, z)).max() for z in "QRSMqrs")
    np.testing.assert_allclose(rollout.cost, expected.cost, rtol=1e-13, atol=1e-13 * scale * weight)


@needs_kernels
@pytest.mark.parametrize("all_terms", [False, True])
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize(
    ("n", "m"), [(1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (4, 2), (5, 2), (13, 6)]
)
def test_sizes_compiled_apart_agree_with_numpy_from_one_state(n, m, varying, all_terms):
    case = random_case(n + m, n=n, m=m, T=50, radius=1.1, time_varying=varying, all_terms=all_terms)
    x0 = np.linspace(-1, 2, n)
    (solution, rollout), (twin, expected) = both(
        lambda: [s := lqrad.riccati(case.problem, case.T), s.rollout(x0)]
    )
    assert solution.swept == twin.swept
    for found, other, names in ((solution, twin, "PKkvw"), (rollout, expected, "xup")):
        for name in names:
            one, two = (np.asarray(getattr(z, name)) for z in (found, other))
            assert np.abs(one - two).max() <= 1e-13 * np.abs(two).max(), name
    assert (solution.P.swapaxes(1, 2) == solution.P).all()
    assert rollout.cost == pytest.approx(expected.cost, rel=1e-13)
    assert rollout.cost == pytest.approx(solution.cost(x0), rel=1e-12)


@needs_kernels
def test_a_pivot_in_doubt_is_judged_by_the_twin():
    """R is 0 and B is 2^-26 beside P's second diagonal: the pivot is below rounding errors of its terms."""
    B, S = np.array([[1.0], [-1.0]]), np.ones((2, 2)) + np.diag([0.0, 2.0**-52])
    problem = lqrad.LQProblem(np.eye(2), B, np.eye(2), [[0.0]], S)
    words = []
    for context in (nullcontext(), native.switched_off()):
        with context, pytest.raises(lqrad.NotConvexError, match=r"R \+ B'P\[3\]B") as told:
            lqrad.riccati(problem, 3)
        words.append(str(told.value))
    assert words[0] == words[1]


@needs_kernels
@pytest.mark.parametrize("seed", range(60))
def test_algebraic_equations_agree_with_numpy(seed):
    """To rounding, which reaches K by the condition of R + B'PB; from any units to the last bit."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    m = int(rng.integers((n + 2) // 3, n + 3))
    A = with_spectral_radius(rng.normal(size=(n, n)), rng.choice([0.5, 1.0, 1.3]))
    A *= rng.random((n, n)) < rng.choice([0.3, 1.0])
    B, M, scale = rng.normal(size=(n, m)), rng.normal(size=(n, m)), 10.0 ** rng.integers(-3, 3)
    Q, R = psd(rng, n) + np.eye(n), psd(rng, m) + np.eye(m)
    R, M = scale * R, (seed % 3 == 0) * np.sqrt(scale) * 0.1 * M / (n + m)
    if seed % 4 == 1:  # units reach the states that cost nothing by others
        A, M = A / 4, 0 * M
        Q[: n // 2] = Q[:, : n // 2] = 0.0
    found = solve_dare(A, B, Q, R, M)
    assert found is not None
    P, K, _, (residual, squarings, narrowest) = found
    with native.switched_off():
        assert solve_dare(A, B, Q, R, M) is None
        twin_K, twin_P, _ = lqrad.dlqr(A, B, Q, R, M=M)
    assert (P.T == P).all()
    # What costs only later has its digits beside what it moves.
    size = np.sqrt(np.diagonal(twin_P if Q.diagonal().all() else twin_P.max() * np.eye(n)))
    assert np.abs((P - twin_P) / np.outer(size, size)).max() <= 1e-13
    assert np.abs(K - twin_K).max() <= 1e-13 / narrowest * np.abs(twin_K).max()
    assert residual < 1e-14
    assert 0 < squarings <= 14
    x, u = (rng.integers(-30, 30, k) for k in (n, m))
    cost = int(rng.integers(-30, 30))
    other = solve_dare(
        np.ldexp(A, x[:, None] - x),
        np.ldexp(B, x[:, None] - u),
        np.ldexp(Q, cost - x[:, None] - x),
        np.ldexp(R, cost - u[:, None] - u),
        np.ldexp(M, cost - x[:, None] - u),
    )
    assert other is not None
    assert (np.ldexp(P, cost - x[:, None] - x) == other[0]).all()
    assert (np.ldexp(K, u[:, None] - x) == other[1]).all()
    assert other[3] == found[3]


@needs_kernels
@pytest.mark.parametrize("seed", range(8))
def test_the_kernel_takes_off_what_doubling_leaves(seed):
    """Of many unstable states behind one input doubling leaves up to 1e-11 of the equation."""
    rng = np.random.default_rng(seed)
    A, B = with_spectral_radius(rng.normal(size=(16, 16)), 2.0), rng.normal(size=(16, 1))
    found = solve_dare(A, B, np.eye(16), np.eye(1), np.zeros((16, 1)))
    assert found is not None
    assert found[3][0] < 1e-14


@needs_kernels
def test_an_equation_that_the_kernel_cannot_judge_is_left_to_the_twin():
    one, far = np.eye(1), np.diag([1e-60, 1.0]) + np.eye(2, k=1)
    assert solve_dare(2 * one, 0 * one, one, one, 0 * one) is None  # no feedback reaches it
    assert (
        solve_dare(2 * one, one, 0 * one, one, 0 * one) is None
    )  # from P = Q on, it stays unstable
    turns = np.array([[2.0, 1.0], [-1.0, 2.0]])
    assert solve_dare(turns, np.eye(2), np.zeros((2, 2)), np.eye(2), np.zeros((2, 2))) is None
    assert solve_dare(one, one, one, -9 * one, 0 * one) is None
    assert solve_dare(far, np.ones((2, 1)), np.eye(2), one, np.zeros((2, 1))) is None
    assert lqrad.dare(2 * one, one, 0 * one, one)[0, 0] == pytest.approx(3, rel=1e-15)


@needs_kernels
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 17, 33])
def test_bidiagonal_solves_agree_with_numpy(n, varying, transpose):
    rng = np.random.default_rng(n)
    for T, batch in ((1, ()), (30, ()), (30, (2, 3)), (0, (4,))):
        A = rng.normal(size=(T, n, n) if varying else (n, n)) / np.sqrt(n)
        f = rng.normal(size=(*batch, T + 1, n))
        found, twin = both(lambda A=A, f=f: Bidiagonal(A).solve(f, transpose=transpose))
        assert np.abs(found - twin).max() <= 1e-13 * np.abs(twin).max()


@needs_kernels
@pytest.mark.parametrize("seed", range(40))
def test_filters_agree_with_numpy(seed):
    case = random_series(seed)
    found, twin = both(lambda: lqrad.kalman_filter(case.problem, case.y))
    for name in ("x", "cov", "predicted_x", "predicted_cov"):
        a, b = getattr(found, name), getattr(twin, name)
        assert np.abs(a - b).max() <= 1e-13 * np.abs(b).max(), name
    assert found.loglik == pytest.approx(twin.loglik, rel=1e-13, abs=1e-12)


@needs_kernels
def test_what_a_kernel_cannot_go_on_with_its_twin_tells():
    grows = lqrad.LQProblem([[1e200]], [[1]], [[1]], [[1]])
    for call in (
        lambda: grows.value_and_gradient([1e200], [[0.0], [0.0]]),
        lambda: grows.simulate([1e200], [[0.0], [0.0]]),
        lambda: lqrad.LQProblem([[1]], [[1]], [[1]], [[1]]).value_and_gradient([1e160], [[0.0]]),
        lambda: lqrad.LQProblem([[1]], [[1e200]], [[1]], [[1]]).value_and_gradient([1e150], [[0]]),
        lambda: lqrad.riccati(lqrad.LQProblem([[1]], [[0]], [[1]], [[0]]), 3),
        lambda: lqrad.riccati(lqrad.LQProblem([[1e200]], [[1e-200]], [[1e200]], [[1]]), 3),
        lambda: lqrad.kalman_filter(
            lqrad.SmoothingProblem([[1]], [[1], [1]], [[1]], np.zeros((2, 2)), [0], [[1]]),
            [[1.0, 1.0]] * 3,
        ),
    ):
        messages = []
        for switch in (False, True):
            with pytest.raises(lqrad.LqradError) as told:  # noqa: PT012
                if switch:
                    with native.switched_off():
                        call()
                else:
                    call()
            messages.append(str(told.value))
        assert messages[0] == messages[1]


@needs_kernels
def test_an_input_of_a_rollout_that_overflows_alone_is_told_as_by_the_twin():
    problem = lqrad.LQProblem([[1e30]], [[1e-200]], [[1.0]], [[1e-300]])
    solution = lqrad.riccati(problem, 3)
    words = r"u\[0, 0\] is -inf: it overflowed"
    with pytest.raises(lqrad.NonFiniteError, match=words):
        solution.rollout([1e150])
    with native.switched_off(), pytest.raises(lqrad.NonFiniteError, match=words):
        solution.rollout([1e150])


def test_blocks_of_two_threads_may_overlap():
    before, first, second = native.status(), native.switched_off(), native.switched_off()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not native.status().in_use
    second.__exit__(None, None, None)
    assert native.status() == before


@needs_kernels
def test_a_kernel_outlives_the_block_in_which_it_was_made_or_asked_for():
    x0, u, one = np.ones(1), np.ones((2, 1)), np.ones((1, 1))
    with native.switched_off():
        kernel = lq_kernel(1, 1, A=one, B=one, Q=one, R=one, S=one)
        assert kernel is not None
        assert kernel.gradient(x0, u) is None
        # Another thread may have asked before the block began.
        x = np.ones((3, 1))
        assert solve_bidiagonal(one, x, transpose=False)
    J, _ = kernel.gradient(x0, u)
    assert (J, x.ravel().tolist()) == (8.0, [1.0, 2.0, 3.0])


@needs_kernels
@pytest.mark.parametrize("varying", [False, True])
def test_arrays_may_lie_in_memory_as_they_like(varying):
    case = random_case(2, n=3, m=2, T=5, all_terms=True, time_varying=varying)
    arrays = {name: getattr(case.problem, name) for name in "ABQRMScqrs"}
    apart = {name: np.repeat(z, 2, axis=-1)[..., ::2] for name, z in arrays.items()}
    found, expected = (
        lq_kernel(3, 2, **z).gradient(case.x0, np.asfortranarray(case.u)) for z in (apart, arrays)
    )
    assert found[0] == expected[0]
    assert (found[1] == expected[1]).all()


@needs_kernels
def test_units_of_the_cost_are_exact():
    """Roots of twice a number are rounded in another way: the kernel's pivots take none."""
    case = random_case(3, n=5, m=3, T=20)
    arrays = {name: getattr(case.problem, name) for name in "ABQRMS"}
    for power in (1, 2, 7, -31):
        scaled = {k: v if k in "AB" else np.ldexp(v, power) for k, v in arrays.items()}
        P, K, _, _ = recursion(*(scaled[k] for k in "ABQRMS"), case.T)
        expected = recursion(*(arrays[k] for k in "ABQRMS"), case.T)
        assert (np.ldexp(expected.P, power) == P).all()
        assert (expected.K == K).all()


@needs_compiler
def test_no_kernel_reads_or_writes_beside_an_array(tmp_path):
    folder, program = ROOT / "lqrad" / "native", tmp_path / "sanitize"
    flags = ["-std=c99", "-pedantic-errors", "-g1", "-O0"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [str(Path(__file__).with_name("sanitize.c")), *map(str, sorted(folder.glob("*.c")))]
    command = ["cc", *flags, "-DLQRAD_ONE_TARGET", f"-I{folder}", *sources, "-lm", "-o", program]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "9600 calls\n"


def in_a_process(code, folder=None, **environment):
    command, env = [sys.executable, "-c", code], os.environ | environment
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_environment_switches_the_kernels_off():
    code = "import lqrad; print(lqrad.native.status().message)"
    assert in_a_process(code, LQRAD_NATIVE="0") == "switched off by LQRAD_NATIVE=0"


@needs_kernels
@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ("absent", "kernels.native was not built: "),
        ("no library", "kernels.native cannot be loaded: "),
        ("cut short", "kernels.native is not as long as it was when built; "),
        ("stale", "kernels.native was built from other sources than those that are here; "),
    ],
)
def test_a_library_that_is_not_of_these_sources_is_left_alone(spoilt, words, tmp_path):
    shutil.copytree(ROOT / "lqrad", tmp_path / "lqrad", ignore=shutil.ignore_patterns("*.pyc"))
    folder = tmp_path / "lqrad" / "native"
    if spoilt == "stale":
        header = folder / "lq.h"
        header.write_text(header.read_text() + "\n")
    (folder / "kernels.native").unlink()
    if spoilt != "absent":
        shutil.copy(ROOT / "lqrad" / "native" / "kernels.native", folder)
    (folder / "kernels.length").unlink(missing_ok=True)
    if spoilt == "no library":
        (folder / "kernels.native").write_bytes(b"no library")
    if spoilt == "cut short":  # to load it would end the process
        whole = (folder / "kernels.native").read_bytes()
        (folder / "kernels.length").write_text(f"{len(whole)}\n")
        (folder / "kernels.native").write_bytes(whole[:60_000])
    code = (
        "import lqrad; problem = lqrad.LQProblem([[0.5]], [[1]], [[1]], [[1]]); "
        "print(lqrad.native.status(), problem.value_and_gradient([8.0], [[0.0], [0.0]])[0])"
    )
    found = in_a_process(code, tmp_path, LQRAD_NATIVE="1")
    assert found.startswith(f"Status(in_use=False, message={words!r}"[:-1])
    assert found.endswith(" 42.0")


@needs_compiler
@pytest.mark.skipif(
    Path(sys.prefix).parent != ROOT or os.environ.get("LQRAD_NATIVE") == "0",
    reason="lqrad is not installed from this checkout with its kernels",
)
def test_installing_builds_the_kernels():
    assert native.status().in_use, native.status().message
    library = ROOT / "lqrad" / "native" / "kernels.native"
    assert int(library.with_suffix(".length").read_text()) == library.stat().st_size


@needs_kernels
def test_no_array_is_worked_in_that_is_not_of_writeable_doubles():
    L = Bidiagonal(np.array([[0.5]]))
    f = np.array([[8.0], [0.0]])
    for given in (f.astype(np.float32), np.asfortranarray(np.ones((2, 2, 1)))[0], f.view()):
        given.setflags(write=False)
        kept = given.copy()
        assert np.array_equal(L.solve(given, overwrite=True), L.solve(kept.astype(float)))
        assert np.array_equal(given, kept)
