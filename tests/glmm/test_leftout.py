"""Deletions, cross-validation and standard units of generalised models, against fits by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import interlace
from glmm.cases import CASES, fitted, load
from interlace import InterlaceError


def without(index, rows):
    """A fit without some rows of the data."""
    case = CASES[index]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return interlace.fit(case.formula, load(case.data)[~rows], **case.options)


@pytest.mark.parametrize("index", [0, 7, 10], ids=lambda i: CASES[i].file)
def test_deletions_are_fits_without_a_level(index):
    result, data = fitted(index), load(CASES[index].data)
    group = next(iter(result.ngroups))
    table = result.deletions(group)
    assert list(table.index) == list(result.random_effects[group].index)
    assert (table["note"] == "").all()
    for level in (table.index[0], table.index[-1]):
        again = without(index, (data[group].astype(str) == str(level)).to_numpy())
        p = len(again.fe_params)
        np.testing.assert_allclose(
            table.loc[level].iloc[:p].astype(float), again.fe_params, rtol=1e-4, atol=1e-5
        )
        sd = float(np.sqrt(np.asarray(again.variance_components[group]).flat[0]))
        assert table.loc[level, f"sd_Intercept|{group}"] == pytest.approx(sd, rel=1e-3)
        if result.family.auxiliary:
            found = table.loc[level, result.family.auxiliary]
            assert found == pytest.approx(again.dispersion, rel=1e-4)


def test_deletions_without_a_fit_say_why():
    data = pd.DataFrame({"g": np.repeat(list("abcd"), 4), "y": [0, 1, 0, 1, *[0] * 8, *[1] * 4]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = interlace.fit("y ~ 1", data, groups="g", family="binomial")
    table = result.deletions("g")
    assert "every level of 'g' is all 0 or all 1" in table.loc["a", "note"]
    assert table.loc["a"].drop("note").isna().all()
    assert table.loc["b", "note"] == ""


def test_rows_of_a_new_level_are_predicted_over_its_random_effects():
    result, data = fitted(0), load(CASES[0].data)
    found = result.cross_validate("herd")
    herd = data["herd"].astype(str).to_numpy()
    again = without(0, herd == "3")
    rows = found.table[herd == "3"]
    mean = again.predict(data[herd == "3"], "integrated")
    np.testing.assert_allclose(rows["predicted"], mean, rtol=1e-5)
    eta = again.predict(data[herd == "3"], False, type="link")
    sd, size = again.theta[0], data["size"].to_numpy()[herd == "3"]
    y = data["incidence"].to_numpy()[herd == "3"]
    for i, row in enumerate(rows["log_density"]):
        value = integrate.quad(
            lambda z, i=i: (
                stats.norm.pdf(z)
                * stats.binom.pmf(y[i], size[i], 1.0 / (1.0 + np.exp(-eta[i] - sd * z)))
            ),
            -9,
            9,
        )[0]
        assert row == pytest.approx(np.log(value), rel=1e-4)
    scores = found.scores
    assert list(scores.columns) == ["rmse", "mae", "r2", "log_density"]
    assert scores.loc["left out", "log_density"] == pytest.approx(found.table["log_density"].mean())
    assert "Cross-validation by herd: 15 folds" in repr(found)


def test_rows_of_levels_that_stay_keep_their_random_effects():
    result, data = fitted(10), load(CASES[10].data)
    found = result.cross_validate(8, seed=1)
    fold = found.table["fold"].to_numpy()
    again = without(10, fold == 3)
    rows = data[fold == 3]
    np.testing.assert_allclose(
        found.table["predicted"][fold == 3], again.predict(rows), rtol=1e-4, atol=1e-6
    )
    k, mu = again.dispersion, again.predict(rows)
    y = rows["calls"].to_numpy()
    expected = stats.nbinom.logpmf(y, k, k / (k + mu))
    np.testing.assert_allclose(found.table["log_density"][fold == 3], expected, rtol=1e-4)
    with pytest.raises(InterlaceError, match="must be a whole number from 2"):
        result.cross_validate(1)


def test_standard_units_are_those_of_a_fit_to_standardised_columns():
    ticks = interlace.datasets.load("grouseticks")
    result = interlace.fit("TICKS ~ HEIGHT * YEAR + (1 | BROOD)", ticks, family="poisson")
    table = result.standardized()
    height = (ticks["HEIGHT"] - ticks["HEIGHT"].mean()) / ticks["HEIGHT"].std()
    again = interlace.fit(
        "TICKS ~ HEIGHT * YEAR + (1 | BROOD)", ticks.assign(HEIGHT=height), family="poisson"
    )
    slopes = [name for name in table.index if "HEIGHT" in name]
    np.testing.assert_allclose(table.loc[slopes, "estimate"], again.fe_params[slopes], rtol=1e-4)
    np.testing.assert_allclose(table.loc[slopes, "se"], again.fe_bse[slopes], rtol=1e-3)
    assert table.loc["YEAR[T.96]", "estimate"] == result.fe_params["YEAR[T.96]"]
