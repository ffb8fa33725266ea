"""
An aircraft is brought back to level flight
===========================================

A Boeing 747 flies ten feet a second too fast, with its nose up. The optimal elevator and thrust bring
all four deviations back to zero within forty seconds. Left to itself the aircraft would exchange
speed for height and back for many minutes: that is the phugoid, of 93 s.
"""

import lqrad

jet = lqrad.systems.aircraft()
optimum = lqrad.riccati(jet.problem(), jet.T).rollout(jet.x0)
figure = optimum.plot(jet)
