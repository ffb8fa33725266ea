"""
Remedies for growing gradients
==============================

A pendulum on a cart for four seconds, and what is left of the gap to the optimum after each remedy.
Plain gradient descent leaves it enormous. A feedback that is closed first, or a horizon cut into
pieces, reaches the optimum to the last digits. A discount converges, too, and to something else: the
diamond is its bias, which no iteration takes away.
"""

import lqrad

cart = lqrad.systems.inverted_pendulum()
study = lqrad.growth.cures(cart.problem(), cart.x0, 200, max_iter=500)
ax = lqrad.plotting.plot_cure_gaps(study)
