"""The Riccati solutions of a batch of problems, found at once.

A problem whose recursion needs a closer look, as where P becomes indefinite by rounding errors, or one that
has no solution, is solved by `riccati` alone, which has the ways and the words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import Array, check_finite, check_room
from lqrad.batches import within_problem
from lqrad.copies import ReadOnly
from lqrad.linalg.riccati_batch import run_recursions
from lqrad.linalg.stages import Stages
from lqrad.lq.batch import LQBatch
from lqrad.lq.inputs import Trajectory
from lqrad.lq.problem import LQProblem
from lqrad.native.batch import Solutions, recursions, rollouts
from lqrad.results import Report

_quiet = np.errstate(over="ignore", invalid="ignore")
# Above this size, or below this number of problems, NumPy is faster with one after the other.
_MOST_ABREAST, _FEWEST_ABREAST = 30, 24


@dataclass(frozen=True, eq=False, repr=False)
class RiccatiBatch(ReadOnly, Report):
    """The solutions of the problems of a batch, each a feedback law and a value function.

    Attributes
    ----------
    batch : LQBatch
    P : (b, T+1, n, n)
    K : (b, T, m, n)
    k : (b, T, m)
        The optimal input of each problem is u[t] = -K[t] x[t] - k[t].
    v : (b, T+1, n)
    w : (b, T+1)
        The optimal cost from x at time t is 1/2 x'P[t]x + v[t]'x + w[t].
    """

    batch: LQBatch
    P: Array
    K: Array
    k: Array
    v: Array
    w: Array

    def __repr__(self) -> str:
        return (
            f"RiccatiBatch({self.batch.b} problems, n={self.batch.n}, m={self.batch.m}, T={self.T})"
        )

    @property
    def T(self) -> int:
        """The horizon."""
        return int(self.K.shape[1])

    @_quiet
    def cost(self, x0: ArrayLike) -> Array:
        """Return the optimal cost (b,) of each problem from its x0 (b, n), or from x0 (n,) of all.

        Examples
        --------
        >>> from lqrad import riccati
        >>> batch = LQBatch(np.array([[[1.0]], [[0.0]]]), [[1]], [[1]], [[1]])
        >>> riccati(batch, T=1).cost([2.0])
        array([3., 2.])
        """
        x0 = self._finite_starts(x0)
        cost = np.einsum("bi,bij,bj->b", 0.5 * x0, self.P[:, 0], x0)
        cost += (x0 * self.v[:, 0]).sum(axis=1) + self.w[:, 0]
        if not np.isfinite(cost).all():
            with within_problem(int(np.isfinite(cost).argmin())):
                check_finite("the cost", cost[~np.isfinite(cost)][0], computed=True)
        return np.asarray(cost)

    def rollout(self, x0: ArrayLike) -> Trajectory:
        """Return the optimal trajectories x (b, T+1, n), u, p and their cost (b,), in closed loop.

        From x0 (b, n), or from x0 (n,) of all; as `Riccati.rollout` does for one problem.

        Examples
        --------
        >>> from lqrad import riccati
        >>> batch = LQBatch(np.array([[[1.0]], [[0.0]]]), [[1]], [[1]], [[1]])
        >>> trajectory = riccati(batch, T=1).rollout([2.0])
        >>> trajectory.x[..., 0], trajectory.cost
        (array([[2., 1.],
               [2., 0.]]), array([3., 2.]))
        """
        given = (self._finite_starts(x0), self.K, self.k, self.P, self.v)
        found = rollouts(self.batch._full, *given)
        x, u, p = self.batch._run(_rollout, _rollout_alone, *given, found=found)
        return Trajectory(x, u, p, self.batch.cost(x, u))

    def _finite_starts(self, x0: ArrayLike) -> Array:
        starts = self.batch._starts(x0)
        check_finite("x0", starts)
        return starts


def riccati_batch(batch: LQBatch, T: int | None, alone: Callable[[Any, int], Any]) -> RiccatiBatch:
    """Solve each problem of a batch; `alone` is the function that solves one of them."""
    T = batch.horizon(T)
    b, n, m = batch.b, batch.n, batch.m
    check_room(f"value functions of {b} problems over T = {T} steps", b, T + 1, n * (n + m))
    found = recursions(batch._full, b, T)
    if found is None:
        found = Solutions.of_sizes(b, T, n, m)
        found.P[:, T] = batch.S
        if max(n, m) <= _MOST_ABREAST and b >= _FEWEST_ABREAST:
            with np.errstate(all="ignore"):  # what is not finite is doubtful
                for part, z in batch._parts():
                    run_recursions(z, Solutions._make(array[part] for array in found))
        else:
            found.doubtful[:] = True
    for i in map(int, np.flatnonzero(found.doubtful)):
        with within_problem(i):
            one = alone(batch[i], T)
        for array, name in zip(found, "PKkvw", strict=False):
            array[i] = getattr(one, name)
    P, K, k, v, w, _ = found
    for array in (P, K, k, v, w):
        array.setflags(write=False)
    return RiccatiBatch(batch, P, K, k, v, w)


@_quiet
def _rollout(
    z: Mapping[str, Any], x0: Array, K: Array, k: Array, P: Array, v: Array
) -> tuple[Array, Array, Array]:
    """x, u and p of many problems abreast, whose axis is the last one of all arrays."""
    A, B, T = z["A"], z["B"], len(K)
    x, u, p = np.empty((T + 1, *x0.shape)), np.empty(k.shape), np.empty((T, *x0.shape))
    x[0] = x0
    for t in range(T):
        At, Bt = (M[t if len(M) > 1 else 0] for M in (A, B))
        F = At - np.einsum("ikb,kjb->ijb", Bt, K[t])
        x[t + 1] = np.einsum("ijb,jb->ib", F, x[t]) - np.einsum("ijb,jb->ib", Bt, k[t])
        if z["c"] is not None:
            x[t + 1] += z["c"][t if len(z["c"]) > 1 else 0]
        u[t] = -np.einsum("ijb,jb->ib", K[t], x[t]) - k[t]
        p[t] = np.einsum("ijb,jb->ib", P[t + 1], x[t + 1]) + v[t + 1]
    return x, u, p


def _rollout_alone(
    problem: LQProblem, x0: Array, K: Array, k: Array, P: Array, v: Array
) -> tuple[Array, Array, Array]:
    """What `Riccati.rollout` returns, whose module imports this one."""
    Riccati, w = import_module("lqrad.lq.riccati").Riccati, np.zeros(len(v))
    path = Riccati(problem, Stages(P), Stages(K), k, v, w, len(k)).rollout(x0)
    return path.x, path.u, path.p
