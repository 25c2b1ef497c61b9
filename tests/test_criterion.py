"""Derivatives of the criterion against differences, at regular and singular templates."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import models
from interlace.criterion import Criterion


def templates(criterion: Criterion, kind: str) -> list[np.ndarray]:
    """Working templates: full, with a zero column, or zero in all but the first term."""
    rng = np.random.default_rng(7)
    found = []
    for j, term in enumerate(criterion.A.terms):
        T = (
            rng.normal(size=(term.k, term.k))
            if term.correlated
            else np.diag(rng.normal(size=term.k))
        )
        if kind == "zero column":
            T[:, -1] = 0.0
        if kind == "zero terms" and j > 0:
            T = np.zeros_like(T)
        found.append(T)
    return found


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("kind", ["full", "zero column", "zero terms"])
@pytest.mark.parametrize("name", models.FORMULAS)
def test_gradient(name: str, kind: str, reml: bool) -> None:
    criterion = Criterion(models.model(name, weights="w")[1], reml)
    x = criterion.pack(templates(criterion, kind))
    step = 1e-5
    differences = [
        (criterion(x + step * d).value - criterion(x - step * d).value) / (2 * step)
        for d in np.eye(len(x))
    ]
    assert_allclose(
        criterion(x).gradient, differences, atol=2e-6 * max(1, np.abs(differences).max())
    )


@pytest.mark.parametrize("kind", ["full", "zero column", "zero terms"])
@pytest.mark.parametrize("name", ["crossed slopes", "nested slopes", "one group twice"])
def test_derivative_with_respect_to_the_variance(name: str, kind: str) -> None:
    """A zero column of T times eps adds eps^2 to T T', and Gamma times eps^2 to the criterion."""
    criterion = Criterion(models.model(name)[1], True)
    at = templates(criterion, kind)
    point = criterion.at(at)
    for j, gamma in enumerate(point.variance_gradients):
        if np.abs(at[j][:, -1]).any():
            assert_allclose(2.0 * gamma @ at[j], point.gradients[j], rtol=1e-7, atol=1e-7)
            continue
        for a in range(len(gamma)):
            moved = [T.copy() for T in at]
            moved[j][a, -1] = 1e-3
            gained = (criterion.at(moved).value - point.value) / 1e-6
            assert_allclose(gained, gamma[a, a], rtol=1e-3, atol=1e-3)


def test_rotations_change_nothing_and_cost_no_curvature() -> None:
    criterion = Criterion(models.model("crossed slopes")[1], True)
    at = templates(criterion, "full")
    c, s = np.cos(0.3), np.sin(0.3)
    turned = [T @ np.array([[c, -s], [s, c]]) for T in at]
    assert_allclose(criterion.at(turned).value, criterion.at(at).value, rtol=1e-13)
    assert_allclose(criterion.theta(turned), criterion.theta(at), atol=1e-12)


def test_newton_matrix_is_exact_for_balanced_data() -> None:
    """In one-way balanced data average and observed information agree at the optimum."""
    import interlace

    estimate = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff"), "Batch").estimate
    criterion, x = estimate.criterion, estimate.criterion.pack(estimate.templates)
    step = 1e-4
    slopes = [criterion(x + d).gradient[0] for d in (step, -step)]
    second = (slopes[0] - slopes[1]) / (2 * step)
    assert_allclose(criterion(x).newton_matrix[0, 0], second, rtol=1e-5)


@pytest.mark.parametrize("name", models.FORMULAS)
def test_packing(name: str) -> None:
    criterion = Criterion(models.model(name)[1], True)
    at = templates(criterion, "full")
    for T, back in zip(at, criterion.unpack(criterion.pack(at)), strict=True):
        assert_allclose(T, back)
