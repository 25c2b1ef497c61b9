"""REML, dispersion models, zeros and truncated counts beside glmmTMB's fits of wider.json."""

import functools
import re
import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from glmm.cases import golden, load
from interlace import families

GOLDEN = golden("wider")
CASES = [name for name in GOLDEN if name != "versions"]
FAMILIES = {
    "binomial()": {"family": "binomial"},
    'binomial("probit")': {"family": "binomial", "link": "probit"},
    "poisson()": {"family": "poisson"},
    "nbinom2()": {"family": "negative-binomial"},
    "nbinom1()": {"family": families.NegativeBinomial(kind=1)},
    'Gamma("log")': {"family": "gamma"},
    'ziGamma("log")': {"family": "gamma"},
    'gaussian("log")': {"family": "gaussian", "link": "log"},
    "beta_family()": {"family": "beta"},
    "betabinomial()": {"family": "beta-binomial"},
    'betabinomial("cloglog")': {"family": "beta-binomial", "link": "cloglog"},
    "tweedie()": {"family": "tweedie"},
    "truncated_poisson()": {"family": "truncated-poisson"},
    "truncated_nbinom2()": {"family": "truncated-negative-binomial"},
    "truncated_nbinom1()": {"family": families.Truncated(families.NegativeBinomial(kind=1))},
}
FACTORS = {"food": ["low", "mid", "high"], "period": ["p1", "p2", "p3", "p4"]}
# Of the coefficients of log dispersions, in the own parameter: glmmTMB's are of another.
SIGNS = {"gamma": -1.0}


def data_of(case):
    name = case["data"]
    data = load(name.removesuffix("_positive")).copy()
    rows = np.arange(1, len(data) + 1)
    if name.startswith("owls"):
        data["w"] = 1 + (rows % 3) / 2
    if name == "sleep_g":
        data["w"] = 1 + (rows % 4) / 4
    for column in set(FACTORS) & set(data):
        data[column] = pd.Categorical(data[column], FACTORS[column])
    return data[data["calls"] > 0] if name == "owls_positive" else data


def options_of(case):
    options = dict(FAMILIES[case["family"]])
    options |= {k: case[v] for k, v in (("zero_inflation", "zi"), ("dispersion", "disp"))}
    if options["zero_inflation"] == "~0":
        del options["zero_inflation"]
    if options["dispersion"] == "~1":
        del options["dispersion"]
    if case.get("weights"):
        options["weights"] = case["weights"]
    if trials := re.match(r"cbind\(\w+, (\w+) - \w+\)", case["formula"]):
        options["trials"] = trials[1]
    if case["REML"]:
        options["method"] = "REML"
    return options


@functools.cache
def fitted(name):
    case = GOLDEN[name]
    formula = re.sub(r"cbind\((\w+), .*?\) ~", r"\1 ~", case["formula"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return interlace.fit(formula, data_of(case), **options_of(case))


def spelled(name):
    if name == "(Intercept)":
        return "Intercept"
    known = "period|food|ft|sex|grp|half"
    parts = [re.sub(rf"^({known})(?=.)(.+)$", r"\1[T.\2]", part) for part in name.split(":")]
    return ":".join(parts)


def close(values, errors, part, sign=1.0):
    """Estimates to 1e-5 of their standard errors, and these to 1e-5 of themselves."""
    estimate, se = (np.array(part[k], dtype=float) for k in ("estimate", "se"))
    assert np.abs((np.asarray(values) - sign * estimate) / se).max() < 1e-5
    np.testing.assert_allclose(errors, se, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_criterion_and_coefficients_are_glmm_tmb_s(name):
    result, case = fitted(name), GOLDEN[name]
    assert result.converged
    assert result.criterion == pytest.approx(case["minus2logLik"], abs=1e-6)
    names = [spelled(one) for one in case["beta"]["names"]]
    assert set(names) == set(result.fe_params.index)
    close(result.fe_params[names], result.fe_bse[names], case["beta"])
    for group, part in case["random"].items():
        found = result.variance_components[group]
        sd = np.sqrt(np.diag(np.atleast_2d(found)))
        np.testing.assert_allclose(sd, part["sd"], rtol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_auxiliary_coefficients_are_glmm_tmb_s(name):
    result, case = fitted(name), GOLDEN[name]
    table = result.component_table()
    if part := case.get("zi_part"):
        names = [("zero-inflation", spelled(one)) for one in part["names"]]
        close(table.loc[names, "estimate"], table.loc[names, "se"], part)
    if (part := case.get("disp_part")) and "dispersion" in options_of(case):
        (component,) = set(table.index.get_level_values(0)) - {"zero-inflation"}
        names = [(component, spelled(one)) for one in part["names"]]
        sign = SIGNS.get(result.family.name, 1.0)
        close(table.loc[names, "estimate"], table.loc[names, "se"], part, sign)
