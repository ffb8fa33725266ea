"""Time and memory a step over the horizon, each in a process of its own, and their picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# Forked from one that has imported what all need, and has made nothing large.
_ALL = """
import json, os, sys, time
import numpy as np, lqrad
rng = np.random.default_rng(0)
A = rng.normal(size=(4, 4)); A *= 0.95 / abs(np.linalg.eigvals(A)).max()
problem = lqrad.LQProblem(A, rng.normal(size=(4, 2)), np.eye(4), np.eye(2))
C, one = rng.normal(size=(2, 4)), np.eye(4)
def model(): return lqrad.SmoothingProblem(A, C, one, np.eye(2), np.zeros(4), one)
calls = {
    "gradient": lambda: problem.value_and_gradient(x0, u),
    "riccati": lambda: lqrad.riccati(problem, T),
    "rollout": lambda: lqrad.riccati(problem, T).rollout(x0),
    "kalman_filter": lambda: lqrad.kalman_filter(model(), y),
    "kalman_smoother": lambda: lqrad.kalman_smoother(model(), y, covariances=False),
}
def data(T): return rng.normal(size=4), rng.normal(size=(T, 2)), rng.normal(size=(T + 1, 2))
def peak(): return 1024 * int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")))
for work in calls:
    for horizon in map(int, sys.argv[1].split(",")):
        if os.fork():
            if os.wait()[1]: sys.exit(f"{work}, T = {horizon:,}, has failed")
            continue
        for T in (10, horizon):
            x0, u, y = data(T)
            calls[work]() if T < 10_000 else None
        before, best = peak(), float("inf")
        for _ in range(max(5, min(1000, 100_000 // T))):
            start = time.perf_counter(); found = calls[work](); best = min(best, time.perf_counter() - start); del found
        print(json.dumps([work, T, best, peak() - before]), flush=True)
        os._exit(0)
"""
WORKS = ("gradient", "riccati", "rollout", "kalman_filter", "kalman_smoother")


def measured(quick: bool) -> list[dict[str, Any]]:
    """Seconds a step, and bytes a step that the process took more."""
    horizons = ",".join(str(10**power) for power in range(2, 5 if quick else 7))
    command = [sys.executable, "-c", _ALL, horizons]
    lines = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    return [
        {"work": work, "T": T, "seconds": seconds / T, "bytes": more / T}
        for work, T, seconds, more in map(json.loads, lines)
    ]


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: microseconds a step, and that beside T = 10,000."""
    horizons = sorted({one["T"] for one in found})
    head = (
        "| n=4: us a step, T = | "
        + " | ".join(f"{T:,}" for T in horizons)
        + " | the longest over 10,000 | bytes a step |"
    )
    out = [head, "|---|" + "---:|" * (len(horizons) + 2)]
    for work in WORKS:
        times = {one["T"]: one for one in found if one["work"] == work}
        cells = [f"{1e6 * times[T]['seconds']:.3g}" for T in horizons]
        last = times[horizons[-1]]
        cells += [f"{last['seconds'] / times[10_000]['seconds']:.2f}", f"{last['bytes']:.0f}"]
        out.append(f"| {work} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def picture(found: list[dict[str, Any]], file: Path) -> None:
    """Log-log: whole time over the horizon."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for work, marker in zip(WORKS, "osv^D", strict=True):
        points = [(one["T"], one["T"] * one["seconds"]) for one in found if one["work"] == work]
        axes.loglog(*zip(*points, strict=True), marker=marker, label=work)
    T = sorted({one["T"] for one in found})
    axes.loglog(T, [1e-7 * t for t in T], "k:", label="0.1 us a step")
    axes.set(
        xlabel="horizon T",
        ylabel="time in s",
        title="n = 4: time grows with the horizon, and no faster",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=130)
