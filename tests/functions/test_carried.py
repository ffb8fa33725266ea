"""Derivatives that points carry: each entry of the tables, kinks, assignments, and what leaves NumPy."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from slopes import hessian, jacobian

from lqrad.errors import LqradError
from lqrad.functions.carried import Carried, Pass
from lqrad.functions.derivatives import derivatives
from lqrad.functions.kinks import carried

EPS = np.finfo(float).eps


def both(function, z):
    """First and second derivatives, which must be exact."""
    found = []
    for order in (1, 2):
        value, way = derivatives(function, z, order=order)
        assert way == "exact"
        found.append(value)
    return found


# Functions of a number, against 30 digits

NUMBERS = {
    **{name: (name, name) for name in ("exp", "expm1", "log", "log10", "log1p", "sin", "cos")},
    **{name: (name, name) for name in ("tan", "sinh", "cosh", "tanh", "sqrt", "cbrt")},
    **{f"arc{name}": (f"arc{name}", f"a{name}") for name in ("sin", "cos", "tan")},
    **{f"arc{name}": (f"arc{name}", f"a{name}") for name in ("sinh", "cosh", "tanh")},
    "exp2": ("exp2", lambda x: mpmath.mpf(2) ** x),
    "log2": ("log2", lambda x: mpmath.log(x, 2)),
    "reciprocal": ("reciprocal", lambda x: 1 / x),
    "square": ("square", lambda x: x**2),
    "negative": ("negative", lambda x: -x),
    "degrees": ("degrees", mpmath.degrees),
    "radians": ("radians", mpmath.radians),
    "abs": ("abs", abs),
}


@pytest.mark.parametrize(("ours", "theirs"), NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("x", [0.0078125, 0.3, 0.96])
def test_functions_of_a_number_have_their_derivatives(ours, theirs, x):
    theirs = getattr(mpmath, theirs) if isinstance(theirs, str) else theirs
    if ours == "arccosh":
        x += 1
    with mpmath.workdps(40):
        expected = [float(mpmath.diff(theirs, mpmath.mpf(x), k)) for k in (1, 2)]
    # A rounding of x itself, where that changes the derivative more.
    with mpmath.workdps(60):
        third = float(abs(mpmath.diff(theirs, mpmath.mpf(x), 3)))
    first, second = both(getattr(np, ours), np.array([x]))
    assert abs(first[0, 0] - expected[0]) <= 8 * EPS * (abs(expected[0]) + abs(x * expected[1]))
    room = 16 * EPS * (abs(expected[1]) + abs(x * third)) + 1e-25  # of the oracle's differences
    assert abs(second[0, 0, 0] - expected[1]) <= room


def test_a_slope_that_is_small_keeps_its_digits():
    found = jacobian(np.tanh, np.array([25.0]))[0, 0]
    assert found == pytest.approx(4 * math.exp(-50), rel=1e-13)
    assert jacobian(np.expm1, np.array([-40.0]))[0, 0] == pytest.approx(math.exp(-40), rel=1e-14)


# All others, against central differences

A = np.random.default_rng(0).normal(size=(3, 3))


def assigned(z):
    out = np.empty_like(z)
    out[..., 0] = z[..., 1] ** 2
    out[..., 1:] = z[..., :2]
    out[..., 1] += z[..., 0] ** 2
    out[z > 0.5] *= 2
    return out


def looped(z):
    rows = np.zeros_like(z)
    for i in range(3):
        rows[..., i] = rows[..., i - 1] * z[..., i] + z[..., i - 2] ** 2
    return rows


FUNCTIONS = {
    "+ and -": lambda z: 3 - (z + z[..., :1]) + 1 / z,
    "a constant over many": lambda z: np.ones((4, 1)) / z[..., 0],
    "many over a constant": lambda z: z[..., 0] * np.ones((4, 1)) * z[..., 1],
    "powers": lambda z: z**3 + z**-2 + z**0.5 + 2**z + z ** z[..., ::-1] + z**0 + z**1,
    "arctan2": lambda z: np.arctan2(z[..., 0], z[..., 1] - 0.5),
    "arctan2 of a constant": lambda z: np.arctan2(0.3, z) + np.arctan2(z, -0.4),
    "hypot": lambda z: np.hypot(z[..., 0], 2 * z[..., 1]) + np.hypot(z[..., 2], 0.7),
    "logaddexp": lambda z: np.logaddexp(z[..., 0], z[..., 1]),
    "maximum": lambda z: np.maximum(z[..., 0], z[..., 1]) ** 2 + np.minimum(z[..., 2], 0.5) ** 2,
    "max": lambda z: z.max(axis=-1) ** 2 + np.min(z, axis=-1) + np.amax(z, axis=-1),
    "clip": lambda z: np.clip(z, 0.3, 0.6) ** 2 + z.clip(0.2, None),
    "remainders": lambda z: (z % 0.3) ** 2 + np.fmod(-z, 0.4) ** 2 + np.mod(-z, 0.7),
    "rounding": lambda z: z * (np.floor(7 * z) + np.ceil(5 * z) + np.trunc(3 * z) + np.rint(9 * z)),
    "floor division": lambda z: z * (z // 0.3),
    "signs": lambda z: np.sign(z - 0.5) * z**2 + np.heaviside(z - 0.5, 0.5) * z,
    "norms": lambda z: np.linalg.norm(z, axis=-1) * z[..., 0] + np.linalg.norm(z, 1, axis=-1) ** 2,
    "a norm along": lambda z: np.linalg.norm(z, axis=-1, keepdims=True) * z,
    "the largest": lambda z: np.linalg.norm(z, np.inf, axis=-1) ** 2,
    "matmul": lambda z: (z @ A) * (A @ z[..., None])[..., 0],
    "einsum": lambda z: np.einsum("...i,ij,...j->...", z, A, z),
    "inner": lambda z: np.inner(z, A) * np.dot(z, A) * np.tensordot(z, A, axes=1),
    "outer": lambda z: (z[..., :, None] * z[..., None, :]) @ A,
    "sums": lambda z: (z**2).sum(axis=-1) + np.mean(z**3, axis=-1) + np.sum(z[..., :2], axis=-1),
    "prod": lambda z: z.prod(axis=-1) + np.prod(z[..., 1:], axis=-1),
    "cumsum": lambda z: np.cumsum(z**2, axis=-1) + np.add.accumulate(z, axis=-1),
    "stack": lambda z: np.stack([z[..., 0] ** 2, 0 * z[..., 0], np.ones(5)], axis=-1),
    "concatenate": lambda z: np.concatenate([z[..., :1] ** 2, z, np.ones((5, 1))], axis=-1),
    "column_stack": lambda z: np.column_stack([z[:, 0] ** 2, z[:, 1]]),
    "axes": lambda z: np.moveaxis(z**2, -1, 0).T + np.swapaxes(z, 0, 1).T + z.T.T,
    "shapes": lambda z: np.squeeze(np.expand_dims(z**2, 0), 0).reshape(5, 3).ravel(),
    "copies": lambda z: np.tile(z**2, 2) + np.repeat(z, 2, axis=-1),
    "places": lambda z: np.roll(z**2, 1, axis=-1) + np.flip(z, axis=-1) + np.take(z, [2, 0, 1], -1),
    "broadcast_to": lambda z: np.broadcast_to(z**2, (4, 5, 3)),
    "diagonals": lambda z: np.diag(z[:3] ** 2) + np.trace(z[:3]) + np.diff(z, axis=-1)[:3, 0],
    "likes": lambda z: np.ones_like(z) * z + np.full_like(z, 2.0) * z**2 + np.zeros_like(z),
    "where": lambda z: np.where(z > 0.5, z**2, -z),
    "select": lambda z: (
        np.select([z > 0.7, z > 0.4], [z**2, z**3], 0.0 * z)
        + np.select([z > 0.7, z > 0.4], [z**2, 1.0], default=3.0)
        + np.select([z[..., :1] > 0.5, z < 0.3], [np.ones(3), z], z**2)
    ),
    "deviations": lambda z: (
        np.var(z, axis=-1) * np.std(z, axis=-1, ddof=1) + np.ptp(z, -1) ** 2 + z.var() + z.std(0)[0]
    ),
    "polyval": lambda z: np.polyval([2.0, -1.0, 0.5], z) + np.polyval(z[0], 0.3) * z,
    "split": lambda z: np.multiply(*np.split(z[:4], 2)) + np.array_split(z, [2], axis=0)[1][1:],
    "lists": lambda z: (
        (z[0] * [z[1, 0], 1.0, z[2, 2]] + [[z[0, 0]] * 3, np.ones(3)])
        @ [z[0, 0], 2.0, z[1, 1]]
        * np.einsum("i,i", z[0], [z[3, 0], 1.0, z[2, 1]])
        + np.arctan2(z[4, :2], [z[0, 1], 1.0])
        - np.dot([z[0, 0], 1.0], z[1, :2])
    ),
    "linalg.matmul": lambda z: getattr(np.linalg, "matmul", np.matmul)(z, A) * z,
    "interp": lambda z: np.interp(z, [0, 0.3, 0.6, 1], [0, 1, 3, 2]) ** 2,
    "solve": lambda z: np.linalg.solve(
        z[..., :, None] * z[..., None, :] + np.eye(3), (z**2)[..., None]
    )[..., 0],
    "inv": lambda z: np.linalg.inv(z[..., :, None] * z[..., None, :] + np.eye(3)),
    "indices": lambda z: z[..., [0, 2]] ** 2 + z[np.arange(5), [0, 1, 2, 0, 1]][:, None],
    "masks": lambda z: np.where(z > 0.5, z, 0.0)[z > 0.5] ** 2,
    "assignments": assigned,
    "a loop over entries": looped,
    "iteration": lambda z: sum(row**2 for row in z),
    "methods": lambda z: z.copy().astype(float).flatten().reshape(-1, 3).transpose() ** 2,
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_have_the_derivatives_of_differences(function):
    """Second ones are those of first ones, which are exact."""
    z = np.random.default_rng(1).uniform(0.2, 0.9, size=(5, 3))
    first, second = both(lambda y: function(y), z)  # one evaluation carries all points
    h = 1e-5
    moved = [(function(z + h * e) - function(z - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(first, np.stack(moved, axis=-1), rtol=1e-6, atol=1e-6)
    moved = [(jacobian(function, z + h * e) - jacobian(function, z - h * e)) for e in np.eye(3)]
    np.testing.assert_allclose(second, np.stack(moved, -1) / (2 * h), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "leaves",
    [
        lambda z: math.sin(z[0]),
        lambda z: float(z[0]),
        lambda z: np.asarray(z),
        lambda z: np.array([z[0], z[1]], dtype=float),
        lambda z: np.zeros(2).__setitem__(0, z[0]),
        lambda z: np.add(z, z, out=np.zeros(2)),
        lambda z: z.astype(np.float32),
        lambda z: np.median(z),
        lambda z: np.frompyfunc(lambda x: x, 1, 1)(z),
        lambda z: np.vectorize(lambda x: x)(z),
        lambda z: np.where(z, z, z),
        lambda z: z.__array__(),
    ],
)
def test_what_leaves_numpy_raises_and_drops_nothing(leaves):
    with pytest.raises((TypeError, ValueError)):  # NumPy may tell the one by the other
        leaves(carried(np.array([0.5, 0.7]), Pass(order=1)))


@pytest.mark.parametrize(
    "function",
    [
        lambda z: np.sum(z, axis=-1, initial=5.0),
        lambda z: np.diff(z, axis=-1, prepend=2.0),
        lambda z: np.select([z > 0.7], [z], default=3.0),
        lambda z: np.max(z, axis=-1, initial=0.5),
        lambda z: np.sum(z, axis=-1, where=z > 0.5),
        lambda z: np.sum(z, axis=-1, dtype=np.float32).astype(float),
        lambda z: np.clip(z, a_min=0.4, a_max=0.6),
        lambda z: np.sort(z, axis=-1),
    ],
)
def test_options_that_add_a_constant_or_choose_are_not_differentiated(function):
    """Differences are taken, or they are understood: the derivative is right either way."""
    z = np.random.default_rng(4).uniform(0.2, 0.9, size=(4, 3))
    h = 1e-6
    moved = [(function(z + h * e) - function(z - h * e)) / (2 * h) for e in np.eye(3)]
    try:
        found = jacobian(function, z)
    except LqradError:
        return
    np.testing.assert_allclose(found, np.stack(moved, axis=-1), atol=1e-7)


def test_numbers_are_replaced_and_arrays_written_to():
    def one(z):
        s = z[0]
        s += z[1]  # z[0] stays
        row = 1.0 * z
        part = row[1:]
        part *= z[1]
        size = abs(row - row.value if isinstance(row, Carried) else row - row)
        row += 1.0
        return np.stack([s * z[0], row[1], (size**2).sum()])

    with np.errstate(all="ignore"):
        y = one(carried(np.array([2.0, 3.0]), Pass(order=2)))
    np.testing.assert_array_equal(y.first, [[7.0, 2.0], [0.0, 6.0], [0.0, 0.0]])
    np.testing.assert_array_equal(y.second[0], [[2.0, 1.0], [1.0, 0.0]])
    np.testing.assert_array_equal(y.second[1], [[0.0, 0.0], [0.0, 2.0]])
    np.testing.assert_array_equal(y.second[2], 2 * np.diag([1.0, 36.0]))


def test_points_cannot_be_written_to():
    z = carried(np.array([0.5, 0.7]), Pass(order=2))
    for write in (lambda: z.__setitem__(0, 1.0), lambda: z.__isub__(1.0)):
        with pytest.raises(ValueError, match="read-only"):
            write()
    row = np.reshape(np.zeros_like(z), (2, 1))  # which NumPy makes a view
    with pytest.raises(ValueError, match="read-only"):
        row[0] = z[:1]


# Kinks

PIECES = {
    # name: (in NumPy, by hand at a number s: slopes and curvatures, each from the least to the most)
    "abs": (np.abs, lambda s: (span(s, -1, 1), (0, 0))),
    "abs squared": (lambda s: np.abs(s) ** 2, lambda s: ((2 * s, 2 * s), (2, 2))),
    "a drag": (lambda s: s * np.abs(s), lambda s: ((2 * abs(s),) * 2, span(s, -2, 2))),
    "a ramp": (lambda s: np.maximum(s, 0), lambda s: (span(s, 0, 1), (0, 0))),
    "a wall": (
        lambda s: np.maximum(np.abs(s) - 1, 0) ** 2,
        lambda s: (
            (2 * math.copysign(max(abs(s) - 1, 0), s),) * 2,
            span(abs(s) - 1, 0, 2),
        ),
    ),
    "a limit": (
        lambda s: np.clip(s, -1, 1),
        lambda s: (span(1 - abs(s), 0, 1), (0, 0)),
    ),
    "a saw": (lambda s: np.mod(s, 1.0), lambda s: ((1, 1), (0, 0))),
    "an angle": (
        lambda s: (np.mod(s + 1.0, 2.0) - 1.0) ** 2,
        lambda s: (
            (-2, 2) if (s + 1) % 2 == 0 else (2 * ((s + 1) % 2 - 1),) * 2,
            (2, 2),
        ),
    ),
    "a norm": (
        lambda s: np.linalg.norm(np.stack([3 * s, 4 * s], axis=-1), axis=-1),
        lambda s: (span(s, -5, 5), (0, 0)),
    ),
    "a norm squared": (
        lambda s: np.linalg.norm(np.stack([3 * s, 4 * s], axis=-1), axis=-1) ** 2,
        lambda s: ((50 * s,) * 2, (50, 50)),
    ),
    "a root": (lambda s: np.sqrt(s * s), lambda s: (span(s, -1, 1), (0, 0))),
    "a branch": (
        lambda s: np.where(s > 0, s * s, -s),
        lambda s: (span(s, -1, 2 * s), span(s, 0, 2)),
    ),
    "a dead zone": (
        lambda s: np.sign(s) * np.maximum(np.abs(s) - 1, 0),
        lambda s: (span(abs(s) - 1, 0, 1), (0, 0)),
    ),
    "two kinks": (
        lambda s: np.abs(np.abs(s) - 1),
        lambda s: (
            (-1, 1) if s in (0, 1, -1) else (math.copysign(1, (abs(s) - 1) * s),) * 2,
            (0, 0),
        ),
    ),
    "a tent": (
        lambda s: np.exp(-np.abs(s)),
        lambda s: (
            (-1, 1) if s == 0 else (-math.copysign(math.exp(-abs(s)), s),) * 2,
            (math.exp(-abs(s)),) * 2,
        ),
    ),
    "Huber's": (
        lambda s: np.where(np.abs(s) <= 1, s * s / 2, np.abs(s) - 0.5),
        lambda s: ((min(max(s, -1), 1),) * 2, span(1 - abs(s), 0, 1)),
    ),
    "the larger": (
        lambda s: np.maximum(s, s * s),
        lambda s: (
            {0: (0, 1), 1: (1, 2)}.get(s, ((1,) * 2 if 0 < s < 1 else (2 * s,) * 2)),
            (0, 2) if s in (0, 1) else ((0, 0) if 0 < s < 1 else (2, 2)),
        ),
    ),
}
KINKS = (-3.0, -1.0, 0.0, 1.0, 2.0)


def span(s, below, above):
    """A value on either side of zero, and all between at zero."""
    if s == 0:
        return (min(below, above), max(below, above))
    return (above, above) if s > 0 else (below, below)


class Kinked:
    """sum_k c[k] phi_k(a[k]'z + b[k]) at points of which many lie on a kink, or 2^-30 beside it.

    Everything is a small dyadic number, so that a'z + b is a kink to the last digit.
    """

    def __init__(self, seed, points=4):
        rng = np.random.default_rng(seed)
        self.d, k = int(rng.integers(1, 5)), int(rng.integers(1, 5))
        self.names = rng.choice(list(PIECES), size=k)
        self.a = rng.integers(-3, 4, size=(k, self.d)) * 2.0 ** rng.integers(-2, 3, size=self.d)
        self.c = rng.choice([-1.5, -0.5, 0.25, 1.0, 2.0], size=k)
        self.z = rng.integers(-64, 65, size=(points, self.d)) / 16.0
        where = rng.integers(3, size=k)
        aside = np.where(where == 0, 0.0, np.where(where == 1, 2.0**-30, rng.integers(1, 99) / 128))
        aside *= rng.choice([-1.0, 1.0], size=k)
        self.b = rng.choice(KINKS, size=k) + aside - self.a @ self.z[rng.integers(points)]

    def __call__(self, z):
        s = [
            sum(a[j] * z[..., j] for j in range(self.d)) + b
            for a, b in zip(self.a, self.b, strict=True)
        ]
        return sum(c * PIECES[name][0](y) for c, name, y in zip(self.c, self.names, s, strict=True))

    def by_hand(self, z):
        """At a point: the least and the most of each entry of the gradient and of the Hessian."""
        first, second = np.zeros((2, self.d)), np.zeros((2, self.d, self.d))
        for a, b, c, name in zip(self.a, self.b, self.c, self.names, strict=True):
            slopes, bends = PIECES[name][1](float(a @ z + b))
            ends = np.array([c * slope * a for slope in slopes])
            first += [ends.min(axis=0), ends.max(axis=0)]
            ends = np.array([c * bend * np.outer(a, a) for bend in bends])
            second += [ends.min(axis=0), ends.max(axis=0)]
        return first, second


def outcomes(problem, function, slack):
    """Whether each order is right, refused, or wrong."""
    found = []
    for order in (1, 2):
        try:
            value, _ = derivatives(function, problem.z, order=order)
        except LqradError:
            found.append("refused")
            continue
        hand = np.array([problem.by_hand(z)[order - 1] for z in problem.z])
        room = slack * (1 + np.abs(hand).max())
        inside = (hand[:, 0] - room <= value) & (value <= hand[:, 1] + room)
        found.append("right" if inside.all() else "wrong")
    return found


COUNT = 100  # 5,000 take a minute


def test_derivatives_at_near_and_away_from_kinks_are_those_worked_out_by_hand():
    for seed in range(COUNT):
        problem = Kinked(seed)
        assert outcomes(problem, problem, 1e-12) == ["right", "right"], (seed, problem.names)


def test_away_from_numpy_they_are_right_or_refused():
    found = []
    for seed in range(COUNT // 5):
        problem = Kinked(seed)
        black = np.vectorize(lambda z, f=problem: float(f(z)), signature="(d)->()")
        found += outcomes(problem, black, 1e-4)
        assert "wrong" not in found, seed
    assert found.count("right") > len(found) / 4


@pytest.mark.parametrize("size", [2.0**-60, 1.0, 2.0**60])
@pytest.mark.parametrize("seed", range(3))
def test_at_a_kink_the_derivative_has_a_norm_of_at_most_one_in_any_units(seed, size):
    rng = np.random.default_rng(seed)
    z = np.zeros((3, 4))
    z[0] = rng.normal(size=4)
    for norm in (
        lambda y: np.linalg.norm(y, axis=-1),
        lambda y: np.sqrt((y**2).sum(axis=-1)),
        lambda y: np.hypot(np.hypot(y[..., 0], y[..., 1]), np.hypot(y[..., 2], y[..., 3])),
    ):
        g = jacobian(norm, size * z)
        np.testing.assert_allclose(g[0], z[0] / np.linalg.norm(z[0]), rtol=1e-14)
        np.testing.assert_array_equal(g[1:], 0.0)
        smooth = hessian(
            lambda y, norm=norm: norm(y) ** 2 + np.cos(norm(y) / size) * size**2, size * z
        )
        np.testing.assert_allclose(smooth[1:], np.broadcast_to(np.eye(4), (2, 4, 4)), atol=1e-4)
    tie = np.repeat(rng.normal(size=(5, 1)), 4, axis=-1) * size
    for largest in (lambda y: y.max(axis=-1), lambda y: np.linalg.norm(y, np.inf, axis=-1)):
        g = jacobian(largest, tie)
        assert (np.abs(g).sum(axis=-1) <= 1 + 1e-15).all()
    weights = jacobian(lambda y: y.max(axis=-1), tie)
    assert (weights >= 0).all()
    np.testing.assert_array_equal(weights.sum(axis=-1), 1.0)


@pytest.mark.parametrize(
    ("function", "at", "mean"),
    [
        (np.abs, 0.0, 0.0),
        (lambda z: np.maximum(z, 0.0), 0.0, 0.5),
        (lambda z: np.maximum(0.0, z), 0.0, 0.5),
        (lambda z: np.minimum(z, 2.0), 2.0, 0.5),
        (lambda z: np.abs(np.minimum(z, 0.0)), 0.0, -0.5),  # not a half: no side has both slopes
        (lambda z: np.maximum(np.abs(z), z), 0.0, 0.0),
        (lambda z: np.clip(z, -1.0, 1.0), -1.0, 0.5),
        (lambda z: z % 1.0, 3.0, 1.0),
        (lambda z: ((z + 1.0) % 2.0 - 1.0) ** 2, 1.0, 0.0),  # -2 on the one side, 2 on the other
        (lambda z: np.fmod(z, 2.0) ** 2, 2.0, 2.0),
        (lambda z: np.floor(z) * z, 2.0, 1.5),
        (lambda z: np.ceil(z) * z, 2.0, 2.5),
        (lambda z: np.sign(z) * (z + 1), 0.0, 0.0),
        (lambda z: np.heaviside(z, 0.5) * z, 0.0, 0.5),
        (lambda z: np.interp(z, [0.0, 1.0, 2.0], [0.0, 1.0, 5.0]), 1.0, 2.5),
        (lambda z: np.linalg.norm(z, 1), 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("unit", [2.0**-50, 1.0, 2.0**50])
def test_at_a_kink_the_derivative_is_the_mean_of_its_sides(function, at, mean, unit):
    """Also where one kink is inside of another, and where the values jump."""
    z = np.array([at]) * unit
    found, way = derivatives(lambda z: np.reshape(function(z / unit), (1,)), z)
    assert way == "exact"
    assert found[0, 0] * unit == mean


def test_a_constant_carries_nothing():
    found, way = derivatives(lambda z: np.ones(3), np.zeros((3, 2)))
    assert way == "exact"
    np.testing.assert_array_equal(found, np.zeros((3, 2)))
    assert isinstance(np.zeros_like(carried(np.ones(2), Pass(order=1))), Carried)
