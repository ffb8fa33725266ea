"""Problems that others have published, stated through `mpc`, beside PIQP on the program written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from dense_plans import Dense
from scipy.linalg import expm

import lqrad
from lqrad import LQProblem, Status
from lqrad.design import Limit

INF = np.inf


@dataclass(frozen=True)
class Public:
    """A problem of a receding horizon, and how its loop goes on.

    `ahead` and `moving` say what is new at step k: the references from state x, and the limits. The
    price and the spring are those of the terminal limit.
    """

    problem: LQProblem
    T: int
    x0: np.ndarray
    steps: int
    limits: dict[str, Any] = field(default_factory=dict)
    ahead: Callable[[int, np.ndarray], dict[str, np.ndarray]] = lambda k, x: {}
    moving: Callable[[int], list[Limit]] | None = None
    price: float = INF
    spring: float = 0.0

    def limits_at(self, k):
        return self.limits if self.moving is None else {**self.limits, "rows": self.moving(k)}


def quadcopter():
    """OSQP, documentation, "Model predictive control": 12 states, height 1 m, 15 steps."""
    A, B = np.eye(12), np.zeros((12, 4))
    A[:3, 6:9] = 0.1 * np.eye(3)
    A[3:6, 9:] = 0.0992 * np.eye(3)
    A[9:, 9:] *= 0.9846
    for i, sign in ((0, 1), (1, -1)):
        A[3 + i, [i, 6 + i]] = sign * 0.0488, sign * 0.0016
        A[9 + i, [i, 6 + i]] = sign * 0.9734, sign * 0.0488
    roll, pitch = np.array([0, -1, 0, 1]), np.array([-1, 0, 1, 0])
    for row, size in ((0, 0.0726), (3, 0.0006), (6, 1.4512), (9, 0.0236)):
        B[row] = size * roll
        B[row + 1] = size * pitch if row in (0, 6) else -size * pitch
    for row, size in ((2, 0.0152), (8, 0.3049)):
        B[row] = size * np.array([-1, 1, -1, 1])
    B[5], B[11] = 0.0106, 0.2107
    Q = np.diag([0, 0, 10, 10, 10, 10, 0, 0, 0, 5, 5, 5.0])
    tilt = np.pi / 6
    low = np.array([-tilt, -tilt, *[-INF] * 3, -1, *[-INF] * 6])
    return Public(
        LQProblem(A, B, Q, 0.1 * np.eye(4), Q),
        10,
        np.zeros(12),
        15,
        {
            "input_bounds": (9.6 - 10.5916, 13 - 10.5916),
            "state_bounds": (low, np.array([tilt, tilt, *[INF] * 10])),
        },
        lambda k, x: {"x_ref": np.eye(12)[2]},
    )


def masses(nx, nu, T, x0, **limits):
    """HPIPM, examples: masses between springs, sampled every 0.5, inputs of at most 0.5."""
    half = nx // 2
    A, B = np.zeros((nx, nx)), np.zeros((nx, nu))
    A[:half, half:] = np.eye(half)
    A[half:, :half] = np.eye(half, k=1) + np.eye(half, k=-1) - 2 * np.eye(half)
    B[half : half + nu] = np.eye(nu)
    M = expm(0.5 * np.block([[A, B], [np.zeros((nu, nx + nu))]]))
    problem = LQProblem(M[:nx, :nx], M[:nx, nx:], np.eye(nx), 2 * np.eye(nu), np.eye(nx))
    start = np.zeros(nx)
    start[:2] = x0
    return Public(problem, T, start, 10, {"input_bounds": (-0.5, 0.5), **limits})


def double_integrator(T, **more):
    """HPIPM, examples, "getting started"."""
    A, B = [[1.0, 1.0], [0.0, 1.0]], [[0.0], [1.0]]
    parts = {"q": [1.0, 1.0], "s": [1.0, 1.0]} if T > 1 else {}
    problem = LQProblem(A, B, np.eye(2), np.eye(1), np.eye(2), **parts)
    return Public(problem, T, np.ones(2), 1, more)


def cart_pole():
    """TinyMPC, examples: an unstable pole on a cart that moves from 0.5 m to 1 m."""
    A = np.eye(4)
    A[0, 1] = A[2, 3] = 0.01
    A[1, 2], A[3, 2], A[2, 2], A[3, 3] = 0.039, 0.458, 1.002, 1.002
    B = np.array([[0.0], [0.02], [0.0], [0.067]])
    Q, R = np.diag([10.0, 1.0, 10.0, 1.0]), np.eye(1)
    problem = LQProblem(A, B, Q, R, lqrad.dare(A, B, Q, R))
    x0 = np.array([0.5, 0.0, 0.0, 0.0])
    return Public(problem, 9, x0, 10, {}, lambda k, x: {"x_ref": np.array([1.0, 0.0, 0.0, 0.0])})


def rocket():
    """TinyMPC, examples: a rocket comes down along a line; its cones of thrust and glide left out."""
    A, B = np.eye(6), np.zeros((6, 3))
    A[:3, 3:] = 0.05 * np.eye(3)
    B[:3], B[3:] = 0.000125 * np.eye(3), 0.005 * np.eye(3)
    Q, R = 101 * np.eye(6), 2 * np.eye(3)
    c = np.array([0, 0, -0.0122625, 0, 0, -0.4905])
    start = np.array([4, 2, 20, -3, 2, -4.5])
    high = np.array([5, 5, 100, 10, 10, 20.0])
    low = np.array([-5, -5, -0.5, -10, -10, -20])
    share = np.arange(10)[:, None] / 99
    return Public(
        LQProblem(A, B, Q, R, lqrad.dare(A, B, Q, R), c=c),
        9,
        1.1 * start,
        20,
        {"input_bounds": (-10, 105), "state_bounds": (low, high)},
        lambda k, x: {"x_ref": start * (1 - k / 99 - share), "u_ref": np.array([0, 0, 10.0])},
    )


def walking():
    """mpc_qpbenchmark, LIPMWALK: the ZMP of a walking robot stays on the foot on the ground.

    A step of 0.8 s, of which the first 0.1 s is on both feet, where the ZMP is free up to 100 m. Its
    first row is of the given state, and its last state has none.
    """
    dt, T, foot, center = 0.1, 16, 0.065, 0.09
    A = np.array([[1, dt, dt**2 / 2], [0, 1, dt], [0, 0, 1]])
    B = np.array([[dt**3 / 6], [dt**2 / 2], [dt]])
    omega = np.sqrt(9.81 / 0.84)
    zmp = np.array([[1, 0, -(omega**-2)]])
    problem = LQProblem(A, B, np.zeros((3, 3)), 1e-3 * np.eye(1), np.eye(3))
    x0 = np.array([0, 0.5 * omega * center, -(omega**2) * center])

    def foot_at(k):
        return center if (k + 5) // 8 % 2 == 0 else center - 0.18

    def moving(k):
        at = np.arange(k + 1, k + T)
        middle = np.array([foot_at(i) for i in at])
        half = np.where((at + 5) % 8 == 0, 100, foot / 2)
        low, high = np.full((2, T, 1), [[[-INF]], [[INF]]])
        free = half == 100
        low[:-1, 0] = np.where(free, -100, middle - half)
        high[:-1, 0] = np.where(free, 100, middle + half)
        return [Limit(zmp, low=low, high=high, name="zmp")]

    def ahead(k, x):
        # The foot after the next one, as soon as its first interval on both feet is in sight.
        return {"x_ref": np.array([foot_at(k + T - 1), 0.0, 0.0])}

    return Public(problem, T, x0, 30, {}, ahead, moving)


def wheeled_pendulum():
    """mpc_qpbenchmark, WHLIPBAL: a pendulum of 0.58 m on wheels, follows a speed; |acceleration| <= 10."""
    dt, T, g = 0.02, 50, 9.81
    omega = np.sqrt(g / 0.58)
    cosh, sinh = np.cosh(omega * dt), np.sinh(omega * dt)
    A = np.eye(4)
    A[0, 2] = dt
    A[1, 1], A[1, 3], A[3, 1], A[3, 3] = cosh, sinh / omega, omega * sinh, cosh
    B = np.array([[dt**2 / 2], [(1 - cosh) / g], [dt], [-omega * sinh / g]])
    problem = LQProblem(A, B, np.eye(4), 1e-3 * np.eye(1), 10 * np.eye(4))

    def ahead(k, x):
        speed = 0.5 + np.cos(k * dt / 2)
        x_ref = np.zeros((T + 1, 4))
        x_ref[:, 0], x_ref[:, 2] = x[0] + np.arange(T + 1) * dt * speed, speed
        return {"x_ref": x_ref}

    return Public(problem, T, np.zeros(4), 6, {"input_bounds": (-10, 10)}, ahead)


def box():
    """The last state is to be within 1, with a spring of 100."""
    soft = Limit(np.eye(4), low=-1, high=1, spring=100)
    return replace(masses(4, 1, 15, 2.5, terminal=soft), price=0.0, spring=100.0)


def corner():
    """The last state is to be zero at a price of 100, with an input of at most 1."""
    soft = Limit(np.eye(2), low=0, high=0, price=100)
    return replace(double_integrator(1, input_bounds=(-1, 1), terminal=soft), price=100.0)


PROBLEMS = {
    "quadcopter": quadcopter,
    "masses, 8 states": lambda: masses(8, 3, 30, 3.5),
    "masses, 4 states, soft": box,
    "double integrator": lambda: double_integrator(5),
    "double integrator, soft": corner,
    "cart-pole": cart_pole,
    "rocket": rocket,
    "walking": walking,
    "wheeled pendulum": wheeled_pendulum,
}


def around(problem, T, x_ref=0.0, u_ref=0.0):
    """The same problem with the references as linear terms, and the constant that these leave out."""
    x_ref = np.broadcast_to(x_ref, (T + 1, problem.n))
    u_ref = np.broadcast_to(u_ref, (T, problem.m))
    Q, R, S = problem.Q, problem.R, problem.S
    terms = {"q": problem.q - x_ref[:-1] @ Q, "r": problem.r - u_ref @ R}
    terms["s"] = problem.s - S @ x_ref[-1]
    constant = ((x_ref[:-1] @ Q) * x_ref[:-1]).sum() + ((u_ref @ R) * u_ref).sum()
    return problem.replace(**terms), (constant + x_ref[-1] @ S @ x_ref[-1]) / 2


def written_out(public, x, k):
    """The dense program of step k: its cost and rows, their limits and prices, and the constant."""
    problem, T = public.problem, public.T
    n, m, limits = problem.n, problem.m, public.limits_at(k)
    problem, constant = around(problem, T, **public.ahead(k, x))
    E, prices, springs = [np.eye(n)], [np.full((T, m + n), INF)], [np.zeros((T, m + n))]
    bounds = limits.get("state_bounds", (-INF, INF))
    low, high = ([np.broadcast_to(z, (T, n))] for z in bounds)
    for limit in limits.get("rows", []):
        E.append(limit.C)
        low.append(np.broadcast_to(limit.low, (T, limit.k)))
        high.append(np.broadcast_to(limit.high, (T, limit.k)))
        prices.append(np.full((T, limit.k), INF))
        springs.append(np.zeros((T, limit.k)))
    if "terminal" in limits:
        limit = limits["terminal"]
        E.append(limit.C)
        none = np.full((T - 1, limit.k), INF)
        low.append(np.vstack([-none, limit.low]))
        high.append(np.vstack([none, limit.high]))
        prices.append(np.full((T, limit.k), public.price))
        springs.append(np.full((T, limit.k), public.spring))
    bounds = limits.get("input_bounds", (-INF, INF))
    low, high = (
        np.hstack([np.broadcast_to(z, (T, m)), *rows])
        for z, rows in zip(bounds, (low, high), strict=True)
    )
    dense = Dense(problem, x, T, np.zeros((m, n)), np.eye(m), np.vstack(E))
    return dense, low, high, np.hstack(prices), np.hstack(springs), constant


def compared(public, k, x, plan):
    """The gap of a plan's cost to PIQP's, relative to the size of its terms, and its worst row."""
    dense, low, high, prices, springs, constant = written_out(public, x, k)
    found = dense.piqp(low, high, prices, springs)
    if found is None:
        assert plan.status is Status.INFEASIBLE
        return None
    assert plan.status is Status.CONVERGED_GAP, plan.message
    u = plan.u.ravel()
    size = u @ dense.H @ u / 2 + np.abs(dense.f * u).sum() + abs(dense.start) + constant
    gap = abs(plan.cost - constant - found[1]) / size
    g = dense.rows(plan.u).reshape(low.shape)
    beyond = np.where(np.isinf(prices), np.maximum(g - high, low - g), 0.0)
    return gap, max(beyond.max(), 0.0)


def loop(public):
    """Each step of a loop: k, the state, and what was planned there."""
    x, controller = public.x0, None
    for k in range(public.steps):
        if controller is None or public.moving is not None:
            controller = lqrad.mpc(public.problem, public.T, **public.limits_at(k))
        u = controller.step(x, **public.ahead(k, x))
        yield k, x, controller.last
        x = public.problem.A @ x + public.problem.B @ u + public.problem.c


@pytest.mark.parametrize("name", PROBLEMS)
def test_plans_of_published_problems_are_those_of_another_solver(name):
    public = PROBLEMS[name]()
    at_work = 0
    for k, x, plan in loop(public):
        found = compared(public, k, x, plan)
        assert found is not None
        assert found[0] <= 1e-8
        assert found[1] <= 1e-9
        at_work += bool((plan.multipliers != 0).any())
    assert at_work or name in ("double integrator", "cart-pole")
