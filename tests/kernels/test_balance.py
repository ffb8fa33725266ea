"""Balancing: the balanced model is the same, to the last bit, from all units."""

from __future__ import annotations

import numpy as np
import pytest

from lqrad.kernels.balance import balance, in_units

SEEDS = range(20)


def draw(rng, shape, density):
    """Entries over many decades, a share of them zero."""
    matrix = rng.normal(size=shape) * 10.0 ** rng.integers(-9, 9, size=shape)
    return np.where(rng.random(shape) < density, matrix, 0.0)


def weight(rng, size, density):
    root = draw(rng, (size, size), density)
    return root.T @ root


def random_model(rng):
    n, m, ny = (int(k) for k in rng.integers((1, 1, 1), (7, 4, 4)))
    density = rng.choice([0.15, 0.4, 1.0])
    model = {
        "A": draw(rng, (n, n), density),
        "B": draw(rng, (n, m), density),
        "C": draw(rng, (ny, n), density),
    }
    if rng.random() < 0.6:
        model |= {"Q": weight(rng, n, density), "R": np.diag(rng.random(m) + 0.1)}
        if rng.random() < 0.5:
            model["M"] = draw(rng, (n, m), density)
    return model


def scaled(model, x, u, y, time=0, cost=0):
    """The model with x = 2^x x' and so on, entry by entry as the units say."""
    change = {
        "A": lambda i, j: x[j] - x[i] + time,
        "B": lambda i, j: u[j] - x[i] + time,
        "C": lambda i, j: x[j] - y[i],
        "Q": lambda i, j: x[i] + x[j] - cost,
        "R": lambda i, j: u[i] + u[j] - cost,
        "M": lambda i, j: x[i] + u[j] - cost,
    }
    return {
        name: np.array(
            [
                [np.ldexp(entry, int(change[name](i, j))) for j, entry in enumerate(row)]
                for i, row in enumerate(matrix)
            ]
        )
        for name, matrix in model.items()
    }


def drawn_units(rng, model, most):
    n, m = model["B"].shape
    return [rng.integers(-most, most + 1, size=k) for k in (n, m, len(model["C"]))]


def balanced(model, *, continuous):
    given = {name: matrix for name, matrix in model.items() if name != "M"}
    return scaled(model, *balance(**given, continuous=continuous))


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_balanced_model_is_the_same_from_all_units(seed, continuous):
    rng = np.random.default_rng(seed)
    model = random_model(rng)
    expected = balanced(model, continuous=continuous)
    for _ in range(3):
        time = int(rng.integers(-40, 41)) if continuous else 0
        other = scaled(model, *drawn_units(rng, model, 40), time, int(rng.integers(-40, 41)))
        found = balanced(other, continuous=continuous)
        for name, matrix in expected.items():
            np.testing.assert_array_equal(found[name], matrix, err_msg=name)


@pytest.mark.parametrize("seed", range(20))
def test_what_the_user_scaled_by_any_factor_is_undone(seed):
    """Of entries of size one behind units over 24 decades, all are between 1/64 and 64 again."""
    rng = np.random.default_rng(seed)
    n, m, ny = 5, 2, 2
    sizes = {"A": (n, n), "B": (n, m), "C": (ny, n)}
    model = {k: rng.uniform(0.5, 2, s) * rng.choice([-1, 1], s) for k, s in sizes.items()}
    x, u, y = (10.0 ** rng.uniform(-12, 12, k) for k in (n, m, ny))
    model = {
        "A": model["A"] * x / x[:, None],
        "B": model["B"] * u / x[:, None],
        "C": model["C"] * x / y[:, None],
    }
    for matrix in balanced(model, continuous=False).values():
        assert np.abs(np.log2(np.abs(matrix))).max() < 6


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_no_other_units_have_smaller_logarithms(seed, continuous):
    """The sum of squares is least to what rounding may add: 1 for each entry, 9/4 with time."""
    rng = np.random.default_rng(seed)
    model = random_model(rng)
    model = {name: model[name] for name in "ABC"}
    expected = balanced(model, continuous=continuous)

    def total(units):
        found = scaled(expected, *units)
        logs = np.concatenate([np.log2(np.abs(z[z != 0])) for z in found.values()])
        return logs @ logs, len(logs)

    n, m = model["B"].shape
    zero = [np.zeros(k, dtype=int) for k in (n, m, len(model["C"]))]
    least, count = total([*zero, 0])
    for _ in range(50):
        units = [*drawn_units(rng, model, 3), int(rng.integers(-2, 3)) if continuous else 0]
        assert least <= total(units)[0] + (2.25 if continuous else 1) * count


def test_in_units_has_the_signs_that_it_says():
    rng = np.random.default_rng(0)
    model = random_model(rng) | {"M": np.zeros((0, 0))}
    n, m = model["B"].shape
    model |= {"Q": np.eye(n), "R": np.eye(m), "M": rng.normal(size=(n, m))}
    x, u, y = drawn_units(rng, model, 9)
    time, cost = 3, -5
    expected = scaled(model, x, u, y, time, cost)
    for name, rows, columns, factor in [
        ("A", x, x, time),
        ("B", x, u, time),
        ("C", y, x, 0),
        ("Q", -x, x, -cost),
        ("R", -u, u, -cost),
        ("M", -x, u, -cost),
    ]:
        np.testing.assert_array_equal(in_units(model[name], rows, columns, factor), expected[name])


def test_leading_axes_count_with_their_largest_entries():
    rng = np.random.default_rng(3)
    A, B = rng.normal(size=(7, 3, 3)), rng.normal(size=(7, 3, 2))
    stacked, largest = balance(A, B), balance(np.abs(A).max(axis=0), np.abs(B).max(axis=0))
    for found, expected in zip(stacked, largest, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_nothing_at_all_has_units_too():
    x, u, y, time, cost = balance(np.zeros((2, 2)), np.zeros((2, 1)), np.zeros((0, 2)))
    assert x.tolist() == [0, 0]
    assert u.tolist() == [0]
    assert y.tolist() == []
    assert time == cost == 0
