"""Copies and pickles of what is read-only.

NumPy forgets, where an array goes through `copy.deepcopy` or pickle, that it is read-only; and what
was once found from an array, and kept, would outlive a change of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import issparse


class ReadOnly:
    """A base of classes whose arrays are read-only: those of their copies and pickles are too.

    What is kept by `functools.cached_property` is no part of a copy: it is found again.

    Examples
    --------
    >>> import copy
    >>> class Weight(ReadOnly):
    ...     def __init__(self, R):
    ...         self.R = np.array(R)
    ...         self.R.setflags(write=False)
    >>> copy.deepcopy(Weight([1.0])).R.flags.writeable
    False
    """

    def __getstate__(self) -> tuple[dict[str, Any], list[bool]]:
        """What is copied and pickled: the attributes, and which of their arrays may be written to."""
        state = {name: value for name, value in vars(self).items() if not self._is_kept(name)}
        return state, [array.flags.writeable for array in _arrays(state)]

    def __setstate__(self, pair: tuple[dict[str, Any], list[bool]]) -> None:
        """Take the attributes, and make the arrays read-only again."""
        state, writeable = pair
        vars(self).update(state)  # past a frozen dataclass, whose attributes cannot be set
        for array, write in zip(_arrays(state), writeable, strict=True):
            if not write:
                array.setflags(write=False)

    def _is_kept(self, name: str) -> bool:
        """Whether an attribute is the answer of a cached property."""
        return isinstance(getattr(type(self), name, None), cached_property)


class Fixed(ReadOnly):
    """A base of plain classes whose attributes cannot be set either, but by `_set` of their own.

    Examples
    --------
    >>> class Weight(Fixed):
    ...     def __init__(self, R):
    ...         self._set(R=np.array(R))
    >>> Weight([1.0]).R = 2
    Traceback (most recent call last):
    AttributeError: R of a Weight cannot be set; make a new one
    """

    def _set(self, **values: Any) -> None:
        """Set attributes; for the class itself, while an object is made."""
        vars(self).update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse it."""
        raise AttributeError(f"{name} of a {type(self).__name__} cannot be set; make a new one")

    def __delattr__(self, name: str) -> None:
        """Refuse it."""
        raise AttributeError(f"{name} of a {type(self).__name__} cannot be deleted")


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The arrays in a value, in tuples, lists and dicts of it, and of a sparse matrix."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _arrays(part)
    elif isinstance(value, dict):
        yield from _arrays(list(value.values()))
    elif issparse(value):
        yield from _arrays(vars(value))
