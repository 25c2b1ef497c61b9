"""Fits against lme4's and glmmTMB's, polished; provenance in reference/glmm/README.md."""

import functools
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.families import NegativeBinomial

HERE = Path(__file__).parent.parent / "reference"


@dataclass(frozen=True)
class Case:
    """A model, as `fit` takes it, and its golden file."""

    file: str
    data: str
    formula: str
    options: dict[str, object]
    quadrature: tuple[int, ...] = ()


LOGIT = {"family": "binomial", "trials": "size"}
NB2, NB1 = {"family": "negative-binomial"}, {"family": NegativeBinomial(kind=1)}
OWLS = "calls ~ ft * sex + offset(logBroodSize) + (1 | Nest)"
NODES = (5, 9, 25)
CASES = [
    Case("cbpp_laplace.glmm", "data/cbpp", "incidence ~ period + (1 | herd)", LOGIT),
    Case(
        "grouseticks.glmm",
        "data/grouseticks",
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        {"family": "poisson"},
    ),
    Case("glmm_beta_cbpp", "cbpp_x", "ybeta ~ period + (1 | herd)", {"family": "beta"}, (5, 9)),
    Case(
        "glmm_cloglog_cbpp",
        "cbpp_x",
        "prop ~ period + (1 | herd)",
        {**LOGIT, "link": "cloglog"},
        NODES,
    ),
    Case("glmm_logit_weights_cbpp", "cbpp_x", "prop ~ period + (1 | herd)", LOGIT, NODES),
    Case(
        "glmm_probit_cbpp",
        "cbpp_x",
        "incidence ~ period + (1 | herd)",
        {**LOGIT, "link": "probit"},
        (5, 9),
    ),
    Case(
        "glmm_gamma_sleep",
        "sleep_g",
        "Reaction ~ Days * grp + (1 | Subject)",
        {"family": "gamma"},
        NODES,
    ),
    Case(
        "glmm_gamma_slope_sleep",
        "sleep_g",
        "Reaction ~ Days + (Days | Subject)",
        {"family": "gamma"},
    ),
    Case(
        "glmm_invgauss_sleep",
        "sleep_g",
        "Reaction ~ Days + (1 | Subject)",
        {"family": "inverse-gaussian"},
        NODES,
    ),
    Case("glmm_nbinom1_owls", "owls", OWLS, NB1),
    Case("glmm_nbinom2_owls", "owls", OWLS, NB2, (5,)),
    Case(
        "glmm_poisson_crossed_owls",
        "owls",
        "calls ~ ft + sex + (1 | Nest) + (1 | tb)",
        {"family": "poisson"},
    ),
    Case("glmm_poisson_offset_owls", "owls", OWLS, {"family": "poisson"}, NODES),
]
# The auxiliary parameter from glmmTMB's sigma, and the sign of its logarithm in quadrature files.
SIGMA = {"gamma": lambda s: s**2}
SIGN = {"gamma": -1.0}


@functools.cache
def load(name):
    folder = HERE if "/" in name else HERE / "glmm" / "data"
    factors = ["herd", "period", "BROOD", "INDEX", "LOCATION", "YEAR"]
    return pd.read_csv(folder / f"{name}.csv", dtype=dict.fromkeys(factors, str))


@functools.cache
def golden(file):
    return json.loads((HERE / "glmm" / "golden" / f"{file}.json").read_text())


@functools.cache
def fitted(index, quadrature=1):
    case = CASES[index]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return interlace.fit(case.formula, load(case.data), quadrature=quadrature, **case.options)


def numbers(file):
    """-2 log-likelihood, coefficients, standard errors, s.d. by group, auxiliary parameter."""
    g = golden(file)
    if "conditional" in g:
        fixed, random = g["conditional"], {k: v["sd"] for k, v in g["random"].items()}
        corr = {k: v["corr"]["values"] for k, v in g["random"].items()}
        return g["minus2logLik"], fixed["estimate"], fixed["se"], random, g["sigma_glmmTMB"], corr
    if "fits" in g:
        return of_quadrature(g["fits"]["nAGQ_1"])
    random = {part["group"]: part["sd"] for part in g["varcorr"]}
    return g["minus2logLik"], g["fixef"], g["se"], random, None, {}


def of_quadrature(fit):
    """The same of a fit by quadrature."""
    extra = {k: v for k, v in fit["estimate"].items() if k.startswith("log_")}
    fixed = {k: v for k, v in fit["estimate"].items() if k not in extra}
    se = {k: fit["se"][k] for k in fixed}
    group = next((k.split(".")[1] for k in extra if "." in k), None)
    sd = next(v for k, v in extra.items() if k.startswith("log_sd"))
    log = extra.get("log_dispersion")
    return -2.0 * fit["logLik"], fixed, se, {group: [np.exp(sd)]}, log, {}


def spelled(name):
    """R's name of a coefficient in formulaic's spelling."""
    if name == "(Intercept)":
        return "Intercept"
    known = "period|YEAR|ft|sex|grp"
    parts = [re.sub(rf"^({known})(?=.)(.+)$", r"\1[T.\2]", part) for part in name.split(":")]
    return ":".join(parts)


def ids(cases):
    return [case.file for case in cases]


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
