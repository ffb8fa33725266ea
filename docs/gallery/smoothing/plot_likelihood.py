"""
A likelihood and its maximum
============================

The log-likelihood of the Nile's flow over the two variances of its model, each on a logarithmic
axis; contours are one apart. The ridge is long: the data tell the noise of a single year well, and
the drift of the level within a factor of five. The cross is where `lqrad.fit` arrives, by
exact gradients: 1469 and 15099, as in the literature.
"""

import matplotlib.pyplot as plt
import numpy as np

import lqrad


def level(theta):
    W, V = np.exp(theta)
    return lqrad.SmoothingProblem([[1]], [[1]], W=[[W]], V=[[V]], m0=None, P0=None)


t, y = lqrad.datasets.load("nile")
W, V = np.geomspace(50, 50000, 16), np.geomspace(5000, 40000, 16)
values = [
    [lqrad.kalman_smoother(level(np.log([w, v])), y, covariances=False).loglik for w in W]
    for v in V
]
found = lqrad.fit(level, [8.0, 8.0], y)
figure, ax = plt.subplots(layout="constrained")
lines = ax.contour(
    W, V, np.array(values) - found.loglik, levels=np.arange(-10, 0), colors="0.2", linestyles="-"
)
ax.clabel(lines, fontsize="small")
ax.plot(*np.exp(found.theta), "k+", markersize=12)
ax.set(
    xscale="log", yscale="log", xlabel="variance W of the drift", ylabel="variance V of the noise"
)
