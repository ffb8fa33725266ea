"""
Few, short pushes
=================

A cart comes home from one metre away. With the usual quadratic cost the force is never zero. A
price on the absolute force, `l1`, makes most inputs exactly zero: one push, a coast, and one push
to brake. The same adjoint gradients do both; only a soft threshold follows each step.
"""

import numpy as np

import lqrad

cart = lqrad.systems.double_integrator()
problem = lqrad.LQProblem(cart.A, cart.B, np.zeros((2, 2)), [[0.1]], 100 * np.eye(2))
objective = problem.objective(cart.x0, 50)
dense = lqrad.descend(objective, method="l-bfgs").solution
price = lqrad.descent.l1(0.15)
sparse = lqrad.descend(objective, regulariser=price, max_iter=20000, method="nesterov").solution
names = ["quadratic", "with a price on |u|"]
ax = lqrad.plotting.plot_trajectory(np.hstack([dense, sparse]), dt=cart.dt, names=names, symbol="u")
ax.set_ylabel("force (N)")
