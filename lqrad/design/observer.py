"""What is known of a state that is not measured: a prediction, corrected by what is.

    x_bar[t]   = x_hat[t] + L (y[t] - C x_hat[t])          correct
    x_hat[t+1] = A x_bar[t] + B u[t]                        predict

The gain L is that of the correction; a predictor x_hat[t+1] = A x_hat + B u + K (y - C x_hat), the
form of `dlqe`, has K = A L.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_shape, frozen_array
from lqrad.copies import ReadOnly
from lqrad.problems.statespace import StateSpace
from lqrad.solvers.dare import dlqe


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Observer(ReadOnly):
    """A model of a plant, and the gain by which measurements correct it.

    Parameters
    ----------
    A : (n, n)
    B : (n, m)
    C : (ny, n)
        What is measured: y = C x.
    L : (n, ny)
        Gain of the correction. With C = L = I the state itself is measured.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
        If an array does not fit; names it.

    Examples
    --------
    >>> observer = Observer([[1.0]], [[1.0]], [[1.0]], [[0.5]])
    >>> x_bar = observer.correct(np.array([0.0]), np.array([2.0]))
    >>> x_bar, observer.predict(x_bar, np.array([3.0]))
    (array([1.]), array([4.]))
    """

    A: Array
    B: Array
    C: Array
    L: Array

    def __init__(self, A: ArrayLike, B: ArrayLike, C: ArrayLike, L: ArrayLike) -> None:
        model = StateSpace(A, B, C, dt=1.0)
        L = frozen_array("L", L)
        why = f"to match A {model.A.shape} and C {model.C.shape}"
        check_shape("L", L, (model.n, model.ny), why, symbols="(n, ny)")
        for name, value in {"A": model.A, "B": model.B, "C": model.C, "L": L}.items():
            object.__setattr__(self, name, value)  # the way into a frozen dataclass

    @classmethod
    def kalman(cls, plant: StateSpace, W: ArrayLike, V: ArrayLike) -> Observer:
        """The stationary Kalman filter of a plant in discrete time.

        Parameters
        ----------
        plant : StateSpace
        W : (n, n)
            Covariance of what disturbs the state at each step.
        V : (ny, ny)
            Covariance of the sensors' noise, positive definite.

        Returns
        -------
        Observer
            With L = P C'(C P C' + V)^-1, where P is the covariance of x[t] - x_hat[t].

        Raises
        ------
        NotStabilizableError, NotConvexError, ShapeError
            As `dlqe`.

        Examples
        --------
        >>> plant = StateSpace([[1.0]], [[1.0]], dt=1.0)
        >>> Observer.kalman(plant, [[1.0]], [[1.0]]).L.round(4)      # one over the golden ratio
        array([[0.618]])
        """
        _, P, _ = dlqe(plant.A, plant.C, W, V)
        innovation = plant.C @ P @ plant.C.T + frozen_array("V", V)
        return cls(plant.A, plant.B, plant.C, np.linalg.solve(innovation, plant.C @ P).T)

    @property
    def n(self) -> int:
        """Dimension of the state."""
        return len(self.A)

    @property
    def ny(self) -> int:
        """How many outputs are measured."""
        return len(self.C)

    def __repr__(self) -> str:
        return f"Observer(n={self.n}, m={self.B.shape[1]}, ny={self.ny})"

    def correct(self, x_hat: Array, y: Array) -> Array:
        """Return x_bar = x_hat + L (y - C x_hat), for x_hat (..., n) and y (..., ny)."""
        return np.asarray(x_hat + (y - x_hat @ self.C.T) @ self.L.T)

    def predict(self, x_bar: Array, u: Array) -> Array:
        """Return A x_bar + B u, for x_bar (..., n) and u (..., m)."""
        return np.asarray(x_bar @ self.A.T + u @ self.B.T)
