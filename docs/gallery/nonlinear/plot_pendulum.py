"""
A swing-up that has to take a run
=================================

A torque of 4 N m is to turn a pendulum upright that takes 9.8 N m to be held level. Iterative LQR,
within the limits, finds what a child on a swing knows: go back first, and then over. The path is
drawn by angle and rate, a dot for each twentieth of a second; it ends upright and at rest.
"""

import lqrad

pendulum = lqrad.nonlinear.pendulum_swingup()
found = lqrad.ilqr(pendulum.problem, pendulum.x0, pendulum.T, bounds=pendulum.bounds)
ax = lqrad.plotting.plot_portrait(pendulum, found.x)
