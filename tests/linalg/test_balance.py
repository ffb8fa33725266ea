"""Balancing: the balanced model is the same, to the last bit, from all units."""

from __future__ import annotations

import numpy as np
import pytest

from lqrad.linalg.balance import balance, in_units

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


def test_an_entry_of_next_to_nothing_does_not_pull_the_others_apart():
    """The companion form of the poles 1 and six that are almost 0: in these units already at best."""
    A = np.eye(7, k=1)
    A[-1] = [0.0, 1e-280, 1e-50, 1e-20, 1e-9, -0.9, 1.9]
    units = 2.0 ** np.random.default_rng(0).integers(-40, 41, size=7)
    found = in_units(A * units / units[:, None], x := balance(A * units / units[:, None]).x, x)
    assert np.linalg.norm(found) < 10 * np.linalg.norm(A)
    np.testing.assert_array_equal(found, in_units(A, x := balance(A).x, x))


def test_outputs_of_a_loop_are_in_the_units_of_its_inputs():
    rng = np.random.default_rng(0)
    A, B, C, D = (rng.normal(size=shape) for shape in ((3, 3), (3, 2), (2, 3), (2, 2)))
    C[1], B[:, 0] = 0.0, 0.0  # what goes in at one channel comes out at the other alone
    d, e = 2.0 ** rng.integers(-40, 41, size=3), 2.0 ** rng.integers(-40, 41, size=2)
    other = A * d / d[:, None], B / d[:, None] * e, C * d / e[:, None], D * e / e[:, None]
    for balanced in zip(_balanced_loop(A, B, C, D), _balanced_loop(*other), strict=True):
        np.testing.assert_array_equal(*balanced)


def _balanced_loop(A, B, C, D):
    x, u, *_ = balance(A, B, C, D=D)
    return in_units(A, x, x), in_units(B, x, u), in_units(C, u, x), in_units(D, u, u)


def test_the_largest_numbers_have_units():
    found = balance(np.array([[1e308, 1e-300], [1e308, 0.0]]), np.array([[1e-300], [1e308]]))
    assert np.abs(np.concatenate([found.x, found.u])).max() < 3000
