"""Autocorrelation and semivariogram of residuals against loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError, StructuredLMEResult


@pytest.fixture(scope="module")
def result() -> StructuredLMEResult:
    frame = interlace.datasets.load("orthodont").drop(index=[1, 5, 6, 50])
    return interlace.fit("distance ~ age", frame, residual="ar1(age | Subject)")


@pytest.mark.parametrize("kind", ["normalized", "pearson"])
def test_autocorrelation_is_the_mean_of_products(result: StructuredLMEResult, kind: str) -> None:
    r = result.normalized_resid if kind == "normalized" else result.pearson_resid
    at = result.places
    found = interlace.autocorrelation(result, residuals=kind)
    for lag in (1, 2, 3):
        products = [
            r[i] * r[j]
            for i in range(len(r))
            for j in range(len(r))
            if at.subjects[i] == at.subjects[j] and at.visits[j] - at.visits[i] == lag
        ]
        assert found.loc[lag, "pairs"] == len(products)
        assert found.loc[lag, "acf"] == pytest.approx(np.mean(products) / np.mean(r**2))


def test_semivariogram_is_half_the_mean_squared_difference(result: StructuredLMEResult) -> None:
    r, at = result.pearson_resid, result.places
    ages = np.array([8.0, 10.0, 12.0, 14.0])[at.visits]
    found = interlace.semivariogram(result, residuals="Pearson")
    for _, row in found.iterrows():
        half = [
            0.5 * (r[i] - r[j]) ** 2
            for i in range(len(r))
            for j in range(i)
            if at.subjects[i] == at.subjects[j] and abs(ages[i] - ages[j]) == row["distance"]
        ]
        assert row["pairs"] == len(half)
        assert row["semivariance"] == pytest.approx(np.mean(half))


def test_numbers_are_those_of_nlme() -> None:
    """``ACF``, ``Variogram`` and ``intervals`` of nlme 3.1-162 for the same model."""
    orthodont = interlace.datasets.load("orthodont")
    result = interlace.fit("distance ~ age", orthodont, residual="ar1(age | Subject)")
    found = interlace.autocorrelation(result, residuals="pearson")["acf"]
    np.testing.assert_allclose(found, [0.6775992, 0.7149952, 0.6157975], rtol=1e-5)
    found = interlace.autocorrelation(result)["acf"]
    np.testing.assert_allclose(found, [-0.2383373, 0.4650098, 0.1330827], rtol=1e-5)
    found = interlace.semivariogram(result, residuals="pearson")["semivariance"]
    np.testing.assert_allclose(found, [0.2973327, 0.2726335, 0.4007459], rtol=1e-5)
    rho = result.tidy("ran_pars", conf_int=True).set_index("term").loc["rho"]
    np.testing.assert_allclose(
        [rho["conf.low"], rho["estimate"], rho["conf.high"]],
        [0.542309, 0.6984056, 0.8078961],
        rtol=3e-5,
    )


def test_many_distances_are_put_into_classes() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"id": np.repeat(np.arange(40), 4), "t": rng.uniform(0, 9, 160)})
    frame["y"] = rng.normal(size=160) + np.repeat(rng.normal(size=40), 4)
    result = interlace.fit("y ~ 1", frame, residual="car1(t | id)")
    found = interlace.semivariogram(result)
    assert len(found) == 20 and found["pairs"].sum() == 240
    assert found["distance"].is_monotonic_increasing


def test_figures(result: StructuredLMEResult) -> None:
    for figure in (
        interlace.plot_autocorrelation(result),
        interlace.plot_semivariogram(result, residuals="pearson"),
    ):
        figure.draw()
    for other in (interlace.plot_qq(result), interlace.plot_resid(result, standardized=True)):
        assert other is not None
    assert result.plot() is not None


def test_other_models_are_refused() -> None:
    plain = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff"), groups="Batch")
    with pytest.raises(InterlaceError, match="models fitted with residual="):
        interlace.autocorrelation(plain)  # type: ignore[arg-type]
