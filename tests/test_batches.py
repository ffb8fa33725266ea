"""The leading axes of many models: one reader, and one wording, for all chapters."""

from __future__ import annotations

import numpy as np
import pytest

from lqrad.batches import of_one, read_batch, read_problems, stacked, with_both_axes, within_problem
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError

SYMBOLS = {"A": "nn", "B": "nm", "C": "yn", "S": "nn", "c": "n"}


def read(**given):
    one = {"A": np.eye(2), "B": np.ones((2, 1)), "C": np.ones((1, 2)), "S": np.eye(2), "c": None}
    return read_batch(SYMBOLS, one | given, zeros="c", still="S", more="C")


@pytest.mark.parametrize("seed", range(20))
def test_the_arrays_of_each_model_are_those_of_the_batch(seed):
    """One model, an axis of each kind, and the way there and back."""
    rng = np.random.default_rng(seed)
    b, T, sizes = 1 + seed % 4, 1 + seed % 3, {"n": 2, "m": 1, "y": 3}
    given, models = {}, [{} for _ in range(b)]
    for name, letters in SYMBOLS.items():
        own = tuple(sizes[letter] for letter in letters)
        rows = T + (name == "C")
        kinds = [own, (b, *own)] + ([] if name == "S" else [(b, rows, *own), (1, rows, *own)])
        given[name] = rng.normal(size=(b, *own) if name == "A" else kinds[rng.integers(len(kinds))])
        leading = given[name].ndim - len(own)
        for i, model in enumerate(models):
            several = leading and len(given[name]) > 1
            model[name] = given[name][i if several else 0] if leading else given[name]
    found = read(**given)
    varying = any(given[name].ndim == len(SYMBOLS[name]) + 2 for name in given)
    assert (found.b, found.T, found.sizes) == (b, T if varying else None, sizes)
    for name, letters in SYMBOLS.items():
        array = found.arrays[name]
        assert not array.flags.writeable
        assert not np.shares_memory(array, given[name])
        ones = [of_one(array, len(letters), i) for i in range(b)]
        for one, model in zip(ones, models, strict=True):
            np.testing.assert_array_equal(one, model[name], strict=True)
        again = stacked(ones, len(letters), T + (name == "C"))
        full = with_both_axes(again, len(letters))
        for i, one in enumerate(ones):
            stages = full[i if len(full) > 1 else 0]
            np.testing.assert_array_equal(np.broadcast_to(one, stages.shape), stages)


def test_what_is_left_out_is_zero_for_all():
    found = read(A=np.ones((3, 2, 2)))
    np.testing.assert_array_equal(found.arrays["c"], np.zeros(2), strict=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no array has an axis of problems in front; give one that differs"),
        (
            {"A": np.ones((3, 2, 2)), "B": np.ones((4, 2, 1))},
            r"A has shape \(3, 2, 2\) and B has \(4, 2, 1\): their leading axes are 3 and 4 problems "
            r"long; an array that all problems share has none, or one of length 1: \(1, T, ...\)",
        ),
        (
            {"A": np.ones((3, 5, 2, 2)), "C": np.ones((1, 5, 1, 2))},
            "C has 5 stages and A has 5: everything that varies in time has the same T, and C one "
            "stage more",
        ),
        (
            {"B": np.ones((3, 1, 2))},
            r"B has shape \(3, 1, 2\), expected \(n, m\), \(b, n, m\) or \(b, T, n, m\) for n = 2",
        ),
        ({"B": np.ones((1, 2))}, r"B has shape \(1, 2\), .* for n = 2; did you pass B.T"),
        ({"A": np.ones((0, 2, 2))}, r"A has shape \(0, 2, 2\), .*; it is empty"),
        ({"A": np.ones((3, 0, 2, 2))}, r"A has shape \(3, 0, 2, 2\), .*; it is empty"),
        ({"A": np.ones(2)}, r"A has shape \(2,\), expected \(n, n\), \(b, n, n\) or"),
        (
            {"S": np.ones((3, 5, 2, 2))},
            r"S has shape \(3, 5, 2, 2\), expected \(n, n\) or \(b, n, n\) for n = 2$",
        ),
        (
            {"C": np.ones((3, 1, 1, 2))},
            r"C has shape \(3, 1, 1, 2\), .* or \(b, T \+ 1, ny, n\) for ny = 1, n = 2",
        ),
        ({"c": np.ones((3, 3))}, r"c has shape \(3, 3\), expected \(n,\), \(b, n\) or \(b, T, n\)"),
    ],
)
def test_axes_that_do_not_fit_are_told(given, words):
    with pytest.raises(ShapeError, match=words):
        read(**given)


def test_what_is_no_array_of_numbers_is_told():
    with pytest.raises(DtypeError, match=r"^A is None, expected an array of real numbers$"):
        read(A=None)
    A = np.ones((3, 2, 2))
    A[1, 0, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"^A\[1, 0, 1\] is nan, expected finite numbers"):
        read(A=A)


def test_models_of_different_sizes_are_no_batch():
    class Model:
        def __init__(self, n, T=None):
            self.n, self.T = n, T

    def read(*problems):
        return read_problems(problems, Model, "Model(2)", ("n",))

    alike = [Model(2), Model(2, 5), Model(2), Model(2, 5)]
    assert read(*alike) == (alike, 5)
    assert read(*alike[::2]) == (alike[::2], None)
    with pytest.raises(ShapeError, match=r"problems\[1\] has n = 3 and problems\[0\] has n = 2"):
        read(Model(2), Model(3))
    with pytest.raises(ShapeError, match=r"problems\[4\] has T = 3 and problems\[1\] has T = 5"):
        read(*alike, Model(2, 3))
    with pytest.raises(ArgumentError, match="problems is empty, expected at least one"):
        read()
    with pytest.raises(
        ArgumentError, match=r"problems\[1\] is of type int, expected Model, such as "
    ):
        read(Model(2), 3)


def test_an_error_names_its_problem_and_keeps_its_remedy():
    with pytest.raises(NonFiniteError) as told, within_problem(17):
        raise NonFiniteError("x overflowed", "try a shorter horizon")
    assert (told.value.what, told.value.remedy) == (
        "problem 17: x overflowed",
        "try a shorter horizon",
    )
