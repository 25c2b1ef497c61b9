"""Power of generalised models, against simulations by hand and what is known."""

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError
from interlace.design.formula import parse
from interlace.glmm.names import family_of
from interlace.inference.power.beside import of_fit, of_words
from interlace.inference.power.general import GeneralDesigns
from interlace.inference.power.simulate import template_from, template_of
from interlace.inference.power.truth import Truth, truth_of
from interlace.model.fitted import Options
from interlace.model.outcomes import component_texts


def design(groups=16, rows=4):
    g = np.repeat(np.arange(groups), rows)
    return pd.DataFrame({"g": g, "x": np.tile(np.arange(rows) % 2, groups), "n": 3, "e": 2.0})


SAID = {"fixed": {"Intercept": 0.2, "x": 0.4}, "random": {"g": 0.5}, "test": "x"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "draw"),
    [
        ({"family": "binomial"}, lambda rng, eta: rng.binomial(1, 1 / (1 + np.exp(-eta)))),
        (
            {"family": "binomial", "trials": "n", "link": "probit"},
            lambda rng, eta: rng.binomial(3, 0.5 + 0.5 * np.tanh(0.8 * eta + 0.036 * eta**3)),
        ),
        (
            {"family": "poisson", "exposure": "e"},
            lambda rng, eta: rng.poisson(2.0 * np.exp(eta)),
        ),
        (
            {"family": "negative-binomial", "dispersion": 1.5},
            lambda rng, eta: rng.negative_binomial(1.5, 1.5 / (1.5 + np.exp(eta))),
        ),
        (
            {"family": "gamma", "dispersion": 2.0, "link": "log"},
            lambda rng, eta: rng.gamma(0.5, np.exp(eta) / 0.5),
        ),
    ],
    ids=["yes or no", "trials", "exposure", "negative binomial", "gamma"],
)
@pytest.mark.filterwarnings("ignore")
def test_shares_are_those_of_simulations_by_hand(options, draw):
    """Shares of significant tests in other draws of the same truth, within 4 standard errors."""
    d, n = design(), 60
    found = interlace.power("y ~ x + (1 | g)", d, n=n, seed=1, **SAID, **options).table
    rng, hits = np.random.default_rng(5), 0
    arguments = {k: v for k, v in options.items() if k != "dispersion"}
    for _ in range(n):
        b = 0.5 * rng.standard_normal(16)
        y = draw(rng, 0.2 + 0.4 * d["x"].to_numpy() + b[d["g"]])
        result = interlace.fit("y ~ x + (1 | g)", d.assign(y=y), **arguments)
        hits += result.fe_pvalues["x"] < 0.05
    share = (hits / n + found["power"][0]) / 2.0
    error = np.sqrt(2.0 * share * (1.0 - share) / n)
    assert abs(found["power"][0] - hits / n) < 4.0 * error
    assert found["n_failed"][0] <= 2


@pytest.mark.parametrize(
    ("options", "dispersion", "mean"),
    [
        ({"family": "binomial", "trials": "n"}, None, lambda eta: 3.0 / (1.0 + np.exp(-eta))),
        ({"family": "poisson", "exposure": "e"}, None, lambda eta: 2.0 * np.exp(eta)),
        ({"family": "negative-binomial"}, 4.0, np.exp),
        ({"family": "gamma", "link": "inverse"}, 4.0, lambda eta: 1.0 / eta),
        ({"family": "beta"}, 4.0, lambda eta: 1.0 / (1.0 + np.exp(-eta))),
        ({"family": "gaussian", "link": "log"}, 4.0, np.exp),
        ({"family": "beta-binomial", "trials": "n"}, 4.0, lambda eta: 3 / (1 + np.exp(-eta))),
        ({"family": "student-t"}, {"scale": 0.5, "df": 4.0}, lambda eta: eta),
        ({"family": "tweedie"}, {"dispersion": 0.5, "power": 1.4}, np.exp),
        ({"family": "poisson", "zeros": 0.3}, None, lambda eta: 0.7 * np.exp(eta)),
        ({"family": "gamma", "link": "log", "zeros": 0.3}, 0.5, lambda eta: 0.7 * np.exp(eta)),
    ],
    ids=lambda one: " ".join(map(str, one.values())) if isinstance(one, dict) else "",
)
def test_responses_have_the_means_that_are_said(options, dispersion, mean):
    formula, d, options = "y ~ x + (1 | g)", design(), dict(options)
    zeros = options.pop("zeros", None)
    given = {name: options.get(name) for name in ("weights", "offset", "trials", "exposure")}
    template = template_from(parse(f"{formula}"), d, **given)
    told = Truth({"Intercept": 0.3, "x": 0.4}, {("g", ("Intercept",)): np.zeros((1, 1))}, 1.0)
    asked = Options(formula, method="ML", **options)
    family, beside = of_words(family_of(asked.family, asked.link), dispersion, zeros)
    study = GeneralDesigns(template, told, beside, family, asked).study("x", {})
    rng = np.random.default_rng(1)
    drawn = np.array([study.drawn(rng) for _ in range(3000)])
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    expected = mean(0.3 + 0.4 * d["x"].to_numpy())
    assert (np.abs(drawn.mean(axis=0) - expected) < 5.0 * error).all()


def fit():
    rng, d = np.random.default_rng(2), design()
    eta = 0.2 + 0.8 * d["x"] + 0.5 * rng.standard_normal(16)[d["g"]]
    return interlace.fit("y ~ x + (1 | g)", d.assign(y=rng.poisson(np.exp(eta))), family="poisson")


def test_a_fit_is_the_truth_of_its_own_power():
    result = fit()
    told = dict(result.fe_params)
    spread = {"g": float(np.sqrt(result.variance_components["g"]))}
    d = design()
    described = interlace.power(
        "y ~ x + (1 | g)", d, told, spread, test="x", n=20, family="poisson", seed=3
    )
    pd.testing.assert_frame_equal(result.power("x", 20, seed=3).table, described.table)
    truth = truth_of(result.estimate, 1.0)
    assert truth.templates["g", ("Intercept",)][0, 0] == pytest.approx(spread["g"])


def test_more_levels_and_larger_effects_have_more_power():
    result = fit()
    none = result.power("x", 30, effects={"x": 0.0}, seed=1).table["power"][0]
    few, many = result.power("x", 30, effects={"x": 0.5}, sizes={"g": [8, 32]}, seed=1).table[
        "power"
    ]
    assert none < 0.25 and few < many and many > 0.8
    again = result.power("x", 30, effects={"x": 0.0}, seed=1).table["power"][0]
    assert none == again
    assert "Tests at the level 0.05 (normal)" in repr(result.power("x", 2, seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": 1.0}, "sigma= belongs to family='gaussian'"),
        ({"ddf": "satterthwaite"}, "ddf= belongs to family='gaussian'"),
        ({"method": "REML"}, "method= belongs to family='gaussian'"),
        ({"dispersion": 2.0}, "has no parameter beside the mean"),
        ({"family": "negative-binomial"}, "give dispersion=, the size"),
        ({"family": "negative-binomial", "dispersion": -1.0}, "must be a positive number"),
        ({"family": "gaussian"}, "give sigma"),
        ({"family": "gaussian", "sigma": 1.0, "trials": "n"}, "trials= belongs to other families"),
        ({"trials": "n"}, "trials= belongs to family='binomial'"),
        ({"fixed": {"Intercept": 0.0}}, "give a value for the coefficient 'x'"),
        ({"link": "sqrt", "fixed": {"Intercept": -2.0, "x": 0.0}}, "link='sqrt' gives no mean"),
        ({"test": "z"}, "no coefficient or term 'z'"),
        ({"quadrature": 0}, "quadrature must be a number of nodes"),
        ({"zero_inflation": 1.0}, "zero_inflation must be a share above 0 and below 1: 1.0"),
        (
            {"family": "student-t", "dispersion": 1.0},
            r"has several parameters beside the mean, scale and df: give dispersion=\{'scale': ..,",
        ),
        ({"family": "student-t", "dispersion": {"scale": 1.0}}, "for the parameter 'df'"),
        (
            {"family": "student-t", "dispersion": {"scale": 1.0, "df": 4.0, "size": 1.0}},
            "family='student-t' has no parameter 'size'",
        ),
        (
            {"family": "tweedie", "dispersion": {"dispersion": 1.0, "power": 2.5}},
            "must be a number above 1 and below 2, not 2.5, for the power",
        ),
        ({"family": "ordinal"}, "thresholds: give dispersion={'low|mid': -1, 'mid|high': 1}"),
        (
            {"family": "ordinal", "dispersion": {"a|b": -1.0, "c|d": 1.0}},
            "thresholds are named by the categories on both sides, in order",
        ),
    ],
)
def test_what_is_refused(changes, message):
    given = {"family": "poisson", "n": 5, **SAID, **changes}
    with pytest.raises(InterlaceError, match=message):
        interlace.power("y ~ x + (1 | g)", design(), **given)


def test_responses_that_cannot_be_fitted_count_as_not_significant():
    found = interlace.power(
        "y ~ x + (1 | g)",
        design(4, 2),
        {"Intercept": -5.0, "x": 0.0},
        {"g": 0.1},
        test="x",
        n=20,
        family="poisson",
        seed=1,
    ).table
    assert found["n_failed"][0] > 5 and found["power"][0] == 0.0


def categories(groups=12, rows=6):
    """Ordered answers to a question, without an intercept."""
    rng, d = np.random.default_rng(6), design(groups, rows)
    eta = 0.9 * d["x"] + 0.5 * rng.standard_normal(groups)[d["g"]] + rng.logistic(size=len(d))
    y = pd.Categorical.from_codes(np.digitize(eta, [-0.8, 0.9]), list("abc"), ordered=True)
    return d.assign(y=y, z=np.tile([0.0, 1.0, 1.0], len(d) // 3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"family": "ordinal"},
        {"family": "poisson", "zero_inflation": "~ z"},
        {"family": "negative-binomial", "dispersion": "~ z"},
        {"family": "beta-binomial", "trials": "n"},
        {"family": "student-t"},
        {"family": "poisson", "method": "REML"},
    ],
    ids=lambda one: " ".join(map(str, one.values())),
)
def test_every_family_has_power_of_its_own_draws(options):
    """A replicate is the fit of a response drawn; sizes have rows, zeros and categories alike."""
    d = categories(24)
    if options["family"] != "ordinal":
        rng = np.random.default_rng(3)
        eta = 0.5 + 0.5 * d["x"] + 0.4 * rng.standard_normal(24)[d["g"]]
        mean = np.exp(eta.to_numpy())
        y = rng.poisson(mean * rng.gamma(2.0, 0.5, len(d))).astype(float)
        y = np.minimum(y, 3.0) if "trials" in options else y
        d = d.assign(y=eta + rng.standard_t(5.0, len(d)) if "student-t" in options.values() else y)
    result = interlace.fit("y ~ x + (1 | g)", d, **options)
    found = result.power("x", 6, sizes={"g": [12, 24]}, seed=2).table
    assert (found["n_failed"] <= 2).all() and found["g"].tolist() == [12, 24]
    designs = of_result_study(result)
    rng = np.random.default_rng(1)
    y = np.mean([designs.drawn(rng) for _ in range(400)])
    assert y == pytest.approx(np.mean(result.simulate(400, seed=1)), abs=0.25 * np.std(y) + 0.2)


def of_result_study(result):
    """The design of the fit, as its power has it."""
    texts = component_texts(result.options, result.family)
    template = template_of(result, ("trials", "exposure"), list(texts.values()))
    truth, beside = truth_of(result.estimate, 1.0), of_fit(result)
    return GeneralDesigns(template, truth, beside, result.family, result.options).study("x", {})


def test_thresholds_and_zeros_are_described():
    d = design()
    found = interlace.power(
        "y ~ x + (1 | g)",
        d,
        {"x": 1.5},
        {"g": 0.4},
        test="x",
        n=40,
        family="ordinal",
        dispersion={"low|mid": -0.5, "mid|high": 1.0},
        seed=1,
    ).table
    assert found["power"][0] > 0.5 and found["n_failed"][0] <= 2
    given = {**SAID, "fixed": {"Intercept": 1.5, "x": 0.8}}
    shares = [
        interlace.power("y ~ x + (1 | g)", d, n=40, family="poisson", seed=1, **given, **more).table
        for more in ({}, {"zero_inflation": 0.5})
    ]
    assert shares[0]["power"][0] > shares[1]["power"][0]
