"""Plans within limits, the naive way: J and all rows written out in u, and a dense solver of others."""

from __future__ import annotations

import numpy as np
import pytest


class Dense:
    """J = 1/2 u'Hu + f'u + J(0) and rows G u + g(0), in the inputs alone, by loops over stages."""

    def __init__(self, problem, x0, T, C, D, E):
        def stage(name, t):
            array = rows_of[name] if name in rows_of else getattr(problem, name)
            return array[t] if array.ndim > (1 if name in "cqr" else 2) else array

        m, rows_of = problem.m, {"C": C, "D": D, "E": E}
        # x[t] = X u + o, with columns for all inputs.
        X, o = np.zeros((problem.n, T * m)), np.array(x0, dtype=float)
        self.H, self.f, self.start = np.zeros((T * m, T * m)), np.zeros(T * m), 0.0
        rows, offsets = [], []
        for t in range(T):
            U = np.zeros((m, T * m))
            U[:, t * m : (t + 1) * m] = np.eye(m)
            Q, R, M = stage("Q", t), stage("R", t), stage("M", t)
            q, r = stage("q", t), stage("r", t)
            self.H += X.T @ Q @ X + U.T @ R @ U + X.T @ M @ U + U.T @ M.T @ X
            self.f += X.T @ (Q @ o + q) + U.T @ (M.T @ o + r)
            self.start += o @ Q @ o / 2 + q @ o
            rows.append(stage("C", t) @ X + stage("D", t) @ U)
            offsets.append(stage("C", t) @ o)
            A, B = stage("A", t), stage("B", t)
            X, o = A @ X + B @ U, A @ o + stage("c", t)
            rows.append(stage("E", t) @ X)
            offsets.append(stage("E", t) @ o)
        self.H += X.T @ problem.S @ X
        self.f += X.T @ (problem.S @ o + problem.s)
        self.start += o @ problem.S @ o / 2 + problem.s @ o
        self.G, self.g0 = np.concatenate(rows), np.concatenate(offsets)

    def cost(self, u):
        return u.ravel() @ self.H @ u.ravel() / 2 + self.f @ u.ravel() + self.start

    def rows(self, u):
        return self.G @ u.ravel() + self.g0

    def lower_bound(self, y, low, high):
        """The minimum of J + y'(g - limit), which no trajectory within the limits is below."""
        y, low, high = y.ravel(), low.ravel(), high.ravel()
        limit = np.array(
            [h if z > 0 else b if z < 0 else 0.0 for z, b, h in zip(y, low, high, strict=True)]
        )
        u = -np.linalg.solve(self.H, self.f + self.G.T @ y)
        return self.cost(u) + y @ (self.rows(u) - limit)

    def piqp(self, low, high, price=None, spring=None):
        """The best u and its worth by PIQP at 1e-12, or None where it finds that there is no such u.

            minimise  J(u) + sum price e + spring/2 e^2   subject to   low - e <= g0 + G u <= high + e

        with e >= 0, and e = 0 of rows whose price is infinite.
        """
        piqp = pytest.importorskip("piqp")
        low, high = low.ravel() - self.g0, high.ravel() - self.g0
        T, N = low.size, len(self.f)
        price = np.full(T, np.inf) if price is None else price.ravel()
        spring = np.zeros(T) if spring is None else spring.ravel()
        give = np.flatnonzero(np.isfinite(price) & (np.isfinite(low) | np.isfinite(high)))
        size = N + len(give)
        P, c = np.zeros((size, size)), np.concatenate([self.f, price[give]])
        P[:N, :N] = self.H
        P[np.arange(N, size), np.arange(N, size)] = spring[give]
        above, below = np.zeros((2, T, size))
        above[:, :N] = below[:, :N] = self.G
        above[give, np.arange(N, size)], below[give, np.arange(N, size)] = -1.0, 1.0
        equal = (low == high) & ~np.isin(np.arange(T), give)
        upper, lower = np.isfinite(high) & ~equal, np.isfinite(low) & ~equal
        rows = np.concatenate([above[upper], below[lower], np.eye(size)[N:]])
        ends = np.full((2, len(rows)), np.inf)
        ends[0] = -np.inf
        ends[1, : upper.sum()] = high[upper]
        ends[0, upper.sum() : upper.sum() + lower.sum()] = low[lower]
        ends[0, upper.sum() + lower.sum() :] = 0.0
        # In units in which the best inputs without limits, and their worth, are about one.
        unit = np.abs(np.linalg.solve(self.H, self.f)).max() or 1.0
        worth = unit**2 * np.abs(self.H).max()
        solver = piqp.DenseSolver()
        solver.settings.eps_abs = solver.settings.eps_rel = 1e-12
        solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = 1e-12
        A, b = (None, None) if not equal.any() else (above[equal], low[equal] / unit)
        solver.setup(P * (unit**2 / worth), c * (unit / worth), A, b, rows, *(ends / unit))
        status = solver.solve()
        if status == piqp.PIQP_PRIMAL_INFEASIBLE:
            return None
        assert status == piqp.PIQP_SOLVED, status
        u = unit * np.array(solver.result.x[:N])
        g = self.G @ u
        e = np.maximum(np.maximum(g - high, low - g), 0.0)[give]
        return u, self.cost(u) + price[give] @ e + 0.5 * spring[give] @ e**2
