"""
Three gradients of one feedback
===============================

The feedback gain K of a pendulum on a cart is found by descent on the mean cost, from the gain of
another design. The plain gradient creeps, the natural one is faster, and the Gauss-Newton step is
one of policy iteration for Riccati's equation: it is there after five. The cost is not convex in
K, and yet all of them reach the one optimum.
"""

import lqrad

cart = lqrad.systems.inverted_pendulum()
problem = cart.problem()
start = lqrad.dlqr(cart.A, cart.B, cart.Q, 100 * cart.R)[0]
methods = ["gradient", "natural", "gauss-newton"]
runs = [lqrad.policy_gradient(problem, start, method=method, max_iter=700) for method in methods]
ax = lqrad.plot(runs, names=methods)
