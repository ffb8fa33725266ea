"""Files of receding-horizon controllers: what is loaded plans the same, to the last bit."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lqrad
from lqrad import LQProblem, StateSpace
from lqrad.design import Limit, disturbance_observer
from lqrad.files import load_controller, save_controller

A, B = np.array([[1, 0.1], [0, 1]]), np.array([[0.005], [0.1]])
CART = LQProblem(A, B, np.diag([10.0, 1.0]), [[0.1]])
PLANT = StateSpace(A, B, [[1, 0]], dt=0.1)


def designs():
    """Controllers that have between them all that one can have."""
    yield "plain", lqrad.mpc(CART, 8)
    observer = disturbance_observer(PLANT, 1e-6 * np.eye(2), [[1e-6]], [[1e-4]])
    rows = [
        Limit([[1.0, 1.0]], high=0.7, name="both", price=30.0, spring=2.0),
        Limit([[1.0, 0.2]], [[0.3]], low=np.linspace(-2, -1, 8)[:, None], high=np.inf),
        Limit(D=[[1.0]], high=0.9),
    ]
    yield (
        "everything",
        lqrad.mpc(
            CART,
            8,
            input_bounds=(-1, np.linspace(0.8, 1, 8)[:, None]),
            rate_bounds=(-0.3, np.inf),
            state_bounds=([-np.inf, -0.6], [np.inf, 0.6]),
            rows=rows,
            terminal="origin",
            rate_weight=[[0.5]],
            blocks=[1, 2, 3],
            H=[[1.0, 0.0]],
            Bd=[[0.0], [0.1]],
            observer=observer,
            max_iter=77,
            tol=1e-9,
        ),
    )
    yield (
        "invariant",
        lqrad.mpc(CART, 8, input_bounds=(-1, 1), state_bounds=(-1, 1), terminal="invariant"),
    )
    varying = LQProblem(
        np.array([A * (1 - 0.01 * t) for t in range(8)]), B, CART.Q, CART.R, np.eye(2), c=[0.0, 0.1]
    )
    yield "varying", lqrad.mpc(varying, 8, input_bounds=(-1, 1))


@pytest.mark.parametrize("ending", ["json", "npz"])
@pytest.mark.parametrize(("name", "controller"), [*designs()])
def test_what_is_loaded_plans_the_same_to_the_last_bit(tmp_path, ending, name, controller):
    path = tmp_path / f"controller.{ending}"
    controller.reset()
    save_controller(path, controller)
    again = load_controller(path)
    assert repr(again) == repr(controller)
    y = [0.5] if name == "everything" else [0.5, -0.2]
    told = {"reference": 0.3} if controller.H is not None else {}
    for step in range(3):
        np.testing.assert_array_equal(again.step(y, **told), controller.step(y, **told))
        for field in ("x", "u", "p", "multipliers", "cost", "gap_bound"):
            ours, theirs = (getattr(z.last, field) for z in (again, controller))
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{field} of step {step}")
        assert again.last.rows.names == controller.last.rows.names
        assert again.last.iterations == controller.last.iterations
    np.testing.assert_array_equal(again.x_hat, controller.x_hat)
    save_controller(tmp_path / f"again.{ending}", again)
    other = load_controller(tmp_path / f"again.{ending}")
    for key, value in controller.design.items():
        if isinstance(value, np.ndarray | int | float):
            np.testing.assert_array_equal(other.design[key], value, err_msg=key)


def test_a_design_is_what_it_is_made_of_again():
    for _, controller in designs():
        again = lqrad.mpc(**controller.design)
        x = [0.5, -0.2]
        np.testing.assert_array_equal(again.plan(x).u, controller.plan(x).u)


def test_a_file_can_be_read_and_names_what_is_wrong(tmp_path):
    path = tmp_path / "controller.json"
    save_controller(path, lqrad.mpc(CART, 3, input_bounds=(-1, np.inf), blocks=[1, 2]))
    data = json.loads(path.read_text())
    assert data["mpc_version"] == 1
    assert data["input_high"] == [[None]] * 3
    assert data["blocks"] == [1, 2]
    for change, message in (
        ({"mpc_version": 2}, "is of version 2, expected 1; read it with the version"),
        ({"T": 0}, "T is 0, expected a whole number of at least 1"),
        ({"input_low": [[2.0]] * 3, "input_high": [[1.0]] * 3}, "input_bounds leave nothing"),
        ({"terminal": "home"}, "terminal is 'home', expected one of"),
        ({"observer_A": [[1.0]]}, "the observer lacks one of its arrays"),
        ({"names": [1, 2]}, "names is no series of texts"),
        ({"names": ["a"]}, "neither C nor D is given"),
        ({"unknown": 1}, "holds unknown; a receding-horizon controller has A, B, Q, R"),
    ):
        path.write_text(json.dumps(data | change))
        with pytest.raises(lqrad.LqradError, match=message) as refused:
            load_controller(path)
        assert str(path) in str(refused.value)
