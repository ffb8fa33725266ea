"""Pictures of policies."""

from __future__ import annotations

import numpy as np
import pytest

import lqrad
from lqrad import ShapeError, plotting

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
    np.testing.assert_array_equal(ax.lines[-1].get_xydata(), x[:, -1])
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
