"""Series of stages that are alike and held once: they index as the whole array does."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from lqrad.linalg.forward import run_forward, run_in_loop
from lqrad.linalg.stages import Stages, times


def both(seed, T=9, held=3):
    """A series, and the same as an array."""
    distinct = np.random.default_rng(seed).normal(size=(held, 2, 3))
    whole = np.concatenate([np.repeat(distinct[:1], T - held, axis=0), distinct])
    return Stages(distinct, T), whole


KEYS = [
    *(0, 5, 6, 8, -1, -9),
    *(slice(None), slice(1, None), slice(None, -1), slice(2, 4), slice(7, 8), slice(4, 8)),
    *(slice(None, None, 2), slice(None, None, -1), slice(3, 3), slice(8, 2)),
    *((2, 1), (-1, 0, 2), (slice(None), 0), (slice(2, 8), 1, slice(1)), (Ellipsis, 0)),
    *([0, 7, -1], np.array([True, False, False] * 3), None, (), True, (False, 0)),
    *((slice(None), [0]), (slice(2, 8), [0, 1], [0, 2]), (slice(1, 7, 2), [0, 1])),
    *((slice(None), 1, slice(None), [0]), (slice(3, 8), None, 1), (slice(None), [True, False])),
]


@pytest.mark.parametrize("held", [1, 3, 9])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_it_indexes_as_the_array_does(key, held):
    series, whole = both(1, held=held)
    try:
        wanted = whole[key]
    except IndexError:
        with pytest.raises(IndexError):
            series[key]
        return
    found = series[key]
    assert np.array_equal(found, wanted)
    assert np.shape(found) == wanted.shape


@pytest.mark.parametrize("T", [3, 4, 50])
def test_it_is_an_array_to_numpy(T):
    series, whole = both(2, T=T)
    assert (series.shape, series.ndim, series.size) == (whole.shape, whole.ndim, whole.size)
    assert (series.dtype, len(series)) == (whole.dtype, T)
    assert np.array_equal(np.array(list(series)), whole)
    assert (2 * series - series @ np.ones(3)[:, None] == 2 * whole - whole @ np.ones((3, 1))).all()
    assert np.array_equal(series.swapaxes(1, 2), whole.swapaxes(1, 2))
    assert np.linalg.norm(series) == np.linalg.norm(whole)
    assert repr(series) == repr(whole)
    assert str(series) == str(whole)
    assert np.array_equal(series.T, whole.T)
    assert whole[0, 0, 1] in series
    assert np.nan not in series
    assert np.asarray(series, np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="truth value"):
        bool(series)


@pytest.mark.parametrize("key", [9, -10, (9, 0), "P"], ids=str)
def test_what_an_array_refuses_it_refuses(key):
    series, whole = both(3)
    with pytest.raises(IndexError):
        whole[key]
    with pytest.raises(IndexError):
        series[key]


@pytest.mark.parametrize(
    "other", [lambda z: z, copy.copy, copy.deepcopy, lambda z: pickle.loads(pickle.dumps(z))]
)
def test_it_is_read_only_and_so_are_its_copies(other):
    series = other(both(4)[0])
    for array in (series[0], series[:2][0], series[-1], series[::2], np.asarray(series)):
        assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        series[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        series += 1.0
    assert np.array(series).flags.writeable
    assert not hasattr(series, "toarray")


def test_slices_and_products_lay_nothing_out():
    T = 10**12  # 20 TB as an array
    series = Stages(both(5)[0].distinct, T)
    assert series[1:].shape == (T - 1, 2, 3)
    assert series[T // 2 :].shape == (T - T // 2, 2, 3)
    assert (series[: T // 2][-1] == series[0]).all()
    assert repr(series) == f"Stages(shape=({T}, 2, 3), 3 held)"


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_products_are_those_of_the_array(transpose, batch):
    series, whole = both(6)
    z = np.random.default_rng(0).normal(size=(*batch, 9, 2 if transpose else 3))
    found, wanted = (times(M, z, transpose=transpose) for M in (series, whole))
    assert np.allclose(found, wanted, rtol=1e-14)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize(("n", "T"), [(1, 1), (1, 400), (3, 0), (5, 300), (44, 90), (50, 70)])
def test_a_recursion_is_that_of_a_loop(n, T, batch, varying):
    rng = np.random.default_rng(n + T)
    A = rng.normal(size=(T, n, n) if varying else (n, n)) / np.sqrt(n)
    x = rng.normal(size=(*batch, T + 1, n))
    wanted, size = x.copy(), np.abs(x)
    for t in range(T):
        M = A[t] if varying else A
        wanted[..., t + 1, :] += wanted[..., t, :] @ M.T
        size[..., t + 1, :] += size[..., t, :] @ np.abs(M).T
    run_forward(A, x)
    assert (np.abs(x - wanted) <= (n + 1) * (T + 1) * np.finfo(float).eps * size).all()


@pytest.mark.parametrize("n", [3, 50])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("varying", [False, True])
def test_a_closed_loop_is_that_of_its_matrix(n, batch, varying):
    rng, T, m = np.random.default_rng(n), 40, 2
    shape = (T,) if varying else ()
    A, B = (rng.normal(size=(*shape, n, k)) / np.sqrt(n) for k in (n, m))
    K, x = rng.normal(size=(T, m, n)) / n, rng.normal(size=(*batch, T + 1, n))
    wanted = x.copy()
    run_in_loop(A, B, K, x)
    for t in range(T):
        F = (A[t] if varying else A) - (B[t] if varying else B) @ K[t]
        wanted[..., t + 1, :] += wanted[..., t, :] @ F.T
    assert np.allclose(x, wanted, rtol=1e-11, atol=1e-12 * np.abs(wanted).max())
