"""Fits against lme4's and glmmTMB's, polished; provenance in reference/glmm/README.md."""

import numpy as np
import pandas as pd
import pytest

from glmm.cases import CASES, SIGMA, SIGN, fitted, golden, ids, numbers, of_quadrature, spelled


def close_fit(result, expected):
    value, fixed, se, random, _, _ = expected
    assert result.converged
    assert abs(result.criterion - value) < 1e-6
    names = [spelled(name) for name in fixed]
    errors = np.array(list(se.values()))
    difference = result.fe_params[names].to_numpy() - np.array(list(fixed.values()))
    assert np.abs(difference / errors).max() < 1e-5
    np.testing.assert_allclose(result.fe_bse[names], errors, rtol=1e-4)
    for key, sd in random.items():
        component = result.variance_components[key or next(iter(result.variance_components))]
        own = np.sqrt(np.diag(component)) if np.ndim(component) else [component**0.5]
        np.testing.assert_allclose(own, sd, rtol=0, atol=1e-5)


@pytest.mark.parametrize("index", range(len(CASES)), ids=ids(CASES))
def test_estimates_are_the_reference_s(index):
    case, result = CASES[index], fitted(index)
    expected = numbers(case.file)
    close_fit(result, expected)
    sigma = expected[4]
    if result.family.auxiliary and "fits" not in golden(case.file):
        found = SIGMA.get(result.family.name, lambda s: s)(sigma)
        assert result.dispersion == pytest.approx(found, rel=1e-5)
    for key, corr in expected[5].items():
        if len(corr) == 2:
            C = result.variance_components[key].to_numpy()
            assert C[0, 1] / np.sqrt(C[0, 0] * C[1, 1]) == pytest.approx(corr[0][1], abs=1e-5)
    assert result.convergence.n_evaluations <= 10


@pytest.mark.parametrize("index", range(len(CASES)), ids=ids(CASES))
def test_modes_and_their_conditional_deviations_are_the_reference_s(index):
    result, g = fitted(index), golden(CASES[index].file)
    tables = g.get("ranef") or g["ranef_laplace"]
    if "grpvar" not in tables:
        tables = pd.concat([pd.DataFrame(t).assign(grpvar=k) for k, t in tables.items()])
    table = pd.DataFrame({k: v for k, v in dict(tables).items() if k != "note"})
    table["term"] = table.get("term", pd.Series("(Intercept)", index=table.index))
    for (group, term), part in table.groupby(["grpvar", "term"]):
        modes, se = result.random_effects[group], result.random_effects_se[group]
        if modes.ndim == 2:
            modes, se = modes[spelled(term)], se[spelled(term)]
        levels = part["grp"].astype(str)
        sd = part["cond_sd"].to_numpy()
        difference = modes.set_axis(modes.index.astype(str))[levels].to_numpy() - part["mode"]
        assert np.abs(difference / sd).max() < 1e-5
        np.testing.assert_allclose(se.set_axis(se.index.astype(str))[levels], sd, rtol=1e-5)


@pytest.mark.parametrize("index", range(len(CASES)), ids=ids(CASES))
def test_rows_are_the_reference_s(index):
    result, g = fitted(index), golden(CASES[index].file)
    rows = g.get("rows", g)
    at = np.array(rows["obs_index_1based"]) - 1
    np.testing.assert_allclose(result.predict(type="link")[at], rows["linear_predictor"], rtol=1e-5)
    mean = rows.get("fitted") or rows["mean_conditional"]
    np.testing.assert_allclose(result.fittedvalues[at], mean, rtol=1e-5)
    np.testing.assert_allclose(result.resid[at], rows["resid_response"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("index", [0, 1])
def test_predictions_of_new_rows_are_lme4_s(index):
    result, p = fitted(index), golden(CASES[index].file)["predict"]
    new = pd.DataFrame(p["newdata"])
    for name, options in {
        "link_re_form_NULL": {"type": "link"},
        "link_re_form_NA": {"type": "link", "include_re": False},
        "response_re_form_NULL": {},
    }.items():
        np.testing.assert_allclose(result.predict(new, **options), p[name], rtol=2e-5)


@pytest.mark.parametrize(
    ("index", "nodes"), [(i, nodes) for i, case in enumerate(CASES) for nodes in case.quadrature]
)
def test_quadrature_is_the_reference_s(index, nodes):
    g = golden(CASES[index].file)
    result = fitted(index, nodes)
    expected = of_quadrature((g.get("agq") or g)["fits"][f"nAGQ_{nodes}"])
    close_fit(result, expected)
    if expected[4] is not None and result.family.name != "inverse-gaussian":
        log = SIGN.get(result.family.name, 1.0) * np.log(result.dispersion)
        assert log == pytest.approx(expected[4], abs=1e-5)


def test_quadrature_at_lme4_s_optimum_has_its_absolute_likelihood():
    g = golden("cbpp_agq9.glmm")
    result = fitted(0, 9)
    assert abs(result.llf - g["loglik_absolute"]["nAGQ_9"]) < 1e-6
    names = [spelled(name) for name in g["fixef"]]
    np.testing.assert_allclose(result.fe_params[names], list(g["fixef"].values()), atol=3e-6)


@pytest.mark.parametrize("index", range(len(CASES)), ids=ids(CASES))
def test_covariances_tests_and_criteria_are_the_reference_s(index):
    result, g = fitted(index), golden(CASES[index].file)
    if "fits" in g:
        assert result.nparams == len(g["fits"]["nAGQ_1"]["estimate"])
        return
    part = g.get("conditional", g)
    table = result.coef_table()
    names = [spelled(name) for name in part["z"]]
    np.testing.assert_allclose(table.loc[names, "statistic"], list(part["z"].values()), rtol=1e-4)
    np.testing.assert_allclose(
        table.loc[names, "p"], list(part["p"].values()), rtol=5e-3, atol=1e-12
    )
    vcov = part.get("vcov") or part["vcov_hessian"]
    values = np.array(vcov["values"])
    own = result.cov_params().loc[names, names].to_numpy()
    size = np.sqrt(np.outer(np.diag(own), np.diag(own)))
    assert np.abs((own - values) / size).max() < 2e-4
    assert result.nparams == g["npar"]
    assert result.aic == pytest.approx(g["AIC"], abs=1e-5)
    assert result.bic == pytest.approx(g["BIC"], abs=1e-5)


CANONICAL = [
    i
    for i, case in enumerate(CASES)
    if "lme4" in golden(case.file) and golden(case.file)["link"] in ("logit", "log")
    if golden(case.file)["family"].lower().split("(")[0] in ("binomial", "poisson")
]


@pytest.mark.parametrize("index", CANONICAL, ids=[CASES[i].file for i in CANONICAL])
def test_with_canonical_links_lme4_agrees_too(index):
    """To what its optimum and the differences of its Hessian are worth."""
    result, g = fitted(index), golden(CASES[index].file)["lme4"]
    names = [spelled(name) for name in g["fixef"]]
    assert abs(result.criterion - g["minus2logLik"]) < 1e-5
    np.testing.assert_allclose(result.fe_params[names], list(g["fixef"].values()), atol=1e-4)
    np.testing.assert_allclose(result.fe_bse[names], list(g["se_hessian"].values()), rtol=1e-2)
    np.testing.assert_allclose(np.sort(result.theta), np.sort(list(g["theta"].values())), atol=1e-4)


def test_modes_rows_and_residuals_by_quadrature_are_lme4_s():
    g, result = golden("cbpp_agq9.glmm"), fitted(0, 9)
    names = [spelled(name) for name in g["se"]]
    np.testing.assert_allclose(result.fe_bse[names], list(g["se"].values()), rtol=1e-4)
    assert result.theta == pytest.approx(g["theta"]["herd.(Intercept)"], abs=1e-5)
    effects, own = g["ranef"], result.random_effects["herd"]
    modes = own.set_axis(own.index.astype(str))[effects["grp"]]
    np.testing.assert_allclose(modes, effects["mode"], atol=2e-5)
    sd = result.random_effects_se["herd"].set_axis(own.index.astype(str))[effects["grp"]]
    np.testing.assert_allclose(sd, effects["cond_sd"], rtol=1e-4)
    at = np.array(g["obs_index_1based"]) - 1
    np.testing.assert_allclose(result.fittedvalues[at], g["fitted"], rtol=1e-4)
    np.testing.assert_allclose(result.predict(type="link")[at], g["linear_predictor"], rtol=1e-4)
    for kind in ("deviance", "pearson", "response"):
        np.testing.assert_allclose(
            result.residuals(kind)[at], g[f"resid_{kind}"], rtol=1e-3, atol=2e-5
        )
    new, p = pd.DataFrame(g["predict"]["newdata"]), g["predict"]
    np.testing.assert_allclose(result.predict(new), p["response_re_form_NULL"], rtol=1e-4)
    alone = result.predict(new, False, type="link")
    np.testing.assert_allclose(alone, p["link_re_form_NA"], rtol=1e-4)
    more = fitted(0, 50)
    assert abs(more.llf - g["loglik_absolute"]["nAGQ_50"]) < 1e-4
