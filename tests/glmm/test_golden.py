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
