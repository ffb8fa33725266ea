"""No answer depends on memory that nobody wrote: it is the same, to the bit, whatever lay in new arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from public_calls import CALLS
from random_problems import random_case
from random_smoothing import random_case as random_series

import lqrad
from lqrad.smoothing import loglik, loglik_gradient

FILTERS = (lqrad.kalman_filter, lqrad.rts_smoother, lqrad.kalman_smoother, loglik, loglik_gradient)


def numbers(answer: Any) -> Iterator[Any]:
    """The numbers in an answer, but for what a clock says."""
    if isinstance(answer, (tuple, list)):
        for part in answer:
            yield from numbers(part)
    elif isinstance(answer, dict):
        yield from numbers(list(answer.values()))
    elif is_dataclass(answer):
        names = (field.name for field in fields(answer) if "seconds" not in field.name)
        yield from numbers([getattr(answer, name) for name in names])
    elif isinstance(answer, (int, float, np.ndarray)):
        yield answer


def check_same(memory, call) -> None:
    """Hold that a call's answer is the same over any memory."""
    answers = []
    for fill in (0.0, np.nan, 1e200, -3.0):
        memory.fill = fill
        answers.append(list(numbers(call())))
    for other in answers[1:]:
        for a, b in zip(answers[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def memory(monkeypatch):
    """Fills every new array of floats with `fill`, and every one of integers with 97."""

    class Memory:
        fill = 0.0

    def filled(make):
        def made(*args, **kwargs):
            array = make(*args, **kwargs)
            if array.dtype.kind in "fi":
                array.fill(Memory.fill if array.dtype.kind == "f" else 97)
            return array

        return made

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(np, name, filled(getattr(np, name)))
    return Memory


@pytest.mark.parametrize("name", CALLS)
def test_everything_public(memory, name):
    def call():
        function, arguments = CALLS[name]()
        return function(**arguments)

    check_same(memory, call)


@pytest.mark.parametrize("function", FILTERS)
@pytest.mark.parametrize("gaps", ["none", "entries"])
@pytest.mark.parametrize("seed", range(4))
def test_series_that_settle(memory, function, gaps, seed):
    """Their covariances are judged from what a filter keeps."""
    case = random_series(seed, n=5 + 5 * seed, ny=3, T=150, radius=0.9, varying="none", gaps=gaps)
    check_same(memory, lambda: function(lqrad.SmoothingProblem(**case.data), case.y))


@pytest.mark.parametrize("seed", range(12))
def test_batches(memory, seed):
    case = random_case(seed, T=20)

    def call():
        batch = lqrad.lq.LQBatch.of([case.problem] * (20 if seed % 2 else 3))
        solved = lqrad.riccati(batch, case.T)
        rollout = solved.rollout(case.x0)
        return batch.value_and_gradient(case.x0, case.u), solved.K, solved.P, rollout.x, rollout.p

    check_same(memory, call)
