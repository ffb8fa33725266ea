"""
Energy that an integrator makes
===============================

A pendulum without friction swings for 100 s in steps of 0.1 s, and its energy should stay as it is.
Explicit Euler's method adds energy at each step until the pendulum turns over; Runge and Kutta's
takes a little away. The implicit midpoint rule keeps it, but for a wobble that does not grow. The
error is drawn relative to the energy of the start.
"""

import matplotlib.pyplot as plt
import numpy as np

from lqrad import nonlinear


def f(x, u):  # angle from below (rad) and rate (rad/s); 1 m long
    return np.stack([x[..., 1], -9.81 * np.sin(x[..., 0])], axis=-1)


figure, ax = plt.subplots(layout="constrained")
looks = {nonlinear.euler: ":", nonlinear.rk4: "--", nonlinear.implicit_midpoint: "-"}
for method, look in looks.items():
    step, x = method(f, 0.1), [np.array([1.0, 0.0])]
    for _ in range(1000):
        x.append(step(x[-1], np.zeros(1), 0))
    angle, rate = np.transpose(x)
    energy = rate**2 / 2 - 9.81 * np.cos(angle) + 9.81
    ax.semilogy(
        np.arange(1, 1001) / 10, abs(energy / energy[0] - 1)[1:], look, label=method.__name__
    )
ax.set(xlabel="time (s)", ylabel="relative error of the energy")
ax.legend()
