"""The binomial schedule against dynamic programming, and what its formula promises."""

from __future__ import annotations

from collections import Counter
from functools import cache
from math import comb

import pytest

from lqrad.errors import ArgumentError
from lqrad.linalg.checkpointing import forward_steps, schedule


@cache
def fewest(T, k):
    """The fewest steps forward, by trying every place for the next state that is kept."""
    if T == 1:
        return 0
    if k == 1:
        return fewest(T - 1, 1) + T - 1
    return min(j + fewest(T - j, k - 1) + fewest(j, k) for j in range(1, T))


def replay(T, k):
    """Follow a schedule: how often each step was taken; every claim of its actions is checked."""
    hand, kept, reversed_, taken, most = 0, set(), [], Counter(), 0
    for action, t in schedule(T, k):
        if action == "store":
            assert hand == t
            assert t not in kept
            kept.add(t)
            most = max(most, len(kept))
        elif action == "advance":
            assert hand < t
            taken.update(range(hand, t))
            hand = t
        elif action == "restore":
            assert t in kept
            hand = t
        elif action == "free":
            kept.remove(t)
        else:
            assert action == "reverse"
            assert hand == t
            reversed_.append(t)
            hand = T + 1  # the state at hand is of no more use
    assert reversed_ == list(reversed(range(T)))
    assert kept == set()
    assert most <= k
    return taken


@pytest.mark.parametrize("k", range(1, 11))
def test_no_schedule_takes_fewer_steps(k):
    for T in range(1, 61):
        assert replay(T, k).total() == fewest(T, k) == forward_steps(T, k), T


@pytest.mark.parametrize("k", range(1, 8))
def test_no_step_is_taken_more_often_than_the_formula_says(k):
    """Not more than r times for T up to C[k, r], which is the largest T that r suffice for."""
    for r in range(1, 5):
        T = comb(k + r, k)
        taken = replay(T, k)
        assert max(taken.values(), default=0) <= r
        assert taken.total() == r * T - comb(k + r, k + 1)


@pytest.mark.parametrize("T", [1, 2, 7, 50])
def test_with_a_state_kept_for_every_step_none_is_taken_twice(T):
    for k in (T, T + 1, 10 * T):
        assert set(replay(T, k).values()) <= {1}
        assert forward_steps(T, k) == T - 1


def test_with_one_state_every_reversal_starts_from_the_first():
    assert [action for action in schedule(3, 1) if action[0] != "free"] == [
        ("store", 0),
        ("advance", 2),
        ("reverse", 2),
        ("restore", 0),
        ("advance", 1),
        ("reverse", 1),
        ("restore", 0),
        ("reverse", 0),
    ]


@pytest.mark.parametrize(("T", "k"), [(20_000, 20_000), (20_000, 30), (3_000, 2)])
def test_long_horizons_are_no_matter_of_recursion(T, k):
    assert replay(T, k).total() == forward_steps(T, k)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, None])
def test_what_is_no_count_is_refused(bad):
    with pytest.raises(ArgumentError, match="T is"):
        list(schedule(bad, 3))
    with pytest.raises(ArgumentError, match="k is"):
        list(schedule(3, bad))
    with pytest.raises(ArgumentError, match="k is"):
        forward_steps(3, bad)
