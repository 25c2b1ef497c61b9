"""Tests of terms, comparisons of models and explained variance of generalised models."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from scipy.special import polygamma

import interlace
from glmm.cases import CASES, fitted, golden, load
from interlace import InterlaceError
from interlace.families import NegativeBinomial

WITH_LRT = [i for i, c in enumerate(CASES) if "lrt" in golden(c.file)]
INDEX = {case.file: i for i, case in enumerate(CASES)}


def reduced(index):
    case, g = CASES[index], golden(CASES[index].file)["lrt"]
    formula = f"{case.formula.split('~')[0]}~{g['reduced'].split('~')[1]}"
    return interlace.fit(formula, load(case.data), **case.options)


@pytest.mark.parametrize("index", WITH_LRT, ids=[CASES[i].file for i in WITH_LRT])
def test_likelihood_ratios_are_the_reference_s(index):
    expected, whole = golden(CASES[index].file)["lrt"], fitted(index)
    table = interlace.anova(whole, reduced(index), names=["whole", "part"])
    assert table["Chisq"]["whole"] == pytest.approx(expected["chisq"], abs=1e-6)
    assert table["Df"]["whole"] == expected["df"]
    assert table["p"]["whole"] == pytest.approx(expected["p"], rel=1e-5)
    assert table["logLik"]["part"] == pytest.approx(expected["logLik_reduced"], abs=1e-6)


def test_terms_are_tested_by_chi_squared():
    result = fitted(6)
    for type in (2, 3, "III"):
        table = result.anova(type)
        assert list(table.columns) == ["Chisq", "Df", "p"]
        assert list(table.index) == ["Days", "grp", "Days:grp"]
    interaction = [n for n in result.fe_params.index if ":" in n]
    wald = result.wald_test([f"{n} = 0" for n in interaction])
    assert table.loc["Days:grp", "Chisq"] == pytest.approx(wald.statistic * 2)
    assert table.loc["Days:grp", "p"] == pytest.approx(wald.p_value)
    with pytest.raises(InterlaceError, match="type=1 tests terms in turn"):
        result.anova(1)
    with pytest.raises(InterlaceError, match="type"):
        result.anova(4)


def test_random_terms_are_tested_against_fits_without_them():
    result = fitted(1)
    table = result.ranova()
    assert list(table.index) == ["<none>", "(1 | BROOD)", "(1 | INDEX)", "(1 | LOCATION)"]
    smaller = interlace.fit(
        "TICKS ~ YEAR + cHEIGHT + (1 | INDEX) + (1 | LOCATION)",
        load("data/grouseticks"),
        family="poisson",
    )
    lrt = 2.0 * (result.llf - smaller.llf)
    assert table.loc["(1 | BROOD)", "LRT"] == pytest.approx(lrt, abs=1e-6)
    assert table.loc["(1 | BROOD)", "p"] == pytest.approx(0.5 * stats.chi2.sf(lrt, 1))
    assert table.loc["(1 | BROOD)", "reference"] == "half chi-squared(0), half chi-squared(1)"


def test_slopes_are_tested_with_their_correlation():
    result = fitted(7)
    table = result.ranova()
    plain = result.update("Reaction ~ Days + (1 | Subject)")
    lrt = 2.0 * (result.llf - plain.llf)
    row = table.loc["Days in (1 + Days | Subject)"]
    assert row["LRT"] == pytest.approx(lrt, abs=1e-6) and row["Df"] == 2
    assert row["p"] == pytest.approx(0.5 * (stats.chi2.sf(lrt, 1) + stats.chi2.sf(lrt, 2)))
    assert row["p_chi2"] == pytest.approx(stats.chi2.sf(lrt, 2))


def test_independent_columns_are_dropped_one_by_one():
    data = load("sleep_g")
    result = interlace.fit("Reaction ~ Days + (Days || Subject)", data, family="gamma")
    table = result.ranova()
    assert list(table["Df"][1:]) == [1, 1]
    plain = result.update("Reaction ~ Days + (1 | Subject)")
    assert table["logLik"].iloc[-1] == pytest.approx(plain.llf, abs=1e-7)


def test_without_random_effects_a_generalised_linear_model_is_left():
    """Against its likelihood maximised directly."""
    for index in (0, 6, 10):
        result = fitted(index)
        problem = result.estimate.problem

        def deviance(x, problem=problem):
            beta, gamma = x[: problem.rows.p], x[problem.rows.p :]
            curve = problem.curve(problem.fixed_part(beta), problem.omega(gamma))
            return -2.0 * (curve.l.sum() + problem.constant)

        start = np.concatenate((result.estimate.at.beta, result.estimate.at.gamma))
        found = optimize.minimize(deviance, start, method="BFGS", options={"gtol": 1e-6})
        assert result.ranova()["logLik"].iloc[1] == pytest.approx(-0.5 * found.fun, abs=1e-5)


def test_a_variance_of_zero_is_no_evidence():
    data = pd.DataFrame({"g": np.repeat(np.arange(10), 8), "y": [1, 2, 3, 2, 1, 3, 2, 2] * 10})
    with pytest.warns(interlace.SingularFitWarning):
        result = interlace.fit("y ~ 1", data, groups="g", family="poisson")
    row = result.ranova().iloc[1]
    assert row["LRT"] == pytest.approx(0.0, abs=1e-6) and row["p"] > 0.4


def test_what_cannot_be_tested_against_each_other():
    poisson, nb2, nb1 = (
        fitted(INDEX[f"glmm_{n}_owls"]) for n in ("poisson_offset", "nbinom2", "nbinom1")
    )
    with pytest.raises(InterlaceError, match=r"model 1 is of family='poisson' .* AIC side by side"):
        interlace.anova(poisson, nb2)
    with pytest.raises(InterlaceError, match=r"\(kind=1\)"):
        interlace.anova(nb2, nb1)
    cbpp = fitted(0)
    with pytest.raises(InterlaceError, match="link='probit'"):
        interlace.anova(cbpp, cbpp.update(link="probit"))
    with pytest.raises(InterlaceError, match="quadrature=1 and quadrature=5"):
        interlace.anova(cbpp, cbpp.update(quadrature=5))
    with pytest.raises(InterlaceError, match="different responses"):
        interlace.anova(cbpp, poisson)
    linear = interlace.fit("size ~ period", load("data/cbpp"), groups="herd")
    for verb in (interlace.anova, interlace.compare):
        with pytest.raises(InterlaceError, match="a linear model and a generalised one"):
            verb(cbpp, linear)
    with pytest.raises(InterlaceError, match="is the same model"):
        interlace.anova(cbpp, cbpp)
    doubled = load("data/cbpp").assign(size=lambda d: d["size"] + 1)
    other = interlace.fit(
        "incidence ~ period", doubled, groups="herd", family="binomial", trials="size"
    )
    with pytest.raises(InterlaceError, match=r"different (values|trials)"):
        interlace.anova(cbpp, other)


def test_families_are_compared_by_their_criteria():
    models = [fitted(INDEX[f"glmm_{n}_owls"]) for n in ("poisson_offset", "nbinom2", "nbinom1")]
    table = interlace.compare(*models).table
    np.testing.assert_allclose(table["AIC"], [m.aic for m in models])
    assert list(table["family"]) == [m.family.name for m in models]
    assert table["weight"].sum() == pytest.approx(1.0)
    assert "all constants" in str(interlace.compare(*models))


@pytest.mark.parametrize(
    "file", ["glmm_cloglog_cbpp", "glmm_logit_weights_cbpp", "glmm_probit_cbpp"]
)
def test_latent_shares_are_performance_s(file):
    result, g = fitted(INDEX[file]), golden(file)
    r2, icc = result.r2(), result.icc()
    assert r2.marginal == pytest.approx(g["r2_nakagawa"]["marginal"], rel=1e-5)
    assert r2.conditional == pytest.approx(g["r2_nakagawa"]["conditional"], rel=1e-5)
    assert icc.adjusted == pytest.approx(g["icc"]["adjusted"], rel=1e-5)
    assert icc.unadjusted == pytest.approx(g["icc"]["unadjusted"], rel=1e-5)
    assert r2.method == icc.method == "latent" and "by latent" in repr(r2)


def test_the_observation_variances_of_nakagawa_johnson_and_schielzeth():
    """Their table of formulas, at the mean of the rows averaged over the random effects."""
    poisson, nb2, nb1, gamma = (
        fitted(INDEX[f"glmm_{n}"])
        for n in ("poisson_crossed_owls", "nbinom2_owls", "nbinom1_owls", "gamma_sleep")
    )
    for result, squared in (
        (poisson, lambda m, a: 1 / m),
        (nb2, lambda m, a: 1 / m + 1 / a),
        (nb1, lambda m, a: (1 + a) / m),
        (gamma, lambda m, a: a),
    ):
        mean = result.predict(include_re="integrated").mean()
        cv2 = squared(mean, result.dispersion)
        assert result.r2("delta").var_residual == pytest.approx(cv2)
        assert result.r2().var_residual == pytest.approx(np.log1p(cv2))
        assert result.r2("trigamma").var_residual == pytest.approx(polygamma(1, 1 / cv2))
        assert result.r2().method == "lognormal"
        with pytest.raises(InterlaceError, match="method='latent' is the variance"):
            result.icc("latent")
    p = fitted(0).predict(include_re="integrated").mean()
    assert fitted(0).r2("delta").var_residual == pytest.approx(1 / (p * (1 - p)))


def test_shares_that_are_not_defined_are_refused():
    cbpp = fitted(0)
    with pytest.raises(InterlaceError, match="method='lognormal' takes the response as"):
        cbpp.r2("lognormal")
    with pytest.raises(InterlaceError, match="method must be one of 'latent', 'lognormal'"):
        cbpp.r2("theoretical")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cauchit = cbpp.update(link="cauchit")
    with pytest.raises(InterlaceError, match="link='cauchit': use method='delta'"):
        cauchit.r2("latent")
    assert cauchit.r2().method == "delta"


def test_a_negative_binomial_of_kind_1_is_a_family_of_its_own():
    result = fitted(INDEX["glmm_nbinom1_owls"])
    assert result.family == NegativeBinomial(kind=1)
    assert result.ranova()["Df"].iloc[1] == 1
