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


@pytest.mark.parametrize("residual", ["varident(s)", "varpower(z)", "varexp(z)"])
def test_degrees_of_freedom_are_those_of_matrices(residual: str) -> None:
    """Satterthwaite's, from differences of the restricted likelihood of all rows at once."""
    frame = _frame(160, 3).assign(z=np.random.default_rng(2).uniform(0.5, 3.0, 160))
    formula = "y ~ x + (1 | g) + (1 | h)"
    result = interlace.fit(formula, frame, residual=residual, ddf="satterthwaite")
    estimate = result.estimate
    X, y = result.design.fixed(estimate.A.names), frame["y"].to_numpy()
    B = np.asarray(estimate.criterion.scales.todense())
    same = [frame[k].to_numpy()[:, None] == frame[k].to_numpy() for k in ("g", "h")]
    sizes = [np.log(float(result.variance_components[k])) for k in ("g", "h")]
    at = np.concatenate((sizes, estimate.eta, [2.0 * np.log(estimate.sigma)]))

    def covariance(v: np.ndarray) -> np.ndarray:
        noise = np.diag(np.exp(v[-1] + 2.0 * B @ v[2:-1]))
        return np.exp(v[0]) * same[0] + np.exp(v[1]) * same[1] + noise

    def criterion(v: np.ndarray) -> float:
        L = np.linalg.cholesky(covariance(v))
        Xs, ys = np.linalg.solve(L, X), np.linalg.solve(L, y)
        C = Xs.T @ Xs
        e = ys - Xs @ np.linalg.solve(C, Xs.T @ ys)
        constant = (len(y) - X.shape[1]) * np.log(2.0 * np.pi)
        return 2.0 * np.log(np.diag(L)).sum() + np.linalg.slogdet(C)[1] + e @ e + constant

    def variances(v: np.ndarray) -> np.ndarray:
        return np.diag(np.linalg.inv(X.T @ np.linalg.solve(covariance(v), X)))

    assert criterion(at) == pytest.approx(result.criterion, abs=1e-8)
    h = 1e-3
    steps, f = h * np.eye(len(at)), criterion
    H = [
        [(f(at + a + b) - f(at + a - b) - f(at - a + b) + f(at - a - b)) for b in steps]
        for a in steps
    ]
    A = 2.0 * np.linalg.inv(np.array(H) / (4.0 * h**2))
    g = np.array([(variances(at + a) - variances(at - a)) / (2.0 * h) for a in steps])
    known = 2.0 * variances(at) ** 2 / np.einsum("kc,kl,lc->c", g, A, g)
    np.testing.assert_allclose(result.fe_df, known, rtol=1e-5)
