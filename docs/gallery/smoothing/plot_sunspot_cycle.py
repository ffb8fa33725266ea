"""
The cycle of the sun
====================

Yearly sunspot numbers since 1700, as square roots: a level that drifts, and a cycle whose amplitude
and phase wander, two states that turn by the same angle each year. The period is not given. Maximum
likelihood finds it, and it is close to eleven years. The last twelve years are a forecast: its band
shows how soon the phase is lost.
"""

import numpy as np

import lqrad


def cycle(theta):
    period, damping, W, drift = np.exp(theta)
    c, s = np.cos(2 * np.pi / period), np.sin(2 * np.pi / period)
    A = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1 + damping]]) / (1 + damping)
    start = [0, 0, 6.5], 10 * np.eye(3)
    return lqrad.SmoothingProblem(A, [[1, 0, 1]], np.diag([W, W, drift]), [[0.05]], *start)


t, y = lqrad.datasets.load("sunspots")
found = lqrad.fit(cycle, np.log([10, 0.05, 0.6, 0.1]), np.sqrt(y), tol=1e-4)
y = np.concatenate([np.sqrt(y), np.full((12, 1), np.nan)])
smoothed = lqrad.kalman_smoother(found.problem, y)
details = {"t": np.arange(1700, 2021), "name": "square root of the sunspot number"}
ax = lqrad.plotting.plot_smoothed(found.problem, y, smoothed, **details)
ax.set(xlabel=f"year; period found: {np.exp(found.theta[0]):.1f} years", xlim=(1900, 2020))
