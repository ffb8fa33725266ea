"""
Descent against Riccati
=======================

Five methods of descent minimise the cost of a Boeing 747 that returns to level flight. None of them
knows of Riccati's equation; the gap is their distance to Riccati's cost. Plain gradients need
more than a thousand iterations, heavy ball and Nesterov some hundreds, conjugate gradients thirty.
Grey are two bounds of theory, from the condition number of the Hessian alone.
"""

import lqrad

jet = lqrad.systems.aircraft()
comparison = lqrad.compare(jet.problem(), jet.x0, jet.T)
ax = lqrad.plotting.plot_convergence(comparison)
