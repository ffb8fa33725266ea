"""Margins: each is shown by a closed loop that stands on the border of stability."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from plants import rod
from random_loops import exact_margins, random_loop

import lqrad
from lqrad import ArgumentError, ShapeError, StateSpace
from lqrad.design.margins import disk_gain, disk_phase

SEEDS = range(40)


def stable_loop(seed, *, m=1, dt=0.1, D=False):
    """A random loop that is stable when closed; it need not be so when open."""
    rng = np.random.default_rng(seed)
    while True:
        n = int(rng.integers(max(m, 1), 6))
        A = rng.normal(size=(n, n))
        if dt:
            A *= rng.uniform(0.3, 1.1) / np.abs(np.linalg.eigvals(A)).max()
        else:
            A -= (np.linalg.eigvals(A).real.max() + rng.uniform(-0.5, 0.5)) * np.eye(n)
        B, C = rng.normal(size=(n, m)), rng.normal(size=(m, n)) * rng.uniform(0.05, 1)
        feed = 0.3 * rng.normal(size=(m, m)) if D else np.zeros((m, m))
        closed = np.linalg.eigvals(A - B @ np.linalg.solve(np.eye(m) + feed, C))
        if (np.abs(closed).max() < 1) if dt else (closed.real.max() < 0):
            return StateSpace(A, B, C, feed, dt=dt)


def closed_poles(loop, factor):
    """Poles of the loop closed through complex factors, one for each channel."""
    F = np.diag(np.broadcast_to(factor, loop.m)).astype(complex)
    back = np.linalg.solve(np.eye(loop.m) + F @ loop.D, F @ loop.C)
    return np.linalg.eigvals(loop.A - loop.B @ back)


def distance_to_border(loop, factor):
    poles = closed_poles(loop, factor)
    return np.abs(np.abs(poles) - 1).min() if loop.dt else np.abs(poles.real).min()


def stable(loop, factor):
    poles = closed_poles(loop, factor)
    return np.abs(poles).max() < 1 if loop.dt else poles.real.max() < 0


@pytest.mark.parametrize("dt", [0.1, 0.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_at_a_margin_a_pole_is_on_the_border_and_inside_none_is(seed, dt):
    loop = stable_loop(seed, dt=dt)
    found = lqrad.margins(loop).loops[0]
    low, high = found.gain
    for factor in (low, high):
        if 0 < factor < np.inf:
            assert distance_to_border(loop, factor) < 1e-7
    inside = np.geomspace(max(low, 1e-3) * (1 + 1e-6), min(high, 1e3) * (1 - 1e-6), 200)
    assert all(stable(loop, factor) for factor in inside)
    if np.isfinite(found.phase):
        angle = np.radians(found.phase)
        assert min(distance_to_border(loop, np.exp(s * 1j * angle)) for s in (1, -1)) < 1e-7
    angles = np.linspace(0, np.radians(min(found.phase, 180)) * (1 - 1e-6), 100)
    assert all(stable(loop, np.exp(s * 1j * a)) for a in angles for s in (1, -1))


@pytest.mark.parametrize("dt", [0.1, 0.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_disk_margin_is_reached_and_not_passed(seed, dt):
    """The worst perturbation of its size puts a pole on the border; smaller ones of any phase do not."""
    loop = stable_loop(seed, dt=dt)
    found = lqrad.margins(loop).loops[0]
    alpha = found.disk
    if 0 < found.disk_frequency < np.inf:
        L = loop.response([found.disk_frequency])[0, 0, 0]
        d = 2 * (1 + L) / (1 - L)  # (1 + d/2) / (1 - d/2) L = -1
        assert abs(d) == pytest.approx(alpha, rel=1e-9)
        factor = (1 + d / 2) / (1 - d / 2)
        assert factor * L == pytest.approx(-1, rel=1e-9)
        assert distance_to_border(loop, factor) < 1e-7
    for angle in np.linspace(0, 2 * np.pi, 60):
        d = 0.999 * alpha * np.exp(1j * angle)
        factor = (1 + d / 2) / (1 - d / 2)
        assert stable(loop, factor)
    low, high = disk_gain(alpha)
    assert found.gain[0] <= low * (1 + 1e-9)
    assert found.gain[1] >= high * (1 - 1e-9)
    assert found.phase >= disk_phase(alpha) * (1 - 1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_delay_margin_of_a_continuous_loop(seed):
    loop = stable_loop(seed, dt=0.0)
    delay = lqrad.margins(loop).loops[0].delay
    omega = np.geomspace(1e-4, 1e4, 400_001)
    L = loop.response(omega)[:, 0, 0]
    cross = np.flatnonzero(np.diff(np.sign(np.abs(L) - 1)))
    delays = [(np.angle(-L[k]) % (2 * np.pi)) / omega[k] for k in cross]  # 1 + L exp(-i w t) = 0
    assert delay == pytest.approx(min(delays, default=np.inf), rel=1e-3)


@pytest.mark.parametrize("dt", [0.1, 0.0])
@pytest.mark.parametrize("seed", range(20))
def test_margins_are_those_of_python_control(seed, dt):
    """But for gains that are lost at z = 1 or z = -1, where that package does not look."""
    control = pytest.importorskip("control")
    loop = stable_loop(seed, dt=dt)
    found = lqrad.margins(loop).loops[0]
    with warnings.catch_warnings():  # it says where its polynomials may be inaccurate
        warnings.simplefilter("ignore")
        gain, phase, *_ = control.stability_margins(loop.to_control(), returnall=True)
    upper = min([g for g in gain if g > 1], default=np.inf)
    lower = max([g for g in gain if 0 < g < 1], default=0.0)
    at_ends = []
    for z in (1.0, -1.0) if dt else ():
        at_ends.append(
            -1 / float((loop.C @ np.linalg.solve(z * np.eye(loop.n) - loop.A, loop.B))[0, 0])
        )
    upper = min([upper, *(g for g in at_ends if g > 1)])
    lower = max([lower, *(g for g in at_ends if 0 < g < 1)])
    assert found.gain[1] == pytest.approx(upper, rel=1e-9)
    assert found.gain[0] == pytest.approx(lower, rel=1e-9)
    least = min((abs(p) for p in phase), default=np.inf)
    assert found.phase == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_several_loops_one_at_a_time_are_each_the_others_closed(seed):
    loop = stable_loop(seed, m=2, D=bool(seed % 2))
    found = lqrad.margins(loop)
    for i, one in enumerate(found.loops):
        for factor in one.gain:
            if 0 < factor < np.inf:
                gain = np.ones(2)
                gain[i] = factor
                assert distance_to_border(loop, gain) < 1e-7
        if np.isfinite(one.phase):
            turn = np.ones((2, 2), dtype=complex)
            turn[:, i] = np.exp([1j * np.radians(one.phase), -1j * np.radians(one.phase)])
            assert min(distance_to_border(loop, f) for f in turn) < 1e-7


@pytest.mark.parametrize("seed", range(20))
def test_all_loops_at_once_stand_what_is_promised(seed):
    """Separate perturbations of each channel, of the promised size, at random and at their worst."""
    rng = np.random.default_rng(seed)
    loop = stable_loop(seed, m=2)
    found = lqrad.margins(loop)
    assert found.disk <= min(one.disk for one in found.loops) * (1 + 1e-9)
    for _ in range(300):
        d = 0.999 * found.disk * np.exp(2j * np.pi * rng.random(2))
        assert stable(loop, (1 + d / 2) / (1 - d / 2))
    L = loop.response(np.linspace(0, np.pi / loop.dt, 20_001))
    shifted = np.linalg.inv(np.eye(2) + L) - 0.5 * np.eye(2)
    plain = np.linalg.norm(shifted, 2, axis=(1, 2)).max()
    assert found.disk >= 1 / plain * (1 - 1e-6)  # the balance only sharpens the bound


def test_an_integrator_in_the_loop_and_no_crossing():
    loop = StateSpace([[1.0]], [[0.1]], dt=0.1)
    found = lqrad.margins(loop)
    one = found.loops[0]
    assert one.gain == (0.0, pytest.approx(20.0))  # 1 - 0.1 k = -1
    assert one.gain_frequency[1] == pytest.approx(np.pi / 0.1)
    weak = lqrad.margins(StateSpace([[0.5]], [[0.1]], dt=0.1)).loops[0]
    assert weak.phase == np.inf
    assert weak.delay == np.inf
    assert np.isnan(weak.phase_frequency)


def test_words_and_tables():
    loop = stable_loop(1, m=2)
    text = lqrad.margins(loop).table().splitlines()
    assert text[0].split()[:3] == ["loop", "gain,", "dB"]
    assert [line.split()[0] for line in text[2:]] == ["0", "1", "all"]
    assert len({len(line) for line in text}) == 1
    assert repr(lqrad.margins(loop)).startswith("<Margins: gain ")


def test_refusals():
    with pytest.raises(ArgumentError, match=r"the closed loop is unstable, with a pole at 1\.5"):
        lqrad.margins(StateSpace([[0.5]], [[-1.0]], dt=0.1))
    with pytest.raises(ArgumentError, match=r"the closed loop is unstable, with a pole at 1 rad/s"):
        lqrad.margins(StateSpace([[0.0]], [[-1.0]], dt=0))
    with pytest.raises(ArgumentError, match=r"I \+ D is singular"):
        lqrad.margins(StateSpace([[0.5]], [[1.0]], [[1.0]], [[-1.0]], dt=0.1))
    with pytest.raises(ShapeError, match="loop has 1 inputs and 2 outputs"):
        lqrad.margins(StateSpace(np.eye(2) / 2, [[1.0], [1.0]], dt=0.1))


@pytest.mark.parametrize("steps", [1, 7, 40])
def test_dead_time_as_such_is_dead_time_in_the_state(steps):
    late = StateSpace([[0.95]], [[0.05]], [[0.9]], dt=0.1, delay=steps)
    plain = StateSpace(late.A, late.B, late.C, late.D, dt=0.1)
    found, right = lqrad.margins(late).loops[0], lqrad.margins(plain).loops[0]
    for name in ("gain", "phase", "delay", "disk", "sensitivity", "complementary"):
        assert getattr(found, name) == pytest.approx(getattr(right, name), rel=1e-9)
    assert len(found.phase_crossings) == len(right.phase_crossings) == (steps + 2) // 2


def test_two_seconds_of_dead_time_at_a_millisecond():
    """Against the exact exponential: 2 exp(-2 j w) / (5 j w + 1) held over a millisecond."""
    sampled = lqrad.discretise([[-0.2]], [[0.4]], dt=1e-3, input_delay=2.0)
    found = lqrad.margins(sampled.plant([[1.0]])).loops[0]
    a = np.exp(-0.2e-3)
    omega = np.linspace(1e-3, np.pi / 1e-3, 2_000_001)[:-1]
    z = np.exp(1j * omega * 1e-3)
    L = 2 * (1 - a) / (z - a) * z**-2000
    crossed = np.flatnonzero(np.diff(np.sign(L.imag)) * (L.real[:-1] < 0))
    assert len(found.phase_crossings) == len(crossed) + 1  # z = -1 is one, too
    np.testing.assert_allclose(
        [w for w, _ in found.phase_crossings[:-1]], omega[crossed], rtol=3e-3
    )
    assert found.gain[1] == pytest.approx(min(1 / np.abs(L[crossed])), rel=3e-3)


@pytest.mark.parametrize("lag", [1e2, 1e4, 1e6, 1e9])
def test_modes_decades_apart_in_closed_form(lag):
    loop = StateSpace([[-lag, 0.0], [1.0, 0.0]], [[1.0], [0.0]], [[0.0, 2 * lag]], dt=0)
    found = lqrad.margins(loop).loops[0]
    w = np.sqrt(8 / (1 + np.sqrt(1 + 16 / lag**2)))
    assert found.phase == pytest.approx(90 - np.degrees(np.arctan(w / lag)), rel=1e-13)
    assert found.gain == (0.0, np.inf)


def test_what_infinite_frequency_says():
    loop = StateSpace([[-1.0]], [[1.0]], [[-0.5]], [[1.5]], dt=0)
    assert lqrad.margins(loop).loops[0].delay == 0
    static = StateSpace([[0.0]], [[0.0]], [[0.0]], [[2.0]], dt=0)
    assert lqrad.margins(static).loops[0].gain == (0.0, np.inf)
    assert lqrad.margins(static).sensitivity == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(15))
def test_units_of_states_and_of_the_signal_between_do_not_matter(seed):
    loop = stable_loop(seed, dt=0.1 * (seed % 2))
    rng = np.random.default_rng(seed)
    d, e = 2.0 ** rng.integers(-40, 41, size=loop.n), 2.0 ** rng.integers(-40, 41)
    other = StateSpace(
        loop.A * d / d[:, None], loop.B / d[:, None] * e, loop.C * d / e, loop.D, dt=loop.dt
    )
    assert repr(lqrad.margins(other).loops) == repr(lqrad.margins(loop).loops)


def assert_exactly_right(loop, rtol):
    found, right = lqrad.margins(loop).loops[0], exact_margins(loop)
    for name, value in right.items():
        mine = getattr(found, name)
        if name.endswith("crossings"):
            mine = [w for w, _ in mine]
        np.testing.assert_allclose(mine, value, rtol=rtol, atol=0, err_msg=name)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_modes_decades_apart_in_any_units_as_polynomials_of_sixty_digits_have_them(seed, discrete):
    """Modes from 1e-3 to 1e9 rad/s; no crossing is missed."""
    assert_exactly_right(random_loop(seed, discrete=discrete), rtol=1e-7)


@pytest.mark.parametrize("seed", range(10))
def test_dead_time_as_a_power_of_z_in_the_polynomials(seed):
    loop = random_loop(seed, discrete=True, delay=1 + seed % 4, most=2)
    assert_exactly_right(loop, rtol=1e-7)


@pytest.mark.parametrize(
    ("A", "B", "C"),
    [([[0.0]], [[0.5]], [[2.0]]), ([[-1.0, 0.0], [0.0, 0.5]], [[0.0], [1.0]], [[1.0, 0.1]])],
)
def test_a_closed_loop_pole_at_minus_one_is_refused(A, B, C):
    """Of z^-1, and of a mode that no input moves: the polynomial in s loses a degree."""
    with pytest.raises(ArgumentError, match="unstable, with a pole at -1, of magnitude 1"):
        lqrad.margins(StateSpace(A, B, C, dt=1.0))


@pytest.mark.parametrize("pole", [1.0, 1234.567, 1e-7 / 3, 1e9 / 7])
def test_a_gain_margin_within_rounding_of_one_is_not_infinite(pole):
    """L = -c / (s + pole) with the float c just below the pole."""
    c = np.nextafter(pole, 0)
    found = lqrad.margins(StateSpace([[-pole]], [[1.0]], [[-c]], dt=0)).loops[0]
    assert found.gain == (0.0, pytest.approx(pole / c, rel=2.0**-53))
    assert found.sensitivity == pytest.approx(pole / (pole - c), rel=1e-15)


@pytest.mark.parametrize(
    ("n", "dt", "units"), [(50, 1e-4, 0), (50, 1e-3, 40), (100, 1e-3, 0), (200, 1e-3, 0)]
)
def test_a_rod_whose_heater_and_feedback_fade_along_it_has_the_margins_of_its_response(
    n, dt, units
):
    """Entries of B and K that fade to nothing say little about the units of the states."""
    plant = rod(n)
    sampled = lqrad.discretise(plant.A, plant.B, np.eye(n), [[1.0]], dt=dt)
    A, B = sampled.A, sampled.B
    K, _, _ = lqrad.dlqr(A, B, sampled.Q, sampled.R, M=sampled.M)
    unit = 2.0 ** np.random.default_rng(n).integers(-units, units + 1, n)
    (found,) = lqrad.margins(
        StateSpace(A * unit[:, None] / unit, unit[:, None] * B, K / unit, dt=dt)
    ).loops

    def L(omega):
        return (K @ np.linalg.solve(np.exp(1j * omega * dt) * np.eye(n) - A, B)).item()

    omega = np.geomspace(1e-2, np.pi / dt, 1000)
    size = np.abs([L(w) for w in omega[:: max(1, n // 50)]])
    assert len(found.gain_crossings) == np.count_nonzero(np.diff(size > 1))
    for w, _ in found.gain_crossings:
        assert abs(L(w)) == pytest.approx(1, rel=1e-10)
    for w, factor in found.phase_crossings:
        assert factor * L(w) == pytest.approx(-1, rel=1e-9)
