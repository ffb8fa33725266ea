"""Derivatives through the Riccati solution, against differences of solutions."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from random_problems import random_case

import lqrad
from lqrad import ArgumentError, LQProblem, NonFiniteError, ShapeError
from lqrad.lq.problem import changed

ARRAYS = "ABQRSMcqrs"
SEEDS = range(24)


def moved(problem, direction, step):
    """The problem with every array a step further along a direction."""
    return changed(
        problem, **{name: getattr(problem, name) + step * direction[name] for name in ARRAYS}
    )


def random_direction(problem, rng):
    direction = {}
    for name in ARRAYS:
        array = getattr(problem, name)
        d = rng.normal(size=array.shape) * (np.abs(array).max(initial=0.0) or 1.0)
        direction[name] = d + d.swapaxes(-1, -2) if name in "QRS" else d
    return direction


def against(gradient, direction):
    return sum(float(np.vdot(getattr(gradient, name), direction[name])) for name in ARRAYS)


def function_of_solution(problem, T, x0, weights):
    solution = lqrad.riccati(problem, T)
    path = solution.rollout(x0)
    parts = {name: getattr(solution, name) for name in "KkPv"} | {"x": path.x, "u": path.u}
    return sum(float(np.vdot(weights[f"d{name}"], parts[name])) for name in parts)


def convex(problem):
    """The same problem with weights so far inside the convex ones that a step stays there."""
    eye = np.eye
    return problem.replace(
        Q=problem.Q + 0.5 * eye(problem.n),
        R=problem.R + eye(problem.m),
        S=problem.S + eye(problem.n),
    )


def fourth_order(function, h):
    """A difference whose error is of the order h^4."""
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


def derivatives(case, rng):
    """A problem with room around it, its solution, and random derivatives in the latter."""
    problem = convex(case.problem)
    solution = lqrad.riccati(problem, case.T)
    shapes = {
        **{f"d{name}": getattr(solution, name).shape for name in "KkPv"},
        "dx": (case.T + 1, problem.n),
        "du": case.u.shape,
    }
    return problem, solution, {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("of", ["dK", "dk", "dP", "dv", "dx", "du"])
@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_the_derivative_along_a_random_direction(seed, of):
    case, rng = random_case(seed), np.random.default_rng(seed)
    problem, solution, weights = derivatives(case, rng)
    weights = {name: z * (name == of) for name, z in weights.items()}
    found = lqrad.lq.riccati_vjp(solution, **{of: weights[of]}, x0=case.x0)
    direction = random_direction(problem, rng)
    scale = sum(
        np.linalg.norm(getattr(found, name)) * np.linalg.norm(direction[name]) for name in ARRAYS
    )

    def along(step):
        return function_of_solution(moved(problem, direction, step), case.T, case.x0, weights)

    assert abs(against(found, direction) - fourth_order(along, 3e-4)) <= 1e-7 * scale


@pytest.mark.parametrize("seed", SEEDS)
def test_the_taylor_remainder_is_of_second_order(seed):
    case, rng = random_case(seed), np.random.default_rng(seed)
    problem, solution, weights = derivatives(case, rng)
    direction = random_direction(problem, rng)
    slope = against(lqrad.lq.riccati_vjp(solution, **weights, x0=case.x0), direction)

    def along(step):
        there = moved(problem, direction, 0.01 * step.item())
        return function_of_solution(there, case.T, case.x0, weights), np.array([0.01 * slope])

    assert lqrad.taylor_test(along, [0.0], direction=[1.0]).order > 1.9


def in_50_digits(arrays, varying, T, x0, weights):
    """The sum over the solution and its rollout, as the recursion says, in numbers of mpmath."""

    def at(name, t):
        return arrays[name][t] if varying and name not in "Ss" else arrays[name]

    P, v, total = arrays["S"], arrays["s"], mpmath.mpf(0)
    gains = []
    for t in reversed(range(T)):
        total += (weights["dP"][t + 1] * P).sum() + weights["dv"][t + 1] @ v
        A, B, Q, R, M, c, q, r = (at(name, t) for name in "ABQRMcqr")
        G, e = R + B.T @ P @ B, v + P @ c
        inverse = np.array(mpmath.inverse(mpmath.matrix(G.tolist())).tolist())
        K, k = inverse @ (B.T @ P @ A + M.T), inverse @ (B.T @ e + r)
        total += (weights["dK"][t] * K).sum() + weights["dk"][t] @ k
        P, v = Q + A.T @ P @ A - (A.T @ P @ B + M) @ K, q - K.T @ r + (A - B @ K).T @ e
        gains.append((K, k))
    total += (weights["dP"][0] * P).sum() + weights["dv"][0] @ v
    x = x0
    for t, (K, k) in enumerate(reversed(gains)):
        u = -K @ x - k
        total += weights["dx"][t] @ x + weights["du"][t] @ u
        x = at("A", t) @ x + at("B", t) @ u + at("c", t)
    return total + weights["dx"][T] @ x


@pytest.mark.parametrize(
    "shape",
    [
        {"n": 2, "m": 1, "T": 3, "time_varying": True, "radius": 1.3},
        {"n": 2, "m": 3, "T": 2, "time_varying": False, "radius": 1.3},
        {"n": 1, "m": 1, "T": 1, "time_varying": False},
        {"n": 3, "m": 2, "T": 4, "time_varying": False, "zero_S": True},
    ],
    ids=["varying", "m > n", "one", "no S"],
)
def test_every_entry_in_50_digits(shape):
    """A singular Q, unstable A and all terms; a central difference of h = 1e-20 is exact."""
    case, rng = random_case(5, singular_Q=True, all_terms=True, **shape), np.random.default_rng(5)
    solution, varying = lqrad.riccati(case.problem, case.T), shape["time_varying"]
    shapes = {f"d{name}": getattr(solution, name).shape for name in "KkPv"}
    shapes |= {"dx": (case.T + 1, case.problem.n), "du": (case.T, case.problem.m)}
    weights = {name: rng.normal(size=size) for name, size in shapes.items()}
    found = lqrad.lq.riccati_vjp(solution, **weights, x0=case.x0)
    with mpmath.workdps(60):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        arrays = {name: exact(getattr(case.problem, name)) for name in ARRAYS}
        arrays["x0"], h = exact(case.x0), mpmath.mpf(10) ** -20
        weights = {name: exact(z) for name, z in weights.items()}
        for name, array in arrays.items():
            expected = np.empty(array.shape)
            for index in np.ndindex(array.shape):
                ends = []
                for step in (h, -h):
                    there = array.copy()
                    there[index] += step / 2
                    mirror = (*index[:-2], index[-1], index[-2]) if name in "QRS" else index
                    there[mirror] += step / 2
                    trial = arrays | {name: there}
                    ends.append(in_50_digits(trial, varying, case.T, trial.pop("x0"), weights))
                expected[index] = (ends[0] - ends[1]) / (2 * h)
            error = np.abs(getattr(found, name) - expected).max()
            assert error <= 1e-12 * max(np.abs(expected).max(), 1.0), name


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_at_once_is_the_sum_of_each(seed):
    case, rng = random_case(seed), np.random.default_rng(seed)
    _, solution, weights = derivatives(case, rng)
    whole = lqrad.lq.riccati_vjp(solution, **weights, x0=case.x0)
    parts = [lqrad.lq.riccati_vjp(solution, **{name: z}, x0=case.x0) for name, z in weights.items()]
    for name in ARRAYS:
        added = sum(getattr(part, name) for part in parts)
        np.testing.assert_allclose(getattr(whole, name), added, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_shapes_are_those_of_the_arrays_and_weights_are_symmetric(seed):
    case, rng = random_case(seed), np.random.default_rng(seed)
    problem, solution, weights = derivatives(case, rng)
    found = lqrad.lq.riccati_vjp(solution, **weights, x0=case.x0)
    for name in ARRAYS:
        assert getattr(found, name).shape == getattr(problem, name).shape
    for name in "QRS":
        np.testing.assert_array_equal(getattr(found, name), getattr(found, name).swapaxes(-1, -2))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gradient_in_the_initial_state(seed):
    case, rng = random_case(seed), np.random.default_rng(seed)
    problem, solution, weights = derivatives(case, rng)
    found = lqrad.lq.riccati_vjp(solution, dx=weights["dx"], du=weights["du"], x0=case.x0).x0

    def cost(x0):
        path = solution.rollout(x0)
        return np.vdot(weights["dx"], path.x) + np.vdot(weights["du"], path.u)

    # The solution is affine in x0: differences of any size are exact.
    zero = cost(np.zeros(problem.n))
    slopes = [cost(unit) - zero for unit in np.eye(problem.n)]
    np.testing.assert_allclose(found, slopes, rtol=1e-9, atol=1e-9 * np.abs(slopes).max())


@pytest.mark.parametrize("seed", [1, 5, 8])
def test_a_batch_adds_up(seed):
    case, rng = random_case(seed), np.random.default_rng(seed)
    _, solution, weights = derivatives(case, rng)
    starts = rng.normal(size=(3, case.problem.n))
    whole = lqrad.lq.riccati_vjp(solution, dx=weights["dx"], du=weights["du"], x0=starts)
    parts = [
        lqrad.lq.riccati_vjp(solution, dx=weights["dx"], du=weights["du"], x0=x0) for x0 in starts
    ]
    for name in ARRAYS:
        added = sum(getattr(part, name) for part in parts)
        np.testing.assert_allclose(getattr(whole, name), added, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(whole.x0, [part.x0 for part in parts], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gradient_of_the_cost_is_that_of_the_value_function(seed):
    """Two ways: the envelope theorem, and differences of the optimal cost."""
    case, rng = random_case(seed), np.random.default_rng(seed)
    problem = convex(case.problem)
    found = lqrad.lq.riccati_cost_gradient(lqrad.riccati(problem, case.T), case.x0)
    direction = random_direction(problem, rng)
    scale = sum(
        np.linalg.norm(getattr(found, name)) * np.linalg.norm(direction[name]) for name in ARRAYS
    )

    def cost(step):
        return lqrad.riccati(moved(problem, direction, step), case.T).cost(case.x0)

    assert abs(against(found, direction) - fourth_order(cost, 3e-4)) <= 1e-8 * scale
    plain = random_case(seed, all_terms=False)
    solution = lqrad.riccati(plain.problem, plain.T)
    dP = np.zeros_like(solution.P)
    dP[0] = 0.5 * np.outer(plain.x0, plain.x0)  # the cost is 1/2 x0'P[0]x0 there
    by_P, by_envelope = (
        lqrad.lq.riccati_vjp(solution, dP=dP),
        lqrad.lq.riccati_cost_gradient(solution, plain.x0),
    )
    for name in "ABQRSM":
        expected = getattr(by_envelope, name)
        np.testing.assert_allclose(
            getattr(by_P, name), expected, rtol=1e-8, atol=1e-9 * max(np.abs(expected).max(), 1)
        )


def test_unstable_over_a_long_horizon():
    """An open-loop adjoint would have no digit left: the gain's derivative is the stationary one."""
    problem = LQProblem([[1.5, 0.3], [0.0, 1.2]], [[0.2], [1.0]], np.eye(2), [[1.0]])
    solution = lqrad.riccati(problem, 400)
    dK = np.zeros_like(solution.K)
    dK[0] = [[1.0, -2.0]]
    found = lqrad.lq.riccati_vjp(solution, dK=dK)
    stationary = lqrad.dlqr_vjp(problem.A, problem.B, problem.Q, problem.R, dK=dK[0])
    for name in "ABQR":
        np.testing.assert_allclose(
            getattr(found, name), getattr(stationary, name), rtol=1e-11, atol=1e-12
        )
    assert np.abs(found.S).max() < 1e-60


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("of", ["dK", "dP"])
def test_the_stationary_regulator(seed, of):
    case = random_case(seed, time_varying=False, all_terms=bool(seed % 2), radius=1.1)
    rng, problem = np.random.default_rng(seed), convex(case.problem)
    names = "ABQRM"
    data = {name: getattr(problem, name) for name in names}
    shape = (problem.m, problem.n) if of == "dK" else (problem.n, problem.n)
    weight = rng.normal(size=shape)
    found = lqrad.dlqr_vjp(**data, **{of: weight})
    direction = random_direction(problem, rng)
    scale = sum(
        np.linalg.norm(getattr(found, name)) * np.linalg.norm(direction[name]) for name in names
    )

    def along(step):
        K, P, _ = lqrad.dlqr(**{name: data[name] + step * direction[name] for name in names})
        return float(np.vdot(weight, K if of == "dK" else P))

    total = sum(np.vdot(getattr(found, name), direction[name]) for name in names)
    assert abs(total - fourth_order(along, 1e-4)) <= 1e-7 * scale


def test_jax_differentiates_to_the_same():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    case = random_case(3, n=3, m=2, T=7, all_terms=True, time_varying=False)
    rng, problem = np.random.default_rng(0), convex(case.problem)
    solution = lqrad.riccati(problem, 7)
    dK, dk, du = (rng.normal(size=shape) for shape in (solution.K.shape, (7, 2), (7, 2)))

    def function(A, B, Q, R, S, M, c, q, r, s):
        P, v, gains = S, s, []
        for _ in range(7):
            G, N, e = R + B.T @ P @ B, B.T @ P @ A + M.T, v + P @ c
            K, k = jax.numpy.linalg.solve(G, N), jax.numpy.linalg.solve(G, B.T @ e + r)
            P, v = Q + A.T @ P @ A - N.T @ K, q - K.T @ r + (A - B @ K).T @ e
            gains.append((K, k))
        x, total = jax.numpy.asarray(case.x0), 0.0
        for t, (K, k) in enumerate(reversed(gains)):
            u = -K @ x - k
            total += (dK[t] * K).sum() + dk[t] @ k + du[t] @ u
            x = A @ x + B @ u + c
        return total

    theirs = jax.grad(function, argnums=range(10))(*(getattr(problem, name) for name in ARRAYS))
    ours = lqrad.lq.riccati_vjp(solution, dK=dK, dk=dk, du=du, x0=case.x0)
    for name, other in zip(ARRAYS, theirs, strict=True):
        other = np.asarray(other)
        if name in "QRS":
            other = (other + other.T) / 2
        np.testing.assert_allclose(getattr(ours, name), other, rtol=1e-10, atol=1e-11)


def test_the_regulator_of_a_weight_that_is_indefinite():
    """With Q = -0.1 the cost has a minimum all the same, which dlqr finds."""
    data = [[2.0]], [[1.0]], [[-0.1]], [[1.0]]
    found = lqrad.dlqr_vjp(*data, dP=[[1.0]]).Q

    def along(step):
        return lqrad.dlqr(data[0], data[1], [[-0.1 + step]], data[3])[1].item()

    assert found.item() == pytest.approx(fourth_order(along, 1e-3), rel=1e-9)


def test_what_does_not_fit():
    solution = lqrad.riccati(LQProblem([[1.0]], [[1.0]], [[1.0]], [[1.0]]), T=3)
    with pytest.raises(ArgumentError, match="none of dK, dk, dP, dv, dx and du is given"):
        lqrad.lq.riccati_vjp(solution)
    with pytest.raises(ArgumentError, match="dx or du is given and x0 is not"):
        lqrad.lq.riccati_vjp(solution, dx=np.zeros((4, 1)))
    with pytest.raises(ShapeError, match=r"dK has shape \(3, 1\), expected \(3, 1, 1\)"):
        lqrad.lq.riccati_vjp(solution, dK=np.zeros((3, 1)))
    with pytest.raises(ShapeError, match=r"dk has shape \(1, 3\), expected \(3, 1\)"):
        lqrad.lq.riccati_vjp(solution, dk=np.zeros((1, 3)))
    with pytest.raises(ShapeError, match=r"dv has shape \(3, 1\), expected \(4, 1\)"):
        lqrad.lq.riccati_vjp(solution, dv=np.zeros((3, 1)))
    with pytest.raises(ShapeError, match=r"dx has shape \(3, 1\), expected \(\.\.\., 4, 1\)"):
        lqrad.lq.riccati_vjp(solution, dx=np.zeros((3, 1)), x0=[1.0])
    with pytest.raises(NonFiniteError, match=r"dP\[0, 0, 0\] is nan"):
        lqrad.lq.riccati_vjp(solution, dP=np.full((4, 1, 1), np.nan))
    with pytest.raises(ArgumentError, match="neither dK nor dP is given"):
        lqrad.dlqr_vjp([[1.0]], [[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(ShapeError, match=r"dP has shape \(2, 2\), expected \(1, 1\)"):
        lqrad.dlqr_vjp([[1.0]], [[1.0]], [[1.0]], [[1.0]], dP=np.eye(2))


def test_what_overflows_is_named():
    """A mode that no input moves and no weight sees: P is finite, and what depends on x[0] is not."""
    problem = LQProblem(np.diag([10.0, 0.5]), [[0.0], [1.0]], np.diag([0.0, 1.0]), [[1.0]])
    solution = lqrad.riccati(problem, 250)
    message = r"^the gradient in \w\[0, 0\] is (inf|nan): it overflowed"
    with pytest.raises(NonFiniteError, match=message):
        lqrad.lq.riccati_vjp(solution, dP=np.ones_like(solution.P))
    with pytest.raises(NonFiniteError, match=message):
        lqrad.lq.riccati_cost_gradient(solution, [1.0, 1.0])
    with pytest.raises(NonFiniteError, match=r"^the state x\[1\d\d\] overflowed"):
        lqrad.lq.riccati_vjp(solution, dv=1e158 * np.ones_like(solution.v))


def test_a_weight_is_tuned_by_the_gradient():
    """The weight of the force is found for which the closed loop has the gain that one wants."""
    A, B, Q = [[1, 0.1], [0, 1]], [[0.005], [0.1]], np.eye(2)
    wanted, log_r = 0.7, 0.0
    for _ in range(20):
        R = [[np.exp(log_r)]]
        K, _, _ = lqrad.dlqr(A, B, Q, R)
        slope = lqrad.dlqr_vjp(A, B, Q, R, dK=[[1.0, 0.0]]).R[0, 0] * R[0][0]
        log_r -= (K[0, 0] - wanted) / slope
    assert K[0, 0] == pytest.approx(wanted, rel=1e-12)


def test_the_former_names_are_the_functions():
    solution = lqrad.riccati(lqrad.LQProblem([[1.1]], [[1]], [[1]], [[1]]), 5)
    dK = np.ones_like(solution.K)
    assert (solution.vjp(dK=dK).Q == lqrad.lq.riccati_vjp(solution, dK=dK).Q).all()
    gradient = lqrad.lq.riccati_cost_gradient(solution, [1.0])
    assert (solution.cost_gradient([1.0]).Q == gradient.Q).all()
