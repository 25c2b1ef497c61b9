"""Figures: what they show, that each is drawn without a warning, and what they refuse."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from plotnine import ggplot
from plotnine.composition import Compose

import interlace
from interlace import plots
from interlace.errors import InterlaceError
from interlace.plots.style import wrapped

LONG = "the_department_of_applied_and_theoretical_mathematical_sciences"


@cache
def model(name: str) -> interlace.CrossedLMEResult:
    load = interlace.datasets.load
    if name == "slopes":
        return interlace.fit("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    if name == "crossed":
        return interlace.fit("diameter ~ 1 + (1 | plate) + (1 | sample)", load("penicillin"))
    if name == "machines":
        return interlace.fit("score ~ Machine + (1 | Worker)", load("machines"))
    if name == "many":
        return interlace.fit("y ~ x + (1 | g)", synthetic(12_000, 3_000))
    return interlace.fit(f"größe ~ x + (1 | {LONG})", odd_names())


def synthetic(n: int, l: int) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    g, x = np.arange(n) % l, rng.normal(size=n)
    y = x + rng.normal(size=l)[g] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "arm": rng.choice(list("abc"), n)})


def odd_names() -> pd.DataFrame:
    data = synthetic(80, 4)
    names = np.array(["Москва", "Ålesund", f"{LONG}_$1_$2", "$x_{"])
    return pd.DataFrame({"größe": data["y"], "x": data["x"], LONG: names[data["g"].astype(int)]})


def measures(n: int, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    table = pd.DataFrame(
        {"cooksd": rng.gamma(0.5, size=n), "leverage.overall": rng.uniform(size=n)}
    )
    table.loc[n // 2, "cooksd"] = 30.0
    return table.assign(covratio=rng.normal(1.0, 0.1, n), **columns)


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Any:
    yield
    pyplot.close("all")


def drawn(figure: ggplot | Compose) -> None:
    options = {"verbose": False} if isinstance(figure, ggplot) else {}
    figure.save(buffer := io.BytesIO(), format="png", dpi=40, **options)
    assert buffer.tell() > 2000


def geoms(figure: ggplot) -> list[str]:
    return [type(layer.geom).__name__.removeprefix("geom_") for layer in figure.layers]


# ------------------------------------------------------------------ each is drawn


DRAWN: dict[str, Callable[[], ggplot | Compose]] = {
    "plot slopes": lambda: plots.plot(model("slopes")),
    "plot crossed": lambda: plots.plot(model("crossed")),
    "plot many": lambda: plots.plot(model("many")),
    "plot odd names": lambda: plots.plot(model("odd")),
    "resid": lambda: plots.plot_resid(model("slopes"), standardized=True),
    "resid panels": lambda: plots.plot_resid(model("many"), ["x", "arm", "g"]),
    "resid groups": lambda: plots.plot_resid(model("odd"), LONG),
    "scale": lambda: plots.plot_scale_location(model("machines")),
    "qq": lambda: plots.plot_qq(model("slopes")),
    "qq effects": lambda: plots.plot_qq(model("slopes"), "Subject"),
    "qq many": lambda: plots.plot_qq(model("many"), "g"),
    "ranef": lambda: plots.plot_ranef(model("crossed")),
    "ranef many": lambda: plots.plot_ranef(model("many")),
    "ranef odd names": lambda: plots.plot_ranef(model("odd")),
    "shrinkage": lambda: plots.plot_shrinkage(model("odd")),
    "shrinkage slopes": lambda: plots.plot_shrinkage(model("slopes")),
    "shrinkage many": lambda: plots.plot_shrinkage(model("many")),
    "coef": lambda: plots.plot_coef({"a": model("slopes"), "b$_{$": model("machines")}),
    "influence": lambda: plots.plot_influence(measures(40)),
    "influence many": lambda: plots.plot_influence(measures(6000)),
    "influence in order": lambda: plots.plot_influence(measures(40), "covratio", against=None),
    "dots": lambda: plots.dotplot_diag(measures(40), "internal"),
    "dots many": lambda: plots.dotplot_diag(measures(2000), name="covratio"),
    "dots box": lambda: plots.dotplot_diag(measures(90), "internal", modify="boxplot"),
    "dots dots": lambda: plots.dotplot_diag(measures(90), 0.5, modify="dotplot"),
    "profile": lambda: plots.plot_profile(model("machines").profile("sigma")),
}


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_without_warnings(name: str) -> None:
    drawn(DRAWN[name]())


def test_a_singular_fit_is_drawn_and_says_which_variance_is_zero() -> None:
    with pytest.warns(interlace.SingularFitWarning):
        result = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff2"), groups="Batch")
    drawn(plots.plot(result))
    drawn(plots.plot_shrinkage(result))
    figure = plots.plot_ranef(result)
    assert figure.labels.caption == "Variance estimated as zero: Batch."
    assert (figure.data[["estimate", "lower", "upper"]] == 0.0).all(axis=None)


# ------------------------------------------------------------------ residuals


def test_residuals_against_fitted_values() -> None:
    result = model("slopes")
    figure = plots.plot_resid(result)
    np.testing.assert_array_equal(figure.data["x"], result.fittedvalues)
    np.testing.assert_array_equal(figure.data["y"], result.resid)
    assert figure.labels.x == "Fitted Reaction"
    assert figure.labels.y == "Residual of Reaction"
    assert "line" in geoms(figure)
    assert "line" not in geoms(plots.plot_resid(result, smooth=False))


def test_many_rows_are_counted() -> None:
    assert "point" in geoms(plots.plot_resid(model("slopes")))
    many = geoms(plots.plot_resid(model("many")))
    assert "bin_2d" in many
    assert "point" not in many


def test_rows_with_missing_covariates_stay_out() -> None:
    data = synthetic(60, 4).assign(z=np.where(np.arange(60) < 5, np.nan, 1.0 * np.arange(60)))
    data.loc[7, "y"] = np.nan
    result = interlace.fit("y ~ x + (1 | g)", data)
    figure = plots.plot_resid(result, "z")
    assert figure.data["x"].tolist() == [5.0, 6.0, *range(8, 60)]


def test_groups_stand_by_median_and_categories_in_their_order() -> None:
    result = model("slopes")
    figure = plots.plot_resid(result, "Subject")
    assert "boxplot" in geoms(figure)
    assert figure.data.groupby("position")["y"].median().is_monotonic_increasing
    days = interlace.datasets.load("sleepstudy").assign(odd=lambda d: d["Days"].astype(int) % 2)
    days["odd"] = days["odd"].map({0: "no", 1: "yes"})
    panel = plots.plot_resid(interlace.fit("Reaction ~ Days + (1 | Subject)", days), "odd")
    assert panel.data["position"].tolist() == [0, 1] * 90


def test_a_stored_result_still_has_its_columns() -> None:
    result = replace(model("machines"), held=None)
    assert isinstance(plots.plot_resid(result, ["Machine", "Worker"]), Compose)
    with pytest.raises(InterlaceError) as caught:
        plots.plot_resid(result, "Day")
    assert str(caught.value) == (
        "the model has no column 'Day', and a result that was stored does not hold the data; "
        "it has 'fitted', 'Intercept', 'Machine[T.B]', 'Machine[T.C]', 'Worker'"
    )


# ------------------------------------------------------------------ random effects


def test_caterpillar_is_sorted_and_has_the_intervals_asked_for() -> None:
    result = model("slopes")
    table = plots.plot_ranef(result, columns="Days", level=0.9).data
    assert table["estimate"].is_monotonic_increasing
    b, se = (d["Subject"]["Days"] for d in (result.random_effects, result.random_effects_se))
    reach = 1.6448536 * se[table["label"]].to_numpy()
    np.testing.assert_allclose(table["estimate"], b[table["label"]])
    np.testing.assert_allclose(table["upper"] - table["estimate"], reach, rtol=1e-7)
    assert (table["clear"] == ((table["lower"] > 0) | (table["upper"] < 0))).all()


def test_caterpillar_panels() -> None:
    figure = plots.plot_ranef(model("crossed"))
    assert list(figure.data["panel"].cat.categories) == ["plate", "sample"]
    alone = plots.plot_ranef(model("crossed"), "sample")
    assert alone.labels.title == "Random effects: sample"


def test_standardised_effects_have_unit_variance_in_the_model() -> None:
    result = model("crossed")
    table = plots.plot_qq(result, "plate").data
    b, se = (d["plate"].to_numpy() for d in (result.random_effects, result.random_effects_se))
    expected = b / np.sqrt(result.variance_components["plate"] - se**2)
    np.testing.assert_allclose(table["sample"], np.sort(expected))


def test_shrinkage_joins_raw_means_and_blups() -> None:
    result = interlace.fit(
        "Reaction ~ Days", interlace.datasets.load("sleepstudy"), groups="Subject"
    )
    wide = plots.plot_shrinkage(result).data.pivot(index="place", columns="kind", values="value")
    assert list(wide.columns) == ["The level alone", "Shrunk (BLUP)"]
    assert wide["The level alone"].is_monotonic_increasing
    ratio = wide["Shrunk (BLUP)"] / wide["The level alone"]
    np.testing.assert_allclose(ratio, ratio.iloc[0])
    assert 0.0 < ratio.iloc[0] < 1.0


def test_shrinkage_counts_levels_without_a_raw_estimate() -> None:
    sleep = interlace.datasets.load("sleepstudy")
    few = sleep[(sleep["Subject"] != "308") | (sleep["Days"] == 2)]
    figure = plots.plot_shrinkage(interlace.fit("Reaction ~ Days + (Days | Subject)", few))
    assert figure.labels.caption == "1 of 18 levels have too few rows for a raw estimate."
    assert len(figure.data) == 2 * 17


# ------------------------------------------------------------------ coefficients


def test_coefficients_of_two_models_side_by_side() -> None:
    one, two = model("machines"), model("slopes")
    table = plots.plot_coef({"m": one, "s": two}, level=0.9, intercept=True).data
    assert table["name"].tolist() == [*one.fe_params.index, *two.fe_params.index]
    both = table[table["name"] == "Intercept"]["place"]
    assert both.iloc[0] - both.iloc[1] == pytest.approx(0.35)
    np.testing.assert_allclose(table["lower"][:3], one.coef_table(level=0.9)["lower"])
    assert "Intercept" not in plots.plot_coef(one).data["name"].tolist()


# ------------------------------------------------------------------ influence


def test_influence_names_the_most_extreme() -> None:
    table = measures(40, unit=[f"u{i}" for i in range(40)]).set_index("unit")
    figure = plots.plot_influence(table, cutoff=10.0)
    texts = [layer.geom.data for layer in figure.layers if type(layer.geom).__name__ == "geom_text"]
    assert [name.strip() for text in texts for name in text["label"]] == ["u33", "u25", "u20"]
    assert figure.labels.x == "Leverage"
    assert figure.labels.title == "Influence: Cook's distance by unit"


def test_without_leverage_units_stand_in_their_order() -> None:
    figure = plots.plot_influence(measures(40)[["cooksd"]])
    assert figure.labels.x == "Position of the row in the table"
    assert "segment" in geoms(figure)


def test_dots_are_in_order_and_beyond_the_cutoff_in_colour() -> None:
    figure = plots.dotplot_diag(measures(40), 1.0)
    assert figure.data["value"].is_monotonic_increasing
    assert (figure.data["beyond"] == (figure.data["value"] > 1.0)).all()
    both = plots.dotplot_diag(measures(40), (0.9, 1.1), name="covratio").data
    assert (both["beyond"] == ~both["value"].between(0.9, 1.1)).all()


def test_dots_take_series_arrays_and_missing_values() -> None:
    values = pd.Series([0.1, np.nan, 0.3], index=["a", "b", "c"])
    assert plots.dotplot_diag(values).data["label"].tolist() == ["a", "c"]
    assert plots.dotplot_diag(np.array([2.0, 1.0])).data["label"].tolist() == [1, 0]


# ------------------------------------------------------------------ text, imports


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 10, "short"),
        ("one two three", 8, "one two\nthree"),
        ("machine[T.B]:operator_name", 16, "machine[T.B]:\noperator_name"),
        ("x" * 20, 8, f"{'x' * 8}\n{'x' * 8}\nxxxx"),
        ("a$b$", 10, r"a\$b\$"),
    ],
)
def test_wrapped(text: str, width: int, expected: str) -> None:
    assert wrapped(text, width) == expected


def test_wrapped_loses_nothing() -> None:
    for width in range(8, 40):
        lines = wrapped(LONG, width).split("\n")
        assert "".join(lines) == LONG
        assert max(map(len, lines)) <= width


def test_plotnine_is_imported_late() -> None:
    code = "import interlace, sys; sys.exit(bool({'plotnine', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------ bad input


def singular() -> interlace.CrossedLMEResult:
    with pytest.warns(interlace.SingularFitWarning):
        return interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff2"), groups="Batch")


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "column": (
        lambda: plots.plot_resid(model("slopes"), "days"),
        "the data has no column 'days'; did you mean 'Days'?",
    ),
    "no column": (
        lambda: plots.plot_resid(model("slopes"), []),
        "x names nothing to plot residuals against: give 'fitted' or columns",
    ),
    "group of quantiles": (
        lambda: plots.plot_qq(model("slopes"), "subject"),
        "what must be one of 'resid', 'Subject', not 'subject'",
    ),
    "zero effects": (
        lambda: plots.plot_qq(singular(), "Batch"),
        "the random effects 'Intercept' of 'Batch' are zero, as is their variance: "
        "there is nothing to compare with a normal distribution",
    ),
    "group": (
        lambda: plots.plot_ranef(model("crossed"), "plat"),
        "group must be one of 'plate', 'sample', not 'plat'",
    ),
    "random column": (
        lambda: plots.plot_ranef(model("slopes"), columns="Day"),
        "columns must be one of 'Intercept', 'Days', not 'Day'",
    ),
    "no group": (
        lambda: plots.plot_ranef(model("crossed"), []),
        "group names nothing: give some of 'plate', 'sample'",
    ),
    "level": (
        lambda: plots.plot_ranef(model("slopes"), level=95),
        "level must be strictly between 0 and 1, not 95",
    ),
    "shrinkage group": (
        lambda: plots.plot_shrinkage(model("slopes"), "Days"),
        "group must be one of 'Subject', not 'Days'",
    ),
    "no model": (lambda: plots.plot_coef([]), "plot_coef draws 1 to 7 models, not 0"),
    "intercept alone": (
        lambda: plots.plot_coef(model("crossed")),
        "the only coefficient is the intercept: draw it with intercept=True",
    ),
    "coefficient": (
        lambda: plots.plot_coef(model("slopes"), parm="days"),
        "parm must be one of 'Intercept', 'Days', not 'days'",
    ),
    "a result": (
        lambda: plots.plot_influence([1.0]),  # type: ignore[arg-type]
        "influence plots take a fitted model or a table of measures, such as "
        "hlm_influence(result), not list",
    ),
    "measure": (
        lambda: plots.plot_influence(measures(9), "cookds"),
        "the table has no column 'cookds'; did you mean 'cooksd'?",
    ),
    "nothing finite": (
        lambda: plots.dotplot_diag(pd.Series([np.nan, np.inf])),
        "column 'cooksd' has no finite value to draw",
    ),
    "cutoff": (
        lambda: plots.dotplot_diag(measures(9), "external"),
        "cutoff must be 'nominal', 'internal', '4/n', a number, or two numbers, not 'external'",
    ),
    "three cutoffs": (
        lambda: plots.dotplot_diag(measures(9), (1, 2, 3)),  # type: ignore[arg-type]
        "cutoff must be 'nominal', 'internal', '4/n', a number, or two numbers, not (1, 2, 3)",
    ),
    "modify": (
        lambda: plots.dotplot_diag(measures(9), 0.1, modify="violin"),
        "modify must be one of 'boxplot', 'dotplot', not 'violin'",
    ),
    "modify alone": (
        lambda: plots.dotplot_diag(measures(9), modify="boxplot"),
        "modify gathers what is within a cut-off: give cutoff='internal'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(InterlaceError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize("verb", ["plot", "plot_resid", "plot_scale_location", "plot_qq"])
def test_results_without_rows_are_refused(verb: str) -> None:
    result = replace(model("slopes"), design=None)  # type: ignore[arg-type]
    with pytest.raises(InterlaceError) as caught:
        getattr(plots, verb)(result)
    assert str(caught.value) == (
        f"{verb} needs the rows of the model, and this one was fitted without holding them: "
        "fit it to a frame in memory (data=)"
    )
