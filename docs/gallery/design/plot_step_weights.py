"""
What the weight of the input buys
=================================

A motor turns a load to an angle of one radian, with three weights R of its torque. A small R gives
a fast answer and asks for a large torque; a large R gives a slow one. None of them overshoots by
more than a few per cent: the weight chooses the speed, and Riccati's equation chooses the damping.
"""

import numpy as np

import lqrad

A, B = [[0, 1], [0, -2]], [[0], [40]]  # angle (rad) and rate (rad/s); torque (N m)
angles = []
for R in (0.1, 10, 1000):
    sampled = lqrad.discretise(A, B, Q=[[100, 0], [0, 0]], R=[[R]], dt=0.02)
    plant = sampled.plant(C=[[1, 0]])
    controller = lqrad.lqr(plant, sampled.Q, sampled.R, M=sampled.M, H=[[1, 0]])
    response = lqrad.design.step_response(controller.closed_loop(plant), T=75)
    angles.append(response.y[:, 0, 0])
names = ["R = 0.1", "R = 10", "R = 1000"]
ax = lqrad.plotting.plot_trajectory(np.transpose(angles), dt=plant.dt, names=names)
ax.set_ylabel("angle (rad)")
