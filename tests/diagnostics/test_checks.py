"""Collinearity against R, simulated residuals, and spread along fitted values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace.errors import InterlaceError
from reference.means.cases import data, golden

SLEEP = interlace.datasets.load("sleepstudy")


@pytest.mark.parametrize("case", ["sel_sleepstudy", "sel_exam", "sel_threeway", "sel_insteval"])
def test_inflation(case: str) -> None:
    known = golden(case)
    name = known["data_file"].removeprefix("data/").removesuffix(".csv")
    found = interlace.check_collinearity(interlace.fit(known["formula"], data(name)))
    theirs = known["reml"]["collinearity"]
    assert_allclose(found.loc[theirs["Term"], "vif"], theirs["VIF"], rtol=1e-5)
    assert_allclose(found.loc[theirs["Term"], "se_factor"], theirs["SE_factor"], rtol=1e-5)
    assert_allclose(found.loc[theirs["Term"], "tolerance"], theirs["Tolerance"], rtol=1e-5)
    car = known["reml"]["car_vif"]
    if "rows" in car:
        assert_allclose(found.loc[car["rows"], ["vif", "df", "gvif"]], car["values"], rtol=1e-5)
    else:
        assert_allclose(found.loc[list(car), "vif"], list(car.values()), rtol=1e-5)


def test_one_term_shares_with_nothing() -> None:
    with pytest.raises(InterlaceError, match="fewer than two"):
        interlace.check_collinearity(interlace.fit("Reaction ~ Days + (1 | Subject)", SLEEP))


def simulated(seed: int, spread: float = 0.0, heavy: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.repeat(np.arange(20), 10), "x": rng.normal(size=200)})
    noise = rng.standard_t(1.5, 200) if heavy else rng.normal(size=200)
    scale = np.exp(spread * frame["x"])
    frame["y"] = 2.0 * frame["x"] + rng.normal(size=20)[frame["g"]] + scale * noise
    return frame


def test_healthy_data_pass() -> None:
    found = [
        interlace.check_residuals(
            interlace.fit("y ~ x + (1 | g)", simulated(seed)), nsim=100, seed=seed
        ).table["p"]
        for seed in range(12)
    ]
    assert (pd.concat(found) < 0.05).mean() < 0.15


def test_heavy_tails_are_seen() -> None:
    result = interlace.fit("y ~ x + (1 | g)", simulated(1, heavy=True))
    found = interlace.check_residuals(result, nsim=200, seed=1)
    assert found.table.loc["uniformity", "p"] < 0.05
    assert list(found.table.index) == ["uniformity", "dispersion", "outliers"]
    assert "uniformity" in found.notes[0]
    again = interlace.check_residuals(result, nsim=200, seed=1)
    pd.testing.assert_frame_equal(found.table, again.table)


def test_spread_along_fitted_values() -> None:
    even = interlace.fit("y ~ x + (1 | g)", simulated(4))
    uneven = interlace.fit("y ~ x + (1 | g)", simulated(4, spread=0.8))
    assert interlace.check_heteroscedasticity(even)["p"].item() > 0.05
    assert interlace.check_heteroscedasticity(uneven)["p"].item() < 1e-4


def test_too_few_simulations() -> None:
    with pytest.raises(InterlaceError, match="from 20 on"):
        interlace.check_residuals(interlace.fit("Reaction ~ 1 + (1 | Subject)", SLEEP), nsim=5)
