"""
What the filter did not foresee
===============================

Each year the filter predicts the Nile's flow from all the years before. The innovations are what
came instead, in units of the standard deviation that the filter had announced. Those of a right
model are independent, and one in twenty lies outside of the dashed lines. From 1899 on many are
negative in a row: a level that drifts follows a fall too slowly.
"""

import lqrad

t, y = lqrad.datasets.load("nile")
model = lqrad.SmoothingProblem([[1]], [[1]], W=[[1469]], V=[[15099]], m0=[1100], P0=[[1e5]])
ax = lqrad.kalman_filter(model, y).plot()
ax.set_xlabel(f"years since {t[0]:.0f}")
