"""Powers, numerical radius, Kreiss constant and pseudospectra against closed forms and brute force."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError
from lqrad.growth.nonnormality import nonnormality, pseudospectrum


def random_matrix(seed, radius=None):
    """Of various sizes and departures from normality, scaled to a spectral radius below 1."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 13))
    A = rng.normal(size=(n, n))
    if seed % 3 == 0:  # badly scaled states
        d = 10.0 ** rng.uniform(-1.5, 1.5, n)
        A = d[:, None] * A / d
    if seed % 3 == 1:  # a large triangle, hidden
        Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
        A = Q @ (np.diag(np.diag(A)) + 10.0 ** rng.uniform(-2, 0.5) * np.triu(A, 1)) @ Q.T
    return A * ((radius or rng.uniform(0.3, 0.995)) / np.abs(np.linalg.eigvals(A)).max())


def normal_matrix(moduli, angles):
    """Block diagonal: eigenvalues m exp(+-i a), in an orthogonal basis."""
    A = scipy.linalg.block_diag(*(m * rotation(a) for m, a in zip(moduli, angles, strict=True)))
    Q = np.linalg.qr(np.random.default_rng(len(A)).normal(size=A.shape))[0]
    return Q @ A @ Q.T


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def smallest_singular_value(A, z):
    return float(np.linalg.svd(z * np.eye(len(A)) - np.asarray(A), compute_uv=False)[-1])


def brute_numerical_radius(A):
    turns = np.exp(1j * np.linspace(0, np.pi, 4001))[:, None, None] * A
    return np.linalg.eigvalsh((turns + turns.conj().swapaxes(1, 2)) / 2).max()


def brute_kreiss(A):
    """The best point of a dense grid, improved by a simplex."""

    def value(point):
        t = np.exp(point[0])
        return t / smallest_singular_value(A, (1 + t) * np.exp(1j * point[1]))

    t, angles = np.geomspace(1e-5, 100, 90), np.linspace(0, np.pi, 181)
    angles = np.concatenate([angles, np.abs(np.angle(np.linalg.eigvals(A)))])
    z = (1 + t[:, None]) * np.exp(1j * angles)
    heights = (
        t[:, None]
        / np.linalg.svd(z[..., None, None] * np.eye(len(A)) - A, compute_uv=False)[..., -1]
    )
    i, j = np.unravel_index(np.argmax(heights), heights.shape)
    found = scipy.optimize.minimize(
        lambda point: -value(point),
        [np.log(t[i]), angles[j]],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-13},
    )
    return max(1.0, -found.fun)


# --- powers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_norms_are_those_of_the_powers(seed):
    A = random_matrix(seed)
    result = nonnormality(A, T=20)
    assert list(result.k) == list(range(21))
    expected = [np.linalg.norm(np.linalg.matrix_power(A, k), 2) for k in range(21)]
    np.testing.assert_allclose(result.norms, expected, rtol=1e-9)


def test_powers_of_a_jordan_block_have_a_closed_form():
    """[x y; 0 x] has the norm (y + root(y^2 + 4 x^2)) / 2."""
    a, c = 0.9, 3.0
    result = nonnormality([[a, c], [0, a]])
    x, y = a**result.k, result.k * c * a ** (result.k - 1.0)
    np.testing.assert_allclose(result.norms, (y + np.hypot(y, 2 * x)) / 2, rtol=1e-13)


def test_a_nilpotent_shift_grows_and_then_vanishes():
    result = nonnormality(3 * np.eye(5, k=1))
    np.testing.assert_allclose(result.norms[:5], 3.0 ** np.arange(5), rtol=1e-14)
    assert np.all(result.norms[5:] == 0)
    assert np.all(result.log_norms[5:] == -np.inf)
    assert (result.peak_step, result.proven, result.spectral_radius) == (4, True, 0.0)
    assert result.peak == pytest.approx(81, rel=1e-14)
    assert result.departure == pytest.approx(6, rel=1e-14)


@pytest.mark.parametrize("seed", range(30))
def test_no_later_power_exceeds_a_proven_peak(seed):
    A = random_matrix(seed)
    result = nonnormality(A)
    assert result.proven
    further = nonnormality(A, T=4 * int(result.k[-1]))
    assert further.norms.max() <= result.peak * (1 + 1e-9)
    assert further.peak_step == result.peak_step


def test_a_peak_is_proven_only_once_a_power_has_come_down():
    A = [[0.9, 10.0], [0.0, 0.8]]
    norms = nonnormality(A).norms
    down = int(np.argmax(norms[1:] <= 1)) + 1
    assert not nonnormality(A, T=down - 1).proven
    assert nonnormality(A, T=down).proven
    assert nonnormality(A, T=3).peak == norms[3] < norms.max()


def test_a_long_transient_is_seen_to_its_end_by_a_choice_of_powers():
    """(a^k - b^k) / (a - b) is largest where a^k log a = b^k log b."""
    a, b = 1 - 1e-5, 1 - 2e-5
    result = nonnormality([[a, 1], [0, b]])
    k = math.log(math.log(b) / math.log(a)) / math.log(a / b)
    assert result.peak == pytest.approx((a**k - b**k) / (a - b), rel=1e-4)
    assert result.peak_step == pytest.approx(k, rel=0.02)
    assert len(result.k) < 10_002
    assert np.all(np.diff(result.k) > 0)
    assert result.norms[-1] < 1
    assert not result.proven  # what lies between the chosen ones has not been seen
    x = np.array([[a**100, 100 * a**99.5], [0, b**100]])
    assert result.norms[100] == pytest.approx(np.linalg.norm(x, 2), rel=1e-3)


def test_growth_without_bound_has_no_peak():
    result = nonnormality([[1.1, 3.0], [0.0, 0.5]])
    assert (result.peak, result.peak_step, result.proven) == (math.inf, None, False)
    assert (result.kreiss, result.kreiss_upper, result.unbounded) == (math.inf, math.inf, True)
    assert result.kreiss_point == pytest.approx(1.1)
    ratio = np.exp(np.diff(result.log_norms)[-1])
    assert ratio == pytest.approx(1.1, rel=1e-9)


# --- the spectrum and the field of values -----------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 8, 21])
def test_the_numerical_radius_of_a_shift(n):
    """Its field of values is a disc: every angle is a maximum."""
    result = nonnormality(np.eye(n, k=1), T=1)
    assert result.numerical_radius == pytest.approx(math.cos(math.pi / (n + 1)), abs=1e-14)


def test_the_numerical_radius_of_two_by_two():
    """With eigenvalues a, b and c above them the field is an ellipse with these foci."""
    a, b, c = 0.7, 0.2, 1.3
    expected = (a + b) / 2 + math.hypot(a - b, c) / 2
    assert nonnormality([[a, c], [0, b]]).numerical_radius == pytest.approx(expected, rel=1e-14)


def test_the_numerical_radius_among_peaks_that_almost_tie():
    angles = np.linspace(0.1, 3.0, 10)
    moduli = np.full(10, 0.9)
    moduli[6] += 1e-9
    result = nonnormality(normal_matrix(moduli, angles), T=1)
    assert result.numerical_radius == pytest.approx(moduli[6], abs=2e-14)
    assert result.spectral_radius == pytest.approx(moduli[6], abs=2e-14)
    assert result.departure < 1e-14


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("turned", [False, True])
def test_the_numerical_radius_by_brute_force(seed, turned):
    """Random matrices have their maximum on the real axis, turned ones elsewhere."""
    A = random_matrix(seed)
    if turned:
        A = np.kron(A, rotation(0.1 * seed)) + 0.1 * np.kron(A.T, np.ones((2, 2)))
    w = nonnormality(A, T=1).numerical_radius
    dense = brute_numerical_radius(A)
    assert dense <= w * (1 + 1e-13)
    assert w <= dense / math.cos(math.pi / 8000) * (1 + 1e-13)


@pytest.mark.parametrize("seed", range(10))
def test_departure_by_frobenius_norms(seed):
    """Henrici: |A|_F^2 less the sum of |eigenvalue|^2."""
    A = random_matrix(seed)
    squares = np.linalg.norm(A) ** 2 - np.sum(np.abs(np.linalg.eigvals(A)) ** 2)
    found = nonnormality(A, T=1).departure
    assert found**2 == pytest.approx(squares, abs=1e-9 * np.linalg.norm(A) ** 2)


@pytest.mark.parametrize("seed", range(10))
def test_powers_obey_berger(seed):
    """|A^k| <= 2 w^k."""
    result = nonnormality(random_matrix(seed), T=30)
    assert np.all(result.norms <= 2 * result.numerical_radius**result.k * (1 + 1e-12))


# --- the Kreiss constant ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(100))
def test_the_kreiss_matrix_theorem(seed):
    result = nonnormality(random_matrix(seed))
    assert result.proven
    assert 1 <= result.kreiss <= result.kreiss_upper
    assert result.kreiss <= result.peak * (1 + 1e-12)
    assert result.peak <= math.e * result.n * result.kreiss
    assert result.kreiss_upper <= result.kreiss * (1 + 1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_kreiss_by_brute_force(seed):
    A = random_matrix(seed)[:5, :5]
    A = A * (0.97 / np.abs(np.linalg.eigvals(A)).max())
    result = nonnormality(A)
    dense = brute_kreiss(A)
    assert dense == pytest.approx(result.kreiss, rel=1e-6)
    assert dense <= result.kreiss_upper * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_kreiss_is_a_lower_bound_at_its_point_in_fifty_digits(seed):
    result = nonnormality(random_matrix(seed, radius=0.98))
    if result.kreiss == 1:
        assert result.numerical_radius <= 1
        assert result.kreiss_point == complex(math.inf)
        return
    with mpmath.workdps(50):
        z = mpmath.mpc(result.kreiss_point)
        M = z * mpmath.eye(result.n) - mpmath.matrix(result.A.tolist())
        exact = (abs(z) - 1) / min(mpmath.svd_c(M, compute_uv=False))
        assert abs(z) > 1
        assert result.kreiss <= exact
        assert result.kreiss >= exact * (1 - mpmath.mpf("1e-8"))


@pytest.mark.parametrize("c", [2.1, 3.0, 10.0, 1e4])
def test_kreiss_of_a_shift_of_two(c):
    """(r - 1) / sigma(r) with sigma = (root(c^2 + 4 r^2) - c) / 2, on every angle the same."""
    with mpmath.workdps(30):

        def slope(r):
            return mpmath.diff(lambda r: (r - 1) * (mpmath.sqrt(c**2 + 4 * r**2) + c) / r**2, r)

        r = mpmath.findroot(slope, (1.01, 1e6), solver="bisect", verify=False)
        expected = (r - 1) * (mpmath.sqrt(c**2 + 4 * r**2) + c) / (2 * r**2)
    result = nonnormality([[0, c], [0, 0]])
    assert result.kreiss == pytest.approx(float(expected), rel=1e-8)
    assert abs(result.kreiss_point) == pytest.approx(float(r), rel=0.02)


@pytest.mark.parametrize(("gap", "c"), [(0.1, 1e7), (0.1, 1e100), (1e-5, 1.0), (1e-9, 1.0)])
def test_kreiss_of_a_large_triangle(gap, c):
    """(|z| - 1) c / |z - a| |z - b|, where c is large: at |z| = 1 + root((1 - a)(1 - b))."""
    a, b = 1 - gap, 1 - 2 * gap
    result = nonnormality([[a, c], [0, b]])
    expected = c / (math.sqrt(1 - a) + math.sqrt(1 - b)) ** 2
    near = 2e-8 + 4 * np.finfo(float).eps / gap
    assert result.kreiss == pytest.approx(expected, rel=near)
    assert result.kreiss_upper == pytest.approx(expected, rel=near)
    assert result.kreiss_point - 1 == pytest.approx(math.sqrt((1 - a) * (1 - b)), rel=1e-3)


def test_kreiss_finds_the_highest_of_many_angles():
    """exp(i a) J has the constant of J, and a direct sum the largest one of its parts."""
    angles = [0.3, 0.9, 1.234, 2.0, 2.9]
    blocks = [np.array([[0.99, 0.5], [0.0, 0.99]]) for _ in angles]
    blocks[2][0, 1] = 0.5001
    turned = [np.kron(J, rotation(angle)) for J, angle in zip(blocks, angles, strict=True)]
    result, alone = nonnormality(scipy.linalg.block_diag(*turned)), nonnormality(blocks[2])
    assert result.kreiss == pytest.approx(alone.kreiss, rel=1e-8)
    assert np.angle(result.kreiss_point) == pytest.approx(angles[2], abs=1e-5)
    assert result.kreiss > nonnormality(blocks[0]).kreiss * (1 + 1e-5)


def test_kreiss_is_never_below_its_limit_at_infinity():
    """It is 1 + (w - 1)^2 / O(1) for w near 1: here 1 in double precision."""
    result = nonnormality([[0, 2 + 1e-8], [0, 0]])
    assert result.numerical_radius > 1
    assert result.kreiss == 1
    assert result.kreiss_upper <= 1 + 2e-8


@pytest.mark.parametrize(("c", "kreiss"), [(1.0, 1.0), (2.0, 1.0), (2.2, None)])
def test_kreiss_is_one_if_and_only_if_the_numerical_radius_is(c, kreiss):
    result = nonnormality([[0, c], [0, 0]])
    assert result.numerical_radius == pytest.approx(c / 2)
    if kreiss is None:
        assert result.kreiss > 1 + 1e-4
        assert 1 < abs(result.kreiss_point) < math.inf
    else:
        assert result.kreiss == result.kreiss_upper == kreiss
        assert result.kreiss_point == complex(math.inf)


# --- extremes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "A",
    [
        [[0.5]],
        [[-1.0]],
        [[0.0]],
        np.zeros((4, 4)),
        np.eye(3),
        rotation(1.0),
        np.eye(7)[np.roll(np.arange(7), 1)],
        normal_matrix([1.0, 1.0, 0.3], [0.4, 2.0, 1.0]),
        normal_matrix([0.999999, 0.2], [0.4, 2.0]),
        1e-200 * np.array([[1.0, 5.0], [0.0, 2.0]]),
    ],
    ids=str,
)
def test_what_never_grows(A):
    result = nonnormality(A)
    assert result.proven
    assert result.peak == pytest.approx(1, abs=1e-13)
    assert result.peak_step == 0
    assert (result.kreiss, result.kreiss_upper) == (1, 1)
    assert result.numerical_radius <= 1 + 1e-14


def test_a_spectral_radius_of_one_is_bounded_from_below_only():
    """The powers tend to [1 10; 0 0], and (|z| - 1) |(zI - A)^-1| to its norm as z -> 1."""
    result = nonnormality([[1.0, 5.0], [0.0, 0.5]])
    assert not result.proven
    assert result.peak == pytest.approx(math.sqrt(101), rel=1e-12)
    assert math.sqrt(101) * (1 - 1e-6) <= result.kreiss <= math.sqrt(101)
    assert result.kreiss_upper == math.inf
    assert abs(result.kreiss_point - 1) < 1e-5


def test_a_defective_eigenvalue_of_modulus_one_shows_as_a_huge_bound():
    result = nonnormality([[1.0, 1.0], [0.0, 1.0]])
    assert not result.proven
    assert not result.unbounded
    assert result.peak_step == result.k[-1] == 100
    assert 1e11 < result.kreiss < math.inf
    assert result.kreiss_upper == math.inf


def test_units_far_apart_do_not_hide_an_eigenvalue():
    """The Schur form of the matrix as it is has lost five of its digits."""
    A = np.array([[0.0, 1e12, 0.0], [1e-14, 0.0, 1e-7], [1e5, 1e-3, 0.5]])
    with mpmath.workdps(40):
        exact = max(map(abs, mpmath.eig(mpmath.matrix(A.tolist()), right=False)))
    assert nonnormality(A).spectral_radius == pytest.approx(float(exact), rel=1e-10)


def test_huge_entries_leave_no_nan():
    rng = np.random.default_rng(0)
    unstable = nonnormality(1e150 * rng.normal(size=(3, 3)))
    assert unstable.unbounded
    assert np.all(np.isfinite(unstable.log_norms))
    assert unstable.log_norms[-1] == pytest.approx(
        100 * math.log(unstable.spectral_radius), rel=0.01
    )
    assert unstable.numerical_radius >= unstable.spectral_radius
    triangle = np.diag(np.full(4, 0.5)) + np.triu(np.full((4, 4), 1e150), 1)
    overflowing = nonnormality(triangle)
    assert overflowing.peak == overflowing.kreiss == math.inf
    assert overflowing.log_norms[3] == pytest.approx(3 * math.log(1e150))
    assert overflowing.departure == pytest.approx(math.sqrt(6) * 1e150)
    assert nonnormality([[0.5, 1.7e308], [0.0, 0.5]]).peak == pytest.approx(1.7e308)


# --- pseudospectra ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_pseudospectra_are_smallest_singular_values(seed):
    A = random_matrix(seed)
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4))
    found = pseudospectrum(A, z)
    assert found.shape == z.shape
    expected = [[smallest_singular_value(A, point) for point in row] for row in z]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)
    np.testing.assert_array_equal(found, pseudospectrum(A, z.conj()))


def test_pseudospectra_of_normal_matrices_are_distances():
    z = np.array([0.2, 1j, 1 - 0.5j])
    found = pseudospectrum(normal_matrix([0.9, 0.5], [0.4, 2.0]), z)
    eigenvalues = np.array(
        [m * np.exp(s * 1j * a) for m, a in [(0.9, 0.4), (0.5, 2.0)] for s in (1, -1)]
    )
    np.testing.assert_allclose(found, np.abs(z[:, None] - eigenvalues).min(axis=1), rtol=1e-13)


@pytest.mark.parametrize("c", [1.0, 1e8, 1e150])
def test_a_large_entry_does_not_drown_a_small_singular_value(c):
    """The product of the singular values of [z -c; 0 z] is |z|^2."""
    z = 0.3 + 0.4j
    largest = (c + math.hypot(c, 2 * abs(z))) / 2
    assert pseudospectrum([[0, c], [0, 0]], z) == pytest.approx(abs(z) ** 2 / largest, rel=1e-12)


def test_pseudospectra_at_eigenvalues_and_of_any_shape():
    A = np.diag([0.5, 0.25])
    np.testing.assert_array_equal(pseudospectrum(A, [0.5, 0.25, 1]), [0, 0, 0.5])
    assert pseudospectrum(A, 1).shape == ()
    assert pseudospectrum(A, np.zeros((0, 2))).shape == (0, 2)
    many = pseudospectrum(random_matrix(3), np.linspace(1, 2, 30_000))  # more than one batch
    assert many[-1] == pseudospectrum(random_matrix(3), 2.0)
    assert np.all(many > 0)


# --- what is refused --------------------------------------------------------------------------


def test_bad_matrices_are_refused():
    for function in (nonnormality, lambda A: pseudospectrum(A, 0.0)):
        with pytest.raises(ShapeError, match=r"A has shape \(2, 3\), expected \(n, n\), not empty"):
            function(np.ones((2, 3)))
        with pytest.raises(ShapeError, match=r"A has shape \(0, 0\), expected \(n, n\), not empty"):
            function(np.ones((0, 0)))
        with pytest.raises(ShapeError, match=r"A has shape \(\).*write it as \[\[value\]\]"):
            function(0.5)
        with pytest.raises(DtypeError, match="A holds complex numbers"):
            function([[1j]])
        with pytest.raises(NonFiniteError, match=r"A\[0, 1\] is nan"):
            function([[0, np.nan], [0, 0]])


def test_bad_options_are_refused():
    with pytest.raises(ArgumentError, match="T is 0, expected a whole number of at least 1"):
        nonnormality([[0.5]], T=0)
    with pytest.raises(DtypeError, match="z holds text, expected real numbers"):
        pseudospectrum([[0.5]], ["a"])
    with pytest.raises(NonFiniteError, match=r"z\[1\] is inf"):
        pseudospectrum([[0.5]], [0.0, complex(0, np.inf)])


def test_what_was_given_is_not_changed_by_it():
    A = np.array([[0.9, 10.0], [0.0, 0.8]])
    result = nonnormality(A)
    A[0, 0] = 2.0
    assert result.A[0, 0] == 0.9
    with pytest.raises(ValueError, match="read-only"):
        result.A[0, 0] = 1.0


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_a_large_nilpotent_shift_comes_up_to_the_bound_e_n_k(n):
    """The case in which Kreiss's bound is sharp: Trefethen and Embree (2005), section 18.

    For large g the resolvent of g J is g^(n-1) / r^n on the circle of radius r, so that K is
    g^(n-1) (n-1)^(n-1) / n^n, from r = n/(n-1), and max |A^k| / K = n (1 + 1/(n-1))^(n-1) < e n.
    """
    g = 1e6
    study = nonnormality(g * np.eye(n, k=1))
    assert study.peak == pytest.approx(g ** (n - 1), rel=1e-12)
    assert study.peak_step == n - 1
    assert study.kreiss == pytest.approx(g ** (n - 1) * (n - 1) ** (n - 1) / n**n, rel=1e-5)
    assert abs(study.kreiss_point) == pytest.approx(n / (n - 1), rel=1e-2)
    ratio = study.peak / study.kreiss
    assert ratio == pytest.approx(n * (1 + 1 / (n - 1)) ** (n - 1), rel=1e-5)
    assert ratio < np.e * n


def test_the_former_name_of_the_horizon():
    assert len(nonnormality([[0.5]], steps=30).k) == len(nonnormality([[0.5]], 30).k) == 31
