"""Tables of generalised models: tidy, glance, augment, summaries with ratios."""

import pickle

import numpy as np
import pandas as pd
import pytest

import interlace
from glmm.cases import CASES, fitted, golden, load
from interlace import InterlaceError
from interlace.glmm.leverage import Leverage

EVERY = pytest.mark.parametrize("index", range(len(CASES)), ids=[c.file for c in CASES])


@EVERY
def test_tidy_has_the_coefficients_and_their_exponentials(index):
    result = fitted(index)
    plain = result.tidy(conf_int=True)
    np.testing.assert_array_equal(plain["estimate"], result.fe_params)
    assert list(plain.columns[:3]) == ["effect", "term", "estimate"]
    ratios = result.tidy(conf_int=True, exponentiate=True)
    np.testing.assert_allclose(ratios["estimate"], np.exp(result.fe_params))
    np.testing.assert_allclose(ratios["std.error"], np.exp(result.fe_params) * result.fe_bse)
    np.testing.assert_allclose(ratios["conf.low"], np.exp(plain["conf.low"]))
    np.testing.assert_array_equal(ratios["p.value"], plain["p.value"])
    assert set(result.tidy("all")["effect"]) == {"fixed", "ran_pars", "ran_vals"}


@EVERY
def test_errors_of_standard_deviations_are_the_reference_s(index):
    result, g = fitted(index), golden(CASES[index].file)
    if "parameters" not in g:
        pytest.skip("lme4 states none")
    table = pd.DataFrame(g["parameters"])
    found = result.tidy("ran_pars").set_index("term")
    log_sd = table[table.iloc[:, 0].astype(str).str.startswith("theta")]
    errors = found.loc[found.index.str.startswith("sd__")]
    k = len(errors)
    own = (errors["std.error"] / errors["estimate"]).to_numpy()
    np.testing.assert_allclose(np.sort(own), np.sort(log_sd["se"].to_numpy()[:k]), rtol=3e-4)
    if result.family.auxiliary:
        own = found.loc[result.family.auxiliary]
        expected = table[table.iloc[:, 0].astype(str).str.startswith("betad")]["se"].to_numpy()
        if result.family.name != "gaussian":
            assert own["std.error"] / own["estimate"] == pytest.approx(expected[0], rel=1e-4)


@EVERY
def test_hat_values_are_those_of_the_working_linear_model(index):
    result = fitted(index)
    estimate = result.estimate
    if result.nobs > 250:
        pytest.skip("dense")
    rows, at, W = estimate.problem.rows, estimate.at, estimate.evaluation.mode.curve.W
    blocks = []
    for term, codes, Z, T in zip(rows.terms, rows.codes, rows.Z, at.templates, strict=True):
        Z = np.ones((rows.n, 1)) if Z is None else Z
        block = np.zeros((rows.n, term.l, term.k))
        block[np.arange(rows.n), codes] = Z @ T
        blocks.append(block.reshape(rows.n, -1))
    ZL = np.hstack(blocks)
    R = np.hstack([ZL, rows.X])
    penalty = np.diag([1.0] * ZL.shape[1] + [0.0] * rows.p)
    H = R @ np.linalg.solve(R.T @ (W[:, None] * R) + penalty, R.T * W)
    np.testing.assert_allclose(Leverage(estimate.evaluation).overall, np.diag(H), rtol=1e-8)
    np.testing.assert_allclose(result.augment()[".hat"], np.diag(H), rtol=1e-8)


@EVERY
def test_augment_and_glance_say_what_the_result_says(index):
    case, result = CASES[index], fitted(index)
    table = result.augment()
    np.testing.assert_array_equal(table[".fitted"], result.fittedvalues)
    np.testing.assert_array_equal(table[".resid"], result.resid)
    np.testing.assert_array_equal(table[".pearson"], result.residuals("pearson"))
    new = load(case.data).head(7)
    again = result.augment(new)
    np.testing.assert_allclose(again[".fitted"], result.fittedvalues[:7])
    np.testing.assert_allclose(again[".fixed"], result.predict(new, include_re=False))
    row = result.glance().iloc[0]
    assert row["logLik"] == result.llf and row["AIC"] == result.aic
    assert row["df.residual"] == result.nobs - result.nparams
    g = golden(case.file)
    if "deviance_residual" in g:
        assert row["deviance"] == pytest.approx(g["deviance_residual"], rel=1e-6)
    assert row["family"] == result.family.name and row["link"] == result.link.name


def test_augment_after_pickling_and_the_columns_that_a_fit_reads():
    result = fitted(0)
    assert {"size", "incidence", "herd", "period"} <= set(result.augment().columns)
    again = pickle.loads(pickle.dumps(result)).augment()
    np.testing.assert_allclose(again[".fitted"], result.fittedvalues)


@pytest.mark.parametrize(
    ("index", "title"),
    [(0, "Odds ratios"), (1, "Rate ratios"), (3, "Hazard ratios"), (6, "Ratios of means")],
)
def test_ratios_on_request(index, title):
    result = fitted(index)
    assert title not in str(result.summary())
    text = str(result.summary(ratios=True))
    assert title in text
    table = result.summary(ratios=True).tables[-1]
    names = [name for name in result.fe_params.index if name != "Intercept"]
    assert [row[0] for row in table.rows] == names
    np.testing.assert_allclose(
        [float(row[1]) for row in table.rows], np.exp(result.fe_params[names]), rtol=1e-3
    )
    assert all(len(line) <= 100 for line in text.splitlines())
    assert title in result.summary(ratios=True)._repr_html_()
    assert "<table" in result._repr_html_()


def test_ratios_are_refused_where_they_mean_nothing():
    with pytest.raises(InterlaceError, match="ratios need a logit, cloglog or log link"):
        fitted(5).summary(ratios=True)


def test_errors_at_a_variance_of_zero_are_missing():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"g": np.repeat(np.arange(10), 8), "y": rng.poisson(2.0, 80)})
    data["y"] = np.tile([1, 2, 3, 2, 1, 3, 2, 2], 10)
    with pytest.warns(interlace.SingularFitWarning):
        result = interlace.fit("y ~ 1", data, groups="g", family="poisson")
    found = result.tidy("ran_pars").iloc[0]
    assert found["estimate"] < 1e-3 and np.isnan(found["std.error"])
