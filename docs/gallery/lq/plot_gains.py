"""
Gains are constant until the end comes near
===========================================

The four entries of the feedback gain of a pendulum on a cart, over a horizon of four seconds. The
Riccati recursion starts at the end and runs backward. Far from the end the gains do not change any
more: they are those of the regulator for an endless horizon, which `lqrad.dlqr` gives at once. Only
the last second knows that it is the last.
"""

import lqrad

cart = lqrad.systems.inverted_pendulum()
solution = lqrad.riccati(cart.problem(), T=200)
ax = solution.plot(dt=cart.dt)
