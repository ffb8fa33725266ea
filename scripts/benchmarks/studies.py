"""Studies of a large loop beside the design of its gain: lightly damped modes, as a disk drive has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import scipy.linalg
from engine import Row, Way

import lqrad


def modes(n: int, m: int) -> lqrad.StateSpace:
    """n/2 of them over two decades, with one per cent of damping, sampled; its states are measured."""
    rng = np.random.default_rng(0)
    turn = np.geomspace(0.02, 2, n // 2)  # rad a step
    blocks = [
        np.exp(-0.01 * w) * np.array([[np.cos(w), np.sin(w)], [-np.sin(w), np.cos(w)]])
        for w in turn
    ]
    return lqrad.StateSpace(scipy.linalg.block_diag(*blocks), 0.1 * rng.normal(size=(n, m)), dt=1.0)


def studies(quick: bool) -> Iterator[Row]:
    for n in (20,) if quick else (120, 200, 270):
        plant = modes(n, 2)
        design = partial(lqrad.dlqr, plant.A, plant.B, np.eye(n), np.eye(2))
        works = {"controllability": partial(lqrad.design.controllability, plant)}
        if n < 200:  # some twenty times as long as the design
            loop = lqrad.StateSpace(plant.A, plant.B, design()[0], dt=1.0)
            works["margins"] = partial(lqrad.margins, loop)
        for work, call in works.items():
            peers = [Way("`dlqr` of the same plant", "", design, lambda found: [])]
            name = f"`{work}`, {n} states, 2 inputs"
            yield Row(name, call, lambda found: [], peers, rounds=1)
