"""Bootstrap standard errors of statistics of the response."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace import CrossedLMEResult, InterlaceError


@pytest.fixture(scope="module")
def result() -> CrossedLMEResult:
    rng = np.random.default_rng(0)
    g, h = rng.integers(25, size=400), rng.integers(20, size=400)
    y = 3 * rng.normal(size=25)[g] + 2 * rng.normal(size=20)[h] + rng.normal(size=400)
    return interlace.fit("y ~ 1", pd.DataFrame({"y": y, "g": g, "h": h}), ["g", "h"])


def test_rows_give_the_textbook_error_of_a_mean(result: CrossedLMEResult) -> None:
    ours = result.bootstrap_se("mean", 2000, "observation", seed=1)
    expected = result.design.y.std(ddof=1) / np.sqrt(400)
    assert_allclose(ours, expected, rtol=0.06)


def test_groups_give_larger_errors_and_all_factors_the_largest(result: CrossedLMEResult) -> None:
    rows = result.bootstrap_se("mean", 800, "observation", seed=1)
    groups = result.bootstrap_se("mean", 800, seed=1)
    every = result.bootstrap_se("mean", 800, group="all", seed=1)
    assert 2 * rows < groups < every


def test_seeds(result: CrossedLMEResult) -> None:
    first, again, other = (result.bootstrap_se(n_bootstrap=50, seed=s) for s in (1, 1, 2))
    assert first == again != other
    assert isinstance(first, float)


def test_groups_are_named(result: CrossedLMEResult) -> None:
    default, g, h = (result.bootstrap_se(n_bootstrap=50, group=k, seed=1) for k in (None, "g", "h"))
    assert default == g != h


def test_any_statistic(result: CrossedLMEResult) -> None:
    by_name = result.bootstrap_se("std", 50, seed=1)
    assert result.bootstrap_se(lambda y: y.std(ddof=1), 50, seed=1) == by_name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"statistic": "mode"}, "unknown statistic 'mode': choose one of median, mean, std"),
        ({"resample_level": "row"}, "resample_level must be 'group' or 'observation', not 'row'"),
        ({"group": "k"}, "unknown grouping factor 'k': choose one of g, h, or 'all'"),
        ({"n_bootstrap": 1}, "n_bootstrap must be at least 2, not 1"),
    ],
)
def test_wrong_use(result: CrossedLMEResult, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InterlaceError, match=message):
        result.bootstrap_se(**arguments)
