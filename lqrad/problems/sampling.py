"""From continuous time to discrete time: dynamics and cost, with inputs held between samples.

    dx/dt = A x + B u,     J = integral of (1/2 x'Qx + x'Mu + 1/2 u'Ru) dt

With u constant from one sample to the next, z = (x, u) obeys dz/dt = F z, F = [A B; 0 0], and

    x[t+1] = the x part of exp(F dt) z[t],     J = sum_t 1/2 z'N z,
    N = integral over s = 0 ... dt of exp(F's) [Q M; M' R] exp(F s) ds

which is exact: the sampled cross weight is not zero, also where M is. A short step of N comes from
one exponential (Van Loan) and is doubled, N <- N + E'N E, E <- E E, up to dt: sums of positive
terms, where one exponential over a long dt would lose all digits to exp(-F dt).

References
----------
Van Loan, Computing integrals involving the matrix exponential, IEEE Transactions on Automatic
Control 23(3), 1978, 395-404.
Astrom and Wittenmark, Computer-Controlled Systems, 3rd edition, 1997, sections 2.3 and 11.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    check_finite,
    check_number,
    check_room,
    check_stage_weights,
    frozen_array,
    stage_arrays,
)
from lqrad.copies import ReadOnly
from lqrad.errors import NonFiniteError, ShapeError
from lqrad.kernels.balance import balance, in_units
from lqrad.problems.lq import LQProblem
from lqrad.problems.statespace import StateSpace

# The first step is so short that |F| times it is below this.
_SHORT = 0.5


@dataclass(frozen=True, eq=False, repr=False)
class Sampled(ReadOnly):
    """A continuous-time problem, sampled: x[t+1] = A x[t] + B u[t] and the weights of each stage.

    Attributes
    ----------
    A, B : (N, N), (N, m)
        Where the input is delayed the state is (x[t], u[t-1], u[t-2], ..., u[t-k]), the newest
        input first, and N = n + k m; else it is x[t].
    Q, R, M : (N, N), (m, m), (N, m)
        An input is weighed while it acts: the weight of one that is delayed by a step or more is in
        Q, and R is zero.
    dt : float
        Time from one sample to the next in seconds.
    delayed : int
        k, the number of inputs in the state.
    """

    A: Array
    B: Array
    Q: Array
    R: Array
    M: Array
    dt: float
    delayed: int

    def __repr__(self) -> str:
        delay = f", {self.delayed} of the inputs before in the state" if self.delayed else ""
        n, m = self.B.shape
        return f"<Sampled: n={n}, m={m}, dt={self.dt:g} s{delay}>"

    def problem(self, S: ArrayLike | None = None) -> LQProblem:
        """Return the problem of these matrices, with the terminal weight S, or Q when not given.

        Examples
        --------
        >>> sampled = discretise([[0.0]], [[1.0]], [[1.0]], [[1.0]], dt=0.1)
        >>> sampled.problem()
        LQProblem(n=1, m=1, time-invariant, with M)
        """
        return LQProblem(self.A, self.B, self.Q, self.R, S, M=self.M)

    def plant(self, C: ArrayLike | None = None) -> StateSpace:
        """Return the sampled system with the outputs C x of the undelayed state, or all of it.

        Parameters
        ----------
        C : (ny, n), optional

        Examples
        --------
        >>> discretise([[0.0]], [[1.0]], dt=0.1, input_delay=0.25).plant([[1.0]]).C
        array([[1., 0., 0., 0.]])
        """
        if C is None:
            return StateSpace(self.A, self.B, dt=self.dt)
        C = np.atleast_2d(frozen_array("C", C))
        wide = np.zeros((len(C), len(self.A)))
        n = len(self.A) - self.delayed * self.B.shape[1]
        if C.ndim != 2 or C.shape[1] != n:
            raise ShapeError(f"C has shape {C.shape}, expected (ny, n) with n = {n}")
        wide[:, :n] = C
        return StateSpace(self.A, self.B, wide, dt=self.dt)


def discretise(
    A: ArrayLike,
    B: ArrayLike,
    Q: ArrayLike | None = None,
    R: ArrayLike | None = None,
    M: ArrayLike | None = None,
    *,
    dt: float,
    input_delay: float = 0.0,
) -> Sampled:
    """Sample a continuous-time problem exactly, its inputs held between samples.

    Parameters
    ----------
    A : (n, n)
        State matrix of dx/dt = A x + B u.
    B : (n, m)
        Input matrix.
    Q, R, M : (n, n), (m, m), (n, m), optional
        Weights of the cost's integrand, per second; zero when not given.
    dt : float
        Time from one sample to the next in seconds.
    input_delay : float
        Time in seconds before an input reaches the plant, any number of steps and a part of one.

    Returns
    -------
    Sampled

    Raises
    ------
    ArgumentError
        If dt is not a positive number, or the delay is negative.
    NotConvexError
        If [Q M; M' R] is not symmetric positive semidefinite.
    NonFiniteError
        If an unstable mode overflows within dt.
    ShapeError, DtypeError
        If an array does not fit; names it.

    Examples
    --------
    A mass of 1 kg under a force, sampled every 0.1 s:

    >>> sampled = discretise([[0, 1], [0, 0]], [[0], [1]], Q=np.diag([1, 0]), R=[[1]], dt=0.1)
    >>> sampled.A, sampled.B.ravel()
    (array([[1. , 0.1],
           [0. , 1. ]]), array([0.005, 0.1  ]))
    >>> sampled.M.ravel()                   # 1/6 dt^3, 1/8 dt^4
    array([1.66666667e-04, 1.25000000e-05])
    """
    given = {"A": A, "B": B, "Q": Q, "R": R, "M": M}
    arrays, T = stage_arrays(**{k: z for k, z in given.items() if k in "AB" or z is not None})
    if T is not None:
        raise ShapeError(
            "one of A, B, Q, R and M has a leading axis of stages; a system in continuous time has none"
        )
    A, B = arrays["A"], arrays["B"]
    n, m = B.shape
    dt = check_number("dt", dt, above=0)
    input_delay = check_number("input_delay", input_delay, least=0)
    shapes = {"Q": (n, n), "R": (m, m), "M": (n, m)}
    Q, R, M = (arrays.get(name, np.zeros(shape)) for name, shape in shapes.items())
    check_stage_weights(Q, R, M)
    F = np.block([[A, B], [np.zeros((m, n + m))]])
    weight = np.block([[Q, M], [M.T, R]])

    whole, part = divmod(float(input_delay), float(dt))
    if part > dt * (1 - 1e-12) or part < dt * 1e-12:  # a whole number of steps, but for rounding
        whole, part = float(round(input_delay / dt)), 0.0
    size = n + (int(whole) + 1) * m
    check_room(f"a state with the inputs of {whole:.3g} steps before", size, 3 * size)
    # The input before acts for the first `part` of a step, then the next one for the rest.
    newest = int(whole)
    stage, cost = _held(F, weight, dt - part)
    ages = [newest]
    if part:
        first, first_cost = _held(F, weight, part)
        turn = np.zeros((n + m, n + 2 * m))  # from (x, before, next) to (x at the turn, next)
        turn[:n, : n + m], turn[n:, n + m :] = first[:n], np.eye(m)
        stage, cost = stage @ turn, turn.T @ cost @ turn
        cost[: n + m, : n + m] += first_cost
        ages = [newest + 1, newest]
    return _with_inputs_before(stage[:n], cost, ages, n, m, float(dt))


def _with_inputs_before(
    stage: Array, cost: Array, ages: list[int], n: int, m: int, dt: float
) -> Sampled:
    """The system whose state holds inputs of steps before, as many as the oldest that acts is old.

    `stage` (n, n + k m) and `cost` are of x and the k inputs that act in a step, of these ages.
    """
    kept = ages[0]
    width = n + kept * m

    def place(age: int) -> NDArray[np.intp]:  # of the input of this age in (state, new input)
        start = n + (age - 1) * m if age else width
        return np.arange(start, start + m)

    columns = np.concatenate([np.arange(n), *(place(age) for age in ages)])
    full, weight = np.zeros((width, width + m)), np.zeros((width + m, width + m))
    full[np.ix_(np.arange(n), columns)] = stage
    for age in range(1, kept + 1):
        full[place(age), place(age - 1)] = 1.0  # a step older
    weight[np.ix_(columns, columns)] = (cost + cost.T) / 2
    for name, array in (("system", full), ("cost", weight)):
        check_finite(f"the sampled {name}", array, computed=True)
        array.setflags(write=False)
    return Sampled(
        full[:, :width],
        full[:, width:],
        weight[:width, :width],
        weight[width:, width:],
        weight[:width, width:],
        dt=dt,
        delayed=kept,
    )


def _held(F: Array, weight: Array, dt: float) -> tuple[Array, Array]:
    """Return E = exp(F dt) and N = integral over s = 0 ... dt of exp(F's) weight exp(F s) ds.

    In balanced units, in which no entry drowns in the rounding errors of another's exponential.
    """
    with np.errstate(over="ignore"):
        F, weight = F * dt, weight * dt
    check_finite("[A B; 0 0] dt", F, computed=True)
    check_finite("[Q M; M' R] dt", weight, computed=True)
    z, *_, cost = balance(F, Q=weight)
    F, weight = in_units(F, z, z), in_units(weight, -z, z, -cost)
    with np.errstate(over="ignore"):
        size = float(np.abs(F).sum(axis=0).max())
    if not math.isfinite(size):
        raise NonFiniteError(f"A dt overflows, with dt = {dt:.3g}", "sample more often")
    doublings = max(0, math.ceil(math.log2(size / _SHORT))) if size > 0 else 0
    k = len(F)
    both = np.block([[-F.T, weight], [np.zeros((k, k)), F]]) / 2**doublings
    exponential = scipy.linalg.expm(both)
    E = np.where(_paths(F), exponential[k:, k:], 0.0)  # solving for it fills zeros with rounding
    N = E.T @ exponential[:k, k:]
    with np.errstate(over="ignore", invalid="ignore"):  # looked for by the caller
        for _ in range(doublings):
            N = N + E.T @ N @ E
            E = E @ E
        return in_units(E, -z, -z), in_units((N + N.T) / 2, z, -z, cost)


def _paths(F: Array) -> NDArray[np.bool_]:
    """Where a power of F may be other than zero: a path leads from j to i."""
    paths = ((F != 0) | np.eye(len(F), dtype=bool)).astype(np.float64)
    for _ in range(len(F).bit_length()):
        paths = np.minimum(paths @ paths, 1.0)
    return np.asarray(paths > 0)
