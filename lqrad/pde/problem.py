"""Implicit dynamics with sparse matrices, as discretised partial differential equations have them.

With one multiplier p[t] for each step, the Lagrangian of `SparseLQProblem`,
J + sum_t p[t]'(F x[t] + G u[t] + c + phi(x[t]) - E x[t+1]), has the derivatives

    in p[t]:    F x[t] + G u[t] + c + phi(x[t]) - E x[t+1]           zero: the simulation, forward
    in x[t]:    Q x[t] + q + (F + diag(phi'(x[t])))'p[t] - E'p[t-1]  zero: the costates, backward
                                                                     from E'p[T-1] = S x[T] + s
    in u[t]:    R u[t] + r + G'p[t]                    with both of these: the gradient of J in u

E is factorised once, and its factor serves both passes: a step forward is one solve, a step backward
one solve with the transpose. E^-1, and with it the n^2 numbers of A = E^-1 F, is never formed. The
multiplier of LQProblem, which belongs to x[t+1] = A x[t] + ..., is E'p[t] in these terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator

from lqrad.arguments import (
    Array,
    check_count,
    check_finite,
    check_shape,
    initial_state,
    joint_batch,
    real_array,
    sequence,
    shape_message,
    trajectory,
)
from lqrad.copies import Fixed
from lqrad.descent.objective import Objective, diagonal_below
from lqrad.errors import ArgumentError, NonFiniteError, ShapeError
from lqrad.functions.calls import called
from lqrad.functions.derivatives import check_given
from lqrad.linalg.checkpointing import schedule
from lqrad.linalg.sparse_factors import (
    Solve,
    checked_solver,
    factorised,
)
from lqrad.lq.inputs import (
    KKT,
    InputProblem,
    described,
    input_objective,
    kkt_from_terms,
    references,
)
from lqrad.lq.problem import LQProblem
from lqrad.pde.matrices import (
    any_matrix,
    any_weight,
    dense,
    inverse_of,
    stage_vectors,
    times_rows,
    transposed,
)

_quiet = np.errstate(over="ignore", invalid="ignore")

_OVERFLOW = (
    "explicit schemes and reactions grow like this where a time step is too long: try a shorter one, "
    "or an implicit scheme"
)


class SparseLQProblem(InputProblem, Fixed):
    """The problem (E, F, G, Q, R, S): implicit, sparse dynamics and a convex quadratic cost.

        minimise    J = sum_{t<T} ( 1/2 x'Qx + 1/2 u'Ru + q'x + r'u )  +  1/2 x[T]'S x[T] + s'x[T]
        subject to  E x[t+1] = F x[t] + G u[t] + c + phi(x[t]),    x[0] = x0

    The matrices are constant, c, q and r may vary in time, and phi, a reaction, acts entry by entry.
    What is dense stays dense and what is sparse stays sparse: nothing of size n^2 is made of
    anything that is not. Batches are leading axes: x0 (..., n), u (..., T, m), x (..., T+1, n),
    p (..., T, n); the series of a batch are the columns of one solve.

    Parameters
    ----------
    E : (n, n) sparse, or None
        Matrix of the new state. None is the identity, of an explicit scheme.
    F : (n, n) sparse, array or LinearOperator
        Matrix of the old state.
    G : (n, m) sparse, array or LinearOperator
        Input matrix.
    Q, S : (n, n) sparse, array or LinearOperator, or (n,)
        Weights of the state, symmetric positive semidefinite; (n,) is a diagonal. S is Q when not
        given. A LinearOperator is taken at its word.
    R : (m, m) sparse, array or LinearOperator, or (m,)
        Weight of the input; it may be singular.
    c, q, r, s : (n,) or (T, n), the same, (m,) or (T, m), (n,), optional
        As of `LQProblem`: constant part of the dynamics, linear weights.
    reaction : (phi, dphi) or (phi, dphi, ddphi), optional
        Functions of a state (..., n), entry by entry, and their derivatives, which are compared with
        them where they are first asked for. With the third one Hessian products are exact; without,
        they are those of Gauss and Newton.
    solver : (solve, solve_transposed), optional
        Functions b -> E^-1 b and b -> E'^-1 b of right-hand sides (n,) or (n, k), instead of a
        factor found here. E may be a LinearOperator then.

    Attributes
    ----------
    n, m, T, S_given
        As of `LQProblem`.

    Raises
    ------
    ArgumentError
        If E is singular, up to rounding.
    NotConvexError
        If a weight is not symmetric, or has a negative eigenvalue.

    Notes
    -----
    A symmetric positive definite tridiagonal E, that of a rod, is factorised as L D L', any other one
    by SuperLU, its unknowns ordered by minimum degree on E + E'. There is no cross weight M, and no
    `linearise`: A = E^-1 F would be n^2 numbers; `dense` is for a small n.

    See Also
    --------
    LQProblem : The same with dense A and B, which may vary in time.
    heat_rod, heat_plate, advection_diffusion : Examples of such problems.
    invert : An initial state or a source from the readings of sensors.
    low_rank : A preconditioner.

    Examples
    --------
    A rod of five cells, heated in the middle, by implicit Euler steps:

    >>> import scipy.sparse as sp
    >>> laplace = sp.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(5, 5))
    >>> G = sp.csr_array(([1.0], ([2], [0])), shape=(5, 1))
    >>> I = sp.eye_array(5)
    >>> problem = SparseLQProblem(I - laplace, I, G, Q=np.ones(5), R=[0.1])
    >>> problem
    SparseLQProblem(n=5, m=1, time-invariant)
    >>> J, g = problem.value_and_gradient(np.zeros(5), np.ones((3, 1)))
    >>> round(J, 9), g.ravel().round(4)
    (1.307978967, array([0.9897, 0.9543, 0.672 ]))

    References
    ----------
    Hinze, Pinnau, Ulbrich and Ulbrich, Optimization with PDE Constraints, 2009, section 1.6.
    """

    E: Any
    F: Any
    G: Any
    Q: Any
    R: Any
    S: Any
    c: Array
    q: Array
    r: Array
    s: Array
    reaction: tuple[Callable[[Array], Array], ...] | None
    solver: tuple[Solve, Solve] | None
    n: int
    m: int
    T: int | None
    S_given: bool

    def __init__(
        self,
        E: Any,
        F: Any,
        G: Any,
        Q: Any,
        R: Any,
        S: Any = None,
        *,
        c: ArrayLike | None = None,
        q: ArrayLike | None = None,
        r: ArrayLike | None = None,
        s: ArrayLike | None = None,
        reaction: tuple[Callable[[Array], Array], ...] | None = None,
        solver: tuple[Solve, Solve] | None = None,
    ) -> None:
        F, G = any_matrix("F", F), any_matrix("G", G)
        if F.ndim != 2 or F.shape[0] != F.shape[1] or not F.shape[0]:
            raise ShapeError(f"F has shape {F.shape}, expected (n, n), not empty")
        n = F.shape[0]
        if G.ndim != 2 or G.shape[0] != n or not G.shape[1]:
            target = (n, G.shape[0] if G.ndim == 2 else 1)
            why = f"to match F {F.shape}, not empty"
            raise ShapeError(shape_message("G", G.shape, f"(n, m) with n = {n}", why, target))
        if E is not None:
            E = any_matrix("E", E)
            check_shape("E", E, (n, n), f"to match F {F.shape}", symbols="(n, n)")
        m = G.shape[1]
        self._set(E=E, F=F, G=G, n=n, m=m, S_given=S is not None)
        self._set(Q=any_weight("Q", Q, n, "n"), R=any_weight("R", R, m, "m"))
        self._set(S=self.Q if S is None else any_weight("S", S, n, "n"))
        vectors, T = stage_vectors(n, m, c=c, q=q, r=r, s=s)
        self._set(T=T, **vectors)
        _check_functions("reaction", reaction, (2, 3), "two or three functions (phi, dphi, ddphi)")
        _check_functions("solver", solver, (2,), "two functions (solve, solve_transposed)")
        self._set(reaction=reaction, solver=solver)
        self._solve_pair  # noqa: B018  a singular E is refused here, not at its first use

    def __repr__(self) -> str:
        return described(self, "cqrs", *(["reaction"] if self.reaction else []))

    # Other ways to make one, and to see it

    @classmethod
    def tracking(
        cls,
        E: Any,
        F: Any,
        G: Any,
        Q: Any,
        R: Any,
        S: Any,
        x_ref: ArrayLike,
        u_ref: ArrayLike | None = None,
        **options: Any,
    ) -> SparseLQProblem:
        """The problem of following a reference: weights on x - x_ref and u - u_ref.

        Parameters
        ----------
        E, F, G, Q, R, S, **options
            As of SparseLQProblem, c, reaction and solver among the options.
        x_ref, u_ref : (T+1, n) or (n,), (T, m) or (m,)
            As of `LQProblem.tracking`, which also says what the cost is then.

        Examples
        --------
        >>> problem = SparseLQProblem.tracking(None, [[1.0]], [[1.0]], [1.0], [1.0], None, [2.0])
        >>> problem.q, problem.s
        (array([-2.]), array([-2.]))
        """
        plain = cls(E, F, G, Q, R, S, **options)
        x_stages, x_last, u_stages, T = references(plain, x_ref, u_ref)
        slopes = {"q": (plain.Q, x_stages), "r": (plain.R, u_stages), "s": (plain.S, x_last)}
        terms = {name: -times_rows(weight, ref) for name, (weight, ref) in slopes.items()}
        for name, term in terms.items():
            check_finite(f"{name} of the reference", term, computed=True)
        return plain._changed(T=T, **terms)

    def _changed(self, **changes: Any) -> SparseLQProblem:
        """The same problem with other vectors; what was found of its matrices is kept."""
        new = object.__new__(SparseLQProblem)
        stale = ("_has", "_checked_orders")
        new._set(**{name: z for name, z in vars(self).items() if name not in stale} | changes)
        return new

    def homogeneous(self) -> SparseLQProblem:
        """Return the same problem without c, q, r and s: its states are linear in x0 and u.

        Examples
        --------
        >>> problem = SparseLQProblem(None, [[1.0]], [[1.0]], [1.0], [1.0], c=[1.0])
        >>> problem.homogeneous()
        SparseLQProblem(n=1, m=1, time-invariant)
        """
        return self._changed(**{name: np.zeros(getattr(self, name).shape[-1:]) for name in "cqrs"})

    def dense(self) -> LQProblem:
        """Return the same problem as an LQProblem, with A = E^-1 F, B = E^-1 G and E^-1 c.

        For a small n and without a reaction: `riccati` and all that works on n^2 numbers take it.

        Examples
        --------
        >>> problem = SparseLQProblem([[2.0]], [[1.0]], [[4.0]], [1.0], [1.0])
        >>> problem.dense().A, problem.dense().B
        (array([[0.5]]), array([[2.]]))
        """
        if self.reaction:
            raise ArgumentError("the problem has a reaction, and an LQProblem is linear")
        solve = self._solve_pair[0]
        weights = {name: dense(getattr(self, name)) for name in "QRS"}
        if not self.S_given:
            del weights["S"]
        return LQProblem(
            A=solve(dense(self.F)),
            B=solve(dense(self.G)),
            c=solve(self.c.T).T,
            q=self.q,
            r=self.r,
            s=self.s,
            **weights,
        )

    # The two passes

    @_quiet
    def simulate(self, x0: ArrayLike, u: ArrayLike) -> Array:
        """Return x with x[0] = x0, E x[t+1] = F x[t] + G u[t] + c + phi(x[t]).

        Raises
        ------
        NonFiniteError
            If a state overflows; names the first step, and the growth in it.

        Examples
        --------
        >>> problem = SparseLQProblem([[2.0]], [[1.0]], [[1.0]], [1.0], [1.0])
        >>> problem.simulate([8.0], [[0.0], [4.0]]).ravel()
        array([8., 4., 4.])
        """
        x, u, batch = self._start(x0, u)
        states = np.empty((len(u) + 1, *x.shape))
        states[0] = x
        for t in range(len(u)):
            states[t + 1] = self._step(t, states[t], u[t])
        return _series_first(states, batch)

    def _step(self, t: int, x: Array, u: Array) -> Array:
        """The state x[t+1] after x[t]: one row, or one for each series."""
        right = times_rows(self.F, x) + times_rows(self.G, u)
        if self._has["c"]:
            right += _at(self.c, t)
        if self.reaction:
            right += self._reaction(0, x)
        new = self._solve(right)
        if not _all_finite(new):
            size, before = np.linalg.norm(right, ord=np.inf), np.abs(x).max()
            raise NonFiniteError(
                f"the state x[{t + 1}] is not finite: max |x[{t}]| is {before:.3g} and the right-hand "
                f"side of the step from there reaches {size:.3g}; {_OVERFLOW}"
            )
        return new

    @_quiet
    def adjoint(self, x: ArrayLike, u: ArrayLike | None = None) -> Array:
        """Return p with E'p[T-1] = S x[T] + s, E'p[t-1] = Q x[t] + q + (F + diag(phi'(x[t])))'p[t].

        It is the derivative of the cost in a term added to the right-hand side of step t. That in
        x[t+1], which LQProblem calls p[t], is E'p[t]. On u, taken as by all problems, nothing depends.

        Examples
        --------
        >>> problem = SparseLQProblem([[2.0]], [[1.0]], [[1.0]], [1.0], [1.0])
        >>> problem.adjoint([[8.0], [4.0], [2.0]]).ravel()
        array([2.5, 1. ])
        """
        x = trajectory(self, x, **({} if u is None else {"u": u}))[0]
        slopes = times_rows(self.Q, x)
        slopes[..., :-1, :] += self.q
        slopes[..., -1, :] = self._last_slope(x[..., -1, :])
        return self.pull_back(slopes, x)[0]

    @_quiet
    def pull_back(self, f: ArrayLike, x: ArrayLike | None = None) -> tuple[Array, Array]:
        """Return p with E'p[T-1] = f[T], E'p[t-1] = f[t] + (F + diag(phi'(x[t])))'p[t], and E'p[-1].

        The transpose of a simulation: where f[t] (..., T+1, n) are the derivatives of a function of the
        states in each of them, G'p[t] is its derivative in u[t], and E'p[-1] (..., n) that in x0. The
        states x are needed where there is a reaction.

        Examples
        --------
        >>> problem = SparseLQProblem([[2.0]], [[1.0]], [[1.0]], [1.0], [1.0])
        >>> p, pull = problem.pull_back([[0.0], [0.0], [1.0]])  # x[2] = x0 / 4 + u[0] / 4 + u[1] / 2
        >>> p.ravel(), pull
        (array([0.25, 0.5 ]), array([0.25]))
        """
        if x is None and self.reaction:
            raise ArgumentError("x is needed where there is a reaction: its slope depends on x")
        f = self._sequence("f", f)
        batch, slopes = f.shape[:-2], _time_first(f)
        states = slopes if x is None else _time_first(self._sequence("x", x, f))
        p, pull = np.empty((len(slopes) - 1, *slopes.shape[1:])), slopes[-1]
        for t in range(len(p) - 1, -1, -1):
            p[t] = self._costate(t, pull)
            pull = self._pulled(t, states[t], p[t], slopes[t].copy())
        return _series_first(p, batch), np.reshape(pull, (*batch, self.n))

    def _costate(self, t: int, pull: Array) -> Array:
        p = self._solve(pull, transpose=True)
        if not _all_finite(p):
            raise NonFiniteError(
                f"the costate p[{t}] is not finite: costates grow backward as states do forward; "
                f"{_OVERFLOW}"
            )
        return p

    def _pulled(self, t: int, x: Array, p: Array, slope: Array) -> Array:
        """The total derivative in x[t], from the partial one, which is added to in place."""
        slope += times_rows(self._transposed_F, p)
        if self.reaction:
            slope += self._reaction(1, x) * p
        return slope

    def _last_slope(self, x: Array) -> Array:
        slope = times_rows(self.S, x)
        return slope + self.s if self._has["s"] else slope

    def _gradient(self, x: Array, u: Array, p: Array) -> Array:
        return times_rows(self.R, u) + self.r + times_rows(self._transposed_G, p)

    # Cost, gradient, Hessian

    @_quiet
    def cost(self, x: ArrayLike, u: ArrayLike) -> float | Array:
        """Return J(x, u): a float, or one for each series of a batch.

        Examples
        --------
        >>> problem = SparseLQProblem([[2.0]], [[1.0]], [[1.0]], [1.0], [1.0])
        >>> problem.cost([[8.0], [4.0], [4.0]], [[0.0], [4.0]])
        56.0
        """
        x, u = trajectory(self, x, u=u)
        batch, states, inputs = x.shape[:-2], _time_first(x), _time_first(u)
        value = self._last_value(states[-1], self._last_slope(states[-1]))
        for t in range(len(inputs) - 1, -1, -1):
            value = value + self._stage(t, states[t], inputs[t])[0]
        return self._checked_value(value, batch)

    def _stage(self, t: int, x: Array, u: Array) -> tuple[Any, Array, Array]:
        """The cost of a stage, and its derivatives Q x + q and R u + r."""
        x_slope, u_slope = times_rows(self.Q, x), times_rows(self.R, u)
        value = 0.5 * (_dot(x, x_slope) + _dot(u, u_slope))
        if self._has["q"]:
            q = _at(self.q, t)
            value = value + x @ q
            x_slope += q
        if self._has["r"]:
            r = _at(self.r, t)
            value = value + u @ r
            u_slope += r
        return value, x_slope, u_slope

    def _last_value(self, x: Array, slope: Array) -> Any:
        """1/2 x'S x + s'x, from the slope S x + s."""
        value = 0.5 * _dot(x, slope)
        return value + 0.5 * (x @ self.s) if self._has["s"] else value

    def _checked_value(self, value: Any, batch: tuple[int, ...]) -> float | Array:
        check_finite("the cost", np.asarray(value), computed=True)
        return np.reshape(value, batch) if batch else float(np.squeeze(value))

    @_quiet
    def value_and_gradient(
        self, x0: ArrayLike, u: ArrayLike, *, checkpoints: int | None = None
    ) -> tuple[float | Array, Array]:
        """Return the cost of the inputs u from x0, and its gradient g (..., T, m) in u.

        Parameters
        ----------
        checkpoints : int, optional
            How many states to keep at a time, x0 among them. The others are simulated again when the
            backward pass needs them, by the fewest steps possible. Value and gradient are the
            same to the last bit. All are kept when not given.

        Examples
        --------
        >>> problem = SparseLQProblem([[2.0]], [[1.0]], [[1.0]], [1.0], [1.0])
        >>> J, g = problem.value_and_gradient([8.0], np.zeros((4, 1)))
        >>> J, g.ravel()
        (42.625, array([2.65625, 1.3125 , 0.625  , 0.25   ]))
        >>> bool((problem.value_and_gradient([8.0], np.zeros((4, 1)), checkpoints=2)[1] == g).all())
        True
        """
        x, u, batch = self._start(x0, u)
        k = len(u) if checkpoints is None else check_count("checkpoints", checkpoints)
        value, gradient = self._two_passes(x, u, k)
        return self._checked_value(value, batch), self._checked_gradient(gradient, batch)

    def _checked_gradient(
        self, gradient: Array, batch: tuple[int, ...], what: str = "the gradient"
    ) -> Array:
        check_finite(what, gradient, computed=True)
        return _series_first(gradient, batch)

    def _two_passes(self, x: Array, u: Array, k: int) -> tuple[Any, Array]:
        """Value and gradient, k states kept; every step is the same whatever is kept."""
        gradient, last = np.empty_like(u), len(u) - 1
        kept: dict[int, Array] = {}
        at, value, pull = 0, None, None
        for action, t in schedule(len(u), k):
            if action == "store":
                kept[t] = x
            elif action == "restore":
                at, x = t, kept[t]
            elif action == "free":
                del kept[t]
            elif action == "advance":
                while at < t:
                    x = self._step(at, x, u[at])
                    at += 1
            else:
                if t == last:
                    end = self._step(t, x, u[t])
                    pull = self._last_slope(end)
                    value = self._last_value(end, pull)
                    del end
                stage, x_slope, gradient[t] = self._stage(t, x, u[t])
                value = value + stage
                p = self._costate(t, cast(Array, pull))
                gradient[t] += times_rows(self._transposed_G, p)
                pull = self._pulled(t, x, p, x_slope)
        return value, gradient

    @_quiet
    def hessian_product(
        self,
        v: ArrayLike,
        x0: ArrayLike | None = None,
        u: ArrayLike | None = None,
        *,
        checkpoints: int | None = None,
    ) -> Array:
        """Return H v (..., T, m), with H the Hessian of the cost in u: two passes, without the offsets.

        Where there is a reaction, the point x0, u is needed, and its states are all kept; H is the
        Hessian there if ddphi was given, else that of Gauss and Newton, with the reaction taken to be
        linear. `checkpoints` are those of `value_and_gradient`.

        Examples
        --------
        >>> problem = SparseLQProblem([[2.0]], [[1.0]], [[1.0]], [1.0], [1.0])
        >>> problem.hessian_product([[1.0], [0.0]]).ravel()
        array([1.3125, 0.125 ])
        """
        if not self.reaction:
            quadratic = self.homogeneous()
            x, v, batch = quadratic._start(np.zeros(self.n), v, "v")
            k = len(v) if checkpoints is None else check_count("checkpoints", checkpoints)
            return self._checked_gradient(
                quadratic._two_passes(x, v, k)[1], batch, "the Hessian product"
            )
        if x0 is None or u is None:
            raise ArgumentError(
                "x0 and u are needed where there is a reaction: the Hessian depends on the point"
            )
        if np.shape(u) != np.shape(v):
            raise ShapeError(f"v has shape {np.shape(v)}, expected {np.shape(u)}, that of u")
        x = self.simulate(x0, u)
        p = self.adjoint(x) if len(self.reaction) == 3 else None
        batch = x.shape[:-2]
        x, (_, v, _) = _time_first(x), self._start(np.zeros((*batch, self.n)), v, "v")
        dx = np.zeros_like(x)
        for t in range(len(v)):
            right = times_rows(self.F, dx[t]) + times_rows(self.G, v[t])
            dx[t + 1] = self._solve(right + self._reaction(1, x[t]) * dx[t])
        product, pull = times_rows(self.R, v), times_rows(self.S, dx[-1])
        p = None if p is None else _time_first(p)
        for t in range(len(v) - 1, -1, -1):
            dp = self._costate(t, pull)
            product[t] += times_rows(self._transposed_G, dp)
            pull = self._pulled(t, x[t], dp, times_rows(self.Q, dx[t]))
            if p is not None:
                pull += self._reaction(2, x[t]) * p[t] * dx[t]
        return self._checked_gradient(product, batch, "the Hessian product")

    # Optimality

    def _missing(self, x: Array, u: Array) -> Array:
        return np.asarray(np.sum(self._constraint_terms(x, u), axis=0))

    def _constraint_terms(self, x: Array, u: Array) -> list[Array]:
        """The terms of F x[t] + G u[t] + c + phi(x[t]) - E x[t+1]."""
        now, new = x[..., :-1, :], x[..., 1:, :]
        terms = [times_rows(self.F, now), times_rows(self.G, u), np.broadcast_to(self.c, now.shape)]
        terms.append(-new if self.E is None else -times_rows(self.E, new))
        return [*terms, self._reaction(0, now)] if self.reaction else terms

    @_quiet
    def kkt_residual(self, x: ArrayLike, u: ArrayLike, p: ArrayLike, x0: ArrayLike) -> KKT:
        """Return the derivatives of the Lagrangian at (x, u, p): all zero at a stationary point.

        Nothing is simulated and nothing is solved: the factor of E is not taken at its word.
        """
        x, u, p = trajectory(self, x, u=u, p=p)
        start = self._initial_state(x0, x)[..., None, :] - 0.0 * x[..., :1, :]
        zero, later, first = np.zeros_like(x[..., :1, :]), x[..., 1:-1, :], x[..., :1, :]

        def rows(*parts: Array) -> Array:
            return np.concatenate(parts, axis=-2)

        F_terms = [start, zero, zero, -first] + ([zero] if self.reaction else [])
        q_later = self.q[1:] if self.q.ndim == 2 else self.q
        state = [
            rows(times_rows(self.Q, later), times_rows(self.S, x[..., -1:, :])),
            rows(np.broadcast_to(q_later, later.shape), np.broadcast_to(self.s, zero.shape)),
            rows(times_rows(self._transposed_F, p[..., 1:, :]), zero),
            -p if self.E is None else -times_rows(self.E.T, p),
        ]
        if self.reaction:
            state.append(rows(self._reaction(1, later) * p[..., 1:, :], zero))
        return kkt_from_terms(
            dynamics=[
                rows(*pair) for pair in zip(F_terms, self._constraint_terms(x, u), strict=True)
            ],
            state=state,
            input=[
                times_rows(self.R, u),
                np.broadcast_to(self.r, u.shape),
                times_rows(self._transposed_G, p),
            ],
        )

    def objective(
        self, x0: ArrayLike, T: int | None = None, *, checkpoints: int | None = None
    ) -> Objective:
        """Return u -> J(u) from x0, for `lqrad.descend`.

        Without a reaction it is quadratic and, where R is positive definite, offers the bound
        J(u) - min J <= 1/2 sum_t g[t]'R^-1 g[t]. With one it has Hessian products if ddphi was given,
        and no bound.

        Parameters
        ----------
        x0, T
            As of `LQProblem.objective`: (..., n), of which a batch adds up, and the horizon.
        checkpoints : int, optional
            As of `value_and_gradient`.

        Examples
        --------
        >>> problem = SparseLQProblem([[2.0]], [[1.0]], [[1.0]], [1.0], [4.0])
        >>> objective = problem.objective([8.0], T=2)
        >>> J, g = objective.value_and_gradient(np.zeros((2, 1)))
        >>> J, g.ravel(), objective.gap_bound(g)
        (42.0, array([2.5, 1. ]), 0.90625)
        """
        if checkpoints is not None:
            check_count("checkpoints", checkpoints)

        def product(x0: Array, u: Array, v: Array) -> Array:
            return self.hessian_product(v, x0, u, checkpoints=checkpoints)

        def gap_bound(gradient: Array) -> float:
            assert solve is not None
            g = gradient.reshape(-1, self.m)
            return 0.5 * float(np.vdot(g, solve(g.T).T))

        solve, diagonal = self._curvature
        exact = self.reaction is None or len(self.reaction) == 3
        return input_objective(
            self,
            x0,
            T,
            partial(self.value_and_gradient, checkpoints=checkpoints),
            product if exact else None,
            gap_bound=None if solve is None else gap_bound,
            quadratic=self.reaction is None,
            curvature=diagonal,
        )

    # What is found once

    @cached_property
    def _solve_pair(self) -> tuple[Solve, Solve]:
        """Solvers of E z = b and of E'z = b, for columns b."""
        if self.solver is not None:
            solve, solve_transposed = self.solver
            return (
                checked_solver(solve, "solver[0]"),
                checked_solver(solve_transposed, "solver[1]"),
            )
        return (np.asarray, np.asarray) if self.E is None else factorised(self.E)

    def _solve(self, b: Array, *, transpose: bool = False) -> Array:
        """Solve with E or E' for one row, or for one of each series."""
        solve = self._solve_pair[transpose]
        return solve(b) if b.ndim == 1 else solve(b.T).T

    @cached_property
    def _transposed_F(self) -> Any:
        return transposed(self.F)

    @cached_property
    def _transposed_G(self) -> Any:
        return transposed(self.G)

    @cached_property
    def _has(self) -> dict[str, bool]:
        return {name: bool(getattr(self, name).any()) for name in "cqrs"}

    @cached_property
    def _curvature(self) -> tuple[Solve | None, Array | float | None]:
        """R^-1 for columns, and numbers that R is at least diag of; None where they are not proven."""
        R = self.R
        if self.reaction is not None or isinstance(R, LinearOperator):
            return None, None
        solve = inverse_of(R)
        if isinstance(R, np.ndarray):
            return solve, R if R.ndim == 1 else diagonal_below(R)
        return solve, 0.0

    def _reaction(self, order: int, x: Array) -> Array:
        """The reaction or a derivative of it."""
        assert self.reaction is not None
        name = f"reaction[{order}]"
        value = real_array(name, called(name, self.reaction[order], x))
        if value.shape != x.shape:
            raise ShapeError(
                f"{name} returned shape {value.shape} for x {x.shape}, expected {x.shape}"
                ": one number for each entry of the state"
            )
        if order and order not in self._checked_orders:
            below, slope = self.reaction[order - 1], value[..., None, None]
            check_given(
                lambda z: called(f"reaction[{order - 1}]", below, z[..., 0])[..., None],
                x[..., None],
                slope,
                name=name,
                of=f"reaction[{order - 1}]",
                entries=["the state"],
            )
            if x.any():  # at rest a wrong derivative may be right
                self._checked_orders.add(order)
        return value

    @cached_property
    def _checked_orders(self) -> set[int]:
        """Which derivatives of the reaction were compared with those of the one below."""
        return set()

    # Checks

    def _start(self, x0: ArrayLike, u: ArrayLike, name: str = "u") -> tuple[Array, Array, Any]:
        """Return x0 and u with the time in front and the series of a batch behind it, and the batch."""
        x0, u = self._initial_state(x0), self._sequence(name, u)
        batch = joint_batch(x0, u, name)
        u = _time_first(np.broadcast_to(u, batch + u.shape[-2:]))
        return np.broadcast_to(x0, (*batch, self.n)).reshape((*u.shape[1:-1], self.n)), u, batch

    def _initial_state(self, x0: ArrayLike, x: Array | None = None) -> Array:
        """Return x0 (..., n) as a finite array, broadcast to the batch of x where that is given."""
        x0 = initial_state(self, x0, x)
        check_finite("x0", x0)
        return x0 if x is None else np.broadcast_to(x0, (*x.shape[:-2], self.n))

    def _sequence(self, name: str, z: ArrayLike, x: Array | None = None) -> Array:
        """Return a finite sequence, T + 1 states x or T of the others, of the batch of x if given."""
        z = sequence(self, name, z, x)
        check_finite(name, z)
        return z


def _check_functions(name: str, value: Any, counts: tuple[int, ...], expected: str) -> None:
    """Raise ArgumentError unless a value is None or a tuple of so many functions."""
    given = isinstance(value, tuple) and len(value) in counts and all(map(callable, value))
    if not (value is None or given):
        raise ArgumentError(f"{name} is {value!r}, expected {expected}")


def _all_finite(z: Array) -> bool:
    # A sum of squares is finite only if all entries are, and costs less than asking each.
    return math.isfinite(np.vdot(z, z)) or bool(np.isfinite(z).all())


def _at(vector: Array, t: int) -> Array:
    return np.asarray(vector[t]) if vector.ndim == 2 else vector


def _dot(y: Array, z: Array) -> Any:
    """y'z, for each row."""
    return float(y @ z) if y.ndim == 1 else np.einsum("ki,ki->k", y, z)


def _time_first(z: Array) -> Array:
    """(..., T, n) as (T, n), or as (T, k, n) with the k series of a batch."""
    if z.ndim == 2:
        return np.ascontiguousarray(z)
    return np.ascontiguousarray(z.reshape(-1, *z.shape[-2:]).swapaxes(0, 1))


def _series_first(z: Array, batch: tuple[int, ...]) -> Array:
    """The inverse of `_time_first`."""
    return z if not batch else np.ascontiguousarray(z.swapaxes(0, 1)).reshape(*batch, len(z), -1)
