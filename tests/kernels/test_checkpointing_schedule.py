"""The binomial schedule: it is valid, and no schedule takes fewer steps."""

from __future__ import annotations

from functools import cache

import pytest

from lqrad.kernels.checkpointing import forward_steps, schedule


@cache
def fewest(T, k):
    """Steps forward that a backward pass over T steps takes with k states kept, by dynamic programming."""
    if T == 1:
        return 0
    if k == 1:
        return T * (T - 1) // 2
    return min(m + fewest(m, k) + fewest(T - m, k - 1) for m in range(1, T))


@pytest.mark.parametrize("k", range(1, 8))
def test_it_takes_the_fewest_steps_and_keeps_no_more_states_than_it_may(k):
    for T in range(1, 41):
        at, kept, steps, reversed_ = 0, set(), 0, []
        for action, t in schedule(T, k):
            if action == "store":
                assert at == t
                kept.add(t)
                assert len(kept) <= k
            elif action == "advance":
                steps += t - at
                at = t
            elif action == "restore":
                assert t in kept
                at = t
            elif action == "free":
                kept.remove(t)
            else:
                assert (action, at) == ("reverse", t)
                reversed_.append(t)
        assert reversed_ == list(range(T - 1, -1, -1))
        assert steps == fewest(T, k) == forward_steps(T, k)
