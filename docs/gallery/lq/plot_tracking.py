"""
A path that is known beforehand
===============================

A cart of 1 kg follows a path with a step at five seconds. The optimal controller knows the whole
path: it starts before the step and shares the error on both sides of it. A regulator that learns of
the step when it comes can only run after it. The difference is what a preview is worth.
"""

import numpy as np

import lqrad

cart = lqrad.systems.double_integrator()  # position (m) and velocity (m/s); force (N)
path = np.zeros((101, 2))
path[50:, 0] = 1.0
Q, R, x0 = np.diag([10.0, 0.0]), [[1.0]], np.zeros(2)
problem = lqrad.LQProblem.tracking(cart.A, cart.B, Q, R, Q, path)
known = lqrad.riccati(problem, 100).rollout(x0).x[:, 0]
plant = lqrad.StateSpace(cart.A, cart.B, dt=cart.dt)
regulator = lqrad.lqr(plant, Q, R, H=[[1, 0]])
after = lqrad.simulate_closed_loop(plant, regulator, 100, reference=path[:100, :1]).x[:, 0]
z, names = np.stack([known, after, path[:, 0]], axis=1), ["path known", "path not known", "path"]
ax = lqrad.plotting.plot_trajectory(z, dt=cart.dt, names=names)
ax.set_ylabel("position (m)")
