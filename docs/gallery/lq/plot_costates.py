"""
The costate is the slope of the value function
==============================================

Lines: Riccati's P x along the optimum, the gradient of the cost that is still to come. Circles: the
costates p of a backward pass along the inputs that conjugate gradients found, without any P. The
multiplier of the dynamics, what backpropagation carries, and the slope of the value function are one
thing. The plant is a row of six masses between springs, pushed at one end.
"""

import lqrad

chain = lqrad.systems.mass_spring_chain(6)
problem, T = chain.problem(), 60
descent = lqrad.descend(problem.objective(chain.x0, T), method="conjugate-gradient", tol=1e-10)
p = problem.adjoint(problem.simulate(chain.x0, descent.solution), descent.solution)
solution = lqrad.riccati(problem, T)
x = solution.rollout(chain.x0).x
Px = (solution.P[1:] @ x[1:, :, None])[..., 0]
ax = lqrad.plotting.plot_costates(p[:, :3], Px[:, :3], dt=chain.dt, names=chain.state_names[:3])
