"""
A trolley that may not touch the wall
=====================================

A trolley moves one metre, to a place just before a wall, and its force is limited to 1 N. The
receding horizon plans 40 steps ahead, brakes in time, and stops before the wall. The regulator with
the same weights, its force clipped to the same limits, does not know of the wall: it still
accelerates when it should brake, and runs into it.
"""

import numpy as np

import lqrad

trolley = lqrad.systems.double_integrator()  # position (m) and velocity (m/s); force (N)
problem = lqrad.LQProblem(trolley.A, trolley.B, np.diag([10, 0.0]), [[0.02]])
plant = lqrad.StateSpace(trolley.A, trolley.B, dt=trolley.dt)
wall = {"input_bounds": (-1, 1), "state_bounds": ([-np.inf, -np.inf], [1.02, np.inf])}
planned = lqrad.mpc(problem, 40, H=[[1, 0]], **wall)
clipped = lqrad.lqr(plant, problem.Q, problem.R, H=[[1, 0]], input_bounds=(-1, 1))
runs = [lqrad.simulate_closed_loop(plant, c, 60, reference=1.0) for c in (planned, clipped)]
position = np.stack([run.x[:, 0] for run in runs], axis=1)
names = ["planned, wall known", "regulator, clipped"]
ax = lqrad.plotting.plot_trajectory(position, dt=plant.dt, names=names)
ax.axhspan(1.02, 1.4, color="0.85", zorder=0)
ax.text(0.1, 1.06, "wall")
ax.set(ylabel="position (m)", ylim=(-0.05, 1.4))
