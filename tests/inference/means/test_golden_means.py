"""Means, contrasts, trends, letters and joint tests against R's emmeans."""

from __future__ import annotations

import functools
import json
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fits
import interlace
from reference import cases
from reference.means.cases import categories, data, extra, golden

CASES = ["emm_oats_missing_cell", "emm_threeway", "emm_threeway_trend", "emm_insteval_crossed"]
DDF = {
    "kenward_roger": "kenward-roger",
    "satterthwaite": "satterthwaite",
    "asymptotic": "normal",
}
BOTH = pytest.mark.parametrize("case", CASES)
ALL = pytest.mark.parametrize("ddf", DDF)


@functools.cache
def fitted(case: str) -> interlace.CrossedLMEResult:
    known = golden(case)
    name = known["data_file"].removeprefix("data/").removesuffix(".csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return interlace.fit(known["formula"], data(name))


def numbers(values: list[Any]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def agree(ours: pd.DataFrame, theirs: dict[str, Any], name: str, p: float = 1e-3) -> None:
    """Estimates, errors, degrees of freedom, probabilities and limits."""
    estimate = numbers(theirs[name])
    known = np.isfinite(estimate)
    column = name if name in ours else "trend" if name.endswith("trend") else "estimate"
    got = ours[column].to_numpy()
    assert (np.isfinite(got) == known).all()
    # A search may end 1e-5 standard errors from the optimum, which counts in differences.
    near = 1e-6 * np.abs(estimate[known]) + 5e-6 * numbers(theirs["SE"])[known]
    assert (np.abs(got[known] - estimate[known]) <= near).all()
    np.testing.assert_allclose(ours["se"][known], numbers(theirs["SE"])[known], rtol=1e-5)
    df = numbers(theirs["df"])[known]
    if np.isnan(df).all():
        df[:] = np.inf
    np.testing.assert_allclose(ours["df"][known], df, rtol=1e-3)
    if "p" in ours:
        np.testing.assert_allclose(ours["p"][known], numbers(theirs["p.value"])[known], atol=p)
    for side in ("lower", "upper"):
        theirs_side = next(
            (k for k in theirs if k in (f"{side}.CL", f"asymp.{side[0].upper()}CL")), None
        )
        if theirs_side:
            reach = np.abs(numbers(theirs[theirs_side])[known] - estimate[known])
            got_reach = np.abs(ours[side][known] - got[known])
            some = reach > 0.0  # zero for functions that are zero whatever the data
            np.testing.assert_allclose(got_reach[some], reach[some], rtol=2e-3)


def specs_of(known: dict[str, Any]) -> list[dict[str, Any]]:
    return known["specs"]


def at_of(case: str, spec: dict[str, Any]) -> dict[str, Any] | None:
    alone = case == "emm_threeway_trend" and spec["specs"] == "~ arm" and "weights" not in spec
    return {"age": [40]} if alone else None


@BOTH
@ALL
def test_means(case: str, ddf: str) -> None:
    result = fitted(case)
    for spec in specs_of(golden(case)[ddf]):
        at = at_of(case, spec)
        means = result.emmeans(spec["specs"], at=at, ddf=DDF[ddf])
        agree(means.table, spec["means"], "emmean")
        for name in means.functions.labels:
            assert means.table[name].astype(str).tolist() == spec["means"][name]
        for weights, theirs in spec.get("weights", {}).items():
            ours = result.emmeans(spec["specs"], at=at, ddf=DDF[ddf], weights=weights)
            agree(ours.table, theirs, "emmean")


@BOTH
@ALL
def test_contrasts(case: str, ddf: str) -> None:
    result = fitted(case)
    names = {"poly": "poly", "consec": "consec", "eff": "eff", "trt_vs_ctrl_none": "trt.vs.ctrl"}
    for spec in specs_of(golden(case)[ddf]):
        means = result.emmeans(spec["specs"], at=at_of(case, spec), ddf=DDF[ddf])
        for key, method in names.items():
            if key not in spec:
                continue
            ours = means.contrasts(method, adjust="none").table
            assert ours["contrast"].tolist() == spec[key]["contrast"]
            if len(spec[key]["estimate"]) == len(ours):
                agree(ours, spec[key], "estimate")


@BOTH
@ALL
def test_adjustments_of_pairs(case: str, ddf: str) -> None:
    result = fitted(case)
    for spec in specs_of(golden(case)[ddf]):
        means = result.emmeans(spec["specs"], at=at_of(case, spec), ddf=DDF[ddf])
        for adjust in ("none", "tukey", "holm", "bonferroni", "sidak"):
            theirs = spec["pairwise"][adjust]
            ours = means.contrasts("pairwise", adjust=adjust)
            if len(means.functions.inner) == 1:
                assert ours.table["contrast"].tolist() == theirs["contrast"]
            agree(ours.table, theirs, "estimate")
        precise = spec["pairwise"].get("mvt_precise")
        if precise and "p" in precise:
            p = means.contrasts("pairwise", adjust="mvt").table["p"]
            np.testing.assert_allclose(p, numbers(precise["p"]), atol=2e-3)
            # emmeans' own are Monte Carlo, good to 1e-3.
            agree(
                means.contrasts("pairwise", adjust="mvt").table,
                spec["pairwise"]["mvt_emmeans"],
                "estimate",
                p=2e-3,
            )


@BOTH
@ALL
def test_dunnett_is_near_the_approximation(case: str, ddf: str) -> None:
    """emmeans approximates ("dunnettx"): the documentation says by how much p values differ."""
    result = fitted(case)
    for spec in specs_of(golden(case)[ddf]):
        theirs = spec["trt_vs_ctrl_dunnettx"]
        ours = result.emmeans(spec["specs"], at=at_of(case, spec), ddf=DDF[ddf]).contrasts(
            "trt.vs.ctrl", adjust="dunnettx"
        )
        assert ours.adjust == "dunnett"
        plain = {k: v for k, v in theirs.items() if "CL" not in k}
        # Here the family is what can be estimated, in emmeans all that was asked for.
        if len(theirs["estimate"]) == len(ours.table) and None not in theirs["estimate"]:
            agree(ours.table, plain, "estimate", p=0.05)


@ALL
def test_contrasts_of_contrasts(ddf: str) -> None:
    known = golden("emm_threeway")[ddf]
    (spec,) = [s for s in specs_of(known) if "interaction_pairwise" in s]
    means = fitted("emm_threeway").emmeans(["arm", "item"], ddf=DDF[ddf])
    ours = means.contrasts("pairwise", adjust="none", interaction=True).table
    agree(ours, spec["interaction_pairwise"], "estimate")


@BOTH
@ALL
def test_letters(case: str, ddf: str) -> None:
    for spec in specs_of(golden(case)[ddf]):
        if "cld_letters" in spec:
            means = fitted(case).emmeans(spec["specs"], ddf=DDF[ddf])
            ours = means.letters(0.95)["letters"].tolist()
            assert ours == [g.replace(" ", "") for g in spec["cld_letters"][".group"]]


@BOTH
@ALL
def test_joint_tests(case: str, ddf: str) -> None:
    known, result = golden(case)[ddf], fitted(case)
    compare_tests(result.joint_tests(ddf=DDF[ddf]), known["joint_tests"])
    if "joint_tests_by" in known:
        theirs = known["joint_tests_by"]
        by = theirs["by"] if isinstance(theirs["by"], str) else theirs["by"][0]
        ours = result.joint_tests(by=by, ddf=DDF[ddf])
        compare_tests(ours, theirs)
        assert ours[by].astype(str).tolist() == theirs[by]


def compare_tests(ours: pd.DataFrame, theirs: dict[str, Any]) -> None:
    assert list(ours.index) == theirs["model term"]
    assert ours["num_df"].tolist() == theirs["df1"]
    df2 = numbers(theirs["df2"])
    df2[np.isnan(df2)] = np.inf
    np.testing.assert_allclose(ours["den_df"], df2, rtol=1e-3, atol=6e-3)
    np.testing.assert_allclose(ours["F"], theirs["F.ratio"], rtol=1e-4, atol=6e-4)
    np.testing.assert_allclose(ours["p"], theirs["p.value"], atol=1e-4)


@pytest.mark.parametrize("case", ["emm_threeway_trend", "emm_insteval_crossed"])
@ALL
def test_trends(case: str, ddf: str) -> None:
    for trend in golden(case)[ddf]["trends"]:
        slopes = fitted(case).emtrends(trend["var"], by=trend["specs"], ddf=DDF[ddf])
        agree(slopes.table, trend["trends"], f"{trend['var']}.trend")
        agree(slopes.contrasts(adjust="none").table, trend["pairs_none"], "estimate")
        agree(slopes.contrasts().table, trend["pairs_tukey"], "estimate")


# The designs of make_extra.R ----------------------------------------------------------------------


EXTRA = ["nested", "nested_main", "weighted", "curved", "dose", "no_intercept", "hole"]


@functools.cache
def extra_fit(name: str) -> interlace.CrossedLMEResult:
    known, frame = golden("extra_means")[name], extra()
    if name == "hole":
        lost = (frame["state"] == "X") & (frame["trt"] == "t1") & (frame["dose"] == "2")
        frame = frame[~lost]
    formula = re.sub(r"I\(x\^2\)", "{x**2}", known["formula"]).replace("log(", "np.log(")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return interlace.fit(formula, frame, weights=known["weights"] or None, ddf="satterthwaite")


def asked(name: str):
    for known in golden("extra_means")[name]["means"]:
        at = {k: v for k, v in (known["at"] or {}).items()}
        means = extra_fit(name).emmeans(known["specs"], at=at, weights=known["weights"] or "equal")
        yield known, means


@pytest.mark.parametrize("name", EXTRA)
def test_means_of_other_designs(name: str) -> None:
    for known, means in asked(name):
        theirs = known["table"]
        theirs = {k: v if isinstance(v, list) else [v] for k, v in theirs.items()}
        estimate = [None if v in ("NA", "nonEst") else v for v in theirs["emmean"]]
        agree(means.table, theirs | {"emmean": estimate}, "emmean")
        for column in means.functions.labels:
            got = [str(v) for v in means.table[column]]
            if column in theirs and not re.fullmatch(r"-?[\d.]+", got[0]):
                assert got == [str(v) for v in theirs[column]], (known["specs"], column)


@pytest.mark.parametrize("name", EXTRA)
def test_contrasts_of_other_designs(name: str) -> None:
    for known, means in asked(name):
        if name == "nested" and means.by:
            continue  # emmeans takes another number of means for the studentised range here
        for method, theirs in (known.get("contrasts") or {}).items():
            if theirs and isinstance(theirs["estimate"], list):
                ours = means.contrasts(method, adjust="none").table
                if len(theirs["estimate"]) == len(ours):
                    assert ours["contrast"].tolist() == theirs["contrast"], known["specs"]
                    agree(ours, theirs, "estimate")
        for adjust, theirs in (known.get("adjusted") or {}).items():
            if theirs and isinstance(theirs["estimate"], list):
                agree(means.contrasts(adjust=adjust).table, theirs, "estimate")


@pytest.mark.parametrize("name", [n for n in EXTRA if n != "nested_main"])
def test_joint_tests_of_other_designs(name: str) -> None:
    known = golden("extra_means")[name]["joint_tests"]
    if known:
        compare_tests(extra_fit(name).joint_tests(), known)


def test_slopes_of_curves() -> None:
    known = golden("extra_means")["curved"]["trends"]
    ours = extra_fit("curved").emtrends("x", by="trt").table
    np.testing.assert_allclose(ours["trend"], known["x.trend"], rtol=1e-4)
    np.testing.assert_allclose(ours["se"], known["SE"], rtol=1e-4)


INFERENCE = ["cake", "machines_nested"]


@pytest.mark.parametrize("case", INFERENCE)
@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite", "asymptotic"])
def test_means_and_pairs_of_the_first_set(case: str, ddf: str) -> None:
    text = (cases.HERE / "golden" / f"{case}.inference.json").read_text()
    result = fits.of_case(case)
    for block in json.loads(text)["reml"]["emmeans"]:
        means = result.emmeans(block["specs"], ddf="normal" if ddf == "asymptotic" else ddf)
        agree(means.table, block[ddf]["emmeans"], "emmean")
        for name, adjust in (("unadjusted", "none"), ("tukey", "tukey")):
            ours = means.contrasts("pairwise", adjust=adjust).table
            agree(ours, block[ddf][f"pairs_{name}"], "estimate")


# The designs of make_methods.R --------------------------------------------------------------------


@functools.cache
def of_categories(name: str) -> interlace.CrossedLMEResult:
    formula = {"methods": "y ~ a + b + (1 | g)", "nested": "y ~ st / q + b + (1 | g)"}[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return interlace.fit(formula, categories(name), ddf="satterthwaite")


@pytest.mark.parametrize("known", golden("methods")["methods"], ids=lambda k: k["method"])
def test_all_names_of_contrasts_and_adjustments(known: dict[str, Any]) -> None:
    means = of_categories("methods").emmeans(known["specs"])
    ours = means.contrasts(known["method"], adjust=known["adjust"]).table
    assert ours["contrast"].tolist() == known["contrasts"]["contrast"]
    agree(ours, known["contrasts"], "estimate")


@pytest.mark.parametrize("known", golden("methods")["nested"], ids=lambda k: k["specs"])
def test_means_of_nested_factors(known: dict[str, Any]) -> None:
    means = of_categories("nested").emmeans(known["specs"])
    agree(means.table, known["means"], "emmean")
    for name in means.functions.labels:
        assert means.table[name].astype(str).tolist() == known["means"][name]
    ours = means.contrasts("pairwise", adjust="holm").table
    assert ours["contrast"].tolist() == np.atleast_1d(known["contrasts"]["contrast"]).tolist()
    agree(ours, {k: np.atleast_1d(v) for k, v in known["contrasts"].items()}, "estimate")


def test_joint_tests_of_nested_factors() -> None:
    compare_tests(of_categories("nested").joint_tests(), golden("methods")["joint"])
