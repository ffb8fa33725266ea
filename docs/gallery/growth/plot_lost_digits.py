"""
The horizon at which no digit is left
=====================================

At the optimum the gradient is zero. Computed open loop, by a forward and a backward pass, it is
not: rounding errors grow forward in time and again backward. For a pendulum on a cart the error
grows as the square of the gradient's own growth, and from some 170 steps on it is as large as the
gradient. No step size helps: descent needs a feedback first, or a shorter horizon.
"""

import lqrad

cart = lqrad.systems.inverted_pendulum()
ax = lqrad.growth.lost_digits(cart.problem(), cart.x0, range(10, 301, 10)).plot()
