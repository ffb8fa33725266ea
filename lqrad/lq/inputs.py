"""What every problem in the inputs u has, be it linear, sparse or nonlinear.

The Lagrangian, its derivative in the inputs and the residuals of its conditions; the objective
u -> J(u) from x0, for `lqrad.descend`; and the terms of weights about a reference, q = -Q x_ref,
r = -R u_ref, s = -S x_ref[T].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    Sized,
    check_finite,
    check_reference,
    check_shape,
    finite_start,
    frozen_array,
    known_horizon,
    real_array,
    trajectory,
)
from lqrad.copies import Fixed
from lqrad.descent.objective import Objective
from lqrad.linalg.balance import Exponents
from lqrad.linalg.stages import inner
from lqrad.results import Report

_quiet = np.errstate(over="ignore", invalid="ignore")


class _Costed(Sized, Protocol):
    """A problem that says its cost, by what states miss its dynamics, and its gradient in u."""

    def cost(self, x: ArrayLike, u: ArrayLike) -> float | Array: ...
    def _missing(self, x: Array, u: Array) -> Array: ...
    def _gradient(self, x: Array, u: Array, p: Array) -> Array: ...


class InputProblem:
    """A base of problems in the inputs u (..., T, m), with states x (..., T+1, n)."""

    def horizon(self: Sized, T: int | None = None) -> int:
        """Return the horizon to use: this problem's own, or T where nothing varies in time."""
        return known_horizon(self, T)

    @_quiet
    def lagrangian(
        self: _Costed, x: ArrayLike, u: ArrayLike, p: ArrayLike, x0: ArrayLike | None = None
    ) -> float | Array:
        """Return J(x, u) + sum_t p[t]'d[t], where d[t] = 0 are the dynamics.

        Of an LQProblem d[t] is A x[t] + B u[t] + c - x[t+1], of a ControlProblem f(x[t], u[t]) - x[t+1],
        and of a SparseLQProblem F x[t] + G u[t] + c + phi(x[t]) - E x[t+1].

        Parameters
        ----------
        x, u, p : (..., T+1, n), (..., T, m), (..., T, n)
        x0 : (..., n), optional
            The initial state is data, not a variable: where given, it stands in for x[0].

        Examples
        --------
        On a simulation the constraints hold, and the Lagrangian is the cost for every p:

        >>> from lqrad.lq.problem import LQProblem
        >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
        >>> problem.lagrangian([[8.0], [4.0], [3.0]], [[0.0], [1.0]], [[7.0], [-5.0]])
        45.0
        """
        x, u, p = trajectory(self, x, u=u, p=p)
        if x0 is not None:
            x = x.copy()
            x[..., 0, :] = finite_start(self, x0, x)
        value = self.cost(x, u) + inner(p, self._missing(x, u))
        check_finite("the Lagrangian", np.asarray(value), computed=True)
        return value if np.ndim(value) else float(value)

    @_quiet
    def input_gradient(self: _Costed, x: ArrayLike, u: ArrayLike, p: ArrayLike) -> Array:
        """Return the derivative of the Lagrangian in each input, of the shape of u.

        With x = simulate(x0, u) and p = adjoint(x, u) it is the gradient of the cost in u.

        Parameters
        ----------
        x, u, p : (..., T+1, n), (..., T, m), (..., T, n)

        Examples
        --------
        >>> from lqrad.lq.problem import LQProblem
        >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
        >>> problem.input_gradient([[8.0], [4.0], [2.0]], [[0.0], [0.0]], [[5.0], [2.0]]).ravel()
        array([5., 2.])
        """
        x, u, p = trajectory(self, x, u=u, p=p)
        gradient = self._gradient(x, u, p)
        check_finite("the gradient", gradient, computed=True)
        return gradient


class LQArrays(Fixed):
    """The attributes of a linear-quadratic problem, which are also those of a batch of them."""

    A: Array
    B: Array
    Q: Array
    R: Array
    S: Array
    M: Array
    c: Array
    q: Array
    r: Array
    s: Array
    n: int
    m: int
    T: int | None
    S_given: bool

    def __repr__(self) -> str:
        return described(self, "Mcqrs")


class Slopes(NamedTuple):
    """First derivatives along a trajectory: of the next state in x and u, and of the cost."""

    A: Array  # (..., T, n, n)
    B: Array  # (..., T, n, m)
    x: Array  # (..., T+1, n), with that of the terminal cost at the end
    u: Array  # (..., T, m)


def input_objective(
    problem: Sized,
    x0: ArrayLike,
    T: int | None,
    value_and_gradient: Callable[[Array, Array], tuple[float | Array, Array]],
    hessian_product: Callable[[Array, Array, Array], Array] | None = None,
    **known: Any,
) -> Objective:
    """Return u -> J(u) from x0, summed over a batch, with what else is known of the Objective.

    Parameters
    ----------
    value_and_gradient : callable
        (x0, u) -> J (...), g (..., T, m).
    hessian_product : callable, optional
        (x0, u, v) -> H v.

    Examples
    --------
    >>> from lqrad.lq.problem import LQProblem
    >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[4]])
    >>> input_objective(problem, [[8.0], [1.0]], 3, problem.value_and_gradient).shape
    (2, 3, 1)
    """
    start = np.array(finite_start(problem, x0))
    shape = (*start.shape[:-1], known_horizon(problem, T), problem.m)

    def total(u: Array) -> tuple[float, Array]:
        u = real_array("u", u)
        check_shape("u", u, shape, "as the objective says")
        value, gradient = value_and_gradient(start, u)
        return float(np.sum(value)), gradient

    if hessian_product is not None:
        product = hessian_product
        known["hessian_product"] = lambda u, v: product(start, u, v)
    return Objective(shape=shape, value_and_gradient=total, **known)


def references(
    problem: Sized, x_ref: ArrayLike, u_ref: ArrayLike | None
) -> tuple[Array, Array, Array, int | None]:
    """Return x_ref at the stages, x_ref at the end, u_ref, and their horizon.

    A reference that does not vary in time is a row; u_ref is zero when not given.
    """
    x = frozen_array("x_ref", x_ref)
    u = frozen_array("u_ref", np.zeros(problem.m) if u_ref is None else u_ref)
    T = problem.T
    if T is None and x.ndim == 2:
        T = len(x) - 1
    check_reference("x_ref", x, problem.n, "n", T, extra=1)
    check_reference("u_ref", u, problem.m, "m", T, extra=0)
    if x.ndim == 1:
        return x, x, u, len(u) if u.ndim == 2 else T
    return x[:-1], x[-1], u, T


def described(problem: Any, terms: Iterable[str], *others: str) -> str:
    """Return a problem in a line: its sizes, and which of its terms are not zero.

    Examples
    --------
    >>> from lqrad.lq.problem import LQProblem
    >>> described(LQProblem([[0.5]], [[1]], [[1]], [[1]], c=[2.0]), "cqrs", "reaction")
    'LQProblem(n=1, m=1, time-invariant, with c, reaction)'
    """
    words = [f"n={problem.n}", f"m={problem.m}"]
    words.append("time-invariant" if problem.T is None else f"T={problem.T}")
    extra = [name for name in terms if getattr(problem, name).any()] + list(others)
    text = ", ".join(words) + (", with " if extra else "") + ", ".join(extra)
    return f"{type(problem).__name__}({text})"


@dataclass(frozen=True, eq=False)
class Trajectory(Report):
    """States, inputs, costates and cost of a rollout.

    Attributes
    ----------
    x : (..., T+1, n)
    u : (..., T, m)
    p : (..., T, n)
        p[t] is the multiplier of x[t+1] = A x[t] + B u[t] + c.
    cost : float, or (...) for a batch
    """

    x: Array
    u: Array
    p: Array
    cost: float | Array


@dataclass(frozen=True, eq=False)
class KKT(Report):
    """Residuals of the optimality conditions: the derivatives of the Lagrangian.

    Attributes
    ----------
    dynamics : (..., T+1, n)
        x0 - x[0], then A x[t] + B u[t] + c - x[t+1]: derivatives in the multipliers.
    state : (..., T, n)
        Derivatives in x[1], ..., x[T]: zero where p is the adjoint of x and u.
    input : (..., T, m)
        Derivatives in u: the gradient of the cost where the other two are zero.
    relative : float
        The largest, over the three blocks, of max|residual| over the largest single term that was
        added up in its block: a few rounding errors (1e-15) at an optimum, or more where a term
        is itself what is left of larger ones, as B'p is where R is tiny beside Q. States and inputs
        of an `LQProblem` are measured in units of its own, so that no large one hides a small one.
    """

    dynamics: Array
    state: Array
    input: Array
    relative: float


def kkt_from_terms(
    dynamics: Sequence[Array],
    state: Sequence[Array],
    input: Sequence[Array],
    exponents: tuple[Exponents | int, Exponents | int, Exponents | int] = (0, 0, 0),
) -> KKT:
    """Add up the terms of each block, and measure the sums by the largest of their terms.

    Parameters
    ----------
    dynamics, state, input : sequences of arrays
        The terms of each block, of one shape within a block.
    exponents : triple of (n,) or int
        The entries of a block are measured in units of two to the power of these.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> kkt_from_terms([4 * one, -3 * one], [one, -one], [one, -one]).relative
    0.25
    """
    blocks = [np.sum(terms, axis=0) for terms in (dynamics, state, input)]
    relative = 0.0
    for block, terms, unit in zip(blocks, (dynamics, state, input), exponents, strict=True):
        check_finite("the KKT residual", block, computed=True)
        left, *sizes = (float(np.abs(np.ldexp(term, -unit)).max()) for term in (block, *terms))
        if max(sizes) > 0:
            relative = max(relative, left / max(sizes))
    return KKT(blocks[0], blocks[1], blocks[2], relative)
