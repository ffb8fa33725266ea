"""
The most that a weak motor can do
=================================

A cart of 1 kg should be one metre further on after three seconds, with a force of at most 0.5 N.
Projected descent finds the optimal inputs within the limits: the force stays at its limit, changes
over, and brakes at the other limit. It is not the free optimum, clipped: what is lost at the limits
is made up for in between.
"""

import numpy as np

import lqrad

cart = lqrad.systems.double_integrator()
problem = lqrad.LQProblem(cart.A, cart.B, np.zeros((2, 2)), [[0.01]], 100 * np.eye(2))
objective, options = problem.objective(cart.x0, 30), {"method": "nesterov", "max_iter": 20000}
free = lqrad.descend(objective, **options).solution
limited = lqrad.descend(objective, bounds=(-0.5, 0.5), **options).solution
z = np.hstack([free, limited])
names = ["without limits", "limits of 0.5 N"]
ax = lqrad.plotting.plot_trajectory(z, dt=cart.dt, names=names, symbol="u")
ax.set_ylabel("force (N)")
