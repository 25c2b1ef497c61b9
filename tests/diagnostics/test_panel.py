"""The panel of checks: healthy data pass, and every fault is found by its own check."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.diagnostics.normality import shapiro_francia
from interlace.diagnostics.panel import holm

SLEEP = interlace.datasets.load("sleepstudy")


@functools.cache
def sleep() -> interlace.CrossedLMEResult:
    return interlace.fit("Reaction ~ Days + (Days | Subject)", SLEEP)


def made(seed: int, fault: str = "") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(30), 8)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=240), "z": rng.normal(size=240)})
    b, e = rng.normal(size=30), rng.normal(size=240)
    if fault == "random effects":
        b = np.where(np.arange(30) < 26, 0.2 * b, 5.0)
    if fault == "normality":
        e = rng.standard_t(2, 240)
    if fault == "homogeneity":
        e = e * np.exp(0.5 * frame["x"].to_numpy())
    frame["y"] = frame["x"] + 0.3 * frame["z"] + b[g] + e
    if fault == "linearity":
        frame["y"] += 0.6 * frame["x"] ** 2
    if fault == "collinearity":
        frame["z"] = frame["x"] + 0.1 * frame["z"]
    if fault == "influential rows":
        frame.loc[7, ["x", "y"]] = [4.0, -9.0]
    if fault == "influential g":
        frame.loc[g == 3, "z"] += 3.0
        frame.loc[g == 3, "y"] -= 9.0
    return frame


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    return interlace.fit("y ~ x + z + (1 | g)", frame).check(nsim=200, seed=1).table


def test_healthy_data_pass() -> None:
    tables = [checked(made(seed)) for seed in range(8)]
    assert sum((table["verdict"] == "look").any() for table in tables) <= 2
    assert set(tables[0]["verdict"]) <= {"fine", "look", "-"}


@pytest.mark.parametrize(
    "fault",
    [
        "random effects", "normality", "homogeneity", "linearity", "collinearity",
        "influential rows", "influential g",
    ],
)  # fmt: skip
def test_each_fault_is_found(fault: str) -> None:
    assert checked(made(2, fault)).loc[fault, "verdict"] == "look"


def test_text_and_html() -> None:
    found = sleep().check(nsim=100)
    assert max(map(len, repr(found).splitlines())) <= 80
    assert "normality" in found._repr_html_() and "<table" in found._repr_html_()
    assert found.table.loc["collinearity", "verdict"] == "-"
    again = sleep().check(nsim=100)
    pd.testing.assert_frame_equal(found.table, again.table)


def test_generalised_models_have_checks_of_their_own() -> None:
    ticks = interlace.datasets.load("grouseticks")
    result = interlace.fit("TICKS ~ YEAR + cHEIGHT + (1 | BROOD)", ticks, family="poisson")
    table = result.check(nsim=100).table
    assert table.loc["dispersion", "verdict"] == "look"
    assert table.loc["separation", "verdict"] == "fine"
    assert "homogeneity" not in table.index
    score = interlace.check_linearity(result).loc["cHEIGHT"]
    squared = ticks.assign(h2=(ticks["cHEIGHT"] - ticks["cHEIGHT"].mean()) ** 2)
    bent = interlace.fit("TICKS ~ YEAR + cHEIGHT + h2 + (1 | BROOD)", squared, family="poisson")
    assert score["p"] == pytest.approx(bent.fe_pvalues["h2"], abs=0.35)


def test_the_score_of_a_square_is_the_test_of_the_square() -> None:
    frame = made(4)
    result = interlace.fit("y ~ x + z + (1 | g)", frame)
    found = interlace.check_linearity(result)
    frame["x2"] = (frame["x"] - frame["x"].mean()) ** 2
    bent = interlace.fit("y ~ x + z + x2 + (1 | g)", frame, ddf="satterthwaite")
    assert found.loc["x", "statistic"] == pytest.approx(bent.fe_tvalues["x2"] ** 2, rel=0.05)
    assert list(found.index) == ["x", "z"]
    binary = interlace.fit("y ~ w + (1 | g)", frame.assign(w=frame["x"] > 0))
    assert not len(interlace.check_linearity(binary))


def test_quantile_correlation() -> None:

    w, p = shapiro_francia(np.array([-3.0, -1.0, -0.5, -0.2, 0.0, 0.1, 0.3, 0.6, 0.9, 8.0]))
    assert w < 0.75 and p < 0.01
    rng = np.random.default_rng(1)
    found = np.array([shapiro_francia(rng.normal(size=40))[1] for _ in range(600)])
    assert 0.03 < (found < 0.05).mean() < 0.08
    assert abs(np.median(found) - 0.5) < 0.07


def test_holm() -> None:
    found = holm(np.array([0.01, np.nan, 0.04, 0.03]))
    np.testing.assert_allclose(found, [0.03, np.nan, 0.06, 0.06])


def test_predictions_and_random_effects() -> None:
    found = interlace.check_predictions(sleep(), nsim=100, seed=1)
    assert found.loc["mean", "observed"] == pytest.approx(SLEEP["Reaction"].mean())
    assert (found["lower"] <= found["expected"]).all()
    with pytest.raises(interlace.InterlaceError, match="from 20 on"):
        interlace.check_predictions(sleep(), nsim=3)
    effects = interlace.check_random_effects(sleep())
    assert list(effects.index) == [("Subject", "Intercept"), ("Subject", "Days")]
    assert interlace.check_influence(sleep()) == interlace.n_influential(sleep()) == 1
    assert interlace.check_singularity(sleep()).is_singular is False


@pytest.mark.slow
def test_one_healthy_set_in_twenty_has_a_fault() -> None:
    wrong = []
    for seed in range(100):
        verdict = checked(made(100 + seed))["verdict"]
        judged = [name for name in verdict.index if not name.startswith("influential")]
        wrong.append((verdict[judged] == "look").any())
    assert np.mean(wrong) < 0.12
