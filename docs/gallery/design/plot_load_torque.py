"""
A constant load, with and without integral action
=================================================

After two seconds a constant torque brakes a motor that should hold an angle of one radian. The
regulator without an integrator ends beside its target: only an error moves it, so an error has to
stay. The integrator adds up the error until the motor's torque equals the load, and the angle
returns. The price is a little more overshoot after the load appears.
"""

import numpy as np

import lqrad

A, B = [[0, 1], [0, -2]], [[0], [40]]  # angle (rad) and rate (rad/s); torque (N m)
sampled = lqrad.discretise(A, B, Q=np.diag([100, 1]), R=[[1]], dt=0.02)
plant, weights = sampled.plant(), (sampled.Q, sampled.R)
without = lqrad.lqr(plant, *weights, M=sampled.M, H=[[1, 0]])
integral = lqrad.lqi(plant, *weights, [[0.5]], M=sampled.M, H=[[1, 0]])
angle = np.zeros((200, 2))
for k, controller in enumerate([without, integral]):
    x = np.zeros(2)
    for t in range(200):
        angle[t, k] = x[0]
        load = 2.0 if t >= 100 else 0.0  # N m
        x = plant.A @ x + plant.B @ (controller.step(x, [1.0]) - load)
names = ["without integrator", "with integrator"]
ax = lqrad.plotting.plot_trajectory(angle, dt=plant.dt, names=names)
ax.set_ylabel("angle (rad)")
