"""Kalman smoothing as an optimal-control problem: the noise is the input, the misfit is the cost.

The most likely states, given y, are also the conditional means, and the inverse of the Hessian of the
cost J of `SmoothingProblem` is their covariance. Its gradient is found as for every control problem:
one pass forward for the states, one pass backward for the costates.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    check_choice,
    check_count,
    check_finite,
    check_generator,
    check_room,
    check_shape,
    real_array,
    shape_message,
)
from lqrad.copies import Fixed
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, NonFiniteError, ShapeError
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.stages import inner, substitute, times
from lqrad.smoothing.arrays import (
    ALL,
    Observations,
    Whitened,
    cholesky_factor,
    close_gaps,
    covariance_root,
    largest,
    model_arrays,
    root_of_two,
    state_variances,
)


class Balanced(NamedTuple):
    """A model of x / state (n,) and y / output (ny,), whose noises are of order one; or b of them.

    These units are powers of two, so that nothing is rounded: whatever units a model comes in, this is
    the same model to the last bit. What is computed in its units, and the decisions that are taken on
    the way, do not depend on those of the user.
    """

    problem: SmoothingProblem
    state: Array
    output: Array

    def log_volume(self, seen: NDArray[np.bool_]) -> Array:
        """The balanced log-likelihoods (...) minus those in the user's units.

        The density of y has the unit of 1/y for each entry seen (..., T+1, ny); the diffuse one is
        multiplied by the square root of a variance for each state.
        """
        entries = np.ones(seen.shape[-2]) @ seen  # which is six times as fast as a sum of booleans
        volume = (entries * np.log(self.output)).sum(axis=-1)
        if self.problem.P0 is None:
            volume = volume - np.log(self.state).sum(axis=-1)
        return np.asarray(volume)


class SmoothingProblem(Fixed):
    """A linear-Gaussian model of a series, x[t+1] = A x[t] + c + w[t] and y[t] = C x[t] + d + v[t].

    With x[0] ~ N(m0, P0), w[t] ~ N(0, W) and v[t] ~ N(0, V) the smoothed states minimise

        J = 1/2 |x[0] - m0|^2_P0 + 1/2 sum_{t<T} |w[t]|^2_W + 1/2 sum_{t<=T} |y[t] - C x[t] - d|^2_V

    with |a|^2_P = a'P^-1 a. The series y (T+1, ny) has one row for each state; an entry that is NaN
    was not observed, and is left out of the sum. The variables z = (x[0], w[0], ..., w[T-1]) are what
    x0 and u are to other problems: `objective(y)` has the value, the gradient and the products with
    the Hessian, and `simulate` draws. The costates that fulfil the optimality conditions are the p of
    `kalman_smoother`. The arrays are checked, copied and made read-only once, here; series are
    arguments of the methods, with batches as leading axes.

    Parameters
    ----------
    A : (n, n) or (T, n, n)
        State matrix of x[t+1] = A x[t] + c + w[t].
    C : (ny, n) or (T+1, ny, n)
        Output matrix of y[t] = C x[t] + d + v[t].
    W : (n, n) or (T, n, n)
        Covariance of w; symmetric positive semidefinite, it may be singular.
    V : (ny, ny) or (T+1, ny, ny)
        Covariance of v; it may be singular too.
    m0 : (n,) or None
        Mean of x[0]; may be None where P0 is.
    P0 : (n, n) or None
        Covariance of x[0]. None is exactly no prior, a diffuse start, and not a large number.
    c, d : (n,) or (T, n), (ny,) or (T+1, ny), optional

    Attributes
    ----------
    n, ny : int
        Dimensions of state and output.
    T : int or None
        The number of steps, when something varies in time; None when nothing does.

    Raises
    ------
    NotConvexError
        If W, V or P0 is not symmetric or has a negative eigenvalue, beyond rounding.

    See Also
    --------
    kalman_smoother, kalman_filter : states from the whole series, and from the past.
    fit, em : learn the model.
    duality : the regulator that the filter is.

    Notes
    -----
    Other packages write A, C, W, V as F, H, Q, R (filterpy, after whose predict() x and P are m0 and P0),
    or by names: see docs/start/from-statsmodels.md.

    References
    ----------
    Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd edition, 2012, chapter 4.

    Examples
    --------
    A level that drifts, observed twice with a gap between:

    >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
    >>> model
    SmoothingProblem(n=1, ny=1, time-invariant)
    >>> objective = model.objective([[0.0], [np.nan], [3.0]])
    >>> J, g = objective.value_and_gradient(np.zeros((3, 1)))  # x[0] = w[0] = w[1] = 0
    >>> J, g.ravel()
    (4.5, array([-3., -3., -3.]))
    """

    A: Array
    C: Array
    W: Array
    V: Array
    m0: Array
    P0: Array | None
    c: Array
    d: Array
    n: int
    ny: int
    T: int | None

    def __init__(
        self,
        A: ArrayLike,
        C: ArrayLike,
        W: ArrayLike,
        V: ArrayLike,
        m0: ArrayLike | None,
        P0: ArrayLike | None,
        *,
        c: ArrayLike | None = None,
        d: ArrayLike | None = None,
    ) -> None:
        self._take({}, A=A, C=C, W=W, V=V, m0=m0, P0=P0, c=c, d=d)

    def _take(self, kept: dict[str, Array | None], **given: ArrayLike | None) -> None:
        """Set the arrays, some kept from another problem and the others checked and copied."""
        arrays, P0, T = model_arrays(kept, given)
        ny, n = arrays["C"].shape[-2:]
        self._set(P0=P0, n=n, ny=ny, T=T, **arrays)

    def replace(self, **changes: ArrayLike | None) -> SmoothingProblem:
        """Return this problem with other arrays, checked and copied as those of SmoothingProblem.

        The others are kept as they are, and not checked again: that is faster than a new problem.

        Examples
        --------
        >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
        >>> model.replace(W=[[2]], P0=None)
        SmoothingProblem(n=1, ny=1, time-invariant, no prior)
        """
        for name in changes:
            check_choice("an array to replace", name, ALL)
        kept = {name: getattr(self, name) for name in ALL if name not in changes}
        new: SmoothingProblem = object.__new__(SmoothingProblem)
        new._take(kept, **changes)
        return new

    def __repr__(self) -> str:
        words = [f"n={self.n}", f"ny={self.ny}"]
        words.append("time-invariant" if self.T is None else f"T={self.T}")
        words += [f"with {name}" for name in ("c", "d") if getattr(self, name).any()]
        words += ["no prior"] if self.P0 is None else []
        return f"SmoothingProblem({', '.join(words)})"

    def series(self, y: ArrayLike) -> Array:
        """Return y (..., T+1, ny) as an array of numbers and NaN, checked against the model.

        What is masked, or missing for pandas, is not observed: NaN. A single output may come as one
        axis (T+1,), as a pandas Series does. An infinite entry raises NonFiniteError.
        """
        y = real_array("y", y, gaps=True)
        if y.ndim == 1 and self.ny == 1:
            y = y[:, None]
        T = self.T
        fits = y.ndim >= 2 and y.shape[-1] == self.ny and y.shape[-2] > 1 and y.size
        if not fits or T not in (None, y.shape[-2] - 1):
            target: tuple[int, ...] = (len(y), self.ny) if y.ndim == 1 else ()
            turned = y.ndim == 2 and len(y) == self.ny and y.shape[1] > 1
            if turned and T in (None, y.shape[1] - 1):
                target = y.shape[::-1]
            rows = "T + 1" if T is None else str(T + 1)
            why = "with T >= 1: a row for each state" if T is None and not target else ""
            expected = str(target) if target else f"(..., {rows}, {self.ny})"
            raise ShapeError(shape_message("y", y.shape, expected, why, target))
        infinite = np.isinf(y)
        if infinite.any():
            index = tuple(int(i) for i in np.argwhere(infinite)[0])
            where = f"y[{', '.join(map(str, index))}]"
            raise NonFiniteError(f"{where} is {y[index]}; write what was not observed as NaN")
        return y

    def observations(self, y: Array) -> Observations:
        """Return the series, as `series` returns it, with its gaps closed.

        Examples
        --------
        >>> model = SmoothingProblem(np.eye(2), np.eye(2), np.eye(2), 4 * np.eye(2), None, None)
        >>> z, C, V, entries = model.observations(np.array([[1.0, np.nan], [2.0, 3.0]]))
        >>> z[0], C[0], V[0], entries
        (array([1., 0.]),
         array([[1., 0.], [0., 0.]]),
         array([[4., 0.], [0., 1.]]),
         array(3))
        """
        return close_gaps(y, self.C, self.V, self.d)

    def whitened(self, observations: Observations) -> Whitened:
        """Return the rows of the least-squares problem, scaled by Cholesky factors.

        Raises NotConvexError if P0, W or V is not positive definite.
        """
        z, C, V, _ = observations
        roots = {"W": cholesky_factor("W", self.W), "V": cholesky_factor("V", V)}
        if self.P0 is not None:
            roots["P0"] = cholesky_factor("P0", self.P0)
        # A constant factor counts at every stage.
        stages = {"P0": 1, "W": z.shape[-2] - 1, "V": z.shape[-2]}
        log_determinant = np.zeros(())
        for name, L in roots.items():
            logs = 2 * np.log(np.diagonal(L, axis1=-2, axis2=-1)).sum(axis=-1)
            log_determinant = log_determinant + (
                stages[name] * logs if L.ndim == 2 else logs.sum(axis=-1)
            )
        identity = np.eye(self.n)
        root = substitute(roots["V"], np.eye(self.ny))
        with np.errstate(over="ignore", invalid="ignore"):
            data = times(root, z)
        check_finite("y in deviations of its noise", data, computed=True)
        return Whitened(
            np.zeros((self.n, self.n)) if self.P0 is None else substitute(roots["P0"], identity),
            substitute(roots["W"], identity),
            root,
            substitute(roots["V"], C),
            data,
            np.asarray(log_determinant),
        )

    def objective(self, y: ArrayLike) -> Objective:
        """Return z -> J(z) of z = (x[0], w[0], ..., w[T-1]), for `lqrad.descend`.

        The variables are not whitened; the smoothed states are those that follow from them. J has
        only those terms of the log-likelihood that depend on z.

        Parameters
        ----------
        y : (..., T+1, ny)
            NaN where nothing was observed. A batch adds up.

        Returns
        -------
        Objective
            Of shape (..., T+1, n), quadratic, with Hessian products. The Hessian is at least
            blkdiag(P0^-1, W^-1), whence the bound
            J(z) - min J <= 1/2 (g[0]'P0 g[0] + sum_t g[t+1]'W g[t+1]).

        Raises
        ------
        NotConvexError
            If P0, W or V is singular: its inverse weighs the misfit.

        Examples
        --------
        >>> model = SmoothingProblem([[1]], [[1]], W=[[1]], V=[[1]], m0=[0], P0=[[1]])
        >>> objective = model.objective([[0.0], [np.nan], [3.0]])
        >>> objective.hessian_product(np.zeros((3, 1)), np.array([[1.0], [0.0], [0.0]])).ravel()
        array([3., 1., 1.])
        """
        if self.P0 is None:
            raise ArgumentError(
                "P0 is None, and without a prior the objective is known to be convex only where "
                "the data determine x[0]; give a prior, or use kalman_smoother"
            )
        y = self.series(y)
        prior, noise, _, C, z_data, _ = self.whitened(self.observations(y))
        shape = (*y.shape[:-1], self.n)
        dynamics = self._dynamics
        zero = np.zeros(self.n)

        def passes(
            name: str, z: Array, start: Array, c: Array, data: Array | float
        ) -> tuple[float, Array]:
            z = real_array(name, z)
            check_shape(name, z, shape, "as the objective says")
            x = z.copy()
            x[..., 1:, :] += c
            x = dynamics.solve(x, overwrite=True)
            misfit = times(C, x) - data
            gradient = dynamics.solve(times(C, misfit, transpose=True), transpose=True)
            first = times(prior, z[..., :1, :] - start)
            noises = times(noise, z[..., 1:, :])
            gradient[..., :1, :] += times(prior, first, transpose=True)
            gradient[..., 1:, :] += times(noise, noises, transpose=True)
            value = 0.5 * sum(float(np.sum(inner(e, e))) for e in (misfit, first, noises))
            check_finite("the cost", np.asarray(value), computed=True)
            return value, gradient

        def gap_bound(gradient: Array) -> float:
            first, rest = gradient[..., :1, :], gradient[..., 1:, :]
            assert self.P0 is not None
            bounds = inner(first, times(self.P0, first)) + inner(rest, times(self.W, rest))
            return 0.5 * float(np.sum(bounds))

        return Objective(
            shape=shape,
            value_and_gradient=lambda z: passes("z", z, self.m0, self.c, z_data),
            hessian_product=lambda z, v: passes("v", v, zero, zero, 0.0)[1],
            gap_bound=gap_bound,
            quadratic=True,
        )

    def simulate(self, rng: np.random.Generator, T: int | None = None) -> tuple[Array, Array]:
        """Draw states and a series from the model.

        Parameters
        ----------
        rng : numpy.random.Generator, or a seed
        T : int, optional
            The number of steps; needed where nothing varies in time.

        Returns
        -------
        x, y : (T+1, n), (T+1, ny)

        Examples
        --------
        >>> model = SmoothingProblem([[0.5]], [[1]], W=[[0]], V=[[0]], m0=[8], P0=[[0]])
        >>> x, y = model.simulate(np.random.default_rng(0), T=2)
        >>> x.ravel(), y.ravel()
        (array([8., 4., 2.]), array([8., 4., 2.]))
        """
        if T is None and self.T is None:
            raise ArgumentError("T is not given and nothing varies in time; pass the horizon T")
        T, rng = check_count("T", self.T if T is None else T), check_generator(rng)
        if self.T not in (None, T):
            raise ArgumentError(f"T is {T}, but the model varies over {self.T} steps; leave T out")
        check_room(f"a series of T = {T} steps", T, 2 * (self.n + self.ny))
        if self.P0 is None:
            raise ArgumentError("P0 is None: there is no prior to draw x[0] from; give one")
        x = np.empty((T + 1, self.n))
        x[0] = self.m0 + covariance_root(self.P0) @ rng.standard_normal(self.n)
        x[1:] = self.c + times(covariance_root(self.W), rng.standard_normal((T, self.n)))
        x = self._dynamics.solve(x, overwrite=True)
        v = times(covariance_root(self.V), rng.standard_normal((T + 1, self.ny)))
        return x, times(self.C, x) + self.d + v

    @cached_property
    def balanced(self) -> Balanced:
        """The same model in units in which its noises are of order one."""
        outputs = largest(np.diagonal(self.V, axis1=-2, axis2=-1))
        if not outputs.all():  # what an exact sensor reads gives the unit
            exact = outputs == 0
            outputs[exact] = (largest(self.C**2, axes=2) @ self.variances)[exact]
        state, output = root_of_two(self.variances), root_of_two(outputs)
        if (state == 1).all() and (output == 1).all():
            return Balanced(self, state, output)
        problem = self.in_units(state, output)
        problem._set(variances=self.variances / state**2)
        return Balanced(problem, state, output)

    @cached_property
    def variances(self) -> Array:
        """A variance (n,) for each state, in its units, by which the state is scaled."""
        return state_variances(self.A, self.C, self.W, self.V, self.P0)

    def in_units(self, state: Array, output: Array) -> SmoothingProblem:
        """Return the model of x / state (n,) and y / output (ny,), powers of two: nothing is rounded."""
        scaled: dict[str, Array | None] = {"P0": None}
        with np.errstate(over="ignore"):
            for name, (down, up) in array_units(state, output).items():
                if (array := getattr(self, name)) is not None:
                    scaled[name] = array = array / down * up
                    check_finite(f"{name} beside the noises", array, computed=True)
                    array.setflags(write=False)
        problem = object.__new__(SmoothingProblem)  # what was checked holds in all units
        problem._set(n=self.n, ny=self.ny, T=self.T, **scaled)
        return problem

    @cached_property
    def _dynamics(self) -> Bidiagonal:
        return Bidiagonal(self.A)


def array_units(state: Array, output: Array) -> dict[str, tuple[Array, Array | float]]:
    """By what each array of a model is divided and multiplied to be that of x / state, y / output."""
    x, y = state[:, None], output[:, None]
    return {
        "A": (x, state),
        "C": (y, state),
        "W": (x, 1 / state),
        "V": (y, 1 / output),
        "m0": (state, 1.0),
        "P0": (x, 1 / state),
        "c": (state, 1.0),
        "d": (output, 1.0),
    }
