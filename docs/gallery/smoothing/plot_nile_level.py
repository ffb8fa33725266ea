"""
The level of the Nile
=====================

The flow of the Nile at Aswan in each year from 1871 to 1970, as a level that drifts, seen through
noise. Both variances are those of maximum likelihood. The narrow band holds the level with a
probability of 95 %, the wide one holds the observations. The level falls around 1899, when a dam
was begun at Aswan and the rains of East Africa became less.
"""

import numpy as np

import lqrad


def level(theta):
    W, V = np.exp(theta)
    return lqrad.SmoothingProblem([[1]], [[1]], W=[[W]], V=[[V]], m0=None, P0=None)


t, y = lqrad.datasets.load("nile")
model = lqrad.fit(level, [8.0, 8.0], y).problem
smoothed = lqrad.kalman_smoother(model, y)
ax = lqrad.plotting.plot_smoothed(model, y, smoothed, t=t, name="flow (10⁸ m³ a year)")
ax.set_xlabel("year")
