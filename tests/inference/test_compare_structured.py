"""Models with ``residual=`` compared with each other, and with models without it."""

from __future__ import annotations

import numpy as np
import pytest

import interlace
from interlace import InterlaceError, StructuredLMEResult
from reference.structures.cases import data


@pytest.fixture(scope="module")
def us() -> StructuredLMEResult:
    return interlace.fit("FEV1 ~ ARMCD * AVISIT", data("fev"), residual="us(AVISIT | USUBJID)")


def test_structures_of_the_same_fixed_effects_by_reml(us: StructuredLMEResult) -> None:
    cs = us.update(residual="cs(AVISIT | USUBJID)")
    found = interlace.anova(us, cs)
    assert "Restricted likelihoods (REML) are compared." in found.notes
    assert found.loc["model 1", "Chisq"] == pytest.approx(cs.criterion - us.criterion)
    assert found.loc["model 1", "Df"] == 8
    both = interlace.anova(us, cs, refit=True)
    assert both.loc["model 1", "logLik"] == pytest.approx(us.update(method="ML").llf, abs=1e-6)


def test_other_fixed_effects_are_compared_by_ml(us: StructuredLMEResult) -> None:
    less = us.update(". ~ AVISIT")
    found = interlace.anova(less, us, names=["less", "more"])
    direct = [m.update(method="ML").criterion for m in (less, us)]
    assert found.loc["more", "Chisq"] == pytest.approx(direct[0] - direct[1], abs=1e-6)
    assert found.loc["more", "Df"] == 4
    with pytest.raises(InterlaceError, match="different fixed effects cannot be compared"):
        interlace.anova(less, us, refit=False)
    with pytest.raises(InterlaceError, match="REML and ML fits cannot be compared"):
        interlace.anova(us, less.update(method="ML"), refit=False)


def test_a_model_without_a_structure_is_one_of_them(us: StructuredLMEResult) -> None:
    used = data("fev").dropna(subset=["FEV1"])
    plain = interlace.fit("FEV1 ~ ARMCD * AVISIT + (1 | USUBJID)", used)
    cs = us.update(data=used, residual="cs(AVISIT | USUBJID)")
    found = interlace.anova(plain, us.update(data=used))
    assert found.loc["model 1", "logLik"] == pytest.approx(cs.llf, abs=1e-7)
    assert not [note for note in found.notes if "special case" in note]
    table = interlace.compare(plain, cs).table
    assert table["AIC"].iloc[0] == pytest.approx(table["AIC"].iloc[1], abs=1e-6)
    assert np.isnan(table["BIC_subjects"].iloc[0])
    assert table["BIC_subjects"].iloc[1] == pytest.approx(cs.bic_subjects)
    assert table["residual"].tolist() == ["independent", "cs(AVISIT | USUBJID)"]


@pytest.mark.parametrize(
    ("less", "more", "inside"),
    [
        ("ar1(AVISIT | USUBJID)", "toep(AVISIT | USUBJID)", True),
        ("toep(AVISIT | USUBJID)", "csh(AVISIT | USUBJID)", False),
        ("cs(AVISIT | USUBJID)", "cs(AVISIT | USUBJID, by=ARMCD)", True),
        ("toep(AVISIT | USUBJID)", "adh(AVISIT | USUBJID)", False),
    ],
)
def test_what_is_no_special_case_is_said(
    us: StructuredLMEResult, less: str, more: str, inside: bool
) -> None:
    found = interlace.anova(us.update(residual=less), us.update(residual=more))
    assert bool([n for n in found.notes if "no special case" in n]) is not inside


def test_models_that_cannot_be_compared(us: StructuredLMEResult) -> None:
    with pytest.raises(InterlaceError, match="use 537 and"):
        interlace.anova(us, us.update(data=data("fev").iloc[:400]))
    glmm = interlace.fit(
        "incidence ~ period",
        interlace.datasets.load("cbpp"),
        groups="herd",
        family="binomial",
        trials="size",
    )
    with pytest.raises(InterlaceError, match="no parts of each other"):
        interlace.anova(us, glmm)
    with pytest.raises(InterlaceError, match="caic=True is not there"):
        interlace.compare(us, us.update(residual="cs(AVISIT | USUBJID)"), caic=True)
