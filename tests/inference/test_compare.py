"""Likelihood-ratio tests between models, and what cannot be compared."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import chi2

import fits
import interlace
from dense import frame
from interlace import CrossedLMEResult, InterlaceError, datasets
from interlace.inference.by_likelihood import ml_estimate
from interlace.inference.compare import ModelComparison, anova_models, same_rows
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


def lrt(name: str) -> dict[str, float | str] | None:
    text = (cases.HERE / "golden" / f"{name}.inference.json").read_text()
    found: dict[str, float | str] | None = json.loads(text).get("lrt_ml")
    return found


GOLDEN = [n for n in cases.case_names() if lrt(n)]


@functools.cache
def sleep(formula: str = "Reaction ~ Days + (Days | Subject)", method: str = "REML"):
    return interlace.fit(formula, datasets.load("sleepstudy"), method=method)


# The ML fit of `score ~ 1 + (Machine | Worker)` stops 2e-12 short of the optimiser's tolerance.
@pytest.mark.filterwarnings("ignore::interlace.errors.ConvergenceWarning")
@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, method: str) -> None:
    case, golden = cases.load_case(name), lrt(name)
    assert golden is not None
    reduced = cases.python_formula(str(golden["reduced"]), polynomial=name == "cake_poly")
    full = fits.of_case(name, method)
    small = interlace.fit(reduced, case.data, method=method, **case.arguments)
    table = anova_models(full, small, names=["full", "reduced"]).table
    assert table.index.tolist() == ["reduced", "full"]
    assert_allclose(table.loc["full", "Chisq"], golden["chisq"], atol=1e-6)
    assert table.loc["full", "Df"] == golden["df"]
    assert_allclose(table.loc["full", "p"], golden["p"], rtol=1e-6)
    for which in ("full", "reduced"):
        for column in ("logLik", "AIC", "BIC"):
            assert_allclose(table.loc[which, column], golden[f"{column}_{which}"], atol=1e-6)
        assert_allclose(table.loc[which, "deviance"], -2 * table.loc[which, "logLik"])
    assert table.loc["reduced", ["Chisq", "Df", "p"]].isna().all()


@pytest.mark.parametrize("name", cases.case_names())
def test_ml_refit_is_the_ml_fit(name: str) -> None:
    case = cases.load_case(name)
    estimate = ml_estimate(fits.of_case(name))
    assert not estimate.criterion.reml
    assert_allclose(estimate.value, case.golden["ml"]["objective"], atol=1e-6)
    assert_allclose(estimate.beta, list(case.golden["ml"]["fixef"].values()), rtol=1e-5)


def test_ml_fit_is_not_refitted() -> None:
    result = sleep(method="ML")
    assert ml_estimate(result) is result.estimate


def test_a_chain_of_models() -> None:
    formulas = [
        "Reaction ~ Days + (Days | Subject)",
        "Reaction ~ 1 + (1 | Subject)",
        "Reaction ~ Days + (Days || Subject)",
        "Reaction ~ Days + (1 | Subject)",
    ]
    models = [sleep(f, "ML") for f in formulas]
    table = anova_models(*models, names=list("acbd")).table
    assert table.index.tolist() == ["c", "d", "b", "a"]
    assert table["nparams"].tolist() == [3, 4, 5, 6]
    assert_allclose(table["Chisq"][1:], 2 * np.diff(table["logLik"]))
    assert_allclose(table["p"][1:], chi2.sf(table["Chisq"][1:], table["Df"][1:]), rtol=1e-12)
    assert_allclose(table.loc["a", "AIC"], models[0].aic)
    assert_allclose(table.loc["a", "BIC"], models[0].bic)


@given(st.permutations(range(3)))
def test_order_of_the_arguments_does_not_matter(order: list[int]) -> None:
    names = ["a", "b", "c"]
    models = [sleep(f"Reaction ~ {f} | Subject)") for f in ("1 + (1", "Days + (1", "Days + (Days")]
    table = anova_models(*(models[i] for i in order), names=[names[i] for i in order]).table
    assert table.index.tolist() == names
    assert_allclose(table["Chisq"][1:], [116.462401, 42.139362], atol=1e-4)


def test_text_says_that_models_were_refitted() -> None:
    found = anova_models(sleep(), sleep("Reaction ~ Days + (1 | Subject)"))
    assert isinstance(found, ModelComparison)
    assert str(found) == (
        "Likelihood-ratio tests\n"
        "======================\n"
        "All models were fitted by REML and have been refitted by ML for this comparison.\n"
        "model 2: Reaction ~ Days + (1 | Subject)\n"
        "model 1: Reaction ~ Days + (1 + Days | Subject)\n"
        "\n"
        "        nparams        AIC        BIC     logLik   deviance    Chisq Df        p\n"
        "model 2       4  1802.0786  1814.8505  -897.0393  1794.0786                     \n"
        "model 1       6  1763.9393  1783.0971  -875.9697  1751.9393  42.1393  2  <0.0001"
    )
    assert repr(found) == str(found)
    assert "refitted by ML" in found._repr_html_()
    assert "42.1393" in found._repr_html_()
    assert found["Df"].tolist()[1] == 2
    copy = found.to_frame()
    copy["Df"] = 0
    assert found["Df"].tolist()[1] == 2


def test_some_models_refitted() -> None:
    found = anova_models(sleep(method="ML"), sleep("Reaction ~ Days + (1 | Subject)"))
    assert found.notes[0] == (
        "1 of 2 models were fitted by REML and have been refitted by ML for this comparison."
    )
    both = anova_models(sleep(method="ML"), sleep("Reaction ~ Days + (1 | Subject)", "ML"))
    assert not any("refitted" in note for note in both.notes)
    assert_allclose(found["logLik"], both["logLik"])


def test_restricted_likelihoods_on_request() -> None:
    full, small = sleep(), sleep("Reaction ~ Days + (1 | Subject)")
    found = anova_models(full, small, refit=False)
    assert found.notes[0] == "Restricted likelihoods (REML) are compared."
    assert_allclose(found["Chisq"].iloc[1], 42.836813, atol=1e-5)
    with pytest.raises(InterlaceError, match=r"^REML criteria of models with different fixed eff"):
        anova_models(full, sleep("Reaction ~ 1 + (1 | Subject)"), refit=False)
    with pytest.raises(InterlaceError, match=r"^REML and ML fits cannot be compared: leave refit"):
        anova_models(full, sleep("Reaction ~ Days + (1 | Subject)", "ML"), refit=False)


def test_as_many_parameters() -> None:
    data = frame()
    models = [interlace.fit(f"y ~ {x} + (1 | g)", data, method="ML") for x in ("x", "z")]
    table = anova_models(*models).table
    assert table["Df"].iloc[1] == 0
    assert np.isnan(table["p"].iloc[1])
    assert_allclose(table["Chisq"].iloc[1], 2 * (models[1].llf - models[0].llf))


# ------------------------------------------------------------ what cannot be compared


def small(formula: str, **changes: object) -> CrossedLMEResult:
    return interlace.fit(formula, frame().assign(**changes))


def test_not_models() -> None:
    result = sleep()
    with pytest.raises(InterlaceError, match=r"^argument 2 is not a fitted model but of the type"):
        anova_models(result, "y ~ x")  # type: ignore[arg-type]
    with pytest.raises(InterlaceError, match=r"^a comparison needs two models or more, not 1$"):
        anova_models(result)
    with pytest.raises(InterlaceError, match=r"^a comparison needs two models or more, not 0$"):
        anova_models()
    with pytest.raises(InterlaceError, match=r"^argument 3 is the same model as argument 1$"):
        anova_models(result, sleep("Reaction ~ 1 + (1 | Subject)"), result)
    for names in (["a"], ["a", "a"], "ab"):
        with pytest.raises(InterlaceError, match=r"^names must hold one name for each of the 2"):
            anova_models(result, sleep("Reaction ~ 1 + (1 | Subject)"), names=names)


def test_different_rows() -> None:
    start = "^models of different data cannot be compared: model 1 and model 2 "
    first = small("y ~ 1 + (1 | g)")
    z = frame()["z"]
    with pytest.raises(InterlaceError, match=f"{start}have different responses, 'y' and 'log"):
        anova_models(first, small("log(y + 20) ~ 1 + (1 | g)"))
    with pytest.raises(
        InterlaceError,
        match=f"{start}use 90 and 89 rows, because of missing values: drop the incomplete",
    ):
        same_rows([first, small("y ~ z + (1 | g)", z=z.where(z != z[3]))])
    with pytest.raises(InterlaceError, match=f"{start}use 90 and 80 rows; fit"):
        same_rows([first, interlace.fit("y ~ 1 + (1 | g)", frame()[:80])])
    with pytest.raises(InterlaceError, match=f"{start}use different rows: row 3 \\(counted from 0"):
        same_rows(
            [
                small("y ~ z + (1 | g)", z=z.where(z != z[3])),
                small("y ~ z + (1 | g)", z=z.where(z != z[7])),
            ]
        )
    with pytest.raises(InterlaceError, match=f"{start}have different values of the response 'y' i"):
        same_rows([first, first.refit(first.design.y + 1.0 * (np.arange(90) < 2))])
    same_rows([first, small("y ~ x + (1 | h)")])


def test_a_comparison_reads_like_its_table() -> None:
    comparison = anova_models(small("y ~ 1 + (1 | g)"), small("y ~ x + (1 | g)"))
    assert len(comparison) == 2
    assert list(comparison.index) == list(comparison.table.index)
    assert list(comparison.columns) == list(comparison.table.columns)
    assert comparison.loc["model 2", "Df"] == comparison.iloc[1]["Df"] == 1
    assert comparison["p"].iloc[1] == comparison.table["p"].iloc[1]


def test_models_that_are_not_nested_are_pointed_out() -> None:
    fit = functools.partial(interlace.fit, data=frame(), method="ML")
    plain = fit("y ~ 1 + (1 | g)")
    same_size = anova_models(plain, fit("y ~ 1 + (1 | h)"))
    assert same_size.notes[0] == (
        "model 1 and model 2 have equally many parameters: neither is part of the other, no test."
    )
    assert np.isnan(same_size.table["p"].iloc[1])
    weighted = anova_models(plain, fit("y ~ x + (1 | g)", weights="w"))
    assert weighted.notes[0] == (
        "model 1 and model 2 have different weights: neither is part of the other."
    )
    shifted = anova_models(plain, fit("y ~ x + (1 | g)", offset="o"))
    assert shifted.notes[0].startswith("model 1 and model 2 have different offsets")
    assert len(anova_models(plain, fit("y ~ x + (1 | g)")).notes) == 2
