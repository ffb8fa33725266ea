"""Every primitive's products are those of its transposed Jacobian, and its values are stable."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import lqrad
from lqrad.errors import ArgumentError, DtypeError, ShapeError
from lqrad.nets import primitives
from lqrad.nets.primitives import Primitive, take

DRAWN = np.random.default_rng(11)  # what the cases are made of, when they are collected


def normal(*shape):
    return DRAWN.normal(size=shape)


def away_from_zero(*shape):
    return np.sign(normal(*shape)) * DRAWN.uniform(0.1, 2.0, shape)


LABELS = np.array([0, 2, 1, 1, 2])
# Each primitive at arguments of every kind that it takes: one sample, more axes, repeated ones.
CASES = {
    "matmul": (primitives.matmul, [normal(5, 3), normal(3, 4)]),
    "matmul, one sample of one number": (primitives.matmul, [normal(1, 1), normal(1, 1)]),
    "matmul, rows": (primitives.matmul, [normal(5, 6, 3), normal(3, 4)]),
    "matmul, matrices": (primitives.matmul, [normal(5, 2, 3), normal(5, 3, 4)]),
    "matmul, one row of each": (primitives.matmul, [normal(5, 1, 3), normal(1, 3, 4)]),
    "add, over two axes": (primitives.add, [normal(5, 3), normal(1, 1)]),
    "multiply, over two axes": (primitives.multiply, [normal(5, 3, 2), normal(1, 1, 2)]),
    "penalty": (primitives.penalty, [normal(3, 2)]),
    "affine": (primitives.affine, [normal(5, 3), normal(3, 4), normal(4)]),
    "affine, rows": (primitives.affine, [normal(5, 6, 3), normal(3, 4), normal(4)]),
    "affine, one number added": (primitives.affine, [normal(5, 3), normal(3, 4), normal()]),
    "tanh": (primitives.tanh, [normal(5, 3)]),
    "tanh of a number": (primitives.tanh, [np.array(0.3)]),
    "relu": (primitives.relu, [away_from_zero(5, 3)]),
    "sigmoid": (primitives.sigmoid, [normal(5, 3)]),
    "softplus": (primitives.softplus, [normal(5, 3, 2)]),
    "softplus of a number": (primitives.softplus, [np.array(-0.3)]),
    "add": (primitives.add, [normal(5, 3), normal(5, 3)]),
    "add a vector": (primitives.add, [normal(5, 3), normal(3)]),
    "add to a number": (primitives.add, [normal(), normal(5, 3)]),
    "add columns": (primitives.add, [normal(5, 1), normal(5, 3)]),
    "multiply": (primitives.multiply, [normal(5, 3), normal(5, 3)]),
    "multiply by a vector": (primitives.multiply, [normal(5, 3), normal(3)]),
    "multiply by columns": (primitives.multiply, [normal(5, 1, 4), normal(5, 3, 4)]),
    "concatenate": (primitives.concatenate, [normal(5, 2), normal(5, 1), normal(5, 3)]),
    "concatenate one": (primitives.concatenate, [normal(5, 2)]),
    "take": (take(2), [normal(5, 4, 3)]),
    "squared": (primitives.squared, [normal(5, 3), normal(5, 3)]),
    "squared, one number each": (primitives.squared, [normal(5), normal(5)]),
    "squared norm": (primitives.squared_norm, [normal(5, 3, 2)]),
    "logistic": (primitives.logistic, [normal(5, 3), DRAWN.integers(0, 2, (5, 3))]),
    "logistic of chances": (primitives.logistic, [normal(5), DRAWN.uniform(size=5)]),
    "logistic of booleans": (primitives.logistic, [normal(5), normal(5) > 0]),
    "softmax": (primitives.softmax_cross_entropy, [normal(5, 3), LABELS]),
    "softmax of one class": (primitives.softmax_cross_entropy, [normal(2, 1), np.zeros(2, int)]),
    "softmax, bytes": (primitives.softmax_cross_entropy, [normal(5, 3), LABELS.astype(np.uint8)]),
}
EVERY_ARGUMENT = pytest.mark.parametrize(
    ("primitive", "arguments", "k"),
    [
        pytest.param(primitive, arguments, k, id=f"{name}, argument {k}")
        for name, (primitive, arguments) in CASES.items()
        for k in range(len(arguments))
        if primitive.has_vjp(k)
    ],
)
# Where the function is analytic and made of operations that NumPy has for complex numbers too.
ANALYTIC = ("matmul", "affine", "tanh", "add", "multiply", "concatenate", "take", "squared")


def with_argument(arguments, k, value):
    return [*arguments[:k], value, *arguments[k + 1 :]]


def derivative(primitive, arguments, k, u):
    """The derivative along u: exact by a complex step, or to 1e-9 by a central difference."""

    def at(step):
        return primitive.function(*with_argument(arguments, k, arguments[k] + step * u))

    if primitive.name.startswith(ANALYTIC):
        return at(1e-30j).imag / 1e-30
    h = 1e-5
    return (at(h) - at(-h)) / (2 * h)


@EVERY_ARGUMENT
def test_the_products_are_with_the_transpose_of_the_derivative(primitive, arguments, k):
    z = primitive.function(*arguments)
    error = lqrad.dot_test(
        lambda u: derivative(primitive, arguments, k, u),
        lambda p: primitive.vjp(k, p, z, *arguments),
        arguments[k].shape,
    )
    assert error < (1e-15 if primitive.name.startswith(ANALYTIC) else 1e-9)


@EVERY_ARGUMENT
def test_the_products_are_the_columns_of_the_jacobian(primitive, arguments, k, rng):
    """One random pair of vectors may miss a fault that the entries, one by one, do not."""
    z = np.asarray(primitive.function(*arguments))
    p = rng.normal(size=z.shape)
    product = primitive.vjp(k, p, z, *arguments)
    expected = np.empty(arguments[k].shape)
    for index in np.ndindex(expected.shape):
        u = np.zeros(expected.shape)
        u[index] = 1.0
        expected[index] = np.sum(p * derivative(primitive, arguments, k, u))
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@EVERY_ARGUMENT
def test_the_taylor_remainder_has_order_two(primitive, arguments, k, rng):
    weight = rng.normal(size=np.shape(primitive.function(*arguments)))

    def value_and_gradient(a):
        given = with_argument(arguments, k, a)
        z = np.asarray(primitive.function(*given))
        return float(np.vdot(weight, z)), primitive.vjp(k, weight, z, *given)

    direction = 0.1 * rng.normal(size=arguments[k].shape)  # relu: on one side of its kink
    order = lqrad.taylor_test(value_and_gradient, arguments[k], direction=direction).order
    assert order > 1.9


@EVERY_ARGUMENT
def test_nothing_that_is_given_is_written_to(primitive, arguments, k, rng):
    given = [np.array(argument) for argument in arguments]
    z = np.array(primitive.function(*given))
    p = rng.normal(size=z.shape)
    for array in (*given, z, p):
        array.setflags(write=False)
    primitive.vjp(k, p, np.asarray(primitive.function(*given)), *given)
    primitive.vjp(k, p, z, *given)


@pytest.mark.parametrize("primitive", [case[0] for case in CASES.values()])
def test_primitives_can_be_sent_to_other_processes(primitive):
    assert pickle.loads(pickle.dumps(primitive)).name == primitive.name


# --- values -----------------------------------------------------------------------------------


x, W, b, a = normal(5, 3), normal(3, 4), normal(4), normal(5, 3)
yes = DRAWN.integers(0, 2, (5, 3))
chance = 1 / (1 + np.exp(-a))


@pytest.mark.parametrize(
    ("primitive", "arguments", "value"),
    [
        (
            primitives.affine,
            (x, W, b),
            [[x[i] @ W[:, j] + b[j] for j in range(4)] for i in range(5)],
        ),
        (primitives.matmul, (x, W), [[x[i] @ W[:, j] for j in range(4)] for i in range(5)]),
        (primitives.tanh, (a,), 2 / (1 + np.exp(-2 * a)) - 1),
        (primitives.relu, (a,), [[max(value, 0) for value in row] for row in a]),
        (primitives.sigmoid, (a,), chance),
        (primitives.softplus, (a,), np.log(1 + np.exp(a))),
        (primitives.squared, (a, x), [sum((a[i] - x[i]) ** 2) / 2 for i in range(5)]),
        (primitives.squared_norm, (a,), [sum(row**2) / 2 for row in a]),
        (
            primitives.logistic,
            (a, yes),
            -(yes * np.log(chance) + (1 - yes) * np.log(1 - chance)).sum(axis=1),
        ),
        (
            primitives.softmax_cross_entropy,
            (a, LABELS),
            [-np.log(np.exp(a[i])[LABELS[i]] / np.exp(a[i]).sum()) for i in range(5)],
        ),
        (primitives.concatenate, (a, x), [[*a[i], *x[i]] for i in range(5)]),
        (take(1), (a[:, :, None],), a[:, 1:2]),
    ],
    ids=lambda part: part.name if isinstance(part, Primitive) else "",
)
def test_values_are_those_of_the_formulas(primitive, arguments, value):
    np.testing.assert_allclose(primitive.function(*arguments), value, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("far", [40.0, 750.0, 1e6])
def test_losses_of_large_logits_have_all_their_digits(far):
    a = np.array([[far, 0.0], [0.0, far]])
    softmax = primitives.softmax_cross_entropy
    assert softmax.function(a, np.array([1, 0])).tolist() == [far, far]
    assert softmax.function(a, np.array([0, 1])) == pytest.approx([0.0, 0.0], abs=1e-17)
    assert softmax.vjp(0, np.ones(2), None, a, np.array([1, 0])) == pytest.approx(
        np.array([[1.0, -1.0], [-1.0, 1.0]]), abs=1e-15
    )
    a = np.array([far, far, -far, -far])
    tiny = math.exp(-far)
    loss = primitives.logistic.function(a, np.array([1, 0, 0, 1]))
    assert loss == pytest.approx([tiny, far, tiny, far], rel=1e-15, abs=0)
    assert primitives.softplus.function(a) == pytest.approx([far, far, tiny, tiny], rel=1e-15)
    assert primitives.sigmoid.function(a) == pytest.approx([1, 1, tiny, tiny], rel=1e-15)


def test_the_derivative_of_relu_at_zero_is_zero_and_a_nan_passes_it():
    x = np.array([[-1.0, 0.0, 1.0]])
    z = primitives.relu.function(x)
    assert primitives.relu.vjp(0, np.ones((1, 3)), z, x).tolist() == [[0.0, 0.0, 1.0]]
    assert np.isnan(primitives.relu.function(np.array([np.nan]))).all()


# --- a primitive of one's own -----------------------------------------------------------------


def test_a_primitive_of_ones_own_takes_three_lines_and_the_same_tests():
    def value_and_gradient(primitive, x):
        z = primitive.function(x)
        return float(z.sum()), primitive.vjp(0, np.ones_like(z), z, x)

    x = np.array([[0.3, 0.8]])
    swish = Primitive(
        "x sin x", lambda x: x * np.sin(x), (lambda p, z, x: p * (np.sin(x) + x * np.cos(x)),)
    )
    wrong = Primitive("x sin x", swish.function, (lambda p, z, x: p * np.sin(x),))
    assert lqrad.taylor_test(lambda x: value_and_gradient(swish, x), x).order > 1.9
    assert lqrad.taylor_test(lambda x: value_and_gradient(wrong, x), x).order < 1.1


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("primitive", "arguments", "error", "words"),
    [
        (
            primitives.softmax_cross_entropy,
            [normal(5, 3), np.eye(3)[LABELS]],
            DtypeError,
            r"labels are float64, expected the whole numbers of the classes; try y.astype\(int\)",
        ),
        (
            primitives.softmax_cross_entropy,
            [normal(5, 3), np.eye(3, dtype=int)[LABELS]],
            ShapeError,
            r"labels \(5, 3\), expected .* labels of the one-hot kind are y.argmax\(axis=1\)",
        ),
        (
            primitives.softmax_cross_entropy,
            [normal(5, 3), LABELS + 1],
            ArgumentError,
            "labels lie between 1 and 3, expected classes from 0 to 2",
        ),
        (
            primitives.softmax_cross_entropy,
            [normal(5, 3), LABELS - 1],
            ArgumentError,
            "labels lie between -1 and 1, expected classes from 0 to 2",
        ),
        (
            primitives.logistic,
            [normal(5), 2 * (LABELS > 0) - 1],
            ArgumentError,
            r"outside \[0, 1\]; write labels -1 and 1 as \(y \+ 1\) / 2",
        ),
        (
            primitives.logistic,
            [normal(5, 1), LABELS > 0],
            ShapeError,
            r"logits have the shape \(5, 1\) and its labels \(5,\), .* a vector of labels is y\[:, N",
        ),
        (
            primitives.squared,
            [normal(5, 1), normal(5)],
            ShapeError,
            r"shapes \(5, 1\) and \(5,\), .* target for each sample is y\[:, None\]",
        ),
        (
            primitives.add,
            [normal(5, 1), normal(5)],
            ShapeError,
            r"\(5, 1\) and \(5,\), expected one",
        ),
        (primitives.multiply, [normal(5), normal(5, 1)], ShapeError, "repeats into the other's"),
        (
            primitives.matmul,
            [normal(5), normal(5, 2)],
            ShapeError,
            r"for each sample is x\[:, None",
        ),
        (primitives.affine, [normal(5, 2), normal(2), normal(2)], ShapeError, r"\(in, out\)"),
    ],
)
def test_what_would_be_computed_into_nonsense_is_refused(primitive, arguments, error, words):
    with pytest.raises(error, match=words):
        primitive.function(*arguments)


def test_logits_of_one_sample_do_not_touch_those_of_another():
    """Shifted by the largest logit of all, the first row would be 0/0."""
    a, y = np.array([[0.0, 1.0], [1e4, 1e4 - 1]]), np.array([0, 1])
    loss = primitives.softmax_cross_entropy.function(a, y)
    np.testing.assert_allclose(loss, np.log1p(np.e), rtol=1e-12)
    slope = primitives.softmax_cross_entropy.vjp(0, np.ones(2), loss, a, y)
    np.testing.assert_allclose(
        slope, [[-0.7310585786, 0.7310585786], [0.7310585786, -0.7310585786]]
    )


def test_factors_that_would_mix_samples_are_refused():
    with pytest.raises(ShapeError, match="its factors have the shapes"):
        primitives.matmul.function(np.ones((2, 3)), np.ones((2, 3, 4)))


def test_an_offset_wider_than_the_map_is_refused():
    with pytest.raises(ShapeError, match=r"b has shape \(3,\), expected \(out,\) = \(1,\)"):
        primitives.affine.function(np.ones((5, 2)), np.ones((2, 1)), np.ones(3))
