"""Predictions, comparisons, slopes and hypotheses by the package marginaleffects."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose

import interlace
from dense import frame
from fits import of_case as fitted
from interlace import InterlaceError
from reference import cases

me = pytest.importorskip("marginaleffects")
marginal = pytest.importorskip("interlace.reporting.marginal")

# What marginaleffects 0.6 calls is on its way out of Polars 1 (and gone from Polars 2).
pytestmark = pytest.mark.filterwarnings(r"ignore:`cat.get_categories\(\)`:DeprecationWarning")

SE = {"rtol": 1e-6}
# All that is tested here is linear in the coefficients, so that a difference is the derivative at
# any step; the package's own step (1e-8 of a coefficient) leaves from three to seven digits.
STEP = {"eps_vcov": 0.1}


@pytest.fixture(autouse=True)
def without_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derivatives by differences, which need no compiler; one test asks for the exact ones."""
    monkeypatch.setenv("MARGINALEFFECTS_AUTODIFF", "0")


def data() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return frame(200).assign(
        year=rng.integers(2000, 2004, 200),
        size=lambda d: pd.Categorical.from_codes(
            d["f"].str[1:].astype(int), ["small", "mid", "big"], ordered=True
        ),
        yes=rng.integers(0, 2, 200).astype(bool),
    )


def emmeans(name: str) -> list[tuple[str, dict[str, Any]]]:
    text = (cases.HERE / "golden" / f"{name}.inference.json").read_text()
    blocks = json.loads(text)["reml"]["emmeans"]
    return [
        (b["specs"].removeprefix("~"), b["asymptotic"]) for b in blocks if "|" not in b["specs"]
    ]


EMMEANS = [(n, by, table) for n in ("cake", "machines_nested") for by, table in emmeans(n)]


@pytest.mark.parametrize(("name", "by", "golden"), EMMEANS, ids=lambda x: x if x is str else None)
def test_means_over_balanced_grids(name: str, by: str, golden: dict[str, Any]) -> None:
    found = me.predictions(marginal.model(fitted(name)), newdata="balanced", by=by, **STEP)
    table = golden["emmeans"]
    assert found[by].cast(pl.String).to_list() == [str(level) for level in table[by]]
    assert_allclose(found["estimate"], table["emmean"], rtol=1e-6)
    assert_allclose(found["std_error"], table["SE"], **SE)
    assert_allclose(found["conf_low"], table["asymp.LCL"], rtol=1e-5)


@pytest.mark.parametrize(("name", "by", "golden"), EMMEANS)
def test_pairs_over_balanced_grids(name: str, by: str, golden: dict[str, Any]) -> None:
    found = me.avg_comparisons(
        marginal.model(fitted(name)), variables={by: "revpairwise"}, newdata="balanced", **STEP
    )
    pairs = golden["pairs_unadjusted"]
    label = {c.replace(by, ""): i for i, c in enumerate(pairs["contrast"])}
    rows = [label[c] for c in found["contrast"]]
    assert sorted(rows) == list(range(len(pairs["contrast"])))
    assert_allclose(found["estimate"], np.array(pairs["estimate"])[rows], rtol=1e-6, atol=1e-9)
    assert_allclose(found["std_error"], np.array(pairs["SE"])[rows], **SE)


def test_means_within_another_factor() -> None:
    text = (cases.HERE / "golden" / "cake.inference.json").read_text()
    (block,) = [b for b in json.loads(text)["reml"]["emmeans"] if "|" in b["specs"]]
    table = pd.DataFrame(block["asymptotic"]["emmeans"]).astype({"temperature": str})
    grid = me.datagrid(
        model=marginal.model(fitted("cake")),
        recipe=["A", "B", "C"],
        temperature=sorted(set(table["temperature"])),
    )
    found = me.predictions(marginal.model(fitted("cake")), newdata=grid, **STEP)
    ours = found.select("recipe", "temperature", "estimate", "std_error").to_pandas()
    both = ours.astype({"recipe": str, "temperature": str}).merge(table)
    assert len(both) == len(table) == len(ours)
    assert_allclose(both["estimate"], both["emmean"], rtol=1e-6)
    assert_allclose(both["std_error"], both["SE"], **SE)


def test_polynomial_contrasts_give_the_same_means() -> None:
    plain, poly = (marginal.model(fitted(name)) for name in ("cake", "cake_poly"))
    first = me.avg_predictions(plain, by="temperature", **STEP)
    again = me.avg_predictions(poly, by="temperature", **STEP)
    assert_allclose(first["estimate"], again["estimate"], rtol=1e-8)
    assert_allclose(first["std_error"], again["std_error"], **SE)


def test_slope_of_a_line_is_its_coefficient() -> None:
    result = fitted("sleepstudy_slope")
    model = marginal.model(result)
    assert_allclose(me.avg_slopes(model)["std_error"], result.fe_bse["Days"], rtol=5e-3)
    at_mean = me.slopes(model, variables="Days", newdata="mean", **STEP)
    for found in (me.avg_slopes(model, **STEP), at_mean):
        assert_allclose(found["estimate"], result.fe_params["Days"], rtol=1e-7)
        assert_allclose(found["std_error"], result.fe_bse["Days"], **SE)
        assert_allclose(found["conf_high"], result.fe_conf_int.loc["Days", 0.975], rtol=1e-6)


def test_exact_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARGINALEFFECTS_AUTODIFF", "1")
    result = interlace.fit("y ~ x * f + (1 | g)", data())
    X = result.design.X
    found = me.predictions(marginal.model(result))
    se = np.sqrt(np.einsum("ij,jk,ik->i", X, result.fe_cov, X))
    assert_allclose(found["std_error"], se, rtol=1e-12)
    mean = me.avg_comparisons(marginal.model(result), variables={"x": 1})
    weights = {
        "x": 1.0,
        **{f"x:f[T.{level}]": (data()["f"] == level).mean() for level in ("f1", "f2")},
    }
    L = np.array([weights.get(name, 0.0) for name in result.fe_params.index])
    assert np.count_nonzero(L) == 3
    assert_allclose(mean["std_error"], np.sqrt(L @ result.fe_cov @ L), rtol=1e-10)


def test_hypotheses() -> None:
    result = fitted("sleepstudy_slope")
    V = result.fe_cov
    found = me.hypotheses(marginal.model(result), hypothesis="b1 - b0 = 0", **STEP)
    assert_allclose(found["estimate"], np.diff(result.fe_params))
    assert_allclose(found["std_error"], np.sqrt(V[0, 0] + V[1, 1] - 2 * V[0, 1]), **SE)
    named = me.hypotheses(marginal.model(result), hypothesis="Days = 10")
    assert_allclose(named["estimate"], result.fe_params["Days"] - 10)
    table = me.hypotheses(marginal.model(result), **STEP)
    assert table["term"].to_list() == ["Intercept", "Days"]
    assert_allclose(table["std_error"], result.fe_bse, **SE)


def test_covariance_and_degrees_of_freedom_of_the_caller() -> None:
    result = fitted("sleepstudy_slope")
    wide = me.avg_comparisons(marginal.model(result, vcov=4 * result.fe_cov, df=17), **STEP)
    assert_allclose(wide["std_error"], 2 * result.fe_bse["Days"], **SE)
    reach = (wide["conf_high"] - wide["estimate"]) / wide["std_error"]
    assert_allclose(reach, 2.1098155778, rtol=1e-8)
    by_call = me.avg_comparisons(marginal.model(result), vcov=4 * result.fe_cov, **STEP)
    assert_allclose(by_call["std_error"], 2 * result.fe_bse["Days"], **SE)
    none = me.avg_slopes(marginal.model(result), vcov=False)
    assert "std_error" not in none.columns


FORMULAS = {
    "numbers": "y ~ x * z + (1 + x | g)",
    "text": "y ~ x * f + (1 | g)",
    "ordered": "y ~ size * x + (1 | g)",
    "polynomial contrasts": "y ~ C(size, contr.poly) + x + (1 | g)",
    "numbers as categories": "y ~ C(year) + center(x) + (1 | g)",
    "interaction alone": "y ~ f:x + (1 | g)",
    "two factors": "y ~ f * C(year) + (1 | h)",
    "transforms": "log(y + 20) ~ poly(x, 2) + exp(z / 3) + {2 * o} + (1 | g)",
    "booleans": "y ~ yes * x + (1 | g)",
    "no intercept": "y ~ 0 + f + (1 | g)",
    "offset in the formula": "y ~ x + offset(o) + (1 | g)",
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_predictions_of_the_rows_of_the_fit(name: str, library: str) -> None:
    table = data() if library == "pandas" else pl.from_pandas(data())
    result = interlace.fit(FORMULAS[name], table)
    X = result.design.X
    found = me.predictions(marginal.model(result), **STEP)
    assert_allclose(found["estimate"], result.predict(include_re=False), rtol=1e-12)
    se = np.sqrt(np.einsum("ij,jk,ik->i", X, result.fe_cov, X))
    assert_allclose(found["std_error"], se, **SE)


@pytest.mark.parametrize("name", FORMULAS)
def test_grids_and_comparisons(name: str) -> None:
    """A comparison is a difference of our own predictions for changed rows."""
    rows = data()
    result = interlace.fit(FORMULAS[name], rows)
    model = marginal.model(result)
    assert me.predictions(model, newdata="balanced")["estimate"].is_finite().all()
    assert me.predictions(model, newdata=me.datagrid(model=model))["std_error"].is_finite().all()

    def mean(**changes: object) -> float:
        return float(result.predict(rows.assign(**changes), False).mean())

    for row in me.avg_comparisons(model).iter_rows(named=True):
        variable, contrast = row["term"], row["contrast"]
        if contrast == "+1":
            high, low = (mean(**{variable: rows[variable] + d}) for d in (0.5, -0.5))
        else:
            convert = int if variable in ("year", "yes") else str
            high, low = (mean(**{variable: convert(level)}) for level in contrast.split(" - "))
        assert_allclose(row["estimate"], high - low, rtol=1e-9, atol=1e-12)


def test_new_rows_as_a_frame() -> None:
    result = interlace.fit("y ~ x * f + (1 | g)", data())
    new = pl.DataFrame({"x": [0.0, 1.0], "f": ["f2", "f0"]})
    found = me.predictions(marginal.model(result), newdata=new)
    assert_allclose(found["estimate"], result.predict(new, False))


def test_offsets() -> None:
    rows = data()
    by_name = interlace.fit("y ~ x + (1 | g)", rows, offset="o")
    by_value = interlace.fit("y ~ x + (1 | g)", rows, offset=rows["o"].to_numpy())
    expected = by_name.predict(include_re=False)
    for result in (by_name, by_value):
        model = marginal.model(result)
        assert_allclose(me.predictions(model)["estimate"], expected)
        slopes = me.avg_slopes(model, variables="x", **STEP)
        assert_allclose(slopes["estimate"], result.fe_params["x"], rtol=1e-7)
        assert_allclose(slopes["std_error"], result.fe_bse["x"], rtol=1e-7)
        mean = me.predictions(model, newdata="mean")["estimate"][0]
        assert_allclose(mean, result.fe_params @ [1.0, rows["x"].mean()] + rows["o"].mean())


def test_missing_rows_weights_and_dropped_columns() -> None:
    rows = data().assign(x=lambda d: d["x"].where(d["z"] < 1), twice=lambda d: 2 * d["o"])
    with pytest.warns(interlace.RankDeficiencyWarning):
        result = interlace.fit("y ~ x + o + twice + (1 | g)", rows, weights="w")
    model = marginal.model(result)
    found = me.predictions(model)
    assert found.height == result.nobs < len(rows)
    assert_allclose(found["estimate"], result.predict(include_re=False))
    means = me.avg_predictions(model, wts="w", by="g")
    used = rows[rows["x"].notna()].assign(p=result.predict(include_re=False))
    expected = used.groupby("g")[["p", "w"]].apply(lambda d: np.average(d["p"], weights=d["w"]))
    assert_allclose(means["estimate"], expected[means["g"].to_list()])


def test_random_effects_on_request() -> None:
    result = interlace.fit("y ~ x + (1 + x | g) + (1 | h)", data())
    for wanted in (True, "g"):
        found = me.predictions(marginal.model(result, include_re=wanted), **STEP)
        assert_allclose(found["estimate"], result.predict(include_re=wanted))
    fixed = me.predictions(marginal.model(result), **STEP)
    assert_allclose(found["std_error"], fixed["std_error"], **SE)


def test_a_grouping_column_with_a_name_the_package_keeps() -> None:
    result = interlace.fit("y ~ x + (1 | group)", data().rename(columns={"g": "group"}))
    assert me.avg_slopes(marginal.model(result)).height == 1


def test_attributes_of_the_result_remain() -> None:
    model = marginal.model(fitted("sleepstudy_slope"))
    assert model.nobs == 180
    assert model.get_package() == "interlace"


def test_what_is_refused() -> None:
    result = fitted("sleepstudy_slope")
    with pytest.raises(
        InterlaceError, match=r"^vcov has shape \(3, 3\), but the model has 2 coeff"
    ):
        marginal.model(result, vcov=np.eye(3))
    with pytest.raises(InterlaceError, match=r"^df must be positive, not 0"):
        marginal.model(result, df=0)
    with pytest.raises(InterlaceError, match=r"^the result no longer holds its data"):
        marginal.model(result.refit(result.design.y + result.fittedvalues))
    with pytest.raises(
        InterlaceError, match=r"^include_re names 'cow', which is not a grouping fac"
    ):
        marginal.model(result, include_re="cow")
    with pytest.raises(
        InterlaceError, match=r"^vcov must be True, False or a matrix, not 'HC3': a m"
    ):
        me.predictions(marginal.model(result), vcov="HC3")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "marginaleffects.classes.model", None)
    monkeypatch.delitem(sys.modules, "interlace.reporting.marginal")
    with pytest.raises(ImportError, match=r"^marginal effects need the package marginaleffects \("):
        import interlace.reporting.marginal  # noqa: F401


def test_covariance_and_degrees_of_freedom_of_the_fit() -> None:
    """A fit with degrees of freedom keeps them: one number, the smallest, said if they differ."""
    sleep = interlace.datasets.load("sleepstudy")
    result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep, ddf="kenward-roger")
    slope = me.avg_slopes(result.marginal(), variables="Days", **STEP)
    assert slope["p_value"].item() == pytest.approx(result.fe_pvalues["Days"], rel=1e-6)
    machines = interlace.datasets.load("machines")
    formula = "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"
    uneven = interlace.fit(formula, machines, ddf="satterthwaite")
    with pytest.warns(UserWarning, match=r"8\.52 are used.*emmeans"):
        assert uneven.marginal().df_resid == pytest.approx(uneven.fe_df.min())
    assert uneven.marginal(df=10.0).df_resid == 10.0
