"""
One problem, five spectral radii
================================

Gradient descent on a cart whose A is scaled to a spectral radius from 0.5 to 1.3, over 60 steps.
With 0.5 it is finished in two iterations, with 0.9 in fifteen, with 1.0 in eight hundred. Above
one it hardly moves: the condition number of the Hessian grows as a power of the radius, and the
steps have to be as short as its largest eigenvalue demands.
"""

import matplotlib.pyplot as plt
import numpy as np

import lqrad

cart = lqrad.systems.double_integrator()
figure, ax = plt.subplots(layout="constrained")
radii, looks = [0.5, 0.9, 1.0, 1.1, 1.3], ["-", "--", "-.", ":", (0, (7, 2))]
for k, (rho, look) in enumerate(zip(radii, looks, strict=True)):
    problem = lqrad.LQProblem(rho * cart.A, cart.B, cart.Q, cart.R)
    found = lqrad.descend(problem.objective(cart.x0, 60), max_iter=1000, tol=1e-12)
    best = lqrad.riccati(problem, 60).rollout(cart.x0).cost
    gap = np.maximum((found.history.cost - best) / best, 1e-14)
    ax.loglog(
        np.arange(len(gap)) + 1,
        gap,
        linestyle=look,
        color=plt.cm.viridis(k / 5),
        label=f"radius {rho}",
    )
ax.set(xlabel="iteration + 1", ylabel="relative gap  (J - J*) / J*")
ax.legend(loc=(0.42, 0.03))
