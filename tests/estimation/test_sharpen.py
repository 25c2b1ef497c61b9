"""Random effects that are up to 1e8 times the residuals: their sizes are right, or refused."""

import warnings

import numpy as np
import pytest

import interlace
from interlace.errors import ConvergenceWarning, InterlaceError, SingularFitWarning

rng = np.random.default_rng(3)
N = 240
G, A, H = np.repeat(np.arange(12), 20), np.arange(N) // 5, rng.integers(0, 9, N)
X, E, W = rng.normal(size=N), rng.normal(size=N), rng.uniform(0.5, 2.0, N)
OF_G, SLOPE, OF_A, OF_H = (rng.normal(size=size) for size in (12, 12, 48, 9))
BETWEEN = rng.normal(size=12)[G]
NOISE = (1e-4, 1e-6, 1e-7)


def dummies(codes):
    return (codes[:, None] == np.unique(codes)).astype(float)


def least_squares(y, *columns, weights=None):
    """Residual standard deviation with the effects of groups fixed, projected out twice."""
    root = np.ones(N) if weights is None else np.sqrt(weights)
    M = np.column_stack([X, *columns]) * root[:, None]
    U, s, _ = np.linalg.svd(M, full_matrices=False)
    U = U[:, s > 1e-10 * s[0]]
    r = y * root
    for _ in range(3):
        r = r - U @ (U.T @ r)
    return np.sqrt(r @ r / (N - U.shape[1]))


def frame(y):
    return {"y": y, "x": X, "z": BETWEEN, "g": G, "a": A, "h": H, "w": W, "o": 7.0 * BETWEEN}


LARGE = {
    "one term": ("y ~ x + (1 | g)", 10.0 * OF_G[G], [dummies(G)], {}),
    "covariate of groups": ("y ~ x + z + (1 | g)", 9 * OF_G[G] + BETWEEN, [dummies(G)], {}),
    "far from zero": ("y ~ x + (1 | g)", 100.0 + 10.0 * OF_G[G], [dummies(G)], {}),
    "offset": ("y ~ x + (1 | g)", 10 * OF_G[G] + 7 * BETWEEN, [dummies(G)], {"offset": "o"}),
    "weights": ("y ~ x + (1 | g)", 10.0 * OF_G[G], [dummies(G)], {"weights": "w"}),
    "slopes": (
        "y ~ x + (x | g)",
        10.0 * OF_G[G] + 5.0 * X * SLOPE[G],
        [dummies(G), dummies(G) * X[:, None]],
        {},
    ),
    "nested": ("y ~ x + (1 | g/a)", 10.0 * OF_G[G] + 3.0 * OF_A[A], [dummies(A)], {}),
    "crossed": (
        "y ~ x + (1 | g) + (1 | h)",
        10.0 * OF_G[G] + 4.0 * OF_H[H],
        [dummies(G), dummies(H)],
        {},
    ),
}


@pytest.mark.parametrize("sd", NOISE)
@pytest.mark.parametrize("case", LARGE)
def test_sigma_with_large_effects_is_that_with_fixed_ones(case, sd):
    formula, effects, columns, options = LARGE[case]
    noise = sd * E / (np.sqrt(W) if "weights" in options else 1.0)
    y = effects + 0.5 * X + noise
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = interlace.fit(formula, frame(y), **options)
    shifted = y - 7.0 * BETWEEN if "offset" in options else y
    right = least_squares(shifted, *columns, weights=W if "weights" in options else None)
    assert np.sqrt(fitted.scale) == pytest.approx(right, rel=1e-6)


MIXED = {
    "nested, the finer is small": ("(1 | g/a)", "C(g) + (1 | a)", lambda s: s * OF_A[A]),
    "crossed, the other is small": ("(1 | g) + (1 | h)", "C(g) + (1 | h)", lambda s: s * OF_H[H]),
    "slopes are small": ("(x || g)", "C(g) + (0 + x | g)", lambda s: s * X * SLOPE[G]),
}


@pytest.mark.parametrize("sd", NOISE)
@pytest.mark.parametrize("case", MIXED)
def test_small_variances_beside_a_large_one_are_those_with_it_fixed(case, sd):
    random, fixed, small = MIXED[case]
    data = frame(10.0 * OF_G[G] + small(2.0 * sd) + 0.5 * X + sd * E)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = interlace.fit(f"y ~ x + {random}", data)
    reference = interlace.fit(f"y ~ x + {fixed}", data)
    assert np.sqrt(fitted.scale) == pytest.approx(np.sqrt(reference.scale), rel=1e-6)
    smallest = min(v for v in fitted.theta)
    assert smallest == pytest.approx(reference.theta[0], rel=1e-5)


def test_a_zero_variance_beside_a_large_one():
    level = E - 0.9 * (dummies(A) @ (dummies(A).T @ E)) / 5.0
    y = 10.0 * OF_G[G] + 0.5 * X + 1e-6 * level
    with pytest.warns(SingularFitWarning):
        fitted = interlace.fit("y ~ x + (1 | g/a)", frame(y))
    right = least_squares(y, dummies(G))
    assert np.sqrt(fitted.scale) == pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_all_of_an_ordinary_fit_is_the_same_from_the_rows(method):
    from interlace.estimation.sharpen import sharpened

    data = frame(OF_G[G] + 0.5 * X * SLOPE[G] + 0.7 * OF_H[H] + E)
    fitted = interlace.fit("y ~ x + z + (x | g) + (1 | h)", data, method=method, weights="w")
    other = sharpened(fitted.design, fitted.estimate.A, reml=method == "REML")
    own = fitted.estimate
    assert other.value == pytest.approx(own.value, abs=1e-8)
    np.testing.assert_allclose(other.theta, own.theta, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(other.beta, own.beta, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(other.vcov, own.vcov, rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(other.b + other.b_cov, own.b + own.b_cov, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("zero", [False, True])
def test_derivatives_from_the_triangle_are_those_from_sums(reml, zero):
    from interlace.estimation.criterion import Criterion
    from interlace.solver.sharp import Sharp, triangle

    data = frame(OF_G[G] + 0.5 * X * SLOPE[G] + 0.7 * OF_H[H] + E)
    fitted = interlace.fit("y ~ x + z + (x | g) + (1 | h)", data, weights="w")
    A = fitted.estimate.A
    templates = [np.array([[0.9, 0.0], [0.3, 0.0 if zero else 0.4]]), np.array([[0.6]])]
    sums = Criterion(A, reml).at(templates)
    rows = Criterion(A, reml, Sharp(A, triangle(fitted.design, A))).at(templates)
    assert rows.value == pytest.approx(sums.value, abs=1e-9)
    np.testing.assert_allclose(rows.gradient, sums.gradient, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(rows.newton_matrix, sums.newton_matrix, rtol=1e-8, atol=1e-7)
    ones = [np.ones((t.l, t.k, 2)) for t in A.terms]
    for fixed in (None, np.ones((A.p, 2))):
        for ours, theirs in zip(
            rows.factor.solve(ones, fixed), sums.factor.solve(ones, fixed), strict=True
        ):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("sd", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
def test_sums_without_rows_are_right_or_say_that_digits_are_lost(sd):
    y = 10.0 * OF_G[G] + 0.5 * X + sd * E
    sums = interlace.cross_products("y ~ x + (1 | g)", frame(y))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            sigma = np.sqrt(interlace.fit("y ~ x + (1 | g)", sums).scale)
        except InterlaceError as error:
            assert "lost in sums of squares" in str(error)
            return
    warned = any(issubclass(w.category, ConvergenceWarning) for w in seen)
    assert warned or sigma == pytest.approx(least_squares(y, dummies(G)), rel=1e-5)
    assert warned or sd > 1e-5
    assert not warned or sd < 1e-3


@pytest.mark.parametrize("y", [10.0 * OF_G[G], 10.0 * OF_G[G] + 0.3 * X, OF_G[G] + OF_A[A]])
def test_a_response_without_residuals_is_refused(y):
    with pytest.raises(InterlaceError, match="leave no residual variance"):
        interlace.fit("y ~ x + (1 | g/a)", frame(y))


def test_what_reads_the_sums_is_refused_with_the_reason():
    fitted = interlace.fit("y ~ x + (1 | g)", frame(10.0 * OF_G[G] + 1e-6 * E))
    assert np.isfinite(fitted.random_effects_se["g"]).all()
    assert np.isfinite(fitted.fe_bse).all()
    with pytest.raises(InterlaceError, match="lost in them"):
        interlace.hlm_influence(fitted, "g")


REFUSED = {
    "satterthwaite": lambda r: r.coef_table("satterthwaite"),
    "kenward-roger": lambda r: r.coef_table("kenward-roger"),
    "profile": lambda r: r.profile(),
    "profile limits": lambda r: r.conf_int(method="profile"),
    "bootstrap": lambda r: r.bootstrap(5),
    "bootstrap limits": lambda r: r.conf_int(method="bootstrap", n_bootstrap=5),
    "influence": lambda r: interlace.hlm_influence(r),
    "cooks": lambda r: interlace.cooks_distance(r),
    "leverage": lambda r: interlace.leverage(r),
    "robust": lambda r: r.coef_table(robust="CR2"),
    "predict": lambda r: r.predict(se=True),
    "augment": lambda r: r.augment(),
}


@pytest.mark.parametrize("verb", REFUSED)
def test_a_refusal_has_its_reason_and_a_way_out_that_is_not_refused_too(verb):
    fitted = interlace.fit("y ~ x + (1 | g)", frame(10.0 * OF_G[G] + 1e-6 * E))
    with pytest.raises(InterlaceError, match=r"lost in them: subtract a round value") as caught:
        REFUSED[verb](fitted)
    assert "bootstrap'" not in str(caught.value)


def test_the_way_out_leads_out():
    """Less a round value of every group, the residuals are in the sums again."""
    y = 10.0 * OF_G[G] + 1e-6 * E
    round_values = np.round(10.0 * OF_G[G], 4)
    fitted = interlace.fit("y ~ x + (1 | g)", frame(y - round_values))
    assert np.isfinite(interlace.hlm_influence(fitted, "g")["cooksd"]).all()
    assert (fitted.coef_table("satterthwaite")["df"] > 1).all()
