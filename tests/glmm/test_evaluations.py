"""How often the criterion is evaluated: few times, on real data and on hard ones."""

import numpy as np
import pandas as pd
import pytest

import interlace


def shipped(name):
    data = interlace.datasets.load(name)
    if name == "contraception":
        return data.assign(y=(data.use == "Y").astype(float))
    if name == "verbagg":
        return data.assign(y=(data.r2 == "Y").astype(float))
    if name == "insteval":
        return data.assign(y=(data.y > 3).astype(float))
    return data


ANSWERS = {"family": "binomial"}
VERBAGG = "y ~ Anger + Gender + btype + situ"
MODELS = {
    "cbpp": ("cbpp", "incidence ~ period + (1 | herd)", {**ANSWERS, "trials": "size"}, 10),
    "contraception": (
        "contraception",
        "y ~ age + I(age**2) + urban + livch + (1 | district)",
        ANSWERS,
        10,
    ),
    "grouseticks": (
        "grouseticks",
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        {"family": "poisson"},
        10,
    ),
    "verbagg": ("verbagg", f"{VERBAGG} + (1 | id) + (1 | item)", ANSWERS, 10),
    "verbagg, maximal": (
        "verbagg",
        f"{VERBAGG} + (btype | id) + (Anger | item)",
        ANSWERS,
        22,
    ),
}
VALUES = {
    "cbpp": 184.052563730,
    "contraception": 2372.728582364,
    "grouseticks": 1780.542660175,
    "verbagg": 8151.399719742,
    "verbagg, maximal": 7898.049260813,
}


@pytest.mark.filterwarnings("ignore:singular fit")
@pytest.mark.parametrize("name", MODELS)
def test_evaluations_of_known_fits(name):
    data, formula, options, most = MODELS[name]
    fit = interlace.fit(formula, shipped(data), **options)
    assert fit.converged and fit.convergence.n_evaluations <= most
    assert -2.0 * fit.llf == pytest.approx(VALUES[name], abs=1e-6)


@pytest.mark.slow
def test_evaluations_of_many_crossed_levels():
    fit = interlace.fit("y ~ service + (1 | s) + (1 | d)", shipped("insteval"), family="binomial")
    assert fit.converged and fit.convergence.n_evaluations <= 10
    assert -2.0 * fit.llf == pytest.approx(92829.043655902, abs=1e-6)


@pytest.mark.parametrize("rows", [3, 5, 8])
@pytest.mark.parametrize("seed", range(4))
def test_evaluations_of_answers_that_groups_nearly_decide(rows, seed):
    """Standard deviation 4 on the log odds, few rows a group."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(100), rows), rng.normal(size=100 * rows)
    eta = 0.5 * x + 4.0 * rng.normal(size=100)[g]
    y = (rng.random(len(x)) < 1.0 / (1.0 + np.exp(-eta))).astype(int)
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    fit = interlace.fit("y ~ x", data, groups="g", family="binomial")
    assert fit.converged and fit.convergence.n_evaluations <= 20
