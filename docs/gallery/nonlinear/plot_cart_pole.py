"""
A pole swung up by pushing its cart
===================================

The pole hangs; the cart is pushed by at most 10 N. After four seconds the pole is upright, the cart
is back in its place, and everything is at rest. The force works at its limits in between. Iterative
LQR spends a hundred iterations on finding the way, and a dozen on all the digits.
"""

import lqrad

cart = lqrad.nonlinear.cart_pole_swingup(dt=0.1)
found = lqrad.ilqr(cart.problem, cart.x0, cart.T, bounds=cart.bounds)
figure = lqrad.plotting.plot_swingup(cart, found)
