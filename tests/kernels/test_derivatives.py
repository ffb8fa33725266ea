"""Complex steps against derivatives worked out by hand, and where they may not be taken."""

from __future__ import annotations

import numpy as np
import pytest

from lqrad.kernels.derivatives import hessian, jacobian, takes_complex


def field(z):
    x, y = z[..., 0], z[..., 1]
    return np.stack([np.sin(x) * y, x**3, np.exp(x * y)], axis=-1)


def field_jacobian(z):
    x, y = z[..., 0], z[..., 1]
    e = np.exp(x * y)
    rows = [[np.cos(x) * y, np.sin(x)], [3 * x**2, 0 * x], [y * e, x * e]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


@pytest.mark.parametrize("shape", [(2,), (7, 2), (3, 4, 2)])
def test_jacobians_are_those_worked_out(shape):
    z = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose(jacobian(field, z), field_jacobian(z), rtol=1e-14, atol=1e-15)
    rough = jacobian(field, z, exact=False)
    np.testing.assert_allclose(rough, field_jacobian(z), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("exact", [True, False])
def test_gradients_of_scalars_have_no_axis_of_outputs(exact):
    z = np.random.default_rng(0).normal(size=(5, 3))
    found = jacobian(lambda y: (y**2).sum(axis=-1), z, exact=exact)
    np.testing.assert_allclose(found, 2 * z, atol=1e-8)


@pytest.mark.parametrize(("exact", "tolerance"), [(True, 1e-8), (False, 1e-5)])
def test_hessians_are_those_worked_out_and_symmetric(exact, tolerance):
    z = np.random.default_rng(0).normal(size=(6, 2))
    x, y = z.T
    s, c = np.sin(x * y), np.cos(x * y)
    expected = np.array([[-(y**2) * s, c - x * y * s], [c - x * y * s, -(x**2) * s]])
    found = hessian(lambda p: np.sin(p[..., 0] * p[..., 1]), z, exact=exact)
    np.testing.assert_allclose(found, np.moveaxis(expected, -1, 0), atol=tolerance)
    np.testing.assert_allclose(found, found.swapaxes(-1, -2), atol=tolerance)


def test_hessians_of_quadratics_are_right_to_rounding_at_any_scale():
    Q = np.array([[2.0, -1.0], [-1.0, 5.0]])
    for size in (1e-6, 1.0, 1e6):
        z = size * np.array([[1.0, -2.0]])
        found = hessian(lambda p: 0.5 * np.einsum("...i,ij,...j->...", p, Q, p), z)[0]
        np.testing.assert_allclose(found, Q, rtol=1e-9)


@pytest.mark.parametrize(
    "function",
    [np.abs, lambda z: np.asarray(z, dtype=float), lambda z: z.real * z, np.conj, np.floor],
    ids=["abs", "a conversion to float", "the real part", "conjugate", "floor"],
)
def test_what_is_not_analytic_is_found_out(function):
    assert not takes_complex(function, np.array([[1.3, -2.4]]))


@pytest.mark.parametrize(
    "function", [np.sin, np.exp, lambda z: np.maximum(z, 0.0), lambda z: 0 * z, lambda z: 1e9 * z]
)
def test_what_is_analytic_is_not_suspected(function):
    assert takes_complex(function, np.array([[1.3, -2.4], [0.0, 0.0], [1e-8, 1e3 / 7]]))
