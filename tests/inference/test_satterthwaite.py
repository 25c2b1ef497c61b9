"""Satterthwaite's degrees of freedom and the information of the variance parameters."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

import interlace
from dense import FORMULAS, Dense, at_templates, design, identity, random_templates
from fits import of_case as fitted
from interlace.design.design import Design
from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate
from interlace.inference import information
from interlace.inference.information import (
    observed_information,
    unit_inverse,
    variance_errors,
    vcov_theta,
)
from interlace.inference.satterthwaite import Satterthwaite, joint_df
from interlace.solver import equations, exact, traces
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.terms import Floats, split_theta
from reference import cases

REML = pytest.mark.parametrize("reml", [True, False])
SINGULAR = pytest.mark.parametrize("singular", [False, True])
TESTABLE = pytest.mark.parametrize("name", [n for n in FORMULAS if n != "no fixed effects"])
GOLDEN = pytest.mark.parametrize(
    ("name", "method"), [(name, m) for name in cases.case_names() for m in cases.METHODS]
)


@functools.cache
def reference(name: str, method: str) -> Satterthwaite:
    return Satterthwaite(fitted(name, method).estimate)


# ------------------------------------------------------------ lmerTest


@GOLDEN
def test_degrees_of_freedom(name: str, method: str) -> None:
    golden = cases.load_golden(name, "inference")[method]["satterthwaite"]["df"]
    names = [cases.r_name(n) for n in fitted(name, method).fe_params.index]
    # The reference differentiates numerically: on insteval it is good to 1e-5.
    close = 2e-5 if name == "insteval" else 1e-6
    df = reference(name, method).df(np.eye(len(names)))
    assert_allclose(df, [golden[n] for n in names], rtol=close)


@GOLDEN
def test_covariance_of_the_variance_parameters(name: str, method: str) -> None:
    golden = np.array(cases.load_golden(name, "inference")[method]["vcov_varpar"]["values"])
    se = np.sqrt(np.diag(golden))
    found = reference(name, method).vcov_theta
    assert_allclose(found / np.outer(se, se), golden / np.outer(se, se), rtol=0, atol=3e-5)


@pytest.mark.parametrize("method", cases.METHODS)
@pytest.mark.parametrize("name", ["machines_slopes", "machines_nested"])
def test_joint_test(name: str, method: str) -> None:
    golden = cases.load_golden(name, "inference")[method]["anova_satterthwaite"]["III"]
    test = reference(name, method).f_test(np.eye(3)[1:])
    assert test.numerator_df == golden["NumDF"][0]
    assert test.denominator_df == pytest.approx(golden["DenDF"][0], rel=1e-6)
    assert test.statistic == pytest.approx(golden["F value"][0], rel=1e-6)
    assert test.p_value == pytest.approx(golden["Pr(>F)"][0], rel=1e-6)
    assert test.scaling == 1.0


# ------------------------------------------------------------ against differences


@functools.cache
def model(name: str) -> tuple[Design, CrossProducts]:
    full = design(name, weighted=True)
    return full, cross_products(full)


def arbitrary(name: str, *, reml: bool, singular: bool) -> Estimate:
    """An estimate at templates of no merit: the formulas do not need an optimum."""
    _, A = model(name)
    return at_templates(A, random_templates(A, 12, singular=singular), reml=reml)


def criterion(estimate: Estimate, full: Design, x: Floats) -> float:
    """Minus twice the log-likelihood at ``(theta, sigma)`` by n x n matrices."""
    A = estimate.A
    templates = split_theta(A.terms, x[:-1])
    dense = Dense(full, A, identity(A), templates, estimate.criterion.reml)
    profiled = dense.nu * (1 + np.log(2 * np.pi * dense.r2 / dense.nu))
    return (
        dense.value - profiled + dense.nu * np.log(2 * np.pi * x[-1] ** 2) + dense.r2 / x[-1] ** 2
    )


@REML
@SINGULAR
@pytest.mark.parametrize("name", ["slope", "uncorrelated", "crossed slopes", "nested and crossed"])
def test_information_against_differences(name: str, singular: bool, reml: bool) -> None:
    estimate, (full, _) = arbitrary(name, reml=reml, singular=singular), model(name)
    x = np.append(estimate.theta, estimate.sigma)
    found = observed_information(estimate)
    assert_allclose(found, found.T)
    h = 2e-3 * np.eye(len(x))

    def f(z: Floats) -> float:
        return criterion(estimate, full, z)

    for i, j in np.ndindex(found.shape):
        if i <= j:
            a, b = h[i], h[j]
            near = f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)
            a, b = 2 * a, 2 * b
            far = f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)
            expected = (4 * near / (4 * h[i, i] ** 2) - far / (16 * h[i, i] ** 2)) / 3
            scale = np.sqrt(abs(found[i, i] * found[j, j]))
            assert found[i, j] == pytest.approx(expected, rel=1e-5, abs=1e-5 * scale)


@REML
@SINGULAR
@TESTABLE
def test_gradient_of_variances(name: str, singular: bool, reml: bool) -> None:
    estimate, (full, A) = arbitrary(name, reml=reml, singular=singular), model(name)
    L = np.random.default_rng(3).normal(size=(2, A.p))
    variances, gradients = Satterthwaite(estimate).slopes(L)
    x = np.append(estimate.theta, estimate.sigma)

    def exact(z: Floats) -> Floats:
        dense = Dense(full, A, identity(A), split_theta(A.terms, z[:-1]), reml)
        return np.einsum("cp,pq,cq->c", L, z[-1] ** 2 * dense.vcov, L)

    assert_allclose(variances, exact(x), rtol=1e-8)
    for r, h in enumerate(1e-3 * np.eye(len(x))):
        near, far = exact(x + h) - exact(x - h), exact(x + 2 * h) - exact(x - 2 * h)
        expected = (8 * near - far) / (12 * 1e-3)
        assert_allclose(gradients[:, r], expected, rtol=1e-6, atol=1e-7 * variances.max())


def test_units_do_not_matter() -> None:
    case = cases.load_case("sleepstudy_slope")
    reaction, days = 1e7 * case.data["Reaction"], 1e-5 * case.data["Days"]
    scaled = interlace.fit(case.formula, case.data.assign(Reaction=reaction, Days=days))
    expected = reference("sleepstudy_slope", "reml").df(np.eye(2))
    assert_allclose(Satterthwaite(scaled.estimate).df(np.eye(2)), expected, rtol=1e-6)


# ------------------------------------------------------------ joint degrees of freedom


def test_equal_directions_keep_their_degrees_of_freedom() -> None:
    assert joint_df(np.array([5.0, 5.0, 5.0])) == 5.0
    assert joint_df(np.array([1.0, 1.0])) == 1.0


def test_unequal_directions() -> None:
    # 4 / 2 + 10 / 8 = 3.25 expected, 2 directions
    assert joint_df(np.array([4.0, 10.0])) == pytest.approx(6.5 / 1.25, rel=1e-12)
    # A case that lmerTest was given.
    assert joint_df(np.array([2.3052, 10.6803])) == pytest.approx(2.589740, abs=2e-4)


def test_a_direction_with_infinite_expectation() -> None:
    assert joint_df(np.array([1.9558, 11.9998])) == 2.0


def test_joint_degrees_of_freedom_lose_no_digits() -> None:
    assert joint_df(np.array([1e12, 2e12])) == pytest.approx(4e12 / 3, rel=1e-9)


def test_contrasts_of_the_wrong_length() -> None:
    with pytest.raises(InterlaceError, match=r"shape \(1, 3\) do not fit 2 fixed effects"):
        reference("sleepstudy_slope", "reml").df(np.ones((1, 3)))


# ------------------------------------------------------------ generalised inverse, delta method


def test_flat_directions_are_left_out() -> None:
    H = np.array([[4.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.5]])
    assert_allclose(unit_inverse(H, floor=np.zeros(3)), np.diag([0.25, 0.0, 2.0]))
    twins = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert_allclose(unit_inverse(twins, floor=np.zeros(2)), twins / 4)


def components(estimate: Estimate, x: Floats) -> list[tuple[Floats, Floats, Floats]]:
    """Covariances, standard deviations and correlations at ``(theta, sigma)``."""
    found = []
    for T in split_theta(estimate.A.terms, x[:-1]):
        S = x[-1] ** 2 * T @ T.T
        sd = np.sqrt(np.diag(S))
        found.append((S, sd, S / np.outer(sd, sd)))
    return found


@pytest.mark.parametrize("name", ["sleepstudy_slope", "sleepstudy_uncorr", "machines_slopes"])
def test_errors_of_variance_components(name: str) -> None:
    estimate = fitted(name, "reml").estimate
    V, errors = vcov_theta(estimate), variance_errors(estimate)
    x = np.append(estimate.theta, estimate.sigma)
    h = 1e-5 * np.eye(len(x))
    for t, found in enumerate(
        zip(errors.covariances, errors.sds, errors.correlations, strict=True)
    ):
        for part, value in enumerate(found):
            slopes = np.array(
                [
                    components(estimate, x + d)[t][part] - components(estimate, x - d)[t][part]
                    for d in h
                ]
            ) / (2e-5)
            variances = np.einsum("r...,rs,s...->...", slopes, V, slopes)
            assert_allclose(value, np.sqrt(variances), rtol=1e-5, atol=1e-6)
    assert errors.sigma == pytest.approx(np.sqrt(V[-1, -1]))
    assert errors.scale == pytest.approx(2 * estimate.sigma * errors.sigma)


def test_errors_of_one_way_analysis_of_variance() -> None:
    """Balanced REML: mean squares are independent multiples of chi-squared variables."""
    estimate = fitted("dyestuff", "reml").estimate
    errors = variance_errors(estimate)
    within, between = estimate.sigma**2, estimate.covariances[0][0, 0]
    mean_square = within + 5 * between
    assert errors.scale == pytest.approx(within * np.sqrt(2 / 24), rel=1e-6)
    expected = np.sqrt(2 * mean_square**2 / 5 + 2 * within**2 / 24) / 5
    assert errors.covariances[0][0, 0] == pytest.approx(expected, rel=1e-6)


def test_no_errors_at_the_boundary() -> None:
    errors = variance_errors(fitted("dyestuff2", "reml").estimate)
    assert np.isnan(errors.covariances[0]).all()
    assert np.isnan(errors.sds[0]).all()
    assert np.isfinite(errors.scale)
    _, A = model("slope")
    errors = variance_errors(at_templates(A, [np.array([[1.0, 0.0], [2.0, 0.0]])]))
    assert np.isnan(errors.correlations[0][1, 0])
    assert np.isfinite(errors.sds[0]).all()


# ------------------------------------------------------------ many variances


def crossed(n_terms: int) -> interlace.CrossedLMEResult:
    rng = np.random.default_rng(12)
    n, l = 300, 6
    codes = {f"g{j}": rng.integers(0, l, n) for j in range(n_terms)}
    x = rng.normal(size=n)
    y = x + sum(0.7 * rng.normal(size=l)[g] for g in codes.values()) + rng.normal(size=n)
    formula = "y ~ x + " + " + ".join(f"(1 | {name})" for name in codes)
    return interlace.fit(formula, {"y": y, "x": x, **codes}, method="REML")


@REML
def test_many_variances_take_few_factorisations(
    reml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Second derivatives come from their formula: no gradient at either side of every variance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", interlace.errors.SingularFitWarning)
        result = crossed(12)
        result = result if reml else result.update(method="ML")
    count = 0
    plain = exact.factorize

    def counted(*args: object) -> exact.Factor:
        nonlocal count
        count += 1
        return plain(*args)  # type: ignore[arg-type]

    for module in (exact, equations, traces):
        monkeypatch.setattr(module, "factorize", counted)
    df = Satterthwaite(result.estimate).df(np.eye(2))
    assert 0 < count <= 8
    criterion, theta = result.estimate.criterion, result.estimate.theta
    count = 0
    differences = information._profiled_information(criterion, theta)
    assert count >= 24
    found = information.profiled_information(criterion, theta)
    assert_allclose(found, differences, rtol=1e-4, atol=1e-5 * np.abs(differences).max())
    assert (df > 1).all()


def test_arrays_that_do_not_fit_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", interlace.errors.SingularFitWarning)
        estimate = crossed(8).estimate
    right = Satterthwaite(estimate).df(np.eye(2))
    monkeypatch.setattr(traces, "_MAX_BYTES", 0.0)
    assert_allclose(Satterthwaite(estimate).df(np.eye(2)), right, rtol=1e-3)
