"""Predictions, written out by hand from the coefficients and the random effects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose

import interlace
from dense import FORMULAS, frame
from fits import of_small as fitted
from interlace import InterlaceError

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def new_rows() -> pd.DataFrame:
    return frame(30, seed=8)


def by_hand(result: interlace.CrossedLMEResult, new: pd.DataFrame, *keys: str) -> np.ndarray:
    """``X beta + Z b`` of a model with the fixed effects 1 and x; unknown levels count 0."""
    total = (result.fe_params["Intercept"] + result.fe_params["x"] * new["x"]).to_numpy()
    for key in keys:
        levels = new[key.split(":")].agg(":".join, axis=1)
        effects = pd.DataFrame(result.random_effects[key]).reindex(levels).fillna(0.0)
        for name in effects.columns:
            column = 1.0 if name == "Intercept" else new[name].to_numpy()
            total = total + effects[name].to_numpy() * column
    return total


@pytest.mark.parametrize("name", [n for n in FORMULAS if "~ x" in FORMULAS[n]])
def test_new_rows(name: str) -> None:
    result, new = fitted(name), new_rows()
    assert_allclose(result.predict(new), by_hand(result, new, *result.ngroups), **EXACT)
    assert_allclose(result.predict(new, include_re=False), by_hand(result, new), **EXACT)
    for key in result.ngroups:
        expected = by_hand(result, new, key)
        assert_allclose(result.predict(new, include_re=key), expected, **EXACT)
        assert_allclose(result.predict(new, include_re=[key]), expected, **EXACT)


@pytest.mark.parametrize("name", FORMULAS)
def test_training_rows(name: str) -> None:
    result = fitted(name)
    assert_allclose(result.predict(), result.predict(frame()), **EXACT)
    for key in result.ngroups:
        ours = result.predict(include_re=key)
        assert_allclose(ours, result.predict(frame(), include_re=key), **EXACT)
    no_effects = result.predict(frame(), include_re=False)
    assert_allclose(result.predict(include_re=False), no_effects, **EXACT)
    assert_allclose(result.predict(include_re=[]), no_effects, **EXACT)


@pytest.mark.parametrize("level", ["never seen", None])
def test_an_unknown_level_contributes_nothing(level: str | None) -> None:
    result, new = fitted("crossed slopes"), new_rows()
    odd = np.arange(30) % 2 == 1
    changed = new.assign(g=new["g"].mask(odd, level))
    expected = np.where(odd, by_hand(result, new, "h"), by_hand(result, new, "g", "h"))
    assert_allclose(result.predict(changed), expected, **EXACT)


def test_an_unknown_inner_level_leaves_the_outer_one() -> None:
    result, new = fitted("nested in three levels"), new_rows().assign(c="new")
    assert_allclose(result.predict(new), by_hand(result, new, "a", "a:b"), **EXACT)


def test_a_missing_predictor_gives_nan() -> None:
    result, new = fitted("crossed slopes"), new_rows()
    fixed = result.predict(new.assign(x=new["x"].mask(new.index == 2)))
    slope = result.predict(new.assign(z=new["z"].mask(new.index == 4)))
    assert np.flatnonzero(np.isnan(fixed)).tolist() == [2]
    assert np.flatnonzero(np.isnan(slope)).tolist() == [4]
    marginal = result.predict(new.assign(z=np.nan), include_re=False)
    assert_allclose(marginal, by_hand(result, new), **EXACT)


def test_a_missing_slope_gives_nan_for_a_new_level_too() -> None:
    new = new_rows().assign(h="new", z=np.nan)
    assert np.isnan(fitted("crossed slopes").predict(new)).all()


def test_stored_encodings_are_replayed() -> None:
    """Centring uses the mean of the rows fitted, categories those that were there."""
    result = interlace.fit("y ~ center(x) + f + (1 | g)", frame())
    new = new_rows()
    assert_allclose(result.predict(new.head(3)), result.predict(new)[:3], **EXACT)
    one = new.assign(f="f2").head(1)
    expected = result.predict(one.assign(f="f0")) + result.fe_params["f[T.f2]"]
    assert_allclose(result.predict(one), expected, **EXACT)


def test_factor_slopes() -> None:
    result, new = fitted("factor slopes"), new_rows()
    effects = result.random_effects["g"]
    columns = {level: next(c for c in effects.columns if level in c) for level in set(new["f"])}
    pairs = zip(new["g"], new["f"], strict=True)
    expected = [effects.loc[g, columns[f]] for g, f in pairs]
    part = result.predict(new) - result.predict(new, include_re=False)
    assert_allclose(part, expected, **EXACT)


def test_an_offset_column_is_added() -> None:
    result, new = interlace.fit("y ~ x + (1 | g)", frame(), offset="o"), new_rows()
    assert_allclose(result.predict(new), by_hand(result, new, "g") + new["o"], **EXACT)
    assert_allclose(result.predict(), result.predict(frame()), **EXACT)


def test_an_offset_array_must_be_given_again() -> None:
    data, new = frame(), new_rows()
    result = interlace.fit("y ~ x + (1 | g)", data, offset=data["o"].to_numpy())
    with pytest.raises(InterlaceError, match="offset"):
        result.predict(new)
    shift = np.linspace(0, 1, 30)
    expected = by_hand(result, new, "g") + shift
    assert_allclose(result.predict(new, offset=shift), expected, **EXACT)


def test_dropped_columns_contribute_nothing() -> None:
    data = frame().assign(twice=lambda d: 2 * d["x"])
    with pytest.warns(interlace.RankDeficiencyWarning):
        result = interlace.fit("y ~ x + twice + (1 | g)", data)
    new = new_rows()
    expected = by_hand(result, new, "g")
    assert_allclose(result.predict(new.assign(twice=2 * new["x"])), expected, **EXACT)


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(rows: int) -> None:
    predicted = fitted("crossed slopes").predict(new_rows().head(rows))
    assert predicted.shape == (rows,)


def test_other_frames() -> None:
    result, new = fitted("crossed slopes"), new_rows()
    expected = result.predict(new)
    assert_allclose(result.predict(pl.from_pandas(new)), expected, **EXACT)
    assert_allclose(result.predict(new.to_dict(orient="list")), expected, **EXACT)
    assert_allclose(result.predict(new.iloc[::-1]), expected[::-1], **EXACT)


@pytest.mark.parametrize("names", ["a", ["g", "a"]])
def test_an_unknown_grouping_factor(names: str | list[str]) -> None:
    with pytest.raises(InterlaceError) as caught:
        fitted("crossed slopes").predict(include_re=names)
    assert str(caught.value) == (
        "include_re names 'a', which is not a grouping factor of the model: g, h"
    )


def test_predictions_do_not_change_the_result() -> None:
    result = fitted("crossed slopes")
    first = result.predict()
    first += 1.0
    assert_allclose(result.predict() + 1.0, first, **EXACT)
    assert_allclose(result.fittedvalues, result.predict(), **EXACT)
