"""
Four typing errors
==================

Four numbers of the Nile's flow are made two and a half times too large. Under Gaussian noise the smoothed level
runs after each of them. With Student's t in its place a large error has a bounded pull: the level
passes them by and is hardly changed anywhere else. The same descent finds both, only the loss of
the misfit is another one.
"""

import numpy as np

import lqrad

t, y = lqrad.datasets.load("nile")
y[[12, 50, 51, 83]] *= 2.5
model = lqrad.SmoothingProblem([[1]], [[1]], W=[[1469]], V=[[15099]], m0=[1000], P0=[[1e6]])
gaussian = lqrad.descend(model.objective(y), method="conjugate-gradient")
objective = lqrad.nonlinear.robust_objective(model, y)
robust = lqrad.descend(objective, gaussian.solution, method="l-bfgs")
levels = np.cumsum(np.hstack([gaussian.solution, robust.solution]), axis=0)
ax = lqrad.plotting.plot_trajectory(levels, names=["Gaussian noise", "Student's t, nu = 4"])
ax.plot(y, ".", color="0.4", zorder=0)
ax.set(xlabel=f"years since {t[0]:.0f}", ylabel="flow (10⁸ m³ a year)", ylim=(300, 3000))
