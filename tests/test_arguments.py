"""One reader for one idea: what one function takes every other takes, and refuses in the same words."""

from __future__ import annotations

import inspect
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from public_calls import CALLS

import lqrad
from lqrad.arguments import (
    any_array,
    check_count,
    check_items,
    check_limits,
    check_number,
    check_room,
    complex_array,
    real_array,
    renamed,
)
from lqrad.errors import ArgumentError

PAIRS = {"bounds", "input_bounds", "state_bounds", "rate_bounds"}


def calls_with(names):
    """Public calls that take an argument of these names, and which."""
    return [
        (name, argument)
        for name, make in CALLS.items()
        for argument in inspect.signature(make()[0]).parameters
        if argument in names
    ]


def words(name, **changes):
    """What a call says to an argument that is wrong."""
    function, given = CALLS[name]()
    with pytest.raises(lqrad.LqradError) as caught:
        function(**given | changes)
    return str(caught.value)


@pytest.mark.parametrize(("name", "argument"), calls_with({"tol"}))
def test_every_tolerance_is_read_alike(name, argument):
    assert words(name, tol="1e-8") == "tol is '1e-8', expected a real number"
    assert words(name, tol=[1e-8, 1e-8]) == "tol is [1e-08, 1e-08], expected a real number"
    ends = {"tol is -1.0, expected a number of at least 0"}
    ends |= {"tol is -1.0, expected a positive number below 1"}  # where its logarithm is taken
    assert words(name, tol=-1.0) in ends
    assert words(name, tol=np.nan).startswith("tol is nan, expected a ")


@pytest.mark.parametrize(("name", "argument"), calls_with(PAIRS))
def test_every_pair_of_limits_is_read_alike(name, argument):
    function, given = CALLS[name]()
    function(**given | {argument: (None, 1e6)})
    function(**given | {argument: None})
    for low, high in ((np.inf, np.inf), (-np.inf, -np.inf), (1.0, -1.0)):
        said = words(name, **{argument: (low, high)})
        assert said.startswith(f"{argument} leave nothing at [0"), said
        assert f"low is {low:g} and high is {high:g}, expected low <= high" in said
    assert f"{argument}[1] holds a NaN" in words(name, **{argument: (0.0, np.nan)})
    assert f"{argument} is 3.0, expected a pair (low, high)" in words(name, **{argument: 3.0})


def test_a_barrier_reads_limits_as_the_others_do():
    assert lqrad.log_barrier(None, 1.0).value(np.array([[0.0]])) == 0.0
    with pytest.raises(
        lqrad.ArgumentError, match="low and high leave nothing: low is inf and high is"
    ):
        lqrad.log_barrier(np.inf, np.inf)


@pytest.mark.parametrize("one", [1, 1.0, np.float32(1), np.array(1), Fraction(1), Decimal(1)])
def test_what_is_a_number(one):
    assert check_number("z", one) == 1.0
    assert check_count("z", one) == 1


@pytest.mark.parametrize("none", [True, None, "1", [1], np.array([1]), 1j, np.ma.masked])
def test_what_is_no_number(none):
    with pytest.raises(lqrad.DtypeError, match=r"z is .*, expected a real number"):
        check_number("z", none)
    with pytest.raises(
        lqrad.ArgumentError, match=r"z is .*, expected a whole number of at least 1"
    ):
        check_count("z", none)


def test_the_range_of_a_number_is_told():
    with pytest.raises(lqrad.ArgumentError, match=r"z is 2, expected a positive number below 1$"):
        check_number("z", 2, above=0, below=1)
    with pytest.raises(
        lqrad.ArgumentError, match=r"expected a number of at least 0 and at most 1$"
    ):
        check_number("z", -1, least=0, most=1)
    with pytest.raises(
        lqrad.ArgumentError, match=r"z is inf, expected a positive number, and finite"
    ):
        check_number("z", np.inf, above=0)


def test_a_count_keeps_all_of_its_digits():
    assert check_count("T", 2**60 + 1) == 2**60 + 1


def test_what_has_no_room_is_refused_before_it_is_taken():
    for size in (10**12, 10**30, 10**400):
        with pytest.raises(
            lqrad.ArgumentError, match=r"x would take .* GiB, more than this machine"
        ):
            check_room("x", size, 2)


@pytest.mark.parametrize(
    "taken",
    [
        [[1, 2], [3, 4]],
        np.array([[1, 2], [3, 4]], dtype=np.int8),
        np.array([[Fraction(1), 2], [Decimal(3), 4.0]], dtype=object),
        np.ma.array([[1.0, 2.0], [3.0, 4.0]]),
        sp.csr_array([[1.0, 2.0], [3.0, 4.0]]),
        sp.coo_matrix([[1.0, 2.0], [3.0, 4.0]]),
    ],
)
def test_what_is_an_array(taken):
    array = real_array("z", taken)
    assert type(array) is np.ndarray
    np.testing.assert_array_equal(array, [[1.0, 2.0], [3.0, 4.0]])


def test_a_masked_entry_is_a_gap_or_refused():
    hidden = np.ma.array([1.0, 2.0], mask=[False, True])
    for read in (real_array, any_array, complex_array):
        with pytest.raises(lqrad.DtypeError, match=r"z\[1\] is masked"):
            read("z", hidden)
    np.testing.assert_array_equal(real_array("z", [hidden, hidden], gaps=True), [[1, np.nan]] * 2)


def test_complex_numbers_are_kept_where_they_are_meant():
    assert complex_array("z", [1j, 2]).dtype == complex
    assert complex_array("z", [Fraction(1, 2)]).tolist() == [0.5]
    with pytest.raises(lqrad.DtypeError, match=r"z is not a rectangular array"):
        complex_array("z", [[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("none", [3, "abc", {"a": 1}, np.array(3)])
def test_what_is_no_series(none):
    with pytest.raises(lqrad.ArgumentError, match=r"z is .*, expected a list of words"):
        check_items("z", none, "words")


def test_limits_are_frozen_and_of_the_whole_shape():
    low, high = check_limits("bounds", (None, [1.0, np.inf]), (3, 2))
    assert low.shape == high.shape == (3, 2)
    assert not low.flags.writeable
    with pytest.raises(
        lqrad.ShapeError, match=r"bounds\[1\] has shape \(3, 1\), expected a number"
    ):
        check_limits("bounds", (None, np.ones((3, 1))), (3, 2))


def test_former_names_of_keywords_are_taken_beside_the_new_ones():
    @renamed(steps="T", tracked="H")
    def told(x0, T, *, H=None):
        """Return all of it."""
        return x0, T, H

    assert told(1, steps=2, tracked=3) == told(1, 2, H=3) == told(x0=1, T=2, H=3) == (1, 2, 3)
    assert list(inspect.signature(told).parameters) == ["x0", "T", "H"]
    assert (told.__name__, told.__doc__) == ("told", "Return all of it.")
    for given, twice in [(((1, 2), {}), "T"), (((1,), {"T": 2}), "T")]:
        with pytest.raises(ArgumentError, match=f"told: {twice} is given twice, also as steps"):
            told(*given[0], **given[1], steps=2)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'T'"):
        told(1, tracked=3)
    with pytest.raises(TypeError, match="horizon"):
        told(1, horizon=3)
