"""
A network learns the cycle of the sun
=====================================

A network with one hidden layer is trained to foretell the sunspot number of a year from the twelve
years before it. A hundred years are for training, the last fifty for validation (dashed). The
training loss falls below that of validation and goes on falling: what the network learns from there
on is the noise of those hundred years. The step shrinks along a cosine.
"""

import numpy as np

import lqrad

z = np.sqrt(lqrad.datasets.load("sunspots")[1][:, 0]) / 10
x, y = np.lib.stride_tricks.sliding_window_view(z[:-1], 12), z[12:, None]
data, checks = {"x": x[:100], "y": y[:100]}, {"x": x[-50:], "y": y[-50:]}
net = lqrad.mlp([12, 64, 1], loss="squared")
step = lqrad.nets.cosine_decay(3e-3, 300 * 4)
options = {"epochs": 300, "rng": 0, "step_size": step, "validation": checks}
ax = lqrad.sgd(net, net.initial(0), data, **options).plot()
