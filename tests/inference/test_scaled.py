"""What is known of the parameters of a variance function."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag

import interlace
from interlace import ScaledLMEResult
from interlace.inference import scaled
from interlace.sums.terms import split_theta


def _frame(n: int, strata: int) -> pd.DataFrame:
    rng = np.random.default_rng(12)
    frame = pd.DataFrame(
        {
            "g": rng.integers(0, 12, n),
            "h": rng.integers(0, 9, n),
            "s": rng.integers(0, strata, n),
            "f": rng.choice(list("uvw"), n),
            "x": rng.normal(size=n),
        }
    )
    u = rng.normal(size=(12, 2)) @ np.array([[1.2, 0.5], [0.0, 0.9]])
    sd = np.exp(rng.normal(0.0, 0.5, strata))[frame["s"]]
    levels = np.array([0.0, 0.8, -0.7])[frame["f"].map({"u": 0, "v": 1, "w": 2})]
    y = u[frame["g"], 0] + u[frame["g"], 1] * frame["x"] + rng.normal(size=9)[frame["h"]]
    by_level = levels * rng.normal(size=12)[frame["g"]]
    frame["y"] = y + by_level + sd * rng.normal(size=n)
    return frame


def _fit(term: str, n: int = 400, strata: int = 4) -> ScaledLMEResult:
    return interlace.fit(f"y ~ x + {term} + (1 | h)", _frame(n, strata), residual="varident(s)")


@pytest.mark.parametrize("term", ["(x | g)", "diag(0 + x | g)", "(x || g)", "cs(0 + f | g)"])
def test_average_information_is_carried_to_theta(term: str) -> None:
    """Second derivatives by the numbers of the search become those by theta."""
    estimate = _fit(term).estimate
    assert not estimate.is_singular
    criterion, A = estimate.criterion, estimate.A
    at = criterion.at_theta(estimate.theta, estimate.eta)
    steps = 1e-4 * np.append(scaled._distances(estimate), np.ones(len(estimate.eta)))
    by_theta = scaled.differenced(estimate, steps)
    templates = criterion.base.working(split_theta(A.terms, estimate.theta))
    x = np.append(criterion.base.pack(templates), estimate.eta)
    rows = [
        (criterion(x + d).gradient - criterion(x - d).gradient) / 2e-5
        for d in 1e-5 * np.eye(len(x))
    ]
    J = block_diag(*scaled._moves(at), np.eye(len(estimate.eta)))
    size = np.abs(by_theta).max()
    np.testing.assert_allclose(J.T @ np.array(rows) @ J, by_theta, atol=1e-6 * size)


def test_average_information_stands_in_for_that_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _fit("(1 | g)", n=4000, strata=12)
    exact = scaled.parameter_covariance(result.estimate)
    monkeypatch.setattr(scaled, "MANY", 10)
    monkeypatch.setattr(scaled, "LONG", 10)
    close = scaled.parameter_covariance(result.estimate)
    np.testing.assert_allclose(np.sqrt(np.diag(close) / np.diag(exact)), 1.0, atol=0.02)
    assert not np.array_equal(close, exact)
    monkeypatch.setattr(scaled, "MANY", 40)
    np.testing.assert_array_equal(scaled.parameter_covariance(result.estimate), exact)
