"""
A quadrotor turns over
======================

It starts upside down and at rest, and has three seconds to be upright in the same place. Propellers
only push, so at first it cannot help but fall: it turns as fast as its thrust allows, and then climbs
back. Each bar is its body at that time, at a third of its size; the short line shows its upper side.
"""

import matplotlib.pyplot as plt
import numpy as np

import lqrad

drone = lqrad.nonlinear.planar_quadrotor()
found = lqrad.ilqr(drone.problem, drone.x0, drone.T, bounds=drone.bounds)
figure, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
t = drone.dt * np.arange(drone.T + 1)
ax.plot(t, found.x[:, 1], ":", color="0.5")
for k in range(0, drone.T + 1, 4):
    angle, centre = found.x[k, 2], np.array([t[k], found.x[k, 1]])
    arm = 0.08 * np.array([np.cos(angle), np.sin(angle)])
    ax.plot(*np.stack([centre - arm, centre + arm], axis=1), color="black", linewidth=2)
    ax.plot(*np.stack([centre, centre + 0.5 * arm[::-1] * [-1, 1]], axis=1), color="black")
ax.set(xlabel="time (s)", ylabel="height (m)", aspect="equal")
