"""One seeded source of random linear-quadratic problems, for every test that needs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import lqrad


def psd(rng: np.random.Generator, size: int, rank: int | None = None) -> np.ndarray:
    """A random symmetric positive semidefinite matrix of the given rank (full by default)."""
    factor = rng.normal(size=(size, size if rank is None else rank)) / np.sqrt(size)
    return factor @ factor.T


def with_spectral_radius(A: np.ndarray, radius: float) -> np.ndarray:
    """A scaled to the given spectral radius."""
    return A * (radius / np.abs(np.linalg.eigvals(A)).max())


@dataclass(frozen=True)
class Case:
    """A problem, its data as keyword arguments, and points at which to evaluate it."""

    name: str
    problem: lqrad.LQProblem
    data: dict[str, np.ndarray]
    T: int
    x0: np.ndarray
    u: np.ndarray


def random_case(
    seed: int,
    *,
    n: int | None = None,
    m: int | None = None,
    T: int | None = None,
    radius: float | None = None,
    all_terms: bool | None = None,
    time_varying: bool | None = None,
    singular_Q: bool | None = None,
    zero_S: bool | None = None,
) -> Case:
    """The problem of this seed; what is not asked for is drawn, n = 1, T = 1 and m > n included."""
    rng = np.random.default_rng(seed)

    def draw(value, choices):
        picked = choices[rng.integers(len(choices))]
        return picked if value is None else value

    n = draw(n, [1, 2, 3, 5])
    m = draw(m, [1, 2, 3, 6])
    T = draw(T, [1, 2, 7, 20])
    radius = draw(radius, [0.5, 0.95, 1.0, 1.3])
    all_terms = draw(all_terms, [False, True])
    time_varying = draw(time_varying, [False, True])
    singular_Q = draw(singular_Q, [False, True])
    zero_S = draw(zero_S, [False, True])

    def stages(make):
        return np.array([make() for _ in range(T)]) if time_varying else make()

    def stage_weights():
        """[Q M; M' R], positive semidefinite, with R - M'Q^+M positive definite."""
        Q = psd(rng, n, max(n - 1, 0) if singular_Q else n)
        M = Q @ rng.normal(size=(n, m)) / n if all_terms else np.zeros((n, m))
        R = M.T @ np.linalg.pinv(Q, rcond=1e-12, hermitian=True) @ M + psd(rng, m) + 0.5 * np.eye(m)
        return Q, (R + R.T) / 2, M

    weights = [stage_weights() for _ in range(T if time_varying else 1)]
    Q, R, M = (np.array(w) if time_varying else w[0] for w in zip(*weights, strict=True))
    data = {
        "A": stages(lambda: with_spectral_radius(rng.normal(size=(n, n)), radius)),
        "B": stages(lambda: rng.normal(size=(n, m))),
        "Q": Q,
        "R": R,
        "S": np.zeros((n, n)) if zero_S else psd(rng, n),
    }
    if all_terms:
        data |= {
            "M": M,
            "c": stages(lambda: rng.normal(size=n)),
            "q": stages(lambda: rng.normal(size=n)),
            "r": stages(lambda: rng.normal(size=m)),
            "s": rng.normal(size=n),
        }
    words = [f"seed={seed}", f"n={n}", f"m={m}", f"T={T}", f"radius={radius}"]
    words += [word for word, given in [("terms", all_terms), ("varying", time_varying)] if given]
    words += [word for word, given in [("singularQ", singular_Q), ("S=0", zero_S)] if given]
    return Case(
        name=" ".join(words),
        problem=lqrad.LQProblem(**data),
        data=data,
        T=T,
        x0=rng.normal(size=n),
        u=rng.normal(size=(T, m)),
    )
