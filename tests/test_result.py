"""Labels, tables and verbs of a fitted model."""

from __future__ import annotations

import functools
import pickle
import re
from dataclasses import FrozenInstanceError
from html import unescape

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from dense import FORMULAS, frame
from interlace import InterlaceError, SingularFitWarning, datasets
from interlace.reporting.summary import Summary, Table

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

TEXT = """\
Linear mixed model fitted by REML
=================================
Formula:        Reaction ~ Days + (1 + Days | Subject)
Observations:   180
Groups:         Subject 18
REML criterion: 1743.6283
Log-likelihood: -871.8141
AIC, BIC:       1755.63, 1774.79
Optimiser:      converged, 5 evaluations, exact solver

Random effects
-----------------------------------------------
Group     Effect     Variance  Std. dev.  Corr.
-----------------------------------------------
Subject   Intercept   612.090    24.7405
          Days         35.072     5.9221  0.066
Residual              654.941    25.5918
-----------------------------------------------

Fixed effects
-----------------------------------------------------------------
           Estimate  Std. error       z   P>|z|   [0.025   0.975]
-----------------------------------------------------------------
Intercept   251.405     6.82456  36.838  <0.001  238.029  264.781
Days         10.467     1.54579   6.771  <0.001    7.438   13.497
-----------------------------------------------------------------"""


@functools.cache
def sleep(method: str = "REML") -> interlace.CrossedLMEResult:
    data = datasets.load("sleepstudy")
    return interlace.fit("Reaction ~ Days + (Days | Subject)", data, method=method)


@functools.cache
def small(name: str) -> interlace.CrossedLMEResult:
    return interlace.fit(FORMULAS.get(name, name), frame())


# ------------------------------------------------------------ summary


def test_summary_text() -> None:
    assert str(sleep().summary()) == TEXT
    assert repr(sleep().summary()) == TEXT


def test_summary_html_has_the_cells_of_the_text() -> None:
    html = sleep()._repr_html_()
    assert html == sleep().summary()._repr_html_()
    cells = [unescape(c) for c in re.findall(r"<t[hd] [^>]*>(.*?)</t[hd]>", html)]
    words = [w for line in TEXT.splitlines() for w in re.split(r"  +|(?<=:) ", line)]
    marks = ("", "Linear mixed model fitted by REML", "Random effects", "Fixed effects")
    expected = [w.rstrip(":") for w in words if w not in marks and set(w) - set("-=")]
    assert sorted(c for c in cells if c) == sorted(expected)  # columns of the answer come first
    assert re.findall(r"<b>(.*?)</b>", html) == ["Random effects", "Fixed effects"]


def test_html_of_a_small_summary() -> None:
    table = Table("A & B", ("", "x"), (("<a>", "1"),), labels=1)
    name, right = ('style="text-align:' + s + ';padding:0.1em 0.7em"' for s in ("left", "right"))
    left = 'style="text-align:left;white-space:normal;padding:0.1em 0.7em"'
    assert Summary("T", (("n", "2"),), (table,), ("a < b",))._repr_html_() == (
        f"<div><h4>T</h4><table><tr><th {name}>n</th>"
        '<td style="text-align:left;white-space:normal">2</td></tr>'
        '</table><table><caption style="text-align:left;padding:0.7em 0.7em 0.1em"><b>A &amp; B'
        f"</b></caption><thead><tr><th {left}></th><th {right}>x</th></tr></thead><tbody><tr>"
        f"<td {left}>&lt;a&gt;</td><td {right}>1</td></tr></tbody></table><p>a &lt; b</p></div>"
    )


def test_summary_of_ml_names_the_likelihood() -> None:
    assert "-2 log-likelihood: 1751.9393" in str(sleep("ML").summary())


def test_summary_tells_what_was_left_out() -> None:
    data = frame().assign(twice=lambda d: 2 * d["x"])
    data.loc[[3, 7], "x"] = np.nan
    with pytest.warns(interlace.RankDeficiencyWarning, match="twice"):
        text = str(interlace.fit("y ~ x + twice + (1 | g)", data).summary())
    assert re.search(r"Observations: +88 \(2 dropped: missing values\)\n", text)
    assert text.endswith("Dropped as linearly dependent on earlier columns: twice")


def test_summary_tells_of_a_singular_fit() -> None:
    data = frame().assign(y=lambda d: d["y"] - d.groupby("h")["y"].transform("mean"))
    with pytest.warns(interlace.SingularFitWarning, match="'h'"):
        result = interlace.fit("y ~ 1 + (1 | h)", data)
    assert result.is_singular is True
    assert str(result.summary()).endswith("is zero in h; see singular_report()")


def test_repr_is_one_line() -> None:
    assert repr(sleep()) == (
        "<CrossedLMEResult Reaction ~ Days + (1 + Days | Subject) | REML, 180 rows, "
        "criterion 1743.6283>"
    )


def test_names_of_statsmodels() -> None:
    result = sleep()
    for ours, theirs in {
        "fe_params": "params",
        "fe_bse": "bse",
        "fe_tvalues": "tvalues",
        "fe_pvalues": "pvalues",
    }.items():
        pd.testing.assert_series_equal(getattr(result, ours), getattr(result, theirs))
    assert_allclose(result.cov_params().to_numpy(), result.fe_cov)
    assert list(result.cov_params().columns) == list(result.fe_params.index)
    assert np.isinf(result.fe_df).all()


@pytest.mark.parametrize(("level", "z"), [(0.95, 1.959963985), (0.9, 1.644853627), (0.5, 0.67449)])
def test_conf_int(level: float, z: float) -> None:
    result = sleep()
    interval = result.conf_int(level)
    low, high = interval.columns
    assert (low, high) == pytest.approx(((1 - level) / 2, (1 + level) / 2))
    assert_allclose((interval[high] - interval[low]) / 2, z * result.fe_bse, rtol=1e-6)
    assert_allclose((interval[high] + interval[low]) / 2, result.fe_params)


def test_conf_int_columns_are_round_numbers() -> None:
    assert list(sleep().fe_conf_int.columns) == [0.025, 0.975]
    assert list(sleep().conf_int(0.9).columns) == [0.05, 0.95]


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.1, float("nan")])
def test_conf_int_refuses_a_level_that_is_none(level: float) -> None:
    with pytest.raises(InterlaceError) as caught:
        sleep().conf_int(level)
    assert str(caught.value) == f"level must be strictly between 0 and 1, not {level!r}"


# ------------------------------------------------------------ random effects


def test_an_intercept_alone_is_a_series() -> None:
    result = small("crossed")
    assert isinstance(result.variance_components["g"], float)
    effects = result.random_effects["g"]
    assert isinstance(effects, pd.Series)
    assert (effects.name, effects.index.name) == ("Intercept", "g")
    assert sorted(effects.index) == [f"g{i}" for i in range(9)]


def test_slopes_are_a_frame() -> None:
    result = small("slope")
    covariance = result.variance_components["g"]
    assert list(covariance.index) == list(covariance.columns) == ["Intercept", "x"]
    assert list(result.random_effects["g"].columns) == ["Intercept", "x"]
    T = np.array([[result.theta[0], 0.0], [result.theta[1], result.theta[2]]])
    assert_allclose(covariance, result.scale * T @ T.T)


def test_two_terms_on_one_group_are_joined() -> None:
    result, same = small("two terms on one group"), small("uncorrelated")
    covariance = result.variance_components["g"]
    assert list(covariance.index) == ["Intercept", "x"]
    assert covariance.loc["Intercept", "x"] == 0.0
    assert_allclose(covariance, same.variance_components["g"], rtol=1e-4, atol=1e-7)
    assert list(result.random_effects) == ["g"]
    assert_allclose(result.random_effects["g"], same.random_effects["g"], atol=1e-4)
    assert_allclose(result.random_effects_se["g"], same.random_effects_se["g"], atol=1e-4)
    assert result.ngroups == {"g": 9}
    assert result.criterion == pytest.approx(same.criterion, abs=1e-8)


def test_levels_of_nested_groups() -> None:
    result = small("nested in three levels")
    assert list(result.ngroups) == ["a", "a:b", "a:b:c"]
    assert list(result.ngroups.values()) == [4, 8, 23]
    assert result.random_effects["a:b"].index[0] == "a0:b0"


def test_standard_errors_of_random_effects_of_a_balanced_intercept() -> None:
    """``(1 / s_b^2 + m / s^2)^(-1/2)`` with ``m`` rows per level."""
    result = interlace.fit("Yield ~ 1 + (1 | Batch)", datasets.load("dyestuff"))
    expected = (1 / result.variance_components["Batch"] + 5 / result.scale) ** -0.5
    se = result.random_effects_se["Batch"]
    assert_allclose(se, expected)
    assert list(se.index) == list(result.random_effects["Batch"].index)


# ------------------------------------------------------------ information criteria


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_criteria(method: str) -> None:
    result = sleep(method)
    assert result.nparams == 2 + 3 + 1
    assert result.llf == -result.criterion / 2
    assert result.aic == pytest.approx(result.criterion + 12)
    assert result.bic == pytest.approx(result.criterion + 6 * np.log(180))
    assert_allclose(result.resid + result.fittedvalues, result.design.y)


# ------------------------------------------------------------ immutable and picklable


@pytest.mark.parametrize("name", ["formula", "estimate", "data", "theta", "scale", "new"])
def test_nothing_can_be_set(name: str) -> None:
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(sleep(), name, 1)


@pytest.mark.parametrize("name", ["nested and crossed", "two terms on one group", "factor slopes"])
def test_pickling(name: str) -> None:
    result = small(name)
    again = pickle.loads(pickle.dumps(result))
    assert str(again.summary()) == str(result.summary())
    assert again.data is None
    assert again.criterion == pytest.approx(result.criterion, rel=1e-12)
    for key, effects in result.random_effects.items():
        assert_allclose(again.random_effects[key], effects, rtol=1e-10, atol=1e-12)
        assert again.random_effects[key].index.equals(effects.index)
    new = frame(20, seed=9).assign(g="unseen")
    assert_allclose(again.predict(new), result.predict(new))
    assert again.refit(result.design.y).criterion == pytest.approx(result.criterion, abs=1e-8)


def test_a_pickle_is_not_larger_for_having_been_used() -> None:
    result = interlace.fit(FORMULAS["crossed slopes"], frame())
    before = len(pickle.dumps(result))
    result.summary(), result.fittedvalues, result.random_effects_se
    assert len(pickle.dumps(result)) <= before + 100


# ------------------------------------------------------------ refit and update


@pytest.mark.parametrize("name", ["crossed slopes", "nested and crossed"])
@pytest.mark.parametrize("weights", [None, "w"])
def test_refit_equals_a_fit_to_the_new_response(name: str, weights: str | None) -> None:
    data = frame()
    y = np.random.default_rng(6).permutation(data["y"].to_numpy()) + 2 * data["x"].to_numpy()
    result = interlace.fit(FORMULAS[name], data, weights=weights, offset="o")
    refitted = result.refit(y)
    fresh = interlace.fit(FORMULAS[name], data.assign(y=y), weights=weights, offset="o")
    assert refitted.criterion == pytest.approx(fresh.criterion, abs=1e-8)
    assert_allclose(refitted.fe_params, fresh.fe_params, rtol=1e-8)
    assert_allclose(refitted.theta, fresh.theta, atol=1e-5)
    assert_allclose(refitted.fittedvalues, fresh.fittedvalues, atol=1e-5)
    assert_allclose(refitted.resid, y - refitted.fittedvalues)
    assert result.resid is result.resid  # the first result stays what it was
    assert_allclose(result.design.y, data["y"])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            np.ones(3),
            "the new response has shape (3,), but the model was fitted to 180 rows: pass one "
            "value for each row used",
        ),
        (
            ["a"] * 180,
            "the new response must be numbers: could not convert string to float: 'a'",
        ),
        (np.full(180, 2.0), "the new response is constant (2): nothing varies"),
        (
            np.where(np.arange(180) == 7, np.nan, np.arange(180.0)),
            "the new response is nan in row 7 (counted from 0)",
        ),
    ],
)
def test_refit_refuses(y: object, message: str) -> None:
    with pytest.raises(InterlaceError) as caught:
        sleep().refit(y)
    assert str(caught.value) == message


def test_update() -> None:
    result = sleep()
    ml = result.update(method="ML")
    assert (ml.method, result.method) == ("ML", "REML")
    assert ml.criterion == pytest.approx(sleep("ML").criterion, abs=1e-9)
    simpler = result.update("Reaction ~ 1 + (1 | Subject)")
    assert list(simpler.fe_params.index) == ["Intercept"]
    half = result.update(data=datasets.load("sleepstudy").query("Days < 5"))
    assert half.nobs == 90
    assert half.formula == result.formula


def test_update_keeps_the_other_arguments() -> None:
    result = interlace.fit("y ~ x", frame(), groups="g", weights="w", method="ML")
    again = result.update("y ~ z")
    assert again.options.weights == "w"
    assert (again.method, list(again.ngroups)) == ("ML", ["g"])


def test_update_without_data() -> None:
    again = pickle.loads(pickle.dumps(sleep()))
    with pytest.raises(InterlaceError) as caught:
        again.update(method="ML")
    assert str(caught.value) == (
        "the result no longer holds its data (it was unpickled, or fitted by refit): pass data="
    )
    ml = again.update(data=datasets.load("sleepstudy"), method="ML")
    assert ml.criterion == pytest.approx(sleep("ML").criterion, abs=1e-9)


def test_update_refuses_an_unknown_argument() -> None:
    with pytest.raises((InterlaceError, TypeError), match="methud"):
        sleep().update(methud="ML")


# ------------------------------------------------------------ progress


def test_progress_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    data = interlace.datasets.load("sleepstudy")
    interlace.fit("Reaction ~ Days", data, "Subject", progress=True)
    assert "criterion" in capsys.readouterr().err
    interlace.fit("Reaction ~ Days", data, "Subject")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["theta", "fe_cov", "fittedvalues", "resid"])
def test_arrays_cannot_be_written_to(name: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        getattr(sleep(), name)[...] = 0.0


def test_warnings_point_at_the_caller() -> None:
    data = datasets.load("dyestuff2")
    with pytest.warns(SingularFitWarning) as from_fit:
        result = interlace.fit("Yield ~ 1", data, "Batch")
    with pytest.warns(SingularFitWarning) as from_refit:
        result.refit(data["Yield"].to_numpy())
    assert [w.filename for w in (*from_fit, *from_refit)] == [__file__, __file__]


def test_a_constant_response_is_judged_less_its_offset() -> None:
    data = frame().assign(level=1.0)
    result = interlace.fit("y ~ x", data, "g", offset="o")
    again = interlace.fit("level ~ x", data, "g", offset="o")
    assert_allclose(result.refit(np.ones(result.nobs)).criterion, again.criterion, atol=1e-9)
    with pytest.raises(InterlaceError, match="the new response is constant"):
        result.refit(result.design.offset)
