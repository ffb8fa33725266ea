"""
A delay that is known, and one that is not
==========================================

The torque of a motor arrives 40 ms late, two samples. A regulator that was designed with the delay
keeps the inputs on their way as states, and turns the load without swinging. The regulator that was
designed for the motor without a delay swings on the late one: each correction arrives when the
error is another one already.
"""

import numpy as np

import lqrad

A, B = [[0, 1], [0, -2]], [[0], [40]]  # angle (rad) and rate (rad/s); torque (N m)
cost = {"Q": np.diag([100, 0.1]), "R": [[3]], "dt": 0.02}
angles = []
for known in (0.04, 0.0):
    model = lqrad.discretise(A, B, **cost, input_delay=known)
    plant, H = model.plant(), np.eye(1, len(model.A))
    controller = lqrad.lqr(plant, model.Q, model.R, M=model.M, H=H)
    late = 0 if known else 2
    run = lqrad.simulate_closed_loop(plant, controller, 100, reference=1.0, input_delay=late)
    angles.append(run.x[:, 0])
names = ["delay known", "delay not known"]
ax = lqrad.plotting.plot_trajectory(np.transpose(angles), dt=0.02, names=names)
ax.set_ylabel("angle (rad)")
