"""
A controller at one glance
==========================

A cart with a pendulum moves by half a metre; only the position and the angle are measured, and the
force is limited. The picture of a design shows what one asks first: the tracked position beside its
reference, the Nyquist curve with the disk that it stays out of, the force beside its limits, and
the sensitivities. The position first goes the wrong way: the cart has to get under the pendulum.
"""

import numpy as np

import lqrad

cart = lqrad.systems.inverted_pendulum()
plant = lqrad.StateSpace(cart.A, cart.B, [[1, 0, 0, 0], [0, 0, 1, 0]], dt=cart.dt)
design = lqrad.design_controller(
    plant,
    cart.Q,
    cart.R,
    W=np.diag([1e-8, 1e-6, 1e-8, 1e-6]),
    V=np.diag([1e-6, 1e-6]),
    Q_i=[[0.01]],
    H=[[1, 0, 0, 0]],
    input_bounds=(-4, 4),
    reference=[0.5],
)
figure = design.plot(cart)
