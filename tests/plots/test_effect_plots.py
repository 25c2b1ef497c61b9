"""Effect plots: their means, the data behind them, and the lines of groups."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import plots

SLEEP = interlace.datasets.load("sleepstudy")


@functools.cache
def sleep() -> interlace.CrossedLMEResult:
    return interlace.fit("Reaction ~ Days + (Days | Subject)", SLEEP)


@functools.cache
def ticks() -> interlace.CrossedGLMMResult:
    frame = interlace.datasets.load("grouseticks")
    return interlace.fit("TICKS ~ YEAR + cHEIGHT + (1 | BROOD)", frame, family="poisson")


def lines(figure: object) -> pd.DataFrame:
    """Data of the lines of groups."""
    (found,) = [
        layer.geom.data
        for layer in figure.layers  # type: ignore[attr-defined]
        if isinstance(layer.geom.data, pd.DataFrame) and "line" in layer.geom.data
    ]
    return found


def test_lines_of_groups_are_predictions() -> None:
    found = lines(plots.plot_predictions(sleep(), "Days", groups="Subject"))
    asked = pd.DataFrame({"Days": found["Days"], "Subject": found["level"]})
    np.testing.assert_allclose(found["mean"], sleep().predict(asked), rtol=1e-9)


def test_lines_of_groups_of_a_generalised_model_are_predictions() -> None:
    figure = plots.plot_predictions(ticks(), "cHEIGHT", by="YEAR", groups="BROOD")
    found = lines(figure)
    asked = found.rename(columns={"level": "BROOD"})[["cHEIGHT", "YEAR", "BROOD"]]
    asked["BROOD"] = asked["BROOD"].astype(interlace.datasets.load("grouseticks")["BROOD"].dtype)
    np.testing.assert_allclose(found["mean"], ticks().predict(asked), rtol=1e-8)


def test_means_of_linear_models_have_the_intervals_of_emmeans() -> None:
    figure = plots.plot_predictions(sleep(), "Days", ddf="satterthwaite", data=True)
    at = [0.0, 9.0]
    means = sleep().emmeans("Days", at={"Days": at}, ddf="satterthwaite").table
    ends = figure.data.iloc[[0, -1]]
    np.testing.assert_allclose(ends["lower"], means["lower"])
    points = [layer for layer in figure.layers if type(layer.geom).__name__ == "geom_point"]
    shown = points[0].geom.data
    np.testing.assert_allclose(shown["mean"], SLEEP["Reaction"])
    np.testing.assert_allclose(shown["Days"].astype(float), SLEEP["Days"])


def test_factors_data_and_groups_are_drawn() -> None:
    machines = interlace.datasets.load("machines")
    result = interlace.fit("score ~ Machine + (Machine | Worker)", machines)
    plots.plot_predictions(result, "Machine", data=True, groups="Worker").draw()
    nested = interlace.fit("score ~ Machine + (1 | Worker/Machine)", machines)
    found = lines(plots.plot_predictions(nested, "Machine", groups="Worker"))
    assert len(found) == 18


def test_what_is_refused() -> None:
    with pytest.raises(interlace.InterlaceError, match="integrate=True averages over the groups"):
        plots.plot_predictions(ticks(), "cHEIGHT", groups="BROOD", integrate=True)
    with pytest.raises(interlace.InterlaceError, match="groups must be"):
        plots.plot_predictions(sleep(), "Days", groups="Subjects")


def test_four_panels_stand_two_by_two() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"s": np.repeat(np.arange(12), 8), "i": np.tile(np.arange(8), 12)})
    frame["x"] = rng.normal(size=96)
    frame["y"] = rng.normal(size=12)[frame["s"]] + rng.normal(size=8)[frame["i"]]
    frame["y"] += frame["x"] * (rng.normal(size=12)[frame["s"]] + rng.normal(size=8)[frame["i"]])
    frame["y"] += rng.normal(size=96)
    figure = plots.plot_ranef(interlace.fit("y ~ x + (x | s) + (x | i)", frame))
    assert figure.facet._ncol == 2


def test_shrinkage_names_the_levels_that_are_farthest_out() -> None:
    figure = plots.plot_shrinkage(sleep(), label=2)
    texts = [layer.geom.data for layer in figure.layers if type(layer.geom).__name__ == "geom_text"]
    names = [name.strip() for text in texts for name in text["label"]]
    assert sorted(names) == ["309", "335"]


def test_groups_of_balanced_designs_are_named_in_any_case() -> None:
    figure = plots.plot_influence(sleep(), level="Subject")
    texts = [layer.geom.data for layer in figure.layers if type(layer.geom).__name__ == "geom_text"]
    assert sorted(n.strip() for text in texts for n in text["label"]) == ["309", "335", "337"]
    assert figure.labels.x == "Position of the Subject in the table"


def test_rows_are_drawn_at_an_offset_of_zero() -> None:
    """As the means are: per unit of exposure with a log link."""
    cbpp = interlace.datasets.load("cbpp")
    herds = interlace.fit(
        "incidence ~ period", cbpp, groups="herd", family="poisson", exposure="size"
    )
    figure = plots.plot_predictions(herds, "period", data=True)
    rows = figure.layers[0].geom.data
    assert np.allclose(np.sort(rows["mean"]), np.sort(cbpp["incidence"] / cbpp["size"]))
    sleep = interlace.datasets.load("sleepstudy")
    shifted = interlace.fit(
        "Reaction ~ Days + (1 | Subject)", sleep, offset=100.0 + 0.0 * sleep["Days"]
    )
    drawn = plots.plot_predictions(shifted, "Days", data=True).layers[0].geom.data
    assert np.allclose(drawn["mean"], sleep["Reaction"] - 100.0)


def test_many_levels_have_colours_and_names_that_fit() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "g": np.repeat(np.arange(30), 10),
            "kind": rng.choice([f"a rather long kind {i}" for i in range(9)], 300),
            "y": rng.normal(size=300),
            "x": rng.normal(size=300),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = interlace.fit("y ~ kind * x + (1 | g)", frame)
    plots.plot_predictions(result, "x", by="kind").draw()
    plots.plot_predictions(result, "kind").draw()
    result.emmeans(["kind", "x"], at={"x": list(range(9))}).plot().draw()
