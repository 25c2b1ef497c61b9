"""The shipped data sets: names, types, level order, and the very numbers of the reference files."""

from __future__ import annotations

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal

from interlace import datasets
from interlace.errors import InterlaceError
from reference import cases

SHAPES = {
    "cake": (270, 5),
    "cbpp": (56, 4),
    "contraception": (1934, 6),
    "dyestuff": (30, 2),
    "dyestuff2": (30, 2),
    "exam": (300, 5),
    "grouseticks": (403, 7),
    "insteval": (73421, 7),
    "machines": (54, 3),
    "orthodont": (108, 4),
    "pastes": (60, 4),
    "penicillin": (144, 3),
    "sleepstudy": (180, 3),
    "verbagg": (7584, 9),
}


def test_names() -> None:
    assert datasets.names() == list(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_equals_the_reference_file(name: str) -> None:
    frame = datasets.load(name)
    assert frame.shape == SHAPES[name]
    expected = cases.load_data(name)[list(frame)]
    if name == "insteval":  # the order of students and lecturers is free: numbers, not rows, here
        for column in ("s", "d"):
            numbers = sorted(expected[column].cat.categories, key=int)
            expected[column] = expected[column].cat.set_categories(numbers)
    assert_series_equal(frame.dtypes, expected.dtypes)
    for column in frame.select_dtypes("category"):  # two types with one set of levels are equal
        assert_index_equal(frame[column].cat.categories, expected[column].cat.categories)
    assert_frame_equal(as_codes(frame), as_codes(expected))


def as_codes(frame: pd.DataFrame) -> pd.DataFrame:
    """Categorical columns as numbers, which are compared much quicker than texts."""
    factors = frame.select_dtypes("category")
    return frame.assign(**{name: factors[name].cat.codes for name in factors})


@pytest.mark.parametrize("name", SHAPES)
def test_every_level_occurs(name: str) -> None:
    frame = datasets.load(name)
    factors = frame.select_dtypes("category")
    assert len(factors.columns) >= 1
    for column in factors:
        assert set(frame[column]) == set(frame[column].cat.categories)
        assert not frame[column].cat.ordered


def test_helper_columns_of_the_tests_are_not_shipped() -> None:
    assert list(datasets.load("sleepstudy")) == ["Reaction", "Days", "Subject"]


def test_a_fresh_frame_every_time() -> None:
    first = datasets.load("dyestuff")
    first["Yield"] = 0.0
    assert (datasets.load("dyestuff")["Yield"] > 0).all()


@pytest.mark.parametrize("name", ["sleepstudie", "InstEval", "Penicilin"])
def test_unknown_name_suggests_the_nearest(name: str) -> None:
    with pytest.raises(InterlaceError, match=f"{name}.*did you mean") as caught:
        datasets.load(name)
    nearest = {"sleepstudie": "sleepstudy", "InstEval": "insteval", "Penicilin": "penicillin"}
    assert repr(nearest[name]) in str(caught.value)


def test_exam_is_the_data_of_the_tutorial() -> None:
    exam = datasets.load("exam")
    assert isinstance(exam, pd.DataFrame)
    assert exam["score"].iloc[0] == pytest.approx(62.43773663803545, abs=0)
    assert exam["student_id"].iloc[0] == "s24"


def test_every_source_is_documented() -> None:
    for name in datasets.names():
        assert f'``"{name}"``' in (datasets.load.__doc__ or "")
