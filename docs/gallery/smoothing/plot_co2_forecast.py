"""
Carbon dioxide: trend, season and three years ahead
===================================================

Weekly carbon dioxide on Mauna Loa, from 1958 on; the last years are shown, and three more are
forecast. Six states are enough: a level, its slope, and two harmonics of the year, of which the
plants of the northern hemisphere breathe the first. The forecast repeats the season and goes on
along the slope; its band widens as the slope is known less and less.
"""

import numpy as np
from scipy.linalg import block_diag

import lqrad

t, y = lqrad.datasets.load("co2")
week = 7 / 365.25  # in years
angles = 2 * np.pi * week * np.array([1, 2])
turns = [[[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] for a in angles]
A = block_diag([[1, week], [0, 1]], *turns)
W = np.diag([5e-3, 0.0, 1e-3, 1e-3, 1e-3, 1e-3]) ** 2
W[1, 1] = 0.3**2 * week
model = lqrad.SmoothingProblem(A, [[1, 0, 1, 0, 1, 0]], W, [[0.3**2]], m0=None, P0=None)
y = np.concatenate([y, np.full((156, 1), np.nan)])
t = t[0] + week * np.arange(len(y))
smoothed = lqrad.kalman_smoother(model, y)
ax = lqrad.plotting.plot_smoothed(model, y, smoothed, t=t, name="carbon dioxide (ppm)")
ax.set(xlabel="year", xlim=(1998, 2005), ylim=(360, 385))
