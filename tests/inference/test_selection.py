"""Conditional AIC, backward elimination and pooling: against R, refits and formulas."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace.errors import InterlaceError
from interlace.inference.pooled import pooled
from interlace.inference.step import reductions
from reference.means.cases import data, golden

CASES = ["sel_sleepstudy", "sel_exam", "sel_threeway", "sel_insteval"]
BY_CASE = pytest.mark.parametrize("case", CASES)


@functools.cache
def fitted(case: str, method: str = "REML") -> interlace.CrossedLMEResult:
    known = golden(case)
    name = known["data_file"].removeprefix("data/").removesuffix(".csv")
    return interlace.fit(known["formula"], data(name), method=method)


# ------------------------------------------------------------------ conditional AIC


@BY_CASE
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_conditional_aic(case: str, method: str) -> None:
    known = golden(case)[method.lower()]
    found = fitted(case, method).caic()
    assert_allclose(found.caic, known["cAIC4"]["caic"], rtol=1e-8)
    assert_allclose(found.df, known["cAIC4"]["df"], rtol=1e-6)
    assert_allclose(found.df_fixed_theta, known["effective_df_trace_hat"], rtol=1e-6)
    assert_allclose(found.loglik, known["logLik_conditional"], rtol=1e-7)
    assert_allclose(found.loglik, known["cAIC4"]["conditional_loglik"], rtol=1e-7)
    assert found.to_frame().columns[0] == "caic" and "<table" in found._repr_html_()


@pytest.mark.parametrize(
    ("name", "formula", "method"),
    [
        ("dyestuff", "Yield ~ 1 + (1 | Batch)", "ML"),
        ("machines", "score ~ Machine + (1 | Worker)", "REML"),
    ],
)
def test_all_of_the_derivative(name: str, formula: str, method: str) -> None:
    """``df_exact`` is what refits to changed responses say."""
    frame = interlace.datasets.load(name)
    frame["w"] = np.random.default_rng(1).uniform(0.5, 2.0, len(frame))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = interlace.fit(formula, frame, weights="w", method=method)
        y, h, total = result.design.y, 0.05 * result.scale**0.5, 1.0
        for i in range(len(y)):
            d = np.eye(1, len(y), i)[0] * h
            up, down = result.refit(y + d), result.refit(y - d)
            total += (up.fittedvalues[i] - down.fittedvalues[i]) / (2.0 * h)
    assert_allclose(result.caic().df_exact, total, rtol=2e-3)


# ------------------------------------------------------------------ elimination


@BY_CASE
def test_steps(case: str) -> None:
    known = golden(case)["step"]
    found = fitted(case).step()
    for ours, theirs, columns in (
        (found.fixed, known["fixed"], {"F": "F value", "sum_sq": "Sum Sq", "p": "Pr(>F)"}),
        (found.random, known["random"], {"LRT": "LRT", "AIC": "AIC", "p": "Pr(>Chisq)"}),
    ):
        rows = [row.replace("(Days |", "(1 + Days |") for row in theirs["row"]]
        table = ours.loc[rows]
        went = [n or 0 for n in theirs["Eliminated"]]
        assert table["eliminated"].tolist() == went
        for column, name in columns.items():
            numbers = np.array([np.nan if v is None else v for v in theirs[name]], float)
            assert_allclose(table[column], numbers, rtol=3e-5, atol=1e-12)
        if "DenDF" in theirs:
            assert_allclose(table["den_df"], theirs["DenDF"], rtol=1e-3)
    terms = set(known["final"].split("~")[1].replace("(Days", "(1 + Days").split(" + "))
    ours_left = set(str(found.model.formula.fixed).split(" + ")) - {"1"}
    assert ours_left <= {t.strip() for t in terms}
    assert found.formula == str(found.model.formula)
    assert isinstance(found.model, interlace.CrossedLMEResult)
    assert "Left: " in repr(found) and "<table" in found._repr_html_()
    assert max(map(len, repr(found).splitlines())) <= 90


def test_random_effects_go() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "g": np.repeat(np.arange(20), 10),
            "h": np.tile(np.arange(10), 20),
            "x": rng.normal(size=200),
        }
    )
    frame["y"] = frame["x"] + rng.normal(size=20)[frame["g"]] + rng.normal(size=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = interlace.fit("y ~ x + (x | g) + (1 | h)", frame)
        found = result.step()
        assert found.formula == "y ~ x + (1 | g)"
        assert sorted(found.random["eliminated"]) == [0, 0, 1, 2]
        kept = result.step(keep=["(1 | h)"])
        assert "(1 | h)" in kept.formula
        everything = result.step(alpha_random=0.0, alpha_fixed=0.0)
    assert len(everything.model.formula.random) == 1 and everything.model.formula.fixed == "1"


def test_rows_stay_the_same() -> None:
    frame = interlace.datasets.load("sleepstudy")
    frame["noise"] = np.random.default_rng(3).normal(size=len(frame))
    frame.loc[::9, "noise"] = np.nan
    w = np.random.default_rng(4).uniform(0.5, 2.0, len(frame))
    result = interlace.fit("Reaction ~ Days + noise + (Days | Subject)", frame, weights=w)
    left = result.step().model
    assert "noise" not in str(left.formula) and left.nobs == result.nobs


def test_reductions_of_independent_effects() -> None:
    result = interlace.fit(
        "Reaction ~ Days + (Days || Subject)", interlace.datasets.load("sleepstudy")
    )
    labels = [label for label, _, _ in reductions(result)]
    assert labels == ["Intercept in (1 + Days || Subject)", "Days in (1 + Days || Subject)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"keep": ["Dais"]}, "no term 'Dais'"), ({"alpha_fixed": 5}, "alpha_fixed must be")],
)
def test_steps_that_make_no_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InterlaceError, match=message):
        fitted("sel_sleepstudy").step(**arguments)  # type: ignore[arg-type]


# ------------------------------------------------------------------ standard units


def test_standard_units_are_those_of_a_fit_to_standardised_columns() -> None:
    frame = interlace.datasets.load("sleepstudy")
    frame["late"] = np.where(frame["Days"] > 4, "late", "early")
    result = interlace.fit("Reaction ~ Days * late + (1 | Subject)", frame)
    found = result.standardized()
    scaled = frame.assign(
        Reaction=frame["Reaction"] / frame["Reaction"].std(),
        Days=frame["Days"] / frame["Days"].std(),
    )
    again = result.update(data=scaled).coef_table()
    names = ["Days", "late[T.late]", "Days:late[T.late]"]
    assert_allclose(found.loc[names, "estimate"], again.loc[names, "estimate"], rtol=1e-6)
    assert_allclose(found.loc[names, "se"], again.loc[names, "se"], rtol=1e-6)
    assert_allclose(found["p"], result.coef_table()["p"].drop("Intercept"))


# ------------------------------------------------------------------ pooling


def test_rules_of_pooling() -> None:
    """Numbers of Barnard and Rubin's formulas, written out."""
    estimates, variances = np.array([[1.0], [1.4], [1.2]]), np.array([[0.04], [0.05], [0.06]])
    found = pooled(estimates, variances, np.full((3, 1), 20.0))
    B = 0.04
    total = 0.05 + 4.0 / 3.0 * B
    share = 4.0 / 3.0 * B / total
    nu_m, nu_obs = 2.0 / share**2, 21.0 / 23.0 * 20.0 * (1.0 - share)
    assert_allclose(found["estimate"], 1.2)
    assert_allclose(found["se"], np.sqrt(total))
    assert_allclose(found["df"], 1.0 / (1.0 / nu_m + 1.0 / nu_obs))
    large = pooled(estimates, variances, np.full((3, 1), np.inf))
    assert_allclose(large["df"], nu_m)


def test_equal_fits_pool_to_themselves() -> None:
    result = interlace.fit(
        "Reaction ~ Days + (Days | Subject)",
        interlace.datasets.load("sleepstudy"),
        ddf="satterthwaite",
    )
    found = interlace.pool({"a": result, "b": result})
    own = result.coef_table()
    assert_allclose(found.table[["estimate", "se"]], own[["estimate", "se"]])
    assert_allclose(found.table["df"], own["df"] * (own["df"] + 1) / (own["df"] + 3))
    assert_allclose(found.table["fmi"], 0.0)
    assert_allclose(found.variances["sigma"], result.scale**0.5)
    assert "2 imputed data sets" in repr(found) and "<table" in found._repr_html_()


def test_generalised_fits_are_pooled() -> None:
    ticks = interlace.datasets.load("grouseticks")
    formula = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD)"
    rng = np.random.default_rng(2)
    fits = [
        interlace.fit(
            formula,
            ticks.assign(cHEIGHT=ticks["cHEIGHT"] + rng.normal(0, 10, len(ticks))),
            family="negative-binomial",
        )
        for _ in range(3)
    ]
    found = interlace.pool(fits)
    by_hand = pooled(
        np.array([f.fe_params for f in fits]),
        np.array([f.fe_bse for f in fits]) ** 2,
        np.full((3, 4), np.inf),
    )
    assert_allclose(found.table["se"], by_hand["se"])
    assert_allclose(found.table["df"], by_hand["df"])
    assert list(found.variances.index) == ["sd_Intercept|BROOD", "size"]
    assert_allclose(found.variances["size"], np.mean([f.dispersion for f in fits]))
    linear = interlace.fit(formula, ticks)
    with pytest.raises(InterlaceError, match="fits of one family and link"):
        interlace.pool([fits[0], linear])
    with pytest.raises(InterlaceError, match="fits of one family and link"):
        interlace.pool([fits[0], fits[0].update(family="poisson")])


def test_what_cannot_be_pooled() -> None:
    sleep = interlace.datasets.load("sleepstudy")
    one = interlace.fit("Reaction ~ Days + (1 | Subject)", sleep)
    other = interlace.fit("Reaction ~ 1 + (1 | Subject)", sleep)
    with pytest.raises(InterlaceError, match="two or more fits"):
        interlace.pool([one])
    with pytest.raises(InterlaceError, match="pool fits of one formula"):
        interlace.pool([one, other])
    with pytest.raises(InterlaceError, match="not DataFrame"):
        interlace.pool([one, sleep])  # type: ignore[list-item]
