"""The largest invariant set: its proof by rational arithmetic alone, and a simulation as the oracle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

import lqrad
from lqrad.design import invariant, invariant_set


def loop(seed, n=None, m=None):
    """A stable loop A - B K, and rows of its states and inputs with limits."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6)) if n is None else n
    m = int(rng.integers(1, 3)) if m is None else m
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, m))
    A *= rng.uniform(0.7, 1.3) / np.abs(np.linalg.eigvals(A)).max()
    K, _, _ = lqrad.dlqr(A, B, np.eye(n), 10 ** rng.uniform(-1, 2) * np.eye(m))
    C = np.vstack([-K, np.eye(n)])
    high = rng.uniform(0.5, 3.0, size=n + m)
    low = -rng.uniform(0.5, 3.0, size=n + m)
    one_sided = rng.uniform(size=n + m) < 0.2
    low[m:][one_sided[m:]] = -np.inf
    return A - B @ K, C, low, high


def exactly(a):
    return [Fraction(float(z)) for z in a]


def check_proof(found, A, C, low, high):
    """Check each inequality of the proof in rational numbers, with the arrays of the result alone."""
    E = [exactly(row) for row in found.E]
    n, r = found.E.shape[1], len(found.E)
    count = 0

    def bound(y, a, rounding=Fraction(0)):
        """The bound of a'x, where the signs of the multipliers and limits allow one."""
        nonlocal count
        count += 1
        total, rest = Fraction(0), list(a)
        for j in np.flatnonzero(y):
            limit = (found.high if y[j] > 0 else found.low)[j]
            assert np.isfinite(limit)
            total += Fraction(float(y[j])) * Fraction(float(limit))
            rest = [z - Fraction(float(y[j])) * e for z, e in zip(rest, E[j], strict=True)]
        for z, reach in zip(rest, found.reach, strict=True):
            if z:
                assert np.isfinite(reach)
                total += abs(z) * Fraction(float(reach))
        return total

    columns = [exactly(column) for column in A.T]
    through = [[sum(map(Fraction.__mul__, e, c), Fraction(0)) for c in columns] for e in E]
    limits = {"ahead": (found.low, found.high, through)}
    limits["within"] = low, high, [exactly(row) for row in C]
    for name, (least, most, rows) in limits.items():
        proof = getattr(found, name)
        assert proof.shape == (2, len(rows), r)
        for i, a in enumerate(rows):
            equality = least[i] == most[i] == 0
            slack = Fraction(1e-14 * np.abs(C).max() * np.abs(A).max() if equality else 0)
            if np.isfinite(most[i]):
                assert bound(proof[0, i], a) <= Fraction(float(most[i])) + slack
            if np.isfinite(least[i]):
                assert bound(proof[1, i], [-z for z in a]) <= -Fraction(float(least[i])) + slack
    for i in range(n):
        if np.isfinite(found.reach[i]):
            unit = [Fraction(int(i == j)) for j in range(n)]
            assert bound(found.around[0, i], unit) <= Fraction(float(found.reach[i]))
            assert bound(found.around[1, i], [-z for z in unit]) <= Fraction(float(found.reach[i]))
    return count


def stays(A, C, low, high, x, steps=400):
    """Whether the loop keeps its limits for many steps, by how much (the oracle)."""
    least = np.full(len(x), np.inf)
    for _ in range(steps):
        g = x @ C.T
        least = np.minimum(least, np.minimum(high - g, g - low).min(axis=1))
        x = x @ A.T
    return least


@pytest.mark.parametrize("seed", range(12))
def test_the_proof_holds_in_rational_numbers(seed):
    data = loop(seed)
    found = invariant_set(*data)
    checked = check_proof(found, *data)
    sides = np.isfinite([found.low, found.high]).sum() + np.isfinite(data[2:]).sum()
    assert checked == sides + 2 * np.isfinite(found.reach).sum()


@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_set_from_which_a_simulation_keeps_the_limits(seed):
    A, C, low, high = data = loop(seed)
    found = invariant_set(*data)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, len(A))) * np.minimum(found.reach, 1e3)
    x *= rng.uniform(0, 1, size=(400, 1)) ** 0.5
    room = stays(A, C, low, high, x)
    clear = np.abs(room) > 1e-9
    assert clear.sum() > 390
    inside = found.contains(x)
    np.testing.assert_array_equal(inside[clear], room[clear] > 0)


def test_no_row_is_left_out_that_matters_nor_kept_that_does_not():
    for seed in range(6):
        A, C, low, high = loop(seed, n=3, m=1)
        found = invariant_set(A, C, low, high)
        for j, (i, t) in enumerate(found.source):
            np.testing.assert_allclose(
                found.E[j], C[i] @ np.linalg.matrix_power(A, t), rtol=1e-12, atol=1e-14
            )
        # Without one side of a row the set is larger, or as large to rounding errors.
        for j in range(len(found.E)):
            for side, limits in ((1.0, found.high), (-1.0, found.low)):
                if not np.isfinite(limits[j]):
                    continue
                most = farthest(found, j, side)
                assert most > side * limits[j] * (1 - 1e-9)


def farthest(found, j, side):
    high, low = found.high.copy(), found.low.copy()
    (high if side > 0 else low)[j] = side * np.inf
    E, h = np.vstack([found.E, -found.E]), np.concatenate([high, -low])
    at = np.isfinite(h)
    done = linprog(-side * found.E[j], A_ub=E[at], b_ub=h[at], bounds=(None, None))
    return np.inf if done.status else -done.fun


def test_limits_of_later_steps_are_those_of_the_first_to_rounding_errors():
    A, C, low, high = loop(3)
    found = invariant_set(A, C, low, high)
    i = found.source[:, 0]
    for side, given in ((found.high, high), (found.low, low)):
        at = np.isfinite(side)
        assert at.any()
        np.testing.assert_allclose(side[at], given[i][at], rtol=1e-11)
        assert (np.abs(side[at]) <= np.abs(given[i][at])).all()


def test_the_double_integrator_of_the_literature():
    """Two states, limits on the input and both states: as many rows as brute force finds."""
    A, B = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[0.5], [1.0]])
    K, _, _ = lqrad.dlqr(A, B, np.eye(2), [[10.0]])
    C = np.vstack([-K, np.eye(2)])
    low, high = np.array([-1.0, -5.0, -5.0]), np.array([1.0, 5.0, 5.0])
    found = invariant_set(A - B @ K, C, low, high)
    check_proof(found, A - B @ K, C, low, high)
    angles = np.linspace(0, 2 * np.pi, 721)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # How far one may go along each ray: by the rows of forty steps, and by those of the set.
    rows = np.concatenate([C @ np.linalg.matrix_power(A - B @ K, t) for t in range(40)])
    nearest = (np.abs(around @ rows.T) / np.tile(high, 40)).max(axis=1)
    ours = (np.abs(around @ found.E.T) / found.high).max(axis=1)
    np.testing.assert_allclose(ours, nearest, rtol=1e-12)


def test_equalities_leave_the_subspace_in_which_they_hold_for_ever():
    A = np.array([[0.5, 0.2, 0.0], [0.1, 0.6, 0.0], [0.0, 0.0, 0.3]])
    found = invariant_set(A, [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0, -1], [0, 2])
    check_proof(found, A, np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), [0, -1], [0, 2])
    assert found.contains([[0.0, 0.0, 1.9], [1.0, -1.0, 0.0], [0.0, 0.0, 2.1]]).tolist() == [
        True, False, False,
    ]  # fmt: skip
    np.testing.assert_allclose(found.reach, [0.0, 0.0, 2.0], atol=1e-14)


def test_the_origin_alone():
    found = invariant_set([[0.5, 0.2], [0.1, 0.6]], np.eye(2), 0, 0)
    assert found.contains([0.0, 0.0])
    assert not found.contains([1e-300, 0.0])


def test_a_limit_at_zero_is_kept_where_its_proof_is_exact():
    """States that are never negative: no limit has room for rounding errors, and none is needed."""
    A, C, low, high = np.array([[0.5, 0.25], [0.25, 0.5]]), np.eye(2), np.zeros(2), np.ones(2)
    found = invariant_set(A, C, low, high)
    check_proof(found, A, C, low, high)
    np.testing.assert_array_equal(found.low, 0.0)
    assert found.steps == 1
    assert found.contains([[0.0, 1.0], [-1e-9, 0.5]]).tolist() == [True, False]


def test_a_state_that_no_limit_sees_is_free():
    A = np.array([[0.5, 0.1, 0.0], [0.0, 0.2, 0.0], [0.3, 0.0, 0.9]])
    found = invariant_set(A, [[1.0, 0.0, 0.0]], -1, 1)
    check_proof(found, A, np.array([[1.0, 0.0, 0.0]]), np.array([-1.0]), np.array([1.0]))
    assert np.isinf(found.reach[2])
    assert found.contains([0.5, 0.0, 1e9])


def test_without_limits_it_is_everything():
    found = invariant_set([[0.5]], np.zeros((0, 1)))
    assert found.E.shape == (0, 1)
    assert found.contains([1e9])
    assert found.reach[0] == np.inf


def test_sizes_far_apart_change_nothing():
    A, C, low, high = loop(5, n=3, m=1)
    plain = invariant_set(A, C, low, high)
    x = np.ldexp(1.0, [200, -150, 30])
    scaled = invariant_set(A / x[:, None] * x, C * x, low, high)
    np.testing.assert_array_equal(scaled.source, plain.source)
    np.testing.assert_array_equal(scaled.E, plain.E * x)
    np.testing.assert_array_equal(scaled.reach * x, plain.reach)


def rotated(angle, *modes):
    """A matrix of these modes, its eigenvectors turned by an angle."""
    V = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return V @ np.diag(modes) @ V.T


@pytest.mark.parametrize(
    ("A", "C", "low", "high", "match"),
    [
        ([[1.0]], [[1.0]], -1, 1, "A has the mode 1 of magnitude 1, expected all below one"),
        ([[0.0, -1.2], [1.2, 0.0]], np.eye(2), -1, 1, r"the mode .*1\.2j of magnitude 1\.2"),
        ([[0.5]], [[1.0]], 1, 2, "low and high of row 0 are 1 and 2, and the origin"),
        ([[0.5]], [[1.0]], -2, -1, "the origin, where the loop ends, is not within them"),
        ([[0.5]], [[1.0]], 2, 1, "leave nothing"),
        ([[0.5]], [[1.0, 0.0]], -1, 1, r"C has shape \(1, 2\), expected \(k, n\) = \(1, 1\) as A"),
        ([[0.5, 0.0]], [[1.0, 0.0]], -1, 1, r"A has shape \(1, 2\), expected \(n, n\)"),
        (rotated(0.3, 0.9, 0.6), rotated(0.3, 1.0, 0.0)[:1], -1, 1, "unbounded along 1 in x"),
        ([[0.9, 0.1], [0.0, 0.8]], [[1.0, 0.5]], -np.inf, 1, "do not bound the set, or hardly"),
    ],
)
def test_what_leaves_no_set_is_refused_in_words(A, C, low, high, match):
    with pytest.raises((lqrad.ArgumentError, lqrad.ShapeError), match=match):
        invariant_set(A, C, low, high)


def test_too_many_rows_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(invariant, "_MOST_ROWS", 5)
    A, C, _, _ = loop(0, n=4, m=2)
    with pytest.raises(lqrad.ArgumentError, match="has more than 5 rows"):
        invariant_set(0.999 * A / np.abs(np.linalg.eigvals(A)).max(), C, -1, 1)
