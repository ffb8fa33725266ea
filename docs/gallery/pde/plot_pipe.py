"""
Heat that the stream takes along
================================

Water flows through a pipe from left to right, over four heaters; what flows in is cold. The whole
pipe should be one kelvin warmer. Beside its inlet it cannot be, and the first heater makes up for
that. Between 60 and 100 s nothing changes: the best that lasts is held as long as there is time, and
only near the end is it left, since nothing is counted after 200 s.
"""

import lqrad

pipe = lqrad.pde.advection_diffusion(100, velocity=0.004)
problem = pipe.problem()
objective = problem.objective(pipe.x0, pipe.T)
descent = lqrad.descend(objective, method="conjugate-gradient", max_iter=300)
x = problem.simulate(pipe.x0, descent.solution)[[20, 60, 100, 200]]
names = ["after 20 s", "60 s", "100 s", "200 s"]
ax = lqrad.plotting.plot_trajectory(x.T, dt=0.01, names=names)
ax.set(xlabel="place along the pipe (m)", ylabel="temperature (K)")
