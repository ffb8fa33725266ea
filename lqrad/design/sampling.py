"""From continuous time to discrete time: dynamics and cost, with inputs held between samples.

    dx/dt = A x + B u,     J = integral of (1/2 x'Qx + x'Mu + 1/2 u'Ru) dt

With u constant from one sample to the next, z = (x, u) obeys dz/dt = F z, F = [A B; 0 0], and

    x[t+1] = the x part of exp(F dt) z[t],     J = sum_t 1/2 z'N z,
    N = integral over s = 0 ... dt of exp(F's) [Q M; M' R] exp(F s) ds

which is exact; the sampled cross weight is not zero even where M is. N is computed as H'H, so that it
is positive semidefinite however small some of its entries are. With [Q M; M' R] = G'G, the H of a
short step holds the rows G exp(F s) at the nodes of Gauss's quadrature. It is doubled up to dt:
H <- the triangular factor of (H; H E), E <- E E. All of it is in balanced units of x, u and time.

References
----------
Van Loan, Computing integrals involving the matrix exponential, IEEE Transactions on Automatic
Control 23(3), 1978, 395-404, for N; its doubling in square roots is that of Lyapunov equations.
Astrom and Wittenmark, Computer-Controlled Systems, 3rd edition, 1997, sections 2.3 and 11.1.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    called_as,
    check_finite,
    check_number,
    check_room,
    check_stage_weights,
    real_array,
    stage_arrays,
    steps_in,
)
from lqrad.copies import ReadOnly
from lqrad.design.statespace import StateSpace, part
from lqrad.errors import NonFiniteError, ShapeError
from lqrad.linalg.balance import balance, in_units
from lqrad.linalg.paths import paths
from lqrad.lq.problem import LQProblem

# The first step is so short that |F| times it is below this, and so many nodes integrate it exactly.
_SHORT, _NODES = 0.5, 8


class Sampled(ReadOnly):
    """A continuous-time problem, sampled: x[t+1] = A x[t] + B u[t] and the weights of each stage.

    `discretise` makes it. Matrices of a state that holds earlier inputs are made when they are first
    read; `plant(C)` needs none of them, however long the delay.

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

    def __init__(
        self, stage: Array, factor: Array, *, power: int, ages: list[int], m: int, dt: float
    ) -> None:
        # (n, n + j m) and (., n + j m): the next x, and a root of the cost over 2^power, as functions
        # of x and the j inputs that act in a step. Their ages are in steps, the oldest first.
        self._stage, self._factor, self._power = stage, factor, power
        self._ages, self._m = ages, m
        self.dt, self.delayed = dt, ages[0]

    def _place(self, age: int) -> NDArray[np.intp]:
        """The columns of the input of an age in (state, new input)."""
        n, m = len(self._stage), self._m
        start = n + (age - 1) * m if age else n + self.delayed * m
        return np.arange(start, start + m)

    @cached_property
    def _dynamics(self) -> tuple[Array, Array]:
        system = self.plant(np.eye(len(self._stage)))
        return system.A, system.B

    @cached_property
    def _weights(self) -> tuple[Array, Array, Array]:
        n, m = len(self._stage), self._m
        N = n + self.delayed * m
        check_room("the weights with all inputs before in them", 2 * N, N)
        columns = np.concatenate([np.arange(n), *(self._place(age) for age in self._ages)])
        full = np.zeros((N + m, N + m))
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            full[np.ix_(columns, columns)] = np.ldexp(self._factor.T @ self._factor, self._power)
        check_finite("the sampled cost", full, computed=True)
        # A weight that underflows has no digits left: it would not fit the rest of its row.
        lost = full.diagonal() < np.finfo(np.float64).tiny
        full[lost], full[:, lost] = 0.0, 0.0
        full.setflags(write=False)
        return full[:N, :N], full[N:, N:], full[:N, N:]

    A: Array = part("_dynamics", 0, "State matrix, of the inputs before, too.")
    B: Array = part("_dynamics", 1, "Input matrix.")
    Q: Array = part("_weights", 0, "Weight of the state.")
    R: Array = part("_weights", 1, "Weight of the input.")
    M: Array = part("_weights", 2, "Cross weight.")

    def __repr__(self) -> str:
        delay = f", {self.delayed} of the inputs before in the state" if self.delayed else ""
        m = self._m
        n = len(self._stage) + self.delayed * m
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
        """Return the sampled system with the outputs C x, C (ny, n), or all of the state when not given.

        With C, whole steps of delay are kept as such (`StateSpace.delay`).

        Examples
        --------
        >>> plant = discretise([[0.0]], [[1.0]], dt=0.1, input_delay=0.25).plant([[1.0]])
        >>> plant
        StateSpace(n=4, m=1, ny=1, dt=0.1 s, 2 steps of delay)
        >>> plant.C
        array([[1., 0., 0., 0.]])
        """
        if C is None:
            return StateSpace(self.A, self.B, dt=self.dt)
        C = np.atleast_2d(real_array("C", C))
        n, m = len(self._stage), self._m
        if C.ndim != 2 or C.shape[1] != n:
            raise ShapeError(f"C has shape {C.shape}, expected (ny, n) with n = {n}")
        A, B = self._stage[:, :n], self._stage[:, n:]
        if len(self._ages) == 1:
            return StateSpace(A, B, C, dt=self.dt, delay=self.delayed)
        # The older of the two inputs that act in a step is a state; it comes last in all of them.
        late = StateSpace(
            np.block([[A, B[:, :m]], [np.zeros((m, n + m))]]),
            np.concatenate([B[:, m:], np.eye(m)]),
            np.hstack([C, np.zeros((len(C), m))]),
            dt=self.dt,
        )
        return late.delayed(self._ages[1], after=n)


@called_as("discretise(A, B, Q, R, M=M, dt=dt)")
def discretise(
    A: ArrayLike,
    B: ArrayLike,
    Q: ArrayLike | None = None,
    R: ArrayLike | None = None,
    *,
    M: ArrayLike | None = None,
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

    Raises
    ------
    NotConvexError
        If [Q M; M' R] is not symmetric positive semidefinite.
    NonFiniteError
        If an unstable mode overflows within dt.

    See Also
    --------
    StateSpace.of : a system of another package
    lqr, lqi, lqg, design_controller : take what it gives

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
    units = balance(A, B, Q=Q, R=R, continuous=True)
    z = np.append(units.x, units.u)
    rates = np.block([[A, B], [np.zeros((m, n + m))]])
    weight = np.block([[Q, M], [M.T, R]])
    F = in_units(rates, z, z, units.time)
    G = _root(in_units(weight, -z, z, -units.cost))
    steps_in(input_delay, dt)
    with np.errstate(over="ignore"):
        dt_own, delay = np.ldexp([dt, input_delay], -units.time).tolist()
    if not (dt_own and math.isfinite(dt_own + delay)):
        raise NonFiniteError(f"dt = {dt:.3g} is out of all proportion to the rates of A")

    whole, part = divmod(delay, dt_own)
    if part > dt_own * (1 - 1e-12) or part < dt_own * 1e-12:  # whole steps, but for rounding
        whole, part = float(round(delay / dt_own)), 0.0
    # The input before acts for the first `part` of a step, then the next one for the rest.
    newest = int(whole)
    stage, factor = _held(F, G, dt_own - part)
    ages = [newest]
    if part:
        first, first_factor = _held(F, G, part)
        turn = np.zeros((n + m, n + 2 * m))  # from (x, before, next) to (x at the turn, next)
        turn[:n, : n + m], turn[n:, n + m :] = first[:n], np.eye(m)
        with np.errstate(over="ignore", invalid="ignore"):  # looked for below
            stage, factor = stage @ turn, factor @ turn
        wide = np.hstack([first_factor, np.zeros((len(first_factor), m))])
        factor = np.concatenate([wide, factor])
        ages = [newest + 1, newest]
    columns = np.append(units.x, np.tile(units.u, len(ages)))
    stage = in_units(stage[:n], -units.x, -columns)
    factor = in_units(factor, np.zeros(len(factor), np.int64), -columns)
    for name, array in (("system", stage), ("cost", factor)):
        check_finite(f"the sampled {name}", array, computed=True)
        array.setflags(write=False)
    return Sampled(stage, factor, power=units.cost + units.time, ages=ages, m=m, dt=dt)


def _root(weight: Array) -> Array:
    """G with G'G = weight, which is semidefinite to rounding beside a unit diagonal."""
    size = np.sqrt(np.maximum(weight.diagonal(), 0.0))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(weight / size / size[:, None])
    kept = values > 0
    return np.asarray(np.sqrt(values[kept])[:, None] * vectors[:, kept].T * size)


def _held(F: Array, G: Array, dt: float) -> tuple[Array, Array]:
    """Return E = exp(F dt), and H with H'H = integral over s = 0 ... dt of exp(F's) G'G exp(F s) ds."""
    with np.errstate(over="ignore"):
        size = float(np.abs(F * dt).sum(axis=0).max())
    if not math.isfinite(size):
        raise NonFiniteError(f"A dt overflows, with dt = {dt:.3g}", "sample more often")
    doublings = max(0, math.ceil(math.log2(size) - math.log2(_SHORT))) if size > 0 else 0
    h = math.ldexp(dt, -doublings)
    filled = paths(F)

    def exponential(s: float) -> Array:  # the solve in it fills zeros with rounding
        return np.where(filled, scipy.linalg.expm(F * s), 0.0)

    E, H = exponential(h), np.zeros((0, len(F)))
    if len(G):
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        pairs = zip((1 + nodes) / 2, weights / 2 * h, strict=True)
        H = _triangular([np.sqrt(w) * G @ exponential(s * h) for s, w in pairs])
    with np.errstate(over="ignore", invalid="ignore"):  # looked for by the caller
        for _ in range(doublings):
            if not (np.isfinite(E).all() and np.isfinite(H).all()):
                break  # it is told, and rows that are not finite would only grow in number
            H, E = _triangular([H, H @ E]), E @ E
    return E, H


def _triangular(rows: list[Array]) -> Array:
    """H with H'H the sum of R'R over these matrices R, with no more rows than columns."""
    stacked = np.concatenate(rows)
    if len(stacked) <= stacked.shape[1] or not np.isfinite(stacked).all():
        return stacked
    return np.asarray(np.linalg.qr(stacked, mode="r"))
