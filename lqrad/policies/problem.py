"""Inputs from a policy: its parameters are what is optimised, over a batch of initial states.

    minimise    J(theta) = the mean over x0 of the cost of (x, u)
    subject to  x[t+1] = f(x[t], u[t], t),    u[t] = pi(x[t]; theta),    x[0] = x0

With A, B the derivatives of f along the trajectories and l that of the cost, and with a multiplier p
for the dynamics and one for the policy, w, the derivatives of the Lagrangian are zero in x and u for

    w[t]    =  dl/du + B[t]'p[t]                                of u[t]
    p[t-1]  =  dl/dx + A[t]'p[t] + (dpi/dx)'w[t]                of x[t+1]: the closed loop's costates
    dJ/dtheta  =  the mean over x0 of  sum_t (dpi/dtheta)'w[t]

Put into each other the first two are a recursion with the closed loop A + B dpi/dx, which is one
banded solve for all times and series. The policy is differentiated at all points at once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    check_count,
    check_finite,
    check_type,
    initial_state,
    known_horizon,
    real_array,
)
from lqrad.copies import Fixed
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, NonFiniteError, ShapeError
from lqrad.linalg.banded import first_nonfinite_step
from lqrad.linalg.stages import times
from lqrad.lq.problem import LQProblem
from lqrad.nets.graph import Given, Graph
from lqrad.nets.nodes import Arrays, Node
from lqrad.nets.primitives import Primitive, squared
from lqrad.nonlinear.control import ControlProblem, costates

# Overflow is looked for in the results and told in words; NumPy's warnings would only repeat it.
_quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")

_UNSTABLE = (
    "try smaller parameters or a smaller step size, a policy that stabilises to start from, "
    "or a shorter horizon"
)


def linear_policy(n: int, m: int) -> Graph:
    """Return the policy u = -K x as a graph.

    It has the input "x" (batch, n), the node "output" (batch, m) and the parameter "K" (m, n); and
    the loss 1/2 |output - y|^2 with the input "y" (batch, m), for a policy that is to imitate.

    See Also
    --------
    PolicyProblem : trains it.
    policy_gradient : the same for a problem that is linear.

    Examples
    --------
    >>> policy = linear_policy(2, 1)
    >>> theta = {"K": [[1.0, 2.0]]}
    >>> policy.forward({"x": [[3.0, 4.0]]}, theta, only=["output"])["output"]
    array([[-11.]])
    """
    gain = Primitive(
        "-K x",
        lambda x, K: -(x @ K.T),
        (lambda p, z, x, K: -(p @ K), lambda p, z, x, K: -(p.T @ x)),
    )
    return Graph(
        [Node("output", gain, ("x",), ("K",)), Node("loss", squared, ("output", "y"))],
        costs={"loss": 1.0},
        parameters={"K": (check_count("m", m), check_count("n", n))},
    )


class PolicyProblem(Fixed):
    """A control problem whose inputs come from a policy.

        minimise    J(theta) = the mean over x0 (..., n) of the cost of (x, u)
        subject to  x[t+1] = f(x[t], u[t], t),    u[t] = pi(x[t]; theta),    x[0] = x0

    It is trained by `descend` on `objective(x0)`, or by `sgd` on the data {"x0": x0}. The costates
    are part of `value_and_gradient`; there are no Hessian products, as a graph has first derivatives
    only.

    Parameters
    ----------
    problem : ControlProblem or LQProblem
    policy : Graph
        Its node "output" (batch, m) is the input, as a function of its input "x" (batch, n) alone:
        `mlp([n, 32, m], loss="squared")` or `linear_policy(n, m)`. Its costs are not used.
    T : int, optional
        The horizon; needed unless the problem has its own.

    Raises
    ------
    ArgumentError, ShapeError
        If the policy has no output, depends on anything but x, or has other dimensions than the
        problem; if the horizon is not known.

    See Also
    --------
    lqrad.descend, lqrad.sgd : Training.
    policy_gradient : The best u = -K x of a linear problem over an endless horizon.

    Examples
    --------
    >>> lq = LQProblem([[2.0]], [[1.0]], [[1.0]], [[1.0]])
    >>> problem = PolicyProblem(lq, linear_policy(1, 1), T=2)
    >>> J, gradient = problem.value_and_gradient([[1.0], [-3.0]], {"K": [[1.0]]})
    >>> J, gradient
    (12.5, {'K': array([[-10.]])})
    >>> closed = lq.with_feedback([[1.0]])       # the same cost, with the loop closed by hand
    >>> u = np.zeros((2, 2, 1))
    >>> float(closed.cost(closed.simulate([[1.0], [-3.0]], u), u).mean())
    12.5

    References
    ----------
    Bryson and Ho, Applied Optimal Control, 1975, section 2.2 (costates).
    Werbos, Backpropagation through time, Proceedings of the IEEE 78 (1990), 1550-1560 (of a
    controller through a model).
    """

    problem: ControlProblem | LQProblem
    policy: Graph
    T: int | None

    def __init__(
        self, problem: ControlProblem | LQProblem, policy: Graph, T: int | None = None
    ) -> None:
        if not isinstance(problem, (ControlProblem, LQProblem)):
            raise ArgumentError(
                f"problem is of type {type(problem).__name__}, expected a ControlProblem or "
                "an LQProblem"
            )
        check_type("policy", policy, Graph, "mlp(widths) or linear_policy(n, m)")
        self._set(problem=problem, policy=policy, T=known_horizon(problem, T))
        self._check_policy()

    def __repr__(self) -> str:
        return f"PolicyProblem({self.problem!r}, {self.size} parameters, T={self.T})"

    @_quiet
    def _check_policy(self) -> None:
        """Raise unless the policy is a function of x (batch, n) with values (batch, m)."""
        inputs = {name for node in self._nodes for name in node.parents}
        inputs -= {node.name for node in self._nodes}
        if inputs != {"x"} or "x" in self.policy.labels:
            raise ArgumentError(
                f"the policy's output depends on the inputs {sorted(inputs)}, expected 'x' alone, "
                "the state, and with a derivative in it"
            )
        theta = {name: np.zeros(shape) for name, shape in self.policy.parameters.items()}
        n, m = self.problem.n, self.problem.m
        shape = self._tape(np.zeros((2, n)), theta)["output"].shape
        if shape != (2, m):
            raise ShapeError(
                f"the policy's output has shape {shape} for x (2, {n}), expected (2, {m}): an "
                "input for each state"
            )

    # The parameters, as Graph has them

    @property
    def size(self) -> int:
        """The number of entries of all parameters."""
        return self.policy.size

    def flatten(self, theta: Given) -> Array:
        """Return the parameters as one vector (size,), a copy."""
        return self.policy.flatten(theta)

    def unflatten(self, vector: ArrayLike) -> Arrays:
        """Return the parameters in a vector (size,), as views into it."""
        return self.policy.unflatten(vector)

    def initial(self, rng: np.random.Generator | int) -> Arrays:
        """Return parameters to start a training from: `Graph.initial`."""
        return self.policy.initial(rng)

    # The two passes

    @_quiet
    def simulate(self, x0: ArrayLike, theta: Given, T: int | None = None) -> tuple[Array, Array]:
        """Return x and u with x[0] = x0, u[t] = pi(x[t]; theta), x[t+1] = f(x[t], u[t], t).

        Parameters
        ----------
        x0 : (..., n)
        theta : dict
        T : int, optional
            Another horizon than the problem's.

        Raises
        ------
        NonFiniteError
            If a state or an input is not finite; names the first step.
        """
        x0 = self._initial_states(x0)
        theta = self.unflatten(self.flatten(theta))
        x, u = self._rollout(x0.reshape(-1, self.problem.n), theta, self._horizon(T))
        return x.reshape(x0.shape[:-1] + x.shape[1:]), u.reshape(x0.shape[:-1] + u.shape[1:])

    @_quiet
    def value_and_gradient(
        self, x0: ArrayLike, theta: Given, T: int | None = None
    ) -> tuple[float, Arrays]:
        """Return the mean cost over the initial states, and its gradient in theta, as a dict.

        The arguments are those of `simulate`.

        Raises
        ------
        NonFiniteError
            If a state, the cost, a costate or the gradient overflows; names the first step.
        """
        x0 = self._initial_states(x0).reshape(-1, self.problem.n)
        return self._both(x0, self.unflatten(self.flatten(theta)), self._horizon(T))

    def objective(self, x0: ArrayLike | Mapping[str, ArrayLike], T: int | None = None) -> Objective:
        """Return J as a function of the flat vector of parameters, for `descend` and `sgd`.

        Parameters
        ----------
        x0 : (..., n), or {"x0": (..., n)}
            The initial states; as a dict they are the data of `sgd`.
        T : int, optional
            Another horizon than the problem's.

        Returns
        -------
        Objective
            Of shape (size,). It raises NonFiniteError where the closed loop overflows, upon which
            the line searches of `descend` shorten their step.

        Examples
        --------
        A linear policy finds the gain of Riccati's equation, where that also weighs the last state:

        >>> from lqrad import descend, dlqr
        >>> A, B, Q, R = [[1.2, 0.5], [0.0, 0.9]], [[0.0], [1.0]], np.eye(2), [[1.0]]
        >>> K, P, _ = dlqr(A, B, Q, R)
        >>> problem = PolicyProblem(LQProblem(A, B, Q, R, S=P), linear_policy(2, 1), T=20)
        >>> result = descend(problem.objective(np.eye(2)), [0.5, 1.0], method="l-bfgs")
        >>> bool(abs(problem.unflatten(result.solution)["K"] - K).max() < 1e-6)
        True
        """
        if isinstance(x0, Mapping):
            if set(x0) != {"x0"}:
                raise ArgumentError(f"the data have {sorted(x0)}, expected 'x0' alone")
            x0 = x0["x0"]
        states = np.array(self._initial_states(x0).reshape(-1, self.problem.n))
        horizon = self._horizon(T)

        @_quiet
        def value_and_gradient(vector: Array) -> tuple[float, Array]:
            theta = self.unflatten(vector)
            check_finite("the vector of parameters", real_array("vector", vector))
            value, gradient = self._both(states, theta, horizon)
            return value, np.concatenate([gradient[name].ravel() for name in theta])

        return Objective(shape=(self.size,), value_and_gradient=value_and_gradient)

    def _rollout(self, x0: Array, theta: Arrays, T: int) -> tuple[Array, Array]:
        """The closed loop from x0 (b, n)."""
        x, u = np.empty((len(x0), T + 1, self.problem.n)), np.empty((len(x0), T, self.problem.m))
        x[:, 0] = x0
        for t in range(T):
            u[:, t] = self._tape(x[:, t], theta)["output"]
            x[:, t + 1] = self.problem.next_state(x[:, t], u[:, t], t)
        for name, z in (("state x", x), ("input u", u)):
            if not math.isfinite(np.vdot(z, z)):
                step = first_nonfinite_step(z)
                if step is not None:
                    raise NonFiniteError(
                        f"the {name}[{step}] of the closed loop is not finite, of {T} steps",
                        _UNSTABLE,
                    )
        return x, u

    def _both(self, x0: Array, theta: Arrays, T: int) -> tuple[float, Arrays]:
        """The mean cost from x0 (b, n) and its gradient."""
        x, u = self._rollout(x0, theta, T)
        (b, T, m), n = u.shape, x.shape[-1]
        value = float(np.mean(self.problem.cost(x, u)))
        slopes = self.problem.derivatives(x, u)
        # Contiguous, and with all points as one batch: what the primitives are fastest on.
        tape = self._tape(np.ascontiguousarray(x[:, :-1]).reshape(-1, n), theta)
        rows = [self._pull(np.broadcast_to(e, (b * T, m)), tape, {"x"})["x"] for e in np.eye(m)]
        pi_x = np.stack(rows, axis=1).reshape(b, T, m, n)
        total = np.array(slopes.x)
        total[:, :-1] += times(pi_x, slopes.u, transpose=True)
        try:
            p = costates(slopes._replace(A=slopes.A + slopes.B @ pi_x, x=total))
        except NonFiniteError:  # which counts the steps of all series
            raise NonFiniteError(
                f"the costates of the closed loop overflowed, of {T} steps", _UNSTABLE
            ) from None
        w = slopes.u + times(slopes.B, p, transpose=True)
        pulled = self._pull(w.reshape(-1, m) / b, tape, theta)
        gradient = {name: pulled.get(name, np.zeros(theta[name].shape)) for name in theta}
        for name, array in gradient.items():
            if not np.isfinite(array).all():
                raise NonFiniteError(f"the gradient in {name!r} overflowed", _UNSTABLE)
        return value, gradient

    # The policy

    @cached_property
    def _nodes(self) -> Sequence[Node]:
        """The nodes that lead to the output, parents first."""
        return self.policy.leading_to(["output"])

    def _tape(self, x: Array, theta: Arrays) -> Arrays:
        """The values of all nodes at the states x (batch, n)."""
        values: Arrays = {"x": x, **theta}
        for node in self._nodes:
            values[node.name] = node.value(values)
        return values

    def _pull(self, w: Array, tape: Arrays, wanted: Collection[str]) -> Arrays:
        """The products of w (batch, m) with the transposed derivatives of the output."""
        p = {"output": w}
        self.policy.pull_back(p, p, tape, {*wanted, *(node.name for node in self._nodes)})
        return p

    # Checks

    def _horizon(self, T: int | None) -> int:
        return known_horizon(self.problem, self.T if T is None else T)

    def _initial_states(self, x0: ArrayLike) -> Array:
        x0 = initial_state(self.problem, x0)
        if not x0.size:
            raise ShapeError(f"x0 has shape {x0.shape}, expected (..., n), and at least one state")
        check_finite("x0", x0)
        return x0
