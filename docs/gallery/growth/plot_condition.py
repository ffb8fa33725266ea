"""
Where descent is possible
=========================

The condition number of a cart's Hessian over the horizon and the spectral radius, to which A is
scaled. While A is stable it levels off. Beyond a radius of one it grows as rho^2T, and past the
solid line it is above 10^16: there no descent on open-loop gradients has a digit, whatever its
method.
"""

import numpy as np

import lqrad

cart = lqrad.systems.double_integrator()
radii, horizons = np.linspace(0.8, 1.4, 13), [10, 15, 20, 30, 40, 60, 80, 120]
study = lqrad.growth.conditioning(cart.problem(), radii, horizons, max_iter=1)
ax = lqrad.plotting.plot_condition(study)
