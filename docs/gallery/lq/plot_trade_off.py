"""
What accuracy costs in effort
=============================

A quadrotor of 28 g flies back to its place, with the weight of its inputs changed over six decades.
Each dot is an optimal flight: its sum of weighted squares of the states against that of the inputs.
No controller whatever reaches a point below the curve. The dot of the default weights is marked.
"""

import matplotlib.pyplot as plt
import numpy as np

import lqrad

drone = lqrad.systems.quadrotor()
weights, points = np.geomspace(1e-3, 1e3, 25), []
for weight in weights:
    problem = lqrad.LQProblem(drone.A, drone.B, drone.Q, weight * drone.R)
    x, u = (flight := lqrad.riccati(problem, 100).rollout(drone.x0)).x, flight.u
    points.append([(u @ drone.R * u).sum(), (x @ drone.Q * x).sum()])
figure, ax = plt.subplots(layout="constrained")
ax.loglog(*np.transpose(points), ".-", color="black")
ax.loglog(*points[12], "o", color="black", markersize=10, markerfacecolor="none")
ax.annotate("default weights", points[12], xytext=(12, 8), textcoords="offset points")
ax.set(xlabel="effort: sum of u'Ru", ylabel="deviation: sum of x'Qx")
