"""
Five methods on one problem
===========================

Twenty masses between springs are brought to rest by a force at one end: forty states, two hundred
inputs. Every method sees the same adjoint gradients. Thin is what each has proven of its own gap
on the way, without the solution: the bound is above the curve, and falls with it. Conjugate
gradients use the last directions best.
"""

import lqrad

chain = lqrad.systems.mass_spring_chain(20)
objective = chain.problem().objective(chain.x0, 200)
methods = ["gradient", "heavy-ball", "nesterov", "conjugate-gradient", "l-bfgs"]
descents = [lqrad.descend(objective, method=method, max_iter=120) for method in methods]
ax = lqrad.plot(descents, names=methods)
