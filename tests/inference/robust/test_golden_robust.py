"""Cluster-robust covariances against clubSandwich and mmrm."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

import interlace
from reference.means.cases import data, golden

CASES = ["club_exam_int", "club_exam_slope", "club_sleepstudy_slope"]
KINDS = ["CR0", "CR1", "CR1S", "CR2", "CR3"]
KIND = pytest.mark.parametrize("kind", KINDS)
CASE = pytest.mark.parametrize("case", CASES)


@functools.cache
def fitted(case: str, formula: str | None = None) -> interlace.CrossedLMEResult:
    known = golden(case)
    name = re.sub(r"data/|\.csv", "", known["data_file"])
    return interlace.fit(formula or known["formula"], data(name))


def values(named: dict[str, float]) -> np.ndarray:
    return np.array(list(named.values()))


@CASE
@KIND
def test_errors_and_degrees_of_freedom(case: str, kind: str) -> None:
    known = golden(case)["robust"][kind]
    table = fitted(case).coef_table(robust=kind, cluster=golden(case)["cluster"])
    np.testing.assert_allclose(table["se"], values(known["se"]), rtol=1e-6)
    np.testing.assert_allclose(table["df"], values(known["df_satterthwaite"]), rtol=1e-6)
    np.testing.assert_allclose(table["p"], values(known["p_satterthwaite"]), atol=1e-6)
    np.testing.assert_allclose(table["lower"], values(known["ci95_lower"]), rtol=1e-5)
    np.testing.assert_allclose(table["upper"], values(known["ci95_upper"]), rtol=1e-5)


@CASE
@KIND
def test_covariance(case: str, kind: str) -> None:
    known = golden(case)["robust"][kind]["vcov"]["values"]
    ours = fitted(case).cov_params(robust=kind, cluster=golden(case)["cluster"]).to_numpy()
    size = np.sqrt(np.outer(np.diag(known), np.diag(known)))
    np.testing.assert_allclose(ours / size, known / size, atol=1e-6)


@CASE
@KIND
def test_joint_test(case: str, kind: str) -> None:
    known = golden(case)["robust"][kind]["wald_HTZ"]
    positions = np.atleast_1d(known["zero_coefficients_1based"]) - 1
    result = fitted(case)
    L = np.eye(len(result.fe_params))[positions]
    test = result.wald_test(L, robust=kind, cluster=golden(case)["cluster"])
    assert test.num_df == known["df_num"]
    np.testing.assert_allclose(test.statistic, known["Fstat"], rtol=1e-6)
    np.testing.assert_allclose(test.den_df, known["df_denom"], rtol=1e-6)
    np.testing.assert_allclose(test.p_value, known["p"], rtol=1e-5)


# What clubSandwich takes of a gls and an lme fit, and the same models here.
STRUCTURED = {
    "club_fev_gls_us": ("fev", "FEV1 ~ ARMCD * AVISIT", "us(AVISIT | USUBJID)"),
    "club_orthodont_lme_varIdent": (
        "orthodont_v",
        "distance ~ age * Sex + (age | Subject)",
        "varident(Sex)",
    ),
}


@functools.cache
def structured(case: str) -> interlace.StructuredLMEResult:
    name, formula, residual = STRUCTURED[case]
    return interlace.fit(formula, data(name), residual=residual)


@pytest.mark.parametrize("case", STRUCTURED)
@KIND
def test_residual_structures(case: str, kind: str) -> None:
    """CR2 of a gls fit takes another square root: to 1e-4."""
    known, result = golden(case)["robust"][kind], structured(case)
    near = 1e-4 if kind == "CR2" and "gls" in case else 5e-6
    table = result.coef_table(robust=kind)
    np.testing.assert_allclose(table["se"], values(known["se"]), rtol=near)
    np.testing.assert_allclose(table["df"], values(known["df_satterthwaite"]), rtol=5e-6)
    np.testing.assert_allclose(table["p"], values(known["p_satterthwaite"]), atol=near)
    for side in ("lower", "upper"):
        theirs = values(known[f"ci95_{side}"])
        assert (np.abs(table[side] - theirs) <= near * table["se"] * 10).all()
    V = np.array(known["vcov"]["values"])
    size = np.sqrt(np.outer(np.diag(V), np.diag(V)))
    ours = result.cov_params(robust=kind).to_numpy()
    np.testing.assert_allclose(ours / size, V / size, atol=2 * near)
    if "wald_HTZ" in known:
        joint = known["wald_HTZ"]
        L = np.eye(len(result.fe_params))[np.array(joint["zero_coefficients_1based"]) - 1]
        test = result.wald_test(L, robust=kind)
        np.testing.assert_allclose(test.statistic, joint["Fstat"], rtol=near)
        np.testing.assert_allclose(test.den_df, joint["df_denom"], rtol=near)
        np.testing.assert_allclose(test.p_value, joint["p"], rtol=10 * near)


@pytest.mark.parametrize(
    ("case", "formula"),
    [
        ("mmrm_orthodont_cs", "distance ~ Sex * ageF + (1 | Subject)"),
        ("mmrm_fev_cs", "FEV1 ~ RACE + SEX + ARMCD * AVISIT + (1 | USUBJID)"),
    ],
)
def test_compound_symmetry_as_in_mmrm(case: str, formula: str) -> None:
    """The same models with a residual covariance; mmrm's CR2 takes another square root."""
    result = fitted(case, formula)
    names = {"CR0": "Empirical", "CR2": "Empirical-Bias-Reduced", "CR3": "Empirical-Jackknife"}
    for kind, name in names.items():
        known = golden(case)["coefficients"][f"{name} / Satterthwaite"]
        table = result.coef_table(robust=kind)
        rtol = 2e-5 if kind == "CR2" else 1e-7
        np.testing.assert_allclose(table["se"], values(known["se"]), rtol=rtol)
        np.testing.assert_allclose(table["df"], values(known["df"]), rtol=1e-6)
