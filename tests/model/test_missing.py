"""Missing values by column, and the rows they cost."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import interlace
from dense import frame
from interlace import InterlaceError

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


def gaps():
    data = frame()
    data.loc[[1, 2, 3], "x"] = np.nan
    data.loc[[3, 4], "y"] = np.nan
    return data


@pytest.mark.parametrize("make", [lambda d: d, pl.from_pandas, lambda d: d.to_dict("list")])
def test_columns_and_rows(make) -> None:
    result = interlace.fit("y ~ log(x**2 + 1) + (1 | g)", make(gaps()), weights="w")
    found = result.missing()
    assert found.index.tolist() == ["y", "x", "g", "w", "any of them"]
    assert found["missing"].tolist() == [2, 3, 0, 0, 4]
    assert found["alone"].tolist() == [1, 2, 0, 0, 3]
    assert found.loc["any of them", "missing"] == result.n_dropped


def test_values_by_row_and_visits() -> None:
    data = frame()
    weights = np.where(np.arange(len(data)) == 5, np.nan, 1.0)
    found = interlace.fit("y ~ x + (1 | g)", data, weights=weights).missing()
    assert found.loc["weights=", "missing"] == 1
    teeth = interlace.datasets.load("orthodont")
    result = interlace.fit("distance ~ Sex", teeth, residual="cs(age | Subject)")
    assert set(result.missing().index) >= {"age", "Subject", "Sex"}


def test_without_the_data() -> None:
    result = interlace.fit("y ~ x + (1 | g)", frame())
    with pytest.raises(InterlaceError, match="no longer holds its data"):
        result.refit(result.design.y).missing()
