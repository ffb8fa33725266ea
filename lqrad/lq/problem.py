"""The linear-quadratic problem, its forward and backward passes, and its optimality conditions.

    minimise    J = sum_{t<T} ( 1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u )  +  1/2 x[T]'S x[T] + s'x[T]
    subject to  x[t+1] = A x[t] + B u[t] + c,    x[0] = x0

Any of A, B, c, Q, R, M, q, r may vary in time. With one multiplier p[t] for each step, the
Lagrangian J + sum_t p[t]'(A x[t] + B u[t] + c - x[t+1]) has the derivatives

    in p[t]:    A x[t] + B u[t] + c - x[t+1]            zero: the simulation, forward
    in x[t]:    Q x[t] + M u[t] + q + A'p[t] - p[t-1]   zero: the costates, backward from S x[T] + s
    in u[t]:    R u[t] + M'x[t] + r + B'p[t]            with both of these: the gradient of J in u
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg.lapack import dtrtrs

from lqrad.arguments import (
    Array,
    check_choice,
    check_finite,
    check_semidefinite,
    check_shape,
    check_stage_weights,
    finite_start,
    frozen_array,
    frozen_zeros,
    initial_state,
    joint_batch,
    sequence,
    stage_arrays,
    trajectory,
)
from lqrad.descent.objective import Objective, diagonal_below
from lqrad.errors import OVERFLOW_REMEDY, ArgumentError, NonFiniteError
from lqrad.linalg.balance import Units, balance, in_units
from lqrad.linalg.banded import Bidiagonal
from lqrad.linalg.curvature import input_curvature
from lqrad.linalg.stages import inner, substitute, times
from lqrad.lq.inputs import (
    KKT,
    InputProblem,
    LQArrays,
    Slopes,
    input_objective,
    kkt_from_terms,
    references,
)
from lqrad.native.lq import LQKernel, lq_kernel

# Overflow is looked for in the results and told in words; NumPy's warnings would only repeat it.
_quiet = np.errstate(over="ignore", invalid="ignore")

# Of fewer entries BLAS has the product with a whole matrix before NumPy has that with its diagonal.
_LEAST_DIAGONAL = 10

# The arrays of a problem, as they are called.
NAMES = ("A", "B", "Q", "R", "S", "M", "c", "q", "r", "s")


class LQProblem(InputProblem, LQArrays):
    """The problem (A, B, Q, R, S): linear dynamics and a convex quadratic cost.

        minimise    J = sum_t ( 1/2 x'Qx + x'Mu + 1/2 u'Ru + q'x + r'u )  +  1/2 x[T]'S x[T] + s'x[T]
        subject to  x[t+1] = A x[t] + B u[t] + c,    x[0] = x0

    A gradient of J in the inputs is one pass forward, for the states, and one backward, for the
    costates p. As a loop this is `value_and_gradient`, and all else says the same in less time:

        x, J = [x0], 0.0
        for t in range(T):
            J += x[t] @ (Q @ x[t] / 2 + M @ u[t] + q) + u[t] @ (R @ u[t] / 2 + r)
            x.append(A @ x[t] + B @ u[t] + c)
        J += x[T] @ (S @ x[T] / 2 + s)
        p = S @ x[T] + s
        for t in reversed(range(T)):
            g[t] = R @ u[t] + M.T @ x[t] + r + B.T @ p
            p = A.T @ p + Q @ x[t] + M @ u[t] + q

    The arrays are checked, copied and made read-only once, here. Everything that depends on the
    initial state or the inputs is an argument of the methods, with batches as leading axes:
    x0 (..., n), u (..., T, m), x (..., T+1, n), p (..., T, n). Of the methods of other problems it
    lacks `linearise`: it is its own linearisation.

    Parameters
    ----------
    A : (n, n) or (T, n, n)
        State matrix of x[t+1] = A x[t] + B u[t] + c.
    B : (n, m) or (T, n, m)
        Input matrix.
    Q : (n, n) or (T, n, n)
        Stage weight of the state, symmetric.
    R : (m, m) or (T, m, m)
        Stage weight of the input, symmetric; it may be singular.
    S : (n, n), optional
        Terminal weight, symmetric positive semidefinite; Q when not given.
    M : (n, m) or (T, n, m), optional
        Cross weight x'Mu. [Q M; M' R] is positive semidefinite.
    c, q : (n,) or (T, n), optional
        Constant part of the dynamics, linear weight of the state.
    r : (m,) or (T, m), optional
        Linear weight of the input.
    s : (n,), optional
        Linear weight of the terminal state.

    Attributes
    ----------
    n, m : int
        Dimensions of state and input.
    T : int or None
        The horizon, when something varies in time; None when nothing does.
    S_given : bool
        Whether a terminal weight was given; what is made from a problem keeps the answer.

    Raises
    ------
    NotConvexError
        If a weight is not symmetric, or S or [Q M; M' R] has a negative eigenvalue (beyond
        rounding); names the stage and the eigenvalue.

    Examples
    --------
    A cart pushed from rest at distance 1, four steps of one second:

    >>> import numpy as np
    >>> problem = LQProblem(A=[[1, 1], [0, 1]], B=[[0.5], [1]], Q=np.eye(2), R=[[1]])
    >>> x0, u = np.array([1.0, 0.0]), np.zeros((4, 1))
    >>> J, g = problem.value_and_gradient(x0, u)
    >>> J
    2.5
    >>> g.ravel()                       # pushing it further away costs most at once
    array([8. , 4.5, 2. , 0.5])

    See Also
    --------
    descend : minimises `objective(x0, T)` by its gradients.
    riccati : the minimum, by another road; `compare` holds both against each other.
    SparseLQProblem : the same where A is a sparse matrix of many states.
    ControlProblem : the same for nonlinear dynamics and costs.

    References
    ----------
    Bryson and Ho, Applied Optimal Control, 1975, sections 2.2 and 5.2.
    """

    def __init__(
        self,
        A: ArrayLike,
        B: ArrayLike,
        Q: ArrayLike,
        R: ArrayLike,
        S: ArrayLike | None = None,
        *,
        M: ArrayLike | None = None,
        c: ArrayLike | None = None,
        q: ArrayLike | None = None,
        r: ArrayLike | None = None,
        s: ArrayLike | None = None,
    ) -> None:
        arrays, T = stage_arrays(A=A, B=B, Q=Q, R=R, M=M, c=c, q=q, r=r)
        n, m = arrays["B"].shape[-2:]
        if S is None and arrays["Q"].ndim == 3:
            raise ArgumentError("S is not given and Q varies in time; pass the terminal weight")
        arrays["S"] = arrays["Q"] if S is None else frozen_array("S", S)
        arrays["s"] = frozen_zeros(n) if s is None else frozen_array("s", s)
        why = f"to match A {arrays['A'].shape}"
        check_shape("S", arrays["S"], (n, n), why, symbols="(n, n)")
        check_shape("s", arrays["s"], (n,), why, symbols="(n,)")
        check_stage_weights(arrays["Q"], arrays["R"], arrays["M"])
        if S is not None:
            check_semidefinite("S", arrays["S"])
        self._set(n=n, m=m, T=T, S_given=S is not None, **arrays)

    def replace(self, **changes: ArrayLike | None) -> LQProblem:
        """Return this problem with other arrays, checked and copied as those of LQProblem.

        Where S was not given, it follows Q.

        Examples
        --------
        >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
        >>> problem.replace(Q=[[3.0]]).S
        array([[3.]])
        """
        for name in changes:
            check_choice("an array to replace", name, NAMES)
        arrays: dict[str, Any] = {name: getattr(self, name) for name in NAMES}
        kept = not self.S_given and "S" not in changes
        if kept and np.array_equal(self.S, self.Q):
            arrays["S"] = None
        new = LQProblem(**(arrays | changes))
        if kept:
            new._set(S_given=False)
        return new

    # Other ways to make one

    @classmethod
    @_quiet
    def tracking(
        cls,
        A: ArrayLike,
        B: ArrayLike,
        Q: ArrayLike,
        R: ArrayLike,
        S: ArrayLike | None,
        x_ref: ArrayLike,
        u_ref: ArrayLike | None = None,
    ) -> LQProblem:
        """The problem of following a reference: weights on x - x_ref and u - u_ref.

        It has q = -Q x_ref, r = -R u_ref, s = -S x_ref[T]. Its cost is that of the deviations less
        the constant sum_t 1/2 (x_ref'Q x_ref + u_ref'R u_ref) + 1/2 x_ref[T]'S x_ref[T].

        Parameters
        ----------
        x_ref : (T+1, n) or (n,)
            Where the state should be; one row for each state, or a constant set-point.
        u_ref : (T, m) or (m,), optional
            Where the input should be; zero when not given.

        Examples
        --------
        >>> problem = LQProblem.tracking([[1.0]], [[1.0]], [[1.0]], [[1.0]], None, x_ref=[2.0])
        >>> problem.q, problem.s
        (array([-2.]), array([-2.]))
        """
        plain = cls(A, B, Q, R, S)
        x_stages, x_last, u_stages, _ = references(plain, x_ref, u_ref)
        q, r = -_at_stages(plain.Q, x_stages), -_at_stages(plain.R, u_stages)
        return plain.replace(q=q, r=r, s=-plain.S @ x_last)

    @classmethod
    def from_statespace(
        cls, system: Any, Q: ArrayLike, R: ArrayLike, S: ArrayLike | None = None
    ) -> LQProblem:
        """The problem of a discrete-time system in state-space form.

        That is anything with attributes A, B and dt: a `control.StateSpace`, a `scipy.signal.dlti`.

        Examples
        --------
        >>> from scipy.signal import dlti
        >>> LQProblem.from_statespace(dlti([[0.5]], [[1]], [[1]], [[0]], dt=0.1), [[1]], [[1]])
        LQProblem(n=1, m=1, time-invariant)
        """
        A, B, dt = (getattr(system, name, None) for name in ("A", "B", "dt"))
        if A is None or B is None:
            raise ArgumentError(
                f"system is a {type(system).__name__} without the attributes A and B; "
                "convert it to state-space form first"
            )
        if not dt:
            what = "has no sampling time" if dt is None else "is in continuous time"
            raise ArgumentError(
                f"system {what} (dt = {dt}); discretise it first, "
                "for instance by scipy.signal.cont2discrete or its method sample"
            )
        return cls(A, B, Q, R, S)

    @_quiet
    def with_feedback(self, K: ArrayLike) -> LQProblem:
        """The same problem in the inputs v of u = v - K x: the loop is closed first.

        Its optimum is the same trajectory, and of the cost nothing changes but the variables. What
        changes is what a descent sees: the costates are multiplied by (A - B K)' instead of A', so
        that with a stabilising K no gradient grows along the horizon. With the gains of `riccati`
        the Hessian is blkdiag(R + B'P[t+1]B), and v = -k, zero where there are no linear terms.

        It has A - BK, Q - MK - K'M' + K'RK, M - K'R, q - K'r; B, R, S, c, r, s are as they are.

        Parameters
        ----------
        K : (m, n) or (T, m, n)
            Feedback gain, such as `dlqr(A, B, Q, R)` or `riccati(problem, T)` give.

        References
        ----------
        Anderson and Moore, Optimal Control: Linear Quadratic Methods, 1990, section 3.4 (the
        removal of cross terms by feedback).

        Examples
        --------
        >>> problem = LQProblem([[2.0]], [[1.0]], [[1.0]], [[1.0]])
        >>> closed = problem.with_feedback([[1.5]])
        >>> closed.A, closed.Q, closed.M
        (array([[0.5]]), array([[3.25]]), array([[-1.5]]))
        >>> x = closed.simulate([8.0], [[1.0], [0.0]])
        >>> u = np.array([[1.0], [0.0]]) - 1.5 * x[:-1]
        >>> problem.simulate([8.0], u).ravel(), closed.cost(x, [[1.0], [0.0]]) == problem.cost(x, u)
        (array([8. , 5. , 2.5]), True)
        """
        K = frozen_array("K", K)
        stages = () if K.ndim != 3 else (self.T or max(len(K), 1),)
        why = f"to match B {self.B.shape}"
        check_shape("K", K, (*stages, self.m, self.n), why, symbols="(m, n) or (T, m, n)")
        Kt = K.swapaxes(-1, -2)
        RK, MK = self.R @ K, self.M @ K
        Q = self.Q - MK - MK.swapaxes(-1, -2) + Kt @ RK
        arrays = {
            "A": self.A - self.B @ K,
            "Q": (Q + Q.swapaxes(-1, -2)) / 2,
            "M": self.M - RK.swapaxes(-1, -2),
            "q": self.q - _at_stages(Kt, self.r),
        }
        for name, array in arrays.items():
            check_finite(f"the closed loop's {name}", array, computed=True)
        return changed(self, **arrays)

    # The two passes

    @_quiet
    def simulate(self, x0: ArrayLike, u: ArrayLike) -> Array:
        """Return x (..., T+1, n) with x[0] = x0, x[t+1] = A x[t] + B u[t] + c.

        Parameters
        ----------
        x0, u : (..., n), (..., T, m)

        Raises
        ------
        NonFiniteError
            If a state overflows, here and in the methods below; names the first step, and the
            spectral radius of A.

        Examples
        --------
        >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
        >>> problem.simulate([8.0], [[0.0], [1.0]]).ravel()
        array([8., 4., 3.])
        """
        return self._simulate(initial_state(self, x0), sequence(self, "u", u))

    def _simulate(self, x0: Array, u: Array) -> Array:
        batch = joint_batch(x0, u) if x0.ndim > 1 else u.shape[:-2]
        x = np.empty((*batch, u.shape[-2] + 1, self.n))
        x[..., 0, :] = x0
        times(self.B, u, out=x[..., 1:, :])
        if self._has["c"]:
            x[..., 1:, :] += self.c
        try:
            return self._dynamics.solve(x, overwrite=True)
        except NonFiniteError:
            check_finite("x0", x0)
            check_finite("u", u)
            raise

    def next_state(self, x: Array, u: Array, t: int) -> Array:
        """Return A[t] x + B[t] u + c[t] (..., n) for x (..., n) and u (..., m)."""
        A, B = (M if M.ndim == 2 else M[t] for M in (self.A, self.B))
        return np.asarray(x @ A.T + u @ B.T + (self.c if self.c.ndim == 1 else self.c[t]))

    @_quiet
    def derivatives(self, x: ArrayLike, u: ArrayLike) -> Slopes:
        """Return A (..., T, n, n), B (..., T, n, m), and the cost's slopes in x and u along (x, u)."""
        x, u = trajectory(self, x, u=u)
        A, B = (np.broadcast_to(M, u.shape[:-1] + M.shape[-2:]) for M in (self.A, self.B))
        slopes = Slopes(A, B, self._state_slopes(x, u), self._input_slopes(x, u))
        for name, slope in (("x", slopes.x), ("u", slopes.u)):
            check_finite(f"the cost's derivative in {name}", slope, computed=True)
        return slopes

    @_quiet
    def adjoint(self, x: ArrayLike, u: ArrayLike | None = None) -> Array:
        """Return p (..., T, n) with p[t-1] = A'p[t] + Q x[t] + M u[t] + q, p[T-1] = S x[T] + s.

        It is the derivative of the cost in x[t+1], which moves all later states too. The inputs may
        be left out where there is no cross weight M.

        Examples
        --------
        >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
        >>> problem.adjoint([[8.0], [4.0], [2.0]]).ravel()
        array([5., 2.])
        """
        if u is not None:
            x, u = trajectory(self, x, u=u)
        elif self._has["M"]:
            raise ArgumentError("u is not given and the cost has a cross weight M; pass u too")
        else:
            (x,) = trajectory(self, x)
            u = np.zeros((x.shape[-2] - 1, self.m))
        return self._costates(self._state_slopes(x, u))[..., 1:, :]

    def _costates(self, slopes: Array) -> Array:
        """Total derivatives of the cost in x[0], ..., x[T], from the partial ones, in place."""
        return self._dynamics.solve(slopes, transpose=True, overwrite=True)

    def _state_slopes(self, x: Array, u: Array) -> Array:
        """The partial derivatives Q x + M u + q of the cost in each state, S x[T] + s at the end."""
        if self.Q.ndim == 2:
            slopes = self._weighed("Q", x)
        else:
            slopes = np.empty_like(x)
            slopes[..., :-1, :] = self._weighed("Q", x[..., :-1, :])
        if self.S is not self.Q or self.Q.ndim == 3:
            slopes[..., -1, :] = x[..., -1, :].dot(self.S)
        if self._has["M"]:
            slopes[..., :-1, :] += times(self.M, u)
        if self._has["linear"]:
            slopes[..., :-1, :] += self.q
            slopes[..., -1, :] += self.s
        return slopes

    def _input_slopes(self, x: Array, u: Array) -> Array:
        """The partial derivatives R u + M'x + r of the cost in each input."""
        slopes = self._weighed("R", u)
        if self._has["M"]:
            slopes += times(self.M, x[..., :-1, :], transpose=True)
        if self._has["linear"]:
            slopes += self.r
        return slopes

    def _weighed(self, name: str, z: Array) -> Array:
        """Q x or R u; entry by entry where that is less than a product with a matrix."""
        diagonal = self._diagonals[name]
        return times(getattr(self, name), z) if diagonal is None else z * diagonal

    def _gradient(self, x: Array, u: Array, p: Array) -> Array:
        return self._input_slopes(x, u) + times(self.B, p, transpose=True)

    # Cost, gradient, Hessian

    @_quiet
    def cost(self, x: ArrayLike, u: ArrayLike) -> float | Array:
        """Return J of x (..., T+1, n) and u (..., T, m): a float, or (...) for a batch.

        Examples
        --------
        >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
        >>> problem.cost([[8.0], [4.0], [3.0]], [[0.0], [1.0]])
        45.0
        """
        x, u = trajectory(self, x, u=u)
        return self._value(x, u, self._state_slopes(x, u), self._input_slopes(x, u))

    def _value(self, x: Array, u: Array, x_slopes: Array, u_slopes: Array) -> float | Array:
        """J = 1/2 sum x'(Qx + Mu + 2q) + u'(Ru + M'x + 2r), from the slopes at hand."""
        double = inner(x, x_slopes) + inner(u, u_slopes)
        if self._has["linear"]:
            double += (x[..., :-1, :] * self.q).sum(axis=(-2, -1)) + x[..., -1, :].dot(self.s)
            double += (u * self.r).sum(axis=(-2, -1))
        if not math.isfinite(double if x.ndim == 2 else np.sum(double)):
            step = int(np.abs(x).max(axis=-1).reshape(-1, x.shape[-2]).max(axis=0).argmax())
            raise NonFiniteError(
                f"the cost overflowed: max |x| is {np.abs(x).max():.3g}, at step {step}",
                OVERFLOW_REMEDY,
            )
        return 0.5 * double if x.ndim > 2 else 0.5 * float(double)

    def value_and_gradient(self, x0: ArrayLike, u: ArrayLike) -> tuple[float | Array, Array]:
        """Return the cost of the inputs u from x0, and its gradient in u.

        One pass forward for the states, one backward for the costates.

        Parameters
        ----------
        x0, u : (..., n), (..., T, m)

        Returns
        -------
        J : float, or (...) for a batch
        g : (..., T, m)

        Examples
        --------
        >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
        >>> J, g = problem.value_and_gradient([8.0], [[0.0], [0.0]])
        >>> J, g.ravel()
        (42.0, array([5., 2.]))
        """
        x0, u = initial_state(self, x0), sequence(self, "u", u)
        kernel = self._kernel
        return (kernel and kernel.gradient(x0, u)) or self._value_and_gradient(x0, u)

    @_quiet
    def _value_and_gradient(self, x0: Array, u: Array) -> tuple[float | Array, Array]:
        x = self._simulate(x0, u)
        if x.shape[:-2] != u.shape[:-2]:
            u = np.broadcast_to(u, x.shape[:-2] + u.shape[-2:])
        x_slopes, u_slopes = self._state_slopes(x, u), self._input_slopes(x, u)
        value = self._value(x, u, x_slopes, u_slopes)
        del x  # new memory for the product with B costs more, of long series, than the product
        return value, self._total(x_slopes, u_slopes)

    def _total(self, x_slopes: Array, u_slopes: Array, what: str = "the gradient") -> Array:
        """The gradient in the inputs, from the partial derivatives; works in both of them."""
        u_slopes += times(self.B, self._costates(x_slopes)[..., 1:, :], transpose=True)
        check_finite(what, u_slopes, computed=True)
        return u_slopes

    def hessian_product(
        self, v: ArrayLike, x0: ArrayLike | None = None, u: ArrayLike | None = None
    ) -> Array:
        """Return H v (..., T, m) of v (..., T, m), with H the Hessian of the cost in u.

        These are the two passes, without the offsets.

        It is the same at every point (x0, u), which other problems need.

        Examples
        --------
        >>> problem = LQProblem([[0.5]], [[1]], [[1]], [[1]])
        >>> problem.hessian_product([[1.0], [0.0]]).ravel()
        array([2.25, 0.5 ])
        """
        v, zero, quadratic = sequence(self, "v", v), np.zeros(self.n), self._quadratic_part
        check_finite("v", v)
        kernel = quadratic._kernel
        found = kernel and kernel.gradient(zero, v)
        return found[1] if found else quadratic._product(zero, v)

    @_quiet
    def _product(self, zero: Array, v: Array) -> Array:
        x = self._simulate(zero, v)
        return self._total(
            self._state_slopes(x, v), self._input_slopes(x, v), "the Hessian product"
        )

    # Optimality

    def _missing(self, x: Array, u: Array) -> Array:
        return times(self.A, x[..., :-1, :]) + times(self.B, u) + self.c - x[..., 1:, :]

    @_quiet
    def kkt_residual(self, x: ArrayLike, u: ArrayLike, p: ArrayLike, x0: ArrayLike) -> KKT:
        """Return the derivatives of the Lagrangian at (x, u, p): all zero at the optimum.

        Nothing is simulated, so that the residual proves a solution also where A is unstable and
        an open-loop simulation from the same inputs would blow their rounding errors up.

        Examples
        --------
        >>> problem, u = LQProblem([[0.5]], [[1]], [[1]], [[1]]), np.zeros((2, 1))
        >>> x = problem.simulate([8.0], u)
        >>> kkt = problem.kkt_residual(x, u, problem.adjoint(x), [8.0])
        >>> abs(kkt.dynamics).max(), abs(kkt.state).max(), kkt.input.ravel()    # the gradient
        (np.float64(0.0), np.float64(0.0), array([5., 2.]))
        """
        x, u, p = trajectory(self, x, u=u, p=p)
        x0 = finite_start(self, x0, x)
        now, later, zero = x[..., :-1, :], x[..., 1:-1, :], np.zeros_like(x[..., :1, :])
        A_next, M_next, q_next, Q_next = (
            a[1:] if a.ndim == dims + 1 else a
            for a, dims in ((self.A, 2), (self.M, 2), (self.q, 1), (self.Q, 2))
        )
        units = units_of(self)

        def rows(*parts: Array) -> Array:
            return np.concatenate(parts, axis=-2)

        return kkt_from_terms(
            dynamics=[
                rows(x0[..., None, :] + zero, times(self.A, now)),
                rows(zero, times(self.B, u)),
                rows(zero, np.broadcast_to(self.c, now.shape)),
                -x,
            ],
            state=[
                rows(times(Q_next, later), times(self.S, x[..., -1:, :])),
                rows(times(M_next, u[..., 1:, :]), zero),
                rows(np.broadcast_to(q_next, later.shape), np.broadcast_to(self.s, zero.shape)),
                rows(times(A_next, p[..., 1:, :], transpose=True), zero),
                -p,
            ],
            input=[
                times(self.R, u),
                times(self.M, now, transpose=True),
                np.broadcast_to(self.r, u.shape),
                times(self.B, p, transpose=True),
            ],
            exponents=(units.x, units.cost - units.x, units.cost - units.u),
        )

    def objective(self, x0: ArrayLike, T: int | None = None) -> Objective:
        """Return u -> J(u) from x0, for `lqrad.descend`; a batch adds up.

        It is quadratic, with Hessian products. Where R - M'Q^+M is positive definite it offers the
        bound J(u) - min J <= 1/2 sum_t g[t]'(R - M'Q^+M)^-1 g[t].

        Parameters
        ----------
        x0 : (..., n)
        T : int, optional
            The horizon; needed where nothing varies in time.

        Examples
        --------
        >>> objective = LQProblem([[0.5]], [[1]], [[1]], [[4]]).objective([8.0], T=2)
        >>> objective.shape
        (2, 1)
        >>> J, g = objective.value_and_gradient(np.zeros((2, 1)))
        >>> J, objective.gap_bound(g)
        (42.0, 3.625)
        """
        return input_objective(
            self,
            x0,
            T,
            self.value_and_gradient,
            lambda x0, u, v: self.hessian_product(v, x0, u),
            gap_bound=None if self._input_curvature is None else self._gap_bound,
            quadratic=True,
            curvature=self._diagonal_curvature,
        )

    def _gap_bound(self, gradient: Array) -> float:
        factor = self._input_curvature
        assert factor is not None
        if not gradient.size:
            return 0.0
        if factor.ndim == 3:
            return 0.5 * float(np.sum(substitute(factor, gradient[..., None]) ** 2))
        whitened, _ = dtrtrs(factor.T, gradient.reshape(-1, self.m).T, lower=0, trans=1)
        return 0.5 * float(np.vdot(whitened, whitened))

    @cached_property
    def _input_curvature(self) -> Array | None:
        """Cholesky factor of a D with Hessian >= blkdiag(D), or None where none is proven."""
        return input_curvature(self.Q, self.R, self.M)

    @cached_property
    def _diagonal_curvature(self) -> Array | None:
        """Numbers such that the Hessian is at least diag of them, or None where none are proven."""
        factor = self._input_curvature
        return None if factor is None else diagonal_below(factor @ factor.swapaxes(-1, -2))

    # What is found once

    @cached_property
    def _dynamics(self) -> Bidiagonal:
        return Bidiagonal(self.A, room=sum(getattr(self, name).nbytes for name in NAMES))

    @cached_property
    def _kernel(self) -> LQKernel | None:
        arrays = {name: getattr(self, name) for name in NAMES}
        arrays |= {name: None for name in "Mcqrs" if not self._has[name]}
        return lq_kernel(self.n, self.m, **arrays)

    @cached_property
    def _has(self) -> dict[str, bool]:
        some = {name: bool(getattr(self, name).any()) for name in "Mcqrs"}
        return some | {"linear": some["q"] or some["r"] or some["s"]}

    @cached_property
    def _diagonals(self) -> dict[str, Array | None]:
        """The diagonals of Q and R, where these are large and nothing else is in them."""
        found = {}
        for name in "QR":
            weight = getattr(self, name)
            diagonal = np.ascontiguousarray(np.diagonal(weight, axis1=-2, axis2=-1))
            alone = np.count_nonzero(weight) == np.count_nonzero(diagonal)
            found[name] = diagonal if alone and weight.shape[-1] >= _LEAST_DIAGONAL else None
        return found

    @cached_property
    def _quadratic_part(self) -> LQProblem:
        """The same problem without its affine and linear terms."""
        if not (self._has["c"] or self._has["linear"]):
            return self
        zero = {name: np.zeros_like(getattr(self, name)) for name in ("c", "q", "r", "s")}
        return changed(self, **zero)


def unchecked(*, S_given: bool = True, **arrays: Array) -> LQProblem:
    """Return the problem of all ten arrays as they are, not copied and without a look at the weights.

    For those that are right by construction, and for expansions of a cost that is not convex.

    Examples
    --------
    >>> one, zero = np.ones((1, 1)), np.zeros(1)
    >>> weights = {"Q": -one, "R": one, "S": one, "M": 0 * one}
    >>> unchecked(A=one, B=one, c=zero, q=zero, r=zero, s=zero, **weights)
    LQProblem(n=1, m=1, time-invariant)
    """
    stages = {len(arrays[name]) for name in "ABQRM" if arrays[name].ndim == 3}
    stages |= {len(arrays[name]) for name in "cqr" if arrays[name].ndim == 2}
    n, m = arrays["B"].shape[-2:]
    arrays = {name: array.view() for name, array in arrays.items()}  # the caller's stay writeable
    for array in arrays.values():
        array.setflags(write=False)
    new = object.__new__(LQProblem)
    new._set(n=n, m=m, T=max(stages, default=None), S_given=S_given, **arrays)
    return new


def changed(problem: LQProblem, **arrays: Array) -> LQProblem:
    """Return a problem with other arrays, `unchecked`."""
    kept = {name: getattr(problem, name) for name in NAMES}
    return unchecked(S_given=problem.S_given or "S" in arrays, **(kept | arrays))


def units_of(problem: LQProblem, x0: Array | None = None) -> Units:
    """Return units of the problem's own: in these a state or an input of size one costs about one.

    Those without a weight have the unit of `balance`, in which entries are of comparable size. On a
    common factor of all states and inputs no entry depends: with it the largest of x0 becomes one.
    """
    n = problem.n
    Q = np.concatenate([problem.Q.reshape(-1, n, n), problem.S[None]])
    units = balance(problem.A, problem.B, Q=Q, R=problem.R)
    own = []
    for unit, weight in ((units.x, Q), (units.u, problem.R)):
        diagonal = np.diagonal(weight, axis1=-2, axis2=-1).reshape(-1, len(unit)).max(axis=0)
        own.append(unit - np.frexp(np.ldexp(diagonal, 2 * unit - units.cost))[1] // 2)
    x, u = own
    size = 0
    if x0 is not None and x0.any():
        size = math.frexp(float(np.abs(np.ldexp(x0, -x)).max()))[1] - 1
    return units._replace(x=x + size, u=u + size, cost=units.cost + 2 * size)


def balanced(problem: LQProblem, x0: Array | None = None) -> tuple[LQProblem, Units]:
    """Return the problem in `units_of` it, and these.

    Examples
    --------
    >>> small, units = balanced(LQProblem([[1.0]], [[2.0**-30]], [[2.0**50]], [[1.0]]))
    >>> small.B, small.Q, small.R, units.u - units.x
    (array([[0.03125]]), array([[1.]]), array([[1.]]), array([25]))
    """
    units = units_of(problem, x0)
    x, u, _, _, cost = units
    new = changed(
        problem,
        A=in_units(problem.A, x, x),
        B=in_units(problem.B, x, u),
        Q=in_units(problem.Q, -x, x, -cost),
        R=in_units(problem.R, -u, u, -cost),
        M=in_units(problem.M, -x, u, -cost),
        S=in_units(problem.S, -x, x, -cost),
        c=np.ldexp(problem.c, -x),
        q=np.ldexp(problem.q, x - cost),
        r=np.ldexp(problem.r, u - cost),
        s=np.ldexp(problem.s, x - cost),
    )
    return new, units


def _at_stages(weight: Array, reference: Array) -> Array:
    """The products weight[t] reference[t], where either may be constant."""
    return np.asarray(np.matmul(weight, reference[..., None])[..., 0])
