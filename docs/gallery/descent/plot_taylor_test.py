"""
Is this gradient right?
=======================

A Taylor test moves by smaller and smaller steps h and looks at what the first-order expansion of
the cost leaves. With the right gradient of a pendulum's cost that falls as h squared. With a
gradient that is one per cent too large it falls as h only. The slope needs no tolerance: it is two
or one.
"""

import matplotlib.pyplot as plt
import numpy as np

import lqrad

pendulum = lqrad.nonlinear.pendulum_swingup()
objective = pendulum.problem.objective(pendulum.x0, 50)
u = np.sin(np.arange(50.0))[:, None]
figure, ax = plt.subplots(layout="constrained")
for label, factor, look in [("adjoint gradient", 1.0, "o-"), ("one per cent off", 1.01, "s--")]:
    test = lqrad.taylor_test(
        lambda z, c=factor: (
            objective.value_and_gradient(z)[0],
            c * objective.value_and_gradient(z)[1],
        ),
        u,
        rng=0,
    )
    ax.loglog(test.steps, test.remainders, look, label=f"{label}: order {test.order:.2f}")
ax.set(xlabel="step h", ylabel="remainder of the expansion")
ax.legend()
