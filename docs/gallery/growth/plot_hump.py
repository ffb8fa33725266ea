"""
Stable, and yet it grows first
==============================

Eight cars in a row, each of which follows the one ahead by its distance and its speed. All
eigenvalues of A are well inside the unit circle, and in the end every disturbance dies out as
0.84^k. But first it grows from car to car, to fourteen times its size after 16 seconds: a jam from
nothing. Kreiss's constant, found without any powers, holds the peak from both sides.
"""

import numpy as np

import lqrad

cars = 8
ahead = np.eye(cars) - np.eye(cars, k=-1)  # less the car in front; the first follows a fixed speed
F = np.block([[np.zeros((cars, cars)), np.eye(cars)], [-1.0 * ahead, -0.7 * ahead]])
A = lqrad.discretise(F, np.zeros((2 * cars, 1)), dt=0.5).A
ax = lqrad.plotting.plot_powers(lqrad.growth.nonnormality(A, T=120))
