"""
A disk that the Nyquist curve stays out of
==========================================

A cart balances a pendulum. The Nyquist curve of its LQG loop goes round the point -1 once for the
unstable pole, and keeps clear of the shaded disk. Any change of the loop's gain and phase that
stays within the disk margin leaves the loop stable. The two dots on the axis are the gains at which
the loop would swing: multiplied by the factors beside them.
"""

import numpy as np

import lqrad
from lqrad import plotting

cart = lqrad.systems.inverted_pendulum()
plant = lqrad.StateSpace(cart.A, cart.B, [[1, 0, 0, 0], [0, 0, 1, 0]], dt=cart.dt)
controller = lqrad.lqg(plant, cart.Q, cart.R, W=1e-4 * np.eye(4), V=1e-6 * np.eye(2))
loop = controller.loop(plant)
ax = plotting.plot_nyquist(loop, lqrad.margins(loop))
