"""Deletions and cross-validation against fits to what is left."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace.errors import InterlaceError

SLEEP = interlace.datasets.load("sleepstudy")
FORMULA = "Reaction ~ Days + (Days | Subject)"


def fitted(**options: object) -> interlace.CrossedLMEResult:
    return interlace.fit(FORMULA, SLEEP, **options)


def test_deletions_are_fits_without_the_group() -> None:
    found = fitted().deletions("Subject")
    for subject in ("308", "335"):
        rest = interlace.fit(FORMULA, SLEEP[SLEEP["Subject"].astype(str) != subject])
        row = found.loc[subject]
        assert_allclose(row[["Intercept", "Days"]].astype(float), rest.fe_params, rtol=1e-6)
        assert_allclose(row["sigma"], rest.scale**0.5, rtol=1e-6)
        sds = np.sqrt(np.diag(rest.variance_components["Subject"]))
        names = ["sd_Intercept|Subject", "sd_Days|Subject"]
        assert_allclose(row[names].astype(float), sds, rtol=1e-5)
    assert (found["note"] == "").all()
    assert len(fitted().deletions(1)) == 180


def test_why_there_is_no_fit() -> None:
    frame = SLEEP.assign(rare=(SLEEP["Subject"].astype(str) == "308").astype(float))
    result = interlace.fit("Reaction ~ rare + (1 | Subject)", frame)
    found = result.deletions("Subject")
    assert np.isnan(found.loc["308", "rare"]) and "rank deficient" in found.loc["308", "note"]
    validated = result.cross_validate("Subject")
    assert validated.table["predicted"].isna().sum() == 10 and "308" in validated.notes
    assert "rank deficient" in repr(validated)


@pytest.mark.parametrize(
    "options", [{}, {"offset": np.arange(180.0)}, {"weights": np.linspace(0.5, 2.0, 180)}]
)
def test_groups_left_out_are_predicted_as_new_ones(options: dict[str, object]) -> None:
    found = fitted(**options).cross_validate("Subject").table
    keep = (SLEEP["Subject"].astype(str) != "308").to_numpy()
    part = {name: values[keep] for name, values in options.items()}
    rest = interlace.fit(FORMULA, SLEEP[keep], **part)
    new = {name: values[~keep] for name, values in options.items() if name == "offset"}
    expected = rest.predict(SLEEP[~keep], include_re=False, **new)
    assert_allclose(found["predicted"][~keep], expected, rtol=1e-6)


def test_rows_left_out_keep_their_groups() -> None:
    result = fitted()
    found = result.cross_validate(5, seed=1)
    assert sorted(found.table["fold"].unique()) == [1, 2, 3, 4, 5]
    out = (found.table["fold"] == 2).to_numpy()
    rest = interlace.fit(FORMULA, SLEEP[~out])
    assert_allclose(found.table["predicted"][out], rest.predict(SLEEP[out]), rtol=1e-5)
    assert found.rmse == found.scores.loc["left out", "rmse"]
    assert found.rmse > found.scores.loc["in sample", "rmse"]
    assert len(found.by_fold) == 5 and found.by_fold["n"].sum() == 180
    assert "<table" in found._repr_html_()


def test_levels_in_parts_and_single_rows() -> None:
    result = fitted()
    found = result.cross_validate("Subject", k=6, seed=2).table
    assert found.groupby("fold").size().tolist() == [30] * 6
    assert len(result.cross_validate("rows").by_fold) == 180
    crossed = interlace.fit(
        "diameter ~ 1 + (1 | plate) + (1 | sample)", interlace.datasets.load("penicillin")
    )
    by_plate = crossed.cross_validate("plate")
    assert by_plate.scores.loc["left out", "r2"] > 0.4  # samples are known


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "Subjekt"}, "grouping factor"),
        ({"by": 1}, "whole number from 2"),
        ({"by": 500}, "whole number from 2"),
        ({"by": 5, "k": 5}, "not both"),
        ({"by": "Subject", "k": 30}, "18 levels of 'Subject'"),
    ],
)
def test_what_makes_no_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InterlaceError, match=message):
        fitted().cross_validate(**arguments)  # type: ignore[arg-type]


def test_coefficients_of_levels() -> None:
    result = fitted()
    found = result.coef("Subject")
    expected = result.random_effects["Subject"] + result.fe_params
    assert_allclose(found, expected[["Intercept", "Days"]])
    assert_allclose(result.coef(), found)
    plain = interlace.fit("Reaction ~ Days + (0 + Days | Subject)", SLEEP)
    assert plain.coef("Subject")["Intercept"].nunique() == 1
    other = interlace.fit("Reaction ~ 1 + (Days | Subject)", SLEEP)
    assert_allclose(other.coef()["Days"], other.random_effects["Subject"]["Days"])
    crossed = interlace.fit(
        "diameter ~ 1 + (1 | plate) + (1 | sample)", interlace.datasets.load("penicillin")
    )
    assert crossed.coef("plate").shape == (24, 1)
    with pytest.raises(InterlaceError, match="name the grouping factor"):
        crossed.coef()
    with pytest.raises(InterlaceError, match="no grouping factor 'Plate'"):
        crossed.coef("Plate")
