"""Every object that a user is given has text of lines that fit, and HTML."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pandas as pd
import pytest

import fits
import interlace
from interlace.machine.markup import WIDTH

SLEEP = interlace.datasets.load("sleepstudy")
FORMULA = "Reaction ~ Days + (Days | Subject)"
CBPP = interlace.datasets.load("cbpp")


def linear() -> interlace.CrossedLMEResult:
    return fits.of_case("sleepstudy_slope")


def herds() -> interlace.CrossedGLMMResult:
    return interlace.fit(
        "incidence ~ period", CBPP, groups="herd", family="binomial", trials="size"
    )


OBJECTS: dict[str, Callable[[], object]] = {
    "result": linear,
    "general result": herds,
    "convergence": lambda: linear().convergence,
    "convergence of a general fit": lambda: herds().convergence,
    "cross-products": lambda: interlace.cross_products(FORMULA, SLEEP),
    "many fits": lambda: interlace.fit_many("~ Days + (1 | Subject)", SLEEP, ["Reaction"]),
    "profile": lambda: linear().profile(parm=["Days", "sigma"]),
    "profile of a general fit": lambda: herds().profile(parm=["Intercept"]),
    "bootstrap": lambda: linear().bootstrap(20, seed=1),
    "summary": lambda: linear().summary(),
    "test": lambda: linear().wald_test("Days = 0"),
    "comparison": lambda: interlace.anova(linear(), linear().update(". ~ . - Days")),
    "r2": lambda: linear().r2(),
    "icc": lambda: linear().icc(),
    "conditional AIC": lambda: linear().caic(),
    "step": lambda: linear().step(),
    "pooled": lambda: interlace.pool([linear(), linear()]),
    "cross-validation": lambda: linear().cross_validate("Subject"),
    "means": lambda: linear().emmeans("1"),
    "slopes": lambda: linear().emtrends("Days"),
    "contrasts": lambda: linear().emmeans("Days", at={"Days": [1, 2]}).contrasts(),
    "power": lambda: linear().power("Days", n=20, seed=1),
    "table": lambda: interlace.table(linear()),
    "checks": lambda: linear().check(nsim=50),
    "singular report": lambda: linear().singular_report(),
    "check of residuals": lambda: interlace.check_residuals(linear(), nsim=50),
    "check of zeros": lambda: interlace.check_zeros(herds()),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_text_fits_and_html_says_more_than_nothing(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = OBJECTS[name]()
    text, html = repr(shown), shown._repr_html_()  # type: ignore[attr-defined]
    if "\n" in text:
        assert max(map(len, text.splitlines())) <= WIDTH, text
    assert "<table" in html or "<p>" in html
    assert "object at 0x" not in text + html
    assert html.count("<table") == html.count("</table")


def test_certificate_in_words() -> None:
    text = repr(linear().convergence)
    assert text.splitlines()[0] == "Convergence" and "converged         yes: " in text
    with pytest.warns(interlace.SingularFitWarning):
        singular = interlace.fit("y ~ x + (1 | g)", pd.DataFrame(without_variance()))
    assert "starts            " in repr(singular.convergence)


def without_variance() -> dict[str, list[object]]:
    """Rows without variance between groups."""
    return {
        "y": [1.0, 2.5, 3.0, 4.5, 2.5, 1.0, 4.5, 3.0],
        "x": [0.0, 1.0, 2.0, 3.0, 1.0, 0.0, 3.0, 2.0],
        "g": ["a", "b", "a", "b", "a", "b", "a", "b"],
    }


def test_sums_in_words() -> None:
    frame = SLEEP.assign(twice=2.0 * SLEEP["Days"])
    sums = interlace.cross_products("Reaction ~ Days + twice + (Days | Subject)", frame)
    assert repr(sums).splitlines() == [
        "Cross-products",
        "  rows           180",
        "  fixed effects  Intercept, Days",
        "  left out       twice: they depend on the others",
        "  Subject        18 levels, with Intercept, Days",
    ]
