"""Tests, intervals and summaries of every reference fit against lmerTest, pbkrtest and lme4."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from fits import of_case as fitted
from reference import cases

# Some reference fits are singular on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

TYPES = {"I": 1, "II": 2, "III": 3}


def golden(name: str, method: str) -> dict[str, Any]:
    return cases.load_golden(name, "inference")[method]


def in_our_order(result: interlace.CrossedLMEResult, named: dict[str, float]) -> np.ndarray:
    return np.array([named[cases.r_name(name)] for name in result.fe_params.index])


def having(*blocks: str) -> list[tuple[str, str]]:
    """Cases and methods whose reference has all of the blocks."""
    found = [(n, m) for n in cases.case_names("inference") for m in cases.METHODS]
    return [(n, m) for n, m in found if all(golden(n, m).get(block) for block in blocks)]


# ------------------------------------------------------------------ coefficients


DDF = {"satterthwaite": "satterthwaite", "kenward_roger": "kenward-roger"}


def coefficient_cases() -> Iterator[tuple[str, str, str]]:
    for block in DDF:
        for name, method in having(block):
            yield block, name, method


@pytest.mark.parametrize(("block", "name", "method"), list(coefficient_cases()))
def test_coefficient_tables(block: str, name: str, method: str) -> None:
    result, reference = fitted(name, method), golden(name, method)[block]
    table = result.coef_table(DDF[block])
    for column, key, rtol in (
        ("estimate", "estimate", 1e-6),
        ("se", "se", 1e-5),
        ("df", "df", 1e-4),
        ("statistic", "t", 2e-5),
    ):
        assert_allclose(table[column], in_our_order(result, reference[key]), rtol=rtol)
    # A p-value of 1e-80 magnifies an error of df: its logarithm is compared.
    p = in_our_order(result, reference["p"])
    assert_allclose(np.log(table["p"]), np.log(p), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "method"), having("kenward_roger"))
def test_adjusted_covariance(name: str, method: str) -> None:
    result, stored = fitted(name, method), golden(name, method)["kenward_roger"]["vcov_adjusted"]
    names = [cases.r_name(n) for n in result.fe_params.index]
    expected = pd.DataFrame(stored["values"], stored["rows"], stored["cols"]).loc[names, names]
    unit = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    ours = result.cov_params(ddf="kenward-roger").to_numpy()
    assert_allclose(ours / unit, expected / unit, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "method"), having("wald_ci_95"))
def test_wald_intervals(name: str, method: str) -> None:
    result, reference = fitted(name, method), golden(name, method)["wald_ci_95"]
    for column, side in ((0.025, "lower"), (0.975, "upper")):
        limits = in_our_order(result, dict(zip(reference["term"], reference[side], strict=True)))
        gap = (result.conf_int()[column] - limits) / result.fe_bse
        assert_allclose(gap, 0.0, atol=2e-5)


@pytest.mark.parametrize(("name", "method"), having("vcov_varpar"))
def test_covariance_of_theta(name: str, method: str) -> None:
    expected = np.array(golden(name, method)["vcov_varpar"]["values"])
    ours = fitted(name, method).vcov_theta().to_numpy()
    size = np.sqrt(np.diag(expected))
    assert_allclose(ours / np.outer(size, size), expected / np.outer(size, size), atol=1e-4)


# ------------------------------------------------------------------ analysis of variance


def anova_cases() -> Iterator[tuple[str, str, str, str]]:
    for block in DDF:
        for name, method in having(f"anova_{block}"):
            for kind, table in golden(name, method)[f"anova_{block}"].items():
                if table:
                    yield block, name, method, kind


@pytest.mark.parametrize(("block", "name", "method", "kind"), list(anova_cases()))
def test_anova_tables(block: str, name: str, method: str, kind: str) -> None:
    result = fitted(name, method)
    expected = pd.DataFrame(golden(name, method)[f"anova_{block}"][kind])
    ours = result.anova(type=TYPES[kind], ddf=DDF[block])
    assert [cases.r_name(term) for term in ours.index] == expected["row"].tolist()
    assert ours["num_df"].tolist() == expected["NumDF"].tolist()
    for column, key in (
        ("den_df", "DenDF"),
        ("F", "F value"),
        ("sum_sq", "Sum Sq"),
        ("mean_sq", "Mean Sq"),
    ):
        assert_allclose(ours[column], expected[key], rtol=1e-4, err_msg=column)
    assert_allclose(np.log(ours["p"]), np.log(expected["Pr(>F)"]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "method"), having("kr_modcomp"))
def test_kenward_roger_comparison_of_models(name: str, method: str) -> None:
    """pbkrtest's test of a reduced model is a test of the coefficients it leaves out."""
    result, reference = fitted(name, method), golden(name, method)["kr_modcomp"]
    left_out = rows(result, removed_coefficients(result, reference["reduced"]))
    test = result.wald_test(left_out, ddf="kenward-roger")
    stats = reference["stats"]
    assert test.num_df == stats["ndf"]
    assert_allclose(test.den_df, stats["ddf"], rtol=1e-4)
    assert_allclose(test.statistic, stats["Fstat"], rtol=1e-4)
    assert_allclose(np.log(test.p_value), np.log(stats["p.value"]), rtol=1e-4, atol=1e-4)


def rows(result: interlace.CrossedLMEResult, names: list[str]) -> np.ndarray:
    return np.eye(len(result.fe_params))[[list(result.fe_params.index).index(n) for n in names]]


def removed_coefficients(result: interlace.CrossedLMEResult, reduced: str) -> list[str]:
    """Coefficients of the model that R's formula of the reduced model does not have."""
    fixed = cases.python_formula(reduced, polynomial="contr.poly" in str(result.formula))
    smaller = result.update(fixed)
    return [name for name in result.fe_params.index if name not in smaller.fe_params.index]


@pytest.mark.parametrize(
    "name",
    [n for n in cases.case_names("inference") if cases.load_golden(n, "inference").get("lrt_ml")],
)
def test_likelihood_ratio(name: str) -> None:
    reference = cases.load_golden(name, "inference")["lrt_ml"]
    full = fitted(name, "reml")
    formula = cases.python_formula(reference["reduced"], polynomial=name == "cake_poly")
    comparison = interlace.anova(full, full.update(formula))
    table = comparison.table
    assert_allclose(
        table["logLik"],
        [reference["logLik_reduced"], reference["logLik_full"]],
        atol=1e-5,
        rtol=1e-8,
    )
    assert_allclose(
        table["AIC"], [reference["AIC_reduced"], reference["AIC_full"]], atol=1e-5, rtol=1e-8
    )
    assert_allclose(
        table["BIC"], [reference["BIC_reduced"], reference["BIC_full"]], atol=1e-5, rtol=1e-8
    )
    last = table.iloc[-1]
    assert_allclose(last["Chisq"], reference["chisq"], rtol=1e-5)
    assert last["Df"] == reference["df"]
    assert_allclose(np.log(last["p"]), np.log(reference["p"]), rtol=1e-5, atol=1e-5)
    assert "refitted by ML" in " ".join(comparison.notes)


# ------------------------------------------------------------------ everything together


def test_every_reference_block_is_used() -> None:
    """A block that the references have and no test reads would go unnoticed."""
    read = {
        "satterthwaite",
        "kenward_roger",
        "vcov_varpar",
        "anova_satterthwaite",
        "anova_kenward_roger",
        "kr_modcomp",
        "wald_ci_95",
        "ranova",  # test_ranova.py
        "r2_nakagawa",  # test_reporting.py
        "icc",
        "predict_se",  # test_prediction_intervals.py
        "emmeans",  # test_marginal.py
        "car_anova_II_chisq",
        "car_anova_III_chisq",
    }
    found = {b for n in cases.case_names("inference") for m in cases.METHODS for b in golden(n, m)}
    assert found == read


@pytest.mark.parametrize(("name", "method"), having("car_anova_II_chisq"))
def test_wald_chi_squared_type_2(name: str, method: str) -> None:
    result = fitted(name, method)
    expected = pd.DataFrame(golden(name, method)["car_anova_II_chisq"]).set_index("row")
    ours = result.anova(type=2, ddf="normal").rename(index=cases.r_name)
    if name == "orthodont":
        # To car Sex is part of age:Sex; to SAS and lmerTest it is not, as age is a number.
        expected, ours = expected.drop("Sex"), ours.drop("Sex")
    assert ours.index.tolist() == expected.index.tolist()
    assert_allclose(ours["F"] * ours["num_df"], expected["Chisq"], rtol=1e-4)
    assert_allclose(np.log(ours["p"]), np.log(expected["Pr(>Chisq)"]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "method"), having("car_anova_III_chisq"))
def test_wald_chi_squared_of_coefficients(name: str, method: str) -> None:
    """car's type III asks whether the coefficients of a term, as fitted, are all zero."""
    result = fitted(name, method)
    expected = pd.DataFrame(golden(name, method)["car_anova_III_chisq"]).set_index("row")
    found = {}
    for term in result.design.encoding.fixed.terms:
        names = [result.design.names[i] for i in term.columns]
        test = result.wald_test(rows(result, names), ddf="normal")
        found[cases.r_name(term.label)] = (test.statistic * test.num_df, test.num_df)
    ours = pd.DataFrame(found, index=["Chisq", "Df"]).T.loc[expected.index]
    assert_allclose(ours, expected[["Chisq", "Df"]], rtol=1e-4)
