"""
Where a loop helps and where it harms
=====================================

The sensitivity S says by how much the loop reduces a disturbance at each frequency, T how much of
the sensors' noise reaches the output. Below the crossing S is far under one: slow disturbances
vanish, those of frequency zero entirely, since the controller integrates. Bode's integral allows
no gain for nothing: around the crossing S rises above one, and disturbances there are amplified.
"""

import numpy as np

import lqrad
from lqrad import plotting

A, B = [[0, 1], [0, -2]], [[0], [40]]  # a motor: angle (rad) and rate (rad/s); torque (N m)
sampled = lqrad.discretise(A, B, Q=np.diag([100, 1]), R=[[1]], dt=0.02, input_delay=0.012)
plant = sampled.plant(C=[[1, 0]])
noise = {"W": 1e-4 * np.eye(3), "V": [[1e-5]]}
controller = lqrad.lqg(plant, sampled.Q, sampled.R, M=sampled.M, Q_i=[[0.1]], **noise)
ax = plotting.plot_sensitivities(controller.loop(plant))
