"""Checks of generalised models find what is wrong, and nothing where nothing is."""

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from glmm.cases import CASES, fitted
from interlace import InterlaceError

INDEX = {case.file: i for i, case in enumerate(CASES)}


@pytest.fixture(scope="module")
def poisson():
    """A Poisson fit of responses that are Poisson."""
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"g": np.repeat(np.arange(40), 12), "x": rng.normal(size=480)})
    eta = 0.4 + 0.3 * data["x"] + 0.5 * rng.normal(size=40)[data["g"]]
    data["y"] = rng.poisson(np.exp(eta))
    return interlace.fit("y ~ x", data, groups="g", family="poisson")


def test_nothing_is_found_where_the_family_is_right(poisson):
    found = interlace.check_dispersion(poisson)
    assert 0.8 < found["ratio"]["pearson"] < 1.2
    assert (found["p"] > 0.01).all()
    assert (interlace.check_residuals(poisson)["p"] > 0.005).all()
    zeros = interlace.check_zeros(poisson).table.iloc[0]
    assert zeros["p"] > 0.01 and 0.7 < zeros["ratio"] < 1.4
    assert interlace.check_separation(poisson)["limit"].isna().all()
    assert poisson.update(family="negative-binomial").dispersion > 10


def test_dispersion_beside_a_poisson_model(poisson):
    nb = poisson.update(family="negative-binomial")
    found = interlace.check_dispersion(nb)
    gain = max(2.0 * (nb.llf - poisson.llf), 0.0)
    assert found["ratio"]["poisson"] == pytest.approx(gain, abs=1e-5)
    assert "family='poisson' fits as well" in str(found)


def test_overdispersion_and_zeros_are_found():
    owls = fitted(INDEX["glmm_poisson_offset_owls"])
    found = interlace.check_dispersion(owls)
    assert found["p"]["pearson"] < 1e-10 and "Overdispersion" in repr(found)
    zeros = interlace.check_zeros(owls).table.iloc[0]
    y, mean = owls.estimate.problem.y, owls.fittedvalues
    assert zeros["observed"] == (y == 0).sum()
    assert zeros["expected"] == pytest.approx(np.exp(-mean).sum())
    assert zeros["p"] < 0.05
    assert "zeros" in str(interlace.check_residuals(owls))
    nb = fitted(INDEX["glmm_nbinom2_owls"])
    size = nb.dispersion
    expected = ((size / (size + nb.fittedvalues)) ** size).sum()
    assert interlace.check_zeros(nb)["expected"]["zeros"] == pytest.approx(expected)
    assert interlace.check_dispersion(nb)["p"]["poisson"] < 1e-10


def test_pearson_s_statistic_has_the_degrees_of_freedom_that_the_leverages_leave():
    result = fitted(0)
    row = interlace.check_dispersion(result).table.loc["pearson"]
    hat = result.augment()[".hat"].sum()
    assert row["df"] == pytest.approx(result.nobs - hat)
    assert row["ratio"] == pytest.approx((result.residuals("pearson") ** 2).sum() / row["df"])


def test_separated_rows_and_levels_that_are_all_alike_are_named():
    data = interlace.datasets.load("cbpp")
    data.loc[data["period"] == "4", "incidence"] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = interlace.fit(
            "incidence ~ period", data, groups="herd", family="binomial", trials="size"
        )
    found = interlace.check_separation(result)
    assert found["limit"]["period[T.4]"] == -np.inf
    assert found["limit"].drop("period[T.4]").isna().all()
    assert "Without a finite estimate: period[T.4]" in str(found)
    alike = (data["incidence"].eq(0).groupby(data["herd"], observed=True).all()).sum()
    if alike:
        assert f"{alike} of 15 levels of 'herd' are all 0." in found.notes


def test_laplace_beside_quadrature():
    result = fitted(0)
    found = interlace.check_approximation(result, nodes=9)
    exact = result.update(quadrature=9)
    np.testing.assert_allclose(found["quadrature"].iloc[:4], exact.fe_params, atol=1e-6)
    assert found["quadrature"]["log-likelihood"] == pytest.approx(exact.llf, abs=1e-7)
    assert found["laplace"]["log-likelihood"] == pytest.approx(result.llf)
    again = interlace.check_approximation(exact)
    np.testing.assert_allclose(again["laplace"].iloc[:4], result.fe_params, atol=1e-6)
    assert "<table" in found._repr_html_()


@pytest.mark.parametrize(
    ("verb", "index", "message"),
    [
        ("check_zeros", "glmm_gamma_sleep", "family='gamma' has none"),
        ("check_approximation", "grouseticks.glmm", "needs one grouping factor"),
    ],
)
def test_what_is_refused(verb, index, message):
    with pytest.raises(InterlaceError, match=message):
        getattr(interlace, verb)(fitted(INDEX[index]))


def test_linear_models_are_refused_in_words():
    linear = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff"), groups="Batch")
    for verb in ("dispersion", "zeros", "separation", "approximation"):
        with pytest.raises(InterlaceError, match=f"check_{verb} is made for generalised models"):
            getattr(interlace, f"check_{verb}")(linear)
    with pytest.raises(InterlaceError, match="nodes must be a whole number"):
        interlace.check_approximation(fitted(0), nodes=1)
