"""
What a small error does to eigenvalues
======================================

The pseudospectra of eight cars in a row, each of which follows the one ahead: a contour 0.01
encloses all eigenvalues that an error of 0.01 in A can bring about. The contours of errors far below
one leave the unit circle. What a small error makes unstable behaves as if it were, for a while: the
powers of A have a hump.
"""

import numpy as np

import lqrad

cars = 8
ahead = np.eye(cars) - np.eye(cars, k=-1)  # less the car in front; the first follows a fixed speed
F = np.block([[np.zeros((cars, cars)), np.eye(cars)], [-1.0 * ahead, -0.7 * ahead]])
A = lqrad.discretise(F, np.zeros((2 * cars, 1)), dt=0.5).A
ax = lqrad.plotting.plot_pseudospectra(lqrad.growth.nonnormality(A, T=120))
