"""One seeded source of random plants and controllers, for every test that needs them."""

from __future__ import annotations

import numpy as np
from random_problems import psd, with_spectral_radius

import lqrad
from lqrad import StateSpace


def random_plant(seed, *, n=None, m=None, ny=None, radius=1.1):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6)) if n is None else n
    m = int(rng.integers(1, 4)) if m is None else m
    ny = int(rng.integers(1, 4)) if ny is None else ny
    A = with_spectral_radius(rng.normal(size=(n, n)), radius)
    return StateSpace(A, rng.normal(size=(n, m)), rng.normal(size=(ny, n)), dt=0.1), rng


def random_controller(seed, *, kind=None, bounds=None):
    """A controller of each kind in turn, and its plant."""
    kind = ("lqr", "lqi", "lqg", "lqg with integrators")[seed % 4] if kind is None else kind
    plant, rng = random_plant(seed)
    n, m = plant.n, plant.m
    nr = min(m, n, plant.ny, 2)
    H = rng.normal(size=(nr, plant.ny)) @ plant.C
    Q, R = psd(rng, n) + 0.1 * np.eye(n), psd(rng, m) + 0.1 * np.eye(m)
    noise = {"W": psd(rng, n) + 0.01 * np.eye(n), "V": psd(rng, plant.ny) + 0.1 * np.eye(plant.ny)}
    options = {"H": H, "input_bounds": bounds}
    Q_i = 0.1 * np.eye(nr)
    if kind == "lqr":
        return lqrad.lqr(plant, Q, R, **options), plant
    if kind == "lqi":
        return lqrad.lqi(plant, Q, R, Q_i, **options), plant
    if kind == "lqg":
        return lqrad.lqg(plant, Q, R, **noise, **options), plant
    return lqrad.lqg(plant, Q, R, **noise, Q_i=Q_i, **options), plant
