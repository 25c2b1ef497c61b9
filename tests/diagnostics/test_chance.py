"""Cut-offs of influence that healthy data stay within, and what they find."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import chdtri

import interlace
from interlace.diagnostics.chance import chances, limits_of, squares_within
from interlace.diagnostics.cutoffs import cutoff_limits, nominal_cutoff

SLEEP = interlace.datasets.load("sleepstudy")


def grouped(seed: int, groups: int = 18, rows: int = 10) -> pd.DataFrame:
    """Random intercepts and slopes, as in the sleep study."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"g": np.repeat(np.arange(groups), rows), "x": np.tile(np.arange(rows), groups)}
    )
    b = rng.normal(size=(groups, 2)) * [25.0, 6.0]
    frame["y"] = 250.0 + 10.0 * frame["x"] + b[frame["g"], 0] + b[frame["g"], 1] * frame["x"]
    frame["y"] += 25.0 * rng.normal(size=len(frame))
    return frame


def unbalanced(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(40), rng.integers(2, 15, 40))
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=len(g)), "z": rng.normal(size=40)[g]})
    frame["y"] = frame["x"] + rng.normal(size=40)[g] + rng.normal(size=len(g))
    return frame


def test_equal_units_have_the_limit_of_a_chi_squared_variable() -> None:
    found = limits_of(chances(np.full((180, 1), 0.02), np.inf, 2))
    alone = chdtri(1, 1.0 - 0.95 ** (1.0 / 180.0))
    assert found["cooksd"] == pytest.approx(0.01 * alone, rel=1e-9)
    assert found["mdffits"] == pytest.approx(0.01 / 1.02 * alone, rel=1e-9)
    few = limits_of(chances(np.full((180, 1), 0.02), 20.0, 2))
    assert few["cooksd"] < found["cooksd"]
    assert chances(np.zeros((3, 1)), np.inf, 1) == chances(np.ones((3, 1)), 5.0, 0) == {}


def test_sums_of_weighted_squares() -> None:
    weights = np.array([[1.0, 0.5, 0.1], [2.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(400_000, 3)) ** 2 @ weights.T
    for limit in (2.0, 4.0, 9.0):
        found = squares_within(weights, np.full(3, np.inf))(limit)
        np.testing.assert_allclose(found, (drawn < limit).mean(axis=0), atol=8e-3)


def test_deviations_of_balanced_groups_have_the_distribution_that_is_taken() -> None:
    m, rng = 8, np.random.default_rng(2)
    x = rng.normal(size=(200_000, m))
    squares = (x[:, 0] - x.mean(axis=1)) ** 2 / x.var(axis=1, ddof=1) * m / (m - 1.0)
    for limit in (1.0, 3.0, 5.0):
        found = squares_within(np.ones((1, 1)), np.array([m - 1.0]))(limit)[0]
        assert found == pytest.approx((squares < limit).mean(), abs=4e-3)


def test_tables_carry_their_limits() -> None:
    result = interlace.fit("Reaction ~ Days + (Days | Subject)", SLEEP)
    rows = interlace.hlm_influence(result)
    kept = rows.attrs["nominal_cutoffs"]
    assert (rows["cooksd"] > kept["cooksd"]).sum() == interlace.n_influential(result) == 1
    assert interlace.n_influential(result, cutoff="internal") == 16
    assert interlace.n_influential(result, "Subject") == 0
    assert interlace.hlm_augment(result).attrs == rows.attrs


def test_values_alone() -> None:
    rng = np.random.default_rng(3)
    squares = rng.normal(size=300) ** 2
    assert squares.max() < nominal_cutoff(squares, "cooksd")[1]
    assert (np.append(squares, 90.0) > nominal_cutoff(np.append(squares, 90.0), "cooksd")[1])[-1]
    low, high = nominal_cutoff(rng.normal(size=300), "dfbetas.x")
    assert low == -high and 3.0 < high < 8.0
    assert nominal_cutoff(np.ones(5), "leverage") == (-np.inf, np.inf)
    assert cutoff_limits(squares, "cooksd", "nominal", {"cooksd": 2.0}) == (-np.inf, 2.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")
@pytest.mark.parametrize("level", [1, "g"])
@pytest.mark.parametrize(
    ("made", "formula"), [(grouped, "y ~ x + (x | g)"), (unbalanced, "y ~ x + z + (1 | g)")]
)
def test_healthy_data_are_flagged_once_in_twenty(made, formula: str, level: int | str) -> None:
    found = [interlace.n_influential(interlace.fit(formula, made(s)), level) for s in range(200)]
    assert np.mean(np.array(found) > 0) < 0.09
    assert np.mean(found) < 0.12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")
def test_planted_rows_and_groups_are_found() -> None:
    rows, groups = [], []
    for seed in range(60):
        frame = grouped(seed)
        frame.loc[59, "y"] += 8.0 * 25.0
        table = interlace.hlm_influence(interlace.fit("y ~ x + (x | g)", frame))
        rows.append(table["cooksd"][59] > table.attrs["nominal_cutoffs"]["cooksd"])
        frame = grouped(seed)
        frame.loc[frame["g"] == 3, "y"] += 150.0 + 45.0 * (frame["x"] - 4.5)
        table = interlace.hlm_influence(interlace.fit("y ~ x + (x | g)", frame), "g")
        groups.append(table["cooksd"].iloc[3] > table.attrs["nominal_cutoffs"]["cooksd"])
    assert np.mean(rows) > 0.8 and np.mean(groups) > 0.8
