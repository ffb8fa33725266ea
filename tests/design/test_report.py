"""A design as a whole, its file and its pictures."""

from __future__ import annotations

import json

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from random_controllers import random_controller
from scipy.io import savemat

import lqrad
from lqrad import ArgumentError, ShapeError, StateSpace, plotting
from lqrad.files import load_plant

PLANT = StateSpace([[1, 0.1], [0, 1]], [[0.005], [0.1]], [[1, 0]], dt=0.1)
NOISE = {"W": 1e-4 * np.eye(2), "V": [[1e-4]]}


@pytest.mark.parametrize("ending", ["json", "npz"])
@pytest.mark.parametrize("bounds", [None, (-0.3, 0.2), ([-np.inf], 1.0)])
@pytest.mark.parametrize("seed", range(8))
def test_a_controller_comes_back_bit_for_bit(tmp_path, seed, bounds, ending):
    if bounds == ([-np.inf], 1.0):
        bounds = (-np.inf, 1.0)
    controller, plant = random_controller(seed, bounds=bounds)
    path = tmp_path / f"controller.{ending}"
    lqrad.save_controller(path, controller)
    back = lqrad.load_controller(path)
    for name in ("K", "K_i", "H", "F", "E", "low", "high"):
        np.testing.assert_array_equal(getattr(back, name), getattr(controller, name))
    for name in ("A", "B", "C", "L"):
        np.testing.assert_array_equal(
            getattr(back.observer, name), getattr(controller.observer, name)
        )
    assert back.dt == controller.dt
    r = np.ones(controller.nr)
    first, second = (
        lqrad.simulate_closed_loop(plant, c, 20, reference=r).u for c in (controller, back)
    )
    np.testing.assert_array_equal(first, second)


def test_odd_numbers_survive_in_json(tmp_path):
    observer = lqrad.Observer([[-0.0]], [[5e-324]], [[0.1 + 0.2]], [[1 / 3]])
    lqrad.save_controller(tmp_path / "odd.json", lqrad.Controller(observer, [[1e308]], dt=0.1))
    back = lqrad.load_controller(tmp_path / "odd.json")
    for name in "ABCL":
        assert getattr(back.observer, name).tobytes() == getattr(observer, name).tobytes()
    assert back.K[0, 0] == 1e308


def test_files_that_are_no_controllers(tmp_path):
    path = tmp_path / "c.json"
    with pytest.raises(ArgumentError, match=r"ends in '\.mat', expected one of: \.json, \.npz"):
        lqrad.load_controller(tmp_path / "c.mat")
    with pytest.raises(ArgumentError, match="cannot be read"):
        lqrad.load_controller(path)
    path.write_text("{")
    with pytest.raises(ArgumentError, match=r"is not a valid \.json file"):
        lqrad.load_controller(path)
    path.write_text('{"A": 1}')
    with pytest.raises(ArgumentError, match="is no file of this kind: it lacks controller_version"):
        lqrad.load_controller(path)
    lqrad.save_controller(path, lqrad.lqr(PLANT, np.eye(2), [[1]]))
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"controller_version": 9}))
    with pytest.raises(
        ArgumentError, match="is of version 9, expected 1; read it with the version"
    ):
        lqrad.load_controller(path)
    path.write_text(json.dumps({k: v for k, v in data.items() if k != "K"}))
    with pytest.raises(ArgumentError, match="lacks K; a controller has A, B, C, L, K"):
        lqrad.load_controller(path)
    path.write_text(json.dumps(data | {"K": [[1.0]]}))
    with pytest.raises(lqrad.ShapeError, match=r"c\.json: K has shape \(1, 1\), expected \(m, n\)"):
        lqrad.load_controller(path)
    with pytest.raises(ArgumentError, match="controller is of type int, expected Controller"):
        lqrad.save_controller(path, 3)


@pytest.mark.parametrize("kind", ["lqr", "lqi", "lqg", "lqg with integrators"])
def test_a_design_is_that_of_its_parts(kind):
    options = {}
    if "lqg" in kind:
        options |= NOISE
    if "i" in kind:
        options |= {"Q_i": [[0.01]]}
    found = lqrad.design_controller(PLANT, np.eye(2), [[1]], input_bounds=(-1, 1), **options)
    rebuilt = {
        "lqr": lambda: lqrad.lqr(PLANT, np.eye(2), [[1]], input_bounds=(-1, 1)),
        "lqi": lambda: lqrad.lqi(PLANT, np.eye(2), [[1]], [[0.01]], input_bounds=(-1, 1)),
    }.get(kind, lambda: lqrad.lqg(PLANT, np.eye(2), [[1]], input_bounds=(-1, 1), **options))()
    np.testing.assert_array_equal(found.controller.K, rebuilt.K)
    assert found.margins.disk == lqrad.margins(rebuilt.loop(PLANT)).disk
    assert (found.cost_rate is None) == ("lqg" not in kind)
    assert (found.response is None) == (found.controller.nr == 0)
    text = found.table()
    assert "slowest closed-loop pole" in text
    assert ("mean cost of a step under noise" in text) == ("lqg" in kind)
    assert ("measured: the whole state, not C x" in text) == ("lqg" not in kind)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["K"] == found.controller.K.tolist()
    assert ("response" in plain) == (found.response is not None)


def test_a_plant_whose_state_is_measured_needs_no_words_on_it():
    plant = lqrad.StateSpace(PLANT.A, PLANT.B, dt=PLANT.dt)
    assert "measured" not in lqrad.design_controller(plant, np.eye(2), [[1]]).table()


def test_a_reference_without_integrators_and_a_start():
    found = lqrad.design_controller(
        PLANT, np.eye(2), [[1]], H=[[1, 0]], reference=[0.5], x0=[0.1, 0.0], T=300
    )
    assert found.simulated.x[0, 0] == 0.1
    assert found.simulated.x[-1, 0] == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(ArgumentError, match="W and V belong together"):
        lqrad.design_controller(PLANT, np.eye(2), [[1]], W=np.eye(2))


def test_every_picture_says_what_it_shows():
    found = lqrad.design_controller(
        PLANT, np.eye(2), [[0.1]], Q_i=[[0.01]], input_bounds=(-0.2, 0.2), **NOISE
    )
    figure = found.plot()
    assert isinstance(figure, Figure)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[0] == "tracked outputs (dotted: their reference)"
    assert titles[2] == "inputs (dashed: their limits)"
    assert titles[1].startswith("Nyquist curve: phase margin ")
    for ax in figure.axes:
        assert ax.get_xlabel()
        assert ax.get_ylabel()
    dashed = [line.get_ydata()[0] for line in figure.axes[2].lines if line.get_linestyle() == "--"]
    assert dashed == [-0.2, 0.2]


def test_a_system_gives_a_picture_its_names_and_units():
    system = lqrad.systems.quadrotor()
    plant = StateSpace(system.A, system.B, dt=system.dt)
    design = lqrad.design_controller(plant, system.Q, system.R, x0=system.x0, T=60)
    states, _, inputs, _ = design.plot(system).axes
    shown = [text.get_text() for text in states.get_legend().get_texts()]
    assert shown[0] == "position x (m)"
    assert shown[-1] == "6 smaller ones"  # twelve curves could not be told apart
    assert len(shown) == 7
    assert inputs.get_legend().get_texts()[0].get_text() == "thrust (N)"
    tracking = lqrad.design_controller(plant, system.Q, system.R, H=np.eye(12)[[2, 0]], T=60)
    tracked = tracking.plot(system).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in tracked] == ["position z (m)", "position x (m)"]
    with pytest.raises(ShapeError, match="state_names has shape"):
        design.plot(lqrad.systems.aircraft())


def test_limits_that_are_far_away_do_not_squash_the_inputs():
    design = lqrad.design_controller(PLANT, np.eye(2), [[1]], x0=[1, 0], input_bounds=(-1, 1e3))
    _, _, inputs, _ = design.plot().axes
    assert inputs.get_ylim()[1] < 10
    assert inputs.get_title(loc="left") == "inputs (dashed: their limits)"
    design = lqrad.design_controller(PLANT, np.eye(2), [[1]], x0=[1, 0], input_bounds=(-1e3, 1e3))
    assert design.plot().axes[2].get_title(loc="left") == "inputs, far from their limits"


def test_the_kept_disk_touches_the_nyquist_curve():
    loop = lqrad.lqr(PLANT, np.eye(2), [[0.1]]).loop(PLANT)
    found = lqrad.margins(loop)
    ax = plotting.plot_nyquist(loop, found)
    (circle,) = [p for p in ax.patches if isinstance(p, mpl.patches.Circle)]
    L = loop.response(np.geomspace(1e-3, np.pi / loop.dt, 20_000))[:, 0, 0]
    distance = np.abs(L - complex(*circle.center)).min()
    assert distance == pytest.approx(circle.radius, rel=1e-4)


def test_bands_hold_nine_tenths_of_the_runs():
    controller = lqrad.lqr(PLANT, np.eye(2), [[1]])
    loop = lqrad.simulate_closed_loop(PLANT, controller, 30, W=0.01 * np.eye(2), runs=500, rng=0)
    ax = plotting.plot_closed_loop(loop, names=["position [m]", "speed [m/s]"])
    band = ax.collections[0].get_paths()[0].vertices
    at_end = band[np.isclose(band[:, 0], loop.t[-1]), 1]
    low, high = np.percentile(loop.x[:, -1, 0], [5, 95])
    assert at_end.min() == pytest.approx(low)
    assert at_end.max() == pytest.approx(high)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "position [m]",
        "speed [m/s]",
    ]
    steps = plotting.plot_closed_loop(loop, inputs=True, names=["force [N]"])
    assert steps.get_ylabel() == "force [N]"


def test_a_step_response_shows_where_it_has_settled():
    response = lqrad.step_response(StateSpace([[0.8]], [[0.2]], dt=0.1))
    ax = plotting.plot_step_response(response)
    dot = next(line for line in ax.lines if line.get_marker() == "o")
    assert dot.get_xdata()[0] == response.settling[0, 0]
    assert plotting.plot_sensitivities(StateSpace([[0.9]], [[0.2]], dt=0.1)).get_xscale() == "log"


def test_plants_in_files(tmp_path):
    path = tmp_path / "plant.json"
    model = {"A": [[0, 1], [0, 0]], "B": [[0], [1]], "Q": [[1, 0], [0, 1]], "R": [[1]], "dt": 0.1}
    path.write_text(
        json.dumps(model | {"low": [None], "high": 2, "Q_i": [[0.1]], "tracked": [[1, 0]]})
    )
    content = load_plant(path)
    sampled = lqrad.discretise(*(model[name] for name in "ABQR"), dt=0.1)
    np.testing.assert_array_equal(content.plant.A, sampled.A)
    np.testing.assert_array_equal(content.arguments["M"], sampled.M)
    assert content.arguments["input_bounds"] == (-np.inf, 2)
    assert lqrad.design_controller(content.plant, **content.arguments).controller.nr == 1
    limits = {
        "low": [-1.0],
        "high": 2.0,
        "tracked": [[1.0, 0.0]],
        "reference": [0.5],
        "Q_i": [[0.1]],
    }
    savemat(tmp_path / "plant.mat", model | limits)  # which knows no vectors, only rows
    from_matlab = load_plant(tmp_path / "plant.mat")
    assert from_matlab.arguments["reference"].shape == (1,)
    design = lqrad.design_controller(from_matlab.plant, **from_matlab.arguments)
    assert (design.controller.low, design.controller.high) == (-1.0, 2.0)
    assert design.simulated.x[-1, 0] == pytest.approx(0.5, abs=1e-3)
    path.write_text(json.dumps(model | {"discrete": 1}))
    np.testing.assert_array_equal(load_plant(path).plant.A, model["A"])
    path.write_text(json.dumps(model | {"input_delay": 0.25}))
    assert load_plant(path).plant.n == 5
    path.write_text(json.dumps(model | {"discrete": 1, "input_delay": 0.25}))
    with pytest.raises(
        ArgumentError, match=r"plant\.json: input_delay is given with a discrete model"
    ):
        load_plant(path)
    path.write_text(json.dumps(model | {"dt": [0.1, 0.2]}))
    with pytest.raises(lqrad.DtypeError, match=r"dt is \[0\.1, 0\.2\], expected a real number"):
        load_plant(path)
    path.write_text(json.dumps(model | {"colour": 1}))
    with pytest.raises(
        ArgumentError, match="holds colour; a model has A, B, Q, R, dt and may have C, D, S, M"
    ):
        load_plant(path)
