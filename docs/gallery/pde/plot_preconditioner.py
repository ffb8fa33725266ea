"""
Sixty directions of 1500
========================

A heated plate has 1500 unknown inputs, and its Hessian has few large eigenvalues: heat is smooth.
Sixty eigenvectors, found by Lanczos, make a change of variables after which conjugate gradients
need a third of the iterations. Both see the same cost; the curves are its distance from the lowest,
and thin is what each has proven of it.
"""

import lqrad

plate = lqrad.heat_plate((16, 16), input_weight=0.01, T=60)
problem = plate.problem()
objective = problem.objective(plate.x0, plate.T)
factor = lqrad.pde.low_rank(objective, problem.R, rank=60)
options = {"method": "conjugate-gradient", "max_iter": 200, "tol": 1e-10}
plain = lqrad.descend(objective, **options)
better = lqrad.descend(factor.precondition(objective), **options)
ax = lqrad.plot([plain, better], names=["plain", "60 directions"])
