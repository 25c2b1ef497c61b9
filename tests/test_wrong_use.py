"""What a user may ask wrongly of a result ends in an error that says what to do."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

import interlace
from interlace import CrossedLMEResult, InterlaceError


@functools.cache
def sleep(method: str = "REML") -> CrossedLMEResult:
    data = interlace.datasets.load("sleepstudy")
    return interlace.fit("Reaction ~ Days + (Days | Subject)", data, method=method)


@functools.cache
def without_days() -> CrossedLMEResult:
    return sleep().update("Reaction ~ 1 + (Days | Subject)")


def fewer_rows() -> CrossedLMEResult:
    data = interlace.datasets.load("sleepstudy")
    return interlace.fit("Reaction ~ Days + (Days | Subject)", data[data["Days"] > 1])


def without_rows() -> CrossedLMEResult:
    """As a model fitted out of memory is."""
    return replace(sleep(), design=None)


Ask = Callable[[], object]

LEVEL = "level must be strictly between 0 and 1, not 95"
WRONG: dict[str, tuple[Ask, str]] = {
    "rows differ": (
        lambda: interlace.anova(sleep(), fewer_rows()),
        "models of different data cannot be compared: model 1 and model 2 use 180 and 144 rows; "
        "fit them to the same rows",
    ),
    "REML fits that must not be compared": (
        lambda: interlace.anova(sleep(), without_days(), refit=False),
        "REML criteria of models with different fixed effects cannot be compared: leave "
        "refit=False out, or fit the models with method='ML'",
    ),
    "one model": (
        lambda: interlace.anova(sleep()),
        "a comparison needs two models or more, not 1",
    ),
    "coefficient of a test": (
        lambda: sleep().wald_test("Dayz = 0"),
        "the model has no coefficient 'Dayz'; did you mean 'Days'?",
    ),
    "coefficient of an interval": (
        lambda: sleep().conf_int(parm="Dayz"),
        "unknown parameter 'Dayz': choose among 'Intercept', 'Days', or 'beta_' for all fixed "
        "effects, 'theta_' for all variance parameters",
    ),
    "parameter of a profile": (
        lambda: sleep().profile("sd_Days|subject"),
        "unknown parameter 'sd_Days|subject': choose among",
    ),
    "method of an interval": (
        lambda: sleep().conf_int(method="exact"),
        "method must be 'wald', 'profile' or 'bootstrap', not 'exact'",
    ),
    "ddf": (
        lambda: sleep().coef_table("krr"),
        "ddf must be one of 'normal', 'satterthwaite', 'kenward-roger', not 'krr'",
    ),
    "Kenward-Roger after ML": (
        lambda: sleep("ML").coef_table("kenward-roger"),
        "Kenward-Roger tests are defined for fits by REML, this one is by ML: refit with "
        'update(method="REML")',
    ),
    "Kenward-Roger asked of ML": (
        lambda: sleep().update(method="ML", ddf="kenward-roger"),
        "ddf='kenward-roger' corrects a fit by REML: use method='REML', or ddf='satterthwaite'",
    ),
    "type of an analysis of variance": (
        lambda: sleep().anova(type=4),
        "type must be 1, 2 or 3 (or 'I', 'II', 'III'), not 4",
    ),
    "bootstrap without rows": (
        lambda: without_rows().bootstrap(10),
        "bootstrap needs the rows of the model, and this one was fitted without holding them: fit "
        "it to a frame in memory (data=)",
    ),
    "simulation without rows": (
        lambda: without_rows().simulate(),
        "simulate needs the rows of the model, and this one was fitted without holding them: fit "
        "it to a frame in memory (data=)",
    ),
    "kind of bootstrap": (
        lambda: sleep().bootstrap(10, "jackknife"),
        "kind must be 'parametric', 'residual', 'cases' or 'wild', not 'jackknife'",
    ),
    "level of a table": (lambda: sleep().coef_table(level=95), LEVEL),
    "level of a Wald test": (lambda: sleep().wald_test("Days = 0", level=95), LEVEL),
    "level of Wald intervals": (lambda: sleep().conf_int(95), LEVEL),
    "level of profile intervals": (lambda: sleep().conf_int(95, "profile"), LEVEL),
    "level of bootstrap intervals": (lambda: sleep().conf_int(95, "bootstrap"), LEVEL),
    "level of a profile": (lambda: sleep().profile(level=95), LEVEL),
    "level of a bootstrap": (lambda: sleep().bootstrap(2, seed=1).conf_int(95), LEVEL),
    "level of a prediction": (lambda: sleep().predict(interval="confidence", level=95), LEVEL),
    "level of tidy tables": (
        lambda: sleep().tidy(conf_level=95),
        "conf_level must be strictly between 0 and 1, not 95",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_says_what_is_wrong(what: str) -> None:
    ask, message = WRONG[what]
    with pytest.raises(InterlaceError, match=re.escape(message)):
        ask()


def test_different_fixed_parts_are_refitted_and_that_is_said() -> None:
    comparison = interlace.anova(sleep(), without_days())
    assert "refitted by ML" in comparison.notes[0]
    ml = sleep("ML").llf - without_days().update(method="ML").llf
    assert comparison.table["Chisq"].iloc[1] == pytest.approx(2 * ml, rel=1e-8)
