"""
El Nino without the seasons
===========================

The temperature of the sea off Peru is mostly that of the season. Smoothing takes it apart into a
mean, two harmonics of the year that may change slowly, and an anomaly that fades within months.
What is left is shown with its band of 95 %: the warm years 1957, 1972, 1983 and 1997 stand out, in
which the upwelling failed.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import block_diag

import lqrad

t, y = lqrad.datasets.load("elnino")
angles = 2 * np.pi / 12 * np.array([1, 2])
turns = [[[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] for a in angles]
A = block_diag([[1]], *turns, [[0.9]])
W = np.diag([0, 1e-4, 1e-4, 1e-4, 1e-4, 0.25])
model = lqrad.SmoothingProblem(A, [[1, 1, 0, 1, 0, 1]], W, [[0.02]], m0=None, P0=None)
smoothed = lqrad.kalman_smoother(model, y)
anomaly, half = smoothed.x[:, 5], 1.96 * np.sqrt(smoothed.cov[:, 5, 5])
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.fill_between(t, anomaly - half, anomaly + half, color="0.75")
ax.plot(t, anomaly, color="black", linewidth=0.8)
ax.axhline(0.0, color="0.5", linewidth=0.6)
ax.set(xlabel="year", ylabel="anomaly of the sea's temperature (K)", xlim=(1950, 2011))
