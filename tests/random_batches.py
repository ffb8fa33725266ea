"""Random batches of linear-quadratic problems, of arrays with every kind of leading axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from random_problems import random_case

import lqrad

# What is shared, or varies, together: the weights of a stage are semidefinite together.
GROUPS = ("A", "B", "QRM", "S", "c", "q", "r", "s")


@dataclass(frozen=True)
class Batch:
    """A batch, the problems that it holds, each made alone, and points at which to evaluate them."""

    batch: lqrad.lq.LQBatch
    problems: list[lqrad.LQProblem]
    T: int
    x0: np.ndarray
    u: np.ndarray


def random_batch(seed: int, *, b: int | None = None, n: int | None = None, **asked) -> Batch:
    """The batch of this seed; one problem, one stage, one state and more inputs than states are drawn too."""
    rng = np.random.default_rng(seed)
    b = int(rng.choice([1, 2, 7, 8, 9, 20])) if b is None else b
    n = int(rng.choice([1, 2, 3, 5])) if n is None else n
    sizes = {"m": int(rng.choice([1, 2, 3, 6])), "T": int(rng.choice([1, 2, 7, 20]))} | asked
    terms = bool(rng.integers(2))
    cases = [
        [
            random_case(1000 * seed + i, n=n, **sizes, all_terms=terms, time_varying=varying)
            for i in range(b)
        ]
        for varying in (False, True)
    ]
    arrays, own = {}, [{} for _ in range(b)]
    for number, names in enumerate(GROUPS):
        shared = bool(rng.integers(2)) and number > 0
        varies = bool(rng.integers(2)) and names not in "Ss"
        for name in names:
            if name not in cases[0][0].data:
                continue
            each = [case.data[name] for case in cases[varies]]
            if shared:
                each = [each[0]] * b
            if shared:
                arrays[name] = each[0][None] if varies else each[0]
            else:
                arrays[name] = np.stack(each)
            for data, array in zip(own, each, strict=True):
                data[name] = array
    T = sizes["T"]
    return Batch(
        batch=lqrad.lq.LQBatch(**arrays),
        problems=[lqrad.LQProblem(**data) for data in own],
        T=T,
        x0=rng.normal(size=(b, n)),
        u=rng.normal(size=(b, T, sizes["m"])),
    )
