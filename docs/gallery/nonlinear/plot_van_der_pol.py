"""
An oscillator that is stopped
=============================

Van der Pol's oscillator drives itself onto a limit cycle (grey) from wherever it starts. A small
force brings it to rest in its unstable centre: the path of the optimum leaves the cycle, turns
inwards, and ends at the cross. The force stays within its limits all the time.
"""

import numpy as np

import lqrad

oscillator = lqrad.nonlinear.van_der_pol()
problem = oscillator.problem
found = lqrad.ilqr(problem, oscillator.x0, oscillator.T, bounds=oscillator.bounds)
free = problem.simulate(oscillator.x0, np.zeros((200, 1)))
ax = lqrad.plotting.plot_portrait(oscillator, found.x)
ax.plot(*free.T, color="0.7", linewidth=0.8, zorder=0)
