"""
A gradient that explodes
========================

A pendulum on a cart, upside down, for eight seconds without control: the norm of the gradient of
its last state in each input. Early inputs weigh more by eighteen decades than late ones, and each step
back in time adds 12 %: that is the largest eigenvalue of A, as the dashed line predicts. To the left
of the vertical line rounding errors have grown as large as the gradient.
"""

import lqrad

cart = lqrad.systems.inverted_pendulum()
ax = lqrad.gradient_growth(cart.A, cart.B, T=400).plot()
