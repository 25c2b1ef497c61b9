"""Optima: the same from everywhere, singular or not."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from dense import FORMULAS, Dense, design, frame, identity
from interlace import datasets
from interlace.covariance.templates import canonical
from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.estimation.moments import moment_start
from interlace.sums.crossprod import cross_products
from interlace.sums.terms import join_theta, split_theta


def criterion(formula: str, data: pd.DataFrame, *, reml: bool = True) -> Criterion:
    return Criterion(cross_products(assemble(parse(formula), data)), reml)


def maximal(rank: int, *, subjects: int = 24, items: int = 12, seed: int = 3) -> pd.DataFrame:
    """Two crossed factors with effects of three columns each, of covariance of some rank."""
    rng = np.random.default_rng(seed)
    s, i = (a.ravel() for a in np.meshgrid(range(subjects), range(items), indexing="ij"))
    p, q = rng.choice([-1.0, 1.0], size=(2, len(s)))
    Z = np.column_stack((np.ones(len(s)), p, q))
    y = rng.normal(size=len(s))
    for codes, levels in ((s, subjects), (i, items)):
        b = rng.normal(size=(levels, rank)) @ rng.normal(size=(rank, 3))
        y += (Z * b[codes]).sum(axis=1)
    return pd.DataFrame({"y": y, "p": p, "q": q, "s": s, "i": i})


MAXIMAL = "y ~ p + q + (1 + p + q | s) + (1 + p + q | i)"


@functools.cache
def maximal_estimate(rank: int, reml: bool) -> Estimate:
    return estimate_theta(criterion(MAXIMAL, maximal(rank), reml=reml))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_maximal_models_have_one_optimum(rank: int, reml: bool) -> None:
    best = maximal_estimate(rank, reml)
    assert best.convergence.converged
    assert best.convergence.n_evaluations <= 25
    assert best.is_singular is (rank < 3)
    rng = np.random.default_rng(rank)
    for _ in range(10):
        other = estimate_theta(best.criterion, theta0=rng.normal(size=12))
        assert other.convergence.converged
        assert other.value == pytest.approx(best.value, abs=1e-6)
        for a, b in zip(other.covariances, best.covariances, strict=True):
            assert_allclose(a, b, rtol=0, atol=1e-4 * best.sigma**2)


def test_zero_is_left_from_where_it_is_stationary() -> None:
    best = maximal_estimate(3, True)
    other = estimate_theta(best.criterion, theta0=np.zeros(12))
    assert other.value == pytest.approx(best.value, abs=1e-6)


def test_a_singular_template_is_reported_with_zeros() -> None:
    best = maximal_estimate(1, True)
    assert best.singular_groups == ("s", "i")
    for T in best.user_templates:
        assert (np.diag(T) >= 0).all()
        assert (np.diag(T) == 0).any()


def test_a_regular_one_is_not_called_singular() -> None:
    assert maximal_estimate(3, True).singular_groups == ()


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_everything_derived_agrees_with_dense_matrices(name: str, reml: bool) -> None:
    full = design(name, weighted=True)
    estimate = estimate_theta(Criterion(cross_products(full), reml))
    A = estimate.A
    dense = Dense(full, A, identity(A), estimate.user_templates, reml)
    assert estimate.value == pytest.approx(dense.value, abs=1e-7)
    assert estimate.sigma == pytest.approx(np.sqrt(dense.r2 / dense.nu), rel=1e-6)
    assert_allclose(estimate.beta, dense.beta, rtol=1e-6, atol=1e-7)
    assert_allclose(estimate.vcov, estimate.sigma**2 * dense.vcov, rtol=1e-6, atol=1e-8)
    expected = zip(dense.b, dense.conditional_covariances, strict=True)
    for b, cov, (wanted_b, wanted_cov) in zip(estimate.b, estimate.b_cov, expected, strict=True):
        assert_allclose(b, wanted_b, rtol=1e-5, atol=1e-6)
        assert_allclose(cov, estimate.sigma**2 * wanted_cov, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("dyestuff", "Yield ~ 1 + (1 | Batch)"),
        ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("pastes", "strength ~ 1 + (1 | batch) + (1 | batch:cask)"),
    ],
)
def test_moments_are_exact_on_balanced_data(name: str, formula: str) -> None:
    c = criterion(formula, datasets.load(name))
    start = c.theta(moment_start(c))
    assert_allclose(start, estimate_theta(c).theta, rtol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_moment_estimates_are_within_bounds(name: str) -> None:
    c = Criterion(cross_products(design(name)), True)
    for T, term in zip(moment_start(c), c.A.terms, strict=True):
        assert_allclose(T, T[0, 0] * np.eye(term.k))
        assert 0.05 <= T[0, 0] <= 6.0


def test_a_variance_of_zero() -> None:
    data = frame().assign(y=lambda d: d["y"] - d.groupby("h")["y"].transform("mean"))
    estimate = estimate_theta(criterion("y ~ 1 + (1 | h)", data))
    assert estimate.theta.tolist() == [0.0]
    assert estimate.singular_groups == ("h",)
    assert_allclose(estimate.b[0], 0, atol=1e-10)


def test_the_start_is_in_the_order_and_units_of_theta() -> None:
    data = datasets.load("sleepstudy")
    c = criterion("Reaction ~ Days + (Days | Subject)", data)
    best = estimate_theta(c)
    again = estimate_theta(c, theta0=best.theta)
    assert again.convergence.n_evaluations <= 3
    assert_allclose(again.theta, best.theta, atol=1e-6)


def test_certificate() -> None:
    certificate = maximal_estimate(3, True).convergence
    assert certificate.gradient.shape == certificate.newton_eigenvalues.shape == (18,)
    assert (np.abs(certificate.newton_eigenvalues) < 1e-4).sum() == 6  # two times three rotations
    assert certificate.predicted_gain < 1e-9
    assert (certificate.solver, certificate.monte_carlo_error) == ("exact", None)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_canonical_templates(k: int, rank: int) -> None:
    rng = np.random.default_rng(k)
    T = rng.normal(size=(k, rank)) @ rng.normal(size=(rank, k))
    lower = canonical(T)
    assert_allclose(lower @ lower.T, T @ T.T, atol=1e-10)
    assert_allclose(lower, np.tril(lower))
    assert (np.diag(lower) >= 0).all()
    assert (np.diag(lower) > 0).sum() == min(k, rank)


def test_small_diagonal_entries_become_zero() -> None:
    lower = canonical(np.array([[1.0, 0.0], [0.5, 1e-9]]), floor=1e-7)
    assert lower.tolist() == [[1.0, 0.0], [0.5, 0.0]]


def test_join_and_split() -> None:
    c = criterion(MAXIMAL, maximal(3))
    theta = np.arange(1.0, 13.0)
    first, second = split_theta(c.A.terms, theta)
    assert first.tolist() == [[1.0, 0.0, 0.0], [2.0, 4.0, 0.0], [3.0, 5.0, 6.0]]
    assert second[0, 0] == 7.0
    assert join_theta(c.A.terms, [first, second]).tolist() == theta.tolist()
