"""
Parked sideways
===============

A wheel can roll and turn, and cannot move sideways. It should come to rest beside its place. The
optimum reverses, rolls forward, and reverses again, as a driver parks. No linear model of it at its
target knows how, for there it is not controllable. The arrows show where the wheel points.
"""

import matplotlib.pyplot as plt
import numpy as np

import lqrad

wheel = lqrad.nonlinear.unicycle_parking()
found = lqrad.ilqr(wheel.problem, wheel.x0, wheel.T, bounds=wheel.bounds)
y, z, heading = found.x[:, :3].T
figure, ax = plt.subplots(layout="constrained")
ax.plot(y, z, color="0.6")
ax.quiver(*found.x[::3, :2].T, np.cos(heading[::3]), np.sin(heading[::3]), scale=14, width=0.007)
ax.plot(*wheel.x0[:2], "ks", label="start")
ax.plot(*wheel.target[:2], "kP", markersize=10, label="place")
ax.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
ax.legend()
