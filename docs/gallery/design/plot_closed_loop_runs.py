"""
Five hundred noisy flights
==========================

A Boeing 747 returns to level flight in gusts, and its pitch angle and speed are measured with
noise. An LQG controller estimates the four states and moves elevator and thrust. Each line is the
median of 500 runs, each band holds nine tenths of them. The bands do not shrink to nothing: their
width at the end is what the gusts cost however long one waits.
"""

import numpy as np

import lqrad

jet = lqrad.systems.aircraft()
C = [[1, 0, 0, 0], [0, 0, 0, 1]]  # forward speed (ft/s), pitch angle (crad)
plant = lqrad.StateSpace(jet.A, jet.B, C, dt=jet.dt)
W, V = np.diag([0.3, 0.3, 0.03, 0.0]) ** 2, np.diag([1.0, 0.2]) ** 2
controller = lqrad.lqg(plant, jet.Q, jet.R, W, V)
loop = lqrad.simulate_closed_loop(plant, controller, 80, x0=jet.x0, W=W, V=V, runs=500, rng=0)
ax = loop.plot(rows=np.array(C), names=["forward speed (ft/s)", "pitch angle (crad)"])
ax.set_ylabel("deviation from level flight")
