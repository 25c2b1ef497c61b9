"""Models with auxiliary predictors beside glmmTMB's and ordinal's fits, and their verbs."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

import interlace
from glmm.cases import golden, load, spelled
from interlace import InterlaceError, families
from interlace.diagnostics.general import quantile_residuals
from interlace.model.drawn import law_at

OWLS = "calls ~ ft * sex + offset(logBroodSize) + (1 | Nest)"
SLEEP = "Reaction ~ Days + (1 | Subject)"
MODELS = {
    "glmm_zip_owls": (OWLS, "owls", {"family": "poisson", "zero_inflation": "~ 1"}),
    "glmm_zinb2_owls": (OWLS, "owls", {"family": "negative-binomial", "zero_inflation": "~ 1"}),
    "glmm_hurdle_owls": (
        OWLS,
        "owls",
        {"family": "truncated-poisson", "zero_inflation": "~ ft"},
    ),
    "glmm_truncpois_owls": (
        "calls ~ ft + sex + atime + (1 | Nest)",
        "owls",
        {"family": "truncated-poisson"},
    ),
    "glmm_tweedie_owls": (
        "NegPerChick ~ ft + sex + atime + (1 | Nest)",
        "owls",
        {"family": "tweedie"},
    ),
    "glmm_betabinomial_clutch": (
        "hatched ~ food + temp + (1 | nest)",
        "clutch",
        {"family": "beta-binomial", "trials": "eggs"},
    ),
    "glmm_t5_sleep": (SLEEP, "sleep_g", {"family": families.StudentT(5.0)}),
    "glmm_t_sleep": (SLEEP, "sleep_g", {"family": "student-t"}),
    "clmm_wine_logit": (
        "rating ~ temp * contact + (1 | judge)",
        "wine_x",
        {"family": "ordinal"},
    ),
    "clmm_wine_probit": (
        "rating ~ temp + contact + (1 | judge)",
        "wine_x",
        {"family": "ordinal", "link": "probit"},
    ),
    "clmm_wine_two_crossed_probit": (
        "rating ~ contact + (1 | judge) + (1 | bottle)",
        "wine_x",
        {"family": "ordinal", "link": "probit"},
    ),
    "clmm_wine_two_terms": (
        "rating ~ temp + contact + (1 | judge) + (1 | judge:temp)",
        "wine_x",
        {"family": "ordinal"},
    ),
}
LEVELS = {"food": ["low", "mid", "high"], "rating": ["r1", "r2", "r3", "r4", "r5"]}
# Parameters of the families in glmmTMB's and the own implementation's names, as they are reported.
REPORTED = {
    "zero-inflation": lambda g: g["zero_inflation"]["estimate"]["(Intercept)"],
    "size": lambda g: g["sigma_glmmTMB"],
    "precision": lambda g: g["sigma_glmmTMB"],
    "dispersion": lambda g: g["sigma_glmmTMB"],
    "power": lambda g: 1.0 + expit(g["family_parameters"][0]),
    "scale": lambda g: np.exp(g["fits"]["nAGQ_1"]["estimate"]["log_scale"]),
    "df": lambda g: np.exp(g["fits"]["nAGQ_1"]["estimate"]["log_df"]),
}


def data_of(name):
    data = load(name).copy()
    for column in set(LEVELS) & set(data):
        data[column] = pd.Categorical(data[column], LEVELS[column], ordered=column == "rating")
    return data


@functools.cache
def fitted(file, quadrature=1):
    formula, name, options = MODELS[file]
    data = data_of(name)
    if file == "glmm_truncpois_owls":
        data = data[data["calls"] > 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return interlace.fit(formula, data, quadrature=quadrature, **options)


def named(name):
    for column, levels in {"food": ["mid", "high"], "temp": ["warm"], "contact": ["yes"]}.items():
        for level in levels:
            name = name.replace(f"{column}{level}", f"{column}[T.{level}]")
    return spelled(name)


def coefficients(result, estimate, se):
    """Differences in standard errors, and ratios of these, of the coefficients named alike."""
    names = {named(k): k for k in estimate if named(k) in result.fe_params.index}
    assert set(names) == set(result.fe_params.index)
    own, errors = result.fe_params[list(names)], result.fe_bse[list(names)]
    value = np.array([estimate[k] for k in names.values()])
    error = np.array([se[k] for k in names.values()])
    return np.abs((own - value) / error).max(), np.abs(errors / error - 1.0).max()


@pytest.mark.parametrize("file", MODELS)
def test_estimates_are_the_reference_s(file):
    result, g = fitted(file), golden(file)
    fit = g.get("conditional") or g["fits"]["nAGQ_1"]
    value = g["minus2logLik"] if "minus2logLik" in g else -2.0 * fit["logLik"]
    assert result.converged
    assert abs(result.criterion - value) < 1e-6
    difference, ratio = coefficients(result, fit["estimate"], fit["se"])
    assert difference < 1e-5
    assert ratio < 1e-4
    assert result.convergence.n_evaluations <= 16


@pytest.mark.parametrize("file", [f for f in MODELS if f.startswith("glmm")])
def test_parameters_of_the_family_are_the_reference_s(file):
    result, g = fitted(file), golden(file)
    parts, estimate = result.estimate.problem.parts, result.estimate
    values = parts.reported(estimate.family_coefficients)
    if file == "glmm_hurdle_owls":
        zeros = g["zero_inflation"]
        np.testing.assert_allclose(values, list(zeros["estimate"].values()), rtol=1e-5)
        table = result.component_table()
        np.testing.assert_allclose(table["se"], list(zeros["se"].values()), rtol=1e-4)
        return
    for name, value in zip(parts.names, values, strict=True):
        assert value == pytest.approx(REPORTED[name](g), rel=1e-5)


@pytest.mark.parametrize("file", [f for f in MODELS if f.startswith("clmm")])
def test_thresholds_and_probabilities_are_the_reference_s(file):
    result, g = fitted(file), golden(file)
    fit = g["fits"]["nAGQ_1"]
    assert list(result.thresholds.index) == [k for k in fit["estimate"] if "|" in k]
    value, se = (np.array([fit[k][n] for n in result.thresholds.index]) for k in ("estimate", "se"))
    assert np.abs((result.thresholds - value) / se).max() < 1e-5
    np.testing.assert_allclose(result.component_table()["se"], se, rtol=1e-4)
    at = np.array(g["obs_index_1based"]) - 1
    for include, name in ((True, "laplace"), (False, "population")):
        found = result.predict(include_re=include, type="probability")
        assert list(found.columns) == LEVELS["rating"]
        np.testing.assert_allclose(
            found.to_numpy()[at], g[f"fitted_probabilities_{name}"], atol=2e-6
        )
    likeliest = result.predict(type="category")
    probable = result.predict(type="probability").to_numpy().argmax(axis=1)
    assert (likeliest == np.array(LEVELS["rating"])[probable]).all()


@pytest.mark.parametrize("file", MODELS)
def test_modes_and_their_conditional_deviations_are_the_reference_s(file):
    result, g = fitted(file), golden(file)
    table = g.get("ranef") or g["ranef_laplace"]
    if "grpvar" not in table:
        table = pd.concat([pd.DataFrame(t).assign(grpvar=k) for k, t in table.items()])
    table = pd.DataFrame({k: v for k, v in dict(table).items() if k != "note"})
    for group, part in table.groupby("grpvar"):
        sd = part["cond_sd"].to_numpy()
        modes, se = result.random_effects[group][part["grp"]], result.random_effects_se[group]
        assert np.abs((modes.to_numpy() - part["mode"]) / sd).max() < 1e-5
        np.testing.assert_allclose(se[part["grp"]], sd, rtol=1e-5)


@pytest.mark.parametrize("file", [f for f in MODELS if "owls" in f or "clutch" in f])
def test_predictions_of_new_rows_are_glmm_tmb_s(file):
    result, p = fitted(file), golden(file)["predict"]
    new = pd.DataFrame(p["newdata"])
    known = np.array(p["rows_known"]) - 1
    link = result.predict(new, type="link", se=True)
    np.testing.assert_allclose(link["prediction"], p["link"], rtol=1e-5)
    np.testing.assert_allclose(link["se"].iloc[known], np.array(p["link_se_glmmTMB"])[known], 1e-4)
    response = result.predict(new, se=True)
    np.testing.assert_allclose(response["prediction"], p["response"], rtol=1e-5)
    errors = np.array(p["response_se_glmmTMB"])[known]
    np.testing.assert_allclose(response["se"].iloc[known], errors, rtol=2e-4)
    population = result.predict(new, include_re=False)
    np.testing.assert_allclose(population, p["response_population"], rtol=1e-5)


@pytest.mark.parametrize("file", [f for f in MODELS if "owls" in f or "clutch" in f])
def test_rows_are_glmm_tmb_s(file):
    result, rows = fitted(file), golden(file)["rows"]
    at = np.array(rows["obs_index_1based"]) - 1
    np.testing.assert_allclose(result.fittedvalues[at], rows["fitted_response"], rtol=1e-5)
    np.testing.assert_allclose(result.resid[at], rows["resid_response"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("file", ["clmm_wine_logit", "clmm_wine_probit", "glmm_t_sleep"])
@pytest.mark.parametrize("nodes", [5, 9])
def test_quadrature_is_the_reference_s(file, nodes):
    fits = golden(file)["fits"]
    if f"nAGQ_{nodes}" not in fits:
        pytest.skip("no reference")
    fit = fits[f"nAGQ_{nodes}"]
    result = fitted(file, nodes)
    assert abs(result.llf - fit["logLik"]) < 1e-6
    assert coefficients(result, fit["estimate"], fit["se"])[0] < 1e-5


# ------------------------------------------------------------------ laws


@pytest.mark.parametrize("file", MODELS)
def test_drawn_responses_have_the_expected_means(file):
    result = fitted(file)
    drawn = result.simulate(400, seed=1, include_re=True)
    trials = result.estimate.problem.trials if result.options.trials else 1.0
    mean = (drawn.T / trials).T.mean(axis=1)
    error = (drawn.T / trials).T.std(axis=1) / 20.0
    z = (mean - result.fittedvalues) / np.maximum(error, 1e-12)
    assert np.abs(z).max() < 6.0
    assert abs(z.mean()) < 6.0 / np.sqrt(len(z))


@pytest.mark.parametrize("file", MODELS)
def test_quantile_residuals_of_drawn_responses_are_normal(file):
    result = fitted(file)
    law = law_at(result, result.estimate.eta)
    rng = np.random.default_rng(3)
    found = np.concatenate([quantile_residuals(law, law.draw(rng), rng) for _ in range(8)])
    assert stats.kstest(found, "norm").pvalue > 1e-4


def test_numbers_and_categories_are_the_same_ordered_response():
    data = data_of("wine_x")
    data["number"] = data["rating"].cat.codes + 3
    a = fitted("clmm_wine_logit")
    b = interlace.fit("number ~ temp * contact + (1 | judge)", data, family="ordinal")
    assert a.llf == b.llf
    assert list(b.thresholds.index) == ["3|4", "4|5", "5|6", "6|7"]
    np.testing.assert_allclose(a.fittedvalues + 2.0, b.fittedvalues)
    assert b.refit(data["number"]).llf == pytest.approx(b.llf, abs=1e-8)
    assert set(np.unique(b.simulate(3, seed=1))) <= {3.0, 4.0, 5.0, 6.0, 7.0}


def test_coefficients_do_not_depend_on_where_columns_have_their_zero():
    data = data_of("wine_x")
    data["x"] = np.arange(len(data)) % 7 + 0.1 * np.arange(len(data))
    data["far"] = data["x"] + 1e6
    near, far = (
        interlace.fit(f"rating ~ {name} + (1 | judge)", data, family="ordinal")
        for name in ("x", "far")
    )
    assert far.llf == pytest.approx(near.llf, abs=1e-7)
    assert far.fe_params["far"] == pytest.approx(near.fe_params["x"], rel=1e-5)
    shift = 1e6 * near.fe_params["x"]
    np.testing.assert_allclose(far.thresholds, near.thresholds + shift, rtol=1e-5)


def test_a_dispersion_model_is_its_family_where_the_formula_is_constant():
    plain = interlace.fit(OWLS, load("owls"), family="negative-binomial")
    same = plain.update(dispersion="~ 1")
    assert same.llf == pytest.approx(plain.llf, abs=1e-8)
    by = plain.update(dispersion="~ ft")
    assert by.llf > plain.llf
    assert list(by.component_table().index) == [("size", "Intercept"), ("size", "ft[T.Satiated]")]
    assert np.isnan(by.dispersion)
    moved = plain.update(dispersion="~ 0 + ft")
    assert moved.llf == pytest.approx(by.llf, abs=1e-7)


# ------------------------------------------------------------------ limits and messages


def test_zeros_that_the_family_expects_leave_none_in_excess():
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"g": np.repeat(np.arange(20), 12)})
    data["y"] = rng.binomial(4, expit(0.5 * rng.normal(size=20))[data["g"]])  # fewer than Poisson
    assert (data["y"] == 0).any()
    plain = interlace.fit("y ~ 1 + (1 | g)", data, family="poisson")
    more = plain.update(zero_inflation="~ 1")
    assert more.converged
    assert more.llf == pytest.approx(plain.llf, abs=1e-5)
    assert "No zeros in excess are left" in str(more.summary())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "ordinal"}, "have no order: make it an ordered categorical"),
        ({"family": "poisson", "zero_inflation": "ft"}, "zero_inflation must be a formula"),
        (
            {"family": "poisson", "zero_inflation": "~ (1 | Nest)"},
            "has random effects, which only the mean",
        ),
        ({"family": "poisson", "dispersion": "~ ft"}, "dispersion= needs a family with"),
        ({"family": "gamma"}, "zero_inflation='~ 1' all of them"),
        ({"family": "truncated-poisson"}, "a truncated response counts from 1"),
        ({"family": "student-t", "zero_inflation": "~ 1"}, "zero_inflation= needs counts"),
        ({"family": "beta-binomial"}, "'beta-binomial' needs trials="),
        ({"zero_inflation": "~ 1"}, "zero_inflation= is for other families"),
        (
            {"family": "negative-binomial", "dispersion": "~ ft + I(2 * (ft == 'Satiated'))"},
            "linearly dependent",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(options, message):
    response = "ft" if options.get("family") == "ordinal" else "calls"
    with pytest.raises(InterlaceError, match=message.replace("(", r"\(")):
        interlace.fit(f"{response} ~ sex + (1 | Nest)", load("owls"), **options)


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (lambda r: r.r2(), "are not defined"),
        (lambda r: r.residuals("deviance"), "is not defined"),
        (lambda r: r.predict(interval="prediction"), "ask for type='probability'"),
        (lambda r: r.zero_inflation, "without zero_inflation="),
    ],
)
def test_what_ordered_categories_do_not_have_is_refused(verb, message):
    with pytest.raises(InterlaceError, match=message):
        verb(fitted("clmm_wine_logit"))


@pytest.mark.parametrize(
    "options",
    [
        {"family": "poisson", "zero_inflation": "~ 1"},
        {"family": "negative-binomial", "dispersion": "~ ft"},
    ],
)
def test_models_of_several_parameters_have_power(options):
    result = interlace.fit("calls ~ ft + (1 | Nest)", load("owls"), **options)
    table = result.power(n=4, sizes={"Nest": [10]}, seed=1).table
    assert table["n"].tolist() == [4] and table["Nest"].tolist() == [10]
    assert table["n_failed"].tolist() == [0]


# ------------------------------------------------------------------ other models of the same rows


def test_tests_of_random_effects_keep_what_zeros_and_dispersion_depend_on():
    data = load("owls")
    result = interlace.fit(
        "calls ~ ft + (1 | Nest) + (1 | tb)",
        data,
        family="negative-binomial",
        zero_inflation="~ ft",
        dispersion="~ sex",
    )
    less = result.update("calls ~ ft + (1 | Nest)")
    table = result.ranova()
    assert table.loc["(1 | tb)", "LRT"] == pytest.approx(2.0 * (result.llf - less.llf), abs=1e-5)
    assert table.loc["(1 | tb)", "npar"] == less.nparams == result.nparams - 1


def test_tests_of_random_effects_keep_thresholds():
    table = fitted("clmm_wine_two_terms").ranova()
    less = fitted("clmm_wine_two_terms").update("rating ~ temp + contact + (1 | judge)")
    assert table.loc["(1 | judge:temp)", "logLik"] == pytest.approx(less.llf, abs=1e-6)
    # Without random effects a cumulative model, fitted here by its likelihood alone.
    from_none = fitted("clmm_wine_logit").ranova()
    assert from_none.loc["(1 | judge)", "LRT"] > 0.0
    assert from_none.loc["(1 | judge)", "Df"] == 1.0


@pytest.mark.parametrize("file", ["clmm_wine_logit", "glmm_hurdle_owls"])
def test_cases_are_drawn_with_all_their_columns(file):
    result = fitted(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = result.bootstrap(6, kind="cases", seed=4)
    values = found.replicates.to_numpy()
    assert np.isfinite(values).all(axis=1).sum() >= 4


def test_zeros_in_excess_are_tested_by_the_ratio_of_likelihoods():
    inflated = fitted("glmm_zip_owls")
    plain = inflated.update(zero_inflation=None)
    by_food = inflated.update(zero_inflation="~ ft")
    found = interlace.anova(plain, inflated, by_food)
    ratio = found.table["Chisq"]
    assert ratio.iloc[1] == pytest.approx(2.0 * (inflated.llf - plain.llf))
    assert ratio.iloc[2] == pytest.approx(2.0 * (by_food.llf - inflated.llf))
    assert list(found.table["Df"].iloc[1:]) == [1, 1]
    assert "differ in zeros in excess, whose share is then at its bound" in str(found)
    assert len([n for n in found.notes if "in excess" in n]) == 1
    table = interlace.compare(plain, inflated)
    assert table["delta_AIC"].iloc[1] == 0.0
    assert "by method ." not in str(table)
    hurdle = fitted("glmm_hurdle_owls")
    with pytest.raises(InterlaceError, match="neither is part of the other"):
        interlace.anova(plain, hurdle)


def ordered_by(x, seed):
    """Three categories of rows in groups, of which those with x = 1 are all in the highest."""
    rng = np.random.default_rng(seed)
    g = np.arange(len(x)) % 12
    latent = 0.5 * rng.normal(size=12)[g] + rng.logistic(size=len(x))
    y = np.where(x == 1, 2, np.digitize(latent, [-1.0, 0.5]))
    return pd.DataFrame({"g": g, "x": x, "z": rng.normal(size=len(x)), "y": y + 1})


@pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")
def test_separated_categories_are_named():
    x = np.random.default_rng(1).integers(0, 2, 120)
    data = ordered_by(x, 1)
    with pytest.warns(interlace.SeparationWarning, match=r"separated along 'x': its coefficient"):
        result = interlace.fit("y ~ x + z + (1 | g)", data, family="ordinal")
    assert [one.name for one in result.separated] == ["x"]
    assert result.separated[0].sign == 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", interlace.SeparationWarning)
        held = interlace.fit("y ~ x + z + (1 | g)", data, family="ordinal", fixed_prior=3.0)
        data.loc[data.index[x == 1][0], "y"] = 1
        near = interlace.fit("y ~ x + z + (1 | g)", data, family="ordinal")
    assert 0.0 < held.fe_params["x"] < 10.0
    assert near.separated == ()
