"""
Steps that shrink
=================

The same network, the same data, and three ways to choose the step of plain stochastic gradients:
constant and small, constant and large, and falling along a cosine. The small one is slow. The large
one is fast and then jitters, since each minibatch pulls elsewhere. The falling one does both in
turn and ends lowest.
"""

import numpy as np

import lqrad

z = np.sqrt(lqrad.datasets.load("sunspots")[1][:, 0]) / 10
x, y = np.lib.stride_tricks.sliding_window_view(z[:-1], 12), z[12:, None]
net = lqrad.mlp([12, 32, 1], loss="squared")
options = {"epochs": 60, "rng": 0, "batch_size": 16, "method": "plain"}
cosine = lqrad.nets.cosine_decay(0.2, 60 * 19)
steps = {"constant, 0.005": 0.005, "constant, 0.2": 0.2, "cosine from 0.2": cosine}
runs = [
    lqrad.sgd(net, net.initial(0), {"x": x, "y": y}, step_size=s, **options) for s in steps.values()
]
ax = lqrad.plot(runs, names=list(steps))
