"""Observers: estimates of a state that is not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve

from lqrad.arguments import (
    Array,
    check_finite,
    check_shape,
    frozen_array,
    real_array,
    shape_message,
)
from lqrad.copies import Fixed
from lqrad.design.sampling import Sampled
from lqrad.design.statespace import StateSpace
from lqrad.errors import ArgumentError, ShapeError
from lqrad.smoothing.duality import dlqe


class Observer(Fixed):
    """A model of a plant, and the gain L by which measurements correct its state.

        x_bar[t]   = x_hat[t] + L (y[t] - C x_hat[t] - D u[t])     correct
        x_hat[t+1] = A x_bar[t] + B u[t]                            predict

    The predicting form x_hat[t+1] = A x_hat + B u + K (y - C x_hat), as of `dlqe`, has K = A L.

    Parameters
    ----------
    A : (n, n)
    B : (n, m)
    C : (ny, n)
        What is measured: y = C x + D u.
    L : (n, ny)
        Gain of the correction. With C = L = I the state itself is measured.
    D : (ny, m), optional
        Feedthrough of the input that is applied when y is measured; zero when not given.

    See Also
    --------
    Controller : an observer with its feedback
    kalman_filter : the filter of a series that has been measured

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
    D: Array

    def __init__(
        self,
        A: ArrayLike,
        B: ArrayLike,
        C: ArrayLike,
        L: ArrayLike,
        *,
        D: ArrayLike | None = None,
    ) -> None:
        model = StateSpace(A, B, C, D, dt=1.0)
        L = frozen_array("L", L)
        why = f"to match A {model.A.shape} and C {model.C.shape}"
        check_shape("L", L, (model.n, model.ny), why, symbols="(n, ny)")
        self._set(A=model.A, B=model.B, C=model.C, D=model.D, L=L)

    @classmethod
    def kalman(cls, plant: StateSpace, W: ArrayLike, V: ArrayLike) -> Observer:
        """The stationary Kalman filter of a plant in discrete time.

        Parameters
        ----------
        plant : StateSpace, or what `StateSpace.of` takes
            With a feedthrough D, `correct` needs the input too.
        W, V : (n, n), (ny, ny)
            Covariances of what disturbs the state at each step and of the sensors' noise, V definite.

        Returns
        -------
        Observer
            With L = P C'(C P C' + V)^-1, where P is the covariance of x[t] - x_hat[t].

        See Also
        --------
        dlqe : the filter in its predicting form; says what is raised

        Examples
        --------
        >>> plant = StateSpace([[1.0]], [[1.0]], dt=1.0)
        >>> Observer.kalman(plant, [[1.0]], [[1.0]]).L.round(4)      # one over the golden ratio
        array([[0.618]])
        """
        plant = discrete_plant(plant)
        _, P, _ = dlqe(plant.A, plant.C, W, V)
        with np.errstate(over="ignore", invalid="ignore"):
            innovation = plant.C @ P @ plant.C.T + frozen_array("V", V)
        check_finite("C P C' + V", innovation, computed=True)
        # Cholesky factors, unlike those of Gauss, are the same in all units of the outputs.
        L = cho_solve(cho_factor(innovation), plant.C @ P).T
        return cls(plant.A, plant.B, plant.C, L, D=plant.D)

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

    @np.errstate(over="ignore", invalid="ignore")
    def correct(self, x_hat: ArrayLike, y: ArrayLike, u: ArrayLike | None = None) -> Array:
        """Return x_bar = x_hat + L (y - C x_hat - D u), for x_hat (..., n), y (..., ny), u (..., m).

        The input u that is applied when y is measured is needed where there is a feedthrough D.
        """
        x_hat, y = signal("x_hat", x_hat, self.n), signal("y", y, self.ny)
        innovation = y - x_hat @ self.C.T
        if self.D.any():
            if u is None:
                raise ArgumentError(
                    "u is not given, and what is measured contains D u",
                    "pass the input that is applied when y is measured: correct(x_hat, y, u)",
                )
            innovation = innovation - signal("u", u, self.B.shape[1]) @ self.D.T
        return _finite("x_bar", x_hat + innovation @ self.L.T)

    @np.errstate(over="ignore", invalid="ignore")
    def predict(self, x_bar: ArrayLike, u: ArrayLike) -> Array:
        """Return A x_bar + B u, for x_bar (..., n) and u (..., m)."""
        x_bar, u = signal("x_bar", x_bar, self.n), signal("u", u, self.B.shape[1])
        return _finite("x_hat", x_bar @ self.A.T + u @ self.B.T)


def _finite(name: str, found: Array) -> Array:
    check_finite(f"{name} of the observer", found, computed=True)
    return np.asarray(found)


def signal(name: str, value: ArrayLike, width: int) -> Array:
    """Return finite numbers (..., width); a number stands for (1,)."""
    array = vectors(name, value, width)
    check_finite(name, array)
    return array


def vectors(name: str, value: ArrayLike, width: int) -> Array:
    """Return the same, finite or not."""
    array = real_array(name, value)
    if array.ndim == 0 and width == 1:
        array = array[None]
    if array.ndim == 0 or array.shape[-1] != width:
        raise ShapeError(shape_message(name, array.shape, f"(..., {width})", "", (width,)))
    return array


def discrete_plant(plant: Any, m: int | None = None) -> StateSpace:
    """Return a plant, of whatever kind `StateSpace.of` takes, or sampled by `discretise`.

    Raises
    ------
    ArgumentError, ShapeError
        Unless it is in discrete time, with m inputs.
    """
    own = plant.plant() if isinstance(plant, Sampled) else StateSpace.of(plant)
    if not own.dt:
        raise ArgumentError(
            "plant is in continuous time (dt = 0), expected discrete time; sample it first, "
            "by lqrad.discretise"
        )
    if m is not None and own.m != m:
        raise ShapeError(f"plant has {own.m} inputs, expected {m}: as many as the controller's")
    return own
