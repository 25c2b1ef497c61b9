"""Derivatives of the criterion against differences, and against matrices written out in full."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import block_diag

from dense import FORMULAS, Dense, design, random_templates
from interlace import datasets
from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import estimate_theta
from interlace.sums.crossprod import cross_products
from interlace.sums.terms import Floats, join_theta

REML = pytest.mark.parametrize("reml", [True, False])
EVERY_MODEL = pytest.mark.parametrize("name", FORMULAS)
SINGULAR = pytest.mark.parametrize("singular", [False, True])


@functools.cache
def criterion(name: str, reml: bool) -> Criterion:
    return Criterion(cross_products(design(name, weighted=True)), reml)


def differences(f: Callable[[Floats], float], x: Floats, step: float = 1e-5) -> Floats:
    """Central differences of fourth order."""
    found = np.empty(len(x))
    for i in range(len(x)):
        d = np.zeros(len(x))
        d[i] = step
        near, far = f(x + d) - f(x - d), f(x + 2 * d) - f(x - 2 * d)
        found[i] = (8 * near - far) / (12 * step)
    return found


def slopes(c: Criterion, x: Floats, step: float = 1e-4) -> Floats:
    """Second derivatives by central differences of the exact gradient."""
    d = step * np.eye(len(x))
    return np.array([(c(x + e).gradient - c(x - e).gradient) / (2 * step) for e in d])


# ------------------------------------------------------------ first derivatives


@REML
@SINGULAR
@EVERY_MODEL
def test_gradient_against_differences(name: str, singular: bool, reml: bool) -> None:
    c = criterion(name, reml)
    x = c.pack(random_templates(c.A, 11, singular=singular))
    expected = differences(lambda x: c(x).value, x, step=1e-3)
    assert_allclose(c(x).gradient, expected, rtol=1e-6, atol=1e-6)


@EVERY_MODEL
def test_gradient_in_the_units_of_the_user(name: str) -> None:
    c = criterion(name, True)
    theta = np.random.default_rng(2).normal(size=sum(t.n_theta for t in c.A.terms))
    expected = differences(lambda theta: c.at_theta(theta).value, theta, step=1e-3)
    assert_allclose(c.at_theta(theta).theta_gradient, expected, rtol=1e-6, atol=1e-6)


@REML
@EVERY_MODEL
def test_gradient_vanishes_at_zero_templates(name: str, reml: bool) -> None:
    c = criterion(name, reml)
    x = np.zeros(len(c.pack(random_templates(c.A, 0))))
    assert_allclose(c(x).gradient, 0, atol=1e-12)


@REML
@EVERY_MODEL
def test_variance_gradients_against_differences_in_the_variance(name: str, reml: bool) -> None:
    """Along ``T T' + s D`` with a symmetric ``D``, the criterion changes by ``tr(Gamma D)``."""
    c = criterion(name, reml)
    rng = np.random.default_rng(12)
    templates = [t + 2 * np.eye(len(t)) for t in random_templates(c.A, 12)]
    for j, T in enumerate(templates):
        D = rng.normal(size=T.shape)
        D = D + D.T if c.A.terms[j].correlated else np.diag(np.diag(D))

        def value(s: Floats, j: int = j, T: Floats = T, D: Floats = D) -> float:
            changed = np.linalg.cholesky(T @ T.T + s[0] * D)
            return c.at([*templates[:j], changed, *templates[j + 1 :]]).value

        expected = differences(value, np.zeros(1), step=1e-3)[0]
        found = (c.at(templates).variance_gradients[j] * D).sum()
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@EVERY_MODEL
def test_rotations_change_nothing(name: str) -> None:
    c = criterion(name, True)
    templates = random_templates(c.A, 13)
    rng = np.random.default_rng(14)
    rotated = [
        T @ np.linalg.qr(rng.normal(size=T.shape))[0] if t.correlated else -T
        for t, T in zip(c.A.terms, templates, strict=True)
    ]
    a, b = c.at(templates), c.at(rotated)
    assert a.value == pytest.approx(b.value, abs=1e-9)
    for left, right in zip(a.variance_gradients, b.variance_gradients, strict=True):
        assert_allclose(left, right, rtol=1e-8, atol=1e-8)
    assert_allclose(c.theta(templates), c.theta(rotated), atol=1e-10)
    assert c.at_theta(c.theta(templates)).value == pytest.approx(a.value, abs=1e-9)


# ------------------------------------------------------------ second derivatives


@REML
@SINGULAR
@EVERY_MODEL
def test_newton_matrix_against_dense_matrices(name: str, singular: bool, reml: bool) -> None:
    full = design(name, weighted=True)
    c = criterion(name, reml)
    templates = random_templates(c.A, 15, singular=singular)
    dense = Dense(full, c.A, c.A.basis, templates, reml)
    second = [
        2 * (np.kron(G, np.eye(t.k)) if t.correlated else np.diag(np.diag(G)))
        for t, G in zip(c.A.terms, dense.variance_gradients, strict=True)
    ]
    expected = dense.information + block_diag(*second)
    found = c.at(templates).newton_matrix
    assert_allclose(found, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("name", [name for name in FORMULAS if "||" not in FORMULAS[name]])
def test_newton_matrix_along_rotations(name: str) -> None:
    """``T -> T exp(S)`` with a skew ``S``: the Newton matrix sees only the gradient turned."""
    c = criterion(name, True)
    templates = random_templates(c.A, 16)
    evaluation = c.at(templates)
    skew = [np.triu(np.ones_like(T), 1) - np.tril(np.ones_like(T), -1) for T in templates]
    along = c.pack([T @ S for T, S in zip(templates, skew, strict=True)])
    turned = c.pack([G @ S for G, S in zip(evaluation.gradients, skew, strict=True)])
    size = np.abs(evaluation.newton_matrix).max()
    assert_allclose(evaluation.newton_matrix @ along, turned, rtol=0, atol=1e-9 * size)
    assert along @ evaluation.gradient == pytest.approx(0, abs=1e-8)


@REML
@EVERY_MODEL
def test_no_descent_is_left_at_the_optimum(name: str, reml: bool) -> None:
    c = criterion(name, reml)
    evaluation = estimate_theta(c).evaluation
    eigenvalues = np.linalg.eigvalsh(evaluation.newton_matrix)
    assert eigenvalues.min() > -1e-6 * eigenvalues.max()
    assert_allclose(evaluation.gradient, 0, atol=1e-4)
    for term, gamma in zip(c.A.terms, evaluation.variance_gradients, strict=True):
        # A variance of zero would not grow.
        free = gamma if term.correlated else np.diag(np.diag(gamma))
        assert np.linalg.eigvalsh(free).min() > -1e-4 * c.A.n


@REML
@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("dyestuff", "Yield ~ 1 + (1 | Batch)"),
        ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    ],
)
def test_newton_matrix_is_the_hessian_where_designs_are_balanced(
    name: str, formula: str, reml: bool
) -> None:
    """There the average information is the observed one at the optimum of REML."""
    c = Criterion(cross_products(assemble(parse(formula), datasets.load(name))), reml)
    estimate = estimate_theta(c)
    x = c.pack(estimate.templates)
    hessian, found = slopes(c, x), estimate.evaluation.newton_matrix
    tolerance = 1e-5 if reml else 0.2
    assert_allclose(found, hessian, rtol=0, atol=tolerance * np.abs(hessian).max())


# ------------------------------------------------------------ packing and units


@EVERY_MODEL
def test_packing(name: str) -> None:
    c = criterion(name, True)
    templates = random_templates(c.A, 17)
    for T, again in zip(templates, c.unpack(c.pack(templates)), strict=True):
        assert_allclose(again, T)
    assert c(c.pack(templates)).value == c.at(templates).value


@EVERY_MODEL
def test_theta_and_back(name: str) -> None:
    c = criterion(name, True)
    lower = [np.tril(T) + 3 * np.eye(len(T)) for T in random_templates(c.A, 18)]
    theta = join_theta(c.A.terms, lower)
    assert_allclose(
        c.theta(
            c.working([np.where(t.free, T, 0.0) for t, T in zip(c.A.terms, lower, strict=True)])
        ),
        theta,
        rtol=1e-10,
    )


def test_variances_of_almost_nothing_are_reported_as_zero() -> None:
    c = criterion("crossed", True)
    theta = c.theta([np.array([[1e-9]]), np.array([[0.5]])])
    assert theta[0] == 0.0
    assert theta[1] > 0.0


@pytest.mark.parametrize(("reml", "nu"), [(True, 88), (False, 90)])
def test_degrees_of_freedom(reml: bool, nu: int) -> None:
    assert criterion("crossed", reml).nu == nu
