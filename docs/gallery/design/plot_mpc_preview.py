"""
A step that is seen ahead
=========================

A trolley is to be one metre further from the fourth second on. Told of it when it comes, the
receding horizon is late; told of the next 40 steps, it starts before, and is half way when the step
comes. Of the error and of the force together, the run that sees ahead costs less than half.
"""

import numpy as np

import lqrad

trolley = lqrad.systems.double_integrator()  # position (m) and velocity (m/s); force (N)
problem = lqrad.LQProblem(trolley.A, trolley.B, np.diag([10, 1.0]), [[0.02]])
r, T, runs = np.where(np.arange(120) * trolley.dt < 4, 0.0, 1.0), 40, []
for ahead in (T + 1, 1):
    planner, x = lqrad.mpc(problem, T, input_bounds=(-1, 1), H=[[1, 0]]), [np.zeros(2)]
    for t in range(80):
        u = planner.step(x[-1], r[t : t + ahead])
        x.append(problem.A @ x[-1] + problem.B @ u)
    runs.append(np.array(x)[:, 0])
position, names = (
    np.stack([*runs, r[:81]], axis=1),
    ["seen ahead", "told when it comes", "reference"],
)
ax = lqrad.plotting.plot_trajectory(position, dt=trolley.dt, names=names)
ax.set(ylabel="position (m)")
