"""Predictions for known, new and incomplete rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import interlace
import models
from interlace import CrossedLMEResult, InterlaceError

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


@pytest.fixture(scope="module")
def result() -> CrossedLMEResult:
    return interlace.fit("y ~ center(x) + f + (1 + x | g) + (1 | h)", models.data())


def test_parts_add_up(result: CrossedLMEResult) -> None:
    marginal = result.predict(include_re=False)
    parts = sum(result.predict(include_re=key) - marginal for key in ("g", "h"))
    assert_allclose(marginal + parts, result.predict())
    assert_allclose(result.predict(include_re=["g", "h"]), result.predict())
    assert_allclose(result.predict(include_re=[]), marginal)


def test_training_rows_in_any_frame(result: CrossedLMEResult) -> None:
    import polars as pl

    data = models.data()
    assert_allclose(result.predict(data), result.fittedvalues)
    assert_allclose(result.predict(pl.from_pandas(data)), result.fittedvalues)
    assert_allclose(result.predict(data.iloc[::-1]), result.fittedvalues[::-1])


def test_transforms_are_replayed_not_estimated_again(result: CrossedLMEResult) -> None:
    few = models.data().iloc[:3]
    assert_allclose(result.predict(few), result.fittedvalues[:3])


def test_new_and_missing_levels_contribute_nothing(result: CrossedLMEResult) -> None:
    few = models.data().iloc[:2].astype({"g": "object"})
    few["g"] = [99, None]
    assert_allclose(result.predict(few), result.predict(few, include_re="h"))


def test_missing_values_give_nan(result: CrossedLMEResult) -> None:
    few = models.data().iloc[:3].copy()
    few.loc[1, "x"] = np.nan
    shown = np.isnan(result.predict(few))
    assert shown.tolist() == [False, True, False]


def test_group_columns_are_not_needed_for_marginal_predictions(result: CrossedLMEResult) -> None:
    few = models.data()[["x", "f"]].iloc[:4]
    assert_allclose(result.predict(few, include_re=False), result.predict(include_re=False)[:4])
    with pytest.raises(InterlaceError, match="no column 'g'"):
        result.predict(few)


def test_wrong_use(result: CrossedLMEResult) -> None:
    with pytest.raises(InterlaceError, match="include_re names 'k', which is not a grouping"):
        result.predict(include_re=["k"])
    few = models.data().iloc[:2].assign(f="new")
    with pytest.raises(InterlaceError, match="'new'"):
        result.predict(few)


def test_offsets() -> None:
    data = models.data()
    column = interlace.fit("y ~ x", data, "g", offset="z")
    array = interlace.fit("y ~ x", data, "g", offset=data.z.to_numpy())
    assert_allclose(column.predict(data), array.fittedvalues)
    assert_allclose(array.predict(data, offset=data.z), array.fittedvalues)
    with pytest.raises(InterlaceError, match="offset"):
        array.predict(data)
