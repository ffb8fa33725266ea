"""
What a limit may cost
=====================

A trolley that moves one metre should not be faster than 0.5 m/s. Each step beyond that has a price for
each m/s of excess. From a certain price on, which the plan with a hard limit tells, the limit is kept as
if it were hard; at half of it, only a part of the way is driven too fast.
"""

import numpy as np

import lqrad
from lqrad.design import Limit

trolley = lqrad.systems.double_integrator()  # position (m) and velocity (m/s); force (N)
problem = lqrad.LQProblem(trolley.A, trolley.B, np.diag([10, 0.0]), [[0.02]])
speed = {"C": [[0.0, 1.0]], "low": -0.5, "high": 0.5, "name": "speed"}
hard = lqrad.mpc(problem, 40, input_bounds=(-1, 1), rows=[Limit(**speed)]).plan([-1.0, 0.0])
least = hard.rows.least_price[hard.rows.names.index("speed")]
soft = Limit(**speed, price=0.5 * least)
plan = lqrad.mpc(problem, 40, input_bounds=(-1, 1), rows=[soft]).plan([-1.0, 0.0])
plan.plot(trolley)
