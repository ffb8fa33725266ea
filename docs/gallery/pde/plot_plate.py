"""
A heated plate takes the shape that it is asked for
===================================================

An aluminium plate of one square metre, in 1600 cells, over a grid of 25 heaters; its edges are held
cold. The temperature should have a ridge across the middle. This is what it is after 1000 s of the
heating that conjugate gradients found, with adjoint gradients of 5000 inputs. Riccati's matrix would
have 2.5 million entries at each of 200 times, and is not needed.
"""

import lqrad

plate = lqrad.heat_plate((40, 40))
problem = plate.problem()
objective = problem.objective(plate.x0, plate.T)
descent = lqrad.descend(objective, method="conjugate-gradient", max_iter=15)
x = problem.simulate(plate.x0, descent.solution)
ax = lqrad.plotting.plot_field(plate, x[-1])
