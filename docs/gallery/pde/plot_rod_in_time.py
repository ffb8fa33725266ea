"""
Heat on its way along a rod
===========================

A copper rod of one metre is heated through its two ends so that after 2000 s its temperature rises
evenly along it. The map shows the temperature at all places and times, with contours. First both
ends are heated far above the target, beyond the end of the scale, to warm the middle in time. Then
the contours come to lie at equal distances: that is the even rise that was asked for.
"""

import matplotlib.pyplot as plt

import lqrad

rod = lqrad.heat_rod(60)
problem = rod.problem()
objective = problem.objective(rod.x0, rod.T)
descent = lqrad.descend(objective, method="conjugate-gradient", max_iter=200)
x = problem.simulate(rod.x0, descent.solution)
figure, ax = plt.subplots(layout="constrained")
extent = (0, rod.T * rod.dt, 0, rod.lengths[0])
image = ax.imshow(x.T, origin="lower", aspect="auto", extent=extent, vmax=2.5)
lines = ax.contour(x.T, levels=[0.5, 1.0, 1.25, 1.5, 1.75, 2.0], extent=extent, colors="white")
ax.clabel(lines)
figure.colorbar(image, label="temperature (K)", extend="max")
ax.set(xlabel="time (s)", ylabel="place along the rod (m)")
