"""
Where the poles go as control gets cheap
========================================

Six masses between springs swing for a long time: their poles (crosses) lie close to the unit
circle. One force at the end of the row is to quieten them, and its weight falls from 10^4 to 10^-4.
The poles of the slow swings move far inwards, those of the fastest hardly: the force costs less
than what it gains only for swings that last. None ever leaves the circle: an LQ regulator is stable
whatever its weights are.
"""

import matplotlib.pyplot as plt
import numpy as np

import lqrad

chain = lqrad.systems.mass_spring_chain(6)
exponents = np.linspace(4, -4, 100)
poles = [lqrad.dlqr(chain.A, chain.B, chain.Q, 10**e * chain.R)[2] for e in exponents]
figure, ax = plt.subplots(layout="constrained")
circle = np.exp(2j * np.pi * np.linspace(0, 1, 200))
ax.plot(circle.real, circle.imag, "--", color="0.6", label="unit circle")
dots = ax.scatter(np.real(poles), np.imag(poles), c=exponents.repeat(12), s=8, label="closed loop")
free = np.linalg.eigvals(chain.A)
ax.plot(free.real, free.imag, "kx", markersize=8, label="no control")
figure.colorbar(dots, label="weight of the force, power of ten")
ax.set(xlabel="Re z", ylabel="Im z", aspect="equal")
ax.legend(loc=(0.15, 0.62), fontsize="small")
