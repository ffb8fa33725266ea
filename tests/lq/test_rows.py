"""Rows that vary in time, or have limits at some stages only, against dense matrices made by loops."""

from __future__ import annotations

import numpy as np
import pytest
from dense_plans import Dense
from random_problems import random_case

import lqrad
from lqrad import Status
from lqrad.lq.limits import Limited


class Case:
    """A random problem with varying rows; equations, copies of rows and rows of the end among them."""

    def __init__(self, seed, **asked):
        case, rng = random_case(seed, **asked), np.random.default_rng(seed + 3000)
        self.problem, self.T, self.x0 = case.problem, case.T, case.x0
        n, m, T = self.problem.n, self.problem.m, self.T
        vary = rng.random(3) < 0.5
        mixed = rng.normal(size=(T, 2, n + m)) if vary[0] else rng.normal(size=(2, n + m))
        inputs = np.zeros((m, n + m))
        inputs[:, n:] = np.diag(rng.uniform(0.5, 2.0, size=m))
        if vary[0]:
            inputs = np.array([inputs * factor for factor in rng.uniform(0.5, 2, size=T)])
        both = np.concatenate([inputs, mixed, mixed[..., :1, :]], axis=-2)  # the last is a copy
        self.C, self.D = both[..., :n], both[..., n:]
        self.E = rng.normal(size=(T, 2, n)) if vary[1] else rng.normal(size=(2, n))
        self.dense = Dense(self.problem, self.x0, T, self.C, self.D, self.E)
        self.free = lqrad.riccati(self.problem, T).rollout(self.x0)
        g = self.dense.rows(self.free.u).reshape(T, -1)
        self.count = g.shape[1]
        size = np.abs(g).max(axis=0) + 1e-3
        reach = (0.3, 1.1) if rng.random() < 0.5 else (0.7, 1.5)
        self.high = size * rng.uniform(*reach, size=g.shape)
        self.low = -size * rng.uniform(*reach, size=g.shape)
        self.high[rng.random(size=g.shape) < 0.2] = np.inf
        self.low[rng.random(size=g.shape) < 0.2] = -np.inf
        self.low[:-1, -1], self.high[:-1, -1] = -np.inf, np.inf  # a row of the end alone
        if vary[2]:  # an equation, of what some inputs nearby reach
            u = self.free.u * rng.uniform(0.8, 1.2, size=self.free.u.shape)
            self.low[-1, -1] = self.high[-1, -1] = self.dense.rows(u)[-1]

    def limited(self):
        names = [f"row {i}" for i in range(self.count)]
        given = np.isfinite(self.low) | np.isfinite(self.high)
        soft = np.zeros(self.count, bool)
        rows = self.C, self.D, self.E
        return Limited(self.problem, self.T, *rows, soft=soft, names=names, limited=given)


def check_conditions(case, plan):
    """The conditions of the best u, by arithmetic: the Lagrangian's slopes, limits, complementarity."""
    dense, y, u = case.dense, plan.multipliers.ravel(), plan.u.ravel()
    terms = dense.H @ u, dense.f, dense.G.T @ y
    size = max(np.abs(z).max() for z in (dense.H * np.abs(u), *terms))
    assert np.abs(sum(terms)).max() <= 1e-7 * size
    g, low, high = dense.rows(plan.u), case.low.ravel(), case.high.ravel()
    slack = 1e-7 * (np.abs(dense.G) @ np.abs(u) + np.abs(dense.g0))
    assert (g <= high + slack).all()
    assert (g >= low - slack).all()
    at = np.where(y > 0, high, low)
    worth = abs(plan.cost) + abs(case.free.cost)
    assert (np.abs(y * (g - np.where(y != 0, at, g))) <= 1e-6 * worth).all()


def check_certificate(case, y):
    """By arithmetic alone: sum y g is the same for all u, and beyond sum y limit."""
    y, dense = y.ravel(), case.dense
    at = y != 0
    slopes, size = y @ dense.G, np.abs(y) @ np.abs(dense.G)
    assert (np.abs(slopes) <= 1e-9 * size.max()).all()
    limit = np.where(y > 0, case.high.ravel(), case.low.ravel())[at]
    assert np.isfinite(limit).all()
    assert y[at] @ (dense.g0[at] - limit) > 0


@pytest.mark.parametrize("seed", range(60))
def test_plans_are_those_of_a_dense_program(seed):
    case = Case(seed)
    plan = case.limited().solve(case.x0, case.low, case.high)
    found = case.dense.piqp(case.low, case.high)
    if found is None:
        assert plan.status is Status.INFEASIBLE
        check_certificate(case, plan.certificate)
    else:
        assert plan.status is Status.CONVERGED_GAP
        size = abs(plan.cost) + abs(case.free.cost)
        assert abs(plan.cost - found[1]) <= 1e-8 * size
        check_conditions(case, plan)
