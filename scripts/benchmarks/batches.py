"""A thousand linear-quadratic problems, each with matrices of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from engine import Row, Way, has
from linear import arrays, jax_ways, pair

import lqrad


def random_batch(b: int, n: int, m: int) -> lqrad.lq.LQBatch:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(b, n, n))
    A *= (0.95 / np.abs(np.linalg.eigvals(A)).max(axis=1))[:, None, None]
    weights = (1 + rng.random((b, 1, 1))) * np.eye(n)
    return lqrad.lq.LQBatch(A, rng.normal(size=(b, n, m)), weights, np.eye(m))


def jax_riccati(T: int) -> Callable[..., Any]:
    """Gains of (A, B, Q, R, S) by a scan."""
    import jax
    import jax.numpy as jnp

    def gains(A: Any, B: Any, Q: Any, R: Any, S: Any) -> Any:
        def stage(P: Any, _: Any) -> Any:
            PB = P @ B
            K = jax.scipy.linalg.solve(R + B.T @ PB, PB.T @ A, assume_a="pos")
            P = Q + A.T @ P @ A - (A.T @ PB) @ K
            return 0.5 * (P + P.T), K

        _, K = jax.lax.scan(stage, S, None, length=T)
        return jnp.flip(K, axis=0)

    return gains


def batches(quick: bool) -> Iterator[Row]:
    b, T = (100, 20) if quick else (1000, 100)
    for n, m in ((4, 2),) if quick else ((4, 2), (12, 4)):
        batch, rng = random_batch(b, n, m), np.random.default_rng(1)
        x0, u = rng.normal(size=(b, n)), rng.normal(size=(b, T, m))
        gradients, riccatis = [], []
        if has("jax"):
            import jax
            import jax.numpy as jnp

            ways = jax_ways()  # in double precision from here on
            A, B, Q, R, S = (jnp.asarray(getattr(batch, name)) for name in "ABQRS")
            axes = (0, 0, *(0 if z.ndim == 3 else None for z in (A, B, Q, R, S)))
            v, start = jnp.asarray(u), jnp.asarray(x0)
            for name, way in ways.items():
                f = jax.jit(jax.vmap(way, in_axes=axes))

                def call(f: Any = f, given: Any = (v, start, A, B, Q, R, S)) -> Any:
                    return jax.block_until_ready(f(*given))

                gradients.append(Way("JAX vmap", name, call, pair))
            g = jax.jit(jax.vmap(jax_riccati(T), in_axes=axes[2:]))

            def sweep(g: Any = g, given: Any = (A, B, Q, R, S)) -> Any:
                return jax.block_until_ready(g(*given))

            riccatis.append(Way("JAX vmap", "a scan with solves", sweep, lambda K: [K]))
        if has("numba"):
            import compiled

            given = arrays(batch)
            for name, loops in compiled.ways(n, m).items():
                call = partial(compiled.gradients(loops), *given, x0, u)
                gradients.append(Way("compiled loop, numba", name, call, pair))
                call = partial(compiled.riccatis(loops), *given, T)
                riccatis.append(Way("compiled loop, numba", name, call, lambda K: [K]))
        sizes = f"{b:,} problems, n={n}, m={m}, T={T}"
        yield Row(
            f"gradients of {sizes}",
            lambda batch=batch, x0=x0, u=u: batch.value_and_gradient(x0, u),
            pair,
            gradients,
            1e-8,
            5,
        )
        yield Row(
            f"Riccati of {sizes}",
            lambda batch=batch: lqrad.riccati(batch, T),
            lambda found: [found.K],
            riccatis,
            1e-8,
            5,
        )
