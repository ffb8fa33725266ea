"""The discrete-time Riccati recursion and its limit.

The value function of  min sum_t 1/2 x'Qx + x'Mu + 1/2 u'Ru + 1/2 x_T'S x_T,  x[t+1] = A x[t] + B u[t]
is 1/2 x'P[t]x, and its minimiser is u[t] = -K[t] x[t], with P[T] = S and

    G = R + B'P[t+1]B       N = B'P[t+1]A + M'       K[t] = G^-1 N
    P[t] = Q + A'P[t+1]A - N'K[t]

`recursion` runs it backward, by stages, and in factors where P would become indefinite or lose digits; `double`
goes to its limit, the solution of the discrete algebraic Riccati equation, by doubling the horizon;
`lyapunov` sums what a stable closed loop makes of a given stage cost, `steady_covariance` what it makes
of a given noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dgemm, dsymm, dtrsm
from scipy.linalg.lapack import dgesv, dpotrf

from lqrad.arguments import EPS, Array, check_finite, check_room
from lqrad.errors import NonFiniteError, NotConvexError
from lqrad.linalg.balance import balance, in_units
from lqrad.linalg.riccati_factors import recursion_in_factors
from lqrad.linalg.settled import looks, settled
from lqrad.linalg.stages import Stages, times
from lqrad.native.library import serves_matrices
from lqrad.native.lq import LQKernel, lq_kernel

# Room is made for so many stages at first, and for twice as many where they do not do.
_FIRST_ROOM = 64
# An eigenvalue of P below minus this, with P scaled to a unit diagonal, is no mere rounding error.
_INDEFINITE = 1e-12
# Where n times so much, or more, may have cancelled in a diagonal entry of P, three digits are lost.
_MOST_CANCELLED = 2.0**10
_TINY = float(np.finfo(np.float64).tiny)
# Powers of a closed loop are squared at most this often: one that has not halved by then has a
# spectral radius within 2e-13 of one, too close for rounding errors to tell it from one.
_MOST_DOUBLINGS = 42

_Arrays = tuple[Array, Array, Array, Array, Array]  # A, B, Q, R, M


class Recursion(NamedTuple):
    """What `recursion` returns.

    Attributes
    ----------
    P, K, L : Stages of (T+1, n, n), (T, m, n), (T, m, m)
        L is the lower Cholesky factor of unit (R + B'P[t+1]B).
    swept : int
        The stages that were run before the tail had settled, T if it never did.
    """

    P: Stages
    K: Stages
    L: Stages
    swept: int


def recursion(
    A: Array,
    B: Array,
    Q: Array,
    R: Array,
    M: Array,
    S: Array,
    T: int,
    unit: float = 1.0,
    kernel: LQKernel | None = None,
) -> Recursion:
    """Run the Riccati recursion backward from P[T] = S.

    All but S may have a leading T axis. P is symmetric to the last bit at each stage: without that the
    antisymmetric part of the rounding errors grows like the open loop and ruins K where A is unstable.
    Where nothing varies in time, the recursion stops as soon as the rest of the horizon would change no
    entry of P by more than 2 eps sqrt(P[i, i] P[j, j]), as `settled` knows, and the earlier stages repeat
    the last P, K and L.

    Roots are taken of `unit` times the weights, which decides no more than their last digits. A `kernel` of
    these arrays that is there already need not be made.

    Where the weights are semidefinite and P[0], or an R + B'PB on the way to it, is not, all is done
    again in factors, `recursion_in_factors`. Rounding errors do this where a mode grows and Q does not
    see it. So are the last stages where less is left of an entry of P than the terms that cancel in it
    allow, as where S is large.

    Raises
    ------
    NotConvexError
        If R + B'P[t+1]B is not positive definite; names the last such stage.
    NonFiniteError
        If P overflows; names the stage.

    References
    ----------
    Anderson and Moore, Optimal Control: Linear Quadratic Methods (1990), section 2.4.

    Examples
    --------
    >>> one = np.eye(1)
    >>> P, K, L, swept = recursion(one, one, one, one, 0 * one, one, 200)
    >>> print(round(P[0, 0, 0], 12))  # p = 1 + p - p^2 / (1 + p) for the golden ratio
    1.61803398875
    >>> swept < 50
    True
    """
    arrays: _Arrays = (A, B, Q, R, M)
    plain, first, fault = _of_P(arrays, S, T, unit, kernel)
    if plain and first == T:
        return plain
    late = _in_factors(arrays, S, first, T, unit)
    if late and first > (plain.P.repeated if plain else 0):
        A, B, Q, R, M = (z[:first] if z.ndim == 3 else z for z in arrays)
        early, sound, _ = _of_P((A, B, Q, R, M), late.P[0], first, unit, kernel)
        if early and sound == first:
            return _joined(early, late)
        late = _in_factors(arrays, S, 0, T, unit)
    elif late and first and not settled(late.P.distinct, first, A - B @ late.K.distinct[0]):
        late = _in_factors(arrays, S, 0, T, unit)  # what had settled were the digits that were left
    found = late or plain
    if found is None:
        assert fault
        raise fault
    return found


def _of_P(
    arrays: _Arrays, S: Array, T: int, unit: float, kernel: LQKernel | None
) -> tuple[Recursion | None, int, NotConvexError | None]:
    """`recursion_of_P`, the first stage that lost digits, 0 where P[0] is indefinite, T where none did; its error."""
    try:
        found = recursion_of_P(*arrays, S, T, unit, kernel)
    except NotConvexError as error:
        return None, 0, error
    if not _semidefinite(found.P[0]):
        return found, 0, None
    diagonal, A, most = found.P.distinct.diagonal(0, 1, 2), arrays[0], len(S) * _MOST_CANCELLED
    largest = len(S) * max(float(A.max()), -float(A.min()))
    if largest * largest * float(diagonal.max()) <= most * float(diagonal.min()):
        return found, T, None  # none can have, whatever its stage
    # The terms that add up to the diagonal of A'PA, by |P[i, j]|^2 <= P[i, i] P[j, j]: at most n times it
    # where they do not cancel.
    A = np.broadcast_to(np.abs(A), (T, *A.shape[-2:]))[T + 1 - len(diagonal) :]
    terms = np.einsum("tji,tj->ti", A, np.sqrt(np.abs(diagonal[1:]))) ** 2
    lost = (terms > most * diagonal[:-1]).any(axis=1)
    return found, found.P.repeated + int(lost.argmax()) if lost.any() else T, None


def _in_factors(arrays: _Arrays, S: Array, first: int, T: int, unit: float) -> Recursion | None:
    """The stages from `first` on by `recursion_in_factors`, of which those before are repetitions.

    In balanced units: its reflections mix rows of different units. None where a weight is indefinite.
    """
    A, B, Q, R, M = (z[first:] if z.ndim == 3 else z for z in arrays)
    n, weights = len(S), [unit * z for z in (Q, R, M, S)]
    Qs = np.concatenate([weights[0].reshape(-1, n, n), weights[3][None]])
    x, u, _, _, cost = balance(A, B, Q=Qs, R=weights[1])
    sides = ((x, x), (u, u), (x, u), (x, x))
    q, r, m, s = (
        in_units(z, -rows, columns, -cost)
        for z, (rows, columns) in zip(weights, sides, strict=True)
    )
    found = recursion_in_factors(in_units(A, x, x), in_units(B, x, u), q, r, m, s, T - first)
    if found is None:
        return None
    P, K, L = found
    P, K = in_units(P, x, -x, cost) / unit, in_units(K, -u, -x)
    L = 2.0 ** (cost % 2 / 2) * in_units(L, u, 0 * u, cost // 2)
    _check(P, K, L, arrays[1], arrays[3], first, unit, power=2)
    return Recursion(Stages(P, T + 1), Stages(K, T), Stages(L, T), T - first)


def _joined(early: Recursion, late: Recursion) -> Recursion:
    """The stages of both, where `early` begins with the last of P with which `late` ends."""
    P = np.concatenate([early.P.distinct[:-1], late.P.distinct])
    K, L = (
        np.concatenate([z.distinct, y.distinct]) for z, y in zip(early[1:3], late[1:3], strict=True)
    )
    T = len(late.K)
    return Recursion(Stages(P, T + 1), Stages(K, T), Stages(L, T), early.swept + late.swept)


def recursion_of_P(
    A: Array,
    B: Array,
    Q: Array,
    R: Array,
    M: Array,
    S: Array,
    T: int,
    unit: float = 1.0,
    kernel: LQKernel | None = None,
) -> Recursion:
    """The recursion of P itself."""
    n, m = B.shape[-2:]
    varying = any(z.ndim == 3 for z in (A, B, Q, R, M))
    if not serves_matrices(n, m):
        kernel = None
    elif kernel is None:
        kernel = lq_kernel(n, m, A=A, B=B, Q=Q, R=R, M=M)
    # As many stages are held as may be swept: those from `base` on.
    base = 0 if varying else max(T - _FIRST_ROOM, 0)
    rows = T - base
    check_room(f"a value function over T = {T} steps", rows + 1, n * (n + m))
    P, K, L = np.empty((rows + 1, n, n)), np.empty((rows, m, n)), np.empty((rows, m, m))
    P[rows] = S
    blas = None
    t, swept = T, T
    for swept in (T,) if varying else looks(T):
        look = T - swept
        if look < base:
            more = min(T - base, base)
            check_room(f"a value function over T = {T} steps", T - base + more, n * (n + m))
            P, K, L = (np.concatenate([np.empty((more, *z.shape[1:])), z]) for z in (P, K, L))
            base -= more
        stopped = kernel.riccati(look - base, t - base, unit, P, K, L) if kernel else t - base
        if stopped:  # by a pivot in doubt or what is not finite, or before the first stage
            blas = blas or _blas_stages(A, B, Q, R, M, T, unit)
            blas(P, K, L, base, look, base + stopped)
        t = look
        if blas and not np.isfinite(P[t - base]).all():
            break
        if t and not varying and settled(P[t - base :], t, A - B @ K[t - base]):
            break
    P, K, L = (z[t - base :] for z in (P, K, L))
    if blas:
        _check(P, K, L, B, R, t, unit)
    return Recursion(Stages(P, T + 1), Stages(K, T), Stages(L, T), swept)


def _blas_stages(
    A: Array, B: Array, Q: Array, R: Array, M: Array, T: int, unit: float
) -> Callable[[Array, Array, Array, int, int, int], None]:
    """The function that runs stages last-1, ..., first in place, from that of `last` on.

    P, K and L hold the stages from `base` on. With L L' = unit G and Y = L^-1 unit N,

        P[t] = Q + A'P[t+1]A - Y'Y / unit       K[t] = L^-1' Y
    """
    # Transposed, each stage is in column order, as BLAS wants it: P', K' and L' are written where they are.
    At, Bt, Qt, Rt = (np.broadcast_to(z, (T, *z.shape[-2:])).swapaxes(1, 2) for z in (A, B, Q, R))
    M = np.broadcast_to(M, (T, *B.shape[-2:]))
    cross = unit if M.any() else 0.0

    @np.errstate(over="ignore", invalid="ignore")  # the caller looks
    def run(P: Array, K: Array, L: Array, base: int, first: int, last: int) -> None:
        now = P[last - base].T
        for t in range(last - 1, first - 1, -1):
            i, a, b = t - base, At[t], Bt[t]
            rows, root = K[i].T, L[i].T
            # In the order of the functions' arguments: to sort keywords takes as long as a product.
            PA, PB = dgemm(1.0, now, a, 0.0, None, 0, 1), dgemm(1.0, now, b, 0.0, None, 0, 1)
            root[...] = Rt[t]
            dgemm(unit, b, PB, unit, root, 0, 0, 1)
            if cross:
                rows[...] = M[t]
            dgemm(unit, PA, b, cross, rows, 1, 1, 1)
            if dpotrf(root, 0, 1, 1)[1]:
                # What led to this comes first.
                _check(P[i + 1 :], K[i + 1 :], L[i + 1 :], B, R, t + 1, unit)
                raise _not_convex(dgemm(1.0, b, PB, 1.0, Rt[t]), t)
            dtrsm(1.0, root, rows, 1, 0, 0, 0, 1)
            # Half of P, whose sum with its transpose is symmetric.
            half = dgemm(0.5, a, PA, 0.5, Qt[t])
            half = dgemm(-0.5 / unit, rows, rows, 1.0, half, 0, 1, 1)
            now = np.add(half, half.T, out=P[i]).T
            dtrsm(1.0, root, rows, 1, 0, 1, 0, 1)

    return run


def _semidefinite(P: Array) -> bool:
    """Whether P is positive semidefinite, to what rounding errors may add up to."""
    raised = P.copy()
    # A diagonal entry of zero is raised to the least number: the factor then exists only where the
    # rest of its row is zero.
    raised.flat[:: len(P) + 1] = P.diagonal() * (1 + _INDEFINITE) + _TINY
    return bool(dpotrf(raised, lower=1, overwrite_a=1)[1] == 0)


def _check(
    P: Array, K: Array, L: Array, B: Array, R: Array, start: int, unit: float, power: int = 1
) -> None:
    """Raise for the first stage, in the order of the recursion, that is no solution; P[0] is P[start].

    The factor of a singular R + B'PB may exist by the grace of rounding errors: it counts as
    singular where a pivot is no larger than they are. Of a pivot that was never squared, these are those
    of its root, and squared: `power` 2.
    """
    # Sums of squares are finite only if all entries are, and cost less than asking each of them.
    if not (math.isfinite(np.vdot(P[:-1], P[:-1])) and math.isfinite(np.vdot(K, K))):
        finite = np.isfinite(P[:-1]).all(axis=(1, 2)) & np.isfinite(K).all(axis=(1, 2))
        if not finite.all():
            raise _overflow(start + int(np.flatnonzero(~finite)[-1]))
    B, R = (z[start:] if z.ndim == 3 else z for z in (B, R))
    # The terms that add up to the diagonal of B'PB, by |P[i, j]|^2 <= P[i, i] P[j, j].
    roots = np.sqrt(np.abs(P[1:].diagonal(0, 1, 2)))
    size = times(np.abs(B), roots, transpose=True) ** 2 + np.abs(R.diagonal(0, -2, -1))
    safe = L.diagonal(0, 1, 2) ** 2 > unit * (sum(B.shape[-2:]) * EPS) ** power * size
    if not safe.all():
        t = int(np.flatnonzero(~safe.all(axis=1))[-1])
        lower = np.tril(L[t])
        raise _not_convex(lower @ lower.T / unit, start + t)


def _not_convex(G: Array, t: int) -> NotConvexError | NonFiniteError:
    """The error for a G = R + B'P[t+1]B that has no Cholesky factor."""
    if not np.isfinite(G).all():
        return _overflow(t)
    values = np.linalg.eigvalsh(G)
    return NotConvexError(
        f"R + B'P[{t + 1}]B is not positive definite at stage t={t}, to working precision: its "
        f"eigenvalues are from {values[0]:.3g} to {values[-1]:.3g}, so that u[{t}] has no unique "
        "minimiser; give R more weight, or weight in Q and S the states that this input moves"
    )


def _overflow(t: int) -> NonFiniteError:
    return NonFiniteError(
        f"the Riccati recursion overflowed at stage t={t}: the cost to go grows without bound as "
        "the horizon gets longer; is there an unstable mode that B cannot move? "
        "Try a shorter horizon, or dare, which names the mode"
    )


def double(A: Array, G: Array, H: Array) -> Array:
    """Return the limit P of the Riccati recursion P <- H + A'P(I + G P)^-1 A from P = 0.

    Stages are composed, not run one by one: if (A, G, H) describes a number of stages, then with
    W = I + G H the triple

        A W^-1 A,    G + A W^-1 G A',    H + A'H W^-1 A

    describes twice as many, and its H is P after as many. The errors are squared at each doubling.
    Symmetric G and H are B R^-1 B' and Q, where there is no cross weight. Where the recursion has no
    limit, what is returned is not finite, or not a solution: check it.

    References
    ----------
    Chu, Fan, Lin and Wang, Structure-preserving algorithms for periodic discrete-time algebraic
    Riccati equations, International Journal of Control 77 (2004), 767-788.
    Chiang, Chu, Guo, Huang, Lin and Xu, Convergence analysis of the doubling algorithm for several
    nonlinear matrix equations in the critical case, SIAM J. Matrix Anal. Appl. 31 (2009), 227-247.

    Examples
    --------
    >>> one = np.eye(1)
    >>> print(round(double(one, one, one)[0, 0], 12))  # the golden ratio
    1.61803398875
    """
    n = len(A)
    identity = np.eye(n)
    A, G, H = map(np.asfortranarray, (A, G, H))
    sides = np.empty((n, 2 * n), order="F")
    half, rest = sides[:, :n], sides[:, n:]
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at what came out
        for _ in range(_MOST_DOUBLINGS):
            half[...], rest[...] = A, G
            W = dsymm(1.0, G, H, lower=1, beta=1.0, c=identity)
            if dgesv(W, sides, overwrite_a=1, overwrite_b=1)[3]:
                return np.full((n, n), np.nan)
            # One triangle of G and H is read but in W: they need not be symmetric to the last bit.
            H = dgemm(1.0, A, dsymm(1.0, H, half, lower=1), trans_a=1, beta=1.0, c=H)
            G = dgemm(1.0, A, dgemm(1.0, rest, A, trans_b=1), beta=1.0, c=G)
            A = dgemm(1.0, A, half)
            # Not "if <=": what is not finite ends it too.
            if not np.vdot(A, A) > EPS:
                break
    return 0.5 * (H + H.T)


def vanishing(F: Array) -> int | None:
    """Return how often F is to be squared until it vanishes beside one, or None where it does not.

    That proves F stable: see `lyapunov`.

    Examples
    --------
    >>> vanishing(np.array([[0.5]])), vanishing(np.array([[1.0]]))
    (5, None)
    """
    squarings, left = 0, np.inf
    while left > EPS and squarings < _MOST_DOUBLINGS:
        F = F.dot(F)
        squarings += 1
        left = float(np.vdot(F, F))
    return squarings if left <= 0.25 else None


def lyapunov(F: Array, D: Array) -> tuple[Array, int] | None:
    """Return X = sum_i (F^i)' D F^i, the solution of X = D + F'XF, if F is stable, else None.

    Stability is proven, not read off eigenvalues: a power of F has a norm below one. D and X are
    symmetric, and the relative error of X is about eps / (1 - spectral radius). Also how often F was
    squared before it vanished: its spectral radius is about 1 - 18 / 2^squarings, or less where F grows
    before it decays.

    References
    ----------
    Smith, Matrix equation XA + BX = C, SIAM J. Appl. Math. 16 (1968), 198-201 (squaring).

    Examples
    --------
    >>> lyapunov(np.array([[0.5]]), np.array([[3.0]]))
    (array([[4.]]), 5)
    >>> lyapunov(np.array([[1.0]]), np.array([[3.0]])) is None
    True
    """
    total, squarings, left = D, 0, np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        # The terms that are left out are smaller than the sum by the square of the norm of F.
        while left > EPS and squarings < _MOST_DOUBLINGS:
            total = total + F.T.dot(total).dot(F)
            F = F.dot(F)
            squarings += 1
            left = float(np.vdot(F, F))
    return (0.5 * (total + total.T), squarings) if left <= 0.25 else None


def steady_covariance(F: Array, D: Array) -> Array:
    """Return the solution of X = F X F' + D, for F stable, of systems in any units.

    By squaring, as `lyapunov`, in which every entry keeps its own digits; a solver of the linear
    equations for X loses those of variances that are far apart.
    """
    for name, array in (("the closed loop", F), ("what disturbs it", D)):
        check_finite(name, array, computed=True)
    total = D
    with np.errstate(over="ignore", invalid="ignore"):
        # Until no power is left: the smallest entry may be all that one of its unit has.
        for _ in range(_MOST_DOUBLINGS):
            total = total + F.dot(total).dot(F.T)
            F = F.dot(F)
            if not F.any():
                break
    check_finite("the steady covariance", total, computed=True)
    return np.asarray(0.5 * total + 0.5 * total.T)
