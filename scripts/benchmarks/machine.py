"""What the machine can do on one thread, and how near a gradient and a Riccati sweep come to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from engine import duration, random_problem
from scipy.linalg.blas import dgemm, dgemv

import lqrad


def best(call: Callable[[], Any], seconds: float) -> float:
    """The shortest time of a call, repeated for so long."""
    shortest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def limits(seconds: float) -> dict[str, float]:
    """Floating-point operations a second, bytes a second, and seconds a call."""
    rng = np.random.default_rng(0)
    found = {}
    for n in (4, 100, 1000):
        A, B = (np.asfortranarray(rng.normal(size=(n, n))) for _ in range(2))
        found[f"dgemm, n={n}: flop/s"] = 2 * n**3 / best(lambda A=A, B=B: dgemm(1.0, A, B), seconds)
    for n in (100, 300, 3000):
        A, x = np.asfortranarray(rng.normal(size=(n, n))), rng.normal(size=n)
        found[f"dgemv, n={n}: bytes/s"] = (
            8 * n**2 / best(lambda A=A, x=x: dgemv(1.0, A, x), seconds)
        )
    source = rng.normal(size=4_000_000)
    target = np.empty_like(source)
    found["copy of 32 MB: bytes/s, read and written"] = (
        2 * source.nbytes / best(lambda: np.copyto(target, source), seconds)
    )
    small = np.zeros(4)
    found["a call of NumPy: s"] = (
        best(lambda: [np.add(small, small) for _ in range(1000)], seconds) / 1000
    )
    return found


def work(seconds: float) -> list[list[str]]:
    """Rows: call, n, operations and bytes a step, time a step, operations and bytes a second."""
    rows, T = [], 1000
    for n, m in ((4, 2), (100, 50)):
        problem = random_problem(n, m)
        x0, u = np.ones(n), np.zeros((T, m))
        # Forward and adjoint pass, slopes of the cost; x, u, slopes, p and g read or written.
        flops = 2 * (2 * n * (n + m) + n**2 + m**2)
        took = best(lambda p=problem, x=x0, u=u: p.value_and_gradient(x, u), seconds) / T
        rows.append(row("value_and_gradient", n, flops, 8 * (4 * n + 3 * m), took))
        A = np.broadcast_to(problem.A, (T, n, n))
        varying = lqrad.LQProblem(A, problem.B, problem.Q, problem.R, problem.S)
        # P [A B]; half of [A B]'(P [A B]); the factor; K; half of N'K; P, K and L written, A read.
        flops = 2 * n**2 * (n + m) + n * (n + m) ** 2 + m**3 // 3 + 2 * m**2 * n + n**2 * m
        took = best(lambda p=varying: lqrad.riccati(p), seconds) / T
        rows.append(row("riccati, varying", n, flops, 8 * (2 * n**2 + n * m + m**2), took))
    return rows


def row(call: str, n: int, flops: int, size: int, took: float) -> list[str]:
    rates = [f"{flops / took / 1e9:.3g}", f"{size / took / 1e9:.3g}"]
    return [call, str(n), f"{flops:,}", f"{size:,}", duration(took), *rates]


def tables(quick: bool) -> str:
    """Markdown: the machine's limits, and what we make of them."""
    seconds = 0.05 if quick else 1.0
    out = ["| the machine, one thread | |", "|---|---:|"]
    for name, value in limits(seconds).items():
        what, _, unit = name.partition(": ")
        each = duration(value) if unit == "s" else f"{value / 1e9:.3g} G{unit}"
        out.append(f"| {what} | {each} |")
    out += ["", "| call, T=1,000 | n | flop a step | bytes a step | time a step | Gflop/s | GB/s |"]
    out.append("|---|---:|---:|---:|---:|---:|---:|")
    out += ["| " + " | ".join(cells) + " |" for cells in work(seconds)]
    return "\n".join(out)
