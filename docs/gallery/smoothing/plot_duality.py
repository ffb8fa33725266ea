"""
A filter is a regulator that runs backward
==========================================

A radar measures the position of an aircraft, and a filter estimates position and velocity. Its
gains, step by step, are drawn as lines. The circles are the gains of a regulator for the transposed
matrices, its time reversed: Riccati's recursion is the same, so they coincide to the last digits.
After ten steps both have reached their stationary values.
"""

import lqrad

dt = 0.1
A, C = [[1, dt], [0, 1]], [[1, 0]]
W = [[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]  # of white acceleration
model = lqrad.SmoothingProblem(A, C, W, V=[[0.05]], m0=[0, 0], P0=[[4, 0], [0, 4]])
found = lqrad.smoothing.duality(model, T=40)
lines, circles = found.filter_gain[..., 0], found.regulator_gain[..., 0]
names = ["position (m per m)", "velocity (m/s per m)"]
ax = lqrad.plotting.plot_costates(circles, lines, names=names)
ax.set_ylabel("gain of the filter")
ax.set_title("filter (lines), dual regulator (circles)", loc="left", fontsize="medium", pad=22)
