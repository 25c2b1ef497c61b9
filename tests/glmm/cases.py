"""Reference fits of lme4 and glmmTMB: the models, their files, and fits of them."""

import functools
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

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
