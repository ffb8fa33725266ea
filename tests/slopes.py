"""Derivatives of a function at points, without the way in which they were found."""

from lqrad.functions.derivatives import derivatives


def jacobian(function, z):
    return derivatives(function, z)[0]


def hessian(function, z):
    return derivatives(function, z, order=2)[0]
