"""Residual structures against mmrm (polished) and what SAS printed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import StructuredLMEResult
from reference.structures.cases import data, golden, of_mmrm

CASES = list(golden("mmrm"))
DDF = {
    "Satterthwaite": "satterthwaite",
    "Between-Within": "between-within",
    "Residual": "residual",
    "Kenward-Roger": "kenward-roger",
    "Kenward-Roger-Linear": "kenward-roger-linear",
}

ROBUST = {
    "Empirical / Satterthwaite": "CR0",
    "Empirical-Bias-Reduced / Satterthwaite": "CR2",
    "Empirical-Jackknife / Satterthwaite": "CR3",
}
# Where mmrm's standard errors are others: Kenward-Roger in its own parameters, not SAS's, and the
# empirical ones beside residual degrees of freedom.
OTHER_ERRORS = ("Kenward-Roger", "Residual")


@functools.cache
def fitted(case: str) -> StructuredLMEResult:
    known = golden("mmrm")[case]
    fixed, residual = of_mmrm(known["formula"])
    name = known["data_file"].removeprefix("data/").removesuffix(".csv")
    return interlace.fit(
        fixed, data(name), residual=residual, method=known["method"], weights=known["weights"]
    )


def r_names(result: StructuredLMEResult) -> list[str]:
    """Names of the coefficients as R has them."""
    names = [name.replace("[T.", "").replace("]", "") for name in result.fe_params.index]
    return ["(Intercept)" if name == "Intercept" else name for name in names]


@pytest.mark.parametrize("case", CASES)
def test_likelihood_coefficients_and_covariance(case: str) -> None:
    known, result = golden("mmrm")[case], fitted(case)
    assert result.converged
    assert result.criterion == pytest.approx(known["minus2logLik"], abs=1e-6)
    se = pd.Series(known["coefficients"]["Satterthwaite"]["se"])[r_names(result)].to_numpy()
    beta = pd.Series(known["fixef"])[r_names(result)].to_numpy()
    assert (np.abs(result.fe_params - beta) < 1e-5 * se).all()
    np.testing.assert_allclose(np.sqrt(np.diag(result.fe_cov)), se, rtol=1e-5)
    if "sp_exp" in case:
        return
    found = result.residual_covariance
    frames = {"": found} if isinstance(found, pd.DataFrame) else found
    matrices = {"": known["covariance"]} if "values" in known["covariance"] else known["covariance"]
    for group, frame in frames.items():
        wanted = np.array(matrices[group]["values"])
        np.testing.assert_allclose(frame, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("case", CASES)
def test_degrees_of_freedom_and_standard_errors(case: str) -> None:
    result = fitted(case)
    for method, known in golden("mmrm")[case]["coefficients"].items():
        if method in ROBUST:
            table = result.coef_table(robust=ROBUST[method])
        else:
            table = result.coef_table(DDF[method])
        for name, tolerance in (("df", 1e-3), ("se", 1e-5)):
            if name == "se" and method in OTHER_ERRORS:
                continue
            wanted = pd.Series(known[name], dtype=float)[r_names(result)].to_numpy()
            np.testing.assert_allclose(table[name], wanted, rtol=tolerance, err_msg=method)


@pytest.mark.parametrize("case", CASES[::3])
def test_differences_of_means(case: str) -> None:
    result, known = fitted(case), golden("mmrm")[case]["differences"]
    specs = "Sex | ageF" if "orthodont" in case else "ARMCD | AVISIT"
    for method, wanted in known.items():
        table = result.emmeans(specs, ddf=DDF[method]).contrasts("pairwise", adjust=None).table
        np.testing.assert_allclose(-table["estimate"], wanted["estimate"], rtol=1e-5)
        np.testing.assert_allclose(table["df"], wanted["df"], rtol=1e-3)
        if method not in OTHER_ERRORS:
            np.testing.assert_allclose(table["se"], wanted["SE"], rtol=1e-5)


@pytest.mark.parametrize("case", [c for c in CASES if "sp_exp" not in c])
def test_fitted_values_and_normalised_residuals_by_row(case: str) -> None:
    known, result = golden("mmrm")[case], fitted(case)
    name = known["data_file"].removeprefix("data/").removesuffix(".csv")
    visit, subject = ("ageF", "Subject") if "orthodont" in case else ("AVISIT", "USUBJID")
    frame = data(name).loc[result.design.labels, [visit, subject]].astype(str)
    frame = frame.assign(fitted=result.fittedvalues, normalised=result.normalized_resid)
    frame = frame.set_index([subject, visit])
    rows = known["rows"]
    at = list(zip(rows["subject"], rows["visit"], strict=True))
    np.testing.assert_allclose(frame.loc[at, "fitted"], rows["fitted"], rtol=1e-6)
    if known["weights"] is None and rows["resid_normalized"] is not None:
        np.testing.assert_allclose(frame.loc[at, "normalised"], rows["resid_normalized"], atol=1e-5)


# ------------------------------------------------------------------ SAS

SAS = {
    "sas_ar1": "ar1",
    "sas_ar1h": "ar1h",
    "sas_cs": "cs",
    "sas_csh": "csh",
    "sas_adh": "adh",
    "sas_toep": "toep",
    "sas_toeph": "toeph",
    "sas_us": "us",
}
LOOSE = ("us", "csh", "adh", "toep", "ar1h")  # SAS stops early


def sas_value(name: str, output: str) -> dict[str, Any]:
    return golden("sas")[name]["outputs"][output]


@pytest.mark.parametrize("name", [n for n in SAS if n not in ("sas_us", "sas_toep")])
@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("by", ["", ", by=ARMCD"])
def test_sas_likelihoods_of_an_intercept(name: str, method: str, by: str) -> None:
    kind = SAS[name]
    output = f"sas_{'group_' if by else ''}{kind}_{method.lower()}"
    known = sas_value(name, output)["minus2ll_last_iteration_8_decimals"]
    residual = f"{kind}(AVISIT | USUBJID{by})"
    result = interlace.fit("FEV1 ~ 1", data("fev"), residual=residual, method=method)
    assert result.criterion <= known + 1e-6
    assert result.criterion > known - (2e-3 if kind in LOOSE else 2e-5)


@pytest.mark.parametrize("name", SAS)
def test_sas_kenward_roger_of_both_kinds(name: str) -> None:
    kind = SAS[name]
    spelled = {"ar1h": "arh1"}.get(kind, kind)
    result = interlace.fit("FEV1 ~ ARMCD", data("fev"), residual=f"{kind}(AVISIT | USUBJID)")
    loose = kind in LOOSE
    for output, ddf in (("kr", "kenward-roger"), ("kr1", "kenward-roger-linear")):
        known = sas_value(name, f"{output}_{spelled}_table")["rows"][0]
        row = result.coef_table(ddf).loc["ARMCD[T.TRT]"]
        assert row["estimate"] == pytest.approx(known["Estimate"], rel=1e-4 if loose else 1e-6)
        assert row["se"] == pytest.approx(known["StdErr"], rel=2e-4 if loose else 1e-6)
        assert row["df"] == pytest.approx(known["DF"], rel=1e-3 if loose else 1e-5)


def test_sas_exponential_in_the_plane() -> None:
    """``sp(exp)(VISITN VISITN2)``: both kinds of Kenward-Roger, empirical errors, and weights.

    SAS's files of the two kinds carry each other's names (``sas_sp_exp`` of the references).
    """
    residual = "sp_exp(VISITN, VISITN2 | USUBJID)"
    result = interlace.fit("FEV1 ~ ARMCD", data("fev"), residual=residual)
    for ddf, se in (
        ("kenward-roger", 0.90527620094771),
        ("kenward-roger-linear", 0.90552903839818),
    ):
        row = result.coef_table(ddf).loc["ARMCD[T.TRT]"]
        assert row["estimate"] == pytest.approx(4.21488979997259, rel=1e-6)
        assert row["se"] == pytest.approx(se, rel=1e-5)
        assert row["df"] == pytest.approx(195.584197921463, rel=1e-4)
    robust = result.coef_table(robust="CR0").loc["ARMCD[T.TRT]", "se"]
    assert robust == pytest.approx(0.80974821922674, rel=1e-5)
    weighted = result.update(weights="WEIGHT").coef_table(robust="CR0").loc["ARMCD[T.TRT]"]
    assert weighted["estimate"] == pytest.approx(3.55339913699551, rel=1e-6)
    assert weighted["se"] == pytest.approx(0.93828496200941, rel=1e-5)
    sd, reach = result.residual_parameters["estimate"]
    assert (round(reach, 4), round(sd**2, 2)) == (1.0898, 83.36)
