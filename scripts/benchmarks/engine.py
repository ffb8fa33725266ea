"""How rows are timed: the contestants' answers are compared first, and they take turns.

A row is a piece of work that we and others do. Each contestant is timed in wall time and in the CPU
time of the process; ratios are medians over rounds of the peer's time over ours, so that above 1 we
are faster. We run twice, with the kernels in C and without them. Of a peer that is written in several
ways, the fastest counts.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

import lqrad

Call = Callable[[], Any]


class Way(NamedTuple):
    """One way in which a peer does the work, and how arrays that can be compared come of its result."""

    peer: str
    way: str
    call: Call
    read: Callable[[Any], Sequence[Any]]


class Row(NamedTuple):
    """A piece of work: ours and theirs, and how closely the answers agree, beside the largest entry."""

    name: str
    ours: Call
    read: Callable[[Any], Sequence[Any]]
    peers: list[Way]
    rtol: float = 1e-8
    rounds: int = 9


# A section makes its rows, only the quick ones where asked; each when the one before has been timed.
Section = Callable[[bool], Iterator[Row]]

_FILL = 0.02  # seconds: calls are repeated to fill them


def has(*modules: str) -> bool:
    """Whether a peer is installed."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def without_kernels() -> Any:
    return lqrad.native.switched_off()


def same(row: Row) -> None:
    """Raise AssertionError where a contestant's answer is not ours."""
    mine = [np.asarray(z, float) for z in row.read(row.ours())]
    with without_kernels():
        others = [("lqrad without C", row.read(row.ours()))]
    others += [(f"{way.peer}, {way.way}", way.read(way.call())) for way in row.peers]
    for name, theirs in others:
        for one, other in zip(mine, theirs, strict=True):
            apart = np.abs(one - np.asarray(other, float)).max(initial=0.0)
            size = np.abs(one).max(initial=0.0)
            if not apart <= row.rtol * size:
                raise AssertionError(f"{row.name}: {name} is {apart:.1g} from ours of {size:.3g}")


def timed(row: Row, rounds: int) -> dict[str, Any]:
    """The record of a row: medians, and for each peer its fastest way and the ratios.

    `same` has called each before, and what compiles itself is compiled.
    """
    contestants: list[tuple[Call, Any]] = [(row.ours, nullcontext), (row.ours, without_kernels)]
    contestants += [(way.call, nullcontext) for way in row.peers]
    repeats = []
    for call, context in contestants:
        with context():
            start = time.perf_counter()
            call()
            repeats.append(max(1, int(_FILL / max(time.perf_counter() - start, 1e-7))))
    wall, cpu = np.empty((2, len(contestants), rounds))
    for i in range(rounds):
        for j, (call, context) in enumerate(contestants):
            with context():
                start = time.perf_counter(), time.process_time()
                for _ in range(repeats[j]):
                    call()
                ends = time.perf_counter(), time.process_time()
            wall[j, i], cpu[j, i] = ((b - a) / repeats[j] for a, b in zip(start, ends, strict=True))
    best: dict[str, int] = {}
    for j, way in enumerate(row.peers, start=2):
        if way.peer not in best or np.median(wall[j]) < np.median(wall[best[way.peer]]):
            best[way.peer] = j
    return {
        "row": row.name,
        "seconds": {"with C": np.median(wall[0]), "without": np.median(wall[1])},
        "peers": {
            peer: {
                "way": row.peers[j - 2].way,
                "with C": ratio(wall[j], wall[0]),
                "without": ratio(wall[j], wall[1]),
                "CPU, with C": ratio(cpu[j], cpu[0]),
                "CPU, without": ratio(cpu[j], cpu[1]),
            }
            for peer, j in best.items()
        },
    }


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def random_problem(n: int, m: int, radius: float = 0.95) -> lqrad.LQProblem:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, n))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    return lqrad.LQProblem(A, rng.normal(size=(n, m)), np.eye(n), np.eye(m), 2 * np.eye(n))


def duration(seconds: float) -> str:
    """A time in the unit that fits."""
    unit, factor = next(
        ((u, f) for u, f in (("s", 1), ("ms", 1e3)) if seconds * f >= 1), ("us", 1e6)
    )
    return f"{seconds * factor:.3g} {unit}"


def figure(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


HEAD = (
    "| work | ours | without C | peer | its fastest way | over ours | over ours without C | in CPU time |\n"
    "|---|---:|---:|---|---|---:|---:|---:|"
)


def lines(record: dict[str, Any]) -> Iterator[str]:
    """The lines of a row in the Markdown table."""
    ours = [duration(record["seconds"][key]) for key in ("with C", "without")]
    for peer, found in record["peers"].items() or [("", None)]:
        cells = [record["row"], *ours, peer]
        if found:
            wall = [figure(found[key]) for key in ("with C", "without")]
            cells += [found["way"], *wall]
            cells.append(" / ".join(figure(found[key]) for key in ("CPU, with C", "CPU, without")))
        yield "| " + " | ".join(cells) + " |"
