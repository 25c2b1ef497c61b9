"""Tidy tables, explained variance, reports on singular fits, models side by side."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm, t

import interlace
from dense import FORMULAS, frame
from fits import of_case as fitted
from interlace import CrossedLMEResult, InterlaceError, datasets
from interlace.reporting import augment, compare, glance, icc, r2, singular_report, tidy
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

ALL = [(n, m) for n in cases.case_names() for m in cases.METHODS]


@functools.cache
def small(formula: str, weights: str | None = None) -> CrossedLMEResult:
    return interlace.fit(FORMULAS.get(formula, formula), frame(), weights=weights)


def inference(name: str, method: str) -> dict[str, Any]:
    text = (cases.HERE / "golden" / f"{name}.inference.json").read_text()
    found: dict[str, Any] = json.loads(text)[method]
    return found


# ------------------------------------------------------------ explained variance


@pytest.mark.parametrize(("name", "method"), ALL)
def test_r2_golden(name: str, method: str) -> None:
    golden = cases.load_case(name).golden[method]["r2_formula"]
    result = fitted(name, method)
    found = r2(result)
    for part in ("var_fixed", "var_random", "var_residual", "marginal", "conditional"):
        assert_allclose(found[part], golden[part], rtol=1e-6, atol=1e-12)
    assert_allclose(icc(result).adjusted, golden["icc_adjusted"], rtol=1e-6, atol=1e-12)


# The package behind these numbers (performance) leaves out all but one of the independent terms of
# a grouping factor; for `||` they are not those of the formula.
REGULAR = [c for c in ALL if c[0] != "sleepstudy_uncorr" and inference(*c).get("r2_nakagawa")]


@pytest.mark.parametrize(("name", "method"), REGULAR)
def test_r2_and_icc_against_a_package(name: str, method: str) -> None:
    golden = inference(name, method)
    result = fitted(name, method)
    for part in ("marginal", "conditional"):
        assert_allclose(r2(result)[part], golden["r2_nakagawa"][part], rtol=1e-6, atol=1e-12)
    for part in ("adjusted", "unadjusted"):
        assert_allclose(icc(result)[part], golden["icc"][part], rtol=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_r2_row_by_row(name: str) -> None:
    result = small(name, weights="w")
    design, estimate = result.design, result.estimate
    found, shares = r2(result), icc(result)
    fixed = np.var(design.X @ result.fe_params.to_numpy(), ddof=1)
    groups: dict[str, float] = {}
    for term, Z, Sigma in zip(design.terms, design.Z, estimate.covariances, strict=True):
        mean = np.mean([z @ Sigma @ z for z in Z])
        groups[term.group] = groups.get(term.group, 0.0) + mean
    random = sum(groups.values())
    assert_allclose(found.var_fixed, fixed, rtol=1e-12, atol=1e-14)
    assert_allclose(found.var_random, random, rtol=1e-12)
    assert found.var_residual == result.scale
    assert_allclose(found.marginal, fixed / (fixed + random + result.scale))
    assert_allclose(found.conditional, (fixed + random) / (fixed + random + result.scale))
    assert_allclose(shares.adjusted, random / (random + result.scale))
    assert_allclose(shares.unadjusted, random / (fixed + random + result.scale))
    assert list(shares.by_group) == list(result.ngroups)
    for key, value in groups.items():
        assert_allclose(shares[key], value / (random + result.scale), atol=1e-14)
    assert_allclose(sum(shares.by_group.values()), shares.adjusted)


def test_r2_without_the_offset_and_without_dropped_columns() -> None:
    data = frame().assign(twice=lambda d: 2 * d["x"])
    with pytest.warns(interlace.RankDeficiencyWarning):
        result = interlace.fit("y ~ x + twice + (1 | g)", data, offset="o")
    assert_allclose(r2(result).var_fixed, np.var(result.fe_params["x"] * data["x"], ddof=1))


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_r2_does_not_depend_on_units(seed: int) -> None:
    a, b = np.random.default_rng(seed).uniform(0.1, 10, 2)
    data = frame(seed=seed)
    moved = data.assign(y=a * data["y"] + b, x=b * data["x"])
    first, again = (r2(interlace.fit("y ~ x + (1 + x | g)", d)) for d in (data, moved))
    assert_allclose([first.marginal, first.conditional], [again.marginal, again.conditional], 1e-5)
    assert_allclose(again.var_residual, a**2 * first.var_residual, rtol=1e-5)


def test_r2_and_icc_to_read() -> None:
    result = fitted("sleepstudy_slope")
    assert repr(r2(result)) == (
        "R2: marginal 0.2787, conditional 0.7992 (variances: fixed 908.95, random 1698.1, "
        "residual 654.94)"
    )
    assert repr(icc(result)) == "ICC: adjusted 0.7217, unadjusted 0.5206 (Subject 0.7217)"
    assert r2(result).to_frame().columns.tolist() == list(r2(result).to_dict())
    assert icc(result).to_frame().columns.tolist() == ["Subject", "adjusted", "unadjusted"]
    with pytest.raises(KeyError, match="'total' is none of marginal, conditional, var_fixed"):
        r2(result)["total"]


# ------------------------------------------------------------ tidy, glance


def test_tidy_fixed() -> None:
    result = fitted("sleepstudy_slope")
    found = tidy(result, conf_int=True, conf_level=0.9)
    columns = ["effect", "term", "estimate", "std.error", "statistic", "df", "p.value"]
    assert found.columns.tolist() == [*columns, "conf.low", "conf.high"]
    assert tidy(result).columns.tolist() == columns
    assert found["effect"].tolist() == ["fixed", "fixed"]
    assert found["term"].tolist() == ["Intercept", "Days"]
    assert_allclose(found["estimate"], result.fe_params)
    assert_allclose(found["std.error"], result.fe_bse)
    assert_allclose(found["statistic"], result.fe_tvalues)
    assert_allclose(found["p.value"], result.fe_pvalues)
    assert_allclose(found[["conf.low", "conf.high"]], result.conf_int(0.9), rtol=1e-12)


def test_tidy_fixed_by_other_degrees_of_freedom() -> None:
    result = fitted("sleepstudy_slope")
    table = result.coef_table("kenward-roger", 0.9)
    found = tidy(result, ddf="kenward-roger", conf_int=True, conf_level=0.9)
    assert_allclose(found["df"], [17, 17])
    assert_allclose(found["p.value"], table["p"])
    assert_allclose(found["std.error"], table["se"])
    reach = t.ppf(0.95, 17) * table["se"]
    assert_allclose(found["conf.low"], table["estimate"] - reach)
    assert_allclose(found["conf.high"], table["estimate"] + reach)


@pytest.mark.parametrize(("name", "method"), ALL)
def test_tidy_ran_pars_golden(name: str, method: str) -> None:
    result = fitted(name, method)
    found = tidy(result, "ran_pars").set_index(["group", "term"])["estimate"]
    golden = cases.load_case(name).golden[method]
    assert len(found) == len(golden["theta"]) + 1
    assert_allclose(found["Residual", "sd__Observation"], golden["sigma"], rtol=1e-6)
    for key, covariance in cases.covariances(cases.load_case(name), method, result.ngroups).items():
        sd = np.sqrt(np.diag(covariance))
        ours = found[key]
        marked = ours[[term.startswith("sd__") for term in ours.index]]
        assert_allclose(marked, sd, rtol=1e-5, atol=1e-8)
        names = [term.removeprefix("sd__") for term in marked.index]
        for a, b in zip(*np.tril_indices(len(sd), -1), strict=True):
            term = f"cor__{names[b]}.{names[a]}"
            if term in ours.index:
                assert_allclose(ours[term], covariance[a, b] / (sd[a] * sd[b]), rtol=1e-4)


def test_tidy_ran_pars_order_and_standard_errors() -> None:
    result = small("three crossed")
    found = tidy(result, "ran_pars")
    assert found[["group", "term"]].agg(" ".join, axis=1).tolist() == [
        "g sd__Intercept",
        "h sd__Intercept",
        "h sd__x",
        "f sd__Intercept",
        "Residual sd__Observation",
    ]
    variance = result.vcov_theta().loc["sigma", "sigma"]
    assert_allclose(found["std.error"].iloc[-1], np.sqrt(variance))


def test_correlation_beside_a_zero_variance_is_missing() -> None:
    result = interlace.fit("y ~ 1 + (1 + x | f)", flat_slope())
    (T,) = result.estimate.templates
    estimate = replace(result.estimate, templates=(np.outer([1.0, 0.0], T[0]),))
    found = tidy(replace(result, estimate=estimate), "ran_pars")
    assert found["term"].tolist()[:3] == ["sd__Intercept", "cor__Intercept.x", "sd__x"]
    assert found["estimate"][0] > 0
    assert np.isnan(found["estimate"][1])
    assert found["estimate"][2] == 0


@pytest.mark.parametrize("name", ["slope", "uncorrelated", "nested and crossed"])
def test_tidy_ran_vals(name: str) -> None:
    result = small(name)
    found = tidy(result, "ran_vals", conf_int=True, conf_level=0.8)
    assert len(found) == sum(term.q for term in result.estimate.A.terms)
    for key, modes in result.random_effects.items():
        errors = result.random_effects_se[key]
        part = found[found["group"] == key].set_index(["level", "term"])
        for term in ["Intercept"] if isinstance(modes, pd.Series) else modes.columns:
            values = modes if isinstance(modes, pd.Series) else modes[term]
            se = errors if isinstance(errors, pd.Series) else errors[term]
            rows = part.xs(term, level="term").loc[values.index]
            assert_allclose(rows["estimate"], values)
            assert_allclose(rows["std.error"], se)
            assert_allclose(rows["conf.high"], values + norm.ppf(0.9) * se)
            assert_allclose(rows["conf.low"], values - norm.ppf(0.9) * se)


def test_tidy_all_and_some() -> None:
    result = small("slope")
    found = tidy(result, "all")
    assert found["effect"].unique().tolist() == ["fixed", "ran_pars", "ran_vals"]
    assert found.index.tolist() == list(range(len(found)))
    some = tidy(result, ["ran_pars", "fixed"])
    assert some["effect"].unique().tolist() == ["ran_pars", "fixed"]
    assert "level" not in some
    for wrong in ("random", ["fixed", "random"]):
        with pytest.raises(
            InterlaceError, match=r"^effects must be among 'fixed', 'ran_pars', 'ran"
        ):
            tidy(result, wrong)
    with pytest.raises(InterlaceError, match=r"^effects is empty"):
        tidy(result, [])
    with pytest.raises(
        InterlaceError, match=r"^conf_level must be strictly between 0 and 1, not 95"
    ):
        tidy(result, conf_level=95)


@pytest.mark.parametrize(("name", "method"), ALL)
def test_glance_golden(name: str, method: str) -> None:
    golden = cases.load_case(name).golden[method]
    found = glance(fitted(name, method))
    assert len(found) == 1
    criterion = "REMLcrit" if method == "reml" else "deviance"
    assert found.columns.tolist() == [
        *("nobs", "sigma", "logLik", "AIC", "BIC", criterion, "df.residual")
    ]
    for ours, theirs in (("sigma", "sigma"), ("logLik", "logLik"), ("AIC", "AIC"), ("BIC", "BIC")):
        assert_allclose(found[ours][0], golden[theirs], rtol=1e-7)
    assert_allclose(found[criterion][0], golden["objective"], rtol=1e-9)
    assert found["df.residual"][0] == found["nobs"][0] - golden["npar"]


# ------------------------------------------------------------ augment


def gappy() -> pd.DataFrame:
    data = frame().set_index(pd.Index(range(100, 190)))
    return data.assign(x=data["x"].where(data["z"] < 1), spare=1)


def test_augment_rows_and_columns() -> None:
    data = gappy()
    result = interlace.fit("y ~ x + offset(o) + (1 + z | a/b)", data, weights="w")
    found = augment(result)
    assert isinstance(found, pd.DataFrame)
    used = data.loc[data["x"].notna(), ["y", "x", "z", "o", "w", "a", "b"]]
    pd.testing.assert_frame_equal(found[used.columns], used)
    new = ".fitted .resid .hat .cooksd .fixed .mu .offset .sqrtXwt .sqrtrwt .weights .wtres"
    assert found.columns.tolist() == [*used.columns, *new.split()]
    assert_allclose(found[".fitted"], result.fittedvalues)
    assert_allclose(found[".mu"], result.fittedvalues)
    assert_allclose(found[".resid"], used["y"] - result.fittedvalues)
    assert_allclose(found[".fixed"], result.predict(include_re=False))
    assert_allclose(found[".offset"], used["o"])
    assert_allclose(found[".weights"], used["w"])
    assert_allclose(found[".sqrtrwt"], np.sqrt(used["w"]))
    assert_allclose(found[".sqrtXwt"], np.sqrt(used["w"]))
    assert_allclose(found[".wtres"], np.sqrt(used["w"]) * found[".resid"])


@pytest.mark.parametrize("name", ["cake", "sleepstudy_weights", "pastes"])
def test_augment_golden(name: str) -> None:
    golden = cases.load_case(name).golden["reml"]
    found = augment(fitted(name))
    assert_allclose(found[".fitted"], golden["fitted"], rtol=1e-6)
    assert_allclose(found[".fixed"], golden["fitted_fixed_only"], rtol=1e-6)
    assert_allclose(found[".resid"], golden["resid_response"], rtol=1e-5, atol=1e-5)
    assert_allclose(found[".wtres"], golden["resid_pearson"], rtol=1e-5, atol=1e-5)


def test_augment_has_lme4s_influence() -> None:
    golden = cases.load_golden("sleepstudy_weights", "diagnostics")["lme4"]
    found = augment(fitted("sleepstudy_weights"))
    assert found.columns.tolist().index(".hat") == found.columns.tolist().index(".resid") + 1
    assert_allclose(found[".hat"], golden["hatvalues"], rtol=1e-6)
    assert_allclose(found[".cooksd"], golden["cooks_distance"], rtol=1e-5, atol=1e-8)


def test_augment_new_rows() -> None:
    result = small("slope")
    new = pd.DataFrame({"x": [0.0, 1.0], "g": ["g1", "new"], "other": 1}, index=[7, 3])
    found = augment(result, new)
    assert found.columns.tolist() == ["x", "g", "other", ".fitted", ".fixed"]
    assert found.index.tolist() == [7, 3]
    assert_allclose(found[".fitted"], result.predict(new))
    assert_allclose(found[".fixed"], result.predict(new, False))
    assert new.columns.tolist() == ["x", "g", "other"]


def test_augment_gives_the_callers_frame_back() -> None:
    data = gappy().reset_index(drop=True)
    expected = augment(interlace.fit("y ~ x + (1 | g)", data)).reset_index(drop=True)
    polars = pl.from_pandas(data)
    found = augment(interlace.fit("y ~ x + (1 | g)", polars))
    assert isinstance(found, pl.DataFrame)
    assert_allclose(found[".fitted"].to_numpy(), expected[".fitted"])
    assert found.columns == expected.columns.tolist()
    arrow = augment(interlace.fit("y ~ x + (1 | g)", polars.to_arrow()))
    assert isinstance(arrow, pa.Table)
    assert_allclose(arrow[".resid"].to_numpy(), expected[".resid"])
    columns = {name: data[name].to_numpy() for name in data}
    mapping = augment(interlace.fit("y ~ x + (1 | g)", columns))
    assert isinstance(mapping, pd.DataFrame)
    assert_allclose(mapping[".fitted"], expected[".fitted"])
    assert isinstance(augment(small("slope"), polars.head(2).fill_null(0.0)), pl.DataFrame)


def test_augment_without_the_data() -> None:
    result = small("nested and crossed")
    found = augment(result.refit(result.design.y * 2))
    assert found.columns.tolist()[:4] == ["y", "a:b", "h", "a"]
    assert_allclose(found["y"], 2 * result.design.y)
    assert found["h"].tolist() == frame()["h"].tolist()
    assert_allclose(found[".fitted"], 2 * result.fittedvalues, rtol=1e-5)


# ------------------------------------------------------------ singular fits


def flat_slope() -> pd.DataFrame:
    """Three groups that differ in the mean, exactly alike in the slope of x."""
    rng = np.random.default_rng(2)
    x = np.tile([-1.0, -1.0, 1.0, 1.0], 15)
    f = np.repeat(["a", "b", "c"], 20)
    e = np.tile([1.0, -1.0, 1.0, -1.0], 15) * (1 + rng.uniform(size=60).round(1))
    e -= e.reshape(3, 20).mean(axis=1).repeat(20)
    e -= (e * x).reshape(3, 20).mean(axis=1).repeat(20) * x
    return pd.DataFrame({"y": e + 3.0 * (f == "b") + 5.0 * (f == "c"), "x": x, "f": f})


def test_report_of_a_regular_fit() -> None:
    found = singular_report(fitted("sleepstudy_slope"))
    assert not found.is_singular
    assert found.directions == () and found.suggestions == ()
    assert str(found) == "The fit is not singular: every random effect has a variance."
    assert found._repr_html_() == f"<p>{found}</p>"


def test_report_of_intercepts_without_variance() -> None:
    assert str(singular_report(fitted("dyestuff2"))) == (
        "Singular fit\n"
        "============\n"
        "Batch: Intercept has no variance (standard deviation 0)\n"
        "\n"
        "The estimates are valid. Simpler models to try, the smallest changes first:\n"
        "- drop (1 | Batch), the only random term: fit a linear model: Yield ~ 1"
    )
    exam = singular_report(fitted("exam"))
    assert [d.group for d in exam.directions] == ["school_id"]
    assert exam.formulas == ["score ~ hours_studied + prior_gpa + (1 | student_id)"]


def test_report_of_a_combination() -> None:
    result = small("y ~ x + (1 + x + z | h) + (1 | g)")
    found = singular_report(result)
    assert found.is_singular
    (term,) = [t for t in result.estimate.A.terms if t.group == "h"]
    Sigma = result.variance_components["h"]
    for direction in found.directions:
        weights = np.array([direction.weights[c] for c in term.columns])
        assert_allclose(weights @ weights, 1.0)
        assert weights[0] > 0
        assert weights @ Sigma.to_numpy() @ weights < 1e-8 * np.trace(Sigma)
        written = re.findall(r"([+-]? ?[\d.]+)\*(\w+)", direction.combination)
        assert [name for _, name in written] == list(term.columns)
        numbers = [float(number.replace(" ", "")) for number, _ in written]
        assert_allclose(numbers, weights, atol=0.006)
    assert found.formulas == [
        "y ~ x + (1 + x + z || h) + (1 | g)",
        "y ~ x + (1 + z | h) + (1 | g)",
        "y ~ x + (1 + x | h) + (1 | g)",
        "y ~ x + (1 | g)",
    ]
    for formula in found.formulas:
        interlace.fit(formula, frame())
    assert "<code>y ~ x + (1 | g)</code>" in found._repr_html_()


def test_report_in_the_users_units() -> None:
    """The combination without variance scales with the columns, and stays without variance."""
    data = frame().assign(x=lambda d: 1000 * d["x"])
    result = interlace.fit("y ~ x + (1 + x + z | h) + (1 | g)", data)
    Sigma = result.variance_components["h"].to_numpy()
    sizes = np.sqrt(np.diag(Sigma))
    for direction in singular_report(result).directions:
        weights = np.array(list(direction.weights.values()))
        assert_allclose(weights @ Sigma @ weights / (np.abs(weights) @ sizes) ** 2, 0, atol=1e-8)


def test_report_of_a_flat_slope() -> None:
    correlated = singular_report(interlace.fit("y ~ 1 + (1 + x | f)", flat_slope()))
    assert [d.combination for d in correlated.directions] == ["x"]
    assert correlated.formulas == ["y ~ 1 + (1 + x || f)", "y ~ 1 + (1 | f)", "y ~ 1"]
    apart = singular_report(interlace.fit("y ~ 1 + (1 + x || f)", flat_slope()))
    assert [d.combination for d in apart.directions] == ["x"]
    assert apart.formulas == ["y ~ 1 + (1 | f)", "y ~ 1"]


def test_report_of_a_flat_intercept() -> None:
    data = flat_slope().assign(y=lambda d: d["y"] - d.groupby("f")["y"].transform("mean"))
    data["y"] += data["x"] * data["f"].map({"a": 0.0, "b": 2.0, "c": 4.0})
    found = singular_report(interlace.fit("y ~ x + (1 + x || f)", data))
    assert [d.combination for d in found.directions] == ["Intercept"]
    assert found.formulas == ["y ~ x + (0 + x | f)", "y ~ x"]


# ------------------------------------------------------------ models side by side


def test_compare_restricted_likelihoods() -> None:
    models = [fitted("sleepstudy_slope"), fitted("sleepstudy_uncorr"), fitted("sleepstudy_int")]
    found = compare(*models, names=["slope", "apart", "intercept"])
    table = found.table
    assert table.columns.tolist() == [
        *("formula", "nparams", "method", "AIC", "AICc", "BIC", "logLik", "delta_AIC", "weight"),
        *("R2_marginal", "R2_conditional", "ICC", "RMSE", "sigma", "singular"),
    ]
    assert table.index.tolist() == ["slope", "apart", "intercept"]
    assert table["method"].tolist() == ["REML"] * 3
    assert_allclose(table["AIC"], [m.aic for m in models])
    assert_allclose(table["BIC"], [m.bic for m in models])
    assert_allclose(table["logLik"], [m.llf for m in models])
    k = table["nparams"].to_numpy()
    assert_allclose(table["AICc"], table["AIC"] + 2 * k * (k + 1) / (180 - k - 1))
    assert_allclose(table["delta_AIC"], table["AIC"] - table["AIC"].min())
    assert_allclose(table["weight"].sum(), 1.0)
    ratio = table["weight"]["slope"] / table["weight"]["apart"]
    assert_allclose(ratio, np.exp((table["AIC"]["apart"] - table["AIC"]["slope"]) / 2))
    assert_allclose(table["R2_marginal"], [r2(m).marginal for m in models])
    assert_allclose(table["R2_conditional"], [r2(m).conditional for m in models])
    assert_allclose(table["ICC"], [icc(m).adjusted for m in models])
    assert_allclose(table["RMSE"], [np.sqrt((m.resid**2).mean()) for m in models])
    assert_allclose(table["sigma"] ** 2, [m.scale for m in models])
    assert table["singular"].tolist() == [False] * 3
    assert found.notes == ("Restricted likelihoods (REML) are compared.",)


def test_compare_refits_by_ml() -> None:
    data = datasets.load("sleepstudy")
    null = interlace.fit("Reaction ~ 1 + (Days | Subject)", data)
    found = compare(fitted("sleepstudy_slope"), null)
    assert found["method"].tolist() == ["ML", "ML"]
    ml = [fitted("sleepstudy_slope", "ml"), null.update(method="ML")]
    assert_allclose(found["AIC"], [m.aic for m in ml], rtol=1e-9)
    assert_allclose(found["sigma"][0:1], fitted("sleepstudy_slope").scale ** 0.5)
    assert found.notes == (
        "All models were fitted by REML and have been refitted by ML for this comparison.",
        "R2, ICC, RMSE and sigma are those of the models as they were fitted.",
    )
    assert "refitted by ML" in str(found)
    mixed = compare(fitted("sleepstudy_slope"), fitted("sleepstudy_int", "ml"))
    assert mixed["method"].tolist() == ["ML", "ML"]
    assert mixed.notes[0].startswith("1 of 2 models")
    assert compare(*ml).notes == ()


def test_compare_refuses_other_rows() -> None:
    with pytest.raises(InterlaceError, match=r"^models of different data cannot be compared: "):
        compare(fitted("dyestuff"), fitted("dyestuff2"))
    with pytest.raises(InterlaceError, match=r"^a comparison needs two models or more, not 1$"):
        compare(fitted("dyestuff"))


def test_aicc_without_room_is_infinite() -> None:
    data = frame()[:10].assign(g=list("aaabbbcccc"))
    models = [interlace.fit(f"y ~ {f} + (1 | g)", data, method="ML") for f in ("1", "x+z+o+w")]
    table = compare(*models).table
    assert table["nparams"].tolist() == [3, 7]
    assert_allclose(table["AICc"].iloc[1] - table["AIC"].iloc[1], 2 * 7 * 8 / 2)
    more = interlace.fit("y ~ x+z+o+w+x:z+x:o + (1 | g)", data, method="ML")
    assert np.isinf(compare(models[0], more)["AICc"].iloc[1])
