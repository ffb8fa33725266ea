"""Pictures of policies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lqrad
from lqrad import ShapeError, plotting
from lqrad.policies.policy_gradient import METHODS, policy_gradient

CART = lqrad.LQProblem([[1, 0.1], [0, 1]], [[0], [0.1]], np.eye(2), [[1]])
PROBLEM = lqrad.PolicyProblem(CART, lqrad.linear_policy(2, 1), T=50)


def test_it_shows_the_input_and_the_paths():
    theta = {"K": [[1.0, 2.0]]}
    x, _ = PROBLEM.simulate([[1.0, 0.0], [-0.5, 0.5]], theta)
    ax = plotting.plot_policy(
        PROBLEM, theta, extent=(-1, 1, -2, 2), paths=x, names=("y [m]", "v [m/s]", "force [N]")
    )
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("y [m]", "v [m/s]")
    assert ax.figure.axes[1].get_ylabel() == "force [N]"
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), x[0])
    marks = {line.get_label(): line.get_xydata() for line in ax.lines[-2:]}
    np.testing.assert_array_equal(marks["start"], x[:, 0])
    np.testing.assert_array_equal(marks["end"], x[:, -1])
    # Each point of the plane has the shade of its input: by the gain, written out.
    mesh = ax.collections[0]
    corners = mesh.get_coordinates()
    centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    np.testing.assert_allclose(mesh.get_array(), -(centres @ [1.0, 2.0]), atol=1e-12)
    # The shades reach from -|u| to |u|, which is largest in a corner: 1 + 2 * 2.
    assert ax.collections[0].get_clim() == (-5.0, 5.0)
    assert ax.get_xlim() == (-1, 1)


def test_what_has_no_picture():
    wide = lqrad.PolicyProblem(
        lqrad.LQProblem(np.eye(3), np.ones((3, 1)), np.eye(3), [[1]]),
        lqrad.linear_policy(3, 1),
        T=2,
    )
    with pytest.raises(ShapeError, match="problem has n = 3 states, expected 2"):
        plotting.plot_policy(wide, {"K": [[1.0, 1.0, 1.0]]}, extent=(-1, 1, -1, 1))
    with pytest.raises(ShapeError, match=r"paths has shape \(5, 2\), expected \(runs, T\+1, 2\)"):
        plotting.plot_policy(
            PROBLEM, {"K": [[1.0, 2.0]]}, extent=(-1, 1, -1, 1), paths=np.zeros((5, 2))
        )


def trained(validation=None):
    graph = lqrad.mlp([1, 3, 1], loss="squared")
    x = np.linspace(-1, 1, 16)[:, None]
    data = {"x": x, "y": x**2}
    theta = graph.initial(np.random.default_rng(0))
    return lqrad.sgd(graph, theta, data, epochs=6, rng=0, batch_size=4, validation=validation)


def test_a_training_is_drawn_epoch_by_epoch():
    plain = trained()
    checked = trained({"x": [[0.1], [0.2]], "y": [[0.01], [0.04]]})
    ax = plotting.plot_training([plain, checked], names=["plain", "checked"])
    epochs = np.arange(1, 7)
    expected = [plain.history.cost, checked.history.cost, checked.history.validation_loss]
    for line, loss in zip(ax.lines, expected, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), epochs)
        np.testing.assert_array_equal(line.get_ydata(), loss)
    assert [line.get_linestyle() for line in ax.lines] == ["-", "-", "--"]
    assert ax.lines[1].get_color() is ax.lines[2].get_color()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["plain", "checked"]
    assert ax.get_title(loc="left") == "training loss, and that of validation (dashed)"
    alone = plotting.plot_training(plain)
    assert alone.get_legend() is None
    assert alone.get_title(loc="left") == "training loss"
    assert (alone.get_xlabel(), alone.get_ylabel()) == ("epoch", "loss")


def test_a_loss_below_zero_or_within_a_decade_has_a_linear_scale():
    """A policy is paid for what it does: rewards are costs below zero."""
    problem = lqrad.ControlProblem(
        lambda x, u: 0.5 * x + u, lambda x, u: (u**2).sum(axis=-1) - 1, n=1, m=1
    )
    policy = lqrad.PolicyProblem(problem, lqrad.linear_policy(1, 1), T=3)
    paid = lqrad.sgd(policy, {"K": [[0.1]]}, {"x0": [[1.0]]}, epochs=2, rng=0)
    assert paid.history.cost.max() < 0
    assert plotting.plot_training(paid).get_yscale() == "linear"
    short = lqrad.sgd(policy, {"K": [[0.4]]}, {"x0": [[9.0]]}, epochs=2, rng=0)
    assert short.history.cost.min() > 0
    assert plotting.plot_training(short).get_yscale() == "linear"
    fallen = replace(short, history=replace(short.history, cost=np.array([11.0, 1.0])))
    assert plotting.plot_training(fallen).get_yscale() == "log"


def test_descents_on_a_gain_are_drawn_like_those_of_ilqr():
    A, B, one = [[1.2, 0.5], [0.0, 0.9]], [[0.0], [1.0]], [[1.0]]
    lq = lqrad.LQProblem(A, B, np.eye(2), one)
    runs = [policy_gradient(lq, [[0.5, 1.0]], method=m, max_iter=4) for m in METHODS]
    ax = plotting.plot_descent(runs, names=METHODS, reference=1.0)
    for line, run in zip(ax.lines, runs, strict=True):
        np.testing.assert_allclose(line.get_ydata(), run.history.cost - 1.0)
    alone = plotting.plot_descent(runs[0])
    assert alone.lines[0].get_ydata()[-1] == pytest.approx(
        runs[0].history.cost[-2] / runs[0].history.cost[-1] - 1, rel=1e-9
    )


def test_a_training_takes_the_axes_and_the_names_that_it_is_given():
    ax = plotting.plot_training(trained())
    assert plotting.plot_training(trained(), ax=ax) is ax
    with pytest.raises(ShapeError, match=r"names has shape \(2,\), expected \(1,\)"):
        plotting.plot_training([trained()], names=["a", "b"])
