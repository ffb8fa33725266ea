"""Which states to keep, where there is no room for all of them: the binomial schedule.

The backward pass over T steps needs x[T-1], ..., x[0], in this order. With k of them kept at a time
and the others found again by further steps forward, the fewest steps are, by C[a, b] = (a + b)!/a!b!,

    W(T, k) = r T - C[k+1, r-1]     with the r of     C[k, r-1] < T <= C[k, r]

and no step is taken more than r times: with ten states kept and r = 3, a horizon of 286 costs less
than three simulations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lqrad.arguments import check_count

Action = tuple[str, int]


def schedule(T: int, k: int) -> Iterator[Action]:
    """Yield the actions of a backward pass over T steps that keeps k states at a time, x[0] included.

    It begins with x[0] at hand; as many states as steps are all that are needed.

    Yields
    ------
    (action, t)
        - "store": keep x[t], which is at hand.
        - "advance": step forward from the state at hand to x[t].
        - "reverse": take step t back, with x[t] at hand; t runs through T-1, ..., 0.
        - "restore": have the kept x[t] at hand.
        - "free": x[t] need not be kept any longer.

    References
    ----------
    Griewank and Walther, Algorithm 799: revolve, ACM Transactions on Mathematical Software 26,
    2000, section 2; equation (3) for W.

    Examples
    --------
    >>> for action, t in schedule(3, 2):
    ...     print(action, t, end=", ")
    store 0, advance 1, store 1, advance 2, reverse 2, restore 1, reverse 1, free 1, restore 0,
    reverse 0, free 0,
    """
    T, k = check_count("T", T), check_count("k", k)
    kept, hand = [0], 0
    yield "store", 0
    for t in range(T - 1, -1, -1):
        if t < T - 1:  # no step is undone: what was reversed last is of no more use
            hand = kept[-1]
            yield "restore", hand
        while hand < t:
            room = k - len(kept)
            hand = hand + _distance(t + 1 - hand, room + 1) if room else t
            yield "advance", hand
            if room:
                kept.append(hand)
                yield "store", hand
        yield "reverse", t
        if kept[-1] == t:
            yield "free", kept.pop()


def forward_steps(T: int, k: int) -> int:
    """Return W(T, k), how many steps `schedule` advances: T - 1 of them even if nothing is redone.

    Examples
    --------
    >>> forward_steps(286, 10), forward_steps(286, 286)
    (780, 285)
    """
    T, k = check_count("T", T), check_count("k", k)
    r = _repetitions(T, k)
    return r * T - math.comb(k + r, k + 1)


def _repetitions(T: int, k: int) -> int:
    """The r of C[k, r-1] < T <= C[k, r]."""
    r = 0
    while math.comb(k + r, k) < T:
        r += 1
    return r


def _distance(T: int, k: int) -> int:
    """How far to advance from a kept state before keeping another, with T > 1 steps and k > 1 states.

    After it k - 1 states have T - j steps to serve, of r repetitions; before it k states have j, of
    r - 1: the largest such j.
    """
    r = _repetitions(T, k)
    return min(math.comb(k + r - 1, k), T - math.comb(k + r - 2, k - 1))
