"""Names, arguments and choices that people know from elsewhere."""

from __future__ import annotations

import functools
import pickle
import re

import numpy as np
import pytest

import interlace
from interlace import families
from interlace.errors import InterlaceError, spelled
from interlace.glmm.families import Family
from interlace.glmm.names import family_of
from interlace.hints import ARGUMENTS, FAMILIES, MEANS_NAMES, MODULE_NAMES, RESULT_NAMES

SLEEP = interlace.datasets.load("sleepstudy")


@functools.cache
def result() -> interlace.CrossedLMEResult:
    return interlace.fit("Reaction ~ Days + (Days | Subject)", SLEEP)


def test_there_are_many() -> None:
    assert len(RESULT_NAMES) + len(MODULE_NAMES) >= 50 and len(ARGUMENTS) >= 20
    packages = {package for package, *_ in RESULT_NAMES.values()}
    assert {"lme4", "statsmodels", "nlme", "glmmTMB"} <= packages


@pytest.mark.parametrize("name", RESULT_NAMES)
def test_names_asked_of_a_result(name: str) -> None:
    package, _, here = RESULT_NAMES[name]
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': {package}'s ") as found:
        getattr(result(), name)
    assert here in str(found.value)
    assert not hasattr(result(), name)


@pytest.mark.parametrize("name", RESULT_NAMES)
def test_what_is_named_is_there(name: str) -> None:
    here = RESULT_NAMES[name][2]
    for attribute in re.findall(r"result\.(\w+)", here):
        assert hasattr(result(), attribute), here
    for function in re.findall(r"interlace\.(\w+)", here):
        assert hasattr(interlace, function), here


@pytest.mark.parametrize("name", MODULE_NAMES)
def test_names_asked_of_the_package(name: str) -> None:
    package, here = MODULE_NAMES[name]
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': {package}'s {name} is"):
        getattr(interlace, name)
    for function in re.findall(r"interlace\.(\w+)", here):
        assert hasattr(interlace, function), here


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_fit(name: str) -> None:
    for error in (TypeError, InterlaceError):
        with pytest.raises(error, match=f"unexpected keyword argument '{name}': ") as found:
            interlace.fit("Reaction ~ Days + (1 | Subject)", SLEEP, **{name: 1})
    assert ARGUMENTS[name] in str(found.value)
    with pytest.raises(TypeError, match=name):
        result().update(**{name: 1})


def test_arguments_of_verbs() -> None:
    with pytest.raises(TypeError, match="include_re=False"):
        result().predict(re_form=None)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="did you mean 'level'"):
        result().conf_int(levels=0.9)  # type: ignore[call-arg]
    with pytest.raises(
        TypeError, match=r"coef_table\(\) got an unexpected keyword argument 'zzz'$"
    ):
        result().coef_table(zzz=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", MEANS_NAMES)
def test_names_asked_of_means(name: str) -> None:
    means = result().emmeans("1")
    package, _, here = MEANS_NAMES[name]
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': {package}'s ") as found:
        getattr(means, name)
    assert here in str(found.value)
    for attribute in re.findall(r"means\.(\w+)", here):
        assert hasattr(means, attribute)
    assert "emmean" in pickle.loads(pickle.dumps(means)).table


def test_models_are_compared_by_a_function() -> None:
    with pytest.raises(InterlaceError, match=r"compare interlace.anova\(a, b\)"):
        result().anova(result())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="argument 'direction': leave it out"):
        result().step(direction="both")  # type: ignore[call-arg]


def test_near_names() -> None:
    with pytest.raises(AttributeError, match="did you mean 'fe_params'"):
        result().fe_param  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"has no attribute '__array__'$"):
        result().__array__  # type: ignore[attr-defined]  # noqa: B018
    assert np.asarray(result(), dtype=object).shape == ()


# ------------------------------------------------------------------ choices


@pytest.mark.parametrize("method", ["ml", "ML", "Ml", "maximum likelihood"])
def test_methods(method: str) -> None:
    found = interlace.fit("Reaction ~ Days + (1 | Subject)", SLEEP, method=method)  # type: ignore[call-overload]
    assert found.method == "ML" and found.criterion == pytest.approx(1794.079, abs=1e-3)
    assert result().update(method=method).method == "ML"


@pytest.mark.parametrize("ddf", ["KR", "kr", "Kenward-Roger", "kenward_roger", "KenwardRoger"])
def test_degrees_of_freedom(ddf: str) -> None:
    assert result().coef_table(ddf)["df"]["Days"] == pytest.approx(17.0)
    found = result().update(ddf=ddf)
    assert found.fe_df["Days"] == pytest.approx(17.0) and found.options.ddf == "kenward-roger"
    assert result().emmeans("1", ddf=ddf).table["df"].item() == pytest.approx(17.0)
    assert "Kenward" in str(result().summary(ddf=ddf))


def test_other_choices() -> None:
    assert result().conf_int(method="prof", parm="sigma").shape == (1, 2)
    assert len(result().conf_int(method="Wald")) == 2
    boot = result().bootstrap(20, kind="Parametric", seed=1)
    assert len(boot.replicates) == 20
    assert result().predict({"Days": [1.0]}, False, interval="Prediction").shape == (1, 4)
    assert result().power(n=20, ddf="KR", seed=1).ddf == "kenward-roger"
    np.testing.assert_allclose(result().conf_int(alpha=0.1), result().conf_int(level=0.9))


def test_words_that_mean_nothing_stay_refused() -> None:
    for bad in ("reml2", "m"):
        with pytest.raises(InterlaceError, match="method must be"):
            interlace.fit("Reaction ~ Days + (1 | Subject)", SLEEP, method=bad)  # type: ignore[call-overload]
    assert spelled("x", ("a", "b")) == "x" and spelled(None, ("a",)) is None
    assert spelled("REML", ("REML", "ML")) == "REML"


# ------------------------------------------------------------------ changes of a formula


@pytest.mark.parametrize(
    ("change", "formula"),
    [
        (". ~ . - Days", "Reaction ~ 1 + (1 + Days | Subject)"),
        (". ~ . + I(Days**2)", "Reaction ~ 1 + Days + I(Days**2) + (1 + Days | Subject)"),
        (".~.-(Days|Subject)+(1|Subject)", "Reaction ~ 1 + Days + (1 | Subject)"),
        ("log(.) ~ .", "log(Reaction) ~ 1 + Days + (1 + Days | Subject)"),
        (". ~ . - 1", "Reaction ~ 0 + Days + (1 + Days | Subject)"),
        (". ~ 1 + (1 | Subject)", "Reaction ~ 1 + (1 | Subject)"),
        (". ~ Days + (1 | Subject)", "Reaction ~ 1 + Days + (1 | Subject)"),
        (". ~ 0 + Days + (1 | Subject)", "Reaction ~ 0 + Days + (1 | Subject)"),
    ],
)
def test_changes(change: str, formula: str) -> None:
    changed = result().update(change)
    assert str(changed.formula) == formula
    again = interlace.fit(formula, SLEEP)
    assert changed.criterion == pytest.approx(again.criterion)


def test_changes_of_products_and_of_groups() -> None:
    frame = SLEEP.assign(late=np.where(SLEEP["Days"] > 4, "late", "early"))
    full = interlace.fit("Reaction ~ Days * late", frame, groups="Subject")
    less = full.update(". ~ . - Days:late")
    assert str(less.formula) == "Reaction ~ 1 + Days + late + (1 | Subject)"
    with pytest.raises(InterlaceError, match="no fixed term 'Dais'; did you mean 'Days'"):
        full.update(". ~ . - Dais")
    with pytest.raises(InterlaceError, match="no random term"):
        full.update(". ~ . - (1 | late)")


@pytest.mark.parametrize(
    ("formula", "more", "change", "found"),
    [
        (
            "incidence ~ period + (1 | herd)",
            {"family": "binomial", "trials": "size"},
            ". ~ . - period",
            "incidence ~ 1 + (1 | herd)",
        ),
        (
            "Reaction ~ Days",
            {"residual": "ar1(Days | Subject)"},
            ". ~ . - Days",
            "Reaction ~ 1",
        ),
    ],
)
def test_every_kind_of_model_is_updated_by_one_rule(formula, more, change, found):
    name = "cbpp" if "trials" in more else "sleepstudy"
    result = interlace.fit(formula, interlace.datasets.load(name), **more)
    assert str(result.update(change).formula) == found
    with pytest.raises(TypeError, match="unexpected keyword argument 'REML': write method="):
        result.update(REML=False)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_elsewhere(name: str) -> None:
    with pytest.raises(InterlaceError) as found:
        interlace.fit("Reaction ~ Days + (1 | Subject)", SLEEP, family=name)
    assert str(found.value) == f"unknown family {name!r}: write {FAMILIES[name]}"
    for known in re.findall(r'family="([\w-]+)"', FAMILIES[name]):
        assert family_of(known).name


@pytest.mark.parametrize(
    ("family", "link"),
    [
        ("Gaussian", None),
        (" normal ", None),
        ("gaussian", "identity"),
        ("NORMAL", "Identity"),
        (families.Gaussian(), None),
        (families.Gaussian(), "identity"),
    ],
)
def test_a_gaussian_family_is_a_linear_model_however_it_is_written(
    family: str | Family, link: str | None
) -> None:
    found = interlace.fit("Reaction ~ Days + (Days | Subject)", SLEEP, family=family, link=link)
    assert isinstance(found, interlace.CrossedLMEResult)
    assert found.llf == result().llf


def test_a_gaussian_dispersion_model_is_one_of_strata() -> None:
    with pytest.raises(InterlaceError) as found:
        interlace.fit("Reaction ~ Days + (1 | Subject)", SLEEP, dispersion="~ Days")
    assert str(found.value) == (
        "dispersion= is for other families than 'gaussian': name one by family=, or write "
        'residual="varident(s)" for a variance of every level of s'
    )
