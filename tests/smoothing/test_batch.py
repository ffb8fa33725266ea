"""Many series at once, of one model or each of its own, against a loop over them."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext

import numpy as np
import pytest
from random_smoothing import GAPS, draw_series, random_case, stages, with_gaps

import lqrad
from lqrad import native
from lqrad.errors import ArgumentError, NonFiniteError, NotConvexError, ShapeError
from lqrad.linalg.tridiagonal import BlockTridiagonal
from lqrad.smoothing import SmoothingBatch, SmoothingProblem, loglik, loglik_gradient
from lqrad.smoothing.covariance_filter import CovarianceFilter
from lqrad.smoothing.normal_equations import normal_equations

NAN = np.nan
FUNCTIONS = [lqrad.kalman_smoother, lqrad.rts_smoother, lqrad.kalman_filter]
functions = pytest.mark.parametrize("function", FUNCTIONS)
LEVEL = {"A": [[1]], "C": [[1]], "W": [[1]], "V": [[1]], "m0": [0], "P0": [[1]]}


def series_of(case, b, rng):
    """A series (b, T+1, ny) for each of b problems, with different gaps; one is all gaps."""
    y = np.array([draw_series(case.data, case.T, rng) for _ in range(b)])
    for i in range(b):
        y[i] = with_gaps(y[i], GAPS[i % len(GAPS)], rng)
    y[b // 2] = NAN
    return y


def random_batch(seed):
    """A batch of 1 to 5 problems, some arrays shared and some varying, and a series for each."""
    rng = np.random.default_rng(seed)
    b = [1, 2, 5][seed % 3]
    cases = [
        random_case(100 * seed + i, n=3, ny=2, T=[1, 7][seed % 2], varying="none") for i in range(b)
    ]
    case, T = cases[0], cases[0].T
    arrays = {}
    for name, value in case.data.items():
        kind = int(rng.integers(2 if name in ("m0", "P0") else 4))
        own = np.array([one.data.get(name, value) for one in cases])
        rows = T + (name in "CVd")
        arrays[name] = [
            value,
            own,
            np.repeat(own[:, None], rows, axis=1),
            np.repeat(own[:1, None], rows, axis=1),
        ][kind]
    arrays["A"] = np.array([one.data["A"] for one in cases])
    return SmoothingBatch(**arrays), series_of(case, b, rng)


def assert_each(found, each):
    """Every array of the result is, series by series, that of the series alone, found by its method."""
    if hasattr(found, "method"):
        assert found.method == " and ".join(sorted({one.method for one in each}))
    for name, array in vars(found).items():
        if not isinstance(array, np.ndarray):
            continue
        for i, one in enumerate(each):
            expected = np.asarray(getattr(one, name))
            mine = array[i] if array.ndim > expected.ndim else array
            assert mine.shape == expected.shape
            size = np.nanmax(np.abs(expected)) if np.isfinite(expected).any() else 0.0
            if name == "p":  # of what nothing is observed, only the rounding of x is left
                size = max(size, np.abs(one.x).max())
            np.testing.assert_allclose(mine, expected, rtol=1e-13, atol=1e-13 * size, err_msg=name)


@functions
@pytest.mark.parametrize("seed", range(18))
def test_each_problem_of_a_batch_is_smoothed_as_if_alone(function, seed):
    batch, y = random_batch(seed)
    found = function(batch, y)
    assert found.x.shape == (batch.b, *y.shape[1:-1], batch.n)
    assert_each(found, [function(batch[i], y[i]) for i in range(batch.b)])


@functions
@pytest.mark.parametrize("seed", range(12))
def test_each_series_of_a_model_is_smoothed_as_if_alone(function, seed):
    case = random_case(seed, T=[1, 9, 20][seed % 3], n=[1, 2, 5, 12][seed % 4])
    y = series_of(case, 7, np.random.default_rng(seed))
    assert_each(function(case.problem, y), [function(case.problem, one) for one in y])


EXTREME = {
    "usual": {},
    "exact sensor": {"V": np.zeros((1, 1))},
    "no noise": {"W": np.zeros((2, 2))},
    "noise of one state": {"W": np.diag([0.0, 1.0])},
    "a state that is known": {"W": np.diag([0.0, 1.0]), "P0": np.diag([0.0, 1.0])},
    "vague": {"P0": 1e14 * np.eye(2)},
    "small beside large": {"W": np.diag([1e-12, 1e12])},
}


@pytest.mark.parametrize("function", FUNCTIONS[1:])
def test_extreme_models_of_a_batch_are_filtered_as_if_alone(function):
    usual = {
        "A": [[1, 1], [0, 0.9]],
        "C": [[1, 0]],
        "W": np.eye(2),
        "V": np.eye(1),
        "m0": [1, 2],
        "P0": np.eye(2),
    }
    batch = SmoothingBatch.of([SmoothingProblem(**(usual | change)) for change in EXTREME.values()])
    y = np.random.default_rng(0).normal(size=(len(batch), 40, 1)).cumsum(axis=1)
    y[::2, 5:9] = NAN
    assert_each(function(batch, y), [function(batch[i], y[i]) for i in range(len(batch))])


@pytest.mark.parametrize("function", FUNCTIONS[1:])
def test_series_with_different_gaps_are_filtered_in_one_pass(function, monkeypatch):
    """A series that cannot be, here one whose numbers overflow, is left to itself."""
    passes = []

    def counted(problem, data, root):
        passes.append(data.z.shape)
        return CovarianceFilter(problem, data, root)

    monkeypatch.setattr("lqrad.smoothing.kalman.CovarianceFilter", counted)
    case = random_case(1, n=3, ny=2, T=9, varying="all")
    y = series_of(case, 30, np.random.default_rng(0))
    function(case.problem, y)
    assert passes == [(30, 10, 2)]
    y[3, 4], y[3, 5:] = 1.7e308, NAN
    twice = SmoothingProblem(**(LEVEL | {"A": [[2]], "C": [[1], [1]], "V": np.eye(2)}))
    with pytest.raises(NonFiniteError, match=r"series 3: "):
        function(twice, y)
    assert passes[1:] == [(30, 10, 2), (1, 10, 2)]


def test_outputs_of_a_batch_are_those_of_each():
    batch, y = random_batch(4)
    found = lqrad.kalman_smoother(batch, y).outputs()
    for i in range(batch.b):
        one = lqrad.kalman_smoother(batch[i], y[i]).outputs()
        np.testing.assert_allclose(found.mean[i], one.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.cov[i], one.cov, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_several_pieces_are_one_after_the_other(seed, monkeypatch):
    """The twin lays so many series one below the other; where they are cut does not matter."""
    case = random_case(seed, n=3, ny=2, T=9)
    y = series_of(case, 7, np.random.default_rng(seed))
    with lqrad.native.switched_off():
        whole = lqrad.kalman_smoother(case.problem, y)
        monkeypatch.setattr("lqrad.smoothing.normal_equations._PIECE", 30)
        cut = lqrad.kalman_smoother(case.problem, y)
    np.testing.assert_allclose(cut.x, whole.x, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(cut.cov, whole.cov, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(cut.loglik, whole.loglik, rtol=1e-13)


@pytest.mark.parametrize("varying", ["none", "all"])
def test_no_series_is_linked_with_the_next(varying, monkeypatch):
    """All are one system for the twin, which no row links: it is solved once, and not one by one after it failed."""
    systems = []

    def recorded(*blocks, **options):
        systems.append(len(blocks[0]))
        return BlockTridiagonal(*blocks, **options)

    monkeypatch.setattr("lqrad.smoothing.normal_equations.BlockTridiagonal", recorded)
    case = random_case(3, n=3, ny=2, T=9, varying=varying, gaps="none")
    y = series_of(case, 6, np.random.default_rng(0))
    with lqrad.native.switched_off():
        found = normal_equations(case.problem, ~np.isnan(y)).smooth(
            np.where(np.isnan(y), 0.0, y - case.problem.d), covariances=False
        )
    assert systems == [60]
    assert found.loss.max() <= 1e-12


def test_without_covariances_there_are_none():
    batch, y = random_batch(1)
    found = lqrad.kalman_smoother(batch, y, covariances=False)
    assert found.cov is found.lag_cov is None
    np.testing.assert_allclose(found.x, lqrad.kalman_smoother(batch, y).x, rtol=1e-13)


def test_a_model_that_the_normal_equations_do_not_take_goes_by_recursions():
    W = np.array([[[1.0]], [[0.0]], [[1e-13]], [[2.0]]])
    batch = SmoothingBatch(**(LEVEL | {"W": W}))
    y = np.random.default_rng(0).normal(size=(4, 30, 1))
    found = lqrad.kalman_smoother(batch, y)
    assert found.method == "covariance recursions and normal equations"
    each = [lqrad.kalman_smoother(batch[i], y[i]) for i in range(4)]
    assert_each(found, each)
    slow = SmoothingBatch(**(LEVEL | {"W": W[[0, 2, 3]]}))
    assert_each(lqrad.kalman_smoother(slow, y[[0, 2, 3]]), [each[i] for i in (0, 2, 3)])


@functions
def test_the_series_that_fails_is_named(function):
    V = np.ones((20, 2, 2)) * np.eye(2)
    V[17] = 0.0
    batch = SmoothingBatch(**(LEVEL | {"C": [[1], [1]], "V": V}))
    with pytest.raises(NotConvexError, match=r"^series 17: the covariance of the innovation"):
        function(batch, np.ones((20, 5, 2)))
    exact = SmoothingProblem(**(LEVEL | {"C": [[1], [1]], "V": np.zeros((2, 2))}))
    y = np.ones((2, 10, 5, 2))
    y[..., 0] = NAN
    y[1, 7, 2, 0] = 1.0
    with pytest.raises(NotConvexError, match=r"^series 1, 7: the covariance of the innovation"):
        function(exact, y)


def test_the_series_that_overflows_is_named():
    batch = SmoothingBatch(**(LEVEL | {"A": np.array([[[1.0]], [[1.0]]])}))
    y = np.zeros((2, 4, 1))
    y[1] = 1e200
    with pytest.raises(NonFiniteError, match="series 1: "):
        lqrad.kalman_smoother(batch, y)
    y[1, 2] = np.inf
    with pytest.raises(NonFiniteError, match=r"y\[1, 2, 0\] is inf"):
        lqrad.kalman_smoother(batch, y)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", ["c", "d", "m0"])
@functions
def test_models_that_differ_in_no_covariance_are_told_apart(function, name, kernels):
    rng = np.random.default_rng(0)
    batch = SmoothingBatch(**(LEVEL | {name: rng.normal(size=(3, 1))}))
    y = rng.normal(size=(3, 6, 1))
    with nullcontext() if kernels else native.switched_off():
        found = function(batch, y)
        assert_each(found, [function(*of) for of in zip(batch, y, strict=True)])
        assert found.cov.shape == (3, 6, 1, 1)
        extreme = SmoothingBatch(**(LEVEL | {"A": [[1.5]], name: [[0.0], [0.0], [1e308]]}))
        with pytest.raises(NonFiniteError, match="series 2: "):
            function(extreme, y)


def test_a_covariance_that_is_none_is_named_with_its_problem():
    W = np.ones((20, 1, 1))
    W[17] = -1.0
    with pytest.raises(NotConvexError, match=r"^problem 17: W "):
        SmoothingBatch(**(LEVEL | {"W": W}))
    with pytest.raises(NotConvexError, match=r"^W "):
        SmoothingBatch(**(LEVEL | {"A": np.ones((3, 1, 1)), "W": [[-1.0]]}))


def test_nothing_is_no_batch():
    with pytest.raises(ShapeError, match=r"A has shape \(0, 1, 1\)"):
        SmoothingBatch(**(LEVEL | {"A": np.ones((0, 1, 1))}))
    with pytest.raises(ArgumentError, match="problems is empty"):
        SmoothingBatch.of([])
    with pytest.raises(ShapeError, match="no array has an axis of problems in front"):
        SmoothingBatch(**LEVEL)
    with pytest.raises(ShapeError, match=r"y has shape \(0, 3, 1\)"):
        lqrad.kalman_smoother(SmoothingProblem(**LEVEL), np.zeros((0, 3, 1)))


def test_what_is_not_a_series_for_each_problem_is_refused():
    batch = SmoothingBatch(**(LEVEL | {"A": np.ones((3, 1, 1))}))
    for shape in ((5, 1), (2, 5, 1), (1, 3, 5, 1)):
        with pytest.raises(ShapeError, match=r"expected .*3, T . 1, 1.*a series for each problem"):
            lqrad.kalman_smoother(batch, np.zeros(shape))
    with pytest.raises(ArgumentError, match="problem is of type SmoothingBatch"):
        loglik_gradient(batch, np.zeros((3, 5, 1)))


def test_a_batch_of_problems_has_them():
    cases = [random_case(i, n=2, ny=2, T=5, varying=["none", "all"][i % 2]) for i in range(4)]
    problems = [case.problem for case in cases]
    batch = SmoothingBatch.of(problems)
    assert (len(batch), batch.T) == (4, 5)
    for one, again, case in zip(problems, batch, cases, strict=True):
        for name, array in stages(case.data, 5).items():
            np.testing.assert_array_equal(np.broadcast_to(getattr(again, name), array.shape), array)
        assert np.array_equal(again.P0, one.P0)
    with pytest.raises(IndexError, match="there is no problem 4 in a batch of 4"):
        batch[4]
    assert batch[-1].A.shape == (5, 2, 2)
    same = SmoothingBatch.of([problems[0]] * 3)
    assert len(same) == 3
    with pytest.raises(ShapeError, match=r"problems\[1\] has n = 1 and problems\[0\] has n = 2"):
        SmoothingBatch.of([problems[0], SmoothingProblem(**LEVEL)])
    vague = SmoothingProblem(**(LEVEL | {"P0": None}))
    with pytest.raises(ArgumentError, match=r"problems\[1\] has no prior P0"):
        SmoothingBatch.of([SmoothingProblem(**LEVEL), vague])


def test_a_batch_is_read_only_in_its_copies_too():
    batch = SmoothingBatch(**(LEVEL | {"A": np.ones((3, 1, 1))}))
    assert repr(batch) == "SmoothingBatch(3 problems, n=1, ny=1, time-invariant)"
    for one in (batch, copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))):
        with pytest.raises(ValueError, match="read-only"):
            one.A[0] = 2.0
        with pytest.raises(AttributeError, match="A of a SmoothingBatch cannot be set"):
            one.A = 2.0
    diffuse = SmoothingBatch(**(LEVEL | {"A": np.ones((3, 1, 1)), "m0": None, "P0": None}))
    assert "no prior" in repr(diffuse)
    with pytest.raises(ArgumentError, match=r"^P0 is None and kalman_filter needs a prior"):
        lqrad.kalman_filter(diffuse, np.zeros((3, 4, 1)))


def test_a_table_is_of_one_series():
    found = lqrad.kalman_smoother(
        SmoothingBatch.of([SmoothingProblem(**LEVEL)] * 3), np.ones((3, 6, 1))
    )
    with pytest.raises(ShapeError, match=r"x has shape \(3, 6, 1\), expected \(T\+1, n\)"):
        found.columns()


def test_problems_of_a_batch_are_counted_in_integers():
    batch = SmoothingBatch.of([SmoothingProblem(**LEVEL)] * 3)
    for i in (slice(2), 1.0, None):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            batch[i]


@pytest.mark.parametrize("function", FUNCTIONS[1:])
def test_no_series_is_named_where_none_has_a_prior(function):
    batch = SmoothingBatch.of([SmoothingProblem(**LEVEL | {"m0": None, "P0": None})] * 3)
    with pytest.raises(ArgumentError, match=f"^P0 is None and {function.__name__} needs a prior"):
        function(batch, np.ones((3, 6, 1)))


def test_the_likelihoods_of_a_batch_are_those_of_its_smoother():
    batch = SmoothingBatch.of([SmoothingProblem(**LEVEL)] * 3)
    y = np.ones((3, 6, 1))
    with pytest.raises(ArgumentError, match="a SmoothingBatch, expected") as caught:
        loglik(batch, y)
    remedy = "kalman_smoother(problem, y, covariances=False).loglik"
    assert remedy in caught.value.remedy
    problem, kalman_smoother = batch, lqrad.kalman_smoother
    assert eval(remedy, locals()) == pytest.approx([loglik(one, y[0]) for one in batch])


def test_what_overflows_on_the_way_does_not_warn():
    model = SmoothingProblem([[1]], [[1]], [[1e-292]], [[2e-292]], [0], [[1e-292]])
    with pytest.raises(NonFiniteError):
        lqrad.kalman_smoother(model, [[2e278], [2e278]])
    C = np.array([[2.0**600, 0.0], [0.0, 1.0]])
    model = SmoothingProblem(np.eye(2), C, np.diag([0.0, 1.0]), np.eye(2), np.zeros(2), np.eye(2))
    with pytest.raises(NotConvexError, match="singular to working precision"):
        lqrad.kalman_filter(model, np.zeros((3, 2)))
