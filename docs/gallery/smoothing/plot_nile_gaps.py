"""
Two gaps of twenty years, and a forecast
========================================

Forty years of the Nile's flow are taken away, and ten years are asked for that nobody measured. A
gap needs no other method: its rows are NaN. Inside a gap the level is interpolated, and its band
widens towards the middle, where all measurements are far; in the forecast it widens for ever, for a
level that drifts is never known again.
"""

import numpy as np

import lqrad

t, y = lqrad.datasets.load("nile")
y[20:40] = y[60:80] = np.nan
y = np.concatenate([y, np.full((10, 1), np.nan)])
t = np.arange(t[0], t[0] + len(y))
model = lqrad.SmoothingProblem([[1]], [[1]], W=[[1469]], V=[[15099]], m0=None, P0=None)
smoothed = lqrad.kalman_smoother(model, y)
ax = lqrad.plotting.plot_smoothed(model, y, smoothed, t=t, name="flow (10⁸ m³ a year)")
ax.set_xlabel("year")
