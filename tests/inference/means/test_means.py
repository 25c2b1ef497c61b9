"""What can be asked of means, how they are shown, what is refused; fits without rows."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import interlace
from reference.means.cases import data, extra

FORMULA = "y ~ trt * dose + x + z + (1 | g)"


@pytest.fixture(scope="module")
def result() -> interlace.CrossedLMEResult:
    return interlace.fit(FORMULA, extra(), ddf="satterthwaite")


# Fits without rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["equal", "proportional", "outer", "cells"])
@pytest.mark.parametrize(
    "formula", [FORMULA, "y ~ trt * dose * state + (1 | g)", "y ~ trt:x + C(z) * trt + (1 | g)"]
)
def test_sums_give_the_means_of_rows(formula: str, weights: str) -> None:
    sums = interlace.cross_products(formula, extra())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", interlace.SingularFitWarning)
        held = interlace.fit(formula, extra(), ddf="kenward-roger")
        summed = interlace.fit(formula, sums, ddf="kenward-roger")
    for verb in (
        lambda r: r.emmeans("trt", weights=weights).table,
        lambda r: r.emmeans("trt", weights=weights).contrasts().table,
        lambda r: r.joint_tests().drop(columns="note"),
    ):
        pd.testing.assert_frame_equal(verb(held), verb(summed), rtol=1e-7)


def test_sums_of_files(tmp_path) -> None:
    path = tmp_path / "rows.parquet"
    extra().assign(trt=lambda d: d["trt"].astype(str)).to_parquet(path)
    held = interlace.fit("y ~ trt * x + (1 | g)", extra())
    read = interlace.fit("y ~ trt * x + (1 | g)", str(path))
    pd.testing.assert_frame_equal(
        held.emtrends("x", by="trt").table, read.emtrends("x", by="trt").table, rtol=1e-4
    )


def test_what_sums_cannot_tell() -> None:
    formula = "y ~ trt + np.log(x + 5) + (1 | g)"
    result = interlace.fit(formula, interlace.cross_products(formula, extra()))
    with pytest.raises(interlace.InterlaceError, match=r"mean of 'x'.*at="):
        result.emmeans("trt")
    assert np.isfinite(result.emmeans("trt", at={"x": 0.0}).table["emmean"]).all()
    formula = "y ~ state + trt + dose + (1 | g)"
    plain = interlace.fit(formula, interlace.cross_products(formula, extra()))
    with pytest.raises(interlace.InterlaceError, match="weights='equal'"):
        plain.emmeans("trt", weights="cells")


@pytest.mark.parametrize(
    ("formula", "specs"),
    [
        ("y ~ state + state:county + z + (1 | g)", ["state", "county", "z | state"]),
        ("y ~ state * dose * trt + (1 | g)", ["state", "dose | trt", "state * trt"]),
        ("y ~ x + I(2 * x) + trt + (1 | g)", ["trt"]),
    ],
)
def test_sums_with_dependent_columns(formula: str, specs: list[str]) -> None:
    """What is estimable, nested or never occurs is read off the sums."""
    frame = extra().query("not (state == 'X' and dose == '2')").reset_index(drop=True)
    with pytest.warns(interlace.RankDeficiencyWarning):
        held = interlace.fit(formula, frame, weights="w", ddf="satterthwaite")
    with pytest.warns(interlace.RankDeficiencyWarning):
        sums = interlace.cross_products(formula, frame, weights="w")
        summed = interlace.fit(formula, sums, ddf="satterthwaite")
    for spec in specs:
        pd.testing.assert_frame_equal(
            held.emmeans(spec).table, summed.emmeans(spec).table, rtol=1e-6
        )
    pd.testing.assert_frame_equal(held.joint_tests(), summed.joint_tests(), rtol=1e-6)
    older = replace(sums, dependence=None, moments=None)
    with pytest.warns(interlace.RankDeficiencyWarning):
        means = interlace.fit(formula, older).emmeans("trt" if "trt" in formula else "state")
    assert means.table["emmean"].isna().all()
    assert "rows are not held" in repr(means)


def test_a_pickled_result_has_means(result) -> None:
    again = pickle.loads(pickle.dumps(result))
    pd.testing.assert_frame_equal(again.emmeans("dose").table, result.emmeans("dose").table)


# The grid -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", ["contr.sum", "contr.helmert", "contr.poly", "contr.diff"])
def test_contrasts_of_the_fit_do_not_matter(contrast: str) -> None:
    plain = interlace.fit("y ~ trt * dose + (1 | g)", extra(), ddf="kenward-roger")
    coded = interlace.fit(f"y ~ trt * C(dose, {contrast}) + (1 | g)", extra(), ddf="kenward-roger")
    for spec in ("dose", "trt", "trt | dose"):
        pd.testing.assert_frame_equal(
            plain.emmeans(spec).table, coded.emmeans(spec).table, rtol=1e-5
        )


def test_means_are_predictions_averaged(result) -> None:
    frame = extra().copy()
    grid = pd.MultiIndex.from_product(
        [["t1", "t2"], ["1", "2", "10"], [0, 1]], names=["trt", "dose", "z"]
    ).to_frame(index=False)
    grid["x"] = frame["x"].mean()
    grid["mean"] = result.predict(grid, include_re=False)
    expected = grid.groupby("trt")["mean"].mean().to_numpy()
    np.testing.assert_allclose(result.emmeans("trt").table["emmean"], expected, rtol=1e-10)


def test_numbers_in_categories_and_booleans() -> None:
    frame = extra().assign(
        year=lambda d: 2000 + d["dose"].cat.codes.astype(int), old=lambda d: d["x"] > 0
    )
    result = interlace.fit("y ~ C(year) * old + (1 | g)", frame)
    table = result.emmeans("year").table
    assert table["year"].tolist() == [2000, 2001, 2002]
    assert result.emmeans("old").table["old"].tolist() == [False, True]
    names = result.emmeans("year").contrasts().table["contrast"].tolist()
    assert names == ["year2000 - year2001", "year2000 - year2002", "year2001 - year2002"]


def test_the_offset_is_zero_and_said() -> None:
    frame = extra().assign(off=3.0 + extra()["x"])
    result = interlace.fit("y ~ trt + (1 | g)", frame, offset="off")
    shifted = interlace.fit("y ~ trt + (1 | g)", frame.assign(y=frame["y"] - frame["off"]))
    means = result.emmeans("trt")
    pd.testing.assert_frame_equal(means.table, shifted.emmeans("trt").table, rtol=1e-6)
    assert "The offset is 0." in repr(means)


def test_missing_rows_count_for_nothing() -> None:
    frame = extra().copy()
    frame.loc[frame.index[:9], "y"] = np.nan
    holes = interlace.fit(FORMULA, frame).emmeans("trt", weights="proportional").table
    without = interlace.fit(FORMULA, frame.dropna()).emmeans("trt", weights="proportional").table
    pd.testing.assert_frame_equal(holes, without)


@pytest.mark.parametrize("specs", ["dose * trt", "~dose*trt", ["dose", "trt"], "dose:trt"])
def test_ways_to_name_means(result, specs) -> None:
    table = result.emmeans(specs).table
    assert list(table.columns[:2]) == ["dose", "trt"] and len(table) == 6
    assert table["dose"].tolist()[:3] == ["1", "2", "10"]


def test_groups(result) -> None:
    one, two = result.emmeans("dose | trt"), result.emmeans("dose", by="trt")
    pd.testing.assert_frame_equal(one.table, two.table)
    contrasts = one.contrasts()
    assert list(contrasts.table.columns) == [
        "contrast", "trt", "estimate", "se", "df", "statistic", "p", "lower", "upper"
    ]  # fmt: skip
    regrouped = result.emmeans(["dose", "trt"]).contrasts(by="trt").table
    pd.testing.assert_frame_equal(contrasts.table, regrouped)


def test_overall_mean(result) -> None:
    for specs in ("1", None, []):
        table = result.emmeans(specs).table
        assert list(table.columns) == ["emmean", "se", "df", "lower", "upper"]
        assert len(table) == 1


# Contrasts ----------------------------------------------------------------------------------------


def test_contrasts_by_hand(result) -> None:
    means = result.emmeans("dose")
    table = means.contrasts({"ends": [-1, 0, 1], "middle": [-0.5, 1, -0.5]}).table
    emmean = means.table["emmean"].to_numpy()
    np.testing.assert_allclose(
        table["estimate"], [emmean[2] - emmean[0], emmean[1] - (emmean[0] + emmean[2]) / 2]
    )


@pytest.mark.parametrize("reference", ["2", "dose2", 2])
def test_control_of_choice(result, reference) -> None:
    table = result.emmeans("dose").contrasts("control", reference=reference).table
    assert table["contrast"].tolist() == ["dose1 - dose2", "dose10 - dose2"]


@pytest.mark.parametrize(
    ("ours", "theirs", "adjust"),
    [
        ("control", "trt.vs.ctrl", "dunnett"), ("polynomial", "poly", "none"),
        ("consecutive", "consec", "mvt"), ("effect", "eff", "fdr"), ("pairwise", "pairs", "tukey"),
        ("reversed", "revpairwise", "tukey"), ("last", "trt.vs.ctrlk", "dunnett"),
        ("change", "mean_chg", "mvt"), ("others", "del.eff", "fdr"),
        ("identity", "identity", "none"),
    ],
)  # fmt: skip
def test_names_of_r(result, ours: str, theirs: str, adjust: str) -> None:
    means = result.emmeans("dose")
    one, two = means.contrasts(ours), means.contrasts(theirs)
    pd.testing.assert_frame_equal(one.table, two.table)
    assert one.adjust == two.adjust == adjust


def test_tukey_is_for_pairs_alone(result) -> None:
    contrasts = result.emmeans("dose").contrasts("control", adjust="tukey")
    assert contrasts.adjust == "sidak" and "'sidak' was used" in repr(contrasts)


def test_intervals_agree_with_tests(result) -> None:
    for adjust in ("none", "tukey", "sidak", "bonferroni", "scheffe", "mvt"):
        table = result.emmeans(["dose", "trt"]).contrasts(adjust=adjust).table
        outside = (table["lower"] > 0) | (table["upper"] < 0)
        clear = (table["p"] - 0.05).abs() > 1e-3
        assert (outside[clear] == (table["p"] < 0.05)[clear]).all()


def test_factors_named_as_columns_of_tables() -> None:
    frame = interlace.datasets.load("cake").rename(columns={"recipe": "p", "replicate": "df"})
    frame["contrast"] = frame["temperature"]
    result = interlace.fit("angle ~ p * contrast + (1 | p:df)", frame)
    assert list(result.joint_tests().index) == ["p", "contrast", "p:contrast"]
    assert list(result.emmeans("contrast").table)[:2] == ["contrast", "emmean"]
    with pytest.raises(
        interlace.InterlaceError, match="have a column 'p' of their own: use another name"
    ):
        result.emmeans("contrast", by="p").contrasts()
    with pytest.raises(interlace.InterlaceError, match="have a column 'contrast' of their own"):
        result.emmeans("p", by="contrast").contrasts()


# Shown --------------------------------------------------------------------------------------------


def test_text_fits_80_columns_and_html_says_the_same() -> None:
    frame = extra().copy()
    frame["county"] = frame["county"].cat.rename_categories(
        {c: f"a county with a very long name {c}" for c in "ABCDE"}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = interlace.fit("y ~ state + state:county + trt + (1 | g)", frame)
    for shown in (
        result.emmeans("county", by="trt"),
        result.emmeans(["county", "trt"]).contrasts(),
        result.emmeans("state").contrasts(),
    ):
        assert max(map(len, repr(shown).splitlines())) <= 80
        assert shown._repr_html_().count("<tr>") == len(shown.table) + 1


def test_text(result) -> None:
    text = repr(result.emmeans("trt"))
    assert text.startswith("Estimated means of y\n\ntrt")
    for said in ("Averaged over dose and z.", "At x = ", "Satterthwaite; 95 % intervals"):
        assert said in text


def test_figures(result) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for figure in (
            result.emmeans("dose").plot(),
            result.emmeans(["dose", "trt"], by="z").plot(),
            result.emmeans("1").plot(),
            result.emmeans("dose", by="trt").contrasts().plot(),
            result.emtrends("x", by="trt").plot(),
        ):
            figure.draw()


# Refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"specs": "tr"}, "did you mean 'trt'"),
        ({"specs": "trt", "by": "trt"}, "named twice"),
        ({"specs": "a | b | c"}, "one bar"),
        ({"specs": "trt", "weights": "some"}, "'proportional'"),
        ({"specs": "trt", "at": {"trt": ["t9"]}}, "level 't9'"),
        ({"specs": "trt", "at": {"q": 1}}, "do not read"),
        ({"specs": "trt", "at": {"x": "much"}}, "numbers for 'x'"),
        ({"specs": "trt", "at": {"x": [np.nan]}}, "finite"),
        ({"specs": "trt", "at": {"x": []}}, "no value"),
        ({"specs": "trt", "at": {"x": np.zeros(400_000)}}, "give fewer values"),
        ({"specs": "trt", "type": "both"}, "'response'"),
        ({"specs": "trt", "level": 95}, "strictly between"),
        ({"specs": "trt", "ddf": "some"}, "ddf"),
    ],
)
def test_means_refused(result, options, message: str) -> None:
    with pytest.raises(interlace.InterlaceError, match=message):
        result.emmeans(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "pair"}, "contrasts must be one of"),
        ({"adjust": "some"}, "adjust must be one of"),
        ({"method": {"a": [1, 2]}}, "3 finite weights"),
        ({"method": {"a": "b"}}, "must be numbers"),
        ({"method": {}}, "empty"),
        ({"method": "control", "reference": "7"}, "none of the means"),
        ({"by": "g"}, "no column 'g'"),
        ({"by": "dose"}, "one mean in a group"),
        ({"method": {"a": [1, 0, 0]}, "interaction": True}, "by name"),
    ],
)
def test_contrasts_refused(result, options, message: str) -> None:
    with pytest.raises(interlace.InterlaceError, match=message):
        result.emmeans("dose").contrasts(**options)


def test_slopes_refused(result) -> None:
    with pytest.raises(interlace.InterlaceError, match="no number"):
        result.emtrends("trt")


def test_data_sets_of_the_references_are_whole() -> None:
    assert len(data("threeway")) == 173 and len(extra()) == 190


def test_each_factor_may_have_a_scheme_of_its_own() -> None:
    result = interlace.fit("y ~ arm * item * time + age + (1 | id)", data("threeway"))
    means = result.emmeans(["arm", "item"])
    both = means.contrasts("pairwise", interaction=["pairwise", "consecutive"], adjust="none").table
    crossed = means.contrasts("pairwise", interaction=True, adjust="none").table
    # One contrast of two levels is the other with its sign turned.
    np.testing.assert_allclose(both["estimate"], -crossed["estimate"], rtol=1e-9)
    with pytest.raises(
        interlace.InterlaceError, match="a scheme for each of arm, item: 1 are given"
    ):
        means.contrasts("pairwise", interaction=["pairwise"])
