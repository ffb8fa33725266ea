"""
Where was it warm at first?
===========================

Six sensors on a copper rod read its temperature with noise, from the 20th second on. What it was at
the start follows from a descent whose gradient runs the heat equation backward as an adjoint. Two
warm places are found where they were; their sharp edges are not, for diffusion has wiped them out.
How much to smooth is chosen by the discrepancy principle: the misfit is that of the noise.
"""

import numpy as np

import lqrad

rod = lqrad.heat_rod(100, T=100)
problem, place = rod.problem(), rod.coordinates()[0]
true = 1.0 * (abs(place - 0.3) < 0.1) + 0.6 * (abs(place - 0.75) < 0.05)
C = np.eye(100)[8::17]
y = problem.simulate(true, np.zeros((100, 2))) @ C.T
y += 0.005 * np.random.default_rng(0).normal(size=y.shape)
y[:2] = np.nan
found = lqrad.pde.invert(problem, y, C, noise=0.005)
names, z = ["temperature at the start", "recovered"], np.stack([true, found.w], axis=1)
ax = lqrad.plotting.plot_trajectory(z, dt=0.01, names=names)
ax.plot(place[8::17], 0 * place[8::17] - 0.1, "^", color="0.4")
ax.set(xlabel="place along the rod (m); triangles: sensors", ylabel="temperature (K)")
