"""
A network that brings a cart home
=================================

A small network maps the position and the velocity of a cart to a force, and is trained by backward
passes through the motion itself, from sixty starts at once. The shades are its force; the paths are
what it makes of eight starts that it has not seen. Near the centre it looks like Riccati's feedback,
with straight lines of equal force.
"""

import numpy as np

import lqrad

cart = lqrad.systems.double_integrator()
net = lqrad.mlp([2, 16, 1], loss="squared")
problem = lqrad.PolicyProblem(cart.problem(), net, T=40)
starts = np.random.default_rng(0).uniform(-1, 1, (60, 2))
theta = net.initial(0)
objective = problem.objective(starts)
found = lqrad.descend(objective, net.flatten(theta), method="l-bfgs", max_iter=80)
theta = net.unflatten(found.solution)
turns = np.arange(8) * np.pi / 4
paths = problem.simulate(0.9 * np.stack([np.cos(turns), np.sin(turns)], axis=1), theta)[0]
names = ["position (m)", "velocity (m/s)", "force (N)"]
ax = lqrad.plotting.plot_policy(problem, theta, extent=(-1, 1, -1, 1), paths=paths, names=names)
