"""Every public function, class and method against what people pass by mistake.

Of the good call of each, one argument at a time is replaced: by the same numbers in another
container, which must make no difference; and by what cannot be right, or hardly, which must end in
an LqradError, or in numbers all of which are finite. Nothing that is given is changed.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from public_calls import CALLS, EXEMPT, public

import lqrad
from lqrad import arguments

SECONDS = 20  # of the processor, that a call may take

# Of calls that take long, every so manieth wrong value is tried.
SLOW = {
    "blowup": 8,
    "conditioning": 3,
    "cures": 3,
    "design_controller": 3,
    "fit": 6,
    "mpc": 3,
    "nonnormality": 8,
    "sgd": 2,
}

# What is not finite on purpose, and why.
INFINITE = {
    "SmoothingProblem.series": "NaN is what was not observed",
    "SmoothingBatch.series": "NaN is what was not observed",
    "conditioning": "NaN is a tolerance that was not met",
    "cures": "a cure that fails has no gap",
    "design_controller": "NaN is a figure that a response does not have",
    "disk_gain": "a disk margin of 2 allows any gain",
    "ilqr": "no limit is an infinite one",
    "invariant_set": "no limit is an infinite one",
    "kalman_filter": "NaN is the innovation of what was not observed",
    "nonnormality": "Kreiss's constant of an unstable matrix is infinite",
    "sweep": "what the function returns is kept",
    "taylor_test": "NaN is an order that cannot be told",
}

# A number of steps that is taken at its word, however long that takes.
PATIENT = {("nonnormality", "steps"), ("implicit_midpoint", "dt")}

# What else an argument may be called, where it is handed on.
ALSO = {
    "plant": {"system"},
    "loop": {"system"},
    "system": {"A has", "A holds", "A is", "A or B", "A["},
    "path": {"cannot be read", "ends in"},
    "problem": {"node"},
}

# What tells of what was computed, and need not name an argument.
COMPUTED = (lqrad.NonFiniteError, lqrad.NotConvexError, lqrad.NotStabilizableError)


# What is passed instead


def same(value: Any) -> Iterator[tuple[str, Any]]:
    """The same numbers in other containers."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fi":
        yield "list", value.tolist()
        frozen = value.copy()
        frozen.setflags(write=False)
        yield "read-only", frozen
        yield "strided", np.repeat(value, 2, axis=-1)[..., ::2] if value.ndim else value
        yield "Fortran order", np.asfortranarray(value)
        yield "masked, no mask", np.ma.array(value)
        fractions = np.array([Fraction(float(v)) for v in value.ravel()] + [None], dtype=object)
        yield "fractions", fractions[:-1].reshape(value.shape)
        if value.ndim == 1:
            yield "Series", pd.Series(value)
            yield "tuple", tuple(value)
        if value.ndim == 2:
            yield "DataFrame", pd.DataFrame(value)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy advises against what SciPy once returned
                yield "matrix", np.matrix(value)
            yield "sparse", sp.csr_array(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield "array ()", np.array(value)
        yield "numpy number", np.float64(value)
        yield "Fraction", Fraction(value)
        yield "Decimal", Decimal(value)
        if isinstance(value, int):
            yield "float", float(value)


def scaled(value: Any, factor: float) -> Any:
    with np.errstate(all="ignore"):
        return value * factor


def bad(value: Any) -> Iterator[tuple[str, Any]]:
    """What is passed by mistake, or is at the end of the numbers."""
    yield "None", None
    yield "text", "seven"
    yield "object", object()
    if isinstance(value, np.ndarray):
        yield "0-d", np.array(1.0)
        yield "empty", np.zeros((0,) * max(value.ndim, 1))
        yield "no rows", value[:0] if value.ndim else value
        yield "another axis", value[None]
        yield "two axes more", value[None, None]
        yield "a row more", np.concatenate([value, value[-1:]]) if value.ndim else value
        yield "a column more", np.concatenate([value, value[..., -1:]], axis=-1)
        yield "complex", value + 1j
        yield "generator", (row for row in value)
        yield "set", {1.0, 2.0}
        yield "dict", {"a": 1.0}
        yield "ragged", [[1.0], [1.0, 2.0]]
        yield "dates", np.zeros(value.shape, dtype="M8[s]")
        yield "objects", np.full(value.shape, object())
        hidden = np.ma.array(value.astype(float), mask=np.zeros(value.shape, bool))
        hidden.mask.flat[0] = True
        yield "masked", hidden
        for name, number in (("NaN", np.nan), ("inf", np.inf), ("-inf", -np.inf)):
            wrong = value.astype(float)
            wrong.flat[-1] = number
            yield name, wrong
        yield "huge", scaled(value.astype(float), 1e300)
        yield "large", scaled(value.astype(float), 1e160)
        yield "tiny", scaled(value.astype(float), 1e-300)
        yield "small", scaled(value.astype(float), 1e-160)
        yield "largest", np.full(value.shape, np.finfo(float).max)
        yield "least", np.full(value.shape, 5e-324)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        for number in (
            0,
            -1,
            True,
            2.5,
            1e9,
            10**30,
            1e300,
            1e-300,
            1.7e308,
            5e-324,
            math.nan,
            math.inf,
            -math.inf,
        ):
            yield str(number), number
        yield "complex", 1j
        yield "list", [value]
        yield "array (1,)", np.array([value])
        yield "array (2,)", np.array([value, value])
        yield "masked", np.ma.masked
        yield "dict", {}
        yield "generator", (i for i in range(3))
    elif isinstance(value, str):
        yield "number", 3
        yield "another word", "no such choice"
        yield "list", [value]
    elif isinstance(value, tuple) and len(value) == 2:  # a pair of limits, or a shape
        yield "one", value[:1]
        yield "three", (*value, value[0])
        yield "turned", value[::-1]
        yield "infinite", (np.inf, np.inf)
        yield "NaN", (np.nan, 1.0)
        yield "number", 3.0
        yield "text in it", ("a", "b")
        yield "None in it", (None, None)
    elif isinstance(value, (list, tuple)):
        yield "number", 3
        yield "empty", type(value)()
        yield "text in it", type(value)(["a", "b"])
        yield "None in it", type(value)([None, None])
        yield "generator", (row for row in value)
    elif isinstance(value, Mapping):
        yield "number", 3
        yield "list", [1.0, 2.0]
        yield "empty", {}
        yield "other names", {"no such name": np.ones(2)}
        for key in value:
            yield f"{key} missing", {k: v for k, v in value.items() if k != key}
            for name, wrong in bad_entries(value[key]):
                yield f"{key} {name}", {**value, key: wrong}
    else:
        yield "number", 3
        yield "array", np.ones((2, 2))
        yield "LQProblem", lqrad.LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]])
        yield "StateSpace", lqrad.StateSpace([[0.5]], [[1.0]], dt=0.1)
    if callable(value):
        yield "returns None", lambda *args, **kwargs: None
        yield "returns text", lambda *args, **kwargs: "seven"


def bad_entries(value: Any) -> Iterator[tuple[str, Any]]:
    yield "None", None
    yield "text", "seven"
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        wrong = np.array(value)
        wrong.flat[0] = np.nan
        yield "NaN", wrong
        yield "another shape", np.ones((7, 7, 7))
        yield "huge", scaled(value, 1e300)


# What becomes of it


def numbers_in(result: Any, depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of numbers in a result, with where they are."""
    if isinstance(result, np.ndarray):
        if result.dtype.kind in "fc":
            yield "", result
    elif sp.issparse(result):
        yield "", result.toarray()
    elif isinstance(result, (float, complex)):
        yield "", np.asarray(result)
    elif depth < 3:
        parts: dict[Any, Any] = {}
        if isinstance(result, (tuple, list)):
            parts = dict(enumerate(result))
        elif isinstance(result, Mapping):
            parts = dict(result)
        elif dataclasses.is_dataclass(result) and not isinstance(result, type):
            parts = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
        for key, part in parts.items():
            for where, array in numbers_in(part, depth + 1):
                yield f".{key}{where}", array


TIMES = ("seconds", "riccati_seconds")


def not_finite(result: Any) -> set[str]:
    return {where for where, array in numbers_in(result) if not np.isfinite(array).all()}


def differs(one: Any, other: Any) -> str:
    """Where two results differ by more than rounding; empty if nowhere."""
    others = dict(numbers_in(other))
    for where, array in numbers_in(one):
        if where.rpartition(".")[2] in TIMES:
            continue
        if where not in others or others[where].shape != array.shape:
            return where or "shape"
        if not np.allclose(array, others[where], rtol=1e-9, atol=1e-12, equal_nan=True):
            return where or "value"
    return ""


class TooSlow(BaseException):
    """A call took more than SECONDS of the processor: a machine that has more to do takes longer."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def snapshot(value: Any) -> Any:
    """What tells whether something that was given is changed."""
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return np.ma.getdata(value).tobytes(), value.shape, value.flags.writeable
    if isinstance(value, (list, tuple)):
        return [snapshot(part) for part in value]
    if isinstance(value, dict):
        return {key: snapshot(part) for key, part in value.items()}
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return value.to_numpy().tobytes()
    return None


def names_of(given: Mapping[str, Any], argument: str) -> set[str]:
    """The words by which an error may name what was given."""
    keys = {str(key) for value in given.values() if isinstance(value, Mapping) for key in value}
    return {*given, *keys, argument.rstrip("s"), *ALSO.get(argument, ())}


def outcome(name: str, argument: str, wrong: Any, usual: set[str]) -> str:
    """How a call with one wrong argument ends, in a word; "answered" and "refused" are right."""
    function, given = CALLS[name]()
    names = names_of(given, argument)
    given = given | {argument: wrong}
    before = snapshot(given)
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("error")
            result = function(**given)
    except lqrad.LqradError as error:
        computed = isinstance(error, COMPUTED) or type(error) is lqrad.LqradError
        named = computed or any(word in str(error) for word in names)
        end = "refused" if named else f"unnamed {type(error).__name__}: {error}"
    except TooSlow:
        end = "too slow"
    except Exception as error:
        end = f"raised {type(error).__name__}: {error}"
    else:
        strange = set() if name in INFINITE else not_finite(result) - usual
        end = f"not finite: {sorted(strange)}" if strange else "answered"
    return "changed what it was given" if snapshot(given) != before else end


def good(name: str) -> Any:
    function, given = CALLS[name]()
    return function(**given)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """What takes more than this is refused before it is taken, on a machine of any size."""
    monkeypatch.setattr(arguments, "memory", lambda: 2**31)


def test_every_public_name_has_a_good_call():
    names = set(public())
    assert sorted(names - set(CALLS) - set(EXEMPT)) == []
    assert sorted((set(CALLS) | set(EXEMPT)) - names) == []


@pytest.mark.parametrize("name", CALLS)
def test_the_same_numbers_are_taken_from_any_container(name):
    expected = good(name)
    for argument, value in CALLS[name]()[1].items():
        for kind, other in list(same(value))[:: SLOW.get(name, 1)]:
            if name.startswith("SparseLQProblem") and kind == "sparse":
                continue  # a sparse matrix is kept as it is
            function, given = CALLS[name]()
            found = function(**given | {argument: other})
            assert differs(expected, found) == "", f"{argument} as {kind}"


@pytest.mark.parametrize("name", CALLS)
def test_what_cannot_be_right_is_refused_in_words(name):
    usual, ends = not_finite(good(name)), Counter()
    for argument, value in CALLS[name]()[1].items():
        if (name, argument) in PATIENT:
            continue
        for kind, wrong in list(bad(value))[:: SLOW.get(name, 1)]:
            end = outcome(name, argument, wrong, usual)
            ends[end.split()[0]] += 1
            assert end in {"answered", "refused"}, f"{argument}: {kind}"
    assert ends.total() > 3
